"""
A relay that records what passes between a client and the listener, and what the two said.
"""

from __future__ import annotations

import socket
from collections.abc import Container, Generator, Iterator, Sequence
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from dcxtwisted.wire.assembly import MessageAssembler
from dcxtwisted.wire.framing import Framer, PDUBody, PDUHeader, PDVReceived
from dcxtwisted.wire.messages import C_ECHO_RQ, ERROR_COMMENT, RESPONSE, Message, ReceivedResponse, Request
from dcxtwisted.wire.pdu import P_DATA_TF, PDU, AssociateAC, AssociateRQ, decode

#: Untyped: which one it is, and what it can do, trial decides.
reactor: Any = _reactor


def portOf(port: IListeningPort) -> int:
    """Return the number of a port that is listened on."""
    address = port.getHost()
    assert isinstance(address, IPv4Address)
    number: int = address.port
    return number


@attrs.define
class Recording:
    """The bytes that passed on one connection."""

    toServer: bytearray = attrs.field(factory=bytearray)
    toClient: bytearray = attrs.field(factory=bytearray)


class _Forwarding(Protocol):
    """One end of a connection through the relay: what arrives goes into a record, and out at the other end."""

    transport: Any

    def __init__(self, record: bytearray, other: _Forwarding | None = None) -> None:
        self.record = record
        self.other = other

    def connectionMade(self) -> None:
        """Twisted calls this when the connection is up."""
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Twisted calls this with each chunk."""
        assert self.other is not None
        # A client that writes a header and its body apart waits for our acknowledgement in between: 40 ms each time.
        self.transport.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.record += data
        self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class _FromClient(_Forwarding):
    """The end at the client; it reads nothing until there is another end."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._recording = Recording()
        super().__init__(self._recording.toServer)

    def connectionMade(self) -> None:
        """Twisted calls this when the client is connected."""
        super().connectionMade()
        self.transport.pauseProducing()
        self._relay.begun(self, self._recording)
        toServer = _Forwarding(self._recording.toClient, self)
        connecting = connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self._relay.destination), toServer)
        connecting.addCallbacks(self._connected, lambda failure: self.transport.abortConnection())

    def _connected(self, toServer: _Forwarding) -> None:
        self.other = toServer
        self.transport.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once."""
        super().connectionLost(reason)
        self._relay.over(self)


class Relay(Factory):
    """
    Listens on loopback and passes everything on to another port there, and back, unchanged.

    :ivar port: where clients connect to.
    :ivar destination: the other port.
    :ivar recordings: one for each connection, in the order they were made.
    """

    noisy = False

    def __init__(self, destination: int) -> None:
        self.destination = destination
        self.recordings: list[Recording] = []
        self._connections: set[_FromClient] = set()
        self._waiting: list[Deferred[None]] = []
        self._listening: IListeningPort = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port = portOf(self._listening)

    def buildProtocol(self, addr: IAddress | None) -> _FromClient:
        """Twisted calls this for each connection."""
        return _FromClient(self)

    def begun(self, connection: _FromClient, recording: Recording) -> None:
        """A client is connected."""
        self._connections.add(connection)
        self.recordings.append(recording)

    def over(self, connection: _FromClient) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        if not self._connections:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no client is connected: what was recorded is whole then."""
        if not self._connections:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        return gone

    async def conversations(self) -> list[Conversation]:
        """Return what was said on each connection, once the clients are gone."""
        await self.idle()
        return [conversation(recording) for recording in self.recordings]

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Listen no more, drop every connection, and fire when they are gone."""
        yield maybeDeferred(self._listening.stopListening)
        for connection in list(self._connections):
            connection.transport.abortConnection()
        yield self.idle()


# What was said


@attrs.frozen
class SentObject:
    """
    One C-STORE as it passed the relay.

    :ivar transferSyntaxUID: the one accepted for its presentation context.
    :ivar comment: the Error Comment of the response, '' where it had none.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    transferSyntaxUID: str
    dataSet: bytes = attrs.field(repr=False)
    status: int
    comment: str


@attrs.frozen
class Conversation:
    """
    One association as it passed the relay.

    :ivar echoes: the statuses of the C-ECHO responses.
    :ivar closing: the last PDU of the client.
    """

    request: AssociateRQ
    accept: AssociateAC
    objects: Sequence[SentObject]
    echoes: Sequence[int]
    closing: PDU


def conversation(recording: Recording) -> Conversation:
    """
    Return what was said on a connection whose association was accepted.

    Each request is to have its response, in order, with its message ID and on its presentation context.
    """
    request, *fromClient = _things(recording.toServer)
    accept, *fromServer = _things(recording.toClient)
    assert isinstance(request, AssociateRQ), request
    assert isinstance(accept, AssociateAC), accept
    syntaxes = {result.contextID: result.transferSyntax for result in accept.presentationContexts}
    requests = [message for message in _messages(fromClient, syntaxes) if isinstance(message[0], Request)]
    responses = [message for message, _ in _messages(fromServer, syntaxes) if isinstance(message, ReceivedResponse)]
    objects, echoes = [], []
    for (asked, dataSet), answered in zip(requests, responses, strict=True):
        assert isinstance(asked, Request)
        assert (answered.messageIDBeingRespondedTo, answered.contextID) == (asked.messageID, asked.contextID)
        assert answered.commandField == asked.commandField | RESPONSE
        if asked.commandField == C_ECHO_RQ:
            echoes.append(answered.status)
            continue
        comment = answered.elements.get(ERROR_COMMENT, b"").rstrip(b" ").decode("ascii")
        sent = (asked.SOPClassUID, asked.SOPInstanceUID, syntaxes[asked.contextID], dataSet, answered.status, comment)
        objects.append(SentObject(*sent))
    closing = fromClient[-1]
    assert not isinstance(closing, PDVReceived)
    return Conversation(request, accept, objects, echoes, closing)


def lengthsOfPData(data: bytes | bytearray) -> list[int]:
    """Return the length field of each P-DATA-TF."""
    framer = Framer(0)
    framer.feed(bytes(data))
    things = iter(framer.next, None)
    return [thing.length for thing in things if isinstance(thing, PDUHeader) and thing.pduType == P_DATA_TF]


def _things(data: bytes | bytearray) -> Iterator[PDU | PDVReceived]:
    """Yield the PDUs of one direction, decoded; for each P-DATA-TF its PDVs."""
    framer = Framer(0)
    framer.feed(bytes(data))
    while (thing := framer.next()) is not None:
        if isinstance(thing, PDVReceived):
            yield thing
        elif isinstance(thing, PDUBody):
            yield decode(thing.pduType, thing.body)


def _messages(things: Sequence[PDU | PDVReceived], contextIDs: Container[int]) -> list[tuple[Message, bytes]]:
    """Return the messages in one direction, each with its data set; one that was cut short is left out."""
    assembler = MessageAssembler(contextIDs)
    messages: list[tuple[Message, bytes]] = []
    command: Message | None = None
    dataSet = bytearray()
    for thing in things:
        if not isinstance(thing, PDVReceived):
            continue
        received = assembler.receive(thing)
        if isinstance(received, PDVReceived):
            dataSet += received.view
        elif received is not None:
            command = received
        if command is not None and not assembler.insideMessage:
            messages.append((command, bytes(dataSet)))
            command = None
            dataSet.clear()
    return messages
