"""LeaderWorkerSets for the cluster tests: made, changed, and read back as groups."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import attrs
from audit import Entry
from client import Manifest
from kubelet import Kubelet
from sandbox import Sandbox, is_ready, is_terminating

from lws_core import names

State = Literal["new", "old", "moving"]
"""A group: ready on the current revision, ready on another, or neither."""

_SET: Final = f"{names.SET_NAME}="
_LATER_S: Final = 0.6


def lws(
    name: str = "serve",
    replicas: int = 2,
    size: int = 2,
    *,
    image: str = "img:1",
    annotations: Mapping[str, str] | None = None,
    pod: Mapping[str, Any] | None = None,
    pod_annotations: Mapping[str, str] | None = None,
    template: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Manifest:
    """A set whose pods are made from one template. `pod` is laid over the pods' spec, `template` over
    leaderWorkerTemplate, `spec` over the rest; `budget` is the rolling update's configuration."""
    worker = {
        "metadata": {"annotations": dict(pod_annotations or {})},
        "spec": {"containers": [{"name": "main", "image": image}], **(pod or {})},
    }
    strategy = {"type": "RollingUpdate", "rollingUpdateConfiguration": dict(budget or {})}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {
            "replicas": replicas,
            "rolloutStrategy": strategy,
            "leaderWorkerTemplate": {"size": size, "workerTemplate": worker, **(template or {})},
            **spec,
        },
    }


def set_image(sandbox: Sandbox, name: str, image: str) -> Manifest:
    """Give the containers of the worker template another image, and of the leader template if there is one;
    everything else stays."""
    found = sandbox.must_get(names.KIND, name)
    templates = found["spec"]["leaderWorkerTemplate"]
    for template in (templates["workerTemplate"], templates.get("leaderTemplate")):
        for container in (template or {"spec": {"containers": []}})["spec"]["containers"]:
            container["image"] = image
    change = {"spec": {"leaderWorkerTemplate": templates}}
    return sandbox.patch(names.KIND, name, change)


def strategy(**budget: Any) -> Manifest:
    """A patch of the rolling update's configuration."""
    return {"spec": {"rolloutStrategy": {"rollingUpdateConfiguration": budget}}}


def uid(manifest: Manifest) -> str:
    return str(manifest["metadata"]["uid"])


def label(manifest: Manifest, key: str) -> str:
    return str(manifest["metadata"].get("labels", {}).get(key, ""))


def owner_uid(manifest: Manifest) -> str:
    """The UID of its controller; empty without one."""
    owners = manifest["metadata"].get("ownerReferences", ())
    return next((str(one["uid"]) for one in owners if one.get("controller")), "")


def environment(pod: Manifest, container: int = 0) -> list[tuple[str, str]]:
    """The variables of a pod's container, in order."""
    listed = pod["spec"]["containers"][container].get("env", ())
    return [(one["name"], one.get("value", "")) for one in listed]


def key_of(sandbox: Sandbox, name: str) -> str:
    """The current revision key, as the leader StatefulSet has it."""
    return label(sandbox.must_get("StatefulSet", name), names.REVISION_KEY)


# -- groups


@attrs.frozen
class Snapshot:
    """All pods and StatefulSets of a namespace at one moment of the API server."""

    pods: dict[str, Manifest]
    statefulsets: dict[str, Manifest]

    def leader(self, name: str, index: int) -> Manifest | None:
        return self.pods.get(f"{name}-{index}")

    def is_ready(self, name: str, index: int, size: int) -> bool:
        """The leader and all workers are ready, none is terminating, all are of the leader's revision, and
        each chains by UID to the living leader."""
        leader = self.leader(name, index)
        if leader is None or not is_ready(leader):
            return False
        if size == 1:
            return True
        workers = self.statefulsets.get(f"{name}-{index}")
        if workers is None or owner_uid(workers) != uid(leader):
            return False
        members = [self.pods.get(f"{name}-{index}-{worker}") for worker in range(1, size)]
        return all(
            pod is not None
            and is_ready(pod)
            and owner_uid(pod) == uid(workers)
            and label(pod, names.REVISION_KEY) == label(leader, names.REVISION_KEY)
            for pod in members
        )

    def state(self, name: str, index: int, size: int, key: str) -> State:
        leader = self.leader(name, index)
        if leader is None or not self.is_ready(name, index, size):
            return "moving"
        return "new" if label(leader, names.REVISION_KEY) == key else "old"


