"""
What the values of messages have in common.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.wire.messages import Cancel, CStoreRequest, Request

_ATTRIBUTES = (1, 0x0001, 7, True, b"1.2", b"1.2.3")


class ValueTests(SynchronousTestCase):
    """Equality and representation"""

    def test_equal(self) -> None:
        self.assertEqual(Cancel(1, 2), Cancel(1, 2, False))
        self.assertNotEqual(Cancel(1, 2), Cancel(1, 3))

    def test_anotherClass(self) -> None:
        self.assertNotEqual(Request(*_ATTRIBUTES, {}), CStoreRequest(*_ATTRIBUTES, {}))
        self.assertNotEqual(Cancel(1, 2), (1, 2, False))

    def test_comparedButNotShown(self) -> None:
        one, other = Request(*_ATTRIBUTES, {}), Request(*_ATTRIBUTES, {0x0700: b"\2\0"})
        self.assertNotEqual(one, other)
        self.assertEqual(repr(one), repr(other))

    def test_shown(self) -> None:
        self.assertEqual(repr(Cancel(1, 2)), "Cancel(contextID=1, messageIDBeingRespondedTo=2, hasDataSet=False)")
