"""
PDVs to messages and messages to PDVs (PS3.8 Annex E, PS3.7 6.3).

A command set is collected, within a limit; a data set is not: its pieces pass as they are.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.commandset import decodeCommandSet
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.messages import Message, parseMessage
from dcxtwisted.wire.pdu import encodePData

#: The largest command set collected. A real one has a few hundred bytes; 64 KiB holds 2,000 attribute tags.
MAXIMUM_COMMAND_SET_LENGTH: Final = 65536

_UNEXPECTED_PARAMETER: Final = 5

#: The context of no message; a peer can send 0, although no context has that ID.
_NONE: Final = -1


class MessageAssembler:
    """
    Puts the PDVs of one association together.

    :param contextIDs: every context that was proposed; messages on refused ones are still messages.
    """

    def __init__(self, contextIDs: Container[int]) -> None:
        self._contextIDs = contextIDs
        self._collected = bytearray()
        self._contextID = _NONE  # of the message in progress
        self._expectsData = False

    @property
    def insideMessage(self) -> bool:
        """True from the first PDV of a message to its last."""
        return self._contextID != _NONE

    def receive(self, pdv: PDVReceived) -> Message | PDVReceived | None:
        """
        Return the message whose command is complete with this PDV, or a piece of its data set, or None.

        A message whose C{hasDataSet} is true is followed by the pieces of its data set, the last with C{isLast}.

        :raise RemoteProtocolError: the PDV cannot stand here, or completes something that is no command set.
        """
        contextID, isCommand, isLast, view = pdv.contextID, pdv.isCommand, pdv.isLast, pdv.view
        if contextID != self._contextID:
            if self._contextID != _NONE:
                raise RemoteProtocolError("PDV of another context inside a message", _UNEXPECTED_PARAMETER)
            if contextID not in self._contextIDs:
                raise RemoteProtocolError("PDV of a context never proposed", _UNEXPECTED_PARAMETER)
            self._contextID = contextID
        if isCommand is self._expectsData:
            what = "command inside a data set" if isCommand else "data set without a command"
            raise RemoteProtocolError(what, _UNEXPECTED_PARAMETER)
        if not isCommand:
            if isLast:
                self._contextID = _NONE
                self._expectsData = False
            return pdv
        if len(self._collected) + len(view) > MAXIMUM_COMMAND_SET_LENGTH:
            raise RemoteProtocolError(f"command set of over {MAXIMUM_COMMAND_SET_LENGTH} bytes")
        if not isLast:
            self._collected += view
            return None
        if self._collected:
            self._collected += view
            elements = decodeCommandSet(self._collected)
            self._collected = bytearray()
        else:
            elements = decodeCommandSet(view)
        message = parseMessage(contextID, elements)
        if message.hasDataSet:
            self._expectsData = True
        else:
            self._contextID = _NONE
        return message


def fragment(contextID: int, isCommand: bool, data: bytes, maximumLength: int) -> bytes:
    """
    Return a command or data set as P-DATA-TF PDUs.

    :param maximumLength: the largest P-DATA-TF body the receiver takes, at least 8; 0 for no limit.
    """
    # The six bytes of the PDV header count (PS3.8 D.1.1); fragments are of even length.
    room = (maximumLength - 6) & ~1 if maximumLength else len(data)
    if len(data) <= room:
        return encodePData(contextID, isCommand, True, data)
    view = memoryview(data)
    return b"".join(
        encodePData(contextID, isCommand, start + room >= len(data), view[start : start + room])
        for start in range(0, len(data), room)
    )
