"""
What TLS is to be: the profiles, whose certificates are accepted, and reading all of it again.
"""

from __future__ import annotations

import os
import warnings
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, load_certificate
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dcxtwisted import TLSFacts
from dcxtwisted.errors import DICOMError, SecurityError
from dcxtwisted.security import PROFILES, SecurityContext, ServerSecurity
from tests.certificates import Issued, rsaKey, selfSigned
from tests.tlspeers import TLS12, TLS13, Client, TLSListenerTestCase

_NONE_OF_THEM = "it has none of the cipher suites of the profile"

#: What no profile has, and clients still offer: RSA key exchange, CBC, no encryption, finite field DHE, CCM_8.
WEAK = (
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES128-CCM",
    "NULL-SHA256",
    "ECDHE-RSA-NULL-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-AES256-SHA384",
    "DHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-RSA-CAMELLIA256-SHA384",
)


class SettingsTests(SynchronousTestCase):
    """What a security context takes."""

    def test_defaults(self) -> None:
        self.assertEqual(
            SecurityContext(certificate="c.pem"),
            SecurityContext(
                certificate="c.pem",
                key="",
                trusted=(),
                revocationLists=(),
                requireClientCertificate=False,
                acceptedThumbprints=(),
                profile="bcp195",
            ),
        )

    def test_one(self) -> None:
        """A single path where there may be several."""
        context = SecurityContext(certificate="c.pem", trusted="ca.pem", acceptedThumbprints="ab", revocationLists="x")
        self.assertEqual(
            (context.trusted, context.acceptedThumbprints, context.revocationLists), (("ca.pem",), ("ab",), ("x",))
        )

    def test_together(self) -> None:
        for settings, said in (
            ({"certificate": ""}, "TLS takes a certificate"),
            (
                {"certificate": "c", "requireClientCertificate": True},
                "client certificates are required, but nothing says which to accept: that takes CA certificates, "
                "thumbprints or both",
            ),
            (
                {"certificate": "c", "revocationLists": "x", "acceptedThumbprints": "y"},
                "a revocation list without CA certificates has no effect",
            ),
            ({"certificate": "c", "profile": "null"}, "a TLS profile is bcp195 or modified-bcp195, not 'null'"),
        ):
            given: dict[str, Any] = dict(settings)
            error = self.assertRaises(SecurityError, SecurityContext, **given)
            self.assertEqual(str(error), said)
            self.assertIsInstance(error, DICOMError)
            self.assertIsInstance(error, ValueError)


class OpeningTests(TLSListenerTestCase):
    """Files are read when it is opened."""

    def test_creator(self) -> None:
        self.secure()
        verifyObject(IOpenSSLServerConnectionCreator, self.security)

    def test_bad(self) -> None:
        good = self.authority.issue("listener")
        for settings, said in (
            ({"trusted": "/none.pem"}, "CA certificate /none.pem: No such file or directory"),
            ({"acceptedThumbprints": "12"}, "a thumbprint is 64 hexadecimal digits (SHA-256), not '12'"),
            (
                {"acceptedThumbprints": "@" + self.files.raw("empty", b"# none\n")},
                "the list of accepted thumbprints is",
            ),
            (
                {
                    "trusted": self.files.write("ca.pem", self.authority),
                    "revocationLists": self.files.write("crl.pem", selfSigned("Other").revoke()),
                },
                "revocation list ",
            ),
        ):
            context = self.contextFor(good, **settings)
            for use in (context.check, lambda context=context: ServerSecurity(context)):
                self.assertTrue(str(self.assertRaises(SecurityError, use)).startswith(said), said)

    def test_oneFile(self) -> None:
        """Certificate and key in one."""
        issued = self.authority.issue("listener")
        SecurityContext(certificate=self.files.write("both.pem", issued, issued.key)).check()

    def test_terms(self) -> None:
        """What is said of a port at the start."""
        issued = self.authority.issue("listener")
        certificate = self.files.write("both.pem", issued, issued.key)
        trusted = self.files.write("ca.pem", self.authority)
        for settings, terms in (
            ({}, "bcp195, client certificates not asked for"),
            ({"trusted": trusted}, "bcp195, client certificates asked for"),
            ({"acceptedThumbprints": "0" * 64}, "bcp195, client certificates asked for"),
            (
                {"trusted": trusted, "requireClientCertificate": True, "profile": "modified-bcp195"},
                "modified-bcp195, client certificates required",
            ),
        ):
            context = SecurityContext(certificate=certificate, **settings)
            self.assertEqual(ServerSecurity(context).terms, terms)

    def test_expiresSoon(self) -> None:
        """A warning, 30 days ahead."""
        for days, warned in ((40, 0), (20, 1)):
            with capturedLogs() as events:
                self.secure(self.authority.issue("listener", days=(-1, days)))
            said = [formatEvent(event) for event in events]
            self.assertEqual(len(said), warned)
        self.assertRegex(said[0], r"^the TLS certificate 'CN=listener' expires at 20\d\d-\d\d-\d\d \d\d:\d\d UTC$")
        self._logged.clear()


