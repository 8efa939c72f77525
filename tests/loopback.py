"""
What the tests over loopback share: peers on real sockets, and programs whose output is waited for.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.testing import ScriptedPeer

#: The checkout that the tests are in.
CHECKOUT = Path(__file__).resolve().parent.parent

#: Where the documents are: in a checkout, or where they were installed.
DOCUMENTS = next(
    each for each in (CHECKOUT / "docs", Path(sys.prefix) / "share" / "doc" / "dcxtwisted") if each.is_dir()
)

#: Seconds that a program or a listener may take for one thing, on a machine that has much else to do.
DEADLINE = 60.0


class LoopbackPeer(ScriptedPeer):
    """A scripted peer that is connected through the reactor."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def when(self, condition: Callable[[], object]) -> Deferred[None]:
        """Return a Deferred that fires once a condition on what was received, or on the connection, is true."""
        deferred: Deferred[None] = Deferred()
        self._waiting.append((condition, deferred))
        self._look()
        return deferred

    def gone(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is lost."""
        return self.when(lambda: self.lost is not None)

    def leave(self) -> None:
        """Close the connection, where it still stands."""
        if self.lost is None and self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Collect, and look whether that was waited for."""
        super().dataReceived(data)
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember, and look whether that was waited for."""
        super().connectionLost(reason)
        self._look()

    def _look(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting[0]()]:
            self._waiting.remove(waiting)
            waiting[1].callback(None)


def connect(port: int, host: str = "127.0.0.1") -> Deferred[LoopbackPeer]:
    """Return a Deferred of a peer that is connected to a port on loopback; it fails where nobody listens."""
    endpoint = HostnameEndpoint(reactor, host, port)
    connecting: Deferred[LoopbackPeer] = connectProtocol(endpoint, LoopbackPeer())
    return connecting


class Sending:
    """The part of a transport that a peer writes to, on a socket that blocks."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)


class BlockingPeer(ScriptedPeer):
    """A scripted peer on a socket that blocks, for listeners in other processes."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.socket = socket.create_connection((host, port), timeout=DEADLINE)
        transport: Any = Sending(self.socket)
        self.transport = transport

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def until(self, condition: Callable[[], object]) -> None:
        """Receive until a condition is true; fails where the connection ends before."""
        while not condition():
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f"closed after {self.received}")
            self.dataReceived(data)

    def untilClosed(self) -> None:
        """Receive until the other end closes or resets."""
        try:
            while data := self.socket.recv(65536):
                self.dataReceived(data)
        except ConnectionResetError:
            pass  # what was sent and not read is dropped with a reset
        self.connectionLost(Failure(ConnectionDone()))

    def established(self) -> BlockingPeer:
        """Associate, and return itself when that is accepted."""
        self.associate()
        self.until(lambda: self.accepted)
        return self

    def storeAnd(self, dataSet: bytes, SOPInstanceUID: str, **how: Any) -> int:
        """Store an object, and return the status of the response."""
        answered = len(self.statuses)
        self.store(dataSet, SOPInstanceUID, **how)
        self.until(lambda: len(self.statuses) > answered)
        return self.statuses[-1]


class Program:
    """
    Another process, in a directory, with the checkout on its path; killed by its number when the test ends.

    :ivar lines: what it wrote to standard output so far.
    """

    def __init__(
        self,
        case: SynchronousTestCase,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._rest = b""
        path = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._errors = directory / "stderr.txt"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                arguments,
                cwd=directory,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        case.addCleanup(self._end)

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return self._errors.read_text()

    @property
    def output(self) -> str:
        """What it wrote to standard output so far."""
        return "\n".join(self.lines)

    def waitFor(self, pattern: str) -> re.Match[str]:
        """Return the first match in a line of standard output, those read before included."""
        deadline = time.monotonic() + DEADLINE
        looked = 0
        while True:
            for line in self.lines[looked:]:
                match = re.search(pattern, line)
                if match is not None:
                    return match
            looked = len(self.lines)
            if not self._read(deadline):
                raise AssertionError(f"no line has {pattern!r} in it:\n{self.output}\n{self.errors}")

    def _read(self, deadline: float) -> bool:
        """Read some more lines; False at the end, or at the deadline."""
        assert self.process.stdout is not None
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self.process.stdout], [], [], left)[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in whole]
        return bool(data)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def status(self) -> int:
        """Return its exit status, once it ends of itself."""
        deadline = time.monotonic() + DEADLINE
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))


def twistd(
    case: SynchronousTestCase, directory: Path, *options: str, before: Sequence[str] = (), **environment: str
) -> Program:
    """
    Start ``twistd dcxtwisted`` in the foreground.

    :param before: options of twistd itself.
    """
    program = str(Path(sys.executable).parent / "twistd")
    return Program(case, [program, "--nodaemon", *before, "dcxtwisted", *options], directory, environment)


def directoryFor(case: SynchronousTestCase) -> Path:
    """Return a new directory, by an absolute path."""
    directory = Path(case.mktemp()).absolute()
    directory.mkdir()
    return directory
