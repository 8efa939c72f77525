"""
The storage service: every answer of the events, every failure of a store, and the association lost at every stage.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from pickle import PickleBuffer
from struct import pack
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from dcxtwisted.dataset import Head, Wholeness
from dcxtwisted.deadlines import Deadline
from dcxtwisted.dimse import DIMSEProvider, Exchange
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import (
    IN_MEMORY,
    IDataSetReceiver,
    IDIMSEProvider,
    IDIMSEService,
    IExchange,
    Outcome,
    StoredObject,
)
from dcxtwisted.interfaces import IStoreRequest as IRequest
from dcxtwisted.services.reception import FailedReception, Reception
from dcxtwisted.services.requests import StoreRequest, isSafeInstanceUID
from dcxtwisted.services.storage import StorageService
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.memory import MemoryStore
from dcxtwisted.testing import MemoryConnection, ScriptedPeer
from dcxtwisted.uids import TRANSFER_SYNTAXES
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.commandset import encodeCommandSet
from dcxtwisted.wire.framing import COMPILED
from dcxtwisted.wire.messages import encodeCStoreRQ
from tests.services.support import (
    CT,
    DATA,
    EXPLICIT,
    MR,
    OFFENDING_ELEMENT,
    STORAGE_CONTEXT,
    VERIFICATION,
    VERIFICATION_CONTEXT,
    FakeParticipant,
    FakeSink,
    FakeStore,
    ServiceTestCase,
    comment,
    dataSet,
    failed,
    formsOf,
    storeCommand,
)

#: An object of several fragments, where the peer sends them this small: the first three of them, and the rest.
SMALL = 512
FRAGMENTS = fragment(STORAGE_CONTEXT, False, DATA, SMALL)
FIRST, REST = FRAGMENTS[: 3 * (SMALL + 6)], FRAGMENTS[3 * (SMALL + 6) :]


class SupportsTests(SynchronousTestCase):
    """What is negotiated."""

    def test_declaresTheInterface(self) -> None:
        for interface, kinds in (
            (IDIMSEService, (StorageService,)),
            (IRequest, (StoreRequest,)),
            (IDataSetReceiver, (Reception, FailedReception)),
            (IExchange, (Exchange,)),
            (IDIMSEProvider, (DIMSEProvider,)),
        ):
            for kind in kinds:
                self.assertTrue(interface.implementedBy(kind), kind)

    @skipIf(COMPILED, "what is compiled does not tell what arguments it takes")
    def test_providesTheInterface(self) -> None:
        verifyClass(IDIMSEService, StorageService)
        verifyClass(IRequest, StoreRequest)
        verifyClass(IDataSetReceiver, Reception)
        self.assertEqual(StorageService.commandFields, {0x0001})

    def test_syntaxes(self) -> None:
        store = FakeStore()
        late = Deadline(Clock(), 60)
        service = StorageService(None, store, store, store, "/store", late, late)  # type: ignore[arg-type]  # asked nothing
        self.assertIs(service.supports(CT), TRANSFER_SYNTAXES)
        self.assertIsNone(service.supports(VERIFICATION))
        self.assertIsNone(service.supports("1.2.840.10008.1.3.10"))


class InstanceUIDTests(SynchronousTestCase):
    """`isSafeInstanceUID`"""

    def test_refused(self) -> None:
        for uid in ("", ".", "..", "." * 64, "../../x", "/etc/x", "1.2/3", "1\\2", "1" * 65, "1" * 300):
            self.assertFalse(isSafeInstanceUID(uid), uid)
        for uid in ("1.2\r\n", "1\0002", "\x1b[0m", "1\x7f", "1.2\xe9", "\u0661", "1\u202e2"):
            self.assertFalse(isSafeInstanceUID(uid), ascii(uid))

    def test_taken(self) -> None:
        for uid in ("1.2.3", "0", "1" * 64, "%2e", "a b", "..1", "$(id)", "1:2", "~"):
            self.assertTrue(isSafeInstanceUID(uid), uid)


class CommandTests(ServiceTestCase):
    """What is refused, or not, before the application is asked."""

    def refusal(self, command: bytes, contextID: int = STORAGE_CONTEXT, data: bytes = DATA) -> tuple[int, str]:
        """Return the status and the comment that a command is answered with; it takes nothing else along."""
        events = self.events()
        peer, connection = self.listen(events)
        self.command(connection, peer, command, contextID)
        self.assertEqual(peer.statuses, [], "nothing is said before the data set has passed")
        self.data(connection, peer, data, contextID)
        ((status,), response) = (peer.statuses, peer.received[-1])
        self.assertEqual(self.log, [])
        self.assertEqual(self.associationOf(peer).objectsRefused, 1)
        self.assertLogged(" refused with ")
        self.assertStoresNext(connection, peer)
        self.logged.clear()
        return status, comment(response)

    def assertStoresNext(self, connection: MemoryConnection, peer: ScriptedPeer) -> None:
        """Fail unless the association goes on."""
        self.send(connection, peer, messageID=99)
        self.assertEqual(peer.statuses[1:], [0])

    def test_malformedInstance(self) -> None:
        for uid in (
            b"../../x",
            b"/etc/x",
            b".",
            b"..",
            b"",
            b"\0\0",
            b"1" * 65,
            b"1" * 300,
            b"1.2/3",
            b"1.2\r\n3",
            b"1.2\xc3\xa4",
            b"1\\2",
            None,
        ):
            self.assertEqual(self.refusal(storeCommand(uid)), (0x0117, "malformed SOP Instance UID"), uid)

    def test_noStorageClass(self) -> None:
        for uid in (VERIFICATION, "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.2.2.1", "1.2.3"):
            command = storeCommand(SOPClassUID=uid.encode())
            self.assertEqual(self.refusal(command), (0x0122, "not a storage SOP class"), uid)

    def test_noStorageClassInTheContext(self) -> None:
        """The class of the context stands in for one that is missing, also where it is none that is stored."""
        command = storeCommand(SOPClassUID=None)
        self.assertEqual(self.refusal(command, VERIFICATION_CONTEXT), (0x0122, "not a storage SOP class"))

    def test_noDataSet(self) -> None:
        events = self.events()
        peer, connection = self.listen(events)
        self.command(connection, peer, storeCommand(hasDataSet=False))
        self.assertEqual(peer.statuses, [0xC000])
        self.assertEqual(comment(peer.received[-1]), "no data set")
        self.assertEqual(self.log, [])
        self.assertStoresNext(connection, peer)

    def test_oddInstance(self) -> None:
        """Stored, under a name without what it has of a path."""
        for uid, name in (("%2e", "%252e"), ("a b", "a%20b"), ("$(id)", "%24%28id%29"), ("..1", "%2E.1")):
            root = os.path.abspath(self.mktemp())
            store = fileStore(self, root)
            peer, connection = self.listen(store=store)
            self.send(connection, peer, dataSet(uid), uid)
            self.assertEqual(peer.statuses, [0], uid)
            self.assertEqual(os.listdir(f"{root}/1.2.4/1.2.5"), [f"{name}.dcm"])

    def test_missingClass(self) -> None:
        """Taken from the context and counted; the response names none either."""
        events = self.events()
        peer, connection = self.listen(events)
        self.command(connection, peer, storeCommand(SOPClassUID=None))
        self.data(connection, peer)
        self.assertEqual(peer.statuses, [0])
        self.assertNotIn(0x0002, peer.received[-1])
        self.assertEqual(events.calls[1][1][1].SOPClassUID, CT)
        self.assertEqual(self.associationOf(peer).quirks, {"C-STORE without SOP class": 1})

    def test_anotherClassThanTheContexts(self) -> None:
        """Stored where command and data set agree, and counted."""
        peer, connection = self.listen()
        self.command(connection, peer, storeCommand(SOPClassUID=MR.encode()))
        self.data(connection, peer, dataSet(SOPClassUID=MR))
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.associationOf(peer).quirks, {"SOP class is not the context's": 1})


class ResponseTests(ServiceTestCase):
    """The response names what the command named, byte for byte."""

    def test_UIDs(self) -> None:
        for SOPClassUID, SOPInstanceUID in (
            (CT.encode() + b"\0", b"1.2.3\0"),
            (CT.encode() + b" ", b"1.2.3 "),
            (CT.encode() + b"\0\0\0", b"1.2.3\0 \0"),
            (CT.encode() + b" ", b"1.2.300\0"),
        ):
            peer, connection = self.listen()
            self.command(connection, peer, storeCommand(SOPInstanceUID, SOPClassUID, messageID=0xFEFF))
            self.data(connection, peer, dataSet(SOPInstanceUID.rstrip(b"\0 ").decode()))
            self.assertEqual(
                peer.received[1:],
                [
                    {
                        0x0000: pack("<L", 4 * 10 + 2 * 8 + len(SOPClassUID) + len(SOPInstanceUID)),
                        0x0002: SOPClassUID,
                        0x0100: b"\1\x80",
                        0x0120: b"\xff\xfe",
                        0x0800: b"\1\1",
                        0x0900: b"\0\0",
                        0x1000: SOPInstanceUID,
                    }
                ],
            )

    def test_UIDsOfARefusal(self) -> None:
        peer, connection = self.listen()
        self.command(connection, peer, storeCommand(b"../x\r\n", messageID=7))
        self.data(connection, peer)
        response = peer.received[-1]
        self.assertEqual(response[0x1000], b"../x\r\n")
        self.assertEqual(response[0x0120], b"\7\0")

    def test_mixedSyntaxContexts(self) -> None:
        """It goes out on the context of the request, and the object has that context's syntax."""
        events = self.events()
        contexts = {5: (CT, ["1.2.840.10008.1.2.4.50"]), 7: (CT, [EXPLICIT])}
        peer, connection = self.listen(events, contexts=contexts)
        self.command(connection, peer, storeCommand(), 7)
        self.data(connection, peer, contextID=7)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(events.calls[1][1][1].transferSyntaxUID, EXPLICIT)
        length = int.from_bytes(peer.received[-1][0x0000], "little") + 12
        self.assertEqual(peer.bytesReceived[-length - 2], 7)


