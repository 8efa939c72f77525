"""
What A-ASSOCIATE-RQ is answered with, as values and as the bytes that are sent.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Mapping

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.uids import (
    APPLICATION_CONTEXT,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.items import (
    AsynchronousOperationsWindow,
    PresentationContextProposal,
    PresentationContextResult,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRequest,
    UserInformation,
)
from dcxtwisted.wire.negotiation import (
    MINIMUM_PDU_LENGTH,
    AcceptedContext,
    Negotiated,
    Supported,
    answeringIdentity,
    negotiate,
    withoutClasses,
)
from dcxtwisted.wire.pdu import AssociateAC, AssociateRJ, AssociateRQ, decode

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT = EXPLICIT_VR_LITTLE_ENDIAN
BIG_ENDIAN = EXPLICIT_VR_BIG_ENDIAN
JPEG = "1.2.840.10008.1.2.4.70"
UNKNOWN = "1.2.840.10008.1.2.4.999"

TRANSFER_SYNTAXES: Mapping[str, Container[str]] = {
    VERIFICATION: (IMPLICIT, EXPLICIT),
    CT: {IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG},
    MR: {EXPLICIT: "also a mapping is a container"},
}


def transferSyntaxes(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None) -> Container[str] | None:
    """What is taken for a class; as MR for one that is said to be like MR."""
    if common is not None and MR in common.relatedGeneralSOPClassUIDs:
        abstractSyntax = MR
    return TRANSFER_SYNTAXES.get(abstractSyntax)


def everything(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None) -> Container[str]:
    """Any class, in explicit VR little endian."""
    return (EXPLICIT,)


SUPPORTED = Supported(transferSyntaxes, 131072, "1.2.276.9", "US_1")

#: What every acceptance says of this side, whatever was proposed.
OUR_INFORMATION = UserInformation(131072, "1.2.276.9", "US_1")

RQ = AssociateRQ(
    calledAE=b"ARCHIVE         ",
    callingAE=b"MODALITY        ",
    applicationContexts=(APPLICATION_CONTEXT,),
    presentationContexts=(PresentationContextProposal(1, VERIFICATION, (IMPLICIT,)),),
    userInformation=UserInformation(16384, "1.2.3", "PEER"),
)


def asked(request: AssociateRQ, supported: Supported = SUPPORTED) -> Negotiated | AssociateRJ:
    """The outcome for a request; what is to be sent must mean the same as bytes."""
    received = decode(1, request.encode()[6:])
    assert isinstance(received, AssociateRQ)
    outcome = negotiate(received, supported)
    if isinstance(outcome, Negotiated):
        accept = decode(2, outcome.accept.encode()[6:])
        assert isinstance(accept, AssociateAC)
        # What a requestor would count as odd is only what it sent itself.
        assert attrs.evolve(accept, quirks=()) == outcome.accept
    return outcome


def accepted(request: AssociateRQ, supported: Supported = SUPPORTED) -> Negotiated:
    """The terms for a request that must be accepted."""
    outcome = asked(request, supported)
    assert isinstance(outcome, Negotiated)
    return outcome


def proposing(*contexts: PresentationContextProposal) -> AssociateRQ:
    return attrs.evolve(RQ, presentationContexts=contexts)


def informing(information: UserInformation, *abstractSyntaxes: str) -> AssociateRQ:
    """A request with this user information, and contexts for these abstract syntaxes."""
    contexts = [
        PresentationContextProposal(2 * index + 1, abstractSyntax, (EXPLICIT,))
        for index, abstractSyntax in enumerate(abstractSyntaxes or (VERIFICATION, CT))
    ]
    return attrs.evolve(RQ, presentationContexts=tuple(contexts), userInformation=information)


def answered(information: UserInformation, *abstractSyntaxes: str) -> UserInformation:
    """The user information that this user information is answered with."""
    return accepted(informing(information, *abstractSyntaxes)).accept.userInformation


class RejectionTests(SynchronousTestCase):
    """Requests that are rejected, and with what."""

    def assertRejected(self, request: AssociateRQ, result: int, source: int, reason: int) -> None:
        outcome = asked(request)
        assert isinstance(outcome, AssociateRJ)
        self.assertEqual(outcome.encode(), bytes.fromhex("03 00 00000004 00") + bytes((result, source, reason)))

    def test_protocolVersion(self) -> None:
        """Only bit 0 is looked at."""
        for version in (0, 2, 0xFFFE, 0x0100):
            self.assertRejected(attrs.evolve(RQ, protocolVersion=version), 1, 2, 2)
        for version in (1, 3, 0xFFFF, 0x0101):
            self.assertEqual(accepted(attrs.evolve(RQ, protocolVersion=version)).accept.protocolVersion, 1)

    def test_applicationContext(self) -> None:
        """Wrong, missing, or there twice."""
        for contexts in ((), ("1.2.3",), (APPLICATION_CONTEXT,) * 2, (APPLICATION_CONTEXT, "1.2.3"), ("",)):
            self.assertRejected(attrs.evolve(RQ, applicationContexts=contexts), 1, 1, 2)

    def test_noPresentationContexts(self) -> None:
        self.assertRejected(proposing(), 1, 1, 1)

    def test_maximumLength(self) -> None:
        """Too small for a fragment of two bytes."""
        for length in range(1, 8):
            self.assertRejected(attrs.evolve(RQ, userInformation=UserInformation(length)), 1, 1, 1)

    def test_order(self) -> None:
        """Of several reasons the one that comes first in the PDU counts."""
        request = attrs.evolve(
            RQ,
            protocolVersion=2,
            applicationContexts=(),
            presentationContexts=(),
            userInformation=UserInformation(1),
        )
        self.assertRejected(request, 1, 2, 2)
        self.assertRejected(attrs.evolve(request, protocolVersion=1), 1, 1, 2)


class AcceptTests(SynchronousTestCase):
    """The A-ASSOCIATE-AC as a whole."""

    def test_bytes(self) -> None:
        """Byte for byte: the fields of the request come back, then one result a context, then the user items."""
        reserved = bytes(range(100, 132))
        request = attrs.evolve(
            proposing(
                PresentationContextProposal(3, "1.2.3", (JPEG,)),
                PresentationContextProposal(1, VERIFICATION, (IMPLICIT,)),
            ),
            calledAE=b"\xff\r\n../\\$(id)\0\0\0\0",
            callingAE=b" " * 16,
            reserved=reserved,
        )

        def item(itemType: int, content: bytes) -> bytes:
            return struct.pack(">BxH", itemType, len(content)) + content

        body = (
            b"\0\1\0\0"
            + b"\xff\r\n../\\$(id)\0\0\0\0"
            + b" " * 16
            + reserved
            + item(0x10, b"1.2.840.10008.3.1.1.1")
            + item(0x21, b"\3\0\3\0" + item(0x40, b"1.2.840.10008.1.2.4.70"))
            + item(0x21, b"\1\0\0\0" + item(0x40, b"1.2.840.10008.1.2"))
            + item(0x50, item(0x51, bytes.fromhex("00020000")) + item(0x52, b"1.2.276.9") + item(0x55, b"US_1"))
        )
        expected = struct.pack(">BxL", 2, len(body)) + body
        self.assertEqual(accepted(request).accept.encode(), expected)

    def test_terms(self) -> None:
        """What is agreed on, and what was proposed, by ID."""
        outcome = accepted(
            proposing(
                PresentationContextProposal(1, VERIFICATION, (IMPLICIT,)),
                PresentationContextProposal(3, FIND, (IMPLICIT,)),
                PresentationContextProposal(5, CT, (UNKNOWN,)),
                PresentationContextProposal(7, CT, (JPEG,)),
                PresentationContextProposal(9, "", (JPEG,)),
            )
        )
        self.assertEqual(
            outcome.contexts, {1: AcceptedContext(1, VERIFICATION, IMPLICIT), 7: AcceptedContext(7, CT, JPEG)}
        )
        self.assertEqual(outcome.proposed, {1: VERIFICATION, 3: FIND, 5: CT, 7: CT, 9: ""})

    def test_maximumLengthToSend(self) -> None:
        """What the peer said; unusable as it is, the default."""
        for proposed, expected in ((0, 0), (8, 8), (9, 9), (131072, 131072), (0xFFFFFFFF, 0xFFFFFFFF), (None, 16384)):
            outcome = accepted(informing(UserInformation(proposed)))
            self.assertEqual(outcome.maximumLengthToSend, expected)
            self.assertEqual(outcome.accept.userInformation, OUR_INFORMATION)

    def test_smallestMaximumLength(self) -> None:
        """What is not rejected is enough for a fragment."""
        self.assertEqual(MINIMUM_PDU_LENGTH, 8)
        self.assertEqual(len(fragment(1, True, b"abcd", MINIMUM_PDU_LENGTH)), 2 * (12 + 2))

    def test_ownMaximumLength(self) -> None:
        for length in (0, 8, 0xFFFFFFFF):
            outcome = accepted(RQ, attrs.evolve(SUPPORTED, maximumLength=length))
            self.assertEqual(outcome.accept.userInformation.maximumLength, length)


class ContextTests(SynchronousTestCase):
    """The result of a presentation context."""

    def assertResult(self, abstractSyntax: str, transferSyntaxes: tuple[str, ...], result: int, syntax: str) -> None:
        outcome = accepted(proposing(PresentationContextProposal(1, abstractSyntax, transferSyntaxes)))
        self.assertEqual(outcome.accept.presentationContexts, (PresentationContextResult(1, result, syntax),))
        self.assertEqual(outcome.contexts, {} if result else {1: AcceptedContext(1, abstractSyntax, syntax)})

    def test_choice(self) -> None:
        """The requestor's order, but explicit before implicit little endian."""
        rows = [
            ((IMPLICIT,), IMPLICIT),
            ((EXPLICIT,), EXPLICIT),
            ((IMPLICIT, EXPLICIT), EXPLICIT),
            ((EXPLICIT, IMPLICIT), EXPLICIT),
            ((IMPLICIT, BIG_ENDIAN, JPEG, EXPLICIT), EXPLICIT),
            ((JPEG, IMPLICIT, EXPLICIT), JPEG),
            ((BIG_ENDIAN, EXPLICIT, IMPLICIT), BIG_ENDIAN),
            ((IMPLICIT, JPEG), IMPLICIT),
            ((IMPLICIT, BIG_ENDIAN), IMPLICIT),
            ((UNKNOWN, JPEG, EXPLICIT), JPEG),
            ((UNKNOWN, IMPLICIT, EXPLICIT), EXPLICIT),
            ((JPEG, JPEG), JPEG),
        ]
        for proposed, chosen in rows:
            self.assertResult(CT, proposed, 0, chosen)

    def test_choiceAmongTheSupported(self) -> None:
        """Explicit is no choice where it is not supported."""
        supported = attrs.evolve(SUPPORTED, transferSyntaxes=lambda abstractSyntax, common: (IMPLICIT, JPEG))
        outcome = accepted(proposing(PresentationContextProposal(1, CT, (IMPLICIT, EXPLICIT, JPEG))), supported)
        self.assertEqual(outcome.contexts[1].transferSyntax, IMPLICIT)

    def test_preference(self) -> None:
        """The first preferred one that is proposed and supported, else as without a preference."""
        rows: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
            ((JPEG,), (IMPLICIT, EXPLICIT, JPEG), JPEG),
            ((IMPLICIT,), (EXPLICIT, IMPLICIT), IMPLICIT),
            ((IMPLICIT,), (IMPLICIT, EXPLICIT), IMPLICIT),
            ((BIG_ENDIAN, JPEG), (JPEG, EXPLICIT, BIG_ENDIAN), BIG_ENDIAN),
            ((BIG_ENDIAN, JPEG), (EXPLICIT, JPEG), JPEG),
            ((UNKNOWN, "1.2.3"), (UNKNOWN, IMPLICIT, EXPLICIT), EXPLICIT),
            ((UNKNOWN, JPEG), (UNKNOWN, EXPLICIT, JPEG), JPEG),
            ((JPEG,), (BIG_ENDIAN, EXPLICIT), BIG_ENDIAN),
        ]
        for preference, proposed, chosen in rows:
            supported = attrs.evolve(SUPPORTED, transferSyntaxPreference=preference)
            outcome = accepted(proposing(PresentationContextProposal(1, CT, proposed)), supported)
            self.assertEqual(outcome.contexts, {1: AcceptedContext(1, CT, chosen)})
        refused = accepted(proposing(PresentationContextProposal(1, CT, (UNKNOWN,))), supported)
        self.assertEqual(refused.accept.presentationContexts, (PresentationContextResult(1, 4, UNKNOWN),))

    def test_abstractSyntaxNotSupported(self) -> None:
        """Unknown, another service's, or none at all."""
        for abstractSyntax in (FIND, "1.2.3", ""):
            self.assertResult(abstractSyntax, (JPEG, IMPLICIT), 3, JPEG)
            self.assertResult(abstractSyntax, (), 3, IMPLICIT)

    def test_transferSyntaxesNotSupported(self) -> None:
        """Unknown, another class's, or none at all."""
        self.assertResult(CT, (UNKNOWN,), 4, UNKNOWN)
        self.assertResult(CT, (UNKNOWN, "1.2.3"), 4, UNKNOWN)
        self.assertResult(CT, (), 4, IMPLICIT)
        self.assertResult(MR, (IMPLICIT, JPEG), 4, IMPLICIT)
        self.assertResult(VERIFICATION, (JPEG,), 4, JPEG)

    def test_supportedWithoutTransferSyntaxes(self) -> None:
        """A class that is known, but none of whose transfer syntaxes is."""
        outcome = accepted(RQ, attrs.evolve(SUPPORTED, transferSyntaxes=lambda abstractSyntax, common: ()))
        self.assertEqual(outcome.accept.presentationContexts, (PresentationContextResult(1, 4, IMPLICIT),))

    def test_endlessTransferSyntaxes(self) -> None:
        """What no UID can be is not sent back: the answer to 128 of them would have no bound but the request's."""
        endless = "1." + "2" * 63
        longest = endless[:-1]
        self.assertResult(CT, (endless, longest, UNKNOWN), 4, longest)
        self.assertResult(FIND, (endless,), 3, IMPLICIT)

    def test_emptyTransferSyntax(self) -> None:
        """One without a name is as good as none."""
        request = proposing(PresentationContextProposal(1, CT, ("",)))
        outcome = accepted(request)
        self.assertEqual(outcome.accept.presentationContexts, (PresentationContextResult(1, 4, IMPLICIT),))

    def test_eachInItsOrder(self) -> None:
        """One result for each of 128 contexts, refused ones too, in the order they came."""
        syntaxes = (CT, FIND, VERIFICATION, "1.2.3", MR)
        IDs = [*range(255, 0, -2)]
        proposals = [PresentationContextProposal(ID, syntaxes[ID % 5], (IMPLICIT, EXPLICIT)) for ID in IDs]
        outcome = accepted(proposing(*proposals))
        results = outcome.accept.presentationContexts
        self.assertEqual([result.contextID for result in results], IDs)
        self.assertEqual([result.result for result in results], [(0, 3, 0, 3, 0)[ID % 5] for ID in IDs])
        expected = [(EXPLICIT, IMPLICIT, EXPLICIT, IMPLICIT, EXPLICIT)[ID % 5] for ID in IDs]
        self.assertEqual([result.transferSyntax for result in results], expected)
        self.assertEqual(list(outcome.proposed), IDs)
        self.assertEqual(list(outcome.contexts), [ID for ID in IDs if ID % 5 not in (1, 3)])

    def test_longNamesAreNotKept(self) -> None:
        """What was refused is remembered as long as the association is up, but not by all of a 64 KB name."""
        long = "1." + "2" * 60000
        outcome = accepted(proposing(PresentationContextProposal(1, long, (IMPLICIT,))))
        self.assertEqual(outcome.proposed, {1: long[:64]})
        outcome = accepted(
            proposing(PresentationContextProposal(1, long, (EXPLICIT,))),
            attrs.evolve(SUPPORTED, transferSyntaxes=everything),
        )
        self.assertEqual(outcome.contexts, {1: AcceptedContext(1, long, EXPLICIT)})

    def test_allRefused(self) -> None:
        """An association on which nothing can be sent is accepted all the same."""
        outcome = accepted(proposing(PresentationContextProposal(1, FIND, (IMPLICIT,))))
        self.assertEqual((outcome.contexts, outcome.proposed), ({}, {1: FIND}))

    def test_evenIDs(self) -> None:
        outcome = accepted(proposing(*(PresentationContextProposal(ID, CT, (EXPLICIT,)) for ID in (2, 254))))
        self.assertEqual([result.contextID for result in outcome.accept.presentationContexts], [2, 254])
        self.assertEqual(outcome.contexts[254], AcceptedContext(254, CT, EXPLICIT))

    def test_invalid(self) -> None:
        """What cannot be answered context by context does not get this far."""
        zero = proposing(PresentationContextProposal(0, CT, (EXPLICIT,)))
        twice = proposing(*[PresentationContextProposal(1, CT, (EXPLICIT,))] * 2)
        tooMany = proposing(*(PresentationContextProposal(ID, CT, (EXPLICIT,)) for ID in range(1, 130)))
        for request in (zero, twice, tooMany):
            self.assertRaises(RemoteProtocolError, asked, request)


