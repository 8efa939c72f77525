"""
A C-STORE request as events and stores see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import classImplements

from dcxtwisted.checks import Check
from dcxtwisted.dataset import Head
from dcxtwisted.errors import StoreRefused
from dcxtwisted.interfaces import IExchange, IStoreRequest, StoredObject
from dcxtwisted.wire.messages import CStoreRequest

#: PS3.5 9.1.
LONGEST_UID: Final = 64
#: No check is relaxed.
NOTHING: Final[frozenset[Check]] = frozenset()


def isSafeInstanceUID(instanceUID: str) -> bool:
    """
    True where an Affected SOP Instance UID can be stored under.

    Odd ones are stored too, under an escaped name; what is refused is empty, over 64 bytes, has a control or non-ASCII
    byte or a path separator, or consists of dots.
    """
    return len(instanceUID) <= LONGEST_UID and isSafeButForLength(instanceUID)


def isSafeButForLength(instanceUID: str) -> bool:
    """True where an Affected SOP Instance UID can be stored under, or could if it were shorter."""
    return (
        instanceUID.isascii()
        and instanceUID.isprintable()
        and "/" not in instanceUID
        and "\\" not in instanceUID
        and instanceUID.strip(".") != ""
    )


class StoreRequest:
    """
    One C-STORE request; the attributes are those of ``IStoreRequest``.

    :ivar relaxed: the checks that are relaxed for its sender.
    """

    __slots__ = (
        "SOPClassUID",
        "SOPInstanceUID",
        "_command",
        "association",
        "head",
        "refusal",
        "relaxed",
        "stored",
        "transferSyntaxUID",
        "watchers",
    )

    def __init__(self, command: CStoreRequest, exchange: IExchange, relaxed: frozenset[Check] = NOTHING) -> None:
        self.SOPClassUID = command.SOPClassUID
        self.SOPInstanceUID = command.SOPInstanceUID
        self.transferSyntaxUID = exchange.context.transferSyntax
        self.association = exchange.association
        self.head: Head | None = None
        self.stored: StoredObject | None = None
        self.refusal: StoreRefused | None = None
        self.watchers: list[Callable[[memoryview], object]] = []
        self.relaxed = relaxed
        self._command = command
        if not self.SOPClassUID:
            self.SOPClassUID = exchange.context.abstractSyntax
            self.association.quirks["C-STORE without SOP class"] += 1
        elif self.SOPClassUID != exchange.context.abstractSyntax:
            self.association.quirks["SOP class is not the context's"] += 1

    def tolerates(self, check: Check) -> bool:
        """True where a check, which failed, is relaxed for the sender; counted then."""
        if check not in self.relaxed:
            return False
        self.association.quirks[f"relaxed: {check.value}"] += 1
        return True

    @property
    def messageID(self) -> int:
        """Message ID of the command."""
        return self._command.messageID

    @property
    def priority(self) -> int:
        """Priority of the command; 0 where it gave none."""
        return self._command.priority

    @property
    def moveOriginatorAETitle(self) -> str:
        """Move Originator AE title, '' where the command gave none."""
        return self._command.moveOriginatorAETitle

    @property
    def moveOriginatorMessageID(self) -> int | None:
        """Move Originator Message ID, None where the command gave none."""
        return self._command.moveOriginatorMessageID

    def tap(self, watcher: Callable[[memoryview], object]) -> None:
        """See ``IStoreRequest.tap``."""
        self.watchers.append(watcher)


classImplements(StoreRequest, IStoreRequest)
