"""
The real program with several workers: what is stored, killed, reloaded and stopped.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.kills import Record, Sender, Store
from benchmarks.requestor import templateOf
from dcxtwisted import DCXACCEvents
from dcxtwisted.wire.pdu import AssociateRJ, ReleaseRP
from tests.certificates import LOOPBACK as LOOPBACK_NAMES
from tests.certificates import Files, pem, selfSigned
from tests.loopback import DEADLINE, BlockingPeer, Program
from tests.services.support import DATA, dataSet
from tests.test_tap import TwistdTestCase

#: Local limit exceeded.
LIMIT = AssociateRJ(2, 3, 2)


class Identified(DCXACCEvents):
    """Stores an object where the process that serves it is told by the name."""

    def OnStoreSetup(self, filename: str, request: Any) -> str:
        """Below a directory for each process."""
        request.tap(lambda view: None)
        sys.stdout.write("bytes pass\n")
        return str(Path(filename).parent / str(os.getpid()) / Path(filename).name)


class OfOne(DCXACCEvents):
    """Cannot be made where the file "broken" is."""

    def __init__(self) -> None:
        if Path("broken").exists():
            raise RuntimeError("the database is away")


class WorkersTestCase(TwistdTestCase):
    """Starts two workers."""

    def start(self, *options: str, **how: Any) -> tuple[Program, int, list[int]]:
        """Return the program, its port, and the ids of its workers."""
        program, port = self.listen("--workers", "2", *options, **how)
        pids = [int(program.waitFor(rf"worker {number} is up: process (\d+)")[1]) for number in (1, 2)]
        return program, port, pids

    def end(self, program: Program) -> None:
        """Stop it in order."""
        program.signal(signal.SIGTERM)
        self.assertEqual((program.status(), program.errors), (0, ""))

    def until(self, condition: Any) -> None:
        """Wait for a condition that threads or processes bring about."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def assertGone(self, pids: list[int]) -> None:
        """Fail where one of these processes does not end."""
        self.until(lambda: all(_state(pid) == "Z" for pid in pids))


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


class ServingTests(WorkersTestCase):
    """What senders find."""

    def test_balance(self) -> None:
        """Of associations that stand at once each worker has as many; the log tells whose was which."""
        program, port, pids = self.start("--events", "tests.test_tap_workers.Identified")
        peers = [self.peer(port) for _ in range(8)]
        for number, peer in enumerate(peers):
            self.assertEqual(peer.storeAnd(dataSet(f"1.2.{number}"), f"1.2.{number}"), 0)
        found = [name.partition("/")[0] for name in self.files()]
        self.assertEqual({pid: found.count(str(pid)) for pid in pids}, {pids[0]: 4, pids[1]: 4})
        for peer in peers:
            self.release(peer)
        for number in (1, 2):
            program.waitFor(rf"factory#info\] worker {number}: association from .* released after .* 1 stored")
        self.end(program)
        self.assertGone(pids)

    def release(self, peer: BlockingPeer) -> None:
        """Release an association, and close."""
        peer.release()
        peer.until(lambda: ReleaseRP() in peer.received)
        peer.close()

    def test_limitsAreOfAll(self) -> None:
        """Per AE title and in all; a place is free again when its association is over."""
        program, port, _ = self.start(
            "--set", "maximumAssociationsPerAETitle=3", "--set", "maximumAssociations=4", "--no-fsync"
        )
        peers = [self.peer(port) for _ in range(3)]
        self.assertEqual(self.rejection(port), LIMIT)
        self.peer(port, "OTHER")
        self.assertEqual(self.rejection(port, "THIRD"), LIMIT)
        self.release(peers[0])
        self.peer(port)
        self.end(program)

    def peer(self, port: int, title: str = "PEER") -> BlockingPeer:
        peer = BlockingPeer(port)
        self.addCleanup(peer.close)
        peer.associate(callingAETitle=title)
        peer.until(lambda: peer.accepted)
        return peer

    def rejection(self, port: int, title: str = "PEER") -> AssociateRJ:
        """Return what an association is rejected with."""
        peer = BlockingPeer(port)
        self.addCleanup(peer.close)
        peer.associate(callingAETitle=title)
        peer.until(lambda: peer.rejected)
        assert peer.rejected is not None
        return peer.rejected

    def test_connectionsBeforeAssociation(self) -> None:
        """Over all workers: the one that has waited longest is closed."""
        program, port, _ = self.start("--set", "maximumConnectionsBeforeAssociation=3")
        silent = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(4)]
        for each in silent:
            self.addCleanup(each.close)
        self.assertRaises(ConnectionResetError, silent[0].recv, 1)
        for each in silent[1:]:
            each.setblocking(False)
            self.assertRaises(BlockingIOError, each.recv, 1)
        self.end(program)

    def test_PROXY(self) -> None:
        """The limits are those of the address that a proxy tells."""
        program = self.run_(
            *("--workers", "2", "--port", "haproxy:tcp:0:interface=127.0.0.1"),
            *("--set", "maximumAssociationsPerAddress=1"),
        )
        port = int(program.waitFor(r"listening on 127\.0\.0\.1:(\d+)")[1])
        for host, isAccepted in (("192.0.2.1", True), ("192.0.2.1", False), ("192.0.2.2", True)):
            peer = BlockingPeer(port)
            self.addCleanup(peer.close)
            peer.socket.sendall(b"PROXY TCP4 %s 192.0.2.9 1 2\r\n" % host.encode())
            peer.associate()
            peer.until(lambda peer=peer: peer.accepted or peer.rejected)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            self.assertEqual(bool(peer.accepted), isAccepted)
        self.end(program)
        self.assertIn("(192.0.2.2)", program.output)

    def test_crowd(self) -> None:
        """A burst of many connections that say nothing leaves a place for one that does, and no descriptor behind."""
        program, port, _ = self.start()
        descriptors = Path(f"/proc/{program.process.pid}/fd")
        before = len(list(descriptors.iterdir()))
        crowd = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(700)]
        for each in crowd:
            self.addCleanup(each.close)
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        for each in crowd:
            each.close()
        self.assertEqual(self.peer(port).storeAnd(dataSet("1.2.4"), "1.2.4"), 0)
        self.until(lambda: len(list(descriptors.iterdir())) <= before)
        self.end(program)


