"""
The core of an association: every cell of the state table through its inputs, then what the table does not say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import fsm
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import LocalProtocolError, RemoteProtocolError
from dcxtwisted.uids import APPLICATION_CONTEXT, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.wire.association import AssociationCore, CoreEvent, Directive, ProviderAborted, Transmit
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.items import PresentationContextProposal, PresentationContextResult, UserInformation
from dcxtwisted.wire.pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ
from dcxtwisted.wire.statemachine import State
from tests.wire.cuts import cutAt, kept, merged, waysToCut

MAXIMUM = 16384
MIB = 1 << 20

RQ = AssociateRQ(
    calledAE=b"ARCHIVE         ",
    callingAE=b"MODALITY        ",
    applicationContexts=(APPLICATION_CONTEXT,),
    presentationContexts=(PresentationContextProposal(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,)),),
    userInformation=UserInformation(16384, "1.2.3", "PEER"),
)
AC = AssociateAC(
    calledAE=b"ARCHIVE         ",
    callingAE=b"MODALITY        ",
    applicationContexts=(APPLICATION_CONTEXT,),
    presentationContexts=(PresentationContextResult(1, 0, IMPLICIT_VR_LITTLE_ENDIAN),),
    userInformation=UserInformation(16384, "1.2.4", "US"),
)
RJ = AssociateRJ(1, 2, 2)

# As bytes, by hand where they are short.
RQ_BYTES = RQ.encode()
AC_BYTES = AC.encode()
RJ_BYTES = bytes.fromhex("03 00 00000004 00010202")
DATA_BYTES = bytes.fromhex("04 00 0000000a 00000006 01 03") + b"data"
RELEASE_RQ_BYTES = bytes.fromhex("05 00 00000004 00000000")
RELEASE_RP_BYTES = bytes.fromhex("06 00 00000004 00000000")
ABORT_BYTES = bytes.fromhex("07 00 00000004 00000205")
INVALID_BYTES = bytes.fromhex("08 00 00000004 00000000")  # no PDU has this type

PDV = PDVReceived(1, True, True, memoryview(b"data"))


def abortBytes(source: int, reason: int) -> bytes:
    return bytes.fromhex("07 00 00000004 0000") + bytes((source, reason))


START = Directive.START_ARTIM
STOP = Directive.STOP_ARTIM
CLOSE = Directive.CLOSE_TRANSPORT
OPEN = Directive.OPEN_TRANSPORT

# What an action does in these tests: CoreEvents, but for A-P-ABORT, whose wording is nobody's business.
ABORTED = "A-P-ABORT"
LOST = "A-P-ABORT, the transport is lost"


def simplified(event: object) -> object:
    if isinstance(event, ProviderAborted):
        assert event.reason
        return LOST if event.lost else ABORTED
    return kept(event)


def drained(core: AssociationCore) -> list[object]:
    """Everything the core gives now."""
    events: list[object] = []
    while (event := core.nextEvent()) is not None:
        events.append(simplified(event))
    return events


Input: TypeAlias = Callable[[AssociationCore], object]


def sending(value: AssociateRQ | AssociateAC | AssociateRJ | ReleaseRQ | ReleaseRP | Abort) -> Input:
    return lambda core: core.send(value)


def receiving(stream: bytes) -> Input:
    return lambda core: core.feed(stream)


opened: Input = AssociationCore.connectionMade
closed: Input = AssociationCore.connectionLost
expired: Input = AssociationCore.ARTIMExpired

#: How an association gets into each state it can be in, by role.
PATHS: dict[bool, dict[str, list[Input]]] = {
    False: {
        "Sta1": [],
        "Sta2": [opened],
        "Sta3": [opened, receiving(RQ_BYTES)],
        "Sta6": [opened, receiving(RQ_BYTES), sending(AC)],
        "Sta7": [opened, receiving(RQ_BYTES), sending(AC), sending(ReleaseRQ())],
        "Sta8": [opened, receiving(RQ_BYTES), sending(AC), receiving(RELEASE_RQ_BYTES)],
        "Sta10": [opened, receiving(RQ_BYTES), sending(AC), sending(ReleaseRQ()), receiving(RELEASE_RQ_BYTES)],
        "Sta12": [
            opened,
            receiving(RQ_BYTES),
            sending(AC),
            sending(ReleaseRQ()),
            receiving(RELEASE_RQ_BYTES),
            receiving(RELEASE_RP_BYTES),
        ],
        "Sta13": [opened, receiving(RQ_BYTES), sending(RJ)],
    },
    True: {
        "Sta1": [],
        "Sta4": [sending(RQ)],
        "Sta5": [sending(RQ), opened],
        "Sta6": [sending(RQ), opened, receiving(AC_BYTES)],
        "Sta7": [sending(RQ), opened, receiving(AC_BYTES), sending(ReleaseRQ())],
        "Sta8": [sending(RQ), opened, receiving(AC_BYTES), receiving(RELEASE_RQ_BYTES)],
        "Sta9": [sending(RQ), opened, receiving(AC_BYTES), sending(ReleaseRQ()), receiving(RELEASE_RQ_BYTES)],
        "Sta11": [
            sending(RQ),
            opened,
            receiving(AC_BYTES),
            sending(ReleaseRQ()),
            receiving(RELEASE_RQ_BYTES),
            sending(ReleaseRP()),
        ],
        "Sta13": [sending(RQ), opened, sending(Abort(0, 0))],
    },
}


def coreIn(state: str, isRequestor: bool = False, maximumLength: int = MAXIMUM) -> AssociationCore:
    """A core that has got into this state, and whose events up to there have been taken."""
    core = AssociationCore(maximumLength, isRequestor)
    for step in PATHS[isRequestor][state]:
        step(core)
        drained(core)
    assert core.state.value == state
    return core


#: PS3.8 tables 9-6 to 9-9: what each action does, and the state it leads to, where it needs no event to say so.
ACTIONS: dict[str, tuple[list[object], str]] = {
    "AE-1": ([OPEN], "Sta4"),
    "AE-2": ([Transmit(RQ_BYTES)], "Sta5"),
    "AE-3": ([AC], "Sta6"),
    "AE-4": ([RJ, CLOSE], "Sta1"),
    "AE-5": ([START], "Sta2"),
    "AE-6": ([STOP, RQ], "Sta3"),
    "AE-7": ([Transmit(AC_BYTES)], "Sta6"),
    "AE-8": ([Transmit(RJ_BYTES), START], "Sta13"),
    "DT-2": ([PDV], "Sta6"),
    "AR-1": ([Transmit(RELEASE_RQ_BYTES)], "Sta7"),
    "AR-2": ([ReleaseRQ()], "Sta8"),
    "AR-3": ([ReleaseRP(), CLOSE], "Sta1"),
    "AR-4": ([Transmit(RELEASE_RP_BYTES), START], "Sta13"),
    "AR-5": ([STOP], "Sta1"),
    "AR-6": ([PDV], "Sta7"),
    "AR-9": ([Transmit(RELEASE_RP_BYTES)], "Sta11"),
    "AR-10": ([ReleaseRP()], "Sta12"),
    "AA-2": ([STOP, CLOSE], "Sta1"),
    "AA-3": ([Abort(2, 5), CLOSE], "Sta1"),
    "AA-4": ([LOST], "Sta1"),
    "AA-5": ([STOP], "Sta1"),
    "AA-6": ([], "Sta13"),
    "AA-7": ([Transmit(abortBytes(2, 2))], "Sta13"),
}

#: The events a peer or the transport brings about: the inputs, each of them.
RECEIVED: dict[str, bytes] = {
    "Evt3": AC_BYTES,
    "Evt4": RJ_BYTES,
    "Evt6": RQ_BYTES,
    "Evt10": DATA_BYTES,
    "Evt12": RELEASE_RQ_BYTES,
    "Evt13": RELEASE_RP_BYTES,
    "Evt16": ABORT_BYTES,
    "Evt19": INVALID_BYTES,
}
#: The events this side brings about.
REQUESTED: dict[str, Input] = {
    "Evt1": sending(RQ),
    "Evt7": sending(AC),
    "Evt8": sending(RJ),
    "Evt9": lambda core: core.sendData(DATA_BYTES),
    "Evt11": sending(ReleaseRQ()),
    "Evt14": sending(ReleaseRP()),
    "Evt15": sending(Abort(0, 3)),
}


def expectation(action: str, event: str, isRequestor: bool) -> tuple[list[object], str]:
    """What an action does, and the next state; these four depend on the event or the role."""
    if action == "AR-8":
        return [ReleaseRQ()], "Sta9" if isRequestor else "Sta10"
    if action == "AA-1":
        if event == "Evt15":
            return [Transmit(abortBytes(0, 3)), START], "Sta13"
        # There is no user to be told; it is given as a reason for the log.
        return [Transmit(abortBytes(0, 0)), ABORTED, START], "Sta13"
    if action == "AA-8":
        reason = 1 if event == "Evt19" else 2
        return [Transmit(abortBytes(2, reason)), ABORTED, START], "Sta13"
    return ACTIONS[action]


class TableTests(SynchronousTestCase):
    """
    Every cell of PS3.8 table 9-10, empty ones too, for each role in each state it can get into.

    Which action stands in a cell comes from pynetdicom, what it does from the table above.
    """

    def test_everyCellIsDriven(self) -> None:
        """
        The tests below miss none of the 19 x 13 cells that an association can be in.

        The seven others are empty: a side that was connected to is not told that it has connected, nor the other way
        round.
        """
        driven = {("Evt5", "Sta4")}  # in test_openedTheWrongWay
        for isRequestor, paths in PATHS.items():
            events = {*RECEIVED, *REQUESTED, "Evt17", "Evt18", "Evt2" if isRequestor else "Evt5"}
            driven |= {(event, state) for event in events for state in paths}
        everything = {(f"Evt{event}", f"Sta{state}") for event in range(1, 20) for state in range(1, 14)}
        impossible = {("Evt2", state) for state in ("Sta2", "Sta3", "Sta10", "Sta12")}
        impossible |= {("Evt5", state) for state in ("Sta5", "Sta9", "Sta11")}
        self.assertEqual(everything - driven, impossible)
        self.assertEqual(impossible & set(fsm.TRANSITION_TABLE), set())
        self.assertEqual(len(fsm.TRANSITION_TABLE), 123)

    def cells(self, events: Iterable[str]) -> Iterable[tuple[bool, str, str, str | None, str]]:
        for isRequestor, paths in PATHS.items():
            for state in paths:
                for event in events:
                    action = fsm.TRANSITION_TABLE.get((event, state))
                    where = f"{event} in {state} as {'requestor' if isRequestor else 'acceptor'}"
                    yield isRequestor, state, event, action, where

    def test_received(self) -> None:
        """What a peer sends, whole and cut; where the table has nothing, nothing happens."""
        for isRequestor, state, event, action, where in self.cells(RECEIVED):
            expected, nextState = expectation(action, event, isRequestor) if action else ([], state)
            for way, chunks in waysToCut(RECEIVED[event]):
                core = coreIn(state, isRequestor)
                events = []
                for chunk in chunks:
                    core.feed(chunk)
                    events += drained(core)
                self.assertEqual(merged(events), expected, f"{where}, {way}")
                self.assertEqual(core.state.value, nextState, f"{where}, {way}")

    def test_requested(self) -> None:
        """What this side asks for; where the table has nothing, that is an error and nothing happens."""
        for isRequestor, state, event, action, where in self.cells(REQUESTED):
            core = coreIn(state, isRequestor)
            if action is None:
                self.assertRaises(LocalProtocolError, REQUESTED[event], core)
                self.assertEqual((drained(core), core.state.value), ([], state), where)
            elif action in ("DT-1", "AR-7"):
                # The one request whose bytes come back at once.
                self.assertEqual(REQUESTED[event](core), DATA_BYTES, where)
                self.assertEqual((drained(core), core.state.value), ([], state), where)
            else:
                REQUESTED[event](core)
                expected = expectation(action, event, isRequestor)
                self.assertEqual((drained(core), core.state.value), expected, where)

    def test_opened(self) -> None:
        """The transport opens: for a requestor that asked for it, and for an acceptor."""
        for isRequestor, state, _, _, _ in self.cells([""]):
            event = "Evt2" if isRequestor else "Evt5"
            action = fsm.TRANSITION_TABLE.get((event, state))
            core = coreIn(state, isRequestor)
            if action is None:
                self.assertRaises(LocalProtocolError, core.connectionMade)
                self.assertEqual((drained(core), core.state.value), ([], state), state)
            else:
                core.connectionMade()
                self.assertEqual((drained(core), core.state.value), ACTIONS[action], state)

    def test_openedTheWrongWay(self) -> None:
        """An acceptor that asked for a transport, and is told of one that was opened to it."""
        core = AssociationCore(MAXIMUM)
        core.send(RQ)
        self.assertEqual((drained(core), core.state.value), ([OPEN], "Sta4"))
        self.assertRaises(LocalProtocolError, core.connectionMade)
        self.assertEqual((drained(core), core.state.value), ([], "Sta4"))

    def test_closed(self) -> None:
        """The transport closes, in every state; a second time is one too many and does nothing."""
        for isRequestor, state, event, action, where in self.cells(["Evt17"]):
            core = coreIn(state, isRequestor)
            core.feed(RQ_BYTES[:50])
            core.connectionLost()
            expected = expectation(action, event, isRequestor) if action else ([], state)
            self.assertEqual((drained(core), core.state.value), expected, where)
            core.connectionLost()
            core.feed(RQ_BYTES)
            self.assertEqual((drained(core), core.state.value), ([], "Sta1"), where)

    def test_ARTIM(self) -> None:
        """ARTIM runs out; where it should not have been running, nothing happens."""
        for isRequestor, state, event, action, where in self.cells(["Evt18"]):
            core = coreIn(state, isRequestor)
            core.ARTIMExpired()
            expected = expectation(action, event, isRequestor) if action else ([], state)
            self.assertEqual((drained(core), core.state.value), expected, where)

    def test_nothingChanges(self) -> None:
        """A request that the table does not have leaves a stream alone that stands inside a PDU, and what is queued."""
        for isRequestor, state, event, action, where in self.cells(REQUESTED):
            if action is not None or state == "Sta1":
                continue
            core, other = coreIn(state, isRequestor, 20), coreIn(state, isRequestor, 20)
            for each in (core, other):
                each.feed(ABORT_BYTES[:8])
                drained(each)
                each.feed(ABORT_BYTES[8:])
            self.assertRaises(LocalProtocolError, REQUESTED[event], core)
            self.assertEqual((core.insidePDU, core.quirks), (other.insidePDU, {}), where)
            self.assertEqual(drained(core), drained(other), where)
            self.assertIs(core.state, other.state, where)


#: Ways into Sta13 and to the end, but for those that lose the framing: the role, where from, by what.
LAST_STEPS: dict[str, list[tuple[bool, str, Input]]] = {
    "Sta13": [
        (False, "Sta2", receiving(AC_BYTES)),
        (False, "Sta2", receiving(RQ_BYTES[:5] + b"\x0a" + bytes(10))),
        (False, "Sta3", sending(RJ)),
        (False, "Sta3", sending(Abort(0, 0))),
        (False, "Sta3", receiving(DATA_BYTES)),
        (True, "Sta5", receiving(AC_BYTES[:5] + b"\x0a" + bytes(10))),
        (True, "Sta5", receiving(RQ_BYTES)),
        (False, "Sta6", lambda core: core.invalid(RemoteProtocolError("a fault", 5))),
        (True, "Sta6", receiving(RELEASE_RP_BYTES)),
        (False, "Sta8", sending(ReleaseRP())),
        (True, "Sta8", sending(ReleaseRP())),
        (True, "Sta9", receiving(RELEASE_RP_BYTES)),
        (False, "Sta10", sending(Abort(0, 0))),
        (True, "Sta11", receiving(RELEASE_RQ_BYTES)),
        (False, "Sta12", sending(ReleaseRP())),
    ],
    "Sta1": [
        (False, "Sta2", receiving(ABORT_BYTES)),
        (False, "Sta2", expired),
        (False, "Sta2", closed),
        (False, "Sta3", receiving(ABORT_BYTES)),
        (False, "Sta3", closed),
        (True, "Sta4", sending(Abort(0, 0))),
        (True, "Sta4", closed),
        (True, "Sta5", receiving(RJ_BYTES)),
        (True, "Sta7", receiving(RELEASE_RP_BYTES)),
        (True, "Sta11", receiving(RELEASE_RP_BYTES)),
        (False, "Sta12", receiving(ABORT_BYTES)),
        (False, "Sta13", expired),
        (False, "Sta13", closed),
        (True, "Sta13", receiving(ABORT_BYTES)),
    ],
}


class LastStateTests(SynchronousTestCase):
    """The columns of Sta13 and Sta1, whatever led there."""

    def assertColumn(self, state: str, steps: Iterable[tuple[bool, str, Input]], action: Callable[[str], str]) -> None:
        """Assert that each event does what its action says; where that is "-", nothing or a LocalProtocolError."""
        peers = {event: receiving(stream) for event, stream in RECEIVED.items()} | {"Evt17": closed, "Evt18": expired}
        for number, (isRequestor, before, step) in enumerate(steps):
            for event, happens in (peers | REQUESTED).items():
                if (event, state) == ("Evt1", "Sta1"):
                    continue
                core = coreIn(before, isRequestor)
                step(core)
                drained(core)
                where = f"{event} in {state} from {before}, row {number}"
                self.assertEqual(core.state.value, state, where)
                if action(event) != "-":
                    happens(core)
                    self.assertEqual((drained(core), core.state.value), ACTIONS[action(event)], where)
                    continue
                if event in REQUESTED:
                    self.assertRaises(LocalProtocolError, happens, core)
                else:
                    happens(core)
                self.assertEqual((drained(core), core.state.value), ([], state), where)

    def test_awaitingTheClose(self) -> None:
        self.assertColumn("Sta13", LAST_STEPS["Sta13"], lambda event: fsm.TRANSITION_TABLE.get((event, "Sta13"), "-"))

    def test_framingLost(self) -> None:
        """Nothing the peer sends is read any more: what is left are ARTIM and the end of the transport."""
        ways = [
            (isRequestor, state, receiving(INVALID_BYTES))
            for isRequestor, paths in PATHS.items()
            for state in paths
            if state not in ("Sta1", "Sta4")
        ]
        self.assertColumn("Sta13", ways, lambda event: {"Evt17": "AR-5", "Evt18": "AA-2"}.get(event, "-"))

    def test_over(self) -> None:
        """A core is for one association; that it could be asked for another is left out."""
        self.assertColumn("Sta1", LAST_STEPS["Sta1"], lambda event: "-")


def acceptorStates() -> list[str]:
    """The states of an acceptor in which an association is up, or about to be."""
    return [state for state in PATHS[False] if state not in ("Sta1", "Sta2", "Sta13")]


def associate(length: int) -> bytes:
    return struct.pack(">BxL", 1, length)


def data(*fragments: bytes, isLast: bool = True) -> bytes:
    """One P-DATA-TF with a data set on context 1 in as many PDVs."""
    last = len(fragments) - 1
    pdvs = [
        struct.pack(">LBB", len(fragment) + 2, 1, 2 if isLast and index == last else 0) + fragment
        for index, fragment in enumerate(fragments)
    ]
    content = b"".join(pdvs)
    return struct.pack(">BxL", 4, len(content)) + content


def piece(fragment: bytes, isLast: bool) -> PDVReceived:
    return PDVReceived(1, False, isLast, memoryview(fragment))


class HeaderTests(SynchronousTestCase):
    """A PDU that cannot come is judged on its header; its body is passed over and the stream goes on."""

    def test_beforeAnAssociation(self) -> None:
        """All but a request and an abort: aborted on the header, without waiting for more."""
        for stream in (AC_BYTES, RJ_BYTES, DATA_BYTES, RELEASE_RQ_BYTES, RELEASE_RP_BYTES, INVALID_BYTES):
            core = coreIn("Sta2")
            core.feed(stream[:5])
            self.assertEqual(drained(core), [])
            core.feed(stream[5:6])
            self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), ABORTED, START])

    def test_lengthsBeforeAnAssociation(self) -> None:
        """A request of an impossible length is refused on the header; one that ends too soon, once it is there."""
        for length in (MIB + 1, 0x80000000, 0xFFFFFFFF):
            core = coreIn("Sta2")
            core.feed(associate(length))
            self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), ABORTED, START])
        for length in (0, 1, 67):
            core = coreIn("Sta2")
            core.feed(associate(length) + bytes(length))
            self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), ABORTED, START])

    def test_unexpected(self) -> None:
        """The body of what was answered with an abort is not read: behind it A-ABORT is found."""
        for state in acceptorStates():
            for width in (7, 65536, 2 * MIB):
                core = coreIn(state)
                core.feed(associate(MIB))
                self.assertEqual(drained(core), [Transmit(abortBytes(2, 2)), ABORTED, START], state)
                events = []
                for chunk in cutAt(bytes(MIB) + ABORT_BYTES, range(MIB - 100 * width, MIB + 10, width)):
                    core.feed(chunk)
                    events += drained(core)
                self.assertEqual(events, [STOP, CLOSE], f"{state}, {width} bytes a chunk")

    def test_unexpectedData(self) -> None:
        """P-DATA too: none of its PDVs comes out, or is even looked at."""
        for state in ("Sta3", "Sta8", "Sta10", "Sta12"):
            core = coreIn(state)
            core.feed(bytes.fromhex("04 00 0000000c") + b"\xff" * 12 + ABORT_BYTES)
            self.assertEqual(drained(core), [Transmit(abortBytes(2, 2)), ABORTED, START, STOP, CLOSE], state)

    def test_undecodable(self) -> None:
        """A body that is no such PDU: an invalid PDU, with the reason of the fault."""
        core = coreIn("Sta2")
        core.feed(associate(70) + bytes(70))
        self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), ABORTED, START])
        core = coreIn("Sta5", True)
        core.feed(bytes.fromhex("02 00 00000003 616263") + ABORT_BYTES)
        self.assertEqual(drained(core), [Transmit(abortBytes(2, 6)), ABORTED, START, STOP, CLOSE])

    def test_invalidWhileEstablished(self) -> None:
        """Each fault of framing has its reason; afterwards nothing is read, not even an abort."""
        rows = [
            (bytes.fromhex("09 00 00000004 00000000"), 1),
            (bytes.fromhex("04 00 00000005"), 6),
            (bytes.fromhex("04 00 ffffffff"), 6),
            (bytes.fromhex("04 00 00000010 00000001 01 03"), 6),
            (bytes.fromhex("05 00 00000000"), 6),
            (bytes.fromhex("05 00 ffffffff"), 6),
            (bytes.fromhex("07 00 00000005"), 6),
        ]
        for stream, reason in rows:
            core = coreIn("Sta6")
            core.feed(stream + ABORT_BYTES)
            self.assertEqual(drained(core), [Transmit(abortBytes(2, reason)), ABORTED, START], stream.hex())
            core.feed(ABORT_BYTES)
            self.assertEqual((drained(core), core.state), ([], State.AWAITING_TRANSPORT_CLOSE), stream.hex())

    def test_reason(self) -> None:
        """What went wrong is told, for the log."""
        rows = [
            ("Sta2", AC_BYTES, "unexpected PDU of type 2 in Sta2"),
            ("Sta6", RQ_BYTES, "unexpected PDU of type 1 in Sta6"),
            ("Sta6", INVALID_BYTES, "PDU of unknown type 08"),
        ]
        for state, stream, reason in rows:
            core = coreIn(state)
            core.feed(stream)
            events = [core.nextEvent() for _ in range(3)]
            self.assertEqual(events[1], ProviderAborted(reason, False))
        core = coreIn("Sta6")
        core.connectionLost()
        self.assertEqual(core.nextEvent(), ProviderAborted("connection lost", True))

    def test_beforeTheTransportIsOpen(self) -> None:
        """Nothing can come there; if it does, nothing comes of it."""
        for state, isRequestor in (("Sta1", False), ("Sta4", True)):
            for stream in (*RECEIVED.values(), associate(MIB + 1)):
                core = coreIn(state, isRequestor)
                core.feed(stream)
                self.assertEqual((drained(core), core.state.value), ([], state))


class BeforeTheAnswerTests(SynchronousTestCase):
    """What comes behind A-ASSOCIATE-RQ before it is answered is judged by the table."""

    def test_behindTheRequest(self) -> None:
        for behind in (RQ_BYTES, DATA_BYTES, RELEASE_RQ_BYTES, AC_BYTES):
            for way, chunks in waysToCut(RQ_BYTES + behind):
                core = coreIn("Sta2")
                events = []
                for chunk in chunks:
                    core.feed(chunk)
                    events += drained(core)
                self.assertEqual(events, [STOP, RQ, Transmit(abortBytes(2, 2)), ABORTED, START], way)
                self.assertRaises(LocalProtocolError, core.send, AC)

    def test_oneAtATime(self) -> None:
        """The request comes before what is behind it is judged."""
        core = coreIn("Sta2")
        core.feed(RQ_BYTES + DATA_BYTES)
        self.assertEqual([core.nextEvent(), core.nextEvent()], [STOP, RQ])
        self.assertIs(core.state, State.AWAITING_ASSOCIATE_RESPONSE)
        self.assertEqual(core.nextEvent(), Transmit(abortBytes(2, 2)))

    def test_abortBehindTheRequest(self) -> None:
        core = coreIn("Sta2")
        core.feed(RQ_BYTES + ABORT_BYTES)
        self.assertEqual(drained(core), [STOP, RQ, Abort(2, 5), CLOSE])

    def test_answeredFirst(self) -> None:
        """Answered before that: what was buffered belongs to the association."""
        core = coreIn("Sta2")
        core.feed(RQ_BYTES + DATA_BYTES)
        core.nextEvent()
        core.nextEvent()
        core.send(AC)
        self.assertEqual(drained(core), [Transmit(AC_BYTES), PDV])


class ClosingTests(SynchronousTestCase):
    """While the peer is awaited to close (Sta13)."""

    def test_answeredOnce(self) -> None:
        """The first request or invalid PDU is answered with A-ABORT 2/2; nothing else ever is."""
        for stream in (RQ_BYTES, INVALID_BYTES, bytes.fromhex("04 00 00000000"), associate(MIB + 1), associate(2)):
            core = coreIn("Sta13")
            core.feed(DATA_BYTES + stream)
            self.assertEqual(drained(core), [Transmit(abortBytes(2, 2))], stream.hex())
            core.feed(RQ_BYTES + INVALID_BYTES + ABORT_BYTES)
            self.assertEqual((drained(core), core.state), ([], State.AWAITING_TRANSPORT_CLOSE))
            core.ARTIMExpired()
            self.assertEqual((drained(core), core.state), ([STOP, CLOSE], State.IDLE))

    def test_manyRequests(self) -> None:
        core = coreIn("Sta13")
        for _ in range(100):
            core.feed(RQ_BYTES * 100)
        self.assertEqual(drained(core), [Transmit(abortBytes(2, 2))])

    def test_gigabyteOfNoise(self) -> None:
        """A call a chunk, and nothing of it is kept."""
        core = coreIn("Sta13")
        noise = b"\xa5" * MIB
        events = []
        for _ in range(1024):
            core.feed(noise)
            events.append(core.nextEvent())
        self.assertEqual(events, [Transmit(abortBytes(2, 2)), *[None] * 1023])

    def test_gigabyteOfData(self) -> None:
        """One P-DATA-TF of that size is passed over."""
        core = coreIn("Sta13", maximumLength=0)
        core.feed(struct.pack(">BxL", 4, 1024 * MIB))
        chunk = bytes(MIB)
        for _ in range(1024):
            core.feed(chunk)
            self.assertIsNone(core.nextEvent())
        core.feed(ABORT_BYTES)
        self.assertEqual(drained(core), [STOP, CLOSE])

    def test_asManyAsAreOnTheirWay(self) -> None:
        """A thousand PDUs are passed over; behind them all that comes is, unread: it would take time for ever."""
        for count, events, state in ((1000, [STOP, CLOSE], State.IDLE), (1001, [], State.AWAITING_TRANSPORT_CLOSE)):
            for chunks in ([DATA_BYTES * count + ABORT_BYTES], [*[DATA_BYTES] * count, ABORT_BYTES]):
                core = coreIn("Sta13")
                happened = []
                for chunk in chunks:
                    core.feed(chunk)
                    happened += drained(core)
                self.assertEqual((happened, core.state), (events, state))
                core.feed(RQ_BYTES + INVALID_BYTES)
                self.assertEqual(drained(core), [])
        core.ARTIMExpired()
        self.assertEqual((drained(core), core.state), ([STOP, CLOSE], State.IDLE))

    def test_ignored(self) -> None:
        """All that the table ignores, and then A-ABORT: closed at once."""
        ignored = AC_BYTES + RJ_BYTES + DATA_BYTES + RELEASE_RQ_BYTES + RELEASE_RP_BYTES + data(b"", b"", b"x")
        for way, chunks in waysToCut(ignored + ABORT_BYTES):
            core = coreIn("Sta13")
            events = []
            for chunk in chunks:
                core.feed(chunk)
                events += drained(core)
            self.assertEqual(events, [STOP, CLOSE], way)
            self.assertIs(core.state, State.IDLE)


class EndTests(SynchronousTestCase):
    """Behind the end of an association nothing is read."""

    def test_behindTheEnd(self) -> None:
        ends: list[tuple[str, bool, bytes, list[object]]] = [
            ("Sta2", False, ABORT_BYTES, [STOP, CLOSE]),
            ("Sta6", False, ABORT_BYTES, [Abort(2, 5), CLOSE]),
            ("Sta7", False, RELEASE_RP_BYTES, [ReleaseRP(), CLOSE]),
            ("Sta5", True, RJ_BYTES, [RJ, CLOSE]),
            ("Sta13", False, ABORT_BYTES, [STOP, CLOSE]),
        ]
        for state, isRequestor, end, expected in ends:
            for behind in (INVALID_BYTES, RQ_BYTES, DATA_BYTES, ABORT_BYTES, bytes(50), b"\xff"):
                for way, chunks in waysToCut(end + behind):
                    core = coreIn(state, isRequestor)
                    events = []
                    for chunk in chunks:
                        core.feed(chunk)
                        events += drained(core)
                    self.assertEqual(events, expected, f"{behind.hex()} behind the end in {state}, {way}")
                    self.assertFalse(core.insidePDU)
                    core.connectionLost()
                    self.assertEqual((drained(core), core.state), ([], State.IDLE))

    def test_ARTIMInsideTheRequest(self) -> None:
        """The rest of a request that took too long finds nobody."""
        core = coreIn("Sta2")
        core.feed(RQ_BYTES[:-1])
        self.assertEqual(drained(core), [])
        self.assertTrue(core.insidePDU)
        core.ARTIMExpired()
        core.feed(RQ_BYTES[-1:])
        self.assertEqual((drained(core), core.state), ([STOP, CLOSE], State.IDLE))

    def test_lostInsideThePDU(self) -> None:
        """The beginning of a PDU goes with the connection."""
        core = coreIn("Sta6")
        core.feed(DATA_BYTES[:-1])
        self.assertEqual(drained(core), [PDVReceived(1, True, False, memoryview(b"dat"))])
        self.assertTrue(core.insidePDU)
        core.feed(DATA_BYTES[-1:])
        core.connectionLost()
        self.assertEqual((drained(core), core.insidePDU), ([LOST], False))


class LocalAbortTests(SynchronousTestCase):
    """This side aborts while a PDU is being read."""

    def test_insidePData(self) -> None:
        """What is left of the PDU is dropped, PDV by PDV; behind it the stream goes on."""
        stream = data(b"abcdef", b"", b"ghi")
        for position in range(6, len(stream)):
            for way, chunks in waysToCut(stream[position:] + DATA_BYTES + ABORT_BYTES):
                core = coreIn("Sta6")
                core.feed(stream[:position])
                drained(core)
                core.send(Abort(0, 0))
                self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), START])
                events = []
                for chunk in chunks:
                    core.feed(chunk)
                    events += drained(core)
                self.assertEqual(events, [STOP, CLOSE], f"at {position}, {way}")

    def test_beforeWhatIsBuffered(self) -> None:
        """What is there but not yet taken is dropped too."""
        core = coreIn("Sta6")
        core.feed(data(b"abc", b"def") + RELEASE_RQ_BYTES)
        self.assertEqual(core.nextEvent(), piece(b"abc", False))
        core.send(Abort(0, 0))
        self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), START])

    def test_insideAnotherPDU(self) -> None:
        """A PDU whose header was fine meets the state there is when it is whole."""
        core = coreIn("Sta6")
        core.feed(RELEASE_RQ_BYTES[:8])
        self.assertEqual(drained(core), [])
        core.send(Abort(0, 0))
        core.feed(RELEASE_RQ_BYTES[8:])
        self.assertEqual(drained(core), [Transmit(abortBytes(0, 0)), START])
        self.assertIs(core.state, State.AWAITING_TRANSPORT_CLOSE)


class MessageFaultTests(SynchronousTestCase):
    """A fault found above the PDUs is judged as an invalid PDU."""

    def test_invalid(self) -> None:
        """The rest of the PDU is skipped, and the peer told why."""
        for state in ("Sta6", "Sta7"):
            core = coreIn(state)
            core.feed(data(b"abc", b"def"))
            self.assertEqual(core.nextEvent(), piece(b"abc", False))
            core.invalid(RemoteProtocolError("not now", 5))
            self.assertEqual(core.nextEvent(), Transmit(abortBytes(2, 5)))
            self.assertEqual(core.nextEvent(), ProviderAborted("not now", False))
            self.assertEqual(drained(core), [START])
            core.feed(ABORT_BYTES)
            self.assertEqual((drained(core), core.state), ([STOP, CLOSE], State.IDLE))

    def test_tooLate(self) -> None:
        """Where data is not taken no message is of interest any more."""
        for isRequestor, paths in PATHS.items():
            for state in set(paths) - {"Sta6", "Sta7"}:
                core = coreIn(state, isRequestor)
                core.invalid(RemoteProtocolError("not now", 5))
                self.assertEqual((drained(core), core.state.value), ([], state))


class DataTests(SynchronousTestCase):
    """P-DATA-TF while an association is up."""

    def test_pieces(self) -> None:
        stream = data(b"abcdef", b"", b"ghi", isLast=False) + data(b"jk", b"")
        for state in ("Sta6", "Sta7"):
            for way, chunks in waysToCut(stream):
                core = coreIn(state)
                events = []
                for chunk in chunks:
                    core.feed(chunk)
                    events += drained(core)
                self.assertEqual(merged(events), [piece(b"abcdefghijk", True)], f"{state}, {way}")
                self.assertEqual(core.quirks, {})

    def test_overTheAdvertisedLength(self) -> None:
        """Counted, once a PDU; the length advertised is no fault, and without a limit there is none."""
        rows = [(100, 0), (101, 1), (100 + MIB, 1)]
        for state in ("Sta6", "Sta7"):
            for length, count in rows:
                core = coreIn(state, maximumLength=100)
                core.feed(data(bytes(length - 6)) * 2)
                self.assertEqual(merged(drained(core)), [piece(bytes(length - 6), True)] * 2)
                expected = {"P-DATA-TF over the advertised length": 2 * count} if count else {}
                self.assertEqual(core.quirks, expected, f"{length} in {state}")
        core = coreIn("Sta6", maximumLength=0)
        core.feed(data(bytes(2 * MIB)))
        self.assertEqual((len(drained(core)), core.quirks), (1, {}))

    def test_notCountedWhereItIsNotTaken(self) -> None:
        core = coreIn("Sta8", maximumLength=100)
        core.feed(data(bytes(200)))
        self.assertEqual(drained(core), [Transmit(abortBytes(2, 2)), ABORTED, START])
        self.assertEqual(core.quirks, {})

    def test_farOver(self) -> None:
        core = coreIn("Sta6", maximumLength=100)
        core.feed(struct.pack(">BxL", 4, 101 + MIB))
        self.assertEqual(drained(core), [Transmit(abortBytes(2, 6)), ABORTED, START])

    def test_discard(self) -> None:
        """What is stored is let go at once, and nothing more is taken."""
        core = AssociationCore(MAXIMUM)
        core.connectionMade()
        drained(core)
        core.feed(RQ.encode()[:50])
        self.assertEqual((drained(core), core.insidePDU), ([], True))
        core.discard()
        self.assertFalse(core.insidePDU)
        core.feed(RQ.encode()[50:] + RQ.encode())
        self.assertEqual((drained(core), core.insidePDU), ([], False))

    def test_insidePDU(self) -> None:
        core = coreIn("Sta6")
        insides = []
        for chunk in cutAt(DATA_BYTES, range(len(DATA_BYTES))):
            insides.append(core.insidePDU)
            core.feed(chunk)
            drained(core)
        self.assertEqual([*insides, core.insidePDU], [False, *[True] * (len(DATA_BYTES) - 1), False])


class Pair:
    """A requestor and an acceptor, what one transmits being fed to the other."""

    def __init__(self) -> None:
        self.requestor = AssociationCore(MAXIMUM, isRequestor=True)
        self.acceptor = AssociationCore(MAXIMUM)
        self.told: dict[AssociationCore, list[object]] = {self.requestor: [], self.acceptor: []}

    def take(self, core: AssociationCore) -> None:
        """Take what a core gives, and hand on what it transmits."""
        peer = self.acceptor if core is self.requestor else self.requestor
        event: CoreEvent | None
        while (event := core.nextEvent()) is not None:
            if isinstance(event, Transmit):
                peer.feed(event.data)
            else:
                self.told[core].append(kept(event))

    def run(self) -> tuple[str, str]:
        """Until neither has more to say: the states of both."""
        for _ in range(4):
            self.take(self.requestor)
            self.take(self.acceptor)
        return self.requestor.state.value, self.acceptor.state.value

    def heard(self, core: AssociationCore) -> list[object]:
        """What a core has told since this was asked last."""
        told, self.told[core] = self.told[core], []
        return told

    def associate(self) -> None:
        self.requestor.send(RQ)
        self.acceptor.connectionMade()
        self.requestor.connectionMade()
        self.run()
        self.acceptor.send(AC)
        assert self.run() == ("Sta6", "Sta6")
        assert self.heard(self.requestor) == [OPEN, AC]
        assert self.heard(self.acceptor) == [START, STOP, RQ]


class PairTests(SynchronousTestCase):
    """Both sides of one association, joined."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.requestor = self.pair.requestor
        self.acceptor = self.pair.acceptor
        self.pair.associate()

    def test_data(self) -> None:
        self.acceptor.feed(self.requestor.sendData(DATA_BYTES))
        self.requestor.feed(self.acceptor.sendData(data(b"answer")))
        self.pair.run()
        self.assertEqual(self.pair.heard(self.acceptor), [PDV])
        self.assertEqual(self.pair.heard(self.requestor), [piece(b"answer", True)])

    def assertReleased(self, first: AssociationCore, second: AssociationCore) -> None:
        first.send(ReleaseRQ())
        self.pair.run()
        self.assertEqual((first.state.value, second.state.value), ("Sta7", "Sta8"))
        self.assertEqual(self.pair.heard(second), [ReleaseRQ()])
        first.feed(second.sendData(DATA_BYTES))
        self.assertRaises(LocalProtocolError, first.sendData, DATA_BYTES)
        second.send(ReleaseRP())
        self.pair.run()
        self.assertEqual(self.pair.heard(first), [PDV, ReleaseRP(), CLOSE])
        self.assertEqual(self.pair.heard(second), [START])
        self.assertEqual((first.state.value, second.state.value), ("Sta1", "Sta13"))
        first.connectionLost()
        second.connectionLost()
        self.pair.run()
        self.assertEqual((self.pair.heard(first), self.pair.heard(second)), ([], [STOP]))
        self.assertEqual((first.state.value, second.state.value), ("Sta1", "Sta1"))

    def test_releaseByTheRequestor(self) -> None:
        self.assertReleased(self.requestor, self.acceptor)

    def test_releaseByTheAcceptor(self) -> None:
        self.assertReleased(self.acceptor, self.requestor)

    def test_collision(self) -> None:
        """Both ask at once: the requestor answers first (PS3.8 figure 9-1, Sta9 to Sta12)."""
        self.requestor.send(ReleaseRQ())
        self.acceptor.send(ReleaseRQ())
        self.assertEqual(self.pair.run(), ("Sta9", "Sta10"))
        self.assertEqual(self.pair.heard(self.requestor), [ReleaseRQ()])
        self.assertEqual(self.pair.heard(self.acceptor), [ReleaseRQ()])
        self.assertRaises(LocalProtocolError, self.acceptor.send, ReleaseRP())
        self.requestor.send(ReleaseRP())
        self.assertEqual(self.pair.run(), ("Sta11", "Sta12"))
        self.assertEqual(self.pair.heard(self.acceptor), [ReleaseRP()])
        self.acceptor.send(ReleaseRP())
        self.assertEqual(self.pair.run(), ("Sta1", "Sta13"))
        self.assertEqual(self.pair.heard(self.requestor), [ReleaseRP(), CLOSE])
        self.assertEqual(self.pair.heard(self.acceptor), [START])
        self.acceptor.connectionLost()
        self.assertEqual(self.pair.run(), ("Sta1", "Sta1"))
        self.assertEqual(self.pair.heard(self.acceptor), [STOP])

    def test_abort(self) -> None:
        self.requestor.send(Abort(0, 0))
        self.assertEqual(self.pair.run(), ("Sta13", "Sta1"))
        self.assertEqual(self.pair.heard(self.requestor), [START])
        self.assertEqual(self.pair.heard(self.acceptor), [Abort(0, 0), CLOSE])


