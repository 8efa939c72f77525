"""
What holds whatever a peer sends, checked in every run of every case.

A case is what one bad peer does, and what comes back. It is run once for each way of cutting what it sends, each time
against a listener of its own, in memory and on a clock, with an association of a good peer beside it: the canary.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import execute
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted import Configuration
from dcxtwisted.interfaces import IAssociation
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.layout import Layout
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, MemoryTransport
from tests.badinputs.inputs import PATIENT, RELEASE_RQ, RQ, echoRQ
from tests.badinputs.peers import WAYS, WHOLE, Canary, Events, Peer, Response, Way, reactionsIn, shortened

#: Seconds after which the listener closes hard, by default.
ARTIM: Final = 30
#: What a listener may take of memory over one bad peer, in bytes.
MEMORY: Final = 8 * 1024 * 1024

_PIECE: Final = 262144
_BAD: Final = IPv4Address("TCP", "127.0.0.2", 50002)


def openDescriptors() -> int:
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


class Attack:
    """
    One run of a case: a listener, the canary beside, and what the bad peer does.

    :ivar directory: where the store is, and nothing else.
    :ivar objects: the data sets that are to be stored in the end, by instance; nothing else may be.
    :ivar maximumLines: how many lines may be logged, besides one of each refused request.
    """

    def __init__(
        self,
        way: Way,
        directory: str,
        settings: Mapping[str, Any],
        answers: Mapping[str, Any],
        layout: str | None = None,
    ) -> None:
        configuration = Configuration(**settings)
        self.way = way
        self.objects: dict[str, bytes] = {}
        self.maximumLines = 1
        self.events = Events(**answers)
        self.connections: list[MemoryConnection] = []
        self.peers: list[Peer] = []
        self.directory = directory
        self._logged: list[LogEvent] = []
        self._observer = cast(ILogObserver, self._logged.append)
        globalLogPublisher.addObserver(self._observer)
        self._storeClock = Clock()
        self._stores: list[FileStore] = []
        store = self.fileStore("store", Layout(layout) if layout else None)
        self.listener = ListenerInMemory(self.events, store, configuration)
        self.clock = self.listener.clock
        self.factory = self.listener.acceptor.factory
        self.canary = Canary(self._connect)
        self.canary.sing()
        self._descriptors = openDescriptors()
        self._timers = len(self.clock.getDelayedCalls())
        if way is WHOLE:
            tracemalloc.start()

    def fileStore(self, name: str, layout: Layout | None = None, **settings: Any) -> FileStore:
        """Return a store of files, in a directory of that name, which works as soon as it is asked."""
        values: dict[str, Any] = {"durable": False, "inPool": execute, **settings}
        path = os.path.join(self.directory, name)
        store = FileStore(path, layout, reactor=self._storeClock, seconds=self._storeClock.seconds, **values)
        store.start()
        self._stores.append(store)
        return store

    # What the bad peer does

    def _connect(self, address: IPv4Address) -> tuple[Peer, MemoryConnection]:
        """Join a peer and the listener: the one place where that is done, and where TLS would go in between."""
        peer = Peer()
        connection = MemoryConnection(
            self.factory.buildProtocol(address), peer, clientAddress=address, clock=self.clock
        )
        connection.pump()
        return peer, connection

    def connect(self, address: IPv4Address = _BAD) -> Peer:
        """Return a new connection's peer, whose bytes are cut; it is the one that goes on from here."""
        peer, connection = self._connect(address)
        connection.server.cuts = self.way.cuts()
        self.peers.append(peer)
        self.connections.append(connection)
        return peer

    @property
    def peer(self) -> Peer:
        """The peer that connected last."""
        return self.peers[-1]

    @property
    def client(self) -> MemoryTransport:
        """Its end of its connection."""
        return self.connections[-1].client

    @property
    def server(self) -> MemoryTransport:
        """The listener's end."""
        return self.connections[-1].server

    def send(self, *data: bytes) -> None:
        """Send bytes, and let everything happen that comes of them."""
        for piece in data:
            # Not more than a transport holds, so that what is measured is not what a test sends.
            for start in range(0, len(piece), _PIECE):
                self.peer.send(piece[start : start + _PIECE])
                self.pump()

    def associate(self, RQ: bytes = RQ) -> None:
        """Connect, and have an association accepted; the request arrives whole."""
        self.connect()
        self.server.cuts = iter(())
        self.send(RQ)
        self.expect("AC")
        self.server.cuts = self.way.cuts()

    def pump(self) -> None:
        """Let everything happen that is due."""
        self.connections[-1].pump()

    def pumpAll(self) -> None:
        """Let everything happen that is due, on every connection."""
        for connection in self.connections:
            connection.pump()

    def advance(self, seconds: float) -> None:
        """Let time pass, a few seconds at once; the canary is heard from meanwhile."""
        while seconds > 0:
            step = min(seconds, 5)
            self.clock.advance(step)
            self._storeClock.advance(step)
            self.pumpAll()
            self.canary.echo()
            seconds -= step

    # What comes of it

    @property
    def reactions(self) -> list[str]:
        """What came back to the peer that connected last."""
        return reactionsIn(self.peer.stream)[0]

    @property
    def responses(self) -> list[Response]:
        """The responses among it."""
        return reactionsIn(self.peer.stream)[1]

    def expect(self, *reactions: str) -> None:
        """Assert that this came back so far, and nothing else."""
        assert self.reactions == [*reactions], f"{self.reactions} came back, not {[*reactions]}"

    @property
    def isOver(self) -> bool:
        """True where the connection is gone, at both ends."""
        return self.peer.lost is not None and self.server.closed is not None

    def expectClosed(self) -> None:
        """Assert that the connection is over now."""
        assert self.isOver, "the connection stands"
        assert self.server.protocol not in self.factory.protocols, "the protocol is still known"

    def expectClosedAtARTIM(self, which: Sequence[int] = (-1,), seconds: float = ARTIM) -> None:
        """Assert that connections stand, and are closed hard when ARTIM runs out, without another word."""
        servers = [self.connections[index].server for index in which]
        before = [len(self.peers[index].stream) for index in which]
        self.advance(seconds - 0.25)
        self.canary.sing()
        assert not any(server.closed for server in servers), "closed before ARTIM"
        self.advance(0.25)
        for server in servers:
            assert isinstance(server.closed, ConnectionAborted), f"closed with {server.closed!r}"
        assert [len(self.peers[index].stream) for index in which] == before, "something was sent meanwhile"

    def expectAlive(self) -> None:
        """Assert that the association serves a C-ECHO, where it has a context for that, and a release."""
        before = self.reactions
        accepted = [context.contextID for context in self.peer.accepted.presentationContexts if context.result == 0]
        if accepted:
            self.send(echoRQ(99, accepted[0]))
            before.append("RSP 0000")
        self.send(RELEASE_RQ)
        self.expect(*before, "RELEASE-RP")
        self.client.loseConnection()
        self.pump()
        self.expectClosed()

    @property
    def lines(self) -> list[str]:
        """What was logged at info and above."""
        return [
            formatEvent(event)
            for event in self._logged
            if event.get("log_namespace", "").startswith("dcxtwisted") and event["log_level"] >= LogLevel.info
        ]

    @property
    def files(self) -> list[str]:
        """Every file that the bad peer made, below the store and beside it."""
        found = []
        for where, _, names in os.walk(self.directory):
            found += [os.path.relpath(os.path.join(where, name), self.directory) for name in names]
        canary = set(self.canary.objects)
        return sorted(name for name in found if os.path.basename(name).removesuffix(".dcm") not in canary)

    # What holds in every case

    def judge(self) -> None:
        """Assert that nothing is left of the bad peer, and that nobody else was harmed."""
        self.pumpAll()
        self._storeClock.advance(0)
        for peer, connection in zip(self.peers, self.connections, strict=True):
            assert peer.lost is not None and connection.server.closed is not None, "a connection stands"  # noqa: PT018
        self.canary.sing()
        assert len(self.factory.protocols) == 1, f"protocols: {self.factory.protocols}"
        assert len(self.factory.associations) == 1, f"associations: {self.factory.associations}"
        timers = self.clock.getDelayedCalls()
        assert len(timers) == self._timers, f"timers: {timers}"
        assert not self._storeClock.getDelayedCalls(), "timers of the store"
        self.measure()
        self._judgeEvents()
        self._judgeFiles()
        self._judgeLog()
        self.canary.leave()
        assert self.clock.getDelayedCalls() == [], "timers of the canary"
        assert openDescriptors() == self._descriptors, "descriptors"

    def measure(self) -> None:
        """Assert that no more memory was taken so far than may be, and measure no longer: a test may be larger."""
        if tracemalloc.is_tracing():
            taken = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert taken < MEMORY, f"{taken} bytes of memory"

    def _judgeEvents(self) -> None:
        accepted = sum("AC" in reactionsIn(peer.stream)[0] for peer in self.peers)
        ended = self._ended
        assert len(ended) == len(set(map(id, ended))) == accepted, f"{accepted} accepted, {len(ended)} ended"

    @property
    def _ended(self) -> list[IAssociation]:
        return [args[0] for name, args in self.events.calls if name == "OnAssocEnd"]

    @property
    def ends(self) -> list[str]:
        """The reasons that OnAssocEnd was given."""
        return [args[1] for name, args in self.events.calls if name == "OnAssocEnd"]

    def _judgeFiles(self) -> None:
        stored = {os.path.basename(name).removesuffix(".dcm"): name for name in self.files}
        assert sorted(stored) == sorted(self.objects), f"{sorted(stored)} stored, not {sorted(self.objects)}"
        assert all(name.startswith("store/") for name in stored.values()), stored
        for instance, data in self.objects.items():
            with open(os.path.join(self.directory, stored[instance]), "rb") as file:
                content = file.read()
            assert content.endswith(data), f"{instance} is not what was sent"
            assert content[128:132] == b"DICM", f"{instance} is no Part 10 file"

    def _judgeLog(self) -> None:
        for event in self._logged:
            assert "log_failure" not in event, eventAsText(event)
            text = formatEvent(event)
            assert event["log_level"] < LogLevel.critical, text
            if event.get("log_namespace", "").startswith("dcxtwisted"):
                assert text.isprintable(), text
                assert text.isascii(), text
            assert PATIENT.split("^")[0] not in eventAsText(event), "patient data in the log"
        # An object that was cut off, and a request that nobody serves, may have a line of their own.
        refused = sum(association.objectsRefused for association in self._ended)
        refused += sum(
            name in ("RSP 0122", "RSP 0210", "RSP 0211") for peer in self.peers for name in reactionsIn(peer.stream)[0]
        )
        assert len(self.lines) <= self.maximumLines + refused, self.lines

    def close(self) -> None:
        """Let go of everything, however the run went."""
        globalLogPublisher.removeObserver(self._observer)
        tracemalloc.stop()
        for used in self._stores:
            used.stop()
        # The directories serve the next run: to remove them each time would take most of the time on a disk.
        for where, _, names in os.walk(self.directory):
            for name in names:
                os.unlink(os.path.join(where, name))


