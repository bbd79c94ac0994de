"""The volume claim templates of a set's StatefulSets, the same for leaders and workers."""

from __future__ import annotations

from lws_core.spec import LeaderWorkerSet
from lws_core.values import FrozenMap, Json, as_map


def volume_claims(lws: LeaderWorkerSet) -> tuple[FrozenMap[Json], ...]:
    """The claims of `spec.leaderWorkerTemplate.volumeClaimTemplates` as a new StatefulSet gets them.

    All that a user may say of a claim is kept: its labels and annotations, and the whole spec, so that a
    selector, a data source or a volume name is not lost. An existing StatefulSet cannot change its claims:
    it is sent back those that it has.
    """
    return tuple(_claim(lws, claim) for claim in lws.spec.leader_worker_template.volume_claim_templates)


def storage(lws: LeaderWorkerSet, claims: tuple[FrozenMap[Json], ...]) -> FrozenMap[Json]:
    """The fields of a StatefulSet's spec that deal with claims; without what the set leaves to the API's
    defaults, be it all, the retention policy, or one of the policy's two fields."""
    policy = as_map(lws.spec.leader_worker_template.persistent_volume_claim_retention_policy)
    chosen: FrozenMap[Json] = FrozenMap({field: choice for field, choice in policy.items() if choice})
    fields: dict[str, Json] = {}
    if claims:
        fields["volumeClaimTemplates"] = claims
    if chosen:
        fields["persistentVolumeClaimRetentionPolicy"] = chosen
    return FrozenMap(fields)


def _claim(lws: LeaderWorkerSet, claim: FrozenMap[Json]) -> FrozenMap[Json]:
    given = as_map(claim.get("metadata"))
    metadata = {"name": given.get("name", ""), "namespace": lws.namespace}
    for field in ("labels", "annotations"):
        if given.get(field):
            metadata[field] = given[field]
    return FrozenMap(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": FrozenMap(metadata),
            "spec": as_map(claim.get("spec")),
        }
    )
