"""
The listener under ``twistd``: its service, its signals, and what a newcomer is told at the start.
"""

from __future__ import annotations

import gc
import os
import resource
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.deadlines import useMonotonicClock
from dcxtwisted.endpoints import whyNotListening
from dcxtwisted.events import DCXACCEvents
from dcxtwisted.options import Options, tell  # twistd looks for Options here, beside makeService
from dcxtwisted.setups import Reload
from dcxtwisted.workers.processes import Starter, awaitStarted
from dcxtwisted.workers.supervisor import Supervisor

_log = Logger()

# Seconds left, after a deadline or a second signal, to what cannot be aborted.
_LAST_GRACE: Final = 2.0

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_SIGNALS: Final = (*_STOP_SIGNALS, signal.SIGHUP)

_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})


class ListenerService(MultiService):
    """The listener with what concerns the process: descriptors, clock, signals, and the lines at the start."""

    def __init__(self, listener: DCXACC | Supervisor, reactor: Any) -> None:
        super().__init__()
        listener.setServiceParent(self)
        self._listener = listener
        self._reactor = reactor
        self._asked = 0
        self._lastResort: IDelayedCall | None = None

    def privilegedStartService(self) -> None:
        """Prepare the process, then listen."""
        _raiseDescriptorLimit()
        # Before the first timer: a clock that is set must not cut deadlines short.
        useMonotonicClock(self._reactor)
        _inOneLine(super().privilegedStartService)

    def startService(self) -> None:
        """Open the store, with privileges gone, and tell what is served."""
        # The handlers that the reactor installs when it begins have twistd end with the signal; ours stop it in order,
        # with status 0. A signal that comes before they stand waits for them; the threads of the store never get one.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._reactor.callWhenRunning(self._installSignals)
        _inOneLine(super().startService)
        self._greet()
        # What the start has made stays to the end: the collector need not look at it again. For 1 KB objects that saves
        # 4 us of 79 us of CPU in user mode (medians of eleven runs each).
        gc.collect()
        gc.freeze()

    def _greet(self) -> None:
        configuration = self._listener.configuration
        checked = "others are rejected" if configuration.checkCalledAETitle else "called AE titles are not checked"
        _log.info("AE title {title}; {checked}", title=configuration.AETitle, checked=checked)
        _log.info("storing below {directory}", directory=self._listener.storeDirectory)
        _log.info("{access}", access=_access(self._listener))
        for port in self._listener.ports[:1]:
            address = port.getHost()
            tls = ""
            if port in self._listener.tlsPorts:
                security = self._listener.SecurityContext
                shows = security is not None and security.requireClientCertificate
                tls = "+tls KEY.pem CERTIFICATE.pem +cf CA.pem " if shows else "+tla +cf CA.pem "
            if isinstance(address, IPv4Address | IPv6Address):
                _log.info(
                    "send a first object with: storescu {tls}-aec {title} {host} {number} FILE.dcm",
                    tls=tls,
                    title=shlex.quote(configuration.AETitle),
                    host="127.0.0.1" if address.host in _EVERY_ADDRESS else address.host,
                    number=address.port,
                )

    def stopService(self) -> Deferred[object]:
        """As any service's, but it does come to an end: at the last the process is left as it stands."""
        seconds = self._listener.configuration.stopDeadline + _LAST_GRACE
        lastResort = self._lastResort = self._reactor.callLater(seconds, self._leave)
        stopped: Deferred[Any] = maybeDeferred(super().stopService)
        ended: Deferred[object] = stopped.addCallback(self._haveEnded)
        return ended.addBoth(_notNeeded, lastResort)

    def _haveEnded(self, results: Sequence[tuple[bool, Any]]) -> None:
        for isGood, result in results:
            if not isGood and result.check(ChildProcessError):
                self._leave()

    def _leave(self) -> NoReturn:
        # What neither a deadline nor an abort ends: a thread at a disk that hangs. No event is waited for by now.
        _log.critical("something in flight does not end: leaving it, with status 1")
        sys.stdout.flush()
        os._exit(1)

    def _installSignals(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reactor.callFromThread(self.reload)
        else:
            self._reactor.callFromThread(self._stop, signal.Signals(number).name)

    def reload(self) -> None:
        """Read again what can change without a restart, and tell of it; what is no good leaves all as it was."""
        reloading: Deferred[Sequence[str]] = maybeDeferred(self._listener.reload)
        reloading.addCallbacks(self._reloaded, self._notReloaded)
        reloading.addErrback(lambda failure: _log.failure("reloading failed", failure))

    def _notReloaded(self, failure: Failure) -> None:
        failure.trap(ValueError)
        _log.error("not reloaded, everything stays as it was: {error}", error=failure.value)

    def _reloaded(self, changes: Sequence[str]) -> None:
        for change in changes:
            _log.info("reloaded: {change}", change=change)
        if not changes:
            _log.info("nothing to reload")

    def _stop(self, name: str) -> None:
        self._asked += 1
        if self._asked == 1:
            _log.info("{name}: stopping once the objects in flight are done; a second one aborts them", name=name)
            try:
                self._reactor.stop()
            except ReactorNotRunning:
                pass  # the application stops already
            return
        _log.info("{name} again: aborting", name=name)
        self._listener.abortAll()
        if self._lastResort is not None and self._lastResort.active():
            self._lastResort.reset(_LAST_GRACE)


def _access(listener: DCXACC | Supervisor) -> str:
    """Return who may come in, in a line."""
    users = listener.users
    who = "everyone who can connect" if users is None or not users.required else "every confirmed user"
    if listener.policy:
        return (
            f"access rules: {len(listener.policy)}, the first that matches decides; where none does, nobody may store"
        )
    if type(listener.events) is DCXACCEvents or listener.events == "":
        return f"no access rules are set: {who} may store"
    return "no access rules are set: OnConnection alone decides who may store"


def _inOneLine(start: Callable[[], object]) -> None:
    """Call what may not be able to listen or to store; where it is not, that takes one clear line and exit status 1."""
    try:
        start()
    except (CannotListenError, OSError, OverflowError) as error:
        _log.critical("cannot start: {error}", error=_why(error))
        # Passed on, not an exit: twistd then removes its pidfile, and tells the parent where it is a daemon.
        sys.excepthook = _showInOneLine
        raise


def _showInOneLine(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    # Not sys.stderr, which goes to the log by now.
    tell(f"cannot start: {_why(error)}", sys.__stderr__)


def _why(error: BaseException) -> str:
    return whyNotListening(error) if isinstance(error, CannotListenError) else str(error)


def _notNeeded(result: object, lastResort: IDelayedCall) -> object:
    if lastResort.active():
        lastResort.cancel()
    return result


def _raiseDescriptorLimit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            _log.info("the descriptor limit stays at {soft}: {error}", soft=soft, error=error)


def makeService(options: Options) -> IService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor  # twistd has installed the one it was asked for

    if options.setup.listeners.workers > 1:
        return ListenerService(_supervisorFrom(options, reactor), reactor)
    listener = listenerFrom(options, reactor, options.endpoints, options.tlsEndpoints)
    if options["config"]:
        listener.addReload(Reload(listener, options.given, options.setup, reactor).prepare)
    service: IService = ListenerService(listener, reactor)
    return service


def listenerFrom(
    options: Options,
    reactor: Any,
    endpoints: Sequence[IStreamServerEndpoint] = (),
    tlsEndpoints: Sequence[IStreamServerEndpoint] = (),
) -> DCXACC:
    """Return the listener that options make."""
    setup = options.setup
    return DCXACC(
        endpoints,
        options.provider,
        storeDirectory=setup.storage.directory,
        layout=setup.storage.layout,
        durable=setup.storage.durable,
        configuration=options.configuration,
        tlsEndpoints=tlsEndpoints,
        securityContext=options.securityContext,
        entities=options.entities,
        policy=setup.policy,
        users=setup.users,
        reactor=reactor,
    )


def _supervisorFrom(options: Options, reactor: Any) -> Supervisor:
    return Supervisor(
        options.given,
        options.setup,
        options.configuration,
        endpoints=options.endpoints,
        tlsEndpoints=options.tlsEndpoints,
        securityContext=options.securityContext,
        start=Starter(reactor).start,
        awaitStarted=awaitStarted,
        reactor=reactor,
    )
