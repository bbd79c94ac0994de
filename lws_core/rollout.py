"""The rollout as arithmetic: how many leaders, and from which index on they may be replaced.

A set rolls out by two numbers on the StatefulSet of its leaders: `replicas`, which may exceed the set's
own by the surge, and `partition`, at or above which the StatefulSet controller may replace a leader. Each
look at the cluster computes both afresh from integers and group sets (bits.py); no memory of earlier looks.

    Surge first, then the partition over the groups that stay. The surge groups lie at the top and start on
    the new revision; the partition comes down as groups from the top downward are ready and updated, and
    the surge is returned, from the top too, as the groups below it become ready.

What each decision keeps:
- A write never exposes more ready groups to replacement than the budget can spare, and never takes a ready
  surge group that serving still needs: at least R - U groups stay ready, except for failures.
- Failures in mid-flight are answered in the same look: the partition rises again over outdated groups not
  yet touched, never over updated, terminating or absent ones, which would come back on an old template.
- Broken outdated groups never wedge a rollout. When they alone have spent the budget, one ready group goes
  over it, and the broken ones next to it go along.

Source of the arithmetic: the stage table of the LeaderWorkerSet guide (docs/rollout.md shows how each of its
rows follows).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from .bits import GroupSet, below, highest, indexes, lowest, nth_highest, nth_lowest, span, top

Wait = Literal["Starting", "Replacing", "Loading", "BudgetSpent", "ScalingUp"]


@attrs.frozen
class Budget:
    """What the user allows, as counts of groups: R, U, S and P of the rollout strategy."""

    replicas: int
    max_unavailable: int = 1
    max_surge: int = 0
    partition: int = 0

    @property
    def floor(self) -> int:
        """The number of groups that must stay ready: R - U, at least 0."""
        return max(0, self.replicas - self.max_unavailable)

    @property
    def ceiling(self) -> int:
        """The number of leaders never exceeded: R + S."""
        return self.replicas + self.max_surge


@attrs.frozen
class Position:
    """What the leader StatefulSet says now; `applied_replicas` is the set's replicas at its last apply."""

    replicas: int
    partition: int
    applied_replicas: int

    @property
    def surge_out(self) -> bool:
        """Whether leaders beyond the set's own replicas have not been returned yet."""
        return self.replicas > self.applied_replicas


@attrs.frozen
class Groups:
    """The state of the groups, as group sets.

    present: the leader pod exists, terminating or not.
    ready: the whole group serves; a terminating leader or worker makes it unready.
    terminating: the leader is terminating.
    outdated: the leader exists and is of another revision than the current one.
    broken: outdated groups that are unready and not expected back (the caller judges by time and evidence).
    exposed: ready groups that may have been replaced unseen, by the template or above the partition that
    is about to be written over; nothing counts on them.
    doomed: unready groups that serve until they are recreated. Nothing counts on them, but to end one earlier
    costs what it costs to end a ready one.
    """

    present: GroupSet
    ready: GroupSet
    outdated: GroupSet
    terminating: GroupSet = 0
    broken: GroupSet = 0
    exposed: GroupSet = 0
    doomed: GroupSet = 0

    @property
    def updated(self) -> GroupSet:
        """Groups whose leader is of the current revision."""
        return self.present & ~self.outdated


@attrs.frozen
class _Decision:
    """The numbers that the leader StatefulSet should have, and how many ready groups may be ended now."""

    replicas: int
    partition: int
    allowance: int


@attrs.frozen
class Step(_Decision):
    """The numbers change. `over_budget`: one ready group is given up, as broken ones wedge the rollout."""

    over_budget: bool = False


@attrs.frozen
class Done(_Decision):
    """At rest: nothing is outdated at or above the user's partition, no surge is out, everything is ready."""


@attrs.frozen
class Blocked(_Decision):
    """Nothing to change now. `groups` are those that it waits for, `reason` what they have to do."""

    reason: Wait = "Loading"
    groups: GroupSet = 0


Decision: TypeAlias = Step | Done | Blocked


