"""What a cluster holds of one LeaderWorkerSet, cut down to the fields that decisions read.

Everything is keyed by name, as the API server keys it: at one moment there is at most one pod, one worker
StatefulSet, one Service of a name. Whether an object belongs (its owner chain, by UID) is for the reader
to judge, as a name says nothing about whose it is.
"""

from __future__ import annotations

from typing import Literal

import attrs

from .values import EMPTY, FrozenMap, Json, Labels

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]


@attrs.frozen
class Owner:
    """The controller owner of an object."""

    kind: str
    name: str
    uid: str


def owned_by(owner: Owner | None, uid: str) -> bool:
    """Whether the controller owner of an object is the one of this UID."""
    return owner is not None and owner.uid == uid


@attrs.frozen
class Pod:
    """A leader or worker pod.

    `group_index` and `worker_index` come from its name (0 is the leader); `revision_key` and
    `native_revision` from its labels; `created_s` is when it was created (epoch seconds); `ready` is phase
    Running with condition Ready, `ready_since_s` (epoch seconds) when that began; `restarts` counts those
    of its containers and init containers; `deletion_s` is when its grace period ends (epoch seconds),
    None while it is not terminating; `waiting` is the first reason that keeps it from running, as the
    kubelet or the scheduler gave it. The topology keys, and whether it has a subdomain of its own, are those
    that the pod was made with.
    """

    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    group_index: int
    worker_index: int
    revision_key: str = ""
    native_revision: str = ""
    group_key: str = ""
    created_s: float | None = None
    phase: Phase = "Pending"
    ready: bool = False
    ready_since_s: float | None = None
    restarts: int = 0
    reason: str = ""
    waiting: str = ""
    deletion_s: float | None = None
    node_name: str = ""
    requests_tpus: bool = False
    names_a_leader: bool = False
    pod_group_name: str = ""
    exclusive_topology: str = ""
    subgroup_exclusive_topology: str = ""
    own_subdomain: bool = False

    @property
    def terminating(self) -> bool:
        """Whether the pod's deletion has been asked for."""
        return self.deletion_s is not None

    @property
    def finished(self) -> bool:
        """Whether the pod has ended and will not run again: Succeeded or Failed, eviction included."""
        return self.phase in ("Succeeded", "Failed")


@attrs.frozen
class LeaderStatefulSet:
    """The StatefulSet of a set's leaders: metadata, the fields that are applied, and status.

    `template_digest` tells one stored template from another. `owned_labels` and `owned_annotations` are the
    keys that our field manager wrote. `posted_fields` is the index in managedFields of what it wrote by
    POST, which a later apply does not take fields from; None once there is no such entry. `applied_template`
    is what it applied of the template, as managedFields tell it; None where it has applied nothing, as where
    somebody else carries decisions out under a name of their own.
    """

    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int
    owner: Owner | None
    terminating: bool
    labels: Labels
    annotations: Labels
    replicas: int
    partition: int
    template: FrozenMap[Json]
    template_digest: str = ""
    claims: tuple[FrozenMap[Json], ...] = ()
    retention: FrozenMap[Json] | None = None
    service_name: str = ""
    selector: Labels = EMPTY
    max_unavailable: int | None = None
    owned_labels: tuple[str, ...] = ()
    owned_annotations: tuple[str, ...] = ()
    posted_fields: int | None = None
    applied_template: FrozenMap[Json] | None = None
    observed_generation: int = 0
    status_replicas: int = 0
    ready_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


@attrs.frozen
class WorkerStatefulSet:
    """The StatefulSet of one group's workers. `labelled`: it has the set's label, without which no watch
    tells of it."""

    name: str
    uid: str
    resource_version: str
    generation: int
    owner: Owner | None
    terminating: bool
    group_index: int
    revision_key: str
    replicas: int
    observed_generation: int = 0
    labelled: bool = True


@attrs.frozen
class Child:
    """A Service or PodGroup: only who owns it matters. `group_index` is None for the Service of a set.
    `labelled`: as for WorkerStatefulSet."""

    kind: Literal["Service", "PodGroup"]
    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    terminating: bool
    group_index: int | None = None
    labelled: bool = True


@attrs.frozen
class Revision:
    """A ControllerRevision with the set's label: the set's own (`data` kept), or a StatefulSet's.

    `key` is the label template-revision-hash, which both carry; `number` is the field `revision`.
    `labelled`: as for WorkerStatefulSet.
    """

    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    terminating: bool
    key: str
    number: int
    data: FrozenMap[Json] = EMPTY
    labelled: bool = True


@attrs.frozen
class Node:
    """A node that carries a leader. `ready` is False for a node that is unreachable or not ready."""

    name: str
    labels: Labels
    ready: bool = True


@attrs.frozen
class Group:
    """The objects of one group, by index; `workers` holds worker pods by worker index, in its order."""

    index: int
    leader: Pod | None = None
    workers: tuple[Pod, ...] = ()
    statefulset: WorkerStatefulSet | None = None
    service: Child | None = None
    pod_groups: tuple[Child, ...] = ()
