"""
Objects in memory, from the peer to the application that takes them.
"""

from __future__ import annotations

import gc
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dcxtwisted import DCXACC, IN_MEMORY, Configuration, IAssociation, IObjectInMemory, MemoryOverflow
from dcxtwisted.errors import StoreRefused
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.memory import PER_OBJECT, MemoryStore
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, RecordingEvents, ScriptedPeer
from dcxtwisted.testing.stores import StoreAssociation, StoreRequest
from tests.services.support import CT, FakeStore, comment
from tests.support import dataSet, logged, openDescriptors, pData, storeCommand
from tests.test_association_waiting import WAYS_TO_GO


class _Association(StoreAssociation):
    """That of the scripted peer, as far as the file meta information knows it."""

    callingAETitle = "PEER"
    calledAETitle = "DCXTWISTED"


#: What the scripted peer's object counts beside its data set.
BESIDE = PER_OBJECT + len(leadOf(StoreRequest("1.2.3", CT, association=_Association())))


def uidOf(taken: IObjectInMemory | None) -> str:
    """Return the UID of an object that was handed over, '' where there was none."""
    return "" if taken is None else taken.SOPInstanceUID


class InMemoryTestCase(SynchronousTestCase):
    """A listener that keeps objects in memory, and peers of it; afterwards nothing may be left of any of them."""

    def setUp(self) -> None:
        before = openDescriptors()
        self.addCleanup(lambda: self.assertEqual(openDescriptors(), before))
        self.acceptor: Any = None

    def listen(self, budget: int = 1 << 30, overflow: str = "refuse", store: Any = None, **answers: Any) -> None:
        self.end()
        self.connections: list[tuple[ScriptedPeer, MemoryConnection]] = []
        self.events = RecordingEvents(**answers)
        configuration = Configuration(
            memoryBudget=budget, memoryOverflow=MemoryOverflow(overflow), maximumAssociations=1000
        )
        self.listener = ListenerInMemory(self.events, store, configuration, storeDirectory=tempfile.gettempdir())
        self.acceptor = self.listener.acceptor
        self.memory = self.acceptor.memory

    def tearDown(self) -> None:
        self.end()
        gc.collect()

    def end(self) -> None:
        """Stop the listener, where there is one, and see that nothing is left."""
        if self.acceptor is None:
            return
        stopping = self.acceptor.stopService()
        self.listener.clock.advance(30)
        self.pump()
        self.successResultOf(stopping)
        for peer, _ in self.connections:
            self.assertIsNotNone(peer.lost)
        self.assertEqual(self.listener.clock.getDelayedCalls(), [])
        self.assertEqual((self.memory.bytesHeld, self.memory.bytesSpilled, self.memory.untaken), (0, 0, 0))
        self.assertEqual(self.memory.spillSpace.files, 0)

    def pump(self) -> None:
        for _, connection in self.connections:
            connection.pump()

    def advance(self, seconds: int) -> None:
        """Let time pass, and happen what is due."""
        for _ in range(seconds):
            self.listener.clock.advance(1)
            self.pump()

    def associate(self, callingAETitle: str = "PEER") -> tuple[ScriptedPeer, IAssociation]:
        before = set(self.acceptor.associations)
        peer, connection = self.listener.associate(callingAETitle=callingAETitle)
        self.connections.append((peer, connection))
        (association,) = set(self.acceptor.associations) - before
        return peer, association

    def send(self, peer: ScriptedPeer, uid: str, size: int = 100) -> int:
        """Send an object; return what it was answered with."""
        peer.store(dataSet(uid, size), uid)
        self.pump()
        return peer.statuses[-1]

    def part(self, peer: ScriptedPeer, data: bytes, uid: str = "1.2.3") -> None:
        """Send a command, and the first part of its data set."""
        peer.send(storeCommand(uid))
        self.rest(peer, data, 0)

    def rest(self, peer: ScriptedPeer, data: bytes, control: int = 2) -> None:
        """Send more of a data set, and that it is all."""
        peer.send(pData(3, control, data))
        self.pump()

    def release(self, peer: ScriptedPeer) -> None:
        peer.release()
        self.pump()
        self.assertTrue(peer.released)


