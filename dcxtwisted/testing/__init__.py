"""
For tests of applications: a listener and a scripted peer joined in memory, and what stores have to pass.
"""

from dcxtwisted.testing.events import RecordingEvents
from dcxtwisted.testing.peer import ListenerInMemory, ScriptedPeer, associateRQ
from dcxtwisted.testing.stores import StoreContract
from dcxtwisted.testing.transport import MemoryConnection, MemoryTransport

__all__ = [
    "ListenerInMemory",
    "MemoryConnection",
    "MemoryTransport",
    "RecordingEvents",
    "ScriptedPeer",
    "StoreContract",
    "associateRQ",
]
