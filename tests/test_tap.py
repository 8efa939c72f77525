"""
The listener under twistd: its service, what concerns the process, and the real program from start to end.
"""

from __future__ import annotations

import gc
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted import DCXACCEvents, StoreRefused
from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configuration import Configuration, Duplicates
from dcxtwisted.options import Options
from dcxtwisted.policy import Rule
from dcxtwisted.security import SecurityContext
from dcxtwisted.tap import ListenerService, makeService
from dcxtwisted.users import Users
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.messages import encodeCStoreRQ
from dcxtwisted.wire.pdu import AssociateRJ
from tests.certificates import LOOPBACK as LOOPBACK_NAMES
from tests.certificates import Files, pem, selfSigned
from tests.loopback import BlockingPeer, Program, Sending, directoryFor, twistd
from tests.services.support import CT, DATA, STORAGE_CONTEXT, dataSet

reactor: Any = _reactor

#: The signals that are handled.
SIGNALS = sorted([signal.SIGHUP, signal.SIGINT, signal.SIGTERM])

LOOPBACK = "tcp:0:interface=127.0.0.1"


# Providers, named by their dotted names in the options below


class Talkative(DCXACCEvents):
    """Says on standard output how far an object has come, and refuses some."""

    def OnStoreSetup(self, filename: str, request: Any) -> None:
        """Say so; refuse instance 1.2.666."""
        if request.SOPInstanceUID == "1.2.666":
            raise StoreRefused(0xA7AB, "not that one")
        sys.stdout.write(f"setting up {request.SOPInstanceUID}\n")
        request.tap(lambda view: sys.stdout.write("bytes pass\n"))

    def OnStoreDone(self, filename: str, storage_status: bool, request: Any) -> Any:
        """Say so; never answer for instance 1.2.777."""
        sys.stdout.write(f"done {request.SOPInstanceUID} {storage_status}\n")
        return Deferred() if request.SOPInstanceUID == "1.2.777" else True


class Timed(DCXACCEvents):
    """Sets a timer when it is made."""

    def __init__(self) -> None:
        reactor.callLater(0.01, sys.stdout.write, "the timer of the provider\n")


class MakeServiceTests(SynchronousTestCase):
    """`makeService`"""

    def make(self, *arguments: str) -> DCXACC:
        options = Options()
        options.parseOptions(arguments)
        service: Any = makeService(options)
        self.assertTrue(IService.providedBy(service))
        (listener,) = service.services
        self.assertIsInstance(listener, DCXACC)
        return listener  # type: ignore[no-any-return]  # asserted just now

    def test_defaults(self) -> None:
        listener = self.make("--port", LOOPBACK)
        self.assertEqual(listener.storeDirectory, os.path.abspath("dicom-store"))
        self.assertEqual(listener.configuration, Configuration())
        self.assertEqual(type(listener.events), DCXACCEvents)
        self.assertTrue(listener._files.durable)

    def test_store(self) -> None:
        """The settings of the store reach it."""
        listener = self.make(
            *("--port", LOOPBACK, "--set", "duplicates=replace", "--set", "minimumFreeBytes=123"),
            *("--set", "minimumFreeInodes=45"),
        )
        self.assertIs(listener._files.duplicates, Duplicates.REPLACE)
        freeSpace = listener._files._freeSpace
        self.assertEqual((freeSpace._minimumBytes, freeSpace._minimumInodes), (123, 45))

    def test_values(self) -> None:
        self.patch(reactor, "seconds", reactor.seconds)
        listener = self.make(
            *("--port", LOOPBACK, "--store-directory", "/a/b", "--no-fsync", "--max-pdu", "16384"),
            *("--events", "tests.test_tap.Talkative", "--layout", "{Modality}/{SOPInstanceUID}"),
        )
        self.assertEqual(listener.storeDirectory, "/a/b")
        self.assertEqual(listener.configuration, Configuration(maximumLength=16384))
        self.assertEqual(type(listener.events).__name__, "Talkative")
        self.assertFalse(listener._files.durable)
        self.assertEqual(listener._files._layout.template, "{Modality}/{SOPInstanceUID}")