class EnableTests(InMemoryTestCase):
    """EnableInMemoryStorageSCP: what OnStoreSetup leaves to the acceptor."""

    def test_default(self) -> None:
        acceptor = DCXACC([], reactor=Clock())
        self.assertIs(acceptor.EnableInMemoryStorageSCP, False)
        self.listen()

    def test_atAnyTime(self) -> None:
        """It goes for what comes from then on."""
        store = FakeStore()
        self.listen(store=store)
        peer, _ = self.associate()
        for number, enabled in enumerate((False, True, True, False, True)):
            self.acceptor.EnableInMemoryStorageSCP = enabled
            self.assertIs(self.acceptor.EnableInMemoryStorageSCP, enabled)
            self.assertEqual(self.send(peer, f"1.{number}"), 0)
        self.assertEqual([uidOf(taken) for taken in iter(self.acceptor.TakeStoredObject, None)], ["1.1", "1.2", "1.4"])
        self.assertEqual([request.SOPInstanceUID for _, request in store.opened], ["1.0", "1.3"])

    def test_announcedBefore(self) -> None:
        """An object that was announced is not moved."""
        store = FakeStore()
        self.listen(store=store)
        peer, _ = self.associate()
        data = dataSet()
        self.part(peer, data[:50])
        self.acceptor.EnableInMemoryStorageSCP = True
        self.rest(peer, data[50:])
        self.assertEqual((peer.statuses, store.sinks[0].data), ([0], data))
        self.assertIsNone(self.acceptor.TakeStoredObject())

    def test_oneObject(self) -> None:
        """IN_MEMORY is for one object, whatever goes for the rest."""
        store = FakeStore()
        self.listen(store=store, OnStoreSetup=lambda filename, request: IN_MEMORY if "7" in filename else "")
        peer, _ = self.associate()
        for uid in ("1.7", "1.8"):
            self.assertEqual(self.send(peer, uid), 0)
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.7")
        self.assertEqual([request.SOPInstanceUID for _, request in store.opened], ["1.8"])

    def test_givenStore(self) -> None:
        """A memory store that was given is the acceptor's own, and keeps at the stop what it has."""
        store = MemoryStore()
        self.listen(store=store)
        self.assertIs(self.acceptor.memory, store)
        self.assertIs(self.acceptor.EnableInMemoryStorageSCP, True)
        peer, association = self.associate()
        for number in range(4):
            self.assertEqual(self.send(peer, f"1.{number}"), 0)
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.0")
        self.assertEqual(uidOf(association.TakeStoredObject()), "1.1")
        self.assertEqual(uidOf(store.take()), "1.2")
        stopping = self.acceptor.stopService()
        self.pump()
        self.advance(30)
        self.successResultOf(stopping)
        self.assertEqual(uidOf(store.take()), "1.3")

    def test_configured(self) -> None:
        """What does not fit is dealt with as the settings say."""
        self.listen(1234, "wait")
        self.assertIs(self.memory.overflow, MemoryOverflow.WAIT)
        acceptor = DCXACC([], configuration=Configuration(), reactor=Clock())
        self.assertIs(acceptor.memory.overflow, MemoryOverflow.SPILL)


