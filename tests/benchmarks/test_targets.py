"""
Tests of L{benchmarks.targets}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.probes import quantile
from benchmarks.targets import PARTS, TARGETS, Figures, formatTargets, joinFigures, ratesFrom
from tests.benchmarks.support import measured


class TargetTests(SynchronousTestCase):
    """What is reached."""

    def test_verdicts(self) -> None:
        """More is better, or less is; what equals the aim has reached it."""
        ratio = next(target for target in TARGETS if target.key == "1K x 8: x storescp")
        self.assertEqual([ratio.verdict(value) for value in (1.0, 0.99, 0.7)], ["aim reached"] + ["floor reached"] * 2)
        self.assertEqual(ratio.verdict(0.69), "MISSED")
        latency = next(target for target in TARGETS if target.key == "1K x 64: p99 ms")
        self.assertEqual([latency.verdict(value) for value in (50, 51, 100)], ["aim reached"] + ["floor reached"] * 2)
        self.assertEqual(latency.verdict(101), "MISSED")

    def test_keys(self) -> None:
        """Each is kept by a key of its own, and no part is forgotten."""
        self.assertEqual(len({target.key for target in TARGETS}), len(TARGETS))
        self.assertEqual(
            PARTS, ("rates", "durable", "latency", "setup", "object", "active", "idle", "idle-tls", "workers")
        )

    def test_rates(self) -> None:
        """Ratios by round, of what was measured."""
        runs = measured(dcxtwisted=[100, 300], storescp=[200, 200])
        self.assertEqual(ratesFrom(runs), {"1K x 8: x storescp": [0.5, 1.5]})

    def test_table(self) -> None:
        lines = formatTargets({"8 GB object: memory + MiB": [40, 20, 30]}, {"8 GB object: memory + MiB": "in 8 s"})
        (row,) = (line for line in lines.splitlines() if line.startswith("8 GB object  "))
        self.assertEqual(" ".join(row.split()), "8 GB object on memory + MiB 30.00 (20.00-40.00) 16 32 floor reached")
        self.assertEqual(lines.count("not measured"), len(TARGETS) - 1)
        self.assertTrue(lines.endswith("\n8 GB object: memory + MiB: in 8 s.\n"))

    def test_join(self) -> None:
        """Values side by side; of what is said of them the last, and no failure that was made good."""
        first = Figures({"Date": "1"}, ["one"], {"a": [1.0]}, {"a": "first", "b": "FAILED"})
        second = Figures({"Date": "1"}, ["two"], {"a": [2.0], "b": [3.0]}, {"a": "second"})
        self.assertEqual(
            joinFigures([first, second]),
            Figures({"Date": "1"}, ["one", "two"], {"a": [1.0, 2.0], "b": [3.0]}, {"a": "second"}),
        )
        self.assertEqual(first.values, {"a": [1.0]})

    def test_quantile(self) -> None:
        values = [float(number) for number in range(1, 201)]
        self.assertEqual([quantile(values, share) for share in (0, 0.5, 0.99, 1)], [1.0, 101.0, 199.0, 200.0])
        self.assertEqual(quantile([7.0], 0.99), 7.0)
