"""
What a store puts before the data set it was sent.
"""

from __future__ import annotations

from dcxtwisted.dataset import Head
from dcxtwisted.interfaces import IStoreRequest
from dcxtwisted.part10 import filePreamble
from dcxtwisted.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def leadOf(request: IStoreRequest, head: Head | None = None) -> bytes:
    """
    Return preamble and file meta information for an object: what was negotiated, and its SOP UIDs.

    :param head: names the object, where its UIDs are not the command's; None where the command does.
    """
    association = request.association
    named = request if head is None else head
    return filePreamble(
        named.SOPClassUID,
        named.SOPInstanceUID,
        request.transferSyntaxUID,
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
        association.callingAETitle,
        association.calledAETitle,
    )


def isAsAnnounced(head: Head, request: IStoreRequest) -> bool:
    """True where the UIDs of a data set are those of the command, and so ``leadOf`` the request holds for it."""
    return head.SOPInstanceUID == request.SOPInstanceUID and head.SOPClassUID == request.SOPClassUID
