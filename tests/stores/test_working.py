"""
Tests for working directories.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re

from twisted.internet.defer import execute
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.stores import publishing, working
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.publishing import createUnnamed, makesUnnamedFiles
from dcxtwisted.stores.working import WorkingDirectories
from dcxtwisted.testing.stores import StoreRequest
from tests.stores.filestores import DATA, NAME, FileStoreTestCase, ManualPool
from tests.support import openDescriptors

_DEAD = "123-0123456789abcdef"
_OTHER = "124-0123456789abcdef"


class _WorkingTestCase(FileStoreTestCase):
    unnamedFiles = False

    def setUp(self) -> None:
        super().setUp()
        self.incoming = os.path.join(self.root, ".incoming")

    def leave(self, name: str = _DEAD, lock: bool = True, base: str | None = None) -> str:
        """Leave a working directory with two files, as a process that was killed does."""
        path = os.path.join(self.root if base is None else base, ".incoming", name)
        os.makedirs(path)
        for file in ["0", "17", *(["lock"] if lock else [])]:
            with open(os.path.join(path, file), "w"):
                pass
        return path


class LifeTests(_WorkingTestCase):
    """A working directory from the start to the stop of its store."""

    def test_name(self) -> None:
        """It is named for the process, and unfinished objects stand in it under names of no meaning."""
        store = self.makeStore()
        (name,) = os.listdir(self.incoming)
        self.assertTrue(re.fullmatch(rf"{os.getpid()}-[0-9a-f]{{16}}", name), name)
        path = os.path.join(self.incoming, name)
        self.assertEqual(os.listdir(path), ["lock"])
        first, second = self.receive(store), self.receive(store)
        self.assertEqual(sorted(os.listdir(path)), ["1", "2", "lock"])
        self.finish(first)
        self.assertEqual(sorted(os.listdir(path)), ["2", "lock"])
        self.successResultOf(second.abort())
        self.assertEqual(os.listdir(path), ["lock"])
        first.keep()
        self.assertEqual(os.stat(os.path.join(self.root, NAME)).st_nlink, 1)

    def test_locked(self) -> None:
        """Others see by its lock that its process lives."""
        self.makeStore()
        (name,) = os.listdir(self.incoming)
        with open(os.path.join(self.incoming, name, "lock")) as lock:
            self.assertRaises(BlockingIOError, fcntl.flock, lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_stop(self) -> None:
        """It goes with its store."""
        store = self.makeStore()
        self.successResultOf(store.stop())
        self.assertEqual(os.listdir(self.root), [])

    def test_stopInUse(self) -> None:
        """Where an object is still open, it goes with that."""
        store = self.makeStore()
        sink = self.receive(store)
        self.successResultOf(store.stop())
        self.assertNotEqual(os.listdir(self.root), [])
        self.successResultOf(sink.abort())
        self.assertEqual(os.listdir(self.root), [])

    def test_removed(self) -> None:
        """Where it was removed by hand another is made."""
        store = self.makeStore()
        (name,) = os.listdir(self.incoming)
        lost = self.receive(store)
        os.rename(self.incoming, os.path.join(self.root, "gone"))
        self.put(store, DATA, request=StoreRequest("1.2.9"))
        self.assertNotEqual(os.listdir(self.incoming), [name])
        self.successResultOf(lost.abort())

    def test_unnamed(self) -> None:
        """Where the file system has unnamed files there is none."""
        self.makeStore(unnamedFiles=True)
        self.assertEqual(os.listdir(self.root), [])

    def test_elsewhere(self) -> None:
        """For an application's own path there is one beside it, as long as it is needed."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        os.mkdir(outside)
        left = self.leave(base=outside)
        sinks = [self.receive(store, at=os.path.join(outside, name)) for name in "ab"]
        self.assertFalse(os.path.exists(left))
        (name,) = os.listdir(os.path.join(outside, ".incoming"))
        self.assertEqual(sorted(os.listdir(os.path.join(outside, ".incoming", name))), ["0", "1", "lock"])
        self.finish(sinks[0])
        sinks[0].keep()
        self.successResultOf(sinks[1].abort())
        self.assertEqual(os.listdir(outside), ["a"])

    def test_inside(self) -> None:
        """For an application's own path in the store the store's will do."""
        store = self.makeStore()
        sink = self.receive(store, at=os.path.join(self.root, "d", "x"))
        self.assertEqual(os.listdir(os.path.join(self.root, "d")), [])
        self.successResultOf(sink.abort())

    def test_otherFileSystem(self) -> None:
        """It will not where another file system is mounted in the store."""
        store = self.makeStore()
        self.patch(store._working, "baseOf", lambda directory: directory)
        sink = self.receive(store, at=os.path.join(self.root, "d", "x"))
        self.assertEqual(os.listdir(os.path.join(self.root, "d")), [".incoming"])
        self.successResultOf(sink.abort())
        self.assertFalse(os.path.exists(os.path.join(self.root, "d")))


