"""
The storage service: C-STORE from its command to its response (PS3.4 Annex B, PS3.7 9.1.1).

An object's way: the command is checked, OnStoreSetup says where to, the bytes pass to the sink and to the scanner at
once, then the sink makes them durable, participants and OnStoreDone decide, and only then the sender is told.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from errno import errorcode
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.dataset import DataSetReader, Head, Wholeness
from dcxtwisted.deadlines import Deadline
from dcxtwisted.errors import DeadlinePassed, StoreRefused
from dcxtwisted.events import ask
from dcxtwisted.interfaces import (
    IN_MEMORY,
    IDataSetReceiver,
    IDCXACCEvents,
    IDIMSEService,
    IExchange,
    IFileStore,
    InMemory,
    IStore,
    IStoreParticipant,
    IStoreRequest,
    IStoreSink,
    Outcome,
    StoredObject,
)
from dcxtwisted.statuses import (
    CANNOT_UNDERSTAND,
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    INVALID_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    keepsObject,
)
from dcxtwisted.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from dcxtwisted.wire.messages import C_STORE_RQ, CStoreRequest, Request

_log = Logger()

_SOP_CLASS_UID_TAG: Final = 0x00080016
_SOP_INSTANCE_UID_TAG: Final = 0x00080018

# "More responses follow": a peer would wait for them for ever.
_PENDING: Final = frozenset({0xFF00, 0xFF01})

#: Answers of OnStoreSetup.
_Place = str | IStoreSink | InMemory | None


def isSafeInstanceUID(instanceUID: str) -> bool:
    """
    True where an Affected SOP Instance UID can be stored under.

    Odd ones are stored too, under an escaped name; what is refused is empty, over 64 bytes, has a control or non-ASCII
    byte or a path separator, or consists of dots.
    """
    return (
        0 < len(instanceUID) <= 64
        and instanceUID.isascii()
        and instanceUID.isprintable()
        and "/" not in instanceUID
        and "\\" not in instanceUID
        and instanceUID.strip(".") != ""
    )


@implementer(IStoreRequest)
class StoreRequest:
    """One C-STORE request; the attributes are those of ``IStoreRequest``."""

    __slots__ = (
        "SOPClassUID",
        "SOPInstanceUID",
        "_command",
        "association",
        "head",
        "stored",
        "transferSyntaxUID",
        "watchers",
    )

    def __init__(self, command: CStoreRequest, exchange: IExchange) -> None:
        self.SOPClassUID = command.SOPClassUID
        self.SOPInstanceUID = command.SOPInstanceUID
        self.transferSyntaxUID = exchange.context.transferSyntax
        self.association = exchange.association
        self.head: Head | None = None
        self.stored: StoredObject | None = None
        self.watchers: list[Callable[[memoryview], object]] = []
        self._command = command
        if not self.SOPClassUID:
            self.SOPClassUID = exchange.context.abstractSyntax
            self.association.quirks["C-STORE without SOP class"] += 1
        elif self.SOPClassUID != exchange.context.abstractSyntax:
            self.association.quirks["SOP class is not the context's"] += 1

    @property
    def messageID(self) -> int:
        """Message ID of the command."""
        return self._command.messageID

    @property
    def priority(self) -> int:
        """Priority of the command; 0 where it gave none."""
        return self._command.priority

    @property
    def moveOriginatorAETitle(self) -> str:
        """Move Originator AE title, '' where the command gave none."""
        return self._command.moveOriginatorAETitle

    @property
    def moveOriginatorMessageID(self) -> int | None:
        """Move Originator Message ID, None where the command gave none."""
        return self._command.moveOriginatorMessageID

    def tap(self, watcher: Callable[[memoryview], object]) -> None:
        """See ``IStoreRequest.tap``."""
        self.watchers.append(watcher)


@implementer(IDIMSEService)
class StorageService:
    """
    Receives objects into stores.

    :param store: the acceptor's own way.
    :param files: where an application's own paths go.
    :param memory: where IN_MEMORY goes.
    :param root: what stands before the file name that OnStoreSetup is given.
    :param eventDeadline: for one answer of an event or of a participant.
    :param storeDeadline: for one call of a store; what passes it is refused, and has to end by itself.
    :param participants: run in this order between the store and OnStoreDone.
    """

    commandFields = frozenset({C_STORE_RQ})

    def __init__(
        self,
        events: IDCXACCEvents,
        store: IStore,
        files: IFileStore,
        memory: IStore,
        root: str,
        eventDeadline: Deadline,
        storeDeadline: Deadline,
        participants: Sequence[IStoreParticipant] = (),
    ) -> None:
        self.events = events
        self.eventDeadline = eventDeadline
        self.storeDeadline = storeDeadline
        self.participants = participants
        self._store = store
        self._files = files
        self._memory = memory
        self._root = root

    def supports(self, abstractSyntax: str) -> Container[str] | None:
        """See ``IDIMSEService.supports``."""
        return TRANSFER_SYNTAXES if abstractSyntax in STORAGE_SOP_CLASSES else None

    def requestReceived(
        self, command: Request, exchange: IExchange
    ) -> IDataSetReceiver | Deferred[IDataSetReceiver | None] | None:
        """See ``IDIMSEService.requestReceived``."""
        assert isinstance(command, CStoreRequest)
        request = StoreRequest(command, exchange)
        refusal = self._refusal(command, request)
        if refusal is not None:
            _refuse(command, exchange, refusal)
            return None
        filename = f"{self._root}/{request.SOPInstanceUID}.dcm"
        try:
            place = ask(self.events.OnStoreSetup, filename, request)
            if place is not None and isinstance(place, Deferred):
                return self._openLater(place, command, request, exchange)
            sink = self._openWithin(place, request)
        except Exception:
            # Of the application's code, or of a store's: here and below the sender is told, and the rest goes on.
            _refuse(command, exchange, _refusalFrom(Failure(), "setting up an object"))
            return None
        if isinstance(sink, Deferred):
            return self._received(sink, command, request, exchange)
        return _Reception(self, command, request, exchange, sink)

    def _refusal(self, command: CStoreRequest, request: StoreRequest) -> StoreRefused | None:
        if request.SOPClassUID not in STORAGE_SOP_CLASSES:
            return StoreRefused(SOP_CLASS_NOT_SUPPORTED, "not a storage SOP class")
        if not isSafeInstanceUID(request.SOPInstanceUID):
            return StoreRefused(INVALID_SOP_INSTANCE, "malformed SOP Instance UID")
        if not command.hasDataSet:
            return StoreRefused(CANNOT_UNDERSTAND, "no data set")
        return None

    def _open(self, place: _Place, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        if place is None or place == "":
            return self._store.open(request)
        if isinstance(place, str):
            return self._files.openAt(place, request)
        if place is IN_MEMORY:
            return self._memory.open(request)
        if IStoreSink.providedBy(place):
            return place
        raise TypeError(f"OnStoreSetup answered {type(place).__name__}")

    def _openLater(
        self, place: Deferred[_Place], command: CStoreRequest, request: StoreRequest, exchange: IExchange
    ) -> Deferred[IDataSetReceiver | None]:
        answer = self.eventDeadline.of(place, "OnStoreSetup")
        return self._received(answer.addCallback(self._openWithin, request), command, request, exchange)

    def _openWithin(self, place: _Place, request: StoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        sink = self._open(place, request)
        return self.storeDeadline.of(sink, "opening a sink") if isinstance(sink, Deferred) else sink

    def _received(
        self,
        sink: Deferred[IStoreSink],
        command: CStoreRequest,
        request: StoreRequest,
        exchange: IExchange,
    ) -> Deferred[IDataSetReceiver | None]:
        def opened(sink: IStoreSink) -> IDataSetReceiver | None:
            return _Reception(self, command, request, exchange, sink)

        def failed(failure: Failure) -> None:
            _refuse(command, exchange, _refusalFrom(failure, "setting up an object"))

        return sink.addCallbacks(opened, failed)


def _refuse(command: CStoreRequest, exchange: IExchange, refusal: StoreRefused) -> None:
    """Answer with a refusal; whatever data still comes is drained."""
    association = exchange.association
    association.objectsRefused += 1
    _log.info(
        "object {instance} refused with {status:04X} ({comment}) for {association}",
        instance=ascii(command.SOPInstanceUID),
        status=refusal.status,
        comment=ascii(refusal.comment),
        association=association,
    )
    exchange.respond(command.response(refusal.status, refusal.comment, refusal.offendingElements))


def _refusalFrom(failure: Failure, what: str) -> StoreRefused:
    """Return what a sender is told of a failure; what nobody foresaw is logged."""
    error = failure.value
    if isinstance(error, StoreRefused):
        if isinstance(error.__cause__, OSError):
            # Its text has paths, and with them perhaps patient data: the number says enough.
            code = errorcode.get(error.__cause__.errno or 0, "OSError")
            _log.error("{what}: {comment} ({code})", what=what, comment=ascii(error.comment), code=code)
        if not keepsObject(error.status) and error.status not in _PENDING:
            return error
        # The sender would take it for a success, and nothing is kept.
        _log.error("{what}: status {status:04X}, which is no refusal", what=what, status=error.status)
    elif isinstance(error, DeadlinePassed):
        _log.error("{what}: no answer within {seconds}", what=what, seconds=error)
        return StoreRefused(OUT_OF_RESOURCES, "took too long")
    elif isinstance(error, CancelledError):
        return StoreRefused(OUT_OF_RESOURCES, "cancelled")
    else:
        _log.failure("{what} failed", failure, what=what)
    return StoreRefused(OUT_OF_RESOURCES, "internal error")


@implementer(IDataSetReceiver)
class _Reception:
    """One object from the first byte of its data set to its response."""

    __slots__ = ("_cleared", "_command", "_exchange", "_reader", "_refusal", "_request", "_service", "_sink", "_write")

    def __init__(
        self,
        service: StorageService,
        command: CStoreRequest,
        request: StoreRequest,
        exchange: IExchange,
        sink: IStoreSink,
    ) -> None:
        self._service = service
        self._command = command
        self._request = request
        self._exchange = exchange
        self._sink = sink
        self._write = sink.write
        self._reader = DataSetReader(request.transferSyntaxUID)
        self._refusal: StoreRefused | None = None
        self._cleared: Deferred[object] | None = None

    # The data set

    def dataReceived(self, view: memoryview) -> Deferred[None] | None:
        """See ``IDataSetReceiver.dataReceived``."""
        if self._refusal is not None:
            return None
        self._reader.feed(view)
        if self._request.watchers:
            self._watch(view)
        try:
            waiting = self._write(view)
            if waiting is not None:
                waiting = self._service.storeDeadline.of(waiting, "writing an object").addErrback(self._failed)
        except Exception:
            self._failed(Failure())
            return None
        return waiting

    def _watch(self, view: memoryview) -> None:
        for watcher in list(self._request.watchers):
            try:
                # A view that is void after the call: one that is kept would pin the whole chunk.
                with view[:] as passing:
                    watcher(passing)
            except Exception:
                _log.failure("a tap failed and is dropped")
                self._request.watchers.remove(watcher)

    def _failed(self, failure: Failure) -> None:
        """The sink took no more: what still comes is drained, and answered with this."""
        self._refusal = _refusalFrom(failure, "the store")
        # What it holds is freed now, not when the peer is through.
        self._clear()

    def dataCompleted(self) -> None:
        """See ``IDataSetReceiver.dataCompleted``."""
        head = self._scanned()
        refusal = self._refusal or _fault(head, self._request)
        if refusal is not None:
            self._giveUp(refusal)
            return
        quirks = self._exchange.association.quirks
        for quirk in head.quirks:
            quirks[quirk] += 1
        try:
            finishing = self._sink.finish(head)
        except Exception:
            self._notStored(Failure(), "the store")
            return
        if isinstance(finishing, StoredObject):
            self._stored(finishing)
        elif isinstance(finishing, Deferred):
            finished = self._service.storeDeadline.of(finishing, "finishing an object")
            finished.addCallbacks(self._stored, self._notStored, errbackArgs=("the store",))
        else:
            self._notStored(Failure(TypeError(f"a sink finished with {type(finishing).__name__}")), "the store")

    def dataLost(self) -> None:
        """See ``IDataSetReceiver.dataLost``."""
        self._scanned()
        self._giveUp(self._refusal or StoreRefused(OUT_OF_RESOURCES, "association lost"))

    def _scanned(self) -> Head:
        head = self._request.head = self._reader.finish()
        self._exchange.association.bytesReceived += head.size
        return head

    # Failure

    def _notStored(self, failure: Failure, what: str) -> object:
        return self._giveUp(_refusalFrom(failure, what))

    def _giveUp(self, refusal: StoreRefused) -> Deferred[object]:
        """Nothing is kept, and nothing was asked: clear up, tell the application, answer."""
        cleared = self._clear()
        cleared.addCallback(self._tellOfFailure)
        cleared.addErrback(_eventFailed)
        return cleared.addCallback(lambda ignored: _refuse(self._command, self._exchange, refusal))

    def _tellOfFailure(self, ignored: object) -> object:
        answer = ask(self._service.events.OnStoreDone, "", False, self._request)
        return self._service.eventDeadline.of(answer, "OnStoreDone") if isinstance(answer, Deferred) else answer

    def _undo(self, refusal: StoreRefused) -> Deferred[object]:
        """The application was asked, and the object is not to be kept: clear up, then answer."""
        return self._clear().addCallback(lambda ignored: _refuse(self._command, self._exchange, refusal))

    def _clear(self) -> Deferred[object]:
        """Remove what this request made, once; the Deferred never fails."""
        self._request.stored = None
        if self._cleared is None:
            aborting = maybeDeferred(self._sink.abort)
            self._cleared = self._service.storeDeadline.of(aborting, "clearing up after an object").addErrback(
                _abortFailed
            )
        return self._cleared

    # Success, so far

    def _stored(self, stored: StoredObject) -> object:
        self._request.stored = stored
        if stored.outcome is Outcome.KEPT_BOTH:
            _log.warn(
                "another object has the UID {instance}: kept beside it for {association}",
                instance=ascii(self._request.SOPInstanceUID),
                association=self._exchange.association,
            )
        if self._service.participants:
            participating = Deferred.fromCoroutine(self._participate(stored))
            return participating.addCallbacks(self._published, self._notStored, errbackArgs=("a participant",))
        return self._published(stored)

    async def _participate(self, stored: StoredObject) -> StoredObject:
        for participant in self._service.participants:
            participating = maybeDeferred(participant.stored, stored, self._request)
            await self._service.eventDeadline.of(participating, "a participant")
        return stored

    def _published(self, stored: StoredObject) -> object:
        try:
            answer = ask(self._service.events.OnStoreDone, stored.filename, True, self._request)
        except Exception:
            return self._undecided(Failure())
        # An instance check against Deferred, an abstract class, takes 0.2 us: the usual answers are told first.
        if answer is True or answer is None or not isinstance(answer, Deferred):
            return self._decided(answer)
        return self._service.eventDeadline.of(answer, "OnStoreDone").addCallbacks(self._decided, self._undecided)

    def _undecided(self, failure: Failure) -> object:
        error = failure.value
        if isinstance(error, StoreRefused) and keepsObject(error.status):
            return self._keep(error.status, error.comment, error.offendingElements)
        return self._undo(_refusalFrom(failure, "OnStoreDone"))

    def _decided(self, answer: object) -> object:
        if answer is True or answer is None:
            return self._keep(SUCCESS)
        if answer is False:
            return self._undo(StoreRefused(CANNOT_UNDERSTAND))
        if isinstance(answer, int) and 0 <= answer <= 0xFFFF and answer not in _PENDING:
            return self._keep(answer) if keepsObject(answer) else self._undo(StoreRefused(answer))
        shown = str(answer) if isinstance(answer, int) else type(answer).__name__
        _log.error("OnStoreDone answered {answer}, which is no final status", answer=shown)
        return self._undo(StoreRefused(OUT_OF_RESOURCES, "internal error"))

    def _keep(self, status: int, comment: str = "", offendingElements: tuple[int, ...] = ()) -> object:
        try:
            self._sink.keep()
        except Exception:
            return self._undo(_refusalFrom(Failure(), "the store"))
        self._exchange.association.objectsStored += 1
        self._exchange.respond(self._command.response(status, comment, offendingElements))
        return None


def _abortFailed(failure: Failure) -> None:
    if failure.check(DeadlinePassed):
        _log.error("clearing up after an object: no answer within {seconds}", seconds=failure.value)
    else:
        _log.failure("clearing up after an object failed", failure)


def _eventFailed(failure: Failure) -> None:
    # A refusal is an answer, and the answer is ignored.
    if failure.check(DeadlinePassed):
        _log.error("OnStoreDone did not answer within {seconds}", seconds=failure.value)
    elif failure.check(StoreRefused) is None:
        _log.failure("OnStoreDone failed", failure)


def _fault(head: Head, request: StoreRequest) -> StoreRefused | None:
    """Return why a data set must not be acknowledged, None where it may be (PS3.4 B.2.3)."""
    if head.wholeness is Wholeness.BROKEN:
        return StoreRefused(CANNOT_UNDERSTAND, head.defect)
    if head.SOPClassUID != request.SOPClassUID:
        return StoreRefused(DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "SOP class is not the command's", (_SOP_CLASS_UID_TAG,))
    if head.SOPInstanceUID != request.SOPInstanceUID:
        return StoreRefused(
            DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "SOP instance is not the command's", (_SOP_INSTANCE_UID_TAG,)
        )
    return None
