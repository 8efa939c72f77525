"""
Every zope interface of the package: what an application provides, and what the parts provide to each other.

A capital ``On`` always means "the library calls you". Wherever an answer is awaited, a plain value, a Deferred and a
coroutine (awaiting Deferreds) serve alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Coroutine, Mapping
from enum import Enum
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from zope.interface import Attribute, Interface

from dcxtwisted.dataset import Head
from dcxtwisted.errors import StoreRefused
from dcxtwisted.wire.framing import PDVReceived
from dcxtwisted.wire.items import SOPClassCommonExtendedNegotiation, UserIdentityRequest
from dcxtwisted.wire.messages import Request, Response
from dcxtwisted.wire.negotiation import AcceptedContext

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_T = TypeVar("_T")

#: What an event may answer with.
Answer: TypeAlias = _T | Deferred[_T] | Coroutine[Any, Any, _T]


class InMemory(Enum):
    """The type of ``IN_MEMORY``."""

    IN_MEMORY = "in memory"


#: Answered by OnStoreSetup: keep this object in memory until TakeStoredObject takes it.
IN_MEMORY: Final[Literal[InMemory.IN_MEMORY]] = InMemory.IN_MEMORY


class Outcome(Enum):
    """What became of a stored object."""

    NEW = "new"
    IDENTICAL = "identical"  #: the same transfer syntax and data-set bytes already stood there
    KEPT_BOTH = "keptBoth"  #: other bytes stood under the name; this object got a name of its own
    REPLACED = "replaced"  #: other bytes stood under the name; this object took it over
    KEPT_FIRST = "keptFirst"  #: other bytes stand under the name and stay; this object's were dropped


@attrs.frozen
class StoredObject:
    """
    An object as its store keeps it.

    :ivar filename: the absolute path, '' in memory; of KEPT_FIRST, where the other one stands.
    :ivar size: bytes of the data set, as received.
    """

    filename: str
    size: int
    head: Head
    outcome: Outcome


@attrs.frozen
class TLSFacts:
    """
    What the TLS handshake of a connection led to.

    :ivar version: 'TLSv1.2' or 'TLSv1.3'.
    :ivar cipherSuite: as OpenSSL calls it.
    :ivar peerSubject: the subject of the peer's certificate (RFC 4514); '' where it showed none.
    :ivar peerNames: its subject alternative names, as 'DNS:ct.example', 'IP:192.0.2.1', 'URI:...', 'email:...'.
    :ivar peerThumbprint: its SHA-256 thumbprint, 64 hexadecimal digits in lower case; '' where the peer showed none.
    """

    version: str
    cipherSuite: str
    peerSubject: str
    peerNames: tuple[str, ...]
    peerThumbprint: str


class IDCXACCEvents(Interface):
    """
    What happens on a listener, told to an application that decides (the MODALIZER SDK's IDCXACCEvents).

    Names, order and spelling of the parameters are the SDK's; each of its ``ref`` parameters became the answer, and
    each event has one trailing value that the SDK lacks. An event that raises never ends the listener: the traceback
    is logged once and the peer is told what the event's docstring says.
    """

    def OnConnection(
        calling_ae_title: str, called_ae_title: str, calling_host: str, association: IAssociation
    ) -> Answer[bool | None]:
        """
        An A-ASSOCIATE-RQ was read; nothing was answered yet.

        Only True accepts. False and None reject (None is logged); ``AssociationRejected`` rejects with values of its
        own. An event that raises something else rejects 2/1/1.

        :param association: ``IAssociation``; contexts as they would be accepted.
        """

    def OnStoreSetup(
        filename: str, request: IStoreRequest
    ) -> Answer[str | PathLike[str] | IStoreSink | InMemory | None]:
        """
        A C-STORE command was read; its data set was not.

        None or '' stores the acceptor's own way; a path, as text or ``os.PathLike``, stores there (its directories are
        made; beside it, as ``~1``, where another object stands, unless ``Configuration.duplicates`` says otherwise); an
        ``IStoreSink`` receives the bytes itself; IN_MEMORY keeps the object for TakeStoredObject.
        ``StoreRefused`` refuses with its status; anything else raised refuses with A700. Refused data is drained, or
        the association aborted where the configuration has ``abortOnRefusal``.

        :param filename: ``{store}/{SOPInstanceUID}.dcm``: all that a command can tell; no path but this one, whatever
            the UID is.
        :param request: ``IStoreRequest``; ``request.tap(callable)`` lets the bytes be watched.
        """

    def OnStoreDone(filename: str, storage_status: bool, request: IStoreRequest) -> Answer[bool | int | None]:
        """
        An object was published, or its reception failed; no response was sent yet.

        Called exactly once for each object that OnStoreSetup let in, whatever becomes of it: nothing could be opened or
        written, the data set was cut or not the one announced, a participant refused, the association ended. It is not
        called where OnStoreSetup itself refused or raised, or its answer had not come when its deadline or the end of
        the association did.

        Where the peer negotiated to have several operations outstanding, OnStoreSetup of the next objects may come
        before, and objects are done in whatever order.

        True and None answer 0000, False answers C000, an int or ``StoreRefused`` answers that status. 0000 and Bxxx
        keep the object, everything else removes it; what raises something else answers A700.

        :param filename: where the object stands, '' in memory or where nothing stands.
        :param storage_status: False where reception failed; the answer is then ignored.
        :param request: ``IStoreRequest``; ``request.stored`` tells the rest, and ``request.refusal`` what failed.
        """

    def OnTimeout(association: IAssociation) -> Answer[object]:
        """
        A deadline ended the association, and ``OnAssocEnd`` follows; or a ``WaitForCommand`` ran out.

        ``association.ended`` is '' in the second case: it is still up. The answer is ignored, and not waited for.
        """

    def OnAssocEnd(association: IAssociation, reason: str) -> Answer[object]:
        """
        An accepted association is over: called once for each, after every other event of it.

        The answer is ignored, and not waited for.

        :param reason: one of 'released', 'aborted', 'lost', 'timed out'.
        """

    def OnEcho(association: IAssociation) -> Answer[object]:
        """A C-ECHO-RQ was read; 0000 is sent when the answer has come, whatever it is."""


class IDCXACC(Interface):
    """
    A listener that an application waits on (the MODALIZER SDK's DCXACC), one command at a time.

    Names, order and spelling are the SDK's, the one exception to camelCase. What blocks there returns a Deferred here.
    """

    StoreDirectory: str = Attribute(
        "The absolute path of the root of the file store. It can be set until the store is opened: by the first "
        "WaitForConnection that listens, or by startService."
    )
    EnableInMemoryStorageSCP: bool = Attribute(
        "Whether None, as OnStoreSetup's answer, keeps an object in memory; for objects announced from now on."
    )
    SecurityContext: object = Attribute(
        "A ``SecurityContext``: the ports waited on speak TLS; None, as at first, for ports that do not. It can be set "
        "while nothing is listened on."
    )
    NextStorageResponseStatus: int | None = Attribute(
        "The status that the next C-STORE response has in place of its own, on whatever association, for tests of "
        "senders; None, as after that response, for its own. Set in OnStoreDone it is for the object being decided on. "
        "The object is removed where it is a failure. A failure of the object's own is never made a success or a "
        "warning. A C-STORE whose context was not accepted, or whose message ID is outstanding, is refused as ever and "
        "does not use it up."
    )

    def WaitForConnection(
        ae_title: str, port: IStreamServerEndpoint | int | str, timeout: float | None = None
    ) -> Deferred[IAssociation | None]:
        """
        Wait for the next association on a port, which is listened on from the first call on.

        Fires with the ``IAssociation``, which is accepted already; with None when C{timeout} seconds have passed, or
        listening was stopped. Fails with CannotListenError, and with RuntimeError where C{startService} listens on the
        port: it is push or pull, never both.

        Associations are answered as they arrive, and queue; where ``configuration.maximumAssociationsWaiting`` of them
        do, more are rejected (2/3/2). Of several waits the first is served first. To cancel one loses no association.

        :param ae_title: how the listener calls itself on this port from now on; '' for ``configuration.AETitle``. Peers
            that call another are rejected only where ``configuration.checkCalledAETitle`` says so.
        :param port: a port number, a Twisted endpoint string, or an endpoint.
        :param timeout: None waits for ever.
        """

    def WaitForCommand(timeout: float | None = None) -> Deferred[bool]:
        """As ``IAssociation.WaitForCommand``, of the association that WaitForConnection handed out last."""

    def TakeStoredObject() -> IObjectInMemory | None:
        """Hand over the oldest object in memory, of whatever association, and forget it; None where there is none."""

    def StopListener() -> Deferred[None]:
        """
        Stop listening, on every port; what is up goes on, what queues can still be waited for.

        Fires when the ports are free. Waits for connections fire with None.
        """

    def AbortActiveAssociations() -> None:
        """Send A-ABORT on every association and close."""


class IAssociation(Interface):
    """One association as an application sees it."""

    callingAETitle: str = Attribute("The calling AE title without padding, else as sent: escape to show it.")
    calledAETitle: str = Attribute("The called AE title, likewise.")
    peerAddress: IAddress = Attribute("The Twisted address of the peer, read when A-ASSOCIATE-RQ arrived.")
    localAddress: IAddress = Attribute("The Twisted address the peer connected to.")
    callingHost: str = Attribute("The peer's host as text; an IPv4 peer of an IPv6 socket in IPv4 form.")
    security: TLSFacts | None = Attribute("``TLSFacts`` of its connection, None where that is not TLS.")
    acceptedContexts: Mapping[int, AcceptedContext] = Attribute(
        "Mapping of presentation context ID to AcceptedContext."
    )
    implementationClassUID: str = Attribute("The peer's implementation class UID, '' where it gave none.")
    implementationVersionName: str = Attribute("The peer's implementation version name, '' where it gave none.")
    userIdentity: UserIdentityRequest | None = Attribute(
        "The peer's UserIdentityRequest, of type 1 to 5 (PS3.7 D.3.3.7), or None."
    )
    user: str = Attribute("The user whom a checker has confirmed (see ``users.Users``), '' where none was asked.")
    maximumLengthToSend: int = Attribute("The largest P-DATA-TF body the peer takes, in bytes; 0 for no limit.")
    operationsWindow: int = Attribute("How many operations the peer may have outstanding.")
    startedAt: float = Attribute("Seconds of the listener's clock when the request was read.")
    objectsStored: int = Attribute("C-STORE requests answered with 0000 or Bxxx.")
    duplicates: Counter[Outcome] = Attribute(
        "Of these, what became of those that were not new; of ``Outcome.KEPT_FIRST`` nothing is kept."
    )
    objectsRefused: int = Attribute("C-STORE requests answered otherwise.")
    bytesReceived: int = Attribute("Bytes of data sets received.")
    quirks: Counter[str] = Attribute("What was off but tolerated, counted.")
    ended: str = Attribute("'' while it is up, then the reason OnAssocEnd was or will be given.")

    def abort() -> None:
        """Send A-ABORT (source 0) and close; nothing happens where the association is over."""

    def WaitForCommand(timeout: float | None = None) -> Deferred[bool]:
        """
        Let one DIMSE command be served: from its first byte to its response, with the events that belong to it.

        Fires with True then; with False when the association is over, for whatever reason, after OnAssocEnd; and with
        False when C{timeout} seconds have passed and no command has begun, after OnTimeout: the association is still
        up then, which ``ended`` tells. Between the calls the peer is held back by not reading, and only by that; it is
        aborted where nobody has waited for ``configuration.silenceDeadline``. That it releases, aborts or is gone is
        seen all the same, unless it has sent a command before that.

        Fails with RuntimeError where it is waited for already, and where nobody has to wait: on the ports that
        C{startService} listens on. Where it is cancelled, a command that has begun is served all the same.

        :param timeout: None waits for ever.
        """

    def TakeStoredObject() -> IObjectInMemory | None:
        """
        Hand over the oldest object in memory that came on this association, and forget it; None where there is none.

        One can be taken from OnStoreDone on (participants are asked before it, and may take it too), and when the
        association is over. What OnStoreDone refuses is gone, unless it was taken before: then it is its taker's.
        """


class IObjectInMemory(Interface):
    """
    An object that was received into memory: bytes that can only be read, a whole Part 10 file, as long as it is held.

    ``len`` and ``bytes`` take it as it is. ``memoryview``, and all else that takes what is bytes-like, does so from
    Python 3.12 on; ``data`` serves in 3.11 too.
    """

    data: memoryview = Attribute("The file, read-only; not copied. A large one may be in a mapped file.")
    SOPClassUID: str = Attribute("SOP Class UID of the data set, padding removed.")
    SOPInstanceUID: str = Attribute(
        "SOP Instance UID of the data set, likewise; safe in a path, except where that check is relaxed for the sender."
    )
    transferSyntaxUID: str = Attribute("The transfer syntax of the data set.")
    messageID: int = Attribute("Message ID of the command.")
    callingAETitle: str = Attribute("As ``IAssociation.callingAETitle``.")
    calledAETitle: str = Attribute("As ``IAssociation.calledAETitle``.")
    callingHost: str = Attribute("As ``IAssociation.callingHost``.")
    association: IAssociation = Attribute("``IAssociation`` it came on.")
    head: Head = Attribute("dataset.Head with the attributes found.")
    receivedAt: float = Attribute("Seconds of the listener's clock when it was whole, as ``IAssociation.startedAt``.")

    def __len__() -> int:
        """Return how many bytes the file has."""

    def __bytes__() -> bytes:
        """Return the file."""

    def dataset() -> FileDataset:
        """Return it as pydicom reads it, with its file meta information."""


class IStoreRequest(Interface):
    """One C-STORE request as events and stores see it."""

    SOPClassUID: str = Attribute("Affected SOP Class UID of the command, padding removed.")
    SOPInstanceUID: str = Attribute(
        "Affected SOP Instance UID of the command, padding removed; safe in a path, except where that check is relaxed "
        "for the sender: then it may be anything, even ''."
    )
    transferSyntaxUID: str = Attribute("The transfer syntax the data set arrives in.")
    messageID: int = Attribute("Message ID of the command.")
    priority: int = Attribute("Priority of the command; 0 where it gave none.")
    moveOriginatorAETitle: str = Attribute("Move Originator AE title, '' where the command gave none.")
    moveOriginatorMessageID: int | None = Attribute("Move Originator Message ID, None where the command gave none.")
    association: IAssociation = Attribute("``IAssociation`` it came on.")
    head: Head | None = Attribute("dataset.Head with the attributes found, once the data set has passed; None before.")
    stored: StoredObject | None = Attribute("The object once it is under its name; None before, and on failure.")
    refusal: StoreRefused | None = Attribute(
        "Why the object is not stored: StoreRefused with the ``status`` and the ``comment`` that the sender is told, "
        "where it is still there (and no other status was forced); ``DuplicateRefused`` where another object stays. "
        "None before, while nothing is wrong, and where OnStoreSetup itself refused."
    )

    def tap(watcher: Callable[[memoryview], object]) -> None:
        """
        Call ``watcher(view)`` with each piece of the data set as it passes, in order, even where it is only drained.

        The view is valid during the call only; a slice of it lives on, and with it all that came in the same chunk. A
        watcher that raises, or keeps the view from being released, is dropped, with a traceback in the log. It runs
        where everything else does: what takes long is to be done elsewhere.
        """


class IStore(Interface):
    """Where objects go."""

    def open(request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        """
        Return an ``IStoreSink`` for one object, or a Deferred of one. Raise or fail with StoreRefused to refuse.

        The Deferred is cancelled where it takes too long, or the association is over: what is opened all the same is
        then the store's to abort.

        :param request: ``IStoreRequest``.
        """


class IFileStore(IStore):
    """A store whose objects are files: the one an application's own paths go to."""

    def openAt(filename: str, request: IStoreRequest) -> IStoreSink | Deferred[IStoreSink]:
        """As ``open``, but the object is to stand at ``filename``, where no other stands; its directories are made."""


class IStoreSink(Interface):
    """
    Takes one object and makes it durable.

    ``write*``, then ``finish``, then ``keep``; ``abort`` may come at any time before ``keep``.
    """

    def write(view: memoryview) -> Deferred[None] | None:
        """
        Take the next bytes of the data set, exactly as received.

        The view is valid during the call only. Returns None, or a Deferred until which nothing more is written; it is
        cancelled where that takes too long, or the association is over. ``abort`` follows then.
        Raises StoreRefused (or OSError, which is answered A700).
        """

    def finish(head: Head) -> StoredObject | Deferred[StoredObject]:
        """
        Make the object durable and give it its name; return the ``StoredObject``, or a Deferred of it.

        Called once, when the data set is complete and checked. Where a check is relaxed for the sender, C{head} may be
        of a broken data set, or name another object than the command: what is stored is then named by C{head}.

        :param head: dataset.Head, with both SOP UIDs.
        """

    def keep() -> None:
        """The object is acknowledged: let go of everything held for a possible ``abort``."""

    def abort() -> Deferred[None]:
        """Remove what this request made and nothing else; return a Deferred that fires when that is done."""


class IStoreParticipant(Interface):
    """Runs between the store and OnStoreDone, in the listed order."""

    def stored(storedObject: StoredObject, request: IStoreRequest) -> Deferred[None] | None:
        """
        An object is durable. Return None or a Deferred; raise or fail with StoreRefused to have it removed.

        :param storedObject: as the sink's ``finish`` gave it.
        """


class IDIMSEService(Interface):
    """One DIMSE service. A C-STORE, a C-ECHO and a C-FIND differ only in what they do with request and exchange."""

    commandFields: frozenset[int] = Attribute("The command fields of the requests it serves, a frozenset.")

    def supports(abstractSyntax: str, common: SOPClassCommonExtendedNegotiation | None = None) -> Container[str] | None:
        """
        Return the transfer syntaxes (a container of UIDs) it takes for an abstract syntax, or None.

        :param common: what the peer says of the abstract syntax, where it does: a hint for one that is unknown here.
        """

    def requestReceived(
        request: Request, exchange: IExchange
    ) -> IDataSetReceiver | Deferred[IDataSetReceiver | None] | None:
        """
        Serve one request; answer through ``exchange``.

        Returns what takes the data set: an ``IDataSetReceiver``, None to have it drained, or a Deferred of either,
        until which none of the data set is delivered.

        :param request: wire.messages.Request.
        :param exchange: ``IExchange``.
        """


class IExchange(Interface):
    """What a service answers through; one for each request."""

    association: IAssociation = Attribute("``IAssociation``.")
    context: AcceptedContext = Attribute("AcceptedContext of the request.")

    def respond(response: Response) -> None:
        """
        Send a response. A final one ends the exchange and leaves only when the request's data set has passed.

        Where the association is over it is dropped: nobody is there to be told.
        """


class IDataSetReceiver(Interface):
    """Takes the data set of one message."""

    def dataReceived(view: memoryview) -> Deferred[None] | None:
        """Take a piece, valid during the call only. Returns None, or a Deferred until which no more is delivered."""

    def dataCompleted() -> Deferred[object] | None:
        """
        The last piece has passed.

        May return a Deferred of when the request has been answered: should it fail, or this call, that is logged and
        the request answered with A700.
        """

    def dataLost() -> Deferred[object] | None:
        """As C{dataCompleted}, where the association ended inside the data set: nothing more comes, nobody is told."""


class IDIMSEProvider(Interface):
    """What an association hands its PDVs to."""

    holding: bool = Attribute("True while a PDV must not be given: it is kept in hand and nothing more is read.")
    answering: bool = Attribute("True while a request wholly received has no final response.")
    holdsUp: bool = Attribute(
        "True while the peer may be silent because of us: ``holding``, or ``answering`` and not inside another message."
    )
    insideMessage: bool = Attribute("True from the first PDV of a message to its last.")
    busy: bool = Attribute("True inside a message, and while any request has no final response.")

    def pdvReceived(pdv: PDVReceived) -> None:
        """
        Take the next PDV. Raises RemoteProtocolError where it cannot stand here.

        Whenever ``holding`` or ``busy`` may have become false, the association is woken.
        """

    def ended() -> None:
        """
        The association is over: what precedes the last piece of a data set is cancelled, what follows runs to its end.

        ``busy`` tells when the last of it is done.
        """
