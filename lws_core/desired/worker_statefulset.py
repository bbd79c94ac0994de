"""The StatefulSet of one group's workers: made with its leader, never changed, gone with its leader.

All of it follows from the leader pod and from the set as it was at the leader's revision, so a group that is
rebuilt in the middle of a rollout comes back as it was, whatever the set says by now.
"""

from __future__ import annotations

from lws_core import names
from lws_core.observed import Pod
from lws_core.spec import LeaderWorkerSet, Template
from lws_core.values import FrozenMap, Json, Labels, as_map, freeze_map

from .claims import storage, volume_claims
from .metadata import (
    copied_annotations,
    division_annotations,
    object_metadata,
    pod_reference,
    with_pod_metadata,
)


def worker_statefulset(cur: LeaderWorkerSet, leader: Pod, *, topology_value: str | None) -> FrozenMap[Json]:
    """The worker StatefulSet of the group that `leader` leads.

    `cur` is the set with the revision of the group laid over it. `topology_value` is what the leader's node
    says under the topology key that the group has to itself (`leader.exclusive_topology`); without such a
    key it is not read. Raises ValueError where it is needed and None: workers made without it could be
    placed anywhere.
    """
    labels = _group_labels(cur, leader)
    shared = cur.spec.subdomain_policy == "Shared"
    metadata = object_metadata(
        leader.name,
        cur.namespace,
        cur.metadata.labels | labels,
        copied_annotations(cur),
        pod_reference(leader.name, leader.uid),
    )
    spec: dict[str, object] = {
        "replicas": cur.spec.leader_worker_template.size - 1,
        "ordinals": {"start": 1},
        "serviceName": cur.name if shared else leader.name,
        "podManagementPolicy": "Parallel",
        # The leader matches too, but is never taken over: it has another controller.
        "selector": {"matchLabels": labels.without(names.REVISION_KEY)},
        "template": _worker_template(cur, leader, labels, topology_value),
        **storage(cur, volume_claims(cur)),
    }
    return freeze_map({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})


def _group_labels(cur: LeaderWorkerSet, leader: Pod) -> Labels:
    return FrozenMap(
        {
            names.SET_NAME: cur.name,
            names.GROUP_INDEX: str(leader.group_index),
            names.GROUP_KEY: leader.group_key,
            names.REVISION_KEY: leader.revision_key,
        }
    )


def _worker_template(
    cur: LeaderWorkerSet, leader: Pod, labels: Labels, topology_value: str | None
) -> Template:
    """The pod template of workers. What a group has to itself was settled when its leader was made."""
    annotations = {
        names.SIZE: str(cur.spec.leader_worker_template.size),
        names.LEADER_NAME: leader.name,
    }
    if leader.exclusive_topology:
        annotations[names.EXCLUSIVE_TOPOLOGY] = leader.exclusive_topology
    annotations |= division_annotations(cur, leader.subgroup_exclusive_topology)
    if leader.requests_tpus:
        annotations[names.LEADER_REQUESTS_TPUS] = "true"
    template = with_pod_metadata(cur.spec.leader_worker_template.worker_template, labels, annotations)
    if not leader.exclusive_topology:
        return template
    if topology_value is None:
        raise ValueError(f"the workers of {leader.name} need its node's label {leader.exclusive_topology}")
    spec = as_map(template.get("spec"))
    selector = as_map(spec.get("nodeSelector")).with_(leader.exclusive_topology, topology_value)
    return template.with_("spec", spec.with_("nodeSelector", selector))
