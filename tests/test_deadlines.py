"""
Timers: what is called when, and that nothing is left on the clock.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.deadlines import Countdown, Watch


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


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.expired: list[float] = []
        self.patience = 600.0
        self.held = False
        self.watch = Watch(
            self.clock,
            60,
            lambda: self.patience,
            lambda: self.held,
            lambda: self.expired.append(self.clock.seconds() - 1000),
        )
        self.watch.start()

    def pass_(self, seconds: float) -> None:
        """Let time pass, an eighth of a second at a time."""
        self.clock.pump([0.125] * round(seconds * 8))

    def test_silence(self) -> None:
        self.pass_(599.875)
        self.assertEqual(self.expired, [])
        self.pass_(1000)
        self.assertEqual(self.expired, [600])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heard(self) -> None:
        """Hearing touches no timer."""
        for _ in range(100):
            (call,) = self.clock.getDelayedCalls()
            due = call.getTime()
            self.watch.heard = self.clock.seconds()
            self.assertEqual([each.getTime() for each in self.clock.getDelayedCalls()], [due])
            self.pass_(59)
        self.assertEqual(self.expired, [])
        self.pass_(600 - 59)
        self.assertEqual(len(self.expired), 1)

    def test_patienceChanges(self) -> None:
        """A shorter patience ends where it should, although nothing told the watch."""
        for delay in (0.5, 30, 59.5, 61, 500):
            self.setUp()
            self.pass_(delay)
            self.watch.heard = self.clock.seconds()
            self.patience = 60
            self.pass_(59.875)
            self.assertEqual(self.expired, [])
            self.pass_(0.125)
            self.assertEqual(len(self.expired), 1, delay)

    def test_patienceGrows(self) -> None:
        self.patience = 60
        self.pass_(59)
        self.patience = 600
        self.pass_(540)
        self.assertEqual(self.expired, [])
        self.pass_(2)
        self.assertEqual(len(self.expired), 1)

    def test_held(self) -> None:
        """While this side holds the peer up, time does not count."""
        self.held = True
        self.pass_(3600)
        self.assertEqual(self.expired, [])
        self.held = False
        self.watch.heard = self.clock.seconds()
        self.pass_(599.875)
        self.assertEqual(self.expired, [])
        self.pass_(0.125)
        self.assertEqual(len(self.expired), 1)

    def test_patienceShorterThanTheShortest(self) -> None:
        self.watch.stop()
        self.patience = 7
        self.watch.start()
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
        watch = Watch(self.clock, 60, lambda: 60, lambda: False, lambda: watch.stop())
        watch.start()
        self.watch.stop()
        self.clock.advance(60)
        self.assertEqual(self.clock.getDelayedCalls(), [])
