"""
What many tests share, above all those of associations: a store whose Deferreds a test fires, and a test case that lets
nothing be left.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from struct import pack
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer, provider

from dcxtwisted.association import AssociationProtocol
from dcxtwisted.configuration import Configuration
from dcxtwisted.dataset import Head
from dcxtwisted.interfaces import (
    IDIMSEProvider,
    IStore,
    IStoreRequest,
    IStoreSink,
    Outcome,
    StoredObject,
)
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, MemoryTransport, RecordingEvents, ScriptedPeer
from dcxtwisted.testing.peer import CT_IMAGE_STORAGE
from dcxtwisted.wire.messages import encodeCStoreRQ
from dcxtwisted.wire.pdu import P_DATA_TF

#: What happened, in order: the name of an event or of a sink's method, and its arguments.
Journal = list[tuple[str, tuple[Any, ...]]]

#: What each event may be called with.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "OnConnection": ("calling", "called", "host", None),
    "OnStoreSetup": ("name", None),
    "OnStoreDone": ("name", True, None),
    "OnTimeout": (None,),
    "OnAssocEnd": (None, "released"),
    "OnEcho": (None,),
}


def dataSet(SOPInstanceUID: str = "1.2.3", size: int = 100, SOPClassUID: str = CT_IMAGE_STORAGE) -> bytes:
    """Return a whole data set in explicit VR little endian, with a private value of ``size`` bytes at its end."""

    def uid(element: int, text: str) -> bytes:
        value = text.encode() + b"\0" * (len(text) & 1)
        return pack("<HH2sH", 0x0008, element, b"UI", len(value)) + value

    value = (bytes(range(256)) * (size // 256 + 1))[:size]
    return uid(0x16, SOPClassUID) + uid(0x18, SOPInstanceUID) + pack("<HH2sxxL", 0x0009, 0x1001, b"OB", size) + value


def pData(contextID: int, control: int, data: bytes = b"") -> bytes:
    """Return a P-DATA-TF of one PDV; bit 0 of ``control`` is a command, bit 1 the last fragment."""
    return pack(">BxLLBB", P_DATA_TF, len(data) + 6, len(data) + 2, contextID, control) + data


def storeCommand(SOPInstanceUID: str = "1.2.3", messageID: int = 1, contextID: int = 3) -> bytes:
    """Return the P-DATA-TF with the command of a C-STORE; its data set is to follow."""
    return pData(contextID, 3, encodeCStoreRQ(messageID, CT_IMAGE_STORAGE, SOPInstanceUID))


def openDescriptors() -> dict[str, str]:
    """Return what is open, by number."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            pass  # that of the listing itself
    return found


@implementer(IStoreSink)
class FakeSink:
    """
    A sink that does at once what it is asked, or leaves it to the test.

    :param holds: the methods whose Deferreds the test fires: 'write', 'finish', 'abort'.
    :ivar held: those Deferreds, by method, while they wait.
    """

    def __init__(self, request: IStoreRequest, journal: Journal, holds: Container[str]) -> None:
        self.request = request
        self.written = bytearray()
        self.held: dict[str, Deferred[Any]] = {}
        self.holds = holds
        self._journal = journal

    def _done(self, method: str, result: Any) -> Deferred[Any] | None:
        self._journal.append((f"sink.{method}", (self.request,)))
        if method not in self.holds:
            return None
        assert method not in self.held, f"{method} again, while one waits"
        deferred: Deferred[Any] = Deferred(lambda _: self._cancelled(method))
        deferred.addCallback(lambda ignored: result)
        self.held[method] = deferred
        return deferred

    def _cancelled(self, method: str) -> None:
        del self.held[method]
        self._journal.append((f"sink.{method} cancelled", (self.request,)))

    def fire(self, method: str, result: object = None) -> None:
        """Let what waits go on; a failure lets it fail."""
        self.held.pop(method).callback(result)

    def write(self, view: memoryview) -> Deferred[None] | None:
        self.written += view
        return self._done("write", None)

    def finish(self, head: Head) -> Deferred[StoredObject]:
        stored = StoredObject(f"/objects/{self.request.SOPInstanceUID}.dcm", head.size, head, Outcome.NEW)
        return self._done("finish", stored) or _fired(stored)

    def keep(self) -> None:
        self._done("keep", None)

    def abort(self) -> Deferred[None]:
        return self._done("abort", None) or _fired(None)


