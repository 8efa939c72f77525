"""
Where an object's microseconds go: ``python -m benchmarks.profile``.

The listener is cut short at one place after the other (see benchmarks.cutouts), and each cut-out is measured as a whole
receiver is, in interleaved rounds, by the CPU time that the system counts for its process: nothing is instrumented, so
nothing is distorted. What a part takes is what it adds to the cut-out before it. System calls are counted and timed in
a run of their own, by ``perf trace`` where there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.cutouts import CUTOUTS
from benchmarks.load import LoadError, parseSize, runLoad
from benchmarks.machine import commandLine, facts
from benchmarks.pages import described, rewrite
from benchmarks.peers import RECEIVERS, Bounds, Receiver, listening, measureAll
from benchmarks.processes import ReceiverError, pinCores, tell
from benchmarks.results import Case, Measured, Results, join, loadResults, succeeded
from benchmarks.scratch import emptyFiles, spreadDirectories
from benchmarks.syscalls import WAITING, Calls, isAvailable, overhead, traced
from benchmarks.table import aligned

#: What each part adds to those before it, by the receiver that has it.
PARTS: Final[Mapping[str, str]] = {
    "reactor": "reactor: recv, send, epoll",
    "wire": "wire: framing, command sets",
    "services": "association, dimse, services",
    "reader": "data set reader",
    "store": "store: file, link",
    "dcxtwisted": "twistd, log",
    "dcxtwisted-durable": "durability: fsync, threads",
}
_COUNTS: Final = ((64 << 10, 10_000), (4 << 20, 4000))
_FEW: Final = 16
_TRACED: Final = "dcxtwisted"


def profiled() -> dict[str, Receiver]:
    """Return the receivers, each with a part more than the one before it."""
    cutouts = {
        name: Receiver(
            (sys.executable, "-m", "benchmarks.cutouts", name, "{port}", "{directory}"), keeps=name == "store"
        )
        for name in CUTOUTS
    }
    return {name: cutouts.get(name) or RECEIVERS[name] for name in PARTS}


def formatProfile(columns: Mapping[str, Measured], size: str, associations: int) -> str:
    """
    Return the table of one size: a row for each part.

    :param columns: what was measured, by when: "before", "after".
    """
    titles = [f"{when}{what}" for when in columns for what in (" us", " user", " system")]
    rows = [["part", *(title.strip() for title in titles)]]
    taken = {when: _medians(measured, size, associations) for when, measured in columns.items()}
    for name, part in PARTS.items():
        row = [part]
        for medians in taken.values():
            previous = [medians[each] for each in list(PARTS)[: list(PARTS).index(name)] if each in medians]
            row += _added(medians.get(name), previous[-1] if previous else (0.0, 0.0))
        rows.append(row)
    for title, name in (("all, without durability", "dcxtwisted"), ("all, with it", "dcxtwisted-durable")):
        rows.append([title, *(text for medians in taken.values() for text in _added(medians.get(name), (0.0, 0.0)))])
    return "\n".join(aligned(rows, 1)) + "\n"


def _medians(measured: Measured, size: str, associations: int) -> dict[str, tuple[float, float]]:
    """Return user and system microseconds by receiver."""
    found = {}
    for name in PARTS:
        runs = succeeded(measured.get(Case(size, associations, 1, name), {}))
        if runs:
            found[name] = median(run.user for run in runs) * 1e6, median(run.system for run in runs) * 1e6
    return found


def _added(times: tuple[float, float] | None, before: tuple[float, float]) -> list[str]:
    if times is None:
        return ["-"] * 3
    user, system = times[0] - before[0], times[1] - before[1]
    return [f"{user + system:.1f}", f"{user:.1f}", f"{system:.1f}"]


def formatCalls(calls: Mapping[str, Calls], objects: int, added: float) -> str:
    """
    Return the table of the system calls for an object, those that take longest first.

    :param added: seconds that tracing adds to each.
    """
    rows = [["system call", "calls an object", "us a call", "us an object"]]
    found = []
    for name, each in calls.items():
        seconds = max(each.seconds - each.count * added, 0.0)
        found.append((0.0 if name in WAITING else seconds, name, each.count, seconds))
    # One call in a hundred objects is no part of an object.
    for took, name, count, seconds in sorted(found, reverse=True):
        if count * 100 >= objects:
            shown = "(waits)" if name in WAITING else f"{seconds / count * 1e6:.1f}"
            rows.append([name, f"{count / objects:.2f}", shown, f"{took / objects * 1e6:.1f}" if took else "-"])
    return "\n".join(aligned(rows, 1)) + "\n"


def _callsOf(size: str, associations: int, bounds: Bounds, scratch: Path) -> str:
    """Return the table of the system calls of the whole listener."""
    room = Path(tempfile.mkdtemp(dir=scratch))
    objects = 0

    def load() -> None:
        nonlocal objects
        count = bounds.countFor(parseSize(size), associations)
        objects = runLoad(process.port, parseSize(size), associations, count, bounds.seconds).objects

    with listening(RECEIVERS[_TRACED], room, bounds.receiverCores) as process:
        runLoad(process.port, parseSize(size), 1, associations)
        calls = traced(process.pid, room / "calls", load)
    added = overhead(room / "overhead")
    emptyFiles(room)
    legend = f"Of {_TRACED}; {added * 1e6:.1f} us that tracing adds to each call are taken off."
    return formatCalls(calls, objects, added) + legend + "\n"


def _countFor(size: int) -> int:
    return next((count for limit, count in _COUNTS if size < limit), _FEW)


def _sections(options: argparse.Namespace, columns: Mapping[str, Measured], calls: Mapping[str, str]) -> str:
    parts = []
    for size in options.sizes:
        heading = f"{size} x {options.associations}: CPU time of an object in microseconds, median of the rounds"
        parts.append(heading + "\n\n" + formatProfile(columns, size, options.associations))
        if size in calls:
            parts.append(calls[size])
    return "\n".join(parts)


def _measured(options: argparse.Namespace) -> Results:
    """Return what was measured, with a table of system calls for each size."""
    receivers = profiled()
    cores = pinCores()
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as name:
        scratch = Path(name).resolve()
        spreadDirectories(scratch)
        results = Results(facts(scratch), [commandLine("benchmarks.profile")], {})
        for size in options.sizes:
            bounds = Bounds(options.count or _countFor(parseSize(size)), options.seconds, *cores)
            cases = [Case(size, options.associations, 1, receiver) for receiver in receivers]
            measureAll(cases, options.rounds, bounds, scratch, results.measured, receivers)
            if options.calls and isAvailable():
                results.tables[size] = _callsOf(size, options.associations, bounds, scratch)
    return results


def main() -> int:
    """Measure as the command line says, and print a table for each size; 1 where something fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument(
        "--sizes", type=lambda text: text.split(","), default="1K,525K,128M", help="[default: %(default)s]"
    )
    parser.add_argument("--associations", type=int, default=8, help="at the same time [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[default: %(default)s]")
    parser.add_argument("--count", type=int, help="objects in a run [default: 10000, 4000 or 16, by their size]")
    parser.add_argument("--seconds", type=float, default=4.0, help="longest run [default: %(default)s]")
    parser.add_argument("--directory", type=Path, help="where stores are made, and removed [default: a temporary one]")
    parser.add_argument("--no-calls", action="store_false", dest="calls", help="do without system calls")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where to keep what was measured, as JSON")
    parser.add_argument("--from", type=Path, nargs="+", metavar="FILE", dest="kept", help="join what was kept in these")
    parser.add_argument("--before", type=Path, nargs="+", metavar="FILE", help="what was kept of an earlier commit")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page in reStructuredText to write it into")
    options = parser.parse_args()
    try:
        results = join([loadResults(path) for path in options.kept]) if options.kept else _measured(options)
    except (LoadError, ReceiverError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.save:
        results.save(options.save)
    columns = {"": results.measured}
    if options.before:
        columns = {"before": join([loadResults(path) for path in options.before]).measured, "after": results.measured}
    text = _sections(options, columns, results.tables)
    tell(text.rstrip("\n"))
    if options.report:
        rewrite(options.report, "profile", described(results.facts, results.commands, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
