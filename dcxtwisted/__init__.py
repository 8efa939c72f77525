"""
An event-driven DICOM Storage SCP and network listener for Twisted.

``DCXACC`` listens and stores; an ``IDCXACCEvents`` provider, usually a subclass of ``DCXACCEvents``, decides. The rest
of the package, from the bottom up:

- ``errors``, ``statuses``, ``uids``: exceptions, DIMSE statuses, tables of SOP classes and transfer syntaxes
- ``checks``, ``filenames``: the checks that can be relaxed for a sender, and values as they may stand in file names
- ``part10``, ``dataset``: file meta information, and the scanner that reads a data set as it passes
- ``wire``: the protocol without any input or output: PDUs, framing, state table, negotiation, messages
- ``configuration``, ``interfaces``, ``events``: settings, every interface, how an application is called
- ``association``, ``factory``, ``dimse``: associations on Twisted transports, and the messages on them
- ``policy``, ``users``, ``entities``: who may come in, how users are confirmed, and several AE titles on one port
- ``sections``, ``configfile``, ``setups``: a configuration's parts, its file, and what is made of it with options
- ``dottednames``: what of an application these name
- ``pull``: what an application waits on, in place of being told
- ``transports``, ``deadlines``: what is asked of transports and clocks
- ``services``, ``stores``: what is done with messages, and where objects go
- ``certificates``, ``security``, ``tls``: PEM files, what TLS is to be, and the connections that speak it
- ``endpoints``, ``ports``: where to listen, and what is listened on
- ``acceptor``, ``options``, ``tap``: the embedding API, and ``twistd`` with its options
- ``workers``, ``workerprocess``: several processes that serve together
- ``testing``: acceptor and peer joined in memory, for tests of applications
"""

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configuration import Configuration, MemoryOverflow
from dcxtwisted.entities import ApplicationEntity
from dcxtwisted.errors import AssociationRejected, DICOMError, SecurityError, StoreRefused
from dcxtwisted.events import DCXACCEvents, asyncioEvents
from dcxtwisted.interfaces import (
    IDCXACC,
    IN_MEMORY,
    IAssociation,
    IDCXACCEvents,
    IObjectInMemory,
    IStore,
    IStoreRequest,
    IStoreSink,
    StoredObject,
    TLSFacts,
)
from dcxtwisted.policy import Rule
from dcxtwisted.security import SecurityContext
from dcxtwisted.users import Users

__all__ = [
    "DCXACC",
    "IDCXACC",
    "IN_MEMORY",
    "ApplicationEntity",
    "AssociationRejected",
    "Configuration",
    "DCXACCEvents",
    "DICOMError",
    "IAssociation",
    "IDCXACCEvents",
    "IObjectInMemory",
    "IStore",
    "IStoreRequest",
    "IStoreSink",
    "MemoryOverflow",
    "Rule",
    "SecurityContext",
    "SecurityError",
    "StoreRefused",
    "StoredObject",
    "TLSFacts",
    "Users",
    "asyncioEvents",
]
