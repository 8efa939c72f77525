"""
The place of one worker: a process in it is started, and another in its place where it dies.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final, Protocol

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dcxtwisted.setups import Given
from dcxtwisted.workers.dispatch import Dispatch, Worker
from dcxtwisted.workers.link import WorkerLink

_log = Logger()

#: Seconds until a worker that died is started again, by how many have died in a row.
BACK_OFF: Final = backoffPolicy(initialDelay=0.1, maxDelay=30.0, factor=2.0, jitter=lambda: 0.0)
#: Seconds; one that was up for so long has died for another reason than those before it.
LONG_ENOUGH: Final = 60.0

# Seconds beyond the deadline of a stop that are left to a worker which stops on its own.
_GRACE: Final = 2.0


class Process(Protocol):
    """A worker that runs."""

    @property
    def pid(self) -> int | None: ...
    def connect(self, link: WorkerLink) -> None: ...
    def kill(self) -> None: ...


#: Starts a process: called with the number of the worker, what it goes by, and what to call with its exit status.
Start = Callable[[int, Given, Callable[[int], object]], Process]


class Place:
    """
    One worker, whatever process it is.

    :ivar process: the one that runs; None between two.
    :ivar link: the connection with it; None where it is not up, or no longer.
    :ivar given: what it goes by.
    """

    def __init__(
        self, dispatch: Dispatch, worker: Worker, start: Start, current: Callable[[], Given], clock: IReactorTime
    ) -> None:
        """
        :param current: tells what to go by now.
        """
        self.process: Process | None = None
        self.link: WorkerLink | None = None
        self.given = current()
        self._dispatch = dispatch
        self._worker = worker
        self._start = start
        self._current = current
        self._clock = clock
        self._connecting: WorkerLink | None = None
        self._isUp = False  # until the process ends
        self._upSince = 0.0
        self._failures = 0
        self._timer: IDelayedCall | None = None  # to start it again; to kill it
        self._isStopping = False
        self._ended: list[Deferred[bool]] = []

    def start(self) -> None:
        """
        Start a process, to which C{connect} then connects.

        :raise OSError: there is none to be had.
        """
        self.given = self._current()
        self.process = self._start(self._worker.number, self.given, self._processEnded)

    def connect(self) -> None:
        """Listen to what the process says."""
        assert self.process is not None
        link = self._connecting = WorkerLink(self._dispatch, self._worker, self._started, lambda: self._linkLost(link))
        self.process.connect(link)

    def _started(self, error: str) -> None:
        assert self.process is not None
        if error:
            _log.error("worker {worker} cannot start: {error}", worker=self._worker.number, error=error)
        elif self._isStopping or self.given is not self._current():
            # Configured anew meanwhile: another goes by that.
            self.kill()
        else:
            link = self.link = self._connecting
            assert link is not None
            self._isUp, self._upSince = True, self._clock.seconds()
            _log.info("worker {worker} is up: process {pid}", worker=self._worker.number, pid=self.process.pid)
            self._dispatch.isUp(self._worker, link)

    def _linkLost(self, link: WorkerLink) -> None:
        if link is not self._connecting:
            return  # what a process has forked may keep its link open beyond its end
        # It ends as it does when it is told to stop, or is gone already.
        self._worker.isLeaving = True
        self.link = None
        if self.process is not None and not self._isStopping:
            self._cancel()
            deadline = self._dispatch.admission.limits.stopDeadline + _GRACE
            self._timer = self._clock.callLater(deadline, self.kill)

    def stop(self) -> Deferred[bool]:
        """Have it finish what is in flight; fires when it is gone, with whether it ended in order."""
        self._isStopping = True
        self._cancel()
        if self.process is None:
            return succeed(True)
        if self.link is not None:
            self.link.stop()
        elif not self._isUp:
            self.kill()  # it has nothing in flight
        ended: Deferred[bool] = Deferred()
        self._ended.append(ended)
        return ended

    def kill(self) -> None:
        """End the process, if there is one, as it is."""
        if self.process is not None:
            self.process.kill()

    def _cancel(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _processEnded(self, status: int) -> None:
        assert self.process is not None
        process, self.process, self.link, self._connecting = self.process, None, None, None
        wasUp, self._isUp = self._isUp, False
        self._cancel()
        cut = self._dispatch.isGone(self._worker)
        if self._isStopping:
            ended, self._ended = self._ended, []
            for each in ended:
                each.callback(status == 0 or not wasUp)
            return
        if wasUp and self._clock.seconds() - self._upSince >= LONG_ENOUGH:
            self._failures = 0
        _log.warn(
            "worker {worker} (process {pid}) {how}{cut}",
            worker=self._worker.number,
            pid=process.pid,
            how=_how(status),
            cut=f"; {cut} associations cut" if cut else "",
        )
        self._startLater()

    def _startLater(self) -> None:
        delay = BACK_OFF(self._failures)
        self._failures += 1
        _log.info("worker {worker} is started again in {delay:g} s", worker=self._worker.number, delay=delay)
        self._timer = self._clock.callLater(delay, self._startAgain)

    def _startAgain(self) -> None:
        self._timer = None
        try:
            self.start()
        except OSError as error:
            _log.error("worker {worker} cannot start: {error}", worker=self._worker.number, error=error)
            self._startLater()
        else:
            self.connect()


def _how(status: int) -> str:
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
