"""
What comes of command sets that are odd, or wrong, or ask for what is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack

from tests.badinputs.inputs import (
    CT,
    INSTANCE,
    MR,
    RQ,
    command,
    commandSet,
    data,
    dataSet,
    echoElements,
    echoRQ,
    element,
    padded,
    pData,
    pdv,
    storeElements,
    us,
)
from tests.badinputs.oracle import Attack, BadInputTestCase

INVALID = ("AC", "AB 2/6")
STORED = {INSTANCE: dataSet()}


def storing(changes: Mapping[int, bytes | None], groupLength: int | None = None) -> bytes:
    """Return a whole C-STORE whose command has these elements otherwise, or, as None, not at all."""
    return command(commandSet({**storeElements(), **changes}, groupLength)) + data()


def asking(changes: Mapping[int, bytes | None]) -> bytes:
    """Return a C-ECHO on the storage context, whose command has these elements otherwise."""
    return command(commandSet({**echoElements(), **changes}))


class ElementTests(BadInputTestCase):
    def test_groupLength(self) -> None:
        """Missing, or wrong: nobody needs it."""
        body = commandSet(storeElements())[12:]
        streams = [storing({}, groupLength) for groupLength in (0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFF)]
        streams += [command(body) + data(), command(element(0, b"") + body) + data()]
        for stream in streams:
            self.badOnceAssociated(stream, "RSP 0000", objects=STORED)

    def test_oddButHarmless(self) -> None:
        """Retired elements, elements out of order, a priority that is none, several values, one twice."""
        elements = storeElements()
        backwards = b"".join(
            element(number, value) for number, value in sorted(elements.items(), reverse=True) if value
        )
        streams = (
            command(backwards) + data(),
            storing({0x0700: None}),
            storing({0x0700: us(0xFFFF)}),
            storing({0x0001: pack("<L", 99), 0x4000: b"DIALOG", 0x5110: b"x"}),
            storing({0x0110: us(1) + us(2)}),
            storing({0x0002: None}),
            storing({0x0800: us(0)}),
            storing({0x0800: us(0xFFFF)}),
            command(commandSet(elements) + element(0x0110, us(77))) + data(),
        )
        for stream in streams:
            self.badOnceAssociated(
                stream,
                "RSP 0000",
                objects=STORED,
                check=lambda attack: self.assertEqual(attack.responses[0].number(0x0120), 1),
            )

    def test_missing(self) -> None:
        """Without these there is nothing to answer."""
        changes: list[dict[int, bytes | None]] = [{number: None} for number in (0x0100, 0x0110, 0x0800)]
        changes += [{number: b""} for number in (0x0100, 0x0110, 0x0800)]
        changes += [{number: b"\1"} for number in (0x0100, 0x0110, 0x0800)]
        self.badEach({command(commandSet({**storeElements(), **change})): INVALID for change in changes}, RQ=RQ)
        self.badEach({command(commandSet({**echoElements(), **change})): INVALID for change in changes}, RQ=RQ)

    def test_noInstance(self) -> None:
        self.badOnceAssociated(storing({0x1000: None}), "RSP 0117")

    def test_broken(self) -> None:
        whole = commandSet(storeElements())
        explicit = b"\0\0\0\0UL\4\0" + pack("<L", 20) + b"\0\0\2\0UI\x12\0" + padded("1.2.840.10008.1.1")
        streams = (
            whole + element(0x1030, b"x", 2),
            whole + element(0x1030, b"", 0xFFFFFFFF),
            whole + element(0x1030, b"xx", 0x7FFFFFFF),
            whole + element(0x1030, b"xx", 0xFFFFFFFE),
            whole[:-1],
            whole + b"\0",
            whole + b"\0" * 7,
            whole + pack("<HHL", 8, 0x0018, 2) + b"1\0",
            pack("<HHL", 2, 0x0010, 2) + b"1\0" + whole,
            pack(">HHL", 0, 0, 4) + pack(">L", 0) + whole,
            explicit,
            dataSet(),
            b"",
            b"\0" * 3,
        )
        self.badEach({command(stream): INVALID for stream in streams}, RQ=RQ)


class OperationTests(BadInputTestCase):
    def test_unknown(self) -> None:
        for commandField in (0x0002, 0x0010, 0x0020, 0x0021, 0x0100, 0x0110, 0x0140, 0x0150, 0x7FFF):

            def answered(attack: Attack, commandField: int = commandField) -> None:
                response = attack.responses[0]
                self.assertEqual((response.contextID, response.number(0x0100)), (3, commandField | 0x8000))
                self.assertEqual(response.number(0x0120), 7)

            self.badOnceAssociated(asking({0x0100: us(commandField), 0x0110: us(7)}), "RSP 0211", check=answered)

    def test_unknownWithADataSet(self) -> None:
        """Drained, then answered in the response that belongs to it."""
        for commandField in (0x0020, 0x0130):

            def answered(attack: Attack, commandField: int = commandField) -> None:
                self.assertEqual(attack.responses[0].number(0x0100), commandField | 0x8000)

            stream = asking({0x0100: us(commandField), 0x0800: us(1)}) + data(size=70_000)
            self.badOnceAssociated(stream, "RSP 0211", check=answered)

    def test_cancel(self) -> None:
        """There is nothing to cancel."""
        cancel = {0x0100: us(0x0FFF), 0x0120: us(1), 0x0800: us(0x0101)}
        self.badOnceAssociated(command(commandSet(cancel)))
        self.badOnceAssociated(command(commandSet({**cancel, 0x0800: us(1)})) + data())

    def test_unsolicitedResponses(self) -> None:
        """Ignored, their data sets drained, and counted."""

        def script(attack: Attack) -> None:
            attack.associate()
            for commandField in (0x8001, 0x8030):
                response = {0x0100: us(commandField), 0x0120: us(1), 0x0900: us(0)}
                attack.send(command(commandSet({**response, 0x0800: us(0x0101)})))
                attack.send(command(commandSet({**response, 0x0800: us(1)})) + data())
            attack.expect("AC")
            attack.expectAlive()
            self.assertIn("response to nothing: 4", attack.lines[0])

        self.eachWay(script)

    def test_echoWithADataSet(self) -> None:
        self.badOnceAssociated(command(commandSet({**echoElements(), 0x0800: us(1)})) + data(), "RSP 0000")

    def test_storeWithoutADataSet(self) -> None:
        self.badOnceAssociated(command(commandSet({**storeElements(), 0x0800: us(0x0101)})), "RSP C000")


class SOPClassTests(BadInputTestCase):
    def test_notTheContexts(self) -> None:
        """Stored where command and data set agree, and counted."""

        def script(attack: Attack) -> None:
            attack.associate()
            whole = dataSet(SOPClassUID=MR)
            attack.send(command(commandSet(storeElements(SOPClassUID=MR))) + pData(pdv(3, 2, whole)))
            attack.expect("AC", "RSP 0000")
            self.assertEqual(attack.responses[0].elements[0x0002], padded(MR))
            attack.objects[INSTANCE] = whole
            attack.expectAlive()
            self.assertIn("SOP class is not the context's: 1", attack.lines[0])

        self.eachWay(script)

    def test_notTheContextsInStrictMode(self) -> None:
        """Refused, whatever the data set says, and whether it says anything."""
        for sent in (dataSet(SOPClassUID=MR), dataSet(), b""):
            stream = command(commandSet(storeElements(SOPClassUID=MR))) + pData(pdv(3, 2, sent)) + echoRQ(2)
            self.badOnceAssociated(stream, "RSP 0122", "RSP 0000", settings={"strict": True})

    def test_notTheDataSets(self) -> None:
        self.badOnceAssociated(storing({0x0002: padded(MR)}), "RSP A900")

    def test_noStorageClass(self) -> None:
        for other in ("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1", "\r\n../", "x" * 300):
            self.badOnceAssociated(storing({0x0002: padded(other)}), "RSP 0122")


class SOPInstanceTests(BadInputTestCase):
    """An instance that cannot be the name of anything is refused, and is part of no path."""

    def test_refused(self) -> None:
        names = (
            "../../x", "/etc/x", ".", "..", "...", "", "1" * 65, "1" * 300, "1.2/3", "1.2\\3", "1.2\r\n3", "\r\n",
            "1.2\x003", "1.2\x1b[2J", "1.2.\xe9", "\x7f", "\0\0", "  ", "/",
        )  # fmt: skip
        for name in names:

            def answered(attack: Attack, name: str = name) -> None:
                self.assertEqual(attack.responses[0].elements.get(0x1000, b""), padded(name))

            stream = storing({0x1000: padded(name)}) + echoRQ(2)
            self.badOnceAssociated(stream, "RSP 0117", "RSP 0000", check=answered)

    def test_escaped(self) -> None:
        """Other odd ones are stored, under a name that says what they were and is nobody's path."""
        names = {
            "%2e%2e%2f": "%252e%252e%252f",
            "$(id)": "%24%28id%29",
            "1.2.3;rm -rf": "1.2.3%3Brm%20-rf",
            ".1": "%2E1",
            "1" * 64: "1" * 64,
            "-": "-",
            "~": "%7E",
        }
        for name, escaped in names.items():
            stream = command(commandSet(storeElements(name))) + data(name)
            self.badOnceAssociated(stream, "RSP 0000", objects={escaped: dataSet(name)})

    def test_notTheDataSets(self) -> None:
        self.badOnceAssociated(command(commandSet(storeElements("1.2.4"))) + data(), "RSP A900")

    def test_paddedOddly(self) -> None:
        """Spaces are no part of it, and come back as they came."""

        def echoed(attack: Attack) -> None:
            self.assertEqual(attack.responses[0].elements[0x1000], b"1.2.3 \0 ")
            self.assertEqual(attack.responses[0].elements[0x0002], CT.encode() + b" ")

        stream = storing({0x1000: b"1.2.3 \0 ", 0x0002: CT.encode() + b" "})
        self.badOnceAssociated(stream, "RSP 0000", objects=STORED, check=echoed)
