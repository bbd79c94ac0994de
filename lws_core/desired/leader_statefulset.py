"""The StatefulSet of a set's leaders: the one object that a rollout writes.

Its template changes only together with the set's revision, since the StatefulSet controller rolls leaders by
itself on any other change, without the set's budget. So the template, and the claims, which are immutable,
are arguments of `leader_statefulset`: an existing StatefulSet is sent back what it has.
"""

from __future__ import annotations

from collections.abc import Mapping

from lws_core import names
from lws_core.scaling import scaled_max_unavailable, surge_count
from lws_core.spec import LeaderWorkerSet, Template
from lws_core.structural import INT32
from lws_core.values import EMPTY, FrozenMap, Json, freeze_map

from .claims import storage
from .metadata import (
    copied_annotations,
    division_annotations,
    object_metadata,
    set_reference,
    with_pod_metadata,
)


def leader_template(lws: LeaderWorkerSet, revision_key: str) -> Template:
    """The pod template of leaders, rendered as the original controller renders it, to the field: a set may
    then change hands in both directions without one leader restarted.

    The values of the two topology annotations are the set's own; a caller that holds them until the next
    revision passes the set with the annotations that it holds.
    """
    asked = lws.metadata.annotations
    topology = asked.get(names.EXCLUSIVE_TOPOLOGY, "")
    annotations = {names.SIZE: str(lws.spec.leader_worker_template.size)}
    if topology:
        annotations[names.EXCLUSIVE_TOPOLOGY] = topology
    annotations |= division_annotations(lws, asked.get(names.SUBGROUP_EXCLUSIVE_TOPOLOGY, ""))
    if lws.spec.subdomain_policy == "UniquePerReplica":
        annotations[names.SUBDOMAIN_POLICY] = lws.spec.subdomain_policy
    labels = {names.WORKER_INDEX: "0", names.SET_NAME: lws.name, names.REVISION_KEY: revision_key}
    return with_pod_metadata(lws.spec.leader_worker_template.template_of_leader, labels, annotations)


def leader_statefulset(
    lws: LeaderWorkerSet,
    *,
    revision_key: str,
    replicas: int,
    partition: int,
    template: Template,
    claims: tuple[FrozenMap[Json], ...],
    annotations: Mapping[str, str] = EMPTY,
) -> FrozenMap[Json]:
    """The leader StatefulSet with that many replicas and that partition.

    `annotations` are the caller's own, over the set's. maxUnavailable allows all that the set's budget does,
    surge included, so that the partition alone sets the pace; it never is 0, nor beyond an int32, which the
    API refuses.
    """
    labels = {names.SET_NAME: lws.name, names.REVISION_KEY: revision_key}
    counted = {names.REPLICAS: str(lws.spec.replicas)}
    budget = min(max(1, scaled_max_unavailable(lws.spec) + surge_count(lws.spec)), INT32[1])
    metadata = object_metadata(
        lws.name,
        lws.namespace,
        lws.metadata.labels | labels,
        copied_annotations(lws) | counted | annotations,
        set_reference(lws),
    )
    spec: dict[str, object] = {
        "replicas": replicas,
        "serviceName": lws.name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {names.SET_NAME: lws.name, names.WORKER_INDEX: "0"}},
        "template": template,
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"partition": partition, "maxUnavailable": budget},
        },
        **storage(lws, claims),
    }
    return freeze_map({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})
