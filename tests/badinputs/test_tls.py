"""
The same bad input over TLS: what comes of it is the same, however the records are cut.

Not all of it, which would take too long, but what has to do with how bytes arrive, and how connections end.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from dcxtwisted.testing import MemoryConnection
from dcxtwisted.tls import TLSFactory
from tests.badinputs import test_awaiting, test_pdata, test_transport
from tests.badinputs.oracle import Attack
from tests.badinputs.peers import Peer
from tests.certificates import selfSigned


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Ends:
    """Both ends of TLS, with a certificate that nobody verifies."""

    def __init__(self) -> None:
        issued = selfSigned()
        self._server = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._server.use_certificate(issued.certificate)
        self._server.use_privatekey(issued.key)
        self._client = SSL.Context(SSL.TLS_CLIENT_METHOD)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Twisted calls this."""
        return SSL.Connection(self._server, None)

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Likewise."""
        return SSL.Connection(self._client, None)


@cache
def ends() -> Ends:
    """Return the same each time."""
    return Ends()


class SecureAttack(Attack):
    """A run over TLS: the handshake is over before anything is cut."""

    def _connect(self, address: IPv4Address) -> tuple[Peer, MemoryConnection]:
        listening = TLSFactory(ends(), self.factory, self.clock, self.factory.admission.counts)
        connecting = TLSMemoryBIOFactory(ends(), True, Factory.forProtocol(Peer), self.clock)
        connecting.protocol = TLSMemoryBIOProtocol  # one that leaves nothing for the next turn
        server, client = listening.buildProtocol(address), connecting.buildProtocol(address)
        assert server is not None
        assert client is not None
        peer: Any = client.wrappedProtocol
        connection = MemoryConnection(server, client, clientAddress=address, clock=self.clock)
        connection.pump()
        return peer, connection


class PDULengthTests(test_pdata.PDULengthTests):
    attack = SecureAttack


class PDVLengthTests(test_pdata.PDVLengthTests):
    attack = SecureAttack


class OutOfPlaceTests(test_pdata.OutOfPlaceTests):
    attack = SecureAttack


class OtherPDUTests(test_pdata.OtherPDUTests):
    attack = SecureAttack


class NoProgressTests(test_pdata.NoProgressTests):
    attack = SecureAttack


class ToleratedTests(test_pdata.ToleratedTests):
    attack = SecureAttack


class SilenceTests(test_transport.SilenceTests):
    attack = SecureAttack


class NoDICOMTests(test_transport.NoDICOMTests):
    attack = SecureAttack


class GoneTests(test_transport.GoneTests):
    attack = SecureAttack


class PipelinedTests(test_transport.PipelinedTests):
    attack = SecureAttack


class GoneWhileAwaitedTests(test_awaiting.GoneWhileAwaitedTests):
    attack = SecureAttack


class FloodWhileAwaitedTests(test_awaiting.FloodWhileAwaitedTests):
    attack = SecureAttack


class AfterTheEndTests(test_awaiting.AfterTheEndTests):
    attack = SecureAttack


class EventDeadlineTests(test_awaiting.EventDeadlineTests):
    attack = SecureAttack


class AsynchronousTests(test_awaiting.AsynchronousTests):
    attack = SecureAttack
