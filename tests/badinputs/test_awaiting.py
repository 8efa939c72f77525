"""
What a peer does while something is awaited for it, and after it was told to go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from dcxtwisted.stores.file import FileStore
from tests.badinputs.inputs import (
    ABORT,
    IMPLEMENTATION,
    INSTANCE,
    MAXIMUM_LENGTH,
    RELEASE_RQ,
    RQ,
    data,
    dataSet,
    echoRQ,
    fixedFields,
    item,
    pData,
    pdv,
    request,
    store,
    storeRQ,
)
from tests.badinputs.oracle import Attack, BadInputTestCase
from tests.badinputs.peers import WHOLE
from tests.stores.filestores import ManualPool

#: How a peer goes, and what OnAssocEnd is told.
WAYS_TO_GO: tuple[tuple[Callable[[Attack], object], str], ...] = (
    (lambda attack: attack.send(ABORT), "aborted"),
    (lambda attack: attack.client.loseConnection(), "lost"),
    (lambda attack: attack.client.loseWriteConnection(), "lost"),
    (lambda attack: attack.client.abortConnection(), "lost"),
)

#: What an asynchronous requestor proposes: eight operations outstanding.
ASYNCHRONOUS = request(user=MAXIMUM_LENGTH + IMPLEMENTATION + item(0x53, bytes((0, 8, 0, 1))))


class Held:
    """Deferreds that a test fires: one for each call, unless cancelled."""

    def __init__(self) -> None:
        self.deferreds: list[Deferred[Any]] = []

    def __call__(self, *args: object) -> Deferred[Any]:
        self.deferreds.append(Deferred())
        return self.deferreds[-1]

    def fire(self, answer: object, attack: Attack) -> None:
        """Answer all that still wait, those included that come of it."""
        while waiting := [deferred for deferred in self.deferreds if not deferred.called]:
            waiting[0].callback(answer)
            attack.pump()


class SlowDisk:
    """A store whose disk works when the test says so; the bad peer's objects go there."""

    def __init__(self, attack: Attack) -> None:
        self.pool = ManualPool()
        self.store: FileStore = attack.fileStore("store/slow", durable=True, inPool=self.pool)
        self.pool.runAll()  # what a start leaves to do
        attack.events.answers["OnStoreSetup"] = lambda filename, request: self.store.open(request)


class GoneWhileAwaitedTests(BadInputTestCase):
    """The end is seen at once, nothing is written any more, no working file stays, and OnAssocEnd comes once."""

    def assertGone(
        self,
        begin: Callable[[Attack], Callable[[], object]],
        stored: bool = False,
        accepted: bool = True,
    ) -> None:
        """
        Assert what a peer leaves that goes, in whatever way.

        :param begin: does what is waited for; returns what lets it go on, after the peer went.
        :param stored: the object is whole, and stays.
        """
        for go, reason in WAYS_TO_GO:

            def script(attack: Attack, go: Callable[[Attack], object] = go, reason: str = reason) -> None:
                goOn = begin(attack)
                before = attack.reactions
                assert not attack.isOver, "over already"
                attack.canary.sing()
                go(attack)
                attack.pump()
                attack.expectClosed()
                goOn()
                attack.pump()
                attack.expect(*before)
                assert attack.ends == [reason] * accepted, attack.ends
                if stored:
                    attack.objects[INSTANCE] = dataSet()
                assert not [name for name in attack.files if "incoming" in name], attack.files

            self.eachWay(script)

    def test_OnConnection(self) -> None:
        def begin(attack: Attack) -> Callable[[], object]:
            held = attack.events.answers["OnConnection"] = Held()
            attack.connect()
            attack.send(RQ)
            attack.expect()
            return lambda: self.assertTrue(held.deferreds[0].called, "not cancelled")

        self.assertGone(begin, accepted=False)

    def test_OnStoreSetup(self) -> None:
        def begin(attack: Attack) -> Callable[[], object]:
            held = attack.events.answers["OnStoreSetup"] = Held()
            attack.associate()
            attack.send(storeRQ())
            return lambda: self.assertTrue(held.deferreds[0].called, "not cancelled")

        self.assertGone(begin)

    def test_dataSet(self) -> None:
        """The peer itself is awaited, with half an object on the disk."""

        def begin(attack: Attack) -> Callable[[], object]:
            attack.associate()
            attack.send(storeRQ() + pData(pdv(3, 0, dataSet()[:-7])))
            return lambda: None

        self.assertGone(begin)

    def test_fsync(self) -> None:
        """The object is whole already: it is published, and nobody is told."""

        def begin(attack: Attack) -> Callable[[], object]:
            disk = SlowDisk(attack)
            attack.associate()
            attack.send(store())
            self.assertEqual(len(disk.pool.jobs), 1)
            self.assertEqual(attack.files, [])
            return disk.pool.runAll

        self.assertGone(begin, stored=True)

    def test_OnStoreDone(self) -> None:
        def begin(attack: Attack) -> Callable[[], object]:
            held = attack.events.answers["OnStoreDone"] = Held()
            attack.associate()
            attack.send(store())
            return lambda: held.fire(True, attack)

        self.assertGone(begin, stored=True)

    def test_OnStoreDoneThatRefuses(self) -> None:
        """The name goes again, although nobody is told."""

        def begin(attack: Attack) -> Callable[[], object]:
            held = attack.events.answers["OnStoreDone"] = Held()
            attack.associate()
            attack.send(store())
            self.assertEqual([os.path.basename(name) for name in attack.files], [f"{INSTANCE}.dcm"])
            return lambda: held.fire(False, attack)

        self.assertGone(begin)

    def test_OnEcho(self) -> None:
        def begin(attack: Attack) -> Callable[[], object]:
            held = attack.events.answers["OnEcho"] = Held()
            attack.associate()
            attack.send(echoRQ())
            return lambda: held.fire(None, attack)

        self.assertGone(begin)


