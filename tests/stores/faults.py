"""
A system whose calls fail as told, and a model of what of its files would outlive a power cut.

The modules of the store see it in place of ``os`` and ``fcntl``. All calls but fsync are real: what is durable is the
model's to say, which makes thousands of cases quick.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import attrs

import dcxtwisted.stores

#: What each call may fail with.
ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOENT,
    errno.EACCES,
)
#: Calls that change something, which a disk that has died refuses one and all.
CHANGING = frozenset({"write", "writev", "fsync", "fdatasync", "link", "symlink", "rename", "unlink", "mkdir", "rmdir"})
# Calls of which the system may say that they failed when they were done, as NFS does where an answer gets lost.
_MAY_BE_DONE = frozenset({"link", "rename", "unlink", "symlink"})
_KEPT_UNDER = ".name"


class Killed(BaseException):
    """The process is no more: neither this call nor any that follows is done."""


@attrs.frozen
class Fault:
    """
    What goes wrong.

    :ivar at: with which call, counted from 1.
    :ivar number: the errno.
    :ivar how: 'fails'; 'done': fails, but is done; 'short': writes half; 'dead': and so does every call after it that
        changes something; 'killed'.
    """

    at: int
    number: int = errno.EIO
    how: str = "fails"

    def __str__(self) -> str:
        return f"{self.how} {errno.errorcode[self.number]} at {self.at}"


def faultsOf(calls: list[str]) -> list[Fault]:
    """Return every fault there can be in a run of calls."""
    found = []
    for at, call in enumerate(calls, 1):
        found += [Fault(at, number) for number in ERRNOS]
        found += [Fault(at, how="killed"), Fault(at, errno.EIO, "dead"), Fault(at, errno.EROFS, "dead")]
        if call in _MAY_BE_DONE:
            found.append(Fault(at, how="done"))
        if call in ("write", "writev"):
            found.append(Fault(at, how="short"))
    return found


@attrs.define(eq=False)
class File:
    """
    A file as the model knows it.

    :ivar isDurable: whether all that was written is on the disk.
    :ivar isLost: whether a synchronization failed: what was not on the disk then never will be.
    """

    isDurable: bool = True
    isLost: bool = False


class Disk:
    """
    What would stand under which name after a power cut: what was synchronized, and of what was done since, anything.

    A name is certain where nothing was done to it since its directory was synchronized. That a directory could not be
    synchronized once says nothing of the next time: unlike data, what a journal could not write it keeps or dies of.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._certain: dict[str, dict[str, object]] = {}
        self._changed: dict[str, dict[str, list[object]]] = {}

    def set(self, path: str, what: object) -> None:
        """A name was given to something, or taken from it (None)."""
        directory, name = os.path.split(path)
        self._changed.setdefault(directory, {}).setdefault(name, []).append(what)

    def synchronize(self, directory: str) -> None:
        """A directory was synchronized."""
        certain = self._certain.setdefault(directory, {})
        for name, values in self._changed.pop(directory, {}).items():
            certain[name] = values[-1]

    def at(self, path: str) -> object:
        """Return what stands under a name now."""
        directory, name = os.path.split(path)
        changed = self._changed.get(directory, {}).get(name)
        return changed[-1] if changed else self._certain.get(directory, {}).get(name)

    def _isCertain(self, path: str) -> object:
        """Return what stands under a name now and after a power cut; None where that is not certain."""
        directory, name = os.path.split(path)
        if name in self._changed.get(directory, {}):
            return None
        return self._certain.get(directory, {}).get(name)

    def _isReached(self, directory: str) -> bool:
        while directory != self._root:
            if self._isCertain(directory) is None:
                return False
            directory = os.path.dirname(directory)
        return True

    def survives(self, file: File, at: str | None = None) -> bool:
        """
        Tell whether a file is whole after a power cut, and has a name that a start leads to.

        :param at: the only name that counts; None for any.
        """
        if not file.isDurable:
            return False
        for directory, names in self._certain.items():
            for name, what in names.items():
                path = os.path.join(directory, name)
                if what is not file or self._isCertain(path) is not file or (at is not None and path != at):
                    continue
                if ".incoming" in directory and self._isCertain(path + _KEPT_UNDER) is None:
                    continue
                if self._isReached(directory):
                    return True
        return False


