"""
Messages and services: what goes where, what waits for what, and that nothing stays behind when the association ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dcxtwisted.dimse import DIMSEProvider
from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.interfaces import IDataSetReceiver, IDIMSEProvider, IDIMSEService, IExchange
from dcxtwisted.testing.stores import StoreAssociation
from dcxtwisted.wire.commandset import encodeCommandSet
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.items import UserInformation
from dcxtwisted.wire.messages import C_ECHO_RQ, C_FIND_RQ, C_STORE_RQ, Request, Response
from dcxtwisted.wire.negotiation import AcceptedContext, Negotiated
from dcxtwisted.wire.pdu import AssociateAC

CLASS = b"1.2.3.4\0"
N_ACTION_RQ = 0x0130
ACCEPT = AssociateAC(bytes(16), bytes(16), (), (), UserInformation())


def us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _same(answering: Deferred[object]) -> Deferred[object]:
    return answering


class _Association(StoreAssociation):
    def __repr__(self) -> str:
        return "<an association>"


@implementer(IDataSetReceiver)
class FakeReceiver:
    """Keeps what it is given; answers, and what it does on completion, are the test's."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []
        self.answer: Callable[[], Deferred[None] | None] = lambda: None
        self.onCompleted: Callable[[], Deferred[object] | None] = lambda: None
        self.onLost: Callable[[], Deferred[object] | None] = lambda: None

    def dataReceived(self, view: memoryview) -> Deferred[None] | None:
        self.told.append(bytes(view))
        return self.answer()

    def dataCompleted(self) -> Deferred[object] | None:
        self.told.append("completed")
        return self.onCompleted()

    def dataLost(self) -> Deferred[object] | None:
        self.told.append("lost")
        return self.onLost()


@implementer(IDIMSEService)
class FakeService:
    """Keeps its requests; what it returns is the test's."""

    def __init__(self, commandField: int) -> None:
        self.commandFields = frozenset({commandField})
        self.requests: list[Request] = []
        self.exchanges: list[Any] = []
        self.answer: Callable[[], Any] = lambda: None

    def supports(self, abstractSyntax: str, common: object = None) -> None:
        return None

    def requestReceived(self, request: Request, exchange: IExchange) -> Any:
        self.requests.append(request)
        self.exchanges.append(exchange)
        return self.answer()

    def respond(self, status: int = 0, which: int = -1) -> None:
        self.exchanges[which].respond(self.requests[which].response(status))


class ProviderTestCase(SynchronousTestCase):
    """A provider with an echo, a store and a find service, given PDVs as an association gives them."""

    def setUp(self) -> None:
        self.make()

    def make(self, window: int = 1) -> None:
        self.echo, self.store, self.find = map(FakeService, (C_ECHO_RQ, C_STORE_RQ, C_FIND_RQ))
        proposed = {1: "1.2.3", 3: "1.2.3", 5: "1.2.9"}
        self.sent: list[Response] = []
        self.wakes = 0
        self.association = _Association()
        self.receiver = FakeReceiver()
        self._coming: deque[PDVReceived] = deque()
        self._giving = False
        self.provider = self.providerFor(proposed, window)

    def providerFor(self, proposed: dict[int, str], window: int = 1) -> DIMSEProvider:
        accepted = {number: AcceptedContext(number, "1.2.3", "1.2.840.10008.1.2.1") for number in (1, 3)}
        return DIMSEProvider(
            {C_ECHO_RQ: self.echo, C_STORE_RQ: self.store, C_FIND_RQ: self.find},
            Negotiated(ACCEPT, accepted, proposed, 0, window),
            self.association,
            self.sent.append,
            self.woken,
        )

    # As an association does

    def woken(self) -> None:
        self.wakes += 1
        self.give()

    def give(self, *PDVs: PDVReceived) -> None:
        """Give PDVs while the provider takes them; the rest when it wakes."""
        self._coming.extend(PDVs)
        if self._giving:
            return
        self._giving = True
        while self._coming and not self.provider.holding:
            self.provider.pdvReceived(self._coming.popleft())
        self._giving = False

    def end(self) -> None:
        self._coming.clear()
        self.provider.ended()

    # What is given

    def command(
        self,
        commandField: int,
        messageID: int = 1,
        hasDataSet: bool = False,
        contextID: int = 1,
        extra: dict[int, bytes] | None = None,
    ) -> None:
        elements = {
            0x0002: CLASS,
            0x0100: us(commandField),
            0x0110: us(messageID),
            0x0800: us(1 if hasDataSet else 0x0101),
            **(extra or {}),
        }
        self.give(PDVReceived(contextID, True, True, memoryview(encodeCommandSet(elements))))

    def data(self, piece: bytes = b"data", isLast: bool = False, contextID: int = 1) -> None:
        self.give(PDVReceived(contextID, False, isLast, memoryview(piece)))

    def storing(self, receiver: Any = None, messageID: int = 1) -> FakeReceiver:
        """Begin a C-STORE that goes to the test's receiver."""
        self.store.answer = lambda: self.receiver if receiver is None else receiver
        self.command(C_STORE_RQ, messageID, True)
        return self.receiver

    # What came of it

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.sent]

    @property
    def answered(self) -> list[int]:
        """The message IDs that were responded to, in order."""
        return [response.messageIDBeingRespondedTo for response in self.sent]

    def assertState(self, holding: bool = False, answering: bool = False, busy: bool = False) -> None:
        provider = self.provider
        self.assertEqual((provider.holding, provider.answering, provider.busy), (holding, answering, busy))


