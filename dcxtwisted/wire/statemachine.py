"""
The DICOM upper layer protocol machine as data (PS3.8 9.2, tables 9-6 to 9-10), for both roles.

Nothing here runs: L{dcxtwisted.wire.association} looks a cell up and does what its action says.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs


class State(Enum):
    """PS3.8 9.2.2; the values are the standard's names."""

    IDLE = "Sta1"
    AWAITING_ASSOCIATE_RQ = "Sta2"
    AWAITING_ASSOCIATE_RESPONSE = "Sta3"
    AWAITING_TRANSPORT_OPEN = "Sta4"
    AWAITING_ASSOCIATE_AC = "Sta5"
    ESTABLISHED = "Sta6"
    AWAITING_RELEASE_RP = "Sta7"
    AWAITING_RELEASE_RESPONSE = "Sta8"
    COLLISION_REQUESTOR_AWAITING_RESPONSE = "Sta9"
    COLLISION_ACCEPTOR_AWAITING_RP = "Sta10"
    COLLISION_REQUESTOR_AWAITING_RP = "Sta11"
    COLLISION_ACCEPTOR_AWAITING_RESPONSE = "Sta12"
    AWAITING_TRANSPORT_CLOSE = "Sta13"


class Event(Enum):
    """PS3.8 table 9-10, left column: requests and responses come from this side's user, PDUs from the peer."""

    ASSOCIATE_REQUEST = "Evt1"
    TRANSPORT_OPENED = "Evt2"
    ASSOCIATE_AC_RECEIVED = "Evt3"
    ASSOCIATE_RJ_RECEIVED = "Evt4"
    TRANSPORT_INDICATION = "Evt5"
    ASSOCIATE_RQ_RECEIVED = "Evt6"
    ACCEPT_RESPONSE = "Evt7"
    REJECT_RESPONSE = "Evt8"
    DATA_REQUEST = "Evt9"
    DATA_RECEIVED = "Evt10"
    RELEASE_REQUEST = "Evt11"
    RELEASE_RQ_RECEIVED = "Evt12"
    RELEASE_RP_RECEIVED = "Evt13"
    RELEASE_RESPONSE = "Evt14"
    ABORT_REQUEST = "Evt15"
    ABORT_RECEIVED = "Evt16"
    TRANSPORT_CLOSED = "Evt17"
    ARTIM_EXPIRED = "Evt18"
    INVALID_PDU_RECEIVED = "Evt19"


class Sends(Enum):
    """What an action transmits: what it was handed, or an A-ABORT that it makes itself."""

    VALUE = "value"
    USER_ABORT = "A-ABORT, source 0"
    PROVIDER_ABORT = "A-ABORT, source 2"


class Indicates(Enum):
    """What an action tells this side's user."""

    VALUE = "value"  #: the PDU that was received
    PROVIDER_ABORT = "A-P-ABORT"


class Timer(Enum):
    """What an action does to ARTIM."""

    START = "start"
    STOP = "stop"


@attrs.frozen
class _Does:
    nextState: State
    sends: Sends | None = None
    indicates: Indicates | None = None
    timer: Timer | None = None
    opens: bool = False
    closes: bool = False
    #: Where the two roles part (AR-8), the state of the acceptor.
    acceptorNextState: State | None = None


_S: Final = State


