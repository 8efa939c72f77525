"""
The listener under ``twistd``: its options, its signals, and what a newcomer is told at the start.
"""

from __future__ import annotations

import gc
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, TextIO

import attrs
from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configfile import ConfigurationFileError
from dcxtwisted.configuration import (
    DEFAULT_AE_TITLE,
    DEFAULT_LAYOUT,
    DEFAULT_PORT,
    Configuration,
    readSetting,
    writtenSetting,
)
from dcxtwisted.dottednames import callableNamed, madeBy
from dcxtwisted.endpoints import endpointFrom, whyNotListening
from dcxtwisted.entities import ApplicationEntity, checkDistinct
from dcxtwisted.events import DCXACCEvents, checkReactor
from dcxtwisted.interfaces import IDCXACCEvents
from dcxtwisted.sections import DEFAULT_STORE, MOST_WORKERS, Setup
from dcxtwisted.security import PROFILES, SecurityContext
from dcxtwisted.setups import Given, Reload
from dcxtwisted.stores.layout import KNOWN_ATTRIBUTES
from dcxtwisted.wire.framing import COMPILED
from dcxtwisted.workers.processes import Starter, awaitStarted
from dcxtwisted.workers.supervisor import Supervisor

_log = Logger()

# Seconds left, after a deadline or a second signal, to what cannot be aborted.
_LAST_GRACE: Final = 2.0

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_SIGNALS: Final = (*_STOP_SIGNALS, signal.SIGHUP)

# What an option is where neither it nor a file says.
_DEFAULTS: Final = {
    "ae-title": DEFAULT_AE_TITLE,
    "store-directory": DEFAULT_STORE,
    "layout": DEFAULT_LAYOUT,
    "tls-profile": "bcp195",
}

# What of a SecurityContext options give one by one.
_TLS_LISTS: Final = ("trusted", "revocationLists", "acceptedThumbprints")

_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})


