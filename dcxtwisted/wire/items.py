"""
The items of A-ASSOCIATE PDUs as frozen values that encode, and the functions that decode them.

PS3.8 9.3.2 and 9.3.3 have the presentation contexts, PS3.7 D.3.3 the sub-items of the user information.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import attrs

from dcxtwisted.errors import RemoteProtocolError

ACCEPTANCE = 0
USER_REJECTION = 1
NO_REASON = 2
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

# 128 contexts of 64 transfer syntaxes each, their classes with role and extended negotiations, are under
# 9,000. Unlimited, 1 MiB of tiny items would hold up everybody else for 120 ms; limited, for 12 ms.
MAXIMUM_ITEMS = 16384

# Of PS3.7 table D.3-14; of any other nobody can say what its fields mean.
USER_IDENTITY_TYPES = frozenset({1, 2, 3, 4, 5})

# What `quirks` may hold.
EMPTY_TRANSFER_SYNTAX = "empty transfer syntax"
EVEN_CONTEXT_ID = "even presentation context ID"
NO_IMPLEMENTATION_CLASS_UID = "no implementation class UID"
ODD_ITEM_LENGTH = "odd item length"
ODD_UID = "odd UID"
ODD_VERSION_NAME = "odd implementation version name"
PADDED_UID = "padded UID"
REPEATED_ITEM = "repeated item"
RESERVED_BYTES = "reserved bytes not zero"
UNKNOWN_ITEM = "unknown item"
UNKNOWN_USER_IDENTITY_TYPE = "unknown user identity type"
UNKNOWN_USER_ITEM = "unknown user item"

_ITEM = struct.Struct(">BBH")
_SHORT = struct.Struct(">H")

APPLICATION_CONTEXT_ITEM = 0x10
PROPOSAL_ITEM = 0x20
RESULT_ITEM = 0x21
_ABSTRACT_SYNTAX = 0x30
_TRANSFER_SYNTAX = 0x40
USER_INFORMATION_ITEM = 0x50
_MAXIMUM_LENGTH = 0x51
_IMPLEMENTATION_CLASS_UID = 0x52
_ASYNCHRONOUS_WINDOW = 0x53
_ROLE_SELECTION = 0x54
_IMPLEMENTATION_VERSION_NAME = 0x55
_EXTENDED_NEGOTIATION = 0x56
_COMMON_EXTENDED_NEGOTIATION = 0x57
_USER_IDENTITY = 0x58
_USER_IDENTITY_RESPONSE = 0x59

_UID_COMPONENTS = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_PRINTABLE = re.compile(r"[ -~]{1,16}")


def item(itemType: int, content: bytes) -> bytes:
    if len(content) > 0xFFFF:
        raise ValueError(f"item {itemType:02X} cannot hold {len(content)} bytes")
    return _ITEM.pack(itemType, 0, len(content)) + content


def textItem(itemType: int, text: str) -> bytes:
    return item(itemType, text.encode("latin-1"))


def _counted(content: bytes) -> bytes:
    if len(content) > 0xFFFF:
        raise ValueError(f"a field cannot hold {len(content)} bytes")
    return _SHORT.pack(len(content)) + content


def _countedText(text: str) -> bytes:
    return _counted(text.encode("latin-1"))


@attrs.frozen
class PresentationContextProposal:
    """
    One presentation context of an A-ASSOCIATE-RQ.

    :ivar abstractSyntax: empty where the peer named none.
    :ivar transferSyntaxes: in the peer's order, empty ones left out; none at all is possible.
    """

    contextID: int
    abstractSyntax: str
    transferSyntaxes: tuple[str, ...]

    def encode(self) -> bytes:
        """The item; without an abstract syntax where that is empty."""
        content = bytes((self.contextID, 0, 0, 0))
        if self.abstractSyntax:
            content += textItem(_ABSTRACT_SYNTAX, self.abstractSyntax)
        content += b"".join(textItem(_TRANSFER_SYNTAX, syntax) for syntax in self.transferSyntaxes)
        return item(PROPOSAL_ITEM, content)


@attrs.frozen
class PresentationContextResult:
    """
    The answer to one presentation context, in an A-ASSOCIATE-AC.

    :ivar transferSyntax: without meaning unless the result is ACCEPTANCE; empty where the peer named none.
    """

    contextID: int
    result: int
    transferSyntax: str

    def encode(self) -> bytes:
        """The item, always with one transfer syntax."""
        content = bytes((self.contextID, 0, self.result, 0)) + textItem(_TRANSFER_SYNTAX, self.transferSyntax)
        return item(RESULT_ITEM, content)


@attrs.frozen
class AsynchronousOperationsWindow:
    """How many operations may be outstanding each way; 0 in a proposal is unlimited."""

    invoked: int
    performed: int

    def encode(self) -> bytes:
        """The item."""
        return item(_ASYNCHRONOUS_WINDOW, _SHORT.pack(self.invoked) + _SHORT.pack(self.performed))


@attrs.frozen
class RoleSelection:
    """The roles proposed, or accepted, for the requestor of the association."""

    SOPClassUID: str
    SCU: bool
    SCP: bool

    def encode(self) -> bytes:
        """The item."""
        return item(_ROLE_SELECTION, _countedText(self.SOPClassUID) + bytes((self.SCU, self.SCP)))


@attrs.frozen
class SOPClassExtendedNegotiation:
    """What a service class negotiates for one SOP class, in bytes only that service class can read."""

    SOPClassUID: str
    information: bytes

    def encode(self) -> bytes:
        """The item."""
        return item(_EXTENDED_NEGOTIATION, _countedText(self.SOPClassUID) + self.information)


@attrs.frozen
class SOPClassCommonExtendedNegotiation:
    """The service class a SOP class belongs to, and the general classes it may be handled as."""

    SOPClassUID: str
    serviceClassUID: str
    relatedGeneralSOPClassUIDs: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The item, version 0."""
        related = b"".join(map(_countedText, self.relatedGeneralSOPClassUIDs))
        content = _countedText(self.SOPClassUID) + _countedText(self.serviceClassUID) + _counted(related)
        return item(_COMMON_EXTENDED_NEGOTIATION, content)


