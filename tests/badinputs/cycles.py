"""
Whether a listener is after very many associations what it was after some: ``python -m tests.badinputs.cycles``.

Starts a listener as a program of its own on loopback, and connects, associates and goes again, each time in another of
several rude ways. Every so often the listener's memory and descriptors are read and written down. It stops by itself:
after ``--count`` cycles, or ``--seconds``; with status 1 where more stayed than may (``--growth``), or a good peer was
refused. 100,000 cycles take some two minutes.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any, Final

from tests.badinputs.inputs import ABORT, RELEASE_RQ, RQ, data, pData, pdv, store, storeRQ
from tests.badinputs.peers import reactionsIn

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_BAD: Final = "127.0.0.2"
_PATIENCE: Final = 20.0


def _written(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# The listener


def _serve(directory: str) -> None:
    """Listen until standard input is closed; the port is the first line written."""
    from twisted.internet import reactor as _reactor
    from twisted.internet.protocol import Protocol, connectionDone
    from twisted.internet.stdio import StandardIO
    from twisted.logger import globalLogBeginner
    from twisted.python.failure import Failure

    from dcxtwisted import DCXACC

    reactor: Any = _reactor
    # Otherwise the logger keeps the last 65,536 events for an observer to come.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)

    class UntilClosed(Protocol):
        def connectionLost(self, reason: Failure = connectionDone) -> None:
            reactor.stop()

    listener = DCXACC("tcp:0:interface=127.0.0.1", storeDirectory=directory, durable=False)
    listener.startService()
    reactor.addSystemEventTrigger("before", "shutdown", listener.stopService)
    port: Any = listener.ports[0].getHost()
    StandardIO(UntilClosed())
    # Once it runs, all descriptors are open that it has of its own.
    reactor.callWhenRunning(_written, str(port.port))
    reactor.run()


class _Listener:
    """That program."""

    def __init__(self, directory: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.badinputs.cycles", "--serve", directory],
            cwd=_CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def memory(self) -> int:
        """Bytes of it in memory."""
        fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def stop(self) -> int:
        """Have it end, and return its status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._process.stdout.close()


# The peers


class _Peer:
    """One connection, from the address of those who mean no good."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE, (_BAD, 0))
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def await_(self, *reactions: str) -> None:
        """Receive until these have come back."""
        length = 0
        while length < len(reactions):
            piece = self.socket.recv(65536)
            if not piece:
                raise RuntimeError(f"closed after {self._received!r}")
            self._received += piece
            try:
                length = len(reactionsIn(self._received)[0])
            except Exception:
                continue  # not whole yet
        came = reactionsIn(self._received)[0]
        if came != [*reactions]:
            raise RuntimeError(f"{came} came back, not {[*reactions]}")

    def awaitClosed(self) -> None:
        """Receive until the listener closes."""
        while self.socket.recv(65536):
            pass

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self.socket.close()


def _aborts(peer: _Peer) -> None:
    peer.send(RQ)
    peer.await_("AC")
    peer.send(ABORT)
    peer.awaitClosed()


def _resets(peer: _Peer) -> None:
    peer.send(RQ)
    peer.await_("AC")


def _goesInsideTheRequest(peer: _Peer) -> None:
    peer.send(RQ[:100])


def _goesInsideAnObject(peer: _Peer) -> None:
    peer.send(RQ)
    peer.await_("AC")
    peer.send(storeRQ() + pData(pdv(3, 0, b"half")))


def _isAborted(peer: _Peer) -> None:
    peer.send(RQ)
    peer.await_("AC")
    peer.send(data())
    peer.await_("AC", "AB 2/5")


def _isNoDICOM(peer: _Peer) -> None:
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    peer.await_("AB 0/0")


def _isWellBehaved(peer: _Peer) -> None:
    peer.send(RQ)
    peer.await_("AC")
    peer.send(store("1.2.3"))
    peer.await_("AC", "RSP 0000")
    peer.send(RELEASE_RQ)
    peer.await_("AC", "RSP 0000", "RELEASE-RP")


_KINDS: Final[tuple[Callable[[_Peer], None], ...]] = (
    _aborts,
    _resets,
    _goesInsideTheRequest,
    _goesInsideAnObject,
    _isAborted,
    _isNoDICOM,
    _isWellBehaved,
)


def _cycle(listener: _Listener, number: int) -> None:
    peer = _Peer(listener.port)
    try:
        _KINDS[number % len(_KINDS)](peer)
    finally:
        # A reset leaves no TIME_WAIT behind, of which a hundred thousand would use up the ports.
        peer.reset()


def _settled(listener: _Listener, descriptors: int) -> int:
    """Return how many descriptors are open, once they are as many as before or do not become fewer."""
    deadline = time.monotonic() + _PATIENCE
    while listener.descriptors > descriptors and time.monotonic() < deadline:
        time.sleep(0.05)
    return listener.descriptors


def measure(count: int, seconds: float, growth: int, write: Callable[[str], object] = _written) -> bool:
    """
    Return whether a listener's memory and descriptors stay as they were over so many cycles.

    What it has after a tenth of them is what it may have after all of them: by then all is made that is made once.

    :param growth: bytes of memory that may be more, all the same.
    """
    with tempfile.TemporaryDirectory() as directory:
        listener = _Listener(directory)
        try:
            descriptors = listener.descriptors
            started = time.monotonic()
            warm = max(1, count // 10)
            memory = 0
            done = 0
            while done < count and time.monotonic() - started < seconds:
                _cycle(listener, done)
                done += 1
                if done == warm:
                    memory = listener.memory
                if done % warm == 0:
                    write(f"{done:>8} cycles {listener.memory:>12} bytes {listener.descriptors:>6} descriptors")
            left = _settled(listener, descriptors) - descriptors
            grown = listener.memory - (memory or listener.memory)
            took = time.monotonic() - started
            write(f"{done} cycles in {took:.1f} s: {grown} bytes and {left} descriptors more than before")
        finally:
            status = listener.stop()
    if status:
        write(f"the listener ended with status {status}")
    return done == count and not status and left <= 0 and grown <= growth


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.badinputs.cycles", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="cycles (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=900.0, help="stop after (default %(default)s)")
    parser.add_argument("--growth", type=int, default=8 * 1024 * 1024, help="bytes allowed (default %(default)s)")
    parser.add_argument("--serve", metavar="DIRECTORY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve)
        return 0
    return 0 if measure(options.count, options.seconds, options.growth) else 1


if __name__ == "__main__":
    sys.exit(main())
