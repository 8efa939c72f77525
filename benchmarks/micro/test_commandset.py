"""
Command sets, one in each direction for each object.
"""

from __future__ import annotations

from benchmarks.micro.material import Benchmark
from dcxtwisted.wire.commandset import decodeCommandSet, encodeCommandSet
from dcxtwisted.wire.messages import CStoreRequest, encodeCStoreRQ, parseMessage

_CT = "1.2.840.10008.5.1.4.1.1.2"
_INSTANCE = "2.25.314159265358979323846264338327950288"
_REQUEST = encodeCStoreRQ(7, _CT, _INSTANCE)


def test_decode(benchmark: Benchmark) -> None:
    """The request, as its elements."""
    elements = benchmark(decodeCommandSet, memoryview(_REQUEST))
    assert sorted(elements) == [0x0000, 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000]
    assert elements[0x0110] == b"\7\0"


def test_parse(benchmark: Benchmark) -> None:
    """The same, as the message that it is."""
    request = benchmark(lambda: parseMessage(1, decodeCommandSet(_REQUEST)))
    assert isinstance(request, CStoreRequest)
    assert (request.SOPClassUID, request.SOPInstanceUID, request.messageID) == (_CT, _INSTANCE, 7)


def test_encode(benchmark: Benchmark) -> None:
    """The response, from its elements."""
    elements = {0x0002: _CT.encode(), 0x0100: b"\1\x80", 0x0120: b"\7\0", 0x0800: b"\1\1", 0x0900: b"\0\0"}
    encoded = benchmark(encodeCommandSet, elements)
    assert len(encoded) == 12 + 8 * 5 + 26 + 8
    assert decodeCommandSet(encoded)[0x0002] == _CT.encode() + b"\0"


def test_respond(benchmark: Benchmark) -> None:
    """The same, from the request that it answers."""
    request = parseMessage(1, decodeCommandSet(_REQUEST))
    assert isinstance(request, CStoreRequest)
    encoded = benchmark(lambda: request.response(0).encode())
    assert decodeCommandSet(encoded)[0x0900] == b"\0\0"
    assert decodeCommandSet(encoded)[0x0120] == b"\7\0"
