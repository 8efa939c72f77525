"""
Several operations of one association at once (PS3.7 D.3.3.3): what is negotiated, overlaps and waits, and the end.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.error import ConnectionDone

from dcxtwisted.testing import ScriptedPeer
from dcxtwisted.wire.items import AsynchronousOperationsWindow
from dcxtwisted.wire.pdu import Abort, ReleaseRP
from tests.support import ListenerTestCase, dataSet, pData, storeCommand
from tests.test_association_waiting import WAYS_TO_GO


def instanceOf(number: int) -> str:
    """Return the instance that the C-STORE with a message ID is about."""
    return f"1.2.{number}"


class WindowTestCase(ListenerTestCase):
    """Sinks finish when a test says so."""

    def setUp(self) -> None:
        super().setUp()
        self.hold("finish")

    def listen(self, **settings: int) -> None:
        super().listen(**settings)
        self.hold("finish")

    def propose(self, invoked: int, performed: int = 1, maximumLength: int = 16384) -> ScriptedPeer:
        """Return a peer that proposed a window."""
        window = AsynchronousOperationsWindow(invoked, performed)
        return self.associate(asynchronousOperationsWindow=window, maximumLength=maximumLength)

    def store_(self, peer: ScriptedPeer, numbers: Iterable[int]) -> None:
        """Send C-STOREs, with these message IDs, of an instance each."""
        for number in numbers:
            peer.store(dataSet(instanceOf(number)), instanceOf(number), messageID=number)
        self.pump()

    def finish(self, *numbers: int) -> None:
        """Let the C-STOREs with these message IDs finish, in this order."""
        for number in numbers:
            (sink,) = (sink for sink in self.store.sinks if sink.request.messageID == number and sink.held)
            sink.fire("finish")
            self.pump()

    @property
    def begun(self) -> list[int]:
        """The message IDs of the C-STOREs that were begun."""
        return [sink.request.messageID for sink in self.store.sinks]

    def answered(self, peer: ScriptedPeer) -> list[int]:
        """Return the message IDs that were responded to, in order."""
        return [int.from_bytes(each[0x0120], "little") for each in peer.received if isinstance(each, dict)]


class NegotiationTests(WindowTestCase):
    def answeredWindow(self, peer: ScriptedPeer) -> AsynchronousOperationsWindow | None:
        assert peer.accepted is not None
        return peer.accepted.userInformation.asynchronousOperationsWindow

    def assertOutstandingAtMost(self, number: int, peer: ScriptedPeer) -> None:
        """Assert that of more C-STOREs so many are begun."""
        self.store_(peer, range(number + 2))
        self.assertEqual(self.begun, [*range(number)])
        self.finish(*range(number + 2))
        self.assertEqual(self.answered(peer), [*range(number + 2)])

    def test_proposed(self) -> None:
        """The smaller of both, 0 being no limit; of what this side may invoke, the least that can be said."""
        for invoked, performed, expected in ((0, 0, 8), (5, 1, 5), (8, 8, 8), (0xFFFF, 0xFFFF, 8), (1, 1, 1)):
            self.listen()
            peer = self.propose(invoked, performed)
            self.assertEqual(self.answeredWindow(peer), AsynchronousOperationsWindow(expected, 1))
            self.assertOutstandingAtMost(expected, peer)

    def test_configured(self) -> None:
        for configured, invoked, expected in ((3, 5, 3), (3, 0, 3), (20, 12, 12), (1, 0, 1)):
            self.listen(operationsWindow=configured)
            peer = self.propose(invoked)
            self.assertEqual(self.answeredWindow(peer), AsynchronousOperationsWindow(expected, 1))
            self.assertOutstandingAtMost(expected, peer)

    def test_notProposed(self) -> None:
        """Not answered, and one operation follows the other."""
        peer = self.associate()
        self.assertIsNone(self.answeredWindow(peer))
        self.assertOutstandingAtMost(1, peer)


class OutstandingTests(WindowTestCase):
    def test_responsesInTheOrderOfCompletion(self) -> None:
        peer = self.propose(5)
        self.store_(peer, range(5))
        self.assertEqual(self.begun, [0, 1, 2, 3, 4])
        self.finish(3, 0, 4, 2, 1)
        responses = peer.received[1:]
        self.assertEqual(
            [(each[0x0120][0], each[0x1000].rstrip(b"\0"), each[0x0900]) for each in responses],
            [(number, instanceOf(number).encode(), b"\0\0") for number in (3, 0, 4, 2, 1)],
        )
        for number, sink in enumerate(self.store.sinks):
            self.assertEqual(bytes(sink.written), dataSet(instanceOf(number)))
        self.assertEqual(self.accepted[0].objectsStored, 5)

    def test_answeredInsideAnotherDataSet(self) -> None:
        """Also in small pieces, which never mix with those of another response."""
        peer = self.propose(5, maximumLength=24)
        self.store_(peer, (1, 2))
        whole = dataSet(instanceOf(3))
        peer.send(storeCommand(instanceOf(3), 3) + pData(3, 0, whole[:50]))
        self.pump()
        self.finish(2, 1)
        self.assertEqual(self.answered(peer), [2, 1])
        self.assertGreater(bytes(peer.bytesReceived).count(b"\4\0\0\0\0\x18"), 8)
        peer.send(pData(3, 2, whole[50:]))
        self.pump()
        self.finish(3)
        self.assertEqual(self.answered(peer), [2, 1, 3])
        self.assertEqual(bytes(self.store.sinks[2].written), whole)

    def test_otherOperations(self) -> None:
        """C-ECHO overtakes, but counts."""
        peer = self.propose(2)
        self.store_(peer, [1])
        peer.echo(2)
        self.pump()
        self.assertEqual(self.answered(peer), [2])
        self.store_(peer, [3])
        peer.echo(4)
        self.pump()
        self.assertEqual(self.answered(peer), [2])
        self.finish(3)
        self.assertEqual(self.answered(peer), [2, 3, 4])

    def test_refusedBeforeItsData(self) -> None:
        peer = self.propose(5)
        self.store_(peer, [1])
        peer.store(dataSet(), "../x", messageID=2)
        self.pump()
        self.assertEqual((self.answered(peer), peer.statuses), ([2], [0x0117]))

    def test_OnStoreSetupThatAnswersLaterHolds(self) -> None:
        peer = self.propose(5)
        self.store_(peer, [1])
        setup = self.later()
        self.answer(OnStoreSetup=setup)
        self.store_(peer, [2])
        self.answer(OnStoreSetup=None)
        self.store_(peer, [3])
        self.assertEqual(self.begun, [1])
        self.assertTrue(self.server(peer).paused)
        self.finish(1)
        self.assertTrue(self.server(peer).paused)
        setup.callback(None)
        self.pump()
        self.assertEqual(self.begun, [1, 2, 3])

    def test_beyondTheWindow(self) -> None:
        """No more is read, and nothing is aborted; each response lets one in."""
        peer = self.propose(5)
        self.store_(peer, range(1, 11))
        self.assertEqual(self.begun, [1, 2, 3, 4, 5])
        self.assertTrue(self.server(peer).paused)
        self.finish(5)
        self.assertEqual(self.begun, [1, 2, 3, 4, 5, 6])
        self.finish(6, 7, 1, 8, 9)
        self.assertFalse(self.server(peer).paused)
        self.finish(2, 10, 4, 3)
        self.assertEqual(self.answered(peer), [5, 6, 7, 1, 8, 9, 2, 10, 4, 3])
        self.assertEqual(set(peer.statuses), {0})

    def test_messageIDAgain(self) -> None:
        peer = self.propose(5)
        self.store_(peer, [1])
        peer.store(dataSet("1.2.9"), "1.2.9", messageID=1)
        self.pump()
        self.assertEqual((self.answered(peer), peer.statuses), ([1], [0x0210]))
        self.assertEqual(self.begun, [1])
        self.finish(1)
        self.assertEqual((self.answered(peer), peer.statuses), ([1, 1], [0x0210, 0]))
        self.assertLines("request refused with 0210 (message ID 1 is outstanding) for <Association")

    def test_sameInstanceTwice(self) -> None:
        """The later one is not begun before the earlier one is answered, and what comes behind it waits."""
        peer = self.propose(5)
        for messageID, instance in ((1, 1), (2, 2), (3, 1), (4, 4)):
            peer.store(dataSet(instanceOf(instance)), instanceOf(instance), messageID=messageID)
        self.pump()
        self.assertEqual(self.begun, [1, 2])
        self.finish(2)
        self.assertEqual(self.begun, [1, 2])
        self.finish(1)
        self.assertEqual(self.begun, [1, 2, 3, 4])
        self.finish(4, 3)
        self.assertEqual(self.answered(peer), [2, 1, 4, 3])

    def test_interleavedMessages(self) -> None:
        """PDVs of one message follow each other, window or not (PS3.8 annex E)."""
        for intruder in (storeCommand("1.2.2", 2), pData(1, 3, storeCommand("1.2.2", 2)[12:])):
            self.listen()
            peer = self.propose(5)
            self.store_(peer, [1])
            peer.send(storeCommand("1.2.3", 3) + pData(3, 0, dataSet()[:50]) + intruder)
            self.pump()
            self.assertEqual(peer.received[1:], [Abort(2, 5)])
            self.assertEqual(self.names[-2:], ["sink.abort", "OnStoreDone"])
            self.finish(1)
            self.assertEqual(self.names[-3:], ["OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_noWindow(self) -> None:
        """Peers that pipeline all the same are answered in order, and may use one message ID for all."""
        for messageIDs in (range(10), [7] * 10):
            self.listen()
            peer = self.associate()
            for number, messageID in enumerate(messageIDs):
                peer.store(dataSet(instanceOf(number)), instanceOf(number), messageID=messageID)
            self.pump()
            for number, messageID in enumerate(messageIDs):
                self.assertEqual(len(self.store.sinks), number + 1)
                self.finish(messageID)
            self.assertEqual(self.answered(peer), [*messageIDs])
            self.assertEqual(peer.statuses, [0] * 10)


class EndTests(WindowTestCase):
    def test_release(self) -> None:
        """All responses come before the confirmation."""
        peer = self.propose(5)
        self.store_(peer, range(5))
        peer.release()
        self.pump()
        for number in (4, 1, 3, 0):
            self.finish(number)
            self.assertFalse(peer.released)
        self.finish(2)
        self.assertEqual(self.answered(peer), [4, 1, 3, 0, 2])
        self.assertIsInstance(peer.received[-1], ReleaseRP)
        self.assertEqual(self.ends, ["released"])

    def test_releaseBehindOneBeyondTheWindow(self) -> None:
        peer = self.propose(2)
        self.store_(peer, (1, 2))
        peer.echo(3)
        peer.release()
        self.pump()
        self.finish(2)
        self.assertEqual(self.answered(peer), [2, 3])
        self.assertFalse(peer.released)
        self.finish(1)
        self.assertEqual(self.answered(peer), [2, 3, 1])
        self.assertTrue(peer.released)

    def test_gone(self) -> None:
        """What was wholly received runs to its end, then OnAssocEnd comes, once; nothing is written."""
        for go, reason in WAYS_TO_GO:
            self.listen()
            peer = self.propose(5)
            self.store_(peer, range(5))
            go(peer)
            self.pump()
            self.assertConnectionOver(peer)
            self.finish(3, 0, 4, 2)
            self.assertEqual(self.ends, [])
            self.finish(1)
            self.assertEqual(self.ends, [reason])
            self.assertEqual(self.names[-3:], ["OnStoreDone", "sink.keep", "OnAssocEnd"])
            self.assertEqual([self.names.count(name) for name in ("OnStoreDone", "sink.keep")], [5, 5])
            self.assertEqual(peer.received[1:], [])

    def test_goneInsideADataSet(self) -> None:
        """That one is given up at once, the others run to their end."""
        peer = self.propose(5)
        self.store_(peer, range(4))
        peer.send(storeCommand(instanceOf(4), 4) + pData(3, 0, b"part"))
        self.pump()
        peer.abort()
        self.pump()
        self.assertEqual(self.names[-2:], ["sink.abort", "OnStoreDone"])
        self.assertEqual(self.ends, [])
        self.finish(2, 3, 0, 1)
        self.assertEqual(self.ends, ["aborted"])
        self.assertEqual((self.accepted[0].objectsStored, self.accepted[0].objectsRefused), (4, 1))

    def test_stop(self) -> None:
        """What is in flight is finished and answered first."""
        peer = self.propose(5)
        self.store_(peer, range(5))
        stopped = self.factory.stop(20)
        self.pump()
        self.finish(3, 0, 4, 2)
        self.assertNoResult(stopped)
        self.finish(1)
        self.assertEqual(self.answered(peer), [3, 0, 4, 2, 1])
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertIsInstance(self.server(peer).closed, ConnectionDone)
        self.successResultOf(stopped)