class RequestTests(ServiceTestCase):
    """What the events are told of a request."""

    def test_attributes(self) -> None:
        seen: list[tuple[Any, ...]] = []

        def OnStoreSetup(filename: str, request: Any) -> None:
            verifyObject(IRequest, request)
            seen.append(
                (
                    filename,
                    request.SOPClassUID,
                    request.SOPInstanceUID,
                    request.transferSyntaxUID,
                    request.messageID,
                    request.priority,
                    request.moveOriginatorAETitle,
                    request.moveOriginatorMessageID,
                    request.head,
                    request.stored,
                    request.refusal,
                )
            )

        events = self.events(OnStoreSetup=OnStoreSetup)
        peer, connection = self.listen(events, root="/some where")
        self.command(connection, peer, encodeCStoreRQ(17, CT, "1.2.3", 2, "MOVER", 42))
        self.data(connection, peer)
        self.command(
            connection, peer, encodeCommandSet({0x0100: b"\1\0", 0x0110: b"\2\0", 0x1000: b"1.2.3\0"} | DATA_FOLLOWS)
        )
        self.data(connection, peer)
        common = ("/some where/1.2.3.dcm", CT, "1.2.3", EXPLICIT)
        self.assertEqual(seen, [(*common, 17, 2, "MOVER", 42, *[None] * 3), (*common, 2, 0, "", *[None] * 4)])
        self.assertEqual(peer.statuses, [0, 0])
        self.assertIs(events.calls[1][1][1].association, self.associationOf(peer))

    def test_done(self) -> None:
        """OnStoreDone gets the request of OnStoreSetup, its head and the object."""
        events = self.events()
        store = self.store()
        peer, connection = self.listen(events, store)
        self.send(connection, peer)
        (_, (_, request)), (name, (filename, status, same)) = events.calls[1:]
        self.assertEqual((name, filename, status), ("OnStoreDone", "/fake/1.dcm", True))
        self.assertIs(same, request)
        self.assertEqual(
            (request.head.PatientID, request.head.StudyInstanceUID, request.head.size, request.head.wholeness),
            ("P1", "1.2.4", len(DATA), Wholeness.WHOLE),
        )
        self.assertEqual(request.stored, StoredObject("/fake/1.dcm", len(DATA), request.head, Outcome.NEW))
        self.assertIs(store.sinks[0].head, request.head)

    def test_order(self) -> None:
        participants = [FakeParticipant(self.log, "first"), FakeParticipant(self.log, "second")]
        peer, connection = self.listen(participants=participants)
        self.send(connection, peer)
        self.assertEqual(
            self.log, ["OnStoreSetup", "open", "write", "finish", "first", "second", "OnStoreDone", "keep"]
        )
        peer.release()
        connection.pump()
        self.assertEqual(self.log[8:], ["OnAssocEnd"])
        self.assertTrue(peer.released)

    def test_counts(self) -> None:
        """On the association: stored, refused, bytes, and what was off in what was stored."""
        odd = dataSet("1.2.6")[:-1]
        peer, connection = self.listen()
        self.send(connection, peer)
        self.send(connection, peer, odd, "1.2.6")
        self.send(connection, peer, odd, "1.2.7")
        self.send(connection, peer, DATA[:-100])
        self.command(connection, peer, storeCommand(b".."))
        self.data(connection, peer)
        self.assertEqual(peer.statuses, [0, 0, 0xA900, 0xC000, 0x0117])
        association = self.associationOf(peer)
        self.assertEqual((association.objectsStored, association.objectsRefused), (2, 3))
        self.assertEqual(association.bytesReceived, 3 * len(DATA) + 2 * len(odd) - 100, "drained ones too")
        self.assertEqual(association.quirks, {"last value without its pad byte": 1})

    def test_refusalIsLogged(self) -> None:
        """One line, escaped and without any value of the data set."""
        peer, connection = self.listen(callingAE=b"A\r\nB".ljust(16))
        self.send(connection, peer, dataSet(patientID="SECRET")[:-9])
        self.assertEqual(
            self.logged,
            [
                "object '1.2.3' refused with C000 ('value of (7FE0,0010) cut by 9 bytes') for "
                "<Association from 'A\\r\\nB' at 127.0.0.1>"
            ],
        )

    def test_longInstanceIsCutInTheLog(self) -> None:
        """64 KB of bytes that are escaped would be a line of 256 KB."""
        peer, connection = self.listen()
        self.command(connection, peer, storeCommand(b"\xff" * 65000))
        self.data(connection, peer)
        (line,) = self.logged
        start = "object '" + "\\xff" * 64 + "'... (65000 characters) refused with 0117 ("
        self.assertTrue(line.startswith(start), line)


DATA_FOLLOWS = {0x0800: b"\0\0"}


