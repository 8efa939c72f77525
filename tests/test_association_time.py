"""
How long an association waits: deadlines on the peer, and the stop of the listener.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from dcxtwisted.interfaces import IAssociation
from dcxtwisted.testing import ScriptedPeer, associateRQ
from dcxtwisted.wire.items import AsynchronousOperationsWindow
from dcxtwisted.wire.pdu import Abort, ReleaseRP
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand


class DeadlineTests(ListenerTestCase):
    def assertTimedOut(self, peer: ScriptedPeer, *, line: str) -> None:
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertEqual(self.names[-2:], ["OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.names.count("OnTimeout"), 1)
        self.assertEqual(self.ends, ["timed out"])
        self.assertIn(f"aborted here: nothing came for {line} after", "".join(self.lines))
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertConnectionOver(peer)
        self.assertEqual(self.names.count("OnTimeout"), 1)

    def assertTimesOutAfter(self, seconds: float, peer: ScriptedPeer) -> None:
        """Assert that a peer is let go after so many seconds of silence, and not before."""
        self.pump()
        self.advance(seconds - 0.01)
        self.assertEqual(self.ends, [])
        self.assertIsNone(peer.aborted)
        self.advance(0.01)
        self.assertTimedOut(peer, line=f"{seconds:g} s")

    def test_silence(self) -> None:
        self.assertTimesOutAfter(600, self.associate())

    def test_silenceAfterAMessage(self) -> None:
        peer = self.associate()
        self.advance(599)
        peer.echo()
        self.pump()
        self.assertTimesOutAfter(600, peer)

    def test_insideACommand(self) -> None:
        peer = self.associate()
        peer.send(pData(3, 1, b"part"))
        self.assertTimesOutAfter(60, peer)

    def test_insideAHeader(self) -> None:
        peer = self.associate()
        peer.send(pData(3, 1, b"part")[:3])
        self.assertTimesOutAfter(60, peer)

    def test_insideAPDU(self) -> None:
        peer = self.associate()
        peer.send(pData(3, 1, b"part")[:8])
        self.assertTimesOutAfter(60, peer)

    def test_beforeADataSet(self) -> None:
        peer = self.associate()
        peer.send(storeCommand())
        self.assertTimesOutAfter(60, peer)

    def test_insideADataSet(self) -> None:
        """The object is discarded first: OnTimeout and OnAssocEnd are the last."""
        peer = self.associate()
        peer.send(storeCommand() + pData(3, 0, b"part"))
        self.assertTimesOutAfter(60, peer)
        self.assertEqual(self.names[-4:], ["sink.abort", "OnStoreDone", "OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.accepted[0].ended, "timed out")

    def test_insideADataSetThatIsDrained(self) -> None:
        peer = self.associate()
        peer.send(storeCommand("../x") + pData(3, 0, b"part"))
        self.assertTimesOutAfter(60, peer)

    def test_afterAnIdleTime(self) -> None:
        """The deadline inside a message counts from its bytes, whenever the watch looks."""
        for idle in (1, 59, 61, 333):
            self.listen()
            peer = self.associate()
            self.advance(idle)
            peer.send(storeCommand())
            self.assertTimesOutAfter(60, peer)

    def test_progress(self) -> None:
        self.listen(minimumRate=0)
        peer = self.associate()
        whole = dataSet(size=1000)
        peer.send(storeCommand())
        for start in range(0, 1000, 10):
            peer.send(pData(3, 0, whole[start : start + 10]))
            self.advance(59)
        peer.send(pData(3, 2, whole[1000:]))
        self.pump()
        self.assertEqual(peer.statuses, [0])

    def test_configured(self) -> None:
        self.listen(silenceDeadline=7, progressDeadline=11)
        self.assertTimesOutAfter(7, self.associate())
        self.listen(silenceDeadline=7, progressDeadline=11)
        peer = self.associate()
        peer.send(storeCommand())
        self.assertTimesOutAfter(11, peer)

    def test_whatWeWaitForDoesNotCount(self) -> None:
        """Hours for OnStoreSetup, a write, an fsync and OnStoreDone; then the peer's time begins anew."""
        self.listen(silenceDeadline=70, progressDeadline=60, eventDeadline=10000, storeDeadline=10000)
        self.hold("open", "write", "finish")
        done = self.later()
        self.answer(OnStoreDone=done)
        peer = self.associate()
        peer.send(storeCommand())
        self.hour()
        assert self.store.opening is not None
        self.store.opening.callback(None)
        self.advance(59.9)
        peer.send(pData(3, 0, dataSet()[:50]))
        self.hour()
        self.store.sinks[0].fire("write")
        self.advance(59.9)
        peer.send(pData(3, 2, dataSet()[50:]))
        self.hour()
        self.store.sinks[0].fire("write")
        self.hour()
        self.store.sinks[0].fire("finish")
        self.hour()
        done.callback(True)
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertTimesOutAfter(70, peer)

    def hour(self) -> None:
        self.pump()
        for _ in range(360):
            self.advance(10.07)
        self.assertEqual(self.ends, [])

    def test_stallingWhileAnEarlierObjectIsAnswered(self) -> None:
        """With a window a peer can go on while it waits for a response: that it does not is its own fault."""
        self.listen(eventDeadline=10000)
        self.answer(OnStoreDone=self.later())
        peer = self.associate(asynchronousOperationsWindow=AsynchronousOperationsWindow(2, 1))
        peer.store(dataSet(), "1.2.3")
        self.hour()
        peer.send(storeCommand("1.2.4", messageID=2) + pData(3, 0, dataSet()[:50]))
        self.pump()
        self.advance(59.9)
        self.assertIsNone(peer.aborted)
        self.advance(0.1)
        self.assertEqual(peer.aborted, Abort(0, 0))

    def test_heldUpBehindAnotherRequest(self) -> None:
        """A data set that is not let in is no fault of its sender."""
        self.listen(eventDeadline=10000)
        later = self.later()
        self.answer(OnEcho=later)
        peer = self.associate()
        peer.echo()
        peer.send(storeCommand() + pData(3, 0, dataSet()[:50]))
        self.hour()
        later.callback(None)
        self.assertTimesOutAfter(60, peer)

    def test_releaseWaitsAsLongAsItTakes(self) -> None:
        self.listen(eventDeadline=10000)
        later = self.later()
        self.answer(OnEcho=later)
        peer = self.associate()
        peer.echo()
        peer.release()
        self.hour()
        later.callback(None)
        self.pump()
        self.assertIsInstance(peer.received[-1], ReleaseRP)

    def test_OnTimeoutFails(self) -> None:
        for answer in (ValueError("no"), lambda association: fail(ValueError("no"))):
            self.listen()
            self.answer(OnTimeout=answer)
            peer = self.associate()
            self.advance(600)
            self.assertTimedOut(peer, line="600 s")
            self.assertErrors(ValueError)

    def test_notAfterTheEnd(self) -> None:
        """One that was released and does not close is ARTIM's, not the deadline's."""
        self.listen(ARTIM=1000)
        peer = self.associate()
        peer.release()
        self.pump()
        self.advance(700)
        self.assertEqual(self.ends, ["released"])
        self.assertIsNone(peer.lost)
        self.advance(300)
        self.assertConnectionOver(peer)
        self.assertNotIn("OnTimeout", self.names)


