"""
pynetdicom as the client, in threads of this process: what it puts on the wire is what is stored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, _config, build_context, build_role
from pynetdicom.pdu_primitives import (
    P_DATA,
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dcxtwisted.testing import RecordingEvents
from dcxtwisted.uids import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_SERVICE_CLASS,
    VERIFICATION,
)
from dcxtwisted.wire.items import ACCEPTANCE, AsynchronousOperationsWindow, RoleSelection, UserIdentityRequest
from dcxtwisted.wire.items import SOPClassExtendedNegotiation as ExtendedNegotiation
from dcxtwisted.wire.messages import encodeCStoreRQ
from dcxtwisted.wire.pdu import Abort, ReleaseRQ
from tests.interop.relay import Conversation
from tests.interop.support import ListenerTestCase, SampleFile, atOnce, sampleFiles

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
SECONDARY_CAPTURE_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.7"

# What pynetdicom raises for what it does not send.
_NO_UIDS = _NO_META_UIDS = "AttributeError"
_NO_CONTEXT = _NOT_ENCODED = "ValueError"
_NO_META = "InvalidDicomError"

#: What is not sent as a data set that pydicom decoded and encodes again; other versions may send more of it.
NOT_SENT: Mapping[str, str] = {
    "SC_rgb_jpeg.dcm": _NOT_ENCODED,  # its data set is in implicit VR, which its file meta does not say
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
    "dicomdirtests/DICOMDIR": _NO_CONTEXT,
    "dicomdirtests/DICOMDIR-bigEnd": _NO_CONTEXT,
    "dicomdirtests/DICOMDIR-empty.dcm": _NO_CONTEXT,
    "dicomdirtests/DICOMDIR-implicit": _NO_CONTEXT,
    "dicomdirtests/DICOMDIR-nooffset": _NO_CONTEXT,
    "dicomdirtests/DICOMDIR-nopatient": _NO_CONTEXT,
    "dicomdirtests/DICOMDIR-reordered": _NO_CONTEXT,
    "dicomdirtests/TINY_ALPHA/DICOMDIR": _NO_CONTEXT,
}


class PynetdicomTestCase(ListenerTestCase):
    """
    A test with clients of pynetdicom.

    :ivar events: what the listener was told.
    :ivar relayed: the relay that clients connect to.
    """

    def start(self, **answers: Any) -> None:
        """Start a listener, and a relay in front of it."""
        self.events = RecordingEvents(**answers)
        self.relayed = self.relay(self.listen(self.events))

    async def conversation(self) -> Conversation:
        """Return what the only client said."""
        (conversation,) = await self.relayed.conversations()
        return conversation


class StoreTests(PynetdicomTestCase):
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


class EightAtOnceTests(PynetdicomTestCase):
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


class NegotiationTests(PynetdicomTestCase):
    """
    Proposals beyond presentation contexts.

    :ivar acceptor: what pynetdicom read in the answer.
    """

    acceptor: Any

    async def test_echo(self) -> None:
        """C-ECHO is answered with 0000, with the lowest and with the highest message ID."""
        self.start()

        def echo() -> list[int]:
            with associated(self.relayed.port, [(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)]) as association:
                return [association.send_c_echo(messageID).Status for messageID in (1, 2, 65535)]

        self.assertEqual(await deferToThread(echo), [0, 0, 0])
        conversation = await self.conversation()
        self.assertEqual(conversation.echoes, [0, 0, 0])
        self.assertEqual(conversation.closing, ReleaseRQ())
        await self.listener.stopService()
        self.assertEqual(self.events.names, ["OnConnection", "OnEcho", "OnEcho", "OnEcho", "OnAssocEnd"])

    async def test_roles(self) -> None:
        """The requestor may be SCU of storage where it proposes to be; never SCP; no answer leaves the default."""
        items = [
            build_role(CT_IMAGE_STORAGE, scu_role=True, scp_role=False),
            build_role(MR_IMAGE_STORAGE, scu_role=True, scp_role=True),
            build_role(SECONDARY_CAPTURE_IMAGE_STORAGE, scu_role=False, scp_role=True),
        ]
        conversation = await self.propose(items)
        self.assertEqual(
            conversation.request.userInformation.roleSelections,
            (
                RoleSelection(CT_IMAGE_STORAGE, True, False),
                RoleSelection(MR_IMAGE_STORAGE, True, True),
                RoleSelection(SECONDARY_CAPTURE_IMAGE_STORAGE, False, True),
            ),
        )
        self.assertEqual(
            conversation.accept.userInformation.roleSelections,
            (RoleSelection(CT_IMAGE_STORAGE, True, False), RoleSelection(MR_IMAGE_STORAGE, True, False)),
        )
        self.assertEqual(
            {str(uid): (role.scu_role, role.scp_role) for uid, role in self.acceptor.role_selection.items()},
            {CT_IMAGE_STORAGE: (True, False), MR_IMAGE_STORAGE: (True, False)},
        )

    async def test_userIdentity(self) -> None:
        """A user name whose acknowledgement is asked for is acknowledged, with an empty server response."""
        item = UserIdentityNegotiation()
        item.user_identity_type = 1
        item.positive_response_requested = True
        item.primary_field = b"alice"
        conversation = await self.propose([item])
        self.assertEqual(conversation.request.userInformation.userIdentity, UserIdentityRequest(1, True, b"alice"))
        self.assertEqual(conversation.accept.userInformation.userIdentityResponse, b"")
        self.assertEqual(self.acceptor.user_identity.server_response, b"")
        (_, (_, _, _, association)) = self.events.calls[0]
        self.assertEqual(association.userIdentity.primaryField, b"alice")

    async def test_userIdentityWithoutResponse(self) -> None:
        """Where no acknowledgement is asked for there is none."""
        item = UserIdentityNegotiation()
        item.user_identity_type = 2
        item.primary_field = b"alice"
        item.secondary_field = b"secret"
        conversation = await self.propose([item])
        self.assertEqual(
            conversation.request.userInformation.userIdentity, UserIdentityRequest(2, False, b"alice", b"secret")
        )
        self.assertIsNone(conversation.accept.userInformation.userIdentityResponse)
        self.assertIsNone(self.acceptor.user_identity)

    async def test_extendedNegotiation(self) -> None:
        """Storage level 2 without coercion is answered for storage classes, whatever was proposed; the rest is not."""
        items = []
        for SOPClassUID in (CT_IMAGE_STORAGE, MR_IMAGE_STORAGE, VERIFICATION):
            item = SOPClassExtendedNegotiation()
            item.sop_class_uid = SOPClassUID
            item.service_class_application_information = bytes(6)
            items.append(item)
        conversation = await self.propose(items)
        self.assertEqual(len(conversation.request.userInformation.extendedNegotiations), 3)
        level2 = bytes.fromhex("020003000000")
        self.assertEqual(
            conversation.accept.userInformation.extendedNegotiations,
            (ExtendedNegotiation(CT_IMAGE_STORAGE, level2), ExtendedNegotiation(MR_IMAGE_STORAGE, level2)),
        )
        self.assertEqual(self.acceptor.sop_class_extended, {CT_IMAGE_STORAGE: level2, MR_IMAGE_STORAGE: level2})

    async def test_commonExtendedNegotiation(self) -> None:
        """It is accepted without an answer: there is none in an A-ASSOCIATE-AC."""
        item = SOPClassCommonExtendedNegotiation()
        item.sop_class_uid = CT_IMAGE_STORAGE
        item.service_class_uid = STORAGE_SERVICE_CLASS
        conversation = await self.propose([item])
        self.assertEqual(len(conversation.request.userInformation.commonExtendedNegotiations), 1)
        self.assertEqual(conversation.accept.userInformation.commonExtendedNegotiations, ())

    async def test_privateClass(self) -> None:
        """A class of the peer's own, of which it says that it is storage, is stored; another of its own is not."""
        self.start()
        own, other = "1.2.826.0.1.3680043.9.1", "1.2.826.0.1.3680043.9.2"
        item = SOPClassCommonExtendedNegotiation()
        item.sop_class_uid = own
        item.service_class_uid = STORAGE_SERVICE_CLASS
        (sample,) = (sample for sample in sampleFiles() if sample.name == "CT_small.dcm")
        dataSet = pydicom.dcmread(sample.path)
        dataSet.SOPClassUID = UID(own)

        def store() -> int:
            pairs = [(own, EXPLICIT_VR_LITTLE_ENDIAN), (other, EXPLICIT_VR_LITTLE_ENDIAN)]
            with associated(self.relayed.port, pairs, [item]) as association:
                status: int = association.send_c_store(dataSet).Status
                return status

        self.assertEqual(await deferToThread(store), 0)
        conversation = await self.conversation()
        self.assertEqual([context.result for context in conversation.accept.presentationContexts], [0, 3])
        self.assertStoredExactly(conversation.objects)
        (kept,) = self.storedFiles().values()
        self.assertEqual(kept.uid(0x0002), own)

    async def test_asynchronousOperations(self) -> None:
        """A window is answered: as many operations as are proposed, and none of this side's own."""
        item = AsynchronousOperationsWindowNegotiation()
        item.maximum_number_operations_invoked = 5
        item.maximum_number_operations_performed = 0
        conversation = await self.propose([item])
        self.assertEqual(
            conversation.request.userInformation.asynchronousOperationsWindow, AsynchronousOperationsWindow(5, 0)
        )
        self.assertEqual(
            conversation.accept.userInformation.asynchronousOperationsWindow, AsynchronousOperationsWindow(5, 1)
        )
        self.assertEqual(self.acceptor.asynchronous_operations, (5, 1))

    async def test_nothing(self) -> None:
        """What was not proposed is not answered."""
        answer = (await self.propose([])).accept.userInformation
        self.assertEqual((answer.maximumLength, answer.implementationVersionName), (131072, "DCXTWISTED_0_1"))
        self.assertEqual((answer.roleSelections, answer.extendedNegotiations), ((), ()))
        self.assertEqual((answer.asynchronousOperationsWindow, answer.userIdentityResponse), (None, None))

    async def propose(self, items: Sequence[object]) -> Conversation:
        """Return what was said on an association with these items, on which a C-ECHO and a C-STORE went well."""
        self.start()
        (sample,) = (sample for sample in sampleFiles() if sample.name == "CT_small.dcm")
        classes = (VERIFICATION, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE, SECONDARY_CAPTURE_IMAGE_STORAGE)

        def client() -> tuple[int, int]:
            pairs = [(SOPClassUID, EXPLICIT_VR_LITTLE_ENDIAN) for SOPClassUID in classes]
            with associated(self.relayed.port, pairs, items) as association:
                self.acceptor = association.acceptor
                return association.send_c_echo().Status, association.send_c_store(pydicom.dcmread(sample.path)).Status

        self.assertEqual(await deferToThread(client), (0, 0))
        conversation = await self.conversation()
        self.assertEqual([result.result for result in conversation.accept.presentationContexts], [ACCEPTANCE] * 4)
        self.assertStoredExactly(conversation.objects)
        return conversation


