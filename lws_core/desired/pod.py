"""A pod as the StatefulSet controller makes it, before any webhook has seen it.

For tests, the simulation and `lws render`; in a cluster the StatefulSet controller does this
(Kubernetes' pkg/controller/statefulset/stateful_set_utils.go, newStatefulSetPod).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lws_core.values import EMPTY, FrozenMap, Json, as_list, as_map, as_maps, dig, freeze_map

_POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
_POD_INDEX: Final = "apps.kubernetes.io/pod-index"


def stamped_pod(
    statefulset: FrozenMap[Json], ordinal: int, labels: Mapping[str, str] = EMPTY
) -> FrozenMap[Json]:
    """The pod of a StatefulSet with that ordinal: its template under its own name.

    `labels` are further ones, such as `controller-revision-hash`. The owner reference is left to the caller,
    who may know the StatefulSet's UID.
    """
    owner = as_map(statefulset.get("metadata"))
    spec = as_map(statefulset.get("spec"))
    template = as_map(spec.get("template"))
    name = f"{owner.get('name')}-{ordinal}"
    given = as_map(template.get("metadata"))
    metadata: dict[str, object] = {
        "name": name,
        "generateName": f"{owner.get('name')}-",
        "namespace": owner.get("namespace"),
        "labels": as_map(given.get("labels")) | {_POD_NAME: name, _POD_INDEX: str(ordinal)} | labels,
    }
    for field in ("annotations", "finalizers"):
        if given.get(field):
            metadata[field] = given[field]
    identity = {"hostname": name, "subdomain": spec.get("serviceName")}
    pod_spec = as_map(template.get("spec")) | identity | _storage(spec, name)
    return freeze_map({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec})


def _storage(spec: FrozenMap[Json], pod_name: str) -> FrozenMap[Json]:
    """The pod's own claims as volumes, instead of volumes of the same name."""
    claims = [dig(claim, "metadata", "name") for claim in as_maps(spec.get("volumeClaimTemplates"))]
    if not claims:
        return EMPTY
    mounted: list[object] = [
        {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{pod_name}"}} for claim in claims
    ]
    given = as_list(dig(spec, "template", "spec", "volumes"))
    return freeze_map(
        {"volumes": mounted + [volume for volume in given if dig(volume, "name") not in claims]}
    )
