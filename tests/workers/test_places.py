"""
Workers that are started, die, and are started again.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.configuration import Configuration
from dcxtwisted.setups import Given
from dcxtwisted.workers.commands import QuietAMP
from dcxtwisted.workers.dispatch import Dispatch
from dcxtwisted.workers.places import BACK_OFF, LONG_ENOUGH, Place
from tests.workers.support import FakeProcess, Pipe, socketPair


class PlaceTests(SynchronousTestCase):
    """`Place`"""

    def setUp(self) -> None:
        self.clock = Clock()
        self.given = Given()
        self.dispatch = Dispatch(Configuration(stopDeadline=30), self.clock, 1)
        self.worker = self.dispatch.workers[0]
        self.processes: list[FakeProcess] = []
        self.cannot: OSError | None = None
        self.place = Place(self.dispatch, self.worker, self.startProcess, lambda: self.given, self.clock)

    def startProcess(self, number: int, given: Given, ended: object) -> FakeProcess:
        if self.cannot is not None:
            raise self.cannot
        self.processes.append(FakeProcess(number, given, ended))  # type: ignore[arg-type]  # what Place gives
        return self.processes[-1]

    def start(self) -> FakeProcess:
        """Have a process started, and be up."""
        self.place.start()
        self.place.connect()
        return self.up()

    def up(self) -> FakeProcess:
        process = self.processes[-1]
        process.link.started("")
        return process

    def test_backOff(self) -> None:
        self.assertEqual([BACK_OFF(n) for n in range(5)], [0.1, 0.2, 0.4, 0.8, 1.6])
        self.assertEqual(BACK_OFF(1000), 30.0)

    def test_up(self) -> None:
        process = self.start()
        self.assertEqual((process.number, process.given), (1, self.given))
        self.assertIs(self.worker.link, process.link)

    def test_again(self) -> None:
        """Each time later, until one has been up for long."""
        process = self.start()
        for delay in (0.1, 0.2, 0.4):
            with capturedLogs() as events:
                process.ended(-9)
            self.assertEqual(
                [formatEvent(event) for event in events],
                ["worker 1 (process 4711) died of SIGKILL", f"worker 1 is started again in {delay} s"],
            )
            self.assertIsNone(self.worker.link)
            self.clock.advance(delay * 0.99)
            self.assertIs(self.processes[-1], process)
            self.clock.advance(delay * 0.02)
            self.assertIsNot(self.processes[-1], process)
            process = self.up()
        self.clock.advance(LONG_ENOUGH)
        process.ended(1)
        self.clock.advance(0.1)
        self.assertIsNot(self.processes[-1], process)

    def test_cannotStartAgain(self) -> None:
        """No process to be had, or one that cannot start: tried again."""
        process = self.start()
        process.ended(-11)
        self.cannot = OSError(11, "Resource temporarily unavailable")
        self.clock.advance(0.1)
        self.cannot = None
        self.clock.advance(0.2)
        process = self.processes[-1]
        self.assertEqual(len(self.processes), 2)
        process.link.started("no database")
        self.assertIsNone(self.worker.link)
        process.ended(1)
        self.clock.advance(0.4)
        self.assertIs(self.up().link, self.worker.link)

    def test_configuredMeanwhile(self) -> None:
        """One that was started with what is old makes room for another."""
        self.place.start()
        self.place.connect()
        self.given = Given()
        process = self.up()
        self.assertEqual((process.killed, self.worker.link), (1, None))
        process.ended(-9)
        self.clock.advance(0.1)
        self.assertIs(self.processes[-1].given, self.given)
        self.assertIsNotNone(self.up().link)

    def test_linkLost(self) -> None:
        """It gets nothing more; where it does not end of itself it is killed."""
        process = self.start()
        process.link.connectionLost()
        self.assertTrue(self.worker.isLeaving)
        self.clock.advance(31.9)
        self.assertEqual(process.killed, 0)
        self.clock.advance(0.1)
        self.assertEqual(process.killed, 1)
        process.ended(-9)
        self.clock.advance(0.1)
        self.up()
        self.assertFalse(self.worker.isLeaving)

    def test_linkLostFirst(self) -> None:
        """What was on its way then waits for the next process."""
        process = self.start()
        Pipe(process.link, QuietAMP())
        ours, _ = socketPair(self)
        self.dispatch.arrived(ours, "a", 0)
        process.link.connectionLost()
        self.assertEqual(self.worker.connections, {})
        process.ended(-9)
        self.clock.advance(0.1)
        Pipe(self.processes[-1].link, QuietAMP())
        self.up()
        self.assertEqual(list(self.worker.connections), [1])

    def test_linkLostLate(self) -> None:
        """That of a process before is nothing to the one that is up."""
        before = self.start()
        before.ended(-9)
        self.clock.advance(0.1)
        process = self.up()
        before.link.connectionLost()
        self.assertFalse(self.worker.isLeaving)
        self.assertIs(self.place.link, process.link)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        for status, isGood in ((0, True), (1, False), (-9, False)):
            self.setUp()
            process = self.start()
            said: list[str] = []
            process.link.stop = lambda said=said: said.append("stop")
            stopped = self.place.stop()
            self.assertNoResult(stopped)
            self.assertEqual(said, ["stop"])
            process.ended(status)
            self.assertIs(self.successResultOf(stopped), isGood)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopWhileItIsNotUp(self) -> None:
        """Before it is up it has nothing in flight; between two there is nothing to stop."""
        self.place.start()
        self.place.connect()
        stopped = self.place.stop()
        self.assertEqual(self.processes[-1].killed, 1)
        self.processes[-1].ended(-9)
        self.assertIs(self.successResultOf(stopped), True)
        self.setUp()
        self.start().ended(-9)
        self.assertIs(self.successResultOf(self.place.stop()), True)
        self.assertEqual(self.clock.getDelayedCalls(), [])
