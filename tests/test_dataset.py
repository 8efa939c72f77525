"""Tests for L{dcxtwisted.dataset}."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Iterable

import attrs
import pydicom
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.dataset import DataSetReader, Head, Wholeness

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
GE_PRIVATE = "1.2.840.113619.5.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
UNKNOWN = "1.3.46.670589.33.1.4.1"

WHOLE, UNCHECKED, BROKEN = Wholeness.WHOLE, Wholeness.UNCHECKED, Wholeness.BROKEN
UNDEFINED = 0xFFFFFFFF
LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV", "OX")


def explicit(tag: int, VR: str | bytes, value: bytes = b"", length: int | None = None, order: str = "<") -> bytes:
    """An element in explicit VR; its length field says C{length} where given."""
    length = len(value) if length is None else length
    code = VR.encode() if isinstance(VR, str) else VR
    head = struct.pack(order + "HH2s", tag >> 16, tag & 0xFFFF, code)
    return (
        head + struct.pack(order + ("HI" if VR in LONG_VRS else "H"), *((0,) if VR in LONG_VRS else ()), length) + value
    )


def implicit(tag: int, value: bytes = b"", length: int | None = None, order: str = "<") -> bytes:
    """An element in implicit VR, an item or a delimiter."""
    return struct.pack(order + "HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


ITEM_END = implicit(0xFFFEE00D)
SEQUENCE_END = implicit(0xFFFEE0DD)


def item(content: bytes, length: int | None = None) -> bytes:
    return implicit(0xFFFEE000, content, length)


def openItem(content: bytes) -> bytes:
    return item(content, UNDEFINED) + ITEM_END


def sequence(tag: int, *items: bytes, VR: str = "SQ") -> bytes:
    """A sequence of undefined length in explicit VR."""
    return explicit(tag, VR, b"".join(items), UNDEFINED) + SEQUENCE_END


# The elements of a small object before and after its pixels, by tag, VR and value.
ELEMENTS = [
    (0x00080000, "UL", b"\x12\x01\x00\x00"),
    (0x00080005, "CS", b"ISO_IR 100"),
    (0x00080008, "CS", b"ORIGINAL\\PRIMARY"),
    (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    (0x00080018, "UI", b"1.2.3.4.5\0"),
    (0x00080020, "DA", b"20260102"),
    (0x00080050, "SH", b""),
    (0x00080060, "CS", b"CT"),
    (0x00081030, "LO", b"Thorax" * 20),
    (0x00090010, "LO", b"VENDOR"),
    (0x00091001, "UN", b"private!"),
    (0x00100010, "PN", b"Surname^Given "),
    (0x00100020, "LO", b" A\xc4\\172 "),
    (0x00180050, "DS", b"1.25"),
    (0x0020000D, "UI", b"1.2.3 "),
    (0x0020000E, "UI", b"1.2.3.4\0"),
    (0x00200011, "IS", b"5 "),
    (0x00200013, "IS", b"17"),
    (0x00200032, "DS", b"1\\2\\3 "),
    (0x00280010, "US", b"\x02\x00"),
    (0x00280011, "US", b"\x03\x00"),
]
PIXELS = b"\x01\x02\x03\x04\x05\x06"

BODY = b"".join(explicit(*element) for element in ELEMENTS)
PLAIN = BODY + explicit(0x7FE00010, "OW", PIXELS)
IMPLICIT_BODY = b"".join(implicit(tag, value) for tag, VR, value in ELEMENTS)
IMPLICIT_PLAIN = IMPLICIT_BODY + implicit(0x7FE00010, PIXELS)
BIG_BODY = b"".join(explicit(*element, order=">") for element in ELEMENTS)
BIG_PLAIN = BIG_BODY + explicit(0x7FE00010, "OW", PIXELS, order=">")

HEAD = Head(
    SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
    SOPInstanceUID="1.2.3.4.5",
    StudyInstanceUID="1.2.3",
    SeriesInstanceUID="1.2.3.4",
    PatientID=" A\xc4\\172",
    Modality="CT",
    StudyDate="20260102",
    size=0,
    wholeness=WHOLE,
)
KEYWORDS = [field.name for field in attrs.fields(Head)[:7]]
NOTHING = Head("", "", "", "", "", "", "", 0, BROKEN)


def read(syntax: str, chunks: Iterable[bytes], **limits: int) -> Head:
    """The head of a data set that comes in these chunks, whose buffers are overwritten after each call."""
    reader = DataSetReader(syntax, **limits)
    for chunk in chunks:
        buffer = bytearray(chunk)
        reader.feed(memoryview(buffer))
        buffer[:] = b"\xaa" * len(buffer)
        buffer.clear()  # BufferError where a view of it is still held
    return reader.finish()


def cutAt(data: bytes, *positions: int) -> list[bytes]:
    ends = [*positions, len(data)]
    return [data[start:end] for start, end in zip([0, *positions], ends, strict=True)]


def seededCuts(data: bytes, count: int, seed: int) -> list[list[bytes]]:
    """The same data in chunks of sizes from a few bytes to all of it."""
    draw = random.Random(seed)
    return [
        cutAt(data, *sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice((1, 3, 20, 100)))))
        for _ in range(count)
    ]


def deflated(data: bytes, windowBits: int = -15) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, windowBits)
    return compressor.compress(data) + compressor.flush()


class DataSetTestCase(SynchronousTestCase):
    """What tests of whole data sets share."""

    def assertRead(
        self,
        data: bytes,
        wholeness: Wholeness = WHOLE,
        *quirks: str,
        syntax: str = EXPLICIT,
        defect: str = "",
        head: Head = HEAD,
    ) -> None:
        """A data set is judged so, whole, byte by byte, in two parts and at seeded cuts."""
        expected = attrs.evolve(head, size=len(data), wholeness=wholeness, defect=defect, quirks=quirks)
        self.assertEqual(read(syntax, [data]), expected)
        self.assertEqual(read(syntax, [data[i : i + 1] for i in range(len(data))]), expected)
        if len(data) < 2000:
            for position in range(len(data)):
                self.assertEqual(read(syntax, cutAt(data, position)), expected, f"cut at {position}")
        for chunks in seededCuts(data, 10, len(data)):
            self.assertEqual(read(syntax, chunks), expected)


class HeadTests(DataSetTestCase):
    def test_explicit(self) -> None:
        self.assertRead(PLAIN)

    def test_implicit(self) -> None:
        self.assertRead(IMPLICIT_PLAIN, syntax=IMPLICIT)
        self.assertRead(IMPLICIT_PLAIN, syntax=GE_PRIVATE)

    def test_bigEndian(self) -> None:
        self.assertRead(BIG_PLAIN, syntax=BIG_ENDIAN)

    def test_deflated(self) -> None:
        for syntax in (DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"):
            self.assertRead(deflated(PLAIN), syntax=syntax)

    def test_deflatedFramesAreNotADeflatedDataSet(self) -> None:
        data = BODY + explicit(0x7FE00010, "OB", item(b"") + item(deflated(PIXELS) + b"\0"), UNDEFINED) + SEQUENCE_END
        self.assertRead(data, syntax="1.2.840.10008.1.2.8.1")

    def test_unknownSyntax(self) -> None:
        """The encoding of a syntax that nobody here knows is told from the first element."""
        self.assertRead(PLAIN, syntax=UNKNOWN)
        self.assertRead(IMPLICIT_PLAIN, syntax=UNKNOWN)
        self.assertRead(BIG_PLAIN, syntax=UNKNOWN)
        self.assertRead(explicit(0x00080001, "OX", b"junk") + BODY[12:], WHOLE, "unknown VR", syntax=UNKNOWN)

    def test_noPixels(self) -> None:
        self.assertRead(BODY)

    def test_headOnly(self) -> None:
        """What ends before some of the wanted elements has no value for them."""
        data = explicit(0x00080016, "UI", b"1.2\0") + explicit(0x00080018, "UI", b"1.2.")
        self.assertRead(data, head=attrs.evolve(NOTHING, SOPClassUID="1.2", SOPInstanceUID="1.2."))

    def test_onlyTheTopLevel(self) -> None:
        """What sequences and private elements hold is not the object's."""
        decoy = (
            explicit(0x00080016, "UI", b"9.9.") + explicit(0x00080018, "UI", b"9.") + explicit(0x00100020, "LO", b"X ")
        )
        data = (
            explicit(0x00080006, "SQ", item(decoy))
            + sequence(0x00080012, item(decoy), openItem(decoy), openItem(b""))
            + explicit(0x00080013, "UN", decoy)
            + PLAIN
        )
        self.assertRead(data)

    def test_outOfOrder(self) -> None:
        """Elements are taken up wherever they stand."""
        elements = [explicit(*element) for element in ELEMENTS]
        random.Random(4).shuffle(elements)
        self.assertRead(b"".join(elements))
        self.assertRead(explicit(0x00280100, "US", b"\x08\0") + PLAIN)

    def test_repeated(self) -> None:
        """The first of a repeated element counts."""
        again = explicit(0x00080018, "UI", b"9.9.9.")
        self.assertRead(PLAIN + again, WHOLE, "repeated element")
        self.assertRead(BODY[: BODY.index(b"\x08\x00\x20\x00")] + again + BODY[12:], WHOLE, "repeated element")

    def test_wantedElementsOfAnyLength(self) -> None:
        """Values of every length are kept whole up to the limit, of a longer one as many bytes."""
        rest = (
            explicit(0x00080016, "UI", b"1.") + explicit(0x00080018, "UI", b"2.") + explicit(0x7FE00010, "OW", PIXELS)
        )
        for length in (*range(0, 80, 2), 1022, 1024, 1026, 0xFFFE):
            value = (b"0123456789" * 7000)[:length]
            expected = attrs.evolve(
                NOTHING,
                SOPClassUID="1.",
                SOPInstanceUID="2.",
                PatientID=value[:1024].decode(),
                wholeness=WHOLE,
            )
            for VR in ("LO", "??"):
                data = explicit(0x00100020, VR, value) + rest
                expected = attrs.evolve(expected, size=len(data), quirks=("unknown VR",) if VR == "??" else ())
                self.assertEqual(read(EXPLICIT, [data]), expected)
                self.assertEqual(read(EXPLICIT, [data[i : i + 1] for i in range(len(data))]), expected)

    def test_maximumValueLength(self) -> None:
        for chunks in ([PLAIN], [PLAIN[i : i + 1] for i in range(len(PLAIN))]):
            head = read(EXPLICIT, chunks, maximumValueLength=5)
            self.assertEqual((head.SOPClassUID, head.SOPInstanceUID, head.Modality), ("1.2.8", "1.2.3", "CT"))

    def test_attributesOnTheWay(self) -> None:
        """What was found so far, and whether more can come, is known while the bytes still come."""
        reader = DataSetReader(EXPLICIT)
        self.assertEqual((reader.attributes, reader.headComplete), ({}, False))
        afterStudy = PLAIN.index(b"\x20\x00\x0e\x00")
        reader.feed(PLAIN[:afterStudy])
        self.assertEqual(
            reader.attributes,
            {
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                "SOPInstanceUID": "1.2.3.4.5",
                "StudyDate": "20260102",
                "Modality": "CT",
                "PatientID": " A\xc4\\172",
                "StudyInstanceUID": "1.2.3",
            },
        )
        self.assertFalse(reader.headComplete)
        behind = PLAIN.index(b"\x20\x00\x11\x00")
        reader.feed(PLAIN[afterStudy:behind])
        self.assertEqual(reader.attributes["SeriesInstanceUID"], HEAD.SeriesInstanceUID)
        self.assertFalse(reader.headComplete)
        reader.feed(PLAIN[behind : behind + 8])
        self.assertTrue(reader.headComplete)
        reader.feed(PLAIN[behind + 8 :])
        self.assertEqual(reader.size, len(PLAIN))
        self.assertEqual(reader.finish(), attrs.evolve(HEAD, size=len(PLAIN)))

    def test_headCompleteWhenStopped(self) -> None:
        """Once the walk has ended nothing more can come."""
        for end in (item(b""), explicit(0x00020010, "UI", b"1.")):
            reader = DataSetReader(EXPLICIT)
            reader.feed(BODY[: BODY.index(b"\x10\x00\x20\x00")] + end + bytes(100))
            self.assertTrue(reader.headComplete)
        reader = DataSetReader(EXPLICIT)
        reader.finish()
        self.assertTrue(reader.headComplete)

    def test_defectOnTheWay(self) -> None:
        reader = DataSetReader(EXPLICIT)
        reader.feed(BODY)
        self.assertEqual(reader.defect, "")
        reader.feed(explicit(0x00020010, "UI", b"1."))
        self.assertEqual(reader.defect, "group 0002 inside the data set")

    def test_anyBuffer(self) -> None:
        expected = attrs.evolve(HEAD, size=len(PLAIN))
        for data in (PLAIN, bytearray(PLAIN), memoryview(PLAIN)):
            reader = DataSetReader(EXPLICIT)
            reader.feed(data)
            reader.feed(b"")
            self.assertEqual(reader.finish(), expected)

    def test_longValuesInChunks(self) -> None:
        data = BODY + explicit(0x7FE00010, "OW", bytes(1 << 20)) + explicit(0x7FE10010, "LO", b"x ")
        expected = attrs.evolve(HEAD, size=len(data))
        for size in (1000, 4096, 65536, 1 << 22):
            chunks = [data[start : start + size] for start in range(0, len(data), size)]
            self.assertEqual(read(EXPLICIT, chunks), expected)


