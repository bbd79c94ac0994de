"""From an object of the API to the few of its fields that decisions read (observed.py).

Objects come from an API server, so a field of the wrong type is treated as absent rather than refused:
nothing here raises. Each function reads plain or frozen dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from . import names
from .observed import (
    Child,
    LeaderStatefulSet,
    Node,
    Owner,
    Phase,
    Pod,
    Revision,
    WorkerStatefulSet,
)
from .sights import Thing
from .times import epoch_s
from .values import EMPTY, FrozenMap, Json, as_map, digest, freeze, strings

Object = Mapping[str, Any]

_PHASES: Final[dict[str, Phase]] = {phase: phase for phase in get_args(Phase)}
_MOST_GROUPS: Final = 2_000_000  # the most replicas that a set may have, and as many of surge
_UNREACHABLE: Final = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"})


def thing(obj: Object, set_name: str) -> Thing | None:
    """Any object of a set but the set itself, as what its kind and name make of it; None for no such."""
    name = _text(_at(obj, "metadata", "name"))
    match obj.get("kind"):
        case "Pod":
            return pod(obj, set_name)
        case "StatefulSet":
            return leader_statefulset(obj) if name == set_name else worker_statefulset(obj, set_name)
        case "Service" | "PodGroup":
            return child(obj, set_name)
        case "ControllerRevision":
            seen = revision(obj)
            return None if _is_of_workers(seen, set_name) else seen
        case "Node":
            return node(obj)
        case _:
            return None


def controller(obj: Object) -> Owner | None:
    """The controller owner of an object."""
    for reference in _items(_at(obj, "metadata", "ownerReferences")):
        if reference.get("controller") is True:
            return Owner(
                _text(reference.get("kind")), _text(reference.get("name")), _text(reference.get("uid"))
            )
    return None


def pod(obj: Object, set_name: str) -> Pod | None:
    """A leader or worker pod of the set; None where its name or labels do not place it there."""
    meta, spec, status = _map(obj.get("metadata")), _map(obj.get("spec")), _map(obj.get("status"))
    labels, annotations = _map(meta.get("labels")), _map(meta.get("annotations"))
    name = _text(meta.get("name"))
    place = _place(set_name, name, _text(labels.get(names.WORKER_INDEX)))
    if place is None:
        return None
    phase = status.get("phase")
    condition = next((c for c in _items(status.get("conditions")) if c.get("type") == "Ready"), EMPTY)
    ready = phase == "Running" and condition.get("status") == "True"
    return Pod(
        name=name,
        uid=_text(meta.get("uid")),
        resource_version=_text(meta.get("resourceVersion")),
        owner=controller(obj),
        group_index=place[0],
        worker_index=place[1],
        revision_key=_text(labels.get(names.REVISION_KEY)),
        native_revision=_text(labels.get(names.NATIVE_REVISION)),
        group_key=_text(labels.get(names.GROUP_KEY)),
        created_s=epoch_s(meta.get("creationTimestamp")),
        phase=_PHASES.get(_text(phase), "Pending"),
        ready=ready,
        ready_since_s=epoch_s(condition.get("lastTransitionTime")) if ready else None,
        restarts=_restarts(status),
        reason=_text(status.get("reason")),
        waiting=_waiting(status),
        deletion_s=epoch_s(meta.get("deletionTimestamp")),
        node_name=_text(spec.get("nodeName")),
        requests_tpus=_requests_tpus(spec),
        names_a_leader=names.LEADER_NAME in annotations,
        pod_group_name=_text(annotations.get(names.POD_GROUP_NAME)),
        exclusive_topology=_text(annotations.get(names.EXCLUSIVE_TOPOLOGY)),
        subgroup_exclusive_topology=_text(annotations.get(names.SUBGROUP_EXCLUSIVE_TOPOLOGY)),
        own_subdomain=annotations.get(names.SUBDOMAIN_POLICY) == "UniquePerReplica",
    )


def leader_statefulset(obj: Object) -> LeaderStatefulSet:
    """The StatefulSet of a set's leaders."""
    meta, spec, status = _map(obj.get("metadata")), _map(obj.get("spec")), _map(obj.get("status"))
    rolling = _map(_at(spec, "updateStrategy", "rollingUpdate"))
    retention = freeze(spec.get("persistentVolumeClaimRetentionPolicy"))
    claims = freeze(spec.get("volumeClaimTemplates"))
    template = as_map(freeze(spec.get("template")))
    ours = [
        entry for entry in _items(meta.get("managedFields")) if entry.get("manager") == names.FIELD_MANAGER
    ]
    return LeaderStatefulSet(
        name=_text(meta.get("name")),
        namespace=_text(meta.get("namespace")),
        uid=_text(meta.get("uid")),
        resource_version=_text(meta.get("resourceVersion")),
        generation=_count(meta.get("generation")),
        owner=controller(obj),
        terminating="deletionTimestamp" in meta,
        labels=strings(freeze(meta.get("labels"))),
        annotations=strings(freeze(meta.get("annotations"))),
        replicas=min(_count(spec.get("replicas"), 1), _MOST_GROUPS),  # no set wants more, nor as many
        partition=_count(rolling.get("partition")),
        template=template,
        template_digest=digest(template),
        claims=tuple(as_map(claim) for claim in claims) if isinstance(claims, tuple) else (),
        retention=retention if isinstance(retention, FrozenMap) else None,
        service_name=_text(spec.get("serviceName")),
        selector=strings(freeze(_at(spec, "selector", "matchLabels"))),
        max_unavailable=_count(rolling.get("maxUnavailable")) if "maxUnavailable" in rolling else None,
        owned_labels=_owned(ours, "f:labels"),
        owned_annotations=_owned(ours, "f:annotations"),
        posted_fields=_posted(meta),
        applied_template=_applied_template(ours),
        observed_generation=_count(status.get("observedGeneration")),
        status_replicas=_count(status.get("replicas")),
        ready_replicas=_count(status.get("readyReplicas")),
        current_revision=_text(status.get("currentRevision")),
        update_revision=_text(status.get("updateRevision")),
    )


