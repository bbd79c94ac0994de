"""Judges a controller's writes by the budget, from the view that each was made on.

An oracle of its own: it reads the objects that the controller had seen, not what the controller made of them,
and shares no code with lws_core's decisions. It takes every write for the worst that it allows: leaders that
the partition exposes and that are outdated are all replaced at once, surge that is taken back is gone.

Rules (docs/rollout.md, "What is kept"):
- budget: a write that ends ready groups, or allows the StatefulSet controller to, leaves at least R - U.
  Excepted are scaling down (of the surge too, when the user lowers it), a restart of the group itself, and
  one ready group when broken outdated groups alone have spent the budget: such as have been unready, or have
  failed, for as long as the operator waits for them, or for a minute again after three times as long.
- ceiling: no write sets more than R + S leaders.
- surge: no write adds leaders beyond R where nothing at or above the user's partition is outdated.
- canary: no write lowers the partition below the user's, and no leader below it is deleted for a rollout.
- pace: a leader is deleted for a rollout only once the StatefulSet controller has seen the template that it
  comes back with.
- template: the leader template is written only with a new revision key or to restore the one of the key.
- ownership: nothing is written to an object that the view has terminating, or not owned by the set.
- hold: where more ready groups are exposed than the budget can spare, as after a failure, the partition rises
  again over outdated ones not yet touched; but for one where broken groups alone have spent the budget.
- children: neither the leader StatefulSet nor a Service is ever deleted, the StatefulSet of workers only when
  its leader is terminating, and it never has fewer workers than its group.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

import attrs

from lws_core import names
from lws_core.actions import Action, Apply, Delete, Emit, PatchStatus
from lws_core.memory import Memory
from lws_core.observed import Group, LeaderStatefulSet, Pod
from lws_core.spec import IntOrPercent, LeaderWorkerSet, Spec
from lws_core.values import as_map, dig

from .world import START_S

Waited: TypeAlias = Callable[[int, float, float], bool]
"""Whether a group, by its index, has by some time (epoch seconds) been waited for, for so many seconds."""

_GONE_AGAIN_S: Final = 60.0
_AILS_FOR: Final = 3  # times what others are waited for


@attrs.frozen
class Violation:
    """A write that breaks a rule, in words."""

    rule: str
    text: str


@attrs.frozen
class Limits:
    """What a spec allows a rollout: at least `floor` ready groups, at most `ceiling` leaders, none replaced
    below `partition`."""

    floor: int
    ceiling: int
    partition: int


def limits_of(spec: Spec) -> Limits:
    """What a spec allows. Percentages are of its replicas: down for what may be missing, up for what may be
    extra, which is at most as much again. Where nothing may be either, one may be missing."""
    replicas, strategy = spec.replicas, spec.rollout_strategy
    missing = math.floor(_part(strategy.max_unavailable, replicas))
    extra = math.ceil(_part(strategy.max_surge, replicas))
    missing = max(missing, 1) if extra == 0 else missing
    return Limits(max(0, replicas - missing), replicas + min(extra, replicas), strategy.partition)


def _part(value: IntOrPercent, replicas: int) -> Fraction:
    return Fraction(value) if isinstance(value, int) else Fraction(int(value.rstrip("%")) * replicas, 100)


def judge(
    memory: Memory, actions: tuple[Action, ...], now_s: float, waited: Waited | None = None
) -> tuple[Violation, ...]:
    """What is wrong with the actions of one look, which was made on this memory at that time (epoch seconds).
    `waited` tells how long groups were waited for, what the memory says of that without it. Cost: all groups.
    """
    lws, statefulset = memory.lws, memory.statefulset
    if lws is None or not any(isinstance(action, Apply | Delete) for action in actions):
        return ()
    found: list[Violation] = []
    case = None if statefulset is None else _Case(lws, statefulset, memory, now_s, waited)
    for action in actions:
        if isinstance(action, Apply) and action.ref.kind == "StatefulSet" and action.ref.name == lws.name:
            found += _judge_apply(case, action)
        if isinstance(action, Apply | Delete):
            found += _judge_ownership(memory, lws, action)
            found += _judge_child(memory, lws, action)
    if case is not None:
        found += _judge_deletes(case, actions)
    return tuple(found)


class _Case:
    """The view of a set, as plainly as possible: one row for each group below the leader count."""

    def __init__(
        self,
        lws: LeaderWorkerSet,
        statefulset: LeaderStatefulSet,
        memory: Memory,
        now_s: float,
        waited: Waited | None = None,
    ) -> None:
        self.lws, self.statefulset = lws, statefulset
        self._memory, self._now_s, self._waited = memory, now_s, waited
        self.limits = limits_of(lws.spec)
        self.key = statefulset.labels.get(names.REVISION_KEY, "")
        self.groups = [memory.groups.get(index).group for index in range(statefulset.replicas)]
        self.deleting = {index for index in range(statefulset.replicas) if memory.deleting >> index & 1}
        sizes = sizes_of(memory)
        self.ready = {
            group.index
            for group in self.groups
            if is_ready(group, statefulset.uid, sizes) and group.index not in self.deleting
        }
        applied = statefulset.annotations.get(names.REPLICAS, "")
        self.scaling_down = applied.isdecimal() and int(applied) > lws.spec.replicas

    def outdated(self, key: str) -> set[int]:
        """The leaders that the StatefulSet controller would replace, with the template of that key."""
        update = self.statefulset.update_revision
        current = key == self.key and self.statefulset.observed_generation == self.statefulset.generation
        return {
            group.index
            for group in self.groups
            if group.leader is not None
            and (group.leader.revision_key != key or (current and group.leader.native_revision != update))
        }

    def of_key(self, key: str) -> set[int]:
        """The groups whose leader is of that revision."""
        return {g.index for g in self.groups if g.leader is not None and g.leader.revision_key == key}

    def rolls(self) -> bool:
        """Whether a group at or above the user's partition is outdated."""
        return any(self.limits.partition <= i < self.lws.spec.replicas for i in self.outdated(self.key))

    def exposed(self, key: str, partition: int, replicas: int) -> set[int]:
        """The ready groups that may be replaced under these numbers."""
        return {i for i in self.ready & self.outdated(key) if partition <= i < replicas}

    def can_be_held(self, index: int, outdated: set[int]) -> bool:
        """Whether a higher partition keeps a leader as it is; one that is made anew would be an old one."""
        leader = self.groups[index].leader
        return index in outdated - self.deleting and leader is not None and not leader.terminating

    def broken_have_spent_it(self, key: str) -> bool:
        """Whether no ready group can be spared, and none of the newest revision is on its way: what is not
        ready is outdated or absent, and has been waited for."""
        unready = set(range(self.statefulset.replicas)) - self.ready
        waiting = {index for index in unready if self.groups[index].leader is not None} - self.outdated(key)
        if not unready or waiting or len(self.ready) > self.limits.floor:
            return False
        return all(map(self._was_waited_for, sorted(unready)))

    def _was_waited_for(self, index: int) -> bool:
        """Whether an unready group counts as broken by time. One that falls in this look falls now."""
        history, waits_s = self._memory.groups.get(index).history, self._memory.options.broken_after_s
        if self._waited is not None:
            return self._waited(index, self._now_s, waits_s)
        began = [at_s for at_s in (history.unready_since_s, history.failing_since_s) if at_s is not None]
        began += [at_s for groups, at_s in self._memory.unseen if groups >> index & 1]
        since_s = max(min(began, default=self._now_s), START_S)
        ails_s = None if history.ailing_since_s is None else max(history.ailing_since_s, START_S)
        return has_waited(since_s, ails_s, waits_s, self._now_s)