class RefusedTests(DataSetTestCase):
    """What is certain: such a data set is never acknowledged."""

    def test_noBytes(self) -> None:
        for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, UNKNOWN):
            expected = attrs.evolve(NOTHING, defect="no bytes")
            self.assertEqual(read(syntax, []), expected)
            self.assertEqual(read(syntax, [b"", b""]), expected)

    def test_noSOPUIDs(self) -> None:
        missing = "no SOP Class UID or no SOP Instance UID"
        for left, head in [
            (0x00080016, attrs.evolve(HEAD, SOPClassUID="")),
            (0x00080018, attrs.evolve(HEAD, SOPInstanceUID="")),
        ]:
            elements = [element for element in ELEMENTS if element[0] != left]
            self.assertRead(b"".join(explicit(*e) for e in elements), BROKEN, defect=missing, head=head)
            empty = b"".join(explicit(*e) for e in [(left, "UI", b"\0 "), *elements])
            self.assertRead(empty, BROKEN, defect=missing, head=head)

    def test_stoppedBeforeTheSOPUIDs(self) -> None:
        self.assertRead(
            BODY[:12] + item(b"") + BODY[12:],
            BROKEN,
            "tag out of place",
            defect="no SOP Class UID or no SOP Instance UID",
            head=NOTHING,
        )

    def test_commandOrMetaGroup(self) -> None:
        for syntax, body, row in [
            (EXPLICIT, BODY, explicit(0x00020010, "UI", b"1.2.")),
            (EXPLICIT, BODY, implicit(0x00020010, b"1.2.")),
            (IMPLICIT, IMPLICIT_BODY, implicit(0x00020010, b"1.2.")),
            (BIG_ENDIAN, BIG_BODY, explicit(0x00020010, "UI", b"1.2.", order=">")),
        ]:
            # In explicit VR an element without VR is a guess, and a guess does not refuse.
            if row == implicit(0x00020010, b"1.2.") and syntax == EXPLICIT:
                self.assertRead(body + row, UNCHECKED, "implicit VR element in explicit VR", "tag out of place")
            else:
                self.assertRead(body + row, BROKEN, syntax=syntax, defect="group 0002 inside the data set")
        for syntax, body, row in [
            (EXPLICIT, BODY, implicit(0x00000000, b"\x38\0\0\0") + implicit(0x00000100, b"\x01\0")),
            (EXPLICIT, BODY, explicit(0x00000100, "US", b"\x01\0")),
            (IMPLICIT, IMPLICIT_BODY, implicit(0x00000000, b"\x38\0\0\0")),
            (BIG_ENDIAN, BIG_BODY, implicit(0x00000100, b"\x01\0", order=">")),
        ]:
            self.assertRead(body + row + bytes(9), BROKEN, syntax=syntax, defect="group 0000 inside the data set")

    def test_commandInAnUnknownSyntax(self) -> None:
        """Group 0000 is no sign of big endian."""
        command = explicit(0x00000002, "UI", b"1.2.")
        defect = "group 0000 inside the data set"
        self.assertRead(command + PLAIN, BROKEN, syntax=UNKNOWN, defect=defect, head=NOTHING)

    def test_nestedGroupsAreNotJudged(self) -> None:
        content = explicit(0x00020010, "UI", b"1.2.") + explicit(0x00000100, "US", b"\x01\0")
        content += explicit(0xFFFCFFFC, "OB", bytes(10))
        self.assertRead(BODY + sequence(0x00400260, openItem(content)))

    def test_part10FileInside(self) -> None:
        meta = explicit(0x00020000, "UL", b"\x0c\0\0\0") + explicit(0x00020012, "UI", b"1.2.")
        for preamble in (bytes(128), random.Random(1).randbytes(128), PLAIN[:128]):
            for syntax in (EXPLICIT, IMPLICIT):
                self.assertRead(
                    preamble + b"DICM" + meta + PLAIN,
                    BROKEN,
                    syntax=syntax,
                    defect="a Part 10 file inside the data set",
                    head=NOTHING,
                )
        self.assertRead(
            deflated(bytes(128) + b"DICM" + meta + PLAIN),
            BROKEN,
            syntax=DEFLATED,
            defect="a Part 10 file inside the data set",
            head=NOTHING,
        )

    def test_prefixInside(self) -> None:
        """Also a preamble without file meta information, and file meta information without a preamble."""
        for data in (bytes(128) + b"DICM" + PLAIN, b"DICM" + PLAIN):
            self.assertIs(read(EXPLICIT, [data]).wholeness, BROKEN)

    def test_prefixInAValue(self) -> None:
        """The same bytes as a part of a value are nobody's business."""
        data = explicit(0x00080005, "CS", b" " * 120 + b"DICM\x02\0") + PLAIN
        self.assertEqual(data[128:132], b"DICM")
        data = explicit(0x00080005, "CS", b" " * 120 + b"DICM  ") + PLAIN
        self.assertRead(data)

    def test_cutTopLevelValue(self) -> None:
        """A top-level value that lacks more than its pad byte."""
        for missing in (2, 3, 5, 6):
            defect = f"value of (7FE0,0010) cut by {missing} bytes"
            self.assertRead(PLAIN[:-missing], BROKEN, defect=defect)
            self.assertRead(IMPLICIT_PLAIN[:-missing], BROKEN, syntax=IMPLICIT, defect=defect)
            self.assertRead(BIG_PLAIN[:-missing], BROKEN, syntax=BIG_ENDIAN, defect=defect)
            self.assertRead(deflated(PLAIN[:-missing]), BROKEN, syntax=DEFLATED, defect=defect)

    def test_cutWantedValue(self) -> None:
        end = PLAIN.index(b"\x20\x00\x0d\x00")
        head = attrs.evolve(HEAD, StudyInstanceUID="", SeriesInstanceUID="")
        for missing in (2, 6):
            defect = f"value of (0020,000D) cut by {missing} bytes"
            self.assertRead(PLAIN[: end + 14 - missing], BROKEN, defect=defect, head=head)

    def test_cutSequenceOfDefinedLength(self) -> None:
        data = BODY + explicit(0x00400260, "SQ", item(BODY))
        self.assertRead(data[:-10], BROKEN, defect="value of (0040,0260) cut by 10 bytes")

    def test_cutFragment(self) -> None:
        data = BODY + explicit(0x7FE00010, "OB", item(b"") + item(bytes(100)), UNDEFINED)
        for missing in (2, 50, 100):
            defect = f"fragment of (7FE0,0010) cut by {missing} bytes"
            self.assertRead(data[:-missing], BROKEN, syntax=JPEG_BASELINE, defect=defect)
        implicitData = IMPLICIT_BODY + implicit(0x7FE00010, item(b"") + item(bytes(100)), UNDEFINED)
        defect = "fragment of (7FE0,0010) cut by 4 bytes"
        self.assertRead(implicitData[:-4], BROKEN, syntax=IMPLICIT, defect=defect)

    def test_claimedLengths(self) -> None:
        """Lengths past the end, the longest too, take no memory and are found out at the end."""
        for length in (8, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE):
            defect = f"value of (7FE0,0010) cut by {length - 6} bytes"
            quirks = ["odd length"] if length & 1 else []
            self.assertRead(BODY + explicit(0x7FE00010, "OW", PIXELS, length), BROKEN, *quirks, defect=defect)
            data = IMPLICIT_BODY + implicit(0x7FE00010, PIXELS, length)
            self.assertRead(data, BROKEN, *quirks, syntax=IMPLICIT, defect=defect)
            data = BODY + explicit(0x7FE00010, "OB", item(b"") + item(PIXELS, length), UNDEFINED)
            defect = f"fragment of (7FE0,0010) cut by {length - 6} bytes"
            self.assertRead(data, BROKEN, syntax=JPEG_BASELINE, defect=defect)
        data = implicit(0x00080016, b"1.2.", 0xFFFFFFFE)
        self.assertRead(
            data, BROKEN, syntax=IMPLICIT, defect="value of (0008,0016) cut by 4294967290 bytes", head=NOTHING
        )

    def test_cutAnywhere(self) -> None:
        """A data set that ends anywhere but between two elements of its top level is not taken for whole."""
        ends = {0, 1, len(BODY)}
        position = 0
        for element in ELEMENTS:
            position += len(explicit(*element))
            ends |= {position, position - 1} if element[2] else {position}
        for length in set(range(len(BODY))) - ends:
            self.assertIsNot(read(EXPLICIT, [BODY[:length]]).wholeness, WHOLE, str(length))

    def test_depth(self) -> None:
        """Sequences 64 deep are well, deeper ones are refused, however deep."""

        def nested(depth: int) -> bytes:
            start = explicit(0x00400260, "SQ", b"", UNDEFINED) + item(b"", UNDEFINED)
            return BODY + start * depth + (ITEM_END + SEQUENCE_END) * depth

        self.assertRead(nested(64))
        for depth in (65, 300):
            self.assertRead(nested(depth), BROKEN, defect="sequences more than 64 deep")
        head = read(EXPLICIT, [nested(100_000)])
        self.assertEqual((head.wholeness, head.defect), (BROKEN, "sequences more than 64 deep"))
        for depth, wholeness in ((2, WHOLE), (3, BROKEN)):
            self.assertIs(read(EXPLICIT, [nested(depth)], maximumDepth=2).wholeness, wholeness)

    def test_depthInImplicitVR(self) -> None:
        start = implicit(0x00400260, b"", UNDEFINED) + item(b"", UNDEFINED)
        for syntax, body, first in [
            (IMPLICIT, IMPLICIT_BODY, start),
            (EXPLICIT, BODY, explicit(0x00400260, "UN", b"", UNDEFINED) + item(b"", UNDEFINED)),
        ]:
            self.assertRead(body + first + start * 63 + (ITEM_END + SEQUENCE_END) * 64, syntax=syntax)
            self.assertRead(body + first + start * 64, BROKEN, syntax=syntax, defect="sequences more than 64 deep")

    def test_fragmentsInTheDeepestItem(self) -> None:
        """Fragments are no sequence."""
        start = explicit(0x00400260, "SQ", b"", UNDEFINED) + item(b"", UNDEFINED)
        pixels = explicit(0x7FE00010, "OB", item(b"") + item(PIXELS), UNDEFINED) + SEQUENCE_END
        self.assertRead(BODY + start * 64 + pixels + (ITEM_END + SEQUENCE_END) * 64)


