"""
DIMSE messages: what a command set means, and what is answered.
"""

from __future__ import annotations

from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom import dimse_messages
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire import messages
from dcxtwisted.wire.commandset import decodeCommandSet, encodeCommandSet

CT = "1.2.840.10008.5.1.4.1.1.2"
CLASS = b"1.2.840.10008.5.1.4.1.1.2\0"
INSTANCE = b"1.2.3.45"

STORE = {
    0x0002: CLASS,
    0x0100: b"\1\0",
    0x0110: b"\7\0",
    0x0700: b"\2\0",
    0x0800: b"\0\0",
    0x1000: INSTANCE,
    0x1030: b"MOVER ",
    0x1031: b"\x2a\0",
}

STORE_RSP_BYTES = bytes.fromhex(
    "0000 0000 04000000 5A000000"
    "0000 0200 1A000000 312E322E3834302E31303030382E352E312E342E312E312E3200"
    "0000 0001 02000000 0180"
    "0000 2001 02000000 0700"
    "0000 0008 02000000 0101"
    "0000 0009 02000000 0000"
    "0000 0010 08000000 312E322E332E3435"
)


def without(elements: dict[int, bytes], *numbers: int) -> dict[int, bytes]:
    return {number: value for number, value in elements.items() if number not in numbers}


def us(number: int) -> bytes:
    return number.to_bytes(2, "little")


def storeRequest(classUID: bytes = CLASS, instanceUID: bytes = INSTANCE) -> messages.CStoreRequest:
    request = messages.parseMessage(3, {**STORE, 0x0002: classUID, 0x1000: instanceUID})
    assert isinstance(request, messages.CStoreRequest)
    return request


class UIDTests(SynchronousTestCase):
    """`uid`"""

    def test_padding(self) -> None:
        for raw in (b"1.2.3", b"1.2.3\0", b"1.2.3 ", b"1.2.3 \0 \0\0"):
            self.assertEqual(messages.uid(raw), "1.2.3")

    def test_anythingElseStays(self) -> None:
        self.assertEqual(messages.uid(b" ../\0\xff\r\n\0"), " ../\0\xff\r\n")
        self.assertEqual(messages.uid(b"\0 "), "")


class CStoreRequestTests(SynchronousTestCase):
    """What `parseMessage` makes of a C-STORE request."""

    def test_fields(self) -> None:
        request = messages.parseMessage(3, STORE)
        assert isinstance(request, messages.CStoreRequest)
        self.assertEqual((request.contextID, request.commandField, request.messageID), (3, 1, 7))
        self.assertIs(request.hasDataSet, True)
        self.assertEqual(request.affectedSOPClassUID, CLASS)
        self.assertEqual(request.affectedSOPInstanceUID, INSTANCE)
        self.assertEqual(request.SOPClassUID, CT)
        self.assertEqual(request.SOPInstanceUID, "1.2.3.45")
        self.assertEqual(request.priority, 2)
        self.assertEqual(request.moveOriginatorAETitle, "MOVER")
        self.assertEqual(request.moveOriginatorMessageID, 42)
        self.assertIs(request.elements, STORE)

    def test_onlyWhatIsNeeded(self) -> None:
        request = messages.parseMessage(1, {0x0100: b"\1\0", 0x0110: b"\xff\xff", 0x0800: b"\1\1"})
        assert isinstance(request, messages.CStoreRequest)
        self.assertEqual(request.messageID, 0xFFFF)
        self.assertIs(request.hasDataSet, False)
        self.assertEqual((request.affectedSOPClassUID, request.affectedSOPInstanceUID), (b"", b""))
        self.assertEqual((request.SOPClassUID, request.SOPInstanceUID), ("", ""))
        self.assertEqual(request.priority, 0)
        self.assertEqual(request.moveOriginatorAETitle, "")
        self.assertIs(request.moveOriginatorMessageID, None)

    def test_multiplicity(self) -> None:
        """The first of several values."""
        request = messages.parseMessage(
            1,
            {
                0x0100: b"\1\0\x30\0",
                0x0110: b"\7\0\x08\0",
                0x0700: b"\1\0\2\0",
                0x0800: b"\1\1\0\0",
                0x1031: b"\1\0\2\0",
            },
        )
        assert isinstance(request, messages.CStoreRequest)
        self.assertEqual((request.commandField, request.messageID, request.hasDataSet), (1, 7, False))
        self.assertEqual((request.priority, request.moveOriginatorMessageID), (1, 1))

    def test_shortOptionalElements(self) -> None:
        request = messages.parseMessage(1, {**STORE, 0x0700: b"\1", 0x1031: b""})
        assert isinstance(request, messages.CStoreRequest)
        self.assertEqual((request.priority, request.moveOriginatorMessageID), (0, None))

    def test_elementsAreNotInTheRepr(self) -> None:
        self.assertNotIn("elements", repr(storeRequest()))


