"""
The file store: each object a Part 10 file below a root, whole and durable before it is acknowledged.

This is the reactor's side of it: what is done when, and in which thread. What is done there is in ``publishing``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from errno import EISDIR
from typing import Final, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.dataset import Head
from dcxtwisted.errors import LocalProtocolError, StoreRefused
from dcxtwisted.interfaces import IFileStore, IStoreRequest, IStoreSink, Outcome, StoredObject
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.directories import Directories
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.jobs import QUICK, InPool, Jobs, Threads, refusal
from dcxtwisted.stores.layout import Layout
from dcxtwisted.stores.publishing import Held, UnnamedFile, createUnnamed, makesUnnamedFiles
from dcxtwisted.stores.working import WorkingDirectories

_log = Logger()

# Bytes of one object after which what is written so far is synchronized while writing goes on: 8 GiB take 8 s so, and
# 23 s where all is left to the end.
_SYNCHRONIZED_EVERY: Final = 32 * 1024 * 1024
# Seconds until the next look at an object that another publisher holds; each wait is twice the one before, up to a
# limit, so that a crowd of duplicates does not keep the threads busy with looking.
_FIRST_WAIT: Final = 0.02
_LONGEST_WAIT: Final = 0.32


@implementer(IFileStore)
class FileStore:
    """
    Keeps each object as a Part 10 file below a root.

    :ivar root: the absolute path of the root.
    :ivar durable: whether an object is on the disk before it is acknowledged.
    :ivar threads: where it does what blocks.
    :ivar heldDeadline: seconds to wait for another publisher of the same name.
    """

    def __init__(
        self,
        root: str,
        layout: Layout | None = None,
        *,
        durable: bool = True,
        reactor: IReactorTime,
        inPool: InPool | None = None,
        seconds: Callable[[], float] = time.monotonic,
        unnamedFiles: bool = True,
        heldDeadline: float = 60.0,
    ) -> None:
        """
        :param layout: what names the files; None for the default one.
        :param durable: False never synchronizes: what was acknowledged may be lost when the machine goes down.
        :param reactor: provides IReactorTime, and IReactorFromThreads where C{inPool} is None.
        :param inPool: runs functions in threads, in place of a pool of the store's own.
        :param seconds: the clock by which a call is quick or slow.
        :param unnamedFiles: False keeps unfinished files in a working directory, whatever the file system can do.
        """
        self.root = os.path.abspath(root)
        self.durable = durable
        self.heldDeadline = heldDeadline
        self.threads = Threads(reactor, inPool, seconds)
        self._layout = Layout() if layout is None else layout
        self._wantsUnnamedFiles = self._unnamedFiles = unnamedFiles
        self._directories = Directories(self.root, durable)
        self._working = WorkingDirectories(self.root)
        self._running = False

    def moveTo(self, root: str) -> None:
        """
        Keep objects below another root from the next start on.

        :raises RuntimeError: it is running.
        """
        if self._running:
            raise RuntimeError("the store is open: its directory stays what it is until it is stopped")
        self.root = os.path.abspath(root)
        self._directories = Directories(self.root, self.durable)
        self._working = WorkingDirectories(self.root)

    def start(self) -> None:
        """
        Make the root, find out what its file system can do, and start the threads.

        :raises OSError: the store cannot be used.
        """
        if self._running:
            return
        self._directories.makeRoot()
        self._working = WorkingDirectories(self.root)
        self._unnamedFiles = self._wantsUnnamedFiles and makesUnnamedFiles(self.root)
        if not self._unnamedFiles:
            self._working.tryOut()
        self.threads.start()
        self._running = True
        # In the pool: a process that was killed may have left much.
        self.threads.run(self._sweep).addErrback(_sweepFailed)

    def stop(self) -> Deferred[None]:
        """Open no more objects; return a Deferred that fires when all work is done and the threads have ended."""
        self._running = False
        return self.threads.stop().addCallback(lambda ignored: self._working.close())

    def _sweep(self) -> None:
        left = self._working.sweep()
        if left:
            _log.info("removed {count} unfinished files that a stopped process left", count=left)

    def open(self, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        """See ``IStore.open``."""
        return self._open("", request)

    def openAt(self, filename: str, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        """See ``IFileStore.openAt``; a path where a directory stands is refused."""
        return self._open(os.path.abspath(filename), request)

    def _open(self, filename: str, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        if not self._running:
            raise StoreRefused(OUT_OF_RESOURCES, "store not running")
        lead = leadOf(request)
        started = self.threads.seconds()
        if self.threads.isSlow(started):
            return self._openInPool(filename, lead, request)
        try:
            file = self._create(filename, lead)
        except OSError as error:
            raise refusal(error) from error
        return FileSink(self, file, filename, request, self.threads.wasQuick(started))

    def _openInPool(self, filename: str, lead: bytes, request: IStoreRequest) -> Deferred[IStoreSink]:
        told: Deferred[IStoreSink] = Deferred()

        def opened(file: UnnamedFile) -> None:
            sink = FileSink(self, file, filename, request, False)
            if told.called:  # cancelled: nobody else will abort it
                sink.abort()
            told.callback(sink)

        self.threads.run(self._create, filename, lead).addCallbacks(opened, told.errback)
        return told

    def _create(self, filename: str, lead: bytes) -> UnnamedFile:
        """Return a new file where it can be given its name; a root that went away is not made again."""
        if filename and os.path.isdir(filename):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        directory = os.path.dirname(filename) if filename else self.root
        try:
            fd, name = self._createIn(directory)
        except FileNotFoundError:
            if not filename:
                raise
            self._directories.make(directory)
            fd, name = self._createIn(directory)
        return UnnamedFile(fd, lead, self._directories, self._working, name)

    def _createIn(self, directory: str) -> tuple[int, str]:
        fd = createUnnamed(directory) if self._unnamedFiles else None
        if fd is not None:
            return fd, ""
        return self._working.create(self.root if self._isInRoot(directory) else directory)

    def _isInRoot(self, directory: str) -> bool:
        """Tell whether a directory is inside the store, and on the same file system."""
        if directory == self.root:
            return True
        inside = directory.startswith(self.root + "/")
        return inside and os.stat(directory).st_dev == os.stat(self.root).st_dev

    def pathOf(self, head: Head, request: IStoreRequest) -> str:
        """Return the absolute path that the layout gives an object."""
        return f"{self.root}/{self._layout.path(head, request)}"


@implementer(IStoreSink)
class FileSink:
    """
    One object on its way into a file.

    Its file is used by one thread at a time: the reactor's while the store is quick, else by one job after the other.
    Only fdatasync runs beside writing.
    """

    __slots__ = (
        "_discarded",
        "_failure",
        "_file",
        "_filename",
        "_finished",
        "_jobs",
        "_kept",
        "_look",
        "_quick",
        "_request",
        "_store",
        "_unsynchronized",
    )

    def __init__(self, store: FileStore, file: UnnamedFile, filename: str, request: IStoreRequest, quick: bool) -> None:
        """
        :param filename: where the object is to stand, '' where the layout says so.
        :param quick: whether writing may begin on the reactor's thread.
        """
        self._store = store
        self._file = file
        self._filename = filename
        self._request = request
        self._quick = quick
        self._finished = self._kept = False
        self._unsynchronized = 0
        self._failure: BaseException | None = None
        self._jobs: Jobs | None = None
        self._look: Deferred[None] | None = None
        self._discarded: Deferred[None] | None = None

    def write(self, view: memoryview) -> Deferred[None] | None:
        """See ``IStoreSink.write``."""
        if not self._quick:
            return Deferred.fromCoroutine(self._writeInPool(bytes(view)))
        seconds = self._store.threads.seconds
        started = seconds()
        try:
            self._file.write(view)
        except OSError as error:
            self._failure = refusal(error)
            self._quick = False
            raise self._failure from error
        if seconds() - started > QUICK:
            self._quick = False
        return self._wrote(len(view))

    async def _writeInPool(self, data: bytes) -> None:
        self._check()
        try:
            await self._ownJobs().run(self._file.write, data)
        except Exception as error:
            self._failure = error
            raise
        self._check()
        waiting = self._wrote(len(data))
        if waiting is not None:
            await waiting

    def _wrote(self, size: int) -> Deferred[None] | None:
        self._unsynchronized += size
        if self._unsynchronized < _SYNCHRONIZED_EVERY or not self._store.durable:
            return None
        return self._synchronize()

    def _synchronize(self) -> Deferred[None] | None:
        """Start to synchronize what is written, once the last time has returned."""
        jobs = self._ownJobs()
        if jobs.underWay:
            return Deferred.fromCoroutine(self._synchronizeNext(jobs))
        self._unsynchronized = 0
        jobs.run(self._file.synchronizeData).addErrback(self._synchronizingFailed)
        return None

    async def _synchronizeNext(self, jobs: Jobs) -> None:
        await jobs.idle()
        self._check()
        self._synchronize()

    def _synchronizingFailed(self, failure: Failure) -> None:
        # Whatever a second attempt said, the pages may be gone: the object has failed.
        self._failure = failure.value
        self._quick = False

    def _check(self) -> None:
        """Go on only where nothing failed meanwhile and nobody gave up."""
        if self._failure is not None:
            raise self._failure
        if self._discarded is not None:
            raise StoreRefused(OUT_OF_RESOURCES, "aborted")

    def _ownJobs(self) -> Jobs:
        # Made when it is needed: where nothing is synchronized, hardly ever.
        jobs = self._jobs
        if jobs is None:
            jobs = self._jobs = Jobs(self._store.threads.run)
        return jobs

    def finish(self, head: Head) -> StoredObject | Deferred[StoredObject]:
        """See ``IStoreSink.finish``."""
        store = self._store
        filename = self._filename or store.pathOf(head, self._request)
        started = store.threads.seconds()
        # Here, where nothing is synchronized: a hop to a thread and back costs more than all of it.
        if not store.durable and self._quick and not store.threads.isSlow(started):
            try:
                self._file.publishNew(filename)
            except FileExistsError:
                pass  # what stands there is compared, and that may block
            except OSError as error:
                refused = refusal(error)
                refused.__cause__ = error
                return self.abort().addCallback(lambda ignored: _raise(refused))
            else:
                store.threads.wasQuick(started)
                self._finished = True
                return StoredObject(filename, self._file.size, head, Outcome.NEW)
        return Deferred.fromCoroutine(self._finish(filename, head))

    async def _finish(self, filename: str, head: Head) -> StoredObject:
        try:
            outcome = await self._publish(filename)
            self._check()
        except Exception:
            await self.abort()
            raise
        self._finished = True
        return StoredObject(self._file.filename, self._file.size, head, outcome)

    async def _publish(self, filename: str) -> Outcome:
        threads = self._store.threads
        jobs = self._ownJobs()
        await jobs.idle()
        deadline = threads.reactor.seconds() + self._store.heldDeadline
        wait = _FIRST_WAIT
        while True:
            self._check()
            try:
                return await jobs.run(self._file.publish, filename, self._request.transferSyntaxUID)
            except Held:
                if threads.reactor.seconds() >= deadline:
                    raise StoreRefused(OUT_OF_RESOURCES, "the same object is being stored") from None
            self._check()
            self._look = deferLater(threads.reactor, wait)
            await self._look
            self._look = None
            wait = min(2 * wait, _LONGEST_WAIT)

    def keep(self) -> None:
        """See ``IStoreSink.keep``."""
        if self._kept or self._discarded is not None:
            return
        if not self._finished:
            raise LocalProtocolError("an object is kept when it is finished, not before")
        self._kept = True
        try:
            self._file.close()
        except OSError as error:
            # What closing has to say was asked for before the object had its name.
            _log.warn("closing a stored object: {error}", error=refusal(error).comment)

    def abort(self) -> Deferred[None]:
        """See ``IStoreSink.abort``; what still runs in a thread is waited for."""
        if self._kept:
            return succeed(None)
        if self._discarded is None:
            self._discarded = Deferred()
            Deferred.fromCoroutine(self._discard()).chainDeferred(self._discarded)
            if self._look is not None:
                self._look.cancel()
        told: Deferred[None] = Deferred()
        self._discarded.addCallback(_tell, told)
        return told

    async def _discard(self) -> None:
        jobs = self._ownJobs()
        await jobs.idle()
        try:
            await jobs.run(self._file.discard)
        except StoreRefused as error:
            _log.error("an object could not be removed: {error}", error=error)
        except Exception:
            _log.failure("an object could not be removed")


def _tell(ignored: None, told: Deferred[None]) -> None:
    told.callback(None)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _sweepFailed(failure: Failure) -> None:
    _log.error("unfinished files of a stopped process stay: {error}", error=failure.value)