class ToleratedTests(DataSetTestCase):
    """What real modalities send: taken, and named."""

    def test_padByteMissing(self) -> None:
        quirk = "last value without its pad byte"
        self.assertRead(PLAIN[:-1], WHOLE, quirk)
        self.assertRead(deflated(PLAIN[:-1]), WHOLE, quirk, syntax=DEFLATED)
        self.assertRead(IMPLICIT_PLAIN[:-1], WHOLE, quirk, syntax=IMPLICIT)
        elements = explicit(0x00080016, "UI", b"1.2.") + explicit(0x00080018, "UI", b"1.2.3\0")
        head = attrs.evolve(NOTHING, SOPClassUID="1.2.", SOPInstanceUID="1.2.3")
        self.assertRead(elements[:-1], WHOLE, quirk, head=head)

    def test_padByteOfAFragmentMissing(self) -> None:
        data = BODY + explicit(0x7FE00010, "OB", item(b"") + item(PIXELS), UNDEFINED)
        self.assertRead(
            data[:-1], UNCHECKED, "last value without its pad byte", "sequence delimiter missing", syntax=JPEG_BASELINE
        )

    def test_undefinedLengths(self) -> None:
        """Sequences and items of defined and of undefined length, in one another."""
        inner = sequence(0x00081140, item(BODY), openItem(BODY), item(b""), openItem(b""))
        outer = sequence(0x00081115, openItem(inner + BODY + inner), item(inner), openItem(inner))
        self.assertRead(BODY[:12] + outer + BODY[12:] + sequence(0x00400260) + outer)

    def test_undefinedLengthsInImplicitVR(self) -> None:
        inner = implicit(0x00081140, openItem(IMPLICIT_BODY) + item(IMPLICIT_BODY), UNDEFINED) + SEQUENCE_END
        outer = implicit(0x00081115, openItem(inner + inner) + item(inner), UNDEFINED) + SEQUENCE_END
        self.assertRead(IMPLICIT_BODY[:12] + outer + IMPLICIT_BODY[12:] + outer, syntax=IMPLICIT)

    def test_undefinedLengthsInBigEndian(self) -> None:
        content = implicit(0xFFFEE000, BIG_BODY, UNDEFINED, ">") + implicit(0xFFFEE00D, order=">")
        content += implicit(0xFFFEE000, BIG_BODY, None, ">") + implicit(0xFFFEE0DD, order=">")
        self.assertRead(
            BIG_BODY + explicit(0x00400260, "SQ", content, UNDEFINED, ">") + BIG_PLAIN[-18:], syntax=BIG_ENDIAN
        )

    def test_unknownVRSequence(self) -> None:
        """UN of undefined length is implicit VR little endian inside, whatever the syntax, and ends there."""
        inside = openItem(IMPLICIT_BODY + implicit(0x00081140, openItem(IMPLICIT_BODY), UNDEFINED) + SEQUENCE_END)
        self.assertRead(BODY + explicit(0x00091002, "UN", inside, UNDEFINED) + SEQUENCE_END + PLAIN[len(BODY) :])
        big = explicit(0x00091002, "UN", inside, UNDEFINED, ">") + SEQUENCE_END
        self.assertRead(BIG_BODY + big + BIG_PLAIN[len(BIG_BODY) :], syntax=BIG_ENDIAN)
        nested = sequence(0x00400260, openItem(explicit(0x00091002, "UN", inside, UNDEFINED) + SEQUENCE_END + BODY))
        self.assertRead(BODY + nested)

    def test_fragments(self) -> None:
        """Fragments are passed by their lengths, whatever looks like a delimiter in them."""
        for VR in ("OB", "OW", "UN", "OX"):
            pixels = item(b"") + item(SEQUENCE_END * 3 + b"\xff\xd9") + item(ITEM_END)
            data = BODY + explicit(0x7FE00010, VR, pixels, UNDEFINED) + SEQUENCE_END + explicit(0x7FE10010, "LO", b"x ")
            self.assertRead(data, WHOLE, *(["unknown VR"] if VR == "OX" else []), syntax=JPEG_BASELINE)

    def test_fragmentsElsewhere(self) -> None:
        """Also of other elements, and in an icon within a sequence."""
        pixels = item(b"") + item(SEQUENCE_END)
        icon = explicit(0x7FE00010, "OB", pixels, UNDEFINED) + SEQUENCE_END
        data = (
            BODY + explicit(0x00420011, "OB", pixels, UNDEFINED) + SEQUENCE_END + sequence(0x00880200, openItem(icon))
        )
        self.assertRead(data)

    def test_unknownVRs(self) -> None:
        """Two capitals have a long length, other printable VRs a short one, and what has none has an implicit one."""
        behind = explicit(0x00400555, "LO", b"x ")
        self.assertRead(BODY + explicit(0x00400554, "OX", b"1234") + behind, WHOLE, "unknown VR")
        for code in (b"??", b"  ", b"a1", b"Oa", b"1A"):
            self.assertRead(BODY + explicit(0x00400554, code, b"1234") + behind, WHOLE, "unknown VR")
        data = BODY + implicit(0x00400554, b"1234") + behind
        self.assertRead(data, WHOLE, "implicit VR element in explicit VR")
        data = BODY + implicit(0x00400554, openItem(IMPLICIT_BODY), UNDEFINED) + SEQUENCE_END + behind
        self.assertRead(data, WHOLE, "implicit VR element in explicit VR")

    def test_everyVR(self) -> None:
        for VR in "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split():  # noqa: SIM905 - as PS3.5 lists them
            for length in (0, 2, 64, 66, 300):
                head = read(EXPLICIT, [BODY + explicit(0x00400554, VR, bytes(length)) + PLAIN[len(BODY) :]])
                self.assertEqual((head.wholeness, head.quirks), (WHOLE, ()), VR)
        for VR in LONG_VRS[:-1]:
            for length in (0, 2, 64, 66, 0x10000):
                head = read(EXPLICIT, [BODY + explicit(0x00400554, VR, bytes(length)) + PLAIN[len(BODY) :]])
                self.assertEqual((head.wholeness, head.quirks), (WHOLE, ()), VR)

    def test_implicitInAnExplicitSyntax(self) -> None:
        self.assertRead(IMPLICIT_PLAIN, WHOLE, "implicit VR in an explicit VR syntax")

    def test_explicitInAnImplicitSyntax(self) -> None:
        self.assertRead(PLAIN, WHOLE, "explicit VR in an implicit VR syntax", syntax=IMPLICIT)

    def test_bigEndianInALittleEndianSyntax(self) -> None:
        """Such a file could not be read again: its UIDs are not found."""
        for syntax in (EXPLICIT, IMPLICIT):
            self.assertIs(read(syntax, [BIG_PLAIN]).wholeness, BROKEN)

    def test_oddLengths(self) -> None:
        self.assertRead(BODY + explicit(0x00400554, "LO", b"abc") + PLAIN[len(BODY) :], WHOLE, "odd length")
        head = attrs.evolve(HEAD, PatientID="X" * 7)
        data = explicit(0x00100020, "LO", b"X" * 7) + BODY.replace(explicit(0x00100020, "LO", b" A\xc4\\172 "), b"")
        self.assertRead(data, WHOLE, "odd length", head=head)

    def test_everyOddLength(self) -> None:
        for length in range(1, 70, 2):
            odd = explicit(0x00400554, "LO", b"x" * length)
            head = read(EXPLICIT, [BODY + odd + PLAIN[len(BODY) :]])
            self.assertEqual((head.wholeness, head.quirks), (WHOLE, ("odd length",)))

    def test_paddedOddLengths(self) -> None:
        """Where the pad byte is not counted the walk goes astray, but refuses nothing for it."""
        head = read(EXPLICIT, [BODY + explicit(0x00400554, "LO", b"abc") + b" " + PLAIN[len(BODY) :]])
        self.assertIs(head.wholeness, UNCHECKED)
        self.assertEqual(head.SOPInstanceUID, "1.2.3.4.5")
        self.assertRead(BODY + explicit(0x00400554, "LO", b"abc") + b"\0", WHOLE, "odd length", "trailing padding")

    def test_trailingZeros(self) -> None:
        for count in (*range(1, 18), 1000):
            self.assertRead(PLAIN + bytes(count), WHOLE, "trailing padding")
            self.assertRead(IMPLICIT_PLAIN + bytes(count), WHOLE, "trailing padding", syntax=IMPLICIT)
        self.assertRead(BIG_PLAIN + bytes(9), WHOLE, "trailing padding", syntax=BIG_ENDIAN)

    def test_bytesAfterTrailingZeros(self) -> None:
        self.assertRead(PLAIN + bytes(20) + b"\x01", UNCHECKED, "trailing padding", "bytes after trailing padding")

    def test_trailingBytes(self) -> None:
        for rest in (b"\x01", b"\0\0\0\0\0\0\x01", explicit(0x7FE10010, "OB", b"")[:9]):
            self.assertRead(PLAIN + rest, UNCHECKED, "ends inside a header")

    def test_trailingPadding(self) -> None:
        """Data Set Trailing Padding, however long it says it is."""
        for padding in (
            explicit(0xFFFCFFFC, "OB", bytes(50)),
            explicit(0xFFFCFFFC, "OB", bytes(50), 0x10000),
            explicit(0xFFFCFFFC, "OB", bytes(50), UNDEFINED),
            explicit(0xFFFCFFFC, "OB", b"\xff" * 50, 10),
        ):
            self.assertRead(PLAIN + padding, WHOLE, "trailing padding")
        self.assertRead(IMPLICIT_PLAIN + implicit(0xFFFCFFFC, bytes(9)), WHOLE, "trailing padding", syntax=IMPLICIT)

    def test_sequenceDelimiterMissing(self) -> None:
        data = BODY + sequence(0x00400260, openItem(BODY))
        self.assertRead(data[:-8], UNCHECKED, "sequence delimiter missing")
        self.assertRead(data[:-16], UNCHECKED, "sequence delimiter missing")
        self.assertRead(data[:-18], UNCHECKED, "ends inside a value", "sequence delimiter missing")
        self.assertRead(data[:-4], UNCHECKED, "ends inside a header", "sequence delimiter missing")
        pixels = BODY + explicit(0x7FE00010, "OB", item(b"") + item(PIXELS), UNDEFINED)
        self.assertRead(pixels, UNCHECKED, "sequence delimiter missing", syntax=JPEG_BASELINE)

    def test_nestedFragmentCut(self) -> None:
        """Only what is cut at the top level is certain."""
        pixels = explicit(0x7FE00010, "OB", item(b"") + item(PIXELS), UNDEFINED)
        data = BODY + explicit(0x00880200, "SQ", item(pixels, UNDEFINED), UNDEFINED)
        self.assertRead(data[:-3], UNCHECKED, "ends inside a value", "sequence delimiter missing")

    def test_zerosInASequence(self) -> None:
        data = BODY + explicit(0x00400260, "SQ", openItem(BODY), UNDEFINED)
        for count in (1, 7):
            self.assertRead(data + bytes(count), UNCHECKED, "ends inside a header", "sequence delimiter missing")
        self.assertRead(data + bytes(8), UNCHECKED, "neither item nor delimiter in a sequence")

    def test_sequenceDelimiterMissingBeforeAnElement(self) -> None:
        data = BODY + explicit(0x00400260, "SQ", openItem(BODY), UNDEFINED) + PLAIN[len(BODY) :]
        self.assertRead(data, UNCHECKED, "neither item nor delimiter in a sequence")

    def test_delimitersExchanged(self) -> None:
        data = BODY + explicit(0x00400260, "SQ", item(BODY, UNDEFINED), UNDEFINED)
        quirk = "sequence delimiter in place of an item delimiter"
        self.assertRead(data + SEQUENCE_END + openItem(BODY) + SEQUENCE_END + PLAIN[len(BODY) :], WHOLE, quirk)
        self.assertRead(data + SEQUENCE_END + PLAIN, UNCHECKED, quirk, "neither item nor delimiter in a sequence")
        self.assertRead(data + ITEM_END + ITEM_END + PLAIN, UNCHECKED, "neither item nor delimiter in a sequence")

    def test_delimiterWithALength(self) -> None:
        for length in (2, 0x4F42, 0x49550000, UNDEFINED):
            for end, last in [
                (implicit(0xFFFEE00D, b"", length), SEQUENCE_END),
                (ITEM_END, implicit(0xFFFEE0DD, b"", length)),
            ]:
                data = BODY + explicit(0x00400260, "SQ", item(BODY, UNDEFINED) + end, UNDEFINED) + last
                self.assertRead(data + PLAIN[len(BODY) :], WHOLE, "delimiter with a length")

    def test_delimiterOutside(self) -> None:
        for end in (SEQUENCE_END, ITEM_END):
            data = BODY + end + PLAIN[len(BODY) :]
            self.assertRead(data, WHOLE, "delimiter outside of a sequence")
        self.assertRead(BODY + item(BODY), UNCHECKED, "tag out of place")

    def test_itemLengthWrong(self) -> None:
        inner = explicit(0x00400554, "LO", b"x" * 16)
        short = BODY + explicit(0x00400260, "SQ", item(inner * 2, 24), UNDEFINED) + SEQUENCE_END
        self.assertRead(short + PLAIN[len(BODY) :], UNCHECKED, "neither item nor delimiter in a sequence")
        long = BODY + explicit(0x00400260, "SQ", item(inner * 2, 72), UNDEFINED) + SEQUENCE_END
        self.assertRead(long, UNCHECKED, "ends inside a value", "sequence delimiter missing")
        defined = BODY + explicit(0x00400260, "SQ", item(inner * 2, 24)) + PLAIN[len(BODY) :]
        self.assertRead(defined)

    def test_fragmentOfUndefinedLength(self) -> None:
        data = BODY + explicit(0x7FE00010, "OB", openItem(PIXELS), UNDEFINED) + SEQUENCE_END
        self.assertRead(data, UNCHECKED, "fragment of undefined length")

    def test_definedPixelDataInAnEncapsulatedSyntax(self) -> None:
        quirk = "Pixel Data of defined length in an encapsulated syntax"
        self.assertRead(PLAIN, WHOLE, quirk, syntax=JPEG_BASELINE)
        self.assertRead(PLAIN[:-3], UNCHECKED, quirk, "ends inside a value", syntax=JPEG_BASELINE)
        table = explicit(0x7FE00001, "OV", bytes(8))
        pixels = explicit(0x7FE00010, "OB", item(b"") + item(PIXELS), UNDEFINED) + SEQUENCE_END
        icon = sequence(0x00880200, openItem(PLAIN[len(BODY) :]))
        self.assertRead(BODY + icon + table + pixels, syntax=JPEG_BASELINE)

    def test_guessesRefuseNothing(self) -> None:
        """After a step that was a guess the walk may have lost its way, and what it meets proves nothing."""
        guess = explicit(0x00400554, "??", b"1234")
        self.assertRead(BODY + guess + PLAIN[len(BODY) : -3], UNCHECKED, "unknown VR", "ends inside a value")
        for tag in (0x00020010, 0x00000100):
            self.assertRead(BODY + guess + explicit(tag, "UI", b"1."), UNCHECKED, "unknown VR", "tag out of place")

    def test_illegalGroups(self) -> None:
        """Odd tags are elements like others, but for those from FFFD on."""
        for tag in (0x00010010, 0x00030010, 0x00050010, 0x00070010, 0xFF000010):
            self.assertRead(BODY + explicit(tag, "LO", b"x ") + PLAIN[len(BODY) :])
        for tag in (0xFFFC0000, 0xFFFD0010, 0xFFFEE001, 0xFFFF0010, 0xFFFFFFFF):
            self.assertRead(BODY + explicit(tag, "LO", b"x "), UNCHECKED, "tag out of place")
            if tag > 0xFFFE0000:
                data = BODY + sequence(0x00400260, openItem(explicit(tag, "LO", b"x ")))
                self.assertRead(data, UNCHECKED, "tag out of place")


