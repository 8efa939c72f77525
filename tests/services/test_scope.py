"""
What is stored besides the storage SOP classes and transfer syntaxes of the standard, and what never is.
"""

from __future__ import annotations

import zlib
from struct import pack
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted import Configuration
from dcxtwisted.part10 import dataSetOffset, transferSyntaxOf
from dcxtwisted.services.scope import StorageScope
from dcxtwisted.stores.memory import MemoryStore, ObjectInMemory
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, ScriptedPeer
from dcxtwisted.uids import (
    NEVER_ACCEPTED_TRANSFER_SYNTAXES,
    NON_STORAGE_SOP_CLASSES,
    REFERENCED_TRANSFER_SYNTAXES,
    STORAGE_SERVICE_CLASS,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
)
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from tests.services.support import CT, EXPLICIT, MR, VERIFICATION, dataSet

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
NEWER_CLASS = "1.2.840.10008.5.1.4.1.1.99999"
PRIVATE_SYNTAX = "1.3.46.670589.33.1.4.1"
NEWER_SYNTAX = "1.2.840.10008.1.2.4.999"
LONGEST = "1." + "2" * 62

#: What names nothing, and must not get into a file.
NO_UIDS = ("", LONGEST + "2", "1.2/../3", "1.2\r\n", "1.\xb2", "x", "1..2", " 1.2")


def said(
    SOPClassUID: str, serviceClassUID: str = STORAGE_SERVICE_CLASS, *general: str
) -> SOPClassCommonExtendedNegotiation:
    return SOPClassCommonExtendedNegotiation(SOPClassUID, serviceClassUID, general)


class ClassTests(SynchronousTestCase):
    """`StorageScope.isStorage`"""

    def test_standard(self) -> None:
        """The tables decide over what is in them, whatever is configured and whatever the peer says."""
        for scope in (StorageScope(), StorageScope(True, True)):
            for uid in STORAGE_SOP_CLASSES:
                self.assertTrue(scope.isStorage(uid), uid)
                self.assertTrue(scope.isStorage(uid, said(uid, "1.2.3")), uid)
            for uid in (*NON_STORAGE_SOP_CLASSES, *TRANSFER_SYNTAXES, "1.2.840.10008.3.1.1.1"):
                self.assertFalse(scope.isStorage(uid), uid)
                self.assertFalse(scope.isStorage(uid, said(uid, STORAGE_SERVICE_CLASS, CT)), uid)

    def test_unknown(self) -> None:
        """Only where that is configured, or the peer says so; what is no UID never."""
        for uid in (PRIVATE_CLASS, NEWER_CLASS, "1.3.0012.4", LONGEST):
            self.assertFalse(StorageScope().isStorage(uid), uid)
            self.assertTrue(StorageScope(acceptUnknown=True).isStorage(uid), uid)
            self.assertTrue(StorageScope().isStorage(uid, said(uid)), uid)
        for uid in NO_UIDS:
            self.assertFalse(StorageScope(acceptUnknown=True).isStorage(uid, said(uid)), uid)

    def test_said(self) -> None:
        """By the service class, or by any of the general classes; a class that is unknown itself says nothing."""
        scope = StorageScope()
        for common in (
            said(PRIVATE_CLASS, STORAGE_SERVICE_CLASS, FIND),
            said(PRIVATE_CLASS, "1.2.3", CT),
            said(PRIVATE_CLASS, FIND, FIND, "1.2.3", MR),
        ):
            self.assertTrue(scope.isStorage(PRIVATE_CLASS, common), common)
        for common in (
            said(PRIVATE_CLASS, "1.2.840.10008.5.1.4.34.6"),
            said(PRIVATE_CLASS, "", FIND, "1.2.3", STORAGE_SERVICE_CLASS),
        ):
            self.assertFalse(scope.isStorage(PRIVATE_CLASS, common), common)


