"""
What is aimed at, and what is reached: ``python -m benchmarks.targets``.

Each part takes a bounded time and can be run by itself (``--parts``), kept (``--save``), and joined with others
(``--from``). The ratios to other receivers are taken from what ``benchmarks.peers --save`` kept (``--peers``), or else
measured here. Receiver and sender have a core each, but for "workers", which has both.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.durable import OURS, inRounds, loopOf
from benchmarks.load import LoadError, parseSize
from benchmarks.machine import commandLine
from benchmarks.pages import described, rewrite
from benchmarks.peers import RECEIVERS, Bounds, casesFor, factsFor, measure, measureAll
from benchmarks.probes import associationBeside, echoBeside, largeObjectGrowth, memoryOfIdle, quantile
from benchmarks.processes import ReceiverError, pinCores, tell
from benchmarks.results import Case, Measured, baselineRuns, join, joinFacts, loadResults, ratios
from benchmarks.scratch import emptyFiles, spreadDirectories
from benchmarks.table import aligned

_WORKERS: Final = "dcxtwisted-workers"


@dataclass(frozen=True, slots=True)
class Target:
    """
    A row: what is done, what of it is measured, and what it should be.

    :ivar part: with what it is measured.
    :ivar durability: whether objects are on the disk before they are acknowledged.
    :ivar isCeiling: less is better.
    :ivar case: of a ratio between receivers, what of ours is set against C{baseline}.
    """

    part: str
    work: str
    durability: str
    what: str
    aim: float
    floor: float
    isCeiling: bool = False
    case: Case | None = None
    baseline: str = ""

    @property
    def key(self) -> str:
        """What its figures are kept by."""
        return f"{self.work}: {self.what}"

    def verdict(self, value: float) -> str:
        """Return which of both is reached."""
        sign = -1 if self.isCeiling else 1
        if sign * value >= sign * self.aim:
            return "aim reached"
        return "floor reached" if sign * value >= sign * self.floor else "MISSED"


def _ratio(size: str, associations: int, baseline: str, aim: float, floor: float, ours: str = "dcxtwisted") -> Target:
    case = Case(size, associations, 1, ours)
    work = f"{size} x {associations}{' over TLS' if RECEIVERS[ours].isTLS else ''}"
    return Target("rates", work, "off", f"x {baseline}", aim, floor, False, case, baseline)


_SETUP: Final = "A-ASSOCIATE-RQ to AC beside 200 senders"
_ACTIVE: Final = "1,000 active associations"

TARGETS: Final = (
    _ratio("1K", 8, "storescp", 1.0, 0.7),
    _ratio("1K", 8, "pynetdicom", 20, 12),
    _ratio("525K", 1, "dcmtk", 1.1, 0.8),
    _ratio("525K", 1, "bare", 0.8, 0.65),
    _ratio("525K", 8, "dcmtk", 1.15, 0.95),
    _ratio("525K", 8, "bare", 0.8, 0.65),
    _ratio("525K", 8, "pynetdicom", 7, 5),
    _ratio("128M", 1, "dcmtk", 1.1, 1.0),
    _ratio("128M", 1, "bare", 0.9, 0.8),
    Target("durable", "525K x 8", "on", "x the loop of 8 threads", 0.9, 0.8),
    _ratio("525K", 8, "storescp-tls", 1.0, 0.8, "dcxtwisted-tls"),
    Target("latency", "1K x 64", "on", "p99 ms", 50, 100, True),
    Target("setup", _SETUP, "off", "p50 ms", 50, 100, True),
    Target("object", "8 GB object", "on", "memory + MiB", 16, 32, True),
    Target("active", _ACTIVE, "on", "refused", 0, 0, True),
    Target("active", _ACTIVE, "on", "p99 ms of a C-ECHO", 100, 250, True),
    Target("idle", "10,000 idle associations", "-", "KiB each", 30, 40, True),
    Target("idle-tls", "10,000 idle associations, TLS", "-", "KiB each", 70, 90, True),
    Target("workers", "525K x 16, 2 workers", "off", "x 1 process", 1.7, 1.4),
)
PARTS: Final = tuple(dict.fromkeys(target.part for target in TARGETS))


@dataclass
class Figures:
    """
    What was measured.

    :ivar values: one for each round, by the key of the target.
    :ivar notes: what is to be said of them, by the same.
    """

    facts: dict[str, str]
    commands: list[str]
    values: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all of it, as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def joinFigures(parts: Sequence[Figures]) -> Figures:
    """Return all parts as one."""
    joined = Figures(
        joinFacts([part.facts for part in parts]),
        list(dict.fromkeys(command for part in parts for command in part.commands)),
    )
    for part in parts:
        for key, values in part.values.items():
            joined.values.setdefault(key, []).extend(values)
            # What failed before and was measured since, has not failed.
            joined.notes.pop(key, None)
        joined.notes.update(part.notes)
    return joined


def ratesFrom(measured: Measured) -> dict[str, list[float]]:
    """Return the ratios, by round, of those targets that are ratios between receivers."""
    found = {
        target.key: ratios(
            measured.get(target.case, {}),
            baselineRuns(measured, target.case, target.baseline),
            lambda run: run.result.objectsPerSecond,
        )
        for target in TARGETS
        if target.case is not None
    }
    return {key: values for key, values in found.items() if values}


def formatTargets(values: Mapping[str, Sequence[float]], notes: Mapping[str, str]) -> str:
    """Return the table, a row for each target."""
    rows = [["work", "durable", "what", "measured", "(least-greatest)", "aim", "floor", "verdict"]]
    said = []
    for target in TARGETS:
        found = sorted(values.get(target.key, ()))
        measured = ["-", "", f"{target.aim:g}", f"{target.floor:g}", "not measured"]
        if found:
            spread = f"({found[0]:.2f}-{found[-1]:.2f})"
            measured = [f"{median(found):.2f}", spread, *measured[2:4], target.verdict(median(found))]
        rows.append([target.work, target.durability, target.what, *measured])
        if target.key in notes:
            said.append(f"{target.key}: {notes[target.key]}.")
    legend = "Median of the rounds. x: objects/s over those of the other. Of all else less is better."
    return "\n".join((*aligned(rows, 3), legend, *said)) + "\n"


@dataclass(frozen=True)
class _Session:
    """Where the parts of one run put what they measure."""

    options: argparse.Namespace
    bounds: Bounds
    scratch: Path
    figures: Figures

    def room(self) -> Path:
        """Return an empty directory for one receiver."""
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def put(self, part: str, *values: float, note: str = "") -> None:
        """Keep one value for each target of a part."""
        targets = [target for target in TARGETS if target.part == part]
        for target, value in zip(targets, values, strict=True):
            self.figures.values.setdefault(target.key, []).append(value)
        if note:
            self.figures.notes[targets[0].key] = note

    @property
    def cores(self) -> set[int]:
        """The receiver's."""
        return self.bounds.receiverCores


