"""
Tests for the file store: what becomes of another object under the same name, as the operator chose.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from dcxtwisted.configuration import Duplicates
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.stores import publishing, working
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.stores.sink import FileSink
from dcxtwisted.testing.stores import StoreRequest, dataSet, headOf, storedBy
from tests.stores.filestores import DATA, LONGER, NAME, OTHER, FileStoreTestCase, ManualPool, isDirectory
from tests.stores.test_file import _FileStoreContract

BESIDE = NAME.replace(".dcm", "~1.dcm")
LEAD = leadOf(StoreRequest("1.2.3"))


class ReplaceContractTests(_FileStoreContract, TestCase):
    """A store that replaces does what every store does."""

    timeout = 60
    duplicates = Duplicates.REPLACE


class ReplaceInWorkingDirectoryContractTests(ReplaceContractTests):
    """So it does without unnamed files."""

    unnamedFiles = False


class KeepFirstContractTests(_FileStoreContract, TestCase):
    """So does one that keeps the first."""

    timeout = 60
    duplicates = Duplicates.KEEP_FIRST


class _PolicyTestCase(FileStoreTestCase):
    duplicates = Duplicates.KEEP_BOTH

    def makeStore(self, **settings: Any) -> FileStore:
        return super().makeStore(**{"duplicates": self.duplicates, **settings})

    def left(self) -> dict[str, bytes]:
        """Return the data sets that stand in the store, by name; each file has to be whole."""
        found = {}
        for name in self.files():
            content = self.content(name)
            self.assertTrue(content.startswith(LEAD), name)
            found[name] = content[len(LEAD) :]
        return found


class ReplaceTests(_PolicyTestCase):
    """The later object takes the name."""

    duplicates = Duplicates.REPLACE

    def test_replaced(self) -> None:
        """The name is the new object's, and nothing is left of the old."""
        store = self.makeStore()
        first = self.put(store)
        for data in (OTHER, LONGER):
            stored = self.put(store, data)
            self.assertEqual(
                (stored.outcome, stored.filename, stored.size), (Outcome.REPLACED, first.filename, len(data))
            )
            self.assertEqual(self.left(), {NAME: data})
        self.assertEqual(os.stat(first.filename).st_nlink, 1)

    def test_same(self) -> None:
        """The same object leaves the file as it is."""
        store = self.makeStore()
        before = os.stat(self.put(store).filename)
        again = self.put(store)
        after = os.stat(again.filename)
        self.assertEqual(
            (again.outcome, after.st_ino, after.st_mtime_ns), (Outcome.IDENTICAL, before.st_ino, before.st_mtime_ns)
        )

    def test_refused(self) -> None:
        """Where the new object is refused the old one is back: the very file."""
        store = self.makeStore()
        first = self.put(store)
        before = os.stat(first.filename)
        sink = self.receive(store, OTHER)
        self.assertEqual(self.finish(sink, OTHER).outcome, Outcome.REPLACED)
        self.assertEqual(self.content(), LEAD + OTHER)
        self.successResultOf(sink.abort())
        self.assertEqual(self.left(), {NAME: DATA})
        after = os.stat(first.filename)
        self.assertEqual((after.st_ino, after.st_nlink), (before.st_ino, 1))

    def test_workingNames(self) -> None:
        """Until it is decided the old file has a working name, and a link that leads to where it stood."""
        store = self.makeStore()
        first = self.put(store)
        before = os.stat(first.filename).st_ino
        sink = self.receive(store, OTHER)
        self.finish(sink, OTHER)
        (kept,) = [name for name in self.files() if name + working.NAME_OF in self.files()]
        self.assertEqual(os.stat(os.path.join(self.root, kept)).st_ino, before)
        self.assertEqual(os.path.realpath(os.path.join(self.root, kept + working.NAME_OF)), first.filename)
        sink.keep()
        self.assertEqual(self.left(), {NAME: OTHER})

    def test_removedInPool(self) -> None:
        """The old file goes in the pool: it may be large."""
        pool = ManualPool()
        store = self.makeStore(inPool=pool)
        pool.runAll()
        for data in (DATA, OTHER):
            sink = self.receive(store, data)
            finishing = storedBy(sink, headOf(data))
            pool.runAll()
            self.successResultOf(finishing)
            sink.keep()
        self.assertEqual(len(pool.jobs), 1)
        self.assertEqual(len(self.files()), 3)
        stopping = store.stop()
        self.assertNoResult(stopping)
        pool.runAll()
        self.successResultOf(stopping)
        self.assertEqual(self.left(), {NAME: OTHER})

    def test_duplicateRemovedInPool(self) -> None:
        """So does a large one that is not needed, as the same stands already; a small one goes at once."""
        pool = ManualPool()
        store = self.makeStore(inPool=pool)
        pool.runAll()
        for much, jobs in ((len(DATA), [0, 0]), (len(DATA) - 1, [0, 1])):
            self.patch(publishing, "_MUCH", much)
            left = []
            for outcome in (Outcome.NEW, Outcome.IDENTICAL):
                sink = self.receive(store)
                finishing = storedBy(sink, headOf(DATA))
                pool.runAll()
                stored = self.successResultOf(finishing)
                self.assertIs(stored.outcome, outcome)
                sink.keep()
                left.append(len(pool.jobs))
                pool.runAll()
            self.assertEqual(left, jobs)
            self.assertEqual(self.left(), {NAME: DATA})
            os.unlink(stored.filename)

    def test_always(self) -> None:
        """There is no moment at which the name does not stand for a whole object."""
        store = self.makeStore()
        self.put(store)
        seen: list[bytes] = []
        looking: list[int] = []
        for name in ("link", "unlink", "rename", "symlink", "fsync", "close"):
            real = getattr(os, name)

            def watched(*args: Any, real: Any = real, **kwargs: Any) -> Any:
                result = real(*args, **kwargs)
                if not looking:
                    looking.append(1)
                    seen.append(self.content())
                    looking.clear()
                return result

            self.patch(os, name, watched)
        for accepted in (False, True):
            sink = self.receive(store, OTHER)
            self.finish(sink, OTHER)
            if accepted:
                sink.keep()
            else:
                self.successResultOf(sink.abort())
        self.assertEqual({LEAD + DATA, LEAD + OTHER}, set(seen))
        self.assertGreaterEqual(len(seen), 20)

    def test_otherInstance(self) -> None:
        """An application's own name for two instances is no reason to lose one."""
        store = self.makeStore()
        at = os.path.join(self.root, "x.dcm")
        self.put(store, at=at)
        stored = self.put(store, dataSet("1.2.99"), request=StoreRequest("1.2.99"), at=at)
        self.assertEqual((stored.outcome, stored.filename), (Outcome.KEPT_BOTH, at[:-4] + "~1.dcm"))
        self.assertEqual(self.content("x.dcm"), LEAD + DATA)
        # Nor is it for the next, which finds its rival there.
        stored = self.put(store, dataSet("1.2.99", size=200), request=StoreRequest("1.2.99"), at=at)
        self.assertEqual((stored.outcome, stored.filename), (Outcome.REPLACED, at[:-4] + "~1.dcm"))

    def test_noObject(self) -> None:
        """What else stands under the name is left."""
        store = self.makeStore()
        final = os.path.join(self.root, NAME)
        os.makedirs(os.path.dirname(final))
        for make in (
            lambda: os.mkfifo(final),
            lambda: os.symlink("/nowhere", final),
            lambda: _write(final, b"x" * 500),
        ):
            make()
            before = _unread(final)
            sink = self.receive(store)
            self.assertEqual(self.finish(sink).outcome, Outcome.KEPT_BOTH)
            self.successResultOf(sink.abort())
            self.assertEqual(_unread(final), before)
            os.unlink(final)

    def test_outside(self) -> None:
        """An application's own directory is as it was afterwards, whichever way it ends."""
        store = self.makeStore()
        outside = os.path.abspath(self.mktemp())
        at = os.path.join(outside, "x.dcm")
        self.patch(store._working, "baseOf", lambda directory: directory)
        self.put(store, at=at)
        for accepted in (False, True):
            sink = self.receive(store, OTHER, at=at)
            self.assertEqual(self.finish(sink, OTHER).outcome, Outcome.REPLACED)
            self.assertEqual(sorted(os.listdir(outside)), [".incoming", "x.dcm"])
            if accepted:
                sink.keep()
            else:
                self.successResultOf(sink.abort())
            self.assertEqual(os.listdir(outside), ["x.dcm"])
            self.assertEqual(self.content(at), LEAD + (OTHER if accepted else DATA))

    def test_moved(self) -> None:
        """Where the application moved the new object and refuses it, the old one has its name again."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        os.rename(self.finish(sink, OTHER).filename, os.path.join(self.root, "moved"))
        self.successResultOf(sink.abort())
        self.assertEqual(self.left(), {NAME: DATA, "moved": OTHER})

    def test_movedForAnother(self) -> None:
        """Where it put something else there, the old one stands beside."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        filename = self.finish(sink, OTHER).filename
        os.rename(filename, os.path.join(self.root, "moved"))
        _write(filename, LEAD + LONGER)
        self.successResultOf(sink.abort())
        self.assertEqual(self.left(), {NAME: LONGER, "moved": OTHER, BESIDE: DATA})

    def test_takenAway(self) -> None:
        """A name that is taken away while it is prepared for is looked at again; nothing is left of the attempt."""
        for call in ("symlink", "link"):
            store = self.makeStore()
            filename = self.put(store).filename
            taken: list[str] = []

            def taking(
                source: Any,
                path: str,
                real: Any = getattr(os, call),  # noqa: B008  # that of before
                name: str = filename,
                taken: list[str] = taken,
                **how: Any,
            ) -> None:
                real(source, path, **how)
                if not taken:
                    taken.append(name)
                    os.unlink(name)

            sink = self.receive(store, OTHER)
            patch = self.patch(os, call, taking)
            finishing = storedBy(sink, headOf(OTHER))
            self.clock.advance(0.02)
            self.assertEqual(self.successResultOf(finishing).outcome, Outcome.NEW)
            patch.restore()
            sink.keep()
            self.assertEqual(self.left(), {NAME: OTHER})
            os.unlink(filename)
            self.successResultOf(store.stop())

    def test_cannotBePutBack(self) -> None:
        """What cannot be put back is left to the next start, which finds a name for it."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        self.finish(sink, OTHER)
        failed = self.failing(os, "rename", OSError(errno.EIO, "i/o error", "/secret/path"))
        with capturedLogs() as events:
            self.successResultOf(sink.abort())
        self.assertEqual(len(failed), 1)
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["an object could not be removed: refused with status A700: i/o error"],
        )
        self.successResultOf(store.stop())
        self.assertEqual(self.content(), LEAD + OTHER)
        with capturedLogs() as events:
            self.makeStore()
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["a stopped process was replacing 1 objects: they stand beside what took their names"],
        )
        self.assertEqual(self.left(), {NAME: OTHER, BESIDE: DATA})


class WorkingDirectoryReplaceTests(ReplaceTests):
    """The same without unnamed files."""

    unnamedFiles = False


class QuickReplaceTests(ReplaceTests):
    """The same without synchronizing."""

    durable = False


class OrderTests(_PolicyTestCase):
    """What is durable when, where an object is replaced."""

    duplicates = Duplicates.REPLACE

    def trace(self) -> list[tuple[str, str]]:
        calls: list[tuple[str, str]] = []
        for name in ("fsync", "link", "symlink", "rename", "unlink"):
            real = getattr(os, name)

            def traced(*args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Any:
                path = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else args[-1]
                calls.append((name, self.short(path)))
                return real(*args, **kwargs)

            self.patch(os, name, traced)
        return calls

    def short(self, path: str) -> str:
        path = os.path.relpath(path, self.root)
        if "(deleted)" in path:
            return "unnamed"
        if not path.startswith(".incoming/"):
            return path
        parts = path.split("/")[2:]
        return {(): "working", ("1",): "first", ("0",): "first"}.get(tuple(parts), "/".join(parts))

    def test_kept(self) -> None:
        """The old file's working name is durable before its own is taken; then the directory is; then it goes."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        calls = self.trace()
        self.finish(sink, OTHER)
        self.assertEqual(
            calls,
            [
                ("fsync", "unnamed"),
                ("link", NAME),  # in vain
                ("symlink", "0.name"),
                ("link", "first"),
                ("fsync", "working"),
                ("fsync", ".incoming"),
                ("fsync", "."),
                ("link", "first"),
                ("rename", NAME),
                ("unlink", "first"),
                ("fsync", "1.2.4/1.2.5"),
            ],
        )
        calls.clear()
        sink.keep()
        self.assertEqual(calls, [("unlink", "0.name"), ("unlink", "first")])

    def test_refused(self) -> None:
        """It is back, durably, before its working name goes."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        self.finish(sink, OTHER)
        calls = self.trace()
        self.successResultOf(sink.abort())
        self.assertEqual(
            calls,
            [
                ("link", "2"),
                ("rename", NAME),
                ("unlink", "2"),
                ("fsync", "1.2.4/1.2.5"),
                ("unlink", "0.name"),
                ("unlink", "first"),
            ],
        )

    def test_keptFirst(self) -> None:
        """What stays is durable before it stands for what is dropped."""
        self.put(self.makeStore())
        other = self.makeStore(duplicates=Duplicates.KEEP_FIRST)  # as another process, which knows nothing of the first
        sink = self.receive(other, OTHER)
        calls = self.traced()
        self.assertEqual(self.finish(sink, OTHER).outcome, Outcome.KEPT_FIRST)
        self.assertEqual(
            [call for call in calls if call[0] == "fsync"],
            [("fsync", "unnamed"), ("fsync", NAME), ("fsync", "1.2.4/1.2.5"), ("fsync", "1.2.4"), ("fsync", ".")],
        )
        sink.keep()


class DoubtTests(_PolicyTestCase):
    """A file that could not be synchronized once is not asked again, whatever it says."""

    def setUp(self) -> None:
        super().setUp()
        self.store = self.makeStore()
        self.filename = self.put(self.store).filename
        self.inode = os.stat(self.filename).st_ino
        held = os.open(self.filename, os.O_RDONLY)  # so that no other file gets its inode
        self.addCleanup(os.close, held)
        self.calls = 0

        def standing(fd: int) -> bool:
            isIt = os.fstat(fd).st_ino == self.inode
            self.calls += isIt
            return isIt and self.calls == 1

        cause = OSError(errno.EIO, "i/o error")
        failed = self.failing(os, "fsync", cause, standing)
        error = self.failureResultOf(storedBy(self.receive(self.store), headOf(DATA)), StoreRefused).value
        self.assertRefusal(error, "i/o error", cause)
        self.assertEqual(len(failed), 1)
        self.clock.advance(self.store.probeInterval)

    def test_same(self) -> None:
        """The same object again is put in its place, and stays where it is acknowledged."""
        sink = self.receive(self.store)
        stored = self.finish(sink)
        self.assertEqual((stored.outcome, stored.filename), (Outcome.IDENTICAL, self.filename))
        self.assertNotEqual(os.stat(self.filename).st_ino, self.inode)
        self.successResultOf(sink.abort())
        self.assertEqual(os.stat(self.filename).st_ino, self.inode)
        self.assertEqual(self.put(self.store).outcome, Outcome.IDENTICAL)
        self.assertNotEqual(os.stat(self.filename).st_ino, self.inode)
        self.assertEqual(self.left(), {NAME: DATA})
        again = os.stat(self.filename).st_ino
        self.put(self.store)
        self.assertEqual(os.stat(self.filename).st_ino, again)
        self.assertEqual(self.calls, 1)

    def test_keepFirst(self) -> None:
        """It does not stand for one that is dropped: that is kept, beside it."""
        self.store.duplicates = Duplicates.KEEP_FIRST
        self.assertEqual(self.put(self.store, OTHER).outcome, Outcome.KEPT_BOTH)
        self.assertEqual(self.left(), {NAME: DATA, BESIDE: OTHER})
        self.assertEqual(self.calls, 1)


class KeepFirstTests(_PolicyTestCase):
    """The object that came first stays."""

    duplicates = Duplicates.KEEP_FIRST

    def test_dropped(self) -> None:
        """Another is acknowledged, and nothing is left of it."""
        store = self.makeStore()
        first = self.put(store)
        before = os.stat(first.filename)
        for data in (OTHER, LONGER):
            stored = self.put(store, data)
            self.assertEqual(
                (stored.outcome, stored.filename, stored.size), (Outcome.KEPT_FIRST, first.filename, len(data))
            )
        self.assertEqual(self.left(), {NAME: DATA})
        after = os.stat(first.filename)
        self.assertEqual((after.st_ino, after.st_mtime_ns), (before.st_ino, before.st_mtime_ns))
        self.assertEqual(self.put(store).outcome, Outcome.IDENTICAL)

    def test_refused(self) -> None:
        """One that is refused leaves the first."""
        store = self.makeStore()
        self.put(store)
        sink = self.receive(store, OTHER)
        self.finish(sink, OTHER)
        self.successResultOf(sink.abort())
        self.assertEqual(self.left(), {NAME: DATA})

    def test_noObject(self) -> None:
        """What is no object of that UID does not stand for one."""
        store = self.makeStore()
        at = os.path.join(self.root, NAME)
        os.makedirs(os.path.dirname(at))
        _write(at, b"no object at all")
        self.assertEqual(self.put(store).outcome, Outcome.KEPT_BOTH)
        _write(at, LEAD.replace(b"1.2.3\0", b"1.2.9\0") + OTHER)
        self.assertEqual(self.put(store, LONGER).outcome, Outcome.KEPT_FIRST)
        self.assertEqual(self.content(BESIDE), LEAD + DATA)


class RefuseTests(_PolicyTestCase):
    """Another object is refused."""

    duplicates = Duplicates.REFUSE

    def refused(self, store: FileStore, data: bytes) -> None:
        sink = self.receive(store, data)
        error = self.failureResultOf(storedBy(sink, headOf(data)), StoreRefused).value
        self.assertEqual((error.status, error.comment), (0xC000, "another object has this UID"))

    def test_refused(self) -> None:
        """With a status that invites nobody to try again; the same object is taken."""
        store = self.makeStore()
        self.put(store)
        self.refused(store, OTHER)
        self.refused(store, LONGER)
        self.assertEqual(self.left(), {NAME: DATA})
        self.assertEqual(self.put(store).outcome, Outcome.IDENTICAL)

    def test_keptBefore(self) -> None:
        """What was kept beside another when that was the operator's choice is still acknowledged."""
        store = self.makeStore(duplicates=Duplicates.KEEP_BOTH)
        self.put(store)
        self.put(store, OTHER)
        store = self.makeStore()
        self.assertEqual(self.put(store, OTHER).outcome, Outcome.IDENTICAL)
        self.refused(store, LONGER)
        self.assertEqual(self.left(), {NAME: DATA, BESIDE: OTHER})

    def test_noObject(self) -> None:
        """What is no object of that UID is no reason."""
        store = self.makeStore()
        at = os.path.join(self.root, NAME)
        os.makedirs(at)
        self.assertEqual(self.put(store).outcome, Outcome.KEPT_BOTH)