class System:
    """
    Stands for ``os`` and ``fcntl``.

    :ivar calls: the names of the calls since ``begin``.
    :ivar failed: the name of the call that the fault met, '' where it met none.
    :ivar descriptors: what is open, by number.
    :ivar watch: called after each call that was done.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failed = ""
        self.descriptors: dict[int, tuple[str, File | None]] = {}
        self.watch: Callable[[], object] = lambda: None
        self.disk = Disk("")
        self._files: dict[int, File] = {}
        self._fault: Fault | None = None
        self._isKilled = False
        self.os = _Functions(self, os)
        self.fcntl = _Functions(self, fcntl)

    def install(self, patch: Callable[[Any, str, Any], object]) -> None:
        """Put this in the place of both modules wherever the store uses them."""
        for found in pkgutil.iter_modules(dcxtwisted.stores.__path__):
            module = importlib.import_module(f"dcxtwisted.stores.{found.name}")
            for name in ("os", "fcntl"):
                if isinstance(getattr(module, name, None), ModuleType | _Functions):
                    patch(module, name, getattr(self, name))

    def reset(self, root: str) -> None:
        """Begin with an empty disk."""
        self.disk = Disk(root)
        self._files.clear()
        self.descriptors.clear()
        self.watch = lambda: None
        self.end()

    def begin(self, fault: Fault | None) -> None:
        """Count calls from now on, and have one fail."""
        self.calls = []
        self.failed = ""
        self._fault = fault

    def end(self) -> None:
        """Nothing fails any more, and nobody is killed."""
        self._fault = None
        self._isKilled = False

    def goOn(self) -> None:
        """Return where the process lives, whoever may have caught that it does not."""
        if self._isKilled:
            raise Killed

    def buryProcess(self) -> None:
        """Close what a killed process had open."""
        self.end()
        for fd in list(self.descriptors):
            self.os.close(fd)

    def place(self, path: str, content: bytes, durable: bool) -> File:
        """Have a file stand somewhere, durably or not."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as opened:
            opened.write(content)
        file = self._files[os.stat(path).st_ino] = File(durable)
        self.disk.set(path, file)
        if durable:
            self.disk.synchronize(os.path.dirname(path))
        while os.path.dirname(path) != self.disk._root:
            path = os.path.dirname(path)
            self.disk.set(path, "directory")
            if durable:
                self.disk.synchronize(os.path.dirname(path))
        return file

    def fileAt(self, path: str) -> File:
        return self._files[os.lstat(path).st_ino]

    # Each call

    def call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._isKilled:
            raise Killed
        self.calls.append(name)
        fault = self._fault
        if fault is not None and len(self.calls) == fault.at:
            return self._fail(fault, name, function, args, kwargs)
        if fault is not None and fault.how == "dead" and len(self.calls) > fault.at and self._changes(name, args):
            raise self._error(fault, name, args)
        return self._do(name, function, args, kwargs)

    def _changes(self, name: str, args: tuple[Any, ...]) -> bool:
        return name in CHANGING or (name == "open" and bool(args[1] & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY)))

    def _fail(
        self, fault: Fault, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.failed = name
        if fault.how == "killed":
            self._isKilled = True
            raise Killed
        if fault.how == "short":
            data = args[1] if name == "write" else b"".join(args[1])
            return self._do("write", os.write, (args[0], bytes(data)[: max(1, len(data) // 2)]), {})
        if fault.how == "done" or name == "close":
            self._do(name, function, args, kwargs)
        raise self._error(fault, name, args)

    def _error(self, fault: Fault, name: str, args: tuple[Any, ...]) -> OSError:
        if name in ("fsync", "fdatasync") and not os.path.isdir(f"/proc/self/fd/{args[0]}"):
            file = self.descriptors[args[0]][1]
            assert file is not None
            file.isLost = file.isLost or not file.isDurable
        return OSError(fault.number, os.strerror(fault.number), "/secret/path")

    def _do(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        model = getattr(self, f"_{name}", None)
        result = function(*args, **kwargs) if model is None else model(function, *args, **kwargs)
        self.watch()
        return result

    # What the model has to know of

    def _open(self, function: Callable[..., int], path: str, flags: int, *mode: int) -> int:
        fd = function(path, flags, *mode)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            self._files[os.fstat(fd).st_ino] = File()
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            self._files[os.fstat(fd).st_ino] = File()
            self.disk.set(path, self._files[os.fstat(fd).st_ino])
        self.descriptors[fd] = (path, self._files.get(os.fstat(fd).st_ino))
        return fd

    def _dup(self, function: Callable[..., int], fd: int) -> int:
        copy = function(fd)
        self.descriptors[copy] = self.descriptors[fd]
        return copy

    def _close(self, function: Callable[..., None], fd: int) -> None:
        del self.descriptors[fd]
        function(fd)

    def _write(self, function: Callable[..., int], fd: int, data: Any) -> int:
        file = self.descriptors[fd][1]
        assert file is not None
        file.isDurable = False
        return function(fd, data)

    _writev = _write

    def _fsync(self, function: object, fd: int) -> None:
        path, file = self.descriptors[fd]
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            self.disk.synchronize(path)
        else:
            assert file is not None
            file.isDurable = not file.isLost

    _fdatasync = _fsync

    def _link(self, function: Callable[..., None], source: str, path: str, **how: Any) -> None:
        function(source, path, **how)
        self.disk.set(path, self.fileAt(path))

    def _symlink(self, function: Callable[..., None], source: str, path: str) -> None:
        function(source, path)
        self.disk.set(path, "symbolic link")

    def _rename(self, function: Callable[..., None], source: str, path: str) -> None:
        function(source, path)
        self.disk.set(source, None)
        self.disk.set(path, self.fileAt(path))

    def _unlink(self, function: Callable[..., None], path: str) -> None:
        function(path)
        self.disk.set(path, None)

    _rmdir = _unlink

    def _mkdir(self, function: Callable[..., None], path: str, *mode: int) -> None:
        function(path, *mode)
        self.disk.set(path, "directory")


class _Functions:
    """One module, seen through a System: its functions are calls, all else is as it is."""

    def __init__(self, system: System, module: ModuleType) -> None:
        self._system = system
        self._module = module
        self._known: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._module, name)
        if name == "path":
            found: Any = _Path(self._system)
        elif name == "makedirs":
            found = self._makedirs
        elif name in _CALLS:

            def found(*args: Any, **kwargs: Any) -> Any:
                return self._system.call(name, real, args, kwargs)
        else:
            found = real
        self.__dict__[name] = found
        return found

    def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """As that of the system, of calls that can fail."""
        if not os.path.isdir(os.path.dirname(path)):
            self._makedirs(os.path.dirname(path), exist_ok=True)
        try:
            self.mkdir(path)
        except OSError:
            if not exist_ok or not os.path.isdir(path):
                raise


class _Path:
    """``os.path``, as far as it asks the system: what cannot be asked is not there."""

    def __init__(self, system: System) -> None:
        self._system = system

    def __getattr__(self, name: str) -> Any:
        real = getattr(os.path, name)
        if name not in ("isdir", "ismount"):
            return real

        def asked(path: str) -> bool:
            try:
                return bool(self._system.call("stat", real, (path,), {}))
            except OSError:
                return False

        return asked


_FILES = ("open", "close", "dup", "dup2", "write", "writev", "pread", "fsync", "fdatasync", "flock")
_NAMES = ("link", "symlink", "readlink", "rename", "unlink", "mkdir", "rmdir", "listdir", "scandir")
_CALLS = frozenset({*_FILES, *_NAMES, "stat", "lstat", "fstat", "statvfs"})