class RoutingTests(ProviderTestCase):
    def test_provides(self) -> None:
        verifyObject(IDIMSEProvider, self.provider)
        self.command(C_ECHO_RQ)
        verifyObject(IExchange, self.echo.exchanges[0])

    def test_byCommandField(self) -> None:
        self.command(C_ECHO_RQ, 7)
        self.echo.respond()
        self.command(C_STORE_RQ, 8, True, 3)
        self.data(isLast=True, contextID=3)
        self.store.respond()
        self.assertEqual([request.messageID for request in self.echo.requests], [7])
        self.assertEqual([request.messageID for request in self.store.requests], [8])
        self.assertEqual(self.find.requests, [])
        (exchange,) = self.store.exchanges
        self.assertEqual(exchange.context, AcceptedContext(3, "1.2.3", "1.2.840.10008.1.2.1"))
        self.assertIs(exchange.association, self.association)
        self.assertEqual([response.messageIDBeingRespondedTo for response in self.sent], [7, 8])
        self.assertState()

    def test_commandInPieces(self) -> None:
        whole = encodeCommandSet({0x0100: us(C_ECHO_RQ), 0x0110: us(1), 0x0800: us(0x0101)})
        self.assertState()
        self.give(PDVReceived(1, True, False, memoryview(whole[:20])))
        self.assertState(busy=True)
        self.give(PDVReceived(1, True, True, memoryview(whole[20:])))
        self.assertEqual(len(self.echo.requests), 1)
        self.assertState(answering=True, busy=True)

    def test_refusedContext(self) -> None:
        """Its data is drained, then 0122 says so; no service hears of it."""
        self.command(C_STORE_RQ, 4, True, 5)
        self.data(contextID=5)
        self.assertEqual(self.statuses, [])
        self.assertState(busy=True)
        self.data(isLast=True, contextID=5)
        self.assertEqual(self.sent, [Response(5, 0x8001, 4, 0x0122, CLASS)])
        self.command(C_ECHO_RQ, 5, contextID=5)
        self.assertEqual(self.sent[1:], [Response(5, 0x8030, 5, 0x0122, CLASS)])
        self.assertEqual(self.store.requests + self.echo.requests, [])
        self.assertState()

    def test_whatNoServiceSeesIsCounted(self) -> None:
        """Objects that are refused here are refused objects, and their bytes came; other requests are no objects."""
        for commandField in (C_STORE_RQ, C_FIND_RQ):
            self.command(commandField, 4, True, 5)
            self.data(isLast=True, contextID=5)
        self.command(C_ECHO_RQ, 5, contextID=5)
        self.assertEqual(self.association.objectsRefused, 1)
        self.assertEqual(self.association.bytesReceived, 2 * len(b"data"))

    def test_refusedContextIsNamedInTheLog(self) -> None:
        """The peer's configuration is at fault, and its administrator will want to know of which class."""
        with capturedLogs() as captured:
            self.provider = self.providerFor({5: "1.2.9\n\xe9"})
            self.command(C_ECHO_RQ, contextID=5)
        (event,) = captured
        self.assertEqual(
            formatEvent(event),
            "request refused with 0122 (context not accepted, for '1.2.9\\n\\xe9') for <an association>",
        )

    def test_longNamesAreCutInTheLog(self) -> None:
        """A peer pays for its name once, and for each line that has it with 80 bytes."""
        with capturedLogs() as captured:
            self.provider = self.providerFor({5: "\xff" * 65000})
            self.command(C_ECHO_RQ, contextID=5)
        (event,) = captured
        self.assertLess(len(formatEvent(event)), 400)

    def test_contextNeverProposed(self) -> None:
        with self.assertRaises(RemoteProtocolError) as caught:
            self.command(C_ECHO_RQ, contextID=7)
        self.assertEqual((caught.exception.abortSource, caught.exception.abortReason), (2, 5))

    def test_unknownCommand(self) -> None:
        self.command(N_ACTION_RQ, 9)
        self.assertEqual(self.sent, [Response(1, 0x8130, 9, 0x0211, CLASS)])
        self.assertState()

    def test_unknownCommandWithADataSet(self) -> None:
        self.command(N_ACTION_RQ, 9, True)
        self.data()
        self.assertEqual(self.sent, [])
        self.data(b"", isLast=True)
        self.assertEqual(self.sent, [Response(1, 0x8130, 9, 0x0211, CLASS)])
        self.assertState()

    def test_strayResponses(self) -> None:
        """Nothing of ours asked for them: ignored and counted, and their data sets drained."""
        for commandField in (0x8001, 0x8030, 0x8020):
            answered = {0x0120: us(1), 0x0900: us(0)}
            self.command(commandField, extra=answered)
            self.command(commandField, hasDataSet=True, extra=answered)
            self.data()
            self.assertState(busy=True)
            self.data(isLast=True)
        self.assertEqual(self.sent, [])
        self.assertState()
        self.assertEqual(self.association.quirks, {"response to nothing": 6})
        self.command(C_ECHO_RQ)
        self.echo.respond()
        self.assertEqual(self.statuses, [0])

    def test_cancel(self) -> None:
        self.command(0x0FFF, extra={0x0120: us(1)})
        self.command(0x0FFF, hasDataSet=True, extra={0x0120: us(1)})
        self.data(isLast=True)
        self.assertEqual(self.sent, [])
        self.assertState()

    def test_cancelWhileOneIsOutstanding(self) -> None:
        """It does not wait."""
        self.command(C_FIND_RQ, hasDataSet=True)
        self.data(isLast=True)
        self.command(0x0FFF, extra={0x0120: us(1)})
        self.assertState(answering=True, busy=True)
        self.find.respond()
        self.assertEqual(self.statuses, [0])


class RespondingTests(ProviderTestCase):
    def test_heldUntilTheDataSetHasPassed(self) -> None:
        self.command(C_STORE_RQ, hasDataSet=True)
        self.store.respond(0xA700)
        self.data()
        self.assertEqual(self.statuses, [])
        self.assertState(busy=True)
        self.data(isLast=True)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()

    def test_pending(self) -> None:
        """Pending responses go at once, and the exchange goes on."""
        self.command(C_FIND_RQ, hasDataSet=True)
        self.data(isLast=True)
        self.find.respond(0xFF00)
        self.find.respond(0xFF01)
        self.assertEqual(self.statuses, [0xFF00, 0xFF01])
        self.assertState(answering=True, busy=True)
        self.find.respond(0)
        self.assertEqual(self.statuses, [0xFF00, 0xFF01, 0])
        self.assertState()

    def test_once(self) -> None:
        """What comes behind a final response is dropped."""
        self.command(C_ECHO_RQ)
        self.echo.respond(0)
        self.echo.respond(0x0110)
        self.assertEqual(self.statuses, [0])

    def test_atOnce(self) -> None:
        self.echo.answer = self.echo.respond
        for number in range(3):
            self.command(C_ECHO_RQ, number)
        self.assertEqual([response.messageIDBeingRespondedTo for response in self.sent], [0, 1, 2])

    def test_afterTheEnd(self) -> None:
        self.command(C_ECHO_RQ)
        self.end()
        self.assertState(answering=True, busy=True)
        self.echo.respond(0xFF00)
        self.echo.respond()
        self.assertEqual(self.sent, [])
        self.assertState()


