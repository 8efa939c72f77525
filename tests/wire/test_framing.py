"""
The framer: what it makes of a stream, whatever the cuts; its limits; what it lets go; how long it takes.
"""

from __future__ import annotations

import gc
import py_compile
import struct
from collections.abc import Callable
from importlib.machinery import SourcelessFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from sys import getrefcount
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted import errors
from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.framing import Framer, PDUBody, PDUHeader, PDVReceived
from tests.wire.cuts import cutAt, kept, merged, waysToCut

MIB = 1 << 20
MAXIMUM = 16384


def header(pduType: int, length: int) -> bytes:
    return struct.pack(">BxL", pduType, length)


def PDU(pduType: int, body: bytes) -> bytes:
    return header(pduType, len(body)) + body


def PDV(contextID: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">LBB", len(fragment) + 2, contextID, control) + fragment


def piece(contextID: int, isCommand: bool, isLast: bool, fragment: bytes) -> PDVReceived:
    return PDVReceived(contextID, isCommand, isLast, memoryview(fragment))


def body(pduType: int, content: bytes) -> PDUBody:
    return PDUBody(pduType, memoryview(content))


def taken(framer: Framer) -> list[object]:
    """Everything the framer gives now; an error stands as its source and reason."""
    items: list[object] = []
    while True:
        try:
            item = framer.next()
        except RemoteProtocolError as error:
            items.append((error.abortSource, error.abortReason))
        else:
            if item is None:
                return items
            items.append(kept(item))


def framed(chunks: list[bytes], maximumLength: int = MAXIMUM) -> list[object]:
    """What a new framer makes of chunks that are taken one after the other."""
    framer = Framer(maximumLength)
    items: list[object] = []
    for chunk in chunks:
        framer.feed(chunk)
        items += taken(framer)
    return items


RELEASE_RQ = PDU(5, bytes(4))
RELEASE_RQ_ITEMS: list[object] = [PDUHeader(5, 4), body(5, bytes(4))]
INVALID_PARAMETER = (2, 6)
UNRECOGNIZED = (2, 1)

#: Streams, and what they hold when they come in one chunk.
STREAMS: dict[str, tuple[bytes, list[object]]] = {
    "nothing": (b"", []),
    "one of each PDU with a body": (
        PDU(1, b"request") + PDU(2, b"accept") + PDU(3, b"rjct") + PDU(5, b"rlrq") + PDU(6, b"rlrp") + PDU(7, b"abrt"),
        [
            PDUHeader(1, 7), body(1, b"request"),
            PDUHeader(2, 6), body(2, b"accept"),
            PDUHeader(3, 4), body(3, b"rjct"),
            PDUHeader(5, 4), body(5, b"rlrq"),
            PDUHeader(6, 4), body(6, b"rlrp"),
            PDUHeader(7, 4), body(7, b"abrt"),
        ],
    ),
    "an empty body": (PDU(1, b"") + RELEASE_RQ, [PDUHeader(1, 0), body(1, b""), *RELEASE_RQ_ITEMS]),
    "a reserved byte that is not zero": (b"\x05\xff\0\0\0\4abcd", [PDUHeader(5, 4), body(5, b"abcd")]),
    "one PDV": (
        PDU(4, PDV(1, 3, b"command")) + RELEASE_RQ,
        [PDUHeader(4, 13), piece(1, True, True, b"command"), *RELEASE_RQ_ITEMS],
    ),
    "every control byte that means something": (
        PDU(4, PDV(1, 0, b"a")) + PDU(4, PDV(1, 2, b"b")) + PDU(4, PDV(3, 1, b"c")) + PDU(4, PDV(3, 3, b"d")),
        [
            PDUHeader(4, 7), piece(1, False, False, b"a"),
            PDUHeader(4, 7), piece(1, False, True, b"b"),
            PDUHeader(4, 7), piece(3, True, False, b"c"),
            PDUHeader(4, 7), piece(3, True, True, b"d"),
        ],
    ),
    "control bits that mean nothing": (
        PDU(4, PDV(255, 0xFC, b"ab") + PDV(0, 0xFF, b"cd")),
        [PDUHeader(4, 16), piece(255, False, False, b"ab"), piece(0, True, True, b"cd")],
    ),
    "several PDVs in one PDU, command and data": (
        PDU(4, PDV(1, 3, b"command") + PDV(1, 0, b"data") + PDV(1, 0, b" set") + PDV(1, 2, b"!")) + RELEASE_RQ,
        [
            PDUHeader(4, 40),
            piece(1, True, True, b"command"),
            piece(1, False, False, b"data"),
            piece(1, False, False, b" set"),
            piece(1, False, True, b"!"),
            *RELEASE_RQ_ITEMS,
        ],
    ),
    "an empty PDV": (
        PDU(4, PDV(1, 2, b"")) + RELEASE_RQ,
        [PDUHeader(4, 6), piece(1, False, True, b""), *RELEASE_RQ_ITEMS],
    ),
    "empty PDVs before, between and behind others": (
        PDU(4, PDV(1, 0, b"") + PDV(1, 0, b"ab") + PDV(1, 0, b"") + PDV(1, 0, b"") + PDV(1, 0, b"c") + PDV(1, 2, b"")),
        [
            PDUHeader(4, 39),
            piece(1, False, False, b""),
            piece(1, False, False, b"ab"),
            piece(1, False, False, b""),
            piece(1, False, False, b""),
            piece(1, False, False, b"c"),
            piece(1, False, True, b""),
        ],
    ),
    "PDUs that are not whole": (PDU(4, PDV(1, 0, b"ab")) + header(1, 500) + b"xyz", [
        PDUHeader(4, 8), piece(1, False, False, b"ab"), PDUHeader(1, 500),
    ]),
    "a PDV that is not whole": (
        header(4, 500) + struct.pack(">LBB", 496, 1, 2) + b"beginning",
        [PDUHeader(4, 500), piece(1, False, False, b"beginning")],
    ),
    "an unknown type behind a PDV": (
        PDU(4, PDV(1, 2, b"ab")) + header(8, 4) + RELEASE_RQ,
        [PDUHeader(4, 8), piece(1, False, True, b"ab"), UNRECOGNIZED],
    ),
    "stray bytes behind the last PDV": (
        header(4, 11) + PDV(1, 2, b"ab") + b"xyz" + RELEASE_RQ,
        [PDUHeader(4, 11), INVALID_PARAMETER],
    ),
}  # fmt: skip


