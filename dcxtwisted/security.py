"""
What TLS is to be: certificate, key, who is trusted, which of the standard's profiles; and what came of it for a peer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from os.path import abspath
from typing import Any, Final

import attrs
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store, X509StoreFlags
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

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
from dcxtwisted.interfaces import TLSFacts

_log = Logger()


@attrs.frozen
class Profile:
    """
    A secure transport connection profile: the cipher suites, the best first, as OpenSSL calls them.

    :ivar TLS12: for TLS 1.2.
    :ivar TLS13: for TLS 1.3.
    """

    TLS12: tuple[str, ...]
    TLS13: tuple[str, ...]


_ECDHE_GCM: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

#: The profiles of PS3.15 that are not retired, as far as OpenSSL has their suites: it has no Camellia-GCM. CCM_8 would
#: take the security level 0, which lets RSA keys of 512 bits in.
PROFILES: Final[Mapping[str, Profile]] = {
    # B.12 "BCP 195 RFC 8996, 9325 TLS"; for TLS 1.3 what RFC 9325 4.2 refers to, RFC 8446 9.1.
    "bcp195": Profile(_ECDHE_GCM, ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")),
    # B.13 "Modified BCP 195 RFC 8996, 9325 TLS"
    "modified-bcp195": Profile(
        (
            *_ECDHE_GCM,
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES256-CCM",
            "ECDHE-ECDSA-AES128-CCM",
        ),
        (
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_128_CCM_SHA256",
        ),
    ),
}

# pyOpenSSL has no name for SSL_OP_NO_RENEGOTIATION.
_NO_RENEGOTIATION: Final = 1 << 30

# Keys of peers: RSA of 2048 bits, ECDSA of 224 (OpenSSL's own list of curves begins at 256); no SHA-1.
_SECURITY_LEVEL: Final = "@SECLEVEL=2"

# By a peer, in TLS 1.3: a key is good for some 300 GB (RFC 8446 5.5), and nobody sends as much 32 times.
_MOST_KEY_UPDATES: Final = 32

# When the certificate is worth a warning.
_SOON: Final = timedelta(days=30)

# X509_V_ERR_*
_NO_REVOCATION_LIST: Final = 3
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10

#: Why a certificate is refused, by X509_V_ERR_*; what is missing here is told by its number.
_REFUSALS: Final[Mapping[int, str]] = {
    2: "its issuer is none of the CA certificates",
    _NO_REVOCATION_LIST: "there is no revocation list of its issuer",
    7: "its signature is wrong",
    8: "the signature of the revocation list is wrong",
    _NOT_YET_VALID: "it is not valid yet",
    _EXPIRED: "it has expired",
    11: "the revocation list is not in force yet",
    12: "the revocation list has expired",
    18: "it is self-signed and none of the CA certificates",
    19: "it leads to a self-signed certificate that is none of the CA certificates",
    20: "its issuer is none of the CA certificates",
    21: "its issuer is none of the CA certificates",
    23: "it is revoked",
    24: "it issued another, and is no CA",
    26: "it is not for TLS clients (extended key usage)",
    66: "its key is too small",
    67: "the key of its issuer is too small",
    68: "it is signed over SHA-1 or worse",
    79: "it issued another, and is no CA",
}

# What a thumbprint does not vouch for: dates, and keys and signatures that are too weak.
_IN_ANY_CASE: Final = frozenset({_NOT_YET_VALID, _EXPIRED, 13, 14, 66, 68})


def _paths(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _profile(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value not in PROFILES:
        raise SecurityError(f"a TLS profile is {' or '.join(PROFILES)}, not {value!r}")


@attrs.frozen(kw_only=True)
class SecurityContext:
    """
    How a listener speaks TLS (the MODALIZER SDK's DCXSEC). Files are read at the start, and again at a reload.

    Clients are asked for a certificate where anything here says which to accept: C{trusted}, C{acceptedThumbprints} or
    both, and then both have to agree. One that shows no certificate is let in unless C{requireClientCertificate}; one
    that shows another is refused either way.

    :ivar certificate: the path of a PEM file: the certificate shown to clients, and behind it those up to its CA.
    :ivar key: the path of a PEM file with the key of the certificate; that of the certificate where this is ''.
    :ivar trusted: paths of PEM files with CA certificates, to which those of clients have to lead.
    :ivar revocationLists: paths of PEM files with revocation lists (CRLs) of these; the issuer of each client's
        certificate then has to have one.
    :ivar requireClientCertificate: let no client in without a certificate.
    :ivar acceptedThumbprints: SHA-256 thumbprints of clients' certificates, as C{certificates.readThumbprints} takes
        them; without C{trusted} these may be of any issuer, or self-signed, but in force.
    :ivar profile: 'bcp195' or 'modified-bcp195': the versions and cipher suites (PS3.15 B.12, B.13).
    """

    certificate: str
    key: str = ""
    trusted: tuple[str, ...] = attrs.field(default=(), converter=_paths)
    revocationLists: tuple[str, ...] = attrs.field(default=(), converter=_paths)
    requireClientCertificate: bool = False
    acceptedThumbprints: tuple[str, ...] = attrs.field(default=(), converter=_paths)
    profile: str = attrs.field(default="bcp195", validator=_profile)

    def __attrs_post_init__(self) -> None:
        if not self.certificate:
            raise SecurityError("TLS takes a certificate")
        if self.requireClientCertificate and not (self.trusted or self.acceptedThumbprints):
            raise SecurityError(
                "client certificates are required, but nothing says which to accept: that takes CA certificates, "
                "thumbprints or both"
            )
        if self.revocationLists and not self.trusted:
            raise SecurityError("a revocation list without CA certificates has no effect")

    def check(self) -> None:
        """
        Read all files, and forget them.

        :raise SecurityError: something cannot be used.
        """
        _opened(self, datetime.now(UTC))


class ServerConnection(SSL.Connection):
    """
    The TLS side of a connection that was accepted, and what is noted of it while OpenSSL has it.

    :ivar refusal: why it is closed, '' where it is not.
    :ivar handshakes: how often something was negotiated: once, and again with each change of the peer's key.
    """

    refusal = ""
    handshakes = 0


@attrs.frozen
class _Opened:
    """
    What was read for a L{SecurityContext}.

    :ivar about: the certificate in one line.
    """

    context: SSL.Context
    about: str
    warnings: tuple[str, ...]


def _opened(security: SecurityContext, now: datetime) -> _Opened:
    """Read and check everything; raise SecurityError where anything is amiss."""
    chain = readCertificates(security.certificate, "certificate")
    keyPath = security.key or security.certificate
    key = readKey(keyPath)
    checkChain(security.certificate, chain, key, keyPath, now)
    context = _newContext(PROFILES[security.profile])
    context.use_certificate(chain[0])
    for certificate in chain[1:]:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(key)
    context.check_privatekey()
    _verifyClients(context, security, now)
    end = min(certificate.not_valid_after_utc for certificate in chain)
    warnings = []
    if end - now < _SOON:
        warnings.append(f"the TLS certificate {nameOf(chain[0])} expires at {end:%Y-%m-%d %H:%M} UTC")
    about = f"{nameOf(chain[0])} until {end:%Y-%m-%d}, SHA-256 thumbprint {thumbprintOf(chain[0])}"
    return _Opened(context, about, tuple(warnings))


def _newContext(profile: Profile) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_cipher_list(":".join((*profile.TLS12, _SECURITY_LEVEL)).encode("ascii"))
    context.set_tls13_ciphersuites(":".join(profile.TLS13).encode("ascii"))
    context.set_options(SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET)
    # Each association shows its certificate anew: what was revoked meanwhile is not let in by a session of before.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # An association at rest keeps no buffers: 34 KB otherwise.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_info_callback(_watch)
    return context


def _watch(connection: Any, where: int, result: int) -> None:
    """
    OpenSSL calls this with each step of a handshake, and of a change of keys: end those that do little else.

    A change takes a record of 27 bytes, and 20 us of CPU here; nothing above TLS ever hears of it. With 64 KiB of them
    in each turn 20 peers hold up everyone else for a second.
    """
    if where == SSL.SSL_CB_ACCEPT_EXIT and result == 1:
        connection.handshakes += 1
        if connection.handshakes > _MOST_KEY_UPDATES:
            connection.refusal = "it changes its key again and again"
            # As if it had said that nothing more comes: the next record is not looked at.
            connection.set_shutdown(SSL.RECEIVED_SHUTDOWN)


def _verifyClients(context: SSL.Context, security: SecurityContext, now: datetime) -> None:
    accepted = readThumbprints(security.acceptedThumbprints)
    if security.acceptedThumbprints and not accepted:
        raise SecurityError("the list of accepted thumbprints is empty")
    trusted = readTrusted(security.trusted, now)
    store = context.get_cert_store()
    assert store is not None
    # What is named is trusted, be it a root, an intermediate CA or the certificate of one client.
    flags = X509StoreFlags.PARTIAL_CHAIN
    for certificate in trusted:
        store.add_cert(X509.from_cryptography(certificate))
        context.add_client_ca(certificate)
    if security.revocationLists:
        flags |= X509StoreFlags.CRL_CHECK | X509StoreFlags.CRL_CHECK_ALL
        _addRevocationLists(store, security.revocationLists, trusted, now)
    store.set_flags(flags)
    if not (trusted or accepted):
        return
    mode = SSL.VERIFY_PEER
    if security.requireClientCertificate:
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode, _verification(bool(trusted), accepted))


def _addRevocationLists(
    store: X509Store, paths: Sequence[str], trusted: Sequence[x509.Certificate], now: datetime
) -> None:
    for path in paths:
        for revoked in readRevocationLists(path):
            checkRevocationList(path, revoked, trusted, now)
            store.add_crl(revoked)


def _verification(hasTrusted: bool, accepted: frozenset[str]) -> Callable[[Any, X509, int, int, int], bool]:
    """Return what OpenSSL calls for each certificate of a client, once or more; why it says no is noted."""

    def isAccepted(connection: Any, shown: X509, error: int, depth: int, isGood: int) -> bool:
        try:
            certificate = shown.to_cryptography()
        except Exception as malformed:
            # OpenSSL is more patient than cryptography, which raises whatever fits what it does not like.
            connection.refusal = f"its certificate is refused: it cannot be read: {malformed}"
            return False
        if not isGood and not _isPassedOver(error, depth, hasTrusted):
            why = _REFUSALS.get(error, f"OpenSSL's verification error {error}")
        elif depth == 0 and accepted and thumbprintOf(certificate) not in accepted:
            why = f"its thumbprint {thumbprintOf(certificate)} is not among those accepted"
        else:
            return True
        connection.refusal = f"its certificate {nameOf(certificate)} is refused: {why}"
        return False

    return isAccepted


def _isPassedOver(error: int, depth: int, hasTrusted: bool) -> bool:
    if hasTrusted:
        # Of the issuers above that of the client's certificate, those that have a list are looked up in it.
        return error == _NO_REVOCATION_LIST and depth > 0
    return depth > 0 or error not in _IN_ANY_CASE


def _whereverItGoes(security: SecurityContext) -> SecurityContext:
    """Return the same with absolute paths."""
    return attrs.evolve(
        security,
        certificate=abspath(security.certificate),
        key=security.key and abspath(security.key),
        trusted=[abspath(path) for path in security.trusted],
        revocationLists=[abspath(path) for path in security.revocationLists],
        acceptedThumbprints=[
            f"@{abspath(each[1:])}" if each.startswith("@") else each for each in security.acceptedThumbprints
        ],
    )


def _asked(security: SecurityContext) -> str:
    if security.requireClientCertificate:
        return "required"
    return "asked for" if security.trusted or security.acceptedThumbprints else "not asked for"


@implementer(IOpenSSLServerConnectionCreator)
class ServerSecurity:
    """
    Makes the TLS side of connections that are accepted, after a L{SecurityContext}.

    :ivar about: the certificate that is shown, in one line.
    :ivar terms: the profile, and whether clients have to show certificates, in a few words.
    """

    def __init__(self, security: SecurityContext, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """
        :raise SecurityError: what was given cannot be used.
        """
        # A reload finds the same files, wherever the process has gone meanwhile, as twistd --rundir has it do.
        self._security = security = _whereverItGoes(security)
        self._now = now
        self.terms = f"{security.profile}, client certificates {_asked(security)}"
        self._use(_opened(security, now()))

    def prepare(self) -> Callable[[], str]:
        """
        Read all files again; return what has the connections from then on use them, and tells of it.

        Those that stand are not touched, nor is anything until that is called.

        :raise SecurityError: something cannot be used.
        """
        opened = _opened(self._security, self._now())

        def use() -> str:
            self._use(opened)
            return f"TLS certificate {opened.about}"

        return use

    def _use(self, opened: _Opened) -> None:
        self._context = opened.context
        self.about = opened.about
        for warning in opened.warnings:
            _log.warn("{text}", text=warning)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """Twisted calls this for each connection."""
        return ServerConnection(self._context, None)


def factsOf(transport: object) -> TLSFacts | None:
    """Return what the handshake on a transport led to; None where it is not TLS."""
    connection: Any = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(connection, SSL.Connection):
        return None
    certificate = connection.get_peer_certificate(as_cryptography=True)
    return TLSFacts(
        version=connection.get_protocol_version_name(),
        cipherSuite=connection.get_cipher_name() or "",
        peerSubject="" if certificate is None else subjectOf(certificate),
        peerNames=() if certificate is None else subjectAlternativeNames(certificate),
        peerThumbprint="" if certificate is None else thumbprintOf(certificate),
    )
