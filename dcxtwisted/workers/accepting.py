"""
Connections as they are accepted, of which nothing is read: what the peer has sent is left for who serves it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import tcp
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from zope.interface import implementer

from dcxtwisted.transports import hostOf, lowestTransport

_RESET: Final = struct.pack("ii", 1, 0)

#: Called with the socket, the host of the peer and the number of the port.
Arrived = Callable[[socket.socket, str, int], object]


@implementer(ITransport)
class Accepted:
    """
    Stands where a port puts a transport, and does nothing with the socket: no reactor knows of it.

    :ivar host: that of the peer.
    """

    def __init__(
        self, accepted: socket.socket, protocol: IProtocol, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        self.socket = accepted
        self.protocol = protocol
        # Of an IPv4 address nothing but the host is looked at either.
        self.host = hostOf(IPv6Address("TCP", client[0], client[1])) if isinstance(client, tuple) else "local"

    # A transport; what Twisted puts in between may ask, and is told what does no harm.

    def getPeer(self) -> IAddress:
        return IPv6Address("TCP", self.host, 0)

    def getHost(self) -> IAddress:
        return IPv6Address("TCP", "", 0)

    def write(self, data: bytes) -> None:
        """Nothing is said before it is known to whom."""

    def writeSequence(self, data: Any) -> None:
        """As C{write}."""

    def loseConnection(self) -> None:
        """It is not closed here."""


class _Passing(Protocol):
    def __init__(self, port: int, arrived: Arrived) -> None:
        self._port = port
        self._arrived = arrived

    def connectionMade(self) -> None:
        assert self.transport is not None
        accepted: Accepted = lowestTransport(self.transport)  # type: ignore[arg-type]  # whatever has a "transport"
        self._arrived(accepted.socket, accepted.host, self._port)
        # So that what was put in between, such as for the PROXY protocol, forgets it.
        accepted.protocol.connectionLost(connectionDone)


@implementer(IProtocolFactory)
class PassingFactory:
    """Passes on whatever connections a port accepts."""

    def __init__(self, port: int, arrived: Arrived) -> None:
        self._port = port
        self._arrived = arrived

    def doStart(self) -> None:
        """Twisted calls this when the port begins to use the factory."""

    def doStop(self) -> None:
        """Twisted calls this when it no longer does."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Twisted calls this for each connection."""
        return _Passing(self._port, self._arrived)


def passOn(port: IListeningPort) -> None:
    """
    Have a port leave its connections as they are; before it has accepted any.

    :raise ValueError: it is no port of the reactor's own.
    """
    if not isinstance(port, tcp.Port):
        raise ValueError(f"{port} cannot be listened on for several processes")
    port.transport = Accepted  # type: ignore[assignment]  # all that it does with it is to make it


def reset(connection: socket.socket) -> None:
    """Close a connection hard."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # closing is all that counts
    connection.close()
