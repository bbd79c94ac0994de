"""What a controller may do to a cluster, as values.

The actions of one look are independent of each other: they may be sent in any order, or at once. What must
come after another waits for its answer and is decided in a later look. Each carries the preconditions that
make it harmless when the view it was decided on has been overtaken.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from .evidence import Evidence
from .times import rfc3339_micro
from .values import FrozenMap, Json, dig, freeze_map

Kind = Literal[
    "LeaderWorkerSet", "StatefulSet", "Service", "ControllerRevision", "Pod", "PodGroup", "Node", "Event"
]
Propagation = Literal["Background", "Foreground"]

API_VERSIONS: dict[Kind, str] = {
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "StatefulSet": "apps/v1",
    "Service": "v1",
    "ControllerRevision": "apps/v1",
    "Pod": "v1",
    "PodGroup": "scheduling.volcano.sh/v1beta1",
    "Node": "v1",
    "Event": "events.k8s.io/v1",
}


@attrs.frozen
class Ref:
    """An object by kind, namespace ("" for a node) and name."""

    kind: Kind
    namespace: str
    name: str


@attrs.frozen
class Event:
    """An event to record (events.k8s.io/v1); `regarding` is always the set. `note` is at most 1024 bytes."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str
    related: Ref | None = None
    related_uid: str = ""

    def __attrs_post_init__(self) -> None:
        if len(self.note.encode()) > _LONGEST_NOTE:
            cut = self.note.encode()[: _LONGEST_NOTE - 3].decode(errors="ignore")
            object.__setattr__(self, "note", cut + "...")


_LONGEST_NOTE = 1024


@attrs.frozen
class Create:
    """POST an object under the field manager. `why` is one line for logs."""

    manifest: FrozenMap[Json]
    why: str

    @property
    def ref(self) -> Ref:
        """The object to create."""
        return _ref(self.manifest)


@attrs.frozen
class Apply:
    """Server-side apply, forced; the uid and resourceVersion in its metadata are preconditions.
    `writes_template`: it changes the pod template of the leader StatefulSet."""

    manifest: FrozenMap[Json]
    why: str
    writes_template: bool = False

    @property
    def ref(self) -> Ref:
        """The object to change."""
        return _ref(self.manifest)


@attrs.frozen
class TakeFields:
    """Turn what the field manager wrote by POST into applied fields, so that an apply can take them back.

    A JSON patch of metadata.managedFields: `index` is the entry's place; uid and resourceVersion are tested.
    """

    ref: Ref
    uid: str
    resource_version: str
    index: int
    why: str

    @property
    def patch(self) -> tuple[FrozenMap[Json], ...]:
        """The JSON patch (RFC 6902)."""
        return tuple(
            freeze_map(operation)
            for operation in (
                {"op": "test", "path": "/metadata/uid", "value": self.uid},
                {"op": "test", "path": "/metadata/resourceVersion", "value": self.resource_version},
                {
                    "op": "replace",
                    "path": f"/metadata/managedFields/{self.index}/operation",
                    "value": "Apply",
                },
            )
        )


@attrs.frozen
class Delete:
    """DELETE with UID and resourceVersion preconditions. `evidence`: the pod whose end is answered by
    recreating its group, None where the deletion is no recreation."""

    ref: Ref
    uid: str
    resource_version: str
    propagation: Propagation
    why: str
    evidence: Evidence | None = None


@attrs.frozen
class PatchStatus:
    """Replace the set's status (a merge patch of the status subresource, preconditions as for Apply)."""

    ref: Ref
    uid: str
    resource_version: str
    status: FrozenMap[Json]
    why: str


@attrs.frozen
class Read:
    """GET the object as it is now (no cache), because the view of it is in doubt or lacks it. `uid` is that
    of the object in the view, "" for none."""

    ref: Ref
    why: str
    uid: str = ""


@attrs.frozen
class Emit:
    """Record an event. Best effort: its answer changes nothing."""

    regarding: Ref
    regarding_uid: str
    event: Event


Write: TypeAlias = Create | Apply | TakeFields | Delete | PatchStatus
Request: TypeAlias = Write | Read
"""What is answered, and remembered until then."""

Action: TypeAlias = Request | Emit


def event_manifest(emit: Emit, name: str, instance: str, now_s: float) -> FrozenMap[Json]:
    """The Event object of an Emit. `name` must be new in the namespace; `instance` names this controller."""
    event, regarding = emit.event, emit.regarding
    related = {}
    if event.related is not None:
        related = {"related": _reference(event.related, event.related_uid)}
    return freeze_map(
        {
            "apiVersion": API_VERSIONS["Event"],
            "kind": "Event",
            "metadata": {"name": name, "namespace": regarding.namespace},
            "eventTime": rfc3339_micro(now_s),
            "reportingController": "leaderworkerset",
            "reportingInstance": instance,
            "type": event.type,
            "reason": event.reason,
            "action": event.action,
            "note": event.note,
            "regarding": _reference(regarding, emit.regarding_uid),
            **related,
        }
    )


def _reference(ref: Ref, uid: str) -> dict[str, str]:
    return {
        "apiVersion": API_VERSIONS[ref.kind],
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "uid": uid,
    }


def _ref(manifest: FrozenMap[Json]) -> Ref:
    kind, namespace, name = (
        manifest["kind"],
        dig(manifest, "metadata", "namespace"),
        dig(manifest, "metadata", "name"),
    )
    assert isinstance(namespace, str)
    assert isinstance(name, str)
    return Ref(kind, namespace, name)  # type: ignore[arg-type]