def decide(budget: Budget, position: Position, groups: Groups, *, writes_template: bool = False) -> Decision:
    """The next step of a rollout, from what is observed now.

    `writes_template`: the leader template goes into the same write (with a new revision, or to heal it), so
    the partition starts at the top, and no ready group is given up; `groups.outdated` is then judged by that
    template. Cost: a few dozen operations on group sets, whatever the number of groups; at most U + S times
    as many where surge is returned while groups are held back.
    """
    decision = _decide(budget, position, groups, writes_template)
    if writes_template:
        return decision
    while decision.replicas < position.replicas and (
        withdrawn := held_back(position, decision, groups) & ~groups.exposed
    ):
        groups = attrs.evolve(groups, exposed=groups.exposed | withdrawn)
        decision = _decide(budget, position, groups, writes_template)
    return decision


def held_back(position: Position, decision: Decision, groups: Groups) -> GroupSet:
    """The ready groups that the stored partition has released and the decided one would hold back. The
    StatefulSet controller may have ended them by now, so no surge is returned on their account."""
    return (
        groups.ready & groups.outdated & span(position.partition, min(decision.partition, position.replicas))
    )


def _decide(budget: Budget, position: Position, groups: Groups, writes_template: bool) -> Decision:
    rolling = groups.outdated & span(budget.partition, budget.replicas) != 0
    wanted = _replicas(budget, position, groups, rolling)
    wedged = not writes_template and _wedged(budget, position, groups, wanted)
    replicas, gives_up = wanted, False
    serving = attrs.evolve(groups, ready=groups.ready & ~groups.exposed)
    if rolling or position.surge_out or groups.exposed:
        kept = _keep_serving(budget, position, serving, wanted, groups.ready | groups.doomed)
        released = groups.ready & groups.outdated & span(position.partition, position.replicas)
        gives_up = wedged and not released and kept > wanted and kept == position.replicas
        replicas = kept - 1 if gives_up else kept
    staying = attrs.evolve(serving, ready=serving.ready & below(min(position.replicas, replicas)))
    allowance = max(0, staying.ready.bit_count() - budget.floor)
    partition = _partition(budget, position, staying, replicas, rolling, writes_template, allowance)
    over_budget = wedged and replicas == position.replicas and partition >= position.partition
    if over_budget:
        allowance = max(allowance, 1)
        partition = _partition(
            budget, position, staying, replicas, rolling, writes_template, allowance, over_budget=True
        )
    if (replicas, partition) != (position.replicas, position.partition) or writes_template:
        lowers = over_budget and partition < position.partition
        return Step(replicas, partition, allowance, gives_up or lowers)
    return _standing(budget, position, groups, allowance)


def choose_deletes(
    budget: Budget, position: Position, decision: Decision, groups: Groups, replaceable: GroupSet
) -> tuple[int, ...]:
    """The outdated leaders to delete now, the highest first, so as to replace several at once.

    The StatefulSet controller of a default cluster replaces one leader at a time, whatever the partition
    allows; with a maxUnavailable, none while so many are broken. `replaceable` are the leaders outdated by
    every measure. Unready ones are free; each ready one is taken from the allowance. Only groups that both
    the observed and the decided partition have released, and that stay when surge is returned.
    """
    released = max(position.partition, decision.partition)
    staying = min(position.replicas, decision.replicas)
    candidates = replaceable & ~groups.terminating & span(released, staying)
    chosen = candidates & ~groups.ready | top(candidates & groups.ready, decision.allowance)
    return tuple(indexes(chosen))[::-1]


def _unready(budget: Budget, groups: Groups) -> int:
    """How many groups of P..R-1 are not both ready and updated."""
    counted = span(budget.partition, budget.replicas)
    return (counted & ~(groups.ready & groups.updated)).bit_count()


def _replicas(budget: Budget, position: Position, groups: Groups, rolling: bool) -> int:
    """Leaders wanted: the set's own number, and during a rollout the surge that unready groups call for."""
    unready = _unready(budget, groups)
    wanted = budget.ceiling
    if unready <= budget.max_surge:
        wanted = budget.replicas + max(0, unready - min(1, budget.max_unavailable))
    if position.replicas < budget.replicas:
        return budget.replicas
    if rolling:
        return wanted
    if position.surge_out:
        return min(position.replicas, wanted)
    return budget.replicas


