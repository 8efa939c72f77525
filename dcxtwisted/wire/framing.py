"""
Cuts the byte stream of a connection into PDU headers, PDU bodies and PDV fragments (PS3.8 9.3).

P-DATA-TF is never collected: its PDVs pass as views of the chunks they arrived in, however large the PDU is.
Everything else is small and collected up to a limit that is checked on the header, before anything is allocated.
"""

from __future__ import annotations

from builtins import memoryview  # mypyc looks for the types of a named tuple in its module only
from collections import deque
from struct import Struct
from typing import Final, NamedTuple

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.pdu import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    P_DATA_TF,
)
from dcxtwisted.wire.values import Value

#: Whether the way of an object, this module included, runs compiled.
COMPILED: Final = not __file__.endswith((".py", ".pyc"))
#: The largest A-ASSOCIATE-RQ or -AC read, in bytes. 128 contexts with 64 syntaxes of 64 bytes come to 560 KB.
MAXIMUM_ASSOCIATE_LENGTH: Final = 1 << 20
#: How far a peer's P-DATA-TF may pass the advertised length: real ones confuse PDU and fragment length.
TOLERATED_EXCESS: Final = 1 << 20

_HEADER_LENGTH: Final = 6
_PDUHeader = Struct(">BxL")
_PDVHeader = Struct(">LBB")
_HEADERS_LENGTH: Final = 12
_bothHeaders = Struct(">BxLLBB").unpack_from

_FIXED_LENGTH_TYPES: Final = frozenset({A_ASSOCIATE_RJ, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT})
_ASSOCIATE_TYPES: Final = frozenset({A_ASSOCIATE_RQ, A_ASSOCIATE_AC})

UNRECOGNIZED_PDU: Final = 1
INVALID_PARAMETER_VALUE: Final = 6

# A TLS record with a handshake: what a peer sends first that is set to TLS, on a port that is not.
_TLS_RECORD: Final = b"\x16\x03"
_TLS_HINT: Final = ": the peer speaks TLS, on a port for DICOM without it"


class PDUHeader(NamedTuple):
    """A header was read and its length is within the limits; its body, if not skipped, comes next."""

    pduType: int
    length: int


class PDUBody(NamedTuple):
    """The body of a PDU other than P-DATA-TF. The view is valid until the next call of the framer."""

    pduType: int
    body: memoryview


class PDVReceived(Value):
    """
    A piece of a presentation data value: the whole of it, or what of it one chunk held.

    ``isLast`` is set only with the final piece of the last fragment of a command or data set. The view is valid
    until the chunk it is cut from is let go: whatever is kept longer is to be copied.
    """

    __match_args__ = ("contextID", "isCommand", "isLast", "view")

    def __init__(self, contextID: int, isCommand: bool, isLast: bool, view: memoryview) -> None:
        self.contextID = contextID
        self.isCommand = isCommand
        self.isLast = isLast
        self.view = view


# Where the framer stands in the stream.
_AT_PDU_HEADER: Final = 0
_IN_BODY: Final = 1
_AT_PDV_HEADER: Final = 2
_IN_PDV: Final = 3
_SKIPPING: Final = 4
_LOST: Final = 5

_EMPTY: Final = memoryview(b"")