class Action(Enum):
    """
    PS3.8 tables 9-6 to 9-9. Each member's value says all that it does.

    AE-6 always asks the user: a request the provider would refuse is refused by the user's answer (AE-8), which puts
    the same bytes on the wire.
    """

    AE_1 = ("AE-1", _Does(_S.AWAITING_TRANSPORT_OPEN, opens=True))
    AE_2 = ("AE-2", _Does(_S.AWAITING_ASSOCIATE_AC, sends=Sends.VALUE))
    AE_3 = ("AE-3", _Does(_S.ESTABLISHED, indicates=Indicates.VALUE))
    AE_4 = ("AE-4", _Does(_S.IDLE, indicates=Indicates.VALUE, closes=True))
    AE_5 = ("AE-5", _Does(_S.AWAITING_ASSOCIATE_RQ, timer=Timer.START))
    AE_6 = ("AE-6", _Does(_S.AWAITING_ASSOCIATE_RESPONSE, indicates=Indicates.VALUE, timer=Timer.STOP))
    AE_7 = ("AE-7", _Does(_S.ESTABLISHED, sends=Sends.VALUE))
    AE_8 = ("AE-8", _Does(_S.AWAITING_TRANSPORT_CLOSE, sends=Sends.VALUE, timer=Timer.START))
    DT_1 = ("DT-1", _Does(_S.ESTABLISHED, sends=Sends.VALUE))
    DT_2 = ("DT-2", _Does(_S.ESTABLISHED, indicates=Indicates.VALUE))
    AR_1 = ("AR-1", _Does(_S.AWAITING_RELEASE_RP, sends=Sends.VALUE))
    AR_2 = ("AR-2", _Does(_S.AWAITING_RELEASE_RESPONSE, indicates=Indicates.VALUE))
    AR_3 = ("AR-3", _Does(_S.IDLE, indicates=Indicates.VALUE, closes=True))
    AR_4 = ("AR-4", _Does(_S.AWAITING_TRANSPORT_CLOSE, sends=Sends.VALUE, timer=Timer.START))
    AR_5 = ("AR-5", _Does(_S.IDLE, timer=Timer.STOP))
    AR_6 = ("AR-6", _Does(_S.AWAITING_RELEASE_RP, indicates=Indicates.VALUE))
    AR_7 = ("AR-7", _Does(_S.AWAITING_RELEASE_RESPONSE, sends=Sends.VALUE))
    AR_8 = (
        "AR-8",
        _Does(
            _S.COLLISION_REQUESTOR_AWAITING_RESPONSE,
            indicates=Indicates.VALUE,
            acceptorNextState=_S.COLLISION_ACCEPTOR_AWAITING_RP,
        ),
    )
    AR_9 = ("AR-9", _Does(_S.COLLISION_REQUESTOR_AWAITING_RP, sends=Sends.VALUE))
    AR_10 = ("AR-10", _Does(_S.COLLISION_ACCEPTOR_AWAITING_RESPONSE, indicates=Indicates.VALUE))
    AA_1 = ("AA-1", _Does(_S.AWAITING_TRANSPORT_CLOSE, sends=Sends.USER_ABORT, timer=Timer.START))
    AA_2 = ("AA-2", _Does(_S.IDLE, timer=Timer.STOP, closes=True))
    AA_3 = ("AA-3", _Does(_S.IDLE, indicates=Indicates.VALUE, closes=True))
    AA_4 = ("AA-4", _Does(_S.IDLE, indicates=Indicates.PROVIDER_ABORT))
    AA_5 = ("AA-5", _Does(_S.IDLE, timer=Timer.STOP))
    AA_6 = ("AA-6", _Does(_S.AWAITING_TRANSPORT_CLOSE))
    AA_7 = ("AA-7", _Does(_S.AWAITING_TRANSPORT_CLOSE, sends=Sends.PROVIDER_ABORT))
    AA_8 = (
        "AA-8",
        _Does(
            _S.AWAITING_TRANSPORT_CLOSE,
            sends=Sends.PROVIDER_ABORT,
            indicates=Indicates.PROVIDER_ABORT,
            timer=Timer.START,
        ),
    )

    def __init__(self, standardName: str, does: _Does) -> None:
        self.standardName = standardName
        self.does = does

    def nextState(self, isRequestor: bool) -> State:
        """Return the state the action leads to, for the role of this side."""
        if self.does.acceptorNextState is not None and not isRequestor:
            return self.does.acceptorNextState
        return self.does.nextState


#: PS3.8 table 9-10, row by row: the event, then the action of each of Sta1 to Sta13 ("-" where the cell is empty).
_TABLE: Final = """
Evt1   AE-1 -    -    -    -    -    -    -    -     -     -    -    -
Evt2   -    -    -    AE-2 -    -    -    -    -     -     -    -    -
Evt3   -    AA-1 AA-8 -    AE-3 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8 AA-8 AA-6
Evt4   -    AA-1 AA-8 -    AE-4 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8 AA-8 AA-6
Evt5   AE-5 -    -    -    -    -    -    -    -     -     -    -    -
Evt6   -    AE-6 AA-8 -    AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8 AA-8 AA-7
Evt7   -    -    AE-7 -    -    -    -    -    -     -     -    -    -
Evt8   -    -    AE-8 -    -    -    -    -    -     -     -    -    -
Evt9   -    -    -    -    -    DT-1 -    AR-7 -     -     -    -    -
Evt10  -    AA-1 AA-8 -    AA-8 DT-2 AR-6 AA-8 AA-8  AA-8  AA-8 AA-8 AA-6
Evt11  -    -    -    -    -    AR-1 -    -    -     -     -    -    -
Evt12  -    AA-1 AA-8 -    AA-8 AR-2 AR-8 AA-8 AA-8  AA-8  AA-8 AA-8 AA-6
Evt13  -    AA-1 AA-8 -    AA-8 AA-8 AR-3 AA-8 AA-8  AR-10 AR-3 AA-8 AA-6
Evt14  -    -    -    -    -    -    -    AR-4 AR-9  -     -    AR-4 -
Evt15  -    -    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1  AA-1 AA-1 -
Evt16  -    AA-2 AA-3 -    AA-3 AA-3 AA-3 AA-3 AA-3  AA-3  AA-3 AA-3 AA-2
Evt17  -    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4  AA-4 AA-4 AR-5
Evt18  -    AA-2 -    -    -    -    -    -    -     -     -    -    AA-2
Evt19  -    AA-1 AA-8 -    AA-8 AA-8 AA-8 AA-8 AA-8  AA-8  AA-8 AA-8 AA-7
"""


def _parse(table: str) -> dict[tuple[Event, State], Action]:
    actions = {action.standardName: action for action in Action}
    transitions = {}
    for row in table.split("\n")[1:-1]:
        event, *cells = row.split()
        for state, cell in zip(State, cells, strict=True):
            if cell != "-":
                transitions[Event(event), state] = actions[cell]
    return transitions


#: The action of every filled cell of PS3.8 table 9-10.
TRANSITIONS: Final = _parse(_TABLE)
