"""
Hypothesis: what holds of every answer to an A-ASSOCIATE-RQ, whatever was requested and whatever is supported.
"""

from __future__ import annotations

from collections.abc import Container

import attrs
from hypothesis import event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.uids import (
    APPLICATION_CONTEXT,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    STORAGE_SERVICE_CLASS,
    VERIFICATION,
)
from dcxtwisted.wire.items import (
    ACCEPTANCE,
    AsynchronousOperationsWindow,
    PresentationContextProposal,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRequest,
    UserInformation,
)
from dcxtwisted.wire.negotiation import Negotiated, Supported, negotiate
from dcxtwisted.wire.pdu import AssociateAC, AssociateRJ, AssociateRQ, decode

CT = "1.2.840.10008.5.1.4.1.1.2"
JPEG = "1.2.840.10008.1.2.4.70"
ENDLESS = "1." + "2" * 5000

# Mostly such as can come to an agreement, and a few that are odd.
classes = st.sampled_from([VERIFICATION, CT, CT, "1.2.3.4", "1.2." + "3" * 60, ENDLESS, "\xe9/../\r\n", ""])
supportable = st.sampled_from([IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, JPEG, "1.2.3"])
syntaxes = supportable | st.sampled_from([ENDLESS, "\xe9", ""])
fields = st.binary(min_size=16, max_size=16)


def tuples(*elements: st.SearchStrategy[object], size: int = 4) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.one_of(*elements), max_size=size).map(tuple)


