"""
The settings: their defaults, and what is no setting.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.configuration import DEFAULT_LAYOUT, DEFAULT_PORT, Configuration


class ConfigurationTests(SynchronousTestCase):
    def assertTaken(self, name: str, *values: object) -> None:
        for value in values:
            self.assertEqual(getattr(Configuration(**{name: value}), name), value)  # type: ignore[arg-type]  # any

    def assertRefused(self, name: str, *values: object) -> None:
        for value in values:
            with self.assertRaises(ValueError, msg=repr(value)):
                Configuration(**{name: value})  # type: ignore[arg-type]  # any setting

    def test_defaults(self) -> None:
        self.assertEqual(
            attrs.asdict(Configuration()),
            {
                "AETitle": "DCXTWISTED",
                "checkCalledAETitle": False,
                "maximumLength": 131072,
                "operationsWindow": 8,
                "transferSyntaxPreference": (),
                "acceptUnknown": False,
                "acceptReferencedPixels": False,
                "ARTIM": 30.0,
                "silenceDeadline": 600.0,
                "progressDeadline": 60.0,
                "stopDeadline": 30.0,
            },
        )
        self.assertEqual(DEFAULT_PORT, 11112)
        self.assertEqual(DEFAULT_LAYOUT, "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm")

    def test_frozen(self) -> None:
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            Configuration().ARTIM = 1  # type: ignore[misc]  # that is the point

    def test_byNameOnly(self) -> None:
        with self.assertRaises(TypeError):
            Configuration("TITLE")  # type: ignore[call-arg]  # that is the point

    def test_AETitle(self) -> None:
        self.assertTaken("AETitle", "A", "SIXTEEN_LETTERS_", "with space", "$~!")
        self.assertRefused("AETitle", "", "   ", "SEVENTEEN_LETTERS", "back\\slash", "new\nline", "ümlaut", "tab\t")

    def test_maximumLength(self) -> None:
        self.assertTaken("maximumLength", 0, 8, 16384, 0xFFFFFFFF)
        self.assertRefused("maximumLength", -1, 1, 7, 0x100000000)

    def test_operationsWindow(self) -> None:
        self.assertTaken("operationsWindow", 1, 8, 0xFFFF)
        self.assertRefused("operationsWindow", 0, -1, 0x10000)

    def test_transferSyntaxPreference(self) -> None:
        longest = "1." + "2" * 62
        self.assertTaken("transferSyntaxPreference", (), ("1.2.840.10008.1.2.4.90",), ("1.02", "1.2", longest))
        for value in ("", "JPEG2000", "1.2.", ".1", "1..2", "1.2 ", "1.2\n", "1.\xb2", longest + "2", 12, None):
            error = self.assertRaises(ValueError, Configuration, transferSyntaxPreference=("1.2", value))
            self.assertEqual(str(error), f"a preferred transfer syntax is a UID, not {value!r}")
        for other in ("1.2", ["1.2"]):
            error = self.assertRaises(ValueError, Configuration, transferSyntaxPreference=other)
            self.assertEqual(str(error), f"preferred transfer syntaxes are a tuple of UIDs, not {other!r}")

    def test_deadlines(self) -> None:
        for name in ("ARTIM", "silenceDeadline", "progressDeadline"):
            self.assertTaken(name, 0.001, 1, 86400.0)
            self.assertRefused(name, 0, -1)
        self.assertTaken("stopDeadline", 0, 1.5)
        self.assertRefused("stopDeadline", -0.1)
