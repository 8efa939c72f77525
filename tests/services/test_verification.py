"""
The verification service: C-ECHO on every context, whatever OnEcho answers.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyClass

from dcxtwisted.deadlines import Deadline
from dcxtwisted.interfaces import IDIMSEService
from dcxtwisted.services.verification import VerificationService
from dcxtwisted.testing import RecordingEvents
from dcxtwisted.wire.commandset import encodeCommandSet
from tests.services.support import (
    CT,
    EXPLICIT,
    STORAGE_CONTEXT,
    VERIFICATION,
    VERIFICATION_CONTEXT,
    ServiceTestCase,
    formsOf,
)


class SupportsTests(ServiceTestCase):
    """What is negotiated."""

    def test_providesTheInterface(self) -> None:
        verifyClass(IDIMSEService, VerificationService)
        self.assertEqual(VerificationService.commandFields, {0x0030})

    def test_syntaxes(self) -> None:
        """The three native ones for verification, and nothing for any other class."""
        service = VerificationService(RecordingEvents(), Deadline(Clock(), 60))
        self.assertEqual(service.supports(VERIFICATION), {"1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.2"})
        self.assertIsNone(service.supports(CT))
        self.assertIsNone(service.supports(""))


class EchoTests(ServiceTestCase):
    """One C-ECHO and its response."""

    def test_answered(self) -> None:
        events = self.events()
        peer, connection = self.listen(events)
        association = self.associationOf(peer)
        peer.echo(messageID=258)
        connection.pump()
        self.assertEqual(events.calls[-1], ("OnEcho", (association,)))
        self.assertEqual(
            peer.received[1:],
            [
                {
                    0x0000: b"\x42\0\0\0",
                    0x0002: b"1.2.840.10008.1.1\0",
                    0x0100: b"\x30\x80",
                    0x0120: b"\2\1",
                    0x0800: b"\1\1",
                    0x0900: b"\0\0",
                }
            ],
        )

    def test_onAStorageContext(self) -> None:
        peer, connection = self.listen()
        peer.echo(contextID=STORAGE_CONTEXT)
        connection.pump()
        self.assertEqual(peer.statuses, [0])
        # PDU type, PDU length, PDV length: then the context.
        self.assertEqual(peer.bytesReceived[-(0x42 + 12 + 12)], 4)
        self.assertEqual(peer.bytesReceived[-(0x42 + 12 + 2)], STORAGE_CONTEXT)

    def test_withoutAClass(self) -> None:
        """Answered likewise: without one."""
        peer, connection = self.listen()
        command = encodeCommandSet({0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\1"})
        self.command(connection, peer, command, VERIFICATION_CONTEXT)
        self.assertEqual(peer.statuses, [0])
        self.assertNotIn(0x0002, peer.received[-1])

    def test_withADataSet(self) -> None:
        """Drained, and answered when it has passed."""
        peer, connection = self.listen()
        command = encodeCommandSet({0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\0\0"})
        self.command(connection, peer, command, VERIFICATION_CONTEXT)
        self.assertEqual(peer.statuses, [])
        self.data(connection, peer, b"1234", VERIFICATION_CONTEXT)
        self.assertEqual(peer.statuses, [0])

    def test_anyAnswerIsIgnored(self) -> None:
        """The response waits for it, and is 0000."""
        for answer in (None, False, 0xA700, "no"):
            for form in formsOf(answer):
                peer, connection = self.listen(self.events(OnEcho=form.event))
                peer.echo()
                connection.pump()
                waits = form.name in ("Deferred", "coroutine")
                self.assertEqual(peer.statuses, [] if waits else [0], form.name)
                form.release()
                connection.pump()
                self.assertEqual(peer.statuses, [0], form.name)

    def test_failureIsLogged(self) -> None:
        """Once, and the response is 0000 all the same."""
        for form in formsOf(ValueError("OnEcho")):
            peer, connection = self.listen(self.events(OnEcho=form.event))
            peer.echo()
            form.release()
            connection.pump()
            self.assertFailuresLogged(ValueError)
            self.assertEqual(peer.statuses, [0], form.name)
            peer.echo(messageID=2)
            connection.pump()
            self.assertEqual(peer.statuses, [0, 0], form.name)
            self.flushLoggedErrors(ValueError)

    def test_peerGone(self) -> None:
        """What OnEcho answers then is sent to nobody; OnAssocEnd waits for it."""
        waiting: Deferred[Any] = Deferred()
        events = self.events(OnEcho=waiting)
        peer, connection = self.listen(events)
        peer.echo()
        connection.pump()
        peer.abort()
        connection.pump()
        self.assertEqual(events.names, ["OnConnection", "OnEcho"])
        waiting.callback(None)
        connection.pump()
        self.assertEqual(events.names, ["OnConnection", "OnEcho", "OnAssocEnd"])
        self.assertEqual(peer.statuses, [])
