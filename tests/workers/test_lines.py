"""
The log lines of workers.
"""

from __future__ import annotations

import os

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.workers.lines import Lines, eventFrom, observerFor


class LinesTests(SynchronousTestCase):
    """From a worker into the supervisor's log."""

    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        self.log = Logger(namespace="there", observer=observerFor(self.writing))

    def event(self) -> LogEvent:
        os.close(self.writing)
        lines: list[bytes] = []
        pipe = Lines(lines.append)
        while data := os.read(self.reading, 7):
            pipe.feed(data)
        pipe.finish()
        (line,) = lines
        return eventFrom(line, 3)

    def test_event(self) -> None:
        self.log.warn("one\n{two}", two="\u00e9", log_time=12.5)
        event = self.event()
        self.assertEqual(formatEvent(event), "worker 3: one\n\u00e9")
        self.assertEqual((event["log_level"], event["log_namespace"], event["worker"]), (LogLevel.warn, "there", 3))

    def test_traceback(self) -> None:
        try:
            raise ZeroDivisionError("by none")
        except ZeroDivisionError:
            self.log.failure("it failed", Failure())
        text = formatEvent(self.event())
        self.assertTrue(text.startswith("worker 3: it failed\nTraceback "), text)
        self.assertIn("ZeroDivisionError: by none", text)

    def test_notOurs(self) -> None:
        """What others write is a line, too."""
        for line in (b"Segmentation fault", b"{}", b"7", b'{"text": 1}', b"\xff"):
            event = eventFrom(line, 1)
            self.assertEqual(formatEvent(event), f"worker 1: {line.decode(errors='backslashreplace')}")
            self.assertEqual(event["log_level"], LogLevel.warn)

    def test_noSupervisor(self) -> None:
        """Nothing is logged where nobody reads."""
        reading, writing = os.pipe()
        os.close(reading)
        self.addCleanup(os.close, writing)
        Logger(observer=observerFor(writing)).info("nobody")
        os.close(self.writing)

    def test_endless(self) -> None:
        """A line without an end takes no more than a bounded place."""
        lines: list[bytes] = []
        pipe = Lines(lines.append)
        for _ in range(40):
            pipe.feed(b"x" * 65536)
        pipe.feed(b"\n\n")
        self.assertLess(len(lines[0]), 1200000)
        self.assertEqual(len(lines), 1)
        os.close(self.writing)