class StreamTests(SynchronousTestCase):
    """Streams come out the same, however they are cut."""

    def test_whole(self) -> None:
        for name, (stream, expected) in STREAMS.items():
            self.assertEqual(framed([stream]), expected, name)

    def test_cut(self) -> None:
        for name, (stream, expected) in STREAMS.items():
            for way, chunks in waysToCut(stream):
                self.assertEqual(merged(framed(chunks)), merged(expected), f"{name}, {way}")

    def test_takenOnceAllIsFed(self) -> None:
        for name, (stream, expected) in STREAMS.items():
            for way, chunks in waysToCut(stream):
                framer = Framer(MAXIMUM)
                for chunk in chunks:
                    framer.feed(chunk)
                self.assertEqual(merged(taken(framer)), merged(expected), f"{name}, {way}")

    def test_fedWhileSomethingIsWaiting(self) -> None:
        """A chunk that comes when the first is used up, and a second one is not, comes behind the second."""
        framer = Framer(MAXIMUM)
        first, second, third = cutAt(PDU(4, PDV(1, 2, b"abcdef")), (14, 16))
        framer.feed(first)
        framer.feed(second)
        self.assertEqual(framer.next(), PDUHeader(4, 12))
        self.assertEqual(framer.next(), piece(1, False, False, b"ab"))
        framer.feed(third)
        self.assertEqual(taken(framer), [piece(1, False, False, b"cd"), piece(1, False, True, b"ef")])

    def test_piecesAreViewsOfTheChunk(self) -> None:
        """A fragment is not copied, whatever its size."""
        chunk = PDU(4, PDV(1, 2, bytes(10000)))
        framer = Framer(MAXIMUM)
        framer.feed(chunk)
        framer.next()
        pdv = framer.next()
        assert isinstance(pdv, PDVReceived)
        self.assertIs(pdv.view.obj, chunk)
        self.assertEqual(len(pdv.view), 10000)

    @given(st.data())
    @settings(deadline=None)
    def test_anything(self, data: st.DataObject) -> None:
        """Whatever comes: the same for any cuts, and nothing but RemoteProtocolError is raised."""
        stream = data.draw(streams)
        chunks = cutAt(stream, data.draw(st.sets(st.integers(0, len(stream)))))
        self.assertEqual(merged(framed(chunks)), merged(framed([stream])))


