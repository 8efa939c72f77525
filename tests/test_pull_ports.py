"""
Ports that are waited on, over loopback: listening, the store behind it, and that none is push and pull.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from dcxtwisted import DCXACC, IAssociation
from dcxtwisted.testing import RecordingEvents
from tests.services.support import DATA
from tests.test_acceptor import LOOPBACK, LoopbackTestCase, portOf, storeThreads

_Steps = Generator[Deferred[Any], Any, None]


class PortTests(LoopbackTestCase):
    """``WaitForConnection`` on real ports."""

    def waitOn(self, listener: DCXACC, port: Any = LOOPBACK) -> Deferred[IAssociation | None]:
        """Return a wait that may be cut short at the end."""
        return listener.WaitForConnection("SCP", port, 30)

    @inlineCallbacks
    def test_wholeAssociation(self) -> _Steps:
        """A port that is listened on, and a store that is opened, by the first wait; objects are durable as ever."""
        events = RecordingEvents()
        listener = self.make([], events)
        self.assertFalse(self.directory.exists())
        waiting = self.waitOn(listener)
        self.assertTrue(self.directory.is_dir())
        peer = yield self.associated(listener)
        association = yield waiting
        storing = self.store(peer)
        self.assertIs((yield association.WaitForCommand(30)), True)
        self.assertEqual((yield storing), 0)
        (stored,) = self.directory.rglob("*.dcm")
        self.assertTrue(stored.read_bytes().endswith(DATA))
        peer.release()
        self.assertIs((yield association.WaitForCommand(30)), False)
        self.assertEqual(association.ended, "released")
        self.assertEqual(events.names, ["OnConnection", "OnStoreSetup", "OnStoreDone", "OnAssocEnd"])

    @inlineCallbacks
    def test_portNumber(self) -> _Steps:
        """A number is one port of IPv6 and IPv4, as a number and as text."""
        listener = self.make([])
        waiting = self.waitOn(listener, 0)
        again = self.waitOn(listener, "0")
        self.assertEqual(len(listener.ports), 1)
        for host in ("127.0.0.1", "::1"):
            yield self.associated(listener, host)
        self.assertEqual((yield waiting).callingHost, "127.0.0.1")
        self.assertEqual((yield again).callingHost, "::1")

    @inlineCallbacks
    def test_bindError(self) -> _Steps:
        """It fails all who wait on that port, opens no store, and harms no other port."""
        occupied = self.start()
        listener = self.make([], storeDirectory=str(self.directory / "other"))
        endpoint = f"tcp:{portOf(occupied)}:interface=127.0.0.1"
        for waiting in (self.waitOn(listener, endpoint), self.waitOn(listener, endpoint)):
            yield self.assertFailure(waiting, CannotListenError)
        self.assertFalse((self.directory / "other").exists())
        waiting = self.waitOn(listener)
        yield self.associated(listener)
        self.assertTrue((yield waiting))

    @inlineCallbacks
    def test_storeThatCannotBeOpened(self) -> _Steps:
        """The wait fails with what is wrong with it, and nobody listens."""
        Path(self.directory).write_text("a file")
        listener = self.make([])
        yield self.assertFailure(self.waitOn(listener), OSError)
        self.assertEqual(listener.ports, [])
        Path(self.directory).unlink()
        self.waitOn(listener)
        self.assertEqual(len(listener.ports), 1)

    @inlineCallbacks
    def test_pushIsNotPull(self) -> _Steps:
        """What startService listens on cannot be waited on: by what it was given, nor by its number."""
        listener = self.start()
        for port in (LOOPBACK, f" {LOOPBACK} ", portOf(listener), str(portOf(listener))):
            failure = yield self.assertFailure(listener.WaitForConnection("SCP", port, 30), RuntimeError)
            self.assertEqual(str(failure), f"startService listens on {port}: a port is push or pull, never both")
        # Another may be, beside it.
        waiting = self.waitOn(listener, "tcp:0:interface=127.0.0.2")
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)
        self.assertNoResult(waiting)

    @inlineCallbacks
    def test_pullIsNotPush(self) -> _Steps:
        listener = self.make(LOOPBACK)
        self.waitOn(listener)
        error = self.assertRaises(RuntimeError, listener.startService)
        self.assertEqual(str(error), f"WaitForConnection listens on {LOOPBACK}: a port is push or pull, never both")
        self.assertFalse(listener.running)
        yield listener.StopListener()
        # Now it may be the other.
        listener.startService()
        yield self.associated(listener)
        yield self.assertFailure(self.waitOn(listener), RuntimeError)

    @inlineCallbacks
    def test_pullIsNotPushByNumber(self) -> _Steps:
        first = self.make([])
        self.waitOn(first)
        number = portOf(first)
        yield first.StopListener()
        listener = self.make(number)
        self.waitOn(listener, f"tcp:{number}:interface=127.0.0.1")
        error = self.assertRaises(RuntimeError, listener.startService)
        self.assertIn(f"WaitForConnection listens on {number}", str(error))

    @inlineCallbacks
    def test_notStarted(self) -> _Steps:
        """What a listener was given, and does not listen on, can be waited on."""
        listener = self.make(LOOPBACK)
        waiting = self.waitOn(listener)
        yield self.associated(listener)
        self.assertTrue((yield waiting))

    @inlineCallbacks
    def test_StopListener(self) -> _Steps:
        """The ports are free when it fires, in pull style and in push style; what is up goes on."""
        listener = self.start()
        waiting = self.waitOn(listener, "tcp:0:interface=127.0.0.2")
        pushed = yield self.associated(listener)
        numbers = [portOf(listener), portOf(listener, 1)]
        yield listener.StopListener()
        self.assertIsNone((yield waiting))
        self.assertEqual(listener.ports, [])
        for number in numbers:
            yield self.assertNobodyListens(number)
        self.assertEqual((yield self.store(pushed)), 0)
        self.assertTrue(listener.running)
        # It can listen again, without another start of the store.
        listener.startService()
        again = yield self.associated(listener)
        self.assertEqual((yield self.store(again, messageID=2)), 0)

    @inlineCallbacks
    def test_StopListenerThenWaitAtOnce(self) -> _Steps:
        """Waits that come while a port is being closed have it opened again when it is free."""
        listener = self.make([])
        first = self.waitOn(listener)
        number = portOf(listener)
        endpoint = f"tcp:{number}:interface=127.0.0.1"
        yield listener.StopListener()
        self.assertIsNone((yield first))
        second = self.waitOn(listener, endpoint)
        stopping = listener.StopListener()
        third = self.waitOn(listener, endpoint)
        yield stopping
        self.assertIsNone((yield second))
        yield self.associated(listener)
        self.assertEqual(portOf(listener), number)
        self.assertTrue((yield third))

    @inlineCallbacks
    def test_stopService(self) -> _Steps:
        """It ends the waits, the ports, the associations and the threads, in pull style too."""
        listener = self.make([])
        waiting, pending = self.waitOn(listener), self.waitOn(listener)
        peer = yield self.associated(listener)
        association = yield waiting
        command = association.WaitForCommand()
        yield listener.stopService()
        self.assertIsNone((yield pending))
        self.assertIs((yield command), False)
        yield peer.gone()
        self.assertEqual((listener.ports, listener.associations, storeThreads()), ([], [], []))

    @inlineCallbacks
    def test_StoreDirectory(self) -> _Steps:
        """It can be set until the store is open, and again when it is closed."""
        events = RecordingEvents()
        listener = self.make([], events)
        self.assertEqual(listener.StoreDirectory, str(self.directory))
        elsewhere = self.directory / "elsewhere"
        listener.StoreDirectory = str(elsewhere)
        self.assertEqual((listener.StoreDirectory, listener.storeDirectory), (str(elsewhere), str(elsewhere)))
        waiting = self.waitOn(listener)
        with self.assertRaisesRegex(RuntimeError, "until it is stopped"):
            listener.StoreDirectory = "too late"
        peer = yield self.associated(listener)
        command = (yield waiting).WaitForCommand()
        self.assertEqual((yield self.store(peer)), 0)
        yield command
        self.assertEqual(events.calls[1][1][0], f"{elsewhere}/1.2.3.dcm")
        self.assertEqual(len(list(elsewhere.rglob("*.dcm"))), 1)
        yield listener.stopService()
        listener.StoreDirectory = str(self.directory / "third")
        listener.startService()
        self.assertTrue((self.directory / "third").is_dir())

    def test_portsAreListed(self) -> None:
        listener = self.make([])
        self.waitOn(listener)
        (port,) = listener.ports
        self.assertTrue(IListeningPort.providedBy(port))