#: What a case does: it is run once for each way of cutting.
Script = Callable[[Attack], object]


class BadInputTestCase(SynchronousTestCase):
    """
    Cases: ``bad`` and ``badOnceAssociated`` where a few bytes are all there is to it, ``eachWay`` for the others.

    A failure names the way of cutting, with its seed.
    """

    def setUp(self) -> None:
        self.directory = self.mktemp()

    def eachWay(
        self,
        script: Script,
        ways: Sequence[Way] = WAYS,
        settings: Mapping[str, Any] = {},  # only read
        layout: str | None = None,
        **answers: Any,
    ) -> None:
        """
        Run a case in each way, and judge each run.

        :param settings: of the configuration.
        :param answers: of the events, to the bad peer alone.
        """
        for way in ways:
            attack = Attack(way, self.directory, settings, answers, layout)
            try:
                script(attack)
                attack.judge()
                errors = self.flushLoggedErrors()
                assert not errors, errors[0].getTraceback()
            except Exception as error:
                self.flushLoggedErrors()
                raise self.failureException(f"[{way.name}] {error}; log: {attack.lines}") from error
            finally:
                attack.close()

    def bad(self, stream: bytes, *reactions: str, **how: Any) -> None:
        """
        Assert what comes of the first bytes on a connection, and then of the connection.

        An association that is accepted lives on; where nothing comes back, or a refusal, it is closed at ARTIM.

        :param how: ``objects`` that are stored, and what ``eachWay`` takes.
        """
        self.badEach({stream: reactions}, **how)

    def badOnceAssociated(self, stream: bytes, *reactions: str, **how: Any) -> None:
        """
        Assert what comes of bytes behind an association that was accepted, and then of the association.

        :param how: ``RQ``, the request of that association, and as above.
        """
        self.badEach({stream: ("AC", *reactions)}, **{"RQ": RQ, **how})

    def badEach(
        self,
        table: Mapping[bytes, Sequence[str]],
        RQ: bytes = b"",
        objects: Mapping[str, bytes] = {},  # only read
        check: Script | None = None,
        **how: Any,
    ) -> None:
        """
        Assert what comes of each of these streams, on as many connections with one listener.

        :param RQ: has an association accepted first; then the reactions begin with 'AC'.
        :param check: called before an association that lives on ends.
        """

        def script(attack: Attack) -> None:
            attack.objects.update(objects)
            attack.maximumLines = len(table)
            refused: list[int] = []
            for index, (stream, reactions) in enumerate(table.items()):
                try:
                    self._one(attack, stream, reactions, RQ, check)
                except AssertionError as error:
                    raise AssertionError(f"{shortened(stream)}: {error}") from error
                if not attack.isOver:
                    refused.append(index)
            attack.canary.sing()
            if refused:
                attack.expectClosedAtARTIM(refused)
                assert len(attack.lines) >= sum(map(bool, table)), f"logged only {attack.lines}"

        self.eachWay(script, **how)

    def _one(self, attack: Attack, stream: bytes, reactions: Sequence[str], RQ: bytes, check: Script | None) -> None:
        if RQ:
            attack.associate(RQ)
        else:
            attack.connect()
        attack.send(stream)
        attack.expect(*reactions)
        if check is not None:
            check(attack)
        if reactions and reactions[-1][:2] not in ("AB", "RJ"):
            attack.expectAlive()

    def tearDown(self) -> None:
        """An unhandled failure is logged when its Deferred goes, and trial makes an error of it."""
        gc.collect()
