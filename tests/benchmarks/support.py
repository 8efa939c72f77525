"""
Runs that never were.
"""

from __future__ import annotations

from benchmarks.load import Result
from benchmarks.results import Case, Measured, Measurement


def ran(rate: float, user: float = 0.0001, system: float = 0.0002) -> Measurement:
    """Return a run of 1,000 objects of 1,024 bytes with so many objects a second."""
    result = Result(objects=1000, seconds=1000 / rate, bytes=1024000, p50=0.001, p99=10 / rate, busy=0.25, window=1)
    return Measurement(result, user, system, 64 << 20)


def case(receiver: str, size: str = "1K", associations: int = 8) -> Case:
    """Return a case without a window."""
    return Case(size, associations, 1, receiver)


def measured(**rates: list[float | None]) -> Measured:
    """Return runs by receiver, their rates by round; None for one that failed. In names ``_`` stands for ``-``."""
    return {
        case(name.replace("_", "-")): {
            number: None if rate is None else ran(rate) for number, rate in enumerate(rounds)
        }
        for name, rounds in rates.items()
    }
