"""
The supervisor's end of what it and a worker say to each other.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from dcxtwisted.setups import Given
from dcxtwisted.workers.commands import (
    Abort,
    AbortAll,
    Accepted,
    Admit,
    Close,
    Grew,
    Hand,
    Leaving,
    Left,
    Lost,
    Prepare,
    QuietAMP,
    Started,
    Stop,
    Use,
)
from dcxtwisted.workers.dispatch import Connection, Dispatch, Worker


class WorkerLink(QuietAMP):
    """What is said to a worker, and what is done about what it says."""

    def __init__(
        self,
        dispatch: Dispatch,
        worker: Worker,
        started: Callable[[str], object],
        lost: Callable[[], object],
    ) -> None:
        """
        :param started: called once, when the worker is ready, with ''; or with why it cannot start.
        :param lost: called once, when the connection is lost.
        """
        super().__init__()
        self._dispatch = dispatch
        self._worker = worker
        self._isStarted = started
        self._isLost = lost

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once, when the connection is gone."""
        # First: what it had not taken fails now, and is not to be given to it again.
        self._isLost()
        super().connectionLost(reason)

    # What is said to it

    def hand(self, connection: Connection) -> Deferred[bool]:
        """See L{dispatch.Link}."""
        handed = connection.socket
        assert handed is not None
        descriptor = handed.fileno()
        called: Deferred[Any] = self.callRemote(
            Hand,
            number=connection.number,
            port=connection.port,
            family=handed.family,
            inode=os.fstat(descriptor).st_ino,
            descriptor=descriptor,
        )
        return called.addCallback(lambda answer: answer["isThere"])

    def close(self, number: int) -> None:
        """See L{dispatch.Link}."""
        self.callRemote(Close, number=number)

    def abort(self, number: int) -> None:
        """See L{dispatch.Link}."""
        self.callRemote(Abort, number=number)

    def stop(self) -> None:
        """See L{dispatch.Link}."""
        self._worker.isLeaving = True
        self.callRemote(Stop)

    def abortAll(self) -> None:
        """Have it abort what is in flight."""
        self.callRemote(AbortAll)

    def prepare(self, given: Given) -> Deferred[Any]:
        """Have it read again what can change; fails with ValueError where something is no good."""
        # Of any size, which what AMP sends is not.
        file = os.memfd_create("given")
        os.write(file, pickle.dumps(given))
        prepared: Deferred[Any] = self.callRemote(Prepare, given=file)
        return prepared.addBoth(_closed, file)

    def use(self) -> Deferred[list[str]]:
        """Have it go by what was prepared; the answer is what that is."""
        used: Deferred[Any] = self.callRemote(Use)
        return used.addCallback(lambda answer: answer["said"])

    # What it says

    @Started.responder
    def started(self, error: str) -> dict[str, object]:
        """See L{Started}."""
        self._isStarted(error)
        return {}

    @Leaving.responder
    def leaving(self) -> dict[str, object]:
        """See L{Leaving}."""
        self._worker.isLeaving = True
        return {}

    @Admit.responder
    def admit(self, number: int, host: str, callingAETitle: str) -> dict[str, str]:
        """See L{Admit}."""
        return {"reached": self._dispatch.admit(self._worker, number, host, callingAETitle) or ""}

    @Accepted.responder
    def accepted(self, number: int, calledAETitle: str) -> dict[str, object]:
        """See L{Accepted}."""
        self._dispatch.accepted(self._worker, number, calledAETitle)
        return {}

    @Left.responder
    def left(self, number: int, isConnected: bool) -> dict[str, object]:
        """See L{Left}."""
        self._dispatch.left(self._worker, number, isConnected)
        return {}

    @Lost.responder
    def lost(self, number: int) -> dict[str, object]:
        """See L{Lost}."""
        self._dispatch.lost(self._worker, number)
        return {}

    @Grew.responder
    def grew(self, number: int, size: int) -> dict[str, object]:
        """See L{Grew}."""
        self._dispatch.grew(self._worker, number, size)
        return {}


def _closed(result: Any, file: int) -> Any:
    os.close(file)
    return result