def has_waited(since_s: float, ails_s: float | None, waits_s: float, now_s: float) -> bool:
    """Whether a group that is down since `since_s` has been waited for, for so many seconds, or for a minute
    if it comes and goes, and has for much longer, since `ails_s`."""
    if ails_s is not None and ails_s + _AILS_FOR * waits_s <= now_s:
        waits_s = min(waits_s, _GONE_AGAIN_S)
    return since_s + waits_s <= now_s


def sizes_of(memory: Memory) -> dict[str, int]:
    """Pods in a group, by revision key: as the revisions say, and the stored template of the leaders."""
    sizes = {
        revision.key: _int(revision.data, "spec", "leaderWorkerTemplate", "size")
        for revision in memory.revisions.values()
    }
    if memory.statefulset is not None:
        size = dig(memory.statefulset.template, "metadata", "annotations", names.SIZE)
        if isinstance(size, str) and size.isdecimal():
            sizes.setdefault(memory.statefulset.labels.get(names.REVISION_KEY, ""), int(size))
    return sizes


def is_ready(group: Group, statefulset_uid: str, sizes: dict[str, int]) -> bool:
    """Whether a whole group serves: leader and workers Ready, none terminating, of one revision, and each
    the other's by UID. `sizes`: pods in a group, by revision key."""
    leader, workers = group.leader, group.statefulset
    if leader is None or not _is_up(leader, statefulset_uid) or leader.revision_key not in sizes:
        return False
    if sizes[leader.revision_key] == 1:
        return True
    if workers is None or workers.terminating or workers.owner is None or workers.owner.uid != leader.uid:
        return False
    if workers.observed_generation < workers.generation:
        return False
    up = {
        pod.worker_index
        for pod in group.workers
        if _is_up(pod, workers.uid) and pod.revision_key == leader.revision_key
    }
    return up >= set(range(1, sizes[leader.revision_key]))


