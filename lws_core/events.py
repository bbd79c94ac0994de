"""What a write that took effect is worth telling (docs/api.md, "Events")."""

from __future__ import annotations

import attrs

from . import names
from .actions import Apply, Create, Delete, Event, PatchStatus, Request
from .evidence import Evidence
from .memory import Memory, Unreadable
from .observed import LeaderStatefulSet, Revision, owned_by
from .plan import position_of
from .sights import Thing
from .spec import LeaderWorkerSet
from .status import condition_event
from .values import dig


def event_of(before: Memory, action: Request, thing: Thing) -> Event | None:
    """The event of a request that was carried out, given what was known before it and what is there now."""
    lws = before.lws
    if isinstance(thing, Unreadable):
        return condition_event(attrs.evolve(thing.last, status=before.status_basis), thing.last.status)
    if lws is None:
        return None
    match action, thing:
        case PatchStatus(), LeaderWorkerSet():
            return condition_event(attrs.evolve(lws, status=before.status_basis), thing.status)
        case Create(), Revision():
            return _revision_event(before, lws, action, thing)
        case Create(), LeaderStatefulSet():
            note = f"Created leader statefulset {lws.name}"
            return Event("Normal", names.GROUPS_PROGRESSING, "Create", note)
        case Create(), _ if action.ref.kind == "Service" and action.ref.name in before.bereft:
            note = f"Service {action.ref.name} was deleted from outside: created again"
            return Event("Normal", names.DRIFT_HEALED, "Create", note)
        case Apply(), LeaderStatefulSet() if before.basis is not None:
            return _rollout_event(lws, before.basis, thing)
        case Apply(), _ if action.ref.kind == "StatefulSet":
            replicas = dig(action.manifest, "spec", "replicas")
            note = f"StatefulSet {action.ref.name} was scaled from outside: set back to {replicas} workers"
            return Event("Normal", names.DRIFT_HEALED, "Update", note)
        case _:
            return None


def recreation_event(action: Delete, evidence: Evidence) -> Event:
    """The event of a group whose leader was deleted because one of its pods has ended."""
    leader = action.ref.name
    index = names.parent_and_ordinal(leader)[1]
    note = f"Worker pod {evidence.pod} failed, deleted leader pod {leader} to recreate group {index}"
    return Event("Normal", names.RECREATE_GROUP, "Delete", note, action.ref, action.uid)


def failure_event(what: str, message: str, *, creates: bool) -> Event:
    """The event of a write, or of several, that failed. `message`: the API server's words."""
    verb, reason = ("create", names.FAILED_CREATE) if creates else ("update", names.FAILED_UPDATE)
    return Event("Warning", reason, verb.capitalize(), f"Failed to {verb} {what}: {message}")


def _revision_event(before: Memory, lws: LeaderWorkerSet, action: Create, revision: Revision) -> Event:
    """On what occasion it was made follows from the key that the leaders carry: the revision comes first."""
    leaders = before.statefulset
    own = leaders is not None and owned_by(leaders.owner, lws.metadata.uid)
    current = leaders.labels.get(names.REVISION_KEY, "") if leaders is not None and own else ""
    if not current:
        note = f"Creating revision with key {revision.key} for a newly created LeaderWorkerSet"
    elif current == revision.key or revision.key in before.summary.using:
        note = f"Creating missing revision with key {revision.key} for existing LeaderWorkerSet"
    else:
        note = f"Creating revision with key {revision.key} for updated LWS"
    return Event("Normal", names.CREATING_REVISION, "Create", note, action.ref, revision.uid)


def _rollout_event(lws: LeaderWorkerSet, before: LeaderStatefulSet, after: LeaderStatefulSet) -> Event | None:
    """Surge that is returned, or groups that the partition releases; a new revision tells of itself."""
    if before.labels.get(names.REVISION_KEY) != after.labels.get(names.REVISION_KEY):
        return None
    first, last = max(after.replicas, position_of(lws, before).applied_replicas), before.replicas - 1
    if first == last:
        return Event(
            "Normal", names.GROUPS_PROGRESSING, "Delete", f"deleting surge replica {lws.name}-{last}"
        )
    if first < last:
        note = f"deleting surge replicas from {lws.name}-{first} to {lws.name}-{last}"
        return Event("Normal", names.GROUPS_PROGRESSING, "Delete", note)
    old, new = before.partition, after.partition
    if new == old - 1:
        return Event("Normal", names.GROUPS_UPDATING, "Update", f"Updating replica {new}")
    if new < old:
        note = f"Updating replicas {new} to {old - 1} (inclusive)"
        return Event("Normal", names.GROUPS_UPDATING, "Update", note)
    if new > old:
        note = f"Holding replicas {old} to {new - 1} (inclusive) back again"
        return Event("Normal", names.GROUPS_UPDATING, "Update", note)
    return None
