"""
Tests for the file store: names, duplicates, and what is left behind.
"""

from __future__ import annotations

import fcntl
import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dcxtwisted.configuration import Duplicates
from dcxtwisted.errors import LocalProtocolError, StoreRefused
from dcxtwisted.interfaces import IFileStore, Outcome
from dcxtwisted.stores import standing
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.layout import Layout
from dcxtwisted.testing.stores import StoreAssociation, StoreContract, StoreRequest, dataSet, headOf, storedBy
from tests.stores.filestores import DATA, LONGER, NAME, OTHER, FileStoreTestCase, ManualPool, diskFull


class _FileStoreContract(StoreContract):
    durable = True
    unnamedFiles = True
    duplicates = Duplicates.KEEP_BOTH

    def makeStore(self) -> FileStore:
        store = FileStore(
            self.mktemp(),  # type: ignore[attr-defined]  # trial's
            durable=self.durable,
            duplicates=self.duplicates,
            unnamedFiles=self.unnamedFiles,
            reactor=reactor,
        )
        store.start()
        self.addCleanup(store.stop)
        return store

    async def filesIn(self, store: Any) -> list[bytes]:
        # What is removed in a thread, because the disk was slow, is gone then.
        await store.stop()
        paths = [os.path.join(where, name) for where, _, names in os.walk(store.root) for name in names]
        found = []
        for path in paths:
            self.assertNotIn(".incoming", path)
            with open(path, "rb") as file:
                found.append(file.read())
        return found


class DurableContractTests(_FileStoreContract, TestCase):
    """The file store does what every store does, with threads and a disk."""

    timeout = 60


class QuickContractTests(_FileStoreContract, TestCase):
    """So it does without synchronizing."""

    timeout = 60
    durable = False


class WorkingDirectoryContractTests(_FileStoreContract, TestCase):
    """So it does where the file system has no unnamed files."""

    timeout = 60
    unnamedFiles = False


