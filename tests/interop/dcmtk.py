"""
What the tests against DCMTK's clients share: their programs, each in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.interop.support import ListenerTestCase

#: Seconds after which a client is killed: well before trial gives up, so that nothing is left behind.
CLIENT_DEADLINE = 40.0

#: DCMTK takes the UIDs of these, whose VR is UN, for lists of numbers: storescu finds none, and dcmsend writes "31".
UIDS_AS_UN = ("rtdose_rle.dcm", "rtdose_rle_1frame.dcm")


@cache
def _programOfDCMTK(name: str) -> str | None:
    """Return the path of a program of DCMTK, and not of one of the same name that came with pynetdicom."""
    for directory in os.get_exec_path():
        path = shutil.which(name, path=directory)
        if path is not None:
            version = subprocess.run([path, "--version"], capture_output=True, timeout=CLIENT_DEADLINE, check=False)
            if b"$dcmtk" in version.stdout:
                return path
    return None


def requireProgram(name: str) -> str:
    """
    Return the path of a program of DCMTK.

    :raises SkipTest: it is not there.
    """
    path = _programOfDCMTK(name)
    if path is None:
        raise SkipTest(f"DCMTK's {name} is not installed")
    return path


@attrs.frozen
class Finished:
    """A program that ended: its exit status, and all it wrote."""

    status: int
    output: str


def runClient(program: str, *args: str) -> Deferred[Finished]:
    """Run a program of DCMTK's while the reactor goes on; it is killed at its deadline."""
    return runProgram(requireProgram(program), *args)


def runProgram(*command: str) -> Deferred[Finished]:
    """The same with any program."""

    def finish() -> Finished:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CLIENT_DEADLINE,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode("latin-1"))

    return deferToThread(finish)


class DCMTKTestCase(ListenerTestCase):
    """
    A test with one of DCMTK's clients; skipped where it is not installed.

    :ivar program: its name.
    """

    program: str

    def setUp(self) -> None:
        """Skip before anything is started."""
        super().setUp()
        requireProgram(self.program)

    def client(self, *options: str, inputs: Sequence[str] = ()) -> Deferred[Finished]:
        """Run the program against the relay."""
        return runClient(self.program, *options, "127.0.0.1", str(self.relayed.port), *inputs)

    async def succeed(self, *options: str, inputs: Sequence[str] = ()) -> str:
        """Return what the program writes, which ends well."""
        finished = await self.client(*options, inputs=inputs)
        self.assertEqual(finished.status, 0, finished.output)
        return finished.output
