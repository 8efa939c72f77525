"""
Tests for what stands under a name, and for what is remembered of files that may not be durable.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.configuration import Duplicates
from dcxtwisted.interfaces import Outcome
from dcxtwisted.stores import standing, synchronizing
from dcxtwisted.stores.standing import restore
from dcxtwisted.stores.synchronizing import Doubts
from dcxtwisted.testing.stores import dataSet
from tests.stores.filestores import DATA, NAME, OTHER, FileStoreTestCase


class RestoreTests(SynchronousTestCase):
    """A file that was replaced gets a name again."""

    def setUp(self) -> None:
        self.root = os.path.abspath(self.mktemp())
        os.mkdir(self.root)
        self.kept = self.path("kept")
        self.make("kept")

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def make(self, name: str) -> None:
        os.close(os.open(self.path(name), os.O_CREAT | os.O_EXCL))

    def test_names(self) -> None:
        """Its own, or the first that is free."""
        for expected in ("x.dcm", "x~1.dcm", "x~2.dcm"):
            self.assertEqual(restore(self.kept, self.path("x.dcm")), self.path(expected))
            os.unlink(self.path(expected))
            self.make(expected)

    def test_again(self) -> None:
        """One that it has already will do."""
        self.make("x.dcm")
        for _ in range(2):
            self.assertEqual(restore(self.kept, self.path("x.dcm")), self.path("x~1.dcm"))
        self.assertEqual(os.stat(self.kept).st_nlink, 2)

    def test_vanishing(self) -> None:
        """A name that comes free while it is looked at is passed over."""
        self.make("x.dcm")
        lstat = os.lstat

        def vanish(path: str) -> os.stat_result:
            if path == self.path("x.dcm"):
                os.unlink(path)
            return lstat(path)

        self.patch(os, "lstat", vanish)
        self.assertEqual(restore(self.kept, self.path("x.dcm")), self.path("x~1.dcm"))

    def test_noneLeft(self) -> None:
        """The names come to an end."""
        self.patch(standing, "_MOST_VARIANTS", 2)
        self.make("x.dcm")
        self.make("x~1.dcm")
        self.assertRaises(FileExistsError, restore, self.kept, self.path("x.dcm"))


class CompareTests(FileStoreTestCase):
    """Two objects, byte for byte."""

    def test_shortReads(self) -> None:
        """A system that reads less than was asked for is asked for the rest, on either side."""
        store = self.makeStore()
        pread = os.pread
        self.put(store, DATA)
        self.patch(
            os, "pread", lambda fd, size, position: pread(fd, size if position == 0 else min(size, 10), position)
        )
        self.assertEqual(self.put(store, DATA).outcome, Outcome.IDENTICAL)
        self.assertEqual(self.put(store, OTHER).outcome, Outcome.KEPT_BOTH)

    def test_pieces(self) -> None:
        """A difference is found wherever it is, at little cost near the beginning or the end, or in the middle."""
        self.patch(standing, "_FIRST", 50)
        self.patch(standing, "_BLOCK", 70)
        store = self.makeStore()
        data = dataSet("1.2.3", 333, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5")
        filename = self.put(store, data).filename
        self.assertEqual(self.put(store, data).outcome, Outcome.IDENTICAL)
        with open(filename, "rb") as file:
            content = file.read()
        pread, read = os.pread, []

        def counted(fd: int, size: int, position: int) -> bytes:
            read.append(size)
            return pread(fd, size, position)

        self.patch(os, "pread", counted)
        size, offset = len(data), len(content) - len(data)
        starts = [(0, 50), (size - 50, 50), (size // 2, 50), *((start, 70) for start in range(50, size, 70))]
        for position in range(offset, len(content)):
            with open(filename, "wb") as changed:
                changed.write(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            read.clear()
            at = position - offset
            stored = self.put(store, data)
            self.assertEqual(stored.outcome, Outcome.KEPT_BOTH, position)
            pieces = [number for number, (start, length) in enumerate(starts, 1) if 0 <= at - start < length]
            self.assertEqual(len(read), 1 + 2 * pieces[0], position)
            os.unlink(stored.filename)

    def test_nothingRead(self) -> None:
        """What ends before its size says so is another object."""
        store = self.makeStore(duplicates=Duplicates.KEEP_BOTH)
        inode = os.stat(self.put(store, DATA).filename).st_ino
        pread = os.pread

        def short(fd: int, size: int, position: int) -> bytes:
            return b"" if position and os.fstat(fd).st_ino == inode else pread(fd, size, position)

        self.patch(os, "pread", short)
        self.assertEqual(self.put(store, DATA).outcome, Outcome.KEPT_BOTH)

    def test_noInstanceUID(self) -> None:
        """A file of another program that does not name its instance is no rival."""
        store = self.makeStore(duplicates=Duplicates.REPLACE)
        filename = self.put(store).filename
        with open(filename, "r+b") as file:
            content = file.read().replace(b"\x02\x00\x03\x00UI", b"\x02\x00\x04\x00UI")
            file.seek(0)
            file.write(content)
        self.assertEqual(self.put(store, OTHER).outcome, Outcome.KEPT_BOTH)

    def test_answerLost(self) -> None:
        """A link that was made, though the system says that somebody was there first (NFS), is this object's."""
        store = self.makeStore()
        link = os.link

        def linked(*args: Any, **how: Any) -> None:
            link(*args, **how)
            raise FileExistsError(17, "exists")

        patch = self.patch(os, "link", linked)
        sink = self.receive(store)
        self.assertEqual(self.finish(sink).outcome, Outcome.NEW)
        patch.restore()
        self.successResultOf(sink.abort())
        self.assertEqual(self.files(), [])
        self.put(store)
        self.assertEqual(self.files(), [NAME])


class DoubtsTests(SynchronousTestCase):
    """Files that may not be durable."""

    def test_bounded(self) -> None:
        """Where there are too many the first is forgotten."""
        self.patch(synchronizing, "_MOST_DOUBTS", 2)
        doubts = Doubts()
        for inode in (1, 2, 2, 3):
            doubts.add((7, inode))
        self.assertEqual([(7, inode) in doubts for inode in (1, 2, 3)], [False, True, True])
        doubts.remove((7, 2))
        doubts.remove((7, 9))
        self.assertEqual([(7, inode) in doubts for inode in (1, 2, 3)], [False, False, True])