class FakeReactor(Clock):
    """A clock that can be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.whenRunning: list[Any] = []
        self.stopped = 0
        self.isStopping = False

    def callWhenRunning(self, function: Any, *args: object) -> None:
        self.whenRunning.append(function)

    def callFromThread(self, function: Any, *args: object) -> None:
        self.callLater(0, function, *args)

    def stop(self) -> None:
        if self.isStopping:
            raise ReactorNotRunning
        self.stopped += 1


class FakeListener(Service):
    """What a listener service needs of a listener; it writes down what it is called for."""

    storeDirectory = "/store"
    events = DCXACCEvents()
    policy: tuple[Rule, ...] = ()
    users: Users | None = None
    configuration = Configuration(AETitle="MY AE", stopDeadline=30)

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.ports: list[Any] = []
        self.tlsPorts: list[Any] = []
        self.SecurityContext: SecurityContext | None = None
        self.reloading: list[str] | Exception = []
        self.failure: Exception | None = None
        self.stopping: Deferred[None] = Deferred()
        self.factory = self

    def abortAll(self) -> None:
        self.calls.append("abort all")

    def reload(self) -> list[str]:
        if isinstance(self.reloading, Exception):
            raise self.reloading
        return self.reloading

    def privilegedStartService(self) -> None:
        self.calls.append("privileged start")
        if isinstance(self.failure, CannotListenError):
            raise self.failure

    def startService(self) -> None:
        self.calls.append("start")
        if self.failure is not None:
            raise self.failure

    def stopService(self) -> Deferred[None]:
        self.calls.append("stop")
        return self.stopping


class FakePort:
    """A port at an address."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def getHost(self) -> Any:
        return self.address


