"""
Timers: what is called when, and that nothing is left on the clock.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.deadlines import Countdown, Deadline, Watch
from dcxtwisted.errors import DeadlinePassed, StoreRefused


class CountdownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[float] = []
        self.countdown = Countdown(self.clock, 30, lambda: self.expired.append(self.clock.seconds()))

    def test_expiresOnce(self) -> None:
        self.countdown.start()
        self.clock.pump([29, 0.5])
        self.assertEqual(self.expired, [])
        self.clock.pump([0.5, 100])
        self.assertEqual(self.expired, [30])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_notStarted(self) -> None:
        self.clock.advance(100)
        self.countdown.stop()
        self.assertEqual(self.expired, [])

    def test_startedAgain(self) -> None:
        """It counts from the latest start, and there is one timer."""
        self.countdown.start()
        self.clock.advance(20)
        self.countdown.start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(20)
        self.assertEqual(self.expired, [])
        self.clock.advance(10)
        self.assertEqual(self.expired, [50])

    def test_stopped(self) -> None:
        self.countdown.start()
        self.countdown.stop()
        self.countdown.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(100)
        self.assertEqual(self.expired, [])

    def test_startedAfterStop(self) -> None:
        self.countdown.start()
        self.countdown.stop()
        self.countdown.start()
        self.clock.advance(30)
        self.assertEqual(self.expired, [30])

    def test_startedAfterExpiry(self) -> None:
        self.countdown.start()
        self.clock.advance(30)
        self.countdown.start()
        self.clock.advance(30)
        self.assertEqual(self.expired, [30, 60])
        self.countdown.stop()

    def test_startedByItsExpiry(self) -> None:
        def again() -> None:
            self.expired.append(self.clock.seconds())
            countdown.start()

        countdown = Countdown(self.clock, 10, again)
        countdown.start()
        self.clock.pump([10, 10, 10])
        self.assertEqual(self.expired, [10, 20, 30])
        countdown.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cancelled: list[Deferred[str]] = []
        self.awaited: Deferred[str] = Deferred(self.cancelled.append)
        self.told = Deadline(self.clock, 15).of(self.awaited, "it")

    def tearDown(self) -> None:
        """Whatever came of it, no timer is left."""
        self.told.addErrback(lambda failure: None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_inTime(self) -> None:
        self.clock.advance(14.9)
        self.assertNoResult(self.told)
        self.awaited.callback("done")
        self.assertEqual(self.successResultOf(self.told), "done")

    def test_atOnce(self) -> None:
        self.awaited.callback("done")
        self.assertEqual(self.successResultOf(self.told), "done")
        self.assertEqual(self.successResultOf(Deadline(self.clock, 15).of(succeed("it"), "it")), "it")

    def test_noDeferred(self) -> None:
        """What code of others answers in place of one is said at once, and nothing is left to come."""
        timers = self.clock.getDelayedCalls()
        wrong: Any = 5
        raised = self.assertRaises(TypeError, Deadline(self.clock, 15).of, wrong, "writing")
        self.assertEqual(str(raised), "writing: int in place of a Deferred")
        self.assertEqual(self.clock.getDelayedCalls(), timers)
        self.awaited.callback("done")

    def test_failure(self) -> None:
        self.awaited.errback(ValueError("no"))
        self.failureResultOf(self.told, ValueError)

    def test_late(self) -> None:
        self.clock.advance(15)
        failure = self.failureResultOf(self.told, DeadlinePassed)
        self.assertEqual(str(failure.value), "within 15 s")
        self.assertEqual(self.cancelled, [self.awaited])

    def test_goesOnAllTheSame(self) -> None:
        """One that does not let itself be cancelled is not waited for; what it says is dropped."""

        async def stubborn() -> str:
            try:
                await self.awaited
            except CancelledError:
                pass
            return await more

        more: Deferred[str] = Deferred()
        told = Deadline(self.clock, 15).of(Deferred.fromCoroutine(stubborn()), "it")
        self.clock.advance(15)
        self.failureResultOf(told, DeadlinePassed)
        self.failureResultOf(self.told, DeadlinePassed)
        more.callback("too late")

    def test_hurry(self) -> None:
        """What is waited for now is waited for no longer, and what comes then has to come at once."""
        deadline = Deadline(self.clock, 15)
        waiting: Deferred[str] = deadline.of(Deferred(), "it")
        done = deadline.of(succeed("done"), "it")
        deadline.hurry()
        failure = self.failureResultOf(waiting, DeadlinePassed)
        self.assertEqual(str(failure.value), "before the listener stopped")
        self.assertEqual(self.successResultOf(done), "done")
        self.assertEqual(self.successResultOf(deadline.of(succeed("at once"), "it")), "at once")
        later: Deferred[str] = deadline.of(Deferred(), "it")
        self.assertNoResult(later)
        self.clock.advance(0)
        failure = self.failureResultOf(later, DeadlinePassed)
        self.assertEqual(str(failure.value), "before the listener stopped")
        deadline.takeTime()
        again: Deferred[str] = deadline.of(Deferred(), "it")
        self.clock.advance(14.9)
        self.assertNoResult(again)
        self.clock.advance(0.1)
        failure = self.failureResultOf(again, DeadlinePassed)
        self.assertEqual(str(failure.value), "within 15 s")

    def test_lateFailure(self) -> None:
        awaited: Deferred[str] = Deferred(lambda awaited: awaited.errback(ValueError("no")))
        told = Deadline(self.clock, 15).of(awaited, "it")
        self.awaited.callback("done")
        self.clock.advance(15)
        self.failureResultOf(told, DeadlinePassed)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_cancelled(self) -> None:
        self.told.cancel()
        self.assertEqual(self.cancelled, [self.awaited])
        self.failureResultOf(self.told, CancelledError)

    def test_cancelledAndStubborn(self) -> None:
        more: Deferred[str] = Deferred()

        async def stubborn() -> str:
            try:
                await self.awaited
            except CancelledError:
                pass
            return await more

        told = Deadline(self.clock, 15).of(Deferred.fromCoroutine(stubborn()), "it")
        told.cancel()
        self.failureResultOf(told, CancelledError)
        self.failureResultOf(self.told, CancelledError)
        # Nobody waits any more: there is no deadline that could pass.
        self.assertEqual(self.clock.getDelayedCalls(), [])
        more.callback("too late")

    def test_cancelledFirst(self) -> None:
        """What was late is cancelled before anything follows from that; what it answers then comes too late."""
        happened: list[str] = []

        def canceller(awaited: Deferred[str]) -> None:
            happened.append("cancelled")
            awaited.callback("too late")

        awaited: Deferred[str] = Deferred(canceller)
        told = Deadline(self.clock, 15).of(awaited, "it").addBoth(lambda failure: happened.append(str(failure.type)))
        self.clock.advance(15)
        self.assertEqual(happened, ["cancelled", str(DeadlinePassed)])
        self.successResultOf(told)
        self.failureResultOf(self.told, DeadlinePassed)

    def test_refusesWhenCancelled(self) -> None:
        """It says itself why it was late; said later, nobody hears it."""
        refusal = StoreRefused(0xA700, "no room")
        awaited: Deferred[str] = Deferred(lambda awaited: awaited.errback(refusal))
        told = Deadline(self.clock, 15).of(awaited, "it")
        self.clock.advance(15)
        self.assertIs(self.failureResultOf(told, StoreRefused).value, refusal)
        self.failureResultOf(self.told, DeadlinePassed)

    def test_answersWhenCancelled(self) -> None:
        """Cancelled by who waits, and not by the deadline: its answer counts."""
        awaited: Deferred[str] = Deferred(lambda awaited: awaited.callback("done"))
        told = Deadline(self.clock, 15).of(awaited, "it")
        told.cancel()
        self.assertEqual(self.successResultOf(told), "done")
        self.told.cancel()

    def test_cancellerFails(self) -> None:
        """Whoever waits is told all the same, whoever cancels goes on, and the log has what it was."""

        def canceller(awaited: Deferred[str]) -> None:
            raise ValueError("no")

        self.told.cancel()
        told: Deferred[str] = Deadline(self.clock, 15).of(Deferred(canceller), "it")
        self.clock.advance(15)
        self.failureResultOf(told, DeadlinePassed)
        told = Deadline(self.clock, 15).of(Deferred(canceller), "it")
        told.cancel()
        self.failureResultOf(told, CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_cancelledByItsCanceller(self) -> None:
        """An event that is cancelled aborts its association, and that cancels what is waited for."""
        cancelled: list[Deferred[str]] = []

        def canceller(awaited: Deferred[str]) -> None:
            cancelled.append(awaited)
            told.cancel()

        self.told.cancel()
        awaited: Deferred[str] = Deferred(canceller)
        told = Deadline(self.clock, 15).of(awaited, "it")
        self.clock.advance(15)
        self.failureResultOf(told, CancelledError)
        self.assertEqual(cancelled, [awaited])

    def test_noCycle(self) -> None:
        """Nothing is left to the garbage collector, which runs rarely: there is one of these for each object."""
        self.told.cancel()
        while gc.collect():
            pass  # what other tests left, and what only that let go of
        gc.disable()
        self.addCleanup(gc.enable)
        awaited: Deferred[str] = Deferred()
        told = Deadline(self.clock, 15).of(awaited, "it")
        awaited.callback("done")
        self.assertEqual(self.successResultOf(told), "done")
        del awaited, told
        self.assertEqual(gc.collect(), 0)


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.expired: list[float] = []
        self.how: list[str] = []
        self.isInside = self.held = False
        self.watch = self.watching()

    def watching(self, silence: float = 600, progress: float = 60, rate: float = 100) -> Watch:
        watch = Watch(self.clock, silence, progress, rate, lambda: self.isInside, lambda: self.held, self.expire)
        watch.start()
        return watch

    def expire(self, how: str) -> None:
        self.expired.append(self.clock.seconds() - 1000)
        self.how.append(how)

    def hear(self, size: int) -> None:
        self.watch.heard = self.clock.seconds()
        self.watch.received += size

    def pass_(self, seconds: float) -> None:
        """Let time pass, an eighth of a second at a time."""
        self.clock.pump([0.125] * round(seconds * 8))

    def test_silence(self) -> None:
        self.pass_(599.875)
        self.assertEqual(self.expired, [])
        self.pass_(1000)
        self.assertEqual(self.expired, [600])
        self.assertEqual(self.how, ["nothing came for 600 s"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heard(self) -> None:
        """Hearing touches no timer."""
        for _ in range(100):
            (call,) = self.clock.getDelayedCalls()
            due = call.getTime()
            self.hear(1)
            self.assertEqual([each.getTime() for each in self.clock.getDelayedCalls()], [due])
            self.pass_(59)
        self.assertEqual(self.expired, [])
        self.pass_(600 - 59)
        self.assertEqual(len(self.expired), 1)

    def test_inside(self) -> None:
        """A shorter patience ends where it should, although nothing set a timer."""
        for delay in (0.5, 30, 59.5, 61, 500):
            self.setUp()
            self.pass_(delay)
            self.isInside = True
            self.hear(10)
            self.watch.enter()
            self.pass_(59.875)
            self.assertEqual(self.expired, [])
            self.pass_(0.125)
            self.assertEqual(self.how, ["nothing came for 60 s"], delay)

    def test_noLongerInside(self) -> None:
        self.isInside = True
        self.pass_(59)
        self.isInside = False
        self.pass_(540)
        self.assertEqual(self.expired, [])
        self.pass_(2)
        self.assertEqual(len(self.expired), 1)

    def drip(self, size: int, seconds: float) -> None:
        """Hear so many bytes each second, and no end of what they are part of."""
        for _ in range(round(seconds)):
            self.pass_(1)
            self.hear(size)

    def test_tooSlow(self) -> None:
        """It is the average that counts, over each stretch of 60 s from where it began."""
        for delay in (0, 0.5, 59.5, 61, 500):
            self.setUp()
            self.pass_(delay)
            self.isInside = True
            self.hear(10)
            self.watch.enter()
            self.drip(99, 59)
            self.pass_(0.875)
            self.assertEqual(self.expired, [])
            self.drip(99, 1)
            self.assertEqual(self.how, ["less than 100 bytes a second came for 60 s"], delay)

    def test_justFastEnough(self) -> None:
        self.isInside = True
        self.watch.enter()
        self.drip(105, 600)
        self.assertEqual(self.expired, [])
        self.drip(50, 120)
        self.assertEqual(self.how, ["less than 100 bytes a second came for 60 s"])

    def test_manySmallOnes(self) -> None:
        """Between messages no rate is asked for."""
        for _ in range(300):
            self.pass_(1)
            self.hear(10)
            self.watch.enter()
            self.watch.inside = False
        self.assertEqual(self.expired, [])

    def test_beginsAnew(self) -> None:
        """What was received before does not count for what begins now."""
        self.hear(1_000_000)
        self.pass_(30)
        self.isInside = True
        self.hear(1)
        self.watch.enter()
        self.drip(1, 61)
        self.assertEqual(len(self.expired), 1)

    def test_anyRate(self) -> None:
        self.watch.stop()
        self.watch = self.watching(rate=0)
        self.isInside = True
        self.watch.enter()
        self.drip(1, 600)
        self.assertEqual(self.expired, [])

    def test_held(self) -> None:
        """While this side holds the peer up, time does not count."""
        self.held = True
        self.pass_(3600)
        self.assertEqual(self.expired, [])
        self.held = False
        self.watch.goOn()
        self.pass_(599.875)
        self.assertEqual(self.expired, [])
        self.pass_(0.125)
        self.assertEqual(len(self.expired), 1)

    def test_heldInside(self) -> None:
        """Nor does it for the rate."""
        self.isInside = self.held = True
        self.watch.enter()
        self.pass_(90)
        self.held = False
        self.watch.goOn()
        self.drip(105, 59)
        self.assertEqual(self.expired, [])
        self.drip(90, 65)
        self.assertEqual(len(self.expired), 1)

    def test_heldForShortTimes(self) -> None:
        """Each piece is waited for, as where a store writes in threads: the peer's own time is judged still."""
        for size, count in ((90, 68), (110, 300)):
            self.setUp()
            self.isInside = True
            self.watch.enter()
            for _ in range(count):
                self.pass_(1)
                self.hear(size)
                self.pass_(0.125)
                self.watch.goOn()
            self.assertEqual(self.how, ["less than 100 bytes a second came for 60 s"][: size == 90])

    def test_heldForLongTimes(self) -> None:
        """What it cannot help is not the peer's fault: of 20 s, it had one for its 110 bytes."""
        self.isInside = True
        self.watch.enter()
        for _ in range(100):
            self.pass_(1)
            self.hear(110)
            self.held = True
            self.pass_(19)
            self.held = False
            self.watch.goOn()
        self.assertEqual(self.expired, [])

    def test_nothingBegunBehindAnAnswer(self) -> None:
        """With its answer the peer is in the middle of nothing: what it sends then begins with its first bytes."""
        for answered in range(1, 240):
            self.setUp()
            self.isInside = True
            self.hear(10)
            self.watch.enter()
            self.pass_(answered / 4)
            self.isInside = False
            self.watch.goOn()
            self.assertFalse(self.watch.inside)
            self.pass_(119.5 - answered / 4)
            self.isInside = True
            self.hear(10)
            if not self.watch.inside:
                self.watch.enter()
            self.drip(105, 59)
            self.assertEqual(self.expired, [])
            self.drip(90, 70)
            self.assertEqual(len(self.expired), 1)

    def test_beganUnseen(self) -> None:
        """What is begun with bytes that were heard before, and used only now, is not as old as the last thing was."""
        self.isInside = True
        self.watch.enter()
        self.pass_(1)
        self.isInside = self.watch.inside = False
        self.pass_(58)
        self.hear(10)
        self.isInside = True
        self.drip(105, 59)
        self.assertEqual(self.expired, [])

    def test_silenceShorterThanProgress(self) -> None:
        self.watch.stop()
        self.watch = self.watching(silence=7)
        self.clock.advance(6.9)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.1)
        self.assertEqual(len(self.expired), 1)

    def test_startCountsFromNow(self) -> None:
        self.watch.stop()
        self.pass_(500)
        self.watch.start()
        self.pass_(599.875)
        self.assertEqual(self.expired, [])

    def test_stop(self) -> None:
        self.watch.stop()
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pass_(1000)
        self.assertEqual(self.expired, [])

    def test_stopAfterExpiry(self) -> None:
        self.pass_(700)
        self.watch.stop()
        self.assertEqual(len(self.expired), 1)

    def test_stopByItsExpiry(self) -> None:
        watch = Watch(self.clock, 60, 60, 0, lambda: False, lambda: False, lambda how: watch.stop())
        watch.start()
        self.watch.stop()
        self.clock.advance(60)
        self.assertEqual(self.clock.getDelayedCalls(), [])
