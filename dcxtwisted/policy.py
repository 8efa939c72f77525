"""
Who may come in, and for what: rules over what is known of a peer, and a pure function that decides by them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

import attrs

from dcxtwisted.wire.pdu import AssociateRJ

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

#: Rejected permanently by the service user, no reason given: it tells whoever tries the least.
REFUSED: Final = AssociateRJ(1, 1, 1)

# By source, the reasons that PS3.8 table 9-21 has.
_REASONS: Final = {1: (1, 2, 3, 7), 2: (1, 2), 3: (1, 2)}
_THUMBPRINT: Final = re.compile("[0-9a-f]{64}")
_UNITS: Final = re.compile(r"\\.|.", re.DOTALL)


class ServiceName(Enum):
    """What an association is for; a rule may be for some of these only."""

    STORAGE = "storage"
    VERIFICATION = "verification"


EVERY_SERVICE: Final = frozenset(ServiceName)


def rejectionFrom(given: AssociateRJ | Sequence[int] | str) -> AssociateRJ:
    """
    Return a rejection of 'result/source/reason', or of these three numbers.

    :raises ValueError: PS3.8 table 9-21 has none such.
    """
    if isinstance(given, AssociateRJ):
        result, source, reason = given.result, given.source, given.reason
    else:
        parts = given.split("/") if isinstance(given, str) else given
        try:
            result, source, reason = (int(part) for part in parts)
        except (ValueError, TypeError):
            raise ValueError(f"a rejection is result/source/reason, as 1/1/1, not {given!r}") from None
    if result not in (1, 2) or reason not in _REASONS.get(source, ()):
        raise ValueError(
            f"there is no rejection {result}/{source}/{reason}, but result 1 or 2 with 1/1, 1/2, 1/3, 1/7, 2/1, 2/2, "
            "3/1 or 3/2"
        )
    return AssociateRJ(result, source, reason)


def _patterns(given: Collection[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(text, str) and text.strip() for text in given):
        raise ValueError(f"patterns are texts, of which none is empty, not {given!r}")
    return tuple(text.strip() for text in given)


def _thumbprints(given: Collection[str]) -> tuple[str, ...]:
    thumbprints = tuple(text.replace(":", "").lower() for text in _patterns(given))
    for thumbprint in thumbprints:
        if not _THUMBPRINT.fullmatch(thumbprint):
            raise ValueError(f"a SHA-256 thumbprint has 64 hexadecimal digits, not {thumbprint!r}")
    return thumbprints


def _networks(given: Collection[str | Network]) -> tuple[Network, ...]:
    if isinstance(given, str):
        raise ValueError(f"networks are a collection of texts, not {given!r}")
    networks = []
    for network in given:
        try:
            networks.append(_unmapped(ip_network(network)))
        except ValueError as error:
            raise ValueError(f"not a network, as 192.0.2.0/24 or 2001:db8::/32: {error}") from None
    return tuple(networks)


def _unmapped(network: Network) -> Network:
    """Return a network of IPv4 within IPv6 in IPv4 form, as C{addressFrom} has the addresses."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else ip_network((mapped, network.prefixlen - 96))


def _services(given: Collection[str | ServiceName]) -> frozenset[ServiceName]:
    if isinstance(given, str):
        raise ValueError(f"services are a collection of names, not {given!r}")
    try:
        services = frozenset(ServiceName(service) for service in given)
    except ValueError:
        raise ValueError(f"services are storage and verification, not {given!r}") from None
    if not services:
        raise ValueError("a rule for no service decides nothing")
    return services


