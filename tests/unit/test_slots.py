"""How slots are shared, with holders that keep theirs for as long as a test wants."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from lws_runtime.operator.slots import Slots


class Crowd:
    """Who has asked for slots, and who has got some."""

    def __init__(self, count: int) -> None:
        self.slots = Slots(count)
        self.held: Counter[str] = Counter()
        self.order: list[str] = []
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._ends: dict[str, list[asyncio.Event]] = {}

    async def ask(self, key: str, times: int = 1) -> None:
        self._tasks.setdefault(key, []).extend(asyncio.create_task(self._hold(key)) for _ in range(times))
        await self.settle()

    async def _hold(self, key: str) -> None:
        async with self.slots.one(key):
            self.held[key] += 1
            self.order.append(key)
            end = asyncio.Event()
            self._ends.setdefault(key, []).append(end)
            try:
                await end.wait()
            finally:
                self.held[key] -= 1

    async def end(self, key: str) -> None:
        self._ends[key].pop(0).set()
        await self.settle()

    async def cancel(self, key: str) -> None:
        for task in self._tasks[key]:
            task.cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def leave(self) -> None:
        for key in self._tasks:
            await self.cancel(key)


def run(body: Callable[[Crowd], Awaitable[None]], count: int = 64) -> Crowd:
    async def inner() -> Crowd:
        crowd = Crowd(count)
        try:
            await body(crowd)
        finally:
            await crowd.leave()
        return crowd

    crowd = asyncio.run(inner())
    assert (crowd.slots._free, crowd.slots._held) == (count, {})
    return crowd


@pytest.mark.parametrize("greedy", [1, 2, 4, 8, 12])
def test_those_who_give_nothing_back_must_leave_a_slot_to_others(greedy: int) -> None:
    async def body(crowd: Crowd) -> None:
        for number in range(greedy):
            await crowd.ask(f"greedy-{number}", 100)
        assert max(crowd.held.values()) == 16
        await crowd.ask("modest")
        assert crowd.held["modest"] == 1

    run(body)


@pytest.mark.parametrize(("greedy", "share", "free"), [(2, 13, 38), (4, 9, 27), (12, 4, 12), (40, 1, 4)])
def test_those_who_want_all_slots_must_have_equal_shares_in_the_end(
    greedy: int, share: int, free: int
) -> None:
    async def body(crowd: Crowd) -> None:
        names = [f"greedy-{number}" for number in range(greedy)]
        for name in names:
            await crowd.ask(name, 200)
        for _ in range(100):  # each of those that hold the most gives one back
            await crowd.end(max(names, key=lambda name: crowd.held[name]))
        assert all(abs(crowd.held[name] - share) <= 1 for name in names)
        assert abs(64 - sum(crowd.held.values()) - free) <= 4

    run(body)


def test_slots_never_are_more_than_there_are() -> None:
    async def body(crowd: Crowd) -> None:
        for number in range(20):
            await crowd.ask(str(number), 2)
        assert sum(crowd.held.values()) == 8

    run(body, 8)


def test_slot_that_is_given_back_must_go_to_who_has_none() -> None:
    async def body(crowd: Crowd) -> None:
        await crowd.ask("first", 9)
        await crowd.ask("second")
        await crowd.ask("late")
        assert crowd.held == {"first": 1, "second": 1}
        await crowd.end("second")
        assert crowd.held == {"first": 1, "second": 0, "late": 1}

    run(body, 2)


def test_those_who_wait_must_have_their_turns_one_after_another() -> None:
    async def body(crowd: Crowd) -> None:
        await crowd.ask("a")
        for key in "bcd":
            await crowd.ask(key, 2)
        for key in "abcdbcd":
            await crowd.end(key)

    assert run(body, 1).order == list("abcdbcd")


def test_all_who_ask_must_be_served_whatever_is_cancelled() -> None:
    """Of each holder's requests some are given up while they wait, or as their turn comes."""
    chance = random.Random(7)

    async def inner() -> None:
        slots, served = Slots(5), 0

        async def use(key: int) -> None:
            nonlocal served
            async with slots.one(key):
                await asyncio.sleep(0)
            served += 1

        tasks = [asyncio.create_task(use(chance.randrange(7))) for _ in range(300)]
        for task in tasks:
            if chance.random() < 0.3:
                task.cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        await asyncio.wait(tasks)
        assert served == sum(not task.cancelled() for task in tasks)
        assert served > 100
        assert (slots._free, slots._held, slots._waiting) == (5, {}, {})

    asyncio.run(inner())


def test_slot_that_is_given_back_never_costs_a_look_at_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, may_take = 0, Slots._may_take

    def counted(slots: Slots, key: str) -> bool:
        nonlocal looks
        looks += 1
        return may_take(slots, key)

    monkeypatch.setattr(Slots, "_may_take", counted)

    async def inner() -> None:
        slots = Slots(4)

        async def use(key: int) -> None:
            async with slots.one(key):
                await asyncio.sleep(0)

        await asyncio.gather(*(use(key) for key in range(1000)))

    asyncio.run(inner())
    assert looks <= 1000 * (1 + 4)
