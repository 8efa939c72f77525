"""
What the tests of TLS in memory share: a listener behind TLS, and clients of every kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from dcxtwisted.security import SecurityContext, ServerSecurity
from dcxtwisted.testing import MemoryConnection, ScriptedPeer
from dcxtwisted.tls import TLSFactory
from tests.certificates import LOOPBACK, Files, Issued, selfSigned
from tests.support import ListenerTestCase

TLS12 = SSL.TLS1_2_VERSION
TLS13 = SSL.TLS1_3_VERSION

#: Has OpenSSL let a client do what no listener of ours allows.
ANYTHING_GOES = "@SECLEVEL=0"


@implementer(IOpenSSLClientConnectionCreator)
class Client:
    """
    The TLS of a client.

    :param shows: its certificate, and those behind it.
    :param trusts: verifies the listener's; None takes any.
    :param suites: its suites for TLS 1.2, or for TLS 1.3 where C{version} is that.
    """

    def __init__(
        self, *shows: Issued, version: int | None = None, suites: str = "", trusts: Issued | None = None
    ) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if version is not None:
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        context.set_cipher_list(f"ALL:{ANYTHING_GOES}".encode())
        if suites and version == TLS13:
            context.set_tls13_ciphersuites(suites.encode())
        elif suites:
            context.set_cipher_list(f"{suites}:{ANYTHING_GOES}".encode())
        if shows:
            context.use_certificate(shows[0].certificate)
            context.use_privatekey(shows[0].key)
            for issuer in shows[1:]:
                context.add_extra_chain_cert(issuer.certificate)
        if trusts is not None:
            store = context.get_cert_store()
            assert store is not None
            store.add_cert(X509.from_cryptography(trusts.certificate))
            context.set_verify(SSL.VERIFY_PEER)
        #: Of the connections made: lines of a key log.
        self.secrets: list[bytes] = []
        context.set_keylog_callback(lambda connection, line: self.secrets.append(line))
        self._context = context

    def keyUpdates(self, number: int, isAnswerWanted: bool = False) -> bytes:
        """
        Return records that change the key of the latest connection, one after the other (RFC 8446 4.6.3).

        It is one of TLS 1.3 with AES-256-GCM, and the client has sent nothing since the handshake.
        """
        secret = next(line.split()[2] for line in self.secrets[::-1] if line.startswith(b"CLIENT_TRAFFIC_SECRET_0"))
        current, records = bytes.fromhex(secret.decode()), b""
        for _ in range(number):
            cipher = AESGCM(_expanded(current, b"key", 32))
            header = b"\x17\x03\x03\x00\x16"
            message = b"\x18\x00\x00\x01" + bytes([isAnswerWanted]) + b"\x16"
            records += header + cipher.encrypt(_expanded(current, b"iv", 12), message, header)
            current = _expanded(current, b"traffic upd", 48)
        return records

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Twisted calls this."""
        return SSL.Connection(self._context, None)


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 7.1."""
    whole = b"tls13 " + label
    return HKDFExpand(SHA384(), length, length.to_bytes(2) + bytes([len(whole)]) + whole + b"\0").derive(secret)


class TLSListenerTestCase(ListenerTestCase):
    """
    A listener behind TLS, in memory: ``secure`` first, then ``connectTLS``.

    :ivar authority: the CA of what is issued here, and of the clients that are trusted.
    """

    def setUp(self) -> None:
        super().setUp()
        self.files = Files(self.mktemp())
        self.authority = selfSigned()
        self.now = lambda: datetime.now(UTC)

    def contextFor(self, shown: Issued | None = None, **settings: Any) -> SecurityContext:
        """Return a security context with a certificate for the listener, written to files."""
        issued = self.authority.issue("listener", names=LOOPBACK) if shown is None else shown
        return SecurityContext(
            certificate=self.files.write("certificate.pem", issued),
            key=self.files.write("key.pem", issued.key),
            **settings,
        )

    def secure(self, shown: Issued | None = None, **settings: Any) -> None:
        """Put TLS in front of the listener."""
        self.security = ServerSecurity(self.contextFor(shown, **settings), self.now)
        self.tls = TLSFactory(self.security, self.factory, self.clock, self.factory.admission.counts)

    def trust(self) -> dict[str, Any]:
        """Return the settings that ask clients for a certificate of the authority."""
        return {"trusted": self.files.write("ca.pem", self.authority), "requireClientCertificate": True}

    def connectTLS(self, client: Client | None = None, cuts: Iterable[int] = ()) -> ScriptedPeer:
        """Return a new peer behind TLS; the handshake is over, well or not."""
        server = self.tls.buildProtocol(IPv4Address("TCP", "127.0.0.1", 54321))
        clients = Factory.forProtocol(ScriptedPeer)
        creator = Client() if client is None else client
        wrapped = TLSMemoryBIOFactory(creator, True, clients, self.clock).buildProtocol(None)
        assert server is not None
        assert wrapped is not None
        peer = wrapped.wrappedProtocol
        assert isinstance(peer, ScriptedPeer)
        self.connections.append(MemoryConnection(server, wrapped, cuts=cuts))
        self.pump()
        return peer

    def associateTLS(self, client: Client | None = None, **how: Any) -> ScriptedPeer:
        """Return a new peer behind TLS that has asked for an association."""
        peer = self.connectTLS(client, **how)
        if peer.lost is None:
            peer.associate()
            self.pump()
        return peer

    def pump(self) -> None:
        """Let everything happen; under TLS small writes of the client wait for the next turn of the reactor."""
        for _ in range(4):
            super().pump()
            self.clock.advance(0)
        super().pump()

    @property
    def transportOfServer(self) -> TLSMemoryBIOProtocol:
        """The listener's side of TLS of the latest connection."""
        protocol = self.connections[-1].server.protocol
        assert isinstance(protocol, TLSMemoryBIOProtocol)
        return protocol

    def assertRefused(self, client: Client | None, why: str) -> None:
        """Assert that a client does not get in, nor one byte of DICOM, and that one line says why."""
        before = self.names
        peer = self.associateTLS(client)
        self.assertIsNone(peer.accepted)
        self.assertIsNotNone(self.connections[-1].server.closed)
        self.assertEqual(self.names, before)
        (line,) = self.lines
        self.assertLines(f"no TLS with 127.0.0.1: {why}")
        self.assertEqual(line.removeprefix("no TLS with 127.0.0.1: ")[: len(why)], why)

    def assertLetIn(self, client: Client | None = None) -> Any:
        """Assert that a client gets in; return its association."""
        peer = self.associateTLS(client)
        self.assertIsNotNone(peer.accepted)
        peer.release()
        self.pump()
        self.assertTrue(peer.released)
        self.connections[-1].client.loseConnection()
        self.pump()
        association = self.accepted[-1]
        self.assertLines("association from 'PEER' (127.0.0.1)")
        return association
