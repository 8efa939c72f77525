"""
The supervisor with processes that are none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Port
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.setups import Given
from dcxtwisted.workers.accepting import Accepted, PassingFactory, passOn
from dcxtwisted.workers.serving import factoryFor
from dcxtwisted.workers.supervisor import Supervisor
from tests.workers.support import FakeProcess, socketPair


class FakePort(Port):
    """A port that is none."""

    def __init__(self) -> None:
        self.stopped = 0

    def __repr__(self) -> str:
        return "<a port>"

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 104)

    def stopListening(self, connDone: Any = None) -> Any:
        self.stopped += 1


class FakeListening:
    """What listens in a way of its own."""

    isStopped = False

    def stopListening(self) -> None:
        """Remember."""
        self.isStopped = True


class FakeEndpoint:
    """Listens with what the test says."""

    def __init__(self, result: Any = None) -> None:
        self.port = FakePort()
        self.result = succeed(self.port) if result is None else result
        self.factory: Any = None

    def listen(self, factory: Any) -> Any:
        self.factory = factory
        return self.result


class SupervisorTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.processes: list[FakeProcess] = []
        self.cannotStart: OSError | None = None
        self.path = Path(self.mktemp()).absolute()
        self.path.write_text("")

    def supervisor(self, *endpoints: Any, **options: Any) -> Supervisor:
        given = Given({"config": str(self.path), "workers": "2", **options})
        listening: Any = endpoints or [FakeEndpoint()]
        setup, configuration = given.settle(self.clock)
        return Supervisor(
            given,
            setup,
            configuration,
            endpoints=listening,
            tlsEndpoints=[],
            securityContext=None,
            start=self.startProcess,
            awaitStarted=self.awaitStarted,
            reactor=self.clock,
        )

    def startProcess(self, number: int, given: Given, ended: Any) -> FakeProcess:
        self.processes.append(FakeProcess(number, given, ended))
        return self.processes[-1]

    def awaitStarted(self, processes: Any) -> None:
        self.assertEqual(processes, self.processes)
        if self.cannotStart is not None:
            raise self.cannotStart

    def started(self) -> tuple[Supervisor, list[Any]]:
        """Return a supervisor whose two workers are up, and what was said to each."""
        supervisor = self.supervisor()
        supervisor.privilegedStartService()
        supervisor.startService()
        said: list[Any] = []
        for process in self.processes:
            process.link.started("")
            calls: list[Any] = []
            for name in ("stop", "abortAll"):
                setattr(process.link, name, lambda name=name, calls=calls: calls.append(name))
            for name in ("prepare", "use"):
                setattr(process.link, name, lambda *given, name=name, calls=calls: _asked(calls, name))
            said.append(calls)
        return supervisor, said


def _asked(calls: list[Any], name: str) -> Deferred[Any]:
    answer: Deferred[Any] = Deferred()
    calls.append((name, answer))
    return answer


class StartTests(SupervisorTestCase):
    """Starting and stopping."""

    def test_starts(self) -> None:
        supervisor, _ = self.started()
        self.assertEqual([process.number for process in self.processes], [1, 2])
        self.assertEqual((len(supervisor.ports), len(supervisor.tlsPorts)), (1, 0))
        self.assertIs(supervisor.ports[0].transport, Accepted)  # type: ignore[attr-defined]  # a Port's
        self.assertTrue(self.processes[0].given.directory)

    def test_cannotListen(self) -> None:
        error = CannotListenError("any", 104, OSError(98, "in use"))
        good, bad = FakeEndpoint(), FakeEndpoint(fail(error))
        supervisor = self.supervisor(good, bad)
        self.assertRaises(CannotListenError, supervisor.privilegedStartService)
        self.assertEqual((good.port.stopped, self.processes), (1, []))

    def test_otherEndpoints(self) -> None:
        """What listens later, or on no port of the reactor's, takes one process."""
        self.assertRaises(OSError, self.supervisor(FakeEndpoint(Deferred())).privilegedStartService)
        other = FakeListening()
        self.assertRaises(ValueError, self.supervisor(FakeEndpoint(succeed(other))).privilegedStartService)
        self.assertTrue(other.isStopped)

    def test_cannotStart(self) -> None:
        """All are ended, and it is told."""
        self.cannotStart = ChildProcessError("worker 1: no database")
        supervisor = self.supervisor()
        self.assertRaises(ChildProcessError, supervisor.startService)
        self.assertTrue(all(process.killed for process in self.processes))
        self.assertFalse(supervisor.running)

    def test_stops(self) -> None:
        """Ports first; when all workers are gone it is over."""
        supervisor, said = self.started()
        stopped, again = supervisor.stopService(), supervisor.stopService()
        self.assertEqual((said, supervisor.ports), ([["stop"], ["stop"]], []))
        self.processes[0].ended(0)
        self.assertNoResult(stopped)
        self.processes[1].ended(0)
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_doesNotStop(self) -> None:
        """Killed beyond the deadline, or soon after a second signal; and told."""
        for isHurried, seconds in ((False, 31.0), (True, 1.0)):
            self.setUp()
            supervisor, said = self.started()
            stopped = supervisor.stopService()
            self.processes[0].ended(0)
            if isHurried:
                supervisor.abortAll()
                self.assertEqual(said[1], ["stop", "abortAll"])
            self.clock.advance(seconds - 0.1)
            self.assertEqual(self.processes[1].killed, 0)
            self.clock.advance(0.1)
            self.assertEqual(self.processes[1].killed, 1)
            self.processes[1].ended(-9)
            self.failureResultOf(stopped, ChildProcessError)

    def test_takesOneProcess(self) -> None:
        """What waits, and what is in memory."""
        supervisor = self.supervisor()
        for call in (
            lambda: supervisor.WaitForConnection("X", 104),
            supervisor.WaitForCommand,
            supervisor.TakeStoredObject,
            lambda: setattr(supervisor, "EnableInMemoryStorageSCP", True),
        ):
            error = self.assertRaises(RuntimeError, call)
            self.assertIn("takes one process: --workers 1", str(error))
        self.assertFalse(supervisor.EnableInMemoryStorageSCP)

    def test_associations(self) -> None:
        """None; and what is counted."""
        supervisor, _ = self.started()
        supervisor.AbortActiveAssociations()
        self.assertEqual((supervisor.associations, supervisor.counts), ([], {}))


