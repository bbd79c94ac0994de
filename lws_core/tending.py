"""What the controller does for its groups, one at a time: their children, their recreation, a lost node."""

from __future__ import annotations

from typing import Final

from .actions import Delete, Read, Ref, Request
from .bits import indexes
from .diff import delete_leader, diff_group
from .history import remember
from .leading import leader_write_refused, own_statefulset
from .memory import Memory, Record
from .observed import Node
from .plan import GroupPlan, Trouble, plan_group
from .restart import Hold, Recreate
from .spec import LeaderWorkerSet
from .summary import group_state
from .values import EMPTY, evolve

STUCK_S: Final = 30.0  # how long past its grace period a leader may be terminating before it counts as stuck


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
        recreation=memory.recorded.get(str(index)),
        node=None if leader is None else memory.nodes.get(leader.node_name),
        options=memory.options,
        now_s=now_s,
    )
    change = diff_group(lws, plan, record.group)
    actions = [*change.actions, *_unrecorded(memory, lws, record, plan)]
    trouble = plan.trouble or next(iter(change.foreign), None)
    stuck_at_s = None
    if leader is not None and leader.deletion_s is not None:
        stuck_at_s = leader.deletion_s + STUCK_S
        if stuck_at_s <= now_s:
            trouble, stuck_at_s = _stuck_on(memory, record), None
            actions += _release(lws, record, trouble)
    if trouble is not None and trouble.node and trouble.node not in memory.nodes:
        actions.append(Read(Ref("Node", "", trouble.node), trouble.message))
    hold = plan.restart if isinstance(plan.restart, Hold) else None
    memory = _note(memory, index, plan, trouble or hold, stuck_at_s if hold is None else hold.until_s)
    return memory, tuple(actions)


def _judge(memory: Memory, lws: LeaderWorkerSet, index: int, now_s: float) -> tuple[Memory, Record]:
    """What a group's objects amount to now, folded into the summary."""
    assert memory.lineage is not None
    before = memory.groups.get(index)
    group = before.group
    size = None if group.leader is None else memory.lineage.size_of(group.leader.revision_key)
    statefulset = own_statefulset(memory, lws)
    state = group_state(group, "" if statefulset is None else statefulset.uid, size)
    record = Record(group, state, remember(before.history, group, state, size, now_s))
    summary = memory.summary.fold(index, before.state, state)
    return evolve(memory, groups=memory.groups.put(record), summary=summary), record


def _unrecorded(memory: Memory, lws: LeaderWorkerSet, record: Record, plan: GroupPlan) -> tuple[Request, ...]:
    """A recreation whose record the API server refuses is carried out without: better than a dead group."""
    restart, leader = plan.restart, record.group.leader
    if not isinstance(restart, Recreate) or restart.recorded or leader is None:
        return ()
    if not leader_write_refused(memory, lws):
        return ()
    why = f"group {plan.index} is recreated: pod {restart.evidence.pod} {restart.evidence.cause.lower()}"
    return (delete_leader(lws, leader, "Foreground", why),)


def _stuck_on(memory: Memory, record: Record) -> Trouble | None:
    """Why a leader does not go: its node is lost, as far as is known."""
    leader = record.group.leader
    assert leader is not None
    node: Node | None = memory.nodes.get(leader.node_name)
    if node is not None and node.ready:
        return None
    message = (
        f"leader pod {leader.name} is terminating on node {leader.node_name}, which is lost: its group comes "
        "back once the node does, is deleted, or is tainted node.kubernetes.io/out-of-service"
    )
    return Trouble("NodeLost" if node is not None else "NoNode", message, leader.node_name)


def _release(lws: LeaderWorkerSet, record: Record, trouble: Trouble | None) -> tuple[Request, ...]:
    """The workers of a leader that is lost hold accelerators for nothing: let them go."""
    workers, leader = record.group.statefulset, record.group.leader
    if trouble is None or trouble.obstacle != "NodeLost" or workers is None or workers.terminating:
        return ()
    if leader is None or workers.owner is None or workers.owner.uid != leader.uid:
        return ()
    ref = Ref("StatefulSet", lws.namespace, workers.name)
    why = f"the workers of group {record.group.index} are released: {trouble.message}"
    return (Delete(ref, workers.uid, workers.resource_version, "Background", why),)


def _note(
    memory: Memory, index: int, plan: GroupPlan, trouble: Trouble | Hold | None, wake_at_s: float | None
) -> Memory:
    """What the group waits for, until when, and a recreation that is to be recorded first."""
    key = str(index)
    troubles = memory.troubles.without(key) if trouble is None else memory.troubles.with_(key, trouble)
    wakes = memory.wakes.without(key) if wake_at_s is None else memory.wakes.with_(key, wake_at_s)
    recreating = memory.recreating.without(key)
    if isinstance(plan.restart, Recreate) and not plan.restart.recorded:
        recreating = memory.recreating.with_(key, plan.restart.record)
    return evolve(memory, troubles=troubles, wakes=wakes, recreating=recreating)
