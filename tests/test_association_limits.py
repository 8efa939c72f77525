"""
How many associations and connections a listener takes, and that each place is free again, however it was left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed

from dcxtwisted.errors import AssociationRejected
from dcxtwisted.interfaces import IAssociation
from dcxtwisted.testing import ScriptedPeer
from dcxtwisted.testing.peer import associateRQ
from dcxtwisted.wire.pdu import Abort, AssociateRJ
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand

LOCAL_LIMIT_EXCEEDED = AssociateRJ(2, 3, 2)


class LimitsTestCase(ListenerTestCase):
    def come(self, host: str = "127.0.0.1", **kwargs: Any) -> ScriptedPeer:
        """Return a new peer of a host that is connected."""
        return self.connect(clientAddress=IPv4Address("TCP", host, 50000), **kwargs)

    def ask(self, host: str = "127.0.0.1", title: str = "PEER") -> ScriptedPeer:
        """Return a new peer of a host that has asked for an association."""
        peer = self.come(host)
        peer.associate(callingAETitle=title)
        self.connections[-1].pump()
        return peer

    def assertAccepted(self, *peers: ScriptedPeer) -> None:
        self.assertEqual([len(peer.received) for peer in peers], [1] * len(peers))
        for peer in peers:
            self.assertIsNotNone(peer.accepted)

    def assertOverTheLimit(self, peer: ScriptedPeer) -> None:
        self.assertEqual(peer.received, [LOCAL_LIMIT_EXCEEDED])


class AssociationTests(LimitsTestCase):
    def test_inAll(self) -> None:
        """1,000 from five addresses; OnConnection is not asked for what is over the limit."""
        for number in range(1000):
            self.assertAccepted(self.ask(f"192.0.2.{number // 200}"))
        refused = self.ask("192.0.2.9", "LATE")
        self.assertOverTheLimit(refused)
        self.assertEqual(self.names, ["OnConnection"] * 1000)
        self.assertLines(
            "association refused because a limit is reached, maximumAssociations = 1000: "
            "from 'LATE' (192.0.2.9) to 'DCXTWISTED', 2/3/2"
        )
        self.assertEqual(
            self.listener.acceptor.counts,
            {
                "connections": 1001,
                "associations accepted": 1000,
                "associations rejected": 1,
                "associations over a limit": 1,
            },
        )
        client(refused).loseConnection()
        self.pump()
        self.assertConnectionOver(refused)

    def test_perAddress(self) -> None:
        for _ in range(200):
            self.assertAccepted(self.ask("192.0.2.1"))
        self.assertOverTheLimit(self.ask("192.0.2.1"))
        self.assertAccepted(self.ask("192.0.2.2"))

    def test_mappedAddressIsTheSame(self) -> None:
        self.listen(maximumAssociationsPerAddress=1)
        self.assertAccepted(self.ask("::ffff:192.0.2.1"))
        self.assertOverTheLimit(self.ask("192.0.2.1"))

    def test_networkIsOne(self) -> None:
        """Events and the log have the address, of those that are counted together."""
        self.listen(maximumAssociationsPerAddress=1)
        self.assertAccepted(self.ask("2001:db8::1"))
        self.assertEqual(self.accepted[0].callingHost, "2001:db8::1")
        self.assertOverTheLimit(self.ask("2001:db8::2"))
        self.assertIn("(2001:db8::2)", self.lines[-1])
        self.assertAccepted(self.ask("2001:db8:0:1::1"))

    def test_perAETitle(self) -> None:
        self.listen(maximumAssociationsPerAETitle=2)
        self.assertAccepted(self.ask("192.0.2.1", "CT"), self.ask("192.0.2.2", "CT"))
        self.assertOverTheLimit(self.ask("192.0.2.3", "CT"))
        self.assertAccepted(self.ask("192.0.2.3", "MR"))

    def test_refusedOtherwise(self) -> None:
        """A request that negotiation refuses takes no place, and is told its own reason."""
        self.listen(maximumAssociations=1)
        peer = self.come()
        peer.send(associateRQ({}).encode())
        self.pump()
        self.assertEqual(peer.received, [AssociateRJ(1, 1, 1)])
        self.assertAccepted(self.ask())

    def test_refusedPeerIsClosed(self) -> None:
        """At ARTIM, like any other that was rejected."""
        self.listen(maximumAssociations=1)
        self.ask()
        peer = self.ask()
        self.advance(29.9)
        self.assertIsNone(peer.lost)
        self.advance(0.1)
        self.assertConnectionOver(peer)


class PlaceTests(LimitsTestCase):
    """A place is free again once what it was taken for is over in every respect, and not before."""

    def setUp(self) -> None:
        super().setUp()
        self.only()

    def only(self, **settings: Any) -> None:
        self.listen(
            **{"maximumAssociations": 1, "maximumAssociationsPerAddress": 1, "maximumAssociationsPerAETitle": 1}
            | settings
        )

    def assertTaken(self) -> None:
        self.assertOverTheLimit(self.ask())

    def assertFree(self) -> None:
        peer = self.ask()
        self.assertAccepted(peer)
        peer.release()
        self.pump()
        self.assertTrue(peer.released)

    def assertFreeAfter(self, go: Callable[[ScriptedPeer], object]) -> None:
        self.only()
        peer = self.ask()
        self.assertAccepted(peer)
        self.assertTaken()
        go(peer)
        self.pump()
        self.assertEqual(len(self.ends), 1)
        self.assertFree()

    def test_release(self) -> None:
        """At once, though the peer has not closed yet."""
        self.assertFreeAfter(ScriptedPeer.release)

    def test_abort(self) -> None:
        self.assertFreeAfter(ScriptedPeer.abort)
        self.assertFreeAfter(lambda peer: self.accepted[0].abort())
        self.assertFreeAfter(lambda peer: self.listener.acceptor.AbortActiveAssociations())

    def test_invalid(self) -> None:
        self.assertFreeAfter(lambda peer: peer.send(b"GET / HTTP/1.0\r\n\r\n"))
        self.assertFreeAfter(lambda peer: peer.send(associateRQ().encode()))

    def test_lost(self) -> None:
        self.assertFreeAfter(lambda peer: client(peer).loseConnection())
        self.assertFreeAfter(lambda peer: client(peer).abortConnection())
        self.assertFreeAfter(lambda peer: client(peer).loseWriteConnection())

    def test_timedOut(self) -> None:
        def goSilent(peer: ScriptedPeer) -> None:
            for _ in range(10):
                self.advance(60)

        self.assertFreeAfter(goSilent)

    def test_severalEndsAtOnce(self) -> None:
        def goTwice(peer: ScriptedPeer) -> None:
            peer.release()
            peer.abort()
            client(peer).abortConnection()
            self.accepted[0].abort()

        self.assertFreeAfter(goTwice)

    def test_rejectedByOnConnection(self) -> None:
        answers: list[Any] = [
            False,
            None,
            AssociationRejected(2, 3, 1),
            lambda *args: succeed(False),
            lambda *args: fail(AssociationRejected()),
        ]
        for answer in answers:
            self.only()
            self.answer(OnConnection=answer)
            self.assertIsNotNone(self.ask().rejected)
            self.answer(OnConnection=True)
            self.assertFree()

    def test_OnConnectionFails(self) -> None:
        for answer in (ValueError("no"), lambda *args: fail(ValueError("no"))):
            self.only()
            self.answer(OnConnection=answer)
            self.assertEqual(self.ask().received, [AssociateRJ(2, 1, 1)])
            self.assertErrors(ValueError)
            self.answer(OnConnection=True)
            self.assertFree()

    def test_whileOnConnectionDecides(self) -> None:
        """The place is taken already; a late answer gives it back."""
        self.answer(OnConnection=self.later())
        peer = self.ask()
        self.assertTaken()
        self.advance(14.9)
        self.assertEqual(peer.received, [])
        self.assertTaken()
        self.advance(0.1)
        self.assertEqual(peer.received, [AssociateRJ(2, 1, 1)])
        self.assertEqual(self.names, ["OnConnection", "cancelled"])
        self.assertIn("because OnConnection did not answer within 15 s", self.lines[-1])
        self.answer(OnConnection=True)
        self.assertFree()

    def test_OnConnectionThatIsLateAndGoesOn(self) -> None:
        """What it answers at last is told to nobody."""
        self.listen(maximumAssociations=1, connectionEventDeadline=3)
        later, more = self.later(), self.later()

        async def stubborn(*args: object) -> bool:
            try:
                await later
            finally:
                await more
                return True  # noqa: B012  # an application may do that

        self.answer(OnConnection=stubborn)
        peer = self.ask()
        self.advance(3)
        self.assertEqual(peer.received, [AssociateRJ(2, 1, 1)])
        self.answer(OnConnection=True)
        second = self.ask()
        self.assertAccepted(second)
        more.callback(None)
        self.pump()
        self.assertEqual(peer.received, [AssociateRJ(2, 1, 1)])
        self.assertTaken()

    def test_goneWhileOnConnectionDecides(self) -> None:
        ways: list[Callable[[ScriptedPeer], object]] = [
            ScriptedPeer.abort,
            lambda peer: client(peer).loseConnection(),
            lambda peer: client(peer).abortConnection(),
            lambda peer: peer.send(associateRQ().encode()),
            lambda peer: self.protocol(peer).abort(),
        ]
        for go in ways:
            self.only()
            self.answer(OnConnection=self.later())
            peer = self.ask()
            go(peer)
            self.pump()
            self.assertEqual(self.names, ["OnConnection", "cancelled"])
            self.answer(OnConnection=True)
            self.assertFree()

    def test_goneInTheSameChunkAsItsRequest(self) -> None:
        for answer in (True, False, lambda *args: succeed(True), lambda *args: self.later()):
            for more in (Abort(0, 0).encode(), associateRQ().encode(), b"GET / HTTP"):
                self.only()
                self.answer(OnConnection=answer)
                peer = self.come()
                peer.send(associateRQ().encode() + more)
                self.pump()
                self.assertIsNone(peer.accepted)
                self.answer(OnConnection=True)
                self.assertFree()

    def test_abortedInsideOnConnection(self) -> None:
        """Whatever it answers then, and in whatever form."""

        async def atOnce() -> bool:
            return True

        async def afterwards() -> bool:
            await self.later()
            return True

        forms: list[Callable[[], object]] = [
            lambda: True,
            lambda: False,
            lambda: succeed(True),
            lambda: fail(AssociationRejected()),
            self.later,
            atOnce,
            afterwards,
        ]
        for form in forms:
            self.only()

            def onConnection(*args: Any, form: Callable[[], object] = form) -> object:
                args[3].abort()
                return form()

            self.answer(OnConnection=onConnection)
            peer = self.ask()
            self.assertEqual(peer.received, [Abort(0, 0)])
            self.assertEqual(self.ends, [])
            self.assertLines("no association with 127.0.0.1: aborted here")
            self.answer(OnConnection=True)
            self.assertFree()

    def test_stoppedInsideOnConnection(self) -> None:
        """It is let in and aborted, and no place stays taken."""
        self.answer(OnConnection=lambda *args: self.factory.stop(20) and True)
        peer = self.ask()
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertEqual(self.ends, ["aborted"])
        self.answer(OnConnection=True)
        self.assertFree()

    def test_providerCannotBeMade(self) -> None:
        def cannot(*args: object) -> Any:
            raise ValueError("no")

        makeProvider, self.factory.makeProvider = self.factory.makeProvider, cannot
        peer = self.ask()
        self.assertEqual(peer.received, [Abort(0, 0)])
        self.assertErrors(ValueError)
        self.assertEqual(self.names, ["OnConnection"])
        self.factory.makeProvider = makeProvider
        self.assertFree()

    def test_goneWhileItsObjectIsFinished(self) -> None:
        """Taken until the object is dealt with, connection or not."""
        for go in (ScriptedPeer.abort, lambda peer: client(peer).abortConnection()):
            self.only()
            self.hold("finish")
            peer = self.ask()
            peer.store(dataSet(), "1.2.3")
            self.pump()
            go(peer)
            self.pump()
            self.assertConnectionOver(peer)
            self.assertTaken()
            self.store.sinks[0].fire("finish")
            self.pump()
            self.assertEqual(len(self.ends), 1)
            self.assertFree()

    def test_storeThatNeverEnds(self) -> None:
        """Its deadlines give the place back: one for finishing, one for clearing up."""
        self.hold("finish", "abort")
        peer = self.ask()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        client(peer).abortConnection()
        self.pump()
        self.advance(300)
        self.assertTaken()
        self.advance(300)
        self.assertEqual(self.ends, ["lost"])
        self.assertLines(
            "the store: no answer within 300 s",
            "association refused because a limit is reached",
            "clearing up after an object: no answer within 300 s",
            "object '1.2.3' refused with A700 ('took too long')",
            "association from 'PEER' (127.0.0.1) to 'DCXTWISTED' lost",
        )
        self.assertFree()

    def test_endedInsideAnEvent(self) -> None:
        def onEcho(association: IAssociation) -> None:
            self.listener.acceptor.AbortActiveAssociations()
            association.abort()

        self.answer(OnEcho=onEcho)
        peer = self.ask()
        peer.echo()
        peer.echo(2)
        self.pump()
        self.assertEqual(peer.received[1:], [Abort(0, 0)])
        self.assertEqual(self.ends, ["aborted"])
        self.assertFree()

    def test_askedAgainInsideOnAssocEnd(self) -> None:
        """The place is free by then."""

        def onAssocEnd(association: IAssociation, reason: str) -> None:
            if len(self.ends) == 1:
                self.assertAccepted(self.ask())

        self.answer(OnAssocEnd=onAssocEnd)
        self.ask().abort()
        self.pump()
        self.assertEqual(len(self.accepted), 2)


class ConnectionTests(LimitsTestCase):
    """Connections without an association."""

    def assertClosed(self, *peers: ScriptedPeer) -> None:
        """Assert that these were closed hard and without a word, and no other."""
        self.pump()
        for connection in self.connections:
            peer = connection.client.protocol
            self.assertEqual(connection.server.closed is not None, peer in peers)
        for peer in peers:
            self.assertConnectionOver(peer)
            self.assertEqual(bytes(peer.bytesReceived), b"")

    def test_inAll(self) -> None:
        """500; the one that has waited longest makes room, and nothing is said of it in the log."""
        crowd = [self.come() for _ in range(500)]
        self.assertClosed()
        self.come()
        self.assertClosed(crowd[0])
        self.come()
        self.assertClosed(*crowd[:2])
        self.assertLines()
        self.assertEqual(
            self.listener.acceptor.counts,
            {"connections": 502, "connections closed for others": 2, "connections without a byte": 2},
        )

    def test_manyInOneTurn(self) -> None:
        """Each that is too many has one closed, though none is gone before the next turn of the reactor."""
        self.listen(maximumConnectionsBeforeAssociation=10)
        crowd = [self.come() for _ in range(50)]
        self.assertClosed(*crowd[:40])
        self.assertEqual(len(self.factory.protocols), 10)
        self.assertEqual(self.listener.acceptor.counts["connections closed for others"], 40)

    def test_besideACrowd(self) -> None:
        """One that sends its request at once gets in, and a slow one of its own address is left alone."""
        self.listen(maximumConnectionsBeforeAssociation=10)
        slow = self.come("192.0.2.1")
        slow.send(associateRQ().encode()[:50])
        self.pump()
        for _ in range(30):
            self.come("192.0.2.66")
        peer = self.ask("192.0.2.1")
        self.assertAccepted(peer)
        for _ in range(30):
            self.come("192.0.2.66")
        slow.send(associateRQ().encode()[50:])
        self.pump()
        self.assertAccepted(slow)
        peer.echo()
        self.pump()
        self.assertEqual(peer.statuses, [0])

    def test_crowdOfTheSameAddress(self) -> None:
        """Even there: the one that has waited longest goes, and that is none that has just come."""
        self.listen(maximumConnectionsBeforeAssociation=10)
        for _ in range(30):
            self.come()
        self.assertAccepted(self.ask())

    def test_crowdOfManyAddresses(self) -> None:
        self.listen(maximumConnectionsBeforeAssociation=10)
        crowd = [self.come(f"192.0.2.{number}") for number in range(30)]
        self.assertClosed(*crowd[:20])
        self.assertAccepted(self.ask("198.51.100.1"))

    def test_halfARequest(self) -> None:
        """It is the same whether something came or nothing."""
        self.listen(maximumConnectionsBeforeAssociation=2)
        begun = self.come()
        begun.send(associateRQ().encode()[:50])
        self.pump()
        self.come()
        self.come()
        self.assertClosed(begun)
        self.assertEqual(self.listener.acceptor.counts["connections without a byte"], 0)

    def test_largeRequests(self) -> None:
        """Requests of a megabyte that are not whole: 33 of them fit, and do not keep out one that is smaller."""
        slow = self.come("192.0.2.2")
        slow.send(associateRQ().encode()[:100])
        self.connections[-1].pump()
        start = bytes.fromhex("0100 00100000")  # of a request of 1 MiB
        crowd = [self.come("192.0.2.1", capacity=1 << 20) for _ in range(40)]
        for peer, connection in zip(crowd, self.connections[-40:], strict=True):
            peer.send(start + bytes(1_000_000))
            connection.pump()
        self.pump()
        self.assertEqual(sum(connection.server.closed is None for connection in self.connections[1:]), 33)
        slow.send(associateRQ().encode()[100:])
        self.connections[0].pump()
        self.assertAccepted(slow)
        self.assertEqual(self.listener.acceptor.counts["connections closed for others"], 7)

    def test_waitingForThePeerToClose(self) -> None:
        """Those whose association is over count too, from then on; what was sent to them may be cut off."""
        self.listen(maximumConnectionsBeforeAssociation=2)
        released = self.ask()
        self.come()
        released.release()
        self.pump()
        self.assertTrue(released.released)
        self.come()
        self.assertIsNone(released.lost)
        self.come()
        self.pump()
        self.assertConnectionOver(released)

    def test_associationsAreNotClosed(self) -> None:
        """However many connections come; nor one that OnConnection decides on."""
        self.listen(maximumConnectionsBeforeAssociation=1)
        peer = self.ask()
        later: Deferred[Any] = self.later()
        self.answer(OnConnection=later)
        asking = self.ask()
        for _ in range(10):
            self.come()
        peer.send(storeCommand() + pData(3, 2, dataSet()))
        self.pump()
        self.assertEqual(peer.statuses, [0])
        later.callback(True)
        self.pump()
        self.assertAccepted(asking)

    def test_withoutAByte(self) -> None:
        """What a load balancer does to see whether somebody listens: counted, not logged."""
        for _ in range(3):
            client(self.come()).loseConnection()
        self.pump()
        talking = self.come()
        talking.send(b"\1")
        client(talking).loseConnection()
        self.pump()
        self.assertLines()
        self.assertEqual(self.listener.acceptor.counts, {"connections": 4, "connections without a byte": 3})

    def test_countsAreACopy(self) -> None:
        counts: Any = self.listener.acceptor.counts
        counts["connections"] = 7
        self.assertEqual(self.listener.acceptor.counts, {})
