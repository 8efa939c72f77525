"""Directories and their entries: made durable once for each, and again for one that was made anew."""

from __future__ import annotations

import os
import shutil

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.stores import directories, synchronizing
from dcxtwisted.stores.directories import Directories


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
