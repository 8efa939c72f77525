"""
Certificates, keys and lists from PEM files: what is no good, and what is said of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtensionOID
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.certificates import (
    checkChain,
    checkRevocationList,
    nameOf,
    readCertificates,
    readKey,
    readRevocationLists,
    readThumbprints,
    readTrusted,
    subjectAlternativeNames,
    subjectOf,
    thumbprintOf,
)
from dcxtwisted.errors import SecurityError
from tests.certificates import Files, Issued, Key, pem, rsaKey, selfSigned

#: Made with ``openssl x509 -req -sha1``: nothing else makes such certificates any more.
SHA1 = b"""
-----BEGIN CERTIFICATE-----
MIICqTCCAZECFDrazF2NZiTLFV6oPb2iOPkC/1NUMA0GCSqGSIb3DQEBBQUAMBEx
DzANBgNVBAMMBk9sZCBDQTAgFw0yNjExMjMwODE5NTdaGA8yMDU0MDQwOTA4MTk1
N1owDzENMAsGA1UEAwwEc2hhMTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoC
ggEBALjOEa4VO3XLfIaLHTCvc9Hh6E2qzAj1KJAoa2hPqI30rvOhSnyaGMHoFuZW
60O2DqN5iMRagJHAQ0qulybfaUCVOE4xByMdEHJIbP5tcMhXe1Cu+1M7iM7YCWEi
QvdqFfJU3IevXT3+TX6hAQWG6OlVT1UlDxJIgInuRrt1dmhc9woeyEUm6CGYwvu0
LinsqhnK9pVb0RvD1oYjelFhYEhYPfDCwsra0buzc/BacwGc6kG/03kNyjfFBeTu
tASQjF0GHU6UwSq/bBpZ96OOOwfdwANz17BxXhSndufCfylGkfj7oga2mPjjUpAl
6a7HSSDPWCuErkPr2MGcMF1w7R8CAwEAATANBgkqhkiG9w0BAQUFAAOCAQEAfwCv
lRcFQFKqLpabc3KSs1BkjXmhyapUuH5QRpCGR4rzI9rgkZqsVIu72TwbUczWiWjh
Q3i3TwM0rpiuYk7CujM0jYpTkyjjfFZ+R4J9aH2q68bDa/iCGtita8rSwp/VqKuT
uA3S/EzOGVtLEC8FgHKGOVBIzDNNbpry7LnaKlamyFShGmiXVFLYv6TNVWzQ/kBb
clu9Oxej2f5RAbhlghc1WP9N16o+SJvxP10yb/v18Hokwsu5Mz6AwwFBXLC5ohr4
muMnRu9z6OLUwBbUqdkb+DVQOhgDoMZnCFyy7SX2DTgliAgrAgdffHJ4TmgKXCRi
rUV8lDj7INYE4UUEvw==
-----END CERTIFICATE-----
"""


class CertificateTestCase(SynchronousTestCase):
    """Has a CA, and files."""

    def setUp(self) -> None:
        self.files = Files(self.mktemp())
        self.authority = selfSigned()
        self.now = datetime.now(UTC)

    def said(self, function: Callable[..., object], *args: object) -> str:
        """Return what a SecurityError says, without the directory of the files."""
        error = self.assertRaises(SecurityError, function, *args)
        return str(error).replace(f"{self.files.directory}/", "")


class ReadingTests(CertificateTestCase):
    def test_certificates(self) -> None:
        """In order, whatever stands between them."""
        issued = self.authority.issue("ct")
        path = self.files.raw("chain.pem", b"ct\n" + pem(issued) + pem(issued.key) + b"\nca:\n" + pem(self.authority))
        self.assertEqual(readCertificates(path, "certificate"), [issued.certificate, self.authority.certificate])

    def test_noFile(self) -> None:
        reads: list[tuple[Callable[[str], object], str]] = [
            (lambda path: readCertificates(path, "certificate"), "certificate"),
            (readKey, "key"),
            (readRevocationLists, "revocation list"),
        ]
        for read, what in reads:
            path = str(self.files.directory / "none.pem")
            self.assertEqual(self.said(read, path), f"{what} none.pem: No such file or directory")
            self.assertEqual(
                self.said(read, str(self.files.directory)), f"{what} {self.files.directory}: Is a directory"
            )

    def test_notPEM(self) -> None:
        """Another form, another kind of content, or nothing."""
        DER = self.authority.certificate.public_bytes(Encoding.DER)
        for data in (b"", DER, b"-----BEGIN NONSENSE-----\n", pem(self.authority.key)):
            path = self.files.raw("x.pem", data)
            self.assertEqual(
                self.said(readCertificates, path, "certificate"), "certificate x.pem: not a PEM file with a certificate"
            )
            self.assertEqual(
                self.said(readRevocationLists, path), "revocation list x.pem: not a PEM file with a revocation list"
            )
        self.assertEqual(
            self.said(readKey, self.files.write("x.pem", self.authority)),
            "key x.pem: not a PEM file with a private key",
        )

    def test_damaged(self) -> None:
        path = self.files.raw("x.pem", pem(self.authority).replace(b"MII", b"MIM", 1).replace(b"\nMI", b"\nMU", 1))
        self.assertRegex(
            self.said(readCertificates, path, "certificate"),
            r"^certificate x\.pem: not a PEM file with a certificate that can be read: .+",
        )
        path = self.files.raw("x.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        self.assertRegex(
            self.said(readKey, path), r"^key x\.pem: not a PEM file with a private key that can be read: .+"
        )

    def test_keys(self) -> None:
        keys: list[Key] = [rsaKey(), ec.generate_private_key(ec.SECP384R1())]
        for key in keys:
            for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
                path = self.files.raw("key.pem", key.private_bytes(Encoding.PEM, form, NoEncryption()))
                self.assertEqual(readKey(path).public_key(), key.public_key())

    def test_encryptedKey(self) -> None:
        """Nobody is there to be asked for the passphrase."""
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            data = rsaKey().private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
            self.assertEqual(
                self.said(readKey, self.files.raw("key.pem", data)),
                "key key.pem: encrypted; store it without a passphrase, readable to the listener alone",
            )

    def test_otherKey(self) -> None:
        path = self.files.write("key.pem", ed25519.Ed25519PrivateKey.generate())
        self.assertEqual(self.said(readKey, path), "key key.pem: neither RSA nor ECDSA")

    def test_revocationLists(self) -> None:
        other = selfSigned("Other CA")
        lists = [self.authority.revoke(), other.revoke(other.issue("x"))]
        self.assertEqual(readRevocationLists(self.files.write("crl.pem", *lists)), lists)


class ChainTests(CertificateTestCase):
    """`checkChain`"""

    def check(self, *chain: Issued, key: Key | None = None, days: float = 0) -> None:
        used = chain[0].key if key is None else key
        assert not isinstance(used, ed25519.Ed25519PrivateKey)
        now = self.now + timedelta(days)
        checkChain("c.pem", [each.certificate for each in chain], used, "k.pem", now)

    def test_good(self) -> None:
        self.check(self.authority)
        self.check(self.authority.issue("ct", key=rsaKey()))
        middle = self.authority.issue("middle", isCA=True)
        self.check(middle.issue("ct"), middle, self.authority)

    def test_dates(self) -> None:
        issued = self.authority.issue("ct", days=(0, 10))
        end = issued.certificate.not_valid_after_utc
        self.check(issued, days=9)
        self.assertEqual(
            self.said(lambda: self.check(issued, days=11)),
            f"certificate c.pem: 'CN=ct': it expired at {end:%Y-%m-%d %H:%M} UTC",
        )
        start = issued.certificate.not_valid_before_utc
        self.assertEqual(
            self.said(lambda: self.check(issued, days=-1)),
            f"certificate c.pem: 'CN=ct': it is not valid before {start:%Y-%m-%d %H:%M} UTC",
        )

    def test_expiredIssuer(self) -> None:
        """Clients would refuse the chain."""
        middle = self.authority.issue("middle", isCA=True, days=(-9, -2))
        self.assertIn("'CN=middle': it expired at", self.said(lambda: self.check(middle.issue("ct"), middle)))

    def test_otherKey(self) -> None:
        issued = self.authority.issue("ct")
        for key in (rsaKey(), ec.generate_private_key(ec.SECP256R1())):
            self.assertEqual(
                self.said(lambda key=key: self.check(issued, key=key)),
                "key k.pem: not that of the first certificate in c.pem, 'CN=ct'",
            )

    def test_order(self) -> None:
        middle = self.authority.issue("middle", isCA=True)
        issued = middle.issue("ct")
        self.assertEqual(
            self.said(lambda: self.check(issued, self.authority, middle)),
            "certificate c.pem: each certificate has to be followed by that of its issuer, but 'CN=ct' was not issued "
            "by 'CN=Test CA'",
        )

    def test_weak(self) -> None:
        for issued, said in (
            (self.authority.issue("ct", key=rsaKey(1024)), "its RSA key has 1024 bits, and needs 2048"),
            (
                self.authority.issue("ct", key=ec.generate_private_key(ec.SECP224R1())),
                "its ECDSA key has 224 bits, and needs 256",
            ),
            (
                self.authority.issue("ct", digest=hashes.SHA224()),
                "it is signed over SHA224, and needs SHA-256 or better",
            ),
        ):
            self.assertEqual(self.said(lambda issued=issued: self.check(issued)), f"certificate c.pem: 'CN=ct': {said}")

    def test_weakSHA1(self) -> None:
        """A certificate signed over SHA-1, which is not made any more."""
        certificate = x509.load_pem_x509_certificate(SHA1)
        middle = readCertificates(self.files.raw("sha1.pem", SHA1), "certificate")
        self.assertEqual(middle, [certificate])
        self.assertIn(
            "it is signed over SHA1, and needs SHA-256 or better",
            self.said(lambda: checkChain("c.pem", middle, rsaKey(), "k.pem", certificate.not_valid_before_utc)),
        )

    def test_otherKinds(self) -> None:
        """What the profiles have no keys and signatures for."""
        key = ed25519.Ed25519PrivateKey.generate()
        self.assertIn("its key is neither RSA nor ECDSA", self.said(lambda: self.check(self._with(key), key=rsaKey())))
        other = selfSigned(key=key)
        self.assertIn(
            "it is signed over an unknown algorithm, and needs SHA-256 or better",
            self.said(lambda: self.check(other.issue("ct"))),
        )

    def _with(self, key: Key) -> Issued:
        return self.authority.issue("ct", key=key)


class NameTests(CertificateTestCase):
    def test_names(self) -> None:
        names = (
            x509.DNSName("ct.example"),
            x509.IPAddress(ip_address("192.0.2.1")),
            x509.UniformResourceIdentifier("urn:ct"),
            x509.RFC822Name("ct@example.org"),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        )
        certificate = self.authority.issue("CT 1", names=names).certificate
        self.assertEqual(subjectOf(certificate), "CN=CT 1")
        self.assertEqual(
            subjectAlternativeNames(certificate),
            ("DNS:ct.example", "IP:192.0.2.1", "URI:urn:ct", "email:ct@example.org"),
        )
        self.assertEqual(subjectAlternativeNames(self.authority.issue("x").certificate), ())

    def test_unknownNames(self) -> None:
        """What cryptography cannot read is left out, and raises nothing."""
        x400Address = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000"))
        key = ec.generate_private_key(ec.SECP256R1())
        name = self.authority.certificate.subject
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, self.now, self.now + timedelta(1))
        certificate = builder.add_extension(x400Address, critical=False).sign(key, hashes.SHA256())
        self.assertEqual(subjectAlternativeNames(certificate), ())

    def test_inTheLog(self) -> None:
        """On one line, in ASCII, whatever is in them."""
        self.assertEqual(nameOf(self.authority.issue("a\nb\x1b\u00e4").certificate), r"'CN=a\nb\x1b\xe4'")

    def test_longInTheLog(self) -> None:
        """Not at any length: a client chooses it."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "\u00e4" * 9000)])
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, self.now, self.now + timedelta(1))
        written = nameOf(builder.sign(key, hashes.SHA256()))
        self.assertEqual(written, "'O=" + r"\xe4" * 254 + "'... (9002 characters)")

    def test_thumbprint(self) -> None:
        issued = self.authority.issue("ct")
        self.assertEqual(thumbprintOf(issued.certificate), issued.thumbprint.replace(":", "").lower())


