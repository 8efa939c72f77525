"""
PDUs as bytes and as values: rows written by hand, peers' encoders, hostile bytes.
"""

from __future__ import annotations

import struct

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as peer
from pynetdicom import pdu_primitives as primitives
from pynetdicom.presentation import PresentationContext
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire import items, pdu

DICOM_CONTEXT = "1.2.840.10008.3.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STORAGE_SERVICE = "1.2.840.10008.4.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.70"


def item(itemType: int, content: bytes = b"", second: int = 0) -> bytes:
    return struct.pack(">BBH", itemType, second, len(content)) + content


def counted(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def fixed(
    called: bytes = b"ARCHIVE         ",
    calling: bytes = b"MODALITY        ",
    version: int = 1,
    reserved: bytes = bytes(32),
) -> bytes:
    return struct.pack(">H2x", version) + called + calling + reserved


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
VERIFICATION = item(0x30, b"1.2.840.10008.1.1")
IMPLICIT_ITEM = item(0x40, b"1.2.840.10008.1.2")
CONTEXT = item(0x20, b"\1\0\0\0" + VERIFICATION + IMPLICIT_ITEM)
IMPLEMENTATION = item(0x52, b"1.2.3")
USER = item(0x50, IMPLEMENTATION)


def decodeRQ(*parts: bytes, head: bytes = b"") -> pdu.AssociateRQ:
    value = pdu.decode(1, (head or fixed()) + b"".join(parts))
    assert isinstance(value, pdu.AssociateRQ)
    return value


def decodeAC(*parts: bytes) -> pdu.AssociateAC:
    value = pdu.decode(2, fixed() + b"".join(parts))
    assert isinstance(value, pdu.AssociateAC)
    return value


def decodeUser(*parts: bytes) -> tuple[items.UserInformation, tuple[str, ...]]:
    value = decodeRQ(APPLICATION, CONTEXT, item(0x50, b"".join(parts)))
    return value.userInformation, value.quirks


FULL_RQ = pdu.AssociateRQ(
    calledAE=b"ARCHIVE         ",
    callingAE=b"MODALITY        ",
    applicationContexts=(DICOM_CONTEXT,),
    presentationContexts=(
        items.PresentationContextProposal(1, "1.2.840.10008.1.1", (IMPLICIT,)),
        items.PresentationContextProposal(255, CT, (EXPLICIT, IMPLICIT)),
    ),
    userInformation=items.UserInformation(
        maximumLength=16384,
        implementationClassUID="1.2.3",
        implementationVersionName="V_1",
        asynchronousOperationsWindow=items.AsynchronousOperationsWindow(5, 258),
        roleSelections=(items.RoleSelection(CT, True, False),),
        extendedNegotiations=(items.SOPClassExtendedNegotiation(CT, b"\2\0\3\0\0\0"),),
        commonExtendedNegotiations=(items.SOPClassCommonExtendedNegotiation("1.5", STORAGE_SERVICE, (CT, "1.6")),),
        userIdentity=items.UserIdentityRequest(2, True, b"frida", b"secret"),
    ),
)
FULL_RQ_BYTES = bytes.fromhex(
    "01 00 0000019D"
    "0001 0000"
    "41524348495645202020202020202020"
    "4D4F44414C4954592020202020202020"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "10 00 0015 312E322E3834302E31303030382E332E312E312E31"
    "20 00 002E 01 000000"
    "  30 00 0011 312E322E3834302E31303030382E312E31"
    "  40 00 0011 312E322E3834302E31303030382E312E32"
    "20 00 004D FF 000000"
    "  30 00 0019 312E322E3834302E31303030382E352E312E342E312E312E32"
    "  40 00 0013 312E322E3834302E31303030382E312E322E31"
    "  40 00 0011 312E322E3834302E31303030382E312E32"
    "50 00 00B9"
    "  51 00 0004 00004000"
    "  52 00 0005 312E322E33"
    "  53 00 0004 0005 0102"
    "  54 00 001D 0019 312E322E3834302E31303030382E352E312E342E312E312E32 01 00"
    "  55 00 0003 565F31"
    "  56 00 0021 0019 312E322E3834302E31303030382E352E312E342E312E312E32 020003000000"
    "  57 00 003A 0003 312E35 0011 312E322E3834302E31303030382E342E32"
    "    0020 0019 312E322E3834302E31303030382E352E312E342E312E312E32 0003 312E36"
    "  58 00 0011 02 01 0005 6672696461 0006 736563726574"
)

FULL_AC = pdu.AssociateAC(
    calledAE=b"\xffRCHIVE\0        ",
    callingAE=b"                ",
    applicationContexts=(DICOM_CONTEXT,),
    presentationContexts=(
        items.PresentationContextResult(1, items.ACCEPTANCE, IMPLICIT),
        items.PresentationContextResult(3, items.TRANSFER_SYNTAXES_NOT_SUPPORTED, EXPLICIT),
    ),
    userInformation=items.UserInformation(
        maximumLength=0,
        implementationClassUID="1.2.3",
        asynchronousOperationsWindow=items.AsynchronousOperationsWindow(1, 1),
        roleSelections=(items.RoleSelection("1.5", False, True),),
        userIdentityResponse=b"ticket",
    ),
    reserved=bytes(31) + b"\7",
    quirks=(items.RESERVED_BYTES,),
)
FULL_AC_BYTES = bytes.fromhex(
    "02 00 000000CD"
    "0001 0000"
    "FF524348495645002020202020202020"
    "20202020202020202020202020202020"
    "0000000000000000000000000000000000000000000000000000000000000007"
    "10 00 0015 312E322E3834302E31303030382E332E312E312E31"
    "21 00 0019 01 00 00 00"
    "  40 00 0011 312E322E3834302E31303030382E312E32"
    "21 00 001B 03 00 04 00"
    "  40 00 0013 312E322E3834302E31303030382E312E322E31"
    "50 00 0030"
    "  51 00 0004 00000000"
    "  52 00 0005 312E322E33"
    "  53 00 0004 0001 0001"
    "  54 00 0007 0003 312E35 00 01"
    "  59 00 0008 0006 7469636B6574"
)

# storescu of DCMTK 3.6.7, proposing CT twice and a user name with passcode; it fills reserved bytes with FF.
DCMTK_RQ_BYTES = bytes.fromhex(
    "01000000015700010000415243484956452020202020202020204d4f44414c4954592020202020202020000000000000"
    "000000000000000000000000000000000000000000000000000010000015312e322e3834302e31303030382e332e312e"
    "312e312000003b0100ff0030000019312e322e3834302e31303030382e352e312e342e312e312e3240000016312e322e"
    "3834302e31303030382e312e322e342e3730200000640300ff0030000019312e322e3834302e31303030382e352e312e"
    "342e312e312e3240000013312e322e3834302e31303030382e312e322e3140000013312e322e3834302e31303030382e"
    "312e322e3240000011312e322e3834302e31303030382e312e325000004f51000004000080005200001b312e322e3237"
    "362e302e373233303031302e332e302e332e362e375500000f4f464649535f44434d544b5f3336375800001102010005"
    "66726964610006736563726574"
)

ROWS: list[tuple[bytes, pdu.PDU]] = [
    (FULL_RQ_BYTES, FULL_RQ),
    (FULL_AC_BYTES, FULL_AC),
    (bytes.fromhex("03 00 00000004 00 01 02 03"), pdu.AssociateRJ(1, 2, 3)),
    (bytes.fromhex("05 00 00000004 00000000"), pdu.ReleaseRQ()),
    (bytes.fromhex("06 00 00000004 00000000"), pdu.ReleaseRP()),
    (bytes.fromhex("07 00 00000004 00 00 02 06"), pdu.Abort(2, 6)),
]


class RowTests(SynchronousTestCase):
    """The same rows of bytes, both ways."""

    def test_decode(self) -> None:
        for row, value in ROWS:
            self.assertEqual(int.from_bytes(row[2:6], "big"), len(row) - 6)
            for kind in (bytes, bytearray, memoryview):
                self.assertEqual(pdu.decode(row[0], kind(row[6:])), value)

    def test_encode(self) -> None:
        for row, value in ROWS:
            self.assertEqual(value.encode().hex(), row.hex())

    def test_nothingOfTheBufferIsKept(self) -> None:
        """What was decoded from a buffer does not change with it, and the buffer can be resized."""
        buffer = bytearray(FULL_RQ_BYTES[6:])
        value = pdu.decode(1, memoryview(buffer))
        buffer[:] = b""
        self.assertEqual(value, FULL_RQ)

    def test_reservedBytesOfShortPDUs(self) -> None:
        self.assertEqual(pdu.decode(3, b"\xff\1\2\3"), pdu.AssociateRJ(1, 2, 3))
        self.assertEqual(pdu.decode(5, b"\xff\1\2\3"), pdu.ReleaseRQ())
        self.assertEqual(pdu.decode(6, b"\xff\1\2\3"), pdu.ReleaseRP())
        self.assertEqual(pdu.decode(7, b"\xff\xff\1\3"), pdu.Abort(1, 3))

    def test_shortPDUsAreFourBytes(self) -> None:
        for pduType in (3, 5, 6, 7):
            for length in (0, 3, 5):
                error = self.assertRaises(RemoteProtocolError, pdu.decode, pduType, bytes(length))
                self.assertEqual((error.abortSource, error.abortReason), (2, 6))

    def test_unknownType(self) -> None:
        """P-DATA-TF is not decoded here either."""
        for pduType in (0, 4, 8, 0x99, 0xFF):
            error = self.assertRaises(RemoteProtocolError, pdu.decode, pduType, bytes(4))
            self.assertEqual((error.abortSource, error.abortReason), (2, 1))

    def test_transferSyntaxOfARefusedContext(self) -> None:
        """An AC names one transfer syntax in every context, even an empty one."""
        value = items.PresentationContextResult(1, items.NO_REASON, "")
        self.assertEqual(value.encode(), bytes.fromhex("21 00 0008 01 00 02 00 40 00 0000"))

    def test_emptyProposal(self) -> None:
        value = items.PresentationContextProposal(1, "", ())
        self.assertEqual(value.encode(), bytes.fromhex("20 00 0004 01 00 00 00"))

    def test_emptyUserInformation(self) -> None:
        self.assertEqual(items.UserInformation().encode(), bytes.fromhex("50 00 0000"))

    def test_secretsAreNotInTheRepr(self) -> None:
        for value in (FULL_RQ, FULL_AC):
            for secret in ("frida", "secret", "ticket"):
                self.assertNotIn(secret, repr(value))
        self.assertEqual(
            repr(FULL_RQ.userInformation.userIdentity),
            "UserIdentityRequest(identityType=2, positiveResponseRequested=True)",
        )


class EncodePDataTests(SynchronousTestCase):
    """`encodePData`: one presentation data value in one PDU."""

    def test_controlHeader(self) -> None:
        self.assertEqual(pdu.encodePData(1, True, True, b"abc"), bytes.fromhex("04 00 00000009 00000005 01 03 616263"))
        self.assertEqual(pdu.encodePData(255, True, False, b""), bytes.fromhex("04 00 00000006 00000002 FF 01"))
        self.assertEqual(
            pdu.encodePData(3, False, False, memoryview(b"xabcx")[1:4]),
            bytes.fromhex("04 00 00000009 00000005 03 00 616263"),
        )
        self.assertEqual(pdu.encodePData(3, False, True, b"a"), bytes.fromhex("04 00 00000007 00000003 03 02 61"))


class AETitleTests(SynchronousTestCase):
    """Titles and the 16 bytes that hold them."""

    def test_aeField(self) -> None:
        self.assertEqual(pdu.aeField("ARCHIVE"), b"ARCHIVE         ")
        self.assertEqual(pdu.aeField(" 16 characters~!"), b" 16 characters~!")

    def test_aeFieldRefuses(self) -> None:
        for title in ("", "   ", "17 characters ~!?", "A\\B", "A\nB", "A\0", "\x7f", "Ä", "\u20ac"):
            self.assertRaises(ValueError, pdu.aeField, title)

    def test_aeTitle(self) -> None:
        self.assertEqual(pdu.aeTitle(b" ARCHIVE        "), "ARCHIVE")
        self.assertEqual(pdu.aeTitle(b"ARCHIVE \0JUNK   "), "ARCHIVE")
        self.assertEqual(pdu.aeTitle(b"\xc4\r\n../$(id)      "), "\xc4\r\n../$(id)")
        self.assertEqual(pdu.aeTitle(b"\0" * 16), "")

    def test_titlesOfAPDU(self) -> None:
        self.assertEqual((FULL_RQ.calledAETitle, FULL_RQ.callingAETitle), ("ARCHIVE", "MODALITY"))
        self.assertEqual((FULL_AC.calledAETitle, FULL_AC.callingAETitle), ("\xffRCHIVE", ""))

    def test_fieldsAreSixteenBytes(self) -> None:
        for field in (b"SHORT", b"seventeen bytes!!"):
            self.assertRaises(ValueError, attrs.evolve, FULL_RQ, calledAE=field)
            self.assertRaises(ValueError, attrs.evolve, FULL_AC, callingAE=field)

    def test_quirk(self) -> None:
        """Odd titles are taken as they are, from either field."""
        for title in (b"", b"NUL\0", b"\xc4RCHIV", b"A\\B", b"A\nB", b"\x7f"):
            odd = title.ljust(16)
            for head in (fixed(called=odd), fixed(calling=odd)):
                value = decodeRQ(APPLICATION, CONTEXT, USER, head=head)
                self.assertEqual(value.quirks, (pdu.ODD_AE_TITLE,))
                self.assertIn(odd, (value.calledAE, value.callingAE))

    def test_notTestedInAnAC(self) -> None:
        value = pdu.decode(2, fixed(called=b"\xff" * 16, calling=bytes(16)) + APPLICATION + USER)
        assert isinstance(value, pdu.AssociateAC)
        self.assertEqual(value.quirks, ())
        self.assertEqual((value.calledAE, value.callingAE), (b"\xff" * 16, bytes(16)))


class ToleranceTests(SynchronousTestCase):
    """What is off and taken all the same, with its name."""

    def test_plain(self) -> None:
        self.assertEqual(decodeRQ(APPLICATION, CONTEXT, USER).quirks, ())

    def test_protocolVersion(self) -> None:
        """Judged by the negotiation, not here."""
        for version in (0, 1, 2, 0xFFFF):
            value = decodeRQ(APPLICATION, CONTEXT, USER, head=fixed(version=version))
            self.assertEqual((value.protocolVersion, value.quirks), (version, ()))

    def test_reservedBytes(self) -> None:
        reserved = b"\1" + bytes(31)
        value = decodeRQ(APPLICATION, CONTEXT, USER, head=fixed(reserved=reserved))
        self.assertEqual((value.reserved, value.quirks), (reserved, (items.RESERVED_BYTES,)))
        head = bytearray(fixed())
        head[3] = 1
        self.assertEqual(decodeRQ(APPLICATION, CONTEXT, USER, head=bytes(head)).quirks, (items.RESERVED_BYTES,))
        value = decodeRQ(item(0x10, DICOM_CONTEXT.encode(), second=9), CONTEXT, USER)
        self.assertEqual((value.applicationContexts, value.quirks), ((DICOM_CONTEXT,), (items.RESERVED_BYTES,)))

    def test_reservedBytesOfAContext(self) -> None:
        """Those are not even a quirk: DCMTK sets one of them in every context."""
        value = decodeRQ(APPLICATION, item(0x20, b"\1\xff\xff\xff" + VERIFICATION + IMPLICIT_ITEM), USER)
        self.assertEqual(value, decodeRQ(APPLICATION, CONTEXT, USER))

    def test_applicationContexts(self) -> None:
        """All of them are told: missing, twice, empty, wrong."""
        self.assertEqual(decodeRQ(CONTEXT, USER).applicationContexts, ())
        value = decodeRQ(APPLICATION, item(0x10), CONTEXT, item(0x10, b"1.9"), USER)
        self.assertEqual(value.applicationContexts, (DICOM_CONTEXT, "", "1.9"))

    def test_noContexts(self) -> None:
        self.assertEqual(decodeRQ(APPLICATION, USER).presentationContexts, ())

    def test_128Contexts(self) -> None:
        ids = [*range(1, 256, 2), 2]
        contexts = [item(0x20, bytes((n, 0, 0, 0)) + VERIFICATION + IMPLICIT_ITEM) for n in ids]
        value = decodeRQ(APPLICATION, *contexts[:128], USER)
        self.assertEqual([context.contextID for context in value.presentationContexts], ids[:128])
        error = self.assertRaises(RemoteProtocolError, decodeRQ, APPLICATION, *contexts, USER)
        self.assertEqual(error.abortReason, 6)

    def test_evenContextID(self) -> None:
        value = decodeRQ(APPLICATION, item(0x20, b"\2\0\0\0" + VERIFICATION + IMPLICIT_ITEM), USER)
        self.assertEqual(value.presentationContexts[0].contextID, 2)
        self.assertEqual(value.quirks, (items.EVEN_CONTEXT_ID,))

    def test_contextWithoutAbstractSyntax(self) -> None:
        for abstract in (b"", item(0x30)):
            value = decodeRQ(APPLICATION, item(0x20, b"\1\0\0\0" + abstract + IMPLICIT_ITEM), USER)
            self.assertEqual(value.presentationContexts, (items.PresentationContextProposal(1, "", (IMPLICIT,)),))

    def test_contextWithoutTransferSyntax(self) -> None:
        expected = (items.PresentationContextProposal(1, "1.2.840.10008.1.1", ()),)
        value = decodeRQ(APPLICATION, item(0x20, b"\1\0\0\0" + VERIFICATION), USER)
        self.assertEqual((value.presentationContexts, value.quirks), (expected, ()))
        value = decodeRQ(APPLICATION, item(0x20, b"\1\0\0\0" + VERIFICATION + item(0x40)), USER)
        self.assertEqual((value.presentationContexts, value.quirks), (expected, (items.EMPTY_TRANSFER_SYNTAX,)))

    def test_emptyTransferSyntaxAmongOthers(self) -> None:
        content = b"\1\0\0\0" + VERIFICATION + item(0x40, b"1.2.3") + item(0x40, b"\0") + IMPLICIT_ITEM
        value = decodeRQ(APPLICATION, item(0x20, content), USER)
        self.assertEqual(value.presentationContexts[0].transferSyntaxes, ("1.2.3", IMPLICIT))
        self.assertEqual(value.quirks, (items.PADDED_UID, items.EMPTY_TRANSFER_SYNTAX))

    def test_unknownItems(self) -> None:
        unknown = item(0xEE, b"whatever")
        content = b"\1\0\0\0" + unknown + VERIFICATION + IMPLICIT_ITEM
        plain = decodeRQ(APPLICATION, CONTEXT, USER)
        for parts in ((unknown, APPLICATION, CONTEXT, USER), (APPLICATION, item(0x20, content), USER)):
            value = decodeRQ(*parts)
            self.assertEqual(value.quirks, (items.UNKNOWN_ITEM,))
            self.assertEqual(attrs.evolve(value, quirks=()), plain)

    def test_unknownUserItems(self) -> None:
        for itemType in (0x50, 0x5A, 0x00, 0xFF):
            information, quirks = decodeUser(item(itemType, b"whatever"), IMPLEMENTATION)
            self.assertEqual(information, items.UserInformation(implementationClassUID="1.2.3"))
            self.assertEqual(quirks, (items.UNKNOWN_USER_ITEM,))

    def test_resultInAnRQIsUnknown(self) -> None:
        value = decodeRQ(APPLICATION, CONTEXT, item(0x21, b"\0"), USER)
        self.assertEqual(value.quirks, (items.UNKNOWN_ITEM,))

    def test_order(self) -> None:
        value = decodeRQ(USER, CONTEXT, APPLICATION)
        self.assertEqual(value, decodeRQ(APPLICATION, CONTEXT, USER))

    def test_noUserInformation(self) -> None:
        value = decodeRQ(APPLICATION, CONTEXT)
        self.assertEqual(value.userInformation, items.UserInformation())
        self.assertEqual(value.quirks, (items.NO_IMPLEMENTATION_CLASS_UID,))

    def test_secondUserInformation(self) -> None:
        """Only the first is looked into."""
        value = decodeRQ(APPLICATION, CONTEXT, USER, item(0x50, b"not items"))
        self.assertEqual(value.userInformation, items.UserInformation(implementationClassUID="1.2.3"))
        self.assertEqual(value.quirks, (items.REPEATED_ITEM,))

    def test_maximumLength(self) -> None:
        for content, length, quirks in (
            (b"\0\1\0\0", 65536, ()),
            (b"\0\0\0\0", 0, ()),
            (b"\xff\xff\xff\xff", 0xFFFFFFFF, ()),
            (b"", None, (items.ODD_ITEM_LENGTH,)),
            (b"\0\1\0", None, (items.ODD_ITEM_LENGTH,)),
            (b"\0\1\0\2\3", 65538, (items.ODD_ITEM_LENGTH,)),
        ):
            information, found = decodeUser(IMPLEMENTATION, item(0x51, content))
            self.assertEqual((information.maximumLength, found), (length, quirks))
        self.assertEqual(decodeUser(IMPLEMENTATION)[0].maximumLength, None)

    def test_repeatedUserItems(self) -> None:
        """The first of them counts, whatever is in the second."""
        first = items.UserInformation(
            1, "1.2", "V", items.AsynchronousOperationsWindow(2, 3), (), (), (),
            items.UserIdentityRequest(1, False, b"u"), b"r",
        )  # fmt: skip
        content = first.encode()[4:]
        for itemType in (0x51, 0x52, 0x53, 0x55, 0x58, 0x59):
            information, quirks = decodeUser(content, item(itemType, b"9"))
            self.assertEqual((information, quirks), (first, (items.REPEATED_ITEM,)))

    def test_implementation(self) -> None:
        """No class UID and one of 65 bytes; a version name of no byte, 16, 17, and odd bytes."""
        long = b"1." + b"2" * 63
        for parts, uid, name, quirks in (
            ([], "", "", (items.NO_IMPLEMENTATION_CLASS_UID,)),
            ([item(0x52)], "", "", (items.NO_IMPLEMENTATION_CLASS_UID,)),
            ([item(0x52, long)], long.decode(), "", (items.ODD_UID,)),
            ([IMPLEMENTATION, item(0x55)], "1.2.3", "", (items.ODD_VERSION_NAME,)),
            ([IMPLEMENTATION, item(0x55, b"0123456789ABCDEF")], "1.2.3", "0123456789ABCDEF", ()),
            (
                [IMPLEMENTATION, item(0x55, b"0123456789ABCDEFG")],
                "1.2.3",
                "0123456789ABCDEFG",
                (items.ODD_VERSION_NAME,),
            ),
            ([IMPLEMENTATION, item(0x55, b"V\x1b1")], "1.2.3", "V\x1b1", (items.ODD_VERSION_NAME,)),
            ([IMPLEMENTATION, item(0x55, b"V 1 \0")], "1.2.3", "V 1", ()),
        ):
            information, found = decodeUser(*parts)
            self.assertEqual(
                (information.implementationClassUID, information.implementationVersionName, found),
                (uid, name, quirks),
            )

    def test_UIDs(self) -> None:
        for raw, uid, quirks in (
            (b"1.2.3\0", "1.2.3", (items.PADDED_UID,)),
            (b"1.2.3 ", "1.2.3", (items.PADDED_UID,)),
            (b"1.2.3 \0 \0", "1.2.3", (items.PADDED_UID,)),
            (b"1.02.3", "1.02.3", (items.ODD_UID,)),
            (b" 1.2.3", " 1.2.3", (items.ODD_UID,)),
            (b"1..2", "1..2", (items.ODD_UID,)),
            (b"1.2\0003", "1.2\x003", (items.ODD_UID,)),
            (b"1.\xb2", "1.\xb2", (items.ODD_UID,)),
            (b"../x\0", "../x", (items.PADDED_UID, items.ODD_UID)),
            (b"1." + b"2" * 62, "1." + "2" * 62, ()),
            (b"1." + b"2" * 63, "1." + "2" * 63, (items.ODD_UID,)),
        ):
            value = decodeRQ(APPLICATION, item(0x20, b"\1\0\0\0" + item(0x30, raw) + IMPLICIT_ITEM), USER)
            self.assertEqual(value.presentationContexts[0].abstractSyntax, uid)
            self.assertEqual(value.quirks, quirks)

    def test_window(self) -> None:
        for content, window, quirks in (
            (b"\0\0\0\0", (0, 0), ()),
            (b"\xff\xff\xff\xfe", (0xFFFF, 0xFFFE), ()),
            (b"\0\1\0\2\3", (1, 2), (items.ODD_ITEM_LENGTH,)),
        ):
            information, found = decodeUser(IMPLEMENTATION, item(0x53, content))
            self.assertEqual(
                (information.asynchronousOperationsWindow, found),
                (items.AsynchronousOperationsWindow(*window), quirks),
            )

    def test_roles(self) -> None:
        """Several, of the same class too, in order; any byte but zero is a yes."""
        parts = [item(0x54, counted(b"1.5") + roles) for roles in (b"\0\0", b"\1\0", b"\0\1", b"\2\xff")]
        information, quirks = decodeUser(IMPLEMENTATION, *parts)
        expected = ((False, False), (True, False), (False, True), (True, True))
        self.assertEqual(information.roleSelections, tuple(items.RoleSelection("1.5", *e) for e in expected))
        self.assertEqual(quirks, ())

    def test_extendedNegotiationWithoutInformation(self) -> None:
        information, quirks = decodeUser(IMPLEMENTATION, item(0x56, counted(b"1.5")), item(0x56, b"\0\0ab"))
        self.assertEqual(
            information.extendedNegotiations,
            (items.SOPClassExtendedNegotiation("1.5", b""), items.SOPClassExtendedNegotiation("", b"ab")),
        )
        self.assertEqual(quirks, ())

    def test_commonExtendedNegotiationOfALaterVersion(self) -> None:
        """Later versions only add fields; theirs is the second byte of the item, which is no quirk."""
        content = counted(b"1.5") + counted(b"1.6") + counted(b"")
        expected = (items.SOPClassCommonExtendedNegotiation("1.5", "1.6", ()),)
        for item57 in (item(0x57, content), item(0x57, content, 1), item(0x57, content + b"more", 1)):
            information, quirks = decodeUser(IMPLEMENTATION, item57)
            self.assertEqual((information.commonExtendedNegotiations, quirks), (expected, ()))
        self.assertRaises(RemoteProtocolError, decodeUser, item(0x57, content + b"more"))

    def test_userIdentity(self) -> None:
        """Any type, the unknown ones counted; any response byte, empty and long fields."""
        long = b"x" * 65000
        unknown = (items.UNKNOWN_USER_IDENTITY_TYPE,)
        for head, identityType, wanted, expected in (
            (b"\0\0", 0, False, unknown),
            (b"\1\0", 1, False, ()),
            (b"\5\2", 5, True, ()),
            (b"\6\1", 6, True, unknown),
            (b"\xff\xff", 255, True, unknown),
        ):
            for primary in (b"", long):
                information, quirks = decodeUser(IMPLEMENTATION, item(0x58, head + counted(primary) + counted(b"s")))
                identity = items.UserIdentityRequest(identityType, wanted, primary, b"s")
                self.assertEqual(information.userIdentity, identity)
                self.assertEqual(quirks, expected)

    def test_answer(self) -> None:
        """In an AC the transfer syntax may be missing, empty, or there twice."""
        for content, syntax, quirks in (
            (b"", "", ()),
            (item(0x40), "", ()),
            (item(0x40, b"1.2.3"), "1.2.3", ()),
            (item(0x40, b"1.2.3") + IMPLICIT_ITEM, "1.2.3", (items.REPEATED_ITEM,)),
            (item(0x30, b"1.2.3") + IMPLICIT_ITEM, IMPLICIT, (items.UNKNOWN_ITEM,)),
        ):
            value = decodeAC(APPLICATION, item(0x21, b"\2\0\xff\0" + content), USER)
            self.assertEqual(value.presentationContexts, (items.PresentationContextResult(2, 0xFF, syntax),))
            self.assertEqual(value.quirks, quirks)

    def test_proposalInAnACIsUnknown(self) -> None:
        self.assertEqual(decodeAC(APPLICATION, CONTEXT, USER).quirks, (items.UNKNOWN_ITEM,))


class MalformedTests(SynchronousTestCase):
    """Everything that does not add up ends in RemoteProtocolError."""

    def assertMalformed(self, body: bytes, reason: int = 6, pduType: int = 1) -> None:
        error = self.assertRaises(RemoteProtocolError, pdu.decode, pduType, body)
        self.assertEqual((error.abortSource, error.abortReason), (2, reason))

    def test_tooShort(self) -> None:
        for pduType in (1, 2):
            for length in (0, 1, 67):
                self.assertMalformed(fixed()[:length], pduType=pduType)
        self.assertEqual(decodeRQ().presentationContexts, ())

    def test_truncated(self) -> None:
        """A PDU cut anywhere but between two of its items."""
        for row in (FULL_RQ_BYTES, FULL_AC_BYTES):
            body = row[6:]
            ends, offset = {68}, 68
            while offset < len(body):
                offset += 4 + int.from_bytes(body[offset + 2 : offset + 4], "big")
                ends.add(offset)
            self.assertEqual(offset, len(body))
            for cut in range(len(body)):
                if cut in ends:
                    pdu.decode(row[0], body[:cut])
                else:
                    self.assertMalformed(body[:cut], pduType=row[0])

    def test_strayBytes(self) -> None:
        for stray in (b"\0", b"\0\0\0"):
            self.assertMalformed(fixed() + APPLICATION + CONTEXT + USER + stray)
            self.assertMalformed(fixed() + APPLICATION + item(0x20, b"\1\0\0\0" + stray))
            self.assertMalformed(fixed() + APPLICATION + item(0x21, b"\1\0\0\0" + stray), pduType=2)
            self.assertMalformed(fixed() + APPLICATION + CONTEXT + item(0x50, stray))

    def test_itemPastItsContainer(self) -> None:
        """The bytes it reaches for are there, but they are the next item's."""
        short = struct.pack(">BBH", 0x40, 0, 5) + b"1.2"
        self.assertMalformed(fixed() + APPLICATION + item(0x20, b"\1\0\0\0" + VERIFICATION + short) + USER)
        self.assertMalformed(fixed() + item(0x50, struct.pack(">BBH", 0x52, 0, 5) + b"1.2") + CONTEXT)

    def test_contextID(self) -> None:
        for itemType, pduType in ((0x20, 1), (0x21, 2)):
            for content in (b"", b"\1\0\0", b"\0\0\0\0"):
                self.assertMalformed(fixed() + item(itemType, content), pduType=pduType)
            self.assertMalformed(fixed() + item(itemType, b"\1\0\0\0") * 2, pduType=pduType)

    def test_twoAbstractSyntaxes(self) -> None:
        for first in (VERIFICATION, item(0x30)):
            self.assertMalformed(fixed() + item(0x20, b"\1\0\0\0" + first + VERIFICATION), 5)

    def test_userItems(self) -> None:
        uid = counted(b"1.5")
        for itemType, content in (
            (0x53, b""),
            (0x53, b"\0\1\0"),
            (0x54, b""),
            (0x54, b"\0"),
            (0x54, b"\0\4" + b"1.5"),
            (0x54, b"\xff\xff" + b"1.5\0\1"),
            (0x54, uid + b"\1"),
            (0x54, uid + b"\1\0\0"),
            (0x56, b""),
            (0x56, b"\0\4" + b"1.5"),
            (0x57, b""),
            (0x57, uid),
            (0x57, uid + uid),
            (0x57, uid + uid + b"\0\4" + b"\0\1" + b"1"),
            (0x57, uid + uid + b"\0\3" + b"\0\2" + b"1"),
            (0x57, uid + uid + b"\0\1" + b"\0"),
            (0x57, uid + uid + b"\0\0" + b"\0"),
            (0x58, b""),
            (0x58, b"\1"),
            (0x58, b"\1\0"),
            (0x58, b"\1\0" + b"\0\2u"),
            (0x58, b"\1\0" + b"\0\1u"),
            (0x58, b"\1\0" + b"\0\1u\0\1"),
            (0x58, b"\1\0" + b"\0\1u\0\0\0"),
            (0x59, b""),
            (0x59, b"\0\2r"),
            (0x59, b"\0\1rr"),
        ):
            # What follows the item would feed a read past its end.
            self.assertMalformed(fixed() + CONTEXT + item(0x50, item(itemType, content) + IMPLEMENTATION))

    def test_secretsAreNotInTheError(self) -> None:
        body = fixed() + item(0x50, item(0x58, b"\2\1" + counted(b"frida") + b"\0\7secret"))
        error = self.assertRaises(RemoteProtocolError, pdu.decode, 1, body)
        self.assertEqual(str(error), "a field reaches past the end of the user identity item")

    def test_tooManyItems(self) -> None:
        """Counted in all containers together."""
        contexts = [item(0x20, bytes((n, 0, 0, 0)) + item(0x40, b"1") * 8191) for n in (1, 3)]
        value = decodeRQ(*contexts)
        self.assertEqual([len(c.transferSyntaxes) for c in value.presentationContexts], [8191, 8191])
        self.assertMalformed(fixed() + b"".join(contexts) + item(0xEE))

    def test_everyLengthField(self) -> None:
        """Each length in a full RQ and AC, made wrong: nothing but RemoteProtocolError, and that mostly."""
        for row in (FULL_RQ_BYTES, FULL_AC_BYTES):
            body, errors = row[6:], 0
            offsets = lengthOffsets(body)
            for offset in offsets:
                right = int.from_bytes(body[offset : offset + 2], "big")
                for wrong in (0, 1, right - 1, right + 1, right + 4, 0x7FFF, 0x8000, 0xFFFF):
                    mutated = body[:offset] + struct.pack(">H", wrong % 0x10000) + body[offset + 2 :]
                    try:
                        pdu.decode(row[0], mutated)
                    except RemoteProtocolError:
                        errors += 1
            self.assertGreater(errors, len(offsets) * 4)


def lengthOffsets(body: bytes) -> list[int]:
    """Where the length fields of all items are, inner ones too."""
    found: list[int] = []

    def walk(start: int, end: int) -> None:
        while start < end:
            itemType = body[start]
            stop = start + 4 + int.from_bytes(body[start + 2 : start + 4], "big")
            found.append(start + 2)
            if itemType in (0x20, 0x21):
                walk(start + 8, stop)
            elif itemType == 0x50:
                walk(start + 4, stop)
            elif itemType in (0x54, 0x56, 0x57, 0x59):
                found.append(start + 4)
            elif itemType == 0x58:
                found.append(start + 6)
            start = stop

    walk(68, len(body))
    return found


class EncodeLimitTests(SynchronousTestCase):
    """Values that no PDU can hold are the caller's mistake."""

    def test_longItem(self) -> None:
        long = items.SOPClassExtendedNegotiation("1.5", bytes(65530))
        self.assertEqual(len(long.encode()), 4 + 65535)
        self.assertRaises(ValueError, items.SOPClassExtendedNegotiation("1.5", bytes(65531)).encode)
        self.assertRaises(ValueError, items.UserInformation(extendedNegotiations=(long,)).encode)

    def test_longField(self) -> None:
        self.assertRaises(ValueError, items.UserIdentityRequest(1, False, bytes(65536)).encode)

    def test_contextID(self) -> None:
        self.assertRaises(ValueError, items.PresentationContextProposal(256, CT, ()).encode)


class PeerTests(SynchronousTestCase):
    """What other implementations encode is decoded, and the other way round."""

    def test_DCMTK(self) -> None:
        value = pdu.decode(DCMTK_RQ_BYTES[0], DCMTK_RQ_BYTES[6:])
        expected = pdu.AssociateRQ(
            pdu.aeField("ARCHIVE"),
            pdu.aeField("MODALITY"),
            (DICOM_CONTEXT,),
            (
                items.PresentationContextProposal(1, CT, (JPEG,)),
                items.PresentationContextProposal(3, CT, (EXPLICIT, "1.2.840.10008.1.2.2", IMPLICIT)),
            ),
            items.UserInformation(
                32768,
                "1.2.276.0.7230010.3.0.3.6.7",
                "OFFIS_DCMTK_367",
                userIdentity=items.UserIdentityRequest(2, True, b"frida", b"secret"),
            ),
        )
        self.assertEqual(value, expected)
        self.assertEqual(value.encode(), DCMTK_RQ_BYTES.replace(b"\0\xff\0\x30\0\0\x19", b"\0\0\0\x30\0\0\x19"))

    def peerRQ(self) -> bytes:
        primitive = primitives.A_ASSOCIATE()
        primitive.application_context_name = DICOM_CONTEXT
        primitive.calling_ae_title = "MODALITY"
        primitive.called_ae_title = "ARCHIVE"
        contexts = []
        for contextID, abstract, syntaxes in (
            (1, "1.2.840.10008.1.1", [IMPLICIT]),
            (3, CT, [JPEG, IMPLICIT]),
        ):
            context = PresentationContext()
            context.context_id = contextID
            context.abstract_syntax = abstract
            context.transfer_syntax = syntaxes
            contexts.append(context)
        primitive.presentation_context_definition_list = contexts
        length = primitives.MaximumLengthNotification()
        length.maximum_length_received = 65540
        implementation = primitives.ImplementationClassUIDNotification()
        implementation.implementation_class_uid = "1.2.3.4"
        version = primitives.ImplementationVersionNameNotification()
        version.implementation_version_name = "PEER_1"
        window = primitives.AsynchronousOperationsWindowNegotiation()
        window.maximum_number_operations_invoked = 8
        window.maximum_number_operations_performed = 9
        role = primitives.SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = CT
        role.scu_role = False
        role.scp_role = True
        extended = primitives.SOPClassExtendedNegotiation()
        extended.sop_class_uid = CT
        extended.service_class_application_information = b"\2\0\3\0\1\0"
        common = primitives.SOPClassCommonExtendedNegotiation()
        common.sop_class_uid = "1.2.99"
        common.service_class_uid = STORAGE_SERVICE
        common.related_general_sop_class_identification = [CT, "1.2.98"]
        identity = primitives.UserIdentityNegotiation()
        identity.user_identity_type = 2
        identity.positive_response_requested = True
        identity.primary_field = b"frida"
        identity.secondary_field = b"secret"
        primitive.user_information = [
            length, implementation, version, window, role, extended, common, identity
        ]  # fmt: skip
        request = peer.A_ASSOCIATE_RQ()
        request.from_primitive(primitive)
        encoded = request.encode()
        assert isinstance(encoded, bytes)
        return encoded

    def test_pynetdicomRQ(self) -> None:
        encoded = self.peerRQ()
        value = pdu.decode(encoded[0], encoded[6:])
        assert isinstance(value, pdu.AssociateRQ)
        self.assertEqual(value.protocolVersion, 1)
        self.assertEqual((value.calledAETitle, value.callingAETitle), ("ARCHIVE", "MODALITY"))
        self.assertEqual(value.applicationContexts, (DICOM_CONTEXT,))
        self.assertEqual(
            value.presentationContexts,
            (
                items.PresentationContextProposal(1, "1.2.840.10008.1.1", (IMPLICIT,)),
                items.PresentationContextProposal(3, CT, (JPEG, IMPLICIT)),
            ),
        )
        information = value.userInformation
        self.assertEqual(information.maximumLength, 65540)
        self.assertEqual(information.implementationClassUID, "1.2.3.4")
        self.assertEqual(information.implementationVersionName, "PEER_1")
        self.assertEqual(information.asynchronousOperationsWindow, items.AsynchronousOperationsWindow(8, 9))
        self.assertEqual(information.roleSelections, (items.RoleSelection(CT, False, True),))
        self.assertEqual(information.extendedNegotiations, (items.SOPClassExtendedNegotiation(CT, b"\2\0\3\0\1\0"),))
        self.assertEqual(
            information.commonExtendedNegotiations,
            (items.SOPClassCommonExtendedNegotiation("1.2.99", STORAGE_SERVICE, (CT, "1.2.98")),),
        )
        self.assertEqual(information.userIdentity, items.UserIdentityRequest(2, True, b"frida", b"secret"))
        self.assertEqual(information.userIdentityResponse, None)
        self.assertEqual(value.quirks, ())

    def test_pynetdicomReadsOurs(self) -> None:
        """It decodes what we encode and, encoding it again, gives the same bytes."""
        for value, reader in (
            (FULL_RQ, peer.A_ASSOCIATE_RQ()),
            (attrs.evolve(FULL_AC, calledAE=b"ARCHIVE         ", reserved=bytes(32)), peer.A_ASSOCIATE_AC()),
            (pdu.AssociateRJ(1, 1, 7), peer.A_ASSOCIATE_RJ()),
            (pdu.ReleaseRQ(), peer.A_RELEASE_RQ()),
            (pdu.ReleaseRP(), peer.A_RELEASE_RP()),
            (pdu.Abort(2, 6), peer.A_ABORT_RQ()),
        ):
            encoded = value.encode()
            reader.decode(encoded)
            self.assertEqual(reader.encode(), encoded)

    def test_pynetdicomReadsOurPData(self) -> None:
        reader = peer.P_DATA_TF()
        reader.decode(pdu.encodePData(5, True, True, b"command"))
        [value] = reader.presentation_data_value_items
        self.assertEqual((value.presentation_context_id, value.presentation_data_value), (5, b"\3command"))


uids = st.builds(".".join, st.lists(st.integers(0, 10**9).map(str), min_size=1, max_size=6))
informations = st.builds(
    items.UserInformation,
    maximumLength=st.none() | st.integers(0, 0xFFFFFFFF),
    implementationClassUID=uids,
    implementationVersionName=st.just("") | st.from_regex(r"\A[!-~]{1,16}\Z"),
    asynchronousOperationsWindow=st.none()
    | st.builds(items.AsynchronousOperationsWindow, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    roleSelections=st.lists(st.builds(items.RoleSelection, uids, st.booleans(), st.booleans())).map(tuple),
    extendedNegotiations=st.lists(st.builds(items.SOPClassExtendedNegotiation, uids, st.binary(max_size=9))).map(tuple),
    commonExtendedNegotiations=st.lists(
        st.builds(items.SOPClassCommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple))
    ).map(tuple),
    userIdentity=st.none()
    | st.builds(items.UserIdentityRequest, st.integers(1, 5), st.booleans(), st.binary(), st.binary()),
    userIdentityResponse=st.none() | st.binary(),
)
oddIDs = st.integers(0, 127).map(lambda n: 2 * n + 1)
titles = st.from_regex(r"\A[!-\[\]-~]{1,16}\Z").map(pdu.aeField)
requests = st.builds(
    pdu.AssociateRQ,
    calledAE=titles,
    callingAE=titles,
    applicationContexts=st.lists(uids, max_size=2).map(tuple),
    presentationContexts=st.lists(
        st.builds(items.PresentationContextProposal, oddIDs, uids, st.lists(uids, max_size=4).map(tuple)),
        unique_by=lambda context: context.contextID,
    ).map(tuple),
    userInformation=informations,
    protocolVersion=st.integers(0, 0xFFFF),
)
answers = st.builds(
    pdu.AssociateAC,
    calledAE=st.binary(min_size=16, max_size=16),
    callingAE=st.binary(min_size=16, max_size=16),
    applicationContexts=st.lists(uids, max_size=2).map(tuple),
    presentationContexts=st.lists(
        st.builds(items.PresentationContextResult, oddIDs, st.integers(0, 255), uids),
        unique_by=lambda context: context.contextID,
    ).map(tuple),
    userInformation=informations,
    protocolVersion=st.integers(0, 0xFFFF),
)


class GeneratedTests(SynchronousTestCase):
    """Hypothesis: round trips, and nothing but a value or RemoteProtocolError for any bytes."""

    @settings(deadline=None)
    @given(requests | answers)
    def test_roundTrip(self, value: pdu.AssociateRQ | pdu.AssociateAC) -> None:
        encoded = value.encode()
        self.assertEqual(int.from_bytes(encoded[2:6], "big"), len(encoded) - 6)
        self.assertEqual(pdu.decode(encoded[0], encoded[6:]), value)

    def decodeAnything(self, pduType: int, body: bytes) -> None:
        try:
            value = pdu.decode(pduType, body)
        except RemoteProtocolError as error:
            self.assertIn((error.abortSource, error.abortReason), ((2, 1), (2, 5), (2, 6)))
        else:
            # What was made of it can be said again, and is then the same but for what was off.
            again = value.encode()
            self.assertEqual(pdu.decode(again[0], again[6:]).encode(), again)

    @settings(deadline=None)
    @given(st.integers(0, 255) | st.sampled_from([1, 2, 3, 5, 6, 7]), st.binary(max_size=200))
    def test_randomBytes(self, pduType: int, body: bytes) -> None:
        self.decodeAnything(pduType, body)

    @settings(deadline=None)
    @given(st.sampled_from([1, 2]), st.binary(max_size=300))
    def test_randomItems(self, pduType: int, content: bytes) -> None:
        self.decodeAnything(pduType, fixed() + content)

    @settings(deadline=None)
    @given(
        st.sampled_from([0x20, 0x21, 0x50]),
        st.lists(st.tuples(st.integers(0x2F, 0x5A), st.binary(max_size=40)), max_size=6),
    )
    def test_randomSubItems(self, itemType: int, subItems: list[tuple[int, bytes]]) -> None:
        head = b"" if itemType == 0x50 else b"\1\0\0\0"
        content = head + b"".join(item(subType, subContent) for subType, subContent in subItems)
        self.decodeAnything(2 if itemType == 0x21 else 1, fixed() + item(itemType, content))

    @settings(deadline=None)
    @given(
        st.sampled_from([FULL_RQ_BYTES, FULL_AC_BYTES, DCMTK_RQ_BYTES]),
        st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=4), st.integers(0, 4)), max_size=5),
    )
    def test_mutated(self, row: bytes, changes: list[tuple[int, bytes, int]]) -> None:
        """Bytes of a good PDU overwritten, inserted and taken away."""
        body = bytearray(row[6:])
        for where, replacement, length in changes:
            where %= len(body)
            body[where : where + length] = replacement
        self.decodeAnything(row[0], bytes(body))
