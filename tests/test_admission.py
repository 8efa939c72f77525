"""
Who may come in: the limits, who is closed for others, and that nothing is counted that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.admission import MOST_BYTES_OF_REQUESTS, Admission, countedUnder
from dcxtwisted.configuration import Configuration


class AdmissionTestCase(SynchronousTestCase):
    def limit(self, **settings: Any) -> None:
        """Begin anew with these limits."""
        self.admission: Admission[str] = Admission(Configuration(**settings))

    def come(self, host: str, *names: str) -> list[str | None]:
        """Have connections made, and return what is closed for each."""
        return [self.admission.connectionMade(name, host) for name in names]

    def admit(self, name: str, host: str = "a", title: str = "PEER") -> str | None:
        """Have a connection made, and ask for its association; return the limit that keeps it out."""
        self.assertIsNone(self.admission.connectionMade(name, host))
        return self.admission.admit(name, host, title)

    def assertNothingCounted(self) -> None:
        """Fail where anything is kept of connections that are gone."""
        kept = {name: value for name, value in vars(self.admission).items() if name not in ("counts", "limits")}
        self.assertEqual([name for name, value in kept.items() if value], [])
        self.assertEqual(len(kept), 7)


class CountedUnderTests(SynchronousTestCase):
    """`countedUnder`"""

    def test_IPv6(self) -> None:
        """By the /64, however the address is written."""
        for host in (
            "2001:db8:0:7::",
            "2001:db8::7:0:0:0:1",
            "2001:DB8:0:7:ffff:ffff:ffff:ffff",
            "2001:db8:0:7::1%eth0",
        ):
            self.assertEqual(countedUnder(host), "2001:db8:0:7::/64")
        for host in ("2001:db8:0:6:ffff:ffff:ffff:ffff", "2001:db8:0:8::"):
            self.assertNotEqual(countedUnder(host), "2001:db8:0:7::/64")
        self.assertEqual(countedUnder("::1"), "::/64")
        self.assertEqual(countedUnder("fd00::1"), "fd00::/64")

    def test_IPv4(self) -> None:
        """By the address, in whatever form."""
        for host in ("192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201", "0:0:0:0:0:ffff:192.0.2.1"):
            self.assertEqual(countedUnder(host), "192.0.2.1")

    def test_translated(self) -> None:
        """What a translator makes of IPv4 addresses is told apart as these are."""
        for host in ("64:ff9b::c000:201", "64:ff9b::c000:202", "::ffff:0:c000:201", "::ffff:0:c000:202"):
            self.assertEqual(countedUnder(host), host)
        self.assertEqual(countedUnder("64:ff9b:1::c000:201"), "64:ff9b:1::/64")

    def test_linkLocal(self) -> None:
        """The /64 is the whole link: by the address, and the link that it is on."""
        for host in ("fe80::1", "fe80::2", "fe80::1%eth0", "fe80::1%eth1", "febf:ffff::1"):
            self.assertEqual(countedUnder(host), host)
        self.assertEqual(countedUnder("FE80:0::1"), "fe80::1")
        self.assertEqual(countedUnder("fec0::1"), "fec0::/64")

    def test_nonsense(self) -> None:
        """What is no address counts as it is written."""
        for host in (
            "local",
            "",
            ":",
            "::1::2",
            "2001:db8::1/64",
            "2001:db8::1\\x1b[2J",
            "a:b",
            "fe80::1%",
            "fe80::%a%b",
        ):
            self.assertEqual(countedUnder(host), host)


class OutsideTests(AdmissionTestCase):
    """Connections without an association."""

    def test_asManyAsMayBe(self) -> None:
        self.limit(maximumConnectionsBeforeAssociation=3)
        self.assertEqual(self.come("a", "1", "2", "3"), [None] * 3)
        self.assertEqual(self.admission.counts, {"connections": 3})

    def test_oldest(self) -> None:
        self.limit(maximumConnectionsBeforeAssociation=3)
        self.come("a", "1", "2", "3")
        self.assertEqual(self.come("a", "4"), ["1"])
        self.assertEqual(self.admission.counts, {"connections": 4, "connections closed for others": 1})

    def test_eachHasAnotherClosed(self) -> None:
        """Also where the first is not gone yet: one turn of the reactor accepts several, it goes in the next."""
        self.limit(maximumConnectionsBeforeAssociation=3)
        self.come("a", "1", "2", "3")
        self.assertEqual(self.come("a", "4", "5", "6"), ["1", "2", "3"])
        self.admission.connectionLost("1")
        self.admission.connectionLost("2")
        self.admission.connectionLost("3")
        self.assertEqual(self.come("a", "7"), ["4"])

    def test_ofTheFullestHost(self) -> None:
        """A crowd from one address loses its own, however long another has waited."""
        self.limit(maximumConnectionsBeforeAssociation=5)
        self.come("b", "b1", "b2")
        self.come("a", "a1", "a2", "a3")
        self.assertEqual(self.come("a", "a4", "a5"), ["a1", "a2"])
        self.assertEqual(self.come("c", "c1"), ["a3"])
        self.assertEqual(self.come("c", "c2"), ["b1"])

    def test_ofTheFullestNetwork(self) -> None:
        """A crowd from the many addresses of one host loses its own too."""
        self.limit(maximumConnectionsBeforeAssociation=4)
        self.come("2001:db8:0:1::1", "b1", "b2")
        for number in range(2):
            self.come(f"2001:db8::{number}", f"a{number}")
        for number in range(2, 20):
            self.assertEqual(self.come(f"2001:db8::{number}", f"a{number}"), [f"a{number - 2}"])

    def test_ofTheOneThatHasBeenThereLongestWhereAllAreAsFull(self) -> None:
        """Never the newcomer itself."""
        self.limit(maximumConnectionsBeforeAssociation=3)
        for number in range(3):
            self.come(f"host {number}", f"{number}")
        for number in range(3, 20):
            self.assertEqual(self.come(f"host {number}", f"{number}"), [f"{number - 3}"])

    def test_onlyOne(self) -> None:
        self.limit(maximumConnectionsBeforeAssociation=1)
        self.come("a", "1")
        self.assertEqual(self.come("a", "2"), ["1"])
        self.assertEqual(self.come("b", "3"), ["2"])

    def test_insideDoesNotCount(self) -> None:
        self.limit(maximumConnectionsBeforeAssociation=2)
        for number in range(5):
            self.assertIsNone(self.admit(f"{number}"))
        self.assertEqual(self.come("a", "5", "6", "7"), [None, None, "5"])

    def test_refusedOneStaysOutside(self) -> None:
        self.limit(maximumConnectionsBeforeAssociation=2, maximumAssociations=1)
        self.admit("1")
        self.assertEqual(self.admit("2"), "maximumAssociations = 1")
        self.assertEqual(self.come("a", "3", "4"), [None, "2"])

    def test_outsideAgain(self) -> None:
        """One whose association is over waits to be closed, and is the last to have come."""
        self.limit(maximumConnectionsBeforeAssociation=2)
        self.admit("1")
        self.come("a", "2")
        self.admission.leave("1", True)
        self.assertEqual(self.come("a", "3", "4"), ["2", "1"])

    def test_closedOneAsksAllTheSame(self) -> None:
        """What was read before it was closed: it is let in, and out again."""
        self.limit(maximumConnectionsBeforeAssociation=1)
        self.come("a", "1")
        self.assertEqual(self.come("a", "2"), ["1"])
        self.assertIsNone(self.admission.admit("1", "a", "PEER"))
        self.admission.leave("1", False)
        self.admission.connectionLost("1")
        self.admission.connectionLost("2")
        self.assertNothingCounted()


class RequestTests(AdmissionTestCase):
    """What is kept of requests that are not whole."""

    def setUp(self) -> None:
        self.limit()
        self.come("a", "1", "2", "3")

    def test_asMuchAsMayBe(self) -> None:
        self.assertIsNone(self.admission.requestGrew("1", MOST_BYTES_OF_REQUESTS - 100))
        self.assertIsNone(self.admission.requestGrew("2", 100))
        self.assertEqual(self.admission.counts, {"connections": 3})

    def test_largest(self) -> None:
        """Whoever sent the byte that is too much; what it had is free again."""
        self.admission.requestGrew("1", 50)
        self.admission.requestGrew("2", MOST_BYTES_OF_REQUESTS - 100)
        self.admission.requestGrew("1", 50)
        self.assertEqual(self.admission.requestGrew("3", 1), "2")
        self.assertEqual(self.admission.counts["connections closed for others"], 1)
        self.assertIsNone(self.admission.requestGrew("3", MOST_BYTES_OF_REQUESTS - 101))
        self.assertIsNone(self.admission.requestGrew("2", 1000), "it is closed already")
        self.assertEqual(self.admission.requestGrew("1", 1), "3")

    def test_gone(self) -> None:
        """What was taken in, or is closed, takes nothing."""
        for name in "123":
            self.admission.requestGrew(name, MOST_BYTES_OF_REQUESTS)
            if name == "1":
                self.assertIsNone(self.admission.admit(name, "a", "PEER"))
                self.admission.leave(name, False)
            else:
                self.admission.connectionLost(name)
        self.assertNothingCounted()


class InsideTests(AdmissionTestCase):
    """Associations."""

    def test_inAll(self) -> None:
        self.limit(maximumAssociations=3)
        for number in range(3):
            self.assertIsNone(self.admit(f"{number}", f"host {number}"))
        self.assertEqual(self.admit("3", "host 3"), "maximumAssociations = 3")
        self.assertEqual(self.admission.counts, {"connections": 4, "associations over a limit": 1})
        self.admission.leave("1", True)
        self.assertIsNone(self.admit("4", "host 4"))

    def test_perAddress(self) -> None:
        self.limit(maximumAssociationsPerAddress=2)
        self.assertIsNone(self.admit("1", "a"))
        self.assertIsNone(self.admit("2", "a"))
        self.assertEqual(self.admit("3", "a"), "maximumAssociationsPerAddress = 2")
        self.assertIsNone(self.admit("4", "b"))
        self.admission.leave("4", True)
        self.assertEqual(self.admit("5", "a"), "maximumAssociationsPerAddress = 2")
        self.admission.leave("2", True)
        self.assertIsNone(self.admit("6", "a"))

    def test_perNetwork(self) -> None:
        """One host with many addresses takes the place of one, until all that counted is gone."""
        self.limit(maximumAssociationsPerAddress=2)
        self.assertIsNone(self.admit("1", "2001:db8::1"))
        self.assertIsNone(self.admit("2", "2001:db8::2"))
        self.assertEqual(self.admit("3", "2001:db8::3"), "maximumAssociationsPerAddress = 2")
        self.assertIsNone(self.admit("4", "2001:db8:0:1::1"))
        self.admission.leave("1", True)
        self.assertIsNone(self.admit("5", "2001:db8::5"))
        for name in "12345":
            self.admission.leave(name, True)
            self.admission.connectionLost(name)
        self.assertNothingCounted()

    def test_perLinkLocalAddress(self) -> None:
        self.limit(maximumAssociationsPerAddress=1)
        self.assertIsNone(self.admit("1", "fe80::1%eth0"))
        self.assertIsNone(self.admit("2", "fe80::2%eth0"))
        self.assertEqual(self.admit("3", "fe80::1%eth0"), "maximumAssociationsPerAddress = 1")

    def test_perAETitle(self) -> None:
        self.limit(maximumAssociationsPerAETitle=2)
        self.assertIsNone(self.admit("1", "a", "CT"))
        self.assertIsNone(self.admit("2", "b", "CT"))
        self.assertEqual(self.admit("3", "c", "CT"), "maximumAssociationsPerAETitle = 2")
        self.assertIsNone(self.admit("4", "c", "MR"))
        self.admission.leave("1", False)
        self.assertIsNone(self.admit("5", "c", "CT"))

    def test_anyNumberPerAETitle(self) -> None:
        self.limit(maximumAssociationsPerAddress=1000)
        self.assertEqual({self.admit(f"{number}") for number in range(1000)}, {None})
        self.assertEqual(self.admit("1000"), "maximumAssociations = 1000")

    def test_leavesOnce(self) -> None:
        self.limit(maximumAssociations=2)
        self.admit("1")
        self.admit("2")
        self.admission.leave("1", True)
        self.admission.leave("1", True)
        self.assertIsNone(self.admit("3"))
        self.assertEqual(self.admit("4"), "maximumAssociations = 2")

    def test_neverAdmitted(self) -> None:
        self.limit()
        self.come("a", "1")
        self.admission.leave("1", True)
        self.admission.connectionLost("1")
        self.admission.connectionLost("1")
        self.assertNothingCounted()

    def test_closedBeforeItIsOver(self) -> None:
        """An association goes on to be counted when its connection is gone: what came of it is not done."""
        self.limit(maximumAssociations=1)
        self.admit("1")
        self.admission.connectionLost("1")
        self.assertEqual(self.admit("2"), "maximumAssociations = 1")
        self.admission.connectionLost("2")
        self.admission.leave("1", False)
        self.assertNothingCounted()


class AnyOrderTests(AdmissionTestCase):
    """Whatever happens in whatever order, what is counted is what is there."""

    def life(self, random: Random, name: str) -> Iterator[None]:
        """Let one connection live; it goes on where this is resumed."""
        host = f"host {random.randrange(4)}"
        crowded = self.admission.connectionMade(name, host)
        if crowded is not None:
            self.assertIn(crowded, self.outside)
            self.assertNotEqual(crowded, name)
            self.outside.discard(crowded)
        self.outside.add(name)
        yield
        if random.random() < 0.8:
            # A PROXY header may have told of another host meanwhile.
            host = random.choice([host, "host 9"])
            refused = self.admission.admit(name, host, random.choice(["A", "B", "C"]))
            if refused is None:
                self.outside.discard(name)
                self.inside.add(name)
            yield
        for step in random.sample(["leave", "lost", "leave"], 3):
            isConnected = name in self.connected
            if step == "leave":
                if name in self.inside and isConnected:
                    self.outside.add(name)
                self.inside.discard(name)
                self.admission.leave(name, isConnected)
            else:
                self.connected.discard(name)
                self.outside.discard(name)
                self.admission.connectionLost(name)
            yield

    def test_anyOrder(self) -> None:
        for seed in range(30):
            random = Random(seed)
            self.limit(
                maximumAssociations=9,
                maximumAssociationsPerAddress=4,
                maximumAssociationsPerAETitle=5,
                maximumConnectionsBeforeAssociation=7,
            )
            self.outside: set[str] = set()
            self.inside: set[str] = set()
            names = [f"{number}" for number in range(60)]
            self.connected = set(names)
            lives = [self.life(random, name) for name in names]
            while lives:
                life = random.choice(lives[:12])
                try:
                    next(life)
                except StopIteration:
                    lives.remove(life)
                self.assertEqual(set(self.admission._outside), self.outside)
                self.assertEqual(set(self.admission._inside), self.inside)
                self.assertLessEqual(len(self.inside), 9)
                self.assertEqual(sum(self.admission._outsideOf.values()), len(self.outside))
            self.assertNothingCounted()
