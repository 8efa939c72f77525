"""
Peers, good and bad, how what they send is cut, and how what comes back is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from random import Random
from struct import unpack_from
from typing import Any, Final

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dcxtwisted.testing import MemoryConnection, RecordingEvents
from dcxtwisted.wire.commandset import decodeCommandSet, encodeCommandSet
from dcxtwisted.wire.pdu import P_DATA_TF, Abort, AssociateAC, AssociateRJ, ReleaseRP, decode
from tests.badinputs.inputs import RELEASE_RQ, RQ, echoRQ, store

_GOOD: Final = IPv4Address("TCP", "127.0.0.1", 50001)

# How the bytes of a peer are cut


@attrs.frozen
class Way:
    """A way of cutting a stream: what to call it, and the sizes of the chunks; whole where they run out."""

    name: str
    cuts: Callable[[], Iterator[int]]


def _seeded(seed: int) -> Way:
    def cuts() -> Iterator[int]:
        random = Random(seed)
        while True:
            yield int(2 ** random.uniform(0, 9))

    return Way(f"cut by seed {seed}", cuts)


WHOLE: Final = Way("whole", lambda: iter(()))
WAYS: Final = (WHOLE, Way("byte by byte", lambda: repeat(1, 65536)), *map(_seeded, range(5)))


def shortened(stream: bytes) -> str:
    """Return what may stand in a message for a stream."""
    return repr(stream) if len(stream) < 500 else f"{stream[:100]!r}... ({len(stream)} bytes)"


# What came back


@attrs.frozen
class Response:
    """A response of the listener: its context and its command set."""

    contextID: int
    elements: Mapping[int, bytes]

    def number(self, element: int) -> int:
        """Return an element as a number."""
        return int.from_bytes(self.elements[element], "little")


def _named(value: object) -> str:
    if isinstance(value, AssociateAC):
        return "AC"
    if isinstance(value, AssociateRJ):
        return f"RJ {value.result}/{value.source}/{value.reason}"
    if isinstance(value, Abort):
        return f"AB {value.source}/{value.reason}"
    assert isinstance(value, ReleaseRP), value
    return "RELEASE-RP"


def reactionsIn(stream: bytes) -> tuple[list[str], list[Response]]:
    """
    Return what a listener sent, by name, and its responses: 'AC', 'RJ 1/1/2', 'AB 2/5', 'RSP 0117', 'RELEASE-RP'.

    Each byte is accounted for: what is named so was sent as it is encoded, and responses are command sets in order.
    """
    names: list[str] = []
    responses: list[Response] = []
    collected = b""
    while stream:
        pduType, length = unpack_from(">BxL", stream)
        assert len(stream) >= 6 + length, f"{stream!r} is no whole PDU"
        body, whole, stream = stream[6 : 6 + length], stream[: 6 + length], stream[6 + length :]
        if pduType != P_DATA_TF:
            value = decode(pduType, body)
            assert value.encode() == whole, whole
            names.append(_named(value))
            continue
        length, contextID, control = unpack_from(">LBB", body)
        assert length == len(body) - 4, body
        assert control in (1, 3), body
        collected += body[6:]
        if control & 2:
            elements = decodeCommandSet(collected)
            assert encodeCommandSet(elements) == collected, collected
            assert elements[0x0800] == b"\x01\x01", elements
            responses.append(Response(contextID, elements))
            names.append(f"RSP {responses[-1].number(0x0900):04X}")
            collected = b""
    assert not collected, "half a response"
    return names, responses


class Peer(Protocol):
    """
    A peer that sends what it is told and keeps what comes, as it comes.

    :ivar lost: why the connection ended; None while it stands.
    """

    def __init__(self) -> None:
        self.lost: Failure | None = None
        self._received = bytearray()

    @property
    def stream(self) -> bytes:
        """All that came."""
        return bytes(self._received)

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember it."""
        self.lost = reason

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self.transport is not None
        self.transport.write(data)

    @property
    def accepted(self) -> AssociateAC:
        """The A-ASSOCIATE-AC, which has to be what came first."""
        pduType, length = unpack_from(">BxL", self._received)
        value = decode(pduType, self._received[6 : 6 + length])
        assert isinstance(value, AssociateAC), value
        return value


class Events(RecordingEvents):
    """Events of a bad peer; those of the good one are answered as by default and not recorded."""

    def _told(self, name: str, *args: Any) -> Any:
        association = args[3] if name == "OnConnection" else getattr(args[-1], "association", args[0])
        if association.callingHost == _GOOD.host:
            return getattr(self._base, name)(*args)
        return super()._told(name, *args)


class Canary:
    """A good peer beside a bad one, whose requests succeed whatever that one does."""

    def __init__(self, connect: Callable[[IPv4Address], tuple[Peer, MemoryConnection]]) -> None:
        self._peer, self._connection = connect(_GOOD)
        self._count = 0
        self._have(RQ, "AC")

    def _have(self, data: bytes, reaction: str) -> None:
        """Send something, and have this come back."""
        known = len(self._peer.stream)
        self._peer.send(data)
        self._connection.pump()
        came = reactionsIn(self._peer.stream[known:])[0]
        assert came == [reaction], f"the canary was answered with {came}, not {reaction}"

    @property
    def objects(self) -> list[str]:
        """The instances it has stored."""
        return [f"1.9.{count}" for count in range(self._count)]

    def echo(self) -> None:
        """Have a C-ECHO succeed."""
        self._have(echoRQ(), "RSP 0000")

    def sing(self) -> None:
        """Have a C-ECHO and a C-STORE succeed."""
        self.echo()
        self._have(store(f"1.9.{self._count}"), "RSP 0000")
        self._count += 1

    def leave(self) -> None:
        """Release, and close."""
        self._have(RELEASE_RQ, "RELEASE-RP")
        self._connection.client.loseConnection()
        self._connection.pump()
