"""LeaderWorkerSets between the wire's JSON and the library's values.

Decoding fills in every default and reports every fault at once; what a field is called, what type it has and
what it may hold is schema.py's to say. Unknown fields are passed over, as the API server drops them. Pod
templates and claims go through untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .defaulting import apply_defaults
from .errors import FieldError, InvalidManifest
from .names import API_VERSION, KIND
from .schema import set_schema
from .spec import (
    Condition,
    LeaderWorkerSet,
    LeaderWorkerTemplate,
    Metadata,
    OwnerReference,
    RestartPolicy,
    RolloutStrategy,
    Spec,
    Status,
    SubGroupPolicy,
)
from .structural import check, is_integer, not_supported
from .values import EMPTY, FrozenMap, Json, as_list, as_map, as_maps, strings


def decode(manifest: Json) -> LeaderWorkerSet:
    """The LeaderWorkerSet that a manifest describes, every default filled in.

    Raises InvalidManifest with the faults: a wrong kind or version, wrong types, numbers out of range,
    missing fields, words that a field does not know. The rules that take more than one field to judge are
    validation.py's. Cost: about 0.1 ms.
    """
    lws, errors = decode_lenient(manifest)
    if lws is None or errors:
        raise InvalidManifest(errors)
    return lws


def decode_lenient(manifest: Json) -> tuple[LeaderWorkerSet | None, tuple[FieldError, ...]]:
    """What can be read of a manifest, and the faults of what cannot.

    A field with a fault has its default, or is empty. The set is None only if the manifest is no map.
    """
    if not isinstance(manifest, FrozenMap):
        return None, _no_map(manifest)
    filled = apply_defaults(manifest)
    spec = as_map(filled.get("spec"))
    lws = LeaderWorkerSet(
        decode_metadata(filled.get("metadata")), _decode_spec(spec), decode_status(filled.get("status"))
    )
    return lws, (*_type_faults(filled), *check(filled, set_schema(), strict=False))


def _no_map(value: Any) -> tuple[FieldError, ...]:
    if isinstance(value, Mapping):  # a map to whoever parsed it, and what it holds may be no JSON
        detail = "must be frozen, as by freeze_map"
        return (FieldError("manifest", "TypeInvalid", detail, type(value).__name__),)
    return check(value, set_schema(), "manifest", strict=False)


def _type_faults(manifest: FrozenMap[Json]) -> list[FieldError]:
    faults = []
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        match manifest.get(field):
            case None:
                faults.append(FieldError(field, "Required", f'must be "{wanted}"'))
            case str(found) if found != wanted:
                faults.append(not_supported(field, found, (wanted,)))
            case _:
                pass
    if manifest.get("spec") is None:  # the CRD lets it pass, but there is no set without pods
        faults.append(FieldError("spec", "Required", ""))
    return faults


def _word(value: Json, default: str = "") -> str:
    return value if isinstance(value, str) else default


def _number(value: Json, default: int = 0) -> int:
    return int(value) if is_integer(value) else default


def _count_or_percent(value: Json, default: int) -> int | str:
    return value if isinstance(value, str) else _number(value, default)


def decode_metadata(value: Json) -> Metadata:
    """Metadata from its JSON form; what is missing or of a wrong type is empty."""
    metadata = as_map(value)
    return Metadata(
        name=_word(metadata.get("name")),
        namespace=_word(metadata.get("namespace")) or "default",
        generate_name=_word(metadata.get("generateName")),
        labels=strings(metadata.get("labels")),
        annotations=strings(metadata.get("annotations")),
        uid=_word(metadata.get("uid")),
        resource_version=_word(metadata.get("resourceVersion")),
        generation=_number(metadata.get("generation")),
        creation_timestamp=_word(metadata.get("creationTimestamp")),
        deletion_timestamp=_word(metadata.get("deletionTimestamp")),
        finalizers=tuple([name for name in as_list(metadata.get("finalizers")) if isinstance(name, str)]),
        owners=tuple([_decode_owner(owner) for owner in as_maps(metadata.get("ownerReferences"))]),
    )


def _decode_owner(owner: FrozenMap[Json]) -> OwnerReference:
    return OwnerReference(
        api_version=_word(owner.get("apiVersion")),
        kind=_word(owner.get("kind")),
        name=_word(owner.get("name")),
        uid=_word(owner.get("uid")),
        controller=owner.get("controller") is True,
        block_owner_deletion=owner.get("blockOwnerDeletion") is True,
    )


def _decode_spec(spec: FrozenMap[Json]) -> Spec:
    rolling = as_map(as_map(spec.get("rolloutStrategy")).get("rollingUpdateConfiguration"))
    network = as_map(spec.get("networkConfig"))
    return Spec(
        leader_worker_template=_decode_template(as_map(spec.get("leaderWorkerTemplate"))),
        replicas=_number(spec.get("replicas"), 1),
        rollout_strategy=RolloutStrategy(
            partition=_number(rolling.get("partition")),
            max_unavailable=_count_or_percent(rolling.get("maxUnavailable"), 1),
            max_surge=_count_or_percent(rolling.get("maxSurge"), 0),
        ),
        startup_policy="LeaderReady" if spec.get("startupPolicy") == "LeaderReady" else "LeaderCreated",
        subdomain_policy=(
            "UniquePerReplica" if network.get("subdomainPolicy") == "UniquePerReplica" else "Shared"
        ),
    )


def _decode_template(template: FrozenMap[Json]) -> LeaderWorkerTemplate:
    leader = template.get("leaderTemplate")
    retention = template.get("persistentVolumeClaimRetentionPolicy")
    return LeaderWorkerTemplate(
        worker_template=as_map(template.get("workerTemplate")),
        leader_template=leader if isinstance(leader, FrozenMap) else None,
        size=_number(template.get("size"), 1),
        restart_policy=_decode_restart_policy(template.get("restartPolicy")),
        sub_group_policy=_decode_sub_group_policy(template.get("subGroupPolicy")),
        volume_claim_templates=tuple(as_maps(template.get("volumeClaimTemplates"))),
        persistent_volume_claim_retention_policy=retention if isinstance(retention, FrozenMap) else None,
    )


def _decode_restart_policy(value: Json) -> RestartPolicy:
    match value:
        case "RecreateGroupAfterStart":
            return "RecreateGroupAfterStart"
        case "None":
            return "None"
        case _:
            return "RecreateGroupOnPodRestart"


def _decode_sub_group_policy(value: Json) -> SubGroupPolicy | None:
    if not isinstance(value, FrozenMap):
        return None
    size = value.get("subGroupSize")
    return SubGroupPolicy(
        size=_number(size) if is_integer(size) else None,
        type="LeaderExcluded" if value.get("subGroupPolicyType") == "LeaderExcluded" else "LeaderWorker",
    )


def decode_status(value: Json) -> Status:
    """Status from its JSON form; what is missing or of a wrong type is empty."""
    status = as_map(value)
    return Status(
        replicas=_number(status.get("replicas")),
        ready_replicas=_number(status.get("readyReplicas")),
        updated_replicas=_number(status.get("updatedReplicas")),
        hpa_pod_selector=_word(status.get("hpaPodSelector")),
        observed_generation=_number(status.get("observedGeneration")),
        conditions=tuple([_decode_condition(item) for item in as_maps(status.get("conditions"))]),
    )


def _decode_condition(condition: FrozenMap[Json]) -> Condition:
    return Condition(
        type=_word(condition.get("type")),
        status=_word(condition.get("status")),
        reason=_word(condition.get("reason")),
        message=_word(condition.get("message")),
        observed_generation=_number(condition.get("observedGeneration")),
        last_transition_time=_word(condition.get("lastTransitionTime")),
    )


def encode(lws: LeaderWorkerSet) -> FrozenMap[Json]:
    """The manifest of a set, with every default written out. `decode` gives the set back."""
    fields: dict[str, Json] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": encode_metadata(lws.metadata),
        "spec": _encode_spec(lws.spec),
    }
    if lws.status != Status():
        fields["status"] = encode_status(lws.status)
    return FrozenMap(fields)


def _without_empty(fields: dict[str, Json]) -> FrozenMap[Json]:
    return FrozenMap({key: value for key, value in fields.items() if value not in ("", 0, (), EMPTY, None)})


def encode_metadata(metadata: Metadata) -> FrozenMap[Json]:
    """The JSON form of metadata, without what is empty."""
    return _without_empty(
        {
            "name": metadata.name,
            "generateName": metadata.generate_name,
            "namespace": metadata.namespace,
            "labels": FrozenMap[Json](metadata.labels),
            "annotations": FrozenMap[Json](metadata.annotations),
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "generation": metadata.generation,
            "creationTimestamp": metadata.creation_timestamp,
            "deletionTimestamp": metadata.deletion_timestamp,
            "finalizers": metadata.finalizers,
            "ownerReferences": tuple([_encode_owner(owner) for owner in metadata.owners]),
        }
    )


def _encode_owner(owner: OwnerReference) -> FrozenMap[Json]:
    return FrozenMap(
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": owner.controller,
            "blockOwnerDeletion": owner.block_owner_deletion,
        }
    )


def _encode_spec(spec: Spec) -> FrozenMap[Json]:
    strategy = spec.rollout_strategy
    rolling = FrozenMap[Json](
        {
            "partition": strategy.partition,
            "maxUnavailable": strategy.max_unavailable,
            "maxSurge": strategy.max_surge,
        }
    )
    return FrozenMap(
        {
            "replicas": spec.replicas,
            "leaderWorkerTemplate": _encode_template(spec.leader_worker_template),
            "rolloutStrategy": FrozenMap[Json](
                {"type": "RollingUpdate", "rollingUpdateConfiguration": rolling}
            ),
            "startupPolicy": spec.startup_policy,
            "networkConfig": FrozenMap[Json]({"subdomainPolicy": spec.subdomain_policy}),
        }
    )


def _encode_template(template: LeaderWorkerTemplate) -> FrozenMap[Json]:
    policy = template.sub_group_policy
    fields: dict[str, Json | None] = {
        "leaderTemplate": template.leader_template,
        "workerTemplate": template.worker_template,
        "size": template.size,
        "restartPolicy": template.restart_policy,
        "subGroupPolicy": None if policy is None else _encode_sub_group_policy(policy),
        "volumeClaimTemplates": template.volume_claim_templates or None,
        "persistentVolumeClaimRetentionPolicy": template.persistent_volume_claim_retention_policy,
    }
    return FrozenMap({key: value for key, value in fields.items() if value is not None})


def _encode_sub_group_policy(policy: SubGroupPolicy) -> FrozenMap[Json]:
    fields: dict[str, Json] = {"subGroupPolicyType": policy.type}
    if policy.size is not None:
        fields["subGroupSize"] = policy.size
    return FrozenMap(fields)


def encode_status(status: Status) -> FrozenMap[Json]:
    """The JSON form of a status, counts of 0 written out."""
    optional: dict[str, Json] = {
        "hpaPodSelector": status.hpa_pod_selector,
        "observedGeneration": status.observed_generation,
        "conditions": tuple([_encode_condition(one) for one in status.conditions]),
    }
    fields: dict[str, Json] = {
        "replicas": status.replicas,
        "readyReplicas": status.ready_replicas,
        "updatedReplicas": status.updated_replicas,
    }
    return FrozenMap({**fields, **_without_empty(optional)})


def _encode_condition(condition: Condition) -> FrozenMap[Json]:
    fields: dict[str, Json] = {
        "type": condition.type,
        "status": condition.status,
        "observedGeneration": condition.observed_generation,
        "lastTransitionTime": condition.last_transition_time,
        "reason": condition.reason,
    }
    return _without_empty(fields).with_("message", condition.message)
