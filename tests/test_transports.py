"""What is asked of transports: read sizes, writing and acknowledging at once, names of hosts."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.tcp import Connection
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.transports import ReadSize, acknowledgerOf, addressOf, hostOf, lowestTransport, writerOf


class FakeReactor:
    """Knows who wants to read and write."""

    def __init__(self) -> None:
        self.writers: set[object] = set()

    def addReader(self, reader: object) -> None: ...

    def removeReader(self, reader: object) -> None: ...

    def addWriter(self, writer: object) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:
        self.writers.discard(writer)


def connectionOver(ours: socket.socket, reactor: Any = None) -> Any:
    protocol: Any = None
    fake: Any = FakeReactor()
    return Connection(ours, protocol, fake if reactor is None else reactor)


class ConnectionTestCase(SynchronousTestCase):
    """Twisted's own connection, over a socket pair that is looked at from the other end."""

    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.theirs.close)
        self.theirs.setblocking(False)
        ours.setblocking(False)
        self.reactor = FakeReactor()
        self.connection = connectionOver(ours, self.reactor)
        self.connection.connected = 1

    def received(self) -> bytes:
        try:
            return self.theirs.recv(1 << 20)
        except BlockingIOError:
            return b""


class WriterTests(ConnectionTestCase):
    def test_atOnce(self) -> None:
        """Nothing is queued and no turn of the reactor is asked for."""
        writerOf(self.connection)(b"abc")
        self.assertEqual(self.received(), b"abc")
        self.assertEqual(self.reactor.writers, set())

    def test_restIsQueued(self) -> None:
        """What the socket does not take is written later, in order, and so is what comes behind it."""
        write = writerOf(self.connection)
        first = bytes(range(256)) * 65536
        write(first)
        write(b"behind")
        self.assertEqual(self.reactor.writers, {self.connection})
        whole = bytearray()
        while self.reactor.writers:
            whole += self.received()
            self.connection.doWrite()
        whole += self.received()
        self.assertEqual(whole, first + b"behind")

    def test_behindWhatIsQueued(self) -> None:
        write = writerOf(self.connection)
        self.connection.write(b"queued")
        write(b" behind")
        self.assertEqual(self.received(), b"")
        self.connection.doWrite()
        self.assertEqual(self.received(), b"queued behind")

    def test_lost(self) -> None:
        """A connection that turns out to be lost is left to the reactor to find out."""
        self.theirs.close()
        writerOf(self.connection)(b"abc")
        self.assertEqual(self.reactor.writers, {self.connection})

    def test_otherTransports(self) -> None:
        """Over TLS, and for what is no socket, the transport's own."""
        self.connection.TLS = True
        self.assertEqual(writerOf(self.connection), self.connection.write)


class AcknowledgerTests(SynchronousTestCase):
    def test_isSet(self) -> None:
        options: list[tuple[int, int, int]] = []

        class Socket(socket.socket):
            def setsockopt(self, *option: Any) -> None:
                options.append(option)

        with Socket() as ours:
            acknowledgerOf(connectionOver(ours))()
        self.assertEqual(options, [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)])

    def test_notTCP(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            acknowledgerOf(connectionOver(ours))()

    def test_closed(self) -> None:
        with socket.socket() as ours:
            acknowledge = acknowledgerOf(connectionOver(ours))
        acknowledge()

    def test_noSocket(self) -> None:
        acknowledgerOf(Plain())()


class Plain:
    """A transport with nothing beneath it."""

    bufferSize = 0

    def write(self, data: bytes, /) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def registerProducer(self, producer: IPushProducer, streaming: bool, /) -> None: ...

    def unregisterProducer(self) -> None: ...

    def getPeer(self) -> IAddress:
        raise NotImplementedError  # not asked for here

    getHost = getPeer


class Wrapper(Plain):
    def __init__(self, transport: Plain) -> None:
        self.transport = transport


class ReadSizeTests(SynchronousTestCase):
    def test_follows(self) -> None:
        """Four times as large when filled, half as large when seven eighths stay empty; between floor and share."""
        transport = Plain()
        reading = ReadSize(transport)
        seen = [transport.bufferSize]
        for length in (65536, 262144, 524288, 300000, 65536, 65535, 32767, 300, 300, 300, 300, 300, 8192):
            reading.fit(length, 524288)
            seen.append(transport.bufferSize)
            self.assertEqual(reading.size, transport.bufferSize)
        self.assertEqual(
            seen,
            [
                65536, 262144, 524288, 524288, 524288, 524288, 262144, 131072, 65536, 32768, 16384, 8192, 8192, 32768,
            ],
        )  # fmt: skip

    def test_share(self) -> None:
        transport = Plain()
        reading = ReadSize(transport)
        reading.fit(30000, 20000)
        self.assertEqual(transport.bufferSize, 20000)
        reading.fit(10000, 100)
        self.assertEqual(transport.bufferSize, 8192)

    def test_beneathTLS(self) -> None:
        lowest = Plain()
        reading = ReadSize(Wrapper(Wrapper(lowest)))
        self.assertEqual(lowest.bufferSize, 65536)
        reading.fit(10, 524288)
        self.assertEqual(lowest.bufferSize, 524288)
        reading.fit(10, 16384)
        self.assertEqual(lowest.bufferSize, 16384)
        self.assertEqual(lowestTransport(Wrapper(Wrapper(lowest))), lowest)


class HostTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        for address, host in (
            (IPv4Address("TCP", "192.0.2.1", 104), "192.0.2.1"),
            (IPv6Address("TCP", "2001:db8::1", 104), "2001:db8::1"),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 104), "192.0.2.1"),
            (UNIXAddress(b"/run/dicom"), "local"),
        ):
            self.assertEqual(hostOf(address), host)

    def test_hostsThatAreNone(self) -> None:
        """A PROXY header may have anything in place of an address; it is for logs, too."""
        self.assertEqual(hostOf(IPv4Address("TCP", "\x1b[31m\n\xe9 x", 104)), "\\x1b[31m\\n\\xe9 x")

    def test_addresses(self) -> None:
        for address, text in (
            (IPv4Address("TCP", "192.0.2.1", 104), "192.0.2.1:104"),
            (IPv6Address("TCP", "::", 11112), "[::]:11112"),
            (UNIXAddress(b"/run/dicom"), str(UNIXAddress(b"/run/dicom"))),
        ):
            self.assertEqual(addressOf(address), text)
