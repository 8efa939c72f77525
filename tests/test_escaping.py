"""
What peers sent, in log lines.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.escaping import escaped


class EscapedTests(SynchronousTestCase):
    def test_escaped(self) -> None:
        self.assertEqual(escaped("PLAIN"), "'PLAIN'")
        self.assertEqual(escaped("a\r\n\x1b\xe9\u4e2d'{x}"), '"a\\r\\n\\x1b\\xe9\\u4e2d\'{x}"')

    def test_cut(self) -> None:
        """What is longer than a UID may be says how long it is."""
        self.assertEqual(escaped("1" * 64), "'" + "1" * 64 + "'")
        self.assertEqual(escaped("1" * 65), "'" + "1" * 64 + "'... (65 characters)")
        self.assertEqual(escaped("\n" * 65000), "'" + "\\n" * 64 + "'... (65000 characters)")
