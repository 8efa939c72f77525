"""
Where to listen: a port number on every address, and what else means an endpoint.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EMFILE, ENFILE
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dcxtwisted.endpoints import PortEndpoint, endpointFrom, whyNotListening
from tests.loopback import LoopbackPeer, connect
from tests.support import openDescriptors

reactor: Any = _reactor


class EndpointFromTests(SynchronousTestCase):
    """`endpointFrom`"""

    def test_portNumber(self) -> None:
        for description in (11112, "11112", " 11112\n", 0, 65535):
            endpoint = endpointFrom(MemoryReactor(), description)
            self.assertIsInstance(endpoint, PortEndpoint)
            verifyObject(IStreamServerEndpoint, endpoint)

    def test_string(self) -> None:
        memory = MemoryReactor()
        endpoint = endpointFrom(memory, "tcp:4242:interface=127.0.0.1")
        factory = Factory()
        self.successResultOf(endpoint.listen(factory))
        self.assertEqual(memory.tcpServers, [(4242, factory, 1024, "127.0.0.1")])

    def test_backlog(self) -> None:
        """What an endpoint string says itself counts."""
        memory = MemoryReactor()
        factory = Factory()
        self.successResultOf(endpointFrom(memory, "tcp:4242:backlog=7").listen(factory))
        self.successResultOf(endpointFrom(memory, "tcp6:4242").listen(factory))
        self.successResultOf(endpointFrom(memory, "unix:socket").listen(factory))
        self.assertEqual([backlog for _, _, backlog, _ in memory.tcpServers], [7, 1024])
        self.assertEqual([backlog for _, _, backlog, *_ in memory.unixServers], [1024])

    def test_endpoint(self) -> None:
        """As it is."""
        endpoint = TCP4ServerEndpoint(MemoryReactor(), 4242)
        self.assertIs(endpointFrom(MemoryReactor(), endpoint), endpoint)

    def test_noSuchPort(self) -> None:
        for description in (65536, "65536", -1, "4294967296"):
            with self.assertRaises(ValueError) as caught:
                endpointFrom(MemoryReactor(), description)
            self.assertEqual(str(caught.exception), f"a port number is 0 to 65535, not {description}")

    def test_noEndpoint(self) -> None:
        for description in ("", "-1", "tcp:", "tcp:x", "nonsense:1", "tcp:1:colour=red", "11112x"):
            with self.assertRaises(ValueError) as caught:
                endpointFrom(MemoryReactor(), description)
            self.assertRegex(str(caught.exception), f"^{description!r} is neither a port number nor an endpoint: .")

    def test_asOtherProgramsTakeIt(self) -> None:
        """An address and a port: how that is written here, in a way that is taken."""
        for description, meant in (
            ("127.0.0.1:11112", "tcp:11112:interface=127.0.0.1"),
            ("0.0.0.0:104", "tcp:104:interface=0.0.0.0"),
            ("::1:104", r"tcp6:104:interface=\:\:1"),
            ("[2001:db8::7]:104", r"tcp6:104:interface=2001\:db8\:\:7"),
        ):
            error = self.assertRaises(ValueError, endpointFrom, MemoryReactor(), description)
            self.assertEqual(str(error), f"{description!r} is neither a port number nor an endpoint, write {meant}")
            reactor = MemoryReactor()
            self.successResultOf(endpointFrom(reactor, meant).listen(Factory()))
            ((port, _, _, interface),) = reactor.tcpServers
            self.assertTrue(description.replace("[", "").replace("]", "") == f"{interface}:{port}")
        for description in ("127.0.0.1:70000", "127.0.0.1:x", "somewhere:11112", "127.0.0.1"):
            error = self.assertRaises(ValueError, endpointFrom, MemoryReactor(), description)
            self.assertNotIn("write", str(error))

    def test_whyNot(self) -> None:
        """What stands in the way of a port, in words that say what to do."""
        for error, why in (
            (
                CannotListenError("", 11112, OSError(EADDRINUSE, "in use")),
                "port 11112 is in use by another program, which ss -ltnp shows; --port takes another port",
            ),
            (
                CannotListenError("127.0.0.1", 104, OSError(EACCES, "denied")),
                "port 104 of 127.0.0.1 takes privileges, as each below 1024 does: start as root with twistd --uid, "
                "which drops them, or have CAP_NET_BIND_SERVICE",
            ),
            (
                CannotListenError("127.0.0.1", 1024, OSError(EACCES, "denied")),
                "Couldn't listen on 127.0.0.1:1024: [Errno 13] denied.",
            ),
            (
                CannotListenError("any", 104, OSError(EMFILE, "too many")),
                "Couldn't listen on any:104: [Errno 24] too many.",
            ),
            (CannotListenError("any", 104, "why"), "Couldn't listen on any:104: why."),
            (
                CannotListenError(None, "/run/x", OSError(EADDRINUSE, "in use")),
                "Couldn't listen on any:/run/x: [Errno 98] in use.",
            ),
        ):
            self.assertEqual(whyNotListening(error), why)

    def test_ownTLS(self) -> None:
        """There is one way to TLS, and it is named."""
        for description in ("ssl:2762", "SSL:port=2762:privateKey=key.pem", "haproxy:ssl:2762", "txsni:certs:tcp:2762"):
            error = self.assertRaises(ValueError, endpointFrom, MemoryReactor(), description)
            self.assertEqual(
                str(error),
                f"{description!r}: TLS is for --tls-port (tlsEndpoints of DCXACC), which takes tcp endpoints and keeps "
                "to the profiles of the standard",
            )
        self.assertIsNotNone(endpointFrom(MemoryReactor(), "unix:ssl"))

    def test_anythingElse(self) -> None:
        for description in (None, b"11112", 4.2, object):
            with self.assertRaises(ValueError) as caught:
                endpointFrom(MemoryReactor(), description)  # type: ignore[arg-type]  # that is the mistake
            self.assertEqual(str(caught.exception), f"{description!r} is neither a port number nor an endpoint")


class PortEndpointTests(TestCase):
    """`PortEndpoint` on real sockets."""

    timeout = 60

    @inlineCallbacks
    def listen(self, port: int = 0) -> Generator[Deferred[Any], Any, IListeningPort]:
        self.accepted: list[Any] = []

        def build(address: Any) -> LoopbackPeer:
            self.accepted.append(address)
            return LoopbackPeer()

        factory: Any = Factory()
        factory.buildProtocol = build
        listening: IListeningPort = yield PortEndpoint(reactor, port).listen(factory)
        self.addCleanup(lambda: maybeDeferred(listening.stopListening))
        return listening

    @inlineCallbacks
    def test_bothProtocols(self) -> Generator[Deferred[Any], Any, None]:
        """One socket takes connections over IPv6 and over IPv4."""
        if not socket.has_dualstack_ipv6():
            self.skipTest("no IPv6 here")
        listening = yield self.listen()
        host = listening.getHost()
        self.assertEqual((type(host), host.host), (IPv6Address, "::"))
        self.assertGreater(host.port, 0)
        for there in ("127.0.0.1", "::1"):
            peer = yield connect(host.port, there)
            peer.transport.loseConnection()
            yield peer.gone()
        self.assertEqual([address.host for address in self.accepted], ["::ffff:127.0.0.1", "::1"])

    @inlineCallbacks
    def test_withoutIPv6(self) -> Generator[Deferred[Any], Any, None]:
        self.patch(socket, "has_dualstack_ipv6", lambda: False)
        listening = yield self.listen()
        host = listening.getHost()
        self.assertEqual((type(host), host.host), (IPv4Address, "0.0.0.0"))
        peer = yield connect(host.port)
        peer.transport.loseConnection()
        yield peer.gone()

    def failing(self, error: int) -> list[tuple[str, int]]:
        """Have IPv6 sockets fail; return a list of the addresses that are tried."""
        tried = []
        create = socket.create_server

        def fake(address: tuple[str, int], **how: Any) -> socket.socket:
            tried.append(address)
            self.assertEqual(how["backlog"], 1024)
            if how.get("family") == socket.AF_INET6:
                raise OSError(error, os.strerror(error))
            return create(address, **how)

        self.patch(socket, "has_dualstack_ipv6", lambda: True)
        self.patch(socket, "create_server", fake)
        return tried

    @inlineCallbacks
    def test_IPv6SwitchedOff(self) -> Generator[Deferred[Any], Any, None]:
        """Compiled in, but no address of it can be had: IPv4 alone."""
        tried = self.failing(EADDRNOTAVAIL)
        listening = yield self.listen()
        self.assertEqual(tried, [("::", 0), ("0.0.0.0", 0)])
        self.assertIsInstance(listening.getHost(), IPv4Address)

    def test_notHalfOfIt(self) -> None:
        """What is wrong with the port is told, and IPv4 alone is no way out."""
        for error in (EACCES, EADDRINUSE, EMFILE, ENFILE):
            tried = self.failing(error)
            failure = self.failureResultOf(PortEndpoint(reactor, 0).listen(Factory()), CannotListenError)
            self.assertEqual(failure.value.socketError.errno, error)
            self.assertEqual(tried, [("::", 0)])

    @inlineCallbacks
    def test_inUse(self) -> Generator[Deferred[Any], Any, None]:
        """It fails, says which port, and leaves nothing open."""
        listening = yield self.listen()
        number = listening.getHost().port
        before = openDescriptors()
        failure = self.failureResultOf(PortEndpoint(reactor, number).listen(Factory()), CannotListenError)
        self.assertEqual((failure.value.interface, failure.value.port), ("any", number))
        self.assertEqual(failure.value.socketError.errno, EADDRINUSE)
        self.assertRegex(str(failure.value), rf"^Couldn't listen on any:{number}: \[Errno {EADDRINUSE}\] ")
        self.assertEqual(openDescriptors(), before)

    def test_notAdopted(self) -> None:
        """The reactor has no descriptor left: likewise."""

        class FullReactor:
            def adoptStreamPort(self, *args: object) -> None:
                raise OSError(EMFILE, os.strerror(EMFILE))

        before = openDescriptors()
        failure = self.failureResultOf(PortEndpoint(FullReactor(), 0).listen(Factory()), CannotListenError)
        self.assertEqual(failure.value.socketError.errno, EMFILE)
        self.assertEqual(openDescriptors(), before)
