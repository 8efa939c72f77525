"""
What a listener makes of an A-ASSOCIATE-RQ, beside the contexts: rejections, user items, and what the log has of them.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from dcxtwisted.testing import ScriptedPeer, associateRQ
from dcxtwisted.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcxtwisted.wire.items import AsynchronousOperationsWindow, UserIdentityRequest
from dcxtwisted.wire.pdu import Abort, AssociateRJ, AssociateRQ
from tests.support import ListenerTestCase, pData

CONTEXT = "1.2.840.10008.3.1.1.1"


class RejectionTests(ListenerTestCase):
    """Each rejection is what is sent, and nobody is asked; the connection closes."""

    def assertRejected(self, request: AssociateRQ, rejection: AssociateRJ) -> None:
        peer = self.connect()
        peer.send(request.encode())
        self.pump()
        self.assertEqual(peer.received, [rejection])
        self.assertEqual(self.names, [])
        client: Any = peer.transport
        client.loseConnection()
        self.pump()
        self.assertConnectionOver(peer)

    def test_protocolVersion(self) -> None:
        self.assertRejected(attrs.evolve(associateRQ(), protocolVersion=2), AssociateRJ(1, 2, 2))

    def test_applicationContext(self) -> None:
        for contexts in ((), ("1.2.3",), (CONTEXT, CONTEXT)):
            request = attrs.evolve(associateRQ(), applicationContexts=contexts)
            self.assertRejected(request, AssociateRJ(1, 1, 2))

    def test_noContexts(self) -> None:
        self.assertRejected(associateRQ({}), AssociateRJ(1, 1, 1))

    def test_maximumLength(self) -> None:
        self.assertRejected(associateRQ(maximumLength=7), AssociateRJ(1, 1, 1))

    def test_calledAETitle(self) -> None:
        self.listen(AETitle="MINE", checkCalledAETitle=True)
        self.assertRejected(associateRQ(calledAETitle="YOURS"), AssociateRJ(1, 1, 7))


class UserInformationTests(ListenerTestCase):
    """What the user items come to."""

    def associated(self, **userInformation: Any) -> tuple[ScriptedPeer, Any]:
        """Return a peer and its association."""
        peer = self.associate(**userInformation)
        assert peer.accepted is not None
        return peer, self.accepted[-1]

    def test_implementation(self) -> None:
        """Each side says what it is."""
        peer, association = self.associated(implementationClassUID="1.2.3.4", implementationVersionName="PEER_1")
        self.assertEqual(association.implementationClassUID, "1.2.3.4")
        self.assertEqual(association.implementationVersionName, "PEER_1")
        information = peer.accepted.userInformation  # type: ignore[union-attr]  # it was accepted
        self.assertEqual(information.implementationClassUID, IMPLEMENTATION_CLASS_UID)
        self.assertEqual(information.implementationVersionName, IMPLEMENTATION_VERSION_NAME)

    def test_window(self) -> None:
        """The smaller of what the peer proposes and what is configured; 0 is unlimited, and never an answer."""
        for configured, proposed, expected in (
            (1, (0, 0), 1),
            (1, (1, 1), 1),
            (1, (5, 0), 1),
            (1, (0xFFFF, 0xFFFF), 1),
            (8, (0, 0), 8),
            (8, (1, 1), 1),
            (8, (5, 0), 5),
            (8, (0xFFFF, 0xFFFF), 8),
        ):
            self.listen(operationsWindow=configured)
            peer, _ = self.associated(asynchronousOperationsWindow=AsynchronousOperationsWindow(*proposed))
            information = peer.accepted.userInformation  # type: ignore[union-attr]  # it was accepted
            self.assertEqual(information.asynchronousOperationsWindow, AsynchronousOperationsWindow(expected, 1))

    def test_userIdentity(self) -> None:
        """Known types are handed to OnConnection, and answered where that is asked for."""
        seen: list[Any] = []

        def onConnection(calling: str, called: str, host: str, association: Any) -> bool:
            seen.append(association.userIdentity)
            return True

        self.answer(OnConnection=onConnection)
        for identityType in range(1, 6):
            for isAsked in (False, True):
                identity = UserIdentityRequest(identityType, isAsked, b"alice", b"passcode")
                peer, association = self.associated(userIdentity=identity)
                self.assertEqual(seen.pop(), identity)
                self.assertEqual(association.userIdentity, identity)
                self.assertEqual(association.quirks, {"no implementation class UID": 1})
                information = peer.accepted.userInformation  # type: ignore[union-attr]  # it was accepted
                self.assertEqual(information.userIdentityResponse, b"" if isAsked else None)

    def test_userIdentityOfUnknownType(self) -> None:
        """Ignored, not answered, and counted."""
        for identityType in (0, 6, 255):
            identity = UserIdentityRequest(identityType, True, b"alice" * 13000)
            peer, association = self.associated(userIdentity=identity)
            self.assertIsNone(association.userIdentity)
            self.assertEqual(association.quirks["unknown user identity type"], 1)
            information = peer.accepted.userInformation  # type: ignore[union-attr]  # it was accepted
            self.assertIsNone(information.userIdentityResponse)


class SecretTests(ListenerTestCase):
    """What a peer says of who it is gets into no log event, however the association comes out."""

    PRIMARY, SECONDARY = b"alice.the.primary", b"the.passcode"

    def setUp(self) -> None:
        super().setUp()
        self.all: list[LogEvent] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.all.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def assertNotLogged(self) -> None:
        """Neither as text, nor in the repr of a value that a log as JSON would have; and something was logged."""
        self.assertNotEqual(self.all, [])
        for event in self.all:
            shown = "\n".join([formatEvent(event), *map(repr, event.values()), *map(str, event.values())])
            if "log_failure" in event:
                shown += event["log_failure"].getTraceback(detail="verbose")
            for secret in (self.PRIMARY, self.SECONDARY):
                for form in (secret.decode(), secret.hex(), secret.hex(" ")):
                    self.assertNotIn(form, shown.lower())
        self.all.clear()

    def request(self, identityType: int = 2) -> dict[str, Any]:
        return {"userIdentity": UserIdentityRequest(identityType, True, self.PRIMARY, self.SECONDARY)}

    def test_accepted(self) -> None:
        """Every type; released, and aborted over a fault."""
        for identityType in (0, 1, 2, 3, 4, 5, 6, 255):
            for end in (ScriptedPeer.release, lambda peer: peer.send(pData(9, 3, b"x"))):
                peer = self.associate(**self.request(identityType))
                assert peer.accepted is not None
                end(peer)
                self.pump()
                self.assertNotLogged()

    def test_rejected(self) -> None:
        """By the application, by negotiation, and because OnConnection failed."""
        self.answer(OnConnection=False)
        self.assertIsNotNone(self.associate(**self.request()).rejected)
        self.assertNotLogged()
        self.assertIsNotNone(self.associate({}, **self.request()).rejected)
        self.assertNotLogged()
        self.answer(OnConnection=ValueError("a mistake of the application"))
        self.assertIsNotNone(self.associate(**self.request()).rejected)
        self.assertErrors(ValueError)
        self.assertNotLogged()

    def test_malformed(self) -> None:
        """Cut inside each field."""
        whole = associateRQ(**self.request()).encode()
        for secret in (self.PRIMARY, self.SECONDARY):
            length = whole.index(secret) - 2
            for wrong in (0, len(secret) - 1, len(secret) + 1, 0xFFFF):
                peer = self.connect()
                peer.send(whole[:length] + wrong.to_bytes(2, "big") + whole[length + 2 :])
                self.pump()
                self.assertEqual(peer.received, [Abort(0, 0)])
                self.assertNotLogged()
