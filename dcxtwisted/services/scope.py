"""
What the storage service takes: the storage SOP classes and transfer syntaxes of the standard, and what else it is told.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from dcxtwisted.uids import (
    REFERENCED_TRANSFER_SYNTAXES,
    STORAGE_SERVICE_CLASS,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    isKnown,
    isUID,
)
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation

# SMPTE ST 2110: video and audio in real time, which is never sent by C-STORE, whatever is added to it.
_REAL_TIME_ROOT: Final = "1.2.840.10008.1.2.7."


class StorageScope:
    """
    What is storage here, and which transfer syntaxes it may come in.

    :param acceptUnknown: take SOP classes and transfer syntaxes that are private, or newer than the tables, too; never
        one that the standard has for something else.
    :param acceptReferencedPixels: take the transfer syntaxes of objects whose pixels stay elsewhere (JPIP) too.
    :ivar transferSyntaxes: those taken, for any storage class.
    """

    def __init__(self, acceptUnknown: bool = False, acceptReferencedPixels: bool = False) -> None:
        self._acceptUnknown = acceptUnknown
        listed: Container[str] = TRANSFER_SYNTAXES
        if acceptReferencedPixels:
            listed = frozenset([*TRANSFER_SYNTAXES, *REFERENCED_TRANSFER_SYNTAXES])
        self.transferSyntaxes: Container[str] = _UnlistedToo(listed) if acceptUnknown else listed

    def isStorage(self, SOPClassUID: str, common: SOPClassCommonExtendedNegotiation | None = None) -> bool:
        """
        True where objects of this class are taken.

        :param common: what the peer says of the class (PS3.7 D.3.3.6); heeded only where the class is unknown.
        """
        if SOPClassUID in STORAGE_SOP_CLASSES:
            return True
        if not _isUnknown(SOPClassUID):
            return False
        return self._acceptUnknown or (common is not None and _isSaidToBeStorage(common))


def _isUnknown(uid: str) -> bool:
    # What is no UID names nothing: it does not come into the file meta information.
    return not isKnown(uid) and isUID(uid)


def _isSaidToBeStorage(common: SOPClassCommonExtendedNegotiation) -> bool:
    return common.serviceClassUID == STORAGE_SERVICE_CLASS or any(
        general in STORAGE_SOP_CLASSES for general in common.relatedGeneralSOPClassUIDs
    )


class _UnlistedToo(Container[str]):
    """The transfer syntaxes listed, and every other of which the standard, as known here, says nothing."""

    def __init__(self, listed: Container[str]) -> None:
        self._listed = listed

    def __contains__(self, uid: object) -> bool:
        if uid in self._listed:
            return True
        return isinstance(uid, str) and _isUnknown(uid) and not uid.startswith(_REAL_TIME_ROOT)
