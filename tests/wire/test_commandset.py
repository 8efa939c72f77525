"""
Command sets as bytes and as raw values, both ways.
"""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.commandset import decodeCommandSet, encodeCommandSet, firstUS

# A C-ECHO request as DCMTK sends it.
ECHO_BYTES = bytes.fromhex(
    "0000 0000 04000000 38000000"
    "0000 0200 12000000 312E322E3834302E31303030382E312E3100"
    "0000 0001 02000000 3000"
    "0000 1001 02000000 0100"
    "0000 0008 02000000 0101"
)
ECHO = {
    0x0000: b"\x38\0\0\0",
    0x0002: b"1.2.840.10008.1.1\0",
    0x0100: b"\x30\0",
    0x0110: b"\1\0",
    0x0800: b"\1\1",
}


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


class DecodeTests(SynchronousTestCase):
    """`decodeCommandSet`"""

    def test_row(self) -> None:
        for kind in (bytes, bytearray, memoryview):
            self.assertEqual(decodeCommandSet(kind(ECHO_BYTES)), ECHO)

    def test_valuesAreCopies(self) -> None:
        buffer = bytearray(ECHO_BYTES)
        elements = decodeCommandSet(memoryview(buffer))
        buffer[:] = b""
        self.assertEqual(elements, ECHO)
        self.assertEqual({type(value) for value in elements.values()}, {bytes})

    def test_groupLength(self) -> None:
        """Missing, wrong, at the end, of no length: all the same."""
        for head in (
            b"",
            element(0, b""),
            element(0, b"\xff\xff\xff\xff"),
            element(0x100, b"\x30\0") + element(0, b"\0\0\0\0"),
        ):
            elements = decodeCommandSet(head + ECHO_BYTES[12:])
            elements.pop(0, None)
            self.assertEqual(elements, {number: ECHO[number] for number in ECHO if number})

    def test_anyOrder(self) -> None:
        """The order they came in is kept."""
        elements = decodeCommandSet(element(0x800, b"\1\1") + element(0x100, b"\x30\0"))
        self.assertEqual(list(elements.items()), [(0x800, b"\1\1"), (0x100, b"\x30\0")])

    def test_firstWins(self) -> None:
        for first in (b"\1\0", b""):
            elements = decodeCommandSet(element(0x110, first) + element(0x110, b"\2\0"))
            self.assertEqual(elements, {0x110: first})

    def test_anyElement(self) -> None:
        """Retired elements, empty ones, odd lengths."""
        elements = decodeCommandSet(element(0x5110, b"retired") + element(0xFFFF, b""))
        self.assertEqual(elements, {0x5110: b"retired", 0xFFFF: b""})

    def assertMalformed(self, data: bytes) -> None:
        error = self.assertRaises(RemoteProtocolError, decodeCommandSet, data)
        self.assertEqual((error.abortSource, error.abortReason), (2, 6))

    def test_empty(self) -> None:
        self.assertMalformed(b"")

    def test_lengthPastTheEnd(self) -> None:
        for length in (3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF):
            self.assertMalformed(struct.pack("<HHI", 0, 0x100, length) + b"\x30\0")
            self.assertMalformed(struct.pack("<HHI", 0, 0x100, length) + ECHO_BYTES[:2])

    def test_otherGroups(self) -> None:
        for group in (0x0002, 0x0008, 0x0100, 0xFFFE):
            self.assertMalformed(ECHO_BYTES + element(0x0100, b"\x30\0", group))
            self.assertMalformed(element(0x0100, b"\x30\0", group) + ECHO_BYTES)

    def test_bigEndian(self) -> None:
        self.assertMalformed(struct.pack(">HHI", 0, 0x0002, 18) + b"1.2.840.10008.1.1\0")

    def test_explicitVR(self) -> None:
        self.assertMalformed(bytes.fromhex("0000 0000 554C 0400 38000000 0000 0200 5549 1200") + b"1." * 9)

    def test_strayBytes(self) -> None:
        for length in range(1, 8):
            self.assertMalformed(ECHO_BYTES + bytes(length))
            self.assertMalformed(bytes(length))

    def test_truncated(self) -> None:
        """Only a cut between two elements leaves a command set."""
        ends = {12, 38, 48, 58, 68}
        for cut in range(len(ECHO_BYTES)):
            if cut in ends:
                decodeCommandSet(ECHO_BYTES[:cut])
            else:
                self.assertMalformed(ECHO_BYTES[:cut])

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=5)), min_size=1, max_size=9),
        st.binary(max_size=12),
    )
    def test_anyBytes(self, pairs: list[tuple[int, bytes]], tail: bytes) -> None:
        """The first of each element, or RemoteProtocolError for a tail that is none."""
        data = b"".join(element(*pair) for pair in pairs)
        self.assertEqual(decodeCommandSet(data), dict(reversed(pairs)))
        try:
            elements = decodeCommandSet(data + tail)
        except RemoteProtocolError as error:
            self.assertEqual(error.abortReason, 6)
        else:
            self.assertEqual(elements | dict(reversed(pairs)), elements)


class EncodeTests(SynchronousTestCase):
    """`encodeCommandSet`"""

    def test_row(self) -> None:
        self.assertEqual(encodeCommandSet(ECHO).hex(), ECHO_BYTES.hex())

    def test_groupLengthIsComputed(self) -> None:
        for elements in ({}, {0: b"\xff\xff\xff\xff"}, {0: b""}):
            self.assertEqual(encodeCommandSet(elements), bytes.fromhex("0000 0000 04000000 00000000"))

    def test_ascending(self) -> None:
        self.assertEqual(encodeCommandSet(dict(reversed(ECHO.items()))), ECHO_BYTES)

    def test_oddValues(self) -> None:
        self.assertEqual(
            encodeCommandSet({0x1000: b"1.2"}),
            bytes.fromhex("0000 0000 04000000 0C000000 0000 0010 04000000 312E3200"),
        )

    @settings(deadline=None)
    @given(st.dictionaries(st.integers(1, 0xFFFF), st.binary(max_size=9).map(lambda v: v * 2)))
    def test_roundTrip(self, elements: dict[int, bytes]) -> None:
        encoded = encodeCommandSet(elements)
        decoded = decodeCommandSet(encoded)
        self.assertEqual(decoded.pop(0), (len(encoded) - 12).to_bytes(4, "little"))
        self.assertEqual(list(decoded.items()), sorted(elements.items()))


class FirstUSTests(SynchronousTestCase):
    """`firstUS`"""

    def test_value(self) -> None:
        for raw, number in (
            (b"\0\0", 0),
            (b"\x34\x12", 0x1234),
            (b"\xff\xff", 0xFFFF),
            (b"\x34\x12\x78", 0x1234),
            (b"\x34\x12\x78\x56", 0x1234),
            (b"", None),
            (b"\x34", None),
        ):
            self.assertEqual(firstUS({0x110: raw}, 0x110), number)

    def test_missing(self) -> None:
        self.assertIs(firstUS({0x110: b"\1\0"}, 0x120), None)
