"""What an installation chooses, as against what a user writes into a set."""

from __future__ import annotations

import attrs


@attrs.frozen
class Options:
    """Settings of one controller, the same for all its sets.

    gang_scheduling: create a Volcano PodGroup for each group and name it on the pods.
    exclusive_across_namespaces: give exclusive placement terms the namespaceSelector {}, so that groups
        of different namespaces do not share a topology domain either.
    recreation_limit: how often one group may be recreated in a row before it stays failed; None: no limit.
    broken_after_s: how long an outdated group must have been unready before it counts as broken rather
        than as coming back, and a rollout may go on without it.
    progress_deadline_s: how long a rollout may make no progress before the set counts as stalled.
    stuck_after_s: how long past its grace period a pod may be terminating before it counts as stuck.
    foreign_object_interval_s: how often foreign objects that stand in the way are read again.
    status_interval_s: shortest time between two status writes that change counts only.
    """

    gang_scheduling: bool = False
    exclusive_across_namespaces: bool = False
    recreation_limit: int | None = None
    broken_after_s: float = 300.0
    progress_deadline_s: float = 600.0
    stuck_after_s: float = 30.0
    foreign_object_interval_s: float = 30.0
    status_interval_s: float = 1.0
