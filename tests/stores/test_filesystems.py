"""
Tests for the file store on other file systems than that of the tests: what there is of them on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.loopback import CHECKOUT, DEADLINE

# What depends on the file system most: links, renaming, locks, what stands there, what is left.
_MODULES = ("test_file", "test_replacing", "test_working")


class PlaceTests(SynchronousTestCase):
    """The tests of names, duplicates and working directories, each in a place of another kind."""

    def place(self, base: str | None = None) -> str:
        """Return a new directory, which is removed at the end."""
        path = tempfile.mkdtemp(prefix="dcxtwisted-", dir=base)
        self.addCleanup(shutil.rmtree, path)
        return path

    def assertPasses(self, directory: str, *before: str) -> None:
        """Run the tests in a directory, after commands of the shell that skip them where they fail."""
        trial = [sys.executable, "-m", "twisted.trial", "--temp-directory", os.path.join(directory, "t")]
        modules = [f"tests.stores.{module}" for module in _MODULES]
        script = " && ".join([*before, 'echo begun; exec "$@"'])
        # In a namespace of its own, with which all that is mounted goes.
        within = ["unshare", "--mount"] if before else []
        ran = subprocess.run(
            [*within, "sh", "-c", script, "sh", *trial, *modules],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        if "begun" not in ran.stdout:
            raise SkipTest(f"cannot be mounted here: {ran.stderr.strip()}")
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

    def test_tmpfs(self) -> None:
        """In memory."""
        if not os.access("/dev/shm", os.W_OK):
            raise SkipTest("no tmpfs to write to")
        self.assertPasses(self.place("/dev/shm"))

    def test_overlayfs(self) -> None:
        """In the writable layer of a container."""
        if shutil.which("unshare") is None:
            raise SkipTest("no namespaces")
        base = self.place()
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(base, name))
        self.assertPasses(
            os.path.join(base, "merged"),
            f"cd '{base}'",
            "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged",
            f"cd '{CHECKOUT}'",
        )
