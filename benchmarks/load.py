"""
A sender of C-STORE requests that is never the bottleneck: many associations from one process, over prepared buffers.

One object is in flight per association, and the next goes out when the response has come; or as many as a window that
the receiver accepted lets be outstanding (PS3.7 D.3.3.3). It knows nothing of the receiver it measures and uses the
standard library only. From a shell: ``python -m benchmarks.load --port 11112``.
"""

from __future__ import annotations

import argparse
import secrets
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from struct import pack, pack_into, unpack_from
from typing import Final

from benchmarks.objects import (
    CONTEXT_ID,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    SERIAL_DIGITS,
    Template,
    makeTemplate,
)

_HOST: Final = "127.0.0.1"
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20}

# What is sent at most in one PDU, whatever the acceptor allows: no common sender uses more.
_LONGEST_PDU: Final = 131072
_SEND_BUFFER: Final = 4 << 20

# What is encrypted at once.
_PIECE: Final = 1 << 20

# How long what is in flight may take after the last object was begun, and an association to be made.
_GRACE: Final = 30.0

_MESSAGE_ID: Final = pack("<HHL", 0, 0x0120, 2)
_STATUS: Final = pack("<HHL", 0, 0x0900, 2)
RELEASE_RQ: Final = pack(">BxLxxxx", 5, 4)


