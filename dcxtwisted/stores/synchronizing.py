"""
What is written, made durable; and what is remembered where that failed.

After a failed fsync a system may have dropped what it could not write, and say of the next one that all is well: what
has failed once is not asked again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from errno import EINVAL, ENOSYS, EPERM
from typing import Any, Final

# Files remembered as not durable, some 200 bytes each.
_MOST_DOUBTS: Final = 4096


# SYNC_FILE_RANGE_WRITE of <fcntl.h>.
_WRITE: Final = 2
# What is said where a disk cannot be told to begin, or nobody may tell it.
_CANNOT_BEGIN: Final = frozenset({EINVAL, ENOSYS, EPERM})


def _rangeSynchronizer() -> Callable[..., Any] | None:
    """Return sync_file_range, which Python does not have; None where the system has none either."""
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


_synchronizeRange: Final = _rangeSynchronizer()


class NotSynchronized(OSError):
    """What was written may not be on the disk, whatever a second attempt would say."""


def synchronizeFile(fd: int) -> None:
    """
    Make a file durable, its data and what is needed to find them.

    :raises NotSynchronized: it may never be.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        raise NotSynchronized(error.errno, error.strerror) from error


def synchronizeData(fd: int) -> None:
    """
    Have what is written to a file so far on the disk.

    :raises NotSynchronized: it may never be.
    """
    try:
        os.fdatasync(fd)
    except OSError as error:
        raise NotSynchronized(error.errno, error.strerror) from error


def beginToSynchronize(fd: int) -> None:
    """
    Let the disk begin with what is written to a file, where it can be told to, and wait for nothing.

    :raises NotSynchronized: it said at once that it cannot have them.
    """
    if _synchronizeRange is not None and _synchronizeRange(fd, 0, 0, _WRITE):
        number = ctypes.get_errno()
        if number not in _CANNOT_BEGIN:
            raise NotSynchronized(number, os.strerror(number))


def synchronizeDirectory(directory: str) -> tuple[int, int]:
    """
    Make the entries of a directory durable; return its device and inode.

    :raises NotSynchronized: they may never be.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(fd)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != EINVAL:  # what a file system says that has nothing to synchronize in directories
                raise NotSynchronized(error.errno, error.strerror) from error
    finally:
        os.close(fd)
    return status.st_dev, status.st_ino


class Doubts:
    """Files that stand under a name and may not be durable. A file that got the number of one is doubted too."""

    def __init__(self) -> None:
        self._identities: dict[tuple[int, int], None] = {}

    def add(self, identity: tuple[int, int]) -> None:
        """Doubt a file, by its device and inode; where there are too many, forget the first."""
        self._identities[identity] = None
        if len(self._identities) > _MOST_DOUBTS:
            del self._identities[next(iter(self._identities))]

    def remove(self, identity: tuple[int, int]) -> None:
        """Its file is gone."""
        self._identities.pop(identity, None)

    def __contains__(self, identity: tuple[int, int]) -> bool:
        return identity in self._identities
