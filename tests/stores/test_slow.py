"""
Tests for the file store: a file system whose every call takes its time, over loopback, with a reactor and threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import current_thread, main_thread
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dcxtwisted import DCXACC
from dcxtwisted.stores import directories, publishing, synchronizing, working
from tests.loopback import BlockingPeer
from tests.services.support import dataSet

reactor: Any = _reactor

_TAKES = 0.15
# A long way above what an answer takes here, and below what a call of the file system does.
_PROMPT = 0.1


class _SlowSystem:
    """
    Stands for ``os``, on a disk that is far away.

    :ivar onReactor: when, on the monotonic clock, calls that were made on the reactor's thread returned.
    """

    def __init__(self) -> None:
        self.onReactor: list[float] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "writev", "fsync", "link", "unlink"):
            return real

        def slow(*args: Any, **kwargs: Any) -> Any:
            time.sleep(_TAKES)  # the real thing: what is tested is who waits for it
            self.calls += 1
            if current_thread() is main_thread():
                self.onReactor.append(time.monotonic())
            return real(*args, **kwargs)

        self.__dict__[name] = slow
        return slow


class SlowTests(TestCase):
    """Who sends to a slow disk waits for it, nobody else."""

    timeout = 60

    async def _listen(self, **options: Any) -> tuple[DCXACC, int]:
        listener = DCXACC("tcp:0:interface=127.0.0.1", storeDirectory=os.path.abspath(self.mktemp()), **options)
        self.addCleanup(listener.stopService)
        listener.startService()
        host: Any = listener.ports[0].getHost()
        return listener, host.port

    def _slowDown(self) -> _SlowSystem:
        system = _SlowSystem()
        for module in (publishing, working, synchronizing, directories):
            self.patch(module, "os", system)
        return system

    def _send(self, port: int, number: int) -> list[int]:
        """Send two objects, and return the statuses."""
        peer = BlockingPeer(port).established()
        statuses = [peer.storeAnd(dataSet(f"1.{number}.{each}"), f"1.{number}.{each}") for each in range(2)]
        peer.release()
        peer.close()
        return statuses

    def _echo(self, port: int, isOver: list[int]) -> list[tuple[float, float]]:
        """Send C-ECHO after C-ECHO until all is over; return when each was sent, and what its answer took."""
        peer = BlockingPeer(port).established()
        found = []
        while not isOver:
            sent = time.monotonic()
            answered = len(peer.statuses)
            peer.echo()
            while len(peer.statuses) == answered:
                peer.dataReceived(peer.socket.recv(65536))
            found.append((sent, time.monotonic() - sent))
        peer.abort()
        peer.close()
        return found

    async def _sendBeside(self, port: int) -> list[tuple[float, float]]:
        isOver: list[int] = []
        echoing = deferToThread(self._echo, port, isOver)
        sending: Deferred[Any] = gatherResults([deferToThread(self._send, port, each) for each in range(3)])
        try:
            self.assertEqual(await sending, [[0, 0]] * 3)
        finally:
            isOver.append(1)
            echoes = await echoing
        return echoes

    async def _runSlowly(self, **options: Any) -> None:
        _, port = await self._listen(**options)
        system = self._slowDown()
        echoes = await self._sendBeside(port)
        self.assertGreater(system.calls, 6)
        # One found out; from then on nothing that may block was done where everybody would wait for it.
        self.assertEqual(len(system.onReactor), 1)
        after = sorted(took for sent, took in echoes if sent > system.onReactor[0])
        self.assertGreater(len(after), 10)
        # All but the last tenth: the machine may have other things to do.
        self.assertLess(after[len(after) * 9 // 10], _PROMPT)

    async def test_durable(self) -> None:
        """Of all that is done for six objects, one call is on the reactor's thread."""
        await self._runSlowly()

    async def test_notDurable(self) -> None:
        """So it is where nothing is synchronized."""
        await self._runSlowly(durable=False)

    async def test_quick(self) -> None:
        """On a disk that is quick nothing goes to the pool but what is synchronized."""
        listener, port = await self._listen(durable=False)
        store = listener._files
        inPool: list[object] = []
        real = store.threads._inPool

        def submit(tell: Callable[[Any], object], *call: Any) -> None:
            inPool.append(call[0])
            real(tell, *call)

        self.patch(store.threads._jobs, "_submit", submit)
        self.patch(store.threads, "seconds", lambda: 0.0)  # the machine may be slow: the disk is not
        await self._sendBeside(port)
        self.assertEqual(inPool, [])
