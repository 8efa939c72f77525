"""
The memory store: whole Part 10 files for the application to take.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, BytesIO, RawIOBase
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from dcxtwisted.configuration import DEFAULT_MINIMUM_FREE_BYTES, DEFAULT_MINIMUM_FREE_INODES, MemoryOverflow
from dcxtwisted.dataset import Head
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import (
    IAssociation,
    IObjectInMemory,
    IStore,
    IStoreRequest,
    IStoreSink,
    Outcome,
    StoredObject,
)
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.budget import Budget
from dcxtwisted.stores.filemeta import isAsAnnounced, leadOf
from dcxtwisted.stores.jobs import Threads
from dcxtwisted.stores.spilling import MappedFile, SpillFile, SpillSpace

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

#: Bytes that each object counts with beside its file: what is kept of a request takes 2 KiB, and where it is the only
#: one of its association, what is kept of that 8 KiB.
PER_OBJECT: Final = 8192
# Bytes that glibc is given back once, so that it keeps blocks up to that size for the next object. Else it has each one
# from the system anew, and every page of it faults: receiving an object of 525 KB takes 650 us of CPU then, and 170 us
# so. Much more would not serve many more objects, and leave more behind of those that outgrow it.
_BLOCK: Final = 4 << 20


@implementer(IObjectInMemory)
@attrs.frozen(eq=False)
class ObjectInMemory:
    """An object that was received into memory; the attributes are those of ``IObjectInMemory``."""

    _buffer: bytes | MappedFile = attrs.field(repr=False)
    SOPClassUID: str
    SOPInstanceUID: str
    transferSyntaxUID: str
    messageID: int
    association: IAssociation
    head: Head = attrs.field(repr=False)
    receivedAt: float

    @property
    def data(self) -> memoryview:
        """The Part 10 file, which can only be read."""
        buffer = self._buffer
        return memoryview(buffer) if isinstance(buffer, bytes) else buffer.view()

    @property
    def callingAETitle(self) -> str:
        """The calling AE title of the association."""
        return self.association.callingAETitle

    @property
    def calledAETitle(self) -> str:
        """The called AE title of the association."""
        return self.association.calledAETitle

    @property
    def callingHost(self) -> str:
        """The peer's host."""
        return self.association.callingHost

    def __bytes__(self) -> bytes:
        return bytes(self._buffer)  # not copied where it is bytes

    def __len__(self) -> int:
        return len(self._buffer)

    def __buffer__(self, flags: int, /) -> memoryview:
        # What makes an object bytes-like from Python 3.12 on.
        return self.data

    def dataset(self) -> FileDataset:
        """Return it as pydicom reads it, with its file meta information."""
        from pydicom import dcmread  # takes 50 ms, which most have no use for

        return dcmread(BufferedReader(_Reading(self.data)))


