"""
DCMTK's dcmsend: what it puts on the wire is what is stored, and its report says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import pydicom
from pydicom.uid import UID

from dcxtwisted.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_SOP_CLASSES,
)
from dcxtwisted.wire.items import ACCEPTANCE
from dcxtwisted.wire.pdu import ReleaseRQ
from tests.interop.dcmtk import UIDS_AS_UN, DCMTKTestCase
from tests.interop.relay import SentObject
from tests.interop.samples import (
    MEDIA_DIRECTORIES,
    WITHOUT_IDENTITY,
    SampleFile,
    paths,
    sampleFiles,
    sampleNamed,
)

_UNCOMPRESSED = (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"

_SUCCESS = "0x0000 (Success)"
_NOT_SENT = "<not sent>"
_NO_CLASS = "Invalid SOP Class UID"

#: What dcmsend 3.6.7 does not send, or sends so that it is refused, and what it says; another version may send more.
NOT_SENT_BY_DCMSEND: Mapping[str, str] = {
    "MR_truncated.dcm": _NOT_SENT,
    "SC_rgb_jpeg.dcm": _NOT_SENT,
    "rtplan_truncated.dcm": _NOT_SENT,
    **dict.fromkeys((*WITHOUT_IDENTITY, *MEDIA_DIRECTORIES), _NOT_SENT),
    **dict.fromkeys(UIDS_AS_UN, "0x0122 (Refused: SOPClassNotSupported)"),
    "empty_charset_LEI.dcm": _NO_CLASS,
    "meta_missing_tsyntax.dcm": _NO_CLASS,
    "nested_priv_SQ.dcm": _NO_CLASS,
}


class DcmsendTestCase(DCMTKTestCase):
    """
    A test with dcmsend.

    :ivar report: what dcmsend reports.
    """

    program = "dcmsend"

    async def send(self, *options: str, inputs: Sequence[str]) -> str:
        """Return what dcmsend writes, which ends well."""
        self.start()
        path = Path(self.mktemp())
        output = await self.succeed("-v", *options, "--create-report-file", str(path), inputs=inputs)
        self.report = path.read_text("latin-1")
        return output

    async def objects(self) -> list[SentObject]:
        """Return what was sent on all associations, each of which was released."""
        conversations = await self.relayed.conversations()
        self.assertEqual({conversation.closing for conversation in conversations}, {ReleaseRQ()})
        return [sent for conversation in conversations for sent in conversation.objects]

    def assertSummary(self, associations: int, contexts: int, instances: int, sent: int) -> None:
        """Fail unless the report ends with these numbers, and all that was sent was stored."""
        summary = self.report.partition("Status Summary\n")[2]
        expected = {
            "Number of associations": associations,
            "Number of pres. contexts": contexts,
            "Number of SOP instances": instances,
            "sent to the peer": sent,
            "with status SUCCESS": sent,
        }
        if sent < instances:
            expected["NOT sent to the peer"] = instances - sent
        numbers = re.findall(r"^[ *-]*(.*?) +: (\d+)$", summary, re.MULTILINE)
        self.assertEqual({name: int(number) for name, number in numbers}, expected)


class StoreTests(DcmsendTestCase):
    """Objects, one after the other."""

    async def test_samples(self) -> None:
        """Each sample that dcmsend reads is acknowledged, the compressed ones as they are, and stored as sent."""
        await self.sendSamples("--decompress-never", (JPEG_BASELINE,))

    async def test_samplesDecompressed(self) -> None:
        """Likewise where dcmsend proposes uncompressed transfer syntaxes beside a compressed one."""
        await self.sendSamples("--decompress-lossy", (JPEG_BASELINE, *_UNCOMPRESSED))

    async def sendSamples(self, option: str, forJPEG: tuple[str, ...]) -> None:
        """
        Send all samples, and check what came of it.

        :param forJPEG: the transfer syntaxes that dcmsend proposes for an image in JPEG baseline.
        """
        samples = sampleFiles()
        output = await self.send("+f", "-nh", "--no-uid-checks", option, inputs=paths(samples))
        outcomes = outcomesOf(output, self.report, samples)
        notStored = {name: text for name, text in outcomes.items() if text != _SUCCESS}
        self.assertListed(notStored, NOT_SENT_BY_DCMSEND)
        conversations = await self.relayed.conversations()
        proposed = [each.transferSyntaxes for said in conversations for each in said.request.presentationContexts]
        self.assertEqual({syntaxes for syntaxes in proposed if JPEG_BASELINE in syntaxes}, {forJPEG})
        objects = await self.objects()
        self.assertEqual(len(objects), sum(text.startswith("0x") for text in outcomes.values()))
        stored = [sent for sent in objects if sent.status == 0]
        self.assertStoredExactly(stored)
        taken = [sample for sample in samples if sample.name not in notStored]
        self.assertEqual(self.compressed(stored), self.compressed(taken))

    def compressed(self, objects: Sequence[SentObject] | Sequence[SampleFile]) -> list[tuple[str, str]]:
        """Return SOP instance and transfer syntax of those that are compressed."""
        pairs = [(each.SOPInstanceUID, each.transferSyntaxUID) for each in objects]
        return sorted(pair for pair in pairs if pair[1] not in _UNCOMPRESSED)

    async def test_directories(self) -> None:
        """All that dcmsend finds below a directory."""
        samples = [sample for sample in sampleFiles() if sample.name.startswith("dicomdirtests/98892001/")]
        await self.send("+sd", "+r", inputs=[str(sampleNamed("dicomdirtests/DICOMDIR").path.parent / "98892001")])
        await self.assertSent([sample.SOPInstanceUID for sample in samples])

    async def test_DICOMDIR(self) -> None:
        """All that a DICOMDIR lists."""
        path = sampleNamed("dicomdirtests/DICOMDIR").path
        listed = pydicom.dcmread(path).DirectoryRecordSequence
        images = [record for record in listed if record.DirectoryRecordType == "IMAGE"]
        await self.send("+rd", inputs=[str(path)])
        await self.assertSent([record.ReferencedSOPInstanceUIDInFile for record in images])

    async def assertSent(self, SOPInstanceUIDs: Sequence[str]) -> None:
        """Fail unless just these instances were sent, acknowledged and stored, on one association."""
        objects = await self.objects()
        self.assertEqual(sorted(sent.SOPInstanceUID for sent in objects), sorted(SOPInstanceUIDs))
        self.assertEqual({sent.status for sent in objects}, {0})
        self.assertStoredExactly(objects)
        count = len(SOPInstanceUIDs)
        self.assertSummary(1, len(self.association.acceptedContexts), count, count)

    async def test_invalidUID(self) -> None:
        """A UID that dcmsend itself would not pass is no reason to refuse an object."""
        sample = sampleNamed("CT_small.dcm")
        invalid = f"{sample.SOPInstanceUID[:-5]}00001"  # a component with a leading zero
        path = Path(self.mktemp())
        path.write_bytes(sample.path.read_bytes().replace(sample.SOPInstanceUID.encode(), invalid.encode()))
        self.start()
        refused = await self.client(inputs=[str(path)])
        self.assertIn("Invalid SOP Instance UID", refused.output)
        self.assertEqual(self.events.calls, [])
        await self.send("--no-uid-checks", inputs=[str(path)])
        await self.assertSent([invalid])


class AssociationTests(DcmsendTestCase):
    """More SOP classes than one association has presentation contexts."""

    async def test_several(self) -> None:
        """The rest goes on a second association."""
        await self.sendClasses("--multi-associations", [128, 2])
        self.assertSummary(2, 130, 130, 130)
        await self.listener.stopService()
        self.assertEqual(self.events.names.count("OnConnection"), 2)
        ends = [args[1] for name, args in self.events.calls if name == "OnAssocEnd"]
        self.assertEqual(ends, ["released"] * 2)

    async def test_single(self) -> None:
        """The rest is not sent."""
        await self.sendClasses("--single-association", [128])
        self.assertSummary(1, 128, 130, 128)
        await self.assertEvents("OnConnection", *["OnStoreSetup", "OnStoreDone"] * 128, end="released")

    async def sendClasses(self, option: str, contexts: Sequence[int]) -> None:
        """
        Send objects of 130 storage SOP classes, and check that what was sent is stored.

        :param contexts: how many were accepted on each association.
        """
        await self.send(option, inputs=self.ofClasses(list(islice(STORAGE_SOP_CLASSES, 130))))
        conversations = await self.relayed.conversations()
        self.assertEqual(
            [[result.result for result in each.accept.presentationContexts] for each in conversations],
            [[ACCEPTANCE] * count for count in contexts],
        )
        objects = await self.objects()
        self.assertEqual([sent.status for sent in objects], [0] * sum(contexts))
        self.assertEqual([sent.SOPClassUID for sent in objects], list(islice(STORAGE_SOP_CLASSES, sum(contexts))))
        self.assertStoredExactly(objects)

    def ofClasses(self, SOPClassUIDs: Sequence[str]) -> list[str]:
        """Write a file of each class, and return where they are."""
        dataSet = pydicom.dcmread(sampleNamed("dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000").path)
        meta = dataSet.file_meta
        written = []
        for number, SOPClassUID in enumerate(SOPClassUIDs):
            dataSet.SOPClassUID = meta.MediaStorageSOPClassUID = UID(SOPClassUID)
            dataSet.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(f"2.25.{number}")
            path = self.mktemp()
            dataSet.save_as(path)
            written.append(path)
        return written


def outcomesOf(output: str, report: str, samples: Sequence[SampleFile]) -> dict[str, str]:
    """Return what dcmsend says of each sample in the end: what was answered, or why it was not sent."""
    status = dict(re.findall(r"^Filename +: (.*)\n(?:.+\n)*?DIMSE Status +: (.*)$", report, re.MULTILINE))
    bad = dict(re.findall(r"^W: bad DICOM file: (.*?): (.*), ignoring file$", output, re.MULTILINE))
    return {sample.name: (status | bad)[str(sample.path)] for sample in samples}
