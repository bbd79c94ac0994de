"""The StatefulSet controller with podManagementPolicy Parallel, one sync at a time.

Source: Kubernetes 1.36, pkg/controller/statefulset/stateful_set_control.go. A sync is one step here: it sees
the store as it is, creates what is missing, deletes what is too much, and then replaces what is outdated:
with the feature gate MaxUnavailableStatefulSet off one pod from the top, waiting for any that is unavailable
at or above the partition; with the gate on as many as spec.updateStrategy.rollingUpdate.maxUnavailable.

Below the partition a pod comes back on status.currentRevision, which moves to the update revision only when,
at one sync, every replica is updated and ready.
"""

from __future__ import annotations

import functools
from typing import Final

import attrs

from lws_core.names import parent_and_ordinal
from lws_core.values import EMPTY, FrozenMap, Json, as_list, as_map, dig, digest, freeze_map

from . import api
from .claims import create_claims, has_stale_claim, tend_claims
from .store import (
    Object,
    Store,
    controller_uid,
    key_of,
    label,
    meta,
    name_of,
    namespace_of,
    owners,
    terminating,
    uid_of,
    with_meta,
    with_status,
)

MANAGER: Final = "kube-controller-manager"
REVISION_LABEL: Final = "controller-revision-hash"
_LARGEST_BATCH: Final = 500


@attrs.frozen
class PodFacts:
    """What a sync reads of a pod. `available`: it counts for a rolling update."""

    ordinal: int
    revision: str
    terminating: bool
    available: bool
    running_and_ready: bool
    finished: bool


@attrs.frozen
class Synced:
    """A sync's result. `failed`: a pod could not be created, and the sync is to be repeated after a while."""

    store: Store
    failed: bool = False


@attrs.frozen
class _Set:
    """A StatefulSet while it is synced."""

    obj: Object
    replicas: int
    start: int
    partition: int
    max_unavailable: int

    @staticmethod
    def of(obj: Object) -> _Set:
        spec = as_map(obj["spec"])
        rolling = as_map(dig(spec, "updateStrategy", "rollingUpdate"))
        return _Set(
            obj,
            _int(spec.get("replicas"), 1),
            _int(dig(spec, "ordinals", "start")),
            _int(rolling.get("partition")),
            max(1, _int(rolling.get("maxUnavailable"), 1)),
        )

    def __contains__(self, ordinal: int) -> bool:
        return self.start <= ordinal < self.start + self.replicas


@functools.lru_cache(maxsize=100_000)
def facts(pod: Object) -> PodFacts:
    """What a sync reads of a pod, kept as the same pod is read in many syncs."""
    status = as_map(pod.get("status"))
    ready = any(
        as_map(c).get("type") == "Ready" and as_map(c).get("status") == "True"
        for c in as_list(status.get("conditions"))
    )
    ordinal = parent_and_ordinal(name_of(pod))[1]
    phase = status.get("phase")
    return PodFacts(
        ordinal=-1 if ordinal is None else ordinal,
        revision=label(pod, REVISION_LABEL),
        terminating=terminating(pod),
        available=ready and not terminating(pod),
        running_and_ready=ready and phase == "Running",
        finished=phase in ("Failed", "Succeeded"),
    )


def sync(store: Store, namespace: str, name: str, rules: api.Rules, now_s: float) -> Synced:
    """One sync of a StatefulSet; the store as it is where there is none such.

    The pods are those that there were when it began, for its decisions and for the status that it writes.
    """
    obj = store.get("StatefulSet", namespace, name)
    if obj is None:
        return Synced(store)
    revisions = tuple(o for o in store.owned_by(uid_of(obj)) if o["kind"] == "ControllerRevision")
    store, update, current = _revisions(store, obj, revisions, now_s)
    target = _Set.of(obj)
    if not terminating(obj):
        store = _adopt(store, target)
    pods = pods_of(store, obj)
    failed, replaced = False, 0
    if not terminating(obj):
        store, failed = _tend_replicas(store, target, pods, update, current, rules, now_s)
    if not terminating(obj) and not failed:
        store = _delete_surplus(store, target, pods, now_s)
        store, replaced = _replace_outdated(store, target, pods, name_of(update), rules, now_s)
    store = _write_status(store, target, pods, update, current, replaced)
    return Synced(
        _truncate(store, target, pods, (*revisions, update), {name_of(update), name_of(current)}), failed
    )


