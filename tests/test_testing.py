"""
The public test tools: a connection in memory that behaves as TCP under Twisted, the scripted peer, recording events.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dcxtwisted.configuration import Configuration
from dcxtwisted.events import DCXACCEvents
from dcxtwisted.interfaces import IN_MEMORY, IDCXACCEvents
from dcxtwisted.stores.memory import MemoryStore
from dcxtwisted.testing import (
    ListenerInMemory,
    MemoryConnection,
    RecordingEvents,
    ScriptedPeer,
    associateRQ,
)
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.messages import encodeCEchoRQ
from dcxtwisted.wire.pdu import Abort, AssociateAC, AssociateRJ, ReleaseRP
from tests.support import ARGUMENTS, ListenerTestCase, dataSet, pData, storeCommand


class Recorder(Protocol):
    """Keeps the chunks it is given and why it was lost."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None
        self.lost = reason

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Goes on when one half is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: list[str] = []

    def readConnectionLost(self) -> None:
        self.halves.append("read")

    def writeConnectionLost(self) -> None:
        self.halves.append("write")


@implementer(IPushProducer)
class Producer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class TransportTestCase(SynchronousTestCase):
    """Two protocols joined in memory."""

    def join(
        self, server: Recorder | None = None, client: Recorder | None = None, capacity: int = 100, **kwargs: Any
    ) -> None:
        self.server = Recorder() if server is None else server
        self.client = Recorder() if client is None else client
        self.connection = MemoryConnection(self.server, self.client, capacity, **kwargs)
        self.here = self.connection.server
        self.there = self.connection.client

    def pump(self) -> None:
        self.connection.pump(1000)

    def assertLost(self, protocol: Recorder, kind: type[Exception]) -> None:
        assert protocol.lost is not None
        self.assertIs(protocol.lost.type, kind)


class TransportTests(TransportTestCase):
    def test_provides(self) -> None:
        self.join()
        verifyObject(ITCPTransport, self.here)
        self.assertIs(self.server.transport, self.here)
        self.assertIs(self.client.transport, self.there)

    def test_bytesArriveBothWaysWhenPumped(self) -> None:
        self.join()
        self.there.write(b"abc")
        self.there.writeSequence([b"d", b"ef"])
        self.here.write(b"ghi")
        self.assertEqual((self.server.data, self.client.data), (b"", b""))
        self.pump()
        self.assertEqual((self.server.data, self.client.data), (b"abcdef", b"ghi"))

    def test_addresses(self) -> None:
        self.join()
        self.assertEqual(self.here.getHost(), IPv4Address("TCP", "127.0.0.1", 11112))
        self.assertEqual(self.here.getPeer(), IPv4Address("TCP", "127.0.0.1", 54321))
        self.assertEqual(self.there.getHost(), self.here.getPeer())
        self.assertEqual(self.there.getPeer(), self.here.getHost())

    def test_addressesGiven(self) -> None:
        one, other = IPv6Address("TCP", "2001:db8::1", 1), IPv6Address("TCP", "2001:db8::2", 2)
        self.join(serverAddress=one, clientAddress=other)
        self.assertEqual((self.here.getHost(), self.here.getPeer()), (one, other))
        self.assertEqual((self.there.getHost(), self.there.getPeer()), (other, one))

    def test_options(self) -> None:
        self.join()
        self.assertEqual((self.here.getTcpNoDelay(), self.here.getTcpKeepAlive()), (False, False))
        self.here.setTcpNoDelay(True)
        self.here.setTcpKeepAlive(True)
        self.assertEqual((self.here.getTcpNoDelay(), self.here.getTcpKeepAlive()), (True, True))

    def test_unreadBytesAreBounded(self) -> None:
        self.join(capacity=10)
        self.here.pauseProducing()
        self.there.write(b"0123456789abcdef")
        self.pump()
        self.assertEqual((bytes(self.here.unread), bytes(self.there.unsent)), (b"0123456789", b"abcdef"))
        self.here.resumeProducing()
        self.pump()
        self.assertEqual(self.server.chunks, [b"0123456789", b"abcdef"])
        self.assertEqual(bytes(self.there.unsent), b"")

    def test_bufferSizeBoundsAChunk(self) -> None:
        self.join()
        self.here.bufferSize = 4
        self.there.write(b"0123456789")
        self.pump()
        self.assertEqual(self.server.chunks, [b"0123", b"4567", b"89"])

    def test_cuts(self) -> None:
        """The server is given chunks of the sizes listed, then whole ones; the client is not cut."""
        self.join(cuts=[1, 3])
        self.there.write(b"0123456789")
        self.here.write(b"0123456789")
        self.pump()
        self.assertEqual(self.server.chunks, [b"0", b"123", b"456789"])
        self.assertEqual(self.client.chunks, [b"0123456789"])

    def test_pumpGivesUpOnALoop(self) -> None:
        self.join()
        self.server.dataReceived = lambda data: self.here.write(data)  # type: ignore[method-assign]  # an echo
        self.client.dataReceived = lambda data: self.there.write(data)  # type: ignore[method-assign]  # and another
        self.there.write(b"x")
        self.assertRaises(RuntimeError, self.pump)


