"""
A second account of the upper layer (PS3.8 9.2 and 9.3), for walks to hold the core of an association against.

It is written state by state from tables 9-6 to 9-10 where the core's table goes event by event, holds the whole stream
where the core holds chunks, and takes nothing from the core but the values both speak in and what a PDU's body means.

Three things the standard leaves open, and the core decides: a PDU is judged on its header where nothing in it matters,
otherwise when it is whole; P-DATA-TF is given out piece by piece, and its PDVs have to add up to its end even where the
association was aborted inside it; after A-ABORT in answer to a PDU in Sta13 nothing more is read.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TypeAlias

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.association import Directive, Transmit
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.pdu import PDU, Abort, AssociateRJ, AssociateRQ, decode

#: A-P-ABORT; its wording is nobody's business.
PROVIDER_ABORTED = "A-P-ABORT"
TRANSPORT_LOST = "A-P-ABORT, the transport is lost"

_Column: TypeAlias = dict[str, str]

_RECEIVED = ("RQ", "AC", "RJ", "P-DATA", "RELEASE-RQ", "RELEASE-RP", "invalid")
_TYPES = {1: "RQ", 2: "AC", 3: "RJ", 4: "P-DATA", 5: "RELEASE-RQ", 6: "RELEASE-RP", 7: "ABORT"}


def _established(**others: str) -> _Column:
    """A state between A-ASSOCIATE-RQ and the end: what it has of its own, over what is the same in all of them."""
    same = {**dict.fromkeys(_RECEIVED, "AA-8"), "ABORT": "AA-3", "abort": "AA-1", "closed": "AA-4"}
    return {**same, **{event.replace("_", "-"): action for event, action in others.items()}}


#: PS3.8 table 9-10 column by column. PDUs from the peer in capitals, what this side asks for and the transport not.
COLUMNS: dict[str, _Column] = {
    "Sta1": {"associate": "AE-1", "indication": "AE-5"},
    "Sta2": {
        **dict.fromkeys(_RECEIVED, "AA-1"),
        "RQ": "AE-6",
        "ABORT": "AA-2",
        "closed": "AA-5",
        "expired": "AA-2",
    },
    "Sta3": _established(accept="AE-7", reject="AE-8"),
    "Sta4": {"opened": "AE-2", "abort": "AA-2", "closed": "AA-4"},
    "Sta5": _established(AC="AE-3", RJ="AE-4"),
    "Sta6": _established(P_DATA="DT-2", data="DT-1", release="AR-1", RELEASE_RQ="AR-2"),
    "Sta7": _established(P_DATA="AR-6", RELEASE_RQ="AR-8", RELEASE_RP="AR-3"),
    "Sta8": _established(data="AR-7", confirm="AR-4"),
    "Sta9": _established(confirm="AR-9"),
    "Sta10": _established(RELEASE_RP="AR-10"),
    "Sta11": _established(RELEASE_RP="AR-3"),
    "Sta12": _established(confirm="AR-4"),
    "Sta13": {
        **dict.fromkeys(_RECEIVED, "AA-6"),
        "RQ": "AA-7",
        "invalid": "AA-7",
        "ABORT": "AA-2",
        "closed": "AR-5",
        "expired": "AA-2",
    },
}

_DATA_TAKEN = ("Sta6", "Sta7")
_NOTHING_IN_IT_MATTERS = ("AA-1", "AA-6", "AA-7", "AA-8")
_MIB = 1 << 20


def abortBytes(source: int, reason: int) -> bytes:
    """A-ABORT, by hand."""
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, source, reason))


class Stream:
    """
    What the peer sent, all of it, and how far it is read.

    :ivar chunks: where in it each chunk ends.
    """

    def __init__(self) -> None:
        self.sent = bytearray()
        self.chunks: list[int] = []
        self.at = 0
        self.lost = False

    def feed(self, chunk: bytes) -> None:
        self.sent += chunk
        self.chunks.append(len(self.sent))

    def has(self, count: int) -> bool:
        return len(self.sent) - self.at >= count

    def number(self, start: int, count: int) -> int:
        start += self.at
        return int.from_bytes(self.sent[start : start + count], "big")

    def take(self, end: int) -> bytes:
        start, self.at = self.at, end
        return bytes(self.sent[start:end])

    def endOfChunk(self) -> int:
        """Where the chunk ends that the next byte is in."""
        return next(end for end in self.chunks if end > self.at)


class UpperLayer:
    """
    One side of an association, by the standard. Its inputs and outputs are those of C{AssociationCore}.

    :ivar state: as the standard calls it.
    :ivar met: the cells of table 9-10 it went through.
    """

    def __init__(self, maximumLength: int, isRequestor: bool) -> None:
        self.state = "Sta1"
        self.out: deque[object] = deque()
        self.quirks: Counter[str] = Counter()
        self.met: set[tuple[str, str]] = set()
        self._isRequestor = isRequestor
        self._maximumLength = maximumLength
        self._request: AssociateRQ | None = None
        self._stream = Stream()
        # The PDU whose header was judged, while it is inside: its type, its end, and whether it is passed over.
        self._pduType = 0
        self._end: int | None = None
        self._skipping = False
        # The PDV inside it: its end, and what its header said.
        self._pdvEnd: int | None = None
        self._pdvHeader = (0, 0)

    # Inputs

    def feed(self, chunk: bytes) -> None:
        if not self._stream.lost:
            self._stream.feed(chunk)

    def happens(self, event: str, value: PDU | None = None, reason: int = 2) -> bool:
        """Do what the table says; False where it says nothing."""
        action = COLUMNS[self.state].get(event)
        if action is None:
            return False
        self.met.add((event, self.state))
        if event == "associate":
            assert isinstance(value, AssociateRQ)
            self._request = value
        self._act(action, value, reason)
        if action == "AA-7" or self.state == "Sta1":
            self._stream.lost = True
        return True

    def messageFault(self, reason: int) -> None:
        """What is wrong shows only in a message: an invalid PDU, and the rest of it is worth nothing."""
        if self.state in _DATA_TAKEN:
            self._skipping = self._end is not None
            self._pdvEnd = None
            self.happens("invalid", reason=reason)

    # Output

    def nextEvent(self) -> object | None:
        while not self.out:
            if not self._readOn():
                return None
        return self.out.popleft()

    @property
    def insidePDU(self) -> bool:
        """Meaningful when all that was sent is read."""
        return not self._stream.lost and (self._end is not None or self._stream.has(1))

    # Actions, PS3.8 tables 9-6 to 9-9

    def _becomes(self, state: str, *outputs: object) -> None:
        self.state = state
        self.out.extend(outputs)

    def _act(self, action: str, value: PDU | None, reason: int) -> None:
        acts = {"AE": self._associates, "DT": self._transfers, "AR": self._releases, "AA": self._aborts}
        acts[action[:2]](action, value, reason)

    def _associates(self, action: str, value: PDU | None, reason: int) -> None:
        match action:
            case "AE-1":
                self._becomes("Sta4", Directive.OPEN_TRANSPORT)
            case "AE-2":
                assert self._request is not None
                self._becomes("Sta5", Transmit(self._request.encode()))
            case "AE-3":
                self._becomes("Sta6", value)
            case "AE-4":
                self._becomes("Sta1", value, Directive.CLOSE_TRANSPORT)
            case "AE-5":
                self._becomes("Sta2", Directive.START_ARTIM)
            case "AE-6":
                self._becomes("Sta3", Directive.STOP_ARTIM, value)
            case "AE-7":
                assert value is not None
                self._becomes("Sta6", Transmit(value.encode()))
            case "AE-8":
                assert isinstance(value, AssociateRJ)
                body = bytes((0, value.result, value.source, value.reason))
                self._becomes("Sta13", Transmit(b"\3\0\0\0\0\4" + body), Directive.START_ARTIM)

    def _transfers(self, action: str, value: PDU | None, reason: int) -> None:
        assert self.state == "Sta6"  # DT-1, and the bytes go straight out; DT-2 is in _pieceOfPDV

    def _releases(self, action: str, value: PDU | None, reason: int) -> None:
        match action:
            case "AR-1":
                self._becomes("Sta7", Transmit(b"\5\0\0\0\0\4\0\0\0\0"))
            case "AR-2":
                self._becomes("Sta8", value)
            case "AR-3":
                self._becomes("Sta1", value, Directive.CLOSE_TRANSPORT)
            case "AR-4":
                self._becomes("Sta13", Transmit(b"\6\0\0\0\0\4\0\0\0\0"), Directive.START_ARTIM)
            case "AR-5":
                self._becomes("Sta1", Directive.STOP_ARTIM)
            case "AR-7":
                assert self.state == "Sta8"  # as DT-1; AR-6 is in _pieceOfPDV
            case "AR-8":
                self._becomes("Sta9" if self._isRequestor else "Sta10", value)
            case "AR-9":
                self._becomes("Sta11", Transmit(b"\6\0\0\0\0\4\0\0\0\0"))
            case "AR-10":
                self._becomes("Sta12", value)

    def _aborts(self, action: str, value: PDU | None, reason: int) -> None:
        match action:
            case "AA-1" if isinstance(value, Abort):
                self._becomes("Sta13", Transmit(abortBytes(value.source, value.reason)), Directive.START_ARTIM)
            case "AA-1":
                # No user is there to be told; the core tells why all the same, for the log.
                self._becomes("Sta13", Transmit(abortBytes(0, 0)), PROVIDER_ABORTED, Directive.START_ARTIM)
            case "AA-2":
                self._becomes("Sta1", Directive.STOP_ARTIM, Directive.CLOSE_TRANSPORT)
            case "AA-3":
                self._becomes("Sta1", value, Directive.CLOSE_TRANSPORT)
            case "AA-4":
                self._becomes("Sta1", TRANSPORT_LOST)
            case "AA-5":
                self._becomes("Sta1", Directive.STOP_ARTIM)
            case "AA-6":
                self._becomes("Sta13")
            case "AA-7":
                self._becomes("Sta13", Transmit(abortBytes(2, 2)))
            case "AA-8":
                self._becomes("Sta13", Transmit(abortBytes(2, reason)), PROVIDER_ABORTED, Directive.START_ARTIM)

    # PDUs, PS3.8 9.3

    def _readOn(self) -> bool:
        """Read one thing more; False where the peer has to send more for that."""
        if self._stream.lost:
            return False
        if self._end is None:
            return self._stream.has(6) and self._header()
        if self._pduType == 4 and not self._skipping:
            return self._partOfPData(self._end)
        if not self._stream.has(self._end - self._stream.at):
            return False
        body, self._end = self._stream.take(self._end), None
        if not self._skipping:
            self._body(body)
        return True

    def _header(self) -> bool:
        pduType, length = self._stream.number(0, 1), self._stream.number(2, 4)
        self._stream.at += 6
        reason = self._fault(pduType, length)
        if reason:
            self._framingLost(reason)
            return True
        self._pduType = pduType
        self._end = self._stream.at + length
        action = COLUMNS[self.state].get(_TYPES[pduType])
        if action in ("DT-2", "AR-6"):
            self.met.add(("P-DATA", self.state))
            self.quirks.update(["P-DATA-TF over the advertised length"] * (length > self._maximumLength > 0))
        self._skipping = action is None or action in _NOTHING_IN_IT_MATTERS
        if self._skipping:
            self.happens(_TYPES[pduType])
        return True

    def _fault(self, pduType: int, length: int) -> int:
        """The reason for an A-ABORT, by PS3.8 table 9-26; 0 where nothing is wrong."""
        if pduType == 4:
            most = self._maximumLength + _MIB if self._maximumLength else 0xFFFFFFFF
            return 0 if 6 <= length <= most else 6
        if pduType in (3, 5, 6, 7):
            return 0 if length == 4 else 6
        if pduType in (1, 2):
            return 0 if length <= _MIB else 6
        return 1

    def _framingLost(self, reason: int) -> None:
        self._stream.lost = True
        self._end = self._pdvEnd = None
        self.happens("invalid", reason=reason)

    def _body(self, body: bytes) -> None:
        try:
            value = decode(self._pduType, body)
        except RemoteProtocolError as error:
            self.happens("invalid", reason=error.abortReason)
        else:
            assert self.happens(_TYPES[self._pduType], value)

    def _partOfPData(self, end: int) -> bool:
        stream = self._stream
        if self._pdvEnd is not None:
            return stream.has(1) and self._pieceOfPDV(self._pdvEnd)
        left = end - stream.at
        if not left:
            self._end = None
            return True
        if not stream.has(6):
            return False
        length = stream.number(0, 4)
        rest = left - 4 - length
        if length < 2 or (rest != 0 and rest < 6):
            stream.at += 6
            self._framingLost(6)
            return True
        self._pdvHeader = stream.number(4, 1), stream.number(5, 1)
        stream.at += 6
        self._pdvEnd = stream.at + length - 2
        if length == 2:
            self._pieceOfPDV(self._pdvEnd)
        return True

    def _pieceOfPDV(self, end: int) -> bool:
        stream = self._stream
        piece = stream.take(end if stream.at == end else min(end, stream.endOfChunk()))
        whole = stream.at == end
        if whole:
            self._pdvEnd = None
        if self.state in _DATA_TAKEN:
            contextID, control = self._pdvHeader
            isLast = whole and control & 2 == 2
            self.out.append(PDVReceived(contextID, control & 1 == 1, isLast, memoryview(piece)))
        return True