class _Reading(RawIOBase):
    """
    Reads a view as a file, without a copy of the whole.

    :ivar name: pydicom asks for it.
    """

    name = ""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        piece = self._view[self._position : self._position + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        start = {SEEK_SET: 0, SEEK_CUR: self._position, SEEK_END: len(self._view)}[whence]
        self._position = max(0, start + offset)
        return self._position


@implementer(IStore)
class MemoryStore:
    """
    Keeps objects until the application takes them.

    An object can be taken as soon as it is finished, while participants and OnStoreDone are asked. What is taken is the
    application's and is not taken back where the answer is a refusal. Every object is one of its own, whatever was
    received before.

    What is being received counts with what waits to be taken; beyond ``budget`` it goes as ``overflow`` says.
    """

    def __init__(
        self,
        budget: int = 268435456,
        overflow: MemoryOverflow = MemoryOverflow.SPILL,
        spillBudget: int = 4294967296,
        *,
        directory: str | None = None,
        reactor: IReactorTime | None = None,
        threads: Threads | None = None,
        minimumFreeBytes: int = DEFAULT_MINIMUM_FREE_BYTES,
        minimumFreeInodes: int = DEFAULT_MINIMUM_FREE_INODES,
    ) -> None:
        """
        :param budget: the most that C{bytesHeld} may be.
        :param spillBudget: the most that C{bytesSpilled} may be; what comes beyond is refused with A700.
        :param directory: where files of spilled objects are, without a name; None for the system's temporary directory,
            which is taken too where none can be made there.
        :param reactor: its clock tells when an object was received; needed where senders are to wait.
        :param threads: where a slow file system is waited for; None to wait on the reactor's thread.
        :param minimumFreeBytes: below which nothing spills to a file system; 0 for any.
        :param minimumFreeInodes: likewise.
        """
        if reactor is None and overflow is MemoryOverflow.WAIT:
            raise ValueError("a store that has senders wait takes a reactor")
        self.overflow = overflow
        self.budget = Budget(budget, reactor)
        self.spillSpace = SpillSpace(spillBudget, directory, threads, minimumFreeBytes, minimumFreeInodes)
        self._reactor = reactor
        self._isFirst = True
        # As in Budget: it is always the first that goes.
        self._untaken: OrderedDict[MemorySink, ObjectInMemory] = OrderedDict()
        self._byAssociation: dict[IAssociation, OrderedDict[MemorySink, ObjectInMemory]] = {}

    def seconds(self) -> float:
        """Return the time by which objects are received."""
        return time.monotonic() if self._reactor is None else self._reactor.seconds()

    @property
    def bytesHeld(self) -> int:
        """Bytes in memory that are being received or wait to be taken, and ``PER_OBJECT`` for each object."""
        return self.budget.held

    @property
    def bytesSpilled(self) -> int:
        """Bytes in files that are being received or wait to be taken."""
        return self.spillSpace.held

    @property
    def untaken(self) -> int:
        """How many objects wait to be taken."""
        return len(self._untaken)

    def open(self, request: IStoreRequest) -> IStoreSink:
        """See ``IStore.open``."""
        if self._isFirst:
            self._isFirst = False
            bytes(_BLOCK)
        return MemorySink(self, request)

    def take(self, association: IAssociation | None = None) -> ObjectInMemory | None:
        """Hand over the oldest object, where given that of an association, and forget it; None where there is none."""
        waiting = self._untaken if association is None else self._byAssociation.get(association)
        if not waiting:
            return None
        sink, taken = next(iter(waiting.items()))
        self.withdraw(sink)
        sink.release()
        return taken

    def offer(self, sink: MemorySink, received: ObjectInMemory) -> None:
        """Have a finished object taken."""
        self._untaken[sink] = received
        self._byAssociation.setdefault(received.association, OrderedDict())[sink] = received

    def withdraw(self, sink: MemorySink) -> None:
        """Have the object of a sink no longer taken, where it still could be."""
        withdrawn = self._untaken.pop(sink, None)
        if withdrawn is not None:
            ofAssociation = self._byAssociation[withdrawn.association]
            del ofAssociation[sink]
            if not ofAssociation:
                del self._byAssociation[withdrawn.association]

    def giveUp(self) -> None:
        """Have no sender wait any longer: the listener stops."""
        self.budget.giveUp()

    def clear(self) -> int:
        """Forget what was not taken; return how many objects that were."""
        count = self.untaken
        while self.take() is not None:
            pass
        return count


@implementer(IStoreSink)
class MemorySink:
    """
    One object on its way into memory.

    :ivar held: bytes in memory that are counted for it.
    :ivar turn: its place among those that wait for more.
    """

    __slots__ = ("_file", "_kept", "_leadSize", "_request", "_spilled", "_store", "_uncounted", "held", "turn")

    def __init__(self, store: MemoryStore, request: IStoreRequest) -> None:
        lead = leadOf(request)
        self.held = self.turn = 0
        self._store = store
        self._request = request
        self._file = BytesIO()
        self._file.write(lead)
        self._leadSize = len(lead)
        # Counted with the first bytes of the data set: there may be no room yet.
        self._uncounted = len(lead) + PER_OBJECT
        self._spilled: SpillFile | None = None
        self._kept = False

    def write(self, view: memoryview) -> Deferred[None] | None:
        """See ``IStoreSink.write``."""
        if self._spilled is not None:
            return self._spilled.write(view)
        size = len(view) + self._uncounted
        if not self._store.budget.reserve(self, size):
            return self._overflow(view, size)
        self._uncounted = 0
        self._file.write(view)
        return None

    def _overflow(self, view: memoryview, size: int) -> Deferred[None] | None:
        overflow = self._store.overflow
        if overflow is MemoryOverflow.SPILL:
            return self._spill(view)
        if overflow is MemoryOverflow.WAIT:
            waiting = self._store.budget.whenRoom(self, size)
            self._uncounted = 0
            return waiting.addCallback(self._append, bytes(view))
        raise StoreRefused(OUT_OF_RESOURCES, "memory budget exhausted")

    def _spill(self, view: memoryview) -> Deferred[None] | None:
        """Go on in a file, with all there is so far."""
        self._spilled = self._store.spillSpace.create()
        self._file.write(view)
        writing = self._spilled.write(self._takeBytes())
        if writing is not None:
            return writing.addCallback(self._written)
        self._written(None)
        return None

    def _append(self, ignored: None, data: bytes) -> None:
        self._file.write(data)

    def _written(self, ignored: None) -> None:
        self._store.budget.release(self)

    def finish(self, head: Head) -> StoredObject | Deferred[StoredObject]:
        """See ``IStoreSink.finish``; the object can be taken from now on."""
        request = self._request
        if isAsAnnounced(head, request):
            return self._offered(head)
        lead = leadOf(request, head)
        announced, self._leadSize = self._leadSize, len(lead)
        if self._spilled is not None:
            return self._spilled.replaceStart(announced, lead).addCallback(lambda ignored: self._offered(head))
        data = self._takeBytes()
        self._file.writelines((lead, memoryview(data)[announced:]))
        return self._offered(head)

    def _offered(self, head: Head) -> StoredObject:
        request = self._request
        buffer = self._takeBytes() if self._spilled is None else self._spilled.mapped()
        self._store.offer(
            self,
            ObjectInMemory(
                buffer,
                head.SOPClassUID,
                head.SOPInstanceUID,
                request.transferSyntaxUID,
                request.messageID,
                request.association,
                head,
                self._store.seconds(),
            ),
        )
        return StoredObject("", len(buffer) - self._leadSize, head, Outcome.NEW)

    def _takeBytes(self) -> bytes:
        # Without a copy: the file's own buffer becomes the value, and is no longer held here.
        data, self._file = self._file.getvalue(), BytesIO()
        return data

    def keep(self) -> None:
        """See ``IStoreSink.keep``."""
        self._kept = True

    def abort(self) -> Deferred[None]:
        """See ``IStoreSink.abort``; an object that was taken is left to its taker."""
        if self._kept:
            return succeed(None)
        self._store.withdraw(self)
        return self.release()

    def release(self) -> Deferred[None]:
        """Hold nothing any more; return a Deferred that fires when that is so."""
        self._file = BytesIO()
        self._store.budget.release(self)
        return succeed(None) if self._spilled is None else self._spilled.close()