def _is_up(pod: Pod, owner_uid: str) -> bool:
    return pod.ready and not pod.terminating and pod.owner is not None and pod.owner.uid == owner_uid


def judge_pause(memory: Memory, actions: tuple[Action, ...], now_s: float) -> tuple[Violation, ...]:
    """What is wrong with a look that changes nothing, while no request is under way: the rule `hold`."""
    lws, statefulset = memory.lws, memory.statefulset
    if lws is None or statefulset is None or memory.pending or memory.retries or not memory.synced:
        return ()
    if not all(isinstance(action, PatchStatus | Emit) for action in actions):
        return ()
    case = _Case(lws, statefulset, memory, now_s)
    partition = statefulset.partition
    exposed = case.exposed(case.key, partition, statefulset.replicas)
    if not exposed:
        return ()
    outdated = case.outdated(case.key)
    spare = max(0, len(case.ready) - case.limits.floor)
    kept = set(
        itertools.takewhile(lambda i: case.can_be_held(i, outdated), range(partition, statefulset.replicas))
    )
    if len(exposed) <= spare or not exposed & kept or case.broken_have_spent_it(case.key):
        return ()
    text = (
        f"groups {sorted(exposed)} may end at partition {partition}, and {spare} can be spared; "
        f"{sorted(kept)} are not held back"
    )
    return (Violation("hold", text),)


def _judge_apply(case: _Case | None, action: Apply) -> list[Violation]:
    if case is None:
        return [Violation("ownership", "an apply to a StatefulSet that the view does not have")]
    spec = as_map(action.manifest["spec"])
    replicas, partition = _int(spec, "replicas"), _int(spec, "updateStrategy", "rollingUpdate", "partition")
    key = str(dig(action.manifest, "metadata", "labels", names.REVISION_KEY))
    found = []
    if replicas > case.limits.ceiling:
        found.append(Violation("ceiling", f"{replicas} leaders are more than {case.limits.ceiling}"))
    if (
        replicas > max(case.lws.spec.replicas, case.statefulset.replicas)
        and key == case.key
        and not case.rolls()
    ):
        found.append(Violation("surge", f"{replicas} leaders where nothing is to be replaced"))
    if partition < case.limits.partition:
        found.append(Violation("canary", f"partition {partition} is below {case.limits.partition}"))
    taken = {index for index in case.ready if replicas <= index < case.limits.ceiling}
    exposed = case.exposed(key, partition, replicas)
    already = case.exposed(case.key, case.statefulset.partition, case.statefulset.replicas)
    released = exposed - already
    ended = released | (set() if case.scaling_down else taken)
    # What the stored numbers expose may have ended unseen, though the new ones hold it back.
    left = len({i for i in case.ready if i < replicas} - exposed - already)
    if ended and left < case.limits.floor and not _is_excepted(case, ended | exposed, key):
        found.append(
            Violation(
                "budget",
                f"replicas {case.statefulset.replicas} to {replicas}, partition "
                f"{case.statefulset.partition} to {partition}: groups {sorted(ended)} may end, {left} ready "
                f"groups stay of {case.limits.floor} needed",
            )
        )
    restored = released & case.of_key(key)
    if key == case.key and dig(spec, "template") != case.statefulset.template and restored:
        text = f"groups {sorted(restored)} may end by a template that is restored"
        found.append(Violation("template", text))
    return found


