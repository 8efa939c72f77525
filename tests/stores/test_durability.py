"""
Tests for the file store: what is on the disk when, what blocks where, and what a failing system leaves.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.trial.unittest import TestCase

from dcxtwisted.configuration import Duplicates
from dcxtwisted.errors import DuplicateRefused, StoreRefused
from dcxtwisted.interfaces import IStoreSink, Outcome
from dcxtwisted.part10 import dataSetOffset
from dcxtwisted.stores import directories
from dcxtwisted.stores import sink as sinkModule
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.sink import FileSink
from dcxtwisted.testing.stores import StoreRequest, dataSet, headOf, storedBy
from tests.stores.filestores import (
    DATA,
    NAME,
    OTHER,
    FileStoreTestCase,
    ManualPool,
    diskFull,
    isDirectory,
    isFile,
)
from tests.support import openDescriptors


class OrderTests(FileStoreTestCase):
    """The order of what makes an object durable."""

    def test_new(self) -> None:
        """Data, then the lock, then the name, then the directory and those above it that are new to this process."""
        store = self.makeStore()
        calls = self.traced()
        self.put(store)
        self.assertEqual(
            calls,
            [
                ("fsync", "unnamed"),
                ("flock", "unnamed"),
                ("link", NAME),
                ("fsync", "1.2.4/1.2.5"),
                ("fsync", "1.2.4"),
                ("fsync", "."),
            ],
        )

    def test_next(self) -> None:
        """In a directory that is durable, nothing above it is synchronized again; making one is a reason to doubt."""
        store = self.makeStore()
        self.put(store)
        calls = self.traced()
        self.put(store, OTHER.replace(b"1.2.3\0", b"1.2.9\0"))
        self.put(store, dataSet("1.2.3", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.6"))
        self.assertEqual(
            [call for call in calls if call[0] == "fsync"],
            [
                ("fsync", "unnamed"),
                ("fsync", "1.2.4/1.2.5"),
                ("fsync", "unnamed"),
                ("fsync", "1.2.4/1.2.6"),
                ("fsync", "1.2.4"),
                ("fsync", "."),
            ],
        )

    def test_identical(self) -> None:
        """Before a repeat is acknowledged, the file that stands there is durable, with its directory."""
        self.put(self.makeStore())
        other = self.makeStore()  # as another process, which knows nothing of the first
        calls = self.traced()
        self.put(other)
        self.assertEqual(
            calls,
            [
                ("fsync", "unnamed"),
                ("flock", "unnamed"),
                ("flock", NAME),
                ("fsync", NAME),
                ("fsync", "1.2.4/1.2.5"),
                ("fsync", "1.2.4"),
                ("fsync", "."),
            ],
        )

    def test_removedDirectory(self) -> None:
        """What an application removed and is made again is made durable again."""
        store = self.makeStore()
        stored = self.put(store)
        os.unlink(stored.filename)
        os.rmdir(os.path.dirname(stored.filename))
        calls = self.traced()
        self.put(store)
        self.assertEqual([path for call, path in calls if call == "fsync"], ["unnamed", "1.2.4/1.2.5", "1.2.4", "."])

    def test_refused(self) -> None:
        """That a refused object has no name any more is durable as well."""
        store = self.makeStore()
        sink = self.receive(store)
        self.finish(sink)
        calls = self.traced()
        self.successResultOf(sink.abort())
        self.assertEqual(calls, [("unlink", NAME), ("fsync", "1.2.4/1.2.5")])

    def test_root(self) -> None:
        """The directories made for the root are durable in those above."""
        self.root = os.path.join(self.root, "a", "b")
        above = os.path.dirname(os.path.dirname(self.root))
        calls = self.traced()
        self.makeStore()
        fsyncs = [os.path.normpath(os.path.join(self.root, path)) for call, path in calls if call == "fsync"]
        self.assertEqual(fsyncs, [os.path.dirname(self.root), above, os.path.dirname(above)])
        calls.clear()
        self.makeStore()
        self.assertEqual([call for call in calls if call[0] == "fsync"], [])

    def test_outside(self) -> None:
        """Directories of an application's own path are durable up to the top of the file system, once."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        self.patch(os.path, "ismount", lambda path: path == os.path.dirname(outside))
        calls = self.traced()
        for name in "xy":
            self.put(store, at=os.path.join(outside, "d", name))
        fsyncs = [os.path.normpath(os.path.join(self.root, path)) for call, path in calls if call == "fsync"]
        self.assertEqual(
            [path for path in fsyncs if not path.endswith("unnamed")],
            [outside + "/d", outside, os.path.dirname(outside), outside + "/d"],
        )

    def test_unreadableAbove(self) -> None:
        """A directory above that may only be passed through does not stand in the way."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        os.mkdir(outside)
        failed = self.failing(
            os, "open", PermissionError(errno.EACCES, "denied"), lambda path, flags, *mode: path == outside
        )
        self.put(store, at=os.path.join(outside, "d", "x"))
        self.assertEqual(len(failed), 1)

    def test_bounded(self) -> None:
        """What is remembered of directories is bounded; forgetting costs only time."""
        self.patch(directories, "_MOST_SETTLED", 3)
        store = self.makeStore()
        for number in range(20):
            self.put(store, dataSet("1.2.3", StudyInstanceUID=f"1.{number}"))
        self.assertLess(len(store._directories._settled), 6)

    def test_nothingToSynchronize(self) -> None:
        """A file system that cannot synchronize directories says so with EINVAL: that is no failure."""
        store = self.makeStore()
        failed = self.failing(os, "fsync", OSError(errno.EINVAL, "invalid"), isDirectory)
        self.put(store)
        self.assertEqual(len(failed), 3)

    def test_notDurable(self) -> None:
        """Without durability nothing at all is synchronized, whatever stands there."""
        store = self.makeStore(durable=False)
        calls = self.traced()
        for data in (DATA, DATA, OTHER):
            self.put(store, data)
        sink = self.receive(store, dataSet("1.2.3"))
        self.finish(sink, dataSet("1.2.3"))
        self.successResultOf(sink.abort())
        self.assertEqual([call for call in calls if call[0] in ("fsync", "fdatasync")], [])


class WorkingDirectoryOrderTests(OrderTests):
    """The same without unnamed files: the working name goes once the final one stands."""

    unnamedFiles = False

    def concerns(self, call: str, path: str) -> bool:
        return not path.startswith(".incoming")


class SynchronizeTests(FileStoreTestCase):
    """Large objects are synchronized while they come."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(sinkModule, "_SYNCHRONIZED_EVERY", 1000)
        self.withoutBuffers()
        self.pool = ManualPool()
        self.store = self.makeStore(inPool=self.pool)
        self.pool.runAll()

    def test_beside(self) -> None:
        """Writing goes on while a synchronization runs, up to the next that is due."""
        calls = self.traced()
        sink = self.openSink(self.store)
        self.assertIsNone(sink.write(memoryview(bytes(999))))
        self.assertEqual(len(self.pool.jobs), 0)
        self.assertIsNone(sink.write(memoryview(bytes(1))))
        self.assertEqual(len(self.pool.jobs), 1)
        self.assertIsNone(sink.write(memoryview(bytes(999))))
        waiting = sink.write(memoryview(bytes(500)))
        assert waiting is not None
        self.assertNoResult(waiting)
        self.assertEqual(len(self.pool.jobs), 1)
        self.pool.runOne()
        self.successResultOf(waiting)
        self.assertEqual(calls, [("fdatasync", "unnamed")])
        self.assertEqual(len(self.pool.jobs), 1)
        # Counted from what was written when it began.
        self.assertIsNone(sink.write(memoryview(bytes(999))))
        self.pool.runOne()
        self.assertIsNone(sink.write(memoryview(bytes(1))))
        self.assertEqual(len(self.pool.jobs), 1)
        aborting = sink.abort()
        self.assertNoResult(aborting)
        self.pool.runAll()
        self.successResultOf(aborting)

    def test_finishWaits(self) -> None:
        """The name comes only when a synchronization under way has returned."""
        data = dataSet("1.2.3", size=1500)
        sink = self.openSink(self.store)
        sink.write(memoryview(data))
        finishing = storedBy(sink, headOf(data))
        self.assertEqual(len(self.pool.jobs), 1)
        self.pool.runOne()
        self.assertEqual(len(self.pool.jobs), 1)
        self.pool.runOne()
        self.assertEqual(self.successResultOf(finishing).outcome, Outcome.NEW)
        sink.keep()

    def test_failureInFinish(self) -> None:
        """A synchronization that failed fails the object, and is not tried again."""
        data = dataSet("1.2.3", size=1500)
        error = OSError(errno.EIO, "i/o error", "/secret")
        failed = self.failing(os, "fdatasync", error)
        fsyncs = self.failing(os, "fsync", OSError(errno.EBADF, "must not be called"), isFile)
        sink = self.openSink(self.store)
        sink.write(memoryview(data))
        finishing = storedBy(sink, headOf(data))
        self.pool.runAll()
        self.assertRefusal(self.failureResultOf(finishing, StoreRefused).value, "i/o error", error)
        self.assertEqual((len(failed), len(fsyncs)), (1, 0))
        self.assertEqual(self.files(), [])

    def test_failureInWrite(self) -> None:
        """The next write tells of it, and so does one that waits for it."""
        error = OSError(errno.EIO, "i/o error", "/secret")
        failed = self.failing(os, "fdatasync", error)
        sink = self.openSink(self.store)
        sink.write(memoryview(bytes(1000)))
        waiting = sink.write(memoryview(bytes(1000)))
        assert waiting is not None
        self.pool.runOne()
        self.assertRefusal(self.failureResultOf(waiting, StoreRefused).value, "i/o error", error)
        waiting = sink.write(memoryview(bytes(1000)))
        assert waiting is not None
        self.assertRefusal(self.failureResultOf(waiting, StoreRefused).value, "i/o error", error)
        self.assertEqual(len(failed), 1)
        aborting = sink.abort()
        self.pool.runAll()
        self.successResultOf(aborting)

    def test_notDurable(self) -> None:
        """Without durability none runs."""
        store = self.makeStore(inPool=self.pool, durable=False)
        self.pool.runAll()
        sink = self.openSink(store)
        for _ in range(5):
            self.assertIsNone(sink.write(memoryview(bytes(2000))))
        self.assertEqual(self.pool.jobs, [])
        aborting = sink.abort()
        self.pool.runAll()
        self.successResultOf(aborting)


