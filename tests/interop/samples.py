"""
The sample files that come with pydicom, taken apart; and which of them are no storage objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from struct import unpack_from

import attrs
import pydicom

from dcxtwisted.uids import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.7"

#: Samples whose data sets do not say what they are; another version of pydicom may lack some, here and below.
WITHOUT_IDENTITY = (
    "UN_sequence.dcm",
    "empty_charset_LEI.dcm",
    "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm",
    "priv_SQ.dcm",
)

#: Directories of media: Media Storage Directory Storage is no storage class on a network (PS3.4 B.5).
MEDIA_DIRECTORIES = (
    "dicomdirtests/DICOMDIR",
    "dicomdirtests/DICOMDIR-bigEnd",
    "dicomdirtests/DICOMDIR-empty.dcm",
    "dicomdirtests/DICOMDIR-implicit",
    "dicomdirtests/DICOMDIR-nooffset",
    "dicomdirtests/DICOMDIR-nopatient",
    "dicomdirtests/DICOMDIR-reordered",
    "dicomdirtests/TINY_ALPHA/DICOMDIR",
)

_LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT"})

# Part 10 files, taken apart here and not by the code under test


@attrs.frozen
class Part10:
    """
    A file in two: what group 0002 says, and the bytes behind it.

    :ivar meta: the values of group 0002 by element number; empty for a file that has none.
    """

    meta: Mapping[int, bytes]
    dataSet: bytes

    def uid(self, element: int) -> str:
        """Return a UID of group 0002, '' where it is missing."""
        return self.meta.get(element, b"").rstrip(b"\0 ").decode("ascii")

    @property
    def SOPClassUID(self) -> str:
        """Media Storage SOP Class UID."""
        return self.uid(0x0002)

    @property
    def SOPInstanceUID(self) -> str:
        """Media Storage SOP Instance UID."""
        return self.uid(0x0003)

    @property
    def transferSyntaxUID(self) -> str:
        """Transfer Syntax UID."""
        return self.uid(0x0010)


def part10(raw: bytes) -> Part10:
    """Take a file apart; one without preamble and prefix is all data set."""
    if raw[128:132] != b"DICM":
        return Part10({}, raw)
    meta = {}
    position = 132
    # By the group number and not by the group length: some sample files lack it.
    while raw[position : position + 2] == b"\x02\x00":
        _, element, VR, length = unpack_from("<HH2sH", raw, position)
        position += 8
        if VR in _LONG_VRS:
            (length,) = unpack_from("<I", raw, position)
            position += 4
        meta[element] = raw[position : position + length]
        position += length
    return Part10(meta, raw[position:])


# Sample files


@attrs.frozen
class SampleFile:
    """
    A file that comes with pydicom, as a storage object.

    :ivar name: its path below pydicom's directory of sample files.
    :ivar identified: its data set has SOP class and instance; otherwise those here are of the file meta, or made up.
    :ivar dataSet: all that follows the file meta information, untouched.
    :ivar directory: where the default layout puts it, below the store.
    """

    name: str
    path: Path
    SOPClassUID: str
    SOPInstanceUID: str
    transferSyntaxUID: str
    dataSet: bytes = attrs.field(repr=False)
    identified: bool
    directory: str


@cache
def sampleFiles() -> Sequence[SampleFile]:
    """Return every DICOM file below pydicom's ``data/test_files``, sorted by name."""
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    samples = [_sampleFile(path, path.relative_to(root).as_posix()) for path in paths]
    assert any(samples), f"no samples below {root}"
    return [sample for sample in samples if sample is not None]


def _sampleFile(path: Path, name: str) -> SampleFile | None:
    parts = part10(path.read_bytes())
    dataSet = pydicom.dcmread(path, force=True)
    SOPClassUID = str(dataSet.get("SOPClassUID", ""))
    SOPInstanceUID = str(dataSet.get("SOPInstanceUID", ""))
    identified = SOPClassUID != "" and SOPInstanceUID != ""
    if not identified and not parts.meta:
        return None  # a text, a colour profile, ...
    study, series = (str(dataSet.get(name, "")) for name in ("StudyInstanceUID", "SeriesInstanceUID"))
    return SampleFile(
        name=name,
        path=path,
        SOPClassUID=SOPClassUID or parts.SOPClassUID or SECONDARY_CAPTURE_IMAGE_STORAGE,
        SOPInstanceUID=SOPInstanceUID or parts.SOPInstanceUID or f"2.25.{sum(name.encode())}",
        transferSyntaxUID=parts.transferSyntaxUID or _guessed(dataSet),
        dataSet=parts.dataSet,
        identified=identified,
        directory=f"{study or 'unknown'}/{series or 'unknown'}",
    )


def _guessed(dataSet: pydicom.Dataset) -> str:
    """Return the transfer syntax of a data set whose file does not tell it."""
    isImplicit, isLittleEndian = dataSet.original_encoding
    if isImplicit:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_LITTLE_ENDIAN if isLittleEndian else EXPLICIT_VR_BIG_ENDIAN


def sampleNamed(name: str) -> SampleFile:
    """Return one sample."""
    (sample,) = (sample for sample in sampleFiles() if sample.name == name)
    return sample


def small() -> list[SampleFile]:
    """Return a few small samples with UIDs of their own, which every client can send in any encoding."""
    return [sample for sample in sampleFiles() if sample.name.startswith("dicomdirtests/7")]


def paths(samples: Sequence[SampleFile]) -> list[str]:
    """Return where samples are, as a client takes it."""
    return [str(sample.path) for sample in samples]
