"""
Data sets that are odd, or wrong, made by hand; and the C-STOREs that bring them.
"""

from __future__ import annotations

from struct import pack
from typing import Final

from tests.badinputs.inputs import (
    CT,
    EXPLICIT,
    IMPLICIT,
    INSTANCE,
    PATIENT,
    VERIFICATION,
    command,
    commandSet,
    pData,
    pdv,
    proposal,
    request,
    storeElements,
)

BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG: Final = "1.2.840.10008.1.2.4.50"

#: For each transfer syntax the context in which it is proposed here.
CONTEXT: Final = {EXPLICIT: 3, IMPLICIT: 7, BIG_ENDIAN: 9, DEFLATED: 11, JPEG: 13}
RQ: Final = request(
    proposal(1, VERIFICATION, IMPLICIT), *(proposal(number, CT, syntax) for syntax, number in CONTEXT.items())
)

UNDEFINED: Final = 0xFFFFFFFF
_LONG: Final = ("OB", "OW", "SQ", "UC", "UN", "UT", "OX")


def element(tag: int, VR: str, value: bytes = b"", length: int | None = None) -> bytes:
    """Return an element in explicit VR little endian, with its right length or the one given."""
    size = len(value) if length is None else length
    header = pack("<HH2s", tag >> 16, tag & 0xFFFF, VR.encode())
    return header + (pack("<HL", 0, size) if VR in _LONG else pack("<H", size)) + value


def item(value: bytes, length: int | None = None) -> bytes:
    """Return an item, with its right length or the one given."""
    return pack("<HHL", 0xFFFE, 0xE000, len(value) if length is None else length) + value


ITEM_END: Final = pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END: Final = pack("<HHL", 0xFFFE, 0xE0DD, 0)
#: Where a sequence of undefined length begins, and an item of one.
SEQUENCE: Final = element(0x00081140, "SQ", length=UNDEFINED)
ITEM: Final = item(b"", UNDEFINED)


def sequence(*items: bytes, tag: int = 0x00081140, VR: str = "SQ") -> bytes:
    """Return a sequence of undefined length."""
    return element(tag, VR, b"".join(items), UNDEFINED) + SEQUENCE_END


def text(tag: int, VR: str, value: str) -> bytes:
    """Return an element of text, padded."""
    raw = value.encode("latin-1")
    return element(tag, VR, raw + (b"\0" if VR == "UI" else b" ") * (len(raw) & 1))


def head(uid: str = INSTANCE, SOPClassUID: str = CT, study: str = "1.2", name: str = PATIENT) -> bytes:
    """Return the first elements of an object; a UID that is '' is left out."""
    return b"".join(
        (
            text(0x00080016, "UI", SOPClassUID) if SOPClassUID else b"",
            text(0x00080018, "UI", uid) if uid else b"",
            text(0x00100010, "PN", name),
            text(0x00100020, "LO", name),
            text(0x0020000D, "UI", study) if study else b"",
            text(0x0020000E, "UI", "1.2.1"),
        )
    )


PIXELS: Final = element(0x7FE00010, "OW", b"\x55" * 64)


def fragments(*values: bytes) -> bytes:
    """Return encapsulated Pixel Data, its offset table among the fragments."""
    return element(0x7FE00010, "OB", b"".join(map(item, values)), UNDEFINED) + SEQUENCE_END


def inImplicit(data: bytes) -> bytes:
    """Return explicit elements with plain lengths in implicit VR."""
    found = b""
    while data:
        VR = data[4:6].decode()
        start = 12 if VR in _LONG else 8
        size = int.from_bytes(data[8:12] if start == 12 else data[6:8], "little")
        found += data[:4] + pack("<L", size) + data[start : start + size]
        data = data[start + size :]
    return found


def storing(
    data: bytes, uid: str = INSTANCE, syntax: str = EXPLICIT, SOPClassUID: str = CT, messageID: int = 1
) -> bytes:
    """Return the C-STORE of a data set, in PDVs as a sender of objects makes them."""
    contextID = CONTEXT[syntax]
    pieces = [data[start : start + 16378] for start in range(0, len(data), 16378)] or [b""]
    PDUs = [pData(pdv(contextID, 0, piece)) for piece in pieces[:-1]]
    PDUs.append(pData(pdv(contextID, 2, pieces[-1])))
    return command(commandSet(storeElements(uid, messageID, SOPClassUID)), contextID) + b"".join(PDUs)
