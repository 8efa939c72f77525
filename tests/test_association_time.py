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
        peer, later = self.releasing()
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


class RateTests(ListenerTestCase):
    """Inside a message a peer has to send 1,024 bytes a second, on the average of 60 s."""

    def drip(self, peer: ScriptedPeer, data: bytes, each: float, seconds: float) -> float:
        """Send the same again and again, after each so many seconds; return after how long the peer was aborted."""
        passed = 0.0
        while passed < seconds and peer.aborted is None:
            self.advance(each)
            passed += each
            peer.send(data)
            self.pump()
        return passed

    def assertTooSlow(self, peer: ScriptedPeer) -> None:
        self.assertEqual(peer.aborted, Abort(0, 0))
        self.assertEqual(self.names[-2:], ["OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.ends, ["timed out"])
        self.assertEqual(self.names.count("OnTimeout"), 1)
        self.assertIn("aborted here: less than 1024 bytes a second came for 60 s after", "".join(self.lines))
        self.advance(30)
        self.assertConnectionOver(peer)

    def test_byteByByteInsideAPDU(self) -> None:
        peer = self.associate()
        peer.send(storeCommand() + pData(3, 0, bytes(100_000))[:20])
        self.pump()
        self.assertEqual(self.drip(peer, b"\0", 1, 300), 60)
        self.assertTooSlow(peer)

    def test_insideACommand(self) -> None:
        peer = self.associate()
        peer.send(pData(3, 1, bytes(40_000))[:20])
        self.pump()
        self.assertEqual(self.drip(peer, b"\0" * 500, 1, 300), 60)
        self.assertTooSlow(peer)

    def test_aPDVNowAndThen(self) -> None:
        """However much it is in itself."""
        peer = self.associate()
        peer.send(storeCommand())
        self.pump()
        self.assertEqual(self.drip(peer, pData(3, 0, bytes(16000)), 29, 600), 87)
        self.assertTooSlow(peer)

    def test_emptyPDVs(self) -> None:
        peer = self.associate()
        peer.send(storeCommand())
        self.pump()
        self.assertEqual(self.drip(peer, pData(3, 0) * 10, 0.25, 600), 60)
        self.assertTooSlow(peer)

    def test_fastWhileItWasIdle(self) -> None:
        """What came before the message does not count for it."""
        peer = self.associate()
        for number in range(1, 2000):
            peer.echo(number)
        self.pump()
        self.advance(29)
        peer.send(storeCommand())
        self.pump()
        self.assertEqual(self.drip(peer, pData(3, 0, b"12"), 1, 600), 60)
        self.assertTooSlow(peer)

    def test_storeThatWritesLater(self) -> None:
        """Each write is waited for: that gives the peer no more time than it takes."""
        self.hold("write")
        peer = self.associate()
        self.advance(0.5)
        peer.send(storeCommand())
        self.pump()
        for _ in range(60):
            self.assertIsNone(peer.aborted)
            self.advance(0.9)
            peer.send(pData(3, 0, b"12"))
            self.pump()
            self.advance(0.1)
            self.store.sinks[0].fire("write")
        # Of these 60 s it had 54 to itself.
        for _ in range(5):
            self.assertIsNone(peer.aborted)
            self.advance(1)
            peer.send(pData(3, 0))
        self.advance(2)
        self.assertTooSlow(peer)

    def test_slowStore(self) -> None:
        """One that takes a minute for each piece of a peer that is fast."""
        self.listen(minimumRate=1_000_000)
        self.hold("write")
        peer = self.associate()
        peer.send(storeCommand())
        for _ in range(20):
            peer.send(pData(3, 0, bytes(1000)))
        for _ in range(20):
            self.pump()
            self.advance(61)
            self.store.sinks[0].fire("write")
        self.pump()
        self.assertEqual(self.ends, [])

    def test_slowButSteady(self) -> None:
        whole = dataSet(size=620_000)
        peer = self.associate()
        peer.send(storeCommand())
        stream = b"".join(pData(3, 0, whole[start : start + 16000]) for start in range(0, len(whole), 16000))
        for start in range(0, len(stream), 1060):
            self.advance(1)
            peer.send(stream[start : start + 1060])
        peer.send(pData(3, 2))
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertGreater(self.clock.seconds(), 580)

    def test_inBursts(self) -> None:
        """Nothing for 40 s, then what is due for them."""
        peer = self.associate()
        peer.send(storeCommand())
        self.pump()
        self.drip(peer, pData(3, 0, bytes(62_000)), 40, 1200)
        self.assertEqual(self.ends, [])

    def test_smallObjectsNowAndThen(self) -> None:
        """Between messages no rate is asked for, however the store takes its time with each."""
        for holds in ((), ("finish",)):
            self.listen()
            self.hold(*holds)
            peer = self.associate()
            for number in range(100):
                peer.store(dataSet(f"1.2.{number}"), f"1.2.{number}")
                self.pump()
                self.advance(0.7)
                if holds:
                    self.store.sinks[number].fire("finish")
                    self.pump()
                self.advance(15)
            self.assertEqual(peer.statuses, [0] * 100)

    def test_beginsBehindAnAnswer(self) -> None:
        """An object is answered, the peer is idle, and begins the next at any time: its minute begins there."""
        for answered in (0.5, 29, 30.5, 59.5):
            for idle in (0.1, 29.5, 30, 59.4, 60, 61, 119):
                self.listen()
                self.hold("finish")
                peer = self.associate()
                peer.store(dataSet(), "1.2.3")
                self.pump()
                self.advance(answered)
                self.store.sinks[0].fire("finish")
                self.pump()
                self.advance(idle)
                peer.send(storeCommand("1.2.4", 2))
                self.pump()
                self.drip(peer, pData(3, 0, bytes(2000)), 1, 130)
                self.assertEqual(self.ends, [], (answered, idle))

    def test_beginsInTheNextTurn(self) -> None:
        """Where one chunk takes several turns: what ends it has begun then, and not when the last thing did."""
        peer = self.associate()
        peer.send(pData(3, 1, storeCommand()[12:20]))
        self.pump()
        peer.send(pData(3, 3, storeCommand()[20:]) + pData(3, 2, dataSet()))
        for _ in range(299):
            self.advance(1)
        self.advance(0.9)
        # 128 PDVs, the most that one turn takes, and then another object.
        for messageID in (2, 3):
            peer.send(storeCommand(messageID=messageID) + pData(3, 0) * 62 + pData(3, 2, dataSet()))
        peer.send(storeCommand(messageID=4))
        self.pump()
        self.assertEqual(peer.statuses, [0] * 3)
        self.drip(peer, pData(3, 0, bytes(2000)), 1, 130)
        self.assertEqual(self.ends, [])

    def test_any(self) -> None:
        self.listen(minimumRate=0)
        peer = self.associate()
        peer.send(storeCommand())
        self.pump()
        self.drip(peer, pData(3, 0, b"12"), 29, 3000)
        self.assertEqual(self.ends, [])

    def test_configured(self) -> None:
        self.listen(minimumRate=100, progressDeadline=10)
        peer = self.associate()
        peer.send(storeCommand())
        self.pump()
        self.drip(peer, pData(3, 0, bytes(100)), 1, 100)
        self.assertEqual(self.ends, [])
        self.drip(peer, pData(3, 0, bytes(50)), 1, 100)
        self.assertEqual(self.ends, ["timed out"])
        self.assertIn("less than 100 bytes a second came for 10 s", "".join(self.lines))


class WriteStallTests(ListenerTestCase):
    """A peer that does not read what it is sent."""

    def test_stalled(self) -> None:
        """It is not read either, what is kept for it is bounded, and in the end it is closed without a word."""
        peer = self.stalling()
        server = self.server(peer)
        self.assertTrue(server.paused)
        queued = len(server.unsent)
        self.assertGreater(queued, server.bufferSize)
        self.assertLess(queued, server.bufferSize + 200)
        self.advance(59.9)
        self.assertEqual((self.ends, server.closed, len(server.unsent)), ([], None, queued))
        self.advance(0.1)
        self.assertIsInstance(server.closed, ConnectionAborted)
        self.assertEqual(self.names[-2:], ["OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.ends, ["timed out"])
        self.assertIn("aborted here: it did not read for 60 s after", self.lines[-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_readsInTime(self) -> None:
        peer = self.stalling()
        self.advance(59.9)
        client(peer).paused = False
        self.pump()
        self.assertEqual(peer.statuses, [0] * 5000)
        self.advance(599.9)
        self.assertEqual(self.ends, [])

    def test_eachTimeAnew(self) -> None:
        peer = self.stalling()
        for _ in range(10):
            self.advance(50)
            client(peer).paused = False
            self.pump()
            client(peer).paused = True
            for number in range(5000):
                peer.echo(number)
            self.pump()
        self.assertEqual(self.ends, [])
        self.advance(60)
        self.assertEqual(self.ends, ["timed out"])

    def test_stalledForLessThanIsMuch(self) -> None:
        """What fits the queue may stay there: the silence is what ends it."""
        peer = self.associate()
        client(peer).paused = True
        for number in range(100):
            peer.echo(number)
        self.pump()
        for _ in range(9):
            self.advance(60)
        self.assertEqual(self.ends, [])
        self.advance(60)
        self.assertIn("nothing came for 600 s", self.lines[-1])

    def test_noTimeIsLost(self) -> None:
        """It was not heard while it was not read: its time to go on with what it had begun is whole."""
        peer = self.stalling(storeCommand() + pData(3, 0, dataSet()[:50]))
        self.advance(59.5)
        client(peer).paused = False
        self.pump()
        self.advance(59.9)
        self.assertEqual(self.ends, [])
        peer.send(pData(3, 2, dataSet()[50:]))
        self.pump()
        self.assertEqual(peer.statuses, [0] * 5001)

    def test_stalledWhenItEnds(self) -> None:
        """ARTIM, or this, whichever is earlier; and its end has been told."""
        for ARTIM in (60, 20):
            self.listen(ARTIM=ARTIM, writeStallDeadline=40)
            peer = self.stalling()
            self.accepted[0].abort()
            self.pump()
            self.assertEqual(self.ends, ["aborted"])
            self.advance(min(ARTIM, 40) - 0.1)
            self.assertIsNone(self.server(peer).closed)
            self.advance(0.1)
            self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
            self.assertEqual(self.ends, ["aborted"])
            self.assertNotIn("OnTimeout", self.names)

    def test_configured(self) -> None:
        self.listen(writeStallDeadline=7)
        self.stalling()
        self.advance(6.9)
        self.assertEqual(self.ends, [])
        self.advance(0.1)
        self.assertEqual(self.ends, ["timed out"])
        self.assertIn("it did not read for 7 s", self.lines[-1])

    def test_stop(self) -> None:
        """A stop does not wait for it longer than for any other."""
        self.stalling()
        stopped: list[None] = []
        self.factory.stop(20).addCallback(stopped.append)
        self.advance(20)
        self.assertEqual(stopped, [None])
        self.assertEqual(self.ends, ["aborted"])

    def test_others(self) -> None:
        """Nobody else notices."""
        self.stalling()
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        self.assertEqual(peer.statuses, [0])


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
        peer, later = self.releasing()
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