class UserInformationTests(SynchronousTestCase):
    """The answers to user items."""

    def test_nothingProposed(self) -> None:
        """Nothing is answered that was not asked."""
        self.assertEqual(answered(UserInformation()), OUR_INFORMATION)

    def test_asynchronousOperationsWindow(self) -> None:
        """As many operations as proposed and supported, 0 of them being unlimited; 0 is never answered."""
        for supported, proposed, expected in (
            (1, (0, 0), 1),
            (1, (1, 1), 1),
            (1, (0, 1), 1),
            (1, (5, 0), 1),
            (1, (0xFFFF, 0xFFFF), 1),
            (8, (0, 0), 8),
            (8, (1, 1), 1),
            (8, (0, 1), 8),
            (8, (5, 0), 5),
            (8, (8, 8), 8),
            (8, (0xFFFF, 0xFFFF), 8),
        ):
            information = UserInformation(asynchronousOperationsWindow=AsynchronousOperationsWindow(*proposed))
            outcome = accepted(informing(information), attrs.evolve(SUPPORTED, operationsWindow=supported))
            self.assertEqual(outcome.operationsWindow, expected)
            self.assertEqual(
                outcome.accept.userInformation,
                # This side invokes nothing.
                attrs.evolve(OUR_INFORMATION, asynchronousOperationsWindow=AsynchronousOperationsWindow(expected, 1)),
            )

    def test_noWindow(self) -> None:
        """Where none was proposed none is answered, and one operation follows the other."""
        outcome = accepted(informing(UserInformation()), attrs.evolve(SUPPORTED, operationsWindow=8))
        self.assertEqual(outcome.operationsWindow, 1)
        self.assertEqual(outcome.accept.userInformation, OUR_INFORMATION)

    def assertRoles(self, proposed: list[RoleSelection], expected: list[RoleSelection]) -> None:
        answer = answered(UserInformation(roleSelections=tuple(proposed)))
        self.assertEqual(answer, attrs.evolve(OUR_INFORMATION, roleSelections=tuple(expected)))

    def test_roles(self) -> None:
        """SCU is taken where it is proposed, SCP never; what leaves nothing to take has no answer."""
        for SOPClass in (CT, VERIFICATION):
            for SCP in (False, True):
                self.assertRoles([RoleSelection(SOPClass, True, SCP)], [RoleSelection(SOPClass, True, False)])
                self.assertRoles([RoleSelection(SOPClass, False, SCP)], [])

    def test_rolesOfOtherClasses(self) -> None:
        """Without an accepted context there is no role to play."""
        self.assertRoles([RoleSelection(FIND, True, False), RoleSelection(MR, True, False)], [])

    def test_rolesInTheirOrder(self) -> None:
        """Each class once, as it was first proposed."""
        self.assertRoles(
            [
                RoleSelection(VERIFICATION, True, True),
                RoleSelection(FIND, True, True),
                RoleSelection(CT, True, False),
                RoleSelection(VERIFICATION, True, False),
            ],
            [RoleSelection(VERIFICATION, True, False), RoleSelection(CT, True, False)],
        )
        self.assertRoles([RoleSelection(CT, False, True), RoleSelection(CT, True, False)], [])

    def test_servedWithoutARole(self) -> None:
        """A context is accepted whatever the roles come to."""
        outcome = accepted(informing(UserInformation(roleSelections=(RoleSelection(CT, False, True),)), CT))
        self.assertEqual(list(outcome.contexts), [1])

    def assertExtended(self, proposed: list[tuple[str, bytes]], expected: list[str]) -> None:
        items = tuple(SOPClassExtendedNegotiation(*item) for item in proposed)
        answers = tuple(SOPClassExtendedNegotiation(item, bytes((2, 0, 3, 0, 0, 0))) for item in expected)
        self.assertEqual(
            answered(UserInformation(extendedNegotiations=items)),
            attrs.evolve(OUR_INFORMATION, extendedNegotiations=answers),
        )

    def test_extendedNegotiation(self) -> None:
        """Storage level 2, signatures kept, no coercion, whatever was proposed; for storage classes only."""
        for information in (b"", b"\0", b"\2\0\3\0\1\0", bytes(100)):
            self.assertExtended([(CT, information)], [CT])
        self.assertExtended([(VERIFICATION, b"\2"), (FIND, b"\1"), (MR, b"\2"), ("1.2.3", b"")], [])
        self.assertExtended([(FIND, b"\1"), (CT, b""), (CT, b"\2")], [CT])

    def test_extendedNegotiationAsBytes(self) -> None:
        information = UserInformation(extendedNegotiations=(SOPClassExtendedNegotiation(CT, b"\0"),))
        item = b"\x56\0\0\x21\0\x19" + CT.encode() + bytes.fromhex("020003000000")
        self.assertTrue(accepted(informing(information, CT)).accept.encode().endswith(item))

    def test_commonExtendedNegotiation(self) -> None:
        """It has no answer."""
        item = SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", (CT,))
        self.assertEqual(answered(UserInformation(commonExtendedNegotiations=(item,))), OUR_INFORMATION)

    def test_commonExtendedNegotiationIsPassedOn(self) -> None:
        """To what knows the abstract syntaxes, once for each: the first item of the class, None where there is none."""
        first, again, other = (
            SOPClassCommonExtendedNegotiation("1.2.3", "1.2.840.10008.4.2", (MR,)),
            SOPClassCommonExtendedNegotiation("1.2.3", "1.2.840.10008.4.2", ()),
            SOPClassCommonExtendedNegotiation("1.2.5", "1.2.840.10008.4.2", (CT,)),
        )
        asks: list[tuple[str, SOPClassCommonExtendedNegotiation | None]] = []

        def asking(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None) -> Container[str] | None:
            asks.append((abstractSyntax, common))
            return transferSyntaxes(abstractSyntax, common)

        information = UserInformation(commonExtendedNegotiations=(first, other, again))
        supported = attrs.evolve(SUPPORTED, transferSyntaxes=asking)
        outcome = accepted(informing(information, "1.2.3", CT, "1.2.3", "1.2.5"), supported)
        self.assertEqual(asks, [("1.2.3", first), (CT, None), ("1.2.5", other)])
        self.assertEqual([result.result for result in outcome.accept.presentationContexts], [0, 0, 0, 3])
        self.assertEqual(outcome.accept.userInformation, OUR_INFORMATION)

    def test_userIdentity(self) -> None:
        """A positive response, empty, where one is asked for and the kind of identity is known."""
        for identityType in range(256):
            for isAsked in (False, True):
                identity = UserIdentityRequest(identityType, isAsked, b"somebody", b"secret")
                self.assertEqual(
                    answered(UserInformation(userIdentity=identity)).userIdentityResponse,
                    b"" if isAsked and 1 <= identityType <= 5 else None,
                )

    def test_userIdentityAsBytes(self) -> None:
        information = UserInformation(userIdentity=UserIdentityRequest(1, True, b"somebody"))
        self.assertTrue(accepted(informing(information)).accept.encode().endswith(b"\x59\0\0\2\0\0"))


