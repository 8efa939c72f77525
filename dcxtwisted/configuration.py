"""Every setting with its default and its validation, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final, TypeAlias

import attrs

from dcxtwisted.checks import NO_RELAXATIONS, Relaxations, readRelaxations, relaxationsFrom, writtenRelaxations
from dcxtwisted.uids import isUID
from dcxtwisted.wire.negotiation import MINIMUM_PDU_LENGTH

#: A whole number of bytes, which texts may have as C{readBytes} takes it.
Bytes: TypeAlias = int

# Seconds of the longest deadline, eleven days: what a reactor waits for at once fits 31 bits of milliseconds.
_LONGEST: Final = 1_000_000.0
DEFAULT_PORT = 11112
DEFAULT_AE_TITLE = "DCXTWISTED"
DEFAULT_LAYOUT = "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"
# Bytes: what the objects being received bring in the second until the next look; logs and the system have to live, too.
DEFAULT_MINIMUM_FREE_BYTES: Final = 64 * 1024 * 1024
# An object and its three directories, for each of 1,000 associations.
DEFAULT_MINIMUM_FREE_INODES: Final = 4096


class Duplicates(Enum):
    """What becomes of an object whose UID another stands under; one that is the same is stored already, always."""

    KEEP_BOTH = "keep-both"  #: it is kept beside the other, under a name of its own
    REPLACE = "replace"  #: it takes the place of the other, once it is acknowledged
    KEEP_FIRST = "keep-first"  #: it is acknowledged, and dropped
    REFUSE = "refuse"  #: it is refused with C000


class MemoryOverflow(Enum):
    """What becomes of an object in memory that there is no room for."""

    SPILL = "spill"  #: it goes on in a file without a name, which reads back as memory does
    WAIT = "wait"  #: its sender is held up until objects are taken, its deadlines stand still
    REFUSE = "refuse"  #: it is refused at once (A700)


def _maximumLength(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value != 0 and not MINIMUM_PDU_LENGTH <= value <= 0xFFFFFFFF:
        raise ValueError(
            f"the maximum PDU length is 0 (no limit) or {MINIMUM_PDU_LENGTH} to 4294967295 bytes, not {value}"
        )


def validAETitle(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    """Raise ValueError where a text is no AE title (PS3.5 6.2); a validator of attrs."""
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError(f"an AE title is 1 to 16 printable ASCII characters without a backslash, not {value!r}")


def _relaxations(instance: object, attribute: attrs.Attribute[Relaxations], value: Relaxations) -> None:
    for title, checks in value.items():
        validAETitle(instance, attribute, title)
        if not checks:
            raise ValueError(f"nothing is relaxed for {title!r}")


def _deadline(default: float) -> float:
    field: float = attrs.field(default=default, validator=[attrs.validators.gt(0.0), attrs.validators.le(_LONGEST)])
    return field


def _transferSyntaxes(instance: object, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    if not isinstance(value, tuple):
        raise ValueError(f"preferred transfer syntaxes are a tuple of UIDs, not {value!r}")
    for syntax in value:
        if not isinstance(syntax, str) or not isUID(syntax):
            raise ValueError(f"a preferred transfer syntax is a UID, not {syntax!r}")


@attrs.frozen(kw_only=True)
class Configuration:
    """
    How a listener behaves; every value has a default that suits a stand-alone listener.

    :ivar AETitle: how this listener calls itself.
    :ivar checkCalledAETitle: refuse associations that call another AE title (1/1/7).
    :ivar maximumLength: the largest P-DATA-TF body asked of peers, in bytes; 0 asks for no limit (PS3.8 D.1).
    :ivar operationsWindow: the most operations of one association that are in progress at once, where the peer proposes
        to have several outstanding (PS3.7 D.3.3.3); 1 has one follow the other. Each object in progress holds a file
        descriptor: an association may have as many, and one of its own.
    :ivar transferSyntaxPreference: UIDs; of the transfer syntaxes that a peer proposes for a presentation context, and
        that are taken, the first of these is chosen. Where none of them is there, the peer's first is, but explicit
        before implicit VR little endian.
    :ivar acceptUnknown: store what is private, or newer than this library, too: SOP classes and transfer syntaxes that
        it does not know. None that the standard has for something else than storage is taken.
    :ivar acceptReferencedPixels: take the transfer syntaxes of objects whose pixels stay with the peer (JPIP) too.
    :ivar strict: refuse what is otherwise only counted: a SOP class that is not the presentation context's (0122).
    :ivar relaxations: by calling AE title, the checks of an object (C{Check}, or their names) that are relaxed for that
        sender: what fails them is stored all the same, and counted among the association's quirks.
    :ivar abortOnRefusal: abort the association where an object is refused before its data set has come, in place of
        reading all of that and answering with the status.
    :ivar maximumObjectSize: bytes of a data set, as it is sent; a larger one is refused (A700) as soon as it is. None
        for any.
    :ivar ARTIM: seconds for a whole A-ASSOCIATE-RQ to arrive, and for a peer to close after the end (PS3.8 9.1.5).
    :ivar silenceDeadline: seconds without a byte, between messages, after which an association is aborted.
    :ivar progressDeadline: seconds without a byte, inside a message, after which an association is aborted.
    :ivar minimumRate: bytes a second that have to come inside a message, on the average of ``progressDeadline``.
    :ivar writeStallDeadline: seconds after which a peer that does not read what it is sent is let go.
    :ivar connectionEventDeadline: seconds that OnConnection may take; then the association is rejected (2/1/1).
    :ivar eventDeadline: seconds that any other event, or a participant, may take; then the object is refused (A700).
    :ivar storeDeadline: seconds that one call of a store may take; then the object is refused (A700).
    :ivar duplicates: what becomes of an object whose UID another stands under; a ``Duplicates``.
    :ivar minimumFreeBytes: bytes free on the file system of the store below which objects are refused before their data
        come (A700); 0 for any.
    :ivar minimumFreeInodes: the same for files that can still be made, where the file system has a number of them.
    :ivar stopDeadline: seconds that a stop leaves to the objects in flight.
    :ivar memoryBudget: bytes of memory for all objects in memory that are being received or wait for TakeStoredObject;
        each counts with 8 KiB more, for what is kept about it.
    :ivar memoryOverflow: what becomes of an object beyond that: ``spill``, ``wait`` or ``refuse``. Spilling is the
        default: it alone takes an object larger than ``memoryBudget``, and suits an application that takes nothing
        before an association has ended, which is just what waiting would keep it from. A sender that waits is refused
        (A700) at ``storeDeadline``; and at once, the youngest object first, where all that hold memory wait for more
        and nothing can be taken.
    :ivar spillBudget: bytes of spilled objects that are being received or wait to be taken, so that an application that
        takes no more does not fill the disk; what comes beyond is refused (A700). Their files are on the store
        directory's file system, and never more than a quarter of the descriptors that the process may have.
    :ivar maximumAssociations: associations at a time; what comes beyond this and the next two is rejected (2/3/2).
    :ivar maximumAssociationsPerAddress: the same for one address of a peer; all of an IPv6 /64 count as one, but for
        link-local addresses.
    :ivar maximumAssociationsPerAETitle: the same for one calling AE title; None for any number.
    :ivar maximumAssociationsWaiting: associations of one port that are accepted before ``WaitForConnection`` asks for
        them; what comes beyond is rejected (2/3/2).
    :ivar maximumConnectionsBeforeAssociation: connections without an association at a time; beyond this the one that
        has waited longest is closed, of the address that has most of them; all of an IPv6 /64 count as one here too.
    """

    AETitle: str = attrs.field(default=DEFAULT_AE_TITLE, validator=validAETitle)
    checkCalledAETitle: bool = False
    maximumLength: Bytes = attrs.field(default=131072, validator=_maximumLength)
    operationsWindow: int = attrs.field(default=8, validator=[attrs.validators.ge(1), attrs.validators.le(0xFFFF)])
    transferSyntaxPreference: tuple[str, ...] = attrs.field(default=(), validator=_transferSyntaxes)
    acceptUnknown: bool = False
    acceptReferencedPixels: bool = False
    strict: bool = False
    relaxations: Relaxations = attrs.field(
        default=NO_RELAXATIONS, converter=relaxationsFrom, validator=_relaxations, hash=False
    )
    abortOnRefusal: bool = False
    maximumObjectSize: Bytes | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    ARTIM: float = _deadline(30.0)
    silenceDeadline: float = _deadline(600.0)
    progressDeadline: float = _deadline(60.0)
    minimumRate: float = attrs.field(default=1024.0, validator=[attrs.validators.ge(0), attrs.validators.le(1e9)])
    writeStallDeadline: float = _deadline(60.0)
    connectionEventDeadline: float = _deadline(15.0)
    eventDeadline: float = _deadline(60.0)
    storeDeadline: float = _deadline(300.0)
    duplicates: Duplicates = attrs.field(default=Duplicates.KEEP_BOTH, converter=Duplicates)
    minimumFreeBytes: Bytes = attrs.field(default=DEFAULT_MINIMUM_FREE_BYTES, validator=attrs.validators.ge(0))
    minimumFreeInodes: int = attrs.field(default=DEFAULT_MINIMUM_FREE_INODES, validator=attrs.validators.ge(0))
    stopDeadline: float = attrs.field(default=30.0, validator=[attrs.validators.ge(0), attrs.validators.le(_LONGEST)])
    memoryBudget: Bytes = attrs.field(default=268435456, validator=attrs.validators.ge(0))
    memoryOverflow: MemoryOverflow = attrs.field(default=MemoryOverflow.SPILL, converter=MemoryOverflow)
    spillBudget: Bytes = attrs.field(default=4294967296, validator=attrs.validators.ge(0))
    maximumAssociations: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    maximumAssociationsPerAddress: int = attrs.field(default=200, validator=attrs.validators.ge(1))
    maximumAssociationsPerAETitle: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    maximumAssociationsWaiting: int = attrs.field(default=16, validator=attrs.validators.ge(0))
    maximumConnectionsBeforeAssociation: int = attrs.field(default=500, validator=attrs.validators.ge(1))

    def withChanges(self, other: Configuration) -> Configuration:
        """Return this with all settings of another that can change while associations stand."""
        return attrs.evolve(self, **{name: getattr(other, name) for name in CHANGEABLE})

    def differences(self, other: Configuration) -> Sequence[str]:
        """Return the names of the settings in which another differs."""
        return [field.name for field in attrs.fields(Configuration) if _differ(self, other, field.name)]


def _differ(one: Configuration, other: Configuration, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


#: Settings that can change while associations stand: the deadlines of these stay, but for those of events and stores.
CHANGEABLE: Final = frozenset(
    field.name
    for field in attrs.fields(Configuration)
    if field.name.startswith("maximumAssociations")
    or field.name.endswith("Deadline")
    or field.name in ("maximumConnectionsBeforeAssociation", "maximumObjectSize", "ARTIM", "minimumRate", "relaxations")
)


#: What a number of bytes looks like as text.
BYTES: Final = "a whole number of bytes, or of K, M, G or T as 512M"
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def readBytes(text: str) -> int:
    """
    Return a number of bytes: C{"512M"} is 512 MiB; K, M, G and T are powers of 1024.

    :raises ValueError: it is none.
    """
    number = text.rstrip("kmgtKMGT")
    power = _POWERS.get(text[len(number) :].upper())
    if power is None:
        raise ValueError(f"not {BYTES}: {text!r}")
    return int(number) << 10 * power


def _optionalInt(text: str) -> int | None:
    return None if text == "none" else int(text)


def _optionalBytes(text: str) -> int | None:
    return None if text == "none" else readBytes(text)


def _bool(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _texts(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _oneOf(kind: type[Enum]) -> tuple[Callable[[str], Any], str]:
    *values, last = (member.value for member in kind)
    return kind, f"{', '.join(values)} or {last}"


# By the annotation: how a value is read, and what one looks like.
_READERS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "str": (str, "text"),
    "bool": (_bool, "yes or no"),
    "int": (int, "a whole number"),
    "int | None": (_optionalInt, "a whole number or 'none'"),
    "Bytes": (readBytes, BYTES),
    "Bytes | None": (_optionalBytes, f"{BYTES}, or 'none'"),
    "float": (float, "a number"),
    "tuple[str, ...]": (_texts, "texts separated by commas"),
    "Relaxations": (readRelaxations, "AE titles with checks, as TITLE:check+check,TITLE:check"),
    "Duplicates": _oneOf(Duplicates),
    "MemoryOverflow": _oneOf(MemoryOverflow),
}


# How alike two names are of which one was meant to be the other: 0.6 takes "strict" for "storeDirectory".
_NEAR: Final = 0.7


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the known names that a name was meant to be, whatever its case; None where none is near."""
    byLower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), byLower, 1, _NEAR)
    return byLower[close[0]] if close else None


def meant(name: str, known: Iterable[str]) -> str:
    """Return what to say to one who gave a name that is not known: which is near, or where none is, all there are."""
    known = sorted(known, key=str.lower)
    close = nearest(name, known)
    return f"did you mean {close}?" if close else f"known are {', '.join(known)}"


def readSetting(setting: str) -> tuple[str, Any]:
    """
    Return the name and the value of a setting given as ``NAME=VALUE``; the value is not validated yet.

    :raises ValueError: there is none of that name, or the text is no value of its kind.
    """
    name, equals, text = setting.partition("=")
    known = attrs.fields_dict(Configuration)
    if not equals:
        raise ValueError(f"a setting is given as NAME=VALUE, not {setting!r}")
    if name not in known:
        # Messages about the file name them with their section.
        raise ValueError(f"there is no setting {name!r}; {meant(name.rpartition('.')[2], known)}")
    read, kind = _READERS[str(known[name].type)]
    try:
        return name, read(text)
    except (ValueError, KeyError):
        raise ValueError(f"{name} takes {kind}, not {text!r}") from None


def writtenSetting(value: Any) -> str:
    """Return the value of a setting as ``readSetting`` takes it."""
    if value is None:
        return "none"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Mapping):
        return writtenRelaxations(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
