"""
Certificates, keys and revocation lists from PEM files, checked so that what is wrong is told before anyone connects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from dcxtwisted.errors import SecurityError
from dcxtwisted.reading import readWhole

_T = TypeVar("_T")

# Characters of a subject in a log line. A client may show one of 90,000, again and again.
_LONGEST: Final = 256

#: A key that a listener may have.
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# PS3.15 B.12 and B.13: RSA of 2048 bits or more, ECDSA of 256 or more, signatures over SHA-256 or better.
_SMALLEST_RSA: Final = 2048
_SMALLEST_ECDSA: Final = 256
_SMALLEST_DIGEST: Final = 32

_ENCRYPTED: Final = re.compile(rb"^-----BEGIN ENCRYPTED |^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
# What ``openssl x509 -fingerprint`` writes before it.
_THUMBPRINT_LABEL: Final = re.compile(r"^sha-?256( fingerprint)?\s*[=:]\s*", re.IGNORECASE)
_THUMBPRINT: Final = re.compile(r"[0-9a-f]{64}")

# What PEM calls them.
_CONTENTS: Final = {"CERTIFICATE": "certificate", "PRIVATE KEY": "private key", "X509 CRL": "revocation list"}


def _read(path: str, what: str) -> bytes:
    try:
        return readWhole(path)[0]
    except OSError as error:
        raise SecurityError(f"{what} {path}: {error.strerror or error}") from error


def _parsed(path: str, what: str, contents: str, parse: Callable[[bytes], _T]) -> _T:
    data = _read(path, what)
    try:
        return parse(data)
    except SecurityError:
        raise
    except Exception as error:
        # ValueError most often, but not of all that cryptography does not like.
        # With a block of that kind in it the parser has something to say of it.
        detail = f" that can be read: {error}" if f" {contents}-----".encode() in data else ""
        raise SecurityError(f"{what} {path}: not a PEM file with a {_CONTENTS[contents]}{detail}") from error


def readCertificates(path: str, what: str) -> list[x509.Certificate]:
    """
    Return the certificates in a PEM file, one at least, in order.

    :param what: what the file is to be, for errors.
    :raise SecurityError: there are none.
    """
    return _parsed(path, what, "CERTIFICATE", x509.load_pem_x509_certificates)


def readRevocationLists(path: str) -> list[x509.CertificateRevocationList]:
    """
    Return the revocation lists in a PEM file, one at least.

    :raise SecurityError: there are none.
    """
    mark = b"-----BEGIN X509 CRL-----"

    def parse(data: bytes) -> list[x509.CertificateRevocationList]:
        blocks = data.split(mark)[1:]
        if not blocks:
            raise ValueError("none")
        return [x509.load_pem_x509_crl(mark + block) for block in blocks]

    return _parsed(path, "revocation list", "X509 CRL", parse)


def readKey(path: str) -> PrivateKey:
    """
    Return the private key in a PEM file.

    :raise SecurityError: there is none, it is encrypted, or of a kind that the profiles do not have.
    """

    def parse(data: bytes) -> object:
        if _ENCRYPTED.search(data):
            raise SecurityError(f"key {path}: encrypted; store it without a passphrase, readable to the listener alone")
        return load_pem_private_key(data, None)

    key = _parsed(path, "key", "PRIVATE KEY", parse)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise SecurityError(f"key {path}: neither RSA nor ECDSA")
    return key


def nameOf(certificate: x509.Certificate) -> str:
    """Return what a certificate is called, for a log line: its subject, quoted, not over long, or its serial number."""
    subject = subjectOf(certificate)
    if not subject:
        return f"number {certificate.serial_number:x}"[:_LONGEST]
    return ascii(subject) if len(subject) <= _LONGEST else f"{subject[:_LONGEST]!a}... ({len(subject)} characters)"


def subjectOf(certificate: x509.Certificate) -> str:
    """Return the subject as text (RFC 4514); '' where it has none, or none that can be read."""
    try:
        return certificate.subject.rfc4514_string()
    except Exception:
        return ""  # of a peer, which may put anything there; cryptography raises whatever fits that


def subjectAlternativeNames(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the subject alternative names, as ``DNS:host``, ``IP:192.0.2.1``, ``URI:...`` or ``email:...``."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(f"{_KINDS[type(name)]}:{name.value}" for name in names if type(name) in _KINDS)
    except Exception:
        return ()  # there are none, or of a peer, likewise


_KINDS: Final[dict[type, str]] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.UniformResourceIdentifier: "URI",
    x509.RFC822Name: "email",
}


def thumbprintOf(certificate: x509.Certificate) -> str:
    """Return the SHA-256 thumbprint, as 64 hexadecimal digits in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def readThumbprints(given: Sequence[str]) -> frozenset[str]:
    """
    Return thumbprints as C{thumbprintOf} writes them, from hexadecimal digits with or without colons, in any case.

    :param given: thumbprints, several separated by commas, or ``@`` and the path of a file with one in a line, in which
        ``#`` begins a comment.
    :raise SecurityError: one is none.
    """
    found: set[str] = set()
    for text in given:
        if text.startswith("@"):
            lines = _read(text[1:], "list of thumbprints").decode("latin-1").splitlines()
            texts = [line.partition("#")[0].strip() for line in lines]
        else:
            texts = text.split(",")
        found.update(_thumbprint(each) for each in texts if each)
    return frozenset(found)


