"""
DCMTK's storescu: what it puts on the wire is what is stored.

It re-encodes some of what it reads (lengths of sequences, padding, byte order), so the bytes to compare with are those
that a relay saw, and not those of the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import pydicom
from pydicom.uid import UID
from twisted.internet.defer import Deferred

from dcxtwisted.testing import RecordingEvents
from dcxtwisted.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from dcxtwisted.wire.items import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTANCE,
    RoleSelection,
    SOPClassExtendedNegotiation,
    UserIdentityRequest,
)
from dcxtwisted.wire.pdu import PDU, Abort, ReleaseRQ
from tests.interop.dcmtk import UIDS_AS_UN, DCMTKTestCase
from tests.interop.relay import lengthsOfPData
from tests.interop.samples import (
    CT_IMAGE_STORAGE,
    MEDIA_DIRECTORIES,
    MR_IMAGE_STORAGE,
    SECONDARY_CAPTURE_IMAGE_STORAGE,
    WITHOUT_IDENTITY,
    SampleFile,
    paths,
    sampleFiles,
    sampleNamed,
    small,
)
from tests.interop.support import atOnce

_CUT = "Bad DICOM file: ...: I/O suspension or premature end of stream"
_NO_UIDS = "No SOP Class or Instance UID in file: ..."

#: What storescu 3.6.7 does not send, and what it says; another version may send more of it.
NOT_SENT_BY_STORESCU: Mapping[str, str] = {
    "MR_truncated.dcm": _CUT,
    "SC_rgb_jpeg.dcm": _CUT,  # its data set is in implicit VR, which its file meta does not say
    "rtplan_truncated.dcm": "Bad DICOM file: ...: Invalid stream",
    **dict.fromkeys((*UIDS_AS_UN, *WITHOUT_IDENTITY, *MEDIA_DIRECTORIES), _NO_UIDS),
}

JPEG_2000 = "1.2.840.10008.1.2.4.91"
_UNCOMPRESSED = (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

#: The options that propose a compressed transfer syntax: which one, and a sample that is in it, where there is one.
COMPRESSED: Mapping[str, tuple[str, str]] = {
    "--propose-lossless": ("1.2.840.10008.1.2.4.70", "SC_rgb_jpeg_gdcm.dcm"),
    "--propose-jpeg8": ("1.2.840.10008.1.2.4.50", "SC_rgb_small_odd_jpeg.dcm"),
    "--propose-jpeg12": ("1.2.840.10008.1.2.4.51", "JPGExtended.dcm"),
    "--propose-j2k-lossless": ("1.2.840.10008.1.2.4.90", "MR_small_jp2klossless.dcm"),
    "--propose-j2k-lossy": (JPEG_2000, "JPEG2000.dcm"),
    "--propose-jls-lossless": ("1.2.840.10008.1.2.4.80", "MR_small_jpeg_ls_lossless.dcm"),
    "--propose-jls-lossy": ("1.2.840.10008.1.2.4.81", "JPEGLSNearLossless_08.dcm"),
    "--propose-rle": ("1.2.840.10008.1.2.5", "MR_small_RLE.dcm"),
    "--propose-deflated": (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "image_dfl.dcm"),
    "--propose-mpeg2": ("1.2.840.10008.1.2.4.100", ""),
    "--propose-mpeg2-high": ("1.2.840.10008.1.2.4.101", ""),
    "--propose-mpeg4": ("1.2.840.10008.1.2.4.102", ""),
    "--propose-mpeg4-bd": ("1.2.840.10008.1.2.4.103", ""),
    "--propose-mpeg4-2-2d": ("1.2.840.10008.1.2.4.104", ""),
    "--propose-mpeg4-2-3d": ("1.2.840.10008.1.2.4.105", ""),
    "--propose-mpeg4-2-st": ("1.2.840.10008.1.2.4.106", ""),
    "--propose-hevc": ("1.2.840.10008.1.2.4.107", ""),
    "--propose-hevc10": ("1.2.840.10008.1.2.4.108", ""),
}


class StorescuTestCase(DCMTKTestCase):
    """A test with storescu."""

    program = "storescu"

    async def assertQuiet(self, *options: str, inputs: Sequence[str]) -> None:
        """Fail unless storescu has nothing to say."""
        self.assertEqual(await self.succeed(*options, inputs=inputs), "")


class StoreTests(StorescuTestCase):
    """Objects, one after the other."""

    async def test_samples(self) -> None:
        """Each sample that storescu reads is acknowledged, in the transfer syntax of its file, and stored as sent."""
        self.start()
        samples = sampleFiles()
        pairs = dict.fromkeys((sample.SOPClassUID, sample.transferSyntaxUID) for sample in samples)
        profile = profileOf([(SOPClassUID, [syntax]) for SOPClassUID, syntax in pairs])
        path = Path(self.mktemp())
        path.write_text(profile)
        output = await self.succeed("-v", "-nh", "-xf", str(path), "Profile", inputs=paths(samples))
        notSent = {name: text for name, text in outcomesOf(output, samples).items() if text != "Success"}
        self.assertListed(notSent, NOT_SENT_BY_STORESCU)
        conversation = await self.conversation()
        self.assertStoredExactly(conversation.objects)
        self.assertEqual({sent.status for sent in conversation.objects}, {0})
        self.assertEqual(
            [(sent.SOPInstanceUID, sent.transferSyntaxUID) for sent in conversation.objects],
            [(sample.SOPInstanceUID, sample.transferSyntaxUID) for sample in samples if sample.name not in notSent],
        )
        self.assertEqual(conversation.closing, ReleaseRQ())

    async def test_directories(self) -> None:
        """All that storescu finds below a directory, and what of it has a name that was asked for."""
        directory = sampleNamed("dicomdirtests/DICOMDIR").path.parent / "98892001"
        for options, prefix in (((), "dicomdirtests/98892001/"), (("+sp", "6*"), "dicomdirtests/98892001/CT2N/6")):
            self.start()
            output = await self.succeed("-v", "-R", "+sd", "+r", *options, inputs=[str(directory)])
            samples = [sample for sample in sampleFiles() if sample.name.startswith(prefix)]
            self.assertEqual(outcomesOf(output, samples), {sample.name: "Success" for sample in samples})
            objects = (await self.conversation()).objects
            self.assertEqual(
                sorted(sent.SOPInstanceUID for sent in objects), sorted(sample.SOPInstanceUID for sample in samples)
            )
            self.assertEqual({sent.status for sent in objects}, {0})
            self.assertStoredExactly(objects)

    async def test_repeated(self) -> None:
        """Each object sent three times on one association is acknowledged each time, and stored once."""
        await self.repeat(closing=ReleaseRQ(), end="released")

    async def test_aborted(self) -> None:
        """What was acknowledged stays where the association is aborted afterwards."""
        await self.repeat("--abort", closing=Abort(0, 0), end="aborted")

    async def repeat(self, *options: str, closing: PDU, end: str) -> None:
        """Check what became of objects sent three times each, and how the association ended."""
        self.start()
        samples = small()
        output = await self.succeed("-v", "-R", "--repeat", "3", *options, inputs=paths(samples))
        self.assertEqual(answersIn(output), ["Success"] * 3 * len(samples))
        conversation = await self.conversation()
        self.assertEqual([sent.status for sent in conversation.objects], [0] * 3 * len(samples))
        self.assertEqual(conversation.closing, closing)
        self.assertStoredExactly(conversation.objects)
        self.assertEqual(len(self.storedFiles()), len(samples))
        await self.assertEvents("OnConnection", *["OnStoreSetup", "OnStoreDone"] * 3 * len(samples), end=end)
        association = self.association
        self.assertEqual((association.objectsStored, association.objectsRefused), (3 * len(samples), 0))
        self.assertEqual(association.bytesReceived, sum(len(sent.dataSet) for sent in conversation.objects))

    async def test_statuses(self) -> None:
        """What OnStoreDone answers is what storescu reads; only success and warnings keep the object."""
        (sample, *_) = small()
        for answer, sentence, status in (
            (True, "Success", 0x0000),
            (0xB000, "Warning: CoercionOfDataElements", 0xB000),
            (0xB006, "Warning: ElementsDiscarded", 0xB006),
            (0xB007, "Warning: DataSetDoesNotMatchSOPClass", 0xB007),
            (0xA700, "Refused: OutOfResources", 0xA700),
            (0xA900, "Error: DataSetDoesNotMatchSOPClass", 0xA900),
            (False, "Error: CannotUnderstand", 0xC000),
            (0x0124, "Unknown Status: 0x124", 0x0124),
        ):
            self.start(RecordingEvents(OnStoreDone=answer))
            finished = await self.client("-v", "-R", inputs=paths([sample]))
            self.assertEqual(answersIn(finished.output), [sentence])
            objects = (await self.conversation()).objects
            self.assertEqual([sent.status for sent in objects], [status])
            self.assertStoredExactly(objects if status in (0, 0xB000, 0xB006, 0xB007) else [])
            await self.assertEvents("OnConnection", "OnStoreSetup", "OnStoreDone", end="released")

    async def test_smallPDUs(self) -> None:
        """With PDUs of 4096 bytes either way, the objects arrive in pieces of that size, and are whole."""
        self.start()
        samples = [sampleNamed("CT_small.dcm"), sampleNamed("examples_palette.dcm")]
        await self.assertQuiet("--max-pdu", "4096", "--max-send-pdu", "4096", "-R", inputs=paths(samples))
        conversation = await self.conversation()
        self.assertEqual(conversation.request.userInformation.maximumLength, 4096)
        self.assertEqual(self.association.maximumLengthToSend, 4096)
        self.assertEqual([sent.status for sent in conversation.objects], [0, 0])
        self.assertStoredExactly(conversation.objects)
        (recording,) = self.relayed.recordings
        lengths = lengthsOfPData(recording.toServer)
        self.assertLessEqual(max(lengths), 4096)
        self.assertGreater(len(lengths), sum(len(sample.dataSet) for sample in samples) // 4096)


class ProposalTests(StorescuTestCase):
    """What storescu proposes, and what it reads in the answer."""

    async def test_asTheREADMESays(self) -> None:
        """With no option but the title: all contexts that storescu knows."""
        self.start()
        sample = sampleNamed("CT_small.dcm")
        await self.assertQuiet("-aec", "DCXTWISTED", inputs=paths([sample]))
        conversation = await self.conversation()
        self.assertEqual(len(conversation.request.presentationContexts), 128)
        self.assertEqual({result.result for result in conversation.accept.presentationContexts}, {ACCEPTANCE})
        self.assertEqual([sent.SOPInstanceUID for sent in conversation.objects], [sample.SOPInstanceUID])
        self.assertStoredExactly(conversation.objects)

    async def test_required(self) -> None:
        """Only the classes of the files: one context for the preferred transfer syntax, one for the others."""
        self.start()
        samples = [sampleNamed(name) for name in ("CT_small.dcm", "MR_small.dcm", "SC_rgb_small_odd.dcm")]
        await self.assertQuiet("-R", inputs=paths(samples))
        conversation = await self.conversation()
        self.assertEqual(
            [
                (proposal.abstractSyntax, proposal.transferSyntaxes)
                for proposal in conversation.request.presentationContexts
            ],
            [
                (SOPClassUID, syntaxes)
                for SOPClassUID in (CT_IMAGE_STORAGE, MR_IMAGE_STORAGE, SECONDARY_CAPTURE_IMAGE_STORAGE)
                for syntaxes in (_UNCOMPRESSED[:1], _UNCOMPRESSED[1:])
            ],
        )
        self.assertEqual(
            [(result.result, result.transferSyntax) for result in conversation.accept.presentationContexts],
            [(ACCEPTANCE, EXPLICIT_VR_LITTLE_ENDIAN), (ACCEPTANCE, EXPLICIT_VR_BIG_ENDIAN)] * 3,
        )
        self.assertEqual([sent.transferSyntaxUID for sent in conversation.objects], [EXPLICIT_VR_LITTLE_ENDIAN] * 3)
        self.assertStoredExactly(conversation.objects)

    async def test_severalSyntaxesInOneContext(self) -> None:
        """Of several transfer syntaxes in a context the first is chosen, and storescu converts to it."""
        for option, syntax in (
            ("-xe", EXPLICIT_VR_LITTLE_ENDIAN),
            ("-xb", EXPLICIT_VR_BIG_ENDIAN),
            ("-xi", IMPLICIT_VR_LITTLE_ENDIAN),
        ):
            self.start()
            await self.assertQuiet("-R", "+C", option, inputs=paths(small()))
            conversation = await self.conversation()
            self.assertEqual({(sent.transferSyntaxUID, sent.status) for sent in conversation.objects}, {(syntax, 0)})
            self.assertStoredExactly(conversation.objects)

    async def test_combined(self) -> None:
        """Compressed and uncompressed in one context: the first is chosen; what is not in it is not sent."""
        self.start()
        samples = [sampleNamed("693_J2KI.dcm"), sampleNamed("CT_small.dcm")]
        output = await self.succeed("-v", "-nh", "-R", "+C", "-xw", inputs=paths(samples))
        conversation = await self.conversation()
        (proposal,) = conversation.request.presentationContexts
        self.assertEqual(proposal.transferSyntaxes, (JPEG_2000, *_UNCOMPRESSED))
        (result,) = conversation.accept.presentationContexts
        self.assertEqual((result.result, result.transferSyntax), (ACCEPTANCE, JPEG_2000))
        self.assertEqual(
            outcomesOf(output, samples),
            {"693_J2KI.dcm": "Success", "CT_small.dcm": "0006:020e DIMSE Failed to send message"},
        )
        self.assertEqual([sent.SOPInstanceUID for sent in conversation.objects], [samples[0].SOPInstanceUID])
        self.assertStoredExactly(conversation.objects)
        self.assertEqual(conversation.closing, ReleaseRQ())

    async def test_compressed(self) -> None:
        """Each compressed transfer syntax that there is an option for is taken, and what is sent in it stored so."""
        self.start()
        for option, (syntax, name) in COMPRESSED.items():
            path = sampleNamed(name).path if name else self.inSyntax(syntax)
            self.assertEqual(answersIn(await self.succeed("-v", "-R", option, inputs=[str(path)])), ["Success"], option)
            conversation = (await self.relayed.conversations())[-1]
            self.assertEqual(conversation.request.presentationContexts[0].transferSyntaxes, (syntax,), option)
            self.assertEqual(conversation.accept.presentationContexts[0].result, ACCEPTANCE, option)
            self.assertEqual([(sent.transferSyntaxUID, sent.status) for sent in conversation.objects], [(syntax, 0)])
        conversations = await self.relayed.conversations()
        self.assertEqual(len(conversations), len(COMPRESSED))
        self.assertStoredExactly([sent for conversation in conversations for sent in conversation.objects])

    def inSyntax(self, syntax: str) -> Path:
        """Return a file that is in an encapsulated transfer syntax by its own account; nobody looks at its pixels."""
        dataSet = pydicom.dcmread(sampleNamed("JPEG2000.dcm").path)
        dataSet.file_meta.TransferSyntaxUID = UID(syntax)
        path = Path(self.mktemp())
        dataSet.save_as(path)
        return path

    async def test_profile(self) -> None:
        """Roles and extended negotiation from a configuration file: the answer is what storescu has to read in it."""
        self.start()
        private = "1.2.826.0.1.3680043.9.7133.1"
        profile = profileOf(
            [
                (CT_IMAGE_STORAGE, _UNCOMPRESSED),
                (MR_IMAGE_STORAGE, _UNCOMPRESSED),
                (private, _UNCOMPRESSED),
                (SECONDARY_CAPTURE_IMAGE_STORAGE, [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN]),
            ],
            roles=[(CT_IMAGE_STORAGE, "SCU"), (MR_IMAGE_STORAGE, "BOTH"), (private, "BOTH")],
            extended=[(CT_IMAGE_STORAGE, "010001000000"), (private, "00")],
        )
        path = Path(self.mktemp())
        path.write_text(profile)
        sample = sampleNamed("CT_small.dcm")
        output = await self.succeed("-v", "+v", "-xf", str(path), "Profile", inputs=paths([sample]))
        conversation = await self.conversation()
        proposed = conversation.request.userInformation
        self.assertEqual(
            proposed.roleSelections,
            (
                RoleSelection(CT_IMAGE_STORAGE, True, False),
                RoleSelection(MR_IMAGE_STORAGE, True, True),
                RoleSelection(private, True, True),
            ),
        )
        self.assertEqual(
            proposed.extendedNegotiations,
            (
                SOPClassExtendedNegotiation(CT_IMAGE_STORAGE, bytes.fromhex("010001000000")),
                SOPClassExtendedNegotiation(private, b"\0"),
            ),
        )
        self.assertEqual(
            [(result.result, result.transferSyntax) for result in conversation.accept.presentationContexts],
            [
                (ACCEPTANCE, EXPLICIT_VR_LITTLE_ENDIAN),
                (ACCEPTANCE, EXPLICIT_VR_LITTLE_ENDIAN),
                (ABSTRACT_SYNTAX_NOT_SUPPORTED, EXPLICIT_VR_LITTLE_ENDIAN),
                (ACCEPTANCE, EXPLICIT_VR_LITTLE_ENDIAN),
            ],
        )
        read = output.partition("BEGIN A-ASSOCIATE-AC")[2]
        self.assertEqual(re.findall(r"Accepted SCP/SCU Role: (.*)", read), ["SCU", "SCU", "Default", "Default"])
        self.assertRegex(
            read,
            r"Accepted Extended Negotiation:\nI:   =CTImageStorage .*\nI:     \[0x02, 0x00, 0x03, 0x00, 0x00, 0x00\]\n"
            r"I: Requested User Identity",
        )
        self.assertEqual(answersIn(output), ["Success"])
        self.assertStoredExactly(conversation.objects)

    async def test_userIdentity(self) -> None:
        """Each kind of user identity: told to the application, and confirmed where that was asked for."""
        token = Path(self.mktemp())
        token.write_bytes(b"a token")
        for options, identity in (
            (("--user", "alice"), UserIdentityRequest(1, False, b"alice")),
            (("--user", "alice", "--password", "secret"), UserIdentityRequest(2, False, b"alice", b"secret")),
            (("--user", "alice", "--empty-password"), UserIdentityRequest(2, False, b"alice", b"")),
            (("--kerberos", str(token)), UserIdentityRequest(3, False, b"a token")),
            (("--saml", str(token)), UserIdentityRequest(4, False, b"a token")),
            (("--jwt", str(token)), UserIdentityRequest(5, False, b"a token")),
        ):
            for toConfirm in (False, True):
                self.start()
                await self.assertQuiet(*options, *["--pos-response"] * toConfirm, "-R", inputs=paths(small()[:1]))
                expected = attrs.evolve(identity, positiveResponseRequested=toConfirm)
                conversation = await self.conversation()
                self.assertEqual(conversation.request.userInformation.userIdentity, expected)
                self.assertEqual(self.association.userIdentity, expected)
                response = conversation.accept.userInformation.userIdentityResponse
                self.assertEqual(response, b"" if toConfirm else None)
                self.assertStoredExactly(conversation.objects)


class AtOnceTests(StorescuTestCase):
    """Eight processes at the same time."""

    async def test_sameObjects(self) -> None:
        """Each sends the same objects: they are acknowledged to all, and stored once."""
        await self.sendEightTimes(stored=1)

    async def test_newUIDs(self) -> None:
        """Each sends objects of its own."""
        await self.sendEightTimes("+IR", "3", stored=8)

    async def sendEightTimes(self, *options: str, stored: int) -> None:
        """Check that all that eight processes send is acknowledged, and each sample stored so many times."""
        self.start()
        samples = small()
        await atOnce(
            [Deferred.fromCoroutine(self.assertQuiet("-R", *options, inputs=paths(samples))) for _ in range(8)]
        )
        conversations = await self.relayed.conversations()
        self.assertEqual([len(conversation.objects) for conversation in conversations], [len(samples)] * 8)
        objects = [sent for conversation in conversations for sent in conversation.objects]
        self.assertEqual({sent.status for sent in objects}, {0})
        self.assertStoredExactly(objects)
        self.assertEqual(len(self.storedFiles()), stored * len(samples))


def profileOf(
    contexts: Sequence[tuple[str, Sequence[str]]],
    roles: Sequence[tuple[str, str]] = (),
    extended: Sequence[tuple[str, str]] = (),
) -> str:
    """
    Return a configuration file of DCMTK with one profile, named Profile.

    :param contexts: abstract syntax and transfer syntaxes of each.
    :param roles: SOP classes with "SCU", "SCP" or "BOTH".
    :param extended: SOP classes with their information as hexadecimal digits.
    """
    lists = {syntaxes: f"List{number}" for number, syntaxes in enumerate(dict.fromkeys(tuple(s) for _, s in contexts))}
    lines = ["[[TransferSyntaxes]]"]
    for syntaxes, name in lists.items():
        lines += [f"[{name}]", *_numbered("TransferSyntax", syntaxes)]
    listed = [f"{SOPClassUID}\\{lists[tuple(syntaxes)]}" for SOPClassUID, syntaxes in contexts]
    lines += ["[[PresentationContexts]]", "[Contexts]", *_numbered("PresentationContext", listed)]
    profile = ["[[Profiles]]", "[Profile]", "PresentationContexts = Contexts"]
    if roles:
        lines += ["[[SCPSCURoleSelection]]", "[Roles]", *_numbered("Role", map("\\".join, roles))]
        profile.append("SCPSCURoleSelection = Roles")
    if extended:
        lines += ["[[ExtendedNegotiation]]", "[Extended]", *_numbered("ExtendedNegotiation", map("\\".join, extended))]
        profile.append("ExtendedNegotiation = Extended")
    return "\n".join([*lines, *profile, ""])


def _numbered(key: str, values: Iterable[str]) -> list[str]:
    return [f"{key}{number} = {value}" for number, value in enumerate(values, 1)]


def answersIn(output: str) -> list[str]:
    """Return the statuses that storescu read, in its words."""
    return re.findall(r"^I: Received Store Response \((.*)\)$", output, re.MULTILINE)


def outcomesOf(output: str, samples: Sequence[SampleFile]) -> dict[str, str]:
    """Return what storescu says of each sample in the end: what was answered, or why it was not sent."""
    names = {str(sample.path): sample.name for sample in samples}
    _, *sections = re.split(r"^I: Sending file: (.*)\n", output, flags=re.MULTILINE)
    outcomes = {}
    for path, text in zip(sections[::2], sections[1::2], strict=True):
        errors = re.findall(r"^E: (.*)$", text, re.MULTILINE)
        outcomes[names[path]] = (answersIn(text) or errors)[-1].replace(path, "...")
    return outcomes