class SyntaxTests(SynchronousTestCase):
    """`StorageScope.transferSyntaxes`"""

    def assertTaken(self, scope: StorageScope, *syntaxes: str) -> None:
        self.assertEqual([syntax for syntax in syntaxes if syntax not in scope.transferSyntaxes], [])

    def assertNotTaken(self, scope: StorageScope, *syntaxes: str) -> None:
        self.assertEqual([syntax for syntax in syntaxes if syntax in scope.transferSyntaxes], [])

    def test_standard(self) -> None:
        self.assertIs(StorageScope().transferSyntaxes, TRANSFER_SYNTAXES)

    def test_referenced(self) -> None:
        scope = StorageScope(acceptReferencedPixels=True)
        self.assertEqual(scope.transferSyntaxes, {*TRANSFER_SYNTAXES, *REFERENCED_TRANSFER_SYNTAXES})

    def test_unknown(self) -> None:
        """What is known not to be for C-STORE stays out; so does JPIP, which has a setting of its own."""
        scope = StorageScope(acceptUnknown=True)
        self.assertTaken(scope, *TRANSFER_SYNTAXES, PRIVATE_SYNTAX, NEWER_SYNTAX, "1.3.0012.4", LONGEST)
        self.assertNotTaken(scope, *NEVER_ACCEPTED_TRANSFER_SYNTAXES, *REFERENCED_TRANSFER_SYNTAXES)
        self.assertNotTaken(scope, "1.2.840.10008.1.2.7.4", "1.2.840.10008.1.2.7.99.1", CT, VERIFICATION, *NO_UIDS)
        self.assertNotIn(12, scope.transferSyntaxes)

    def test_both(self) -> None:
        scope = StorageScope(True, True)
        self.assertTaken(scope, *TRANSFER_SYNTAXES, *REFERENCED_TRANSFER_SYNTAXES, PRIVATE_SYNTAX)
        self.assertNotTaken(scope, *NEVER_ACCEPTED_TRANSFER_SYNTAXES, *NO_UIDS)


def implicit(SOPClassUID: str) -> bytes:
    """Return a small object in implicit VR little endian."""

    def element(group: int, number: int, value: bytes) -> bytes:
        return pack("<HHL", group, number, len(value)) + value

    name = SOPClassUID.encode()
    return (
        element(0x0008, 0x0016, name + b"\0" * (len(name) & 1))
        + element(0x0008, 0x0018, b"1.2.3\0")
        + element(0x0009, 0x1001, bytes(range(256)) * 3)
        + element(0x7FE0, 0x0010, b"\1\2" * 500)
    )


