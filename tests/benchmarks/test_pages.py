"""
Tests of L{benchmarks.pages}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.pages import described, rewrite


class RewriteTests(SynchronousTestCase):
    """Parts of a page that programs write."""

    def setUp(self) -> None:
        self.page = Path(self.mktemp())

    def test_newPage(self) -> None:
        rewrite(self.page, "figures", "1\n")
        self.assertEqual(
            self.page.read_text(),
            ".. figures: written by a program, to the end of this part\n\n1\n\n.. figures: the end\n",
        )

    def test_again(self) -> None:
        """What is around the part stays, and so does another part."""
        self.page.write_text("Title\n=====\n")
        rewrite(self.page, "figures", "1")
        rewrite(self.page, "others", "2")
        text = self.page.read_text() + "\nThe rest.\n"
        self.page.write_text(text)
        rewrite(self.page, "figures", "3")
        self.assertEqual(self.page.read_text(), text.replace("\n1\n", "\n3\n"))
        self.assertTrue(text.startswith("Title\n=====\n\n.. figures: written"))

    def test_described(self) -> None:
        self.assertEqual(
            described({"Date": "today", "DCMTK": "3"}, ["one", "two"], "a b\n\nc\n"),
            ":Date: today\n:DCMTK: 3\n\n::\n\n    one\n    two\n\n::\n\n    a b\n\n    c",
        )
