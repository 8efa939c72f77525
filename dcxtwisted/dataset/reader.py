"""
What a data set says about itself, read while it streams past: its identity, and whether it is whole.

:class:`DataSetReader` walks the elements of a data set (PS3.5 clause 7) by their lengths. It decodes no value but
the few that name the object, keeps no buffer it was given, never raises for bad data and never recurses.

It refuses (:attr:`Wholeness.BROKEN`) only what is certainly incomplete or hostile. Real archives hold many data
sets that break the encoding rules and that other programs read all the same: there the walk goes on where the next
step is clear, and stops checking (:attr:`Wholeness.UNCHECKED`) where it is not. :attr:`Head.quirks` names each
oddity.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable

import attrs

from dcxtwisted.dataset.encodings import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    LAST_WANTED,
    VRS,
    WANTED,
    WANTED_TAGS,
    Encoding,
    View,
)
from dcxtwisted.dataset.inflation import Inflation
from dcxtwisted.uids import (
    DEFLATED_TRANSFER_SYNTAXES,
    EXPLICIT_VR_BIG_ENDIAN,
    GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS,
    IMPLICIT_VR_LITTLE_ENDIAN,
)


class Wholeness(enum.Enum):
    """How sure it is that a data set arrived whole."""

    WHOLE = "whole"
    """The walk reached the end of the data set; there may have been quirks on the way."""

    UNCHECKED = "unchecked"
    """The walk had to stop, or ended inside a sequence; nothing proves that anything is missing."""

    BROKEN = "broken"
    """The data set is certainly cut, has no identity, or is hostile: it must not be acknowledged."""


@attrs.frozen
class Head:
    """
    What one data set said about itself.

    The attributes are those of its top level, "" where missing, the first where repeated; decoded as Latin-1
    whatever the character set, without trailing NUL and space.

    :ivar size: the bytes received; of a deflated data set the deflated ones.
    :ivar defect: why the data set is broken, without any of its values; "" where it is not.
    :ivar quirks: what was odd about the encoding, each oddity once, in words from a fixed list.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    PatientID: str
    Modality: str
    StudyDate: str
    size: int
    wholeness: Wholeness
    defect: str = ""
    quirks: tuple[str, ...] = ()


_headOf: Callable[..., Head] = Head  # takes the attributes from a list, in the order of WANTED

_IMPLICIT_UIDS = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, GE_PRIVATE_IMPLICIT_VR_BIG_ENDIAN_PIXELS})
_STANDARD_ROOT = "1.2.840.10008.1.2."
_ENCAPSULATED_ROOTS = (
    "1.2.840.10008.1.2.4.",  # JPEG, MPEG, HEVC
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.1.98",  # Encapsulated Uncompressed
    "1.2.840.10008.1.2.8.1",  # Deflated Image Frame
)

# Where the walk stands.
_BEGINNING, _ELEMENTS, _SEQUENCE, _FRAGMENTS, _ZEROS, _OVER = range(6)

_UNDEFINED = 0xFFFFFFFF
_FOREVER = 1 << 62  # more bytes than any data set has
_WALKED_AT_LEAST = 1 << 20  # bytes of a deflated data set that are walked, whatever they came from
_PART10_BYTES = 134  # preamble, DICM and the group number of file meta: enough to know a Part 10 file
_PIXEL_DATA = 0x7FE00010


