"""Who may come in: the rules as a function, and on the wire each rule with each peer and the exact A-ASSOCIATE-RJ."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.configuration import Configuration
from dcxtwisted.errors import AssociationRejected
from dcxtwisted.policy import (
    EVERY_SERVICE,
    Decision,
    Facts,
    Rule,
    ServiceName,
    addressFrom,
    decide,
    rejectionFrom,
)
from dcxtwisted.testing import ListenerInMemory, RecordingEvents, ScriptedPeer
from dcxtwisted.testing.peer import CT_IMAGE_STORAGE
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from dcxtwisted.users import IUsernameAlone, Users
from dcxtwisted.wire.items import RoleSelection, SOPClassExtendedNegotiation, UserIdentityRequest
from dcxtwisted.wire.pdu import AssociateRJ
from tests.support import dataSet, logged
from tests.tlspeers import Client, TLSListenerTestCase

THUMBPRINT = "ab" * 32
STORAGE = frozenset({ServiceName.STORAGE})
VERIFY = frozenset({ServiceName.VERIFICATION})

CT = Facts(callingAETitle="CT1", calledAETitle="MAIN", address=ip_address("192.0.2.7"))
OVER_TLS = Facts(
    callingAETitle="CT1",
    calledAETitle="MAIN",
    address=ip_address("2001:db8::7"),
    TLSSubject="CN=ct1,O=Hospital",
    TLSThumbprint=THUMBPRINT,
    user="alice",
)
NOBODY = Facts()


def rejected(result: int, source: int, reason: int, why: str) -> Decision:
    return Decision(frozenset(), AssociateRJ(result, source, reason), why)


UNMATCHED = rejected(1, 1, 1, "because no rule of the policy lets it in")
BY_FIRST = "by rule 1 of the policy"


class DecideTests(SynchronousTestCase):
    """``decide`` and the rules it goes by."""

    def test_conditions(self) -> None:
        """Each condition lets in exactly whom it names; several values are alternatives, '*' and '?' stand for text."""
        table: list[tuple[dict[str, Any], tuple[bool, bool, bool]]] = [
            # the condition, and whether it lets in: CT, OVER_TLS, NOBODY
            ({}, (True, True, True)),
            ({"callingAETitles": ["CT1"]}, (True, True, False)),
            ({"callingAETitles": ["CT2", "CT1"]}, (True, True, False)),
            ({"callingAETitles": ["ct1"]}, (False, False, False)),
            ({"callingAETitles": ["CT"]}, (False, False, False)),
            ({"callingAETitles": ["CT?"]}, (True, True, False)),
            ({"callingAETitles": ["C*"]}, (True, True, False)),
            ({"callingAETitles": ["*"]}, (True, True, False)),
            ({"callingAETitles": ["*T*1*"]}, (True, True, False)),
            ({"callingAETitles": ["*2"]}, (False, False, False)),
            ({"callingAETitles": ["CT1?"]}, (False, False, False)),
            ({"callingAETitles": ["C.1", "[C]T1"]}, (False, False, False)),
            ({"calledAETitles": ["MAIN"]}, (True, True, False)),
            ({"calledAETitles": ["OTHER"]}, (False, False, False)),
            ({"networks": ["192.0.2.0/24"]}, (True, False, False)),
            ({"networks": ["192.0.2.7"]}, (True, False, False)),
            ({"networks": ["192.0.2.8/29"]}, (False, False, False)),
            ({"networks": ["198.51.100.0/24", "2001:db8::/32"]}, (False, True, False)),
            ({"networks": ["0.0.0.0/0", "::/0"]}, (True, True, False)),
            ({"TLSSubjects": ["CN=ct1,O=Hospital"]}, (False, True, False)),
            ({"TLSSubjects": ["*,O=Hospital"]}, (False, True, False)),
            ({"TLSSubjects": ["*"]}, (False, True, False)),
            ({"TLSThumbprints": [":".join(["AB"] * 32)]}, (False, True, False)),
            ({"TLSThumbprints": ["cd" * 32]}, (False, False, False)),
            ({"users": ["alice"]}, (False, True, False)),
            ({"users": ["*"]}, (False, True, False)),
            ({"users": ["bob"]}, (False, False, False)),
            ({"callingAETitles": ["CT1"], "users": ["alice"]}, (False, True, False)),
            ({"callingAETitles": ["CT1"], "networks": ["192.0.2.0/24"]}, (True, False, False)),
        ]
        for condition, lets in table:
            for facts, isIn in zip((CT, OVER_TLS, NOBODY), lets, strict=True):
                with self.subTest(condition=condition, facts=facts):
                    allowed = decide([Rule(allow=True, **condition)], facts)
                    self.assertEqual(allowed, Decision(EVERY_SERVICE) if isIn else UNMATCHED)
                    kept = decide([Rule(allow=False, reject="1/1/3", **condition), Rule(allow=True)], facts)
                    self.assertEqual(kept, rejected(1, 1, 3, BY_FIRST) if isIn else Decision(EVERY_SERVICE))

    def test_noRules(self) -> None:
        """Without a rule everyone comes in."""
        self.assertEqual(decide([], NOBODY), Decision(EVERY_SERVICE))

    def test_firstDecides(self) -> None:
        """The first rule that matches decides, whatever those behind it say."""
        refuse = Rule(allow=False, callingAETitles=["CT1"], reject="2/3/1")
        self.assertEqual(decide([refuse, Rule(allow=True)], CT), rejected(2, 3, 1, BY_FIRST))
        self.assertEqual(decide([Rule(allow=True), refuse], CT), Decision(EVERY_SERVICE))
        self.assertEqual(decide([refuse, Rule(allow=True)], NOBODY), Decision(EVERY_SERVICE))

    def test_services(self) -> None:
        """For each service the first rule about it decides; refused is who is left with nothing of what it asks for."""
        storage = Rule(allow=True, callingAETitles=["CT1"], services=["storage"])
        verify = Rule(allow=True, services=["verification"])
        noEcho = Rule(allow=False, services=["verification"], reject="1/1/3")
        table = [
            ([storage, verify], CT, EVERY_SERVICE, Decision(EVERY_SERVICE)),
            ([storage, verify], NOBODY, EVERY_SERVICE, Decision(VERIFY)),
            ([storage, verify], NOBODY, STORAGE, UNMATCHED),
            ([storage, verify], NOBODY, frozenset(), Decision(VERIFY)),
            ([storage], CT, EVERY_SERVICE, Decision(STORAGE)),
            ([storage], CT, VERIFY, UNMATCHED),
            ([noEcho, Rule(allow=True)], CT, EVERY_SERVICE, Decision(STORAGE)),
            ([noEcho, Rule(allow=True)], CT, VERIFY, rejected(1, 1, 3, BY_FIRST)),
            ([noEcho], CT, STORAGE, UNMATCHED),
            ([noEcho, Rule(allow=False, reject="1/1/7")], CT, STORAGE, rejected(1, 1, 7, "by rule 2 of the policy")),
            ([noEcho, Rule(allow=False, reject="1/1/7")], CT, EVERY_SERVICE, rejected(1, 1, 3, BY_FIRST)),
        ]
        for rules, facts, wanted, decision in table:
            with self.subTest(rules=rules, facts=facts, wanted=wanted):
                self.assertEqual(decide(rules, facts, wanted), decision)

    def test_notARule(self) -> None:
        """What can never decide anything, or is not what it should be, is an error that says what it takes."""
        table: list[tuple[dict[str, Any], str]] = [
            ({"networks": ["192.0.2.7/24"]}, "not a network, as 192.0.2.0/24 or 2001:db8::/32: 192.0.2.7/24 has host"),
            ({"networks": ["ward"]}, "not a network"),
            ({"networks": "192.0.2.0/24"}, "networks are a collection"),
            ({"callingAETitles": "CT1"}, "patterns are texts"),
            ({"callingAETitles": [" "]}, "patterns are texts"),
            ({"TLSThumbprints": ["abc"]}, "a SHA-256 thumbprint has 64 hexadecimal digits, not 'abc'"),
            ({"services": ["query"]}, "services are storage and verification"),
            ({"services": []}, "a rule for no service"),
            ({"services": "storage"}, "services are a collection"),
            ({"reject": "1/1/4"}, "there is no rejection 1/1/4"),
            ({"reject": "3/1/1"}, "there is no rejection 3/1/1"),
            ({"reject": "2/2/3"}, "there is no rejection 2/2/3"),
            ({"reject": "never"}, "a rejection is result/source/reason, as 1/1/1, not 'never'"),
            ({"reject": (1, 1)}, "a rejection is result/source/reason"),
        ]
        for given, error in table:
            with self.subTest(given=given):
                self.assertIn(error, str(self.assertRaises(ValueError, Rule, allow=True, **given)))

    def test_rejections(self) -> None:
        """A rejection is what PS3.8 table 9-21 has, however it is written."""
        for given in ("1/3/2", (1, 3, 2), AssociateRJ(1, 3, 2)):
            self.assertEqual(rejectionFrom(given), AssociateRJ(1, 3, 2))

    def test_addresses(self) -> None:
        """A host is its address: IPv4 within IPv6 is IPv4, a zone is no matter, and other hosts have none."""
        self.assertEqual(addressFrom("192.0.2.1"), ip_address("192.0.2.1"))
        self.assertEqual(addressFrom("::ffff:192.0.2.1"), ip_address("192.0.2.1"))
        self.assertIsNone(addressFrom("unix"))
        local = addressFrom("fe80::1%eth0")
        self.assertEqual(
            decide([Rule(allow=True, networks=["fe80::/10"])], Facts(address=local)), Decision(EVERY_SERVICE)
        )

    def test_escapedSubjects(self) -> None:
        """What a name has for a comma does not end it: it is for the CA to say which organization somebody is of."""
        table = [
            (r"CN=x\,O=Hospital", "*,O=Hospital", False),
            (r"CN=x\,O=Hospital", r"*\,O=Hospital", True),
            (r"CN=x\,y,O=Hospital", "*,O=Hospital", True),
            (r"CN=x\,y,O=Hospital", "CN=x?y,O=*", True),
            (r"CN=x\\,O=Hospital", "*,O=Hospital", True),
            ("CN=a\nb", "CN=a?b", True),
            ("CN=a\\", "CN=a*", True),
        ]
        for subject, pattern, matches in table:
            with self.subTest(subject=subject, pattern=pattern):
                self.assertIs(Rule(allow=True, TLSSubjects=[pattern]).matches(Facts(TLSSubject=subject)), matches)

    def test_mappedNetworks(self) -> None:
        """IPv4 within IPv6 is IPv4, in rules as in addresses."""
        rule = Rule(allow=True, networks=["::ffff:192.0.2.0/120"])
        self.assertTrue(rule.matches(CT))
        self.assertFalse(rule.matches(Facts(address=ip_address("198.51.100.1"))))
        self.assertFalse(Rule(allow=True, networks=["::/0"]).matches(CT))
        self.assertTrue(Rule(allow=True, networks=["::/0"]).matches(OVER_TLS))

    def test_longTexts(self) -> None:
        """A text of a peer is compared in time of its length, whatever pattern stands there."""
        facts = Facts(TLSSubject="a" * 60000)
        self.assertEqual(decide([Rule(allow=True, TLSSubjects=["*a*a*a*a*a*a*a*a*b"])], facts), UNMATCHED)


@implementer(ICredentialsChecker)
class Believing:
    """A checker that takes everyone's word."""

    credentialInterfaces = (IUsernameAlone,)

    def requestAvatarId(self, credentials: IUsernameAlone) -> Deferred[bytes | tuple[()]]:
        return succeed(credentials.username)