class KillTests(WorkersTestCase):
    """Workers that die."""

    def test_underLoad(self) -> None:
        """Every object that was acknowledged stands there whole; another worker takes the place, and serves."""
        program, port, pids = self.start()
        record = Record()
        templates = [templateOf(size, 4711) for size in (1 << 10, 20 << 10, 150 << 10)]
        crowd = [Sender(port, templates, record, seed) for seed in range(6)]
        for sender in crowd:
            sender.start()
        self.until(lambda: record.responses > 100)
        os.kill(pids[0], signal.SIGKILL)
        program.waitFor(rf"worker 1 \(process {pids[0]}\) died of SIGKILL; 3 associations cut")
        program.waitFor(r"worker 1 is started again in 0\.1 s")
        another = int(program.waitFor(rf"worker 1 is up: process (?!{pids[0]})(\d+)")[1])
        self.until(lambda: sum(sender.is_alive() for sender in crowd) == 3)
        responses = record.responses
        crowd += [Sender(port, templates, record, seed) for seed in range(6, 9)]
        for sender in crowd[-3:]:
            sender.start()
        self.until(lambda: record.responses > responses + 100)
        self.end(program)
        for sender in crowd:
            sender.join(DEADLINE)
        self.assertEqual((record.refused, [sender.is_alive() for sender in crowd]), ([], [False] * 9))
        store = Store(self.store)
        self.assertGreaterEqual(store.check(record), len(record.acknowledged))
        self.assertEqual(store.unfinished(), 0)
        self.assertGone([*pids, another])

    def test_noneIsUp(self) -> None:
        """Who comes while none is up waits for one, and is served."""
        program, port, pids = self.start()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        peer = self.peer(port)
        self.assertEqual(peer.storeAnd(DATA, "1.2.3"), 0)
        self.end(program)

    def test_supervisor(self) -> None:
        """Workers do not outlive it; but what is on its way is finished first."""
        program, port, pids = self.start("--events", "tests.test_tap.Talkative")
        peer = self.peer(port)
        rest = self.begin(program, peer)
        program.signal(signal.SIGKILL)
        self.assertEqual(program.process.wait(DEADLINE), -signal.SIGKILL)
        peer.send(rest)
        peer.untilClosed()
        self.assertEqual(peer.statuses, [0])
        self.assertGone(pids)
        self.assertEqual(self.files(), ["1.2.4/1.2.5/1.2.3.dcm"])

    def test_workerStopped(self) -> None:
        """A worker that gets SIGTERM finishes what it has; another takes its place."""
        program, port, pids = self.start("--events", "tests.test_tap.Talkative")
        peer = self.peer(port)
        rest = self.begin(program, peer)
        os.kill(pids[0], signal.SIGTERM)
        program.waitFor("worker 1: SIGTERM: stopping")
        peer.send(rest)
        peer.untilClosed()
        self.assertEqual(peer.statuses, [0])
        program.waitFor(rf"worker 1 \(process {pids[0]}\) ended with status 0")
        program.waitFor(rf"worker 1 is up: process (?!{pids[0]})")
        self.end(program)


