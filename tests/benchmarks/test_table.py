"""
Tests of L{benchmarks.table}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.table import formatTable
from tests.benchmarks.support import measured


class TableTests(SynchronousTestCase):
    """The table as it is printed."""

    def rows(self, text: str) -> list[list[str]]:
        return [line.split() for line in text.splitlines()]

    def test_row(self) -> None:
        """Medians with least and greatest, and the ratios to each baseline, in the order asked for."""
        runs = measured(dcxtwisted=[200, 100, 400], storescp=[100, 100, 100], bare=[800, 800, 800])
        titles, ours, *_ = self.rows(formatTable(runs, ["storescp", "bare"]))
        self.assertEqual(titles[:4], ["size", "assoc", "window", "receiver"])
        self.assertEqual(
            " ".join(titles[4:]),
            "objects/s MB/s p50 ms p99 ms CPU us/object user system peak MiB sender % x storescp x bare "
            "p99 x storescp CPU x storescp",
        )
        self.assertEqual(
            " ".join(ours),
            "1K 8 1 dcxtwisted 200.0 (100.0-400.0) 0.2 1.000 (1.000-1.000) 50.000 (25.000-100.000) 300 (300-300) "
            "100 200 64 25 2.00 0.25 0.50 1.00",
        )

    def test_baselines(self) -> None:
        """One that was not measured has no column; of several the legend says which they are."""
        text = formatTable(measured(dcxtwisted=[200], dcmrecv=[100]), ["pynetdicom", "dcmtk"])
        titles, ours, theirs, *legend = self.rows(text)
        self.assertNotIn("pynetdicom", titles)
        self.assertEqual(ours[-3:], ["2.00", "0.50", "1.00"])
        self.assertEqual(theirs[-3:], ["1.00", "1.00", "1.00"])
        self.assertEqual(" ".join(legend[1]), "dcmtk: the one of storescp, dcmrecv with the most objects/s.")

    def test_failed(self) -> None:
        """A failed round is left out; a case that only failed has no figures."""
        _, ours, failed, *_ = self.rows(formatTable(measured(dcxtwisted=[100, None], bare=[None, None]), ["bare"]))
        self.assertEqual(ours[4:6], ["100.0", "(100.0-100.0)"])
        self.assertEqual(failed[3:], ["bare", "failed"] + ["-"] * 8)
