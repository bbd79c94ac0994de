"""A namespace for one test: objects in it, waiting for them, and a text that says what is there when waiting
was in vain."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from audit import Entry
from client import MERGE, Client, Manifest, Refused
from control_plane import ControlPlane

from lws_core import names

T = TypeVar("T")

_VERSIONS: Final = {
    names.KIND: names.API_VERSION,
    "StatefulSet": "apps/v1",
    "ControllerRevision": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "EndpointSlice": "discovery.k8s.io/v1",
    "PodGroup": "scheduling.volcano.sh/v1beta1",
    "PodMetrics": "metrics.k8s.io/v1beta1",
    "Lease": "coordination.k8s.io/v1",
}
"""The API version of a kind; v1 for the others."""


class Sandbox:
    """A namespace, seen as admin. Kinds are named alone: `StatefulSet`, `Pod`, `LeaderWorkerSet`."""

    def __init__(self, plane: ControlPlane, name: str) -> None:
        self.plane = plane
        self.name = name
        self.client: Client = plane.client()
        self._mark = plane.audit.mark()

    # -- objects

    def create(self, manifest: Manifest | str | Path) -> Manifest:
        """Create the object, or each of a text's or file's, and return the last."""
        return [self.client.create(one) for one in self.manifests(manifest)][-1]

    def apply(self, manifest: Manifest | str | Path, manager: str = "test") -> Manifest:
        """Apply the object, or each of a text's or file's, and return the last."""
        return [self.client.apply(one, manager) for one in self.manifests(manifest)][-1]

    def manifests(self, source: Manifest | str | Path) -> list[Manifest]:
        """What a manifest, a YAML text or a file holds, placed in this namespace."""
        if isinstance(source, dict):
            documents = [source]
        else:
            text = source.read_text() if isinstance(source, Path) else source
            documents = [one for one in yaml.safe_load_all(text) if one is not None]
        return [{**one, "metadata": {**one["metadata"], "namespace": self.name}} for one in documents]

    def get(self, kind: str, name: str) -> Manifest | None:
        """The object, None where there is none."""
        return self.client.get(_VERSIONS.get(kind, "v1"), kind, self.name, name)

    def must_get(self, kind: str, name: str) -> Manifest:
        """The object; raises AssertionError where there is none."""
        found = self.get(kind, name)
        assert found is not None, f"there is no {kind} {name}\n{self.describe()}"
        return found

    def all(self, kind: str, selector: str = "") -> list[Manifest]:
        """The objects of a kind, by name."""
        found = self.client.all(_VERSIONS.get(kind, "v1"), kind, self.name, selector)
        return sorted(found, key=lambda one: str(one["metadata"]["name"]))

    def patch(
        self, kind: str, name: str, change: object, content_type: str = MERGE, part: str = ""
    ) -> Manifest:
        """Patch the object, or a part of it such as its status."""
        return self.client.patch(self.path(kind, name, part), change, content_type)

    def path(self, kind: str, name: str = "", part: str = "") -> str:
        """Where it is served."""
        return self.client.path(_VERSIONS.get(kind, "v1"), kind, self.name, name, part)

    def scale(self, kind: str, name: str, replicas: int) -> None:
        """Set its replicas through the scale subresource."""
        self.client.scale(_VERSIONS[kind], kind, self.name, name, replicas)

    def delete(
        self, kind: str, name: str, *, propagation: str = "Background", grace_s: int | None = None
    ) -> None:
        """Delete it; it may be gone already."""
        version = _VERSIONS.get(kind, "v1")
        self.client.delete(version, kind, self.name, name, propagation=propagation, grace_s=grace_s)

    def pods(self, lws: str = "") -> dict[str, Manifest]:
        """The pods by name, of one set if it is named."""
        selector = f"{names.SET_NAME}={lws}" if lws else ""
        return {one["metadata"]["name"]: one for one in self.all("Pod", selector)}

    def events(self, reason: str = "") -> list[Manifest]:
        """The events, the oldest first, of one reason if it is named."""
        found = [one for one in self.all("Event") if reason in ("", one.get("reason"))]
        return sorted(found, key=_event_time)

    def writes(self, user: str | None = None, since: int | None = None, **which: Any) -> list[Entry]:
        """The writes in this namespace from the test's beginning or from a mark of the audit log on."""
        mark = self._mark if since is None else since
        return self.plane.audit.writes(mark, user=user, namespace=self.name, **which)

    # -- waiting

    def wait(self, what: str, done: Callable[[], T], timeout_s: float = 90.0, every_s: float = 0.1) -> T:
        """What `done` returns once that is true. Raises AssertionError with all that is there if it is not
        in time, which is longer than a busy machine takes. What the connection breaks, and a refusal, count
        as not yet."""
        deadline = time.monotonic() + timeout_s
        last: object = None
        while True:
            try:
                result = done()
                if result:
                    return result
                last = result
            except (OSError, http.client.HTTPException, Refused) as problem:
                last = problem
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout_s:g} s, last: {last!r}\n{self.describe()}")
            time.sleep(every_s)

    def wait_gone(self, kind: str, name: str, timeout_s: float = 90.0) -> None:
        """Return once there is no such object."""
        self.wait(f"{kind} {name} is gone", lambda: self.get(kind, name) is None, timeout_s)

    def wait_condition(
        self,
        name: str,
        condition: str,
        status: str = "True",
        reason: str = "",
        *,
        kind: str = names.KIND,
        timeout_s: float = 90.0,
    ) -> Manifest:
        """The object once it has the condition, told of its newest generation where it tells of one."""

        def seen() -> Manifest | None:
            found = self.get(kind, name)
            if found is None or not _is_observed(found):
                return None
            wanted = conditions(found).get(condition, {})
            fits = wanted.get("status") == status and reason in ("", wanted.get("reason"))
            return found if fits else None

        said = f"{kind} {name}: {condition} {status} {reason}".rstrip()
        found = self.wait(said, seen, timeout_s)
        assert found is not None
        return found

    def wait_ready(self, lws: str, groups: int, *, timeout_s: float = 120.0) -> Manifest:
        """The set once all its groups, and so many, are ready and updated: by its status, and by the pods, as
        the status tells of the past for up to a second."""

        def seen() -> Manifest | None:
            found = self.get(names.KIND, lws)
            if found is None or not _is_observed(found):
                return None
            counts = [
                found.get("status", {}).get(f, 0) for f in ("replicas", "readyReplicas", "updatedReplicas")
            ]
            is_so = counts == [groups] * 3 and self._are_whole(found, groups)
            return found if is_so else None

        found = self.wait(f"{lws} has {groups} ready groups", seen, timeout_s)
        assert found is not None
        return found

    def _are_whole(self, lws: Manifest, groups: int) -> bool:
        """Whether the pods of the first groups are ready, and the workers of each the living leader's."""
        name, size = lws["metadata"]["name"], lws["spec"]["leaderWorkerTemplate"]["size"]
        pods, workers = self.pods(name), {_name(one): one for one in self.all("StatefulSet")}
        for leader in (f"{name}-{index}" for index in range(groups)):
            members = [leader, *(f"{leader}-{worker}" for worker in range(1, size))]
            if not all(member in pods and is_ready(pods[member]) for member in members):
                return False
            if size > 1 and not _is_of(workers.get(leader), pods[leader]):
                return False
            if not all(_is_of(pods[member], workers[leader]) for member in members[1:]):
                return False
        return True

    def wait_quiet(self, for_s: float = 1.5, timeout_s: float = 60.0) -> None:
        """Return once nobody has written anything here for a while, longer than a status may wait: what was
        decided before is done and logged."""

        def is_quiet() -> bool:
            mark = self.plane.audit.mark()
            time.sleep(for_s)
            return not self.writes(since=mark, events=True)

        self.wait("it is quiet", is_quiet, timeout_s)

    # -- telling

    def describe(self, events: int = 25) -> str:
        """What is there now, and the newest events."""
        lines = [f"namespace {self.name}:"]
        for kind in (
            names.KIND,
            "StatefulSet",
            "Pod",
            "Service",
            "ControllerRevision",
            "PersistentVolumeClaim",
        ):
            try:
                lines += [f"  {kind} {text}" for one in self.all(kind) for text in _told(one)]
            except (OSError, http.client.HTTPException, Refused, KeyError) as problem:
                lines.append(f"  {kind}: {problem}")
        try:
            newest = self.events()[-events:]
        except (OSError, http.client.HTTPException, Refused) as problem:
            return "\n".join([*lines, f"  events: {problem}"])
        lines += [
            f"  event {_event_time(one)} {one.get('type')} {one.get('reason')} {_about(one)}: "
            f"{one.get('message') or one.get('note')}"
            for one in newest
        ]
        return "\n".join(lines)

    def clear(self) -> None:
        """Delete the namespace and all that is in it; the pods at once, as no kubelet will end them."""
        self.client.delete("v1", "Namespace", None, self.name)
        options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        for _ in range(5):
            self.client.request("DELETE", self.path("Pod"), options)
            if not self.all("Pod"):
                return
            time.sleep(0.1)


