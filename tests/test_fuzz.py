"""
The checks of the fuzz targets, on the seeds and on what the fuzzer found: no fuzzer is needed for these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from struct import pack
from types import ModuleType
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.dataset import DataSetReader
from dcxtwisted.wire.commandset import decodeCommandSet
from dcxtwisted.wire.framing import COMPILED, Framer
from tests.fuzz import commandset, dataset, pdu
from tests.fuzz.inputs import CUTS, checkMeasured, held, minimised, pieces, positions, twin
from tests.fuzz.seeds import TARGETS, seeds, words

REGRESSIONS = Path(pdu.__file__).parent / "regressions"


class ReplayTests(SynchronousTestCase):
    """Each target's check"""

    def assertNothingFound(self, target: ModuleType, name: str, data: bytes) -> None:
        try:
            checkMeasured(target.check, data, target.CONSTANT)
        except Exception as error:
            error.add_note(f"on {name}")
            raise

    def test_seeds(self) -> None:
        for target in (pdu, commandset, dataset):
            count = 0
            for name, data in seeds(target.__name__.split(".")[-1]):
                self.assertNothingFound(target, name, data)
                count += 1
            self.assertGreater(count, 20)

    def test_regressions(self) -> None:
        for target in (pdu, commandset, dataset):
            for path in sorted((REGRESSIONS / target.__name__.split(".")[-1]).glob("*")):
                self.assertNothingFound(target, path.name, path.read_bytes())

    def test_tooShort(self) -> None:
        """What does not even hold the choices of an input is none."""
        for target in (pdu, commandset, dataset):
            for length in range(8):
                target.check(bytes(length))


@skipIf(COMPILED, "in what is compiled nothing can be planted")
class OracleTests(SynchronousTestCase):
    """What the checks are there to find: each is planted here."""

    def assertFound(self, target: ModuleType, owner: object, name: str, planted: Callable[..., Any]) -> None:
        self.patch(owner, name, planted)
        found = 0
        for _, data in seeds(target.__name__.split(".")[-1]):
            try:
                checkMeasured(target.check, data, target.CONSTANT)
            except Exception:
                found += 1
        self.assertGreater(found, 0)

    def test_exception(self) -> None:
        def decodes(buffer: bytes) -> dict[int, bytes]:
            return {len(buffer): buffer[len(buffer) : 2**32 // len(buffer)]}

        self.assertFound(commandset, commandset, "decodeCommandSet", decodes)

    def test_claimedLength(self) -> None:
        original = Framer._nextPDU

        def allocates(framer: Framer) -> object:
            header = original(framer)
            if header is not None:
                bytes(header.length)
            return header

        whole = pdu.CONTROL.pack(0, 0) + CUTS.pack(0, 0, 0) + pack(">BxL", 1, 1 << 20)
        checkMeasured(pdu.check, whole, pdu.CONSTANT)
        self.patch(Framer, "_nextPDU", allocates)
        self.assertRaises(AssertionError, checkMeasured, pdu.check, whole, pdu.CONSTANT)

    def test_chunksKept(self) -> None:
        self.assertFound(pdu, Framer, "_letGo", lambda framer: None)

    def test_cutsTell(self) -> None:
        original = Framer.feed

        def forgets(framer: Framer, chunk: bytes) -> None:
            original(framer, chunk[:50])

        self.assertFound(pdu, Framer, "feed", forgets)

    def test_viewKept(self) -> None:
        kept = []
        original = DataSetReader.feed

        def keeps(reader: DataSetReader, view: memoryview) -> None:
            kept.append(view[:1])
            original(reader, view)

        self.assertFound(dataset, DataSetReader, "feed", keeps)

    def test_carryUnbounded(self) -> None:
        original = DataSetReader.feed

        def collects(reader: DataSetReader, view: memoryview) -> None:
            original(reader, view)
            reader._carry += bytes(20000)

        self.assertFound(dataset, DataSetReader, "feed", collects)


class InputTests(SynchronousTestCase):
    """The helpers of the targets"""

    def test_positions(self) -> None:
        self.assertEqual(positions(0, 7, 3, 10, 9), [3, 7])
        self.assertEqual(positions(0, 0, 10, 10, 9), [])
        self.assertEqual(positions(0, 4, 4 + 11, 10, 9), [4])
        self.assertEqual(positions(3, 0, 10, 10, 9), [3, 6, 9])
        self.assertEqual(positions(1, 5, 1000, 1000, 6), list(range(5, 11)))
        self.assertEqual(positions(1, 5, 9, 0, 6), [])

    def test_pieces(self) -> None:
        self.assertEqual(pieces(b"abcdef", [2, 3]), [b"ab", b"c", b"def"])
        self.assertEqual(pieces(b"", []), [b""])

    def test_held(self) -> None:
        framer = Framer(0)
        self.assertEqual(held(framer), 0)
        framer.feed(b"abc")
        framer.feed(b"de")
        self.assertEqual(held(framer), 5)
        reader = DataSetReader("1.2.840.10008.1.2")
        reader.feed(b"abcdefghi")
        self.assertEqual(held(reader), 9)

    def test_twin(self) -> None:
        framer = Framer(0)
        framer.feed(b"\1\0\0")
        self.assertIsNone(framer.next())
        other = twin(framer, Framer(0))
        other.feed(b"\0\0\4")
        self.assertEqual(other.next(), (1, 4))
        self.assertEqual((held(framer), framer.insidePDU), (3, True))

    def test_minimised(self) -> None:
        def check(data: bytes) -> None:
            if b"\4" in data and data[-1:] == b"\7":
                raise ValueError
            assert b"\1" not in data, "another finding"

        self.assertEqual(minimised(check, bytes(range(8))), b"\4\7")
        self.assertRaises(ValueError, minimised, check, b"")

    def test_words(self) -> None:
        """They are written into a dictionary, one a line: each once, none empty."""
        for target in TARGETS:
            listed = list(words(target))
            self.assertEqual(len(set(listed)), len(listed))
            self.assertNotIn(b"", listed)

    def test_seedNames(self) -> None:
        """They become names of files."""
        for target in TARGETS:
            names = [name for name, _ in seeds(target)]
            self.assertEqual(len(set(names)), len(names))
            self.assertFalse([name for name in names if "/" in name])

    def test_decodes(self) -> None:
        """The seeds are command sets, not noise."""
        for name, data in seeds("commandset"):
            if name != "empty":
                self.assertIn(0x0100, decodeCommandSet(data[commandset.CONTROL.size :]))
