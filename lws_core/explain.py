"""Why a set is where it is: as a value for programs, and in words for people.

The same words stand in the condition Stalled, in logs and in `lws` commands.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, Literal

import attrs

from . import names
from .actions import PatchStatus, Read
from .bits import GroupSet, indexes
from .memory import Memory, Retry
from .plan import Obstacle, Trouble
from .restart import Hold
from .rollout import Blocked, Done, Step
from .status import Stall

State = Literal["AtRest", "Progressing", "Waiting", "Stalled", "Deleting", "Unknown"]

_NAMED: Final = 5  # how many groups a sentence names before it counts the rest

_OBSTACLES: Final[dict[Obstacle, names.StallReason]] = {
    "Foreign": "ForeignObject",
    "NoAdmission": "AdmissionMissing",
    "NodeLost": "NodeLost",
    "OldKubernetes": "APIRefused",
    "BadTemplate": "InvalidSpec",
}


@attrs.frozen
class Explanation:
    """Where a set stands, why, and which groups it waits for."""

    state: State
    text: str
    groups: tuple[int, ...] = ()


def explain(memory: Memory, now_s: float) -> Explanation:
    """Where a set stands at a moment (epoch seconds), from what its controller knows."""
    lws = memory.lws
    if lws is None and memory.unreadable is None:
        return Explanation("Unknown", "the set does not exist, or has not been seen yet")
    if lws is not None and lws.metadata.terminating:
        return Explanation("Deleting", "the set is being deleted; its objects go with it")
    stall = stall_of(memory, now_s)
    if stall is not None:
        return Explanation("Stalled", f"{stall.reason}: {stall.message}")
    match memory.decision:
        case Done():
            return Explanation("AtRest", "every group is ready and up to date")
        case Step(replicas, partition):
            return Explanation("Progressing", f"going to {replicas} leaders and partition {partition}")
        case Blocked(reason=reason, groups=groups):
            return Explanation("Waiting", waits_in_words(reason, groups), tuple(indexes(groups)))
        case None if memory.statefulset is not None:
            return Explanation("Progressing", "the new revision is being recorded")
        case None:
            return Explanation("Progressing", "the leader StatefulSet is being created")


def stall_of(memory: Memory, now_s: float) -> Stall | None:
    """What the condition Stalled says: the most urgent trouble, or that nothing has moved for too long."""
    stall = _stall(memory, now_s)
    if stall is not None or not isinstance(memory.decision, Blocked) or memory.progress_at_s is None:
        return stall
    deadline_s = memory.options.progress_deadline_s
    if now_s - memory.progress_at_s < deadline_s:
        return None
    waits = waits_in_words(memory.decision.reason, memory.decision.groups)
    troubles = _words([_text(trouble) for trouble in _troubles(memory)])
    message = f"no progress for {deadline_s:g} s: {waits}" + (f" ({troubles})" if troubles else "")
    return Stall("ProgressDeadlineExceeded", message)


def waits_in_words(reason: str, groups: GroupSet) -> str:
    """What a rollout waits for, as a sentence without an end."""
    named = name_groups(groups)
    return {
        "ScalingUp": f"waiting for {named} to be created",
        "Replacing": f"waiting for {named} to be replaced",
        "Starting": f"waiting for the leaders of {named} to be created",
        "Loading": f"waiting for {named} to be ready",
        "BudgetSpent": f"the budget is spent: {named} not ready",
    }[reason]


def name_groups(groups: GroupSet) -> str:
    """ "group 3", "groups 0, 1 and 4", "groups 0, 1, 2, 3, 4 and 495 more"."""
    listed = [str(index) for index in islice(indexes(groups), _NAMED + 1)]
    if len(listed) > _NAMED:
        return f"groups {', '.join(listed[:_NAMED])} and {groups.bit_count() - _NAMED} more"
    if len(listed) == 1:
        return f"group {listed[0]}"
    return f"groups {', '.join(listed[:-1])} and {listed[-1]}" if listed else "nothing"


def _is_stuck(retry: Retry) -> bool:
    return retry.lasts and not isinstance(retry.action, Read | PatchStatus)


def _is_told(memory: Memory, retry: Retry, now_s: float) -> bool:
    """Whether a refusal is told by now: a first one waits, until it is tried again at most, for the answers
    to writes of its kind that are under way, so that the first word of it speaks of them all. What has been
    told is not taken back for that."""
    is_stalled = memory.lws is not None and memory.lws.status.is_true(names.STALLED)
    if is_stalled or retry.attempts > 1 or now_s >= retry.not_before_s:
        return True
    alike = f"{type(retry.action).__name__} {retry.action.ref.kind} "
    return not any(key.startswith(alike) for key in memory.pending)


def _stall(memory: Memory, now_s: float) -> Stall | None:
    if memory.unreadable is not None:
        return Stall("InvalidSpec", "; ".join(str(error) for error in memory.unreadable.errors))
    found: dict[names.StallReason, list[str]] = {}
    for foreign in memory.foreign:
        found.setdefault("ForeignObject", []).append(foreign.message)
    told = (
        retry
        for retry in memory.retries.values()
        if (_is_told(memory, retry, now_s) if retry.refused else _is_stuck(retry))
    )
    for retry in sorted(told, key=_place):  # they fail, and are tried, in any order
        text = f"{retry.action.ref.kind} {retry.action.ref.name}: {retry.message}"
        found.setdefault("APIRefused", []).append(text)
    for trouble in _troubles(memory):
        reason = _reason(trouble)
        if reason is not None:
            found.setdefault(reason, []).append(_text(trouble))
    for reason in names.STALL_REASONS:
        if reason in found:
            return Stall(reason, _words(found[reason]))
    return None


def _place(retry: Retry) -> tuple[str, str, int, str]:
    """Where a request stands among others: by the kind of its object, its index and its name."""
    ref = retry.action.ref
    parent, ordinal = names.parent_and_ordinal(ref.name)
    return ref.kind, parent, -1 if ordinal is None else ordinal, ref.name


def _troubles(memory: Memory) -> list[Trouble | Hold]:
    """What keeps groups, by their index."""
    return [memory.troubles[index] for index in sorted(memory.troubles, key=int)]


def _reason(trouble: Trouble | Hold) -> names.StallReason | None:
    if isinstance(trouble, Trouble):
        return _OBSTACLES.get(trouble.obstacle)
    match trouble.reason:
        case "Limit":
            return "RecreationLimit"
        case "BackOff":
            return "RecreationBackOff"
        case "Starting":
            return None


def _text(trouble: Trouble | Hold) -> str:
    if isinstance(trouble, Trouble):
        return trouble.message
    ended = f"pod {trouble.evidence.pod} {trouble.evidence.cause.lower()}"
    match trouble.reason:
        case "Limit":
            return f"{ended}; its group was recreated {trouble.count} times in a row and stays failed"
        case "BackOff":
            return (
                f"{ended}; its group was recreated {trouble.count} times in a row and waits before the next"
            )
        case "Starting":
            return f"{ended} while its group was starting"


def _words(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return "; ".join(texts[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