class EndTests(TransportTestCase):
    def test_loseConnectionSendsWhatWasWritten(self) -> None:
        self.join(capacity=4)
        self.there.write(b"0123456789")
        self.there.loseConnection()
        self.there.write(b"as well")
        self.pump()
        self.assertEqual(self.server.data, b"0123456789as well")
        self.assertLost(self.server, ConnectionDone)
        self.assertLost(self.client, ConnectionDone)
        self.assertIsInstance(self.here.closed, ConnectionDone)
        self.there.loseConnection()
        self.there.write(b"dropped")
        self.assertEqual(self.there.unsent, b"")

    def test_loseConnectionWaitsForAReader(self) -> None:
        """One that does not read keeps the connection from closing, and what it sends is not read."""
        self.join(capacity=4)
        self.here.pauseProducing()
        self.there.write(b"0123456789")
        self.there.loseConnection()
        self.here.write(b"not read")
        self.pump()
        self.assertIsNone(self.client.lost)
        self.assertEqual(self.client.chunks, [])
        self.there.abortConnection()
        self.here.resumeProducing()
        self.pump()
        self.assertLost(self.client, ConnectionAborted)
        self.assertLost(self.server, ConnectionLost)

    def test_stopProducingIsLoseConnection(self) -> None:
        self.join()
        self.there.stopProducing()
        self.pump()
        self.assertLost(self.client, ConnectionDone)

    def test_abortDropsWhatIsUnsent(self) -> None:
        self.join(capacity=4)
        self.here.pauseProducing()
        self.there.write(b"0123456789")
        self.pump()
        self.there.abortConnection()
        self.there.write(b"dropped")
        self.here.resumeProducing()
        self.pump()
        self.assertLost(self.client, ConnectionAborted)
        self.assertLost(self.server, ConnectionLost)
        self.assertNotIn(b"4", self.server.data)

    def test_pausedSeesNoFIN(self) -> None:
        self.join()
        self.here.pauseProducing()
        self.there.write(b"last")
        self.there.loseConnection()
        self.pump()
        self.assertEqual((self.server.data, self.server.lost), (b"", None))
        self.here.resumeProducing()
        self.pump()
        self.assertEqual(self.server.data, b"last")
        self.assertLost(self.server, ConnectionDone)

    def test_pausedSeesNoRST(self) -> None:
        self.join()
        self.here.pauseProducing()
        self.there.abortConnection()
        self.pump()
        self.assertIsNone(self.server.lost)
        self.here.resumeProducing()
        self.pump()
        self.assertLost(self.server, ConnectionLost)

    def test_writingShowsRSTToOneThatIsPaused(self) -> None:
        self.join()
        self.here.pauseProducing()
        self.there.write(b"unread")
        self.pump()
        self.there.abortConnection()
        self.pump()
        self.here.write(b"nobody is there")
        self.pump()
        self.assertLost(self.server, ConnectionLost)
        self.assertEqual(self.server.data, b"")

    def test_unreadBytesAreAnsweredWithReset(self) -> None:
        self.join()
        self.here.pauseProducing()
        self.there.write(b"never read")
        self.pump()
        self.here.loseConnection()
        self.pump()
        self.assertLost(self.server, ConnectionDone)
        self.assertLost(self.client, ConnectionLost)

    def test_writingToOneThatIsGone(self) -> None:
        self.join()
        self.there.pauseProducing()
        self.here.loseConnection()
        self.pump()
        self.there.write(b"nobody is there")
        self.pump()
        self.assertEqual((self.there.unsent, self.client.lost), (b"", None))
        self.there.resumeProducing()
        self.pump()
        self.assertLost(self.client, ConnectionDone)
        self.there.write(b"still nobody")
        self.assertEqual(self.there.unsent, b"")

    def test_halfCloseEndsAnOrdinaryProtocol(self) -> None:
        """It is given what was sent before, then loses its connection, and so does the one that closed its half."""
        self.join()
        self.there.write(b"last")
        self.there.loseWriteConnection()
        self.pump()
        self.there.write(b"dropped")
        self.pump()
        self.assertEqual(self.server.data, b"last")
        self.assertLost(self.server, ConnectionDone)
        self.assertLost(self.client, ConnectionDone)

    def test_halfCloseLetsAHalfCloseableGoOn(self) -> None:
        server, client = HalfCloseable(), HalfCloseable()
        self.join(server, client)
        self.there.write(b"question")
        self.there.loseWriteConnection()
        self.pump()
        self.assertEqual((server.data, server.halves, server.lost), (b"question", ["read"], None))
        self.assertEqual((client.halves, client.lost), (["write"], None))
        self.here.write(b"answer")
        self.here.loseConnection()
        self.pump()
        self.assertEqual(client.data, b"answer")
        self.assertLost(server, ConnectionDone)
        self.assertEqual(client.halves, ["write", "read"])
        self.assertIsNone(client.lost)
        self.there.loseConnection()
        self.pump()
        self.assertLost(client, ConnectionDone)

    def test_halfCloseableIsResetWhenItWritesToOneThatIsGone(self) -> None:
        server = HalfCloseable()
        self.join(server)
        self.there.loseConnection()
        self.pump()
        self.assertEqual((server.halves, server.lost), (["read"], None))
        self.here.write(b"nobody is there")
        self.pump()
        self.assertLost(server, ConnectionLost)