class TakeTests(InMemoryTestCase):
    """TakeStoredObject, of the acceptor and of associations."""

    def test_interface(self) -> None:
        self.listen()
        verifyObject(IAssociation, self.associate()[1])
        self.assertIsNone(StoreAssociation().TakeStoredObject())

    def test_order(self) -> None:
        """The oldest first: of all, or of one association."""
        self.listen()
        first, one = self.associate("ONE")
        second, two = self.associate("TWO")
        self.assertIsNone(self.acceptor.TakeStoredObject())
        for peer, uid in ((second, "2.1"), (first, "1.1"), (second, "2.2"), (first, "1.2"), (first, "1.3")):
            self.assertEqual(self.send(peer, uid), 0)
        self.assertEqual(uidOf(one.TakeStoredObject()), "1.1")
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "2.1")
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "2.2")
        self.assertIsNone(two.TakeStoredObject())
        self.assertEqual(uidOf(one.TakeStoredObject()), "1.2")
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.3")
        self.assertIsNone(one.TakeStoredObject())
        self.assertIsNone(self.acceptor.TakeStoredObject())

    def test_facts(self) -> None:
        """What is known of the request goes with the object."""
        self.listen()
        self.listener.clock.advance(17)
        peer, association = self.associate("CT1")
        peer.store(dataSet("1.2.3"), "1.2.3", messageID=9)
        self.pump()
        taken = association.TakeStoredObject()
        assert taken is not None
        verifyObject(IObjectInMemory, taken)
        self.assertEqual(
            (taken.callingAETitle, taken.calledAETitle, taken.callingHost, taken.messageID, taken.receivedAt),
            ("CT1", "DCXTWISTED", "127.0.0.1", 9, 17.0),
        )
        self.assertIs(taken.association, association)
        self.assertTrue(bytes(taken).endswith(dataSet("1.2.3")))
        self.assertEqual(taken.dataset().SOPInstanceUID, "1.2.3")

    def test_inOnStoreDone(self) -> None:
        """The object of the request can be taken there, and what is taken there is not there later."""
        taken = []

        def onStoreDone(filename: str, storage_status: bool, request: Any) -> bool:
            taken.append(uidOf(request.association.TakeStoredObject()))
            taken.append(uidOf(request.association.TakeStoredObject()))
            return True

        self.listen(OnStoreDone=onStoreDone)
        peer, _ = self.associate()
        for uid in ("1.1", "1.2"):
            self.assertEqual(self.send(peer, uid), 0)
        self.assertEqual(taken, ["1.1", "", "1.2", ""])
        self.assertEqual(self.memory.bytesHeld, 0)

    def test_notBefore(self) -> None:
        """An object that comes in still is nobody's."""
        self.listen()
        peer, association = self.associate()
        data = dataSet()
        self.part(peer, data)
        self.assertIsNone(association.TakeStoredObject())
        self.assertIsNone(self.acceptor.TakeStoredObject())
        self.assertEqual(self.memory.bytesHeld, BESIDE + len(data))
        self.rest(peer, b"")
        self.assertEqual(uidOf(association.TakeStoredObject()), "1.2.3")

    def test_refused(self) -> None:
        """What OnStoreDone refuses is gone, however it says so."""
        for answer in (False, 0xC123, StoreRefused(0xA700), ValueError()):
            self.listen(OnStoreDone=answer)
            peer, association = self.associate()
            self.assertNotEqual(self.send(peer, "1.2.3"), 0)
            self.assertIsNone(association.TakeStoredObject())
            self.assertEqual(self.memory.bytesHeld, 0)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_warned(self) -> None:
        """What is answered with a warning stays."""
        self.listen(OnStoreDone=0xB000)
        peer, association = self.associate()
        self.assertEqual(self.send(peer, "1.2.3"), 0xB000)
        self.assertEqual(uidOf(association.TakeStoredObject()), "1.2.3")

    def test_takenAndRefused(self) -> None:
        """It is its taker's."""
        taken: list[Any] = []

        def onStoreDone(filename: str, storage_status: bool, request: Any) -> bool:
            taken.append(request.association.TakeStoredObject())
            return False

        self.listen(OnStoreDone=onStoreDone)
        peer, _ = self.associate()
        self.assertEqual(self.send(peer, "1.2.3"), 0xC000)
        self.assertTrue(bytes(taken[0]).endswith(dataSet("1.2.3")))

    def test_takenWhileAsked(self) -> None:
        """While OnStoreDone thinks, the object is there for everybody; its refusal takes nothing else with it."""
        answer: Deferred[bool] = Deferred()
        self.listen(OnStoreDone=lambda filename, status, request: answer if "7" in request.SOPInstanceUID else True)
        first, one = self.associate()
        second, _ = self.associate()
        first.store(dataSet("1.7"), "1.7")
        self.assertEqual(self.send(second, "1.8"), 0)
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.7")
        answer.callback(False)
        self.pump()
        self.assertEqual(first.statuses, [0xC000])
        self.assertIsNone(one.TakeStoredObject())
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.8")

    def test_released(self) -> None:
        """What came on an association can be taken when that is over, from it and from the acceptor."""
        self.listen()
        peer, association = self.associate()
        for uid in ("1.1", "1.2", "1.3"):
            self.assertEqual(self.send(peer, uid), 0)
        self.release(peer)
        self.assertEqual(association.ended, "released")
        self.assertEqual(self.acceptor.associations, [])
        self.assertEqual(uidOf(association.TakeStoredObject()), "1.1")
        self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.2")
        self.assertEqual(uidOf(association.TakeStoredObject()), "1.3")
        self.assertIsNone(association.TakeStoredObject())

    def test_inOnAssocEnd(self) -> None:
        """All of an association at once, when it has ended."""
        taken: list[str] = []

        def onAssocEnd(association: Any, reason: str) -> None:
            taken.extend(uidOf(one) for one in iter(association.TakeStoredObject, None))

        for budget, overflow in ((1 << 30, "refuse"), (0, "spill")):
            self.listen(budget, overflow, OnAssocEnd=onAssocEnd)
            peer, _ = self.associate()
            for uid in ("1.1", "1.2"):
                self.assertEqual(self.send(peer, uid), 0)
            self.release(peer)
            self.assertEqual(taken, ["1.1", "1.2"])
            taken.clear()

    def test_abortInside(self) -> None:
        """Aborting in OnStoreDone changes nothing of what it answers."""
        for answer in (True, False):

            def onStoreDone(filename: str, status: bool, request: Any, answer: bool = answer) -> bool:
                request.association.abort()
                return answer

            self.listen(OnStoreDone=onStoreDone)
            peer, association = self.associate()
            peer.store(dataSet("1.2.3"), "1.2.3")
            self.pump()
            self.assertEqual((association.ended, peer.statuses), ("aborted", []))
            self.assertEqual(uidOf(association.TakeStoredObject()), "1.2.3" if answer else "")

    def test_lost(self) -> None:
        """A peer that goes in the middle leaves nothing behind, neither in memory nor in a file."""
        for budget, overflow in ((1 << 30, "refuse"), (BESIDE + 60, "spill"), (BESIDE + 100, "wait")):
            for go, reason in WAYS_TO_GO:
                self.listen(budget, overflow)
                peer, association = self.associate()
                self.part(peer, dataSet()[:50])
                self.rest(peer, dataSet()[50:100], 0)
                self.assertEqual(self.memory.bytesHeld, 0 if overflow == "spill" else BESIDE + 100)
                self.assertEqual(self.memory.bytesSpilled > 0, overflow == "spill")
                go(peer)
                self.pump()
                self.assertEqual(association.ended, reason)
                self.assertEqual((self.memory.bytesHeld, self.memory.bytesSpilled), (0, 0))
                self.assertEqual(self.memory.spillSpace.files, 0)