class LoadError(Exception):
    """The run did not go as it must: a refused association, a status other than 0000, a deadline."""


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a run measured.

    :ivar objects: how many were acknowledged with status 0000.
    :ivar seconds: from the first byte of the first object to the last response; associations stood before.
    :ivar bytes: data-set bytes acknowledged.
    :ivar p50: median of the time from sending an object to its response, in seconds.
    :ivar p99: the same, 99th percentile.
    :ivar busy: the share of one core that the sender itself used; near 1 the sender may be the limit.
    :ivar window: how many objects were outstanding at most on an association: 1 where the receiver took no window.
    """

    objects: int
    seconds: float
    bytes: int
    p50: float
    p99: float
    busy: float
    window: int

    @property
    def objectsPerSecond(self) -> float:
        """Objects acknowledged per second."""
        return self.objects / self.seconds

    @property
    def megabytesPerSecond(self) -> float:
        """Data-set bytes acknowledged per second, in units of 10**6."""
        return self.bytes / self.seconds / 1e6


class _Association:
    """
    One association of the requestor: one object on its way to the receiver, and no more than C{window} unanswered.

    :ivar startedAt: when each object that has no response was begun, by its Message ID.
    """

    __slots__ = (
        "_body",
        "_head",
        "_messageID",
        "_received",
        "_sent",
        "_size",
        "_socket",
        "_template",
        "maximumLength",
        "startedAt",
        "window",
    )

    def __init__(self, port: int, called: bytes, window: int, timeout: float) -> None:
        self._socket = socket.create_connection((_HOST, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._received = b""
        self.startedAt: dict[int, float] = {}
        try:
            self._sendAll(associateRQ(called, window))
            self.maximumLength, accepted = _accepted(self._readPDU())
            self.window = min(window, accepted)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._socket.fileno()

    def prepare(self, template: Template) -> None:
        """From here on nothing blocks, and the objects are made from this template."""
        self._template = template
        self._head = bytearray(template.head)
        self._body = template.body
        self._size = len(template.head) + len(template.body)
        self._sent = self._size
        self._socket.setblocking(False)

    @property
    def mayStart(self) -> bool:
        """True where the last object is with the kernel, and the window has room for another."""
        return self._sent == self._size and len(self.startedAt) < self.window

    def start(self, number: int) -> bool:
        """
        Begin to send an object; return whether all of it is with the kernel.

        :raises LoadError: if its Message ID is outstanding: one object was overtaken by 65535 others.
        """
        digits = b"%0*d" % (SERIAL_DIGITS, number)
        for position in self._template.serialsAt:
            self._head[position : position + SERIAL_DIGITS] = digits
        self._messageID = number & 0xFFFF
        if self._messageID in self.startedAt:
            raise LoadError("no Message ID is left for another object")
        pack_into("<H", self._head, self._template.messageIDAt, self._messageID)
        self._sent = 0
        self.startedAt[self._messageID] = time.perf_counter()
        return self.resume()

    def resume(self) -> bool:
        """Send on; return whether all of the object is with the kernel."""
        try:
            self._sent += self._sendRest(self._sent)
        except BlockingIOError:
            pass  # the loop will say when there is room
        return self._sent == self._size

    def _sendRest(self, start: int) -> int:
        """Send of the object from there on what the kernel takes; return how much of it that is."""
        rest = start - len(self._head)
        if rest >= 0:
            return self._socket.send(self._body[rest:])
        # The usual case: a whole object in one call.
        return self._socket.sendmsg((memoryview(self._head)[start:], self._body))

    def _sendAll(self, data: bytes) -> None:
        """Send what is no object; blocking."""
        self._socket.sendall(data)

    def receive(self) -> list[float]:
        """
        Read what has come; return when each object that it answers was begun.

        :raises LoadError: if it is anything but responses with status 0000 to objects that were sent.
        """
        data = self._receive()
        if self._received:
            data = self._received + data
        started = []
        while len(data) >= 6 and len(data) >= (end := 6 + unpack_from(">L", data, 2)[0]):
            messageID = _respondedTo(data[:end])
            startedAt = self.startedAt.pop(messageID, None)
            if startedAt is None:
                raise LoadError("a response to another message")
            if messageID == self._messageID and self._sent != self._size:
                raise LoadError("an answer before the whole object was sent")
            started.append(startedAt)
            data = data[end:]
        self._received = data
        return started

    def release(self, timeout: float) -> None:
        """Release the association, waiting for the A-RELEASE-RP, and close the connection."""
        self._socket.settimeout(timeout)
        self._sendAll(RELEASE_RQ)
        PDU = self._readPDU()
        if PDU[0] != 6:
            raise LoadError(f"PDU type {PDU[0]:02X} instead of an A-RELEASE-RP")
        self.close()

    def close(self) -> None:
        """Close the connection; harmless to repeat."""
        self._socket.close()

    def _receive(self) -> bytes:
        """Return what has come; under TLS that may be nothing yet."""
        return self._fromKernel()

    def _fromKernel(self) -> bytes:
        data = self._socket.recv(65536)
        # The kernel forgets it: without it a peer that writes a response in two pieces waits 40 ms for our ACK.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not data:
            raise LoadError("the receiver closed the connection")
        return data

    def _readPDU(self) -> bytes:
        """Return the next PDU whole; blocking."""
        data = b""
        while len(data) < 6 or len(data) < 6 + unpack_from(">L", data, 2)[0]:
            data += self._receive()
        return data


class _TLSAssociation(_Association):
    """
    The same over TLS.

    What is sent is encrypted in memory, a piece at a time, and given to the kernel in one call: a record at a time, as
    a socket of the ssl module does it, would make the sender the limit.
    """

    __slots__ = ("_encrypted", "_incoming", "_outgoing", "_ssl")

    def __init__(self, port: int, called: bytes, window: int, timeout: float) -> None:
        context = clientContext()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing)
        self._encrypted = memoryview(b"")
        super().__init__(port, called, window, timeout)

    def _sendAll(self, data: bytes) -> None:
        while self._ssl.version() is None:
            # Nothing but the handshake comes before.
            with suppress(ssl.SSLWantReadError):
                self._ssl.do_handshake()
                break
            self._socket.sendall(self._outgoing.read())
            self._incoming.write(self._fromKernel())
        self._ssl.write(data)
        self._socket.sendall(self._outgoing.read())

    def _sendRest(self, start: int) -> int:
        """As above, but what is encrypted counts only when the kernel has all of its piece."""
        piece = self._piece(start)
        if not self._encrypted:
            self._ssl.write(piece)
            self._encrypted = memoryview(self._outgoing.read())
        self._encrypted = self._encrypted[self._socket.send(self._encrypted) :]
        return 0 if self._encrypted else len(piece)

    def _piece(self, start: int) -> memoryview:
        head = len(self._head)
        if start < head:
            return memoryview(self._head)[start:]
        return memoryview(self._body)[start - head : start - head + _PIECE]

    def _receive(self) -> bytes:
        self._incoming.write(self._fromKernel())
        data = b""
        with suppress(ssl.SSLWantReadError):
            while record := self._ssl.read(65536):
                data += record
        return data


def clientContext() -> ssl.SSLContext:
    """Return what speaks TLS with a receiver, whatever certificate it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _item(itemType: int, value: bytes) -> bytes:
    return pack(">BxH", itemType, len(value)) + value


