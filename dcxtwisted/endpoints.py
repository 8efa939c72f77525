"""Where to listen: Twisted's server endpoints, and a bare port number on IPv6 and IPv4 alike."""

from __future__ import annotations

import socket
from errno import EACCES, EADDRINUSE, EMFILE, ENFILE
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

#: Connections the kernel keeps ready; modalities open many at once when a network comes back, and one that finds no
#: room tries again a second later.
_BACKLOG: Final = 1024
# Endpoint strings of these types take a backlog, and have 50 where they do not say.
_TAKE_BACKLOG: Final = frozenset({"tcp", "tcp6", "unix"})

# They speak TLS their own way: with any suite OpenSSL has on, and files that are read once.
_OWN_TLS: Final = frozenset({"ssl", "txsni"})

# The first port that takes no privileges, where the system is not told otherwise.
_UNPRIVILEGED: Final = 1024

# Said of the port: half of a listener is not what was asked for.
_NO_BETTER_ON_IPV4: Final = frozenset({EACCES, EADDRINUSE, EMFILE, ENFILE})


@implementer(IStreamServerEndpoint)
class PortEndpoint:
    """Listens on a TCP port of every address: one socket for IPv6 and IPv4, or IPv4 alone where there is no IPv6."""

    def __init__(self, reactor: Any, port: int) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"a port number is 0 to 65535, not {port}")
        self._reactor = reactor
        self._port = port

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; fails with CannotListenError."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        try:
            with self._socket() as listening:
                listening.setblocking(False)
                port: IListeningPort = self._reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
                return port
        except OSError as error:
            raise CannotListenError("any", self._port, error) from error

    def _socket(self) -> socket.socket:
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(
                    ("::", self._port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
                )
            except OSError as error:
                if error.errno in _NO_BETTER_ON_IPV4:
                    raise
                # IPv6 may be compiled in and switched off: let the attempt below tell what is wrong.
        return socket.create_server(("0.0.0.0", self._port), backlog=_BACKLOG)


def endpointFrom(reactor: Any, description: IStreamServerEndpoint | int | str) -> IStreamServerEndpoint:
    """
    Return the endpoint that a description means: a port number, a Twisted endpoint string, or an endpoint as it is.

    :raise ValueError: it means none; the text says why.
    """
    if isinstance(description, str) and description.strip().isdecimal():
        description = int(description)
    if isinstance(description, int):
        return PortEndpoint(reactor, description)
    if isinstance(description, str):
        if description.lower().removeprefix("haproxy:").partition(":")[0] in _OWN_TLS:
            raise ValueError(
                f"{description!r}: TLS is for --tls-port (tlsEndpoints of DCXACC), which takes tcp endpoints and keeps "
                "to the profiles of the standard"
            )
        try:
            endpoint: IStreamServerEndpoint = serverFromString(reactor, _withBacklog(description))
        except Exception as error:
            # Endpoint parsers raise whatever their arguments led them to.
            why = _meant(description) or f": {error}"
            raise ValueError(f"{description!r} is neither a port number nor an endpoint{why}") from error
        return endpoint
    if not IStreamServerEndpoint.providedBy(description):
        raise ValueError(f"{description!r} is neither a port number nor an endpoint")
    return description


def _meant(description: str) -> str:
    """Return a hint for those who write an address and a port as other programs take them; '' for anything else."""
    host, _, port = description.strip().rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        endpointFrom(None, int(port))
    except ValueError:
        return ""
    # In endpoint strings colons separate.
    interface = str(address).replace(":", r"\:")
    return f", write {'tcp' if address.version == 4 else 'tcp6'}:{port}:interface={interface}"


def whyNotListening(error: CannotListenError) -> str:
    """Return why a port cannot be had, in words that say what to do."""
    number = getattr(error.socketError, "errno", None)
    if not isinstance(error.port, int):
        return str(error)  # a UNIX socket, by its path
    where = f"port {error.port}" + (f" of {error.interface}" if error.interface not in ("", "any") else "")
    if number == EADDRINUSE:
        return f"{where} is in use by another program, which ss -ltnp shows; --port takes another port"
    if number == EACCES and 0 < error.port < _UNPRIVILEGED:
        return (
            f"{where} takes privileges, as each below {_UNPRIVILEGED} does: start as root with twistd --uid, "
            "which drops them, or have CAP_NET_BIND_SERVICE"
        )
    return str(error)


def portNamed(description: IStreamServerEndpoint | int | str) -> object:
    """Return what a description is known by: the same for descriptions that are alike, a number for a port number."""
    if isinstance(description, str):
        stripped = description.strip()
        return int(stripped) if stripped.isdecimal() else stripped
    return description


def _withBacklog(description: str) -> str:
    takes = description.partition(":")[0] in _TAKE_BACKLOG
    return description if not takes or ":backlog=" in description else f"{description}:backlog={_BACKLOG}"
