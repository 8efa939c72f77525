"""
The SDK's calls: an application that waits, for associations and for one command after the other.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import CannotListenError
from zope.interface.verify import verifyClass, verifyObject

from dcxtwisted import DCXACC, IDCXACC, IAssociation
from dcxtwisted.acceptance import Association
from dcxtwisted.interfaces import IDIMSEProvider
from dcxtwisted.pull import Gate
from dcxtwisted.testing import ListenerInMemory, ScriptedPeer
from dcxtwisted.testing.peer import CT_IMAGE_STORAGE
from dcxtwisted.transports import addressOf
from dcxtwisted.wire.commandset import encodeCommandSet
from dcxtwisted.wire.items import AsynchronousOperationsWindow
from dcxtwisted.wire.pdu import AssociateAC, ReleaseRP
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand

_T = TypeVar("_T")

#: Where the tests wait; any number does, in memory.
PORT = 104


class PullTestCase(ListenerTestCase):
    """A listener that is waited on, in memory."""

    _seen: int

    @property
    def acceptor(self) -> DCXACC:
        return self.listener.acceptor

    def waitForConnection(self, timeout: float | None = None, port: int = PORT) -> Deferred[IAssociation | None]:
        return self.acceptor.WaitForConnection("SCP", port, timeout)

    def establish(self, **kwargs: Any) -> tuple[ScriptedPeer, IAssociation]:
        """Return a peer and its association, which was waited for."""
        waiting = self.waitForConnection()
        peer = self.associate(**kwargs)
        association = self.successResultOf(waiting)
        assert association is not None
        return peer, association

    def commandOf(self, association: IAssociation, timeout: float | None = None) -> bool:
        """Return what a wait for a command gives at once."""
        result = self.resultOf(association.WaitForCommand(timeout))
        self.pump()
        return result

    def resultOf(self, deferred: Deferred[_T]) -> _T:
        self.pump()
        return self.successResultOf(deferred)

    def since(self) -> list[str]:
        """Return the names of what happened since this was last asked."""
        names, self._seen = self.names[self._seen :], len(self.names)
        return names

    def _listen(self, configuration: Any) -> None:
        super()._listen(configuration)
        self._seen = 0

    def end(self) -> None:
        self.successResultOf(self.acceptor.StopListener())
        # Those that are held up do not see their peers go.
        self.acceptor.AbortActiveAssociations()
        super().end()


class WaitForConnectionTests(PullTestCase):
    """``WaitForConnection``: listening, the queue, who is served first, and what it fails with."""

    def test_arrives(self) -> None:
        """It fires with the association of OnConnection, behind the answer."""
        waiting = self.waitForConnection()
        self.assertNoResult(waiting)
        peer = self.associate(callingAETitle="CT1")
        association = self.successResultOf(waiting)
        assert association is not None
        self.assertTrue(association)
        self.assertEqual(association.callingAETitle, "CT1")
        self.assertEqual([type(PDU) for PDU in peer.received], [AssociateAC])
        ((name, args),) = self.events.calls
        self.assertEqual((name, args[:3]), ("OnConnection", ("CT1", "DCXTWISTED", "127.0.0.1")))
        self.assertIs(args[3], association)
        self.assertEqual(self.acceptor.associations, [association])

    def test_listensOnFirstUse(self) -> None:
        self.assertEqual(self.acceptor.ports, [])
        self.assertRaises(ConnectionRefusedError, self.connect, port=PORT)
        self.waitForConnection()
        self.assertEqual([addressOf(port.getHost()) for port in self.acceptor.ports], [f"127.0.0.1:{PORT}"])
        self.waitForConnection()
        self.assertEqual(len(self.acceptor.ports), 1)
        self.assertLines(f"listening on 127.0.0.1:{PORT}")

    def test_timeout(self) -> None:
        waiting = self.waitForConnection(30)
        self.advance(29.9)
        self.assertNoResult(waiting)
        self.advance(0.2)
        self.assertIsNone(self.successResultOf(waiting))
        # It is listened on, and what comes now is kept for the next wait.
        peer = self.associate()
        self.assertIsNotNone(peer.accepted)
        self.assertIsNotNone(self.successResultOf(self.waitForConnection(30)))
        self.assertEqual(self.names, ["OnConnection"])

    def test_noTimeLeft(self) -> None:
        """Zero seconds, or fewer, are a look at what there is."""
        for timeout in (0, -1):
            waiting = self.waitForConnection(timeout)
            self.advance(0)
            self.assertIsNone(self.successResultOf(waiting))
        self.associate()
        self.assertIsNotNone(self.successResultOf(self.waitForConnection(0)))

    def test_forEver(self) -> None:
        waiting = self.waitForConnection(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.advance(1e6)
        self.assertNoResult(waiting)

    def test_firstComeFirstServed(self) -> None:
        waits = [self.waitForConnection() for _ in range(3)]
        for number in range(3):
            self.associate(callingAETitle=f"CT{number}")
        associations = [self.successResultOf(each) for each in waits]
        self.assertEqual([each and each.callingAETitle for each in associations], ["CT0", "CT1", "CT2"])

    def test_timedOutIsNotServed(self) -> None:
        first, second = self.waitForConnection(10), self.waitForConnection(20)
        self.advance(15)
        self.associate()
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNotNone(self.successResultOf(second))

    def test_queue(self) -> None:
        """They are answered as they arrive, and handed out in that order."""
        self.cancelled(self.waitForConnection())
        for number in range(3):
            self.assertIsNotNone(self.associate(callingAETitle=f"CT{number}").accepted)
        titles = []
        for _ in range(3):
            association = self.successResultOf(self.waitForConnection(5))
            assert association is not None
            titles.append(association.callingAETitle)
        self.assertEqual(titles, ["CT0", "CT1", "CT2"])

    def cancelled(self, waiting: Deferred[Any]) -> None:
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_cancelled(self) -> None:
        """Cancelling a wait loses no association, nor the place of others."""
        first, second = self.waitForConnection(30), self.waitForConnection(30)
        self.cancelled(first)
        self.associate(callingAETitle="CT0")
        self.associate(callingAETitle="CT1")
        associations = [self.successResultOf(second), self.successResultOf(self.waitForConnection())]
        self.assertEqual([each and each.callingAETitle for each in associations], ["CT0", "CT1"])

    def test_full(self) -> None:
        """Beyond the configured number they are rejected 2/3/2, and OnConnection is not asked."""
        self.listen(maximumAssociationsWaiting=2)
        self.cancelled(self.waitForConnection())
        peers = [self.associate() for _ in range(4)]
        self.assertEqual([peer.accepted is not None for peer in peers], [True, True, False, False])
        for peer in peers[2:]:
            assert peer.rejected is not None
            rejected = peer.rejected
            self.assertEqual((rejected.result, rejected.source, rejected.reason), (2, 3, 2))
        self.assertEqual(self.names, ["OnConnection"] * 2)
        self.assertEqual(self.acceptor.counts["associations over a limit"], 2)
        why = "because as many wait to be asked for as may, maximumAssociationsWaiting = 2: from 'PEER'"
        self.assertTrue(any(why in line for line in self.lines))
        # Each that is handed out leaves room for another.
        self.successResultOf(self.waitForConnection())
        self.assertIsNotNone(self.associate().accepted)
        self.assertIsNotNone(self.associate().rejected)

    def test_fullOfThoseThatAreDecided(self) -> None:
        """Those that OnConnection decides on have their place; one that is refused, or goes, gives it up."""
        self.listen(maximumAssociationsWaiting=2)
        self.cancelled(self.waitForConnection())
        self.answer(OnConnection=lambda *args: self.later())
        first, second = self.associate(), self.associate()
        self.assertIsNotNone(self.associate().rejected)
        self.deferreds[0].callback(False)
        self.pump()
        self.assertIsNotNone(first.rejected)
        third = self.associate()
        self.assertIsNotNone(self.associate().rejected)
        third.abort()
        self.pump()
        fourth = self.associate()
        self.assertIsNone(fourth.rejected)
        self.deferreds[1].callback(True)
        self.deferreds[3].callback(True)
        self.pump()
        self.assertIsNotNone(second.accepted)
        self.assertIsNotNone(fourth.accepted)
        self.assertIsNotNone(self.associate().rejected)

    def test_noneMayWait(self) -> None:
        """With no place to wait at, one is let in for each that is waited for."""
        self.listen(maximumAssociationsWaiting=0)
        waiting = self.waitForConnection()
        peers = [self.associate(), self.associate()]
        self.assertIsNotNone(self.successResultOf(waiting))
        self.assertEqual([peer.accepted is not None for peer in peers], [True, False])

    def test_overBeforeHandedOut(self) -> None:
        """What ended in the queue is not handed out, and leaves its place."""
        self.listen(maximumAssociationsWaiting=1)
        self.cancelled(self.waitForConnection())
        self.associate().release()
        self.pump()
        self.assertEqual(self.since(), ["OnConnection", "OnAssocEnd"])
        waiting = self.waitForConnection()
        self.assertNoResult(waiting)
        self.associate(callingAETitle="CT1")
        association = self.successResultOf(waiting)
        assert association is not None
        self.assertEqual(association.callingAETitle, "CT1")

    def test_rejectedIsNotHandedOut(self) -> None:
        self.answer(OnConnection=False)
        waiting = self.waitForConnection()
        self.assertIsNotNone(self.associate().rejected)
        self.assertNoResult(waiting)

    def test_nobodyEverAsks(self) -> None:
        """An association that is not handed out for the silence deadline is aborted."""
        self.listen(silenceDeadline=100)
        self.cancelled(self.waitForConnection())
        peer = self.associate()
        self.advance(99)
        self.assertEqual(self.since(), ["OnConnection"])
        self.advance(1)
        self.assertIsNotNone(peer.aborted)
        self.assertEqual(self.since(), ["OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.accepted[0].ended, "timed out")

    def test_ports(self) -> None:
        """Each port has its own queue and waits; a number and its text are one port."""
        here, there = self.waitForConnection(port=104), self.waitForConnection(port=105)
        peer, connection = self.listener.connect(port=105)
        self.connections.append(connection)
        peer.associate()
        self.pump()
        self.assertNoResult(here)
        self.assertIsNotNone(self.successResultOf(there))
        again = self.acceptor.WaitForConnection("SCP", " 104 ", None)
        self.assertEqual(len(self.acceptor.ports), 2)
        self.assertNoResult(again)

    def test_AETitle(self) -> None:
        """It is checked where the configuration says so: that of the latest call, '' for the configured one."""
        for title, called, isAccepted in (
            ("SCP", "SCP", True),
            ("SCP", "DCXTWISTED", False),
            ("", "DCXTWISTED", True),
            ("", "SCP", False),
        ):
            self.listen(checkCalledAETitle=True)
            self.acceptor.WaitForConnection("OTHER", PORT, None)
            self.acceptor.WaitForConnection(title, PORT, None)
            peer = self.associate(calledAETitle=called)
            self.assertEqual(peer.accepted is not None, isAccepted, (title, called))
        self.listen()
        self.acceptor.WaitForConnection("SCP", PORT, None)
        self.assertIsNotNone(self.associate(calledAETitle="ANY").accepted)

    def test_misused(self) -> None:
        error = self.failureResultOf(self.acceptor.WaitForConnection("SEVENTEEN LETTERS", PORT), ValueError)
        self.assertIn("AE title", error.getErrorMessage())
        acceptor = DCXACC(reactor=self.clock)
        error = self.failureResultOf(acceptor.WaitForConnection("SCP", "nonsense:104"), ValueError)
        self.assertIn("neither a port number nor an endpoint", error.getErrorMessage())
        self.failureResultOf(acceptor.WaitForConnection("SCP", 65536), ValueError)

    def test_oneOperationAtATime(self) -> None:
        """However many are proposed, and configured."""
        self.listen(operationsWindow=8)
        waiting = self.waitForConnection()
        peer = self.associate(asynchronousOperationsWindow=AsynchronousOperationsWindow(4, 1))
        association = self.successResultOf(waiting)
        assert association is not None
        self.assertEqual(association.operationsWindow, 1)
        assert peer.accepted is not None
        answered = peer.accepted.userInformation.asynchronousOperationsWindow
        self.assertEqual(answered, AsynchronousOperationsWindow(1, 1))
        # In push style it is as ever.
        self.assertEqual(self.factory.supported.operationsWindow, 8)


class WaitForCommandTests(PullTestCase):
    """``WaitForCommand``: one command for each wait, and nothing of the next."""

    def test_provides(self) -> None:
        _, association = self.establish()
        verifyObject(IAssociation, association)
        assert isinstance(association, Association)
        self.assertIsInstance(association.gate, Gate)
        verifyObject(IDIMSEProvider, association.gate)

    def test_nothingIsServedUnasked(self) -> None:
        peer, association = self.establish()
        self.since()
        peer.echo()
        peer.store(dataSet(), "1.2.3")
        self.advance(50)
        self.assertEqual((self.since(), peer.statuses), ([], []))
        self.assertTrue(self.server(peer).paused)
        self.assertEqual(association.ended, "")

    def test_oneByOne(self) -> None:
        """Each wait fires when the command that came is answered, its events told; the next waits for the next call."""
        peer, association = self.establish()
        self.since()
        waiting = association.WaitForCommand(30)
        self.assertNoResult(waiting)
        peer.echo(1)
        peer.store(dataSet(), "1.2.3", messageID=2)
        peer.echo(3)
        self.assertIs(self.resultOf(waiting), True)
        self.assertEqual((self.since(), peer.statuses), (["OnEcho"], [0]))
        self.assertIs(self.commandOf(association, 30), True)
        self.assertEqual(
            self.since(), ["OnStoreSetup", "store.open", "sink.write", "sink.finish", "OnStoreDone", "sink.keep"]
        )
        self.assertEqual(peer.statuses, [0, 0])
        self.assertIs(self.commandOf(association), True)
        self.assertEqual((self.since(), peer.statuses), (["OnEcho"], [0, 0, 0]))
        self.assertFalse(self.server(peer).paused)

    def test_firesBehindTheResponse(self) -> None:
        """And behind whatever the command still waits for."""
        self.hold("finish")
        self.answer(OnStoreDone=lambda *args: self.later())
        peer, association = self.establish()
        waiting = association.WaitForCommand(5)
        peer.store(dataSet(), "1.2.3")
        peer.echo(2)
        self.pump()
        # Begun, it has no timeout but deadlines of its own.
        self.advance(50)
        self.assertNoResult(waiting)
        self.store.sinks[0].fire("finish")
        self.pump()
        self.assertNoResult(waiting)
        written: list[int] = []
        waiting.addCallback(lambda ignored: written.append(len(self.server(peer).unsent)))
        self.deferreds[0].callback(True)
        self.successResultOf(waiting)
        self.assertGreater(written[0], 0)
        self.pump()
        self.assertEqual(peer.statuses, [0])

    def test_loop(self) -> None:
        """The usual loop, over commands that all have arrived before it begins."""
        served: list[str] = []

        async def serve(association: IAssociation) -> None:
            while await association.WaitForCommand(30):
                served.append(self.names[-1])

        peer, association = self.establish()
        for number in range(1000):
            peer.echo(number)
        peer.release()
        self.pump()
        serving = Deferred.fromCoroutine(serve(association))
        self.pump()
        self.successResultOf(serving)
        self.assertEqual(served, ["OnEcho"] * 1000)
        self.assertEqual(peer.statuses, [0] * 1000)
        self.assertTrue(peer.released)

    def test_aShareOfATurn(self) -> None:
        """What has arrived is given some at a time to an application that asks and asks: others have their turn."""
        peer, association = self.establish()
        for number in range(100):
            peer.echo(number)
        self.pump()

        def some() -> None:
            for _ in range(16):
                self.assertIs(self.successResultOf(association.WaitForCommand(30)), True)

        some()
        waiting = association.WaitForCommand(0)
        self.assertNoResult(waiting)
        self.clock.advance(0)
        self.assertIs(self.successResultOf(waiting), True)
        some()
        waiting = association.WaitForCommand(30)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        some()
        waiting = association.WaitForCommand(30)
        association.abort()
        self.assertIs(self.successResultOf(waiting), False)

    def test_slowApplication(self) -> None:
        """One whose application is busy holds up nobody else."""
        busy, slow = self.establish()
        quick, other = self.establish()
        self.assertIs(slow.WaitForCommand(30).called, False)
        busy.echo()
        busy.echo()
        self.pump()
        for _ in range(3):
            waiting = other.WaitForCommand(30)
            quick.echo()
            self.assertIs(self.resultOf(waiting), True)
        self.assertEqual((busy.statuses, quick.statuses), ([0], [0, 0, 0]))

    def test_refusedCommandsCount(self) -> None:
        """A command that is refused is served by that."""
        peer, association = self.establish()
        peer.store(dataSet(), "../x")
        self.assertIs(self.commandOf(association), True)
        self.assertEqual(peer.statuses, [0x0117])
        peer.send(
            pData(
                1,
                3,
                encodeCommandSet({0x0002: b"1.2.840.10008.1.1\0", 0x0100: b"\x20\0", 0x0110: b"\2\0", 0x0800: b"\1\1"}),
            )
        )
        self.assertIs(self.commandOf(association), True)
        self.assertEqual(peer.statuses, [0x0117, 0x0211])

    def test_whatIsNoRequestDoesNotCount(self) -> None:
        """A C-CANCEL of nothing is passed over, and still waited; the timeout holds."""
        cancel = pData(1, 3, encodeCommandSet({0x0100: b"\xff\x0f", 0x0120: b"\7\0", 0x0800: b"\1\1"}))
        peer, association = self.establish()
        waiting = association.WaitForCommand(10)
        peer.send(cancel)
        self.pump()
        self.advance(5)
        self.assertNoResult(waiting)
        peer.echo()
        self.assertIs(self.resultOf(waiting), True)
        waiting = association.WaitForCommand(10)
        self.advance(9)
        peer.send(cancel)
        self.pump()
        self.advance(1)
        self.assertIs(self.successResultOf(waiting), False)
        # One that was begun when the time was up, too.
        waiting = association.WaitForCommand(10)
        half = len(cancel) // 2
        peer.send(pData(1, 1, cancel[12:half]))
        self.pump()
        self.advance(10)
        self.assertNoResult(waiting)
        peer.send(pData(1, 3, cancel[half:]))
        self.pump()
        self.assertIs(self.successResultOf(waiting), False)
        self.assertEqual(self.names.count("OnTimeout"), 2)

    def test_ofTheAccepter(self) -> None:
        """The accepter's waits for the association it handed out last."""
        self.failureResultOf(self.acceptor.WaitForCommand(1), RuntimeError)
        first, _ = self.establish()
        second, _ = self.establish()
        waiting = self.acceptor.WaitForCommand(30)
        first.echo()
        self.pump()
        self.assertNoResult(waiting)
        second.echo()
        self.assertIs(self.resultOf(waiting), True)
        self.assertEqual((first.statuses, second.statuses), ([], [0]))
        self.waitForConnection()
        # Waiting for the next changes nothing before it is there.
        second.echo()
        self.assertIs(self.resultOf(self.acceptor.WaitForCommand()), True)

    def test_twice(self) -> None:
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        self.failureResultOf(association.WaitForCommand(30), RuntimeError)
        peer.echo()
        self.assertIs(self.resultOf(waiting), True)

    def test_cancelledBeforeACommand(self) -> None:
        """What comes then waits for the next call."""
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        peer.echo()
        self.pump()
        self.assertEqual(peer.statuses, [])
        self.assertIs(self.commandOf(association), True)
        self.assertEqual(peer.statuses, [0])

    def test_cancelledInsideACommand(self) -> None:
        """It is served, and nothing more; a wait before its end waits for it."""
        for waitsAgain in (False, True):
            self.listen()
            self.hold("finish")
            peer, association = self.establish()
            waiting = association.WaitForCommand(30)
            peer.store(dataSet(), "1.2.3")
            peer.echo(2)
            self.pump()
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            again = association.WaitForCommand(30) if waitsAgain else None
            self.store.sinks[0].fire("finish")
            self.pump()
            self.assertEqual(peer.statuses, [0])
            if again is not None:
                self.assertIs(self.successResultOf(again), True)
            self.assertIs(self.commandOf(association), True)
            self.assertEqual(peer.statuses, [0, 0])

    def test_notInPushStyle(self) -> None:
        peer = self.associate()
        failure = self.failureResultOf(self.accepted[0].WaitForCommand(1), RuntimeError)
        self.assertIn("startService", failure.getErrorMessage())
        peer.echo()
        self.pump()
        self.assertEqual(peer.statuses, [0])

    def test_notBeforeItIsAccepted(self) -> None:
        waits: list[Deferred[bool]] = []

        def onConnection(*args: Any) -> bool:
            waits.append(args[3].WaitForCommand(1))
            return True

        self.answer(OnConnection=onConnection)
        self.establish()
        self.failureResultOf(waits[0], RuntimeError)

    def test_afterTheEndInsideTheEvents(self) -> None:
        """A callback that ends the association where its command was served does no harm."""
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        waiting.addCallback(lambda ignored: association.abort())
        peer.echo()
        peer.echo()
        self.resultOf(waiting)
        self.assertEqual((peer.statuses, self.ends), ([0], ["aborted"]))
        self.assertIs(self.commandOf(association), False)


