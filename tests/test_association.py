"""
An association on a transport: how it is accepted and refused, what is judged first, and what is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy import proxyEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dcxtwisted.errors import AssociationRejected
from dcxtwisted.interfaces import IAssociation
from dcxtwisted.testing import ScriptedPeer, associateRQ
from dcxtwisted.transports import hostOf
from dcxtwisted.wire.items import EVEN_CONTEXT_ID
from dcxtwisted.wire.pdu import Abort, AssociateRJ, ReleaseRQ
from tests.support import ListenerTestCase, client, dataSet, pData

RQ = associateRQ().encode()


class AttributeTests(ListenerTestCase):
    def test_association(self) -> None:
        self.clock.advance(17)
        peer = self.connect(clientAddress=IPv4Address("TCP", "192.0.2.7", 4000))
        peer.associate(
            {1: ("1.2.840.10008.1.1", ["1.2.840.10008.1.2"]), 3: ("1.2.3.4", ["1.2.840.10008.1.2"])},
            callingAETitle="MODALITY",
            calledAETitle="ARCHIVE",
            maximumLength=32768,
            implementationClassUID="1.2.3.4.5",
            implementationVersionName="TEST_1",
        )
        self.pump()
        (association,) = self.listener.acceptor.associations
        verifyObject(IAssociation, association)
        self.assertEqual(association.callingAETitle, "MODALITY")
        self.assertEqual(association.calledAETitle, "ARCHIVE")
        self.assertEqual(association.callingHost, "192.0.2.7")
        self.assertEqual(association.peerAddress, IPv4Address("TCP", "192.0.2.7", 4000))
        self.assertEqual(association.localAddress, IPv4Address("TCP", "127.0.0.1", 11112))
        self.assertEqual(association.implementationClassUID, "1.2.3.4.5")
        self.assertEqual(association.implementationVersionName, "TEST_1")
        self.assertIsNone(association.userIdentity)
        self.assertEqual(association.maximumLengthToSend, 32768)
        self.assertEqual(association.startedAt, 17.0)
        self.assertEqual([*association.acceptedContexts], [1])
        self.assertEqual(association.acceptedContexts[1].transferSyntax, "1.2.840.10008.1.2")
        self.assertEqual(association.ended, "")
        self.assertEqual(repr(association), "<Association from 'MODALITY' at 192.0.2.7>")

    def test_toldToOnConnection(self) -> None:
        """The contexts are there already when the application is asked."""
        seen: list[Any] = []

        def onConnection(calling: str, called: str, host: str, association: IAssociation) -> bool:
            seen.extend([calling, called, host, [*association.acceptedContexts], association.maximumLengthToSend])
            return True

        self.answer(OnConnection=onConnection)
        self.associate(callingAETitle="A", calledAETitle="B")
        self.assertEqual(seen, ["A", "B", "127.0.0.1", [1, 3], 16384])

    def test_counters(self) -> None:
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        peer.store(dataSet("1.2.4"), "1.2.3")
        self.pump()
        (association,) = self.accepted
        self.assertEqual((association.objectsStored, association.objectsRefused), (1, 1))
        self.assertEqual(association.bytesReceived, 2 * len(dataSet()))

    def test_transportOptions(self) -> None:
        """Responses are small and awaited, and a peer that vanished is to be noticed."""
        server = self.server(self.connect())
        self.assertEqual((server.noDelay, server.keepAlive), (True, True))

    def test_transportThatIsNotTCP(self) -> None:
        """A UNIX socket has neither option, and its peer no host."""
        transport = StringTransport(peerAddress=UNIXAddress(b"/socket"))
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(RQ)
        self.assertEqual([association.callingHost for association in self.accepted], ["local"])
        self.assertTrue(transport.value().startswith(b"\2"))
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.ends, ["lost"])

    def test_hosts(self) -> None:
        self.assertEqual(hostOf(IPv4Address("TCP", "192.0.2.1", 1)), "192.0.2.1")
        self.assertEqual(hostOf(IPv6Address("TCP", "2001:db8::1", 1)), "2001:db8::1")
        self.assertEqual(hostOf(IPv6Address("TCP", "::ffff:192.0.2.1", 1)), "192.0.2.1")
        self.assertEqual(hostOf(IPv6Address("TCP", "::ffff:1", 1)), "::ffff:1")
        self.assertEqual(hostOf(UNIXAddress(b"/socket")), "local")

    def test_proxied(self) -> None:
        """The address is read when A-ASSOCIATE-RQ arrives: the one a PROXY header tells."""
        factories: list[IProtocolFactory] = []

        @implementer(IStreamServerEndpoint)
        class Endpoint:
            def listen(self, factory: IProtocolFactory) -> Deferred[Any]:
                factories.append(factory)
                return succeed(None)

        proxyEndpoint(Endpoint()).listen(self.factory)
        peer = self.connect(factory=factories[0])
        peer.send(b"PROXY TCP4 198.51.100.7 192.0.2.1 4000 11112\r\n" + RQ)
        self.pump()
        self.assertIsNotNone(peer.accepted)
        self.assertEqual(self.accepted[0].callingHost, "198.51.100.7")
        self.assertEqual(self.server(peer).bufferSize, 524288)


def _result(value: Any) -> Deferred[Any]:
    return fail(value) if isinstance(value, Exception) else succeed(value)


class AnswerTests(ListenerTestCase):
    """Every kind of answer of OnConnection."""

    def answered(self, value: Any) -> Iterator[ScriptedPeer]:
        """Give peers answered so at once, by a fired and a later Deferred, by a coroutine at once and one later."""

        async def atOnce(*args: object) -> Any:
            return await _result(value) if isinstance(value, Exception) else value

        async def afterwards(*args: object) -> Any:
            await waited
            return await atOnce()

        for way in (value, lambda *args: _result(value), "later", atOnce, afterwards):
            self.listen()
            waited = self.later()
            later = self.later()
            self.answer(OnConnection=later if way == "later" else way)
            peer = self.associate()
            if way in ("later", afterwards):
                self.assertEqual(peer.received, [])
            waited.callback(None)
            _result(value).addBoth(later.callback)
            later.addErrback(lambda ignored: None)
            self.pump()
            yield peer

    def assertRejected(self, value: Any, rejection: AssociateRJ, why: str) -> None:
        for peer in self.answered(value):
            self.assertEqual(peer.received, [rejection])
            self.assertEqual(self.names, ["OnConnection"])
            self.assertLines(
                f"association refused {why}: from 'PEER' (127.0.0.1) to 'DCXTWISTED', "
                f"{rejection.result}/{rejection.source}/{rejection.reason}"
            )
            client(peer).loseConnection()
            self.pump()
            self.assertConnectionOver(peer)
            self.assertLines()

    def test_true(self) -> None:
        for peer in self.answered(True):
            self.assertIsNotNone(peer.accepted)
            self.assertEqual(len(self.factory.associations), 1)
            self.assertLines()

    def test_false(self) -> None:
        self.assertRejected(False, AssociateRJ(1, 1, 1), "by OnConnection")

    def test_none(self) -> None:
        self.assertRejected(None, AssociateRJ(1, 1, 1), "by OnConnection, which answered None instead of True or False")

    def test_otherTruthy(self) -> None:
        """Only True accepts: an answer that means something else is not taken for consent."""
        self.assertRejected(1, AssociateRJ(1, 1, 1), "by OnConnection")
        self.assertRejected("yes", AssociateRJ(1, 1, 1), "by OnConnection")

    def test_associationRejected(self) -> None:
        self.assertRejected(AssociationRejected(2, 3, 1), AssociateRJ(2, 3, 1), "by OnConnection")
        self.assertRejected(AssociationRejected(), AssociateRJ(1, 1, 1), "by OnConnection")

    def test_fails(self) -> None:
        for peer in self.answered(ValueError("broken")):
            self.assertEqual(peer.received, [AssociateRJ(2, 1, 1)])
            self.assertErrors(ValueError)
            self.assertLines(
                "OnConnection failed for <Association from 'PEER' at 127.0.0.1>",
                "association refused because OnConnection failed: from 'PEER' (127.0.0.1) to 'DCXTWISTED', 2/1/1",
            )

    def test_refusedByNegotiation(self) -> None:
        """The application is not asked."""
        peer = self.associate(contexts={})
        self.assertEqual(peer.received, [AssociateRJ(1, 1, 1)])
        self.assertEqual(self.names, [])
        self.assertLines("association refused by negotiation: from 'PEER' (127.0.0.1) to 'DCXTWISTED', 1/1/1")

    def test_allContextsRefused(self) -> None:
        """That is an association all the same."""
        peer = self.associate({1: ("1.2.3", ["1.2.840.10008.1.2"])})
        assert peer.accepted is not None
        self.assertEqual([context.result for context in peer.accepted.presentationContexts], [3])

    def test_refusedAndNotClosed(self) -> None:
        """A peer that does not close is closed upon, hard, at ARTIM."""
        self.answer(OnConnection=False)
        peer = self.associate()
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertConnectionOver(peer)
        self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
        self.assertEqual(len(self.lines), 1)

    def test_ARTIMStopsWhileAsked(self) -> None:
        """How long the application takes is no fault of the peer."""
        self.listen(connectionEventDeadline=1000)
        later = self.later()
        self.answer(OnConnection=later)
        peer = self.associate()
        self.advance(100)
        later.callback(True)
        self.pump()
        self.assertIsNotNone(peer.accepted)

    def test_late(self) -> None:
        """An OnConnection that does not answer is cancelled, and the peer rejected for now."""
        for seconds, settings in ((15, {}), (7, {"connectionEventDeadline": 7})):
            self.listen(**settings)
            self.answer(OnConnection=self.later())
            peer = self.associate()
            self.advance(seconds - 0.1)
            self.assertEqual(peer.received, [])
            self.advance(0.1)
            self.assertEqual(peer.received, [AssociateRJ(2, 1, 1)])
            self.assertEqual(self.names, ["OnConnection", "cancelled"])
            self.assertLines(f"association refused because OnConnection did not answer within {seconds} s: from 'PEER'")
            self.advance(30)
            self.assertConnectionOver(peer)


class AskedWhenThePeerGoesTests(ListenerTestCase):
    """OnConnection decides, and the peer does not wait for it."""

    def assertCancelled(self, go: Callable[[ScriptedPeer], object], line: str) -> None:
        self.answer(OnConnection=self.later())
        peer = self.associate()
        go(peer)
        self.pump()
        self.assertEqual(self.names, ["OnConnection", "cancelled"])
        self.assertEqual(peer.received, [])
        self.assertConnectionOver(peer)
        self.assertLines(line)

    def test_FIN(self) -> None:
        self.assertCancelled(lambda peer: client(peer).loseConnection(), "no association with 127.0.0.1: lost")

    def test_RST(self) -> None:
        self.assertCancelled(lambda peer: client(peer).abortConnection(), "no association with 127.0.0.1: lost")

    def test_abort(self) -> None:
        self.assertCancelled(
            lambda peer: peer.send(Abort(2, 6).encode()), "no association with 127.0.0.1: aborted by the peer (2/6)"
        )

    def test_coroutineIsCancelled(self) -> None:
        seen: list[type] = []

        async def onConnection(*args: object) -> bool:
            try:
                await self.later()
            except CancelledError as error:
                seen.append(type(error))
                raise
            return True

        self.answer(OnConnection=onConnection)
        peer = self.associate()
        client(peer).loseConnection()
        self.pump()
        self.assertEqual(seen, [CancelledError])
        self.assertEqual(self.accepted, [])

    def test_lateAnswersAreNotHeard(self) -> None:
        """What cannot be cancelled answers when nobody is there any more."""
        for value in (True, False, ValueError("too late")):
            self.listen()
            goOn = self.later()

            async def onConnection(*args: object, goOn: Deferred[Any] = goOn, value: Any = value) -> Any:
                try:
                    await self.later()
                except CancelledError:
                    await goOn
                return await _result(value)

            self.answer(OnConnection=onConnection)
            peer = self.associate()
            client(peer).loseConnection()
            self.pump()
            self.assertConnectionOver(peer)
            goOn.callback(None)
            self.assertEqual(self.accepted, [])
            failed = [] if isinstance(value, bool) else ["OnConnection failed when it was no longer waited for"]
            self.assertLines("no association with 127.0.0.1: lost", *failed)
            self.flushLoggedErrors(ValueError)

    def test_cancelledThoughAlive(self) -> None:
        """An application that cancels what it answered itself: a failure as any other."""
        later = self.later()
        self.answer(OnConnection=later)
        peer = self.associate()
        later.cancel()
        self.pump()
        self.assertEqual(peer.received, [AssociateRJ(2, 1, 1)])
        self.assertErrors(CancelledError)


class JudgedFirstTests(ListenerTestCase):
    """An answer is applied only when the bytes that came with the request have been judged."""

    def assertAborted(self, behind: bytes, line: str) -> None:
        """Assert that bytes behind the request abort, whether the answer comes at once or later, as it may be."""
        for value in (True, False):
            for later in (False, True):
                for apart in (False, True):
                    self.listen()
                    answer = self.later()
                    self.answer(OnConnection=answer if later else value)
                    peer = self.connect()
                    if later and apart:
                        peer.send(RQ)
                        self.pump()
                        peer.send(behind)
                    else:
                        peer.send(RQ + behind)
                    self.pump()
                    self.assertEqual(peer.received, [Abort(2, 2)])
                    self.assertEqual(answer.called, later)
                    self.assertEqual(self.accepted, [])
                    self.assertLines(line)

    def test_data(self) -> None:
        self.assertAborted(
            pData(1, 3, b"x"), "no association with 127.0.0.1: aborted here: unexpected PDU of type 4 in Sta3"
        )

    def test_headerOfData(self) -> None:
        self.assertAborted(
            pData(1, 3, b"x")[:6], "no association with 127.0.0.1: aborted here: unexpected PDU of type 4 in Sta3"
        )

    def test_secondRequest(self) -> None:
        self.assertAborted(RQ, "no association with 127.0.0.1: aborted here: unexpected PDU of type 1 in Sta3")

    def test_release(self) -> None:
        self.assertAborted(
            ReleaseRQ().encode(), "no association with 127.0.0.1: aborted here: unexpected PDU of type 5 in Sta3"
        )

    def test_partOfAHeader(self) -> None:
        """That is nothing yet."""
        peer = self.connect()
        peer.send(RQ + pData(1, 3, b"x")[:5])
        self.pump()
        self.assertIsNotNone(peer.accepted)

    def test_abort(self) -> None:
        peer = self.connect()
        peer.send(RQ + Abort(0, 0).encode())
        self.pump()
        self.assertEqual(peer.received, [])
        self.assertConnectionOver(peer)
        self.assertEqual(self.names, ["OnConnection"])
        self.assertLines("no association with 127.0.0.1: aborted by the peer (0/0)")

    def test_refusedByNegotiation(self) -> None:
        peer = self.connect()
        peer.send(associateRQ({}).encode() + pData(1, 3, b"x"))
        self.pump()
        self.assertEqual(peer.received, [Abort(2, 2)])
        self.assertEqual(len(self.lines), 1)


class BeforeAssociationTests(ListenerTestCase):
    def test_probe(self) -> None:
        """Opened and closed without a byte, as load balancers do: nothing is logged."""
        for end in ("loseConnection", "abortConnection", "loseWriteConnection"):
            peer = self.connect()
            getattr(client(peer), end)()
            self.pump()
            self.assertConnectionOver(peer)
        self.assertEqual(self._logged, [])

    def test_goneInsideTheRequest(self) -> None:
        for cut in range(1, len(RQ)):
            peer = self.connect()
            peer.send(RQ[:cut])
            client(peer).loseConnection()
            self.pump()
            self.assertConnectionOver(peer)
        self.assertEqual(self.names, [])
        self.assertLines()

    def test_silence(self) -> None:
        peer = self.connect()
        self.advance(29.9)
        self.assertIsNone(peer.lost)
        self.advance(0.1)
        self.assertEqual(bytes(peer.bytesReceived), b"")
        self.assertConnectionOver(peer)
        self.assertLines()
        self.assertEqual(self.listener.acceptor.counts, {"connections": 1, "connections without a byte": 1})

    def test_aByteASecond(self) -> None:
        """ARTIM is for the whole of the request."""
        peer = self.connect()
        for byte in RQ[:30]:
            self.assertIsNone(peer.lost)
            peer.send(bytes([byte]))
            self.advance(1)
        self.assertEqual(bytes(peer.bytesReceived), b"")
        self.assertConnectionOver(peer)

    def test_configuredARTIM(self) -> None:
        self.listen(ARTIM=2.5)
        peer = self.connect()
        self.advance(2.5)
        self.assertConnectionOver(peer)

    def test_noise(self) -> None:
        peer = self.connect()
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        self.pump()
        self.assertEqual(peer.received, [Abort(0, 0)])
        self.assertLines("no association with 127.0.0.1: aborted here: PDU of unknown type 47")
        peer.send(b"\0" * 100_000)
        self.advance(30)
        self.assertEqual(len(peer.received), 1)
        self.assertConnectionOver(peer)
        self.assertLines()

    def test_abortFirst(self) -> None:
        peer = self.connect()
        peer.abort()
        self.pump()
        self.assertEqual(peer.received, [])
        self.assertConnectionOver(peer)
        self.assertLines()

    def test_cutAnywhere(self) -> None:
        """However the stream is cut, the same comes of it."""
        for size in (1, 2, 3, 5, 7, 11, 100):
            self.listen()
            peer = self.connect(cuts=[size] * 3000)
            peer.associate()
            self.pump()
            peer.echo(1)
            peer.store(dataSet(), "1.2.3", maximumLength=32)
            peer.release()
            self.pump()
            self.assertEqual((peer.statuses, peer.released), ([0, 0], True))
            self.assertEqual(bytes(self.store.sinks[0].written), dataSet())


class LogTests(ListenerTestCase):
    def hostile(self) -> ScriptedPeer:
        """Return a peer whose AE titles are no titles."""
        peer = self.connect()
        calling = b"A\r\n\x1b[2J\xe9{0}".ljust(16)
        called = b"%s{oops}\n\x7f".ljust(16)
        peer.send(attrs.evolve(associateRQ(), callingAE=calling, calledAE=called).encode())
        self.pump()
        return peer

    def test_oneLineForAnAssociation(self) -> None:
        peer = self.hostile()
        peer.store(dataSet(), "1.2.3")
        peer.store(dataSet("1.2.4"), "1.2.3")
        self.clock.advance(1.5)
        self.pump()
        self._logged.clear()
        peer.release()
        self.pump()
        self.assertLines(
            "association from 'A\\r\\n\\x1b[2J\\xe9{0}' (127.0.0.1) to '%s{oops}\\n\\x7f' released after 1.500 s: "
            f"1 stored, 1 refused, {2 * len(dataSet())} bytes"
        )
        client(peer).loseConnection()
        self.pump()
        self.assertLines()

    def test_contextsNotAccepted(self) -> None:
        """Named at the end, each class once: most often they are why a peer sent nothing."""
        classes = ["1.2.840.10008.1.1", "1.2.840.10008.5.1.4.31", *(f"1.2.3.{number}" for number in (1, 1, 2, 3))]
        contexts = {2 * index + 1: (SOPClass, ["1.2.840.10008.1.2"]) for index, SOPClass in enumerate(classes)}
        peer = self.associate(contexts)
        peer.release()
        self.pump()
        self.assertTrue(
            self.lines[-1].endswith(
                "; contexts not accepted: '1.2.840.10008.5.1.4.31', '1.2.3.1', '1.2.3.2' and 1 more"
            ),
            self.lines,
        )

    def test_oneLineForARefusal(self) -> None:
        self.answer(OnConnection=False)
        self.hostile()
        self.assertLines(
            "association refused by OnConnection: "
            "from 'A\\r\\n\\x1b[2J\\xe9{0}' (127.0.0.1) to '%s{oops}\\n\\x7f', 1/1/1"
        )

    def test_failures(self) -> None:
        self.answer(OnConnection=ValueError("no"))
        self.hostile()
        self.assertErrors(ValueError)
        self.assertTrue(self.lines[0].endswith("<Association from 'A\\r\\n\\x1b[2J\\xe9{0}' at 127.0.0.1>"))

    def test_quirks(self) -> None:
        peer = self.associate()
        (association,) = self.accepted
        association.quirks.clear()
        association.quirks.update({"b": 2, "a": 1})
        peer.release()
        self.pump()
        self.assertTrue(self.lines[0].endswith("0 bytes; a: 1; b: 2"))

    def test_quirksOfTheRequest(self) -> None:
        peer = self.associate(
            {2: ("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])}, implementationClassUID="1.2", maximumLength=16384
        )
        self.assertEqual(self.accepted[0].quirks, {EVEN_CONTEXT_ID: 1})
        peer.release()
        self.pump()
        self.assertTrue(self.lines[0].endswith(f"0 bytes; {EVEN_CONTEXT_ID}: 1"))

    def test_howItEnded(self) -> None:
        def line(go: Callable[[ScriptedPeer], object]) -> str:
            self.listen()
            peer = self.associate()
            go(peer)
            self.pump()
            self.advance(601)
            (line,) = self.lines
            return line.removeprefix("association from 'PEER' (127.0.0.1) to 'DCXTWISTED' ").partition(" after")[0]

        self.assertEqual(line(ScriptedPeer.release), "released")
        self.assertEqual(line(lambda peer: peer.send(Abort(2, 3).encode())), "aborted by the peer (2/3)")
        self.assertEqual(line(lambda peer: client(peer).loseConnection()), "lost")
        self.assertEqual(line(lambda peer: self.accepted[0].abort()), "aborted here")
        self.assertEqual(line(lambda peer: peer.send(b"\0" * 6)), "aborted here: PDU of unknown type 00")
        self.assertEqual(line(lambda peer: None), "aborted here: nothing came for 600 s")


class CalledAETitleTests(ListenerTestCase):
    """Where it is asked for, associations that call another AE title are rejected, and nobody is asked."""

    def setUp(self) -> None:
        super().setUp()
        self.listen(AETitle="MINE", checkCalledAETitle=True)

    def test_another(self) -> None:
        peer = self.connect()
        peer.associate(calledAETitle="YOURS")
        self.pump()
        self.assertEqual(peer.rejected, AssociateRJ(1, 1, 7))
        self.assertEqual(self.names, [])

    def test_ours(self) -> None:
        peer = self.connect()
        peer.associate(calledAETitle="MINE")
        self.pump()
        self.assertIsNotNone(peer.accepted)
        peer.release()
        self.pump()


class UnreadTests(ListenerTestCase):
    """A peer that does not read what it is sent is not read either."""

    def test_echoes(self) -> None:
        peer = self.stalling()
        server = self.server(peer)
        self.assertTrue(server.paused)
        self.assertLess(len(server.unsent), 3 * 65536)
        self.assertGreater(len(client(peer).unsent) + len(server.unread), 100_000)
        client(peer).paused = False
        self.pump()
        self.assertFalse(server.paused)
        self.assertEqual(peer.statuses, [0] * 5000)
        peer.release()
        self.pump()
        self.assertTrue(peer.released)

    def test_lostMeanwhile(self) -> None:
        peer = self.stalling()
        self.accepted[0].abort()
        self.clock.advance(30)
        self.pump()
        self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