def pods_of(store: Store, obj: Object) -> dict[int, Object]:
    """The pods of a StatefulSet by ordinal."""
    return {facts(pod).ordinal: pod for pod in store.owned_by(uid_of(obj)) if pod["kind"] == "Pod"}


def _revisions(
    store: Store, obj: Object, revisions: tuple[Object, ...], now_s: float
) -> tuple[Store, Object, Object]:
    """The update and the current revision, made or raised as needed."""
    template = dig(obj, "spec", "template")
    ordered = sorted(revisions, key=lambda r: (_int(r.get("revision")), name_of(r)))
    equal = [r for r in ordered if dig(r, "data", "spec", "template") == template]
    if equal and equal[-1] is ordered[-1]:
        update = equal[-1]
    elif equal:
        raised = equal[-1].with_("revision", _int(ordered[-1].get("revision")) + 1)
        store, update = store.replace(equal[-1], raised)
    else:
        store, update = _create_revision(store, _revision(obj, template, ordered), now_s)
    by_name = {name_of(r): r for r in (*revisions, update)}
    current = by_name.get(str(dig(obj, "status", "currentRevision") or ""), update)
    return store, update, current


def _create_revision(store: Store, revision: Object, now_s: float) -> tuple[Store, Object]:
    """A revision's name tells its template: one that is there already, left by an earlier StatefulSet of the
    name, serves until it is collected."""
    there = store.objects.get(key_of(revision))
    return (store, there) if there is not None else store.insert(revision, now_s)


def _revision(obj: Object, template: Json, ordered: list[Object]) -> Object:
    number = 1 + max((_int(r.get("revision")) for r in ordered), default=0)
    return freeze_map(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"{name_of(obj)}-{digest(template)[:10]}",
                "namespace": namespace_of(obj),
                "labels": dig(template, "metadata", "labels") or EMPTY,
                "ownerReferences": [_reference(obj)],
            },
            "data": {"spec": {"template": template}},
            "revision": number,
        }
    )


def _adopt(store: Store, target: _Set) -> Store:
    """The pods in its range that nobody controls and that its selector means become its own."""
    wanted = as_map(dig(target.obj, "spec", "selector", "matchLabels"))
    for ordinal in range(target.start, target.start + target.replicas):
        pod = store.get("Pod", namespace_of(target.obj), f"{name_of(target.obj)}-{ordinal}")
        if pod is None or controller_uid(pod) or terminating(pod):
            continue
        if all(label(pod, key) == value for key, value in wanted.items()):
            mine = with_meta(pod, ownerReferences=(*owners(pod), _reference(target.obj)))
            store, _ = store.replace(pod, mine)
    return store


def _tend_replicas(
    store: Store,
    target: _Set,
    pods: dict[int, Object],
    update: Object,
    current: Object,
    rules: api.Rules,
    now_s: float,
) -> tuple[Store, bool]:
    """Pods for the ordinals that have none; finished ones make room. True where a creation failed.

    In batches of 1, 2, 4 and so on: after one with a failure the rest waits for the next sync.
    """
    left = list(range(target.start, target.start + target.replicas))
    size = 1
    while left:
        batch, left = left[:size], left[size:]
        failed = False
        for ordinal in batch:
            pod = pods.get(ordinal)
            if pod is None:
                below = ordinal < target.start + target.partition
                new = _pod(target.obj, current if below else update, ordinal)
                store, created = _create_pod(store, target.obj, new, rules, now_s)
                failed = failed or not created
            elif not facts(pod).finished:
                store = tend_claims(store, target.obj, pod, now_s, condemned=False)
            elif not facts(pod).terminating:
                store, _ = api.delete(store, _key(pod), now_s)
        if failed:
            return store, True
        size = min(2 * size, _LARGEST_BATCH)
    return store, False


def _create_pod(store: Store, obj: Object, pod: Object, rules: api.Rules, now_s: float) -> tuple[Store, bool]:
    """The store with the pod and its claims; False where it could not be created. A pod whose claim is about
    to go with an earlier pod is left for a later sync."""
    if has_stale_claim(store, obj, pod):
        return store, True
    store = create_claims(store, obj, name_of(pod), now_s)
    store, answer = api.create(store, pod, MANAGER, rules, now_s)
    if not answer.ok or answer.object is None:
        return store, False
    return tend_claims(store, obj, answer.object, now_s, condemned=False), True


def _delete_surplus(store: Store, target: _Set, pods: dict[int, Object], now_s: float) -> Store:
    condemned = [pods[ordinal] for ordinal in sorted(pods, reverse=True) if ordinal not in target]
    for pod in condemned:
        store = tend_claims(store, target.obj, pod, now_s, condemned=True)
        if not facts(pod).terminating:
            store, _ = api.delete(store, _key(pod), now_s)
    return store


