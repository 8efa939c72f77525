"""
To whom connections go, and that what is counted is given back.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dcxtwisted.configuration import Configuration
from dcxtwisted.workers.commands import DescriptorsMixedUp
from dcxtwisted.workers.dispatch import Connection, Dispatch, Worker, leastLoaded
from tests.workers.support import socketPair


class FakeLink:
    """Writes down what is said to a worker; the test answers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.answers: dict[int, Deferred[bool]] = {}

    def hand(self, connection: Connection) -> Deferred[bool]:
        self.said.append(("hand", connection.number))
        answer = self.answers[connection.number] = Deferred()
        return answer

    def close(self, number: int) -> None:
        self.said.append(("close", number))

    def abort(self, number: int) -> None:
        self.said.append(("abort", number))

    def stop(self) -> None:
        self.said.append(("stop", 0))

    def take(self) -> None:
        """Answer that all are there."""
        for number in list(self.answers):
            self.answers.pop(number).callback(True)


class LeastLoadedTests(SynchronousTestCase):
    """`leastLoaded`"""

    def worker(self, number: int, connections: int, latest: int = 0, **how: Any) -> Worker:
        link: Any = how.pop("link", FakeLink())
        held: Any = dict.fromkeys(range(connections))
        return Worker(number, link, connections=held, latest=latest, **how)

    def test_fewest(self) -> None:
        few = self.worker(2, 1)
        self.assertIs(leastLoaded([self.worker(1, 2), few, self.worker(3, 5)]), few)

    def test_inTurn(self) -> None:
        """Of those that have as many, the one that was given none for longest."""
        next_ = self.worker(2, 1, latest=3)
        self.assertIs(leastLoaded([self.worker(1, 1, latest=5), next_, self.worker(3, 1, latest=4)]), next_)

    def test_notThere(self) -> None:
        self.assertIsNone(leastLoaded([self.worker(1, 0, link=None), self.worker(2, 0, isLeaving=True)]))


class DispatchTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.make()

    def make(self, up: int = 2, **settings: Any) -> None:
        """Begin anew, with so many of two workers up."""
        self.clock = Clock()
        self.dispatch = Dispatch(Configuration(**settings), self.clock, 2)
        self.workers = self.dispatch.workers
        self.links = [FakeLink() for _ in range(up)]
        for worker, link in zip(self.workers, self.links, strict=False):
            self.dispatch.isUp(worker, link)

    def arrive(self, host: str = "a") -> socket.socket:
        """Have a connection arrive, and return its peer."""
        ours, peer = socketPair(self)
        self.dispatch.arrived(ours, host, 0)
        return peer

    def isClosed(self, peer: socket.socket) -> bool:
        """Whether no one has the other end."""
        try:
            return peer.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def assertNothingKept(self) -> None:
        """Fail where anything is counted, or a timer runs."""
        kept = {
            name: value for name, value in vars(self.dispatch.admission).items() if name not in ("counts", "limits")
        }
        self.assertEqual([name for name, value in kept.items() if value], [])
        self.assertEqual([worker.connections for worker in self.workers], [{}, {}])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HandingTests(DispatchTestCase):
    """Connections on their way to a worker."""

    def test_inTurn(self) -> None:
        for _ in range(4):
            self.arrive()
        self.assertEqual([link.said for link in self.links], [[("hand", 1), ("hand", 3)], [("hand", 2), ("hand", 4)]])

    def test_ownCopyIsClosed(self) -> None:
        """As soon as the worker has it, and not before."""
        peer = self.arrive()
        self.assertFalse(self.isClosed(peer))
        self.links[0].take()
        self.assertTrue(self.isClosed(peer), "the worker of this test has no copy")
        self.assertEqual(len(self.workers[0].connections), 1)
        self.dispatch.lost(self.workers[0], 1)
        self.assertNothingKept()

    def test_peerWasGone(self) -> None:
        self.arrive()
        self.links[0].answers[1].callback(False)
        self.assertNothingKept()

    def test_linkLost(self) -> None:
        """What a worker had not taken goes to another, whichever is told first."""
        for isGoneFirst in (False, True):
            self.make()
            peer = self.arrive()
            failure = Failure(ConnectionLost())
            self.workers[0].isLeaving = True
            if isGoneFirst:
                self.dispatch.isGone(self.workers[0])
            self.links[0].answers[1].errback(failure)
            self.assertEqual(self.links[1].said, [("hand", 1)])
            self.dispatch.isGone(self.workers[0])
            self.links[1].take()
            self.dispatch.lost(self.workers[1], 1)
            self.assertTrue(self.isClosed(peer))
            self.assertNothingKept()

    def test_mixedUp(self) -> None:
        """A worker that has no descriptors left is stopped, once, and others have what it did not take."""
        for _ in range(4):
            self.arrive()
        for number in (1, 3):
            self.links[0].answers[number].errback(Failure(DescriptorsMixedUp()))
        self.assertEqual(self.links[0].said, [("hand", 1), ("hand", 3), ("stop", 0)])
        self.assertEqual([number for _, number in self.links[1].said], [2, 4, 1, 3])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_noneIsUp(self) -> None:
        """It waits, as long as a request may take."""
        self.make(up=0, ARTIM=5)
        early, late = self.arrive(), self.arrive()
        self.clock.advance(4.9)
        link = FakeLink()
        self.dispatch.isUp(self.workers[0], link)
        self.assertEqual(link.said, [("hand", 1), ("hand", 2)])
        link.take()
        self.make(up=0, ARTIM=5)
        waits = self.arrive()
        self.clock.advance(4.9)
        self.assertFalse(self.isClosed(waits))
        self.clock.advance(0.1)
        self.assertTrue(self.isClosed(waits))
        self.assertNothingKept()
        self.assertEqual([self.isClosed(each) for each in (early, late)], [True, True])

    def test_stopped(self) -> None:
        """What waits is closed, and so is what comes."""
        self.make(up=0)
        peer = self.arrive()
        self.dispatch.stop()
        self.assertTrue(self.isClosed(peer))
        self.assertTrue(self.isClosed(self.arrive()))
        self.assertNothingKept()


