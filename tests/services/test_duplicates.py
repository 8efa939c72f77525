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
from tests.support import logged

OTHER = dataSet(patientID="P2")
THIRD = dataSet(patientID="P3")


class _DuplicatesTestCase(ServiceTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.answers: dict[str, Any] = {}

    def start(self, duplicates: Duplicates) -> tuple[ScriptedPeer, MemoryConnection, RecordingEvents]:
        self.root = os.path.abspath(self.mktemp())
        events = self.events(**self.answers)
        peer, connection = self.listen(events, fileStore(self, self.root, duplicates=duplicates))
        return peer, connection, events

    def told(self, events: RecordingEvents) -> tuple[Any, ...]:
        """Return what the last event was told: file name, status, outcome, refusal."""
        name, (filename, status, request) = events.calls[-1]
        self.assertEqual(name, "OnStoreDone")
        outcome = None if request.stored is None else request.stored.outcome
        return os.path.basename(filename), status, outcome, request.refusal


class CountTests(_DuplicatesTestCase):
    """What is counted of an association, and what the line at its end says."""

    def counts(self, duplicates: Duplicates, *sent: bytes) -> tuple[int, dict[Outcome, int], str]:
        """Send objects; return how many were acknowledged, what was counted, and that part of the line."""
        peer, connection, _ = self.start(duplicates)
        association = self.associationOf(peer)
        for data in sent:
            self.send(connection, peer, data)
        with logged() as lines:
            peer.release()
            connection.pump()
        (line,) = lines
        self.assertTrue(line.endswith(f" refused, {sum(map(len, sent))} bytes"), line)
        _, _, counted = line.rpartition(" s: ")
        return association.objectsStored, dict(association.duplicates), counted.rpartition(", ")[0]

    def test_allNew(self) -> None:
        self.assertEqual(self.counts(Duplicates.KEEP_BOTH, DATA), (1, {}, "1 stored, 0 refused"))

    def test_identical(self) -> None:
        self.assertEqual(
            self.counts(Duplicates.REFUSE, DATA, DATA, OTHER, DATA),
            (3, {Outcome.IDENTICAL: 2}, "3 stored (1 new, 2 identical), 1 refused"),
        )

    def test_keptBoth(self) -> None:
        self.assertEqual(
            self.counts(Duplicates.KEEP_BOTH, DATA, OTHER, THIRD, OTHER),
            (
                4,
                {Outcome.KEPT_BOTH: 2, Outcome.IDENTICAL: 1},
                "4 stored (1 new, 1 identical, 2 beside another), 0 refused",
            ),
        )

    def test_replaced(self) -> None:
        self.assertEqual(
            self.counts(Duplicates.REPLACE, DATA, OTHER),
            (2, {Outcome.REPLACED: 1}, "2 stored (1 new, 1 replacing another), 0 refused"),
        )

    def test_keptFirst(self) -> None:
        """Acknowledged, but nobody is to think that it is there."""
        self.assertEqual(
            self.counts(Duplicates.KEEP_FIRST, DATA, OTHER, THIRD),
            (3, {Outcome.KEPT_FIRST: 2}, "1 stored, 2 acknowledged but not kept, 0 refused"),
        )

    def test_refusedByTheApplication(self) -> None:
        """Nothing of it counts as a duplicate."""
        answers = iter([True, False, 0xC000])
        self.answers = {"OnStoreDone": lambda *told: next(answers)}
        self.assertEqual(self.counts(Duplicates.KEEP_BOTH, DATA, DATA, OTHER), (1, {}, "1 stored, 2 refused"))


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