class TapTests(ServiceTestCase):
    """Those who watch the bytes pass."""

    def watch(self, *watchers: Callable[[memoryview], object]) -> tuple[ScriptedPeer, MemoryConnection, FakeStore]:
        def OnStoreSetup(filename: str, request: Any) -> None:
            for watcher in watchers:
                request.tap(watcher)

        store = self.store()
        peer, connection = self.listen(self.events(OnStoreSetup=OnStoreSetup), store)
        return peer, connection, store

    def test_bytes(self) -> None:
        """Each watcher sees every piece that the sink is given, in order."""
        first: list[bytes] = []
        second: list[bytes] = []
        peer, connection, store = self.watch(
            lambda view: first.append(bytes(view)), lambda v: second.append(v.tobytes())
        )
        self.send(connection, peer, maximumLength=SMALL)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(b"".join(first), DATA)
        self.assertEqual(first, store.sinks[0].pieces)
        self.assertEqual(second, first)
        self.assertGreater(len(first), 3)

    def test_failing(self) -> None:
        """Dropped, logged once, and nobody else notices."""
        seen: list[bytes] = []
        calls: list[int] = []

        def fail(view: memoryview) -> None:
            calls.append(len(view))
            raise ValueError("a tap")

        peer, connection, store = self.watch(fail, lambda view: seen.append(bytes(view)))
        self.send(connection, peer, maximumLength=SMALL)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(len(calls), 1)
        self.assertFailuresLogged(ValueError)
        self.assertEqual(b"".join(seen), DATA)
        self.assertEqual(store.sinks[0].data, DATA)

    def test_viewIsVoidAfterwards(self) -> None:
        """A view that was kept gives no bytes, and so pins none; the sink's is another one."""
        kept: list[memoryview] = []
        peer, connection, store = self.watch(kept.append)
        self.send(connection, peer)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(store.sinks[0].data, DATA)
        self.assertEqual(len(kept), 1)
        self.assertRaises(ValueError, bytes, kept[0])

    def test_alsoFromAnotherEvent(self) -> None:
        """Those who join while bytes pass see the rest."""
        seen: list[bytes] = []

        def OnStoreSetup(filename: str, request: Any) -> None:
            def first(view: memoryview) -> None:
                if not seen:
                    request.tap(lambda view: seen.append(bytes(view)))
                    seen.append(b"")

            request.tap(first)

        store = self.store()
        peer, connection = self.listen(self.events(OnStoreSetup=OnStoreSetup), store)
        self.send(connection, peer, maximumLength=SMALL)
        self.assertEqual(seen[1:], store.sinks[0].pieces[1:])
        self.assertGreater(len(seen), 3)

    def test_holdingOn(self) -> None:
        """A watcher that keeps a buffer of the view from becoming void is dropped; slices are its own memory."""
        kept: list[PickleBuffer] = []
        slices: list[memoryview] = []
        peer, connection, store = self.watch(
            lambda view: kept.append(PickleBuffer(view)), lambda view: slices.append(view[1:])
        )
        self.send(connection, peer, maximumLength=SMALL)
        self.assertEqual((peer.statuses, store.sinks[0].data), ([0], DATA))
        self.assertEqual(len(kept), 1)
        self.assertFailuresLogged(BufferError)
        self.assertEqual([bytes(piece) for piece in slices], [piece[1:] for piece in store.sinks[0].pieces])

    def hashed(self, status: int, data: bytes = DATA, **store: Any) -> FakeStore:
        """Send an object and assert its status, and that a watcher saw all of it."""
        hashed = sha256()

        def OnStoreSetup(filename: str, request: Any) -> None:
            request.tap(hashed.update)

        made = self.store(**store)
        peer, connection = self.listen(self.events(OnStoreSetup=OnStoreSetup), made)
        self.send(connection, peer, data, maximumLength=SMALL)
        self.assertEqual(peer.statuses, [status])
        self.assertEqual(hashed.digest(), sha256(data).digest())
        return made

    def test_hash(self) -> None:
        """What a watcher hashes is what was stored; a hash keeps nothing of a view."""
        (sink,) = self.hashed(0).sinks
        self.assertEqual(sink.data, DATA)

    def test_drainedToo(self) -> None:
        """Where a store takes no more, or nothing, and where the object turns out not to be kept."""
        self.hashed(0xA700, open=StoreRefused(0xA700))
        self.hashed(0xA700, open=failed(StoreRefused(0xA700)))
        (sink,) = self.hashed(0xA700, sink={"write": StoreRefused(0xA700)}).sinks
        self.assertEqual(len(sink.pieces), 1)
        self.hashed(0xA700, sink={"finish": StoreRefused(0xA700)})
        self.hashed(0xA900, dataSet("1.2.4"))
        self.hashed(0xC000, DATA[:-2])

    def test_failingWhileDrained(self) -> None:
        calls: list[int] = []

        def fail(view: memoryview) -> None:
            calls.append(len(view))
            raise ValueError("a tap")

        def OnStoreSetup(filename: str, request: Any) -> None:
            request.tap(fail)

        for store in (self.store(open=StoreRefused(0xA700)), self.store(sink={"write": StoreRefused(0xA700)})):
            peer, connection = self.listen(self.events(OnStoreSetup=OnStoreSetup), store)
            self.send(connection, peer, maximumLength=SMALL)
            self.assertEqual(peer.statuses, [0xA700])
            self.assertFailuresLogged(ValueError)
        self.assertEqual(calls, [SMALL - 6] * 2)

    def test_notOfRefusedData(self) -> None:
        seen: list[bytes] = []

        def OnStoreSetup(filename: str, request: Any) -> None:
            request.tap(lambda view: seen.append(bytes(view)))
            raise StoreRefused(0xA700)

        peer, connection = self.listen(self.events(OnStoreSetup=OnStoreSetup))
        self.send(connection, peer)
        self.assertEqual((peer.statuses, seen), ([0xA700], []))


class BytesPath:
    """A path of bytes."""

    def __fspath__(self) -> bytes:
        return b"/f\xfcr.dcm"


