"""
What comes of requests for an association that are odd, or wrong, or made to confuse.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import pack
from typing import Any

from dcxtwisted import AssociationRejected
from tests.badinputs.inputs import (
    APPLICATION_CONTEXT,
    CONTEXTS,
    CT,
    EXPLICIT,
    IMPLEMENTATION,
    IMPLICIT,
    INSTANCE,
    MAXIMUM_LENGTH,
    PATIENT,
    VERIFICATION,
    dataSet,
    echoRQ,
    fixedFields,
    item,
    pdu,
    proposal,
    request,
    store,
)
from tests.badinputs.lengths import ITEMS, Reading
from tests.badinputs.oracle import Attack, BadInputTestCase

ACCEPTED = ("AC",)
ABORTED = ("AB 0/0",)
REJECTED = ("RJ 1/1/1",)
WRONG_APPLICATION_CONTEXT = ("RJ 1/1/2",)


def counted(raw: bytes, length: int | None = None) -> bytes:
    """Return a field behind its length, the right one or the one given."""
    return pack(">H", len(raw) if length is None else length) + raw


def user(*items: bytes) -> bytes:
    """Return a request with these in its user information, besides what has to be there."""
    return request(user=MAXIMUM_LENGTH + IMPLEMENTATION + b"".join(items))


def results(attack: Attack) -> list[tuple[int, int, str]]:
    """Return the contexts of the A-ASSOCIATE-AC: ID, result, transfer syntax."""
    contexts = attack.peer.accepted.presentationContexts
    return [(context.contextID, context.result, context.transferSyntax) for context in contexts]


class FixedFieldTests(BadInputTestCase):
    def test_protocolVersion(self) -> None:
        self.bad(request(fixed=fixedFields(version=2)), "RJ 1/2/2")

    def test_protocolVersionAmongOthers(self) -> None:
        """Only bit 0 is tested."""
        self.bad(request(fixed=fixedFields(version=0xFFFF)), "AC")

    def test_unknownCalledAETitle(self) -> None:
        self.bad(request(fixed=fixedFields(called=b"OTHER")), "RJ 1/1/7", settings={"checkCalledAETitle": True})

    def test_unknownCallingAETitle(self) -> None:
        self.bad(request(), "RJ 1/1/3", OnConnection=AssociationRejected(1, 1, 3))

    def test_hostileAETitles(self) -> None:
        """Taken where no rule is set, escaped in the log and in paths."""
        titles = (
            b"A\r\nB: C", b"\x1b[2J\x1b]0;x\x07", b"\xff\xfe\x80\xe9", b"../../../etc/x", b"..", b".", b"/etc/passwd",
            b"C:\\x\\..\\y", b"$(id)`id`;id|id", b" " * 16, b"", b"\0" * 16, b"{0}%s%n{x!r}", b"a\0../b",
        )  # fmt: skip
        for layout in ("{callingAETitle}/{SOPInstanceUID}.dcm", "{calledAETitle}/{callingAETitle}/{SOPInstanceUID}"):
            for title in titles:

                def script(attack: Attack, title: bytes = title, layout: str = layout) -> None:
                    attack.associate(request(fixed=fixedFields(title, title)))
                    attack.send(store())
                    attack.expect("AC", "RSP 0000")
                    attack.objects[INSTANCE] = dataSet()
                    attack.expectAlive()
                    self.assertEqual(attack.peer.accepted.callingAE, title.ljust(16)[:16])
                    (path,) = attack.files
                    pieces = path.removeprefix("store/").split("/")
                    self.assertEqual(len(pieces), layout.count("/") + 1)
                    for piece in pieces:
                        self.assertRegex(piece, r"\A[A-Za-z0-9_%-][A-Za-z0-9._%~-]*\Z")

                self.eachWay(script, layout=layout)

    def test_paddedAndReserved(self) -> None:
        """The fields come back as they came."""

        def echoed(attack: Attack) -> None:
            self.assertEqual(attack.peer.accepted.calledAE, b"  DCXTWISTED\0\0\0\0")
            self.assertEqual(attack.peer.accepted.callingAE, b"  PEER  ".ljust(16))
            self.assertEqual(attack.peer.accepted.reserved, b"\xa5" * 32)

        fixed = fixedFields(b"  DCXTWISTED\0\0\0\0", b"  PEER  ", reserved=0xA5)
        self.bad(request(fixed=fixed), "AC", check=echoed, settings={"checkCalledAETitle": True})


class ApplicationContextTests(BadInputTestCase):
    def test_notTheOne(self) -> None:
        right = item(0x10, APPLICATION_CONTEXT.encode())
        for wrong in (b"", right * 2, item(0x10, b""), item(0x10, b"1.2.840.10008.3.1.1.2"), right + item(0x10, b"1")):
            self.bad(request(application=wrong), *WRONG_APPLICATION_CONTEXT)


class PresentationContextTests(BadInputTestCase):
    def test_none(self) -> None:
        self.bad(
            pdu(1, fixedFields() + item(0x10, APPLICATION_CONTEXT.encode()) + item(0x50, MAXIMUM_LENGTH)), *REJECTED
        )

    def test_many(self) -> None:
        contexts = [proposal(contextID, CT, EXPLICIT) for contextID in range(1, 256, 2)]
        self.bad(request(*contexts), "AC", check=lambda attack: self.assertEqual(len(results(attack)), 128))
        self.bad(request(*contexts, proposal(2, CT, EXPLICIT)), *ABORTED)

    def test_zero(self) -> None:
        self.badEach({request(proposal(0, CT, EXPLICIT)): ABORTED, request(*CONTEXTS, proposal(0)): ABORTED})

    def test_even(self) -> None:
        """Against the standard, but sent: echoed, served, and counted."""

        def script(attack: Attack) -> None:
            attack.associate(request(proposal(2, VERIFICATION, IMPLICIT), proposal(254, CT, EXPLICIT)))
            self.assertEqual(results(attack), [(2, 0, IMPLICIT), (254, 0, EXPLICIT)])
            attack.send(echoRQ(contextID=2) + store(contextID=254))
            self.assertEqual([response.contextID for response in attack.responses], [2, 254])
            attack.objects[INSTANCE] = dataSet()
            attack.expectAlive()
            self.assertIn("even presentation context ID: 1", attack.lines[0])

        self.eachWay(script)

    def test_twice(self) -> None:
        self.bad(request(*CONTEXTS, proposal(3, CT, IMPLICIT)), *ABORTED)

    def test_twoAbstractSyntaxes(self) -> None:
        self.bad(
            request(item(0x20, b"\1\0\0\0" + item(0x30, CT.encode()) * 2 + item(0x40, EXPLICIT.encode()))), *ABORTED
        )

    def test_refused(self) -> None:
        """Each is answered in its place, and the association is accepted all the same."""
        contexts = (
            proposal(1, None, EXPLICIT),
            proposal(3, "", EXPLICIT),
            proposal(5, "1.2.3.4.5.6", EXPLICIT),
            proposal(7, "x" * 1000, EXPLICIT),
            proposal(9, CT),
            proposal(11, CT, ""),
            proposal(13, CT, "1.2.3.4"),
            proposal(15, CT, "\r\n../" * 100),
            proposal(17, None),
            proposal(19, CT, "", "9.9", EXPLICIT),
        )

        def answered(attack: Attack) -> None:
            self.assertEqual(
                [(contextID, result) for contextID, result, _ in results(attack)],
                [(1, 3), (3, 3), (5, 3), (7, 3), (9, 4), (11, 4), (13, 4), (15, 4), (17, 3), (19, 0)],
            )

        self.bad(request(*contexts), "AC", check=answered)

    def test_allRefused(self) -> None:
        self.bad(request(proposal(1, "1.2.3", EXPLICIT)), "AC")


class LengthTests(BadInputTestCase):
    """Each length field of a request that has everything, times each wrong value."""

    RQ = request(
        user=MAXIMUM_LENGTH
        + IMPLEMENTATION
        + item(0x53, bytes((0, 5, 0, 5)))
        + item(0x54, counted(CT.encode()) + bytes((1, 0)))
        + item(0x56, counted(CT.encode()) + bytes((2, 0, 3, 0, 0, 0)))
        + item(0x57, counted(CT.encode()) + counted(b"1.2.840.10008.4.2") + counted(counted(b"1.2") + counted(b"1.3")))
        + item(0x58, bytes((2, 1)) + counted(b"user") + counted(PATIENT.encode()))
    )

    def mutated(self, offset: int, width: int) -> dict[int, bytes]:
        """Return the request with each wrong value of a length, by that value."""
        right = int.from_bytes(self.RQ[offset : offset + width], "big")
        values = {0, 1, right - 1, right + 1, right + 4, 0x7FFF, 0x8000, 0xFFFF} - {right}
        before, behind = self.RQ[:offset], self.RQ[offset + width :]
        return {value: before + value.to_bytes(width, "big") + behind for value in sorted(values)}

    def test_ofItemsAndFields(self) -> None:
        reading = Reading(self.RQ)
        self.assertEqual(reading.reactions(), ACCEPTED)
        self.assertEqual((len(reading.lengthFields), reading.lengthFields[0]), (28, ITEMS + 2))
        table: dict[bytes, Sequence[str]] = {}
        for offset in reading.lengthFields:
            for stream in self.mutated(offset, 2).values():
                table[stream] = Reading(stream).reactions()
        # Most add up no more; but some are whole requests of another meaning.
        self.assertEqual({*table.values()}, {ACCEPTED, ABORTED, WRONG_APPLICATION_CONTEXT})
        self.badEach(table)

    def test_ofThePDU(self) -> None:
        """One that is too long has the rest awaited, one that is too short leaves a rest that is no PDU."""
        length = len(self.RQ) - 6
        table: dict[bytes, Sequence[str]] = {}
        for value, stream in self.mutated(2, 4).items():
            if value > length:
                table[stream] = ()
            else:
                table[stream] = ABORTED if length - value < 6 else (*ABORTED, "AB 2/2")
        self.badEach(table)


class UserInformationTests(BadInputTestCase):
    def test_oddMaximumLength(self) -> None:
        """Of another length than 4, missing, or twice: the first four bytes count, or the default."""
        items = (
            b"", item(0x51, b""), item(0x51, b"\0\0"), item(0x51, b"\0\0\x40"), item(0x51, b"\0\0\x40\0\xff"),
            item(0x51, bytes(70)), item(0x51, b"\xff" * 4), MAXIMUM_LENGTH * 2,
            MAXIMUM_LENGTH + item(0x51, b"\0\0\0\1"),
        )  # fmt: skip
        self.badEach({request(user=maximum + IMPLEMENTATION): ACCEPTED for maximum in items})

    def test_noUserInformation(self) -> None:
        self.bad(pdu(1, fixedFields() + item(0x10, APPLICATION_CONTEXT.encode()) + b"".join(CONTEXTS)), "AC")

    def test_maximumLengthThatHoldsNothing(self) -> None:
        lengths = [item(0x51, pack(">L", value)) for value in range(1, 8)]
        self.badEach({request(user=length + IMPLEMENTATION): REJECTED for length in lengths})

    def test_maximumLengthThatHoldsLittle(self) -> None:
        """Responses come in fragments of two bytes and more, none longer than was asked for."""

        def script(attack: Attack, maximum: int) -> None:
            attack.associate(request(user=item(0x51, pack(">L", maximum)) + IMPLEMENTATION))
            accept = len(attack.peer.stream)
            attack.send(store())
            sent = attack.peer.stream[accept:]
            lengths = []
            while sent:
                lengths.append(int.from_bytes(sent[2:6], "big"))
                sent = sent[6 + lengths[-1] :]
            self.assertEqual({*lengths[:-1]}, {maximum & ~1})
            self.assertLessEqual(lengths[-1], maximum)
            attack.expect("AC", "RSP 0000")
            attack.objects[INSTANCE] = dataSet()
            attack.expectAlive()

        for maximum in range(8, 13):
            self.eachWay(lambda attack, maximum=maximum: script(attack, maximum))  # type: ignore[misc]  # of this turn

    def test_oddImplementation(self) -> None:
        items = [item(0x52, b"1" * length) for length in (0, 65, 1000)]
        items += [item(0x55, b"V" * length) for length in (0, 17, 1000)]
        items += [item(0x52, b"\r\n\x1b$(id)"), item(0x55, b"\r\n\x1b$(id)\xff")]
        self.badEach({request(user=MAXIMUM_LENGTH + odd): ACCEPTED for odd in items})

    def test_innerLengthsPastTheItem(self) -> None:
        class_ = CT.encode()
        service = b"1.2.840.10008.4.2"
        items = (
            item(0x54, counted(class_, 100) + b"\1\0"),
            item(0x54, counted(class_, len(class_) + 1) + b"\1\0"),
            item(0x54, counted(class_)),
            item(0x54, b"\xff"),
            item(0x54, b""),
            item(0x56, counted(class_, 0xFFFF) + b"\2\0\3\0\0\0"),
            item(0x56, b""),
            item(0x57, counted(class_, 0x8000) + counted(service) + counted(b"")),
            item(0x57, counted(class_) + counted(service, 18) + counted(b"")),
            item(0x57, counted(class_) + counted(service) + counted(b"", 1)),
            item(0x57, counted(class_) + counted(service) + counted(counted(b"1.2", 4))),
            item(0x57, counted(class_) + counted(service) + counted(b"\0")),
            item(0x57, counted(class_) + counted(service)),
        )
        self.badEach({user(wrong): ABORTED for wrong in items})

    def test_oddUserIdentity(self) -> None:
        """Ignored, and never in the log."""
        secret = PATIENT.encode()
        items = [item(0x58, bytes((kind, 1)) + counted(secret) + counted(secret)) for kind in (0, 1, 2, 3, 6, 255)]
        items.append(item(0x58, b"\2\0" + counted(secret * 3000) + counted(secret)))
        self.badEach({user(odd): ACCEPTED for odd in items})

    def test_longestUserIdentity(self) -> None:
        """A field that fills the item fills the user information too; a longer one cannot be said."""
        room = 0xFFFF - len(MAXIMUM_LENGTH + IMPLEMENTATION) - 4 - 6
        secret = (PATIENT.encode() * 5000)[:room]
        self.bad(user(item(0x58, b"\3\1" + counted(secret) + counted(b""))), "AC")

    def test_brokenUserIdentity(self) -> None:
        secret = PATIENT.encode()
        items = (
            item(0x58, b""),
            item(0x58, b"\2"),
            item(0x58, b"\2\1" + counted(secret, 0xFFFF) + counted(b"")),
            item(0x58, b"\2\1" + counted(secret)),
            item(0x58, b"\2\1" + counted(secret) + counted(secret, len(secret) + 1)),
            item(0x58, b"\2\1" + counted(secret) + counted(secret, len(secret) - 1)),
        )
        self.badEach({user(broken): ABORTED for broken in items})

    def test_asynchronousWindow(self) -> None:
        """Answered with numbers that are neither 0 nor larger than what was proposed."""

        def valid(attack: Attack) -> None:
            window = attack.peer.accepted.userInformation.asynchronousOperationsWindow
            assert window is not None
            self.assertTrue(1 <= window.invoked <= 0xFFFF and window.performed == 1, window)

        windows = (bytes(4), b"\xff" * 4, b"\0\1\0\0", b"\0\0\0\1", bytes(6))
        self.badEach({user(item(0x53, window)): ACCEPTED for window in windows}, check=valid)

    def test_unknownItems(self) -> None:
        head = fixedFields()
        application = item(0x10, APPLICATION_CONTEXT.encode())
        information = item(0x50, MAXIMUM_LENGTH + IMPLEMENTATION)
        unknown = item(0x99, b"\xff" * 9) + item(0x00, b"") + item(0x21, b"\1\0\0\0")
        contexts = b"".join(CONTEXTS)
        bodies = (
            unknown + application + unknown + contexts + unknown + information + unknown,
            information + contexts + application,
            contexts + information + application,
            application + CONTEXTS[0] + information + CONTEXTS[1] + information + CONTEXTS[2],
        )
        self.badEach({pdu(1, head + body): ACCEPTED for body in bodies})
        subItems = (item(0x00, b""), item(0x5A, b"\xff" * 300), item(0xFF, b"x"), item(0x59, counted(b"x")))
        table: dict[bytes, Any] = {user(unknown): ACCEPTED for unknown in subItems}
        self.badEach({**table, request(user=IMPLEMENTATION + item(0x99, b"") + MAXIMUM_LENGTH): ACCEPTED})

    def test_tooManyItems(self) -> None:
        """A megabyte of items that are nothing ends in an abort, and holds nobody up."""
        self.bad(request(*[item(0x99, b"")] * 260_000), *ABORTED)


class PathTests(BadInputTestCase):
    def test_nothingBesideTheStore(self) -> None:
        """What stands above the store is not touched, whoever calls."""

        def script(attack: Attack) -> None:
            attack.associate(request(fixed=fixedFields(b"../../x", b"../../y")))
            attack.send(store())
            attack.objects[INSTANCE] = dataSet()
            attack.expectAlive()
            self.assertEqual(os.listdir(attack.directory), ["store"])

        self.eachWay(script, layout="{calledAETitle}{callingAETitle}/{SOPInstanceUID}.dcm")