class ParseTests(SynchronousTestCase):
    """`parseMessage`, the other messages."""

    def test_dataSetType(self) -> None:
        """Any value but 0101 means that data follows."""
        for raw, follows in ((b"\1\1", False), (b"\0\0", True), (b"\1\0", True), (b"\0\1", True)):
            message = messages.parseMessage(1, {**STORE, 0x0800: raw})
            self.assertIs(message.hasDataSet, follows)

    def test_requests(self) -> None:
        """Every request that is not a C-STORE, known or not, is a plain one."""
        for field in (0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0150, 0x0000, 0x1234, 0x7FFF):
            message = messages.parseMessage(1, {**STORE, 0x0100: us(field)})
            self.assertIs(type(message), messages.Request)
            assert isinstance(message, messages.Request)
            self.assertEqual((message.commandField, message.messageID), (field, 7))

    def test_requestedSOP(self) -> None:
        """N-services name the requested class and instance instead of the affected ones."""
        elements = {
            0x0003: b"1.2.9\0",
            0x0100: b"\x30\1",
            0x0110: b"\1\0",
            0x0800: b"\0\0",
            0x1001: b"1.9 ",
        }
        message = messages.parseMessage(1, elements)
        assert isinstance(message, messages.Request)
        self.assertEqual(message.commandField, messages.N_ACTION_RQ)
        self.assertEqual((message.affectedSOPClassUID, message.affectedSOPInstanceUID), (b"1.2.9\0", b"1.9 "))
        both = messages.parseMessage(1, {**elements, 0x0002: b"1.3", 0x1000: b"1.4"})
        assert isinstance(both, messages.Request)
        self.assertEqual((both.affectedSOPClassUID, both.affectedSOPInstanceUID), (b"1.3", b"1.4"))

    def test_cancel(self) -> None:
        elements = {0x0100: b"\xff\x0f", 0x0120: b"\x05\0", 0x0800: b"\1\1"}
        self.assertEqual(messages.parseMessage(9, elements), messages.Cancel(9, 5))
        self.assertEqual(
            messages.parseMessage(9, {**elements, 0x0800: b"\0\0"}), messages.Cancel(9, 5, hasDataSet=True)
        )

    def test_response(self) -> None:
        for field in (0x8001, 0x8030, 0x8020, 0xFFFF):
            elements = {
                0x0100: us(field),
                0x0120: b"\x05\0",
                0x0800: b"\1\1",
                0x0900: b"\0\xa7",
            }
            self.assertEqual(
                messages.parseMessage(9, elements),
                messages.ReceivedResponse(9, field, 5, 0xA700, False, elements),
            )

    def test_missing(self) -> None:
        """What is needed is there in two bytes at least, or the association ends."""
        cancel = {0x0100: b"\xff\x0f", 0x0120: b"\x05\0", 0x0800: b"\1\1"}
        response = {0x0100: b"\1\x80", 0x0120: b"\x05\0", 0x0800: b"\1\1", 0x0900: b"\0\0"}
        for elements, needed in (
            (STORE, (0x0100, 0x0110, 0x0800)),
            (cancel, (0x0100, 0x0120, 0x0800)),
            (response, (0x0100, 0x0120, 0x0800, 0x0900)),
        ):
            for number in needed:
                for bad in (
                    without(elements, number),
                    {**elements, number: b""},
                    {**elements, number: b"\1"},
                ):
                    error = self.assertRaises(RemoteProtocolError, messages.parseMessage, 1, bad)
                    self.assertEqual((error.abortSource, error.abortReason), (2, 6))
                    self.assertEqual(str(error), f"a command without (0000,{number:04X})")

    @settings(deadline=None)
    @given(
        st.sampled_from([0x0001, 0x0030, 0x0FFF, 0x8001]),
        st.dictionaries(st.sampled_from([0x0100, 0x0110, 0x0120, 0x0800, 0x0900]), st.binary(max_size=3), max_size=2),
        st.dictionaries(
            st.sampled_from([0x0002, 0x0003, 0x0700, 0x1000, 0x1001, 0x1030, 0x1031]), st.binary(max_size=5)
        ),
    )
    def test_anyElements(self, commandField: int, bad: dict[int, bytes], others: dict[int, bytes]) -> None:
        """A message, whose properties can all be asked for, or RemoteProtocolError."""
        elements = {0x0100: us(commandField), 0x0110: us(1), 0x0120: us(2), 0x0800: us(3), 0x0900: us(4)}
        try:
            message = messages.parseMessage(1, {**elements, **bad, **others})
        except RemoteProtocolError:
            return
        if isinstance(message, messages.Request):
            decoded = decodeCommandSet(message.response(0).encode())
            self.assertEqual(int.from_bytes(decoded[0x0120], "little"), message.messageID)
        if isinstance(message, messages.CStoreRequest):
            self.assertIn(message.priority, range(0x10000))
            self.assertLessEqual(len(message.moveOriginatorAETitle), 5)


