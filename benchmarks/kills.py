"""
A listener that is killed again and again while it stores: ``python -m benchmarks.kills``.

Several senders store objects of many sizes, some of them twice and some with other bytes under the same UID. At a
random moment the listener is killed with SIGKILL and started anew over the same store, in turn with unnamed files and
with a working directory. After each start every object that was acknowledged stands under a final name with exactly
the bytes that were sent, no final name is anything but a whole object that was sent, and what was left unfinished is
swept.

It shows that a process may die at any moment. It shows nothing of power cuts: what a dead process has written is the
system's to keep, synchronized or not. Those are the tests' to model (``tests/stores/faults.py``).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.objects import Template
from benchmarks.processes import ReceiverError, listenerOver
from benchmarks.requestor import Identity, Requestor, requestFor, templateOf
from benchmarks.scratch import spreadDirectories
from dcxtwisted import DCXACCEvents
from dcxtwisted.part10 import SOPInstanceUIDOf, dataSetOffset
from dcxtwisted.stores import file

_SIZES: Final = (1 << 10, 20 << 10, 150 << 10, 600 << 10)
_PATIENCE: Final = 30.0
_HEAD: Final = 4096
# Of the objects, how many are sent once more as they are, and how many with other bytes.
_AGAIN: Final = 0.15
_RIVAL: Final = 0.1

#: Options that have a listener go without unnamed files.
WITHOUT_UNNAMED_FILES: Final = ("--events", "benchmarks.kills.withoutUnnamedFiles")


def withoutUnnamedFiles() -> DCXACCEvents:
    """Return events, having the store find a file system without unnamed files."""
    vars(file)["makesUnnamedFiles"] = lambda directory: False
    return DCXACCEvents()


class Broken(Exception):
    """The promise is broken."""


@dataclass(slots=True)
class Record:
    """What was sent, and what of it was acknowledged; used by all senders."""

    sent: set[Identity] = field(default_factory=set)
    acknowledged: set[Identity] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    responses: int = 0
    serial: int = 0
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> int:
        """Return a number that no object has."""
        with self.mutex:
            self.serial += 1
            return self.serial

    def answered(self, identity: Identity, status: int) -> None:
        """Take note of a response."""
        with self.mutex:
            self.responses += 1
            if status:
                self.refused.append(f"{identity[0]}: {status:04X}")
            else:
                self.acknowledged.add(identity)


class Sender(threading.Thread):
    """Objects one by one on one association, until the connection breaks."""

    def __init__(self, port: int, templates: list[Template], record: Record, seed: int) -> None:
        super().__init__(daemon=True)
        self._templates = templates
        self._record = record
        self._random = random.Random(seed)
        self._requestor = Requestor(port)

    def run(self) -> None:
        """Send."""
        with suppress(OSError):
            while True:
                serial = self._record.next()
                self._send(serial, self._random.choice(self._templates))
                if self._random.random() < _RIVAL:
                    self._send(serial, self._random.choice(self._templates))
        self._requestor.close()

    def _send(self, serial: int, template: Template) -> None:
        request, identity = requestFor(template, serial)
        with self._record.mutex:
            self._record.sent.add(identity)
        for _ in range(2 if self._random.random() < _AGAIN else 1):
            self._record.answered(identity, self._requestor.store(request))


class Store:
    """What stands below a store directory, looked at again and again; what has not changed is not read again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[str, tuple[tuple[int, int, int], Identity]] = {}

    def unfinished(self) -> int:
        """Return how many files stand in working directories."""
        # os.walk passes over what is removed meanwhile.
        return sum(len(set(names) - {"lock"}) for _, _, names in os.walk(self.directory / ".incoming"))

    def working(self) -> int:
        """Return how many working directories there are."""
        return len(next(os.walk(self.directory / ".incoming"), ((), (), ()))[1])

    def check(self, record: Record) -> int:
        """
        Return how many objects stand there, all of them as they should.

        :raises Broken: they do not.
        """
        found: set[Identity] = set()
        for path, status in self._files():
            known = status.st_ino, status.st_size, status.st_mtime_ns
            if self._read.get(path, (None,))[0] != known:
                self._read[path] = known, _identityOf(path)
            identity = self._read[path][1]
            if identity not in record.sent:
                raise Broken(f"{path} is no object that was sent")
            if identity in found:
                raise Broken(f"{path} stands there twice")
            found.add(identity)
        lost = record.acknowledged - found
        if lost:
            raise Broken(f"acknowledged, and not there as sent: {', '.join(UID for UID, _ in lost)}")
        return len(found)

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        for path, directories, names in os.walk(self.directory):
            if path == str(self.directory):
                directories[:] = [name for name in directories if name != ".incoming"]
            for name in names:
                yield f"{path}/{name}", os.lstat(f"{path}/{name}")


