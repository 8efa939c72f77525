"""
Tests for the file store: a start with much to sweep.

With as many files as ``DCXTWISTED_LEFTOVERS`` says. Of 100,000, in 0.02 s the listener has answered a C-ECHO and in 4 s
all are gone (ext4, two cores that had other things to do)::

    DCXTWISTED_LEFTOVERS=100000 python -m twisted.trial tests.stores.test_leftovers
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcxtwisted import DCXACC
from dcxtwisted.stores.file import FileStore
from tests.loopback import BlockingPeer
from tests.stores.filestores import ManualPool

_COUNT = int(os.environ.get("DCXTWISTED_LEFTOVERS", "2000"))


def leave(root: str, name: str, count: int) -> str:
    """Leave a working directory with as many files, as a process that was killed does."""
    path = os.path.join(root, ".incoming", name)
    os.makedirs(path)
    for number in range(count):
        os.close(os.open(os.path.join(path, str(number)), os.O_WRONLY | os.O_CREAT))
    os.close(os.open(os.path.join(path, "lock"), os.O_WRONLY | os.O_CREAT))
    return path


class ListeningTests(TestCase):
    """The start does not wait for what has to be swept."""

    timeout = 300

    async def test_listening(self) -> None:
        """A C-ECHO is answered within two seconds; then all is swept but what a living process works in."""
        root = os.path.abspath(self.mktemp())
        dead = leave(root, "123-0123456789abcdef", _COUNT)
        living = leave(root, "124-0123456789abcdef", 10)
        lock = os.open(os.path.join(living, "lock"), os.O_RDWR)
        self.addCleanup(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)

        began = time.monotonic()
        listener = DCXACC("tcp:0:interface=127.0.0.1", storeDirectory=root)
        self.addCleanup(listener.stopService)
        listener.startService()
        host: Any = listener.ports[0].getHost()
        await deferToThread(self._echo, host.port)
        answered = time.monotonic() - began
        self.assertLess(answered, 2.0)

        swept: Deferred[None] = listener._files.threads._jobs.idle()
        await swept
        if "DCXTWISTED_LEFTOVERS" in os.environ:
            took = time.monotonic() - began
            sys.stdout.write(f"{_COUNT} files: answered after {answered:.3f} s, swept after {took:.3f} s ")
        self.assertFalse(os.path.exists(dead))
        self.assertEqual(len(os.listdir(living)), 11)

    def _echo(self, port: int) -> None:
        peer = BlockingPeer(port).established()
        peer.echo()
        peer.until(lambda: peer.statuses)
        self.assertEqual(peer.statuses, [0])
        peer.abort()
        peer.close()


class StopTests(SynchronousTestCase):
    """Nor does the stop."""

    def test_stop(self) -> None:
        """A sweep goes no further when the store stops; the next start goes on with it."""
        root = os.path.abspath(self.mktemp())
        dead = leave(root, "123-0123456789abcdef", 20)
        pool = ManualPool()
        store = FileStore(root, reactor=Clock(), inPool=pool)
        store.start()
        stopping = store.stop()
        self.assertNoResult(stopping)
        pool.runAll()
        self.successResultOf(stopping)
        self.assertEqual(len(os.listdir(dead)), 21)
        store = FileStore(root, reactor=Clock(), inPool=execute)
        store.start()
        self.assertFalse(os.path.exists(dead))
        self.successResultOf(store.stop())