class SetupTests(ServiceTestCase):
    """Every answer of OnStoreSetup, in every form."""

    def answered(self, answer: object, **how: Any) -> list[tuple[ScriptedPeer, MemoryConnection]]:
        """Send an object for each form of an answer; nothing of its data may pass before the answer is there."""
        ends = []
        for form in formsOf(answer):
            events = self.events(OnStoreSetup=form.event)
            peer, connection = self.listen(events, **how)
            self.send(connection, peer)
            if form.name in ("Deferred", "coroutine"):
                self.assertEqual(self.log, ["OnStoreSetup"], form.name)
                self.assertEqual(peer.statuses, [])
            form.release()
            connection.pump()
            self.assertEqual(len(peer.statuses), 1, form.name)
            ends.append((peer, connection))
        return ends

    def assertStoredIn(self, store: FakeStore, filename: str, call: str, answer: object) -> None:
        expected = ["OnStoreSetup", call, "write", "finish", "OnStoreDone", "keep"]
        self.assertEqual(self.log, expected)
        self.assertEqual([name for name, _ in store.opened], [filename] * 4)
        self.assertEqual([sink.data for sink in store.sinks], [DATA] * 4)

    def test_ownWay(self) -> None:
        for answer in (None, ""):
            store = self.store()
            for peer, _ in self.answered(answer, store=store):
                self.assertEqual(peer.statuses, [0])
            self.assertStoredIn(store, "", "open", answer)

    def test_path(self) -> None:
        """As the application said it: what it is relative to is the file store's business."""
        for answer in ("/somewhere/else.dcm", "relative/name.dcm", "./x"):
            files = self.store()
            for peer, _ in self.answered(answer, files=files):
                self.assertEqual(peer.statuses, [0])
            self.assertStoredIn(files, answer, "openAt", answer)

    def test_pathThatIsNoText(self) -> None:
        """Of pathlib, or of whoever else makes paths; one of bytes that are no UTF-8 is told as the system tells it."""
        files = self.store()
        for peer, _ in self.answered(Path("/somewhere") / "else.dcm", files=files):
            self.assertEqual(peer.statuses, [0])
        self.assertStoredIn(files, "/somewhere/else.dcm", "openAt", Path)
        files = self.store()
        for peer, _ in self.answered(BytesPath(), files=files):
            self.assertEqual(peer.statuses, [0])
        self.assertStoredIn(files, "/f\udcfcr.dcm", "openAt", BytesPath)

    def test_memory(self) -> None:
        memory = self.store()
        for peer, _ in self.answered(IN_MEMORY, memory=memory):
            self.assertEqual(peer.statuses, [0])
        self.assertStoredIn(memory, "", "open", IN_MEMORY)

    def test_sink(self) -> None:
        for form in formsOf(sink := self.sink()):
            sink.pieces.clear()
            peer, connection = self.listen(self.events(OnStoreSetup=form.event))
            self.send(connection, peer, maximumLength=SMALL)
            form.release()
            connection.pump()
            self.assertEqual(peer.statuses, [0])
            self.assertEqual(sink.data, DATA)
            self.assertEqual(
                [name for name in self.log if name != "write"], ["OnStoreSetup", "finish", "OnStoreDone", "keep"]
            )

    def test_refused(self) -> None:
        refusal = StoreRefused(0xA7FF, "over the quota", (0x00100020,))
        for peer, connection in self.answered(refusal):
            self.assertEqual(peer.statuses, [0xA7FF])
            self.assertEqual(comment(peer.received[-1]), "over the quota")
            self.assertNotIn(OFFENDING_ELEMENT, peer.received[-1], "not with a status of this kind")
            self.assertEqual(self.log, ["OnStoreSetup"])
            self.assertEqual(self.associationOf(peer).objectsRefused, 1)
            self.assertEqual(connection.server.unread, b"")
        self.assertFailuresLogged()

    def test_refusedWithASuccess(self) -> None:
        """Nothing is stored, so no sender may take it for that; nor may it wait for a further response."""
        for status in (0xB000, 0xB007, 0xFF00, 0xFF01, 0x0001, 0x0107, 0x0116):
            for peer, _ in self.answered(StoreRefused(status, "kept?")):
                self.assertEqual(peer.statuses, [0xA700])
                self.assertEqual(comment(peer.received[-1]), "internal error")
            self.assertLogged(f"setting up an object: status {status:04X}, which is no refusal", 4)

    def test_raises(self) -> None:
        for peer, connection in self.answered(ZeroDivisionError("OnStoreSetup")):
            self.assertEqual(peer.statuses, [0xA700])
            self.assertEqual(comment(peer.received[-1]), "internal error")
            self.assertEqual(self.log, ["OnStoreSetup"])
            connection.pump()
        self.assertFailuresLogged(*[ZeroDivisionError] * 4)
        self.assertLogged("setting up an object failed", 4)

    def test_nothingThatCanBeStoredIn(self) -> None:
        for answer in (True, 42, b"/bytes", object()):
            for peer, _ in self.answered(answer):
                self.assertEqual(peer.statuses, [0xA700])
                self.assertEqual(self.log, ["OnStoreSetup", "OnStoreDone"])
            failures = self.flushLoggedErrors(TypeError)
            self.assertEqual(
                [str(failure.value) for failure in failures], [f"OnStoreSetup answered {type(answer).__name__}"] * 4
            )

    def test_storeOpensLater(self) -> None:
        for form in formsOf(sink := self.sink()):
            if form.name == "coroutine":
                continue  # stores answer with a Deferred
            sink.pieces.clear()
            peer, connection = self.listen(store=self.store(open=form.event))
            self.send(connection, peer)
            form.release()
            connection.pump()
            self.assertEqual((peer.statuses, sink.data), ([0], DATA))

    def test_storeRefuses(self) -> None:
        """Told as the store's, not the event's, refusal; its cause is logged."""
        refusal = StoreRefused(0xA700, "disk full")
        refusal.__cause__ = OSError(28, "No space left on device")
        for form in list(formsOf(refusal))[:3]:
            peer, connection = self.listen(store=self.store(open=form.event))
            self.send(connection, peer)
            form.release()
            connection.pump()
            self.assertEqual((peer.statuses, comment(peer.received[-1])), ([0xA700], "disk full"))
        self.assertLogged("'disk full' (ENOSPC)", 3)

    def test_nothingBeforeTheAnswer(self) -> None:
        """The data set waits, all of it, and is not lost."""
        waiting: Deferred[None] = Deferred()
        store = self.store()
        peer, connection = self.listen(self.events(OnStoreSetup=waiting), store)
        self.send(connection, peer, maximumLength=SMALL)
        self.assertEqual(self.log, ["OnStoreSetup"])
        waiting.callback(None)
        connection.pump()
        self.assertEqual((peer.statuses, store.sinks[0].data), ([0], DATA))

    def test_filesReally(self) -> None:
        """A path is taken as it is, a relative one from the working directory; its directories are made."""
        root = os.path.abspath(self.mktemp())
        for number, path in enumerate((os.path.abspath(self.mktemp()) + "/a/b.dcm", self.mktemp() + "/c/d")):
            files = fileStore(self, root)
            events = self.events(OnStoreSetup=path)
            peer, connection = self.listen(events, files=files)
            self.send(connection, peer)
            self.assertEqual(peer.statuses, [0])
            with open(path, "rb") as file:
                content = file.read()
            self.assertEqual(content[128:132] + content[-len(DATA) :], b"DICM" + DATA)
            self.assertEqual(events.calls[-1][1][0], os.path.abspath(path))
            self.assertEqual(os.listdir(root), [], number)


def fileStore(case: SynchronousTestCase, root: str, **settings: Any) -> FileStore:
    """Return a file store that does everything at once, in the thread of the test."""
    clock = Clock()
    store = FileStore(root, reactor=clock, seconds=clock.seconds, inPool=execute, **settings)
    store.start()
    case.addCleanup(lambda: case.successResultOf(store.stop()))
    return store


