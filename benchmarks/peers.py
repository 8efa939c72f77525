"""
dcxtwisted beside other receivers, in interleaved rounds: ``python -m benchmarks.peers``.

The receiver has one core and the sender another. Nothing of a round is left for the next: each has a new process, port
and store directory. Where other work shares the machine only the ratios mean something: they are taken within a round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, product
from pathlib import Path
from typing import Final, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.load import LoadError, parseSize, parseWindow, runLoad
from benchmarks.machine import CHECKOUT, commandLine, facts
from benchmarks.pages import described, rewrite
from benchmarks.picture import draw
from benchmarks.processes import TWISTD, ReceiverError, ReceiverProcess, freePort, pinCores
from benchmarks.results import Case, Measured, Measurement, Results, join, loadResults
from benchmarks.scratch import countFiles, emptyFiles, freshDirectory, spreadDirectories, touchMemory
from benchmarks.table import formatTable
from dcxtwisted.wire.framing import COMPILED


@dataclass(frozen=True, slots=True)
class Receiver:
    """
    How a receiver is started.

    :ivar command: its arguments, over ``{port}``, ``{directory}`` and the files ``{configuration}``, ``{certificate}``
        and ``{key}``.
    :ivar environment: what it needs beside the usual.
    :ivar configuration: what is in that file.
    :ivar isSerial: it serves one association after the other.
    :ivar isTLS: it is sent to over TLS.
    :ivar workers: processes that it starts once it listens, and that stay.
    :ivar keeps: it stores each object in a file.
    :ivar isInterpreted: it runs from the sources, also where what was compiled of them stands beside them.
    """

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    configuration: str = ""
    isSerial: bool = False
    isTLS: bool = False
    workers: int = 0
    keeps: bool = True
    isInterpreted: bool = False


def _ours(
    *options: str, port: str = "--port", isTLS: bool = False, workers: int = 0, isInterpreted: bool = False
) -> Receiver:
    return Receiver(
        (
            *(TWISTD, "--nodaemon", "--pidfile=", "dcxtwisted", *options),
            *(port, "tcp:{port}:interface=127.0.0.1", "--store-directory", "{directory}"),
        ),
        isTLS=isTLS,
        workers=workers,
        isInterpreted=isInterpreted,
    )


def _helper(name: str) -> Receiver:
    return Receiver((sys.executable, "-m", "benchmarks.receivers", name, "{port}", "{directory}"))


# DCMTK as fast as it goes: PDUs as long as it allows, data sets written as received, no name lookups.
_DCMTK: Final = ("+B", "-pdu", "131072", "-dhl", "-od", "{directory}", "{port}")
_NO_DELAY: Final = {"TCP_NODELAY": "1"}

# Without one dcmrecv accepts C-ECHO only.
_DCMRECV_PROFILE: Final = """
[[TransferSyntaxes]]
[Explicit]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[CT]
PresentationContext1 = CTImageStorage\\Explicit
[[Profiles]]
[Default]
PresentationContexts = CT
"""


def dcmtkProgram(name: str) -> str:
    """Return the path of a program of DCMTK; pynetdicom installs others of the same names into its environment."""
    for directory in os.get_exec_path():
        path = shutil.which(name, path=directory)
        if path is not None:
            said = subprocess.run([path, "--version"], capture_output=True, check=False, timeout=10).stdout
            if b"$dcmtk" in said:
                return path
    return name


#: Every receiver that can be measured. Only those called durable let the disk have an object before they answer.
RECEIVERS: Final = {
    "dcxtwisted": _ours("--no-fsync"),
    "dcxtwisted-interpreted": _ours("--no-fsync", isInterpreted=True),
    "dcxtwisted-durable": _ours(),
    "dcxtwisted-workers": _ours("--no-fsync", "--workers", "2", workers=2),
    "dcxtwisted-tls": _ours(
        "--no-fsync", "--tls-certificate", "{certificate}", "--tls-key", "{key}", port="--tls-port", isTLS=True
    ),
    "storescp": Receiver((dcmtkProgram("storescp"), "--fork", *_DCMTK), _NO_DELAY),
    "storescp-tls": Receiver(
        (dcmtkProgram("storescp"), "--fork", "+tls", "{key}", "{certificate}", "-ic", *_DCMTK), _NO_DELAY, isTLS=True
    ),
    "dcmrecv": Receiver(
        (dcmtkProgram("dcmrecv"), "-xf", "{configuration}", "Default", *_DCMTK),
        _NO_DELAY,
        _DCMRECV_PROFILE,
        isSerial=True,
    ),
    "pynetdicom": _helper("pynetdicom"),
    "bare": _helper("bare"),
    "native": _helper("native"),
    "native-durable": _helper("native-durable"),
}

# Objects in a run: enough for the clock of /proc, which ticks every 10 ms, and no more than the page cache takes.
_COUNTS: Final = ((64 << 10, 5000), (4 << 20, 1000))
_FEW: Final = 8
# What all associations send at the same time; beyond it the system has to write to the disk meanwhile.
_MOST_AT_ONCE: Final = 2 << 30


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ends a run: whichever comes first; and the cores of receiver and sender, empty where there is only one."""

    count: int | None
    seconds: float
    receiverCores: set[int]
    senderCores: set[int]

    def countFor(self, size: int, associations: int) -> int:
        """Return how many objects to send: at least one on each association."""
        count = self.count or next((count for limit, count in _COUNTS if size < limit), _FEW)
        return max(count, associations)


