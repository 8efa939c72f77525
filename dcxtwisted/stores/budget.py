"""
Bytes of memory that objects share: who holds how many, and who waits for more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from itertools import count
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dcxtwisted.errors import StoreRefused
from dcxtwisted.statuses import OUT_OF_RESOURCES


class Holder(Protocol):
    """
    What holds bytes. Both attributes are the budget's, and 0 at first.

    :ivar held: how many.
    :ivar turn: its place among all holders, by when it first asked for any.
    """

    held: int
    turn: int


class Budget:
    """
    So many bytes for all holders together; they count as they are needed, whatever anybody claims to need later.

    Those who wait are served by when they first asked for anything, not by when they began to wait. So the oldest has
    all that becomes free until it is done, and does not end as one of many that are half done.

    :ivar held: bytes held now.
    """

    def __init__(self, limit: int, reactor: IReactorTime | None = None) -> None:
        """
        :param reactor: runs those who waited, in a turn of their own; needed where anybody is to wait.
        """
        self.held = 0
        self._limit = limit
        self._reactor = reactor
        self._turns = count(1)
        # In order of their turns, which no dict is: removing the first of many again and again it gets ever slower.
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        self._waiting: dict[int, tuple[Holder, int, Deferred[None]]] = {}
        self._order: list[int] = []
        self._look: IDelayedCall | None = None

    def reserve(self, holder: Holder, size: int) -> bool:
        """Count bytes for a holder; False, and nothing counted, where there is no room or an older one waits."""
        turn = holder.turn
        if not turn:
            turn = holder.turn = next(self._turns)
        if self.held + size > self._limit or (self._order and self._order[0] < turn):
            return False
        self._count(holder, size)
        return True

    def _count(self, holder: Holder, size: int) -> None:
        if not holder.held:
            self._holders[holder] = None
        holder.held += size
        self.held += size

    def whenRoom(self, holder: Holder, size: int) -> Deferred[None]:
        """
        Return a Deferred that fires when bytes are counted for a holder that could not reserve them.

        It fails with StoreRefused where it could wait for ever: everybody who holds anything waits for more. Then the
        youngest of them goes. And where it is cancelled: then nothing was taken for longer than it can wait.

        :raises StoreRefused: there never will be room.
        """
        if holder.held + size > self._limit:
            raise StoreRefused(OUT_OF_RESOURCES, "object larger than the memory budget")
        waiting: Deferred[None] = Deferred(lambda ignored: self._waitedLong(holder))
        self._waiting[holder.turn] = holder, size, waiting
        insort(self._order, holder.turn)
        self._lookSoon()
        return waiting

    def release(self, holder: Holder) -> None:
        """Count nothing for a holder any more; where it waits for more, that is cancelled."""
        released, holder.held = holder.held, 0
        if released:
            self.held -= released
            del self._holders[holder]
        if holder.turn in self._waiting:
            self._remove(holder.turn)[2].errback(CancelledError())
        self._lookSoon()

    def giveUp(self) -> None:
        """Refuse all who wait: the listener stops, and they had their time."""
        while self._order:
            self._refuse(self._order[-1], "stopping")

    def _waitedLong(self, holder: Holder) -> None:
        self._refuse(holder.turn, "the objects in memory were not taken in time")
        self._lookSoon()

    def _remove(self, turn: int) -> tuple[Holder, int, Deferred[None]]:
        del self._order[bisect_left(self._order, turn)]
        return self._waiting.pop(turn)

    def _refuse(self, turn: int, comment: str) -> None:
        _, _, waiting = self._remove(turn)
        waiting.errback(StoreRefused(OUT_OF_RESOURCES, comment))

    def _lookSoon(self) -> None:
        # In a turn of its own: what goes on may ask the application, which may be what has just taken an object.
        if self._look is not None:
            if not self._order:
                self._look.cancel()
                self._look = None
        elif self._order:
            assert self._reactor is not None
            self._look = self._reactor.callLater(0, self._lookNow)

    def _lookNow(self) -> None:
        """Let go on whoever can."""
        self._look = None
        while self._order:
            turn = self._order[0]
            holder, size, waiting = self._waiting[turn]
            if self.held + size <= self._limit:
                self._remove(turn)
                self._count(holder, size)
                waiting.callback(None)
            elif all(other.turn in self._waiting for other in self._holders):
                self._refuse(next(reversed(self._holders)).turn, "memory budget exhausted")
            else:
                return