class StopTests(ListenerTestCase):
    def stop(self, deadline: float = 20) -> list[list[str]]:
        """Stop; the list gets the events so far when the Deferred fires."""
        stopped: list[list[str]] = []
        self.factory.stop(deadline).addCallback(lambda ignored: stopped.append(list(self.names)))
        self.pump()
        return stopped

    def test_nothingToStop(self) -> None:
        self.assertEqual(self.stop(), [[]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """Aborted and closed, without waiting for the peer."""
        peers = [self.associate() for _ in range(3)]
        self.assertEqual(self.stop(), [["OnConnection"] * 3 + ["OnAssocEnd"] * 3])
        for peer in peers:
            self.assertEqual(peer.aborted, Abort(0, 0))
            self.assertConnectionOver(peer)
            self.assertIsInstance(self.server(peer).closed, ConnectionDone)
        self.assertEqual(self.ends, ["aborted"] * 3)
        self.assertIn("aborted here, stopping after", self.lines[0])

    def test_beforeAssociation(self) -> None:
        """Closed without a word."""
        silent, begun = self.connect(), self.connect()
        begun.send(associateRQ().encode()[:50])
        self.pump()
        self.assertEqual(self.stop(), [[]])
        for peer in (silent, begun):
            self.assertEqual(bytes(peer.bytesReceived), b"")
            self.assertConnectionOver(peer)

    def test_whileOnConnectionDecides(self) -> None:
        self.answer(OnConnection=self.later())
        peer = self.associate()
        self.assertEqual(self.stop(), [["OnConnection", "cancelled"]])
        self.assertEqual(peer.received, [Abort(0, 0)])

    def test_waitingForThePeerToClose(self) -> None:
        released = self.associate()
        released.release()
        self.answer(OnConnection=False)
        refused = self.associate()
        self.pump()
        self.assertEqual(len(self.stop()), 1)
        for peer in (released, refused):
            self.assertIsNone(peer.aborted)
            self.assertConnectionOver(peer)

    def test_busyOnesFinishFirst(self) -> None:
        done = self.later()
        self.answer(OnStoreDone=done)
        peer = self.associate()
        peer.send(storeCommand() + pData(3, 0, dataSet()[:50]))
        self.pump()
        stopped = self.stop()
        self.advance(15)
        peer.send(pData(3, 2, dataSet()[50:]))
        self.pump()
        self.assertEqual((stopped, peer.received[1:]), ([], []))
        done.callback(True)
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertConnectionOver(peer)
        self.assertEqual(stopped, [self.names])
        self.assertEqual(self.ends, ["aborted"])

    def test_noNewMessageIsBegun(self) -> None:
        """A peer that sends on and on does not keep the listener from stopping: what was read by then is answered."""
        later = self.later()
        self.answer(OnEcho=later)
        peer = self.associate()
        for messageID in range(1, 6):
            peer.echo(messageID)
        self.pump()
        stopped = self.stop()
        self.assertEqual(stopped, [])
        later.callback(None)
        self.pump()
        self.assertEqual((peer.statuses, peer.received[-1]), ([0, 0], Abort(0, 0)))
        self.assertEqual(self.names.count("OnEcho"), 2)
        self.assertConnectionOver(peer)
        self.assertEqual(len(stopped), 1)

    def test_aCommandHalfReceivedIsFinished(self) -> None:
        peer = self.associate()
        command = storeCommand()
        peer.send(pData(3, 1, command[12:20]))
        self.pump()
        stopped = self.stop()
        self.assertEqual(stopped, [])
        peer.send(pData(3, 3, command[20:]))
        peer.send(pData(3, 2, dataSet()))
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(len(stopped), 1)

    def test_aReleaseThatWaitsIsConfirmed(self) -> None:
        later = self.later()
        self.answer(OnEcho=later)
        peer = self.associate()
        peer.echo()
        peer.release()
        self.pump()
        stopped = self.stop()
        self.assertEqual(stopped, [])
        later.callback(None)
        self.pump()
        self.assertTrue(peer.released)
        self.assertEqual(self.ends, ["released"])
        self.assertEqual(len(stopped), 1)
        self.assertConnectionOver(peer)

    def test_deadline(self) -> None:
        """What is not done by then is aborted, and closed upon hard."""
        stalling, idle = self.associate(), self.associate()
        stalling.send(storeCommand() + pData(3, 0, dataSet()[:50]))
        self.pump()
        stopped = self.stop()
        self.assertConnectionOver(idle)
        self.advance(19.9)
        self.assertEqual(stopped, [])
        self.advance(0.1)
        self.assertEqual(stopped, [self.names])
        self.assertEqual(self.names[-3:], ["sink.abort", "OnStoreDone", "OnAssocEnd"])
        self.assertConnectionOver(stalling)
        self.assertIsInstance(self.server(stalling).closed, ConnectionAborted)
        assert stalling.lost is not None
        self.assertIs(stalling.lost.type, ConnectionLost)

    def test_deadlineDoesNotCutOffAnFsync(self) -> None:
        """The Deferred fires after the last OnAssocEnd, and that comes after everything."""
        self.hold("finish")
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        stopped = self.stop()
        self.advance(20)
        self.assertConnectionOver(peer)
        self.assertEqual((stopped, self.ends), ([], []))
        self.store.sinks[0].fire("finish")
        self.assertEqual(stopped, [self.names])
        self.assertEqual(self.names[-3:], ["OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_peerGoneWhileItsObjectIsFinished(self) -> None:
        """Nothing is begun for a connection that is gone: no timer is left."""
        self.hold("finish")
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        stopped = self.stop()
        client(peer).loseConnection()
        self.pump()
        self.assertEqual(stopped, [])
        self.store.sinks[0].fire("finish")
        self.assertEqual(stopped, [self.names])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peerThatDoesNotRead(self) -> None:
        """An orderly close that comes to no end is hard at ARTIM, or at the deadline where that is earlier."""
        for deadline, expected in ((100, 30), (10, 10)):
            self.listen()
            peer = self.connect(capacity=4)
            client(peer).pauseProducing()
            peer.associate()
            self.pump()
            stopped = self.stop(deadline)
            self.advance(expected - 0.1)
            self.assertEqual((stopped, self.server(peer).closed), ([], None))
            self.advance(0.1)
            self.assertEqual(len(stopped), 1)
            self.assertIsInstance(self.server(peer).closed, ConnectionAborted)

    def test_twice(self) -> None:
        """The later stop does not put off what the earlier one said."""
        peer = self.associate()
        peer.send(storeCommand())
        self.pump()
        first, second = self.stop(20), self.stop(40)
        self.advance(20)
        self.assertEqual((len(first), len(second)), (1, 1))
        self.assertConnectionOver(peer)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abortAll(self) -> None:
        peers = [self.connect(), self.associate(), self.associate()]
        self.factory.abortAll()
        self.pump()
        for peer in peers:
            self.assertConnectionOver(peer)
        self.assertEqual(self.ends, ["aborted"] * 2)

    def test_OnAssocEndThatAnswersLaterIsNotWaitedFor(self) -> None:
        later: Deferred[Any] = self.later()
        self.answer(OnAssocEnd=later)
        self.associate()
        self.assertEqual(len(self.stop()), 1)
        self.assertFalse(later.called)

    def test_stopFromAnEvent(self) -> None:
        def onEcho(association: IAssociation) -> None:
            self.factory.stop(20)

        self.answer(OnEcho=onEcho)
        peer = self.associate()
        peer.echo()
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertConnectionOver(peer)