class ThumbprintTests(CertificateTestCase):
    """`readThumbprints`"""

    def test_forms(self) -> None:
        """As tools write them."""
        digits = "0123456789abcdef" * 4
        colons = ":".join(digits[at : at + 2] for at in range(0, 64, 2))
        for text in (
            digits,
            digits.upper(),
            colons,
            f" {colons.upper()} ",
            f"SHA256 Fingerprint={colons}",
            f"sha256:{digits}",
            colons.replace(":", " "),
        ):
            self.assertEqual(readThumbprints([text]), {digits}, text)

    def test_several(self) -> None:
        one, two, three = "1" * 64, "2" * 64, "3" * 64
        path = self.files.raw("list", f"# scanners\n{one}  # CT\n\n{two}\n".encode())
        self.assertEqual(readThumbprints([f"{three},{one}", f"@{path}"]), {one, two, three})
        self.assertEqual(readThumbprints([]), frozenset())

    def test_bad(self) -> None:
        for text in ("12", "g" * 64, "1" * 40, "1" * 66):
            self.assertEqual(
                self.said(readThumbprints, [text]), f"a thumbprint is 64 hexadecimal digits (SHA-256), not {text!r}"
            )
        self.assertEqual(
            self.said(readThumbprints, [f"@{self.files.directory}/none"]),
            "list of thumbprints none: No such file or directory",
        )


