"""The PodGroup by which Volcano starts all pods of a group together, or none (docs/api.md, "Gangs")."""

from __future__ import annotations

from lws_core import names
from lws_core.observed import Pod
from lws_core.pod_requests import add, pod_requests
from lws_core.spec import LeaderWorkerSet
from lws_core.values import FrozenMap, Json, freeze_map

from .metadata import object_metadata, pod_reference


def pod_group_name(set_name: str, group_index: str, revision_key: str) -> str:
    """Name of a group's PodGroup, which its pods carry as an annotation."""
    return f"{set_name}-{group_index}-{revision_key}"


def pod_group(cur: LeaderWorkerSet, leader: Pod) -> FrozenMap[Json]:
    """The PodGroup of the group that `leader` leads; `cur` is the set at the revision of the group.

    Under startupPolicy LeaderReady workers do not exist until the leader is ready, so it alone is the least
    to start; the resources asked for are the whole group's. Raises ValueError for an amount in a template
    that is no quantity.
    """
    size = cur.spec.leader_worker_template.size
    templates = cur.spec.leader_worker_template
    requests = add(
        pod_requests(templates.template_of_leader), pod_requests(templates.worker_template), size - 1
    )
    asked = cur.metadata.annotations
    name = leader.pod_group_name or pod_group_name(cur.name, str(leader.group_index), leader.revision_key)
    labels = {
        names.SET_NAME: cur.name,
        names.GROUP_INDEX: str(leader.group_index),
        names.REVISION_KEY: leader.revision_key,
    }
    for_volcano = {key: value for key, value in asked.items() if key.startswith(names.VOLCANO_PREFIX)}
    spec: dict[str, object] = {
        "minMember": 1 if cur.spec.startup_policy == "LeaderReady" else size,
        "minResources": {resource: str(requests[resource]) for resource in sorted(requests)},
    }
    if names.VOLCANO_QUEUE in asked:
        spec["queue"] = asked[names.VOLCANO_QUEUE]
    return freeze_map(
        {
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "PodGroup",
            "metadata": object_metadata(
                name, cur.namespace, labels, for_volcano, pod_reference(leader.name, leader.uid)
            ),
            "spec": spec,
        }
    )