def associateRQ(
    called: bytes,
    window: int = 1,
    abstractSyntax: bytes = CT_IMAGE_STORAGE,
    transferSyntax: bytes = EXPLICIT_VR_LITTLE_ENDIAN,
) -> bytes:
    """
    Return an A-ASSOCIATE-RQ that proposes one presentation context (PS3.8 9.3.2).

    :param window: how many operations to propose to have outstanding; 1 proposes nothing.
    """
    context = pack(">Bxxx", CONTEXT_ID) + _item(0x30, abstractSyntax) + _item(0x40, transferSyntax)
    user = _item(0x51, pack(">L", 16384)) + _item(0x52, b"2.25.271828182845904523536028747") + _item(0x55, b"LOAD")
    if window > 1:
        user += _item(0x53, pack(">HH", window, 1))
    body = pack(">H2x16s16s32x", 1, called.ljust(16), b"LOAD".ljust(16))
    body += _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x20, context) + _item(0x50, user)
    return pack(">BxL", 1, len(body)) + body


def _accepted(PDU: bytes) -> tuple[int, int]:
    """
    Return the longest P-DATA-TF body to send and how many operations may be outstanding, from an A-ASSOCIATE-AC.

    :raises LoadError: if it is no AC, or refuses the presentation context.
    """
    if PDU[0] == 3:
        raise LoadError(f"association rejected {PDU[7]}/{PDU[8]}/{PDU[9]}")
    if PDU[0] != 2:
        raise LoadError(f"PDU type {PDU[0]:02X} instead of an A-ASSOCIATE-AC")
    limit, window = 0, 1
    for itemType, value in _items(PDU[74:]):
        if itemType == 0x21 and value[2] != 0:
            raise LoadError(f"presentation context refused with result {value[2]}")
        if itemType == 0x50:
            limit = next((unpack_from(">L", inner)[0] for kind, inner in _items(value) if kind == 0x51), 0)
            window = next((unpack_from(">H", inner)[0] for kind, inner in _items(value) if kind == 0x53), 1)
    return min(limit or _LONGEST_PDU, _LONGEST_PDU) & ~1, window or 0xFFFF


