"""
One worker as a process: started with one end of a pair of sockets, its lines put into the log, its end told.
"""

from __future__ import annotations

import os
import pickle
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.logger import globalLogPublisher
from twisted.protocols import amp
from twisted.python.failure import Failure

from dcxtwisted.setups import Given
from dcxtwisted.workers.lines import Lines, eventFrom

#: The descriptor by which a worker speaks with its supervisor.
LINK: Final = 3
#: The module that is run as a worker.
PROGRAM: Final = "dcxtwisted.workerprocess"

# Seconds that a start may take: a worker imports all of it, and calls what makes a provider of events.
_START: Final = 60.0

_STDIN, _STDOUT, _STDERR = range(3)


@attrs.frozen
class Task:
    """
    What a worker is told on its standard input.

    :ivar number: which one it is.
    :ivar given: what was said on the command line, the file of the configuration included.
    :ivar reactor: the module of the reactor.
    """

    number: int
    given: Given
    reactor: str


class WorkerProcess(ProcessProtocol):
    """
    A worker that runs.

    :ivar end: the supervisor's end of the pair of sockets, until C{connect}.
    :ivar pid: its process id.
    """

    def __init__(self, number: int, ended: Callable[[int], object], reactor: Any) -> None:
        """
        :param ended: called once it is gone, with its exit status; with minus the signal that has ended it.
        """
        self.pid: int | None = None
        self._reactor = reactor
        self.number = number
        self._ended = ended
        self._lines = {_STDOUT: Lines(self._said), _STDERR: Lines(self._said)}

    def start(self, task: Task, path: Sequence[str]) -> None:
        """
        Start it.

        :param path: where it finds modules.
        :raise OSError: the system has no process for it, or no descriptor.
        """
        self.end, other = socket.socketpair()
        # A file, not a pipe: nobody writes to pipes before the reactor runs.
        with other, open(os.memfd_create("task"), "w+b") as standardInput:
            pickle.dump(task, standardInput)
            standardInput.seek(0)
            self.end.setblocking(False)
            other.setblocking(False)
            self._reactor.spawnProcess(
                self,
                sys.executable,
                # Modules of the current directory, whosever that is, are none of its own.
                [sys.executable, "-P", "-m", PROGRAM],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                childFDs={_STDIN: standardInput.fileno(), _STDOUT: "r", _STDERR: "r", LINK: other.fileno()},
            )
        assert self.transport is not None
        self.pid = self.transport.pid

    def connect(self, link: Protocol) -> None:
        """Have a protocol speak with it."""
        with self.end:
            self._reactor.adoptStreamConnection(self.end.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: link))

    def kill(self) -> None:
        """End it at once."""
        try:
            if self.transport is not None:
                self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass  # which is what was wanted

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted calls this with what it writes."""
        self._lines[childFD].feed(data)

    def processExited(self, reason: Failure) -> None:
        """Twisted calls this when it is gone; what it wrote may still come."""
        error: Any = reason.value
        self.end.close()
        self._ended(-error.signal if error.signal else error.exitCode)

    def processEnded(self, reason: Failure) -> None:
        """Twisted calls this when all of it was read, too."""
        for lines in self._lines.values():
            lines.finish()

    def _said(self, line: bytes) -> None:
        globalLogPublisher(eventFrom(line, self.number))


class Starter:
    """Starts workers that go by the same interpreter, path and kind of reactor as this process."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # As it is now: the current directory may be another when a worker is started.
        self._path = [os.path.abspath(each) for each in sys.path]

    def start(self, number: int, given: Given, ended: Callable[[int], object]) -> WorkerProcess:
        """See L{places.Start}."""
        process = WorkerProcess(number, ended, self._reactor)
        process.start(Task(number, given, type(self._reactor).__module__), self._path)
        return process


def awaitStarted(processes: Sequence[WorkerProcess], seconds: float = _START) -> None:
    """
    Wait until workers have said that they are ready; what they say stays to be read.

    It blocks: it is for the start, when whoever asked for it, the parent of a daemon say, is to be told.

    :raise ChildProcessError: one cannot start; the text says why.
    """
    deadline = time.monotonic() + seconds
    for process in processes:
        error = _startedOf(process.end, deadline)
        if error:
            raise ChildProcessError(f"worker {process.number}: {error}")


def _startedOf(end: socket.socket, deadline: float) -> str:
    poll = select.poll()
    poll.register(end, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            break
        said = end.recv(0xFFFF, socket.MSG_PEEK)
        if not said:
            return "it ended before it was ready"
        if said.endswith(b"\0\0"):  # the end of a box
            return str(amp.parseString(said)[0][b"error"].decode())
        time.sleep(0.001)
    return "it was not ready in time"
