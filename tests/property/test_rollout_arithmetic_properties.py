"""The rollout's arithmetic, searched breadth first in the small and drawn at random in the large.

A world is the numbers of the leader StatefulSet and a letter for each group, index 0 first: o ready and
old, x broken and old, l loading and old, n ready and new, u loading and new. A look writes numbers; what
they allow may then happen all at once, or one group at a time; and any group that loads may become ready at
any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product

import attrs
import pytest
from building import groups_in
from hypothesis import given
from hypothesis import strategies as st

from lws_core.bits import below, highest, indexes, members, span
from lws_core.rollout import (
    Blocked,
    Budget,
    Decision,
    Done,
    Groups,
    Position,
    Step,
    choose_deletes,
    decide,
)

MOST_REPLICAS = 4
OLD = "oxl"


@attrs.frozen
class World:
    partition: int
    applied: int
    states: str

    @property
    def position(self) -> Position:
        return Position(len(self.states), self.partition, self.applied)

    @property
    def ready(self) -> int:
        return sum(letter in "on" for letter in self.states)


def budgets(replicas: int) -> Iterator[Budget]:
    """Every budget of a set of that many groups that lets a rollout move."""
    counts = range(replicas + 1)
    for max_unavailable, max_surge, partition in product(counts, counts, range(replicas + 2)):
        if max_unavailable + max_surge > 0:
            yield Budget(replicas, max_unavailable, max_surge, partition)


def decided(
    budget: Budget, world: World, *, patient: bool = False, writes_template: bool = False
) -> Decision:
    """What a look decides; a patient one waits longer before it gives up on broken groups."""
    groups = groups_in(world.states)
    broken = members(*(i for i, letter in enumerate(world.states) if letter == "x" and not patient))
    groups = attrs.evolve(groups, broken=broken)
    return decide(budget, world.position, groups, writes_template=writes_template)


def written(budget: Budget, world: World, decision: Decision) -> World:
    """The world after the write: what is scaled away is gone, what is new starts above the partition on the
    new revision and below it on the old one."""
    states = world.states[: decision.replicas]
    added = range(len(states), decision.replicas)
    states += "".join("u" if index >= decision.partition else "l" for index in added)
    return World(decision.partition, budget.replicas, states)


def exposed(world: World) -> tuple[int, ...]:
    """Groups that the StatefulSet controller may replace, the highest first."""
    candidates = range(world.partition, len(world.states))
    return tuple(index for index in reversed(candidates) if world.states[index] in OLD)


def replaced(world: World, chosen: Iterable[int]) -> World:
    states = list(world.states)
    for index in chosen:
        states[index] = "u"
    return attrs.evolve(world, states="".join(states))


def at_the_controllers_pace(world: World) -> World:
    """One step of a StatefulSet controller that waits for each leader, from the highest down."""
    for index in range(len(world.states) - 1, world.partition - 1, -1):
        if world.states[index] in OLD:
            return replaced(world, [index])
        if world.states[index] == "u":
            return world
    return world


def all_at_once(world: World) -> World:
    return replaced(world, exposed(world))


def all_loaded(world: World) -> World:
    return attrs.evolve(world, states=world.states.replace("u", "n").replace("l", "o"))


def one_loaded(world: World) -> Iterator[World]:
    for index, letter in enumerate(world.states):
        if letter in "ul":
            loaded = world.states[:index] + ("n" if letter == "u" else "o") + world.states[index + 1 :]
            yield attrs.evolve(world, states=loaded)


ENVIRONMENTS = {"all at once": all_at_once, "one at a time": at_the_controllers_pace}


def beginnings(budget: Budget) -> Iterator[World]:
    """A set at rest, ready or in part broken, just now scaled or not, when its template changes."""
    for count in {budget.replicas, max(0, budget.replicas - 1), budget.replicas + 1}:
        for states in product("ox", repeat=count):
            world = World(budget.partition, count, "".join(states))
            yield written(budget, world, decided(budget, world, writes_template=True))


def successors(budget: Budget, world: World, environment: str) -> Iterator[World]:
    for patient in (False, True):
        yield written(budget, world, decided(budget, world, patient=patient))
    yield ENVIRONMENTS[environment](world)
    yield from one_loaded(world)


@cache
def reachable(budget: Budget, environment: str) -> tuple[World, ...]:
    """Every world that a rollout may come through, breadth first, from every beginning."""
    found = dict.fromkeys(beginnings(budget))
    waiting = list(found)
    for world in waiting:
        for after in successors(budget, world, environment):
            if after not in found:
                found[after] = None
                waiting.append(after)
    return tuple(found)


EVERYWHERE = [
    pytest.param(replicas, environment, id=f"{replicas}-{environment}")
    for replicas in range(1, MOST_REPLICAS + 1)
    for environment in ENVIRONMENTS
]
everywhere = pytest.mark.parametrize(("replicas", "environment"), EVERYWHERE)


def worlds(replicas: int, environment: str) -> Iterator[tuple[Budget, World]]:
    for budget in budgets(replicas):
        for world in reachable(budget, environment):
            yield budget, world


@everywhere
def test_write_never_breaks_the_budget_whatever_follows_at_once(replicas: int, environment: str) -> None:
    for budget, world in worlds(replicas, environment):
        for patient in (False, True):
            decision = decided(budget, world, patient=patient)
            after = written(budget, world, decision)
            dropped = sum(letter in "on" for letter in world.states[decision.replicas :])
            ended = sum(after.states[index] == "o" for index in exposed(after)) + dropped
            if ended == 0 or after.ready - (ended - dropped) >= budget.floor:
                continue
            # Fewer stay ready than should: one healthy group is given up for old groups that are broken.
            assert ended == 1, (budget, world, decision)
            assert "x" in world.states, (budget, world, decision)
            assert not set(world.states) & set("ul"), (budget, world, decision)


@everywhere
def test_write_never_asks_for_more_leaders_than_replicas_and_surge(replicas: int, environment: str) -> None:
    for budget, world in worlds(replicas, environment):
        assert decided(budget, world).replicas <= budget.ceiling, (budget, world)


@everywhere
def test_partition_never_falls_below_the_user_s(replicas: int, environment: str) -> None:
    for budget, world in worlds(replicas, environment):
        assert decided(budget, world).partition >= budget.partition, (budget, world)
        held = world.states[: min(budget.partition, replicas)]
        assert not set(held) & set("un") or world.applied != replicas, (budget, world)


@everywhere
def test_partition_never_rises_while_nothing_fails(replicas: int, environment: str) -> None:
    for budget, world in worlds(replicas, environment):
        assert decided(budget, world).partition <= world.partition, (budget, world)


@everywhere
def test_rollout_always_finishes_once_everything_new_loads(replicas: int, environment: str) -> None:
    """From every reachable world, broken old groups included, and at rest with its own number of leaders."""
    for budget in budgets(replicas):
        finishing: set[World] = set()
        for beginning in reachable(budget, environment):
            path, world = [], beginning
            while world not in finishing:
                path.append(world)
                assert len(path) < 40, (budget, beginning, world)
                after = written(budget, world, decided(budget, world))
                after = all_loaded(ENVIRONMENTS[environment](after))
                if after == world:
                    assert_finished(budget, world)
                    break
                world = after
            finishing.update(path)


def assert_finished(budget: Budget, world: World) -> None:
    assert len(world.states) == budget.replicas, (budget, world)
    assert world.partition == budget.partition, (budget, world)
    assert set(world.states[budget.partition :]) <= {"n"}, (budget, world)
    if "x" not in world.states:
        assert isinstance(decided(budget, world), Done), (budget, world)


@everywhere
def test_deletes_never_go_beyond_what_the_numbers_allow(replicas: int, environment: str) -> None:
    for budget, world in worlds(replicas, environment):
        decision = decided(budget, world)
        groups = groups_in(world.states)
        chosen = choose_deletes(budget, world.position, decision, groups, groups.outdated)
        assert set(chosen) <= set(exposed(world)), (budget, world, chosen)
        assert set(chosen) <= set(exposed(written(budget, world, decision))), (budget, world, chosen)
        assert all(budget.partition <= index < decision.replicas for index in chosen), (budget, world, chosen)
        ended = sum(world.states[index] == "o" for index in chosen)
        if ended and world.ready - ended < budget.floor:
            assert ended == 1, (budget, world, chosen)
            assert "x" in world.states, (budget, world, chosen)


@everywhere
def test_look_always_has_a_reason_when_it_changes_nothing(replicas: int, environment: str) -> None:
    for budget, world in worlds(replicas, environment):
        decision = decided(budget, world)
        same = (decision.replicas, decision.partition) == (len(world.states), world.partition)
        assert isinstance(decision, Done | Blocked) == same, (budget, world)
        if isinstance(decision, Blocked):
            assert decision.groups != 0, (budget, world, decision)


def test_search_never_is_empty() -> None:
    counts = [len(reachable(budget, name)) for budget in budgets(MOST_REPLICAS) for name in ENVIRONMENTS]
    assert sum(counts) > 10_000


# At random, with more groups, and with leaders that are absent or terminating.


@st.composite
def situations(draw: st.DrawFn) -> tuple[Budget, Position, Groups]:
    replicas = draw(st.integers(1, 12))
    max_surge = draw(st.integers(0, replicas))
    max_unavailable = draw(st.integers(0 if max_surge else 1, replicas))
    budget = Budget(replicas, max_unavailable, max_surge, draw(st.integers(0, replicas + 1)))
    leaders = draw(st.integers(0, budget.ceiling))
    applied = draw(st.sampled_from((replicas, leaders)))
    position = Position(leaders, draw(st.integers(0, leaders + 1)), applied)
    letters = draw(st.text("oxnu.", min_size=leaders, max_size=leaders))
    groups = groups_in(letters)
    terminating = groups.present & draw(st.integers(0, below(leaders)))
    broken = groups.outdated & ~groups.ready & draw(st.integers(0, below(leaders)))
    return (
        budget,
        position,
        attrs.evolve(groups, ready=groups.ready & ~terminating, terminating=terminating, broken=broken),
    )


def losses(decision: Decision, position: Position, groups: Groups) -> tuple[int, int]:
    """Ready groups that the numbers allow to be replaced at once, and how many are then left."""
    staying = below(min(position.replicas, decision.replicas))
    ready = groups.ready & staying
    ended = (ready & groups.outdated & ~below(decision.partition)).bit_count()
    return ended, ready.bit_count() - ended


@given(situations())
def test_lowered_partition_never_exposes_more_than_the_budget(
    situation: tuple[Budget, Position, Groups],
) -> None:
    budget, position, groups = situation
    decision = decide(budget, position, groups)
    ended, left = losses(decision, position, groups)
    if decision.partition < position.partition and ended and left < budget.floor:
        assert isinstance(decision, Step)
        assert decision.over_budget
        assert ended == 1


@given(situations())
def test_partition_never_rises_over_groups_that_would_come_back_on_an_old_template(
    situation: tuple[Budget, Position, Groups],
) -> None:
    budget, position, groups = situation
    decision = decide(budget, position, groups)
    untouched = groups.outdated & ~groups.terminating
    if decision.partition > max(position.partition, budget.partition):
        staying = below(min(position.replicas, decision.replicas))
        risen = span(max(position.partition, budget.partition), decision.partition) & staying
        assert risen & ~untouched == 0


@given(situations())
def test_partition_always_rises_as_far_as_it_takes_after_failures(
    situation: tuple[Budget, Position, Groups],
) -> None:
    """Where more is exposed than the budget can spare, the next group up cannot be taken back any more."""
    budget, position, groups = situation
    decision = decide(budget, position, groups)
    ended, left = losses(decision, position, groups)
    if ended and left < budget.floor and decision.allowance < ended:
        staying = min(position.replicas, decision.replicas)
        at_edge = 1 << decision.partition & below(staying)
        assert at_edge & groups.outdated & ~groups.terminating == 0


@given(situations())
def test_template_write_never_exposes_an_outdated_group_beyond_the_budget(
    situation: tuple[Budget, Position, Groups],
) -> None:
    budget, position, groups = situation
    groups = attrs.evolve(groups, outdated=groups.present)
    decision = decide(budget, position, groups, writes_template=True)
    ended, left = losses(decision, position, groups)
    assert isinstance(decision, Step)
    assert decision.partition >= min(budget.replicas, position.replicas, decision.replicas)
    assert ended == 0 or left >= budget.floor or (ended == 1 and groups.broken)


@given(situations())
def test_surge_never_is_taken_from_what_serves(situation: tuple[Budget, Position, Groups]) -> None:
    budget, position, groups = situation
    rolling = groups.outdated & span(budget.partition, budget.replicas) != 0
    if not (rolling or position.surge_out):
        return
    decision = decide(budget, position, groups)
    taken = groups.ready & span(decision.replicas, position.replicas)
    if taken and (groups.ready & below(decision.replicas)).bit_count() < budget.floor:
        # Only for broken old groups, and one at a time.
        assert taken.bit_count() == 1
        assert groups.broken


@given(situations())
def test_numbers_always_stay_in_their_bounds(situation: tuple[Budget, Position, Groups]) -> None:
    budget, position, groups = situation
    for writes_template in (False, True):
        decision = decide(budget, position, groups, writes_template=writes_template)
        assert budget.replicas <= decision.replicas <= budget.ceiling
        assert decision.partition >= budget.partition


@given(situations())
def test_deletes_never_take_a_terminating_or_unreleased_leader(
    situation: tuple[Budget, Position, Groups],
) -> None:
    budget, position, groups = situation
    decision = decide(budget, position, groups)
    chosen = choose_deletes(budget, position, decision, groups, groups.outdated)
    picked = members(*chosen)
    assert picked & (groups.terminating | ~groups.outdated) == 0
    assert picked & below(max(position.partition, decision.partition)) == 0
    assert highest(picked) < decision.replicas
    assert list(chosen) == sorted(chosen, reverse=True)
    unready = groups.outdated & ~groups.ready & ~groups.terminating
    released = span(max(position.partition, decision.partition), decision.replicas)
    assert set(indexes(unready & released)) <= set(chosen)
    ended = (picked & groups.ready).bit_count()
    assert ended <= decision.allowance