@attrs.frozen
class UserIdentityRequest:
    """Who the requestor says it is. Its repr shows neither field: they hold passcodes and tickets."""

    identityType: int
    positiveResponseRequested: bool
    primaryField: bytes = attrs.field(repr=False)
    secondaryField: bytes = attrs.field(default=b"", repr=False)

    def encode(self) -> bytes:
        """The item."""
        head = bytes((self.identityType, self.positiveResponseRequested))
        return item(_USER_IDENTITY, head + _counted(self.primaryField) + _counted(self.secondaryField))


@attrs.frozen
class UserInformation:
    """
    The user information item; what is None or empty was not there.

    :ivar maximumLength: the longest P-DATA-TF the sender takes, in bytes of PDU-length; 0 is unlimited.
    :ivar userIdentityResponse: not in the repr, it may be a ticket.
    """

    maximumLength: int | None = None
    implementationClassUID: str = ""
    implementationVersionName: str = ""
    asynchronousOperationsWindow: AsynchronousOperationsWindow | None = None
    roleSelections: tuple[RoleSelection, ...] = ()
    extendedNegotiations: tuple[SOPClassExtendedNegotiation, ...] = ()
    commonExtendedNegotiations: tuple[SOPClassCommonExtendedNegotiation, ...] = ()
    userIdentity: UserIdentityRequest | None = None
    userIdentityResponse: bytes | None = attrs.field(default=None, repr=False)

    def encode(self) -> bytes:
        """The item, its sub-items in ascending order of type."""
        parts: list[bytes] = []
        if self.maximumLength is not None:
            parts.append(item(_MAXIMUM_LENGTH, self.maximumLength.to_bytes(4, "big")))
        if self.implementationClassUID:
            parts.append(textItem(_IMPLEMENTATION_CLASS_UID, self.implementationClassUID))
        if self.asynchronousOperationsWindow is not None:
            parts.append(self.asynchronousOperationsWindow.encode())
        parts += [role.encode() for role in self.roleSelections]
        if self.implementationVersionName:
            parts.append(textItem(_IMPLEMENTATION_VERSION_NAME, self.implementationVersionName))
        parts += [extended.encode() for extended in self.extendedNegotiations]
        parts += [common.encode() for common in self.commonExtendedNegotiations]
        if self.userIdentity is not None:
            parts.append(self.userIdentity.encode())
        if self.userIdentityResponse is not None:
            parts.append(item(_USER_IDENTITY_RESPONSE, _counted(self.userIdentityResponse)))
        return item(USER_INFORMATION_ITEM, b"".join(parts))