class ProfileTests(TLSListenerTestCase):
    """The versions and the suites, all of them and no other."""

    def listenAs(self, suite: str, profile: str) -> None:
        self.secure(self.authority.issue("listener", key=None if "ECDSA" in suite else rsaKey()), profile=profile)

    def test_everySuite(self) -> None:
        for name, profile in PROFILES.items():
            for version, suites in ((TLS12, profile.TLS12), (TLS13, profile.TLS13)):
                for suite in suites:
                    self.listenAs(suite, name)
                    association = self.assertLetIn(Client(version=version, suites=suite))
                    version_ = "TLSv1.2" if version == TLS12 else "TLSv1.3"
                    self.assertEqual(association.security, TLSFacts(version_, suite, "", (), ""))

    def test_asTheStandardHasThem(self) -> None:
        """Preferred by the listener in this order, whatever the client likes best."""
        self.listenAs("RSA", "bcp195")
        self.assertEqual(self.assertLetIn(Client(version=TLS12)).security.cipherSuite, "ECDHE-RSA-AES256-GCM-SHA384")
        backward = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
        self.assertEqual(
            self.assertLetIn(Client(version=TLS12, suites=backward)).security.cipherSuite,
            "ECDHE-RSA-AES256-GCM-SHA384",
        )
        self.assertEqual(self.assertLetIn(Client()).security.version, "TLSv1.3")

    def test_noOther(self) -> None:
        for profile in PROFILES:
            for suite in WEAK:
                self.listenAs(suite, profile)
                self.assertRefused(Client(version=TLS12, suites=suite), _NONE_OF_THEM)
        self.assertEqual(self.factory.admission.counts["TLS handshakes failed"], len(WEAK) * 2)

    def test_onlyModified(self) -> None:
        self.listenAs("RSA", "bcp195")
        self.assertRefused(Client(version=TLS12, suites="ECDHE-RSA-CHACHA20-POLY1305"), _NONE_OF_THEM)
        self.assertRefused(Client(version=TLS13, suites="TLS_AES_128_CCM_SHA256"), _NONE_OF_THEM)
        self.listenAs("RSA", "modified-bcp195")
        self.assertRefused(Client(version=TLS13, suites="TLS_AES_128_CCM_8_SHA256"), _NONE_OF_THEM)