class ListenerServiceTests(SynchronousTestCase):
    """`ListenerService`, with everything around it a fake."""

    def setUp(self) -> None:
        self.reactor: Any = FakeReactor()
        listener: Any = FakeListener()
        self.listener = listener
        self.service = ListenerService(self.listener, self.reactor)
        self.limits: list[Any] = []
        self.patch(resource, "getrlimit", lambda which: (1024, 4096))
        self.patch(resource, "setrlimit", lambda which, limits: self.limits.append((which, limits)))
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.masks: list[Any] = []
        self.patch(signal, "pthread_sigmask", lambda how, which: self.masks.append((how, set(which))))
        self.left: list[int] = []
        self.patch(os, "_exit", self.left.append)
        self.frozen: list[list[str]] = []
        self.patch(gc, "freeze", lambda: self.frozen.append([*listener.calls]))

    def lines(self, events: Sequence[LogEvent]) -> list[str]:
        return [formatEvent(event) for event in events if event["log_namespace"] == "dcxtwisted.tap"]

    def start(self) -> list[str]:
        with capturedLogs() as events:
            self.service.privilegedStartService()
            self.service.startService()
        for function in self.reactor.whenRunning:
            function()
        return self.lines(events)

    def test_starts(self) -> None:
        self.listener.ports = [FakePort(IPv4Address("TCP", "0.0.0.0", 11112))]
        self.assertEqual(
            self.start(),
            [
                "AE title MY AE; called AE titles are not checked",
                "storing below /store",
                "no access rules are set: everyone who can connect may store",
                "send a first object with: storescu -aec 'MY AE' 127.0.0.1 11112 FILE.dcm",
            ],
        )
        self.assertEqual(self.listener.calls, ["privileged start", "start"])
        self.assertEqual(self.frozen, [["privileged start", "start"]])
        self.assertEqual(self.limits, [(resource.RLIMIT_NOFILE, (4096, 4096))])
        self.assertIs(self.reactor.seconds, time.monotonic)
        self.assertEqual(sorted(self.handlers), SIGNALS)

    def test_signalsWait(self) -> None:
        """From the lines at the start on, until their handlers stand: those that the reactor installs come between."""
        self.service.privilegedStartService()
        self.assertEqual((self.handlers, self.masks), ({}, []))
        masksAtStart: list[Any] = []
        self.patch(self.listener, "startService", lambda: masksAtStart.extend(self.masks))
        self.service.startService()
        self.assertEqual(self.masks, [(signal.SIG_BLOCK, set(SIGNALS))])
        self.assertEqual(masksAtStart, self.masks, "before the store has threads, which would take signals")
        self.assertEqual(self.handlers, {})
        (install,) = self.reactor.whenRunning
        install()
        self.assertEqual(sorted(self.handlers), SIGNALS)
        self.assertEqual(self.masks[1:], [(signal.SIG_UNBLOCK, set(SIGNALS))])

    def test_firstObject(self) -> None:
        """Sent to where the first port is; nothing is said where that has no number, or there is none."""
        for addresses, said in (
            ([IPv6Address("TCP", "::", 104), IPv4Address("TCP", "0.0.0.0", 105)], ["127.0.0.1 104"]),
            ([IPv4Address("TCP", "192.0.2.1", 106)], ["192.0.2.1 106"]),
            ([UNIXAddress(b"/x")], []),
            ([], []),
        ):
            self.listener.ports = [FakePort(address) for address in addresses]
            lines = [line for line in self.start() if "first object" in line]
            self.assertEqual(lines, [f"send a first object with: storescu -aec 'MY AE' {s} FILE.dcm" for s in said])

    def test_limits(self) -> None:
        """Left alone where they are as high as they may be; a failure is only told."""
        self.patch(resource, "getrlimit", lambda which: (4096, 4096))
        self.start()
        self.assertEqual(self.limits, [])

        def refuse(which: int, limits: object) -> None:
            raise ValueError("not allowed to raise maximum limit")

        self.patch(resource, "getrlimit", lambda which: (1024, 4096))
        self.patch(resource, "setrlimit", refuse)
        self.assertEqual(self.start()[0], "the descriptor limit stays at 1024: not allowed to raise maximum limit")

    def test_cannotStart(self) -> None:
        """Told in the log and, when twistd is through with it, in one line in place of the traceback."""
        for failure, said in (
            (
                CannotListenError("any", 104, OSError(98, "Address already in use")),
                "cannot start: port 104 is in use by another program, which ss -ltnp shows; --port takes another port",
            ),
            (OSError(17, "File exists", "/x"), "cannot start: [Errno 17] File exists: '/x'"),
            (OverflowError("bind(): port must be 0-65535."), "cannot start: bind(): port must be 0-65535."),
        ):
            self.patch(sys, "excepthook", None)
            errors = StringIO()
            self.patch(sys, "__stderr__", errors)
            self.listener.failure = failure
            with capturedLogs() as events:
                self.assertRaises(type(failure), self.start)
            self.assertEqual(self.lines(events)[-1:], [said])
            hook: Any = sys.excepthook
            hook(type(failure), failure, None)
            self.assertEqual(errors.getvalue(), f"twistd dcxtwisted: {said}\n")

    def test_mistakesKeepTheirTraceback(self) -> None:
        self.patch(sys, "excepthook", None)
        self.listener.failure = ZeroDivisionError()
        self.assertRaises(ZeroDivisionError, self.start)
        self.assertIsNone(sys.excepthook)

    def signalled(self, number: signal.Signals) -> list[str]:
        with capturedLogs() as events:
            self.handlers[number](number, None)
            self.assertEqual(self.lines(events), [], "nothing is done in a handler")
            self.reactor.advance(0)
        return self.lines(events)

    def test_signal(self) -> None:
        """The first stops, the second aborts, at any time."""
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
            self.setUp()
            self.start()
            name = signal.Signals(first).name
            self.assertEqual(
                self.signalled(first),
                [f"{name}: stopping once the objects in flight are done; a second one aborts them"],
            )
            self.assertEqual(self.reactor.stopped, 1)
            self.assertNotIn("abort all", self.listener.calls)
            self.assertEqual(self.signalled(second), ["SIGTERM again: aborting"])
            self.assertEqual((self.reactor.stopped, self.listener.calls[-1]), (1, "abort all"))

    def test_signalWhileStopping(self) -> None:
        """The application stops the reactor itself, and then comes a signal."""
        self.start()
        self.reactor.isStopping = True
        self.signalled(signal.SIGTERM)
        self.assertNotIn("abort all", self.listener.calls)

    def test_firstObjectOverTLS(self) -> None:
        self.listener.ports = self.listener.tlsPorts = [FakePort(IPv4Address("TCP", "0.0.0.0", 2762))]
        for required, options in (
            (False, "+tla +cf CA.pem"),
            (True, "+tls KEY.pem CERTIFICATE.pem +cf CA.pem"),
        ):
            self.listener.SecurityContext = SecurityContext(
                certificate="c.pem", trusted="ca.pem", requireClientCertificate=required
            )
            self.assertEqual(
                self.start()[-1],
                f"send a first object with: storescu {options} -aec 'MY AE' 127.0.0.1 2762 FILE.dcm",
            )

    def test_reload(self) -> None:
        self.start()
        for reloading, said in (
            ([], ["nothing to reload"]),
            (["this", "that"], ["reloaded: this", "reloaded: that"]),
            (ValueError("no good"), ["not reloaded, everything stays as it was: no good"]),
        ):
            self.listener.reloading = reloading
            self.assertEqual(self.signalled(signal.SIGHUP), said)
        self.assertEqual(self.reactor.stopped, 0)

    def test_stopped(self) -> None:
        """In time: no timer is left, and nothing is said."""
        self.start()
        stopping = self.service.stopService()
        self.assertNoResult(stopping)
        self.listener.stopping.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.signalled(signal.SIGTERM)
        self.signalled(signal.SIGTERM)
        self.assertEqual(self.left, [])

    def test_neverStopped(self) -> None:
        """What neither the deadline nor an abort ends is left, with status 1."""
        self.start()
        del self.reactor.seconds  # the clock of the test again
        stopping = self.service.stopService()
        self.reactor.advance(31.9)
        self.assertEqual(self.left, [])
        with capturedLogs() as events:
            self.reactor.advance(0.1)
        self.assertEqual(self.left, [1])
        self.assertEqual(self.lines(events), ["something in flight does not end: leaving it, with status 1"])
        self.listener.stopping.callback(None)
        self.successResultOf(stopping)

    def test_neverAborted(self) -> None:
        """With a second signal the wait for it is short."""
        self.start()
        del self.reactor.seconds
        self.signalled(signal.SIGTERM)
        self.service.stopService()
        self.reactor.advance(10)
        self.signalled(signal.SIGTERM)
        self.reactor.advance(1.9)
        self.assertEqual(self.left, [])
        self.reactor.advance(0.1)
        self.assertEqual(self.left, [1])

    def test_stoppedAtOnce(self) -> None:
        self.start()
        self.listener.stopping = succeed(None)
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])


