"""
Tests of L{benchmarks.machine}.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.machine import commandLine, facts, fileSystem, memory, processor

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
25 22 0:22 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw
26 22 0:23 / /dev rw - devtmpfs devtmpfs rw
"""


class FactTests(SynchronousTestCase):
    """What is read from texts of the kernel."""

    def test_processor(self) -> None:
        self.assertEqual(processor("processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n"), "AMD EPYC")

    def test_memory(self) -> None:
        self.assertEqual(memory("MemTotal:       24612345 kB\nMemFree: 1 kB\n"), "23 GiB")

    def test_fileSystem(self) -> None:
        """The longest mount point that the directory is below counts, not any that its name begins with."""
        for directory, expected in (
            ("/srv", "ext4 on /dev/vda"),
            ("/dev/shm/store", "tmpfs on tmpfs"),
            ("/dev/shmem", "devtmpfs on devtmpfs"),
        ):
            self.assertEqual(fileSystem(MOUNTS, Path(directory)), expected)

    def test_commandLine(self) -> None:
        """As it was typed, but where on this machine files are is nobody's business."""
        self.patch(sys, "argv", ["ignored", "--sizes", "1K", "--save", "/srv/some where/1.json", "docs/page.rst"])
        self.assertEqual(commandLine("it"), "python -m it --sizes 1K --save 1.json docs/page.rst")

    def test_here(self) -> None:
        """Every fact has something to say on this machine; a program that is not installed has no version."""
        found = facts(Path.cwd(), ["no-such-program"])
        self.assertNotIn("DCMTK", found)
        self.assertNotIn("", found.values())
