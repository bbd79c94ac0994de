"""The simulated StatefulSet controller ends where the real one does.

Several StatefulSets, rendered as the operator renders them, live through the same random operations in the
simulation and in a real cluster. After each operation both come to rest, and everything that can be told of
them then must be equal: pods, their revisions, which of them were replaced, counts, the order of revisions.

LWS_PROFILE=long tries many more sequences.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import pytest
from client import Manifest
from conftest import StartKubelet
from kubelet import LOAD, Kubelet
from sandbox import Sandbox, conditions, is_ready, is_terminating

from lws_core.codec import decode
from lws_core.defaulting import webhook_defaults
from lws_core.options import Options
from lws_core.preview import preview
from lws_core.structural import fill_defaults
from lws_core.values import FrozenMap, Json, as_map, evolve, freeze_map, thaw
from lws_runtime.schema_data import manifest_schema
from lws_sim.cluster import api
from lws_sim.cluster import kubelet as simulated
from lws_sim.cluster.store import Object, name_of
from lws_sim.world import Timing, advance, new_world, next_timer_s, perform, tasks, write

SETS: Final = 8
STEPS: Final = 12
SEEDS: Final = range(25 if os.environ.get("LWS_PROFILE") == "long" else 1)
REST_S: Final = 15.0
MOST_TASKS: Final = 5_000
IMAGES: Final = ("img:1", "img:2", "img:3", "bad:1", "bad:2")
"""Pods of bad images never become ready by themselves."""

POLICIES: Final = ("Retain", "Delete")
RETENTIONS: Final = tuple((deleted, scaled) for deleted in POLICIES for scaled in POLICIES)
CLAIM: Final = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@attrs.frozen
class Wanted:
    """A set's fields that an operation may change; the leaders' StatefulSet, or the workers' of a group."""

    name: str
    workers: bool
    replicas: int = 3
    partition: int = 0
    max_unavailable: int = 1
    image: str = IMAGES[0]
    retention: tuple[str, str] | None = None  # of claims, when deleted and when scaled; None for no claims

    @property
    def stateful_set(self) -> str:
        return f"{self.name}-0" if self.workers else self.name

    def rendered(self, namespace: str) -> FrozenMap[Json]:
        """The StatefulSet with as many replicas as are wanted; a group has one worker less than its size."""
        annotations = {LOAD: "never"} if self.image.startswith("bad") else {}
        spec = {
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": self.image}],
        }
        template = {"metadata": {"annotations": annotations}, "spec": spec}
        claims: Manifest = {}
        if self.retention is not None:
            policy = dict(zip(("whenDeleted", "whenScaled"), self.retention, strict=True))
            claims = {"volumeClaimTemplates": [CLAIM], "persistentVolumeClaimRetentionPolicy": policy}
        budget = {"partition": self.partition, "maxUnavailable": self.max_unavailable}
        manifest = {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {
                "replicas": 1 if self.workers else self.replicas,
                "leaderWorkerTemplate": {
                    "size": self.replicas + 1 if self.workers else 1,
                    "workerTemplate": template,
                    **claims,
                },
                "rolloutStrategy": {"type": "RollingUpdate", "rollingUpdateConfiguration": budget},
            },
        }
        filled = webhook_defaults(as_map(fill_defaults(freeze_map(manifest), manifest_schema())))
        made = [one for one in preview(decode(filled), Options()) if one["kind"] == "StatefulSet"]
        return next(one for one in made if name_of(one) == self.stateful_set)


@attrs.frozen
class Do:
    """Something that happens to a pod: deleted, evicted, ready, unready."""

    what: str
    pod: str


Operation = Wanted | Do


