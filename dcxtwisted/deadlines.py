"""What ends that which does not go on: timers on an injected clock, set again rather than made anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.errors import AssociationRejected, DeadlinePassed, StoreRefused

_T = TypeVar("_T")

_log = Logger()

#: Failures that are no faults: an application says no with them.
_ANSWERS: Final = (AssociationRejected, StoreRefused)


class Countdown:
    """
    Calls C{expired} once, C{seconds} after the latest C{start}; ARTIM is one (PS3.8 9.1.5).

    Bytes that arrive do not draw it out: it bounds the whole of what is waited for.
    """

    __slots__ = ("_call", "_clock", "_expired", "_seconds")

    def __init__(self, clock: IReactorTime, seconds: float, expired: Callable[[], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._expired = expired
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Start, or start again."""
        call = self._call
        if call is not None and call.active():
            call.reset(self._seconds)
        else:
            self._call = self._clock.callLater(self._seconds, self._expired)

    def stop(self) -> None:
        """Never call, unless started again."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()


class Deadline:
    """
    How long the Deferreds of others may take.

    :ivar seconds: can be set, for what is waited for from then on.
    """

    __slots__ = ("_clock", "_hurries", "_waits", "seconds")

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._hurries = False
        self._waits: set[_Wait[Any]] = set()
        self.seconds = seconds

    def of(self, awaited: Deferred[_T], what: str) -> Deferred[_T]:
        """
        Return a Deferred that fires as C{awaited} does, or at the deadline fails with DeadlinePassed.

        C{awaited} is cancelled first then, as it is where the Deferred returned is cancelled. One that refuses as it is
        cancelled knows better why it is late: the Deferred fails with that. One that goes on all the same is waited for
        no longer; what comes of it is dropped, and logged where it is a failure.

        :param what: what is waited for, for the log.
        :raises TypeError: it is no Deferred, but what code of others answered in place of one.
        """
        if not isinstance(awaited, Deferred):
            raise TypeError(f"{what}: {type(awaited).__name__} in place of a Deferred")
        return _Wait(self._clock, 0 if self._hurries else self.seconds, awaited, what, self._waits).told

    def hurry(self) -> None:
        """
        Wait no longer, as the listener stops: neither for what is waited for now, nor, until C{takeTime}, for what does
        not come at once.
        """
        self._hurries = True
        for wait in list(self._waits):
            wait.end()

    def takeTime(self) -> None:
        """Wait again, after C{hurry}."""
        self._hurries = False


class _Wait(Generic[_T]):
    """One Deferred of others, and the one that is told of it."""

    __slots__ = ("_awaited", "_call", "_isOver", "_seconds", "_waits", "_what", "told")

    def __init__(
        self, clock: IReactorTime, seconds: float, awaited: Deferred[_T], what: str, waits: set[_Wait[Any]]
    ) -> None:
        """
        :param waits: has this wait while it lasts.
        """
        self.told: Deferred[_T] = Deferred(self._cancelled)
        self._seconds = seconds
        self._awaited = awaited
        self._what = what
        self._isOver = False
        self._waits = waits
        waits.add(self)
        self._call = clock.callLater(seconds, self._passed)
        awaited.addBoth(self._fired)

    def _cancelled(self, told: Deferred[_T]) -> None:
        # Without a wait there is no deadline, whether what was waited for lets itself be cancelled or not.
        self._waits.discard(self)
        if self._call.active():
            self._call.cancel()
            self._cancelAwaited()

    def _cancelAwaited(self) -> None:
        try:
            self._awaited.cancel()
        except Exception:
            # A canceller is code of others; what is given up here has more to be done than that.
            _log.failure("{what} could not be cancelled", what=self._what)

    def end(self) -> None:
        """Have the deadline pass now, in a hurry."""
        self._seconds = 0
        if self._call.active():
            self._call.cancel()
            self._passed()

    def _passed(self) -> None:
        self._waits.discard(self)
        self._isOver = True
        self._cancelAwaited()
        # What is cancelled may be code of the application, and have all of it cancelled.
        if not self.told.called:
            # No deadline is of 0 s, but where there is a hurry.
            time = f"within {self._seconds:g} s" if self._seconds else "before the listener stopped"
            self.told.errback(DeadlinePassed(time))

    def _fired(self, result: _T | Failure) -> None:
        self._waits.discard(self)
        if self._call.active():
            self._call.cancel()
        if not (self._isOver or self.told.called):
            self.told.callback(result)
        elif not isinstance(result, Failure):
            return
        elif result.check(*_ANSWERS):
            if not self.told.called:
                self.told.errback(result)
        elif not result.check(CancelledError):
            _log.failure("{what} failed when it was no longer waited for", result, what=self._what)


class Watch:
    """
    Calls C{expired} once where a peer was silent for longer than patience lasts, or slow in the middle of something.

    Patience differs with what the peer is in the middle of, and changes with each message: no timer is touched then.
    Instead the watch looks at least once in each C{progress} seconds, so no deadline passes unseen, and one chunk costs
    two assignments.

    :ivar heard: when the peer was last heard, by the clock; assigned by whoever hears it.
    :ivar received: how many bytes were heard, likewise.
    :ivar inside: the last chunk ended in the middle of something.
    """

    __slots__ = (
        "_began",
        "_call",
        "_clock",
        "_expired",
        "_held",
        "_isInside",
        "_least",
        "_progress",
        "_receivedBefore",
        "_silence",
        "heard",
        "inside",
        "received",
    )

    def __init__(
        self,
        clock: IReactorTime,
        silence: float,
        progress: float,
        rate: float,
        isInside: Callable[[], bool],
        held: Callable[[], bool],
        expired: Callable[[str], object],
    ) -> None:
        """
        :param silence: seconds that a peer may be silent.
        :param progress: seconds that it may be silent in the middle of something.
        :param rate: bytes a second that it has to send there, on the average of C{progress} seconds; 0 for any.
        :param isInside: tells whether it is in the middle of something.
        :param held: tells whether it is this side that holds the peer up; the time then does not count.
        :param expired: called with what was amiss.
        """
        self.heard = 0.0
        self.received = 0
        self.inside = False
        self._began = 0.0
        self._receivedBefore = 0
        self._clock = clock
        self._silence = silence
        self._progress = progress
        self._least = rate * progress
        self._isInside = isInside
        self._held = held
        self._expired = expired
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self.restart()
        self._call = self._clock.callLater(min(self._progress, self._silence), self._look)

    def stop(self) -> None:
        """Watch no longer."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def restart(self) -> None:
        """Count the peer's time from now."""
        self.heard = self._clock.seconds()
        self.enter()

    def goOn(self, heldUp: float | None = None) -> None:
        """
        The peer was held up: that time does not count.

        :param heldUp: for how many seconds; None for all the time since it was heard last.
        """
        passed = self._clock.seconds() - self.heard
        if heldUp is not None:
            passed = min(passed, heldUp)
        self._began += passed
        self.heard += passed
        self._see()

    def enter(self) -> None:
        """The peer has begun something, with what was heard last."""
        self.inside = True
        self._began = self.heard
        self._receivedBefore = self.received

    def _see(self) -> bool:
        inside = self._isInside()
        if inside and not self.inside:
            self.enter()
        self.inside = inside
        return inside

    def _look(self) -> None:
        self._call = None
        now = self._clock.seconds()
        if self._held():
            self.restart()
        inside = self._see()
        patience = self._progress if inside else self._silence
        left = self.heard + patience - now
        if left <= 0:
            self._expired(f"nothing came for {patience:g} s")
            return
        if inside and self._least:
            window = self._began + self._progress - now
            if window <= 0:
                if self.received - self._receivedBefore < self._least:
                    rate = self._least / self._progress
                    self._expired(f"less than {rate:g} bytes a second came for {self._progress:g} s")
                    return
                self._began, self._receivedBefore, window = now, self.received, self._progress
            left = min(left, window)
        self._call = self._clock.callLater(min(left, self._progress), self._look)


def useMonotonicClock(reactor: Any) -> None:
    """Have timers go by a clock that nobody sets; for programs, as a reactor that was handed over is another's."""
    reactor.seconds = time.monotonic