def _thumbprint(text: str) -> str:
    digits = _THUMBPRINT_LABEL.sub("", text.strip()).replace(":", "").replace(" ", "").lower()
    if not _THUMBPRINT.fullmatch(digits):
        raise SecurityError(f"a thumbprint is 64 hexadecimal digits (SHA-256), not {text!a}")
    return digits


def _weaknessOf(certificate: x509.Certificate) -> str:
    """Return what falls short of the profiles, '' where nothing does."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:  # a curve that OpenSSL has not, say
        return f"its key cannot be read: {error}"
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SMALLEST_RSA:
            return f"its RSA key has {key.key_size} bits, and needs {_SMALLEST_RSA}"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < _SMALLEST_ECDSA:
            return f"its ECDSA key has {key.key_size} bits, and needs {_SMALLEST_ECDSA}"
    else:
        return "its key is neither RSA nor ECDSA"
    if certificate.issuer == certificate.subject:
        return ""  # who trusts it does not do so for its signature
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None or algorithm.digest_size < _SMALLEST_DIGEST:
        name = "an unknown algorithm" if algorithm is None else algorithm.name.upper()
        return f"it is signed over {name}, and needs SHA-256 or better"
    return ""


def checkChain(path: str, chain: Sequence[x509.Certificate], key: PrivateKey, keyPath: str, now: datetime) -> None:
    """
    See that a certificate and those behind it can be shown to clients.

    :param now: aware of its zone, as all times here.
    :raise SecurityError: they cannot.
    """
    encoding = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    for certificate in chain:
        weakness = _weaknessOf(certificate) or _datesOf(certificate, now)
        if weakness:
            raise SecurityError(f"certificate {path}: {nameOf(certificate)}: {weakness}")
    if chain[0].public_key().public_bytes(*encoding) != key.public_key().public_bytes(*encoding):
        raise SecurityError(f"key {keyPath}: not that of the first certificate in {path}, {nameOf(chain[0])}")
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise SecurityError(
                f"certificate {path}: each certificate has to be followed by that of its issuer, "
                f"but {nameOf(certificate)} was not issued by {nameOf(issuer)}"
            ) from None


def _datesOf(certificate: x509.Certificate, now: datetime) -> str:
    if now > certificate.not_valid_after_utc:
        return f"it expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return ""


def readTrusted(paths: Sequence[str], now: datetime) -> list[x509.Certificate]:
    """
    Return the certificates that those of clients are to lead to, from PEM files.

    :raise SecurityError: a file has none, or all of them are expired or not valid yet.
    """
    trusted = []
    for path in paths:
        certificates = readCertificates(path, "CA certificate")
        if all(_datesOf(certificate, now) for certificate in certificates):
            raise SecurityError(f"CA certificate {path}: {nameOf(certificates[0])}: {_datesOf(certificates[0], now)}")
        trusted += certificates
    return trusted


def checkRevocationList(
    path: str, revoked: x509.CertificateRevocationList, trusted: Sequence[x509.Certificate], now: datetime
) -> None:
    """
    See that a revocation list is in force, and of one of the issuers that are trusted.

    :raise SecurityError: it is not: every certificate of that issuer would be refused.
    """
    issuer = ascii(revoked.issuer.rfc4514_string())
    signers = [certificate for certificate in trusted if certificate.subject == revoked.issuer]
    if not signers:
        raise SecurityError(f"revocation list {path}: its issuer {issuer} is none of the CA certificates")
    if not any(_signed(revoked, signer) for signer in signers):
        raise SecurityError(f"revocation list {path}: not signed by {issuer}")
    if revoked.next_update_utc is not None and now > revoked.next_update_utc:
        raise SecurityError(
            f"revocation list {path}: the list of {issuer} was to be replaced by "
            f"{revoked.next_update_utc:%Y-%m-%d %H:%M} UTC"
        )
    if now < revoked.last_update_utc:
        raise SecurityError(
            f"revocation list {path}: the list of {issuer} is not in force before "
            f"{revoked.last_update_utc:%Y-%m-%d %H:%M} UTC"
        )


def _signed(revoked: x509.CertificateRevocationList, signer: x509.Certificate) -> bool:
    try:
        return revoked.is_signature_valid(signer.public_key())  # type: ignore[arg-type]  # others raise TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