class ResponseTests(SynchronousTestCase):
    """`Request.response` and what it encodes to."""

    def test_whatIsNoUIDByFar(self) -> None:
        """2 KB of both are sent back; more is not, or the answer to 64 KB may be 32,000 PDUs."""
        response = messages.Response(1, 0x8001, 7, 0x0117, b"1" * 1000, b"2" * 1048)
        self.assertIn(b"1" * 1000, response.encode())
        self.assertIn(b"2" * 1048, response.encode())
        for pair in ((b"1" * 1000, b"2" * 1049), (b"1" * 65000, b""), (b"", b"2" * 65000)):
            response = messages.Response(1, 0x8001, 7, 0x0117, *pair)
            self.assertEqual(response.encode(), messages.Response(1, 0x8001, 7, 0x0117).encode())

    def test_store(self) -> None:
        response = storeRequest().response(0x0000)
        self.assertEqual(response, messages.Response(3, messages.C_STORE_RSP, 7, 0x0000, CLASS, INSTANCE))
        self.assertEqual(response.encode().hex(), STORE_RSP_BYTES.hex())

    def test_echo(self) -> None:
        """No instance, and no class where the request named none."""
        elements = decodeCommandSet(messages.encodeCEchoRQ(258))
        request = messages.parseMessage(5, elements)
        assert isinstance(request, messages.Request)
        self.assertEqual(
            request.response(0).encode().hex(),
            bytes.fromhex(
                "0000 0000 04000000 42000000"
                "0000 0200 12000000 312E322E3834302E31303030382E312E3100"
                "0000 0001 02000000 3080"
                "0000 2001 02000000 0201"
                "0000 0008 02000000 0101"
                "0000 0009 02000000 0000"
            ).hex(),
        )
        request = messages.parseMessage(5, without(elements, 0x0002))
        assert isinstance(request, messages.Request)
        self.assertEqual(
            request.response(0).encode().hex(),
            bytes.fromhex(
                "0000 0000 04000000 28000000"
                "0000 0001 02000000 3080"
                "0000 2001 02000000 0201"
                "0000 0008 02000000 0101"
                "0000 0009 02000000 0000"
            ).hex(),
        )

    def test_UIDsAsTheyCame(self) -> None:
        """Whatever padding they came with; an odd length gets a NUL, for no element may be odd."""
        for came, sent in (
            (b"1.2.3\0", b"1.2.3\0"),
            (b"1.2.3 ", b"1.2.3 "),
            (b"1.2\0\0\0", b"1.2\0\0\0"),
            (b"1.2.3", b"1.2.3\0"),
            (b"\xff/..", b"\xff/.."),
        ):
            request = storeRequest(came, came)
            elements = decodeCommandSet(request.response(0).encode())
            self.assertEqual((elements[0x0002], elements[0x1000]), (sent, sent))

    def test_withoutInstance(self) -> None:
        request = storeRequest(instanceUID=b"")
        elements = decodeCommandSet(request.response(0x0117).encode())
        self.assertEqual(sorted(elements), [0x0000, 0x0002, 0x0100, 0x0120, 0x0800, 0x0900])
        self.assertEqual(elements[0x0900], b"\x17\1")

    def test_comment(self) -> None:
        for comment, sent in (
            ("disk full", b"disk full "),
            ("even", b"even"),
            ("x" * 64, b"x" * 64),
            ("x" * 65, b"x" * 64),
            ("a\\b\r\n\x1b\x7f\xe4\u20ac~ ", b"a?b??????~  "),
        ):
            elements = decodeCommandSet(storeRequest().response(0xA700, comment).encode())
            self.assertEqual(elements[0x0902], sent)
            self.assertEqual(elements[0x0900], b"\0\xa7")

    def test_offendingElements(self) -> None:
        """With A9xx, Bxxx and Cxxx, group before element, and with nothing else."""
        tags = (0x00080018, 0x7FE00010)
        encoded = bytes.fromhex("0800 1800 E07F 1000")
        for status in (0xA900, 0xA9FF, 0xB000, 0xB007, 0xC000, 0xCFFF):
            elements = decodeCommandSet(storeRequest().response(status, "", tags).encode())
            self.assertEqual(elements.get(0x0901), encoded)
        for status in (0x0000, 0x0117, 0x0122, 0xA700, 0xA8FF, 0xAA00, 0xD000):
            elements = decodeCommandSet(storeRequest().response(status, "", tags).encode())
            self.assertEqual(elements.get(0x0901), None)

    def test_orderAndGroupLength(self) -> None:
        response = storeRequest().response(0xC123, "no", (0x00100010,))
        encoded = response.encode()
        elements = decodeCommandSet(encoded)
        self.assertEqual(list(elements), [0x0000, 0x0002, 0x0100, 0x0120, 0x0800, 0x0900, 0x0901, 0x0902, 0x1000])
        self.assertEqual(encoded, encodeCommandSet(elements))

    def test_dataSet(self) -> None:
        """A response that announces a data set says anything but 0101."""
        response = messages.Response(1, 0x8020, 7, 0xFF00, hasDataSet=True)
        self.assertEqual(decodeCommandSet(response.encode())[0x0800], b"\1\0")

    def test_ofOtherRequests(self) -> None:
        request = messages.parseMessage(1, {**STORE, 0x0100: b"\x20\0"})
        assert isinstance(request, messages.Request)
        self.assertEqual(
            request.response(0x0211, "no such service"),
            messages.Response(1, 0x8020, 7, 0x0211, CLASS, b"", "no such service"),
        )

    @settings(deadline=None)
    @given(
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFF),
        st.binary(max_size=70),
        st.binary(max_size=70),
        st.text(max_size=80),
        st.lists(st.integers(0, 0xFFFFFFFF), max_size=3).map(tuple),
    )
    def test_sameAsTheSlowWay(
        self,
        messageID: int,
        status: int,
        classUID: bytes,
        instanceUID: bytes,
        comment: str,
        tags: tuple[int, ...],
    ) -> None:
        """The packing by hand gives what `encodeCommandSet` gives, whatever is in it."""
        response = messages.Response(1, 0x8001, messageID, status, classUID, instanceUID, comment, tags)
        encoded = response.encode()
        elements = decodeCommandSet(encoded)
        self.assertEqual(encodeCommandSet(elements), encoded)
        self.assertEqual(elements.get(0x1000, b"")[: len(instanceUID)], instanceUID)
        self.assertEqual(elements.get(0x0002, b"")[: len(classUID)], classUID)
        self.assertEqual(elements[0x0120] + elements[0x0900], us(messageID) + us(status))


