"""How long groups that are down have been waited for, by a clock of the judge's own.

lws_core remembers it in its own way (history.py); this goes by what a controller had seen at each look alone,
and gives it every doubt.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from lws_core.memory import Memory
from lws_core.observed import Group

from .judging import has_waited, is_ready, sizes_of

_CALM_S: Final = 300.0
_LATEST_S: Final = 2.0  # that a group is to be recreated is known here from the look after


@attrs.frozen
class _Span:
    """since_s: when the group was last seen ready, was first seen down, or what lets it load came, whichever
    is the latest. ready_s: since when it has been ready; ails_s: when it first fell, if it was not ready for
    long since; renewed: what has come since."""

    since_s: float
    ready_s: float | None = None
    ails_s: float | None = None
    leader_uid: str = ""
    workers_uid: str = ""
    renewed: frozenset[Literal["Leader", "Workers"]] = frozenset()


@attrs.define
class Clock:
    """What was seen of the groups of a set, look by look."""

    _spans: dict[int, _Span] = attrs.field(factory=dict)

    def look(self, memory: Memory, now_s: float) -> None:
        """A controller looks at what it has seen, at that time (epoch seconds). Cost: all groups."""
        statefulset = memory.statefulset
        if statefulset is None:
            return
        sizes = sizes_of(memory)
        self._spans = {index: span for index, span in self._spans.items() if index < statefulset.replicas}
        for index in range(statefulset.replicas):
            group = memory.groups.get(index).group
            lasts = not (memory.deleting | memory.doomed) >> index & 1
            serves = lasts and is_ready(group, statefulset.uid, sizes)
            before = self._spans.get(index, _Span(now_s))
            self._spans[index] = _after(before, group, now_s, serves=serves)

    def was_waited_for(self, index: int, now_s: float, waits_s: float) -> bool:
        """Whether a group has been down for so long, or comes and goes and has for much longer."""
        span = self._spans.get(index, _Span(now_s))
        return has_waited(span.since_s - _LATEST_S, span.ails_s, waits_s, now_s)


def _after(before: _Span, group: Group, now_s: float, *, serves: bool) -> _Span:
    leader, workers = group.leader, group.statefulset
    leader_uid = "" if leader is None else leader.uid
    mine = workers is not None and workers.owner is not None and workers.owner.uid == leader_uid
    workers_uid = workers.uid if workers is not None and mine else ""
    span = attrs.evolve(before, leader_uid=leader_uid or before.leader_uid, workers_uid=workers_uid)
    if serves:
        return attrs.evolve(span, since_s=now_s, ready_s=now_s if before.ready_s is None else before.ready_s)
    if before.ready_s is not None:
        span = attrs.evolve(span, ready_s=None, since_s=now_s, ails_s=before.ails_s or now_s)
        if now_s - before.ready_s >= _CALM_S:
            span = attrs.evolve(span, ails_s=now_s, renewed=frozenset())
    came: set[Literal["Leader", "Workers"]] = set()
    if leader_uid and before.leader_uid not in ("", leader_uid):
        came.add("Leader")
    if workers_uid and workers_uid != before.workers_uid:
        came.add("Workers")
    if came <= span.renewed:
        return span
    return attrs.evolve(span, since_s=now_s, renewed=span.renewed | came)
