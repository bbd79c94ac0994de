"""What the metadata of all objects of a set have in common."""

from __future__ import annotations

from collections.abc import Mapping

from lws_core import names
from lws_core.spec import LeaderWorkerSet, Template
from lws_core.values import EMPTY, FrozenMap, Json, Labels, as_map, freeze_map


def set_reference(lws: LeaderWorkerSet) -> FrozenMap[Json]:
    """The owner reference to the set of what it controls."""
    return _reference(names.API_VERSION, names.KIND, lws.name, lws.metadata.uid)


def pod_reference(name: str, uid: str) -> FrozenMap[Json]:
    """The owner reference to a leader pod of what belongs to its group."""
    return _reference("v1", "Pod", name, uid)


def object_metadata(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    owner: FrozenMap[Json],
) -> FrozenMap[Json]:
    """The metadata of an object that `owner` controls; without annotations it has no field for them."""
    told: dict[str, object] = {"annotations": annotations} if annotations else {}
    return freeze_map(
        {"name": name, "namespace": namespace, "labels": labels, **told, "ownerReferences": (owner,)}
    )


def copied_annotations(lws: LeaderWorkerSet) -> Labels:
    """The set's annotations as its StatefulSets get them: without what `kubectl apply` keeps for itself,
    which would make it take the StatefulSet for an object of its own."""
    return lws.metadata.annotations.without(names.LAST_APPLIED)


def with_pod_metadata(
    template: Template, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Template:
    """A pod template with the controller's labels and annotations over the user's."""
    given = as_map(template.get("metadata"))
    metadata = given | {
        "labels": as_map(given.get("labels")) | labels,
        "annotations": as_map(given.get("annotations")) | annotations,
    }
    return FrozenMap({"metadata": metadata, **template.without("metadata")})


def division_annotations(lws: LeaderWorkerSet, subgroup_exclusive_topology: str) -> Labels:
    """What pods are told of their subgroups: nothing in a set without them."""
    policy = lws.spec.leader_worker_template.sub_group_policy
    if policy is None:
        return EMPTY
    told = {names.SUBGROUP_SIZE: str(policy.size), names.SUBGROUP_POLICY_TYPE: policy.type}
    if subgroup_exclusive_topology:
        told[names.SUBGROUP_EXCLUSIVE_TOPOLOGY] = subgroup_exclusive_topology
    return FrozenMap(told)


def _reference(api_version: str, kind: str, name: str, uid: str) -> FrozenMap[Json]:
    return freeze_map(
        {
            "apiVersion": api_version,
            "kind": kind,
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    )