class RequestEncoderTests(SynchronousTestCase):
    """`encodeCStoreRQ` and `encodeCEchoRQ`"""

    def test_store(self) -> None:
        self.assertEqual(
            messages.encodeCStoreRQ(7, CT, "1.2.3.45").hex(),
            bytes.fromhex(
                "0000 0000 04000000 5A000000"
                "0000 0200 1A000000 312E322E3834302E31303030382E352E312E342E312E312E3200"
                "0000 0001 02000000 0100"
                "0000 1001 02000000 0700"
                "0000 0007 02000000 0000"
                "0000 0008 02000000 0100"
                "0000 0010 08000000 312E322E332E3435"
            ).hex(),
        )

    def test_storeWithMoveOriginator(self) -> None:
        encoded = messages.encodeCStoreRQ(7, CT, "1.2.3.45", 1, "MOVER", 42)
        request = messages.parseMessage(1, decodeCommandSet(encoded))
        assert isinstance(request, messages.CStoreRequest)
        self.assertEqual((request.priority, request.hasDataSet), (1, True))
        self.assertEqual((request.moveOriginatorAETitle, request.moveOriginatorMessageID), ("MOVER", 42))
        self.assertEqual(request.elements[0x1030], b"MOVER ")

    def test_echo(self) -> None:
        self.assertEqual(
            messages.encodeCEchoRQ(1).hex(),
            bytes.fromhex(
                "0000 0000 04000000 38000000"
                "0000 0200 12000000 312E322E3834302E31303030382E312E3100"
                "0000 0001 02000000 3000"
                "0000 1001 02000000 0100"
                "0000 0008 02000000 0101"
            ).hex(),
        )