class NameTests(FileStoreTestCase):
    """Where objects stand."""

    def test_interface(self) -> None:
        verifyObject(IFileStore, self.makeStore())

    def test_file(self) -> None:
        """An object stands where the layout says, with our file meta before the bytes received."""
        store = self.makeStore()
        request = StoreRequest("1.2.3")
        stored = self.put(store, request=request)
        self.assertEqual(stored.filename, os.path.join(self.root, NAME))
        self.assertEqual((stored.size, stored.outcome), (len(DATA), Outcome.NEW))
        self.assertEqual(self.content(), leadOf(request) + DATA)
        self.assertEqual(self.files(), [NAME])

    def test_layout(self) -> None:
        """Another layout gives other names, from the data set and the association."""
        store = self.makeStore(layout=Layout("{callingAETitle}/{PatientID}-{SOPInstanceUID}"))
        self.put(store)
        self.assertEqual(self.files(), ["SENDER/P1-1.2.3"])

    def test_hostileValues(self) -> None:
        """What a peer sends does not lead out of the store."""
        store = self.makeStore(layout=Layout("{StudyInstanceUID}/{PatientID}/{SOPInstanceUID}"))
        self.put(store, dataSet("1.2.3", StudyInstanceUID="../..", PatientID="/etc"))
        self.assertEqual(self.files(), ["%2E.%2F../%2Fetc/1.2.3"])

    def test_mode(self) -> None:
        """Files are as readable as the umask says."""
        self.addCleanup(os.umask, os.umask(0o027))
        store = self.makeStore()
        self.assertEqual(os.stat(self.put(store).filename).st_mode & 0o7777, 0o640)

    def test_nothingBefore(self) -> None:
        """Nothing has a name while an object is received."""
        store = self.makeStore()
        sink = self.receive(store)
        self.assertEqual([name for name in self.files() if ".incoming" not in name], [])
        self.successResultOf(sink.abort())
        self.assertEqual(self.files(), [])

    def test_noData(self) -> None:
        """The file meta stands before no data, too."""
        store = self.makeStore()
        request = StoreRequest("1.2.3")
        sink = self.openSink(store, request)
        self.assertEqual(self.finish(sink).size, 0)
        sink.keep()
        self.assertEqual(self.content(), leadOf(request))

    def test_shortWrites(self) -> None:
        """A system that writes less than it was given is given the rest, wherever it stops."""
        store = self.makeStore()
        request = StoreRequest("1.2.3")
        whole = leadOf(request) + DATA
        write, writev = os.write, os.writev
        for first in (1, 131, len(whole) - len(DATA), len(whole) - len(DATA) + 1, len(whole) - 1):
            self.patch(os, "writev", lambda fd, parts, first=first: writev(fd, [b"".join(parts)[:first]]))
            self.patch(os, "write", lambda fd, data: write(fd, data[:100]))
            stored = self.put(store, DATA + DATA, request=request, at=os.path.join(self.root, str(first)))
            self.assertEqual(self.content(stored.filename), whole + DATA)
            sink = self.receive(store, DATA, request=request)
            self.assertIsNone(sink.write(memoryview(DATA)))
            self.finish(sink, DATA)
            self.assertEqual(self.content(), whole + DATA)
            self.successResultOf(sink.abort())

    def test_nothingWritten(self) -> None:
        """A system that writes nothing at all, and says so, is not asked for ever."""
        self.withoutBuffers()
        sink = self.receive(self.makeStore())
        self.patch(os, "write", lambda fd, data: 0)
        error = self.assertRaises(StoreRefused, sink.write, memoryview(DATA))
        self.assertRefusal(error, "i/o error", error.__cause__)
        self.successResultOf(sink.abort())

    def test_openAt(self) -> None:
        """An object stands exactly where the application wants it; the directories are made."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        for at in (
            os.path.join(outside, "a", "b.x"),
            os.path.join(outside, "a", "c"),
            os.path.join(self.root, "d", "e"),
        ):
            stored = self.put(store, at=at)
            self.assertEqual((stored.filename, stored.outcome), (at, Outcome.NEW))
            self.assertEqual(self.content(at), leadOf(StoreRequest("1.2.3")) + DATA)
        self.assertEqual(self.files(outside), ["a/b.x", "a/c"])
        self.assertEqual(sorted(os.listdir(os.path.join(outside, "a"))), ["b.x", "c"])

    def test_openAtRelative(self) -> None:
        """A relative path is one of the working directory, and told as absolute."""
        name = self.mktemp()
        self.assertEqual(self.put(self.makeStore(), at=name).filename, os.path.abspath(name))

    def test_openAtADirectory(self) -> None:
        """A path where a directory stands is no place for an object, nor is the name beside it."""
        refused = self.assertRaises(StoreRefused, self.makeStore().openAt, self.root, StoreRequest())
        self.assertEqual((refused.status, refused.comment), (0xA700, "a directory stands at the path"))

    def test_openAtTaken(self) -> None:
        """Another object under the application's own name is kept, too."""
        store = self.makeStore()
        at = os.path.abspath(self.mktemp()) + "/x.y.dcm"
        self.assertEqual(
            [self.put(store, data, at=at).outcome for data in (DATA, DATA)], [Outcome.NEW, Outcome.IDENTICAL]
        )
        stored = self.put(store, OTHER, at=at)
        self.assertEqual((stored.outcome, stored.filename), (Outcome.KEPT_BOTH, at[:-4] + "~1.dcm"))

    def test_directoryGone(self) -> None:
        """Directories that an application removed are made again."""
        store = self.makeStore()
        for _ in range(2):
            stored = self.put(store)
            os.unlink(stored.filename)
            os.removedirs(os.path.dirname(stored.filename))
            os.makedirs(self.root, exist_ok=True)
        self.assertEqual(self.put(store).outcome, Outcome.NEW)

    def test_fileForDirectory(self) -> None:
        """A file where a directory should be is left, and the object refused."""
        store = self.makeStore()
        for name in ("1.2.4", "1.2.4/1.2.5"):
            with open(os.path.join(self.root, name), "w"):
                pass
            error = self.failureResultOf(storedBy(self.receive(store), headOf(DATA)), StoreRefused).value
            self.assertRefusal(error, "no such directory", error.__cause__)
            self.assertEqual(self.files(), [name])
            os.unlink(os.path.join(self.root, name))
            os.makedirs(os.path.join(self.root, "1.2.4"), exist_ok=True)

    def test_linkForDirectory(self) -> None:
        """So is a symbolic link that leads nowhere."""
        store = self.makeStore()
        os.symlink("/nowhere/at/all", os.path.join(self.root, "1.2.4"))
        error = self.failureResultOf(storedBy(self.receive(store), headOf(DATA)), StoreRefused).value
        self.assertRefusal(error, "no such directory", error.__cause__)
        self.assertTrue(os.path.islink(os.path.join(self.root, "1.2.4")))

    def test_directoryAlwaysGone(self) -> None:
        """Directories that go as soon as they are made are given up."""
        store = self.makeStore()
        sink = self.receive(store)
        made: list[str] = []
        patch = self.patch(os, "mkdir", made.append)
        error = self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused).value
        patch.restore()
        self.assertRefusal(error, "no such directory", error.__cause__)
        self.assertEqual(made, [os.path.dirname(os.path.join(self.root, NAME))] * 5)

    def test_nameTooLong(self) -> None:
        """A name that the file system does not take is a refusal like any other."""
        store = self.makeStore()
        sink = self.receive(store, at=os.path.join(self.root, "x" * 256))
        error = self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused).value
        self.assertRefusal(error, "file name too long", error.__cause__)

    def test_rootGone(self) -> None:
        """A root that went away (a disk that is not mounted any more) is not made again."""
        store = self.makeStore()
        os.rename(self.root, self.root + "-gone")
        self.addCleanup(os.rename, self.root + "-gone", self.root)
        error = self.assertRaises(StoreRefused, store.open, StoreRequest())
        self.assertRefusal(error, "no such directory", error.__cause__)
        self.assertFalse(os.path.exists(self.root))


