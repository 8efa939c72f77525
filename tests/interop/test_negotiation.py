"""
What pynetdicom proposes, and what it reads in the answer; the association has to do its work afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import pydicom
from pynetdicom import build_role
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
)
from twisted.internet.threads import deferToThread

from dcxtwisted import Configuration
from dcxtwisted.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_SERVICE_CLASS,
    STORAGE_SOP_CLASSES,
    VERIFICATION,
)
from dcxtwisted.wire.items import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTANCE,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    AsynchronousOperationsWindow,
    RoleSelection,
)
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation as CommonExtendedNegotiation
from dcxtwisted.wire.items import SOPClassExtendedNegotiation as ExtendedNegotiation
from tests.interop.relay import lengthsOfPData
from tests.interop.requestor import CLASSES, DEFAULT_CONTEXTS, NegotiationTestCase, associated
from tests.interop.samples import (
    CT_IMAGE_STORAGE,
    MR_IMAGE_STORAGE,
    SECONDARY_CAPTURE_IMAGE_STORAGE,
    sampleNamed,
)

#: SOP classes of nobody's.
PRIVATE = tuple(f"1.2.826.0.1.3680043.9.7133.{number}" for number in range(10, 14))
_PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"

# 390 bytes.
_TINY = "dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000"


class ContextTests(NegotiationTestCase):
    """Presentation contexts."""

    async def test_nothingElse(self) -> None:
        """What was not proposed is not answered."""
        conversation = await self.propose()
        answer = conversation.accept.userInformation
        self.assertEqual((answer.maximumLength, answer.implementationVersionName), (131072, "DCXTWISTED_0_1"))
        self.assertEqual((answer.roleSelections, answer.extendedNegotiations), ((), ()))
        self.assertEqual((answer.asynchronousOperationsWindow, answer.userIdentityResponse), (None, None))
        self.assertEqual([result.result for result in conversation.accept.presentationContexts], [ACCEPTANCE] * 4)

    async def test_manyWithSeveralSyntaxes(self) -> None:
        """Of 128 contexts all are accepted; the first syntax is chosen, but explicit before implicit little endian."""
        orders = (
            [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN],
            [EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN],
            [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN],
        )
        chosen = (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
        classes = [CT_IMAGE_STORAGE, VERIFICATION, *islice(STORAGE_SOP_CLASSES, 126)]
        await self.propose(contexts=[(uid, orders[number % 3]) for number, uid in enumerate(classes)])
        self.assertEqual(
            [(str(each.abstract_syntax), list(map(str, each.transfer_syntax))) for each in self.accepted()],
            [(uid, [chosen[number % 3]]) for number, uid in enumerate(classes)],
        )
        self.assertEqual(self.client.rejected_contexts, [])
        self.assertEqual(list(self.association.acceptedContexts), list(range(1, 256, 2)))

    async def test_refused(self) -> None:
        """A context is refused for what is wrong with it; those around it are accepted."""
        await self.propose(
            contexts=[
                (_PATIENT_ROOT_FIND, EXPLICIT_VR_LITTLE_ENDIAN),
                (VERIFICATION, EXPLICIT_VR_LITTLE_ENDIAN),
                (MR_IMAGE_STORAGE, ["1.2.826.0.1.3680043.9.7133.2", "1.2.840.10008.1.2.7.1"]),
                (CT_IMAGE_STORAGE, ["1.2.826.0.1.3680043.9.7133.2", EXPLICIT_VR_LITTLE_ENDIAN]),
            ]
        )
        self.assertEqual(
            [(each.context_id, each.result) for each in self.client.rejected_contexts],
            [(1, ABSTRACT_SYNTAX_NOT_SUPPORTED), (5, TRANSFER_SYNTAXES_NOT_SUPPORTED)],
        )
        self.assertEqual([each.context_id for each in self.accepted()], [3, 7])
        self.assertEqual(list(self.association.acceptedContexts), [3, 7])

    def accepted(self) -> list[Any]:
        """Return the contexts that pynetdicom takes for accepted, by their IDs."""
        return sorted(self.client.accepted_contexts, key=lambda context: context.context_id)


class RoleTests(NegotiationTestCase):
    """SCP/SCU role selection (PS3.7 D.3.3.4)."""

    async def test_roles(self) -> None:
        """The requestor may be SCU of storage where it proposes to be; never SCP; no answer leaves the default."""
        conversation = await self.propose(
            build_role(CT_IMAGE_STORAGE, scu_role=True, scp_role=False),
            build_role(MR_IMAGE_STORAGE, scu_role=True, scp_role=True),
            build_role(SECONDARY_CAPTURE_IMAGE_STORAGE, scu_role=False, scp_role=True),
        )
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
            self.roles(self.client.requestor),
            {
                CT_IMAGE_STORAGE: (True, False),
                MR_IMAGE_STORAGE: (True, True),
                SECONDARY_CAPTURE_IMAGE_STORAGE: (False, True),
            },
        )
        self.assertEqual(
            self.roles(self.client.acceptor), {CT_IMAGE_STORAGE: (True, False), MR_IMAGE_STORAGE: (True, False)}
        )
        self.assertEqual(
            {str(each.abstract_syntax): (each.as_scu, each.as_scp) for each in self.client.accepted_contexts},
            dict.fromkeys(CLASSES, (True, False)),
        )

    async def test_echoBothWays(self) -> None:
        """No more is answered for verification, and none for a class whose context is refused."""
        await self.propose(
            build_role(VERIFICATION, scu_role=True, scp_role=True),
            build_role(_PATIENT_ROOT_FIND, scu_role=True, scp_role=True),
            contexts=[*DEFAULT_CONTEXTS, (_PATIENT_ROOT_FIND, EXPLICIT_VR_LITTLE_ENDIAN)],
        )
        self.assertEqual(self.roles(self.client.acceptor), {VERIFICATION: (True, False)})

    def roles(self, user: Any) -> dict[str, tuple[bool, bool]]:
        """Return what one side said of each class, as pynetdicom has it: the requestor's role as SCU, and as SCP."""
        return {str(uid): (item.scu_role, item.scp_role) for uid, item in user.role_selection.items()}


