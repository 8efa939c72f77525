"""
An A-ASSOCIATE-RQ read once more, as the standard has it: where its length fields are, and what is to come of it.

Nothing of the product's own reading is used, so the two can disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from tests.badinputs.inputs import APPLICATION_CONTEXT

#: Where the items begin in the PDU, behind its header and the fixed fields.
ITEMS = 74

_ROLE, _EXTENDED, _COMMON, _IDENTITY, _WINDOW = 0x54, 0x56, 0x57, 0x58, 0x53


class Broken(Exception):
    """The lengths do not add up, or an item is none."""


class Reading:
    """
    One request, read.

    :ivar lengthFields: the offsets of the 16-bit length fields passed, in order.
    """

    def __init__(self, stream: bytes) -> None:
        self.lengthFields: list[int] = []
        self._stream = stream
        self._names: list[str] = []
        self._contextIDs: list[int] = []
        self._maximumLength: int | None = None

    def reactions(self) -> tuple[str, ...]:
        """Return what is to come back."""
        try:
            self._read()
        except Broken:
            return ("AB 0/0",)
        if self._names != [APPLICATION_CONTEXT]:
            return ("RJ 1/1/2",)
        if not self._contextIDs or (self._maximumLength is not None and 0 < self._maximumLength < 8):
            return ("RJ 1/1/1",)
        return ("AC",)

    def _read(self) -> None:
        seen = set()
        for itemType, start, end in self._items(ITEMS, len(self._stream)):
            if itemType == 0x10:
                self._names.append(self._text(start, end))
            elif itemType == 0x20:
                self._context(start, end)
            elif itemType == 0x50 and itemType not in seen:
                self._user(start, end)
            seen.add(itemType)

    def _text(self, start: int, end: int) -> str:
        return self._stream[start:end].decode("latin-1").rstrip("\0 ")

    def _items(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        while start < end:
            if start + 4 > end:
                raise Broken
            itemType, length = unpack_from(">BxH", self._stream, start)
            self.lengthFields.append(start + 2)
            start += 4 + length
            if start > end:
                raise Broken
            yield itemType, start - length, start

    def _counted(self, start: int, end: int) -> int:
        """Pass over a field with its length; return where it ends."""
        if start + 2 > end:
            raise Broken
        self.lengthFields.append(start)
        start += 2 + int.from_bytes(self._stream[start : start + 2], "big")
        if start > end:
            raise Broken
        return start

    def _context(self, start: int, end: int) -> None:
        if end - start < 4:
            raise Broken
        contextID = self._stream[start]
        if not contextID or contextID in self._contextIDs or len(self._contextIDs) == 128:
            raise Broken
        self._contextIDs.append(contextID)
        if sum(itemType == 0x30 for itemType, _, _ in self._items(start + 4, end)) > 1:
            raise Broken

    def _user(self, start: int, end: int) -> None:
        seen = set()
        for itemType, first, last in self._items(start, end):
            repeated = itemType in seen
            seen.add(itemType)
            if itemType == 0x51 and not repeated and last - first >= 4:
                (self._maximumLength,) = unpack_from(">L", self._stream, first)
            elif (itemType == _WINDOW and not repeated and last - first < 4) or (
                itemType == _ROLE and self._counted(first, last) != last - 2
            ):
                raise Broken
            elif itemType == _EXTENDED:
                self._counted(first, last)
            elif itemType == _COMMON:
                self._common(first, last)
            elif (
                itemType == _IDENTITY
                and not repeated
                and (last - first < 2 or self._counted(self._counted(first + 2, last), last) != last)
            ):
                raise Broken

    def _common(self, start: int, end: int) -> None:
        related = self._counted(self._counted(start, end), end)
        ends = self._counted(related, end)
        if ends != end:
            raise Broken
        related += 2
        while related < ends:
            related = self._counted(related, ends)
