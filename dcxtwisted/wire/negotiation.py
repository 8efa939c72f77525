"""
What an A-ASSOCIATE-RQ is answered with: a pure function of the request and of what is supported (PS3.8 7.1, PS3.7 D.3).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

import attrs
from attrs import evolve

from dcxtwisted.uids import (
    APPLICATION_CONTEXT,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcxtwisted.wire.items import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTANCE,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    USER_IDENTITY_TYPES,
    USER_REJECTION,
    AsynchronousOperationsWindow,
    PresentationContextProposal,
    PresentationContextResult,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserInformation,
)
from dcxtwisted.wire.pdu import AssociateAC, AssociateRJ, AssociateRQ

REJECTED_NO_REASON: Final = AssociateRJ(1, 1, 1)
REJECTED_APPLICATION_CONTEXT: Final = AssociateRJ(1, 1, 2)
REJECTED_PROTOCOL_VERSION: Final = AssociateRJ(1, 2, 2)

#: The smallest maximum length that carries a PDV header and two bytes of fragment.
MINIMUM_PDU_LENGTH: Final = 8
#: Assumed of a peer that sent no usable maximum length item.
DEFAULT_MAXIMUM_LENGTH: Final = 16384

#: Storage level 2 (full), signatures preserved as the bytes are, no coercion (PS3.4 B.3.1).
_STORAGE_EXTENDED_NEGOTIATION: Final = bytes.fromhex("020003000000")

_MAXIMUM_UID_LENGTH: Final = 64

#: Gives the transfer syntaxes taken for an abstract syntax, of which the peer may have said what it is (PS3.7 D.3.3.6);
#: None where it is not supported.
TransferSyntaxes: TypeAlias = Callable[[str, SOPClassCommonExtendedNegotiation | None], Container[str] | None]

_OfClass = TypeVar("_OfClass", RoleSelection, SOPClassExtendedNegotiation, SOPClassCommonExtendedNegotiation)


@attrs.frozen
class AcceptedContext:
    """A presentation context both sides agreed on."""

    contextID: int
    abstractSyntax: str
    transferSyntax: str


@attrs.frozen
class Supported:
    """
    What this side offers.

    :ivar transferSyntaxes: asked once for each abstract syntax that is proposed.
    :ivar maximumLength: the P-DATA-TF length to advertise; 0 for no limit.
    :ivar operationsWindow: the most operations that a peer may have outstanding, where it proposes to.
    :ivar transferSyntaxPreference: of the transfer syntaxes proposed and taken, the one that comes first here is
        chosen; where none is in it, the requestor's first is, but explicit before implicit VR little endian.
    """

    transferSyntaxes: TransferSyntaxes
    maximumLength: int
    implementationClassUID: str
    implementationVersionName: str
    operationsWindow: int = 1
    transferSyntaxPreference: Sequence[str] = ()


@attrs.frozen
class Negotiated:
    """
    The terms of an association that may be accepted.

    :ivar accept: the A-ASSOCIATE-AC to send.
    :ivar contexts: the accepted contexts by ID.
    :ivar proposed: abstract syntaxes of all proposed contexts by ID, the refused ones too; cut to 64 characters.
    :ivar maximumLengthToSend: the largest P-DATA-TF body the peer takes; 0 for no limit.
    :ivar operationsWindow: how many operations the peer may have outstanding; 1 where it proposed no window.
    """

    accept: AssociateAC
    contexts: Mapping[int, AcceptedContext]
    proposed: Mapping[int, str]
    maximumLengthToSend: int
    operationsWindow: int = 1


def negotiate(request: AssociateRQ, supported: Supported) -> Negotiated | AssociateRJ:
    """Return the terms on which the association can be accepted, or the rejection that is due."""
    if not request.protocolVersion & 1:
        return REJECTED_PROTOCOL_VERSION
    if request.applicationContexts != (APPLICATION_CONTEXT,):
        return REJECTED_APPLICATION_CONTEXT
    if not request.presentationContexts:
        return REJECTED_NO_REASON
    maximumLength = request.userInformation.maximumLength
    if maximumLength is None:
        maximumLength = DEFAULT_MAXIMUM_LENGTH
    elif 0 < maximumLength < MINIMUM_PDU_LENGTH:
        # No fragment of two bytes fits: nothing could ever be answered.
        return REJECTED_NO_REASON
    taken = _taken(request, supported)
    results = [
        _result(proposal, taken.get(proposal.abstractSyntax), supported) for proposal in request.presentationContexts
    ]
    contexts = {
        result.contextID: AcceptedContext(result.contextID, proposal.abstractSyntax, result.transferSyntax)
        for proposal, result in zip(request.presentationContexts, results, strict=True)
        if result.result == ACCEPTANCE
    }
    # They are kept as long as the association is, and a request may hold 1 MiB of them.
    proposed = {
        proposal.contextID: proposal.abstractSyntax[:_MAXIMUM_UID_LENGTH] for proposal in request.presentationContexts
    }
    accept = AssociateAC(
        calledAE=request.calledAE,
        callingAE=request.callingAE,
        reserved=request.reserved,
        applicationContexts=(APPLICATION_CONTEXT,),
        presentationContexts=tuple(results),
        userInformation=_userInformation(request.userInformation, contexts, supported),
    )
    window = accept.userInformation.asynchronousOperationsWindow
    return Negotiated(accept, contexts, proposed, maximumLength, 1 if window is None else window.invoked)


def withoutClasses(negotiated: Negotiated, refused: Container[str]) -> Negotiated:
    """Return the terms with the contexts of some SOP classes refused, as by the user (result 1)."""
    accept = negotiated.accept
    information = accept.userInformation
    contexts = {
        contextID: context
        for contextID, context in negotiated.contexts.items()
        if context.abstractSyntax not in refused
    }
    return evolve(
        negotiated,
        accept=evolve(
            accept,
            presentationContexts=tuple(
                evolve(result, result=USER_REJECTION)
                if result.result == ACCEPTANCE and result.contextID not in contexts
                else result
                for result in accept.presentationContexts
            ),
            userInformation=evolve(
                information,
                roleSelections=tuple(role for role in information.roleSelections if role.SOPClassUID not in refused),
                extendedNegotiations=tuple(
                    item for item in information.extendedNegotiations if item.SOPClassUID not in refused
                ),
            ),
        ),
        contexts=contexts,
    )


def answeringIdentity(negotiated: Negotiated, response: bytes) -> Negotiated:
    """Return the terms with a response to the user identity, where one was asked for."""
    information = negotiated.accept.userInformation
    if information.userIdentityResponse is None:
        return negotiated
    answering = evolve(information, userIdentityResponse=response)
    return evolve(negotiated, accept=evolve(negotiated.accept, userInformation=answering))


def _taken(request: AssociateRQ, supported: Supported) -> dict[str, Container[str] | None]:
    """The transfer syntaxes taken for each abstract syntax that has a name."""
    # Asked once for each, however many contexts it has: what is said of one may hold 32,000 related general classes.
    said = _firsts(request.userInformation.commonExtendedNegotiations)
    names = dict.fromkeys(proposal.abstractSyntax for proposal in request.presentationContexts)
    return {name: supported.transferSyntaxes(name, said.get(name)) for name in names if name}


def _result(
    proposal: PresentationContextProposal, taken: Container[str] | None, supported: Supported
) -> PresentationContextResult:
    candidates = [] if taken is None else [syntax for syntax in proposal.transferSyntaxes if syntax in taken]
    if candidates:
        return PresentationContextResult(proposal.contextID, ACCEPTANCE, _choice(candidates, supported))
    # A refused context carries a transfer syntax too, which has no meaning (PS3.8 9.3.3.2): one that was proposed, but
    # none that makes the answer as long as the request.
    named = (syntax for syntax in proposal.transferSyntaxes if len(syntax) <= _MAXIMUM_UID_LENGTH)
    meaningless = next(named, IMPLICIT_VR_LITTLE_ENDIAN)
    result = ABSTRACT_SYNTAX_NOT_SUPPORTED if taken is None else TRANSFER_SYNTAXES_NOT_SUPPORTED
    return PresentationContextResult(proposal.contextID, result, meaningless)


def _choice(candidates: list[str], supported: Supported) -> str:
    for preferred in supported.transferSyntaxPreference:
        if preferred in candidates:
            return preferred
    # Private elements keep their VR.
    if candidates[0] == IMPLICIT_VR_LITTLE_ENDIAN and EXPLICIT_VR_LITTLE_ENDIAN in candidates:
        return EXPLICIT_VR_LITTLE_ENDIAN
    return candidates[0]


def _userInformation(
    proposed: UserInformation, contexts: Mapping[int, AcceptedContext], supported: Supported
) -> UserInformation:
    # Each accepted class is answered once at most: 128 of them, with 64 characters each, come to 19 KB. What was
    # proposed is no measure: an answer may be longer than its proposal, and the item holds 64 KB.
    accepted = {
        context.abstractSyntax for context in contexts.values() if len(context.abstractSyntax) <= _MAXIMUM_UID_LENGTH
    }
    window = proposed.asynchronousOperationsWindow
    identity = proposed.userIdentity
    isPositive = (
        identity is not None and identity.positiveResponseRequested and identity.identityType in USER_IDENTITY_TYPES
    )
    return UserInformation(
        maximumLength=supported.maximumLength,
        implementationClassUID=supported.implementationClassUID,
        implementationVersionName=supported.implementationVersionName,
        # This side invokes nothing: 1 is the least that can be said (PS3.7 D.3.3.3).
        asynchronousOperationsWindow=None
        if window is None
        else AsynchronousOperationsWindow(
            min(window.invoked or supported.operationsWindow, supported.operationsWindow), 1
        ),
        # Storage and verification are served as SCP only: never 1 where 0 was proposed (PS3.7 D.3.3.4).
        roleSelections=tuple(
            RoleSelection(role.SOPClassUID, True, False)
            for role in _firsts(proposed.roleSelections).values()
            if role.SCU and role.SOPClassUID in accepted
        ),
        extendedNegotiations=tuple(
            SOPClassExtendedNegotiation(item.SOPClassUID, _STORAGE_EXTENDED_NEGOTIATION)
            for item in _firsts(proposed.extendedNegotiations).values()
            if item.SOPClassUID != VERIFICATION and item.SOPClassUID in accepted
        ),
        userIdentityResponse=b"" if isPositive else None,
    )


def _firsts(items: Iterable[_OfClass]) -> dict[str, _OfClass]:
    """The first item of each SOP class, by class."""
    firsts: dict[str, _OfClass] = {}
    for item in items:
        firsts.setdefault(item.SOPClassUID, item)
    return firsts
