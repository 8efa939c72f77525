"""
The storage service: C-STORE from its command to its response (PS3.4 Annex B, PS3.7 9.1.1).

An object's way: the command is checked, OnStoreSetup says where to, the bytes pass to the sink and to the scanner at
once, then the sink makes them durable, participants and OnStoreDone decide, and only then the sender is told.
"""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from math import inf
from typing import ClassVar, TypeAlias, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import classImplements

from dcxtwisted.checks import NO_RELAXATIONS, Check, Relaxations
from dcxtwisted.deadlines import Deadline
from dcxtwisted.errors import StoreRefused
from dcxtwisted.events import ask
from dcxtwisted.filenames import asFileName
from dcxtwisted.interfaces import (
    IN_MEMORY,
    IAssociation,
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
)
from dcxtwisted.services.identity import toleratesInstance
from dcxtwisted.services.reception import FailedReception, Reception
from dcxtwisted.services.refusals import FORCED, NextStatus, refusalFrom, refuse
from dcxtwisted.services.requests import NOTHING, StoreRequest, isSafeInstanceUID
from dcxtwisted.services.scope import StorageScope
from dcxtwisted.statuses import CANNOT_UNDERSTAND, INVALID_SOP_INSTANCE, SOP_CLASS_NOT_SUPPORTED, keepsObject
from dcxtwisted.uids import STORAGE_SOP_CLASSES, isKnown
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from dcxtwisted.wire.messages import C_STORE_RQ, CStoreRequest, Request

#: Answers of OnStoreSetup.
_Place: TypeAlias = str | os.PathLike[str] | IStoreSink | InMemory | None