class ReceiverTests(ProviderTestCase):
    def test_none(self) -> None:
        """The data set is drained."""
        self.command(C_STORE_RQ, hasDataSet=True)
        self.data()
        self.data(isLast=True)
        self.assertState(answering=True, busy=True)
        self.store.respond()
        self.assertEqual(self.statuses, [0])

    def test_pieces(self) -> None:
        receiver = self.storing()
        self.data(b"one")
        self.data(b"")
        self.data(b"two")
        self.assertState(busy=True)
        self.data(b"three", isLast=True)
        self.assertEqual(receiver.told, [b"one", b"two", b"three", "completed"])
        self.assertState(answering=True, busy=True)

    def test_emptyLastPiece(self) -> None:
        receiver = self.storing()
        self.data(b"all")
        self.data(b"", isLast=True)
        self.assertEqual(receiver.told, [b"all", "completed"])

    def test_emptyDataSet(self) -> None:
        receiver = self.storing()
        self.data(b"", isLast=True)
        self.assertEqual(receiver.told, ["completed"])

    def test_later(self) -> None:
        """Nothing is delivered until there is a receiver."""
        later: Deferred[Any] = Deferred()
        self.storing(later)
        self.assertState(holding=True, busy=True)
        self.data(b"one")
        self.data(b"two", isLast=True)
        self.assertEqual(self.receiver.told, [])
        later.callback(self.receiver)
        self.assertEqual(self.receiver.told, [b"one", b"two", "completed"])
        self.assertState(answering=True, busy=True)

    def test_laterButFired(self) -> None:
        self.storing(succeed(self.receiver))
        self.assertState(busy=True)
        self.data(isLast=True)
        self.assertEqual(self.receiver.told, [b"data", "completed"])

    def test_laterNone(self) -> None:
        later: Deferred[Any] = Deferred()
        self.storing(later)
        self.store.respond(0xA700)
        self.data(isLast=True)
        later.callback(None)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()

    def test_laterFails(self) -> None:
        later: Deferred[Any] = Deferred()
        self.storing(later)
        self.data()
        later.errback(ValueError("no"))
        self.assertEqual(self.statuses, [])
        self.data(isLast=True)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_failedAlready(self) -> None:
        self.storing(fail(ValueError("no")))
        self.data(isLast=True)
        self.assertEqual(self.statuses, [0xA700])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def raising(self) -> None:
        raise ValueError("no")

    def test_raises(self) -> None:
        self.store.answer = self.raising
        self.command(C_STORE_RQ, hasDataSet=True)
        self.data()
        self.assertEqual(self.statuses, [])
        self.data(isLast=True)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_raisesWithoutADataSet(self) -> None:
        self.echo.answer = self.raising
        self.command(C_ECHO_RQ)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_deferredWithoutADataSet(self) -> None:
        """There is nothing to set up: its result has no meaning, its failure is answered."""
        for result, statuses in ((None, []), (self.receiver, []), (ValueError("no"), [0xA700])):
            self.make()
            later: Deferred[Any] = Deferred()
            self.echo.answer = lambda later=later: later  # type: ignore[misc]  # bound now
            self.command(C_ECHO_RQ)
            self.assertState(answering=True, busy=True)
            if isinstance(result, Exception):
                later.errback(result)
            else:
                later.callback(result)
            self.assertEqual(self.statuses, statuses)
            self.echo.respond()
            self.assertEqual(self.statuses, statuses or [0])
            self.assertState()
            self.assertEqual(self.receiver.told, [])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class WriteTests(ProviderTestCase):
    """A receiver that asks to wait."""

    def test_waits(self) -> None:
        receiver = self.storing()
        waiting: Deferred[None] = Deferred()
        receiver.answer = lambda: waiting
        self.data(b"one")
        self.assertState(holding=True, busy=True)
        receiver.answer = lambda: None
        self.data(b"two", isLast=True)
        self.assertEqual(receiver.told, [b"one"])
        waiting.callback(None)
        self.assertEqual(receiver.told, [b"one", b"two", "completed"])
        self.assertState(answering=True, busy=True)

    def test_waitsWithTheLastPiece(self) -> None:
        """The request is wholly received; it is completed when the piece is written."""
        receiver = self.storing()
        waiting: Deferred[None] = Deferred()
        receiver.answer = lambda: waiting
        self.data(isLast=True)
        self.command(C_ECHO_RQ, 2)
        self.assertState(holding=True, answering=True, busy=True)
        self.assertEqual(receiver.told, [b"data"])
        waiting.callback(None)
        self.assertEqual(receiver.told, [b"data", "completed"])
        self.assertState(holding=True, answering=True, busy=True)
        self.store.respond()
        self.assertState(answering=True, busy=True)
        self.echo.respond()
        self.assertEqual(self.statuses, [0, 0])
        self.assertState()

    def test_firedAlready(self) -> None:
        receiver = self.storing()
        receiver.answer = lambda: succeed(None)
        self.data(b"one")
        self.assertState(busy=True)
        self.data(b"two", isLast=True)
        self.assertEqual(receiver.told, [b"one", b"two", "completed"])

    def test_fails(self) -> None:
        """It is given nothing more, the rest is drained, then A700 says so."""
        receiver = self.storing()
        waiting: Deferred[None] = Deferred()
        receiver.answer = lambda: waiting
        self.data(b"one")
        waiting.errback(ValueError("no"))
        self.assertState(busy=True)
        self.data(b"two")
        self.assertEqual(self.statuses, [])
        self.data(b"three", isLast=True)
        self.assertEqual(receiver.told, [b"one"])
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_failsWithTheLastPiece(self) -> None:
        receiver = self.storing()
        waiting: Deferred[None] = Deferred()
        receiver.answer = lambda: waiting
        self.data(isLast=True)
        waiting.errback(ValueError("no"))
        self.assertEqual(receiver.told, [b"data"])
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def raising(self) -> None:
        raise ValueError("no")

    def test_raises(self) -> None:
        """As if it had failed later: one object is refused, the association lives."""
        for isLast in (False, True):
            self.make()
            receiver = self.storing()
            receiver.answer = self.raising
            self.data(isLast=isLast)
            self.assertEqual(self.statuses, [0xA700] if isLast else [])
            if not isLast:
                self.data(isLast=True)
            self.assertEqual(receiver.told, [b"data"])
            self.assertEqual(self.statuses, [0xA700])
            self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_completionRaises(self) -> None:
        receiver = self.storing()
        receiver.onCompleted = self.raising
        self.data(isLast=True)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_answeringFails(self) -> None:
        """A request whose answer is still to come, and never does, is answered all the same, at once or later."""
        for late in (False, True):
            self.make()
            answering: Deferred[object] = Deferred()
            self.storing().onCompleted = partial(_same, answering)
            if not late:
                answering.errback(ValueError("no"))
            self.data(isLast=True)
            if late:
                self.assertState(answering=True, busy=True)
                answering.errback(ValueError("no"))
            self.assertEqual(self.statuses, [0xA700])
            self.assertState()
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_failsBehindTheAnswer(self) -> None:
        """Then it is too late to say anything else."""
        answering: Deferred[object] = Deferred()
        self.storing().onCompleted = lambda: answering
        self.data(isLast=True)
        self.store.respond(0)
        answering.errback(ValueError("no"))
        self.assertEqual((self.statuses, self.association.objectsRefused), ([0], 0))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_answeringIsNoDeferred(self) -> None:
        """What a receiver returns by mistake is a failure of its request, and of nothing else."""
        answers: list[Any] = [True, object()]
        for answer in answers:
            for isAnswered in (False, True):
                self.make()
                self.storing().onCompleted = partial(self._answering, isAnswered, answer)
                self.data(isLast=True)
                self.assertEqual(self.statuses, [0 if isAnswered else 0xA700])
                self.assertState()
                self.make()
                self.storing().onLost = partial(self._answering, isAnswered, answer)
                self.data()
                self.end()
                self.assertState()
                self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 2)

    def _answering(self, isAnswered: bool, answer: Any) -> Any:
        if isAnswered:
            self.store.respond(0)
        return answer

    def test_clearingUpFails(self) -> None:
        """After the end of the association nothing waits for what will not come."""
        clearing: Deferred[object] = Deferred()
        self.storing().onLost = lambda: clearing
        self.data()
        self.end()
        self.assertState(answering=True, busy=True)
        clearing.errback(ValueError("no"))
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def failing(self, count: int) -> None:
        """Have so many responses fail to be sent."""
        left = [ValueError("no")] * count

        def send(response: Response) -> None:
            if left:
                raise left.pop()
            self.sent.append(response)

        accepted = {1: AcceptedContext(1, "1.2.3", "1.2.840.10008.1.2.1")}
        negotiated = Negotiated(ACCEPT, accepted, {1: "1.2.3"}, 0, 1)
        self.provider = DIMSEProvider({C_STORE_RQ: self.store}, negotiated, self.association, send, self.woken)

    def test_responseCannotBeSent(self) -> None:
        """Another one follows it, whenever it was given."""
        for when in ("early", "on completion", "late"):
            self.make()
            self.failing(1)
            receiver = self.storing()
            if when == "early":
                self.store.respond(0)
            elif when == "on completion":
                receiver.onCompleted = self.store.respond
            self.data(isLast=True)
            if when == "late":
                self.store.respond(0)
            self.assertEqual(self.statuses, [0xA700], when)
            self.assertState()
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_noResponseCanBeSent(self) -> None:
        """Whoever gave it is told; nothing waits for one that will not come."""
        self.failing(2)
        self.storing()
        self.data(isLast=True)
        with self.assertRaises(ValueError):
            self.store.respond(0)
        self.assertEqual(self.statuses, [])
        self.assertState()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_answeredEarly(self) -> None:
        """A response given while the last piece is written leaves at once; the next piece still waits."""
        receiver = self.storing()
        waiting: Deferred[None] = Deferred()
        receiver.answer = lambda: waiting
        self.store.respond(0xA700)
        self.data(isLast=True)
        self.assertEqual(self.statuses, [0xA700])
        self.assertState(holding=True, busy=True)
        waiting.callback(None)
        self.assertEqual(receiver.told, [b"data", "completed"])
        self.assertState()


