"""
What was measured, as one table: medians, least and greatest, and ratios to baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.results import BEST_OF, Case, Measured, Measurement, baselineRuns, ratios, succeeded

_NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    value: Callable[[Measurement], float]
    digits: int
    hasSpread: bool = True

    def text(self, runs: Sequence[Measurement]) -> str:
        values = sorted(map(self.value, runs))
        middle, least, greatest = (f"{value:.{self.digits}f}" for value in (median(values), values[0], values[-1]))
        return f"{middle} ({least}-{greatest})" if self.hasSpread else middle


_RATE: Final = _Column("objects/s", lambda m: m.result.objectsPerSecond, 1)
_P99: Final = _Column("p99 ms", lambda m: m.result.p99 * 1e3, 3)
_CPU: Final = _Column("CPU us/object", lambda m: m.cpu * 1e6, 0)
_COLUMNS: Final = (
    _RATE,
    _Column("MB/s", lambda m: m.result.megabytesPerSecond, 1, False),
    _Column("p50 ms", lambda m: m.result.p50 * 1e3, 3),
    _P99,
    _CPU,
    _Column("user", lambda m: m.user * 1e6, 0, False),
    _Column("system", lambda m: m.system * 1e6, 0, False),
    _Column("peak MiB", lambda m: m.peakMemory / (1 << 20), 0, False),
    _Column("sender %", lambda m: m.result.busy * 100, 0, False),
)


def formatTable(measured: Measured, baselines: Sequence[str]) -> str:
    """
    Return the table, a row for each case.

    :param baselines: the receivers, or C{BEST_OF}, that rates are set against; latency and CPU against the first.
        One that was not measured is left out.
    """
    known = [name for name in baselines if any(baselineRuns(measured, case, name) for case in measured)]
    compared = [(f"x {name}", name, _RATE) for name in known]
    compared += [(f"{column.title.split()[0]} x {name}", name, column) for name in known[:1] for column in (_P99, _CPU)]
    titles = [*(column.title for column in _COLUMNS), *(title for title, _, _ in compared)]
    rows = [["size", "assoc", "window", "receiver", *titles]]
    for case, runs in measured.items():
        fit = succeeded(runs)
        window = max((measurement.result.window for measurement in fit), default=case.window)
        row = [case.size, str(case.associations), f"{window}{'*' * (window < case.window)}", case.receiver]
        if fit:
            row += [column.text(fit) for column in _COLUMNS]
            row += [_ratio(measured, case, name, column) for _, name, column in compared]
        else:
            row += ["failed"] + [_NONE] * (len(titles) - 1)
        rows.append(row)
    return "\n".join((*aligned(rows, len(Case._fields)), *_legend(rows, known))) + "\n"


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return the rows as lines, their columns two spaces apart: so many to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _legend(rows: Sequence[Sequence[str]], known: Sequence[str]) -> list[str]:
    legend = ["Median (least-greatest) of the rounds."]
    if known:
        legend[0] += " x: ratio in the same round, median; of objects/s where nothing else is said."
    legend += [
        f"{name}: the one of {', '.join(BEST_OF[name])} with the most objects/s." for name in known if name in BEST_OF
    ]
    if any("*" in row[2] for row in rows):
        legend.append("*: as many as the receiver accepted; more were proposed.")
    return legend


def _ratio(measured: Measured, case: Case, baseline: str, column: _Column) -> str:
    found = ratios(measured[case], baselineRuns(measured, case, baseline), column.value)
    return f"{median(found):.2f}" if found else _NONE
