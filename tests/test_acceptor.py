"""
The listener as a service: where it listens, how it starts, and how it stops, over loopback and in memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from errno import EADDRINUSE
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, fail, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from dcxtwisted import DCXACC, IN_MEMORY, ApplicationEntity, Configuration, DCXACCEvents, asyncioEvents
from dcxtwisted.stores.memory import MemoryStore
from dcxtwisted.testing import ListenerInMemory, RecordingEvents
from tests.loopback import LoopbackPeer, connect
from tests.services.support import CT, DATA, FakeParticipant, FakeStore, dataSet
from tests.support import openDescriptors

reactor: Any = _reactor

_NAMESPACES = ("dcxtwisted.acceptor", "dcxtwisted.ports")

LOOPBACK = "tcp:0:interface=127.0.0.1"


def linesOf(events: Sequence[LogEvent]) -> list[str]:
    """Return what the acceptor and its ports logged, as text."""
    return [formatEvent(event) for event in events if event["log_namespace"] in _NAMESPACES]


class LoopbackTestCase(TestCase):
    """Listeners on real sockets, which are stopped at the end whatever becomes of them."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()

    def make(self, endpoints: Any = LOOPBACK, events: Any = None, **options: Any) -> DCXACC:
        """Return a listener that was not started."""
        options.setdefault("storeDirectory", str(self.directory))
        listener = DCXACC(endpoints, events, **options)
        self.addCleanup(listener.stopService)
        return listener

    def start(self, *args: Any, **options: Any) -> DCXACC:
        """Return a listener that was started."""
        listener = self.make(*args, **options)
        listener.startService()
        return listener

    @inlineCallbacks
    def peerOf(self, listener: DCXACC, host: str = "127.0.0.1") -> Generator[Deferred[Any], Any, LoopbackPeer]:
        """Return a peer that is connected to a listener."""
        peer: LoopbackPeer = yield connect(portOf(listener), host)
        self.addCleanup(peer.gone)
        self.addCleanup(peer.leave)
        return peer

    @inlineCallbacks
    def associated(self, listener: DCXACC, host: str = "127.0.0.1") -> Generator[Deferred[Any], Any, LoopbackPeer]:
        """Return a peer that is associated with a listener."""
        peer: LoopbackPeer = yield self.peerOf(listener, host)
        peer.associate()
        yield peer.when(lambda: peer.accepted)
        return peer

    @inlineCallbacks
    def store(
        self, peer: LoopbackPeer, uid: str = "1.2.3", data: bytes = DATA, messageID: int = 1
    ) -> Generator[Deferred[Any], Any, int]:
        """Store an object, and return the status of the response."""
        answered = len(peer.statuses)
        peer.store(data, uid, messageID=messageID)
        yield peer.when(lambda: len(peer.statuses) > answered)
        return peer.statuses[-1]

    @inlineCallbacks
    def assertNobodyListens(self, number: int) -> Generator[Deferred[Any], Any, None]:
        """Fail if a port on loopback takes connections."""
        try:
            yield connect(number)
        except ConnectionRefusedError:
            return
        self.fail(f"somebody listens on {number}")


def portOf(listener: DCXACC, index: int = 0) -> int:
    """Return the number of a port that is listened on."""
    host: Any = listener.ports[index].getHost()
    number: int = host.port
    return number


def storeThreads() -> list[threading.Thread]:
    """Return the threads that belong to stores."""
    return [thread for thread in threading.enumerate() if "dcxtwisted" in thread.name]