class SpillTests(InMemoryTestCase):
    """Beyond the budget, into files."""

    def test_bytes(self) -> None:
        """They read back as they came."""
        self.listen(BESIDE + 10_000, "spill")
        peer, association = self.associate()
        for number, size in enumerate((100, 9_000, 9_000, 300_000)):
            self.assertEqual(self.send(peer, f"1.{number}", size), 0)
        self.assertGreater(self.memory.bytesSpilled, 300_000)
        for number, size in enumerate((100, 9_000, 9_000, 300_000)):
            taken = association.TakeStoredObject()
            assert taken is not None
            data = dataSet(f"1.{number}", size)
            self.assertEqual(taken.data[-len(data) :], data)
            self.assertEqual(len(taken), BESIDE - PER_OBJECT - len("1.2.3\0") + len("1.0\0") + len(data))
            self.assertEqual(taken.dataset().SOPInstanceUID, f"1.{number}")

    def test_stop(self) -> None:
        """What nobody took is dropped when the listener stops, and the log tells how much; whoever waits is before."""
        self.listen(0, "spill")
        before = openDescriptors()
        peer, _ = self.associate()
        for number in range(4):
            self.assertEqual(self.send(peer, f"1.{number}"), 0)
        self.assertEqual(len(openDescriptors()), len(before) + 4)
        taken = []

        def stopped(ignored: None) -> None:
            taken.append(uidOf(self.acceptor.TakeStoredObject()))

        stopping = self.acceptor.stopService().addCallback(stopped)
        with capturedLogs() as logs:
            self.advance(30)
        self.successResultOf(stopping)
        self.assertEqual(taken, ["1.0"])
        lines = [formatEvent(event) for event in logs if event["log_namespace"] == "dcxtwisted.acceptor"]
        self.assertEqual(lines, ["dropped 3 objects in memory that nobody took"])
        self.assertEqual(openDescriptors(), before)
        self.assertIsNone(self.acceptor.TakeStoredObject())

    def test_stopWithNothing(self) -> None:
        self.listen()
        with capturedLogs() as logs:
            self.successResultOf(self.acceptor.stopService())
        self.assertEqual([event for event in logs if event["log_namespace"] == "dcxtwisted.acceptor"], [])


