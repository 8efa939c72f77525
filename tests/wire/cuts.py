"""
Byte streams cut every way that a transport may cut them, and the pieces put together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from dcxtwisted.wire.framing import PDUBody, PDVReceived

_SEEDS = range(5)


def cutAt(stream: bytes, positions: Iterable[int]) -> list[bytes]:
    """The stream in chunks that end at these positions; positions outside of it are passed over."""
    ends = sorted({position for position in positions if 0 < position < len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def waysToCut(stream: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The stream whole, byte by byte, and at cuts that a seed decides: what to call it, and the chunks."""
    yield "whole", [stream]
    yield "byte by byte", cutAt(stream, range(len(stream)))
    for seed in _SEEDS:
        random = Random(seed)
        count = random.randrange(1, 2 + len(stream) // 3)
        yield f"cut by seed {seed}", cutAt(stream, [random.randrange(1 + len(stream)) for _ in range(count)])


def showing(pdv: PDVReceived, content: bytes) -> PDVReceived:
    """A PDV as another one, but for what it holds."""
    return PDVReceived(pdv.contextID, pdv.isCommand, pdv.isLast, memoryview(content))


def kept(item: object) -> object:
    """What may be kept of an item: its view replaced by one of a copy."""
    if isinstance(item, PDVReceived):
        return showing(item, bytes(item.view))
    if isinstance(item, PDUBody):
        return item._replace(body=memoryview(bytes(item.body)))
    return item


def merged(items: Iterable[object]) -> list[object]:
    """
    The items with the pieces of each command or data set put together as far as they follow each other.

    How a stream was cut shows in nothing else.
    """
    result: list[object] = []
    for item in items:
        previous = result[-1] if result else None
        if (
            isinstance(item, PDVReceived)
            and isinstance(previous, PDVReceived)
            and not previous.isLast
            and (previous.contextID, previous.isCommand) == (item.contextID, item.isCommand)
        ):
            result[-1] = showing(item, bytes(previous.view) + bytes(item.view))
        else:
            result.append(item)
    return result