class TimeoutTests(PullTestCase):
    """What runs out: a wait, the patience with who does not wait, and with the peer."""

    def test_timeout(self) -> None:
        """OnTimeout, then False; the association is up, and ``ended`` says so."""
        peer, association = self.establish()
        self.since()
        waiting = association.WaitForCommand(30)
        seen: list[tuple[bool, list[str]]] = []
        waiting.addCallback(lambda result: seen.append((result, self.since())))
        self.advance(29.9)
        self.assertNoResult(waiting)
        self.advance(0.1)
        self.assertEqual(seen, [(False, ["OnTimeout"])])
        self.assertEqual(self.events.calls[-1], ("OnTimeout", (association,)))
        self.assertEqual(association.ended, "")
        peer.echo()
        self.pump()
        self.assertEqual(peer.statuses, [])
        self.assertIs(self.commandOf(association), True)
        self.assertEqual(peer.statuses, [0])

    def test_timeoutThatEndsIt(self) -> None:
        """OnTimeout may end the association, or fail: the wait is over all the same."""
        self.answer(OnTimeout=lambda association: association.abort())
        _, association = self.establish()
        waiting = association.WaitForCommand(30)
        self.advance(30)
        self.assertIs(self.successResultOf(waiting), False)
        self.assertEqual(association.ended, "aborted")
        self.answer(OnTimeout=KeyError())
        _, association = self.establish()
        waiting = association.WaitForCommand(30)
        self.advance(30)
        self.assertIs(self.successResultOf(waiting), False)
        self.assertEqual(association.ended, "")
        self.assertErrors(KeyError)

    def test_timeoutInsideAPDU(self) -> None:
        """Half a PDU is no command yet; the rest of it is not lost."""
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        command = storeCommand()
        peer.send(command[:10])
        self.pump()
        self.advance(30)
        self.assertIs(self.successResultOf(waiting), False)
        peer.send(command[10:] + pData(3, 2, dataSet()))
        self.assertIs(self.commandOf(association), True)
        self.assertEqual(peer.statuses, [0])

    def test_noTimeoutInsideACommand(self) -> None:
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.send(storeCommand())
        self.pump()
        self.advance(29)
        peer.send(pData(3, 0, dataSet()[:50]))
        self.pump()
        self.advance(29)
        self.assertNoResult(waiting)
        peer.send(pData(3, 2, dataSet()[50:]))
        self.assertIs(self.resultOf(waiting), True)
        self.assertEqual(self.names.count("OnTimeout"), 0)

    def test_nobodyWaits(self) -> None:
        """Counted from the end of the last command, whatever the peer sends meanwhile."""
        self.listen(silenceDeadline=100)
        peer, association = self.establish()
        peer.echo()
        self.assertIs(self.commandOf(association), True)
        self.since()
        self.advance(60)
        peer.echo()
        self.advance(39)
        self.assertEqual(association.ended, "")
        self.advance(1)
        self.assertEqual((association.ended, self.since()), ("timed out", ["OnTimeout", "OnAssocEnd"]))
        self.assertIsNotNone(peer.aborted)
        self.assertIs(self.commandOf(association), False)
        self.assertTrue(any("nobody waited for a command for 100 s" in line for line in self.lines))

    def test_somebodyWaits(self) -> None:
        """Each wait begins it anew, and a peer that is held up is not to blame."""
        self.listen(silenceDeadline=100)
        peer, association = self.establish()
        for _ in range(4):
            peer.echo()
            self.pump()
            self.advance(90)
            self.assertIs(self.commandOf(association), True)
        self.assertEqual(len(peer.statuses), 4)

    def test_silentPeer(self) -> None:
        """Waiting again and again does not keep a peer that says nothing; that ends the last wait."""
        self.listen(silenceDeadline=100)
        peer, association = self.establish()
        results = []

        async def serve() -> None:
            while not association.ended:
                results.append(await association.WaitForCommand(30))

        serving = Deferred.fromCoroutine(serve())
        for _ in range(120):
            self.advance(1)
        self.successResultOf(serving)
        self.assertEqual((association.ended, results), ("timed out", [False] * 4))
        self.assertEqual(self.names.count("OnTimeout"), 4)
        self.assertIsNotNone(peer.aborted)

    def test_heldUpTimeDoesNotCount(self) -> None:
        """Where nobody waited for a while, that much longer may the peer be silent."""
        self.listen(silenceDeadline=100)
        _, association = self.establish()
        waiting = association.WaitForCommand(40)
        self.advance(40)
        self.assertIs(self.successResultOf(waiting), False)
        self.advance(90)
        waiting = association.WaitForCommand(None)
        self.advance(59)
        self.assertNoResult(waiting)
        self.advance(41)
        self.assertIs(self.successResultOf(waiting), False)
        self.assertEqual(association.ended, "timed out")

    def test_stallInsideACommand(self) -> None:
        """The deadlines inside a message are those of push style."""
        self.listen(progressDeadline=20)
        peer, association = self.establish()
        waiting = association.WaitForCommand(5)
        peer.send(storeCommand() + pData(3, 0, b"part"))
        self.pump()
        self.advance(19)
        self.assertNoResult(waiting)
        self.advance(1)
        self.assertIs(self.successResultOf(waiting), False)
        self.assertEqual(association.ended, "timed out")


