"""
The receivers to compare with: they take every object, keep it, and end with the process that started them.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.load import Result, runLoad
from benchmarks.machine import CHECKOUT
from benchmarks.processes import ReceiverProcess, freePort
from benchmarks.receivers import compiler
from benchmarks.scratch import countFiles
from tests.stores.tracing import requireStrace

SIZE = 300_000  # of three PDUs
COUNT = 12


class ReceiverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.scratch = Path(self.mktemp()).absolute()
        self.scratch.mkdir()

    def sent(self, name: str, *tracer: str) -> Path:
        """Send objects to a receiver on three associations, assert that it took them, and return where they are."""
        scratch = self.scratch / name
        directory = scratch / "store"
        directory.mkdir(parents=True)
        port = freePort()
        command = [*tracer, sys.executable, "-m", "benchmarks.receivers", name, str(port), str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        with ReceiverProcess(command, port, scratch / "log", set(), environment) as receiver:
            result: Result = runLoad(port, SIZE, 3, COUNT, 20)
            self.assertGreater(receiver.cpuTime().user + receiver.cpuTime().system, 0)
        self.assertEqual((result.objects, result.bytes), (COUNT, COUNT * SIZE))
        self.assertEqual(countFiles(directory), COUNT)
        return directory

    def test_bare(self) -> None:
        for path in self.sent("bare").iterdir():
            # With the headers of PDUs and the command.
            self.assertGreater(path.stat().st_size, SIZE)

    @skipUnless(compiler(), "there is no compiler for C")
    def test_native(self) -> None:
        directory = self.sent("native")
        self.assertEqual({path.stat().st_size for path in directory.iterdir()}, {SIZE})
        self.assertEqual(sorted(path.name for path in directory.iterdir()), sorted(map(str, range(1, COUNT + 1))))

    @skipUnless(compiler(), "there is no compiler for C")
    def test_nativeDurable(self) -> None:
        """Each object is synchronized, and then the directory that has its name."""
        trace = self.scratch / "trace"
        strace = requireStrace(self.scratch)
        # -I2: SIGTERM ends it, and not only what it traces.
        self.sent("native-durable", strace, "-I2", "-f", "-q", "-e", "trace=fsync", "-o", str(trace))
        self.assertEqual(len(re.findall(r"fsync\(\d+\) += 0|fsync resumed>\) += 0", trace.read_text())), 2 * COUNT)
