"""
What a sender is told where its object is not stored, and what of it is logged.
"""

from __future__ import annotations

from errno import errorcode
from typing import Final

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from dcxtwisted.errors import DeadlinePassed, StoreRefused
from dcxtwisted.escaping import escaped
from dcxtwisted.interfaces import IAssociation, IExchange
from dcxtwisted.statuses import OUT_OF_RESOURCES, keepsObject
from dcxtwisted.wire.messages import CStoreRequest

_log = Logger(__name__)

#: What no C-STORE is answered with: "more responses follow", for which a peer would wait for ever, and the warnings of
#: other services (PS3.7 Annex C), which a peer may take for a success while the object is not kept.
UNFIT_STATUSES: Final = frozenset({0xFF00, 0xFF01, 0x0001, 0x0107, 0x0116})

#: The comment of a status that the application has forced on a response.
FORCED: Final = "as the listener was told to answer"


class NextStatus:
    """
    What the next response to a C-STORE is to say in place of what it would.

    :ivar value: the status, where that makes no success of a failure; None for its own.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | None = None

    def take(self, association: IAssociation) -> int | None:
        """Return the status, once; None for none, and where nobody will be told."""
        if association.ended:
            return None
        status, self.value = self.value, None
        return status


def refuse(command: CStoreRequest, exchange: IExchange, refusal: StoreRefused) -> None:
    """Answer with a refusal; whatever data still comes is drained."""
    association = exchange.association
    association.objectsRefused += 1
    _log.info(
        "object {instance} refused with {status:04X} ({comment}) for {association}",
        instance=escaped(command.SOPInstanceUID),
        status=refusal.status,
        comment=ascii(refusal.comment),
        association=association,
    )
    exchange.respond(command.response(refusal.status, refusal.comment, refusal.offendingElements))


def withoutFrames(refusal: StoreRefused) -> StoreRefused:
    """Return a refusal that can be kept: the frames of its tracebacks hold views of what came, and whoever keeps it."""
    chain: list[BaseException] = [refusal]
    for error in chain:
        error.__traceback__ = None
        chain += [each for each in (error.__cause__, error.__context__) if each is not None and each not in chain]
    return refusal


def refusalFrom(failure: Failure, what: str) -> StoreRefused:
    """Return what a sender is told of a failure; what nobody foresaw is logged."""
    error = failure.value
    if isinstance(error, StoreRefused):
        if isinstance(error.__cause__, OSError):
            # Its text has paths, and with them perhaps patient data: the number says enough.
            # Where a store made it, any two things may have been given to it, such as a text and a path.
            number = getattr(error.__cause__, "errno", None)
            code = errorcode.get(number, "OSError") if isinstance(number, int) else "OSError"
            _log.error("{what}: {comment} ({code})", what=what, comment=ascii(error.comment), code=code)
        if not keepsObject(error.status) and error.status not in UNFIT_STATUSES:
            return withoutFrames(error)
        # The sender would take it for a success, and nothing is kept.
        _log.error("{what}: status {status:04X}, which is no refusal", what=what, status=error.status)
    elif isinstance(error, DeadlinePassed):
        _log.error("{what}: no answer {inTime}", what=what, inTime=error)
        return StoreRefused(OUT_OF_RESOURCES, "took too long")
    elif isinstance(error, CancelledError):
        return StoreRefused(OUT_OF_RESOURCES, "cancelled")
    else:
        _log.failure("{what} failed", failure, what=what)
    return StoreRefused(OUT_OF_RESOURCES, "internal error")
