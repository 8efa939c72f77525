"""
What the events are told of an object whose SOP Instance UID another stands under, by each policy of a file store.
"""

from __future__ import annotations

import os
from typing import Any

from dcxtwisted.configuration import Duplicates
from dcxtwisted.errors import DuplicateRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.testing import MemoryConnection, RecordingEvents, ScriptedPeer
from tests.services.support import DATA, ServiceTestCase, comment, dataSet
from tests.services.test_storage import fileStore

OTHER = dataSet(patientID="P2")


class _DuplicatesTestCase(ServiceTestCase):
    def start(self, duplicates: Duplicates) -> tuple[ScriptedPeer, MemoryConnection, RecordingEvents]:
        self.root = os.path.abspath(self.mktemp())
        events = self.events()
        peer, connection = self.listen(events, fileStore(self, self.root, duplicates=duplicates))
        return peer, connection, events

    def told(self, events: RecordingEvents) -> tuple[Any, ...]:
        """Return what the last event was told: file name, status, outcome, refusal."""
        name, (filename, status, request) = events.calls[-1]
        self.assertEqual(name, "OnStoreDone")
        outcome = None if request.stored is None else request.stored.outcome
        return os.path.basename(filename), status, outcome, request.refusal


class EventTests(_DuplicatesTestCase):
    """What OnStoreDone is told."""

    def test_stored(self) -> None:
        for duplicates, outcome, filename in (
            (Duplicates.KEEP_BOTH, Outcome.KEPT_BOTH, "1.2.3~1.dcm"),
            (Duplicates.REPLACE, Outcome.REPLACED, "1.2.3.dcm"),
            (Duplicates.KEEP_FIRST, Outcome.KEPT_FIRST, "1.2.3.dcm"),
        ):
            peer, connection, events = self.start(duplicates)
            self.send(connection, peer)
            self.assertEqual(self.told(events), ("1.2.3.dcm", True, Outcome.NEW, None))
            self.send(connection, peer)
            self.assertEqual(self.told(events), ("1.2.3.dcm", True, Outcome.IDENTICAL, None))
            self.send(connection, peer, OTHER)
            self.assertEqual(self.told(events), (filename, True, outcome, None))
            self.assertEqual(peer.statuses, [0, 0, 0])

    def test_refused(self) -> None:
        """A failed reception, and the request says of which kind."""
        peer, connection, events = self.start(Duplicates.REFUSE)
        self.send(connection, peer)
        self.send(connection, peer, OTHER)
        filename, status, outcome, refusal = self.told(events)
        self.assertEqual((filename, status, outcome), ("", False, None))
        self.assertIsInstance(refusal, DuplicateRefused)
        self.assertEqual((refusal.status, refusal.comment), (0xC000, comment(peer.received[-1])))
        self.assertEqual(refusal.comment, "another object has this UID")
        self.assertEqual(peer.statuses, [0, 0xC000])
        self.send(connection, peer, DATA)
        self.assertEqual(self.told(events), ("1.2.3.dcm", True, Outcome.IDENTICAL, None))
