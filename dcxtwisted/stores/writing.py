"""
How bytes get into a file: one after the other, or gathered first and written at once.

An object that fits is written by one call, and the disk begins with it while it waits for a thread: with eight durable
senders of 525 KB that is an eighth less CPU time for each object, in spite of the copy, and a fifth more of them in a
second (``benchmarks.durable``).
"""

from __future__ import annotations

import mmap
import os
from errno import EIO
from typing import Final

from dcxtwisted.stores.shifting import replaceStart
from dcxtwisted.stores.synchronizing import beginToSynchronize, synchronizeData, synchronizeFile

#: Bytes of a file that are gathered; a longer one is written as its bytes come, from then on.
BUFFER_SIZE: Final = 1 << 20
# How many files gather at a time; the others are written as their bytes come.
_MOST_BUFFERS: Final = 32


class Buffers:
    """Memory to gather files in, of a size that does not depend on who sends. Any thread may use it."""

    def __init__(self) -> None:
        # Only what was written to takes memory, and the one last given back is taken first. Private: a process that
        # is forked from this one has its own.
        memory = memoryview(mmap.mmap(-1, BUFFER_SIZE * _MOST_BUFFERS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._free = [memory[start : start + BUFFER_SIZE] for start in range(0, len(memory), BUFFER_SIZE)]

    def take(self) -> memoryview | None:
        """Return C{BUFFER_SIZE} bytes of whatever content, None where all are taken."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def giveBack(self, buffer: memoryview) -> None:
        """Let others have what was taken."""
        self._free.append(buffer)


class WrittenFile:
    """
    A file on its way from its first byte to its last. It is used by one thread at a time.

    :ivar size: bytes of the data set that were taken, be they in the file or gathered yet.
    """

    __slots__ = ("_buffer", "_buffers", "_dataOffset", "_fd", "_gathered", "_lead", "size")

    def __init__(self, fd: int, lead: bytes, buffers: Buffers | None) -> None:
        """
        :param fd: open for reading and writing, empty; closed by ``close``.
        :param lead: what comes before the data set; written together with its first bytes.
        :param buffers: what to gather in; None to write as bytes come.
        """
        self._fd = fd
        self._lead = lead
        self._dataOffset = len(lead)
        self._buffers = buffers
        self._buffer = None if buffers is None else buffers.take()
        self._gathered = 0
        self.size = 0

    @property
    def gathers(self) -> bool:
        """Whether bytes may be gathered that are not in the file."""
        return self._buffer is not None

    def gather(self, data: memoryview | bytes) -> bool:
        """Take bytes of the data set without a call to the system; False, and nothing done, where they do not fit."""
        buffer = self._buffer
        if buffer is None:
            return False
        start = self._gathered or self._dataOffset
        end = start + len(data)
        if end > BUFFER_SIZE:
            return False
        buffer[start:end] = data
        if not self._gathered:
            buffer[:start] = self._lead
            self._lead = b""
        self._gathered = end
        self.size += len(data)
        return True

    def write(self, data: memoryview | bytes) -> None:
        """Append bytes of the data set, all of them, behind what was gathered."""
        if self._buffer is not None:
            self._writeGathered(self._buffer)
        size = len(data)
        lead = self._lead
        if lead:
            self._lead = b""
            written = os.writev(self._fd, (lead, data)) - len(lead)
            if written < 0:
                self._writeAll(lead[written:])
                written = 0
        else:
            written = os.write(self._fd, data)
        if written != size:
            self._writeAll(data[written:])
        self.size += size

    def flush(self) -> None:
        """Have in the file all that was taken, and what comes before it."""
        if self._buffer is not None:
            self._writeGathered(self._buffer)
        if self._lead:
            self.write(b"")

    def begin(self) -> None:
        """Have in the file what was gathered, and the disk begin with it; else nothing."""
        if self._buffer is not None:
            self.flush()
            beginToSynchronize(self._fd)

    def _writeGathered(self, buffer: memoryview) -> None:
        try:
            self._writeAll(buffer[: self._gathered])
        finally:
            self._releaseBuffer()

    def _writeAll(self, data: memoryview | bytes) -> None:
        while data:
            written = os.write(self._fd, data)
            if not written:
                raise OSError(EIO, os.strerror(EIO))
            data = data[written:]

    def replaceLead(self, lead: bytes) -> None:
        """Put something else before the data set: all of that moves, where it is longer or shorter."""
        self.flush()
        replaceStart(self._fd, self._dataOffset, lead, self.size)
        self._dataOffset = len(lead)

    def synchronizeData(self) -> None:
        """Have what is written so far on the disk."""
        synchronizeData(self._fd)

    def synchronize(self) -> None:
        """Make the file durable; its name is another matter."""
        synchronizeFile(self._fd)

    def close(self) -> None:
        """Let go of what is held; it may be called again."""
        if self._buffer is not None:
            self._releaseBuffer()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _releaseBuffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None and self._buffers is not None:
            self._buffers.giveBack(buffer)
