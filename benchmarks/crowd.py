"""
A crowd that begins associations and stalls, beside one honest sender: ``python -m benchmarks.crowd``.

The crowd comes from 127.0.0.2: each connection sends half an A-ASSOCIATE-RQ and then nothing, or with
``--stall object`` associates, sends the command and the first PDV of an object, and then nothing. The sender is DCMTK's
storescu from 127.0.0.1, one association and one object at a time, again and again. Its rate is taken before the crowd
comes and while it is there; then the time is taken until nothing of the crowd is left in the receiver.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from pydicom.data import get_testdata_file

from benchmarks.load import associateRQ
from benchmarks.objects import makeTemplate
from benchmarks.peers import RECEIVERS, dcmtkProgram, listening
from benchmarks.processes import ReceiverError, raiseDescriptorLimit, tell

_CROWD: Final = "127.0.0.2"
_RECEIVER: Final = "127.0.0.1"
# An association that takes longer than this has failed.
_PATIENCE: Final = 35
_FREED: Final = 150.0
_PART: Final = 16384


@dataclass(frozen=True, slots=True)
class Sent:
    """What the honest sender got done: seconds of each association that succeeded, and how many failed."""

    seconds: Sequence[float]
    failed: int
    elapsed: float

    def __str__(self) -> str:
        if not self.seconds:
            return f"nothing in {self.elapsed:.0f} s, {self.failed} failed"
        return (
            f"{len(self.seconds) / self.elapsed:.1f} associations/s, median {median(self.seconds) * 1000:.0f} ms, "
            f"longest {max(self.seconds) * 1000:.0f} ms, {self.failed} failed"
        )


def send(port: int, seconds: float) -> Sent:
    """Send one object on an association of its own, again and again for so long."""
    command = [dcmtkProgram("storescu"), "-to", "5", _RECEIVER, str(port), str(get_testdata_file("CT_small.dcm"))]
    took: list[float] = []
    failed = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            failed += 1
            continue
        if done.returncode:
            failed += 1
        else:
            took.append(time.monotonic() - now)
    return Sent(took, failed, time.monotonic() - began)


def gather(port: int, count: int, inObject: bool) -> list[socket.socket]:
    """Return as many connections, each with half a request sent, or half an object."""
    request = associateRQ(b"DCXTWISTED")
    half = request[: len(request) // 2]
    template = makeTemplate(1 << 20, _PART, 1)
    part = template.head + bytes(template.body[: _PART - len(template.head)])
    crowd = []
    for _ in range(count):
        connection = socket.create_connection((_RECEIVER, port), timeout=_PATIENCE, source_address=(_CROWD, 0))
        crowd.append(connection)
        connection.sendall(request if inObject else half)
        if inObject:
            answer = connection.recv(4096)
            if answer[:1] != b"\x02":
                raise ReceiverError(f"no A-ASSOCIATE-AC but {answer[:10].hex()}")
            connection.sendall(part)
    return crowd


def stillThere(crowd: Sequence[socket.socket]) -> int:
    """Return how many the receiver has not closed."""
    count = 0
    for connection in crowd:
        connection.setblocking(False)
        try:
            while connection.recv(4096):
                pass  # an A-ABORT, say
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Run as the command line says, and tell what came of it."""
    with listening(RECEIVERS[options.receiver], scratch, set(), options.set) as process:
        port = process.port
        send(port, 1)
        tell(f"without a crowd: {send(port, options.seconds)}")
        before, peakBefore = process.descriptors(), process.peakMemory()
        began = time.monotonic()
        crowd = gather(port, options.connections, options.stall == "object")
        tell(f"{len(crowd)} connections made in {time.monotonic() - began:.1f} s")
        tell(f"beside them: {send(port, options.seconds)}")
        grown = (process.peakMemory() - peakBefore) / (1 << 20)
        held = process.descriptors() - before
        tell(f"{held} descriptors more than before, {stillThere(crowd)} connections open, memory +{grown:.1f} MiB")
        while process.descriptors() > before and time.monotonic() < began + _FREED:
            time.sleep(0.1)
        tell(
            f"{time.monotonic() - began:.1f} s after the first of them: "
            f"{process.descriptors() - before} descriptors more than before, {stillThere(crowd)} connections open"
        )
        tell(f"after them: {send(port, options.seconds)}")
        for connection in crowd:
            connection.close()


def main() -> int:
    """Run; 1 where the receiver fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowd", description=__doc__)
    parser.add_argument("--receiver", choices=sorted(RECEIVERS), default="dcxtwisted-durable")
    parser.add_argument("--connections", type=int, default=5000, help="how large the crowd is")
    parser.add_argument("--stall", choices=["request", "object"], default="request", help="in the middle of what")
    parser.add_argument("--seconds", type=float, default=10, help="for how long the rate is taken, each time")
    parser.add_argument("--set", action="append", default=[], help="a setting of dcxtwisted, NAME=VALUE; repeatable")
    options = parser.parse_args()
    raiseDescriptorLimit()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        try:
            run(options, Path(name).resolve())
        except ReceiverError as error:
            sys.stderr.write(f"{options.receiver}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
