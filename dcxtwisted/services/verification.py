"""The verification service: C-ECHO (PS3.4 Annex A, PS3.7 9.1.5)."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.deadlines import Deadline
from dcxtwisted.errors import DeadlinePassed
from dcxtwisted.events import ask
from dcxtwisted.interfaces import IDCXACCEvents, IDIMSEService, IExchange
from dcxtwisted.statuses import SUCCESS
from dcxtwisted.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation
from dcxtwisted.wire.messages import C_ECHO_RQ, Request

_log = Logger(__name__)

# A C-ECHO has no data set, so the syntax has no meaning; the three native ones are what peers propose.
_TRANSFER_SYNTAXES: Final = frozenset({IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN})


@implementer(IDIMSEService)
class VerificationService:
    """Answers every C-ECHO, on whatever accepted context it comes, with 0000."""

    commandFields = frozenset({C_ECHO_RQ})

    def __init__(self, events: IDCXACCEvents, eventDeadline: Deadline) -> None:
        self._events = events
        self._deadline = eventDeadline

    def supports(
        self, abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None = None
    ) -> Container[str] | None:
        """See ``IDIMSEService.supports``."""
        return _TRANSFER_SYNTAXES if abstractSyntax == VERIFICATION else None

    def requestReceived(self, request: Request, exchange: IExchange) -> None:
        """See ``IDIMSEService.requestReceived``."""
        response = request.response(SUCCESS)
        try:
            answer = ask(self._events.OnEcho, exchange.association)
        except Exception:
            _log.failure("OnEcho failed")
        else:
            if isinstance(answer, Deferred):
                self._deadline.of(answer, "OnEcho").addErrback(_failed).addCallback(
                    lambda ignored: exchange.respond(response)
                )
                return
        exchange.respond(response)


def _failed(failure: Failure) -> None:
    if failure.check(DeadlinePassed):
        _log.error("OnEcho did not answer {inTime}", inTime=failure.value)
    else:
        _log.failure("OnEcho failed", failure)
