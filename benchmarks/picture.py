"""
What was measured, as a picture: a row of panels for each size of objects, in it one for each number of associations.

It is SVG with a style for light and one for dark surroundings, without a script, and with names in place of a legend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10
from statistics import median
from typing import Final

from benchmarks.load import parseSize
from benchmarks.results import Case, Measured, Measurement, succeeded

#: Smaller objects are counted; of larger ones the bytes are.
_COUNTED_BELOW: Final = 64 << 10

_MARGIN: Final = 16
_NAMES: Final = 140  # the width of the column with the receivers' names
_PANEL: Final = 260
_GAP: Final = 18
_VALUE: Final = 52  # room behind the longest bar for its number
_BAR: Final = 12
_LINE: Final = 18
_HEADING: Final = 22
_AXIS: Final = 36
_SUBTITLE_LETTERS: Final = 150

# One colour a family: what is compared shows, and names tell the members apart.
_FAMILIES: Final = ("dcxtwisted", "storescp", "dcmrecv", "pynetdicom", "bare")
_STYLE: Final = """
text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}
.small{font-size:11px;fill:#59636e}
.heading{font-weight:600}.end{text-anchor:end}.middle{text-anchor:middle}.ground{fill:#ffffff}
.grid{stroke:#d1d9e0}.whisker{stroke:#1f2328}
.dcxtwisted{fill:#2f6fde}.storescp{fill:#c9752d}.dcmrecv{fill:#b0913a}.pynetdicom{fill:#3f9156}.bare{fill:#8c959f}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.ground{fill:#0d1117}.grid{stroke:#3d444d}
.whisker{stroke:#f0f6fc}
.dcxtwisted{fill:#5b93f5}.storescp{fill:#d98b48}.dcmrecv{fill:#c4a754}.pynetdicom{fill:#55a86d}.bare{fill:#6e7681}}
""".replace("\n", "")


def draw(measured: Measured, facts: Mapping[str, str]) -> str:
    """
    Return the picture: bars for medians, whiskers from the least to the greatest.

    :param facts: machine, versions and date; they stand below the title.
    """
    cases = [case for case in measured if succeeded(measured[case]) and case.window == 1]
    sizes = sorted({case.size for case in cases}, key=parseSize)
    counts = sorted({case.associations for case in cases})
    width = 2 * _MARGIN + _NAMES + len(counts) * (_PANEL + _GAP) - _GAP
    below = _wrapped(". ".join(": ".join(fact) for fact in facts.items()), _SUBTITLE_LETTERS)
    parts = [_text(_MARGIN, 28, "Objects received and stored, medians with least and greatest of the rounds", "title")]
    parts += [_text(_MARGIN, 48 + 15 * index, line, "small") for index, line in enumerate(below)]
    top = 58 + 15 * len(below)
    for size in sizes:
        row = [case for case in cases if case.size == size]
        receivers = list(dict.fromkeys(case.receiver for case in row))
        parts += _row(measured, row, receivers, counts, top)
        top += _HEADING + _LINE * len(receivers) + _AXIS + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}">'
        f"<title>Objects received and stored by receiver</title><style>{_STYLE}</style>"
        f'<rect class="ground" width="{width}" height="{top}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _row(
    measured: Measured, cases: Sequence[Case], receivers: Sequence[str], counts: Sequence[int], top: int
) -> list[str]:
    """Return the panels of one size; they share a scale."""
    size = cases[0].size
    isCounted = parseSize(size) < _COUNTED_BELOW
    unit = "objects/s" if isCounted else "MB/s"
    spreads = {
        (case.receiver, case.associations): sorted(_rate(run, isCounted) for run in succeeded(measured[case]))
        for case in cases
    }
    step, most = scale(max(values[-1] for values in spreads.values()))
    parts = [
        _text(_MARGIN + _NAMES - 8, top + _HEADING + _LINE * index + 13, name, "end")
        for index, name in enumerate(receivers)
    ]
    for column, associations in enumerate(counts):
        if not any(each == associations for _, each in spreads):
            continue  # of this size none was measured with so many
        left = _MARGIN + _NAMES + column * (_PANEL + _GAP)
        plural = "s" if associations > 1 else ""
        parts.append(_text(left, top + 12, f"{_spelt(size)} x {associations} association{plural}", "heading"))
        bottom = top + _HEADING + _LINE * len(receivers)
        unitWidth = (_PANEL - _VALUE) / most
        parts += _axis(left, top + _HEADING, bottom, step, most, unitWidth)
        parts.append(_text(left + (_PANEL - _VALUE) / 2, bottom + 29, unit, "small middle"))
        for index, name in enumerate(receivers):
            values = spreads.get((name, associations))
            y = top + _HEADING + _LINE * index + (_LINE - _BAR) / 2
            if values is None:
                parts.append(_text(left + 4, y + 10, "not measured", "small"))
            else:
                parts += _bar(name, values, left, y, unitWidth)
    return parts


def _spelt(size: str) -> str:
    return f"{size[:-1]} {size[-1]}iB" if size[-1].isalpha() else f"{size} bytes"


def _rate(run: Measurement, isCounted: bool) -> float:
    return run.result.objectsPerSecond if isCounted else run.result.megabytesPerSecond


def scale(greatest: float) -> tuple[float, float]:
    """Return the distance between the marks of an axis, 1, 2 or 5 times a power of ten, and its end."""
    power = 10.0 ** floor(log10(greatest / 2))
    step = next(power * factor for factor in (1, 2, 5, 10) if greatest / (power * factor) <= 4)
    return step, max(greatest, step)


def _axis(left: float, top: float, bottom: float, step: float, most: float, unitWidth: float) -> list[str]:
    parts = []
    for index in range(int(most / step + 1e-9) + 1):
        x = left + index * step * unitWidth
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 14, f"{index * step:,.0f}", "small middle"))
    return parts


def _bar(name: str, values: Sequence[float], left: float, y: float, unitWidth: float) -> list[str]:
    middle, least, greatest = median(values), values[0], values[-1]
    family = next((family for family in _FAMILIES if name.startswith(family)), "bare")
    centre = y + _BAR / 2
    ends = left + least * unitWidth, left + greatest * unitWidth
    parts = [
        f'<rect class="{family}" x="{left:.1f}" y="{y:.1f}" width="{middle * unitWidth:.1f}" height="{_BAR}"/>',
        f'<line class="whisker" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{centre:.1f}" y2="{centre:.1f}"/>',
    ]
    parts += [
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{centre - 3:.1f}" y2="{centre + 3:.1f}"/>' for x in ends
    ]
    parts.append(_text(ends[1] + 5, y + 10, f"{middle:,.0f}"))
    return parts


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text, quote=False)}</text>'


def _wrapped(text: str, letters: int) -> list[str]:
    """Return the text in lines of about so many letters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > letters:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
