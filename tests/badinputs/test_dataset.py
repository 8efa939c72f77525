"""
What comes of data sets that are cut, wrong, hostile or merely odd: refused, or stored byte for byte and counted.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from struct import pack
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dcxtwisted.errors import StoreRefused
from dcxtwisted.part10 import dataSetOffset
from tests.badinputs.datasets import (
    BIG_ENDIAN,
    DEFLATED,
    ITEM,
    ITEM_END,
    JPEG,
    PIXELS,
    RQ,
    SEQUENCE,
    SEQUENCE_END,
    UNDEFINED,
    element,
    fragments,
    head,
    inImplicit,
    item,
    sequence,
    storing,
    text,
)
from tests.badinputs.inputs import CT, EXPLICIT, IMPLICIT, INSTANCE, MR, pData, pdv, storeRQ
from tests.badinputs.oracle import Attack, BadInputTestCase
from tests.badinputs.peers import WAYS, WHOLE, Way

#: Of a large input one cut way is enough.
FEW = (WHOLE, WAYS[1])


def asRead(data: Dataset) -> list[tuple[object, ...]]:
    """Return what pydicom makes of a data set: tags, VRs, and values where it has not interpreted them."""
    found: list[tuple[object, ...]] = []
    for tag in sorted(data.keys()):
        each = data.get_item(tag)
        raw = each is not None and isinstance(each.value, bytes) and tag != 0x00080005
        found.append((tag, each and each.VR, each.value if each is not None and raw else None))
    return found


class DataSetTestCase(BadInputTestCase):
    """Cases of one data set each, or a table of them."""

    def assertRefused(
        self,
        status: int,
        *datas: bytes,
        syntax: str = EXPLICIT,
        uid: str = INSTANCE,
        SOPClassUID: str = CT,
        ways: Sequence[Way] = WAYS,
        **how: Any,
    ) -> None:
        """Assert that each is refused, with no file, and that the application heard of each once."""
        # Made here, so that what is measured is not what a test sends.
        streams = [storing(data, uid, syntax, SOPClassUID) for data in datas]

        def script(attack: Attack) -> None:
            for stream in streams:
                attack.associate(RQ)
                attack.send(stream)
                attack.expect("AC", f"RSP {status:04X}")
                attack.expectAlive()
            done = [args[:2] for name, args in attack.events.calls if name == "OnStoreDone"]
            assert done == [("", False)] * len(datas), done
            attack.maximumLines = len(datas)

        self.eachWay(script, ways, **how)

    def assertStored(
        self,
        datas: Mapping[str, bytes],
        quirks: Sequence[str] = (),
        syntax: str = EXPLICIT,
        ways: Sequence[Way] = WAYS,
        **how: Any,
    ) -> None:
        """
        Assert that each, by its instance, is stored as it came, and each of these quirks counted for each.

        What pydicom makes of the file is what it makes of the data set alone, where that is anything.
        """
        streams = {uid: storing(data, uid, syntax) for uid, data in datas.items()}

        def script(attack: Attack) -> None:
            for uid, data in datas.items():
                attack.associate(RQ)
                attack.send(streams[uid])
                attack.expect("AC", "RSP 0000")
                filename, stored, request = attack.events.calls[-1][1]
                assert stored
                counted = dict(request.association.quirks)
                assert counted == dict.fromkeys(quirks, 1), f"counted {counted} of {uid}"
                attack.expectAlive()
                attack.measure()
                with open(filename, "rb") as file:
                    content = file.read()
                assert content[dataSetOffset(content) :] == data, f"{uid} is not what was sent"
                if attack.way is WHOLE and len(data) < 100_000:
                    self.assertReadAs(content, data, syntax)
                attack.objects[os.path.basename(filename).removesuffix(".dcm")] = data
            attack.maximumLines = len(datas)

        self.eachWay(script, ways, **how)

    def assertReadAs(self, content: bytes, data: bytes, syntax: str) -> None:
        """Assert that pydicom reads a file as it reads the data set in it."""
        try:
            raw = zlib.decompress(data, -15) if syntax == DEFLATED else data
            expected = asRead(read_dataset(BytesIO(raw), syntax == IMPLICIT, syntax != BIG_ENDIAN))
        except Exception:
            return  # nor can it read the original
        self.assertEqual(asRead(dcmread(BytesIO(content))), expected)
        self.flushWarnings()


class CutTests(DataSetTestCase):
    """59, 60 and 63: less came than the data set says."""

    def test_empty(self) -> None:
        self.assertRefused(0xC000, b"")

    def test_emptyInManyPieces(self) -> None:
        empty = pData(pdv(3, 0)) + pData(pdv(3, 0), pdv(3, 0)) + pData(pdv(3, 2))
        self.badOnceAssociated(storeRQ() + empty, "RSP C000")

    def test_insideAValue(self) -> None:
        """Anywhere, but for a pad byte that is not there."""
        whole = head() + PIXELS
        start = len(whole) - 64
        self.assertRefused(0xC000, *(whole[:end] for end in (start, start + 1, start + 32, len(whole) - 2)))
        inImplicitVR = inImplicit(whole)
        self.assertRefused(0xC000, inImplicitVR[:-2], inImplicitVR[:-64], syntax=IMPLICIT)

    def test_insideAnyValue(self) -> None:
        """One of the head, and a sequence of defined length."""
        inside = text(0x00080060, "CS", "CT")
        self.assertRefused(
            0xC000, head()[:-3], head() + element(0x00081140, "SQ", item(inside) * 3)[:-4], head()[:20], ways=WAYS[:3]
        )

    def test_insideAFragment(self) -> None:
        whole = head() + fragments(b"", b"\xff\xd8" + b"\x55" * 100, b"\x66" * 50)
        ending = len(whole) - len(SEQUENCE_END)
        self.assertRefused(
            0xC000, *(whole[:end] for end in (ending - 2, ending - 49, ending - 60, ending - 160)), syntax=JPEG
        )

    def test_claims(self) -> None:
        """What a length claims is neither allocated nor waited for."""
        claimed = (0x7FFFFFFF, 0xFFFFFFFE, 66, 0x10000000)
        datas = [head() + element(0x7FE00010, "OW", b"\x55" * 64, length) for length in claimed]
        self.assertRefused(0xC000, *datas)
        wanted = [element(0x00080016, "UN", b"1.2", length) + head() for length in (0x7FFFFFFE, 0xFFFFFFFE)]
        self.assertRefused(0xC000, *wanted)
        fragment = element(0x7FE00010, "OB", item(b"") + item(b"\x55" * 64, 0x7FFFFFFE), UNDEFINED)
        self.assertRefused(0xC000, head() + fragment, syntax=JPEG)
        implicit = inImplicit(head()) + pack("<HHL", 0x7FE0, 0x10, 0xFFFFFFFE) + b"\x55" * 64
        self.assertRefused(0xC000, implicit, syntax=IMPLICIT)

    def test_wholeAfterAll(self) -> None:
        """What ends inside a header, or inside a sequence, lacks nothing for certain."""
        whole = head() + PIXELS
        self.assertStored({INSTANCE: whole + element(0x7FE00011, "LO")[:5]}, ["ends inside a header"])
        self.assertStored(
            {INSTANCE: head() + SEQUENCE + ITEM + text(0x00080060, "CS", "CT")[:-1]},
            ["last value without its pad byte", "sequence delimiter missing"],
        )


class IdentityTests(DataSetTestCase):
    """61: the object is another than the command says, or does not say which it is."""

    def test_another(self) -> None:
        others = (
            head("1.2.4"),
            head("1.2.3.0"),
            head("1.2.03"),
            head(SOPClassUID=MR),
            head("1.2.4", MR),
            head(" 1.2.3"),
        )
        self.assertRefused(0xA900, *(other + PIXELS for other in others))

    def test_offendingElement(self) -> None:
        for data, tag in ((head(SOPClassUID=MR), 0x16), (head("1.2.4"), 0x18)):

            def named(attack: Attack, tag: int = tag) -> None:
                self.assertEqual(attack.responses[0].elements[0x0901], pack("<HH", 8, tag))

            self.badOnceAssociated(storing(data + PIXELS), "RSP A900", check=named)

    def test_missing(self) -> None:
        self.assertRefused(
            0xC000,
            head("") + PIXELS,
            head(SOPClassUID="") + PIXELS,
            head("", "") + PIXELS,
            PIXELS,
            text(0x00080016, "UI", CT) + text(0x00080018, "UI", ""),
        )

    def test_onlyInside(self) -> None:
        """The UIDs of an object that is referred to are not its own."""
        self.assertRefused(0xC000, sequence(ITEM + head() + ITEM_END) + PIXELS)

    def test_twice(self) -> None:
        """The first counts."""
        data = head() + text(0x00080018, "UI", "1.2.4") + PIXELS
        self.assertStored({INSTANCE: data}, ["repeated element"])
        self.assertRefused(0xA900, text(0x00080018, "UI", "1.2.4") + data)


class DepthTests(DataSetTestCase):
    """64: sequences in sequences."""

    def nested(self, depth: int) -> bytes:
        return head() + (SEQUENCE + ITEM) * depth + (ITEM_END + SEQUENCE_END) * depth + PIXELS

    def test_asDeepAsAnyDoes(self) -> None:
        self.assertStored({INSTANCE: self.nested(64)}, ways=WAYS[:4])

    def test_deeper(self) -> None:
        self.assertRefused(0xC000, self.nested(65), self.nested(300))

    def test_muchDeeper(self) -> None:
        self.assertRefused(0xC000, self.nested(100_000), ways=FEW)
        self.assertRefused(0xC000, head() + (SEQUENCE + ITEM) * 100_000, ways=FEW)

    def test_inUnknownVR(self) -> None:
        """Where each level is in implicit VR."""
        level = pack("<HHL", 0x0008, 0x1140, UNDEFINED) + ITEM
        begin = head() + element(0x00091001, "UN", ITEM, UNDEFINED)
        self.assertRefused(0xC000, begin + level * 64, begin + level * 5000, ways=WAYS[:3])


class ManyTests(DataSetTestCase):
    """66: a million tiny elements, in bounded memory."""

    def test_elements(self) -> None:
        data = head() + element(0x00211001, "CS", b"ab") * 1_000_000 + PIXELS
        self.assertStored({INSTANCE: data}, ways=FEW)

    def test_emptyElements(self) -> None:
        data = head() + element(0x00211001, "CS") * 1_000_000
        self.assertStored({INSTANCE: data}, ways=FEW)

    def test_oddElements(self) -> None:
        """That the short cut passes none of."""
        data = head() + element(0x00211001, "CS", b"a") * 60_000
        self.assertStored({INSTANCE: data}, ["odd length"], ways=FEW)

    def test_items(self) -> None:
        self.assertStored({INSTANCE: head() + sequence(*[item(b"")] * 100_000) + PIXELS}, ways=FEW)

    def test_repeatedHeads(self) -> None:
        self.assertStored(
            {INSTANCE: head() + text(0x00080018, "UI", INSTANCE) * 60_000}, ["repeated element"], ways=FEW
        )


class NonsenseTests(DataSetTestCase):
    """67: bytes that are no data set of this transfer syntax."""

    def test_noise(self) -> None:
        datas = (bytes(range(256)) * 3, b"\xff" * 1000, b"\0" * 1000, b"GET / HTTP/1.1\r\n" * 9, b"\x55", b"\0" * 7)
        for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, DEFLATED):
            self.assertRefused(0xC000, *datas, syntax=syntax, ways=WAYS[:3])

    def test_unknownVR(self) -> None:
        """Those of two capitals have a long length."""
        oddities = {"1.1": ("OX", 4), "1.2": ("ZZ", 4)}
        datas = {
            uid: head(uid) + pack("<HH2sxxL", 0x0021, 0x1001, VR.encode(), size) + b"abcd" + PIXELS
            for uid, (VR, size) in oddities.items()
        }
        self.assertStored(datas, ["unknown VR"])
        self.assertStored({"1.3": head("1.3") + element(0x00211001, "??", b"abcd") + PIXELS}, ["unknown VR"])

    def test_unprintableVR(self) -> None:
        """Tried as implicit VR."""
        data = head() + pack("<HHL", 0x0021, 0x1001, 4) + b"abcd" + PIXELS
        self.assertStored({INSTANCE: data}, ["implicit VR element in explicit VR"])

    def test_anotherEncoding(self) -> None:
        """Wholly implicit for explicit, and the other way round: read as what it is."""
        implicit = inImplicit(head("1.1") + PIXELS)
        self.assertStored({"1.1": implicit}, ["implicit VR in an explicit VR syntax"])
        self.assertStored({"1.2": head("1.2") + PIXELS}, ["explicit VR in an implicit VR syntax"], IMPLICIT)

    def test_bigEndian(self) -> None:
        def swapped(tag: int, value: bytes) -> bytes:
            return pack(">HH2sH", tag >> 16, tag & 0xFFFF, b"UI", len(value)) + value

        data = swapped(0x00080016, CT.encode() + b"\0") + swapped(0x00080018, b"1.2.3\0")
        self.assertRefused(0xC000, data)
        self.assertStored({INSTANCE: data}, syntax=BIG_ENDIAN)

    def test_commandElements(self) -> None:
        self.assertRefused(
            0xC000, element(0x00000002, "UI", b"1.2\0") + head() + PIXELS, head() + element(0x00000000, "UL", b"1234")
        )

    def test_fileMeta(self) -> None:
        self.assertRefused(0xC000, element(0x00020010, "UI", b"1.2\0") + head() + PIXELS)

    def test_aFileInside(self) -> None:
        file = bytes(128) + b"DICM" + element(0x00020010, "UI", b"1.2\0") + head() + PIXELS
        for syntax in (EXPLICIT, IMPLICIT, JPEG):
            self.assertRefused(0xC000, file, b"x" * 128 + file[128:], syntax=syntax, ways=WAYS[:3])


class ValueTests(DataSetTestCase):
    """68, 69 and 73: values are nobody's business, and no part of a path."""

    def test_characterSets(self) -> None:
        junk = ("ISO_IR 999", "\\\\\\", "ISO 2022 IR 87\\..\\$(id)", "\xff\xfe", "utf-8")
        datas = {
            f"1.{number}": text(0x00080005, "CS", charset) + head(f"1.{number}", name="\x1b$B\xff\xfe^\x00") + PIXELS
            for number, charset in enumerate(junk)
        }
        self.assertStored(datas, ways=WAYS[:4])

    def test_longName(self) -> None:
        """One that no short VR can have; a million of the character that parts values."""
        for number, value in enumerate((b"N" * 1_000_000, b"\\" * 1_000_000)):
            data = head() + element(0x00101002 + number, "UT", value) + PIXELS
            self.assertStored({INSTANCE: data}, ways=FEW)

    def test_longWantedValue(self) -> None:
        """Of an attribute that is in file names only so much is kept as could be one."""
        long = pack("<HH2sxxL", 0x0010, 0x0020, b"UN", 200_000) + b"x" * 200_000
        whole = text(0x00080016, "UI", CT) + text(0x00080018, "UI", INSTANCE) + long + PIXELS
        self.assertStored({INSTANCE: whole}, ways=FEW, layout="{PatientID}/{SOPInstanceUID}.dcm")

    def test_pixels(self) -> None:
        """They are never decoded."""
        size = text(0x00280008, "IS", "2147483647") + element(0x00280010, "US", b"\xff\xff")
        size += element(0x00280011, "US", b"\xff\xff")
        self.assertStored({"1.1": head("1.1") + size + PIXELS, "1.2": head("1.2") + size})
        bad = (
            fragments(),
            fragments(b""),
            fragments(b"\xff" * 3 + b"\0"),
            fragments(pack("<LLL", 0xFFFFFFFF, 7, 0), b"\xff\xd8\xff\xff"),
            fragments(b"", b"", b"no JPEG at all!!"),
        )
        self.assertStored({f"1.{n}": head(f"1.{n}") + each for n, each in enumerate(bad)}, syntax=JPEG, ways=WAYS[:4])

    def test_names(self) -> None:
        """No value leads anywhere but into the store, and none is run."""
        values = ("..", "../..", "/etc", "$(id)", "`id`", "a\nb\r\nc", "\x1b[2J", "%s%n", "{0}", ".", "~root", "-rf *")
        datas = {
            f"1.2.{number}": head(f"1.2.{number}", study=value, name=value) + PIXELS
            for number, value in enumerate(values)
        }
        for layout in ("{StudyInstanceUID}/{SOPInstanceUID}.dcm", "{PatientID}/x{StudyInstanceUID}/{SOPInstanceUID}"):
            self.assertStored(datas, ways=WAYS[:2], layout=layout)


