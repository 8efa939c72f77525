"""
The embedding API: a listener as a Twisted service, joined from its parts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from os.path import abspath
from typing import Any, TypeAlias, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.configuration import DEFAULT_LAYOUT, Configuration
from dcxtwisted.deadlines import Deadline
from dcxtwisted.dimse import DIMSEProvider
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.events import DCXACCEvents
from dcxtwisted.factory import AssociationFactory
from dcxtwisted.interfaces import (
    IAssociation,
    IDCXACCEvents,
    IDIMSEProvider,
    IDIMSEService,
    IStore,
    IStoreParticipant,
)
from dcxtwisted.services.scope import StorageScope
from dcxtwisted.services.storage import StorageService
from dcxtwisted.services.verification import VerificationService
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.layout import Layout
from dcxtwisted.stores.memory import MemoryStore, ObjectInMemory
from dcxtwisted.transports import addressOf
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import Negotiated, TransferSyntaxes

_log = Logger()

#: What says where to listen.
Listening: TypeAlias = IStreamServerEndpoint | int | str


class DCXACC(Service):
    """
    A DICOM listener: a Storage SCP and Verification SCP that asks an application what to do.

    Start it as any Twisted service, under ``twistd``, in a parent service, or with ``startService``. Stopping it stops
    listening, lets the objects in flight finish (``configuration.stopDeadline``), and aborts what is left.

    :param endpoints: where to listen: port numbers (on IPv6 and IPv4), Twisted endpoint strings, endpoints.
    :param events: an ``IDCXACCEvents`` provider; the default accepts and stores everything.
    :param storeDirectory: the root of the file store; made at the start where it is missing.
    :param layout: a template for the names of files below it; see ``stores.layout.Layout``.
    :param durable: False acknowledges before the disk has the object: for tests and benchmarks.
    :param store: takes the objects instead of the file store; application-given paths still go to files.
    :param participants: run between the store and OnStoreDone, in this order.
    :param reactor: the reactor to run on; the one installed by default.
    :ivar factory: the protocol factory, for those who listen on their own.
    :ivar memory: the store of objects in memory; C{store} itself where that is one.
    """

    def __init__(
        self,
        endpoints: Listening | Sequence[Listening],
        events: IDCXACCEvents | None = None,
        *,
        storeDirectory: str = "dicom-store",
        layout: str = DEFAULT_LAYOUT,
        durable: bool = True,
        store: IStore | None = None,
        participants: Sequence[IStoreParticipant] = (),
        configuration: Configuration | None = None,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor  # only now: importing it installs one
        given = [endpoints] if isinstance(endpoints, int | str) or not isinstance(endpoints, Sequence) else endpoints
        if events is not None and not IDCXACCEvents.providedBy(events):
            raise TypeError(f"events must provide IDCXACCEvents, which {events!r} does not")
        self.events: IDCXACCEvents = DCXACCEvents() if events is None else events
        self.configuration = Configuration() if configuration is None else configuration
        self.storeDirectory = abspath(storeDirectory)
        self._clock = cast(IReactorTime, reactor)
        self._endpoints = [endpointFrom(reactor, endpoint) for endpoint in given]
        self._ports: list[IListeningPort] = []
        self._listening: Deferred[Any] | None = None
        self._whenStopped: list[Deferred[None]] = []
        self._files = FileStore(self.storeDirectory, Layout(layout), durable=durable, reactor=reactor)
        self._isGivenMemory = isinstance(store, MemoryStore)
        self.memory = store if isinstance(store, MemoryStore) else self._makeMemory()
        self._store = self._files if store is None else store
        eventDeadline = Deadline(self._clock, self.configuration.eventDeadline)
        self._storage = StorageService(
            self.events,
            self._store,
            self._files,
            self.memory,
            self.storeDirectory,
            eventDeadline,
            Deadline(self._clock, self.configuration.storeDeadline),
            participants,
            StorageScope(self.configuration.acceptUnknown, self.configuration.acceptReferencedPixels),
        )
        services: list[IDIMSEService] = [VerificationService(self.events, eventDeadline), self._storage]
        self._services: Mapping[int, IDIMSEService] = {
            field: service for service in services for field in service.commandFields
        }
        self.factory = AssociationFactory(
            self.configuration,
            self.events,
            self._clock,
            _transferSyntaxes(services),
            self._makeProvider,
            self.memory.take,
            self.memory.giveUp,
        )

    def _makeMemory(self) -> MemoryStore:
        configuration = self.configuration
        return MemoryStore(
            configuration.memoryBudget,
            configuration.memoryOverflow,
            configuration.spillBudget,
            directory=self.storeDirectory,
            reactor=self._clock,
            threads=self._files.threads,
        )

    def _makeProvider(
        self,
        negotiated: Negotiated,
        association: IAssociation,
        send: Callable[[Response], None],
        wake: Callable[[], None],
    ) -> IDIMSEProvider:
        return DIMSEProvider(self._services, negotiated, association, send, wake)

    @property
    def associations(self) -> Sequence[IAssociation]:
        """Every accepted association that is not over."""
        return list(self.factory.associations)

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened to connections and associations since the start, by name."""
        return Counter(self.factory.admission.counts)

    @property
    def ports(self) -> Sequence[IListeningPort]:
        """The ports listened on; empty before the start and after the stop."""
        return list(self._ports)

    @property
    def EnableInMemoryStorageSCP(self) -> bool:
        """
        Whether None, as OnStoreSetup's answer, keeps an object in memory; False at first.

        It can be set at any time, and goes for the objects that are announced from then on.
        """
        return self._storage.store is self.memory

    @EnableInMemoryStorageSCP.setter
    def EnableInMemoryStorageSCP(self, enabled: bool) -> None:
        self._storage.store = self.memory if enabled else self._store

    def TakeStoredObject(self) -> ObjectInMemory | None:
        """
        Hand over the oldest object in memory, and forget it; None where there is none.

        ``IAssociation.TakeStoredObject`` tells when one can be taken, and hands over those of one association. When the
        Deferred of C{stopService} has fired, and what it calls has run, what was not taken is dropped.
        """
        return self.memory.take()

    def AbortActiveAssociations(self) -> None:
        """Send A-ABORT on every association and close."""
        for association in self.associations:
            association.abort()

    def privilegedStartService(self) -> None:
        """
        Listen, while privileges last; what comes waits until the reactor goes on.

        :raise CannotListenError: a port cannot be had; then none is kept open.
        """
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Open the store, as whoever the process is by now, and listen where C{privilegedStartService} did not.

        :raise CannotListenError: a port cannot be had; then none is kept open.
        :raise OSError: the store directory cannot be made or written to; no port is kept open.
        """
        self._listen()
        if not self.running:
            try:
                # Behind the ports: a start that fails there leaves no thread to wait for.
                self._files.start()
            except Exception:
                self.stopService()
                raise
        super().startService()

    def _listen(self) -> None:
        if self._listening is not None:
            return
        if self._whenStopped:
            raise RuntimeError("still stopping: start again when the Deferred of stopService has fired")
        if getattr(self._clock, "seconds", None) is time.time:
            _log.info("the reactor's clock is wall time: setting it cuts deadlines short or draws them out")
        failures: list[Failure] = []
        attempts = [
            maybeDeferred(endpoint.listen, self.factory).addCallbacks(self._listens, failures.append)
            for endpoint in self._endpoints
        ]
        self._listening = DeferredList(attempts)
        if failures:
            # What fails at once is the caller's to deal with.
            self.stopService()
            failures[0].raiseException()
        self._listening.addCallback(self._listenedLate, failures)

    def _listens(self, port: IListeningPort) -> None:
        self._ports.append(port)
        _log.info("listening on {address}", address=addressOf(port.getHost()))

    def _listenedLate(self, ignored: object, failures: list[Failure]) -> None:
        """All endpoints have answered; where one could not listen, and nobody stops already, stop."""
        if failures and self._listening is not None:
            for failure in failures:
                _log.error("cannot listen: {error}", error=failure.value)
            self.stopService()

    def stopService(self) -> Deferred[None]:
        """Stop listening, finish what is in flight, abort the rest; the Deferred fires when nothing is left."""
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._whenStopped.append(stopped)
        if len(self._whenStopped) == 1:
            Deferred.fromCoroutine(self._stop()).addBoth(self._stopped)
        return stopped

    async def _stop(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()  # endpoints that have not answered yet: they do, at once
        ports, self._ports = self._ports, []
        await DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)
        await self.factory.stop(self.configuration.stopDeadline)
        await self._files.stop()

    def _stopped(self, result: Failure | None) -> None:
        waiting, self._whenStopped = self._whenStopped, []
        for stopped in waiting:
            stopped.callback(result)
        # Last, so that whoever waited for the end of all reception can take what is left.
        dropped = 0 if self._isGivenMemory else self.memory.clear()
        if dropped:
            _log.warn("dropped {count} objects in memory that nobody took", count=dropped)


def _transferSyntaxes(services: Sequence[IDIMSEService]) -> TransferSyntaxes:
    def find(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None) -> Container[str] | None:
        for service in services:
            taken = service.supports(abstractSyntax, common)
            if taken is not None:
                return taken
        return None

    return find
