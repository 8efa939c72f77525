"""
What an application waits on: a port whose associations queue for it, and the gate that lets in a command at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.acceptance import Association
from dcxtwisted.association import AssociationProtocol
from dcxtwisted.deadlines import Countdown
from dcxtwisted.factory import AssociationFactory
from dcxtwisted.interfaces import IAssociation, IDIMSEProvider
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import Negotiated

# The most commands that one call after the other is given at once: a chunk may hold 6,500 C-ECHOs, which take 0.2 s.
_MOST_AT_ONCE: Final = 16


@implementer(IProtocolFactory)
class PullPort:
    """
    A port whose associations queue until somebody asks for them.

    :ivar AETitle: how the listener calls itself here.
    :ivar supported: what is negotiated here: as elsewhere, but one operation at a time.
    :ivar port: what is listened on; None while nothing is.
    """

    def __init__(
        self,
        factory: AssociationFactory,
        endpoint: IStreamServerEndpoint,
        listens: Callable[[IListeningPort], object],
    ) -> None:
        """
        :param listens: called when the port is there; where it raises, the port is given up.
        """
        self.AETitle = factory.configuration.AETitle
        self.supported = attrs.evolve(factory.supported, operationsWindow=1)
        self.port: IListeningPort | None = None
        self._factory = factory
        self._endpoint = endpoint
        self._listens = listens
        self._isListening = False
        self._attempt: Deferred[Any] = succeed(None)
        self._whenStopped: list[Deferred[None]] = []
        self._deciding: set[Association] = set()
        self._queue: deque[Association] = deque()
        self._waiting: deque[Deferred[IAssociation | None]] = deque()

    # Twisted's

    def doStart(self) -> None:
        """Twisted calls this when the port begins to use the factory."""

    def doStop(self) -> None:
        """Twisted calls this when it no longer does."""

    def buildProtocol(self, addr: IAddress | None) -> AssociationProtocol:
        """Twisted calls this for each connection."""
        return AssociationProtocol(self._factory, self)

    # The application's

    @property
    def isUsed(self) -> bool:
        """True from when listening begins until it has stopped."""
        return self._isListening or bool(self._whenStopped)

    def wait(self, timeout: float | None) -> Deferred[IAssociation | None]:
        """Return a Deferred of the next association; of None after C{timeout} seconds, or when listening stops."""
        try:
            seconds = _checked(timeout)  # before anything waits: else an association would come to nobody
        except TypeError:
            return fail()
        if self._queue:
            return succeed(self._queue.popleft())
        waiting: Deferred[IAssociation | None] = Deferred(self._forget)
        self._waiting.append(waiting)
        if seconds is not None:
            waiting.addBoth(_withoutTimer, self._factory.clock.callLater(seconds, self._timedOut, waiting))
        if not self.isUsed:
            self._listen()
        return waiting

    def stopListening(self) -> Deferred[None]:
        """Stop listening; the Deferred fires when the port is free, and who waited for associations was told None."""
        stopped: Deferred[None] = Deferred()
        self._whenStopped.append(stopped)
        if len(self._whenStopped) == 1:
            Deferred.fromCoroutine(self._stop())
        return stopped

    async def _stop(self) -> None:
        self._isListening = False
        told, self._waiting = self._waiting, deque()
        self._attempt.cancel()  # an endpoint that has not answered yet; it may answer with a port even so
        port, self.port = self.port, None
        if port is not None:
            await DeferredList([maybeDeferred(port.stopListening)], consumeErrors=True)
        stopped, self._whenStopped = self._whenStopped, []
        for waiting in told:
            if not waiting.called:
                waiting.callback(None)
        if self._waiting and not self.isUsed:
            self._listen()  # somebody asked again while it stopped
        for each in stopped:
            each.callback(None)

    def _listen(self) -> None:
        self._isListening = True
        attempt = maybeDeferred(self._endpoint.listen, self)
        self._attempt = attempt.addCallback(self._listened).addErrback(self._cannotListen)

    def _listened(self, port: IListeningPort) -> Deferred[Failure] | None:
        try:
            self._listens(port)
        except Exception:
            failure = Failure()
            # Who is told may listen again at once: the port is to be free by then.
            return DeferredList([maybeDeferred(port.stopListening)], consumeErrors=True).addCallback(lambda _: failure)
        self.port = port
        return None

    def _cannotListen(self, failure: Failure) -> None:
        self._isListening = False
        told, self._waiting = self._waiting, deque()
        for waiting in told:
            if not waiting.called:  # who is told may cancel the others
                waiting.errback(failure)

    def _forget(self, waiting: Deferred[IAssociation | None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _timedOut(self, waiting: Deferred[IAssociation | None]) -> None:
        self._forget(waiting)
        waiting.callback(None)

    # What the associations tell

    def reserve(self, association: Association) -> bool:
        """Keep a place for an association that is to be decided on; False where there is none."""
        most = self._factory.configuration.maximumAssociationsWaiting
        if len(self._queue) + len(self._deciding) >= most + len(self._waiting):
            return False
        self._deciding.add(association)
        return True

    def giveUp(self, association: Association) -> None:
        """An association will not come; nothing happens where no place was kept for it."""
        self._deciding.discard(association)

    def makeProvider(
        self,
        negotiated: Negotiated,
        association: Association,
        send: Callable[[Response], None],
        wake: Callable[..., None],
    ) -> IDIMSEProvider:
        """Join an association with what serves its messages, behind a gate."""
        gate = association.gate = Gate(self._factory, association, wake)
        gate.provider = self._factory.makeProvider(negotiated, association, send, gate.woken)
        return gate

    def arrived(self, association: Association) -> None:
        """An association was accepted: hand it to who waits for it, or let it wait."""
        self._deciding.discard(association)
        if self._waiting:
            self._waiting.popleft().callback(association)
        else:
            self._queue.append(association)

    def ended(self, association: Association) -> None:
        """An association is over, and all its events are told."""
        if association in self._queue:
            self._queue.remove(association)  # nothing can be done with it
        if association.gate is not None:
            association.gate.over()


def _checked(timeout: object) -> float | None:
    """
    Return a timeout as the clock takes it; None for none.

    :raises TypeError: it is no number.
    """
    if timeout is None:
        return None
    if not isinstance(timeout, int | float):
        raise TypeError(f"a timeout is a number of seconds, or None, not {timeout!r}")
    return max(0.0, timeout)


def _withoutTimer(result: object, timer: IDelayedCall) -> object:
    if timer.active():
        timer.cancel()
    return result


@implementer(IDIMSEProvider)
class Gate:
    """
    The DIMSE side of an association whose commands are waited for: each wait lets one of them in.

    It is shut from the last byte of a command until somebody waits for the next; what arrives then is held in hand.

    :ivar provider: what is behind it.
    """

    provider: IDIMSEProvider

    def __init__(self, factory: AssociationFactory, association: Association, wake: Callable[..., None]) -> None:
        self._factory = factory
        self._clock = factory.clock
        self._association = association
        self._wake = wake
        self._isShut = True
        self._shutAt = self._clock.seconds()
        self._hasBegun = False  # a command, whose response is not sent
        self._isOver = False
        self._waiting: Deferred[bool] | None = None
        self._timer: IDelayedCall | None = None
        self._nextTurn: IDelayedCall | None = None
        self._atOnce = 0  # commands in a row that were served inside the call
        self._patience = factory.configuration.silenceDeadline
        self._unattended = Countdown(self._clock, self._patience, self._nobodyWaits)
        self._unattended.start()

    # The association's: what the provider says, and that the gate is shut

    @property
    def holding(self) -> bool:
        """See L{IDIMSEProvider}."""
        return self._isShut or self.provider.holding

    @property
    def holdsUp(self) -> bool:
        """See L{IDIMSEProvider}."""
        return self._isShut or self.provider.holdsUp

    @property
    def answering(self) -> bool:
        """See L{IDIMSEProvider}."""
        return self.provider.answering

    @property
    def insideMessage(self) -> bool:
        """See L{IDIMSEProvider}."""
        return self.provider.insideMessage

    @property
    def busy(self) -> bool:
        """See L{IDIMSEProvider}."""
        return self.provider.busy

    def pdvReceived(self, pdv: PDVReceived) -> None:
        """See L{IDIMSEProvider.pdvReceived}."""
        self._hasBegun = True
        provider = self.provider
        provider.pdvReceived(pdv)
        if self._hasBegun and not provider.insideMessage:
            if provider.busy:
                self._isShut = True
            else:
                # Nothing to be served, such as a C-CANCEL of nothing: it is still waited for.
                self._hasBegun = False
                self._lookAtTimer()
                if self._waiting is None and not self._isShut:
                    self._shut()  # by nobody any more

    def ended(self) -> None:
        """See L{IDIMSEProvider.ended}."""
        self._unattended.stop()
        self._stopTimer()
        self._stopNextTurn()
        self.provider.ended()

    def woken(self) -> None:
        """The provider calls this whenever what it says may have changed."""
        if self._hasBegun and not self.provider.busy and not self._association.ended:
            self._served()
        self._wake()

    # The application's

    def wait(self, timeout: float | None) -> Deferred[bool]:
        """See ``IAssociation.WaitForCommand``."""
        try:
            seconds = _checked(timeout)
        except TypeError:
            return fail()
        if self._waiting is not None:
            return fail(RuntimeError("a command of this association is waited for already"))
        if self._isOver:
            return succeed(False)
        waiting: Deferred[bool] = Deferred(self._forget)
        self._waiting = waiting
        if self._association.ended:
            return waiting
        # One that a wait was cancelled for is still under way: this is the wait for it then.
        if self._hasBegun:
            self._atOnce = 0
        elif self._atOnce < _MOST_AT_ONCE:
            self._open()
            self._atOnce = self._atOnce + 1 if waiting.called else 0
        else:
            # Let others have their share of this turn first.
            self._atOnce = 0
            self._nextTurn = self._clock.callLater(0, self._open)
        if seconds is not None and self._waiting is waiting and not self._association.ended:
            self._timer = self._clock.callLater(seconds, self._lookAtTimer)
        return waiting

    def over(self) -> None:
        """The association is over, and all its events are told."""
        self._isOver = True
        self._tell(False)

    def _open(self) -> None:
        self._nextTurn = None
        self._isShut = False
        self._unattended.stop()
        # The peer's silence before it was held up counts: who waits again and again does not keep it.
        self._wake(self._clock.seconds() - self._shutAt)

    def _shut(self) -> None:
        self._stopNextTurn()
        self._isShut = True
        self._shutAt = self._clock.seconds()
        self._unattended.start()

    def _served(self) -> None:
        self._hasBegun = False
        self._stopTimer()
        self._shut()
        self._tell(True)

    def _tell(self, result: bool) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(result)

    def _forget(self, waiting: Deferred[bool]) -> None:
        if self._waiting is not waiting:
            return  # OnTimeout is being told of it, and may have begun another
        self._waiting = None
        self._stopTimer()
        if not (self._hasBegun or self._association.ended):
            self._shut()

    # Time

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _stopNextTurn(self) -> None:
        call, self._nextTurn = self._nextTurn, None
        if call is not None:
            call.cancel()

    def _lookAtTimer(self) -> None:
        """Give up the wait where its time has passed, unless a command has begun."""
        if self._timer is None or self._timer.active() or self._hasBegun:
            return
        self._timer = None
        self._shut()
        waiting, self._waiting = self._waiting, None
        self._factory.tell(self._factory.eventsOf(self._association).OnTimeout, self._association)
        if waiting is not None and not waiting.called:
            waiting.callback(False)

    def _nobodyWaits(self) -> None:
        self._association.timeOut(f"nobody waited for a command for {self._patience:g} s")
