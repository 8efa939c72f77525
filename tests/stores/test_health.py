"""
Tests for the file store: a disk that failed to synchronize, and one that is nearly full.
"""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.stores import sink as sinkModule
from dcxtwisted.stores.file import FileStore
from dcxtwisted.testing.stores import StoreRequest, dataSet, headOf, storedBy
from tests.stores.filestores import (
    DATA,
    NAME,
    OTHER,
    FileStoreTestCase,
    ManualPool,
    isDirectory,
    isFile,
)
from tests.support import openDescriptors

LOST = "the disk failed to synchronize: new objects are refused until it does again"
FOUND = "the disk synchronizes again: new objects are taken"


class DegradedTests(FileStoreTestCase):
    """After a failed synchronization a store takes nothing until a probe has succeeded."""

    def setUp(self) -> None:
        super().setUp()
        self.store = self.makeStore()
        self.broken = True
        self.calls: list[str] = []
        for name in ("fsync", "fdatasync"):
            real = getattr(os, name)

            def synchronize(fd: int, name: str = name, real: Any = real) -> None:
                self.calls.append(name + (" of a directory" if isDirectory(fd) else ""))
                if self.broken:
                    raise OSError(errno.EIO, "i/o error", "/secret/path")
                real(fd)

            self.patch(os, name, synchronize)

    def breakDown(self) -> None:
        self.failureResultOf(storedBy(self.receive(self.store), headOf(DATA)), StoreRefused)

    def assertRefused(self) -> None:
        error = self.assertRaises(StoreRefused, self.store.open, StoreRequest())
        self.assertRefusal(error, "the disk failed to synchronize")

    def test_refused(self) -> None:
        """New objects are refused at once, with no call to the disk, for five seconds and until a probe is through."""
        self.assertFalse(self.store.degraded)
        self.breakDown()
        self.assertTrue(self.store.degraded)
        self.broken = False
        before = len(self.calls)
        for _ in range(39):
            self.assertRefused()
            self.clock.advance(0.125)
        self.assertEqual(len(self.calls), before)
        self.clock.advance(0.125)
        self.assertFalse(self.store.degraded)
        self.assertEqual(self.calls[before:], ["fsync", "fsync of a directory"])
        self.assertEqual(self.put(self.store).outcome, Outcome.NEW)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_probes(self) -> None:
        """There is one probe in five seconds, as long as it takes, asked for or not."""
        self.breakDown()
        before = len(self.calls)
        for number in range(1, 20):
            self.clock.advance(5.0)
            self.assertEqual(len(self.calls) - before, number)
            self.assertRefused()
        self.assertTrue(self.store.degraded)

    def test_told(self) -> None:
        """Each change is told in the log, once."""
        with capturedLogs() as events:
            sinks = [self.receive(self.store) for _ in range(3)]
            for sink in sinks:
                self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused)
            self.clock.pump([5.0] * 3)
            self.broken = False
            self.clock.pump([5.0] * 3)
        self.assertEqual([formatEvent(event) for event in events], [LOST, FOUND])

    def test_directory(self) -> None:
        """A directory that fails counts as well, and so does a probe that fails at it."""
        self.broken = False
        failed = self.failing(os, "fsync", OSError(errno.EIO, "i/o error"), isDirectory)
        self.breakDown()
        self.assertTrue(self.store.degraded)
        self.clock.advance(5.0)
        self.assertTrue(self.store.degraded)
        # The object's, that of clearing up after it, and the probe's.
        self.assertEqual(len(failed), 3)

    def test_removal(self) -> None:
        """So does a refused object whose removal cannot be made durable."""
        self.broken = False
        sink = self.receive(self.store)
        self.finish(sink)
        self.broken = True
        self.successResultOf(sink.abort())
        self.assertTrue(self.store.degraded)
        self.assertEqual(self.files(), [])

    def test_inside(self) -> None:
        """So does what is synchronized while an object comes."""
        self.patch(sinkModule, "_SYNCHRONIZED_EVERY", 1000)
        self.withoutBuffers()
        sink = self.openSink(self.store)
        sink.write(memoryview(bytes(1000)))
        self.assertTrue(self.store.degraded)
        self.successResultOf(sink.abort())

    def test_elsewhere(self) -> None:
        """A disk of the application's is not the store's, neither to break nor to be refused."""
        at = os.path.abspath(self.mktemp())
        self.failureResultOf(storedBy(self.receive(self.store, at=at), headOf(DATA)), StoreRefused)
        self.assertFalse(self.store.degraded)
        self.breakDown()
        self.assertRaises(StoreRefused, self.store.openAt, os.path.join(self.root, "x"), StoreRequest())
        self.broken = False
        self.put(self.store, at=at)
        self.assertTrue(self.store.degraded)

    def test_inFlight(self) -> None:
        """Objects that are being received are judged by their own synchronization."""
        sink = self.receive(self.store, OTHER)
        self.breakDown()
        self.broken = False
        self.assertEqual(self.finish(sink, OTHER).outcome, Outcome.NEW)
        sink.keep()
        self.assertTrue(self.store.degraded)

    def test_otherFailures(self) -> None:
        """A disk that is full says nothing of what it has."""
        self.broken = False
        for module, name, error in (
            (os, "link", OSError(errno.ENOSPC, "full")),
            (os, "open", OSError(errno.EMFILE, "too many")),
        ):
            sink = self.receive(self.store)
            self.failing(module, name, error)
            self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused)
        self.assertFalse(self.store.degraded)

    def test_probeLeavesNothing(self) -> None:
        """A probe leaves nothing behind, be it that it fails at any of its calls."""
        self.breakDown()
        before, files = openDescriptors(), self.files()
        self.broken = False
        for name, when in (
            ("open", lambda *args: True),
            ("writev", lambda *args: True),
            ("fsync", isFile),
            ("fsync", isDirectory),
        ):
            real = getattr(os, name)
            failed = self.failing(os, name, OSError(errno.EIO, "i/o error"), when)
            self.clock.advance(5.0)
            setattr(os, name, real)
            self.assertEqual(len(failed), 1, name)
            self.assertTrue(self.store.degraded)
            self.assertEqual((openDescriptors(), self.files()), (before, files))
        self.clock.advance(5.0)
        self.assertFalse(self.store.degraded)
        self.assertEqual((openDescriptors(), self.files()), (before, files))

    def test_inPool(self) -> None:
        """A probe that hangs hangs in the pool, and no other joins it."""
        pool = ManualPool()
        store = self.store = self.makeStore(inPool=pool)
        pool.runAll()
        finishing = storedBy(self.receive(store), headOf(DATA))
        pool.runAll()
        self.failureResultOf(finishing, StoreRefused)
        self.broken = False
        self.clock.advance(5.0)
        self.assertEqual(len(pool.jobs), 1)
        self.clock.pump([5.0] * 10)
        self.assertEqual(len(pool.jobs), 1)
        self.assertRefused()
        pool.runAll()
        self.assertFalse(store.degraded)

    def test_failureDuringProbe(self) -> None:
        """A probe does not speak for what failed after it began."""
        pool = ManualPool()
        store = self.store = self.makeStore(inPool=pool)
        pool.runAll()
        first, second = (storedBy(self.receive(store), headOf(DATA)) for _ in range(2))
        waiting = pool.jobs.pop()
        pool.runAll()
        self.failureResultOf(first, StoreRefused)
        self.clock.advance(5.0)
        probe = pool.jobs.pop()
        pool.jobs.append(waiting)
        pool.runAll()
        self.failureResultOf(second, StoreRefused)
        self.broken = False
        pool.jobs.append(probe)
        pool.runAll()
        self.assertTrue(store.degraded)
        self.clock.advance(5.0)
        pool.runAll()
        self.assertFalse(store.degraded)

    def test_stop(self) -> None:
        """A store that stops probes no more, and goes on with that when it is started again."""
        self.breakDown()
        self.successResultOf(self.store.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.broken = False
        self.store.start()
        self.assertRefused()
        self.clock.advance(5.0)
        self.assertEqual(self.put(self.store).outcome, Outcome.NEW)

    def test_interval(self) -> None:
        """A store class may have another interval."""

        class Patient(FileStore):
            probeInterval = 60.0

        store = Patient(self.root, reactor=self.clock, seconds=self.clock.seconds, inPool=self.store.threads._given)
        self.broken = False
        store.start()
        self.addCleanup(lambda: self.successResultOf(store.stop()))
        self.broken = True
        self.failureResultOf(storedBy(self.receive(store), headOf(DATA)), StoreRefused)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), 60.0)

    def test_unexpected(self) -> None:
        """A probe that fails at what nobody foresaw is no success, and is told with its traceback."""
        self.breakDown()
        self.broken = False
        self.patch(self.store, "_createIn", lambda directory: 1 // 0)
        self.clock.advance(5.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.store.degraded)


class WorkingDirectoryDegradedTests(DegradedTests):
    """The same without unnamed files."""

    unnamedFiles = False

    def files(self, root: str | None = None) -> list[str]:
        return super().files(root)


class FreeSpaceTests(FileStoreTestCase):
    """A file system that is nearly full."""

    def setUp(self) -> None:
        super().setUp()
        self.free = 1000
        self.inodes = 100
        self.allInodes = 1000
        self.asked: list[str] = []

        def statvfs(path: str) -> Any:
            self.asked.append(path)
            return SimpleNamespace(
                f_bavail=self.free, f_frsize=1024, f_bsize=1 << 20, f_favail=self.inodes, f_files=self.allInodes
            )

        self.patch(os, "statvfs", statvfs)

    def makeStore(self, **settings: Any) -> FileStore:
        return super().makeStore(**{"minimumFreeBytes": 1024000, "minimumFreeInodes": 100, **settings})

    def assertRefused(self, store: FileStore) -> None:
        error = self.assertRaises(StoreRefused, store.open, StoreRequest())
        self.assertRefusal(error, "disk nearly full")

    def test_bytes(self) -> None:
        """Below the number of bytes an object is refused before its data, and taken again when there is room."""
        store = self.makeStore()
        self.put(store)
        self.free -= 1
        self.clock.advance(1.0)
        self.assertRefused(store)
        self.assertEqual(self.files(), [NAME])
        self.free += 1
        self.clock.advance(1.0)
        self.put(store, dataSet("1.2.9"))

    def test_inodes(self) -> None:
        """So it is below the number of inodes."""
        self.inodes -= 1
        store = self.makeStore()
        self.assertRefused(store)
        self.inodes += 1
        self.clock.advance(1.0)
        self.put(store)

    def test_noNumberOfInodes(self) -> None:
        """A file system that has no number of them has enough."""
        self.inodes = self.allInodes = 0
        self.put(self.makeStore())

    def test_any(self) -> None:
        """Nothing is asked where any will do."""
        self.free = self.inodes = 0
        self.put(self.makeStore(minimumFreeBytes=0, minimumFreeInodes=0))
        self.assertEqual(self.asked, [])
        self.put(self.makeStore(minimumFreeBytes=0, minimumFreeInodes=0), OTHER)

    def test_onceASecond(self) -> None:
        """The system is asked no more than once a second."""
        store = self.makeStore()
        for _ in range(21):
            self.put(store)
            self.clock.advance(0.125)
        self.assertEqual(self.asked, [self.root] * 3)

    def test_told(self) -> None:
        """Each change is told in the log, once."""
        store = self.makeStore()
        with capturedLogs() as events:
            for free in (1000, 999, 10, 999, 1000, 1001):
                self.free = free
                self.clock.advance(1.0)
                try:
                    self.put(store)
                except StoreRefused:
                    pass
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["the disk is nearly full: new objects are refused", "the disk has room again: new objects are taken"],
        )

    def test_elsewhere(self) -> None:
        """An application's own place is its own affair; one in the store is not."""
        self.free = 0
        store = self.makeStore()
        self.put(store, at=os.path.abspath(self.mktemp()))
        self.assertRaises(StoreRefused, store.openAt, os.path.join(self.root, "x"), StoreRequest())

    def test_fails(self) -> None:
        """Where it cannot be found out an object is refused, and the next asks again."""
        store = self.makeStore()
        cause = OSError(errno.EIO, "i/o error", "/secret/path")
        failed = self.failing(os, "statvfs", cause)
        for count in (1, 2):
            error = self.assertRaises(StoreRefused, store.open, StoreRequest())
            self.assertRefusal(error, "i/o error", cause)
            self.assertEqual(len(failed), count)

    def test_slow(self) -> None:
        """Where it takes its time it is asked in the pool."""
        pool = ManualPool()
        store = self.makeStore(inPool=pool)
        pool.runAll()
        store.threads.wasQuick(self.clock.seconds() - 1)
        self.free = 0
        opening = store.open(StoreRequest())
        assert isinstance(opening, Deferred)
        self.assertEqual(self.asked, [])
        pool.runAll()
        self.assertRefusal(self.failureResultOf(opening, StoreRefused).value, "disk nearly full")
        self.assertEqual(len(self.asked), 1)