class StorageService:
    """
    Receives objects into stores.

    :param files: where an application's own paths go.
    :param memory: where IN_MEMORY goes.
    :param eventDeadline: for one answer of an event or of a participant.
    :param storeDeadline: for one call of a store; what passes it is refused, and has to end by itself.
    :param participants: run in this order between the store and OnStoreDone.
    :param scope: what is taken besides the storage SOP classes of the standard.
    :param strict: as in the configuration; these too:
    :param abortOnRefusal: abort in place of draining what is refused before it comes.
    :ivar maximumObjectSize: bytes of a data set beyond which it is refused.
    :ivar store: the acceptor's own way, for what comes from now on.
    :ivar root: what stands before the file name that OnStoreSetup is given.
    :ivar relaxations: what each sender is let off, of what comes from now on.
    :ivar nextStatus: what is forced on the next response.
    """

    commandFields: ClassVar[frozenset[int]] = frozenset({C_STORE_RQ})

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
        scope: StorageScope | None = None,
        *,
        strict: bool = False,
        relaxations: Relaxations = NO_RELAXATIONS,
        abortOnRefusal: bool = False,
        maximumObjectSize: float = inf,
        nextStatus: NextStatus | None = None,
    ) -> None:
        self.events = events
        self.eventDeadline = eventDeadline
        self.storeDeadline = storeDeadline
        self.participants = participants
        self.store = store
        self._files = files
        self._memory = memory
        self.root = root
        self.nextStatus = NextStatus() if nextStatus is None else nextStatus
        self._scope = StorageScope() if scope is None else scope
        self._strict = strict
        self.relaxations = relaxations
        self._abortOnRefusal = abortOnRefusal
        self.maximumObjectSize = maximumObjectSize

    def supports(
        self, abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None = None
    ) -> Container[str] | None:
        """See ``IDIMSEService.supports``."""
        return self._scope.transferSyntaxes if self._scope.isStorage(abstractSyntax, common) else None

    def requestReceived(
        self, command: Request, exchange: IExchange
    ) -> IDataSetReceiver | Deferred[IDataSetReceiver | None] | None:
        """See ``IDIMSEService.requestReceived``."""
        assert isinstance(command, CStoreRequest)
        request = StoreRequest(command, exchange, self._relaxedFor(exchange.association))
        refusal = self._refusal(command, request, exchange.context.abstractSyntax)
        if refusal is not None:
            self._refuse(command, exchange, refusal)
            return None
        instanceUID = request.SOPInstanceUID
        if request.relaxed and not isSafeInstanceUID(instanceUID):
            instanceUID = asFileName(instanceUID)
        try:
            place = ask(self.events.OnStoreSetup, f"{self.root}/{instanceUID}.dcm", request)
        except Exception:
            # Of the application's code, or of a store's: here and below the sender is told, and the rest goes on.
            self._notWanted(Failure(), command, exchange)
            return None
        if place is not None and isinstance(place, Deferred):
            return self._openLater(place, command, request, exchange)
        return self._open(place, command, request, exchange)

    def _relaxedFor(self, association: IAssociation) -> frozenset[Check]:
        relaxations = self.relaxations
        return relaxations.get(association.callingAETitle, NOTHING) if relaxations else NOTHING

    def refuse(self, command: CStoreRequest, exchange: IExchange, refusal: StoreRefused) -> None:
        """Answer with a refusal, or with another one where that is forced."""
        forced = self.nextStatus.take(exchange.association)
        if forced is not None and not keepsObject(forced):
            refusal = StoreRefused(forced, FORCED)
        refuse(command, exchange, refusal)

    def _refusal(self, command: CStoreRequest, request: StoreRequest, abstractSyntax: str) -> StoreRefused | None:
        SOPClassUID = request.SOPClassUID
        if SOPClassUID not in STORAGE_SOP_CLASSES and not self._isTaken(SOPClassUID, abstractSyntax):
            return StoreRefused(SOP_CLASS_NOT_SUPPORTED, "not a storage SOP class")
        if self._strict and SOPClassUID != abstractSyntax and not request.tolerates(Check.CONTEXT):
            return StoreRefused(SOP_CLASS_NOT_SUPPORTED, "SOP class is not the context's")
        if not (isSafeInstanceUID(request.SOPInstanceUID) or toleratesInstance(request)):
            return StoreRefused(INVALID_SOP_INSTANCE, "malformed SOP Instance UID")
        if not command.hasDataSet:
            return StoreRefused(CANNOT_UNDERSTAND, "no data set")
        return None

    def _isTaken(self, SOPClassUID: str, abstractSyntax: str) -> bool:
        """True for a class that is unknown, but was accepted as storage, by negotiation or by the configuration."""
        negotiated = SOPClassUID == abstractSyntax and not isKnown(SOPClassUID)
        return negotiated or self._scope.isStorage(SOPClassUID)

    # Before the data

    def _refuse(self, command: CStoreRequest, exchange: IExchange, refusal: StoreRefused) -> None:
        if self._abortOnRefusal and command.hasDataSet:
            exchange.association.abort()
        self.refuse(command, exchange, refusal)

    def _notWanted(self, failure: Failure, command: CStoreRequest, exchange: IExchange) -> None:
        self._refuse(command, exchange, refusalFrom(failure, "setting up an object"))

    def _notOpened(
        self, failure: Failure, command: CStoreRequest, request: StoreRequest, exchange: IExchange
    ) -> IDataSetReceiver | None:
        refusal = refusalFrom(failure, "setting up an object")
        if self._abortOnRefusal:
            exchange.association.abort()
        return FailedReception(self, command, request, exchange, refusal)

    def _openLater(
        self, place: Deferred[_Place], command: CStoreRequest, request: StoreRequest, exchange: IExchange
    ) -> Deferred[IDataSetReceiver | None]:
        return self.eventDeadline.of(place, "OnStoreSetup").addCallbacks(
            self._open,
            self._notWanted,
            callbackArgs=(command, request, exchange),
            errbackArgs=(command, exchange),
        )

    def _open(
        self, place: _Place, command: CStoreRequest, request: StoreRequest, exchange: IExchange
    ) -> IDataSetReceiver | Deferred[IDataSetReceiver | None] | None:
        """Return what receives an object that the application let in, also where nothing can be opened for it."""
        try:
            sink = self._sinkFor(place, request)
            if not isinstance(sink, Deferred):
                return self._receiver(sink, command, request, exchange)
        except Exception:
            return self._notOpened(Failure(), command, request, exchange)
        return self._openedLater(sink, command, request, exchange)

    def _openedLater(
        self, sink: Deferred[IStoreSink], command: CStoreRequest, request: StoreRequest, exchange: IExchange
    ) -> Deferred[IDataSetReceiver | None]:
        return (
            self.storeDeadline.of(sink, "opening a sink")
            .addCallback(self._receiver, command, request, exchange)
            .addErrback(self._notOpened, command, request, exchange)
        )

    def _receiver(
        self, sink: IStoreSink, command: CStoreRequest, request: StoreRequest, exchange: IExchange
    ) -> IDataSetReceiver | None:
        # That it is one, mypy learns behind its class, which it looks at later than this one.
        return cast(IDataSetReceiver, Reception(self, command, request, exchange, sink))

    def _sinkFor(self, place: _Place, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        if place is None or place == "":
            return self.store.open(request)
        if isinstance(place, str):
            return self._files.openAt(place, request)
        if place is IN_MEMORY:
            return self._memory.open(request)
        if IStoreSink.providedBy(place):
            return place
        if isinstance(place, os.PathLike):
            return self._files.openAt(os.fsdecode(place), request)
        raise TypeError(f"OnStoreSetup answered {type(place).__name__}")


classImplements(StorageService, IDIMSEService)
