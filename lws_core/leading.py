"""What the controller does for a set as a whole: its revisions, its leader StatefulSet, its rollout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from . import names
from .actions import Apply, Create, Event, Read, Ref, Request, TakeFields
from .answers import UNDONE, action_key
from .bits import GroupSet, below, indexes, members, span
from .diff import Change, diff_set
from .memory import Memory
from .observed import LeaderStatefulSet, Pod, owned_by
from .plan import ABSENT_LEADER_S, SetPlan, SetView, budget_of, outdated, plan_set
from .restart import Hold, encode_recreations
from .rollout import Step
from .spec import LeaderWorkerSet
from .summary import Summary
from .values import EMPTY, FrozenMap, evolve

_NEW_REVISION: Final = "Create ControllerRevision "
_READ_OF_POD: Final = "Read Pod "
_AILS_FOR: Final = 3  # times what one that stays unready is given, until one that comes and goes is given up
_GONE_AGAIN_S: Final = 60.0
_FRESH_S: Final = 60.0  # how long what was read counts: thousands of pods may have to be, at some rate


def own_statefulset(memory: Memory, lws: LeaderWorkerSet) -> LeaderStatefulSet | None:
    """The leader StatefulSet if it is there and belongs to this very set."""
    statefulset = memory.statefulset
    if statefulset is None or not owned_by(statefulset.owner, lws.metadata.uid):
        return None
    return statefulset


def leader_write_refused(memory: Memory, lws: LeaderWorkerSet) -> bool:
    """Whether the API server refuses what should be written to the leader StatefulSet, or the revision that
    has to be there before, or fails at it for long."""
    refused = [key for key, retry in memory.retries.items() if retry.lasts]
    waits = memory.lineage is not None and memory.lineage.changes
    return any(key in _write_keys(lws) or (waits and key.startswith(_NEW_REVISION)) for key in refused)


def lead(
    memory: Memory, lws: LeaderWorkerSet, now_s: float
) -> tuple[Memory, tuple[Request, ...], tuple[str, ...]]:
    """Look at the set as a whole: what is to be sent, and the keys of what is wanted too but has to wait for
    something else. Cost: some operations on group sets."""
    assert memory.lineage is not None
    memory = _without_old_reads(memory, now_s)
    view = set_view(memory, lws, now_s)
    plan = plan_set(lws, view)
    change = diff_set(lws, plan, view, _own_leaders(memory, lws, plan.replace))
    unready = _may_be_broken(lws, view) & ~view.broken
    waiting = _broken_from(memory, unready)
    memory = evolve(
        memory,
        decision=plan.decision,
        foreign=change.foreign,
        patience_s=min((at_s for _, at_s in waiting), default=None),
    )
    memory = _note_progress(memory, view, now_s)
    memory, actions = _at_once(memory, lws, plan, view, change)
    doubtful = (f"Delete Pod {names.leader_name(lws.name, index)}" for index in plan.unsure)
    going = frozenset(action_key(action) for action in actions)
    planned = (action_key(action) for action in change.actions)
    wanted = (*planned, *doubtful, *_refused_change(memory, lws, now_s))
    return memory, actions, tuple(key for key in wanted if key not in going)


def _at_once(
    memory: Memory, lws: LeaderWorkerSet, plan: SetPlan, view: SetView, change: Change
) -> tuple[Memory, tuple[Request, ...]]:
    """What of the wanted actions need not wait, and what has to be read for the others."""
    actions = tuple(action for action in change.actions if not _waits_for_revision(memory, action))
    reads: tuple[Read, ...] = ()
    overwrites = _writes_template(plan) or plan.exposed
    if not overwrites or memory.exposed & ~plan.exposed:
        memory, reads = _verify(memory, lws, plan, view)
        if reads or memory.exposed:
            actions = tuple(action for action in actions if _ends_nothing(action, plan, view))
    if _is_under_way(memory, lws):
        actions = tuple(action for action in actions if _may_go_along(memory, lws, action))
    elif any(isinstance(action, Apply) and action.ref.kind == "StatefulSet" for action in actions):
        memory = evolve(_tell_of_drift(memory, lws, plan), exposed=memory.exposed | plan.exposed)
        if plan.exposed:  # what was read before was not after this write
            memory = evolve(memory, verified=EMPTY)
        if _writes_template(plan):
            memory = evolve(memory, taken=change.taken)
    return memory, (*reads, *actions)


def _ends_nothing(action: Request, plan: SetPlan, view: SetView) -> bool:
    """Whether an action is safe whatever has happened unseen: objects that are made, and leaders that are
    added or held back."""
    leaders, stored = plan.leaders, view.statefulset
    if not isinstance(action, Apply) or leaders is None or stored is None:
        return isinstance(action, Create)
    fewer = leaders.replicas < stored.replicas or leaders.partition < stored.partition
    return action.ref.kind == "StatefulSet" and not fewer


def set_view(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> SetView:
    """What a decision about the set is made from. Leaders being deleted count as terminating, and nothing
    counts on groups that are to be recreated."""
    assert memory.lineage is not None
    statefulset = memory.statefulset
    gone = memory.deleting & memory.summary.present
    doomed = memory.doomed & memory.summary.ready
    summary = memory.summary
    if gone | doomed:
        ready = summary.ready & ~gone & ~doomed
        summary = attrs.evolve(summary, ready=ready, terminating=summary.terminating | gone)
    natives = {
        name: revision.key
        for name, revision in memory.natives.items()
        if statefulset is not None and owned_by(revision.owner, statefulset.uid)
    }
    view = SetView(
        lineage=memory.lineage,
        summary=summary,
        statefulset=statefulset,
        service=memory.service,
        revisions=tuple(memory.revisions.values()),
        native_keys=FrozenMap(natives),
        digest=memory.digest,
        recreations=_recreations(memory, now_s),
        sure=f"Read StatefulSet {lws.name}" in memory.verified,
        taken=_taken(memory, lws),
        refused=bool(_refused_change(memory, lws, now_s)),
    )
    if statefulset is None:
        return view
    absent = below(statefulset.replicas) & ~summary.present
    broken = 0
    for groups, at_s in _broken_from(memory, _may_be_broken(lws, view)):
        broken |= groups if at_s <= now_s else 0
    return attrs.evolve(
        view,
        broken=broken,
        long_absent=any(now_s - since_s > ABSENT_LEADER_S for since_s in _absent_since(memory, absent)),
        exposed=memory.exposed | _exposed(summary, statefulset),
        doomed=doomed,
    )


def _taken(memory: Memory, lws: LeaderWorkerSet) -> str:
    """At which resourceVersion the leader template was applied as it was; nothing where that has failed,
    unless it was refused and would be again."""
    retry = memory.retries.get(_template_key(lws))
    return memory.taken if retry is None or retry.refused or retry.message == UNDONE else ""


def _broken_from(memory: Memory, unready: GroupSet) -> Iterator[tuple[GroupSet, float]]:
    """From when on groups that stay unready or are to be recreated, and are outdated, count as broken (epoch
    seconds): a while after that began, and after their pods that terminate should have ended. One that has
    come and gone for long counts so soon after it has gone again; one whose workers are yet to be made, only
    where that fails for long."""
    after_s = memory.options.broken_after_s
    for index in indexes(unready & memory.known):
        record = memory.groups.get(index)
        history, leader = record.history, record.group.leader
        waits = memory.doomed >> index & 1  # for its recreation: that time counts too
        times = (history.unready_since_s, history.failing_since_s if waits else None)
        began = [at_s for at_s in times if at_s is not None]
        if not began:
            continue  # it is well, and its leader is being deleted
        pods = record.group.workers if leader is None else (leader, *record.group.workers)
        ended = [pod.deletion_s for pod in pods if pod.deletion_s is not None]
        if leader is None and history.absent_since_s is not None:
            ended.append(history.absent_since_s)  # the next one has its time from when it comes
        since_s = max([min(began), *ended])
        if _begins(memory, index):
            yield 1 << index, since_s + _AILS_FOR * after_s
            continue
        at_s = since_s + after_s
        if history.ailing_since_s is not None:
            ails_s = history.ailing_since_s + _AILS_FOR * after_s
            at_s = min(at_s, max(ails_s, since_s + min(after_s, _GONE_AGAIN_S)))
        yield 1 << index, at_s
    for groups, since_s in memory.unseen:
        if groups & unready:
            yield groups & unready, since_s + after_s


def _begins(memory: Memory, index: int) -> bool:
    """Whether the workers' StatefulSet of a group is yet to be created, and is not refused."""
    assert memory.lws is not None
    retry = memory.retries.get(f"Create StatefulSet {names.leader_name(memory.lws.name, index)}")
    return bool(memory.beginning >> index & 1) and (retry is None or not retry.refused)


