"""
A worker and its supervisor, joined in memory: what is asked, told and handed over.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.configuration import Configuration
from dcxtwisted.setups import Given, Reload
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, RecordingEvents, ScriptedPeer
from dcxtwisted.wire.pdu import AssociateRJ
from dcxtwisted.workers.dispatch import Dispatch
from dcxtwisted.workers.link import WorkerLink
from dcxtwisted.workers.serving import Serving, factoryFor
from tests.workers.support import Pipe, socketPair


class ServingTestCase(SynchronousTestCase):
    """A supervisor, two workers, and what joins them."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        self.calls: list[str] = []
        self.events = RecordingEvents()
        configuration = Configuration(**settings)
        self.dispatch = Dispatch(configuration, Clock(), 2)
        self.workers = [_Worker(self, configuration, number) for number in range(2)]

    def pump(self) -> None:
        for _ in range(5):
            for worker in self.workers:
                worker.pipe.pump()
                for _, connection in worker.served:
                    connection.pump()

    def associate(self, **how: Any) -> ScriptedPeer:
        """Have a connection arrive, request an association, and return its peer."""
        peer = self.connect()
        peer.associate(**how)
        self.pump()
        return peer

    def connect(self) -> ScriptedPeer:
        """Have a connection arrive at the worker whose turn it is, and return its peer."""
        ours, _ = socketPair(self)
        before = [len(worker.served) for worker in self.workers]
        self.dispatch.arrived(ours, "127.0.0.1", 0)
        self.pump()
        (worker,) = (each for each, count in zip(self.workers, before, strict=True) if len(each.served) > count)
        return worker.served[-1][0]


class _Worker:
    """Also its reactor, and its leader."""

    def __init__(self, case: ServingTestCase, configuration: Configuration, number: int) -> None:
        self._calls = case.calls
        self.listener = ListenerInMemory(case.events, configuration=configuration)
        self.acceptor = self.listener.acceptor
        self.served: list[tuple[ScriptedPeer, MemoryConnection]] = []
        self.adopts: Any = None
        reload = Reload(self.acceptor, Given(), Given().settle(Clock())[0], Clock())
        self.acceptor.addReload(reload.prepare)
        self.serving = Serving(self.acceptor, [factoryFor(self.acceptor, 0, False)], reload, self, self)
        worker = case.dispatch.workers[number]
        self.link = WorkerLink(case.dispatch, worker, lambda error: None, lambda: self._calls.append("link lost"))
        self.pipe = Pipe(self.link, self.serving)
        case.dispatch.isUp(worker, self.link)

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        if self.adopts is not None:
            raise self.adopts
        assert family == socket.AF_UNIX
        os.fstat(descriptor)
        self.served.append(self.listener.connect(factory=factory))

    def stop(self) -> None:
        self._calls.append("stop")

    def supervisorLost(self) -> None:
        self._calls.append("supervisor lost")


class AdmissionTests(ServingTestCase):
    """Who may come in is the supervisor's word."""

    def test_accepted(self) -> None:
        peers = [self.associate() for _ in range(2)]
        self.assertTrue(all(peer.accepted for peer in peers))
        self.assertEqual([len(worker.acceptor.associations) for worker in self.workers], [1, 1])
        self.assertEqual(
            [(each.callingAETitle, each.calledAETitle) for each in self.dispatch.associations],
            [("PEER", "DCXTWISTED")] * 2,
        )
        for peer in peers:
            peer.release()
        self.pump()
        self.assertEqual(self.dispatch.associations, [])
        for worker in self.workers:
            transport = worker.served[0][0].transport
            assert transport is not None
            transport.loseConnection()
        self.pump()
        self.assertEqual([worker.connections for worker in self.dispatch.workers], [{}, {}])
        self.assertEqual(self.dispatch.admission.counts["associations accepted"], 2)

    def test_limit(self) -> None:
        """As in one process: 2/3/2, before OnConnection is asked, wherever the others are."""
        self.make(maximumAssociationsPerAETitle=1)
        self.associate()
        self.events.calls.clear()
        rejected = self.associate()
        self.assertEqual(rejected.rejected, AssociateRJ(2, 3, 2))
        self.assertEqual(self.events.calls, [])
        self.assertTrue(self.associate(callingAETitle="OTHER").accepted)

    def test_supervisorDoesNotAnswer(self) -> None:
        """Rejected transiently at the deadline; what it says later is nobody's."""
        self.make(connectionEventDeadline=3)
        peer = self.connect()
        peer.associate()
        (worker,) = (each for each in self.workers if each.served)
        worker.served[0][1].pump()
        worker.listener.clock.advance(3)
        worker.served[0][1].pump()
        self.assertEqual(peer.rejected, AssociateRJ(2, 1, 1))
        self.pump()
        self.assertEqual(self.dispatch.associations, [])
        self.assertEqual(self.dispatch.admission._inside, {})

    def test_gone(self) -> None:
        """A peer that goes while the supervisor is asked: its place is free again."""
        peer = self.connect()
        peer.associate()
        (worker,) = (each for each in self.workers if each.served)
        worker.served[0][1].pump()
        transport: Any = peer.transport
        transport.abortConnection()
        worker.served[0][1].pump()
        self.pump()
        self.assertEqual([each.connections for each in self.dispatch.workers], [{}, {}])
        self.assertEqual(self.events.calls, [])

    def test_requestGrew(self) -> None:
        """Told where it is much, not with each byte."""
        transport: Any = self.connect().transport
        begin = b"\1\0" + (1 << 19).to_bytes(4)
        for data, known in ((begin + bytes(15994), 0), (bytes(383), 0), (b"\0", 16384), (bytes(16384), 32768)):
            transport.write(data)
            self.pump()
            self.assertEqual(self.dispatch.admission._bytes, known)


