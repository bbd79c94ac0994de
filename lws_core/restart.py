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
from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from . import names
from .evidence import Evidence, find_evidence
from .history import History, all_have_started
from .observed import Group
from .spec import LeaderWorkerSet, RestartPolicy
from .values import EMPTY, FrozenMap

FIRST_DELAY_S: Final = 10.0
LONGEST_DELAY_S: Final = 300.0
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


def restarts_after_start(lws: LeaderWorkerSet) -> bool:
    """Whether nothing counts before a group has started."""
    policy = lws.spec.leader_worker_template.restart_policy
    return policy == "RecreateGroupAfterStart" or names.RECREATE_AFTER_START in lws.metadata.annotations


def decide_restart(
    policy: RestartPolicy,
    group: Group,
    history: History,
    size: int | None,
    recreation: Recreation | None,
    now_s: float,
    *,
    after_start: bool = False,
    limit: int | None = None,
) -> Recreate | Hold | None:
    """Whether to recreate the group now; None where nothing has ended, or the policy lets pods end alone.

    `recreation` is the group's record; `after_start` asks for RecreateGroupAfterStart whatever the policy.
    """
    leader = group.leader
    if policy == "None" or leader is None or leader.terminating:
        return None
    evidence = find_evidence(group, size, history.lost, history.settled)
    uid = leader.uid[:_UID_PREFIX]
    if recreation is not None and recreation.leader_uid == uid:
        # Decided and recorded, but not carried out: the evidence may be gone by now, the cause is not.
        return Recreate(evidence or Evidence(leader.name, "Vanished"), recreation, recorded=True)
    if evidence is None:
        return None
    waits = after_start or policy == "RecreateGroupAfterStart"
    if waits and not history.started and not all_have_started(group, size):
        return Hold("Starting", evidence)
    failing_since_s = now_s if history.failing_since_s is None else history.failing_since_s
    count = _in_a_row(history, recreation, failing_since_s)
    if limit is not None and count >= limit:
        return Hold("Limit", evidence, count)
    due_s = failing_since_s + delay_s(count)
    if now_s < due_s:
        return Hold("BackOff", evidence, count, due_s)
    return Recreate(evidence, Recreation(count + 1, int(now_s), uid), recorded=False)


def delay_s(count: int) -> float:
    """How long the next recreation waits after the failure, when there were `count` in a row before it."""
    return 0.0 if count < 1 else min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(count - 1, 10))


def encode_recreations(
    recreations: Recreations, now_s: float, waiting: Collection[str] = (), held: Collection[str] = ()
) -> str:
    """The annotation that records them; "" for none. Those too old to matter are left out, but for the groups
    that are held, and for those that wait for their record, which have the first places where all are too
    many."""
    kept = sorted(
        (
            (index in waiting, index in held, r.at_s, int(index), r)
            for index, r in recreations.items()
            if now_s - r.at_s < _KEPT_S or index in waiting or index in held
        ),
        key=lambda item: item[:4],
    )[-_MOST_RECORDED:]
    rows = {str(index): [r.count, r.at_s, r.leader_uid] for *_, index, r in sorted(kept, key=lambda i: i[3])}
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


def _in_a_row(history: History, recreation: Recreation | None, failing_since_s: float) -> int:
    """The recreations that this failure follows on: none after a day, or healthy minutes since the last."""
    if recreation is None or failing_since_s - recreation.at_s > _KEPT_S:
        return 0
    healthy_since_s = history.healthy_since_s
    return 0 if healthy_since_s is not None and healthy_since_s >= recreation.at_s else recreation.count