class ProducerTests(TransportTestCase):
    def setUp(self) -> None:
        self.join(capacity=10)
        self.producer = Producer()

    def test_pausedWhileMuchIsUnsent(self) -> None:
        self.there.registerProducer(self.producer, True)
        self.there.write(b"x" * 65536)
        self.assertEqual(self.producer.told, [])
        self.there.write(b"x")
        self.there.write(b"x")
        self.assertEqual(self.producer.told, ["pause", "pause"])
        self.here.pauseProducing()
        self.pump()
        self.assertEqual(self.producer.told, ["pause", "pause"])
        self.here.resumeProducing()
        self.connection.pump(10000)
        self.assertEqual(self.producer.told, ["pause", "pause", "resume"])
        self.assertEqual(len(self.server.data), 65538)

    def test_muchIsMoreThanTheBufferSize(self) -> None:
        self.there.bufferSize = 4
        self.there.registerProducer(self.producer, True)
        self.there.write(b"1234")
        self.assertEqual(self.producer.told, [])
        self.there.write(b"5")
        self.assertEqual(self.producer.told, ["pause"])

    def test_onePausedKeepsTheConnectionOpen(self) -> None:
        """It is resumed when all is sent, and then waited for."""
        self.there.bufferSize = 4
        self.there.registerProducer(self.producer, True)
        self.there.write(b"12345")
        self.there.loseConnection()
        self.pump()
        self.assertEqual(self.producer.told, ["pause", "resume"])
        self.assertIsNone(self.client.lost)
        self.there.unregisterProducer()
        self.pump()
        self.assertLost(self.client, ConnectionDone)
        self.assertEqual((self.server.data, self.producer.told), (b"12345", ["pause", "resume"]))

    def test_oneThatIsNotPausedDoesNot(self) -> None:
        self.there.registerProducer(self.producer, True)
        self.there.write(b"12345")
        self.there.loseConnection()
        self.pump()
        self.assertLost(self.client, ConnectionDone)
        self.assertEqual((self.server.data, self.producer.told), (b"12345", ["stop"]))

    def test_unregisteredWhilePaused(self) -> None:
        self.there.bufferSize = 4
        self.there.registerProducer(self.producer, True)
        self.there.write(b"12345")
        self.there.unregisterProducer()
        self.there.loseConnection()
        self.pump()
        self.assertLost(self.client, ConnectionDone)
        self.assertEqual(self.producer.told, ["pause"])

    def test_onlyOne(self) -> None:
        self.there.registerProducer(self.producer, True)
        self.assertRaises(RuntimeError, self.there.registerProducer, Producer(), True)

    def test_noneThatIsPulled(self) -> None:
        self.assertRaises(NotImplementedError, self.there.registerProducer, self.producer, False)

    def test_stoppedAtTheEnd(self) -> None:
        self.there.registerProducer(self.producer, True)
        self.here.loseConnection()
        self.pump()
        self.assertEqual(self.producer.told, ["stop"])

    def test_stoppedAfterTheEnd(self) -> None:
        self.here.loseConnection()
        self.pump()
        self.there.registerProducer(self.producer, True)
        self.assertEqual(self.producer.told, ["stop"])


