"""
Where objects go that memory has no room for: files without a name, which are gone with whoever holds them.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from errno import EIO
from mmap import ACCESS_READ, mmap
from os import strerror
from tempfile import TemporaryFile, gettempdir
from threading import get_ident
from typing import IO, Any, Final

from twisted.internet.defer import Deferred, execute

from dcxtwisted.errors import StoreRefused
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.health import FreeSpace
from dcxtwisted.stores.jobs import Jobs, Threads, refusing
from dcxtwisted.stores.shifting import replaceStart

# Bytes that are not written on the reactor's thread, quick or not: 1 MiB takes some 0.3 ms.
_MUCH: Final = 1 << 20
# Bytes of a file that does not go away there: a GiB takes 50 to 150 ms, this much some 1 ms.
_LARGE: Final = 16 << 20


class SpillSpace:
    """
    Room in files, for all objects together.

    Each file takes a descriptor until its object is gone: there are never more than a quarter of those that the process
    may have. None is begun where a file system is nearly full.

    :ivar held: bytes of the objects in them.
    :ivar files: how many there are.
    """

    def __init__(
        self,
        limit: int,
        directory: str | None = None,
        threads: Threads | None = None,
        minimumFreeBytes: int = 0,
        minimumFreeInodes: int = 0,
    ) -> None:
        """
        :param limit: the most that C{held} may be.
        :param directory: on the file system to use; where no file can be made in it, the system's temporary directory.
        :param threads: where a slow file system is waited for; None to wait here.
        :param minimumFreeBytes: what has to be free on the file system of the one or the other; 0 for any.
        :param minimumFreeInodes: likewise.
        """
        self.held = 0
        self.files = 0
        self.threads = threads
        self._limit = limit
        self._minimumFree = minimumFreeBytes, minimumFreeInodes
        self._freeSpace: dict[str, FreeSpace] = {}
        self.directory = directory

    def create(self) -> SpillFile:
        """
        Return a new file; it is made with the first bytes.

        :raises StoreRefused: there are too many.
        """
        if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4 <= self.files:  # negative: no limit
            raise _exhausted()
        self.files += 1
        return SpillFile(self)

    def open(self) -> IO[bytes]:
        """
        Return an open file without a name; in any thread.

        :raises StoreRefused: the disk is nearly full.
        """
        directory = self.directory
        try:
            return self._openIn(gettempdir() if directory is None else directory)
        except OSError:
            if directory is None:
                raise
            return self._openIn(gettempdir())

    def _openIn(self, directory: str) -> IO[bytes]:
        freeSpace = self._freeSpace.get(directory)
        if freeSpace is None:
            seconds = time.monotonic if self.threads is None else self.threads.seconds
            freeSpace = FreeSpace(directory, *self._minimumFree, seconds, "objects that memory has no room for")
            self._freeSpace[directory] = freeSpace
        freeSpace.check()
        return TemporaryFile(buffering=0, dir=directory)

    def reserve(self, size: int) -> None:
        """
        Count bytes that are about to be written.

        :raises StoreRefused: there is no room for them.
        """
        if self.held + size > self._limit:
            raise _exhausted()
        self.held += size

    def release(self, size: int) -> None:
        """A file with so many bytes counts no more."""
        self.held -= size
        self.files -= 1

    def submit(self, tell: Callable[[Any], object], *call: Any) -> None:
        """Call C{tell} with what a function gives; it is called in a thread, where there are any."""
        if self.threads is None:
            execute(lambda: refusing(*call)).addBoth(tell)
        else:
            self.threads.submit(tell, *call)


class SpillFile:
    """The bytes of one object in a file. It is used by one thread at a time."""

    __slots__ = ("_file", "_isClosed", "_jobs", "_quick", "_size", "_space")

    def __init__(self, space: SpillSpace) -> None:
        self._space = space
        self._file: IO[bytes] | None = None
        self._jobs = Jobs(space.submit)
        self._size = 0
        self._quick = True
        self._isClosed = False

    def write(self, data: memoryview | bytes) -> Deferred[None] | None:
        """
        Append bytes, all of them; as ``IStoreSink.write``.

        :param data: a view is valid during the call only.
        :raises StoreRefused: there is no room for them.
        """
        size = len(data)
        self._space.reserve(size)
        self._size += size
        threads = self._space.threads
        if threads is None:
            refusing(self._write, data)
            return None
        started = threads.seconds()
        if not self._quick or size > _MUCH or threads.isSlow(started):
            return self._jobs.run(self._write, bytes(data))
        refusing(self._write, data)
        self._quick = threads.wasQuick(started)
        return None

    def _write(self, data: memoryview | bytes) -> None:
        file = self._file
        if file is None:
            file = self._file = self._space.open()
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                written = file.write(view[done:])
                if not written:
                    raise OSError(EIO, strerror(EIO))
                done += written

    def replaceStart(self, old: int, start: bytes) -> Deferred[None]:
        """
        Put C{start} in place of the first C{old} bytes; return a Deferred that fires when that is done.

        It fails with StoreRefused. What there is more then, some bytes, is not refused for want of room.
        """
        rest, added = self._size - old, len(start) - old
        self._size += added
        self._space.held += added
        assert self._file is not None
        return self._jobs.run(replaceStart, self._file.fileno(), old, start, rest)

    def mapped(self) -> MappedFile:
        """
        Return all bytes written, for as long as anybody holds them; nothing more may be written.

        :raises StoreRefused: they cannot be had.
        """
        assert self._file is not None
        mapping = refusing(mmap, self._file.fileno(), 0, access=ACCESS_READ)
        self._file.close()  # what is mapped has a descriptor of its own
        return MappedFile(mapping, self._space)

    def close(self) -> Deferred[None]:
        """Let go of the file, once nothing is written to it any more; what is mapped stays, and counts no more."""
        if not self._isClosed:
            self._isClosed = True
            # Not what the caller gets: one that waits no longer cancels that, and the room would be lost.
            self._jobs.idle().addCallback(self._close)
        # Closing may be a job of its own, and the room is there when it is done.
        return self._jobs.idle().addCallback(lambda ignored: self._jobs.idle())

    def _close(self, ignored: None) -> None:
        if self._size > _LARGE and self._file is not None and not self._file.closed:
            self._jobs.run(self._closeFile).addBoth(lambda ignored: self._space.release(self._size))
        else:
            self._closeFile()
            self._space.release(self._size)

    def _closeFile(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                pass  # of what was written, for which nobody asks any more


class MappedFile:
    """
    The bytes of one object in a file, for as long as anybody holds this or a view of it.

    The file goes with the last of them: not on the thread that this was made on, the reactor's, unless a view is the
    last.
    """

    __slots__ = ("_mapping", "_space", "_thread")

    def __init__(self, mapping: mmap, space: SpillSpace) -> None:
        self._mapping = [mapping]
        self._space = space
        self._thread = get_ident()

    def view(self) -> memoryview:
        """Return a view of all of it."""
        return memoryview(self._mapping[0])

    def __bytes__(self) -> bytes:
        return bytes(self._mapping[0])

    def __len__(self) -> int:
        return len(self._mapping[0])

    def __del__(self) -> None:
        # In a list, so that this thread holds nothing more of it when the other has it.
        if len(self) > _LARGE and get_ident() == self._thread:
            self._space.submit(lambda result: None, _unmap, self._mapping)
        else:
            _unmap(self._mapping)


def _unmap(mapping: list[mmap]) -> None:
    # Not left to what happens when nothing refers to it: that lets no other thread run meanwhile.
    try:
        mapping[0].close()
    except BufferError:
        pass  # it goes with the last view
    mapping.clear()


def _exhausted() -> StoreRefused:
    return StoreRefused(OUT_OF_RESOURCES, "memory budget exhausted")