class ListeningTests(LoopbackTestCase):
    """Where a listener listens."""

    @inlineCallbacks
    def test_portNumber(self) -> Generator[Deferred[Any], Any, None]:
        """On IPv6 and IPv4; an IPv4 peer is shown as one."""
        events = RecordingEvents()
        listener = self.start(0, events)
        for host in ("127.0.0.1", "::1"):
            peer = yield self.associated(listener, host)
            peer.abort()
            yield peer.gone()
        calls = [args for name, args in events.calls if name == "OnConnection"]
        self.assertEqual([args[:3] for args in calls], [("PEER", "DCXTWISTED", h) for h in ("127.0.0.1", "::1")])
        self.assertEqual([args[3].callingHost for args in calls], ["127.0.0.1", "::1"])
        self.assertEqual(calls[0][3].peerAddress.host, "::ffff:127.0.0.1")

    @inlineCallbacks
    def test_endpoints(self) -> Generator[Deferred[Any], Any, None]:
        """A string, an endpoint, a path of the file system, and a list of all of them."""
        # Such a path has to be short, and trial's directory may not be.
        directory = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, directory)
        path = os.path.join(directory, "socket")
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        listener = self.start((LOOPBACK, endpoint, f"unix:{path}"))
        self.assertEqual(len(listener.ports), 3)
        for index in (0, 1):
            peer = yield connect(portOf(listener, index))
            peer.associate()
            yield peer.when(lambda peer=peer: peer.accepted)
            peer.abort()
            yield peer.gone()
        yield listener.stopService()
        self.assertEqual(listener.ports, [])
        self.assertFalse(os.path.exists(path))

    def test_single(self) -> None:
        """One endpoint needs no list."""
        for endpoint in (LOOPBACK, TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")):
            self.assertEqual(len(self.start(endpoint).ports), 1)
        self.assertEqual(len(self.start([]).ports), 0)

    def test_noEndpoint(self) -> None:
        """Told when the listener is made, not when it starts."""
        for endpoints in ("tcp:x", 70000, None, [LOOPBACK, ""]):
            self.assertRaises(ValueError, DCXACC, endpoints, reactor=reactor)

    def test_badLayout(self) -> None:
        self.assertRaises(ValueError, DCXACC, [], layout="{PatientID}", reactor=reactor)

    def test_ports(self) -> None:
        """What is handed out is a copy."""
        listener = self.start()
        self.assertEqual(len(listener.ports), 1)
        list(listener.ports).clear()
        self.assertEqual(len(listener.ports), 1)

    def test_log(self) -> None:
        self.patch(reactor, "seconds", time.time)  # where twistd's options were here first, it is another
        with capturedLogs() as events:
            listener = self.start()
        self.assertEqual(
            linesOf(events),
            [
                "the reactor's clock is wall time: setting it cuts deadlines short or draws them out",
                f"listening on 127.0.0.1:{portOf(listener)}",
            ],
        )

    def test_misspelt(self) -> None:
        """An event that nobody will ever call is told of at the start, of each provider once."""

        class Events(DCXACCEvents):
            def OnStoredone(self, *args: object) -> None: ...

        class Others(DCXACCEvents):
            def OnEchoes(self, *args: object) -> None: ...

        events = Events()
        entities = [
            ApplicationEntity(AETitle=title, storeDirectory=f"{self.directory}-{title}", events=each)
            for title, each in (("SAME", None), ("OTHER", Others()))
        ]
        with capturedLogs() as logged:
            self.start(events=events, entities=entities)
        self.assertEqual(
            [line for line in linesOf(logged) if "event" in line],
            [
                "Events.OnStoredone is never called: there is no such event, is it OnStoreDone?",
                "Others.OnEchoes is never called: there is no such event, is it OnEcho?",
            ],
        )

    async def test_misspeltAndWaitedFor(self) -> None:
        class Events(DCXACCEvents):
            def OnFind(self, *args: object) -> None: ...

        with capturedLogs() as logged:
            listener = self.make((), Events())
            for _ in range(2):
                await listener.WaitForConnection("", LOOPBACK, 0)
        said = "Events.OnFind is never called: there is no such event"
        self.assertEqual([line for line in linesOf(logged) if "event" in line], [said])

    async def test_asyncioWithoutItsReactor(self) -> None:
        """Told before anything is listened on, be it served or waited for."""
        listener = self.make(events=asyncioEvents(DCXACCEvents()), reactor=MemoryReactorClock())
        error = self.assertRaises(ValueError, listener.startService)
        self.assertIn("--reactor=asyncio", str(error))
        waiting = listener.WaitForConnection("", LOOPBACK, 0)
        self.assertEqual(str(self.failureResultOf(waiting, ValueError).value), str(error))
        self.assertEqual(listener.ports, [])

    def test_monotonicClock(self) -> None:
        """Nothing is said of a clock that is no wall clock."""
        with capturedLogs() as events:
            ListenerInMemory().acceptor.privilegedStartService()
        self.assertEqual(linesOf(events), [])


class CannotListenTests(LoopbackTestCase):
    """A port that cannot be had: the caller is told, and nothing is left open."""

    @inlineCallbacks
    def test_inUse(self) -> Generator[Deferred[Any], Any, None]:
        taken = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(lambda: maybeDeferred(taken.stopListening))
        number = taken.getHost().port
        yield turn()  # the reactor runs, and has opened what it needs for that
        before = openDescriptors()
        listener = self.make([LOOPBACK, f"tcp:{number}:interface=127.0.0.1", LOOPBACK])
        with capturedLogs() as logged:
            error = self.assertRaises(CannotListenError, listener.startService)
        self.assertEqual((error.port, error.socketError.errno), (number, EADDRINUSE))
        self.assertEqual([line for line in linesOf(logged) if "cannot" in line], [], "the caller is told")
        self.assertEqual(listener.running, 0)
        yield listener.stopService()
        self.assertEqual(listener.ports, [])
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(storeThreads(), [])
        self.assertFalse(self.directory.exists())

    @inlineCallbacks
    def test_again(self) -> Generator[Deferred[Any], Any, None]:
        """Started once more when the port is free."""
        taken = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        number = taken.getHost().port
        listener = self.make(f"tcp:{number}:interface=127.0.0.1")
        self.assertRaises(CannotListenError, listener.privilegedStartService)
        yield listener.stopService()
        yield maybeDeferred(taken.stopListening)
        listener.startService()
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)

    @inlineCallbacks
    def test_noDirectory(self) -> Generator[Deferred[Any], Any, None]:
        """Nor where the store cannot be opened."""
        self.directory.write_text("a file")
        yield self.start(storeDirectory=self.mktemp()).stopService()  # what Twisted opens once and keeps
        before = openDescriptors()
        listener = self.make()
        self.assertRaises(OSError, listener.startService)
        self.assertEqual((listener.running, listener.ports), (0, []))
        yield listener.stopService()
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(storeThreads(), [])