def _rates(session: _Session) -> None:
    """Ratios to other receivers."""
    if session.options.peers:
        found = ratesFrom(join([loadResults(path) for path in session.options.peers]).measured)
    else:
        cases = []
        for target in TARGETS:
            if target.case is not None:
                size, associations, _, ours = target.case
                isTLS = RECEIVERS[ours].isTLS
                alike = [name for name, each in RECEIVERS.items() if each.isTLS == isTLS and name in _COMPARED]
                cases += casesFor([size], [associations], [1], alike)
        measured: Measured = {}
        measureAll(list(dict.fromkeys(cases)), session.options.rounds, session.bounds, session.scratch, measured)
        found = ratesFrom(measured)
    for key, values in found.items():
        session.figures.values.setdefault(key, []).extend(values)


_COMPARED: Final = frozenset(
    ("dcxtwisted", "storescp", "dcmrecv", "pynetdicom", "bare", "dcxtwisted-tls", "storescp-tls")
)


def _durable(session: _Session) -> None:
    """Ours beside a loop that does nothing but write, synchronize and rename."""
    cases = [OURS, loopOf(8)]
    for measured in inRounds(cases, parseSize("525K"), 8, session.options.rounds, session.bounds, session.scratch):
        session.put("durable", measured[OURS][0] / measured[loopOf(8)][0])


def _latency(session: _Session) -> None:
    """How long small objects take, one after the other on each of 64 associations."""
    for _ in range(session.options.rounds):
        room = session.room()
        run = measure(RECEIVERS[OURS], parseSize("1K"), 64, 1, session.bounds, room)
        emptyFiles(room)
        session.put("latency", run.result.p99 * 1e3, note=f"{run.result.objects} objects in a round")


def _setup(session: _Session) -> None:
    """Associations beside senders that leave no room."""
    room = session.room()
    found = associationBeside(200, session.options.size, session.options.seconds, session.cores, room)
    emptyFiles(room)
    note = f"objects of {session.options.size}; p99 {quantile(found, 0.99) * 1e3:.1f} ms of {len(found)} associations"
    session.put("setup", quantile(found, 0.5) * 1e3, note=note)


