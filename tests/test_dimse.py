"""
Messages and services: what goes where, what waits for what, and that nothing stays behind when the association ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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


class _Association(StoreAssociation):
    def __repr__(self) -> str:
        return "<an association>"


@implementer(IDataSetReceiver)
class FakeReceiver:
    """Keeps what it is given; answers, and what it does on completion, are the test's."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []
        self.answer: Callable[[], Deferred[None] | None] = lambda: None
        self.onCompleted: Callable[[], object] = lambda: None
        self.onLost: Callable[[], object] = lambda: None

    def dataReceived(self, view: memoryview) -> Deferred[None] | None:
        self.told.append(bytes(view))
        return self.answer()

    def dataCompleted(self) -> None:
        self.told.append("completed")
        self.onCompleted()

    def dataLost(self) -> None:
        self.told.append("lost")
        self.onLost()


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
            Negotiated(ACCEPT, accepted, proposed, 0),
            self.association,
            self.sent.append,
            self.woken,
            window,
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

    def storing(self, receiver: Any = None) -> FakeReceiver:
        """Begin a C-STORE that goes to the test's receiver."""
        self.store.answer = lambda: self.receiver if receiver is None else receiver
        self.command(C_STORE_RQ, hasDataSet=True)
        return self.receiver

    # What came of it

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.sent]

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
        """Nothing of ours asked for them: ignored, and their data sets drained."""
        for commandField in (0x8001, 0x8030, 0x8020):
            answered = {0x0120: us(1), 0x0900: us(0)}
            self.command(commandField, extra=answered)
            self.command(commandField, hasDataSet=True, extra=answered)
            self.data()
            self.assertState(busy=True)
            self.data(isLast=True)
        self.assertEqual(self.sent, [])
        self.assertState()
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
        self.storing(later)
        self.data(isLast=True)
        settled.callback(None)
        self.assertState(holding=True, answering=True, busy=True)
        later.callback(self.receiver)
        self.assertEqual(self.receiver.told, [b"data", "completed"])

    def test_manyAnsweredAtOnceDoNotRecurse(self) -> None:
        self.command(C_ECHO_RQ, 0)
        for number in range(1, 3000):
            self.command(C_ECHO_RQ, number)
        self.echo.answer = self.echo.respond
        self.echo.respond()
        self.assertEqual(len(self.sent), 3000)


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