class StartAndStopTests(LoopbackTestCase):
    """The life of a listener."""

    @inlineCallbacks
    def test_storeDirectory(self) -> Generator[Deferred[Any], Any, None]:
        """Made by the start, with those above it; the object stands there as the layout says, a whole file."""
        self.directory = self.directory / "above" / "store"
        listener = self.start(layout="{Modality}/{SOPInstanceUID}.dicom")
        self.assertTrue(self.directory.is_dir())
        self.assertEqual(listener.storeDirectory, str(self.directory))
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)
        content = (self.directory / "unknown" / "1.2.3.dicom").read_bytes()
        self.assertEqual((content[128:132], content[-len(DATA) :]), (b"DICM", DATA))

    def test_relativeDirectory(self) -> None:
        """Meant from where the process is when the listener is made."""
        listener = DCXACC([], storeDirectory="objects", reactor=reactor)
        self.assertEqual(listener.storeDirectory, os.path.abspath("objects"))
        self.assertEqual(DCXACC([], reactor=reactor).storeDirectory, os.path.abspath("dicom-store"))

    @inlineCallbacks
    def test_privilegedStart(self) -> Generator[Deferred[Any], Any, None]:
        """It listens, once; the store is for whoever the process is afterwards."""
        listener = self.make()
        listener.privilegedStartService()
        (port,) = listener.ports
        self.assertFalse(self.directory.exists())
        listener.startService()
        self.assertEqual(listener.ports, [port])
        self.assertEqual(self.directory.stat().st_uid, os.getuid())
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)

    @inlineCallbacks
    def test_twice(self) -> Generator[Deferred[Any], Any, None]:
        """Starting what runs and stopping what stands do nothing; each stop tells its own caller."""
        listener = self.start()
        ports = listener.ports
        listener.startService()
        listener.privilegedStartService()
        self.assertEqual(listener.ports, ports)
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)
        first, second = listener.stopService(), listener.stopService()
        self.assertNoResult(first)
        self.assertNoResult(second)
        yield first
        yield second
        self.assertEqual(storeThreads(), [])
        yield listener.stopService()

    @inlineCallbacks
    def test_again(self) -> Generator[Deferred[Any], Any, None]:
        listener = self.start()
        number = portOf(listener)
        yield listener.stopService()
        yield self.assertNobodyListens(number)
        listener.startService()
        self.assertEqual(listener.running, 1)
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)

    @inlineCallbacks
    def test_startedWhileStopping(self) -> Generator[Deferred[Any], Any, None]:
        """Refused: what still stops would take the new start along."""
        listener = self.start()
        stopping = listener.stopService()
        self.assertRaises(RuntimeError, listener.startService)
        yield stopping
        listener.startService()

    @inlineCallbacks
    def test_nothingLeft(self) -> Generator[Deferred[Any], Any, None]:
        """After a stop: no port, no thread, no descriptor, no timer."""
        yield self.start().stopService()  # what Twisted opens once and keeps
        before = openDescriptors()
        timers = reactor.getDelayedCalls()
        listener = self.start()
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)
        self.assertNotEqual(storeThreads(), [])
        yield listener.stopService()
        yield peer.gone()
        self.assertEqual(storeThreads(), [])
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(reactor.getDelayedCalls(), timers)

    @inlineCallbacks
    def test_objectInFlight(self) -> Generator[Deferred[Any], Any, None]:
        """Finished first, with its answer; meanwhile nobody else gets in."""
        events = RecordingEvents()
        listener = self.start(events=events)
        number = portOf(listener)
        peer = yield self.associated(listener)
        sent: list[bytes] = []
        # To send it in parts.
        send, peer.send = peer.send, sent.append
        peer.store(DATA, "1.2.3", maximumLength=512)
        data = b"".join(sent)
        send(data[:-600])
        while "OnStoreSetup" not in events.names:
            yield turn()
        stopping = listener.stopService()
        yield self.assertNobodyListens(number)
        self.assertNoResult(stopping)
        send(data[-600:])
        yield stopping
        yield peer.gone()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual((peer.aborted.source, peer.aborted.reason), (0, 0))
        self.assertEqual(events.names[-2:], ["OnStoreDone", "OnAssocEnd"])
        self.assertTrue((self.directory / "1.2.4" / "1.2.5" / "1.2.3.dcm").is_file())

    @inlineCallbacks
    def test_unansweredObject(self) -> Generator[Deferred[Any], Any, None]:
        """Wholly received, and OnStoreDone has not answered: the stop waits for it."""
        deciding: Deferred[Any] = Deferred()
        events = RecordingEvents(OnStoreDone=deciding)
        listener = self.start(events=events)
        peer = yield self.associated(listener)
        peer.store(DATA, "1.2.3")
        while "OnStoreDone" not in events.names:
            yield turn()
        stopping = listener.stopService()
        yield turn()
        self.assertNoResult(stopping)
        deciding.callback(True)
        yield stopping
        yield peer.gone()
        self.assertEqual(peer.statuses, [0])


