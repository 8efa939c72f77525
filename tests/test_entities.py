"""Several AE titles on one port: each has a store, a layout and events of its own."""

from __future__ import annotations

import os
from os.path import abspath
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configuration import Configuration
from dcxtwisted.entities import ApplicationEntity
from dcxtwisted.testing import ListenerInMemory, RecordingEvents
from dcxtwisted.wire.pdu import AssociateRJ
from tests.loopback import connect
from tests.support import dataSet


class EntitiesInMemoryTests(SynchronousTestCase):
    """Whom the events are told, and who is taken."""

    def listener(self, **settings: Any) -> ListenerInMemory:
        self.own, self.research = RecordingEvents(), RecordingEvents()
        entities = [
            ApplicationEntity(AETitle="RESEARCH ", storeDirectory=self.mktemp(), events=self.research),
            ApplicationEntity(AETitle="SHARED", storeDirectory=self.mktemp()),
        ]
        return ListenerInMemory(self.own, configuration=Configuration(**settings), entities=entities)

    def test_events(self) -> None:
        """All events go to the provider of the title that is called; of one without a provider, to the listener's."""
        for called in ("RESEARCH", "DCXTWISTED", "OTHER", "SHARED"):
            with self.subTest(called=called):
                listener = self.listener()
                peer, connection = listener.associate(calledAETitle=called)
                peer.echo()
                connection.pump()
                peer.store(dataSet(), "1.2.3", messageID=2)
                connection.pump()
                peer.release()
                connection.pump()
                told, untold = (self.research, self.own) if called == "RESEARCH" else (self.own, self.research)
                events = ["OnConnection", "OnEcho", "OnStoreSetup", "OnStoreDone", "OnAssocEnd"]
                self.assertEqual((told.names, untold.names), (events, []))

    def test_timeout(self) -> None:
        """So does the end by a deadline."""
        listener = self.listener()
        _, connection = listener.associate(calledAETitle="RESEARCH")
        listener.clock.pump([60] * 12)
        connection.pump()
        self.assertEqual(self.research.names, ["OnConnection", "OnTimeout", "OnAssocEnd"])
        self.assertEqual(self.own.names, [])

    def test_settingsOfOtherTypes(self) -> None:
        """What is as good as what a setting takes serves as well, compiled or not."""
        settings = {"strict": 1, "abortOnRefusal": 0, "acceptUnknown": 1, "acceptReferencedPixels": 0}
        for size, status in ((1e9, 0), (1e2, 0xA700)):
            listener = self.listener(**settings, maximumObjectSize=size)
            for called in ("RESEARCH", "OTHER"):
                peer, connection = listener.associate(calledAETitle=called)
                peer.store(dataSet(), "1.2.3")
                connection.pump()
                self.assertEqual(peer.statuses, [status])

    def test_nextStatus(self) -> None:
        """A status that is forced is for the next response, whichever title it is of, and for that one only."""
        listener = self.listener()
        peers = [listener.associate(calledAETitle=called) for called in ("RESEARCH", "DCXTWISTED", "SHARED")]
        for first, second in ((0, 1), (1, 2), (2, 0)):
            listener.acceptor.NextStorageResponseStatus = 0xA700
            for number, status in ((first, 0xA700), (second, 0)):
                peer, connection = peers[number]
                peer.store(dataSet(), "1.2.3")
                connection.pump()
                self.assertEqual(peer.statuses[-1], status)
            self.assertIsNone(listener.acceptor.NextStorageResponseStatus)

    def test_StoreDirectory(self) -> None:
        """It cannot be set to that of another title, nor to none."""
        listener = self.listener()
        before = listener.acceptor.StoreDirectory
        theirs = listener.acceptor._entities["SHARED"].files.root
        for wrong in (theirs, os.path.relpath(theirs), ""):
            self.assertRaises(ValueError, setattr, listener.acceptor, "StoreDirectory", wrong)
        self.assertEqual(listener.acceptor.StoreDirectory, before)

    def test_checked(self) -> None:
        """Where called titles are checked, all that are here are taken, and no other."""
        listener = self.listener(checkCalledAETitle=True)
        for called in ("RESEARCH", "SHARED", "DCXTWISTED"):
            self.assertIsNotNone(listener.associate(calledAETitle=called)[0].accepted)
        self.assertEqual(listener.associate(calledAETitle="OTHER")[0].rejected, AssociateRJ(1, 1, 7))

    def test_wrong(self) -> None:
        """Titles, and directories, are there once each."""
        same = "two AE titles have the same store directory"
        for titles, directories, error in [
            (("A", "A"), ("x", "y"), "an AE title is there twice: 'A'"),
            (("A", "DCXTWISTED"), ("x", "y"), "an AE title is there twice: 'DCXTWISTED'"),
            (("A", "B"), ("x", "x/../x"), f"{same}: {abspath('x')!r}"),
            (
                ("A", "B"),
                ("x", "dicom-store"),
                f"{same}: {abspath('dicom-store')!r}",
            ),
        ]:
            entities = [
                ApplicationEntity(AETitle=title, storeDirectory=directory)
                for title, directory in zip(titles, directories, strict=True)
            ]
            with self.subTest(titles=titles, directories=directories):
                self.assertEqual(str(self.assertRaises(ValueError, DCXACC, [], entities=entities)), error)
        self.assertRaises(ValueError, ApplicationEntity, AETitle="A" * 17, storeDirectory="x")
        self.assertRaises(ValueError, ApplicationEntity, AETitle="A", storeDirectory="")


class EntitiesOnDiskTests(TestCase):
    """Where objects go."""

    async def test_directories(self) -> None:
        """An object goes below the directory of the title that is called, by that one's layout."""
        own, research = self.mktemp(), self.mktemp()
        listener = DCXACC(
            "tcp:0:interface=127.0.0.1",
            storeDirectory=own,
            entities=[ApplicationEntity(AETitle="RESEARCH", storeDirectory=research, layout="by-{SOPInstanceUID}")],
        )
        listener.startService()
        self.addCleanup(listener.stopService)
        for number, called in enumerate(("RESEARCH", "DCXTWISTED"), 1):
            host: Any = listener.ports[0].getHost()
            peer = await connect(host.port)
            peer.associate(calledAETitle=called)
            await peer.when(lambda peer=peer: peer.accepted)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            peer.store(dataSet(f"1.2.{number}"), f"1.2.{number}")
            await peer.when(lambda peer=peer: peer.statuses)  # type: ignore[misc]  # as above
            self.assertEqual(peer.statuses, [0])
            peer.leave()
            await peer.gone()
        self.assertEqual(
            [name for name in os.listdir(research) if not name.startswith(".")],
            ["by-1.2.1"],
        )
        stored = [name for _, _, names in os.walk(own) for name in names if name.endswith(".dcm")]
        self.assertEqual(stored, ["1.2.2.dcm"])
