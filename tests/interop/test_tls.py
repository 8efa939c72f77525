"""
TLS with real clients: DCMTK's storescu with its profiles, and openssl, which offers what nobody should take.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from dcxtwisted import SecurityContext
from dcxtwisted.security import PROFILES
from dcxtwisted.testing import RecordingEvents
from dcxtwisted.users import Passwords, Users
from tests.certificates import LOOPBACK, Files, Issued, rsaKey, selfSigned
from tests.interop.dcmtk import CLIENT_DEADLINE, Finished, requireProgram, runClient, runProgram
from tests.interop.relay import portOf
from tests.interop.samples import paths, sampleNamed, small
from tests.interop.support import ListenerTestCase, atOnce
from tests.support import logged

_ENDPOINT = "tcp:0:interface=127.0.0.1"


class SecureListenerTestCase(ListenerTestCase):
    """
    A test with a listener that has a plain port and one for TLS.

    :ivar port: the latter.
    :ivar more: what else the listener is made with.
    """

    more: Mapping[str, Any] = {}

    def setUp(self) -> None:
        super().setUp()
        self.files = Files(self.mktemp())
        self.authority = selfSigned()
        self.files.write("ca.pem", self.authority)
        # storescu 3.6.7 trusts neither itself nor the operating system.
        self.trusting = ("+cf", self.path("ca.pem"))

    def path(self, name: str) -> str:
        """Return where a file is."""
        return str(self.files.directory / name)

    def secure(self, isRSA: bool = True, **settings: Any) -> None:
        """Start the listener."""
        shown = self.authority.issue("listener", key=rsaKey() if isRSA else None, names=LOOPBACK)
        context = SecurityContext(
            certificate=self.files.write("certificate.pem", shown),
            key=self.files.write("key.pem", shown.key),
            **settings,
        )
        self.events = RecordingEvents()
        self.plainPort = self.listen(self.events, tlsEndpoints=_ENDPOINT, securityContext=context, **self.more)
        (port,) = self.listener.tlsPorts
        self.port = portOf(port)

    def trust(self) -> dict[str, Any]:
        """Return the settings that take clients of the CA only."""
        return {"trusted": self.path("ca.pem"), "requireClientCertificate": True}

    def identity(self, issued: Issued) -> tuple[str, ...]:
        """Return the options that have storescu show a certificate."""
        return "+tls", self.files.write("c.key", issued.key), self.files.write("c.pem", issued)

    def count(self, name: str) -> int:
        """Return how often something happened."""
        return self.listener.counts[name]


class StorescuTests(SecureListenerTestCase):
    """DCMTK's storescu."""

    def setUp(self) -> None:
        requireProgram("storescu")
        super().setUp()

    def send(self, *options: str, port: int | None = None, inputs: Sequence[str] = ()) -> Deferred[Finished]:
        """Send samples."""
        files = inputs or paths(small()[:3])
        return runClient("storescu", *options, "127.0.0.1", str(self.port if port is None else port), *files)

    async def succeed(self, *options: str, **how: Any) -> None:
        """Send samples, which ends well."""
        finished = await self.send(*options, **how)
        self.assertEqual(finished.status, 0, finished.output)

    async def test_profiles(self) -> None:
        """Each profile of storescu that is not retired, with each of the listener's, and with RSA as with ECDSA."""
        for profile in PROFILES:
            for option in ("+px", "+py", "+pz"):
                isRSA = option != "+py"
                await self._sendWithProfile(profile, isRSA, "+tla", option)
                shown = self.authority.issue("scanner", key=rsaKey() if isRSA else None)
                security = await self._sendWithProfile(profile, isRSA, *self.identity(shown), option, **self.trust())
                self.assertEqual(security.peerSubject, "CN=scanner")

    async def _sendWithProfile(self, profile: str, isRSA: bool, *options: str, **settings: Any) -> Any:
        self.secure(isRSA, profile=profile, **settings)
        await self.succeed(*options, *self.trusting)
        self.assertEqual(len(self.storedFiles()), 3)
        (association,) = {call[1][3] for call in self.events.calls if call[0] == "OnConnection"}
        suites = PROFILES[profile].TLS12 + PROFILES[profile].TLS13
        self.assertIn(association.security.cipherSuite, suites)
        return association.security

    async def test_users(self) -> None:
        """Who says which user it is, and shows it; not a word of what it shows is logged."""
        self.more = {"users": Users([Passwords({b"alice": b"op3n-sesame"})], required=True)}
        with logged() as lines:
            self.secure()
            name, passcode = ("--user", "alice"), ("--password", "op3n-sesame")
            await self.succeed("+tla", *self.trusting, *name, *passcode, "--pos-response")
            self.assertEqual(self.events.calls[0][1][3].user, "alice")
            for options in ((*name, "--password", "0pen-sesame"), name, ()):
                finished = await self.send("+tla", *self.trusting, *options)
                self.assertNotEqual(finished.status, 0, options)
                self.assertIn("Result: Rejected Permanent, Source: Service User", finished.output)
                self.assertIn("Reason: No Reason", finished.output)
        self.assertEqual(self.events.names.count("OnConnection"), 1)
        self.assertEqual(self.count("associations rejected"), 3)
        self.assertNotIn("sesame", "".join(lines))

    async def test_retiredProfiles(self) -> None:
        """CBC and RSA key exchange, or no encryption at all."""
        self.secure()
        for option in ("+pa", "+pn"):
            finished = await self.send("+tla", option, *self.trusting)
            self.assertNotEqual(finished.status, 0, option)
        await self.listener.stopService()  # the second client may be gone before its end is noticed here
        self.assertEqual((self.count("TLS handshakes failed"), self.events.names), (2, []))

    async def test_mutualAuthentication(self) -> None:
        self.secure(**self.trust())
        shown = self.authority.issue("scanner", key=rsaKey(), names=[x509.DNSName("ct.example")])
        await self.succeed(*self.identity(shown), *self.trusting)
        security = self.events.calls[0][1][3].security
        self.assertEqual((security.peerSubject, security.peerNames), ("CN=scanner", ("DNS:ct.example",)))
        self.assertEqual(security.peerThumbprint, shown.thumbprint.replace(":", "").lower())
        self.assertEqual(len(self.storedFiles()), 3)

    async def test_refused(self) -> None:
        """No certificate, an expired one, one of another CA, a self-signed one: not one byte of DICOM."""
        self.secure(**self.trust())
        for options in (
            ("+tla",),
            self.identity(self.authority.issue("scanner", key=rsaKey(), days=(-9, -1))),
            self.identity(selfSigned("Other CA").issue("scanner", key=rsaKey())),
            self.identity(selfSigned("scanner", key=rsaKey(), isCA=False)),
        ):
            finished = await self.send(*options, *self.trusting)
            self.assertNotEqual(finished.status, 0, options)
        await self.listener.stopService()
        self.assertEqual((self.count("TLS handshakes failed"), self.events.names, self.storedFiles()), (4, [], {}))

    async def test_untrustedListener(self) -> None:
        """storescu, too, looks whom it talks to."""
        self.secure()
        self.assertNotEqual((await self.send("+tla")).status, 0)
        self.assertEqual(self.events.names, [])

    async def test_identical(self) -> None:
        """With TLS and without, byte for byte: what storescu sends is compared with its files elsewhere."""
        samples = [sampleNamed("CT_small.dcm"), sampleNamed("MR_small.dcm"), *small()[:3]]
        stored = []
        for options in ((), ("+tla", *self.trusting)):
            self.secure()
            await self.succeed(*options, port=self.port if options else self.plainPort, inputs=paths(samples))
            stored.append({name: kept.dataSet for name, kept in self.storedFiles().items()})
        self.assertEqual(len(stored[0]), len(samples))
        self.assertEqual(stored[0], stored[1])


