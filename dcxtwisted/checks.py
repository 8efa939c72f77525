"""
The checks of what is stored that can be relaxed for a peer, and how a list of such peers is written as text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias


class Check(Enum):
    """A check of an object; its value is its name in settings."""

    IDENTITY = "identity"
    """SOP class and instance of the data set are the command's (else A900)."""

    INSTANCE_UID = "instanceUID"
    """The command's SOP Instance UID can be the name of something (else 0117): not empty, no path, no odd bytes."""

    UID_LENGTH = "UIDLength"
    """Of these, its length alone: at most 64 bytes."""

    CONTEXT = "context"
    """In strict mode, the command's SOP class is the presentation context's (else 0122)."""

    WHOLENESS = "wholeness"
    """The data set is not certainly cut or hostile (else C000)."""


#: For each calling AE title the checks that are relaxed for it.
Relaxations: TypeAlias = Mapping[str, frozenset[Check]]

#: Read-only.
NO_RELAXATIONS: Final[Relaxations] = MappingProxyType({})

# No AE title has a backslash (PS3.5 6.2): in text it stands before a character of a title that has a meaning there.
_SPECIAL: Final = re.compile("[,:]")
_COMMA: Final = re.compile(r"(?<!\\),")
_COLON: Final = re.compile(r"(?<!\\):")


def relaxationsFrom(given: Mapping[str, Collection[Check | str]]) -> Relaxations:
    """
    Return relaxations, read-only, of checks or their names; titles without padding.

    :raises ValueError: what is given is no mapping of titles to collections, or names no check.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"relaxations are a mapping of calling AE titles to checks, not {given!r}")
    relaxations: dict[str, frozenset[Check]] = {}
    for title, checks in given.items():
        if not isinstance(title, str):
            raise ValueError(f"relaxations are for calling AE titles, not for {title!r}")
        if isinstance(checks, str) or not isinstance(checks, Collection):
            raise ValueError(f"what is relaxed for {title!r} is a collection of checks, not {checks!r}")
        relaxations[title.strip()] = frozenset(_check(check) for check in checks)
    return MappingProxyType(relaxations)


def _check(given: Check | str) -> Check:
    try:
        return Check(given)
    except ValueError:
        names = ", ".join(check.value for check in Check)
        raise ValueError(f"there is no check {given!r} to relax, but {names}") from None


def readRelaxations(text: str) -> dict[str, list[str]]:
    """
    Return titles and names of checks from ``TITLE:check+check,TITLE:check``; the names are not looked at yet.

    A comma or a colon of a title has a backslash before it.

    :raises ValueError: a part of it lacks the colon, or a title comes twice.
    """
    relaxations: dict[str, list[str]] = {}
    for part in _COMMA.split(text) if text else ():
        title, *checks = _COLON.split(part, maxsplit=1)
        title = title.replace("\\", "")
        if not checks or title in relaxations:
            raise ValueError(f"no relaxation: {part!r}")
        relaxations[title] = checks[0].split("+")
    return relaxations


def writtenRelaxations(relaxations: Relaxations) -> str:
    """Return relaxations as ``readRelaxations`` takes them."""
    return ",".join(
        _SPECIAL.sub(r"\\\g<0>", title) + ":" + "+".join(check.value for check in Check if check in checks)
        for title, checks in relaxations.items()
    )
