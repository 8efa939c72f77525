"""
The embedding API: a listener as a Twisted service, joined from its parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from os.path import abspath
from typing import Any, TypeAlias, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.association import AssociationFactory
from dcxtwisted.configuration import DEFAULT_LAYOUT, Configuration
from dcxtwisted.dimse import DIMSEProvider
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.events import DCXACCEvents
from dcxtwisted.interfaces import (
    IAssociation,
    IDCXACCEvents,
    IDIMSEProvider,
    IDIMSEService,
    IStore,
    IStoreParticipant,
)
from dcxtwisted.services.storage import StorageService
from dcxtwisted.services.verification import VerificationService
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.layout import Layout
from dcxtwisted.stores.memory import MemoryStore, ObjectInMemory
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import Negotiated

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
        self.events: IDCXACCEvents = DCXACCEvents() if events is None else events
        self.configuration = Configuration() if configuration is None else configuration
        self.storeDirectory = abspath(storeDirectory)
        self._reactor = reactor
        self._clock = cast(IReactorTime, reactor)
        self._endpoints = [endpointFrom(reactor, endpoint) for endpoint in given]
        self._ports: list[IListeningPort] = []
        self._listening: Deferred[None] | None = None
        self._files = FileStore(self.storeDirectory, Layout(layout), durable=durable, reactor=reactor)
        self._memory = MemoryStore()
        services: list[IDIMSEService] = [
            VerificationService(self.events),
            StorageService(
                self.events,
                self._files if store is None else store,
                self._files,
                self._memory,
                self.storeDirectory,
                participants,
            ),
        ]
        self._services: Mapping[int, IDIMSEService] = {
            field: service for service in services for field in service.commandFields
        }
        self.factory = AssociationFactory(
            self.configuration, self.events, self._clock, _transferSyntaxes(services), self._makeProvider
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
    def ports(self) -> Sequence[IListeningPort]:
        """The ports listened on; empty before the start and after the stop."""
        return list(self._ports)

    def TakeStoredObject(self) -> ObjectInMemory | None:
        """Hand over the oldest object kept in memory, and forget it; None where there is none."""
        return self._memory.take()

    def AbortActiveAssociations(self) -> None:
        """Send A-ABORT on every association and close."""
        for association in self.associations:
            association.abort()

    def privilegedStartService(self) -> None:
        """
        Open the store and listen, while privileges last.

        :raise OSError: the store directory cannot be made or written to.
        :raise CannotListenError: a port cannot be had.
        """
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """As C{privilegedStartService}, where that was not called."""
        self._listen()
        super().startService()

    def _listen(self) -> None:
        if self._listening is not None:
            return
        if getattr(self._clock, "seconds", None) is time.time:
            _log.info("the reactor's clock is wall time: setting it cuts deadlines short or draws them out")
        self._files.start()
        attempts = [endpoint.listen(self.factory) for endpoint in self._endpoints]
        failures: list[Failure] = []
        self._listening = DeferredList(attempts, consumeErrors=True).addCallback(self._listens, failures)
        if failures:
            # What fails at once is the caller's to deal with; what fails later was logged.
            failures[0].raiseException()

    def _listens(self, results: list[tuple[bool, Any]], failures: list[Failure]) -> None:
        for succeeded, result in results:
            if succeeded:
                self._ports.append(result)
                _log.info("listening on {address}", address=result.getHost())
            else:
                failures.append(result)
                _log.error("cannot listen: {error}", error=result.value)
        if failures:
            self.stopService()

    def stopService(self) -> Deferred[None]:
        """Stop listening, finish what is in flight, abort the rest; the Deferred fires when nothing is left."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        listening, self._listening = self._listening, None
        if listening is None:
            return
        ports, self._ports = self._ports, []
        await DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)
        await self.factory.stop(self.configuration.stopDeadline)
        await self._files.stop()


def _transferSyntaxes(services: Sequence[IDIMSEService]) -> Callable[[str], Container[str] | None]:
    def find(abstractSyntax: str) -> Container[str] | None:
        for service in services:
            taken = service.supports(abstractSyntax)
            if taken is not None:
                return taken
        return None

    return find
