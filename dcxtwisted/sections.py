"""
The parts of a configuration as values, which a file has as sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from dcxtwisted.configuration import DEFAULT_LAYOUT, validAETitle
from dcxtwisted.policy import Rule
from dcxtwisted.users import Users

DEFAULT_STORE: Final = "dicom-store"
#: Far more than there are cores to make use of them.
MOST_WORKERS: Final = 64

#: The settings of ``Configuration``, by section.
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "negotiation": (
        "AETitle",
        "checkCalledAETitle",
        "maximumLength",
        "operationsWindow",
        "transferSyntaxPreference",
        "acceptUnknown",
        "acceptReferencedPixels",
    ),
    "storage": ("duplicates", "minimumFreeBytes", "minimumFreeInodes"),
    "memory": ("memoryBudget", "memoryOverflow", "spillBudget"),
    "limits": (
        "maximumAssociations",
        "maximumAssociationsPerAddress",
        "maximumAssociationsPerAETitle",
        "maximumAssociationsWaiting",
        "maximumConnectionsBeforeAssociation",
        "maximumObjectSize",
    ),
    "deadlines": (
        "ARTIM",
        "silenceDeadline",
        "progressDeadline",
        "minimumRate",
        "writeStallDeadline",
        "connectionEventDeadline",
        "eventDeadline",
        "storeDeadline",
        "stopDeadline",
    ),
    "quirks": ("strict", "abortOnRefusal", "relaxations"),
}
SECTION_OF: Final = {name: section for section, names in SETTINGS.items() for name in names}


@attrs.frozen(kw_only=True)
class Listeners:
    """
    Where to listen.

    :ivar workers: processes that serve what comes there; 1 for one that does all.
    """

    ports: tuple[int | str, ...] = ()
    tlsPorts: tuple[int | str, ...] = ()
    workers: int = attrs.field(default=1, validator=[attrs.validators.ge(1), attrs.validators.le(MOST_WORKERS)])


@attrs.frozen(kw_only=True)
class Storage:
    """Where objects go."""

    directory: str = attrs.field(default=DEFAULT_STORE, validator=attrs.validators.min_len(1))
    layout: str = DEFAULT_LAYOUT
    durable: bool = True


@attrs.frozen(kw_only=True)
class Application:
    """
    The application's own code.

    :ivar events: dotted name of a callable that returns an ``IDCXACCEvents`` provider; '' for none.
    """

    events: str = ""


@attrs.frozen(kw_only=True)
class UsersSection:
    """
    Who confirms users.

    :ivar passwords: path of a file with NAME:PASSWORD in each line.
    :ivar checkers: dotted names of callables that return an ``ICredentialsChecker``.
    """

    passwords: str = ""
    checkers: tuple[str, ...] = ()
    required: bool = False


def _stripped(text: str) -> str:
    return text.strip()


@attrs.frozen(kw_only=True)
class EntitySection:
    """One more AE title; see ``entities.ApplicationEntity``."""

    AETitle: str = attrs.field(converter=_stripped, validator=validAETitle)
    directory: str = attrs.field(validator=attrs.validators.min_len(1))
    layout: str = DEFAULT_LAYOUT
    events: str = ""


@attrs.frozen(kw_only=True)
class Setup:
    """
    What a listener is set up with, by a file or otherwise.

    :ivar settings: those of ``Configuration`` that are given.
    :ivar tls: the attributes of a ``SecurityContext`` that are given.
    :ivar users: None for nobody who confirms them.
    """

    settings: Mapping[str, Any] = attrs.field(factory=dict)
    listeners: Listeners = Listeners()
    storage: Storage = Storage()
    application: Application = Application()
    tls: Mapping[str, Any] = attrs.field(factory=dict)
    policy: tuple[Rule, ...] = ()
    users: Users | None = None
    entities: tuple[EntitySection, ...] = ()


#: What takes a restart, by its path, where another setup has it otherwise.
_FIXED: Final = ("listeners", "storage", "application", "tls", "entities")


def pathOf(setting: str) -> str:
    """Return where a setting stands in a file."""
    return f"{SECTION_OF[setting]}.{setting}"


def restartsFor(old: Setup, new: Setup) -> Sequence[str]:
    """Return the parts that differ, besides the settings, and that a listener cannot change."""
    return [part for part in _FIXED if getattr(old, part) != getattr(new, part)]
