"""The operator takes over what another controller of this API left: nobody notices.

All recorded states lie in one cluster, each in a namespace of its own. They go through these stages together,
which takes a minute rather than ten, and every test judges one state, or all, at one stage:

left      as they were recorded; the StatefulSet controller has looked and found nothing to do
taken     the operator has taken its first looks
finished  the new pods have become ready, which in two states they never had
changed   every set has a new template, and has rolled out
returned  every set has its former template again, and has rolled out
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import rights
from audit import Entry
from client import JSON_PATCH, Client, Manifest, eventually
from control_plane import ControlPlane, Setup
from kubelet import Kubelet, Node
from operator_process import Operator
from recorded import STATES
from sandbox import Sandbox, is_ready, is_terminating
from stateful import stateful_set
from taking_over import load, recorded

from lws_core import names

NODES: Final = [Node(f"node-{index}", {"zone": f"z{(index + 1) % 2}"}) for index in range(8)]
"""Those that the recorded pods are bound to, with the zones that the recording of exclusive placement had."""

FIRST_WRITES: Final = {
    "mid-rollout": {
        "delete pods mid-3": "partition 2 has released it, and two of four groups may be away",
        "delete pods mid-2": "the same",
        "create statefulsets mid-3": "workers for the leader that came in its place",
        "create statefulsets mid-2": "the same",
        "patch leaderworkersets/status mid": "two groups fewer are ready",
    }
}
"""Every write of the operator's in its first looks, and why; in the other states it makes none."""

MOVING: Final = ("mid-rollout", "mid-rollout-no-surge")
QUIET_S: Final = 4.0  # longer than a status may wait to be written, and than a busy machine halts
NEW_IMAGE: Final = "img:9"
ROLL_S: Final = 180.0


