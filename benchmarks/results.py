"""
What runs with receivers gave, in memory and as JSON: kept, joined, and set against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

from benchmarks.load import Result

#: What ends the name of a receiver that is sent to over TLS.
TLS_SUFFIX: Final = "-tls"

#: Baselines that are several receivers: in each round the one that stored most objects a second counts.
BEST_OF: Final[Mapping[str, Sequence[str]]] = {"dcmtk": ("storescp", "dcmrecv")}


class Case(NamedTuple):
    """
    What is measured, once in each round.

    :ivar window: how many objects were to be outstanding on each association.
    """

    size: str
    associations: int
    window: int
    receiver: str

    def __str__(self) -> str:
        window = f", window {self.window}" if self.window > 1 else ""
        return f"{self.receiver}, {self.size} x {self.associations}{window}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """
    One run with one receiver.

    :ivar result: what the sender saw.
    :ivar user: the receiver's time in its own code for an object, in seconds, with that of its children.
    :ivar system: the same in the kernel.
    :ivar peakMemory: the sum of the peak resident sizes of its processes, in bytes; pages they share count in each.
    """

    result: Result
    user: float
    system: float
    peakMemory: int

    @property
    def cpu(self) -> float:
        """The receiver's time for an object, in seconds."""
        return self.user + self.system


#: The runs of a case by their round; None where one failed.
Runs: TypeAlias = Mapping[int, Measurement | None]
#: The runs of each case, in the order in which the cases were begun.
Measured: TypeAlias = dict[Case, dict[int, Measurement | None]]


def succeeded(runs: Runs) -> list[Measurement]:
    """Return the runs that did not fail."""
    return [measurement for measurement in runs.values() if measurement is not None]


def baselineRuns(measured: Measured, case: Case, baseline: str) -> Runs:
    """
    Return what a case is set against, by round; nothing where that was not measured.

    :param baseline: a receiver, or one of C{BEST_OF}; of what is sent to over TLS, its namesake with TLS.
    """
    suffix = TLS_SUFFIX if case.receiver.endswith(TLS_SUFFIX) else ""
    best: dict[int, Measurement] = {}
    for name in BEST_OF.get(baseline, (baseline.removesuffix(TLS_SUFFIX),)):
        for number, run in measured.get(case._replace(receiver=name + suffix), {}).items():
            if run is not None and (
                number not in best or run.result.objectsPerSecond > best[number].result.objectsPerSecond
            ):
                best[number] = run
    return best


def ratios(runs: Runs, base: Runs, value: Callable[[Measurement], float]) -> list[float]:
    """Return for each round in which both succeeded how often the one value holds the other."""
    pairs = [(ours, base.get(number)) for number, ours in runs.items()]
    return [
        value(ours) / value(theirs)
        for ours, theirs in pairs
        if ours is not None and theirs is not None and value(theirs)
    ]


def rateRatio(measured: Measured, case: Case, baseline: str) -> float | None:
    """Return the median ratio of the objects stored in a second; None where there is none."""
    base = baselineRuns(measured, case, baseline)
    found = ratios(measured.get(case, {}), base, lambda run: run.result.objectsPerSecond)
    return median(found) if found else None


@dataclass(frozen=True, slots=True)
class Results:
    """
    What one or more runs of a program measured.

    :ivar facts: machine, versions and date, by what each is.
    :ivar commands: the command lines.
    :ivar tables: what else was measured, as text, by what it is of.
    """

    facts: dict[str, str]
    commands: list[str]
    measured: Measured
    tables: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all of it, as JSON."""
        runs = [
            {"round": number, **case._asdict(), "measurement": None if run is None else asdict(run)}
            for case, rounds in self.measured.items()
            for number, run in rounds.items()
        ]
        document = {"facts": self.facts, "commands": self.commands, "runs": runs, "tables": self.tables}
        path.write_text(json.dumps(document, indent=1) + "\n")


def loadResults(path: Path) -> Results:
    """
    Return what C{Results.save} wrote.

    :raises ValueError: if it is something else.
    """
    document = json.loads(path.read_text())
    measured: Measured = {}
    try:
        for run in document["runs"]:
            case = Case(*(run[name] for name in Case._fields))
            measured.setdefault(case, {})[run["round"]] = _measurementFrom(run["measurement"])
        return Results(document["facts"], document["commands"], measured, document["tables"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has no results: {error!r}") from error


def _measurementFrom(fields: dict[str, Any] | None) -> Measurement | None:
    return None if fields is None else Measurement(**{**fields, "result": Result(**fields["result"])})


def join(parts: Sequence[Results]) -> Results:
    """Return all parts as one: their rounds follow on each other, and facts that differ stand side by side."""
    measured: Measured = {}
    begun = 0
    for part in parts:
        rounds = [number for runs in part.measured.values() for number in runs]
        for case, runs in part.measured.items():
            measured.setdefault(case, {}).update({begun + number: run for number, run in runs.items()})
        begun += max(rounds, default=-1) + 1
    commands = list(dict.fromkeys(command for part in parts for command in part.commands))
    tables = {name: table for part in parts for name, table in part.tables.items()}
    return Results(joinFacts([part.facts for part in parts]), commands, measured, tables)


def joinFacts(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the facts of all parts; what differs stands side by side."""
    names = dict.fromkeys(name for facts in parts for name in facts)
    return {name: "; ".join(dict.fromkeys(facts[name] for facts in parts if name in facts)) for name in names}
