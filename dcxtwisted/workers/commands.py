"""
What a supervisor and its workers say to each other: AMP, over a pair of UNIX sockets.

All of it arrives in the order in which it was said, which both sides rely on.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure


class DescriptorsMixedUp(Exception):
    """A worker had no room for a descriptor, and so no longer knows which is which."""


# The supervisor's


class Hand(amp.Command):
    """Serve a connection; answered when it is there, and whether its peer still was."""

    arguments = [
        (b"number", amp.Integer()),
        (b"port", amp.Integer()),  # of those that are listened on, counted from 0, those with TLS behind the others
        (b"family", amp.Integer()),
        (b"inode", amp.Integer()),  # the socket's, by which it is recognized
        (b"descriptor", amp.Descriptor()),
    ]
    response = [(b"isThere", amp.Boolean())]
    errors = {DescriptorsMixedUp: b"DESCRIPTORS"}


class Close(amp.Command):
    """Close a connection, without a word to the peer."""

    arguments = [(b"number", amp.Integer())]
    requiresAnswer = False


class Abort(amp.Command):
    """Abort the association of a connection."""

    arguments = [(b"number", amp.Integer())]
    requiresAnswer = False


class Prepare(amp.Command):
    """Read again what can change, as what is in the file of the descriptor says; fails where it is no good."""

    arguments = [(b"given", amp.Descriptor())]
    errors = {ValueError: b"NO_GOOD"}


class Use(amp.Command):
    """Go by what was prepared; answered with what that is."""

    response = [(b"said", amp.ListOf(amp.Unicode()))]


class Stop(amp.Command):
    """Finish what is in flight, and end."""

    requiresAnswer = False


class AbortAll(amp.Command):
    """Abort what is in flight."""

    requiresAnswer = False


# The workers'


class Started(amp.Command):
    """It is ready to serve; or it cannot start, for what is in C{error}. The first thing it says."""

    arguments = [(b"error", amp.Unicode())]
    requiresAnswer = False


class Admit(amp.Command):
    """An association is requested: answered with the limit that is reached, where there is no room for it."""

    arguments = [(b"number", amp.Integer()), (b"host", amp.Unicode()), (b"callingAETitle", amp.Unicode())]
    response = [(b"reached", amp.Unicode())]  # empty for none


class Accepted(amp.Command):
    """An association is up."""

    arguments = [(b"number", amp.Integer()), (b"calledAETitle", amp.Unicode())]
    requiresAnswer = False


class Left(amp.Command):
    """What a connection was admitted for is over."""

    arguments = [(b"number", amp.Integer()), (b"isConnected", amp.Boolean())]
    requiresAnswer = False


class Lost(amp.Command):
    """A connection is closed."""

    arguments = [(b"number", amp.Integer())]
    requiresAnswer = False


class Grew(amp.Command):
    """So many bytes more are kept of a request that is not whole."""

    arguments = [(b"number", amp.Integer()), (b"size", amp.Integer())]
    requiresAnswer = False


class Leaving(amp.Command):
    """It will take nothing more; answered when nothing more is on its way to it."""


class QuietAMP(amp.AMP):
    """AMP that does not log when it is connected, and no longer."""

    def makeConnection(self, transport: Any) -> None:
        """Twisted calls this when the connection is up."""
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted calls this once, when the connection is gone."""
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
