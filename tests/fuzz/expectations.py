"""
What the target C{pdu} compares with: how a stream reads without any of the code that is checked.

And what has to be true of what was decoded, negotiated and sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

import attrs

from dcxtwisted.wire.framing import MAXIMUM_ASSOCIATE_LENGTH, TOLERATED_EXCESS
from dcxtwisted.wire.negotiation import Negotiated, TransferSyntaxes
from dcxtwisted.wire.pdu import A_ASSOCIATE_RQ, P_DATA_TF, AssociateAC, AssociateRJ, AssociateRQ, decode

_header: Final = struct.Struct(">BxL").unpack_from
_pdvHeader: Final = struct.Struct(">LBB").unpack_from

#: Context, whether a command, whether the last has come, and the bytes.
PDV: TypeAlias = tuple[int, bool, bool, bytes]


def join(PDVs: list[PDV], contextID: int, isCommand: bool, isLast: bool, data: bytes) -> None:
    """Add a piece of a command or data set to what came of it right before, if anything."""
    last = PDVs[-1] if PDVs else None
    if last is not None and last[:3] == (contextID, isCommand, False):
        PDVs[-1] = (contextID, isCommand, isLast, last[3] + data)
    else:
        PDVs.append((contextID, isCommand, isLast, data))


def expectedPDVs(stream: bytes, maximumLength: int) -> list[PDV]:
    """Return the PDVs of the P-DATA-TFs at the start of a stream, up to where something else stands."""
    PDVs: list[PDV] = []
    offset = 0
    while offset + 6 <= len(stream):
        pduType, length = _header(stream, offset)
        isTooLong = 0 < maximumLength < length - TOLERATED_EXCESS
        if pduType != P_DATA_TF or length < 6 or isTooLong:
            break
        offset += 6
        end = offset + length
        while offset < end:
            if offset + 6 > len(stream):
                return PDVs
            size, contextID, control = _pdvHeader(stream, offset)
            start, offset = offset + 6, offset + 4 + size
            if size < 2 or offset > end or 0 < end - offset < 6:
                return PDVs
            data = stream[start:offset]
            if data or size == 2:
                isLast = bool(control & 2) and offset <= len(stream)
                join(PDVs, contextID, bool(control & 1), isLast, data)
    return PDVs


def checkItems(pduType: int, body: bytes) -> None:
    """Check that the items of an A-ASSOCIATE add up, at each level that is looked into."""
    items = list(_items(body[68:]))
    for itemType, content in items:
        # A result in a request, and the other way round, is an unknown item.
        if itemType == (0x20 if pduType == A_ASSOCIATE_RQ else 0x21):
            list(_items(content[4:]))
    # Of those that should be there once the first counts, and the others are not read.
    for _, content in [each for each in items if each[0] == 0x50][:1]:
        list(_items(content))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length = int.from_bytes(data[2:4], "big")
        assert 4 + length <= len(data), f"an item reaches past the end: {data!r}"
        yield data[0], data[4 : 4 + length]
        data = data[4 + length :]


def checkDecoded(value: AssociateRQ | AssociateAC) -> None:
    """Check that a PDU made of what was decoded is decoded to the same."""
    encoded = value.encode()
    assert len(encoded) - 6 <= MAXIMUM_ASSOCIATE_LENGTH
    again = decode(value.pduType, encoded[6:])
    assert isinstance(again, AssociateRQ | AssociateAC)
    assert not set(again.quirks) - set(value.quirks)
    assert again == attrs.evolve(value, quirks=again.quirks)
    assert again.encode() == encoded
    for title in (value.calledAETitle, value.callingAETitle):
        assert title == title.strip(" ")
        assert "\0" not in title
    identity = value.userInformation.userIdentity
    if identity is not None:
        assert repr(identity) == repr(attrs.evolve(identity, primaryField=b"", secondaryField=b""))


def checkNegotiated(request: AssociateRQ, outcome: Negotiated | AssociateRJ, supported: TransferSyntaxes) -> None:
    """Check that the answer can be read, and that it gives nothing that was not proposed."""
    encoded = outcome.accept.encode() if isinstance(outcome, Negotiated) else outcome.encode()
    again = decode(encoded[0], encoded[6:])
    if isinstance(outcome, AssociateRJ):
        assert again == outcome
        return
    accept = outcome.accept
    assert isinstance(again, AssociateAC)
    assert attrs.evolve(again, quirks=()) == accept
    assert (accept.calledAE, accept.callingAE, accept.reserved) == (
        request.calledAE,
        request.callingAE,
        request.reserved,
    )
    proposals = {proposal.contextID: proposal for proposal in request.presentationContexts}
    assert [result.contextID for result in accept.presentationContexts] == list(proposals)
    assert list(outcome.proposed) == list(proposals)
    for result in accept.presentationContexts:
        proposal = proposals[result.contextID]
        assert (result.contextID in outcome.contexts) is (result.result == 0)
        if result.result == 0:
            assert result.transferSyntax in proposal.transferSyntaxes
            assert supported(proposal.abstractSyntax, None) is not None
    information = accept.userInformation
    proposedRoles = {role.SOPClassUID for role in request.userInformation.roleSelections if role.SCU}
    assert all(role.SOPClassUID in proposedRoles and not role.SCP for role in information.roleSelections)
    window = information.asynchronousOperationsWindow
    proposed = request.userInformation.asynchronousOperationsWindow
    assert (window is None) is (proposed is None)
    assert 1 <= outcome.operationsWindow <= 8
    if proposed is not None and proposed.invoked:
        assert outcome.operationsWindow <= proposed.invoked


def checkPData(body: bytes, maximumLength: int) -> None:
    """Check that the body of a P-DATA-TF is one or more PDVs of a command, and no longer than the peer takes."""
    assert len(body) <= maximumLength or not maximumLength
    offset = 0
    while offset < len(body):
        length, _, control = _pdvHeader(body, offset)
        assert length >= 2
        assert control in (1, 3)
        offset += 4 + length
    assert offset == len(body)
