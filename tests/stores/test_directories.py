"""
Directories and their entries: made durable once for each, and again for one that was made anew; removed where they were
made for an object that is not kept.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.stores import directories, synchronizing
from dcxtwisted.stores.directories import Directories
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.sink import FileSink
from dcxtwisted.stores.synchronizing import synchronizeDirectory
from dcxtwisted.testing.stores import StoreRequest, dataSet, headOf, storedBy
from tests.stores.filestores import DATA, NAME, OTHER, FileStoreTestCase

SERIES = os.path.dirname(NAME)
STUDY = os.path.dirname(SERIES)


class SettleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = os.path.abspath(self.mktemp())
        os.makedirs(f"{self.root}/a/b")
        self.synchronized: list[str] = []
        real = synchronizing.synchronizeDirectory

        def synchronize(directory: str) -> tuple[int, int]:
            self.synchronized.append(os.path.relpath(directory, self.root))
            return real(directory)

        self.patch(directories, "synchronizeDirectory", synchronize)
        self.directories = Directories(self.root, True)

    def settled(self) -> list[str]:
        self.synchronized.clear()
        self.directories.settle(f"{self.root}/a/b")
        return self.synchronized

    def test_onceForEach(self) -> None:
        """The entries above are made durable the first time, the directory's own each time."""
        self.assertEqual(self.settled(), ["a/b", "a", "."])
        self.assertEqual(self.settled(), ["a/b"])

    def test_madeAnew(self) -> None:
        """Removed and made again by somebody else: its entry is another, and not durable yet."""
        self.settled()
        # Held open, so that its inode is not given to the new one.
        held = os.open(f"{self.root}/a/b", os.O_RDONLY)
        self.addCleanup(os.close, held)
        shutil.rmtree(f"{self.root}/a")
        os.makedirs(f"{self.root}/a/b")
        self.assertEqual(self.settled(), ["a/b", "a", "."])
        self.assertEqual(self.settled(), ["a/b"])

    def test_sameInode(self) -> None:
        """An inode is used again, often at once: what a removed directory was known by says nothing of the next."""

        def synchronize(directory: str) -> tuple[int, int]:
            self.synchronized.append(os.path.relpath(directory, self.root))
            return 0, len(directory)

        self.patch(directories, "synchronizeDirectory", synchronize)
        self.settled()
        self.directories.remove([f"{self.root}/a", f"{self.root}/a/b"])
        os.makedirs(f"{self.root}/a/b")
        self.assertEqual(self.settled(), ["a/b", "a", "."])


class MakeTests(SynchronousTestCase):
    """Making directories, while others remove them."""

    def setUp(self) -> None:
        self.root = os.path.abspath(self.mktemp())
        os.mkdir(self.root)
        self.directories = Directories(self.root, True)
        self.directory = f"{self.root}/a/b"

    def interrupt(self, *removals: Any) -> list[str]:
        """Have something happen before calls of mkdir, one after the other; return the paths of all that come."""
        real = os.mkdir
        paths: list[str] = []
        waiting = list(removals)

        def mkdir(path: str) -> None:
            paths.append(os.path.relpath(path, self.root))
            if waiting:
                waiting.pop(0)()
            real(path)

        self.patch(os, "mkdir", mkdir)
        return paths

    def test_whatIsMade(self) -> None:
        self.assertEqual(self.directories.make(self.directory), [f"{self.root}/a", self.directory])
        self.assertEqual(self.directories.make(self.directory), [])
        self.assertEqual(self.directories.make(f"{self.root}/a/c"), [f"{self.root}/a/c"])

    def test_made(self) -> None:
        """By somebody else meanwhile, who is the one to remove it."""
        self.interrupt(lambda: None, lambda: None, lambda: os.mkdir(self.directory))
        self.assertEqual(self.directories.make(self.directory), [f"{self.root}/a"])

    def test_removedAbove(self) -> None:
        """Both are made again."""
        paths = self.interrupt(lambda: None, lambda: None, lambda: os.rmdir(f"{self.root}/a"))
        self.directories.make(self.directory)
        self.assertEqual(paths, ["a/b", "a", "a/b"] * 2)
        self.assertTrue(os.path.isdir(self.directory))

    def test_removedWhereItWas(self) -> None:
        """Found, and gone before one could look at it."""
        os.makedirs(self.directory)
        real = os.stat
        gone: list[str] = []

        def stat(path: str) -> os.stat_result:
            if not gone:
                gone.append(path)
                os.rmdir(path)
            return real(path)

        self.patch(os, "stat", stat)
        self.assertEqual(self.directories.make(self.directory), [self.directory])
        self.assertEqual(gone, [self.directory])

    def test_alwaysRemoved(self) -> None:
        self.interrupt(*[lambda: None, lambda: None, lambda: os.rmdir(f"{self.root}/a")] * 9)
        self.assertRaises(FileNotFoundError, self.directories.make, self.directory)
        self.assertEqual(os.listdir(self.root), [])

    def test_failing(self) -> None:
        """What was made before goes."""

        def fail() -> None:
            raise OSError(errno.ENOSPC, "full")

        self.interrupt(lambda: None, lambda: None, fail)
        self.assertEqual(self.assertRaises(OSError, self.directories.make, self.directory).errno, errno.ENOSPC)
        self.assertEqual(os.listdir(self.root), [])

    def test_refusedWhereItIs(self) -> None:
        """A server may say that nothing may be made there before it says that it is there."""
        os.mkdir(f"{self.root}/a")
        real = os.mkdir

        def mkdir(path: str) -> None:
            if path == f"{self.root}/a":
                raise PermissionError(errno.EACCES, "permission denied")
            real(path)

        self.patch(os, "mkdir", mkdir)
        self.assertEqual(self.directories.make(f"{self.root}/a"), [])


