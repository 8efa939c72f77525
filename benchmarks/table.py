"""
What was measured, as one table: medians, least and greatest, and ratios to a baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from benchmarks.load import Result


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
    :ivar cpu: the receiver's user and system time for an object, in seconds, with that of its children.
    :ivar peakMemory: the sum of the peak resident sizes of its processes, in bytes; pages they share count in each.
    """

    result: Result
    cpu: float
    peakMemory: int


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    value: Callable[[Measurement], float]
    digits: int
    hasSpread: bool = True


_COLUMNS: Final = (
    _Column("objects/s", lambda m: m.result.objectsPerSecond, 1),
    _Column("MB/s", lambda m: m.result.megabytesPerSecond, 1, False),
    _Column("p50 ms", lambda m: m.result.p50 * 1e3, 3),
    _Column("p99 ms", lambda m: m.result.p99 * 1e3, 3),
    _Column("CPU us/object", lambda m: m.cpu * 1e6, 0),
    _Column("peak MiB", lambda m: m.peakMemory / (1 << 20), 0, False),
    _Column("sender %", lambda m: m.result.busy * 100, 0, False),
)
_RATIOS: Final = (_COLUMNS[0], _COLUMNS[3], _COLUMNS[4])


def formatTable(measured: Mapping[Case, Sequence[Measurement | None]], baseline: str) -> str:
    """
    Return the table, a row for each case.

    :param measured: one entry for each round; None where the run failed.
    :param baseline: the receiver that the ratios are over; each is taken within a round.
    """
    titles = [column.title for column in _COLUMNS] + [f"x {column.title.split()[0]}" for column in _RATIOS]
    rows = [["size", "assoc", "window", "receiver", *titles]]
    for case, runs in measured.items():
        succeeded = [measurement for measurement in runs if measurement is not None]
        window = max((measurement.result.window for measurement in succeeded), default=case.window)
        row = [case.size, str(case.associations), f"{window}{'*' * (window < case.window)}", case.receiver]
        if succeeded:
            row += [_spread(column, succeeded) for column in _COLUMNS]
            base = measured.get(case._replace(receiver=baseline), ())
            row += [_ratio(runs, base, column) for column in _RATIOS]
        else:
            row += ["failed"] + ["-"] * (len(titles) - 1)
        rows.append(row)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    left = len(Case._fields)
    lines = [
        "  ".join(cell.ljust(width) if index < left else cell.rjust(width) for index, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    legend = f"Median (least-greatest) of the rounds. x: ratio to {baseline} in the same round, median."
    if any("*" in row[2] for row in rows):
        legend += "\n*: as many as the receiver accepted; more were proposed."
    return "\n".join((*lines, legend)) + "\n"


def _spread(column: _Column, runs: Sequence[Measurement]) -> str:
    values = sorted(map(column.value, runs))
    middle, least, greatest = (f"{value:.{column.digits}f}" for value in (median(values), values[0], values[-1]))
    return f"{middle} ({least}-{greatest})" if column.hasSpread else middle


def _ratio(runs: Sequence[Measurement | None], base: Sequence[Measurement | None], column: _Column) -> str:
    ratios = [
        column.value(ours) / column.value(theirs)
        for ours, theirs in zip(runs, base, strict=False)
        if ours is not None and theirs is not None and column.value(theirs)
    ]
    return f"{median(ratios):.2f}" if ratios else "-"