def _items(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    position = 0
    while position + 4 <= len(data):
        itemType, length = unpack_from(">BxH", data, position)
        found.append((itemType, data[position + 4 : position + 4 + length]))
        position += 4 + length
    return found


def _respondedTo(PDU: bytes) -> int:
    """
    Return the Message ID that a C-STORE-RSP with status 0000 responds to.

    :raises LoadError: if the PDU is none.
    """
    if PDU[0] != 4:
        detail = f", source {PDU[8]}, reason {PDU[9]}" if PDU[0] == 7 else ""
        raise LoadError(f"PDU type {PDU[0]:02X} instead of a response{detail}")
    # From the end: a Message ID of 0x0209 with its neighbours looks like the head of a status.
    at = PDU.rfind(_STATUS) + 8
    if at < 8 or PDU[at : at + 2] != b"\0\0":
        status = f"status {unpack_from('<H', PDU, at)[0]:04X}" if at >= 8 else "no status"
        raise LoadError(f"a response with {status}")
    at = PDU.find(_MESSAGE_ID) + 8
    if at < 8:
        raise LoadError("a response to no message")
    messageID: int = unpack_from("<H", PDU, at)[0]
    return messageID


class _Run:
    """The loop that keeps every association busy."""

    def __init__(self, associations: list[_Association], count: int, seconds: float) -> None:
        self._associations = {association.fileno(): association for association in associations}
        self._count = count
        self._started = 0
        self._inFlight = 0
        self.latencies: list[float] = []
        self._stopAt = time.perf_counter() + seconds
        self._epoll = select.epoll()

    def exchange(self) -> None:
        """
        Send objects until the count or the time is used up, and await every response.

        :raises LoadError: on any other answer, and where the responses do not come in time.
        """
        with self._epoll:
            for descriptor, association in self._associations.items():
                self._epoll.register(descriptor, select.EPOLLIN)
                self._next(descriptor, association)
            while self._inFlight:
                left = self._stopAt + _GRACE - time.perf_counter()
                if left <= 0:
                    raise LoadError(f"{self._inFlight} objects not acknowledged in time")
                for descriptor, events in self._epoll.poll(left):
                    self._serve(descriptor, events)

    def _next(self, descriptor: int, association: _Association) -> None:
        while association.mayStart and self._started < self._count and time.perf_counter() < self._stopAt:
            self._started += 1
            self._inFlight += 1
            if not association.start(self._started):
                self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _serve(self, descriptor: int, events: int) -> None:
        association = self._associations[descriptor]
        if events & select.EPOLLOUT and association.resume():
            self._epoll.modify(descriptor, select.EPOLLIN)
        if events & ~select.EPOLLOUT:
            begun = association.receive()
            now = time.perf_counter()
            self.latencies += [now - startedAt for startedAt in begun]
            self._inFlight -= len(begun)
        self._next(descriptor, association)


def runLoad(
    port: int,
    size: int,
    associations: int = 1,
    count: int = 1000,
    seconds: float = 30.0,
    *,
    called: str = "ANY-SCP",
    window: int = 1,
    tls: bool = False,
    beforeRelease: Callable[[], None] | None = None,
) -> Result:
    """
    Send objects to a receiver on 127.0.0.1 and return what it took.

    :param size: data-set bytes of each object.
    :param count: how many objects, over all associations.
    :param window: how many objects to have outstanding on each association, where the receiver accepts that.
    :param tls: speak TLS, whatever certificate the receiver shows.
    :param seconds: no object is begun after that time; what is in flight then has half a minute more.
    :param beforeRelease: called when all is acknowledged and the associations still stand.
    :raises LoadError: if anything but success came back, or a deadline passed.
    """
    run = secrets.randbelow(10**16)
    templates: dict[int, Template] = {}
    kind = _TLSAssociation if tls else _Association
    with ExitStack() as stack:
        stood: list[_Association] = []
        try:
            for _ in range(associations):
                association = kind(port, called.encode("ascii"), window, _GRACE)
                stack.callback(association.close)
                length = association.maximumLength
                if length not in templates:
                    templates[length] = makeTemplate(size, length, run)
                association.prepare(templates[length])
                stood.append(association)
            result = _measured(_Run(stood, count, seconds), size, max(each.window for each in stood))
            if beforeRelease is not None:
                beforeRelease()
            for association in stood:
                association.release(_GRACE)
        except OSError as error:
            raise LoadError(f"{type(error).__name__}: {error}") from error
    return result


def _measured(run: _Run, size: int, window: int) -> Result:
    usedBefore = time.process_time()
    startedAt = time.perf_counter()
    run.exchange()
    seconds = time.perf_counter() - startedAt
    used = time.process_time() - usedBefore
    latencies = sorted(run.latencies)
    objects = len(latencies)
    return Result(
        objects=objects,
        seconds=seconds,
        bytes=objects * size,
        p50=latencies[objects // 2],
        p99=latencies[objects * 99 // 100],
        busy=used / seconds,
        window=window,
    )


def parseSize(text: str) -> int:
    """
    Return a number of bytes from text such as ``1K``, ``525K`` or ``128M``; units of 1024.

    :raises ValueError: if it is no size.
    """
    unit = _UNITS.get(text[-1:].upper())
    return int(text) if unit is None else int(text[:-1]) * unit


def parseWindow(text: str) -> int:
    """
    Return how many operations to have outstanding.

    :raises ValueError: if it is no number from 1 to 65535.
    """
    window = int(text)
    if not 1 <= window <= 0xFFFF:
        raise ValueError(f"a window is 1 to 65535, not {window}")
    return window


def main() -> int:
    """Run once as the command line says, and print one line; 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=runLoad.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=parseSize, default="525K", help="data-set bytes of each object, e.g. 1K, 128M")
    parser.add_argument("--associations", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000, help="objects over all associations")
    parser.add_argument("--seconds", type=float, default=30.0, help="no object is begun after that")
    parser.add_argument("--window", type=parseWindow, default=1, help="objects outstanding on each, where accepted")
    parser.add_argument("--tls", action="store_true", help="speak TLS, whatever certificate the receiver shows")
    parser.add_argument("--called", default="ANY-SCP", help="called AE title")
    options = parser.parse_args()
    try:
        result = runLoad(
            options.port,
            options.size,
            options.associations,
            options.count,
            options.seconds,
            called=options.called,
            window=options.window,
            tls=options.tls,
        )
    except (LoadError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"{result.objects} objects, {result.objectsPerSecond:.1f} objects/s, {result.megabytesPerSecond:.1f} MB/s, "
        f"p50 {result.p50 * 1e3:.3f} ms, p99 {result.p99 * 1e3:.3f} ms, sender busy {result.busy:.0%}, "
        f"window {result.window}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
