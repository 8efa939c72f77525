"""
The state table, for each PDU that is no P-DATA-TF, and its short cut for those that are.
"""

from __future__ import annotations

from benchmarks.micro.material import Benchmark, objectStream
from dcxtwisted.testing.peer import associateRQ
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN
from dcxtwisted.wire.association import AssociationCore, CoreEvent
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.negotiation import Negotiated, Supported, negotiate
from dcxtwisted.wire.pdu import AssociateAC, ReleaseRP, ReleaseRQ
from dcxtwisted.wire.statemachine import TRANSITIONS, Action, Event, State


def _accept() -> AssociateAC:
    negotiated = negotiate(
        associateRQ(), Supported(lambda name, said: (EXPLICIT_VR_LITTLE_ENDIAN,), 131072, "2.25.1", "TEST")
    )
    assert isinstance(negotiated, Negotiated)
    return negotiated.accept


def _drained(core: AssociationCore) -> list[CoreEvent]:
    events = []
    while (event := core.nextEvent()) is not None:
        events.append(event)
    return events


def test_step(benchmark: Benchmark) -> None:
    """The look-up of one cell."""
    cells = list(TRANSITIONS)

    def allCells() -> Action | None:
        action = None
        for event, state in cells:
            action = TRANSITIONS.get((event, state))
        return action

    assert benchmark(allCells) is TRANSITIONS[cells[-1]]
    assert len(cells) == 123
    assert TRANSITIONS[Event.ASSOCIATE_RQ_RECEIVED, State.AWAITING_ASSOCIATE_RQ] is Action.AE_6


def test_association(benchmark: Benchmark) -> None:
    """From the opening of the transport to its end: request, acceptance, release, each encoded or decoded."""
    request, release, accept = associateRQ().encode(), ReleaseRQ().encode(), _accept()

    def association() -> tuple[AssociationCore, int]:
        core = AssociationCore(131072)
        core.connectionMade()
        core.feed(request)
        events = _drained(core)
        core.send(accept)
        events += _drained(core)
        core.feed(release)
        events += _drained(core)
        core.send(ReleaseRP())
        events += _drained(core)
        core.connectionLost()
        return core, len(events + _drained(core))

    core, events = benchmark(association)
    assert (core.state, events) == (State.IDLE, 8)


def test_data(benchmark: Benchmark) -> None:
    """The PDVs of an object of 525 KiB through the core of an association that is up."""
    core = AssociationCore(131072)
    core.connectionMade()
    core.feed(associateRQ().encode())
    _drained(core)
    core.send(_accept())
    _drained(core)
    chunks = objectStream(525 << 10)

    def received() -> int:
        size = 0
        for chunk in chunks:
            core.feed(chunk)
            while (event := core.nextEvent()) is not None:
                assert type(event) is PDVReceived
                size += 0 if event.isCommand else len(event.view)
        return size

    assert benchmark(received) == 525 << 10
