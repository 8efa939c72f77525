"""
What errors are made of: what an application gives them, and what is told of that.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from pydicom.tag import Tag
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import StoreRefused


class _Status(IntEnum):
    OUT_OF_RESOURCES = 0xA700


class _Number:
    """A number that is no int, as numpy has them."""

    def __index__(self) -> int:
        return 0xA701


class StoreRefusedTests(SynchronousTestCase):
    """Whatever it is given, its attributes are exactly what they are said to be: what sends them relies on it."""

    def made(self, *args: Any) -> StoreRefused:
        refused = StoreRefused(*args)
        self.assertIs(type(refused.status), int)
        self.assertIs(type(refused.comment), str)
        self.assertIs(type(refused.offendingElements), tuple)
        self.assertEqual({type(tag) for tag in refused.offendingElements} - {int}, set())
        return refused

    def test_asGiven(self) -> None:
        refused = self.made(0xA900, "why", (0x00100010,))
        self.assertEqual((refused.status, refused.comment, refused.offendingElements), (0xA900, "why", (0x00100010,)))
        self.assertEqual(str(refused), "refused with status A900: why")

    def test_numbers(self) -> None:
        self.assertEqual(self.made(_Status.OUT_OF_RESOURCES).status, 0xA700)
        self.assertEqual(self.made(_Number()).status, 0xA701)

    def test_tags(self) -> None:
        """A list serves as well, and so do pydicom's tags; None is none."""
        for tags in ([0x00100010], (Tag(0x0010, 0x0010),), {0x00100010: 1}):
            self.assertEqual(self.made(0xA900, "", tags).offendingElements, (0x00100010,))
        self.assertEqual(self.made(0xA900, "", None).offendingElements, ())

    def test_comments(self) -> None:
        """An error serves as its text; None is none."""
        self.assertEqual(self.made(0xA700, ValueError("why")).comment, "why")
        self.assertEqual(str(self.made(0xA700, None)), "refused with status A700")

    def test_wrong(self) -> None:
        """It is the application's own code that fails then, and that is told as ever."""
        for status in (0, -1, 0x10000):
            self.assertRaises(ValueError, StoreRefused, status)
        for tags in ((-1,), (1 << 32,)):
            self.assertRaises(ValueError, StoreRefused, 0xA900, "", tags)
        for args in (("A700",), (42752.0,), (None,), (0xA900, "", 0x00100010), (0xA900, "", ("PatientName",))):
            self.assertRaises(TypeError, StoreRefused, *args)
