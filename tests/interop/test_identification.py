"""
Who pynetdicom says it is, whom it calls, and who is let in.
"""

from __future__ import annotations

from typing import Any

from pynetdicom import _config, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from twisted.internet.threads import deferToThread

from dcxtwisted import AssociationRejected, Configuration
from dcxtwisted.testing import RecordingEvents
from dcxtwisted.uids import IMPLEMENTATION_CLASS_UID, VERIFICATION
from dcxtwisted.wire.items import UserIdentityRequest
from tests.interop.requestor import DEFAULT_CONTEXTS, NegotiationTestCase, entity
from tests.interop.samples import sampleNamed


class TitleTests(NegotiationTestCase):
    """AE titles, and who is let in."""

    async def test_unusual(self) -> None:
        """Whatever pynetdicom sends for a title is told as it is, without the spaces around it."""
        for title in ("a", "1234567890123456", "with a space", " before", "after ", "../../etc", "%s{0}$(id)"):
            await self.propose(requestor=entity(title), calledAETitle=title)
            self.assertTitles(title.strip())
            self.assertEqual(self.client.acceptor.primitive.calling_ae_title.strip(), title.strip())

    async def test_malformed(self) -> None:
        """A title that PS3.5 6.2 does not allow is taken, and counted."""
        self.patch(_config, "VALIDATORS", {**_config.VALIDATORS, "AE": lambda value: (True, "")})
        for title in ("back\\slash", "tab\tnewline\n", "\x1b[2J"):
            await self.propose(requestor=entity(title), calledAETitle=title)
            self.assertTitles(title)
            self.assertEqual(self.association.quirks["odd AE title"], 1)

    def assertTitles(self, title: str) -> None:
        """Fail unless this was told of both sides."""
        (_, (calling, called, host, association)) = self.events.calls[0]
        self.assertEqual((calling, called, host), (title, title, "127.0.0.1"))
        self.assertEqual((association.callingAETitle, association.calledAETitle), (title, title))

    async def test_namesOfFiles(self) -> None:
        """A title in a layout stays one piece of a name below the store."""
        self.start(layout="{callingAETitle}/{SOPInstanceUID}.dcm")
        sample = sampleNamed("CT_small.dcm")
        how = {"requestor": entity("../../../etc")}
        self.assertEqual(await deferToThread(self._work, sample, DEFAULT_CONTEXTS, (), how), (0, 0))
        self.assertStoredExactly((await self.conversation()).objects)
        (name,) = self.storedFiles()
        directory, filename = name.split("/")
        self.assertEqual(filename, f"{sample.SOPInstanceUID}.dcm")
        self.assertNotIn(directory, ("", ".", ".."))

    async def test_rejected(self) -> None:
        """A rejection arrives as it was meant."""
        for answer, expected in (
            (False, (1, 1, 1)),
            (None, (1, 1, 1)),
            (AssociationRejected(1, 1, 3), (1, 1, 3)),
            (AssociationRejected(2, 3, 1), (2, 3, 1)),
            (AssociationRejected(2, 3, 2), (2, 3, 2)),
        ):
            self.start(RecordingEvents(OnConnection=answer))
            await self.assertRejected(expected)
            self.assertEqual(self.events.names, ["OnConnection"])

    async def test_calledTitle(self) -> None:
        """Where the called title is checked, the application is not asked about those who have another one."""
        self.start(configuration=Configuration(AETitle="OURS", checkCalledAETitle=True))
        await self.assertRejected((1, 1, 7))
        self.assertEqual(self.events.names, [])

    async def assertRejected(self, expected: tuple[int, int, int]) -> None:
        """Fail unless an association is rejected with this result, source and reason."""

        received: list[Any] = []

        def client() -> Any:
            requestor = entity()
            requestor.add_requested_context(VERIFICATION)
            # What becomes of a rejection is left to chance: one that comes at once may pass for a failure to connect.
            handlers = [(evt.EVT_PDU_RECV, lambda event: received.append(event.pdu))]
            address = ("127.0.0.1", self.relayed.port)
            return requestor.associate(*address, ae_title="DCXTWISTED", evt_handlers=handlers).is_established

        self.assertFalse(await deferToThread(client))
        await self.listener.stopService()
        (answer,) = received
        self.assertEqual((answer.result, answer.source, answer.reason_diagnostic), expected)


class UserIdentityTests(NegotiationTestCase):
    """User identity negotiation (PS3.7 D.3.3.7)."""

    async def test_userName(self) -> None:
        """A user name."""
        await self.identify(UserIdentityRequest(1, False, "Röntgen".encode()))

    async def test_passcode(self) -> None:
        """A user name with a passcode."""
        await self.identify(UserIdentityRequest(2, False, b"alice", b"secret"))

    async def test_kerberos(self) -> None:
        """A Kerberos service ticket: any bytes."""
        await self.identify(UserIdentityRequest(3, False, bytes(range(256)) * 8))

    async def test_SAML(self) -> None:
        """A SAML assertion."""
        await self.identify(UserIdentityRequest(4, False, b"<saml:Assertion/>" * 500))

    async def test_JWT(self) -> None:
        """A JSON web token, as long as can be."""
        await self.identify(UserIdentityRequest(5, False, b"e" * 65000))

    async def identify(self, identity: UserIdentityRequest) -> None:
        """Check that an identity is told as it was sent, and that it is confirmed where that was asked for."""
        for toConfirm in (False, True):
            item = UserIdentityNegotiation()
            item.user_identity_type = identity.identityType
            item.positive_response_requested = toConfirm
            item.primary_field = identity.primaryField
            item.secondary_field = identity.secondaryField
            conversation = await self.propose(item)
            told = self.association.userIdentity
            self.assertEqual(
                (told.identityType, told.positiveResponseRequested, told.primaryField, told.secondaryField),
                (identity.identityType, toConfirm, identity.primaryField, identity.secondaryField),
            )
            self.assertEqual(conversation.request.userInformation.userIdentity, told)
            answer = self.client.acceptor.user_identity
            if toConfirm:
                self.assertEqual(conversation.accept.userInformation.userIdentityResponse, b"")
                self.assertEqual(answer.server_response, b"")
            else:
                self.assertIsNone(conversation.accept.userInformation.userIdentityResponse)
                self.assertIsNone(answer)

    async def test_none(self) -> None:
        """No identity is told as None."""
        await self.propose()
        self.assertIsNone(self.association.userIdentity)


class ImplementationTests(NegotiationTestCase):
    """Who the two are."""

    async def test_given(self) -> None:
        """Each side learns the other's implementation class UID and version name."""
        requestor = entity()
        requestor.implementation_class_uid = "1.2.826.0.1.3680043.9.7133.3"
        requestor.implementation_version_name = "SIXTEEN LETTERS!"
        await self.propose(requestor=requestor)
        told = (self.association.implementationClassUID, self.association.implementationVersionName)
        self.assertEqual(told, ("1.2.826.0.1.3680043.9.7133.3", "SIXTEEN LETTERS!"))
        answer = self.client.acceptor
        self.assertEqual(str(answer.implementation_class_uid), IMPLEMENTATION_CLASS_UID)
        self.assertEqual(answer.implementation_version_name, "DCXTWISTED_0_1")

    async def test_noVersionName(self) -> None:
        """A version name that is not given is told as ''."""
        requestor = entity()
        requestor.implementation_version_name = None
        await self.propose(requestor=requestor)
        self.assertEqual(self.association.implementationVersionName, "")