class Options(usage.Options):
    """What ``twistd dcxtwisted`` understands."""

    synopsis = "[options]"
    longdesc = (
        "Listen for DICOM associations and store the objects that are sent. With no option at all it listens on "
        f"port {DEFAULT_PORT}, as {DEFAULT_AE_TITLE}, and stores below ./{DEFAULT_STORE}."
    )
    optParameters = [
        ["config", None, None, "TOML file that says all of this and more; what options say goes before it."],
        ["ae-title", None, None, f"How the listener calls itself. [default: {DEFAULT_AE_TITLE}]"],
        ["store-directory", None, None, f"Where objects are stored; made if missing. [default: {DEFAULT_STORE}]"],
        [
            "layout",
            None,
            None,
            "Template for file names below the store directory, over "
            + ", ".join(KNOWN_ATTRIBUTES)
            + f". [default: {DEFAULT_LAYOUT}]",
        ],
        ["max-pdu", None, None, "Largest P-DATA-TF body asked of peers, in bytes; 0 for no limit. [default: 131072]"],
        [
            "workers",
            None,
            None,
            f"Processes that serve what comes; 1 to {MOST_WORKERS}, about one for each core. [default: 1]",
        ],
        ["events", None, None, "Dotted name of a callable that returns an IDCXACCEvents provider."],
        ["tls-certificate", None, None, "PEM file: the certificate to show, and those up to its CA behind it."],
        ["tls-key", None, None, "PEM file: the key of the certificate. [default: the file of --tls-certificate]"],
        [
            "tls-profile",
            None,
            None,
            f"Versions and cipher suites (PS3.15 B.12, B.13): {' or '.join(PROFILES)}. [default: bcp195]",
        ],
    ]
    optFlags = [
        ["check", None, "Check all options, and the file of --config, and exit: with 0 where they are good, else 1."],
        ["check-called-ae-title", None, "Reject associations that call another AE title than --ae-title."],
        [
            "no-fsync",
            None,
            "Acknowledge objects before the disk has them. A power cut then loses acknowledged objects.",
        ],
        ["tls-require-client-certificate", None, "Let no client in over TLS without a certificate."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.descriptions: list[str] = []
        self.tlsDescriptions: list[str] = []
        self.tlsLists: dict[str, list[str]] = {name: [] for name in _TLS_LISTS}
        self.settings: dict[str, Any] = {}
        self.ports: Sequence[int | str] = ()
        self.endpoints: list[IStreamServerEndpoint] = []
        self.tlsEndpoints: list[IStreamServerEndpoint] = []
        self.securityContext: SecurityContext | None = None
        self.provider: IDCXACCEvents | None = None
        self.configuration = Configuration()
        self.setup = Setup()
        self.entities: list[ApplicationEntity] = []
        self.given = Given()

    def opt_port(self, description: str) -> None:
        """Where to listen: a port number or a Twisted endpoint string; repeatable. [default: 11112, without TLS]"""
        self.descriptions.append(description)

    def opt_tls_port(self, description: str) -> None:
        """Where to listen with TLS, as --port; repeatable. Takes --tls-certificate."""
        self.tlsDescriptions.append(description)

    def opt_tls_ca(self, path: str) -> None:
        """PEM file: CA certificates that those of clients have to lead to; repeatable."""
        self.tlsLists["trusted"].append(path)

    def opt_tls_crl(self, path: str) -> None:
        """PEM file: revocation lists of these CAs; repeatable."""
        self.tlsLists["revocationLists"].append(path)

    def opt_tls_accepted_thumbprints(self, thumbprints: str) -> None:
        """SHA-256 thumbprints of client certificates, separated by commas, or @FILE with one a line; repeatable."""
        self.tlsLists["acceptedThumbprints"].append(thumbprints)

    def opt_set(self, setting: str) -> None:
        """Any setting, as NAME=VALUE; repeatable. --settings shows all of them with their defaults."""
        try:
            name, value = readSetting(setting)
        except ValueError as error:
            _fail(f"--set: {error}")
        self.settings[name] = value

    def opt_version(self) -> NoReturn:
        """Show the versions of dcxtwisted, and whether it is compiled, and Twisted, and exit."""
        try:
            own = version("dcxtwisted")
        except PackageNotFoundError:
            own = "not installed"
        how = ", compiled" if COMPILED else ""
        sys.stdout.write(f"dcxtwisted version: {own}{how}\nTwisted version: {version('Twisted')}\n")
        sys.exit(0)

    def opt_settings(self) -> NoReturn:
        """Show all settings with their defaults, and exit."""
        for name, value in attrs.asdict(Configuration()).items():
            sys.stdout.write(f"{name}={writtenSetting(value)}\n")
        sys.exit(0)

    def postOptions(self) -> None:
        """Check everything before anything listens: one clear line for each error, and exit status 1."""
        try:
            self._check()
        except ConfigurationFileError as error:
            _fail(*error.errors)
        except ValueError as error:
            _fail(str(error))
        if self["check"]:
            _tell("all of it is good", sys.stdout)
            sys.exit(0)

    def _check(self) -> None:
        from twisted.internet import reactor  # installed by twistd's own options, which come first

        if self["config"]:
            # Wherever the process goes before it is read again.
            self["config"] = os.path.abspath(self["config"])
        options = {name: value for name, value in self.items() if value not in (None, 0)}
        given = Given(options, self.descriptions, self.tlsDescriptions, self.tlsLists, self.settings)
        self.settle(given, reactor, isWorker=False)
        for name in ("ae-title", "store-directory", "layout", "tls-profile"):
            self[name] = self[name] or _DEFAULTS[name]

    def settle(self, given: Given, reactor: Any, isWorker: bool) -> None:
        """
        Read and check all that was said, and make what a listener is made of.

        :param isWorker: a supervisor has said it already; it leaves the providers of events to its workers.
        :raises ValueError: something is no good.
        """
        self.given = given
        self.setup, self.configuration = given.settle(reactor)
        setup = self.setup
        makesProviders = isWorker or setup.listeners.workers == 1 or bool(self["check"])
        # Who asks for TLS alone gets no port without it.
        self.ports = setup.listeners.ports or (() if setup.listeners.tlsPorts else (DEFAULT_PORT,))
        self.endpoints = [endpointFrom(reactor, port) for port in self.ports]
        self.tlsEndpoints = [endpointFrom(reactor, port) for port in setup.listeners.tlsPorts]
        if setup.tls:
            self.securityContext = SecurityContext(**setup.tls)
            self.securityContext.check()
        if setup.application.events or any(entity.events for entity in setup.entities):
            useMonotonicClock(reactor)  # the providers may set timers
        make = partial(_eventsFrom, reactor) if makesProviders else _noEventsYet
        if setup.application.events or "events" in given.options:
            where = "--events" if "events" in given.options else "application.events:"
            self.provider = make(where, setup.application.events)
        self.entities = [
            ApplicationEntity(
                AETitle=entity.AETitle,
                storeDirectory=entity.directory,
                layout=entity.layout,
                events=make(f"entities[{number}].events:", entity.events) if entity.events else None,
            )
            for number, entity in enumerate(setup.entities, 1)
        ]
        checkDistinct(self.configuration.AETitle, setup.storage.directory, self.entities)


def _eventsFrom(reactor: Any, where: str, name: str) -> IDCXACCEvents:
    try:
        provider = madeBy(name)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from error
    try:
        verifyObject(IDCXACCEvents, provider)
    except Invalid as error:
        raise ValueError(f"{where} {name}: its result provides no IDCXACCEvents: {error}") from error
    try:
        checkReactor(provider, reactor)
    except ValueError as error:
        raise ValueError(f"{where} {name}: {error}") from error
    return provider  # type: ignore[no-any-return]  # verified just now


def _noEventsYet(where: str, name: str) -> None:
    try:
        callableNamed(name)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def _fail(*messages: str) -> NoReturn:
    for message in messages:
        _tell(message, sys.stderr)
    sys.exit(1)


def _tell(message: str, stream: TextIO | None) -> None:
    print("twistd dcxtwisted:", *message.split(), file=stream)


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
    _tell(f"cannot start: {_why(error)}", sys.__stderr__)


def _why(error: BaseException) -> str:
    return whyNotListening(error) if isinstance(error, CannotListenError) else str(error)


def _notNeeded(result: object, lastResort: IDelayedCall) -> object:
    if lastResort.active():
        lastResort.cancel()
    return result


def useMonotonicClock(reactor: Any) -> None:
    """Have timers go by a clock that nobody sets."""
    reactor.seconds = time.monotonic


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
