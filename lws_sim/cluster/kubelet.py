"""What happens to a pod on a node: it starts, becomes ready, restarts, fails, and ends."""

from __future__ import annotations

from typing import Final

from lws_core.times import rfc3339
from lws_core.values import FrozenMap, Json, as_list, as_map, as_maps, freeze_map

from . import api
from .store import Object, Store, meta, terminating, with_status

READY: Final = "Ready"
FINISHED: Final = ("Succeeded", "Failed")


def start(store: Store, pod: Object, node: str, now_s: float) -> Store:
    """It was placed on a node and its containers run; they are not ready yet."""
    statuses = tuple(
        freeze_map({"name": str(as_map(c).get("name")), "restartCount": 0, "ready": False})
        for c in as_list(as_map(pod["spec"]).get("containers"))
    )
    after = with_status(
        pod.with_("spec", as_map(pod["spec"]).with_("nodeName", node)),
        phase="Running",
        startTime=rfc3339(now_s),
        containerStatuses=statuses,
        conditions=_conditions(pod, False, now_s),
    )
    return store.replace(pod, after)[0]


def leave_pending(store: Store, pod: Object) -> Store:
    """There is no node for it."""
    waiting = freeze_map({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"})
    conditions = as_maps(as_map(pod.get("status")).get("conditions"))
    others = tuple(c for c in conditions if c.get("type") != "PodScheduled")
    return store.replace(pod, with_status(pod, conditions=(*others, waiting)))[0]


def set_ready(store: Store, pod: Object, ready: bool, now_s: float) -> Store:
    """Its readiness probe has changed its mind."""
    statuses = tuple(
        as_map(status).with_("ready", ready)
        for status in as_list(as_map(pod.get("status")).get("containerStatuses"))
    )
    after = with_status(pod, conditions=_conditions(pod, ready, now_s), containerStatuses=statuses)
    return store.replace(pod, after)[0]


def restart_container(store: Store, pod: Object, now_s: float) -> Store:
    """Its first container has ended and was started again: it is not ready for a while."""
    statuses = [as_map(status) for status in as_list(as_map(pod.get("status")).get("containerStatuses"))]
    if statuses:
        count = statuses[0].get("restartCount")
        again: Json = (count if isinstance(count, int) else 0) + 1
        statuses[0] = statuses[0] | {"restartCount": again, "ready": False}
    after = with_status(pod, containerStatuses=tuple(statuses), conditions=_conditions(pod, False, now_s))
    return store.replace(pod, after)[0]


def wait_for(store: Store, pod: Object, reason: str, now_s: float) -> Store:
    """Its containers cannot start, for a reason such as ImagePullBackOff."""
    statuses = tuple(
        as_map(status) | freeze_map({"ready": False, "state": {"waiting": {"reason": reason}}})
        for status in as_list(as_map(pod.get("status")).get("containerStatuses"))
    )
    after = with_status(pod, containerStatuses=statuses, conditions=_conditions(pod, False, now_s))
    return store.replace(pod, after)[0]


def fail(store: Store, pod: Object, reason: str, now_s: float) -> Store:
    """It has ended for good: evicted, or out of restarts."""
    after = with_status(pod, phase="Failed", reason=reason, conditions=_conditions(pod, False, now_s))
    return store.replace(pod, after)[0]


def end(store: Store, pod: Object, now_s: float) -> Store:
    """Its containers have stopped after its deletion was asked for. An object that is kept shows that."""
    if not terminating(pod):
        return store
    phase = as_map(pod.get("status")).get("phase")
    if as_list(meta(pod).get("finalizers")) and phase not in FINISHED:
        store, pod = store.replace(
            pod, with_status(pod, phase="Succeeded", conditions=_conditions(pod, False, now_s))
        )
    return api.finish_pod(store, pod, now_s)


def _conditions(pod: Object, ready: bool, now_s: float) -> tuple[FrozenMap[Json], ...]:
    """Its conditions; the transition time of Ready moves only when Ready does."""
    status = "True" if ready else "False"
    others = []
    since = rfc3339(now_s)
    for condition in as_list(as_map(pod.get("status")).get("conditions")):
        known = as_map(condition)
        if known.get("type") not in (READY, "PodScheduled"):
            others.append(known)
        elif known.get("type") == READY and known.get("status") == status:
            since = str(known.get("lastTransitionTime"))
    return (*others, FrozenMap({"type": READY, "status": status, "lastTransitionTime": since}))