def snapshot(sandbox: Sandbox, at: int | None = None) -> Snapshot:
    """Pods and StatefulSets as they were at the same moment: now, or at a version."""
    exact = {} if at is None else {"resourceVersion": str(at), "resourceVersionMatch": "Exact"}
    pods = sandbox.client.request("GET", sandbox.path("Pod"), **exact)
    exact = {"resourceVersion": pods["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
    sets = sandbox.client.request("GET", sandbox.path("StatefulSet"), **exact)
    return Snapshot(*({one["metadata"]["name"]: one for one in each["items"]} for each in (pods, sets)))


def group_ready(sandbox: Sandbox, kubelet: Kubelet, name: str, index: int, size: int) -> None:
    """Make a group's pods ready, once all of them run on the current revision."""

    def all_run() -> bool:
        pods, key = sandbox.pods(name), key_of(sandbox, name)
        wanted = [f"{name}-{index}", *(f"{name}-{index}-{worker}" for worker in range(1, size))]
        mine = [pods[pod] for pod in wanted if pod in pods]
        fit = all(
            label(pod, names.REVISION_KEY) == key
            and not is_terminating(pod)
            and pod["status"]["phase"] == "Running"
            for pod in mine
        )
        return len(mine) == size and fit and len(kubelet.group(name, index)) == size

    sandbox.wait(f"group {index} of {name} runs on the current revision", all_run)
    kubelet.make_group_ready(name, index)


class Counter(threading.Thread):
    """Counts a set's ready groups again and again, until it is asked for the lowest count."""

    def __init__(self, sandbox: Sandbox, name: str, size: int, every_s: float = 0.05) -> None:
        super().__init__(name=f"count {name}", daemon=True)
        self._sandbox, self._set, self._size, self._every_s = sandbox, name, size, every_s
        self._stopped = threading.Event()
        self._problem: BaseException | None = None
        self.counts: list[int] = []

    def __enter__(self) -> Counter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join(30)
        if self._problem is not None:
            raise self._problem

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                begun_s = time.monotonic()
                now = snapshot(self._sandbox)
                leaders = [name for name in now.pods if re.fullmatch(rf"{self._set}-\d+", name)]
                indexes = [int(name.rsplit("-", 1)[1]) for name in leaders]
                self.counts.append(sum(now.is_ready(self._set, index, self._size) for index in indexes))
                self._stopped.wait(max(0.0, self._every_s - (time.monotonic() - begun_s)))
        except BaseException as problem:  # told to the test's thread at the end
            self._problem = problem


# -- what was done


def created(sandbox: Sandbox, since: int | None = None) -> list[str]:
    """The names of the pods that the StatefulSet controller has created, in order."""
    written = sandbox.writes("controllers", since, resources=("pods",))
    return [one.name for one in written if one.verb == "create" and one.code == 201]


def deletes(sandbox: Sandbox, since: int | None = None) -> list[Entry]:
    """What the operator has deleted."""
    return [one for one in sandbox.writes("operator", since) if one.verb == "delete" and one.code < 300]


def tries(sandbox: Sandbox, name: str, since: int | None = None) -> list[Entry]:
    """The operator's writes to objects of a name that were refused."""
    return [one for one in sandbox.writes("operator", since) if one.name == name and one.code >= 400]


def wait_event(sandbox: Sandbox, reason: str, text: str, timeout_s: float = 90.0) -> Manifest:
    """The event of a reason whose note holds a text, once there is one."""

    def seen() -> Manifest | None:
        return next((one for one in sandbox.events(reason) if text in one["message"]), None)

    found = sandbox.wait(f"an event {reason}: ... {text} ...", seen, timeout_s)
    assert found is not None
    return found


def stays(check: Callable[[], object], for_s: float = _LATER_S) -> None:
    """Assert that something is so now and for a while."""
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        assert check()
        time.sleep(0.1)


def changes(of: Sequence[Any]) -> Iterator[Any]:
    """A sequence without the repetitions of what came just before."""
    for index, one in enumerate(of):
        if index == 0 or one != of[index - 1]:
            yield one
