"""
What comes of P-DATA-TF that is framed wrongly, or stands where it cannot, and of what else comes inside an association.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dcxtwisted.dataset import Head
from dcxtwisted.interfaces import IStoreSink, Outcome, StoredObject
from dcxtwisted.wire.association import AssociationCore, Directive, Transmit
from dcxtwisted.wire.pdu import ReleaseRP, ReleaseRQ, decode
from dcxtwisted.wire.statemachine import State
from tests.badinputs.inputs import (
    ABORT,
    ACCEPT,
    INSTANCE,
    REJECT,
    RELEASE_RP,
    RELEASE_RQ,
    RQ,
    commandSet,
    data,
    dataSet,
    echoElements,
    echoRQ,
    element,
    pData,
    pdu,
    pdv,
    store,
    storeElements,
    storeRQ,
)
from tests.badinputs.oracle import Attack, BadInputTestCase
from tests.badinputs.peers import WAYS, WHOLE, Way

INVALID = ("AC", "AB 2/6")
UNEXPECTED_PARAMETER = ("AC", "AB 2/5")
UNEXPECTED_PDU = ("AC", "AB 2/2")

STORED = {INSTANCE: dataSet()}


class PDULengthTests(BadInputTestCase):
    def test_tooShort(self) -> None:
        self.badEach({pData(bytes(length)): INVALID for length in (0, 1, 5)}, RQ=RQ)

    def test_tooLong(self) -> None:
        """Refused on the header, whatever follows."""
        limit = 131072 + (1 << 20)
        for length in (limit + 1, 0x7FFFFFFF, 0xFFFFFFFF):
            self.badEach({pData(length=length): INVALID, pData(bytes(5000), length=length): INVALID}, RQ=RQ)

    def test_longerThanAdvertised(self) -> None:
        """Up to a megabyte over it is taken, and counted; nothing is collected for it."""

        def script(attack: Attack) -> None:
            attack.associate()
            for size in (131072, 1 << 20):
                attack.send(store(f"1.2.{size}", size=size))
                attack.objects[f"1.2.{size}"] = dataSet(f"1.2.{size}", size)
            attack.expect("AC", "RSP 0000", "RSP 0000")
            attack.expectAlive()
            self.assertIn("P-DATA-TF over the advertised length: 2", attack.lines[0])

        self.eachWay(script)


class PDVLengthTests(BadInputTestCase):
    def test_wrong(self) -> None:
        whole = commandSet(echoElements())
        self.badEach(
            {
                pData(pdv(1, 3, whole, length)): INVALID
                for length in (0, 1, len(whole) + 3, 0x7FFFFFFF, 0xFFFFFFFB, 0xFFFFFFFF)
            },
            RQ=RQ,
        )

    def test_ofTheSecond(self) -> None:
        whole = commandSet(echoElements())
        first = pdv(1, 1, whole[:20])
        self.badEach(
            {
                pData(first, pdv(1, 3, whole[20:], length)): INVALID
                for length in (0, 1, len(whole) - 20 + 3, 0xFFFFFFFB)
            },
            RQ=RQ,
        )

    def test_strayBytes(self) -> None:
        """What stands behind the last PDV is part of no PDV, which is known once that one's length is."""
        whole = pdv(1, 3, commandSet(echoElements()))
        self.badEach({pData(whole, b"\0" * stray): INVALID for stray in range(1, 6)}, RQ=RQ)

    def test_severalPDVs(self) -> None:
        whole = commandSet(echoElements())
        pieces = [pdv(1, 1, whole[start : start + 1]) for start in range(len(whole))]
        self.badOnceAssociated(pData(*pieces, pdv(1, 3)), "RSP 0000")