@attrs.define
class Watch:
    """Follows the pods of all namespaces, and counts after each event how many groups of a set are ready."""

    client: Client
    pods: dict[tuple[str, str], Manifest] = attrs.Factory(dict)
    fewest: dict[str, int] = attrs.Factory(dict)
    sizes: dict[str, int] = attrs.Factory(dict)
    _problem: BaseException | None = None
    _ends: threading.Event = attrs.Factory(threading.Event)
    _thread: threading.Thread | None = None

    def start(self, sizes: Mapping[str, int]) -> None:
        self.sizes.update(sizes)
        listed = self.client.request("GET", "/api/v1/pods")
        for pod in listed["items"]:
            self.pods[_place(pod)] = pod
        self.forget()
        version = listed["metadata"]["resourceVersion"]
        self._thread = threading.Thread(target=self._follow, args=(version,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        assert self._thread is not None
        self._thread.join(30)

    def forget(self) -> None:
        """Count anew from now on."""
        if self._problem is not None:
            raise RuntimeError("the pods are not followed") from self._problem
        self.fewest = {namespace: self._ready_groups(namespace) for namespace in self.sizes}

    def _follow(self, version: str) -> None:
        try:
            while not self._ends.is_set():
                with suppress(OSError):  # no answer in time: it is asked again, from where it has come to
                    events = self.client.watch("/api/v1/pods", read_timeout_s=1.0, resourceVersion=version)
                    for kind, pod in events:
                        assert kind != "ERROR", pod
                        version = pod["metadata"]["resourceVersion"]
                        self._see(kind, pod)
        except BaseException as problem:  # told to the test's thread by forget
            self._problem = problem

    def _see(self, kind: str, pod: Manifest) -> None:
        place = _place(pod)
        if kind == "DELETED":
            self.pods.pop(place, None)
        else:
            self.pods[place] = pod
        if place[0] in self.sizes:
            self.fewest[place[0]] = min(self.fewest[place[0]], self._ready_groups(place[0]))

    def _ready_groups(self, namespace: str) -> int:
        groups: dict[str, list[Manifest]] = {}
        for (where, _), pod in list(self.pods.items()):
            if where == namespace and is_ready(pod):
                groups.setdefault(pod["metadata"]["labels"].get(names.GROUP_INDEX, ""), []).append(pod)
        revisions = [
            {p["metadata"]["labels"][names.REVISION_KEY] for p in group} for group in groups.values()
        ]
        sizes = [len(group) for group in groups.values()]
        whole = self.sizes[namespace]
        return sum(size == whole and len(keys) == 1 for size, keys in zip(sizes, revisions, strict=True))


def _place(pod: Manifest) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


@attrs.define
class World:
    """The cluster with all states in it; a state's namespace has its name."""

    plane: ControlPlane
    kubelet: Kubelet
    operator: Operator
    watch: Watch
    boxes: dict[str, Sandbox]
    loaded: dict[str, list[Manifest]] = attrs.Factory(dict)
    """What lay there after the load, by state."""

    def set_of(self, state: str) -> Manifest:
        (found,) = self.boxes[state].all(names.KIND)
        return found

    def wait_quiet(self, timeout_s: float = 120.0) -> None:
        """Return once nobody has written for a while."""

        def is_quiet() -> bool:
            mark = self.plane.audit.mark()
            time.sleep(QUIET_S)
            return not [one for one in self.plane.audit.writes(mark, events=True) if one.namespace in STATES]

        eventually("nobody writes", is_quiet, timeout_s)

    def wait_rolled_out(self) -> None:
        """Return once each set has ready and updated what it is to have."""
        for state, box in self.boxes.items():
            name = self.set_of(state)["metadata"]["name"]
            box.wait(f"{state} has rolled out", lambda state=state: self._has_rolled_out(state), ROLL_S)
            box.wait_condition(name, "Available", timeout_s=ROLL_S)

    def _has_rolled_out(self, state: str) -> bool:
        found = self.set_of(state)
        replicas, status = found["spec"]["replicas"], found["status"]
        held = found["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["partition"]
        return status["observedGeneration"] == found["metadata"]["generation"] and [
            status["replicas"],
            status["readyReplicas"],
            status["updatedReplicas"],
        ] == [replicas, replicas, replicas - held]

    def dry_run(self) -> list[str]:
        """What `lws operator --dry-run` prints, beside whoever runs."""
        operator = Operator(self.plane, "dry", flags=["--dry-run"], environment={"ENABLE_WEBHOOKS": "false"})
        begun = operator.log_size()
        operator.launch()
        try:
            eventually("it has listed all", lambda: "all objects listed" in operator.tail(since=begun), 120)
            time.sleep(QUIET_S)
        finally:
            assert operator.stop() == 0, operator.tail(since=begun)
        return [line for line in operator.tail(100_000, since=begun).splitlines() if " would " in line]


@attrs.frozen
class Stage:
    """What was written in a stage, and what was there at its end."""

    world: World
    writes: dict[str, list[Entry]]
    fewest: dict[str, int]
    pods: dict[str, dict[str, str]]
    images: dict[str, set[str]]

    def by(self, user: str, state: str) -> list[Entry]:
        return [one for one in self.writes[state] if one.user == user]


def stage(world: World, act: Callable[[], None]) -> Stage:
    """Do something, wait until nobody writes any more, and tell what happened."""
    world.watch.forget()
    mark = world.plane.audit.mark()
    act()
    world.wait_quiet()
    return Stage(
        world,
        {state: _writes(world, mark, state) for state in STATES},
        dict(world.watch.fewest),
        {state: uids(box) for state, box in world.boxes.items()},
        {state: images(box) for state, box in world.boxes.items()},
    )


def _writes(world: World, mark: int, state: str) -> list[Entry]:
    """The writes to a state, but for the slices, which anybody's Services get from the cluster."""
    found = world.plane.audit.writes(mark, namespace=state, events=True)
    return [one for one in found if one.resource != "endpointslices"]


def uids(box: Sandbox) -> dict[str, str]:
    return {name: pod["metadata"]["uid"] for name, pod in box.pods().items()}


def images(box: Sandbox) -> set[str]:
    return {one["image"] for pod in box.pods().values() for one in pod["spec"]["containers"]}


@pytest.fixture(scope="module")
def world(
    programs: dict[str, Path], crd: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The cluster with everything loaded, and the StatefulSet controller back."""
    with ControlPlane(tmp_path_factory.mktemp("takeover"), programs, Setup(crds=(crd,))) as plane:
        rights.grant(plane)
        client = plane.client()
        plane.stop_controllers()
        for state in STATES:
            client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": state}})
        made = World(
            plane,
            Kubelet(plane.client("kubelet"), NODES, binds=False, manual=True),
            Operator(plane),
            Watch(plane.client("scheduler")),
            {state: Sandbox(plane, state) for state in STATES},
        )
        for state in STATES:
            load(client, state, state)
            made.loaded[state] = everything(made.boxes[state])
        with made.kubelet:
            made.watch.start({state: size_of(state) for state in STATES})
            yield made
            made.operator.stop()
            made.watch.stop()


def everything(box: Sandbox) -> list[Manifest]:
    kinds = (names.KIND, "StatefulSet", "ControllerRevision", "Service", "PersistentVolumeClaim", "Pod")
    return [one for kind in kinds for one in box.all(kind)]


def size_of(state: str) -> int:
    (lws,) = (one for one in recorded(state) if one["kind"] == names.KIND)
    return int(lws["spec"]["leaderWorkerTemplate"]["size"])


@pytest.fixture(scope="module")
def left(world: World) -> Stage:
    def act() -> None:
        world.plane.start_controllers()
        world.plane.client().create(stateful_set("probe", replicas=1))

        def seen() -> bool:
            probe = world.plane.client().get("apps/v1", "StatefulSet", "default", "probe")
            return bool(probe and probe["status"].get("replicas"))

        eventually("the StatefulSet controller runs", seen, 60)

    return stage(world, act)


@pytest.fixture(scope="module")
def plans(left: Stage) -> list[str]:
    """What a dry run prints beside the other controller."""
    return left.world.dry_run()


@pytest.fixture(scope="module")
def taken(left: Stage, plans: list[str]) -> Stage:
    world = left.world

    def act() -> None:
        for configuration in world.operator.webhooks():  # first, so that no pod escapes them
            world.plane.client().apply(configuration)
        world.operator.start()

        def listed() -> bool:
            return "all objects listed" in world.operator.tail(100_000)

        eventually("the operator has listed all", listed, 120)

    return stage(world, act)


@pytest.fixture(scope="module")
def finished(taken: Stage) -> Stage:
    world = taken.world

    def act() -> None:
        world.kubelet.binds = True
        world.kubelet.release()
        world.wait_rolled_out()

    return stage(world, act)


@pytest.fixture(scope="module")
def raw(finished: Stage) -> Stage:
    """The set with quantities has them in its user's own words."""
    world = finished.world

    def act() -> None:
        template = raw_form(world.set_of("quirks")["spec"]["leaderWorkerTemplate"])
        change = {"spec": {"leaderWorkerTemplate": template}}
        stored = world.boxes["quirks"].patch(names.KIND, "quirks", change)
        assert stored["spec"]["leaderWorkerTemplate"] == template
        assert '"1000m"' in json.dumps(template)

    return stage(world, act)


def raw_form(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: raw_form(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [raw_form(inner) for inner in value]
    return {"1": "1000m", "1Gi": "1024Mi"}.get(value, value) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def changed(raw: Stage) -> Stage:
    return stage(raw.world, lambda: give_image(raw.world, NEW_IMAGE))


@pytest.fixture(scope="module")
def returned(changed: Stage) -> Stage:
    return stage(changed.world, lambda: give_image(changed.world, None))


def give_image(world: World, image: str | None) -> None:
    """Give every container of every set an image, None for the recorded one, and wait for the rollouts."""
    for state, box in world.boxes.items():
        found = world.set_of(state)
        (before,) = (one for one in world.loaded[state] if one["kind"] == names.KIND)
        change = [
            {
                "op": "replace",
                "path": f"/spec/leaderWorkerTemplate/{role}/spec/containers/0/image",
                "value": image
                or before["spec"]["leaderWorkerTemplate"][role]["spec"]["containers"][0]["image"],
            }
            for role in ("leaderTemplate", "workerTemplate")
            if role in found["spec"]["leaderWorkerTemplate"]
        ]
        box.patch(names.KIND, found["metadata"]["name"], change, JSON_PATCH)
    world.wait_rolled_out()


def told(entry: Entry) -> str:
    part = f"{entry.resource}/{entry.subresource}" if entry.subresource else entry.resource
    name = entry.name or ((entry.body or {}).get("metadata") or {}).get("name", "")
    return f"{entry.verb} {part} {name}"


# -- what must be so


@pytest.mark.parametrize("state", STATES)
def test_recorded_state_always_is_what_the_cluster_itself_leaves_alone(left: Stage, state: str) -> None:
    """Or a test below would judge the operator by what the load had broken."""
    assert [str(one) for one in left.writes[state]] == []


@pytest.mark.parametrize("state", STATES)
def test_recorded_state_always_is_loaded_whole(left: Stage, state: str) -> None:
    loaded = left.world.loaded[state]
    assert sorted((one["kind"], one["metadata"]["name"]) for one in loaded) == sorted(
        (one["kind"], one["metadata"]["name"]) for one in recorded(state)
    )
    (leaders,) = (
        one
        for one in loaded
        if one["kind"] == "StatefulSet" and one["metadata"]["ownerReferences"][0]["kind"] == names.KIND
    )
    owners = {
        (entry["manager"], entry["operation"], entry.get("subresource"))
        for entry in leaders["metadata"]["managedFields"]
    }
    assert owners == {("lws", "Apply", None), ("kube-controller-manager", "Update", "status")}


def test_dry_run_never_prints_anything_for_a_set_that_rests(plans: list[str]) -> None:
    """Beside the other controller: only the rollout that stood still for its pace is gone on with."""
    assert sorted(line.split(": would ")[1].split(":")[0] for line in plans) == [
        "delete Pod mid-2",
        "delete Pod mid-3",
    ]


@pytest.mark.parametrize("state", STATES)
def test_first_look_never_writes_what_is_not_explained(taken: Stage, state: str) -> None:
    found = [told(one) for one in taken.by("operator", state) if one.resource != "events"]
    explained = FIRST_WRITES.get(state, {})
    assert set(found) == set(explained), found
    events = [one for one in taken.by("operator", state) if one.resource == "events"]
    assert (events == []) or state in FIRST_WRITES


@pytest.mark.parametrize("state", STATES)
def test_takeover_never_makes_or_deletes_a_revision_and_never_touches_a_pod(
    taken: Stage, left: Stage, state: str
) -> None:
    revisions = [one for one in taken.writes[state] if one.resource == "controllerrevisions"]
    if state == "mid-rollout":  # StatefulSets of new workers have revisions of their own, as the former had
        replaced = {"mid-2", "mid-3", "mid-2-1", "mid-3-1"}
        assert {one.user for one in revisions} == {"controllers"}
    else:
        replaced = set()
        assert revisions == []
    kept = {name: uid for name, uid in left.pods[state].items() if name not in replaced}
    assert kept.items() <= taken.pods[state].items()


@pytest.mark.parametrize("state", MOVING)
def test_rollout_in_mid_flight_always_finishes_within_its_budget(finished: Stage, state: str) -> None:
    lws = finished.world.set_of(state)
    budget = lws["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxUnavailable"]
    assert finished.fewest[state] >= lws["spec"]["replicas"] - budget
    assert finished.images[state] == {"img:2"}
    assert lws["status"]["updatedReplicas"] == lws["spec"]["replicas"]


@pytest.mark.parametrize("state", [state for state in STATES if state not in MOVING])
def test_set_at_rest_never_is_touched_while_others_move(finished: Stage, left: Stage, state: str) -> None:
    assert finished.by("operator", state) == []
    assert finished.pods[state] == left.pods[state]


def test_quantities_in_the_user_s_own_words_never_start_a_rollout(raw: Stage, left: Stage) -> None:
    assert [told(one) for one in raw.by("operator", "quirks")] == [
        "patch leaderworkersets/status quirks"  # the generation that was observed
    ]
    assert raw.pods["quirks"] == left.pods["quirks"]


@pytest.mark.parametrize("state", STATES)
def test_new_template_always_rolls_out_within_the_budget(changed: Stage, raw: Stage, state: str) -> None:
    assert_rolled(changed, raw, state)


@pytest.mark.parametrize("state", STATES)
def test_former_template_always_comes_back_within_the_budget(
    returned: Stage, changed: Stage, state: str
) -> None:
    assert_rolled(returned, changed, state)


def assert_rolled(now: Stage, before: Stage, state: str) -> None:
    """Every group at or above the partition has other pods than before, the others have the same."""
    (lws,) = (one for one in now.world.loaded[state] if one["kind"] == names.KIND)
    rolling = lws["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    held = {
        name
        for name in before.pods[state]
        if int(name.removeprefix(f"{lws['metadata']['name']}-").split("-")[0]) < rolling["partition"]
    }
    assert now.pods[state].keys() == before.pods[state].keys()
    same = {name for name, uid in now.pods[state].items() if before.pods[state][name] == uid}
    assert same == held
    assert now.fewest[state] >= lws["spec"]["replicas"] - rolling["maxUnavailable"]


@pytest.mark.parametrize("state", [state for state in STATES if state not in MOVING])
def test_rollback_always_ends_with_the_pods_that_were_taken_over(returned: Stage, state: str) -> None:
    there = everything(returned.world.boxes[state])
    assert [plain(one) for one in there if one["kind"] == "Pod"] == [
        plain(one) for one in returned.world.loaded[state] if one["kind"] == "Pod"
    ]
    assert [one["metadata"]["name"] for one in there if is_terminating(one)] == []


def plain(pod: Manifest) -> Manifest:
    """Of a pod what its template and admission say; which domain it got is the scheduler's."""
    spec = {name: value for name, value in pod["spec"].items() if name not in ("nodeName", "nodeSelector")}
    hashed = (names.REVISION_KEY, "controller-revision-hash")
    metadata = pod["metadata"]
    labels = {name: value for name, value in metadata["labels"].items() if name not in hashed}
    told = {"name": metadata["name"], "labels": labels, "annotations": metadata.get("annotations")}
    return {**told, "spec": spec, "selects": sorted(pod["spec"].get("nodeSelector", ()))}


def test_dry_run_never_prints_anything_beside_the_operator_at_rest(returned: Stage) -> None:
    assert returned.world.dry_run() == []