class ChangedTermsTests(SynchronousTestCase):
    """Terms that are changed before they are sent."""

    def test_withoutClasses(self) -> None:
        """Each accepted context of a class is refused by the user, and nothing is answered for the class."""
        classes = (CT, VERIFICATION, FIND, CT)
        information = UserInformation(
            roleSelections=tuple(RoleSelection(item, True, False) for item in (CT, VERIFICATION)),
            extendedNegotiations=tuple(SOPClassExtendedNegotiation(item, b"\2") for item in ("1.2.3", CT)),
        )
        supported = attrs.evolve(SUPPORTED, transferSyntaxes=lambda name, common: None if name == FIND else (EXPLICIT,))
        before = accepted(informing(information, *classes, "1.2.3"), supported)
        self.assertEqual([result.result for result in before.accept.presentationContexts], [0, 0, 3, 0, 0])
        outcome = withoutClasses(before, {CT, FIND})
        results = [(result.contextID, result.result) for result in outcome.accept.presentationContexts]
        self.assertEqual(results, [(1, 1), (3, 0), (5, 3), (7, 1), (9, 0)])
        self.assertEqual(outcome.contexts, {3: before.contexts[3], 9: before.contexts[9]})
        self.assertEqual(outcome.proposed, before.proposed)
        self.assertEqual(
            outcome.accept.userInformation,
            attrs.evolve(
                before.accept.userInformation,
                roleSelections=(RoleSelection(VERIFICATION, True, False),),
                extendedNegotiations=(SOPClassExtendedNegotiation("1.2.3", bytes((2, 0, 3, 0, 0, 0))),),
            ),
        )
        self.assertEqual(withoutClasses(before, {"1.2.4"}), before)

    def test_answeringIdentity(self) -> None:
        """Only where a response was asked for."""
        for isAsked, response in ((True, b"ticket"), (False, None)):
            identity = UserIdentityRequest(1, isAsked, b"somebody")
            before = accepted(informing(UserInformation(userIdentity=identity)))
            outcome = answeringIdentity(before, b"ticket")
            information = outcome.accept.userInformation
            self.assertEqual(information, attrs.evolve(OUR_INFORMATION, userIdentityResponse=response))
            self.assertEqual(outcome.contexts, before.contexts)


