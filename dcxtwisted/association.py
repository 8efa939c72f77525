"""
One association on a Twisted transport: its timers, its drain loop, and the one writer.

The loop takes one event after the other from the core; a PDV that must wait is kept in hand and nothing more is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IDelayedCall, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.acceptance import Acceptance, Association
from dcxtwisted.deadlines import Countdown, Watch
from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.interfaces import IDIMSEProvider
from dcxtwisted.transports import ReadSize, Transport, Unread, acknowledgerOf, hostOf, lowestTransport, writerOf
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.association import AssociationCore, Directive, ProviderAborted, Transmit
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import Negotiated
from dcxtwisted.wire.pdu import Abort, AssociateRJ, AssociateRQ, ReleaseRP, ReleaseRQ
from dcxtwisted.wire.statemachine import State

if TYPE_CHECKING:
    from dcxtwisted.factory import AssociationFactory
    from dcxtwisted.pull import PullPort

_log = Logger()

_NOTHING_TO_ABORT: Final = frozenset({State.IDLE, State.AWAITING_ASSOCIATE_RQ, State.AWAITING_TRANSPORT_CLOSE})

# How many seconds a stop waits for the peer to answer close_notify. Who closes need not wait at all (RFC 8446 6.1); but
# most peers answer at once, and what they were sending is read until then: to bytes that are unread a kernel answers
# with a reset, which may overtake what we wrote last.
_FAREWELL: Final = 1.0

# The most that a segment has. What a peer sends may just fill a read, and the rest wait for an acknowledgement: of no
# more than a segment a kernel puts that off, for 40 ms.
_SEGMENT: Final = 65536

# What an empty PDV takes on the wire, with the header of a PDU of its own.
_EMPTY_PDV_LENGTH: Final = 12


class AssociationProtocol(Protocol):
    """
    One association, as acceptor.

    :ivar pull: the port it came to, where an application waits for what comes there; None where it need not.
    """

    factory: AssociationFactory

    def __init__(self, factory: AssociationFactory, pull: PullPort | None = None) -> None:
        self.factory = factory
        self.pull = pull
        self.association: Association | None = None
        self._core = AssociationCore(factory.configuration.maximumLength)
        self.quirks = self._core.quirks
        self._acceptance: Acceptance | None = None
        self._provider: IDIMSEProvider | None = None
        self._inHand: PDVReceived | None = None
        self._draining = False
        self._paused = False
        self._nextTurn: IDelayedCall | None = None
        self._maximumLengthToSend = 0
        self._releaseRequested = False
        self._stopping = False
        self._closing = False
        configuration = factory.configuration
        self._ARTIM = Countdown(factory.clock, configuration.ARTIM, self._ARTIMExpired)
        self._writeStall = Countdown(factory.clock, configuration.writeStallDeadline, self._writeStalled)
        self._farewell = Countdown(factory.clock, _FAREWELL, self._farewellUnanswered)
        self._watch = Watch(
            factory.clock,
            configuration.silenceDeadline,
            configuration.progressDeadline,
            configuration.minimumRate,
            self._isInside,
            self._holdsUp,
            self.timeOut,
        )
        self._receiving = False
        self._endReported = False

    # The transport

    def connectionMade(self) -> None:
        """Twisted calls this when the connection is up."""
        transport = self._connection = cast(Transport, self.transport)
        if ITCPTransport.providedBy(transport):
            tcp = cast(ITCPTransport, transport)
            tcp.setTcpNoDelay(True)
            tcp.setTcpKeepAlive(True)
        self._readSize = ReadSize(transport)
        self._write = writerOf(transport)
        self._acknowledge = acknowledgerOf(transport)
        self._unread = Unread(transport, self._unreadChanged)
        self.factory.connectionMade(self, hostOf(transport.getPeer()))
        self._core.connectionMade()
        self._drain()

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with each chunk."""
        size = len(data)
        watch = self._watch
        isFull = size > _SEGMENT and size >= self._readSize.size
        self._readSize.fit(size, self.factory.share)
        watch.heard = self.factory.clock.seconds()
        watch.received += size
        self._core.feed(data)
        self._drain()
        provider = self._provider
        if provider is None and self._core.state is State.AWAITING_ASSOCIATE_RQ:
            self.factory.requestGrew(self, size)
        if self._core.insidePDU or (provider is not None and provider.busy):
            # The rest may wait for an acknowledgement, and nothing is answered before it has come. Not so behind a read
            # that is large and took all it may: another follows, and each acknowledgement takes 7 us.
            if not isFull:
                self._acknowledge()
            if not watch.inside:
                watch.enter()
        else:
            watch.inside = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once, when the connection is gone."""
        self.connected = 0
        self._inHand = None
        self._core.connectionLost()
        self._drain()
        for timer in (self._ARTIM, self._watch, self._writeStall, self._farewell):
            timer.stop()
        if self._nextTurn is not None:
            self._nextTurn.cancel()
        self.factory.connectionLost(self, self._watch.received)

    # Asked by the application and the factory

    def abort(self) -> None:
        """Send A-ABORT (source 0) and close; nothing happens where the association is over."""
        if self._core.state not in _NOTHING_TO_ABORT:
            self._abort("aborted", "aborted here")
            self._drain()

    def timeOut(self, how: str) -> None:
        """Abort the association because a deadline has passed; nothing happens where it is over."""
        if self._core.state is State.ESTABLISHED:
            self._abort("timed out", f"aborted here: {how}")
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
        # The reactor tells of it in its next turn only, and in this one many more may be closed.
        self._core.discard()
        self._connection.abortConnection()

    # The loop

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        # What waits for the next turn waits whatever else happens in this one, such as the next record under TLS.
        left = self.factory.PDVs if self._nextTurn is None else 0
        try:
            while True:
                event: object = self._inHand
                if event is None:
                    event = self._core.nextEvent()
                    if event is None:
                        if (self._acceptance or self._releaseRequested or self._stopping) and self._doWhatIsDue():
                            continue
                        break
                elif self._isHeld():
                    if self._stopWhenIdle():
                        continue
                    break
                else:
                    self._inHand = None
                if type(event) is not PDVReceived:
                    _HAPPENED[type(event)](self, event)
                elif left:
                    left -= 1
                    self._pdvReceived(event)
                else:
                    self._inHand = event
                    self._goOnNextTurn()
                    break
        except Exception:
            # A mistake of this library's own: it ends the association it showed on, and no other.
            _log.failure("an association failed")
            self._draining = False
            self.abort()
            # Where there was nothing to abort, what follows from its end is still to be done.
            self._drain()
        finally:
            self._draining = False
        if (self._inHand is None) is self._paused:
            self._adjustReading()
        if self._closing:
            self._closing = False
            self._close()
            if self.connected:
                self._farewell.start()
        if self.association is not None and self.association.ended and not self._endReported:
            self._reportEnd()

    def _goOnNextTurn(self) -> None:
        """Let others have their share of this turn first; one that has more to be done makes the shares smaller."""
        if self._nextTurn is None:
            self._setReceiving(True)
            self._nextTurn = self.factory.clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._nextTurn = None
        self._drain()

    def _doWhatIsDue(self) -> bool:
        """Do what had to wait until all that arrived has been judged; False where there is nothing."""
        acceptance = self._acceptance
        if acceptance is not None and acceptance.answer is not None:
            self._answer(acceptance, acceptance.answer)
        elif self._releaseRequested and (self._provider is None or not self._provider.answering):
            self._releaseRequested = False
            self._core.send(ReleaseRP())
            self._end("released", "released")
        else:
            return self._stopWhenIdle()
        return True

    def _stopWhenIdle(self) -> bool:
        if not self._stopping or self._busy:
            return False
        self._stopping = False
        if self._core.state not in _NOTHING_TO_ABORT:
            self._abort("aborted", "aborted here, stopping")
        self._closing = True
        return True

    def _isHeld(self) -> bool:
        """True while a PDV has to wait: for what the one before it led to, for the peer to read, or for ever."""
        provider = self._provider
        if self._unread.isMuch or (provider is not None and provider.holding):
            return True
        # No new message is begun while stopping: one that sends on and on would never be through.
        return self._stopping and not (provider is not None and provider.insideMessage)

    @property
    def _busy(self) -> bool:
        return self._provider is not None and self._provider.busy

    def _pdvReceived(self, pdv: PDVReceived) -> None:
        provider = self._provider
        assert provider is not None
        if (provider.holding or self._stopping or self._unread.isMuch) and self._isHeld():
            self._inHand = pdv
            return
        if not pdv.view:
            # Headers are no progress inside a message, however many come: what they brought does not count. 30 ns.
            self._watch.received -= _EMPTY_PDV_LENGTH
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
        if self._core.state is not State.IDLE:
            self._paused = self._inHand is not None
            if self._paused:
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
        self._acceptance = Acceptance(factory, self, association, self._drain)
        self._acceptance.begin(request)

    def _answer(self, acceptance: Acceptance, answer: Negotiated | AssociateRJ) -> None:
        self._acceptance = None
        if self._core.state is not State.AWAITING_ASSOCIATE_RESPONSE:
            return  # what had arrived already, behind the request, ended it
        if isinstance(answer, AssociateRJ):
            self._core.send(answer)
            self.factory.rejected(self, acceptance.association, answer, acceptance.why)
            return
        association = acceptance.association
        self._maximumLengthToSend = answer.maximumLengthToSend
        makeProvider = self.factory.makeProvider if self.pull is None else self.pull.makeProvider
        self._provider = makeProvider(answer, association, self._sendResponse, self._woken)
        self.association = association
        self.factory.accepted(self, association)
        self._core.send(answer.accept)
        self._watch.start()
        if self.pull is not None:
            self.pull.arrived(association)

    def _woken(self, heldUp: float | None = None) -> None:
        """
        What had to wait can go on; it may be the peer that was held up.

        :param heldUp: for how many seconds, where that is not all the time since it was heard last.
        """
        if not self._draining:
            self._watch.goOn(heldUp)
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
            if self._acceptance is not None:
                acceptance, self._acceptance = self._acceptance, None
                acceptance.cancel()
            self.factory.admission.leave(self, bool(self.connected))
            _log.info("no association with {host}: {how}", host=hostOf(self._connection.getPeer()), how=how)
        elif not association.ended:
            association.ended = reason
            self._how = how
            assert self._provider is not None
            self._provider.ended()

    def _reportEnd(self) -> None:
        assert self.association is not None
        if not self._busy:
            self._endReported = True
            self.factory.associationEnded(self, self.association, self._how)
            if self.pull is not None:
                self.pull.ended(self.association)

    # Deadlines

    def _ARTIMExpired(self) -> None:
        if self._core.state is State.AWAITING_ASSOCIATE_RQ and self._watch.received:
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

    def _farewellUnanswered(self) -> None:
        # TLS would wait on. It has passed on all that it was given: only before a handshake is over it keeps anything.
        lowestTransport(self._connection).loseConnection()

    def _isInside(self) -> bool:
        return self._core.insidePDU or self._busy

    def _holdsUp(self) -> bool:
        if self._unread.isMuch:
            return True  # it does not read, for which there is a deadline of its own
        provider = self._provider
        return provider is not None and provider.holdsUp

    def _unreadChanged(self) -> None:
        if self._unread.isMuch:
            self._writeStall.start()
        else:
            self._writeStall.stop()
            self._watch.goOn()
            self._drain()

    def _writeStalled(self) -> None:
        if self._core.state not in _NOTHING_TO_ABORT:
            deadline = self.factory.configuration.writeStallDeadline
            self._abort("timed out", f"aborted here: it did not read for {deadline:g} s")
            self._drain()
        # It would not read an A-ABORT either.
        self._connection.abortConnection()

    # What is written; nobody else does

    def _sendResponse(self, response: Response) -> None:
        PDUs = fragment(response.contextID, True, response.encode(), self._maximumLengthToSend)
        self._write(self._core.sendData(PDUs))


_HAPPENED: Final[dict[type, Callable[[AssociationProtocol, Any], None]]] = {
    Transmit: AssociationProtocol._transmit,
    Directive: AssociationProtocol._directed,
    AssociateRQ: AssociationProtocol._associateRequested,
    ReleaseRQ: AssociationProtocol._releaseReceived,
    Abort: AssociationProtocol._abortReceived,
    ProviderAborted: AssociationProtocol._providerAborted,
}
