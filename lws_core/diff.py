"""From what should exist and what does to what to send; nothing where nothing would change.

An object is ours if its controller owner is the very object, by UID, that should own it. One of the same
name that belonged to an earlier set or leader is on its way out and is waited for. Any other is foreign: it
is reported, and never touched.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from . import names
from .actions import Apply, Create, Delete, Propagation, Ref, Request, TakeFields
from .desired.claims import volume_claims
from .desired.leader_statefulset import leader_statefulset
from .evidence import Evidence
from .leftovers import leftovers
from .observed import Child, Group, LeaderStatefulSet, Owner, Pod, Revision, WorkerStatefulSet, owned_by
from .plan import GroupPlan, Leaders, Manifest, SetPlan, SetView, Trouble
from .rendered import encode, record_of
from .restart import Recreate
from .spec import LeaderWorkerSet
from .values import EMPTY, FrozenMap, Json, as_map, dig, freeze_map, strings

Standing = Literal["Own", "Leaving", "Foreign"]
_UNLABELLED: Final = f"label {names.SET_NAME} was removed"


@attrs.frozen
class Change:
    """The actions that a plan comes to, and the foreign objects that stand in the way of others. `taken`: the
    resourceVersion of the leader StatefulSet where its template is applied as it is, before a new one."""

    actions: tuple[Request, ...] = ()
    foreign: tuple[Trouble, ...] = ()
    taken: str = ""


def standing(owner: Owner | None, terminating: bool, *, kind: str, name: str, uid: str) -> Standing:
    """Whose an existing object is, of which `kind` `name` with `uid` should be the owner."""
    if owner is not None and (owner.kind, owner.name) == (kind, name):
        return "Own" if owner.uid == uid and not terminating else "Leaving"
    return "Leaving" if terminating else "Foreign"


def diff_set(lws: LeaderWorkerSet, plan: SetPlan, view: SetView, leaders: FrozenMap[Pod]) -> Change:
    """What to send for the set itself. `leaders`: those of `plan.replace` that are ours, by group index."""
    actions: list[Request] = []
    foreign: list[Trouble] = []
    taken = ""
    if plan.lineage.create is not None:
        actions.append(Create(plan.lineage.create, f"revision {plan.lineage.key}: {plan.lineage.occasion}"))
    elif plan.lineage.reused is not None and plan.lineage.raise_to:  # an older one that comes back
        why = f"revision {plan.lineage.key} is current again"
        actions.append(_numbered(lws, plan.lineage.reused, plan.lineage.raise_to, why))
    else:
        own = (one for one in view.revisions if owned_by(one.owner, lws.metadata.uid) and not one.terminating)
        actions += [_numbered(lws, one, one.number, _UNLABELLED) for one in own if not one.labelled]
    if plan.leaders is not None:
        change = diff_leaders(lws, plan.leaders, view)
        actions += change.actions
        foreign += change.foreign
        taken = change.taken
    if plan.service is not None:
        change = _diff_service(lws, plan.service, view.service)
        actions += change.actions
        foreign += change.foreign
    for index in plan.replace:
        leader = leaders.get(str(index))
        if leader is not None:
            why = f"group {index} goes to revision {plan.lineage.key}"
            actions.append(delete_leader(lws, leader, "Background", why))
    for revision in plan.obsolete:
        ref = Ref("ControllerRevision", lws.namespace, revision.name)
        why = f"nothing uses revision {revision.key} any more"
        actions.append(Delete(ref, revision.uid, revision.resource_version, "Background", why))
    return Change(tuple(actions), tuple(foreign), taken)


def diff_group(lws: LeaderWorkerSet, plan: GroupPlan, group: Group) -> Change:
    """What to send for one group: its missing children, a recreation, a healed worker count."""
    leader = group.leader
    if leader is None:
        return Change()
    if isinstance(plan.restart, Recreate):
        if not plan.restart.recorded:
            return Change()  # the record first: it is a part of the leader StatefulSet
        return Change((recreate_group(lws, leader, plan.restart.evidence),))
    actions: list[Request] = []
    foreign: list[Trouble] = []
    for manifest in plan.missing:
        existing = _existing(group, manifest)
        create = Create(manifest, f"group {group.index} has no {manifest['kind']}")
        if existing is not None and _standing_of(existing, leader) == "Foreign":
            foreign.append(_foreign(create.ref))
        elif existing is None and not _names_taken(group, manifest):
            actions.append(create)
    healed = _healed_workers(lws, plan, group, leader)
    return Change((*actions, *healed), tuple(foreign))


def diff_leaders(lws: LeaderWorkerSet, leaders: Leaders, view: SetView) -> Change:
    """What to send for the leader StatefulSet: a POST where it is missing, an apply where it differs."""
    observed = view.statefulset
    if observed is None:
        manifest = leader_statefulset(
            lws,
            revision_key=leaders.record.key,
            replicas=leaders.replicas,
            partition=leaders.partition,
            template=leaders.template,
            claims=volume_claims(lws),
            annotations={names.RENDERED: encode(leaders.record)},
        )
        return Change((Create(manifest, "the set has no leader StatefulSet"),))
    whose = standing(
        observed.owner, observed.terminating, kind=names.KIND, name=lws.name, uid=lws.metadata.uid
    )
    if whose != "Own":
        return Change(
            (), (_foreign(Ref("StatefulSet", lws.namespace, observed.name)),) if whose == "Foreign" else ()
        )
    manifest = _applied(lws, leaders, view, observed)
    reasons = _differences(manifest, leaders, observed)
    if not reasons:
        return Change()
    why = ", ".join(reasons)
    if observed.posted_fields is not None and (leaders.writes_template or _drops(manifest, observed)):
        ref = Ref("StatefulSet", lws.namespace, observed.name)
        return Change(
            (TakeFields(ref, observed.uid, observed.resource_version, observed.posted_fields, why),)
        )
    left = _left_behind(leaders, view, observed)
    if left:
        as_it_is = _applied(lws, _as_it_is(lws, leaders, observed), view, observed)
        why = f"{', '.join(left)} of the template taken over, for {why}"
        return Change((Apply(as_it_is, why, writes_template=True),), taken=observed.resource_version)
    return Change((Apply(manifest, why, leaders.writes_template),))


def delete_leader(lws: LeaderWorkerSet, leader: Pod, propagation: Propagation, why: str) -> Delete:
    """The deletion of a leader pod as it was seen."""
    return Delete(
        Ref("Pod", lws.namespace, leader.name), leader.uid, leader.resource_version, propagation, why
    )


def recreate_group(lws: LeaderWorkerSet, leader: Pod, evidence: Evidence) -> Delete:
    """The deletion of a leader that ends its whole group before the next one starts."""
    why = f"group {leader.group_index} is recreated: pod {evidence.pod} {evidence.cause.lower()}"
    return attrs.evolve(delete_leader(lws, leader, "Foreground", why), evidence=evidence)


def _applied(lws: LeaderWorkerSet, leaders: Leaders, view: SetView, observed: LeaderStatefulSet) -> Manifest:
    """The whole of what we apply: a field left out would be removed. What cannot change, or changes only
    with the template, goes back as it was observed."""
    annotations = {names.RENDERED: encode(leaders.record)}
    recreations = view.recreations or observed.annotations.get(names.RECREATIONS, "")
    if recreations:
        annotations[names.RECREATIONS] = recreations
    if names.LAST_APPLIED in observed.annotations:
        annotations[names.LAST_APPLIED] = observed.annotations[names.LAST_APPLIED]
    manifest = leader_statefulset(
        lws,
        revision_key=leaders.record.key,
        replicas=leaders.replicas,
        partition=leaders.partition,
        template=leaders.template,
        claims=observed.claims,
        annotations=annotations,
    )
    spec = as_map(manifest["spec"]) | {
        "serviceName": observed.service_name,
        "selector": FrozenMap({"matchLabels": observed.selector}),
    }
    if not leaders.writes_template:
        spec = spec.without("persistentVolumeClaimRetentionPolicy")
        if observed.retention is not None:
            spec = spec.with_("persistentVolumeClaimRetentionPolicy", observed.retention)
    metadata = as_map(manifest["metadata"]) | {
        "uid": observed.uid,
        "resourceVersion": observed.resource_version,
    }
    return manifest | {"metadata": metadata, "spec": spec}


def _left_behind(leaders: Leaders, view: SetView, observed: LeaderStatefulSet) -> tuple[str, ...]:
    """The fields of the stored template that a new one would leave there, as we have not applied them. A
    foreign edit is healed at once, as it may be replacing leaders. If applying the template as it is was to
    no avail, the new one is written all the same."""
    known = observed.applied_template is not None and observed.labels.get(names.REVISION_KEY)
    if not known or not leaders.writes_template or leaders.heals or view.taken == observed.resource_version:
        return ()
    return leftovers(observed.template, observed.applied_template or EMPTY, leaders.template)


def _as_it_is(lws: LeaderWorkerSet, leaders: Leaders, observed: LeaderStatefulSet) -> Leaders:
    """The leaders as they are, to make the template ours before another one is written: no pod is replaced
    for it, and in the middle of a rollout groups are held back just as by the write that follows."""
    seen = observed.observed_generation == observed.generation
    at_rest = seen and observed.current_revision == observed.update_revision
    held = lws.spec.rollout_strategy.partition if at_rest else leaders.partition
    replicas = min(observed.replicas, leaders.replicas)
    return Leaders(replicas, max(observed.partition, held), observed.template, record_of(observed))


def _differences(manifest: Manifest, leaders: Leaders, observed: LeaderStatefulSet) -> list[str]:
    """What an apply would change, in words; the record alone is worth no write."""
    reasons = []
    if leaders.writes_template:
        reasons.append("template healed" if leaders.heals else f"revision {leaders.record.key}")
    if leaders.replicas != observed.replicas:
        reasons.append(f"replicas {observed.replicas} to {leaders.replicas}")
    if leaders.partition != observed.partition:
        reasons.append(f"partition {observed.partition} to {leaders.partition}")
    budget = dig(manifest, "spec", "updateStrategy", "rollingUpdate", "maxUnavailable")
    if observed.max_unavailable not in (None, budget):  # absent where the API server drops the field
        reasons.append(f"maxUnavailable {observed.max_unavailable} to {budget}")
    for field, stored in (("labels", observed.labels), ("annotations", observed.annotations)):
        wanted = strings(dig(manifest, "metadata", field)).without(names.RENDERED)
        changed = sorted(key for key, value in wanted.items() if stored.get(key) != value)
        reasons += [f"{field[:-1]} {key}" for key in changed]
    reasons += [f"{key} removed" for key in _drops(manifest, observed)]
    return reasons


def _drops(manifest: Manifest, observed: LeaderStatefulSet) -> list[str]:
    """Labels and annotations that we wrote once and that should be no more."""
    kept_labels, kept = (strings(dig(manifest, "metadata", field)) for field in ("labels", "annotations"))
    return [
        *(key for key in observed.owned_labels if key in observed.labels and key not in kept_labels),
        *(key for key in observed.owned_annotations if key in observed.annotations and key not in kept),
    ]


def _diff_service(lws: LeaderWorkerSet, manifest: Manifest, service: Child | None) -> Change:
    if service is None:
        return Change((Create(manifest, "the set has no Service"),))
    whose = standing(service.owner, service.terminating, kind=names.KIND, name=lws.name, uid=lws.metadata.uid)
    return Change((), (_foreign(Ref("Service", lws.namespace, service.name)),) if whose == "Foreign" else ())


def _existing(group: Group, manifest: Manifest) -> Child | WorkerStatefulSet | None:
    match manifest["kind"]:
        case "Service":
            return group.service
        case "StatefulSet":
            return group.statefulset
        case _:
            name = dig(manifest, "metadata", "name")
            return next((child for child in group.pod_groups if child.name == name), None)


def _standing_of(child: Child | WorkerStatefulSet, leader: Pod) -> Standing:
    return standing(child.owner, child.terminating, kind="Pod", name=leader.name, uid=leader.uid)


def _names_taken(group: Group, manifest: Manifest) -> bool:
    """Whether worker pods of an earlier StatefulSet are still there: the new one would fail to create its
    own, and back off for long. Those that it will adopt, as nobody owns them, are in nobody's way."""
    taken = (pod for pod in group.workers if pod.owner is not None or pod.terminating)
    count = dig(manifest, "spec", "replicas")
    return isinstance(count, int) and any(pod.worker_index <= count for pod in taken)


