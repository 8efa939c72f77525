"""
What durability costs beside the least that it can: ``python -m benchmarks.durable``.

Objects from several senders, each on the disk before it is acknowledged, beside a loop that receives nothing: threads
that each write a file of the same size, synchronize it, rename it and synchronize the directory, and begin again. Both
are pinned to the same core and store on the same disk, in turn; what counts is the ratio within a round. A thread
of the loop always waits for the disk, a sender also for its next object to come: so the loop is taken with twice the
threads, too, for what the disk could do. And what receives has to receive: beside both stands, where there is a
compiler, a receiver in C that does nothing else and checks nothing (native.c), which is what any could reach.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.load import LoadError, parseSize
from benchmarks.machine import CHECKOUT
from benchmarks.peers import RECEIVERS, Bounds, measure
from benchmarks.processes import ReceiverError, pinCores, tell
from benchmarks.receivers import compiler
from benchmarks.scratch import emptyFiles, freshDirectory, spreadDirectories, touchMemory

#: What is measured beside loops.
OURS: Final = "dcxtwisted-durable"
_NATIVE: Final = "native-durable"
# The loop ends by itself; this much later something is wrong.
_PATIENCE: Final = 60.0


def loop(directory: str, size: int, threads: int, objects: int, seconds: float) -> tuple[float, float]:
    """
    Write files durably, as many as are asked for or as the time allows.

    :return: files in a second, and CPU seconds for each.
    """
    data = memoryview(os.urandom(size))
    numbers = count()
    written = [0] * threads
    failed: list[OSError] = []
    stopAt = time.perf_counter() + seconds
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def work(index: int) -> None:
        try:
            while (number := next(numbers)) < objects and time.perf_counter() < stopAt:
                working = f"{directory}/.{number}"
                fd = os.open(working, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                left = data
                while left:
                    left = left[os.write(fd, left) :]
                os.fsync(fd)
                os.close(fd)
                os.rename(working, f"{directory}/{number}")
                os.fsync(parent)
                written[index] += 1
        except OSError as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    usedBefore = time.process_time()
    startedAt = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - startedAt
    os.close(parent)
    if failed:
        raise failed[0]
    return sum(written) / took, (time.process_time() - usedBefore) / sum(written)


def runLoop(size: int, threads: int, bounds: Bounds, scratch: Path) -> tuple[float, float]:
    """Run C{loop} in a process of its own, on the receiver's core."""
    directory = freshDirectory(scratch)
    objects = bounds.countFor(size, threads)
    touchMemory(scratch, size * objects)
    arguments = [str(directory), str(size), str(threads), str(objects), str(bounds.seconds)]
    cores = ",".join(map(str, bounds.receiverCores))
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.durable", "--loop", *arguments, cores],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=bounds.seconds + _PATIENCE,
        check=False,
    )
    if ran.returncode:
        raise ReceiverError(f"the loop failed: {ran.stderr.strip()[-500:]}")
    rate, CPU = map(float, ran.stdout.split())
    return rate, CPU


def _loopAsToldBy(arguments: Sequence[str]) -> None:
    directory, size, threads, objects, seconds, cores = arguments
    if cores:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    rate, CPU = loop(directory, int(size), int(threads), int(objects), float(seconds))
    sys.stdout.write(f"{rate} {CPU}\n")


def _once(case: str, size: int, senders: int, bounds: Bounds, scratch: Path) -> tuple[float, float]:
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        if case not in RECEIVERS:
            return runLoop(size, int(case.split()[1]), bounds, directory)
        measured = measure(RECEIVERS[case], size, senders, 1, bounds, directory)
        return measured.result.objectsPerSecond, measured.cpu
    finally:
        emptyFiles(directory)


def loopOf(threads: int) -> str:
    """Return what the loop is called with so many threads."""
    return f"loop, {threads} threads"


def inRounds(
    cases: Sequence[str], size: int, senders: int, rounds: int, bounds: Bounds, scratch: Path
) -> list[dict[str, tuple[float, float]]]:
    """
    Measure receivers and loops in turn, and return for each round objects in a second and CPU seconds for each.

    :raises LoadError: if not every object was acknowledged and stored.
    :raises ReceiverError: if the receiver, or a loop, fails.
    """
    measured = []
    for number in range(rounds):
        first = number % len(cases)
        turns = [*cases[first:], *cases[:first]]
        measured.append({case: _once(case, size, senders, bounds, scratch) for case in turns})
    return measured


def run(options: argparse.Namespace, bounds: Bounds, scratch: Path) -> None:
    """Measure as the command line says, and tell what came of it."""
    cases = [OURS, *([_NATIVE] if compiler() else []), *map(loopOf, map(int, options.threads.split(",")))]
    for text in options.sizes.split(","):
        size = parseSize(text)
        rounds = inRounds(cases, size, options.senders, options.rounds, bounds, scratch)
        tell(f"{text}, {options.senders} senders, {options.rounds} rounds: median (least-greatest)")
        for case in cases:
            rates = sorted(measured[case][0] for measured in rounds)
            CPU = median(measured[case][1] for measured in rounds)
            ratio = median(measured[OURS][0] / measured[case][0] for measured in rounds)
            tell(
                f"  {case:20} {median(rates):7.1f} ({rates[0]:.1f}-{rates[-1]:.1f}) objects/s, "
                f"{CPU * 1e6:5.0f} us CPU each, {OURS} has {ratio:.2f} of it"
            )


def main() -> int:
    """Run as the command line says; 1 where something fails."""
    if sys.argv[1:2] == ["--loop"]:
        _loopAsToldBy(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    parser.add_argument("--sizes", default="525K,1K", help="of the data sets [default: %(default)s]")
    parser.add_argument("--senders", type=int, default=8, help="associations [default: %(default)s]")
    parser.add_argument("--threads", default="8,16", help="of the loop [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--count", type=int, help="objects in a run [default: 5000 or 1000, by their size]")
    parser.add_argument("--seconds", type=float, default=10.0, help="longest run [default: %(default)s]")
    parser.add_argument("--directory", type=Path, help="where stores are made, and removed [default: a temporary one]")
    options = parser.parse_args()
    bounds = Bounds(options.count, options.seconds, *pinCores())
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as name:
        scratch = Path(name).resolve()
        spreadDirectories(scratch)
        tell(f"load average {os.getloadavg()[0]:.1f} before")
        try:
            run(options, bounds, scratch)
        except (LoadError, ReceiverError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        tell(f"load average {os.getloadavg()[0]:.1f} after")
    return 0


if __name__ == "__main__":
    sys.exit(main())
