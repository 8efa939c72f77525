"""
Data sets in each encoding: nothing escapes the reader, it says the same however they are cut, and it keeps little.

An input is a kind of encoding, options, and where to cut (see C{inputs}); then the data set.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from dcxtwisted.dataset import DataSetReader, Head, Wholeness
from dcxtwisted.dataset.encodings import WANTED
from tests.fuzz.inputs import CUTS, held, pieces, positions

#: What an input begins with, before the cuts: the kind, and options.
CONTROL: Final = struct.Struct("<BB")
MAXIMUM_LENGTH: Final = 2048
#: What a check may allocate besides what is in proportion to its input: two blocks inflated, and what zlib has itself.
CONSTANT: Final = 320 * 1024

_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
#: Transfer syntaxes; a number says that the input is deflated here, with this of zlib's window bits.
KINDS: Final[tuple[tuple[str, int], ...]] = (
    ("1.2.840.10008.1.2.1", 0),
    ("1.2.840.10008.1.2", 0),
    ("1.2.840.10008.1.2.2", 0),
    ("1.2.840.10008.1.2.4.50", 0),
    (_DEFLATED, 0),
    (_DEFLATED, -15),
    (_DEFLATED, 15),
    (_DEFLATED, 31),
    ("1.2.840.113619.5.2", 0),
    ("1.3.46.670589.33.1.4.1", 0),
)
_CORRUPT: Final = "the deflated stream is corrupt"
_MOST_CUTS: Final = 64
_SHALLOW: Final = 1
_SHORT_VALUES: Final = 2
_FEWEST_KEPT: Final = 134  # the bytes by which a Part 10 file is known


def check(data: bytes) -> None:
    """Check one input."""
    start = CONTROL.size + CUTS.size
    if len(data) < start:
        return
    kind, options = CONTROL.unpack_from(data)
    syntax, windowBits = KINDS[kind % len(KINDS)]
    stream = data[start:]
    if windowBits:
        deflate = zlib.compressobj(1, zlib.DEFLATED, windowBits, 1)
        stream = deflate.compress(stream) + deflate.flush()
    depth = 2 if options & _SHALLOW else 64
    longest = 8 if options & _SHORT_VALUES else 1024
    step, first, second = CUTS.unpack_from(data, CONTROL.size)
    cuts = positions(step, first, second, len(stream), _MOST_CUTS)
    head = _read(DataSetReader(syntax, depth, longest), [stream], longest, depth)
    _checkHead(head, len(stream), longest)
    if cuts:
        cut = _read(DataSetReader(syntax, depth, longest), pieces(stream, cuts), longest, depth)
        if syntax == _DEFLATED and _CORRUPT in (head.defect, cut.defect):
            # zlib gives nothing of the bytes before a fault that it was given with them: so what is found in front of
            # it, be it another defect, may depend on the cuts. The verdict does not.
            assert (cut.size, cut.wholeness) == (head.size, head.wholeness)
        else:
            assert cut == head, f"{cut} where cut, {head} as a whole"


def _read(reader: DataSetReader, chunks: list[bytes], longest: int, depth: int) -> Head:
    complete = False
    for chunk in chunks:
        buffer = bytearray(chunk)
        view = memoryview(buffer)
        reader.feed(view)
        view.release()
        buffer.clear()  # raises where a view of it was kept
        assert reader.headComplete >= complete
        complete = reader.headComplete
    assert held(reader) <= len(WANTED) * longest + max(longest + 12, _FEWEST_KEPT)
    stack = reader._stack
    # Fragments are not counted as a sequence, and nothing is inside of them.
    assert len(stack) <= depth + 1
    found = reader.attributes
    head = reader.finish()
    # An end that is short of its pad byte may bring one more.
    assert all(getattr(head, keyword) == value for keyword, value in found.items())
    return head


def _checkHead(head: Head, size: int, longest: int) -> None:
    assert head.size == size
    assert (head.wholeness is Wholeness.BROKEN) is bool(head.defect)
    if not head.defect:
        assert head.SOPClassUID
        assert head.SOPInstanceUID
    assert all(len(getattr(head, keyword)) <= longest for keyword in WANTED.values())
    assert len(set(head.quirks)) == len(head.quirks)
    for words in (head.defect, *head.quirks):
        assert words.isascii()
        assert words.isprintable()
