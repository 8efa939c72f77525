"""
The storage service where a sender is let off a check, and in strict mode: what is stored, as what, and what is counted.
"""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

from pydicom import dcmread

from dcxtwisted.checks import Check
from dcxtwisted.configuration import Configuration
from dcxtwisted.dataset import Wholeness
from dcxtwisted.interfaces import IN_MEMORY
from dcxtwisted.part10 import dataSetOffset
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.memory import MemoryStore
from dcxtwisted.testing import MemoryConnection, ScriptedPeer
from tests.services.support import CT, DATA, MR, FakeStore, ServiceTestCase, comment, dataSet, storeCommand
from tests.services.test_storage import fileStore


class RelaxationTestCase(ServiceTestCase):
    """
    A sender called PEER, of whom some checks are relaxed, with a store of files.

    :ivar root: of the store.
    """

    def setUp(self) -> None:
        super().setUp()
        self.root = os.path.abspath(self.mktemp())
        self.files: FileStore = fileStore(self, self.root)

    def relaxed(self, *checks: Check, **how: Any) -> tuple[ScriptedPeer, MemoryConnection]:
        """Associate with a listener that relaxes these checks; the rest is as for ``listen``."""
        events = how.pop("events", None) or self.events()
        configuration = Configuration(relaxations={"PEER": checks} if checks else {}, strict=how.pop("strict", False))
        return self.listen(events, self.files, configuration=configuration, **how)

    def sendRaw(
        self, connection: MemoryConnection, peer: ScriptedPeer, command: bytes, data: bytes = DATA
    ) -> dict[int, bytes]:
        """Send an object, and return the response."""
        self.command(connection, peer, command)
        self.data(connection, peer, data)
        response: dict[int, bytes] = peer.received[-1]
        return response

    def stored(self) -> dict[str, bytes]:
        """The files in the store, by their paths below it."""
        found = {}
        for where, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(where, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, self.root)] = file.read()
        return found

    def assertStored(self, name: str, data: bytes, SOPInstanceUID: str, SOPClassUID: str = CT) -> None:
        """Assert that one file is in the store, with these UIDs before the bytes that were sent."""
        ((path, content),) = self.stored().items()
        self.assertEqual(path, name)
        self.assertEqual(content[dataSetOffset(content) :], data)
        meta = dcmread(BytesIO(content), force=True, specific_tags=[]).file_meta
        self.assertEqual((meta.MediaStorageSOPInstanceUID, meta.MediaStorageSOPClassUID), (SOPInstanceUID, SOPClassUID))


