"""
One association on a Twisted transport: its timers, its drain loop, and the one writer.

The loop takes one event after the other from the core; a PDV that must wait is kept in hand and nothing more is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.deadlines import Countdown, Watch
from dcxtwisted.errors import AssociationRejected, RemoteProtocolError
from dcxtwisted.events import ask
from dcxtwisted.interfaces import IAssociation, IDIMSEProvider
from dcxtwisted.transports import ReadSize, Transport, Unread, acknowledgerOf, hostOf, writerOf
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.association import AssociationCore, Directive, ProviderAborted, Transmit
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.items import USER_IDENTITY_TYPES, UserIdentityRequest
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import AcceptedContext, Negotiated, negotiate
from dcxtwisted.wire.pdu import Abort, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ
from dcxtwisted.wire.statemachine import State

if TYPE_CHECKING:
    from dcxtwisted.factory import AssociationFactory

_log = Logger()

#: OnConnection failed or was late: rejected transiently by the service provider's user side, no reason.
_EVENT_FAILED: Final = AssociateRJ(2, 1, 1)
_CALLED_AE_TITLE_NOT_RECOGNIZED: Final = AssociateRJ(1, 1, 7)

_NOTHING_TO_ABORT: Final = frozenset({State.IDLE, State.AWAITING_ASSOCIATE_RQ, State.AWAITING_TRANSPORT_CLOSE})


def escaped(text: str) -> str:
    """Return what a peer sent as it may stand in a log line: quoted, printable ASCII, on one line."""
    return ascii(text)


@implementer(IAssociation)
class Association:
    """One association as an application sees it; the attributes are those of ``IAssociation``."""

    objectsStored = 0
    objectsRefused = 0
    bytesReceived = 0
    ended = ""

    def __init__(self, protocol: AssociationProtocol, request: AssociateRQ, startedAt: float) -> None:
        information = request.userInformation
        transport = protocol.transport
        assert transport is not None
        self._protocol = protocol
        self.callingAETitle = request.callingAETitle
        self.calledAETitle = request.calledAETitle
        self.peerAddress: IAddress = transport.getPeer()
        self.localAddress: IAddress = transport.getHost()
        self.callingHost = hostOf(self.peerAddress)
        self.implementationClassUID = information.implementationClassUID
        self.implementationVersionName = information.implementationVersionName
        identity = information.userIdentity
        isKnown = identity is not None and identity.identityType in USER_IDENTITY_TYPES
        self.userIdentity: UserIdentityRequest | None = identity if isKnown else None
        self.acceptedContexts: Mapping[int, AcceptedContext] = {}
        self.maximumLengthToSend = 0
        self.startedAt = startedAt
        self.quirks = protocol.quirks

    def abort(self) -> None:
        """Send A-ABORT and close."""
        self._protocol.abort()

    def __repr__(self) -> str:
        return f"<Association from {escaped(self.callingAETitle)} at {self.callingHost}>"


class AssociationProtocol(Protocol):
    """One association, as acceptor."""

    factory: AssociationFactory

    def __init__(self, factory: AssociationFactory) -> None:
        self.factory = factory
        self.association: Association | None = None
        self._core = AssociationCore(factory.configuration.maximumLength)
        self.quirks = self._core.quirks
        self._negotiated: Negotiated | None = None
        self._provider: IDIMSEProvider | None = None
        self._inHand: PDVReceived | None = None
        self._draining = False
        self._paused = False
        self._asking: Deferred[Any] | None = None  # OnConnection, while it decides
        # Decided, but not yet applied; with why, where it is a refusal.
        self._answer: tuple[Association, Negotiated | AssociateRJ, str] | None = None
        self._releaseRequested = False
        self._stopping = False
        self._closing = False
        configuration = factory.configuration
        self._ARTIM = Countdown(factory.clock, configuration.ARTIM, self._ARTIMExpired)
        self._watch = Watch(
            factory.clock, configuration.progressDeadline, self._patience, self._holdsUp, self._silentTooLong
        )
        self._receiving = False
        self._endReported = False

    # The transport

    def connectionMade(self) -> None:
        """Twisted calls this when the connection is up."""
        transport = self._connection = cast(Transport, self.transport)
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._readSize = ReadSize(transport)
        self._write = writerOf(transport)
        self._acknowledge = acknowledgerOf(transport)
        self._unread = Unread(transport, self._drain)
        self.factory.protocols.add(self)
        self._core.connectionMade()
        self._drain()

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with each chunk."""
        self._readSize.fit(len(data), self.factory.share)
        self._watch.heard = self.factory.clock.seconds()
        self._core.feed(data)
        self._drain()
        if self._busy or self._core.insidePDU:
            # The rest may wait for an acknowledgement, and nothing is answered before it has come.
            self._acknowledge()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once, when the connection is gone."""
        self.connected = 0
        self.factory.protocols.discard(self)
        self._inHand = None
        self._core.connectionLost()
        self._drain()
        self._ARTIM.stop()
        self._watch.stop()
        self.factory.connectionGone()

    # Asked by the application and the factory

    def abort(self) -> None:
        """Send A-ABORT (source 0) and close; nothing happens where the association is over."""
        if self._core.state not in _NOTHING_TO_ABORT:
            self._abort("aborted", "aborted here")
            self._drain()

    def stop(self) -> None:
        """Abort the association, and close, as soon as no request is half received or unanswered."""
        self._stopping = True
        self._drain()

    def _abort(self, reason: str, how: str) -> None:
        self._core.send(Abort(0, 0))
        self._end(reason, how)

    def abortConnection(self) -> None:
        """Close hard, without a word to the peer."""
        self._connection.abortConnection()

    # The loop

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        try:
            while True:
                event: object = self._inHand
                if event is None:
                    event = self._core.nextEvent()
                    if event is None:
                        if self._doWhatIsDue():
                            continue
                        break
                elif self._isHeld():
                    break
                else:
                    self._inHand = None
                if type(event) is PDVReceived:
                    self._pdvReceived(event)
                else:
                    _HAPPENED[type(event)](self, event)
        except Exception:
            # A mistake of this library's own: it ends the association it showed on, and no other.
            _log.failure("an association failed")
            self._draining = False
            self.abort()
            # Where there was nothing to abort, what follows from its end is still to be done.
            self._drain()
        finally:
            self._draining = False
        self._adjustReading()
        if self._closing:
            self._closing = False
            self._close()
        if self.association is not None and self.association.ended and not self._endReported:
            self._reportEnd()

    def _doWhatIsDue(self) -> bool:
        """Do what had to wait until all that arrived has been judged; False where there is nothing."""
        if self._answer is not None:
            self._applyAnswer()
        elif self._releaseRequested and (self._provider is None or not self._provider.answering):
            self._releaseRequested = False
            self._core.send(ReleaseRP())
            self._end("released", "released")
        elif self._stopping and not self._busy:
            self._stopping = False
            if self._core.state not in _NOTHING_TO_ABORT:
                self._abort("aborted", "aborted here, stopping")
            self._closing = True
        else:
            return False
        return True

    def _isHeld(self) -> bool:
        """True while a PDV has to wait: for what the one before it led to, or for the peer to read."""
        return self._unread.isMuch or (self._provider is not None and self._provider.holding)

    @property
    def _busy(self) -> bool:
        return self._provider is not None and self._provider.busy

    def _pdvReceived(self, pdv: PDVReceived) -> None:
        provider = self._provider
        assert provider is not None
        if provider.holding or self._unread.isMuch:
            self._inHand = pdv
            return
        receiving = not (pdv.isCommand or pdv.isLast)
        if receiving is not self._receiving:
            self._setReceiving(receiving)
        try:
            provider.pdvReceived(pdv)
        except RemoteProtocolError as error:
            self._core.invalid(error)

    def _adjustReading(self) -> None:
        """Pause while something that arrived cannot be used; resume when it is used up."""
        # Waiting alone does not pause: a paused transport tells of no FIN and no RST.
        waiting = self._inHand is not None
        if waiting is not self._paused and self._core.state is not State.IDLE:
            self._paused = waiting
            if waiting:
                self._connection.pauseProducing()
            else:
                self._connection.resumeProducing()

    def _setReceiving(self, receiving: bool) -> None:
        if receiving is not self._receiving:
            self._receiving = receiving
            self.factory.receivingChanged(1 if receiving else -1)

    # Events of the core

    def _transmit(self, event: Transmit) -> None:
        self._write(event.data)

    def _directed(self, directive: Directive) -> None:
        if directive is Directive.START_ARTIM:
            self._ARTIM.start()
        elif directive is Directive.STOP_ARTIM:
            self._ARTIM.stop()
        elif directive is Directive.CLOSE_TRANSPORT:
            self._close()

    def _associateRequested(self, request: AssociateRQ) -> None:
        factory = self.factory
        association = Association(self, request, factory.clock.seconds())
        association.quirks.update(request.quirks)
        outcome = negotiate(request, factory.supported)
        if isinstance(outcome, AssociateRJ):
            self._answer = association, outcome, "by negotiation"
            return
        if factory.configuration.checkCalledAETitle and request.calledAETitle != factory.configuration.AETitle.strip():
            self._answer = association, _CALLED_AE_TITLE_NOT_RECOGNIZED, "because it calls another AE title"
            return
        self._negotiated = outcome
        association.acceptedContexts = outcome.contexts
        association.maximumLengthToSend = outcome.maximumLengthToSend
        try:
            answer = ask(
                factory.events.OnConnection,
                association.callingAETitle,
                association.calledAETitle,
                association.callingHost,
                association,
            )
        except Exception:
            # The application's own code: whatever it raises is its answer.
            self._decided(Failure(), association)
            return
        if isinstance(answer, Deferred):
            self._asking = answer
            answer.addBoth(self._decided, association)
            if self._core.state is not State.AWAITING_ASSOCIATE_RESPONSE:
                # OnConnection aborted it, and answers all the same.
                answer.cancel()
        else:
            self._decided(answer, association)

    def _decided(self, answer: object, association: Association) -> None:
        self._asking = None
        if self._core.state is not State.AWAITING_ASSOCIATE_RESPONSE:
            # The peer is gone, nobody is there to be told.
            if isinstance(answer, Failure) and not answer.check(CancelledError, AssociationRejected):
                _log.failure("OnConnection failed for {association}", answer, association=association)
            return
        if answer is True:
            assert self._negotiated is not None
            self._answer = association, self._negotiated, ""
        else:
            self._answer = association, *_rejection(answer, association)
        self._drain()

    def _applyAnswer(self) -> None:
        assert self._answer is not None
        (association, answer, why), self._answer = self._answer, None
        if self._core.state is not State.AWAITING_ASSOCIATE_RESPONSE:
            return  # what had arrived already, behind the request, ended it
        if isinstance(answer, AssociateRJ):
            self._refuse(association, answer, why)
            return
        self._provider = self.factory.makeProvider(answer, association, self._sendResponse, self._woken)
        self.association = association
        self.factory.associations.add(association)
        self._core.send(answer.accept)
        self._watch.start()

    def _refuse(self, association: Association, rejection: AssociateRJ, why: str) -> None:
        self._core.send(rejection)
        _log.info(
            "association refused {why}: from {calling} ({host}) to {called}, {result}/{source}/{reason}",
            why=why,
            calling=escaped(association.callingAETitle),
            called=escaped(association.calledAETitle),
            host=association.callingHost,
            result=rejection.result,
            source=rejection.source,
            reason=rejection.reason,
        )

    def _woken(self) -> None:
        """What had to wait can go on; it may be the peer that was held up, and its time begins anew."""
        self._watch.heard = self.factory.clock.seconds()
        self._drain()

    def _releaseReceived(self, event: ReleaseRQ) -> None:
        self._releaseRequested = True

    def _abortReceived(self, event: Abort) -> None:
        self._end("aborted", f"aborted by the peer ({event.source}/{event.reason})")

    def _providerAborted(self, event: ProviderAborted) -> None:
        if event.lost:
            self._end("lost", "lost")
        else:
            self._end("aborted", f"aborted here: {event.reason}")

    # The end

    def _end(self, reason: str, how: str) -> None:
        self._inHand = None
        self._releaseRequested = False
        self._setReceiving(False)
        association = self.association
        if association is None:
            if self._asking is not None:
                asking, self._asking = self._asking, None
                asking.cancel()
            _log.info("no association with {host}: {how}", host=hostOf(self._connection.getPeer()), how=how)
        elif not association.ended:
            association.ended = reason
            self._how = how
            assert self._provider is not None
            self._provider.ended()

    def _reportEnd(self) -> None:
        association = self.association
        assert association is not None
        if self._busy:
            return
        self._endReported = True
        self.factory.associations.discard(association)
        _log.info(
            "association from {calling} ({host}) to {called} {how} after {seconds:.3f} s: "
            "{stored} stored, {refused} refused, {received} bytes{quirks}",
            calling=escaped(association.callingAETitle),
            host=association.callingHost,
            called=escaped(association.calledAETitle),
            how=self._how,
            seconds=self.factory.clock.seconds() - association.startedAt,
            stored=association.objectsStored,
            refused=association.objectsRefused,
            received=association.bytesReceived,
            quirks="".join(f"; {quirk}: {count}" for quirk, count in sorted(self.quirks.items())),
        )
        if association.ended == "timed out":
            self.factory.tell(self.factory.events.OnTimeout, association)
        self.factory.tell(self.factory.events.OnAssocEnd, association, association.ended)
        self.factory.connectionGone()

    # Deadlines

    def _ARTIMExpired(self) -> None:
        if self._core.state is State.AWAITING_ASSOCIATE_RQ:
            _log.info("no A-ASSOCIATE-RQ from {host} in time", host=hostOf(self._connection.getPeer()))
        self._core.ARTIMExpired()
        # An orderly close can wait for ever, over TLS and for a peer that does not read.
        self._connection.abortConnection()

    def _close(self) -> None:
        """Close in order, and hard where that has not come to an end by ARTIM."""
        if self.connected:
            self._ARTIM.start()
        # Over TLS a transport waits for its producer to be done.
        self._connection.unregisterProducer()
        self._connection.loseConnection()

    def _patience(self) -> float:
        inside = self._core.insidePDU or self._busy
        configuration = self.factory.configuration
        return configuration.progressDeadline if inside else configuration.silenceDeadline

    def _holdsUp(self) -> bool:
        provider = self._provider
        return provider is not None and (provider.holding or provider.answering)

    def _silentTooLong(self) -> None:
        if self._core.state is State.ESTABLISHED:
            self._abort("timed out", f"aborted here: nothing came for {self._patience():g} s")
            self._drain()

    # What is written; nobody else does

    def _sendResponse(self, response: Response) -> None:
        assert self._negotiated is not None
        PDUs = fragment(response.contextID, True, response.encode(), self._negotiated.maximumLengthToSend)
        self._write(self._core.sendData(PDUs))


_HAPPENED: Final[dict[type, Callable[[AssociationProtocol, Any], None]]] = {
    Transmit: AssociationProtocol._transmit,
    Directive: AssociationProtocol._directed,
    AssociateRQ: AssociationProtocol._associateRequested,
    ReleaseRQ: AssociationProtocol._releaseReceived,
    Abort: AssociationProtocol._abortReceived,
    ProviderAborted: AssociationProtocol._providerAborted,
}


def _rejection(answer: object, association: Association) -> tuple[AssociateRJ, str]:
    """Return how an answer of OnConnection other than True refuses, and why."""
    if isinstance(answer, Failure):
        error = answer.value
        if isinstance(error, AssociationRejected):
            return AssociateRJ(error.result, error.source, error.reason), "by OnConnection"
        _log.failure("OnConnection failed for {association}", answer, association=association)
        return _EVENT_FAILED, "because OnConnection failed"
    if answer is None:
        return AssociateRJ(1, 1, 1), "by OnConnection, which answered None instead of True or False"
    return AssociateRJ(1, 1, 1), "by OnConnection"
