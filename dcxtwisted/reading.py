"""
Files that a configuration names, read whole.
"""

from __future__ import annotations

import os
import stat


def readWhole(path: str) -> tuple[bytes, int]:
    """
    Return what is in a file, and its mode.

    A pipe that somebody writes to is read to its end. One that nobody does is none that can be read: to wait for it, at
    a reload, would be the end of everything else.

    :raises OSError: it cannot be read.
    """
    with open(path, "rb", opener=_openedAtOnce) as file:
        mode = os.fstat(file.fileno()).st_mode
        os.set_blocking(file.fileno(), True)
        content = file.read()
    if stat.S_ISFIFO(mode) and not content:
        raise OSError(None, "a pipe with nothing in it")
    return content, mode


def _openedAtOnce(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
