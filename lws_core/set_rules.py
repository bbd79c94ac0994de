"""The rules that a LeaderWorkerSet must keep beyond the types of its fields, each as one function.

Rules 1 to 17 are numbered, ordered and worded as in docs/api.md ("Validation"), where users and other tools
know them from. The rest are this implementation's: they refuse a set that could be stored but whose pods
could never start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from . import names
from .errors import FieldError
from .metadata_rules import MAX_ANNOTATIONS, annotations_size, dns_1123_label_faults, qualified_name_faults
from .scaling import scaled_max_surge, scaled_max_unavailable, surge_count
from .schema import MAX_REPLICAS
from .spec import IntOrPercent, LeaderWorkerSet, Spec, Template
from .structural import INT32, INT64, not_supported
from .values import Json, as_map, dig

REPLICAS: Final = "spec.replicas"
TEMPLATE: Final = "spec.leaderWorkerTemplate"
SIZE: Final = f"{TEMPLATE}.size"
ROLLING: Final = "spec.rolloutStrategy.rollingUpdateConfiguration"
MAX_UNAVAILABLE: Final = f"{ROLLING}.maxUnavailable"
MAX_SURGE: Final = f"{ROLLING}.maxSurge"
PARTITION: Final = f"{ROLLING}.partition"
SUBGROUP: Final = f"{TEMPLATE}.subGroupPolicy"
SUBGROUP_SIZE: Final = f"{TEMPLATE}.SubGroupPolicy.subGroupSize"
"""Reported with a capital S, unlike the field's name: tools match on it."""
CLAIMS: Final = f"{TEMPLATE}.volumeClaimTemplates"
RETENTION: Final = f"{TEMPLATE}.persistentVolumeClaimRetentionPolicy"

LONGEST_STATEFULSET_NAME: Final = 52
"""Pods carry their StatefulSet's name and a hash of ten characters, after a dash, in a label (63 at most)."""

OWN_ANNOTATIONS: Final = 16 * 1024
"""Room for what the operator writes beside the set's annotations, in bytes: a few records of fixed size, and
one of recreations, 40 bytes for each group of late."""

_PERCENT: Final = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)
_RETENTIONS: Final = ("Retain", "Delete")


def replicas_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rules 2 and 3: replicas is between 0 and MAX_REPLICAS."""
    replicas = lws.spec.replicas
    if replicas < 0:
        yield FieldError(REPLICAS, "Invalid", "replicas must be equal or greater than 0", replicas)
    if replicas > MAX_REPLICAS:
        detail = f"replicas must be equal or less than {MAX_REPLICAS}"
        yield FieldError(REPLICAS, "Invalid", detail, replicas)


def size_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 4: a group has a leader."""
    size = lws.spec.leader_worker_template.size
    if size < 1:
        yield FieldError(SIZE, "Invalid", "size must be equal or greater than 1", size)


def product_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 5: pods can be counted in an int32."""
    if lws.spec.replicas * lws.spec.leader_worker_template.size > INT32[1]:
        detail = f"the product of replicas and worker replicas must not exceed {INT32[1]}"
        yield FieldError(REPLICAS, "Invalid", detail, lws.spec.replicas)


def max_unavailable_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rules 6 to 8, for maxUnavailable."""
    return _count_or_percent_faults(MAX_UNAVAILABLE, lws.spec.rollout_strategy.max_unavailable)


def max_surge_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 9: rules 6 to 8, for maxSurge."""
    return _count_or_percent_faults(MAX_SURGE, lws.spec.rollout_strategy.max_surge)


def _count_or_percent_faults(path: str, value: IntOrPercent) -> Iterator[FieldError]:
    if isinstance(value, int):
        if value < 0:
            yield FieldError(path, "Invalid", "must be greater than or equal to 0", value)
    elif re.fullmatch("[0-9]+%", value) is None:
        yield FieldError(path, "Invalid", _PERCENT, value)
    elif len(value.lstrip("0")) > len("100%") or int(value.lstrip("0")[:-1] or "0") > 100:
        yield FieldError(path, "Invalid", "must not be greater than 100%", value)


def partition_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 11: partition is not negative; it may exceed replicas."""
    partition = lws.spec.rollout_strategy.partition
    if partition < 0:
        yield FieldError(PARTITION, "Invalid", "must be greater than or equal to 0", partition)


def max_unavailable_scale_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 10, for maxUnavailable: it comes to a number."""
    if not _scales(lws.spec.rollout_strategy.max_unavailable):
        value = lws.spec.rollout_strategy.max_unavailable
        yield FieldError(MAX_UNAVAILABLE, "Invalid", "invalid value", value)


def max_surge_scale_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 10, for maxSurge: it comes to a number."""
    if not _scales(lws.spec.rollout_strategy.max_surge):
        value = lws.spec.rollout_strategy.max_surge
        yield FieldError(MAX_SURGE, "Invalid", "invalid value", value)


def _scales(value: IntOrPercent) -> bool:
    """Whether a value can be made a number of groups: a count, or an int64 with a percent sign."""
    if isinstance(value, int):
        return True
    if re.fullmatch("[+-]?[0-9]{1,1000}%", value) is None:
        return False
    return INT64[0] <= int(value[:-1]) <= INT64[1]