#: How an association can end, and what OnAssocEnd is told then.
WAYS: list[tuple[str, Callable[[ScriptedPeer], object]]] = [
    ("released", ScriptedPeer.release),
    ("aborted", ScriptedPeer.abort),
    ("lost", lambda peer: client(peer).loseConnection()),
    ("lost", lambda peer: client(peer).loseWriteConnection()),
    ("lost", lambda peer: client(peer).abortConnection()),
]


class EndTests(PullTestCase):
    """The end of an association, in pull style and beside it in push style: the same events, and False."""

    def test_whileWaiting(self) -> None:
        for reason, go in WAYS:
            self.listen()
            peer, association = self.establish()
            waiting = association.WaitForCommand(30)
            told: list[tuple[bool, list[str]]] = []
            waiting.addCallback(self._tell, told)
            go(peer)
            self.resultOf(waiting)
            self.assertEqual((association.ended, self.ends), (reason, [reason]))
            self.assertEqual(told, [(False, ["OnConnection", "OnAssocEnd"])])
            self.assertIs(self.commandOf(association, 30), False)
            self.assertIs(self.successResultOf(self.acceptor.WaitForCommand(30)), False)

    def _tell(self, result: bool, told: list[tuple[bool, list[str]]]) -> None:
        told.append((result, self.names))

    def test_betweenWaits(self) -> None:
        """It is seen at once, a release is answered, and the next wait tells."""
        for reason, go in WAYS:
            self.listen()
            peer, association = self.establish()
            peer.echo()
            self.assertIs(self.commandOf(association), True)
            go(peer)
            self.pump()
            self.assertEqual((association.ended, self.ends), (reason, [reason]))
            self.assertEqual(peer.released, reason == "released")
            if reason != "released":
                self.assertConnectionOver(peer)
            self.assertIs(self.commandOf(association, 30), False)

    def test_behindACommand(self) -> None:
        """What ends it behind a command that nobody has asked for is seen behind that."""
        for reason, go in WAYS[:4]:
            self.listen()
            peer, association = self.establish()
            peer.echo()
            go(peer)
            self.pump()
            self.assertEqual(association.ended, "")
            self.assertIs(self.commandOf(association, 30), True)
            self.assertIs(self.commandOf(association, 30), False)
            self.assertEqual(self.since(), ["OnConnection", "OnEcho", "OnAssocEnd"])
            self.assertEqual(association.ended, reason)

    def test_insideACommand(self) -> None:
        for reason, go in WAYS[1:]:
            self.listen()
            peer, association = self.establish()
            waiting = association.WaitForCommand(30)
            peer.send(storeCommand() + pData(3, 0, b"part"))
            self.pump()
            go(peer)
            self.assertIs(self.resultOf(waiting), False)
            self.assertEqual(self.since()[-3:], ["sink.abort", "OnStoreDone", "OnAssocEnd"])
            self.assertEqual(association.ended, reason)

    def test_behindTheLastByte(self) -> None:
        """A command that was received goes to its end, and nobody is told of it: False, behind its events."""
        for reason, go in WAYS[1:]:
            self.listen()
            self.hold("finish")
            peer, association = self.establish()
            waiting = association.WaitForCommand(30)
            peer.store(dataSet(), "1.2.3")
            self.pump()
            go(peer)
            self.pump()
            self.assertEqual(association.ended, reason)
            self.assertNoResult(waiting)
            self.store.sinks[0].fire("finish")
            self.assertIs(self.resultOf(waiting), False)
            self.assertEqual(self.since()[-3:], ["OnStoreDone", "sink.keep", "OnAssocEnd"])

    def test_endedInsideTheCall(self) -> None:
        """What had arrived ends it once it is asked for; no timer outlives it where its events take their time."""
        self.hold("abort")
        peer, association = self.establish()
        peer.send(storeCommand() + pData(3, 0, b"part") + pData(1, 3, b"nonsense"))
        self.pump()
        waiting = association.WaitForCommand(30)
        self.assertNoResult(waiting)
        self.assertEqual(association.ended, "aborted")
        self.advance(31)
        self.assertNoResult(waiting)
        self.store.sinks[0].fire("abort")
        self.assertIs(self.resultOf(waiting), False)
        self.assertEqual(self.names.count("OnTimeout"), 0)

    def test_askedBetweenEndAndEvents(self) -> None:
        """A wait that begins when the association is over, but not all its events are told, waits for them."""
        self.hold("finish")
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.store(dataSet(), "1.2.3")
        self.pump()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        peer.abort()
        self.pump()
        again = association.WaitForCommand(30)
        self.assertNoResult(again)
        self.store.sinks[0].fire("finish")
        self.assertIs(self.resultOf(again), False)
        self.assertEqual(self.ends, ["aborted"])

    def test_releaseBehindWhatIsServed(self) -> None:
        """The command is served, True, then the release is answered, False."""
        self.hold("finish")
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.store(dataSet(), "1.2.3")
        peer.release()
        self.pump()
        self.assertFalse(peer.released)
        self.store.sinks[0].fire("finish")
        self.assertIs(self.resultOf(waiting), True)
        self.assertEqual([type(each) for each in peer.received], [AssociateAC, dict, ReleaseRP])
        self.assertIs(self.commandOf(association), False)

    def test_protocolError(self) -> None:
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.send(pData(9, 3, b"nonsense"))
        self.assertIs(self.resultOf(waiting), False)
        self.assertEqual(association.ended, "aborted")

    def test_push(self) -> None:
        """The same ends in push style."""
        for reason, go in WAYS:
            self.listen()
            peer = self.associate()
            peer.echo()
            self.pump()
            go(peer)
            self.pump()
            self.assertEqual(self.names, ["OnConnection", "OnEcho", "OnAssocEnd"])
            self.assertEqual(self.ends, [reason])
        self.listen(silenceDeadline=100)
        self.associate()
        self.advance(100)
        self.assertEqual(self.names, ["OnConnection", "OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.ends, ["timed out"])


class HeldBackTests(PullTestCase):
    """Between the waits a peer is held back by not reading, and only by that."""

    def test_waitingAloneDoesNotPause(self) -> None:
        peer, association = self.establish()
        self.assertFalse(self.server(peer).paused)
        peer.echo()
        self.assertIs(self.commandOf(association), True)
        self.assertFalse(self.server(peer).paused)
        # What is too little to be used does not pause it either.
        peer.send(storeCommand()[:10])
        self.pump()
        self.assertFalse(self.server(peer).paused)
        peer.send(storeCommand()[10:])
        self.pump()
        self.assertTrue(self.server(peer).paused)

    def test_noMoreThanAChunk(self) -> None:
        """What is not asked for stays with the peer."""
        waiting = self.waitForConnection()
        peer = self.connect(capacity=65536)
        peer.associate()
        self.pump()
        association = self.successResultOf(waiting)
        assert association is not None
        peer.store(dataSet(size=1 << 20), "1.2.3")
        self.pump()
        left = len(client(peer).unsent)
        self.assertGreater(left, (1 << 20) - 3 * 65536)
        self.advance(30)
        self.assertEqual(len(client(peer).unsent), left)
        self.assertIs(self.commandOf(association), True)
        self.assertEqual((len(client(peer).unsent), peer.statuses), (0, [0]))

    def test_aCommandIsNotBegun(self) -> None:
        """Nothing of the next command is read, not even when the one before it is still answered."""
        self.hold("finish")
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.store(dataSet(), "1.2.3")
        peer.send(pData(1, 3, b"no command set at all"))
        self.pump()
        self.store.sinks[0].fire("finish")
        self.assertIs(self.resultOf(waiting), True)
        self.assertEqual((peer.statuses, association.ended), ([0], ""))
        self.assertIs(self.commandOf(association), False)
        self.assertEqual(association.ended, "aborted")

    def test_stop(self) -> None:
        """A stop finishes what is served, and what nobody has asked for is aborted."""
        self.hold("finish")
        peer, association = self.establish()
        other, unattended = self.establish()
        waiting = association.WaitForCommand(30)
        peer.store(dataSet(), "1.2.3")
        other.echo()
        self.pump()
        connecting = self.waitForConnection()
        stopped = self.acceptor.stopService()
        self.pump()
        self.assertIsNone(self.successResultOf(connecting))
        self.assertEqual((unattended.ended, other.statuses), ("aborted", []))
        self.assertEqual(association.ended, "")
        self.store.sinks[0].fire("finish")
        self.assertIs(self.resultOf(waiting), True)
        self.assertEqual((peer.statuses, association.ended), ([0], "aborted"))
        self.pump()
        self.successResultOf(stopped)


class AccepterTests(PullTestCase):
    """What else the accepter has."""

    def test_provides(self) -> None:
        verifyClass(IDCXACC, DCXACC)
        verifyObject(IDCXACC, self.acceptor)
        self.assertTrue(IDCXACC.providedBy(ListenerInMemory().acceptor))

    def test_StopListener(self) -> None:
        """No one comes in any more; what is up goes on, and what queues can be asked for."""
        peer, association = self.establish()
        self.associate(callingAETitle="CT1")
        waiting = self.successResultOf(self.waitForConnection())
        self.associate(callingAETitle="CT2")
        pending = [self.waitForConnection(port=105), self.waitForConnection(30, port=105)]
        self.successResultOf(self.acceptor.StopListener())
        self.assertEqual([self.successResultOf(each) for each in pending], [None, None])
        self.assertEqual(self.acceptor.ports, [])
        self.assertRaises(ConnectionRefusedError, self.connect, port=PORT)
        peer.echo()
        self.assertIs(self.commandOf(association), True)
        queued = self.successResultOf(self.waitForConnection())
        assert waiting is not None
        assert queued is not None
        self.assertEqual((waiting.callingAETitle, queued.callingAETitle), ("CT1", "CT2"))
        self.assertEqual(self.acceptor.ports, [])
        # The next wait listens again.
        again = self.waitForConnection()
        self.associate()
        self.assertIsNotNone(self.successResultOf(again))
        self.successResultOf(self.acceptor.StopListener())
        self.successResultOf(self.acceptor.StopListener())

    def test_StopListenerWhileAsked(self) -> None:
        """Who asks again because a wait was over has the port listened on again."""
        waits: list[Deferred[Any]] = []
        self.waitForConnection().addCallback(lambda result: waits.append(self.waitForConnection()))
        self.successResultOf(self.acceptor.StopListener())
        self.assertNoResult(waits[0])
        self.associate()
        self.assertIsNotNone(self.successResultOf(waits[0]))

    def test_AbortActiveAssociations(self) -> None:
        peers = [self.establish() for _ in range(2)]
        waits = [association.WaitForCommand(30) for _, association in peers]
        self.associate()
        self.acceptor.AbortActiveAssociations()
        self.pump()
        self.assertEqual([self.successResultOf(each) for each in waits], [False, False])
        self.assertEqual(self.ends, ["aborted"] * 3)
        waiting = self.waitForConnection()
        self.assertNoResult(waiting)
        self.associate()
        self.assertIsNotNone(self.successResultOf(waiting))

    def test_TakeStoredObject(self) -> None:
        self.acceptor.EnableInMemoryStorageSCP = True
        peer, association = self.establish()
        for number in range(2):
            peer.store(dataSet(f"1.2.{number}"), f"1.2.{number}")
            self.assertIs(self.commandOf(association), True)
        taken = association.TakeStoredObject()
        assert taken is not None
        self.assertEqual(taken.SOPInstanceUID, "1.2.0")
        taken = self.acceptor.TakeStoredObject()
        assert taken is not None
        self.assertEqual(taken.SOPInstanceUID, "1.2.1")
        self.assertIsNone(self.acceptor.TakeStoredObject())
        self.assertIsNone(association.TakeStoredObject())

    def test_eventsBothWays(self) -> None:
        """A whole association makes the same events, with the same arguments, in pull style and in push style."""
        seen = []
        for isPull in (True, False):
            self.listen()
            if isPull:
                peer, association = self.establish()
            else:
                peer = self.associate()
                association = self.accepted[0]
            peer.echo(1)
            self.assertTrue(not isPull or self.commandOf(association))
            peer.store(dataSet(), "1.2.3", messageID=2)
            self.assertTrue(not isPull or self.commandOf(association))
            peer.store(dataSet()[:-2], "1.2.3", messageID=3)
            self.assertTrue(not isPull or self.commandOf(association))
            peer.release()
            self.pump()
            self.assertTrue(not isPull or not self.commandOf(association))
            self.assertEqual(peer.statuses, [0, 0, 0xC000])
            told = []
            for name, args in self.events.calls:
                for arg in args:
                    self.assertIs(getattr(arg, "association", association), association)
                told.append((name, [arg for arg in args if isinstance(arg, str | bool)]))
            seen.append(told)
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(
            [name for name, _ in seen[0] if name.startswith("On")],
            ["OnConnection", "OnEcho"] + ["OnStoreSetup", "OnStoreDone"] * 2 + ["OnAssocEnd"],
        )


class NextStorageResponseStatusTests(PullTestCase):
    """``NextStorageResponseStatus``: for tests of senders."""

    def storeAnd(self, peer: ScriptedPeer, data: bytes = dataSet()) -> int:
        peer.store(data, "1.2.3")
        self.pump()
        return peer.statuses[-1]

    def test_failure(self) -> None:
        """The object is removed, as any that is refused; it is for one response."""
        peer = self.associate()
        self.acceptor.NextStorageResponseStatus = 0xA700
        self.since()
        self.assertEqual(self.storeAnd(peer), 0xA700)
        self.assertEqual(
            self.since(), ["OnStoreSetup", "store.open", "sink.write", "sink.finish", "OnStoreDone", "sink.abort"]
        )
        self.assertIsNone(self.acceptor.NextStorageResponseStatus)
        self.assertEqual(self.storeAnd(peer), 0)
        self.assertEqual(self.since()[-1], "sink.keep")

    def test_warning(self) -> None:
        """The object is kept."""
        peer = self.associate()
        self.acceptor.NextStorageResponseStatus = 0xB007
        self.assertEqual(self.storeAnd(peer), 0xB007)
        self.assertEqual(self.names[-1], "sink.keep")
        self.assertEqual(self.accepted[0].objectsStored, 1)

    def test_neverASuccess(self) -> None:
        """A failure stays one, whatever is forced; and becomes another where that is a failure too."""
        peer = self.associate()
        for forced, answered in ((0, 0xC000), (0xB000, 0xC000), (0xA701, 0xA701)):
            self.acceptor.NextStorageResponseStatus = forced
            self.assertEqual(self.storeAnd(peer, dataSet()[:-2]), answered)
            self.assertIsNone(self.acceptor.NextStorageResponseStatus)
        self.answer(OnStoreDone=False)
        self.acceptor.NextStorageResponseStatus = 0
        self.assertEqual(self.storeAnd(peer), 0xC000)
        self.assertNotIn("sink.keep", self.names)
        peer.store(dataSet(), "../x")
        self.acceptor.NextStorageResponseStatus = 0
        self.pump()
        self.assertEqual(peer.statuses[-1], 0x0117)

    def test_successOfASuccess(self) -> None:
        peer = self.associate()
        self.answer(OnStoreDone=0xB006)
        self.acceptor.NextStorageResponseStatus = 0
        self.assertEqual(self.storeAnd(peer), 0)
        self.assertEqual(self.storeAnd(peer), 0xB006)

    def test_ofWhateverAssociation(self) -> None:
        first, second = self.associate(), self.associate()
        self.acceptor.NextStorageResponseStatus = 0xA700
        first.echo()
        self.pump()
        self.assertEqual(first.statuses, [0])
        self.assertEqual(self.storeAnd(second), 0xA700)
        self.assertEqual(self.storeAnd(first), 0)

    def test_notForThoseThatAreGone(self) -> None:
        """A response that nobody is told does not use it up."""
        peer = self.associate()
        self.acceptor.NextStorageResponseStatus = 0xA700
        peer.send(storeCommand() + pData(3, 0, b"part"))
        peer.abort()
        self.pump()
        self.assertEqual(self.names[-1], "OnAssocEnd")
        self.hold("finish")
        gone = self.associate()
        gone.store(dataSet(), "1.2.3")
        self.pump()
        gone.abort()
        self.pump()
        self.store.sinks[-1].fire("finish")
        self.assertEqual(self.names[-2:], ["sink.keep", "OnAssocEnd"])
        self.assertEqual(self.acceptor.NextStorageResponseStatus, 0xA700)

    def test_contextNotAccepted(self) -> None:
        """What is refused before it gets to the storage service is refused as ever, and does not use it up."""
        peer = self.associate({3: (CT_IMAGE_STORAGE, ["1.2.3.4"])})
        self.acceptor.NextStorageResponseStatus = 0xA700
        self.assertEqual(self.storeAnd(peer), 0x0122)
        self.assertEqual(self.acceptor.NextStorageResponseStatus, 0xA700)

    def test_values(self) -> None:
        wrong: Any
        for wrong in (-1, 0x10000, 0xFF00, 0xFF01, 0x0001, 0x0107, 0x0116, 0.5, 42752.0, "A700"):
            with self.assertRaises(ValueError):
                self.acceptor.NextStorageResponseStatus = wrong
        self.acceptor.NextStorageResponseStatus = 0xA700
        self.acceptor.NextStorageResponseStatus = None
        self.assertEqual(self.storeAnd(self.associate()), 0)


class ListeningTests(PullTestCase):
    """What listening fails with, and what takes its time."""

    def test_bindError(self) -> None:
        """All who wait are told, and the next wait tries again."""
        taken = ListenerInMemory()
        taken.acceptor.WaitForConnection("SCP", PORT)
        self.listener.acceptor.listening = taken.acceptor.listening  # type: ignore[attr-defined]  # of those in memory
        for _ in range(2):
            error = self.failureResultOf(self.waitForConnection(30), CannotListenError)
            self.assertIn("in use", error.getErrorMessage())
        self.assertEqual(self.acceptor.ports, [])
        self.successResultOf(taken.acceptor.StopListener())
        self.assertNoResult(self.waitForConnection(30))
        self.assertEqual(len(self.acceptor.ports), 1)

    def slow(self) -> list[Deferred[Any]]:
        """Have endpoints answer when the Deferreds that are returned fire."""
        attempts: list[Deferred[Any]] = []

        class Endpoint:
            def listen(self, factory: Any) -> Deferred[Any]:
                attempts.append(Deferred(lambda _: attempts.append(succeed("cancelled"))))
                return attempts[-1]

        self.acceptor._ports._endpointFrom = lambda description: Endpoint()  # type: ignore[assignment,return-value]
        return attempts

    def test_late(self) -> None:
        """An endpoint that takes its time fails all who wait, or is stopped before it has answered."""
        attempts = self.slow()
        waits = [self.waitForConnection(), self.waitForConnection(30)]
        self.assertEqual(len(attempts), 1)
        attempts[0].errback(CannotListenError("any", PORT, OSError()))
        for waiting in waits:
            self.failureResultOf(waiting, CannotListenError)
        waiting = self.waitForConnection(30)
        self.assertEqual(len(attempts), 2)
        self.successResultOf(self.acceptor.StopListener())
        self.assertEqual(len(attempts), 3)
        self.assertIsNone(self.successResultOf(waiting))
        gc.collect()

    def test_whileStopping(self) -> None:
        """Until the Deferred of stopService has fired nothing can be waited for; then it can."""
        self.hold("finish")
        peer, association = self.establish()
        association.WaitForCommand()
        peer.store(dataSet(), "1.2.3")
        self.pump()
        stopped = self.acceptor.stopService()
        self.failureResultOf(self.waitForConnection(), RuntimeError)
        self.store.sinks[0].fire("finish")
        self.pump()
        self.successResultOf(stopped)
        waiting = self.waitForConnection()
        self.associate()
        self.assertIsNotNone(self.successResultOf(waiting))
