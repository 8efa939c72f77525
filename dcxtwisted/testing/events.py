"""An events provider that writes down what it was told, and answers what it is told to."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from dcxtwisted.events import DCXACCEvents
from dcxtwisted.interfaces import IDCXACCEvents


@implementer(IDCXACCEvents)
class RecordingEvents:
    """
    Records each event; answers as ``DCXACCEvents`` does, or with what was given.

    :param answers: by the name of the event: a value to answer with, an exception to raise, or a callable that is
        called with the event's arguments and gives the answer.
    :ivar calls: the names of the events with their arguments, in order.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._base = DCXACCEvents()

    @property
    def names(self) -> list[str]:
        """The names of the events so far, in order."""
        return [name for name, _ in self.calls]

    def _told(self, name: str, *args: Any) -> Any:
        self.calls.append((name, args))
        if name not in self.answers:
            return getattr(self._base, name)(*args)
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args) if callable(answer) else answer

    def OnConnection(self, calling_ae_title: str, called_ae_title: str, calling_host: str, association: Any) -> Any:
        """Record and answer."""
        return self._told("OnConnection", calling_ae_title, called_ae_title, calling_host, association)

    def OnStoreSetup(self, filename: str, request: Any) -> Any:
        """Record and answer."""
        return self._told("OnStoreSetup", filename, request)

    def OnStoreDone(self, filename: str, storage_status: bool, request: Any) -> Any:
        """Record and answer."""
        return self._told("OnStoreDone", filename, storage_status, request)

    def OnTimeout(self, association: Any) -> Any:
        """Record and answer."""
        return self._told("OnTimeout", association)

    def OnAssocEnd(self, association: Any, reason: str) -> Any:
        """Record and answer."""
        return self._told("OnAssocEnd", association, reason)

    def OnEcho(self, association: Any) -> Any:
        """Record and answer."""
        return self._told("OnEcho", association)
