"""
Files without a name, and how they get one: everything here blocks, and any OSError passes through.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from enum import Enum
from errno import EBADF, EINVAL, EIO, EISDIR, EOPNOTSUPP
from secrets import token_hex

from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.part10 import dataSetOffset, transferSyntaxOf
from dcxtwisted.statuses import CANNOT_UNDERSTAND
from dcxtwisted.stores.directories import Directories, synchronize
from dcxtwisted.stores.shifting import replaceStart
from dcxtwisted.stores.working import INCOMING, WorkingDirectories

# File meta is some hundred bytes; others put private information there, of which this much is looked at.
_HEAD_SIZE = 65536
_BLOCK = 1048576
# Objects that may stand under one name: itself and ~1 to ~999.
_MOST_VARIANTS = 1000
# How often a name may come free, or a directory go, while it is being used, before it is given up.
_ATTEMPTS = 5
# What a file system that has no unnamed files says; EISDIR is said by a kernel that has none.
_NO_UNNAMED_FILES = frozenset({EOPNOTSUPP, EISDIR, EINVAL})


class Held(Exception):
    """Another publisher holds the object under this name until its answer is decided; try again shortly."""


class _Found(Enum):
    """What stands under a name."""

    SAME = "same"
    DIFFERENT = "different"
    GONE = "gone"


def createUnnamed(directory: str) -> int | None:
    """Return the descriptor of a new file without a name, None where the file system has none such."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError as error:
        if error.errno in _NO_UNNAMED_FILES:
            return None
        raise


def linkUnnamed(fd: int, filename: str) -> None:
    """Give an unnamed file a name, which must not be there."""
    # With a descriptor of a directory Python calls linkat, and has it follow; an absolute path leaves that one unused.
    os.link(f"/proc/self/fd/{fd}", filename, src_dir_fd=fd, follow_symlinks=True)