class OutOfPlaceTests(BadInputTestCase):
    """PDVs that are whole, and cannot stand where they do."""

    def test_contextNeverProposed(self) -> None:
        streams = [echoRQ(contextID=contextID) for contextID in (0, 2, 7, 255)]
        self.badEach(dict.fromkeys([*streams, pData(pdv(7, 0)), data(contextID=9)], UNEXPECTED_PARAMETER), RQ=RQ)

    def test_refusedContext(self) -> None:
        """Its data set is drained, then its sender is told."""
        self.badOnceAssociated(store(contextID=5) + echoRQ(), "RSP 0122", "RSP 0000")

    def test_contextChanges(self) -> None:
        whole = commandSet(echoElements())
        changes = (
            pData(pdv(1, 1, whole[:20])) + pData(pdv(3, 3, whole[20:])),
            pData(pdv(1, 1, whole[:20]), pdv(3, 3, whole[20:])),
            storeRQ() + data(contextID=1),
            storeRQ() + pData(pdv(3, 0, dataSet()[:50])) + pData(pdv(5, 2, dataSet()[50:])),
            storeRQ() + echoRQ(),
        )
        self.badEach(dict.fromkeys(changes, UNEXPECTED_PARAMETER), RQ=RQ)

    def test_dataBeforeACommand(self) -> None:
        self.badEach({data(): UNEXPECTED_PARAMETER, pData(pdv(3, 2)): UNEXPECTED_PARAMETER}, RQ=RQ)

    def test_commandInsideADataSet(self) -> None:
        self.badOnceAssociated(storeRQ() + pData(pdv(3, 0, dataSet()[:50])) + storeRQ("1.2.4", 2), "AB 2/5")

    def test_secondCommandBeforeTheDataSet(self) -> None:
        self.badOnceAssociated(storeRQ() + storeRQ("1.2.4", 2), "AB 2/5")

    def test_dataAfterNoDataSet(self) -> None:
        """C-ECHO has none; what follows it is part of nothing."""
        self.badOnceAssociated(echoRQ() + data(contextID=1), "RSP 0000", "AB 2/5")

    def test_dataInsideACommand(self) -> None:
        self.badOnceAssociated(pData(pdv(3, 1, commandSet(storeElements())[:20])) + data(), "AB 2/5")

    def test_fragmentsOfTwoMessages(self) -> None:
        first, second = dataSet(), dataSet("1.2.4")
        stream = storeRQ() + pData(pdv(3, 0, first[:40])) + storeRQ("1.2.4", 2) + pData(pdv(3, 2, second))
        self.badOnceAssociated(stream, "AB 2/5")

    def test_hugeCommandSet(self) -> None:
        """Collected to 64 KiB, in however many fragments, and not beyond."""
        limit = 65536
        self.badOnceAssociated(pData(pdv(3, 3, element(0x1000, bytes(limit + 1 - 8)))), "AB 2/6")
        self.badOnceAssociated(pData(pdv(3, 1, bytes(1000))) * 66, "AB 2/6", ways=(WHOLE, *WAYS[2:]))
        self.badOnceAssociated(pData(pdv(3, 1, bytes(1 << 20))) * 20, "AB 2/6", ways=[WHOLE])
        elements = {**echoElements(), 0x5000: bytes(limit - 12 - len(commandSet(echoElements())) + 4)}
        self.badOnceAssociated(pData(pdv(1, 3, commandSet(elements))), "RSP 0000")