# The real program

GREETING = r"send a first object with: storescu -aec DCXTWISTED 127\.0\.0\.1 (\d+) FILE\.dcm"


class TwistdTestCase(SynchronousTestCase):
    """Runs twistd in a directory of its own."""

    def setUp(self) -> None:
        self.directory = directoryFor(self)
        self.store = self.directory / "dicom-store"

    def run_(self, *options: str, **how: Any) -> Program:
        return twistd(self, self.directory, *options, **how)

    def listen(self, *options: str, **how: Any) -> tuple[Program, int]:
        """Return the program, once it listens, and its port."""
        program = self.run_("--port", LOOPBACK, *options, **how)
        return program, int(program.waitFor(GREETING)[1])

    def peer(self, port: int) -> BlockingPeer:
        peer = BlockingPeer(port)
        self.addCleanup(peer.close)
        return peer.established()

    def files(self) -> list[str]:
        """Return the paths of all files below the store."""
        return sorted(str(path.relative_to(self.store)) for path in self.store.rglob("*") if path.is_file())

    def begin(self, program: Program, peer: BlockingPeer, uid: str = "1.2.3") -> bytes:
        """Send an object without its end, which is returned; it is being received then."""
        data = fragment(STORAGE_CONTEXT, False, dataSet(uid, pixels=bytes(1 << 20)), 16384)
        peer.send(fragment(STORAGE_CONTEXT, True, encodeCStoreRQ(1, CT, uid), 16384) + data[:-9])
        program.waitFor("bytes pass")
        return data[-9:]


