"""
The ports of a listener: those that are served, opened and closed together, and those that are waited on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakSet

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.endpoints import portNamed, whyNotListening
from dcxtwisted.factory import AssociationFactory
from dcxtwisted.pull import PullPort
from dcxtwisted.security import ServerSecurity
from dcxtwisted.tls import SecureEndpoint
from dcxtwisted.transports import addressOf

_log = Logger()

#: What says where to listen.
Listening: TypeAlias = IStreamServerEndpoint | int | str


class Ports:
    """
    Where a listener listens: with TLS and without, serving what comes or having it waited for.

    A port is served or waited on, never both.

    :ivar security: how TLS is spoken; None for not at all.
    :ivar isTLSServed: some of what is served is to speak it.
    """

    def __init__(
        self,
        endpoints: Listening | Sequence[Listening],
        tlsEndpoints: Listening | Sequence[Listening],
        factory: AssociationFactory,
        endpointFrom: Callable[[Listening], IStreamServerEndpoint],
        listens: Callable[[], object],
        failed: Callable[[], object],
    ) -> None:
        """
        :param endpoints: what is served, from C{serve} on.
        :param endpointFrom: makes an endpoint of what says where to listen, or raises ValueError.
        :param listens: called when a port that is waited on has begun to listen; where it raises, that port is closed.
        :param failed: called when a port that is served turns out not to listen after C{serve} has returned.
        """
        self.security: ServerSecurity | None = None
        self._factory = factory
        self._endpointFrom = endpointFrom
        self._listens = listens
        self._failed = failed
        plain, secured = _several(endpoints), _several(tlsEndpoints)
        self._named = frozenset(portNamed(endpoint) for endpoint in (*plain, *secured))
        self._endpoints = [(endpointFrom(endpoint), False) for endpoint in plain]
        self._endpoints += [(self._secured(endpoint), True) for endpoint in secured]
        self.isTLSServed = bool(secured)
        self._opening: Deferred[Any] | None = None
        self._served: list[IListeningPort] = []
        self._pulls: dict[object, PullPort] = {}
        self._withTLS: WeakSet[IListeningPort] = WeakSet()

    @property
    def all(self) -> Sequence[IListeningPort]:
        """Those that are listened on."""
        return [*self._served, *(pull.port for pull in self._pulls.values() if pull.port is not None)]

    @property
    def withTLS(self) -> Sequence[IListeningPort]:
        """Those of them that speak TLS."""
        return [port for port in self.all if port in self._withTLS]

    @property
    def areServed(self) -> bool:
        """True from C{serve} until C{stop}."""
        return self._opening is not None

    def serve(self) -> Failure | None:
        """
        Listen on what is to be served; return why one cannot be had, where that shows at once.

        C{stop} then closes the others.

        :raise RuntimeError: one of these ports is waited on, and nothing was done.
        """
        pulled = [pull for pull in self._pulls.values() if pull.isUsed]
        numbers = _numbersOf([pull.port for pull in pulled if pull.port is not None])
        for name in self._named:
            if name in numbers or self._pulls.get(name) in pulled:
                raise RuntimeError(f"WaitForConnection listens on {name}: a port is push or pull, never both")
        failures: list[Failure] = []
        attempts = [
            maybeDeferred(endpoint.listen, self._factory).addCallbacks(self._opened, failures.append, (isTLS,))
            for endpoint, isTLS in self._endpoints
        ]
        self._opening = DeferredList(attempts)
        if failures:
            # What fails at once is the caller's to deal with.
            return failures[0]
        self._opening.addCallback(self._openedLate, failures)
        return None

    def pull(self, port: Listening) -> PullPort:
        """
        Return the port that is waited on, which listens from the first wait on.

        :raise ValueError: that is no port.
        :raise RuntimeError: it is served.
        """
        name = portNamed(port)
        if self.areServed and (name in self._named or name in _numbersOf(self._served)):
            raise RuntimeError(f"startService listens on {port}: a port is push or pull, never both")
        if name not in self._pulls:
            # With TLS or without, as the security context says when it begins to listen.
            self._pulls[name] = PullPort(self._factory, self._secured(port), self._pullOpened)
        return self._pulls[name]

    def stop(self) -> Deferred[None]:
        """Listen no longer; the Deferred fires when all ports are free."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()  # endpoints that have not answered yet: they do, at once
        served, self._served = self._served, []
        stops: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in served]
        stops += [pull.stopListening() for pull in self._pulls.values()]
        return DeferredList(stops, consumeErrors=True).addCallback(lambda ignored: None)

    def _secured(self, description: Listening) -> IStreamServerEndpoint:
        endpoint = self._endpointFrom(description)
        return SecureEndpoint(endpoint, lambda: self.security, self._factory.clock, self._factory.admission.counts)

    def _opened(self, port: IListeningPort, isTLS: bool) -> None:
        self._served.append(port)
        self._say(port, isTLS)

    def _pullOpened(self, port: IListeningPort) -> None:
        self._listens()
        self._say(port, self.security is not None)

    def _say(self, port: IListeningPort, isTLS: bool) -> None:
        how = ""
        if isTLS:
            assert self.security is not None  # nothing listens with TLS before
            self._withTLS.add(port)
            how = f" with TLS ({self.security.terms}): {self.security.about}"
        _log.info("listening on {address}{how}", address=addressOf(port.getHost()), how=how)

    def _openedLate(self, ignored: object, failures: list[Failure]) -> None:
        """All endpoints have answered; where one could not listen, and nobody stops already, say so."""
        if failures and self.areServed:
            for failure in failures:
                error = failure.value
                why = whyNotListening(error) if isinstance(error, CannotListenError) else error
                _log.error("cannot listen: {why}", why=why)
            self._failed()


def _numbersOf(ports: Sequence[IListeningPort]) -> set[object]:
    return {getattr(port.getHost(), "port", None) for port in ports}


def _several(given: Listening | Sequence[Listening]) -> Sequence[Listening]:
    return [given] if isinstance(given, int | str) or not isinstance(given, Sequence) else given
