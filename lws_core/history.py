"""What was seen of a group and can no longer be read from its objects.

A history belongs to one leader pod, by UID: a new leader starts a new one. Losing it (a restart of the
controller) loses what only it knows: a member that vanished and came back unseen, since when a group has
been unready. Evidence that stands in the objects (restart counts, finished and terminating pods) is never
taken from here.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from .evidence import find_evidence, members_of
from .observed import Group, Pod, owned_by
from .summary import GroupState, is_member
from .values import EMPTY, FrozenMap

Renewal = Literal["Leader", "Workers", "Drained"]

HEALTHY_RESET_S: Final = 600.0
CALM_S: Final = 300.0


@attrs.frozen
class History:
    """`members`: the first pod seen at each worker index, by UID. `lost`: the name of a member that vanished
    or was replaced. `settled`: restarts that are over, by the pod's UID. `started`: all members have been out
    of Pending at once. Times are epoch seconds: `ready_since_s` of the last time that the group was ready,
    kept while it is not; `healthy_since_s` of the last that lasted HEALTHY_RESET_S, kept for the next leader;
    `unready_since_s`, `failing_since_s` and `absent_since_s` are None while the group is ready, does not
    fail, has a leader. `ailing_since_s`: when the group fell, if it was not well for CALM_S on end since;
    kept for the next leader too, and forgotten only at the next fall. Both times begin anew with what lets
    the group load: a new leader, the StatefulSet of its workers, the end of workers that drained. `renewed`:
    by which of these they have since the group fell; each counts once, or what is made and goes again would
    count for ever. `joined`: that StatefulSet is there; `drains`: workers of a leader that stays end."""

    leader_uid: str = ""
    members: FrozenMap[str] = EMPTY
    lost: str = ""
    settled: FrozenMap[int] = EMPTY
    started: bool = False
    ready_since_s: float | None = None
    healthy_since_s: float | None = None
    unready_since_s: float | None = None
    failing_since_s: float | None = None
    absent_since_s: float | None = None
    ailing_since_s: float | None = None
    renewed: tuple[Renewal, ...] = ()
    joined: bool = False
    drains: bool = False


def remember(
    history: History,
    group: Group,
    state: GroupState,
    size: int | None,
    now_s: float,
    *,
    alone: bool = False,
    after_start: bool = False,
) -> History:
    """The history after one more sight of the group. Cost: the number of its pods.

    `alone`: pods of its revision may end alone; what ended is over once the group is ready again.
    `after_start`: no member counts as lost before the group has started.
    """
    leader = group.leader
    unready_since_s = None if state.ready else _first(history.unready_since_s, now_s)
    healthy_since_s = _healthy_since(history, now_s)
    ailing_since_s = _ailing_since(history, now_s)
    is_over = ailing_since_s is None and (state.ready or history.unready_since_s is None)
    renewed = () if is_over else history.renewed
    if leader is None:
        return History(
            healthy_since_s=healthy_since_s,
            ailing_since_s=ailing_since_s,
            renewed=renewed,
            unready_since_s=unready_since_s,
            absent_since_s=_first(history.absent_since_s, now_s),
        )
    was_ready = history.ready_since_s is not None and history.unready_since_s is None
    joined = group.statefulset is not None and owned_by(group.statefulset.owner, leader.uid)
    drains = not leader.terminating and any(_drains(pod, group) for pod in group.workers)
    chances: list[Renewal] = []
    if leader.uid != history.leader_uid:
        chances.append("Leader")
    else:
        if joined and not history.joined:
            chances.append("Workers")
        if history.drains and not drains and not leader.terminating:
            chances.append("Drained")
    first = [chance for chance in chances if chance not in renewed]
    if first and not state.ready and history != History():
        renewed = tuple(sorted((*renewed, *first)))
        unready_since_s = now_s
        ailing_since_s = None if ailing_since_s is None else now_s
    if leader.uid != history.leader_uid:
        was_ready = False
        history = History(leader_uid=leader.uid)
    if (alone and state.ready) or (after_start and not history.started):
        history = attrs.evolve(history, members=EMPTY, lost="")
    members, lost = history.members, history.lost
    if not leader.terminating:
        members, lost = _members(history, group, size)
    ready_since_s = history.ready_since_s
    if state.ready and (ready_since_s is None or history.unready_since_s is not None):
        ready_since_s = _ready_since(group, now_s)
    settled = history.settled
    if alone and state.ready:
        settled = FrozenMap({pod.uid: pod.restarts for pod in members_of(group, size) if pod.restarts})
    failing = find_evidence(group, size, lost, settled) is not None
    if failing or (was_ready and not state.ready and not leader.terminating):
        ailing_since_s = _first(ailing_since_s, now_s)
    after = attrs.evolve(
        history,
        members=members,
        lost=lost,
        settled=settled,
        started=history.started or all_have_started(group, size),
        ready_since_s=ready_since_s,
        healthy_since_s=healthy_since_s,
        unready_since_s=unready_since_s,
        failing_since_s=_first(history.failing_since_s, now_s) if failing else None,
        absent_since_s=None,
        ailing_since_s=ailing_since_s,
        renewed=renewed,
        joined=joined,
        drains=drains,
    )
    return attrs.evolve(after, healthy_since_s=_healthy_since(after, now_s))


def _members(history: History, group: Group, size: int | None) -> tuple[FrozenMap[str], str]:
    """The members known after this sight, and the name of one that is no longer the pod it was. Pods beyond
    the size are not members: they come and go with a StatefulSet that was scaled from outside."""
    assert group.leader is not None
    seen = {str(pod.worker_index): pod for pod in group.workers if size is None or pod.worker_index < size}
    lost = history.lost
    for index, uid in history.members.items():
        if size is not None and int(index) >= size:
            continue
        if index not in seen or seen[index].uid != uid:
            lost = lost or f"{group.leader.name}-{index}"
    if group.statefulset is None:
        return history.members, lost
    new = {
        index: pod.uid
        for index, pod in seen.items()
        if index not in history.members and is_member(pod, group.statefulset, group.leader)
    }
    return history.members | new, lost


def all_have_started(group: Group, size: int | None) -> bool:
    """Whether all members are there and out of Pending."""
    pods = members_of(group, size)
    return len(pods) == size and all(pod.phase != "Pending" for pod in pods)


def _healthy_since(history: History, now_s: float) -> float | None:
    """Since when the group has, or had, been ready for long."""
    ends = (now_s, history.unready_since_s, history.failing_since_s)
    since_s, until_s = history.ready_since_s, min(end for end in ends if end is not None)
    return (
        since_s if since_s is not None and until_s - since_s >= HEALTHY_RESET_S else history.healthy_since_s
    )


def _ailing_since(history: History, now_s: float) -> float | None:
    """Since when the group has been ailing, if it has not been well for long by now."""
    well_since_s = history.ready_since_s
    if history.unready_since_s is not None or well_since_s is None:
        return history.ailing_since_s
    return history.ailing_since_s if now_s - well_since_s < CALM_S else None


def _ready_since(group: Group, now_s: float) -> float:
    """Since when all pods of a ready group have been Ready, by their own conditions."""
    assert group.leader is not None
    times = [pod.ready_since_s for pod in (group.leader, *group.workers) if pod.ready_since_s is not None]
    return max(times, default=now_s)


def _drains(pod: Pod, group: Group) -> bool:
    """Whether a worker ends that its StatefulSet will make anew, rather than one of a leader before."""
    made_anew = group.statefulset is not None and owned_by(pod.owner, group.statefulset.uid)
    return pod.terminating and made_anew


def _first(earlier: float | None, now_s: float) -> float:
    return now_s if earlier is None else earlier
