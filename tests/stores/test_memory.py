"""
Tests for the memory store.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from threading import Thread
from types import SimpleNamespace
from typing import Any
from unittest import skipIf

from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dcxtwisted.configuration import MemoryOverflow
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IObjectInMemory, IStoreSink, Outcome
from dcxtwisted.part10 import dataSetOffset
from dcxtwisted.stores import spilling
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.jobs import Threads
from dcxtwisted.stores.memory import PER_OBJECT, MemoryStore, ObjectInMemory
from dcxtwisted.testing.stores import StoreAssociation, StoreContract, StoreRequest, dataSet, headOf, storedBy
from tests.stores.filestores import ManualPool, diskFull
from tests.support import openDescriptors

LEAD = leadOf(StoreRequest())
#: What an object counts before the first byte of its data set.
BESIDE = len(LEAD) + PER_OBJECT


class MemoryContract(StoreContract):
    """The memory store does what every store does."""

    def filesIn(self, store: MemoryStore) -> list[bytes]:
        return [bytes(taken) for taken in iter(store.take, None)]


class MemoryContractTests(MemoryContract, TestCase):
    """Where there is room in memory."""

    def makeStore(self) -> MemoryStore:
        return MemoryStore(spillBudget=0)


class SpillingContractTests(MemoryContract, TestCase):
    """Where there is none at all."""

    def makeStore(self) -> MemoryStore:
        return MemoryStore(0, directory=self.mktemp())


class HalfSpillingContractTests(MemoryContract, TestCase):
    """Where it ends in the middle, and files are written in threads."""

    def makeStore(self) -> MemoryStore:
        from twisted.internet import reactor

        ticks = iter(range(1 << 30))
        threads = Threads(reactor, seconds=lambda: float(next(ticks)))
        threads.start()
        self.addCleanup(threads.stop)
        return MemoryStore(PER_OBJECT + 1000, threads=threads)


class WaitingContractTests(MemoryContract, TestCase):
    """Where senders would wait, and need not."""

    def makeStore(self) -> MemoryStore:
        return MemoryStore(8_000_000, MemoryOverflow.WAIT, reactor=Clock())


class RefusingContractTests(MemoryContract, TestCase):
    """Where objects would be refused, and are not."""

    def makeStore(self) -> MemoryStore:
        return MemoryStore(8_000_000, MemoryOverflow.REFUSE)


class MemoryTestCase(SynchronousTestCase):
    """Receives objects, of a hundred bytes and more."""

    def receive(self, store: MemoryStore, data: bytes, request: StoreRequest | None = None) -> IStoreSink:
        sink = store.open(StoreRequest() if request is None else request)
        self.assertIsNone(sink.write(memoryview(data)))
        return sink

    def finish(self, store: MemoryStore, data: bytes, request: StoreRequest | None = None) -> IStoreSink:
        sink = self.receive(store, data, request)
        self.end(sink, data)
        return sink

    def end(self, sink: IStoreSink, data: bytes) -> None:
        stored = self.successResultOf(storedBy(sink, headOf(data)))
        self.assertEqual((stored.filename, stored.size, stored.outcome), ("", len(data), Outcome.NEW))

    def assertRefused(self, comment: str, function: Callable[..., Any], *args: Any) -> None:
        error = self.assertRaises(StoreRefused, function, *args)
        self.assertEqual((error.status, error.comment), (0xA700, comment))

    def assertDeferredRefused(self, comment: str, deferred: Deferred[None]) -> None:
        error = self.failureResultOf(deferred, StoreRefused).value
        self.assertEqual((error.status, error.comment), (0xA700, comment))

    def take(self, store: MemoryStore, association: StoreAssociation | None = None) -> ObjectInMemory:
        taken = store.take(association)
        assert taken is not None
        return taken

    def waiting(self, sink: IStoreSink, data: bytes) -> Deferred[None]:
        """Write what there is no room for, from a buffer that is used again at once."""
        piece = bytearray(data)
        deferred = sink.write(memoryview(piece))
        piece[:] = bytes(len(piece))
        assert deferred is not None
        self.assertNoResult(deferred)
        return deferred


class ObjectTests(MemoryTestCase):
    """What is handed over."""

    def test_take(self) -> None:
        """It is the whole file with the facts of its request, as soon as it is finished."""
        clock = Clock()
        clock.advance(70)
        store = MemoryStore(reactor=clock)
        request = StoreRequest("1.2.3", messageID=7)
        data = dataSet("1.2.3")
        sink = self.receive(store, data, request)
        self.assertIsNone(store.take())
        head = headOf(data)
        clock.advance(5)
        self.successResultOf(storedBy(sink, head))
        clock.advance(5)
        self.assertEqual(store.untaken, 1)
        taken = self.take(store)
        verifyObject(IObjectInMemory, taken)
        self.assertEqual(
            (taken.SOPClassUID, taken.SOPInstanceUID, taken.transferSyntaxUID, taken.messageID, taken.receivedAt),
            ("1.2.840.10008.5.1.4.1.1.66", "1.2.3", "1.2.840.10008.1.2.1", 7, 75.0),
        )
        self.assertEqual(
            (taken.callingAETitle, taken.calledAETitle, taken.callingHost), ("SENDER", "STORE", "192.0.2.1")
        )
        self.assertIs(taken.association, request.association)
        self.assertIs(taken.head, head)
        self.assertEqual(bytes(taken), leadOf(request) + data)
        self.assertIsNone(store.take())
        sink.keep()
        self.assertEqual((store.bytesHeld, store.untaken), (0, 0))

    def test_bytesLike(self) -> None:
        """Small, large and in a file it is the same: bytes that nobody can change."""
        for size, budget in ((100, 1 << 20), (2_000_000, 1 << 22), (2_000_000, 0)):
            data = dataSet(size=size)
            store = MemoryStore(budget)
            self.finish(store, data)
            taken = self.take(store)
            for view in (taken.data, taken.__buffer__(0)):
                self.assertEqual(view, LEAD + data)
                self.assertTrue(view.readonly)
                self.assertEqual((view.format, view.contiguous), ("B", True))
            self.assertEqual(bytes(taken), LEAD + data)
            self.assertEqual(len(taken), len(LEAD) + len(data))
            self.assertTrue(taken)

    def test_notCopied(self) -> None:
        """Nothing makes a second copy of what is in memory, or maps twice what is in a file."""
        for budget in (1 << 22, 0):
            store = MemoryStore(budget)
            self.finish(store, dataSet(size=2_000_000))
            taken = self.take(store)
            self.assertIs(taken.data.obj, taken.data.obj)
            self.assertIs(taken.data.obj is bytes(taken), bool(budget))

    @skipIf(sys.version_info < (3, 12), "no class in Python can be bytes-like before Python 3.12")
    def test_buffer(self) -> None:
        """From Python 3.12 on it is itself what is bytes-like."""
        store = MemoryStore()
        self.finish(store, dataSet())
        taken: Any = self.take(store)
        self.assertEqual(memoryview(taken), LEAD + dataSet())
        self.assertEqual(b"".join([taken]), LEAD + dataSet())

    def test_otherUIDs(self) -> None:
        """An object that is not what the command announced is named by its data set."""
        store = MemoryStore()
        for command in ("1.2.3.4.5", "1", "1.2.4"):
            self.finish(store, dataSet("1.2.3"), StoreRequest(command, "1.2.840.10008.5.1.4.1.1.2"))
            taken = store.take()
            assert taken is not None
            self.assertEqual((taken.SOPClassUID, taken.SOPInstanceUID), ("1.2.840.10008.5.1.4.1.1.66", "1.2.3"))
            self.assertEqual(taken.data, leadOf(StoreRequest("1.2.3")) + dataSet("1.2.3"))
            self.assertEqual(store.bytesHeld, 0)

    def test_dataset(self) -> None:
        """pydicom reads what was taken, wherever it was."""
        data = dataSet("1.2.3", PatientID="P^7", size=2_000_000)
        for budget in (1 << 22, 0):
            store = MemoryStore(budget)
            self.finish(store, data, StoreRequest("1.2.3"))
            taken = self.take(store)
            for _ in range(2):
                read = taken.dataset()
                self.assertEqual((read.SOPInstanceUID, read.PatientID), ("1.2.3", "P^7"))
                self.assertEqual(read.file_meta.TransferSyntaxUID, "1.2.840.10008.1.2.1")
                self.assertEqual(read.file_meta.SendingApplicationEntityTitle, "SENDER")
                self.assertEqual(read[0x0021, 0x1010].value, b"\x55" * 2_000_000)

    def test_representation(self) -> None:
        """The text of an object is short, and tells nothing of the patient."""
        store = MemoryStore()
        self.finish(store, dataSet(PatientID="SECRET"))
        text = repr(store.take())
        self.assertNotIn("SECRET", text)
        self.assertLess(len(text), 400)

    def test_order(self) -> None:
        """Objects are handed over in the order in which they were finished."""
        store = MemoryStore()
        sinks = {uid: self.receive(store, dataSet(uid), StoreRequest(uid)) for uid in ("1.1", "1.2", "1.3")}
        for uid in ("1.3", "1.1", "1.2"):
            self.end(sinks[uid], dataSet(uid))
        self.assertEqual([taken.SOPInstanceUID for taken in iter(store.take, None)], ["1.3", "1.1", "1.2"])

    def test_association(self) -> None:
        """One association's objects can be taken without those of another."""
        store = MemoryStore()
        here, there = StoreAssociation(), StoreAssociation()
        sinks = {}
        for uid, association in (("1.1", there), ("1.2", here), ("1.3", there), ("1.4", here), ("1.5", there)):
            sinks[uid] = self.finish(store, dataSet(uid), StoreRequest(uid, association=association))
        self.successResultOf(sinks["1.3"].abort())

        def uidsOf(association: StoreAssociation | None) -> list[str]:
            taken: list[ObjectInMemory] = list(iter(lambda: store.take(association), None))
            return [one.SOPInstanceUID for one in taken]

        self.assertEqual(uidsOf(here), ["1.2", "1.4"])
        self.assertEqual(uidsOf(None), ["1.1", "1.5"])
        self.assertEqual(uidsOf(there), [])

    def test_takenIsLeft(self) -> None:
        """What was taken while OnStoreDone was asked stays the application's when the object is then refused."""
        for budget in (1 << 20, 0):
            store = MemoryStore(budget)
            data = dataSet()
            sink = self.finish(store, data)
            taken = self.take(store)
            self.successResultOf(sink.abort())
            self.assertEqual(bytes(taken)[dataSetOffset(bytes(taken)) :], data)
            self.assertEqual((store.bytesHeld, store.bytesSpilled), (0, 0))

    def test_keptIsLeft(self) -> None:
        """What was acknowledged waits to be taken, whatever is called later."""
        store = MemoryStore()
        sink = self.finish(store, dataSet())
        sink.keep()
        self.successResultOf(sink.abort())
        self.assertIsNotNone(store.take())

    def test_clear(self) -> None:
        """What nobody took is forgotten, what is being received is not."""
        store = MemoryStore()
        self.finish(store, dataSet()).keep()
        self.finish(store, dataSet())
        data = dataSet()
        sink = self.receive(store, data)
        self.assertEqual(store.clear(), 2)
        self.assertEqual(store.bytesHeld, BESIDE + len(data))
        self.end(sink, data)
        self.take(store)
        self.assertEqual(store.clear(), 0)


