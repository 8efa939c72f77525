"""
Directories that objects stand in: made, and durable, before an object in them is acknowledged; removed where they were
made for one that was not kept.

What goes away is empty, which the system sees to (rmdir), and may be what another object, of this process or another,
has just found there. For that one it is as if it had never been: it makes it again (``make``), as often as it takes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from errno import ENOENT, ENOTDIR
from typing import Final

from dcxtwisted.stores.synchronizing import Doubts, synchronizeDirectory

#: How often a directory may go, while it is being made or used, before it is given up.
ATTEMPTS: Final = 5
# Directories remembered as durable, some 150 bytes each.
_MOST_SETTLED = 16384
# Directories remembered as made for objects that are gone, likewise.
_MOST_ABANDONED: Final = 4096


class Directories:
    """
    Makes directories, and makes their entries durable once for each.

    :ivar durable: whether anything is to be synchronized at all.
    :ivar doubts: files in them that may not be durable.
    """

    def __init__(self, root: str, durable: bool) -> None:
        self.durable = durable
        self.doubts = Doubts()
        self._root = root
        self._settled: dict[str, tuple[int, int]] = {}  # with device and inode: a directory may be made anew
        # Made for objects that were not kept, and not empty when these went: the last of the others takes them along.
        self._abandoned: dict[str, None] = {}

    def makeRoot(self) -> None:
        """Make the store's root, durably where it was not there."""
        missing = []
        directory = self._root
        while not os.path.isdir(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        os.makedirs(self._root, exist_ok=True)
        if self.durable:
            for directory in missing:
                synchronizeDirectory(os.path.dirname(directory))

    def make(self, directory: str) -> list[str]:
        """
        Make a directory that is not there, and those above it; return what was made, from the top down.

        What was known about any of them is forgotten. Where it fails, what was made is removed again.
        """
        self.forget(directory)
        made: list[str] = []
        try:
            for _ in range(ATTEMPTS):
                try:
                    _make(directory, made)
                    return made
                except FileNotFoundError:
                    pass  # somebody has removed what had just been there
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), directory)
        except OSError:
            self.remove(made)
            raise

    def remove(self, made: Iterable[str], directory: str = "") -> None:
        """
        Remove directories that were made for an object that is not kept, and are empty.

        :param made: those, from the top down.
        :param directory: where the object was, '' where it was nowhere: those above it go too where they were made for
            objects that are gone by now.
        """
        candidates = set(made)
        if self._abandoned and directory:
            candidates.update(each for each in _upwards(directory) if each in self._abandoned)
        candidates.discard(self._root)
        for each in sorted(candidates, key=len, reverse=True):
            # Before it goes: as soon as it has, another process may make it again, with the same inode.
            self._settled.pop(each, None)
            try:
                os.rmdir(each)
            except FileNotFoundError:
                self._abandoned.pop(each, None)
            except OSError:
                self._abandon(each)
            else:
                self._abandoned.pop(each, None)

    def _abandon(self, directory: str) -> None:
        if len(self._abandoned) >= _MOST_ABANDONED:
            self._abandoned.clear()
        self._abandoned[directory] = None

    def forget(self, directory: str) -> None:
        """Have a directory, and those above it, made durable anew the next time: they may be others by then."""
        for each in _upwards(directory):
            self._settled.pop(each, None)

    def settle(self, directory: str) -> None:
        """
        Make the entries of a directory durable, its own entry, and those of the directories it is in.

        Inside the store that ends at the root, elsewhere at the top of the file system.
        """
        identity: tuple[int, int] | None = synchronizeDirectory(directory)
        if self._settled.get(directory, identity) != identity:
            # Made anew by somebody else, and those above it perhaps too.
            self.forget(directory)
        walked = {}
        while directory != self._root and (identity is None or self._settled.get(directory) != identity):
            walked[directory] = identity or (0, 0)
            if os.path.ismount(directory):
                break
            directory = os.path.dirname(directory)
            try:
                identity = synchronizeDirectory(directory)
            except PermissionError:
                if self.isInRoot(directory):
                    raise
                identity = None  # cannot be opened, only passed through: nothing can be done for it
        if walked:
            if len(self._settled) > _MOST_SETTLED:
                self._settled.clear()
            self._settled.update(walked)

    def isInRoot(self, path: str) -> bool:
        """Tell whether a path is the root, or inside it."""
        return path == self._root or path.startswith(self._root + "/")


def _upwards(directory: str) -> Iterator[str]:
    """Give a directory and those above it."""
    while directory != os.path.dirname(directory):
        yield directory
        directory = os.path.dirname(directory)


def _make(directory: str, made: list[str]) -> None:
    """
    Make a directory where there is none, and those above it; add what was made.

    :raises FileNotFoundError: it, or one above it, was there and is no more.
    """
    try:
        isMade = _mkdir(directory)
    except FileNotFoundError:
        above = os.path.dirname(directory)
        if above == directory:
            raise
        _make(above, made)
        isMade = _mkdir(directory)
    if isMade:
        made.append(directory)


def _mkdir(directory: str) -> bool:
    """
    Make a directory; False where it is there already.

    :raises FileNotFoundError: the one above it is not there, or it was and is no more.
    """
    try:
        os.mkdir(directory)
    except FileNotFoundError:
        raise
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(directory).st_mode):
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), directory) from None
        return False
    except OSError:
        # That it may not be made may be said before that it is there.
        if not os.path.isdir(directory):
            raise
        return False
    return True
