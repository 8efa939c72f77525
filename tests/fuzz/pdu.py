"""
The bytes of a connection as the core of an association meets them, in every state, cut anyhow.

An input is the state it begins in, what this side does on its own and whether it answers, where to cut (see C{inputs});
then what the peer sends. It goes the way of a listener without Twisted: core, assembly, negotiation, responses.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Container
from typing import Final, TypeAlias

from dcxtwisted.errors import LocalProtocolError, RemoteProtocolError
from dcxtwisted.uids import APPLICATION_CONTEXT, STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from dcxtwisted.wire.assembly import MessageAssembler, fragment
from dcxtwisted.wire.association import AssociationCore, Directive, Transmit
from dcxtwisted.wire.framing import Framer, PDVReceived
from dcxtwisted.wire.items import (
    PresentationContextProposal,
    PresentationContextResult,
    SOPClassCommonExtendedNegotiation,
    UserInformation,
)
from dcxtwisted.wire.messages import Request
from dcxtwisted.wire.negotiation import Negotiated, Supported, negotiate
from dcxtwisted.wire.pdu import (
    A_ABORT,
    P_DATA_TF,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
    aeField,
    decode,
)
from dcxtwisted.wire.statemachine import State
from tests.fuzz.expectations import PDV, checkDecoded, checkItems, checkNegotiated, checkPData, expectedPDVs, join
from tests.fuzz.inputs import CUTS, held, pieces, positions, twin

#: What an input begins with, before the cuts: a prelude, and what this side does.
CONTROL: Final = struct.Struct("<BB")
#: An A-ASSOCIATE-RQ with each kind of item in it has 270 bytes; with more, a run takes longer and finds the same.
MAXIMUM_LENGTH: Final = 288
#: What a check may allocate besides what is in proportion to its input: measured 7 KB.
CONSTANT: Final = 24 * 1024

_SHORT: Final = 100
_MOST_CUTS: Final = 6  # byte by byte through any header; each piece takes time

_header: Final = struct.Struct(">BxL").unpack_from
_pdvHeader: Final = struct.Struct(">LBB").unpack_from

CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
_IMPLICIT: Final = "1.2.840.10008.1.2"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"

#: The association of the preludes: 1 and 3 are accepted, 5 is refused.
RQ: Final = AssociateRQ(
    calledAE=aeField("ARCHIVE"),
    callingAE=aeField("MODALITY"),
    applicationContexts=(APPLICATION_CONTEXT,),
    presentationContexts=(
        PresentationContextProposal(1, VERIFICATION, (_IMPLICIT,)),
        PresentationContextProposal(3, CT_IMAGE_STORAGE, (_EXPLICIT, _IMPLICIT)),
        PresentationContextProposal(5, "1.2.3", (_IMPLICIT,)),
    ),
    userInformation=UserInformation(64, "1.2.3", "PEER"),
)
AC: Final = AssociateAC(
    calledAE=aeField("ARCHIVE"),
    callingAE=aeField("MODALITY"),
    applicationContexts=(APPLICATION_CONTEXT,),
    presentationContexts=(
        PresentationContextResult(1, 0, _IMPLICIT),
        PresentationContextResult(3, 0, _EXPLICIT),
        PresentationContextResult(5, 3, _IMPLICIT),
    ),
    userInformation=UserInformation(16384, "1.2.4", "US"),
)
_RELEASE_RQ: Final = ReleaseRQ().encode()
_RELEASE_RP: Final = ReleaseRP().encode()


def _supportedSyntaxes(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None) -> Container[str] | None:
    return TRANSFER_SYNTAXES if abstractSyntax in STORAGE_SOP_CLASSES or abstractSyntax == VERIFICATION else None


_SUPPORTED: Final = Supported(_supportedSyntaxes, 131072, "1.2.3.4", "FUZZED", 8)


class Surroundings:
    """
    What stands around a core: it answers, or leaves it, and writes down what happened.

    :ivar happened: the core's events but PDVs, and what became of those: messages, and data as ``[context, bytes,
        whether the last piece has come]``.
    :ivar aborts: the A-ABORTs sent.
    :ivar PDVs: all that came, as C{join} puts them together.
    """

    def __init__(self, core: AssociationCore) -> None:
        self.core = core
        self.assembler = MessageAssembler(())
        self.answers = False
        self.happened: list[object] = []
        self.aborts: list[Abort] = []
        self.PDVs: list[PDV] = []
        self.request: AssociateRQ | None = None
        self.maximumLengthToSend = 0
        self._context = 0  # of the message in progress
        self._checks = False

    def copied(self, answers: bool, checks: bool) -> Surroundings:
        """Return another that is where this one is."""
        core = twin(self.core, AssociationCore(0), _framer=twin(self.core._framer, Framer(0)))
        assembler = twin(self.assembler, MessageAssembler(()))
        other = Surroundings.__new__(Surroundings)
        return twin(self, other, core=core, assembler=assembler, answers=answers, _checks=checks)

    def feed(self, *chunks: bytes) -> None:
        """Give the core these chunks and do all that follows from them."""
        before = len(self.happened)
        idle = self.core.state is State.IDLE
        for chunk in chunks:
            self.core.feed(chunk)
        self.drain(sum(map(len, chunks)))
        assert not (idle and len(self.happened) > before), "something happened after the end"

    def drain(self, fed: int = 0) -> None:
        """Take what the core has to say."""
        # A PDV of no data has six bytes, and no event without a byte comes more often than a few times.
        left = 16 + fed
        nextEvent = self.core.nextEvent
        while (event := nextEvent()) is not None:
            left -= 1
            assert left, "no end of events"
            if isinstance(event, PDVReceived):
                self._pdvReceived(event)
                continue
            self.happened.append(event)
            if isinstance(event, Transmit):
                self._sent(event.data)
            elif isinstance(event, AssociateRQ):
                self.request = event
                if self._checks:
                    checkDecoded(event)
                if self.answers:
                    self.answer()
            elif isinstance(event, AssociateAC):
                if self._checks:
                    checkDecoded(event)
                self.assembler = MessageAssembler({context.contextID for context in event.presentationContexts})
            elif isinstance(event, ReleaseRQ) and self.answers:
                self.answer()

    def answer(self) -> None:
        """Answer what is unanswered, if anything."""
        state = self.core.state
        if state is State.AWAITING_ASSOCIATE_RESPONSE:
            assert self.request is not None
            outcome = negotiate(self.request, _SUPPORTED)
            if self._checks:
                checkNegotiated(self.request, outcome, _supportedSyntaxes)
            if isinstance(outcome, Negotiated):
                self.assembler = MessageAssembler(outcome.proposed)
                self.maximumLengthToSend = outcome.maximumLengthToSend
                self.core.send(outcome.accept)
            else:
                self.core.send(outcome)
        elif state in _RELEASE_UNANSWERED:
            self.core.send(ReleaseRP())

    def _pdvReceived(self, pdv: PDVReceived) -> None:
        assert not self.aborts, "P-DATA after an abort"
        join(self.PDVs, pdv.contextID, pdv.isCommand, pdv.isLast, bytes(pdv.view))
        inside = self.assembler.insideMessage
        try:
            message = self.assembler.receive(pdv)
        except RemoteProtocolError as error:
            self.core.invalid(error)
            return
        assert not inside or self._context == pdv.contextID
        self._context = pdv.contextID
        happened = self.happened
        if message is pdv:
            last = happened[-1] if happened else None
            if type(last) is list and not last[2] and last[0] == pdv.contextID:
                last[1] += pdv.view
                last[2] = pdv.isLast
            else:
                happened.append([pdv.contextID, bytes(pdv.view), pdv.isLast])
        elif message is not None:
            happened.append(message)
            if isinstance(message, Request) and self.answers:
                self._respond(message)

    def _respond(self, request: Request) -> None:
        PDUs = fragment(request.contextID, True, request.response(0).encode(), self.maximumLengthToSend)
        try:
            self._sent(self.core.sendData(PDUs))
        except LocalProtocolError:
            assert self.core.state not in _MAY_RESPOND
        else:
            assert self.core.state in _MAY_RESPOND

    def _sent(self, data: bytes) -> None:
        """Check what goes to the peer: whole PDUs that a peer can read, and few A-ABORTs."""
        offset = 0
        while offset < len(data):
            pduType, length = _header(data, offset)
            body = data[offset + 6 : offset + 6 + length]
            assert len(body) == length, "a PDU cut short"
            offset += 6 + length
            if pduType == P_DATA_TF:
                assert not self.aborts
                checkPData(body, self.maximumLengthToSend)
                continue
            value = decode(pduType, body)
            if pduType == A_ABORT:
                assert isinstance(value, Abort)
                self.aborts.append(value)
                # The second only to one that goes on after an abort or a rejection (AA-7).
                assert self.aborts[1:] in ([], [Abort(2, 2)]), f"aborts: {self.aborts}"
            else:
                assert not self.aborts, f"{value} after an abort"

    def outcome(self) -> tuple[object, ...]:
        """Return all that must not depend on how the stream was cut."""
        core = self.core
        return self.happened, core.state, core.insidePDU, core.quirks, self.assembler.insideMessage, self.aborts


_RELEASE_UNANSWERED: Final = (
    State.AWAITING_RELEASE_RESPONSE,
    State.COLLISION_REQUESTOR_AWAITING_RESPONSE,
    State.COLLISION_ACCEPTOR_AWAITING_RESPONSE,
)
_MAY_RESPOND: Final = (State.ESTABLISHED, State.AWAITING_RELEASE_RESPONSE)

Step: TypeAlias = Callable[[Surroundings], object]


def _sending(value: AssociateRQ | AssociateRJ | ReleaseRQ | Abort) -> Step:
    return lambda surroundings: surroundings.core.send(value)


def _receiving(stream: bytes) -> Step:
    return lambda surroundings: surroundings.feed(stream)


_opened: Step = lambda surroundings: surroundings.core.connectionMade()  # noqa: E731  # a table of them reads best
_answered: Step = Surroundings.answer
_AS_ACCEPTOR: Final[list[Step]] = [_opened, _receiving(RQ.encode())]
_ACCEPTED: Final[list[Step]] = [*_AS_ACCEPTOR, _answered]
_AS_REQUESTOR: Final[list[Step]] = [_sending(RQ), _opened]
_ESTABLISHED: Final[list[Step]] = [*_AS_REQUESTOR, _receiving(AC.encode())]

#: How each state is reached in which bytes can come: whether as requestor, the state, and the way.
PRELUDES: Final[tuple[tuple[bool, str, list[Step]], ...]] = (
    (False, "Sta2", [_opened]),
    (False, "Sta3", _AS_ACCEPTOR),
    (False, "Sta6", _ACCEPTED),
    (False, "Sta13", [*_AS_ACCEPTOR, _sending(AssociateRJ(1, 1, 1))]),
    (False, "Sta7", [*_ACCEPTED, _sending(ReleaseRQ())]),
    (False, "Sta8", [*_ACCEPTED, _receiving(_RELEASE_RQ)]),
    (False, "Sta10", [*_ACCEPTED, _sending(ReleaseRQ()), _receiving(_RELEASE_RQ)]),
    (False, "Sta12", [*_ACCEPTED, _sending(ReleaseRQ()), _receiving(_RELEASE_RQ), _receiving(_RELEASE_RP)]),
    (True, "Sta5", _AS_REQUESTOR),
    (True, "Sta6", _ESTABLISHED),
    (True, "Sta7", [*_ESTABLISHED, _sending(ReleaseRQ())]),
    (True, "Sta8", [*_ESTABLISHED, _receiving(_RELEASE_RQ)]),
    (True, "Sta9", [*_ESTABLISHED, _sending(ReleaseRQ()), _receiving(_RELEASE_RQ)]),
    (True, "Sta11", [*_ESTABLISHED, _sending(ReleaseRQ()), _receiving(_RELEASE_RQ), _answered]),
    (True, "Sta13", [*_AS_REQUESTOR, _sending(Abort(0, 0))]),
)
_MAXIMUM_LENGTHS: Final = (128, 0)


def _after(isRequestor: bool, state: str, steps: list[Step], maximumLength: int) -> Surroundings:
    surroundings = Surroundings(AssociationCore(maximumLength, isRequestor))
    for step in steps:
        step(surroundings)
        surroundings.drain()
    assert surroundings.core.state.value == state
    surroundings.happened.clear()
    surroundings.PDVs.clear()
    surroundings.aborts.clear()
    return surroundings


_STARTS: Final = tuple(
    _after(isRequestor, state, steps, maximumLength)
    for maximumLength in _MAXIMUM_LENGTHS
    for isRequestor, state, steps in PRELUDES
)

# What this side does on its own, where the first cut would be: the low bits of the second byte.
_NOTHING, ABORTS, RELEASES, ANSWERS, ARTIM_EXPIRES, IS_LOST = range(6)
_ACTIONS: Final = 8
#: In the same byte: requests are answered as they come.
ANSWERS_AT_ONCE: Final = 0x80
#: And: all pieces come before the first is looked at, as where something is waited for.
WAITS: Final = 0x40


def checkQuickly(data: bytes) -> None:
    """
    Check one input, and leave something out where it is long: what is left out of it is always the same.

    A long stream takes the time of ten short ones: of four such, one is also fed whole and has its values encoded.
    """
    _check(data, len(data) <= _SHORT or not zlib.crc32(data) & 3)


def check(data: bytes) -> None:
    """Check one input."""
    _check(data, True)


def _check(data: bytes, thorough: bool) -> None:
    start = CONTROL.size + CUTS.size
    if len(data) < start:
        return
    prelude, does = CONTROL.unpack_from(data)
    step, first, second = CUTS.unpack_from(data, CONTROL.size)
    stream = data[start:]
    origin = _STARTS[prelude % len(_STARTS)]
    answers = bool(does & ANSWERS_AT_ONCE)
    action, position = does % _ACTIONS, first % (len(stream) + 1)
    cuts = positions(step, first, second, len(stream), _MOST_CUTS)
    cut = _run(origin.copied(answers, thorough), stream, cuts, action, position, bool(does & WAITS))
    if cuts and thorough:
        whole = _run(origin.copied(answers, False), stream, [], action, position)
        assert cut.outcome() == whole.outcome(), f"{cut.outcome()} where cut, {whole.outcome()} as a whole"
    if not action or action > IS_LOST:
        _checkRead(cut, stream, prelude % len(_STARTS))
    _checkEnd(cut, len(stream))


def _run(
    surroundings: Surroundings, stream: bytes, cuts: list[int], action: int, position: int, waits: bool = False
) -> Surroundings:
    if _NOTHING < action <= IS_LOST:
        for chunk in pieces(stream[:position], [cut for cut in cuts if cut < position]):
            surroundings.feed(chunk)
        _act(surroundings, action)
        stream, cuts = stream[position:], [cut - position for cut in cuts if cut > position]
    if waits:
        surroundings.feed(*pieces(stream, cuts))
    else:
        for chunk in pieces(stream, cuts):
            surroundings.feed(chunk)
    return surroundings


def _act(surroundings: Surroundings, action: int) -> None:
    core = surroundings.core
    before = core.state
    if action == ANSWERS:
        surroundings.answer()
    elif action == ARTIM_EXPIRES:
        core.ARTIMExpired()
    elif action == IS_LOST:
        core.connectionLost()
        assert core.state is State.IDLE
    else:
        try:
            core.send(Abort(0, 0) if action == ABORTS else ReleaseRQ())
        except LocalProtocolError:
            assert core.state is before
            assert action == RELEASES or before in _NOTHING_TO_ABORT
    surroundings.drain()


_NOTHING_TO_ABORT: Final = (State.IDLE, State.AWAITING_ASSOCIATE_RQ, State.AWAITING_TRANSPORT_CLOSE)


def _checkEnd(surroundings: Surroundings, size: int) -> None:
    """Check what is held, and that a connection that closes leaves nothing."""
    core = surroundings.core
    framer = core._framer
    assert held(framer) <= size, f"{held(framer)} bytes held of {size}"
    happened = surroundings.happened
    wasIdle, aborts = core.state is State.IDLE, len(surroundings.aborts)
    before = len(happened)
    core.connectionLost()
    surroundings.drain()
    assert core.state is State.IDLE
    assert core.nextEvent() is None
    assert len(surroundings.aborts) == aborts
    assert not (wasIdle and len(happened) > before)
    assert Directive.CLOSE_TRANSPORT not in happened[before:]
    assert not held(framer), "bytes held after the end"


def _checkRead(surroundings: Surroundings, stream: bytes, start: int) -> None:
    """Check that no PDV and no A-ASSOCIATE was made of what does not add up."""
    _, state, _ = PRELUDES[start % len(PRELUDES)]
    if state in ("Sta6", "Sta7"):
        expected = expectedPDVs(stream, _MAXIMUM_LENGTHS[start // len(PRELUDES)])
        PDVs = surroundings.PDVs
        if surroundings.core.state not in (State.ESTABLISHED, State.AWAITING_RELEASE_RP) and PDVs:
            # It ended in the middle: all but the last are to be as expected, and of that all that has come.
            last, *_ = expected[len(PDVs) - 1 :]
            assert last[:2] == PDVs[-1][:2]
            assert last[3].startswith(PDVs[-1][3])
            PDVs, expected = PDVs[:-1], expected[: len(PDVs) - 1]
        elif not PDVs:
            expected = expected if surroundings.core.state.value == state else []
        assert PDVs == expected, f"{PDVs} for {expected}"
    elif state in ("Sta2", "Sta5") and any(isinstance(it, AssociateRQ | AssociateAC) for it in surroundings.happened):
        checkItems(stream[0], stream[6 : 6 + int.from_bytes(stream[2:6], "big")])
