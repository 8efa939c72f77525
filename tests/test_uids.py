# mypy: allow-untyped-calls
# (the assertions of trial have no annotations)
"""
Tests for ``dcxtwisted.uids``: the tables, held against those of pydicom and pynetdicom.

A class that a newer pydicom or pynetdicom knows and our tables do not is meant to fail here, by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pydicom.uid
from pydicom._uid_dict import UID_dictionary
from pynetdicom import sop_class as pynetdicomClasses
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted import uids

ROOT = "1.2.840.10008."

CLASS_TABLES: Mapping[str, Mapping[str, str]] = {
    "STORAGE_SOP_CLASSES": uids.STORAGE_SOP_CLASSES,
    "NON_STORAGE_SOP_CLASSES": uids.NON_STORAGE_SOP_CLASSES,
}
SYNTAX_TABLES: Mapping[str, Mapping[str, str]] = {
    "TRANSFER_SYNTAXES": uids.TRANSFER_SYNTAXES,
    "REFERENCED_TRANSFER_SYNTAXES": uids.REFERENCED_TRANSFER_SYNTAXES,
    "NEVER_ACCEPTED_TRANSFER_SYNTAXES": uids.NEVER_ACCEPTED_TRANSFER_SYNTAXES,
}
TABLES = {**CLASS_TABLES, **SYNTAX_TABLES}

# Not in pydicom 3.0.2, so nothing else here would miss them.
STORAGE_NEWER_THAN_PYDICOM = {
    ROOT + "5.1.4.1.1.2.3": "CT Image Storage - For Processing",
    ROOT + "5.1.4.1.1.2.4": "Enhanced CT Image Storage - For Processing",
    ROOT + "5.1.4.1.1.2.5": "Legacy Converted Enhanced CT Image Storage - For Processing",
    ROOT + "5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    ROOT + "5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
    ROOT + "5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    ROOT + "5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    ROOT + "5.1.4.1.1.601.3": "Thermography Image Storage",
    ROOT + "5.1.4.1.1.601.4": "Thermography Multi-frame Image Storage",
    ROOT + "5.1.4.1.1.601.5": "Ultrasound Waveform Storage",
}
SYNTAXES_NEWER_THAN_PYDICOM = {
    ROOT + "1.2.4.110": "JPEG XL Lossless",
    ROOT + "1.2.4.111": "JPEG XL JPEG Recompression",
    ROOT + "1.2.4.112": "JPEG XL",
    ROOT + "1.2.8.1": "Deflated Image Frame Compression",
}


def components(uid: str) -> list[int]:
    """The components of a UID as numbers."""
    return [int(component) for component in uid.split(".")]


def pydicomUIDs(*types: str) -> dict[str, str]:
    """The UIDs that pydicom lists under these types, each with the name it would have in PS3.6."""
    return {
        uid: name + (" (Retired)" if retired else "")
        for uid, (name, uidType, _, retired, _) in UID_dictionary.items()
        if uidType in types
    }


def pynetdicomUIDs() -> dict[str, set[str]]:
    """The UIDs of each table of pynetdicom, by the table's name, such as ``_STORAGE_CLASSES``."""
    found = {
        name: {uid for pair in table.items() for uid in pair if str(uid).startswith(ROOT)}
        for name, table in vars(pynetdicomClasses).items()
        if re.fullmatch(r"_[A-Z_]+_CLASSES", name)
    }
    assert len(found) >= 20, sorted(found)  # else the name of the tables has changed
    return found


class Base(SynchronousTestCase):
    """Assertions whose messages name each UID at fault."""

    def assertNoFaults(self, faults: Iterable[str], what: str) -> None:
        """Fail with the list where there are any faults."""
        found = sorted(faults)
        self.assertEqual(found, [], f"{what}:\n  " + "\n  ".join(found))

    def assertEachInOneOf(self, expected: Mapping[str, str], tables: Mapping[str, Mapping[str, str]]) -> None:
        """Fail with each UID that is in no table or in more than one."""
        self.assertNotEqual(dict(expected), {})
        homes = {uid: [name for name, table in tables.items() if uid in table] for uid in expected}
        self.assertNoFaults(
            (f"{uid} {expected[uid]}: {home}" for uid, home in homes.items() if len(home) != 1),
            f"not in exactly one of {', '.join(tables)}",
        )

    def assertHas(self, table: Mapping[str, str], expected: Mapping[str, str]) -> None:
        """Fail unless the table has these UIDs under these names."""
        self.assertEqual({uid: table.get(uid) for uid in expected}, dict(expected))


