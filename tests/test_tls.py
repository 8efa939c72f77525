"""
Connections that speak TLS, or do not: what passes, what does not, and what is said of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dcxtwisted import DCXACC, Configuration, SecurityContext, SecurityError
from dcxtwisted.testing import MemoryConnection, ScriptedPeer
from dcxtwisted.tls import _Gathered
from dcxtwisted.wire.pdu import Abort, ReleaseRQ
from tests.badinputs.inputs import RQ
from tests.certificates import LOOPBACK, Files, selfSigned
from tests.interop.relay import portOf
from tests.support import dataSet, pData, storeCommand
from tests.tlspeers import TLS12, TLS13, Client, TLSListenerTestCase


def hello(version: int, record: int = 0x0300) -> bytes:
    """
    Return a ClientHello of before TLS 1.3, which offers every suite of the profiles and some others.

    :param version: 0x0300 for SSL 3, 0x0301 for TLS 1.0, ...
    """
    suites = bytes.fromhex("c02bc02cc02fc030cca8cca9 0004 0005 000a 002f 0035 009c c013 c014 00ff".replace(" ", ""))
    body = version.to_bytes(2) + bytes(range(32)) + b"\0" + len(suites).to_bytes(2) + suites + b"\1\0"
    if version > 0x0300:
        groups = bytes.fromhex("000a 0006 0004 0017 0018 000b 0002 0100".replace(" ", ""))
        signatures = bytes.fromhex("000d 0008 0006 0403 0401 0201".replace(" ", ""))
        extensions = groups + signatures
        body += len(extensions).to_bytes(2) + extensions
    handshake = b"\1" + len(body).to_bytes(3) + body
    return b"\x16" + record.to_bytes(2) + len(handshake).to_bytes(2) + handshake


#: An SSL 3 ClientHello, made here: no OpenSSL of today sends one.
SSL3_HELLO = hello(0x0300)


class Bytes(Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class HandshakeTests(TLSListenerTestCase):
    """Who does not come through."""

    def setUp(self) -> None:
        super().setUp()
        self.secure()

    def raw(self) -> Bytes:
        """Return a peer that sends bytes as they are."""
        server = self.tls.buildProtocol(IPv4Address("TCP", "127.0.0.1", 54321))
        assert server is not None
        peer = Bytes()
        self.connections.append(MemoryConnection(server, peer))
        return peer

    def send(self, data: bytes) -> Bytes:
        """Return a peer that has sent bytes, and what came of it has happened."""
        peer = self.raw()
        assert peer.transport is not None
        peer.transport.write(data)
        self.pump()
        return peer

    def counted(self) -> tuple[int, int]:
        counts = self.factory.admission.counts
        return counts["TLS handshakes"], counts["TLS handshakes failed"]

    def test_DICOM(self) -> None:
        peer = self.send(RQ)
        self.assertIsNotNone(peer.lost)
        self.assertLines("no TLS with 127.0.0.1: it speaks DICOM without TLS, on a port for TLS")
        self.assertEqual((self.counted(), self.names), ((0, 1), []))

    def test_otherProtocols(self) -> None:
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", bytes(100), b"\xff" * 100):
            peer = self.send(data)
            self.assertIsNotNone(peer.lost)
            self.assertLines("no TLS with 127.0.0.1: it does not speak TLS")

    def test_TLSOnThePlainPort(self) -> None:
        for version in (0x0301, 0x0303):
            peer = self.connect()
            peer.send(hello(0x0303, version))
            self.pump()
            self.assertEqual((peer.received[0].source, peer.received[0].reason), (0, 0))
            self.assertLines(
                "no association with 127.0.0.1: aborted here: PDU of unknown type 16: the peer speaks TLS, on a port "
                "for DICOM without it"
            )

    def test_olderVersions(self) -> None:
        """SSL 3, TLS 1.0 and 1.1, by their hellos: an alert, and nothing else."""
        for data in (SSL3_HELLO, hello(0x0300), hello(0x0301, 0x0301), hello(0x0302, 0x0301), hello(0x0302, 0x0302)):
            peer = self.send(data)
            self.assertIsNotNone(peer.lost)
            self.assertEqual((peer.received[0], peer.received[5:]), (0x15, b"\x02\x46"), "fatal, protocol_version")
            self.assertLines("no TLS with 127.0.0.1: it speaks neither TLS 1.2 nor TLS 1.3")

    def test_thisVersion(self) -> None:
        """The same hello for TLS 1.2 is answered: it is not for its form that the others are refused."""
        peer = self.send(hello(0x0303, 0x0301))
        self.assertEqual((peer.received[0], peer.received[5]), (0x16, 2))
        self.assertLines()
        self.connections[-1].client.loseConnection()
        self.pump()
        self.assertLines("no TLS with 127.0.0.1: it closed the connection")

    def test_certificateNotAccepted(self) -> None:
        """By the client; TLS 1.3 tells so only when the listener could go on."""
        for version in (TLS12, TLS13):
            self.assertRefused(
                Client(version=version, trusts=selfSigned("Other CA")),
                "it does not accept the certificate of this listener: unknown ca",
            )
        self.assertLetIn(Client(trusts=self.authority))

    def test_nothingSent(self) -> None:
        """Closed at ARTIM, without a line; as is a connection that only looks whether somebody listens."""
        peer = self.raw()
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertIsNotNone(peer.lost)
        self.raw()
        self.connections[-1].client.loseConnection()
        self.pump()
        self.assertLines()
        self.assertEqual(self.counted(), (0, 0))

    def test_tooSlow(self) -> None:
        """ARTIM bounds the whole of the handshake, however its bytes come."""
        peer = self.raw()
        assert peer.transport is not None
        for byte in hello(0x0303)[:29]:
            peer.transport.write(bytes([byte]))
            self.advance(1)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertIsInstance(self.connections[-1].server.closed, ConnectionAborted)
        self.assertLines("no TLS with 127.0.0.1: it took too long")

    def test_stopsAfterServerHello(self) -> None:
        peer = self.send(hello(0x0303))
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertIsNotNone(peer.lost)
        self.assertLines("no TLS with 127.0.0.1: it took too long")

    def test_handshakeThenNothing(self) -> None:
        """The time runs from the connection, not from the handshake."""
        peer = self.connectTLS()
        self.assertEqual(self.counted(), (1, 0))
        self.advance(30)
        self.assertIsNotNone(peer.lost)
        self.assertLines()

    def test_others(self) -> None:
        """While one does not go on, others come in."""
        self.raw()
        self.send(hello(0x0303)[:50])
        self.assertLetIn()

    def test_malformed(self) -> None:
        """Records and handshakes that are none: one line, and no traceback."""
        whole = hello(0x0303)
        for data in (
            whole[:3] + b"\xff\xff" + bytes(0x10000),
            b"\x16\x03\x03\x00\x00" * 100,
            b"\x15\x03\x03\x00\x02\x02\x28",
            whole[:5] + b"\x02" + whole[6:],
            whole[:9] + bytes(len(whole) - 9),
        ):
            peer = self.send(data)
            self.assertIsNotNone(peer.lost)
            self.assertLines("no TLS with 127.0.0.1: ")


class PassingTests(TLSListenerTestCase):
    """What is sent passes as it was sent, whatever records and chunks it comes in."""

    def setUp(self) -> None:
        super().setUp()
        self.secure()

    def test_interfaces(self) -> None:
        peer = self.associateTLS()
        gathered: Any = self.transportOfServer.wrappedProtocol
        self.assertIsInstance(gathered, _Gathered)
        verifyObject(IProtocol, gathered)
        verifyObject(IHandshakeListener, gathered)
        peer.release()

    def test_chunks(self) -> None:
        """However the records are cut."""
        for cuts in ([], [1] * 3000, [7] * 500, [5, 16389, 3, 40000]):
            whole = dataSet(size=100_000)
            peer = self.associateTLS(cuts=cuts)
            peer.store(whole, "1.2.3")
            self.pump()
            self.assertEqual(peer.statuses, [0])
            self.assertEqual(bytes(self.store.sinks[-1].written), whole)

    def chunksOf(self, send: Callable[[ScriptedPeer], object]) -> list[int]:
        """Return the lengths of what an association is given of what a peer sends, which comes in one chunk."""
        peer = self.associateTLS()
        gathered: Any = self.transportOfServer.wrappedProtocol
        protocol = gathered._protocol
        lengths: list[int] = []
        passOn = protocol.dataReceived

        def measure(data: bytes) -> None:
            lengths.append(len(data))
            passOn(data)

        protocol.dataReceived = measure
        send(peer)
        self.pump()
        return lengths

    def test_recordsTogether(self) -> None:
        """The records of one chunk are handed on at once."""
        data = storeCommand("1.2.3") + pData(3, 2, dataSet(size=200_000))
        # Read are 32768 bytes, then 131072, then the rest; of a record that is cut nothing is there yet.
        self.assertEqual(self.chunksOf(lambda peer: peer.send(data)), [16384, 131072, 52728])
        self.assertEqual(bytes(self.store.sinks[0].written), dataSet(size=200_000))

    def test_readTogether(self) -> None:
        """Almost all of what is large is read past pyOpenSSL, whose handle is still where it was."""
        read = self.tls.reader.read
        lengths: list[int] = []

        def measure(connection: SSL.Connection) -> Any:
            decrypted = read(connection)
            lengths.append(len(decrypted))
            return decrypted

        self.patch(self.tls.reader, "read", measure)
        whole = dataSet(size=600_000)
        peer = self.associateTLS()
        peer.store(whole, "1.2.3")
        self.pump()
        self.assertEqual(bytes(self.store.sinks[0].written), whole)
        self.assertGreater(sum(lengths), 500_000)

    def test_readByTwistedAlone(self) -> None:
        """Where the handle is not found, the same comes, only slower."""
        read = self.tls.reader.read
        withoutHandle: Any = object()
        self.assertEqual(len(read(withoutHandle)), 0)
        self.patch(self.tls.reader, "read", lambda connection: read(withoutHandle))
        whole = dataSet(size=600_000)
        peer = self.associateTLS()
        peer.store(whole, "1.2.3")
        self.pump()
        self.assertEqual((bytes(self.store.sinks[0].written), peer.statuses), (whole, [0]))

    def test_readSize(self) -> None:
        """What is read at once fits what comes, as without TLS: large for what fills it, small for what does not."""
        peer = self.associateTLS()
        wire = self.connections[-1].server
        peer.store(dataSet(size=1_000_000), "1.2.3")
        self.pump()
        self.assertEqual(wire.bufferSize, 262144, "all that a connection in memory holds")
        for number in range(10):
            peer.echo(number + 2)
            self.pump()
        self.assertEqual(wire.bufferSize, 8192)

    def test_endInTheSameChunk(self) -> None:
        """What stands before close_notify is taken."""

        def storeAndClose(peer: ScriptedPeer) -> None:
            peer.store(dataSet(), "1.2.3")
            assert peer.transport is not None
            peer.transport.loseConnection()

        self.chunksOf(storeAndClose)
        self.assertEqual(bytes(self.store.sinks[0].written), dataSet())
        self.assertEqual(self.names[-2:], ["sink.keep", "OnAssocEnd"])

    def test_withoutCloseNotify(self) -> None:
        """A FIN inside a data set: nothing is committed."""
        peer = self.associateTLS()
        peer.send(storeCommand("1.2.3") + pData(3, 0, dataSet()[:50]))
        self.pump()
        self.assertEqual(bytes(self.store.sinks[0].written), dataSet()[:50])
        self.connections[-1].client.loseConnection()
        self.pump()
        self.assertEqual(self.names[-3:], ["sink.abort", "OnStoreDone", "OnAssocEnd"])
        self.assertEqual((self.ends, self.events.calls[-2][1][1]), (["lost"], False))

    def test_damagedRecord(self) -> None:
        """Nothing of it is taken, nor of what comes behind."""
        peer = self.associateTLS()
        peer.send(storeCommand("1.2.3") + pData(3, 0, dataSet()[:50]))
        self.pump()
        peer.send(pData(3, 2, dataSet()[50:]))
        self.clock.advance(0)
        connection = self.connections[-1]
        connection.client.unsent[-20] ^= 1
        self.pump()
        self.assertIsNotNone(connection.server.closed)
        self.assertEqual((self.ends, bytes(self.store.sinks[0].written)), (["lost"], dataSet()[:50]))

    def test_neverAnswersCloseNotify(self) -> None:
        """Our close would wait for ever."""
        peer = self.associateTLS()
        self.connections[-1].client.pauseProducing()
        self.accepted[0].abort()
        self.pump()
        wire = self.connections[-1].server
        self.advance(29)
        self.assertIsNone(wire.closed)
        self.advance(1)
        self.assertIsInstance(wire.closed, ConnectionAborted)
        self.assertIsNone(peer.lost)

    def stopping(self, deadline: float = 20) -> list[None]:
        """Stop; the list gets its one element when the Deferred fires."""
        done: list[None] = []
        self.factory.stop(deadline).addCallback(done.append)
        self.pump()
        return done

    def assertClosedIn(self, seconds: float, done: list[None]) -> None:
        """Assert that a stop is over so much later, and not before: all was closed when what was written had left."""
        self.advance(seconds - 0.1)
        self.assertEqual((done, self.connections[-1].server.closed), ([], None))
        self.advance(0.1)
        self.assertEqual(done, [None])
        self.assertIsInstance(self.connections[-1].server.closed, ConnectionDone)

    def assertGotAll(self, peer: ScriptedPeer) -> None:
        """Assert that a peer that reads at last is told of the abort, and by TLS that this was all."""
        self.connections[-1].client.resumeProducing()
        self.pump()
        self.assertEqual(peer.received[1:], [Abort(0, 0)])
        assert peer.lost is not None
        self.assertIs(peer.lost.type, ConnectionDone)

    def test_stopWithAnswer(self) -> None:
        """A peer that answers close_notify: nothing is waited for."""
        peer = self.associateTLS()
        self.assertEqual(self.stopping(), [None])
        self.assertGotAll(peer)

    def test_stopWithoutAnswer(self) -> None:
        """One that does not: a second, and not ARTIM."""
        peer = self.associateTLS()
        self.connections[-1].client.pauseProducing()
        self.assertClosedIn(1, self.stopping())
        self.assertEqual(self.ends, ["aborted"])
        self.assertGotAll(peer)

    def test_stopWhileAnAnswerIsWaitedFor(self) -> None:
        """Of associations that ended before the stop, by a release or, with close_notify sent by then, an abort."""
        for end in (ReleaseRQ(), Abort(0, 0)):
            self.listen()
            self.secure()
            peer = self.associateTLS()
            peer.send(end.encode())
            self.clock.advance(0)
            self.connections[-1].client.pauseProducing()
            self.pump()
            self.assertEqual(len(self.ends), 1)
            self.advance(20)
            self.assertClosedIn(1, self.stopping())

    def test_stopInTheMiddle(self) -> None:
        """The second begins when what is in flight has been answered."""
        done = self.later()
        self.answer(OnStoreDone=done)
        peer = self.associateTLS()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        self.connections[-1].client.pauseProducing()
        stopped = self.stopping()
        self.advance(10)
        self.assertEqual(stopped, [])
        done.callback(True)
        self.pump()
        self.assertClosedIn(1, stopped)
        self.connections[-1].client.resumeProducing()
        self.pump()
        self.assertEqual((peer.statuses, peer.received[-1]), ([0], Abort(0, 0)))

    def test_stopWithMuchQueued(self) -> None:
        """What the peer has no room for yet leaves when it has, in ARTIM."""
        self.listen(ARTIM=10)
        self.secure()
        peer = self.associateTLS()
        wire = self.connections[-1]
        wire.client.pauseProducing()
        wire.server._capacity = len(wire.client.unread) + 1
        stopped = self.stopping()
        self.advance(9)
        self.assertEqual((stopped, wire.server.closed), ([], None))
        self.assertGotAll(peer)
        self.assertEqual(stopped, [None])
        self.assertIsInstance(wire.server.closed, ConnectionDone)

    def test_stopWithMuchThatIsNeverRead(self) -> None:
        """Hard at ARTIM, as without TLS."""
        self.listen(ARTIM=10)
        self.secure()
        self.associateTLS()
        wire = self.connections[-1]
        wire.client.pauseProducing()
        wire.server._capacity = len(wire.client.unread) + 1
        stopped = self.stopping()
        self.advance(9.9)
        self.assertEqual((stopped, wire.server.closed), ([], None))
        self.advance(0.1)
        self.assertEqual(stopped, [None])
        self.assertIsInstance(wire.server.closed, ConnectionAborted)

    def test_stops(self) -> None:
        """With those that are in the middle of the handshake, and those that are through."""
        self.associateTLS()
        server = self.tls.buildProtocol(IPv4Address("TCP", "127.0.0.1", 54321))
        assert server is not None
        self.connections.append(MemoryConnection(server, Bytes()))
        done: list[None] = []
        self.factory.stop(10).addCallback(done.append)
        self.pump()
        self.advance(10)
        self.assertEqual(done, [None])


class SocketTests(TestCase):
    """On real sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.files = Files(self.mktemp())
        self.authority = selfSigned()
        self.write("first")

    def write(self, name: str) -> None:
        """Write another certificate."""
        issued = self.authority.issue(name, names=LOOPBACK)
        self.files.write("certificate.pem", issued)
        self.files.write("key.pem", issued.key)

    def listen(self, **settings: Any) -> int:
        """Start a listener with a plain port and one for TLS; return the latter."""
        endpoint = "tcp:0:interface=127.0.0.1"
        directory = str(self.files.directory)
        self.listener = DCXACC(
            endpoint,
            storeDirectory=self.mktemp(),
            tlsEndpoints=endpoint,
            securityContext=SecurityContext(
                certificate=f"{directory}/certificate.pem", key=f"{directory}/key.pem", **settings
            ),
            configuration=Configuration(ARTIM=1),
        )
        self.listener.startService()
        self.addCleanup(self.listener.stopService)
        (port,) = self.listener.tlsPorts
        self.assertEqual(len(self.listener.ports), 2)
        return portOf(port)

    def connect(self, port: int) -> SSL.Connection:
        """Return a blocking connection, after the handshake; by a thread."""
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), socket.create_connection(("127.0.0.1", port)))
        connection.setblocking(True)
        connection.set_connect_state()
        connection.do_handshake()
        self.addCleanup(connection.close)
        return connection

    def neverAnswering(self, port: int) -> bool:
        """Abort, and never answer the close_notify that comes; return whether that ends with a reset."""
        connection = self.connect(port)
        connection.sendall(RQ)
        self.assertEqual(connection.recv(1), b"\2")
        connection.sendall(Abort(0, 0).encode())
        raw = socket.socket(fileno=os.dup(connection.fileno()))
        raw.settimeout(20)
        try:
            while raw.recv(65536):
                pass  # the alert, which nobody looks into
        except ConnectionResetError:
            return True
        finally:
            raw.close()
        return False

    def test_neverAnswersCloseNotify(self) -> Deferred[None]:
        """Closed hard at ARTIM, 1 s here, whatever the peer does not do."""
        port = self.listen()

        def over(isReset: bool) -> None:
            self.assertTrue(isReset)
            self.assertEqual(self.listener.factory.protocols, set())

        return deferToThread(self.neverAnswering, port).addCallback(over)

    def test_sideBySide(self) -> Deferred[None]:
        """A plain port and one for TLS, in one process."""
        secured = self.listen()
        (plain,) = (portOf(port) for port in self.listener.ports if port not in self.listener.tlsPorts)

        def both() -> tuple[bytes, bytes]:
            connection = self.connect(secured)
            connection.sendall(RQ)
            other = socket.create_connection(("127.0.0.1", plain))
            self.addCleanup(other.close)
            other.sendall(RQ)
            return connection.recv(1), other.recv(1)

        def over(answers: tuple[bytes, bytes]) -> None:
            self.assertEqual(answers, (b"\2", b"\2"))
            securities = [association.security for association in self.listener.associations]
            self.assertEqual(sorted(security is None for security in securities), [False, True])

        return deferToThread(both).addCallback(over)

    async def test_reload(self) -> None:
        """The next connection sees the new certificate; what stands goes on, and a broken file changes nothing."""
        port = self.listen()

        def shown() -> tuple[SSL.Connection, str]:
            connection = self.connect(port)
            certificate = connection.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            return connection, certificate.subject.rfc4514_string()

        old, name = await deferToThread(shown)
        self.assertEqual(name, "CN=first")
        self.write("second")
        (said,) = self.listener.reload()
        self.assertTrue(said.startswith("TLS certificate 'CN=second' until "), said)
        self.assertEqual((await deferToThread(shown))[1], "CN=second")
        self.files.raw("certificate.pem", b"nonsense")
        self.assertRaises(ValueError, self.listener.reload)
        self.assertEqual((await deferToThread(shown))[1], "CN=second")

        def associate() -> bytes:
            old.sendall(RQ)
            return bytes(old.recv(1))

        self.assertEqual(await deferToThread(associate), b"\2")

    def test_noCertificate(self) -> None:
        error = self.assertRaises(ValueError, DCXACC, [], tlsEndpoints=0, storeDirectory=self.mktemp())
        self.assertEqual(str(error), "TLS takes a certificate: a security context that names it")