class RefusingTests(MemoryTestCase):
    """Beyond the budget objects are refused."""

    def makeStore(self, budget: int) -> MemoryStore:
        return MemoryStore(budget, MemoryOverflow.REFUSE)

    def test_budget(self) -> None:
        """What does not fit beside the untaken objects is refused; taking makes room."""
        data = dataSet(size=1000)
        size = BESIDE + len(data)
        store = self.makeStore(2 * size)
        self.finish(store, data).keep()
        second = self.finish(store, data)
        self.assertEqual(store.bytesHeld, 2 * size)
        third = store.open(StoreRequest())
        self.assertRefused("memory budget exhausted", third.write, memoryview(b"x"))
        self.successResultOf(third.abort())
        store.take()
        self.assertEqual(store.bytesHeld, size)
        self.successResultOf(second.abort())
        self.assertEqual(store.bytesHeld, 0)
        self.finish(store, data)

    def test_inside(self) -> None:
        """What is still being received counts, and an object that outgrows the budget gives back what it had."""
        store = self.makeStore(2 * BESIDE + 2000)
        first = self.receive(store, bytes(1000))
        second = self.receive(store, bytes(999))
        held = store.bytesHeld
        self.assertRefused("memory budget exhausted", second.write, memoryview(bytes(2)))
        self.assertEqual(store.bytesHeld, held)
        self.successResultOf(second.abort())
        self.assertEqual(store.bytesHeld, BESIDE + 1000)
        self.successResultOf(first.abort())
        self.assertEqual(store.bytesHeld, 0)

    def test_exactBudget(self) -> None:
        """An object of exactly the budget is taken, one byte more is not."""
        data = dataSet()
        size = BESIDE + len(data)
        self.finish(self.makeStore(size), data)
        sink = self.makeStore(size - 1).open(StoreRequest())
        self.assertRefused("memory budget exhausted", sink.write, memoryview(data))

    def test_nothingClaimed(self) -> None:
        """An object that was only announced counts nothing."""
        store = self.makeStore(0)
        sink = store.open(StoreRequest())
        self.assertEqual(store.bytesHeld, 0)
        self.successResultOf(sink.abort())