def worker_statefulset(obj: Object, set_name: str) -> WorkerStatefulSet | None:
    """The StatefulSet of a group's workers; None where its name does not place it in the set."""
    meta, spec = _map(obj.get("metadata")), _map(obj.get("spec"))
    name = _text(meta.get("name"))
    parent, index = names.parent_and_ordinal(name)
    if index is None or index >= _MOST_GROUPS or parent != set_name:
        return None
    return WorkerStatefulSet(
        name=name,
        uid=_text(meta.get("uid")),
        resource_version=_text(meta.get("resourceVersion")),
        generation=_count(meta.get("generation")),
        owner=controller(obj),
        terminating="deletionTimestamp" in meta,
        group_index=index,
        revision_key=_text(_at(meta, "labels", names.REVISION_KEY)),
        replicas=_count(spec.get("replicas"), 1),
        observed_generation=_count(_at(obj, "status", "observedGeneration")),
        labelled=_is_labelled(meta),
    )


def child(obj: Object, set_name: str) -> Child | None:
    """A Service or PodGroup of the set, or one that has the name of such; None where neither its name nor,
    for a PodGroup, its label places it there: a user's own Service may carry the set's label too."""
    meta = _map(obj.get("metadata"))
    name = _text(meta.get("name"))
    is_pod_group = obj.get("kind") == "PodGroup"
    if is_pod_group:
        index = _index(_text(_at(meta, "labels", names.GROUP_INDEX)))
    else:
        parent, index = names.parent_and_ordinal(name)
        index = None if parent != set_name or index is None or index >= _MOST_GROUPS else index
    if index is None and (is_pod_group or name != set_name):
        return None
    return Child(
        kind="PodGroup" if is_pod_group else "Service",
        name=name,
        uid=_text(meta.get("uid")),
        resource_version=_text(meta.get("resourceVersion")),
        owner=controller(obj),
        terminating="deletionTimestamp" in meta,
        group_index=index,
        labelled=_is_labelled(meta),
    )


def _is_labelled(meta: Object) -> bool:
    """Whether a watch of the objects of sets shows it."""
    return names.SET_NAME in _map(meta.get("labels"))


