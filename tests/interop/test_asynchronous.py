"""
Several operations outstanding on one association, over a real socket (PS3.7 D.3.3.3).

No client at hand does that: DCMTK and pynetdicom wait for each response. So a scripted peer does.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from dcxtwisted.testing import RecordingEvents
from dcxtwisted.wire.items import AsynchronousOperationsWindow
from dcxtwisted.wire.messages import MESSAGE_ID_BEING_RESPONDED_TO
from dcxtwisted.wire.pdu import ReleaseRP, ReleaseRQ
from tests.interop.support import ListenerTestCase
from tests.loopback import LoopbackPeer, connect
from tests.support import dataSet

MESSAGE_IDS = (11, 12, 13, 14)


class WindowTests(ListenerTestCase):
    """
    Four C-STOREs that are sent before the first is answered.

    :ivar waiting: OnStoreDone of each, by its message ID.
    """

    async def begin(self) -> LoopbackPeer:
        """Return a peer that proposed a window of four, and has sent as many objects."""
        self.waiting: dict[int, Deferred[bool]] = {}
        self.all: Deferred[None] = Deferred()
        self.start(RecordingEvents(OnStoreDone=self.hold))
        peer = await connect(self.relayed.port)
        self.addCleanup(peer.leave)
        peer.associate(asynchronousOperationsWindow=AsynchronousOperationsWindow(4, 1))
        await peer.when(lambda: peer.accepted)
        assert peer.accepted is not None
        answered = peer.accepted.userInformation.asynchronousOperationsWindow
        self.assertEqual(answered, AsynchronousOperationsWindow(4, 1))
        for messageID in MESSAGE_IDS:
            peer.store(dataSet(f"2.25.{messageID}", 50000), f"2.25.{messageID}", messageID=messageID)
        return peer

    def hold(self, filename: str, stored: bool, request: Any) -> Deferred[bool]:
        """Answer OnStoreDone later."""
        messageID: int = request.messageID
        self.waiting[messageID] = Deferred()
        if len(self.waiting) == len(MESSAGE_IDS):
            self.all.callback(None)
        return self.waiting[messageID]

    async def test_outOfOrder(self) -> None:
        """All are stored while none is answered; then each is answered as soon as it can be, by its message ID."""
        peer = await self.begin()
        await self.all
        self.assertEqual(peer.statuses, [])
        for messageID in reversed(MESSAGE_IDS):
            count = len(peer.statuses) + 1
            self.waiting[messageID].callback(True)
            await peer.when(partial(hasAnswers, peer, count))
        self.assertEqual(peer.statuses, [0] * 4)
        self.assertEqual(answeredIDs(peer), [*reversed(MESSAGE_IDS)])
        peer.release()
        await peer.when(lambda: peer.released)
        await self.assertStored()

    async def test_releaseWaits(self) -> None:
        """A release that comes with responses outstanding is answered after them."""
        peer = await self.begin()
        await self.all
        peer.send(ReleaseRQ().encode())
        for messageID in MESSAGE_IDS:
            self.waiting[messageID].callback(True)
        await peer.when(lambda: peer.released)
        self.assertEqual(sorted(answeredIDs(peer)), [*MESSAGE_IDS])
        self.assertEqual(peer.received[-1], ReleaseRP())
        await self.assertStored()

    async def assertStored(self) -> None:
        """Fail unless the four objects are there as they were sent, and the association was released."""
        kept = {part10.SOPInstanceUID: part10.dataSet for part10 in self.storedFiles().values()}
        uids = [f"2.25.{messageID}" for messageID in MESSAGE_IDS]
        self.assertEqual(kept, {uid: dataSet(uid, 50000) for uid in uids})
        await self.listener.stopService()
        self.assertEqual(self.events.calls[-1][1][1:], ("released",))


def hasAnswers(peer: LoopbackPeer, count: int) -> bool:
    """Return whether so many responses came."""
    return len(peer.statuses) == count


def answeredIDs(peer: LoopbackPeer) -> list[int]:
    """Return the message IDs of the responses, in the order they came."""
    commands = [each for each in peer.received if isinstance(each, dict)]
    return [int.from_bytes(command[MESSAGE_ID_BEING_RESPONDED_TO], "little") for command in commands]
