"""
What stands before the data set in a file (PS3.10 clause 7): preamble, prefix and file meta information.

Nothing is decoded and written again: what is made here are bytes to be put in front of a data set as received.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache

_PREFIX = bytes(128) + b"DICM"
_GROUP_LENGTH = struct.Struct("<HH2sHI")  # (0002,0000) UL, 4 bytes
_META_START = len(_PREFIX) + _GROUP_LENGTH.size
_SOP_INSTANCE_UID = b"\x02\x00\x03\x00UI"
_TRANSFER_SYNTAX_UID = b"\x02\x00\x10\x00UI"
_LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})  # those that may occur in group 0002

# Of the VRs AE and SH (PS3.5 6.2): no control characters, no backslash, nothing past ASCII.
_NOT_ALLOWED = re.compile(r"[^ -\[\]-~]")


def filePreamble(
    SOPClassUID: str | bytes,
    SOPInstanceUID: str | bytes,
    transferSyntaxUID: str | bytes,
    implementationClassUID: str | bytes,
    implementationVersionName: str | bytes,
    callingAETitle: str | bytes,
    calledAETitle: str | bytes,
) -> bytes:
    """
    The bytes before the data set: 128 zeros, ``DICM`` and group 0002 (PS3.10 table 7.1-1).

    :param callingAETitle: becomes Source and Sending AE Title. Of both titles and the version name, characters that
        the VR does not allow become ``_``, 16 characters are written, and the element is left out when nothing is left.
    :param calledAETitle: becomes Receiving AE Title.
    """
    # 0.8 us, as all but the two UIDs is the same for the objects of an association and remembered.
    constant = _constantElements(
        transferSyntaxUID, implementationClassUID, implementationVersionName, callingAETitle, calledAETitle
    )
    variable = _element(0x0002, b"UI", _uid(SOPClassUID)) + _element(0x0003, b"UI", _uid(SOPInstanceUID))
    length = len(_VERSION) + len(variable) + len(constant)
    return b"".join((_PREFIX, _GROUP_LENGTH.pack(2, 0, b"UL", 4, length), _VERSION, variable, constant))


def dataSetOffset(head: bytes) -> int:
    """
    Where the data set of a file begins, told from its first 144 bytes or more.

    :raise ValueError: they are not those of a file with preamble, prefix and group length.
    """
    if len(head) < _META_START or head[128:132] != b"DICM":
        raise ValueError("not a Part 10 file")
    group, element, VR, size, length = _GROUP_LENGTH.unpack_from(head, 132)
    if (group, element, VR, size) != (2, 0, b"UL", 4):
        raise ValueError("file meta information without group length")
    return _META_START + int(length)


def transferSyntaxOf(head: bytes) -> str:
    """
    The transfer syntax of a file, told from its first bytes: all before the data set.

    :raise ValueError: they are too few, or not those of a file with a transfer syntax.
    """
    return _UIDOf(head, _TRANSFER_SYNTAX_UID)


def SOPInstanceUIDOf(head: bytes) -> str:
    """
    The Media Storage SOP Instance UID of a file, told from its first bytes: all before the data set.

    :raise ValueError: they are too few, or not those of a file with one.
    """
    return _UIDOf(head, _SOP_INSTANCE_UID)


def _UIDOf(head: bytes, tagAndVR: bytes) -> str:
    end = dataSetOffset(head)
    position = _META_START
    while position + 8 <= min(end, len(head)):
        (size,) = struct.unpack_from("<H", head, position + 6)
        start = position + 8
        if head[position + 4 : start - 2] in _LONG_VRS:
            if start + 4 > len(head):
                break
            (size,) = struct.unpack_from("<I", head, start)
            start += 4
        elif head.startswith(tagAndVR, position):
            if start + size > min(end, len(head)):
                break
            return head[start : start + size].rstrip(b"\0 ").decode("latin-1")
        position = start + size
    raise ValueError("not in the file meta information")


@lru_cache(maxsize=256)  # bounded, as the titles are a peer's; some 300 bytes each
def _constantElements(
    transferSyntaxUID: str | bytes,
    implementationClassUID: str | bytes,
    implementationVersionName: str | bytes,
    callingAETitle: str | bytes,
    calledAETitle: str | bytes,
) -> bytes:
    """The elements from (0002,0010) on."""
    calling, called = _text(callingAETitle), _text(calledAETitle)
    texts = ((0x0013, b"SH", _text(implementationVersionName)), (0x0016, b"AE", calling), (0x0017, b"AE", calling))
    return (
        _element(0x0010, b"UI", _uid(transferSyntaxUID))
        + _element(0x0012, b"UI", _uid(implementationClassUID))
        + b"".join(_element(*text) for text in (*texts, (0x0018, b"AE", called)) if text[2])
    )


_ELEMENT_HEADER = struct.Struct("<HH2sH").pack
_VERSION = _ELEMENT_HEADER(2, 1, b"OB", 0) + b"\x02\x00\x00\x00\x00\x01"


def _element(element: int, VR: bytes, value: bytes) -> bytes:
    return _ELEMENT_HEADER(2, element, VR, len(value)) + value


def _uid(value: str | bytes) -> bytes:
    if isinstance(value, str):
        value = value.encode("latin-1", "replace")
    value = value.rstrip(b"\0 ")
    return value + b"\0" if len(value) & 1 else value


def _text(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    text = _NOT_ALLOWED.sub("_", value.partition("\0")[0].strip(" "))[:16].strip(" ")
    return (text + " " * (len(text) & 1)).encode("ascii")
