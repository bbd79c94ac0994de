"""The reasons and the details of the rollout; its numbers are in tests/golden and tests/property."""

from __future__ import annotations

import attrs
import pytest
from building import groups_in

from lws_core.bits import below, indexes, members
from lws_core.rollout import Blocked, Budget, Done, Groups, Position, Step, choose_deletes, decide

FOUR = Budget(4)


def waits(budget: Budget, position: Position, states: str, **given: int) -> tuple[str, list[int]]:
    decision = decide(budget, position, groups_in(states, **given))
    assert isinstance(decision, Blocked), decision
    return decision.reason, list(indexes(decision.groups))


@pytest.mark.parametrize(
    ("position", "states", "reason", "groups"),
    [
        (Position(4, 3, 4), "ooou", "Loading", [3]),
        (Position(4, 3, 4), "oooo", "Replacing", [3]),
        (Position(4, 3, 4), "ooo.", "Starting", [3]),
        (Position(4, 4, 4), "xxoo", "BudgetSpent", [0, 1]),
        (Position(4, 0, 4), "nn.n", "Starting", [2]),
        (Position(4, 0, 4), "nnun", "Loading", [2]),
    ],
)
def test_look_that_changes_nothing_always_says_what_it_waits_for(
    position: Position, states: str, reason: str, groups: list[int]
) -> None:
    assert waits(FOUR, position, states) == (reason, groups)


def test_template_write_never_gives_up_a_ready_group_for_broken_ones() -> None:
    groups = groups_in("xo", broken=0b1)
    assert decide(Budget(2), Position(2, 2, 2), groups) == Step(2, 0, 1, over_budget=True)
    assert decide(Budget(2), Position(2, 2, 2), groups, writes_template=True) == Step(2, 2, 0)


def test_template_write_never_counts_on_groups_that_may_have_gone_unseen() -> None:
    # Back to the template before, with fewer groups, while group 0 was released to the one after.
    back, position = groups_in("noooo"), Position(5, 0, 3)
    assert decide(Budget(1, 0, 2), position, back, writes_template=True) == Step(1, 1, 0)
    unsure = attrs.evolve(back, exposed=members(0))
    assert decide(Budget(1, 0, 2), position, unsure, writes_template=True) == Step(2, 2, 0)
    # A third template, while group 2 was released to the second.
    other, position = groups_in("ooooo"), Position(5, 2, 3)
    assert decide(Budget(3, 0, 2), position, other, writes_template=True) == Step(5, 3, 2)
    unsure = attrs.evolve(other, exposed=members(2))
    assert decide(Budget(3, 0, 2), position, unsure, writes_template=True) == Step(5, 4, 1)


def test_set_at_rest_always_is_done() -> None:
    assert decide(FOUR, Position(4, 0, 4), groups_in("nnnn")) == Done(4, 0, 1)
    assert decide(Budget(0), Position(0, 0, 0), groups_in("")) == Done(0, 0, 0)


def test_set_with_an_unready_group_never_is_done() -> None:
    assert isinstance(decide(FOUR, Position(4, 0, 4), groups_in("nnnu")), Blocked)


def test_canary_never_counts_groups_that_are_not_to_be_updated() -> None:
    budget = Budget(4, partition=2)
    assert isinstance(decide(budget, Position(4, 2, 4), groups_in("oonn")), Done)
    assert waits(budget, Position(4, 2, 4), "oxnn") == ("Loading", [1])


def test_template_write_always_steps_even_where_no_number_changes() -> None:
    decision = decide(FOUR, Position(4, 4, 4), groups_in("oooo"), writes_template=True)
    assert decision == Step(4, 4, 1)


def test_failure_in_mid_flight_always_takes_back_what_is_not_touched_yet() -> None:
    """Groups 2 and 3 were released on a budget that group 0 has then used up."""
    decision = decide(Budget(4, 2), Position(4, 2, 4), groups_in("xooo"))
    assert (decision.partition, decision.allowance) == (3, 1)
    # Group 3 is going already: raising the partition over it would bring it back as it was.
    decision = decide(Budget(4, 2), Position(4, 2, 4), groups_in("xoox", terminating=members(3)))
    assert decision.partition == 3


def test_partition_never_rises_over_an_updated_group() -> None:
    decision = decide(Budget(4, 1), Position(4, 2, 4), groups_in("xonn"))
    assert decision.partition == 2