def _fired(result: Any) -> Deferred[Any]:
    deferred: Deferred[Any] = Deferred()
    deferred.callback(result)
    return deferred


@implementer(IStore)
class FakeStore:
    """
    A store of L{FakeSink}s.

    :param holds: as for the sinks; 'open' too.
    :ivar sinks: all that were opened.
    :ivar opening: the Deferred that an opening waits for.
    """

    def __init__(self, journal: Journal, holds: Container[str] = ()) -> None:
        self.sinks: list[FakeSink] = []
        self.opening: Deferred[None] | None = None
        self.holds = holds
        self._journal = journal

    def open(self, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        self._journal.append(("store.open", (request,)))
        if "open" not in self.holds:
            return self._sink(None, request)
        self.opening = Deferred(lambda _: self._journal.append(("store.open cancelled", (request,))))
        return self.opening.addCallback(self._sink, request)

    def _sink(self, ignored: None, request: IStoreRequest) -> IStoreSink:
        sink = FakeSink(request, self._journal, self.holds)
        self.sinks.append(sink)
        return sink


class ListenerTestCase(SynchronousTestCase):
    """
    A listener in memory, on a clock that stands still, with a L{FakeStore} and recording events.

    At the end of each test all that is still open is ended; then no timer, connection, association, unhandled failure
    or raw control character in the log may be left, and OnAssocEnd must have been the last event of each association
    that was accepted, once.
    """

    def setUp(self) -> None:
        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("log_namespace", "").startswith("dcxtwisted"):
                self._logged.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self._listen(None)

    def listen(self, **settings: Any) -> None:
        """End all there is, and go on with a new listener."""
        self.end()
        self._listen(Configuration(**settings))

    def _listen(self, configuration: Configuration | None) -> None:
        self.connections: list[MemoryConnection] = []
        self.deferreds: list[Deferred[Any]] = []
        self.accepted: list[Any] = []
        self._logged: list[LogEvent] = []
        self.events = RecordingEvents()
        self.store = FakeStore(self.events.calls)
        self.listener = ListenerInMemory(self.events, self.store, configuration)
        self.clock = self.listener.clock
        self.factory = self.listener.acceptor.factory
        makeProvider = self.factory.makeProvider

        def counting(negotiated: Any, association: Any, *args: Any) -> IDIMSEProvider:
            self.accepted.append(association)
            return makeProvider(negotiated, association, *args)

        self.factory.makeProvider = counting

    def answer(self, **answers: Any) -> None:
        """Have events answered with what C{RecordingEvents} takes."""
        self.events.answers.update(answers)

    def hold(self, *methods: str) -> None:
        """Have these methods of the store and its sinks wait for the test."""
        self.store.holds = methods

    def later(self) -> Deferred[Any]:
        """Return a Deferred to answer an event with, which writes it down when it is cancelled."""
        deferred: Deferred[Any] = Deferred(lambda _: self.events.calls.append(("cancelled", ())))
        self.deferreds.append(deferred)
        return deferred

    # The peers

    def connect(self, **kwargs: Any) -> ScriptedPeer:
        """Return a new peer that is connected."""
        peer, connection = self.listener.connect(**kwargs)
        self.connections.append(connection)
        return peer

    def associate(self, *args: Any, **kwargs: Any) -> ScriptedPeer:
        """Return a new peer that has asked for an association."""
        peer = self.connect()
        peer.associate(*args, **kwargs)
        self.pump()
        return peer

    def stalling(self, then: bytes = b"") -> ScriptedPeer:
        """Return a peer that has sent 5,000 C-ECHOs, and then something, and reads no answer."""
        peer = self.connect(capacity=65536)
        peer.associate()
        self.pump()
        client(peer).paused = True
        for number in range(5000):
            peer.echo(number)
        peer.send(then)
        self.pump()
        return peer

    def releasing(self) -> tuple[ScriptedPeer, Deferred[Any]]:
        """Return a peer that has asked for release, and what OnEcho of a C-ECHO before that waits for."""
        later = self.later()
        self.answer(OnEcho=later)
        peer = self.associate()
        peer.echo()
        peer.release()
        self.pump()
        return peer, later

    def pump(self) -> None:
        """Let everything happen that is due."""
        for connection in self.connections:
            connection.pump()

    def advance(self, seconds: float) -> None:
        """Let time pass, and then everything happen that is due."""
        self.clock.advance(seconds)
        self.pump()

    def server(self, peer: ScriptedPeer) -> MemoryTransport:
        """Return the listener's end of a peer's connection."""
        return client(peer).other

    def protocol(self, peer: ScriptedPeer) -> AssociationProtocol:
        """Return the listener's protocol that a peer is connected to."""
        protocol = self.server(peer).protocol
        assert isinstance(protocol, AssociationProtocol)
        return protocol

    # What happened

    @property
    def names(self) -> list[str]:
        """The names of what happened so far, in order."""
        return self.events.names

    @property
    def ends(self) -> list[str]:
        """The reasons OnAssocEnd was given so far."""
        return [args[1] for name, args in self.events.calls if name == "OnAssocEnd"]

    @property
    def lines(self) -> list[str]:
        """What was logged at info and above."""
        return [formatEvent(event) for event in self._logged if event["log_level"] >= LogLevel.info]

    def assertLines(self, *beginnings: str) -> None:
        """Assert that as many lines were logged, each with its beginning, since this was last asked."""
        lines = self.lines
        self._logged.clear()
        self.assertEqual([line[: len(start)] for line, start in zip(lines, beginnings, strict=False)], [*beginnings])
        self.assertEqual(len(lines), len(beginnings), lines)

    def assertErrors(self, kind: type[Exception], count: int = 1) -> None:
        """Assert that so many failures of a kind were logged, and let them pass."""
        self.assertEqual(len(self.flushLoggedErrors(kind)), count)

    def assertConnectionOver(self, peer: ScriptedPeer) -> None:
        """Assert that both ends of a connection are closed and nothing of it is left here."""
        self.assertIsNotNone(peer.lost)
        self.assertIsNotNone(self.server(peer).closed)
        self.assertNotIn(self.server(peer).protocol, self.factory.protocols)

    # The end

    def tearDown(self) -> None:
        self.end()
        gc.collect()  # an unhandled failure is logged when its Deferred goes, and trial makes an error of it

    def end(self) -> None:
        """End all that is still open, and assert that nothing is left of it."""
        for connection in self.connections:
            connection.client.abortConnection()
        self.pump()
        self.answerAll()
        self.pump()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.factory.protocols, set())
        self.assertEqual(self.factory.associations, set())
        self.assertEqual(self.factory.share, 524288)
        self._assertEnds()
        for event in self._logged:
            self.assertTrue(formatEvent(event).isprintable() and formatEvent(event).isascii(), event)

    def answerAll(self) -> None:
        """Let go on what still waits for the test."""
        for deferred in self.deferreds:
            if not deferred.called:
                deferred.callback(None)
        for sink in self.store.sinks:
            for method in ("write", "finish", "abort"):
                if method in sink.held and not sink.held[method].called:
                    sink.fire(method)

    def _assertEnds(self) -> None:
        calls = self.events.calls
        ended = [args[0] for name, args in calls if name == "OnAssocEnd"]
        self.assertEqual({id(association) for association in ended}, {id(each) for each in self.accepted})
        self.assertEqual(len(ended), len(self.accepted))
        over: set[int] = set()
        for name, args in calls:
            for arg in args:
                self.assertNotIn(id(getattr(arg, "association", arg)), over, f"{name} after OnAssocEnd")
            if name == "OnAssocEnd":
                over.add(id(args[0]))


def client(peer: ScriptedPeer) -> MemoryTransport:
    """Return the end of a connection that a peer writes to."""
    transport = peer.transport
    assert isinstance(transport, MemoryTransport)
    return transport


@contextmanager
def logged() -> Iterator[list[str]]:
    """Have all that is logged meanwhile, by whomever, in a list as it is read: each line, and each traceback."""
    lines: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))
        if "log_failure" in event:
            lines.append(event["log_failure"].getTraceback(detail="verbose"))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)