def prepare(receiver: Receiver, port: int, scratch: Path) -> tuple[Path, list[str], dict[str, str]]:
    """Return the new store directory of a receiver that is to be started, its command and its environment."""
    directory = freshDirectory(scratch)
    configuration = scratch / "configuration"
    configuration.write_text(receiver.configuration)
    names = {"port": port, "directory": directory, "configuration": configuration}
    names |= {"certificate": scratch / "certificate.pem", "key": scratch / "key.pem"}
    if receiver.isTLS:
        _makeCertificate(scratch)
    command = [argument.format(**names) for argument in receiver.command]
    sources = _sources(scratch) if receiver.isInterpreted else CHECKOUT
    return directory, command, {**os.environ, "PYTHONPATH": str(sources), **receiver.environment}


def _sources(scratch: Path) -> Path:
    """Return a directory with the sources alone of what a receiver of ours runs."""
    copied = scratch / "sources"
    for package in ("dcxtwisted", "twisted"):
        shutil.copytree(CHECKOUT / package, copied / package, ignore=shutil.ignore_patterns("*.so", "dropin.cache"))
    return copied


def listening(receiver: Receiver, scratch: Path, cores: set[int], settings: Sequence[str] = ()) -> ReceiverProcess:
    """
    Return a receiver that is to be started.

    :param scratch: an empty directory for its files.
    :param settings: of dcxtwisted, as NAME=VALUE.
    """
    port = freePort()
    _, command, environment = prepare(receiver, port, scratch)
    for setting in settings:
        command += ["--set", setting]
    return ReceiverProcess(command, port, scratch / "log", cores, environment)


