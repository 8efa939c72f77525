"""
The answer to an A-ASSOCIATE-RQ, for each association.
"""

from __future__ import annotations

import pytest

from benchmarks.micro.material import Benchmark
from dcxtwisted.testing.peer import associateRQ
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from dcxtwisted.wire.negotiation import Negotiated, Supported, negotiate
from dcxtwisted.wire.pdu import A_ASSOCIATE_RQ, AssociateRQ, decode

_SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)


def _taken(name: str, said: SOPClassCommonExtendedNegotiation | None) -> tuple[str, ...] | None:
    return _SYNTAXES if name.startswith("1.2.840.10008.5.1.4.1.1.") else None


_SUPPORTED = Supported(_taken, 131072, "2.25.1", "TEST")


@pytest.mark.parametrize("contexts", [1, 128])
def test_negotiate(benchmark: Benchmark, contexts: int) -> None:
    """Every other context is refused; explicit VR is taken where implicit VR comes first."""
    names = [f"1.2.840.10008.5.1.4.{1 + index % 2}.1.{index}" for index in range(contexts)]
    request = associateRQ({2 * index + 1: (name, _SYNTAXES) for index, name in enumerate(names)})
    negotiated = benchmark(negotiate, request, _SUPPORTED)
    assert isinstance(negotiated, Negotiated)
    assert len(negotiated.contexts) == (contexts + 1) // 2
    assert {context.transferSyntax for context in negotiated.contexts.values()} == {EXPLICIT_VR_LITTLE_ENDIAN}


@pytest.mark.parametrize("contexts", [1, 128])
def test_bytes(benchmark: Benchmark, contexts: int) -> None:
    """The same from bytes to bytes."""
    names = [f"1.2.840.10008.5.1.4.1.1.{index}" for index in range(contexts)]
    encoded = associateRQ({2 * index + 1: (name, _SYNTAXES) for index, name in enumerate(names)}).encode()
    body = memoryview(encoded)[6:]

    def answered() -> bytes:
        request = decode(A_ASSOCIATE_RQ, body)
        assert isinstance(request, AssociateRQ)
        negotiated = negotiate(request, _SUPPORTED)
        assert isinstance(negotiated, Negotiated)
        return negotiated.accept.encode()

    assert benchmark(answered)[:2] == b"\2\0"