class WindowTests(ProviderTestCase):
    def test_one(self) -> None:
        """The next request waits for the response, and what comes behind it is not even read."""
        self.command(C_ECHO_RQ, 1)
        self.assertState(answering=True, busy=True)
        self.command(C_ECHO_RQ, 2)
        self.assertState(holding=True, answering=True, busy=True)
        self.command(C_ECHO_RQ, 3)
        self.assertEqual(len(self.echo.requests), 1)
        for number in range(1, 4):
            self.assertEqual([request.messageID for request in self.echo.requests], [*range(1, number + 1)])
            self.echo.respond()
        self.assertEqual([response.messageIDBeingRespondedTo for response in self.sent], [1, 2, 3])
        self.assertState()

    def test_waitingOneHasADataSet(self) -> None:
        self.command(C_ECHO_RQ, 1)
        self.storing()
        self.data(isLast=True)
        self.assertEqual(self.receiver.told, [])
        self.echo.respond()
        self.assertEqual(self.receiver.told, [b"data", "completed"])
        self.assertState(answering=True, busy=True)

    def test_waitingOneIsSetUpLater(self) -> None:
        later: Deferred[Any] = Deferred()
        self.command(C_ECHO_RQ, 1)
        self.storing(later)
        self.data(isLast=True)
        self.echo.respond()
        self.assertState(holding=True, busy=True)
        later.callback(self.receiver)
        self.assertEqual(self.receiver.told, [b"data", "completed"])

    def test_two(self) -> None:
        """Responses may overtake each other."""
        self.make(window=2)
        self.storing()
        self.data(isLast=True)
        self.command(C_ECHO_RQ, 2)
        self.assertState(answering=True, busy=True)
        self.command(C_ECHO_RQ, 3)
        self.assertState(holding=True, answering=True, busy=True)
        self.echo.respond()
        self.assertState(answering=True, busy=True)
        self.store.respond()
        self.echo.respond()
        self.assertEqual([response.messageIDBeingRespondedTo for response in self.sent], [2, 1, 3])
        self.assertState()

    def test_twoWithoutADataSetThatSettleLater(self) -> None:
        """What one request waits for does not let in the data of another."""
        self.make(window=2)
        settled: Deferred[Any] = Deferred()
        later: Deferred[Any] = Deferred()
        self.echo.answer = lambda: settled
        self.command(C_ECHO_RQ, 1)
        self.storing(later, 2)
        self.data(isLast=True)
        settled.callback(None)
        self.assertState(holding=True, answering=True, busy=True)
        later.callback(self.receiver)
        self.assertEqual(self.receiver.told, [b"data", "completed"])

    def test_holdsUp(self) -> None:
        """The peer's silence is its own fault inside a message that it can go on with, whatever else is unanswered."""
        self.make(window=2)
        provider = self.provider
        whole = encodeCommandSet({0x0100: us(C_ECHO_RQ), 0x0110: us(3), 0x0800: us(0x0101)})
        self.assertFalse(provider.holdsUp)
        self.storing()
        self.assertFalse(provider.holdsUp)
        self.data(isLast=True)
        self.assertTrue(provider.holdsUp)
        self.command(C_STORE_RQ, 2, True)
        self.assertState(answering=True, busy=True)
        self.assertFalse(provider.holdsUp)
        waiting: Deferred[None] = Deferred()
        self.receiver.answer = lambda: waiting
        self.data()
        self.assertTrue(provider.holdsUp)
        self.receiver.answer = lambda: None
        waiting.callback(None)
        self.assertFalse(provider.holdsUp)
        self.data(isLast=True)
        self.assertTrue(provider.holdsUp)
        self.give(PDVReceived(1, True, False, memoryview(whole[:20])))
        self.assertFalse(provider.holdsUp)
        self.give(PDVReceived(1, True, True, memoryview(whole[20:])))
        self.assertState(holding=True, answering=True, busy=True)
        self.assertTrue(provider.holdsUp)
        self.store.respond(which=0)
        self.assertTrue(provider.holdsUp)
        self.store.respond()
        self.echo.respond()
        self.assertFalse(provider.holdsUp)

    def test_manyAnsweredAtOnceDoNotRecurse(self) -> None:
        self.command(C_ECHO_RQ, 0)
        for number in range(1, 3000):
            self.command(C_ECHO_RQ, number)
        self.echo.answer = self.echo.respond
        self.echo.respond()
        self.assertEqual(len(self.sent), 3000)


