"""
What is measured with: data sets of a known number of elements, and the stream of bytes of an object.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import pack
from typing import Final, Protocol, TypeVar

from benchmarks.objects import makeTemplate

_T = TypeVar("_T")

INSTANCE: Final = "2.25.42"
#: The bytes of a chunk, as the listener asks for them of the kernel where few peers send.
CHUNK: Final = 262144

_HEAD: Final = (
    (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    (0x00080018, "UI", INSTANCE.encode() + b"\0"),
    (0x00080020, "DA", b"20240311"),
    (0x00080060, "CS", b"CT"),
    (0x00100020, "LO", b"PID-0004711 "),
    (0x0020000D, "UI", b"2.25.43\0"),
    (0x0020000E, "UI", b"2.25.44\0"),
)
_NUMBERS: Final = (("SS", b"\7\0"), ("DS", b"373.750000"), ("SL", b"\1\2\3\0"), ("DS", b"0.000000"), ("IS", b"4711"))
_LONG: Final = frozenset(("OB", "OW"))


class Benchmark(Protocol):
    """The fixture of pytest-benchmark, as far as it is used here."""

    def __call__(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call the function often enough to know how long it takes, and return what it gave."""


def dataSet(elements: int, pixels: int, isExplicit: bool = True) -> bytes:
    """Return a CT image of so many elements, the pixels included."""
    numbers = ((0x00191000 + index, *_NUMBERS[index % len(_NUMBERS)]) for index in range(1, elements - len(_HEAD)))
    values = (*sorted((*_HEAD, *numbers)), (0x7FE00010, "OW", bytes(pixels)))
    return b"".join(_element(*value, isExplicit) for value in values)


def _element(tag: int, VR: str, value: bytes, isExplicit: bool) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if not isExplicit:
        return pack("<HHL", group, number, len(value)) + value
    return pack("<HH2sxxL" if VR in _LONG else "<HH2sH", group, number, VR.encode(), len(value)) + value


def deflated(data: bytes) -> bytes:
    """Return the data set as deflated transfer syntaxes have it (PS3.5 A.5)."""
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def objectStream(size: int, maximumLength: int = 131072) -> list[bytes]:
    """Return a C-STORE request as P-DATA-TF PDUs, in the chunks in which it would be received."""
    template = makeTemplate(size, maximumLength, 1)
    stream = template.head + bytes(template.body)
    return [stream[start : start + CHUNK] for start in range(0, len(stream), CHUNK)]
