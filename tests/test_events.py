"""
Asking an application: the base of its events, and answers that are plain, Deferred, coroutines, or asyncio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dcxtwisted.errors import AssociationRejected, StoreRefused
from dcxtwisted.events import DCXACCEvents, ask, asyncioEvents, checkReactor, misspelt
from dcxtwisted.interfaces import IDCXACCEvents
from dcxtwisted.testing import RecordingEvents
from tests.support import ARGUMENTS


def waited(event: Callable[..., Any], *args: object) -> Deferred[Any]:
    """Return the answer of an event that has to be waited for."""
    answer = ask(event, *args)
    assert isinstance(answer, Deferred)
    return answer


class BaseTests(SynchronousTestCase):
    def test_provides(self) -> None:
        verifyObject(IDCXACCEvents, DCXACCEvents())

    def test_acceptsAndStores(self) -> None:
        answers = {name: getattr(DCXACCEvents(), name)(*arguments) for name, arguments in ARGUMENTS.items()}
        self.assertEqual(
            answers,
            {
                "OnConnection": True,
                "OnStoreSetup": None,
                "OnStoreDone": True,
                "OnTimeout": None,
                "OnAssocEnd": None,
                "OnEcho": None,
            },
        )


class Misspelt(DCXACCEvents):
    """What nobody ever calls."""

    OnFind = None

    def OnStoredone(self, filename: str, storage_status: bool, request: Any) -> bool:
        return False

    def on_echo(self, association: Any) -> None: ...

    def OnOurOwn(self) -> None: ...

    def onOurOwn(self) -> None: ...

    def Once(self) -> None: ...

    def _OnEcho(self) -> None: ...


class MisspeltTests(SynchronousTestCase):
    """Names of events that are none."""

    def test_lines(self) -> None:
        never = "is never called: there is no such event"
        lines = [
            f"Misspelt.OnFind {never}",
            f"Misspelt.OnOurOwn {never}",
            f"Misspelt.OnStoredone {never}, is it OnStoreDone?",
            f"Misspelt.on_echo {never}, is it OnEcho?",
        ]
        self.assertEqual(misspelt(Misspelt()), lines)
        self.assertEqual(misspelt(asyncioEvents(Misspelt())), lines)

    def test_none(self) -> None:
        self.assertEqual(misspelt(DCXACCEvents()), [])
        self.assertEqual(misspelt(RecordingEvents()), [])


class AskTests(SynchronousTestCase):
    def test_plain(self) -> None:
        for value in (True, False, None, "a path", 0xB000):
            self.assertIs(ask(lambda value=value: value), value)

    def test_arguments(self) -> None:
        self.assertEqual(ask(lambda *args: args, 1, "two"), (1, "two"))

    def test_raises(self) -> None:
        def event() -> None:
            raise AssociationRejected(2, 3, 1)

        self.assertRaises(AssociationRejected, ask, event)

    def test_exits(self) -> None:
        """To end the program is not for an event to do, and who asked has to hear of it."""

        def event() -> None:
            raise SystemExit(3)

        raised = self.assertRaises(RuntimeError, ask, event)
        self.assertIsInstance(raised.__cause__, SystemExit)

    def test_deferred(self) -> None:
        later: Deferred[bool] = Deferred()
        self.assertIs(ask(lambda: later), later)

    def test_coroutine(self) -> None:
        later: Deferred[str] = Deferred()

        async def event(more: str) -> str:
            return await later + more

        answer = waited(event, " and more")
        self.assertNoResult(answer)
        later.callback("result")
        self.assertEqual(self.successResultOf(answer), "result and more")

    def test_coroutineAtOnce(self) -> None:
        async def event() -> bool:
            return True

        answer = waited(event)
        self.assertIs(self.successResultOf(answer), True)

    def test_coroutineRaises(self) -> None:
        async def event() -> None:
            raise StoreRefused(0xA700)

        answer = waited(event)
        self.assertEqual(self.failureResultOf(answer, StoreRefused).value.status, 0xA700)

    def test_coroutineCancelled(self) -> None:
        cancelled: list[object] = []

        async def event() -> None:
            await Deferred(cancelled.append)

        answer = waited(event)
        answer.cancel()
        self.assertEqual(len(cancelled), 1)
        self.failureResultOf(answer, CancelledError)


class Sleeping(DCXACCEvents):
    """Every event awaits asyncio; OnEcho for ever."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.deferred: Deferred[str] = Deferred()

    async def OnConnection(self, *args: object) -> bool:
        await asyncio.sleep(0)
        return True

    async def OnStoreSetup(self, filename: str, request: object) -> str:
        return await self.deferred.asFuture(asyncio.get_running_loop())

    async def OnStoreDone(self, *args: object) -> bool:
        await asyncio.sleep(0)
        raise StoreRefused(0xC123)

    async def OnEcho(self, association: object) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class AsyncioTests(SynchronousTestCase):
    """In a loop of asyncio, as with Twisted's asyncio reactor."""

    def test_provides(self) -> None:
        events = asyncioEvents(DCXACCEvents())
        verifyObject(IDCXACCEvents, events)

    def test_plainAnswersPass(self) -> None:
        """They need no loop."""
        later = succeed(True)
        provider = RecordingEvents(OnStoreSetup="a path", OnStoreDone=later)
        events = asyncioEvents(provider)
        self.assertIs(ask(events.OnConnection, *ARGUMENTS["OnConnection"]), True)
        self.assertEqual(ask(events.OnStoreSetup, *ARGUMENTS["OnStoreSetup"]), "a path")
        self.assertIs(ask(events.OnStoreDone, *ARGUMENTS["OnStoreDone"]), later)
        self.assertEqual(provider.calls, list(ARGUMENTS.items())[:3])

    def test_withoutItsReactor(self) -> None:
        """Where no loop of asyncio runs a coroutine would never answer: it is not begun, and that is said."""
        error = self.assertRaises(RuntimeError, ask, asyncioEvents(Sleeping()).OnConnection, *ARGUMENTS["OnConnection"])
        self.assertIn("twistd --reactor=asyncio", str(error))

    def test_checkedBefore(self) -> None:
        """Whether there is such a loop shows before anything is asked; a clock in its place is not judged."""
        events = asyncioEvents(DCXACCEvents())
        error = self.assertRaises(ValueError, checkReactor, events, MemoryReactor())
        self.assertIn("asyncioEvents needs Twisted's asyncio reactor: twistd --reactor=asyncio", str(error))
        checkReactor(DCXACCEvents(), MemoryReactor())
        checkReactor(events, Clock())

        async def main() -> None:
            checkReactor(events, MemoryReactor())

        asyncio.run(main())
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        checkReactor(events, AsyncioSelectorReactor(loop))

    def test_raises(self) -> None:
        events = asyncioEvents(RecordingEvents(OnConnection=AssociationRejected()))
        self.assertRaises(AssociationRejected, ask, events.OnConnection, *ARGUMENTS["OnConnection"])

    def test_coroutine(self) -> None:
        async def main() -> Any:
            answer = waited(asyncioEvents(Sleeping()).OnConnection, *ARGUMENTS["OnConnection"])
            self.assertNoResult(answer)
            return await answer.asFuture(asyncio.get_running_loop())

        self.assertIs(asyncio.run(main()), True)

    def test_awaitsADeferred(self) -> None:
        async def main() -> Any:
            provider = Sleeping()
            answer = waited(asyncioEvents(provider).OnStoreSetup, *ARGUMENTS["OnStoreSetup"])
            await asyncio.sleep(0)
            provider.deferred.callback("a path")
            return await answer.asFuture(asyncio.get_running_loop())

        self.assertEqual(asyncio.run(main()), "a path")

    def test_coroutineRaises(self) -> None:
        async def main() -> Any:
            answer = waited(asyncioEvents(Sleeping()).OnStoreDone, *ARGUMENTS["OnStoreDone"])
            return await answer.asFuture(asyncio.get_running_loop())

        with self.assertRaises(StoreRefused) as caught:
            asyncio.run(main())
        self.assertEqual(caught.exception.status, 0xC123)

    def test_cancelled(self) -> None:
        """The coroutine is cancelled in asyncio's way, and the Deferred fails in Twisted's."""
        failures: list[Any] = []

        async def main() -> int:
            provider = Sleeping()
            answer = waited(asyncioEvents(provider).OnEcho, None)
            answer.addErrback(failures.append)
            await asyncio.sleep(0)
            answer.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return provider.cancelled

        self.assertEqual(asyncio.run(main()), 1)
        (failure,) = failures
        self.assertIs(failure.type, CancelledError)

    def test_cancelledBeforeItBegan(self) -> None:
        failures: list[Any] = []

        async def main() -> None:
            answer = waited(asyncioEvents(Sleeping()).OnEcho, None)
            answer.addErrback(failures.append)
            answer.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(main())
        self.assertEqual([failure.type for failure in failures], [CancelledError])
