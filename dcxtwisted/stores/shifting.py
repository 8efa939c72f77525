"""
Other bytes at the start of a file, in place of more or fewer.
"""

from __future__ import annotations

import os
from errno import EIO
from typing import Final

_BLOCK: Final = 1048576


def replaceStart(fd: int, old: int, start: bytes, size: int) -> None:
    """
    Put C{start} in place of the first C{old} bytes of a file; the C{size} bytes behind them move. It blocks.

    :raises OSError: then nothing can be told of what is in the file.
    """
    new = len(start)
    positions = range(0, size, _BLOCK)
    for position in positions if new < old else reversed(positions):
        _writeAt(fd, os.pread(fd, min(_BLOCK, size - position), old + position), new + position)
    _writeAt(fd, start, 0)
    os.ftruncate(fd, new + size)


def _writeAt(fd: int, data: bytes, position: int) -> None:
    while data:
        written = os.pwrite(fd, data, position)
        if not written:
            raise OSError(EIO, os.strerror(EIO))
        data = data[written:]
        position += written
