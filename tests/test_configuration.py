"""
The settings: their defaults, and what is no setting.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.checks import Check
from dcxtwisted.configuration import (
    DEFAULT_LAYOUT,
    DEFAULT_PORT,
    Configuration,
    Duplicates,
    MemoryOverflow,
    readSetting,
    writtenSetting,
)


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
                "strict": False,
                "relaxations": {},
                "abortOnRefusal": False,
                "maximumObjectSize": None,
                "ARTIM": 30.0,
                "silenceDeadline": 600.0,
                "progressDeadline": 60.0,
                "minimumRate": 1024.0,
                "writeStallDeadline": 60.0,
                "connectionEventDeadline": 15.0,
                "eventDeadline": 60.0,
                "storeDeadline": 300.0,
                "duplicates": Duplicates.KEEP_BOTH,
                "minimumFreeBytes": 67108864,
                "minimumFreeInodes": 4096,
                "stopDeadline": 30.0,
                "memoryBudget": 268435456,
                "memoryOverflow": MemoryOverflow.SPILL,
                "spillBudget": 4294967296,
                "maximumAssociations": 1000,
                "maximumAssociationsPerAddress": 200,
                "maximumAssociationsPerAETitle": None,
                "maximumAssociationsWaiting": 16,
                "maximumConnectionsBeforeAssociation": 500,
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

    def test_transferSyntaxPreference(self) -> None:
        longest = "1." + "2" * 62
        self.assertTaken("transferSyntaxPreference", (), ("1.2.840.10008.1.2.4.90",), ("1.02", "1.2", longest))
        for value in ("", "JPEG2000", "1.2.", ".1", "1..2", "1.2 ", "1.2\n", "1.\xb2", longest + "2", 12, None):
            error = self.assertRaises(ValueError, Configuration, transferSyntaxPreference=("1.2", value))
            self.assertEqual(str(error), f"a preferred transfer syntax is a UID, not {value!r}")
        for other in ("1.2", ["1.2"]):
            error = self.assertRaises(ValueError, Configuration, transferSyntaxPreference=other)
            self.assertEqual(str(error), f"preferred transfer syntaxes are a tuple of UIDs, not {other!r}")

    def test_relaxations(self) -> None:
        """Checks or their names, in any collection; what is kept cannot be changed from outside."""
        given: dict[str, Any] = {
            "CT1": {"identity", "wholeness"},
            " OLD BOX ": [Check.UID_LENGTH],
            "A,B:C": ("context", Check.CONTEXT),
        }
        taken = Configuration(relaxations=given).relaxations
        self.assertEqual(
            taken,
            {
                "CT1": frozenset({Check.IDENTITY, Check.WHOLENESS}),
                "OLD BOX": frozenset({Check.UID_LENGTH}),
                "A,B:C": frozenset({Check.CONTEXT}),
            },
        )
        given["CT1"].clear()
        self.assertEqual(len(taken["CT1"]), 2)
        with self.assertRaises(TypeError):
            taken["CT2"] = frozenset()  # type: ignore[index]  # that is the point
        for other, said in (
            ("CT1:identity", "relaxations are a mapping of calling AE titles to checks, not 'CT1:identity'"),
            ({"CT1": "identity"}, "what is relaxed for 'CT1' is a collection of checks, not 'identity'"),
            ({"CT1": None}, "what is relaxed for 'CT1' is a collection of checks, not None"),
            (
                {"CT1": ["identity", "everything"]},
                "there is no check 'everything' to relax, but identity, instanceUID, UIDLength, context, wholeness",
            ),
            ({"CT1": [[]]}, "there is no check [] to relax, but identity, instanceUID, UIDLength, context, wholeness"),
            ({"CT1": []}, "nothing is relaxed for 'CT1'"),
            ({7: ["identity"]}, "relaxations are for calling AE titles, not for 7"),
            (
                {"": ["identity"]},
                "an AE title is 1 to 16 printable ASCII characters without a backslash, not ''",
            ),
            (
                {"SEVENTEEN_LETTERS": ["identity"]},
                "an AE title is 1 to 16 printable ASCII characters without a backslash, not 'SEVENTEEN_LETTERS'",
            ),
        ):
            error = self.assertRaises(ValueError, Configuration, relaxations=other)
            self.assertEqual(str(error), said)

    def test_deadlines(self) -> None:
        for name in (
            "ARTIM",
            "silenceDeadline",
            "progressDeadline",
            "writeStallDeadline",
            "connectionEventDeadline",
            "eventDeadline",
            "storeDeadline",
        ):
            self.assertTaken(name, 0.001, 1, 86400.0)
            self.assertRefused(name, 0, -1, 1_000_001, float("inf"), float("nan"))
        for name in ("stopDeadline", "minimumRate"):
            self.assertTaken(name, 0, 1.5)
            self.assertRefused(name, -0.1, float("inf"), float("nan"))

    def test_maximumObjectSize(self) -> None:
        self.assertTaken("maximumObjectSize", None, 1, 1 << 40)
        self.assertRefused("maximumObjectSize", 0, -1)

    def test_limits(self) -> None:
        self.assertTaken("maximumAssociationsPerAETitle", None)
        for name in (
            "maximumAssociations",
            "maximumAssociationsPerAddress",
            "maximumAssociationsPerAETitle",
            "maximumConnectionsBeforeAssociation",
        ):
            self.assertTaken(name, 1, 100000)
            self.assertRefused(name, 0, -1)

    def test_memory(self) -> None:
        for name in ("memoryBudget", "spillBudget"):
            self.assertTaken(name, 0, 1 << 40)
            self.assertRefused(name, -1)
        self.assertTaken("memoryOverflow", *MemoryOverflow)
        self.assertIs(Configuration(memoryOverflow="wait").memoryOverflow, MemoryOverflow.WAIT)
        self.assertRefused("memoryOverflow", "WAIT", "", None)

    def test_duplicates(self) -> None:
        self.assertTaken("duplicates", *Duplicates)
        self.assertIs(Configuration(duplicates="replace").duplicates, Duplicates.REPLACE)
        self.assertRefused("duplicates", "both", "", None)

    def test_minimumFree(self) -> None:
        for name in ("minimumFreeBytes", "minimumFreeInodes"):
            self.assertTaken(name, 0, 1, 10**15)
            self.assertRefused(name, -1)

    def test_operationsWindow(self) -> None:
        self.assertTaken("operationsWindow", 1, 8, 0xFFFF)
        self.assertRefused("operationsWindow", 0, -1, 0x10000)


class SettingTests(SynchronousTestCase):
    """Settings as text."""

    def test_read(self) -> None:
        for setting, expected in (
            ("AETitle=MY=AE", ("AETitle", "MY=AE")),
            ("checkCalledAETitle=yes", ("checkCalledAETitle", True)),
            ("checkCalledAETitle=no", ("checkCalledAETitle", False)),
            ("maximumAssociations=50", ("maximumAssociations", 50)),
            ("maximumAssociationsPerAETitle=none", ("maximumAssociationsPerAETitle", None)),
            ("maximumAssociationsPerAETitle=7", ("maximumAssociationsPerAETitle", 7)),
            ("ARTIM=0.5", ("ARTIM", 0.5)),
            ("duplicates=keep-both", ("duplicates", Duplicates.KEEP_BOTH)),
            ("duplicates=replace", ("duplicates", Duplicates.REPLACE)),
            ("duplicates=keep-first", ("duplicates", Duplicates.KEEP_FIRST)),
            ("duplicates=refuse", ("duplicates", Duplicates.REFUSE)),
            ("transferSyntaxPreference=", ("transferSyntaxPreference", ())),
            ("memoryBudget=1000", ("memoryBudget", 1000)),
            ("memoryOverflow=wait", ("memoryOverflow", MemoryOverflow.WAIT)),
            ("transferSyntaxPreference=1.2,1.3", ("transferSyntaxPreference", ("1.2", "1.3"))),
            ("relaxations=", ("relaxations", {})),
            ("relaxations=CT 1:identity", ("relaxations", {"CT 1": ["identity"]})),
            (
                "relaxations=CT1:identity+wholeness,OLDBOX:wholeness",
                ("relaxations", {"CT1": ["identity", "wholeness"], "OLDBOX": ["wholeness"]}),
            ),
            (
                r"relaxations=A\,B\:C+D:context,\,:UIDLength",
                ("relaxations", {"A,B:C+D": ["context"], ",": ["UIDLength"]}),
            ),
        ):
            self.assertEqual(readSetting(setting), expected)

    def test_written(self) -> None:
        """Each default, written, is read as what it was."""
        for name, value in attrs.asdict(Configuration()).items():
            self.assertEqual(readSetting(f"{name}={writtenSetting(value)}"), (name, value))
        self.assertEqual(writtenSetting(True), "yes")
        self.assertEqual(writtenSetting(Duplicates.KEEP_FIRST), "keep-first")
        relaxations: dict[str, Any] = {
            "CT1": {"wholeness", "identity"},
            "A,B:C+D": ["context"],
            ":identity": list(Check),
        }
        configuration = Configuration(relaxations=relaxations)
        written = writtenSetting(configuration.relaxations)
        self.assertEqual(
            written,
            r"CT1:identity+wholeness,A\,B\:C+D:context,\:identity:identity+instanceUID+UIDLength+context+wholeness",
        )
        self.assertEqual(Configuration(**dict([readSetting(f"relaxations={written}")])), configuration)
        self.assertEqual(writtenSetting(("1.2", "1.3")), "1.2,1.3")

    def test_bytes(self) -> None:
        """Settings that are bytes take sizes; others, and deadlines, are plain numbers."""
        for text, value in (
            ("512", 512),
            ("64K", 65536),
            ("64k", 65536),
            ("512M", 536870912),
            ("1G", 1073741824),
            ("2T", 2199023255552),
        ):
            self.assertEqual(readSetting(f"memoryBudget={text}"), ("memoryBudget", value))
        taking = []
        for name in attrs.fields_dict(Configuration):
            try:
                if readSetting(f"{name}=1K") == (name, 1024):
                    taking.append(name)
            except ValueError:
                continue
        self.assertEqual(
            taking, ["maximumLength", "maximumObjectSize", "minimumFreeBytes", "memoryBudget", "spillBudget"]
        )
        self.assertEqual(readSetting("maximumObjectSize=none"), ("maximumObjectSize", None))

    def test_refused(self) -> None:
        for setting, said in (
            ("memoryBudget=1.5G", "memoryBudget takes a whole number of bytes, or of K, M, G or T as 512M, not '1.5G'"),
            ("memoryBudget=1KK", "memoryBudget takes a whole number of bytes, or of K, M, G or T as 512M, not '1KK'"),
            ("memoryBudget=1GB", "memoryBudget takes a whole number of bytes, or of K, M, G or T as 512M, not '1GB'"),
            ("memoryBudget=", "memoryBudget takes a whole number of bytes, or of K, M, G or T as 512M, not ''"),
            (
                "maximumObjectSize=any",
                "maximumObjectSize takes a whole number of bytes, or of K, M, G or T as 512M, or 'none', not 'any'",
            ),
            ("ARTIM", "a setting is given as NAME=VALUE, not 'ARTIM'"),
            ("ARTIM=soon", "ARTIM takes a number, not 'soon'"),
            ("checkCalledAETitle=true", "checkCalledAETitle takes yes or no, not 'true'"),
            ("memoryOverflow=WAIT", "memoryOverflow takes spill, wait or refuse, not 'WAIT'"),
            ("duplicates=both", "duplicates takes keep-both, replace, keep-first or refuse, not 'both'"),
            ("maximumAssociations=1.5", "maximumAssociations takes a whole number, not '1.5'"),
            (
                "maximumAssociationsPerAETitle=",
                "maximumAssociationsPerAETitle takes a whole number or 'none', not ''",
            ),
            (
                "relaxations=CT1",
                "relaxations takes AE titles with checks, as TITLE:check+check,TITLE:check, not 'CT1'",
            ),
            (
                "relaxations=CT1:identity,CT1:wholeness",
                "relaxations takes AE titles with checks, as TITLE:check+check,TITLE:check, "
                "not 'CT1:identity,CT1:wholeness'",
            ),
        ):
            with self.assertRaises(ValueError) as caught:
                readSetting(setting)
            self.assertEqual(str(caught.exception), said)
        for setting, said in (
            ("artim=1", "^there is no setting 'artim'; did you mean ARTIM\\?$"),
            ("deadlines.ARTIM=1", "^there is no setting 'deadlines.ARTIM'; did you mean ARTIM\\?$"),
            ("storeDirectory=x", "^there is no setting 'storeDirectory'; known are abortOnRefusal, "),
            ("memBudget=1G", "^there is no setting 'memBudget'; did you mean memoryBudget\\?$"),
            (
                "x=1",
                "^there is no setting 'x'; known are abortOnRefusal, acceptReferencedPixels, acceptUnknown, AETitle, ",
            ),
        ):
            with self.assertRaisesRegex(ValueError, said):
                readSetting(setting)
