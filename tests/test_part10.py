"""Tests for L{dcxtwisted.part10}."""

from __future__ import annotations

import io
import os

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.part10 import SOPInstanceUIDOf, dataSetOffset, filePreamble, transferSyntaxOf
from dcxtwisted.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

TEST_FILES = os.path.join(os.path.dirname(pydicom.__file__), "data", "test_files")

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

ROW = (
    bytes(128)
    + b"DICM"
    + b"\x02\x00\x00\x00UL\x04\x00\x9a\x00\x00\x00"
    + b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
    + b"\x02\x00\x02\x00UI\x1a\x001.2.840.10008.5.1.4.1.1.2\x00"
    + b"\x02\x00\x03\x00UI\x06\x001.2.34"
    + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
    + b"\x02\x00\x12\x00UI\x06\x002.25.9"
    + b"\x02\x00\x13\x00SH\x04\x00ABC "
    + b"\x02\x00\x16\x00AE\x04\x00CT1 "
    + b"\x02\x00\x17\x00AE\x04\x00CT1 "
    + b"\x02\x00\x18\x00AE\x06\x00ARCHIV"
)


def preamble(
    SOPClassUID: str | bytes = CT_IMAGE,
    SOPInstanceUID: str | bytes = "1.2.34",
    transferSyntaxUID: str | bytes = EXPLICIT,
    implementationVersionName: str | bytes = "ABC",
    calling: str | bytes = "CT1",
    called: str | bytes = "ARCHIV",
) -> bytes:
    return filePreamble(
        SOPClassUID, SOPInstanceUID, transferSyntaxUID, "2.25.9", implementationVersionName, calling, called
    )


def metaOf(head: bytes) -> FileMetaDataset:
    """What pydicom reads of the file meta information in front of an empty data set."""
    return pydicom.dcmread(io.BytesIO(head)).file_meta


class FilePreambleTests(SynchronousTestCase):
    def test_bytes(self) -> None:
        self.assertEqual(preamble(), ROW)

    def test_bytesArguments(self) -> None:
        row = preamble(CT_IMAGE.encode(), b"1.2.34", EXPLICIT.encode(), b"ABC", b"CT1", b"ARCHIV")
        self.assertEqual(row, ROW)

    def test_paddingIsNotDoubled(self) -> None:
        """UIDs come padded from the wire, some with spaces, and titles in 16 bytes."""
        row = preamble(CT_IMAGE + "\0", "1.2.34  ", EXPLICIT + " \0", "ABC ", "CT1             ", "  ARCHIV  ")
        self.assertEqual(row, ROW)

    def test_pydicom(self) -> None:
        """pydicom reads the same, names and all."""
        meta = metaOf(
            filePreamble(
                CT_IMAGE,
                "1.2.345",
                "1.2.840.10008.1.2",
                IMPLEMENTATION_CLASS_UID,
                IMPLEMENTATION_VERSION_NAME,
                "MODALITY_IN_ROOM",
                "ARCHIVE",
            )
        )
        self.assertEqual(
            [(element.keyword, element.value) for element in meta],
            [
                ("FileMetaInformationGroupLength", meta.FileMetaInformationGroupLength),
                ("FileMetaInformationVersion", b"\x00\x01"),
                ("MediaStorageSOPClassUID", CT_IMAGE),
                ("MediaStorageSOPInstanceUID", "1.2.345"),
                ("TransferSyntaxUID", "1.2.840.10008.1.2"),
                ("ImplementationClassUID", IMPLEMENTATION_CLASS_UID),
                ("ImplementationVersionName", IMPLEMENTATION_VERSION_NAME),
                ("SourceApplicationEntityTitle", "MODALITY_IN_ROOM"),
                ("SendingApplicationEntityTitle", "MODALITY_IN_ROOM"),
                ("ReceivingApplicationEntityTitle", "ARCHIVE"),
            ],
        )

    def test_writtenByPydicom(self) -> None:
        """pydicom writes the same bytes for the same file meta information."""
        written = io.BytesIO()
        meta = metaOf(ROW)
        data = FileDataset(written, {}, preamble=bytes(128), file_meta=meta)
        dcmwrite(written, data, enforce_file_format=True)
        self.assertEqual(written.getvalue(), ROW)

    def test_emptyTextsAreLeftOut(self) -> None:
        meta = metaOf(preamble(implementationVersionName="", calling="   ", called="\0garbage"))
        self.assertEqual([element.tag for element in meta], [0x20000, 0x20001, 0x20002, 0x20003, 0x20010, 0x20012])

    def test_titles(self) -> None:
        """A peer's title is written as the VR AE allows it: 16 characters of ASCII but control and backslash."""
        for given, written in [
            ("A\\B", "A_B"),
            ("A\r\nB\x1b[0m", "A__B_[0m"),
            ("K\xd6LN", "K_LN"),
            ("M\u0416", "M_"),
            ("with space", "with space"),
            ("~}|{[]^_`@", "~}|{[]^_`@"),
            ("0123456789ABCDEFGHI", "0123456789ABCDEF"),
            ("0123456789ABCDE FGHI", "0123456789ABCDE"),
            ("CT1\0\0\0junk", "CT1"),
        ]:
            meta = metaOf(preamble(calling=given, called=given))
            self.assertEqual(meta[0x00020016].value, written)
            self.assertEqual(meta[0x00020017].value, written)
            self.assertEqual(meta[0x00020018].value, written)
        self.assertEqual(preamble(calling=b"K\xd6LN"), preamble(calling="K_LN"))

    def test_oddUIDsAreWritten(self) -> None:
        """UIDs are checked before; here they are bytes to be padded."""
        self.assertIn(b"\x02\x00\x03\x00UI\x0a\x001.2.%2e.\xe9\x00", preamble(SOPInstanceUID="1.2.%2e.\xe9"))
        long = "1." * 500 + "1"
        head = preamble(SOPInstanceUID=long)
        self.assertIn(b"\x02\x00\x03\x00UI\xea\x03" + long.encode() + b"\x00\x02\x00\x10\x00UI", head)
        self.assertEqual(dataSetOffset(head), len(head))