class DeflatedTests(DataSetTestCase):
    """70: streams that are to be inflated."""

    def deflated(self, data: bytes, bits: int = -15) -> bytes:
        compressor = zlib.compressobj(9, zlib.DEFLATED, bits)
        return compressor.compress(data) + compressor.flush()

    def test_stored(self) -> None:
        self.assertStored({INSTANCE: self.deflated(head() + PIXELS)}, syntax=DEFLATED)

    def test_corrupt(self) -> None:
        """As far as anything shows: a raw stream has no check sum."""
        stream = self.deflated(head() + PIXELS)
        reserved = bytes((stream[0] | 6,)) + stream[1:]
        self.assertRefused(
            0xC000, reserved, stream[: len(stream) // 2], stream[:-1], b"\x06", head() + PIXELS, syntax=DEFLATED
        )

    def test_bomb(self) -> None:
        """A megabyte that is a gigabyte: looked at no further than any object goes, and stored as it is."""
        value = element(0x00211001, "OB", b"", 1 << 30)
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = compressor.compress(head() + value)
        block = bytes(1 << 20)
        stream += b"".join(compressor.compress(block) for _ in range(1 << 10)) + compressor.flush()
        self.assertLess(len(stream), 1_100_000)
        self.assertStored({INSTANCE: stream}, ["inflates beyond the limit"], DEFLATED, ways=FEW)

    def test_wrapped(self) -> None:
        """A zlib header is no part of it, and stays."""
        stream = self.deflated(head() + PIXELS, 15)
        self.assertStored({INSTANCE: stream}, ["zlib or gzip header before the deflated stream"], DEFLATED)


class ToleranceTests(DataSetTestCase):
    """What real modalities send is stored, and counted where it is odd."""

    def test_emptyLastPDV(self) -> None:
        whole = head() + PIXELS
        stream = storeRQ() + pData(pdv(3, 0, whole)) + pData(pdv(3, 2))
        self.badOnceAssociated(stream, "RSP 0000", objects={INSTANCE: whole})

    def test_commandAndDataInOnePDU(self) -> None:
        whole = head() + PIXELS
        together = pData(storeRQ()[6:], pdv(3, 2, whole))
        self.badOnceAssociated(together, "RSP 0000", objects={INSTANCE: whole})

    def test_sequenceDelimiterMissing(self) -> None:
        inside = text(0x00080060, "CS", "CT")
        self.assertStored({INSTANCE: head() + SEQUENCE + ITEM + inside + ITEM_END}, ["sequence delimiter missing"])
        self.assertStored(
            {INSTANCE: head() + SEQUENCE + ITEM + inside + ITEM_END + PIXELS},
            ["neither item nor delimiter in a sequence"],
        )

    def test_delimitersExchanged(self) -> None:
        inside = text(0x00080060, "CS", "CT")
        data = head() + SEQUENCE + ITEM + inside + SEQUENCE_END + SEQUENCE_END + PIXELS
        self.assertStored({INSTANCE: data}, ["sequence delimiter in place of an item delimiter"])

    def test_delimiterWithALength(self) -> None:
        for length in (UNDEFINED, 8):
            delimiter = pack("<HHL", 0xFFFE, 0xE0DD, length)
            data = head() + SEQUENCE + item(text(0x00080060, "CS", "CT")) + delimiter + PIXELS
            self.assertStored({INSTANCE: data}, ["delimiter with a length"])

    def test_itemLengthShort(self) -> None:
        inside = text(0x00080060, "CS", "CT") + text(0x00081030, "LO", "x" * 24)
        data = head() + SEQUENCE + item(inside, len(inside) - 24) + SEQUENCE_END + PIXELS
        self.assertStored({INSTANCE: data}, ["neither item nor delimiter in a sequence"])

    def test_padByteMissing(self) -> None:
        self.assertStored({INSTANCE: (head() + PIXELS)[:-1]}, ["last value without its pad byte"])

    def test_trailingPadding(self) -> None:
        padding = element(0xFFFCFFFC, "OB", bytes(6))
        datas = {"1.1": head("1.1") + PIXELS + padding, "1.2": head("1.2") + PIXELS + bytes(300)}
        datas["1.3"] = head("1.3") + PIXELS + bytes(3)
        self.assertStored(datas, ["trailing padding"])

    def test_groupLengths(self) -> None:
        lengths = {uid: element(0x00080000, "UL", b"\1\0\0\0") + head(uid) for uid in ("1.1", "1.2")}
        retired = element(0x00080001, "UL", b"\xff\xff\0\0")
        later = element(0x7FE00000, "UL", b"\x48\0\0\0")
        self.assertStored({uid: retired + data + later + PIXELS for uid, data in lengths.items()})

    def test_unknownOfUndefinedLength(self) -> None:
        inside = item(inImplicit(text(0x00080060, "CS", "CT")))
        self.assertStored({INSTANCE: head() + sequence(inside, tag=0x00091001, VR="UN") + PIXELS})

    def test_oddLength(self) -> None:
        self.assertStored({INSTANCE: head() + element(0x00081030, "LO", b"odd") + PIXELS}, ["odd length"])

    def test_definedPixelDataInAnEncapsulatedSyntax(self) -> None:
        self.assertStored({INSTANCE: head() + PIXELS}, ["Pixel Data of defined length in an encapsulated syntax"], JPEG)


class SettingsTests(DataSetTestCase):
    """What a listener does of it that is told to be more patient with a peer, or less."""

    def test_malformedInstancesRelaxed(self) -> None:
        """No name leads out of the store, or is longer than a file system takes."""
        names = (
            "../../x",
            "/etc/x",
            "..",
            "",
            "1.2\\3",
            "1.2\r\n3",
            "\x1b[2J",
            "\x7f",
            "1" * 300,
            "%" * 1000,
            "\xe9" * 300,
        )

        def script(attack: Attack) -> None:
            for name in names:
                whole = head(name or INSTANCE) + PIXELS
                attack.associate(RQ)
                attack.send(storing(whole, name))
                attack.expect("AC", "RSP 0000")
                filename, stored, request = attack.events.calls[-1][1]
                assert stored
                attack.expectAlive()
                assert request.association.quirks["relaxed: instanceUID"] == 1
                announced = [args[0] for event, args in attack.events.calls if event == "OnStoreSetup"][-1]
                for path in (filename, announced):
                    assert len(os.path.basename(path)) <= 255, path
                    assert os.path.normpath(path) == path, path
                assert os.path.dirname(announced) == attack.listener.acceptor.storeDirectory, announced
                attack.objects[os.path.basename(filename).removesuffix(".dcm")] = whole
            assert len(attack.objects) == len(names)
            attack.maximumLines = len(names)

        self.eachWay(script, settings={"relaxations": {"PEER": ["instanceUID"]}})

    def test_tooLarge(self) -> None:
        """A byte more than is taken; what follows it is drained."""
        whole = head() + element(0x7FE00010, "OW", b"\x55" * 4000)
        self.assertRefused(0xA700, whole, settings={"maximumObjectSize": len(whole) - 1})
        self.assertStored({INSTANCE: whole}, settings={"maximumObjectSize": len(whole)})

    def test_otherObjectsRelaxed(self) -> None:
        """Stored as what they are, wherever the bytes were cut; what was cut, too."""

        def script(attack: Attack) -> None:
            for uid, data in (("1.2.33", head("1.2.33") + PIXELS), ("1", (head("1") + PIXELS)[:-9])):
                attack.associate(RQ)
                attack.send(storing(data))
                attack.expect("AC", "RSP 0000")
                self.assertEqual(attack.responses[0].elements[0x1000], INSTANCE.encode() + b"\0")
                attack.expectAlive()
                attack.objects[uid] = data
            attack.maximumLines = 2

        self.eachWay(script, settings={"relaxations": {"PEER": ["identity", "wholeness"]}})

    def test_abortOnRefusal(self) -> None:
        """Whatever still comes is discarded, and the connection closed."""

        def script(attack: Attack) -> None:
            attack.associate(RQ)
            attack.send(storeRQ())
            attack.expect("AC", "AB 0/0")
            block = pData(pdv(3, 0, b"\x55" * 16378))
            for _ in range(100):
                attack.send(block)
            attack.expect("AC", "AB 0/0")
            self.assertEqual(attack.ends, ["aborted"])
            if not attack.isOver:
                attack.expectClosedAtARTIM()

        self.eachWay(script, settings={"abortOnRefusal": True}, OnStoreSetup=StoreRefused(0xA700, "quota"))
