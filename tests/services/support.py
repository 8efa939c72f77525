"""
What the tests of the services share: data sets, stores and sinks that do what a test says, and a listener around them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from struct import pack
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dcxtwisted.acceptance import Association
from dcxtwisted.configuration import Configuration
from dcxtwisted.dataset import Head
from dcxtwisted.deadlines import Deadline
from dcxtwisted.dimse import DIMSEProvider
from dcxtwisted.factory import AssociationFactory
from dcxtwisted.interfaces import (
    IDCXACCEvents,
    IDIMSEService,
    IFileStore,
    IStore,
    IStoreParticipant,
    IStoreRequest,
    IStoreSink,
    Outcome,
    StoredObject,
)
from dcxtwisted.services.storage import StorageService
from dcxtwisted.services.verification import VerificationService
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, RecordingEvents, ScriptedPeer, associateRQ
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.commandset import encodeCommandSet
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from dcxtwisted.wire.messages import C_ECHO_RQ, C_STORE_RQ

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"

STORAGE_CONTEXT = 3  # of the scripted peer: CT in explicit VR little endian
VERIFICATION_CONTEXT = 1

ERROR_COMMENT = 0x0902
OFFENDING_ELEMENT = 0x0901


# Data sets


def element(group: int, number: int, VR: bytes, value: bytes) -> bytes:
    """Return an element in explicit VR little endian, its value padded."""
    if len(value) % 2:
        value += b"\0" if VR == b"UI" else b" "
    return pack("<HH2sH", group, number, VR, len(value)) + value


def dataSet(
    SOPInstanceUID: str = "1.2.3", SOPClassUID: str = CT, patientID: str = "P1", pixels: bytes = b"\1\2\3\4" * 500
) -> bytes:
    """Return a small CT in explicit VR little endian; a UID that is '' is left out."""
    return b"".join(
        (
            element(0x0008, 0x0016, b"UI", SOPClassUID.encode()) if SOPClassUID else b"",
            element(0x0008, 0x0018, b"UI", SOPInstanceUID.encode()) if SOPInstanceUID else b"",
            element(0x0010, 0x0020, b"LO", patientID.encode()),
            element(0x0020, 0x000D, b"UI", b"1.2.4"),
            element(0x0020, 0x000E, b"UI", b"1.2.5"),
            pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels,
        )
    )


DATA = dataSet()


def storeCommand(
    SOPInstanceUID: bytes | None = b"1.2.3",
    SOPClassUID: bytes | None = CT.encode(),
    hasDataSet: bool = True,
    messageID: int = 1,
    **more: bytes,
) -> bytes:
    """Return the command set of a C-STORE-RQ, its UIDs as they are given; one that is None is left out."""
    elements = {
        0x0100: b"\1\0",
        0x0110: pack("<H", messageID),
        0x0700: b"\0\0",
        0x0800: b"\0\0" if hasDataSet else b"\1\1",
    }
    if SOPClassUID is not None:
        elements[0x0002] = SOPClassUID
    if SOPInstanceUID is not None:
        elements[0x1000] = SOPInstanceUID
    return encodeCommandSet(elements)


# Answers in every form that an event may give them


@attrs.frozen
class Form:
    """
    One form of an answer.

    :ivar event: gives the answer, whatever it is called with.
    :ivar release: gives it at last, where the event gave a Deferred of it.
    """

    name: str
    event: Callable[..., Any]
    release: Callable[[], object]


def _give(answer: object) -> object:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def formsOf(answer: object) -> Iterator[Form]:
    """Yield an answer, or an exception in its place, as a plain value, as Deferreds and as coroutines."""

    def nothing() -> None:
        pass

    def plain(*args: object) -> object:
        return _give(answer)

    yield Form("plain", plain, nothing)
    yield Form("fired Deferred", lambda *args: maybeDeferred(plain), nothing)
    for name in ("Deferred", "coroutine"):
        waiting: Deferred[None] = Deferred()

        async def later(*args: object, waiting: Deferred[None] = waiting) -> object:
            await waiting
            return _give(answer)

        def event(*args: object, name: str = name, later: Any = later) -> object:
            return later() if name == "coroutine" else Deferred.fromCoroutine(later())

        def release(waiting: Deferred[None] = waiting) -> None:
            waiting.callback(None)

        yield Form(name, event, release)


class LoggedEvents(RecordingEvents):
    """Recording events that write their names into a list, too."""

    def __init__(self, log: list[str], **answers: Any) -> None:
        super().__init__(**answers)
        self._log = log

    def _told(self, name: str, *args: Any) -> Any:
        self._log.append(name)
        return super()._told(name, *args)


# Stores


class Told:
    """Answers its methods with what it was given, by their names, as ``RecordingEvents`` does; records the calls."""

    def __init__(self, log: list[str] | None = None, **answers: Any) -> None:
        self.log: list[str] = [] if log is None else log
        self.answers = answers

    def _told(self, name: str, default: Callable[[], Any], *args: object) -> Any:
        self.log.append(name)
        if name not in self.answers:
            return default()
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args) if callable(answer) else answer


@implementer(IStoreSink)
class FakeSink(Told):
    """
    Takes one object into a list.

    :ivar pieces: the bytes of each write.
    """

    filename = "/fake/1.dcm"

    def __init__(self, log: list[str] | None = None, **answers: Any) -> None:
        super().__init__(log, **answers)
        self.pieces: list[bytes] = []
        self.head: Head | None = None

    @property
    def data(self) -> bytes:
        """All that was written."""
        return b"".join(self.pieces)

    def storedObject(self) -> StoredObject:
        """What ``finish`` answers with."""
        assert self.head is not None
        return StoredObject(self.filename, len(self.data), self.head, Outcome.NEW)

    def write(self, view: memoryview) -> Any:
        """Take bytes."""
        self.pieces.append(bytes(view))
        return self._told("write", lambda: None, view)

    def finish(self, head: Head) -> Any:
        """Answer at once, where not told otherwise."""
        self.head = head
        return self._told("finish", lambda: succeed(self.storedObject()), head)

    def keep(self) -> None:
        """Record it."""
        self._told("keep", lambda: None)

    def abort(self) -> Any:
        """Record it."""
        return self._told("abort", lambda: succeed(None))


@implementer(IFileStore)
class FakeStore(Told):
    """
    Gives a new sink for each object.

    :ivar sinks: those given.
    :ivar opened: what was asked for: the file name, '' for the store's own way, and the request.
    :param makeSink: makes a sink.
    """

    def __init__(
        self, log: list[str] | None = None, makeSink: Callable[[], FakeSink] = FakeSink, **answers: Any
    ) -> None:
        super().__init__(log, **answers)
        self.sinks: list[FakeSink] = []
        self.opened: list[tuple[str, IStoreRequest]] = []
        self._makeSink = makeSink

    def _make(self) -> FakeSink:
        sink = self._makeSink()
        self.sinks.append(sink)
        return sink

    def open(self, request: IStoreRequest) -> Any:
        """Give a sink."""
        self.opened.append(("", request))
        return self._told("open", self._make, request)

    def openAt(self, filename: str, request: IStoreRequest) -> Any:
        """Give a sink."""
        self.opened.append((filename, request))
        return self._told("openAt", self._make, filename, request)


@implementer(IStoreParticipant)
class FakeParticipant:
    """Answers with what it was given, and writes its name into a list."""

    def __init__(self, log: list[str], name: str, answer: object = None) -> None:
        self._log = log
        self._name = name
        self._answer = answer
        self.told: list[tuple[StoredObject, IStoreRequest]] = []

    def stored(self, storedObject: StoredObject, request: IStoreRequest) -> Any:
        """Record it."""
        self._log.append(self._name)
        self.told.append((storedObject, request))
        return _give(self._answer)


# The listener


class Listener(ListenerInMemory):
    """A listener in memory of which a test gives every store."""

    def __init__(
        self,
        events: IDCXACCEvents,
        store: IStore,
        files: IFileStore,
        memory: IStore,
        participants: Sequence[IStoreParticipant] = (),
        root: str = "/store",
        configuration: Configuration | None = None,
    ) -> None:
        super().__init__(events, store, configuration)
        settings = self.acceptor.configuration
        eventDeadline = Deadline(self.clock, settings.eventDeadline)
        self.storage = StorageService(
            events,
            store,
            files,
            memory,
            root,
            eventDeadline,
            Deadline(self.clock, settings.storeDeadline),
            participants,
            strict=settings.strict,
            relaxations=settings.relaxations,
            abortOnRefusal=settings.abortOnRefusal,
        )
        self.verification = VerificationService(events, eventDeadline)
        services: Mapping[int, IDIMSEService] = {C_STORE_RQ: self.storage, C_ECHO_RQ: self.verification}

        def find(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None) -> Container[str] | None:
            return self.verification.supports(abstractSyntax) or self.storage.supports(abstractSyntax, common)

        self.factory = AssociationFactory(
            self.acceptor.configuration,
            events,
            self.clock,
            find,
            lambda *joined: DIMSEProvider(services, *joined),
        )

    def connect(self, *args: Any, **kwargs: Any) -> tuple[ScriptedPeer, MemoryConnection]:
        """As a listener in memory, to this one's services."""
        kwargs.setdefault("factory", self.factory)
        return super().connect(*args, **kwargs)


