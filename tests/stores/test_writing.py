"""
Tests for L{dcxtwisted.stores.writing}.
"""

from __future__ import annotations

import ctypes
import os
from errno import EBADF, EEXIST, EINVAL, EIO, ENOSPC, ENOSYS, EPERM

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.stores import synchronizing, writing
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.writing import BUFFER_SIZE, Buffers, WrittenFile
from dcxtwisted.testing.stores import StoreRequest, headOf, storedBy
from tests.stores.filestores import DATA, NAME, FileStoreTestCase

LEAD = b"lead"


class WrittenFileTests(SynchronousTestCase):
    """Whatever is gathered and whatever is not, the file has the bytes in their order."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.buffers = Buffers()
        self.before = len(self.buffers._free)

    def makeFile(self, lead: bytes = LEAD) -> WrittenFile:
        file = WrittenFile(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), lead, self.buffers)
        self.addCleanup(file.close)
        return file

    def assertContent(self, file: WrittenFile, expected: bytes) -> None:
        self.assertEqual(file.size, len(expected))
        with open(self.path, "rb") as found:
            self.assertEqual(found.read(), LEAD + expected)
        file.close()
        self.assertEqual(len(self.buffers._free), self.before)

    def test_sizes(self) -> None:
        """Around the edge of what is gathered, in parts of all sizes, first and later ones."""
        room = BUFFER_SIZE - len(LEAD)
        for sizes in ((), (1,), (room,), (room + 1,), (room, 1), (room - 1, 2), (1, room - 1), (1, room, 7), (9, 5, 3)):
            file = self.makeFile()
            expected = b""
            for number, size in enumerate(sizes):
                data = bytes([number + 1]) * size
                expected += data
                isGathered = file.gather(data)
                self.assertEqual(isGathered, len(expected) <= room)
                if not isGathered:
                    file.write(data)
            file.flush()
            file.flush()
            self.assertContent(file, expected)

    def test_used(self) -> None:
        """What another file had gathered in the same memory is not in this one."""
        first = self.makeFile()
        self.assertTrue(first.gather(b"x" * 1000))
        first.flush()
        first.close()
        second = self.makeFile()
        self.assertTrue(second.gather(b"yy"))
        second.flush()
        self.assertContent(second, b"yy")

    def test_allTaken(self) -> None:
        """Where all is taken nothing is gathered; what is given back, also by a file given up, can be taken again."""
        files = [self.makeFile() for _ in range(self.before + 1)]
        self.assertEqual([file.gather(b"a") for file in files], [True] * self.before + [False])
        files[0].close()
        self.assertTrue(self.makeFile().gather(b"a"))
        for file in files:
            file.close()
            file.close()
        self.assertEqual(len(self.buffers._free), self.before - 1)

    def test_otherLead(self) -> None:
        """What stands before the data set can be replaced while all is gathered yet."""
        file = self.makeFile(b"another one")
        self.assertTrue(file.gather(b"data"))
        file.replaceLead(LEAD)
        self.assertContent(file, b"data")


class GatheringStoreTests(FileStoreTestCase):
    """A durable store gathers, and writes when an object is whole."""

    def test_written(self) -> None:
        """One call writes the object, and the disk begins with it before a thread is waited for."""
        written: list[int] = []
        begun: list[int] = []
        real = os.write

        def write(fd: int, data: bytes) -> int:
            written.append(len(data))
            return real(fd, data)

        self.patch(os, "write", write)
        self.patch(writing, "beginToSynchronize", begun.append)
        store = self.makeStore()
        sink = self.openSink(store)
        for byte in range(len(DATA)):
            self.assertIsNone(sink.write(memoryview(DATA)[byte : byte + 1]))
        self.assertEqual(written, [])
        self.assertEqual(self.finish(sink).outcome, Outcome.NEW)
        sink.keep()
        lead = leadOf(StoreRequest("1.2.3"))
        self.assertEqual((written, len(begun)), ([len(lead + DATA)], 1))
        self.assertEqual(self.content(NAME), lead + DATA)

    def test_full(self) -> None:
        """A disk that is full when the object is whole refuses it, and the store has its memory back."""
        store = self.makeStore()
        assert store._buffers is not None
        before = len(store._buffers._free)
        sink = self.receive(store)
        error = OSError(ENOSPC, "full")
        self.failing(os, "write", error)
        refused = self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused).value
        self.assertRefusal(refused, "disk full", error)
        self.assertEqual((self.files(), len(store._buffers._free)), ([], before))

    def test_slow(self) -> None:
        """While the disk is slow nothing is written on the reactor's thread, and gathering goes on."""
        store = self.makeStore()
        sink = self.openSink(store)
        store.threads.slowUntil = self.clock.seconds() + 10
        self.patch(writing, "beginToSynchronize", lambda fd: self.fail("on the reactor's thread"))
        self.assertIsNone(sink.write(memoryview(DATA)))
        real = os.write

        def write(fd: int, data: bytes) -> int:
            self.clock.advance(0.021)
            return real(fd, data)

        self.patch(os, "write", write)
        self.clock.advance(9)
        self.assertEqual(self.finish(sink).outcome, Outcome.NEW)
        # It is known of the thread's writing, too, that it was slow.
        self.assertEqual(store.threads.slowUntil, self.clock.seconds() + 10)
        sink.keep()

    def test_nameTaken(self) -> None:
        """A write that fails as a link would is no duplicate."""
        sink = self.receive(self.makeStore())
        self.failing(os, "write", FileExistsError(EEXIST, "exists"))
        self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused)
        self.assertEqual(self.files(), [])

    def beginsWith(self, number: int) -> None:
        """Have the system answer so when it is told to begin."""

        def answer(*args: int) -> int:
            ctypes.set_errno(number)
            return -1

        self.patch(synchronizing, "_synchronizeRange", answer)

    def test_failed(self) -> None:
        """A disk that fails at once to have what is written is not asked a second time, and not trusted either."""
        self.beginsWith(EIO)
        store = self.makeStore()
        fsyncs = self.failing(os, "fsync", OSError(EBADF, "must not be called"))
        refused = self.failureResultOf(storedBy(self.receive(store), headOf(DATA)), StoreRefused).value
        self.assertEqual((refused.status, refused.comment), (0xA700, "i/o error"))
        self.assertEqual((self.files(), fsyncs, store.degraded), ([], [], True))

    def test_cannotBegin(self) -> None:
        """Where it cannot be told to, nothing is wrong with the object."""
        for number in (EINVAL, ENOSYS, EPERM):
            self.beginsWith(number)
            self.put(self.makeStore())
        self.assertEqual(self.files(), [NAME])

    def test_without(self) -> None:
        """Where the system cannot be told to begin, objects are stored all the same."""
        self.patch(synchronizing, "_synchronizeRange", None)
        self.put(self.makeStore())
        self.assertEqual(self.files(), [NAME])
