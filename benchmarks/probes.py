"""
One figure each: what a peer notices beside a crowd, and what memory a receiver takes for what.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.load import LoadError, clientContext
from benchmarks.machine import CHECKOUT
from benchmarks.objects import VERIFICATION, largeObject
from benchmarks.peers import RECEIVERS, listening
from benchmarks.processes import ReceiverError, ReceiverProcess, raiseDescriptorLimit
from benchmarks.requestor import Requestor

_JPEG_BASELINE: Final = b"1.2.840.10008.1.2.4.50"
# What a store and the system may need beside an object.
_SPARE: Final = 4 << 30
# How long senders may take to associate, and to have their last objects acknowledged.
_PATIENCE: Final = 60.0
# From the association of the last sender to the first probe, and from the last probe to the end of the senders.
_SETTLING: Final = 1.0
_WARM_UP: Final = 20
# Descriptors that a process has beside its connections.
_OTHER_DESCRIPTORS: Final = 100


def _crowdSettings(associations: int) -> list[str]:
    """Let in so many from one address, which all of a benchmark come from, and a few more."""
    return [f"{name}={associations + 100}" for name in ("maximumAssociations", "maximumAssociationsPerAddress")]


@contextmanager
def _senders(process: ReceiverProcess, associations: int, size: str, seconds: float) -> Iterator[None]:
    """
    Have senders saturate a receiver, all of them associated from ``with`` on.

    :raises LoadError: one was refused, or an object was not acknowledged.
    """
    before = process.descriptors()
    arguments = {"--port": process.port, "--associations": associations, "--size": size, "--count": 10**9}
    # Nicer than the probe, which has the same core: it is not the sender that is measured.
    command = ["nice", "-n", "5", sys.executable, "-m", "benchmarks.load", "--seconds", str(seconds + 2 * _SETTLING)]
    command += [str(part) for pair in arguments.items() for part in pair]
    load = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + _PATIENCE
        while process.descriptors() < before + associations and load.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(_SETTLING)
        yield
        _, said = load.communicate(timeout=_PATIENCE)
    finally:
        load.kill()
        load.wait()
    if load.returncode:
        raise LoadError(said.strip()[-500:])


def _repeated(probe: Callable[[], float], seconds: float) -> list[float]:
    """Return what a probe gave, in ascending order, of as many as the time allows."""
    stopAt = time.monotonic() + seconds
    found = []
    while time.monotonic() < stopAt:
        found.append(probe())
        time.sleep(0.002)
    return sorted(found)


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which this share of them is."""
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]


def associationBeside(senders: int, size: str, seconds: float, cores: set[int], scratch: Path) -> list[float]:
    """
    Return how long it took from A-ASSOCIATE-RQ to -AC beside saturating senders, in seconds, ascending.

    :raises LoadError: an association was refused, or an object not acknowledged.
    :raises OSError: that of the probe was refused.
    """

    def probe() -> float:
        requestor = Requestor(process.port)
        requestor.release()
        return requestor.associatedIn

    with (
        listening(RECEIVERS["dcxtwisted"], scratch, cores, _crowdSettings(senders)) as process,
        _senders(process, senders, size, seconds),
    ):
        return _repeated(probe, seconds)


def echoBeside(senders: int, size: str, seconds: float, cores: set[int], scratch: Path) -> list[float]:
    """
    Return how long a C-ECHO took beside senders whose objects are synchronized, in seconds, ascending.

    :raises LoadError: an association was refused, or an object not acknowledged.
    :raises OSError: that of the probe was refused, or not answered.
    """
    with (
        listening(RECEIVERS["dcxtwisted-durable"], scratch, cores, _crowdSettings(senders)) as process,
        _senders(process, senders, size, seconds),
    ):
        requestor = Requestor(process.port, abstractSyntax=VERIFICATION)
        found = _repeated(requestor.echo, seconds)
        requestor.release()
        return found


def largeObjectGrowth(size: int, cores: set[int], scratch: Path) -> tuple[int, int, float]:
    """
    Store one large object durably; return its size, by how much memory grew meanwhile, in bytes, and the seconds.

    It is as large as asked for, or as the disk has room for.

    :raises LoadError: it was not stored.
    """
    size = min(size, shutil.disk_usage(scratch).free - _SPARE)
    if size < _SPARE >> 4:
        raise LoadError("no room on the disk for a large object")
    with listening(RECEIVERS["dcxtwisted-durable"], scratch, cores) as process:
        requestor = Requestor(process.port, transferSyntax=_JPEG_BASELINE)
        # What the first object takes is no matter of its size.
        _store(requestor, 4 << 20)
        process.forgetPeak()
        before = process.memory()
        began = time.monotonic()
        sent = _store(requestor, size)
        took = time.monotonic() - began
        requestor.release()
        return sent, process.peakMemory() - before, took


def _store(requestor: Requestor, size: int) -> int:
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for piece in largeObject(size):
            sent += len(piece)
            yield piece

    status = requestor.storePieces(counted())
    if status:
        raise LoadError(f"a large object answered with {status:04X}")
    return sent


def memoryOfIdle(count: int, TLS: bool, cores: set[int], scratch: Path) -> tuple[int, float]:
    """
    Have associations do nothing; return how many, and the receiver's memory for each, in bytes.

    There are as many as asked for, or as a process may have descriptors. What sockets take in the kernel is left out.

    :raises ReceiverError: one of them did not stand to the end.
    """
    count = min(count, raiseDescriptorLimit() - _OTHER_DESCRIPTORS)
    context = clientContext() if TLS else None
    receiver = RECEIVERS["dcxtwisted-tls" if TLS else "dcxtwisted"]
    with listening(receiver, scratch, cores, _crowdSettings(count)) as process, ExitStack() as stack:
        # What the first associations take is no matter of their number.
        for _ in range(_WARM_UP):
            Requestor(process.port, context).release()
        time.sleep(_SETTLING)
        before, descriptors = process.memory(), process.descriptors()
        for _ in range(count):
            stack.callback(Requestor(process.port, context).close)
        time.sleep(_SETTLING)
        if process.descriptors() != descriptors + count:
            raise ReceiverError(f"{process.descriptors() - descriptors} associations stand, and not {count}")
        return count, (process.memory() - before) / count
