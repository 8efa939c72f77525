"""
Tests for the file store: a start with much to sweep.

With as many files as ``DCXTWISTED_LEFTOVERS`` says, the time that it takes is measured::

    DCXTWISTED_LEFTOVERS=100000 python -m twisted.trial tests.stores.test_leftovers

With 100,000, in 0.03 s an object was stored, and in 1.5 s all were gone (ext4).
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from threading import Event, get_ident

from twisted.internet.defer import execute
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from dcxtwisted import DCXACC
from dcxtwisted.stores.file import FileStore
from tests.interop.relay import portOf
from tests.loopback import DEADLINE, BlockingPeer
from tests.stores.filestores import ManualPool
from tests.support import dataSet

_COUNT = int(os.environ.get("DCXTWISTED_LEFTOVERS", "0"))


def leave(root: str, name: str, count: int) -> str:
    """Leave a working directory with as many files, as a process that was killed does."""
    path = os.path.join(root, ".incoming", name)
    os.makedirs(path)
    for number in range(count):
        os.close(os.open(os.path.join(path, str(number)), os.O_WRONLY | os.O_CREAT))
    os.close(os.open(os.path.join(path, "lock"), os.O_WRONLY | os.O_CREAT))
    return path


def store(port: int) -> int:
    """Store an object, and return the status of the response; by a thread."""
    peer = BlockingPeer(port).established()
    status = peer.storeAnd(dataSet(), "1.2.3")
    peer.abort()
    peer.close()
    return status


class ListeningTests(TestCase):
    """The start does not wait for what has to be swept."""

    timeout = 300

    def start(self, root: str) -> int:
        """Start a listener that has come up, and return its port."""
        self.listener = DCXACC("tcp:0:interface=127.0.0.1", storeDirectory=root)
        self.addCleanup(self.listener.stopService)
        self.listener.startService()
        return portOf(self.listener.ports[0])

    async def swept(self) -> None:
        """Return when the sweep is over."""
        await self.listener._files.threads._jobs.idle()

    async def test_listening(self) -> None:
        """Objects are stored while the sweep hangs at its first file; what a living process works in is left."""
        root = os.path.abspath(self.mktemp())
        dead = leave(root, "123-0123456789abcdef", 20)
        living = leave(root, "124-0123456789abcdef", 10)
        lock = os.open(os.path.join(living, "lock"), os.O_RDWR)
        self.addCleanup(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        hangs, goOn, here = Event(), Event(), get_ident()
        self.addCleanup(goOn.set)
        unlink = os.unlink

        def hanging(path: str) -> None:
            if os.path.dirname(path) == dead:
                if get_ident() == here:
                    raise AssertionError("the reactor sweeps")
                hangs.set()
                goOn.wait(DEADLINE)
            unlink(path)

        self.patch(os, "unlink", hanging)
        port = self.start(root)
        self.assertTrue(await deferToThread(hangs.wait, DEADLINE))
        self.assertEqual(await deferToThread(store, port), 0)
        self.assertEqual(len(os.listdir(dead)), 21)

        goOn.set()
        await self.swept()
        self.assertFalse(os.path.exists(dead))
        self.assertEqual(len(os.listdir(living)), 11)

    async def test_measured(self) -> None:
        """An object is stored within two seconds, with as many as there are to be swept."""
        if not _COUNT:
            raise SkipTest("takes DCXTWISTED_LEFTOVERS")
        root = os.path.abspath(self.mktemp())
        dead = leave(root, "123-0123456789abcdef", _COUNT)
        began = time.monotonic()
        self.assertEqual(await deferToThread(store, self.start(root)), 0)
        answered = time.monotonic() - began
        await self.swept()
        took = time.monotonic() - began
        sys.stdout.write(f"{_COUNT} files: answered after {answered:.3f} s, swept after {took:.3f} s ")
        self.assertFalse(os.path.exists(dead))
        self.assertLess(answered, 2.0)


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