class TrustTests(CertificateTestCase):
    def test_trusted(self) -> None:
        """One that has expired among others does no harm."""
        other = selfSigned("Old CA", days=(-9, -1))
        path = self.files.write("ca.pem", other, self.authority)
        self.assertEqual(readTrusted([path], self.now), [other.certificate, self.authority.certificate])

    def test_expired(self) -> None:
        old = selfSigned("Old CA", days=(-9, -1))
        self.assertIn(
            "CA certificate ca.pem: 'CN=Old CA': it expired at",
            self.said(readTrusted, [self.files.write("ca.pem", old)], self.now),
        )

    def test_revocationList(self) -> None:
        trusted = [selfSigned("Other CA").certificate, self.authority.certificate]

        def check(revoked: x509.CertificateRevocationList) -> None:
            checkRevocationList("crl.pem", revoked, trusted, self.now)

        check(self.authority.revoke())
        for revoked, said in (
            (selfSigned("Third CA").revoke(), "its issuer 'CN=Third CA' is none of the CA certificates"),
            (selfSigned().revoke(), "not signed by 'CN=Test CA'"),
            (self.authority.revoke(days=(-9, -1)), "the list of 'CN=Test CA' was to be replaced by "),
            (self.authority.revoke(days=(1, 9)), "the list of 'CN=Test CA' is not in force before "),
        ):
            text = self.said(check, revoked)
            self.assertTrue(text.startswith(f"revocation list crl.pem: {said}"), text)
