"""
What the targets share: where an input has its stream cut, what an object holds, and what a check may allocate.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

#: How the cuts are told: a step, and the two positions between which each step is a cut, up to a number of them;
#: step 0 cuts at these two alone.
CUTS: Final = struct.Struct("<BHH")

#: What a check may allocate for each byte of the input: an item of 8 bytes becomes values of some 2 KB in all.
_FOR_EACH_BYTE: Final = 400

_BUFFERS: Final = (bytes, bytearray, memoryview)
_CONTAINERS: Final = (deque, list, tuple)
_CHANGEABLE: Final = (deque, list, dict, Counter, bytearray)


def positions(step: int, first: int, second: int, length: int, most: int) -> list[int]:
    """Return where a stream of this length is cut: ascending, each inside of it, and C{most} of them."""
    first, second = first % (length + 1), second % (length + 1)
    if second < first:
        first, second = second, first
    if step:
        stop = min(second, first + step * most)
        return [position for position in range(first, stop, step) if position]
    return [position for position in sorted({first, second}) if 0 < position < length]


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Return the stream cut there; an empty one is one empty piece."""
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def attributesOf(owner: object) -> dict[str, Any]:
    """Return the attributes of an object, also where its class is compiled and has no dictionary of them."""
    names = getattr(type(owner), "__mypyc_attrs__", None)
    return dict(vars(owner)) if names is None else {name: getattr(owner, name) for name in names}


def held(owner: object) -> int:
    """Return the bytes in the buffers that an object has as attributes, or has in containers."""
    total = 0
    for value in attributesOf(owner).values():
        if isinstance(value, _BUFFERS):
            total += len(value)
        elif isinstance(value, dict):
            total += sum(len(each) for each in value.values() if isinstance(each, _BUFFERS))
        elif isinstance(value, _CONTAINERS):
            total += sum(len(each) for each in value if isinstance(each, _BUFFERS))
    return total


def twin(original: _T, other: _T, **others: object) -> _T:
    """
    Return an object brought into the same state as another of its class, sharing nothing that changes.

    A tenth of what it takes to get there from the start, which is most of a short run.

    :param other: any of the class; it is what is returned.
    :param others: attributes that it gets instead.
    """
    for name, value in (attributesOf(original) | others).items():
        setattr(other, name, value.copy() if type(value) in _CHANGEABLE else value)
    return other


def checkMeasured(check: Callable[[bytes], None], data: bytes, constant: int) -> None:
    """Check an input, and that nothing much larger than the input was allocated for it, or larger than C{constant}."""
    check(data)  # what a first call leaves in caches is not the input's
    tracemalloc.start()
    try:
        check(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= constant + _FOR_EACH_BYTE * len(data), f"{peak} bytes allocated for {len(data)}"


def minimised(check: Callable[[bytes], None], data: bytes) -> bytes:
    """
    Return an input on which a check fails as it does on this one, and without any byte of which it would not.

    :raise ValueError: it does not fail.
    """
    failure = _failure(check, data)
    if failure is None:
        raise ValueError("nothing is found in this input")
    size = len(data)
    while size:
        start = 0
        while start < len(data):
            shorter = data[:start] + data[start + size :]
            if _failure(check, shorter) is failure:
                data = shorter
            else:
                start += size
        size //= 2
    return data


def _failure(check: Callable[[bytes], None], data: bytes) -> type[Exception] | None:
    try:
        check(data)
    except Exception as error:
        return type(error)
    return None