class TwoSendersTests(_PolicyTestCase):
    """Two at once, the first not yet decided."""

    def both(self, duplicates: Duplicates, standing: bool, accepted: bool) -> tuple[Any, dict[str, bytes]]:
        """Send two other objects; return what became of the second, and what is left."""
        self.root = os.path.abspath(self.mktemp())
        store = self.makeStore(duplicates=duplicates)
        if standing:
            self.put(store)
        first, second = self.receive(store, OTHER), self.receive(store, LONGER)
        firstDone = storedBy(first, headOf(OTHER))
        self.assertTrue(firstDone.called)
        finishing = storedBy(second, headOf(LONGER))
        held = not finishing.called or isinstance(finishing.result, Deferred)
        self.decide(first, firstDone, accepted)
        for _ in range(4):
            self.clock.advance(0.32)
        outcome = self.decide(second, finishing, True)
        return (held, outcome), self.left()

    def decide(self, sink: FileSink, finishing: Deferred[Any], accepted: bool) -> Any:
        results: list[Any] = []
        finishing.addBoth(results.append)
        if not isinstance(getattr(results[0], "value", None), StoreRefused):
            if accepted:
                sink.keep()
            else:
                self.successResultOf(sink.abort())
            return results[0].outcome
        return "refused"

    def test_new(self) -> None:
        """Nothing stands there yet: the second waits for the first, then finds it, or finds nothing."""
        for duplicates, outcome, left in (
            (Duplicates.KEEP_BOTH, Outcome.KEPT_BOTH, {NAME: OTHER, BESIDE: LONGER}),
            (Duplicates.REPLACE, Outcome.REPLACED, {NAME: LONGER}),
            (Duplicates.KEEP_FIRST, Outcome.KEPT_FIRST, {NAME: OTHER}),
            (Duplicates.REFUSE, "refused", {NAME: OTHER}),
        ):
            self.assertEqual(self.both(duplicates, False, True), ((True, outcome), left), duplicates)
            self.assertEqual(self.both(duplicates, False, False), ((True, Outcome.NEW), {NAME: LONGER}), duplicates)

    def test_standing(self) -> None:
        """Another stands there: whatever becomes of the first, the second meets what is there then."""
        for duplicates, accepted, expected, left in (
            (Duplicates.REPLACE, True, (True, Outcome.REPLACED), {NAME: LONGER}),
            (Duplicates.REPLACE, False, (True, Outcome.REPLACED), {NAME: LONGER}),
            (Duplicates.KEEP_FIRST, True, (True, Outcome.KEPT_FIRST), {NAME: DATA}),
            (Duplicates.KEEP_FIRST, False, (True, Outcome.KEPT_FIRST), {NAME: DATA}),
            (Duplicates.REFUSE, True, (False, "refused"), {NAME: DATA}),
        ):
            self.assertEqual(self.both(duplicates, True, accepted), (expected, left), (duplicates, accepted))

    def test_both(self) -> None:
        """Of two that replace, both refused, the first leaves what stood there."""
        store = self.makeStore(duplicates=Duplicates.REPLACE)
        self.put(store)
        for _ in range(2):
            first, second = self.receive(store, OTHER), self.receive(store, LONGER)
            self.finish(first, OTHER)
            finishing = storedBy(second, headOf(LONGER))
            self.assertNoResult(finishing)
            self.successResultOf(first.abort())
            self.clock.advance(0.32)
            self.assertEqual(self.successResultOf(finishing).outcome, Outcome.REPLACED)
            self.successResultOf(second.abort())
            self.assertEqual(self.left(), {NAME: DATA})

    def test_oldIsHeld(self) -> None:
        """Who waits for the old file finds the new one when its turn comes."""
        store = self.makeStore(duplicates=Duplicates.REPLACE)
        filename = self.put(store).filename
        with open(filename) as old:
            sink = self.receive(store, OTHER)
            finishing = storedBy(sink, headOf(OTHER))
            self.successResultOf(finishing)
            self.assertRaises(BlockingIOError, fcntl.flock, old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(filename) as new:
                self.assertRaises(BlockingIOError, fcntl.flock, new, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sink.keep()
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WorkingDirectoryTwoSendersTests(TwoSendersTests):
    """The same without unnamed files."""

    unnamedFiles = False


class RestoreTests(_PolicyTestCase):
    """A start finds what a process left that was killed while it replaced an object."""

    duplicates = Duplicates.REPLACE

    def leave(self, *, taken: bool = True) -> None:
        """Leave a working directory as that process does: before the name was taken, or after."""
        store = self.makeStore()
        filename = self.put(store).filename
        path = os.path.join(self.root, ".incoming", "123-0123456789abcdef")
        os.makedirs(path)
        _write(os.path.join(path, "lock"), b"")
        os.symlink(os.path.relpath(filename, path), os.path.join(path, "7.name"))
        os.link(filename, os.path.join(path, "7"))
        if taken:
            _write(filename + "-new", LEAD + OTHER)
            os.rename(filename + "-new", filename)
        self.successResultOf(store.stop())

    def test_before(self) -> None:
        """Before the name was taken, all that is left is a second name."""
        self.leave(taken=False)
        calls = self.traced()
        self.makeStore()
        self.assertEqual(self.left(), {NAME: DATA})
        self.assertEqual([path for call, path in calls if call == "fsync"], ["1.2.4/1.2.5", "1.2.4", "."])

    def test_after(self) -> None:
        """After it, both stand: who sent either may have been told that it is stored."""
        self.leave()
        self.makeStore()
        self.assertEqual(self.left(), {NAME: OTHER, BESIDE: DATA})

    def test_removed(self) -> None:
        """Where the name is free, or even its directory is gone, the old object has it again."""
        for directory in (False, True):
            self.leave()
            os.unlink(os.path.join(self.root, NAME))
            if directory:
                os.removedirs(os.path.dirname(os.path.join(self.root, NAME)))
            self.makeStore()
            self.assertEqual(self.left(), {NAME: DATA})

    def test_notYetKept(self) -> None:
        """A link alone is nothing."""
        self.leave(taken=False)
        os.unlink(os.path.join(self.root, ".incoming", "123-0123456789abcdef", "7"))
        self.makeStore()
        self.assertEqual(self.left(), {NAME: DATA})

    def test_failing(self) -> None:
        """What cannot be made durable now is left to the next start."""
        self.leave()
        self.failing(os, "fsync", OSError(errno.EIO, "i/o error"), isDirectory)
        kept = os.path.join(self.root, ".incoming", "123-0123456789abcdef", "7")
        store = self.makeStore()
        self.assertTrue(os.path.exists(kept))
        self.successResultOf(store.stop())
        self.patch(os, "fsync", lambda fd: None)
        self.makeStore()
        self.assertFalse(os.path.exists(kept))
        self.assertEqual(self.left(), {NAME: OTHER, BESIDE: DATA})


def _unread(path: str) -> tuple[int, ...]:
    """Return what there is to know of a file but when it was read: to compare is to read."""
    found = os.lstat(path)
    return found.st_mode, found.st_ino, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