class ExtendedNegotiationTests(NegotiationTestCase):
    """SOP class extended and common extended negotiation (PS3.7 D.3.3.5, D.3.3.6)."""

    async def test_storage(self) -> None:
        """Storage level 2 without coercion is answered for storage classes, whatever was proposed; the rest is not."""
        items = []
        for SOPClassUID in (CT_IMAGE_STORAGE, MR_IMAGE_STORAGE, VERIFICATION):
            item = SOPClassExtendedNegotiation()
            item.sop_class_uid = SOPClassUID
            item.service_class_application_information = bytes(6)
            items.append(item)
        conversation = await self.propose(*items)
        self.assertEqual(len(conversation.request.userInformation.extendedNegotiations), 3)
        level2 = bytes.fromhex("020003000000")
        self.assertEqual(
            conversation.accept.userInformation.extendedNegotiations,
            (ExtendedNegotiation(CT_IMAGE_STORAGE, level2), ExtendedNegotiation(MR_IMAGE_STORAGE, level2)),
        )
        self.assertEqual(self.client.acceptor.sop_class_extended, {CT_IMAGE_STORAGE: level2, MR_IMAGE_STORAGE: level2})

    async def test_common(self) -> None:
        """It is accepted without an answer: there is none in an A-ASSOCIATE-AC."""
        conversation = await self.propose(
            common(CT_IMAGE_STORAGE), common(MR_IMAGE_STORAGE, related=[CT_IMAGE_STORAGE, MR_IMAGE_STORAGE])
        )
        self.assertEqual(
            conversation.request.userInformation.commonExtendedNegotiations,
            (
                CommonExtendedNegotiation(CT_IMAGE_STORAGE, STORAGE_SERVICE_CLASS),
                CommonExtendedNegotiation(
                    MR_IMAGE_STORAGE, STORAGE_SERVICE_CLASS, (CT_IMAGE_STORAGE, MR_IMAGE_STORAGE)
                ),
            ),
        )
        self.assertEqual(conversation.accept.userInformation.commonExtendedNegotiations, ())

    async def test_private(self) -> None:
        """A class unknown here is taken where its peer says that it is storage, and its objects are stored as sent."""
        byService, byGeneral, unsaid, other = PRIVATE
        self.start()
        items = [
            common(byService),
            common(byGeneral, serviceClassUID=other, related=[MR_IMAGE_STORAGE]),
            common(other, serviceClassUID=byService, related=[_PATIENT_ROOT_FIND]),
            common(_PATIENT_ROOT_FIND),  # known, and no storage: whatever is said of it
        ]
        results, statuses = await deferToThread(self._storePrivate, items)
        self.assertEqual(
            results,
            {
                byService: ACCEPTANCE,
                byGeneral: ACCEPTANCE,
                unsaid: ABSTRACT_SYNTAX_NOT_SUPPORTED,
                other: ABSTRACT_SYNTAX_NOT_SUPPORTED,
                _PATIENT_ROOT_FIND: ABSTRACT_SYNTAX_NOT_SUPPORTED,
            },
        )
        self.assertEqual(statuses, [0, 0])
        conversation = await self.conversation()
        self.assertEqual([sent.SOPClassUID for sent in conversation.objects], [byService, byGeneral])
        self.assertStoredExactly(conversation.objects)
        kept = {part10.SOPInstanceUID: part10.SOPClassUID for part10 in self.storedFiles().values()}
        self.assertEqual(kept, {"2.25.0": byService, "2.25.1": byGeneral})

    def _storePrivate(self, items: Sequence[object]) -> tuple[dict[str, int], list[int]]:
        """Propose the private classes, and send an object of each of the first two; return results and statuses."""
        contexts = [(SOPClassUID, EXPLICIT_VR_LITTLE_ENDIAN) for SOPClassUID in (*PRIVATE, _PATIENT_ROOT_FIND)]
        statuses = []
        with associated(self.relayed.port, contexts, items) as association:
            proposed = (*association.accepted_contexts, *association.rejected_contexts)
            results = {str(context.abstract_syntax): context.result for context in proposed}
            dataSet = pydicom.dcmread(sampleNamed("CT_small.dcm").path)
            for number, dataSet.SOPClassUID in enumerate(PRIVATE[:2]):
                dataSet.SOPInstanceUID = f"2.25.{number}"
                statuses.append(association.send_c_store(dataSet).Status)
        return results, statuses