class ToleratedTests(BadInputTestCase):
    """What real senders do: stored."""

    def test_emptyLastPDV(self) -> None:
        for pdvs in ([pdv(3, 0, dataSet()), pdv(3, 2)], [pdv(3, 0), pdv(3, 0, dataSet()), pdv(3, 0), pdv(3, 2)]):
            self.badOnceAssociated(storeRQ() + pData(*pdvs), "RSP 0000", objects=STORED)
            self.badOnceAssociated(storeRQ() + b"".join(map(pData, pdvs)), "RSP 0000", objects=STORED)

    def test_commandAndDataInOnePDU(self) -> None:
        command = pdv(3, 3, commandSet(storeElements()))
        self.badOnceAssociated(pData(command, pdv(3, 2, dataSet())), "RSP 0000", objects=STORED)
        pieces = [pdv(3, 0, dataSet()[:51]), pdv(3, 2, dataSet()[51:])]
        self.badOnceAssociated(pData(command, *pieces), "RSP 0000", objects=STORED)

    def test_twoObjectsInOnePDU(self) -> None:
        pdvs = [
            piece
            for number in (1, 2)
            for piece in (
                pdv(3, 3, commandSet(storeElements(f"1.2.{number}", number))),
                pdv(3, 2, dataSet(f"1.2.{number}")),
            )
        ]
        stored = {f"1.2.{number}": dataSet(f"1.2.{number}") for number in (1, 2)}
        self.badOnceAssociated(pData(*pdvs), "RSP 0000", "RSP 0000", objects=stored)

    def test_oddPDVs(self) -> None:
        whole = dataSet()
        pieces = [pData(pdv(3, 0, whole[start : start + 1])) for start in range(len(whole))]
        self.badOnceAssociated(storeRQ() + b"".join(pieces) + pData(pdv(3, 2)), "RSP 0000", objects=STORED)


class NoProgressTests(BadInputTestCase):
    """Who does not get on inside a message is aborted, and its object discarded."""

    def assertTimesOut(self, begin: bytes, piece: bytes, every: float, at: float, until: float) -> None:
        """
        Assert that an association ends between two times.

        :param begin: what is sent first.
        :param piece: sent from then on, each ``every`` seconds.
        """

        def script(attack: Attack) -> None:
            attack.associate()
            attack.send(begin)
            passed = 0.0
            while attack.reactions == ["AC"] and passed < until:
                attack.send(piece)
                attack.advance(every)
                passed += every
            attack.expect("AC", "AB 0/0")
            assert at <= passed <= until, f"aborted after {passed} s"
            self.assertEqual(attack.events.names[-2:], ["OnTimeout", "OnAssocEnd"])
            self.assertEqual(attack.ends, ["timed out"])
            attack.advance(30)
            attack.expectClosed()
            attack.expect("AC", "AB 0/0")

        self.eachWay(script, [WHOLE])

    def test_insideAHeader(self) -> None:
        self.assertTimesOut(storeRQ()[:3], b"", 1, 60, 61)

    def test_insideAPDU(self) -> None:
        self.assertTimesOut(storeRQ() + data(size=5000)[:1000], b"", 1, 60, 61)

    def test_insideAPDVHeader(self) -> None:
        self.assertTimesOut(storeRQ() + data()[:9], b"", 1, 60, 61)

    def test_betweenTwoPDUs(self) -> None:
        self.assertTimesOut(storeRQ() + pData(pdv(3, 0, dataSet()[:50])), b"", 1, 60, 61)

    def test_insideADataSetThatIsDrained(self) -> None:
        self.assertTimesOut(storeRQ("../x") + pData(pdv(3, 0, dataSet()[:50])), b"", 1, 60, 61)

    def test_onePDVEachHalfMinute(self) -> None:
        self.assertTimesOut(storeRQ(), pData(pdv(3, 0, b"x")), 29, 58, 125)

    def test_aByteASecondInsideAPDU(self) -> None:
        self.assertTimesOut(storeRQ() + pData(pdv(3, 0, length=99_996), length=100_000), b"x", 1, 60, 121)

    def test_aByteASecondInsideACommand(self) -> None:
        self.assertTimesOut(b"", pData(pdv(3, 1, b"\0")), 1, 60, 121)

    def test_emptyPDVs(self) -> None:
        """They carry nothing, so they are no progress, a thousand a second as little as one."""
        self.assertTimesOut(storeRQ(), pData(pdv(3, 0)), 1, 60, 121)

    def test_emptyPDVsWithoutEnd(self) -> None:
        self.assertTimesOut(storeRQ(), pData(pdv(3, 0)) * 1000, 1, 60, 121)
        self.assertTimesOut(b"", pData(pdv(3, 1)) * 1000, 1, 60, 121)

    def test_emptyPDVsAreBounded(self) -> None:
        """Many at once take no memory, and an object can still follow."""

        def script(attack: Attack) -> None:
            attack.associate()
            attack.send(storeRQ(), *[pData(pdv(3, 0)) * 5000] * 20, data())
            attack.expect("AC", "RSP 0000")
            attack.objects.update(STORED)
            attack.expectAlive()

        self.eachWay(script, [WHOLE])


