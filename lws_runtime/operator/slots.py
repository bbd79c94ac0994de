"""A bound on what is under way at once, shared fairly: who waits long for answers holds up no other.

Rule: one may take a slot while it holds less than a third of the number that is free. So a single one gets a
quarter of them, several that all want more get less each, and some stay free for whoever comes next. Only
when a dozen or more are there who give nothing back may a new one have to wait, and then it has the next that
is given back by anybody: those who hold one already get none of the last three.

Cost: taking and giving back a slot looks at no more than `count` of those who wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final

_SHARE: Final = 3  # of the slots that are free, one part of so many is the most that one may hold


class Slots:
    """So many slots, for holders of any number that are told apart by a key."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # in the order of their turns

    @asynccontextmanager
    async def one(self, key: Hashable) -> AsyncIterator[None]:
        """Hold a slot; waits until there is one for `key`."""
        await self._take(key)
        try:
            yield
        finally:
            self._give_back(key)

    async def _take(self, key: Hashable) -> None:
        if key not in self._waiting and self._may_take(key):
            self._hand_over(key)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came at the same moment
                self._give_back(key)
            raise

    def _may_take(self, key: Hashable) -> bool:
        return _SHARE * self._held.get(key, 0) < self._free

    def _hand_over(self, key: Hashable) -> None:
        self._free -= 1
        self._held[key] = self._held.get(key, 0) + 1

    def _give_back(self, key: Hashable) -> None:
        self._free += 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        while self._next_turn():
            pass

    def _next_turn(self) -> bool:
        """Give a slot to the first of those who wait that may have one; whether there was one."""
        if not self._free:
            return False
        key = next((key for key in self._waiting if self._may_take(key)), None)
        if key is None:
            return False
        turns = self._waiting.pop(key)
        while turns and turns[0].done():  # cancelled meanwhile
            turns.popleft()
        if turns:
            turns.popleft().set_result(None)
            self._hand_over(key)
        if turns:
            self._waiting[key] = turns  # behind the others
        return True
