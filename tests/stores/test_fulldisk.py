"""
Tests for the file store: a file system that is full, with a listener, a few times of ``python -m benchmarks.fulldisk``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.fulldisk import mounted
from tests.loopback import CHECKOUT, DEADLINE, directoryFor


class FullDiskTests(SynchronousTestCase):
    """A full tmpfs, which takes a namespace of its own and the right to mount one there."""

    def test_fullDisk(self) -> None:
        """Filled, refused, emptied, and taken again, with a watermark and without."""
        if shutil.which("unshare") is None:
            raise SkipTest("no namespaces")
        tried = subprocess.run(
            mounted(directoryFor(self), ["true"]), capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if tried.returncode:
            raise SkipTest(f"cannot be mounted here: {tried.stderr.strip()}")
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.fulldisk", "--times", "2"],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertEqual(ran.stdout.count("full and emptied 2 times"), 3, ran.stdout)
