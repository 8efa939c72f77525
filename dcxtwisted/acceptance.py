"""
An association from its request to its answer, and as an application sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.deadlines import Deadline
from dcxtwisted.errors import AssociationRejected, DeadlinePassed
from dcxtwisted.escaping import escaped
from dcxtwisted.events import ask
from dcxtwisted.interfaces import IAssociation, IObjectInMemory, Outcome, TLSFacts
from dcxtwisted.policy import Facts, ServiceName, addressFrom, decide
from dcxtwisted.security import factsOf
from dcxtwisted.transports import hostOf
from dcxtwisted.uids import VERIFICATION
from dcxtwisted.users import User, Users
from dcxtwisted.wire.items import USER_IDENTITY_TYPES, UserIdentityRequest
from dcxtwisted.wire.negotiation import AcceptedContext, Negotiated, answeringIdentity, negotiate, withoutClasses
from dcxtwisted.wire.pdu import AssociateRJ, AssociateRQ

if TYPE_CHECKING:
    from dcxtwisted.association import AssociationProtocol
    from dcxtwisted.factory import AssociationFactory
    from dcxtwisted.pull import Gate

_log = Logger()

#: Rejected transiently, by the presentation layer's provider: local limit exceeded (PS3.8 9.3.4).
_LOCAL_LIMIT_EXCEEDED: Final = AssociateRJ(2, 3, 2)
#: OnConnection, or a checker, failed or was late: rejected transiently by the service user, no reason.
_EVENT_FAILED: Final = AssociateRJ(2, 1, 1)
_USER_NOT_CONFIRMED: Final = AssociateRJ(1, 1, 1)
_CALLED_AE_TITLE_NOT_RECOGNIZED: Final = AssociateRJ(1, 1, 7)


@implementer(IAssociation)
class Association:
    """One association as an application sees it; the attributes are those of ``IAssociation``."""

    objectsStored = 0
    objectsRefused = 0
    bytesReceived = 0
    ended = ""
    notAccepted: tuple[str, ...] = ()  # SOP classes of refused contexts, for the log
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
        self.user = ""
        self.acceptedContexts: Mapping[int, AcceptedContext] = {}
        self.maximumLengthToSend = 0
        self.operationsWindow = 1
        self.startedAt = startedAt
        self.duplicates: Counter[Outcome] = Counter()
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
    The way of one A-ASSOCIATE-RQ to its answer: negotiation, the policy, the limits, then OnConnection.

    Where users are confirmed the policy comes behind the limits: a checker may take its time, and is to be spared.

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
        self._asking: Deferred[Any] | None = None
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
        isKnown = request.calledAETitle == AETitle.strip() or request.calledAETitle in factory.entities
        if configuration.checkCalledAETitle and not isKnown:
            self._reject(_CALLED_AE_TITLE_NOT_RECOGNIZED, "because it calls another AE title")
            return
        users = factory.users
        if users is None:
            judged = self._judged(outcome)
            if judged is None:
                return
            outcome = judged
        if pull is not None and not pull.reserve(association):
            waiting = factory.admission.refuse("maximumAssociationsWaiting")
            self._reject(_LOCAL_LIMIT_EXCEEDED, f"because as many wait to be asked for as may, {waiting}")
            return
        reached = factory.admission.admit(self._protocol, association.callingHost, association.callingAETitle)
        if not isinstance(reached, Deferred):
            self._admitted(reached, outcome, users)
            return
        # Another process answers.
        deadline = Deadline(factory.clock, configuration.connectionEventDeadline)
        self._asking = asking = deadline.of(reached, "the supervisor")
        asking.addCallbacks(self._admittedLater, self._notAdmitted, callbackArgs=(outcome, users))

    def _admittedLater(self, reached: str | None, outcome: Negotiated, users: Users | None) -> None:
        self._asking = None
        if self._isOver:
            return
        self._admitted(reached, outcome, users)
        if self.answer is not None:
            self._decided()

    def _notAdmitted(self, failure: Failure) -> None:
        self._asking = None
        if not self._isOver:
            self._reject(_EVENT_FAILED, "because the supervisor did not answer")
            self._decided()

    def _admitted(self, reached: str | None, outcome: Negotiated, users: Users | None) -> None:
        if reached is not None:
            self._reject(_LOCAL_LIMIT_EXCEEDED, f"because a limit is reached, {reached}")
            return
        association = self.association
        association.acceptedContexts = outcome.contexts
        association.notAccepted = tuple(
            dict.fromkeys(name for ID, name in outcome.proposed.items() if ID not in outcome.contexts)
        )
        association.maximumLengthToSend = outcome.maximumLengthToSend
        association.operationsWindow = outcome.operationsWindow
        if users is None:
            self._ask(outcome)
        else:
            self._identify(users, outcome)

    def cancel(self) -> None:
        """Nobody waits for an answer any more."""
        self._isOver = True
        self._giveUp()
        if self._asking is not None:
            self._asking.cancel()

    def _judged(self, outcome: Negotiated) -> Negotiated | None:
        """Return the terms that the policy leaves; None where it leaves none, and the answer is there."""
        rules = self._factory.rules
        if not rules:
            return outcome
        association = self.association
        security = association.security
        facts = Facts(
            callingAETitle=association.callingAETitle,
            calledAETitle=association.calledAETitle,
            address=addressFrom(association.callingHost),
            TLSSubject=security.peerSubject if security is not None else "",
            TLSThumbprint=security.peerThumbprint if security is not None else "",
            user=association.user,
        )
        services = {context.abstractSyntax: _serviceOf(context) for context in outcome.contexts.values()}
        decision = decide(rules, facts, frozenset(services.values()))
        if decision.rejection is not None:
            self._reject(decision.rejection, decision.why)
            return None
        refused = {syntax for syntax, service in services.items() if service not in decision.services}
        if not refused:
            return outcome
        _log.info(
            "contexts refused by the policy for {association}: {services}",
            association=association,
            services=", ".join(sorted(service.value for service in set(services.values()) - decision.services)),
        )
        outcome = withoutClasses(outcome, refused)
        association.acceptedContexts = outcome.contexts
        return outcome

    def _identify(self, users: Users, outcome: Negotiated) -> None:
        deadline = Deadline(self._factory.clock, self._factory.configuration.connectionEventDeadline)
        identifying = users.identify(self.association.userIdentity)
        self._asking = asking = deadline.of(identifying, "a checker of users")
        asking.addCallbacks(self._identified, self._notIdentified, callbackArgs=(outcome,))

    def _identified(self, user: User, outcome: Negotiated) -> None:
        self._asking = None
        if self._isOver:
            return
        self.association.user = user.name
        judged = self._judged(answeringIdentity(outcome, user.response))
        if judged is not None:
            self._ask(judged)
        if self.answer is not None:
            self._decided()

    def _notIdentified(self, failure: Failure) -> None:
        self._asking = None
        if self._isOver:
            return
        if failure.check(UnauthorizedLogin):
            self._reject(_USER_NOT_CONFIRMED, "because no user is confirmed")
        else:
            self._reject(_EVENT_FAILED, "because a checker of users failed or was late")
        self._decided()

    def _ask(self, outcome: Negotiated) -> None:
        association = self.association
        try:
            answer = ask(
                self._factory.eventsOf(association).OnConnection,
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
            self._reject(_EVENT_FAILED, f"because OnConnection did not answer {error}")
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


def _serviceOf(context: AcceptedContext) -> ServiceName:
    return ServiceName.VERIFICATION if context.abstractSyntax == VERIFICATION else ServiceName.STORAGE
