"""
Where the fuzzer begins: PDUs of every type in every state, command sets of every DIMSE message, small data sets.

The data sets are pydicom's own test files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import pydicom

from dcxtwisted.dataset.encodings import WANTED
from dcxtwisted.uids import VERIFICATION
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.commandset import encodeCommandSet
from dcxtwisted.wire.items import (
    AsynchronousOperationsWindow,
    PresentationContextProposal,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRequest,
    UserInformation,
)
from dcxtwisted.wire.messages import Request, encodeCEchoRQ, encodeCStoreRQ, parseMessage
from dcxtwisted.wire.pdu import Abort, AssociateRJ, ReleaseRP, ReleaseRQ
from tests.fuzz import commandset, dataset, pdu
from tests.fuzz.inputs import CUTS

#: A name, and an input.
Seed: TypeAlias = tuple[str, bytes]

_EVERYWHERE: Final = CUTS.pack(1, 0, 0xFFFF)
_TWICE: Final = CUTS.pack(0, 17, 90)

_FULL_RQ: Final = attrs.evolve(
    pdu.RQ,
    reserved=bytes(range(32)),
    callingAE=b"MOD\r\n../$(id)\0  ",
    userInformation=UserInformation(
        16384,
        "1.2.276.0.7230010.3.0.3.6.8",
        "OFFIS_DCMTK_368",
        AsynchronousOperationsWindow(5, 0),
        (RoleSelection(pdu.CT_IMAGE_STORAGE, True, True), RoleSelection("1.2.3", False, True)),
        (SOPClassExtendedNegotiation(pdu.CT_IMAGE_STORAGE, bytes((2, 0, 3, 0, 0, 0))),),
        (SOPClassCommonExtendedNegotiation("1.2.3.4", "1.2.840.10008.4.2", (pdu.CT_IMAGE_STORAGE,)),),
        UserIdentityRequest(2, True, b"somebody", b"passcode"),
    ),
)
_ROLES: Final = (RoleSelection(VERIFICATION, False, True), RoleSelection(pdu.CT_IMAGE_STORAGE, True, True))
#: Short, so that the fuzzer is quick with it.
_SHORT_RQ: Final = attrs.evolve(
    pdu.RQ,
    presentationContexts=(
        PresentationContextProposal(1, VERIFICATION, ("1.2.840.10008.1.2",)),
        PresentationContextProposal(3, "1.2", ("1.3",)),
    ),
    userInformation=UserInformation(
        64,
        "1.4",
        "V1",
        AsynchronousOperationsWindow(5, 0),
        (RoleSelection(VERIFICATION, True, True),),
        (SOPClassExtendedNegotiation("1.2", b"\2\0"),),
        (SOPClassCommonExtendedNegotiation("1.2", "1.5", ("1.6",)),),
        UserIdentityRequest(2, True, b"me", b"secret"),
    ),
)
_FULL_AC: Final = attrs.evolve(
    pdu.AC, userInformation=attrs.evolve(_FULL_RQ.userInformation, userIdentity=None, userIdentityResponse=b"ticket")
)


def _mixed() -> bytes:
    """A P-DATA-TF with a command and the first of its data."""
    parts = ((3, encodeCStoreRQ(7, pdu.CT_IMAGE_STORAGE, "1.2.3")), (0, b"data"))
    PDVs = b"".join(struct.pack(">LBB", len(part) + 2, 3, control) + part for control, part in parts)
    return struct.pack(">BxL", 4, len(PDVs)) + PDVs


def _streams() -> Iterator[Seed]:
    echo = fragment(1, True, encodeCEchoRQ(1), 0)
    store = fragment(3, True, encodeCStoreRQ(2, pdu.CT_IMAGE_STORAGE, "1.2.3.4", 1, "MOVER", 9), 0)
    data = fragment(3, False, bytes(range(100)), 40)
    RQ = pdu.RQ.encode()
    yield "rq", RQ
    yield "short-rq", _SHORT_RQ.encode()
    yield "full-rq", _FULL_RQ.encode()
    yield "ac", pdu.AC.encode()
    yield "full-ac", _FULL_AC.encode()
    yield "rj", AssociateRJ(1, 1, 7).encode()
    yield "release-rq", ReleaseRQ().encode()
    yield "release-rp", ReleaseRP().encode()
    yield "abort", Abort(2, 5).encode()
    yield "unknown", struct.pack(">BxLL", 8, 4, 0)
    yield "echo", echo
    yield "echo-in-fragments", fragment(1, True, encodeCEchoRQ(1), 20)
    yield "store", store + data
    yield "mixed", _mixed() + fragment(3, False, b"", 0)
    refused = fragment(5, True, encodeCStoreRQ(2, "1.2.3", "1.2.3.4"), 0)
    yield "refused-context", refused + fragment(5, False, b"data", 0)
    yield "changed-context", fragment(1, True, encodeCEchoRQ(1), 40)[:46] + fragment(3, True, encodeCEchoRQ(1), 0)
    yield "other-context", fragment(7, True, encodeCEchoRQ(1), 0)
    yield "session", RQ + echo + store + data + ReleaseRQ().encode()
    yield "roles", attrs.evolve(pdu.RQ, userInformation=UserInformation(8, roleSelections=_ROLES)).encode()
    yield "huge", struct.pack(">BxL", 1, 0xFFFFFFFF) + bytes(8)
    yield "http", b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n"


def _pdus() -> Iterator[Seed]:
    # Behind its first two bytes it looks like P-DATA-TFs; it is one of 64 MiB, allowed where there is no limit.
    disguised = b"\4\0" + 3 * fragment(1, True, encodeCEchoRQ(1), 0)
    for index, (_, state, _) in enumerate(2 * pdu.PRELUDES):
        if state == "Sta6":
            yield f"{index}-disguised", pdu.CONTROL.pack(index, 0) + CUTS.pack(0, 2, 2) + disguised
    for index, (isRequestor, state, _) in enumerate(pdu.PRELUDES):
        role = "requestor" if isRequestor else "acceptor"
        for number, (name, stream) in enumerate(_streams()):
            cuts = _EVERYWHERE if number % 2 else _TWICE
            does = pdu.ANSWERS_AT_ONCE | (0, pdu.WAITS)[(number + index) // 2 % 2]
            yield f"{state}-{role}-{name}", pdu.CONTROL.pack(index, does) + cuts + stream
            action = 1 + (number + index) % pdu.IS_LOST
            yield f"{state}-{role}-{name}-{action}", pdu.CONTROL.pack(index, action) + _TWICE + stream + stream


_SHORT: Final = struct.Struct("<H").pack


def _commandSets() -> Iterator[Seed]:
    """Each DIMSE message with the elements it may have (PS3.7 annex E)."""
    details = {
        0x0700: _SHORT(1),
        0x0600: b"DESTINATION ",
        0x1030: b"MOVER ",
        0x1031: _SHORT(3),
        0x1002: _SHORT(1),
        0x1005: struct.pack("<4H", 0x10, 0x20, 0x10, 0x10),
        0x1008: _SHORT(1),
    }
    endings = {0x1020: _SHORT(4), 0x1021: _SHORT(3), 0x1022: _SHORT(0), 0x1023: _SHORT(1), 0x0902: b"a comment "}
    for field in (0x01, 0x10, 0x20, 0x21, 0x30, 0x100, 0x110, 0x120, 0x130, 0x140, 0x150, 0xFFF):
        requested = field in (0x110, 0x120, 0x130, 0x150)
        head = {
            0x0003 if requested else 0x0002: pdu.CT_IMAGE_STORAGE.encode() if field == 1 else VERIFICATION.encode(),
            0x1001 if requested else 0x1000: b"1.2.3.4.5",
            0x0800: _SHORT(0x0101 if field in (0x30, 0x110, 0x150, 0xFFF) else 1),
        }
        ID = 0x0120 if field == 0xFFF else 0x0110
        yield f"rq-{field:04X}", encodeCommandSet(head | details | {0x0100: _SHORT(field), ID: _SHORT(field + 2)})
        response = {0x0100: _SHORT(field | 0x8000), 0x0120: _SHORT(7), 0x0900: _SHORT(0xA700), 0x0901: bytes(8)}
        yield f"rsp-{field:04X}", encodeCommandSet(head | endings | response)
    request = parseMessage(1, {0x0100: _SHORT(1), 0x0800: _SHORT(1), 0x0110: _SHORT(5), 0x0002: b"1.2\0"})
    assert isinstance(request, Request)
    yield "response", request.response(0xC000, "what is wrong", (0x00080018,)).encode()
    yield "no-group-length", encodeCEchoRQ(1)[12:]
    odd = struct.pack("<HHI", 0, 0x1000, 5) + b"1.2.3"
    yield "odd-length", encodeCStoreRQ(1, pdu.CT_IMAGE_STORAGE, "1")[:-10] + odd
    yield "short-value", encodeCommandSet({0x0100: _SHORT(0x30), 0x0110: b"", 0x0800: _SHORT(0x0101)})
    yield "empty", b""


def _commandSetSeeds() -> Iterator[Seed]:
    for number, (name, stream) in enumerate(_commandSets()):
        status = (0x0000, 0xC001, 0xA900, 0xB007)[number % 4]
        yield name, commandset.CONTROL.pack(status, number * 3 % 80, number * 11) + stream


_UNDEFINED: Final = 0xFFFFFFFF
_END_OF_ITEM: Final = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_OPEN_ITEM: Final = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)


def _identity() -> bytes:
    return b"".join(
        struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, VR, len(value)) + value
        for tag, VR, value in (
            (0x00080016, b"UI", pdu.CT_IMAGE_STORAGE.encode() + b"\0"),
            (0x00080018, b"UI", b"1.2.3\0"),
            (0x00080020, b"DA", b"20260102"),
            (0x00100020, b"LO", b"ID"),
            (0x0020000D, b"UI", b"1.2\0"),
        )
    )


def _sequence(depth: int, VR: bytes = b"SQ") -> bytes:
    if not depth:
        return struct.pack("<HH2sH", 0x0040, 0x0001, b"SH", 2) + b"in"
    start = struct.pack("<HH2sHI", 0x0040, 0x0275, VR, 0, _UNDEFINED)
    return start + _OPEN_ITEM + _sequence(depth - 1, VR) + _END_OF_ITEM + _END_OF_SEQUENCE


def _madeUp() -> Iterator[Seed]:
    identity = _identity()
    fragments = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, _UNDEFINED) + 2 * (
        struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"data"
    )
    yield "identity", identity
    # The first 134 bytes are walked together, however they are cut.
    yield "late-identity", struct.pack("<HH2sH", 8, 8, b"CS", 150) + bytes(150) + identity
    yield "nested", identity + _sequence(3)
    yield "deep", identity + _sequence(65)
    yield "open", identity + _sequence(20)[:400]
    yield "UN", identity + struct.pack("<HH2sHI", 9, 0x1001, b"UN", 0, _UNDEFINED) + _END_OF_SEQUENCE
    yield "fragments", identity + fragments + _END_OF_SEQUENCE
    yield "padded", identity + struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 4) + bytes(4)
    yield "zeros", identity + bytes(30)
    yield "cut", identity[:-3]
    yield "a-file", bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, 0) + identity
    yield "empty", b""


def _ofPydicom() -> Iterator[tuple[str, bytes, str]]:
    """Name, data set and transfer syntax of each small file."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in sorted(folder.glob("*.dcm")):
        content = path.read_bytes()
        # Behind the preamble and DICM: the group length of the file meta, an element of 12 bytes.
        if path.stat().st_size > 12000 or content[128:138] != b"DICM\2\0\0\0UL":
            continue
        start = 144 + int.from_bytes(content[140:144], "little")
        yield path.stem, content[start:], pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", "")


