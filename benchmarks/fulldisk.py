"""
A disk that is full, emptied, and full again: ``python -m benchmarks.fulldisk``, as root.

A listener stores on a small tmpfs, mounted where no other process sees it. Objects are sent until one is refused with
A7xx, and some more, each of which is refused too; then all that is stored is removed, and objects are taken again. So
many times with a watermark (``minimumFreeBytes``), which refuses before the data, and as many without, where the disk
itself has no room. Each time nothing is left but what was acknowledged, whole; no descriptor and no file more than
before; and with the watermark the log has said it once when it began and once when it ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.kills import WITHOUT_UNNAMED_FILES, Broken, Record, Store
from benchmarks.machine import CHECKOUT
from benchmarks.processes import ReceiverError, ReceiverProcess, listenerOver
from benchmarks.requestor import Requestor, requestFor, templateOf

_SIZE: Final = 16 << 20
_WATERMARK: Final = 4 << 20
_OBJECT: Final = 700 << 10
# More of these than fit, and how many are sent after the first that was refused.
_MOST: Final = 2 * _SIZE // _OBJECT
_MORE: Final = 3
# The listener looks once a second at what is free; this is a little more.
_LOOKS_EVERY: Final = 1.05
_PATIENCE: Final = 5.0
_FULL: Final = "the disk is nearly full: new objects are refused"
_ROOM: Final = "the disk has room again: new objects are taken"


@dataclass(slots=True)
class Figures:
    """What came of it: how often it was full, and the responses."""

    times: int = 0
    acknowledged: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return (
            f"full and emptied {self.times} times: {self.acknowledged} objects acknowledged, each whole; "
            f"{self.refused} refused with A7xx; nothing left behind"
        )


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for a condition, and return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not (isTrue := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return isTrue


class _Disk:
    """A listener with a store on a small file system."""

    def __init__(self, process: ReceiverProcess, store: Path, log: Path, watermark: int) -> None:
        self._process = process
        self._store = store
        self._log = log
        self._watermark = watermark
        self._template = templateOf(_OBJECT, 1)
        self._record = Record()
        self._requestor = Requestor(process.port)
        self.figures = Figures()
        self._send()  # what is opened once in a process is open from here on
        self.empty()
        _within(_PATIENCE, lambda: not self._openFiles())
        self._descriptors = self.descriptors()

    def descriptors(self) -> int:
        """Return how many descriptors the listener has open."""
        return len(self._opened())

    def _opened(self) -> list[str]:
        found = []
        for path in Path(f"/proc/{self._process.pid}/fd").iterdir():
            try:
                found.append(os.readlink(path))
            except FileNotFoundError:
                pass  # closed meanwhile
        return found

    def _openFiles(self) -> list[str]:
        """Return the files of the store that the listener has open, but for the lock of its working directory."""
        return [path for path in self._opened() if path.startswith(f"{self._store}/") and not path.endswith("/lock")]

    def _send(self) -> int:
        request, identity = requestFor(self._template, self._record.next())
        status = self._requestor.store(request)
        if status == 0:
            self._record.sent.add(identity)
            self._record.acknowledged.add(identity)
            self.figures.acknowledged += 1
        elif status & 0xFF00 == 0xA700:
            self.figures.refused += 1
        else:
            raise Broken(f"{identity[0]}: status {status:04X}")
        return status

    def _free(self) -> int:
        status = os.statvfs(self._store)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """Send until it is full, and then some more."""
        for _ in range(_MOST):
            if self._send():
                break
            if self._free() < self._watermark:
                time.sleep(_LOOKS_EVERY)
        else:
            raise Broken("it is never full")
        if not all(self._send() for _ in range(_MORE)):
            raise Broken("taken, on a full disk")

    def check(self) -> None:
        """Look at what is left, and at what the log has to say of the watermark."""
        self.checkStored()
        # Files are closed and removed beside the responses, in a thread where the disk is slow.
        if not _within(_PATIENCE, lambda: Store(self._store).unfinished() == 0):
            raise Broken(f"{Store(self._store).unfinished()} unfinished files are left")
        if not _within(_PATIENCE, lambda: self.descriptors() == self._descriptors):
            raise Broken(f"{self.descriptors()} descriptors are open, {self._descriptors} were")
        times = self.figures.times if self._watermark else 0
        log = self._log.read_text()
        if (log.count(_FULL), log.count(_ROOM)) != (times, times):
            raise Broken(f"said {log.count(_FULL)} and {log.count(_ROOM)} times, not {times}")
        if "Traceback" in log:
            raise Broken(log[log.index("Traceback") :][:2000])

    def checkStored(self) -> None:
        """Look at what is stored."""
        stored = Store(self._store).check(self._record)
        if stored != len(self._record.acknowledged):
            raise Broken(f"{stored} objects stand there, {len(self._record.acknowledged)} were acknowledged")

    def empty(self) -> None:
        """Remove what is stored, as an operator would."""
        for path in self._store.rglob("*.dcm"):
            path.unlink()
        self._record.sent.clear()
        self._record.acknowledged.clear()

    def recover(self) -> None:
        """Send until it is taken again."""
        deadline = time.monotonic() + _PATIENCE
        while self._send():
            if time.monotonic() > deadline:
                raise Broken("still refused, with room again")
            time.sleep(0.1)
        self.figures.times += 1


def fillAgainAndAgain(times: int, store: Path, log: Path, watermark: int, *options: str) -> Figures:
    """
    Fill a file system and empty it so many times, and return what came of it.

    :param store: on that file system, where nothing else is.
    :param watermark: what a listener is to keep free, in bytes; 0 for nothing.
    :param options: more of those of C{twistd dcxtwisted}.
    :raises Broken: something is left, or an answer is wrong.
    """
    keeping = ("--set", f"minimumFreeBytes={watermark}", "--set", "minimumFreeInodes=0")
    with listenerOver(store, log, *keeping, *options) as process:
        disk = _Disk(process, store, log, watermark)
        for _ in range(times):
            disk.fill()
            disk.checkStored()
            disk.empty()
            disk.recover()
            disk.check()
        disk.empty()
    return disk.figures


def _here(times: int, scratch: Path) -> None:
    """Do all of it; the file system is mounted already."""
    ways = {
        "with a watermark": (_WATERMARK, ()),
        "without": (0, ()),
        "without, from a working directory": (0, WITHOUT_UNNAMED_FILES),
    }
    for number, (way, (watermark, options)) in enumerate(ways.items()):
        log = scratch / f"log{number}"
        figures = fillAgainAndAgain(times, scratch / "disk" / "store", log, watermark, *options)
        sys.stdout.write(f"{way}: {figures}\n")
        sys.stdout.flush()


def mounted(scratch: Path, arguments: list[str]) -> list[str]:
    """Return a command that runs another where a small tmpfs is mounted at ``disk`` in a directory, for it alone."""
    script = f'mount -t tmpfs -o size={_SIZE} tmpfs "$1" && shift && exec "$@"'
    (scratch / "disk").mkdir()
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(scratch / "disk"), *arguments]


def main() -> int:
    """Run as the command line says; 1 where something is wrong or nothing can be mounted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fulldisk", description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="each way [default: %(default)s]")
    parser.add_argument("--mounted", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mounted is not None:
        try:
            _here(options.times, options.mounted)
        except (Broken, ReceiverError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    if shutil.which("unshare") is None:
        sys.stderr.write("unshare is not installed\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        scratch = Path(name).resolve()
        again = [sys.executable, "-m", "benchmarks.fulldisk", "--times", str(options.times), "--mounted", str(scratch)]
        return subprocess.run(mounted(scratch, again), cwd=CHECKOUT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