class FloodWhileAwaitedTests(BadInputTestCase):
    """A peer that goes on sending while it is to wait: reading pauses, what is held is bounded."""

    def test_OnStoreSetup(self) -> None:
        def script(attack: Attack) -> None:
            held = attack.events.answers["OnStoreSetup"] = Held()
            attack.associate()
            attack.send(storeRQ(), *[pData(pdv(3, 0, bytes(65536)))] * 50)
            self.assertTrue(attack.server.paused)
            self.assertGreater(len(attack.client.unsent), 2_500_000)
            attack.canary.sing()
            attack.client.abortConnection()
            attack.pump()
            assert not attack.isOver, "a paused transport tells of the end only when it is read from"
            held.fire(None, attack)
            attack.expectClosed()

        self.eachWay(script, [WHOLE])


class EventDeadlineTests(BadInputTestCase):
    """Events that never answer."""

    def test_OnConnection(self) -> None:
        def script(attack: Attack) -> None:
            held = attack.events.answers["OnConnection"] = Held()
            attack.connect()
            attack.send(RQ)
            attack.advance(14)
            attack.expect()
            attack.advance(1)
            attack.expect("RJ 2/1/1")
            self.assertTrue(held.deferreds[0].called, "not cancelled")
            attack.maximumLines = 2  # and one that the event was late
            attack.expectClosedAtARTIM()

        self.eachWay(script, settings={"connectionEventDeadline": 15})

    def assertRefused(self, event: str) -> None:
        """Assert that a store is refused whose event is late, and that the association lives on."""

        def script(attack: Attack) -> None:
            held = attack.events.answers[event] = Held()
            attack.associate()
            attack.send(store())
            attack.advance(59)
            attack.expect("AC")
            attack.advance(1)
            attack.expect("AC", "RSP A700")
            self.assertTrue(held.deferreds[0].called, "not cancelled")
            attack.maximumLines = 2
            attack.expectAlive()

        self.eachWay(script, settings={"eventDeadline": 60})

    def test_OnStoreSetup(self) -> None:
        self.assertRefused("OnStoreSetup")

    def test_OnStoreDone(self) -> None:
        """Undone: the name goes again."""
        self.assertRefused("OnStoreDone")


class AfterTheEndTests(BadInputTestCase):
    """What comes when the listener has said its last word: at most one more A-ABORT, and no time is won by it."""

    def assertDeaf(self, begin: Callable[[Attack], object], noise: bytes, count: int, *more: str) -> None:
        """
        Assert that a peer is closed upon at ARTIM that goes on sending.

        :param begin: does what it is told to go for.
        :param more: what comes back after that.
        """

        def script(attack: Attack) -> None:
            begin(attack)
            before = attack.reactions
            for _ in range(count):
                attack.send(noise)
            attack.expect(*before, *more)
            attack.advance(29)
            attack.canary.sing()
            assert not attack.isOver, "closed before ARTIM"
            attack.send(noise)
            attack.advance(1)
            attack.expectClosed()
            attack.expect(*before, *more)

        self.eachWay(script, [WHOLE])

    def aborted(self, attack: Attack) -> None:
        """Be aborted inside an association, its framing intact."""
        attack.associate()
        attack.send(RQ)
        attack.expect("AC", "AB 2/2")

    def abortedFramingLost(self, attack: Attack) -> None:
        """Be aborted inside an association, for what was no PDU."""
        attack.associate()
        attack.send(b"\xff" * 6)
        attack.expect("AC", "AB 2/1")

    def rejected(self, attack: Attack) -> None:
        """Be rejected."""
        attack.connect()
        attack.send(request(fixed=fixedFields(version=2)))
        attack.expect("RJ 1/2/2")

    def test_aGigabyteOfNoise(self) -> None:
        noise = Random(1).randbytes(1 << 18)
        self.assertDeaf(self.abortedFramingLost, noise, 4096)

    def test_noiseAfterAReject(self) -> None:
        noise = b"\xff" + Random(2).randbytes(1 << 16)
        self.assertDeaf(self.rejected, noise, 100, "AB 2/2")

    def test_noiseAfterAnAbort(self) -> None:
        noise = b"\xff" + Random(3).randbytes(1 << 16)
        self.assertDeaf(self.aborted, noise, 100, "AB 2/2")

    def test_manyRequests(self) -> None:
        for begin in (self.aborted, self.rejected):
            self.assertDeaf(begin, RQ * 100, 100, "AB 2/2")

    def test_manyObjects(self) -> None:
        """P-DATA is ignored there, and part of nothing."""
        for begin in (self.aborted, self.rejected):
            self.assertDeaf(begin, store() * 100, 20)

    def test_cutAnywhere(self) -> None:
        """However it is cut, as much comes back."""

        def script(attack: Attack) -> None:
            self.aborted(attack)
            attack.send(store() + RELEASE_RQ + RQ + RQ + b"\xff" * 100)
            attack.expect("AC", "AB 2/2", "AB 2/2")
            attack.expectClosedAtARTIM()

        self.eachWay(script)