def _judge_deletes(case: _Case, actions: tuple[Action, ...]) -> list[Violation]:
    """The leaders deleted for a rollout, taken together; a recreation deletes in the foreground."""
    found = []
    ended: set[int] = set()
    for action in actions:
        if not isinstance(action, Delete) or action.ref.kind != "Pod":
            continue
        index = names.parent_and_ordinal(action.ref.name)[1]
        group = case.groups[index] if index is not None and index < len(case.groups) else None
        if group is None or group.leader is None or group.leader.uid != action.uid:
            found.append(Violation("ownership", f"pod {action.ref.name} is not as it was seen"))
        elif action.propagation == "Background":
            if group.index < max(case.limits.partition, case.statefulset.partition):
                found.append(Violation("canary", f"leader {group.index} is below the partition"))
            if case.statefulset.observed_generation != case.statefulset.generation:
                text = (
                    f"leader {group.index} is deleted before the StatefulSet controller has seen the template"
                )
                found.append(Violation("pace", text))
            if group.leader.terminating:
                found.append(Violation("ownership", f"leader {group.index} is terminating already"))
            if group.index in case.ready:
                ended.add(group.index)
    left = len(case.ready) - len(ended)
    if ended and left < case.limits.floor and not _is_excepted(case, ended, case.key):
        text = f"leaders {sorted(ended)} are deleted, {left} ready groups stay of {case.limits.floor} needed"
        found.append(Violation("budget", text))
    return found


def _is_excepted(case: _Case, ended: set[int], key: str) -> bool:
    return len(ended) == 1 and case.broken_have_spent_it(key)


def _judge_ownership(memory: Memory, lws: LeaderWorkerSet, action: Apply | Delete) -> list[Violation]:
    """Writes to objects of groups and of the set: theirs, alive, and as they were seen."""
    if action.ref.kind == "StatefulSet" and action.ref.name == lws.name:
        thing = memory.statefulset
        owner_uid = lws.metadata.uid
    elif action.ref.kind == "StatefulSet":
        index = names.parent_and_ordinal(action.ref.name)[1] or 0
        group = memory.groups.get(index).group
        thing = group.statefulset  # type: ignore[assignment]
        owner_uid = "" if group.leader is None else group.leader.uid
    else:
        return []
    if thing is None or thing.terminating or thing.owner is None or thing.owner.uid != owner_uid:
        return [Violation("ownership", f"a write to {action.ref.kind} {action.ref.name}, which is not ours")]
    return []


def _judge_child(memory: Memory, lws: LeaderWorkerSet, action: Apply | Delete) -> list[Violation]:
    """Writes that end a group, or what all groups need, by another way than its leader."""
    deletes = isinstance(action, Delete)
    if action.ref.kind == "Service" or (action.ref.kind, action.ref.name) == ("StatefulSet", lws.name):
        return [Violation("children", f"{action.ref.kind} {action.ref.name} is deleted")] if deletes else []
    if action.ref.kind != "StatefulSet":
        return []
    leader = memory.groups.get(names.parent_and_ordinal(action.ref.name)[1] or 0).group.leader
    if leader is None or leader.terminating:
        return []
    if isinstance(action, Delete):
        return [Violation("children", f"the workers of {leader.name} are deleted, which lives")]
    workers, size = dig(action.manifest, "spec", "replicas"), sizes_of(memory).get(leader.revision_key, 1)
    if isinstance(workers, int) and workers < size - 1:
        return [Violation("children", f"{leader.name} has {workers} workers then, in a group of {size}")]
    return []


def _int(value: object, *path: str) -> int:
    found = dig(value, *path)  # type: ignore[arg-type]
    return found if isinstance(found, int) else 0
