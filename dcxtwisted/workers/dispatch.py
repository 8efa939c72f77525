"""
To whom a connection goes, and who may come in: the word of the one that knows all connections.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.admission import Admission
from dcxtwisted.configuration import Configuration
from dcxtwisted.workers.accepting import reset
from dcxtwisted.workers.commands import DescriptorsMixedUp

_log = Logger()


class Link(Protocol):
    """What is said to a worker that is up."""

    def hand(self, connection: Connection) -> Deferred[bool]:
        """Have it serve a connection; answered once it is there, with whether its peer still was."""

    def close(self, number: int) -> None:
        """Have it close one of its connections hard."""

    def abort(self, number: int) -> None:
        """Have it abort the association of one of them."""

    def stop(self) -> None:
        """Have it finish what is in flight, and end."""


@attrs.define(eq=False)
class Connection:
    """
    A connection from when it was accepted until it is closed, and what came of it is done.

    :ivar number: by which a worker and its supervisor know it.
    :ivar port: the number of the port it came to.
    :ivar socket: as long as no worker has said that it has it.
    :ivar worker: whose it is; None while none is up.
    :ivar isInside: it was admitted, and what for is not over.
    :ivar isUnwanted: it is to be closed for others.
    :ivar isLost: its worker has said that it is closed.
    :ivar startedAt: when its association was accepted; None before that.
    """

    number: int
    callingHost: str
    port: int
    socket: socket.socket | None
    worker: Worker | None = None
    link: Link | None = None
    isInside: bool = False
    isUnwanted: bool = False
    isLost: bool = False
    callingAETitle: str = ""
    calledAETitle: str = ""
    startedAt: float | None = None

    def abort(self) -> None:
        """Abort its association."""
        if self.link is not None:
            self.link.abort(self.number)


@attrs.define(eq=False)
class Worker:
    """
    One worker, as far as its connections go.

    :ivar number: from 1 on, the same for the process that takes the place of another.
    :ivar link: None while it is not up.
    :ivar isLeaving: it takes no more.
    :ivar connections: those it has, by number.
    :ivar latest: the number of the connection it was given last.
    """

    number: int
    link: Link | None = None
    isLeaving: bool = False
    connections: dict[int, Connection] = attrs.field(factory=dict)
    latest: int = 0


def leastLoaded(workers: Iterable[Worker]) -> Worker | None:
    """Return the worker that has fewest connections, of several the one whose turn it is; None where none is up."""
    up = [worker for worker in workers if worker.link is not None and not worker.isLeaving]
    return min(up, key=lambda worker: (len(worker.connections), worker.latest), default=None)


class Dispatch:
    """
    Gives each connection to a worker, counts all of them, and gives back what a worker leaves that dies.

    Where no worker is up, a connection waits, unread, as long as a request may take: what its peer sends is there still
    when one is up again, and a sender rather waits for a second than being refused.

    :ivar admission: counts them all.
    """

    def __init__(self, configuration: Configuration, clock: IReactorTime, workers: int) -> None:
        self.admission: Admission[Connection] = Admission(configuration)
        self.workers = [Worker(number) for number in range(1, workers + 1)]
        self._clock = clock
        self._numbers = count(1)
        self._waiting: dict[Connection, IDelayedCall] = {}
        self._isStopped = False

    @property
    def associations(self) -> Sequence[Connection]:
        """Every accepted association that is not over."""
        return [
            connection
            for worker in self.workers
            for connection in worker.connections.values()
            if connection.isInside and connection.startedAt is not None
        ]

    def arrived(self, accepted: socket.socket, host: str, port: int) -> None:
        """A connection was accepted."""
        if self._isStopped:
            reset(accepted)
            return
        connection = Connection(next(self._numbers), host, port, accepted)
        crowded = self.admission.connectionMade(connection, host)
        self._place(connection)
        if crowded is not None:
            self._close(crowded)

    def _place(self, connection: Connection) -> None:
        worker = leastLoaded(self.workers)
        connection.worker = worker
        if worker is None or worker.link is None:
            self._waiting[connection] = self._clock.callLater(self.admission.limits.ARTIM, self._waited, connection)
            return
        link = connection.link = worker.link
        worker.connections[connection.number] = connection
        worker.latest = connection.number
        link.hand(connection).addCallbacks(
            self._handed, self._notHanded, callbackArgs=(connection,), errbackArgs=(connection, worker, link)
        )

    def _handed(self, isThere: bool, connection: Connection) -> None:
        self._letGo(connection)
        if not isThere and connection.worker is not None:
            self.lost(connection.worker, connection.number)

    def _notHanded(self, failure: Failure, connection: Connection, worker: Worker, link: Link) -> None:
        if failure.check(DescriptorsMixedUp) and worker.link is link and not worker.isLeaving:
            _log.error("worker {worker} has no descriptors left: it takes no more, and ends", worker=worker.number)
            worker.isLeaving = True
            link.stop()
        if connection.link is link:
            # The worker has not read of it: another can serve it.
            self._takeBack(connection, worker)

    def _takeBack(self, connection: Connection, worker: Worker) -> None:
        del worker.connections[connection.number]
        connection.worker = connection.link = None
        if connection.isUnwanted or self._isStopped:
            self._forget(connection)
        else:
            self._place(connection)

    def _letGo(self, connection: Connection) -> None:
        if connection.socket is not None:
            # No shutdown: the worker has the same connection.
            connection.socket.close()
            connection.socket = None

    def _forget(self, connection: Connection) -> None:
        self.admission.leave(connection, False)
        self.admission.connectionLost(connection)
        if connection.socket is not None:
            reset(connection.socket)
            connection.socket = None

    def _close(self, connection: Connection) -> None:
        connection.isUnwanted = True
        if connection.link is not None:
            connection.link.close(connection.number)
        else:
            self._waiting.pop(connection).cancel()
            self._forget(connection)

    def _waited(self, connection: Connection) -> None:
        del self._waiting[connection]
        _log.warn("no worker came up to serve {host}", host=connection.callingHost)
        self._forget(connection)

    def stop(self) -> None:
        """Take nothing more, and close what waits for a worker."""
        self._isStopped = True
        for connection in list(self._waiting):
            self._close(connection)

    # What happens to workers

    def isUp(self, worker: Worker, link: Link) -> None:
        """A worker is ready: what waits is its to serve."""
        worker.link, worker.isLeaving = link, False
        waiting, self._waiting = self._waiting, {}
        for connection, timer in waiting.items():
            timer.cancel()
            self._place(connection)

    def isGone(self, worker: Worker) -> int:
        """
        A worker has died, or ended: give back what it had; return how many associations were cut.

        What it was sent and had not taken goes to others.
        """
        worker.link = None
        connections = list(worker.connections.values())
        cut = sum(connection.isInside for connection in connections)
        for connection in connections:
            if connection.socket is not None:
                self._takeBack(connection, worker)
            else:
                self._forget(connection)
        worker.connections.clear()
        return cut

    # What workers say of their connections

    def admit(self, worker: Worker, number: int, host: str, callingAETitle: str) -> str | None:
        """An association is requested; return which limit is reached, None where none is."""
        connection = worker.connections[number]
        reached = self.admission.admit(connection, host, callingAETitle)
        if reached is None:
            connection.isInside = True
            connection.callingHost, connection.callingAETitle = host, callingAETitle
        return reached

    def accepted(self, worker: Worker, number: int, calledAETitle: str) -> None:
        """Its association is up."""
        connection = worker.connections[number]
        connection.calledAETitle, connection.startedAt = calledAETitle, self._clock.seconds()
        self.admission.accepted(connection, calledAETitle)

    def left(self, worker: Worker, number: int, isConnected: bool) -> None:
        """What it was admitted for is over."""
        connection = worker.connections[number]
        connection.isInside = False
        self.admission.leave(connection, isConnected)
        if connection.isLost:
            del worker.connections[number]

    def lost(self, worker: Worker, number: int) -> None:
        """It is closed; what it was admitted for may go on without it."""
        connection = worker.connections[number]
        connection.isLost = True
        self.admission.connectionLost(connection)
        if not connection.isInside:
            del worker.connections[number]

    def grew(self, worker: Worker, number: int, size: int) -> None:
        """So many bytes more are kept of its request, which is not whole."""
        crowded = self.admission.requestGrew(worker.connections[number], size)
        if crowded is not None:
            self._close(crowded)