class StartTests(TwistdTestCase):
    """Starting, and stopping when nothing is in flight."""

    def test_noConfiguration(self) -> None:
        """The lines a newcomer sees, an object, and an end in order."""
        program, port = self.listen()
        said = [line.partition("] ")[2] for line in program.lines if "dcxtwisted" in line]
        self.assertEqual(
            said,
            [
                f"listening on 127.0.0.1:{port}",
                "AE title DCXTWISTED; called AE titles are not checked",
                f"storing below {self.store}",
                "no access rules are set: everyone who can connect may store",
                f"send a first object with: storescu -aec DCXTWISTED 127.0.0.1 {port} FILE.dcm",
            ],
        )
        peer = self.peer(port)
        self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0)
        self.assertTrue((self.store / "1.2.4" / "1.2.5" / "1.2.3.dcm").read_bytes().endswith(DATA))
        self.assertTrue((self.directory / "twistd.pid").exists())
        program.signal(signal.SIGTERM)
        peer.untilClosed()
        self.assertEqual(program.status(), 0)
        self.assertEqual((peer.aborted and peer.aborted.source, program.errors), (0, ""))
        self.assertEqual(sorted(os.listdir(self.directory)), ["dicom-store", "stderr.txt"])
        self.assertEqual(self.files(), ["1.2.4/1.2.5/1.2.3.dcm"])

    def test_interrupted(self) -> None:
        """Ctrl-C."""
        program, _ = self.listen("--no-fsync", "--ae-title", "DCXTWISTED")
        program.signal(signal.SIGINT)
        self.assertEqual((program.status(), program.errors), (0, ""))
        self.assertIn("SIGINT: stopping once the objects in flight are done", program.output)

    def test_asyncioReactor(self) -> None:
        program, port = self.listen(before=["--reactor=asyncio"])
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        program.signal(signal.SIGTERM)
        self.assertEqual(program.status(), 0)

    def test_descriptorLimit(self) -> None:
        """The soft limit is raised to the hard one."""
        twistdProgram = Path(sys.executable).parent / "twistd"
        command = f"ulimit -S -n 200; ulimit -H -n 300; exec {twistdProgram} -n dcxtwisted --port {LOOPBACK}"
        program = Program(self, ["sh", "-c", command], self.directory)
        program.waitFor(GREETING)
        limits = Path(f"/proc/{program.process.pid}/limits").read_text()
        self.assertRegex(limits, r"Max open files +300 +300 ")
        program.signal(signal.SIGTERM)
        self.assertEqual(program.status(), 0)

    def test_privilegesAreDropped(self) -> None:
        """The port is opened before, the store after."""
        if os.getuid() != 0:
            self.skipTest("only root can drop privileges")
        nobody = pwd.getpwnam("nobody")
        parent = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, parent)
        parent.chmod(0o777)
        store = parent / "store"
        before = ["--uid", str(nobody.pw_uid), "--gid", str(nobody.pw_gid), "--pidfile="]
        program, port = self.listen("--store-directory", str(store), "--layout", "{SOPInstanceUID}", before=before)
        self.assertEqual(store.stat().st_uid, nobody.pw_uid)
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        self.assertEqual((store / "1.2.3").stat().st_uid, nobody.pw_uid)
        program.signal(signal.SIGTERM)
        self.assertEqual(program.status(), 0)


