"""
The listener cut short, at one place after the other: what two neighbours differ by is what lies between them.

Each is a process of its own: ``python -m benchmarks.cutouts NAME PORT DIRECTORY``; it runs until a signal. All answer
each object as the whole listener does, one response for each.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from struct import unpack_from
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IReactorCore, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from benchmarks.objects import EXPLICIT_VR_LITTLE_ENDIAN
from benchmarks.receivers import RELEASE_RP, associateAC, storeRSP
from benchmarks.scanner import withoutScanner
from dcxtwisted import DCXACC
from dcxtwisted.dataset import Head
from dcxtwisted.interfaces import IDCXACCEvents, IStore, IStoreRequest, IStoreSink, Outcome, StoredObject
from dcxtwisted.wire.assembly import MessageAssembler, fragment
from dcxtwisted.wire.association import AssociationCore, Directive, Transmit
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.messages import CStoreRequest
from dcxtwisted.wire.negotiation import Negotiated, Supported, negotiate
from dcxtwisted.wire.pdu import AssociateRQ, ReleaseRP, ReleaseRQ

#: What a listener asks the kernel for where few peers send.
_READ_SIZE: Final = 262144
_LONGEST_PDU: Final = 131072
_P_DATA: Final = 4
_MESSAGE_ID: Final = b"\0\0\x10\1\2\0\0\0"


class _Cutout(Protocol):
    """What is common to those that stand on the reactor alone."""

    transport: ITCPTransport

    def connectionMade(self) -> None:
        """Have the reactor read as much at a time as the listener does."""
        vars(self.transport)["bufferSize"] = _READ_SIZE
        self.transport.setTcpNoDelay(True)


class Counting(_Cutout):
    """
    No more than the reactor: hops from PDU header to PDU header, to know where an object ends.

    The sender has one object outstanding, so that nothing comes behind its end. A header that is cut by the end of a
    chunk is put together.
    """

    _skip = 0  # bytes of a PDU that are still to come
    _carry = b""
    _messageID = 0
    _isLast = False

    def dataReceived(self, data: bytes) -> None:
        """Answer an object whose end this is, or what is no object."""
        if self._carry:
            data, self._carry = self._carry + data, b""
        position, end = self._skip, len(data)
        while position + 12 <= end:
            kind, length, control = unpack_from(">BxL5xB", data, position)
            if kind != _P_DATA:
                break
            if control & 1:
                at = data.index(_MESSAGE_ID, position) + len(_MESSAGE_ID)
                self._messageID = unpack_from("<H", data, at)[0]
            self._isLast = control == 2
            position += 6 + length
        if position < end and data[position] != _P_DATA:
            self.transport.write(associateAC(data[position:]) if data[position] == 1 else RELEASE_RP)
            position = end
        elif position < end:
            self._carry, position = data[position:], end
        elif position == end and self._isLast:
            self._isLast = False
            self.transport.write(storeRSP(self._messageID))
        self._skip = position - end


class Wire(_Cutout):
    """And the wire: framing, state table, negotiation, command sets, messages."""

    _request: CStoreRequest
    _assembler: MessageAssembler

    def connectionMade(self) -> None:
        """Begin an association."""
        super().connectionMade()
        self._core = AssociationCore(_LONGEST_PDU)
        self._core.connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Do what the core says, and answer each object."""
        core = self._core
        core.feed(data)
        while (event := core.nextEvent()) is not None:
            if type(event) is PDVReceived:
                piece = self._assembler.receive(event)
                if type(piece) is CStoreRequest:
                    self._request = piece
                elif type(piece) is PDVReceived and piece.isLast:
                    response = self._request.response(0).encode()
                    self.transport.write(core.sendData(fragment(event.contextID, True, response, _LONGEST_PDU)))
            elif type(event) is AssociateRQ:
                negotiated = negotiate(event, _SUPPORTED)
                assert isinstance(negotiated, Negotiated)
                self._assembler = MessageAssembler(negotiated.proposed)
                core.send(negotiated.accept)
            elif type(event) is ReleaseRQ:
                core.send(ReleaseRP())
            elif type(event) is Transmit:
                self.transport.write(event.data)
            elif event is Directive.CLOSE_TRANSPORT:
                self.transport.loseConnection()


_SUPPORTED: Final = Supported(
    lambda name, said: (EXPLICIT_VR_LITTLE_ENDIAN.decode(),), _LONGEST_PDU, "2.25.1", "CUTOUT"
)


@implementer(IStoreSink)
class _NoSink:
    """Takes everything and keeps nothing."""

    def write(self, view: memoryview) -> None:
        """See ``IStoreSink.write``."""

    def finish(self, head: Head) -> StoredObject:
        """See ``IStoreSink.finish``."""
        return StoredObject("", head.size, head, Outcome.NEW)

    def keep(self) -> None:
        """See ``IStoreSink.keep``."""

    def abort(self) -> Deferred[None]:
        """See ``IStoreSink.abort``."""
        return succeed(None)


@implementer(IStore)
class _NoStore:
    """Opens sinks that keep nothing."""

    def open(self, request: IStoreRequest) -> IStoreSink:
        """See ``IStore.open``."""
        return _NoSink()


def _listener(directory: str, store: IStore | None, events: IDCXACCEvents | None) -> IProtocolFactory:
    listener = DCXACC((), events, storeDirectory=directory, durable=False, store=store)
    listener.startService()
    return listener.factory


#: What makes the factory of each, of a directory, from the one that does least to the one that does most.
CUTOUTS: Final[dict[str, Callable[[str], IProtocolFactory]]] = {
    "reactor": lambda directory: Factory.forProtocol(Counting),
    "wire": lambda directory: Factory.forProtocol(Wire),
    "services": lambda directory: _listener(directory, _NoStore(), withoutScanner()),
    "reader": lambda directory: _listener(directory, _NoStore(), None),
    "store": lambda directory: _listener(directory, None, None),
}


def main() -> None:
    """Serve as the command line says: a name, a port, a directory."""
    from twisted.internet import reactor

    name, port, directory = sys.argv[1:]
    factory = CUTOUTS[name](directory)
    TCP4ServerEndpoint(reactor, int(port), 128, "127.0.0.1").listen(factory)
    # As the listener under twistd does it.
    gc.collect()
    gc.freeze()
    IReactorCore(reactor).run()


if __name__ == "__main__":
    main()