class Decoding:
    """What one PDU is decoded with: its quirks, the UIDs met so far, how many items it may still have."""

    def __init__(self) -> None:
        self.quirks: dict[str, None] = {}  # a set that keeps its order
        self._uids: dict[bytes, str] = {}
        self._itemsLeft = MAXIMUM_ITEMS

    def quirk(self, quirk: str) -> None:
        self.quirks[quirk] = None

    def items(self, data: bytes, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """(type, byte 2, content) of each item from there on; the last one must end where the data do."""
        end = len(data)
        while offset < end:
            start = offset + 4
            if start > end:
                raise RemoteProtocolError(f"{end - offset} stray bytes after the last item")
            itemType, second, length = _ITEM.unpack_from(data, offset)
            offset = start + length
            if offset > end:
                raise RemoteProtocolError(f"item {itemType:02X} reaches past the end of what contains it")
            if second and itemType != _COMMON_EXTENDED_NEGOTIATION:
                self.quirk(RESERVED_BYTES)
            self._itemsLeft -= 1
            if self._itemsLeft < 0:
                raise RemoteProtocolError(f"over {MAXIMUM_ITEMS} items")
            yield itemType, second, data[start:offset]

    def uid(self, raw: bytes) -> str:
        # A storage SCU repeats the same few transfer syntaxes in each context: looking them up brings an RQ
        # of 128 contexts with 3 syntaxes each from 580 to 390 us.
        uid = self._uids.get(raw)
        if uid is None:
            uid = self._uids[raw] = _text(raw)
            if len(uid) != len(raw):
                self.quirk(PADDED_UID)
            if uid and (len(uid) > 64 or not _UID_COMPONENTS.fullmatch(uid)):
                self.quirk(ODD_UID)
        return uid


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0 ").decode("latin-1")


def _contextID(content: bytes) -> int:
    if len(content) < 4:
        raise RemoteProtocolError(f"a presentation context of {len(content)} bytes")
    if not content[0]:
        raise RemoteProtocolError("presentation context ID 0")
    return content[0]


def proposalOf(content: bytes, decoding: Decoding) -> PresentationContextProposal:
    contextID = _contextID(content)
    if not contextID & 1:
        decoding.quirk(EVEN_CONTEXT_ID)
    abstractSyntax: str | None = None
    transferSyntaxes: list[str] = []
    for itemType, _, raw in decoding.items(content, 4):
        if itemType == _TRANSFER_SYNTAX:
            syntax = decoding.uid(raw)
            if syntax:
                transferSyntaxes.append(syntax)
            else:
                decoding.quirk(EMPTY_TRANSFER_SYNTAX)
        elif itemType != _ABSTRACT_SYNTAX:
            decoding.quirk(UNKNOWN_ITEM)
        elif abstractSyntax is None:
            abstractSyntax = decoding.uid(raw)
        else:
            raise RemoteProtocolError(f"presentation context {contextID} with two abstract syntaxes", 5)
    return PresentationContextProposal(contextID, abstractSyntax or "", tuple(transferSyntaxes))


def resultOf(content: bytes, decoding: Decoding) -> PresentationContextResult:
    contextID = _contextID(content)
    transferSyntax: str | None = None
    for itemType, _, raw in decoding.items(content, 4):
        if itemType != _TRANSFER_SYNTAX:
            decoding.quirk(UNKNOWN_ITEM)
        elif transferSyntax is None:
            transferSyntax = decoding.uid(raw)
        else:
            decoding.quirk(REPEATED_ITEM)
    return PresentationContextResult(contextID, content[2], transferSyntax or "")


class _Fields:
    """The fields of one sub-item, one after the other; a field is never read past the end of the item."""

    def __init__(self, name: str, content: bytes) -> None:
        self._name = name
        self._content = content
        self._offset = 0

    def take(self, length: int) -> bytes:
        end = self._offset + length
        if end > len(self._content):
            raise RemoteProtocolError(f"a field reaches past the end of the {self._name} item")
        field = self._content[self._offset : end]
        self._offset = end
        return field

    def short(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def counted(self) -> bytes:
        return self.take(self.short())

    def more(self) -> bool:
        return self._offset < len(self._content)

    def rest(self) -> bytes:
        return self.take(len(self._content) - self._offset)

    def end(self) -> None:
        if self.more():
            raise RemoteProtocolError(f"stray bytes at the end of the {self._name} item")


def userInformationOf(content: bytes, decoding: Decoding) -> UserInformation:
    single: dict[int, bytes] = {}
    roles: list[RoleSelection] = []
    extended: list[SOPClassExtendedNegotiation] = []
    common: list[SOPClassCommonExtendedNegotiation] = []
    for itemType, second, raw in decoding.items(content):
        if itemType == _ROLE_SELECTION:
            roles.append(_roleSelection(raw, decoding))
        elif itemType == _EXTENDED_NEGOTIATION:
            fields = _Fields("SOP class extended negotiation", raw)
            extended.append(SOPClassExtendedNegotiation(decoding.uid(fields.counted()), fields.rest()))
        elif itemType == _COMMON_EXTENDED_NEGOTIATION:
            common.append(_commonExtended(raw, second, decoding))
        elif not _MAXIMUM_LENGTH <= itemType <= _USER_IDENTITY_RESPONSE:
            decoding.quirk(UNKNOWN_USER_ITEM)
        elif itemType not in single:
            single[itemType] = raw
        else:
            decoding.quirk(REPEATED_ITEM)
    return UserInformation(
        _maximumLength(single.get(_MAXIMUM_LENGTH), decoding),
        _implementationClassUID(single.get(_IMPLEMENTATION_CLASS_UID, b""), decoding),
        _versionName(single.get(_IMPLEMENTATION_VERSION_NAME), decoding),
        _window(single.get(_ASYNCHRONOUS_WINDOW), decoding),
        tuple(roles),
        tuple(extended),
        tuple(common),
        _userIdentity(single.get(_USER_IDENTITY), decoding),
        _userIdentityResponse(single.get(_USER_IDENTITY_RESPONSE)),
    )


def _maximumLength(raw: bytes | None, decoding: Decoding) -> int | None:
    if raw is None:
        return None
    if len(raw) != 4:
        decoding.quirk(ODD_ITEM_LENGTH)
    return int.from_bytes(raw[:4], "big") if len(raw) >= 4 else None


def _implementationClassUID(raw: bytes, decoding: Decoding) -> str:
    uid = decoding.uid(raw)
    if not uid:
        decoding.quirk(NO_IMPLEMENTATION_CLASS_UID)
    return uid


def _versionName(raw: bytes | None, decoding: Decoding) -> str:
    if raw is None:
        return ""
    name = _text(raw)
    if len(raw) > 16 or not _PRINTABLE.fullmatch(name):
        decoding.quirk(ODD_VERSION_NAME)
    return name


def _window(raw: bytes | None, decoding: Decoding) -> AsynchronousOperationsWindow | None:
    if raw is None:
        return None
    fields = _Fields("asynchronous operations window", raw)
    window = AsynchronousOperationsWindow(fields.short(), fields.short())
    if fields.more():
        decoding.quirk(ODD_ITEM_LENGTH)
    return window


def _roleSelection(raw: bytes, decoding: Decoding) -> RoleSelection:
    fields = _Fields("role selection", raw)
    uid = decoding.uid(fields.counted())
    SCU, SCP = fields.take(2)
    fields.end()
    return RoleSelection(uid, bool(SCU), bool(SCP))


def _commonExtended(raw: bytes, version: int, decoding: Decoding) -> SOPClassCommonExtendedNegotiation:
    fields = _Fields("SOP class common extended negotiation", raw)
    SOPClassUID = decoding.uid(fields.counted())
    serviceClassUID = decoding.uid(fields.counted())
    related = _Fields("related general SOP classes", fields.counted())
    relatedUIDs: list[str] = []
    while related.more():
        relatedUIDs.append(decoding.uid(related.counted()))
    if not version:  # later versions may add fields but not change these: PS3.7 table D.3-12
        fields.end()
    return SOPClassCommonExtendedNegotiation(SOPClassUID, serviceClassUID, tuple(relatedUIDs))


def _userIdentity(raw: bytes | None, decoding: Decoding) -> UserIdentityRequest | None:
    if raw is None:
        return None
    fields = _Fields("user identity", raw)
    identityType, response = fields.take(2)
    request = UserIdentityRequest(identityType, bool(response), fields.counted(), fields.counted())
    fields.end()
    if identityType not in USER_IDENTITY_TYPES:
        decoding.quirk(UNKNOWN_USER_IDENTITY_TYPE)
    return request


def _userIdentityResponse(raw: bytes | None) -> bytes | None:
    if raw is None:
        return None
    fields = _Fields("user identity response", raw)
    response = fields.counted()
    fields.end()
    return response