class ClientCertificateTests(TLSListenerTestCase):
    """Whose certificates are accepted."""

    def client(self, *shows: Issued, version: int = TLS13) -> Client:
        return Client(*shows, version=version)

    def refused(self, why: str, *shows: Issued) -> None:
        """Assert that who shows this is refused, in each version."""
        for version in (TLS12, TLS13):
            self.assertRefused(self.client(*shows, version=version), why)

    def refusedAs(self, name: str, why: str, *shows: Issued) -> None:
        self.refused(f"its certificate 'CN={name}' is refused: {why}", *shows)

    def test_notAsked(self) -> None:
        """Nothing says which to accept: none is asked for."""
        self.secure()
        self.assertEqual(self.assertLetIn(Client(selfSigned("ct"))).security.peerSubject, "")

    def test_facts(self) -> None:
        self.secure(**self.trust())
        issued = self.authority.issue("ct", names=[x509.DNSName("ct.example")])
        for version, name in ((TLS12, "TLSv1.2"), (TLS13, "TLSv1.3")):
            facts = self.assertLetIn(self.client(issued, version=version)).security
            thumbprint = issued.thumbprint.replace(":", "").lower()
            self.assertEqual(
                (facts.version, facts.peerSubject, facts.peerNames, facts.peerThumbprint),
                (name, "CN=ct", ("DNS:ct.example",), thumbprint),
            )

    def test_withoutTLS(self) -> None:
        self.associate()
        self.assertIsNone(self.accepted[0].security)

    def test_none(self) -> None:
        self.secure(**self.trust())
        self.refused("it showed no certificate, which is required")

    def test_noneIsFine(self) -> None:
        """Not required: it may show none, but no bad one."""
        self.secure(trusted=self.trust()["trusted"])
        self.assertLetIn()
        self.assertEqual(self.assertLetIn(Client(self.authority.issue("ct"))).security.peerSubject, "CN=ct")
        self.refusedAs("ct", "", selfSigned("Other").issue("ct"))

    def test_bad(self) -> None:
        self.secure(**self.trust())
        small = ec.generate_private_key(ec.SECP192R1())
        for issued, why in (
            (self.authority.issue("ct", days=(-9, -1)), "it has expired"),
            (self.authority.issue("ct", days=(1, 9)), "it is not valid yet"),
            (selfSigned("Other").issue("ct"), "its issuer is none of the CA certificates"),
            (selfSigned().issue("ct"), "its "),  # of another CA of the same name
            (selfSigned("ct", isCA=False), "it is self-signed and none of the CA certificates"),
            (self.authority.issue("ct", key=rsaKey(1024)), "its key is too small"),
            (
                self.authority.issue("ct", purpose=ExtendedKeyUsageOID.SERVER_AUTH),
                "it is not for TLS clients (extended key usage)",
            ),
        ):
            self.refusedAs("ct", why, issued)
        self.assertRefused(self.client(self.authority.issue("ct", key=small), version=TLS12), "")

    def test_unreadable(self) -> None:
        """OpenSSL takes a certificate of version 4 for one, cryptography does not: a refusal, and no traceback."""
        self.secure(**self.trust())
        issued = self.authority.issue("ct")
        DER = issued.certificate.public_bytes(Encoding.DER)
        version = bytes.fromhex("a003020102")
        forged: Any = load_certificate(FILETYPE_ASN1, DER.replace(version, version[:-1] + b"\x03", 1))
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it has to be pyOpenSSL's own, which takes it
            context.use_certificate(forged)
        context.use_privatekey(issued.key)
        client = Client()
        client._context = context
        self.assertRefused(client, "its certificate is refused: it cannot be read: ")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_chain(self) -> None:
        """Through an intermediate CA that the client brings along; through one that is no CA it does not go."""
        self.secure(**self.trust())
        middle = self.authority.issue("middle", isCA=True)
        self.assertLetIn(Client(middle.issue("ct"), middle))
        self.refusedAs("ct", "its issuer is none of the CA certificates", middle.issue("ct"))
        noCA = self.authority.issue("noCA")
        self.refusedAs("noCA", "it issued another, and is no CA", noCA.issue("ct"), noCA)

    def test_trustedAsItIs(self) -> None:
        """What is named is trusted: an intermediate CA, a self-signed certificate, that of one client."""
        middle = self.authority.issue("middle", isCA=True)
        own = selfSigned("own", isCA=False)
        client = selfSigned("Other").issue("ct")
        path = self.files.write("some.pem", middle, own, client)
        self.secure(trusted=path, requireClientCertificate=True)
        for shown in (middle.issue("ct"), own, client):
            self.assertLetIn(Client(shown))
        self.refusedAs("ct", "its issuer is none of the CA certificates", self.authority.issue("ct"))

    def test_thumbprints(self) -> None:
        """Whoever issued it, so long as it is in force and strong."""
        own, old = selfSigned("own", isCA=False), selfSigned("old", days=(-9, -1))
        weak = selfSigned("weak", key=rsaKey(1024))
        foreign = selfSigned("Other").issue("foreign")
        thumbprints = [each.thumbprint for each in (own, old, weak, foreign)]
        self.secure(acceptedThumbprints=thumbprints, requireClientCertificate=True)
        self.assertLetIn(Client(own))
        self.assertLetIn(Client(foreign, version=TLS12))
        self.refusedAs("old", "it has expired", old)
        self.refusedAs("weak", "its key is too small", weak)
        self.refused("it showed no certificate, which is required")
        stranger = self.authority.issue("stranger")
        thumbprint = stranger.thumbprint.replace(":", "").lower()
        self.refusedAs("stranger", f"its thumbprint {thumbprint} is not among those accepted", stranger)

    def test_both(self) -> None:
        """CA certificates and thumbprints: both have to agree."""
        one, two, foreign = self.authority.issue("one"), self.authority.issue("two"), selfSigned("O").issue("foreign")
        self.secure(acceptedThumbprints=[one.thumbprint, foreign.thumbprint], **self.trust())
        self.assertLetIn(Client(one))
        self.refusedAs("two", "its thumbprint ", two)
        self.refusedAs("foreign", "its issuer is none of the CA certificates", foreign)

    def test_revoked(self) -> None:
        good, bad = self.authority.issue("good"), self.authority.issue("bad")
        self.secure(revocationLists=self.files.write("crl.pem", self.authority.revoke(bad)), **self.trust())
        self.assertLetIn(Client(good))
        self.refusedAs("bad", "it is revoked", bad)

    def test_revocationListsOfSome(self) -> None:
        """The issuer of the client's certificate has to have one; those above are looked up where they have."""
        middle = self.authority.issue("middle", isCA=True)
        revoked = self.authority.issue("revoked", isCA=True)
        trusted = self.files.write("ca.pem", self.authority, middle, revoked)
        lists = self.files.write("crl.pem", self.authority.revoke(revoked), revoked.revoke())
        self.secure(trusted=trusted, revocationLists=lists)
        self.assertLetIn(Client(self.authority.issue("ct")))
        self.refusedAs("ct", "there is no revocation list of its issuer", middle.issue("ct"))
        self.secure(
            trusted=self.files.write("ca.pem", middle), revocationLists=self.files.write("crl.pem", middle.revoke())
        )
        self.assertLetIn(Client(middle.issue("ct"), middle))

    def test_revokedIssuer(self) -> None:
        middle = self.authority.issue("middle", isCA=True)
        lists = self.files.write("crl.pem", self.authority.revoke(middle))
        self.secure(revocationLists=lists, **self.trust())
        shown = middle.issue("ct")
        self.refusedAs("ct", "there is no revocation list of its issuer", shown, middle)