@attrs.frozen(kw_only=True)
class Rule:
    """
    Allows or refuses the peers that match it, for some services or for all.

    A peer matches where each condition that is given holds; a condition of several values holds where one of them
    does. In all but networks and thumbprints C{*} stands for any text and C{?} for one character; AE titles, subjects
    and users are compared as they are, capitals and all.

    :ivar allow: True lets in, False keeps out.
    :ivar callingAETitles: what the peer calls itself.
    :ivar calledAETitles: what it calls this side.
    :ivar networks: those of its address, as '192.0.2.0/24', '192.0.2.7' or '2001:db8::/32'. No peer without an IP
        address (a UNIX socket) is in one.
    :ivar TLSSubjects: the subject of its certificate (RFC 4514). What is escaped there is one character: '*,O=Hospital'
        is about the attribute O, and not about a name that has a comma in it. A connection without TLS, or without a
        certificate of the peer, never matches; these too:
    :ivar TLSThumbprints: the SHA-256 thumbprint of its certificate, with colons or without.
    :ivar users: the user that a checker has confirmed; '*' for any that it has.
    :ivar services: what the rule is about; a peer that wants something else too goes on to the next rule for that.
    :ivar reject: the answer where it refuses all that is asked for: an A-ASSOCIATE-RJ, or its result/source/reason.
    """

    allow: bool
    callingAETitles: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    calledAETitles: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    networks: tuple[Network, ...] = attrs.field(default=(), converter=_networks)
    TLSSubjects: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    TLSThumbprints: tuple[str, ...] = attrs.field(default=(), converter=_thumbprints)
    users: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    services: frozenset[ServiceName] = attrs.field(default=EVERY_SERVICE, converter=_services)
    reject: AssociateRJ = attrs.field(default=REFUSED, converter=rejectionFrom)

    def matches(self, facts: Facts) -> bool:
        """True where the rule is about such a peer."""
        return (
            _isOneOf(facts.callingAETitle, self.callingAETitles)
            and _isOneOf(facts.calledAETitle, self.calledAETitles)
            and _isIn(facts.address, self.networks)
            and _isOneOf(facts.TLSSubject, self.TLSSubjects, _unitsOf)
            and (not self.TLSThumbprints or facts.TLSThumbprint in self.TLSThumbprints)
            and _isOneOf(facts.user, self.users)
        )


@attrs.frozen(kw_only=True)
class Facts:
    """
    What is known of a peer that asks for an association.

    :ivar address: None where it has none that networks are about.
    :ivar TLSSubject: '' without a certificate of the peer; the thumbprint likewise.
    :ivar user: '' where no checker has confirmed one.
    """

    callingAETitle: str = ""
    calledAETitle: str = ""
    address: Address | None = None
    TLSSubject: str = ""
    TLSThumbprint: str = ""
    user: str = ""


@attrs.frozen
class Decision:
    """
    What the rules say of a peer.

    :ivar services: what it may use.
    :ivar rejection: what it is told where that is nothing at all, else None.
    :ivar why: for the log.
    """

    services: frozenset[ServiceName]
    rejection: AssociateRJ | None = None
    why: str = ""


_ALLOWED: Final = Decision(EVERY_SERVICE)


def decide(rules: Sequence[Rule], facts: Facts, wanted: Collection[ServiceName] = EVERY_SERVICE) -> Decision:
    """
    Return what a peer may use: for each service the first rule that matches decides; without any, it is refused.

    No rules at all let everyone in.

    :param wanted: the services that it asks for; where none of them is allowed, it is rejected, with the answer of the
        first rule that refuses one.
    """
    if not rules:
        return _ALLOWED
    undecided = set(EVERY_SERVICE)
    allowed: set[ServiceName] = set()
    refusals: list[tuple[frozenset[ServiceName], AssociateRJ, str]] = []
    for number, rule in enumerate(rules, 1):
        decided = rule.services & undecided
        if decided and rule.matches(facts):
            undecided -= decided
            if rule.allow:
                allowed |= decided
            else:
                refusals.append((decided, rule.reject, f"by rule {number} of the policy"))
            if not undecided:
                break
    asked = frozenset(wanted) or EVERY_SERVICE
    if allowed & asked:
        return Decision(frozenset(allowed))
    for decided, rejection, why in refusals:
        if decided & asked:
            return Decision(frozenset(), rejection, why)
    return Decision(frozenset(), REFUSED, "because no rule of the policy lets it in")


def addressFrom(host: str) -> Address | None:
    """Return the address of a host, an IPv4 peer of an IPv6 socket in IPv4 form; None where it is no address."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _isIn(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return not networks or (address is not None and any(address in network for network in networks))


def _isOneOf(text: str, patterns: tuple[str, ...], unitsOf: Callable[[str], Sequence[str]] = str) -> bool:
    # An empty text is something not known: not even '*' stands for it.
    return not patterns or (bool(text) and any(_matches(unitsOf(text), unitsOf(pattern)) for pattern in patterns))


def _unitsOf(subject: str) -> Sequence[str]:
    """Return the characters of a subject, an escaped one as one: no pattern takes a comma in a name for its end."""
    return _UNITS.findall(subject)


def _matches(text: Sequence[str], pattern: Sequence[str]) -> bool:
    """
    True where C{*} and C{?} of the pattern can stand for what the text has there.

    In time of their product at most: a peer chooses the text, and a regular expression may take for ever.
    """
    at = place = 0
    star, resumed = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, resumed = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at += 1
            place += 1
        elif star >= 0:
            resumed += 1
            at, place = resumed, star + 1
        else:
            return False
    return all(rest == "*" for rest in pattern[place:])
