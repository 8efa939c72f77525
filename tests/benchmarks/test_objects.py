"""
Tests of L{benchmarks.objects}.
"""

from __future__ import annotations

from struct import unpack_from

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.objects import largeObject
from dcxtwisted.dataset import DataSetReader, Wholeness


class LargeObjectTests(SynchronousTestCase):
    """The request that no memory holds."""

    def test_whole(self) -> None:
        """The reader of data sets finds it whole, and its fragments where they should be."""
        stream = b"".join(largeObject(1 << 20))
        reader = DataSetReader("1.2.840.10008.1.2.4.50")
        position, flags = 0, []
        while position < len(stream):
            length, flag = unpack_from(">L5xB", stream, position + 2)
            flags.append(flag)
            if not flag & 1:
                reader.feed(memoryview(stream)[position + 12 : position + 6 + length])
            position += 6 + length
        head = reader.finish()
        self.assertEqual(flags, [3] + [0] * 9 + [2])
        self.assertEqual((head.wholeness, head.quirks), (Wholeness.WHOLE, ()))
        self.assertEqual(head.SOPInstanceUID, "2.25.3141592653589793238462643383279.3")
        self.assertEqual(head.size, 1049022)
