"""
Connections that speak TLS: what stands between the transport and an association, and why a handshake failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.transports import Transport, hostOf, writerOf

_log = Logger()

# The first byte of a connection: of a TLS record, with an alert or a handshake, and of an A-ASSOCIATE-RQ.
_TLS: Final = frozenset({b"\x15", b"\x16"})
_ASSOCIATE_RQ: Final = b"\x01"

# The most in a record.
_RECORD: Final = 16384
# More than a few records: what is less, Twisted reads as well.
_MUCH: Final = 4 * _RECORD

# OpenSSL's reasons, as far as there is something to do about them; the others are told as they are.
_REASONS: Final[Mapping[str, str]] = {
    "no shared cipher": "it has none of the cipher suites of the profile",
    "unsupported protocol": "it speaks neither TLS 1.2 nor TLS 1.3",
    "version too low": "it speaks neither TLS 1.2 nor TLS 1.3",
    "wrong version number": "it speaks neither TLS 1.2 nor TLS 1.3",
    "peer did not return a certificate": "it showed no certificate, which is required",
}

# Alerts with which a client says that it does not take the listener's certificate.
_OUR_CERTIFICATE: Final = frozenset(
    {
        "bad certificate",
        "certificate expired",
        "certificate revoked",
        "certificate unknown",
        "unknown ca",
        "unsupported certificate",
    }
)


def _reasonIn(error: SSL.Error) -> str:
    """Return OpenSSL's own words for the first thing that went wrong."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return str(queue[0][2]) if queue else "TLS failed"


def _diagnosis(first: bytes, isOurs: bool, error: object, refusal: str) -> str:
    """
    Return why a handshake failed.

    :param first: the first byte that came.
    :param isOurs: it was closed here, for no fault but that it was not over.
    :param error: what the connection ended with.
    :param refusal: what was wrong with the peer's certificate, as text, '' where that was not why.
    """
    if first == _ASSOCIATE_RQ:
        return "it speaks DICOM without TLS, on a port for TLS"
    if first not in _TLS:
        return "it does not speak TLS"
    if isOurs:
        return "it took too long, or others needed its place"
    if not isinstance(error, SSL.Error):
        return "it closed the connection"
    if refusal:
        return refusal
    text = _reasonIn(error)
    alert = text.partition(" alert ")[2]
    if alert in _OUR_CERTIFICATE:
        return f"it does not accept the certificate of this listener: {alert}"
    return f"it gave up: {alert}" if alert else _REASONS.get(text, text)