#: Peers: who they say they are, where they come from, and which user.
PEERS: dict[str, tuple[str, str, Any, str]] = {
    "CT": ("CT1", "DCXTWISTED", IPv4Address("TCP", "192.0.2.7", 40000), ""),
    "WARD": ("WARD", "DCXTWISTED", IPv6Address("TCP", "::ffff:192.0.2.9", 40000), "alice"),
    "GUEST": ("GUEST", "OTHER", IPv6Address("TCP", "2001:db8::1", 40000), "mallory"),
    "LOCAL": ("LOCAL", "DCXTWISTED", UNIXAddress(None), ""),
}

#: Rules, and for each peer above what it is told: '' where it comes in.
TABLE: list[tuple[list[Rule], tuple[str, str, str, str]]] = [
    ([], ("", "", "", "")),
    ([Rule(allow=True)], ("", "", "", "")),
    ([Rule(allow=False)], ("1/1/1", "1/1/1", "1/1/1", "1/1/1")),
    ([Rule(allow=True, callingAETitles=["CT*"])], ("", "1/1/1", "1/1/1", "1/1/1")),
    (
        [Rule(allow=False, callingAETitles=["GUEST"], reject="1/1/3"), Rule(allow=True)],
        ("", "", "1/1/3", ""),
    ),
    ([Rule(allow=False, calledAETitles=["OTHER"], reject="1/1/7"), Rule(allow=True)], ("", "", "1/1/7", "")),
    (
        [Rule(allow=True, networks=["192.0.2.0/24"]), Rule(allow=False, reject="2/3/1")],
        ("", "", "2/3/1", "2/3/1"),
    ),
    ([Rule(allow=True, users=["alice"]), Rule(allow=False, reject="2/2/2")], ("2/2/2", "", "2/2/2", "2/2/2")),
    (
        [
            Rule(allow=False, users=["mallory"], reject="1/2/1"),
            Rule(allow=True, users=["*"]),
            Rule(allow=True, networks=["192.0.2.7"], callingAETitles=["CT1"]),
            Rule(allow=False, callingAETitles=["L*"], reject="2/1/2"),
        ],
        ("", "", "1/2/1", "2/1/2"),
    ),
    ([Rule(allow=True, TLSSubjects=["*"])], ("1/1/1", "1/1/1", "1/1/1", "1/1/1")),
    ([Rule(allow=True, services=["verification"])], ("", "", "", "")),
]


