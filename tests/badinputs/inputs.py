"""
Bytes that peers send, right and wrong: made here by hand, so that what the product makes of them is not its own idea.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack
from typing import Final

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION: Final = "1.2.840.10008.1.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

#: Stands in every data set and identity sent, and must stand in no log line.
PATIENT: Final = "ROENTGEN^WILHELM"

INSTANCE: Final = "1.2.3"

# A-ASSOCIATE-RQ


def item(itemType: int, content: bytes, length: int | None = None) -> bytes:
    """Return an item, with its right length or the one given."""
    return pack(">BxH", itemType, len(content) if length is None else length) + content


def pdu(pduType: int, body: bytes, length: int | None = None) -> bytes:
    """Return a PDU, with its right length or the one given."""
    return pack(">BxL", pduType, len(body) if length is None else length) + body


def proposal(contextID: int, abstract: str | None = CT, *transfer: str) -> bytes:
    """Return a presentation context item; None for an abstract syntax that is not there."""
    content = bytes((contextID, 0, 0, 0)) + (b"" if abstract is None else item(0x30, abstract.encode()))
    return item(0x20, content + b"".join(item(0x40, syntax.encode()) for syntax in transfer))


#: Verification as 1, CT image storage as 3, and as 5 a class that nobody supports.
CONTEXTS: Final = (
    proposal(1, VERIFICATION, IMPLICIT),
    proposal(3, CT, EXPLICIT),
    proposal(5, "1.2.840.10008.5.1.4.1.2.2.1", IMPLICIT),
)
MAXIMUM_LENGTH: Final = item(0x51, pack(">L", 16384))
IMPLEMENTATION: Final = item(0x52, b"1.2.826.0.1.3680043") + item(0x55, b"PEER 1")


def fixedFields(called: bytes = b"DCXTWISTED", calling: bytes = b"PEER", version: int = 1, reserved: int = 0) -> bytes:
    """Return what stands before the items; ``reserved`` is the value of each reserved byte."""
    gaps = bytes((reserved,))
    return pack(">H", version) + gaps * 2 + called.ljust(16)[:16] + calling.ljust(16)[:16] + gaps * 32


def request(
    *items: bytes,
    fixed: bytes = fixedFields(),
    application: bytes = item(0x10, APPLICATION_CONTEXT.encode()),
    user: bytes = MAXIMUM_LENGTH + IMPLEMENTATION,
    length: int | None = None,
) -> bytes:
    """Return an A-ASSOCIATE-RQ; ``items`` are its presentation contexts, those of CONTEXTS where none are given."""
    return pdu(1, fixed + application + b"".join(items or CONTEXTS) + item(0x50, user), length)


RQ: Final = request()
RELEASE_RQ: Final = pdu(5, bytes(4))
RELEASE_RP: Final = pdu(6, bytes(4))
ABORT: Final = pdu(7, bytes(4))
ACCEPT: Final = pdu(2, fixedFields() + item(0x10, APPLICATION_CONTEXT.encode()))
REJECT: Final = pdu(3, bytes((0, 1, 1, 1)))

# P-DATA-TF


def pdv(contextID: int, control: int, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a PDV, with its right length or the one given; bit 0 of ``control`` is a command, bit 1 the last."""
    return pack(">LBB", len(data) + 2 if length is None else length, contextID, control) + data


def pData(*pdvs: bytes, length: int | None = None) -> bytes:
    """Return a P-DATA-TF of these PDVs."""
    return pdu(4, b"".join(pdvs), length)


def command(data: bytes, contextID: int = 3) -> bytes:
    """Return the P-DATA-TF of a command set."""
    return pData(pdv(contextID, 3, data))


# Command sets


def element(number: int, value: bytes, length: int | None = None) -> bytes:
    """Return a command element, with its right length or the one given."""
    return pack("<HHL", 0, number, len(value) if length is None else length) + value


def us(value: int) -> bytes:
    """Return an unsigned short."""
    return pack("<H", value)


def padded(uid: str) -> bytes:
    """Return a UID padded to an even length."""
    raw = uid.encode("latin-1")
    return raw + b"\0" * (len(raw) & 1)


def commandSet(elements: Mapping[int, bytes | None], groupLength: int | None = None) -> bytes:
    """Return a command set, with its right group length or the one given; elements that are None are left out."""
    body = b"".join(element(number, value) for number, value in sorted(elements.items()) if value is not None)
    return element(0, pack("<L", len(body) if groupLength is None else groupLength)) + body


def storeElements(uid: str = INSTANCE, messageID: int = 1, SOPClassUID: str = CT) -> dict[int, bytes | None]:
    """Return the elements of a C-STORE-RQ."""
    return {
        0x0002: padded(SOPClassUID),
        0x0100: us(1),
        0x0110: us(messageID),
        0x0700: us(0),
        0x0800: us(1),
        0x1000: padded(uid),
    }


def storeRQ(uid: str = INSTANCE, messageID: int = 1, contextID: int = 3) -> bytes:
    """Return the P-DATA-TF of a C-STORE-RQ; its data set is to follow."""
    return command(commandSet(storeElements(uid, messageID)), contextID)


def echoElements(messageID: int = 1) -> dict[int, bytes | None]:
    """Return the elements of a C-ECHO-RQ."""
    return {0x0002: padded(VERIFICATION), 0x0100: us(0x30), 0x0110: us(messageID), 0x0800: us(0x0101)}


def echoRQ(messageID: int = 1, contextID: int = 1) -> bytes:
    """Return the P-DATA-TF of a C-ECHO-RQ."""
    return command(commandSet(echoElements(messageID)), contextID)


# Data sets


def dataSet(uid: str = INSTANCE, size: int = 64, SOPClassUID: str = CT) -> bytes:
    """Return a whole data set in explicit VR little endian, with a name in it that is nobody else's business."""

    def text(group: int, number: int, VR: bytes, value: str) -> bytes:
        raw = value.encode("latin-1") + (b"\0" if VR == b"UI" else b" ") * (len(value) & 1)
        return pack("<HH2sH", group, number, VR, len(raw)) + raw

    return (
        text(0x0008, 0x0016, b"UI", SOPClassUID)
        + text(0x0008, 0x0018, b"UI", uid)
        + text(0x0010, 0x0010, b"PN", PATIENT)
        + text(0x0010, 0x0020, b"LO", PATIENT)
        + text(0x0020, 0x000D, b"UI", "1.2")
        + text(0x0020, 0x000E, b"UI", "1.2.1")
        + pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", size)
        + b"\x55" * size
    )


def data(uid: str = INSTANCE, contextID: int = 3, size: int = 64) -> bytes:
    """Return the P-DATA-TF of a data set in one PDV."""
    return pData(pdv(contextID, 2, dataSet(uid, size)))


def store(uid: str = INSTANCE, messageID: int = 1, contextID: int = 3, size: int = 64) -> bytes:
    """Return a whole C-STORE."""
    return storeRQ(uid, messageID, contextID) + data(uid, contextID, size)