def turn() -> Deferred[None]:
    """Return a Deferred that fires in the reactor's next turn."""
    deferred: Deferred[None] = Deferred()
    reactor.callLater(0, deferred.callback, None)
    return deferred


class ApplicationTests(LoopbackTestCase):
    """What an application asks of a listener."""

    @inlineCallbacks
    def test_memory(self) -> Generator[Deferred[Any], Any, None]:
        """Objects kept in memory are handed over, the oldest first, once."""
        listener = self.start(events=RecordingEvents(OnStoreSetup=IN_MEMORY))
        peer = yield self.associated(listener)
        self.assertIsNone(listener.TakeStoredObject())
        for number in (1, 2):
            self.assertEqual((yield self.store(peer, f"1.{number}", dataSet(f"1.{number}"), number)), 0)
        for number in (1, 2):
            taken = listener.TakeStoredObject()
            assert taken is not None
            self.assertEqual((taken.SOPInstanceUID, taken.SOPClassUID), (f"1.{number}", CT))
            self.assertTrue(bytes(taken).endswith(dataSet(f"1.{number}")))
            self.assertIs(taken.association, listener.associations[0])
        self.assertIsNone(listener.TakeStoredObject())
        self.assertEqual(list(self.directory.iterdir()), [])

    @inlineCallbacks
    def test_path(self) -> Generator[Deferred[Any], Any, None]:
        """A path of the application's is taken beside whatever store."""
        path = str(self.directory / "elsewhere" / "x.dcm")
        for options in ({}, {"store": MemoryStore()}):
            listener = self.start(events=RecordingEvents(OnStoreSetup=path), **options)
            peer = yield self.associated(listener)
            self.assertEqual((yield self.store(peer)), 0)
            yield listener.stopService()
            self.assertTrue(Path(path).read_bytes().endswith(DATA))

    @inlineCallbacks
    def test_storeAndParticipants(self) -> Generator[Deferred[Any], Any, None]:
        log: list[str] = []
        store = FakeStore(log)
        participants = [FakeParticipant(log, "first"), FakeParticipant(log, "second")]
        listener = self.start(store=store, participants=participants)
        peer = yield self.associated(listener)
        self.assertEqual((yield self.store(peer)), 0)
        self.assertEqual((log, store.sinks[0].data), (["open", "first", "second"], DATA))

    @inlineCallbacks
    def test_associations(self) -> Generator[Deferred[Any], Any, None]:
        """Those accepted and not over, in a list of the caller's own."""
        listener = self.start()
        self.assertEqual(listener.associations, [])
        unassociated = yield self.peerOf(listener)
        first = yield self.associated(listener)
        yield self.associated(listener)
        self.assertEqual([a.callingAETitle for a in listener.associations], ["PEER", "PEER"])
        list(listener.associations).clear()
        first.release()
        yield first.when(lambda: first.released)
        self.assertEqual(len(listener.associations), 1)
        self.assertEqual(listener.associations[0].ended, "")
        self.assertIsNone(unassociated.lost)

    @inlineCallbacks
    def test_abortAll(self) -> Generator[Deferred[Any], Any, None]:
        """Every association, and nothing else: the listener goes on."""
        events = RecordingEvents()
        listener = self.start(events=events)
        peers = []
        for _ in range(3):
            peers.append((yield self.associated(listener)))
        unassociated = yield self.peerOf(listener)
        listener.AbortActiveAssociations()
        self.assertEqual(listener.associations, [])
        for peer in peers:
            yield peer.when(lambda peer=peer: peer.aborted)
            self.assertEqual((peer.aborted.source, peer.aborted.reason), (0, 0))
        self.assertEqual([args[1] for name, args in events.calls if name == "OnAssocEnd"], ["aborted"] * 3)
        unassociated.associate()
        yield unassociated.when(lambda: unassociated.accepted)
        self.assertEqual((yield self.store(unassociated)), 0)


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """Listens when, and if, a test says so."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def listen(self, protocolFactory: IProtocolFactory) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class FakePort:
    """A port that counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.closing: Deferred[None] = succeed(None)

    def getHost(self) -> str:
        return "somewhere"

    def stopListening(self) -> Deferred[None]:
        self.closed += 1
        return self.closing


