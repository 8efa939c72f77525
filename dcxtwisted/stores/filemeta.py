"""
What a store puts before the data set it was sent.
"""

from __future__ import annotations

from dcxtwisted.interfaces import IStoreRequest
from dcxtwisted.part10 import filePreamble
from dcxtwisted.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def leadOf(request: IStoreRequest) -> bytes:
    """Return preamble and file meta information for an object: what was negotiated and the command's UIDs."""
    association = request.association
    return filePreamble(
        request.SOPClassUID,
        request.SOPInstanceUID,
        request.transferSyntaxUID,
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
        association.callingAETitle,
        association.calledAETitle,
    )