class DataSetOffsetTests(SynchronousTestCase):
    def test_own(self) -> None:
        self.assertEqual(dataSetOffset(ROW), len(ROW))
        self.assertEqual(dataSetOffset(ROW + b"\x08\x00"), len(ROW))
        self.assertEqual(dataSetOffset(ROW[:144]), len(ROW))

    def test_foreignPreamble(self) -> None:
        self.assertEqual(dataSetOffset(b"II*\0" + ROW[4:]), len(ROW))

    def test_otherPrograms(self) -> None:
        for name, offset in [("CT_small.dcm", 336), ("JPEG2000.dcm", 336), ("image_dfl.dcm", 334)]:
            with open(os.path.join(TEST_FILES, name), "rb") as file:
                self.assertEqual(dataSetOffset(file.read(144)), offset, name)

    def test_noFile(self) -> None:
        for head in (b"", ROW[:143], ROW[4:], bytes(1000), ROW[:128] + b"DICN" + ROW[132:]):
            self.assertRaises(ValueError, dataSetOffset, head)

    def test_noGroupLength(self) -> None:
        for name in ("no_meta_group_length.dcm", "no_meta.dcm"):
            with open(os.path.join(TEST_FILES, name), "rb") as file:
                self.assertRaises(ValueError, dataSetOffset, file.read(144))
        self.assertRaises(ValueError, dataSetOffset, ROW[:136] + b"OB" + ROW[138:])


class TransferSyntaxOfTests(SynchronousTestCase):
    def test_own(self) -> None:
        self.assertEqual(transferSyntaxOf(ROW), EXPLICIT)

    def test_otherPrograms(self) -> None:
        for name, syntax in [
            ("CT_small.dcm", EXPLICIT),
            ("JPEG2000.dcm", "1.2.840.10008.1.2.4.91"),
            ("image_dfl.dcm", "1.2.840.10008.1.2.1.99"),
            ("MR_small_bigendian.dcm", "1.2.840.10008.1.2.2"),
        ]:
            with open(os.path.join(TEST_FILES, name), "rb") as file:
                self.assertEqual(transferSyntaxOf(file.read(1024)), syntax, name)

    def test_elementsBefore(self) -> None:
        """Private information with a long length, before the transfer syntax, is passed by its length."""
        private = b"\x02\x00\x02\x01OB\x00\x00\x0a\x00\x00\x00\x02\x00\x10\x00UI\x02\x001\x00"
        head = ROW[:140] + (0x9A + len(private)).to_bytes(4, "little") + private + ROW[144:]
        self.assertEqual(transferSyntaxOf(head), EXPLICIT)

    def test_missing(self) -> None:
        """What was cut, has none, or has it behind the file meta information, has no transfer syntax."""
        end = ROW.index(b"\x02\x00\x12\x00")
        self.assertEqual(transferSyntaxOf(ROW[:end]), EXPLICIT)
        for length in range(end):
            self.assertRaises(ValueError, transferSyntaxOf, ROW[:length])
        short = ROW[:140] + (end - 145).to_bytes(4, "little") + ROW[144:]
        self.assertRaises(ValueError, transferSyntaxOf, short)
        without = ROW.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI")
        self.assertRaises(ValueError, transferSyntaxOf, without)
        self.assertRaises(ValueError, transferSyntaxOf, without + ROW[end - 28 : end])


class SOPInstanceUIDOfTests(SynchronousTestCase):
    def test_own(self) -> None:
        self.assertEqual(SOPInstanceUIDOf(ROW), "1.2.34")

    def test_missing(self) -> None:
        """What was cut before it, or has none, has no SOP instance UID."""
        end = ROW.index(b"\x02\x00\x10\x00")
        self.assertEqual(SOPInstanceUIDOf(ROW[:end]), "1.2.34")
        self.assertRaises(ValueError, SOPInstanceUIDOf, ROW[: end - 1])
        self.assertRaises(ValueError, SOPInstanceUIDOf, ROW.replace(b"\x02\x00\x03\x00UI", b"\x02\x00\x04\x00UI"))
