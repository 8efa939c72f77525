"""
The factory of associations: what they share, all that are up, and how they are stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from dcxtwisted.acceptance import Association
from dcxtwisted.admission import Admission, Admits
from dcxtwisted.association import AssociationProtocol
from dcxtwisted.configuration import Configuration
from dcxtwisted.escaping import escaped
from dcxtwisted.events import ask
from dcxtwisted.interfaces import Answer, IAssociation, IDCXACCEvents, IDIMSEProvider, IObjectInMemory, Outcome
from dcxtwisted.policy import Rule
from dcxtwisted.transports import SMALLEST_READ_SIZE
from dcxtwisted.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcxtwisted.users import Users
from dcxtwisted.wire.messages import Response
from dcxtwisted.wire.negotiation import Negotiated, Supported, TransferSyntaxes
from dcxtwisted.wire.pdu import AssociateRJ

_log = Logger()

# What one peer may take of a reactor turn. Larger is cheaper (256 KiB halve the CPU of 64 KiB), but with 1,000 peers
# sending at once an A-ASSOCIATE-AC then takes 1.6 s (64 KiB: 0.67 s, 16 KiB: 0.09 s): so they share 8 MiB.
_LARGEST_SHARE: Final = 512 * 1024
_ALL_SHARES: Final = 8 * 1024 * 1024

# Bytes alone do not bound a turn: 512 KiB hold 6,500 C-ECHOs, which take 130 ms of CPU, or 37,000 PDVs of two bytes,
# 160 ms. As many PDVs as they hold of 4 KiB take 3 and 2 ms; those of 1 KB objects 7 ms in memory, 12 ms into files.
_BYTES_OF_A_PDV: Final = 4096
_LEAST_PDVS: Final = 4

# What the log says of objects that are kept and not new.
_DUPLICATES: Final = {
    Outcome.IDENTICAL: "identical",
    Outcome.KEPT_BOTH: "beside another",
    Outcome.REPLACED: "replacing another",
}

# SOP classes named in a line of the log.
_MOST_NAMED: Final = 3


@implementer(IProtocolFactory)
class AssociationFactory:
    """
    Makes a protocol for each connection, and knows all that are up.

    :param makeProvider: joins an association that is accepted with what serves its messages.
    :param takeStoredObject: hands over the oldest object in memory that came on an association.
    :param giveUp: called when all associations are aborted: has end what outlives them and may wait for long.
    :ivar associations: every accepted association that is not over.
    :ivar admission: who may come in beside those who are there.
    :ivar rules: who may come in at all: the policy; without any, everyone.
    :ivar users: who confirms users; None for nobody.
    :ivar entities: by AE title, the events of those that are here beside C{configuration.AETitle}.
    :ivar share: what one peer may take of a reactor turn, in bytes.
    :ivar PDVs: the same in PDVs, whatever their size.
    """

    def __init__(
        self,
        configuration: Configuration,
        events: IDCXACCEvents,
        clock: IReactorTime,
        transferSyntaxes: TransferSyntaxes,
        makeProvider: Callable[
            [Negotiated, IAssociation, Callable[[Response], None], Callable[[], None]], IDIMSEProvider
        ],
        takeStoredObject: Callable[[IAssociation], IObjectInMemory | None] = lambda association: None,
        giveUp: Callable[[], object] = lambda: None,
    ) -> None:
        self.configuration = configuration
        self.events = events
        self.clock = clock
        self.makeProvider = makeProvider
        self.takeStoredObject = takeStoredObject
        self._giveUp = giveUp
        self.supported = Supported(
            transferSyntaxes,
            configuration.maximumLength,
            IMPLEMENTATION_CLASS_UID,
            IMPLEMENTATION_VERSION_NAME,
            configuration.operationsWindow,
            configuration.transferSyntaxPreference,
        )
        self.admission: Admits[AssociationProtocol] = Admission(configuration)
        self.rules: Sequence[Rule] = ()
        self.users: Users | None = None
        self.entities: Mapping[str, IDCXACCEvents] = {}
        self.protocols: set[AssociationProtocol] = set()
        self.associations: set[Association] = set()
        self.share = _LARGEST_SHARE
        self.PDVs = _LARGEST_SHARE // _BYTES_OF_A_PDV
        self._receiving = 0
        self._allGone: list[Deferred[None]] = []

    def doStart(self) -> None:
        """Twisted calls this for each port that begins to use the factory."""

    def doStop(self) -> None:
        """Twisted calls this for each port that no longer does."""

    def buildProtocol(self, addr: IAddress | None) -> AssociationProtocol:
        """Twisted calls this for each connection."""
        return AssociationProtocol(self)

    def receivingChanged(self, change: int) -> None:
        """One more, or one less, association is in the middle of a data set, or has sent more than a turn takes."""
        self._receiving += change
        self.share = max(SMALLEST_READ_SIZE, min(_LARGEST_SHARE, _ALL_SHARES // max(1, self._receiving)))
        self.PDVs = max(_LEAST_PDVS, self.share // _BYTES_OF_A_PDV)

    def reconfigure(self, configuration: Configuration) -> None:
        """Go by other limits and deadlines, with the connections that come from now on."""
        self.configuration = self.admission.limits = configuration

    def eventsOf(self, association: IAssociation) -> IDCXACCEvents:
        """Return the events of the AE title that is called."""
        return self.entities.get(association.calledAETitle, self.events)

    def tell(self, event: Callable[..., Answer[object]], *args: object) -> None:
        """Call an event whose answer is ignored; a failure is logged and nothing else."""
        try:
            answer = ask(event, *args)
        except Exception:
            # The application's own code may raise whatever it likes.
            _log.failure("an event failed")
        else:
            if isinstance(answer, Deferred):
                answer.addErrback(lambda failure: _log.failure("an event failed", failure))

    # What the protocols tell

    def connectionMade(self, protocol: AssociationProtocol, host: str) -> None:
        """A connection was made."""
        self.protocols.add(protocol)
        crowded = self.admission.connectionMade(protocol, host)
        if crowded is not None:
            crowded.abortConnection()

    def requestGrew(self, protocol: AssociationProtocol, size: int) -> None:
        """A request is not whole yet, of which so many bytes more have come."""
        crowded = self.admission.requestGrew(protocol, size)
        if crowded is not None:
            crowded.abortConnection()

    def connectionLost(self, protocol: AssociationProtocol, received: int) -> None:
        """A connection is closed, on which so many bytes came."""
        self.protocols.discard(protocol)
        self.admission.connectionLost(protocol)
        if not received:
            self.admission.counts["connections without a byte"] += 1
        self._goneOrEnded()

    def accepted(self, protocol: AssociationProtocol, association: Association) -> None:
        """An association is up."""
        self.associations.add(association)
        self.admission.accepted(protocol, association.calledAETitle)

    def rejected(
        self, protocol: AssociationProtocol, association: Association, rejection: AssociateRJ, why: str
    ) -> None:
        """An association was not let in."""
        self.admission.leave(protocol, isConnected=True)
        self.admission.counts["associations rejected"] += 1
        _log.info(
            "association refused {why}: from {calling} ({host}) to {called}, {result}/{source}/{reason}",
            why=why,
            calling=escaped(association.callingAETitle),
            called=escaped(association.calledAETitle),
            host=association.callingHost,
            result=rejection.result,
            source=rejection.source,
            reason=rejection.reason,
        )

    def associationEnded(self, protocol: AssociationProtocol, association: Association, how: str) -> None:
        """An association is over, and so is all that came of it: tell of it."""
        self.associations.discard(association)
        self.admission.leave(protocol, bool(protocol.connected))
        _log.info(
            "association from {calling} ({host}) to {called} {how} after {seconds:.3f} s: "
            "{stored}, {refused} refused, {received} bytes{quirks}{notAccepted}",
            calling=escaped(association.callingAETitle),
            host=association.callingHost,
            called=escaped(association.calledAETitle),
            how=how,
            seconds=self.clock.seconds() - association.startedAt,
            stored=_stored(association),
            refused=association.objectsRefused,
            received=association.bytesReceived,
            quirks="".join(f"; {quirk}: {count}" for quirk, count in sorted(association.quirks.items())),
            notAccepted=_notAccepted(association.notAccepted),
        )
        if association.ended == "timed out":
            self.tell(self.eventsOf(association).OnTimeout, association)
        self.tell(self.eventsOf(association).OnAssocEnd, association, association.ended)
        self._goneOrEnded()

    def _goneOrEnded(self) -> None:
        if not self.protocols and not self.associations:
            waiting, self._allGone = self._allGone, []
            for deferred in waiting:
                deferred.callback(None)

    def stop(self, deadline: float) -> Deferred[None]:
        """
        End all associations: what is being received is finished within ``deadline`` seconds, the rest aborted.

        :return: fires when no connection is left and every OnAssocEnd was called.
        """
        done: Deferred[None] = Deferred()
        self._allGone.append(done)
        late = self.clock.callLater(deadline, self.abortAll)

        def ended(ignored: None) -> None:
            if late.active():
                late.cancel()

        done.addCallback(ended)
        for protocol in list(self.protocols):
            protocol.stop()
        self._goneOrEnded()
        return done

    def abortAll(self) -> None:
        """Abort every association and close every connection, now."""
        for protocol in list(self.protocols):
            protocol.abort()
            protocol.abortConnection()
        self._giveUp()


def _stored(association: Association) -> str:
    """Return what the log says of the objects that were acknowledged, in some detail where not all are new."""
    duplicates = association.duplicates
    dropped = duplicates[Outcome.KEPT_FIRST]
    stored = association.objectsStored - dropped
    told = f"{stored} stored"
    kinds = [f"{duplicates[outcome]} {words}" for outcome, words in _DUPLICATES.items() if duplicates[outcome]]
    if kinds:
        new = association.objectsStored - duplicates.total()
        told += f" ({', '.join([f'{new} new', *kinds])})"
    return told + (f", {dropped} acknowledged but not kept" if dropped else "")


def _notAccepted(SOPClasses: Sequence[str]) -> str:
    """Return what the log says of the contexts that a peer cannot send on: most often why it sent nothing."""
    if not SOPClasses:
        return ""
    named = ", ".join(map(escaped, SOPClasses[:_MOST_NAMED]))
    more = len(SOPClasses) - _MOST_NAMED
    return f"; contexts not accepted: {named}" + (f" and {more} more" if more > 0 else "")