class IdentityTests(RelaxationTestCase):
    """A data set that is another object than the command says."""

    def test_stored(self) -> None:
        """File meta, path and head follow the data set; the response follows the command."""
        for data, instance, SOPClass in (
            (dataSet("1.2.33"), "1.2.33", CT),
            (dataSet("1.2.3", MR), "1.2.3", MR),
            (dataSet("1", MR), "1", MR),
        ):
            events = self.events()
            peer, connection = self.relaxed(Check.IDENTITY, events=events)
            response = self.sendRaw(connection, peer, storeCommand(b"1.2.3\0"), data)
            self.assertEqual(peer.statuses, [0])
            self.assertEqual((response[0x0002], response[0x1000]), (CT.encode() + b"\0", b"1.2.3\0"))
            self.assertStored(f"1.2.4/1.2.5/{instance}.dcm", data, instance, SOPClass)
            self.assertEqual(self.associationOf(peer).quirks, {"relaxed: identity": 1})
            filename, status, request = events.calls[-1][1]
            self.assertEqual((filename, status), (f"{self.root}/1.2.4/1.2.5/{instance}.dcm", True))
            self.assertEqual((request.SOPInstanceUID, request.head.SOPInstanceUID), ("1.2.3", instance))
            os.unlink(filename)

    def test_memory(self) -> None:
        memory = MemoryStore()
        peer, connection = self.relaxed(Check.IDENTITY, events=self.events(OnStoreSetup=IN_MEMORY), memory=memory)
        self.sendRaw(connection, peer, storeCommand(), dataSet("1.2.33", MR))
        taken = memory.take()
        assert taken is not None
        self.assertEqual((taken.SOPInstanceUID, taken.SOPClassUID), ("1.2.33", MR))
        self.assertEqual(taken.dataset().file_meta.MediaStorageSOPInstanceUID, "1.2.33")

    def test_notCountedWhereTheSame(self) -> None:
        peer, connection = self.relaxed(*Check)
        self.sendRaw(connection, peer, storeCommand())
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.associationOf(peer).quirks, {})

    def test_othersAreNot(self) -> None:
        """Nor is another sender, nor another check, let off."""
        for checks, callingAE in (
            ([Check.IDENTITY], b"OTHER"),
            ([Check.IDENTITY], b"peer"),
            ([check for check in Check if check is not Check.IDENTITY], b"PEER"),
        ):
            peer, connection = self.relaxed(*checks, callingAE=callingAE.ljust(16))
            response = self.sendRaw(connection, peer, storeCommand(), dataSet("1.2.33"))
            self.assertEqual((peer.statuses, comment(response)), ([0xA900], "SOP instance is not the command's"))
            self.assertEqual(self.stored(), {})
            self.assertEqual(self.associationOf(peer).quirks, {})

    def test_whatNoCommandCouldName(self) -> None:
        """A data set is not stored as what a command could not announce; that is a check of its own."""
        for uid in ("..", "1.2/3", "1" * 66, "1.2\r3", "1.2\xe93"):
            peer, connection = self.relaxed(Check.IDENTITY)
            self.sendRaw(connection, peer, storeCommand(), dataSet(uid))
            self.assertEqual(peer.statuses, [0xA900], uid)
            peer, connection = self.relaxed(Check.IDENTITY)
            self.sendRaw(connection, peer, storeCommand(), dataSet("1.2.3", SOPClassUID=uid))
            self.assertEqual(peer.statuses, [0xA900], uid)
            self.assertEqual(self.stored(), {})
        for uid, name, checks in (
            ("../x", "%2E.%2Fx", [Check.IDENTITY, Check.INSTANCE_UID]),
            ("1" * 66, "1" * 66, [Check.IDENTITY, Check.INSTANCE_UID]),
            ("2" * 66, "2" * 66, [Check.IDENTITY, Check.UID_LENGTH]),
        ):
            peer, connection = self.relaxed(*checks)
            self.sendRaw(connection, peer, storeCommand(), dataSet(uid))
            self.assertEqual(peer.statuses, [0], uid)
            self.assertIn(f"1.2.4/1.2.5/{name}.dcm", self.stored())
        peer, connection = self.relaxed(Check.IDENTITY, Check.UID_LENGTH)
        self.sendRaw(connection, peer, storeCommand(), dataSet("../" + "1" * 66))
        self.assertEqual(peer.statuses, [0xA900])

    def test_cutAllTheSame(self) -> None:
        peer, connection = self.relaxed(Check.IDENTITY)
        self.sendRaw(connection, peer, storeCommand(), dataSet("1.2.33")[:-2])
        self.assertEqual(peer.statuses, [0xC000])


