"""Status and conditions of a set, and the event that tells of a change (docs/api.md, "Status").

Conditions follow the API's conventions: a transition time moves only with the status, and a type is never
removed once it has been set.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from . import names
from .actions import Event
from .bits import span
from .observed import LeaderStatefulSet
from .spec import Condition, LeaderWorkerSet, Status
from .summary import Summary
from .times import rfc3339

_SAYINGS: Final = {
    names.AVAILABLE: (names.ALL_GROUPS_READY, "All replicas are ready"),
    names.UPDATE_IN_PROGRESS: (names.GROUPS_UPDATING, "Rolling Upgrade is in progress"),
    names.PROGRESSING: (names.GROUPS_PROGRESSING, "Replicas are progressing"),
}
_LONGEST_MESSAGE: Final = 4096  # the API allows 32768; a reader does not


@attrs.frozen
class Stall:
    """Why a set does not get on, for the condition Stalled."""

    reason: names.StallReason
    message: str


def next_status(
    lws: LeaderWorkerSet,
    summary: Summary,
    current_key: str,
    statefulset: LeaderStatefulSet | None,
    stall: Stall | None,
    now_s: float,
) -> Status:
    """The status that the set should have; equal to `lws.status` where nothing is to be written."""
    spec, generation = lws.spec, lws.metadata.generation
    updated = summary.of_key(current_key) & summary.whole
    counted = span(spec.rollout_strategy.partition, spec.replicas)
    outdated = summary.present & ~summary.of_key(current_key)
    all_ready = span(0, spec.replicas) & ~summary.ready == 0
    conditions = _Conditions(lws.status.conditions, generation, rfc3339(now_s))
    if counted & outdated:
        conditions.set_true(names.UPDATE_IN_PROGRESS)
        conditions.set_true(names.PROGRESSING)
        conditions.set_false(names.AVAILABLE)
    elif all_ready:
        conditions.set_true(names.AVAILABLE)
        conditions.set_false(names.PROGRESSING)
        conditions.set_false(names.UPDATE_IN_PROGRESS)
    else:
        conditions.set_true(names.PROGRESSING)
        conditions.set_false(names.AVAILABLE)
        conditions.set_false(names.UPDATE_IN_PROGRESS)
    conditions.stall(stall)
    return Status(
        replicas=0 if statefulset is None else statefulset.status_replicas,
        ready_replicas=summary.ready.bit_count(),
        updated_replicas=updated.bit_count(),
        hpa_pod_selector=lws.status.hpa_pod_selector or f"{names.SET_NAME}={lws.name},{names.WORKER_INDEX}=0",
        observed_generation=generation,
        conditions=conditions.result,
    )


def unreadable_status(before: Status, stall: Stall, now_s: float) -> Status:
    """The status of a set whose spec cannot be used: what was known, and the condition Stalled."""
    conditions = _Conditions(before.conditions, before.observed_generation, rfc3339(now_s))
    conditions.stall(stall)
    return attrs.evolve(before, conditions=conditions.result)


def is_urgent(before: Status, after: Status) -> bool:
    """Whether a change of status is written at once: a condition, its message alone left out, or a first
    observation of a spec."""
    earlier, later = (
        [attrs.evolve(condition, message="") for condition in status.conditions] for status in (before, after)
    )
    return earlier != later or before.observed_generation != after.observed_generation


def condition_event(lws: LeaderWorkerSet, after: Status) -> Event | None:
    """The event that tells of a change of conditions; None where only counts changed."""
    before = {condition.type: condition for condition in lws.status.conditions}
    for type_ in (names.STALLED, names.UPDATE_IN_PROGRESS, names.PROGRESSING, names.AVAILABLE):
        condition = after.condition(type_)
        if condition is None or not condition.is_true:
            continue
        earlier = before.get(type_)
        if earlier is not None and earlier.is_true and earlier.reason == condition.reason:
            continue
        counts = f"{after.ready_replicas} groups ready of total {lws.spec.replicas} groups"
        kind: Literal["Normal", "Warning"] = "Warning" if type_ == names.STALLED else "Normal"
        note = condition.message if kind == "Warning" else f"{condition.message}, with {counts}"
        return Event(kind, condition.reason, "Update", note)
    return None


class _Conditions:
    """The conditions while they are being set, in the order in which they stand in the status."""

    def __init__(self, before: tuple[Condition, ...], generation: int, now: str) -> None:
        self._now, self._generation = now, generation
        self._by_type = {
            condition.type: attrs.evolve(condition, observed_generation=generation) for condition in before
        }

    @property
    def result(self) -> tuple[Condition, ...]:
        return tuple(self._by_type.values())

    def set_true(self, type_: str) -> None:
        reason, message = _SAYINGS[type_]
        self._set(type_, "True", reason, message)

    def set_false(self, type_: str) -> None:
        """A condition that was never true is not added; the reason that it was true for stays."""
        condition = self._by_type.get(type_)
        if condition is not None:
            self._set(type_, "False", condition.reason, condition.message)

    def stall(self, stall: Stall | None) -> None:
        if stall is not None:
            self._set(names.STALLED, "True", stall.reason, stall.message[:_LONGEST_MESSAGE])
        elif names.STALLED in self._by_type:
            self._set(names.STALLED, "False", "NotStalled", "")

    def _set(self, type_: str, status: str, reason: str, message: str) -> None:
        before = self._by_type.get(type_)
        since = before.last_transition_time if before is not None and before.status == status else self._now
        self._by_type[type_] = Condition(type_, status, reason, message, self._generation, since)
