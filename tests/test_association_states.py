"""
A peer that sends what cannot come: while OnConnection decides (Sta3), and while it is awaited to close (Sta13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone

from dcxtwisted.errors import AssociationRejected
from dcxtwisted.testing import ScriptedPeer, associateRQ
from dcxtwisted.uids import APPLICATION_CONTEXT
from dcxtwisted.wire.items import PresentationContextResult, UserInformation
from dcxtwisted.wire.pdu import Abort, AssociateAC, AssociateRJ, ReleaseRP, ReleaseRQ, aeField
from tests.support import ListenerTestCase, client, dataSet, pData, storeCommand

RQ = associateRQ().encode()
AC = AssociateAC(
    aeField("A"), aeField("B"), (APPLICATION_CONTEXT,), (PresentationContextResult(1, 0, "1.2"),), UserInformation()
).encode()
RJ = AssociateRJ(1, 1, 1).encode()
RELEASE_RQ = ReleaseRQ().encode()
RELEASE_RP = ReleaseRP().encode()
ABORT = Abort(0, 0).encode()
DATA = storeCommand() + pData(3, 2, dataSet())

#: Not what may come while OnConnection decides, and what it is answered with.
UNEXPECTED = [(RQ, 2), (AC, 2), (RJ, 2), (DATA, 2), (RELEASE_RQ, 2), (RELEASE_RP, 2)]
#: Not PDUs at all: an unknown type, lengths that cannot be.
INVALID = [
    (bytes.fromhex("08 00 00000004 00000000"), 1),
    (b"GET / HTTP/1.0\r\n\r\n", 1),
    (bytes.fromhex("04 00 00000005"), 6),
    (bytes.fromhex("01 00 7fffffff"), 6),
    (bytes.fromhex("05 00 00000000"), 6),
    (bytes.fromhex("07 00 00000005 0000000000"), 6),
]
#: What a peer sends that has lost its senses.
NOISE = RQ * 100 + b"\xff" * 100_000 + ABORT


class UndecidedTests(ListenerTestCase):
    """Bytes, FIN and RST while OnConnection decides: at once, later, or never."""

    def undecided(self, how: str, answer: object = True) -> ScriptedPeer:
        """Return a peer whose request is on its way, with OnConnection to answer it so."""
        self.listen(connectionEventDeadline=1000)
        self.decision: Deferred[Any] = self.later()

        async def never(*args: object) -> Any:
            """It does not even let itself be cancelled; when all is over, the test lets it answer."""
            try:
                await self.later()
            except CancelledError:
                await self.decision
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.answer(OnConnection={"at once": answer, "later": lambda *args: self.decision, "never": never}[how])
        peer = self.connect()
        peer.send(RQ)
        if how != "at once":
            # Else what follows would find an association.
            self.pump()
            self.assertEqual(self.names, ["OnConnection"])
            self.clock.advance(100)
        return peer

    def assertNothingComesOfIt(self, peer: ScriptedPeer, how: str, *received: object) -> None:
        """Assert that OnConnection was asked once, cancelled if it could be, and that nobody hears it any more."""
        cancelled = ["cancelled"] if how != "at once" else []
        self.assertEqual(self.names, ["OnConnection", *cancelled])
        self.assertEqual(peer.received, [*received])
        if not self.decision.called:
            self.decision.callback(None)
        self.pump()
        self.assertEqual(self.names, ["OnConnection", *cancelled])
        self.assertEqual(peer.received, [*received])
        self.assertEqual(self.accepted, [])
        self.assertEqual(len(self.lines), 1, self.lines)

    def test_aborted(self) -> None:
        """A-ABORT, once; the peer is waited for until ARTIM, and whatever it sends makes one more at most."""
        for behind, reason in UNEXPECTED + INVALID:
            for how in ("at once", "later", "never"):
                peer = self.undecided(how)
                peer.send(behind)
                self.pump()
                self.assertNothingComesOfIt(peer, how, Abort(2, reason))
                self.advance(20)
                peer.send(NOISE)
                self.pump()
                # Where the framing is lost nothing is read any more, and nothing is answered.
                more = [] if (behind, reason) in INVALID else [Abort(2, 2)]
                self.advance(9)
                self.assertIsNone(peer.lost)
                self.advance(1)
                self.assertConnectionOver(peer)
                self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
                self.assertNothingComesOfIt(peer, how, Abort(2, reason), *more)

    def test_byteByByte(self) -> None:
        for behind, reason in UNEXPECTED:
            for how in ("later", "never"):
                peer = self.undecided(how)
                for byte in behind[:200]:
                    peer.send(bytes((byte,)))
                    self.pump()
                self.assertNothingComesOfIt(peer, how, Abort(2, reason))

    def test_refusalsAreNotHeardEither(self) -> None:
        for answer in (False, None, AssociationRejected(2, 3, 1)):
            for how in ("at once", "never"):
                peer = self.undecided(how, answer)
                peer.send(RELEASE_RQ)
                self.pump()
                self.assertNothingComesOfIt(peer, how, Abort(2, 2))
                self.assertLines("no association with 127.0.0.1: aborted here: unexpected PDU of type 5 in Sta3")

    def test_abort(self) -> None:
        """Closed at once, in order and without a word, with whatever stands behind."""
        for behind in (b"", RQ, DATA, NOISE):
            for how in ("at once", "later", "never"):
                peer = self.undecided(how)
                peer.send(ABORT + behind)
                self.pump()
                self.assertNothingComesOfIt(peer, how)
                self.assertConnectionOver(peer)
                self.assertIsInstance(self.server(peer).closed, ConnectionDone)
                self.assertLines("no association with 127.0.0.1: aborted by the peer (0/0)")

    def test_gone(self) -> None:
        """The end of the transport is seen at once, inside a PDU too."""
        for part in (b"", RELEASE_RQ[:5], ABORT[:9]):
            for end in ("loseConnection", "loseWriteConnection", "abortConnection"):
                for how in ("later", "never"):
                    peer = self.undecided(how)
                    peer.send(part)
                    getattr(client(peer), end)()
                    self.pump()
                    self.assertNothingComesOfIt(peer, how)
                    self.assertConnectionOver(peer)
                    self.assertLines("no association with 127.0.0.1: lost")

    def test_goneBehindAnAnswerAtOnce(self) -> None:
        """Then there was an association."""
        for end in ("loseConnection", "loseWriteConnection", "abortConnection"):
            peer = self.undecided("at once")
            getattr(client(peer), end)()
            self.pump()
            self.assertEqual(self.names, ["OnConnection", "OnAssocEnd"])
            self.assertEqual(self.ends, ["lost"])
            self.assertConnectionOver(peer)

    def test_requestAndDataThenGone(self) -> None:
        """What had arrived is judged first, then the end is seen."""
        for how in ("at once", "later", "never"):
            peer = self.undecided(how)
            peer.send(DATA)
            client(peer).loseWriteConnection()
            self.pump()
            self.assertNothingComesOfIt(peer, how, Abort(2, 2))
            self.assertConnectionOver(peer)
            self.assertLines("no association with 127.0.0.1: aborted here: unexpected PDU of type 4 in Sta3")


class AwaitedToCloseTests(ListenerTestCase):
    """Behind our A-ASSOCIATE-RJ, A-RELEASE-RP or A-ABORT, until the peer closes or ARTIM runs out."""

    def rejected(self) -> ScriptedPeer:
        self.answer(OnConnection=False)
        return self.associate()

    def rejectedByNegotiation(self) -> ScriptedPeer:
        return self.associate(contexts={})

    def released(self) -> ScriptedPeer:
        peer = self.associate()
        peer.release()
        self.pump()
        return peer

    def abortedHere(self) -> ScriptedPeer:
        peer = self.associate()
        self.accepted[0].abort()
        self.pump()
        return peer

    def abortedForAnUnexpectedPDU(self) -> ScriptedPeer:
        peer = self.associate()
        peer.send(AC)
        self.pump()
        return peer

    def abortedForAMessage(self) -> ScriptedPeer:
        peer = self.associate()
        peer.send(pData(5, 3, b"x"))
        self.pump()
        return peer

    def abortedBeforeARequest(self) -> ScriptedPeer:
        peer = self.connect()
        peer.send(RELEASE_RQ)
        self.pump()
        return peer

    def assertInEach(self, check: Callable[[ScriptedPeer], None]) -> None:
        """Assert what C{check} does for each way here, and that the application and the log are told nothing more."""
        for way in (
            self.rejected,
            self.rejectedByNegotiation,
            self.released,
            self.abortedHere,
            self.abortedForAnUnexpectedPDU,
            self.abortedForAMessage,
            self.abortedBeforeARequest,
        ):
            self.listen()
            peer = way()
            self.assertIn(type(peer.received[-1]), (AssociateRJ, ReleaseRP, Abort))
            names, lines = [*self.names], self.lines
            self.assertEqual(len(lines), 1, lines)
            check(peer)
            self.assertEqual((self.names, self.lines), (names, lines))

    def test_ignored(self) -> None:
        """All that may have been on its way; then A-ABORT closes at once, in order."""
        ignored = AC + RJ + DATA + RELEASE_RQ + RELEASE_RP

        def check(peer: ScriptedPeer) -> None:
            received = [*peer.received]
            peer.send(ignored * 50)
            self.pump()
            for byte in ignored:
                peer.send(bytes((byte,)))
                self.pump()
            self.advance(29)
            self.assertIsNone(peer.lost)
            peer.send(ABORT)
            self.pump()
            self.assertEqual(peer.received, received)
            self.assertConnectionOver(peer)
            self.assertIsInstance(self.server(peer).closed, ConnectionDone)

        self.assertInEach(check)

    def test_answeredOnce(self) -> None:
        """A-ABORT 2/2 for the first request or invalid PDU; then nothing is read, and ARTIM runs on as it did."""
        for stream in (RQ, *(stream for stream, _ in INVALID)):

            def check(peer: ScriptedPeer, stream: bytes = stream) -> None:
                received = [*peer.received]
                peer.send(DATA)
                self.advance(20)
                self.assertEqual(peer.received, received)
                peer.send(stream)
                self.pump()
                self.assertEqual(peer.received, [*received, Abort(2, 2)])
                peer.send(NOISE)
                self.advance(9)
                self.assertIsNone(peer.lost)
                peer.send(NOISE)
                self.advance(1)
                self.assertEqual(peer.received, [*received, Abort(2, 2)])
                self.assertConnectionOver(peer)
                self.assertIsInstance(self.server(peer).closed, ConnectionAborted)

            self.assertInEach(check)

    def test_gone(self) -> None:
        """FIN and RST end it before ARTIM does, inside a PDU too."""
        for end in ("loseConnection", "loseWriteConnection", "abortConnection"):

            def check(peer: ScriptedPeer, end: str = end) -> None:
                received = [*peer.received]
                peer.send(DATA[:-1])
                getattr(client(peer), end)()
                self.pump()
                self.assertConnectionOver(peer)
                self.assertEqual(peer.received, received)

            self.assertInEach(check)

    def test_framingLost(self) -> None:
        """Behind what is no PDU nothing is read, not even A-ABORT, and nothing more is answered."""
        for invalid, reason in INVALID:
            for associated in (True, False):
                self.listen()
                peer = self.associate() if associated else self.connect()
                peer.send(invalid + ABORT)
                self.pump()
                self.assertEqual(peer.aborted, Abort(2, reason) if associated else Abort(0, 0))
                count = len(peer.received)
                peer.send(NOISE)
                self.advance(29)
                self.assertIsNone(peer.lost)
                self.advance(1)
                self.assertEqual(len(peer.received), count)
                self.assertConnectionOver(peer)
                self.assertIsInstance(self.server(peer).closed, ConnectionAborted)
                self.assertEqual(self.ends, ["aborted"] if associated else [])