class InstanceUIDTests(RelaxationTestCase):
    """A command whose SOP Instance UID is malformed."""

    def test_stored(self) -> None:
        """Under a name that is no path, whatever it was."""
        for uid, name in (
            ("../../x", "%2E.%2F..%2Fx"),
            ("/etc/x", "%2Fetc%2Fx"),
            ("..", "%2E."),
            ("1.2\\3", "1.2%5C3"),
            ("1.2\r\n3", "1.2%0D%0A3"),
            ("1.2.\x7f", "1.2.%7F"),
        ):
            events = self.events()
            peer, connection = self.relaxed(Check.INSTANCE_UID, events=events)
            raw = uid.encode("latin-1")
            raw += b"\0" * (len(raw) & 1)
            response = self.sendRaw(connection, peer, storeCommand(raw), dataSet(uid))
            self.assertEqual((peer.statuses, response[0x1000]), ([0], raw), uid)
            self.assertEqual(list(self.stored()), [f"1.2.4/1.2.5/{name}.dcm"])
            self.assertEqual(self.associationOf(peer).quirks, {"relaxed: instanceUID": 1})
            self.assertEqual(events.calls[1][1][0], f"/store/{name}.dcm")
            os.unlink(f"{self.root}/1.2.4/1.2.5/{name}.dcm")

    def test_long(self) -> None:
        """Cut and told apart, so that no name is over 255 bytes; the length alone can be relaxed."""
        for check in (Check.UID_LENGTH, Check.INSTANCE_UID):
            for uid in ("1" * 66, "1" * 1000, "%" * 1000):
                events = self.events()
                peer, connection = self.relaxed(check, events=events)
                response = self.sendRaw(connection, peer, storeCommand(uid.encode()), dataSet(uid))
                self.assertEqual((peer.statuses, response[0x1000]), ([0], uid.encode()))
                self.assertEqual(self.associationOf(peer).quirks, {f"relaxed: {check.value}": 1})
                for filename in (events.calls[1][1][0], events.calls[-1][1][0]):
                    self.assertLessEqual(len(os.path.basename(filename)), 255)
        self.assertEqual(len(self.stored()), 3, "the same objects again")

    def test_lengthAlone(self) -> None:
        for uid in (b"../../x", b"", b"..", b"/" * 100, b"1\n" * 50, None):
            peer, connection = self.relaxed(Check.UID_LENGTH)
            self.sendRaw(connection, peer, storeCommand(uid))
            self.assertEqual(peer.statuses, [0x0117])
            self.assertEqual(self.associationOf(peer).quirks, {})

    def test_missing(self) -> None:
        """The data set says which it is; the response names none."""
        for uid in (None, b"", b"\0\0"):
            events = self.events()
            peer, connection = self.relaxed(Check.INSTANCE_UID, events=events)
            response = self.sendRaw(connection, peer, storeCommand(uid))
            self.assertEqual((peer.statuses, response.get(0x1000)), ([0], uid or None))
            self.assertStored("1.2.4/1.2.5/1.2.3.dcm", DATA, "1.2.3")
            self.assertEqual(self.associationOf(peer).quirks, {"relaxed: instanceUID": 1})
            self.assertEqual(events.calls[1][1][0], "/store/unknown.dcm")
        peer, connection = self.relaxed(Check.INSTANCE_UID)
        self.sendRaw(connection, peer, storeCommand(None), dataSet(SOPClassUID=MR))
        self.assertEqual(peer.statuses, [0xA900], "the class is the command's all the same")

    def test_othersAreNot(self) -> None:
        for checks, callingAE in (([Check.INSTANCE_UID], b"OTHER"), ([Check.IDENTITY, Check.WHOLENESS], b"PEER")):
            peer, connection = self.relaxed(*checks, callingAE=callingAE.ljust(16))
            self.sendRaw(connection, peer, storeCommand(b"../x"), dataSet("../x"))
            self.assertEqual(peer.statuses, [0x0117])


class StrictTests(RelaxationTestCase):
    """The class of the command against the one of the context."""

    def answer(self, *checks: Check, **settings: Any) -> tuple[int, str, dict[str, int]]:
        peer, connection = self.relaxed(*checks, **settings)
        response = self.sendRaw(connection, peer, storeCommand(SOPClassUID=MR.encode()), dataSet(SOPClassUID=MR))
        return peer.statuses[0], comment(response), dict(self.associationOf(peer).quirks)

    def test_notTheContexts(self) -> None:
        counted = {"SOP class is not the context's": 1}
        self.assertEqual(self.answer(Check.IDENTITY), (0, "", counted))
        self.assertEqual(self.answer(Check.IDENTITY, strict=True), (0x0122, "SOP class is not the context's", counted))
        self.assertEqual(self.answer(Check.CONTEXT, strict=True), (0, "", {**counted, "relaxed: context": 1}))

    def test_othersAreServed(self) -> None:
        peer, connection = self.relaxed(Check.IDENTITY, strict=True)
        self.sendRaw(connection, peer, storeCommand())
        self.sendRaw(connection, peer, storeCommand(SOPClassUID=None))
        self.assertEqual(peer.statuses, [0, 0])