def no_step_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 12: a rollout can take a step."""
    spec, strategy = lws.spec, lws.spec.rollout_strategy
    if not (_scales(strategy.max_unavailable) and _scales(strategy.max_surge)):
        return
    if spec.replicas != 0 and scaled_max_unavailable(spec) == 0 and scaled_max_surge(spec) == 0:
        detail = "must not be 0 when `maxSurge` is 0"
        yield FieldError(MAX_UNAVAILABLE, "Invalid", detail, strategy.max_unavailable)


def subgroup_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rules 13 to 16: groups can be cut into subgroups of subGroupSize pods."""
    template = lws.spec.leader_worker_template
    policy, size = template.sub_group_policy, template.size
    if policy is None:
        return
    if policy.size is None:
        yield FieldError(SUBGROUP_SIZE, "Required", "must be set if subGroupPolicy is")
        return
    if policy.size < 1:
        detail = "subGroupSize must be equal or greater than 1"
        yield FieldError(SUBGROUP_SIZE, "Invalid", detail, policy.size)
        return
    if size % policy.size != 0 and (size - 1) % policy.size != 0:
        detail = "size or size - 1 must be divisible by subGroupSize"
        yield FieldError(SUBGROUP_SIZE, "Invalid", detail, policy.size)
    if size < policy.size:
        yield FieldError(SUBGROUP_SIZE, "Invalid", "subGroupSize cannot be larger than size", policy.size)
    if policy.type == "LeaderExcluded" and (size - 1) % policy.size != 0:
        detail = "size-1 must be divisible by subGroupSize when using LeaderExcluded"
        yield FieldError(SUBGROUP_SIZE, "Invalid", detail, policy.size)


def subgroup_annotation_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Rule 17: only subgroups can be placed by subgroup; an empty annotation counts."""
    key = names.SUBGROUP_EXCLUSIVE_TOPOLOGY
    if lws.spec.leader_worker_template.sub_group_policy is None and key in lws.metadata.annotations:
        detail = "cannot have subgroup-exclusive-topology without subGroupSize set"
        value = lws.metadata.annotations[key]
        yield FieldError(f"metadata.annotations.{key}", "Invalid", detail, value)


def name_length_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """The name leaves room for what is put after it; see LONGEST_STATEFULSET_NAME.

    A group of one pod has no worker StatefulSet, so that only the leaders' counts.
    """
    name = lws.metadata.name or lws.metadata.generate_name[:58] + "12345"
    longest, after = LONGEST_STATEFULSET_NAME, "a hash"
    if lws.spec.leader_worker_template.size > 1:
        longest -= 1 + len(str(_highest_group_index(lws.spec)))
        after = "a group index and a hash"
    if longest < len(name) <= 63:  # longer ones are rule 1's
        detail = f"must be no more than {longest} characters: pods carry it in a label, with {after} after it"
        path = "metadata.name" if lws.metadata.name else "metadata.generateName"
        yield FieldError(path, "Invalid", detail, name)


def _highest_group_index(spec: Spec) -> int:
    surge = surge_count(spec) if _scales(spec.rollout_strategy.max_surge) else 0
    return max(0, spec.replicas + surge - 1)


def annotation_room_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """The annotations that are copied leave room for the operator's own; see OWN_ANNOTATIONS."""
    most = MAX_ANNOTATIONS - OWN_ANNOTATIONS
    whole = annotations_size(lws.metadata.annotations)
    if (
        whole <= MAX_ANNOTATIONS
        and annotations_size(lws.metadata.annotations.without(names.LAST_APPLIED)) > most
    ):
        detail = (
            f"may not be more than {most} bytes: the StatefulSets have them too, beside the operator's own"
        )
        yield FieldError("metadata.annotations", "TooLong", detail)


def topology_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """What exclusive placement is by is the key of a node label; empty means none."""
    for key in (names.EXCLUSIVE_TOPOLOGY, names.SUBGROUP_EXCLUSIVE_TOPOLOGY):
        value = lws.metadata.annotations.get(key)
        for fault in qualified_name_faults(value) if value else ():
            yield FieldError(f"metadata.annotations.{key}", "Invalid", fault, value)


def template_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Pod templates are ones that a StatefulSet takes, as far as that does not need all of Kubernetes."""
    template = lws.spec.leader_worker_template
    if template.leader_template is not None:
        yield from _pod_faults(f"{TEMPLATE}.leaderTemplate.spec", template.leader_template)
    yield from _pod_faults(f"{TEMPLATE}.workerTemplate.spec", template.worker_template)


def _pod_faults(path: str, template: Template) -> Iterator[FieldError]:
    spec = as_map(template.get("spec"))
    if spec.get("containers") in (None, ()):
        yield FieldError(f"{path}.containers", "Required", "")
    policy = spec.get("restartPolicy")
    if policy not in (None, "", "Always"):
        yield not_supported(f"{path}.restartPolicy", policy, ("Always",))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        detail = "must not be set: the pods of a StatefulSet have no deadline"
        yield FieldError(f"{path}.activeDeadlineSeconds", "Invalid", detail, deadline)


def claim_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """Claims have names that volumes can have, each its own."""
    seen: set[Json] = set()
    for index, claim in enumerate(lws.spec.leader_worker_template.volume_claim_templates):
        path = f"{CLAIMS}[{index}].metadata.name"
        name = dig(claim, "metadata", "name")
        if not isinstance(name, str) or not name:
            yield FieldError(path, "Required", "")
            continue
        for fault in dns_1123_label_faults(name):
            yield FieldError(path, "Invalid", fault, name)
        if name in seen:
            yield FieldError(path, "Invalid", "is the name of another claim", name)
        seen.add(name)


def retention_faults(lws: LeaderWorkerSet) -> Iterator[FieldError]:
    """The words that a StatefulSet's persistentVolumeClaimRetentionPolicy knows; empty means Retain."""
    policy = as_map(lws.spec.leader_worker_template.persistent_volume_claim_retention_policy)
    for field in ("whenDeleted", "whenScaled"):
        value = policy.get(field)
        if isinstance(value, str) and value not in ("", *_RETENTIONS):
            yield not_supported(f"{RETENTION}.{field}", value, _RETENTIONS)
