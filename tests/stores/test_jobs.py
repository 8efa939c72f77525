"""
Tests for the file store: the threads that do what blocks.
"""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from dcxtwisted.stores import jobs
from dcxtwisted.stores.jobs import Threads

reactor: Any = _reactor


class ThreadsTests(TestCase):
    """With the reactor, and threads of their own."""

    timeout = 60

    def setUp(self) -> None:
        self.threads = Threads(reactor)
        self.threads.start()
        self.addCleanup(self.threads.stop)

    async def test_results(self) -> None:
        """Each job has its own result, or its own failure, on the reactor's thread."""
        here: list[bool] = []

        def returned(result: int) -> int:
            here.append(threading.current_thread() is threading.main_thread())
            return result

        results = [self.threads.run(divmod, number, 10).addCallback(returned) for number in range(1000)]
        failing = self.threads.run(divmod, 1, 0)
        self.assertEqual(await gatherResults(results), [divmod(number, 10) for number in range(1000)])
        await self.assertFailure(failing, ZeroDivisionError)
        self.assertEqual(set(here), {True})

    async def test_atOnce(self) -> None:
        """As many as there are threads run at the same time; what comes after them waits for one that is free."""
        barrier = threading.Barrier(16)
        waiting: list[Deferred[int]] = [self.threads.run(barrier.wait, 30) for _ in range(16)]
        after = self.threads.run(int, "7")
        self.assertEqual(sorted(await gatherResults(waiting)), list(range(16)))
        self.assertEqual(await after, 7)

    async def test_fromACallback(self) -> None:
        """What has returned may begin the next, again and again."""

        def next(number: int) -> int | Deferred[int]:
            return self.threads.run(int, number + 1).addCallback(next) if number < 500 else number

        self.assertEqual(await self.threads.run(int, 0).addCallback(next), 500)

    async def test_stop(self) -> None:
        """What is under way is waited for; then all threads have ended, and what is left over is done at once."""
        before = threading.active_count()
        go = threading.Event()
        waiting = self.threads.run(go.wait)
        self.assertEqual(threading.active_count(), before + 1)
        stopping = self.threads.stop()
        self.assertNoResult(stopping)
        go.set()
        await stopping
        self.assertTrue(self.successResultOf(waiting))
        self.assertEqual(threading.active_count(), before)
        self.assertEqual(self.successResultOf(self.threads.run(int, "7")), 7)

    async def test_noMoreThreads(self) -> None:
        """Where the system has no thread to give, the job fails; with one already there, that one does it."""

        class NoThread(threading.Thread):
            def start(self) -> None:
                raise RuntimeError("can't start new thread")

        real = threading.Thread
        self.patch(jobs, "Thread", NoThread)
        self.failureResultOf(self.threads.run(int, "7"), RuntimeError)
        self.patch(jobs, "Thread", real)
        self.assertEqual(await self.threads.run(int, "7"), 7)
        self.patch(jobs, "Thread", NoThread)
        self.assertEqual(await gatherResults([self.threads.run(int, "8"), self.threads.run(int, "9")]), [8, 9])
