"""
Routes the messages of one association to services, and keeps the set of operations not yet answered (PS3.7).

Down come PDVs, up go responses. What holds up reading (C{holding}) and what is outstanding are kept apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from dcxtwisted.escaping import escaped
from dcxtwisted.interfaces import (
    IAssociation,
    IDataSetReceiver,
    IDIMSEProvider,
    IDIMSEService,
    IExchange,
)
from dcxtwisted.statuses import (
    DUPLICATE_INVOCATION,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNIZED_OPERATION,
)
from dcxtwisted.wire.assembly import MessageAssembler
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.messages import C_STORE_RQ, ReceivedResponse, Request, Response
from dcxtwisted.wire.negotiation import AcceptedContext, Negotiated

_log = Logger(__name__)

_PENDING_STATUSES = frozenset({0xFF00, 0xFF01})

_PADDING = b"\0 "  # of a UID


class Exchange:
    """One request from its command to its final response."""

    __slots__ = ("_provider", "_response", "association", "context", "dataPassed", "receiver", "request")

    def __init__(
        self, provider: DIMSEProvider, request: Request, context: AcceptedContext, association: IAssociation
    ) -> None:
        self.request = request
        self.context = context
        self.association = association
        self.receiver: IDataSetReceiver | None = None
        self.dataPassed = not request.hasDataSet
        self._provider = provider
        self._response: Response | None = None

    def respond(self, response: Response) -> None:
        """See L{IExchange.respond}."""
        if response.status in _PENDING_STATUSES:
            self._provider.transmit(response)
        elif self.dataPassed:
            self._provider.finished(self, response)
        else:
            # Peers read no response before they have sent the data set.
            self._response = response

    def takeReceiver(self) -> IDataSetReceiver | None:
        """
        Return the receiver, which gets nothing more after the call that follows.

        They know each other: parted they are freed at once, else 4 KiB an object wait for the garbage collector.
        """
        receiver, self.receiver = self.receiver, None
        return receiver

    def dataSetPassed(self) -> None:
        """The data set is over: send the final response where there is one already."""
        self.dataPassed = True
        if self._response is not None:
            self._provider.finished(self, self._response)


classImplements(Exchange, IExchange)


class DIMSEProvider:
    """
    The DIMSE side of one association.

    As many requests are outstanding at once as were negotiated, each from its command to its final response, while the
    data set of one at most is passing (PS3.7 D.3.3.3). A request that may not start yet is kept, and reading waits.

    :ivar holding: reading is to wait: a PDV must not be given now.
    """

    def __init__(
        self,
        services: Mapping[int, IDIMSEService],
        negotiated: Negotiated,
        association: IAssociation,
        send: Callable[[Response], None],
        wake: Callable[[], None],
    ) -> None:
        self.holding = False
        self._services = services
        self._contexts = negotiated.contexts
        self._proposed = negotiated.proposed
        self._association = association
        self._send = send
        self._wake = wake
        self._window = negotiated.operationsWindow
        self._assembler = MessageAssembler(negotiated.proposed)
        self._outstanding: set[Exchange] = set()
        self._receiving: Exchange | None = None  # whose data set is passing
        self._settingUp: Deferred[IDataSetReceiver | None] | None = None
        self._writing: Deferred[None] | None = None
        self._waiting: Request | None = None  # one that may not start yet, so never the only one
        self._isStarting = False  # that one
        self._over = False

    @property
    def answering(self) -> bool:
        """True while a request wholly received has no final response."""
        return any(exchange.dataPassed for exchange in self._outstanding)

    @property
    def holdsUp(self) -> bool:
        """True while the peer may have to wait: not where it is inside a message that it can go on with."""
        return self.holding or (self.answering and not self.insideMessage)

    @property
    def insideMessage(self) -> bool:
        """True from the first PDV of a message to its last."""
        return self._assembler.insideMessage

    @property
    def busy(self) -> bool:
        """True inside a message and while an operation is outstanding."""
        if self._outstanding or self._writing is not None:
            return True
        return self._assembler.insideMessage and not self._over

    def pdvReceived(self, pdv: PDVReceived) -> None:
        """See L{IDIMSEProvider.pdvReceived}."""
        message = self._assembler.receive(pdv)
        if message is pdv:
            self._dataReceived(pdv)
        elif isinstance(message, Request):
            if self._outstanding and self._mustWait(message):
                self._waiting = message
                self.holding = True
            else:
                self._start(message)
        elif isinstance(message, ReceivedResponse):
            # Nothing of ours asked for it.
            self._association.quirks["response to nothing"] += 1
        # A C-CANCEL finds nothing that could be cancelled: it is ignored (PS3.7 9.3.2.3).

    def ended(self) -> None:
        """See L{IDIMSEProvider.ended}."""
        self._over = True
        self._waiting = None
        exchange, self._receiving = self._receiving, None
        if self._settingUp is not None:
            self._settingUp.cancel()
        elif exchange is None:
            pass
        elif self._writing is not None:
            # It may wait for something that takes long; _written goes on from there.
            self._writing.cancel()
        else:
            self._lose(exchange)

    # One message after the other

    def _mustWait(self, request: Request) -> bool:
        """True where a request is beyond the window, or the one before it about the same instance has no response."""
        if len(self._outstanding) >= self._window:
            return True
        instanceUID = request.affectedSOPInstanceUID.rstrip(_PADDING)
        if not instanceUID or self._isDuplicate(request):
            return False
        # Looked through, at what the window bounds: an index would cost each request, window or none.
        return any(
            exchange.request.affectedSOPInstanceUID.rstrip(_PADDING) == instanceUID for exchange in self._outstanding
        )

    def _isDuplicate(self, request: Request) -> bool:
        return any(exchange.request.messageID == request.messageID for exchange in self._outstanding)

    def _start(self, request: Request) -> None:
        context = self._contexts.get(request.contextID)
        service = None
        if context is None:
            # Proposed, refused, and used all the same: drained and named (PS3.7 C.4.1.5).
            context = AcceptedContext(request.contextID, self._proposed[request.contextID], "")
            status = SOP_CLASS_NOT_SUPPORTED
            _log.info(
                "request refused with {status:04X} (context not accepted, for {abstractSyntax}) for {association}",
                status=status,
                abstractSyntax=escaped(context.abstractSyntax),
                association=self._association,
            )
        elif self._outstanding and self._isDuplicate(request):
            # Their responses could not be told apart. Where one follows the other, as without a window, they can.
            status = DUPLICATE_INVOCATION
            _log.info(
                "request refused with {status:04X} (message ID {messageID} is outstanding) for {association}",
                status=status,
                messageID=request.messageID,
                association=self._association,
            )
        else:
            service = self._services.get(request.commandField)
            status = UNRECOGNIZED_OPERATION
        exchange = Exchange(self, request, context, self._association)
        self._outstanding.add(exchange)
        receiver: IDataSetReceiver | Deferred[IDataSetReceiver | None] | None = None
        if service is None:
            self._notServed(exchange)
            exchange.respond(request.response(status))
        else:
            try:
                receiver = service.requestReceived(request, exchange)
            except Exception:
                # Whatever a service raises, here and below, ends its own request and nothing else.
                self._serviceFailed(Failure(), exchange)
        if request.hasDataSet:
            self._receiveInto(receiver, exchange)
        elif isinstance(receiver, Deferred):
            receiver.addErrback(self._serviceFailed, exchange)

    def _receiveInto(
        self, receiver: IDataSetReceiver | Deferred[IDataSetReceiver | None] | None, exchange: Exchange
    ) -> None:
        """Have the data set that follows passed to a receiver; the service may have ended the association."""
        if not isinstance(receiver, Deferred):
            exchange.receiver = receiver
            if self._over:
                self._lose(exchange)
            else:
                self._receiving = exchange
            return
        self._receiving = exchange
        self._settingUp = receiver
        self.holding = True
        receiver.addCallbacks(self._setUp, self._notSetUp, callbackArgs=(exchange,), errbackArgs=(exchange,))
        if self._over:
            receiver.cancel()

    def _setUp(self, receiver: IDataSetReceiver | None, exchange: Exchange) -> None:
        self._settingUp = None
        exchange.receiver = receiver
        if self._over:
            self._lose(exchange)
        else:
            self._goOn()

    def _notSetUp(self, failure: Failure, exchange: Exchange) -> None:
        if not self._over:
            self._serviceFailed(failure, exchange)
        self._setUp(None, exchange)

    def _serviceFailed(self, failure: Failure, exchange: Exchange) -> None:
        _log.failure("a DIMSE service failed", failure)
        exchange.receiver = None
        if exchange in self._outstanding:
            # Else it was answered, and counted as that.
            self._notServed(exchange)
        exchange.respond(exchange.request.response(OUT_OF_RESOURCES))

    def _notServed(self, exchange: Exchange) -> None:
        """Count an object that is refused here, where no service counts it."""
        if exchange.request.commandField == C_STORE_RQ:
            self._association.objectsRefused += 1

    # The data set

    def _dataReceived(self, pdv: PDVReceived) -> None:
        exchange = self._receiving
        if exchange is None:
            return  # of a response nobody asked for
        receiver = exchange.receiver
        if receiver is None or not pdv.view:
            self._association.bytesReceived += len(pdv.view)
            if pdv.isLast:
                self._passed(exchange)
            return
        # Where the association ends inside the call, what follows from it is done behind it.
        self._receiving = None
        try:
            waiting = receiver.dataReceived(pdv.view)
        except Exception:
            waiting = None
            self._serviceFailed(Failure(), exchange)
        if waiting is not None:
            self._wait(waiting, exchange, pdv.isLast)
        elif pdv.isLast:
            self._passed(exchange)
        elif self._over:
            self._lose(exchange)
        else:
            self._receiving = exchange

    def _wait(self, waiting: Deferred[None], exchange: Exchange, isLast: bool) -> None:
        """Give nothing more until a piece was written; with the last one the request is wholly received already."""
        self._writing = waiting
        self.holding = True
        if isLast:
            exchange.dataSetPassed()
        else:
            self._receiving = exchange
        waiting.addErrback(self._notWritten, exchange)
        waiting.addCallback(self._written, exchange, isLast)

    def _notWritten(self, failure: Failure, exchange: Exchange) -> None:
        if not (self._over and failure.check(CancelledError)):
            self._serviceFailed(failure, exchange)

    def _written(self, ignored: None, exchange: Exchange, isLast: bool) -> None:
        self._writing = None
        if isLast:
            self._complete(exchange)
        elif self._over:
            self._lose(exchange)
        self._goOn()

    def _passed(self, exchange: Exchange) -> None:
        self._receiving = None
        exchange.dataSetPassed()
        self._complete(exchange)

    def _complete(self, exchange: Exchange) -> None:
        receiver = exchange.takeReceiver()
        if receiver is not None:
            try:
                answering = receiver.dataCompleted()
                if answering is not None:
                    answering.addErrback(self._serviceFailed, exchange)
            except Exception:
                self._serviceFailed(Failure(), exchange)

    def _lose(self, exchange: Exchange) -> None:
        receiver = exchange.takeReceiver()
        if receiver is None:
            self.finished(exchange, None)
            return
        try:
            answering = receiver.dataLost()
            if answering is not None:
                answering.addErrback(self._serviceFailed, exchange)
        except Exception:
            self._serviceFailed(Failure(), exchange)
        # Nothing more comes: the next response is the end, or one that was given early.
        exchange.dataSetPassed()

    # Answers

    def transmit(self, response: Response) -> None:
        """Send a response, where there still is an association to send it on."""
        if not self._over:
            self._send(response)

    def finished(self, exchange: Exchange, response: Response | None) -> None:
        """An exchange is over: send its final response and go on with what waited for it."""
        if exchange not in self._outstanding:
            return
        self._outstanding.discard(exchange)
        try:
            if response is not None:
                self._answer(exchange, response)
        finally:
            # Whatever became of it, the exchange is over.
            self._goOn()

    def _answer(self, exchange: Exchange, response: Response) -> None:
        try:
            self.transmit(response)
        except Exception:
            _log.failure("a response could not be sent")
            self.transmit(exchange.request.response(OUT_OF_RESOURCES))

    def _goOn(self) -> None:
        if self._waiting is not None:
            if self._isStarting:
                return  # another was answered inside that start: nothing is let in before it is done
            if not self._outstanding or not self._mustWait(self._waiting):
                self._startWaiting(self._waiting)
        self.holding = self._waiting is not None or self._writing is not None or self._settingUp is not None
        self._wake()

    def _startWaiting(self, request: Request) -> None:
        self._isStarting = True
        try:
            self._start(request)
        finally:
            self._isStarting = False
            self._waiting = None


classImplements(DIMSEProvider, IDIMSEProvider)
