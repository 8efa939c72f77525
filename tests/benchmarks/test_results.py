"""
Tests of L{benchmarks.results}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.results import Results, baselineRuns, join, loadResults, rateRatio
from tests.benchmarks.support import case, measured, ran


class RatioTests(SynchronousTestCase):
    """Ratios are taken within a round."""

    def test_medianOfTheRounds(self) -> None:
        """Not the ratio of the medians, which is 1.5 here."""
        runs = measured(dcxtwisted=[100, 300, 900], bare=[200, 100, 900])
        self.assertEqual(rateRatio(runs, case("dcxtwisted"), "bare"), 1.0)
        self.assertEqual(rateRatio(runs, case("bare"), "dcxtwisted"), 1.0)

    def test_failedRounds(self) -> None:
        """A round counts where both succeeded."""
        runs = measured(dcxtwisted=[100, None, 900], bare=[None, 100, 300])
        self.assertEqual(rateRatio(runs, case("dcxtwisted"), "bare"), 3.0)

    def test_nothing(self) -> None:
        self.assertIsNone(rateRatio(measured(dcxtwisted=[100]), case("dcxtwisted"), "bare"))
        self.assertIsNone(rateRatio(measured(bare=[100]), case("dcxtwisted"), "bare"))

    def test_bestOfSeveral(self) -> None:
        """The faster one of each round."""
        runs = measured(dcxtwisted=[100, 100, 100], storescp=[50, 200, None], dcmrecv=[100, 100, 400])
        best = baselineRuns(runs, case("dcxtwisted"), "dcmtk")
        self.assertEqual(best, {0: ran(100), 1: ran(200), 2: ran(400)})
        self.assertEqual(rateRatio(runs, case("dcxtwisted"), "dcmtk"), 0.5)

    def test_TLS(self) -> None:
        """What is sent over TLS is set against its like, whatever the baseline is called."""
        runs = measured(dcxtwisted=[100], dcxtwisted_tls=[100], storescp=[50], storescp_tls=[20])
        self.assertEqual(rateRatio(runs, case("dcxtwisted-tls"), "storescp"), 5.0)
        self.assertEqual(rateRatio(runs, case("dcxtwisted-tls"), "storescp-tls"), 5.0)
        self.assertEqual(rateRatio(runs, case("dcxtwisted-tls"), "dcmtk"), 5.0)
        self.assertEqual(rateRatio(runs, case("dcxtwisted"), "storescp-tls"), 2.0)
        self.assertIsNone(rateRatio(runs, case("dcxtwisted-tls"), "bare"))


class KeepingTests(SynchronousTestCase):
    """Results in files."""

    def test_thereAndBack(self) -> None:
        results = Results(
            {"Date": "today"}, ["python -m it"], measured(bare=[100, None], storescp_tls=[7.5]), {"1K": "a b"}
        )
        path = Path(self.mktemp())
        results.save(path)
        self.assertEqual(loadResults(path), results)

    def test_somethingElse(self) -> None:
        for text in ("[]", "{}", '{"facts": {}, "commands": [], "runs": [{"round": 0}]}', "<svg>"):
            path = Path(self.mktemp())
            path.write_text(text)
            self.assertRaises(ValueError, loadResults, path)

    def test_join(self) -> None:
        """Rounds follow on each other, whatever each part measured, so that ratios stay within one."""
        first = Results({"Machine": "A", "Date": "1"}, ["one"], measured(bare=[10, 20], dcxtwisted=[1, 2]), {"1K": "a"})
        second = Results({"Machine": "A", "Date": "2"}, ["one"], measured(dcxtwisted=[3], pynetdicom=[4]), {"2K": "b"})
        joined = join([first, second])
        self.assertEqual(joined.facts, {"Machine": "A", "Date": "1; 2"})
        self.assertEqual((joined.commands, joined.tables), (["one"], {"1K": "a", "2K": "b"}))
        self.assertEqual(
            joined.measured,
            {
                case("bare"): {0: ran(10), 1: ran(20)},
                case("dcxtwisted"): {0: ran(1), 1: ran(2), 2: ran(3)},
                case("pynetdicom"): {2: ran(4)},
            },
        )
