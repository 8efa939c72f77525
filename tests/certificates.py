"""
Certificates, keys and revocation lists that are made as tests need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

Digest: TypeAlias = hashes.SHA224 | hashes.SHA256 | hashes.SHA384

#: Names by which a listener on loopback is known.
LOOPBACK: Sequence[x509.GeneralName] = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


@cache
def rsaKey(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return an RSA key, the same each time: to make one takes long."""
    return rsa.generate_private_key(65537, bits)


def named(name: str) -> x509.Name:
    """Return a name with that common name."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@attrs.frozen(eq=False)
class Issued:
    """A certificate and its key, which may issue others."""

    certificate: x509.Certificate
    key: Key

    def issue(
        self,
        name: str,
        *,
        key: Key | None = None,
        days: tuple[float, float] = (-1, 90),
        names: Sequence[x509.GeneralName] = (),
        digest: Digest | None = None,
        isCA: bool = False,
        purpose: x509.ObjectIdentifier | None = None,
    ) -> Issued:
        """
        Return a new certificate of this issuer.

        :param days: from when to when it is valid, from now.
        :param names: subject alternative names.
        :param purpose: of the extended key usage.
        """
        key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        return _signed(name, key, self.certificate.subject, self.key, days, names, digest, isCA, purpose)

    def revoke(
        self, *revoked: Issued, days: tuple[float, float] = (-1, 30), name: str | None = None
    ) -> x509.CertificateRevocationList:
        """Return a revocation list of this issuer; C{name} has it say that it is of another."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            self.certificate.subject if name is None else named(name),
            now + timedelta(days[0]),
            now + timedelta(days[1]),
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder(each.certificate.serial_number, now - timedelta(1)).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def thumbprint(self) -> str:
        """The SHA-256 thumbprint, as openssl writes it."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _signed(
    name: str,
    key: Key,
    issuer: x509.Name,
    issuerKey: Key,
    days: tuple[float, float],
    names: Sequence[x509.GeneralName],
    digest: Digest | None,
    isCA: bool,
    purpose: x509.ObjectIdentifier | None,
) -> Issued:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer,
        named(name),
        key.public_key(),
        x509.random_serial_number(),
        now + timedelta(days[0]),
        now + timedelta(days[1]),
    ).add_extension(x509.BasicConstraints(isCA, None), critical=True)
    # RFC 5280 asks for these, and Python from 3.13 on.
    identifiers = (
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuerKey.public_key()),
    )
    for identifier in identifiers:
        builder = builder.add_extension(identifier, critical=False)
    if isCA:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    algorithm = None if isinstance(issuerKey, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
    return Issued(builder.sign(issuerKey, algorithm), key)


def selfSigned(
    name: str = "Test CA", *, key: Key | None = None, days: tuple[float, float] = (-1, 90), isCA: bool = True
) -> Issued:
    """Return a certificate that is its own issuer: by default a new CA."""
    key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
    return _signed(name, key, named(name), key, days, LOOPBACK, None, isCA, None)


def pem(*things: Issued | Key | x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """Return things as PEM, of what is issued the certificate alone."""
    return b"".join(map(_pem, things))


def _pem(thing: Issued | Key | x509.Certificate | x509.CertificateRevocationList) -> bytes:
    if isinstance(thing, Issued):
        thing = thing.certificate
    if isinstance(thing, x509.Certificate | x509.CertificateRevocationList):
        return thing.public_bytes(Encoding.PEM)
    return thing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Files:
    """PEM files in a directory."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.directory.mkdir(exist_ok=True)

    def write(self, name: str, *things: Issued | Key | x509.Certificate | x509.CertificateRevocationList) -> str:
        """Write a file, over one of the same name, and return its path."""
        return self.raw(name, pem(*things))

    def raw(self, name: str, data: bytes) -> str:
        """The same with any bytes."""
        path = self.directory / name
        path.write_bytes(data)
        return str(path)
