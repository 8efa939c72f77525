"""
Events, participants and stores that do not answer in time: what the sender is told, and that nothing is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from dcxtwisted.configuration import Configuration
from dcxtwisted.dataset import DataSetReader, Head
from dcxtwisted.interfaces import Outcome, StoredObject
from dcxtwisted.testing import MemoryConnection, RecordingEvents, ScriptedPeer
from tests.services.support import (
    DATA,
    EXPLICIT,
    STORAGE_CONTEXT,
    FakeParticipant,
    FakeSink,
    ServiceTestCase,
    comment,
    dataSet,
    storeCommand,
)
from tests.support import pData

TOO_LONG = ([0xA700], "took too long")


class LateTestCase(ServiceTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.waiting: Deferred[Any] = self.later()

    def later(self) -> Deferred[Any]:
        """Return a Deferred that writes it into the log when it is cancelled."""
        return Deferred(lambda deferred: self.log.append("cancelled"))

    def stubborn(self) -> Iterator[Any]:
        """Yield what an event may wait in: for each, a callable that gives it, and one that has it go on at last."""
        waiting = self.later()
        yield lambda *args: waiting, lambda: None
        for answer in (None, True, "/anywhere/1.dcm", FakeSink(self.log), ValueError("no")):
            waiting, more = self.later(), Deferred[None]()

            async def event(
                *args: object, waiting: Deferred[Any] = waiting, more: Deferred[None] = more, answer: object = answer
            ) -> object:
                try:
                    await waiting
                except BaseException:
                    await more
                if isinstance(answer, BaseException):
                    raise answer
                return answer

            def goOn(more: Deferred[None] = more) -> None:
                more.callback(None)

            yield event, goOn

    def advance(self, connection: MemoryConnection, seconds: float) -> None:
        """Let time pass, and then everything happen that is due."""
        self.listener.clock.advance(seconds)
        connection.pump()

    def assertPasses(self, connection: MemoryConnection, peer: ScriptedPeer, seconds: float) -> None:
        """Fail unless a deadline ends a wait after so many seconds, and not before."""
        self.advance(connection, seconds - 0.1)
        before = list(self.log)
        self.assertNotIn("cancelled", before)
        self.assertEqual(peer.statuses, [])
        self.advance(connection, 0.1)
        self.assertEqual(self.log[: len(before) + 1], [*before, "cancelled"])

    def assertTold(self, peer: ScriptedPeer, statuses: list[int], said: str = "") -> None:
        """Fail unless these are the statuses that the peer was told, the last with this comment."""
        self.assertEqual((peer.statuses, comment(peer.received[-1])), (statuses, said))

    def assertStoresNext(self, connection: MemoryConnection, peer: ScriptedPeer, events: RecordingEvents) -> None:
        """Fail unless the association goes on, where events answer at once."""
        events.answers.clear()
        del peer.received[1:]
        stored = self.associationOf(peer).objectsStored
        self.send(connection, peer, messageID=99)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.associationOf(peer).objectsStored, stored + 1)


class LateEventTests(LateTestCase):
    def test_OnStoreSetup(self) -> None:
        """Refused when its data set has passed, of which nothing is kept; what is answered later opens nothing."""
        for event, goOn in self.stubborn():
            events = self.events(OnStoreSetup=event)
            store, files = self.store(), self.store()
            peer, connection = self.listen(events, store, files)
            self.command(connection, peer, storeCommand())
            self.assertPasses(connection, peer, 60)
            self.assertEqual((self.log, peer.statuses), (["OnStoreSetup", "cancelled"], []))
            self.data(connection, peer)
            self.assertTold(peer, *TOO_LONG)
            self.assertLogged("setting up an object: no answer within 60 s")
            self.assertEqual(self.associationOf(peer).objectsRefused, 1)
            goOn()
            connection.pump()
            self.assertEqual(self.log, ["OnStoreSetup", "cancelled"])
            self.assertEqual((store.opened, files.opened), ([], []))
            self.assertStoresNext(connection, peer, events)
            self.logged.clear()
        self.assertFailuresLogged(ValueError)

    def test_OnStoreSetupWhileTheDataWaits(self) -> None:
        """What was sent already is drained, and what is behind it is served."""
        events = self.events(OnStoreSetup=self.waiting)
        peer, connection = self.listen(events)
        peer.store(DATA, "1.2.3", maximumLength=500)
        peer.echo(2)
        connection.pump()
        self.assertPasses(connection, peer, 60)
        self.assertEqual(peer.statuses, [0xA700, 0])
        self.assertEqual(self.log, ["OnStoreSetup", "cancelled", "OnEcho"])
        self.assertStoresNext(connection, peer, events)

    def test_OnStoreSetupInTime(self) -> None:
        peer, connection = self.listen(self.events(OnStoreSetup=self.waiting))
        self.send(connection, peer)
        self.advance(connection, 59.9)
        self.waiting.callback(None)
        connection.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "finish", "OnStoreDone", "keep"])

    def test_OnStoreDone(self) -> None:
        """The object is removed before the sender is told; what is answered later changes nothing."""
        for event, goOn in self.stubborn():
            events = self.events(OnStoreDone=event)
            removing: Deferred[None] = Deferred()
            peer, connection = self.listen(events, self.store(sink={"abort": removing}))
            self.send(connection, peer)
            self.assertPasses(connection, peer, 60)
            self.assertEqual(self.log[3:], ["finish", "OnStoreDone", "cancelled", "abort"])
            self.assertEqual(peer.statuses, [])
            removing.callback(None)
            connection.pump()
            self.assertTold(peer, *TOO_LONG)
            self.assertLogged("OnStoreDone: no answer within 60 s")
            (association, request) = self.associationOf(peer), events.calls[-1][1][2]
            self.assertEqual((association.objectsStored, association.objectsRefused, request.stored), (0, 1, None))
            goOn()
            connection.pump()
            self.assertEqual(self.log[7:], [])
            self.assertTold(peer, *TOO_LONG)
            self.assertStoresNext(connection, peer, events)
            self.logged.clear()
        self.assertFailuresLogged(ValueError)

    def test_OnStoreDoneOfAFailure(self) -> None:
        """Its answer would have been ignored: the sender is told what was wrong with the object."""
        for event, goOn in self.stubborn():
            events = self.events(OnStoreDone=event)
            peer, connection = self.listen(events)
            self.send(connection, peer, dataSet("1.2.4"))
            self.assertPasses(connection, peer, 60)
            self.assertTold(peer, [0xA900], "SOP instance is not the command's")
            self.assertEqual(self.log[3:], ["abort", "OnStoreDone", "cancelled"])
            self.assertLogged("OnStoreDone did not answer within 60 s")
            goOn()
            self.assertStoresNext(connection, peer, events)
            self.logged.clear()
        self.assertFailuresLogged(ValueError)

    def test_OnEcho(self) -> None:
        """Its answer is waited for, and says nothing."""
        for event, goOn in self.stubborn():
            events = self.events(OnEcho=event)
            peer, connection = self.listen(events)
            peer.echo()
            connection.pump()
            self.assertPasses(connection, peer, 60)
            self.assertEqual(peer.statuses, [0])
            self.assertLogged("OnEcho did not answer within 60 s")
            goOn()
            connection.pump()
            self.assertStoresNext(connection, peer, events)
            self.logged.clear()
        self.assertFailuresLogged(ValueError)

    def test_participant(self) -> None:
        """What comes behind is not told; the object goes, and OnStoreDone hears that it did."""
        for event, goOn in self.stubborn():
            events = self.events()
            first = FakeParticipant(self.log, "first")
            first.stored = event  # type: ignore[method-assign]  # it answers what an event would
            peer, connection = self.listen(events, participants=[first, FakeParticipant(self.log, "second")])
            self.send(connection, peer)
            self.assertPasses(connection, peer, 60)
            self.assertEqual(self.log[3:], ["finish", "cancelled", "abort", "OnStoreDone"])
            self.assertEqual(events.calls[-1][1][:2], ("", False))
            self.assertTold(peer, *TOO_LONG)
            self.assertLogged("a participant: no answer within 60 s")
            goOn()
            connection.pump()
            self.assertEqual(self.log[7:], [])
            self.assertTold(peer, *TOO_LONG)
            self.logged.clear()
        self.assertFailuresLogged(ValueError)

    def test_eachHasItsOwn(self) -> None:
        """Four who take 50 s each are none of them late."""
        waiting = [self.later() for _ in range(4)]
        participants = [FakeParticipant(self.log, f"{number}", waiting[number]) for number in (1, 2)]
        events = self.events(OnStoreSetup=waiting[0], OnStoreDone=waiting[3])
        peer, connection = self.listen(events, participants=participants)
        self.send(connection, peer)
        for deferred in waiting:
            self.advance(connection, 50)
            self.assertEqual(peer.statuses, [])
            deferred.callback(None)
            connection.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.log[-4:], ["1", "2", "OnStoreDone", "keep"])

    def test_afterTheEnd(self) -> None:
        """The peer is gone: OnAssocEnd waits no longer for it than the deadline."""
        for name in ("OnStoreDone", "OnEcho"):
            self.waiting = self.later()
            events = self.events(**{name: self.waiting})
            peer, connection = self.listen(events)
            self.send(connection, peer)
            peer.echo()
            connection.pump()
            peer.abort()
            connection.pump()
            self.assertNotIn("OnAssocEnd", self.log)
            self.advance(connection, 59.9)
            self.assertNotIn("OnAssocEnd", self.log)
            self.advance(connection, 0.1)
            self.assertEqual(self.log[-1], "OnAssocEnd")
            self.assertIn("cancelled", self.log)
            self.assertEqual(self.listener.clock.getDelayedCalls(), [])

    def test_configured(self) -> None:
        for name in ("OnStoreSetup", "OnStoreDone"):
            self.waiting = self.later()
            events = self.events(**{name: self.waiting})
            peer, connection = self.listen(events, configuration=Configuration(eventDeadline=7))
            self.send(connection, peer)
            self.assertPasses(connection, peer, 7)
            self.assertTold(peer, *TOO_LONG)
            self.assertLogged("no answer within 7 s")
            self.logged.clear()
        self.waiting = self.later()
        peer, connection = self.listen(self.events(OnEcho=self.waiting), configuration=Configuration(eventDeadline=0.5))
        peer.echo()
        connection.pump()
        self.assertPasses(connection, peer, 0.5)
        self.assertLogged("OnEcho did not answer within 0.5 s")


class LateStoreTests(LateTestCase):
    def test_open(self) -> None:
        """Cancelled, for the store to clear up behind itself; the sink that comes all the same is not written to."""
        for configuration, seconds in ((None, 300.0), (Configuration(storeDeadline=7), 7.0)):
            self.waiting = self.later()
            events = self.events()
            peer, connection = self.listen(events, self.store(open=self.waiting), configuration=configuration)
            peer.store(DATA, "1.2.3")
            connection.pump()
            self.assertPasses(connection, peer, seconds)
            self.assertEqual(self.log, ["OnStoreSetup", "open", "cancelled", "OnStoreDone"])
            self.assertTold(peer, *TOO_LONG)
            self.assertLogged(f"setting up an object: no answer within {seconds:g} s")
            self.logged.clear()

    def test_openBehindALateAnswer(self) -> None:
        """The store's deadline begins when the store is asked."""
        asked = self.later()
        peer, connection = self.listen(self.events(OnStoreSetup=asked), self.store(open=self.waiting))
        self.send(connection, peer)
        self.advance(connection, 59)
        asked.callback(None)
        connection.pump()
        self.assertPasses(connection, peer, 300)
        self.assertTold(peer, *TOO_LONG)

    def test_write(self) -> None:
        """What the sink holds is freed at once; the rest of the data set is drained, and then answered."""
        answers: list[Any] = [self.waiting]
        events = self.events()
        peer, connection = self.listen(events, self.store(sink={"write": lambda view: answers.pop()}))
        self.command(connection, peer, storeCommand())
        first, rest = DATA[:500], DATA[500:]
        peer.send(pData(STORAGE_CONTEXT, 0, first))
        connection.pump()
        self.assertPasses(connection, peer, 300)
        self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "cancelled", "abort"])
        peer.send(pData(STORAGE_CONTEXT, 2, rest))
        connection.pump()
        self.assertEqual(self.log[5:], ["OnStoreDone"])
        self.assertTold(peer, *TOO_LONG)
        self.assertLogged("the store: no answer within 300 s")
        self.assertEqual(self.listener.clock.getDelayedCalls()[1:], [])

    def test_writeOfTheLastPiece(self) -> None:
        peer, connection = self.listen(self.events(), self.store(sink={"write": self.waiting}))
        self.send(connection, peer)
        self.assertPasses(connection, peer, 300)
        self.assertEqual(self.log[2:], ["write", "cancelled", "abort", "OnStoreDone"])
        self.assertTold(peer, *TOO_LONG)

    def test_finish(self) -> None:
        """What it made by then or makes later is removed: that is asked for behind it."""
        for event, goOn in self.stubborn():
            finishes: list[Any] = [event]

            def finish(head: Head, finishes: list[Any] = finishes) -> Any:
                # Only the first is late.
                return maybeDeferred(finishes.pop()) if finishes else storedObject()

            events = self.events()
            peer, connection = self.listen(events, self.store(sink={"finish": finish}))
            self.send(connection, peer)
            self.assertPasses(connection, peer, 300)
            self.assertEqual(self.log[3:], ["finish", "cancelled", "abort", "OnStoreDone"])
            self.assertEqual(events.calls[-1][1][:2], ("", False))
            self.assertTold(peer, *TOO_LONG)
            self.assertLogged("the store: no answer within 300 s")
            goOn()
            connection.pump()
            self.assertEqual(self.log[7:], [])
            self.assertStoresNext(connection, peer, events)
            self.logged.clear()
        self.assertFailuresLogged(ValueError)

    def test_abort(self) -> None:
        """The sender is told, and the association goes on, whatever becomes of it."""
        events = self.events(OnStoreDone=False)
        peer, connection = self.listen(events, self.store(sink={"abort": self.waiting}))
        self.send(connection, peer)
        self.assertEqual(self.log[3:], ["finish", "OnStoreDone", "abort"])
        self.assertPasses(connection, peer, 300)
        self.assertTold(peer, [0xC000])
        self.assertLogged("clearing up after an object: no answer within 300 s")
        self.assertEqual(self.log[6:], ["cancelled"])

    def test_everythingIsLate(self) -> None:
        """One deadline after the other, and then the sender is told."""
        waiting = [self.later() for _ in range(3)]
        events = self.events(OnStoreDone=waiting[2])
        peer, connection = self.listen(events, self.store(sink={"finish": waiting[0], "abort": waiting[1]}))
        self.send(connection, peer)
        for seconds in (300, 300, 60):
            self.assertEqual(peer.statuses, [])
            self.advance(connection, seconds)
        self.assertTold(peer, *TOO_LONG)
        self.assertEqual(self.log[3:], ["finish", "cancelled", "abort", "cancelled", "OnStoreDone", "cancelled"])

    def test_lostMeanwhile(self) -> None:
        """The peer is gone, and the store does not answer: the end is told all the same."""
        for stage in ("open", "write", "finish", "abort"):
            sink = {stage: self.later()} if stage != "open" else {}
            store = self.store(sink=sink, **({"open": self.later()} if stage == "open" else {}))
            peer, connection = self.listen(self.events(OnStoreDone=False), store)
            self.send(connection, peer)
            peer.abort()
            connection.pump()
            self.advance(connection, 300)
            self.assertEqual(self.log[-1], "OnAssocEnd", stage)
            self.assertEqual(self.log.count("OnAssocEnd"), 1)
            self.assertEqual(self.log.count("cancelled"), 1)
            self.assertEqual(self.listener.clock.getDelayedCalls(), [])

    def test_inTime(self) -> None:
        """However long it takes in all."""
        writing = [self.later() for _ in range(4)]
        answers = list(writing)
        finishing = self.later()
        store = self.store(sink={"write": lambda view: answers.pop(0), "finish": finishing})
        peer, connection = self.listen(self.events(), store)
        self.send(connection, peer, maximumLength=len(DATA) // 4 + 10)
        for deferred in writing:
            self.advance(connection, 299)
            deferred.callback(None)
            connection.pump()
        self.advance(connection, 299)
        self.assertNotIn("cancelled", self.log)
        finishing.callback(storedObject())
        connection.pump()
        self.assertEqual(peer.statuses, [0])


def storedObject() -> StoredObject:
    """Return what a sink finishes with."""
    return StoredObject("/fake/1.dcm", len(DATA), DataSetReader(EXPLICIT).finish(), Outcome.NEW)
