"""Where each kind of object is found under an API server's root, and whether an answer shows it."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

import attrs

from lws_core.actions import Kind, Ref


@attrs.frozen
class Resource:
    """A kind's place: the path of its group and version, its plural, and whether it lives in namespaces."""

    kind: Kind
    root: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of a collection, of an object, or of a subresource; of all namespaces for ""."""
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{self.root}{inside}/{self.plural}{tail}"


RESOURCES: Final[dict[Kind, Resource]] = {
    resource.kind: resource
    for resource in (
        Resource("LeaderWorkerSet", "/apis/leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
        Resource("StatefulSet", "/apis/apps/v1", "statefulsets"),
        Resource("ControllerRevision", "/apis/apps/v1", "controllerrevisions"),
        Resource("Service", "/api/v1", "services"),
        Resource("Pod", "/api/v1", "pods"),
        Resource("PodGroup", "/apis/scheduling.volcano.sh/v1beta1", "podgroups"),
        Resource("Node", "/api/v1", "nodes", namespaced=False),
        Resource("Event", "/apis/events.k8s.io/v1", "events"),
    )
}


def path_of(ref: Ref, subresource: str = "") -> str:
    """The path of an object."""
    return RESOURCES[ref.kind].path(ref.namespace, ref.name, subresource)


def is_object(body: Any, kind: str) -> TypeGuard[dict[str, Any]]:
    """Whether the body of an answer is an object of a kind, as an API server stores it: a page of a gateway
    may have status 200 and be a JSON object too."""
    if not isinstance(body, dict) or body.get("kind") != kind:
        return False
    metadata = body.get("metadata")
    return isinstance(metadata, dict) and all(
        isinstance(metadata.get(field), str) for field in ("name", "resourceVersion")
    )


def shown_in(body: Any, kind: str, name: str) -> dict[str, Any] | None:
    """The body of an answer, if it is this object; else None."""
    if not is_object(body, kind):
        return None
    metadata = body["metadata"]
    return body if metadata["name"] == name and metadata["resourceVersion"] else None
