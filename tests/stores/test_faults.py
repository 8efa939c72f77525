"""
Tests for the file store: every call of the system fails in turn, with every error, and the process is killed at each.

Whatever happens: no success is told of what a power cut would take, no final name stands for less than a whole object,
an object that was acknowledged stays until the one that replaces it is, nothing is left open, and what is left of names
is gone with the next start. A sample of 3,000 cases runs each time; all 16,000, which take a minute, with::

    DCXTWISTED_ALL_FAULTS=1 python -m twisted.trial tests.stores.test_faults
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import tempfile
from typing import Any

import attrs
from twisted.internet.defer import execute
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dcxtwisted.configuration import Duplicates
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IStoreSink, Outcome, StoredObject
from dcxtwisted.stores import jobs
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.filemeta import leadOf
from dcxtwisted.testing.stores import StoreRequest, headOf, storedBy
from tests.stores.faults import Fault, File, Killed, System, faultsOf
from tests.stores.filestores import DATA, NAME, OTHER

LEAD = leadOf(StoreRequest("1.2.3"))
#: What a sender may be told.
TEXTS = frozenset(
    {
        *jobs._COMMENTS.values(),
        "storage failure",
        "disk nearly full",
        "the disk failed to synchronize",
        "the same object is being stored",
        "another object has this UID",
    }
)
# How many cases of each scenario run where not all do.
_SAMPLE = 60


@attrs.frozen
class Scenario:
    """
    One object on its way.

    :ivar standing: the data set that stands under the name before, b'' for none.
    :ivar isSettled: whether that is durable, as one that was acknowledged is.
    :ivar isKept: whether the object is acknowledged, where it is stored.
    """

    standing: bytes = b""
    isSettled: bool = True
    duplicates: Duplicates = Duplicates.KEEP_BOTH
    isKept: bool = True
    unnamedFiles: bool = True
    durable: bool = True


@implementer(ILogObserver)
class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def __call__(self, event: LogEvent) -> None:
        self._lines.append(formatEvent(event))


class _FaultTestCase(SynchronousTestCase):
    unnamedFiles = True
    durable = True

    def setUp(self) -> None:
        # In memory where that can be: a directory is removed in 3 us there, in 3 ms on a disk.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.base = tempfile.mkdtemp(prefix="dcxtwisted-faults-", dir=memory)
        self.addCleanup(shutil.rmtree, self.base)
        self.root = ""
        self.logged: list[str] = []
        self.system = System()
        self.system.install(self.patch)
        observer = _Lines(self.logged)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def makeStore(self, scenario: Scenario) -> FileStore:
        self.clock = Clock()
        store = FileStore(
            self.root,
            durable=scenario.durable,
            duplicates=scenario.duplicates,
            unnamedFiles=scenario.unnamedFiles,
            reactor=self.clock,
            seconds=self.clock.seconds,
            inPool=execute,
            heldDeadline=1.0,
        )
        store.start()
        return store

    # One case

    def run_(self, scenario: Scenario, fault: Fault | None) -> list[str]:
        """Check all that has to hold; return the calls that were made."""
        self.root = os.path.join(self.base, "store")
        os.mkdir(self.root)
        system = self.system
        system.reset(self.root)
        self.logged.clear()
        self.protected: list[File] = []
        self.before: dict[str, int] = {}
        if scenario.standing:
            file = system.place(os.path.join(self.root, NAME), LEAD + scenario.standing, scenario.isSettled)
            if scenario.isSettled and scenario.durable:
                self.protected.append(file)
            self.before = self.finalNames()
        self.directories = self.directoryNames()
        store = self.makeStore(scenario)
        system.watch = self.watch
        system.begin(fault)
        try:
            calls = self.attempt(scenario, store, fault)
        except Killed:
            calls = []
            system.buryProcess()
        self.assertWhole()
        for line in self.logged:
            self.assertNotIn(self.root, line)
            self.assertNotIn("secret", line)
        self.nextStart(scenario)
        shutil.rmtree(self.root)
        return calls

    def watch(self) -> None:
        for file in self.protected:
            self.assertTrue(self.system.disk.survives(file), "an acknowledged object is at risk")

    def attempt(self, scenario: Scenario, store: FileStore, fault: Fault | None) -> list[str]:
        system = self.system
        result = self.receive(store)
        inDecision = not system.failed
        if isinstance(result, StoreRefused):
            self.assertRefusal(result)
        else:
            self.decide(scenario, *result)
        calls = list(system.calls)
        fault = fault if system.failed else None
        system.end()
        # Otherwise undoing itself may have failed: what could not be removed stays, for the next start.
        isUndone = fault is None or (fault.how != "dead" and not inDecision)
        if isUndone and (isinstance(result, StoreRefused) or not scenario.isKept):
            self.assertEqual(self.finalNames(), self.before)
        isClear = isUndone and system.failed not in ("unlink", "rmdir")
        if isClear and (isinstance(result, StoreRefused) or not scenario.isKept):
            self.assertEqual(self.directoryNames(), self.directories)
        if isClear:
            self.assertEqual(self.workingNames(), [])
        self.assertEqual([path for path, _ in system.descriptors.values() if not path.endswith("/lock")], [])
        self.clock.advance(store.probeInterval)
        if fault is not None:
            self.assertFalse(store.degraded)
        self.sendAgain(scenario, store)
        self.successResultOf(store.stop())
        self.assertEqual(list(system.descriptors.values()), [])
        if isClear:
            self.assertFalse(os.path.exists(os.path.join(self.root, ".incoming")))
        return calls

    def sendAgain(self, scenario: Scenario, store: FileStore) -> None:
        """Nothing fails any more: the object is stored."""
        again = self.receive(store)
        if isinstance(again, StoreRefused):
            self.assertEqual((again.comment, scenario.duplicates), ("another object has this UID", Duplicates.REFUSE))
            return
        sink, stored = again
        file = self.system.fileAt(stored.filename)
        if scenario.durable:
            self.assertTrue(self.system.disk.survives(file, stored.filename), "acknowledged, and not durable")
        self.abort(sink)

    def receive(self, store: FileStore) -> tuple[IStoreSink, StoredObject] | StoreRefused:
        """Store an object up to its decision."""
        try:
            sink: Any = store.open(StoreRequest("1.2.3"))
        except StoreRefused as error:
            return error
        try:
            sink.write(memoryview(OTHER[:100]))
            sink.write(memoryview(OTHER[100:]))
        except StoreRefused as error:
            self.abort(sink)
            return error
        results: list[Any] = []
        storedBy(sink, headOf(OTHER)).addBoth(results.append)
        self.clock.pump([0.32] * 5)
        self.system.goOn()
        (result,) = results
        if isinstance(result, Failure):
            self.abort(sink)
            if isinstance(result.value, StoreRefused):
                return result.value
            result.raiseException()
        return sink, result

    def decide(self, scenario: Scenario, sink: IStoreSink, stored: StoredObject) -> None:
        if not scenario.isKept:
            self.abort(sink)
            return
        file = self.system.fileAt(stored.filename)
        if scenario.durable:
            self.assertTrue(self.system.disk.survives(file, stored.filename), "acknowledged, and not durable")
        with open(stored.filename, "rb") as opened:
            kept = scenario.standing if stored.outcome is Outcome.KEPT_FIRST else OTHER
            self.assertEqual(opened.read(), LEAD + kept)
        if stored.outcome is Outcome.REPLACED:
            self.protected.clear()
        if scenario.durable:
            self.protected.append(file)
        sink.keep()
        self.system.goOn()

    def abort(self, sink: IStoreSink) -> None:
        aborting = sink.abort()
        self.system.goOn()
        self.successResultOf(aborting)

    def nextStart(self, scenario: Scenario) -> None:
        """Start where the process was killed, or has stopped: nothing unfinished is left, nothing acknowledged lost."""
        self.system.watch = self.watch
        protected = list(self.protected)
        store = self.makeStore(scenario)
        self.assertEqual(self.workingNames(), [])
        self.assertWhole()
        standing = [self.system.fileAt(os.path.join(self.root, name)) for name in self.finalNames()]
        for file in protected:
            self.assertIn(file, standing)
        self.successResultOf(store.stop())
        self.assertEqual(list(self.system.descriptors.values()), [])
        self.assertFalse(os.path.exists(os.path.join(self.root, ".incoming")))

    # What is there

    def finalNames(self) -> dict[str, int]:
        """Return the names of objects, and their inodes."""
        found = {}
        for where, directories, names in os.walk(self.root):
            if ".incoming" in directories:
                directories.remove(".incoming")
            for name in names:
                path = os.path.join(where, name)
                found[os.path.relpath(path, self.root)] = os.lstat(path).st_ino
        return found

    def directoryNames(self) -> set[str]:
        """Return the paths of all directories that objects may stand in."""
        return {where for where, _, _ in os.walk(self.root) if ".incoming" not in where}

    def workingNames(self) -> list[str]:
        return [
            os.path.join(where, name)
            for where, _, names in os.walk(os.path.join(self.root, ".incoming"))
            for name in names
            if name != "lock"
        ]

    def assertWhole(self) -> None:
        for name in self.finalNames():
            with open(os.path.join(self.root, name), "rb") as file:
                self.assertIn(file.read(), (LEAD + DATA, LEAD + OTHER), name)

    def assertRefusal(self, error: StoreRefused) -> None:
        self.assertTrue(error.status >> 8 == 0xA7 or error.status >> 8 == 0xC0, error)
        self.assertIn(error.comment, TEXTS)
        self.assertNotIn("/", error.comment.replace("i/o error", ""))

    # All of them

    def torture(self, **settings: Any) -> None:
        scenario = Scenario(unnamedFiles=self.unnamedFiles, durable=self.durable, **settings)
        calls = self.run_(scenario, None)
        faults = faultsOf([*calls, "end"])
        if not os.environ.get("DCXTWISTED_ALL_FAULTS"):
            faults = random.Random(repr(scenario)).sample(faults, min(_SAMPLE, len(faults)))
        for fault in faults:
            try:
                self.run_(scenario, fault)
            except BaseException as error:
                name = calls[fault.at - 1] if fault.at <= len(calls) else "end"
                raise AssertionError(f"{name} {fault}: {error}") from error
        gc.collect()
        self.flushLoggedErrors(Killed)

    def test_new(self) -> None:
        self.torture()

    def test_newRefused(self) -> None:
        self.torture(isKept=False)

    def test_identical(self) -> None:
        self.torture(standing=OTHER)

    def test_identicalNotSettled(self) -> None:
        """What stands there is not durable yet: left by a store that does not synchronize, or by another program."""
        self.torture(standing=OTHER, isSettled=False)

    def test_identicalRefused(self) -> None:
        self.torture(standing=OTHER, isKept=False)

    def test_keepBoth(self) -> None:
        self.torture(standing=DATA)

    def test_keepBothRefused(self) -> None:
        self.torture(standing=DATA, isKept=False)

    def test_replace(self) -> None:
        self.torture(standing=DATA, duplicates=Duplicates.REPLACE)

    def test_replaceRefused(self) -> None:
        self.torture(standing=DATA, duplicates=Duplicates.REPLACE, isKept=False)

    def test_keepFirst(self) -> None:
        self.torture(standing=DATA, duplicates=Duplicates.KEEP_FIRST)

    def test_keepFirstNotSettled(self) -> None:
        self.torture(standing=DATA, isSettled=False, duplicates=Duplicates.KEEP_FIRST)

    def test_keepFirstRefused(self) -> None:
        self.torture(standing=DATA, duplicates=Duplicates.KEEP_FIRST, isKept=False)

    def test_refuse(self) -> None:
        self.torture(standing=DATA, duplicates=Duplicates.REFUSE)

    def test_start(self) -> None:
        """A start fails or does not, and leaves nothing behind either way."""
        scenario = Scenario(unnamedFiles=self.unnamedFiles, durable=self.durable)
        for fault in [None, *faultsOf([""] * 40)]:
            self.root = os.path.join(self.base, "store")
            self.system.reset(self.base)
            self.system.begin(fault)
            store = None
            try:
                store = self.makeStore(scenario)
                self.system.goOn()
            except OSError:
                pass
            except Killed:
                self.system.buryProcess()
                store = None
            isClear = self.system.failed not in ("unlink", "rmdir") and (fault is None or fault.how == "fails")
            self.system.end()
            if store is not None:
                self.successResultOf(store.stop())
            self.assertEqual(list(self.system.descriptors.values()), [], fault)
            if isClear and os.path.isdir(self.root):
                self.assertEqual(os.listdir(self.root), [], fault)
            self.successResultOf(self.makeStore(scenario).stop())
            shutil.rmtree(self.root)
            if not self.system.failed and fault is not None:
                break


class UnnamedFileFaultTests(_FaultTestCase):
    """With unnamed files."""


class WorkingDirectoryFaultTests(_FaultTestCase):
    """Without them."""

    unnamedFiles = False


class QuickFaultTests(_FaultTestCase):
    """Without synchronizing: nothing is promised of a power cut, all else holds."""

    durable = False


del _FaultTestCase