class HandingTests(ServingTestCase):
    """Connections."""

    def test_closedAndAborted(self) -> None:
        one, two = self.associate(), self.associate()
        for association in self.dispatch.associations:
            if association.number == 1:
                association.abort()
            else:
                assert association.link is not None
                association.link.close(association.number)
        self.pump()
        self.assertTrue(one.aborted)
        self.assertIsNone(two.aborted)
        self.assertIsNotNone(two.lost)

    def test_descriptors(self) -> None:
        """None is left open, whether the connection could be adopted or not."""
        before = len(os.listdir("/proc/self/fd"))
        ours, _ = socketPair(self)
        self.workers[0].adopts = OSError(107, "not connected")
        self.dispatch.arrived(ours, "a", 0)
        self.pump()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        self.assertEqual(self.dispatch.workers[0].connections, {})

    def test_mixedUp(self) -> None:
        """A descriptor that is another's is served by nobody; the other worker gets the connection."""
        other, _ = socketPair(self)
        ours, _ = socketPair(self)
        self.workers[0].pipe.ends[0].sendFileDescriptor = lambda descriptor: _send(self, other)  # type: ignore[method-assign]  # one that was lost before
        self.dispatch.arrived(ours, "a", 0)
        self.pump()
        self.assertEqual([len(worker.served) for worker in self.workers], [0, 1])
        self.assertEqual(self.calls, ["stop"])

    def test_noRoom(self) -> None:
        """A worker that cannot take one more gives it back; the other worker gets the connection."""
        before = len(os.listdir("/proc/self/fd"))
        ours, _ = socketPair(self)
        self.workers[0].adopts = OSError(errno.EMFILE, "too many open files")
        self.dispatch.arrived(ours, "a", 0)
        self.pump()
        self.assertEqual([len(worker.served) for worker in self.workers], [0, 1])
        self.assertEqual(self.calls, ["stop"])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)

    def test_linkLost(self) -> None:
        self.workers[0].pipe.lose()
        self.assertEqual(self.calls, ["link lost", "supervisor lost"])

    def test_stopped(self) -> None:
        """Who is told to stop gets nothing more."""
        self.workers[0].link.stop()
        for _ in range(2):
            self.connect()
        self.assertEqual([len(worker.served) for worker in self.workers], [0, 2])
        self.assertEqual(self.calls, ["stop"])

    def test_leaving(self) -> None:
        """Answered when nothing more comes."""
        leaving = self.workers[0].serving.leave()
        self.pump()
        self.successResultOf(leaving)
        for _ in range(3):
            self.connect()
        self.assertEqual([len(worker.served) for worker in self.workers], [0, 3])


def _send(case: ServingTestCase, other: socket.socket) -> None:
    case.workers[0].serving.fileDescriptorReceived(os.dup(other.fileno()))


class ReloadTests(ServingTestCase):
    """What is read again."""

    def test_prepareAndUse(self) -> None:
        """Nothing changes before it is used; the file is as the supervisor read it."""
        path = Path(self.mktemp())
        path.write_text("[limits]\nmaximumAssociations = 7\n")
        given = Given({"config": str(path.absolute())}).pinned()
        path.write_text("nonsense")
        worker = self.workers[0]
        before = len(os.listdir("/proc/self/fd"))
        prepared = worker.link.prepare(given)
        self.pump()
        self.successResultOf(prepared)
        self.assertEqual(worker.acceptor.configuration.maximumAssociations, 1000)
        used = worker.link.use()
        self.pump()
        self.assertEqual(self.successResultOf(used), ["limits.maximumAssociations = 7"])
        self.assertEqual(worker.acceptor.configuration.maximumAssociations, 7)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_noGood(self) -> None:
        given = attrs.evolve(Given({"config": "/x.toml"}), content=b"[limits]\nX = 1\n")
        failures: list[Failure] = []
        self.workers[0].link.prepare(given).addErrback(failures.append)
        self.pump()
        self.assertEqual(failures[0].type, ValueError)
        self.assertIn("limits.X: there is no such setting", failures[0].getErrorMessage())

    def test_told(self) -> None:
        """To stop, and to abort everything."""
        peer = self.associate()
        for worker in self.workers:
            worker.link.abortAll()
            worker.link.stop()
        self.pump()
        self.assertIsNotNone(peer.lost)
        self.assertEqual(self.calls, ["stop", "stop"])
