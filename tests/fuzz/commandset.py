"""
Command sets: whatever the bytes, a message or a C{RemoteProtocolError}; and the response to it can be read again.

An input is a status, the length of a comment and a position (little endian), then the command set.
"""

from __future__ import annotations

import struct
from typing import Final

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.assembly import MessageAssembler
from dcxtwisted.wire.commandset import decodeCommandSet, encodeCommandSet
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.messages import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    RESPONSE,
    CStoreRequest,
    Message,
    ReceivedResponse,
    Request,
    parseMessage,
)
from tests.fuzz.inputs import held

#: What an input begins with: status, length of the comment, position of a cut.
CONTROL: Final = struct.Struct("<HBH")
MAXIMUM_LENGTH: Final = 512
#: What a check may allocate besides what is in proportion to its input: measured 2 KB.
CONSTANT: Final = 24 * 1024

_CONTEXT: Final = 1
_GROUP_LENGTH: Final = struct.Struct("<I")


def check(data: bytes) -> None:
    """Check one input."""
    if len(data) < CONTROL.size:
        return
    status, commentLength, position = CONTROL.unpack_from(data)
    stream = data[CONTROL.size :]
    try:
        elements = decodeCommandSet(stream)
    except RemoteProtocolError as error:
        _checkError(error)
        message = None
        assert _expected(stream) is None
    else:
        assert elements == _expected(stream)
        _checkElements(elements)
        message = _parsed(elements)
    _checkAssembly(stream, position % (len(stream) + 1), message)
    if isinstance(message, Request):
        comment = stream[:commentLength].decode("latin-1")
        offending = (len(stream), commentLength << 16 | position)[: commentLength & 3]
        _checkResponse(message, status, comment, offending)


def _checkError(error: RemoteProtocolError) -> None:
    assert (error.abortSource, error.abortReason) == (2, 6)
    assert str(error).isascii()
    assert str(error).isprintable()


def _expected(stream: bytes) -> dict[int, bytes] | None:
    """Return the elements as they read without any of the code that is checked; None for what is no command set."""
    elements: dict[int, bytes] = {}
    while stream:
        end = 8 + int.from_bytes(stream[4:8], "little")
        if len(stream) < end or stream[:2] != b"\0\0":
            return None
        elements.setdefault(int.from_bytes(stream[2:4], "little"), stream[8:end])
        stream = stream[end:]
    return elements or None


def _checkElements(elements: dict[int, bytes]) -> None:
    # What is encoded has a group length of its own and values of even length, and is else the same.
    encoded = encodeCommandSet(elements)
    decoded = decodeCommandSet(encoded)
    assert _GROUP_LENGTH.unpack(decoded.pop(0)) == (len(encoded) - 12,)
    assert list(decoded) == sorted(element for element in elements if element)
    for element, value in decoded.items():
        original = elements[element]
        assert value == original + b"\0" * (len(original) & 1)


def _parsed(elements: dict[int, bytes]) -> Message | None:
    try:
        message = parseMessage(_CONTEXT, elements)
    except RemoteProtocolError as error:
        _checkError(error)
        return None
    if isinstance(message, CStoreRequest):
        assert 0 <= message.priority <= 0xFFFF
        assert isinstance(message.moveOriginatorAETitle, str)
        assert message.moveOriginatorMessageID is None or 0 <= message.moveOriginatorMessageID <= 0xFFFF
    if isinstance(message, Request):
        assert message.affectedSOPClassUID.decode("latin-1").startswith(message.SOPClassUID)
        assert message.affectedSOPInstanceUID.decode("latin-1").startswith(message.SOPInstanceUID)
    assert repr(message).isascii()
    return message


def _checkAssembly(stream: bytes, position: int, message: Message | None) -> None:
    """Check that a command set in two PDVs is the same message, or the same fault."""
    assembler = MessageAssembler((_CONTEXT,))
    assert assembler.receive(PDVReceived(_CONTEXT, True, False, memoryview(stream)[:position])) is None
    assert assembler.insideMessage
    assert held(assembler) == position
    try:
        assembled = assembler.receive(PDVReceived(_CONTEXT, True, True, memoryview(stream)[position:]))
    except RemoteProtocolError as error:
        _checkError(error)
        assert message is None
    else:
        assert message is not None
        assert assembled == message
        assert assembler.insideMessage is message.hasDataSet
        assert not held(assembler)


def _checkResponse(request: Request, status: int, comment: str, offendingElements: tuple[int, ...]) -> None:
    encoded = request.response(status, comment, offendingElements).encode()
    elements = decodeCommandSet(encoded)
    assert list(elements) == sorted(elements)
    assert sum(8 + len(value) for value in elements.values()) == len(encoded)
    assert not any(len(value) & 1 for value in elements.values())
    assert _GROUP_LENGTH.unpack(elements[0]) == (len(encoded) - 12,)
    response = parseMessage(request.contextID, elements)
    assert isinstance(response, ReceivedResponse)
    assert response.commandField == request.commandField | RESPONSE
    assert response.messageIDBeingRespondedTo == request.messageID
    assert response.status == status
    assert not response.hasDataSet
    # Senders compare what they get back, byte for byte.
    expected = {AFFECTED_SOP_CLASS_UID: request.affectedSOPClassUID}
    if isinstance(request, CStoreRequest):
        expected[AFFECTED_SOP_INSTANCE_UID] = request.affectedSOPInstanceUID
    if sum(map(len, expected.values())) > 2048:
        expected = dict.fromkeys(expected, b"")  # no UIDs by far
    for element, value in expected.items():
        assert elements.get(element, b"") == value + b"\0" * (len(value) & 1)