class DeflatedTests(DataSetTestCase):
    def test_padding(self) -> None:
        """One NUL pads to an even length."""
        self.assertRead(deflated(PLAIN) + b"\0", syntax=DEFLATED)

    def test_trailingBytes(self) -> None:
        quirk = "bytes after the deflated stream"
        for rest in (b"\x01", b"\0\0", b"\0" + bytes(range(16)), b"\xff" * 17):
            self.assertRead(deflated(PLAIN) + rest, WHOLE, quirk, syntax=DEFLATED)
        for rest in (bytes(18), b"x" * 100):
            self.assertRead(deflated(PLAIN) + rest, UNCHECKED, quirk, syntax=DEFLATED)

    def test_wrapped(self) -> None:
        quirk = "zlib or gzip header before the deflated stream"
        self.assertRead(zlib.compress(PLAIN), WHOLE, quirk, syntax=DEFLATED)
        self.assertRead(zlib.compress(PLAIN, 0), WHOLE, quirk, syntax=DEFLATED)
        self.assertRead(gzip.compress(PLAIN), WHOLE, quirk, syntax=DEFLATED)

    def test_stored(self) -> None:
        compressor = zlib.compressobj(0, zlib.DEFLATED, -15)
        self.assertRead(compressor.compress(PLAIN) + compressor.flush(), syntax=DEFLATED)

    def test_cut(self) -> None:
        data = deflated(PLAIN)
        for length in range(1, len(data)):
            head = read(DEFLATED, [data[:length]])
            self.assertEqual((head.wholeness, head.defect), (BROKEN, "the deflated stream is cut"), str(length))
        self.assertRead(data[:-1], BROKEN, syntax=DEFLATED, defect="the deflated stream is cut")

    def test_corrupt(self) -> None:
        data = deflated(PLAIN[:12] + random.Random(2).randbytes(1000))
        head = read(DEFLATED, [b"\xff" + data[1:]])
        self.assertEqual((head.wholeness, head.defect), (BROKEN, "the deflated stream is corrupt"))
        corrupt = zlib.compress(PLAIN)[:-1] + b"\x01"
        head = read(DEFLATED, [corrupt])
        self.assertEqual((head.wholeness, head.defect), (BROKEN, "the deflated stream is corrupt"))

    def test_corruptWhereNothingIsChecked(self) -> None:
        """That the stream is whole is certain also where the walk over the data set has stopped."""
        data = zlib.compress(BODY + item(b"") + random.Random(3).randbytes(200_000))
        self.assertIs(read(DEFLATED, [data]).wholeness, UNCHECKED)
        self.assertIs(read(DEFLATED, [data[:-4] + b"junk"]).wholeness, BROKEN)
        self.assertIs(read(DEFLATED, [data[:-4]]).wholeness, BROKEN)

    def test_notDeflated(self) -> None:
        self.assertIs(read(DEFLATED, [PLAIN]).wholeness, BROKEN)

    def test_large(self) -> None:
        """Data that inflates to many blocks, in chunks of any size."""
        noise = random.Random(5).randbytes(300_000)
        data = BODY + explicit(0x7FE00010, "OW", bytes(500_000) + noise + bytes(200_000))
        packed = deflated(data)
        for size in (7, 1000, 65536, 1 << 20):
            chunks = [packed[start : start + size] for start in range(0, len(packed), size)]
            self.assertEqual(read(DEFLATED, chunks), attrs.evolve(HEAD, size=len(packed)))

    def test_bomb(self) -> None:
        """A stream that inflates to more than any data set does is inflated no further, and not in memory."""
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = compressor.compress(BODY + explicit(0x7FE00010, "OB", b"", 0x7FFFFFF0))
        zeros = bytes(1 << 20)
        for _ in range(64):
            packed += compressor.compress(zeros)
        packed += compressor.flush()
        self.assertLess(len(packed), 100_000)
        expected = attrs.evolve(HEAD, size=len(packed), wholeness=UNCHECKED, quirks=("inflates beyond the limit",))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(read(DEFLATED, [packed]), expected)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)
        self.assertEqual(read(DEFLATED, [packed[:1], packed[1:5], packed[5:]]), expected)

    def test_elementBomb(self) -> None:
        """What inflates to more tiny elements than are worth walking is inflated, but walked no further."""
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = compressor.compress(BODY)
        for _ in range(64):
            packed += compressor.compress(explicit(0x00290010, "LO", b"") * 8192)
        packed += compressor.flush()
        self.assertLess(len(packed), 20_000)
        expected = attrs.evolve(
            HEAD, size=len(packed), wholeness=UNCHECKED, quirks=("deflated elements beyond the limit",)
        )
        self.assertEqual(read(DEFLATED, [packed]), expected)
        self.assertEqual(read(DEFLATED, [packed[:1], packed[1:5], packed[5:]]), expected)
        self.assertEqual(read(DEFLATED, [packed[:-5]]).wholeness, BROKEN)

    def test_repetitive(self) -> None:
        """What inflates well, but not beyond measure, is checked to its end."""
        packed = deflated(BODY + explicit(0x7FE00010, "OB", bytes(15 << 20)))
        self.assertEqual(read(DEFLATED, [packed]), attrs.evolve(HEAD, size=len(packed)))


