"""The signs that a pod of a group has ended, for policies that restart the group as a whole.

Only pods that chain by UID to the living leader count: worker pod, worker StatefulSet, leader. What an
earlier leader left behind says nothing about this one.
"""

from __future__ import annotations

from typing import Literal

import attrs

from .observed import Group, Pod
from .summary import is_member
from .values import EMPTY, FrozenMap

Cause = Literal["Restarted", "Finished", "Evicted", "Deleted", "Vanished"]


@attrs.frozen
class Evidence:
    """Which pod of a group ended, and how it was seen."""

    pod: str
    cause: Cause


def members_of(group: Group, size: int | None) -> tuple[Pod, ...]:
    """The pods of the living leader's group: the leader and, in the order of their indexes, the workers that
    chain to it, but for those beyond the size. None without a leader."""
    leader, statefulset = group.leader, group.statefulset
    if leader is None:
        return ()
    if statefulset is None:
        return (leader,)
    workers = (pod for pod in group.workers if size is None or pod.worker_index < size)
    return (leader, *(pod for pod in workers if is_member(pod, statefulset, leader)))


def find_evidence(
    group: Group, size: int | None, lost: str = "", settled: FrozenMap[int] = EMPTY
) -> Evidence | None:
    """The first sign that a member of the living leader's group has ended. Cost: the size of the group.

    `size`: pods in the group, None where unknown; pods beyond it are not members. `lost`: the name of a
    member that was seen to vanish or to be replaced. `settled`: the restarts that do not count, by UID.
    """
    leader = group.leader
    if leader is None or leader.terminating:
        return None
    for pod in members_of(group, size):
        if pod.revision_key != leader.revision_key:
            continue
        cause = "Deleted" if pod.terminating else _ended(pod, settled)
        if cause is not None:
            return Evidence(pod.name, cause)
    return Evidence(lost, "Vanished") if lost else None


def _ended(pod: Pod, settled: FrozenMap[int]) -> Cause | None:
    if pod.finished:
        return "Evicted" if pod.reason == "Evicted" else "Finished"
    is_alive = pod.phase in ("Running", "Pending")
    return "Restarted" if is_alive and pod.restarts > settled.get(pod.uid, 0) else None
