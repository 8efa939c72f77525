"""
Command sets: elements of group 0000 in implicit VR little endian, as a mapping of raw values (PS3.7 6.3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dcxtwisted.errors import RemoteProtocolError

_ELEMENT = struct.Struct("<HHI")
_GROUP_LENGTH = struct.Struct("<HHII")
_US = struct.Struct("<H")

_unpackElement = _ELEMENT.unpack_from
_unpackUS = _US.unpack_from


def decodeCommandSet(buffer: bytes | bytearray | memoryview) -> dict[int, bytes]:
    """
    The raw values by element number, in the order they came; the first of two that share a number.

    The values are copies. A group length, right, wrong or missing, is an element like the others.

    :raises RemoteProtocolError: where the bytes are not whole elements of group 0000, or there are none.
    """
    data = bytes(buffer)
    end = len(data)
    if not end:
        raise RemoteProtocolError("an empty command set")
    elements: dict[int, bytes] = {}
    offset = 0
    try:
        while offset < end:
            group, element, length = _unpackElement(data, offset)
            start = offset + 8
            offset = start + length
            if group or offset > end:
                raise RemoteProtocolError(f"bad command element ({group:04X},{element:04X}) of {length} bytes")
            if element not in elements:
                elements[element] = data[start:offset]
    except struct.error:
        raise RemoteProtocolError(f"{end - offset} stray bytes after the last command element") from None
    return elements


def encodeCommandSet(elements: Mapping[int, bytes]) -> bytes:
    """
    The command set with these values, ascending, its group length computed; a value of odd length gets a NUL.

    The NUL is right for UIDs; text has to come padded with a space.
    """
    parts: list[bytes] = []
    for element in sorted(elements):
        if element:
            value = elements[element]
            if len(value) & 1:
                value += b"\0"
            parts.append(_ELEMENT.pack(0, element, len(value)) + value)
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def firstUS(elements: Mapping[int, bytes], element: int) -> int | None:
    """The first unsigned short of this element; None where it is missing or shorter than that."""
    value = elements.get(element)
    if value is None or len(value) < 2:
        return None
    number: int = _unpackUS(value)[0]
    return number