class LengthTests(SynchronousTestCase):
    """An answer can be sent, whatever was proposed."""

    def test_manyItems(self) -> None:
        """As many items as a request holds, each shorter than its answer."""
        items = tuple(SOPClassExtendedNegotiation(CT, b"") for _ in range(2000))
        self.assertEqual(len(answered(UserInformation(extendedNegotiations=items)).extendedNegotiations), 1)
        roles = tuple(RoleSelection(CT, True, True) for _ in range(1900))
        self.assertEqual(len(answered(UserInformation(roleSelections=roles)).roleSelections), 1)

    def test_allContexts(self) -> None:
        """128 classes whose names are as long as can be, each with a role and an extended negotiation."""
        classes = [f"1.2.{index:03}".ljust(64, "9") for index in range(128)]
        information = UserInformation(
            roleSelections=tuple(RoleSelection(item, True, True) for item in classes),
            extendedNegotiations=tuple(SOPClassExtendedNegotiation(item, b"") for item in classes),
        )
        supported = attrs.evolve(SUPPORTED, transferSyntaxes=everything)
        answer = accepted(informing(information, *classes), supported).accept.userInformation
        self.assertEqual([item.SOPClassUID for item in answer.roleSelections], classes)
        self.assertEqual([item.SOPClassUID for item in answer.extendedNegotiations], classes)

    def test_endlessName(self) -> None:
        """A class with a name that no UID can have may be supported; its items are not answered."""
        name = "1." + "2" * 65000
        items = (SOPClassExtendedNegotiation(name, b""),)
        supported = attrs.evolve(SUPPORTED, transferSyntaxes=everything)
        outcome = accepted(informing(UserInformation(extendedNegotiations=items), name), supported)
        self.assertEqual(list(outcome.contexts), [1])
        self.assertEqual(outcome.accept.userInformation, OUR_INFORMATION)