class StopTests(WorkersTestCase):
    """Signals to the supervisor, and to all of them."""

    def test_finishedFirst(self) -> None:
        program, port, pids = self.start("--events", "tests.test_tap.Talkative")
        peers = [self.peer(port) for _ in range(2)]
        rests = []
        for number, peer in enumerate(peers):
            rests.append(self.begin(program, peer, f"1.2.{number}"))
            program.waitFor(rf"setting up 1\.2\.{number}")
        # As Ctrl-C and a stop of systemd's do.
        for pid in (program.process.pid, *pids):
            os.kill(pid, signal.SIGINT)
        program.waitFor("SIGINT: stopping")
        for peer, rest in zip(peers, rests, strict=True):
            peer.send(rest)
            peer.untilClosed()
            self.assertEqual(peer.statuses, [0])
        self.assertEqual((program.status(), program.errors), (0, ""))
        self.assertEqual(len(self.files()), 2)
        self.assertGone(pids)

    def test_secondSignal(self) -> None:
        program, port, pids = self.start("--events", "tests.test_tap.Talkative")
        peer = self.peer(port)
        self.begin(program, peer)
        program.signal(signal.SIGTERM)
        program.waitFor("SIGTERM: stopping")
        program.signal(signal.SIGTERM)
        peer.untilClosed()
        self.assertEqual((program.status(), peer.statuses, self.files()), (0, [], []))
        self.assertGone(pids)

    def test_hung(self) -> None:
        """A worker that does not go on is killed, and the exit status tells."""
        program, port, pids = self.start("--set", "stopDeadline=0.5")
        self.peer(port)
        os.kill(pids[0], signal.SIGSTOP)
        program.signal(signal.SIGTERM)
        self.assertEqual(program.status(), 1)
        self.assertIn(f"process {pids[0]} does not end: killed", program.output)
        self.assertGone(pids)


class StartTests(WorkersTestCase):
    """Starting."""

    def test_cannotStart(self) -> None:
        """One clear line, status 1, and no process is left."""
        (self.directory / "broken").touch()
        program = self.run_("--workers", "2", "--events", "tests.test_tap_workers.OfOne")
        self.assertEqual(program.status(), 1)
        self.assertRegex(
            program.errors,
            r"^twistd dcxtwisted: cannot start: worker 1: --events tests\.test_tap_workers\.OfOne: RuntimeError: "
            r"the database is away \(.*test_tap_workers\.py:\d+\)\n$",
        )

    def test_cannotStartAgain(self) -> None:
        """Each time later than the time before; the other worker goes on."""
        program, port, pids = self.start("--events", "tests.test_tap_workers.OfOne")
        broken = self.directory / "broken"
        broken.touch()
        os.kill(pids[0], signal.SIGKILL)
        program.waitFor("worker 1 cannot start: --events .* the database is away")
        program.waitFor(r"worker 1 is started again in 0\.2 s")
        program.waitFor(r"worker 1 is started again in 0\.4 s")
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        broken.unlink()
        program.waitFor(rf"worker 1 is up: process (?!{pids[0]})")
        self.end(program)

    def test_asyncioReactor(self) -> None:
        program, port, _ = self.start(before=["--reactor=asyncio"])
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        self.end(program)

    def test_directory(self) -> None:
        """Relative names stay those of where it was started."""
        (self.directory / "elsewhere").mkdir()
        program, port, _ = self.start("--store-directory", "x", before=["--rundir=elsewhere"])
        self.assertEqual(self.peer(port).storeAnd(DATA, "1.2.3"), 0)
        self.assertTrue((self.directory / "x" / "1.2.4" / "1.2.5" / "1.2.3.dcm").exists())
        self.end(program)