class CannotStartTests(TwistdTestCase):
    """One clear line, exit status 1, and nothing left behind."""

    def assertSaid(self, program: Program, said: str) -> None:
        self.assertEqual(program.status(), 1)
        self.assertEqual(program.errors, f"twistd dcxtwisted: {said}\n")
        self.assertNotIn("Traceback", program.output)

    def test_badValue(self) -> None:
        """Before anything listens, or is logged."""
        program = self.run_("--port", LOOPBACK, "--layout", "{nonsense}")
        self.assertSaid(
            program,
            "layout '{nonsense}' names an unknown attribute 'nonsense'; known are StudyInstanceUID, "
            "SeriesInstanceUID, SOPInstanceUID, SOPClassUID, PatientID, Modality, StudyDate, callingAETitle, "
            "calledAETitle",
        )
        self.assertEqual(program.output, "")
        self.assertFalse(self.store.exists())

    def taken(self) -> int:
        """Return a port that is in use."""
        holder = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(holder.close)
        number: int = holder.getsockname()[1]
        return number

    def test_portInUse(self) -> None:
        for port, where in ((f"tcp:{self.taken()}:interface=127.0.0.1", " of 127.0.0.1"), (str(self.taken()), "")):
            program = self.run_("--port", LOOPBACK, "--port", port)
            number = port.split(":")[1] if ":" in port else port
            self.assertEqual(program.status(), 1)
            self.assertEqual(
                program.errors,
                f"twistd dcxtwisted: cannot start: port {number}{where} is in use by another program, "
                "which ss -ltnp shows; --port takes another port\n",
            )
            self.assertNotIn("Traceback", program.output)
            self.assertEqual(program.output.count("cannot"), 1)
            self.assertEqual(os.listdir(self.directory), ["stderr.txt"])

    def test_noStore(self) -> None:
        """A store that turns out not to work when it is opened: nothing can be made below /proc."""
        program = self.run_("--port", LOOPBACK, "--store-directory", "/proc/dicom-store")
        self.assertSaid(program, "cannot start: [Errno 2] No such file or directory: '/proc/dicom-store'")
        self.assertNotIn("send a first object", program.output)
        self.assertFalse((self.directory / "twistd.pid").exists())

    def test_asADaemon(self) -> None:
        """Who started it is told, too."""
        program = Program(
            self,
            [
                *(str(Path(sys.executable).parent / "twistd"), "dcxtwisted"),
                *("--port", LOOPBACK, "--store-directory", "/proc/dicom-store"),
            ],
            self.directory,
        )
        self.assertEqual(program.status(), 1)
        self.assertIn("FileNotFoundError: [Errno 2] No such file or directory", program.errors)
        self.assertNotIn("Traceback", (self.directory / "twistd.log").read_text())


