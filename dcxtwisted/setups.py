"""
What options and a file make together; and what of it a listener changes when it is read again, what takes a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configfile import checkDirectory, readFile
from dcxtwisted.configuration import BYTES, Configuration, readBytes, writtenSetting
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.sections import Application, Listeners, Setup, Storage, pathOf, restartsFor
from dcxtwisted.stores.layout import Layout

_TLS_OPTIONS: Final = {
    "certificate": "tls-certificate",
    "key": "tls-key",
    "profile": "tls-profile",
    "requireClientCertificate": "tls-require-client-certificate",
}


@attrs.frozen
class Given:
    """
    What was said on the command line; it goes before what the file of ``--config`` says.

    :ivar options: those that were given, by name.
    :ivar tlsLists: of a ``SecurityContext``, what options give one by one.
    :ivar settings: of ``--set``.
    """

    options: Mapping[str, Any] = attrs.field(factory=dict)
    ports: Sequence[str] = ()
    tlsPorts: Sequence[str] = ()
    tlsLists: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    settings: Mapping[str, Any] = attrs.field(factory=dict)

    def settle(self, reactor: Any) -> tuple[Setup, Configuration]:
        """
        Read the file, if there is one, and return what it and the options make together.

        :raises ValueError: something is no good.
        """
        options = self.options
        for description in (*self.ports, *self.tlsPorts):
            endpointFrom(reactor, description)
        setup = readFile(options["config"], reactor) if "config" in options else Setup()
        setup = attrs.evolve(
            setup,
            settings={**setup.settings, **self._settings()},
            listeners=Listeners(
                ports=tuple(self.ports) or setup.listeners.ports,
                tlsPorts=tuple(self.tlsPorts) or setup.listeners.tlsPorts,
            ),
            storage=self._storage(setup.storage),
            application=Application(events=options.get("events", setup.application.events)),
            tls={**setup.tls, **self._tls()},
        )
        isInFile = "config" in options
        if setup.listeners.tlsPorts and "certificate" not in setup.tls:
            where = " (or listeners.tlsPorts, tls.certificate)" if isInFile else ""
            raise ValueError(f"--tls-port takes --tls-certificate{where}")
        if setup.tls and not setup.listeners.tlsPorts:
            where = " (or listeners.tlsPorts)" if isInFile else ""
            raise ValueError(f"options for TLS without --tls-port{where}, which says where to speak it")
        return setup, Configuration(**setup.settings)

    def _storage(self, storage: Storage) -> Storage:
        given = self.options
        if "store-directory" in given:
            directory = os.fspath(given["store-directory"])
            if not directory:
                raise ValueError("--store-directory takes a directory, not ''")
            try:
                checkDirectory(os.path.abspath(directory))
            except ValueError as error:
                raise ValueError(f"--store-directory: {error}") from None
            storage = attrs.evolve(storage, directory=directory)
        if "layout" in given:
            Layout(given["layout"])
            storage = attrs.evolve(storage, layout=given["layout"])
        return attrs.evolve(storage, durable=False) if "no-fsync" in given else storage

    def _settings(self) -> Mapping[str, Any]:
        settings: dict[str, Any] = {}
        if "ae-title" in self.options:
            settings["AETitle"] = self.options["ae-title"]
        if "check-called-ae-title" in self.options:
            settings["checkCalledAETitle"] = True
        if "max-pdu" in self.options:
            try:
                settings["maximumLength"] = readBytes(self.options["max-pdu"])
            except ValueError:
                raise ValueError(f"--max-pdu takes {BYTES}, not {self.options['max-pdu']!r}") from None
        return {**settings, **self.settings}

    def _tls(self) -> Mapping[str, Any]:
        given = {name: self.options[option] for name, option in _TLS_OPTIONS.items() if option in self.options}
        if "requireClientCertificate" in given:
            given["requireClientCertificate"] = True
        return given | {name: tuple(values) for name, values in self.tlsLists.items() if values}


class Reload:
    """
    Prepares what a listener goes by from a reload on, for C{DCXACC.addReload}.

    :param given: reads the file.
    :param setup: what the listener was made of.
    """

    def __init__(self, listener: DCXACC, given: Given, setup: Setup, reactor: Any) -> None:
        self._listener = listener
        self._given = given
        self._setup = setup
        self._reactor = reactor

    def prepare(self) -> Callable[[], str]:
        """
        Read everything again, and return what has the listener go by it, and tells what it changed.

        :raises ValueError: something is no good.
        """
        setup, configuration = self._given.settle(self._reactor)
        return lambda: self._use(setup, configuration)

    def _use(self, setup: Setup, configuration: Configuration) -> str:
        listener = self._listener
        before = listener.configuration
        fixed = listener.reconfigure(configuration)
        now = listener.configuration
        changed = [f"{pathOf(name)} = {writtenSetting(getattr(now, name))}" for name in before.differences(now)]
        if tuple(listener.policy) != setup.policy:
            listener.policy = setup.policy
            changed.append(
                f"policy ({_counted(len(setup.policy))})" if setup.policy else "no policy: everyone may come"
            )
        if listener.users != setup.users:
            listener.users = setup.users
            changed.append("users")
        restarts = [*restartsFor(self._setup, setup), *map(pathOf, fixed)]
        told = [", ".join(changed)] if changed else []
        if restarts:
            told.append(f"a restart is needed for {', '.join(restarts)}")
        return "; ".join(told)


def _counted(rules: int) -> str:
    return "1 rule" if rules == 1 else f"{rules} rules"