class RequestorTests(SynchronousTestCase):
    """What only a requestor meets."""

    def test_secondRequest(self) -> None:
        """A request that is refused here does not take the place of the first."""
        core = coreIn("Sta4", True)
        other = AssociateRQ(bytes(16), bytes(16), (), (), UserInformation())
        self.assertRaises(LocalProtocolError, core.send, other)
        core.connectionMade()
        self.assertEqual(drained(core), [Transmit(RQ_BYTES)])

    def test_message(self) -> None:
        error = self.assertRaises(LocalProtocolError, coreIn("Sta5", True).send, AC)
        self.assertEqual(str(error), "ACCEPT_RESPONSE has no place in Sta5")
        error = self.assertRaises(LocalProtocolError, coreIn("Sta5", True).sendData, DATA_BYTES)
        self.assertEqual(str(error), "P-DATA cannot be sent in Sta5")


def withHeader(pduType: int, length: int, content: bytes) -> bytes:
    return struct.pack(">BxL", pduType, length) + content


streams = st.lists(
    st.sampled_from(sorted(RECEIVED.values()))
    | st.binary(max_size=30)
    | st.builds(withHeader, st.integers(0, 9), st.integers(0, 30), st.binary(max_size=30))
    | st.lists(st.binary(max_size=9), min_size=1, max_size=4).map(lambda fragments: data(*fragments)),
    max_size=6,
).map(b"".join)


