"""Every setting with its default and its validation, as one frozen value."""

from __future__ import annotations

import attrs

from dcxtwisted.wire.negotiation import MINIMUM_PDU_LENGTH

DEFAULT_PORT = 11112
DEFAULT_AE_TITLE = "DCXTWISTED"
DEFAULT_LAYOUT = "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"


def _maximumLength(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value != 0 and not MINIMUM_PDU_LENGTH <= value <= 0xFFFFFFFF:
        raise ValueError(
            f"the maximum PDU length is 0 (no limit) or {MINIMUM_PDU_LENGTH} to 4294967295 bytes, not {value}"
        )


def _AETitle(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError(f"an AE title is 1 to 16 printable ASCII characters without a backslash, not {value!r}")


@attrs.frozen(kw_only=True)
class Configuration:
    """
    How a listener behaves; every value has a default that suits a stand-alone listener.

    :ivar AETitle: how this listener calls itself.
    :ivar checkCalledAETitle: refuse associations that call another AE title (1/1/7).
    :ivar maximumLength: the largest P-DATA-TF body asked of peers, in bytes; 0 asks for no limit (PS3.8 D.1).
    :ivar operationsWindow: the most operations of one association that are in progress at once, where the peer proposes
        to have several outstanding (PS3.7 D.3.3.3); 1 has one follow the other.
    :ivar ARTIM: seconds for a whole A-ASSOCIATE-RQ to arrive, and for a peer to close after the end (PS3.8 9.1.5).
    :ivar silenceDeadline: seconds without a byte, between messages, after which an association is aborted.
    :ivar progressDeadline: seconds without a byte, inside a message, after which an association is aborted.
    :ivar minimumRate: bytes a second that have to come inside a message, on the average of ``progressDeadline``.
    :ivar writeStallDeadline: seconds after which a peer that does not read what it is sent is let go.
    :ivar connectionEventDeadline: seconds that OnConnection may take; then the association is rejected (2/1/1).
    :ivar eventDeadline: seconds that any other event, or a participant, may take; then the object is refused (A700).
    :ivar storeDeadline: seconds that one call of a store may take; then the object is refused (A700).
    :ivar stopDeadline: seconds that a stop leaves to the objects in flight.
    :ivar maximumAssociations: associations at a time; what comes beyond this and the next two is rejected (2/3/2).
    :ivar maximumAssociationsPerAddress: the same for one address of a peer.
    :ivar maximumAssociationsPerAETitle: the same for one calling AE title; None for any number.
    :ivar maximumConnectionsBeforeAssociation: connections without an association at a time; beyond this the one that
        has waited longest is closed, of the address that has most of them.
    """

    AETitle: str = attrs.field(default=DEFAULT_AE_TITLE, validator=_AETitle)
    checkCalledAETitle: bool = False
    maximumLength: int = attrs.field(default=131072, validator=_maximumLength)
    operationsWindow: int = attrs.field(default=8, validator=[attrs.validators.ge(1), attrs.validators.le(0xFFFF)])
    ARTIM: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    silenceDeadline: float = attrs.field(default=600.0, validator=attrs.validators.gt(0))
    progressDeadline: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    minimumRate: float = attrs.field(default=1024.0, validator=attrs.validators.ge(0))
    writeStallDeadline: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    connectionEventDeadline: float = attrs.field(default=15.0, validator=attrs.validators.gt(0))
    eventDeadline: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    storeDeadline: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    stopDeadline: float = attrs.field(default=30.0, validator=attrs.validators.ge(0))
    maximumAssociations: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    maximumAssociationsPerAddress: int = attrs.field(default=200, validator=attrs.validators.ge(1))
    maximumAssociationsPerAETitle: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    maximumConnectionsBeforeAssociation: int = attrs.field(default=500, validator=attrs.validators.ge(1))
