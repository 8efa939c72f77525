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
        to have several outstanding (PS3.7 D.3.3.3); 1 has one follow the other. Each object in progress holds a file
        descriptor: an association may have as many, and one of its own.
    :ivar ARTIM: seconds for a whole A-ASSOCIATE-RQ to arrive, and for a peer to close after the end (PS3.8 9.1.5).
    :ivar silenceDeadline: seconds without a byte, between messages, after which an association is aborted.
    :ivar progressDeadline: seconds without a byte, inside a message, after which an association is aborted.
    :ivar stopDeadline: seconds that a stop leaves to the objects in flight.
    """

    AETitle: str = attrs.field(default=DEFAULT_AE_TITLE, validator=_AETitle)
    checkCalledAETitle: bool = False
    maximumLength: int = attrs.field(default=131072, validator=_maximumLength)
    operationsWindow: int = attrs.field(default=8, validator=[attrs.validators.ge(1), attrs.validators.le(0xFFFF)])
    ARTIM: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    silenceDeadline: float = attrs.field(default=600.0, validator=attrs.validators.gt(0))
    progressDeadline: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    stopDeadline: float = attrs.field(default=30.0, validator=attrs.validators.ge(0))
