"""What the controller does for its groups, one at a time: their children, their recreation, a lost node."""

from __future__ import annotations

from . import names
from .actions import Create, Delete, Read, Ref, Request
from .bits import indexes, with_bit
from .diff import Change, diff_group, recreate_group
from .history import History, remember
from .leading import leader_write_refused, own_statefulset
from .memory import Memory, Record
from .observed import Group, Node, Pod, owned_by
from .plan import GroupPlan, Trouble, plan_group
from .restart import Hold, Recreate, Recreation, restarts_after_start
from .spec import LeaderWorkerSet
from .summary import group_state
from .values import EMPTY, evolve


def tend(memory: Memory, lws: LeaderWorkerSet, now_s: float) -> tuple[Memory, tuple[Request, ...]]:
    """Look at every group that has changed. Cost: the sizes of those groups."""
    actions: list[Request] = []
    for index in indexes(memory.dirty):
        memory, wanted = _tend_group(memory, lws, index, now_s)
        actions += wanted
    return evolve(memory, dirty=0), tuple(actions)


def _tend_group(
    memory: Memory, lws: LeaderWorkerSet, index: int, now_s: float
) -> tuple[Memory, tuple[Request, ...]]:
    memory, record = _judge(memory, lws, index, now_s)
    leader = record.group.leader
    sets = EMPTY if memory.lineage is None else memory.lineage.sets
    plan = plan_group(
        lws,
        None if leader is None else sets.get(leader.revision_key),
        record.group,
        record.history,
        statefulset=own_statefulset(memory, lws),
        recreation=_last_recreation(memory, index),
        node=None if leader is None else memory.nodes.get(leader.node_name),
        options=memory.options,
        now_s=now_s,
    )
    change = diff_group(lws, plan, record.group)
    unrecorded = _unrecorded(memory, lws, record, plan)
    if isinstance(plan.restart, Recreate) and unrecorded:
        known = memory.unrecorded.with_(str(index), plan.restart.record)
        memory = evolve(memory, unrecorded=known)
    actions = [*change.actions, *unrecorded]
    trouble = plan.trouble or next(iter(change.foreign), None)
    late, stuck_at_s = _overdue(record, memory.options.stuck_after_s, now_s)
    hold = plan.restart if isinstance(plan.restart, Hold) else None
    wakes = [stuck_at_s, None if hold is None else hold.until_s]
    if _waits_for_names(plan, record.group):
        read_at_s = (record.history.unready_since_s or now_s) + memory.options.stuck_after_s
        if read_at_s <= now_s:  # somebody may have taken its label, so that it only seems to be gone
            ref = Ref("StatefulSet", lws.namespace, names.leader_name(lws.name, index))
            actions.append(Read(ref, "whether it is gone, as pods of it are not"))
            read_at_s = now_s + memory.options.stuck_after_s
        wakes.append(read_at_s)
    for pod in reversed(late):  # the leader's trouble is told last, and stays
        lost = _stuck_on(memory, pod)
        trouble = lost or trouble
        if lost is None:  # its node may be lost later
            wakes.append(now_s + memory.options.stuck_after_s)
        elif pod is leader:
            actions += _release(lws, record, lost)
    if trouble is not None and trouble.node and trouble.node not in memory.nodes:
        actions.append(Read(Ref("Node", "", trouble.node), trouble.message))
    wake_at_s = min((at_s for at_s in wakes if at_s is not None), default=None)
    memory = _note(memory, index, plan, change, trouble or hold, wake_at_s)
    return memory, tuple(actions)


def _judge(memory: Memory, lws: LeaderWorkerSet, index: int, now_s: float) -> tuple[Memory, Record]:
    """What a group's objects amount to now, folded into the summary."""
    assert memory.lineage is not None
    before = memory.groups.get(index)
    group = before.group
    size = None if group.leader is None else memory.lineage.size_of(group.leader.revision_key)
    statefulset = own_statefulset(memory, lws)
    state = group_state(group, "" if statefulset is None else statefulset.uid, size)
    then = None if group.leader is None else memory.lineage.sets.get(group.leader.revision_key)
    history = remember(
        before.history,
        group,
        state,
        size,
        now_s,
        alone=then is not None and then.spec.leader_worker_template.restart_policy == "None",
        after_start=restarts_after_start(lws),
    )
    if group.leader is None and statefulset is not None and index >= statefulset.replicas:
        history = History(healthy_since_s=history.healthy_since_s)  # scaled away: it is not waited for
    record = Record(group, state, history)
    summary = memory.summary.fold(index, before.state, state)
    return evolve(memory, groups=memory.groups.put(record), summary=summary), record


