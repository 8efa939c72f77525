"""
Tests for the file store: listeners that are killed while they store, a few of what ``python -m benchmarks.kills`` does.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.kills import Broken, Record, Store, killAgainAndAgain
from dcxtwisted.part10 import filePreamble
from dcxtwisted.testing.peer import CT_IMAGE_STORAGE
from tests.loopback import directoryFor
from tests.support import dataSet


class KillsTests(SynchronousTestCase):
    """Whatever was acknowledged stands there when the listener starts anew."""

    def test_kills(self) -> None:
        """Killed at random moments, with unnamed files and with a working directory."""
        directory = directoryFor(self)
        figures = killAgainAndAgain(5, directory, senders=4, spread=0.4)
        self.assertEqual(figures.kills, 5)
        self.assertGreater(figures.objects, 0)
        self.assertGreaterEqual(figures.responses, figures.objects - figures.unanswered)


class CheckTests(SynchronousTestCase):
    """What the check of the store would find."""

    def setUp(self) -> None:
        self.directory = directoryFor(self)
        self.record = Record()
        self.path = self.put("1.2.3.dcm", "1.2.3")

    def put(self, name: str, UID: str, cut: int = 0) -> Path:
        """Put an object there that was sent and acknowledged, less some bytes at its end."""
        sent = dataSet(UID)
        self.record.sent.add((UID, sha256(sent).digest()))
        self.record.answered((UID, sha256(sent).digest()), 0)
        path = self.directory / name
        path.write_bytes(filePreamble(CT_IMAGE_STORAGE, UID, "1.2.840.10008.1.2.1", "1", "", "A", "B") + sent)
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        return path

    def test_whole(self) -> None:
        """All as it should be, and so again."""
        store = Store(self.directory)
        self.assertEqual([store.check(self.record), store.check(self.record)], [1, 1])

    def test_lost(self) -> None:
        """One that is gone since the last look."""
        store = Store(self.directory)
        self.put("1.2.4.dcm", "1.2.4")
        self.assertEqual(store.check(self.record), 2)
        self.path.unlink()
        error = self.assertRaises(Broken, store.check, self.record)
        self.assertEqual(str(error), "acknowledged, and not there as sent: 1.2.3")

    def test_cut(self) -> None:
        """One that lacks a byte."""
        path = self.put("1.2.4.dcm", "1.2.4", cut=1)
        error = self.assertRaises(Broken, Store(self.directory).check, self.record)
        self.assertEqual(str(error), f"{path} is no object that was sent")

    def test_empty(self) -> None:
        """A name without an object."""
        self.path.write_bytes(b"")
        error = self.assertRaises(Broken, Store(self.directory).check, self.record)
        self.assertEqual(str(error), f"{self.path}: not a Part 10 file")

    def test_twice(self) -> None:
        """The same object under two names."""
        self.put("1.2.3~1.dcm", "1.2.3")
        error = self.assertRaises(Broken, Store(self.directory).check, self.record)
        self.assertIn("stands there twice", str(error))
