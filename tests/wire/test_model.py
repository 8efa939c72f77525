"""
The core of an association on walks that Hypothesis makes, beside a model of PS3.8 9.2 that knows nothing of it.

The walks are the same every time. ``DCXTWISTED_WALKS=20000 python -m twisted.trial tests.wire.test_model`` makes as
many instead, others each time: a thousand in some 20 seconds.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import LocalProtocolError, RemoteProtocolError
from dcxtwisted.uids import APPLICATION_CONTEXT, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.wire.association import AssociationCore, Directive, ProviderAborted, Transmit
from dcxtwisted.wire.items import PresentationContextProposal, PresentationContextResult, UserInformation
from dcxtwisted.wire.pdu import PDU, Abort, AssociateAC, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ
from tests.wire.cuts import cutAt, kept
from tests.wire.upperlayer import COLUMNS, PROVIDER_ABORTED, TRANSPORT_LOST, UpperLayer, abortBytes

_WALKS = int(os.environ.get("DCXTWISTED_WALKS", "0"))
_MIB = 1 << 20

_AE_TITLES = b"ARCHIVE         ", b"MODALITY        "
RQ = AssociateRQ(
    *_AE_TITLES,
    (APPLICATION_CONTEXT,),
    (PresentationContextProposal(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),),
    UserInformation(16384, "1.2.3", "PEER"),
)
AC = AssociateAC(
    *_AE_TITLES,
    (APPLICATION_CONTEXT,),
    (PresentationContextResult(1, 0, IMPLICIT_VR_LITTLE_ENDIAN),),
    UserInformation(16384, "1.2.4", "US"),
)


def pdu(pduType: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxL", pduType, len(body) if length is None else length) + body


def pdv(fragment: bytes, control: int = 2, length: int | None = None) -> bytes:
    return struct.pack(">LBB", len(fragment) + 2 if length is None else length, 1, control) + fragment


RELEASE_RQ = pdu(5, bytes(4))
RELEASE_RP = pdu(6, bytes(4))
DATA = pdu(4, pdv(b"command", 3))
#: As long as 20 bytes allow, and one byte more.
FULL = pdu(4, pdv(b"12345678") + pdv(b""))
OVER = pdu(4, pdv(b"12345678") + pdv(b"9"))

#: What belongs somewhere in an association.
PDUS = [
    RQ.encode(),
    AC.encode(),
    pdu(3, b"\0\1\2\2"),
    DATA,
    FULL,
    OVER,
    RELEASE_RQ,
    RELEASE_RP,
    abortBytes(0, 0),
    abortBytes(2, 5),
]
#: The first PDV is fine, what is behind it does not add up.
BAD_BEHIND = [pdu(4, pdv(b"12345") + pdv(b"", length=9)), pdu(4, pdv(b"12345") + b"stray")]
#: What belongs nowhere, one of each kind: types, lengths, PDVs that do not add up, bodies that cannot be decoded.
INVALID = [
    pdu(0, b""),
    pdu(8, bytes(4)),
    pdu(4, b"", 5),
    pdu(4, b"", 0xFFFFFFFF),
    pdu(4, pdv(b"", length=1)),
    *BAD_BEHIND,
    pdu(5, b""),
    pdu(7, bytes(5)),
    pdu(1, b"", _MIB + 1),
    pdu(1, b"too short"),
    pdu(1, RQ.encode()[6:-1]),
    pdu(2, bytes(70)),
]

fragments = st.builds(pdv, st.binary(max_size=12), st.integers(0, 3))
anyPData = st.lists(fragments, min_size=1, max_size=4).map(lambda pdvs: pdu(4, b"".join(pdvs)))
anyHeader = st.builds(pdu, st.integers(0, 9), st.binary(max_size=12), st.sampled_from((0, 4, 6, 12, 300, _MIB + 20)))
parts = st.one_of(
    st.sampled_from(PDUS), st.sampled_from(PDUS), anyPData, st.sampled_from(INVALID), anyHeader, st.binary(max_size=20)
)
streams = st.lists(parts, min_size=1, max_size=3).map(b"".join)
cuts = st.lists(st.integers(1, 400), max_size=5)
maximumLengths = st.sampled_from((0, 20, 16384))

REQUESTS: dict[str, PDU] = {
    "associate": RQ,
    "accept": AC,
    "reject": AssociateRJ(1, 1, 1),
    "release": ReleaseRQ(),
    "confirm": ReleaseRP(),
    "abort": Abort(0, 3),
}
ASKED = ["data", *REQUESTS]

_ESTABLISHED: dict[bool, list[str | bytes]] = {
    False: ["indication", RQ.encode(), "accept"],
    True: ["associate", "opened", AC.encode()],
}
Start: TypeAlias = tuple[bool, str, list[str | bytes]]

#: Where an association is taken up: the role of this side, the state, and what leads there.
STARTS: list[Start] = [
    (False, "Sta1", []),
    (False, "Sta2", _ESTABLISHED[False][:1]),
    (False, "Sta3", _ESTABLISHED[False][:2]),
    (True, "Sta4", _ESTABLISHED[True][:1]),
    (True, "Sta5", _ESTABLISHED[True][:2]),
    (False, "Sta6", _ESTABLISHED[False]),
    (True, "Sta6", _ESTABLISHED[True]),
    (False, "Sta7", [*_ESTABLISHED[False], "release"]),
    (True, "Sta7", [*_ESTABLISHED[True], "release"]),
    (False, "Sta8", [*_ESTABLISHED[False], RELEASE_RQ]),
    (True, "Sta8", [*_ESTABLISHED[True], RELEASE_RQ]),
    (True, "Sta9", [*_ESTABLISHED[True], "release", RELEASE_RQ]),
    (False, "Sta10", [*_ESTABLISHED[False], "release", RELEASE_RQ]),
    (True, "Sta11", [*_ESTABLISHED[True], "release", RELEASE_RQ, "confirm"]),
    (False, "Sta12", [*_ESTABLISHED[False], "release", RELEASE_RQ, RELEASE_RP]),
    (False, "Sta13", [*_ESTABLISHED[False][:2], "reject"]),
    (True, "Sta13", [*_ESTABLISHED[True], "abort"]),
]

starts = st.sampled_from(STARTS)


class Walk(RuleBasedStateMachine):
    """
    Associations one after the other, in both roles, each on a core and on the model at once.

    Whatever one gives the other has to give, one event after the other, and both are in the same state after each.
    """

    met: ClassVar[set[tuple[str, str]]] = set()

    # Associations

    @initialize(start=starts, maximumLength=maximumLengths)
    def begins(self, start: Start, maximumLength: int) -> None:
        """An association, led on to one of the states."""
        self.isRequestor, state, steps = start
        self.core = AssociationCore(maximumLength, self.isRequestor)
        self.model = UpperLayer(maximumLength, self.isRequestor)
        self.ARTIMRuns = False
        self.begun = False
        self.closed = False
        self.aborts: list[bytes] = []
        self.drained = True
        for step in steps:
            if isinstance(step, bytes):
                self.peerSends(step, [], "all")
            elif step in REQUESTS:
                self.requests(step)
            else:
                self.transportOpens()
            self.drain()
        assert self.model.state == state

    def isOver(self) -> bool:
        return self.begun and self.model.state == "Sta1"

    def isNotOver(self) -> bool:
        return not self.isOver()

    def takesData(self) -> bool:
        return self.model.state in ("Sta6", "Sta7")

    @rule(
        stream=streams,
        cuts=cuts,
        event=st.sampled_from([event for event in ASKED if event != "associate"]),
        start=starts,
        maximumLength=maximumLengths,
    )
    def beginsAnew(self, stream: bytes, cuts: list[int], event: str, start: Start, maximumLength: int) -> None:
        """Whoever goes on behind the end, nothing comes of it; the next association has a core of its own."""
        self.transportCloses()
        self.peerSends(stream, cuts, "each")
        self.requests(event)
        self.ARTIMExpires()
        self.transportCloses()
        self.messageIsInvalid()
        self.drain()
        assert self.model.state == "Sta1"
        self.met.update(self.model.met)
        self.begins(start, maximumLength)

    # What comes back

    def take(self) -> bool:
        """Take one event of both; False where there is none."""
        expected = self.model.nextEvent()
        event = self.core.nextEvent()
        assert simplified(event) == expected, f"the core gave {event}, the model {expected}"
        self.drained = event is None
        if isinstance(event, Transmit):
            self.transmitted(event.data)
        elif isinstance(event, Directive):
            self.directed(event)
        return event is not None

    def drain(self) -> None:
        while self.take():
            self.agree()
        self.agree()

    def transmitted(self, data: bytes) -> None:
        assert not self.closed, f"transmitted behind the end: {data.hex()}"
        if data[0] == 7:
            self.aborts.append(data)
            # Once, and once more to a peer that goes on with what cannot come.
            assert self.aborts[1:] in ([], [abortBytes(2, 2)]), self.aborts

    def directed(self, directive: Directive) -> None:
        if directive in (Directive.START_ARTIM, Directive.STOP_ARTIM):
            self.ARTIMRuns = directive is Directive.START_ARTIM
        elif directive is Directive.CLOSE_TRANSPORT:
            assert not self.closed
            self.closed = True

    @invariant()
    def agree(self) -> None:
        assert self.core.state.value == self.model.state, f"{self.core.state} instead of {self.model.state}"
        assert self.core.quirks == self.model.quirks, self.core.quirks
        if not self.model.out:
            assert self.ARTIMRuns == (self.model.state in ("Sta2", "Sta13")), f"ARTIM in {self.model.state}"
        if self.drained:
            assert self.core.insidePDU == self.model.insidePDU, f"insidePDU in {self.model.state}"

    # What happens

    def asks(self, event: str, value: PDU | None, call: Callable[[], object]) -> object:
        """This side does something that the table may not have: then it is told so, and nothing has changed."""
        self.drained = False
        if self.model.happens(event, value):
            self.begun = True
            return call()
        try:
            call()
        except LocalProtocolError:
            return None
        raise AssertionError(f"{event} in {self.model.state} was not refused")

    @precondition(isNotOver)
    @rule(event=st.sampled_from(ASKED))
    def requests(self, event: str) -> None:
        if event != "data":
            self.asks(event, REQUESTS[event], lambda: self.core.send(REQUESTS[event]))
        elif (data := self.asks(event, None, lambda: self.core.sendData(DATA))) is not None:
            # The one request whose bytes come back at once.
            assert data == DATA
            assert not self.closed

    @precondition(isNotOver)
    @rule(event=st.sampled_from(("opens", "closes", "ARTIM", "message")))
    def timePasses(self, event: str) -> None:
        happens = {"opens": self.transportOpens, "closes": self.transportCloses, "ARTIM": self.ARTIMExpires}
        happens.get(event, self.messageIsInvalid)()

    def transportOpens(self) -> None:
        self.asks("opened" if self.isRequestor else "indication", None, self.core.connectionMade)

    def transportCloses(self) -> None:
        """Whoever closed it; a second time is one too many and does nothing."""
        self.drained = False
        self.model.happens("closed")
        self.core.connectionLost()

    def ARTIMExpires(self) -> None:
        """Where it was not running, nothing happens."""
        self.drained = False
        self.model.happens("expired")
        self.core.ARTIMExpired()

    def messageIsInvalid(self, reason: int = 5) -> None:
        self.drained = False
        self.model.messageFault(reason)
        self.core.invalid(RemoteProtocolError("a fault of a message", reason))

    @precondition(takesData)
    @rule(stream=anyPData | st.sampled_from(BAD_BEHIND), cut=st.integers(1, 60), count=st.integers(0, 3))
    def peerSendsInvalidMessage(self, stream: bytes, cut: int, count: int) -> None:
        """Its fault shows when some of it is taken."""
        self.peerSends(stream, [cut], "none")
        self.someIsTaken(count)
        self.messageIsInvalid(cut % 7)

    @precondition(isNotOver)
    @rule(stream=st.sampled_from(PDUS))
    def peerSendsOne(self, stream: bytes) -> None:
        self.peerSends(stream, [], "all")

    @precondition(isNotOver)
    @rule(stream=streams, cuts=cuts, taken=st.sampled_from(("each", "all", "none")))
    def peerSends(self, stream: bytes, cuts: list[int], taken: str) -> None:
        """Anything, cut anywhere; taken chunk by chunk, all at once, or left for later."""
        for chunk in cutAt(stream, cuts):
            self.drained = False
            self.model.feed(chunk)
            self.core.feed(chunk)
            if taken == "each":
                self.drain()
        if taken == "all":
            self.drain()

    @precondition(isNotOver)
    @rule(count=st.integers(1, 4))
    def someIsTaken(self, count: int) -> None:
        for _ in range(count):
            self.take()
            self.agree()

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.drain()
            self.met.update(self.model.met)


def simplified(event: object) -> object:
    if isinstance(event, ProviderAborted):
        assert event.reason
        return TRANSPORT_LOST if event.lost else PROVIDER_ABORTED
    return kept(event)


class ModelTests(SynchronousTestCase):
    def test_columns(self) -> None:
        """As many cells are filled as in PS3.8 table 9-10."""
        self.assertEqual(sum(len(column) for column in COLUMNS.values()), 123)

    def test_walks(self) -> None:
        """The core does what the model does, and the walks get everywhere."""
        Walk.met = set()
        options: dict[str, Any] = {"max_examples": _WALKS or 300}
        if not _WALKS:
            # How slow a machine is must not matter either.
            options.update(derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
        try:
            run_state_machine_as_test(Walk, settings=settings(deadline=None, report_multiple_bugs=False, **options))
        except Exception as error:
            # The shortest walk that shows it: trial does not print notes.
            raise AssertionError("\n".join([repr(error), *getattr(error, "__notes__", ())])) from error
        # About 105 of 123; walks that got stuck somewhere would prove little.
        self.assertGreater(len(Walk.met), 90)