class DoneTests(ServiceTestCase):
    """Every answer of OnStoreDone, in every form."""

    def answered(self, answer: object, status: int, end: str) -> list[dict[int, bytes]]:
        """
        Send an object for each form of an answer; return the responses.

        :param end: what is done with the sink, before the response.
        """
        responses = []
        for form in formsOf(answer):
            events = self.events(OnStoreDone=form.event)
            store = self.store()
            peer, connection = self.listen(events, store)
            self.send(connection, peer)
            expected = ["OnStoreSetup", "open", "write", "finish", "OnStoreDone"]
            if form.name in ("Deferred", "coroutine"):
                self.assertEqual((self.log, peer.statuses), (expected, []), form.name)
            form.release()
            connection.pump()
            self.assertEqual(self.log, [*expected, end], (form.name, answer))
            self.assertEqual(peer.statuses, [status], (form.name, answer))
            self.assertEqual(events.calls[-1][1][:2], ("/fake/1.dcm", True))
            association = self.associationOf(peer)
            stored = end == "keep"
            self.assertEqual((association.objectsStored, association.objectsRefused), (stored, not stored))
            request = events.calls[-1][1][2]
            self.assertEqual(request.stored is not None, stored)
            refusal = request.refusal
            told = None if refusal is None else (refusal.status, refusal.comment)
            self.assertEqual(told, None if stored else (status, comment(peer.received[-1])))
            responses.append(peer.received[-1])
        return responses

    def test_confirmed(self) -> None:
        for answer in (True, None, 0, 0x0000):
            self.answered(answer, 0x0000, "keep")

    def test_warnings(self) -> None:
        for status in (0xB000, 0xB006, 0xB007, 0xBFFF):
            self.answered(status, status, "keep")

    def test_refused(self) -> None:
        for status in (0xA700, 0x0110, 0xC123, 0x0124, 0xFE00, 0x0002, 2, 0xFFFF):
            self.answered(status, status, "abort")

    def test_boolsAreNoNumbers(self) -> None:
        """False is C000, not 0; True is 0000, not 1."""
        self.answered(False, 0xC000, "abort")
        self.answered(True, 0x0000, "keep")

    def test_noStatus(self) -> None:
        """A700, and logged; the pending ones would have the sender wait for ever, the warnings delete its copy."""
        for answer, shown in (
            (70000, "70000"),
            (-1, "-1"),
            (0x10000, "65536"),
            (0xFF00, "65280"),
            (0xFF01, "65281"),
            (0x0001, "1"),
            (0x0107, "263"),
            (0x0116, "278"),
            ("0000", "str"),
            (b"", "bytes"),
            (0.0, "float"),
        ):
            for response in self.answered(answer, 0xA700, "abort"):
                self.assertEqual(comment(response), "internal error")
            self.assertLogged(f"OnStoreDone answered {shown}, which is no final status", 4)
            self.logged.clear()

    def test_refusal(self) -> None:
        refusal = StoreRefused(0xC0AB, "not wanted here", (0x00080060, 0x00100020))
        for response in self.answered(refusal, 0xC0AB, "abort"):
            self.assertEqual(comment(response), "not wanted here")
            self.assertEqual(response[OFFENDING_ELEMENT], bytes.fromhex("08006000 10002000"))

    def test_refusalThatKeeps(self) -> None:
        """A warning keeps the object however it is given; this way it may say more."""
        for response in self.answered(StoreRefused(0xB006, "private elements", (0x00091001,)), 0xB006, "keep"):
            self.assertEqual(comment(response), "private elements")
            self.assertEqual(response[OFFENDING_ELEMENT], bytes.fromhex("09000110"))

    def test_refusalThatIsPending(self) -> None:
        self.answered(StoreRefused(0xFF00), 0xA700, "abort")
        self.assertLogged("OnStoreDone: status FF00, which is no refusal", 4)

    def test_raises(self) -> None:
        for response in self.answered(KeyError("OnStoreDone"), 0xA700, "abort"):
            self.assertEqual(comment(response), "internal error")
        self.assertFailuresLogged(*[KeyError] * 4)

    def test_exits(self) -> None:
        """The reactor would swallow it: the sender would wait for ever, and the next one for the lock of this one."""
        for response in self.answered(SystemExit(3), 0xA700, "abort"):
            self.assertEqual(comment(response), "internal error")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError, SystemExit)), 4)

    def test_cancelledByTheApplication(self) -> None:
        waiting: Deferred[Any] = Deferred()
        peer, connection = self.listen(self.events(OnStoreDone=waiting))
        self.send(connection, peer)
        waiting.cancel()
        connection.pump()
        self.assertEqual((peer.statuses, comment(peer.received[-1])), ([0xA700], "cancelled"))
        self.assertEqual(self.log[-1], "abort")

    def test_undoneBeforeTheResponse(self) -> None:
        """The response waits until what is to be removed is."""
        removing: Deferred[None] = Deferred()
        peer, connection = self.listen(self.events(OnStoreDone=False), self.store(sink={"abort": removing}))
        self.send(connection, peer)
        self.assertEqual((self.log[-1], peer.statuses), ("abort", []))
        removing.callback(None)
        connection.pump()
        self.assertEqual(peer.statuses, [0xC000])

    def test_keptInMemory(self) -> None:
        """An object in memory has no file name, and can be taken while OnStoreDone is asked."""
        memory = MemoryStore()
        taken: list[Any] = []
        events = self.events(OnStoreDone=lambda *args: taken.append(memory.take()))
        peer, connection = self.listen(events, memory)
        self.send(connection, peer)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(events.calls[-1][1][:2], ("", True))
        self.assertEqual((taken[0].SOPInstanceUID, bytes(taken[0])[-len(DATA) :]), ("1.2.3", DATA))
        self.assertEqual(memory.bytesHeld, 0)


class IdentityTests(ServiceTestCase):
    """SOP class and instance of the data set are those of the command."""

    def refused(self, data: bytes, status: int) -> tuple[dict[int, bytes], bytes]:
        events = self.events()
        store = self.store()
        peer, connection = self.listen(events, store)
        before = len(peer.bytesReceived)
        self.send(connection, peer, data)
        self.assertEqual(peer.statuses, [status])
        self.assertEqual(
            [name for name in self.log if name != "write"], ["OnStoreSetup", "open", "abort", "OnStoreDone"]
        )
        filename, stored, request = events.calls[-1][1]
        self.assertEqual((filename, stored, request.stored), ("", False, None))
        self.assertIsNotNone(request.head)
        return peer.received[-1], bytes(peer.bytesReceived[before:])

    def test_class(self) -> None:
        response, raw = self.refused(dataSet(SOPClassUID=MR), 0xA900)
        self.assertEqual(comment(response), "SOP class is not the command's")
        # (0000,0901) AT, 4 bytes: group and element of SOP Class UID.
        self.assertIn(bytes.fromhex("0000 0109 04000000 0800 1600"), raw)

    def test_instance(self) -> None:
        response, raw = self.refused(dataSet("1.2.33"), 0xA900)
        self.assertEqual(comment(response), "SOP instance is not the command's")
        self.assertIn(bytes.fromhex("0000 0109 04000000 0800 1800"), raw)

    def test_missing(self) -> None:
        for data in (dataSet(""), dataSet(SOPClassUID="")):
            response, raw = self.refused(data, 0xC000)
            self.assertEqual(comment(response), "no SOP Class UID or no SOP Instance UID")
            self.assertNotIn(bytes.fromhex("0000 0109"), raw)

    def test_paddingIsNoDifference(self) -> None:
        for inCommand, inDataSet in ((b"1.2.3\0", "1.2.3 "), (b"1.2.3 ", "1.2.3\0\0\0"), (b"1.2.3\0 \0", "1.2.3")):
            peer, connection = self.listen()
            self.command(connection, peer, storeCommand(inCommand))
            self.data(connection, peer, dataSet(inDataSet))
            self.assertEqual(peer.statuses, [0])


class WholenessTests(ServiceTestCase):
    """What is certainly not whole is not acknowledged, and nothing of it is kept."""

    def refused(self, data: bytes) -> str:
        root = os.path.abspath(self.mktemp())
        peer, connection = self.listen(store=fileStore(self, root))
        self.send(connection, peer, data)
        self.assertEqual(peer.statuses, [0xC000])
        self.assertEqual(os.listdir(root), [])
        return comment(peer.received[-1])

    def test_empty(self) -> None:
        self.assertEqual(self.refused(b""), "no bytes")

    def test_cut(self) -> None:
        self.assertEqual(self.refused(DATA[:-2]), "value of (7FE0,0010) cut by 2 bytes")

    def test_aFileInside(self) -> None:
        self.assertEqual(self.refused(bytes(128) + b"DICM\2\0" + DATA), "a Part 10 file inside the data set")

    def test_commandElementsInside(self) -> None:
        self.assertEqual(self.refused(element0() + DATA), "group 0000 inside the data set")

    def test_tolerated(self) -> None:
        """An empty last fragment, and a last value without its pad byte."""
        peer, connection = self.listen()
        self.command(connection, peer, storeCommand())
        for isLast, piece in ((0, DATA[:-1]), (2, b"")):
            peer.send(pack(">BxLLBB", 4, len(piece) + 6, len(piece) + 2, STORAGE_CONTEXT, isLast) + piece)
        connection.pump()
        self.assertEqual(peer.statuses, [0])


