"""
Who may come in beside those who are there: the limits on connections and associations, and what came of them.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from dcxtwisted.configuration import Configuration

#: What requests that are not whole may take together, in bytes: 500 of 64 KB, more than real ones have. Each may be
#: 1 MiB, and 500 of these, from one address, would be half a gigabyte.
MOST_BYTES_OF_REQUESTS: Final = 32 * 1024 * 1024

_BITS_OF_AN_INTERFACE: Final = 64
# Where each stands for an IPv4 address.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0:0/96"))

_Connection = TypeVar("_Connection")


class Admits(Protocol[_Connection]):
    """Says who may come in: L{Admission}, or what asks that of another process, which then answers later."""

    counts: Counter[str]
    limits: Configuration

    def connectionMade(self, connection: _Connection, host: str) -> _Connection | None: ...
    def requestGrew(self, connection: _Connection, size: int) -> _Connection | None: ...
    def admit(self, connection: _Connection, host: str, callingAETitle: str) -> str | Deferred[str | None] | None: ...
    def refuse(self, limit: str) -> str: ...
    def accepted(self, connection: _Connection, calledAETitle: str) -> None: ...
    def leave(self, connection: _Connection, isConnected: bool) -> None: ...
    def connectionLost(self, connection: _Connection) -> None: ...


def countedUnder(host: str) -> str:
    """
    Return what a host is counted under: its /64 where it is an IPv6 address, else itself.

    A /64 is the least that one is given (RFC 6177), and whoever has it takes any of its 2^64 addresses as he likes
    (RFC 4291 2.5.1). Not so with addresses of a link, and those that a translator of protocols makes of IPv4 addresses
    (RFC 6052 2.1, RFC 7915): these share one /64, and count one by one.

    :param host: as C{hostOf} has it; what is no address, as a PROXY header may have it, counts as it is written.
    """
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local or any(address in network for network in _TRANSLATED):
        return str(address)
    network = IPv6Address(int(address) >> _BITS_OF_AN_INTERFACE << _BITS_OF_AN_INTERFACE)
    return f"{network}/{_BITS_OF_AN_INTERFACE}"


class Admission(Generic[_Connection]):
    """
    Counts connections and associations against their limits.

    A connection is outside until its A-ASSOCIATE-RQ is read, inside from then until its association is over in every
    respect, and outside again until it is closed.

    :ivar counts: what happened since the start, by name.
    :ivar limits: can be set; whoever is in stays in.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.counts: Counter[str] = Counter()
        self.limits = configuration
        # What is counted by host, is by what C{countedUnder} makes of it.
        self._outside: dict[_Connection, str] = {}  # who came first stands first
        self._outsideOf: Counter[str] = Counter()
        self._bytesOf: Counter[_Connection] = Counter()  # what is kept of requests that are not whole
        self._bytes = 0
        self._inside: dict[_Connection, tuple[str, str]] = {}
        self._ofAddress: Counter[str] = Counter()
        self._ofAETitle: Counter[str] = Counter()

    def connectionMade(self, connection: _Connection, host: str) -> _Connection | None:
        """
        Count a connection; return one that is to be closed, where there are more outside than may be.

        That is the one that has been there longest, of the host that has most: a crowd from one host cannot keep
        others out, and a peer that sends its request at once is not caught however large the crowd is.
        """
        self.counts["connections"] += 1
        self._goOutside(connection, countedUnder(host))
        if len(self._outside) <= self.limits.maximumConnectionsBeforeAssociation:
            return None
        fullest = max(self._outsideOf, key=self._outsideOf.__getitem__)
        crowded = next(connection for connection, host in self._outside.items() if host == fullest)
        return self._closedForOthers(crowded)

    def requestGrew(self, connection: _Connection, size: int) -> _Connection | None:
        """Count what is kept of a request until the rest comes; return whose is the largest, where all are too much."""
        if connection not in self._outside:
            return None
        self._bytesOf[connection] += size
        self._bytes += size
        if self._bytes <= MOST_BYTES_OF_REQUESTS:
            return None
        return self._closedForOthers(max(self._bytesOf, key=self._bytesOf.__getitem__))

    def _closedForOthers(self, connection: _Connection) -> _Connection:
        self.counts["connections closed for others"] += 1
        # Closed in the next turn only: of two that come in this one, each is to have another closed.
        self._goFromOutside(connection)
        return connection

    def admit(self, connection: _Connection, host: str, callingAETitle: str) -> str | None:
        """Take a connection inside and return None, or return the limit that is reached, as C{refuse} does."""
        host = countedUnder(host)
        reached = self._reached(host, callingAETitle)
        if reached is not None:
            return self.refuse(reached)
        self._goFromOutside(connection)
        self._inside[connection] = host, callingAETitle
        self._ofAddress[host] += 1
        self._ofAETitle[callingAETitle] += 1
        return None

    def _reached(self, host: str, callingAETitle: str) -> str | None:
        limits = self.limits
        titles = limits.maximumAssociationsPerAETitle
        if len(self._inside) >= limits.maximumAssociations:
            return "maximumAssociations"
        if self._ofAddress[host] >= limits.maximumAssociationsPerAddress:
            return "maximumAssociationsPerAddress"
        if titles is not None and self._ofAETitle[callingAETitle] >= titles:
            return "maximumAssociationsPerAETitle"
        return None

    def refuse(self, limit: str) -> str:
        """Count an association that is too much, by a setting's name; return that with its value, for the log."""
        self.counts["associations over a limit"] += 1
        return f"{limit} = {getattr(self.limits, limit)}"

    def accepted(self, connection: _Connection, calledAETitle: str) -> None:
        """Count an association that is up."""
        self.counts["associations accepted"] += 1

    def leave(self, connection: _Connection, isConnected: bool) -> None:
        """Whatever a connection was admitted for is over; nothing happens where it was not admitted."""
        admitted = self._inside.pop(connection, None)
        if admitted is not None:
            host, callingAETitle = admitted
            _countDown(self._ofAddress, host)
            _countDown(self._ofAETitle, callingAETitle)
            if isConnected:
                self._goOutside(connection, host)

    def connectionLost(self, connection: _Connection) -> None:
        """A connection is closed; what it was admitted for may go on without it, until C{leave}."""
        self._goFromOutside(connection)

    def _goOutside(self, connection: _Connection, host: str) -> None:
        self._outside[connection] = host
        self._outsideOf[host] += 1

    def _goFromOutside(self, connection: _Connection) -> None:
        host = self._outside.pop(connection, None)
        if host is not None:
            _countDown(self._outsideOf, host)
            self._bytes -= self._bytesOf.pop(connection, 0)


def _countDown(counter: Counter[str], key: str) -> None:
    # No key stays that counts nothing: peers choose these.
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
