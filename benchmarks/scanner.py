"""
What the check of data sets costs: a listener with it and one without, in turn: ``python -m benchmarks.scanner``.

Both store on a file system in memory and synchronize nothing, so that the share of the check is as large as it can be.
CPU time is the kernel's count for the process. What other work on the machine does shows in the upper quantiles.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.load import LoadError, parseSize, runLoad
from benchmarks.processes import ReceiverError, listenerOver
from dcxtwisted import DCXACCEvents
from dcxtwisted.dataset import Head, Wholeness
from dcxtwisted.services import reception

_WARM_UP: Final = 200
_QUANTILES: Final = (0.1, 0.25, 0.5)


class Stub:
    """In place of the scanner: finds the two UIDs where the objects of these benchmarks have them, and nothing else."""

    __slots__ = ("_first", "size")

    def __init__(self, transferSyntaxUID: str) -> None:
        self._first = b""
        self.size = 0

    def feed(self, view: memoryview) -> None:
        """Count."""
        if not self.size:
            self._first = bytes(view[:400])
        self.size += len(view)

    def finish(self) -> Head:
        """Return a head that lets the object be stored."""
        SOPClassUID, SOPInstanceUID = self._uid(b"\x08\0\x16\0UI"), self._uid(b"\x08\0\x18\0UI")
        return Head(SOPClassUID, SOPInstanceUID, "", "", "", "", "", self.size, Wholeness.WHOLE)

    def _uid(self, header: bytes) -> str:
        at = self._first.index(header) + len(header)
        return self._first[at + 2 : at + 2 + self._first[at]].rstrip(b"\0").decode()


def withoutScanner() -> DCXACCEvents:
    """Have the process that asks for these events store without a scanner."""
    vars(reception)["DataSetReader"] = Stub
    return DCXACCEvents()


@dataclass
class Side:
    """
    A listener, and the CPU time it took for each object of each round, in microseconds.

    :ivar events: the dotted name of what gives its events.
    """

    events: str
    costs: list[float] = field(default_factory=list)

    def start(self, stack: ExitStack, directory: Path) -> None:
        """Have it listen."""
        self._store = directory / self.events.rpartition(".")[2]
        log = directory / f"{self._store.name}.log"
        options = ("--no-fsync", "--events", self.events, "--layout", "{SOPInstanceUID}")
        self._process = stack.enter_context(listenerOver(self._store, log, *options))

    def run(self, size: int, associations: int, count: int) -> float:
        """Send objects and return the CPU time of each, in microseconds; what was stored is removed."""
        before = self._nanoseconds()
        result = runLoad(self._process.port, size, associations, count)
        used = self._nanoseconds() - before
        for stored in self._store.iterdir():
            if stored.is_file():
                stored.unlink()
        return used / 1000 / result.objects

    def _nanoseconds(self) -> int:
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0])

    def quantile(self, share: float) -> float:
        """Return the cost below which this share of the rounds was."""
        return sorted(self.costs)[int(len(self.costs) * share)]


def compare(size: int, associations: int, rounds: int, count: int, directory: Path) -> Sequence[Side]:
    """Run both in turn, each round the other one first."""
    sides = [Side("dcxtwisted.DCXACCEvents"), Side("benchmarks.scanner.withoutScanner")]
    with ExitStack() as stack:
        for side in sides:
            side.start(stack, directory)
            side.run(size, associations, _WARM_UP)
        for turn in range(rounds):
            for side in sides if turn % 2 else sides[::-1]:
                side.costs.append(side.run(size, associations, count))
    return sides


def main() -> int:
    """Compare as the command line says, and print a line for each quantile; 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scanner", description=__doc__)
    parser.add_argument("--size", type=parseSize, default="525K", help="data-set bytes of each object")
    parser.add_argument("--associations", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--count", type=int, default=150, help="objects in each round")
    parser.add_argument("--directory", default="/dev/shm", help="where a store is made, and removed")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            sides = compare(options.size, options.associations, options.rounds, options.count, Path(directory))
    except (LoadError, ReceiverError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for share in _QUANTILES:
        checked, unchecked = (side.quantile(share) for side in sides)
        sys.stdout.write(
            f"{share:4.0%} of the rounds below {checked:6.1f} us an object with the check, {unchecked:6.1f} without: "
            f"{checked / unchecked - 1:+.1%}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
