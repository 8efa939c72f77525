"""
CT images of a chosen size, as the P-DATA-TF PDUs of one C-STORE request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct, pack
from typing import Final

CT_IMAGE_STORAGE: Final = b"1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = b"1.2.840.10008.1.2.1"
VERIFICATION: Final = b"1.2.840.10008.1.1"

#: The presentation context on which the objects are sent.
CONTEXT_ID: Final = 1

#: How many digits at the end of a SOP Instance UID number the object.
SERIAL_DIGITS: Final = 10

_ROOT: Final = "2.25.3141592653589793238462643383279"
_LONG: Final = frozenset(("OB", "OW", "SQ", "UN"))
_BINARY: Final = {"US": Struct("<H"), "SS": Struct("<h"), "UL": Struct("<L"), "SL": Struct("<l"), "FL": Struct("<f")}
_PIXELS: Final = bytes(range(256)) * 16

# Tag, VR, value. The rows with a star are the whole header of a small object; {} are filled in.
_PUBLIC: Final = """
*00080005 CS ISO_IR 100
*00080008 CS ORIGINAL\\PRIMARY\\AXIAL
 00080012 DA 20240311
 00080013 TM 093027
*00080016 UI 1.2.840.10008.5.1.4.1.1.2
*00080018 UI {instance}
*00080020 DA 20240311
 00080021 DA 20240311
 00080022 DA 20240311
 00080023 DA 20240311
*00080030 TM 092731
 00080031 TM 092749
 00080032 TM 092936.120000
 00080033 TM 093008.370000
*00080050 SH A20240311007
*00080060 CS CT
 00080070 LO MODALITY WORKS
 00080080 LO GENERAL HOSPITAL
 00080081 ST 1 Main Street
 00080090 PN Referrer^Richard
 00080201 SH +0100
 00081010 SH CT01
 00081030 LO Thorax with contrast
 0008103E LO Thorax 1.0 B30f
 00081040 LO Radiology
 00081050 PN Performer^Paula
 00081070 PN Operator^Otto
 00081090 LO HELIX 64
 00081140 SQ {reference}
*00100010 PN Doe^Jane
*00100020 LO PID-0004711
 00100030 DA 19610203
*00100040 CS F
 00101010 AS 063Y
 00101020 DS 1.68
 00101030 DS 71.5
 001021B0 LT Follow-up after segmental resection; please compare with the previous study.
 00180010 LO ULTRAVIST
 00180015 CS CHEST
 00180022 CS HELICAL MODE
 00180050 DS 1.000000
 00180060 DS 120
 00180088 DS 1.000000
 00180090 DS 500.000000
 00181000 LO 60317
 00181020 LO 07MW10.3
 00181030 LO Thorax/01_Thorax_Contrast
 00181040 LO IV
 00181100 DS 338.671600
 00181110 DS 1099.3100585938
 00181111 DS 630.000000
 00181120 DS 0.000000
 00181130 DS 133.699997
 00181150 IS 500
 00181151 IS 170
 00181152 IS 85
 00181160 SH WEDGE_2
 00181190 DS 0.700000
 00181210 SH B30f
 00185100 CS HFS
*0020000D UI {study}
*0020000E UI {series}
 00200010 SH 4711
*00200011 IS 2
 00200012 IS 1
*00200013 IS 42
 00200032 DS -158.135803\\-179.035797\\-75.699997
 00200037 DS 1.000000\\0.000000\\0.000000\\0.000000\\1.000000\\0.000000
 00200052 UI 2.25.271828182845904523536028747135
 00201040 LO SN
 00201041 DS -75.699997
*00280002 US 1
*00280004 CS MONOCHROME2
*00280010 US {rows}
*00280011 US {columns}
 00280030 DS 0.661468\\0.661468
*00280100 US 16
*00280101 US 12
*00280102 US 11
*00280103 US 0
 00281050 DS 40
 00281051 DS 400
 00281052 DS -1024
 00281053 DS 1
 00321060 LO CT thorax with contrast
 00400244 DA 20240311
 00400245 TM 092731
 00400253 SH PPS4711
