"""
What comes of bytes that are no request for an association, or half of one, before there is any.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from tests.badinputs.inputs import (
    ABORT,
    ACCEPT,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    echoRQ,
    fixedFields,
    pdu,
    request,
    store,
)
from tests.badinputs.oracle import Attack, BadInputTestCase
from tests.badinputs.peers import WHOLE

ABORTED = ("AB 0/0",)
#: And once more, because what follows is no better.
ABORTED_TWICE = ("AB 0/0", "AB 2/2")


class SilenceTests(BadInputTestCase):
    """Who does not finish a request is closed upon, without a word, when ARTIM runs out."""

    def test_nothingAtAll(self) -> None:
        self.bad(b"")

    def test_halfAHeader(self) -> None:
        self.bad(RQ[:3])

    def test_headerThenSilence(self) -> None:
        self.bad(RQ[:6])

    def test_halfARequestThenSilence(self) -> None:
        self.bad(RQ[: len(RQ) // 2])

    def test_allButTheLastByte(self) -> None:
        self.bad(RQ[:-1])

    def test_aByteASecond(self) -> None:
        """ARTIM is for the whole request, however busy its bytes keep us."""

        def script(attack: Attack) -> None:
            attack.connect()
            for byte in RQ[:29]:
                attack.send(bytes((byte,)))
                attack.advance(1)
                assert not attack.isOver, "closed early"
            attack.send(RQ[29:30])
            attack.advance(1)
            attack.expect()
            attack.expectClosed()

        self.eachWay(script, [WHOLE])


class NoDICOMTests(BadInputTestCase):
    """What is no PDU is aborted on its header."""

    def assertAbortedOnHeader(self, *streams: bytes) -> None:
        """Assert that the sixth byte of each, and none before it, makes an abort."""

        def script(attack: Attack) -> None:
            for stream in streams:
                attack.connect()
                attack.send(stream[:5])
                attack.expect()
                attack.send(stream[5:6])
                attack.expect(*ABORTED)
                attack.send(stream[6:])
            attack.expectClosedAtARTIM(range(len(streams)))
            attack.maximumLines = len(streams)

        self.badEach(dict.fromkeys(streams, ABORTED))
        self.eachWay(script, [WHOLE])

    def test_HTTP(self) -> None:
        self.assertAbortedOnHeader(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def test_TLS(self) -> None:
        hello = bytes.fromhex("0303") + bytes(range(32)) + bytes.fromhex("00000813021303c02fc0300100")
        self.assertAbortedOnHeader(
            bytes.fromhex("160301") + (len(hello) + 4).to_bytes(2, "big") + b"\1\0\0\x2f" + hello
        )

    def test_SSH(self) -> None:
        self.assertAbortedOnHeader(b"SSH-2.0-OpenSSH_9.6\r\n")

    def test_zeros(self) -> None:
        self.assertAbortedOnHeader(bytes(65_536))

    def test_noise(self) -> None:
        randoms = [Random(seed) for seed in range(5)]
        self.assertAbortedOnHeader(*(bytes((random.randrange(8, 256),)) + random.randbytes(5000) for random in randoms))

    def test_typesThatDoNotExist(self) -> None:
        self.assertAbortedOnHeader(*(pdu(pduType, bytes(4)) for pduType in (0x00, 0x08, 0x99, 0xFF)))

    def test_otherPDUsFirst(self) -> None:
        streams = (echoRQ(), RELEASE_RQ, RELEASE_RP, ACCEPT, REJECT)
        self.badEach(dict.fromkeys(streams, ABORTED))
        self.badEach(dict.fromkeys((stream + RQ for stream in streams), ABORTED_TWICE))

    def test_abortFirst(self) -> None:
        """There is nothing to say to that: closed at once."""

        def script(attack: Attack) -> None:
            attack.connect()
            attack.send(ABORT)
            attack.expect()
            attack.expectClosed()

        self.eachWay(script)


class RequestLengthTests(BadInputTestCase):
    """The length of a request is judged before anything is made of it."""

    def test_tooLong(self) -> None:
        for length in (0xFFFFFFFF, 0x80000000, (1 << 20) + 1):
            self.badEach({pdu(1, b"", length): ABORTED, pdu(1, RQ[6:] + bytes(10_000), length): ABORTED})

    def test_longestThatIsAwaited(self) -> None:
        """It takes no memory before it comes."""
        self.bad(pdu(1, RQ[6:], 1 << 20))

    def test_tooShort(self) -> None:
        for length in (0, 1, 67):
            self.badEach({pdu(1, RQ[6 : 6 + length], length): ABORTED, pdu(1, RQ[6:], length): ABORTED_TWICE})


class GoneTests(BadInputTestCase):
    """A peer that goes, in whatever way and wherever in its bytes, leaves nothing behind."""

    def assertGoneAtEachByte(self, phases: Sequence[bytes], ways: Sequence[str]) -> None:
        """Assert that each cut of a conversation ends cleanly; each phase is sent when the one before was answered."""
        length = sum(map(len, phases))

        def script(attack: Attack) -> None:
            for go in ways:
                for cut in range(length + 1):
                    attack.connect()
                    rest = cut
                    for phase in phases:
                        attack.send(phase[:rest])
                        rest -= min(rest, len(phase))
                    getattr(attack.client, go)()
                    attack.pump()
                    attack.expectClosed()
            attack.maximumLines = len(ways) * (length + 1)
            if any(b"1.2.3" in phase for phase in phases):
                # Only where all of it came.
                attack.objects["1.2.3"] = b"\x55" * 64

        self.eachWay(script, [WHOLE])

    def test_insideTheRequest(self) -> None:
        self.assertGoneAtEachByte([RQ], ["loseConnection", "loseWriteConnection", "abortConnection"])

    def test_insideAStore(self) -> None:
        for go in ("loseConnection", "loseWriteConnection", "abortConnection"):
            self.assertGoneAtEachByte([RQ, store() + RELEASE_RQ], [go])


class PipelinedTests(BadInputTestCase):
    """What comes behind a request, before its answer, is out of turn: nothing is accepted."""

    def assertOutOfTurn(self, stream: bytes, others: Sequence[str]) -> None:
        """
        Assert that OnConnection answers for nothing where this follows a request.

        :param others: what comes back where it answers at once, and a cut lets its answer go first.
        """

        def atOnce(attack: Attack) -> None:
            attack.connect()
            attack.send(RQ + stream)
            if attack.reactions != [*others] or attack.way is WHOLE:
                attack.expect("AB 2/2")
            attack.client.loseConnection()

        def later(attack: Attack) -> None:
            decision: Deferred[bool] = Deferred()
            attack.events.answers["OnConnection"] = decision
            attack.connect()
            attack.send(RQ + stream)
            attack.expect("AB 2/2")
            assert decision.called, "OnConnection is not cancelled"
            attack.expectClosedAtARTIM()

        self.eachWay(atOnce)
        self.eachWay(later)

    def test_secondRequest(self) -> None:
        self.assertOutOfTurn(RQ, ["AC", "AB 2/2"])

    def test_dataBeforeTheAnswer(self) -> None:
        self.assertOutOfTurn(echoRQ(), ["AC", "RSP 0000"])

    def test_releaseBeforeTheAnswer(self) -> None:
        self.assertOutOfTurn(RELEASE_RQ, ["AC", "RELEASE-RP"])


class CrowdTests(BadInputTestCase):
    """More peers than there is room for: the canary does not notice."""

    def assertRejected(self, count: int, **settings: int) -> None:
        """Assert that as many associations are accepted and one more is not, until one of them is over."""
        bad = request(fixed=fixedFields(calling=b"BAD"))

        def script(attack: Attack) -> None:
            for _ in range(count):
                attack.associate(bad)
            attack.connect()
            attack.send(bad)
            attack.expect("RJ 2/3/2")
            attack.expectClosedAtARTIM()
            attack.connections[0].client.abortConnection()
            attack.pumpAll()
            attack.associate(bad)
            attack.maximumLines = count + 2
            for connection in attack.connections:
                connection.client.abortConnection()

        self.eachWay(script, [WHOLE], settings=settings)

    def test_associations(self) -> None:
        """The canary's counts too."""
        self.assertRejected(3, maximumAssociations=4)

    def test_associationsOfAnAddress(self) -> None:
        self.assertRejected(3, maximumAssociationsPerAddress=3)

    def test_associationsOfAnAETitle(self) -> None:
        self.assertRejected(3, maximumAssociationsPerAETitle=3)

    def test_idleConnections(self) -> None:
        """The longest waiting one of the address that has most of them is closed for each one too many."""

        def script(attack: Attack) -> None:
            attack.connect(IPv4Address("TCP", "127.0.0.3", 50003))
            for _ in range(1000):
                attack.connect()
            attack.pumpAll()
            attack.canary.sing()
            standing = [connection.server.closed is None for connection in attack.connections]
            assert standing == [True] + [False] * 501 + [True] * 499, f"{sum(standing)} stand"
            attack.advance(30)
            assert not any(connection.server.closed is None for connection in attack.connections), "not closed at ARTIM"
            attack.maximumLines = 1001

        self.eachWay(script, [WHOLE], settings={"maximumConnectionsBeforeAssociation": 500})

    def test_idleConnectionsAreClosedAtARTIM(self) -> None:
        def script(attack: Attack) -> None:
            for _ in range(300):
                attack.connect()
            attack.expectClosedAtARTIM(range(300))
            attack.maximumLines = 300

        self.eachWay(script, [WHOLE])
