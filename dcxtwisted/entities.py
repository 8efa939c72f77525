"""
What an AE title has of its own where a listener serves it: where its objects go, what names them, whom it tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from os.path import abspath
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from dcxtwisted.configuration import DEFAULT_LAYOUT, Configuration, validAETitle
from dcxtwisted.deadlines import Deadline
from dcxtwisted.interfaces import IDCXACCEvents, IDIMSEService, IStore, IStoreParticipant
from dcxtwisted.services.refusals import NextStatus
from dcxtwisted.services.scope import StorageScope
from dcxtwisted.services.storage import StorageService
from dcxtwisted.services.verification import VerificationService
from dcxtwisted.stores.file import FileStore
from dcxtwisted.stores.layout import Layout


def _stripped(title: str) -> str:
    return title.strip() if isinstance(title, str) else title


@attrs.frozen(kw_only=True)
class ApplicationEntity:
    """
    One more AE title on the ports of a listener.

    :ivar AETitle: what peers call that are its own; others are the listener's.
    :ivar storeDirectory: the root of its file store; made at the start where it is missing.
    :ivar layout: a template for the names of files below it.
    :ivar events: an ``IDCXACCEvents`` provider; None for the listener's.
    """

    AETitle: str = attrs.field(converter=_stripped, validator=validAETitle)
    storeDirectory: str = attrs.field(validator=attrs.validators.min_len(1))
    layout: str = DEFAULT_LAYOUT
    events: IDCXACCEvents | None = None


def checkDistinct(AETitle: str, storeDirectory: str, entities: Sequence[ApplicationEntity]) -> None:
    """
    See that entities differ from each other, and from the listener's own title and directory.

    :raises ValueError: two have the same.
    """
    titles, directories = {AETitle.strip()}, {abspath(storeDirectory)}
    for entity in entities:
        directory = abspath(entity.storeDirectory)
        if entity.AETitle in titles:
            raise ValueError(f"an AE title is there twice: {entity.AETitle!r}")
        if directory in directories:
            raise ValueError(f"two AE titles have the same store directory: {directory!r}")
        titles.add(entity.AETitle)
        directories.add(directory)


class Served:
    """
    The store and the services of one AE title.

    :param store: the way of what no event says otherwise of; None for the file store.
    :param nextStatus: what is forced on the next response, whichever AE title it is of.
    :ivar services: by command field.
    """

    def __init__(
        self,
        events: IDCXACCEvents,
        files: FileStore,
        memory: IStore,
        store: IStore | None,
        participants: Sequence[IStoreParticipant],
        configuration: Configuration,
        clock: IReactorTime,
        nextStatus: NextStatus,
    ) -> None:
        self.events = events
        self.files = files
        self.store = files if store is None else store
        self._deadlines = {
            name: Deadline(clock, getattr(configuration, name)) for name in ("eventDeadline", "storeDeadline")
        }
        eventDeadline = self._deadlines["eventDeadline"]
        self.storage = StorageService(
            events,
            self.store,
            files,
            memory,
            files.root,
            eventDeadline,
            self._deadlines["storeDeadline"],
            participants,
            # What is compiled takes no 1 for True, as an application may give it.
            StorageScope(bool(configuration.acceptUnknown), bool(configuration.acceptReferencedPixels)),
            strict=bool(configuration.strict),
            relaxations=configuration.relaxations,
            abortOnRefusal=bool(configuration.abortOnRefusal),
            maximumObjectSize=_maximumObjectSize(configuration),
            nextStatus=nextStatus,
        )
        self.inOrder: Sequence[IDIMSEService] = [VerificationService(events, eventDeadline), self.storage]
        self.services: Mapping[int, IDIMSEService] = {
            field: service for service in self.inOrder for field in service.commandFields
        }

    def hurry(self) -> None:
        """Wait no longer for what the application has to say, until C{takeTime}."""
        self._deadlines["eventDeadline"].hurry()

    def takeTime(self) -> None:
        """Wait for it again."""
        self._deadlines["eventDeadline"].takeTime()

    def reconfigure(self, configuration: Configuration) -> None:
        """Go by other limits, deadlines and relaxations, with the objects that are announced from now on."""
        for name, deadline in self._deadlines.items():
            deadline.seconds = getattr(configuration, name)
        self.storage.relaxations = configuration.relaxations
        self.storage.maximumObjectSize = _maximumObjectSize(configuration)


def _maximumObjectSize(configuration: Configuration) -> float:
    # An application may give 1e9, too.
    return inf if configuration.maximumObjectSize is None else float(configuration.maximumObjectSize)


def fileStoreFrom(
    directory: str, layout: str, configuration: Configuration, *, durable: bool, reactor: Any
) -> FileStore:
    """Return a file store as a configuration wants it."""
    return FileStore(
        directory,
        Layout(layout),
        durable=durable,
        duplicates=configuration.duplicates,
        minimumFreeBytes=configuration.minimumFreeBytes,
        minimumFreeInodes=configuration.minimumFreeInodes,
        reactor=reactor,
    )
