"""
The reader of data sets, for each object.
"""

from __future__ import annotations

import pytest

from benchmarks.micro.material import CHUNK, INSTANCE, Benchmark, dataSet, deflated
from dcxtwisted.dataset import DataSetReader, Head, Wholeness

_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"


def read(transferSyntax: str, pieces: list[memoryview]) -> Head:
    """Return what the reader found in a data set that comes in pieces."""
    reader = DataSetReader(transferSyntax)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


@pytest.mark.parametrize(
    ("transferSyntax", "elements", "pixels"),
    [
        (_EXPLICIT, 20, 512),
        (_IMPLICIT, 20, 512),
        (_EXPLICIT, 300, 512 << 10),
        (_IMPLICIT, 300, 512 << 10),
        (_DEFLATED, 300, 512 << 10),
    ],
    ids=["explicit, 20 elements", "implicit, 20 elements", "explicit, CT of 300", "implicit, CT of 300", "deflated CT"],
)
def test_read(benchmark: Benchmark, transferSyntax: str, elements: int, pixels: int) -> None:
    """All of it, in pieces as long as PDUs, and found whole."""
    plain = dataSet(elements, pixels, transferSyntax != _IMPLICIT)
    data = memoryview(deflated(plain) if transferSyntax == _DEFLATED else plain)
    pieces = [data[start : start + CHUNK // 2] for start in range(0, len(data), CHUNK // 2)]
    head = benchmark(read, transferSyntax, pieces)
    assert (head.wholeness, head.quirks) == (Wholeness.WHOLE, ())
    assert (head.SOPInstanceUID, head.Modality, head.size) == (INSTANCE, "CT", len(data))


@pytest.mark.parametrize("isExplicit", [True, False])
def test_elements(isExplicit: bool) -> None:
    """They are as many as is said; pydicom counts them."""
    from io import BytesIO

    from pydicom.filereader import read_dataset

    assert len(read_dataset(BytesIO(dataSet(300, 64, isExplicit)), not isExplicit, True)) == 300