class PolicyOnTheWireTests(SynchronousTestCase):
    """What peers are told."""

    def request(self, listener: ListenerInMemory, peer: str, **more: Any) -> ScriptedPeer:
        calling, called, address, user = PEERS[peer]
        if user:
            more["userIdentity"] = UserIdentityRequest(1, False, user.encode())
        scripted, connection = listener.connect(clientAddress=address)
        scripted.associate(callingAETitle=calling, calledAETitle=called, **more)
        connection.pump()
        return scripted

    def test_table(self) -> None:
        """Each peer is told by each list of rules exactly what the table says; OnConnection sees who comes in alone."""
        for rules, answers in TABLE:
            for peer, answer in zip(PEERS, answers, strict=True):
                with self.subTest(rules=rules, peer=peer):
                    events = RecordingEvents()
                    listener = ListenerInMemory(events, policy=rules, users=Users([Believing()]))
                    scripted = self.request(listener, peer)
                    self.assertEqual(scripted.rejected, rejectionFrom(answer) if answer else None)
                    self.assertEqual(scripted.accepted is None, bool(answer))
                    self.assertEqual(events.names, [] if answer else ["OnConnection"])

    def test_service(self) -> None:
        """A service that is not allowed has its contexts refused, and a request on one all the same 0122."""
        rules = [Rule(allow=True, services=["verification"])]
        listener = ListenerInMemory(policy=rules)
        peer, connection = listener.associate()
        accepted = peer.accepted
        assert accepted is not None
        self.assertEqual([(each.contextID, each.result) for each in accepted.presentationContexts], [(1, 0), (3, 1)])
        self.assertEqual(list(listener.acceptor.associations[0].acceptedContexts), [1])
        peer.echo(1)
        peer.store(dataSet(), "1.2.3", messageID=2)
        connection.pump()
        self.assertEqual(peer.statuses, [0x0000, 0x0122])

    def test_lastWord(self) -> None:
        """OnConnection may refuse whom the policy allows."""
        events = RecordingEvents(OnConnection=AssociationRejected(1, 1, 3))
        peer, _ = ListenerInMemory(events, policy=[Rule(allow=True)]).associate()
        self.assertEqual(peer.rejected, AssociateRJ(1, 1, 3))

    def test_log(self) -> None:
        """The log says which rule it was."""
        listener = ListenerInMemory(policy=[Rule(allow=True, callingAETitles=["X"]), Rule(allow=False)])
        with logged() as lines:
            self.request(listener, "CT")
        self.assertIn(
            "association refused by rule 2 of the policy: from 'CT1' (192.0.2.7) to 'DCXTWISTED', 1/1/1", lines
        )

    def test_beforeLimits(self) -> None:
        """Who is refused by the policy learns nothing of how many others are there."""
        listener = ListenerInMemory(
            configuration=Configuration(maximumAssociations=1), policy=[Rule(allow=True, callingAETitles=["CT1"])]
        )
        self.assertIsNotNone(self.request(listener, "CT").accepted)
        self.assertEqual(self.request(listener, "CT").rejected, AssociateRJ(2, 3, 2))
        self.assertEqual(self.request(listener, "GUEST").rejected, AssociateRJ(1, 1, 1))

    def test_changed(self) -> None:
        """Other rules go for the associations that are requested from then on."""
        listener = ListenerInMemory()
        self.assertIsNotNone(self.request(listener, "CT").accepted)
        listener.acceptor.policy = [Rule(allow=False, reject="1/1/3")]
        self.assertEqual(self.request(listener, "CT").rejected, AssociateRJ(1, 1, 3))
        self.assertEqual(len(listener.acceptor.associations), 1)
        listener.acceptor.policy = []
        self.assertIsNotNone(self.request(listener, "CT").accepted)

    def test_refusedRoles(self) -> None:
        """What was negotiated about a class that is refused is not answered."""
        contexts = {
            1: (VERIFICATION, [EXPLICIT_VR_LITTLE_ENDIAN]),
            3: (CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN]),
            5: (CT_IMAGE_STORAGE, ["1.2.3.4"]),
        }
        request: dict[str, Any] = {
            "contexts": contexts,
            "roleSelections": (RoleSelection(CT_IMAGE_STORAGE, True, False), RoleSelection(VERIFICATION, True, False)),
            "extendedNegotiations": (SOPClassExtendedNegotiation(CT_IMAGE_STORAGE, bytes(6)),),
        }
        peer, _ = ListenerInMemory(policy=[Rule(allow=True, services=["verification"])]).associate(**request)
        accepted = peer.accepted
        assert accepted is not None
        self.assertEqual([each.result for each in accepted.presentationContexts], [0, 1, 4])
        self.assertEqual(accepted.userInformation.roleSelections, (RoleSelection(VERIFICATION, True, False),))
        self.assertEqual(accepted.userInformation.extendedNegotiations, ())

    def test_keyword(self) -> None:
        """The listener takes the rules of an embedder as they are."""
        rules = [Rule(allow=True)]
        self.assertEqual(DCXACC([], policy=rules, reactor=ListenerInMemory().clock).policy, tuple(rules))