def _is_of_workers(seen: Revision, set_name: str) -> bool:
    """Whether a revision is a worker StatefulSet's: there are as many as groups, and they tell nothing."""
    return seen.owner is not None and seen.owner.kind == "StatefulSet" and seen.owner.name != set_name


def revision(obj: Object) -> Revision:
    """A ControllerRevision; `data` is kept only for a set's own, as a StatefulSet's is never read."""
    meta = _map(obj.get("metadata"))
    owner = controller(obj)
    native = owner is not None and owner.kind == "StatefulSet"
    return Revision(
        name=_text(meta.get("name")),
        uid=_text(meta.get("uid")),
        resource_version=_text(meta.get("resourceVersion")),
        owner=owner,
        terminating="deletionTimestamp" in meta,
        key=_text(_at(meta, "labels", names.REVISION_KEY)),
        number=_count(obj.get("revision")),
        data=EMPTY if native else as_map(freeze(obj.get("data"))),
        labelled=_is_labelled(meta),
    )


def node(obj: Object) -> Node:
    """A node: its labels, and whether its kubelet can be reached."""
    conditions = _items(_at(obj, "status", "conditions"))
    unready = any(c.get("type") == "Ready" and c.get("status") != "True" for c in conditions)
    tainted = any(taint.get("key") in _UNREACHABLE for taint in _items(_at(obj, "spec", "taints")))
    return Node(
        name=_text(_at(obj, "metadata", "name")),
        labels=strings(freeze(_at(obj, "metadata", "labels"))),
        ready=not (unready or tainted),
    )


def _place(set_name: str, name: str, worker_label: str) -> tuple[int, int] | None:
    """Group and worker index of a pod of that name in that set. A leader is labelled worker 0; a leader's
    name and a worker's may look alike where one set's name begins another's."""
    parent, ordinal = names.parent_and_ordinal(name)
    if ordinal is None:
        return None
    owner, group, worker = parent, ordinal, 0
    if worker_label != "0":
        owner, found = names.parent_and_ordinal(parent)
        group, worker = _MOST_GROUPS if found is None else found, ordinal
    return (group, worker) if group < _MOST_GROUPS and owner == set_name else None


def _index(text: str) -> int | None:
    """A group index as a label has it; None where no set has such a group."""
    readable = text.isascii() and text.isdecimal() and len(text) <= 10
    return int(text) if readable and int(text) < _MOST_GROUPS else None


def _restarts(status: Object) -> int:
    statuses = (*_items(status.get("initContainerStatuses")), *_items(status.get("containerStatuses")))
    return sum(max(0, _count(container.get("restartCount"))) for container in statuses)


def _waiting(status: Object) -> str:
    """Why the pod does not run: the scheduler's word, or the first container's."""
    for condition in _items(status.get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _text(condition.get("reason"))
    for container in (*_items(status.get("initContainerStatuses")), *_items(status.get("containerStatuses"))):
        reason = _text(_at(container, "state", "waiting", "reason"))
        if reason:
            return reason
    return ""


def _requests_tpus(spec: Object) -> bool:
    containers = (*_items(spec.get("containers")), *_items(spec.get("initContainers")))
    return any(
        _at(container, "resources", kind, names.TPU_RESOURCE) not in (None, 0, "0")
        for container in containers
        for kind in ("limits", "requests")
    )


def _owned(entries: list[Object], field: str) -> tuple[str, ...]:
    keys = {
        key.removeprefix("f:")
        for entry in entries
        for key in _map(_at(entry, "fieldsV1", "f:metadata", field))
        if key != "."
    }
    return tuple(sorted(keys))


def _posted(meta: Object) -> int | None:
    for index, entry in enumerate(_items(meta.get("managedFields"))):
        ours = entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Update"
        if ours and not entry.get("subresource"):
            return index
    return None


def _applied_template(ours: list[Object]) -> FrozenMap[Json] | None:
    for entry in ours:
        if entry.get("operation") == "Apply" and not entry.get("subresource"):
            return as_map(freeze(_at(entry, "fieldsV1", "f:spec", "f:template")))
    return None


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else EMPTY


def _items(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object, default: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _at(value: object, *path: str) -> Json | Any:
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