class CountingTests(DispatchTestCase):
    """What workers say."""

    def test_limitOfAll(self) -> None:
        """Wherever they are: and a place is free when one has left, or its worker has died."""
        self.make(maximumAssociations=2)
        for _ in range(4):
            self.arrive()
        for link in self.links:
            link.take()
        one, two = self.workers
        self.assertIsNone(self.dispatch.admit(one, 1, "a", "CT"))
        self.assertIsNone(self.dispatch.admit(two, 2, "a", "MR"))
        self.assertEqual(self.dispatch.admit(one, 3, "a", "US"), "maximumAssociations = 2")
        self.dispatch.left(two, 2, True)
        self.assertIsNone(self.dispatch.admit(one, 3, "a", "US"))
        self.assertEqual(self.dispatch.admit(two, 4, "a", "XA"), "maximumAssociations = 2")
        self.assertEqual(self.dispatch.isGone(one), 2)
        self.assertIsNone(self.dispatch.admit(two, 4, "a", "XA"))
        self.dispatch.isGone(two)
        self.assertNothingKept()
        self.assertEqual(self.dispatch.admission.counts["associations over a limit"], 2)

    def test_associations(self) -> None:
        """Accepted ones alone; each can be aborted."""
        for _ in range(3):
            self.arrive()
        one, two = self.workers
        self.dispatch.admit(one, 1, "192.0.2.1", "CT")
        self.dispatch.admit(two, 2, "a", "MR")
        self.clock.advance(7)
        self.dispatch.accepted(one, 1, "ARCHIVE")
        (association,) = self.dispatch.associations
        self.assertEqual(
            (association.callingAETitle, association.calledAETitle, association.callingHost, association.startedAt),
            ("CT", "ARCHIVE", "192.0.2.1", 7),
        )
        association.abort()
        self.assertEqual(self.links[0].said[-1], ("abort", 1))
        self.dispatch.left(one, 1, True)
        self.assertEqual(self.dispatch.associations, [])

    def test_goesOnWithoutAConnection(self) -> None:
        """What it was admitted for counts until it is over."""
        self.arrive()
        self.links[0].take()
        worker = self.workers[0]
        self.dispatch.admit(worker, 1, "a", "CT")
        self.dispatch.lost(worker, 1)
        self.assertEqual(len(worker.connections), 1)
        self.dispatch.left(worker, 1, False)
        self.assertNothingKept()

    def test_network(self) -> None:
        """Whichever worker has them, the addresses of a /64 count as one; what is told of is the address."""
        self.make(maximumAssociationsPerAddress=1)
        self.arrive("2001:db8::1")
        self.arrive("2001:db8::2")
        self.assertIsNone(self.dispatch.admit(self.workers[0], 1, "2001:db8::1", "CT"))
        reached = self.dispatch.admit(self.workers[1], 2, "2001:db8::2", "CT")
        self.assertEqual(reached, "maximumAssociationsPerAddress = 1")
        self.dispatch.accepted(self.workers[0], 1, "DCXTWISTED")
        self.assertEqual([each.callingHost for each in self.dispatch.associations], ["2001:db8::1"])

    def test_crowd(self) -> None:
        """Who has waited longest is closed, wherever it is: by its worker, or here."""
        self.make(up=1, maximumConnectionsBeforeAssociation=1)
        self.arrive()
        self.arrive()
        self.assertEqual(self.links[0].said, [("hand", 1), ("hand", 2), ("close", 1)])
        self.make(up=0, maximumConnectionsBeforeAssociation=1)
        first = self.arrive()
        self.arrive()
        self.assertTrue(self.isClosed(first))
        self.dispatch.stop()
        self.assertNothingKept()

    def test_crowdOnItsWay(self) -> None:
        """One that is to be closed, and whose worker dies before it has it, goes to no other."""
        self.make(maximumConnectionsBeforeAssociation=1)
        peer = self.arrive()
        self.arrive()
        self.links[0].answers[1].errback(Failure(ConnectionLost()))
        self.assertTrue(self.isClosed(peer))
        self.assertEqual(self.links[1].said, [("hand", 2)])

    def test_grew(self) -> None:
        """Whose request is the largest is closed, where all are too much."""
        self.arrive()
        self.arrive()
        self.dispatch.grew(self.workers[0], 1, 20 << 20)
        self.dispatch.grew(self.workers[1], 2, 13 << 20)
        self.assertEqual(self.links[0].said[-1], ("close", 1))
