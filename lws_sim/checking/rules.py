"""Rules for the writes of one look beside the budget (judging.py): whom they touch, what they tell, what
must be recorded before."""

from __future__ import annotations

from typing import Final

from lws_core import names
from lws_core.actions import Action, Apply, Create, Delete, PatchStatus
from lws_core.bits import indexes
from lws_core.memory import Memory
from lws_core.observed import Group
from lws_core.spec import LeaderWorkerSet
from lws_core.values import as_maps, dig
from lws_sim.judging import Violation, is_ready, sizes_of

_UID_PREFIX: Final = 8  # of a UID, as records have it
_GUARDS: Final = ("uid", "resourceVersion")


def judge_more(memory: Memory, actions: tuple[Action, ...]) -> tuple[Violation, ...]:
    """What is wrong with the actions of a look at this memory."""
    found: list[Violation] = []
    for action in actions:
        match action:
            case Delete() | PatchStatus() if not (action.uid and action.resource_version):
                found.append(Violation("guards", f"{_words(action)} is sent without UID and resourceVersion"))
            case Apply() if not all(dig(action.manifest, "metadata", field) for field in _GUARDS):
                found.append(Violation("guards", f"{_words(action)} is sent without UID and resourceVersion"))
            case Create():
                found += _judge_create(memory, action)
        if isinstance(action, Create | Apply | Delete):
            found += _judge_revision(memory, action)
        if isinstance(action, Apply):
            found += _judge_records(memory, action)
        if isinstance(action, Delete) and action.propagation == "Foreground" and action.ref.kind == "Pod":
            found += _judge_recreation(memory, action)
        if isinstance(action, PatchStatus):
            found += _judge_status(memory, action)
    return tuple(found)


def _judge_create(memory: Memory, action: Create) -> list[Violation]:
    """A child is created for a controller that lives, and is the one that was seen; workers that wait for
    their leader, once it is ready."""
    lws, leader = memory.lws, None
    references = as_maps(dig(action.manifest, "metadata", "ownerReferences"))
    if not any(reference.get("controller") for reference in references):
        return [Violation("ownership", f"{_words(action)}: nothing owns it")]
    waits = lws is not None and lws.spec.startup_policy == "LeaderReady"
    for reference in references:
        uid = reference.get("uid")
        if reference.get("kind") == names.KIND:
            lives = lws is not None and lws.metadata.uid == uid and not lws.metadata.terminating
        else:
            index = names.parent_and_ordinal(str(reference.get("name")))[1]
            leader = None if index is None else memory.groups.get(index).group.leader
            lives = leader is not None and leader.uid == uid and not leader.terminating
        if not lives:
            text = f"{_words(action)}: its owner {reference.get('name')} is gone, or on its way"
            return [Violation("ownership", text)]
        if waits and action.ref.kind == "StatefulSet" and leader is not None and not leader.ready:
            return [Violation("startup", f"{_words(action)}: its leader is not ready")]
    return []


def _judge_revision(memory: Memory, action: Create | Apply | Delete) -> list[Violation]:
    """A revision is there before the leaders are of it, and as long as anything may come back on it."""
    lws, leaders = memory.lws, memory.statefulset
    if isinstance(action, Delete):
        deleted = memory.revisions.get(action.ref.name) if action.ref.kind == "ControllerRevision" else None
        if deleted is None:
            return []
        groups = [memory.groups.get(index).group for index in indexes(memory.known)]
        pods = [pod for group in groups for pod in (group.leader, *group.workers) if pod is not None]
        using = {pod.revision_key: f"pod {pod.name}" for pod in pods}
        using |= {
            group.statefulset.revision_key: f"StatefulSet {group.statefulset.name}"
            for group in groups
            if group.statefulset is not None
        }
        native = None if leaders is None else memory.natives.get(leaders.current_revision)
        if native is not None:
            using[native.key] = "status.currentRevision"
        others = [one for one in memory.revisions.values() if one.key == deleted.key and one != deleted]
        if deleted.key in using and not others:
            return [Violation("revision", f"{deleted.name} is deleted, which {using[deleted.key]} is of")]
    elif action.ref.kind == "ControllerRevision" and isinstance(action, Create):
        key = str(dig(action.manifest, "metadata", "labels", names.REVISION_KEY))
        for other in memory.revisions.values():
            if key == other.key or action.manifest.get("data") == other.data:
                return [Violation("revision", f"{action.ref.name} says what {other.name} does")]
    elif action.ref.kind == "StatefulSet" and lws is not None and action.ref.name == lws.name:
        key = str(dig(action.manifest, "metadata", "labels", names.REVISION_KEY))
        before = "" if leaders is None else leaders.labels.get(names.REVISION_KEY)
        if key != before and key not in {revision.key for revision in memory.revisions.values()}:
            return [Violation("revision", f"the leaders are of {key} before there is such a revision")]
    return []


