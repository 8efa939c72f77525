"""
What ``twistd dcxtwisted`` understands: its options, checked, and what a listener is made of from them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NoReturn, TextIO

import attrs
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from dcxtwisted.configfile import ConfigurationFileError
from dcxtwisted.configuration import (
    DEFAULT_AE_TITLE,
    DEFAULT_LAYOUT,
    DEFAULT_PORT,
    Configuration,
    readSetting,
    writtenSetting,
)
from dcxtwisted.deadlines import useMonotonicClock
from dcxtwisted.dottednames import callableNamed, madeBy
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.entities import ApplicationEntity, checkDistinct
from dcxtwisted.events import checkReactor
from dcxtwisted.interfaces import IDCXACCEvents
from dcxtwisted.sections import DEFAULT_STORE, MOST_WORKERS, Setup
from dcxtwisted.security import PROFILES, SecurityContext
from dcxtwisted.setups import Given
from dcxtwisted.stores.layout import KNOWN_ATTRIBUTES
from dcxtwisted.wire.framing import COMPILED

# What an option is where neither it nor a file says.
_DEFAULTS: Final = {
    "ae-title": DEFAULT_AE_TITLE,
    "store-directory": DEFAULT_STORE,
    "layout": DEFAULT_LAYOUT,
    "tls-profile": "bcp195",
}

# What of a SecurityContext options give one by one.
_TLS_LISTS: Final = ("trusted", "revocationLists", "acceptedThumbprints")


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
            tell("all of it is good", sys.stdout)
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
        tell(message, sys.stderr)
    sys.exit(1)


def tell(message: str, stream: TextIO | None) -> None:
    """Write a line as of this program, whatever a message's white space."""
    print("twistd dcxtwisted:", *message.split(), file=stream)
