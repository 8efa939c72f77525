"""
Whether a store is fit for new objects: its disk synchronizes what is written, and has room.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.errors import StoreRefused
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.jobs import Threads

_log = Logger()

# Seconds between two looks at what is free: at 1 GB/s, what fits into them is of the size of what is kept free.
_LOOKS_EVERY: Final = 1.0


class Trust:
    """
    Whether the disk can be trusted: not from a failed synchronization on, until a probe succeeds.

    It is used on the reactor's thread only.

    :ivar degraded: whether it is not.
    """

    def __init__(self, threads: Threads, probe: Callable[[], object], interval: float) -> None:
        """
        :param probe: run in the pool; whatever it raises is a failure.
        :param interval: seconds from a failure, or from a probe that failed, to the next probe.
        """
        self.degraded = False
        self._threads = threads
        self._probe = probe
        self._interval = interval
        self._running = False
        self._failures = 0
        self._next: IDelayedCall | None = None
        self._probing = False

    def start(self) -> None:
        """Begin to probe, where that is due from before a stop."""
        self._running = True
        if self.degraded:
            self._schedule()

    def stop(self) -> None:
        """Begin no more probes."""
        self._running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def lost(self) -> None:
        """A synchronization failed."""
        self._failures += 1
        if not self.degraded:
            self.degraded = True
            _log.error("the disk failed to synchronize: new objects are refused until it does again")
        self._schedule()

    def _schedule(self) -> None:
        if self._running and self._next is None and not self._probing:
            self._next = self._threads.reactor.callLater(self._interval, self._begin)

    def _begin(self) -> None:
        self._next = None
        self._probing = True
        self._threads.run(self._probe).addCallbacks(
            self._succeeded, self._failed, callbackArgs=(self._failures,)
        ).addErrback(lambda failure: _log.failure("probing the disk failed", failure))

    def _succeeded(self, ignored: object, failures: int) -> None:
        self._probing = False
        if failures == self._failures:
            self.degraded = False
            _log.info("the disk synchronizes again: new objects are taken")
        else:  # another failed meanwhile
            self._schedule()

    def _failed(self, failure: Failure) -> None:
        self._probing = False
        if failure.check(StoreRefused) is None:
            _log.failure("probing the disk failed", failure)
        self._schedule()


class FreeSpace:
    """
    What has to be free on the file system of a directory, looked at no more than once a second, in any thread.

    :ivar directory: that one; it can be set.
    """

    def __init__(
        self,
        directory: str,
        minimumBytes: int,
        minimumInodes: int,
        seconds: Callable[[], float],
        what: str = "new objects",
    ) -> None:
        """
        :param minimumBytes: 0 for any; what only root may use is not counted as free.
        :param minimumInodes: 0 for any.
        :param what: what is refused while there is not enough, for the log.
        """
        self.directory = directory
        self._minimumBytes = minimumBytes
        self._minimumInodes = minimumInodes
        self._what = what
        self._seconds = seconds
        self._nextLook = float("-inf") if minimumBytes or minimumInodes else float("inf")
        self._isLow = False

    def check(self) -> None:
        """
        Return where there is room for an object.

        :raises StoreRefused: there is not.
        :raises OSError: it cannot be found out.
        """
        # 0.1 us where no look is due.
        now = self._seconds()
        if now >= self._nextLook:
            self._look()
            self._nextLook = now + _LOOKS_EVERY
        if self._isLow:
            raise StoreRefused(OUT_OF_RESOURCES, "disk nearly full")

    def _look(self) -> None:
        status = os.statvfs(self.directory)
        # Some file systems (btrfs, some of tmpfs, some of NFS) make inodes as they need them and have 0 in all.
        isLow = status.f_bavail * status.f_frsize < self._minimumBytes or (
            status.f_files > 0 and status.f_favail < self._minimumInodes
        )
        if isLow and not self._isLow:
            _log.error("the disk is nearly full: {what} are refused", what=self._what)
        elif self._isLow and not isLow:
            _log.info("the disk has room again: {what} are taken", what=self._what)
        self._isLow = isLow
