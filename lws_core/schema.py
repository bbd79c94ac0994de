"""The fields of a LeaderWorkerSet, declared once: types, defaults, bounds, and what `kubectl explain` says.

The schema has two holes, filled by whoever has them: what a pod template holds, and what a claim holds, are
Kubernetes' business and change with its version. Unfilled, both accept anything, which is all that defaulting
and decoding need; crd.py fills them.

Everything here keeps the rules for structural schemas (Kubernetes' documentation, "Specifying a structural
schema"): a type everywhere, no references, no default for what is required.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from .names import API_VERSION, KIND
from .values import FrozenMap, Json, freeze_map

Schema = FrozenMap[Json]

MAX_REPLICAS: Final = 1_000_000
RESTART_POLICIES: Final = ("Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None")
STARTUP_POLICIES: Final = ("LeaderCreated", "LeaderReady")
SUBDOMAIN_POLICIES: Final = ("Shared", "UniquePerReplica")
SUBGROUP_POLICY_TYPES: Final = ("LeaderWorker", "LeaderExcluded")

ANYTHING: Final = freeze_map({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
"""The schema of a hole that is not filled: any object."""


def _object(description: str, properties: Mapping[str, object], required: tuple[str, ...] = ()) -> Schema:
    needs = {"required": required} if required else {}
    return freeze_map({"type": "object", "description": description, **needs, "properties": properties})


def _string(description: str, **rest: object) -> Schema:
    return freeze_map({"type": "string", "description": description, **rest})


def _int32(description: str, **rest: object) -> Schema:
    return freeze_map({"type": "integer", "format": "int32", "description": description, **rest})


def _int64(description: str, **rest: object) -> Schema:
    return freeze_map({"type": "integer", "format": "int64", "description": description, **rest})


def _list(description: str, items: Schema, list_type: str, *keys: str) -> Schema:
    by = {"x-kubernetes-list-map-keys": keys} if keys else {}
    kind = {"x-kubernetes-list-type": list_type, **by}
    return freeze_map({"type": "array", "description": description, **kind, "items": items})


def _count_or_percent(description: str, default: int) -> Schema:
    either = ({"type": "integer"}, {"type": "string"})
    return freeze_map(
        {"description": description, "anyOf": either, "x-kubernetes-int-or-string": True, "default": default}
    )


_ROLLING_UPDATE = _object(
    "How many groups a rolling update may work on at once.",
    {
        "partition": _int32(
            "Groups with an index below this number keep the old template, until the number is lowered; "
            "those at or above it are updated. Lets a new template be tried on some groups first.",
            default=0,
        ),
        "maxUnavailable": _count_or_percent(
            "How many groups may be unavailable during an update: a number, or a percentage of replicas, "
            "rounded down. Must not be 0 if maxSurge is 0.",
            default=1,
        ),
        "maxSurge": _count_or_percent(
            "How many groups may exist during an update beyond replicas: a number, or a percentage of "
            "replicas, rounded up. They start on the new template and go once they are not needed.",
            default=0,
        ),
    },
)

_ROLLOUT_STRATEGY = _object(
    "How groups are replaced when the template, the size or the network configuration changes.",
    {
        "type": _string(
            "The kind of update; RollingUpdate, group by group, is the only one.",
            enum=("RollingUpdate",),
            default="RollingUpdate",
        ),
        "rollingUpdateConfiguration": _ROLLING_UPDATE,
    },
)

_NETWORK_CONFIG = _object(
    "How the pods of a group find each other.",
    {
        "subdomainPolicy": _string(
            "Shared: one headless Service for all groups, named like the set. UniquePerReplica: a headless "
            "Service for each group, named like its leader pod.",
            enum=SUBDOMAIN_POLICIES,
        )
    },
    required=("subdomainPolicy",),
)

_SUB_GROUP_POLICY = _object(
    "Cuts each group into subgroups, which can be placed each in a topology domain of its own. "
    "Can neither be added nor removed later.",
    {
        "subGroupPolicyType": _string(
            "LeaderWorker: the leader belongs to the first subgroup. LeaderExcluded: it belongs to none.",
            enum=SUBGROUP_POLICY_TYPES,
            default="LeaderWorker",
        ),
        "subGroupSize": _int32(
            "Pods in a subgroup. Must divide size, or size - 1 (then the leader is an extra pod of the "
            "first subgroup). Cannot be changed."
        ),
    },
)

_RETENTION_POLICY = _object(
    "What becomes of the pods' claims. Without it they are retained.",
    {
        "whenDeleted": _string(
            "Retain or Delete: the claims of a group whose StatefulSet goes. A group's workers have a "
            "StatefulSet of their own, which goes whenever the group is recreated."
        ),
        "whenScaled": _string("Retain or Delete: the claims of leaders that scaling down removes."),
    },
)


def _leader_worker_template(pod_template: Schema, claim: Schema) -> Schema:
    leader = "Template of the leader pods; without it they are made from workerTemplate."
    worker = "Template of the worker pods, and of the leaders if leaderTemplate is left out."
    claims = "Claims that each pod, leader or worker, gets a copy of. Cannot be changed."
    return _object(
        "What one group is made of.",
        {
            "leaderTemplate": {"description": leader, **pod_template},
            "workerTemplate": {"description": worker, **pod_template},
            "size": _int32("Pods in a group: one leader and size - 1 workers.", default=1),
            "restartPolicy": _string(
                "What happens when a pod of a group fails. RecreateGroupOnPodRestart: the whole group is "
                "recreated when one of its pods is deleted or one of its containers restarts. "
                "RecreateGroupAfterStart: the same, but not before all pods of the group have started. "
                "None: only what failed is restarted. Default: an old word for None.",
                enum=RESTART_POLICIES,
                default="RecreateGroupOnPodRestart",
            ),
            "subGroupPolicy": _SUB_GROUP_POLICY,
            "volumeClaimTemplates": _list(claims, claim, "atomic"),
            "persistentVolumeClaimRetentionPolicy": _RETENTION_POLICY,
        },
        required=("workerTemplate",),
    )


def _spec(pod_template: Schema, claim: Schema) -> Schema:
    return _object(
        "What is wanted.",
        {
            "replicas": _int32(
                "How many groups. Scaling adds and removes groups at the highest index.",
                default=1,
                minimum=0,
                maximum=MAX_REPLICAS,
            ),
            "leaderWorkerTemplate": _leader_worker_template(pod_template, claim),
            "rolloutStrategy": _ROLLOUT_STRATEGY,
            "startupPolicy": _string(
                "When a group's workers are created. LeaderCreated: as soon as the leader pod exists. "
                "LeaderReady: once the leader pod is ready.",
                enum=STARTUP_POLICIES,
                default="LeaderCreated",
            ),
            "networkConfig": _NETWORK_CONFIG,
        },
        required=("leaderWorkerTemplate",),
    )


_CONDITION = _object(
    "One aspect of the set's state.",
    {
        "type": _string(
            "Available: all groups are ready. Progressing: groups are starting. UpdateInProgress: groups "
            "are being replaced. Stalled: something needs a person; reason and message say what.",
            maxLength=316,
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
            r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        ),
        "status": _string("True, False or Unknown.", enum=("True", "False", "Unknown")),
        "observedGeneration": _int64("The metadata.generation that this was judged on.", minimum=0),
        "lastTransitionTime": _string("When status last changed.", format="date-time"),
        "reason": _string(
            "Why, in one word for programs.",
            minLength=1,
            maxLength=1024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        ),
        "message": _string("Why, in words for people.", maxLength=32768),
    },
    required=("lastTransitionTime", "message", "reason", "status", "type"),
)

_STATUS = _object(
    "What was observed; written by the controller. Counts are groups.",
    {
        "conditions": _list("The state of the set, one entry for each type.", _CONDITION, "map", "type"),
        "replicas": _int32("Groups that exist, surge included."),
        "readyReplicas": _int32("Groups of which every pod is ready."),
        "updatedReplicas": _int32("Groups that are made from the newest template."),
        "hpaPodSelector": _string(
            "Selects the leader pods; read by autoscalers through the scale subresource."
        ),
        "observedGeneration": _int64("The metadata.generation that status was last written for."),
    },
)


_OWNER = freeze_map(
    {
        "type": "object",
        "required": ("apiVersion", "kind", "name", "uid"),
        "properties": {
            **{field: {"type": "string"} for field in ("apiVersion", "kind", "name", "uid")},
            "blockOwnerDeletion": {"type": "boolean"},
            "controller": {"type": "boolean"},
        },
    }
)

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_TIME = {"type": "string", "format": "date-time"}

METADATA: Final = freeze_map(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "generateName": {"type": "string"},
            "namespace": {"type": "string"},
            "labels": _STRINGS,
            "annotations": _STRINGS,
            "uid": {"type": "string"},
            "resourceVersion": {"type": "string"},
            "generation": {"type": "integer", "format": "int64"},
            "creationTimestamp": _TIME,
            "deletionTimestamp": _TIME,
            "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "ownerReferences": {"type": "array", "items": _OWNER},
            "managedFields": {"type": "array", "items": ANYTHING},
            "selfLink": {"type": "string"},
        },
    }
)
"""An object's own metadata, which the API server knows without being told."""


@cache
def set_schema(
    pod_template: Schema = ANYTHING, claim: Schema = ANYTHING, metadata: Schema = METADATA
) -> Schema:
    """The schema of a whole LeaderWorkerSet. `pod_template` and `claim` fill its two holes."""
    return _object(
        "LeaderWorkerSet runs groups of pods, each a leader and its workers, that start, are updated, fail "
        "and scale as one.",
        {
            "apiVersion": _string(f"The API's group and version: {API_VERSION}."),
            "kind": _string(f"The kind of object: {KIND}."),
            "metadata": metadata,
            "spec": _spec(pod_template, claim),
            "status": _STATUS,
        },
    )