def _object(session: _Session) -> None:
    """Memory for an object that memory could not hold."""
    room = session.room()
    size, growth, took = largeObjectGrowth(8 << 30, session.cores, room)
    emptyFiles(room)
    session.put("object", growth / (1 << 20), note=f"{size / (1 << 30):.2f} GiB in {took:.1f} s")


def _active(session: _Session) -> None:
    """A C-ECHO beside as many senders as are let in."""
    room = session.room()
    found = echoBeside(1000, session.options.size, session.options.seconds, session.cores, room)
    emptyFiles(room)
    note = f"objects of {session.options.size}; p50 {quantile(found, 0.5) * 1e3:.1f} ms of {len(found)} C-ECHO"
    session.put("active", 0, quantile(found, 0.99) * 1e3, note=note)


def _idle(session: _Session, part: str, isTLS: bool) -> None:
    """Memory of associations that do nothing."""
    count, each = memoryOfIdle(10_000, isTLS, session.cores, session.room())
    session.put(part, each / 1024, note=f"{count} of them, without what the kernel takes")


def _workers(session: _Session) -> None:
    """What a second process gains, where both have both cores, and the sender too."""
    if _WORKERS not in RECEIVERS:
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, pinned | session.cores)
    try:
        bounds = Bounds(session.bounds.count, session.bounds.seconds, set(), set())
        ours, base = Case("525K", 16, 1, _WORKERS), Case("525K", 16, 1, "dcxtwisted")
        measured: Measured = {}
        measureAll([base, ours], session.options.rounds, bounds, session.scratch, measured)
    finally:
        os.sched_setaffinity(0, pinned)
    for gained in ratios(measured[ours], measured[base], lambda run: run.result.objectsPerSecond):
        session.put("workers", gained)
    busy = median(run.result.busy for run in measured[ours].values() if run is not None)
    session.figures.notes["525K x 16, 2 workers: x 1 process"] = f"the sender took {busy:.0%} of a core beside them"


_MEASURES: Final[Mapping[str, Callable[[_Session], None]]] = {
    "rates": _rates,
    "durable": _durable,
    "latency": _latency,
    "setup": _setup,
    "object": _object,
    "active": _active,
    "idle": partial(_idle, part="idle", isTLS=False),
    "idle-tls": partial(_idle, part="idle-tls", isTLS=True),
    "workers": _workers,
}


def _run(options: argparse.Namespace) -> Figures:
    bounds = Bounds(None, options.seconds / 2, *pinCores())
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as name:
        scratch = Path(name).resolve()
        spreadDirectories(scratch)
        figures = Figures(factsFor(scratch), [commandLine("benchmarks.targets")])
        session = _Session(options, bounds, scratch, figures)
        for part in options.parts:
            try:
                _MEASURES[part](session)
            except (LoadError, ReceiverError, OSError) as error:
                key = next(target.key for target in TARGETS if target.part == part)
                figures.notes[key] = f"FAILED: {type(error).__name__}: {str(error).splitlines()[-1:]}"
            sys.stderr.write(f"{part}: done\n")
    return figures


def main() -> int:
    """Measure as the command line says; 1 where a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets", description=__doc__)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of what is a ratio or a latency [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=6.0, help="each crowd is there [default: %(default)s]")
    parser.add_argument("--size", default="525K", help="of the objects that crowds send [default: %(default)s]")
    parser.add_argument("--directory", type=Path, help="where stores are made, and removed [default: a temporary one]")
    parser.add_argument("--peers", type=Path, nargs="+", metavar="FILE", help="what benchmarks.peers kept")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where to keep what was measured, as JSON")
    parser.add_argument("--from", type=Path, nargs="+", metavar="FILE", dest="kept", help="join what was kept in these")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page in reStructuredText to write it into")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; known are {', '.join(PARTS)}")
    if options.kept:
        figures = joinFigures([Figures(**json.loads(path.read_text())) for path in options.kept])
        if options.peers:
            figures.values |= ratesFrom(join([loadResults(path) for path in options.peers]).measured)
    else:
        figures = _run(options)
    if options.save:
        figures.save(options.save)
    table = formatTargets(figures.values, figures.notes)
    tell(table.rstrip("\n"))
    if options.report:
        rewrite(options.report, "targets", described(figures.facts, figures.commands, table))
    return 1 if any(note.startswith("FAILED") for note in figures.notes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
