"""
Where receivers store during a run, and what keeps one run from slowing the next.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from struct import pack, unpack
from typing import Final

# From <linux/fs.h>, for 64-bit systems.
_GETFLAGS: Final = 0x80086601
_SETFLAGS: Final = 0x40086602
_TOPDIR: Final = 0x00020000

_MOST_TOUCHED: Final = 2 << 30

# A file takes 0.01 to 0.02 ms; where inodes were deleted ten times as long.
_TRIES: Final = 50
_PROBES: Final = 32
_QUICK: Final = 60e-6


def spreadDirectories(directory: Path) -> None:
    """
    Let ext4 put every directory made in this one into a block group of its own; elsewhere, do nothing.

    For minutes it steps, one by one, over inodes that were deleted in the group: after removing a store of some
    thousand files beside it each new file took 0.8 ms instead of 0.02 ms.
    """
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            (flags,) = unpack("i", ioctl(descriptor, _GETFLAGS, pack("i", 0)))
            ioctl(descriptor, _SETFLAGS, pack("i", flags | _TOPDIR))
        finally:
            os.close(descriptor)


def freshDirectory(scratch: Path) -> Path:
    """
    Return a new directory, in which no new file has to wait for inodes that were deleted a while ago.

    See spreadDirectories. What was deleted before, by whoever, lies somewhere on the disk: it is tried how long a few
    files take. They stay, as hidden ones: deleting them is more of the same. After some tries the last one has to do.
    """
    spreadDirectories(scratch)
    for number in range(_TRIES):
        directory = scratch / f"store-{number}"
        directory.mkdir()
        began = time.perf_counter()
        for file in range(_PROBES):
            os.close(os.open(directory / f".probe-{file}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        if time.perf_counter() - began < _PROBES * _QUICK:
            break
    return directory


def touchMemory(directory: Path, size: int) -> None:
    """
    Fill as much of the page cache as a run will, and free it again.

    In a virtual machine memory that was free for a while is the host's, and getting it back costs a write more than
    all else: whichever receiver came first would pay for the others.
    """
    block = bytes(1 << 20)
    with (directory / "touched").open("wb", buffering=0) as file:
        for _ in range(min(size, _MOST_TOUCHED) >> 20):
            file.write(block)
        file.truncate(0)


def countFiles(directory: Path) -> int:
    """Return how many files stand below a store directory, without hidden ones and what is in hidden directories."""
    count = 0
    for _, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        count += sum(not name.startswith(".") for name in names)
    return count


def emptyFiles(directory: Path) -> None:
    """Free the space of all files, but delete none: that is for after the last round, see spreadDirectories."""
    for path, _, names in os.walk(directory):
        for name in names:
            os.truncate(os.path.join(path, name), 0)