class InFlightTests(TwistdTestCase):
    """Objects on their way while the program ends."""

    def setUp(self) -> None:
        super().setUp()
        self.program, self.port = self.listen("--events", "tests.test_tap.Talkative")

    def test_finishedFirst(self) -> None:
        peer = self.peer(self.port)
        rest = self.begin(self.program, peer)
        self.program.signal(signal.SIGTERM)
        self.program.waitFor("SIGTERM: stopping")
        peer.send(rest)
        peer.untilClosed()
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.program.status(), 0)
        self.assertEqual(self.files(), ["1.2.4/1.2.5/1.2.3.dcm"])
        self.assertIn("done 1.2.3 True", self.program.output)

    def test_secondSignal(self) -> None:
        """Aborts at once: the peer is cut off, and nothing of the object is left."""
        peer = self.peer(self.port)
        self.begin(self.program, peer)
        self.program.signal(signal.SIGTERM)
        self.program.waitFor("SIGTERM: stopping")
        self.program.signal(signal.SIGTERM)
        peer.untilClosed()
        self.assertEqual(peer.statuses, [])
        self.assertEqual(self.program.status(), 0)
        self.assertIn("SIGTERM again: aborting", self.program.output)
        self.assertIn("done 1.2.3 False", self.program.output)
        self.assertEqual(self.files(), [])

    def test_neverAnswered(self) -> None:
        """An event that never answers does not keep the process: its object is removed, for nobody was told of it."""
        peer = self.peer(self.port)
        peer.store(dataSet("1.2.777"), "1.2.777")
        self.program.waitFor("done 1.2.777 True")
        self.program.signal(signal.SIGTERM)
        self.program.waitFor("SIGTERM: stopping")
        self.program.signal(signal.SIGTERM)
        self.assertEqual(self.program.status(), 0)
        self.assertIn("OnStoreDone: no answer before the listener stopped", self.program.output)
        self.assertEqual(self.files(), [])

    def test_killed(self) -> None:
        """No final name; and after the next start nothing else is left below the store either."""
        peer = self.peer(self.port)
        self.begin(self.program, peer)
        self.program.signal(signal.SIGKILL)
        self.assertEqual(self.program.status(), -signal.SIGKILL)
        self.assertEqual([name for name in self.files() if not name.startswith(".incoming/")], [])
        program, port = self.listen()
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        program.signal(signal.SIGTERM)
        self.assertEqual(program.status(), 0)
        self.assertEqual(self.files(), ["1.2.4/1.2.5/1.2.3.dcm"])

    def test_provider(self) -> None:
        """The events of ``--events`` decide."""
        peer = self.peer(self.port)
        self.assertEqual(peer.storeAnd(dataSet("1.2.666"), "1.2.666"), 0xA7AB)
        self.assertEqual(peer.storeAnd(DATA, "1.2.3", messageID=2), 0)
        self.program.waitFor("done 1.2.3 True")
        self.assertEqual(self.files(), ["1.2.4/1.2.5/1.2.3.dcm"])


class TLSTests(TwistdTestCase):
    """TLS, and SIGHUP."""

    def setUp(self) -> None:
        super().setUp()
        self.pems = Files(self.directory / "tls")
        self.authority = selfSigned()
        self.write("first")
        self.program = self.run_(
            *("--tls-port", LOOPBACK, "--tls-certificate", "tls/certificate.pem", "--tls-key", "tls/key.pem"),
            *("--events", "tests.test_tap.Talkative"),
        )
        self.tlsPort = int(self.program.waitFor(r"storescu \+tla \+cf CA\.pem -aec DCXTWISTED 127\.0\.0\.1 (\d+)")[1])
        terms = r"with TLS \(bcp195, client certificates not asked for\): 'CN=first' until 20\d\d-\d\d-\d\d, SHA-256"
        self.assertEqual(len(re.findall(f"listening on .* {terms}", self.program.output)), 1)

    def write(self, name: str) -> None:
        issued = self.authority.issue(name, names=LOOPBACK_NAMES)
        self.pems.write("certificate.pem", issued)
        self.pems.write("key.pem", issued.key)

    def securePeer(self) -> tuple[BlockingPeer, str]:
        """Return a peer over TLS, and the subject of the certificate that it was shown."""
        peer = BlockingPeer(self.tlsPort)
        context = ssl.create_default_context(cadata=pem(self.authority).decode())
        secured = context.wrap_socket(peer.socket, server_hostname="localhost")
        transport: Any = Sending(secured)
        peer.socket, peer.transport = secured, transport
        self.addCleanup(peer.close)
        shown: Any = secured.getpeercert()
        return peer.established(), shown["subject"][0][0][1]

    def test_reloadedDuringATransfer(self) -> None:
        """The next association is shown the new certificate; the transfer goes on."""
        peer, shown = self.securePeer()
        self.assertEqual(shown, "first")
        rest = self.begin(self.program, peer)
        self.write("second")
        self.program.signal(signal.SIGHUP)
        self.program.waitFor("reloaded: TLS certificate 'CN=second' until ")
        self.assertEqual(self.securePeer()[1], "second")
        peer.send(rest)
        peer.until(lambda: peer.statuses)
        self.assertEqual(peer.statuses, [0])
        self.assertEqual(self.files(), ["1.2.4/1.2.5/1.2.3.dcm"])
        stored = (self.store / "1.2.4" / "1.2.5" / "1.2.3.dcm").read_bytes()
        self.assertTrue(stored.endswith(dataSet("1.2.3", pixels=bytes(1 << 20))))

    def test_brokenFile(self) -> None:
        """One clear line, and the old certificate is kept."""
        self.pems.raw("key.pem", b"nonsense")
        self.program.signal(signal.SIGHUP)
        self.program.waitFor(
            "not reloaded, everything stays as it was: key /.*/tls/key.pem: not a PEM file with a private"
        )
        peer, shown = self.securePeer()
        self.assertEqual(shown, "first")
        self.assertNotIn("Traceback", self.program.output)
        self.program.signal(signal.SIGTERM)
        peer.untilClosed()
        self.assertIsNotNone(peer.aborted)
        peer.close()  # TLS is closed by both; who does not is waited for, 30 s
        self.assertEqual((self.program.status(), self.program.errors), (0, ""))