class FormTests(Base):
    """The tables as such."""

    def test_wellFormed(self) -> None:
        """Each UID has at most 64 characters and no leading zero in a component (PS3.5 9.1)."""
        wellFormed = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
        for name, table in TABLES.items():
            self.assertNoFaults(
                (uid for uid in table if len(uid) > 64 or not wellFormed.fullmatch(uid)),
                f"malformed in {name}",
            )

    def test_sorted(self) -> None:
        """The entries stand in the order of their components as numbers."""
        for name, table in TABLES.items():
            self.assertEqual(list(table), sorted(table, key=components), name)

    def test_disjoint(self) -> None:
        """No UID is in two tables."""
        everything = [uid for table in TABLES.values() for uid in table]
        self.assertNoFaults({uid for uid in everything if everything.count(uid) > 1}, "in two tables")

    def test_readOnly(self) -> None:
        """No table can be changed."""
        for name, table in TABLES.items():
            with self.assertRaises(TypeError, msg=name):
                table["1.2.3"] = "x"  # type: ignore[index]  # what is tested
        self.assertIsInstance(uids.DEFLATED_TRANSFER_SYNTAXES, frozenset)

    def test_names(self) -> None:
        """Each name is printable ASCII without blanks at its ends; no two UIDs share one."""
        names = [name for table in TABLES.values() for name in table.values()]
        self.assertNoFaults(
            (name for name in names if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", name)),
            "not fit for a log line",
        )
        self.assertNoFaults({name for name in names if names.count(name) > 1}, "the name of two UIDs")

    def test_namesAreThoseOfPydicom(self) -> None:
        """
        Each name is the one pydicom has, so none stands beside the wrong UID.

        Two retired classes have no name there, and pydicom writes "and" where PS3.6 has "&".
        """
        ours = {uid: name for table in TABLES.values() for uid, name in table.items()}
        theirs = pydicomUIDs(*{entry[1] for entry in UID_dictionary.values()})
        nameless = {ROOT + "5.1.4.1.1.12.77", ROOT + "5.1.4.1.1.40"}
        self.assertNoFaults(
            (
                f"{uid} {name!r}, pydicom {theirs[uid]!r}"
                for uid, name in ours.items()
                if uid in theirs and uid not in nameless and name.replace("&", "and") != theirs[uid]
            ),
            "other names",
        )


class ClassTests(Base):
    """What is storage and what is not."""

    def test_everyClassOfPydicom(self) -> None:
        """Each class, meta class, service class and well-known instance of pydicom is in just one table."""
        self.assertEachInOneOf(
            pydicomUIDs("SOP Class", "Meta SOP Class", "Service Class", "Well-known SOP Instance"),
            CLASS_TABLES,
        )

    def test_onlyClassesAreStorage(self) -> None:
        """Whatever pydicom lists as anything but a SOP class is no storage class."""
        others = {entry[1] for entry in UID_dictionary.values()} - {"SOP Class"}
        self.assertNoFaults(set(pydicomUIDs(*others)) & set(uids.STORAGE_SOP_CLASSES), "not a SOP class")

    def test_everyClassOfPynetdicom(self) -> None:
        """What pynetdicom serves as storage, non-patient objects too, is storage, and the rest is not."""
        tables = pynetdicomUIDs()
        storage = tables.pop("_STORAGE_CLASSES") | tables.pop("_NON_PATIENT_OBJECT_CLASSES")
        self.assertNoFaults(storage - set(uids.STORAGE_SOP_CLASSES), "not in STORAGE_SOP_CLASSES")
        for name, others in tables.items():
            self.assertNoFaults(others - set(uids.NON_STORAGE_SOP_CLASSES), f"{name}: not in NON_STORAGE_SOP_CLASSES")

    def test_newerThanPydicom(self) -> None:
        """The storage classes of the 2026 edition that pydicom 3.0.2 lacks are there."""
        self.assertHas(uids.STORAGE_SOP_CLASSES, STORAGE_NEWER_THAN_PYDICOM)

    def test_storage(self) -> None:
        """Retired, trial, non-patient, DICOS and DICONDE classes count as storage."""
        self.assertHas(
            uids.STORAGE_SOP_CLASSES,
            {
                ROOT + "5.1.1.27": "Stored Print Storage SOP Class (Retired)",
                ROOT + "5.1.1.29": "Hardcopy Grayscale Image Storage SOP Class (Retired)",
                ROOT + "5.1.1.30": "Hardcopy Color Image Storage SOP Class (Retired)",
                ROOT + "5.1.4.1.1.2": "CT Image Storage",
                ROOT + "5.1.4.1.1.6": "Ultrasound Image Storage (Retired)",
                ROOT + "5.1.4.1.1.9.1": "Waveform Storage - Trial (Retired)",
                ROOT + "5.1.4.1.1.12.77": "Zeiss OPT File (Retired)",
                ROOT + "5.1.4.1.1.40": "MR Image Storage Zero Padded (Retired)",
                ROOT + "5.1.4.1.1.66": "Raw Data Storage",
                ROOT + "5.1.4.1.1.77.2": "VL Multi-frame Image Storage - Trial (Retired)",
                ROOT + "5.1.4.1.1.88.1": "Text SR Storage - Trial (Retired)",
                ROOT + "5.1.4.1.1.200.1": "CT Defined Procedure Protocol Storage",
                ROOT + "5.1.4.1.1.200.3": "Protocol Approval Storage",
                ROOT + "5.1.4.1.1.201.1": "Inventory Storage",
                ROOT + "5.1.4.1.1.501.1": "DICOS CT Image Storage",
                ROOT + "5.1.4.1.1.501.2.1": "DICOS Digital X-Ray Image Storage - For Presentation",
                ROOT + "5.1.4.1.1.501.2.2": "DICOS Digital X-Ray Image Storage - For Processing",
                ROOT + "5.1.4.1.1.501.6": "DICOS Quadrupole Resonance (QR) Storage",
                ROOT + "5.1.4.1.1.601.1": "Eddy Current Image Storage",
                ROOT + "5.1.4.1.1.601.2": "Eddy Current Multi-frame Image Storage",
                ROOT + "5.1.4.34.1": "RT Beams Delivery Instruction Storage - Trial (Retired)",
                ROOT + "5.1.4.34.7": "RT Beams Delivery Instruction Storage",
                ROOT + "5.1.4.34.10": "RT Brachy Application Setup Delivery Instruction Storage",
                ROOT + "5.1.4.38.1": "Hanging Protocol Storage",
                ROOT + "5.1.4.39.1": "Color Palette Storage",
                ROOT + "5.1.4.43.1": "Generic Implant Template Storage",
                ROOT + "5.1.4.44.1": "Implant Assembly Template Storage",
                ROOT + "5.1.4.45.1": "Implant Template Group Storage",
            },
        )

    def test_neverStorage(self) -> None:
        """Directories, commitment, queries, worklists, procedure steps, print and services are no storage."""
        self.assertHas(
            uids.NON_STORAGE_SOP_CLASSES,
            {
                uids.VERIFICATION: "Verification SOP Class",
                uids.MEDIA_STORAGE_DIRECTORY: "Media Storage Directory Storage",
                uids.STORAGE_SERVICE_CLASS: "Storage Service Class",
                ROOT + "1.20.1": "Storage Commitment Push Model SOP Class",
                ROOT + "1.20.1.1": "Storage Commitment Push Model SOP Instance",
                ROOT + "1.20.2": "Storage Commitment Pull Model SOP Class (Retired)",
                ROOT + "3.1.2.3.3": "Modality Performed Procedure Step SOP Class",
                ROOT + "5.1.1.9": "Basic Grayscale Print Management Meta SOP Class",
                ROOT + "5.1.1.32": "Pull Stored Print Management Meta SOP Class (Retired)",
                ROOT + "5.1.4.1.1.200.4": "Protocol Approval Information Model - FIND",
                ROOT + "5.1.4.1.1.201.1.1": "Storage Management SOP Instance",
                ROOT + "5.1.4.1.1.201.5": "Inventory Creation",
                ROOT + "5.1.4.1.2.1.1": "Patient Root Query/Retrieve Information Model - FIND",
                ROOT + "5.1.4.31": "Modality Worklist Information Model - FIND",
                ROOT + "5.1.4.34.8": "RT Conventional Machine Verification",
            },
        )

    def test_noQueryAmongStorage(self) -> None:
        """No storage class is named after an operation or a service other than storage."""
        other = re.compile(r"\b(FIND|MOVE|GET|Query|Worklist|Commitment|Management|Meta|Directory|SOP Instance)\b")
        self.assertNoFaults(
            (f"{uid} {name}" for uid, name in uids.STORAGE_SOP_CLASSES.items() if other.search(name)),
            "named like something else",
        )
        self.assertNoFaults(
            (uid for uid in uids.STORAGE_SOP_CLASSES if uid.startswith((ROOT + "1.", ROOT + "3.", ROOT + "4."))),
            "outside the roots of storage",
        )


class SyntaxTests(Base):
    """The transfer syntaxes."""

    def test_everySyntaxOfPydicom(self) -> None:
        """Each transfer syntax that pydicom lists is in just one table."""
        self.assertEachInOneOf(pydicomUIDs("Transfer Syntax"), SYNTAX_TABLES)

    def test_newerThanPydicom(self) -> None:
        """The syntaxes that pydicom 3.0.2 lacks can be stored."""
        self.assertHas(uids.TRANSFER_SYNTAXES, SYNTAXES_NEWER_THAN_PYDICOM)

    def test_stored(self) -> None:
        """What can be stored includes the retired JPEG processes, Papyrus and GE's private syntax."""
        self.assertHas(
            uids.TRANSFER_SYNTAXES,
            {
                uids.IMPLICIT_VR_LITTLE_ENDIAN: "Implicit VR Little Endian",
                uids.EXPLICIT_VR_LITTLE_ENDIAN: "Explicit VR Little Endian",
                uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: "Deflated Explicit VR Little Endian",
                uids.EXPLICIT_VR_BIG_ENDIAN: "Explicit VR Big Endian (Retired)",
                uids.GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS: (
                    "GE Private Implicit VR Little Endian with Big Endian Pixel Data"
                ),
                ROOT + "1.2.4.52": "JPEG Extended (Process 3 & 5) (Retired)",
                ROOT + "1.2.4.66": "JPEG Lossless, Hierarchical (Process 29) (Retired)",
                ROOT + "1.2.4.80": "JPEG-LS Lossless Image Compression",
                ROOT + "1.2.4.108": "HEVC/H.265 Main 10 Profile / Level 5.1",
                ROOT + "1.2.4.203": "High-Throughput JPEG 2000 Image Compression",
                ROOT + "1.2.5": "RLE Lossless",
                ROOT + "1.20": "Papyrus 3 Implicit VR Little Endian (Retired)",
            },
        )

    def test_notStored(self) -> None:
        """JPIP waits for configuration; SMPTE, MIME and XML are never accepted; no other is held back."""
        self.assertEqual(
            list(uids.REFERENCED_TRANSFER_SYNTAXES),
            [ROOT + "1.2.4.94", ROOT + "1.2.4.95", ROOT + "1.2.4.204", ROOT + "1.2.4.205"],
        )
        self.assertEqual(
            list(uids.NEVER_ACCEPTED_TRANSFER_SYNTAXES),
            [ROOT + "1.2.6.1", ROOT + "1.2.6.2", ROOT + "1.2.7.1", ROOT + "1.2.7.2", ROOT + "1.2.7.3"],
        )

    def test_deflated(self) -> None:
        """Three syntaxes deflate the whole data set; 1.2.8.1, whose frames are deflated, is none of them."""
        self.assertEqual(uids.DEFLATED_TRANSFER_SYNTAXES, {ROOT + "1.2.1.99", ROOT + "1.2.4.95", ROOT + "1.2.4.205"})
        known = set(uids.TRANSFER_SYNTAXES) | set(uids.REFERENCED_TRANSFER_SYNTAXES)
        self.assertNoFaults(uids.DEFLATED_TRANSFER_SYNTAXES - known, "deflated but in no table")


class ConstantTests(Base):
    """The named UIDs."""

    def test_values(self) -> None:
        """Each constant is the UID that its name says."""
        self.assertEqual(uids.VERIFICATION, "1.2.840.10008.1.1")
        self.assertEqual(uids.MEDIA_STORAGE_DIRECTORY, "1.2.840.10008.1.3.10")
        self.assertEqual(uids.APPLICATION_CONTEXT, "1.2.840.10008.3.1.1.1")
        self.assertEqual(uids.STORAGE_SERVICE_CLASS, "1.2.840.10008.4.2")
        self.assertEqual(uids.IMPLICIT_VR_LITTLE_ENDIAN, pydicom.uid.ImplicitVRLittleEndian)
        self.assertEqual(uids.EXPLICIT_VR_LITTLE_ENDIAN, pydicom.uid.ExplicitVRLittleEndian)
        self.assertEqual(uids.EXPLICIT_VR_BIG_ENDIAN, pydicom.uid.ExplicitVRBigEndian)
        self.assertEqual(uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, pydicom.uid.DeflatedExplicitVRLittleEndian)
        self.assertEqual(uids.GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS, "1.2.840.113619.5.2")

    def test_implementation(self) -> None:
        """The class UID is a random UUID under 2.25 (PS3.5 B.2); the version name has 1 to 16 characters."""
        self.assertLessEqual(len(uids.IMPLEMENTATION_CLASS_UID), 64)
        self.assertRegex(uids.IMPLEMENTATION_CLASS_UID, r"\A2\.25\.[1-9][0-9]*\Z")
        number = int(uids.IMPLEMENTATION_CLASS_UID.removeprefix("2.25."))
        self.assertLess(number, 1 << 128)
        self.assertEqual((number >> 76) & 0xF, 4)  # the version of a random UUID, RFC 9562 5.4
        self.assertEqual((number >> 62) & 0x3, 0b10)  # its variant
        self.assertEqual(uids.IMPLEMENTATION_VERSION_NAME, "DCXTWISTED_0_1")
        self.assertLessEqual(len(uids.IMPLEMENTATION_VERSION_NAME), 16)


class NameOfTests(Base):
    """The name of a UID, for log lines."""

    def test_known(self) -> None:
        """A UID of any table, and the few beside them, have their names."""
        for table in TABLES.values():
            self.assertEqual({uid: uids.nameOf(uid) for uid in table}, dict(table))
        self.assertEqual(uids.nameOf(uids.APPLICATION_CONTEXT), "DICOM Application Context Name")
        self.assertEqual(uids.nameOf(uids.IMPLEMENTATION_CLASS_UID), "dcxtwisted")

    def test_unknown(self) -> None:
        """Anything else comes back as it is."""
        for uid in ("", "1.2.3", "1.2.840.10008.5.1.4.1.1.2 ", "1.2\r\n"):
            self.assertEqual(uids.nameOf(uid), uid)


class RecognitionTests(Base):
    """What is a UID, and which are known."""

    def test_isUID(self) -> None:
        """Numbers with dots between them, also with leading zeros; as long as a UID can be."""
        for text in ("0", "1.2", "1.2.840.10008.1.1", "1.02.003", "1." + "2" * 62):
            self.assertTrue(uids.isUID(text), text)
        for text in ("", ".", "1.", ".1", "1..2", "1.2 ", "1.2\0", "1.2\n", "x", "1.x", "1/2", "1.\xb2", "1.\u0662"):
            self.assertFalse(uids.isUID(text), ascii(text))
        self.assertFalse(uids.isUID("1." + "2" * 63))

    def test_isKnown(self) -> None:
        """Every UID of the tables, and the few beside them."""
        for table in TABLES.values():
            self.assertNoFaults((uid for uid in table if not uids.isKnown(uid)), "not known")
        self.assertTrue(uids.isKnown(uids.APPLICATION_CONTEXT))
        for uid in ("", "1.2.3", "1.2.840.10008.5.1.4.1.1.2 "):
            self.assertFalse(uids.isKnown(uid), uid)
