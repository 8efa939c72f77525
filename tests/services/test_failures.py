"""
Every way in which a reception fails: OnStoreDone hears of it once, the sender once, and in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import skipIf

import attrs
from twisted.internet.defer import Deferred, succeed

from dcxtwisted.configuration import Configuration
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IN_MEMORY
from dcxtwisted.services import storage
from dcxtwisted.testing import MemoryConnection, ScriptedPeer
from dcxtwisted.wire.framing import COMPILED
from tests.services.support import (
    DATA,
    FakeParticipant,
    ServiceTestCase,
    comment,
    dataSet,
    failed,
    formsOf,
    storeCommand,
)
from tests.services.test_storage import FIRST, REST, SMALL

REFUSAL = StoreRefused(0xA7AA, "no")


@attrs.frozen(kw_only=True)
class Way:
    """
    A way in which a reception fails once OnStoreSetup has let the object in.

    :ivar how: of the listener, besides its store.
    :ivar store: answers of the store; ``sink`` those of its sinks.
    :ivar beforeTheData: nothing of the data set was taken.
    """

    name: str
    status: int = 0xA7AA
    data: bytes = DATA
    store: dict[str, Any] = attrs.field(factory=dict)
    how: dict[str, Any] = attrs.field(factory=dict)
    answers: dict[str, Any] = attrs.field(factory=dict)
    beforeTheData: bool = False
    logged: tuple[type[Exception], ...] = ()


def _refused(*args: Any) -> StoreRefused:
    return StoreRefused(*args)


def later() -> Deferred[Any]:
    """Return a Deferred that nobody fires."""
    return Deferred()


def ways() -> Iterator[Way]:
    """Yield each way, made anew."""
    yield Way(name="opening refuses", store={"open": REFUSAL}, beforeTheData=True)
    yield Way(name="opening refuses later", store={"open": lambda r: failed(REFUSAL)}, beforeTheData=True)
    yield Way(
        name="opening raises",
        store={"open": OSError(24, "files")},
        status=0xA700,
        beforeTheData=True,
        logged=(OSError,),
    )
    for wrong in (None, "/a/file"):
        yield Way(
            name=f"opening gives {wrong!r}",
            store={"open": lambda r, wrong=wrong: wrong},
            status=0xA700,
            beforeTheData=True,
            logged=(AttributeError,),
        )
        yield Way(
            name=f"opening gives {wrong!r} later",
            store={"open": lambda r, wrong=wrong: succeed(wrong)},
            status=0xA700,
            beforeTheData=True,
            logged=(AttributeError,),
        )
    yield Way(
        name="nothing to store in", answers={"OnStoreSetup": 42}, status=0xA700, beforeTheData=True, logged=(TypeError,)
    )
    yield Way(name="writing refuses", store={"sink": {"write": REFUSAL}})
    yield Way(name="writing refuses later", store={"sink": {"write": lambda view: failed(REFUSAL)}})
    yield Way(name="writing raises", store={"sink": {"write": OSError(28, "full")}}, status=0xA700, logged=(OSError,))
    yield Way(name="writing tells a size", store={"sink": {"write": len}}, status=0xA700, logged=(TypeError,))
    yield Way(name="cut", data=DATA[:-2], status=0xC000)
    yield Way(name="empty", data=b"", status=0xC000)
    yield Way(name="another class", data=dataSet(SOPClassUID="1.2"), status=0xA900)
    yield Way(name="another instance", data=dataSet("1.2.33"), status=0xA900)
    yield Way(name="finishing refuses", store={"sink": {"finish": REFUSAL}})
    # As applications do it; what sends it takes tuples and text.
    yield Way(
        name="finishing refuses with a list",
        status=0xA9AA,
        store={"sink": {"finish": _refused(0xA9AA, ValueError("no"), [0x00100010])}},
    )
    oddly = StoreRefused(0xA7AA, "no")
    oddly.__cause__ = OSError("not a number", "/a/file")
    yield Way(name="finishing refuses for an error of its own making", store={"sink": {"finish": oddly}})
    yield Way(name="finishing refuses later", store={"sink": {"finish": lambda head: failed(REFUSAL)}})
    yield Way(name="finishing raises", store={"sink": {"finish": OSError(5, "i/o")}}, status=0xA700, logged=(OSError,))
    yield Way(
        name="finishing with nothing", store={"sink": {"finish": lambda h: None}}, status=0xA700, logged=(TypeError,)
    )
    yield Way(
        name="finishing with nothing later",
        store={"sink": {"finish": lambda h: succeed(None)}},
        status=0xA700,
        logged=(TypeError,),
    )


class OnceTests(ServiceTestCase):
    def start(self, way: Way, **more: Any) -> tuple[ScriptedPeer, MemoryConnection, Any]:
        events = self.events(**{**way.answers, **more.pop("answers", {})})
        peer, connection = self.listen(events, self.store(**way.store), **{**way.how, **more})
        return peer, connection, events

    def assertTold(self, events: Any, name: str) -> None:
        """Assert that OnStoreDone was called once, and with what."""
        told = [args for event, args in events.calls if event == "OnStoreDone"]
        self.assertEqual([args[:2] for args in told], [("", False)], name)
        self.assertIsNone(told[0][2].stored, name)
        self.assertIsInstance(told[0][2].refusal, StoreRefused, name)

    def test_each(self) -> None:
        """Before the response, which is what it was; the next object is stored as if nothing had been."""
        for way in ways():
            peer, connection, events = self.start(way)
            self.send(connection, peer, way.data, maximumLength=SMALL)
            self.assertTold(events, way.name)
            self.assertEqual(peer.statuses, [way.status], way.name)
            refusal = events.calls[-1][1][2].refusal
            self.assertEqual((refusal.status, refusal.comment), (way.status, comment(peer.received[-1])), way.name)
            self.assertEqual(self.log[0], "OnStoreSetup")
            self.assertEqual(self.log[-1], "OnStoreDone", way.name)
            head = events.calls[-1][1][2].head
            self.assertEqual(head is None, way.beforeTheData, way.name)
            self.assertFailuresLogged(*way.logged)
            self.assertEqual(self.associationOf(peer).objectsRefused, 1)
            peer.echo()
            connection.pump()
            self.assertEqual(peer.statuses, [way.status, 0], way.name)

    def test_keepsNoFrames(self) -> None:
        """An application may keep the request: nothing of what was received is to hang on why it failed."""
        cause = OSError(28, "full")

        def write(view: memoryview) -> None:
            try:
                try:
                    raise cause
                except OSError as error:
                    raise KeyError from error
            except KeyError as error:
                raise StoreRefused(0xA7AA) from error

        peer, connection, events = self.start(Way(name="", store={"sink": {"write": write}}))
        self.send(connection, peer)
        refusal = events.calls[-1][1][2].refusal
        self.assertIs(refusal.__cause__.__cause__, cause)
        self.assertEqual(
            [refusal.__traceback__, refusal.__cause__.__traceback__, cause.__traceback__], [None, None, None]
        )

    def test_participants(self) -> None:
        for answer in (REFUSAL, failed(REFUSAL)):
            peer, connection, events = self.start(Way(name="", how={"participants": [FakeParticipant([], "", answer)]}))
            self.send(connection, peer)
            self.assertTold(events, "participant")
            self.assertEqual(peer.statuses, [0xA7AA])

    def test_lost(self) -> None:
        """The association ends inside the data set, and inside what is drained of it."""
        for end in ("abort", "close", "reset"):
            for way in ways():
                if not way.data or way.name.startswith(("finishing", "another", "cut")):
                    continue
                peer, connection, events = self.start(way)
                self.command(connection, peer, storeCommand())
                peer.send(FIRST)
                connection.pump()
                self.end(peer, connection, end)
                self.assertTold(events, f"{way.name}, {end}")
                if not way.beforeTheData and not way.name.startswith("writing"):
                    self.assertEqual(str(events.calls[-2][1][2].refusal), "refused with status A700: association lost")
                self.assertEqual(self.log[-2:], ["OnStoreDone", "OnAssocEnd"], way.name)
                self.assertEqual(peer.statuses, [])
                self.flushLoggedErrors(*way.logged)

    def end(self, peer: ScriptedPeer, connection: MemoryConnection, end: str) -> None:
        assert peer.transport is not None
        ends: dict[str, Callable[[], object]] = {
            "abort": peer.abort,
            "close": peer.transport.loseConnection,
            "reset": peer.transport.abortConnection,  # type: ignore[attr-defined]  # that of a connection in memory
        }
        ends[end]()
        connection.pump()

    def test_lostWhileOpening(self) -> None:
        for end in ("abort", "close", "reset"):
            opening = later()
            peer, connection, events = self.start(Way(name="", store={"open": opening}))
            self.command(connection, peer, storeCommand())
            self.end(peer, connection, end)
            self.assertTold(events, end)
            self.assertEqual(self.log, ["OnStoreSetup", "open", "OnStoreDone", "OnAssocEnd"])

    def test_openingTakesTooLong(self) -> None:
        peer, connection, events = self.start(Way(name="", store={"open": later()}))
        self.send(connection, peer)
        self.listener.clock.advance(300)
        connection.pump()
        self.assertTold(events, "late")
        self.assertEqual((peer.statuses, comment(peer.received[-1])), ([0xA700], "took too long"))

    def test_answerIsWaitedFor(self) -> None:
        """Whatever it is; the response and the end of the association come behind it."""
        answers = (True, 0xB000, StoreRefused(0xC0AA), KeyError("OnStoreDone"))
        for lost, form in [(lost, form) for lost in (False, True) for answer in answers for form in formsOf(answer)]:
            peer, connection, events = self.start(
                Way(name="", store={"open": REFUSAL}), answers={"OnStoreDone": form.event}
            )
            self.command(connection, peer, storeCommand())
            if lost:
                peer.abort()
            else:
                peer.send(FIRST + REST)
            connection.pump()
            if form.name in ("Deferred", "coroutine"):
                self.assertEqual((self.log[-1], peer.statuses), ("OnStoreDone", []))
                form.release()
                connection.pump()
            self.assertTold(events, form.name)
            self.assertEqual(peer.statuses, [] if lost else [0xA7AA])
            self.assertEqual(self.log[-1], "OnAssocEnd" if lost else "OnStoreDone")
            self.flushLoggedErrors(KeyError)

    @skipIf(COMPILED, "in what is compiled nothing can be planted")
    def test_refusingFails(self) -> None:
        """A mistake of this library's own on the last step: the sender is told that it failed, and goes on."""

        def refuse(*args: object) -> None:
            raise ValueError("no")

        self.patch(storage, "refuse", refuse)
        ways = (
            Way(name="opening", store={"open": REFUSAL}),
            Way(name="data set", data=DATA[:-2]),
            Way(name="finishing", store={"sink": {"finish": REFUSAL}}),
            Way(name="finishing later", store={"sink": {"finish": lambda head: failed(REFUSAL)}}),
            Way(name="OnStoreDone", answers={"OnStoreDone": False}),
            Way(name="OnStoreDone later", answers={"OnStoreDone": lambda *args: succeed(0xA7AA)}),
        )
        for way in ways:
            peer, connection, _ = self.start(way)
            self.send(connection, peer, way.data)
            self.assertEqual(peer.statuses, [0xA700], way.name)
            self.assertFailuresLogged(ValueError)
            peer.release()
            connection.pump()
            self.assertEqual(self.log[-1], "OnAssocEnd", way.name)

    def test_notWhatWasNotLetIn(self) -> None:
        """OnStoreSetup that refuses, raises or does not answer knows already; so it is with what never came to it."""
        for answer, status in ((REFUSAL, 0xA7AA), (KeyError(), 0xA700)):
            for form in formsOf(answer):
                peer, connection, _ = self.start(Way(name=""), answers={"OnStoreSetup": form.event})
                self.send(connection, peer)
                form.release()
                connection.pump()
                self.assertEqual((peer.statuses, self.log), ([status], ["OnStoreSetup"]))
                self.flushLoggedErrors(KeyError)
        peer, connection, _ = self.start(Way(name=""), answers={"OnStoreSetup": later()})
        self.send(connection, peer)
        self.listener.clock.advance(60)
        connection.pump()
        self.assertEqual((peer.statuses, self.log), ([0xA700], ["OnStoreSetup"]))
        peer, connection, _ = self.start(Way(name=""))
        self.command(connection, peer, storeCommand(b".."))
        self.data(connection, peer)
        self.assertEqual((peer.statuses, self.log), ([0x0117], []))


