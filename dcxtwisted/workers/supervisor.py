"""
The supervisor: listens, hands what comes to its workers, and has them start, reload and stop.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, TimeoutError, gatherResults, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.configuration import Configuration
from dcxtwisted.policy import Rule
from dcxtwisted.sections import Setup
from dcxtwisted.security import SecurityContext
from dcxtwisted.setups import Given
from dcxtwisted.transports import addressOf
from dcxtwisted.users import Users
from dcxtwisted.workers.accepting import PassingFactory, passOn
from dcxtwisted.workers.dispatch import Connection, Dispatch
from dcxtwisted.workers.link import WorkerLink
from dcxtwisted.workers.places import Place, Start

_log = Logger()

# Seconds that a worker is waited for beyond the deadline of a stop.
_GRACE: Final = 1.0


class Supervisor(Service):
    """
    A listener whose connections are served by several processes.

    It has of C{DCXACC} what does not take the one process: to wait for associations and commands, and to take objects
    from memory, does. The events are told in the workers, each of which has a provider of its own.

    :ivar configuration: what it and its workers go by.
    """

    def __init__(
        self,
        given: Given,
        setup: Setup,
        configuration: Configuration,
        *,
        endpoints: Sequence[IStreamServerEndpoint],
        tlsEndpoints: Sequence[IStreamServerEndpoint],
        securityContext: SecurityContext | None,
        start: Start,
        awaitStarted: Callable[[Sequence[Any]], object],
        reactor: Any,
    ) -> None:
        """
        :param given: what was said on the command line; a worker makes of it what was made of it here.
        :param setup: what that is.
        :param endpoints: where to listen; those of C{setup.listeners}.
        :param start: starts a process.
        :param awaitStarted: waits until processes are ready, or raises an OSError.
        """
        self.configuration = configuration
        self.policy: Sequence[Rule] = setup.policy
        self.users: Users | None = setup.users
        self.SecurityContext = securityContext
        #: The dotted name of what makes the providers of events; '' for none.
        self.events = setup.application.events
        self.storeDirectory = os.path.abspath(setup.storage.directory)
        self._given = attrs.evolve(given, directory=os.getcwd()).pinned()
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._endpoints = [*endpoints, *tlsEndpoints]
        self._firstTLS = len(endpoints)
        self._ports: dict[int, IListeningPort] = {}
        self._isListening = False
        self._awaitStarted = awaitStarted
        self._dispatch = Dispatch(configuration, self._clock, setup.listeners.workers)
        self._places = [
            Place(self._dispatch, worker, start, lambda: self._given, self._clock) for worker in self._dispatch.workers
        ]
        self._reloading = DeferredLock()
        self._stopped: list[Deferred[None]] = []
        self._late: IDelayedCall | None = None

    @property
    def associations(self) -> Sequence[Connection]:
        """Every accepted association that is not over, of all workers."""
        return self._dispatch.associations

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened to connections and associations since the start, by name, as far as it is counted here."""
        return Counter(self._dispatch.admission.counts)

    @property
    def ports(self) -> Sequence[IListeningPort]:
        """The ports listened on."""
        return [self._ports[number] for number in sorted(self._ports)]

    @property
    def tlsPorts(self) -> Sequence[IListeningPort]:
        """Those of them that speak TLS."""
        return [self._ports[number] for number in sorted(self._ports) if number >= self._firstTLS]

    def AbortActiveAssociations(self) -> None:
        """Abort the associations of all workers."""
        for association in self.associations:
            association.abort()

    def abortAll(self) -> None:
        """Have the workers abort everything; one that stops, and does not end then, is killed."""
        for place in self._places:
            if place.link is not None:
                place.link.abortAll()
        if self._late is not None and self._late.active():
            self._late.reset(_GRACE)

    def WaitForConnection(self, *how: object, **more: object) -> NoReturn:
        """Raise RuntimeError: an association that is waited for is handed out here, and served elsewhere."""
        _takesOneProcess("WaitForConnection")

    def WaitForCommand(self, *how: object, **more: object) -> NoReturn:
        """Raise RuntimeError."""
        _takesOneProcess("WaitForCommand")

    def TakeStoredObject(self) -> NoReturn:
        """Raise RuntimeError: the memory is the workers'; C{IAssociation.TakeStoredObject} works there."""
        _takesOneProcess("TakeStoredObject")

    @property
    def EnableInMemoryStorageSCP(self) -> bool:
        """False; to set it raises RuntimeError."""
        return False

    @EnableInMemoryStorageSCP.setter
    def EnableInMemoryStorageSCP(self, enabled: bool) -> None:
        _takesOneProcess("EnableInMemoryStorageSCP")

    # The service

    def privilegedStartService(self) -> None:
        """
        Listen, while privileges last; what comes waits until there are workers.

        :raise CannotListenError: a port cannot be had.
        """
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Start the workers, and wait until they are ready.

        :raise CannotListenError: a port cannot be had.
        :raise OSError: a worker cannot start.
        """
        self._listen()
        try:
            for place in self._places:
                place.start()
            self._awaitStarted([place.process for place in self._places])
        except OSError:
            for place in self._places:
                place.kill()
            self.stopService()
            raise
        for place in self._places:
            place.connect()
        super().startService()

    def _listen(self) -> None:
        if self._isListening:
            return
        self._isListening = True
        failures: list[Failure] = []
        for number, endpoint in enumerate(self._endpoints):
            factory = PassingFactory(number, self._dispatch.arrived)
            attempt = maybeDeferred(endpoint.listen, factory)
            attempt.addCallback(self._listens, number).addErrback(failures.append)
        if failures:
            self.stopService()
            failures[0].raiseException()
        if len(self._ports) < len(self._endpoints):
            self.stopService()
            raise OSError("an endpoint does not listen at once, which takes one process (--workers 1)")

    def _listens(self, port: IListeningPort, number: int) -> None:
        try:
            passOn(port)
        except ValueError:
            port.stopListening()
            raise
        self._ports[number] = port
        how = " with TLS" if number >= self._firstTLS else ""
        _log.info("listening on {address}{how}", address=addressOf(port.getHost()), how=how)

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, have the workers finish what is in flight and end; fires when all are gone.

        It fails with ChildProcessError where one did not end in order.
        """
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        if len(self._stopped) == 1:
            Deferred.fromCoroutine(self._stop()).addBoth(self._hasStopped)
        return stopped

    async def _stop(self) -> None:
        ports, self._ports = self._ports, {}
        await DeferredList([maybeDeferred(port.stopListening) for port in ports.values()], consumeErrors=True)
        self._dispatch.stop()
        late = self._late = self._clock.callLater(self.configuration.stopDeadline + _GRACE, self._kill)
        ended = await gatherResults([place.stop() for place in self._places])
        if late.active():
            late.cancel()
        if not all(ended):
            raise ChildProcessError("a worker did not end in order")

    def _hasStopped(self, result: Failure | None) -> None:
        stopped, self._stopped = self._stopped, []
        self._isListening = False
        for each in stopped:
            each.callback(result)

    def _kill(self) -> None:
        for place in self._places:
            if place.process is not None:
                _log.error("process {pid} does not end: killed", pid=place.process.pid)
                place.kill()

    # Reading again

    def reload(self) -> Deferred[Sequence[str]]:
        """
        Have all workers read again what can change, and put it into effect where it is good for all of them.

        :return: fires with what that is, or fails with ValueError; then all stays as it was.
        """
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> Sequence[str]:
        given = attrs.evolve(self._given, content=None).pinned()
        setup, configuration = given.settle(self._reactor)
        places = [place for place in self._places if place.link is not None]
        for _, isAnswer, answer in await self._ask(places, lambda link: link.prepare(given)):
            if not (isAnswer or _isLost(answer)):
                raise ValueError("a worker does not answer" if answer.check(TimeoutError) else answer.getErrorMessage())
        self._given = given
        self.configuration = self._dispatch.admission.limits = self.configuration.withChanges(configuration)
        self.policy, self.users = setup.policy, setup.users
        for place in places:
            place.given = given
        said = []
        for place, isAnswer, answer in await self._ask(places, lambda link: link.use()):
            if isAnswer:
                said.append(answer)
            elif not _isLost(answer) and place.process is not None:
                # All others go by it already, and so will the one that is started in its place.
                _log.error("process {pid} does not go by what was reloaded: killed", pid=place.process.pid)
                place.kill()
        # Those that were started meanwhile go by what was there before: others take their places.
        for place in self._places:
            if place.link is not None and place.given is not given:
                place.link.stop()
        return said[0] if said else ["all of it, for the workers that are started from now on"]

    async def _ask(
        self, places: Sequence[Place], ask: Callable[[WorkerLink], Deferred[Any]]
    ) -> Sequence[tuple[Place, bool, Any]]:
        """Return what each worker answers, or how it failed."""
        asked = [(place, ask(place.link)) for place in places if place.link is not None]
        for _, answer in asked:
            answer.addTimeout(self.configuration.eventDeadline, self._clock)
        answers: Any = await DeferredList([answer for _, answer in asked], consumeErrors=True)
        return [(place, *answer) for (place, _), answer in zip(asked, answers, strict=True)]


def _isLost(failure: Failure) -> bool:
    """Whether a worker has died: it is none of those that decide, and is started with what is new."""
    return failure.check(ConnectionDone, ConnectionLost) is not None


def _takesOneProcess(name: str) -> NoReturn:
    raise RuntimeError(f"{name} takes one process: --workers 1")
