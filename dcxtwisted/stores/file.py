"""
The file store: each object a Part 10 file below a root, whole and durable before it is acknowledged.

This is the reactor's side of it: what is done when, and in which thread. What is done there is in ``publishing``.

What it asks of a file system is that it links, renames, locks (flock) and synchronizes. What differs:

- ext4, tmpfs, overlayfs: objects have no name until they are whole (O_TMPFILE); the tests run there. What tmpfs
  keeps goes with the machine, whatever was synchronized.
- XFS and btrfs: the same; the tests of this package passed there by hand, and are not run there regularly. btrfs has
  no number of inodes: none is asked for.
- NFS: has no O_TMPFILE, so that objects stand in ``.incoming`` until they are whole. What a server answers to is
  durable where it exports with ``sync``. flock holds between clients from Linux 2.6.12 on, unless mounted with
  ``local_lock`` or ``nolock``: then let one client write. Errors of writing that a system tells only with close come
  with fsync, and with the closing of a duplicate before there is a name. An answer that got lost, so that a link says
  of its own doing that somebody was there first, is recognized. Not tried here.
- Where nothing can be linked (FAT, some of FUSE), a store does not start.

An error that comes only when an acknowledged object is closed is told in the log: all that could be wrong with it was
asked for before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from errno import EISDIR
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.configuration import DEFAULT_MINIMUM_FREE_BYTES, DEFAULT_MINIMUM_FREE_INODES, Duplicates
from dcxtwisted.dataset import Head
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IFileStore, IStoreRequest, IStoreSink
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.directories import ATTEMPTS, Directories
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.health import FreeSpace, Trust
from dcxtwisted.stores.jobs import InPool, Threads, refusal
from dcxtwisted.stores.layout import Layout
from dcxtwisted.stores.publishing import UnnamedFile, createUnnamed, makesUnnamedFiles
from dcxtwisted.stores.sink import FileSink
from dcxtwisted.stores.synchronizing import NotSynchronized, synchronizeDirectory
from dcxtwisted.stores.working import WorkingDirectories
from dcxtwisted.stores.writing import Buffers

_log = Logger()

# Bytes that a probe writes: a block of every usual file system.
_PROBE_SIZE: Final = 4096


@implementer(IFileStore)
class FileStore:
    """
    Keeps each object as a Part 10 file below a root.

    :ivar root: the absolute path of the root.
    :ivar durable: whether an object is on the disk before it is acknowledged.
    :ivar duplicates: what becomes of an object whose UID another stands under.
    :ivar threads: where it does what blocks.
    :ivar heldDeadline: seconds to wait for another publisher of the same name.
    :cvar probeInterval: seconds between the probes of a disk that failed to synchronize.
    """

    probeInterval: ClassVar[float] = 5.0

    def __init__(
        self,
        root: str,
        layout: Layout | None = None,
        *,
        durable: bool = True,
        duplicates: Duplicates = Duplicates.KEEP_BOTH,
        minimumFreeBytes: int = DEFAULT_MINIMUM_FREE_BYTES,
        minimumFreeInodes: int = DEFAULT_MINIMUM_FREE_INODES,
        reactor: IReactorTime,
        inPool: InPool | None = None,
        seconds: Callable[[], float] = time.monotonic,
        unnamedFiles: bool = True,
        heldDeadline: float = 60.0,
    ) -> None:
        """
        :param layout: what names the files; None for the default one.
        :param durable: False never synchronizes: what was acknowledged may be lost when the machine goes down.
        :param minimumFreeBytes: below which no object is opened on the root's file system; 0 for any.
        :param minimumFreeInodes: likewise.
        :param reactor: provides IReactorTime, and IReactorFromThreads where C{inPool} is None.
        :param inPool: runs functions in threads, in place of a pool of the store's own.
        :param seconds: the clock by which a call is quick or slow.
        :param unnamedFiles: False keeps unfinished files in a working directory, whatever the file system can do.
        """
        self.root = os.path.abspath(root)
        self.durable = durable
        self.duplicates = duplicates
        self.heldDeadline = heldDeadline
        self.threads = Threads(reactor, inPool, seconds)
        self._layout = Layout() if layout is None else layout
        self._wantsUnnamedFiles = self._unnamedFiles = unnamedFiles
        self._directories = Directories(self.root, durable)
        self._working = WorkingDirectories(self.root)
        self._trust = Trust(self.threads, self._probe, self.probeInterval)
        self._freeSpace = FreeSpace(self.root, minimumFreeBytes, minimumFreeInodes, seconds)
        # Without synchronizing all is done on the reactor's thread, and nothing gained by doing it at once.
        self._buffers = Buffers() if durable else None
        self._running = False

    @property
    def degraded(self) -> bool:
        """True from a failed synchronization on until the disk can be trusted again; no object is opened meanwhile."""
        return self._trust.degraded

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
        self._freeSpace.directory = self.root

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
        self._trust.start()
        # In the pool: a process that was killed may have left much.
        self.threads.run(self._sweep).addErrback(_sweepFailed)

    def stop(self) -> Deferred[None]:
        """Open no more objects; return a Deferred that fires when all work is done and the threads have ended."""
        self._running = False
        self._trust.stop()
        return self.threads.stop().addCallback(lambda ignored: self._working.close())

    def _sweep(self) -> None:
        swept = self._working.sweep(lambda: self._running)
        if swept.removed:
            _log.info("removed {count} unfinished files that a stopped process left", count=swept.removed)
        if swept.restored:
            _log.warn(
                "a stopped process was replacing {count} objects: they stand beside what took their names",
                count=swept.restored,
            )

    def open(self, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        """See ``IStore.open``."""
        return self._open("", request)

    def openAt(self, filename: str, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        """See ``IFileStore.openAt``; a path where a directory stands is refused."""
        return self._open(os.path.abspath(filename), request)

    def _open(self, filename: str, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        if not self._running:
            raise StoreRefused(OUT_OF_RESOURCES, "store not running")
        if self._trust.degraded and self._isOwn(filename):
            raise StoreRefused(OUT_OF_RESOURCES, "the disk failed to synchronize")
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

        self.threads.run(self.threads.timed, self._create, filename, lead).addCallbacks(opened, told.errback)
        return told

    def _create(self, filename: str, lead: bytes) -> UnnamedFile:
        """Return a new file where it can be given its name; a root that went away is not made again."""
        if self._isOwn(filename):
            self._freeSpace.check()
        if filename and os.path.isdir(filename):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        made: list[str] = []
        try:
            fd, name = self._createIn(os.path.dirname(filename)) if filename else self._createIn(self.root)
        except FileNotFoundError:
            if not filename:
                raise
            fd, name, made = self._createAndMake(os.path.dirname(filename))
        return UnnamedFile(fd, lead, self._buffers, self._directories, self._working, name, made)

    def _createAndMake(self, directory: str) -> tuple[int, str, list[str]]:
        """Return a new file in a directory that is not there, its working name, and the directories that were made."""
        made: list[str] = []
        try:
            for _ in range(ATTEMPTS):
                made += self._directories.make(directory)
                try:
                    return *self._createIn(directory), made
                except FileNotFoundError as error:
                    gone = error  # another object was given up for which it had been made, or found
            raise gone
        except OSError:
            self._directories.remove(made)
            raise

    def _createIn(self, directory: str) -> tuple[int, str]:
        fd = createUnnamed(directory) if self._unnamedFiles else None
        if fd is not None:
            return fd, ""
        return self._working.create(self._working.baseOf(directory))

    def _isOwn(self, filename: str) -> bool:
        """Tell whether an object is for this store, and not for some place of the application's."""
        return not filename or self._directories.isInRoot(filename)

    def _probe(self) -> None:
        """Do once what each object needs of the disk, in the working place."""
        fd, name = self._createIn(self.root)
        file = UnnamedFile(fd, bytes(_PROBE_SIZE), None, self._directories, self._working, name)
        try:
            file.flush()
            file.synchronize()
        finally:
            file.close()
        synchronizeDirectory(self.root)

    def failed(self, refused: BaseException, filename: str) -> None:
        """
        Take note of what failed an object.

        :param filename: where the application wanted it, '' where it was this store's to decide.
        """
        if isinstance(refused.__cause__, NotSynchronized) and self._isOwn(filename):
            self._trust.lost()

    def pathOf(self, head: Head, request: IStoreRequest) -> str:
        """Return the absolute path that the layout gives an object."""
        return f"{self.root}/{self._layout.path(head, request)}"


def _sweepFailed(failure: Failure) -> None:
    _log.error("unfinished files of a stopped process stay: {error}", error=failure.value)