class SlowTests(FileStoreTestCase):
    """What happens when a call on the reactor's thread took too long."""

    durable = False

    def setUp(self) -> None:
        super().setUp()
        self.pool = ManualPool()
        self.store = self.makeStore(inPool=self.pool)
        self.pool.runAll()
        self.addCleanup(self.pool.runAll)

    def slow(self, module: Any, name: str, seconds: float) -> None:
        """Have the next call of a function take some time."""
        real = getattr(module, name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            patch.restore()
            self.clock.advance(seconds)
            return real(*args, **kwargs)

        patch = self.patch(module, name, slow)

    def test_write(self) -> None:
        """The rest of an object goes on in the pool, in order, from copies."""
        self.slow(os, "writev", 0.021)
        sink = self.openSink(self.store)
        self.assertIsNone(sink.write(memoryview(DATA[:10])))
        for start in range(10, len(DATA), 50):
            piece = bytearray(DATA[start : start + 50])
            waiting = sink.write(memoryview(piece))
            assert waiting is not None
            piece[:] = bytes(len(piece))
            self.assertNoResult(waiting)
            self.assertEqual(len(self.pool.jobs), 1)
            self.pool.runOne()
            self.successResultOf(waiting)
        finishing = storedBy(sink, headOf(DATA))
        self.assertNoResult(finishing)
        self.pool.runOne()
        self.assertEqual(self.successResultOf(finishing).size, len(DATA))
        before = openDescriptors()
        sink.keep()
        self.assertEqual(openDescriptors(), before)
        self.pool.runOne()
        self.assertEqual(len(openDescriptors()), len(before) - 1)
        self.assertTrue(self.content().endswith(DATA))

    def test_otherObjects(self) -> None:
        """So do those of all others, also of those that are open already, for ten seconds."""
        others = [self.openSink(self.store) for _ in range(2)]
        self.assertIsNone(others[0].write(memoryview(DATA[:10])))
        self.slow(os, "writev", 0.021)
        sink = self.receive(self.store)
        for other in others:
            waiting = other.write(memoryview(DATA))
            assert waiting is not None
            self.pool.runOne()
            self.successResultOf(waiting)
        self.assertIsInstance(self.openAndAbort(), Deferred)
        self.clock.advance(10)
        self.assertIsInstance(self.openAndAbort(), FileSink)
        for each in (sink, *others):
            aborting = each.abort()
            self.pool.runAll()
            self.successResultOf(aborting)

    def test_stillSlow(self) -> None:
        """What is slow in the pool is not tried elsewhere."""
        for name in ("open", "writev"):
            self.slow(os, "open", 0.021)
            self.openAndAbort()
            self.clock.advance(9)
            self.slow(os, name, 0.021)
            opening = self.store.open(StoreRequest("1.2.3"))
            assert isinstance(opening, Deferred)
            self.pool.runOne()
            sink = self.successResultOf(opening)
            waiting = sink.write(memoryview(DATA))
            assert waiting is not None
            self.pool.runOne()
            self.successResultOf(waiting)
            self.clock.advance(9)
            self.assertIsInstance(self.openAndAbort(), Deferred)
            sink.abort()
            self.pool.runAll()
            self.clock.advance(10)

    def test_quickEnough(self) -> None:
        """Up to 20 ms all stays where it is."""
        self.slow(os, "writev", 0.0199)
        sink = self.receive(self.store)
        self.slow(os, "link", 0.0199)
        self.finish(sink)
        sink.keep()
        self.assertEqual(self.pool.jobs, [])

    def test_publish(self) -> None:
        """For ten seconds objects are opened and published in the pool."""
        first = self.receive(self.store)
        self.slow(os, "link", 0.021)
        self.finish(first)
        first.keep()
        self.clock.advance(9.9)
        opening = self.store.open(StoreRequest("1.2.3"))
        assert isinstance(opening, Deferred)
        self.assertNoResult(opening)
        self.pool.runOne()
        sink = self.successResultOf(opening)
        waiting = sink.write(memoryview(OTHER))
        assert waiting is not None
        self.pool.runOne()
        self.successResultOf(waiting)
        self.clock.advance(0.2)
        finishing = storedBy(sink, headOf(OTHER))
        self.assertNoResult(finishing)
        self.pool.runOne()
        self.assertEqual(self.successResultOf(finishing).outcome, Outcome.KEPT_BOTH)
        sink.keep()
        self.assertIsInstance(self.openAndAbort(), FileSink)

    def test_open(self) -> None:
        """After a slow open its object goes on in the pool, and others follow for a while."""
        self.slow(os, "open", 0.021)
        sink = self.openSink(self.store)
        waiting = sink.write(memoryview(DATA))
        assert waiting is not None
        self.pool.runOne()
        self.successResultOf(waiting)
        sink.abort()
        self.assertIsInstance(self.openAndAbort(), Deferred)
        self.clock.advance(10)
        self.assertIsInstance(self.openAndAbort(), FileSink)

    def openAndAbort(self) -> IStoreSink | Deferred[IStoreSink]:
        opened = self.store.open(StoreRequest("1.2.3"))
        if isinstance(opened, Deferred):
            opened.addCallback(lambda sink: sink.abort())
            self.addCleanup(self.successResultOf, opened)
        else:
            opened.abort()
        self.pool.runAll()
        return opened

    def test_openCancelled(self) -> None:
        """A sink that nobody waits for any more leaves nothing open."""
        self.slow(os, "open", 0.021)
        self.openAndAbort()
        before = openDescriptors()
        opening = self.store.open(StoreRequest("1.2.3"))
        assert isinstance(opening, Deferred)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.pool.runOne()
        self.assertEqual(len(openDescriptors()), len(before) + 1)
        self.pool.runOne()
        self.assertEqual(openDescriptors(), before)

    def test_openFails(self) -> None:
        """An open that fails in the pool refuses like any other."""
        self.slow(os, "open", 0.021)
        self.openAndAbort()
        error = diskFull()
        self.failing(os, "open", error)
        opening = self.store.open(StoreRequest("1.2.3"))
        assert isinstance(opening, Deferred)
        self.pool.runOne()
        self.assertRefusal(self.failureResultOf(opening, StoreRefused).value, "disk full", error)

    def test_writeFails(self) -> None:
        """A write that fails in the pool fails its Deferred."""
        self.slow(os, "writev", 0.021)
        sink = self.receive(self.store)
        error = diskFull()
        self.failing(os, "write", error)
        waiting = sink.write(memoryview(DATA))
        assert waiting is not None
        self.pool.runOne()
        self.assertRefusal(self.failureResultOf(waiting, StoreRefused).value, "disk full", error)
        self.assertNotFinished(sink)

    def assertNotFinished(self, sink: FileSink) -> None:
        """Check that what lacks bytes never gets a name, not even where a caller finishes it all the same."""
        finishing = storedBy(sink, headOf(DATA))
        self.pool.runAll()
        self.failureResultOf(finishing, StoreRefused)
        self.assertEqual(self.files(), [])

    def test_writeFailsAtOnce(self) -> None:
        """So does one that fails on the reactor's thread, by raising."""
        sink = self.receive(self.store)
        error = diskFull()
        self.failing(os, "write", error)
        refused = self.assertRaises(StoreRefused, sink.write, memoryview(DATA))
        self.assertRefusal(refused, "disk full", error)
        waiting = sink.write(memoryview(DATA))
        assert waiting is not None
        self.failureResultOf(waiting, StoreRefused)
        self.assertNotFinished(sink)

    def test_abortDuringWrite(self) -> None:
        """A descriptor is not closed while a thread uses it."""
        before = openDescriptors()
        self.slow(os, "writev", 0.021)
        sink = self.receive(self.store)
        waiting = sink.write(memoryview(DATA))
        assert waiting is not None
        aborting = [sink.abort(), sink.abort()]
        self.assertEqual(len(self.pool.jobs), 1)
        self.assertEqual(len(openDescriptors()), len(before) + 1)
        self.pool.runOne()
        self.failureResultOf(waiting, StoreRefused)
        self.assertNoResult(aborting[0])
        self.pool.runOne()
        for aborted in aborting:
            self.successResultOf(aborted)
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(self.pool.jobs, [])

    def test_cancelledWrite(self) -> None:
        """Nor is it where the write was cancelled."""
        before = openDescriptors()
        self.slow(os, "writev", 0.021)
        sink = self.receive(self.store)
        waiting = sink.write(memoryview(DATA))
        assert waiting is not None
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        aborting = sink.abort()
        self.assertEqual(len(self.pool.jobs), 1)
        self.assertEqual(len(openDescriptors()), len(before) + 1)
        self.pool.runAll()
        self.successResultOf(aborting)
        self.assertEqual(openDescriptors(), before)


class PoolTests(FileStoreTestCase):
    """Publishing in the pool, given up, and in a queue that is full."""

    def setUp(self) -> None:
        super().setUp()
        self.pool = ManualPool()
        self.addCleanup(self.pool.runAll)

    def makeStore(self, **settings: Any) -> FileStore:
        store = super().makeStore(inPool=self.pool, **settings)
        self.pool.runAll()
        return store

    def test_abortDuringFinish(self) -> None:
        """What is given up while it is published ends without a name, once the thread has returned."""
        before = openDescriptors()
        store = self.makeStore()
        sink = self.receive(store)
        finishing = storedBy(sink, headOf(DATA))
        aborting = sink.abort()
        self.assertNoResult(aborting)
        self.pool.runOne()
        self.assertEqual(self.files(), [NAME])
        self.assertNoResult(finishing)
        self.pool.runAll()
        self.successResultOf(aborting)
        self.assertEqual(self.failureResultOf(finishing, StoreRefused).value.comment, "aborted")
        self.assertEqual(self.files(), [])
        self.assertEqual(openDescriptors(), before)

    def test_cancelFinish(self) -> None:
        """Cancelling what is being published gives it up."""
        before = openDescriptors()
        store = self.makeStore()
        sink = self.receive(store)
        finishing = storedBy(sink, headOf(DATA))
        finishing.cancel()
        self.assertEqual(len(openDescriptors()), len(before) + 1)
        self.pool.runAll()
        self.failureResultOf(finishing, CancelledError)
        self.assertEqual(self.files(), [])
        self.assertEqual(openDescriptors(), before)

    def test_oneJob(self) -> None:
        """All of publishing is one job."""
        store = self.makeStore()
        sink = self.receive(store)
        finishing = storedBy(sink, headOf(DATA))
        self.assertEqual(len(self.pool.jobs), 1)
        self.pool.runOne()
        self.successResultOf(finishing)
        self.assertEqual(self.pool.jobs, [])
        sink.keep()

    def test_manyWait(self) -> None:
        """However many are to be published at once, each gets its turn: an object received whole is not turned away."""
        store = self.makeStore()
        datas = [dataSet(f"1.{number}") for number in range(500)]
        sinks = [self.receive(store, data) for data in datas]
        finishing = [storedBy(sink, headOf(data)) for sink, data in zip(sinks, datas, strict=True)]
        self.assertEqual(len(self.pool.jobs), 500)
        self.pool.runAll()
        for finished in finishing:
            self.assertEqual(self.successResultOf(finished).outcome, Outcome.NEW)
        for sink in sinks:
            sink.keep()

    def test_stopWaits(self) -> None:
        """A store has stopped when its last job has returned; nothing more is opened meanwhile."""
        store = self.makeStore()
        sink = self.receive(store)
        finishing = storedBy(sink, headOf(DATA))
        stopping = store.stop()
        self.assertNoResult(stopping)
        error = self.assertRaises(StoreRefused, store.open, StoreRequest())
        self.assertRefusal(error, "store not running")
        self.pool.runOne()
        self.successResultOf(stopping)
        self.assertEqual(self.successResultOf(finishing).outcome, Outcome.NEW)
        sink.keep()

    def test_notStarted(self) -> None:
        """A store that was not started opens nothing."""
        store = FileStore(self.root, reactor=self.clock)
        error = self.assertRaises(StoreRefused, store.open, StoreRequest())
        self.assertRefusal(error, "store not running")


class FaultTests(FileStoreTestCase):
    """Whatever the system refuses, the object is refused, nothing is left, and the store goes on."""

    gathers = True

    comments = {
        errno.ENOSPC: "disk full",
        errno.EDQUOT: "disk quota exceeded",
        errno.EIO: "i/o error",
        errno.EMFILE: "too many open files",
        errno.ENFILE: "too many open files",
        errno.EROFS: "read-only file system",
        errno.EACCES: "permission denied",
        errno.ESTALE: "storage failure",
    }

    def setUp(self) -> None:
        super().setUp()
        if not self.gathers:
            self.withoutBuffers()
        self.before: list[str] = []
        names = [(os, name) for name in ("open", "writev", "write", "dup", "link", "fsync")] + [(fcntl, "flock")]
        self.real = {(module, name): getattr(module, name) for module, name in names}

    def attempt(self, store: FileStore, request: StoreRequest) -> StoreRefused:
        """Return what refuses an object, having given it up as its receiver does."""
        try:
            sink = store.open(request)
            assert isinstance(sink, FileSink)
        except StoreRefused as error:
            return error
        try:
            sink.write(memoryview(DATA))
            sink.write(memoryview(DATA))
        except StoreRefused as error:
            self.successResultOf(sink.abort())
            return error
        refused: StoreRefused = self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused).value
        self.assertEqual(self.files(), self.before)  # already
        self.successResultOf(sink.abort())
        return refused

    def faults(self) -> list[tuple[str, Any, str, Any]]:
        found: list[tuple[str, Any, str, Any]] = [
            ("open", os, "open", lambda path, flags, *mode: path == self.root or ".incoming" in path),
            ("write", os, "write", lambda *args: True),
            ("duplicate", os, "dup", lambda *args: True),
            ("lock", fcntl, "flock", lambda *args: True),
            ("link", os, "link", lambda *args, **kwargs: True),
        ]
        if not (self.durable and self.gathers):
            found += [("first write", os, "writev", lambda *args: True)]
        if self.durable:
            found += [
                ("fsync", os, "fsync", isFile),
                ("fsync of a directory", os, "fsync", isDirectory),
                ("fsync of the root", os, "fsync", lambda fd: os.readlink(f"/proc/self/fd/{fd}") == self.root),
                ("open of a directory", os, "open", lambda path, flags, *mode: path.endswith("/1.2.5")),
            ]
        return found

    def test_faults(self) -> None:
        """Each call, failing where nothing, the same object or another stands."""
        for what, module, name, when in self.faults():
            for existing in ([], [DATA + DATA], [OTHER]):
                store = self.makeStore()
                for data in existing:
                    self.put(store, data, at=os.path.join(self.root, NAME))
                self.before = self.files()
                store = self.makeStore()  # to which the directories are new
                descriptors = openDescriptors()
                cause = diskFull()
                failed = self.failing(module, name, cause, when)
                error = self.attempt(store, StoreRequest("1.2.3"))
                setattr(module, name, self.real[module, name])
                self.assertTrue(failed, what)
                self.assertRefusal(error, "disk full", cause)
                self.assertEqual(self.files(), self.before, what)
                self.assertEqual(openDescriptors(), descriptors, what)
                self.clock.advance(store.probeInterval)
                self.put(store)
                for left in self.files():
                    os.unlink(os.path.join(self.root, left))

    def test_comments(self) -> None:
        """What the sender is told of each kind of trouble."""
        store = self.makeStore()
        for number, comment in self.comments.items():
            cause = OSError(number, os.strerror(number), "/secret/path")
            for _, module, name, when in (self.faults()[0], self.faults()[-1]):
                self.failing(module, name, cause, when)
                self.assertRefusal(self.attempt(store, StoreRequest("1.2.3")), comment, cause)
                setattr(module, name, self.real[module, name])
                self.clock.advance(store.probeInterval)

    def test_fsyncOnce(self) -> None:
        """A failed fsync is not tried again, not even for the error's own clearing up."""
        if not self.durable:
            return
        store = self.makeStore()
        failed = self.failing(os, "fsync", OSError(errno.EIO, "i/o error"), isFile)
        self.attempt(store, StoreRequest("1.2.3"))
        self.assertEqual(len(failed), 1)

    def test_unexpected(self) -> None:
        """What is no error of the system passes as it is, and leaves nothing either."""
        store = self.makeStore()
        descriptors = openDescriptors()
        sink = self.receive(store)

        def broken(*args: object) -> None:
            raise ZeroDivisionError

        self.patch(fcntl, "flock", broken)
        try:
            finishing = storedBy(sink, headOf(DATA))
        except ZeroDivisionError:
            self.successResultOf(sink.abort())
        else:
            self.failureResultOf(finishing, ZeroDivisionError)
        self.assertEqual(self.files(), [])
        self.assertEqual(openDescriptors(), descriptors)