class BoundsTests(DataSetTestCase):
    def peakOf(self, data: bytes, size: int) -> tuple[Head, int]:
        """The head of the data in chunks of a size, and the most memory that reading it took."""
        reader = DataSetReader(EXPLICIT)
        view = memoryview(data)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for start in range(0, len(data), size):
            reader.feed(view[start : start + size])
        head = reader.finish()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return head, peak

    def test_aMillionElements(self) -> None:
        tiny = b"".join(explicit(0x00290000 + number, "CS", b"ab") for number in range(0x10000)) * 16
        head, peak = self.peakOf(BODY + tiny, 65536)
        self.assertEqual(head, attrs.evolve(HEAD, size=len(BODY + tiny)))
        self.assertLess(peak, 100_000)

    def test_aHundredThousandLevels(self) -> None:
        start = explicit(0x00400260, "SQ", b"", UNDEFINED) + item(b"", UNDEFINED)
        head, peak = self.peakOf(BODY + start * 100_000, 65536)
        self.assertEqual(head.defect, "sequences more than 64 deep")
        self.assertLess(peak, 100_000)

    def test_aHundredThousandItems(self) -> None:
        items = openItem(explicit(0x00400554, "LO", b"x ")) * 100_000
        head, peak = self.peakOf(BODY + sequence(0x00400260, items), 65536)
        self.assertIs(head.wholeness, WHOLE)
        self.assertLess(peak, 100_000)

    def test_aLongName(self) -> None:
        """A name of a megabyte and a million backslashes are let pass."""
        data = BODY + explicit(0x00400554, "UT", b"\\" * 1_000_000) + explicit(0x00400555, "UC", b"x" * 1_000_000)
        head, peak = self.peakOf(data, 65536)
        self.assertEqual(head, attrs.evolve(HEAD, size=len(data)))
        self.assertLess(peak, 100_000)

    def test_aLongWantedValue(self) -> None:
        """Of a head value only so much is kept, byte by byte too."""
        long = explicit(0x00100020, "UN", b"x" * 1_000_000)
        data = explicit(0x00080016, "UI", b"1.") + explicit(0x00080018, "UI", b"2.") + long
        for size in (1, 1000, 1 << 20):
            head, peak = self.peakOf(data[:20_000] if size == 1 else data, size)
            self.assertEqual(head.PatientID, "x" * 1024)
            self.assertLess(peak, 100_000)