def _replace_outdated(
    store: Store, target: _Set, pods: dict[int, Object], update: str, rules: api.Rules, now_s: float
) -> tuple[Store, int]:
    """The store without the pods that are replaced now, and their number."""
    inside = [pods.get(ordinal) for ordinal in range(target.start, target.start + target.replicas)]
    room = 1
    if rules.gate:
        room = target.max_unavailable - sum(pod is None or not facts(pod).available for pod in inside)
    replaced = 0
    for pod in reversed(inside[target.partition :]):
        if replaced >= room or (pod is None and not rules.gate):
            break
        if pod is None:
            continue
        known = facts(pod)
        if known.revision != update and not known.terminating:
            store, _ = api.delete(store, _key(pod), now_s)
            replaced += 1
        elif not rules.gate and not known.available:
            break
    return store, replaced


def _write_status(
    store: Store, target: _Set, pods: dict[int, Object], update: Object, current: Object, replaced: int
) -> Store:
    """The status as of the sync's beginning, less the pods that it replaced. A terminating pod that is ready
    still counts as ready and available, but of no revision."""
    known = [facts(pod) for pod in pods.values()]
    update_name, current_name = name_of(update), name_of(current)
    living = [pod.revision for pod in known if not pod.terminating]
    at_update, at_current = living.count(update_name), living.count(current_name) - replaced
    ready = sum([pod.running_and_ready for pod in known])
    if at_update == ready == len(pods) == target.replicas:
        current_name, at_current = update_name, at_update
    after = with_status(
        target.obj,
        observedGeneration=meta(target.obj)["generation"],
        replicas=len(pods),
        readyReplicas=ready,
        availableReplicas=ready,
        currentReplicas=at_current,
        updatedReplicas=at_update,
        currentRevision=current_name,
        updateRevision=update_name,
        collisionCount=0,
    )
    return store.replace(target.obj, after)[0]


def _truncate(
    store: Store, target: _Set, pods: dict[int, Object], revisions: tuple[Object, ...], live: set[str]
) -> Store:
    """The store without the oldest of the revisions that no pod is of, beyond the limit of the history."""
    used = live | {facts(pod).revision for pod in pods.values()}
    history = sorted(
        (r for r in revisions if name_of(r) not in used), key=lambda r: (_int(r.get("revision")), name_of(r))
    )
    limit = _int(dig(target.obj, "spec", "revisionHistoryLimit"), 10)
    for revision in history[: max(0, len(history) - limit)]:
        store = store.remove(revision)
    return store


def _pod(obj: Object, revision: Object, ordinal: int) -> Object:
    """The pod of an ordinal, made from a revision's template."""
    template = as_map(dig(revision, "data", "spec", "template"))
    given, spec = as_map(template.get("metadata")), as_map(template.get("spec"))
    name = f"{name_of(obj)}-{ordinal}"
    labels = as_map(given.get("labels")) | {
        REVISION_LABEL: name_of(revision),
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": str(ordinal),
    }
    claims = {str(dig(c, "metadata", "name")) for c in as_list(dig(obj, "spec", "volumeClaimTemplates"))}
    own = tuple(
        freeze_map({"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}})
        for claim in sorted(claims)
    )
    given_volumes = tuple(v for v in as_list(spec.get("volumes")) if as_map(v).get("name") not in claims)
    extra: dict[str, Json] = {"hostname": name, "subdomain": dig(obj, "spec", "serviceName")}
    if own or given_volumes:
        extra["volumes"] = own + given_volumes
    metadata = {
        "name": name,
        "namespace": namespace_of(obj),
        "labels": labels,
        "annotations": as_map(given.get("annotations")),
        "ownerReferences": (_reference(obj),),
    }
    return FrozenMap(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": freeze_map(metadata),
            "spec": spec | extra,
            "status": FrozenMap({"phase": "Pending"}),
        }
    )


def _reference(obj: Object) -> FrozenMap[Json]:
    return freeze_map(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "name": name_of(obj),
            "uid": uid_of(obj),
            "controller": True,
            "blockOwnerDeletion": True,
        }
    )


def _key(pod: Object) -> str:
    return f"Pod/{namespace_of(pod)}/{name_of(pod)}"


def _int(value: Json, default: int = 0) -> int:
    return value if isinstance(value, int) else default