def element0() -> bytes:
    return pack("<HH2sHH", 0x0000, 0x0100, b"US", 2, 1)


class WriteFailureTests(ServiceTestCase):
    """A sink that takes no more: the rest is drained, and the status says why."""

    cases = (
        (StoreRefused(0xA702, "quota"), 0xA702, "quota", 0),
        (OSError(28, "No space left on device"), 0xA700, "internal error", 1),
        (ZeroDivisionError("a sink"), 0xA700, "internal error", 1),
        (StoreRefused(0xB000), 0xA700, "internal error", 0),
    )

    def sendTo(self, sink: dict[str, Any], events: Any = None) -> tuple[ScriptedPeer, MemoryConnection, FakeStore]:
        store = self.store(sink=sink)
        peer, connection = self.listen(events, store)
        self.send(connection, peer, maximumLength=SMALL)
        return peer, connection, store

    def test_failing(self) -> None:
        for error, status, said, logged in self.cases:
            for answer in (error, lambda view, error=error: failed(error)):
                events = self.events()
                peer, connection, store = self.sendTo({"write": answer}, events)
                self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "abort", "OnStoreDone"], error)
                self.assertEqual(events.calls[-1][1][:2], ("", False))
                self.assertEqual((peer.statuses, comment(peer.received[-1])), ([status], said))
                self.assertEqual(len(self.flushLoggedErrors(type(error))), logged)
                store.answers.clear()
                store._makeSink = self.sink
                self.send(connection, peer, messageID=2)
                self.assertEqual(peer.statuses, [status, 0])
                association = self.associationOf(peer)
                self.assertEqual((association.objectsStored, association.objectsRefused), (1, 1))
                self.assertEqual(association.quirks, {}, "what was not read to its end has no quirks")

    def test_failingLater(self) -> None:
        """While a write is waited for nothing more is written; then it fails."""
        writing: Deferred[None] = Deferred()
        peer, connection, _ = self.sendTo({"write": writing})
        self.assertEqual(self.log, ["OnStoreSetup", "open", "write"])
        self.assertEqual(peer.statuses, [])
        writing.errback(StoreRefused(0xA7AA, "later"))
        connection.pump()
        self.assertEqual(self.log[3:], ["abort", "OnStoreDone"])
        self.assertEqual(peer.statuses, [0xA7AA])

    def test_waiting(self) -> None:
        """A sink that asks to wait gets every piece in order, one at a time."""
        waiting: list[Deferred[None]] = []

        def write(view: memoryview) -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        peer, connection, store = self.sendTo({"write": write})
        for turn in range(1, 100):
            self.assertEqual(len(waiting), turn)
            waiting[-1].callback(None)
            connection.pump()
            if peer.statuses:
                break
        self.assertEqual((peer.statuses, store.sinks[0].data), ([0], DATA))
        self.assertEqual(self.log.count("write"), len(waiting))

    def test_abortedOnceAndWaitedFor(self) -> None:
        """The sink is told at once; the response comes when it is through, and the data set has passed."""
        aborting: Deferred[None] = Deferred()
        store = self.store(sink={"write": ZeroDivisionError(), "abort": aborting})
        peer, connection = self.listen(store=store)
        self.command(connection, peer, storeCommand())
        peer.send(FIRST)
        connection.pump()
        self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "abort"])
        peer.send(REST)
        connection.pump()
        self.assertEqual((self.log[4:], peer.statuses), ([], []))
        aborting.callback(None)
        connection.pump()
        self.assertEqual((self.log[4:], peer.statuses), (["OnStoreDone"], [0xA700]))
        self.assertFailuresLogged(ZeroDivisionError)

    def test_lostWhileDraining(self) -> None:
        store = self.store(sink={"write": StoreRefused(0xA700)})
        peer, connection = self.listen(store=store)
        self.command(connection, peer, storeCommand())
        peer.send(FIRST)
        connection.pump()
        peer.abort()
        connection.pump()
        self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "abort", "OnStoreDone", "OnAssocEnd"])


class OutcomeTests(ServiceTestCase):
    def test_keptBesideAnother(self) -> None:
        """Somebody will want to know that one UID stands for two objects."""
        for outcome, said in (
            (Outcome.NEW, None),
            (Outcome.IDENTICAL, None),
            (Outcome.KEPT_BOTH, "kept beside it"),
            (Outcome.REPLACED, "replaced by this one"),
            (Outcome.KEPT_FIRST, "it stays and this one is dropped"),
        ):

            def finish(head: Head, outcome: Outcome = outcome) -> StoredObject:
                return StoredObject("/store/1.dcm", 1, head, outcome)

            peer, connection = self.listen(store=self.store(sink={"finish": finish}))
            self.send(connection, peer)
            self.assertEqual(peer.statuses, [0])
            lines = [line for line in self.logged if "another object has the UID" in line]
            self.logged.clear()
            self.assertEqual(len(lines), said is not None)
            if said is not None:
                self.assertIn(f"another object has the UID '1.2.3': {said} for <Association from 'PEER'", lines[0])