class WaitTests(InMemoryTestCase):
    """Beyond the budget, the sender waits."""

    def sizeOf(self, *sizes: int) -> int:
        """Return what objects with private values of so many bytes count."""
        return sum(BESIDE + len(dataSet("1.2.3", size)) for size in sizes)

    def test_held(self) -> None:
        """As long as it takes: deadlines stand still, others are served, and when there is room it goes on."""
        self.listen(self.sizeOf(50_000, 20_000), "wait")
        peer, association = self.associate()
        self.assertEqual(self.send(peer, "1.2.1", 50_000), 0)
        peer.store(dataSet("1.2.2", 50_000), "1.2.2")
        self.pump()
        other, _ = self.associate()
        self.advance(290)
        self.assertEqual(peer.statuses, [0])
        other.echo()
        self.pump()
        self.assertEqual(other.statuses, [0])
        self.assertEqual(uidOf(association.TakeStoredObject()), "1.2.1")
        self.assertEqual(peer.statuses, [0])
        self.pump()
        self.assertEqual(peer.statuses, [0, 0])
        taken = association.TakeStoredObject()
        assert taken is not None
        self.assertTrue(bytes(taken).endswith(dataSet("1.2.2", 50_000)))
        self.assertEqual(self.send(peer, "1.2.3", 60_000), 0)

    def test_notForEver(self) -> None:
        """Where nothing is taken the object is refused, and the association lives on."""
        self.listen(self.sizeOf(50_000, 20_000), "wait")
        peer, association = self.associate()
        self.assertEqual(self.send(peer, "1.2.1", 50_000), 0)
        peer.store(dataSet("1.2.2", 50_000), "1.2.2")
        self.advance(299)
        self.assertEqual(peer.statuses, [0])
        with logged() as lines:
            self.advance(2)
        self.assertEqual(peer.statuses, [0, 0xA700])
        # It is not the store that was slow.
        untaken = "the objects in memory were not taken in time"
        self.assertEqual(comment(peer.received[-1]), untaken)
        refused = f"object '1.2.2' refused with A700 ('{untaken}') for <Association from 'PEER' at 127.0.0.1>"
        self.assertEqual(lines, [refused])
        self.assertEqual(self.memory.bytesHeld, self.sizeOf(50_000))
        self.assertEqual(association.ended, "")
        association.TakeStoredObject()
        self.assertEqual(self.send(peer, "1.2.3", 50_000), 0)

    def test_goneWhileItWaits(self) -> None:
        """A peer that goes is seen at once, and what it held is another's at once."""
        for go, reason in WAYS_TO_GO:
            self.listen(self.sizeOf(1000, 1000), "wait")
            first, one = self.associate()
            second, _ = self.associate()
            data = dataSet("1.2.3", 1000)
            self.assertEqual(self.send(first, "1.2.0", 800), 0)
            self.part(first, data[:900])
            self.part(second, data[:200])
            self.rest(second, data[200:600], 0)
            self.rest(first, data[900:950], 0)
            self.assertGreater(self.memory.bytesHeld, self.sizeOf(1000, 1000) - BESIDE)
            go(first)
            self.pump()
            self.assertEqual(one.ended, reason)
            self.rest(second, data[600:])
            self.assertEqual(second.statuses, [0])
            self.assertEqual(uidOf(one.TakeStoredObject()), "1.2.0")
            self.assertEqual(uidOf(self.acceptor.TakeStoredObject()), "1.2.3")

    def test_allHalfReceived(self) -> None:
        """Two that hold all there is and want more: the one that came last is refused at once, the other goes on."""
        self.listen(self.sizeOf(1000) + BESIDE + 500, "wait")
        first, _ = self.associate()
        second, _ = self.associate()
        data = dataSet("1.2.3", 1000)
        self.part(first, data[:700])
        self.part(second, data[:600])
        self.rest(second, data[600:])
        self.assertEqual((first.statuses, second.statuses), ([], []))
        self.rest(first, data[700:])
        self.pump()
        self.assertEqual((first.statuses, second.statuses), ([0], [0xA700]))
        self.assertEqual(comment(second.received[-1]), "memory budget exhausted")
        self.assertEqual(self.memory.untaken, 1)
        self.acceptor.TakeStoredObject()
        self.assertEqual(self.send(second, "1.2.3", 1000), 0)

    def test_tooLarge(self) -> None:
        """What can never fit is refused, and keeps nobody waiting."""
        self.listen(self.sizeOf(50_000), "wait")
        peer, _ = self.associate()
        self.assertEqual(self.send(peer, "1.2.3", 50_001), 0xA700)
        self.assertEqual(comment(peer.received[-1]), "object larger than the memory budget")
        self.assertEqual(self.send(peer, "1.2.3", 50_000), 0)

    def test_takenInOnStoreDone(self) -> None:
        """What one takes lets the next go on, but not within its event."""
        inside = []
        depth = [0]

        def onStoreDone(filename: str, status: bool, request: Any) -> bool:
            depth[0] += 1
            inside.append(depth[0])
            request.association.TakeStoredObject()
            depth[0] -= 1
            return True

        self.listen(self.sizeOf(1000), "wait", OnStoreDone=onStoreDone)
        peers = [self.associate()[0] for _ in range(4)]
        data = dataSet("1.2.3", 1000)
        self.part(peers[0], data[:900])
        for peer in peers[1:]:
            peer.store(data, "1.2.3")
        self.pump()
        self.assertEqual(inside, [])
        self.rest(peers[0], data[900:])
        self.pump()
        self.assertEqual([peer.statuses for peer in peers], [[0]] * 4)
        self.assertEqual(inside, [1, 1, 1, 1])

    def test_stop(self) -> None:
        """A stop leaves those who wait their time, then ends them."""
        self.listen(self.sizeOf(1000), "wait")
        peer, association = self.associate()
        self.assertEqual(self.send(peer, "1.2.3", 1000), 0)
        peer.store(dataSet("1.2.3", 1000), "1.2.3")
        self.pump()
        stopping = self.acceptor.stopService()
        self.advance(29)
        self.assertNoResult(stopping)
        self.advance(1)
        self.successResultOf(stopping)
        self.assertEqual(association.ended, "aborted")

    def test_takenInTheStop(self) -> None:
        self.listen(self.sizeOf(1000), "wait")
        peer, association = self.associate()
        self.assertEqual(self.send(peer, "1.2.3", 1000), 0)
        peer.store(dataSet("1.2.3", 1000), "1.2.3")
        self.pump()
        stopping = self.acceptor.stopService()
        association.TakeStoredObject()
        self.pump()
        self.advance(1)
        self.successResultOf(stopping)
        self.assertEqual(peer.statuses, [0, 0])
