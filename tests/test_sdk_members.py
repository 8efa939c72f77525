"""
Each member of ``IDCXACC`` and of ``IDCXACCEvents``, in pull style and in push style: what is the same, and what is not.

Each test is called after the member it is about, and runs in both styles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted import (
    DCXACC,
    IDCXACC,
    IN_MEMORY,
    AssociationRejected,
    IAssociation,
    IDCXACCEvents,
    SecurityContext,
    StoreRefused,
)
from dcxtwisted.testing import RecordingEvents, ScriptedPeer
from tests.certificates import LOOPBACK as NAMES
from tests.certificates import Files, selfSigned
from tests.loopback import LoopbackPeer, connect
from tests.services.support import DATA
from tests.support import FakeSink, dataSet, pData, storeCommand
from tests.test_acceptor import LOOPBACK, LoopbackTestCase, portOf
from tests.test_pull import WAYS, PullTestCase
from tests.tlspeers import Client

reactor: Any = _reactor


class PushTests(PullTestCase):
    """
    Members that need no socket, in push style.

    :cvar isPull: commands are waited for.
    """

    isPull = False

    def begin(self, **kwargs: Any) -> tuple[ScriptedPeer, IAssociation]:
        """Return a peer and its association."""
        if self.isPull:
            return self.establish(**kwargs)
        peer = self.associate(**kwargs)
        return peer, self.accepted[-1]

    def wait(self, association: IAssociation, timeout: float | None = None) -> Deferred[bool] | None:
        """Let a command in, where that takes a wait."""
        return association.WaitForCommand(timeout) if self.isPull else None

    def assertWaited(self, waiting: Deferred[bool] | None, result: bool) -> None:
        """Assert what a wait came to, where there was one."""
        self.pump()
        if waiting is not None:
            self.assertIs(self.successResultOf(waiting), result)

    def stored(self, peer: ScriptedPeer, data: bytes = dataSet(), uid: str = "1.2.3") -> int:
        """Send an object on the association of a peer, have it served, and return the status."""
        waiting = self.wait(self.accepted[-1])
        peer.store(data, uid)
        self.assertWaited(waiting, True)
        return peer.statuses[-1]

    def answerLate(self, answer: Any) -> None:
        """Answer what was asked first, which waits for it."""
        asked = self.deferreds[0]
        if isinstance(answer, Exception):
            asked.errback(answer)
        else:
            asked.callback(answer)

    # IDCXACC

    def test_WaitForCommand(self) -> None:
        """Serves one command of the one handed out last, on whichever of the two it is called."""
        peer, association = self.begin()
        if not self.isPull:
            for each in (association.WaitForCommand(1), self.acceptor.WaitForCommand(1)):
                self.failureResultOf(each, RuntimeError)
            self.assertEqual(self.stored(peer), 0)
            return
        for wait in (association.WaitForCommand, self.acceptor.WaitForCommand):
            waiting = wait(30)
            peer.echo()
            peer.echo()
            self.assertWaited(waiting, True)
            self.assertWaited(wait(30), True)
        self.assertEqual((peer.statuses, association.ended), ([0] * 4, ""))

    def test_TakeStoredObject(self) -> None:
        """The oldest comes first, of all associations or of one; None where there is none; and when it is over."""
        self.acceptor.EnableInMemoryStorageSCP = True
        first, one = self.begin()
        self.assertIsNone(self.acceptor.TakeStoredObject())
        self.assertEqual(self.stored(first, dataSet("1.2.1"), "1.2.1"), 0)
        self.assertEqual(self.stored(first, dataSet("1.2.2"), "1.2.2"), 0)
        second, other = self.begin()
        self.assertEqual(self.stored(second, dataSet("1.2.3"), "1.2.3"), 0)
        for peer in (first, second):
            peer.abort()
        self.pump()
        self.assertEqual((one.ended, other.ended), ("aborted", "aborted"))
        taken = [each.TakeStoredObject() for each in (other, self.acceptor, one, one, self.acceptor)]
        uids = [each and each.SOPInstanceUID for each in taken]
        self.assertEqual(uids, ["1.2.3", "1.2.1", "1.2.2", None, None])

    def test_EnableInMemoryStorageSCP(self) -> None:
        """Says where what OnStoreSetup leaves to the acceptor goes, from the next object on."""
        self.assertIs(self.acceptor.EnableInMemoryStorageSCP, False)
        peer, association = self.begin()
        self.assertEqual(self.stored(peer), 0)
        self.assertIsNone(association.TakeStoredObject())
        self.acceptor.EnableInMemoryStorageSCP = True
        self.since()
        self.assertEqual(self.stored(peer), 0)
        self.assertEqual(self.since(), ["OnStoreSetup", "OnStoreDone"])
        self.assertEqual(self.events.calls[-1][1][0], "")
        self.assertIsNotNone(association.TakeStoredObject())
        self.acceptor.EnableInMemoryStorageSCP = False
        self.assertEqual(self.stored(peer), 0)
        self.assertEqual(self.since()[1], "store.open")

    def test_NextStorageResponseStatus(self) -> None:
        """Each class of status, forced on a success and on a failure: a failure is never made anything better."""
        statuses = (
            0x0000,
            0xB000,
            0xB006,
            0xB007,
            0xA700,
            0xA900,
            0xC000,
            0xCFFF,
            0x0110,
            0x0117,
            0x0122,
            0x0124,
            0x0211,
        )
        peer, association = self.begin()
        for status in statuses:
            isKept = status == 0 or status >> 12 == 0xB
            self.acceptor.NextStorageResponseStatus = status
            self.since()
            self.assertEqual(self.stored(peer), status)
            self.assertEqual(self.since()[-1], "sink.keep" if isKept else "sink.abort")
            self.assertIsNone(self.acceptor.NextStorageResponseStatus)
            self.acceptor.NextStorageResponseStatus = status
            self.assertEqual(self.stored(peer, dataSet()[:-2]), 0xC000 if isKept else status)
            self.assertNotIn("sink.keep", self.since())
            self.assertIsNone(self.acceptor.NextStorageResponseStatus)
        self.assertEqual((association.objectsStored, association.objectsRefused), (4, 2 * len(statuses) - 4))
        # An echo is no C-STORE; what OnStoreDone sets is for the object that it is about.
        self.acceptor.NextStorageResponseStatus = 0xA700
        waiting = self.wait(association)
        peer.echo()
        self.assertWaited(waiting, True)
        self.assertEqual((peer.statuses[-1], self.acceptor.NextStorageResponseStatus), (0, 0xA700))
        self.acceptor.NextStorageResponseStatus = None
        self.answer(OnStoreDone=lambda *args: setattr(self.acceptor, "NextStorageResponseStatus", 0xA701))
        self.assertEqual(self.stored(peer), 0xA701)
        self.assertIsNone(self.acceptor.NextStorageResponseStatus)

    def test_AbortActiveAssociations(self) -> None:
        """Whatever each of them is doing; who is still being decided on is no association yet."""
        self.hold("finish")
        idle, _ = self.begin()
        inside, receiving = self.begin()
        waits = [self.wait(receiving, 30)]
        inside.send(storeCommand() + pData(3, 0, b"part"))
        self.pump()
        done, finishing = self.begin()
        waits.append(self.wait(finishing, 30))
        done.store(dataSet(), "1.2.3")
        releasing, leaving = self.begin()
        waits.append(self.wait(leaving, 30))
        releasing.store(dataSet(), "1.2.3")
        releasing.release()
        self.pump()
        self.answer(OnConnection=lambda *args: self.later())
        if self.isPull:
            self.waitForConnection()
        undecided = self.associate()
        self.acceptor.AbortActiveAssociations()
        self.pump()
        peers = (idle, inside, done, releasing)
        for peer in peers:
            self.assertIsNotNone(peer.aborted)
        self.assertEqual((releasing.released, undecided.aborted), (False, None))
        for sink in self.store.sinks[1:]:
            sink.fire("finish")
        for waiting in waits:
            self.assertWaited(waiting, False)
        self.assertEqual(self.ends, ["aborted"] * 4)
        # Who does not close in time is closed.
        self.deferreds[0].callback(True)
        self.advance(30)
        for peer in peers:
            self.assertConnectionOver(peer)
        self.assertIsNotNone(undecided.accepted)
        self.assertEqual(len(self.acceptor.associations), 1)

    # IDCXACCEvents

    def test_OnConnection(self) -> None:
        """Only True accepts, at once or later; nothing that was rejected is handed out, nor ends."""
        for answer, rejection in (
            (True, None),
            (False, (1, 1, 1)),
            (None, (1, 1, 1)),
            (1, (1, 1, 1)),
            (AssociationRejected(1, 1, 3), (1, 1, 3)),
            (KeyError(), (2, 1, 1)),
        ):
            for isLate in (False, True):
                self.listen()
                self.answer(OnConnection=(lambda *args: self.later()) if isLate else answer)
                waiting = self.waitForConnection() if self.isPull else None
                peer = self.associate(callingAETitle="CT1", calledAETitle="SCP")
                if isLate:
                    self.assertEqual(peer.received, [])
                    self.answerLate(answer)
                    self.pump()
                self.assertEqual(self.events.calls[0][1][:3], ("CT1", "SCP", "127.0.0.1"))
                rejected = peer.rejected
                told = None if rejected is None else (rejected.result, rejected.source, rejected.reason)
                self.assertEqual((told, peer.accepted is not None), (rejection, rejection is None))
                if waiting is not None:
                    self.assertIs(waiting.called, rejection is None)
                if isinstance(answer, KeyError):
                    self.assertErrors(KeyError)
                self.assertEqual(self.names, ["OnConnection"])

    def test_OnStoreSetup(self) -> None:
        """Each answer, at once or later; OnStoreDone follows where it let the object in."""
        sink = FakeSink(None, self.events.calls, ())  # type: ignore[arg-type]  # it is told of below
        for answer, status, followed in (
            (None, 0, True),
            ("", 0, True),
            (IN_MEMORY, 0, True),
            (sink, 0, True),
            (StoreRefused(0xA701), 0xA701, False),
            (KeyError(), 0xA700, False),
            (5, 0xA700, True),
        ):
            for isLate in (False, True):
                self.listen()
                self.answer(OnStoreSetup=(lambda *args: self.later()) if isLate else answer)
                peer, association = self.begin()
                waiting = self.wait(association, 5)
                peer.store(dataSet(), "1.2.3")
                self.pump()
                sink.request = request = self.events.calls[1][1][1]
                self.assertEqual(self.events.calls[1][1][0], f"{self.acceptor.StoreDirectory}/1.2.3.dcm")
                self.assertEqual((request.SOPInstanceUID, request.association), ("1.2.3", association))
                if isLate:
                    self.advance(10)
                    self.assertEqual(self.names, ["OnConnection", "OnStoreSetup"])
                    self.answerLate(answer)
                self.assertWaited(waiting, True)
                self.assertEqual((peer.statuses, "OnStoreDone" in self.names), ([status], followed), (answer, isLate))
                self.flushLoggedErrors(KeyError, TypeError)

    def test_OnStoreDone(self) -> None:
        """Each answer, at once or later, decides what is told and kept; where it failed no answer does."""
        for answer, status in (
            (True, 0),
            (None, 0),
            (False, 0xC000),
            (0xB007, 0xB007),
            (0xA702, 0xA702),
            (0xFF00, 0xA700),
            ("yes", 0xA700),
            (StoreRefused(0xC123), 0xC123),
            (KeyError(), 0xA700),
        ):
            for isLate in (False, True):
                for isWhole in (True, False):
                    self.listen()
                    self.answer(OnStoreDone=(lambda *args: self.later()) if isLate else answer)
                    peer, association = self.begin()
                    waiting = self.wait(association, 5)
                    peer.store(dataSet() if isWhole else dataSet()[:-2], "1.2.3")
                    self.pump()
                    (filename, isStored, request), *others = [
                        args for name, args in self.events.calls if name == "OnStoreDone"
                    ]
                    self.assertEqual((filename, isStored), ("/objects/1.2.3.dcm", True) if isWhole else ("", False))
                    self.assertEqual(([], request.association), (others, association))
                    if isLate:
                        self.advance(10)
                        self.assertEqual(peer.statuses, [])
                        self.answerLate(answer)
                    self.assertWaited(waiting, True)
                    expected = status if isWhole else 0xC000
                    self.assertEqual(peer.statuses, [expected], (answer, isLate, isWhole))
                    isKept = expected in (0, 0xB007)
                    self.assertEqual(("sink.keep" in self.names, "sink.abort" in self.names), (isKept, not isKept))
                    self.assertIs(request.stored is not None, isKept)
                    self.flushLoggedErrors(KeyError)

    def test_OnEcho(self) -> None:
        """The answer is 0000 whatever the event says, once it has said it."""
        for answer in (None, False, 0xA700, KeyError()):
            for isLate in (False, True):
                self.listen()
                self.answer(OnEcho=(lambda *args: self.later()) if isLate else answer)
                peer, association = self.begin()
                waiting = self.wait(association, 5)
                peer.echo()
                self.pump()
                self.assertEqual(self.events.calls[-1], ("OnEcho", (association,)))
                if isLate:
                    self.advance(10)
                    self.assertEqual(peer.statuses, [])
                    self.answerLate(answer)
                self.assertWaited(waiting, True)
                self.assertEqual(peer.statuses, [0])
                self.flushLoggedErrors(KeyError)

    def test_OnTimeout(self) -> None:
        """A deadline ends the association, OnAssocEnd follows; where a wait runs out it is up still."""
        part = storeCommand() + pData(3, 0, b"part")
        for sent, settings in ((b"", {"silenceDeadline": 100}), (part, {"progressDeadline": 100})):
            self.listen(**settings)
            peer, association = self.begin()
            waiting = self.wait(association)
            peer.send(sent)
            self.pump()
            self.advance(99)
            self.assertNotIn("OnTimeout", self.names)
            self.advance(1)
            self.assertWaited(waiting, False)
            self.assertEqual(self.since()[-2:], ["OnTimeout", "OnAssocEnd"])
            self.assertEqual(self.events.calls[-2][1], (association,))
            self.assertEqual((association.ended, self.ends), ("timed out", ["timed out"]))
            self.assertIsNotNone(peer.aborted)
        if self.isPull:
            peer, association = self.begin()
            waiting = self.wait(association, 30)
            self.since()
            self.advance(30)
            self.assertWaited(waiting, False)
            self.assertEqual((self.since(), association.ended), (["OnTimeout"], ""))

    def test_OnAssocEnd(self) -> None:
        """Every way to end, while idle, inside a command, and behind its last byte: once, and last."""
        whole = storeCommand() + pData(3, 2, dataSet())
        part = storeCommand() + pData(3, 0, b"part")
        for reason, go in [*WAYS, ("timed out", lambda peer: self.protocol(peer).timeOut("a test"))]:
            for sent in (b"", part, whole):
                if sent == part and reason == "released":
                    continue  # it cannot be asked for there
                self._ends(reason, go, sent)

    def _ends(self, reason: str, go: Callable[[ScriptedPeer], object], sent: bytes) -> None:
        self.listen()
        self.hold("finish")
        peer, association = self.begin()
        waiting = self.wait(association, 300)
        peer.send(sent)
        self.pump()
        go(peer)
        self.pump()
        isFinishing = bool(self.store.sinks) and "finish" in self.store.sinks[0].held
        self.assertEqual(isFinishing, len(sent) > 200)
        if isFinishing:
            self.assertEqual(self.ends, [])
            self.store.sinks[0].fire("finish")
            isServed = reason == "released"  # behind the response
            self.assertWaited(waiting, isServed)
            self.assertEqual(peer.statuses, [0] if isServed else [])
            waiting = self.wait(association)
        self.assertWaited(waiting, False)
        self.assertEqual((association.ended, self.ends), (reason, [reason]))
        self.assertEqual(self.events.calls[-1], ("OnAssocEnd", (association, reason)))
        self.assertEqual("OnTimeout" in self.names, reason == "timed out")
        self.assertEqual("OnStoreDone" in self.names, bool(sent))
        self.assertNotIn(association, self.acceptor.associations)
        self.assertWaited(self.wait(association), False)


class PullTests(PushTests):
    """The same in pull style."""

    isPull = True


class PushPortTests(LoopbackTestCase):
    """Members about ports, files and TLS, in push style."""

    isPull = False

    def begin(self, **options: Any) -> DCXACC:
        """Return a listener that listens, its events recorded."""
        self.events = RecordingEvents()
        listener = self.make([] if self.isPull else LOOPBACK, self.events, **options)
        self.listen(listener)
        return listener

    def listen(self, listener: DCXACC) -> None:
        """Have a listener listen."""
        if self.isPull:
            self.connecting = listener.WaitForConnection("SCP", LOOPBACK, 30)
        else:
            listener.startService()

    async def stored(self, listener: DCXACC, peer: LoopbackPeer, uid: str = "1.2.3") -> int:
        """Store an object that comes from a peer, and return the status."""
        storing = self.store(peer, uid)
        if self.isPull:
            association = await self.connecting
            assert association is not None
            self.assertIs(await association.WaitForCommand(30), True)
        return await storing

    async def test_WaitForConnection(self) -> None:
        """Hands out who comes to a port; where startService listens, nobody."""
        listener = self.begin()
        peer = await self.associated(listener)
        if self.isPull:
            association = await self.connecting
            assert association is not None
            self.assertEqual(listener.associations, [association])
            self.assertIsNone(await listener.WaitForConnection("SCP", LOOPBACK, 0))
        else:
            for port in (LOOPBACK, portOf(listener)):
                await self.assertFailure(listener.WaitForConnection("SCP", port, 0), RuntimeError)
            self.assertEqual(await self.stored(listener, peer), 0)

    async def test_StopListener(self) -> None:
        """Frees the port; what is up goes on."""
        listener = self.begin()
        number = portOf(listener)
        peer = await self.associated(listener)
        await listener.StopListener()
        self.assertEqual(listener.ports, [])
        await self.assertNobodyListens(number)
        self.assertEqual(await self.stored(listener, peer), 0)
        await listener.StopListener()

    async def test_StoreDirectory(self) -> None:
        """Is where files go; set before, and again when it has stopped, not while it is open."""
        listener = self.begin()
        await listener.stopService()
        for name in ("first", "second"):
            root = self.directory / name
            listener.StoreDirectory = str(root)
            self.assertEqual(listener.StoreDirectory, str(root))
            self.listen(listener)
            self.assertRaises(RuntimeError, setattr, listener, "StoreDirectory", "elsewhere")
            self.assertEqual(await self.stored(listener, await self.associated(listener)), 0)
            (path,) = root.rglob("*.dcm")
            self.assertTrue(path.read_bytes().endswith(DATA))
            self.assertEqual(self.events.calls[-1][1][0], str(path))
            await listener.stopService()

    async def test_SecurityContext(self) -> None:
        """Is that of the ports that speak TLS; not to be set while anything is listened on."""
        files, issued = Files(self.mktemp()), selfSigned().issue("listener", names=NAMES)
        security = SecurityContext(
            certificate=files.write("certificate.pem", issued), key=files.write("key.pem", issued.key)
        )
        self.events = RecordingEvents()
        if self.isPull:
            listener = self.make([], self.events)
            self.assertIsNone(listener.SecurityContext)
            listener.SecurityContext = security
        else:
            listener = self.make([], self.events, tlsEndpoints=LOOPBACK, securityContext=security)
        self.assertIs(listener.SecurityContext, security)
        self.listen(listener)
        self.assertRaises(RuntimeError, setattr, listener, "SecurityContext", None)
        self.assertEqual(listener.tlsPorts, listener.ports)
        endpoint = wrapClientTLS(Client(), HostnameEndpoint(reactor, "127.0.0.1", portOf(listener)))
        peer: LoopbackPeer = await connectProtocol(endpoint, LoopbackPeer())
        self.addCleanup(peer.gone)
        self.addCleanup(peer.leave)
        peer.associate()
        await peer.when(lambda: peer.accepted)
        self.assertEqual(await self.stored(listener, peer), 0)
        (association,) = listener.associations
        assert association.security is not None
        self.assertEqual(association.security.version, "TLSv1.3")
        plain = await connect(portOf(listener))
        plain.associate()
        await plain.gone()
        self.assertIsNone(plain.accepted)


class PullPortTests(PushPortTests):
    """The same in pull style."""

    isPull = True


class AllTests(SynchronousTestCase):
    """That nothing is missing here."""

    def test_everyMember(self) -> None:
        tested = {name.removeprefix("test_") for case in (PullTests, PullPortTests) for name in dir(case)}
        self.assertEqual((set(IDCXACC) | set(IDCXACCEvents)) - tested, set())
