"""
How what a worker logs comes into the log of its supervisor: a line of JSON for each event, through a pipe.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import provider

# A line that has no end by then is cut, in bytes.
_LONGEST: Final = 1 << 20
_KEYS: Final = {"time", "namespace", "level", "text"}


def observerFor(descriptor: int) -> ILogObserver:
    """Return what writes events to a descriptor; what cannot be written is dropped."""

    def observe(event: LogEvent) -> None:
        level = event.get("log_level")
        line = {
            "time": event.get("log_time"),
            "namespace": event.get("log_namespace"),
            "level": level.name if level is not None else "info",
            "text": eventAsText(event, includeTimestamp=False, includeSystem=False),
        }
        data = memoryview(json.dumps(line).encode() + b"\n")
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            pass  # the supervisor is gone, and with it the log

    observer: ILogObserver = provider(ILogObserver)(observe)
    return observer


def eventFrom(line: bytes, worker: int) -> LogEvent:
    """Return the event of a line that a worker wrote; what is none of ours, such as what C libraries say, a warning."""
    said = _said(line)
    return {
        "log_time": said["time"],
        "log_namespace": said["namespace"],
        "log_level": LogLevel.lookupByName(said["level"]),
        "log_format": "worker {worker}: {text}",
        "worker": worker,
        "text": said["text"],
    }


def _said(line: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.keys() == _KEYS:
        return said
    return {
        "time": time.time(),
        "namespace": __name__,
        "level": "warn",
        "text": line.decode(errors="backslashreplace"),
    }


class Lines:
    """Cuts what comes through a pipe into lines."""

    def __init__(self, received: Callable[[bytes], object]) -> None:
        """
        :param received: called with each line, without its end.
        """
        self._received = received
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LONGEST]
        for line in whole:
            if line:
                self._received(line)

    def finish(self) -> None:
        """There is no more; what has no end is a line, too."""
        rest, self._rest = self._rest, b""
        if rest:
            self._received(rest)