class PolicyOverTLSTests(TLSListenerTestCase):
    """Rules over the certificate that a client shows."""

    def test_certificates(self) -> None:
        """Subject and thumbprint are those of the handshake; who shows none matches no rule over them."""
        one, other = self.authority.issue("ct1"), self.authority.issue("ct2")
        table: list[tuple[Rule, tuple[bool, bool, bool]]] = [
            (Rule(allow=True, TLSSubjects=["CN=ct1"]), (True, False, False)),
            (Rule(allow=True, TLSSubjects=["CN=ct?"]), (True, True, False)),
            (Rule(allow=True, TLSThumbprints=[other.thumbprint]), (False, True, False)),
        ]
        self.secure(trusted=self.trust()["trusted"])
        for rule, lets in table:
            for client, isIn in zip((Client(one), Client(other), None), lets, strict=True):
                with self.subTest(rule=rule, client=client):
                    self.listener.acceptor.policy = [rule]
                    peer = self.associateTLS(client)
                    self.assertEqual(peer.rejected, None if isIn else AssociateRJ(1, 1, 1))
                    self.assertEqual(peer.accepted is not None, isIn)
                    peer.abort()
                    self.pump()
                    self.listener.acceptor.policy = [attrs.evolve(rule, allow=False, reject="1/1/3"), Rule(allow=True)]
                    peer = self.associateTLS(client)
                    self.assertEqual(peer.rejected, AssociateRJ(1, 1, 3) if isIn else None)
                    self.assertEqual(peer.accepted is None, isIn)
                    peer.abort()
                    self.pump()

    def test_services(self) -> None:
        """Who shows a certificate may store, others verify, and who only wants what it may not is told so."""
        one = self.authority.issue("ct1")
        self.secure(trusted=self.trust()["trusted"])
        self.listener.acceptor.policy = [
            Rule(allow=True, TLSThumbprints=[one.thumbprint]),
            Rule(allow=False, services=["storage"], reject="1/1/7"),
            Rule(allow=True, services=["verification"]),
        ]
        storage = {1: (CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])}
        verification = {1: (VERIFICATION, [EXPLICIT_VR_LITTLE_ENDIAN])}
        for client, contexts, rejection in [
            (Client(one), storage, None),
            (Client(one), verification, None),
            (None, storage, AssociateRJ(1, 1, 7)),
            (None, verification, None),
        ]:
            with self.subTest(client=client, contexts=contexts):
                peer = self.connectTLS(client)
                peer.associate(contexts=contexts)
                self.pump()
                self.assertEqual((peer.rejected, peer.accepted is None), (rejection, rejection is not None))
                peer.abort()
                self.pump()
