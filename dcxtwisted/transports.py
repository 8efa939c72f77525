"""What is asked of a Twisted transport beyond its interfaces."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

_IPV4_MAPPED: Final = "::ffff:"
FIRST_READ_SIZE: Final = 65536
SMALLEST_READ_SIZE: Final = 8192


class Transport(Protocol):
    """What an association asks of its transport; Twisted's interfaces name it in several places."""

    def write(self, data: bytes, /) -> object: ...
    def loseConnection(self) -> object: ...
    def abortConnection(self) -> object: ...
    def pauseProducing(self) -> object: ...
    def resumeProducing(self) -> object: ...
    def getPeer(self) -> IAddress: ...
    def getHost(self) -> IAddress: ...
    def registerProducer(self, producer: IPushProducer, streaming: bool, /) -> object: ...
    def unregisterProducer(self) -> object: ...


def hostOf(address: IAddress) -> str:
    """Return the host of an address as text that may stand in a log line; 'local' where it has none."""
    if isinstance(address, IPv4Address | IPv6Address):
        host: str = address.host
        if not (host.isascii() and host.isprintable()):
            # Twisted takes what a PROXY header has in place of an address as it is, with ESC and NEWLINE.
            host = ascii(host)[1:-1]
        # A listener on both protocols sees IPv4 peers in mapped form.
        return host.removeprefix(_IPV4_MAPPED) if "." in host else host
    return "local"


def addressOf(address: IAddress) -> str:
    """Return an address as people write it, with its port."""
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    return str(address)


def lowestTransport(transport: Transport) -> Any:
    """Return the transport beneath every TLS or proxy wrapper."""
    lowest: Any = transport
    while (inner := getattr(lowest, "transport", None)) is not None:
        lowest = inner
    return lowest


@implementer(IPushProducer)
class Unread:
    """
    Whether a peer leaves unread what it is sent.

    :ivar isMuch: so much is queued that nothing more should be made of what the peer sends.
    """

    __slots__ = ("_changed", "isMuch")

    def __init__(self, transport: Transport, changed: Callable[[], object]) -> None:
        """
        :param changed: called when C{isMuch} has changed: true when much is queued, false when all of it has left.
        """
        self.isMuch = False
        self._changed = changed
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The transport calls this when more is queued than it likes."""
        self.isMuch = True
        self._changed()

    def resumeProducing(self) -> None:
        """The transport calls this when nothing is queued any more."""
        self.isMuch = False
        self._changed()

    def stopProducing(self) -> None:
        """The transport calls this when the connection is lost."""


class ReadSize:
    """
    How much is read from a transport at once, fitted to what its peer sends.

    Each read allocates the whole of it, and is a turn of the reactor: objects of 525 KB cost 15 % less CPU with 512 KiB
    than with 256, those of 1 KB 30 % more. So what a peer fills is made four times as large, up to its share of a turn,
    and what it leaves empty by seven eighths half as large.

    :ivar size: bytes that are read at most.
    """

    __slots__ = ("_fits", "_lowest", "_tells", "size")

    def __init__(self, transport: Transport) -> None:
        self._lowest = lowestTransport(transport)
        # Beneath TLS what is read is not what arrives here. Ours tells; beneath any other the share is taken whole.
        self._tells: Any = transport if hasattr(transport, "lengthRead") else None
        self._fits = self._lowest is transport or self._tells is not None
        self.size = self._lowest.bufferSize = FIRST_READ_SIZE

    def fit(self, length: int, share: int) -> None:
        """Take into account that C{length} bytes were read, and that the share is now C{share}."""
        size = self.size
        if self._tells is not None:
            length = self._tells.lengthRead
        if length < size <= share and length * 8 >= size and self._fits:
            return
        if not self._fits:
            size = share
        elif length >= size:
            size *= 4
        elif length * 8 < size:
            size //= 2
        size = max(SMALLEST_READ_SIZE, min(size, share))
        if size != self.size:
            # On the TCP transport, beneath TLS: set on a wrapper it does nothing.
            self.size = self._lowest.bufferSize = size


def acknowledgerOf(transport: Transport) -> Callable[[], object]:
    """
    Return what has the kernel acknowledge at once what was read; nothing, where the socket is not TCP.

    Senders that write the header of a PDU apart from its body, as DCMTK does, wait with Nagle's algorithm for the first
    to be acknowledged, which the kernel puts off by 40 ms in the hope of an answer to go with it: a C-ECHO takes 46 ms
    then, and 0.2 ms so. The option is gone with the next segment, so it is set each time; that takes 0.4 us.
    """
    lowest = lowestTransport(transport)
    if not isinstance(lowest, Connection):
        return lambda: None

    def acknowledge() -> None:
        try:
            lowest.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            pass  # not TCP but a UNIX socket, or closed already

    return acknowledge


def writerOf(transport: Transport) -> Callable[[bytes], object]:
    """
    Return what writes to a transport: at once, where it is a bare socket with nothing queued.

    C{write} leaves it to the next turn of the reactor, with two epoll_ctl. A 1 KB object on one association costs
    186 us of CPU and takes 0.22 ms with C{write} alone, 169 us and 0.20 ms so; with eight there is no difference.
    """
    if not isinstance(transport, Connection) or transport.TLS:
        return transport.write

    def write(data: bytes) -> None:
        # Nothing public tells whether anything is queued.
        if not (transport.dataBuffer or transport._tempDataLen or transport.disconnecting or transport.disconnected):
            try:
                sent = transport.socket.send(data)
            except OSError:
                sent = 0  # it is full, or the connection lost: the reactor finds out which
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    return write