"""


@dataclass(frozen=True, slots=True)
class Template:
    """
    One C-STORE request as bytes, in two runs, of which only the first changes from object to object.

    :ivar head: the command, and the data set up to its SOP Instance UID.
    :ivar body: all that follows; shared by every association.
    :ivar serialsAt: where in the head the serial digits of the two SOP Instance UIDs are.
    :ivar UIDAt: where in the head the first of them begins.
    :ivar messageIDAt: where in the head the Message ID is, a little endian 16-bit number.
    """

    head: bytes
    body: memoryview
    serialsAt: tuple[int, int]
    UIDAt: int
    messageIDAt: int


def makeTemplate(size: int, maximumLength: int, run: int) -> Template:
    """
    Return the request for a CT image whose data set is exactly so many bytes.

    :param maximumLength: the longest P-DATA-TF body, in bytes.
    :param run: tells the UIDs of one run from those of another; below 10**16.
    :raises ValueError: where the size has no room for a header, or the PDUs are too short for one.
    """
    instance = f"2.25.1{run:016d}{0:0{SERIAL_DIGITS}d}"
    serial = instance.encode()
    command, messageIDAt = _command(serial)
    stream = bytearray(_PDU(3, command))
    commandEnd = len(stream)
    _appendPDUs(stream, _dataSet(size, instance), maximumLength - 6)
    second = stream.find(serial, commandEnd)
    if second < 0:
        raise ValueError(f"a PDU of {maximumLength} bytes is too short to be patched")
    first = stream.find(serial)
    cut = second + len(serial)
    offset = len(serial) - SERIAL_DIGITS
    return Template(
        head=bytes(stream[:cut]),
        body=memoryview(stream)[cut:],
        serialsAt=(first + offset, second + offset),
        UIDAt=first,
        messageIDAt=messageIDAt,
    )


def largeObject(size: int) -> Iterator[bytes]:
    """
    Give a C-STORE request piece by piece, with about so many bytes, for transfer syntaxes with encapsulated pixels.

    A value is less than 4 GiB long, a series of fragments may be as long as it likes (PS3.5 A.4). The fragments are of
    512 MiB at most, and begin where PDUs do.
    """
    instance = f"{_ROOT}.3"
    command, _ = _command(instance.encode())
    values = {"instance": instance, "study": f"{_ROOT}.1", "series": f"{_ROOT}.2", "columns": "0", "rows": "0"}
    header = _header(values | {"reference": ""}, True, 0)
    offsetTable = pack("<HHL", 0xFFFE, 0xE000, 0)
    yield _PDU(3, command) + _PDU(0, header + pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + offsetTable)
    room = 131072 - 6
    inner = _PDU(0, bytes(room))
    left = size // room
    while left:
        inFragment = min(left, (512 << 20) // room)
        yield _PDU(0, pack("<HHL", 0xFFFE, 0xE000, inFragment * room - 8) + bytes(room - 8))
        for _ in range(inFragment - 1):
            yield inner
        left -= inFragment
    yield _PDU(2, pack("<HHL", 0xFFFE, 0xE0DD, 0))


def echoRequest() -> bytes:
    """Return a C-ECHO request as one PDU (PS3.7 9.3.5.1)."""
    values = ((0x0002, _padded(VERIFICATION, b"\0")), (0x0100, pack("<H", 0x0030)))
    return _PDU(3, _commandSet((*values, (0x0110, pack("<H", 1)), (0x0800, pack("<H", 0x0101)))))


def _PDU(flags: int, fragment: bytes) -> bytes:
    """Return a P-DATA-TF PDU with one PDV (PS3.8 9.3.5)."""
    return pack(">BxLLBB", 4, len(fragment) + 6, len(fragment) + 2, CONTEXT_ID, flags) + fragment


def _appendPDUs(stream: bytearray, dataSet: bytearray, fragment: int) -> None:
    view = memoryview(dataSet)
    for start in range(0, len(dataSet), fragment):
        piece = view[start : start + fragment]
        isLast = start + fragment >= len(dataSet)
        stream += pack(">BxLLBB", 4, len(piece) + 6, len(piece) + 2, CONTEXT_ID, 2 if isLast else 0)
        stream += piece


def _commandSet(values: Iterable[tuple[int, bytes]]) -> bytes:
    elements = b"".join(pack("<HHL", 0, element, len(value)) + value for element, value in values)
    return pack("<HHLL", 0, 0, 4, len(elements)) + elements


def _command(instance: bytes) -> tuple[bytes, int]:
    """Return a C-STORE-RQ command set, and where its Message ID will be in its PDU (PS3.7 9.3.1.1)."""
    command = _commandSet(
        (
            (0x0002, _padded(CT_IMAGE_STORAGE, b"\0")),
            (0x0100, pack("<H", 0x0001)),
            (0x0110, pack("<H", 0)),
            (0x0700, pack("<H", 0)),
            (0x0800, pack("<H", 0x0001)),
            (0x1000, _padded(instance, b"\0")),
        )
    )
    return command, 12 + command.index(pack("<HHL", 0, 0x0110, 2)) + 8


def _dataSet(size: int, instance: str) -> bytearray:
    """Return a data set in explicit VR little endian: about 20 elements up to 4 KiB, some 150 beyond."""
    columns = 1 << ((size // 2).bit_length() // 2)
    values = {
        "instance": instance,
        "study": f"{_ROOT}.1",
        "series": f"{_ROOT}.2",
        "columns": str(columns),
        "rows": "0",
        "reference": "",
    }
    starred = size <= 4096
    bare = len(_header(values, starred, 0)) + 12  # with the 12 bytes in front of the pixels
    rows = (size - bare) // (2 * columns)
    if rows < 1:
        raise ValueError(f"no room for a CT image in {size} bytes")
    values["rows"] = str(rows)
    result = bytearray(_header(values, starred, size - bare - 2 * columns * rows))
    pixels = 2 * columns * rows
    result += pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", pixels)
    result += (_PIXELS * (pixels // len(_PIXELS) + 1))[:pixels]
    return result


def _header(values: dict[str, str], starred: bool, filling: int) -> bytes:
    """Return all elements before the pixels, with a private one of ``filling`` bytes that makes up the size."""
    elements = []
    for row in _PUBLIC.strip("\n").splitlines():
        if starred and not row.startswith("*"):
            continue
        tag, VR, value = row[1:].split(" ", 2)
        elements.append((int(tag, 16), VR, _value(VR, value.format(**values))))
    if not starred:
        elements += _private(0x0019, 40, b"MW_ACQU_01") + _private(0x0027, 20, b"MW_IMAG_01")
    elements += [(0x00430010, "LO", b"MW_PARM_01"), (0x00431029, "OB", bytes(filling))]
    return b"".join(_element(*element) for element in sorted(elements))


def _private(group: int, count: int, creator: bytes) -> list[tuple[int, str, bytes]]:
    """Return a private block: many short numbers, as modalities write them."""
    base = group << 16
    numbers = [("SS", "7"), ("DS", "373.750000"), ("SL", "10431"), ("DS", "0.000000"), ("FL", "-77.2")]
    block = [(base | 0x0010, "LO", creator)]
    for index in range(count):
        VR, text = numbers[index % len(numbers)]
        block.append((base | 0x1002 + index, VR, _value(VR, text)))
    return block


def _value(VR: str, text: str) -> bytes:
    if VR == "SQ":
        item = _element(0x00081150, "UI", CT_IMAGE_STORAGE) + _element(0x00081155, "UI", f"{_ROOT}.2.1".encode())
        return pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    binary = _BINARY.get(VR)
    if binary is not None:
        return binary.pack(float(text) if VR == "FL" else int(text))
    return text.encode("ascii")


def _element(tag: int, VR: str, value: bytes) -> bytes:
    value = _padded(value, b"\0" if VR in ("UI", "OB", "SQ") else b" ")
    form = "<HH2sxxL" if VR in _LONG else "<HH2sH"
    return pack(form, tag >> 16, tag & 0xFFFF, VR.encode("ascii"), len(value)) + value


def _padded(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) % 2 else value
