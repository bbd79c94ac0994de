"""When a group is recreated as a whole, on what evidence, and how often.

Under RecreateGroupOnPodRestart and RecreateGroupAfterStart the loss of one member ends the whole group: its
leader is deleted in the foreground, so that everything it owns is gone before the next leader starts. One
cause leads to one recreation: evidence counts only for pods that chain by UID to the living leader, and a
recreation is recorded under that leader's UID before it is carried out.

Repeated recreations of one group back off as a crashing container does: not at all at first, then 10 s,
doubling to 5 minutes, and again not at all after 10 healthy minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs

from .evidence import Evidence, find_evidence
from .history import History
from .observed import Group
from .spec import RestartPolicy
from .values import EMPTY, FrozenMap

FIRST_DELAY_S: Final = 10.0
LONGEST_DELAY_S: Final = 300.0
HEALTHY_RESET_S: Final = 600.0
_UID_PREFIX: Final = 8
_MOST_RECORDED: Final = 1000  # keeps the annotation under 64 KiB
_BOUND: Final = 2**40  # of counts and times that make sense
_KEPT_S: Final = 86400.0  # a group may load for hours before its 10 healthy minutes begin


@attrs.frozen
class Recreation:
    """A group's last recreation: the how-many-th in a row, when (epoch seconds), which leader it ended."""

    count: int
    at_s: int
    leader_uid: str


Recreations: TypeAlias = FrozenMap[Recreation]
"""By group index, written in decimal."""


@attrs.frozen
class Recreate:
    """Delete the leader in the foreground. `record` must stand in the cluster first; `recorded`: it does."""

    evidence: Evidence
    record: Recreation
    recorded: bool


@attrs.frozen
class Hold:
    """The group failed but is not recreated now: it has not started, backs off, or is at the limit."""

    reason: Literal["Starting", "BackOff", "Limit"]
    evidence: Evidence
    count: int = 0
    until_s: float | None = None


def decide_restart(
    policy: RestartPolicy,
    group: Group,
    history: History,
    size: int | None,
    recreation: Recreation | None,
    now_s: float,
    *,
    policy_then: RestartPolicy | None = None,
    after_start: bool = False,
    limit: int | None = None,
) -> Recreate | Hold | None:
    """Whether to recreate the group now; None where nothing has ended, or the policy lets pods end alone.

    `recreation` is the group's record; `policy_then` is the policy at the revision of its leader, None where
    that is unknown; `after_start` asks for RecreateGroupAfterStart whatever the policy.
    """
    leader = group.leader
    if policy == "None" or leader is None or leader.terminating:
        return None
    evidence = find_evidence(group, size, history.lost)
    uid = leader.uid[:_UID_PREFIX]
    if recreation is not None and recreation.leader_uid == uid:
        # Decided and recorded, but not carried out: the evidence may be gone by now, the cause is not.
        return Recreate(evidence or Evidence(leader.name, "Vanished"), recreation, recorded=True)
    if evidence is None or (policy_then == "None" and history.unready_since_s is None):
        return None  # a pod of such a group may end alone: now that it is ready again, that is over
    if (after_start or policy == "RecreateGroupAfterStart") and not history.started and _pending(group, size):
        return Hold("Starting", evidence)
    failing_since_s = now_s if history.failing_since_s is None else history.failing_since_s
    count = 0 if recreation is None or _was_healthy(history, failing_since_s) else recreation.count
    if limit is not None and count >= limit:
        return Hold("Limit", evidence, count)
    due_s = failing_since_s + delay_s(count)
    if now_s < due_s:
        return Hold("BackOff", evidence, count, due_s)
    return Recreate(evidence, Recreation(count + 1, int(now_s), uid), recorded=False)


def delay_s(count: int) -> float:
    """How long the next recreation waits after the failure, when there were `count` in a row before it."""
    return 0.0 if count < 1 else min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(count - 1, 10))


def encode_recreations(recreations: Recreations, now_s: float) -> str:
    """The annotation that records them, without those too old to matter; "" for none."""
    kept = sorted(
        ((r.at_s, int(index), r) for index, r in recreations.items() if now_s - r.at_s < _KEPT_S),
        key=lambda item: item[:2],
    )[-_MOST_RECORDED:]
    rows = {str(index): [r.count, r.at_s, r.leader_uid] for _, index, r in sorted(kept, key=lambda i: i[1])}
    return json.dumps(rows, separators=(",", ":")) if rows else ""


def decode_recreations(text: str) -> Recreations:
    """The recreations recorded in the annotation; rows that make no sense are left out."""
    try:
        rows = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return EMPTY
    if not isinstance(rows, Mapping):
        return EMPTY
    found = {}
    for index, row in rows.items():
        match row:
            case [int(count), int(at_s), str(uid)] if _is_index(index) and _make_sense(count, at_s):
                found[index] = Recreation(count, at_s, uid)
    return FrozenMap(found)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _make_sense(*numbers: int) -> bool:
    return all(0 <= number < _BOUND for number in numbers)


def _pending(group: Group, size: int | None) -> bool:
    pods = [pod for pod in (group.leader, *group.workers) if pod is not None]
    return len(pods) != size or any(pod.phase == "Pending" for pod in pods)


def _was_healthy(history: History, failing_since_s: float) -> bool:
    return history.ready_since_s is not None and failing_since_s - history.ready_since_s >= HEALTHY_RESET_S