class PeerTests(SynchronousTestCase):
    """pynetdicom's command sets, read and written."""

    def test_readsTheirStore(self) -> None:
        primitive = C_STORE()
        primitive.MessageID = 7
        primitive.AffectedSOPClassUID = UID(CT)
        primitive.AffectedSOPInstanceUID = UID("1.2.3.45")
        primitive.Priority = 2
        primitive.MoveOriginatorApplicationEntityTitle = "MOVER"
        primitive.MoveOriginatorMessageID = 42
        primitive.DataSet = BytesIO(b"\x08\0\x16\0\0\0\0\0")
        message = dimse_messages.C_STORE_RQ()
        message.primitive_to_message(primitive)
        [command, *_] = message.encode_msg(3, 16382)
        [[contextID, value]] = command.presentation_data_value_list
        self.assertEqual(value[0], 3)
        request = messages.parseMessage(contextID, decodeCommandSet(value[1:]))
        assert isinstance(request, messages.CStoreRequest)
        self.assertEqual((request.contextID, request.messageID, request.priority), (3, 7, 2))
        self.assertEqual((request.affectedSOPClassUID, request.affectedSOPInstanceUID), (CLASS, INSTANCE))
        self.assertEqual((request.moveOriginatorAETitle, request.moveOriginatorMessageID), ("MOVER", 42))
        self.assertIs(request.hasDataSet, True)

    def test_theyWriteTheSameResponse(self) -> None:
        primitive = C_STORE()
        primitive.MessageIDBeingRespondedTo = 7
        primitive.AffectedSOPClassUID = UID(CT)
        primitive.AffectedSOPInstanceUID = UID("1.2.3.45")
        primitive.Status = 0
        message = dimse_messages.C_STORE_RSP()
        message.primitive_to_message(primitive)
        [command] = message.encode_msg(3, 16382)
        [[_, value]] = command.presentation_data_value_list
        self.assertEqual(value[1:], storeRequest().response(0).encode())

    def test_theyWriteTheSameEcho(self) -> None:
        primitive = C_ECHO()
        primitive.MessageID = 9
        primitive.AffectedSOPClassUID = UID("1.2.840.10008.1.1")
        message = dimse_messages.C_ECHO_RQ()
        message.primitive_to_message(primitive)
        [command] = message.encode_msg(3, 16382)
        [[_, value]] = command.presentation_data_value_list
        self.assertEqual(value[1:], messages.encodeCEchoRQ(9))