def _dataSetSeeds() -> Iterator[Seed]:
    kinds = {syntax: kind for kind, (syntax, windowBits) in enumerate(dataset.KINDS) if not windowBits}
    for number, (name, stream, syntax) in enumerate(_ofPydicom()):
        kind = kinds.get(syntax, 3)
        cuts = _TWICE if number % 2 else CUTS.pack(7, 0, 0xFFFF)
        yield name, dataset.CONTROL.pack(kind, number % 4) + cuts + stream
    for name, stream in _madeUp():
        for kind in range(len(dataset.KINDS)):
            yield f"{name}-{kind}", dataset.CONTROL.pack(kind, kind % 4) + _EVERYWHERE + stream


_SEEDS: Final[dict[str, Callable[[], Iterator[Seed]]]] = {
    "pdu": _pdus,
    "commandset": _commandSetSeeds,
    "dataset": _dataSetSeeds,
}

#: The targets: modules beside this one.
TARGETS: Final = tuple(_SEEDS)


def seeds(target: str) -> Iterator[Seed]:
    """Give the inputs that a target begins with."""
    return _SEEDS[target]()


def write(target: str, directory: Path) -> None:
    """Make the files that the fuzzer is to begin with; one of the same name is overwritten."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in seeds(target):
        (directory / f"seed-{name}").write_bytes(data)


def words(target: str) -> Iterator[bytes]:
    """Give byte strings that mean something, for the fuzzer to put in."""
    if target == "pdu":
        yield from (bytes((itemType, 0, 0, 4)) for itemType in (0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A)))
        yield from (struct.pack(">BxL", pduType, 4) for pduType in range(1, 8))
        yield from (struct.pack(">LBB", 2, contextID, control) for contextID in (1, 3) for control in range(4))
    elif target == "commandset":
        elements = (0, 2, 3, 0x0100, 0x0110, 0x0120, 0x0600, 0x0700, 0x0800, 0x0900, 0x0901, 0x0902, 0x1000, 0x1001)
        yield from (struct.pack("<HHI", 0, element, 2) for element in (*elements, 0x1030, 0x1031))
    else:
        for order in "<>":
            yield from (struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) for tag in WANTED)
        undefined = b"\0\0\xff\xff\xff\xff"
        yield from (_OPEN_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE, b"SQ" + undefined, b"UN" + undefined)
        yield from (b"\xe0\x7f\x10\x00OB" + undefined, b"\xfc\xff\xfc\xff", b"DICM\2\0", b"??", b"OX", b"\xff" * 4)
