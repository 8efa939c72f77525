"""
Calling an application: the no-op base of the events, and what makes plain values, Deferreds and coroutines alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import iscoroutine
from os import PathLike
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
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


class _AsyncioEvents:
    def __init__(self, provider: IDCXACCEvents) -> None:
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
            raise RuntimeError("asyncioEvents needs Twisted's asyncio reactor: twistd --reactor=asyncio") from None
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
