"""
Receivers as processes: started, watched through /proc, and ended by their ids.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from benchmarks.machine import CHECKOUT

#: The program beside this Python.
TWISTD: Final = str(Path(sys.executable).with_name("twistd"))

_START: Final = 30.0
_STOP: Final = 15.0
_POLL: Final = 0.02
_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
_LISTEN: Final = "0A"


class ReceiverError(Exception):
    """A receiver did not start, ended by itself, or did not come to rest."""


class CPUTime(NamedTuple):
    """Seconds that processes spent in their own code, and in the kernel."""

    user: float
    system: float


def tell(line: str) -> None:
    """Say it now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def pinCores() -> tuple[set[int], set[int]]:
    """
    Return the cores of receiver and sender, empty where there is only one; this process stays on the sender's from now.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return set(), set()
    os.sched_setaffinity(0, {cores[1]})
    return {cores[0]}, {cores[1]}


def raiseDescriptorLimit() -> int:
    """Let this process, and those it starts, have as many descriptors as the system lets them; return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def freePort() -> int:
    """Return a port of 127.0.0.1 on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class ReceiverProcess:
    """
    A receiver that listens from ``with`` on, and of which nothing is left after it.

    :ivar pid: its process id.
    :ivar port: where it listens.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        cores: set[int],
        environment: Mapping[str, str],
        workers: int = 0,
    ) -> None:
        """
        :param log: takes what the receiver prints; its end is quoted when something goes wrong.
        :param cores: on which it and its children run; empty for any.
        :param workers: children that it starts after it listens, and that stay.
        """
        self._command = command
        self.port = port
        self._log = log
        self._cores = cores
        self._environment = environment
        self._expected = workers
        self._workers: set[int] = set()

    def __enter__(self) -> ReceiverProcess:
        ours = os.sched_getaffinity(0)
        with self._log.open("wb") as log:
            # Inherited, so that not even its first thread runs elsewhere.
            os.sched_setaffinity(0, self._cores or ours)
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._log.parent,
                    env=dict(self._environment),
                    start_new_session=True,
                )
            finally:
                os.sched_setaffinity(0, ours)
        self.pid = self._process.pid
        try:
            self._awaitListening()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def _awaitListening(self) -> None:
        """Wait without connecting: to some receivers a connection without an association is a fault."""
        deadline = time.monotonic() + _START
        while not _isListening(self.port) or len(_descendants(self.pid)) < self._expected:
            if self._process.poll() is not None:
                raise ReceiverError(f"ended with {self._process.returncode} at the start{self._lastLines()}")
            if time.monotonic() > deadline:
                raise ReceiverError(f"does not listen{self._lastLines()}")
            time.sleep(_POLL)
        self._workers = set(_descendants(self.pid))

    def _lastLines(self) -> str:
        text = self._log.read_text(errors="replace").strip().splitlines()[-5:]
        return ": " + " | ".join(text) if text else ""

    def cpuTime(self) -> CPUTime:
        """
        Return the user and system time of the process and of every child it ever had.

        Waits until no child runs that was not there at the start, so that each is counted whole.

        :raises ReceiverError: if children keep running, or the process is gone.
        """
        deadline = time.monotonic() + _STOP
        while True:
            before = _descendants(self.pid)
            if all(pid in self._workers or _stat(pid)[0] == "Z" for pid in before):
                ticks = [_ticks(pid) for pid in (self.pid, *before)]
                # One that was reaped meanwhile would count twice or not at all.
                if before == _descendants(self.pid):
                    break
            if time.monotonic() > deadline:
                raise ReceiverError("children are still running")
            time.sleep(_POLL)
        if self._process.poll() is not None:
            raise ReceiverError(f"ended by itself with {self._process.returncode}{self._lastLines()}")
        user, system = (sum(each) * _TICK for each in zip(*ticks, strict=True))
        return CPUTime(user, system)

    def peakMemory(self) -> int:
        """Return the sum of the peak resident sizes of the process and its present children, in bytes."""
        return sum(_memory(pid, "VmHWM") for pid in (self.pid, *_descendants(self.pid)))

    def memory(self) -> int:
        """Return the present resident size of the process, in bytes."""
        return _memory(self.pid, "VmRSS")

    def forgetPeak(self) -> None:
        """Let the peak of its resident size be what that is now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        """Return how many descriptors the process has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def end(self) -> None:
        """Terminate the process and its children, and kill what does not end in time."""
        children = _descendants(self.pid)
        self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in children:
            # In its own session: an id that was given to another process meanwhile is not touched.
            with suppress(ProcessLookupError):
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)


def _isListening(port: int) -> bool:
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError), open(table) as lines:
            for line in lines:
                fields = line.split(maxsplit=4)
                if fields[1].endswith(wanted) and fields[3] == _LISTEN:
                    return True
    return False


def listenerOver(store: Path, log: Path, *options: str) -> ReceiverProcess:
    """
    Return ours over a store, on any core.

    :param options: more of those of C{twistd dcxtwisted}.
    """
    port = freePort()
    command = [TWISTD, "--nodaemon", "--pidfile=", "dcxtwisted", "--port", f"tcp:{port}:interface=127.0.0.1"]
    command += ["--store-directory", str(store), *options]
    return ReceiverProcess(command, port, log, set(), {**os.environ, "PYTHONPATH": str(CHECKOUT)})


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; those of a dead process where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ["Z"] + ["0"] * 20
    return text[text.rindex(")") + 2 :].split()


def _ticks(pid: int) -> tuple[int, int]:
    """Return user and system time, each with that of the children that were reaped."""
    utime, stime, cutime, cstime = map(int, _stat(pid)[11:15])
    return utime + cutime, stime + cstime


def _descendants(pid: int) -> list[int]:
    """Return the ids of the children of a process, and of theirs."""
    parents = {int(name): int(_stat(int(name))[1]) for name in os.listdir("/proc") if name.isdigit()}
    found = [pid]
    for parent in found:  # grows meanwhile
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def _memory(pid: int, what: str) -> int:
    with suppress(OSError), open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
    return 0