streams = st.lists(
    st.binary(max_size=20)
    | st.builds(PDU, st.sampled_from([1, 2, 4]), st.binary(max_size=20))
    | st.builds(PDU, st.sampled_from([3, 5, 6, 7]), st.binary(min_size=4, max_size=4))
    | st.builds(
        lambda pdvs: PDU(4, b"".join(pdvs)),
        st.lists(st.builds(PDV, st.integers(0, 255), st.integers(0, 3), st.binary(max_size=9)), min_size=1, max_size=4),
    ),
    max_size=8,
).map(b"".join)


class LimitTests(SynchronousTestCase):
    """Lengths and types are judged as soon as the header is there."""

    def judged(self, stream: bytes, maximumLength: int = MAXIMUM) -> object:
        """What comes of the last byte of this stream; nothing must come of it before that."""
        framer = Framer(maximumLength)
        framer.feed(stream[:-1])
        before = taken(framer)
        framer.feed(stream[-1:])
        items = taken(framer)
        self.assertEqual(before + items, framed([stream], maximumLength))
        self.assertEqual(len(items), 1)
        return items[0]

    def test_PData(self) -> None:
        rows = [
            (MAXIMUM, 0, False),
            (MAXIMUM, 1, False),
            (MAXIMUM, 5, False),
            (MAXIMUM, 6, True),
            (MAXIMUM, MAXIMUM, True),
            (MAXIMUM, MAXIMUM + 1, True),
            (MAXIMUM, MAXIMUM + MIB, True),
            (MAXIMUM, MAXIMUM + MIB + 1, False),
            (MAXIMUM, 0x80000000, False),
            (MAXIMUM, 0xFFFFFFFF, False),
            (8, 8 + MIB, True),
            (8, 9 + MIB, False),
            (0, 5, False),
            (0, 6, True),
            (0, 0xFFFFFFFF, True),
            (0xFFFFFFFF, 0xFFFFFFFF, True),
        ]
        for maximumLength, length, isTaken in rows:
            self.assertEqual(
                self.judged(header(4, length), maximumLength),
                PDUHeader(4, length) if isTaken else INVALID_PARAMETER,
                f"{length} with {maximumLength} advertised",
            )

    def test_associate(self) -> None:
        """A-ASSOCIATE PDUs have a limit of their own."""
        for pduType in (1, 2):
            self.assertEqual(self.judged(header(pduType, MIB)), PDUHeader(pduType, MIB))
            for length in (MIB + 1, 0x80000000, 0xFFFFFFFF):
                self.assertEqual(self.judged(header(pduType, length)), INVALID_PARAMETER, f"{pduType}, {length}")

    def test_largestAssociate(self) -> None:
        content = bytes(range(256)) * (MIB // 256)
        items = framed(cutAt(PDU(1, content), range(0, MIB, 60000)))
        self.assertEqual(items, [PDUHeader(1, MIB), body(1, content)])

    def test_fixedLength(self) -> None:
        for pduType in (3, 5, 6, 7):
            self.assertEqual(self.judged(header(pduType, 4)), PDUHeader(pduType, 4))
            for length in (0, 3, 5, 0xFFFFFFFF):
                self.assertEqual(self.judged(header(pduType, length)), INVALID_PARAMETER, f"{pduType}, {length}")

    def test_unknownTypes(self) -> None:
        for pduType in (0, *range(8, 256)):
            self.assertEqual(self.judged(header(pduType, 4)), UNRECOGNIZED, f"{pduType}")

    def test_otherProtocols(self) -> None:
        for stream in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3", b"SSH-2.0-x\r\n", bytes(1000)):
            self.assertEqual(framed([stream]), [UNRECOGNIZED], repr(stream))

    def test_TLS(self) -> None:
        """The most frequent of them is told by name."""
        framer = Framer(MAXIMUM)
        framer.feed(b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3")
        error = self.assertRaises(RemoteProtocolError, framer.next)
        self.assertEqual(str(error), "PDU of unknown type 16: the peer speaks TLS, on a port for DICOM without it")
        framer = Framer(MAXIMUM)
        framer.feed(b"\x16\x04\0\0\0\0")
        self.assertEqual(str(self.assertRaises(RemoteProtocolError, framer.next)), "PDU of unknown type 16")

    def test_PDVLengths(self) -> None:
        """A PDV has two bytes at least, lies within its PDU, and leaves nothing or room for another header."""
        for PDULength in range(6, 22):
            for PDVLength in (*range(PDULength + 3), 0x7FFFFFFF, 0xFFFFFFFB, 0xFFFFFFFF):
                behind = PDULength - 4 - PDVLength
                fits = PDVLength >= 2 and (behind == 0 or behind >= 6)
                first = header(4, PDULength) + struct.pack(">LBB", PDVLength, 1, 0)
                where = f"PDV of {PDVLength} in PDU of {PDULength}"
                if not fits:
                    self.assertEqual(self.judged(first), INVALID_PARAMETER, where)
                elif PDVLength > 2:
                    self.assertEqual(framed([first]), [PDUHeader(4, PDULength)], where)
                else:
                    self.assertEqual(self.judged(first), piece(1, False, False, b""), where)

    def test_PDVLengthsOfASecondPDV(self) -> None:
        for PDVLength in (0, 1, 5, 7, 8, 0xFFFFFFFB, 0xFFFFFFFF):
            stream = header(4, 19) + PDV(1, 0, b"abc") + struct.pack(">LBB", PDVLength, 1, 0)
            self.assertEqual(self.judged(stream), INVALID_PARAMETER, f"{PDVLength}")

    def test_strayBytes(self) -> None:
        """Found from the header of the last PDV, whatever the stray bytes are."""
        for count in range(1, 6):
            stream = header(4, 9 + count) + struct.pack(">LBB", 5, 1, 2)
            self.assertEqual(self.judged(stream), INVALID_PARAMETER, f"{count}")

    def test_message(self) -> None:
        """The error says what was wrong, in numbers."""
        framer = Framer(MAXIMUM)
        framer.feed(header(4, 5))
        error = self.assertRaises(RemoteProtocolError, framer.next)
        self.assertEqual(str(error), "P-DATA-TF of 5 bytes")

    def test_lost(self) -> None:
        """After an error nothing is read and nothing is kept, whatever comes."""
        framer = Framer(MAXIMUM)
        framer.feed(header(9, 4) + RELEASE_RQ)
        self.assertRaises(RemoteProtocolError, framer.next)
        self.assertIsNone(framer.next())
        self.assertFalse(framer.insidePDU)
        chunk = RELEASE_RQ * 100
        references = getrefcount(chunk)
        framer.feed(chunk)
        self.assertEqual(getrefcount(chunk), references)
        framer.skipBody()
        self.assertIsNone(framer.next())


#: A PDU with four PDVs, and one with a body: skipped, or discarded, at every byte.
FOUR_PDVS = PDU(4, PDV(1, 3, b"command") + PDV(1, 0, b"") + PDV(1, 0, b"data") + PDV(1, 2, b"!"))
REQUEST = PDU(1, b"not really a request")


class SkipTests(SynchronousTestCase):
    """The rest of a PDU is passed over from wherever the framer stands; the next one is read."""

    def test_everyPosition(self) -> None:
        for stream in (FOUR_PDVS, REQUEST, RELEASE_RQ):
            for position in range(6, len(stream)):
                for way, beginning in waysToCut(stream[:position]):
                    for otherWay, rest in waysToCut(stream[position:] + RELEASE_RQ):
                        framer = Framer(MAXIMUM)
                        for chunk in beginning:
                            framer.feed(chunk)
                            taken(framer)
                        framer.skipBody()
                        items = []
                        for chunk in rest:
                            framer.feed(chunk)
                            items += taken(framer)
                        self.assertEqual(items, RELEASE_RQ_ITEMS, f"at {position}: {way}, then {otherWay}")

    def test_everyPositionAllFed(self) -> None:
        """Skipping from each item on, while all there is has been fed and waits."""
        for stream in (FOUR_PDVS, REQUEST):
            for way, chunks in waysToCut(stream + RELEASE_RQ):
                count = len(framed(chunks)) - len(RELEASE_RQ_ITEMS)
                for position in range(1, count):
                    framer = Framer(MAXIMUM)
                    for chunk in chunks:
                        framer.feed(chunk)
                    for _ in range(position):
                        framer.next()
                    framer.skipBody()
                    self.assertEqual(taken(framer), RELEASE_RQ_ITEMS, f"from item {position}, {way}")

    def test_betweenPDUs(self) -> None:
        """Where no body is being read nothing is skipped, also inside a header."""
        for position in range(6):
            framer = Framer(MAXIMUM)
            framer.feed(FOUR_PDVS + RELEASE_RQ[:position])
            taken(framer)
            framer.skipBody()
            framer.feed(RELEASE_RQ[position:])
            self.assertEqual(taken(framer), RELEASE_RQ_ITEMS, f"{position} bytes of the header")

    def test_twice(self) -> None:
        framer = Framer(MAXIMUM)
        framer.feed(FOUR_PDVS[:20])
        taken(framer)
        framer.skipBody()
        self.assertIsNone(framer.next())
        framer.skipBody()
        framer.feed(FOUR_PDVS[20:] + RELEASE_RQ)
        self.assertEqual(taken(framer), RELEASE_RQ_ITEMS)

    def test_errorsInWhatIsSkipped(self) -> None:
        framer = Framer(MAXIMUM)
        framer.feed(header(4, 12))
        framer.next()
        framer.skipBody()
        framer.feed(b"\xff" * 12 + RELEASE_RQ)
        self.assertEqual(taken(framer), RELEASE_RQ_ITEMS)

    def test_largestPDU(self) -> None:
        """A body of 4 GiB is skipped without being looked at."""
        framer = Framer(0)
        framer.feed(header(4, 0xFFFFFFFF))
        framer.next()
        framer.skipBody()
        chunk = bytes(16 * MIB)
        references = getrefcount(chunk)
        for _ in range(255):
            framer.feed(chunk)
            self.assertIsNone(framer.next())
        framer.feed(chunk[:-1])
        framer.feed(RELEASE_RQ)
        self.assertEqual(taken(framer), RELEASE_RQ_ITEMS)
        self.assertEqual(getrefcount(chunk), references)


class DiscardTests(SynchronousTestCase):
    """From a discard on nothing is read."""

    def test_everyPosition(self) -> None:
        for stream in (FOUR_PDVS, REQUEST):
            for position in range(len(stream) + 1):
                framer = Framer(MAXIMUM)
                framer.feed(stream[:position])
                taken(framer)
                framer.feed(stream[position:])
                framer.feed(RELEASE_RQ)
                framer.discard()
                self.assertFalse(framer.insidePDU)
                framer.feed(RELEASE_RQ)
                self.assertEqual(taken(framer), [], f"at {position}")


class InsidePDUTests(SynchronousTestCase):
    """The framer knows whether silence is a stall."""

    def test_everyPosition(self) -> None:
        for stream in (FOUR_PDVS, REQUEST):
            framer = Framer(MAXIMUM)
            for position, chunk in enumerate(cutAt(stream, range(len(stream)))):
                self.assertIs(framer.insidePDU, position > 0, f"at {position}")
                framer.feed(chunk)
                taken(framer)
            self.assertFalse(framer.insidePDU)

    def test_skipping(self) -> None:
        framer = Framer(MAXIMUM)
        framer.feed(REQUEST[:10])
        framer.next()
        framer.skipBody()
        self.assertIsNone(framer.next())
        self.assertTrue(framer.insidePDU)
        framer.feed(REQUEST[10:])
        self.assertIsNone(framer.next())
        self.assertFalse(framer.insidePDU)


def fresh(stream: bytes) -> bytes:
    """These bytes as an object that nobody else refers to."""
    return bytes(bytearray(stream))


class MemoryTests(SynchronousTestCase):
    """No chunk is kept once all of it was taken: six bytes would pin the whole."""

    def test_usedUp(self) -> None:
        for stream in (FOUR_PDVS + RELEASE_RQ, REQUEST + RELEASE_RQ, header(1, 0)):
            for position in range(2, len(stream) + 1):
                framer = Framer(MAXIMUM)
                chunk = fresh(stream[:position])
                references = getrefcount(chunk)
                framer.feed(chunk)
                self.assertGreater(getrefcount(chunk), references)
                taken(framer)
                self.assertEqual(getrefcount(chunk), references, f"{position} bytes")

    def test_severalChunks(self) -> None:
        for width in range(2, 12):
            for stream in (FOUR_PDVS[:-1], REQUEST[:-1]):
                chunks = [fresh(chunk) for chunk in cutAt(stream, range(0, len(stream) - 1, width))]
                references = [getrefcount(chunks[index]) for index in range(len(chunks))]
                framer = Framer(MAXIMUM)
                for index in range(len(chunks)):
                    framer.feed(chunks[index])
                taken(framer)
                kept = [getrefcount(chunks[index]) for index in range(len(chunks))]
                self.assertEqual(kept, references, f"{width} bytes a chunk")

    def test_skipped(self) -> None:
        for length in (2, len(REQUEST) - 10):
            framer = Framer(MAXIMUM)
            framer.feed(REQUEST[:10])
            framer.next()
            framer.skipBody()
            chunk = fresh(REQUEST[10 : 10 + length])
            references = getrefcount(chunk)
            framer.feed(chunk)
            self.assertIsNone(framer.next())
            self.assertEqual(getrefcount(chunk), references)

    def test_discarded(self) -> None:
        framer = Framer(MAXIMUM)
        first = fresh(REQUEST)
        second = fresh(REQUEST)
        references = getrefcount(first), getrefcount(second)
        framer.feed(first)
        framer.next()
        framer.feed(second)
        framer.discard()
        self.assertEqual((getrefcount(first), getrefcount(second)), references)


class TimeTests(SynchronousTestCase):
    """Time grows with the length of a stream, and with nothing else."""

    def setUp(self) -> None:
        # It goes through all chunks that wait, again and again: the time measured would be its own.
        gc.disable()
        self.addCleanup(gc.enable)

    def seconds(self, chunks: list[bytes], isAllFedFirst: bool) -> float:
        framer = Framer(0)
        count = 0
        start = process_time()
        for chunk in chunks:
            framer.feed(chunk)
            if not isAllFedFirst:
                while framer.next() is not None:
                    count += 1
        while framer.next() is not None:
            count += 1
        taken = process_time() - start
        self.assertGreater(count, 1)
        self.assertFalse(framer.insidePDU)
        return taken

    def assertLinear(self, chunksOf: Callable[[int], list[bytes]], isAllFedFirst: bool) -> None:
        """Sixteen times the bytes take sixteen times the time; with each byte copying all before it, 80 times."""
        few, many = chunksOf(MIB // 32), chunksOf(MIB // 2)
        self.assertRatio(lambda: self.seconds(few, isAllFedFirst), lambda: self.seconds(many, isAllFedFirst))

    def assertRatio(self, few: Callable[[], float], many: Callable[[], float]) -> None:
        """Whoever shares the processor only makes both slower: the best of a few runs counts."""
        once, taken = min(few() for _ in range(3)), many()
        for _ in range(4):
            if taken < 40 * once:
                break
            taken = min(taken, many())
        self.assertLess(taken, 40 * once)

    def test_bodyByteByByte(self) -> None:
        for isAllFedFirst in (False, True):
            self.assertLinear(lambda length: cutAt(PDU(1, bytes(length)), range(length + 6)), isAllFedFirst)

    def test_fragmentByteByByte(self) -> None:
        for isAllFedFirst in (False, True):
            self.assertLinear(lambda length: cutAt(PDU(4, PDV(1, 2, bytes(length))), range(length + 12)), isAllFedFirst)

    def test_skippedByteByByte(self) -> None:
        def skip(length: int) -> float:
            framer = Framer(0)
            framer.feed(header(4, length))
            framer.next()
            framer.skipBody()
            start = process_time()
            for _ in range(length):
                framer.feed(b"x")
                framer.next()
            taken = process_time() - start
            self.assertFalse(framer.insidePDU)
            return taken

        self.assertRatio(lambda: skip(MIB // 32), lambda: skip(MIB // 2))

    def test_manyPDUsInOneChunk(self) -> None:
        self.assertLinear(lambda length: [PDU(4, PDV(1, 2, b"ab")) * (length // 14)], True)


class CompiledTests(SynchronousTestCase):
    """What is said of how this runs."""

    def test_bytecodeIsNot(self) -> None:
        """Nothing is compiled where the source is, or where its bytecode is all there is."""
        source = Path(errors.__file__).parent / "wire" / "framing.py"
        path = self.mktemp() + ".pyc"
        py_compile.compile(str(source), path, doraise=True)
        loader = SourcelessFileLoader("framing", path)
        spec = spec_from_loader("framing", loader)
        assert spec is not None
        framing = module_from_spec(spec)
        loader.exec_module(framing)
        self.assertEqual((framing.__file__, framing.COMPILED), (path, False))