class FinishFailureTests(ServiceTestCase):
    """An object that cannot be made durable, or cannot be cleared away."""

    def test_failing(self) -> None:
        for error, status, said, logged in WriteFailureTests.cases:
            for answer in (error, lambda head, error=error: failed(error)):
                events = self.events()
                peer, connection = self.listen(events, self.store(sink={"finish": answer}))
                self.send(connection, peer)
                self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "finish", "abort", "OnStoreDone"], error)
                self.assertEqual(events.calls[-1][1][:2], ("", False))
                self.assertIsNone(events.calls[-1][1][2].stored)
                self.assertEqual((peer.statuses, comment(peer.received[-1])), ([status], said))
                self.assertEqual(len(self.flushLoggedErrors(type(error))), logged)
                self.send(connection, peer, messageID=2)
                self.assertEqual(len(peer.statuses), 2, "the association goes on")
                self.flushLoggedErrors(type(error))

    def test_atOnce(self) -> None:
        """A sink may answer without a Deferred."""

        class QuickSink(FakeSink):
            def finish(self, head: Head) -> StoredObject:
                super().finish(head)
                return self.storedObject()

        events = self.events()
        store = FakeStore(self.log, lambda: QuickSink(self.log))
        peer, connection = self.listen(events, store)
        self.send(connection, peer)
        self.assertEqual(self.log[2:], ["write", "finish", "OnStoreDone", "keep"])
        self.assertEqual((peer.statuses, events.calls[-1][1][:2]), ([0], ("/fake/1.dcm", True)))

    def test_withSomethingElse(self) -> None:
        """An answer that tells of no object is a mistake of the sink; the association goes on."""
        answers = (
            (lambda head: None, "NoneType"),
            (lambda head: "/a/file", "str"),
            (lambda head: succeed(None), "NoneType"),
            (lambda head: succeed("/a/file"), "str"),
        )
        for answer, name in answers:
            peer, connection = self.listen(store=self.store(sink={"finish": answer}))
            self.send(connection, peer)
            self.assertEqual(self.log[2:], ["write", "finish", "abort", "OnStoreDone"])
            self.assertEqual(peer.statuses, [0xA700])
            (failure,) = self.flushLoggedErrors(TypeError)
            self.assertEqual(str(failure.value), f"a sink finished with {name}")
            peer.echo()
            connection.pump()
            self.assertEqual(peer.statuses, [0xA700, 0])

    def test_causeIsLogged(self) -> None:
        refusal = StoreRefused(0xA700, "i/o error")
        refusal.__cause__ = OSError(5, "Input/output error", "/store/DOE^JANE/1.2.dcm")
        peer, connection = self.listen(store=self.store(sink={"finish": refusal}))
        self.send(connection, peer)
        self.assertEqual((peer.statuses, comment(peer.received[-1])), ([0xA700], "i/o error"))
        self.assertLogged("the store: 'i/o error' (EIO)")
        self.assertLogged("JANE", 0)

    def test_commentIsEscaped(self) -> None:
        """What an application says stands in one printable line."""
        peer, connection = self.listen(store=self.store(sink={"finish": StoreRefused(0xA700, "a\r\nb\x1b[0m")}))
        self.send(connection, peer)
        self.assertLogged(r"A700 ('a\r\nb\x1b[0m')")

    def test_clearingFails(self) -> None:
        """Logged, told and answered as if it had not."""
        for answer in (OSError(5, "abort"), lambda: failed(OSError(5, "abort"))):
            for cause, status, calls in (
                ({"write": StoreRefused(0xA701)}, 0xA701, ["write", "abort", "OnStoreDone"]),
                ({"finish": StoreRefused(0xA701)}, 0xA701, ["write", "finish", "abort", "OnStoreDone"]),
                ({}, 0xC000, ["write", "finish", "OnStoreDone", "abort"]),
            ):
                events = self.events(OnStoreDone=False)
                peer, connection = self.listen(events, self.store(sink={"abort": answer, **cause}))
                self.send(connection, peer)
                self.assertEqual(self.log[2:], calls)
                self.assertEqual(peer.statuses, [status])
                self.assertFailuresLogged(OSError)
                self.assertLogged("clearing up after an object failed")
                self.logged.clear()

    def test_keepingFails(self) -> None:
        """The sink's word is what the sender is told: it is cleared away, and OnStoreDone is not asked again."""
        for error, status, logged in ((StoreRefused(0xA703), 0xA703, 0), (ZeroDivisionError(), 0xA700, 1)):
            peer, connection = self.listen(store=self.store(sink={"keep": error}))
            self.send(connection, peer)
            self.assertEqual(self.log[2:], ["write", "finish", "OnStoreDone", "keep", "abort"])
            self.assertEqual(peer.statuses, [status])
            self.assertEqual(len(self.flushLoggedErrors(type(error))), logged)
            association = self.associationOf(peer)
            self.assertEqual((association.objectsStored, association.objectsRefused), (0, 1))

    def test_answerIsIgnored(self) -> None:
        """That of OnStoreDone, where reception failed; it is waited for."""
        for answer in (True, 0, 0xB000, 0xC001, StoreRefused(0xC002), None):
            for form in formsOf(answer):
                events = self.events(OnStoreDone=form.event)
                peer, connection = self.listen(events)
                self.send(connection, peer, DATA[:-2])
                waits = form.name in ("Deferred", "coroutine")
                self.assertEqual(peer.statuses, [] if waits else [0xC000])
                form.release()
                connection.pump()
                self.assertEqual(peer.statuses, [0xC000])
                self.assertEqual(self.log[-2:], ["abort", "OnStoreDone"])
        self.assertFailuresLogged()

    def test_eventFails(self) -> None:
        for form in formsOf(KeyError("OnStoreDone")):
            peer, connection = self.listen(self.events(OnStoreDone=form.event))
            self.send(connection, peer, DATA[:-2])
            form.release()
            connection.pump()
            self.assertEqual(peer.statuses, [0xC000])
            self.assertFailuresLogged(KeyError)


class ParticipantTests(ServiceTestCase):
    """Those between the store and OnStoreDone."""

    def test_told(self) -> None:
        events = self.events()
        participant = FakeParticipant(self.log, "index")
        peer, connection = self.listen(events, participants=[participant])
        self.send(connection, peer)
        ((stored, request),) = participant.told
        self.assertEqual(stored.filename, "/fake/1.dcm")
        self.assertIs(request, events.calls[-1][1][2])
        self.assertIs(events.calls[-1][1][2].stored, stored)

    def test_waitedFor(self) -> None:
        first: Deferred[None] = Deferred()
        participants = [FakeParticipant(self.log, "first", first), FakeParticipant(self.log, "second", succeed(None))]
        peer, connection = self.listen(participants=participants)
        self.send(connection, peer)
        self.assertEqual(self.log[3:], ["finish", "first"])
        first.callback(None)
        connection.pump()
        self.assertEqual(self.log[5:], ["second", "OnStoreDone", "keep"])
        self.assertEqual(peer.statuses, [0])

    def test_refusing(self) -> None:
        """What comes behind is not told; the object goes, and OnStoreDone hears that it did."""
        for error, status, said, logged in WriteFailureTests.cases:
            for answer in (error, failed(error)):
                events = self.events()
                participants = [FakeParticipant(self.log, "first", answer), FakeParticipant(self.log, "second")]
                peer, connection = self.listen(events, participants=participants)
                self.send(connection, peer)
                self.assertEqual(self.log[3:], ["finish", "first", "abort", "OnStoreDone"])
                filename, stored, request = events.calls[-1][1]
                self.assertEqual((filename, stored, request.stored), ("", False, None))
                self.assertEqual((peer.statuses, comment(peer.received[-1])), ([status], said))
                self.assertEqual(len(self.flushLoggedErrors(type(error))), logged)
        self.assertLogged("a participant failed", 4)