def dataSetOf(filename: str) -> tuple[str, bytes]:
    """Transfer syntax and data set of a file, as they would come in an association."""
    with open(filename, "rb") as file:
        content = file.read()
    dataSet = pydicom.dcmread(filename, force=True, stop_before_pixels=True)
    position = 132 if content[128:132] == b"DICM" else 0
    while content[position : position + 2] == b"\x02\x00":
        long = content[position + 4 : position + 6] in (b"OB", b"UN")
        (length,) = struct.unpack_from("<I" if long else "<H", content, position + (8 if long else 6))
        position += length + (12 if long else 8)
    implicitVR, littleEndian = dataSet.original_encoding
    guessed = IMPLICIT if implicitVR else EXPLICIT if littleEndian else BIG_ENDIAN
    return dataSet.file_meta.get("TransferSyntaxUID", guessed), content[position:]


class RealFilesTests(DataSetTestCase):
    """The files that come with pydicom."""

    root = os.path.join(os.path.dirname(pydicom.__file__), "data", "test_files")

    #: Those that were cut on purpose.
    CUT = {
        "MR_truncated.dcm": "value of (7FE0,0010) cut by 62 bytes",
        "rtplan_truncated.dcm": "value of (300A,00B0) cut by 265 bytes",
    }

    def compare(self, name: str, filename: str) -> bool:
        """Compare with what pydicom reads; False where it is no object."""
        try:
            dataSet = pydicom.dcmread(filename, force=True, stop_before_pixels=True)
        except Exception:
            return False  # icons, texts, and what lacks half a header
        if "SOPClassUID" not in dataSet or "SOPInstanceUID" not in dataSet:
            return False
        syntax, data = dataSetOf(filename)
        head = read(syntax, [data])
        for keyword in KEYWORDS:
            raw = dataSet.get_item(keyword)
            value = b"" if raw is None or raw.value is None else raw.value
            if not isinstance(value, bytes):
                value = str(value).encode("latin-1")
            self.assertEqual(getattr(head, keyword), value.rstrip(b"\0 ").decode("latin-1"), f"{name} {keyword}")
        expected = (BROKEN, self.CUT[name]) if name in self.CUT else (WHOLE, "")
        self.assertEqual((head.wholeness, head.defect), expected, name)
        self.assertEqual(head.size, len(data))
        for chunks in [*seededCuts(data, 5, len(data)), [data[i : i + 1] for i in range(min(len(data), 50_000))]]:
            if sum(map(len, chunks)) == len(data):
                self.assertEqual(read(syntax, chunks), head, name)
        return True

    def test_attributesAndWholeness(self) -> None:
        compared = [
            name
            for directory, _, names in os.walk(self.root)
            for name in names
            if self.compare(name, os.path.join(directory, name))
        ]
        self.assertGreater(len(compared), 100)
        self.assertTrue(set(self.CUT) <= set(compared))
        self.flushWarnings()  # pydicom's, of what is odd in some


