"""Every row of the guide, with its example, in a real cluster."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import pytest
from client import Manifest, Refused
from conftest import ROOT, StartKubelet
from kubelet import Kubelet, Node
from operator_process import Operator
from sandbox import Sandbox, conditions, is_ready
from sets import (
    created,
    deletes,
    environment,
    group_ready,
    key_of,
    label,
    lws,
    owner_uid,
    set_image,
    snapshot,
    stays,
    uid,
    wait_event,
)
from standins import POD_METRICS

from lws_core import names

EXAMPLES: Final = ROOT / "examples"
TABLE: Final = Path(__file__).parents[1] / "golden" / "guide-table.md"
NATIVE: Final = (
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)
SIGNS: Final = {"new": "✅", "old": "❎", "moving": "⏳"}
POOL: Final = "cloud.google.com/gke-nodepool"


def own_labels(manifest: Manifest) -> dict[str, str]:
    return {key: value for key, value in manifest["metadata"]["labels"].items() if key not in NATIVE}


# -- lws.yaml


def test_first_example_must_become_available_with_the_pods_that_the_contract_names(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(EXAMPLES / "lws.yaml")
    found = sandbox.wait_condition("serve", "Available", reason="AllGroupsReady")
    sandbox.wait_ready("serve", 3)

    assert conditions(found)["Available"]["message"] == "All replicas are ready"
    key, pods = key_of(sandbox, "serve"), sandbox.pods("serve")
    expected = {f"serve-{g}" for g in range(3)} | {f"serve-{g}-{w}" for g in range(3) for w in range(1, 4)}
    assert set(pods) == expected
    for group in range(3):
        leader = f"serve-{group}"
        of_group = {
            names.SET_NAME: "serve",
            names.REVISION_KEY: key,
            names.GROUP_INDEX: str(group),
            names.GROUP_KEY: names.topology_key(sandbox.name, leader),
        }
        for worker in range(4):
            pod = pods[f"{leader}-{worker}" if worker else leader]
            extra = {names.LEADER_NAME: leader} if worker else {}
            assert own_labels(pod) == {**of_group, names.WORKER_INDEX: str(worker)}
            assert pod["metadata"]["annotations"] == {names.SIZE: "4", **extra}
            assert pod["spec"]["subdomain"] == "serve"
            assert environment(pod) == [
                ("LWS_LEADER_ADDRESS", f"{leader}.serve.{sandbox.name}"),
                ("LWS_GROUP_SIZE", "4"),
                ("LWS_WORKER_INDEX", str(worker)),
            ]


def test_first_example_must_have_the_objects_that_the_contract_names(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(EXAMPLES / "lws.yaml")
    found = sandbox.wait_ready("serve", 3)
    sandbox.wait_condition("serve", "Available")

    (revision,) = [one for one in sandbox.all("ControllerRevision") if owner_uid(one) == uid(found)]
    leaders = sandbox.must_get("StatefulSet", "serve")
    service = sandbox.must_get("Service", "serve")
    key = label(revision, names.REVISION_KEY)
    assert {one["metadata"]["name"] for one in sandbox.all("StatefulSet")} == {
        "serve",
        "serve-0",
        "serve-1",
        "serve-2",
    }
    assert revision["metadata"]["name"] == f"serve-{key}-1"
    assert own_labels(leaders) == {names.SET_NAME: "serve", names.REVISION_KEY: key}
    assert leaders["metadata"]["annotations"][names.REPLICAS] == "3"
    assert owner_uid(leaders) == owner_uid(service) == uid(found)
    spec = leaders["spec"]
    assert spec["selector"] == {"matchLabels": {names.SET_NAME: "serve", names.WORKER_INDEX: "0"}}
    assert (spec["serviceName"], spec["podManagementPolicy"]) == ("serve", "Parallel")
    assert own_labels(service) == {names.SET_NAME: "serve"}
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {names.SET_NAME: "serve"}
    for group in range(3):
        workers, leader = (
            sandbox.must_get("StatefulSet", f"serve-{group}"),
            sandbox.must_get("Pod", f"serve-{group}"),
        )
        selected = {
            names.SET_NAME: "serve",
            names.GROUP_INDEX: str(group),
            names.GROUP_KEY: names.topology_key(sandbox.name, f"serve-{group}"),
        }
        assert own_labels(workers) == {**selected, names.REVISION_KEY: key}
        assert workers["spec"]["selector"] == {"matchLabels": selected}
        assert (workers["spec"]["replicas"], workers["spec"]["ordinals"]) == (3, {"start": 1})
        assert owner_uid(workers) == uid(leader)
    selector = f"{names.SET_NAME}=serve,{names.WORKER_INDEX}=0"
    status = found["status"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (3, 3, 3)
    assert status["hpaPodSelector"] == selector
    wait_event(
        sandbox, "CreatingRevision", f"Creating revision with key {key} for a newly created LeaderWorkerSet"
    )
    wait_event(sandbox, "GroupsProgressing", "Created leader statefulset serve")
    wait_event(sandbox, "AllGroupsReady", "All replicas are ready, with 3 groups ready of total 3 groups")


# -- lws-multi-template.yaml


def test_leaders_and_workers_are_always_made_from_their_own_templates(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(EXAMPLES / "lws-multi-template.yaml")
    sandbox.wait_ready("serve-two-templates", 3)

    pods = sandbox.pods("serve-two-templates")
    for pod in pods.values():
        leads = label(pod, names.WORKER_INDEX) == "0"
        (container,) = pod["spec"]["containers"]
        assert container["name"] == ("nginx" if leads else "worker")
        assert ("readinessProbe" in container) == leads
        assert label(pod, "role") == ("leader" if leads else "")
    assert len(pods) == 12


# -- lws-restart-policy.yaml


@pytest.mark.parametrize("pod", ["serve-restart-policy-1-2", "serve-restart-policy-1"])
def test_restarted_container_must_recreate_its_group_once_and_no_other(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator, pod: str
) -> None:
    sandbox.apply(EXAMPLES / "lws-restart-policy.yaml")
    sandbox.wait_ready("serve-restart-policy", 3)
    before, mark = sandbox.pods(), sandbox.plane.audit.mark()
    leader = before["serve-restart-policy-1"]

    kubelet.restart_container(pod)
    sandbox.wait(  # it is away for a moment
        "the leader is replaced",
        lambda: uid(sandbox.get("Pod", "serve-restart-policy-1") or leader) != uid(leader),
    )
    sandbox.wait_ready("serve-restart-policy", 3)
    stays(lambda: True)

    group = {"serve-restart-policy-1", *(f"serve-restart-policy-1-{worker}" for worker in (1, 2, 3))}
    (delete,) = deletes(sandbox, mark)
    assert (delete.resource, delete.name) == ("pods", "serve-restart-policy-1")
    assert delete.body["propagationPolicy"] == "Foreground"
    assert delete.body["preconditions"]["uid"] == uid(before["serve-restart-policy-1"])
    assert sorted(created(sandbox, mark)) == sorted(group)
    after = sandbox.pods()
    assert {name for name in after if uid(after[name]) != uid(before[name])} == group
    note = f"Worker pod {pod} failed, deleted leader pod serve-restart-policy-1 to recreate group 1"
    wait_event(sandbox, "RecreateGroup", note)


def test_restarted_container_never_recreates_a_group_under_policy_none(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=2, size=3, template={"restartPolicy": "None"}))
    sandbox.wait_ready("serve", 2)
    before = sandbox.pods()

    kubelet.restart_container("serve-0-1")
    kubelet.restart_container("serve-1")
    sandbox.wait_ready("serve", 2)
    stays(lambda: not deletes(sandbox))

    assert {name: uid(pod) for name, pod in sandbox.pods().items()} == {
        name: uid(pod) for name, pod in before.items()
    }


# -- lws-rollout-strategy.yaml


class Stages:
    """The rollout of the example, in the words of the guide's table. A thread of its own notes every version
    of the leader StatefulSet."""

    SET: Final = "serve-rollout"

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.versions: list[tuple[int, int, int]] = []
        found = sandbox.must_get("StatefulSet", self.SET)
        self._note(found)
        self._from = found["metadata"]["resourceVersion"]
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _note(self, found: Manifest) -> None:
        spec = found["spec"]
        partition = spec["updateStrategy"]["rollingUpdate"].get("partition", 0)
        version = (int(found["metadata"]["resourceVersion"]), partition, spec["replicas"])
        if not self.versions or self.versions[-1][1:] != version[1:]:
            self.versions.append(version)

    def _watch(self) -> None:
        where = {"fieldSelector": f"metadata.name={self.SET}", "resourceVersion": self._from}
        for kind, found in self.sandbox.client.watch(
            self.sandbox.path("StatefulSet"), read_timeout_s=60, **where
        ):
            if kind == "DELETED":
                return
            self._note(found)

    def moves(self) -> list[tuple[int, int]]:
        """Each pair of partition and replicas that was ever written, in order."""
        return [version[1:] for version in self.versions]

    def row(self, at: int | None = None) -> list[str]:
        """Partition, replicas and the state of each group, as a row of the table; now, or at a version."""
        now = snapshot(self.sandbox, at)
        leaders = now.statefulsets[self.SET]
        spec, key = leaders["spec"], label(leaders, names.REVISION_KEY)
        partition = spec["updateStrategy"]["rollingUpdate"].get("partition", 0)
        states = [SIGNS[now.state(self.SET, index, 2, key)] for index in range(spec["replicas"])]
        return [str(partition), str(spec["replicas"]), *(states + [""] * 6)[:6]]


def table() -> list[list[str]]:
    """The stages of the guide's table, without names and notes."""
    rows = [line.strip("|").split("|") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return [[cell.strip() for cell in row[1:9]] for row in rows if row[0].strip().startswith("Stage")]


def drive_stages(sandbox: Sandbox, start_kubelet: StartKubelet) -> None:
    kubelet = start_kubelet(sandbox, manual=True)
    sandbox.apply(EXAMPLES / "lws-rollout-strategy.yaml")
    for index in range(4):
        group_ready(sandbox, kubelet, Stages.SET, index, 2)
    sandbox.wait_ready(Stages.SET, 4)
    sandbox.wait_condition(Stages.SET, "Available")
    rows, stages = iter(table()), Stages(sandbox)

    def must_come_to(stage: int) -> None:
        row = next(rows)
        sandbox.wait(f"Stage {stage}, {row}", lambda: stages.row() == row)
        stays(lambda: stages.row() == row, 0.5)

    def ready(*groups: int) -> None:
        for index in groups:
            group_ready(sandbox, kubelet, Stages.SET, index, 2)

    must_come_to(1)
    set_image(sandbox, Stages.SET, "nginxinc/nginx-unprivileged:1.28")
    sandbox.wait("the partition has moved twice", lambda: len(stages.versions) >= 3)
    # Stage 2 lasts until the controller looks again: it is read as it was just before that.
    assert stages.row(stages.versions[2][0] - 1) == next(rows)
    must_come_to(3)
    ready(4)
    must_come_to(4)
    ready(5)
    must_come_to(5)
    ready(3)
    must_come_to(6)
    ready(1)
    must_come_to(7)
    kubelet.make_unready(f"{Stages.SET}-1")
    ready(0, 2)
    must_come_to(8)
    ready(1)
    must_come_to(9)

    assert next(rows, None) is None
    assert stages.moves() == [(0, 4), (4, 6), (2, 6), (0, 6), (0, 5), (0, 4)]
    assert len(created(sandbox)) == (4 + 6) * 2
    sandbox.wait_condition(Stages.SET, "Available")


def test_rollout_must_go_through_the_guides_stages(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator
) -> None:
    drive_stages(sandbox, start_kubelet)


def test_rollout_must_go_through_the_guides_stages_with_the_gate_on(
    gated_sandbox: Sandbox, start_kubelet: StartKubelet, gated_operator: Operator
) -> None:
    drive_stages(gated_sandbox, start_kubelet)


# -- horizontal-pod-autoscaler.yaml


def write_metrics(sandbox: Sandbox, leaders: str, workers: str) -> None:
    """What the pods of the set use of a processor."""
    for name, pod in sandbox.pods("serve-autoscaled").items():
        usage = {"cpu": leaders if label(pod, names.WORKER_INDEX) == "0" else workers, "memory": "1Mi"}
        metrics: dict[str, Any] = {
            "apiVersion": "metrics.k8s.io/v1beta1",
            "kind": "PodMetrics",
            "metadata": {"name": name, "labels": pod["metadata"]["labels"]},
            "timestamp": pod["status"]["startTime"],
            "window": "1s",
            "containers": [{"name": "nginx", "usage": usage}],
        }
        sandbox.apply(metrics)


def test_autoscaler_must_scale_groups_by_what_their_leaders_use(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.plane.install_crd(POD_METRICS)
    sandbox.apply(EXAMPLES / "horizontal-pod-autoscaler.yaml")
    sandbox.wait_ready("serve-autoscaled", 3)

    write_metrics(sandbox, leaders="100m", workers="1m")  # of 100m that they ask for: twice the target
    sandbox.wait_ready("serve-autoscaled", 5, timeout_s=180)
    assert len(sandbox.pods("serve-autoscaled")) == 10
    write_metrics(sandbox, leaders="10m", workers="900m")
    sandbox.wait_ready("serve-autoscaled", 3, timeout_s=180)

    sandbox.wait("the pods are gone", lambda: len(sandbox.pods("serve-autoscaled")) == 6)
    scaled = [one for one in sandbox.writes("controllers") if one.subresource == "scale"]
    assert {(one.resource, one.name) for one in scaled} == {(names.PLURAL, "serve-autoscaled")}
    replicas = sandbox.client.request("GET", sandbox.path(names.KIND, "serve-autoscaled", "scale"))
    assert (replicas["spec"], replicas["status"]["replicas"]) == ({"replicas": 3}, 3)


# -- lws-exclusive-placement.yaml


@pytest.mark.usefixtures("scheduler")
def test_groups_never_share_a_domain_and_workers_are_always_beside_their_leader(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator
) -> None:
    pools = [f"{sandbox.name}-{letter}" for letter in "abcd"]
    nodes = [Node(f"{pool}-{number}", {POOL: pool}) for pool in pools for number in (1, 2)]
    start_kubelet(sandbox, [*nodes, Node(f"{sandbox.name}-without-pool")])
    domain = {node.name: node.labels[POOL] for node in nodes}
    other = lws("other", 2, 3, annotations={names.EXCLUSIVE_TOPOLOGY: POOL})

    sandbox.apply(EXAMPLES / "lws-exclusive-placement.yaml")
    sandbox.wait_ready("serve-exclusive", 3)
    sandbox.apply(other)
    sandbox.wait(
        "the fourth pool is taken",
        lambda: [is_ready(pod) for pod in sandbox.pods("other").values()].count(True) == 3,
    )

    def waiting() -> list[Manifest]:
        return [pod for pod in sandbox.pods().values() if not pod["spec"].get("nodeName")]

    def is_one_leader() -> bool:
        return [label(pod, names.WORKER_INDEX) for pod in waiting()] == ["0"]

    sandbox.wait(
        "the other leader has no place",
        lambda: is_one_leader() and "reason" in conditions(waiting()[0]).get("PodScheduled", {}),
    )
    stays(is_one_leader, 1.0)
    (leader,) = waiting()
    assert label(leader, names.SET_NAME) == "other"
    assert conditions(leader)["PodScheduled"]["reason"] == "Unschedulable"
    taken: dict[tuple[str, str], set[str]] = {}
    for pod in sandbox.pods().values():
        if pod["spec"].get("nodeName"):
            group = (label(pod, names.SET_NAME), label(pod, names.GROUP_INDEX))
            taken.setdefault(group, set()).add(domain[pod["spec"]["nodeName"]])
    assert sorted(pool for of_group in taken.values() for pool in of_group) == pools
    assert all(len(of_group) == 1 for of_group in taken.values())
    for pod in sandbox.pods("serve-exclusive").values():
        (pool,) = taken["serve-exclusive", label(pod, names.GROUP_INDEX)]
        bound = pod["spec"].get("nodeSelector")  # the scheduler prefers the leader's pool, this demands it
        assert bound == (None if label(pod, names.WORKER_INDEX) == "0" else {POOL: pool})

    sandbox.scale(names.KIND, "serve-exclusive", 2)
    sandbox.wait_ready("other", 2)


def test_scale_subresource_always_refuses_what_the_set_does(sandbox: Sandbox, operator: Operator) -> None:
    sandbox.apply(lws(replicas=1))
    with pytest.raises(Refused, match="should be less than or equal to 1000000"):
        sandbox.scale(names.KIND, "serve", 1_000_001)
