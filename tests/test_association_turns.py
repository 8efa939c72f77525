"""
A fair share of each turn of the reactor: what one peer sends at once does not keep another waiting.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted

import dcxtwisted.association
from dcxtwisted.interfaces import IAssociation
from dcxtwisted.testing import MemoryConnection, ScriptedPeer
from dcxtwisted.wire.messages import encodeCEchoRQ
from dcxtwisted.wire.pdu import Abort
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand

#: The PDVs of one peer that a turn takes.
TURN = 128


def echoes(count: int, first: int = 0) -> bytes:
    """Return C-ECHOs with rising message IDs."""
    return b"".join(pData(1, 3, encodeCEchoRQ(number)) for number in range(first, first + count))


class TurnsTestCase(ListenerTestCase):
    def atOnce(self, peer: ScriptedPeer, data: bytes) -> None:
        """Have the listener read all of this in one turn, and do nothing else."""
        self.connectionOf(peer).client.send()
        server = self.server(peer)
        self.assertEqual(len(server.unread), 0)
        server.unread += data
        server.bufferSize = max(len(data), 65536)
        self.assertTrue(server.happen())
        self.assertEqual(len(server.unread), 0)

    def connectionOf(self, peer: ScriptedPeer) -> MemoryConnection:
        (connection,) = (each for each in self.connections if each.client is client(peer))
        return connection

    def turn(self) -> None:
        """Let what is due happen, and nothing that it makes due, as a reactor does and a Clock does not."""
        due = self.due()
        self.assertNotEqual(due, [])
        for call in due:
            function = call.func
            call.cancel()
            function()

    def due(self) -> list[Any]:
        """The calls that are to be made in the next turn."""
        return [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()]

    def messageIDs(self, peer: ScriptedPeer) -> list[int]:
        """The message IDs of the responses, in order."""
        return [int.from_bytes(elements[0x0120], "little") for elements in peer.received if isinstance(elements, dict)]

    @property
    def echoed(self) -> int:
        return self.names.count("OnEcho")

    def assertNothingDue(self) -> None:
        self.assertEqual(self.due(), [])


class ShareOfATurnTests(TurnsTestCase):
    def test_asManyAsFit(self) -> None:
        """They are taken at once, and nothing is paused."""
        peer = self.associate()
        self.atOnce(peer, echoes(TURN))
        self.assertEqual(self.echoed, TURN)
        self.assertFalse(self.server(peer).paused)
        self.assertNothingDue()

    def test_oneMore(self) -> None:
        """It waits for the next turn, and nothing is read meanwhile."""
        peer = self.associate()
        self.atOnce(peer, echoes(TURN + 1))
        self.assertEqual(self.echoed, TURN)
        self.assertTrue(self.server(peer).paused)
        self.turn()
        self.assertEqual(self.echoed, TURN + 1)
        self.assertFalse(self.server(peer).paused)
        self.assertNothingDue()

    def test_thousandsOfEchoes(self) -> None:
        """Another association's echo is answered in between, and all of these in order."""
        crowding, peer = self.associate(), self.associate()
        self.atOnce(crowding, echoes(6000))
        for number in range(10):
            peer.echo(number)
            self.connectionOf(peer).client.send()
            self.assertTrue(self.server(peer).happen())
            self.assertEqual(self.echoed, (number + 1) * (TURN + 1))
            self.turn()
        self.pump()
        self.assertEqual(self.messageIDs(crowding), [*range(6000)])
        self.assertEqual(self.messageIDs(peer), [*range(10)])
        who = [args[0] for name, args in self.events.calls if name == "OnEcho"]
        self.assertEqual([who.index(self.accepted[1]), who.count(self.accepted[1])], [TURN, 10])

    def test_smallPDVs(self) -> None:
        """Those of a data set count as any other; what arrives is what was sent."""
        peer = self.associate()
        whole = dataSet(size=20_000)
        pieces = [pData(3, 0, whole[start : start + 2]) for start in range(0, len(whole), 2)]
        self.atOnce(peer, storeCommand() + b"".join(pieces) + pData(3, 2) + echoes(1, 9))
        (sink,) = self.store.sinks
        turns = 1
        while not self.echoed:
            self.assertEqual(len(sink.written), min(2 * (turns * TURN - 1), len(whole)))
            self.turn()
            turns += 1
        self.assertEqual(turns, -(-(len(pieces) + 3) // TURN))
        self.assertEqual(bytes(sink.written), whole)
        self.pump()
        self.assertEqual(self.messageIDs(peer), [1, 9])

    def test_severalPDVsInOnePDU(self) -> None:
        peer = self.associate()
        body = b"".join(echoes(1, number)[6:] for number in range(1000))
        self.atOnce(peer, b"\4\0" + len(body).to_bytes(4, "big") + body)
        self.assertEqual(self.echoed, TURN)
        self.pump()
        self.assertEqual(self.messageIDs(peer), [*range(1000)])

    def test_objects(self) -> None:
        """Stored in order, whole and one after the other, whether the store takes its time or not."""
        for holds in ((), ("finish",)):
            self.listen()
            self.hold(*holds)
            peer = self.associate()
            whole = [dataSet(f"1.2.{number}", size=number) for number in range(200)]
            stream = b"".join(
                storeCommand(f"1.2.{number}", number) + pData(3, 0, data[:30]) + pData(3, 2, data[30:])
                for number, data in enumerate(whole)
            )
            self.atOnce(peer, stream)
            if holds:
                for number in range(200):
                    self.assertEqual(len(self.store.sinks), number + 1)
                    self.store.sinks[number].fire("finish")
                    self.pump()
            self.pump()
            self.assertEqual([bytes(sink.written) for sink in self.store.sinks], whole)
            self.assertEqual(self.messageIDs(peer), [*range(200)])
            self.assertEqual(peer.statuses, [0] * 200)

    def test_readMeanwhile(self) -> None:
        """
        Under TLS a chunk is given record by record, whether reading is paused or not: the turn takes no more for it.
        """
        peer = self.associate()
        protocol = self.protocol(peer)
        self.atOnce(peer, echoes(TURN + 1))
        for number in range(5):
            protocol.dataReceived(echoes(TURN, TURN + 1 + number * TURN))
            self.assertEqual(self.echoed, TURN)
        self.pump()
        self.assertEqual(self.messageIDs(peer), [*range(6 * TURN + 1)])

    def test_wokenMeanwhile(self) -> None:
        """What an application answers within the turn lets it take no more either."""
        later: list[Any] = []

        def onEcho(association: IAssociation) -> object:
            if self.echoed == TURN:
                later.append(self.later())
                return later[0]
            return None

        self.answer(OnEcho=onEcho)
        peer = self.associate()
        self.atOnce(peer, echoes(3 * TURN))
        self.assertEqual(self.echoed, TURN)
        later[0].callback(None)
        self.assertLessEqual(self.echoed, 2 * TURN)
        self.pump()
        self.assertEqual(self.messageIDs(peer), [*range(3 * TURN)])

    def test_manyPeers(self) -> None:
        """Each has its share in each turn."""
        peers = [self.associate() for _ in range(5)]
        for peer in peers:
            self.atOnce(peer, echoes(4 * TURN))
        for turn in range(1, 5):
            self.assertEqual(self.echoesOf(), [turn * TURN] * 5)
            if turn < 4:
                self.turn()
        self.assertNothingDue()
        self.pump()
        self.assertEqual([self.messageIDs(peer) for peer in peers], [[*range(4 * TURN)]] * 5)

    def test_sharesOfMany(self) -> None:
        """They become smaller with the number of those that have more to be done: a turn does not become longer."""
        peers = [self.associate() for _ in range(40)]
        for peer in peers:
            self.atOnce(peer, echoes(1000))
        before = self.echoesOf()
        self.assertEqual(before[:16], [TURN] * 16)
        self.assertEqual(before[-1], 8 * 1024 * 1024 // 39 // 4096)
        self.turn()
        self.assertEqual([now - then for now, then in zip(self.echoesOf(), before, strict=True)], [51] * 40)
        for peer in peers[1:]:
            client(peer).abortConnection()
            self.server(peer).abortConnection()
        self.pump()
        self.assertEqual(self.messageIDs(peers[0]), [*range(1000)])
        self.assertEqual(self.factory.share, 524288)

    def echoesOf(self) -> list[int]:
        """How many each association has sent so far."""
        who = [args[0] for name, args in self.events.calls if name == "OnEcho"]
        return [who.count(association) for association in self.accepted]


class EndsMeanwhileTests(TurnsTestCase):
    """Something ends the association while the rest of a chunk waits for its turn."""

    def begin(self, more: bytes = b"") -> ScriptedPeer:
        peer = self.associate()
        self.atOnce(peer, echoes(3 * TURN) + more)
        self.assertTrue(self.server(peer).paused)
        return peer

    def test_released(self) -> None:
        """Behind all that was asked before."""
        peer = self.begin(b"\5\0\0\0\0\4\0\0\0\0")
        self.pump()
        self.assertEqual(len(peer.statuses), 3 * TURN)
        self.assertTrue(peer.released)
        self.assertEqual(self.ends, ["released"])

    def test_abortedByThePeer(self) -> None:
        peer = self.begin(Abort(0, 0).encode())
        self.pump()
        self.assertEqual(self.echoed, 3 * TURN)
        self.assertEqual(self.ends, ["aborted"])
        self.assertConnectionOver(peer)

    def test_FINAndRST(self) -> None:
        """Seen as soon as the chunk is used up: that takes a bounded number of turns, and waits for nobody."""
        for go in (
            lambda peer: client(peer).loseConnection(),
            lambda peer: client(peer).abortConnection(),
            lambda peer: client(peer).loseWriteConnection(),
        ):
            self.listen()
            peer = self.begin()
            go(peer)
            self.pump()
            self.assertEqual(self.echoed, 3 * TURN)
            self.assertEqual(self.ends, ["lost"])
            self.assertConnectionOver(peer)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abortedHere(self) -> None:
        """The rest is dropped, at once."""
        peer = self.begin()
        self.accepted[0].abort()
        self.assertEqual(self.ends, ["aborted"])
        self.assertFalse(self.server(peer).paused)
        self.pump()
        self.assertEqual(self.echoed, TURN)
        self.assertEqual(peer.received[-1], Abort(0, 0))
        client(peer).loseConnection()
        self.pump()
        self.assertConnectionOver(peer)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abortedInsideAnEvent(self) -> None:
        def onEcho(association: IAssociation) -> None:
            if self.echoed == TURN + 7:
                association.abort()

        self.answer(OnEcho=onEcho)
        self.begin()
        self.pump()
        self.assertEqual(self.echoed, TURN + 7)
        self.assertEqual(self.ends, ["aborted"])

    def test_closedHard(self) -> None:
        """The connection is gone before the turn comes: there is none."""
        peer = self.begin()
        self.protocol(peer).abortConnection()
        while self.server(peer).happen():
            pass
        self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.echoed, self.ends), (TURN, ["lost"]))

    def test_allAborted(self) -> None:
        peer = self.begin()
        self.factory.abortAll()
        self.pump()
        self.assertEqual((self.echoed, self.ends), (TURN, ["aborted"]))
        self.assertConnectionOver(peer)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """What is begun is answered, and what has only come is not begun."""
        peer = self.begin()
        stopped: list[None] = []
        self.factory.stop(20).addCallback(stopped.append)
        self.assertEqual(self.echoed, TURN)
        self.pump()
        self.assertEqual(peer.statuses, [0] * TURN)
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertEqual(stopped, [None])

    def test_stoppedInsideAnEvent(self) -> None:
        def onEcho(association: IAssociation) -> None:
            if self.echoed == TURN + 7:
                self.factory.stop(20)

        self.answer(OnEcho=onEcho)
        peer = self.begin()
        self.pump()
        self.assertEqual(peer.statuses, [0] * (TURN + 7))
        self.assertConnectionOver(peer)

    def test_invalid(self) -> None:
        peer = self.begin(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.ends, [])
        self.pump()
        self.assertEqual(self.echoed, 3 * TURN)
        self.assertEqual(peer.received[-1], Abort(2, 1))


class AcknowledgingTests(ListenerTestCase):
    """The kernel is to acknowledge at once what a peer may wait for, and no more often."""

    def setUp(self) -> None:
        super().setUp()
        self.acknowledged = 0
        self.patch(dcxtwisted.association, "acknowledgerOf", lambda transport: self.acknowledge)

    def acknowledge(self) -> None:
        self.acknowledged += 1

    def send(self, peer: ScriptedPeer, data: bytes) -> None:
        """Have it read in as few pieces as may be, and nothing before it."""
        self.pump()
        self.acknowledged = 0
        peer.send(data)
        self.pump()

    def test_insideAPDU(self) -> None:
        peer = self.associate()
        request = pData(1, 3, encodeCEchoRQ(1))
        self.send(peer, request[:6])
        self.assertEqual(self.acknowledged, 1)
        self.send(peer, request[6:])
        self.assertEqual((self.acknowledged, peer.statuses), (0, [0]), "it goes with the answer")

    def test_justFull(self) -> None:
        """A small read that took all it may need not be followed by another one."""
        peer = self.associate()
        size = self.server(peer).bufferSize
        self.assertLessEqual(size, 65536)
        self.send(peer, (storeCommand() + pData(3, 0, bytes(size)))[:size])
        self.assertEqual((self.acknowledged, self.server(peer).bufferSize), (1, 4 * size))

    def test_moreIsThere(self) -> None:
        """A large one is followed by another one, which acknowledges both."""
        peer = self.associate()
        size = self.server(peer).bufferSize
        data = storeCommand() + pData(3, 0, bytes(100_000)) * 2
        self.send(peer, data[:size])
        more = self.server(peer).bufferSize
        self.assertGreater(more, 65536)
        self.send(peer, data[size : size + more])
        self.assertEqual(self.acknowledged, 0)
        self.send(peer, data[size + more :][:1])
        self.assertEqual(self.acknowledged, 1)
