"""
What a listener asks of the system, in order: ``strace`` around it, read back as one line for each call that matters.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.loopback import DEADLINE, Program

_CALLS: Final = (
    "open,openat,creat,close,write,writev,pwrite64,pwritev,ftruncate,fsync,fdatasync,sync_file_range,msync,"
    "link,linkat,symlink,symlinkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,sendto,sendmsg"
)
_BEGUN: Final = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_OUTCOME: Final = re.compile(r"\)? += (-?\d+)")
_QUOTED: Final = re.compile(r'"([^"]*)"')
_WORKING: Final = re.compile(r"\.incoming/[0-9]+-[0-9a-f]{16}")


@attrs.frozen
class Call:
    """A call that succeeded: its name, its arguments and result, and the lines it began and returned on."""

    name: str
    arguments: str
    result: int
    begun: int
    returned: int

    @property
    def descriptor(self) -> int:
        """The first argument, where that is a descriptor."""
        return int(re.match(r"\d+", self.arguments)[0])  # type: ignore[index]  # of such a call it is

    @property
    def paths(self) -> list[str]:
        """The arguments in quotes."""
        return _QUOTED.findall(self.arguments)


def requireStrace(directory: Path) -> str:
    """
    Return the path of strace.

    :raises SkipTest: it is not there, or may not trace here.
    """
    path = shutil.which("strace")
    if path is None:
        raise SkipTest("strace is not installed")
    tried = subprocess.run(
        [path, "-o", str(directory / "tried"), "true"], capture_output=True, timeout=DEADLINE, check=False
    )
    if tried.returncode:
        raise SkipTest(f"strace may not trace here: {tried.stderr.decode(errors='replace').strip()}")
    return path


class TracedListener:
    """
    ``twistd dcxtwisted`` under strace.

    :ivar store: its store directory.
    :ivar port: where it listens.
    """

    def __init__(self, case: SynchronousTestCase, directory: Path, *options: str) -> None:
        self.store = directory / "store"
        self._trace = directory / "trace"
        # The tracer is the traced one's grandchild: whoever ends the program ends that, and strace with it.
        strace = [requireStrace(directory), "-D", "-f", "-q", "-s", "0", "-e", f"trace={_CALLS}", "-o", self._trace]
        twistd = [str(Path(sys.executable).parent / "twistd"), "--nodaemon", "--pidfile=", "dcxtwisted"]
        arguments = [*map(str, strace), *twistd, "--port", "tcp:0:interface=127.0.0.1"]
        self._program = Program(case, [*arguments, "--store-directory", str(self.store), *options], directory)
        self.port = int(self._program.waitFor(r"storescu -aec DCXTWISTED 127\.0\.0\.1 (\d+) FILE\.dcm")[1])

    def stop(self) -> None:
        """End it with SIGTERM, and wait until the trace is whole."""
        self._program.process.terminate()
        self._program.status()
        deadline = time.monotonic() + DEADLINE
        while "+++ exited" not in self._trace.read_text()[-200:] and time.monotonic() < deadline:
            time.sleep(0.01)  # another process writes it

    def calls(self) -> Iterator[Call]:
        """Give the calls that succeeded, by when they began."""
        found: dict[int, Call] = {}
        underWay: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(self._trace.read_text().splitlines()):
            resumed = _RESUMED.match(line)
            begun = _BEGUN.match(line)
            if resumed is not None:
                first, arguments = underWay.pop(resumed[1])
                name, rest = resumed[2], arguments + resumed[3]
            elif begun is not None and "<unfinished ...>" in line:
                underWay[begun[1]] = number, begun[3].partition(" <unfinished")[0]
                continue
            elif begun is not None:
                first, name, rest = number, begun[2], begun[3]
            else:
                continue
            outcome = list(_OUTCOME.finditer(rest))
            if outcome and int(outcome[-1][1]) >= 0:
                found[first] = Call(name, rest[: outcome[-1].start()], int(outcome[-1][1]), first, number)
        return iter([found[first] for first in sorted(found)])

    def told(self) -> list[tuple[str, Call]]:
        """
        Return what was done to files and directories of the store, and what was sent, with the call that did it.

        Paths are relative to the store, '.' is the store itself and '*' the working directory of the process.
        """
        names: dict[int, str] = {}
        told = []
        for call in self.calls():
            name = call.name
            if name in ("open", "openat", "creat"):
                path = self._relative(call.paths[0])
                if path is None:
                    names.pop(call.result, None)
                    continue
                names[call.result] = "the file" if "O_TMPFILE" in call.arguments or "O_EXCL" in call.arguments else path
                if names[call.result] == "the file":
                    told.append((f"create in {path if 'O_TMPFILE' in call.arguments else Path(path).parent}", call))
            elif name in ("link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2"):
                path = self._relative(call.paths[-1])
                if path is not None:
                    told.append((f"{name.rstrip('at2')} {path}", call))
            elif name in ("unlink", "unlinkat", "mkdir"):
                path = self._relative(call.paths[0])
                if path is not None:
                    told.append((f"{name} {path}", call))
            elif name in ("sendto", "sendmsg"):
                told.append(("send", call))
            elif call.descriptor in names:
                if name == "close":
                    del names[call.descriptor]
                else:
                    told.append((f"{name} {names[call.descriptor]}", call))
        return told

    def _relative(self, path: str) -> str | None:
        """Return a path in the store as it is told; None of any other."""
        whole = Path(path)
        if not whole.is_relative_to(self.store):
            return None
        return _WORKING.sub("*", str(whole.relative_to(self.store)))
