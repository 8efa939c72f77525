"""
What a store has to do: a mixin of tests for every provider of IStore.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dcxtwisted.dataset import DataSetReader, Head
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import (
    IAssociation,
    IObjectInMemory,
    IStore,
    IStoreRequest,
    IStoreSink,
    Outcome,
    StoredObject,
    TLSFacts,
)
from dcxtwisted.part10 import dataSetOffset, transferSyntaxOf
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN
from dcxtwisted.wire.items import UserIdentityRequest
from dcxtwisted.wire.negotiation import AcceptedContext

if TYPE_CHECKING:
    from unittest import TestCase as _TestCase  # trial's is one, without its types
else:
    _TestCase = object  # a mixin: alone it is no test case, so that importing it runs nothing

_RAW_DATA_STORAGE = "1.2.840.10008.5.1.4.1.1.66"


@implementer(IAssociation)
class StoreAssociation:
    """An association as far as stores look at it."""

    callingAETitle = "SENDER"
    calledAETitle = "STORE"
    peerAddress: IAddress = IPv4Address("TCP", "192.0.2.1", 40000)
    localAddress: IAddress = IPv4Address("TCP", "192.0.2.2", 104)
    callingHost = "192.0.2.1"
    security: TLSFacts | None = None
    acceptedContexts: Mapping[int, AcceptedContext] = {}
    implementationClassUID = ""
    implementationVersionName = ""
    userIdentity: UserIdentityRequest | None = None
    user = ""
    maximumLengthToSend = 16384
    operationsWindow = 1
    startedAt = 0.0
    objectsStored = objectsRefused = bytesReceived = 0
    ended = ""

    def __init__(self) -> None:
        self.quirks: Counter[str] = Counter()
        self.duplicates: Counter[Outcome] = Counter()

    def abort(self) -> None:
        """Do nothing."""

    def WaitForCommand(self, timeout: float | None = None) -> Deferred[bool]:
        """It is over."""
        return succeed(False)

    def TakeStoredObject(self) -> IObjectInMemory | None:
        """Return None."""
        return None


@implementer(IStoreRequest)
@attrs.define(eq=False)
class StoreRequest:
    """A C-STORE request as far as stores look at it."""

    SOPInstanceUID: str = "1.2.826.0.1.1"
    SOPClassUID: str = _RAW_DATA_STORAGE
    transferSyntaxUID: str = EXPLICIT_VR_LITTLE_ENDIAN
    association: IAssociation = attrs.field(factory=StoreAssociation)
    messageID: int = 1
    priority: int = 0
    moveOriginatorAETitle: str = ""
    moveOriginatorMessageID: int | None = None
    head: Head | None = None
    stored: StoredObject | None = None
    refusal: StoreRefused | None = None

    def tap(self, watcher: Callable[[memoryview], object]) -> None:
        """Do nothing."""


def dataSet(SOPInstanceUID: str = "1.2.826.0.1.1", size: int = 100, fill: bytes = b"\x55", **values: str) -> bytes:
    """
    Return a data set in explicit VR little endian that ends in a private value of many bytes.

    :param size: of that value.
    :param values: of the attributes a layout may name; ``StudyInstanceUID="1.2"``.
    """
    found = {
        "SOPClassUID": _RAW_DATA_STORAGE,
        "SOPInstanceUID": SOPInstanceUID,
        "StudyDate": "20260102",
        "Modality": "OT",
        "PatientID": "P1",
        "StudyInstanceUID": "1.2.826.0.1.2",
        "SeriesInstanceUID": "1.2.826.0.1.3",
        **values,
    }
    elements = [_element(tag, VR, found[name]) for name, (tag, VR) in _ELEMENTS.items()]
    return b"".join(elements) + b"\x21\x00\x10\x10OB\0\0" + size.to_bytes(4, "little") + fill * size


_ELEMENTS = {
    "SOPClassUID": (b"\x08\x00\x16\x00", b"UI"),
    "SOPInstanceUID": (b"\x08\x00\x18\x00", b"UI"),
    "StudyDate": (b"\x08\x00\x20\x00", b"DA"),
    "Modality": (b"\x08\x00\x60\x00", b"CS"),
    "PatientID": (b"\x10\x00\x20\x00", b"LO"),
    "StudyInstanceUID": (b"\x20\x00\x0d\x00", b"UI"),
    "SeriesInstanceUID": (b"\x20\x00\x0e\x00", b"UI"),
}


def _element(tag: bytes, VR: bytes, text: str) -> bytes:
    value = text.encode("latin-1")
    value += (b"\0" if VR == b"UI" else b" ") * (len(value) % 2)
    return tag + VR + len(value).to_bytes(2, "little") + value


def headOf(data: bytes, transferSyntaxUID: str = EXPLICIT_VR_LITTLE_ENDIAN) -> Head:
    """Return the head of a data set."""
    reader = DataSetReader(transferSyntaxUID)
    reader.feed(data)
    return reader.finish()


def storedBy(sink: IStoreSink, head: Head) -> Deferred[StoredObject]:
    """Return a Deferred of what C{finish} gives, be it at once or later."""
    stored = sink.finish(head)
    return stored if isinstance(stored, Deferred) else succeed(stored)


class StoreContract(_TestCase):
    """
    The tests that a provider of IStore passes: mix it into a ``twisted.trial.unittest.TestCase``.

    Each test calls ``makeStore`` once, and at its end ``filesIn`` once.
    """

    def makeStore(self) -> Any:
        """Return a new, empty store, or a Deferred of one; ``addCleanup`` is the place to have it stopped."""
        raise NotImplementedError

    def filesIn(self, store: Any) -> Any:
        """Return the objects that stand in a store, each a whole Part 10 file as bytes, or a Deferred of them."""
        raise NotImplementedError

    async def _store(self) -> IStore:
        store: IStore = await maybeDeferred(self.makeStore)
        return store

    async def _open(self, store: IStore, request: IStoreRequest | None = None) -> IStoreSink:
        sink = store.open(StoreRequest() if request is None else request)
        return await sink if isinstance(sink, Deferred) else sink

    async def _write(self, sink: IStoreSink, data: bytes, size: int = 1 << 20) -> None:
        """Write data in pieces, from a buffer that is used again as soon as a write has returned."""
        for start in range(0, len(data), size):
            piece = bytearray(data[start : start + size])
            waiting = sink.write(memoryview(piece))
            piece[:] = bytes(len(piece))
            if waiting is not None:
                await waiting

    async def _receive(self, store: IStore, data: bytes, request: IStoreRequest | None = None) -> IStoreSink:
        """Return a sink that has everything and is not finished."""
        sink = await self._open(store, request)
        await self._write(sink, data)
        return sink

    async def _assertFiles(self, store: IStore, *dataSets: bytes) -> None:
        """Check that these data sets are in the store, each in a file of its own, and no other."""
        files: list[bytes] = await maybeDeferred(self.filesIn, store)
        self.assertEqual(sorted(file[dataSetOffset(file) :] for file in files), sorted(dataSets))

    async def test_interfaces(self) -> None:
        """The store and its sinks provide the interfaces."""
        store = await self._store()
        verifyObject(IStore, store)
        sink = await self._open(store)
        verifyObject(IStoreSink, sink)
        await sink.abort()

    async def test_stored(self) -> None:
        """An object is stored with the bytes received, however they were cut."""
        store = await self._store()
        data = dataSet(size=3000)
        for size in (1, 7, 1024, 4096):
            sink = await self._open(store)
            await self._write(sink, data, size)
            head = headOf(data)
            stored = await storedBy(sink, head)
            self.assertEqual((stored.size, stored.outcome), (len(data), Outcome.NEW))
            self.assertIs(stored.head, head)
            await sink.abort()
        await self._assertFiles(store)

    async def test_file(self) -> None:
        """What is stored is a Part 10 file that says what was negotiated, and what the command said."""
        from pydicom import dcmread  # slow to import, and only this needs it

        store = await self._store()
        data = dataSet()
        sink = await self._receive(store, data)
        await storedBy(sink, headOf(data))
        sink.keep()
        (file,) = await maybeDeferred(self.filesIn, store)
        self.assertEqual(file[:132], bytes(128) + b"DICM")
        self.assertEqual(file[dataSetOffset(file) :], data)
        self.assertEqual(transferSyntaxOf(file), EXPLICIT_VR_LITTLE_ENDIAN)
        meta = dcmread(BytesIO(file)).file_meta
        self.assertEqual(meta.MediaStorageSOPClassUID, _RAW_DATA_STORAGE)
        self.assertEqual(meta.MediaStorageSOPInstanceUID, "1.2.826.0.1.1")

    async def test_large(self) -> None:
        """An object of many pieces is stored whole."""
        store = await self._store()
        data = dataSet(size=5_000_000, fill=b"\x01")
        sink = await self._open(store)
        await self._write(sink, data, 65521)
        await storedBy(sink, headOf(data))
        sink.keep()
        await self._assertFiles(store, data)

    async def test_abortAtOnce(self) -> None:
        """Nothing is left of an object whose data never came."""
        store = await self._store()
        sink = await self._open(store)
        await sink.abort()
        await self._assertFiles(store)

    async def test_abortInside(self) -> None:
        """Nothing is left of an object that came in part."""
        store = await self._store()
        sink = await self._receive(store, dataSet()[:50])
        await sink.abort()
        await self._assertFiles(store)

    async def test_abortFinished(self) -> None:
        """Nothing is left of an object that was stored and then refused."""
        store = await self._store()
        data = dataSet()
        sink = await self._receive(store, data)
        await storedBy(sink, headOf(data))
        await sink.abort()
        await self._assertFiles(store)

    async def test_abortTwice(self) -> None:
        """Aborting again, at once or later, does no harm and is answered."""
        store = await self._store()
        sink = await self._receive(store, dataSet())
        first, second = sink.abort(), sink.abort()
        await second
        await first
        await sink.abort()
        await self._assertFiles(store)

    async def test_abortKept(self) -> None:
        """An acknowledged object stays."""
        store = await self._store()
        data = dataSet()
        sink = await self._receive(store, data)
        await storedBy(sink, headOf(data))
        sink.keep()
        await sink.abort()
        await self._assertFiles(store, data)

    async def test_neighbours(self) -> None:
        """Objects that come at the same time do not mix, and one that is given up takes nothing with it."""
        store = await self._store()
        datas = [dataSet(f"1.2.{number}", 2000, b"%d" % number) for number in range(3)]
        sinks = [await self._open(store, StoreRequest(f"1.2.{number}")) for number in range(3)]
        for start in range(0, len(datas[0]), 500):
            for sink, data in zip(sinks, datas, strict=True):
                await self._write(sink, data[start : start + 500])
        await sinks[1].abort()
        for number in (2, 0):
            await storedBy(sinks[number], headOf(datas[number]))
            sinks[number].keep()
        await self._assertFiles(store, datas[0], datas[2])

    async def test_again(self) -> None:
        """The same object is stored again with success."""
        store = await self._store()
        data = dataSet()
        for _ in range(3):
            sink = await self._receive(store, data)
            stored = await storedBy(sink, headOf(data))
            self.assertEqual(stored.size, len(data))
            sink.keep()
        files = await maybeDeferred(self.filesIn, store)
        self.assertEqual({file[dataSetOffset(file) :] for file in files}, {data})

    async def test_refusedAgain(self) -> None:
        """An acknowledged object outlives a refused one of the same bytes, and one of other bytes."""
        store = await self._store()
        data = dataSet()
        sink = await self._receive(store, data)
        await storedBy(sink, headOf(data))
        sink.keep()
        for other in (data, dataSet(fill=b"\x66"), dataSet(size=10)):
            sink = await self._receive(store, other)
            await storedBy(sink, headOf(other))
            await sink.abort()
        await self._assertFiles(store, data)

    async def test_sameAtOnce(self) -> None:
        """The same object from two at once is stored for both, whatever becomes of the other."""
        store = await self._store()
        data = dataSet()
        sinks = [await self._receive(store, data) for _ in range(3)]
        finishing = [storedBy(sink, headOf(data)) for sink in sinks]
        _, first = await DeferredList(finishing, fireOnOneCallback=True)
        await sinks[first].abort()
        # Whichever of the others waits goes on when its forerunner is decided.
        for finished, sink in zip(finishing, sinks, strict=True):
            if sink is not sinks[first]:
                finished.addCallback(lambda stored, sink: sink.keep(), sink)
        for finished in finishing:
            await finished
        files = await maybeDeferred(self.filesIn, store)
        self.assertEqual({file[dataSetOffset(file) :] for file in files}, {data})