class WorkingDirectoryFaultTests(FaultTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickFaultTests(FaultTests):
    """The same without synchronizing."""

    durable = False


class ThreadTests(TestCase):
    """With threads and a reactor."""

    timeout = 60

    def makeStore(self, **settings: Any) -> FileStore:
        root = settings.pop("root", None) or self.mktemp()
        store = FileStore(root, reactor=reactor, **settings)
        store.start()
        self.addCleanup(store.stop)
        return store

    async def put(self, store: FileStore, data: bytes, isKept: bool = True) -> Outcome:
        sink = store.open(StoreRequest("1.2.3"))
        if isinstance(sink, Deferred):
            sink = await sink
        waiting = sink.write(memoryview(data))
        if waiting is not None:
            await waiting
        stored = await storedBy(sink, headOf(data))
        await Deferred.fromCoroutine(_moment())
        if isKept:
            sink.keep()
        else:
            await sink.abort()
        return stored.outcome

    async def test_crowdOfRefusals(self) -> None:
        """One makes the directories that another removes, of two processes: who is kept stands, and nobody else."""
        for settings in ({}, {"durable": False}, {"unnamedFiles": False}):
            store = self.makeStore(**settings)
            sibling = self.makeStore(root=store.root, **settings)
            results = await DeferredList(
                Deferred.fromCoroutine(
                    self.put(
                        each,
                        dataSet(f"1.2.{series}.{number}", StudyInstanceUID="1.9", SeriesInstanceUID=f"1.9.{series}"),
                        isKept=number == series == 5,
                    )
                )
                for number in range(6)
                for series in range(6)
                for each in (store, sibling)
            )
            self.assertEqual([result for success, result in results if not success], [])
            for each in (store, sibling):
                await each.stop()
            found = [name for _, _, names in os.walk(store.root) for name in names]
            self.assertEqual(found, ["1.2.5.5.dcm"])

    async def test_crowd(self) -> None:
        """Many at once under one name: each object stands once, and everybody is told so."""
        self.patch(sinkModule, "_LONGEST_WAIT", 0.02)  # else most of the time is waiting
        before = openDescriptors()
        for settings in ({}, {"durable": False}, {"unnamedFiles": False}):
            store = self.makeStore(**settings)
            datas = [dataSet("1.2.3", fill=fill) for fill in (b"a", b"b", b"c")] * 8
            results = await DeferredList([Deferred.fromCoroutine(self.put(store, data)) for data in datas])
            self.assertEqual([success for success, _ in results], [True] * 24)
            outcomes = [outcome for _, outcome in results]
            counts = [outcomes.count(outcome) for outcome in (Outcome.NEW, Outcome.KEPT_BOTH, Outcome.IDENTICAL)]
            self.assertEqual(counts, [1, 2, 21])
            await store.stop()
        gc.collect()
        after = [path for path in openDescriptors().values() if path.startswith("/")]  # no pipes of the reactor
        self.assertEqual([path for path in after if path not in before.values()], [])

    async def test_crowdOfRivals(self) -> None:
        """So it is whatever the operator chose: one object stands, whole, and nothing is left of the others."""
        self.patch(sinkModule, "_LONGEST_WAIT", 0.02)
        names = {
            Duplicates.REPLACE: Outcome.REPLACED,
            Duplicates.KEEP_FIRST: Outcome.KEPT_FIRST,
            Duplicates.REFUSE: DuplicateRefused,
        }
        for duplicates, expected in names.items():
            for unnamedFiles in (True, False):
                store = self.makeStore(duplicates=duplicates, unnamedFiles=unnamedFiles)
                datas = [dataSet("1.2.3", fill=bytes([number])) for number in range(6)]
                results = await DeferredList(
                    [Deferred.fromCoroutine(self.put(store, data)) for data in datas], consumeErrors=True
                )
                outcomes = [result if success else getattr(result, "type", None) for success, result in results]
                self.assertEqual((outcomes.count(Outcome.NEW), outcomes.count(expected)), (1, 5))
                await store.stop()
                found = [os.path.join(where, name) for where, _, names in os.walk(store.root) for name in names]
                self.assertEqual(len(found), 1)
                with open(found[0], "rb") as file:
                    content = file.read()
                self.assertIn(content[dataSetOffset(content) :], datas)

    async def test_stop(self) -> None:
        """Stopping ends the threads; starting again works; what is left over is still cleared up."""
        store = self.makeStore()
        sink = store.open(StoreRequest("1.2.3"))
        assert isinstance(sink, FileSink)
        sink.write(memoryview(DATA))
        await storedBy(sink, headOf(DATA))
        await store.stop()
        await sink.abort()
        self.assertEqual([names for _, _, names in os.walk(store.root) if names], [])
        store.start()
        self.assertEqual(await self.put(store, DATA), Outcome.NEW)


async def _moment() -> None:
    """Let the reactor turn."""
    waiting: Deferred[None] = Deferred()
    reactor.callLater(0, waiting.callback, None)
    await waiting


class UngatheredFaultTests(FaultTests):
    """The same where objects are written as they come."""

    gathers = False