def _waits_for_names(plan: GroupPlan, group: Group) -> bool:
    """Whether the workers' StatefulSet cannot be made, as pods of another are there that do not go."""
    is_due = any(manifest["kind"] == "StatefulSet" for manifest in plan.missing)
    stay = (pod for pod in group.workers if pod.owner is not None and not pod.terminating)
    return is_due and group.statefulset is None and any(stay)


def _last_recreation(memory: Memory, index: int) -> Recreation | None:
    """A group's last recreation, be it recorded or not."""
    key = str(index)
    known = [found[key] for found in (memory.recorded, memory.unrecorded) if key in found]
    return max(known, key=lambda recreation: recreation.at_s, default=None)


def _unrecorded(memory: Memory, lws: LeaderWorkerSet, record: Record, plan: GroupPlan) -> tuple[Request, ...]:
    """A recreation whose record the API server refuses is carried out without: better than a dead group."""
    restart, leader = plan.restart, record.group.leader
    if not isinstance(restart, Recreate) or restart.recorded or leader is None:
        return ()
    if not leader_write_refused(memory, lws):
        return ()
    return (recreate_group(lws, leader, restart.evidence),)


def _overdue(record: Record, stuck_after_s: float, now_s: float) -> tuple[list[Pod], float | None]:
    """The pods that should have ended long ago, the leader first, and when the next one would be (epoch
    seconds)."""
    group = record.group
    ends = [
        (pod.deletion_s + stuck_after_s, pod)
        for pod in (group.leader, *group.workers)
        if pod is not None and pod.deletion_s is not None
    ]
    return [pod for at_s, pod in ends if at_s <= now_s], min((s for s, _ in ends if s > now_s), default=None)


def _stuck_on(memory: Memory, pod: Pod) -> Trouble | None:
    """Why a pod does not go: its node is lost, as far as is known; None where the node answers."""
    node: Node | None = memory.nodes.get(pod.node_name)
    if node is not None and node.ready:
        return None
    role = "leader" if pod.worker_index == 0 else "worker"
    message = (
        f"{role} pod {pod.name} is terminating on node {pod.node_name}, which is lost: its group comes back "
        "once the node does, is deleted, or is tainted node.kubernetes.io/out-of-service"
    )
    return Trouble("NodeLost" if node is not None else "NoNode", message, pod.node_name)


def _release(lws: LeaderWorkerSet, record: Record, trouble: Trouble) -> tuple[Request, ...]:
    """The workers of a leader that is lost hold accelerators for nothing: let them go."""
    workers, leader = record.group.statefulset, record.group.leader
    if trouble.obstacle != "NodeLost" or workers is None or workers.terminating:
        return ()
    if leader is None or not owned_by(workers.owner, leader.uid):
        return ()
    ref = Ref("StatefulSet", lws.namespace, workers.name)
    why = f"the workers of group {record.group.index} are released: {trouble.message}"
    return (Delete(ref, workers.uid, workers.resource_version, "Background", why),)


def _note(
    memory: Memory,
    index: int,
    plan: GroupPlan,
    change: Change,
    trouble: Trouble | Hold | None,
    wake_at_s: float | None,
) -> Memory:
    """What the group waits for, until when, and a recreation that is to be recorded first."""
    key = str(index)
    troubles = memory.troubles.without(key) if trouble is None else memory.troubles.with_(key, trouble)
    wakes = memory.wakes.without(key) if wake_at_s is None else memory.wakes.with_(key, wake_at_s)
    recreating = memory.recreating.without(key)
    if isinstance(plan.restart, Recreate) and not plan.restart.recorded:
        recreating = memory.recreating.with_(key, plan.restart.record)
    is_doomed = isinstance(plan.restart, Recreate) or (
        isinstance(plan.restart, Hold) and plan.restart.reason == "BackOff"
    )
    begins = any(isinstance(one, Create) and one.ref.kind == "StatefulSet" for one in change.actions)
    return evolve(
        memory,
        troubles=troubles,
        wakes=wakes,
        recreating=recreating,
        doomed=with_bit(memory.doomed, index, is_doomed),
        beginning=with_bit(memory.beginning, index, begins),
    )
