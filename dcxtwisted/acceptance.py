"""
An association from its request to its answer, and as an application sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.deadlines import Deadline
from dcxtwisted.errors import AssociationRejected, DeadlinePassed
from dcxtwisted.escaping import escaped
from dcxtwisted.events import ask
from dcxtwisted.interfaces import IAssociation, IObjectInMemory, TLSFacts
from dcxtwisted.security import factsOf
from dcxtwisted.transports import hostOf
from dcxtwisted.wire.items import USER_IDENTITY_TYPES, UserIdentityRequest
from dcxtwisted.wire.negotiation import AcceptedContext, Negotiated, negotiate
from dcxtwisted.wire.pdu import AssociateRJ, AssociateRQ

if TYPE_CHECKING:
    from dcxtwisted.association import AssociationProtocol
    from dcxtwisted.factory import AssociationFactory
    from dcxtwisted.pull import Gate

_log = Logger()

#: OnConnection failed or was late: rejected transiently by the service user, no reason.
_EVENT_FAILED: Final = AssociateRJ(2, 1, 1)
_CALLED_AE_TITLE_NOT_RECOGNIZED: Final = AssociateRJ(1, 1, 7)


@implementer(IAssociation)
class Association:
    """One association as an application sees it; the attributes are those of ``IAssociation``."""

    objectsStored = 0
    objectsRefused = 0
    bytesReceived = 0
    ended = ""
    #: What an application waits at for commands; None where it need not wait, and before it is accepted.
    gate: Gate | None = None

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
        self.security: TLSFacts | None = factsOf(transport)
        self.implementationClassUID = information.implementationClassUID
        self.implementationVersionName = information.implementationVersionName
        identity = information.userIdentity
        isKnown = identity is not None and identity.identityType in USER_IDENTITY_TYPES
        self.userIdentity: UserIdentityRequest | None = identity if isKnown else None
        self.acceptedContexts: Mapping[int, AcceptedContext] = {}
        self.maximumLengthToSend = 0
        self.operationsWindow = 1
        self.startedAt = startedAt
        self.quirks = protocol.quirks
        self.quirks.update(request.quirks)

    def abort(self) -> None:
        """Send A-ABORT and close."""
        self._protocol.abort()

    def timeOut(self, how: str) -> None:
        """Send A-ABORT and close because a deadline has passed; ``how`` is what to say of it in the log."""
        self._protocol.timeOut(how)

    def WaitForCommand(self, timeout: float | None = None) -> Deferred[bool]:
        """See ``IAssociation.WaitForCommand``."""
        if self.gate is None:
            why = "nobody waits for commands here: the port is startService's, or the association not accepted yet"
            return fail(RuntimeError(why))
        return self.gate.wait(timeout)

    def TakeStoredObject(self) -> IObjectInMemory | None:
        """Hand over the oldest object in memory that came on this association, and forget it."""
        return self._protocol.factory.takeStoredObject(self)

    def __repr__(self) -> str:
        return f"<Association from {escaped(self.callingAETitle)} at {self.callingHost}>"


class Acceptance:
    """
    The way of one A-ASSOCIATE-RQ to its answer: negotiation, the limits, then OnConnection.

    :ivar answer: the terms that were accepted, or the rejection; None while the application decides.
    :ivar why: why it is a rejection, for the log.
    """

    def __init__(
        self,
        factory: AssociationFactory,
        protocol: AssociationProtocol,
        association: Association,
        decided: Callable[[], None],
    ) -> None:
        """
        :param decided: called when there is an answer that was not there when C{begin} returned.
        """
        self.association = association
        self.answer: Negotiated | AssociateRJ | None = None
        self.why = ""
        self._factory = factory
        self._protocol = protocol
        self._decided = decided
        self._asking: Deferred[bool | None] | None = None
        self._isOver = False

    def begin(self, request: AssociateRQ) -> None:
        """Look for an answer; where the application takes its time, it is found later."""
        factory, association = self._factory, self.association
        configuration = factory.configuration
        pull = self._protocol.pull
        outcome = negotiate(request, factory.supported if pull is None else pull.supported)
        if isinstance(outcome, AssociateRJ):
            self._reject(outcome, "by negotiation")
            return
        AETitle = configuration.AETitle if pull is None else pull.AETitle
        if configuration.checkCalledAETitle and request.calledAETitle != AETitle.strip():
            self._reject(_CALLED_AE_TITLE_NOT_RECOGNIZED, "because it calls another AE title")
            return
        if pull is not None and not pull.reserve(association):
            self._reject(factory.admission.refuse(), "because as many wait to be asked for as may")
            return
        exceeded = factory.admission.admit(self._protocol, association.callingHost, association.callingAETitle)
        if exceeded is not None:
            self._reject(exceeded, "because a limit is reached")
            return
        association.acceptedContexts = outcome.contexts
        association.maximumLengthToSend = outcome.maximumLengthToSend
        association.operationsWindow = outcome.operationsWindow
        self._ask(outcome)

    def cancel(self) -> None:
        """Nobody waits for an answer any more."""
        self._isOver = True
        self._giveUp()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self, outcome: Negotiated) -> None:
        association = self.association
        try:
            answer = ask(
                self._factory.events.OnConnection,
                association.callingAETitle,
                association.calledAETitle,
                association.callingHost,
                association,
            )
        except Exception:
            # The application's own code: whatever it raises is its answer.
            self._answered(Failure(), outcome)
            return
        if not isinstance(answer, Deferred):
            self._answered(answer, outcome)
            return
        deadline = Deadline(self._factory.clock, self._factory.configuration.connectionEventDeadline)
        self._asking = asking = deadline.of(answer, "OnConnection")
        asking.addBoth(self._answeredLater, outcome)
        if self._isOver:
            # OnConnection aborted it, and answers all the same.
            asking.cancel()

    def _answeredLater(self, answer: object, outcome: Negotiated) -> None:
        self._asking = None
        self._answered(answer, outcome)
        if not self._isOver:
            self._decided()

    def _answered(self, answer: object, outcome: Negotiated) -> None:
        if self._isOver:
            # The peer is gone, nobody is there to be told.
            if isinstance(answer, Failure) and not answer.check(CancelledError, AssociationRejected):
                _log.failure("OnConnection failed for {association}", answer, association=self.association)
        elif answer is True:
            self.answer = outcome
        elif answer is None:
            self._reject(AssociateRJ(1, 1, 1), "by OnConnection, which answered None instead of True or False")
        elif isinstance(answer, Failure):
            self._failed(answer)
        else:
            self._reject(AssociateRJ(1, 1, 1), "by OnConnection")

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, AssociationRejected):
            self._reject(AssociateRJ(error.result, error.source, error.reason), "by OnConnection")
        elif isinstance(error, DeadlinePassed):
            self._reject(_EVENT_FAILED, f"because OnConnection did not answer within {error}")
        else:
            _log.failure("OnConnection failed for {association}", failure, association=self.association)
            self._reject(_EVENT_FAILED, "because OnConnection failed")

    def _reject(self, rejection: AssociateRJ, why: str) -> None:
        self._giveUp()
        self.answer = rejection
        self.why = why

    def _giveUp(self) -> None:
        if self._protocol.pull is not None:
            self._protocol.pull.giveUp(self.association)
