"""The words of the wire in one place: kinds, labels, annotations, environment, conditions, reasons.

Every name here is read by users' manifests, dashboards and scripts, or by another controller, so a change
is a change of the API (docs/api.md).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal, get_args

GROUP: Final = "leaderworkerset.x-k8s.io"
VERSION: Final = "v1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LeaderWorkerSet"
PLURAL: Final = "leaderworkersets"
FIELD_MANAGER: Final = "lws"

_PREFIX: Final = "leaderworkerset.sigs.k8s.io/"

# Labels.
SET_NAME: Final = _PREFIX + "name"
REVISION_KEY: Final = _PREFIX + "template-revision-hash"
WORKER_INDEX: Final = _PREFIX + "worker-index"
GROUP_INDEX: Final = _PREFIX + "group-index"
GROUP_KEY: Final = _PREFIX + "group-key"
SUBGROUP_INDEX: Final = _PREFIX + "subgroup-index"
SUBGROUP_KEY: Final = _PREFIX + "subgroup-key"
NATIVE_REVISION: Final = "controller-revision-hash"  # put on pods by the StatefulSet controller

# Annotations.
SIZE: Final = _PREFIX + "size"
REPLICAS: Final = _PREFIX + "replicas"
LEADER_NAME: Final = _PREFIX + "leader-name"
EXCLUSIVE_TOPOLOGY: Final = _PREFIX + "exclusive-topology"
SUBGROUP_EXCLUSIVE_TOPOLOGY: Final = _PREFIX + "subgroup-exclusive-topology"
SUBGROUP_SIZE: Final = _PREFIX + "subgroup-size"
SUBGROUP_POLICY_TYPE: Final = _PREFIX + "subgroup-policy-type"
SUBDOMAIN_POLICY: Final = _PREFIX + "subdomainPolicy"
LEADER_REQUESTS_TPUS: Final = _PREFIX + "leader-requests-tpus"
RECREATE_AFTER_START: Final = _PREFIX + "experimental-recreate-group-after-start"
POD_GROUP_NAME: Final = "scheduling.k8s.io/group-name"
VOLCANO_QUEUE: Final = "scheduling.volcano.sh/queue-name"
VOLCANO_PREFIX: Final = "volcano.sh/"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

# Our own annotations, on the leader StatefulSet object only, never in a template.
OWN_PREFIX: Final = "controller.lws.x-k8s.io/"
RENDERED: Final = OWN_PREFIX + "rendered-template"
RECREATIONS: Final = OWN_PREFIX + "recreations"

# Environment.
ENV_LEADER_ADDRESS: Final = "LWS_LEADER_ADDRESS"
ENV_GROUP_SIZE: Final = "LWS_GROUP_SIZE"
ENV_WORKER_INDEX: Final = "LWS_WORKER_INDEX"
TPU_RESOURCE: Final = "google.com/tpu"

# Condition types, with the reason and the message of each that has only one.
AVAILABLE: Final = "Available"
PROGRESSING: Final = "Progressing"
UPDATE_IN_PROGRESS: Final = "UpdateInProgress"
STALLED: Final = "Stalled"

# Event and condition reasons.
ALL_GROUPS_READY: Final = "AllGroupsReady"
GROUPS_UPDATING: Final = "GroupsUpdating"
GROUPS_PROGRESSING: Final = "GroupsProgressing"
CREATING_REVISION: Final = "CreatingRevision"
FAILED_CREATE: Final = "FailedCreate"
FAILED_UPDATE: Final = "FailedUpdate"
RECREATE_GROUP: Final = "RecreateGroup"
DRIFT_HEALED: Final = "DriftHealed"

# Why an API server refuses, in the causes of its Status.
NAMESPACE_TERMINATING: Final = "NamespaceTerminating"

StallReason = Literal[
    "InvalidSpec",
    "ForeignObject",
    "APIRefused",
    "AdmissionMissing",
    "NodeLost",
    "RecreationLimit",
    "RecreationBackOff",
    "ProgressDeadlineExceeded",
]
"""Reasons of the condition Stalled, the most urgent first."""

STALL_REASONS: Final[tuple[StallReason, ...]] = get_args(StallReason)

_ORDINAL: Final = re.compile(r"(.*)-([0-9]+)$", re.DOTALL | re.ASCII)


def leader_name(set_name: str, group_index: int) -> str:
    """Name of a group's leader pod, its worker StatefulSet and its own Service."""
    return f"{set_name}-{group_index}"


def worker_name(set_name: str, group_index: int, worker_index: int) -> str:
    """Name of a worker pod; `worker_index` starts at 1, the leader being 0."""
    return f"{set_name}-{group_index}-{worker_index}"


def parent_and_ordinal(name: str) -> tuple[str, int | None]:
    """The StatefulSet name and the ordinal in a pod's name; ("", None) where it has no int32 ordinal."""
    match = _ORDINAL.match(name)
    digits = match[2].lstrip("0") if match else ""
    # Their count first: Python makes no number of more than some thousand digits.
    if match is None or len(digits) > 10 or int(digits or "0") > 2**31 - 1:
        return "", None
    return match[1], int(digits or "0")


def topology_key(scope: str, name: str) -> str:
    """Label value that ties pods together: hex SHA-1 of `scope/name` (40 characters).

    A group's key is topology_key(namespace, leader name); a subgroup's, topology_key(leader name, index).
    """
    return hashlib.sha1(f"{scope}/{name}".encode(), usedforsecurity=False).hexdigest()
