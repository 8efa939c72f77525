"""
How an association ends: aborted here or by the peer, released, lost, or by a fault of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionAborted, ConnectionDone

from dcxtwisted.factory import AssociationFactory
from dcxtwisted.interfaces import IAssociation, IStoreRequest
from dcxtwisted.testing import ScriptedPeer, associateRQ
from dcxtwisted.wire.pdu import Abort, AssociateRJ, ReleaseRP
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand

RQ = associateRQ().encode()


class AbortTests(ListenerTestCase):
    """A-ABORT by the application, in each state."""

    def assertAborted(self, peer: ScriptedPeer) -> None:
        """Assert that A-ABORT was the last that the peer was told, and that a peer that ignores it is closed upon."""
        self.pump()
        self.assertEqual(peer.received[-1], Abort(0, 0))
        self.assertEqual(sum(isinstance(value, Abort) for value in peer.received), 1)
        for association in self.accepted:
            association.abort()
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertConnectionOver(peer)
        self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
        self.assertEqual(sum(isinstance(value, Abort) for value in peer.received), 1)

    def test_established(self) -> None:
        peer = self.associate()
        (association,) = self.accepted
        association.abort()
        self.assertEqual(association.ended, "aborted")
        self.assertAborted(peer)
        self.assertEqual(self.names, ["OnConnection", "OnAssocEnd"])
        self.assertEqual(self.ends, ["aborted"])

    def test_closedByThePeer(self) -> None:
        peer = self.associate()
        self.accepted[0].abort()
        client(peer).loseConnection()
        self.pump()
        self.assertConnectionOver(peer)
        self.accepted[0].abort()
        self.assertEqual(self.ends, ["aborted"])

    def test_inOnConnection(self) -> None:
        def onConnection(calling: str, called: str, host: str, association: IAssociation) -> bool:
            association.abort()
            return True

        self.answer(OnConnection=onConnection)
        self.assertAborted(self.associate())
        self.assertEqual(self.accepted, [])
        self.assertLines("no association with 127.0.0.1: aborted here")

    def test_inOnConnectionWhichAnswersLater(self) -> None:
        def onConnection(calling: str, called: str, host: str, association: IAssociation) -> Deferred[bool]:
            association.abort()
            return self.later()

        self.answer(OnConnection=onConnection)
        self.assertAborted(self.associate())
        self.assertEqual(self.names, ["OnConnection", "cancelled"])

    def test_whileOnConnectionDecides(self) -> None:
        self.answer(OnConnection=lambda *args: self.later())
        peer = self.associate()
        self.events.calls[0][1][3].abort()
        self.assertAborted(peer)
        self.assertEqual(self.names, ["OnConnection", "cancelled"])

    def test_whileOnConnectionDecidesAndCannotBeCancelled(self) -> None:
        """A canceller that fails keeps no place among the associations."""

        def canceller(awaited: Deferred[bool]) -> None:
            raise ValueError("no")

        self.answer(OnConnection=lambda *args: Deferred(canceller))
        for how in (ScriptedPeer.abort, lambda peer: client(peer).loseConnection()):
            how(self.associate())
            self.pump()
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
            self.assertEqual(vars(self.factory.admission)["_inside"], {})

    def test_refused(self) -> None:
        """There is nothing to abort."""
        self.answer(OnConnection=False)
        peer = self.associate()
        self.events.calls[0][1][3].abort()
        self.pump()
        self.assertEqual(peer.received, [AssociateRJ(1, 1, 1)])

    def test_released(self) -> None:
        peer = self.associate()
        peer.release()
        self.pump()
        self.accepted[0].abort()
        self.pump()
        self.assertIsInstance(peer.received[-1], ReleaseRP)
        self.assertEqual(self.ends, ["released"])

    def test_inOnAssocEnd(self) -> None:
        self.answer(OnAssocEnd=lambda association, reason: association.abort())
        peer = self.associate()
        peer.release()
        self.pump()
        self.assertIsInstance(peer.received[-1], ReleaseRP)

    def test_insideADataSet(self) -> None:
        peer = self.associate()
        peer.send(storeCommand() + pData(3, 0, b"part"))
        self.pump()
        self.accepted[0].abort()
        self.assertAborted(peer)
        self.assertEqual(self.names[3:], ["sink.write", "sink.abort", "OnStoreDone", "OnAssocEnd"])

    def test_inOnStoreSetup(self) -> None:
        """The sink that was opened is aborted, and OnAssocEnd is still the last."""

        def onStoreSetup(filename: str, request: IStoreRequest) -> None:
            request.association.abort()

        self.answer(OnStoreSetup=onStoreSetup)
        self.hold("abort")
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        self.assertEqual(self.names[1:], ["OnStoreSetup", "store.open", "sink.abort"])
        self.store.sinks[0].fire("abort")
        self.assertEqual(self.names[4:], ["OnStoreDone", "OnAssocEnd"])
        self.assertAborted(peer)
        self.assertEqual(peer.statuses, [])

    def test_inOnStoreSetupWhichAnswersLater(self) -> None:
        def onStoreSetup(filename: str, request: IStoreRequest) -> Deferred[None]:
            request.association.abort()
            return self.later()

        self.answer(OnStoreSetup=onStoreSetup)
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.assertAborted(peer)
        self.assertEqual(self.names[1:], ["OnStoreSetup", "cancelled", "OnAssocEnd"])

    def test_inATap(self) -> None:
        """Bytes that were passing are the last; the object is not completed."""

        def onStoreSetup(filename: str, request: IStoreRequest) -> None:
            request.tap(lambda view: request.association.abort())

        self.answer(OnStoreSetup=onStoreSetup)
        peer = self.associate()
        peer.store(dataSet(), "1.2.3", maximumLength=60)
        self.assertAborted(peer)
        self.assertEqual(
            self.names[1:], ["OnStoreSetup", "store.open", "sink.write", "sink.abort", "OnStoreDone", "OnAssocEnd"]
        )

    def test_inOnStoreDone(self) -> None:
        """The object is kept as answered, and no response is written."""

        def onStoreDone(filename: str, stored: bool, request: IStoreRequest) -> bool:
            request.association.abort()
            return True

        self.answer(OnStoreDone=onStoreDone)
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.assertAborted(peer)
        self.assertEqual(peer.statuses, [])
        self.assertEqual(self.names[-4:], ["sink.finish", "OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_whileAFileIsSynced(self) -> None:
        self.hold("finish")
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        self.accepted[0].abort()
        self.assertEqual(self.ends, [])
        self.store.sinks[0].fire("finish")
        self.assertAborted(peer)
        self.assertEqual(self.names[-4:], ["sink.finish", "OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_inOnEcho(self) -> None:
        self.answer(OnEcho=lambda association: association.abort())
        peer = self.associate()
        peer.echo()
        self.assertAborted(peer)
        self.assertEqual(peer.statuses, [])

    def test_all(self) -> None:
        peers = [self.associate() for _ in range(3)]
        self.listener.acceptor.AbortActiveAssociations()
        self.pump()
        self.assertEqual([peer.aborted for peer in peers], [Abort(0, 0)] * 3)
        self.assertEqual(self.ends, ["aborted"] * 3)

    def test_noiseAfterwards(self) -> None:
        """After an abort of ours a peer that goes on is not listened to, and told so once more at most."""
        peer = self.associate()
        self.accepted[0].abort()
        self.pump()
        for _ in range(100):
            peer.send(RQ)
            self.pump()
        peer.send(b"\xff" * 1_000_000)
        self.pump()
        self.assertEqual(peer.received[1:], [Abort(0, 0), Abort(2, 2)])
        self.advance(30)
        self.assertConnectionOver(peer)
        self.assertEqual(self.ends, ["aborted"])


class PeerEndTests(ListenerTestCase):
    """The peer ends the association, between messages."""

    def test_abort(self) -> None:
        peer = self.associate()
        peer.send(Abort(0, 0).encode())
        self.pump()
        self.assertEqual(self.ends, ["aborted"])
        self.assertConnectionOver(peer)
        self.assertIsInstance(self.server(peer).closed, ConnectionDone)

    def test_noiseBehindAnAbort(self) -> None:
        peer = self.associate()
        peer.send(Abort(0, 0).encode() + b"\xff" * 1000)
        self.pump()
        self.assertEqual(self.ends, ["aborted"])
        self.assertConnectionOver(peer)
        self.assertEqual(len(self.lines), 1)

    def test_FIN(self) -> None:
        """Of a peer that reads no more, or still does."""
        for end in ("loseConnection", "loseWriteConnection"):
            self.listen()
            peer = self.associate()
            getattr(client(peer), end)()
            self.pump()
            self.assertEqual(self.ends, ["lost"], end)
            self.assertConnectionOver(peer)

    def test_RST(self) -> None:
        peer = self.associate()
        client(peer).abortConnection()
        self.pump()
        self.assertEqual(self.ends, ["lost"])

    def test_unexpectedPDU(self) -> None:
        """A-ABORT 2/2; one that does not close is closed upon, hard, at ARTIM."""
        peer = self.associate()
        peer.send(RQ)
        self.pump()
        self.assertEqual(peer.aborted, Abort(2, 2))
        self.assertEqual(self.ends, ["aborted"])
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertConnectionOver(peer)

    def test_invalidMessage(self) -> None:
        """A context that was never proposed."""
        peer = self.associate()
        peer.send(pData(5, 3, b"x") + pData(1, 3, b"y"))
        self.pump()
        self.assertEqual(peer.received[1:], [Abort(2, 5)])
        self.assertEqual(self.ends, ["aborted"])
        self.assertIn("aborted here: PDV of a context never proposed", self.lines[0])


class ReleaseTests(ListenerTestCase):
    def assertReleased(self, peer: ScriptedPeer) -> None:
        self.pump()
        self.assertIsInstance(peer.received[-1], ReleaseRP)
        self.assertEqual(self.ends, ["released"])

    def test_release(self) -> None:
        peer = self.associate()
        peer.release()
        self.assertReleased(peer)
        self.assertIsNone(peer.lost)
        client(peer).loseConnection()
        self.pump()
        self.assertConnectionOver(peer)

    def test_notClosed(self) -> None:
        peer = self.associate()
        peer.release()
        self.assertReleased(peer)
        self.advance(29)
        self.assertIsNone(peer.lost)
        self.advance(1)
        self.assertConnectionOver(peer)
        self.assertIsInstance(self.server(peer).closed, ConnectionAborted)

    def test_allInOneChunk(self) -> None:
        """Responses come before the confirmation."""
        peer = self.associate()
        peer.echo(1)
        peer.store(dataSet(), "1.2.3")
        peer.release()
        self.assertReleased(peer)
        self.assertEqual(peer.statuses, [0, 0])

    def test_waitsForResponses(self) -> None:
        for event in ("OnStoreDone", "OnEcho"):
            self.listen()
            later = self.later()
            self.answer(**{event: later})
            peer = self.associate()
            peer.echo(1)
            peer.store(dataSet(), "1.2.3")
            peer.echo(2)
            peer.release()
            self.pump()
            self.assertFalse(peer.released)
            self.assertEqual(self.ends, [])
            later.callback(None)
            self.assertReleased(peer)
            self.assertEqual(peer.statuses, [0, 0, 0])

    def test_waitsWhileTheLastPieceIsWritten(self) -> None:
        """The request is wholly received, although the sink is not through with it."""
        self.hold("write")
        peer = self.associate()
        peer.store(dataSet(), "1.2.3")
        peer.release()
        self.pump()
        self.assertFalse(peer.released)
        self.store.sinks[0].fire("write")
        self.assertReleased(peer)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.names[-3:], ["OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_insideADataSet(self) -> None:
        """Released, as the table says; the object is discarded and not answered."""
        peer = self.associate()
        peer.send(storeCommand() + pData(3, 0, b"part"))
        peer.release()
        self.assertReleased(peer)
        self.assertEqual(peer.statuses, [])
        self.assertEqual(self.names[-4:], ["sink.write", "sink.abort", "OnStoreDone", "OnAssocEnd"])
        self.assertIs(self.events.calls[-2][1][1], False)

    def test_insideADataSetThatIsWritten(self) -> None:
        self.hold("write")
        peer = self.associate()
        peer.send(storeCommand() + pData(3, 0, b"part"))
        peer.release()
        self.assertReleased(peer)
        self.assertEqual(self.names[-4:], ["sink.write cancelled", "sink.abort", "OnStoreDone", "OnAssocEnd"])

    def test_insideACommand(self) -> None:
        peer = self.associate()
        peer.send(pData(3, 1, b"part"))
        peer.release()
        self.assertReleased(peer)
        self.assertEqual(self.names, ["OnConnection", "OnAssocEnd"])

    def test_whileOnStoreSetupDecides(self) -> None:
        self.answer(OnStoreSetup=self.later())
        peer = self.associate()
        peer.send(storeCommand())
        peer.release()
        self.assertReleased(peer)
        self.assertEqual(self.names[1:], ["OnStoreSetup", "cancelled", "OnAssocEnd"])

    def test_dataBehindIt(self) -> None:
        """A fault, even while the confirmation waits for a response."""
        for later in (False, True):
            self.listen()
            self.answer(OnEcho=self.later() if later else None)
            peer = self.associate()
            peer.echo(1)
            peer.release()
            peer.echo(2)
            self.pump()
            self.assertEqual(peer.aborted, Abort(2, 2))
            self.assertFalse(peer.released)
            self.answerAll()
            self.assertEqual(self.ends, ["aborted"])

    def test_theEndWhileItWaits(self) -> None:
        for end, reason in (("loseConnection", "lost"), ("abortConnection", "lost"), ("abort", "aborted")):
            self.listen()
            peer, later = self.releasing()
            getattr(peer if end == "abort" else client(peer), end)()
            self.pump()
            self.assertConnectionOver(peer)
            self.assertEqual(self.ends, [])
            later.callback(None)
            self.assertEqual(self.ends, [reason])
            self.assertEqual(peer.received[1:], [])

    def test_abortedHereWhileItWaits(self) -> None:
        peer, later = self.releasing()
        self.accepted[0].abort()
        later.callback(None)
        self.pump()
        self.assertEqual(peer.received[1:], [Abort(0, 0)])
        self.assertEqual(self.ends, ["aborted"])


class _Broken:
    """A provider one method of which fails, when it has done its work."""

    def __init__(self, provider: Any, method: str) -> None:
        self._provider = provider
        self._method = method

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._provider, name)
        return self._failing(found) if name == self._method else found

    def _failing(self, original: Callable[..., object]) -> Callable[..., None]:
        def failing(*args: object) -> None:
            original(*args)
            raise ZeroDivisionError

        return failing


class FailureTests(ListenerTestCase):
    """What should not happen here ends one association, in order, and is logged."""

    def test_noProvider(self) -> None:
        def makeProvider(*args: object) -> Any:
            raise ZeroDivisionError

        self.factory.makeProvider = makeProvider
        peer = self.associate()
        self.assertEqual(peer.received, [Abort(0, 0)])
        self.assertErrors(ZeroDivisionError)
        self.assertLines("an association failed", "no association with 127.0.0.1: aborted here")

    def broken(self, method: str) -> ScriptedPeer:
        """Return an accepted peer whose messages meet a provider one method of which fails."""
        makeProvider = self.factory.makeProvider

        def makeBroken(*args: Any) -> Any:
            return _Broken(makeProvider(*args), method)

        self.factory.makeProvider = makeBroken
        return self.associate()

    def test_message(self) -> None:
        peer = self.broken("pdvReceived")
        peer.echo()
        self.pump()
        self.assertEqual(peer.aborted, Abort(0, 0))
        self.assertErrors(ZeroDivisionError)
        self.assertEqual(self.ends, ["aborted"])

    def test_end(self) -> None:
        """Where nothing is to be aborted any more, the rest of the end comes all the same: ARTIM, and OnAssocEnd."""
        peer = self.broken("ended")
        peer.send(RQ)
        self.pump()
        self.assertEqual(peer.aborted, Abort(2, 2))
        self.assertErrors(ZeroDivisionError)
        self.assertEqual(self.ends, ["aborted"])
        self.advance(30)
        self.assertConnectionOver(peer)

    def test_factoryAsAPortUsesIt(self) -> None:
        self.factory.doStart()
        self.factory.doStop()
        self.assertIsInstance(self.factory, AssociationFactory)

    def test_eventsThatFail(self) -> None:
        """The association lives on, and OnAssocEnd fails for nobody else."""
        for answer in (ValueError("no"), lambda *args: fail(ValueError("no"))):
            self.listen()
            self.answer(OnAssocEnd=answer)
            peer = self.associate()
            peer.release()
            self.pump()
            self.assertTrue(peer.released)
            self.assertEqual(self.lines[1:], ["an event failed"])
            self.assertErrors(ValueError)