class OutstandingTests(ProviderTestCase):
    """Several C-STOREs of one association between their data and their response."""

    def setUp(self) -> None:
        self.make(window=5)

    def begin(self, messageID: int, instance: bytes = b"", contextID: int = 1) -> FakeReceiver:
        """Send the command of a C-STORE; its data set goes to a receiver of its own, where it is started."""
        receiver = FakeReceiver()
        self.store.answer = lambda: receiver
        extra = {0x1000: instance} if instance else {}
        self.command(C_STORE_RQ, messageID, True, contextID, extra)
        return receiver

    def outstanding(self, messageID: int, instance: bytes = b"", contextID: int = 1) -> FakeReceiver:
        """Send a whole C-STORE."""
        receiver = self.begin(messageID, instance, contextID)
        self.data(b"%d" % messageID, isLast=True, contextID=contextID)
        return receiver

    @property
    def started(self) -> list[int]:
        """The message IDs of the C-STOREs that were started, in order."""
        return [request.messageID for request in self.store.requests]

    def test_completedInAnotherOrder(self) -> None:
        receivers = [self.outstanding(number, b"1.2.3%d" % number) for number in range(5)]
        self.assertState(answering=True, busy=True)
        for number, receiver in enumerate(receivers):
            self.assertEqual(receiver.told, [b"%d" % number, "completed"])
        for number in (3, 0, 4, 1, 2):
            self.store.respond(number, number)
        self.assertEqual(
            self.sent, [Response(1, 0x8001, number, number, CLASS, b"1.2.3%d" % number) for number in (3, 0, 4, 1, 2)]
        )
        self.assertState()

    def test_anotherIsAnsweredInsideADataSet(self) -> None:
        """Between two pieces, and within the call with one."""
        self.outstanding(1)
        self.outstanding(2)
        receiver = self.begin(3)
        self.data(b"one")
        self.store.respond(which=0)
        self.assertState(answering=True, busy=True)

        def respond() -> None:
            self.store.respond(which=1)

        receiver.answer = respond
        self.data(b"two")
        receiver.answer = lambda: None
        self.assertState(busy=True)
        self.data(b"three", isLast=True)
        self.assertEqual(receiver.told, [b"one", b"two", b"three", "completed"])
        self.store.respond()
        self.assertEqual(self.answered, [1, 2, 3])
        self.assertState()

    def test_anotherIsAnsweredWhileAWriteIsAwaited(self) -> None:
        self.outstanding(1)
        receiver = self.begin(2)
        waiting: Deferred[None] = Deferred()
        receiver.answer = lambda: waiting
        self.data(b"one")
        receiver.answer = lambda: None
        self.data(b"two", isLast=True)
        self.store.respond(which=0)
        self.assertEqual(receiver.told, [b"one"])
        self.assertState(holding=True, busy=True)
        waiting.callback(None)
        self.assertEqual(receiver.told, [b"one", b"two", "completed"])

    def test_anotherIsAnsweredWhileOneIsSetUp(self) -> None:
        self.outstanding(1)
        later: Deferred[Any] = Deferred()
        self.store.answer = lambda: later
        self.command(C_STORE_RQ, 2, True)
        self.data(isLast=True)
        self.store.respond(which=0)
        self.assertState(holding=True, busy=True)
        later.callback(self.receiver)
        self.assertEqual(self.receiver.told, [b"data", "completed"])

    def test_refusedBeforeItsData(self) -> None:
        """It is answered when its data has passed, ahead of earlier ones that take their time."""
        self.outstanding(1)
        self.begin(2)
        self.store.respond(0xA700)
        self.data(b"one")
        self.assertEqual(self.answered, [])
        self.data(b"two", isLast=True)
        self.assertEqual(self.answered, [2])
        self.assertState(answering=True, busy=True)

    def test_beyondTheWindow(self) -> None:
        """One more is read and kept, its data set is not; it starts with the first response, whichever that is."""
        for number in range(5):
            self.outstanding(number)
        sixth = self.outstanding(5)
        self.assertState(holding=True, answering=True, busy=True)
        self.assertEqual(sixth.told, [])
        self.store.respond(which=3)
        self.assertEqual(sixth.told, [b"5", "completed"])
        self.assertEqual(self.answered, [3])
        self.assertState(answering=True, busy=True)

    def test_anotherIsAnsweredInsideALateStart(self) -> None:
        """What a start answers does not let in the data set of the request that it starts."""
        for number in range(5):
            self.outstanding(number)
        sixth = self.outstanding(5)

        def answer() -> FakeReceiver:
            self.store.respond(which=1)
            self.assertTrue(self.provider.holding)
            self.assertEqual(sixth.told, [])
            return sixth

        self.store.answer = answer
        self.store.respond(which=0)
        self.assertEqual(sixth.told, [b"5", "completed"])
        self.assertEqual(self.answered, [0, 1])
        self.assertState(answering=True, busy=True)

    def test_endedInsideALateStart(self) -> None:
        for number in range(5):
            self.outstanding(number)
        sixth = self.outstanding(5)

        def answer() -> FakeReceiver:
            self.end()
            self.store.respond(which=1)
            return sixth

        self.store.answer = answer
        self.store.respond(which=0)
        self.assertEqual(sixth.told, ["lost"])
        self.assertEqual(self.answered, [0])
        for number in range(2, 6):
            self.assertTrue(self.provider.busy)
            self.store.respond(which=number)
        self.assertFalse(self.provider.busy)
        self.assertEqual(self.answered, [0])

    def test_cancelsAndStrayResponsesNeverWait(self) -> None:
        for number in range(5):
            self.outstanding(number)
        self.command(0x0FFF, extra={0x0120: us(2)})
        for hasDataSet in (False, True):
            self.command(0x8001, hasDataSet=hasDataSet, extra={0x0120: us(2), 0x0900: us(0)})
        self.data()
        self.data(isLast=True)
        self.assertState(answering=True, busy=True)
        self.assertEqual(self.started, [0, 1, 2, 3, 4])

    # A message ID again

    def test_messageIDAgain(self) -> None:
        """Refused when its data set has passed, and the one that is outstanding is answered all the same."""
        self.outstanding(7, b"1.2.30")
        with capturedLogs() as captured:
            second = self.begin(7, b"1.2.40")
        self.data()
        self.assertEqual(self.sent, [])
        self.data(isLast=True)
        self.assertEqual(self.sent, [Response(1, 0x8001, 7, 0x0210, CLASS, b"1.2.40")])
        self.assertEqual(second.told, [])
        self.assertEqual(self.started, [7])
        self.assertState(answering=True, busy=True)
        self.store.respond()
        self.assertEqual(self.sent[1:], [Response(1, 0x8001, 7, 0, CLASS, b"1.2.30")])
        self.assertState()
        (event,) = captured
        self.assertEqual(
            formatEvent(event), "request refused with 0210 (message ID 7 is outstanding) for <an association>"
        )

    def test_messageIDAgainOnAnotherContextOrForAnotherCommand(self) -> None:
        """Message IDs belong to the association."""
        self.outstanding(7, contextID=1)
        self.outstanding(7, contextID=3)
        self.command(C_ECHO_RQ, 7)
        self.assertEqual(self.sent, [Response(3, 0x8001, 7, 0x0210, CLASS), Response(1, 0x8030, 7, 0x0210, CLASS)])
        self.assertEqual((self.started, self.echo.requests), ([7], []))

    def test_messageIDAgainForTheSameInstance(self) -> None:
        """Refused, so it needs not wait for the other."""
        self.outstanding(7, b"1.2.3")
        self.outstanding(7, b"1.2.3")
        self.assertEqual(self.statuses, [0x0210])
        self.assertState(answering=True, busy=True)

    def test_messageIDAgainAfterItsResponse(self) -> None:
        self.outstanding(7)
        self.outstanding(8)
        self.store.respond(which=0)
        self.outstanding(7)
        self.assertEqual(self.started, [7, 8, 7])
        self.store.respond()
        self.assertEqual((self.answered, self.statuses), ([7, 7], [0, 0]))

    def test_messageIDAgainBeyondTheWindow(self) -> None:
        """Judged when there is room."""
        for number in range(5):
            self.outstanding(number)
        self.outstanding(4)
        self.store.respond(which=0)
        self.assertEqual((self.answered, self.statuses), ([0, 4], [0, 0x0210]))
        for number in (0, 5):
            self.outstanding(number)
        self.store.respond(which=4)
        self.assertEqual(self.started, [0, 1, 2, 3, 4, 0, 5])

    def test_messageIDAgainWithoutAWindow(self) -> None:
        """Peers that pipeline without a window may use what IDs they like: one follows the other."""
        self.make(window=1)
        for instance in (b"1.2.3", b"1.2.4", b"1.2.3"):
            self.outstanding(7, instance)
        for number in range(3):
            self.assertEqual(len(self.store.requests), number + 1)
            self.store.respond()
        self.assertEqual((self.answered, self.statuses), ([7, 7, 7], [0, 0, 0]))
        self.assertState()

    # An instance again

    def test_instanceAgain(self) -> None:
        """The later one is started behind the earlier one's response, however the UID is padded."""
        for earlier, later in ((b"1.2.3", b"1.2.3"), (b"1.2.3", b"1.2.3\0"), (b"1.2.3 ", b"1.2.3\0\0")):
            self.make(window=5)
            self.outstanding(1, earlier)
            self.outstanding(2, b"1.2")
            third = self.outstanding(3, later)
            self.assertState(holding=True, answering=True, busy=True)
            self.store.respond(which=1)
            self.assertState(holding=True, answering=True, busy=True)
            self.assertEqual((self.started, third.told), ([1, 2], []))
            self.store.respond(which=0)
            self.assertEqual((self.started, third.told), ([1, 2, 3], [b"3", "completed"]))
            self.assertState(answering=True, busy=True)
            self.store.respond()
            self.assertEqual(self.answered, [2, 1, 3])

    def test_noInstance(self) -> None:
        """Nothing that two requests without one could have in common."""
        self.outstanding(1)
        self.outstanding(2, b"\0\0")
        self.outstanding(3, b"\0\0")
        self.assertEqual(self.started, [1, 2, 3])

    def test_instanceAgainBeyondTheWindow(self) -> None:
        """Room alone does not let it in."""
        for number in range(5):
            self.outstanding(number, b"1.2.%d" % number)
        self.outstanding(5, b"1.2.4")
        self.store.respond(which=0)
        self.assertEqual(self.started, [0, 1, 2, 3, 4])
        self.assertState(holding=True, answering=True, busy=True)
        self.store.respond(which=4)
        self.assertEqual(self.started, [0, 1, 2, 3, 4, 5])

    # The end

    def test_endedWithFiveOutstanding(self) -> None:
        """Four run to their end, the one whose data is passing is lost, and the last of them wakes to an idle end."""
        receivers = [self.outstanding(number) for number in range(4)]
        receivers.append(self.begin(4))
        self.data()
        self.end()
        self.assertEqual([receiver.told[-1] for receiver in receivers], ["completed"] * 4 + ["lost"])
        for number in (2, 4, 0, 3, 1):
            self.assertTrue(self.provider.busy)
            self.wakes = 0
            self.store.respond(which=number)
            self.assertEqual(self.wakes, 1)
        self.assertEqual(self.sent, [])
        self.assertFalse(self.provider.busy)

    def test_endedWithOneThatWaits(self) -> None:
        """It was never started, and never is."""
        for instance in (b"1.2.3", b"1.2.4"):
            self.make(window=5)
            self.outstanding(1, b"1.2.3")
            self.outstanding(2, b"1.2.4")
            self.begin(3, instance)
            self.end()
            self.store.respond(which=0)
            self.assertTrue(self.provider.busy)
            self.store.respond(which=1)
            self.assertEqual(self.started, [1, 2])
            self.assertFalse(self.provider.busy)