class ReloadTests(TLSListenerTestCase):
    """Files are read again; what stands is not touched."""

    def shown(self) -> str:
        """Return what the listener shows to the next client."""
        peer = self.associateTLS()
        self.assertIsNotNone(peer.accepted)
        connection: Any = self.connections[-1].client.protocol
        certificate = connection.getPeerCertificate().to_cryptography()
        return str(certificate.subject.rfc4514_string())

    def rewrite(self, name: str) -> Issued:
        issued = self.authority.issue(name)
        self.files.write("certificate.pem", issued)
        self.files.write("key.pem", issued.key)
        return issued

    def test_newCertificate(self) -> None:
        self.secure()
        old = self.associateTLS()
        issued = self.rewrite("new")
        use = self.security.prepare()
        self.assertEqual(self.shown(), "CN=listener", "nothing is used before it is to be")
        end = issued.certificate.not_valid_after_utc
        thumbprint = issued.thumbprint.replace(":", "").lower()
        self.assertEqual(use(), f"TLS certificate 'CN=new' until {end:%Y-%m-%d}, SHA-256 thumbprint {thumbprint}")
        self.assertEqual(self.shown(), "CN=new")
        old.echo(2)
        self.pump()
        self.assertEqual(old.statuses, [0])

    def test_broken(self) -> None:
        self.secure()
        self.rewrite("new")
        self.files.raw("key.pem", b"nonsense")
        self.assertIn("key.pem: not a PEM file", str(self.assertRaises(SecurityError, self.security.prepare)))
        self.assertEqual(self.shown(), "CN=listener")

    def test_lists(self) -> None:
        """Who was let in before is not, once revoked or struck off; a session of before does not help either."""
        issued = self.authority.issue("ct")
        client = Client(issued)
        path = self.files.write("crl.pem", self.authority.revoke())
        self.secure(revocationLists=path, **self.trust())
        self.assertLetIn(client)
        self.files.write("crl.pem", self.authority.revoke(issued))
        self.security.prepare()()
        self.assertRefused(client, "its certificate 'CN=ct' is refused: it is revoked")

    def test_elsewhere(self) -> None:
        """The process may have changed its directory."""
        context = self.contextFor()
        thumbprints = "@" + os.path.relpath(self.files.raw("list", b"1" * 64))
        self.security = ServerSecurity(
            SecurityContext(
                certificate=os.path.relpath(context.certificate),
                key=os.path.relpath(context.key),
                trusted=os.path.relpath(self.files.write("ca.pem", self.authority)),
                revocationLists=os.path.relpath(self.files.write("crl.pem", self.authority.revoke())),
                acceptedThumbprints=thumbprints,
            )
        )
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        self.assertIn("CN=listener", self.security.prepare()())

    def test_expiredMeanwhile(self) -> None:
        self.secure()
        now = self.now()
        self.security._now = lambda: now + timedelta(100)
        self.assertIn("it expired at", str(self.assertRaises(SecurityError, self.security.prepare)))
        self.assertEqual(self.shown(), "CN=listener")