class OtherUIDsTests(FileStoreTestCase):
    """Objects whose data set is not what the command announced, where that is tolerated."""

    def assertStored(self, request: StoreRequest, data: bytes, name: str) -> None:
        """Store an object and assert that its file names what the data set does."""
        stored = self.put(self.store, data, request=request)
        self.assertEqual((stored.filename, stored.size), (os.path.join(self.root, name), len(data)))
        head = headOf(data)
        as_ = StoreRequest(head.SOPInstanceUID, head.SOPClassUID)
        self.assertEqual(self.content(name), leadOf(as_) + data)

    def setUp(self) -> None:
        super().setUp()
        self.store = self.makeStore()

    def test_longerAndShorter(self) -> None:
        """File meta and path follow the data set, whatever lengths are to be made up for."""
        for uid in ("1", "1.2.3", "1.2.4", "1.2.3.4.5", "1." + "2" * 62):
            for command in ("1.2.3", "1.2.4", "1." + "3" * 62, "1" * 500):
                data = dataSet(uid, StudyInstanceUID="1.2.4", SeriesInstanceUID=f"1.{len(command)}.{command[-1]}")
                name = f"1.2.4/1.{len(command)}.{command[-1]}/{uid}.dcm"
                self.assertStored(StoreRequest(command), data, name)

    def test_large(self) -> None:
        """Of several blocks, the last one not whole; written short, too."""
        pwrite = os.pwrite
        for limit in (1 << 30, 700_001):
            self.patch(os, "pwrite", lambda fd, data, at, limit=limit: pwrite(fd, data[:limit], at))
            for command in ("1", "1." + "2" * 62):
                fill = bytes(range(256)) * 16384
                data = dataSet("1.2.3", SeriesInstanceUID=f"{limit}.{command[-1]}", size=1) + fill[:3_500_000]
                self.assertStored(StoreRequest(command), data, f"1.2.826.0.1.2/{limit}.{command[-1]}/1.2.3.dcm")

    def test_replacing(self) -> None:
        """It is the UID of the data set that says which object is another one of the same."""
        store = self.makeStore(duplicates=Duplicates.REPLACE)
        self.put(store, request=StoreRequest("1.2.3"))
        self.assertEqual(self.put(store, OTHER, request=StoreRequest("1.9")).outcome, Outcome.REPLACED)
        self.assertEqual(self.files(), [NAME])
        self.assertEqual(self.content(), leadOf(StoreRequest("1.2.3")) + OTHER)

    def test_class(self) -> None:
        self.assertStored(StoreRequest("1.2.3", "1.2.840.10008.5.1.4.1.1.2"), DATA, NAME)

    def test_identical(self) -> None:
        """The same object under another announcement is the same object."""
        self.put(self.store, request=StoreRequest("1.2.3"))
        self.assertEqual(self.put(self.store, request=StoreRequest("1.9")).outcome, Outcome.IDENTICAL)
        self.assertEqual(self.put(self.store, OTHER, request=StoreRequest("1.9")).outcome, Outcome.KEPT_BOTH)
        self.assertEqual(self.files(), [NAME, NAME.replace(".dcm", "~1.dcm")])
        for name in self.files():
            self.assertTrue(self.content(name).startswith(leadOf(StoreRequest("1.2.3"))))

    def test_noData(self) -> None:
        sink = self.openSink(self.store, StoreRequest("1.2.3.4"))
        self.assertEqual(self.finish(sink).size, 0)
        sink.keep()
        self.assertEqual(self.content(), leadOf(StoreRequest("1.2.3")))

    def test_failing(self) -> None:
        """Nothing is left, and the sender is told that it was the disk."""
        failures: list[Any] = [lambda *args: 0, lambda *args: self.raiseFull()]
        for fake in failures:
            sink = self.receive(self.store, request=StoreRequest("1.2.3.4"))
            patch = self.patch(os, "pwrite", fake)
            error = self.failureResultOf(storedBy(sink, headOf(DATA)), StoreRefused).value
            patch.restore()
            self.assertEqual(error.status, 0xA700)
            self.assertEqual(self.files(), [])

    def raiseFull(self) -> None:
        raise diskFull()

    def test_abort(self) -> None:
        """While it is being rewritten: nothing is published."""
        pool = ManualPool()
        store = self.makeStore(inPool=pool)
        pool.runAll()
        sink = self.receive(store, request=StoreRequest("1.2.3.4"))
        finishing = storedBy(sink, headOf(DATA))
        aborting = sink.abort()
        pool.runAll()
        self.failureResultOf(finishing, StoreRefused)
        self.successResultOf(aborting)
        self.assertEqual(self.files(), [])
        stopping = store.stop()
        pool.runAll()
        self.successResultOf(stopping)


