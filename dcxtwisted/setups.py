"""
What options and a file make together; and what of it a listener changes when it is read again, what takes a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configfile import ConfigurationFileError, checkDirectory, contentOf, readFile
from dcxtwisted.configuration import BYTES, Configuration, readBytes, writtenSetting
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.sections import MOST_WORKERS, Application, Listeners, Setup, Storage, pathOf, restartsFor
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
    :ivar directory: what relative paths are relative to; '' for wherever the process is.
    :ivar content: what is in the file of ``--config``, where that was read for good; None to have it read each time.
    """

    options: Mapping[str, Any] = attrs.field(factory=dict)
    ports: Sequence[str] = ()
    tlsPorts: Sequence[str] = ()
    tlsLists: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    directory: str = ""
    content: bytes | None = None

    def pinned(self) -> Given:
        """
        Return this with the file as it is now, whatever becomes of it.

        :raises ValueError: it cannot be read.
        """
        return attrs.evolve(self, content=contentOf(self.options["config"])) if "config" in self.options else self

    def settle(self, reactor: Any) -> tuple[Setup, Configuration]:
        """
        Read the file, if there is one, and return what it and the options make together.

        :raises ValueError: something is no good.
        """
        options = self.options
        for description in (*self.ports, *self.tlsPorts):
            endpointFrom(reactor, description)
        setup = readFile(options["config"], reactor, self.content) if "config" in options else Setup()
        setup = attrs.evolve(
            setup,
            settings={**setup.settings, **self._settings()},
            listeners=Listeners(
                ports=tuple(self.ports) or setup.listeners.ports,
                tlsPorts=tuple(self.tlsPorts) or setup.listeners.tlsPorts,
                workers=self._workers(setup.listeners.workers),
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

    def _workers(self, workers: int) -> int:
        given = self.options.get("workers")
        if given is None:
            return workers
        if not str(given).isascii() or not str(given).isdecimal() or not 1 <= int(given) <= MOST_WORKERS:
            raise ValueError(f"--workers takes a number of processes, 1 to {MOST_WORKERS}, not {given!r}")
        return int(given)

    def _path(self, path: str) -> str:
        return os.path.join(self.directory, path)

    def _thumbprints(self, each: str) -> str:
        return f"@{self._path(each[1:])}" if each.startswith("@") else each

    def _storage(self, storage: Storage) -> Storage:
        given = self.options
        if "store-directory" in given:
            directory = os.fspath(given["store-directory"])
            if not directory:
                raise ValueError("--store-directory takes a directory, not ''")
            try:
                checkDirectory(os.path.abspath(self._path(directory)))
            except ValueError as error:
                raise ValueError(f"--store-directory: {error}") from None
            storage = attrs.evolve(storage, directory=directory)
        if "layout" in given:
            Layout(given["layout"])
            storage = attrs.evolve(storage, layout=given["layout"])
        storage = attrs.evolve(storage, directory=self._path(storage.directory))
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
        given |= {name: self._path(given[name]) for name in ("certificate", "key") if name in given}
        for name, values in self.tlsLists.items():
            if values:
                path = self._thumbprints if name == "acceptedThumbprints" else self._path
                given[name] = tuple(map(path, values))
        return given


class Reload:
    """
    Prepares what a listener goes by from a reload on, for C{DCXACC.addReload}.

    :ivar given: reads the file; can be set.
    :param setup: what the listener was made of.
    """

    def __init__(self, listener: DCXACC, given: Given, setup: Setup, reactor: Any) -> None:
        self._listener = listener
        self.given = given
        self._setup = setup
        self._reactor = reactor

    def prepare(self) -> Callable[[], str]:
        """
        Read everything again, and return what has the listener go by it, and tells what it changed.

        :raises ValueError: something is no good.
        """
        setup, configuration = self.given.settle(self._reactor)
        # Read while it is written, a file may be all that an editor has emptied, and good TOML.
        errors = []
        if self._listener.policy and not setup.policy:
            errors.append("policy: no rule is left, which lets everyone in; a rule with allow = true alone says so")
        if self._listener.users is not None and setup.users is None:
            errors.append("users: nobody is left who confirms users; that takes a restart")
        if errors:
            raise ConfigurationFileError(errors)
        return lambda: self._use(setup, configuration)

    def _use(self, setup: Setup, configuration: Configuration) -> str:
        listener = self._listener
        before = listener.configuration
        fixed = listener.reconfigure(configuration)
        now = listener.configuration
        changed = [f"{pathOf(name)} = {writtenSetting(getattr(now, name))}" for name in before.differences(now)]
        if tuple(listener.policy) != setup.policy:
            listener.policy = setup.policy
            changed.append(f"policy ({_counted(len(setup.policy))})")
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
