"""
The configuration file: TOML with a section for each part, read whole, and every error of it told with its path.

Plain ``tomllib`` and the validators that the settings have: a library that structures data (cattrs was tried) takes
``strict = "no"`` for True, and stops at the first error of a section.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, Final, TypeVar

import attrs
from twisted.cred.checkers import ICredentialsChecker

from dcxtwisted.certificates import (
    readCertificates,
    readKey,
    readRevocationLists,
    readThumbprints,
    readTrusted,
)
from dcxtwisted.configuration import BYTES, Configuration, meant, nearest, readBytes
from dcxtwisted.dottednames import callableNamed, madeBy
from dcxtwisted.endpoints import endpointFrom
from dcxtwisted.policy import Rule
from dcxtwisted.reading import readWhole
from dcxtwisted.sections import (
    SECTION_OF,
    SETTINGS,
    Application,
    EntitySection,
    Listeners,
    Setup,
    Storage,
    UsersSection,
    pathOf,
)
from dcxtwisted.security import SecurityContext
from dcxtwisted.stores.layout import Layout
from dcxtwisted.users import Users, passwordsFrom

_T = TypeVar("_T")


class ConfigurationFileError(ValueError):
    """
    A configuration file is no good.

    :ivar errors: what is wrong, each with its path in the file.
    """

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


# A key that TOML takes without quotes.
_BARE: Final = re.compile("[A-Za-z0-9_-]+")

_STORAGE: Final = frozenset(field.name for field in attrs.fields(Storage))


def contentOf(path: str) -> bytes:
    """
    Return what is in a file.

    :raises ConfigurationFileError: it cannot be read.
    """
    try:
        return readWhole(path)[0]
    except OSError as error:
        raise ConfigurationFileError([f"{path} cannot be read: {error.strerror}"]) from None


def readFile(path: str, reactor: Any, read: bytes | None = None) -> Setup:
    """
    Return what a file says, all of it checked; paths in it are relative to its own directory.

    :param reactor: what endpoints would listen on.
    :param read: what is in the file, where it was read already.
    :raises ConfigurationFileError: it cannot be read, or something in it is no good.
    """
    written = contentOf(path) if read is None else read
    try:
        # What some editors put in front of UTF-8 is none of TOML's.
        content = tomllib.loads(written.decode("utf-8-sig"))
    except RecursionError:
        raise ConfigurationFileError([f"{path} is not TOML: it is nested too deeply"]) from None
    except ValueError as error:
        # tomllib's own, the decoder's, or int's, which takes no more than 4,300 digits.
        raise ConfigurationFileError([f"{path} is not TOML: {error}"]) from None
    reading = _Reading(os.path.dirname(os.path.abspath(path)), reactor)
    setup = reading.setup(content)
    if setup is None or reading.errors:
        raise ConfigurationFileError(reading.errors)
    return setup


class _Reading:
    """One reading of a file: what is wrong is kept, and reading goes on."""

    def __init__(self, directory: str, reactor: Any) -> None:
        self.errors: list[str] = []
        self._directory = directory
        self._reactor = reactor

    def setup(self, content: Mapping[str, Any]) -> Setup | None:
        known = {*SETTINGS, *(field.name for field in attrs.fields(Setup) if field.name != "settings")}
        for name in content:
            if name not in known:
                self._error(_written(name), f"there is no such section; {_meant(name, known)}")
        sections = {name: self._table(content.get(name, {}), name) for name in known - {"policy", "entities"}}
        storage = {name: value for name, value in sections["storage"].items() if name in _STORAGE}
        if storage.get("directory") and isinstance(storage["directory"], str):
            # Where none is given it is as without a file: below the current directory.
            storage["directory"] = self._path(storage["directory"])
        parts = {
            "settings": self._settings(sections),
            "listeners": self._made(Listeners, sections["listeners"], "listeners", self._listeners),
            "storage": self._made(Storage, storage, "storage", self._storage),
            "application": self._made(Application, sections["application"], "application", self._application),
            "tls": self._tls(sections["tls"]) if "tls" in content else {},
            "policy": self._several(Rule, content.get("policy", []), "policy"),
            "users": self._made(UsersSection, sections["users"], "users", self._users) if "users" in content else None,
            "entities": self._several(EntitySection, content.get("entities", []), "entities", self._entity),
        }
        self._checkDistinct(parts["entities"])
        return None if self.errors else Setup(**parts)

    def _error(self, path: str, text: object) -> None:
        self.errors.append(f"{path}: {text}")

    def _table(self, given: Any, path: str) -> Mapping[str, Any]:
        if isinstance(given, dict):
            return given
        self._error(path, f"takes a table, not {given!r}")
        return {}

    def _settings(self, sections: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        settings: dict[str, Any] = {}
        fields = attrs.fields_dict(Configuration)
        for section, names in SETTINGS.items():
            others = _STORAGE if section == "storage" else ()
            settings |= self._values([fields[name] for name in names], sections[section], section, others)
        return settings

    def _values(
        self,
        fields: Iterable[attrs.Attribute[Any]],
        table: Mapping[str, Any],
        path: str,
        others: Collection[str] = (),
    ) -> dict[str, Any]:
        """The values in a table that are good, converted; ``others`` are known, but not to be read here."""
        byName = {field.name: field for field in fields}
        values: dict[str, Any] = {}
        for name, given in table.items():
            where = f"{path}.{_written(name)}"
            if name in byName:
                try:
                    values[name] = _value(byName[name], given)
                except ValueError as error:
                    self._error(where, error)
            elif name not in others:
                self._error(where, f"there is no such setting; {_meant(name, {*byName, *others})}")
        return values

    def _made(
        self,
        kind: type[_T],
        table: Any,
        path: str,
        check: Callable[[_T, str], Any],
    ) -> Any:
        """What C{check} makes of a section, where all is good."""
        before = len(self.errors)
        # attrs knows its own classes only by a protocol that mypy has no TypeVar for.
        fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(kind)  # type: ignore[arg-type]
        table = self._table(table, path)
        values = self._values(fields, table, path)
        for field in fields:
            if field.default is attrs.NOTHING and field.name not in table:
                self._error(path, f"{field.name} is missing")
        if len(self.errors) > before:
            return None
        return check(kind(**values), path)

    def _several(
        self, kind: type[_T], given: Any, path: str, check: Callable[[_T, str], Any] = lambda made, path: made
    ) -> tuple[Any, ...]:
        if not isinstance(given, list):
            self._error(path, f"takes tables, each headed [[{path}]], not {given!r}")
            return ()
        return tuple(self._made(kind, table, f"{path}[{number}]", check) for number, table in enumerate(given, 1))

    def _path(self, path: str) -> str:
        return os.path.join(self._directory, path)

    def _try(self, path: str, check: Callable[[], _T]) -> _T | None:
        try:
            return check()
        except ValueError as error:
            self._error(path, error)
            return None

    # The sections

    def _listeners(self, listeners: Listeners, path: str) -> Listeners:
        for name in ("ports", "tlsPorts"):
            for number, port in enumerate(getattr(listeners, name), 1):
                self._try(f"{path}.{name}[{number}]", lambda port=port: endpointFrom(self._reactor, port))  # type: ignore[misc]  # mypy knows no defaults of lambdas
        return listeners

    def _storage(self, storage: Storage, path: str) -> Storage:
        self._checkStore(os.path.abspath(storage.directory), storage.layout, path)
        return storage

    def _checkStore(self, directory: str, layout: str, path: str) -> None:
        self._try(f"{path}.directory", lambda: checkDirectory(self._path(directory)))
        self._try(f"{path}.layout", lambda: Layout(layout))

    def _application(self, application: Application, path: str) -> Application:
        if application.events:
            self._try(f"{path}.events", lambda: callableNamed(application.events))
        return application

    def _entity(self, entity: EntitySection, path: str) -> EntitySection:
        self._checkStore(entity.directory, entity.layout, path)
        if entity.events:
            self._try(f"{path}.events", lambda: callableNamed(entity.events))
        return attrs.evolve(entity, directory=self._path(entity.directory))

    def _checkDistinct(self, entities: Sequence[EntitySection | None]) -> None:
        for name in ("AETitle", "directory"):
            first: dict[str, int] = {}
            for number, entity in enumerate(entities, 1):
                if entity is not None:
                    value = getattr(entity, name)
                    if first.setdefault(value, number) != number:
                        self._error(f"entities[{number}].{name}", f"{value!r} is that of entities[{first[value]}]")

    def _tls(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        given = self._values(attrs.fields(SecurityContext), table, "tls")
        for name in ("certificate", "key"):
            if given.get(name):
                given[name] = self._path(given[name])
        for name in ("trusted", "revocationLists"):
            if name in given:
                given[name] = tuple(self._path(each) for each in given[name])
        if "acceptedThumbprints" in given:
            given["acceptedThumbprints"] = tuple(
                f"@{self._path(each[1:])}" if each.startswith("@") else each for each in given["acceptedThumbprints"]
            )
        if "certificate" not in table:
            self._error("tls", "certificate is missing")
        if self._areReadable(given) and len(given) == len(table) and "certificate" in table:
            # Whether they fit each other.
            self._try("tls", lambda: SecurityContext(**given).check())
        return given

    def _areReadable(self, given: Mapping[str, Any]) -> bool:
        before = len(self.errors)
        now = datetime.now(UTC)
        readers: Mapping[str, Callable[[str], object]] = {
            "certificate": lambda path: readCertificates(path, "certificate"),
            "key": readKey,
            "trusted": lambda path: readTrusted([path], now),
            "revocationLists": readRevocationLists,
            "acceptedThumbprints": lambda text: readThumbprints([text]),
        }
        for name, read in readers.items():
            value = given.get(name) or ()
            if isinstance(value, str):
                self._try(f"tls.{name}", partial(read, value))
            else:
                for number, each in enumerate(value, 1):
                    self._try(f"tls.{name}[{number}]", partial(read, each))
        return len(self.errors) == before

    def _users(self, section: UsersSection, path: str) -> Users:
        checkers: list[ICredentialsChecker] = []
        if section.passwords:
            passwords = self._try(f"{path}.passwords", lambda: passwordsFrom(self._path(section.passwords)))
            checkers += [] if passwords is None else [passwords]
        for number, name in enumerate(section.checkers, 1):
            checker = self._try(f"{path}.checkers[{number}]", lambda name=name: _checkerFrom(name))  # type: ignore[misc]  # as above
            checkers += [] if checker is None else [checker]
        return Users(checkers, required=section.required)


def checkDirectory(directory: str) -> None:
    """
    See that a directory is there or can be made; whether it can be written to shows when privileges are gone.

    :raises ValueError: it cannot.
    """
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    if not os.path.isdir(directory):
        raise ValueError(f"{directory} is not a directory")


def _checkerFrom(name: str) -> ICredentialsChecker:
    checker = madeBy(name)
    if not ICredentialsChecker.providedBy(checker):
        raise ValueError(f"{name} returns no ICredentialsChecker")
    return checker


def _written(key: str) -> str:
    """Return a key as TOML has it, on one line."""
    return key if _BARE.fullmatch(key) else ascii(key)


def _meant(name: str, known: Collection[str]) -> str:
    """As ``meant``; a setting of another section is named with it, where nothing that is known here is nearer."""
    elsewhere = nearest(name, SECTION_OF)
    if elsewhere is None or elsewhere in known:
        return meant(name, known)
    isNearer = elsewhere.lower() == name.lower() or nearest(name, known) is None
    return f"did you mean {pathOf(elsewhere)}?" if isNearer else meant(name, known)


# Values


def _value(field: attrs.Attribute[Any], given: Any) -> Any:
    """
    Return a value as a field takes it.

    :raises ValueError: it does not take it.
    """
    kind = str(field.type)
    converter: Any = field.converter
    if isinstance(converter, type) and issubclass(converter, Enum):
        values = [member.value for member in converter]
        if given not in values:
            raise ValueError(f"takes {' or '.join(map(repr, values))}, not {given!r}")
        return converter(given)
    if kind.endswith("| None") and given == "none":
        return None
    isKind, text = _KINDS.get(kind, _TEXTS)
    if kind.startswith("Bytes") and isinstance(given, str):
        try:
            given = readBytes(given)
        except ValueError:
            raise ValueError(f"takes {text}, not {given!r}") from None
    if not isKind(given):
        raise ValueError(f"takes {text}, not {given!r}")
    if isinstance(given, list):
        given = tuple(given)
    if converter is not None:
        given = converter(given)
    if field.validator is not None:
        # Those here look at nothing but the value.
        field.validator(None, field, given)
    return given


def _isInt(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _areTexts(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(each, str) for each in given)


_TEXTS: Final[tuple[Callable[[Any], bool], str]] = (_areTexts, "a list of texts")
# By the annotation, and what it looks like; what is not here is made of texts by its converter.
_KINDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "str": (lambda given: isinstance(given, str), "a text"),
    "bool": (lambda given: isinstance(given, bool), "true or false"),
    "int": (_isInt, "a whole number"),
    "int | None": (_isInt, "a whole number or 'none'"),
    "Bytes": (_isInt, BYTES),
    "Bytes | None": (_isInt, f"{BYTES}, or 'none'"),
    "float": (lambda given: _isInt(given) or isinstance(given, float), "a number"),
    "tuple[int | str, ...]": (
        lambda given: isinstance(given, list) and all(_isInt(each) or isinstance(each, str) for each in given),
        "a list of port numbers and endpoint strings",
    ),
    "AssociateRJ": (lambda given: isinstance(given, str), "a text, as '1/1/1'"),
    "Relaxations": (
        lambda given: isinstance(given, dict) and all(_areTexts(each) for each in given.values()),
        "a table of lists of checks, by calling AE title",
    ),
}