class ReloadTests(SupervisorTestCase):
    """Reading again, in all workers or none."""

    def answer(self, said: list[Any], *answers: Any) -> None:
        """Answer the latest question to each worker."""
        for calls, answer in zip(said, answers, strict=True):
            asked = calls[-1][1]
            asked.callback(answer)

    def test_all(self) -> None:
        self.path.write_text("[limits]\nmaximumAssociations = 5\n")
        supervisor, said = self.started()
        self.path.write_text("[limits]\nmaximumAssociations = 7\n[[policy]]\nallow = true\n")
        reloading = supervisor.reload()
        self.answer(said, {}, {})
        self.assertEqual([calls[-1][0] for calls in said], ["use", "use"])
        self.answer(said, ["this"], ["this"])
        self.assertEqual(self.successResultOf(reloading), ["this"])
        self.assertEqual(supervisor.configuration.maximumAssociations, 7)
        self.assertEqual(supervisor._dispatch.admission.limits, supervisor.configuration)
        self.assertEqual(len(supervisor.policy), 1)

    def test_noGood(self) -> None:
        """Here, or for one of them."""
        supervisor, said = self.started()
        before = supervisor.configuration
        self.path.write_text("[limits]\nX = 1\n")
        self.failureResultOf(supervisor.reload(), ValueError)
        self.assertEqual(said, [[], []])
        self.path.write_text("[limits]\nmaximumAssociations = 7\n")
        reloading = supervisor.reload()
        said[0][-1][1].callback({})
        said[1][-1][1].errback(ValueError("certificate: not readable"))
        error = self.failureResultOf(reloading, ValueError)
        self.assertEqual(str(error.value), "certificate: not readable")
        self.assertEqual([calls[-1][0] for calls in said], ["prepare", "prepare"])
        self.assertEqual(supervisor.configuration, before)

    def test_noAnswer(self) -> None:
        supervisor, said = self.started()
        reloading = supervisor.reload()
        said[0][-1][1].callback({})
        self.clock.advance(60)
        error = self.failureResultOf(reloading, ValueError)
        self.assertEqual(str(error.value), "a worker does not answer")

    def test_notUsed(self) -> None:
        """One that prepared it, and does not go by it then, is ended: all others do, and so will the next."""
        supervisor, said = self.started()
        self.path.write_text("[limits]\nmaximumAssociations = 7\n")
        reloading = supervisor.reload()
        self.answer(said, {}, {})
        said[0][-1][1].callback(["this"])
        self.clock.advance(60)
        self.assertEqual(self.successResultOf(reloading), ["this"])
        self.assertEqual([process.killed for process in self.processes], [0, 1])
        self.assertEqual(supervisor.configuration.maximumAssociations, 7)
        self.processes[1].ended(-9)
        self.clock.advance(0.1)
        self.assertIs(self.processes[2].given, supervisor._given)

    def test_died(self) -> None:
        """One that dies meanwhile is none of those that decide: it is started with what is new."""
        supervisor, said = self.started()
        reloading = supervisor.reload()
        said[0][-1][1].callback({})
        said[1][-1][1].errback(ConnectionDone())
        said[0][-1][1].callback([])
        said[1][-1][1].errback(ConnectionDone())
        self.assertEqual(self.successResultOf(reloading), [])

    def test_oneAfterTheOther(self) -> None:
        supervisor, said = self.started()
        first, second = supervisor.reload(), supervisor.reload()
        self.answer(said, {}, {})
        self.answer(said, ["one"], ["one"])
        self.assertEqual(self.successResultOf(first), ["one"])
        self.assertNoResult(second)
        self.answer(said, {}, {})
        self.answer(said, [], [])
        self.assertEqual(self.successResultOf(second), [])

    def test_startedMeanwhile(self) -> None:
        """A worker that came up between the questions is stopped: another goes by what is new."""
        supervisor, said = self.started()
        self.processes[1].ended(-9)
        self.clock.advance(0.1)
        reloading = supervisor.reload()
        late = self.processes[2]
        late.link.started("")
        stops: list[str] = []
        late.link.stop = lambda: stops.append("stop")
        said[0][-1][1].callback({})
        said[0][-1][1].callback(["x"])
        self.assertEqual(self.successResultOf(reloading), ["x"])
        self.assertEqual(stops, ["stop"])