class SessionTests(TLSListenerTestCase):
    def test_neverResumed(self) -> None:
        """Each association shows its certificate anew."""
        self.secure()
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
        context.set_max_proto_version(TLS12)
        masters = set()
        session = None
        for _ in range(2):
            server, client = self.security.serverConnectionForTLS(None), SSL.Connection(context, None)
            server.set_accept_state()
            client.set_connect_state()
            if session is not None:
                client.set_session(session)
            _shakeHands(server, client)
            masters.add(client.master_key())
            session = client.get_session()
        self.assertEqual(len(masters), 2)

    def test_noRenegotiation(self) -> None:
        self.secure()
        server, client = self.security.serverConnectionForTLS(None), SSL.Connection(_TLS12(), None)
        server.set_accept_state()
        client.set_connect_state()
        _shakeHands(server, client)
        self.assertEqual(server.total_renegotiations(), 0)
        client.renegotiate()
        self.assertRaises(SSL.Error, client.do_handshake)
        server.bio_write(client.bio_read(65536))
        self.assertRaises(SSL.Error, server.recv, 100)
        self.assertEqual(server.total_renegotiations(), 0)

    def test_keyUpdates(self) -> None:
        """A peer may change its key, but not do little else; what comes behind the last one is not looked at."""
        self.secure()
        for number, isAnswerWanted in ((31, False), (15, True), (33, False), (2000, True)):
            with self.subTest(number=number, isAnswerWanted=isAnswerWanted):
                client = Client(version=TLS13)
                peer = self.connectTLS(client)
                raw: Any = self.connections[-1].client.protocol
                raw.transport.write(client.keyUpdates(number, isAnswerWanted))
                secured: Any = self.transportOfServer.getHandle()
                self.pump()
                self.assertGreater(secured.handshakes, min(number, 32))
                self.assertLessEqual(secured.handshakes, 33)
                if number < 32:
                    self.assertIsNone(peer.lost)
                    self.assertLines()
                else:
                    self.assertIsNotNone(self.connections[-1].server.closed)
                    self.assertLines("TLS with 127.0.0.1 ended: it changes its key again and again")
        self.assertEqual(self.factory.admission.counts["TLS connections refused"], 2)


def _TLS12() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(TLS12)
    return context


def _shakeHands(*ends: SSL.Connection) -> None:
    for _ in range(4):
        for end, other in (ends, ends[::-1]):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass  # the other end has its turn
            try:
                other.bio_write(end.bio_read(65536))
            except SSL.WantReadError:
                pass  # it had nothing to say