class ConfigurationFileTests(TwistdTestCase):
    """The file of ``--config``."""

    def test_reloadedDuringATransfer(self) -> None:
        """The next association is refused by the new policy; the transfer goes on. What is no good changes nothing."""
        path = self.directory / "dcxtwisted.toml"
        path.write_text('[[policy]]\nallow = true\n[application]\nevents = "tests.test_tap.Talkative"\n')
        program, port = self.listen("--config", "dcxtwisted.toml")
        self.assertIn("access rules: 1, the first that matches decides", program.output)
        peer = self.peer(port)
        rest = self.begin(program, peer)
        path.write_text("[[policy]]\nallow = no\n")
        program.signal(signal.SIGHUP)
        program.waitFor(r"not reloaded, everything stays as it was: /.*/dcxtwisted\.toml is not TOML: ")
        self.peer(port)
        path.write_text('[[policy]]\nallow = false\nreject = "1/1/3"\n[limits]\nmaximumAssociations = 9\n')
        program.signal(signal.SIGHUP)
        program.waitFor(
            r"reloaded: limits\.maximumAssociations = 9, policy \(1 rule\); a restart is needed for application$"
        )
        refused = BlockingPeer(port)
        self.addCleanup(refused.close)
        refused.associate()
        refused.until(lambda: refused.rejected)
        self.assertEqual(refused.rejected, AssociateRJ(1, 1, 3))
        peer.send(rest)
        peer.until(lambda: peer.statuses)
        self.assertEqual(peer.statuses, [0])

    def test_check(self) -> None:
        """--check ends with status 0, or 1 with a line for each error; nothing listens, and no directory is made."""
        path = self.directory / "dcxtwisted.toml"
        path.write_text("")
        program = self.run_("--check", "--config", "dcxtwisted.toml")
        self.assertEqual((program.status(), program.errors), (0, ""))
        path.write_text("[limits]\nX = 1\n[deadlines]\nARTIM = 0\n")
        program = self.run_("--check", "--config", "dcxtwisted.toml")
        self.assertEqual((program.status(), program.errors.count("\n")), (1, 2))
        self.assertEqual(sorted(os.listdir(self.directory)), ["dcxtwisted.toml", "stderr.txt"])


class ProviderTests(TwistdTestCase):
    """A provider that does something on its own."""

    def test_timer(self) -> None:
        program, _ = self.listen("--events", "tests.test_tap.Timed")
        program.waitFor("the timer of the provider")