class AcceptingTests(SynchronousTestCase):
    """`accepting`"""

    def test_nothingIsRead(self) -> None:
        """The socket is passed on as it is, with what the peer has sent."""
        arrived: list[Any] = []
        factory = PassingFactory(3, lambda *what: arrived.append(what))
        ours, peer = socketPair(self)
        peer.send(b"request")
        protocol = factory.buildProtocol(None)
        transport = Accepted(ours, protocol, ("::ffff:192.0.2.1", 5, 0, 0), None, 0, None)
        protocol.makeConnection(transport)
        self.assertEqual(arrived, [(ours, "192.0.2.1", 3)])
        self.assertEqual(ours.recv(10), b"request")
        self.assertEqual(Accepted(ours, protocol, "", None, 0, None).host, "local")

    def test_ports(self) -> None:
        other: Any = object()
        self.assertRaises(ValueError, passOn, other)


class FactoryTests(SynchronousTestCase):
    """`factoryFor`"""

    def test_kinds(self) -> None:
        """Bare; behind the PROXY protocol; TLS takes a certificate."""
        listener = DCXACC([], storeDirectory=self.mktemp(), reactor=Clock())
        self.assertIs(factoryFor(listener, 104, False), listener.factory)
        wrapped: Any = factoryFor(listener, "haproxy:tcp:104", False)
        self.assertIs(wrapped.wrappedFactory, listener.factory)
        self.assertRaises(ValueError, factoryFor, listener, 104, True)