def conditions(manifest: Manifest) -> dict[str, Manifest]:
    """An object's conditions by type."""
    return {one["type"]: one for one in manifest.get("status", {}).get("conditions") or ()}


def is_ready(pod: Manifest) -> bool:
    """A pod's Ready condition is true, and it is not being deleted."""
    return conditions(pod).get("Ready", {}).get("status") == "True" and not is_terminating(pod)


def is_terminating(manifest: Manifest) -> bool:
    """It has been deleted and is still there."""
    return "deletionTimestamp" in manifest["metadata"]


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _is_of(manifest: Manifest | None, owner: Manifest) -> bool:
    references = (manifest or {"metadata": {}})["metadata"].get("ownerReferences", ())
    return any(one["uid"] == owner["metadata"]["uid"] for one in references)


def _is_observed(manifest: Manifest) -> bool:
    observed = manifest.get("status", {}).get("observedGeneration")
    return observed is None or observed == manifest["metadata"].get("generation")


def _told(one: Manifest) -> Iterator[str]:
    metadata, spec, status = one["metadata"], one.get("spec", {}), one.get("status", {})
    head = metadata["name"] + (" (terminating)" if is_terminating(one) else "")
    match one["kind"]:
        case "Pod":
            restarts = sum(each["restartCount"] for each in status.get("containerStatuses", ()))
            yield (
                f"{head} {status.get('phase')}{' ready' if is_ready(one) else ''} on {spec.get('nodeName')}, "
                f"{restarts} restarts, revision {metadata.get('labels', {}).get(names.REVISION_KEY)}"
            )
        case "StatefulSet":
            counts = {name: value for name, value in status.items() if isinstance(value, int)}
            yield f"{head} replicas {spec.get('replicas')}, {spec.get('updateStrategy')}, {counts}"
        case names.KIND:
            counts = {name: value for name, value in status.items() if isinstance(value, int)}
            yield f"{head} replicas {spec.get('replicas')}, generation {metadata['generation']}, {counts}"
            for each in conditions(one).values():
                yield f"  {each['type']}={each['status']} {each.get('reason')}: {each.get('message')}"
        case _:
            yield head


def _event_time(event: Manifest) -> str:
    return str(event.get("eventTime") or event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])


def _about(event: Manifest) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    return f"{about.get('kind')}/{about.get('name')}"
