"""
What the tests of the file store share.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IStoreSink, StoredObject
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.sink import FileSink
from dcxtwisted.stores.synchronizing import NotSynchronized
from dcxtwisted.stores.writing import Buffers
from dcxtwisted.testing.stores import StoreRequest, dataSet, headOf, storedBy
from tests.support import openDescriptors

DATA = dataSet("1.2.3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
OTHER = dataSet("1.2.3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5", fill=b"\x66")
LONGER = dataSet("1.2.3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5", size=200)
NAME = "1.2.4/1.2.5/1.2.3.dcm"


class ManualPool:
    """A pool whose functions run when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Deferred[Any], Callable[..., Any], tuple[object, ...]]] = []

    def __call__(self, function: Callable[..., Any], *args: object) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.jobs.append((waiting, function, args))
        return waiting

    def runOne(self) -> None:
        waiting, function, args = self.jobs.pop(0)
        execute(function, *args).chainDeferred(waiting)

    def runAll(self) -> None:
        while self.jobs:
            self.runOne()


class FileStoreTestCase(SynchronousTestCase):
    """Gives stores whose pool is the thread of the test; afterwards nothing may be open that was not before."""

    durable = True
    unnamedFiles = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.root = os.path.abspath(self.mktemp())
        before = openDescriptors()
        self.addCleanup(lambda: self.assertEqual(openDescriptors(), before))

    def makeStore(self, **settings: Any) -> FileStore:
        values: dict[str, Any] = {
            "durable": self.durable,
            "unnamedFiles": self.unnamedFiles,
            "reactor": self.clock,
            "seconds": self.clock.seconds,
            "inPool": execute,
        }
        values.update(settings)
        store = FileStore(self.root, **values)
        store.start()
        self.addCleanup(lambda: self.successResultOf(store.stop()))
        return store

    def withoutBuffers(self) -> None:
        """From now on all that objects are gathered in is taken by others: they are written as they come."""
        self.patch(Buffers, "take", lambda buffers: None)

    def openSink(self, store: FileStore, request: StoreRequest | None = None, at: str | None = None) -> FileSink:
        request = StoreRequest("1.2.3") if request is None else request
        sink = store.open(request) if at is None else store.openAt(at, request)
        assert isinstance(sink, FileSink)
        return sink

    def receive(self, store: FileStore, data: bytes = DATA, **how: Any) -> FileSink:
        """Return a sink that has all of a data set."""
        sink = self.openSink(store, **how)
        self.assertIsNone(sink.write(memoryview(data)))
        return sink

    def finish(self, sink: IStoreSink, data: bytes = DATA) -> StoredObject:
        return self.successResultOf(storedBy(sink, headOf(data)))

    def put(self, store: FileStore, data: bytes = DATA, **how: Any) -> StoredObject:
        """Store and acknowledge an object."""
        sink = self.receive(store, data, **how)
        stored = self.finish(sink, data)
        sink.keep()
        return stored

    def files(self, root: str | None = None) -> list[str]:
        """Return the paths of all that stands in the store and is no directory, but for working directories' locks."""
        root = self.root if root is None else root
        return sorted(
            os.path.relpath(os.path.join(where, name), root)
            for where, _, names in os.walk(root)
            for name in names
            if not (name == "lock" and ".incoming" in where)
        )

    def content(self, name: str = NAME) -> bytes:
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def assertRefusal(self, error: StoreRefused, comment: str, cause: BaseException | None = None) -> None:
        self.assertEqual((error.status, error.comment), (0xA700, comment))
        self.assertNotIn("secret", str(error))
        found = error.__cause__
        if isinstance(found, NotSynchronized):
            found = found.__cause__
        self.assertIs(found, cause)

    def failing(
        self, module: Any, name: str, error: OSError, when: Callable[..., bool] = lambda *args: True
    ) -> list[Any]:
        """Have calls of a system function fail; return the list of the arguments of those that did."""
        real = getattr(module, name)
        failed: list[Any] = []

        def fake(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                failed.append(args)
                raise error
            return real(*args, **kwargs)

        self.patch(module, name, fake)
        return failed

    def concerns(self, call: str, path: str) -> bool:
        """Tell whether a call is to be traced."""
        return True

    def traced(self) -> list[tuple[str, str]]:
        """Return a list to which what concerns durability is added: the call, and the path below the store's root."""
        calls: list[tuple[str, str]] = []

        def trace(module: Any, name: str, what: Callable[..., str]) -> None:
            real = getattr(module, name)

            def fake(*args: Any, **kwargs: Any) -> Any:
                path = what(*args)
                result = real(*args, **kwargs)
                if self.concerns(name, path):
                    calls.append((name, path))
                return result

            self.patch(module, name, fake)

        def opened(fd: int, *args: object) -> str:
            path = os.readlink(f"/proc/self/fd/{fd}")
            return "unnamed" if "(deleted)" in path or ".incoming" in path else os.path.relpath(path, self.root)

        for name in ("fsync", "fdatasync"):
            trace(os, name, opened)
        trace(fcntl, "flock", opened)
        trace(os, "link", lambda source, path, **kwargs: os.path.relpath(path, self.root))
        trace(os, "unlink", lambda path: os.path.relpath(path, self.root))
        return calls


def isDirectory(fd: int) -> bool:
    return os.path.isdir(f"/proc/self/fd/{fd}")


def isFile(fd: int) -> bool:
    return not isDirectory(fd)


def diskFull() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/path")
