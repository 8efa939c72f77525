"""
What a measurement depends on beside what is measured: machine, kernel, file system, versions and date.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from dcxtwisted.wire.framing import COMPILED

#: The checkout that this is run from.
CHECKOUT: Final = Path(__file__).resolve().parent.parent

_PACKAGES: Final = ("Twisted", "pydicom", "pynetdicom", "pyOpenSSL", "cryptography")


def facts(directory: Path, programs: Iterable[str] = ()) -> dict[str, str]:
    """
    Return what there is to say, by what it is.

    :param directory: where objects are stored.
    :param programs: programs of DCMTK.
    """
    versions = ", ".join(dict.fromkeys(filter(None, map(_DCMTKVersion, programs))))
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Machine": f"{processor(_text('/proc/cpuinfo'))}, {os.cpu_count()} cores, {memory(_text('/proc/meminfo'))}",
        "System": f"Linux {platform.release()}, {fileSystem(_text('/proc/self/mountinfo'), directory)}",
        "dcxtwisted": _commit(),
        "Python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "Packages": ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name))),
    } | ({"DCMTK": versions} if versions else {})


def commandLine(program: str) -> str:
    """Return what was typed to run this program; of files somewhere else, only the names."""
    arguments = [Path(argument).name if argument.startswith("/") else argument for argument in sys.argv[1:]]
    return shlex.join(["python", "-m", program, *arguments])


def processor(cpuinfo: str) -> str:
    """Return the model of the first processor that the text of /proc/cpuinfo has."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1] if found else platform.machine()


def memory(meminfo: str) -> str:
    """Return how much memory the text of /proc/meminfo has, in whole GiB."""
    found = re.search(r"^MemTotal:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return f"{int(found[1]) / (1 << 20):.0f} GiB" if found else "unknown memory"


def fileSystem(mountinfo: str, directory: Path) -> str:
    """Return the type of the file system that a directory is on, and its device, from /proc/self/mountinfo."""
    wanted = directory.resolve()
    best, found = "", "unknown file system"
    for line in mountinfo.splitlines():
        mounted, _, described = line.partition(" - ")
        point = mounted.split()[4]
        # The later one of two on the same directory hides the other.
        if wanted.is_relative_to(point) and len(point) >= len(best):
            kind, device, *_ = described.split()
            best, found = point, f"{kind} on {device}"
    return found


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


def _commit() -> str:
    """Return which commit this is, and whether the checkout differs from it."""
    git = ("git", "-C", str(CHECKOUT))
    commit = _said(*git, "rev-parse", "--short=10", "HEAD").strip()
    changes = _said(*git, "status", "--porcelain", "--untracked-files=no").strip()
    return f"{commit or _version('dcxtwisted')}{' with changes' if changes else ''}{', compiled' if COMPILED else ''}"


def _DCMTKVersion(program: str) -> str:
    found = re.search(r"\$dcmtk: \S+ v(\S+)", _said(program, "--version"))
    return found[1] if found else ""


def _said(*command: str) -> str:
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    return ""
