"""
What the tests of workers share: a pair of sockets in memory, and processes that are none.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure


class Pipe:
    """Joins two protocols; bytes and descriptors move in C{pump}."""

    def __init__(self, one: Any, other: Any) -> None:
        self._queue: deque[Callable[[], object]] = deque()
        self.ends = (_End(self._queue, other), _End(self._queue, one))
        self.protocols = (one, other)
        one.makeConnection(self.ends[0])
        other.makeConnection(self.ends[1])

    def pump(self) -> None:
        """Deliver all that was sent, and what is sent upon that."""
        while self._queue:
            self._queue.popleft()()

    def lose(self) -> None:
        """Lose the connection, with what is on its way."""
        self._queue.clear()
        for protocol in self.protocols:
            protocol.connectionLost(Failure(ConnectionDone()))


class _End:
    disconnecting = False

    def __init__(self, queue: deque[Callable[[], object]], receiver: Any) -> None:
        self._queue = queue
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        self._queue.append(lambda: self._receiver.dataReceived(data))

    def sendFileDescriptor(self, descriptor: int) -> None:
        sent = os.dup(descriptor)
        self._queue.append(lambda: self._receiver.fileDescriptorReceived(sent))

    def loseConnection(self) -> None:
        self.disconnecting = True


class FakeProcess:
    """A worker that runs nowhere: the test says what it says, and when it ends."""

    pid = 4711

    def __init__(self, number: int, given: Any, ended: Callable[[int], object]) -> None:
        self.number = number
        self.given = given
        self.ended = ended
        self.link: Any = None
        self.killed = 0

    def connect(self, link: IProtocol) -> None:
        """Keep the link."""
        self.link = link

    def kill(self) -> None:
        """Count."""
        self.killed += 1


def socketPair(case: Any) -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are closed when the test ends."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(False)
        case.addCleanup(each.close)
    return pair