class LateEndpointTests(SynchronousTestCase):
    """Endpoints that listen, or fail to, only later."""

    def listen(self, *answers: Any) -> DCXACC:
        clock = Clock()
        listener = DCXACC([FakeEndpoint(answer) for answer in answers], reactor=clock)
        listener.privilegedStartService()
        self.addCleanup(lambda: self.assertEqual(clock.getDelayedCalls(), []))
        return listener

    def test_listens(self) -> None:
        late: Deferred[Any] = Deferred()
        first, second = FakePort(), FakePort()
        listener = self.listen(late, succeed(first))
        self.assertEqual(listener.ports, [first])
        with capturedLogs() as events:
            late.callback(second)
        self.assertEqual(linesOf(events), ["listening on somewhere"])
        self.assertEqual(listener.ports, [first, second])
        self.successResultOf(listener.stopService())
        self.assertEqual((first.closed, second.closed), (1, 1))

    def test_fails(self) -> None:
        """Logged, as nobody is there to be told; half a listener is none."""
        late: Deferred[Any] = Deferred()
        port = FakePort()
        listener = self.listen(succeed(port), late)
        with capturedLogs() as events:
            late.errback(CannotListenError("any", 104, OSError(13, "Permission denied")))
        (line,) = linesOf(events)
        self.assertTrue(line.startswith("cannot listen: port 104 takes privileges, as each below 1024 does: "), line)
        self.assertEqual((port.closed, listener.ports), (1, []))
        self.successResultOf(listener.stopService())

    def test_stoppedBefore(self) -> None:
        """What is not there yet is not waited for; what is, is closed."""
        cancelled: list[object] = []
        late: Deferred[Any] = Deferred(cancelled.append)
        port = FakePort()
        listener = self.listen(late, succeed(port))
        with capturedLogs() as events:
            self.successResultOf(listener.stopService())
        self.assertEqual((cancelled, port.closed, listener.ports), ([late], 1, []))
        self.assertEqual(linesOf(events), [])

    def test_listensWhenCancelled(self) -> None:
        """An endpoint that cannot be stopped any more: its port is closed."""
        port = FakePort()
        late: Deferred[Any] = Deferred(lambda deferred: deferred.callback(port))
        listener = self.listen(late)
        self.successResultOf(listener.stopService())
        self.assertEqual((port.closed, listener.ports), (1, []))

    def test_raises(self) -> None:
        """As one that fails at once."""
        port = FakePort()
        endpoints = [FakeEndpoint(succeed(port)), FakeEndpoint(ZeroDivisionError()), FakeEndpoint(fail(KeyError()))]
        listener = DCXACC(endpoints, reactor=Clock())
        self.assertRaises(ZeroDivisionError, listener.privilegedStartService)
        self.assertEqual(port.closed, 1)

    def test_failsBesideALateOne(self) -> None:
        cancelled: list[object] = []
        late: Deferred[Any] = Deferred(cancelled.append)
        listener = DCXACC([FakeEndpoint(late), FakeEndpoint(fail(KeyError()))], reactor=Clock())
        self.assertRaises(KeyError, listener.privilegedStartService)
        self.assertEqual(cancelled, [late])

    def test_portThatWillNotClose(self) -> None:
        """The others are closed all the same, and the stop goes on."""
        first, second = FakePort(), FakePort()
        first.closing = fail(OSError(5, "no"))
        listener = self.listen(succeed(first), succeed(second))
        self.successResultOf(listener.stopService())
        self.assertEqual((first.closed, second.closed), (1, 1))


