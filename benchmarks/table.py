"""
What was measured, as one table: medians, least and greatest, and ratios to a baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.load import Result


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


def formatTable(measured: Mapping[tuple[str, int, str], Sequence[Measurement | None]], baseline: str) -> str:
    """
    Return the table, a row for each size, number of associations and receiver.

    :param measured: by these three, one entry for each round; None where the run failed.
    :param baseline: the receiver that the ratios are over; each is taken within a round.
    """
    titles = [column.title for column in _COLUMNS] + [f"x {column.title.split()[0]}" for column in _RATIOS]
    rows = [["size", "assoc", "receiver", *titles]]
    for (size, associations, name), runs in measured.items():
        succeeded = [measurement for measurement in runs if measurement is not None]
        row = [size, str(associations), name]
        if succeeded:
            row += [_spread(column, succeeded) for column in _COLUMNS]
            base = measured.get((size, associations, baseline), ())
            row += [_ratio(runs, base, column) for column in _RATIOS]
        else:
            row += ["failed"] + ["-"] * (len(titles) - 1)
        rows.append(row)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if index < 3 else cell.rjust(width) for index, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    legend = f"Median (least-greatest) of the rounds. x: ratio to {baseline} in the same round, median."
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
