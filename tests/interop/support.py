"""
What the tests against real clients share: a listener on loopback, and a relay in front of it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydicom
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dcxtwisted import DCXACC, IDCXACCEvents
from dcxtwisted.testing import RecordingEvents
from tests.interop.relay import Conversation, Relay, SentObject, portOf
from tests.interop.samples import Part10, part10

_T = TypeVar("_T")


async def atOnce(deferreds: Sequence[Deferred[_T]]) -> list[_T]:
    """Return the results of all, once all are there; raise the first failure only then."""
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    results = []
    for succeeded, result in outcomes:
        if not succeeded:
            assert isinstance(result, Failure)
            result.raiseException()
        results.append(result)
    return results


# The listener


class ListenerTestCase(TestCase):
    """
    A test with a listener on loopback, on trial's reactor.

    :ivar store: the directory it stores below.
    :ivar listener: the one that L{listen} started.
    :ivar events: what the one that L{start} started was told.
    :ivar relayed: the relay in front of that one: clients connect to it.
    """

    timeout = 60

    def setUp(self) -> None:
        """Keep quiet what pydicom has to say of its samples."""
        # Trial's own `suppress` ends before the body of a coroutine begins.
        caught = warnings.catch_warnings()
        caught.__enter__()
        self.addCleanup(caught.__exit__, None, None, None)
        warnings.simplefilter("ignore", UserWarning)

    def listen(self, events: IDCXACCEvents | None = None, **options: Any) -> int:
        """Start a listener, and return its port."""
        self.store = Path(self.mktemp()).absolute()
        endpoint = "tcp:0:interface=127.0.0.1"
        self.listener = DCXACC(endpoint, events, storeDirectory=str(self.store), **options)
        self.listener.startService()
        self.addCleanup(self.listener.stopService)
        return portOf(self.listener.ports[0])

    def start(self, events: RecordingEvents | None = None, **options: Any) -> None:
        """Start a listener, and a relay in front of it."""
        self.events = RecordingEvents() if events is None else events
        self.relayed = Relay(self.listen(self.events, **options))
        self.addCleanup(self.relayed.stop)

    async def conversation(self) -> Conversation:
        """Return what the only client said."""
        (conversation,) = await self.relayed.conversations()
        return conversation

    @property
    def association(self) -> Any:
        """The association of the first OnConnection."""
        return self.events.calls[0][1][3]

    async def assertEvents(self, *names: str, end: str) -> None:
        """Stop the listener, and fail unless it told of these events, and then how the association ended."""
        await self.listener.stopService()
        self.assertEqual(self.events.names, [*names, "OnAssocEnd"])
        self.assertEqual(self.events.calls[-1][1][1:], (end,))

    def storedFiles(self) -> dict[str, Part10]:
        """Return everything below the store, a final name or not, by its path there."""
        paths = [path for path in self.store.rglob("*") if path.is_file()]
        return {path.relative_to(self.store).as_posix(): part10(path.read_bytes()) for path in paths}

    def assertListed(self, notStored: Mapping[str, str], listed: Mapping[str, str]) -> None:
        """Fail unless each sample that was not stored is listed, with what the client says of it."""
        self.assertEqual({name: text for name, text in notStored.items() if listed.get(name) != text}, {})

    def assertStoredExactly(self, objects: Sequence[SentObject]) -> None:
        """
        Fail unless the store holds these objects, byte for byte, and nothing else.

        What was sent more than once is to stand there once; what has the same UID but other bytes beside it.
        """
        acknowledged = {(sent.SOPInstanceUID, sent.transferSyntaxUID, sent.dataSet) for sent in objects}
        stored = self.storedFiles()
        found = {
            (kept.SOPInstanceUID, kept.transferSyntaxUID, kept.dataSet): filename for filename, kept in stored.items()
        }
        self.assertEqual([key[:2] for key in acknowledged - set(found)], [], "acknowledged, but not stored as sent")
        self.assertEqual([found[key] for key in set(found) - acknowledged], [], "stored, but never acknowledged so")
        self.assertEqual(len(stored), len(acknowledged))
        for (SOPInstanceUID, _, _), filename in found.items():
            self.assertRegex(Path(filename).name, rf"^{re.escape(SOPInstanceUID)}(~[1-9][0-9]*)?\.dcm$")
            self.assertEqual(str(pydicom.dcmread(self.store / filename).SOPInstanceUID), SOPInstanceUID)
