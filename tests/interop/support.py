"""
What the tests against real clients share: sample files, programs, and a listener on loopback.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from struct import unpack_from
from typing import Any, TypeVar

import attrs
import pydicom
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from dcxtwisted import DCXACC, IDCXACCEvents
from dcxtwisted.uids import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from tests.interop.relay import Relay, SentObject, portOf

_T = TypeVar("_T")

SECONDARY_CAPTURE_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.7"

#: Seconds after which a client is killed: well before trial gives up, so that nothing is left behind.
CLIENT_DEADLINE = 40.0

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


# Clients


@cache
def _programOfDCMTK(name: str) -> str | None:
    """Return the path of a program of DCMTK, and not of one of the same name that came with pynetdicom."""
    for directory in os.get_exec_path():
        path = shutil.which(name, path=directory)
        if path is not None:
            version = subprocess.run([path, "--version"], capture_output=True, timeout=CLIENT_DEADLINE, check=False)
            if b"$dcmtk" in version.stdout:
                return path
    return None


def requireProgram(name: str) -> str:
    """
    Return the path of a program of DCMTK.

    :raises SkipTest: it is not there.
    """
    path = _programOfDCMTK(name)
    if path is None:
        raise SkipTest(f"DCMTK's {name} is not installed")
    return path


@attrs.frozen
class Finished:
    """A program that ended: its exit status, and all it wrote."""

    status: int
    output: str


def runClient(program: str, *args: str) -> Deferred[Finished]:
    """Run a program while the reactor goes on; it is killed at its deadline."""
    command = [requireProgram(program), *args]

    def finish() -> Finished:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CLIENT_DEADLINE,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode("latin-1"))

    return deferToThread(finish)


async def atOnce(deferreds: Sequence[Deferred[_T]]) -> list[_T]:
    """Return the results of all, once all are there; raise the first failure only then."""
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    results = []
    for succeeded, result in outcomes:
        if not succeeded:
            assert isinstance(result, Failure)
            result.raiseException()
        results.append(result)
    return results


# The listener


class ListenerTestCase(TestCase):
    """
    A test with a listener on loopback, on trial's reactor.

    :ivar store: the directory it stores below.
    :ivar listener: the one that L{listen} started.
    """

    timeout = 60

    def setUp(self) -> None:
        """Keep quiet what pydicom has to say of its samples."""
        # Trial's own `suppress` ends before the body of a coroutine begins.
        caught = warnings.catch_warnings()
        caught.__enter__()
        self.addCleanup(caught.__exit__, None, None, None)
        warnings.simplefilter("ignore", UserWarning)

    def listen(self, events: IDCXACCEvents | None = None, **options: Any) -> int:
        """Start a listener, and return its port."""
        self.store = Path(self.mktemp()).absolute()
        endpoint = "tcp:0:interface=127.0.0.1"
        self.listener = DCXACC(endpoint, events, storeDirectory=str(self.store), **options)
        self.listener.startService()
        self.addCleanup(self.listener.stopService)
        return portOf(self.listener.ports[0])

    def relay(self, port: int) -> Relay:
        """Start a relay to a port on loopback."""
        relay = Relay(port)
        self.addCleanup(relay.stop)
        return relay

    def storedFiles(self) -> dict[str, Part10]:
        """Return everything below the store, a final name or not, by its path there."""
        paths = [path for path in self.store.rglob("*") if path.is_file()]
        return {path.relative_to(self.store).as_posix(): part10(path.read_bytes()) for path in paths}

    def assertListed(self, notStored: Mapping[str, str], listed: Mapping[str, str]) -> None:
        """Fail unless each sample that was not stored is listed, with what the client says of it."""
        self.assertEqual({name: text for name, text in notStored.items() if listed.get(name) != text}, {})

    def assertStoredExactly(self, objects: Sequence[SentObject]) -> None:
        """
        Fail unless the store holds these objects, byte for byte, and nothing else.

        What was sent more than once is to stand there once; what has the same UID but other bytes beside it.
        """
        acknowledged = {(sent.SOPInstanceUID, sent.transferSyntaxUID, sent.dataSet) for sent in objects}
        stored = self.storedFiles()
        found = {
            (kept.SOPInstanceUID, kept.transferSyntaxUID, kept.dataSet): filename for filename, kept in stored.items()
        }
        self.assertEqual([key[:2] for key in acknowledged - set(found)], [], "acknowledged, but not stored as sent")
        self.assertEqual([found[key] for key in set(found) - acknowledged], [], "stored, but never acknowledged so")
        self.assertEqual(len(stored), len(acknowledged))
        for (SOPInstanceUID, _, _), filename in found.items():
            self.assertRegex(Path(filename).name, rf"^{re.escape(SOPInstanceUID)}(~[1-9][0-9]*)?\.dcm$")
            self.assertEqual(str(pydicom.dcmread(self.store / filename).SOPInstanceUID), SOPInstanceUID)
