"""
pynetdicom as the client, in threads of this process: what it puts on the wire is what is stored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, generate_uid
from pynetdicom import _config
from pynetdicom.pdu_primitives import P_DATA
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dcxtwisted.testing import RecordingEvents
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.wire.messages import encodeCStoreRQ
from dcxtwisted.wire.pdu import Abort, ReleaseRQ
from tests.interop.requestor import associated, sendSamples
from tests.interop.samples import (
    CT_IMAGE_STORAGE,
    MEDIA_DIRECTORIES,
    WITHOUT_IDENTITY,
    SampleFile,
    sampleFiles,
    sampleNamed,
)
from tests.interop.support import ListenerTestCase, atOnce

# What pynetdicom raises for what it does not send.
_NO_UIDS = _NO_META_UIDS = "AttributeError"
_NO_CONTEXT = _NOT_ENCODED = "ValueError"
_NO_META = "InvalidDicomError"

#: What is not sent as a data set that pydicom decoded and encodes again; other versions may send more of it.
NOT_SENT: Mapping[str, str] = {
    "SC_rgb_jpeg.dcm": _NOT_ENCODED,  # its data set is in implicit VR, which its file meta does not say
    **dict.fromkeys((*WITHOUT_IDENTITY, *MEDIA_DIRECTORIES), _NO_UIDS),
}

#: What is not sent, or is refused, where the bytes come out of the file and the command's UIDs out of its file meta.
NOT_STORED_FROM_FILES: Mapping[str, str] = {
    # Cut in the middle of a value.
    "MR_truncated.dcm": "C000",
    "rtplan_truncated.dcm": "C000",
    # No identity in the data set.
    "UN_sequence.dcm": "C000",
    "no_meta_group_length.dcm": "C000",
    "priv_SQ.dcm": "C000",
    # The SOP instance of the file meta is not that of the data set.
    "badVR.dcm": "A900",
    "rtdose.dcm": "A900",
    "rtdose_1frame.dcm": "A900",
    "rtdose_expb.dcm": "A900",
    "rtdose_expb_1frame.dcm": "A900",
    "rtplan.dcm": "A900",
    # Not sent.
    "ExplVR_BigEndNoMeta.dcm": _NO_META,
    "ExplVR_LitEndNoMeta.dcm": _NO_META,
    "rtstruct.dcm": _NO_META,
    "empty_charset_LEI.dcm": _NO_META_UIDS,
    "meta_missing_tsyntax.dcm": _NO_META_UIDS,
    "nested_priv_SQ.dcm": _NO_CONTEXT,
    **dict.fromkeys(MEDIA_DIRECTORIES, _NO_CONTEXT),
}


class StoreTests(ListenerTestCase):
    """C-STORE."""

    async def test_samples(self) -> None:
        """Each sample that pynetdicom can encode is acknowledged, and stored as sent."""
        await self.sendAll(lambda sample: withFileMeta(pydicom.dcmread(sample.path, force=True), sample), NOT_SENT)

    async def test_samplesFromFiles(self) -> None:
        """Each sample whose bytes pynetdicom takes out of its file is stored as it is there."""
        self.patch(_config, "STORE_SEND_CHUNKED_DATASET", True)
        outcomes = await self.sendAll(lambda sample: sample.path, NOT_STORED_FROM_FILES)
        stored = {(kept.transferSyntaxUID, kept.dataSet) for kept in self.storedFiles().values()}
        sent = [sample for sample in sampleFiles() if outcomes[sample.name] == "0000"]
        self.assertEqual(stored, {(sample.transferSyntaxUID, sample.dataSet) for sample in sent})

    async def sendAll(self, load: Callable[[SampleFile], object], listed: Mapping[str, str]) -> Mapping[str, str]:
        """
        Send all samples and return what came of each: it is stored, or listed as not stored.

        :param load: gives what pynetdicom is to send of a sample.
        """
        self.start()
        samples = sampleFiles()
        outcomes = await deferToThread(sendSamples, self.relayed.port, samples, load)
        conversation = await self.conversation()
        notStored = {name: outcome for name, outcome in outcomes.items() if outcome != "0000"}
        self.assertListed(notStored, listed)
        self.assertEqual(len(conversation.objects), sum(len(outcome) == 4 for outcome in outcomes.values()))
        self.assertStoredExactly([sent for sent in conversation.objects if sent.status == 0])
        self.assertEqual(conversation.closing, ReleaseRQ())
        return outcomes


class EightAtOnceTests(ListenerTestCase):
    """Several associations at the same time."""

    async def test_tenObjectsEach(self) -> None:
        """Eight associations each send ten objects of their own: all are acknowledged and stored."""
        self.start()
        scans = [sample for sample in sampleFiles() if sample.identified and sample.SOPClassUID == CT_IMAGE_STORAGE]
        samples = scans[:10]
        self.assertEqual(len(samples), 10)

        def asNew(sample: SampleFile) -> pydicom.Dataset:
            dataSet = pydicom.dcmread(sample.path)
            dataSet.SOPInstanceUID = generate_uid()
            return dataSet

        clients = [deferToThread(sendSamples, self.relayed.port, samples, asNew) for _ in range(8)]
        for outcomes in await atOnce(clients):
            self.assertEqual(outcomes, dict.fromkeys(outcomes, "0000"))
        conversations = await self.relayed.conversations()
        self.assertEqual([len(conversation.objects) for conversation in conversations], [10] * 8)
        self.assertStoredExactly([sent for conversation in conversations for sent in conversation.objects])
        self.assertEqual(len(self.storedFiles()), 80)


class EchoTests(ListenerTestCase):
    """C-ECHO."""

    async def test_messageIDs(self) -> None:
        """Each is answered with 0000, with the lowest and with the highest message ID."""
        self.start()

        def echo() -> list[int]:
            with associated(self.relayed.port, [(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)]) as association:
                return [association.send_c_echo(messageID).Status for messageID in (1, 2, 65535)]

        self.assertEqual(await deferToThread(echo), [0, 0, 0])
        conversation = await self.conversation()
        self.assertEqual(conversation.echoes, [0, 0, 0])
        self.assertEqual(conversation.closing, ReleaseRQ())
        await self.assertEvents("OnConnection", "OnEcho", "OnEcho", "OnEcho", end="released")


class AbortTests(ListenerTestCase):
    """A client that gives up."""

    async def test_insideAnObject(self) -> None:
        """An A-ABORT in the middle of a data set leaves nothing behind: no file, no descriptor, no association."""
        received = threading.Event()
        ended: Deferred[str] = Deferred()

        def watch(filename: str, request: Any) -> None:
            request.tap(lambda view: received.set())

        self.start(RecordingEvents(OnStoreSetup=watch, OnAssocEnd=lambda association, reason: ended.callback(reason)))
        sample = sampleNamed("CT_small.dcm")

        def client() -> None:
            with associated(self.relayed.port, [(CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN)]) as association:
                command = encodeCStoreRQ(1, sample.SOPClassUID, sample.SOPInstanceUID)
                for control, fragment in ((3, command), (0, sample.dataSet[:20000])):
                    primitive = P_DATA()
                    primitive.presentation_data_value_list = [[1, bytes([control]) + fragment]]
                    association.dul.send_pdu(primitive)
                assert received.wait(20)
                association.abort()

        await deferToThread(client)
        self.assertEqual(await ended, "aborted")
        self.assertEqual(self.events.names, ["OnConnection", "OnStoreSetup", "OnStoreDone", "OnAssocEnd"])
        self.assertEqual(self.events.calls[2][1][:2], ("", False))
        self.assertEqual(self.listener.associations, [])
        self.assertEqual(self.storedFiles(), {})
        self.assertEqual(self.descriptorsInStore(), [])
        conversation = await self.conversation()
        self.assertEqual((conversation.objects, conversation.closing), ([], Abort(0, 0)))

    def descriptorsInStore(self) -> list[str]:
        """Return the files below the store, named or not, that this process has open."""
        links = [Path(entry.path) for entry in os.scandir("/proc/self/fd")]
        targets = [os.readlink(link) for link in links if link.is_symlink()]
        return [target for target in targets if target.startswith(f"{self.store}/")]


def withFileMeta(dataSet: pydicom.Dataset, sample: SampleFile) -> pydicom.Dataset:
    """Have a data set say its transfer syntax, also where its file does not."""
    dataSet.file_meta.TransferSyntaxUID = UID(sample.transferSyntaxUID)
    return dataSet