def selfSigned() -> CertificateOptions:
    """Return the options of a TLS server with a new certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "listener")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    options = PrivateCertificate.loadPEM(certificate + private).options()
    assert isinstance(options, CertificateOptions)
    return options


class TLSTests(ListenerTestCase):
    """TLS in between: the factories of both sides are wrapped, the connection is the same."""

    def setUp(self) -> None:
        super().setUp()
        self.options = selfSigned()

    def connectTLS(self, cuts: Iterable[int] = ()) -> ScriptedPeer:
        server = TLSMemoryBIOFactory(self.options, False, self.factory, self.clock).buildProtocol(None)
        clients = Factory.forProtocol(ScriptedPeer)
        wrapped = TLSMemoryBIOFactory(CertificateOptions(), True, clients, self.clock).buildProtocol(None)
        assert server is not None
        assert wrapped is not None
        self.connections.append(MemoryConnection(server, wrapped, cuts=cuts))
        self.pump()
        peer = wrapped.wrappedProtocol
        assert isinstance(peer, ScriptedPeer)
        return peer

    def pump(self) -> None:
        # Under TLS small writes wait for the next turn of the reactor.
        for _ in range(4):
            super().pump()
            self.clock.advance(0)
        super().pump()

    def test_association(self) -> None:
        peer = self.connectTLS()
        peer.associate()
        self.pump()
        self.assertIsNotNone(peer.accepted)
        whole = dataSet(size=300_000)
        peer.store(whole, "1.2.3")
        peer.echo(2)
        peer.release()
        self.pump()
        self.assertEqual((peer.statuses, peer.released), ([0, 0], True))
        self.assertEqual(bytes(self.store.sinks[0].written), whole)
        self.assertEqual(self.ends, ["released"])

    def test_nothingIsReadable(self) -> None:
        """What passes the wire is not DICOM."""
        seen = bytearray()
        peer = self.connectTLS()
        wire = self.connections[0].server
        protocol = wire.protocol
        passOn = protocol.dataReceived

        def spy(data: bytes) -> None:
            seen.extend(data)
            passOn(data)

        protocol.dataReceived = spy  # type: ignore[method-assign]  # of this one object
        peer.associate(callingAETitle="SECRET")
        self.pump()
        self.assertEqual(self.events.calls[0][1][0], "SECRET")
        self.assertGreater(len(seen), 200)
        self.assertNotIn(b"SECRET", seen)

    def test_cutAnywhere(self) -> None:
        peer = self.connectTLS(cuts=[7] * 500)
        peer.associate()
        self.pump()
        peer.store(dataSet(size=2000), "1.2.3")
        self.pump()
        self.assertEqual(peer.statuses, [0])

    def test_bufferSizeIsSetBeneath(self) -> None:
        peer = self.connectTLS()
        peer.associate()
        self.pump()
        self.assertEqual(self.connections[0].server.bufferSize, 524288)

    def test_pausedWhileASinkWaits(self) -> None:
        """The records behind a pause still arrive, are kept, and pass in order once it is over."""
        self.hold("write")
        peer = self.connectTLS()
        peer.associate()
        self.pump()
        whole = dataSet(size=100_000)
        peer.store(whole, "1.2.3")
        self.pump()
        self.assertTrue(self.connections[0].server.paused)
        sink = self.store.sinks[0]
        self.assertLess(len(sink.written), 20000)
        while "write" in sink.held:
            sink.fire("write")
            self.pump()
        self.assertEqual(bytes(sink.written), whole)
        self.assertEqual(peer.statuses, [0])
        self.assertFalse(self.connections[0].server.paused)

    def test_endWithoutCloseNotify(self) -> None:
        """A FIN inside a data set commits nothing."""
        peer = self.connectTLS()
        peer.associate()
        self.pump()
        peer.send(storeCommand("1.2.3") + pData(3, 0, dataSet()[:50]))
        self.pump()
        self.assertEqual(bytes(self.store.sinks[0].written), dataSet()[:50])
        self.connections[0].client.loseConnection()
        self.pump()
        self.assertEqual(self.names[-3:], ["sink.abort", "OnStoreDone", "OnAssocEnd"])
        self.assertEqual(self.ends, ["lost"])

    def test_endInTheChunkThatIsHeldUp(self) -> None:
        """Records behind a pause still arrive, the end among them: it is not held up with the data."""
        self.hold("write")
        peer = self.connectTLS()
        peer.associate()
        self.pump()
        peer.store(dataSet(size=40_000), "1.2.3")
        assert peer.transport is not None
        peer.transport.loseConnection()
        self.pump()
        self.assertIsNotNone(self.connections[0].server.closed)
        self.assertEqual(self.accepted[0].ended, "lost")
        self.assertEqual(self.names[-4:], ["sink.write cancelled", "sink.abort", "OnStoreDone", "OnAssocEnd"])

    def test_peerThatNeverAnswersCloseNotify(self) -> None:
        """Our close would wait for ever: it is hard once ARTIM is over."""
        peer = self.connectTLS()
        peer.associate()
        self.pump()
        self.connections[0].client.pauseProducing()
        peer.abort()
        self.pump()
        wire = self.connections[0].server
        self.assertIsNone(wire.closed)
        self.assertEqual(self.ends, ["aborted"])
        self.advance(29)
        self.assertIsNone(wire.closed)
        self.advance(1)
        self.assertIsInstance(wire.closed, ConnectionAborted)

    def test_noHandshake(self) -> None:
        """ARTIM bounds the handshake too."""
        peer = self.connect(factory=TLSMemoryBIOFactory(self.options, False, self.factory, self.clock))
        self.advance(30)
        self.assertIsNotNone(peer.lost)
        self.assertLines()

    def test_noTLS(self) -> None:
        """DICOM on a TLS port: the handshake fails."""
        peer = self.connect(factory=TLSMemoryBIOFactory(self.options, False, self.factory, self.clock))
        peer.dataReceived = lambda data: None  # type: ignore[method-assign]  # an alert is no PDU
        peer.associate()
        self.pump()
        self.assertIsNotNone(peer.lost)
        self.assertEqual(self.names, [])


class ScriptedPeerTests(ListenerTestCase):
    def test_beforeAnything(self) -> None:
        peer = self.connect()
        self.assertEqual((peer.received, peer.statuses, bytes(peer.bytesReceived)), ([], [], b""))
        self.assertEqual((peer.accepted, peer.rejected, peer.aborted, peer.released), (None, None, None, False))
        self.assertIsNone(peer.lost)

    def test_accepted(self) -> None:
        peer = self.associate()
        assert peer.accepted is not None
        self.assertEqual([context.result for context in peer.accepted.presentationContexts], [0, 0])
        self.assertEqual([type(value) for value in peer.received], [AssociateAC])
        self.assertEqual(bytes(peer.bytesReceived), peer.accepted.encode())

    def test_rejected(self) -> None:
        self.answer(OnConnection=False)
        peer = self.associate()
        self.assertEqual(peer.rejected, AssociateRJ(1, 1, 1))
        self.assertIsNone(peer.accepted)

    def test_released(self) -> None:
        peer = self.associate()
        peer.release()
        self.pump()
        self.assertTrue(peer.released)
        self.assertIsInstance(peer.received[-1], ReleaseRP)

    def test_abortedByTheListener(self) -> None:
        peer = self.associate()
        self.accepted[0].abort()
        self.pump()
        self.assertEqual(peer.aborted, Abort(0, 0))

    def test_aborts(self) -> None:
        peer = self.associate()
        peer.abort()
        self.pump()
        self.assertEqual(self.ends, ["aborted"])
        assert peer.lost is not None
        self.assertIs(peer.lost.type, ConnectionDone)

    def test_statuses(self) -> None:
        """Responses come in several fragments where the peer asked for that, and still count as one."""
        peer = self.associate(maximumLength=8)
        peer.echo(7)
        peer.store(dataSet(), "1.2.3", messageID=8)
        peer.store(dataSet("1.2.4"), "1.2.3", messageID=9)
        self.pump()
        self.assertEqual(peer.statuses, [0, 0, 0xA900])
        self.assertEqual([elements[0x0120] for elements in peer.received[1:]], [b"\7\0", b"\10\0", b"\11\0"])

    def test_collectsWhatComesInPieces(self) -> None:
        peer = ScriptedPeer()
        answer = AssociateRJ(1, 1, 7).encode() + fragment(1, True, encodeCEchoRQ(1), 0)
        for byte in answer:
            peer.dataReceived(bytes([byte]))
        self.assertEqual(peer.received[0], AssociateRJ(1, 1, 7))
        self.assertEqual(peer.received[1][0x0100], b"\x30\0")
        self.assertEqual(bytes(peer.bytesReceived), answer)

    def test_request(self) -> None:
        request = associateRQ({5: ("1.2", ["1.3", "1.4"])}, "A", "B", maximumLength=0, implementationVersionName="V")
        self.assertEqual((request.callingAETitle, request.calledAETitle), ("A", "B"))
        self.assertEqual(request.presentationContexts[0].transferSyntaxes, ("1.3", "1.4"))
        self.assertEqual(request.userInformation.maximumLength, 0)
        self.assertEqual(request.userInformation.implementationVersionName, "V")


class ListenerInMemoryTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Everything is accepted, and kept in memory."""
        listener = ListenerInMemory()
        peer, connection = listener.associate()
        peer.store(dataSet(), "1.2.3")
        connection.pump()
        self.assertEqual(peer.statuses, [0])
        assert isinstance(listener.store, MemoryStore)
        taken = listener.store.take()
        assert taken is not None
        self.assertTrue(bytes(taken).endswith(dataSet()))
        peer.release()
        connection.client.loseConnection()
        connection.pump()
        self.assertEqual(listener.clock.getDelayedCalls(), [])

    def test_optionsReachTheAcceptor(self) -> None:
        listener = ListenerInMemory(configuration=Configuration(ARTIM=5), storeDirectory="/somewhere")
        self.assertEqual(listener.acceptor.storeDirectory, "/somewhere")
        peer, connection = listener.connect()
        listener.clock.advance(5)
        connection.pump()
        assert peer.lost is not None

    def test_connectionOptions(self) -> None:
        listener = ListenerInMemory()
        address = IPv6Address("TCP", "::ffff:192.0.2.7", 40000)
        peer, connection = listener.connect(cuts=[1] * 20, capacity=16, clientAddress=address)
        self.assertEqual(connection.server.getPeer(), address)
        peer.associate()
        connection.pump()
        self.assertEqual([association.callingHost for association in listener.acceptor.associations], ["192.0.2.7"])
        peer.abort()
        connection.pump()
        self.assertEqual(listener.clock.getDelayedCalls(), [])


