"""
What only a kernel can show: resets and half closes on real connections, and many of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from struct import pack
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dcxtwisted import DCXACC, Configuration
from dcxtwisted.testing import RecordingEvents
from tests.badinputs.inputs import RQ, dataSet, echoRQ, store
from tests.badinputs.oracle import openDescriptors
from tests.loopback import LoopbackPeer, connect

reactor: Any = _reactor

#: Seconds that anything may take here.
_SOON = 20.0


def closed(peer: socket.socket) -> None:
    """Send FIN, and read no more."""
    peer.close()


def halfClosed(peer: socket.socket) -> None:
    """Send FIN, and go on reading; the socket goes when it is collected."""
    peer.shutdown(socket.SHUT_WR)


def reset(peer: socket.socket) -> None:
    """Send RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
    peer.close()


class LoopbackTests(TestCase):
    """Bad peers at 127.0.0.2, a good one at 127.0.0.1."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.events = RecordingEvents()
        self.bad: list[socket.socket] = []
        self.addCleanup(self.closeAll)

    def closeAll(self) -> None:
        """Close what the bad peers still have open."""
        for peer in self.bad:
            peer.close()

    @inlineCallbacks
    def start(self, **settings: Any) -> Generator[Deferred[Any], Any, None]:
        """Start a listener, and have the canary associate."""
        self.listener = DCXACC(
            "tcp:0:interface=127.0.0.1",
            self.events,
            storeDirectory=str(self.directory),
            configuration=Configuration(**settings),
        )
        self.addCleanup(self.listener.stopService)
        self.listener.startService()
        self.port: int = self.listener.ports[0].getHost().port  # type: ignore[attr-defined]  # a TCP port's address
        self.canary: LoopbackPeer = yield connect(self.port)
        self.addCleanup(self.canary.gone)
        self.addCleanup(self.canary.leave)
        self.canary.associate()
        yield self.canary.when(lambda: self.canary.accepted)
        yield self.sing("1.9.0")  # makes threads, which have descriptors
        self.before = openDescriptors()

    @inlineCallbacks
    def sing(self, instance: str) -> Generator[Deferred[Any], Any, None]:
        """Have the canary's C-ECHO and C-STORE succeed."""
        answered = len(self.canary.statuses)
        self.canary.echo()
        self.canary.store(dataSet(instance), instance, messageID=2)
        yield self.canary.when(lambda: len(self.canary.statuses) == answered + 2)
        self.assertEqual(self.canary.statuses[answered:], [0, 0])

    def attack(self, data: bytes = b"") -> socket.socket:
        """Return a new bad peer that has sent this."""
        peer = socket.socket()
        self.bad.append(peer)
        peer.bind(("127.0.0.2", 0))
        peer.settimeout(_SOON)
        # The kernel accepts for the listener, which runs in this thread.
        peer.connect(("127.0.0.1", self.port))
        peer.sendall(data)
        return peer

    @inlineCallbacks
    def crowd(self, count: int) -> Generator[Deferred[Any], Any, None]:
        """Have so many connections of which nothing comes."""
        for number in range(count):
            self.attack()
            if number % 20 == 0:
                yield deferLater(reactor, 0)  # accepting them needs a turn: the kernel keeps 50 for that

    @inlineCallbacks
    def until(self, condition: Callable[[], bool], what: str) -> Generator[Deferred[Any], Any, None]:
        """Wait for something to be true."""
        deadline = reactor.seconds() + _SOON
        while not condition():
            if reactor.seconds() > deadline:
                self.fail(f"not in time: {what}")
            yield deferLater(reactor, 0.01)

    @inlineCallbacks
    def judge(self, accepted: int = 0) -> Generator[Deferred[Any], Any, None]:
        """Have nothing left of the bad peers."""
        factory = self.listener.factory
        yield self.until(lambda: len(factory.protocols) == 1, "connections gone")
        yield self.until(lambda: len(factory.associations) == 1, "associations gone")
        self.closeAll()
        yield self.sing("1.9.1")
        yield self.until(lambda: openDescriptors() == self.before, f"descriptors {openDescriptors()}, {self.before}")
        self.assertEqual(self.events.names.count("OnAssocEnd"), accepted)
        files = sorted(name for _, _, names in os.walk(self.directory) for name in names if name != "lock")
        self.assertEqual(files, ["1.9.0.dcm", "1.9.1.dcm"])
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_goneInsideTheRequest(self) -> Generator[Deferred[Any], Any, None]:
        yield self.start()
        for go in (closed, halfClosed, reset):
            for cut in range(0, len(RQ), 7):
                go(self.attack(RQ[:cut]))
            yield self.sing("1.9.0")
        yield self.judge()

    @inlineCallbacks
    def test_goneInsideAnObject(self) -> Generator[Deferred[Any], Any, None]:
        """The answer to the request may come when nobody is there for it."""
        yield self.start()
        whole = store("1.2.3", size=100_000)
        for go in (closed, halfClosed, reset):
            for cut in range(1, len(whole), len(whole) // 20):
                peer = self.attack(RQ)
                yield self.until(lambda: len(self.listener.factory.associations) == 2, "accepted")
                peer.sendall(whole[:cut])
                go(peer)
                yield self.until(lambda: len(self.listener.factory.associations) == 1, "over")
        yield self.judge(self.events.names.count("OnConnection") - 1)

    @inlineCallbacks
    def test_idleConnections(self) -> Generator[Deferred[Any], Any, None]:
        """They are closed, all of them, and do not keep others from coming."""
        yield self.start(ARTIM=1.0)
        yield self.crowd(300)
        yield self.until(lambda: len(self.listener.factory.protocols) == 301, "accepted")
        yield self.sing("1.9.0")
        yield self.judge()

    @inlineCallbacks
    def test_idleConnectionsBeyondTheLimit(self) -> Generator[Deferred[Any], Any, None]:
        yield self.start(maximumConnectionsBeforeAssociation=50)
        yield self.crowd(300)
        yield self.until(lambda: len(self.listener.factory.protocols) == 51, "closed beyond the limit")
        yield self.sing("1.9.0")
        self.closeAll()
        yield self.judge()

    @inlineCallbacks
    def test_pipelinedWithoutReading(self) -> Generator[Deferred[Any], Any, None]:
        """The kernel's buffers fill, and the listener stops reading; the canary does not notice."""
        yield self.start()
        peer = self.attack(RQ)
        yield self.until(lambda: len(self.listener.factory.associations) == 2, "accepted")
        peer.setblocking(False)
        echoes = echoRQ() * 1000
        sent, stalled = 0, 0
        while stalled < 20:
            try:
                sent += peer.send(echoes[sent % len(echoes) :])
                stalled = 0
            except BlockingIOError:
                stalled += 1
            yield deferLater(reactor, 0.01)
            assert sent < 100_000_000, "it takes everything"
        yield self.sing("1.9.0")
        reset(peer)
        yield self.judge(1)