def common(
    SOPClassUID: str, serviceClassUID: str = STORAGE_SERVICE_CLASS, related: Sequence[str] = ()
) -> SOPClassCommonExtendedNegotiation:
    """Return the item that says what an SOP class is."""
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid = SOPClassUID
    item.service_class_uid = serviceClassUID
    item.related_general_sop_class_identification = list(related)
    return item


class WindowTests(NegotiationTestCase):
    """The asynchronous operations window (PS3.7 D.3.3.3)."""

    async def test_within(self) -> None:
        """What is no more than the listener takes is answered as proposed; nothing is invoked here."""
        await self.offer(proposed=(5, 3), answered=(5, 1))

    async def test_beyond(self) -> None:
        """More than the listener takes is cut, and so is no limit at all."""
        await self.offer(proposed=(9, 1), answered=(8, 1))
        await self.offer(proposed=(0, 0), answered=(8, 1))
        await self.offer(proposed=(65535, 65535), answered=(3, 1), configuration=Configuration(operationsWindow=3))

    async def test_one(self) -> None:
        """One operation at a time is an answer too."""
        await self.offer(proposed=(1, 1), answered=(1, 1))
        await self.offer(proposed=(5, 0), answered=(1, 1), configuration=Configuration(operationsWindow=1))

    async def offer(
        self, proposed: tuple[int, int], answered: tuple[int, int], configuration: Configuration | None = None
    ) -> None:
        """Check that a window is answered with another."""
        item = AsynchronousOperationsWindowNegotiation()
        item.maximum_number_operations_invoked, item.maximum_number_operations_performed = proposed
        conversation = await self.propose(item, configuration=configuration)
        self.assertEqual(
            conversation.request.userInformation.asynchronousOperationsWindow, AsynchronousOperationsWindow(*proposed)
        )
        self.assertEqual(
            conversation.accept.userInformation.asynchronousOperationsWindow, AsynchronousOperationsWindow(*answered)
        )
        self.assertEqual(self.client.acceptor.asynchronous_operations, answered)


class LengthTests(NegotiationTestCase):
    """The maximum length of PDUs (PS3.8 D.1)."""

    async def test_toClient(self) -> None:
        """No answer is longer than pynetdicom takes, down to two bytes of fragment; 0 is no limit."""
        for maximumLength, longest in ((0, 1000), (4096, 1000), (8, 8), (13, 12)):
            await self.propose(maximumLength=maximumLength)
            self.assertEqual(self.association.maximumLengthToSend, maximumLength)
            lengths = lengthsOfPData(self.relayed.recordings[0].toClient)
            self.assertLessEqual(max(lengths), longest)
            # Two responses: each in one PDU, or in many.
            self.assertEqual(len(lengths) > 2, longest < 1000)

    async def test_toListener(self) -> None:
        """pynetdicom sends what it is told, down to two bytes of fragment; 0 is no limit."""
        size = len(sampleNamed("CT_small.dcm").dataSet)
        for maximumLength, sample, low, high in (
            (0, "CT_small.dcm", size, 2 * size),
            (131072, "CT_small.dcm", size, 2 * size),
            (4096, "CT_small.dcm", 4096, 4096),
            (8, _TINY, 8, 8),
        ):
            await self.propose(sample=sample, configuration=Configuration(maximumLength=maximumLength))
            self.assertEqual(self.client.acceptor.maximum_length, maximumLength)
            longest = max(lengthsOfPData(self.relayed.recordings[0].toServer))
            self.assertTrue(low <= longest <= high, longest)
