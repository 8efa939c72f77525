"""
A connection in memory that behaves as a TCP connection under Twisted does.

It obeys ``pauseProducing`` (and then, as Twisted's, tells of no FIN and no RST), bounds what one end has not read,
drops what is unsent on abort, half-closes and resets, and cuts the stream where it is told to. Nothing moves but in
``pump``, so a test decides what happens when. TLS goes in between by wrapping the factories in ``TLSMemoryBIOFactory``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

#: What the ends of a connection in memory are called.
MemoryAddress: TypeAlias = IPv4Address | IPv6Address


@implementer(ITCPTransport)
class MemoryTransport:
    """
    One end of a L{MemoryConnection}.

    :ivar bufferSize: the most that one ``dataReceived`` is given.
    :ivar unread: bytes that have arrived and were not read yet.
    :ivar paused: the protocol asked for no more data.
    :ivar closed: why the protocol lost its connection; None while it has it.
    """

    bufferSize = 65536
    disconnecting = False

    def __init__(self, host: MemoryAddress, peer: MemoryAddress, capacity: int) -> None:
        self.unread = bytearray()
        self.unsent = bytearray()
        self.paused = False
        self.closed: Exception | None = None
        self.noDelay = False
        self.keepAlive = False
        self.protocol: IProtocol
        self.other: MemoryTransport
        self.cuts: Iterator[int] = repeat(1 << 30)
        self._host = host
        self._peer = peer
        self._capacity = capacity
        self._aborting = False
        self._wroteLast = False  # nothing more is written: FIN goes behind what is unsent
        self._sentFIN = False
        self._sawFIN = False
        self._reset = False
        self._writeFailed = False
        self._sending = False  # something is to be sent, or to be done once all is sent
        self._allSent = False  # and it is closing
        self._producer: Any = None
        self._producerPaused = False

    # ITransport and friends

    def write(self, data: bytes) -> None:
        """Queue bytes; dropped when the connection, or this half of it, is gone."""
        if data and not (self._sentFIN or self.closed or self._aborting):
            self.unsent += data
            self._sending = True
            if self._producer is not None and len(self.unsent) > self.bufferSize:
                self._producerPaused = True
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """As C{write}, for all of them."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        Close when what was written has been sent.

        A producer that is paused then is resumed first, and the connection waits for it to be unregistered.
        """
        if not self.disconnecting:
            self.disconnecting = self._sending = True

    def abortConnection(self) -> None:
        """Reset: what is unsent is dropped."""
        self._aborting = True

    def loseWriteConnection(self) -> None:
        """Send FIN behind what was written, and go on reading."""
        self._wroteLast = self._sending = True

    def getPeer(self) -> MemoryAddress:
        """The address given for the other end."""
        return self._peer

    def getHost(self) -> MemoryAddress:
        """The address given for this end."""
        return self._host

    def getTcpNoDelay(self) -> bool:
        """As set."""
        return self.noDelay

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remember it."""
        self.noDelay = enabled

    def getTcpKeepAlive(self) -> bool:
        """As set."""
        return self.keepAlive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Remember it."""
        self.keepAlive = enabled

    def pauseProducing(self) -> None:
        """Deliver nothing, not even the end, until C{resumeProducing}."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Deliver again."""
        self.paused = False

    def stopProducing(self) -> None:
        """As Twisted's: lose the connection."""
        self.loseConnection()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Have a producer paused while much is unsent; only those that push are taken."""
        if not streaming:
            raise NotImplementedError("this transport pulls from no producer")
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.closed is not None:
            producer.stopProducing()
        else:
            self._producer = producer

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._producerPaused = False
        if self.disconnecting:
            self._sending = True

    # Moved by the connection

    def send(self) -> bool:
        """Move what the other end has room for; True where anything moved, or was waiting for all to be sent."""
        if self.closed is not None:
            return False
        moved = self._move()
        if self.unsent or not self._sending:
            return moved
        self._sending = False
        if self._producerPaused:
            self._producerPaused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self._allSent = True
        elif self._wroteLast and not self._sentFIN:
            self._sendFIN()
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
        return True

    def _move(self) -> bool:
        other = self.other
        if other.closed is None and not self._reset:
            room = self._capacity - len(other.unread)
            moved = self.unsent[:room]
            other.unread += moved
            del self.unsent[: len(moved)]
            return bool(moved)
        if self.unsent:
            if self._reset:
                self._writeFailed = True
            elif not (self.unread or self._sawFIN):
                # The end was seen already; what is written behind it is answered with a reset.
                self._reset = True
            self.unsent.clear()
        return False

    def _sendFIN(self) -> None:
        self._sentFIN = True
        self.other._sawFIN = True

    def happen(self) -> bool:
        """Do one thing that is due at this end; False where there is none."""
        if self.closed is not None:
            return False
        if self._aborting:
            self.unsent.clear()
            self.other._reset = True
            return self._lose(ConnectionAborted())
        if self._writeFailed or (self._reset and not (self.paused or self.disconnecting)):
            self.unread.clear()
            return self._lose(ConnectionLost())
        if self.disconnecting:
            # As Twisted's: nothing more is read.
            return self._allSent and self._lose(ConnectionDone())
        if self.paused:
            return False
        if self.unread:
            size = min(next(self.cuts, 1 << 30), self.bufferSize)
            chunk = bytes(self.unread[:size])
            del self.unread[:size]
            self.protocol.dataReceived(chunk)
            return True
        if self._sawFIN:
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self._sawFIN = False
                self.protocol.readConnectionLost()
                return True
            return self._lose(ConnectionDone())
        return False

    def _lose(self, reason: Exception) -> bool:
        self.closed = reason
        if not self._sentFIN:
            self._sendFIN()
        if self.unread:
            # The kernel answers unread bytes with a reset.
            self.other._reset = True
        if self._producer is not None:
            self._producer.stopProducing()
            self.unregisterProducer()
        self.protocol.connectionLost(Failure(reason))
        return True


class MemoryConnection:
    """
    Two protocols joined in memory.

    :param server: the protocol that accepted, not yet connected.
    :param client: the protocol that connects, likewise.
    :param capacity: the bytes each end may leave unread.
    :param cuts: sizes of the chunks the server is given, in order; whole once they run out.
    :param clock: has its calls made that are due, when nothing else is to be done.
    """

    def __init__(
        self,
        server: IProtocol,
        client: IProtocol,
        capacity: int = 262144,
        cuts: Iterable[int] = (),
        serverAddress: MemoryAddress | None = None,
        clientAddress: MemoryAddress | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        here = serverAddress or IPv4Address("TCP", "127.0.0.1", 11112)
        there = clientAddress or IPv4Address("TCP", "127.0.0.1", 54321)
        self.server = MemoryTransport(here, there, capacity)
        self.client = MemoryTransport(there, here, capacity)
        self.server.other, self.client.other = self.client, self.server
        self.server.protocol, self.client.protocol = server, client
        self.server.cuts = iter(cuts)
        server.makeConnection(self.server)
        client.makeConnection(self.client)

    def pump(self, limit: int = 10_000_000) -> None:
        """
        Let everything happen that is due, until nothing is.

        :param limit: the most that may happen; more is taken for a loop.
        :raise RuntimeError: it was more.
        """
        ends = (self.server, self.client)
        for _ in range(limit):
            if not any([end.send() for end in ends] + [end.happen() for end in ends]) and not self._tick():
                return
        raise RuntimeError(f"still something to do after {limit} rounds")

    def _tick(self) -> bool:
        """Make the calls of the clock that are due; False where there are none."""
        clock = self._clock
        if clock is None or not any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
            return False
        clock.advance(0)
        return True