class OtherPDUTests(BadInputTestCase):
    """What is no P-DATA, inside an association."""

    def test_releaseInsideADataSet(self) -> None:
        """Confirmed, and what there was of the object is discarded."""

        def script(attack: Attack) -> None:
            attack.associate()
            attack.send(storeRQ() + pData(pdv(3, 0, dataSet()[:-10])) + RELEASE_RQ)
            attack.expect("AC", "RELEASE-RP")
            self.assertEqual(attack.ends, ["released"])
            attack.expectClosedAtARTIM()

        self.eachWay(script)

    def test_unexpectedPDUs(self) -> None:
        self.badEach(dict.fromkeys((RQ, ACCEPT, REJECT, RELEASE_RP), UNEXPECTED_PDU), RQ=RQ)

    def test_unexpectedPDUsInsideADataSet(self) -> None:
        half = storeRQ() + pData(pdv(3, 0, dataSet()[:-10]))
        self.badEach({half + stream: UNEXPECTED_PDU for stream in (RQ, ACCEPT, REJECT, RELEASE_RP)}, RQ=RQ)

    def test_typesThatDoNotExist(self) -> None:
        self.badEach({pdu(pduType, bytes(4)): ("AC", "AB 2/1") for pduType in (0, 8, 0x99, 0xFF)}, RQ=RQ)

    def test_lengthsOfReleaseAndAbort(self) -> None:
        streams = [pdu(kind, bytes(4), length) for kind in (5, 7) for length in (0, 5, 0xFFFFFFFF)]
        self.badEach(dict.fromkeys(streams, INVALID), RQ=RQ)

    def test_abortWithOddValues(self) -> None:
        """Source 1 is reserved, and sent all the same: whatever it says, an abort is one."""

        def script(attack: Attack) -> None:
            for body in (b"\xff\xff\1\xff", b"\0\0\xff\0"):
                attack.associate()
                attack.send(pdu(7, body) + ABORT + RQ)
                attack.expect("AC")
                attack.expectClosed()
            attack.maximumLines = 2
            self.assertEqual(attack.ends, ["aborted"] * 2)

        self.eachWay(script)


class ReleaseCollisionTests(SynchronousTestCase):
    """Both ask for the release at once: the path of the table completes. The core alone, no acceptor of ours asks."""

    def core(self) -> AssociationCore:
        """Return the core of an acceptor that has asked for the release and been asked."""
        core = AssociationCore(16384)
        core.connectionMade()
        self.events(core, RQ)
        core.send(decode(2, ACCEPT[6:]))
        core.send(ReleaseRQ())
        self.events(core)
        self.assertEqual(core.state, State.AWAITING_RELEASE_RP)
        return core

    def events(self, core: AssociationCore, stream: bytes = b"", way: Way = WHOLE) -> list[Any]:
        """Return what comes of bytes, cut in a way."""
        sizes = way.cuts()
        found = []
        while stream:
            size = next(sizes, len(stream))
            core.feed(stream[:size])
            stream = stream[size:]
            while (event := core.nextEvent()) is not None:
                found.append(event)
        while (event := core.nextEvent()) is not None:
            found.append(event)
        return found

    def test_completes(self) -> None:
        for way in WAYS:
            core = self.core()
            self.assertEqual(self.events(core, RELEASE_RQ, way), [ReleaseRQ()], way.name)
            self.assertEqual(core.state, State.COLLISION_ACCEPTOR_AWAITING_RP)
            self.assertEqual(self.events(core, RELEASE_RP, way), [ReleaseRP()])
            self.assertEqual(core.state, State.COLLISION_ACCEPTOR_AWAITING_RESPONSE)
            core.send(ReleaseRP())
            self.assertEqual(self.events(core), [Transmit(RELEASE_RP), Directive.START_ARTIM])
            self.assertEqual(core.state, State.AWAITING_TRANSPORT_CLOSE)

    def test_dataInBetween(self) -> None:
        for way in WAYS:
            core = self.core()
            events = self.events(core, RELEASE_RQ + echoRQ(), way)
            self.assertEqual(events[:2], [ReleaseRQ(), Transmit(pdu(7, b"\0\0\2\2"))], way.name)
            self.assertEqual(core.state, State.AWAITING_TRANSPORT_CLOSE)