def makesUnnamedFiles(directory: str) -> bool:
    """Tell whether files can be made in a directory without a name and be given one: that takes /proc too."""
    fd = createUnnamed(directory)
    if fd is None:
        return False
    name = os.path.join(directory, f"{INCOMING}-{os.getpid()}-{token_hex(8)}")
    try:
        linkUnnamed(fd, name)
        os.unlink(name)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class UnnamedFile:
    """
    An open file that has no final name yet, and later has one. It is used by one thread at a time.

    :ivar size: bytes of the data set written.
    :ivar filename: the final name once it is decided, '' before.
    """

    __slots__ = (
        "_dataOffset",
        "_directories",
        "_existing",
        "_fd",
        "_lead",
        "_linked",
        "_prepared",
        "_workingName",
        "_workingNames",
        "filename",
        "size",
    )

    def __init__(
        self, fd: int, lead: bytes, directories: Directories, workingNames: WorkingDirectories, workingName: str
    ) -> None:
        """
        :param fd: open for reading and writing, empty; closed by ``close``.
        :param lead: what comes before the data set; written together with its first bytes.
        :param workingName: where the file stands while it has no final name, '' where it stands nowhere.
        """
        self._fd = fd
        self._lead = lead
        self._dataOffset = len(lead)
        self._directories = directories
        self._workingNames = workingNames
        self._workingName = workingName
        self._prepared = False
        self._linked = False
        self._existing = -1
        self.filename = ""
        self.size = 0

    def write(self, data: memoryview | bytes) -> None:
        """Append bytes of the data set, all of them."""
        size = len(data)
        lead = self._lead
        if lead:
            self._lead = b""
            written = os.writev(self._fd, (lead, data)) - len(lead)
            if written < 0:
                self._writeAll(lead[written:])
                written = 0
        else:
            written = os.write(self._fd, data)
        if written != size:
            self._writeAll(data[written:])
        self.size += size

    def _writeAll(self, data: memoryview | bytes) -> None:
        while data:
            written = os.write(self._fd, data)
            if not written:
                raise OSError(EIO, os.strerror(EIO))
            data = data[written:]

    def replaceLead(self, lead: bytes) -> None:
        """Put something else before the data set: all of that moves, where it is longer or shorter."""
        if self._lead:
            self.write(b"")
        replaceStart(self._fd, self._dataOffset, lead, self.size)
        self._dataOffset = len(lead)

    def synchronizeData(self) -> None:
        """Have what is written so far on the disk."""
        os.fdatasync(self._fd)

    def publish(self, filename: str, transferSyntaxUID: str) -> Outcome:
        """
        Give the file its name, or that of an identical one that stands there already, and make that durable.

        :raises Held: nothing was decided; call it again.
        """
        self._prepare()
        outcome = self._place(filename, transferSyntaxUID)
        if self._directories.durable:
            if self._existing >= 0:
                os.fsync(self._existing)
            self._directories.settle(os.path.dirname(self.filename))
        return outcome

    def publishNew(self, filename: str) -> None:
        """
        Give the file its name and nothing more, the quick way of a store that is not durable.

        :raises FileExistsError: something stands there; ``publish`` finds out what.
        """
        self._prepare()
        self._link(filename)

    def _prepare(self) -> None:
        """Do all that can fail before there is a name, and hold the file so that no duplicate is answered early."""
        if self._prepared:
            return
        if self._lead:
            self.write(b"")
        if self._directories.durable:
            os.fsync(self._fd)
        # Closing a duplicate makes a file system report what it would report at the last close, for 0.5 us, and
        # the lock stays.
        os.close(os.dup(self._fd))
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._prepared = True

    def _place(self, filename: str, transferSyntaxUID: str) -> Outcome:
        for candidate in _candidates(filename):
            outcome = self._placeAt(candidate, transferSyntaxUID)
            if outcome is Outcome.NEW and candidate != filename:
                return Outcome.KEPT_BOTH
            if outcome is not None:
                return outcome
        raise StoreRefused(CANNOT_UNDERSTAND, "too many different objects with this UID")

    def _placeAt(self, candidate: str, transferSyntaxUID: str) -> Outcome | None:
        """Return what came of trying one name, None where another object stands there."""
        for _ in range(_ATTEMPTS):
            try:
                self._link(candidate)
                return Outcome.NEW
            except FileExistsError:
                found = self._find(candidate, transferSyntaxUID)
            if found is _Found.SAME:
                return Outcome.IDENTICAL
            if found is _Found.DIFFERENT:
                return None
        raise Held

    def _link(self, filename: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._linkOnce(filename)
                return
            except FileNotFoundError:
                # Looked for only now: usually the directory is there, and asking costs as much as linking.
                self._directories.make(os.path.dirname(filename))
        self._linkOnce(filename)

    def _linkOnce(self, filename: str) -> None:
        if self._workingName:
            os.link(self._workingName, filename)
        else:
            linkUnnamed(self._fd, filename)
        self._linked = True
        self.filename = filename
        if self._workingName:
            self._releaseWorkingName()

    def _find(self, candidate: str, transferSyntaxUID: str) -> _Found:
        """Compare what stands under a name; where it is the same, its descriptor is kept, and its lock with it."""
        try:
            existing = _openRegular(candidate)
        except FileNotFoundError:
            return _Found.GONE
        if existing is None:
            return _Found.DIFFERENT
        found = _Found.DIFFERENT
        try:
            _hold(existing, candidate)
            if not _standsAt(existing, candidate):
                found = _Found.GONE
            elif self._isSame(existing, transferSyntaxUID):
                found = _Found.SAME
                self._existing = existing
                self.filename = candidate
        finally:
            if found is not _Found.SAME:
                os.close(existing)
        return found

    def _isSame(self, existing: int, transferSyntaxUID: str) -> bool:
        head = os.pread(existing, _HEAD_SIZE, 0)
        try:
            offset = dataSetOffset(head)
            if os.fstat(existing).st_size - offset != self.size or transferSyntaxOf(head) != transferSyntaxUID:
                return False
        except ValueError:  # no Part 10 file
            return False
        return all(
            os.pread(existing, _BLOCK, offset + position) == os.pread(self._fd, _BLOCK, self._dataOffset + position)
            for position in range(0, self.size, _BLOCK)
        )

    def discard(self) -> None:
        """Take the name away again, where it still is this file's, and close."""
        try:
            if self._linked and _standsAt(self._fd, self.filename):
                os.unlink(self.filename)
                if self._directories.durable:
                    self._synchronizeRemoval()
        finally:
            self.close()

    def _synchronizeRemoval(self) -> None:
        try:
            synchronize(os.path.dirname(self.filename))
        except OSError:
            pass  # it is gone; that a crash may bring it back, unacknowledged, does no harm

    def close(self) -> None:
        """Let go of everything held; what has a name keeps it."""
        try:
            if self._workingName:
                self._releaseWorkingName()
        finally:
            fd, self._fd = self._fd, -1
            existing, self._existing = self._existing, -1
            try:
                if existing >= 0:
                    os.close(existing)
            finally:
                if fd >= 0:
                    os.close(fd)

    def _releaseWorkingName(self) -> None:
        name, self._workingName = self._workingName, ""
        self._workingNames.release(name)


def _candidates(filename: str) -> Iterator[str]:
    yield filename
    stem, extension = os.path.splitext(filename)
    for number in range(1, _MOST_VARIANTS):
        yield f"{stem}~{number}{extension}"


def _openRegular(filename: str) -> int | None:
    """Return a descriptor of a regular file, not waiting for anybody; None where it is none, or is not ours to read."""
    if not stat.S_ISREG(os.lstat(filename).st_mode):
        return None
    try:
        return os.open(filename, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return None


def _hold(fd: int, filename: str) -> None:
    """
    Lock an open file, which stands or stood under C{filename}.

    :raises Held: somebody else has it.
    """
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != EBADF:
                raise
            # NFS locks exclusively only what is open for writing. Not opened so in the first place: closing it would
            # tell whoever watches the directory that the file was written.
            writable = os.open(filename, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            os.dup2(writable, fd, inheritable=False)
            os.close(writable)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Held from error


def _standsAt(fd: int, filename: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(filename))
    except FileNotFoundError:
        return False