class DataSetReader:
    """
    Reads one data set, chunk by chunk, as it is received.

    :ivar size: the bytes received so far.
    :ivar headComplete: the walk is past all that is wanted: what :attr:`attributes` lacks is missing. (In a data
        set whose tags are out of order it may still come, and is then taken up.)
    :ivar defect: why the data set is broken, as far as is known; "" where it is not.
    """

    def __init__(self, transferSyntaxUID: str, maximumDepth: int = 64, maximumValueLength: int = 1024) -> None:
        """
        :param maximumDepth: how many sequences of undefined length may be open at once.
        :param maximumValueLength: the bytes kept of a head value; the rest of a longer one is passed over.
        """
        self.size = 0
        self.headComplete = False
        self.defect = ""
        self._syntax = transferSyntaxUID
        self._maximumDepth = maximumDepth
        self._maximumValueLength = maximumValueLength
        self._encoding = EXPLICIT
        self._state = _BEGINNING
        self._stack: list[Encoding] = []  # for each open sequence: the encoding to return to
        self._skip = 0  # bytes to pass before the next header
        self._carry = bytearray()  # the start of an element that was cut in its header or wanted value
        self._needed = 0  # how long the carry must be for the walk to go on
        self._valueEnd = 0  # where the value of the carried element ends; 0 while that is not known
        self._tag = 0  # the element that is being skipped or carried, or whose fragments are
        self._found: dict[int, bytes] = {}
        self._quirks: dict[str, None] = {}
        self._certain = True  # no step was a guess: if the next is impossible, the data set is to blame
        self._cutIsCertain = True  # the same, as it was where the value being skipped or carried began
        self._stopped = False
        self._walked = 0  # inflated bytes that were not just passed over
        self._inflation = Inflation() if transferSyntaxUID in DEFLATED_TRANSFER_SYNTAXES else None

    @property
    def attributes(self) -> dict[str, str]:
        """The head attributes found so far, by keyword."""
        return {WANTED[tag]: value.rstrip(b"\0 ").decode("latin-1") for tag, value in self._found.items()}

    def feed(self, view: View) -> None:
        """Take the next bytes; nothing of the buffer is kept past the call."""
        size = len(view)
        self.size += size
        if self._inflation is not None:
            self._feedDeflated(view, self._inflation)
        elif size <= self._skip:
            self._skip -= size
        else:
            self._scan(view)

    def finish(self) -> Head:
        """The head of the data set, all of whose bytes have been fed. To be called once."""
        if not self.size:
            self.defect = "no bytes"
        if not self.defect:
            self._judgeEnd()
        found = self._found
        values = [found[tag].rstrip(b"\0 ").decode("latin-1") if tag in found else "" for tag in WANTED]
        if not self.defect and not (values[0] and values[1]):
            self.defect = "no SOP Class UID or no SOP Instance UID"
        self.headComplete = True
        wholeness = Wholeness.UNCHECKED if self._stopped else Wholeness.WHOLE
        if self.defect:
            wholeness = Wholeness.BROKEN
        return _headOf(*values, self.size, wholeness, self.defect, tuple(self._quirks))

    def _feedDeflated(self, view: View, inflation: Inflation) -> None:
        if self.defect:
            return
        try:
            for block in inflation.blocks(view):
                if len(block) <= self._skip:
                    self._skip -= len(block)
                    continue
                # Tiny elements deflate a thousandfold: what one chunk can have walked is kept near its own length.
                self._walked += len(block) - self._skip
                if self._walked > _WALKED_AT_LEAST + 2 * self.size:
                    self._stop("deflated elements beyond the limit")
                else:
                    self._scan(block)
                if self.defect:
                    return
        except zlib.error:
            self._refuse("the deflated stream is corrupt")

    # The walk.

    def _scan(self, view: View) -> None:
        """Walk over a chunk that is longer than what is to be skipped."""
        pos, self._skip = self._skip, 0
        end = len(view)
        carry = self._carry
        while carry:
            part = view[pos : pos + self._needed - len(carry)]
            carry += part
            pos += len(part)
            if len(carry) < self._needed:
                return
            self._walkCarried()
        if self._skip:
            if end - pos <= self._skip:
                self._skip -= end - pos
                return
            pos, self._skip = pos + self._skip, 0
        pos = self._walk(view, pos, end)
        if pos < end:
            carry += view[pos:end]

    def _walkCarried(self) -> None:
        """Walk over what was carried, and carry on what still is not enough."""
        carried = bytes(self._carry)
        self._carry.clear()
        self._carry += carried[self._walk(carried, 0, len(carried)) :]

    def _walk(self, view: View, pos: int, end: int) -> int:
        """
        Walk to the end, or to an element that needs more bytes than there are.

        :return: where the bytes to carry begin; how many it needs is then in ``_needed``.
        """
        self._needed = self._valueEnd = 0
        while pos < end and not self._needed:
            if self._state == _ELEMENTS:
                pos = self._elements(view, pos, end)
            elif self._state == _BEGINNING:
                if end - pos < _PART10_BYTES:
                    self._needed = _PART10_BYTES
                else:
                    self._begin(view)
            elif self._state == _OVER:
                return end
            elif self._state == _ZEROS:
                if bytes(view[pos:end]).count(0) != end - pos:
                    self._stop("bytes after trailing padding")
                return end
            else:
                pos = self._items(view, pos, end)
        return pos

    def _begin(self, view: View) -> None:
        """Judge by the first bytes which encoding this is, and that it is no file in place of a data set."""
        if view[128:_PART10_BYTES] == b"DICM\x02\x00":
            self._refuse("a Part 10 file inside the data set")
            return
        self._state = _ELEMENTS
        code, syntax = bytes(view[4:6]), self._syntax
        standard = syntax.startswith(_STANDARD_ROOT)
        if syntax == EXPLICIT_VR_BIG_ENDIAN:
            self._encoding = BIG_ENDIAN
        elif code in VRS:
            if syntax in _IMPLICIT_UIDS:
                self._quirks["explicit VR in an implicit VR syntax"] = None
            elif not standard and not view[0] and view[1]:
                self._encoding = BIG_ENDIAN
        elif syntax in _IMPLICIT_UIDS or not (standard or _isCapitals(code)):
            self._encoding = IMPLICIT
        elif not _isPrintable(code):
            self._quirks["implicit VR in an explicit VR syntax"] = None
            self._encoding = IMPLICIT

    def _elements(self, view: View, pos: int, end: int) -> int:
        """Walk over elements of the top level or of an item, until the state changes or the bytes run out."""
        encoding = self._encoding
        explicit, unpack, short, vr = encoding.explicit, encoding.header, encoding.short, 0
        headRun, run = encoding.runs
        # Groups below and above these numbers are looked at; of them no run passes any but the wanted in the head.
        if self._stack:
            low, high = 0, 0xFFFD
        elif self.headComplete:
            low, high = 0x21, 0xFFFB
        else:
            low, high, run = 0x10000, 0xFFFB, headRun
        valueStart = encoding.lengthSize
        valueStop = valueStart + self._maximumValueLength
        last = end - 8
        while pos <= last:
            start = pos + 8
            if explicit:
                group, element, vr, length = unpack(view, pos)
                if vr not in short:
                    size, vr, length = self._longHeader(view, pos, group << 16 | element, vr, length)
                    start = pos + size
                    if start > end:
                        self._needed = size
                        return pos
            else:
                group, element, length = unpack(view, pos)
            if group < low or group > high:
                tag = group << 16 | element
                if tag in WANTED and length != _UNDEFINED:
                    stop = start + min(length, self._maximumValueLength)
                    if stop > end:
                        self._needed, self._valueEnd = stop - pos, start + length - pos
                        self._tag, self._cutIsCertain = tag, self._certain
                        return pos
                    self._keep(tag, bytes(view[start:stop]))
                elif group > high or group == 2 or group == 0:
                    return self._special(pos, tag, vr, length)
                elif tag > LAST_WANTED and low > 0x21:
                    self.headComplete = True
                    low, run = 0x21, encoding.runs[1]
            if length == _UNDEFINED:
                self._enter(group << 16 | element, vr)
                return start
            pos = start + length
            if pos > end:
                self._skip, self._tag, self._cutIsCertain = pos - end, group << 16 | element, self._certain
            if length & 1:
                self._doubt("odd length")  # some of these have a pad byte that is not counted
            if pos > end:
                return end
            if run is not None:
                match = run(view, pos)
                while match.lastindex:
                    tagBytes, value = match.groups()
                    self._keep(WANTED_TAGS[tagBytes], value[valueStart:valueStop])
                    match = run(view, match.end())
                pos = match.end()
        self._needed = 8
        return pos

    def _longHeader(self, view: View, pos: int, tag: int, vr: int, length: int) -> tuple[int, int, int]:
        """
        Read the header of an element in explicit VR whose VR is none of those with a 16-bit length.

        :return: the size of the header, the VR (0: it has none, as in implicit VR) and the length of the value,
            which is right only where the whole header is there.
        """
        encoding = self._encoding
        if vr not in encoding.long:
            code = bytes(view[pos + 4 : pos + 6])
            if tag >= 0xFFFE0000 or tag < 0x00010000:  # delimiters have no VR, nor have zeros used as padding
                return 8, 0, encoding.longLength(view, pos + 4)[0]
            if not _isPrintable(code):
                self._doubt("implicit VR element in explicit VR")
                return 8, 0, encoding.longLength(view, pos + 4)[0]
            self._doubt("unknown VR")
            if not _isCapitals(code):
                return 8, vr, length
        if pos + 12 <= len(view):
            (length,) = encoding.longLength(view, pos + 8)
            if tag == _PIXEL_DATA and length != _UNDEFINED and not self._stack:
                self._countNativePixels()
        return 12, vr, length

    def _special(self, pos: int, tag: int, vr: int, length: int) -> int:
        """
        Act on a tag that stands for no element of a data set.

        :return: where the walk goes on.
        """
        if tag in (0xFFFEE00D, 0xFFFEE0DD):
            if length:
                self._doubt("delimiter with a length")
            if not self._stack:
                self._doubt("delimiter outside of a sequence")
            else:
                if tag == 0xFFFEE0DD:
                    self._doubt("sequence delimiter in place of an item delimiter")
                self._state = _SEQUENCE
        elif tag == 0xFFFCFFFC:
            self._quirks["trailing padding"] = None
            self._end()
        elif tag == vr == length == 0:
            self._quirks["trailing padding"] = None
            self._state = _ZEROS
        elif tag < 0x00030000 and self._certain:
            self._refuse(f"group {tag >> 16:04X} inside the data set")
        else:
            self._stop("tag out of place")
        return pos + 8

    def _enter(self, tag: int, vr: int) -> None:
        """Begin the sequence, or the fragments, that a value of undefined length is."""
        encoding = self._encoding
        fragments = tag == _PIXEL_DATA
        if encoding.explicit and vr != encoding.SQ:
            if vr == encoding.UN or vr == 0:
                self._encoding = IMPLICIT  # PS3.5 6.2.2, whatever the transfer syntax
            else:
                fragments = True
        if fragments:
            self._state, self._tag = _FRAGMENTS, tag
        elif len(self._stack) >= self._maximumDepth:
            self._refuse(f"sequences more than {self._maximumDepth} deep")
        else:
            self._state = _SEQUENCE
        self._stack.append(encoding)

    def _items(self, view: View, pos: int, end: int) -> int:
        """Walk over the items of a sequence, or over fragments, by their lengths."""
        unpack = self._encoding.item
        last = end - 8
        while pos <= last:
            group, element, length = unpack(view, pos)
            if group != 0xFFFE or element not in (0xE000, 0xE0DD):
                self._stop("neither item nor delimiter in a sequence")
                return end
            if element == 0xE0DD:
                if length:
                    self._doubt("delimiter with a length")
                self._encoding = self._stack.pop()
                self._state = _ELEMENTS
                return pos + 8
            if length == _UNDEFINED:
                if self._state == _FRAGMENTS:
                    self._stop("fragment of undefined length")
                else:
                    self._state = _ELEMENTS
                return pos + 8
            pos += 8 + length
            if pos > end:
                self._skip, self._cutIsCertain = pos - end, self._certain
                return end
        self._needed = 8
        return pos

    # What was found.

    def _keep(self, tag: int, value: bytes) -> None:
        if tag in self._found:
            self._quirks["repeated element"] = None
        else:
            self._found[tag] = value

    def _countNativePixels(self) -> None:
        if self._inflation is None and self._syntax.startswith(_ENCAPSULATED_ROOTS):
            self._doubt("Pixel Data of defined length in an encapsulated syntax")

    def _doubt(self, quirk: str) -> None:
        """Note an oddity after which the walk goes on by a guess, and so may not refuse what comes of it."""
        self._quirks[quirk] = None
        self._certain = False

    def _stop(self, quirk: str) -> None:
        """Stop checking: the rest is taken as it comes."""
        self._quirks[quirk] = None
        self._stopped = True
        self._end()

    def _refuse(self, defect: str) -> None:
        self.defect = defect
        self._end()

    def _end(self) -> None:
        """End the walk: what follows is only counted."""
        self._state = _OVER
        self._skip = _FOREVER
        self.headComplete = True

    # The end.

    def _judgeEnd(self) -> None:
        """Judge whether more had to come."""
        if self._inflation is not None:
            self._judgeInflation(self._inflation)
        carry = self._carry
        if self._state == _BEGINNING and carry:
            self._begin(carry)
            self._walkCarried()
        if self._state == _OVER:
            return
        missing = self._skip or max(0, self._valueEnd - len(carry))
        if missing == 1:
            self._quirks["last value without its pad byte"] = None
            if carry:
                carry += b"\0"
                self._walkCarried()
        elif missing:
            self._judgeCut(missing)
        elif carry:
            if self._stack or any(carry):
                self._stop("ends inside a header")
            else:
                self._quirks["trailing padding"] = None
        if self._stack and not self.defect:
            self._stop("sequence delimiter missing")

    def _judgeCut(self, missing: int) -> None:
        fragment = self._state == _FRAGMENTS and len(self._stack) == 1
        if self._cutIsCertain and (fragment or not self._stack):
            name = f"{'fragment' if fragment else 'value'} of ({self._tag >> 16:04X},{self._tag & 0xFFFF:04X})"
            self._refuse(f"{name} cut by {missing} bytes")
        else:
            self._stop("ends inside a value")

    def _judgeInflation(self, inflation: Inflation) -> None:
        self._quirks.update(dict.fromkeys(inflation.quirks()))
        if inflation.capped:
            self._stop("inflates beyond the limit")
        elif not inflation.ended:
            self._refuse("the deflated stream is cut")
        elif inflation.overrun:
            self._stopped = True


def _isPrintable(code: bytes) -> bool:
    return code.isascii() and code.decode("ascii").isprintable()


def _isCapitals(code: bytes) -> bool:
    return code.isalpha() and code.isupper()
