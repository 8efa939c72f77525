"""
The memory store: whole Part 10 files for the application to take.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from dcxtwisted.dataset import Head
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IAssociation, IStore, IStoreRequest, IStoreSink, Outcome, StoredObject
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.filemeta import isAsAnnounced, leadOf

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


@attrs.frozen(eq=False)
class ObjectInMemory:
    """
    An object that was received into memory; ``bytes()`` of it is the whole Part 10 file.

    :ivar data: that file.
    """

    data: bytes = attrs.field(repr=False)
    SOPClassUID: str
    SOPInstanceUID: str
    transferSyntaxUID: str
    association: IAssociation = attrs.field(repr=False)
    head: Head = attrs.field(repr=False)

    def __bytes__(self) -> bytes:
        return self.data

    def __len__(self) -> int:
        return len(self.data)

    def dataset(self) -> FileDataset:
        """Return it as pydicom reads it."""
        from pydicom import dcmread  # takes 50 ms, which most have no use for

        return dcmread(BytesIO(self.data))


@implementer(IStore)
class MemoryStore:
    """
    Keeps objects until the application takes them.

    An object can be taken as soon as it is finished, while OnStoreDone is asked. What is taken is the application's and
    is not taken back where the answer is a refusal. Every object is one of its own, whatever was received before.

    :ivar bytesHeld: bytes of all files that are being received or wait to be taken.
    """

    def __init__(self, maximumBytes: int = 268435456) -> None:
        """
        :param maximumBytes: the most C{bytesHeld} may be; what comes beyond is refused with A700.
        """
        self.bytesHeld = 0
        self._maximumBytes = maximumBytes
        self._untaken: dict[MemorySink, ObjectInMemory] = {}

    def open(self, request: IStoreRequest) -> IStoreSink:
        """See ``IStore.open``."""
        return MemorySink(self, request)

    def take(self, association: IAssociation | None = None) -> ObjectInMemory | None:
        """Hand over the oldest object, where given that of an association, and forget it; None where there is none."""
        for sink, taken in self._untaken.items():
            if association is None or taken.association is association:
                self.forget(sink)
                return taken
        return None

    def reserve(self, size: int) -> None:
        """
        Count bytes that a sink is about to hold.

        :raises StoreRefused: where there is no room for them.
        """
        if self.bytesHeld + size > self._maximumBytes:
            raise StoreRefused(OUT_OF_RESOURCES, "memory budget exhausted")
        self.bytesHeld += size

    def offer(self, sink: MemorySink, received: ObjectInMemory) -> None:
        """Have a finished object taken."""
        self._untaken[sink] = received

    def forget(self, sink: MemorySink) -> None:
        """Count the bytes of a sink no more, and have its object no longer taken."""
        self._untaken.pop(sink, None)
        self.bytesHeld -= sink.release()


@implementer(IStoreSink)
class MemorySink:
    """One object on its way into memory."""

    __slots__ = ("_file", "_kept", "_leadSize", "_request", "_reserved", "_store")

    def __init__(self, store: MemoryStore, request: IStoreRequest) -> None:
        """
        :raises StoreRefused: where the budget has no room even for what comes before the data set.
        """
        lead = leadOf(request)
        self._store = store
        self._request = request
        self._leadSize = len(lead)
        self._reserved = 0
        self._kept = False
        self._file = BytesIO()
        self._append(lead)

    def _append(self, data: bytes | memoryview) -> None:
        size = len(data)
        self._store.reserve(size)
        self._reserved += size
        self._file.write(data)

    def write(self, view: memoryview) -> None:
        """See ``IStoreSink.write``."""
        self._append(view)

    def finish(self, head: Head) -> StoredObject:
        """See ``IStoreSink.finish``; the object can be taken from now on."""
        request = self._request
        # Without a copy: the file's own buffer becomes the value, and is no longer held here.
        data, self._file = self._file.getvalue(), BytesIO()
        size = len(data) - self._leadSize
        if not isAsAnnounced(head, request):
            data = leadOf(request, head) + data[self._leadSize :]
        self._store.offer(
            self,
            ObjectInMemory(
                data,
                head.SOPClassUID,
                head.SOPInstanceUID,
                request.transferSyntaxUID,
                request.association,
                head,
            ),
        )
        return StoredObject("", size, head, Outcome.NEW)

    def keep(self) -> None:
        """See ``IStoreSink.keep``."""
        self._kept = True

    def abort(self) -> Deferred[None]:
        """See ``IStoreSink.abort``; an object that was taken is left to its taker."""
        if not self._kept:
            self._store.forget(self)
        return succeed(None)

    def release(self) -> int:
        """Let go of everything; return how many bytes that were."""
        released, self._reserved = self._reserved, 0
        self._file = BytesIO()
        return released
