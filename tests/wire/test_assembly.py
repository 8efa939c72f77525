"""
PDVs put together to messages, and messages cut into PDVs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from sys import getrefcount

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.errors import RemoteProtocolError
from dcxtwisted.wire.assembly import MAXIMUM_COMMAND_SET_LENGTH, MessageAssembler, fragment
from dcxtwisted.wire.commandset import encodeCommandSet
from dcxtwisted.wire.framing import Framer, PDUHeader, PDVReceived
from dcxtwisted.wire.messages import (
    COMMAND_DATA_SET_TYPE,
    COMMAND_FIELD,
    MESSAGE_ID,
    MESSAGE_ID_BEING_RESPONDED_TO,
    STATUS,
    Cancel,
    CStoreRequest,
    ReceivedResponse,
    Request,
    encodeCEchoRQ,
    encodeCStoreRQ,
)
from dcxtwisted.wire.pdu import encodePData
from tests.wire.cuts import waysToCut

CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO = encodeCEchoRQ(7)
STORE = encodeCStoreRQ(8, CT, "1.2.3.4")
DATA_SET = b"not really a data set"

#: Contexts 1 and 3 were accepted, 5 was refused: an assembler makes no difference.
PROPOSED = {1: "1.2.840.10008.1.1", 3: CT, 5: CT}

UNEXPECTED_PARAMETER = (2, 5)
INVALID_PARAMETER = (2, 6)


def US(number: int) -> bytes:
    return struct.pack("<H", number)


def command(contextID: int, data: bytes, isLast: bool = True) -> PDVReceived:
    return PDVReceived(contextID, True, isLast, memoryview(data))


def piece(contextID: int, data: bytes, isLast: bool = True) -> PDVReceived:
    return PDVReceived(contextID, False, isLast, memoryview(data))


def received(pdvs: Iterable[PDVReceived]) -> list[object]:
    """
    What comes of PDVs: messages, and data sets as bytes where they are complete.

    An error ends it, and stands as its source and reason; None stands for a data set not complete.
    """
    assembler = MessageAssembler(PROPOSED)
    result: list[object] = []
    dataSet = bytearray()
    for pdv in pdvs:
        try:
            item = assembler.receive(pdv)
        except RemoteProtocolError as error:
            return [*result, (error.abortSource, error.abortReason)]
        if item is pdv:
            dataSet += pdv.view
            if pdv.isLast:
                result.append(bytes(dataSet))
                dataSet.clear()
        elif item is not None:
            result.append(item)
    return [*result, None] if assembler.insideMessage else result


def receivedFrom(chunks: Iterable[bytes], maximumLength: int = 0) -> list[object]:
    """What comes of P-DATA-TF PDUs."""
    framer = Framer(maximumLength)
    pdvs: list[PDVReceived] = []
    for chunk in chunks:
        framer.feed(chunk)
        while (item := framer.next()) is not None:
            if isinstance(item, PDVReceived):
                pdvs.append(item)
    return received(pdvs)


ECHO_MESSAGE = received([command(1, ECHO)])[0]
STORE_MESSAGE = received([command(3, STORE)])[0]


class MessageTests(SynchronousTestCase):
    """Messages as they should come."""

    def test_withoutDataSet(self) -> None:
        assembler = MessageAssembler(PROPOSED)
        self.assertFalse(assembler.insideMessage)
        message = assembler.receive(command(1, ECHO))
        assert isinstance(message, Request)
        self.assertEqual((message.contextID, message.commandField, message.messageID), (1, 0x30, 7))
        self.assertFalse(message.hasDataSet)
        self.assertFalse(assembler.insideMessage)

    def test_withDataSet(self) -> None:
        """The pieces of the data set pass as they are."""
        assembler = MessageAssembler(PROPOSED)
        message = assembler.receive(command(3, STORE))
        assert isinstance(message, CStoreRequest)
        self.assertEqual((message.contextID, message.messageID, message.SOPInstanceUID), (3, 8, "1.2.3.4"))
        self.assertTrue(assembler.insideMessage)
        for pdv in (piece(3, b"ab", False), piece(3, b"", False), piece(3, b"cd")):
            self.assertTrue(assembler.insideMessage)
            self.assertIs(assembler.receive(pdv), pdv)
        self.assertFalse(assembler.insideMessage)

    def test_oneAfterTheOther(self) -> None:
        """Each message may have a context of its own, a refused one too."""
        pdvs = [
            command(1, ECHO),
            command(3, STORE),
            piece(3, DATA_SET),
            command(5, STORE),
            piece(5, DATA_SET),
            command(5, ECHO),
            command(1, ECHO),
        ]
        first, second, data, third, otherData, fourth, fifth = received(pdvs)
        self.assertEqual([first, fifth], [ECHO_MESSAGE] * 2)
        self.assertEqual([second, data, otherData], [STORE_MESSAGE, DATA_SET, DATA_SET])
        assert isinstance(third, CStoreRequest)
        assert isinstance(fourth, Request)
        self.assertEqual((third.contextID, fourth.contextID), (5, 5))

    def test_commandCutAnywhere(self) -> None:
        for position in range(len(STORE) + 1):
            pdvs = [command(3, STORE[:position], False), command(3, STORE[position:]), piece(3, DATA_SET)]
            self.assertEqual(received(pdvs), [STORE_MESSAGE, DATA_SET], f"at {position}")

    def test_cutCommandsOneAfterTheOther(self) -> None:
        """Nothing is left of a command that was put together."""
        pdvs = []
        for messageID in range(3):
            data = encodeCEchoRQ(messageID)
            pdvs += [command(1, data[:10], False), command(1, data[10:])]
        messages = received([*pdvs, command(1, ECHO)])
        self.assertEqual([message.messageID for message in messages if isinstance(message, Request)], [0, 1, 2, 7])

    def test_commandByteByByte(self) -> None:
        pdvs = [command(3, STORE[index : index + 1], False) for index in range(len(STORE))]
        self.assertEqual(received(pdvs), [None])
        self.assertEqual(received([*pdvs, command(3, b""), piece(3, DATA_SET)]), [STORE_MESSAGE, DATA_SET])

    def test_dataSetCutAnywhere(self) -> None:
        for position in range(len(DATA_SET) + 1):
            pdvs = [command(3, STORE), piece(3, DATA_SET[:position], False), piece(3, DATA_SET[position:])]
            self.assertEqual(received(pdvs), [STORE_MESSAGE, DATA_SET], f"at {position}")

    def test_emptyDataSet(self) -> None:
        self.assertEqual(received([command(3, STORE), piece(3, b"")]), [STORE_MESSAGE, b""])

    def test_endlessEmptyFragments(self) -> None:
        """They are no progress, and cost nothing."""
        pdvs = [command(3, b"", False)] * 1000 + [command(3, STORE)] + [piece(3, b"", False)] * 1000
        self.assertEqual(received(pdvs), [STORE_MESSAGE, None])

    def test_commandAndDataInOnePDU(self) -> None:
        """However the fragments are spread over PDUs, and these over chunks."""
        pdvs = [
            struct.pack(">LBB", len(content) + 2, 3, control) + content
            for control, content in ((1, STORE[:20]), (3, STORE[20:]), (0, DATA_SET[:4]), (0, DATA_SET[4:]), (2, b""))
        ]
        for first in range(len(pdvs) + 1):
            stream = b"".join(
                struct.pack(">BxL", 4, len(content)) + content
                for content in (b"".join(pdvs[:first]), b"".join(pdvs[first:]))
                if content
            )
            for way, chunks in waysToCut(stream):
                self.assertEqual(receivedFrom(chunks), [STORE_MESSAGE, DATA_SET], f"{first} in the first PDU, {way}")

    def test_cancel(self) -> None:
        """No data set should follow a C-CANCEL-RQ; it passes where the command says that one does."""
        elements = {COMMAND_FIELD: US(0xFFF), MESSAGE_ID_BEING_RESPONDED_TO: US(8), COMMAND_DATA_SET_TYPE: US(0x101)}
        self.assertEqual(received([command(1, encodeCommandSet(elements)), command(1, ECHO)])[1], ECHO_MESSAGE)
        elements[COMMAND_DATA_SET_TYPE] = US(1)
        cancel, data = received([command(1, encodeCommandSet(elements)), piece(1, DATA_SET)])
        self.assertEqual((cancel, data), (Cancel(1, 8, True), DATA_SET))

    def test_response(self) -> None:
        elements = {
            COMMAND_FIELD: US(0x8001),
            MESSAGE_ID_BEING_RESPONDED_TO: US(8),
            COMMAND_DATA_SET_TYPE: US(0x101),
            STATUS: US(0xA700),
        }
        (response,) = received([command(3, encodeCommandSet(elements))])
        assert isinstance(response, ReceivedResponse)
        self.assertEqual((response.messageIDBeingRespondedTo, response.status), (8, 0xA700))

    def test_nothingIsPinned(self) -> None:
        """What is kept of a command is copied."""
        chunk = bytes(bytearray(STORE))
        references = getrefcount(chunk)
        assembler = MessageAssembler(PROPOSED)
        assembler.receive(PDVReceived(3, True, False, memoryview(chunk)[:30]))
        self.assertEqual(getrefcount(chunk), references)
        message = assembler.receive(PDVReceived(3, True, True, memoryview(chunk)[30:]))
        self.assertEqual(getrefcount(chunk), references)
        self.assertEqual(message, STORE_MESSAGE)
        message = MessageAssembler(PROPOSED).receive(PDVReceived(3, True, True, memoryview(chunk)))
        self.assertEqual(getrefcount(chunk), references)
        self.assertEqual(message, STORE_MESSAGE)


class FaultTests(SynchronousTestCase):
    """PDVs that cannot stand where they are."""

    def assertFault(self, pdvs: list[PDVReceived], fault: tuple[int, int] = UNEXPECTED_PARAMETER) -> None:
        """The last PDV is the fault, and none before it."""
        result = received(pdvs)
        self.assertEqual(result[-1], fault)
        self.assertEqual(result[:-1], [item for item in received(pdvs[:-1]) if item is not None])

    def test_contextNeverProposed(self) -> None:
        for contextID in (0, 2, 7, 255):
            self.assertFault([command(contextID, ECHO)])
            self.assertFault([command(contextID, ECHO, False)])
            self.assertFault([piece(contextID, DATA_SET)])
            self.assertFault([command(1, ECHO), command(contextID, ECHO)])
            self.assertFault([command(3, STORE), piece(3, DATA_SET), command(contextID, ECHO)])

    def test_contextChanges(self) -> None:
        """Also to one never proposed, also fragments of two messages that alternate."""
        for contextID in (0, 1, 5, 7):
            self.assertFault([command(3, STORE[:10], False), command(contextID, STORE[10:])])
            self.assertFault([command(3, STORE), piece(contextID, DATA_SET)])
            self.assertFault([command(3, STORE), piece(3, b"ab", False), piece(contextID, DATA_SET)])
            self.assertFault([command(3, STORE), piece(3, b"ab", False), command(contextID, ECHO)])

    def test_dataBeforeACommand(self) -> None:
        self.assertFault([piece(3, DATA_SET)])
        self.assertFault([piece(3, DATA_SET, False)])
        self.assertFault([piece(3, b"", False)])
        self.assertFault([command(3, STORE[:10], False), piece(3, DATA_SET)])
        self.assertFault([command(3, STORE), piece(3, DATA_SET), piece(3, DATA_SET)])

    def test_dataAfterNoDataSet(self) -> None:
        self.assertFault([command(1, ECHO), piece(1, DATA_SET)])

    def test_commandDuringData(self) -> None:
        """The next command before the data set of the last one, or inside it."""
        self.assertFault([command(3, STORE), command(3, STORE)])
        self.assertFault([command(3, STORE), command(3, STORE, False)])
        self.assertFault([command(3, STORE), piece(3, b"ab", False), command(3, ECHO)])

    def test_largestCommandSet(self) -> None:
        elements = {COMMAND_FIELD: US(0x30), MESSAGE_ID: US(7), COMMAND_DATA_SET_TYPE: US(0x101)}
        room = MAXIMUM_COMMAND_SET_LENGTH - len(encodeCommandSet(elements)) - 8
        data = encodeCommandSet({**elements, 0x5180: bytes(room)})
        self.assertEqual((len(data), MAXIMUM_COMMAND_SET_LENGTH), (65536, 65536))
        for position in (0, 1, 30000, 65536):
            (message,) = received([command(1, data[:position], False), command(1, data[position:])])
            assert isinstance(message, Request)
            self.assertEqual(len(message.elements[0x5180]), room)
        (message,) = received([command(1, data)])
        assert isinstance(message, Request)

    def test_commandSetTooLong(self) -> None:
        """Refused before it is collected, whether or not more is to come."""
        for isLast in (False, True):
            self.assertFault([command(1, bytes(65537), isLast)], INVALID_PARAMETER)
            self.assertFault([command(1, bytes(65536), False), command(1, b"a", isLast)], INVALID_PARAMETER)
            self.assertFault([command(1, bytes(8192), False)] * 8 + [command(1, b"a", isLast)], INVALID_PARAMETER)

    def test_noCommandSet(self) -> None:
        """Bytes that are no command set, and commands without what an answer needs."""
        rows = [
            b"",
            b"\0",
            ECHO[:-1],
            struct.pack("<HHL", 0, 2, 0xFFFFFFFF),
            struct.pack("<HHL", 8, 2, 0),
            encodeCommandSet({COMMAND_FIELD: US(0x30), MESSAGE_ID: US(7)}),
            encodeCommandSet({COMMAND_FIELD: US(0x30), COMMAND_DATA_SET_TYPE: US(0x101)}),
            encodeCommandSet({MESSAGE_ID: US(7), COMMAND_DATA_SET_TYPE: US(0x101)}),
        ]
        for data in rows:
            self.assertFault([command(1, data)], INVALID_PARAMETER)
            self.assertFault([command(1, data[:1], False), command(1, data[1:])], INVALID_PARAMETER)

    def test_messages(self) -> None:
        rows = [
            ([command(9, ECHO)], "PDV of a context never proposed"),
            ([command(3, STORE), piece(1, DATA_SET)], "PDV of another context inside a message"),
            ([command(3, STORE), command(3, STORE)], "command inside a data set"),
            ([piece(3, DATA_SET)], "data set without a command"),
            ([command(1, bytes(65537))], "command set of over 65536 bytes"),
        ]
        for pdvs, message in rows:
            assembler = MessageAssembler(PROPOSED)
            for pdv in pdvs[:-1]:
                assembler.receive(pdv)
            error = self.assertRaises(RemoteProtocolError, assembler.receive, pdvs[-1])
            self.assertEqual(str(error), message)

    @given(
        st.lists(
            st.builds(
                PDVReceived,
                st.integers(0, 7),
                st.booleans(),
                st.booleans(),
                st.sampled_from([b"", b"x", ECHO, STORE, STORE[:20], STORE[20:]]).map(memoryview),
            ),
            max_size=6,
        )
    )
    @settings(deadline=None)
    def test_anything(self, pdvs: list[PDVReceived]) -> None:
        """Whatever PDVs come, nothing but RemoteProtocolError is raised."""
        received(pdvs)


class FragmentTests(SynchronousTestCase):
    """Command and data sets as P-DATA-TF PDUs that the receiver takes."""

    LENGTHS = (8, 9, 12, 13, 16384, 0)

    def test_bytes(self) -> None:
        PDUs = ("040000000008 000000040301 6162", "040000000008 000000040301 6364", "040000000007 000000030303 65")
        self.assertEqual(fragment(3, True, b"abcde", 9), b"".join(map(bytes.fromhex, PDUs)))

    def test_whole(self) -> None:
        """What fits is one PDU, whatever the limit."""
        for maximumLength, length in ((8, 2), (9, 2), (12, 6), (16384, 16378), (0, 100_000)):
            for data in (bytes(length), b"", b"x"):
                self.assertEqual(fragment(1, False, data, maximumLength), encodePData(1, False, True, data))

    def test_roundTrip(self) -> None:
        """Every PDU is within the limit, each but the last full, and all of it comes out again."""
        for maximumLength in self.LENGTHS:
            room = {8: 2, 9: 2, 12: 6, 13: 6, 16384: 16378, 0: 1 << 20}[maximumLength]
            for length in (0, 1, 2, 3, room - 1, room, room + 1, 2 * room, 2 * room + 1, 3 * room):
                data = bytes(index * 7 & 0xFF for index in range(length))
                for isCommand in (False, True):
                    self.assertRoundTrip(isCommand, data, maximumLength, room)

    def assertRoundTrip(self, isCommand: bool, data: bytes, maximumLength: int, room: int) -> None:
        where = f"{len(data)} bytes with {maximumLength} bytes at most"
        framer = Framer(0)
        framer.feed(fragment(5, isCommand, data, maximumLength))
        lengths = []
        fragments = []
        while (item := framer.next()) is not None:
            if isinstance(item, PDUHeader):
                lengths.append(item.length)
            else:
                assert isinstance(item, PDVReceived)
                fragments.append(item)
        self.assertEqual(b"".join(item.view for item in fragments), data, where)
        if maximumLength:
            count = max(1, -(-len(data) // room))
            self.assertEqual([length - 6 for length in lengths[:-1]], [room] * (count - 1), where)
            self.assertLessEqual(max(lengths), maximumLength, where)
        else:
            self.assertEqual(lengths, [len(data) + 6], where)
        heads = [(item.contextID, item.isCommand, item.isLast) for item in fragments]
        self.assertEqual(heads[:-1], [(5, isCommand, False)] * (len(lengths) - 1), where)
        self.assertEqual(heads[-1], (5, isCommand, True), where)

    def test_messages(self) -> None:
        """A message cut for any receiver is the same message."""
        for maximumLength in self.LENGTHS:
            stream = fragment(3, True, STORE, maximumLength) + fragment(3, False, DATA_SET, maximumLength)
            for way, chunks in waysToCut(stream):
                self.assertEqual(
                    receivedFrom(chunks, maximumLength), [STORE_MESSAGE, DATA_SET], f"{maximumLength}, {way}"
                )
