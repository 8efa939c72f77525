"""
What an association waits for: what is pending when the peer goes, what pauses reading, and a fair share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dcxtwisted.testing import ScriptedPeer
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand

#: How a peer can go, and what OnAssocEnd is told then.
Way = tuple[Callable[[ScriptedPeer], object], str]
WAYS_TO_GO: list[Way] = [
    (ScriptedPeer.abort, "aborted"),
    (lambda peer: client(peer).loseConnection(), "lost"),
    (lambda peer: client(peer).loseWriteConnection(), "lost"),
    (lambda peer: client(peer).abortConnection(), "lost"),
]


class PendingTests(ListenerTestCase):
    """Something is awaited, and the peer goes: seen at once, nothing is written, OnAssocEnd comes once and last."""

    def assertGone(
        self,
        until: Callable[[ScriptedPeer], object],
        atOnce: list[str],
        fire: Callable[[], object] = lambda: None,
        then: Sequence[str] = (),
        ways: Sequence[Way] = WAYS_TO_GO,
    ) -> None:
        """
        Assert what happens when a peer goes, in whatever way.

        :param until: what the peer does first; ``prepare`` has said what is then awaited.
        :param atOnce: what happens when it goes, OnAssocEnd included where it does.
        :param fire: lets go on what is awaited.
        :param then: what follows.
        """
        for go, reason in ways:
            self.listen()
            self.prepare()
            peer = self.associate()
            until(peer)
            self.pump()
            self.assertFalse(self.server(peer).paused)
            self.events.calls.clear()
            go(peer)
            self.pump()
            self.assertConnectionOver(peer)
            self.assertEqual(self.accepted[0].ended, reason)
            self.assertEqual(self.names, atOnce)
            # What is still awaited has a deadline, and nothing else has a timer.
            for call in self.clock.getDelayedCalls():
                self.assertIn("_passed", str(call))
            fire()
            self.pump()
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual(self.names, [*atOnce, *then])
            self.assertEqual(self.ends, [reason])
            self.assertEqual(peer.received[1:], [])

    def prepare(self) -> None:
        self.awaited = self.later()

    def test_nothing(self) -> None:
        self.assertGone(lambda peer: None, ["OnAssocEnd"])

    def test_insideACommand(self) -> None:
        self.assertGone(lambda peer: peer.send(pData(3, 1, b"part")), ["OnAssocEnd"])

    def test_insideAPDU(self) -> None:
        self.assertGone(lambda peer: peer.send(storeCommand()[:9]), ["OnAssocEnd"], ways=WAYS_TO_GO[1:])

    def test_insideADataSet(self) -> None:
        self.assertGone(
            lambda peer: peer.send(storeCommand() + pData(3, 0, b"part")), ["sink.abort", "OnStoreDone", "OnAssocEnd"]
        )

    def test_insideADataSetThatIsDrained(self) -> None:
        self.assertGone(lambda peer: peer.send(storeCommand("../x") + pData(3, 0, b"part")), ["OnAssocEnd"])

    def test_OnStoreSetup(self) -> None:
        self.prepare = lambda: self.answer(OnStoreSetup=lambda *args: self.later())  # type: ignore[method-assign]
        self.assertGone(lambda peer: peer.send(storeCommand()), ["cancelled", "OnAssocEnd"])

    def test_OnStoreSetupThatCannotBeCancelled(self) -> None:
        """It is not waited for, and nothing is opened for what it answers."""

        def prepare() -> None:
            self.goOn = self.later()

            async def onStoreSetup(*args: object) -> None:
                try:
                    await self.later()
                finally:
                    await self.goOn
                    return  # noqa: B012  # an application may do that

            self.answer(OnStoreSetup=onStoreSetup)

        self.prepare = prepare  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.send(storeCommand()),
            ["cancelled", "OnAssocEnd"],
            lambda: self.goOn.callback(None),
        )

    def test_opening(self) -> None:
        self.prepare = lambda: self.hold("open")  # type: ignore[method-assign]
        self.assertGone(lambda peer: peer.send(storeCommand()), ["store.open cancelled", "OnStoreDone", "OnAssocEnd"])

    def test_write(self) -> None:
        """It is cancelled, for it may wait for long, and what it made is removed."""
        self.prepare = lambda: self.hold("write")  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.send(storeCommand() + pData(3, 0, b"part")),
            ["sink.write cancelled", "sink.abort", "OnStoreDone", "OnAssocEnd"],
        )

    def test_lastWriteThatFails(self) -> None:
        self.prepare = lambda: self.hold("write")  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.store(dataSet(), "1.2.3"),
            [],
            lambda: self.store.sinks[0].held.pop("write").errback(OSError(28, "no space")),
            ["sink.abort", "OnStoreDone", "OnAssocEnd"],
        )
        self.assertErrors(OSError, len(WAYS_TO_GO))

    def test_lastWrite(self) -> None:
        """The last fragment had come: the object runs to its end."""
        self.prepare = lambda: self.hold("write")  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.store(dataSet(), "1.2.3"),
            [],
            lambda: self.store.sinks[0].fire("write"),
            ["sink.finish", "OnStoreDone", "sink.keep", "OnAssocEnd"],
        )

    def test_finish(self) -> None:
        self.prepare = lambda: self.hold("finish")  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.store(dataSet(), "1.2.3"),
            [],
            lambda: self.store.sinks[0].fire("finish"),
            ["OnStoreDone", "sink.keep", "OnAssocEnd"],
        )

    def test_OnStoreDone(self) -> None:
        def prepare() -> None:
            self.awaited = self.later()
            self.answer(OnStoreDone=self.awaited)

        self.prepare = prepare  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.store(dataSet(), "1.2.3"),
            [],
            lambda: self.awaited.callback(True),
            ["sink.keep", "OnAssocEnd"],
        )

    def test_abortOfTheSink(self) -> None:
        self.prepare = lambda: self.hold("abort")  # type: ignore[method-assign]
        self.assertGone(
            lambda peer: peer.send(storeCommand() + pData(3, 0, b"part")),
            ["sink.abort"],
            lambda: self.store.sinks[0].fire("abort"),
            ["OnStoreDone", "OnAssocEnd"],
        )

    def test_OnEcho(self) -> None:
        def prepare() -> None:
            self.awaited = self.later()
            self.answer(OnEcho=self.awaited)

        self.prepare = prepare  # type: ignore[method-assign]
        self.assertGone(ScriptedPeer.echo, [], lambda: self.awaited.callback(None), ["OnAssocEnd"])

    def test_requestsBeyondTheWindow(self) -> None:
        """They were never begun."""

        def prepare() -> None:
            self.awaited = self.later()
            self.answer(OnEcho=self.awaited)

        def twice(peer: ScriptedPeer) -> None:
            peer.echo(1)
            peer.echo(2)

        self.prepare = prepare  # type: ignore[method-assign]
        self.assertGone(twice, [], lambda: self.awaited.callback(None), ["OnAssocEnd"])


class PauseTests(ListenerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.pauses = 0

    def counting(self, peer: ScriptedPeer) -> ScriptedPeer:
        """Return a peer whose pauses are counted from now on."""
        server = self.server(peer)
        pause, resume = server.pauseProducing, server.resumeProducing

        def pauseProducing() -> None:
            self.assertFalse(server.paused)
            self.pauses += 1
            pause()

        def resumeProducing() -> None:
            self.assertTrue(server.paused)
            resume()

        server.pauseProducing = pauseProducing  # type: ignore[method-assign]  # of this one object
        server.resumeProducing = resumeProducing  # type: ignore[method-assign]  # likewise
        return peer

    def test_waitingAloneDoesNotPause(self) -> None:
        """Not OnStoreSetup, not a write, an fsync or OnStoreDone, while nothing comes that must wait."""
        self.hold("open", "write", "finish")
        done = self.later()
        self.answer(OnStoreDone=done)
        peer = self.counting(self.associate())
        peer.send(storeCommand())
        self.pump()
        assert self.store.opening is not None
        self.store.opening.callback(None)
        peer.send(pData(3, 0, dataSet()[:50]))
        self.pump()
        self.store.sinks[0].fire("write")
        peer.send(pData(3, 2, dataSet()[50:]))
        self.pump()
        self.store.sinks[0].fire("write")
        self.pump()
        self.store.sinks[0].fire("finish")
        done.callback(True)
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.pauses, 0)

    def test_secondRequestDoesNotPause(self) -> None:
        """One request beyond the window is read and kept; bytes that come behind it pause."""
        done = self.later()
        self.answer(OnStoreDone=done)
        peer = self.counting(self.associate())
        peer.store(dataSet(), "1.2.3")
        self.pump()
        peer.echo(2)
        self.pump()
        self.assertFalse(self.server(peer).paused)
        peer.echo(3)
        self.pump()
        self.assertTrue(self.server(peer).paused)
        done.callback(True)
        self.pump()
        self.assertFalse(self.server(peer).paused)
        self.assertEqual(self.pauses, 1)
        self.assertEqual([elements[0x0120] for elements in peer.received[1:]], [b"\1\0", b"\2\0", b"\3\0"])

    def test_dataThatComesTooEarly(self) -> None:
        self.hold("open")
        peer = self.counting(self.associate())
        peer.send(storeCommand())
        self.pump()
        self.assertFalse(self.server(peer).paused)
        peer.send(pData(3, 2, dataSet()))
        self.pump()
        self.assertTrue(self.server(peer).paused)
        assert self.store.opening is not None
        self.store.opening.callback(None)
        self.pump()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.pauses, 1)

    def test_pausedTellsOfTheEndAfterwards(self) -> None:
        """The bytes held up are used, then the end is seen."""
        self.hold("write")
        peer = self.associate()
        peer.store(dataSet(size=1000), "1.2.3", maximumLength=600)
        client(peer).loseConnection()
        self.pump()
        self.assertIsNone(self.server(peer).closed)
        sink = self.store.sinks[0]
        sink.fire("write")
        self.pump()
        self.assertEqual(self.accepted[0].ended, "lost")
        sink.fire("write")
        self.assertEqual(bytes(sink.written), dataSet(size=1000))
        self.assertEqual(self.names[-4:], ["sink.finish", "OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_pauseIsBounded(self) -> None:
        """Whatever a peer sends, no more than a chunk is taken in that cannot be used."""
        self.hold("write")
        peer = self.connect(capacity=1 << 20)
        peer.associate()
        self.pump()
        chunk = self.server(peer).bufferSize
        whole = dataSet(size=1_000_000)
        peer.store(whole, "1.2.3", maximumLength=1000)
        self.pump()
        sink = self.store.sinks[0]
        sent = len(client(peer).unsent) + len(self.server(peer).unread)
        self.assertTrue(self.server(peer).paused)
        self.assertLess(len(sink.written), 1000)
        self.assertGreater(sent, 1_000_000 - chunk)
        sink.holds = ()
        sink.fire("write")
        self.pump()
        self.assertEqual(bytes(sink.written), whole)
        self.assertEqual(peer.statuses, [0])

    def test_abortWhilePausedGoesOnReading(self) -> None:
        """What was held up is dropped, and the peer's end is seen."""
        self.hold("write")
        peer = self.associate()
        peer.store(dataSet(size=1000), "1.2.3", maximumLength=200)
        self.pump()
        self.assertTrue(self.server(peer).paused)
        self.accepted[0].abort()
        self.pump()
        self.assertFalse(self.server(peer).paused)
        client(peer).loseConnection()
        self.pump()
        self.assertConnectionOver(peer)
        self.assertEqual(self.names[-4:], ["sink.write cancelled", "sink.abort", "OnStoreDone", "OnAssocEnd"])

    def test_pipelinedEchoes(self) -> None:
        """Answered in order, however many they are."""
        peer = self.associate()
        for number in range(3000):
            peer.echo(number)
        self.pump()
        self.assertEqual([int.from_bytes(e[0x0120], "little") for e in peer.received[1:]], [*range(3000)])

    def test_pipelinedStores(self) -> None:
        """Answered in order though each is durable later; never is more than one begun."""
        self.hold("finish")
        peer = self.associate()
        for number in range(500):
            uid = f"1.2.{number}"
            peer.store(dataSet(uid), uid, messageID=number)
            peer.echo(1000 + number)
        self.pump()
        for number in range(500):
            self.assertEqual(len(self.store.sinks), number + 1)
            self.assertTrue(self.server(peer).paused is (number < 499), number)
            self.store.sinks[number].fire("finish")
            self.pump()
        expected = [message for number in range(500) for message in (number, 1000 + number)]
        self.assertEqual([int.from_bytes(e[0x0120], "little") for e in peer.received[1:]], expected)
        self.assertEqual(set(peer.statuses), {0})


