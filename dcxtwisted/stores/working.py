"""
Working directories: where files stand until they have a name, on file systems that have no unnamed files.

A process has ``<base>/.incoming/<pid>-<random>/`` to itself and, for as long as it lives, an exclusive lock on the file
``lock`` in it; what a dead process left is swept by whoever can take that lock. A file that was being replaced
(``replacing``) has a symbolic link beside it, its name with ``NAME_OF``; it is given a name again before it is swept.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from itertools import count
from secrets import token_hex
from threading import Lock
from typing import NamedTuple

from dcxtwisted.stores.standing import restore
from dcxtwisted.stores.synchronizing import synchronizeDirectory

#: The name of the directory that holds working directories; no layout makes a path that starts with it.
INCOMING = ".incoming"
#: What follows the working name of a file that is being replaced, in the link that leads to where it stood.
NAME_OF = ".name"

_OURS = re.compile(r"[0-9]+-[0-9a-f]{16}")
_LOCK = "lock"
# How often a sweeper may come between the making and the locking of a directory, which takes microseconds.
_ATTEMPTS = 10


class Swept(NamedTuple):
    """What a sweep has found."""

    removed: int  #: files that were not finished
    restored: int  #: objects that were being replaced, and have a name again


class _WorkingDirectory:
    """
    One locked working directory.

    :ivar files: how many files in it are in use.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.files = 0
        self._incoming = os.path.join(base, INCOMING)
        self._names = count()
        for _ in range(_ATTEMPTS):
            self.path = os.path.join(self._incoming, f"{os.getpid()}-{token_hex(8)}")
            lock = _claimed(self._incoming, self.path)
            if lock is not None:
                self._lock = lock
                return
        raise BlockingIOError("no working directory could be locked")

    def reserve(self) -> str:
        """Return a name that no file has; ``files`` counts it."""
        self.files += 1
        return os.path.join(self.path, str(next(self._names)))

    def create(self) -> tuple[int, str]:
        name = self.reserve()
        try:
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), name
        except BaseException:
            self.files -= 1
            raise

    def remove(self) -> None:
        """Remove the directory, where that can be done; files left in it stay, for the next sweep."""
        try:
            if os.listdir(self.path) == [_LOCK]:
                os.unlink(os.path.join(self.path, _LOCK))
                os.rmdir(self.path)
        except OSError:
            pass  # removed by hand, or the next sweep's: no object's fate hangs on it
        finally:
            os.close(self._lock)
        _removeEmpty(self._incoming)


