"""Everything that a set comes to, before there is any of it: for people to look at, and for golden files.

No cluster is needed, so what only a cluster knows is missing: UIDs, and with them owner references, and what
a node's label says, for which a placeholder stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import names, projection, revision
from .admission import admit
from .desired.claims import volume_claims
from .desired.leader_statefulset import leader_statefulset, leader_template
from .desired.pod import stamped_pod
from .desired.pod_group import pod_group
from .desired.service import group_service, shared_service
from .desired.worker_statefulset import worker_statefulset
from .options import Options
from .rendered import encode, rendered_from
from .spec import LeaderWorkerSet
from .values import FrozenMap, Json, as_map, as_maps

Manifest = FrozenMap[Json]


def preview(
    lws: LeaderWorkerSet, options: Options, groups: Iterable[int] | None = None, *, with_pods: bool = False
) -> Iterator[Manifest]:
    """The objects of a new set in the order in which they are made: its own, then each group's.

    `groups` are indexes, all of the set's where None. With pods, they stand as they are after admission.
    Raises ValueError for an amount in a template that is no quantity (for gangs only), and Denied for a pod
    that admission refuses. Cost: one group at a time.
    """
    key = revision.new_key(revision.meaning(lws))
    leaders = leader_statefulset(
        lws,
        revision_key=key,
        replicas=lws.spec.replicas,
        partition=lws.spec.rollout_strategy.partition,
        template=leader_template(lws, key),
        claims=volume_claims(lws),
        annotations={names.RENDERED: encode(rendered_from(lws, key))},
    )
    yield _without_unknown_owners(revision.manifest(lws, key, 1))
    yield _without_unknown_owners(leaders)
    if lws.spec.subdomain_policy == "Shared":
        yield _without_unknown_owners(shared_service(lws))
    for index in range(lws.spec.replicas) if groups is None else groups:
        for manifest in _group(lws, leaders, index, options, with_pods):
            yield _without_unknown_owners(manifest)


def _group(
    lws: LeaderWorkerSet, leaders: Manifest, index: int, options: Options, with_pods: bool
) -> Iterator[Manifest]:
    created = admit(stamped_pod(leaders, index), options)
    leader = projection.pod(created, lws.name)
    assert leader is not None  # the leader StatefulSet's template places its pods
    if with_pods:
        yield created
    if lws.spec.subdomain_policy == "UniquePerReplica":
        yield group_service(lws, leader)
    if options.gang_scheduling:
        yield pod_group(lws, leader)
    size = lws.spec.leader_worker_template.size
    if size == 1:
        return
    domain = f"<{leader.exclusive_topology} of the leader's node>"
    workers = worker_statefulset(lws, leader, topology_value=domain)
    yield workers
    if with_pods:
        for worker_index in range(1, size):
            yield admit(stamped_pod(workers, worker_index), options)


def _without_unknown_owners(manifest: Manifest) -> Manifest:
    metadata = as_map(manifest["metadata"])
    known = tuple(owner for owner in as_maps(metadata.get("ownerReferences")) if owner.get("uid"))
    metadata = metadata.with_("ownerReferences", known) if known else metadata.without("ownerReferences")
    return manifest.with_("metadata", metadata)