@implementer(IStoreSink)
class Discarding:
    """A sink that keeps nothing, for many objects."""

    def write(self, view: memoryview) -> None:
        """Nothing."""

    def finish(self, head: Head) -> StoredObject:
        """Nothing."""
        return StoredObject("", head.size, head, Outcome.NEW)

    def keep(self) -> None:
        """Nothing."""

    def abort(self) -> Deferred[None]:
        """Nothing."""
        return succeed(None)


class PipelinedTests(BadInputTestCase):
    """A peer that does not wait for responses, or does not read them."""

    def flood(self, attack: Attack, count: int) -> None:
        """Send so many C-ECHOs and read nothing."""
        attack.associate()
        attack.client.pauseProducing()
        for start in range(0, count, 1000):
            attack.send(b"".join(echoRQ(messageID) for messageID in range(start, start + 1000)))

    def test_echoesOfWhichNoneIsRead(self) -> None:
        """Reading stops when much is unsent, and goes on when that has left: each is answered, in order."""

        def script(attack: Attack) -> None:
            self.flood(attack, 8_000)
            self.assertTrue(attack.server.paused)
            self.assertLess(len(attack.server.unsent), 200_000)
            attack.canary.sing()
            attack.measure()
            attack.client.resumeProducing()
            attack.pump()
            self.assertEqual([response.number(0x0120) for response in attack.responses], [*range(8_000)])
            attack.expectAlive()

        self.eachWay(script, [WHOLE])

    def test_nothingIsRead(self) -> None:
        def script(attack: Attack) -> None:
            self.flood(attack, 20_000)
            attack.advance(59)
            self.assertEqual(attack.ends, [])
            attack.advance(2)
            self.assertEqual(attack.ends, ["timed out"])
            attack.advance(30)
            attack.client.resumeProducing()
            attack.pump()
            attack.expectClosed()

        self.eachWay(script, [WHOLE], settings={"writeStallDeadline": 60})

    def test_stores(self) -> None:
        """Ten thousand, none awaited: answered in order."""

        def script(attack: Attack) -> None:
            attack.events.answers["OnStoreSetup"] = Discarding()
            attack.associate()
            for start in range(0, 10_000, 500):
                attack.send(b"".join(store(f"1.2.{number}", number) for number in range(start, start + 500)))
                attack.events.calls.clear()
            attack.measure()
            self.assertEqual([response.number(0x0120) for response in attack.responses], [*range(10_000)])
            self.assertEqual({response.number(0x0900) for response in attack.responses}, {0})
            attack.expectAlive()

        self.eachWay(script, [WHOLE])

    def test_storesToFiles(self) -> None:
        def script(attack: Attack) -> None:
            attack.associate()
            attack.send(b"".join(store(f"1.2.{number}", number) for number in range(100)))
            attack.objects.update({f"1.2.{number}": dataSet(f"1.2.{number}") for number in range(100)})
            self.assertEqual([response.number(0x0120) for response in attack.responses], [*range(100)])
            attack.expectAlive()

        self.eachWay(script)
