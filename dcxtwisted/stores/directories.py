"""
Directories that objects stand in: made, and durable, before an object in them is acknowledged.
"""

from __future__ import annotations

import os
from errno import ENOTDIR

from dcxtwisted.stores.synchronizing import Doubts, synchronizeDirectory

# Directories remembered as durable, some 150 bytes each.
_MOST_SETTLED = 16384


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

    def make(self, directory: str) -> None:
        """Make a directory that is not there, and forget what was known about it and those above it."""
        self._forget(directory)
        try:
            os.makedirs(directory, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), directory) from error

    def _forget(self, directory: str) -> None:
        while directory != os.path.dirname(directory):
            self._settled.pop(directory, None)
            directory = os.path.dirname(directory)

    def settle(self, directory: str) -> None:
        """
        Make the entries of a directory durable, its own entry, and those of the directories it is in.

        Inside the store that ends at the root, elsewhere at the top of the file system.
        """
        identity: tuple[int, int] | None = synchronizeDirectory(directory)
        if self._settled.get(directory, identity) != identity:
            # Made anew by somebody else, and those above it perhaps too.
            self._forget(directory)
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