class RemovalTests(FileStoreTestCase):
    """Directories that were made for an object that is not kept go with it."""

    def begin(self, store: FileStore, instance: str = "1.2.3", at: str | None = None) -> FileSink:
        """Return a sink with all of an object of the same series."""
        data = self.data(instance)
        return self.receive(store, data, request=StoreRequest(instance), at=at)

    def data(self, instance: str) -> bytes:
        return dataSet(instance, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")

    def finished(self, store: FileStore, instance: str = "1.2.3", at: str | None = None) -> FileSink:
        """Return one that is under its name."""
        sink = self.begin(store, instance, at)
        self.finish(sink, self.data(instance))
        return sink

    def abort(self, *sinks: FileSink) -> None:
        for sink in sinks:
            self.successResultOf(sink.abort())

    def left(self, root: str | None = None) -> list[str]:
        """Return the paths of all directories and files."""
        root = self.root if root is None else root
        return sorted(
            os.path.relpath(os.path.join(where, name), root)
            for where, directories, names in os.walk(root)
            for name in [*directories, *names]
            if ".incoming" not in os.path.join(where, name)
        )

    def test_refused(self) -> None:
        store = self.makeStore()
        sink = self.finished(store)
        self.assertEqual(self.left(), [STUDY, SERIES, NAME])
        self.abort(sink)
        self.assertEqual(self.left(), [])

    def test_notFinished(self) -> None:
        """Made for an application's own path before the first byte."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        os.mkdir(outside)
        for root in (self.root, outside):
            sink = self.begin(store, at=f"{root}/a/b/c")
            self.assertEqual([path for path in self.left(root) if "/" not in path], ["a"])
            self.abort(sink)
            self.assertEqual(self.left(root), [])

    def test_cannotFinish(self) -> None:
        """The name cannot be given: the directories are made for it, and it is too long."""
        store = self.makeStore()
        sink = self.begin(store)
        real = os.link

        def link(source: str, path: str, **how: Any) -> None:
            if os.path.isdir(os.path.dirname(path)):
                raise OSError(errno.ENOSPC, "full")
            real(source, path, **how)

        patch = self.patch(os, "link", link)
        self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused)
        patch.restore()
        self.assertEqual(self.left(), [])

    def test_cannotOpen(self) -> None:
        store = self.makeStore()
        real = store._createIn

        def createIn(directory: str) -> tuple[int, str]:
            if os.path.isdir(directory):
                raise OSError(errno.EMFILE, "files")
            return real(directory)

        self.patch(store, "_createIn", createIn)
        self.assertRaises(StoreRefused, self.begin, store, at=f"{self.root}/a/b/c")
        self.assertEqual(self.left(), [])

    def test_inUse(self) -> None:
        """Not those that are not empty, or were there before."""
        os.makedirs(f"{self.root}/{STUDY}")
        store = self.makeStore()
        self.abort(self.finished(store))
        self.assertEqual(self.left(), [STUDY])
        first = self.finished(store)
        kept = self.finished(store, "1.2.3.1")
        self.abort(first)
        kept.keep()
        self.assertEqual(self.left(), [STUDY, SERIES, f"{SERIES}/1.2.3.1.dcm"])

    def test_lastOne(self) -> None:
        """Of several objects none of which is kept the last takes along what was made for the first."""
        store = self.makeStore()
        sinks = [self.finished(store, f"1.2.3.{number}") for number in range(3)]
        self.abort(*sinks)
        self.assertEqual(self.left(), [])

    def test_madeByOthers(self) -> None:
        """Another process, or an operator, has made it: it is theirs to remove."""
        store = self.makeStore()
        first, second = self.finished(store), self.finished(store, "1.2.3.1")
        self.abort(first)
        self.assertEqual(self.left(), [STUDY, SERIES, f"{SERIES}/1.2.3.1.dcm"])
        shutil.rmtree(f"{self.root}/{STUDY}")
        self.abort(second)
        os.makedirs(f"{self.root}/{SERIES}")
        self.abort(self.finished(store))
        self.assertEqual(self.left(), [STUDY, SERIES])

    def test_duplicates(self) -> None:
        """What another object has made under this one's name stays."""
        store = self.makeStore()
        self.put(store)
        for data, outcome in ((DATA, Outcome.IDENTICAL), (OTHER, Outcome.KEPT_BOTH)):
            sink = self.receive(store, data)
            self.assertEqual(self.finish(sink, data).outcome, outcome)
            self.abort(sink)
            self.assertEqual(self.left(), [STUDY, SERIES, NAME])

    def test_moved(self) -> None:
        """An application moved the object away, and then refused it."""
        store = self.makeStore()
        sink = self.finished(store)
        os.rename(f"{self.root}/{NAME}", f"{self.root}/moved")
        self.abort(sink)
        self.assertEqual(self.left(), ["moved"])

    def test_rootStays(self) -> None:
        """Even where it had to be made again."""
        store = self.makeStore()
        sink = self.begin(store)
        shutil.rmtree(self.root)
        if self.unnamedFiles:
            self.finish(sink)
            self.assertEqual(self.left(), [STUDY, SERIES, NAME])
        self.abort(sink)
        self.assertEqual(os.path.exists(self.root), self.unnamedFiles)
        os.makedirs(self.root, exist_ok=True)

    def test_foundByAnother(self) -> None:
        """Gone just before another object is linked in it, which finds that out and makes it again."""
        first = self.finished(self.makeStore())
        self.findGone(first, self.begin(self.makeStore(), "1.2.3.1"))

    def test_foundByAnotherThatIsInIt(self) -> None:
        """The file of that one was made in it, and has no name there."""
        first = self.finished(self.makeStore())
        self.findGone(first, self.begin(self.makeStore(), "1.2.3.1", at=f"{self.root}/{NAME}.1"))

    def findGone(self, first: FileSink, second: FileSink) -> None:
        real = os.link
        tried: list[str] = []

        def link(source: str, path: str, **how: Any) -> None:
            tried.append(path)
            if len(tried) == 1:
                self.abort(first)
            real(source, path, **how)

        patch = self.patch(os, "link", link)
        stored = self.finish(second, self.data("1.2.3.1"))
        patch.restore()
        self.assertEqual(tried, [stored.filename] * 2)
        second.keep()
        self.assertEqual(self.left(), [STUDY, SERIES, os.path.relpath(stored.filename, self.root)])

    def test_foundByAnotherBeforeItsFirstByte(self) -> None:
        """Gone just before another object's file is made in it."""
        outside = os.path.abspath(self.mktemp())
        os.mkdir(outside)
        store = self.makeStore()
        real = store._createIn
        tried: list[str] = []

        def createIn(directory: str) -> tuple[int, str]:
            tried.append(directory)
            if 1 < len(tried) < 4:
                os.rmdir(directory)
            return real(directory)

        self.patch(store, "_createIn", createIn)
        sink = self.begin(store, at=f"{outside}/a/b")
        self.assertEqual(len(tried), 4)
        self.finish(sink)
        sink.keep()
        self.assertEqual(self.left(outside), ["a", "a/b"])

    def test_durableAgain(self) -> None:
        """
        A sibling process removes a directory, and another object makes it again, with the same inode.

        What this process knew of it is not relied upon: its object had gone before, or it could not have been removed.
        """
        if not self.durable:
            return
        synchronized: list[str] = []

        def synchronize(directory: str) -> tuple[int, int]:
            synchronizeDirectory(directory)
            synchronized.append(os.path.relpath(directory, self.root))
            return 0, len(directory)

        self.patch(directories, "synchronizeDirectory", synchronize)
        store, sibling = self.makeStore(), self.makeStore()
        first = self.finished(sibling)
        second = self.finished(store, "1.2.3.1")
        self.abort(second, first)
        self.assertEqual(self.left(), [])
        os.makedirs(f"{self.root}/{SERIES}")
        synchronized.clear()
        self.finished(store, "1.2.3.2").keep()
        self.assertEqual([path for path in synchronized if ".incoming" not in path], [SERIES, STUDY, "."])


class WorkingDirectoryRemovalTests(RemovalTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickRemovalTests(RemovalTests):
    """The same without synchronizing."""

    durable = False