@implementer(ILogObserver)
class _Lines:
    """Puts the lines that the services log into a list."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def __call__(self, event: LogEvent) -> None:
        if str(event.get("log_namespace")).startswith("dcxtwisted.services"):
            self._lines.append(formatEvent(event))


class ServiceTestCase(SynchronousTestCase):
    """
    A peer that is associated with a listener; at the end nothing may be left of either.

    :ivar log: what the store, its sinks and the events were called for, by name, in order.
    :ivar logged: the lines that the services logged.
    :ivar listener: the latest.
    """

    def setUp(self) -> None:
        self.log: list[str] = []
        self._ends: list[tuple[Listener, ScriptedPeer, MemoryConnection]] = []
        self.logged: list[str] = []
        observer = _Lines(self.logged)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def tearDown(self) -> None:
        for listener, peer, connection in self._ends:
            if peer.lost is None:
                peer.abort()
            connection.pump()
            self.assertEqual(listener.factory.associations, set(), "an operation is still outstanding")
            self.assertEqual(listener.factory.protocols, set())
            self.assertEqual(listener.clock.getDelayedCalls(), [])

    def events(self, **answers: Any) -> RecordingEvents:
        """Return events that write their names into the log."""
        return LoggedEvents(self.log, **answers)

    def sink(self, **answers: Any) -> FakeSink:
        """Return a sink that writes into the log."""
        return FakeSink(self.log, **answers)

    def store(self, **answers: Any) -> FakeStore:
        """Return a store whose sinks write into the log; ``sink`` are the answers of those."""
        forSinks = answers.pop("sink", {})
        return FakeStore(self.log, lambda: FakeSink(self.log, **forSinks), **answers)

    def listen(
        self,
        events: RecordingEvents | None = None,
        store: IStore | None = None,
        files: IFileStore | None = None,
        memory: IStore | None = None,
        participants: Sequence[IStoreParticipant] = (),
        root: str = "/store",
        callingAE: bytes = b"PEER            ",
        configuration: Configuration | None = None,
        **proposal: Any,
    ) -> tuple[ScriptedPeer, MemoryConnection]:
        """Return a peer that is associated with a new listener."""
        listener = Listener(
            self.events() if events is None else events,
            self.store() if store is None else store,
            self.store() if files is None else files,
            self.store() if memory is None else memory,
            participants,
            root,
            configuration,
        )
        peer, connection = listener.connect()
        request = associateRQ(implementationClassUID="1.2.826.1", **proposal)
        peer.send(attrs.evolve(request, callingAE=callingAE).encode())
        connection.pump()
        self.assertIsNotNone(peer.accepted)
        self.listener = listener
        self._ends.append((listener, peer, connection))
        self.log.clear()
        return peer, connection

    def associationOf(self, peer: ScriptedPeer) -> Association:
        """Return the association of a peer, as the listener has it."""
        (association,) = next(listener.factory.associations for listener, end, _ in self._ends if end is peer)
        return association

    def send(
        self,
        connection: MemoryConnection,
        peer: ScriptedPeer,
        data: bytes = DATA,
        uid: str = "1.2.3",
        **how: Any,
    ) -> None:
        """Send an object, and let everything happen."""
        peer.store(data, uid, **how)
        connection.pump()

    def command(
        self, connection: MemoryConnection, peer: ScriptedPeer, command: bytes, contextID: int = STORAGE_CONTEXT
    ) -> None:
        """Send a command set, and let everything happen."""
        peer.send(fragment(contextID, True, command, 16384))
        connection.pump()

    def data(
        self, connection: MemoryConnection, peer: ScriptedPeer, data: bytes = DATA, contextID: int = STORAGE_CONTEXT
    ) -> None:
        """Send a data set, and let everything happen."""
        peer.send(fragment(contextID, False, data, 16384))
        connection.pump()

    def assertLogged(self, text: str, times: int = 1) -> None:
        """Fail unless as many lines of the services' log hold a text."""
        self.assertEqual(sum(text in line for line in self.logged), times, self.logged)

    def assertFailuresLogged(self, *kinds: type[BaseException]) -> None:
        """Fail unless exactly these failures were logged, in order."""
        self.assertEqual([failure.type for failure in self.flushLoggedErrors()], list(kinds))


def comment(response: dict[int, bytes]) -> str:
    """Return the Error Comment of a response, '' where it has none."""
    return response.get(ERROR_COMMENT, b"").rstrip(b" ").decode("ascii")


def failed(error: BaseException) -> Deferred[Any]:
    """Return a Deferred that failed."""
    deferred: Deferred[Any] = Deferred()
    deferred.errback(Failure(error))
    return deferred