class AbortTests(PynetdicomTestCase):
    """A client that gives up."""

    async def test_insideAnObject(self) -> None:
        """An A-ABORT in the middle of a data set leaves nothing behind: no file, no descriptor, no association."""
        received = threading.Event()
        ended: Deferred[str] = Deferred()

        def watch(filename: str, request: Any) -> None:
            request.tap(lambda view: received.set())

        self.start(OnStoreSetup=watch, OnAssocEnd=lambda association, reason: ended.callback(reason))
        (sample,) = (sample for sample in sampleFiles() if sample.name == "CT_small.dcm")

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


def sendSamples(port: int, samples: Sequence[SampleFile], load: Callable[[SampleFile], object]) -> dict[str, str]:
    """Send samples on one association, and return the status of each, or why there is none."""
    pairs = dict.fromkeys((sample.SOPClassUID, sample.transferSyntaxUID) for sample in samples)
    outcomes = {}
    with associated(port, pairs) as association:
        for messageID, sample in enumerate(samples, 1):
            try:
                answer = association.send_c_store(load(sample), msg_id=messageID)
            except Exception as error:
                # Whatever its codecs and pydicom's make of a sample.
                outcomes[sample.name] = type(error).__name__
            else:
                outcomes[sample.name] = f"{answer.Status:04X}"
    return outcomes


@contextmanager
def associated(port: int, pairs: Iterable[tuple[str, str]], items: Sequence[object] = ()) -> Iterator[Any]:
    """Hold an association that proposes these pairs of abstract and transfer syntax; at the end it is released."""
    entity = AE("PYNETDICOM")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 20
    contexts = [build_context(abstract, transfer) for abstract, transfer in pairs]
    association = entity.associate("127.0.0.1", port, contexts, "DCXTWISTED", ext_neg=list(items))
    assert association.is_established
    try:
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()


def withFileMeta(dataSet: pydicom.Dataset, sample: SampleFile) -> pydicom.Dataset:
    """Have a data set say its transfer syntax, also where its file does not."""
    dataSet.file_meta.TransferSyntaxUID = UID(sample.transferSyntaxUID)
    return dataSet