class LossTests(ProviderTestCase):
    """The association ends; in the end nothing is outstanding, and the association was woken to see that."""

    def assertOver(self) -> None:
        self.assertEqual(self.sent, [])
        self.assertFalse(self.provider.busy)
        self.assertFalse(self.provider.answering)

    def ended(self) -> None:
        """End as the association does, and forget the wakes so far."""
        self.wakes = 0
        self.end()

    def test_betweenMessages(self) -> None:
        self.ended()
        self.assertOver()

    def test_insideACommand(self) -> None:
        self.give(PDVReceived(1, True, False, memoryview(b"part")))
        self.ended()
        self.assertOver()

    def test_insideADataSetNobodyAskedFor(self) -> None:
        self.command(0x8001, hasDataSet=True, extra={0x0120: us(1), 0x0900: us(0)})
        self.data()
        self.ended()
        self.assertOver()

    def test_requestBeyondTheWindow(self) -> None:
        self.command(C_ECHO_RQ, 1)
        self.command(C_ECHO_RQ, 2)
        self.ended()
        self.echo.respond()
        self.assertEqual(len(self.echo.requests), 1)
        self.assertOver()
        self.assertEqual(self.wakes, 1)

    def test_drained(self) -> None:
        for answered in (False, True):
            self.make()
            self.command(C_STORE_RQ, hasDataSet=True)
            if answered:
                self.store.respond(0xA700)
            self.data()
            self.ended()
            self.assertOver()
            self.assertEqual(self.wakes, 1)

    def test_drainedAndUnanswered(self) -> None:
        """Wholly received, so served to its end, though nobody took its data."""
        self.command(C_STORE_RQ, hasDataSet=True)
        self.data(isLast=True)
        self.ended()
        self.assertTrue(self.provider.busy)
        self.store.respond()
        self.assertOver()
        self.assertEqual(self.wakes, 1)

    def test_unansweredRequest(self) -> None:
        """A request wholly received is served to its end."""
        self.storing()
        self.data(isLast=True)
        self.ended()
        self.assertEqual(self.receiver.told, [b"data", "completed"])
        self.assertTrue(self.provider.busy)
        self.assertEqual(self.wakes, 0)
        self.store.respond()
        self.assertEqual(self.wakes, 1)
        self.assertOver()

    def test_settingUp(self) -> None:
        cancelled: list[bool] = []
        self.storing(Deferred(lambda _: cancelled.append(True)))
        self.data()
        self.ended()
        self.assertEqual(cancelled, [True])
        self.assertOver()
        self.assertEqual(self.wakes, 1)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_setUpAllTheSame(self) -> None:
        """Told when it is there, and waited for until it has cleared up."""
        self.storing(Deferred(lambda deferred: deferred.callback(self.receiver)))
        self.ended()
        self.assertEqual(self.receiver.told, ["lost"])
        self.assertTrue(self.provider.busy)
        self.store.respond(0xA700)
        self.assertOver()
        self.assertEqual(self.wakes, 1)

    def test_settingUpFailsOtherwise(self) -> None:
        """Whatever the cancellation made it fail with is of no interest."""
        self.storing(Deferred(lambda deferred: deferred.errback(ValueError("no"))))
        self.ended()
        self.assertOver()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_insideADataSet(self) -> None:
        self.storing()
        self.data()
        self.ended()
        self.assertEqual(self.receiver.told, [b"data", "lost"])
        self.assertTrue(self.provider.busy)
        self.store.respond(0xA700)
        self.assertOver()
        self.assertEqual(self.wakes, 1)

    def test_beforeADataSet(self) -> None:
        self.receiver.onLost = self.store.respond
        self.storing()
        self.ended()
        self.assertEqual(self.receiver.told, ["lost"])
        self.assertOver()
        self.assertEqual(self.wakes, 1)

    def test_lossRaises(self) -> None:
        def onLost() -> None:
            raise ValueError("no")

        self.receiver.onLost = onLost
        self.storing()
        self.data()
        self.ended()
        self.assertOver()
        self.assertEqual(self.wakes, 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_answeredEarly(self) -> None:
        """One that answered before the data was over does not do so again."""
        self.storing()
        self.store.respond(0xA700)
        self.data()
        self.ended()
        self.assertEqual(self.receiver.told, [b"data", "lost"])
        self.assertOver()
        self.assertEqual(self.wakes, 1)

    def test_writing(self) -> None:
        """A write is cancelled before its receiver is told; it may fail all the same."""
        for fails in (False, True):
            self.make()
            waiting: Deferred[None] = Deferred((lambda it: it.errback(ValueError("no"))) if fails else None)
            receiver = self.storing()
            receiver.answer = lambda waiting=waiting: waiting  # type: ignore[misc]  # bound now
            receiver.onLost = self.store.respond
            self.data()
            self.ended()
            self.assertEqual(receiver.told, [b"data"] if fails else [b"data", "lost"])
            self.assertOver()
            self.assertGreater(self.wakes, 0)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_writingTheLastPiece(self) -> None:
        """It had come: completed."""
        waiting: Deferred[None] = Deferred()
        receiver = self.storing()
        receiver.answer = lambda: waiting
        self.data(isLast=True)
        self.ended()
        waiting.callback(None)
        self.assertEqual(receiver.told, [b"data", "completed"])
        self.assertTrue(self.provider.busy)
        self.store.respond()
        self.assertOver()

    def test_writingTheLastPieceAnsweredEarly(self) -> None:
        waiting: Deferred[None] = Deferred()
        receiver = self.storing()
        receiver.answer = lambda: waiting
        self.store.respond(0xA700)
        self.data(isLast=True)
        self.ended()
        self.assertTrue(self.provider.busy)
        waiting.callback(None)
        self.assertEqual(receiver.told, [b"data", "completed"])
        self.assertFalse(self.provider.busy)
        self.assertEqual(self.statuses, [0xA700])


class EndedInsideACallTests(ProviderTestCase):
    """A service, or what it calls, aborts the association: what follows from that comes behind its call."""

    def assertOver(self) -> None:
        self.assertEqual(self.sent, [])
        self.assertFalse(self.provider.busy)

    def test_requestWithoutADataSet(self) -> None:
        def answer() -> None:
            self.end()
            self.echo.respond()

        self.echo.answer = answer
        self.command(C_ECHO_RQ)
        self.assertOver()

    def test_deferredWithoutADataSet(self) -> None:
        later: Deferred[None] = Deferred(lambda _: self.fail("cancelled"))

        def answer() -> Deferred[None]:
            self.end()
            return later.addCallback(lambda ignored: self.echo.respond())

        self.echo.answer = answer
        self.command(C_ECHO_RQ)
        self.assertTrue(self.provider.busy)
        later.callback(None)
        self.assertOver()

    def endAndReturn(self, value: Any) -> None:
        def answer() -> Any:
            self.end()
            if isinstance(value, Exception):
                raise value
            return value

        self.store.answer = answer
        self.command(C_STORE_RQ, hasDataSet=True)

    def test_noReceiver(self) -> None:
        self.endAndReturn(None)
        self.assertOver()

    def test_raises(self) -> None:
        self.endAndReturn(ValueError("no"))
        self.assertOver()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_receiver(self) -> None:
        """It is there, so it is told."""
        self.endAndReturn(self.receiver)
        self.assertEqual(self.receiver.told, ["lost"])
        self.assertTrue(self.provider.busy)
        self.store.respond()
        self.assertOver()

    def test_laterReceiver(self) -> None:
        cancelled: list[bool] = []
        self.endAndReturn(Deferred(lambda _: cancelled.append(True)))
        self.assertEqual(cancelled, [True])
        self.assertOver()

    def test_firedReceiver(self) -> None:
        self.receiver.onLost = self.store.respond
        self.endAndReturn(succeed(self.receiver))
        self.assertEqual(self.receiver.told, ["lost"])
        self.assertOver()

    def endInsideAPiece(self, isLast: bool, waiting: Deferred[None] | None = None) -> FakeReceiver:
        def answer() -> Deferred[None] | None:
            self.end()
            self.assertEqual(receiver.told, [b"data"])
            return waiting

        receiver = self.storing()
        receiver.answer = answer
        receiver.onLost = receiver.onCompleted = self.store.respond
        self.data(isLast=isLast)
        return receiver

    def test_piece(self) -> None:
        self.assertEqual(self.endInsideAPiece(False).told, [b"data", "lost"])
        self.assertOver()

    def test_lastPiece(self) -> None:
        self.assertEqual(self.endInsideAPiece(True).told, [b"data", "completed"])
        self.assertOver()

    def test_pieceThatWaits(self) -> None:
        for isLast, end in ((False, "lost"), (True, "completed")):
            self.make()
            waiting: Deferred[None] = Deferred()
            receiver = self.endInsideAPiece(isLast, waiting)
            self.assertEqual(receiver.told, [b"data"])
            self.assertTrue(self.provider.busy)
            waiting.callback(None)
            self.assertEqual(receiver.told, [b"data", end])
            self.assertOver()