class Model:
    """The cluster in the simulation."""

    def __init__(self, namespace: str, gate: bool) -> None:
        self.namespace = namespace
        world = new_world(gate=gate, timing=Timing(load_s=0.0, stop_s=0.1))
        self.world = evolve(world, rules=api.Rules(gate=gate, webhook=False))

    def do(self, operation: Operation) -> None:
        store, now_s = self.world.store, self.world.now_s
        if isinstance(operation, Wanted):
            manifest = operation.rendered(self.namespace)
            store, answer = api.apply(store, manifest, "lws", self.world.rules, now_s)
            assert answer.ok, answer
        else:
            pod = store.get("Pod", self.namespace, operation.pod)
            assert pod is not None
            match operation.what:
                case "delete":
                    store, _ = api.delete(store, f"Pod/{self.namespace}/{operation.pod}", now_s)
                case "evict":
                    store = simulated.fail(store, pod, "Evicted", now_s)
                case _:
                    store = simulated.set_ready(store, pod, operation.what == "ready", now_s)
        self.world = write(self.world, store)

    def settle(self) -> None:
        """Go on until nothing is left to be done, later things included."""
        for _ in range(MOST_TASKS):
            task = next(tasks(self.world), None)
            at_s = next_timer_s(self.world)
            if task is not None:
                self.world = perform(self.world, task)
            elif at_s is not None:
                self.world = advance(self.world, at_s)
            else:
                return
        raise AssertionError("the simulation does not come to rest")

    def all(self, kind: str) -> list[Manifest]:
        return [_thawed(one) for one in self.world.store.all(kind)]


class Reality:
    """The cluster itself."""

    def __init__(self, sandbox: Sandbox, kubelet: Kubelet) -> None:
        self.sandbox = sandbox
        self.kubelet = kubelet

    def do(self, operation: Operation) -> None:
        if isinstance(operation, Wanted):
            self.sandbox.apply(_thawed(operation.rendered(self.sandbox.name)), "lws")
            return
        match operation.what:
            case "delete":
                self.sandbox.delete("Pod", operation.pod)
            case "evict":
                self.kubelet.evict(operation.pod)
            case "ready":
                self.kubelet.make_ready(operation.pod)
            case _:
                self.kubelet.make_unready(operation.pod)

    def all(self, kind: str) -> list[Manifest]:
        return self.sandbox.all(kind)


def state(cluster: Model | Reality, uids: Mapping[str, str]) -> dict[str, Any]:
    """All that is to be equal, by StatefulSet, and the claims with the kinds of their owners. `uids`: of the
    pods before the operation."""
    pods = cluster.all("Pod")
    revisions = sorted(cluster.all("ControllerRevision"), key=lambda one: int(one["revision"]))
    owners = {one["metadata"]["name"]: _owner_kinds(one) for one in cluster.all("PersistentVolumeClaim")}
    return {"claims": owners} | {
        one["metadata"]["name"]: _state_of(one, _of(one, pods), _of(one, revisions), uids)
        for one in cluster.all("StatefulSet")
    }


def _owner_kinds(claim: Manifest) -> list[str]:
    dying = ["(terminating)"] if is_terminating(claim) else []
    return sorted(one["kind"] for one in claim["metadata"].get("ownerReferences") or ()) + dying


def _of(owner: Manifest, objects: list[Manifest]) -> list[Manifest]:
    return [one for one in objects if _is_of(one, owner)]


def _is_of(owned: Manifest, owner: Manifest) -> bool:
    references = owned["metadata"].get("ownerReferences") or ()
    return any(one["uid"] == owner["metadata"]["uid"] for one in references)


def _state_of(
    one: Manifest, pods: list[Manifest], revisions: list[Manifest], uids: Mapping[str, str]
) -> dict[str, Any]:
    images = {rev["metadata"]["name"]: _image(rev["data"]["spec"]["template"]["spec"]) for rev in revisions}
    status = one.get("status", {})
    counts = ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas")
    return {
        "observed": status.get("observedGeneration") == one["metadata"]["generation"],
        **{name: status.get(name, 0) for name in counts},
        "currentRevision": images.get(status.get("currentRevision", "")),
        "updateRevision": images.get(status.get("updateRevision", "")),
        "revisions": [images[rev["metadata"]["name"]] for rev in revisions],
        "pods": {pod["metadata"]["name"]: _told(pod, images, uids) for pod in pods},
    }


def _told(pod: Manifest, images: Mapping[str, str], uids: Mapping[str, str]) -> str:
    metadata = pod["metadata"]
    words = [
        images.get(metadata["labels"]["controller-revision-hash"], "?"),
        _image(pod["spec"]),
        pod["status"]["phase"],
        "ready" if conditions(pod).get("Ready", {}).get("status") == "True" else "unready",
        "same" if uids.get(metadata["name"]) == metadata["uid"] else "new",
    ]
    return " ".join([*words, *(["terminating"] if is_terminating(pod) else [])])