def _wedged(budget: Budget, position: Position, groups: Groups, wanted: int) -> bool:
    """Whether broken outdated groups alone have spent the budget, and nothing is on its way: no updated
    group that loads, no surge, and no replacement that costs nothing, as where only broken groups are
    released."""
    unready = below(position.replicas) & ~groups.ready
    released = groups.outdated & ~groups.terminating & span(position.partition, position.replicas)
    return (
        unready != 0
        and unready & ~groups.broken == 0
        and (released == 0 or released & groups.ready != 0)
        and budget.replicas <= position.replicas
        and wanted <= position.replicas
        and (groups.ready & below(position.replicas)).bit_count() <= budget.floor
    )


def _keep_serving(
    budget: Budget, position: Position, groups: Groups, wanted: int, may_serve: GroupSet
) -> int:
    """`wanted`, or more where that would take surge groups that serving still needs: of those that may serve
    (`may_serve`), though nothing counts on all of them."""
    limit = min(position.replicas, budget.ceiling)
    taken = may_serve & span(wanted, limit)
    if taken == 0 or (groups.ready & below(wanted)).bit_count() >= budget.floor:
        return wanted
    enough = nth_lowest(groups.ready & below(limit), budget.floor) + 1  # 0: never enough
    return enough or highest(taken) + 1


def _partition(
    budget: Budget,
    position: Position,
    groups: Groups,
    replicas: int,
    rolling: bool,
    writes_template: bool,
    allowance: int,
    *,
    over_budget: bool = False,
) -> int:
    staying = min(position.replicas, replicas)
    # An exposed one may serve still, though nothing counts on it.
    exposable = (groups.ready | groups.doomed | groups.exposed) & groups.outdated
    # The lowest partition that exposes no more ready groups than may be ended.
    safe = nth_highest(exposable, allowance + 1) + 1
    if writes_template:
        return max(min(budget.replicas, position.replicas), safe, budget.partition)
    if position.replicas < budget.replicas:
        target = position.partition
    elif not rolling:
        target = budget.partition
    elif position.applied_replicas != budget.replicas:
        target = min(position.partition, budget.ceiling)
    else:
        target = min(_released(budget, groups, staying), position.partition)
        if over_budget and groups.outdated & ~groups.terminating & span(target, staying) == 0:
            target = min(safe, position.partition)
    target = max(target, budget.partition)
    if safe <= max(target, position.partition):
        return max(target, safe)
    movable = span(max(position.partition, budget.partition), staying)
    touched = ~(groups.outdated & ~groups.terminating) & movable
    limit = lowest(touched) if touched else staying
    return max(target, min(safe, limit))


def _released(budget: Budget, groups: Groups, staying: int) -> int:
    """The partition that the budget releases, over the groups that stay.

    The groups that are ready and updated from the top downward have been replaced; U + (surge out) groups
    below them may be in replacement; unready ones below that use up the same budget; and what is at the edge
    and unready or updated already costs nothing.
    """
    done = groups.ready & groups.updated
    undone = below(staying) & ~done
    replaced = staying - 1 - highest(undone)
    base = max(0, staying - replaced - (budget.max_unavailable + staying - budget.replicas))
    spent = base + (below(base) & ~groups.ready).bit_count()
    edge = min(spent, staying - 1)
    costly = groups.ready & groups.outdated & span(base, edge + 1)
    if base > edge or costly >> edge & 1:
        return spent
    return highest(costly) + 1 if costly else base


def _standing(budget: Budget, position: Position, groups: Groups, allowance: int) -> Decision:
    """What it waits for when nothing changes."""
    here = (position.replicas, position.partition, allowance)
    outdated = groups.outdated & span(budget.partition, budget.replicas)
    absent = below(position.replicas) & ~groups.present
    loading = below(position.replicas) & groups.updated & ~groups.ready
    released = groups.outdated & span(max(position.partition, budget.partition), position.replicas)
    if position.replicas < budget.replicas:
        return Blocked(*here, "ScalingUp", span(position.replicas, budget.replicas))
    if released:
        return Blocked(*here, "Replacing", released)
    if outdated and not loading | absent:
        return Blocked(*here, "BudgetSpent", below(position.replicas) & ~groups.ready)
    if loading:
        return Blocked(*here, "Loading", loading)
    if absent:
        return Blocked(*here, "Starting", absent)
    unready = below(position.replicas) & ~groups.ready
    if unready:
        return Blocked(*here, "Loading", unready)
    return Done(*here)