class WorkingDirectoryOtherUIDsTests(OtherUIDsTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickOtherUIDsTests(OtherUIDsTests):
    """The same without synchronizing."""

    durable = False


class StartTests(FileStoreTestCase):
    """Starting a store."""

    def test_twice(self) -> None:
        """A store that runs is not started again."""
        pool = ManualPool()
        store = self.makeStore(inPool=pool)
        store.start()
        self.assertEqual(len(pool.jobs), 1)
        pool.runAll()


class WorkingDirectoryNameTests(NameTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickNameTests(NameTests):
    """The same without synchronizing."""

    durable = False


class DuplicateTests(FileStoreTestCase):
    """More than one object under one name."""

    def test_identical(self) -> None:
        """The same object again is the one that stands there, whoever sends it."""
        store = self.makeStore()
        first = self.put(store)
        before = os.stat(first.filename)
        association = StoreAssociation()
        association.callingAETitle = "SOMEBODYELSE"
        again = self.put(store, request=StoreRequest("1.2.3", association=association))
        self.assertEqual((again.outcome, again.filename, again.size), (Outcome.IDENTICAL, first.filename, len(DATA)))
        self.assertEqual(os.stat(first.filename).st_ino, before.st_ino)
        self.assertEqual(os.stat(first.filename).st_mtime_ns, before.st_mtime_ns)
        self.assertEqual(self.files(), [NAME])

    def test_keptBoth(self) -> None:
        """Other bytes get a name of their own, and the same again find it."""
        store = self.makeStore()
        outcomes = [self.put(store, data) for data in (DATA, OTHER, LONGER, OTHER, LONGER, DATA)]
        self.assertEqual(
            [(stored.outcome, os.path.basename(stored.filename)) for stored in outcomes],
            [
                (Outcome.NEW, "1.2.3.dcm"),
                (Outcome.KEPT_BOTH, "1.2.3~1.dcm"),
                (Outcome.KEPT_BOTH, "1.2.3~2.dcm"),
                (Outcome.IDENTICAL, "1.2.3~1.dcm"),
                (Outcome.IDENTICAL, "1.2.3~2.dcm"),
                (Outcome.IDENTICAL, "1.2.3.dcm"),
            ],
        )
        for name, data in (("1.2.3", DATA), ("1.2.3~1", OTHER), ("1.2.3~2", LONGER)):
            self.assertEqual(self.content(f"1.2.4/1.2.5/{name}.dcm"), leadOf(StoreRequest("1.2.3")) + data)

    def test_difference(self) -> None:
        """One bit far inside a large object makes another object of it."""
        store = self.makeStore()
        large = bytearray(dataSet("1.2.3", size=3 << 20, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5"))
        self.put(store, bytes(large))
        self.assertEqual(self.put(store, bytes(large)).outcome, Outcome.IDENTICAL)
        for position in (-1, -(1 << 20), -(2 << 20) - 1):
            changed = bytearray(large)
            changed[position] ^= 1
            self.assertEqual(self.put(store, bytes(changed)).outcome, Outcome.KEPT_BOTH)

    def test_otherTransferSyntax(self) -> None:
        """The same bytes in another transfer syntax are another object."""
        store = self.makeStore()
        self.put(store)
        stored = self.put(store, request=StoreRequest("1.2.3", transferSyntaxUID="1.2.840.10008.1.2.4.50"))
        self.assertEqual(stored.outcome, Outcome.KEPT_BOTH)

    def test_tooMany(self) -> None:
        """The names for one UID come to an end; nothing is left of the object too much."""
        self.patch(standing, "_MOST_VARIANTS", 3)
        store = self.makeStore()
        for fill in (b"1", b"2", b"3"):
            self.put(store, dataSet("1.2.3", fill=fill))
        before = self.files()
        data = dataSet("1.2.3", fill=b"4")
        error = self.failureResultOf(storedBy(self.receive(store, data), headOf(data)), StoreRefused).value
        self.assertEqual((error.status, error.comment), (0xC000, "too many different objects with this UID"))
        self.assertEqual(self.files(), before)

    def test_notOurs(self) -> None:
        """What else stands under a name is neither followed, nor changed, nor waited for."""
        store = self.makeStore()
        final = os.path.join(self.root, NAME)
        os.makedirs(os.path.dirname(final))
        outside = os.path.join(self.mktemp())
        stored = self.put(store, at=outside)
        for make in (
            lambda: os.symlink(stored.filename, final),  # even to the very same object
            lambda: os.symlink("/nowhere/at/all", final),
            lambda: os.symlink(final, final),
            lambda: os.mkdir(final),
            lambda: os.mkfifo(final),
            lambda: write(final, b""),
            lambda: write(final, b"not DICOM at all" * 100),
            lambda: write(final, bytes(128) + b"DICM" + bytes(100)),
            lambda: write(final, self.content(stored.filename)[:-1]),
            lambda: write(final, self.content(stored.filename) + b"\0"),
        ):
            make()
            before = os.lstat(final)
            sink = self.receive(store)
            kept = self.finish(sink)
            self.assertEqual((kept.outcome, os.path.basename(kept.filename)), (Outcome.KEPT_BOTH, "1.2.3~1.dcm"))
            after = os.lstat(final)
            self.assertEqual(
                (after.st_ino, after.st_mtime_ns, after.st_size), (before.st_ino, before.st_mtime_ns, before.st_size)
            )
            self.successResultOf(sink.abort())
            (os.rmdir if os.path.isdir(final) and not os.path.islink(final) else os.unlink)(final)
        self.assertEqual(self.content(stored.filename), leadOf(StoreRequest("1.2.3")) + DATA)

    def test_unreadable(self) -> None:
        """A file that may not be read is another object."""
        store = self.makeStore()
        stored = self.put(store)
        self.failing(os, "open", PermissionError(13, "denied"), lambda path, *flags: path == stored.filename)
        self.assertEqual(self.put(store).outcome, Outcome.KEPT_BOTH)

    def test_vanished(self) -> None:
        """A name that comes free while it is looked at is taken."""
        store = self.makeStore()
        stored = self.put(store)
        lstat = os.lstat

        def vanish(path: str) -> os.stat_result:
            if path == stored.filename and os.path.exists(path):
                os.unlink(path)
            return lstat(path)

        self.patch(os, "lstat", vanish)
        self.assertEqual(self.finishAndKeep(store), Outcome.NEW)

    def test_alwaysVanishing(self) -> None:
        """A name that comes and goes is tried again later."""
        store = self.makeStore(heldDeadline=0.05)
        self.put(store)

        def vanished(filename: str) -> None:
            raise FileNotFoundError

        self.patch(standing.StandingFile, "hold", vanished)
        finishing = storedBy(self.receive(store), headOf(DATA))
        self.clock.pump([0.02] * 2)
        self.assertNoResult(finishing)
        self.clock.pump([0.02] * 2)
        self.assertRefusal(self.failureResultOf(finishing, StoreRefused).value, "the same object is being stored")
        self.assertEqual(self.files(), [NAME])

    def test_replacedInside(self) -> None:
        """A name that changes hands between opening and locking is looked at again."""
        store = self.makeStore()
        stored = self.put(store)
        whole = self.content()
        flock = fcntl.flock
        replaced: list[int] = []

        def replace(fd: int, operation: int) -> None:
            if not replaced and os.fstat(fd).st_ino == os.stat(stored.filename).st_ino:
                replaced.append(fd)
                write(stored.filename + "-new", whole.replace(b"U", b"V"))
                os.rename(stored.filename + "-new", stored.filename)
            flock(fd, operation)

        self.patch(fcntl, "flock", replace)
        self.assertEqual(self.finishAndKeep(store), Outcome.KEPT_BOTH)
        self.assertEqual(len(replaced), 1)

    def finishAndKeep(self, store: FileStore) -> Outcome:
        sink = self.receive(store)
        finishing = storedBy(sink, headOf(DATA))
        self.clock.advance(0.02)
        outcome = self.successResultOf(finishing).outcome
        sink.keep()
        return outcome

    def test_lockNeedsWriting(self) -> None:
        """Where only what is open for writing can be locked (NFS), it is opened so."""
        store = self.makeStore()
        self.put(store)
        self.failing(
            fcntl,
            "flock",
            OSError(9, "bad descriptor"),
            lambda fd, operation: fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY,
        )
        self.assertEqual(self.put(store).outcome, Outcome.IDENTICAL)


def write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


class WorkingDirectoryDuplicateTests(DuplicateTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickDuplicateTests(DuplicateTests):
    """The same without synchronizing."""

    durable = False


class HeldTests(FileStoreTestCase):
    """Two publishers of one name, the first not yet decided."""

    def setUp(self) -> None:
        super().setUp()
        self.store = self.makeStore(heldDeadline=5.0)
        self.first = self.receive(self.store)
        self.filename = self.finish(self.first).filename
        self.second = self.receive(self.store)
        self.finishing = storedBy(self.second, headOf(DATA))
        self.addCleanup(lambda: self.successResultOf(self.second.abort()))
        self.addCleanup(lambda: self.successResultOf(self.first.abort()))

    def test_kept(self) -> None:
        """Once the first is acknowledged the second is identical."""
        self.clock.pump([0.02] * 50)
        self.assertNoResult(self.finishing)
        self.first.keep()
        self.clock.advance(0.32)
        self.assertEqual(self.successResultOf(self.finishing).outcome, Outcome.IDENTICAL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_looks(self) -> None:
        """The looks become rarer, down to three a second."""
        waits = []
        for _ in range(8):
            (call,) = self.clock.getDelayedCalls()
            wait = call.getTime() - self.clock.seconds()
            waits.append(round(wait, 6))
            self.clock.advance(wait)
        self.assertEqual(waits, [0.02, 0.04, 0.08, 0.16, 0.32, 0.32, 0.32, 0.32])
        self.successResultOf(self.second.abort())
        self.failureResultOf(self.finishing, CancelledError)

    def test_refused(self) -> None:
        """When the first is refused, the second is new and stays."""
        self.successResultOf(self.first.abort())
        self.assertEqual(self.files(), [])
        self.clock.advance(0.02)
        self.assertEqual(self.successResultOf(self.finishing).outcome, Outcome.NEW)
        self.second.keep()
        self.assertEqual(self.files(), [NAME])

    def test_other(self) -> None:
        """Another object waits as well: whether it needs another name depends on the first."""
        other = self.receive(self.store, OTHER)
        finishing = storedBy(other, headOf(OTHER))
        self.clock.advance(0.02)
        self.assertNoResult(finishing)
        self.first.keep()
        self.clock.pump([0.08] * 2)
        # The second holds the file now, as it stands for its answer.
        self.assertNoResult(finishing)
        self.second.keep()
        self.clock.pump([0.32])
        self.assertEqual(self.successResultOf(finishing).outcome, Outcome.KEPT_BOTH)
        other.keep()

    def test_deadline(self) -> None:
        """Waiting ends at the deadline, and leaves the first alone."""
        self.clock.pump([0.01] * 499)
        self.assertNoResult(self.finishing)
        self.clock.advance(0.33)
        error = self.failureResultOf(self.finishing, StoreRefused).value
        self.assertRefusal(error, "the same object is being stored")
        self.assertEqual(self.files(), [NAME])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abort(self) -> None:
        """What waits can be given up."""
        self.successResultOf(self.second.abort())
        self.failureResultOf(self.finishing, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.files(), [NAME])

    def test_cancel(self) -> None:
        """Cancelling what waits gives it up as well."""
        self.finishing.cancel()
        self.failureResultOf(self.finishing, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.second.abort())


class WorkingDirectoryHeldTests(HeldTests):
    """The same without unnamed files."""

    unnamedFiles = False

    def files(self, root: str | None = None) -> list[str]:
        return [name for name in super().files(root) if ".incoming" not in name]


class QuickHeldTests(HeldTests):
    """The same without synchronizing."""

    durable = False


class AbortTests(FileStoreTestCase):
    """What giving up removes, and what it leaves."""

    def test_identical(self) -> None:
        """A refused repeat leaves the acknowledged object."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store)
        self.assertEqual(self.finish(sink).outcome, Outcome.IDENTICAL)
        self.successResultOf(sink.abort())
        self.assertEqual(self.files(), [NAME])

    def test_keptBoth(self) -> None:
        """A refused variant goes, the acknowledged object stays."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        self.assertEqual(self.finish(sink, OTHER).outcome, Outcome.KEPT_BOTH)
        self.assertEqual(self.files(), [NAME, "1.2.4/1.2.5/1.2.3~1.dcm"])
        self.successResultOf(sink.abort())
        self.assertEqual(self.files(), [NAME])

    def test_moved(self) -> None:
        """What the application moved away meanwhile is its own; what it put there instead, too."""
        store = self.makeStore()
        for instead in (False, True):
            sink = self.receive(store)
            filename = self.finish(sink).filename
            os.rename(filename, os.path.join(self.root, "moved"))
            if instead:
                write(filename, b"other")
            self.successResultOf(sink.abort())
            self.assertEqual(self.files(), [NAME, "moved"] if instead else ["moved"])

    def test_movedAndKept(self) -> None:
        """What the application moved away can be acknowledged."""
        store = self.makeStore()
        sink = self.receive(store)
        os.rename(self.finish(sink).filename, os.path.join(self.root, "moved"))
        sink.keep()
        self.assertEqual(self.files(), ["moved"])

    def test_keepTooEarly(self) -> None:
        """What is not finished cannot be kept."""
        sink = self.receive(self.makeStore())
        self.assertRaises(LocalProtocolError, sink.keep)
        self.successResultOf(sink.abort())
        sink.keep()
        self.assertEqual(self.files(), [])

    def test_keepTwice(self) -> None:
        """Keeping twice is keeping."""
        store = self.makeStore()
        sink = self.receive(store)
        self.finish(sink)
        sink.keep()
        sink.keep()
        self.assertEqual(self.files(), [NAME])

    def test_closing(self) -> None:
        """An error of closing an acknowledged object is told in the log: what it says was asked for before."""
        store = self.makeStore()
        sink = self.receive(store)
        self.finish(sink)
        close = os.close

        def failing(fd: int) -> None:
            close(fd)
            raise OSError(5, "i/o error", "/secret/path")

        self.patch(os, "close", failing)
        with capturedLogs() as events:
            sink.keep()
        self.patch(os, "close", close)
        self.assertEqual([formatEvent(event) for event in events], ["closing a stored object: i/o error"])

    def test_unremovable(self) -> None:
        """An object that cannot be removed does not keep its descriptors, and is told in the log without a path."""
        store = self.makeStore()
        sink = self.receive(store)
        self.finish(sink)
        self.failing(os, "unlink", OSError(5, "i/o error", "/secret/path"), lambda path: path.endswith(".dcm"))
        with capturedLogs() as events:
            self.successResultOf(sink.abort())
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["an object could not be removed: refused with status A700: i/o error"],
        )
        self.assertEqual(self.files(), [NAME])


class WorkingDirectoryAbortTests(AbortTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickAbortTests(AbortTests):
    """The same without synchronizing."""

    durable = False
