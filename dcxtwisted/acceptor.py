"""
The embedding API: a listener as a Twisted service, joined from its parts.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, cast

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.configuration import DEFAULT_LAYOUT, Configuration
from dcxtwisted.dimse import DIMSEProvider
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.entities import ApplicationEntity, Served, checkDistinct, fileStoreFrom
from dcxtwisted.events import DCXACCEvents, checkReactor, misspelt
from dcxtwisted.factory import AssociationFactory
from dcxtwisted.interfaces import (
    IDCXACC,
    IAssociation,
    IDCXACCEvents,
    IDIMSEProvider,
    IDIMSEService,
    IStore,
    IStoreParticipant,
)
from dcxtwisted.policy import Rule
from dcxtwisted.ports import Listening, Ports
from dcxtwisted.pull import PullPort
from dcxtwisted.security import SecurityContext, ServerSecurity
from dcxtwisted.services.refusals import UNFIT_STATUSES, NextStatus
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.memory import MemoryStore, ObjectInMemory
from dcxtwisted.tls import TLSFactory
from dcxtwisted.users import Users
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import Negotiated, TransferSyntaxes

_log = Logger()


@implementer(IDCXACC)
class DCXACC(Service):
    """
    A DICOM listener: a Storage SCP and Verification SCP that asks an application what to do.

    Start it as any Twisted service, under ``twistd``, in a parent service, or with ``startService``: it serves what
    comes to ``endpoints``. Or wait for associations, on whatever ports, and for their commands, with the calls of
    ``IDCXACC``: nothing is served that is not waited for. A port is one or the other. Stopping the service stops
    listening, lets the objects in flight finish (``configuration.stopDeadline``), and aborts what is left.

    :param endpoints: where to listen: port numbers (on IPv6 and IPv4), Twisted endpoint strings, endpoints.
    :param events: an ``IDCXACCEvents`` provider; the default accepts and stores everything.
    :param storeDirectory: the root of the file store; made at the start where it is missing.
    :param layout: a template for the names of files below it; see ``stores.layout.Layout``.
    :param durable: False acknowledges before the disk has the object: for tests and benchmarks.
    :param store: takes the objects instead of the file store; application-given paths still go to files.
    :param participants: run between the store and OnStoreDone, in this order.
    :param tlsEndpoints: where to listen with TLS, as C{endpoints}; takes C{securityContext}.
    :param entities: AE titles that are served here beside C{configuration.AETitle}, each with what is its own.
    :param policy: who may come in, and for what; without any rule everyone may. See ``policy.Rule``.
    :param users: who confirms user identities; None leaves them to OnConnection.
    :param reactor: the reactor to run on; the one installed by default.
    :raise SecurityError: a certificate, key or list of C{securityContext} cannot be used.
    :ivar factory: the protocol factory, for those who listen on their own.
    :ivar memory: the store of objects in memory; C{store} itself where that is one.
    """

    def __init__(
        self,
        endpoints: Listening | Sequence[Listening] = (),
        events: IDCXACCEvents | None = None,
        *,
        storeDirectory: str = "dicom-store",
        layout: str = DEFAULT_LAYOUT,
        durable: bool = True,
        store: IStore | None = None,
        participants: Sequence[IStoreParticipant] = (),
        configuration: Configuration | None = None,
        tlsEndpoints: Listening | Sequence[Listening] = (),
        securityContext: SecurityContext | None = None,
        entities: Sequence[ApplicationEntity] = (),
        policy: Sequence[Rule] = (),
        users: Users | None = None,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor  # only now: importing it installs one
        if events is not None and not IDCXACCEvents.providedBy(events):
            raise TypeError(f"events must provide IDCXACCEvents, which {events!r} does not")
        self.events: IDCXACCEvents = DCXACCEvents() if events is None else events
        self.configuration = Configuration() if configuration is None else configuration
        self._reactor = reactor
        self._clock = cast(IReactorTime, reactor)
        self._handedOut: IAssociation | None = None
        self._whenStopped: list[Deferred[None]] = []
        checkDistinct(self.configuration.AETitle, storeDirectory, entities)
        self._durable = durable
        files = self._files = self._fileStore(storeDirectory, layout)
        self._nextStatus = NextStatus()
        self._isGivenMemory = isinstance(store, MemoryStore)
        self.memory = store if isinstance(store, MemoryStore) else self._makeMemory(files)
        self._own = self._serve(self.events, files, store, participants)
        self._entities = {
            entity.AETitle: self._serve(
                self.events if entity.events is None else entity.events,
                self._fileStore(entity.storeDirectory, entity.layout),
                None,
                participants,
            )
            for entity in entities
        }
        self.factory = AssociationFactory(
            self.configuration,
            self.events,
            self._clock,
            _transferSyntaxes(self._own.inOrder),
            self._makeProvider,
            self.memory.take,
            self._giveUp,
        )
        self.factory.entities = {title: served.events for title, served in self._entities.items()}
        self.factory.rules = tuple(policy)
        self.factory.users = users
        self._preparations: list[Callable[[], Callable[[], str]]] = [self._prepareSecurity]
        self._ports = Ports(
            endpoints, tlsEndpoints, self.factory, self._endpointFrom, self._openStore, self.stopService
        )
        self.SecurityContext = securityContext

    def _fileStore(self, directory: str, layout: str) -> FileStore:
        return fileStoreFrom(directory, layout, self.configuration, durable=self._durable, reactor=self._reactor)

    def _makeMemory(self, files: FileStore) -> MemoryStore:
        configuration = self.configuration
        return MemoryStore(
            configuration.memoryBudget,
            configuration.memoryOverflow,
            configuration.spillBudget,
            directory=files.root,
            reactor=self._clock,
            threads=files.threads,
            minimumFreeBytes=configuration.minimumFreeBytes,
            minimumFreeInodes=configuration.minimumFreeInodes,
        )

    def _serve(
        self, events: IDCXACCEvents, files: FileStore, store: IStore | None, participants: Sequence[IStoreParticipant]
    ) -> Served:
        return Served(
            events, files, self.memory, store, participants, self.configuration, self._clock, self._nextStatus
        )

    @property
    def _allServed(self) -> Sequence[Served]:
        return [self._own, *self._entities.values()]

    def _makeProvider(
        self,
        negotiated: Negotiated,
        association: IAssociation,
        send: Callable[[Response], None],
        wake: Callable[[], None],
    ) -> IDIMSEProvider:
        services = self._entities.get(association.calledAETitle, self._own).services
        return DIMSEProvider(services, negotiated, association, send, wake)

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
        return self._ports.all

    @property
    def tlsPorts(self) -> Sequence[IListeningPort]:
        """Those of them that speak TLS."""
        return self._ports.withTLS

    @property
    def storeDirectory(self) -> str:
        """The absolute path of the root of the file store."""
        return self._own.files.root

    # The SDK's calls, by the SDK's names

    @property
    def StoreDirectory(self) -> str:
        """See ``IDCXACC``. Set while the store is open, it raises RuntimeError; to what cannot be one, ValueError."""
        return self._own.files.root

    @StoreDirectory.setter
    def StoreDirectory(self, directory: str) -> None:
        if not directory:
            raise ValueError("StoreDirectory takes a directory, not ''")
        if os.path.abspath(directory) in {served.files.root for served in self._entities.values()}:
            raise ValueError(f"another AE title has the store directory {directory}")
        self._own.files.moveTo(directory)
        self._own.storage.root = self._own.files.root
        if not self._isGivenMemory:
            self.memory.spillSpace.directory = self._own.files.root

    @property
    def SecurityContext(self) -> SecurityContext | None:
        """See ``IDCXACC``. To set one that cannot be used raises SecurityError; while it listens, RuntimeError."""
        return self._securityContext

    @SecurityContext.setter
    def SecurityContext(self, securityContext: SecurityContext | None) -> None:
        if self._ports.areServed or self.ports:
            # Nobody is to find a port without TLS who took it for one with it.
            raise RuntimeError("it listens already; reload() reads the files of its security context again")
        if securityContext is None and self._ports.isTLSServed:
            raise ValueError("TLS takes a certificate: a security context that names it")
        self._ports.security = None if securityContext is None else ServerSecurity(securityContext)
        self._securityContext = securityContext

    @property
    def NextStorageResponseStatus(self) -> int | None:
        """See ``IDCXACC``. One that is no final status raises ValueError."""
        return self._nextStatus.value

    @NextStorageResponseStatus.setter
    def NextStorageResponseStatus(self, status: int | None) -> None:
        isFit = isinstance(status, int) and 0 <= status <= 0xFFFF and status not in UNFIT_STATUSES
        if not (status is None or isFit):
            raise ValueError(f"not the status of a last response: {status!r}")
        self._nextStatus.value = status

    @property
    def EnableInMemoryStorageSCP(self) -> bool:
        """
        Whether None, as OnStoreSetup's answer, keeps an object in memory; False at first.

        It can be set at any time, and goes for the objects that are announced from then on.
        """
        return self._own.storage.store is self.memory

    @EnableInMemoryStorageSCP.setter
    def EnableInMemoryStorageSCP(self, enabled: bool) -> None:
        for served in self._allServed:
            served.storage.store = self.memory if enabled else served.store

    def TakeStoredObject(self) -> ObjectInMemory | None:
        """
        Hand over the oldest object in memory, and forget it; None where there is none.

        ``IAssociation.TakeStoredObject`` tells when one can be taken, and hands over those of one association. When the
        Deferred of C{stopService} has fired, and what it calls has run, what was not taken is dropped.
        """
        return self.memory.take()

    def AbortActiveAssociations(self) -> None:
        """See ``IDCXACC``."""
        for association in self.associations:
            association.abort()

    def abortAll(self) -> None:
        """Abort every association and close every connection, now."""
        self.factory.abortAll()

    def factoryFor(self, isTLS: bool) -> IProtocolFactory:
        """
        Return what makes protocols for connections that were accepted elsewhere.

        :param isTLS: they are to speak TLS, as C{SecurityContext} says.
        """
        if not isTLS:
            return self.factory
        security = self._ports.security
        if security is None:
            raise ValueError("TLS takes a certificate: a security context that names it")
        return TLSFactory(security, self.factory, self._clock, self.factory.admission.counts)

    def addReload(self, prepare: Callable[[], Callable[[], str]]) -> None:
        """
        Have something more read again by L{reload}.

        :param prepare: reads and checks it, changing nothing, and raises ValueError where it is no good; what it
            returns puts it into effect, and tells in a few words what that is.
        """
        self._preparations.append(prepare)

    def reload(self) -> Sequence[str]:
        """
        Read again what can change while associations stand, and put all of it into effect; return what that is.

        TLS certificates, keys and lists then serve the connections that come; those that stand keep theirs.

        :raise ValueError: something is no good, and all of it stays as it was.
        """
        return self.prepareReload()()

    def prepareReload(self) -> Callable[[], Sequence[str]]:
        """
        Read again what L{reload} does, changing nothing; what is returned puts it into effect.

        :raise ValueError: something is no good.
        """
        prepared = [prepare() for prepare in self._preparations]
        return lambda: [said for use in prepared if (said := use())]

    def _prepareSecurity(self) -> Callable[[], str]:
        security = self._ports.security
        return (lambda: "") if security is None else security.prepare()

    @property
    def policy(self) -> Sequence[Rule]:
        """Who may come in, and for what; what is set goes for the associations that are requested from then on."""
        return self.factory.rules

    @policy.setter
    def policy(self, rules: Sequence[Rule]) -> None:
        self.factory.rules = tuple(rules)

    @property
    def users(self) -> Users | None:
        """Who confirms user identities; what is set goes for the associations that are requested from then on."""
        return self.factory.users

    @users.setter
    def users(self, users: Users | None) -> None:
        self.factory.users = users

    def reconfigure(self, configuration: Configuration) -> Sequence[str]:
        """
        Go by another configuration as far as can be while associations stand; return the settings that take a restart.

        Limits, deadlines and relaxations change. Associations that stand keep the deadlines on their peers, but not
        those on events and stores.
        """
        self.configuration = changed = self.configuration.withChanges(configuration)
        self.factory.reconfigure(changed)
        for served in self._allServed:
            served.reconfigure(changed)
        return changed.differences(configuration)

    def WaitForConnection(
        self, ae_title: str, port: Listening, timeout: float | None = None
    ) -> Deferred[IAssociation | None]:
        """See ``IDCXACC``."""
        try:
            pull = self._pullPort(ae_title, port)
        except (ValueError, RuntimeError):
            return fail()
        return pull.wait(timeout).addCallback(self._handOut)

    def WaitForCommand(self, timeout: float | None = None) -> Deferred[bool]:
        """See ``IDCXACC``."""
        if self._handedOut is None:
            return fail(RuntimeError("no association was handed out yet: WaitForConnection comes first"))
        return self._handedOut.WaitForCommand(timeout)

    def StopListener(self) -> Deferred[None]:
        """See ``IDCXACC``."""
        return self._ports.stop()

    def _pullPort(self, ae_title: str, port: Listening) -> PullPort:
        if self._whenStopped:
            raise RuntimeError("still stopping: wait for connections when the Deferred of stopService has fired")
        AETitle = evolve(self.configuration, AETitle=ae_title).AETitle if ae_title else self.configuration.AETitle
        if not self.ports:
            self._checkEvents()
        pull = self._ports.pull(port)
        pull.AETitle = AETitle
        return pull

    def _handOut(self, association: IAssociation | None) -> IAssociation | None:
        if association is not None:
            self._handedOut = association
        return association

    # The service

    def privilegedStartService(self) -> None:
        """
        Listen, while privileges last; what comes waits until the reactor goes on.

        :raise ValueError: there are C{asyncioEvents}, and the reactor does not run asyncio.
        :raise CannotListenError: a port cannot be had; then none is kept open.
        """
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Open the store, as whoever the process is by now, and listen where C{privilegedStartService} did not.

        :raise ValueError: there are C{asyncioEvents}, and the reactor does not run asyncio.
        :raise CannotListenError: a port cannot be had; then none is kept open.
        :raise OSError: the store directory cannot be made or written to; no port is kept open.
        """
        self._listen()
        if not self.running:
            try:
                # Behind the ports: a start that fails there leaves no thread to wait for.
                self._openStore()
            except Exception:
                self.stopService()
                raise
        super().startService()

    def _listen(self) -> None:
        if self._ports.areServed:
            return
        if self._whenStopped:
            raise RuntimeError("still stopping: start again when the Deferred of stopService has fired")
        if getattr(self._clock, "seconds", None) is time.time:
            _log.info("the reactor's clock is wall time: setting it cuts deadlines short or draws them out")
        self._checkEvents()
        failure = self._ports.serve()
        if failure is not None:
            self.stopService()
            failure.raiseException()

    def _checkEvents(self) -> None:
        providers = {id(served.events): served.events for served in self._allServed}
        for events in providers.values():
            checkReactor(events, self._reactor)
            for line in misspelt(events):
                _log.warn("{line}", line=line)

    def _endpointFrom(self, description: Listening) -> IStreamServerEndpoint:
        return endpointFrom(self._reactor, description)

    def _openStore(self) -> None:
        for served in self._allServed:
            served.files.start()

    def stopService(self) -> Deferred[None]:
        """Stop listening, finish what is in flight, abort the rest; the Deferred fires when nothing is left."""
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._whenStopped.append(stopped)
        if len(self._whenStopped) == 1:
            Deferred.fromCoroutine(self._stop()).addBoth(self._stopped)
        return stopped

    def _giveUp(self) -> None:
        """Every association is aborted: what may wait for long, for an application, does not."""
        self.memory.giveUp()
        for served in self._allServed:
            served.hurry()

    async def _stop(self) -> None:
        await self.StopListener()
        await self.factory.stop(self.configuration.stopDeadline)
        for served in self._allServed:
            await served.files.stop()

    def _stopped(self, result: Failure | None) -> None:
        for served in self._allServed:
            served.takeTime()
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