class ProbeTests(SecureListenerTestCase):
    """``openssl s_client`` offers what is weak, one by one."""

    def setUp(self) -> None:
        if shutil.which("openssl") is None:
            raise SkipTest("openssl is not installed")
        super().setUp()

    async def probe(self, *options: str) -> str:
        """Return what a client has to say that offers this and nothing else."""
        finished = await runProgram("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", *options)
        return finished.output

    async def assertRefused(self, *options: str) -> None:
        """Fail unless the listener answers with an alert."""
        output = await self.probe(*options)
        self.assertIn("Cipher is (NONE)", output, options)
        self.assertRegex(output, r"alert (handshake failure|protocol version)", options)

    async def test_versions(self) -> None:
        """With all suites that the client has, and at its lowest security level."""
        self.secure()
        for option in ("-tls1", "-tls1_1"):
            await self.assertRefused(option, "-cipher", "ALL:@SECLEVEL=0")
        for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            self.assertIn(f"New, {version}, Cipher is ", await self.probe(option))

    async def test_weakSuites(self) -> None:
        """Every suite that openssl has for TLS 1.2 and the profile does not, one by one."""
        for isRSA in (True, False):
            for name, profile in PROFILES.items():
                self.secure(isRSA, profile=name)
                certificate = "RSA" if isRSA else "ECDSA"
                refused = [suite for suite in await self._suites() if suite not in profile.TLS12]
                self.assertGreater(len(refused), 30)
                await atOnce(
                    [
                        Deferred.fromCoroutine(self.assertRefused("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"))
                        for suite in refused
                    ]
                )
                for suite in profile.TLS12:
                    if certificate in suite:
                        self.assertIn(f"Cipher is {suite}", await self.probe("-tls1_2", "-cipher", suite))

    async def _suites(self) -> list[str]:
        """Return what openssl can offer without a secret shared beforehand."""
        command = ["openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
        listed = await deferToThread(subprocess.check_output, command, timeout=CLIENT_DEADLINE)
        return [suite for suite in listed.decode().strip().split(":") if "PSK" not in suite and "SRP" not in suite]

    async def test_neverResumed(self) -> None:
        """Each association shows its certificate anew."""
        self.secure()
        for option in ("-tls1_2", "-tls1_3"):
            output = await self.probe(option, "-reconnect")
            self.assertNotIn("Reused", output)
            self.assertGreater(output.count("New, TLSv1."), 1)

    async def test_noCompression(self) -> None:
        self.secure()
        self.assertIn("Compression: NONE", await self.probe("-tls1_2", "-comp"))