class SpillingTests(MemoryTestCase):
    """Beyond the budget objects go into files that have no name, and read back as they were."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(dir=".")
        before = openDescriptors()
        self.addCleanup(lambda: self.assertEqual(openDescriptors(), before))
        self.stores: list[MemoryStore] = []
        self.addCleanup(lambda: [store.clear() for store in self.stores])

    def makeStore(self, budget: int = 0, spillBudget: int = 1 << 30, **options: Any) -> MemoryStore:
        options.setdefault("directory", self.directory)
        store = MemoryStore(budget, MemoryOverflow.SPILL, spillBudget, **options)
        self.stores.append(store)
        return store

    def spilled(self) -> list[str]:
        """Return the paths, as /proc has them, of the files without a name that are open."""
        return [path for path in openDescriptors().values() if path.endswith(" (deleted)")]

    def test_inTheMiddle(self) -> None:
        """One that memory has no more room for goes on in a file, with its first bytes; it then holds no memory."""
        data = bytes(range(200)) * 50
        store = self.makeStore(BESIDE + 5000)
        sink = store.open(StoreRequest())
        for start in range(0, len(data), 100):
            self.assertIsNone(sink.write(memoryview(data[start : start + 100])))
            inMemory = start < 5000
            self.assertEqual(store.bytesHeld, BESIDE + start + 100 if inMemory else 0)
            self.assertEqual(store.bytesSpilled, 0 if inMemory else len(LEAD) + start + 100)
        sink.finish(headOf(dataSet()))
        sink.keep()
        self.assertEqual(bytes(self.take(store)), LEAD + data)
        self.assertEqual((store.bytesHeld, store.bytesSpilled, store.spillSpace.files), (0, 0, 0))

    def test_otherUIDs(self) -> None:
        """An object that is not what the command announced is named by its data set, where it spilled, too."""
        data = dataSet("1.2.3", size=2_500_000)
        lead = leadOf(StoreRequest("1.2.3"))
        store = self.makeStore()
        for command in ("1.2.3.4.5", "1", "1.2.4"):
            self.finish(store, data, StoreRequest(command, "1.2.840.10008.5.1.4.1.1.2")).keep()
            self.assertEqual(store.bytesSpilled, len(lead) + len(data))
            taken = self.take(store)
            self.assertEqual((taken.SOPClassUID, taken.SOPInstanceUID), ("1.2.840.10008.5.1.4.1.1.66", "1.2.3"))
            self.assertEqual(bytes(taken), lead + data)
            self.assertEqual((store.bytesHeld, store.bytesSpilled, store.spillSpace.files), (0, 0, 0))

    def test_otherUIDsInAThread(self) -> None:
        """While that is done nothing can be taken; given up, nothing is."""
        store, pool, _ = self.pooled(0)
        data = dataSet("1.2.3")
        for isAborted in (False, True):
            sink = self.receive(store, data, StoreRequest("1.2.3.4.5"))
            finishing = storedBy(sink, headOf(data))
            self.assertNoResult(finishing)
            self.assertIsNone(store.take())
            if isAborted:
                finishing.cancel()
                self.failureResultOf(finishing, CancelledError)
                aborting = sink.abort()
                pool.runAll()
                self.successResultOf(aborting)
                self.assertIsNone(store.take())
            else:
                pool.runAll()
                self.assertEqual(self.successResultOf(finishing).size, len(data))
                self.assertEqual(bytes(self.take(store)), leadOf(StoreRequest("1.2.3")) + data)
            self.assertEqual((store.bytesSpilled, store.spillSpace.files), (0, 0))

    def test_beside(self) -> None:
        """What is in memory stays there, what comes when it is full spills, and what comes later has room again."""
        data = dataSet()
        size = BESIDE + len(data)
        store = self.makeStore(size)
        for _ in range(2):
            self.finish(store, data).keep()
        self.assertEqual((store.bytesHeld, store.bytesSpilled), (size, len(LEAD) + len(data)))
        self.take(store)
        self.finish(store, data).keep()
        self.assertEqual((store.bytesHeld, store.bytesSpilled), (size, len(LEAD) + len(data)))

    def test_descriptors(self) -> None:
        """One for each object, in the directory given; it goes with the object."""
        store = self.makeStore()
        sinks = [self.receive(store, dataSet()) for _ in range(4)]
        self.assertEqual(len(self.spilled()), 4)
        for path in self.spilled():
            self.assertIn(self.directory.removeprefix("."), path)
        for sink in sinks[1:]:
            self.end(sink, dataSet())
        self.assertEqual(len(self.spilled()), 4)
        self.successResultOf(sinks[0].abort())
        self.successResultOf(sinks[1].abort())
        self.assertEqual(len(self.spilled()), 2)
        sinks[2].keep()
        taken: ObjectInMemory | None = self.take(store)
        self.assertEqual((len(self.spilled()), store.spillSpace.files), (2, 1))
        del taken
        self.assertEqual(len(self.spilled()), 1)
        self.assertEqual(store.clear(), 1)
        self.assertEqual(self.spilled(), [])

    def test_outlivesTheStore(self) -> None:
        """What was taken is there as long as it is held, and views of it are."""
        store = self.makeStore()
        data = dataSet()
        self.finish(store, data)
        view = self.take(store).data
        store.clear()
        self.assertEqual(view, LEAD + data)

    def test_budget(self) -> None:
        """Of what spills there is a limit too."""
        data = dataSet(size=1000)
        size = len(LEAD) + len(data)
        store = self.makeStore(spillBudget=2 * size)
        self.finish(store, data).keep()
        second = self.finish(store, data)
        third = store.open(StoreRequest())
        self.assertRefused("memory budget exhausted", third.write, memoryview(b"x"))
        self.successResultOf(third.abort())
        self.successResultOf(second.abort())
        self.assertEqual((store.bytesSpilled, store.spillSpace.files), (size, 1))
        self.finish(store, data)

    def test_budgetInside(self) -> None:
        store = self.makeStore(spillBudget=len(LEAD) + 1000)
        sink = self.receive(store, bytes(1000))
        self.assertRefused("memory budget exhausted", sink.write, memoryview(b"x"))
        self.successResultOf(sink.abort())
        self.assertEqual(store.bytesSpilled, 0)
        self.receive(store, bytes(1000))

    def test_mostFiles(self) -> None:
        """Never more than a quarter of the descriptors there can be: the listener needs them for its peers."""
        self.patch(resource, "getrlimit", lambda which: (12, 4096))
        store = self.makeStore()
        for _ in range(3):
            self.finish(store, dataSet()).keep()
        sink = store.open(StoreRequest())
        self.assertRefused("memory budget exhausted", sink.write, memoryview(b"x"))
        self.successResultOf(sink.abort())
        self.take(store)
        self.finish(store, dataSet())
        self.patch(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.finish(store, dataSet())

    def test_temporaryDirectory(self) -> None:
        """Where no file can be made in the directory given, they are in the system's."""
        store = self.makeStore(directory="/nonexistent/directory")
        self.finish(store, dataSet())
        (path,) = self.spilled()
        self.assertTrue(path.startswith(tempfile.gettempdir()))

    def test_noDirectory(self) -> None:
        self.patch(tempfile, "tempdir", "/nonexistent/other")
        for directory in ("/nonexistent/directory", None):
            store = self.makeStore(directory=directory)
            sink = store.open(StoreRequest())
            self.assertRefused("no such directory", sink.write, memoryview(b"x"))
            self.successResultOf(sink.abort())
            self.assertEqual((store.bytesSpilled, store.spillSpace.files), (0, 0))

    def test_nearlyFull(self) -> None:
        """Nothing spills to a disk that has less free than is to stay so; what has spilled goes on."""
        free = {self.directory: (0, 9), "tmp": (0, 9)}

        def statvfs(path: str) -> Any:
            freeBytes, inodes = free["tmp" if path == tempfile.gettempdir() else path]
            return SimpleNamespace(f_bavail=freeBytes, f_frsize=1, f_files=100, f_favail=inodes)

        self.patch(os, "statvfs", statvfs)
        data = dataSet()
        for directory in (self.directory, None):
            name = "tmp" if directory is None else directory
            clock = Clock()
            threads = Threads(clock, execute, clock.seconds)
            store = self.makeStore(minimumFreeBytes=1000, minimumFreeInodes=5, directory=directory, threads=threads)
            with capturedLogs() as events:
                for free[name] in ((999, 9), (1000, 4)):
                    sink = store.open(StoreRequest())
                    self.assertRefused("disk nearly full", sink.write, memoryview(data))
                    self.successResultOf(sink.abort())
                    self.assertEqual((store.bytesSpilled, store.spillSpace.files), (0, 0))
                    clock.advance(1)  # it is looked at once in a while
                free[name] = (1000, 5)
                sink = store.open(StoreRequest())
                self.assertIsNone(sink.write(memoryview(data[:10])))
                free[name] = (0, 0)
                clock.advance(1)
                self.assertIsNone(sink.write(memoryview(data[10:])))
                self.successResultOf(storedBy(sink, headOf(data)))
            self.assertEqual(
                [formatEvent(event) for event in events],
                [
                    "the disk is nearly full: objects that memory has no room for are refused",
                    "the disk has room again: objects that memory has no room for are taken",
                ],
            )
            self.assertEqual(bytes(self.take(store)), LEAD + data)

    def test_diskFull(self) -> None:
        """Its first bytes and any later ones may be too many: the object is refused, and nothing is left of it."""
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        data = bytes(3000)
        store = self.makeStore()
        sink = self.receive(store, data)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))
        self.assertRefused("file too large", sink.write, memoryview(data))
        self.successResultOf(sink.abort())
        self.assertEqual((store.bytesSpilled, store.spillSpace.files, self.spilled()), (0, 0, []))

    def pooled(self, budget: int, **options: Any) -> tuple[MemoryStore, ManualPool, list[float]]:
        """Return a store whose calls in threads a test runs, those, and what its calls take."""
        pool, seconds = ManualPool(), [0.0]
        clock = Clock()

        def tick() -> float:
            clock.advance(seconds[0])
            return clock.seconds()

        return self.makeStore(budget, threads=Threads(clock, pool, tick), **options), pool, seconds

    def test_quick(self) -> None:
        """A quick file system is written to at once."""
        store, pool, _ = self.pooled(0)
        self.finish(store, dataSet())
        self.assertEqual(pool.jobs, [])

    def test_slow(self) -> None:
        """What was slow goes on in a thread, in order and from bytes of its own; so does what comes next."""
        store, pool, seconds = self.pooled(0)
        data = dataSet(size=300)
        seconds[0] = 1.0
        sink = self.receive(store, data[:100])
        for start in (100, 200):
            writing = self.waiting(sink, data[start : start + 100])
            pool.runOne()
            self.successResultOf(writing)
        seconds[0] = 0.0
        writing = self.waiting(sink, data[300:])
        pool.runAll()
        self.successResultOf(writing)
        self.end(sink, data)
        self.assertEqual(bytes(self.take(store)), LEAD + data)
        other = store.open(StoreRequest())
        writing = self.waiting(other, data)
        self.assertEqual(store.spillSpace.files, 1)
        self.assertEqual(self.spilled(), [])
        pool.runAll()
        self.successResultOf(writing)
        self.successResultOf(other.abort())

    def test_much(self) -> None:
        """Much that is in memory already is written in a thread, and holds memory until it is."""
        store, pool, _ = self.pooled(BESIDE + 1_100_000)
        data = dataSet(size=1_100_000)
        sink = self.receive(store, data[:1_100_000])
        writing = self.waiting(sink, data[1_100_000:])
        self.assertEqual(store.bytesHeld, BESIDE + 1_100_000)
        pool.runAll()
        self.successResultOf(writing)
        self.assertEqual(store.bytesHeld, 0)
        self.end(sink, data)
        self.assertEqual(bytes(self.take(store)), LEAD + data)

    def test_abortWhileWriting(self) -> None:
        """What runs in a thread is let finish; then all is given back."""
        store, pool, _ = self.pooled(BESIDE + 1_100_000)
        sink = self.receive(store, bytes(1_100_000))
        writing = self.waiting(sink, b"x")
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        first, second = sink.abort(), sink.abort()
        for aborting in (first, second):
            self.assertNoResult(aborting)
        pool.runAll()
        for aborting in (first, second, sink.abort()):
            self.successResultOf(aborting)
        self.assertEqual((store.bytesHeld, store.bytesSpilled, self.spilled()), (0, 0, []))

    def test_abortIsNotWaitedFor(self) -> None:
        """Who waits for the end of it may give up: all is given back the same."""
        store, pool, _ = self.pooled(BESIDE + 1_100_000)
        sink = self.receive(store, bytes(1_100_000))
        writing = self.waiting(sink, b"x")
        aborting = sink.abort()
        aborting.cancel()
        self.failureResultOf(aborting, CancelledError)
        pool.runAll()
        self.successResultOf(writing)
        self.assertEqual((store.bytesHeld, store.bytesSpilled, store.spillSpace.files), (0, 0, 0))
        self.assertEqual(self.spilled(), [])

    def test_largeFileClosedInAThread(self) -> None:
        """That of an object that is given up, on its way; its room is there when it is gone."""
        self.patch(spilling, "_LARGE", 2000)
        store, pool, _ = self.pooled(0)
        aborting = self.receive(store, dataSet(size=500)).abort()
        self.assertEqual((pool.jobs, self.spilled()), ([], []))
        self.successResultOf(aborting)
        sink = self.receive(store, dataSet(size=2000))
        for aborting in (sink.abort(), sink.abort()):
            self.assertNoResult(aborting)
            self.assertEqual((len(pool.jobs), len(self.spilled()), store.spillSpace.files), (1, 1, 1))
        pool.runAll()
        self.successResultOf(aborting)
        self.assertEqual((store.bytesSpilled, self.spilled(), store.spillSpace.files), (0, [], 0))

    def test_largeObjectDroppedInAThread(self) -> None:
        """One that was refused, or that a taker holds no longer."""
        self.patch(spilling, "_LARGE", 2000)
        store, pool, _ = self.pooled(0)
        for size, jobs in ((500, 0), (2000, 1)):
            data = dataSet(size=size)
            sink = self.finish(store, data)
            self.successResultOf(sink.abort())
            self.assertEqual((len(pool.jobs), len(self.spilled())), (jobs, jobs))
            pool.runAll()
            self.finish(store, data).keep()
            taken: ObjectInMemory | None = self.take(store)
            self.assertEqual((pool.jobs, len(self.spilled())), ([], 1))
            del taken
            self.assertEqual((len(pool.jobs), len(self.spilled())), (jobs, jobs))
            pool.runAll()
            self.assertEqual(self.spilled(), [])

    def test_largeObjectDroppedElsewhere(self) -> None:
        """A taker's thread may wait for it, and can use no pool."""
        self.patch(spilling, "_LARGE", 2000)
        store, pool, _ = self.pooled(0)
        self.finish(store, dataSet(size=2000)).keep()
        taken = [self.take(store)]
        thread = Thread(target=taken.clear)
        thread.start()
        thread.join()
        self.assertEqual((pool.jobs, self.spilled()), ([], []))

    def test_viewOutlivesLargeObject(self) -> None:
        self.patch(spilling, "_LARGE", 2000)
        store, pool, _ = self.pooled(0)
        data = dataSet(size=2000)
        self.finish(store, data).keep()
        view: memoryview | None = self.take(store).data
        pool.runAll()
        self.assertEqual(view, LEAD + data)
        del view
        self.assertEqual(self.spilled(), [])

    def test_failsInAThread(self) -> None:
        store, pool, _ = self.pooled(BESIDE + 1_100_000)

        def fail() -> Any:
            raise diskFull()

        self.patch(store.spillSpace, "open", fail)
        sink = self.receive(store, bytes(1_100_000))
        writing = self.waiting(sink, b"x")
        pool.runAll()
        self.assertDeferredRefused("disk full", writing)
        self.successResultOf(sink.abort())
        self.assertEqual((store.bytesHeld, store.bytesSpilled), (0, 0))


