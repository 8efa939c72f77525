"""
The seven PDUs of the upper layer and their items as frozen values that encode; `decode` makes them of bytes.

PS3.8 9.3 has the PDUs, PS3.7 D.3.3 the sub-items of the user information. P-DATA-TF is only encoded here:
what arrives of it is streamed by the framing and never held as one value.

Decoding is exact about lengths and tolerant of everything else. An item that reaches past what contains it
and stray bytes after the last one end the association, because nothing behind them can be trusted; what real
modalities get wrong without harm is taken, and named in `quirks`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import ClassVar, Generic, TypeAlias, TypeVar

import attrs

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.items import (
    APPLICATION_CONTEXT_ITEM,
    PROPOSAL_ITEM,
    REPEATED_ITEM,
    RESERVED_BYTES,
    RESULT_ITEM,
    UNKNOWN_ITEM,
    USER_INFORMATION_ITEM,
    Decoding,
    PresentationContextProposal,
    PresentationContextResult,
    UserInformation,
    proposalOf,
    resultOf,
    textItem,
    userInformationOf,
)

A_ASSOCIATE_RQ = 1
A_ASSOCIATE_AC = 2
A_ASSOCIATE_RJ = 3
P_DATA_TF = 4
A_RELEASE_RQ = 5
A_RELEASE_RP = 6
A_ABORT = 7

MAXIMUM_PRESENTATION_CONTEXTS = 128

ODD_AE_TITLE = "odd AE title"

_HEADER = struct.Struct(">BxI")
_FIXED = struct.Struct(">HH16s16s32s")
_P_DATA_HEADER = struct.Struct(">BxIIBB")

_AE_CHARACTERS = re.compile(rb"[ -\[\]-~]*")  # VR AE: printable ASCII but the backslash, PS3.5 6.2


def aeTitle(field: bytes) -> str:
    """The title in an AE field: cut at the first NUL, without the spaces around it; any byte may be in it."""
    return field.partition(b"\0")[0].decode("latin-1").strip(" ")


def aeField(title: str) -> bytes:
    """
    The 16 bytes that stand for an AE title in an A-ASSOCIATE PDU.

    :raises ValueError: for a title PS3.5 6.2 does not allow: nothing but spaces, over 16 characters, or
        with a control character, a backslash or anything outside ASCII.
    """
    try:
        field = title.encode("ascii")
    except UnicodeEncodeError:
        field = b""
    if len(field) > 16 or not field.strip(b" ") or not _AE_CHARACTERS.fullmatch(field):
        raise ValueError(f"not an AE title: {title!r}")
    return field.ljust(16)


def _pdu(pduType: int, body: bytes) -> bytes:
    return _HEADER.pack(pduType, len(body)) + body


_Context = TypeVar("_Context", PresentationContextProposal, PresentationContextResult)
_SIXTEEN_BYTES: tuple[Callable[..., None], ...] = (attrs.validators.min_len(16), attrs.validators.max_len(16))


@attrs.frozen
class _Associate(Generic[_Context]):
    """
    What A-ASSOCIATE-RQ and -AC have in common.

    :ivar calledAE: the 16 bytes of the field, as `aeField` makes them.
    :ivar callingAE: likewise.
    :ivar applicationContexts: all of them, in order; one is right.
    :ivar reserved: the 32 bytes that an acceptor sends back as they came.
    :ivar quirks: what was off in the bytes, each named once; never encoded.
    """

    pduType: ClassVar[int]

    calledAE: bytes = attrs.field(validator=_SIXTEEN_BYTES)
    callingAE: bytes = attrs.field(validator=_SIXTEEN_BYTES)
    applicationContexts: tuple[str, ...]
    presentationContexts: tuple[_Context, ...]
    userInformation: UserInformation
    protocolVersion: int = 1
    reserved: bytes = bytes(32)
    quirks: tuple[str, ...] = ()

    @property
    def calledAETitle(self) -> str:
        """The called AE title, trimmed; any character up to U+00FF may be in it, also NEWLINE and `/`."""
        return aeTitle(self.calledAE)

    @property
    def callingAETitle(self) -> str:
        """The calling AE title, trimmed; any character up to U+00FF may be in it, also NEWLINE and `/`."""
        return aeTitle(self.callingAE)

    def encode(self) -> bytes:
        """The whole PDU, header included."""
        parts = [_FIXED.pack(self.protocolVersion, 0, self.calledAE, self.callingAE, self.reserved)]
        parts += [textItem(APPLICATION_CONTEXT_ITEM, name) for name in self.applicationContexts]
        parts += [context.encode() for context in self.presentationContexts]
        parts.append(self.userInformation.encode())
        return _pdu(self.pduType, b"".join(parts))


@attrs.frozen
class AssociateRQ(_Associate[PresentationContextProposal]):
    """A-ASSOCIATE-RQ: what the requestor of an association proposes (PS3.8 9.3.2)."""

    pduType: ClassVar[int] = A_ASSOCIATE_RQ


@attrs.frozen
class AssociateAC(_Associate[PresentationContextResult]):
    """A-ASSOCIATE-AC: what its acceptor takes of it (PS3.8 9.3.3)."""

    pduType: ClassVar[int] = A_ASSOCIATE_AC


@attrs.frozen
class AssociateRJ:
    """A-ASSOCIATE-RJ; the values are those of PS3.8 table 9-21."""

    result: int
    source: int
    reason: int

    def encode(self) -> bytes:
        """The whole PDU, header included."""
        return _pdu(A_ASSOCIATE_RJ, bytes((0, self.result, self.source, self.reason)))


@attrs.frozen
class ReleaseRQ:
    """A-RELEASE-RQ."""

    def encode(self) -> bytes:
        """The whole PDU, header included."""
        return _pdu(A_RELEASE_RQ, bytes(4))


@attrs.frozen
class ReleaseRP:
    """A-RELEASE-RP."""

    def encode(self) -> bytes:
        """The whole PDU, header included."""
        return _pdu(A_RELEASE_RP, bytes(4))


@attrs.frozen
class Abort:
    """A-ABORT; the values are those of PS3.8 table 9-26."""

    source: int
    reason: int

    def encode(self) -> bytes:
        """The whole PDU, header included."""
        return _pdu(A_ABORT, bytes((0, 0, self.source, self.reason)))


PDU: TypeAlias = AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort


def encodePData(contextID: int, isCommand: bool, isLast: bool, fragment: bytes | memoryview) -> bytes:
    """A whole P-DATA-TF of one presentation data value; its PDU-length is that of the fragment and 6."""
    length = len(fragment)
    control = (1 if isCommand else 0) | (2 if isLast else 0)
    return _P_DATA_HEADER.pack(P_DATA_TF, length + 6, length + 2, contextID, control) + fragment


def decode(pduType: int, body: bytes | bytearray | memoryview) -> PDU:
    """
    The PDU whose header named this type and whose body this is; nothing of the buffer is kept.

    P-DATA-TF is not decoded here and is refused like a type that does not exist.

    :raises RemoteProtocolError: for every body that is not such a PDU, and nothing else for any bytes at all.
    """
    data = bytes(body)
    if pduType == A_ASSOCIATE_RQ:
        return _decodeRQ(data)
    if pduType == A_ASSOCIATE_AC:
        return _decodeAC(data)
    if pduType not in (A_ASSOCIATE_RJ, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT):
        raise RemoteProtocolError(f"no PDU of type {pduType:02X} is expected", 1)
    if len(data) != 4:
        raise RemoteProtocolError(f"a PDU of type {pduType:02X} has 4 bytes, not {len(data)}")
    if pduType == A_ASSOCIATE_RJ:
        return AssociateRJ(data[1], data[2], data[3])
    if pduType == A_ABORT:
        return Abort(data[2], data[3])
    return ReleaseRQ() if pduType == A_RELEASE_RQ else ReleaseRP()


def _decodeRQ(data: bytes) -> AssociateRQ:
    decoding = Decoding()
    version, called, calling, reserved = _fixedFields(data, decoding)
    for field in (called, calling):
        if not _AE_CHARACTERS.fullmatch(field) or not field.strip(b" "):
            decoding.quirk(ODD_AE_TITLE)
    applicationContexts, contexts, information = _variableItems(data, PROPOSAL_ITEM, proposalOf, decoding)
    return AssociateRQ(
        called, calling, applicationContexts, contexts, information, version, reserved, tuple(decoding.quirks)
    )


def _decodeAC(data: bytes) -> AssociateAC:
    # The AE fields are only our own, repeated: PS3.8 9.3.3 has them not tested.
    decoding = Decoding()
    version, called, calling, reserved = _fixedFields(data, decoding)
    applicationContexts, contexts, information = _variableItems(data, RESULT_ITEM, resultOf, decoding)
    return AssociateAC(
        called, calling, applicationContexts, contexts, information, version, reserved, tuple(decoding.quirks)
    )


def _fixedFields(data: bytes, decoding: Decoding) -> tuple[int, bytes, bytes, bytes]:
    if len(data) < _FIXED.size:
        raise RemoteProtocolError(f"an A-ASSOCIATE PDU of {len(data)} bytes")
    version, unused, called, calling, reserved = _FIXED.unpack_from(data)
    if unused or any(reserved):
        decoding.quirk(RESERVED_BYTES)
    return version, called, calling, reserved


def _variableItems(
    data: bytes, contextType: int, contextOf: Callable[[bytes, Decoding], _Context], decoding: Decoding
) -> tuple[tuple[str, ...], tuple[_Context, ...], UserInformation]:
    applicationContexts: list[str] = []
    contexts: dict[int, _Context] = {}
    information: UserInformation | None = None
    for itemType, _, content in decoding.items(data, _FIXED.size):
        if itemType == contextType:
            if len(contexts) == MAXIMUM_PRESENTATION_CONTEXTS:
                raise RemoteProtocolError(f"over {MAXIMUM_PRESENTATION_CONTEXTS} presentation contexts")
            context = contextOf(content, decoding)
            if context.contextID in contexts:
                raise RemoteProtocolError(f"presentation context {context.contextID} twice")
            contexts[context.contextID] = context
        elif itemType == APPLICATION_CONTEXT_ITEM:
            applicationContexts.append(decoding.uid(content))
        elif itemType != USER_INFORMATION_ITEM:
            decoding.quirk(UNKNOWN_ITEM)
        elif information is None:
            information = userInformationOf(content, decoding)
        else:
            decoding.quirk(REPEATED_ITEM)
    if information is None:
        information = userInformationOf(b"", decoding)
    return tuple(applicationContexts), tuple(contexts.values()), information
