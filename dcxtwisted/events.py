"""
Calling an application: the no-op base of the events, and what makes plain values, Deferreds and coroutines alike.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import iscoroutine
from os import PathLike
from typing import Any, Final, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from dcxtwisted.interfaces import (
    Answer,
    IAssociation,
    IDCXACCEvents,
    InMemory,
    IStoreRequest,
    IStoreSink,
)

_T = TypeVar("_T")

# What a method of a provider is called that is meant to be an event.
_LIKE_AN_EVENT: Final = re.compile("On[A-Z]")

_NEEDS_ASYNCIO: Final = (
    "asyncioEvents needs Twisted's asyncio reactor: twistd --reactor=asyncio, or in a program "
    "twisted.internet.asyncioreactor.install() before anything imports the reactor"
)


@implementer(IDCXACCEvents)
class DCXACCEvents:
    """Events that accept every association and store every object; override what you care for."""

    def OnConnection(
        self, calling_ae_title: str, called_ae_title: str, calling_host: str, association: IAssociation
    ) -> Answer[bool | None]:
        """Accept."""
        return True

    def OnStoreSetup(
        self, filename: str, request: IStoreRequest
    ) -> Answer[str | PathLike[str] | IStoreSink | InMemory | None]:
        """Store the acceptor's own way."""
        return None

    def OnStoreDone(self, filename: str, storage_status: bool, request: IStoreRequest) -> Answer[bool | int | None]:
        """Confirm."""
        return True

    def OnTimeout(self, association: IAssociation) -> Answer[object]:
        """Do nothing."""
        return None

    def OnAssocEnd(self, association: IAssociation, reason: str) -> Answer[object]:
        """Do nothing."""
        return None

    def OnEcho(self, association: IAssociation) -> Answer[object]:
        """Do nothing."""
        return None


def ask(event: Callable[..., Answer[_T]], *args: object) -> _T | Deferred[_T]:
    """
    Return what an event answers: its plain value at once, or a Deferred where it has to be waited for.

    Whatever the event raises passes through; SystemExit as RuntimeError, as the reactor would let neither the program
    end nor whoever waits for the answer know.
    """
    try:
        answer = event(*args)
    except SystemExit as error:
        raise RuntimeError("an event called sys.exit; reactor.stop is what ends a program") from error
    if answer is not None and answer is not True and iscoroutine(answer):
        return Deferred.fromCoroutine(answer)
    return answer  # type: ignore[return-value]  # iscoroutine does not narrow the other branch


def misspelt(events: IDCXACCEvents) -> Sequence[str]:
    """Return a line for each attribute of a provider that looks like an event and is none."""
    if isinstance(events, _AsyncioEvents):
        events = events.wrapped
    known = {_plain(name): name for name in IDCXACCEvents}
    found = []
    for name in dir(events):
        if name in IDCXACCEvents or name.startswith("_") or not (_plain(name) in known or _LIKE_AN_EVENT.match(name)):
            continue
        close = get_close_matches(_plain(name), known, 1, cutoff=0.75)
        meant = f", is it {known[close[0]]}?" if close else ""
        found.append(f"{type(events).__name__}.{name} is never called: there is no such event{meant}")
    return found


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def checkReactor(events: IDCXACCEvents, reactor: object) -> None:
    """
    See that what C{asyncioEvents} returned can be asked on a reactor.

    :raises ValueError: that runs no asyncio, so no coroutine would ever answer.
    """
    if not isinstance(events, _AsyncioEvents) or not IReactorCore.providedBy(reactor):
        return  # a clock of a test is no reactor
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Only now: few have a use for it.
        from twisted.internet.asyncioreactor import AsyncioSelectorReactor

        if not isinstance(reactor, AsyncioSelectorReactor):
            raise ValueError(_NEEDS_ASYNCIO) from None


class _AsyncioEvents:
    def __init__(self, provider: IDCXACCEvents) -> None:
        self.wrapped = provider
        for name in IDCXACCEvents:
            setattr(self, name, _inAsyncio(getattr(provider, name)))


def _inAsyncio(event: Callable[..., Answer[Any]]) -> Callable[..., Any]:
    def called(*args: object) -> Any:
        answer = event(*args)
        if not iscoroutine(answer):
            return answer
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            answer.close()
            # Made a task of a loop that nobody runs, it would never answer.
            raise RuntimeError(_NEEDS_ASYNCIO) from None
        return Deferred.fromFuture(loop.create_task(answer)).addErrback(_cancelled)

    return called


def _cancelled(failure: Failure) -> Failure:
    """Make the cancellation of asyncio the one of Twisted, which is expected and not logged."""
    return Failure(CancelledError()) if failure.check(asyncio.CancelledError) else failure


def asyncioEvents(provider: IDCXACCEvents) -> IDCXACCEvents:
    """
    Return the events of C{provider}, whose coroutines may await asyncio.

    Twisted's asyncio reactor must be the one running. A Deferred can be awaited there through its C{asFuture}.
    """
    events = _AsyncioEvents(provider)
    directlyProvides(events, IDCXACCEvents)
    return cast(IDCXACCEvents, events)
