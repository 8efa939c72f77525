"""
Tests for the memory store.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.part10 import dataSetOffset
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.memory import MemorySink, MemoryStore, ObjectInMemory
from dcxtwisted.testing.stores import StoreAssociation, StoreContract, StoreRequest, dataSet, headOf, storedBy


class MemoryStoreContractTests(StoreContract, TestCase):
    """The memory store does what every store does."""

    def makeStore(self) -> MemoryStore:
        return MemoryStore()

    def filesIn(self, store: Any) -> list[bytes]:
        return [bytes(taken) for taken in iter(store.take, None)]


class MemoryStoreTests(SynchronousTestCase):
    """What the memory store does beyond that."""

    def receive(self, store: MemoryStore, data: bytes, request: StoreRequest | None = None) -> MemorySink:
        sink = store.open(StoreRequest() if request is None else request)
        assert isinstance(sink, MemorySink)
        sink.write(memoryview(data))
        return sink

    def finish(self, store: MemoryStore, data: bytes, request: StoreRequest | None = None) -> MemorySink:
        sink = self.receive(store, data, request)
        stored = self.successResultOf(storedBy(sink, headOf(data)))
        self.assertEqual((stored.filename, stored.size, stored.outcome), ("", len(data), Outcome.NEW))
        return sink

    def test_take(self) -> None:
        """What is taken is the whole file with the facts of its request, as soon as it is finished."""
        store = MemoryStore()
        request = StoreRequest("1.2.3")
        data = dataSet("1.2.3")
        sink = self.receive(store, data, request)
        self.assertIsNone(store.take())
        head = headOf(data)
        self.successResultOf(storedBy(sink, head))
        taken = store.take()
        assert taken is not None
        self.assertEqual(taken.data, leadOf(request) + data)
        self.assertEqual(bytes(taken), taken.data)
        self.assertEqual(len(taken), len(taken.data))
        self.assertEqual(
            (taken.SOPClassUID, taken.SOPInstanceUID, taken.transferSyntaxUID),
            ("1.2.840.10008.5.1.4.1.1.66", "1.2.3", "1.2.840.10008.1.2.1"),
        )
        self.assertIs(taken.association, request.association)
        self.assertIs(taken.head, head)
        self.assertIsNone(store.take())
        sink.keep()
        self.assertEqual(store.bytesHeld, 0)

    def test_otherUIDs(self) -> None:
        """An object that is not what the command announced is named by its data set."""
        store = MemoryStore()
        for command in ("1.2.3.4.5", "1", "1.2.4"):
            self.finish(store, dataSet("1.2.3"), StoreRequest(command, "1.2.840.10008.5.1.4.1.1.2"))
            taken = store.take()
            assert taken is not None
            self.assertEqual((taken.SOPClassUID, taken.SOPInstanceUID), ("1.2.840.10008.5.1.4.1.1.66", "1.2.3"))
            self.assertEqual(taken.data, leadOf(StoreRequest("1.2.3")) + dataSet("1.2.3"))
            self.assertEqual(store.bytesHeld, 0)

    def test_dataset(self) -> None:
        """pydicom reads what was taken."""
        store = MemoryStore()
        self.finish(store, dataSet("1.2.3", PatientID="P^7"), StoreRequest("1.2.3"))
        taken = store.take()
        assert taken is not None
        read = taken.dataset()
        self.assertEqual((read.SOPInstanceUID, read.PatientID), ("1.2.3", "P^7"))
        self.assertEqual(read.file_meta.TransferSyntaxUID, "1.2.840.10008.1.2.1")

    def test_representation(self) -> None:
        """The text of an object is short, and tells nothing of the patient."""
        store = MemoryStore()
        self.finish(store, dataSet(PatientID="SECRET"))
        text = repr(store.take())
        self.assertNotIn("SECRET", text)
        self.assertLess(len(text), 200)

    def test_order(self) -> None:
        """Objects are handed over in the order in which they were finished."""
        store = MemoryStore()
        sinks = {uid: self.receive(store, dataSet(uid), StoreRequest(uid)) for uid in ("1.1", "1.2", "1.3")}
        for uid in ("1.3", "1.1", "1.2"):
            self.successResultOf(storedBy(sinks[uid], headOf(dataSet(uid))))
        self.assertEqual([taken.SOPInstanceUID for taken in iter(store.take, None)], ["1.3", "1.1", "1.2"])

    def test_association(self) -> None:
        """One association's objects can be taken without those of another."""
        store = MemoryStore()
        here, there = StoreAssociation(), StoreAssociation()
        for uid, association in (("1.1", there), ("1.2", here), ("1.3", there), ("1.4", here)):
            self.finish(store, dataSet(uid), StoreRequest(uid, association=association))

        def uidsOf(association: StoreAssociation | None) -> list[str]:
            taken: list[ObjectInMemory] = list(iter(lambda: store.take(association), None))
            return [one.SOPInstanceUID for one in taken]

        self.assertEqual(uidsOf(here), ["1.2", "1.4"])
        self.assertEqual(uidsOf(None), ["1.1", "1.3"])

    def test_budget(self) -> None:
        """What does not fit beside the untaken objects is refused; taking makes room."""
        data = dataSet(size=1000)
        size = len(leadOf(StoreRequest())) + len(data)
        store = MemoryStore(maximumBytes=2 * size)
        self.finish(store, data).keep()
        second = self.finish(store, data)
        self.assertEqual(store.bytesHeld, 2 * size)
        error = self.assertRaises(StoreRefused, store.open, StoreRequest())
        self.assertEqual((error.status, error.comment), (0xA700, "memory budget exhausted"))
        store.take()
        self.assertEqual(store.bytesHeld, size)
        self.successResultOf(second.abort())
        self.assertEqual(store.bytesHeld, 0)
        self.finish(store, data)

    def test_budgetInside(self) -> None:
        """What is still being received counts, and an object that outgrows the budget gives back what it had."""
        store = MemoryStore(maximumBytes=2000)
        first = self.receive(store, bytes(1000))
        held = store.bytesHeld
        second = store.open(StoreRequest())
        error = self.assertRaises(StoreRefused, second.write, memoryview(bytes(1000)))
        self.assertEqual(error.status, 0xA700)
        self.successResultOf(second.abort())
        self.assertEqual(store.bytesHeld, held)
        self.successResultOf(first.abort())
        self.assertEqual(store.bytesHeld, 0)

    def test_exactBudget(self) -> None:
        """An object of exactly the budget is taken, one byte more is not."""
        data = dataSet()
        size = len(leadOf(StoreRequest())) + len(data)
        self.finish(MemoryStore(maximumBytes=size), data)
        self.assertRaises(StoreRefused, self.receive, MemoryStore(maximumBytes=size - 1), data)

    def test_takenIsLeft(self) -> None:
        """What was taken while OnStoreDone was asked stays the application's when the object is then refused."""
        store = MemoryStore()
        data = dataSet()
        sink = self.finish(store, data)
        taken = store.take()
        self.successResultOf(sink.abort())
        assert taken is not None
        self.assertEqual(taken.data[dataSetOffset(taken.data) :], data)
        self.assertEqual(store.bytesHeld, 0)

    def test_keptIsLeft(self) -> None:
        """What was acknowledged waits to be taken, whatever is called later."""
        store = MemoryStore()
        sink = self.finish(store, dataSet())
        sink.keep()
        self.successResultOf(sink.abort())
        self.assertIsNotNone(store.take())
