"""What of an object both the model and a real cluster must show, and how one state of it becomes another.

UIDs, times, resourceVersions and the hashes in names of a StatefulSet's revisions differ by nature; the rest
is told in the same words for both. A `Mark` is one thing that a write has changed. What the kubelet reports
of a pod is no mark: it is no decision, and is done to the model as it was done to the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from lws_core import names
from lws_core.values import FrozenMap, Json, as_list, as_map, dig
from lws_sim.cluster.store import Object, Store, label, name_of, namespace_of, owners, terminating, uid_of

Objects: TypeAlias = Mapping[str, Object]  # by key

WATCHED: Final = (names.KIND, "StatefulSet", "Pod", "Service", "ControllerRevision")


@attrs.frozen
class Mark:
    """One thing that a write has changed of an object: `what` of which it is, and what it has become."""

    key: str
    what: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.key} {self.what}" + ("" if self.value is None else f" {self.value}")


def marks(before: Object | None, after: Object | None, now: Objects) -> Iterator[Mark]:
    """What a write has changed; None for an object that is not there. `now`: what there is since."""
    obj = after or before
    if obj is None or obj["kind"] not in WATCHED or _is_of_one_that_goes(obj, now):
        return
    key = identity(obj)
    if after is None:
        yield Mark(key, "gone")
    elif before is None or uid_of(before) != uid_of(after):
        if before is not None:
            yield Mark(key, "gone")
        yield Mark(key, "made", _made(after))
        yield from _told(key, None, after)
    else:
        yield from _told(key, before, after)


def _is_of_one_that_goes(obj: Object, now: Objects) -> bool:
    """Whether it is a revision of a StatefulSet that is being deleted: that makes its own anew as they are
    collected, now and again."""
    owner = _controller(obj)
    if obj["kind"] != "ControllerRevision" or owner.get("kind") != "StatefulSet":
        return False
    statefulset = now.get(f"StatefulSet/{namespace_of(obj)}/{owner['name']}")
    return statefulset is None or terminating(statefulset) or uid_of(statefulset) != owner["uid"]


def _told(key: str, before: Object | None, after: Object) -> Iterator[Mark]:
    for what, value in _facets(after).items():
        old = _FRESH.get(what) if before is None else _facets(before)[what]
        if value != old and (what, value) not in _SILENT:
            yield Mark(key, what, value)


_FRESH: Final[dict[str, Any]] = {"terminating": False, "observed": False, "current": True}
_SILENT: Final = (("observed", False),)  # it comes with every change of the spec


def _facets(obj: Object) -> dict[str, Any]:
    """What may change of an object once it is there."""
    if obj["kind"] == "Service":
        return {}  # one that is deleted waits for its EndpointSlices, which are not modelled
    told: dict[str, Any] = {"terminating": terminating(obj)}
    match obj["kind"]:
        case "StatefulSet":
            told["spec"] = _spec(obj)
            told["observed"] = is_observed(obj)
            told["current"] = dig(obj, "status", "currentRevision") == dig(obj, "status", "updateRevision")
        case "ControllerRevision":
            told["number"] = obj.get("revision")
    return told


def is_observed(statefulset: Object) -> bool:
    """Whether its status tells of its newest spec."""
    return dig(statefulset, "status", "observedGeneration") == dig(statefulset, "metadata", "generation")


def _made(obj: Object) -> Any:
    match obj["kind"]:
        case "Pod":
            words = (names.REVISION_KEY, names.GROUP_INDEX, names.WORKER_INDEX)
            return tuple(label(obj, word) for word in words)
        case _:
            return None


def _spec(obj: Object) -> tuple[Any, ...]:
    rolling = as_map(dig(obj, "spec", "updateStrategy", "rollingUpdate"))
    of_template = dig(obj, "spec", "template", "metadata", "labels", names.REVISION_KEY)
    of_set = label(obj, names.REVISION_KEY)
    return (
        f"replicas {dig(obj, 'spec', 'replicas')}",
        f"partition {rolling.get('partition')}",
        f"maxUnavailable {rolling.get('maxUnavailable')}",
        f"revision {of_set}" + ("" if of_template == of_set else f" with a template of {of_template}"),
    )


def identity(obj: Object) -> str:
    """What an object is called in both; a revision by its owner and its key."""
    if obj["kind"] != "ControllerRevision":
        return f"{obj['kind']}/{name_of(obj)}"
    owner = _controller(obj)
    return f"ControllerRevision/{owner.get('kind')}/{owner.get('name')}/{label(obj, names.REVISION_KEY)}"


def _controller(obj: Object) -> FrozenMap[Json]:
    return next((ref for ref in owners(obj) if ref.get("controller") is True), FrozenMap({}))


def difference(before: Store, after: Store) -> tuple[Mark, ...]:
    """What has changed between two states of a store, deletions first."""
    if before.version == after.version:
        return ()
    old, new = dict(before.objects.items()), dict(after.objects.items())
    found = [mark for key, obj in old.items() if key not in new for mark in marks(obj, None, new)]
    for key, obj in new.items():
        was = old.get(key)
        if was is not obj:
            found += marks(was, obj, new)
    return tuple(found)


def standing(objects: Iterator[Object]) -> dict[str, Any]:
    """Where a set has come to rest: all that can be told of its objects, by what they are called."""
    return {identity(obj): _standing(obj) for obj in objects if obj["kind"] in WATCHED}


def apart(model: Mapping[str, Any], real: Mapping[str, Any]) -> str:
    """Where two standings differ, "" where they do not."""
    keys = [key for key in {**model, **real} if model.get(key) != real.get(key)]
    return "\n".join(f"{key}:\n  model {model.get(key)}\n  real  {real.get(key)}" for key in keys)


def _standing(obj: Object) -> Any:
    told = {**_facets(obj), "owners": sorted(f"{ref['kind']}/{ref['name']}" for ref in owners(obj))}
    status = as_map(obj.get("status"))
    match obj["kind"]:
        case "Pod":
            told["made"] = _made(obj)
            told |= kubelet_facets(obj)
        case "StatefulSet":
            told |= {field: status.get(field, 0) for field in _COUNTS}
        case names.KIND:
            told |= {field: status.get(field, 0) for field in _SET_COUNTS}
            conditions = [as_map(each) for each in as_list(status.get("conditions"))]
            # one that is not true may be told of or not: it depends on whether the operator once saw it true
            told["conditions"] = sorted(str(one["type"]) for one in conditions if one["status"] == "True")
    return told


_COUNTS: Final = ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas")
_SET_COUNTS: Final = ("replicas", "readyReplicas", "updatedReplicas")


def kubelet_facets(pod: Object) -> dict[str, Any]:
    """What the kubelet, or the scheduler, has made of a pod."""
    status = as_map(pod.get("status"))
    conditions = {as_map(c).get("type"): as_map(c).get("status") for c in as_list(status.get("conditions"))}
    containers = [as_map(one) for one in as_list(status.get("containerStatuses"))]
    return {
        "bound": bool(dig(pod, "spec", "nodeName")),
        "phase": status.get("phase", "Pending"),
        "ready": conditions.get("Ready") == "True",
        "restarts": sum(_count(one.get("restartCount")) for one in containers),
    }


def _count(value: Json) -> int:
    return value if isinstance(value, int) else 0