def _may_be_broken(lws: LeaderWorkerSet, view: SetView) -> GroupSet:
    """The unready groups of an older revision, if all that are unready are such and no surge is missing;
    nothing otherwise, as then the rollout waits for others."""
    statefulset = view.statefulset
    if statefulset is None:
        return 0
    unready = below(statefulset.replicas) & ~view.summary.ready
    kept = below(min(statefulset.partition, statefulset.replicas))  # a partition may be far beyond
    old = outdated(view) | (kept & ~view.summary.present)
    spent = (view.summary.ready & below(statefulset.replicas)).bit_count() <= budget_of(lws).floor
    return unready if spent and unready & ~old == 0 else 0


def _absent_since(memory: Memory, absent: GroupSet) -> Iterator[float]:
    for index in indexes(absent & memory.known):
        since_s = memory.groups.get(index).history.absent_since_s
        if since_s is not None:
            yield since_s
    for groups, since_s in memory.unseen:
        if groups & absent:
            yield since_s


def _recreations(memory: Memory, now_s: float) -> str:
    """The record with the recreations that are waiting for it; "" where there are none."""
    if not memory.recreating:
        return ""
    held = [index for index, trouble in memory.troubles.items() if isinstance(trouble, Hold)]
    known = {**memory.recorded, **memory.unrecorded, **memory.recreating}
    return encode_recreations(FrozenMap(known), now_s, memory.recreating, held)


