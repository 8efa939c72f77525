"""
DCMTK's clients, each in a process of its own: what they put on the wire is what is stored.

They re-encode some of what they read (lengths of sequences, padding, byte order), so the bytes to compare with are
those that a relay saw, and not those of the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dcxtwisted.testing import RecordingEvents
from dcxtwisted.uids import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.wire.framing import Framer, PDUHeader
from dcxtwisted.wire.items import ACCEPTANCE, UserIdentityRequest
from dcxtwisted.wire.pdu import P_DATA_TF, Abort, ReleaseRQ
from tests.interop.relay import Conversation
from tests.interop.support import (
    ListenerTestCase,
    SampleFile,
    atOnce,
    requireProgram,
    runClient,
    sampleFiles,
)

_SUCCESS = "0x0000 (Success)"
_CUT = "Bad DICOM file: ...: I/O suspension or premature end of stream"
_NO_UIDS = "No SOP Class or Instance UID in file: ..."
_NOT_SENT = "<not sent>"
_NO_CLASS = "Invalid SOP Class UID"

# DCMTK takes the UIDs of these, whose VR is UN, for lists of numbers: storescu finds none, and dcmsend writes "31".
_UIDS_AS_UN = ("rtdose_rle.dcm", "rtdose_rle_1frame.dcm")

#: What storescu 3.6.7 does not send, and what it says; another version may send more of it.
NOT_SENT_BY_STORESCU: Mapping[str, str] = {
    "MR_truncated.dcm": _CUT,
    "SC_rgb_jpeg.dcm": _CUT,  # its data set is in implicit VR, which its file meta does not say
    "rtplan_truncated.dcm": "Bad DICOM file: ...: Invalid stream",
    **dict.fromkeys(_UIDS_AS_UN, _NO_UIDS),
    "UN_sequence.dcm": _NO_UIDS,
    "empty_charset_LEI.dcm": _NO_UIDS,
    "meta_missing_tsyntax.dcm": _NO_UIDS,
    "nested_priv_SQ.dcm": _NO_UIDS,
    "no_meta_group_length.dcm": _NO_UIDS,
    "priv_SQ.dcm": _NO_UIDS,
    "dicomdirtests/DICOMDIR": _NO_UIDS,
    "dicomdirtests/DICOMDIR-bigEnd": _NO_UIDS,
    "dicomdirtests/DICOMDIR-empty.dcm": _NO_UIDS,
    "dicomdirtests/DICOMDIR-implicit": _NO_UIDS,
    "dicomdirtests/DICOMDIR-nooffset": _NO_UIDS,
    "dicomdirtests/DICOMDIR-nopatient": _NO_UIDS,
    "dicomdirtests/DICOMDIR-reordered": _NO_UIDS,
    "dicomdirtests/TINY_ALPHA/DICOMDIR": _NO_UIDS,
}

#: What dcmsend 3.6.7 does not send, or sends so that it is refused, and what it says; likewise.
NOT_SENT_BY_DCMSEND: Mapping[str, str] = {
    **dict.fromkeys(NOT_SENT_BY_STORESCU, _NOT_SENT),
    **dict.fromkeys(_UIDS_AS_UN, "0x0122 (Refused: SOPClassNotSupported)"),
    "empty_charset_LEI.dcm": _NO_CLASS,
    "meta_missing_tsyntax.dcm": _NO_CLASS,
    "nested_priv_SQ.dcm": _NO_CLASS,
}


class DCMTKTestCase(ListenerTestCase):
    """
    A test with clients of DCMTK; skipped where there are none.

    :ivar events: what the listener was told.
    :ivar relayed: the relay that clients connect to.
    """

    def setUp(self) -> None:
        """Skip before anything is started."""
        super().setUp()
        requireProgram("storescu")

    def start(self, **options: Any) -> None:
        """Start a listener, and a relay in front of it."""
        self.events = RecordingEvents()
        self.relayed = self.relay(self.listen(self.events, **options))

    @property
    def peer(self) -> tuple[str, str]:
        """Host and port, as a client takes them."""
        return "127.0.0.1", str(self.relayed.port)

    async def conversation(self) -> Conversation:
        """Return what the only client said."""
        (conversation,) = await self.relayed.conversations()
        return conversation


class StorescuTests(DCMTKTestCase):
    """storescu."""

    async def test_samples(self) -> None:
        """Each sample that storescu reads is acknowledged, in the transfer syntax of its file, and stored as sent."""
        self.start()
        samples = sampleFiles()
        profile = self.profile(samples)
        given = paths(samples)
        finished = await runClient("storescu", "-v", "-nh", "-xf", str(profile), "Samples", *self.peer, *given)
        conversation = await self.conversation()
        self.assertEqual(finished.status, 0, finished.output)
        notSent = {name: text for name, text in storescuOutcomes(finished.output, samples).items() if text != "Success"}
        self.assertListed(notSent, NOT_SENT_BY_STORESCU)
        self.assertStoredExactly(conversation.objects)
        self.assertEqual({sent.status for sent in conversation.objects}, {0})
        self.assertEqual(
            [(sent.SOPInstanceUID, sent.transferSyntaxUID) for sent in conversation.objects],
            [(sample.SOPInstanceUID, sample.transferSyntaxUID) for sample in samples if sample.name not in notSent],
        )
        self.assertEqual(conversation.closing, ReleaseRQ())

    def profile(self, samples: Sequence[SampleFile]) -> Path:
        """Write a configuration that proposes a context for each pair of SOP class and transfer syntax."""
        pairs = dict.fromkeys((sample.SOPClassUID, sample.transferSyntaxUID) for sample in samples)
        names = {syntax: f"Syntax{number}" for number, (_, syntax) in enumerate(pairs)}
        lines = ["[[TransferSyntaxes]]"]
        lines += [f"[{name}]\nTransferSyntax1 = {syntax}" for syntax, name in names.items()]
        lines += ["[[PresentationContexts]]", "[All]"]
        for number, (SOPClassUID, syntax) in enumerate(pairs, 1):
            lines.append(f"PresentationContext{number} = {SOPClassUID}\\{names[syntax]}")
        lines += ["[[Profiles]]", "[Samples]", "PresentationContexts = All", ""]
        path = Path(self.mktemp())
        path.write_text("\n".join(lines))
        return path

    async def test_asTheREADMESays(self) -> None:
        """With no option but the title: all contexts that storescu knows."""
        self.start()
        (sample,) = (sample for sample in sampleFiles() if sample.name == "CT_small.dcm")
        finished = await runClient("storescu", "-aec", "DCXTWISTED", *self.peer, str(sample.path))
        self.assertEqual((finished.status, finished.output), (0, ""))
        conversation = await self.conversation()
        self.assertEqual(len(conversation.request.presentationContexts), 128)
        self.assertEqual({result.result for result in conversation.accept.presentationContexts}, {ACCEPTANCE})
        self.assertEqual([sent.SOPInstanceUID for sent in conversation.objects], [sample.SOPInstanceUID])
        self.assertStoredExactly(conversation.objects)

    async def test_severalSyntaxesInOneContext(self) -> None:
        """Of several transfer syntaxes in a context the first is chosen, and storescu converts to it."""
        for option, syntax in (
            ("-xe", EXPLICIT_VR_LITTLE_ENDIAN),
            ("-xb", EXPLICIT_VR_BIG_ENDIAN),
            ("-xi", IMPLICIT_VR_LITTLE_ENDIAN),
        ):
            self.start()
            finished = await runClient("storescu", "-R", "+C", option, *self.peer, *paths(small()))
            self.assertEqual((finished.status, finished.output), (0, ""))
            conversation = await self.conversation()
            self.assertEqual({(sent.transferSyntaxUID, sent.status) for sent in conversation.objects}, {(syntax, 0)})
            self.assertStoredExactly(conversation.objects)

    async def test_smallPDUs(self) -> None:
        """With PDUs of 4096 bytes either way, the objects arrive in pieces of that size, and are whole."""
        self.start()
        largest = [sample for sample in sampleFiles() if sample.name in ("CT_small.dcm", "examples_palette.dcm")]
        limits = ("--max-pdu", "4096", "--max-send-pdu", "4096")
        finished = await runClient("storescu", *limits, "-R", *self.peer, *paths(largest))
        self.assertEqual((finished.status, finished.output), (0, ""))
        conversation = await self.conversation()
        self.assertEqual(conversation.request.userInformation.maximumLength, 4096)
        self.assertEqual([sent.status for sent in conversation.objects], [0, 0])
        self.assertStoredExactly(conversation.objects)
        (recording,) = self.relayed.recordings
        lengths = lengthsOfPData(recording.toServer)
        self.assertLessEqual(max(lengths), 4096)
        self.assertGreater(len(lengths), sum(len(sample.dataSet) for sample in largest) // 4096)

    async def test_eightAtOnce(self) -> None:
        """Eight processes send the same objects at the same time: each is acknowledged to all, and stored once."""
        self.start()
        samples = small()
        clients = [runClient("storescu", "-R", *self.peer, *paths(samples)) for _ in range(8)]
        for finished in await atOnce(clients):
            self.assertEqual((finished.status, finished.output), (0, ""))
        conversations = await self.relayed.conversations()
        self.assertEqual([len(conversation.objects) for conversation in conversations], [len(samples)] * 8)
        objects = [sent for conversation in conversations for sent in conversation.objects]
        self.assertEqual({sent.status for sent in objects}, {0})
        self.assertStoredExactly(objects)
        self.assertEqual(len(self.storedFiles()), len(samples))

    async def test_eightAtOnceWithNewUIDs(self) -> None:
        """Eight processes send objects of their own at the same time."""
        self.start()
        samples = small()
        clients = [runClient("storescu", "-R", "+IR", "3", *self.peer, *paths(samples)) for _ in range(8)]
        for finished in await atOnce(clients):
            self.assertEqual((finished.status, finished.output), (0, ""))
        objects = [sent for conversation in await self.relayed.conversations() for sent in conversation.objects]
        self.assertEqual({sent.status for sent in objects}, {0})
        self.assertStoredExactly(objects)
        self.assertEqual(len(self.storedFiles()), 8 * len(samples))

    async def test_userIdentity(self) -> None:
        """A user name with a passcode, to be confirmed: storescu is content with the answer."""
        self.start()
        identity = ("--user", "alice", "--password", "secret", "--pos-response")
        finished = await runClient("storescu", *identity, "-R", *self.peer, *paths(small()[:1]))
        self.assertEqual((finished.status, finished.output), (0, ""))
        conversation = await self.conversation()
        self.assertEqual(
            conversation.request.userInformation.userIdentity, UserIdentityRequest(2, True, b"alice", b"secret")
        )
        self.assertEqual(conversation.accept.userInformation.userIdentityResponse, b"")
        self.assertStoredExactly(conversation.objects)


class DcmsendTests(DCMTKTestCase):
    """dcmsend."""

    def setUp(self) -> None:
        """Skip before anything is started."""
        super().setUp()
        requireProgram("dcmsend")

    async def test_samples(self) -> None:
        """Each sample that dcmsend reads is acknowledged in the transfer syntax of its file, and stored as sent."""
        await self.sendSamples("--decompress-never")

    async def test_samplesDecompressed(self) -> None:
        """Likewise where dcmsend proposes uncompressed transfer syntaxes beside a compressed one."""
        await self.sendSamples("--decompress-lossy")

    async def sendSamples(self, option: str) -> None:
        """Send all samples, and check what came of it."""
        self.start()
        samples = sampleFiles()
        report = Path(self.mktemp())
        options = ("-v", "+f", "-nh", "-nuc", option, "--create-report-file", str(report))
        finished = await runClient("dcmsend", *options, *self.peer, *paths(samples))
        self.assertEqual(finished.status, 0, finished.output)
        objects = [sent for conversation in await self.relayed.conversations() for sent in conversation.objects]
        outcomes = dcmsendOutcomes(finished.output, report.read_text("latin-1"), samples)
        notStored = {name: text for name, text in outcomes.items() if text != _SUCCESS}
        self.assertListed(notStored, NOT_SENT_BY_DCMSEND)
        self.assertEqual(len(objects), sum(text.startswith("0x") for text in outcomes.values()))
        self.assertStoredExactly([sent for sent in objects if sent.status == 0])


class EchoscuTests(DCMTKTestCase):
    """echoscu."""

    def setUp(self) -> None:
        """Skip before anything is started."""
        super().setUp()
        requireProgram("echoscu")

    async def test_everythingAtOnce(self) -> None:
        """All it can propose, five echoes, and an abort in place of a release."""
        self.start()
        proposal = ("--propose-pc", "128", "--propose-ts", "38")
        finished = await runClient("echoscu", *proposal, "--repeat", "5", "--abort", *self.peer)
        self.assertEqual((finished.status, finished.output), (0, ""))
        conversation = await self.conversation()
        proposed = conversation.request.presentationContexts
        self.assertEqual([len(proposal.transferSyntaxes) for proposal in proposed], [38] * 128)
        self.assertEqual({proposal.abstractSyntax for proposal in proposed}, {VERIFICATION})
        results = conversation.accept.presentationContexts
        self.assertEqual([result.contextID for result in results], [proposal.contextID for proposal in proposed])
        self.assertEqual({result.result for result in results}, {ACCEPTANCE})
        self.assertEqual(conversation.echoes, [0] * 5)
        self.assertEqual(conversation.closing, Abort(0, 0))
        await self.listener.stopService()
        self.assertEqual(self.events.names, ["OnConnection", *["OnEcho"] * 5, "OnAssocEnd"])
        self.assertEqual(self.events.calls[-1][1][1], "aborted")


def small() -> list[SampleFile]:
    """Return a few small samples with UIDs of their own, which every client can send in any encoding."""
    return [sample for sample in sampleFiles() if sample.name.startswith("dicomdirtests/7")]


def paths(samples: Sequence[SampleFile]) -> list[str]:
    """Return where samples are, as a client takes it."""
    return [str(sample.path) for sample in samples]


def lengthsOfPData(data: bytes | bytearray) -> list[int]:
    """Return the length field of each P-DATA-TF."""
    framer = Framer(0)
    framer.feed(bytes(data))
    things = iter(framer.next, None)
    return [thing.length for thing in things if isinstance(thing, PDUHeader) and thing.pduType == P_DATA_TF]


def storescuOutcomes(output: str, samples: Sequence[SampleFile]) -> dict[str, str]:
    """Return what storescu says of each sample in the end: what was answered, or why it was not sent."""
    names = {str(sample.path): sample.name for sample in samples}
    _, *sections = re.split(r"^I: Sending file: (.*)\n", output, flags=re.MULTILINE)
    outcomes = {}
    for path, text in zip(sections[::2], sections[1::2], strict=True):
        answers = re.findall(r"^I: Received Store Response \((.*)\)$", text, re.MULTILINE)
        errors = re.findall(r"^E: (.*)$", text, re.MULTILINE)
        outcomes[names[path]] = (answers or errors)[-1].replace(path, "...")
    return outcomes


def dcmsendOutcomes(output: str, report: str, samples: Sequence[SampleFile]) -> dict[str, str]:
    """Return what dcmsend says of each sample in the end: what was answered, or why it was not sent."""
    status = dict(re.findall(r"^Filename +: (.*)\n(?:.+\n)*?DIMSE Status +: (.*)$", report, re.MULTILINE))
    bad = dict(re.findall(r"^W: bad DICOM file: (.*?): (.*), ignoring file$", output, re.MULTILINE))
    return {sample.name: (status | bad)[str(sample.path)] for sample in samples}
