"""
DCMTK's echoscu: associations of every size, and how they end.
"""

from __future__ import annotations

from dcxtwisted import AssociationRejected, Configuration
from dcxtwisted.testing import RecordingEvents
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.wire.items import ACCEPTANCE
from dcxtwisted.wire.pdu import PDU, Abort, ReleaseRQ
from tests.interop.dcmtk import DCMTKTestCase

_ANSWERED = "I: Received Echo Response (Success)\n"


class ProposalTests(DCMTKTestCase):
    """What echoscu proposes, and what it is answered."""

    program = "echoscu"

    async def test_manyContexts(self) -> None:
        """As many presentation contexts as there can be are all accepted."""
        await self.propose("--propose-pc", "128", contexts=128, syntaxes=1)

    async def test_manyTransferSyntaxes(self) -> None:
        """Of all the transfer syntaxes that echoscu knows explicit little endian is chosen."""
        await self.propose("--propose-ts", "38", contexts=1, syntaxes=38)

    async def test_manyOfBoth(self) -> None:
        """The largest request that echoscu can make is answered context for context."""
        await self.propose("--propose-pc", "128", "--propose-ts", "38", contexts=128, syntaxes=38)

    async def propose(self, *options: str, contexts: int, syntaxes: int) -> None:
        """Check what was proposed, that all of it was accepted, and that the echo on it went well."""
        self.start()
        output = await self.succeed("-v", *options)
        self.assertEqual(output.count(_ANSWERED), 1)
        conversation = await self.conversation()
        proposed = conversation.request.presentationContexts
        self.assertEqual([len(proposal.transferSyntaxes) for proposal in proposed], [syntaxes] * contexts)
        self.assertEqual({proposal.abstractSyntax for proposal in proposed}, {VERIFICATION})
        chosen = EXPLICIT_VR_LITTLE_ENDIAN if syntaxes > 1 else IMPLICIT_VR_LITTLE_ENDIAN
        self.assertEqual(
            [
                (result.contextID, result.result, result.transferSyntax)
                for result in conversation.accept.presentationContexts
            ],
            [(number, ACCEPTANCE, chosen) for number in range(1, 2 * contexts, 2)],
        )
        self.assertEqual((conversation.echoes, conversation.closing), ([0], ReleaseRQ()))
        await self.assertEvents("OnConnection", "OnEcho", end="released")
        self.assertEqual(list(self.association.acceptedContexts), list(range(1, 2 * contexts, 2)))

    async def test_lengths(self) -> None:
        """Each side learns how long a PDU the other takes."""
        for asked, taken, sentence in (
            (4096, 131072, "Max Send PDV: 131060"),
            (131072, 4096, "Max Send PDV: 4084"),
            (16384, 0, "Max Send PDV: 131060"),  # no limit but echoscu's own
        ):
            self.start(configuration=Configuration(maximumLength=taken))
            output = await self.succeed("-v", "--max-pdu", str(asked))
            self.assertIn(f"I: Association Accepted ({sentence})\n", output)
            self.assertEqual(self.association.maximumLengthToSend, asked)
            self.assertEqual((await self.conversation()).accept.userInformation.maximumLength, taken)

    async def test_titles(self) -> None:
        """Any AE title that echoscu lets pass is taken, and told as it is."""
        for given, told in (
            ("a", "a"),
            ("WITH A SPACE", "WITH A SPACE"),
            ("../../etc", "../../etc"),
            ("'$(id)`id`'", "'$(id)`id`'"),
            ("SIXTEEN LETTERS!", "SIXTEEN LETTERS!"),
            ("MORE THAN SIXTEEN", "MORE THAN SIXTEE"),  # echoscu cuts it
            (" around ", "around"),
            ("back\\slash", "back\\slash"),
            ("R\u00d6NTGEN", "R\u00c3\u0096NTGEN"),  # UTF-8, which PS3.5 6.2 does not allow
        ):
            self.start()
            await self.succeed("-aet", given, "-aec", given)
            self.assertEqual(self.events.calls[0][1][:3], (told, told, "127.0.0.1"))
            await self.assertEvents("OnConnection", "OnEcho", end="released")


class EndTests(DCMTKTestCase):
    """How associations with echoscu end, or do not begin."""

    program = "echoscu"

    async def test_released(self) -> None:
        """A hundred echoes, one at a time, and a release."""
        await self.repeat(closing=ReleaseRQ(), end="released")

    async def test_aborted(self) -> None:
        """A hundred echoes, one at a time, and an abort."""
        await self.repeat("--abort", closing=Abort(0, 0), end="aborted")

    async def repeat(self, *options: str, closing: PDU, end: str) -> None:
        """Check that each of a hundred echoes was told of and answered, and how the association ended."""
        self.start()
        output = await self.succeed("-v", "--repeat", "100", *options)
        self.assertEqual(output.count(_ANSWERED), 100)
        conversation = await self.conversation()
        self.assertEqual((conversation.echoes, conversation.closing), ([0] * 100, closing))
        await self.assertEvents("OnConnection", *["OnEcho"] * 100, end=end)
        self.assertEqual(self.listener.associations, [])

    async def test_rejected(self) -> None:
        """Each way to reject arrives as what it is."""
        provider = "Service Provider (Presentation Related)"
        for answer, result, source, reason in (
            (False, "Rejected Permanent", "Service User", "No Reason"),
            (AssociationRejected(1, 1, 3), "Rejected Permanent", "Service User", "Calling AE Title Not Recognized"),
            (AssociationRejected(2, 3, 1), "Rejected Transient", provider, "Temporary Congestion"),
            (AssociationRejected(2, 3, 2), "Rejected Transient", provider, "Local Limit Exceeded"),
        ):
            self.start(RecordingEvents(OnConnection=answer))
            finished = await self.client()
            self.assertNotEqual(finished.status, 0)
            self.assertIn(f"Result: {result}, Source: {source}\n", finished.output)
            self.assertIn(f"Reason: {reason}\n", finished.output)
            await self.listener.stopService()
            self.assertEqual(self.events.names, ["OnConnection"])

    async def test_calledTitle(self) -> None:
        """Where the called AE title is checked, only the listener's own is let in."""
        self.start(configuration=Configuration(AETitle="OURS", checkCalledAETitle=True))
        finished = await self.client("-aec", "THEIRS")
        self.assertNotEqual(finished.status, 0)
        self.assertIn("Reason: Called AE Title Not Recognized\n", finished.output)
        await self.succeed("-aec", "OURS")
        await self.assertEvents("OnConnection", "OnEcho", end="released")
