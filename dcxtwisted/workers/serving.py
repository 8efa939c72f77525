"""
The worker's side: the connections it is handed, and the supervisor that is asked about each association.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.association import AssociationProtocol
from dcxtwisted.configuration import Configuration
from dcxtwisted.setups import Given, Reload
from dcxtwisted.workers.commands import (
    Abort,
    AbortAll,
    Accepted,
    Admit,
    Close,
    DescriptorsMixedUp,
    Grew,
    Hand,
    Leaving,
    Left,
    Lost,
    Prepare,
    QuietAMP,
    Stop,
    Use,
)

# Bytes of a request that is not whole of which the supervisor is told: a byte at a time would be a message for each.
# 500 connections may have 8 MiB more than the 32 that are told of, then.
_WORTH_TELLING: Final = 16384

_NO_ROOM: Final = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})

_PROXY: Final = "haproxy:"


class RemoteAdmission:
    """
    Who may come in, as the supervisor says: see C{admission.Admits}.

    :ivar arriving: the number of the connection that is being made.
    :ivar connections: those that are not closed, by their numbers.
    """

    def __init__(self, call: Callable[..., Any], limits: Configuration) -> None:
        """
        :param call: sends a command to the supervisor.
        """
        self.counts: Counter[str] = Counter()
        self.limits = limits
        self.arriving: int | None = None
        self.connections: dict[int, AssociationProtocol] = {}
        self._numbers: dict[AssociationProtocol, int] = {}
        self._call = call
        self._untold: Counter[AssociationProtocol] = Counter()
        self._asked: dict[AssociationProtocol, int] = {}

    def connectionMade(self, connection: AssociationProtocol, host: str) -> None:
        """A connection that was handed over is there: it was counted."""
        assert self.arriving is not None
        self.counts["connections"] += 1
        self._numbers[connection] = self.arriving
        self.connections[self.arriving] = connection
        self.arriving = None

    def requestGrew(self, connection: AssociationProtocol, size: int) -> None:
        """Tell of what is kept of a request, where that is much."""
        self._untold[connection] += size
        if self._untold[connection] >= _WORTH_TELLING and connection in self._numbers:
            self._call(Grew, number=self._numbers[connection], size=self._untold.pop(connection))

    def admit(self, connection: AssociationProtocol, host: str, callingAETitle: str) -> Deferred[str | None]:
        """Ask."""
        number = self._asked[connection] = self._numbers[connection]
        self._untold.pop(connection, None)
        asked: Deferred[Any] = self._call(Admit, number=number, host=host, callingAETitle=callingAETitle)
        return asked.addCallback(self._admitted)

    def _admitted(self, answer: dict[str, str]) -> str | None:
        if not answer["reached"]:
            return None
        self.counts["associations over a limit"] += 1
        return answer["reached"]

    def refuse(self, limit: str) -> str:
        """See C{Admission}."""
        self.counts["associations over a limit"] += 1
        return f"{limit} = {getattr(self.limits, limit)}"

    def accepted(self, connection: AssociationProtocol, calledAETitle: str) -> None:
        """An association is up."""
        self.counts["associations accepted"] += 1
        self._call(Accepted, number=self._numbers[connection], calledAETitle=calledAETitle)

    def leave(self, connection: AssociationProtocol, isConnected: bool) -> None:
        """What it was admitted for is over; nothing happens where that was not asked for."""
        number = self._asked.pop(connection, None)
        if number is not None:
            self._call(Left, number=number, isConnected=isConnected)

    def connectionLost(self, connection: AssociationProtocol) -> None:
        """It is closed."""
        self._untold.pop(connection, None)
        number = self._numbers.pop(connection)
        del self.connections[number]
        self._call(Lost, number=number)


class _Handed:
    """A reactor as endpoints see one: the factory of who listens is kept, and nothing is opened."""

    def __init__(self) -> None:
        self.factory: Any = None

    def listenTCP(self, port: int, factory: IProtocolFactory, **how: object) -> object:
        self.factory = factory
        return self


def factoryFor(listener: DCXACC, description: int | str, isTLS: bool) -> IProtocolFactory:
    """Return what makes protocols for the connections of a port, which are handed over as they were accepted."""
    handed = _Handed()
    isProxied = isinstance(description, str) and description.lower().startswith(_PROXY)
    # Twisted's way to put the PROXY protocol in front, which has no other name that is public.
    endpoint = serverFromString(handed, f"{_PROXY if isProxied else ''}tcp:0")
    endpoint.listen(listener.factoryFor(isTLS))
    factory: IProtocolFactory = handed.factory
    return factory


class Leader(Protocol):
    """What a worker as a process does when it is told to."""

    def stop(self) -> None: ...
    def supervisorLost(self) -> None: ...


class Serving(QuietAMP):
    """What a worker does for its supervisor."""

    def __init__(
        self, listener: DCXACC, factories: Sequence[IProtocolFactory], reload: Reload, reactor: Any, leader: Leader
    ) -> None:
        """
        :param factories: those of the ports, by their numbers.
        :param reload: what of the listener is read again from the configuration.
        """
        super().__init__()
        self._listener = listener
        self._factories = factories
        self._reload = reload
        self._reactor = reactor
        self._leader = leader
        self._use: Callable[[], Sequence[str]] = lambda: []
        self._admission = RemoteAdmission(self.callRemote, listener.configuration)
        listener.factory.admission = self._admission

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once, when the connection is gone."""
        super().connectionLost(reason)
        self._leader.supervisorLost()

    def leave(self) -> Deferred[Any]:
        """Have the supervisor send no more connections; fires when none is on its way any more."""
        leaving: Deferred[Any] = self.callRemote(Leaving)
        return leaving

    @Hand.responder
    def hand(self, number: int, port: int, family: int, inode: int, descriptor: int) -> dict[str, bool]:
        """See L{Hand}."""
        try:
            if os.fstat(descriptor).st_ino != inode:
                raise DescriptorsMixedUp
            self._admission.arriving = number
            self._reactor.adoptStreamConnection(descriptor, family, self._factories[port])
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._admission.arriving = None
                raise DescriptorsMixedUp from error
            # Else the peer is gone already.
        finally:
            os.close(descriptor)
        isThere = self._admission.arriving is None
        self._admission.arriving = None
        return {"isThere": isThere}

    @Close.responder
    def close(self, number: int) -> dict[str, object]:
        """See L{Close}."""
        protocol = self._admission.connections.get(number)
        if protocol is not None:
            protocol.abortConnection()
        return {}

    @Abort.responder
    def abort(self, number: int) -> dict[str, object]:
        """See L{Abort}."""
        protocol = self._admission.connections.get(number)
        if protocol is not None:
            protocol.abort()
        return {}

    @Prepare.responder
    def prepare(self, given: int) -> dict[str, object]:
        """See L{Prepare}."""
        try:
            # Read where it begins, wherever others that have the same descriptor are.
            self._reload.given = cast(Given, pickle.loads(os.pread(given, os.fstat(given).st_size, 0)))
        finally:
            os.close(given)
        self._use = self._listener.prepareReload()
        return {}

    @Use.responder
    def use(self) -> dict[str, list[str]]:
        """See L{Use}."""
        use, self._use = self._use, lambda: []
        return {"said": list(use())}

    @Stop.responder
    def stop(self) -> dict[str, object]:
        """See L{Stop}."""
        self._leader.stop()
        return {}

    @AbortAll.responder
    def abortAll(self) -> dict[str, object]:
        """See L{AbortAll}."""
        self._listener.abortAll()
        return {}