def _identityOf(path: str) -> Identity:
    with open(path, "rb") as opened:
        content = opened.read()
    try:
        return SOPInstanceUIDOf(content[:_HEAD]), sha256(content[dataSetOffset(content[:_HEAD]) :]).digest()
    except ValueError as error:
        raise Broken(f"{path}: {error}") from error


@dataclass(slots=True)
class Figures:
    """What came of it: kills, responses, objects that stand there, unfinished files that had to be swept."""

    kills: int = 0
    responses: int = 0
    objects: int = 0
    unanswered: int = 0
    swept: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.responses} responses with 0000, {self.objects} objects stand there, each whole "
            f"and as sent; {self.unanswered} were on their way, {self.swept} unfinished files were swept"
        )


def killAgainAndAgain(count: int, directory: Path, senders: int = 8, spread: float = 0.7, seed: int = 0) -> Figures:
    """
    Kill a listener so many times, and return what came of it.

    :param directory: an empty one, for the store and the log.
    :param spread: seconds of load after which it is killed at the latest.
    :raises Broken: an object that was acknowledged is lost, or something stands there that is none.
    :raises ReceiverError: the listener does not start, or ends by itself.
    """
    chance = random.Random(seed)
    record, figures, store = Record(), Figures(), Store(directory / "store")
    # One run for all sizes: it is a part of the UIDs, and a rival has the same UID in another size.
    run = chance.randrange(10**15, 10**16)
    templates = [templateOf(size, run) for size in _SIZES]
    for number in range(count + 1):
        left = store.unfinished()
        options = WITHOUT_UNNAMED_FILES if number % 2 else ()
        with listenerOver(store.directory, directory / "log", *options) as process:
            _awaitSwept(store, number % 2)
            figures.swept += left
            figures.objects = store.check(record)
            if number == count:
                break
            crowd = [Sender(process.port, templates, record, chance.randrange(1 << 32)) for _ in range(senders)]
            for sender in crowd:
                sender.start()
            time.sleep(chance.uniform(0, spread))
            os.kill(process.pid, signal.SIGKILL)
            for sender in crowd:
                sender.join(_PATIENCE)
        figures.kills += 1
        figures.unanswered = len(record.sent - record.acknowledged)
        if record.refused:
            raise Broken(f"refused: {record.refused[:5]}")
        if any(sender.is_alive() for sender in crowd):
            raise Broken("a sender still waits for a listener that is gone")
    figures.responses = record.responses
    return figures


def _awaitSwept(store: Store, working: int) -> None:
    """
    Wait until nothing unfinished is left.

    :param working: how many working directories the living have.
    """
    deadline = time.monotonic() + _PATIENCE
    while store.unfinished() or store.working() > working:
        if time.monotonic() > deadline:
            raise Broken(f"{store.unfinished()} unfinished files are not swept")
        time.sleep(0.01)


def main() -> int:
    """Kill as the command line says; 1 where something was lost or fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many times [default: %(default)s]")
    parser.add_argument("--senders", type=int, default=8, help="[default: %(default)s]")
    parser.add_argument("--seed", type=int, help="of what is sent and when it is killed [default: another each time]")
    parser.add_argument(
        "--directory", type=Path, help="where the store is made, and removed [default: a temporary one]"
    )
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as name:
        scratch = Path(name).resolve()
        spreadDirectories(scratch)
        began = time.monotonic()
        try:
            figures = killAgainAndAgain(options.count, scratch, options.senders, seed=seed)
        except (Broken, ReceiverError, OSError) as error:
            sys.stderr.write(f"seed {seed}: {error}\n")
            return 1
        sys.stdout.write(f"{figures} (seed {seed}, {time.monotonic() - began:.0f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
