"""
One object from the first byte of its data set to its response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from dcxtwisted.dataset import DataSetReader, Head
from dcxtwisted.errors import DeadlinePassed, StoreRefused
from dcxtwisted.escaping import escaped
from dcxtwisted.events import ask
from dcxtwisted.interfaces import (
    IDataSetReceiver,
    IExchange,
    IStoreParticipant,
    IStoreSink,
    Outcome,
    StoredObject,
)
from dcxtwisted.services.identity import checked
from dcxtwisted.services.refusals import FORCED, UNFIT_STATUSES, refusalFrom, withoutFrames
from dcxtwisted.services.requests import StoreRequest
from dcxtwisted.statuses import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SUCCESS,
    keepsObject,
)
from dcxtwisted.wire.messages import CStoreRequest

if TYPE_CHECKING:
    from dcxtwisted.services.storage import StorageService

_log = Logger(__name__)

# An attribute of an enumeration takes some 0.03 us, for each object twice.
_NEW: Final = Outcome.NEW
# What the log says of an object that another with the same UID stood or stands beside.
_BESIDE_ANOTHER: Final = {
    Outcome.KEPT_BOTH: "kept beside it",
    Outcome.REPLACED: "replaced by this one",
    Outcome.KEPT_FIRST: "it stays and this one is dropped",
}


class Reception:
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
        watchers = self._request.watchers
        if self._refusal is not None:
            self._exchange.association.bytesReceived += len(view)
            if watchers:
                watch(view, watchers)
            return None
        try:
            reader = self._reader
            reader.feed(view)
            if watchers:
                watch(view, watchers)
            if reader.size > self._service.maximumObjectSize:
                raise StoreRefused(OUT_OF_RESOURCES, "object too large")
            waiting = self._write(view)
            if waiting is not None:
                waiting = self._service.storeDeadline.of(waiting, "writing an object").addErrback(self._failed)
        except Exception:
            self._failed(Failure())
            return None
        return waiting

    def _failed(self, failure: Failure) -> None:
        """The sink took no more: what still comes is drained, and answered with this."""
        self._refusal = refusalFrom(failure, "the store")
        # What it holds is freed now, not when the peer is through.
        self._clear()

    def dataCompleted(self) -> Deferred[object] | None:
        """See ``IDataSetReceiver.dataCompleted``."""
        head = self._scanned()
        refusal = self._refusal
        if refusal is None:
            try:
                head = self._request.head = checked(head, self._request)
            except StoreRefused as refused:
                refusal = withoutFrames(refused)
        if refusal is not None:
            return self._giveUp(refusal)
        quirks = self._exchange.association.quirks
        for quirk in head.quirks:
            quirks[quirk] += 1
        try:
            finishing = self._sink.finish(head)
        except Exception:
            return self._notStored(Failure(), "the store")
        if isinstance(finishing, Deferred):
            finished = self._service.storeDeadline.of(finishing, "finishing an object")
            return finished.addCallbacks(self._finished, self._notStored, errbackArgs=("the store",))
        return self._finished(finishing)

    def dataLost(self) -> Deferred[object]:
        """See ``IDataSetReceiver.dataLost``."""
        self._scanned()
        return self._giveUp(self._refusal or StoreRefused(OUT_OF_RESOURCES, "association lost"))

    def _scanned(self) -> Head:
        head = self._request.head = self._reader.finish()
        self._exchange.association.bytesReceived += head.size
        return head

    # Failure

    def _notStored(self, failure: Failure, what: str) -> Deferred[object]:
        return self._giveUp(refusalFrom(failure, what))

    def _giveUp(self, refusal: StoreRefused) -> Deferred[object]:
        """Nothing is kept, and nothing was asked: clear up, tell the application, answer."""
        self._request.refusal = refusal
        told = self._clear().addCallback(lambda ignored: tellOfFailure(self._service, self._request))
        return told.addCallback(lambda ignored: self._service.refuse(self._command, self._exchange, refusal))

    def _undo(self, refusal: StoreRefused) -> Deferred[object]:
        """The application was asked, and the object is not to be kept: clear up, then answer."""
        self._request.refusal = refusal
        return self._clear().addCallback(lambda ignored: self._service.refuse(self._command, self._exchange, refusal))

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

    def _finished(self, stored: object) -> Deferred[object] | None:
        if isinstance(stored, StoredObject):
            return self._stored(stored)
        return self._notStored(Failure(TypeError(f"a sink finished with {type(stored).__name__}")), "the store")

    def _stored(self, stored: StoredObject) -> Deferred[object] | None:
        self._request.stored = stored
        if stored.outcome is not _NEW and stored.outcome in _BESIDE_ANOTHER:
            _log.warn(
                "another object has the UID {instance}: {outcome} for {association}",
                instance=escaped(stored.head.SOPInstanceUID),
                outcome=_BESIDE_ANOTHER[stored.outcome],
                association=self._exchange.association,
            )
        if not self._service.participants:
            return self._published(stored)
        participating: Deferred[object] = succeed(None)
        for participant in self._service.participants:
            participating.addCallback(self._participate, participant, stored)
        return participating.addCallbacks(
            self._participated, self._notStored, callbackArgs=(stored,), errbackArgs=("a participant",)
        )

    def _participate(self, ignored: object, participant: IStoreParticipant, stored: StoredObject) -> Deferred[Any]:
        participating = maybeDeferred(participant.stored, stored, self._request)
        return self._service.eventDeadline.of(participating, "a participant")

    def _participated(self, ignored: object, stored: StoredObject) -> Deferred[object] | None:
        return self._published(stored)

    def _published(self, stored: StoredObject) -> Deferred[object] | None:
        try:
            answer = ask(self._service.events.OnStoreDone, stored.filename, True, self._request)
        except Exception:
            return self._undecided(Failure())
        # An instance check against Deferred, an abstract class, takes 0.2 us: the usual answers are told first.
        if answer is True or answer is None or not isinstance(answer, Deferred):
            return self._decided(answer)
        return self._service.eventDeadline.of(answer, "OnStoreDone").addCallbacks(self._decided, self._undecided)

    def _undecided(self, failure: Failure) -> Deferred[object] | None:
        error = failure.value
        if isinstance(error, StoreRefused) and keepsObject(error.status):
            return self._keep(error.status, error.comment, error.offendingElements)
        return self._undo(refusalFrom(failure, "OnStoreDone"))

    def _decided(self, answer: object) -> Deferred[object] | None:
        if answer is True or answer is None:
            return self._keep(SUCCESS)
        if answer is False:
            return self._undo(StoreRefused(CANNOT_UNDERSTAND))
        if isinstance(answer, int) and 0 <= answer <= 0xFFFF and answer not in UNFIT_STATUSES:
            return self._keep(answer) if keepsObject(answer) else self._undo(StoreRefused(answer))
        shown = str(answer) if isinstance(answer, int) else type(answer).__name__
        _log.error("OnStoreDone answered {answer}, which is no final status", answer=shown)
        return self._undo(StoreRefused(OUT_OF_RESOURCES, "internal error"))

    def _keep(self, status: int, comment: str = "", offendingElements: tuple[int, ...] = ()) -> Deferred[object] | None:
        nextStatus = self._service.nextStatus
        forced = None if nextStatus.value is None else nextStatus.take(self._exchange.association)
        if forced is not None:
            if not keepsObject(forced):
                return self._undo(StoreRefused(forced, FORCED))
            status, comment, offendingElements = forced, "", ()
        try:
            self._sink.keep()
        except Exception:
            return self._undo(refusalFrom(Failure(), "the store"))
        association = self._exchange.association
        association.objectsStored += 1
        stored = self._request.stored
        if stored is not None and stored.outcome is not _NEW:
            association.duplicates[stored.outcome] += 1
        self._exchange.respond(self._command.response(status, comment, offendingElements))
        return None


classImplements(Reception, IDataSetReceiver)


class FailedReception:
    """An object that was let in, but nothing could be opened for it: it is drained, and then that is told."""

    __slots__ = ("_command", "_exchange", "_refusal", "_request", "_service")

    def __init__(
        self,
        service: StorageService,
        command: CStoreRequest,
        request: StoreRequest,
        exchange: IExchange,
        refusal: StoreRefused,
    ) -> None:
        self._service = service
        self._command = command
        self._request = request
        self._exchange = exchange
        self._refusal = refusal

    def dataReceived(self, view: memoryview) -> None:
        """See ``IDataSetReceiver.dataReceived``."""
        self._exchange.association.bytesReceived += len(view)
        watchers = self._request.watchers
        if watchers:
            watch(view, watchers)

    def dataCompleted(self) -> Deferred[object]:
        """See ``IDataSetReceiver.dataCompleted``."""
        self._request.refusal = self._refusal
        told = tellOfFailure(self._service, self._request)
        return told.addCallback(lambda ignored: self._service.refuse(self._command, self._exchange, self._refusal))

    def dataLost(self) -> Deferred[object]:
        """See ``IDataSetReceiver.dataLost``."""
        return self.dataCompleted()


classImplements(FailedReception, IDataSetReceiver)


def watch(view: memoryview, watchers: list[Callable[[memoryview], object]]) -> None:
    """Show a piece of a data set to those who watch; one that fails is dropped."""
    for watcher in list(watchers):
        try:
            # A view that is void after the call: one that is kept would pin the whole chunk.
            with view[:] as passing:
                watcher(passing)
        except Exception:
            _log.failure("a tap failed and is dropped")
            watchers.remove(watcher)


def tellOfFailure(service: StorageService, request: StoreRequest) -> Deferred[object]:
    """Tell the application that a reception failed; return a Deferred that fires when it is done, and never fails."""
    telling = maybeDeferred(ask, service.events.OnStoreDone, "", False, request)
    return service.eventDeadline.of(telling, "OnStoreDone").addErrback(_eventFailed)


def _abortFailed(failure: Failure) -> None:
    if failure.check(DeadlinePassed):
        _log.error("clearing up after an object: no answer {inTime}", inTime=failure.value)
    else:
        _log.failure("clearing up after an object failed", failure)


def _eventFailed(failure: Failure) -> None:
    # A refusal is an answer, and the answer is ignored.
    if failure.check(DeadlinePassed):
        _log.error("OnStoreDone did not answer {inTime}", inTime=failure.value)
    elif failure.check(StoreRefused) is None:
        _log.failure("OnStoreDone failed", failure)