class AbortOnRefusalTests(ServiceTestCase):
    """Where it is set, the association is aborted in place of reading what is refused before it comes."""

    def refuse(self, command: bytes = storeCommand(), store: Any = None, **answers: Any) -> tuple[ScriptedPeer, Any]:
        """Send a command, and assert that it has the association aborted, and nothing else came back."""
        events = self.events(**answers)
        peer, connection = self.listen(
            events, self.store() if store is None else store, configuration=Configuration(abortOnRefusal=True)
        )
        association = self.associationOf(peer)
        self.command(connection, peer, command)
        return peer, (connection, events, association)

    def assertAborted(self, peer: ScriptedPeer, rest: Any, *log: str) -> None:
        """Assert it, also when the data set came after all."""
        connection, events, association = rest
        peer.send(FIRST + REST)
        connection.pump()
        self.assertEqual(peer.statuses, [])
        assert peer.aborted is not None
        self.assertEqual((peer.aborted.source, peer.aborted.reason), (0, 0))
        self.assertEqual(self.log, [*log, "OnAssocEnd"])
        self.assertEqual(events.calls[-1][1][1], "aborted")
        self.assertEqual((association.objectsStored, association.objectsRefused), (0, 1))
        self.assertLogged(" refused with ")
        self.logged.clear()

    def test_setup(self) -> None:
        for answer in (REFUSAL, KeyError("OnStoreSetup")):
            for form in formsOf(answer):
                peer, rest = self.refuse(OnStoreSetup=form.event)
                form.release()
                rest[0].pump()
                self.assertAborted(peer, rest, "OnStoreSetup")
                self.flushLoggedErrors(KeyError)

    def test_opening(self) -> None:
        """That it failed is told before the end."""
        for form in formsOf(REFUSAL):
            if form.name == "coroutine":
                continue  # stores answer with a Deferred
            peer, rest = self.refuse(store=self.store(open=form.event))
            form.release()
            rest[0].pump()
            self.assertAborted(peer, rest, "OnStoreSetup", "open", "OnStoreDone")
            filename, stored, _ = rest[1].calls[-2][1]
            self.assertEqual((filename, stored), ("", False))

    def test_openingThenOnStoreDoneTakesItsTime(self) -> None:
        answering = later()
        peer, rest = self.refuse(store=self.store(open=REFUSAL), OnStoreDone=answering)
        self.assertEqual(self.log, ["OnStoreSetup", "open", "OnStoreDone"])
        self.assertIsNotNone(peer.aborted)
        answering.callback(True)
        self.assertAborted(peer, rest, "OnStoreSetup", "open", "OnStoreDone")

    def test_command(self) -> None:
        for command in (storeCommand(b".."), storeCommand(SOPClassUID=b"1.2.3")):
            peer, rest = self.refuse(command)
            self.assertAborted(peer, rest)

    def test_nothingToDrain(self) -> None:
        """Where no data set follows, or it has been read, there is an answer."""
        for command, data, status in (
            (storeCommand(hasDataSet=False), b"", 0xC000),
            (storeCommand(), FIRST + REST, 0xA7AA),
        ):
            store = self.store(sink={"finish": REFUSAL})
            peer, (connection, _, _) = self.refuse(command, store, OnStoreSetup=None)
            peer.send(data)
            peer.echo()
            connection.pump()
            self.assertEqual(peer.statuses, [status, 0])

    def test_partOfIt(self) -> None:
        """What was let in is drained: the sender hears why, as soon as it has an ear for that."""
        peer, (connection, _, _) = self.refuse(store=self.store(sink={"write": REFUSAL}))
        peer.send(FIRST + REST)
        connection.pump()
        self.assertEqual((peer.statuses, peer.aborted), ([0xA7AA], None))

    def test_stored(self) -> None:
        peer, (connection, _, _) = self.refuse(OnStoreSetup=IN_MEMORY)
        peer.send(FIRST + REST)
        connection.pump()
        self.assertEqual(peer.statuses, [0])