class PullTests(TestCase):
    """Ports that are waited on: with TLS where there is a security context."""

    timeout = 60

    def setUp(self) -> None:
        files = Files(self.mktemp())
        issued = selfSigned().issue("listener", names=LOOPBACK)
        self.security = SecurityContext(
            certificate=files.write("certificate.pem", issued), key=files.write("key.pem", issued.key)
        )
        self.listener = DCXACC([], storeDirectory=self.mktemp())
        self.addCleanup(self.listener.stopService)

    async def association(self, speaksTLS: bool) -> Any:
        """Return what a wait for a connection is handed."""
        waiting = self.listener.WaitForConnection("", "tcp:0:interface=127.0.0.1")
        (port,) = self.listener.ports
        self.assertEqual(self.listener.tlsPorts, [port] if speaksTLS else [])
        raw = socket.create_connection(("127.0.0.1", portOf(port)))
        self.addCleanup(raw.close)

        def associate() -> None:
            if not speaksTLS:
                raw.sendall(RQ)
                return
            connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), raw)
            connection.set_connect_state()
            connection.do_handshake()
            connection.sendall(RQ)

        await deferToThread(associate)
        return await waiting

    async def test_SecurityContext(self) -> None:
        """Set, and not set, each time that it begins to listen."""
        self.assertIsNone(self.listener.SecurityContext)
        self.assertIsNone((await self.association(False)).security)
        self.assertRaises(RuntimeError, setattr, self.listener, "SecurityContext", self.security)
        await self.listener.StopListener()
        self.listener.SecurityContext = self.security
        self.assertIs(self.listener.SecurityContext, self.security)
        self.assertEqual((await self.association(True)).security.version, "TLSv1.3")
        self.listener.AbortActiveAssociations()
        await self.listener.StopListener()
        self.assertEqual(self.listener.tlsPorts, [])

    def test_bad(self) -> None:
        """One that cannot be used changes nothing."""
        bad = SecurityContext(certificate="none.pem")
        self.assertRaises(SecurityError, setattr, self.listener, "SecurityContext", bad)
        self.assertIsNone(self.listener.SecurityContext)


class ReloadTests(TestCase):
    """`DCXACC.reload`"""

    def test_allOrNothing(self) -> None:
        """All is prepared before any of it is used."""
        done: list[str] = []

        def preparing(name: str) -> Callable[[], Callable[[], str]]:
            def prepare() -> Callable[[], str]:
                done.append(f"prepare {name}")
                if name == bad:
                    raise ValueError(name)
                return use

            def use() -> str:
                done.append(f"use {name}")
                return name

            return prepare

        bad = ""
        listener = DCXACC([], storeDirectory=self.mktemp())
        self.assertEqual(listener.reload(), [])
        listener.addReload(preparing("a"))
        listener.addReload(preparing("b"))
        self.assertEqual(listener.reload(), ["a", "b"])
        self.assertEqual(done, ["prepare a", "prepare b", "use a", "use b"])
        done.clear()
        bad = "b"
        self.assertRaises(ValueError, listener.reload)
        self.assertEqual(done, ["prepare a", "prepare b"])
