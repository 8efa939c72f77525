"""
The page for those who know the SDK has every member, of the SDK and of the interfaces here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dcxtwisted import IDCXACC, IDCXACCEvents
from tests.loopback import CHECKOUT

#: What the SDK has, section by section.
MEMBERS = {
    "DCXACC": {
        "AbortActiveAssociations",
        "AcceptJpeg2000Storage",
        "AcceptJpegLosslessStorage",
        "AcceptJpegLossyStorage",
        "AcceptPrivateStorageSOPClasses",
        "AcceptRLEStorage",
        "AssociationRequestTimeout",
        "DimseCommandTimeout",
        "NextStorageResponseStatus",
        "OnConnection",
        "SecurityContext",
        "StopListener",
        "StoreDirectory",
        "TakeStoredObject",
        "WaitForCommand",
        "WaitForConnection",
    },
    "IDCXACCEvents": {
        "OnAssocEnd",
        "OnCommitResult",
        "OnConnection",
        "OnEcho",
        "OnFind",
        "OnMPPSCreate",
        "OnMPPSSet",
        "OnStorageCommitRequest",
        "OnStoreDone",
        "OnStoreSetup",
        "OnTimeout",
    },
    "IDCXREQEvents": {"OnStoreDone"},
    "DCXSEC": {
        "AcceptedThumbprints",
        "CertStore",
        "CertSubjectName",
        "CertThumbprint",
        "MutualAuthentication",
        "VerificationMethod",
    },
    "DCXAPP": {
        "EnableInMemoryStorageSCP",
        "FlushLog",
        "LogLevel",
        "LogStream",
        "MaxLogMessages",
        "OnMaxLogCount",
        "StartLogging",
        "StopLogging",
        "WriteToLog",
    },
}


class PageTests(SynchronousTestCase):
    """``docs/coming-from-the-sdk.rst``."""

    def setUp(self) -> None:
        places = (CHECKOUT / "docs", Path(sys.prefix) / "share" / "doc" / "dcxtwisted")
        pages = [place / "coming-from-the-sdk.rst" for place in places]
        page = next((page for page in pages if page.is_file()), None)
        if page is None:
            raise SkipTest("the page is not installed")
        self.text = page.read_text()

    def entries(self, section: str) -> dict[str, str]:
        """Return the members that a section has an entry for, with what stands behind them in the entry's title."""
        text = self.text.partition(f"\n{section}\n{'-' * len(section)}\n")[2]
        titles = re.findall(r"^(``.*)\n    ", re.split(r"\n.*\n----", text)[0], re.MULTILINE)
        return {name: rest for title in titles for name, rest in re.findall(r"``(\w+)([^`]*)``", title)}

    def test_everyMember(self) -> None:
        for section, members in MEMBERS.items():
            self.assertEqual(set(self.entries(section)), members, section)

    def test_ours(self) -> None:
        """Everything that the interfaces here have is told of, with its parameters."""
        accepter, events = self.entries("DCXACC"), self.entries("IDCXACCEvents")
        self.assertEqual(set(IDCXACC) - set(accepter), {"EnableInMemoryStorageSCP"})
        self.assertEqual(set(IDCXACCEvents) - set(events), set())
        for interface, entries in ((IDCXACC, accepter), (IDCXACCEvents, events)):
            for name in set(interface) & set(entries):
                signature = getattr(interface[name], "getSignatureString", str)
                if signature is not str:
                    self.assertEqual(entries[name], signature().replace("=None", ""), name)
