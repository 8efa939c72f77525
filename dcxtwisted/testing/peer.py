"""
A requestor that does what a test tells it, and an acceptor to do it to, joined in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from errno import EADDRINUSE
from struct import unpack_from
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configuration import Configuration
from dcxtwisted.endpoints import portNamed
from dcxtwisted.interfaces import IDCXACCEvents, IStore
from dcxtwisted.ports import Listening
from dcxtwisted.testing.transport import MemoryAddress, MemoryConnection
from dcxtwisted.uids import APPLICATION_CONTEXT, EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.commandset import decodeCommandSet
from dcxtwisted.wire.items import PresentationContextProposal, UserInformation
from dcxtwisted.wire.messages import encodeCEchoRQ, encodeCStoreRQ
from dcxtwisted.wire.pdu import (
    P_DATA_TF,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ReleaseRP,
    ReleaseRQ,
    aeField,
    decode,
)

_T = TypeVar("_T")

#: What a scripted peer proposes where a test does not say.
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
DEFAULT_CONTEXTS: Mapping[int, tuple[str, Sequence[str]]] = {
    1: (VERIFICATION, ["1.2.840.10008.1.2"]),
    3: (CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN]),
}


def associateRQ(
    contexts: Mapping[int, tuple[str, Sequence[str]]] = DEFAULT_CONTEXTS,
    callingAETitle: str = "PEER",
    calledAETitle: str = "DCXTWISTED",
    **userInformation: Any,
) -> AssociateRQ:
    """
    Return a request that proposes C{contexts}: abstract syntax and transfer syntaxes by context ID.

    :param userInformation: attributes of C{UserInformation}.
    """
    userInformation.setdefault("maximumLength", 16384)
    return AssociateRQ(
        calledAE=aeField(calledAETitle),
        callingAE=aeField(callingAETitle),
        applicationContexts=(APPLICATION_CONTEXT,),
        presentationContexts=tuple(
            PresentationContextProposal(contextID, abstract, tuple(transfer))
            for contextID, (abstract, transfer) in contexts.items()
        ),
        userInformation=UserInformation(**userInformation),
    )


class ScriptedPeer(Protocol):
    """
    Sends what a test says and collects what comes back.

    :ivar received: the PDUs that came, decoded; a P-DATA-TF as the decoded command set in it.
    :ivar bytesReceived: everything that came, as it came.
    :ivar lost: why the connection ended; None while it stands.
    """

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.bytesReceived = bytearray()
        self.lost: Failure | None = None
        self._parsed = 0
        self._command = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self.bytesReceived += data
        while len(self.bytesReceived) - self._parsed >= 6:
            pduType, length = unpack_from(">BxL", self.bytesReceived, self._parsed)
            start = self._parsed + 6
            if len(self.bytesReceived) < start + length:
                break
            self._parsed = start + length
            body = bytes(self.bytesReceived[start : self._parsed])
            if pduType == P_DATA_TF:
                self._dataReceived(body)
            else:
                self.received.append(decode(pduType, body))

    def _dataReceived(self, body: bytes) -> None:
        while body:
            length, _, control = unpack_from(">LBB", body)
            self._command += body[6 : 4 + length]
            body = body[4 + length :]
            if control & 2:
                self.received.append(decodeCommandSet(self._command))
                self._command = bytearray()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember."""
        self.lost = reason

    @property
    def statuses(self) -> list[int]:
        """The statuses of the responses received, in order."""
        return [int.from_bytes(elements[0x0900], "little") for elements in self.received if isinstance(elements, dict)]

    @property
    def accepted(self) -> AssociateAC | None:
        """The A-ASSOCIATE-AC, where one came."""
        return self._first(AssociateAC)

    @property
    def rejected(self) -> AssociateRJ | None:
        """The A-ASSOCIATE-RJ, where one came."""
        return self._first(AssociateRJ)

    @property
    def aborted(self) -> Abort | None:
        """The first A-ABORT, where one came."""
        return self._first(Abort)

    @property
    def released(self) -> bool:
        """True where the release was confirmed."""
        return self._first(ReleaseRP) is not None

    def _first(self, kind: type[_T]) -> _T | None:
        return next((value for value in self.received if isinstance(value, kind)), None)

    # Things to say

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self.transport is not None
        self.transport.write(data)

    def associate(self, *args: Any, **kwargs: Any) -> None:
        """Send the request that L{associateRQ} makes of the arguments."""
        self.send(associateRQ(*args, **kwargs).encode())

    def echo(self, messageID: int = 1, contextID: int = 1) -> None:
        """Send a C-ECHO."""
        self.send(fragment(contextID, True, encodeCEchoRQ(messageID), 16384))

    def store(
        self,
        dataSet: bytes,
        SOPInstanceUID: str,
        SOPClassUID: str = CT_IMAGE_STORAGE,
        contextID: int = 3,
        messageID: int = 1,
        maximumLength: int = 16384,
    ) -> None:
        """Send a C-STORE with the bytes of a data set."""
        command = encodeCStoreRQ(messageID, SOPClassUID, SOPInstanceUID)
        self.send(fragment(contextID, True, command, maximumLength))
        self.send(fragment(contextID, False, dataSet, maximumLength))

    def release(self) -> None:
        """Send A-RELEASE-RQ."""
        self.send(ReleaseRQ().encode())

    def abort(self) -> None:
        """Send A-ABORT."""
        self.send(Abort(0, 0).encode())