class SweepTests(_WorkingTestCase):
    """What other processes left."""

    def test_dead(self) -> None:
        """What dead processes left is removed."""
        left = [self.leave(), self.leave(_OTHER)]
        self.makeStore()
        self.assertEqual([os.path.exists(path) for path in left], [False, False])

    def test_count(self) -> None:
        """The number of files is told."""
        self.leave()
        self.leave(_OTHER)
        self.assertEqual(WorkingDirectories(self.root).sweep(), (4, 0))
        self.assertEqual(WorkingDirectories(self.root).sweep(), (0, 0))

    def test_unnamedToo(self) -> None:
        """So it is where this process needs none."""
        self.leave()
        self.makeStore(unnamedFiles=True)
        self.assertEqual(os.listdir(self.root), [])

    def test_inPool(self) -> None:
        """The start does not wait for it."""
        path = self.leave()
        pool = ManualPool()
        store = self.makeStore(inPool=pool)
        self.assertEqual(sorted(os.listdir(path)), ["0", "17", "lock"])
        pool.runAll()
        self.assertFalse(os.path.exists(path))
        self.assertEqual(len(os.listdir(self.incoming)), 1)
        self.successResultOf(store.stop())

    def test_living(self) -> None:
        """What a living process works in is left."""
        path = self.leave()
        with open(os.path.join(path, "lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.makeStore()
            self.assertEqual(sorted(os.listdir(path)), ["0", "17", "lock"])

    def test_second(self) -> None:
        """Two stores of one root leave each other alone."""
        first = self.makeStore()
        sink = self.receive(first)
        second = self.makeStore()
        self.put(second, DATA, request=StoreRequest("1.2.9"))
        self.finish(sink)
        sink.keep()

    def test_notOurs(self) -> None:
        """What does not look like a working directory is left, and so is one that has files but no lock."""
        paths = [self.leave("notes"), self.leave("1-2"), self.leave(lock=False)]
        empty = os.path.join(self.incoming, _OTHER)
        os.mkdir(empty)
        linked = os.path.join(self.incoming, "125-0123456789abcdef")
        os.symlink(paths[0], linked)
        file = os.path.join(self.incoming, "126-0123456789abcdef")
        with open(file, "w"):
            pass
        with open(os.path.join(paths[0], "lock"), "w"):
            pass
        os.mkdir(os.path.join(self.leave("127-0123456789abcdef"), "directory"))
        self.makeStore()
        self.assertEqual([len(os.listdir(path)) for path in paths], [3, 3, 2])
        self.assertFalse(os.path.exists(empty))
        self.assertTrue(os.path.lexists(linked) and os.path.exists(file))

    def test_unreadable(self) -> None:
        """A sweep that cannot be done is told in the log, and stops nothing."""
        self.failing(os, "scandir", OSError(errno.EIO, "i/o error", "/secret/path"))
        with capturedLogs() as events:
            self.put(self.makeStore())
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["unfinished files of a stopped process stay: refused with status A700: i/o error"],
        )

    def test_told(self) -> None:
        """What was swept is told in the log."""
        self.leave()
        with capturedLogs() as events:
            self.makeStore()
        self.assertEqual(
            [formatEvent(event) for event in events], ["removed 2 unfinished files that a stopped process left"]
        )


class ClaimTests(_WorkingTestCase):
    """A sweeper of another process that comes in between."""

    def test_lockedBySweeper(self) -> None:
        """A directory that a sweeper has locked is left to it."""
        flock = fcntl.flock
        taken: list[int] = []

        def sweeper(fd: int, operation: int) -> None:
            if not taken:
                taken.append(fd)
                raise BlockingIOError
            flock(fd, operation)

        self.patch(fcntl, "flock", sweeper)
        self.put(self.makeStore())
        self.assertEqual(self.files(), [NAME])

    def test_removedBySweeper(self) -> None:
        """A directory that a sweeper removed meanwhile is given up, whenever it came."""
        for when in ("mkdir", "flock"):
            module = os if when == "mkdir" else fcntl
            real = getattr(module, when)
            swept: list[int] = []

            def sweeping(*args: object, real: object = real, swept: list[int] = swept) -> None:
                real(*args)  # type: ignore[operator]
                if os.path.isdir(self.incoming) and os.listdir(self.incoming) and not swept:
                    swept.append(1)
                    with _Unlocked():
                        WorkingDirectories(self.root).sweep()
                    working._removeEmpty(self.incoming)

            patch = self.patch(module, when, sweeping)
            store = self.makeStore()
            patch.restore()
            self.assertEqual(swept, [1])
            self.put(store, DATA, request=StoreRequest("1.2.9"))
            self.successResultOf(store.stop())

    def test_always(self) -> None:
        """A store that can lock nothing does not start."""
        self.failing(fcntl, "flock", BlockingIOError(errno.EAGAIN, "held"))
        store = FileStore(self.root, reactor=self.clock, inPool=execute, unnamedFiles=False)
        self.assertRaises(OSError, store.start)


class _Unlocked:
    """While it lasts, locks are granted: as to a sweeper that was there first."""

    def __enter__(self) -> None:
        self._flock, fcntl.flock = fcntl.flock, lambda fd, operation: None

    def __exit__(self, *args: object) -> None:
        fcntl.flock = self._flock


class CapabilityTests(_WorkingTestCase):
    """Finding out what a file system can do."""

    unnamedFiles = True

    def test_noUnnamedFiles(self) -> None:
        """A file system without them is told by what it says."""
        os.mkdir(self.root)
        for number in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            with_ = self.failing(
                os, "open", OSError(number, "no"), lambda path, flags, *mode: flags & os.O_TMPFILE == os.O_TMPFILE
            )
            self.assertIsNone(createUnnamed(self.root))
            self.assertFalse(makesUnnamedFiles(self.root))
            self.assertEqual(len(with_), 2)

    def test_otherTrouble(self) -> None:
        """Any other trouble is trouble."""
        os.mkdir(self.root)
        self.failing(os, "open", OSError(errno.ENOSPC, "full"))
        self.assertRaises(OSError, createUnnamed, self.root)
        self.assertRaises(OSError, makesUnnamedFiles, self.root)

    def test_cannotBeNamed(self) -> None:
        """Where unnamed files cannot be named (without /proc), working directories serve."""
        self.failing(publishing, "linkUnnamed", FileNotFoundError(errno.ENOENT, "no /proc"))
        store = self.makeStore()
        self.assertEqual(os.listdir(self.root), [".incoming"])
        self.put(store)
        self.assertEqual(self.files(), [NAME])

    def test_probeLeavesNothing(self) -> None:
        """Finding out leaves nothing."""
        os.mkdir(self.root)
        before = openDescriptors()
        self.assertTrue(makesUnnamedFiles(self.root))
        self.assertEqual(os.listdir(self.root), [])
        self.assertEqual(openDescriptors(), before)

    def test_noLinks(self) -> None:
        """A store on a file system that cannot link at all does not start."""
        self.failing(os, "link", OSError(errno.EPERM, "no links"))
        store = FileStore(self.root, reactor=self.clock, inPool=execute)
        self.assertRaises(PermissionError, store.start)
        self.assertEqual(os.listdir(self.root), [])

    def test_foreign(self) -> None:
        """Whether an application's own directory can is found out there."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        self.failing(
            os,
            "open",
            OSError(errno.EOPNOTSUPP, "no"),
            lambda path, flags, *mode: flags & os.O_TMPFILE == os.O_TMPFILE and path == outside,
        )
        self.put(store, at=os.path.join(outside, "x"))
        self.assertEqual(os.listdir(outside), ["x"])
        self.assertEqual(os.listdir(self.root), [])


class RootTests(SynchronousTestCase):
    """Roots that cannot be."""

    def test_file(self) -> None:
        """A root that is a file does not start."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        self.assertRaises(FileExistsError, FileStore(path, reactor=Clock(), inPool=execute).start)
        self.assertRaises(NotADirectoryError, FileStore(path + "/x", reactor=Clock(), inPool=execute).start)