requests = st.builds(
    AssociateRQ,
    calledAE=fields,
    callingAE=fields,
    applicationContexts=st.sampled_from(
        [(APPLICATION_CONTEXT,)] * 8 + [(), ("1.2.3",), (APPLICATION_CONTEXT, APPLICATION_CONTEXT)]
    ),
    presentationContexts=st.lists(
        st.builds(PresentationContextProposal, st.integers(1, 255), classes, tuples(syntaxes)),
        max_size=128,
        unique_by=lambda context: context.contextID,
    ).map(tuple),
    userInformation=st.builds(
        UserInformation,
        st.none() | st.sampled_from([0, 7, 8, 16384, 0xFFFFFFFF]),
        implementationClassUID=classes,
        implementationVersionName=st.sampled_from(["", "PEER", "x" * 300]),
        asynchronousOperationsWindow=st.none()
        | st.builds(AsynchronousOperationsWindow, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
        roleSelections=tuples(st.builds(RoleSelection, classes, st.booleans(), st.booleans())),
        extendedNegotiations=tuples(st.builds(SOPClassExtendedNegotiation, classes, st.binary(max_size=9))),
        commonExtendedNegotiations=tuples(
            st.builds(
                SOPClassCommonExtendedNegotiation,
                classes,
                st.sampled_from([STORAGE_SERVICE_CLASS, "1.2.3"]),
                tuples(classes, size=2),
            )
        ),
        userIdentity=st.none()
        | st.builds(UserIdentityRequest, st.integers(0, 255), st.booleans(), st.binary(), st.binary()),
    ),
    protocolVersion=st.sampled_from([1, 1, 1, 3, 0, 2, 0xFFFF]),
    reserved=st.binary(min_size=32, max_size=32),
)


@st.composite
def policies(draw: st.DrawFn) -> Supported:
    """What may be supported: any classes, also those that are said to be storage, in some transfer syntaxes."""
    taken = draw(st.dictionaries(classes, st.frozensets(supportable)))
    general: Container[str] = draw(st.frozensets(supportable))

    def transferSyntaxes(
        abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None
    ) -> Container[str] | None:
        if common is not None and common.serviceClassUID == STORAGE_SERVICE_CLASS:
            return general
        return taken.get(abstractSyntax)

    return Supported(
        transferSyntaxes,
        draw(st.sampled_from([0, 8, 131072, 0xFFFFFFFF])),
        "1.2.276.9",
        "US_1",
        draw(st.integers(1, 0xFFFF)),
        draw(st.lists(supportable, max_size=3).map(tuple)),
    )


class PropertyTests(SynchronousTestCase):
    """The answer, as a value and as the bytes that are sent."""

    @given(requests, policies())
    @settings(deadline=None)
    def test_anything(self, proposed: AssociateRQ, supported: Supported) -> None:
        request = decode(1, proposed.encode()[6:])
        assert isinstance(request, AssociateRQ)
        outcome = negotiate(request, supported)
        self.assertEqual(negotiate(request, supported), outcome, "another answer to the same request")
        event(type(outcome).__name__)
        if isinstance(outcome, AssociateRJ):
            self.assertRejection(request, outcome)
            return
        self.assertSendable(outcome.accept)
        self.assertContexts(request, outcome, supported)
        self.assertUserInformation(request.userInformation, outcome.accept.userInformation)
        self.assertEqual((outcome.accept.calledAE, outcome.accept.callingAE), (request.calledAE, request.callingAE))
        self.assertEqual((outcome.accept.reserved, outcome.accept.protocolVersion), (request.reserved, 1))

    def assertRejection(self, request: AssociateRQ, rejection: AssociateRJ) -> None:
        """Each for its reason, and none without."""
        if not request.protocolVersion & 1:
            expected = AssociateRJ(1, 2, 2)
        elif request.applicationContexts != (APPLICATION_CONTEXT,):
            expected = AssociateRJ(1, 1, 2)
        else:
            self.assertTrue(not request.presentationContexts or request.userInformation.maximumLength == 7)
            expected = AssociateRJ(1, 1, 1)
        self.assertEqual(rejection, expected)

    def assertSendable(self, accept: AssociateAC) -> None:
        """It means the same as bytes, of which there are few: 128 contexts of 76 bytes, and the user items."""
        encoded = accept.encode()
        again = decode(2, encoded[6:])
        assert isinstance(again, AssociateAC)
        # What a requestor would count as odd is only what it sent itself.
        self.assertEqual(attrs.evolve(again, quirks=()), accept)
        self.assertLess(len(encoded), 1 << 15)

    def assertContexts(self, request: AssociateRQ, outcome: Negotiated, supported: Supported) -> None:
        proposals, results = request.presentationContexts, outcome.accept.presentationContexts
        self.assertEqual([result.contextID for result in results], [proposal.contextID for proposal in proposals])
        taken = {}
        for proposal, result in zip(proposals, results, strict=True):
            self.assertEqual(outcome.proposed[proposal.contextID], proposal.abstractSyntax[:64])
            self.assertIn(result.result, (0, 3, 4))
            self.assertNotEqual(result.transferSyntax, "")
            if result.result == ACCEPTANCE:
                self.assertIn(result.transferSyntax, proposal.transferSyntaxes)
                taken[proposal.contextID] = (proposal.contextID, proposal.abstractSyntax, result.transferSyntax)
                event("accepted")
        self.assertEqual({ID: attrs.astuple(context) for ID, context in outcome.contexts.items()}, taken)

    def assertUserInformation(self, proposed: UserInformation, answer: UserInformation) -> None:
        """Nothing that was not asked, nothing greater than what was proposed."""
        roles = {role.SOPClassUID: role for role in reversed(proposed.roleSelections)}
        for role in answer.roleSelections:
            self.assertTrue(roles[role.SOPClassUID].SCU)
            self.assertEqual((role.SCU, role.SCP), (True, False))
        self.assertEqual(len({role.SOPClassUID for role in answer.roleSelections}), len(answer.roleSelections))
        extended = {item.SOPClassUID for item in proposed.extendedNegotiations}
        self.assertLessEqual({item.SOPClassUID for item in answer.extendedNegotiations}, extended)
        window, answered = proposed.asynchronousOperationsWindow, answer.asynchronousOperationsWindow
        self.assertEqual(answered is None, window is None)
        if window is not None and answered is not None:
            self.assertTrue(1 <= answered.invoked <= (window.invoked or 0xFFFF))
            self.assertEqual(answered.performed, 1)
        identity = proposed.userIdentity
        isDue = identity is not None and identity.positiveResponseRequested and 1 <= identity.identityType <= 5
        self.assertEqual(answer.userIdentityResponse, b"" if isDue else None)
        self.assertEqual(answer.commonExtendedNegotiations, ())
        self.assertIsNone(answer.userIdentity)