def test_wedged_rollout_always_goes_one_healthy_group_over_the_budget() -> None:
    broken = members(0, 1)
    decision = decide(FOUR, Position(4, 4, 4), groups_in("xxoo", broken))
    assert decision == Step(4, 3, 1, over_budget=True)
    # The next look does not take it back, and does not go further.
    assert waits(FOUR, Position(4, 3, 4), "xxoo", broken=broken) == ("Replacing", [3])


@pytest.mark.parametrize(
    ("budget", "position", "states", "broken"),
    [
        (FOUR, Position(4, 4, 4), "xxoo", [0]),  # one of them may come back
        (FOUR, Position(4, 3, 4), "xxou", [0, 1]),  # an updated group loads
        (FOUR, Position(4, 3, 4), "xoox", [0, 3]),  # a broken one is released already, and goes first
    ],
)
def test_rollout_never_goes_over_the_budget_while_something_is_on_its_way(
    budget: Budget, position: Position, states: str, broken: list[int]
) -> None:
    decision = decide(budget, position, groups_in(states, members(*broken)))
    assert decision.partition >= position.partition
    assert decision.allowance == 0


def test_broken_groups_always_go_before_healthy_ones_that_would_cost_the_budget() -> None:
    budget = Budget(4, 0, 3)
    decision = decide(budget, Position(7, 4, 4), groups_in("xxoxnnn", members(0, 1, 3)))
    assert decision == Step(7, 3, 0)


def test_scale_up_always_comes_before_the_rollout() -> None:
    decision = decide(Budget(8), Position(4, 2, 4), groups_in("oonn"))
    assert decision == Step(8, 2, 0)


def test_scale_down_never_is_held_up_by_unready_groups() -> None:
    decision = decide(Budget(2, 1, 2), Position(4, 0, 4), groups_in("uunn"))
    assert (decision.replicas, decision.partition) == (2, 0)


def test_ready_surge_never_is_returned_while_serving_needs_it() -> None:
    """Nothing may be missing: the extra group stays until the others serve."""
    decision = decide(Budget(2, 0, 1), Position(3, 0, 2), groups_in("nun"))
    assert decision.replicas == 3
    assert decide(Budget(2, 0, 1), Position(3, 0, 2), groups_in("nnn")).replicas == 2


@pytest.mark.parametrize("last", "no")
def test_surge_that_alone_serves_never_is_returned_even_where_the_budget_wants_less(last: str) -> None:
    """Of two extra groups one would do for the two that load; but the one that serves is the last."""
    decision = decide(Budget(1, 0, 2), Position(3, 3, 1), groups_in("uu" + last))
    assert decision.replicas == 3
    assert decide(Budget(1, 0, 2), Position(3, 3, 1), groups_in("u" + last + last)).replicas == 2


def test_surge_that_is_returned_never_counts_for_what_may_be_ended() -> None:
    """Three serve, one must. The last is returned, so one more may be ended, not two."""
    decision = decide(Budget(1, 0, 2), Position(3, 1, 1), groups_in("ooo"))
    assert decision == Step(2, 1, 1)


def test_surge_never_is_returned_on_account_of_a_group_that_the_same_write_holds_back() -> None:
    """The user keeps group 0 just as it was released: it may be gone, though it still seems to serve."""
    canary = Budget(2, 0, 1, partition=1)
    released = decide(canary, Position(3, 0, 2), groups_in("onn"))
    assert (released.replicas, released.partition) == (3, 1)
    held = decide(canary, Position(3, 1, 2), groups_in("onn"))
    assert (held.replicas, held.partition) == (2, 1)


def test_surge_never_is_returned_on_account_of_all_that_is_held_back_in_turn() -> None:
    """Without group 0 nothing can be spared, so that group 1 is held back too, and may be gone as well."""
    decision = decide(Budget(2, 0, 2, partition=1), Position(4, 0, 2), groups_in("oonn"))
    assert (decision.replicas, decision.partition) == (4, 2)


