"""Rules for the writes of one look beside the budget (judging.py): whom they touch, what they tell."""

from __future__ import annotations

from lws_core import names
from lws_core.actions import Action, Apply, Create, Delete, PatchStatus
from lws_core.memory import Memory
from lws_core.values import as_maps, dig
from lws_sim.judging import Violation, is_ready


def judge_more(memory: Memory, actions: tuple[Action, ...]) -> tuple[Violation, ...]:
    """What is wrong with the actions of a look at this memory."""
    found: list[Violation] = []
    for action in actions:
        match action:
            case Delete() | PatchStatus() if not (action.uid and action.resource_version):
                found.append(Violation("guards", f"{_words(action)} is sent without UID and resourceVersion"))
            case Apply() if not dig(action.manifest, "metadata", "uid"):
                found.append(Violation("guards", f"{_words(action)} is sent without a UID"))
            case Create():
                found += _judge_create(memory, action)
        if isinstance(action, PatchStatus):
            found += _judge_status(memory, action)
    return tuple(found)


def _judge_create(memory: Memory, action: Create) -> list[Violation]:
    """A child is created for an owner that lives, and is the one that was seen."""
    lws = memory.lws
    for reference in as_maps(dig(action.manifest, "metadata", "ownerReferences")):
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
    return []


def _judge_status(memory: Memory, action: PatchStatus) -> list[Violation]:
    lws, leaders = memory.lws, memory.statefulset
    if lws is None:
        return []
    found = []
    told = dig(action.status, "observedGeneration")
    if isinstance(told, int) and told < lws.status.observed_generation:
        found.append(Violation("status", f"observedGeneration goes back to {told}"))
    conditions = {str(c.get("type")): c.get("status") for c in as_maps(action.status.get("conditions"))}
    if conditions.get(names.AVAILABLE) == "True":
        sizes = {
            revision.key: dig(revision.data, "spec", "leaderWorkerTemplate", "size")
            for revision in memory.revisions.values()
        }
        known = {key: size for key, size in sizes.items() if isinstance(size, int)}
        uid = "" if leaders is None else leaders.uid
        groups = [memory.groups.get(index).group for index in range(lws.spec.replicas)]
        ready = sum(is_ready(group, uid, known) for group in groups)
        if ready < lws.spec.replicas:
            text = f"Available with {ready} ready groups of {lws.spec.replicas}"
            found.append(Violation("status", text))
    return found


def _words(action: Create | Apply | Delete | PatchStatus) -> str:
    return f"{type(action).__name__} {action.ref.kind} {action.ref.name}"