class AsynchronousTests(BadInputTestCase):
    """Several operations outstanding, as negotiated, and more."""

    def outstanding(self, attack: Attack, stream: bytes) -> Held:
        """Have an asynchronous association whose OnStoreDone waits, and send this."""
        held = attack.events.answers["OnStoreDone"] = Held()
        attack.associate(ASYNCHRONOUS)
        attack.send(stream)
        return held

    def test_beyondTheWindow(self) -> None:
        """Not read before there is room; none is lost, and nobody is aborted for it."""

        def script(attack: Attack) -> None:
            count = 30
            held = self.outstanding(attack, b"".join(store(f"1.2.{number}", number) for number in range(count)))
            self.assertLessEqual(len(held.deferreds), 8)
            attack.expect("AC")
            attack.canary.sing()
            held.fire(True, attack)
            self.assertEqual({response.number(0x0120) for response in attack.responses}, {*range(count)})
            attack.expect("AC", *["RSP 0000"] * count)
            attack.objects.update({f"1.2.{number}": dataSet(f"1.2.{number}") for number in range(count)})
            attack.events.answers.clear()
            attack.expectAlive()

        self.eachWay(script)

    def test_messageIDInUse(self) -> None:
        """Refused at once: its answer could not be told from the other's."""

        def script(attack: Attack) -> None:
            held = self.outstanding(attack, store("1.2.1", 7) + store("1.2.2", 7))
            attack.expect("AC", "RSP 0210")
            held.fire(True, attack)
            attack.expect("AC", "RSP 0210", "RSP 0000")
            attack.objects["1.2.1"] = dataSet("1.2.1")
            attack.expectAlive()

        self.eachWay(script)

    def test_sameInstanceTwice(self) -> None:
        """Both are told that it is there, and it is there once."""

        def script(attack: Attack) -> None:
            held = self.outstanding(attack, store(INSTANCE, 1) + store(INSTANCE, 2))
            held.fire(True, attack)
            attack.expect("AC", "RSP 0000", "RSP 0000")
            attack.objects[INSTANCE] = dataSet()
            attack.expectAlive()

        self.eachWay(script)

    def test_releaseWithFiveOutstanding(self) -> None:
        """Each is answered first."""

        def script(attack: Attack) -> None:
            stream = b"".join(store(f"1.2.{number}", number) for number in range(5))
            held = self.outstanding(attack, stream + RELEASE_RQ)
            attack.expect("AC")
            held.fire(True, attack)
            attack.expect("AC", *["RSP 0000"] * 5, "RELEASE-RP")
            self.assertEqual({response.number(0x0120) for response in attack.responses}, {*range(5)})
            attack.objects.update({f"1.2.{number}": dataSet(f"1.2.{number}") for number in range(5)})
            attack.client.loseConnection()

        self.eachWay(script)

    def test_goneWithFiveOutstanding(self) -> None:
        """What was in progress runs to its end; what still waited for room never happened."""

        for go, reason in WAYS_TO_GO:

            def script(attack: Attack, go: Callable[[Attack], object] = go, reason: str = reason) -> None:
                held = self.outstanding(attack, b"".join(store(f"1.2.{number}", number) for number in range(5)))
                go(attack)
                attack.pump()
                attack.expectClosed()
                held.fire(True, attack)
                attack.expect("AC")
                self.assertEqual(attack.ends, [reason])
                stored = [f"1.2.{number}" for number in range(len(held.deferreds))]
                attack.objects.update({name: dataSet(name) for name in stored})

            self.eachWay(script)

    def test_fragmentsOfTwoMessages(self) -> None:
        """However many may be outstanding, one comes after the other (PS3.7 D.3.3.3)."""
        stream = storeRQ("1.2.1") + pData(pdv(3, 0, dataSet("1.2.1")[:50])) + storeRQ("1.2.2", 2) + data("1.2.2")
        self.badOnceAssociated(stream, "AB 2/5", RQ=ASYNCHRONOUS)