def test_ready_surge_never_is_given_up_for_broken_groups_while_a_ready_group_is_released() -> None:
    """Group 2 was released over the budget, then the user raised the partition: one may go, not two."""
    groups = attrs.evolve(groups_in("xxon"), broken=0b11)
    decision = decide(Budget(2, 0, 2, partition=1), Position(4, 2, 2), groups)
    assert (decision.replicas, decision.partition, decision.allowance) == (4, 2, 1)
    released = attrs.evolve(groups, outdated=0b11)
    assert decide(Budget(2, 0, 2, partition=1), Position(4, 2, 2), released).replicas == 3


def test_deletes_always_go_from_the_highest_down_and_end_with_the_allowance() -> None:
    budget, position = Budget(4, 2), Position(4, 0, 4)
    groups = groups_in("oooo")
    decision = Blocked(4, 0, 2, "Replacing", below(4))
    assert choose_deletes(budget, position, decision, groups, below(4)) == (3, 2)


def test_deletes_never_spend_the_allowance_on_unready_groups() -> None:
    decision = Blocked(4, 0, 1, "Replacing", below(4))
    groups = groups_in("oxox")
    assert choose_deletes(Budget(4, 3), Position(4, 0, 4), decision, groups, below(4)) == (3, 2, 1)


def test_deletes_never_reach_what_only_the_new_partition_releases() -> None:
    """The StatefulSet controller would bring it back on the old template until it has seen the partition."""
    groups = groups_in("oooo")
    assert choose_deletes(Budget(4, 4), Position(4, 3, 4), Step(4, 0, 4), groups, below(4)) == (3,)
    assert choose_deletes(Budget(4, 4), Position(4, 0, 4), Step(4, 3, 4), groups, below(4)) == (3,)


def test_deletes_never_take_surge_that_is_returned_or_a_leader_that_is_going() -> None:
    groups = groups_in("xxxxxx", terminating=members(3))
    decision = Step(4, 0, 0)
    assert choose_deletes(Budget(4, 1, 2), Position(6, 0, 4), decision, groups, below(6)) == (2, 1, 0)


def test_deletes_always_take_outdated_surge_that_stays() -> None:
    """A StatefulSet controller with a maxUnavailable replaces nothing while so many leaders are broken."""
    groups = groups_in("nnxx")
    decision = Blocked(4, 0, 0, "Replacing", members(2, 3))
    assert choose_deletes(Budget(2, 0, 2), Position(4, 0, 2), decision, groups, members(2, 3)) == (3, 2)


def test_group_that_serves_until_it_is_recreated_always_costs_what_a_ready_one_does() -> None:
    """Without the budget for it, one goes over the budget, and it does not go along."""
    groups = Groups(present=0b1111, ready=0b0100, outdated=0b0111, doomed=0b0010)
    assert isinstance(decide(Budget(4, 2), Position(4, 3, 4), groups), Blocked)
    broken = attrs.evolve(groups, ready=0b1100, outdated=0b1111, broken=0b0011)
    step = decide(Budget(4, 1), Position(4, 4, 4), broken)
    assert (step.partition, step.replicas) == (3, 4)
    lower = attrs.evolve(broken, outdated=0b0011)
    assert decide(Budget(4, 1), Position(4, 2, 4), lower).partition == 1


def test_surge_that_a_template_edited_by_hand_may_have_replaced_always_is_held_back() -> None:
    """Group 0 and the surge serve, 1 and 2 are being replaced, and the revision before comes back."""
    groups = Groups(0b1111, 0b1001, 0b1110, terminating=0b0110, exposed=0b1000)
    assert decide(Budget(3, 1, 1), Position(4, 1, 3), groups, writes_template=True) == Step(4, 4, 0)


@pytest.mark.parametrize("doubt", ["exposed", "doomed"])
def test_surge_that_may_serve_never_is_returned_while_nothing_else_surely_serves(doubt: str) -> None:
    ready = 0b111000 if doubt == "exposed" else 0
    groups = Groups(present=0b111111, ready=ready, outdated=0, **{doubt: 0b111000})
    assert decide(Budget(3, 0, 3, 2), Position(6, 0, 3), groups, writes_template=True).replicas == 6


def test_ready_surge_group_that_is_given_up_always_is_told_as_over_the_budget() -> None:
    """What makes the others broken is read before such a step."""
    groups = Groups(present=0b11111, ready=0b11001, outdated=0b11111, broken=0b00110)
    step = decide(Budget(3, 0, 2, 2), Position(5, 5, 3), groups)
    assert isinstance(step, Step)
    assert (step.replicas, step.over_budget) == (4, True)
