"""What ends an association that does not go on: timers on an injected clock, set again rather than made anew."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


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


class Watch:
    """
    Calls C{expired} once where a peer was silent for longer than patience lasts.

    Patience differs with what the peer is in the middle of, and changes with each message: no timer is touched then.
    Instead the watch looks at least once in each C{shortest} seconds, so no deadline passes unseen, and one chunk costs
    one assignment.

    :param patience: gives the seconds that a peer may be silent, as things stand.
    :param held: tells whether it is this side that holds the peer up; the time then does not count.
    :ivar heard: when the peer was last heard, by the clock; assigned by whoever hears it.
    """

    __slots__ = ("_call", "_clock", "_expired", "_held", "_patience", "_shortest", "heard")

    def __init__(
        self,
        clock: IReactorTime,
        shortest: float,
        patience: Callable[[], float],
        held: Callable[[], bool],
        expired: Callable[[], object],
    ) -> None:
        self.heard = 0.0
        self._clock = clock
        self._shortest = shortest
        self._patience = patience
        self._held = held
        self._expired = expired
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self.heard = self._clock.seconds()
        self._call = self._clock.callLater(min(self._shortest, self._patience()), self._look)

    def stop(self) -> None:
        """Watch no longer."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _look(self) -> None:
        now = self._clock.seconds()
        if self._held():
            self.heard = now
        left = self.heard + self._patience() - now
        if left > 0:
            self._call = self._clock.callLater(min(left, self._shortest), self._look)
        else:
            self._call = None
            self._expired()
