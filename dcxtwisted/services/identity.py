"""
Whether what was received may be acknowledged: identity and wholeness, and what of them a sender is let off.
"""

from __future__ import annotations

from typing import Final

import attrs

from dcxtwisted.checks import Check
from dcxtwisted.dataset import Head, Wholeness
from dcxtwisted.errors import StoreRefused
from dcxtwisted.services.requests import LONGEST_UID, StoreRequest, isSafeButForLength, isSafeInstanceUID
from dcxtwisted.statuses import CANNOT_UNDERSTAND, DATA_SET_DOES_NOT_MATCH_SOP_CLASS

_SOP_CLASS_UID_TAG: Final = 0x00080016
_SOP_INSTANCE_UID_TAG: Final = 0x00080018


def toleratesInstance(request: StoreRequest) -> bool:
    """True where the command's SOP Instance UID is malformed, but may be so for this sender."""
    instanceUID = request.SOPInstanceUID
    isOnlyLong = len(instanceUID) > LONGEST_UID and isSafeButForLength(instanceUID)
    return (isOnlyLong and request.tolerates(Check.UID_LENGTH)) or request.tolerates(Check.INSTANCE_UID)


def checked(head: Head, request: StoreRequest) -> Head:
    """
    Return the head of a data set that may be acknowledged (PS3.4 B.2.3), with both its SOP UIDs.

    :raises StoreRefused: it may not.
    """
    if head.wholeness is Wholeness.BROKEN:
        head = _broken(head, request)
    if head.SOPClassUID != request.SOPClassUID:
        _differs(head, request, "SOP class is not the command's", _SOP_CLASS_UID_TAG)
    elif head.SOPInstanceUID != request.SOPInstanceUID:
        _differs(head, request, "SOP instance is not the command's", _SOP_INSTANCE_UID_TAG)
    return head


def _broken(head: Head, request: StoreRequest) -> Head:
    # Where there is not a byte, there is nothing to keep.
    if not head.size or not request.tolerates(Check.WHOLENESS):
        raise StoreRefused(CANNOT_UNDERSTAND, head.defect)
    SOPInstanceUID = head.SOPInstanceUID or request.SOPInstanceUID
    if not SOPInstanceUID:
        raise StoreRefused(CANNOT_UNDERSTAND, head.defect)
    return attrs.evolve(head, SOPClassUID=head.SOPClassUID or request.SOPClassUID, SOPInstanceUID=SOPInstanceUID)


def _differs(head: Head, request: StoreRequest, comment: str, tag: int) -> None:
    """Refuse UIDs other than the command's, unless that is relaxed, and they could stand in a command."""
    if not request.SOPInstanceUID and head.SOPClassUID == request.SOPClassUID:
        return  # the command names no instance, which is relaxed already
    if not _couldBeNamed(head, request) or not request.tolerates(Check.IDENTITY):
        raise StoreRefused(DATA_SET_DOES_NOT_MATCH_SOP_CLASS, comment, (tag,))


def _couldBeNamed(head: Head, request: StoreRequest) -> bool:
    if not isSafeInstanceUID(head.SOPClassUID):
        return False
    if isSafeInstanceUID(head.SOPInstanceUID) or Check.INSTANCE_UID in request.relaxed:
        return True
    return Check.UID_LENGTH in request.relaxed and isSafeButForLength(head.SOPInstanceUID)