@implementer(IProtocol, IHandshakeListener)
class _Gathered:
    """
    Stands between TLS and a protocol, and hands on at once what came in one chunk.

    OpenSSL hands out a record at a time, 16 KiB at most. With a turn of the loop of an association, and a write to the
    disk, for each of them, an object of 525 KB takes a fifth more CPU.

    :ivar isDone: the handshake is over, and went well.
    :ivar first: the first byte of the connection, as it came.
    """

    def __init__(self, protocol: IProtocol, counts: Counter[str]) -> None:
        self.first = b""
        self._protocol = protocol
        self._counts = counts
        self._records: list[Any] = []  # bytes, and what the reader has
        self.isDone = False
        # TLS calls this with each record; without a frame of Python's.
        self.dataReceived: Callable[[Any], None] = self._records.append

    def makeConnection(self, transport: ITransport) -> None:
        """TLS calls this before the handshake: whose deadline begins now."""
        self._transport: Any = transport
        self._protocol.makeConnection(transport)

    def connectionMade(self) -> None:
        """Part of IProtocol; what C{makeConnection} does is all there is."""

    def handshakeCompleted(self) -> None:
        """TLS calls this once."""
        self.isDone = True
        self._counts["TLS handshakes"] += 1

    def handOn(self) -> None:
        """Hand on what was decrypted."""
        records = self._records
        if records:
            data = b"".join(records)
            records.clear()
            if data:
                self._protocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TLS calls this once."""
        self.handOn()
        refusal = getattr(self._transport.getHandle(), "refusal", "")
        if self.isDone and refusal:
            self._counts["TLS connections refused"] += 1
            _log.info("TLS with {host} ended: {why}", host=hostOf(self._transport.getPeer()), why=refusal)
        elif not self.isDone and self.first:
            self._failed(reason.value, refusal)
        self._protocol.connectionLost(reason)

    def _failed(self, error: object, refusal: str) -> None:
        transport = self._transport
        self._counts["TLS handshakes failed"] += 1
        _log.info(
            "no TLS with {host}: {why}",
            host=hostOf(transport.getPeer()),
            why=_diagnosis(self.first, transport.disconnecting, error, refusal),
        )


class _Reader:
    """
    Reads many records at once, into a buffer that all connections share.

    pyOpenSSL takes two frames of Python's and three allocations for each record: with them, objects of 525 KB come at
    0.8 times the rate of DCMTK's storescp, without them at 0.9. It has no other way, so its handle is used; where that
    is not found, nothing is read here, and all of it by Twisted.
    """

    # What is read at once from the kernel fits in, decrypted; what does not is left for Twisted.
    _SIZE: Final = 544 * 1024

    def __init__(self) -> None:
        self._buffer = Binding.ffi.new("char[]", self._SIZE)

    def read(self, connection: SSL.Connection) -> Any:
        """Return what is decrypted, a buffer that is valid until the next call; an end or an error is found later."""
        handle = getattr(connection, "_ssl", None)
        length = 0
        if handle is not None:
            read, buffer = Binding.lib.SSL_read, self._buffer
            while length <= self._SIZE - _RECORD and (more := read(handle, buffer + length, _RECORD)) > 0:
                length += more
        return Binding.ffi.buffer(self._buffer, length)


class _AtOnce:
    """
    A transport that writes at once, and is otherwise the one beneath it.

    :ivar transport: that one.
    """

    __slots__ = ("transport", "write")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.write = writerOf(transport)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class TLSTransport(TLSMemoryBIOProtocol):
    """
    The TLS of one connection that was accepted.

    :ivar lengthRead: the length of the latest chunk, as it came.
    """

    lengthRead = 0

    def __init__(self, factory: TLSFactory, protocol: IProtocol) -> None:
        self._gathered = _Gathered(protocol, factory.counts)
        self._reader = factory.reader
        super().__init__(factory, self._gathered)

    def makeConnection(self, transport: ITransport) -> None:
        """Twisted calls this when a connection is accepted."""
        super().makeConnection(transport)
        # What comes from above is whole responses: nothing is gained where they wait for the next turn.
        self.transport: Any = _AtOnce(cast(Transport, transport))

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with each chunk."""
        self.lengthRead = len(data)
        gathered = self._gathered
        if not gathered.first:
            gathered.first = data[:1]
        try:
            super().dataReceived(data)
        finally:
            # Whatever happens: what the reader has is another connection's next.
            gathered.handOn()

    def _flushReceiveBIO(self) -> None:
        # Twisted calls this once the handshake is over, to read record by record until OpenSSL has no more; then it
        # sees to ends and errors, and to what is to be answered. Where it called it by another name, it read all.
        if self.lengthRead > _MUCH:
            self._gathered.dataReceived(self._reader.read(self.getHandle()))
        super()._flushReceiveBIO()


class TLSFactory(TLSMemoryBIOFactory):
    """
    Puts TLS in front of the protocols of another factory.

    :ivar counts: what happened, by name; handshakes are added.
    :ivar reader: what all connections read with.
    """

    protocol = TLSTransport

    def __init__(
        self,
        security: IOpenSSLServerConnectionCreator,
        factory: IProtocolFactory,
        clock: IReactorTime,
        counts: Counter[str],
    ) -> None:
        super().__init__(security, False, factory, clock)
        self.counts = counts
        self.reader = _Reader()


@implementer(IStreamServerEndpoint)
class SecureEndpoint:
    """Listens where another endpoint does, with TLS in front of each protocol."""

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        security: Callable[[], IOpenSSLServerConnectionCreator | None],
        clock: IReactorTime,
        counts: Counter[str],
    ) -> None:
        """
        :param security: tells, when listening begins, what TLS is to be; None for none after all.
        :param counts: see L{TLSFactory}.
        """
        self._endpoint = endpoint
        self._security = security
        self._clock = clock
        self._counts = counts

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, as the other endpoint does."""
        security = self._security()
        if security is not None:
            protocolFactory = TLSFactory(security, protocolFactory, self._clock, self._counts)
        return self._endpoint.listen(protocolFactory)
