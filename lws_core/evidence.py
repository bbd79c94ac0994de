"""The signs that a pod of a group has ended, for policies that restart the group as a whole.

Only pods that chain by UID to the living leader count: worker pod, worker StatefulSet, leader. What an
earlier leader left behind says nothing about this one.
"""

from __future__ import annotations

from typing import Literal

import attrs

from .observed import Group, Pod
from .summary import is_member

Cause = Literal["Restarted", "Finished", "Evicted", "Deleted", "Vanished"]


@attrs.frozen
class Evidence:
    """Which pod of a group ended, and how it was seen."""

    pod: str
    cause: Cause


def find_evidence(group: Group, size: int | None, lost: str = "") -> Evidence | None:
    """The first sign that a member of the living leader's group has ended. Cost: the size of the group.

    `size`: pods in the group, None where unknown; pods beyond it are not members. `lost`: the name of a
    member that was seen to vanish or to be replaced.
    """
    leader = group.leader
    if leader is None or leader.terminating:
        return None
    cause = _ended(leader)
    if cause is not None:
        return Evidence(leader.name, cause)
    for worker in group.workers:
        if size is not None and worker.worker_index >= size:
            continue
        if group.statefulset is None or not is_member(worker, group.statefulset, leader):
            continue
        if worker.revision_key != leader.revision_key:
            continue
        cause = "Deleted" if worker.terminating else _ended(worker)
        if cause is not None:
            return Evidence(worker.name, cause)
    return Evidence(lost, "Vanished") if lost else None


def _ended(pod: Pod) -> Cause | None:
    if pod.finished:
        return "Evicted" if pod.reason == "Evicted" else "Finished"
    return "Restarted" if pod.restarted and pod.phase in ("Running", "Pending") else None
