"""
The core of an association: bytes and answers in, values out. It knows no clock, socket or role-specific rule.

The surroundings call ``feed`` and the other inputs, then ``nextEvent`` until it gives None, and do what the values say.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import Final, TypeAlias

import attrs

from dcxtwisted.errors import LocalProtocolError, RemoteProtocolError
from dcxtwisted.wire.framing import Framer, PDUBody, PDUHeader, PDVReceived
from dcxtwisted.wire.pdu import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    P_DATA_TF,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
    decode,
)
from dcxtwisted.wire.statemachine import TRANSITIONS, Action, Event, Indicates, Sends, State, Timer

UNEXPECTED_PDU: Final = 2


class Directive(Enum):
    """What the surroundings are to do, besides sending bytes."""

    OPEN_TRANSPORT = "open the transport"
    CLOSE_TRANSPORT = "close the transport"
    START_ARTIM = "start ARTIM, or start it again"
    STOP_ARTIM = "stop ARTIM"


@attrs.frozen
class Transmit:
    """Bytes to send, in order."""

    data: bytes


@attrs.frozen
class ProviderAborted:
    """
    This side ended the association over a fault of the peer, or the transport was lost (A-P-ABORT).

    :ivar reason: what was wrong, without anything the peer sent that is not a number.
    :ivar lost: the transport closed under an association that was up.
    """

    reason: str
    lost: bool = False


CoreEvent: TypeAlias = (
    PDVReceived
    | Directive
    | Transmit
    | ProviderAborted
    | AssociateRQ
    | AssociateAC
    | AssociateRJ
    | ReleaseRQ
    | ReleaseRP
    | Abort
)

_EVENT_OF_TYPE: Final = {
    A_ASSOCIATE_RQ: Event.ASSOCIATE_RQ_RECEIVED,
    A_ASSOCIATE_AC: Event.ASSOCIATE_AC_RECEIVED,
    A_ASSOCIATE_RJ: Event.ASSOCIATE_RJ_RECEIVED,
    P_DATA_TF: Event.DATA_RECEIVED,
    A_RELEASE_RQ: Event.RELEASE_RQ_RECEIVED,
    A_RELEASE_RP: Event.RELEASE_RP_RECEIVED,
    A_ABORT: Event.ABORT_RECEIVED,
}

_EVENT_OF_VALUE: Final[dict[type, Event]] = {
    AssociateRQ: Event.ASSOCIATE_REQUEST,
    AssociateAC: Event.ACCEPT_RESPONSE,
    AssociateRJ: Event.REJECT_RESPONSE,
    ReleaseRQ: Event.RELEASE_REQUEST,
    ReleaseRP: Event.RELEASE_RESPONSE,
    Abort: Event.ABORT_REQUEST,
}

# Tuples: asked for each fragment, and a set hashes the member by a call (57 ns, this 11 ns).
_TAKES_DATA: Final = (State.ESTABLISHED, State.AWAITING_RELEASE_RP)
_SENDS_DATA: Final = (State.ESTABLISHED, State.AWAITING_RELEASE_RESPONSE)
#: PDUs that are passed over behind the end of an association, before all that comes is. A peer that was in the middle
#: of an object has sent a few hundred by then; 512 KiB of the smallest take 130 ms, and more would come for as long as
#: it is waited for.
MOST_PDUS_BEHIND_THE_END: Final = 1000
#: Actions that do not look into the PDU: they are taken on its header, and its body is skipped.
_TAKEN_ON_HEADER: Final = frozenset({Action.AA_1, Action.AA_6, Action.AA_7, Action.AA_8})


class AssociationCore:
    """
    One association from the opening of its transport to the end.

    :param maximumLength: the P-DATA-TF length this side advertises; 0 for no limit.
    :ivar state: where the association stands in PS3.8 9.2.
    :ivar quirks: what was off but tolerated, counted.
    """

    def __init__(self, maximumLength: int, isRequestor: bool = False) -> None:
        self.state = State.IDLE
        self.quirks: Counter[str] = Counter()
        self._maximumLength = maximumLength
        self._isRequestor = isRequestor
        self._framer = Framer(maximumLength)
        self._events: deque[CoreEvent] = deque()
        self._request: AssociateRQ | None = None
        self._behindTheEnd = 0

    # Inputs

    def connectionMade(self) -> None:
        """The transport is open."""
        if self._isRequestor:
            self._take(Event.TRANSPORT_OPENED, self._request)
        else:
            self._take(Event.TRANSPORT_INDICATION)

    def feed(self, chunk: bytes) -> None:
        """Store bytes from the peer; C{nextEvent} parses them."""
        self._framer.feed(chunk)

    def discard(self) -> None:
        """Drop what is stored and whatever comes: the transport is being closed, and nobody waits for it."""
        self._framer.discard()

    def connectionLost(self) -> None:
        """The transport closed, whoever closed it; bytes not yet parsed are dropped."""
        if self.state is not State.IDLE:
            self._take(Event.TRANSPORT_CLOSED, reason="connection lost")

    def ARTIMExpired(self) -> None:
        """ARTIM ran out."""
        if (Event.ARTIM_EXPIRED, self.state) in TRANSITIONS:
            self._take(Event.ARTIM_EXPIRED)

    def invalid(self, error: RemoteProtocolError) -> None:
        """
        A fault that shows only above the PDUs, in a message: judged as an invalid PDU.

        Nothing happens where data is no longer taken: nobody waits for that message.
        """
        if self.state in _TAKES_DATA:
            self._framer.skipBody()
            self._invalidPDU(error)

    def send(self, value: AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort) -> None:
        """
        Ask for a PDU to be sent; what follows from it comes from C{nextEvent}.

        :raise LocalProtocolError: it may not be sent in this state.
        """
        self._take(_EVENT_OF_VALUE[type(value)], value)
        if type(value) is AssociateRQ:
            self._request = value

    def sendData(self, PDUs: bytes) -> bytes:
        """
        Return the P-DATA-TF PDUs to transmit, where they may be sent now.

        :raise LocalProtocolError: there is no association to send them on.
        """
        # A guard instead of the table: DT-1 and AR-7 change nothing, and each response passes here.
        if self.state not in _SENDS_DATA:
            raise LocalProtocolError(f"P-DATA cannot be sent in {self.state.value}")
        return PDUs

    @property
    def insidePDU(self) -> bool:
        """True where part of a PDU has come and the rest has not."""
        return self._framer.insidePDU

    # Output

    def nextEvent(self) -> CoreEvent | None:
        """
        Return the next thing that happened or is to be done, or None until there is more input.

        PDUs come as their values: A-ABORT from the peer as L{Abort}, and so on.
        """
        events = self._events
        if not events and self.state in _TAKES_DATA and (pdv := self._framer.nextPDV()) is not None:
            return pdv
        while not events:
            try:
                item = self._framer.next()
            except RemoteProtocolError as error:
                self._invalidPDU(error)
                continue
            kind = type(item)
            if kind is PDVReceived:
                # The header was judged; an abort of ours since then leaves a rest to drop.
                if self.state in _TAKES_DATA:
                    return item  # type: ignore[return-value]  # mypy does not narrow by type() is
            elif kind is PDUHeader:
                self._headerReceived(item)  # type: ignore[arg-type]  # as above
            elif kind is PDUBody:
                self._bodyReceived(item)  # type: ignore[arg-type]  # as above
            else:
                return None
        return events.popleft()

    def _headerReceived(self, header: PDUHeader) -> None:
        pduType, length = header
        if pduType == P_DATA_TF and self.state in _TAKES_DATA:
            if length > self._maximumLength > 0:
                self.quirks["P-DATA-TF over the advertised length"] += 1
            return
        event = _EVENT_OF_TYPE[pduType]
        action = TRANSITIONS.get((event, self.state))
        if action is None or action in _TAKEN_ON_HEADER:
            self._framer.skipBody()
            if action is not None:
                self._do(action, reason=f"unexpected PDU of type {pduType} in {self.state.value}")

    def _bodyReceived(self, item: PDUBody) -> None:
        try:
            value = decode(item.pduType, item.body)
        except RemoteProtocolError as error:
            self._invalidPDU(error)
        else:
            self._take(_EVENT_OF_TYPE[item.pduType], value)

    def _invalidPDU(self, error: RemoteProtocolError) -> None:
        action = TRANSITIONS.get((Event.INVALID_PDU_RECEIVED, self.state))
        if action is not None:
            self._do(action, reason=str(error), abortReason=error.abortReason)

    # The machine

    def _take(
        self,
        event: Event,
        value: AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort | None = None,
        reason: str = "",
        abortReason: int = UNEXPECTED_PDU,
    ) -> None:
        action = TRANSITIONS.get((event, self.state))
        if action is None:
            raise LocalProtocolError(f"{event.name} has no place in {self.state.value}")
        self._do(action, value, reason, abortReason)

    def _do(
        self,
        action: Action,
        value: AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort | None = None,
        reason: str = "",
        abortReason: int = UNEXPECTED_PDU,
    ) -> None:
        does = action.does
        lost = action is Action.AA_4
        emit = self._events.append
        self.state = action.nextState(self._isRequestor)
        if action is Action.AA_6:
            self._behindTheEnd += 1
            if self._behindTheEnd > MOST_PDUS_BEHIND_THE_END:
                self._framer.discard()
        elif action is Action.AA_7:
            # Once is enough: a peer that keeps sending while we wait for it to close is not argued with.
            self._framer.discard()
            abortReason = UNEXPECTED_PDU
        elif self.state is State.IDLE:
            # What stands behind the end of the association is part of nothing.
            self._framer.discard()
        if does.timer is Timer.STOP:
            emit(Directive.STOP_ARTIM)
        if does.opens:
            emit(Directive.OPEN_TRANSPORT)
        if does.sends is Sends.VALUE and value is not None:
            emit(Transmit(value.encode()))
        elif does.sends is Sends.USER_ABORT:
            emit(Transmit((value if type(value) is Abort else Abort(0, 0)).encode()))
            if reason:
                # The table indicates nothing here, but somebody will want to know why.
                emit(ProviderAborted(reason))
        elif does.sends is Sends.PROVIDER_ABORT:
            emit(Transmit(Abort(2, abortReason).encode()))
        if does.indicates is Indicates.VALUE and value is not None:
            emit(value)
        elif does.indicates is Indicates.PROVIDER_ABORT:
            emit(ProviderAborted(reason, lost))
        if does.timer is Timer.START:
            emit(Directive.START_ARTIM)
        if does.closes:
            emit(Directive.CLOSE_TRANSPORT)
