"""
Chunks to PDVs, for each object.
"""

from __future__ import annotations

import pytest

from benchmarks.micro.material import Benchmark, objectStream
from dcxtwisted.wire.framing import Framer, PDVReceived


def framed(framer: Framer, chunks: list[bytes]) -> tuple[int, int]:
    """Return how many pieces of PDVs there are, and how many bytes of data set are in them."""
    count = size = 0
    for chunk in chunks:
        framer.feed(chunk)
        while (item := framer.nextPDV() or framer.next()) is not None:
            if type(item) is PDVReceived:
                count += 1
                size += 0 if item.isCommand else len(item.view)
    return count, size


@pytest.mark.parametrize(
    ("size", "maximumLength", "pieces"),
    [(1 << 10, 131072, 2), (525 << 10, 131072, 8), (525 << 10, 16384, 36), (8 << 20, 131072, 98)],
    ids=["1K", "525K", "525K in PDUs of 16K", "8M"],
)
def test_object(benchmark: Benchmark, size: int, maximumLength: int, pieces: int) -> None:
    """A command, and a data set in PDUs of one PDV each, in chunks of 256 KiB that cut some of them."""
    framer = Framer(131072)
    assert benchmark(framed, framer, objectStream(size, maximumLength)) == (pieces, size)


def test_headersOfManyPDVs(benchmark: Benchmark) -> None:
    """1,000 PDVs of two bytes in one PDU: what a peer can ask for at most."""
    body = bytes.fromhex("00000004010000ff") * 1000
    chunk = b"\4\0" + len(body).to_bytes(4, "big") + body
    assert benchmark(framed, Framer(131072), [chunk]) == (1000, 2000)