class CutFilesTests(SynchronousTestCase):
    """How much of what is cut short is found out: the README says so."""

    def shares(self, name: str, step: int) -> dict[str, float]:
        """Cut a file at every C{step}th byte of its data set, and return how often what came of it."""
        syntax, data = dataSetOf(os.path.join(RealFilesTests.root, name))
        of = Counter[str]()
        for end in range(0, len(data), step):
            head = read(syntax, [data[:end]])
            of["refused" if head.wholeness is BROKEN else "counted" if head.quirks else "nothing"] += 1
        self.flushWarnings()
        return {name: round(100 * times / of.total(), 1) for name, times in of.items()}

    def test_image(self) -> None:
        self.assertEqual(self.shares("CT_small.dcm", 7), {"refused": 93.8, "counted": 5.4, "nothing": 0.7})

    def test_structuredReport(self) -> None:
        """One sequence of undefined length: what is inside it may lack its end in objects that are whole."""
        self.assertEqual(self.shares("reportsi.dcm", 1), {"refused": 17.4, "counted": 81.6, "nothing": 1.1})


SAMPLES = [
    (EXPLICIT, PLAIN),
    (IMPLICIT, IMPLICIT_PLAIN),
    (BIG_ENDIAN, BIG_PLAIN),
    (DEFLATED, deflated(PLAIN)),
    (DEFLATED, zlib.compress(PLAIN)),
    (UNKNOWN, PLAIN),
    (
        JPEG_BASELINE,
        BODY[:44]
        + sequence(0x00081115, openItem(sequence(0x00081140, openItem(BODY), item(BODY))), item(b""))
        + BODY[44:]
        + explicit(0x00091002, "UN", openItem(IMPLICIT_BODY), UNDEFINED)
        + SEQUENCE_END
        + explicit(0x7FE00010, "OB", item(b"") + item(PIXELS) + item(PIXELS), UNDEFINED)
        + SEQUENCE_END
        + explicit(0xFFFCFFFC, "OB", bytes(6)),
    ),
    (
        IMPLICIT,
        IMPLICIT_BODY + implicit(0x00400260, openItem(IMPLICIT_BODY) + item(IMPLICIT_BODY), UNDEFINED) + SEQUENCE_END,
    ),
]
BLOCKS = [
    *(explicit(*element) for element in ELEMENTS),
    *(implicit(tag, value) for tag, VR, value in ELEMENTS[:4]),
    explicit(0x00400260, "SQ", b"", UNDEFINED),
    explicit(0x00091002, "UN", b"", UNDEFINED),
    explicit(0x7FE00010, "OB", b"", UNDEFINED),
    explicit(0x00400554, "LO", b"odd"),
    explicit(0x00400554, "OX", b"123456"),
    explicit(0x00400554, "UT", b"x" * 100),
    explicit(0x00400554, "??", b"12"),
    explicit(0x00100020, "LO", b"x" * 1100),
    item(b"", UNDEFINED),
    item(BODY[:30]),
    ITEM_END,
    SEQUENCE_END,
    implicit(0xFFFEE0DD, b"", 6),
    explicit(0xFFFCFFFC, "OB", bytes(6)),
    explicit(0x00020010, "UI", b"1."),
    bytes(7),
    bytes(8),
]


