"""
The SDK's calls where they are misused, or cancelled at an awkward moment: nothing is lost, and nothing is left open.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from dcxtwisted.interfaces import IAssociation
from dcxtwisted.wire.commandset import encodeCommandSet
from tests.support import pData
from tests.test_acceptor import LoopbackTestCase
from tests.test_pull import PORT, PullTestCase

#: A C-CANCEL, which nothing is served of, in two parts.
CANCEL = encodeCommandSet({0x0100: b"\xff\x0f", 0x0120: b"\7\0", 0x0800: b"\1\1"})
FIRST, REST = pData(1, 1, CANCEL[:20]), pData(1, 3, CANCEL[20:])


class TimeoutValueTests(PullTestCase):
    """What is no number of seconds."""

    def test_connection(self) -> None:
        """The wait fails, and no association comes to it."""
        for wrong in ("30", [], object()):
            given: Any = wrong
            error = self.failureResultOf(self.acceptor.WaitForConnection("SCP", PORT, given), TypeError)
            self.assertIn("a timeout is a number of seconds, or None", error.getErrorMessage())
        self.assertEqual(self.acceptor.ports, [])
        waiting = self.waitForConnection()
        self.associate()
        self.assertIsNotNone(self.successResultOf(waiting))

    def test_command(self) -> None:
        """The wait fails, and the association can be waited for as before."""
        peer, association = self.establish()
        wrong: Any = "30"
        error = self.failureResultOf(association.WaitForCommand(wrong), TypeError)
        self.assertIn("not '30'", error.getErrorMessage())
        peer.echo()
        self.pump()
        self.assertEqual(peer.statuses, [])
        self.assertIs(self.commandOf(association, 30), True)

    def test_numbers(self) -> None:
        """Fractions count; nothing is waited where the time is over, or no time at all; any length will do."""
        _, association = self.establish()
        for timeout, passes in ((0.25, 0.25), (0, 0), (-5, 0), (math.nan, 0), (True, 1)):
            waiting = association.WaitForCommand(timeout)
            if passes:
                self.advance(passes - 0.1)
            self.assertNoResult(waiting)
            self.advance(0.1 if passes else 0)
            self.assertIs(self.successResultOf(waiting), False)
        waiting = association.WaitForCommand(math.inf)
        self.advance(500)
        self.assertNoResult(waiting)
        self.assertEqual(self.names.count("OnTimeout"), 5)


class CancelTests(PullTestCase):
    """Waits that are cancelled from where something else happens."""

    def test_insideWhatIsNotServed(self) -> None:
        """Where what had begun comes to nothing, and nobody waits any more, the next command waits to be asked for."""
        self.listen(silenceDeadline=100)
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.send(FIRST)
        self.pump()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        peer.send(REST)
        peer.echo()
        self.pump()
        self.assertEqual((peer.statuses, self.server(peer).paused), ([], True))
        self.advance(50)
        self.assertIs(self.commandOf(association), True)
        self.assertEqual(peer.statuses, [0])
        # Nor is it forgotten that nobody waits.
        waiting = association.WaitForCommand(30)
        peer.send(FIRST)
        self.pump()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        peer.send(REST)
        self.pump()
        self.advance(100)
        self.assertEqual(association.ended, "timed out")

    def test_endedInsideWhatIsNotServed(self) -> None:
        """OnTimeout ends the association whose wait is over with what came to nothing."""
        self.answer(OnTimeout=lambda association: association.abort())
        peer, association = self.establish()
        waiting = association.WaitForCommand(30)
        peer.send(FIRST)
        self.pump()
        self.advance(30)
        self.assertNoResult(waiting)
        peer.send(REST)
        self.assertIs(self.resultOf(waiting), False)
        self.assertEqual((association.ended, self.ends), ("aborted", ["aborted"]))

    def test_onTimeoutWaitsAgain(self) -> None:
        """A wait that OnTimeout begins stands, where the one that ran out is cancelled too."""
        begun: list[Deferred[bool]] = []

        def onTimeout(association: IAssociation) -> None:
            begun.append(association.WaitForCommand(30))
            waiting.cancel()

        self.answer(OnTimeout=onTimeout)
        peer, association = self.establish()
        waiting = association.WaitForCommand(10)
        self.advance(10)
        self.failureResultOf(waiting, CancelledError)
        self.assertNoResult(begun[0])
        peer.echo()
        self.assertIs(self.resultOf(begun[0]), True)

    def test_othersThatFail(self) -> None:
        """Who is told that nothing can be listened on may cancel other waits: all are told."""
        attempts = self.endpoint()
        waits: list[Deferred[Any]] = [self.waitForConnection() for _ in range(3)]

        def cancelTheNext(failure: Failure) -> None:
            waits[1].cancel()

        waits[0].addErrback(cancelTheNext)
        attempts[0].errback(CannotListenError("any", PORT, OSError()))
        self.assertIsNone(self.successResultOf(waits[0]))
        self.failureResultOf(waits[1], CancelledError)
        self.failureResultOf(waits[2], CannotListenError)

    def endpoint(self, canceller: Any = None) -> list[Deferred[Any]]:
        """Have the endpoint answer with Deferreds that are returned."""
        attempts: list[Deferred[Any]] = []

        class Endpoint:
            def listen(self, factory: Any) -> Deferred[Any]:
                attempts.append(Deferred(canceller))
                return attempts[-1]

        self.acceptor._ports._endpointFrom = lambda description: Endpoint()  # type: ignore[assignment,return-value]
        return attempts

    def test_listensWhenCancelled(self) -> None:
        """A port that is there when listening was given up is closed, and StopListener waits for that."""
        closing: Deferred[None] = Deferred()

        class Port:
            def getHost(self) -> IPv4Address:
                return IPv4Address("TCP", "127.0.0.1", PORT)

            def stopListening(self) -> Deferred[None]:
                return closing

        self.endpoint(lambda attempt: attempt.callback(Port()))
        waiting = self.waitForConnection()
        stopping = self.acceptor.StopListener()
        self.assertNoResult(stopping)
        closing.callback(None)
        self.successResultOf(stopping)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(self.acceptor.ports, [])


class StoreTests(LoopbackTestCase):
    """A store that cannot be opened."""

    @inlineCallbacks
    def test_portIsFree(self) -> Any:
        """When the wait has failed, the port is free again."""
        occupied = self.start()
        number = occupied.ports[0].getHost().port  # type: ignore[attr-defined]  # an IPv4Address
        yield occupied.StopListener()
        root = self.directory / "file"
        root.write_text("a file")
        listener = self.make([], storeDirectory=str(root))
        for _ in range(3):
            yield self.assertFailure(listener.WaitForConnection("", f"tcp:{number}:interface=127.0.0.1", 5), OSError)
        Path(root).unlink()
        listener.WaitForConnection("", f"tcp:{number}:interface=127.0.0.1", 5)
        self.assertEqual(len(listener.ports), 1)
