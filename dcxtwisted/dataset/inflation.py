"""Deflated data sets (PS3.5 A.5), inflated in small blocks as they arrive."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from dcxtwisted.dataset.encodings import View


class Inflation:
    """
    A deflated data set as blocks of inflated bytes, none longer than 64 KiB.

    Raw RFC 1951 is what PS3.5 A.5 asks for. A zlib or gzip header is known by two bytes which no encoder writes
    at the start of a raw stream: a block of the reserved type, or a stored one with pad bits set.

    :ivar ended: the end of the deflated stream was seen.
    :ivar capped: it inflated to more than any data set does, and nothing more is inflated.
    """

    __slots__ = ("_inflate", "_inflated", "_received", "_start", "_trailing", "_wrapped", "capped", "ended")

    _BLOCK = 65536
    _PART = 16384  # zlib copies what it has not used at every block, so it is not given much at once

    def __init__(self) -> None:
        self._start = b""
        self._inflate: zlib._Decompress | None = None
        self._received = 0
        self._inflated = 0
        self._trailing = b""  # what follows the stream, as far as it matters
        self._wrapped = False
        self.ended = False
        self.capped = False

    def blocks(self, view: View) -> Iterator[bytes]:
        """
        The inflated bytes of one more chunk.

        :raise zlib.error: the stream is corrupt.
        """
        self._received += len(view)
        if self._inflate is None:
            missing = 2 - len(self._start)
            self._start += bytes(view[:missing])
            if len(self._start) < 2:
                return
            self._inflate = zlib.decompressobj(self._windowBits(*self._start))
            yield from self._blocksOf(self._inflate, self._start)
            view = view[missing:]
        for offset in range(0, len(view), self._PART):
            yield from self._blocksOf(self._inflate, view[offset : offset + self._PART])

    def _windowBits(self, first: int, second: int) -> int:
        """What zlib is to be told of the kind of stream that begins with these two bytes."""
        gzip = first == 0x1F and second == 0x8B
        wrapped = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
        self._wrapped = gzip or wrapped
        return 31 if gzip else 15 if wrapped else -15

    def _blocksOf(self, inflate: zlib._Decompress, rest: View) -> Iterator[bytes]:
        while not self.ended and not self.capped:
            block = inflate.decompress(rest, self._BLOCK)
            self._inflated += len(block)
            if self._inflated > (16 << 20) + 50 * self._received:
                self.capped = True
            yield block
            if inflate.eof:
                self.ended = True
                rest = inflate.unused_data
            elif len(block) < self._BLOCK:
                return
            else:
                rest = inflate.unconsumed_tail
        if self.ended:
            self._trailing += bytes(rest[: 18 - len(self._trailing)])

    def quirks(self) -> Iterator[str]:
        """What was odd about the stream."""
        if self._wrapped:
            yield "zlib or gzip header before the deflated stream"
        if self._trailing not in (b"", b"\0"):
            yield "bytes after the deflated stream"

    @property
    def overrun(self) -> bool:
        """More follows the stream than the pad byte and the 16 bytes that are let pass."""
        return len(self._trailing) > 17
