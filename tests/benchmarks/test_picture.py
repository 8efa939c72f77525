"""
Tests of L{benchmarks.picture}.
"""

from __future__ import annotations

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.picture import draw, scale
from benchmarks.results import Measured
from tests.benchmarks.support import case, measured, ran

SVG = "{http://www.w3.org/2000/svg}"


class PictureTests(SynchronousTestCase):
    """The picture as a tree."""

    def drawn(self, runs: Measured) -> ElementTree.Element:
        return ElementTree.fromstring(draw(runs, {"Machine": "A <fast> one", "Date": "today"}))

    def texts(self, picture: ElementTree.Element) -> list[str]:
        return [each.text or "" for each in picture.iter(f"{SVG}text")]

    def test_bars(self) -> None:
        """A bar as long as its median, whiskers from the least to the greatest, on one scale for a size."""
        picture = self.drawn(measured(dcxtwisted=[400, 100, 200], bare=[1000]))
        bars = {bar.get("class"): float(bar.get("width", 0)) for bar in picture.iter(f"{SVG}rect")}
        self.assertEqual(bars.pop("ground"), 432)
        self.assertEqual(bars, {"dcxtwisted": 41.6, "bare": 208.0})
        ours, *_ = (
            line
            for line in picture.iter(f"{SVG}line")
            if line.get("class") == "whisker" and line.get("y1") == line.get("y2")
        )
        self.assertEqual((ours.get("x1"), ours.get("x2")), ("176.8", "239.2"))

    def test_texts(self) -> None:
        """Title, facts, names, headings, values and the unit of the axis are all there, and nothing of it is markup."""
        texts = self.texts(self.drawn(measured(dcxtwisted_tls=[200], bare=[1000])))
        for text in (
            "Machine: A <fast> one. Date: today",
            "dcxtwisted-tls",
            "1 KiB x 8 associations",
            "200",
            "1,000",
            "objects/s",
        ):
            self.assertIn(text, texts)

    def test_large(self) -> None:
        """Of larger objects the bytes count: 1,000 runs of the test have 1,024 bytes each."""
        texts = self.texts(self.drawn({case("bare", "128M", 1): {0: ran(5000)}}))
        self.assertIn("MB/s", texts)
        self.assertIn("128 MiB x 1 association", texts)
        self.assertIn("5", texts)

    def test_notMeasured(self) -> None:
        """Where a receiver was measured with one number of associations only, the place stays empty, and says so."""
        runs = measured(bare=[1000])
        runs |= {case("bare", "1K", 1): {0: ran(10)}, case("dcmrecv", "1K", 1): {0: ran(10)}}
        self.assertEqual(self.texts(self.drawn(runs)).count("not measured"), 1)

    def test_noPanel(self) -> None:
        """A size that none was measured in with so many associations has no panel for them."""
        texts = self.texts(self.drawn(measured(bare=[10]) | {case("bare", "128M", 1): {0: ran(10)}}))
        panels = [text for text in texts if " x " in text]
        self.assertEqual(panels, ["1 KiB x 8 associations", "128 MiB x 1 association"])

    def test_nothing(self) -> None:
        self.assertEqual(len(self.texts(self.drawn(measured(bare=[None])))), 2)


class ScaleTests(SynchronousTestCase):
    """The marks of an axis."""

    def test_steps(self) -> None:
        """Two to four of them, 1, 2 or 5 times a power of ten apart."""
        for greatest, step in ((26002, 10000), (17057, 5000), (9999, 5000), (3152, 1000), (8, 2), (7, 2), (2.1, 1)):
            self.assertEqual(scale(greatest), (step, greatest))