class ReloadTests(WorkersTestCase):
    """SIGHUP."""

    def test_reload(self) -> None:
        """Told once; all workers go by it, also one that is started later; what is no good changes nothing."""
        path = self.directory / "dcxtwisted.toml"
        path.write_text("[[policy]]\nallow = true\n[listeners]\nworkers = 2\n")
        program, port = self.listen("--config", "dcxtwisted.toml")
        pids = [int(program.waitFor(rf"worker {number} is up: process (\d+)")[1]) for number in (1, 2)]
        path.write_text('[[policy]]\nallow = false\nreject = "1/1/3"\n[listeners]\nworkers = 2\n')
        program.signal(signal.SIGHUP)
        program.waitFor(r"reloaded: policy \(1 rule\)$")
        path.write_text("[[policy]]\nallow = no\n")
        program.signal(signal.SIGHUP)
        program.waitFor(r"not reloaded, everything stays as it was: /.*/dcxtwisted\.toml is not TOML: ")
        os.kill(pids[1], signal.SIGKILL)
        program.waitFor(rf"worker 2 is up: process (?!{pids[1]})")
        for _ in range(4):
            refused = BlockingPeer(port)
            self.addCleanup(refused.close)
            refused.associate()
            refused.until(lambda refused=refused: refused.rejected)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            self.assertEqual(refused.rejected, AssociateRJ(1, 1, 3))
        self.assertEqual(len(re.findall("reloaded: policy", program.output)), 1)
        self.end(program)

    def test_limits(self) -> None:
        path = self.directory / "dcxtwisted.toml"
        path.write_text("")
        program, port, _ = self.start("--config", "dcxtwisted.toml")
        self.peer(port)
        path.write_text("[limits]\nmaximumAssociations = 1\n")
        program.signal(signal.SIGHUP)
        program.waitFor(r"reloaded: limits\.maximumAssociations = 1$")
        refused = BlockingPeer(port)
        self.addCleanup(refused.close)
        refused.associate()
        refused.until(lambda: refused.rejected)
        self.assertEqual(refused.rejected, LIMIT)
        self.end(program)


class TLSTests(WorkersTestCase):
    """TLS is spoken by the workers."""

    def test_TLS(self) -> None:
        """Each shows the certificate, and after SIGHUP each the new one."""
        pems, authority = Files(self.directory / "tls"), selfSigned()

        def write(name: str) -> None:
            issued = authority.issue(name, names=LOOPBACK_NAMES)
            pems.write("certificate.pem", issued, issued.key)

        write("first")
        program = self.run_(
            *("--workers", "2", "--tls-port", "tcp:0:interface=127.0.0.1", "--tls-certificate", "tls/certificate.pem")
        )
        port = int(program.waitFor(r"listening on 127\.0\.0\.1:(\d+) with TLS")[1])
        context = ssl.create_default_context(cadata=pem(authority).decode())

        def shown() -> list[str]:
            peers = []
            for _ in range(2):
                peer = BlockingPeer(port)
                self.addCleanup(peer.close)
                peers.append(context.wrap_socket(peer.socket, server_hostname="localhost"))
                self.addCleanup(peers[-1].close)
            certificates: list[Any] = [peer.getpeercert() for peer in peers]
            for each in peers:
                each.close()
            return [certificate["subject"][0][0][1] for certificate in certificates]

        self.assertEqual(shown(), ["first", "first"])
        write("second")
        program.signal(signal.SIGHUP)
        program.waitFor("reloaded: TLS certificate 'CN=second' until ")
        self.assertEqual(shown(), ["second", "second"])
        pems.raw("certificate.pem", b"nonsense")
        program.signal(signal.SIGHUP)
        program.waitFor("not reloaded, everything stays as it was: certificate /.*/tls/certificate.pem: ")
        self.assertEqual(shown(), ["second", "second"])
        self.end(program)