class RecordingEventsTests(SynchronousTestCase):
    def test_provides(self) -> None:
        verifyObject(IDCXACCEvents, RecordingEvents())
        self.assertEqual(set(ARGUMENTS), set(IDCXACCEvents))

    def test_answersAsTheBaseDoes(self) -> None:
        events, base = RecordingEvents(), DCXACCEvents()
        for name, arguments in ARGUMENTS.items():
            self.assertEqual(getattr(events, name)(*arguments), getattr(base, name)(*arguments))
        self.assertEqual(events.names, list(ARGUMENTS))
        self.assertEqual(events.calls, list(ARGUMENTS.items()))

    def test_answersWhatItWasGiven(self) -> None:
        later: Deferred[bool] = Deferred()
        for name, arguments in ARGUMENTS.items():
            for answer in (False, None, 0xB000, IN_MEMORY, later):
                self.assertIs(getattr(RecordingEvents(**{name: answer}), name)(*arguments), answer)

    def test_calls(self) -> None:
        for name, arguments in ARGUMENTS.items():
            self.assertEqual(getattr(RecordingEvents(**{name: lambda *args: args}), name)(*arguments), arguments)

    def test_raises(self) -> None:
        events = RecordingEvents(OnEcho=ValueError("no"))
        self.assertRaises(ValueError, events.OnEcho, None)
        self.assertEqual(events.names, ["OnEcho"])
