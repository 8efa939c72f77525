"""
The programs in ``docs/examples`` do what they say, over loopback.
"""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from struct import pack

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.loopback import CHECKOUT, BlockingPeer, Program, directoryFor
from tests.services.support import DATA, dataSet, element
from tests.test_readme import LOGGED, PORTS, blockWith

#: Where the examples are: in the checkout, or where an installation puts them.
EXAMPLES = next(
    (
        each
        for each in (CHECKOUT / "docs" / "examples", Path(sys.prefix) / "share/doc/dcxtwisted/examples")
        if each.is_dir()
    ),
    None,
)


class ExampleTestCase(SynchronousTestCase):
    """Runs one example in a directory of its own, on a port that the system chooses."""

    name = ""

    def setUp(self) -> None:
        if EXAMPLES is None:
            raise SkipTest("the examples are not installed")
        self.directory = directoryFor(self)
        if not self.name:
            return
        text = (EXAMPLES / self.name).read_text()
        path = self.directory / self.name
        path.write_text(PORTS.sub("0", text))
        self.assertEqual(len(PORTS.findall(text)), 1)
        self.program = Program(self, [sys.executable, "-c", LOGGED, str(path)], self.directory)
        self.port = int(self.program.waitFor(r"listening on \S+:(\d+)")[1])

    def peer(self) -> BlockingPeer:
        """Return a peer that is associated with the program."""
        peer = BlockingPeer(self.port)
        self.addCleanup(peer.close)
        return peer.established()

    def release(self, peer: BlockingPeer) -> None:
        """Release an association, which is answered."""
        peer.release()
        peer.until(lambda: peer.released)

    def assertEnds(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Assert that a signal ends the program in order."""
        self.program.signal(number)
        self.assertEqual((self.program.status(), self.program.errors), (0, ""))


class StyleTests(ExampleTestCase):
    """What the programs in pull style and in push style have in common: all that is seen of them."""

    name = "pull.py"

    def test_stores(self) -> None:
        """Two senders at once, of which the first says nothing for a while; then both end."""
        silent, busy = self.peer(), self.peer()
        for number in (1, 2):
            uid = f"1.2.3.{number}"
            self.assertEqual(busy.storeAnd(dataSet(uid), uid, messageID=number), 0)
            filename = self.program.waitFor(rf"^stored {uid} (.*)$")[1]
            self.assertTrue(Path(filename).read_bytes().endswith(dataSet(uid)))
            self.assertTrue(filename.startswith(str(self.directory / "received")))
        self.assertEqual(busy.storeAnd(DATA[:-2], "1.2.3", messageID=3), 0xC000)
        self.program.waitFor(r"^failed 1\.2\.3 $")
        busy.echo(4)
        busy.until(lambda: len(busy.statuses) == 4)
        self.release(busy)
        self.assertEqual(silent.storeAnd(DATA, "1.2.3"), 0)
        self.release(silent)
        self.assertEnds()

    def test_interrupted(self) -> None:
        """Ctrl-C ends it, with an association that is up."""
        peer = self.peer()
        self.assertEnds(signal.SIGINT)
        peer.untilClosed()
        self.assertIsNotNone(peer.aborted)


class PushStyleTests(StyleTests):
    """The same program in push style."""

    name = "push.py"


class ThumbnailTests(ExampleTestCase):
    """Thumbnails of what is received into memory."""

    name = "thumbnails.py"

    def setUp(self) -> None:
        if find_spec("numpy") is None:
            raise SkipTest("NumPy is not installed")
        super().setUp()

    def image(self, uid: str, rows: int, columns: int, pixels: bytes, bits: int = 16, more: bytes = b"") -> bytes:
        """Return an image in explicit VR little endian."""

        def short(number: int, value: int) -> bytes:
            return element(0x0028, number, b"US", pack("<H", value))

        return b"".join(
            (
                element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.2"),
                element(0x0008, 0x0018, b"UI", uid.encode()),
                more or short(0x0002, 1) + element(0x0028, 0x0004, b"CS", b"MONOCHROME2"),
                short(0x0010, rows),
                short(0x0011, columns),
                short(0x0100, bits),
                short(0x0101, bits),
                short(0x0102, bits - 1),
                short(0x0103, 0),
                pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels,
            )
        )

    def test_images(self) -> None:
        """Scaled down by whole steps, stretched to all grays; nothing else is written."""
        peer = self.peer()
        gradient = pack("<90000H", *(1000 + column for _ in range(300) for column in range(300)))
        self.assertEqual(peer.storeAnd(self.image("1.2.1", 300, 300, gradient), "1.2.1"), 0)
        self.program.waitFor(r"^thumbnail 1\.2\.1\.pgm$")
        thumbnail = (self.directory / "1.2.1.pgm").read_bytes()
        header, _, pixels = thumbnail.partition(b"\n")
        self.assertEqual((header, len(pixels)), (b"P5 150 150 255", 22500))
        self.assertEqual(pixels[:150], bytes(column * 2 * 255 // 298 for column in range(150)))
        self.assertEqual(pixels, pixels[:150] * 150)
        # Small ones stay as they are, colours too; what is no image has none.
        colour = (
            element(0x0028, 0x0002, b"US", b"\3\0")
            + element(0x0028, 0x0004, b"CS", b"RGB")
            + element(0x0028, 0x0006, b"US", b"\0\0")
        )
        data = self.image("1.2.2", 1, 2, b"\0\0\xff\xff\xff\x00", 8, colour)
        self.assertEqual(peer.storeAnd(data, "1.2.2", messageID=2), 0)
        self.program.waitFor(r"^thumbnail 1\.2\.2\.ppm$")
        self.assertEqual((self.directory / "1.2.2.ppm").read_bytes(), b"P6 2 1 255\n\0\0\xff\xff\xff\x00")
        self.assertEqual(peer.storeAnd(DATA, "1.2.3", messageID=3), 0)
        self.program.waitFor(r"^\S+ .*no thumbnail of 1\.2\.3")
        self.release(peer)
        self.assertEqual([path.name for path in self.directory.rglob("*.dcm")], [])
        self.assertEnds()


class MoveTests(ExampleTestCase):
    """Objects that are moved by what they are."""

    name = "move_by_content.py"

    def object(self, uid: str, modality: str, date: str, patientID: str = "P1") -> bytes:
        return b"".join(
            (
                element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.2"),
                element(0x0008, 0x0018, b"UI", uid.encode()),
                element(0x0008, 0x0020, b"DA", date.encode()),
                element(0x0008, 0x0060, b"CS", modality.encode()),
                element(0x0010, 0x0020, b"LO", patientID.encode()),
            )
        )

    def test_moves(self) -> None:
        peer = self.peer()
        expected = {}
        for number, (modality, date, place) in enumerate(
            (("CT", "20240131", "CT/2024"), ("../..", "", "other/undated"), ("MR", "../../x", "MR/undated"))
        ):
            uid = f"1.2.3.{number}"
            data = self.object(uid, modality, date)
            self.assertEqual(peer.storeAnd(data, uid, messageID=number + 1), 0)
            self.program.waitFor(rf"^moved to sorted/{place}/{uid}\.dcm$")
            expected[f"sorted/{place}/{uid}.dcm"] = data
        self.assertEqual(self.files().keys(), expected.keys())
        for name, content in self.files().items():
            self.assertTrue(content.endswith(expected[name]), name)
        # Another object with a UID that was moved harms nothing, and is kept.
        other = self.object("1.2.3.0", "CT", "20240131", "P2")
        self.assertEqual(peer.storeAnd(other, "1.2.3.0", messageID=9), 0)
        self.assertEqual(self.files().keys(), {*expected, "received/1.2.3.0.dcm"})
        self.assertTrue(self.files()["sorted/CT/2024/1.2.3.0.dcm"].endswith(expected["sorted/CT/2024/1.2.3.0.dcm"]))
        self.assertTrue(self.files()["received/1.2.3.0.dcm"].endswith(other))
        self.release(peer)
        self.assertEnds()

    def files(self) -> dict[str, bytes]:
        """Return the content of each file below the directory, by its path."""
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in self.directory.rglob("*.dcm")}


class AllTests(ExampleTestCase):
    """What goes for each of them."""

    def test_everyExampleIsTested(self) -> None:
        assert EXAMPLES is not None
        tested = {case.name for case in (StyleTests, PushStyleTests, ThumbnailTests, MoveTests)}
        self.assertEqual({path.name for path in EXAMPLES.glob("*.py")}, tested)

    def test_page(self) -> None:
        """The loop in the page about waiting is the one that is tested here."""
        assert EXAMPLES is not None
        program = (EXAMPLES / "pull.py").read_text().partition('"""\n\n')[2]
        self.assertEqual(_dense(blockWith('"DCXTWISTED", 11112, None')), _dense(program))


def _dense(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]