def _leaders(memory: Memory, replace: tuple[int, ...]) -> FrozenMap[Pod]:
    leaders = {}
    for index in replace:
        leader = memory.groups.get(index).group.leader
        if leader is not None:
            leaders[str(index)] = leader
    return FrozenMap(leaders)


def _own_leaders(memory: Memory, lws: LeaderWorkerSet, replace: tuple[int, ...]) -> FrozenMap[Pod]:
    """Those that the StatefulSet owns: a stranger of a leader's name is not ours to delete."""
    statefulset = own_statefulset(memory, lws)
    if statefulset is None:
        return EMPTY
    leaders = _leaders(memory, replace)
    return FrozenMap({i: pod for i, pod in leaders.items() if owned_by(pod.owner, statefulset.uid)})


def _write_keys(lws: LeaderWorkerSet) -> tuple[str, ...]:
    verbs = (f"{verb.__name__} StatefulSet {lws.name}" for verb in (Create, TakeFields, Apply))
    return (*verbs, _template_key(lws))


def _template_key(lws: LeaderWorkerSet) -> str:
    return f"Apply StatefulSet {lws.name} template"


def _refused_change(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> tuple[str, ...]:
    """The keys of what leads to a new revision, is refused or fails for long, and is not to be tried again
    yet."""
    if memory.lineage is None or not memory.lineage.changes:
        return ()
    leading_there = (f"TakeFields StatefulSet {lws.name}", _template_key(lws))
    return tuple(
        key
        for key, retry in memory.retries.items()
        if retry.lasts
        and now_s < retry.not_before_s
        and (key in leading_there or key.startswith(_NEW_REVISION))
    )


def _is_under_way(memory: Memory, lws: LeaderWorkerSet) -> bool:
    """Whether a write to the leader StatefulSet is not answered, or its outcome not known."""
    for key in _write_keys(lws):
        retry = memory.retries.get(key)
        if key in memory.pending or (retry is not None and retry.read):
            return True
    return False


def _may_go_along(memory: Memory, lws: LeaderWorkerSet, action: Request) -> bool:
    """Whether an action may stand beside a write to the leader StatefulSet that is under way: the very write
    that waits, and objects that have nothing to do with it."""
    key = action_key(action)
    if key in _write_keys(lws):
        return key in memory.pending or key in memory.retries
    return isinstance(action, Create)


def _waits_for_revision(memory: Memory, action: Request) -> bool:
    """Whether an action creates a revision while another creation is not answered, or its outcome not known:
    that one may be the same revision under an earlier number."""
    if not isinstance(action, Create) or action.ref.kind != "ControllerRevision":
        return False
    unknown = (*memory.pending, *(key for key, retry in memory.retries.items() if retry.read))
    mine = action_key(action)
    return any(key != mine and key.startswith(_NEW_REVISION) for key in unknown)


def _verify(
    memory: Memory, lws: LeaderWorkerSet, plan: SetPlan, view: SetView
) -> tuple[Memory, tuple[Read, ...]]:
    """What has to be read first, as a watch that is late would cost ready groups.

    After a new template, the leaders that the one before had exposed, once the StatefulSet controller goes by
    the new one: they may be gone, and do not count as serving. Before leaders are replaced while pods are of
    an unknown revision, the leader StatefulSet: that revision may be newer than what was seen of it, or it
    may just be lost. Before a step over the budget, of each broken group a pod that makes it so.
    """
    if memory.exposed:
        memory, of_leaders = _verify_exposed(memory, lws, view)
        if memory.exposed:
            return memory, of_leaders
    if plan.unsure:
        uid = "" if view.statefulset is None else view.statefulset.uid
        ref = Ref("StatefulSet", lws.namespace, lws.name)
        return memory, (Read(ref, "pods are of an unknown revision", uid),)
    if not isinstance(plan.decision, Step) or not plan.decision.over_budget:
        used = not plan.replace  # what was read for deletions counts until they are carried out
        return (evolve(memory, verified=EMPTY) if memory.verified and used else memory), ()
    found = (
        _keeps_unready(memory, lws, index, doomed=bool(view.doomed >> index & 1))
        for index in indexes(view.broken)
    )
    return memory, tuple(read for read in found if action_key(read) not in memory.verified)


def _keeps_unready(memory: Memory, lws: LeaderWorkerSet, index: int, *, doomed: bool) -> Read:
    """To read what keeps a group from being ready: a pod that does not serve, is missing, or stands in the
    way of the workers' StatefulSet; where all are there and serve, that StatefulSet, or the leader of a group
    that is to be recreated."""
    group = memory.groups.get(index).group
    leader, workers = group.leader, group.statefulset
    name = names.leader_name(lws.name, index)
    why = f"whether {name} is still unready"
    if leader is None:
        return Read(Ref("Pod", lws.namespace, name), why, "")
    pods = (leader, *group.workers)
    pod = next((pod for pod in pods if not _serves(pod)), leader if doomed else None)
    if pod is not None or workers is None:
        pod = pod or next(iter(group.workers), leader)
        return Read(Ref("Pod", lws.namespace, pod.name), why, pod.uid)
    there = {worker.worker_index for worker in group.workers}
    missing = next((one for one in range(1, workers.replicas + 1) if one not in there), None)
    if missing is not None and owned_by(workers.owner, leader.uid):
        return Read(Ref("Pod", lws.namespace, names.worker_name(lws.name, index, missing)), why, "")
    return Read(Ref("StatefulSet", lws.namespace, workers.name), why, workers.uid)


def _verify_exposed(memory: Memory, lws: LeaderWorkerSet, view: SetView) -> tuple[Memory, tuple[Read, ...]]:
    statefulset = view.statefulset
    if statefulset is None:
        return evolve(memory, exposed=0), ()
    living = tuple(indexes(memory.exposed & view.summary.present & ~view.summary.terminating))
    reads = {
        int(index): Read(
            Ref("Pod", lws.namespace, leader.name), "it may have been replaced unseen", leader.uid
        )
        for index, leader in _leaders(memory, living).items()
    }
    if _may_be_replaced_yet(memory, lws):
        return evolve(memory, verified=memory.verified.without(*map(action_key, reads.values()))), ()
    # Who was read is as it was shown from then on, however long the others take.
    left = {index: read for index, read in reads.items() if action_key(read) not in memory.verified}
    return evolve(memory, exposed=members(*left)), tuple(left.values())


def early_reads(memory: Memory, lws: LeaderWorkerSet) -> tuple[str, ...]:
    """The reads of pods under way that do not tell whether an exposed leader was replaced, by action_key:
    they may have been carried out while that could still be, though they are answered later."""
    if not memory.exposed:
        return ()
    if not _may_be_replaced_yet(memory, lws):
        return tuple(key for key in memory.early if key in memory.pending)
    return tuple(key for key in memory.pending if key.startswith(_READ_OF_POD))


def _may_be_replaced_yet(memory: Memory, lws: LeaderWorkerSet) -> bool:
    """Whether the StatefulSet controller may not have seen the last write to the leaders."""
    leaders = memory.statefulset
    is_behind = leaders is not None and leaders.observed_generation < leaders.generation
    return is_behind or _is_under_way(memory, lws)


def _exposed(summary: Summary, statefulset: LeaderStatefulSet) -> GroupSet:
    """The groups that serve, and that the StatefulSet controller may replace by the stored template."""
    key = statefulset.labels.get(names.REVISION_KEY, "")
    outdated_then = summary.present & ~summary.of_key(key)
    return summary.ready & outdated_then & span(statefulset.partition, statefulset.replicas)


def _writes_template(plan: SetPlan) -> bool:
    return plan.leaders is not None and plan.leaders.writes_template


def _without_old_reads(memory: Memory, now_s: float) -> Memory:
    since_s = now_s - _FRESH_S
    fresh = {name: at_s for name, at_s in memory.verified.items() if at_s >= since_s}
    return memory if len(fresh) == len(memory.verified) else evolve(memory, verified=FrozenMap(fresh))


def _serves(pod: Pod) -> bool:
    return pod.ready and not pod.terminating


def _note_progress(memory: Memory, view: SetView, now_s: float) -> Memory:
    """When what a rollout moves last changed."""
    summary, statefulset = view.summary, view.statefulset
    updated = summary.of_key(view.lineage.key) & summary.whole
    progress = (
        summary.ready,
        updated,
        0 if statefulset is None else statefulset.replicas,
        0 if statefulset is None else statefulset.partition,
        0 if statefulset is None else statefulset.generation,
    )
    if progress == memory.progress and memory.progress_at_s is not None:
        return memory
    return evolve(memory, progress=progress, progress_at_s=now_s)


def _tell_of_drift(memory: Memory, lws: LeaderWorkerSet, plan: SetPlan) -> Memory:
    """Events for what was changed from outside and is set back."""
    statefulset = own_statefulset(memory, lws)
    if statefulset is None or plan.leaders is None:
        return memory
    notices = []
    found = (statefulset.replicas, statefulset.partition)
    if memory.written is not None and memory.written != found:
        notices.append(
            f"replicas and partition of StatefulSet {lws.name} were changed from outside to {found[0]} and "
            f"{found[1]}: set to {plan.leaders.replicas} and {plan.leaders.partition}"
        )
    if plan.leaders.heals:
        notices.append(f"the pod template of StatefulSet {lws.name} was changed from outside: set back")
    events = tuple(Event("Normal", names.DRIFT_HEALED, "Update", note) for note in notices)
    return evolve(memory, written=found, notices=(*memory.notices, *events))
