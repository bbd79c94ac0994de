"""Volume claims of StatefulSet pods, and what the retention policy makes of them.

Source: Kubernetes 1.36, pkg/controller/statefulset: a claim belongs to the StatefulSet where it is to go with
it, and to a pod that is scaled away where it is to go with that; else to nobody.
"""

from __future__ import annotations

from lws_core.values import FrozenMap, Json, as_list, as_map, dig, freeze_map

from .store import Object, Store, key_of, name_of, namespace_of, uid_of, with_meta


def create_claims(store: Store, statefulset: Object, pod: str, now_s: float) -> Store:
    """The store with the claims of a pod that is about to be created."""
    selector = as_map(dig(statefulset, "spec", "selector", "matchLabels"))
    goes_with_set = (
        dig(statefulset, "spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted") == "Delete"
    )
    for template in as_list(dig(statefulset, "spec", "volumeClaimTemplates")):
        claim = as_map(template)
        metadata = as_map(claim.get("metadata"))
        labels = as_map(metadata.get("labels")) | selector
        new = claim | {
            "kind": "PersistentVolumeClaim",
            "metadata": metadata
            | {
                "name": f"{metadata.get('name')}-{pod}",
                "namespace": namespace_of(statefulset),
                "labels": labels,
                "ownerReferences": (_owner(statefulset),) if goes_with_set else (),
            },
        }
        if key_of(new) not in store.objects:
            store, _ = store.insert(new, now_s)
    return store


def own_claims(store: Store, statefulset: Object, pod: Object) -> Store:
    """The store after a pod was condemned: its claims become its own, where they are to go with it."""
    if dig(statefulset, "spec", "persistentVolumeClaimRetentionPolicy", "whenScaled") != "Delete":
        return store
    for template in as_list(dig(statefulset, "spec", "volumeClaimTemplates")):
        name = f"{dig(template, 'metadata', 'name')}-{name_of(pod)}"
        claim = store.get("PersistentVolumeClaim", namespace_of(pod), name)
        if claim is not None:
            store, _ = store.replace(claim, with_meta(claim, ownerReferences=(_owner(pod),)))
    return store


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
