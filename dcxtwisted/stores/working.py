"""
Working directories: where files stand until they have a name, on file systems that have no unnamed files.

A process has ``<base>/.incoming/<pid>-<random>/`` to itself and, for as long as it lives, an exclusive lock on the file
``lock`` in it; what a dead process left is swept by whoever can take that lock.
"""

from __future__ import annotations

import fcntl
import os
import re
from itertools import count
from secrets import token_hex
from threading import Lock

#: The name of the directory that holds working directories; no layout makes a path that starts with it.
INCOMING = ".incoming"

_OURS = re.compile(r"[0-9]+-[0-9a-f]{16}")
_LOCK = "lock"
# How often a sweeper may come between the making and the locking of a directory, which takes microseconds.
_ATTEMPTS = 10


class _WorkingDirectory:
    """
    One locked working directory.

    :ivar files: how many files in it are in use.
    """

    def __init__(self, base: str) -> None:
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

    def create(self) -> tuple[int, str]:
        name = os.path.join(self.path, str(next(self._names)))
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self.files += 1
        return fd, name

    def remove(self) -> None:
        """Remove the directory; files left in it stay, for the next sweep."""
        try:
            if os.listdir(self.path) == [_LOCK]:
                os.unlink(os.path.join(self.path, _LOCK))
                os.rmdir(self.path)
        except FileNotFoundError:
            pass  # removed by hand
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
        self._mutex = Lock()
        self._closed = False

    def create(self, base: str) -> tuple[int, str]:
        """Return the descriptor and the name of a new file on the file system of C{base}; ``release`` its name."""
        with self._mutex:
            directory = self._directories.get(base)
            if directory is not None:
                try:
                    return directory.create()
                except FileNotFoundError:
                    del self._directories[base]  # removed by hand
                    directory.remove()
            directory = self._directories[base] = _WorkingDirectory(base)
            if base != self._root:
                _swept(base)
            return directory.create()

    def release(self, name: str) -> None:
        """Remove a working name, where it still stands; the file lives on under its other name, if it has one."""
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass  # removed by hand; nothing is left to remove
        path = os.path.dirname(name)
        base = os.path.dirname(os.path.dirname(path))
        with self._mutex:
            directory = self._directories.get(base)
            if directory is not None and directory.path == path:
                directory.files -= 1
                if not directory.files and (self._closed or base != self._root):
                    self._directories.pop(base).remove()

    def tryOut(self) -> None:
        """
        Do once what each object needs.

        :raises OSError: the file system of the root cannot do it; all is closed.
        """
        fd, name = self.create(self._root)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(name, f"{name}.linked")
            os.unlink(f"{name}.linked")
        except OSError:
            self._closed = True
            raise
        finally:
            os.close(fd)
            self.release(name)

    def sweep(self) -> int:
        """Remove what dead processes left in the store's root, and return how many files that were."""
        return _swept(self._root)

    def close(self) -> None:
        """Remove the working directories that are not in use, and each of the others when it no longer is."""
        with self._mutex:
            self._closed = True
            for base, directory in list(self._directories.items()):
                if not directory.files:
                    self._directories.pop(base).remove()


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
    try:
        os.mkdir(path)
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(name)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass  # a sweeper has it, or had it and removed it
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _swept(base: str) -> int:
    incoming = os.path.join(base, INCOMING)
    try:
        with os.scandir(incoming) as entries:
            paths = [
                entry.path for entry in entries if _OURS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return 0
    return sum(map(_sweptOne, paths))


def _sweptOne(path: str) -> int:
    """Remove a working directory unless its process lives; return how many files were in it."""
    lockName = os.path.join(path, _LOCK)
    try:
        lock = os.open(lockName, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        _removeEmpty(path)  # without a lock file it never held anything, or was swept before
        return 0
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = [name for name in os.listdir(path) if name != _LOCK]
        for name in left:
            os.unlink(os.path.join(path, name))
        os.unlink(lockName)
        os.rmdir(path)
        return len(left)
    except OSError:
        return 0  # its process lives, or it cannot be removed: the next start tries again
    finally:
        os.close(lock)


def _removeEmpty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # in use, or gone