def _judge_recreation(memory: Memory, action: Delete) -> list[Violation]:
    """A group is recreated only once the leader StatefulSet says so, lest an operator that starts forgets
    how often it was."""
    leaders = memory.statefulset
    record = "" if leaders is None else leaders.annotations.get(names.RECREATIONS, "")
    if action.uid[:_UID_PREFIX] in record:
        return []
    return [Violation("record", f"{action.ref.name} is recreated without a record of it")]


def _judge_records(memory: Memory, action: Apply) -> list[Violation]:
    """Under RecreateGroupAfterStart a recreation is decided on only once all members were out of Pending."""
    lws, leaders = memory.lws, memory.statefulset
    if lws is None or lws.spec.leader_worker_template.restart_policy != "RecreateGroupAfterStart":
        return []
    before = "" if leaders is None else leaders.annotations.get(names.RECREATIONS, "")
    after = str(dig(action.manifest, "metadata", "annotations", names.RECREATIONS) or "")
    found, sizes = [], sizes_of(memory)
    for index in indexes(memory.known):
        group, history = memory.groups.get(index).group, memory.groups.get(index).history
        if group.leader is None or group.leader.uid[:_UID_PREFIX] not in after:
            continue
        pods = [pod for pod in (group.leader, *group.workers) if pod.phase != "Pending"]
        started = history.started or len(pods) >= sizes.get(group.leader.revision_key, 0)
        if group.leader.uid[:_UID_PREFIX] not in before and not started:
            found.append(Violation("start", f"group {index} is recreated before it has started"))
    return found


def _judge_status(memory: Memory, action: PatchStatus) -> list[Violation]:
    lws, leaders = memory.lws, memory.statefulset
    if lws is None:
        return []
    found = []
    told = dig(action.status, "observedGeneration")
    if told != lws.metadata.generation:
        text = f"observedGeneration is {told} where {lws.metadata.generation} was seen"
        found.append(Violation("status", text))
    conditions = {str(c.get("type")): c.get("status") for c in as_maps(action.status.get("conditions"))}
    sizes, uid = sizes_of(memory), "" if leaders is None else leaders.uid
    groups = {index: memory.groups.get(index).group for index in indexes(memory.known)}
    ready = [index for index, group in groups.items() if is_ready(group, uid, sizes)]
    leaders_seen = [group.leader for group in groups.values() if group.leader is not None]
    is_sure = all(leader.revision_key in sizes for leader in leaders_seen)  # none was deleted by hand
    if is_sure and (dig(action.status, "readyReplicas") or 0) != len(ready):
        text = f"readyReplicas is {dig(action.status, 'readyReplicas')} with the groups {ready} ready"
        found.append(Violation("status", text))
    available = conditions.get(names.AVAILABLE) == "True"
    if is_sure and available and not set(range(lws.spec.replicas)) <= set(ready):
        found.append(Violation("status", f"Available with the groups {ready} ready of {lws.spec.replicas}"))
    if is_sure:
        found += _judge_counts(memory, lws, action, conditions.get(names.UPDATE_IN_PROGRESS) == "True")
    there, seen = dig(action.status, "replicas") or 0, 0 if leaders is None else leaders.status_replicas
    if there != seen:
        found.append(Violation("status", f"replicas is {there} where the leader StatefulSet says {seen}"))
    return found


def _judge_counts(
    memory: Memory, lws: LeaderWorkerSet, action: PatchStatus, updates: bool
) -> list[Violation]:
    """What a status tells of a rollout. Which revision is the newest is not sure before the leaders are
    written: it may be any of those that are there, or one to come."""
    leaders, found, sizes = memory.statefulset, [], sizes_of(memory)
    groups = [memory.groups.get(index).group for index in indexes(memory.known)]
    keys = {revision.key for revision in memory.revisions.values()}
    keys |= set() if leaders is None else {leaders.labels.get(names.REVISION_KEY, "")}
    updated = {key: sum(_is_whole(group, key, sizes) for group in groups) for key in sorted(keys)}
    told = dig(action.status, "updatedReplicas") or 0
    if told not in {0, *updated.values()}:
        found.append(Violation("status", f"updatedReplicas is {told}; of each revision there are {updated}"))
    counted = range(lws.spec.rollout_strategy.partition, lws.spec.replicas)
    old = {g.leader.revision_key for g in groups if g.leader is not None and g.index in counted}
    if old and not updates and all(old - {key} for key in keys):
        text = f"{names.UPDATE_IN_PROGRESS} does not hold, and leaders to update are of {sorted(old)}"
        found.append(Violation("status", text))
    return found


def _is_whole(group: Group, key: str, sizes: dict[str, int]) -> bool:
    """Whether the leader of a group is of that revision, and has the StatefulSet of its workers."""
    leader, workers = group.leader, group.statefulset
    if leader is None or leader.revision_key != key:
        return False
    if sizes.get(key) == 1:
        return True
    has_own = workers is not None and workers.owner is not None and workers.owner.uid == leader.uid
    return has_own and workers is not None and workers.revision_key == key


def _words(action: Create | Apply | Delete | PatchStatus) -> str:
    return f"{type(action).__name__} {action.ref.kind} {action.ref.name}"
