"""
Bytes of memory that objects share: who holds how many, and who waits for more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dcxtwisted.errors import StoreRefused
from dcxtwisted.statuses import OUT_OF_RESOURCES


class Holder(Protocol):
    """
    What holds bytes.

    :ivar held: how many, counted by the budget; 0 at first.
    """

    held: int


class Budget:
    """
    So many bytes for all holders together; they count as they are needed, whatever anybody claims to need later.

    :ivar held: bytes held now.
    """

    def __init__(self, limit: int, reactor: IReactorTime | None = None) -> None:
        """
        :param reactor: runs those who waited, in a turn of their own; needed where anybody is to wait.
        """
        self.held = 0
        self._limit = limit
        self._reactor = reactor
        # Not dicts: what is taken first is what came first, and a dict then looks through all that went before it.
        self._holders: OrderedDict[Holder, None] = OrderedDict()
        self._waiting: OrderedDict[Holder, tuple[int, Deferred[None]]] = OrderedDict()
        self._look: IDelayedCall | None = None

    def reserve(self, holder: Holder, size: int) -> bool:
        """Count bytes for a holder; False, and nothing counted, where there is no room or others came first."""
        if self.held + size > self._limit or self._waiting:
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
        Return a Deferred that fires when bytes are counted for a holder: when there is room, first come first served.

        It fails with StoreRefused where it could wait for ever: everybody who holds anything waits for more. Then the
        youngest of them goes, which is the only one where it alone is too large.

        :raises StoreRefused: there never will be room.
        """
        if holder.held + size > self._limit:
            raise StoreRefused(OUT_OF_RESOURCES, "object larger than the memory budget")
        waiting: Deferred[None] = Deferred(lambda ignored: self._withdraw(holder))
        self._waiting[holder] = size, waiting
        self._lookSoon()
        return waiting

    def release(self, holder: Holder) -> None:
        """Count nothing for a holder any more; where it waits for more, that is cancelled."""
        released, holder.held = holder.held, 0
        if released:
            self.held -= released
            del self._holders[holder]
        if holder in self._waiting:
            self._waiting[holder][1].cancel()
        self._lookSoon()

    def _withdraw(self, holder: Holder) -> None:
        del self._waiting[holder]
        self._lookSoon()

    def _lookSoon(self) -> None:
        # In a turn of its own: what goes on may ask the application, which may be what has just taken an object.
        if self._look is not None:
            if not self._waiting:
                self._look.cancel()
                self._look = None
        elif self._waiting:
            assert self._reactor is not None
            self._look = self._reactor.callLater(0, self._lookNow)

    def _lookNow(self) -> None:
        """Let go on whoever can, in the order in which they began to wait."""
        self._look = None
        while self._waiting:
            holder, (size, waiting) = next(iter(self._waiting.items()))
            if self.held + size <= self._limit:
                del self._waiting[holder]
                self._count(holder, size)
                waiting.callback(None)
            elif all(other in self._waiting for other in self._holders):
                _, stuck = self._waiting.pop(next(reversed(self._holders)))
                stuck.errback(StoreRefused(OUT_OF_RESOURCES, "memory budget exhausted"))
            else:
                return