class WorkingDirectories:
    """
    The working directories of this process: one for each base directory in use. It may be used from any thread.

    That of the store's root stays until ``close``; any other goes with the last file in it, and the directories that
    hold it with it, so that an application's own directories are left as they were.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._directories: dict[str, _WorkingDirectory] = {}
        self._byPath: dict[str, _WorkingDirectory] = {}
        self._mutex = Lock()
        self._closed = False

    def baseOf(self, directory: str) -> str:
        """Return the base for what is to stand in a directory: the root, where that is on the same file system."""
        if directory == self._root:
            return directory
        inside = directory.startswith(self._root + "/")
        return self._root if inside and os.stat(directory).st_dev == os.stat(self._root).st_dev else directory

    def create(self, base: str) -> tuple[int, str]:
        """Return the descriptor and the name of a new file on the file system of C{base}; ``release`` its name."""
        with self._mutex:
            try:
                try:
                    return self._in(base).create()
                except FileNotFoundError:
                    self._lost(base)
                    return self._in(base).create()
            finally:
                self._removeUnused(self._directories.get(base))

    def reserve(self, base: str) -> str:
        """Return a name that no file has, on the file system of C{base}; ``release`` it."""
        with self._mutex:
            try:
                try:
                    os.stat(self._in(base).path)
                except FileNotFoundError:
                    self._lost(base)
                return self._in(base).reserve()
            finally:
                self._removeUnused(self._directories.get(base))

    def _in(self, base: str) -> _WorkingDirectory:
        directory = self._directories.get(base)
        if directory is None:
            directory = _WorkingDirectory(base)
            self._directories[base] = self._byPath[directory.path] = directory
            if base != self._root:
                _swept(base)
        return directory

    def _lost(self, base: str) -> None:
        """It was removed by hand, or its base was: another takes its place, and it goes with the last of its files."""
        self._removeUnused(self._directories.pop(base, None))

    def _removeUnused(self, directory: _WorkingDirectory | None) -> None:
        if directory is None or directory.files:
            return
        if self._closed or directory is not self._directories.get(self._root):
            if self._directories.get(directory.base) is directory:
                del self._directories[directory.base]
            del self._byPath[directory.path]
            directory.remove()

    def release(self, name: str) -> None:
        """Remove a working name, where it still stands; the file lives on under its other name, if it has one."""
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass  # removed by hand, or renamed; nothing is left to remove
        finally:
            self.leave(name)

    def leave(self, name: str) -> None:
        """Let go of a working name and leave what has it to the next start."""
        with self._mutex:
            directory = self._byPath.get(os.path.dirname(name))
            if directory is not None:
                directory.files -= 1
                self._removeUnused(directory)

    def tryOut(self) -> None:
        """
        Do once what each object needs.

        :raises OSError: the file system of the root cannot do it; all is closed.
        """
        try:
            self._tryOut()
        except OSError:
            self.close()
            raise

    def _tryOut(self) -> None:
        fd, name = self.create(self._root)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(name, f"{name}.linked")
            os.unlink(f"{name}.linked")
        finally:
            try:
                os.close(fd)
            finally:
                self.release(name)

    def sweep(self, isWanted: Callable[[], bool] = lambda: True) -> Swept:
        """
        Remove what dead processes left in the store's root.

        :param isWanted: asked before each file whether to go on.
        """
        return _swept(self._root, isWanted)

    def close(self) -> None:
        """Remove the working directories that are not in use, and each of the others when it no longer is."""
        with self._mutex:
            self._closed = True
            for directory in list(self._directories.values()):
                self._removeUnused(directory)


def _claimed(incoming: str, path: str) -> int | None:
    """
    Make a working directory and return the descriptor that locks it, or None where a sweeper was quicker.

    :raises FileNotFoundError: the base directory is not there; it is not made.
    """
    try:
        os.mkdir(incoming)
    except FileExistsError:
        pass  # others work in it, or did
    name = os.path.join(path, _LOCK)
    lock = -1
    try:
        os.mkdir(path)
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(name)):
            claimed, lock = lock, -1
            return claimed
    except BlockingIOError:
        pass  # a sweeper has it
    except FileNotFoundError:
        _unmake(path)  # a sweeper had it and removed it
    except BaseException:
        _unmake(path)
        raise
    finally:
        if lock >= 0:
            os.close(lock)
    return None


def _unmake(path: str) -> None:
    """Remove a directory that was made and could not be locked."""
    try:
        os.unlink(os.path.join(path, _LOCK))
    except OSError:
        pass  # it did not come to that; or a sweep will
    _removeEmpty(path)
    _removeEmpty(os.path.dirname(path))


def _swept(base: str, isWanted: Callable[[], bool] = lambda: True) -> Swept:
    incoming = os.path.join(base, INCOMING)
    try:
        with os.scandir(incoming) as entries:
            paths = [
                entry.path for entry in entries if _OURS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return Swept(0, 0)
    swept = [_sweptOne(path, base, isWanted) for path in paths]
    _removeEmpty(incoming)
    return Swept(sum(each.removed for each in swept), sum(each.restored for each in swept))


def _sweptOne(path: str, base: str, isWanted: Callable[[], bool]) -> Swept:
    """Remove a working directory unless its process lives."""
    lockName = os.path.join(path, _LOCK)
    removed = restored = 0
    try:
        lock = os.open(lockName, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        _removeEmpty(path)  # without a lock file it never held anything, or was swept before
        return Swept(0, 0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = set(os.listdir(path)) - {_LOCK}
        for name in [name for name in left if name + NAME_OF in left]:
            restored += _restored(path, name, base)
            left -= {name, name + NAME_OF}
        for name in left:
            if not isWanted():
                return Swept(removed, restored)
            os.unlink(os.path.join(path, name))
            removed += not name.endswith(NAME_OF)
        os.unlink(lockName)
        os.rmdir(path)
    except OSError:
        pass  # its process lives, or it cannot be removed: the next start tries again
    finally:
        os.close(lock)
    return Swept(removed, restored)


def _restored(path: str, name: str, base: str) -> bool:
    """
    See that a file that was being replaced has a name, durably, then remove its working name.

    True where it had none: then its place is another's, who may have been acknowledged, and it stands beside.
    """
    kept = os.path.join(path, name)
    filename = os.path.normpath(os.path.join(path, os.readlink(kept + NAME_OF)))
    linked = os.lstat(kept).st_nlink
    os.makedirs(os.path.dirname(filename), exist_ok=True)
    directory = os.path.dirname(restore(kept, filename))
    isRestored = os.lstat(kept).st_nlink > linked
    while True:
        synchronizeDirectory(directory)
        if directory in (base, os.path.dirname(directory)):
            break
        directory = os.path.dirname(directory)
    os.unlink(kept + NAME_OF)
    os.unlink(kept)
    return isRestored


def _removeEmpty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # in use, or gone