class WholenessTests(RelaxationTestCase):
    """A data set that is certainly not whole."""

    def test_stored(self) -> None:
        """As it came; what was made out of it is told."""
        cut = DATA[:-3]
        events = self.events()
        peer, connection = self.relaxed(Check.WHOLENESS, events=events)
        self.sendRaw(connection, peer, storeCommand(), cut)
        self.assertEqual(peer.statuses, [0])
        self.assertStored("1.2.4/1.2.5/1.2.3.dcm", cut, "1.2.3")
        self.assertEqual(self.associationOf(peer).quirks, {"relaxed: wholeness": 1})
        head = events.calls[-1][1][2].head
        self.assertEqual((head.wholeness, head.defect), (Wholeness.BROKEN, "value of (7FE0,0010) cut by 3 bytes"))

    def test_withoutUIDs(self) -> None:
        """The command's, where the data set has none or they were not found."""
        for data in (
            dataSet(""),
            dataSet(SOPClassUID=""),
            bytes(128) + b"DICM\2\0" + DATA,
            DATA[:10],
            b"x",
        ):
            peer, connection = self.relaxed(Check.WHOLENESS)
            self.sendRaw(connection, peer, storeCommand(), data)
            self.assertEqual(peer.statuses, [0])
            (path,) = self.stored()
            self.assertEqual(os.path.basename(path), "1.2.3.dcm")
            self.assertStored(path, data, "1.2.3")
            os.unlink(os.path.join(self.root, path))

    def test_nothingToNameItBy(self) -> None:
        peer, connection = self.relaxed(Check.WHOLENESS, Check.INSTANCE_UID)
        response = self.sendRaw(connection, peer, storeCommand(None), dataSet(""))
        self.assertEqual(peer.statuses, [0xC000])
        self.assertEqual(comment(response), "no SOP Class UID or no SOP Instance UID")
        self.sendRaw(connection, peer, storeCommand(None), DATA[:-3])
        self.assertEqual(peer.statuses, [0xC000, 0])

    def test_nothingAtAll(self) -> None:
        peer, connection = self.relaxed(*Check)
        response = self.sendRaw(connection, peer, storeCommand(), b"")
        self.assertEqual((peer.statuses, comment(response)), ([0xC000], "no bytes"))
        self.assertEqual(self.stored(), {})

    def test_anotherObject(self) -> None:
        """That is a check of its own."""
        cut = dataSet("1.2.33")[:-3]
        peer, connection = self.relaxed(Check.WHOLENESS)
        self.sendRaw(connection, peer, storeCommand(), cut)
        self.assertEqual(peer.statuses, [0xA900])
        peer, connection = self.relaxed(Check.WHOLENESS, Check.IDENTITY)
        self.sendRaw(connection, peer, storeCommand(), cut)
        self.assertEqual(peer.statuses, [0])
        self.assertStored("1.2.4/1.2.5/1.2.33.dcm", cut, "1.2.33")
        self.assertEqual(self.associationOf(peer).quirks, {"relaxed: wholeness": 1, "relaxed: identity": 1})

    def test_othersAreNot(self) -> None:
        for checks, callingAE in (([Check.WHOLENESS], b"OTHER"), ([Check.IDENTITY, Check.INSTANCE_UID], b"PEER")):
            peer, connection = self.relaxed(*checks, callingAE=callingAE.ljust(16))
            self.sendRaw(connection, peer, storeCommand(), DATA[:-3])
            self.assertEqual(peer.statuses, [0xC000])
            self.assertEqual(self.stored(), {})

    def test_cutByTheAssociation(self) -> None:
        """What was not wholly received is not stored, whatever is relaxed."""
        store = FakeStore(self.log)
        peer, connection = self.listen(store=store, configuration=Configuration(relaxations={"PEER": list(Check)}))
        self.command(connection, peer, storeCommand())
        peer.abort()
        connection.pump()
        self.assertEqual(self.log, ["OnStoreSetup", "open", "OnStoreDone", "OnAssocEnd"])
        self.assertEqual(store.sinks[0].log, ["abort"])