def bigEndian(SOPClassUID: str) -> bytes:
    """Return a small object in explicit VR big endian."""
    name = SOPClassUID.encode()
    return (
        pack(">HH2sH", 0x0008, 0x0016, b"UI", len(name) + (len(name) & 1))
        + name
        + b"\0" * (len(name) & 1)
        + pack(">HH2sH", 0x0008, 0x0018, b"UI", 6)
        + b"1.2.3\0"
        + pack(">HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 1000)
        + b"\1\2" * 500
    )


class ListenerTests(SynchronousTestCase):
    """A listener in memory: what it accepts, and what it then stores."""

    def listen(self, contexts: dict[int, tuple[str, list[str]]], *items: Any, **settings: Any) -> None:
        """Associate a peer that proposes C{contexts} with a new listener."""
        self.store = MemoryStore()
        listener = ListenerInMemory(store=self.store, configuration=Configuration(**settings))
        self.peer: ScriptedPeer
        self.connection: MemoryConnection
        self.peer, self.connection = listener.associate(contexts, commonExtendedNegotiations=items)
        self.association = listener.acceptor.associations[0]
        self.addCleanup(self.connection.client.abortConnection)

    @property
    def results(self) -> list[tuple[int, int, str]]:
        assert self.peer.accepted is not None
        return [
            (result.contextID, result.result, result.transferSyntax)
            for result in self.peer.accepted.presentationContexts
        ]

    def stored(self, data: bytes, SOPClassUID: str, contextID: int = 1) -> ObjectInMemory | None:
        """Send an object; return it as it was stored, None where it was not."""
        self.peer.store(data, "1.2.3", SOPClassUID, contextID)
        self.connection.pump()
        return self.store.take()

    def assertStored(self, data: bytes, SOPClassUID: str, syntax: str, contextID: int = 1) -> None:
        stored = self.stored(data, SOPClassUID, contextID)
        self.assertEqual(self.peer.statuses[-1], 0)
        assert stored is not None
        self.assertEqual((stored.SOPClassUID, stored.transferSyntaxUID), (SOPClassUID, syntax))
        file = bytes(stored)
        self.assertEqual(file[dataSetOffset(file) :], data)
        self.assertEqual(transferSyntaxOf(file), syntax)
        name = SOPClassUID.encode() + b"\0" * (len(SOPClassUID) & 1)
        self.assertIn(pack("<HH2sH", 0x0002, 0x0002, b"UI", len(name)) + name, file[: -len(data)])

    def assertRefused(self, data: bytes, SOPClassUID: str, contextID: int = 1) -> None:
        self.assertIsNone(self.stored(data, SOPClassUID, contextID))
        self.assertEqual(self.peer.statuses[-1], 0x0122)

    def test_default(self) -> None:
        """Nothing unknown is accepted, and nothing is stored on what was not."""
        self.listen(
            {
                1: (PRIVATE_CLASS, [EXPLICIT]),
                3: (NEWER_CLASS, [EXPLICIT]),
                5: (CT, [PRIVATE_SYNTAX]),
                7: (CT, [EXPLICIT]),
            }
        )
        self.assertEqual(self.results, [(1, 3, EXPLICIT), (3, 3, EXPLICIT), (5, 4, PRIVATE_SYNTAX), (7, 0, EXPLICIT)])
        self.assertRefused(dataSet(SOPClassUID=PRIVATE_CLASS), PRIVATE_CLASS)
        self.assertRefused(dataSet(SOPClassUID=PRIVATE_CLASS), PRIVATE_CLASS, 7)
        self.assertStored(dataSet(), CT, EXPLICIT, 7)

    def test_said(self) -> None:
        """A class that the peer says is storage is accepted, in the standard's transfer syntaxes, and stored."""
        self.listen(
            {
                1: (PRIVATE_CLASS, [PRIVATE_SYNTAX, IMPLICIT, EXPLICIT]),
                3: (NEWER_CLASS, [IMPLICIT]),
                5: ("1.2.3.4", [EXPLICIT]),
                7: (PRIVATE_CLASS, [PRIVATE_SYNTAX]),
                9: (CT, [EXPLICIT]),
            },
            said(PRIVATE_CLASS),
            said(NEWER_CLASS, "1.2.3", MR),
            said("1.2.3.4", "1.2.840.10008.5.1.4.34.6"),
        )
        self.assertEqual(
            self.results,
            [(1, 0, EXPLICIT), (3, 0, IMPLICIT), (5, 3, EXPLICIT), (7, 4, PRIVATE_SYNTAX), (9, 0, EXPLICIT)],
        )
        self.assertStored(dataSet(SOPClassUID=PRIVATE_CLASS), PRIVATE_CLASS, EXPLICIT)
        self.assertStored(implicit(NEWER_CLASS), NEWER_CLASS, IMPLICIT, 3)
        self.assertEqual(self.association.quirks, {"no implementation class UID": 1})
        # On a context that was accepted for another class it is as unknown as any.
        self.assertRefused(dataSet(SOPClassUID=PRIVATE_CLASS), PRIVATE_CLASS, 9)
        self.assertStored(dataSet(), CT, EXPLICIT, 1)

    def test_neverANonStorageClass(self) -> None:
        """Whatever is configured and whatever the peer says of it."""
        contexts = {1: (VERIFICATION, [EXPLICIT]), 3: (FIND, [EXPLICIT]), 5: ("1.2.840.10008.1.20.1", [EXPLICIT])}
        items = [said(uid, STORAGE_SERVICE_CLASS, CT) for uid, _ in contexts.values()]
        self.listen(contexts, *items, acceptUnknown=True)
        self.assertEqual(self.results, [(1, 0, EXPLICIT), (3, 3, EXPLICIT), (5, 3, EXPLICIT)])
        for contextID, (uid, _) in contexts.items():
            for context in (1, contextID):
                self.assertRefused(dataSet(SOPClassUID=uid), uid, context)
        self.peer.echo()
        self.connection.pump()
        self.assertEqual(self.peer.statuses[-1], 0)

    def test_verificationInAnUnknownSyntax(self) -> None:
        self.listen({1: (VERIFICATION, [PRIVATE_SYNTAX])}, acceptUnknown=True)
        self.assertEqual(self.results, [(1, 4, PRIVATE_SYNTAX)])

    def test_unknown(self) -> None:
        """Classes, and transfer syntaxes, those for known classes too."""
        self.listen(
            {
                1: (PRIVATE_CLASS, [PRIVATE_SYNTAX]),
                3: (NEWER_CLASS, [IMPLICIT, EXPLICIT]),
                5: (CT, [NEWER_SYNTAX, EXPLICIT]),
                7: (CT, ["1.2.840.10008.1.2.7.4", "1.2.840.10008.1.2.6.1"]),
                9: (CT, ["1.2.840.10008.1.2.4.94"]),
                11: ("1.2/3", [EXPLICIT]),
            },
            acceptUnknown=True,
        )
        self.assertEqual(
            self.results,
            [
                (1, 0, PRIVATE_SYNTAX),
                (3, 0, EXPLICIT),
                (5, 0, NEWER_SYNTAX),
                (7, 4, "1.2.840.10008.1.2.7.4"),
                (9, 4, "1.2.840.10008.1.2.4.94"),
                (11, 3, EXPLICIT),
            ],
        )
        self.assertStored(dataSet(SOPClassUID=PRIVATE_CLASS), PRIVATE_CLASS, PRIVATE_SYNTAX)
        self.assertStored(dataSet(SOPClassUID=NEWER_CLASS), NEWER_CLASS, EXPLICIT, 3)
        self.assertStored(dataSet(), CT, NEWER_SYNTAX, 5)
        # As with a known class, the context need not be its own.
        self.assertStored(dataSet(SOPClassUID=PRIVATE_CLASS), PRIVATE_CLASS, EXPLICIT, 3)
        self.assertRefused(dataSet(SOPClassUID="1.2/3"), "1.2/3", 3)

    def test_unknownSyntax(self) -> None:
        """Its encoding is told from the first bytes; each is stored byte for byte, with its own syntax in the file."""
        for data in (dataSet(), implicit(CT), bigEndian(CT)):
            self.listen({1: (CT, [PRIVATE_SYNTAX])}, acceptUnknown=True)
            stored = self.stored(data, CT)
            self.assertEqual(self.peer.statuses, [0])
            assert stored is not None
            file = bytes(stored)
            self.assertEqual(file[dataSetOffset(file) :], data)
            self.assertEqual((transferSyntaxOf(file), stored.head.quirks), (PRIVATE_SYNTAX, ()))
            self.assertEqual((stored.head.SOPClassUID, stored.head.SOPInstanceUID), (CT, "1.2.3"))

    def test_unreadableSyntax(self) -> None:
        """What cannot be read cannot be told to be the object of the command: it is not acknowledged."""
        self.listen({1: (CT, [PRIVATE_SYNTAX])}, acceptUnknown=True)
        self.assertIsNone(self.stored(zlib.compress(dataSet()), CT))
        self.assertEqual([status >> 8 for status in self.peer.statuses], [0xC0])

    def test_referencedPixels(self) -> None:
        """JPIP by configuration only; the deflated form is read too."""
        plain, deflated = "1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95"
        contexts = {1: (CT, [plain]), 3: (CT, [deflated])}
        self.listen(contexts)
        self.assertEqual([result for _, result, _ in self.results], [4, 4])
        self.listen(contexts, acceptReferencedPixels=True)
        self.assertEqual([result for _, result, _ in self.results], [0, 0])
        self.assertStored(dataSet(), CT, plain)
        compressor = zlib.compressobj(wbits=-15)
        self.assertStored(compressor.compress(dataSet()) + compressor.flush(), CT, deflated, 3)

    def test_preference(self) -> None:
        contexts = {1: (CT, [EXPLICIT, "1.2.840.10008.1.2.4.90"]), 3: (MR, [IMPLICIT, EXPLICIT])}
        self.listen(contexts, transferSyntaxPreference=("1.2.840.10008.1.2.4.90", IMPLICIT))
        self.assertEqual(self.results, [(1, 0, "1.2.840.10008.1.2.4.90"), (3, 0, IMPLICIT)])
