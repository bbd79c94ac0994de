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


@attrs.frozen
class Pod:
    """A leader or worker pod.

    `group_index` and `worker_index` come from its name (0 is the leader); `revision_key` and
    `native_revision` from its labels; `restarted` says that a container or init container has restarted;
    `deletion_s` is the moment its grace period ends (epoch seconds), None while it is not terminating;
    `waiting` is the first reason that keeps it from running, as the kubelet or the scheduler gave it.
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
    phase: Phase = "Pending"
    ready: bool = False
    restarted: bool = False
    reason: str = ""
    waiting: str = ""
    deletion_s: float | None = None
    node_name: str = ""
    requests_tpus: bool = False
    labelled_leader_name: bool = False
    pod_group_name: str = ""

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

    `spec_replicas` is the annotation `replicas`, the set's spec.replicas at the last apply; None where it is
    missing or no number. `updated_by_post` says that managedFields has an entry of this field manager's
    from a POST, which a later apply would not take fields from.
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
    claims: tuple[FrozenMap[Json], ...] = ()
    retention: FrozenMap[Json] | None = None
    service_name: str = ""
    selector: Labels = EMPTY
    max_unavailable: int | None = None
    updated_by_post: bool = False
    managed_fields: tuple[Json, ...] = ()
    observed_generation: int = 0
    status_replicas: int = 0
    ready_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


@attrs.frozen
class WorkerStatefulSet:
    """The StatefulSet of one group's workers."""

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


@attrs.frozen
class Child:
    """A Service or PodGroup: only who owns it matters."""

    kind: Literal["Service", "PodGroup"]
    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    terminating: bool


@attrs.frozen
class Revision:
    """A ControllerRevision with the set's label: the set's own (`data` kept), or the leader StatefulSet's.

    `key` is the label template-revision-hash, which both carry; `number` is the field `revision`.
    """

    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    terminating: bool
    key: str
    number: int
    data: FrozenMap[Json] = EMPTY


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