class LostTests(ServiceTestCase):
    """The association ends at each stage: before the last fragment all is undone, after it nothing is."""

    def ways(self) -> dict[str, Callable[[ScriptedPeer], object]]:
        return {
            "abort": lambda peer: peer.abort(),
            "close": lambda peer: peer.transport.loseConnection(),
            "reset": lambda peer: peer.transport.abortConnection(),
        }

    def end(self, peer: ScriptedPeer, connection: MemoryConnection, end: Callable[[ScriptedPeer], object]) -> None:
        end(peer)
        connection.pump()
        self.assertIsNotNone(connection.server.closed)

    def test_setup(self) -> None:
        """What OnStoreSetup waits for is cancelled; nothing follows but the end."""
        for name, end in self.ways().items():
            cancelled: list[object] = []
            waiting: Deferred[Any] = Deferred(cancelled.append)
            events = self.events(OnStoreSetup=waiting)
            peer, connection = self.listen(events)
            self.command(connection, peer, storeCommand())
            self.end(peer, connection, end)
            self.assertEqual(cancelled, [waiting], name)
            self.assertEqual(self.log, ["OnStoreSetup", "OnAssocEnd"], name)
            self.assertEqual(events.calls[-1][1][1], "aborted" if name == "abort" else "lost")
            self.assertEqual(peer.statuses, [])

    def test_setupCoroutine(self) -> None:
        """A coroutine is cancelled where it waits, and may clear up."""
        waiting: Deferred[None] = Deferred()
        seen: list[str] = []

        async def OnStoreSetup(filename: str, request: Any) -> None:
            try:
                await waiting
            finally:
                seen.append("cleared up")

        peer, connection = self.listen(self.events(OnStoreSetup=OnStoreSetup))
        self.command(connection, peer, storeCommand())
        self.end(peer, connection, self.ways()["abort"])
        self.assertEqual((seen, self.log), (["cleared up"], ["OnStoreSetup", "OnAssocEnd"]))

    def test_setupThatAnswersWhenCancelled(self) -> None:
        """What was opened is closed."""
        sink = self.sink()
        waiting: Deferred[Any] = Deferred(lambda deferred: deferred.callback(sink))
        peer, connection = self.listen(self.events(OnStoreSetup=waiting))
        self.command(connection, peer, storeCommand())
        self.end(peer, connection, self.ways()["reset"])
        self.assertEqual(self.log, ["OnStoreSetup", "abort", "OnStoreDone", "OnAssocEnd"])

    def test_opening(self) -> None:
        for name, end in self.ways().items():
            cancelled: list[object] = []
            opening: Deferred[Any] = Deferred(cancelled.append)
            peer, connection = self.listen(store=self.store(open=opening))
            self.command(connection, peer, storeCommand())
            self.end(peer, connection, end)
            self.assertEqual(cancelled, [opening], name)
            self.assertEqual(self.log, ["OnStoreSetup", "open", "OnStoreDone", "OnAssocEnd"])

    def test_refusedData(self) -> None:
        for name, end in self.ways().items():
            peer, connection = self.listen(self.events(OnStoreSetup=StoreRefused(0xA700)))
            self.command(connection, peer, storeCommand())
            self.end(peer, connection, end)
            self.assertEqual(self.log, ["OnStoreSetup", "OnAssocEnd"], name)

    def partly(self, **answers: Any) -> tuple[ScriptedPeer, MemoryConnection]:
        events = self.events()
        peer, connection = self.listen(events, self.store(sink=answers))
        self.command(connection, peer, storeCommand())
        peer.send(FIRST)
        connection.pump()
        return peer, connection

    def test_insideTheDataSet(self) -> None:
        for name, end in self.ways().items():
            peer, connection = self.partly()
            association = self.associationOf(peer)
            self.end(peer, connection, end)
            self.assertEqual(
                [call for call in self.log if call != "write"],
                ["OnStoreSetup", "open", "abort", "OnStoreDone", "OnAssocEnd"],
                name,
            )
            self.assertEqual(peer.statuses, [])
            self.assertEqual(association.bytesReceived, 3 * (SMALL - 6))
            self.assertEqual(association.quirks, {}, "what was not read to its end has no quirks")
            self.assertEqual((association.objectsStored, association.objectsRefused), (0, 1))

    def test_insideTheDataSetByRelease(self) -> None:
        """A release there is no way to complete an object."""
        peer, connection = self.listen()
        self.command(connection, peer, storeCommand())
        peer.send(FIRST)
        peer.release()
        connection.pump()
        self.assertEqual(
            [call for call in self.log if call != "write"],
            ["OnStoreSetup", "open", "abort", "OnStoreDone", "OnAssocEnd"],
        )
        self.assertTrue(peer.released)
        self.assertEqual(peer.statuses, [])

    def test_writing(self) -> None:
        """The write that is under way is cancelled, then all is undone; what still comes of it does not matter."""
        for end in self.ways().values():
            for outcome in (None, StoreRefused(0xA700)):
                writing: Deferred[None] = Deferred()
                store = self.store(sink={"write": writing})
                peer, connection = self.listen(store=store)
                self.command(connection, peer, storeCommand())
                peer.send(FRAGMENTS[: SMALL + 6])
                connection.pump()
                self.end(peer, connection, end)
                self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "abort", "OnStoreDone", "OnAssocEnd"])
                writing.errback(outcome) if outcome else writing.callback(None)
                connection.pump()
                self.assertEqual(len(self.log), 6)

    def test_finishing(self) -> None:
        """Wholly received: it is stored, and kept if the application says so, though nobody is told."""
        for name, end in self.ways().items():
            finishing: Deferred[StoredObject] = Deferred()
            store = self.store(sink={"finish": finishing})
            peer, connection = self.listen(store=store)
            self.send(connection, peer)
            association = self.associationOf(peer)
            self.end(peer, connection, end)
            self.assertEqual(self.log, ["OnStoreSetup", "open", "write", "finish"], name)
            finishing.callback(store.sinks[0].storedObject())
            connection.pump()
            self.assertEqual(self.log[4:], ["OnStoreDone", "keep", "OnAssocEnd"])
            self.assertEqual((peer.statuses, association.objectsStored), ([], 1))

    def test_participating(self) -> None:
        for end in self.ways().values():
            waiting: Deferred[None] = Deferred()
            peer, connection = self.listen(participants=[FakeParticipant(self.log, "index", waiting)])
            self.send(connection, peer)
            self.end(peer, connection, end)
            waiting.callback(None)
            connection.pump()
            self.assertEqual(self.log[4:], ["index", "OnStoreDone", "keep", "OnAssocEnd"])

    def test_deciding(self) -> None:
        for end in self.ways().values():
            for answer, done in ((True, "keep"), (0xB000, "keep"), (False, "abort")):
                waiting: Deferred[Any] = Deferred()
                peer, connection = self.listen(self.events(OnStoreDone=waiting))
                self.send(connection, peer)
                self.end(peer, connection, end)
                self.assertEqual(self.log[4:], ["OnStoreDone"])
                waiting.callback(answer)
                connection.pump()
                self.assertEqual(self.log[5:], [done, "OnAssocEnd"])
                self.assertEqual(peer.statuses, [])

    def test_clearing(self) -> None:
        """The end is told when all is cleared away."""
        aborting: Deferred[None] = Deferred()
        peer, connection = self.partly(abort=aborting)
        self.end(peer, connection, self.ways()["abort"])
        self.assertEqual(self.log[-1], "abort")
        aborting.callback(None)
        self.assertEqual(self.log[-2:], ["OnStoreDone", "OnAssocEnd"])

    def test_deadline(self) -> None:
        """A stalled peer costs nothing but time."""
        _, connection = self.partly()
        self.listener.clock.advance(60)
        connection.pump()
        self.assertEqual(
            [call for call in self.log if call != "write"],
            ["OnStoreSetup", "open", "abort", "OnStoreDone", "OnTimeout", "OnAssocEnd"],
        )


class CutTests(ServiceTestCase):
    """However the bytes come, the object and the answer are the same."""

    def test_byteByByte(self) -> None:
        store = self.store()
        peer, connection = self.listen(store=store)
        connection.server.cuts = iter([1] * 10000)
        self.send(connection, peer, maximumLength=SMALL)
        self.assertEqual((peer.statuses, store.sinks[0].data), ([0], DATA))

    def test_manyPipelined(self) -> None:
        """Sent without waiting: answered in order, one after the other."""
        store = self.store()
        peer, connection = self.listen(store=store)
        for number in range(1, 51):
            uid = f"1.2.3.{number}"
            peer.store(dataSet(uid), uid, messageID=number)
        connection.pump()
        self.assertEqual(peer.statuses, [0] * 50)
        answered = [int.from_bytes(response[0x0120], "little") for response in peer.received[1:]]
        self.assertEqual(answered, list(range(1, 51)))
        self.assertEqual([sink.data for sink in store.sinks], [dataSet(f"1.2.3.{n}") for n in range(1, 51)])
        self.assertIsInstance(store.sinks[0], FakeSink)