class ArbitraryDataTests(SynchronousTestCase):
    """Whatever comes, nothing is raised, and how it was cut makes no difference."""

    def assertSame(self, one: Head, other: Head) -> None:
        """The same was read; of a corrupt stream zlib tells more or less of what came before, depending on cuts."""
        if "the deflated stream is corrupt" in (one.defect, other.defect):
            self.assertEqual((one.wholeness, one.size), (other.wholeness, other.size))
        else:
            self.assertEqual(one, other)

    def check(self, syntax: str, data: bytes, cuts: list[int]) -> None:
        head = read(syntax, [data])
        self.assertEqual(head.size, len(data))
        self.assertEqual(head.wholeness is BROKEN, head.defect != "")
        self.assertSame(read(syntax, [data[i : i + 1] for i in range(len(data))]), head)
        self.assertSame(read(syntax, cutAt(data, *sorted(min(cut, len(data)) for cut in cuts))), head)

    cuts = st.lists(st.integers(0, 2000), max_size=8)
    syntaxes = st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, UNKNOWN, JPEG_BASELINE, ""])
    steady = settings(deadline=None, database=None, derandomize=True, max_examples=300)

    @steady
    @given(syntaxes, st.binary(max_size=600), st.sampled_from([b"", BODY, IMPLICIT_BODY, BIG_BODY]), cuts)
    def test_noise(self, syntax: str, noise: bytes, before: bytes, cuts: list[int]) -> None:
        self.check(syntax, before + noise, cuts)

    @steady
    @given(syntaxes, st.lists(st.sampled_from(BLOCKS), max_size=12), st.booleans(), cuts)
    def test_blocks(self, syntax: str, blocks: list[bytes], withBody: bool, cuts: list[int]) -> None:
        data = BODY * withBody + b"".join(blocks)
        self.check(syntax, data, cuts)
        self.check(DEFLATED, deflated(data), cuts)

    @steady
    @given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), cuts)
    def test_damage(self, sample: tuple[str, bytes], damage: list[tuple[int, int]], cuts: list[int]) -> None:
        syntax, data = sample
        damaged = bytearray(data)
        for position, value in damage:
            damaged[position % len(data)] = value
        self.check(syntax, bytes(damaged), cuts)

    def test_everyByteDamaged(self) -> None:
        for syntax, data in SAMPLES:
            for position in range(len(data)):
                damaged = bytearray(data)
                for value in (0, 0xFF, damaged[position] ^ 1):
                    damaged[position] = value
                    now = bytes(damaged)
                    head = read(syntax, [now])
                    self.assertSame(read(syntax, cutAt(now, position // 2, position, position + 1)), head)
