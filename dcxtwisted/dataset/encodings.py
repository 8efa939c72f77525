"""
The encodings of a data set (PS3.5 clause 7, annex A): how its elements are told apart, and plain ones passed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import cast

View = bytes | bytearray | memoryview

# What is kept of the top level, in the order of the fields of Head.
WANTED = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00100020: "PatientID",
    0x00080060: "Modality",
    0x00080020: "StudyDate",
}
LAST_WANTED = max(WANTED)


# The VRs of PS3.5 7.1.2: those with a 16-bit length, and those with two reserved bytes and a 32-bit length.
_SHORT_VRS = re.findall("..", "AEASATCSDADSDTFDFLISLOLTPNSHSLSSSTTMUIULUS")
_LONG_VRS = re.findall("..", "OBODOFOLOVOWSQSVUCUNURUTUV")
VRS = frozenset(VR.encode() for VR in _SHORT_VRS + _LONG_VRS)

# Plain elements are passed by one match of a regular expression: 0.05 us for each, where the loop in Python takes
# 0.4 us. It is only a short cut: it passes nothing but whole elements
# with a known VR and an even length up to 64, and leaves to the loop all others and each tag that the loop looks at.
_PLAIN_LENGTHS = (2, 4, 8, 6, 10, 12, 16, 14, 0, *range(18, 66, 2))
_PLAIN_VR = rb"(?:D[SAT]|LO|CS|US|S[HTLS]|UI|IS|TM|PN|LT|F[DL]|A[SET]|UL)"
_HEAD_TAG = (
    rb"(?:\x08\x00[^\x16\x18\x20\x60].|[\x09-\x0f\x11-\x1f]\x00..|\x10\x00[^\x20]."
    rb"|\x20\x00[\x00-\x0c]\x00)"
)
_LATER_TAG = (
    rb"(?:[^\x00\x02\x08\x10\x20\xfc-\xff]...|\x08\x00[^\x16\x18\x20\x60].|\x10\x00[^\x20]."
    rb"|\x20\x00[^\x0d\x0e].)"
)
# Possessive, so that no state is kept for each element, except in the first releases of Python 3.11, where such a
# match ends behind its end. There a greedy one, which is bounded for the sake of that state, and 3 us slower.
_ANY_NUMBER = b"*+" if cast("re.Match[str]", re.match("(?:ab?c)*+", "aca")).end() == 2 else b"{0,255}"
#: The wanted tags by their bytes in little endian.
WANTED_TAGS = {struct.pack("<HH", tag >> 16, tag & 0xFFFF): tag for tag in WANTED}
_Run = Callable[[View, int], "re.Match[bytes]"]


def _runs(explicit: bool) -> tuple[_Run, _Run]:
    """
    Matchers of any number of plain elements in little endian, none included: of the head, and past it.

    The first takes the wanted element behind them along, in two groups: its tag; its length field and value. One
    expression for all wanted elements in their order is quicker by itself (7 us for a head of 25 elements, where this
    one takes 10), but its 50 KB are not at hand between the system calls of a listener: there it takes 31 us, and this
    one, of 5 KB, 27.
    """
    vr, upper = (_PLAIN_VR, rb"\x00") if explicit else (b"", rb"\x00\x00\x00")
    lengths = (re.escape(bytes([n])) + upper + (b".{%d}" % n if n else b"") for n in _PLAIN_LENGTHS)
    value = b"(?:" + b"|".join(lengths) + b")"
    wanted = b"|".join(map(re.escape, WANTED_TAGS))
    head = b"(?:" + _HEAD_TAG + vr + value + b")" + _ANY_NUMBER + b"(?:(" + wanted + b")" + vr + b"(" + value + b"))?"
    later = b"(?:" + _LATER_TAG + vr + value + b")" + _ANY_NUMBER
    # Never None: no element at all matches too.
    return cast(_Run, re.compile(head, re.DOTALL).match), cast(_Run, re.compile(later, re.DOTALL).match)


class Encoding:
    """How the elements of a data set are told apart."""

    def __init__(self, explicit: bool, order: str) -> None:
        def codes(VRs: list[str]) -> frozenset[int]:
            return frozenset(struct.unpack(order + "H", VR.encode())[0] for VR in VRs)

        self.explicit = explicit
        self.item = struct.Struct(order + "HHI").unpack_from
        self.header = struct.Struct(order + "HHHH").unpack_from if explicit else self.item
        self.longLength = struct.Struct(order + "I").unpack_from
        self.short = codes(_SHORT_VRS)
        self.long = codes(_LONG_VRS)
        (self.SQ,) = codes(["SQ"])
        (self.UN,) = codes(["UN"])
        self.runs: tuple[_Run, _Run] | tuple[None, None] = (None, None) if order == ">" else _runs(explicit)
        self.lengthSize = 2 if explicit else 4


EXPLICIT = Encoding(True, "<")
IMPLICIT = Encoding(False, "<")
BIG_ENDIAN = Encoding(True, ">")
