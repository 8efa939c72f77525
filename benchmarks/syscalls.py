"""
How often a process asks the kernel for what, and how long that takes; by ``perf trace``.

Tracing makes each call longer, by much more than a short one takes. How much is measured with one that does nothing,
and taken off.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROW: Final = re.compile(r"^ +(\w+) +(\d+) +(\d+) +([\d.]+) ", re.MULTILINE)
_NOTHING: Final = "getppid"
_TIMES: Final = 20_000
_START: Final = 1.0
_PATIENCE: Final = 60.0

#: Calls that wait for others: their time is not that of the kernel.
WAITING: Final = frozenset(("epoll_wait", "epoll_pwait", "futex", "poll", "select", "ppoll", "pselect6", "wait4"))


@dataclass(frozen=True, slots=True)
class Calls:
    """
    All calls of one name.

    :ivar seconds: in all of them, tracing included.
    """

    count: int
    seconds: float


def isAvailable() -> bool:
    """Return whether there is a perf that may trace."""
    if shutil.which("perf") is None:
        return False
    return subprocess.run(["perf", "trace", "-s", "true"], capture_output=True, check=False, timeout=10).returncode == 0


def traced(pid: int, output: Path, work: Callable[[], object]) -> dict[str, Calls]:
    """Return what a process and its threads call while the work goes on, by name."""
    tracer = subprocess.Popen(
        ["perf", "trace", "-s", "-m", "4096", "-o", str(output), "-p", str(pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(_START)
        work()
        tracer.send_signal(signal.SIGINT)
        tracer.wait(_PATIENCE)
    finally:
        tracer.kill()
        tracer.wait()
    return parseSummary(output.read_text())


def overhead(output: Path) -> float:
    """Return how many seconds tracing adds to a call."""
    program = f"import os\nfor _ in range({_TIMES}): os.{_NOTHING}()"
    command = ["perf", "trace", "-s", "-m", "4096", "-o", str(output), sys.executable, "-c", program]
    subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE)
    calls = parseSummary(output.read_text())[_NOTHING]
    return calls.seconds / calls.count


def parseSummary(text: str) -> dict[str, Calls]:
    """Return the calls by name, of all threads, from what C{perf trace -s} wrote."""
    found: dict[str, Calls] = {}
    for name, count, _, milliseconds in _ROW.findall(text):
        before = found.get(name, Calls(0, 0.0))
        found[name] = Calls(before.count + int(count), before.seconds + float(milliseconds) / 1e3)
    return found