class ShareTests(ListenerTestCase):
    """What one peer may take of a turn shrinks with the number of those inside a data set."""

    def test_share(self) -> None:
        share = self.factory.share
        self.assertEqual(share, 524288)
        for receiving, *expected in (
            (1, 524288, 128),
            (16, 524288, 128),
            (17, 493447, 120),
            (512, 16384, 4),
            (1024, 8192, 4),
            (5000, 8192, 4),
        ):
            self.factory.receivingChanged(receiving)
            self.assertEqual([self.factory.share, self.factory.PDVs], expected)
            self.factory.receivingChanged(-receiving)
        self.assertEqual(self.factory.share, 524288)

    def test_onlyInsideADataSet(self) -> None:
        peers = [self.associate() for _ in range(40)]
        command = storeCommand()[12:]
        for peer in peers:
            peer.send(pData(3, 1, command[:20]))
        self.pump()
        self.assertEqual(self.factory.share, 524288)
        for peer in peers:
            peer.send(pData(3, 3, command[20:]))
        self.pump()
        self.assertEqual(self.factory.share, 524288)
        for peer in peers:
            peer.send(pData(3, 0, dataSet()[:10]))
        self.pump()
        self.assertEqual(self.factory.share, 8 * 1024 * 1024 // 40)
        peers[-1].send(pData(3, 0, dataSet()[10:20]))
        self.pump()
        for peer in peers[:-1]:
            peer.send(pData(3, 2, dataSet()[10:]))
        self.pump()
        self.assertEqual(self.factory.share, 524288)
        peers[-1].send(pData(3, 2, dataSet()[20:]))
        self.pump()
        self.assertEqual([peer.statuses for peer in peers], [[0]] * 40)

    def test_endsCountNoMore(self) -> None:
        """Neither one that was aborted and is waited for, nor one that is gone."""
        peers = [self.associate() for _ in range(40)]
        for peer in peers:
            peer.send(storeCommand() + pData(3, 0, dataSet()[:10]))
        self.pump()
        for association in self.accepted[:4]:
            association.abort()
        for peer in peers[4:8]:
            client(peer).abortConnection()
        self.pump()
        self.assertEqual(self.factory.share, 8 * 1024 * 1024 // 32)
