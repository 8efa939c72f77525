"""
Every exception of this package. An error says whose fault it is and what the peer is told.
"""

from __future__ import annotations

from operator import index


class DICOMError(Exception):
    """The base of every error that this package raises by name."""


class ProtocolError(DICOMError):
    """A rule of the upper layer or of DIMSE was broken."""


class LocalProtocolError(ProtocolError):
    """This side asked for something its state does not allow: a mistake of the caller, nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """
    The peer broke the protocol; the association is to be aborted with these values.

    :ivar abortSource: 0 (service user) or 2 (service provider), PS3.8 9.3.8.
    :ivar abortReason: the reason of PS3.8 table 9-26; 0 where none applies.
    """

    def __init__(self, message: str, abortReason: int = 6, abortSource: int = 2) -> None:
        super().__init__(message)
        self.abortSource = abortSource
        self.abortReason = abortReason


class AssociationRejected(DICOMError):
    """
    Raised by an application in OnConnection to refuse an association with values of its choice.

    The values are those of PS3.8 table 9-21; the default is "rejected permanently, service user, no reason given".
    """

    def __init__(self, result: int = 1, source: int = 1, reason: int = 1) -> None:
        if result not in (1, 2) or source not in (1, 2, 3) or not 0 <= reason <= 255:
            raise ValueError(f"no such A-ASSOCIATE-RJ: {result}/{source}/{reason}")
        super().__init__(f"association rejected {result}/{source}/{reason}")
        self.result = result
        self.source = source
        self.reason = reason


class DeadlinePassed(DICOMError):
    """What was waited for did not come in time; the text is what time it had, as "within 60 s"."""


class SecurityError(DICOMError, ValueError):
    """A certificate, a key or a list cannot be used, or not together; the text says which, and why."""


class StoreRefused(DICOMError):
    """
    An object is not stored; the sender gets this status (PS3.4 table B.2-1).

    Raised by applications (from OnStoreSetup or OnStoreDone), by stores and by participants.

    :ivar status: the status of the C-STORE response, 16 bit; never a success.
    :ivar comment: the Error Comment (0000,0902); cut to 64 characters when sent, never patient data.
    :ivar offendingElements: tags for Offending Element (0000,0901), as 32-bit integers.
    """

    def __init__(self, status: int, comment: str = "", offendingElements: tuple[int, ...] = ()) -> None:
        # What an application gives is made what it has to be, or raises, here and at once: a list of tags, or an error
        # in place of its text, would else fail on the way to the sender, which then gets no answer at all.
        self.status = index(status)
        self.comment = "" if comment is None else str(comment)
        self.offendingElements = tuple(map(index, offendingElements or ()))
        if not 0 < self.status <= 0xFFFF:
            raise ValueError(f"not a failure status: {status!r}")
        for tag in self.offendingElements:
            if not 0 <= tag <= 0xFFFFFFFF:
                raise ValueError(f"not a tag: {tag!r}")
        super().__init__(f"refused with status {self.status:04X}" + (f": {self.comment}" if self.comment else ""))


class DuplicateRefused(StoreRefused):
    """Another object has the SOP Instance UID, and stays: what the setting ``duplicates`` says with ``refuse``."""