class InMemoryTests(SynchronousTestCase):
    """What needs no socket: the stop by the clock, and what a listener is without being told."""

    def test_deadline(self) -> None:
        """What is in flight has so many seconds, then it is aborted."""
        events = RecordingEvents()
        listener = ListenerInMemory(events, configuration=Configuration(stopDeadline=5))
        peer, connection = listener.associate()
        idle, idleConnection = listener.associate()
        peer.store(DATA, "1.2.3", maximumLength=512)
        connection.client.unsent = connection.client.unsent[:-518]
        connection.pump()
        stopping = listener.acceptor.stopService()
        idleConnection.pump()
        self.assertIsNotNone(idle.aborted)
        listener.clock.advance(4.9)
        connection.pump()
        self.assertIsNone(peer.lost)
        self.assertNoResult(stopping)
        listener.clock.advance(0.1)
        connection.pump()
        self.successResultOf(stopping)
        self.assertIsNotNone(peer.lost)
        self.assertEqual(peer.statuses, [])
        self.assertEqual([args[1] for name, args in events.calls if name == "OnAssocEnd"], ["aborted", "aborted"])
        self.assertEqual(listener.clock.getDelayedCalls(), [])

    def test_services(self) -> None:
        """Verification and storage are offered, and nothing else."""
        contexts = {
            number: (abstract, ["1.2.840.10008.1.2"])
            for number, abstract in ((1, "1.2.840.10008.1.1"), (3, CT), (5, "1.2.840.10008.5.1.4.1.2.2.1"))
        }
        peer, _ = ListenerInMemory().associate(contexts)
        assert peer.accepted is not None
        self.assertEqual([result.result for result in peer.accepted.presentationContexts], [0, 0, 3])

    def test_defaultEvents(self) -> None:
        """Without a provider everything is accepted and stored."""
        listener = ListenerInMemory()
        self.assertIsInstance(listener.acceptor.events, DCXACCEvents)
        self.assertEqual(listener.acceptor.configuration, Configuration())
        peer, connection = listener.associate()
        peer.store(DATA, "1.2.3")
        connection.pump()
        self.assertEqual(peer.statuses, [0])
