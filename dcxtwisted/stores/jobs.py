"""
Work that blocks, in threads: who waits for it and who no longer does, and what a sender is told when it fails.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from dcxtwisted.errors import StoreRefused
from dcxtwisted.statuses import OUT_OF_RESOURCES

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: Runs a function with arguments in some thread and returns a Deferred of its result.
InPool = Callable[..., Deferred[Any]]
#: Calls its first argument, on the reactor's thread, with what a function with arguments returned in some other thread.
Submit = Callable[..., None]

#: Seconds a call may take on the reactor's thread before what comes next is better done in the pool.
QUICK: Final = 0.02
# For how many seconds that goes for other objects too.
_SLOW_FOR: Final = 10.0
_THREADS: Final = 16

_COMMENTS: Final = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota exceeded",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EROFS: "read-only file system",
    errno.EIO: "i/o error",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOENT: "no such directory",
    errno.ENOTDIR: "no such directory",
    errno.EISDIR: "a directory stands at the path",
    errno.ENAMETOOLONG: "file name too long",
    errno.EFBIG: "file too large",
}


def refusal(error: OSError) -> StoreRefused:
    """Return what a sender is told of an error of the file system, which says nothing of paths."""
    return StoreRefused(OUT_OF_RESOURCES, _COMMENTS.get(error.errno or 0, "storage failure"))


def refusing(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return what a function returns; its OSError is raised as StoreRefused."""
    try:
        return function(*args, **kwargs)
    except OSError as error:
        raise refusal(error) from error


class Jobs:
    """
    Runs functions in a pool and knows which have not returned, even those that nobody waits for any more.

    :ivar underWay: how many have not returned.
    """

    __slots__ = ("_submit", "_waiting", "underWay")

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._waiting: list[Deferred[None]] = []
        self.underWay = 0

    def run(self, function: Callable[..., _T], *args: object) -> Deferred[_T]:
        """Return a Deferred of what C{function} returns; cancelling it ends the waiting, not the function."""
        told: Deferred[_T] = Deferred()
        self.submit(told.callback, function, *args)
        return told

    def submit(self, tell: Callable[[Any], object], function: Callable[..., object], *args: object) -> None:
        """As C{run}, and call C{tell} with what it returns, or with a Failure."""
        self.underWay += 1
        self._submit(partial(self._returned, tell), function, *args)

    def _returned(self, tell: Callable[[Any], object], result: object) -> None:
        self.underWay -= 1
        tell(result)
        if not self.underWay:
            waiting, self._waiting = self._waiting, []
            for idle in waiting:
                idle.callback(None)

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when none is under way."""
        if not self.underWay:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._waiting.append(idle)
        return idle


class _Pool:
    """
    Threads that are started as they are needed, up to a limit, and stay until ``stop``.

    An object of 1 KB takes 265 us of CPU time so, and 295 with C{deferToThreadPool} (C{benchmarks.durable}, eight
    senders): what has returned by the time the reactor looks is handed over in one turn, and wakes it once.
    """

    def __init__(self, reactor: IReactorFromThreads, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._threads: list[Thread] = []
        self._underWay = 0
        self._jobs: SimpleQueue[tuple[Callable[[Any], object], Callable[[], object]] | None] = SimpleQueue()
        self._returned: deque[tuple[Callable[[Any], object], object]] = deque()
        self._isAwaited = False

    def submit(self, tell: Callable[[Any], object], function: Callable[[], object]) -> None:
        """Call C{function} in a thread, then C{tell} with what it returned, or a Failure; on the reactor's thread."""
        self._underWay += 1
        if len(self._threads) < min(self._underWay, self._most):
            # A daemon: it does not keep a program from ending that never stopped its store.
            thread = Thread(target=self._work, name="dcxtwisted.stores", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The system has no more to give: those that are there take it.
                if not self._threads:
                    self._underWay -= 1
                    tell(Failure())
                    return
            else:
                self._threads.append(thread)
        self._jobs.put((tell, function))

    def _work(self) -> None:
        for tell, function in iter(self._jobs.get, None):
            try:
                result = function()
            except BaseException:
                result = Failure()
            self._returned.append((tell, result))
            if not self._isAwaited:
                self._isAwaited = True
                self._reactor.callFromThread(self._handOver)
            # Not to be kept until the next job comes.
            del tell, function, result

    def _handOver(self) -> None:
        # Before anything is taken: what comes after that asks for a turn of its own.
        self._isAwaited = False
        returned = self._returned
        while returned:
            tell, result = returned.popleft()
            self._underWay -= 1
            tell(result)

    def stop(self) -> None:
        """Wait until the threads have ended; none has anything under way."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


class Threads:
    """
    The threads of one store, and whether it was slow enough of late to need them.

    What waits for a thread is bounded by the associations there are: none has more under way than its window.

    :ivar reactor: what delays a call.
    :ivar seconds: the clock by which a call is quick or slow.
    :ivar slowUntil: before when, on that clock, nothing that may block is done on the reactor's thread.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        inPool: InPool | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param reactor: provides IReactorFromThreads too, where C{inPool} is None.
        :param inPool: takes the place of a pool of the store's own.
        """
        self.reactor = reactor
        self.seconds = seconds
        self._given = inPool
        self._pool: _Pool | None = None
        self._jobs = Jobs(self._inPool)
        #: As those of L{Jobs}, with OSError as StoreRefused.
        self.run = self._jobs.run
        self.submit = self._jobs.submit
        self.slowUntil = float("-inf")

    def start(self) -> None:
        """Start the threads, as they are needed."""
        if self._given is None:
            self._pool = _Pool(IReactorFromThreads(self.reactor), _THREADS)

    def stop(self) -> Deferred[None]:
        """Return a Deferred that fires when all jobs have returned and the threads have ended."""
        return self._jobs.idle().addCallback(self._stopped)

    def _stopped(self, ignored: None) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()

    def _inPool(self, tell: Callable[[Any], object], function: Callable[..., object], *args: object) -> None:
        if self._pool is not None:
            self._pool.submit(tell, partial(refusing, function, *args))
        elif self._given is not None:
            self._given(refusing, function, *args).addBoth(tell)
        else:  # stopped: what is left over is still cleared up
            execute(refusing, function, *args).addBoth(tell)

    def isSlow(self, now: float) -> bool:
        """Tell whether the store was slow a moment ago."""
        return now < self.slowUntil

    def timed(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what a function returns, in whatever thread; while it is slow there, nobody tries it elsewhere."""
        started = self.seconds()
        result = function(*args, **kwargs)
        self.wasQuick(started)
        return result

    def wasQuick(self, started: float) -> bool:
        """Tell whether what began at C{started} was quick; remember it where it was not."""
        now = self.seconds()
        if now - started <= QUICK:
            return True
        self.slowUntil = now + _SLOW_FOR
        return False
