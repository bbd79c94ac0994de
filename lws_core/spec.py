"""A LeaderWorkerSet and its parts as values, every default filled in (docs/api.md, "Fields")."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from .values import EMPTY, FrozenMap, Json, Labels

RestartPolicy = Literal["RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"]
StartupPolicy = Literal["LeaderCreated", "LeaderReady"]
SubdomainPolicy = Literal["Shared", "UniquePerReplica"]
SubGroupPolicyType = Literal["LeaderWorker", "LeaderExcluded"]
IntOrPercent: TypeAlias = int | str
"""A count, or a percentage of `spec.replicas` such as "25%"."""

Template: TypeAlias = FrozenMap[Json]
"""A pod template or a claim as the user wrote it: never interpreted, never completed."""


@attrs.frozen
class OwnerReference:
    """One entry of metadata.ownerReferences."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = True
    block_owner_deletion: bool = True


@attrs.frozen
class Metadata:
    """The part of an object's metadata that this library reads or writes. `name` may be empty in a manifest
    with `generate_name`; `resource_version` is opaque; times are RFC 3339 text."""

    name: str
    namespace: str = "default"
    generate_name: str = ""
    labels: Labels = EMPTY
    annotations: Labels = EMPTY
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    finalizers: tuple[str, ...] = ()
    owners: tuple[OwnerReference, ...] = ()

    @property
    def terminating(self) -> bool:
        """Whether the object's deletion has been asked for."""
        return self.deletion_timestamp != ""


@attrs.frozen
class SubGroupPolicy:
    """How a group is cut into subgroups. `size` is None where the user left it out, which is an error."""

    size: int | None
    type: SubGroupPolicyType = "LeaderWorker"


@attrs.frozen
class LeaderWorkerTemplate:
    """`spec.leaderWorkerTemplate`. `size` counts pods: one leader and size-1 workers."""

    worker_template: Template
    leader_template: Template | None = None
    size: int = 1
    restart_policy: RestartPolicy = "RecreateGroupOnPodRestart"
    sub_group_policy: SubGroupPolicy | None = None
    volume_claim_templates: tuple[Template, ...] = ()
    persistent_volume_claim_retention_policy: FrozenMap[Json] | None = None

    @property
    def template_of_leader(self) -> Template:
        """The template that leaders are made from: leaderTemplate, or workerTemplate without one."""
        return self.worker_template if self.leader_template is None else self.leader_template


@attrs.frozen
class RolloutStrategy:
    """`spec.rolloutStrategy`; its only type is RollingUpdate. `partition` counts groups."""

    partition: int = 0
    max_unavailable: IntOrPercent = 1
    max_surge: IntOrPercent = 0


@attrs.frozen
class Spec:
    """`spec` of a LeaderWorkerSet. `replicas` counts groups."""

    leader_worker_template: LeaderWorkerTemplate
    replicas: int = 1
    rollout_strategy: RolloutStrategy = RolloutStrategy()
    startup_policy: StartupPolicy = "LeaderCreated"
    subdomain_policy: SubdomainPolicy = "Shared"


@attrs.frozen
class Condition:
    """metav1.Condition; `status` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""

    @property
    def is_true(self) -> bool:
        """Whether it holds."""
        return self.status == "True"


@attrs.frozen
class Status:
    """`status` of a LeaderWorkerSet; counts are groups."""

    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    hpa_pod_selector: str = ""
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, or None."""
        return next((c for c in self.conditions if c.type == type_), None)

    def is_true(self, type_: str) -> bool:
        """Whether the condition of that type holds."""
        condition = self.condition(type_)
        return condition is not None and condition.is_true


@attrs.frozen
class LeaderWorkerSet:
    """One LeaderWorkerSet."""

    metadata: Metadata
    spec: Spec
    status: Status = Status()

    @property
    def name(self) -> str:
        """metadata.name"""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """metadata.namespace"""
        return self.metadata.namespace
