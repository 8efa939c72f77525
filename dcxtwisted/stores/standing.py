"""
What stands under a name already: held against other publishers, and compared.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from enum import Enum
from errno import EBADF, EEXIST, ENOENT
from typing import Final

from dcxtwisted.part10 import SOPInstanceUIDOf, dataSetOffset, transferSyntaxOf

# File meta is some hundred bytes; others put private information there, of which this much is looked at.
_HEAD_SIZE: Final = 65536
# What is compared at a time. All of 500 KB takes 55 us of CPU so, and 430 us in one piece: memory for that is had from
# the system anew each time, and every page of it faults.
_BLOCK: Final = 65536
# What is compared first: the start, the end, and a piece in the middle. Most that differs does so in one of them, and a
# sender that has one UID for all its images has each one compared with all before it: 20 us each, of whatever size.
_FIRST: Final = 16384
# Objects that may stand under one name: itself and ~1 to ~999.
_MOST_VARIANTS = 1000


class Held(Exception):
    """Another publisher holds the object under this name until its answer is decided; try again shortly."""


class Found(Enum):
    """What stands under a name."""

    NOTHING = "nothing"
    SAME = "same"  #: the same transfer syntax and data-set bytes
    RIVAL = "rival"  #: another object of the same SOP instance UID
    OTHER = "other"  #: whatever else


class StandingFile:
    """
    A regular file that stands under a name, open and locked; ``close`` lets go of it.

    :ivar identity: device and inode.
    """

    __slots__ = ("fd", "filename", "identity", "size")

    def __init__(self, fd: int, filename: str, status: os.stat_result) -> None:
        self.fd = fd
        self.filename = filename
        self.identity = status.st_dev, status.st_ino
        self.size = status.st_size

    @classmethod
    def hold(cls, filename: str) -> StandingFile | None:
        """
        Return what stands under a name; None where it is no regular file, or not ours to read.

        :raises FileNotFoundError: nothing does, or no longer.
        :raises Held: another publisher has it.
        """
        fd = _openRegular(filename)
        if fd is None:
            return None
        try:
            _lock(fd, filename)
            status = os.fstat(fd)
            if not os.path.samestat(status, os.lstat(filename)):
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, filename, status)

    def compare(self, fd: int, offset: int, size: int, transferSyntaxUID: str, SOPInstanceUID: str) -> Found:
        """
        Tell what it is beside another object.

        :param fd: the file of the other one, whose data set begins at ``offset`` and has ``size`` bytes.
        """
        head = os.pread(self.fd, _HEAD_SIZE, 0)
        try:
            ownOffset = dataSetOffset(head)
            ownSyntax = transferSyntaxOf(head)
        except ValueError:  # no Part 10 file
            return Found.OTHER
        if (
            self.size - ownOffset == size
            and ownSyntax == transferSyntaxUID
            and all(
                _read(self.fd, ownOffset + position, length) == _read(fd, offset + position, length)
                for position, length in _pieces(size)
            )
        ):
            return Found.SAME
        try:
            return Found.RIVAL if SOPInstanceUIDOf(head) == SOPInstanceUID else Found.OTHER
        except ValueError:
            return Found.OTHER

    def close(self) -> None:
        """Let others have it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """Give what is compared at a time: position and size."""
    yield 0, min(_FIRST, size)
    if size > 4 * _FIRST:
        yield size - _FIRST, _FIRST
        yield size // 2, _FIRST
    for position in range(_FIRST, size, _BLOCK):
        yield position, min(_BLOCK, size - position)


def _read(fd: int, position: int, size: int) -> bytes:
    """Return a piece of what is there, whole."""
    block = os.pread(fd, size, position)
    while len(block) < size:
        more = os.pread(fd, size - len(block), position + len(block))
        if not more:
            break
        block += more
    return block


def _openRegular(filename: str) -> int | None:
    """Return a descriptor of a regular file, not waiting for anybody; None where it is none, or is not ours to read."""
    if not stat.S_ISREG(os.lstat(filename).st_mode):
        return None
    try:
        return os.open(filename, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return None


def _lock(fd: int, filename: str) -> None:
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != EBADF:
                raise
            # NFS locks exclusively only what is open for writing. Not opened so in the first place: closing it would
            # tell whoever watches the directory that the file was written.
            writable = os.open(filename, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.dup2(writable, fd, inheritable=False)
            finally:
                os.close(writable)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Held from error


def standsAt(fd: int, filename: str) -> bool:
    """Tell whether an open file is what stands under a name."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(filename))
    except FileNotFoundError:
        return False


def candidates(filename: str) -> Iterator[str]:
    """Give the names that an object may have: the one it should, then those beside it."""
    yield filename
    stem, extension = os.path.splitext(filename)
    for number in range(1, _MOST_VARIANTS):
        yield f"{stem}~{number}{extension}"


def restore(kept: str, filename: str) -> str:
    """
    Give a file that was replaced a name again, and return it: its own where that is free, else one beside it.

    What stands under any of them is left; the caller makes the directory durable.
    """
    status = os.lstat(kept)
    for candidate in candidates(filename):
        try:
            os.link(kept, candidate)
            return candidate
        except FileExistsError:
            try:
                if os.path.samestat(status, os.lstat(candidate)):
                    return candidate
            except FileNotFoundError:
                pass  # gone meanwhile; the next will do
    raise FileExistsError(EEXIST, os.strerror(EEXIST))