class WaitingTests(MemoryTestCase):
    """Beyond the budget senders wait."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def makeStore(self, objects: int, size: int) -> MemoryStore:
        """Return a store with room for so many objects, of so many bytes together."""
        return MemoryStore(objects * BESIDE + size, MemoryOverflow.WAIT, reactor=self.clock)

    def turn(self) -> None:
        self.clock.advance(0)

    def test_reactor(self) -> None:
        """It cannot be without one."""
        error = self.assertRaises(ValueError, MemoryStore, 1000, MemoryOverflow.WAIT)
        self.assertEqual(str(error), "a store that has senders wait takes a reactor")

    def test_taken(self) -> None:
        """Until something is taken, and then for a turn: what goes on is no part of the taking."""
        data = dataSet(size=1000)
        store = self.makeStore(2, len(data) + 500)
        self.finish(store, data).keep()
        sink = self.receive(store, data[:500])
        waiting = self.waiting(sink, data[500:])
        self.turn()
        self.assertNoResult(waiting)
        self.assertEqual(store.bytesHeld, 2 * BESIDE + len(data) + 500)
        self.take(store)
        self.assertNoResult(waiting)
        self.turn()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(store.bytesHeld, BESIDE + len(data))
        self.end(sink, data)
        self.assertEqual(bytes(self.take(store)), LEAD + data)

    def test_first(self) -> None:
        """An object waits with its first bytes, and holds nothing."""
        data = dataSet()
        store = self.makeStore(1, len(data))
        first = self.finish(store, data)
        sink = store.open(StoreRequest())
        waiting = self.waiting(sink, data)
        self.assertEqual(store.bytesHeld, BESIDE + len(data))
        self.successResultOf(first.abort())
        self.turn()
        self.successResultOf(waiting)
        self.end(sink, data)
        self.assertEqual(bytes(self.take(store)), LEAD + data)

    def test_order(self) -> None:
        """Who came first goes on first, and nobody overtakes who needs more."""
        store = self.makeStore(4, 1000)
        self.finish(store, bytes(900))
        sinks = [self.receive(store, bytes(10)) for _ in range(3)]
        waiting = [self.waiting(sink, bytes(size)) for sink, size in zip(sinks, (300, 10, 600), strict=True)]
        self.turn()
        for each in waiting:
            self.assertNoResult(each)
        self.take(store)
        self.turn()
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(store.bytesHeld, 3 * BESIDE + 940)
        late = [self.waiting(sink, bytes(size)) for sink, size in zip(sinks[:2], (BESIDE + 61, 1), strict=True)]
        self.turn()
        self.assertNoResult(late[1])
        self.successResultOf(sinks[2].abort())
        self.turn()
        for each in late:
            self.successResultOf(each)
        for sink in sinks:
            sink.abort()

    def test_oldestFirst(self) -> None:
        """It counts who came first, not who began to wait first; who came before all that wait needs not."""
        store = self.makeStore(3, 1000)
        done = self.finish(store, bytes(800))
        old, young = (self.receive(store, bytes(10)) for _ in range(2))
        late = self.waiting(young, bytes(181))
        self.assertIsNone(old.write(memoryview(bytes(80))))
        early = self.waiting(old, bytes(101))
        self.turn()
        self.successResultOf(done.abort())
        self.turn()
        self.successResultOf(early)
        self.successResultOf(late)
        early, late = self.waiting(old, bytes(BESIDE + 700)), self.waiting(young, bytes(BESIDE + 100))
        self.turn()
        self.assertNoResult(early)
        self.assertDeferredRefused("memory budget exhausted", late)
        self.successResultOf(young.abort())
        self.turn()
        self.successResultOf(early)
        old.abort()

    def test_tooLarge(self) -> None:
        """What all the budget is too small for does not wait."""
        store = self.makeStore(1, 1000)
        sink = self.receive(store, bytes(600))
        self.assertRefused("object larger than the memory budget", sink.write, memoryview(bytes(401)))
        self.assertIsNone(sink.write(memoryview(bytes(400))))
        self.successResultOf(sink.abort())
        self.assertEqual(store.bytesHeld, 0)

    def test_allWait(self) -> None:
        """Where all who hold anything wait for more, the youngest of them is refused, and the others go on."""
        store = self.makeStore(3, 900)
        sinks = [self.receive(store, bytes(300)) for _ in range(3)]
        waiting = [self.waiting(sinks[number], bytes(100)) for number in (2, 0)]
        self.turn()
        for each in waiting:
            self.assertNoResult(each)
        waiting.append(self.waiting(sinks[1], bytes(100)))
        self.turn()
        self.assertDeferredRefused("memory budget exhausted", waiting[0])
        self.assertNoResult(waiting[1])
        self.successResultOf(sinks[2].abort())
        self.turn()
        self.successResultOf(waiting[1])
        self.successResultOf(waiting[2])
        for sink in sinks[:2]:
            self.successResultOf(sink.abort())
        self.assertEqual(store.bytesHeld, 0)

    def test_refusedAndCleared(self) -> None:
        """A sender that is refused gives back at once what it held, and who waits has it in the same turn."""
        store = self.makeStore(2, 600)
        sinks = [self.receive(store, bytes(300)) for _ in range(2)]
        waiting = [self.waiting(sink, bytes(300)) for sink in sinks]
        waiting[1].addErrback(lambda failure: sinks[1].abort())
        self.turn()
        self.successResultOf(waiting[0])
        self.assertEqual(store.bytesHeld, BESIDE + 600)
        sinks[0].abort()

    def test_notAllWait(self) -> None:
        """Where anything can be taken, or comes in still, nobody is refused."""
        store = self.makeStore(3, 900)
        data = dataSet(size=20)
        done = self.finish(store, data)
        sinks = [self.receive(store, bytes((900 - len(data)) // 2)) for _ in range(2)]
        waiting = [self.waiting(sink, bytes(200)) for sink in sinks]
        self.clock.advance(200)
        for each in waiting:
            self.assertNoResult(each)
        self.successResultOf(done.abort())
        self.turn()
        for sink in sinks:
            self.successResultOf(sink.abort())
        for each in waiting:
            each.addErrback(lambda failure: failure.trap(CancelledError, StoreRefused))

    def test_whoHoldsNothingIsNotRefused(self) -> None:
        """The youngest that holds anything goes: another's refusal would free nothing."""
        store = self.makeStore(2, 500)
        old = self.receive(store, bytes(300))
        young = self.receive(store, bytes(200))
        empty = store.open(StoreRequest())
        first = self.waiting(empty, bytes(10))
        waiting = [self.waiting(sink, bytes(200)) for sink in (young, old)]
        self.turn()
        self.assertDeferredRefused("memory budget exhausted", waiting[0])
        self.successResultOf(young.abort())
        self.turn()
        self.successResultOf(waiting[1])
        self.assertNoResult(first)
        self.successResultOf(old.abort())
        self.turn()
        self.successResultOf(first)
        empty.abort()

    def test_cancelled(self) -> None:
        """Who no longer waits makes way for who came next."""
        store = self.makeStore(3, 1000)
        self.finish(store, bytes(500))
        sinks = [self.receive(store, bytes(10)) for _ in range(2)]
        waiting = [self.waiting(sink, bytes(size)) for sink, size in zip(sinks, (481, 300), strict=True)]
        self.turn()
        waiting[0].cancel()
        self.assertDeferredRefused("the objects in memory were not taken in time", waiting[0])
        self.turn()
        self.successResultOf(waiting[1])
        self.assertEqual(store.bytesHeld, 3 * BESIDE + 820)
        self.successResultOf(sinks[0].abort())
        self.assertEqual(store.bytesHeld, 2 * BESIDE + 810)

    def test_aborted(self) -> None:
        """Aborting ends the waiting, and gives back what was held."""
        store = self.makeStore(2, 1000)
        self.finish(store, bytes(500))
        sink = self.receive(store, bytes(400))
        waiting = self.waiting(sink, bytes(200))
        self.successResultOf(sink.abort())
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(store.bytesHeld, BESIDE + 500)
