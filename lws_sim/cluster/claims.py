"""Volume claims of StatefulSet pods, and what the retention policy makes of them.

Source: Kubernetes 1.36, pkg/controller/statefulset/stateful_set_utils.go. A claim belongs to the StatefulSet
where it is to go with it, and to a pod that is scaled away where it is to go with that; else to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

from lws_core.values import FrozenMap, Json, as_list, as_map, dig, freeze_map

from .store import Object, Store, key_of, name_of, namespace_of, owners, uid_of, with_meta


def create_claims(store: Store, statefulset: Object, pod: str, now_s: float) -> Store:
    """The store with the claims of a pod that is about to be created."""
    selector = as_map(dig(statefulset, "spec", "selector", "matchLabels"))
    for template in as_list(dig(statefulset, "spec", "volumeClaimTemplates")):
        claim = as_map(template)
        metadata = as_map(claim.get("metadata"))
        named = {"name": f"{metadata.get('name')}-{pod}", "namespace": namespace_of(statefulset)}
        labels = as_map(metadata.get("labels")) | selector
        new = claim | {
            "kind": "PersistentVolumeClaim",
            "metadata": metadata | named | {"labels": labels},
        }
        if key_of(new) not in store.objects:
            store, _ = store.insert(new, now_s)
    return store


def has_stale_claim(store: Store, statefulset: Object, pod: Object) -> bool:
    """Whether a claim that the new pod would use is to go with an earlier pod of its name."""
    return _policy(statefulset, "whenScaled") == "Delete" and any(
        _names(reference, pod) for claim in _claims(store, statefulset, pod) for reference in owners(claim)
    )


def tend_claims(store: Store, statefulset: Object, pod: Object, now_s: float, *, condemned: bool) -> Store:
    """The store with the claims of a pod there and in the right hands. `condemned`: it is scaled away."""
    if not as_list(dig(statefulset, "spec", "volumeClaimTemplates")):
        return store
    if not condemned and dig(pod, "status", "phase") == "Pending":
        store = create_claims(store, statefulset, name_of(pod), now_s)
    with_pod = condemned and _policy(statefulset, "whenScaled") == "Delete"
    with_set = not with_pod and _policy(statefulset, "whenDeleted") == "Delete"
    mine = [_owner(pod)] * with_pod + [_owner(statefulset)] * with_set
    for claim in _claims(store, statefulset, pod):
        store, _ = store.replace(claim, _owned(claim, statefulset, pod, mine))
    return store


def _owned(claim: Object, statefulset: Object, pod: Object, mine: list[FrozenMap[Json]]) -> Object:
    """The claim in the hands of `mine`; as it is where an earlier pod or StatefulSet of the name has it, and
    in nobody's of these where a stranger controls it."""
    others = []
    for reference in owners(claim):
        for obj in (statefulset, pod):
            if _names(reference, obj) and reference["uid"] != uid_of(obj):
                return claim
        if not _names(reference, statefulset) and not _names(reference, pod):
            others.append(reference)
    if mine and any(reference.get("controller") is True for reference in others):
        mine = []
    return with_meta(claim, ownerReferences=(*others, *mine) or None)


def _claims(store: Store, statefulset: Object, pod: Object) -> Iterator[Object]:
    for template in as_list(dig(statefulset, "spec", "volumeClaimTemplates")):
        name = f"{dig(template, 'metadata', 'name')}-{name_of(pod)}"
        claim = store.get("PersistentVolumeClaim", namespace_of(statefulset), name)
        if claim is not None:
            yield claim


def _policy(statefulset: Object, when: str) -> Json:
    return dig(statefulset, "spec", "persistentVolumeClaimRetentionPolicy", when)


def _names(reference: FrozenMap[Json], obj: Object) -> bool:
    """Whether a reference names an object, or another that had its name."""
    return (reference["kind"], reference["name"]) == (obj["kind"], name_of(obj))


def _owner(obj: Object) -> FrozenMap[Json]:
    return freeze_map(
        {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": name_of(obj),
            "uid": uid_of(obj),
            "controller": True,
            "blockOwnerDeletion": True,
        }
    )