class AnythingTests(SynchronousTestCase):
    """Whatever a peer sends, in whatever state."""

    def outcome(self, state: State, isRequestor: bool, chunks: list[bytes]) -> tuple[list[object], State, object]:
        core = AssociationCore(20, isRequestor)
        core.state = state
        events = []
        for chunk in chunks:
            core.feed(chunk)
            events += drained(core)
        return merged(events), core.state, core.quirks

    @given(st.data())
    @settings(deadline=None, max_examples=400)
    def test_anything(self, draw: st.DataObject) -> None:
        """Nothing is ever raised, and how the bytes were cut does not show."""
        state = draw.draw(st.sampled_from(State))
        isRequestor = draw.draw(st.booleans())
        stream = draw.draw(streams)
        cuts = draw.draw(st.sets(st.integers(0, len(stream))))
        whole = self.outcome(state, isRequestor, [stream])
        self.assertEqual(self.outcome(state, isRequestor, cutAt(stream, cuts)), whole)

    @given(st.data())
    @settings(deadline=None, max_examples=200)
    def test_anyOrder(self, draw: st.DataObject) -> None:
        """Bytes mixed with the end of the transport, of ARTIM, and our own abort: nothing is raised but for us."""
        core = AssociationCore(20, draw.draw(st.booleans()))
        core.state = draw.draw(st.sampled_from(State))
        for _ in range(draw.draw(st.integers(1, 8))):
            step = draw.draw(st.sampled_from(["feed", "feed", "feed", "abort", "ARTIM", "invalid", "take", "lost"]))
            if step == "feed":
                core.feed(draw.draw(streams))
            elif step == "abort":
                try:
                    core.send(Abort(0, 0))
                except LocalProtocolError:
                    self.assertIn(core.state.value, ("Sta1", "Sta2", "Sta13"))
            elif step == "ARTIM":
                core.ARTIMExpired()
            elif step == "invalid":
                core.invalid(RemoteProtocolError("a fault", 5))
            elif step == "lost":
                core.connectionLost()
                self.assertIs(core.state, State.IDLE)
            else:
                core.nextEvent()
        drained(core)