class Framer:
    """
    A pull parser: ``feed`` stores a chunk, ``next`` parses one thing.

    :param maximumLength: the P-DATA-TF length this side advertised; 0 for no limit.
    """

    def __init__(self, maximumLength: int) -> None:
        self._advertised = maximumLength or 0xFFFFFFFF
        self._maximumLength = min(self._advertised + TOLERATED_EXCESS, 0xFFFFFFFF)
        self._chunks: deque[memoryview] = deque()
        self._view = _EMPTY
        self._offset = 0
        self._collected = bytearray()  # a header or body that did not come in one chunk
        self._where = _AT_PDU_HEADER
        self._pduType = 0
        self._remaining = 0  # bytes of the current PDU's body not yet read
        self._pdvRemaining = 0
        self._contextID = 0
        self._isCommand = False
        self._isLast = False

    def feed(self, chunk: bytes) -> None:
        """Store bytes in the order they arrived."""
        if self._where == _LOST:
            return
        if self._offset == len(self._view) and not self._chunks:
            self._view = memoryview(chunk)
            self._offset = 0
        else:
            self._chunks.append(memoryview(chunk))

    def skipBody(self) -> None:
        """Pass over what is left of the current PDU, unread; nothing happens between PDUs."""
        if self._where in (_IN_BODY, _AT_PDV_HEADER, _IN_PDV):
            self._where = _SKIPPING

    def discard(self) -> None:
        """Drop what is buffered and whatever comes: the framing of this connection is lost."""
        self._where = _LOST
        self._chunks.clear()
        self._collected.clear()
        self._letGo()

    @property
    def insidePDU(self) -> bool:
        """True where the stream stands inside a PDU: silence now is a stall, not a pause."""
        return bool(self._collected) or self._where in (_IN_BODY, _AT_PDV_HEADER, _IN_PDV, _SKIPPING)

    def next(self) -> PDVReceived | PDUHeader | PDUBody | None:
        """
        Return the next thing in the stream, or None until more is fed.

        :raise RemoteProtocolError: the bytes are no PDU, or one over its limit; from then on all input is dropped.
        """
        where = self._where
        if where == _IN_PDV:
            return self._nextPiece()
        if where == _AT_PDU_HEADER:
            if self._offset == len(self._view) and not self._chunks:
                # The usual end of a chunk.
                self._letGo()
                return None
            return self._nextPDU()
        if where == _AT_PDV_HEADER:
            return self._nextPDV()
        if where == _IN_BODY:
            body = self._take(self._remaining)
            if body is None:
                return None
            self._where = _AT_PDU_HEADER
            return PDUBody(self._pduType, body)
        if where == _SKIPPING:
            return self._nextPDU() if self._skip() else None
        return None

    def nextPDV(self) -> PDVReceived | None:
        """
        Return the PDV of a P-DATA-TF that begins here and holds no other; None where something else stands here.

        A short cut past the header of the PDU, where P-DATA is known to be welcome: one PDV in one PDU is what peers
        send, and passes the core in 1.4 us so, in 1.8 us by way of C{next}. Nothing is lost by asking.
        """
        view, start = self._view, self._offset
        available = len(view) - start
        if self._where or available < _HEADERS_LENGTH or self._collected:
            return None
        pduType, length, pdvLength, contextID, control = _bothHeaders(view, start)
        if pduType != P_DATA_TF or pdvLength != length - 4 or not _HEADER_LENGTH <= length <= self._advertised:
            return None
        if length + _HEADER_LENGTH <= available:
            self._offset = end = start + _HEADER_LENGTH + length
            return PDVReceived(contextID, control & 1 == 1, control & 2 == 2, view[start + _HEADERS_LENGTH : end])
        self._pduType = P_DATA_TF
        self._remaining = 0
        self._contextID = contextID
        self._isCommand = control & 1 == 1
        self._isLast = control & 2 == 2
        self._pdvRemaining = length - _HEADER_LENGTH
        self._offset = start + _HEADERS_LENGTH
        self._where = _IN_PDV
        return self._nextPiece()

    def _nextPDU(self) -> PDUHeader | None:
        header = self._take(_HEADER_LENGTH)
        if header is None:
            return None
        pduType, length = _PDUHeader.unpack(header)
        if pduType == P_DATA_TF:
            if not _HEADER_LENGTH <= length <= self._maximumLength:
                raise self._lost(f"P-DATA-TF of {length} bytes")
            self._where = _AT_PDV_HEADER
        elif pduType in _FIXED_LENGTH_TYPES:
            if length != 4:
                raise self._lost(f"PDU of type {pduType} with {length} bytes")
            self._where = _IN_BODY
        elif pduType in _ASSOCIATE_TYPES:
            if length > MAXIMUM_ASSOCIATE_LENGTH:
                raise self._lost(f"A-ASSOCIATE PDU of {length} bytes")
            self._where = _IN_BODY
        else:
            hint = _TLS_HINT if bytes(header[:2]) == _TLS_RECORD else ""
            raise self._lost(f"PDU of unknown type {pduType:02X}{hint}", UNRECOGNIZED_PDU)
        self._pduType = pduType
        self._remaining = length
        return PDUHeader(pduType, length)

    def _nextPDV(self) -> PDVReceived | None:
        header = self._take(_HEADER_LENGTH)
        if header is None:
            return None
        length, contextID, control = _PDVHeader.unpack(header)
        # Length counts context ID and control byte; what stays of the PDU behind it must hold another PDV.
        rest = self._remaining - 4 - length
        if length < 2 or rest < 0 or 0 < rest < _HEADER_LENGTH:
            raise self._lost(f"PDV of {length} bytes with {self._remaining - 4} bytes left in the PDU")
        self._remaining = rest
        self._contextID = contextID
        self._isCommand = bool(control & 1)
        self._isLast = bool(control & 2)
        self._pdvRemaining = length - 2
        if length == 2:
            self._where = _AT_PDV_HEADER if rest else _AT_PDU_HEADER
            return PDVReceived(contextID, self._isCommand, self._isLast, _EMPTY)
        self._where = _IN_PDV
        return self._nextPiece()

    def _nextPiece(self) -> PDVReceived | None:
        view = self._view
        start = self._offset
        end = len(view)
        if start == end:
            if not self._chunks:
                self._letGo()
                return None
            view = self._view = self._chunks.popleft()
            start = 0
            end = len(view)
        wanted = self._pdvRemaining
        if end - start > wanted:
            end = start + wanted
        self._offset = end
        wanted -= end - start
        self._pdvRemaining = wanted
        if wanted:
            return PDVReceived(self._contextID, self._isCommand, False, view[start:end])
        self._where = _AT_PDV_HEADER if self._remaining else _AT_PDU_HEADER
        return PDVReceived(self._contextID, self._isCommand, self._isLast, view[start:end])

    def _take(self, wanted: int) -> memoryview | None:
        """Return the next ``wanted`` bytes in one piece, or None where they have not all come."""
        start = self._offset
        end = start + wanted
        collected = self._collected
        if end <= len(self._view) and not collected:
            self._offset = end
            return self._view[start:end]
        while True:
            piece = self._view[self._offset : self._offset + wanted - len(collected)]
            collected += piece
            self._offset += len(piece)
            if len(collected) == wanted:
                self._collected = bytearray()
                return memoryview(collected)
            if not self._chunks:
                self._letGo()
                return None
            self._view = self._chunks.popleft()
            self._offset = 0

    def _skip(self) -> bool:
        """Pass over what is left of the current body; False where more of it is to come."""
        left = self._remaining + self._pdvRemaining
        self._pdvRemaining = 0
        # A part of the body, or of a PDV header, may have been collected already.
        left -= len(self._collected)
        self._collected.clear()
        while True:
            available = len(self._view) - self._offset
            if available >= left:
                self._offset += left
                self._remaining = 0
                self._where = _AT_PDU_HEADER
                return True
            left -= available
            self._remaining = left
            if not self._chunks:
                self._letGo()
                return False
            self._view = self._chunks.popleft()
            self._offset = 0

    def _letGo(self) -> None:
        # A view of a used-up chunk would pin the whole of it while the connection idles.
        self._view = _EMPTY
        self._offset = 0

    def _lost(self, message: str, reason: int = INVALID_PARAMETER_VALUE) -> RemoteProtocolError:
        self.discard()
        return RemoteProtocolError(message, reason)