class _AcceptorInMemory(DCXACC):
    """A listener whose ports are in memory, and whose file store is left alone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.listening: dict[object, MemoryPort] = {}
        super().__init__(*args, **options)

    def _endpointFrom(self, description: Listening) -> IStreamServerEndpoint:
        return _MemoryEndpoint(portNamed(description), self.listening)

    def _openStore(self) -> None:
        """There is no thread that it could be opened in."""


@implementer(IStreamServerEndpoint)
class _MemoryEndpoint:
    def __init__(self, name: object, listening: dict[object, MemoryPort]) -> None:
        self._name = name
        self._listening = listening

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self._name in self._listening:
            return fail(CannotListenError("memory", self._name, OSError(EADDRINUSE, "in use")))
        port = MemoryPort(self._name, protocolFactory, self._listening)
        return succeed(port)


@implementer(IListeningPort)
class MemoryPort:
    """
    A port in memory.

    :ivar factory: what makes the protocols of its connections.
    """

    def __init__(self, name: object, factory: IProtocolFactory, listening: dict[object, MemoryPort]) -> None:
        self.factory = factory
        self._name = name
        self._listening = listening
        self.startListening()

    def startListening(self) -> None:
        """Be there to connect to."""
        self._listening[self._name] = self

    def stopListening(self) -> None:
        """Be there no longer."""
        self._listening.pop(self._name, None)

    def getHost(self) -> MemoryAddress:
        """Return an address with the number that it is known by."""
        return IPv4Address("TCP", "127.0.0.1", self._name if isinstance(self._name, int) else 0)


class ListenerInMemory:
    """
    An acceptor without a socket, on a clock that stands still until a test advances it.

    What connects is served by itself; once C{WaitForConnection} has been called, with whatever port, it comes there,
    and is waited for.

    :ivar clock: its reactor: a C{twisted.internet.task.Clock}.
    :ivar acceptor: the L{DCXACC}.
    :ivar store: where its objects go; where none is given, C{acceptor.memory}, for C{TakeStoredObject}.
    """

    def __init__(
        self,
        events: IDCXACCEvents | None = None,
        store: IStore | None = None,
        configuration: Configuration | None = None,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.acceptor: DCXACC = _AcceptorInMemory(
            [], events, store=store, configuration=configuration, reactor=self.clock, **options
        )
        self.acceptor.EnableInMemoryStorageSCP = store is None
        self.store = self.acceptor.memory if store is None else store

    def connect(
        self,
        cuts: Iterable[int] = (),
        capacity: int = 262144,
        clientAddress: MemoryAddress | None = None,
        factory: IProtocolFactory | None = None,
        port: Listening | None = None,
    ) -> tuple[ScriptedPeer, MemoryConnection]:
        """
        Return a new peer that is connected, and its connection.

        :param factory: instead of the acceptor's own: one that wraps it.
        :param port: what C{WaitForConnection} was called with, where that was done with more than one.
        :raise ConnectionRefusedError: nothing listens on C{port}.
        """
        peer = ScriptedPeer()
        address = clientAddress or IPv4Address("TCP", "127.0.0.1", 54321)
        protocol = (self._factoryOf(port) if factory is None else factory).buildProtocol(address)
        assert protocol is not None
        connection = MemoryConnection(protocol, peer, capacity, cuts, clientAddress=address, clock=self.clock)
        connection.pump()
        return peer, connection

    def _factoryOf(self, port: Listening | None) -> IProtocolFactory:
        assert isinstance(self.acceptor, _AcceptorInMemory)
        listening = self.acceptor.listening
        if port is None:
            return next((each.factory for each in listening.values()), self.acceptor.factory)
        if portNamed(port) not in listening:
            raise ConnectionRefusedError(f"nothing listens on {port}")
        return listening[portNamed(port)].factory

    def associate(self, *args: Any, **kwargs: Any) -> tuple[ScriptedPeer, MemoryConnection]:
        """Return a new peer whose association was requested with what L{associateRQ} makes of the arguments."""
        peer, connection = self.connect()
        peer.associate(*args, **kwargs)
        connection.pump()
        return peer, connection