def _healed_workers(lws: LeaderWorkerSet, plan: GroupPlan, group: Group, leader: Pod) -> tuple[Request, ...]:
    workers = group.statefulset
    if workers is None or plan.workers is None or leader.terminating:
        return ()
    if _standing_of(workers, leader) != "Own":
        return ()
    reasons = []
    if workers.replicas != plan.workers:
        reasons.append(f"replicas {workers.replicas} to {plan.workers}: scaled from outside")
    if not workers.labelled:
        reasons.append(_UNLABELLED)
    if workers.revision_key != leader.revision_key:
        reasons.append(f"label {names.REVISION_KEY} was {workers.revision_key or 'removed'}")
    if not reasons:
        return ()
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _labelled(lws, workers, leader.revision_key),
        "spec": {"replicas": plan.workers},
    }
    return (Apply(freeze_map(manifest), ", ".join(reasons)),)


def _labelled(lws: LeaderWorkerSet, thing: WorkerStatefulSet | Revision, key: str) -> FrozenMap[Json]:
    """The metadata of an apply to an object as it was observed, which gives it its labels back."""
    of_revision = {names.REVISION_KEY: key} if key else {}
    return freeze_map(
        {
            "name": thing.name,
            "namespace": lws.namespace,
            "uid": thing.uid,
            "resourceVersion": thing.resource_version,
            "labels": {names.SET_NAME: lws.name, **of_revision},
        }
    )


def _numbered(lws: LeaderWorkerSet, revision: Revision, number: int, why: str) -> Apply:
    manifest: dict[str, Json] = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": _labelled(lws, revision, revision.key),
        "revision": number,
    }
    return Apply(freeze_map(manifest), why)


def _foreign(stranger: Ref) -> Trouble:
    name = f"{stranger.kind} {stranger.name}"
    message = f"{name} does not belong to this set and is left alone, but its name is needed"
    return Trouble("Foreign", message, stranger=stranger)