def _image(spec: Manifest) -> str:
    return str(spec["containers"][0]["image"])


def _uids(cluster: Model | Reality) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in cluster.all("Pod")}


def _thawed(value: Object) -> Manifest:
    plain = thaw(value)
    assert isinstance(plain, dict)
    return plain


def operations(pick: random.Random, wanted: list[Wanted], model: Model) -> Iterator[Operation]:
    """One operation for each set, the wishes kept in `wanted`."""
    for index, one in enumerate(wanted):
        pods = [pod for pod in model.all("Pod") if _belongs(pod, one)]
        kind = pick.choice(("template", "replicas", "partition", "several", "retention", "pod", "pod"))
        if kind == "pod" and pods:
            pod = pick.choice(pods)
            turned = "unready" if is_ready(pod) else "ready"
            yield Do(pick.choice(("delete", "evict", turned, turned)), pod["metadata"]["name"])
            continue
        changed: dict[str, dict[str, Any]] = {
            "template": {"image": pick.choice(IMAGES)},
            "replicas": {"replicas": pick.randint(0 if not one.workers else 1, 5)},
            "partition": {"partition": pick.randint(0, 5), "max_unavailable": pick.randint(1, 3)},
        }
        if one.retention is not None:
            changed["retention"] = {"retention": pick.choice(RETENTIONS)}
        chosen = changed.get(kind) or {k: v for change in changed.values() for k, v in change.items()}
        wanted[index] = attrs.evolve(one, **chosen)
        yield wanted[index]


def _belongs(pod: Manifest, wanted: Wanted) -> bool:
    return bool(pod["metadata"]["name"].rsplit("-", 1)[0] == wanted.stateful_set)


def live(sandbox: Sandbox, kubelet: Kubelet, *, gate: bool, seed: int) -> None:
    """Do the same to both, and compare them after each operation."""
    pick = random.Random(seed)
    model, reality = Model(sandbox.name, gate), Reality(sandbox, kubelet)
    wanted = [
        Wanted(f"set-{index}", workers=index == 0, retention=pick.choice((None, *RETENTIONS)))
        for index in range(SETS)
    ]
    told: list[str] = []
    doing: list[Operation] = list(wanted)
    for _ in range(STEPS):
        before = _uids(model), _uids(reality)
        told.append(", ".join(map(str, doing)))
        for operation in doing:
            model.do(operation)
            reality.do(operation)
        model.settle()
        expected = state(model, before[0])
        _await_equal(sandbox, reality, expected, before[1], told)
        doing = list(operations(pick, wanted, model))


def _await_equal(
    sandbox: Sandbox, reality: Reality, expected: Mapping[str, Any], uids: Mapping[str, str], told: list[str]
) -> None:
    seen: dict[str, Any] = {}
    equal_in_a_row = 0

    def is_equal() -> bool:
        nonlocal equal_in_a_row
        seen.update(state(reality, uids))
        equal_in_a_row = equal_in_a_row + 1 if seen == expected else 0
        return equal_in_a_row == 2  # it is at rest, and does not just pass by

    try:
        sandbox.wait("both are equal", is_equal, REST_S)
    except AssertionError:
        differing = [name for name in expected if seen.get(name) != expected[name]]
        lines = [f"{name}:\n  simulated {expected[name]}\n  real      {seen.get(name)}" for name in differing]
        raise AssertionError("\n".join([*lines, "after:", *told])) from None


@pytest.mark.usefixtures("no_operator")
@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_stateful_sets_always_rest_where_real_ones_do(
    sandbox: Sandbox, start_kubelet: StartKubelet, seed: int
) -> None:
    live(sandbox, start_kubelet(sandbox), gate=False, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_stateful_sets_always_rest_where_real_ones_do_with_the_gate_on(
    gated_sandbox: Sandbox, start_kubelet: StartKubelet, seed: int
) -> None:
    live(gated_sandbox, start_kubelet(gated_sandbox), gate=True, seed=seed)