def _makeCertificate(scratch: Path) -> None:
    """Write a certificate, and its key, such as hospitals have: RSA of 2048 bits."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "benchmark")])
    now = datetime.now(UTC)
    day = timedelta(days=1)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day).sign(key, SHA256())
    (scratch / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (scratch / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def measure(
    receiver: Receiver, size: int, associations: int, window: int, bounds: Bounds, scratch: Path
) -> Measurement:
    """
    Start a receiver, send to it, and end it.

    :param window: how many objects to have outstanding on each association, where the receiver accepts that.
    :param scratch: an empty directory for its files; not emptied here.
    :raises LoadError: if not every object was acknowledged, or not every acknowledged one stored.
    :raises ValueError: if there are no CT images of that size.
    :raises ReceiverError: if the receiver cannot be started, or ends.
    """
    port = freePort()
    directory, command, environment = prepare(receiver, port, scratch)
    peaks: list[int] = []
    log, cores = scratch / "log", bounds.receiverCores
    with ReceiverProcess(command, port, log, cores, environment, receiver.workers) as process:
        # What happens once in a process is no part of its speed.
        warmUp = runLoad(port, size, 1, 10 if size < 4 << 20 else 1, tls=receiver.isTLS)
        count = bounds.countFor(size, associations)
        touchMemory(scratch, size * count)
        before = process.cpuTime()
        result = runLoad(
            port,
            size,
            associations,
            count,
            bounds.seconds,
            window=window,
            tls=receiver.isTLS,
            beforeRelease=lambda: peaks.append(process.peakMemory()),
        )
        after = process.cpuTime()
    acknowledged = warmUp.objects + result.objects
    stored = countFiles(directory)
    if receiver.keeps and stored != acknowledged:
        raise LoadError(f"{acknowledged} objects acknowledged, but {stored} files stored")
    user, system = ((end - begin) / result.objects for begin, end in zip(before, after, strict=True))
    return Measurement(result, user, system, peaks[0])


def casesFor(
    sizes: Sequence[str], associations: Sequence[int], windows: Sequence[int], receivers: Sequence[str]
) -> list[Case]:
    """Return every case of these but those that cannot be, or would measure how fast memory fills up."""
    return [
        Case(*chosen)
        for chosen in product(sizes, associations, windows, receivers)
        if parseSize(chosen[0]) * chosen[1] <= _MOST_AT_ONCE and not (RECEIVERS[chosen[3]].isSerial and chosen[1] > 1)
    ]


def measureAll(
    cases: Sequence[Case],
    rounds: int,
    bounds: Bounds,
    scratch: Path,
    measured: Measured,
    receivers: Mapping[str, Receiver] = RECEIVERS,
) -> None:
    """
    Measure cases in interleaved rounds; those that differ by their receiver only follow on each other.

    :param measured: takes what comes of it, from the first run on: it is good even after an interruption.
    """
    for number in range(rounds):
        for _, group in groupby(cases, key=lambda case: case._replace(receiver="")):
            # Another one begins each time: what that costs, or gains, is spread over all.
            alike = list(group)
            first = number % len(alike)
            for case in alike[first:] + alike[:first]:
                what = f"round {number + 1}: {case}"
                measured.setdefault(case, {})[number] = _attempt(what, case, receivers[case.receiver], bounds, scratch)


def _attempt(what: str, case: Case, receiver: Receiver, bounds: Bounds, scratch: Path) -> Measurement | None:
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        size = parseSize(case.size)
        measurement = measure(receiver, size, case.associations, case.window, bounds, directory)
    except (LoadError, ReceiverError, ValueError) as error:
        sys.stderr.write(f"{what}: FAILED: {error}\n")
        return None
    finally:
        emptyFiles(directory)
    result = measurement.result
    sys.stderr.write(f"{what}: {result.objectsPerSecond:.1f} objects/s, {measurement.cpu * 1e6:.0f} us CPU each\n")
    return measurement


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Measure receivers side by side, in interleaved rounds."
    )
    names = ",".join(RECEIVERS)
    plain = ",".join(
        name
        for name, receiver in RECEIVERS.items()
        if not (receiver.isTLS or receiver.workers or receiver.isInterpreted)
    )
    parser.add_argument(
        "--receivers",
        type=_list,
        default=plain,
        help=f"separated by commas, of {names}; or all, which are those of one core [default: these, without TLS]",
    )
    parser.add_argument("--sizes", type=_list, default="1K,525K,128M", help="of the data sets [default: %(default)s]")
    parser.add_argument("--associations", type=_list, default="1,8", help="at the same time [default: %(default)s]")
    parser.add_argument(
        "--windows",
        type=_list,
        default="1",
        help="objects outstanding on each association, where the receiver accepts that [default: %(default)s]",
    )
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument("--count", type=int, help="objects in a run [default: 5000, 1000 or 8, by their size]")
    parser.add_argument("--seconds", type=float, default=20.0, help="longest run [default: %(default)s]")
    parser.add_argument("--directory", type=Path, help="where stores are made, and removed [default: a temporary one]")
    parser.add_argument("--unpinned", action="store_true", help="receiver and sender share all cores")
    parser.add_argument(
        "--baselines",
        type=_list,
        default="storescp,dcmtk,bare,pynetdicom",
        help="what the ratios are over; dcmtk is the best of DCMTK's [default: %(default)s]",
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="where to keep what was measured, as JSON")
    parser.add_argument(
        "--from",
        type=Path,
        nargs="+",
        metavar="FILE",
        dest="parts",
        help="measure nothing, but join what was kept in these",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to draw it, as SVG")
    parser.add_argument("--report", type=Path, metavar="FILE", help="page in reStructuredText to write it into")
    options = parser.parse_args()
    if options.receivers == ["all"]:
        options.receivers = [
            name
            for name, receiver in RECEIVERS.items()
            if not (receiver.workers or (receiver.isInterpreted and not COMPILED))
        ]
    unknown = [name for name in options.receivers if name not in RECEIVERS]
    if unknown:
        parser.error(f"unknown receivers {', '.join(unknown)}; known are {names}")
    absent = [name for name in options.receivers if shutil.which(RECEIVERS[name].command[0]) is None]
    if absent:
        parser.error(f"not installed: {', '.join(absent)}")
    try:
        options.associations = [int(text) for text in options.associations]
        options.windows = [parseWindow(text) for text in options.windows]
        for size in options.sizes:
            parseSize(size)
    except ValueError as error:
        parser.error(str(error))
    return options


def _list(text: str) -> Sequence[str]:
    return [part for part in text.split(",") if part]


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run as the command line says; 1 if a run failed, 130 if interrupted."""
    options = _parsed()
    if options.parts:
        publish(join([loadResults(path) for path in options.parts]), options)
        return 0
    # So that receivers and directories go in that case too.
    signal.signal(signal.SIGTERM, _terminated)
    bounds = Bounds(options.count, options.seconds, *((set[int](), set[int]()) if options.unpinned else pinCores()))
    cases = casesFor(options.sizes, options.associations, options.windows, options.receivers)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as name:
        scratch = Path(name).resolve()
        spreadDirectories(scratch)
        results = Results(factsFor(scratch), [commandLine("benchmarks.peers")], {})
        wasInterrupted = False
        try:
            measureAll(cases, options.rounds, bounds, scratch, results.measured)
        except KeyboardInterrupt:
            wasInterrupted = True
    publish(results, options)
    if wasInterrupted:
        return 130
    return 1 if any(run is None for runs in results.measured.values() for run in runs.values()) else 0


def factsFor(scratch: Path) -> dict[str, str]:
    """Return what is to be said of machine and versions where receivers are measured."""
    return facts(scratch, (dcmtkProgram("storescp"), dcmtkProgram("dcmrecv")))


def publish(results: Results, options: argparse.Namespace) -> None:
    """Print the table, and write what the command line asks for."""
    if options.save:
        results.save(options.save)
    table = formatTable(results.measured, options.baselines)
    most = max((case.associations for case in results.measured), default=1)
    serial = dict.fromkeys(case.receiver for case in results.measured if RECEIVERS[case.receiver].isSerial)
    if serial and most > 1:
        table += f"Serves one association at a time, and was not measured with more: {', '.join(serial)}.\n"
    sys.stdout.write(table)
    if options.picture:
        options.picture.write_text(draw(results.measured, results.facts))
    if options.report:
        rewrite(options.report, "measured side by side", described(results.facts, results.commands, table))


if __name__ == "__main__":
    sys.exit(main())
