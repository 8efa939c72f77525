"""
Several bad peers at once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from dcxtwisted.configuration import MemoryOverflow
from dcxtwisted.interfaces import IStoreRequest, Outcome
from dcxtwisted.stores.memory import MemoryStore
from tests.badinputs.datasets import PIXELS, RQ, element, head, storing
from tests.badinputs.inputs import INSTANCE, RELEASE_RQ, pData, pdv, storeRQ
from tests.badinputs.oracle import Attack, BadInputTestCase
from tests.badinputs.peers import WAYS, WHOLE, reactionsIn


class DuplicateTests(BadInputTestCase):
    """80: two peers send one instance at once."""

    def together(self, first: bytes, second: bytes, check: Callable[[Attack, list[Any]], object]) -> None:
        """Send both, one piece after the other, each way; ``check`` gets what was stored."""

        def script(attack: Attack) -> None:
            stored: list[Any] = []

            def OnStoreDone(filename: str, storage_status: bool, request: IStoreRequest) -> bool:
                stored.append(request.stored)
                return storage_status

            attack.events.answers["OnStoreDone"] = OnStoreDone
            for data in (first, second):
                attack.associate(RQ)
                attack.send(storing(data)[:-1])
            for peer, connection, data in zip(attack.peers, attack.connections, (first, second), strict=True):
                peer.send(storing(data)[-1:])
                connection.pump()
            attack.pumpAll()
            for peer, connection in zip(attack.peers, attack.connections, strict=True):
                assert reactionsIn(peer.stream)[0] == ["AC", "RSP 0000"]
                peer.send(RELEASE_RQ)
                connection.pump()
                connection.client.loseConnection()
                connection.pump()
            attack.maximumLines = 3  # one that there are two of a kind
            check(attack, stored)

        self.eachWay(script)

    def test_same(self) -> None:
        """Both are told that it is stored, and it is, once."""

        def check(attack: Attack, stored: list[Any]) -> None:
            self.assertEqual([each.outcome for each in stored], [Outcome.NEW, Outcome.IDENTICAL])
            attack.objects[INSTANCE] = head() + PIXELS

        self.together(head() + PIXELS, head() + PIXELS, check)

    def test_different(self) -> None:
        """Both are kept."""
        other = head() + element(0x7FE00010, "OW", b"\x66" * 64)

        def check(attack: Attack, stored: list[Any]) -> None:
            self.assertEqual([each.outcome for each in stored], [Outcome.NEW, Outcome.KEPT_BOTH])
            attack.objects.update({INSTANCE: head() + PIXELS, f"{INSTANCE}~1": other})

        self.together(head() + PIXELS, other, check)

    def test_sameButForTheEnd(self) -> None:
        """One that is cut leaves the other alone."""

        def script(attack: Attack) -> None:
            whole = head() + PIXELS
            attack.associate(RQ)
            attack.send(storing(whole))
            attack.send(storing(whole[:-2], messageID=2))
            attack.expect("AC", "RSP 0000", "RSP C000")
            attack.objects[INSTANCE] = whole
            attack.expectAlive()

        self.eachWay(script)


def descriptors() -> list[int]:
    """Return what is open."""
    return [int(name) for name in os.listdir("/proc/self/fd")]


def unfinished(fd: int) -> int | None:
    """Return how much is in a file without a name, None where it is none."""
    try:
        return os.fstat(fd).st_size if os.readlink(f"/proc/self/fd/{fd}").endswith("(deleted)") else None
    except FileNotFoundError:
        return None  # that of the listing


class TemporarySpaceTests(BadInputTestCase):
    """83: peers that fill the space for what is unfinished, and never finish."""

    #: What each of them sends.
    SIZE = 60_000

    def begin(self, attack: Attack, uid: str) -> None:
        """Begin an object on a new association, and let it hang."""
        attack.associate(RQ)
        attack.send(storeRQ(uid), pData(pdv(3, 0, head(uid) + b"\x55" * 10_000)))
        for _ in range(self.SIZE // 10_000 - 1):
            attack.send(pData(pdv(3, 0, b"\x55" * 10_000)))

    def fillUp(self, attack: Attack, full: str) -> None:
        """Assert that beyond the space objects are refused, and that it is free again when its peers have gone."""
        for number in range(5):
            self.begin(attack, f"1.5.{number}")
            attack.expect("AC")
        attack.associate(RQ)
        attack.send(storing(head() + element(0x7FE00010, "OW", b"\x55" * 30_000)))
        attack.expect("AC", "RSP A700")
        self.assertEqual(attack.responses[0].elements[0x0902].decode().rstrip(), full)
        attack.canary.sing()
        attack.expectAlive()
        for connection in attack.connections[:-1]:
            connection.client.abortConnection()
            connection.pump()
        attack.associate(RQ)
        attack.send(storing(head() + PIXELS))
        attack.expect("AC", "RSP 0000")
        attack.expectAlive()
        attack.maximumLines = 10

    def test_memory(self) -> None:
        """The others' objects go to files meanwhile."""

        def script(attack: Attack) -> None:
            memory = MemoryStore(370_000, MemoryOverflow.REFUSE)
            attack.events.answers["OnStoreSetup"] = lambda filename, request: memory.open(request)
            self.fillUp(attack, "memory budget exhausted")
            taken = memory.take()
            assert taken is not None
            self.assertEqual(taken.data[-len(PIXELS) :], PIXELS)
            self.assertEqual(memory.bytesHeld, 0)

        self.eachWay(script)

    def test_disk(self) -> None:
        """A disk that has no more room: what is small still finds some."""

        def writing(real: Callable[..., int], size: Callable[[Any], int]) -> Callable[..., int]:
            def write(fd: int, data: Any) -> int:
                held = sum(filter(None, map(unfinished, descriptors())))
                if unfinished(fd) is not None and held + size(data) > 320_000:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real(fd, data)

            return write

        self.patch(os, "write", writing(os.write, len))
        self.patch(os, "writev", writing(os.writev, lambda parts: sum(map(len, parts))))

        def script(attack: Attack) -> None:
            self.fillUp(attack, "disk full")
            attack.objects[INSTANCE] = head() + PIXELS

        self.eachWay(script, (WHOLE, *WAYS[2:4]))  # each write looks at all that is open
