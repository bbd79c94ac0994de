"""The control plane and the kubelet that the other tests rely on do what real ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from client import STRATEGIC, Manifest, Refused
from conftest import StartKubelet
from control_plane import ControlPlane
from kubelet import STOP, Kubelet, Node
from sandbox import Sandbox, conditions, is_ready, is_terminating
from stateful import images, stateful_set, wait_ready

IMAGE_2 = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}}}


def test_control_plane_must_be_ready_within_half_a_minute(cluster: ControlPlane) -> None:
    assert 0 < cluster.started_in_s < 30


def test_stateful_set_always_rolls_out_from_the_top_one_at_a_time(sandbox: Sandbox, kubelet: Kubelet) -> None:
    sandbox.create(stateful_set())
    wait_ready(sandbox, "web", 3)
    kubelet.hold(lambda pod: pod["spec"]["containers"][0]["image"] == "img:2")

    sandbox.patch("StatefulSet", "web", IMAGE_2, STRATEGIC)
    sandbox.wait("the top one is replaced", lambda: "web-2" not in images(sandbox))
    time.sleep(0.5)

    assert images(sandbox) == {"web-0": "img:1", "web-1": "img:1"}
    kubelet.release()
    wait_ready(sandbox, "web", 3, "img:2")


def test_max_unavailable_is_dropped_with_the_gate_off(sandbox: Sandbox) -> None:
    created = sandbox.create(stateful_set(max_unavailable=2))

    assert created["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0}


def test_max_unavailable_must_be_kept_and_heeded_with_the_gate_on(
    gated_sandbox: Sandbox, gated_kubelet: Kubelet
) -> None:
    created = gated_sandbox.create(stateful_set(max_unavailable=2))
    wait_ready(gated_sandbox, "web", 3)
    gated_kubelet.hold(lambda pod: pod["spec"]["containers"][0]["image"] == "img:2")

    gated_sandbox.patch("StatefulSet", "web", IMAGE_2, STRATEGIC)
    gated_sandbox.wait("two are replaced", lambda: set(images(gated_sandbox)) == {"web-0"})

    assert created["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0, "maxUnavailable": 2}


def test_audit_log_always_tells_who_wrote_what(sandbox: Sandbox, kubelet: Kubelet) -> None:
    sandbox.create(stateful_set(replicas=1))
    wait_ready(sandbox, "web", 1)

    wanted = {
        ("admin", "create", "statefulsets", "", "web"),
        ("controllers", "create", "pods", "", "web-0"),
        ("kubelet", "create", "pods", "binding", "web-0"),
        ("kubelet", "patch", "pods", "status", "web-0"),
    }

    def written() -> set[tuple[str, ...]]:
        return {(one.user, one.verb, one.resource, one.subresource, one.name) for one in sandbox.writes()}

    sandbox.wait("all is logged", lambda: wanted <= written())  # what can be seen may be logged a bit later
    assert not sandbox.writes("operator")


def test_audit_log_never_counts_a_dry_run(sandbox: Sandbox) -> None:
    manifest = sandbox.manifests(stateful_set())[0]
    sandbox.client.create(manifest, dryRun="All")

    assert not sandbox.writes("admin")


def test_user_without_rights_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(Refused, match="forbidden") as refused:
        sandbox.plane.client("nobody").all("v1", "Pod", sandbox.name)

    assert refused.value.code == 403


def test_kubeconfig_must_let_kubectl_in(sandbox: Sandbox, programs: dict[str, Path]) -> None:
    kubeconfig = sandbox.plane.kubeconfig()
    command = [str(programs["kubectl"]), f"--kubeconfig={kubeconfig}", "get", "leaderworkersets", "-A"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_restarted_api_server_always_answers_old_versions_with_410(
    sandbox: Sandbox, kubelet: Kubelet
) -> None:
    sandbox.create(stateful_set(replicas=2))
    wait_ready(sandbox, "web", 2)
    listed = sandbox.client.request("GET", sandbox.path("Pod"), limit="1")
    old = listed["metadata"]["resourceVersion"]

    sandbox.patch("StatefulSet", "web", {"metadata": {"labels": {"more": "versions"}}})
    sandbox.plane.compact()
    sandbox.plane.restart_api_server()
    assert _code_of_next_page(sandbox, listed) == 410
    (event,) = sandbox.wait("a watch is answered", lambda: _first_events(sandbox, old))
    assert (event[0], event[1]["code"]) == ("ERROR", 410)

    sandbox.scale("StatefulSet", "web", 3)
    wait_ready(sandbox, "web", 3)


def _code_of_next_page(sandbox: Sandbox, listed: Manifest) -> int:
    """The code that the rest of a list is answered with, once the API server has filled its caches."""

    def asked() -> int:
        try:
            sandbox.client.request("GET", sandbox.path("Pod"), **{"continue": listed["metadata"]["continue"]})
        except Refused as refused:
            return 0 if refused.code == 429 else refused.code
        return 200

    return sandbox.wait("the list is answered", asked)


def _first_events(sandbox: Sandbox, version: str) -> list[tuple[str, Any]]:
    """What a watch from a version on begins with."""
    events = sandbox.client.watch(sandbox.path("Pod"), read_timeout_s=5, resourceVersion=version)
    return list(islice(events, 1))


def test_headless_service_always_lists_unready_pods_that_it_publishes(
    sandbox: Sandbox, start_kubelet: StartKubelet
) -> None:
    start_kubelet(sandbox, manual=True)
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"app": "web"}}
    sandbox.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service})
    sandbox.create(stateful_set(replicas=2))

    def hostnames() -> set[str]:
        endpoints = [one for part in sandbox.all("EndpointSlice") for one in part.get("endpoints") or ()]
        return {one.get("hostname", "") for one in endpoints}

    sandbox.wait("both hostnames are listed", lambda: hostnames() == {"web-0", "web-1"})


# -- the kubelet


def test_pod_never_becomes_ready_in_manual_mode_until_told(
    sandbox: Sandbox, start_kubelet: StartKubelet
) -> None:
    kubelet = start_kubelet(sandbox, manual=True)
    sandbox.create(stateful_set(replicas=2))
    sandbox.wait("both run", lambda: _phases(sandbox) == ["Running", "Running"])

    kubelet.make_ready("web-1")
    assert set(images(sandbox)) == {"web-1"}
    kubelet.make_unready("web-1")
    assert not images(sandbox)
    kubelet.release()
    wait_ready(sandbox, "web", 2)


def test_pod_must_load_as_long_as_its_annotation_says(sandbox: Sandbox, kubelet: Kubelet) -> None:
    slow = {"simulation.lws.x-k8s.io/load": "1.5"}
    sandbox.create(stateful_set(replicas=1, annotations=slow))
    wait_ready(sandbox, "web", 1)

    def reported_s() -> list[float]:
        told = sandbox.writes("kubelet", resources=("pods",))
        return [one.at_s for one in told if one.subresource == "status"]

    sandbox.wait("both reports are logged", lambda: len(reported_s()) == 2)
    runs_s, ready_s = reported_s()
    assert 1.5 <= ready_s - runs_s < 10.0


def test_pod_always_stays_ready_until_its_grace_period_is_over(
    sandbox: Sandbox, start_kubelet: StartKubelet
) -> None:
    start_kubelet(sandbox, stop_s=None)
    sandbox.create(stateful_set(replicas=1, terminationGracePeriodSeconds=3))
    wait_ready(sandbox, "web", 1)
    uid = sandbox.must_get("Pod", "web-0")["metadata"]["uid"]
    lingering = []

    begun = time.monotonic()
    sandbox.delete("Pod", "web-0")
    while (pod := sandbox.get("Pod", "web-0")) is not None and pod["metadata"]["uid"] == uid:
        lingering.append(pod)
        assert time.monotonic() - begun < 30
        time.sleep(0.1)

    assert time.monotonic() - begun >= 3
    assert lingering
    assert all(is_terminating(pod) for pod in lingering)
    assert all(conditions(pod)["Ready"]["status"] == "True" for pod in lingering)
    wait_ready(sandbox, "web", 1)


@pytest.mark.parametrize("asked", ["annotation", "hook"])
def test_pod_always_stops_when_its_hook_has_ended(sandbox: Sandbox, kubelet: Kubelet, asked: str) -> None:
    sleeping = {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}} if asked == "hook" else {}
    container = {"name": "main", "image": "img:1", **sleeping}
    annotations = {STOP: "1"} if asked == "annotation" else {}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 60}
    sandbox.create(stateful_set(replicas=1, annotations=annotations, **pod))
    wait_ready(sandbox, "web", 1)

    begun = time.monotonic()
    sandbox.scale("StatefulSet", "web", 0)
    sandbox.wait("it is gone", lambda: not sandbox.pods())

    assert 1 <= time.monotonic() - begun < 40  # rather than its grace period


def test_restarted_container_always_counts_and_loads_again(sandbox: Sandbox, kubelet: Kubelet) -> None:
    sandbox.create(stateful_set(replicas=1))
    wait_ready(sandbox, "web", 1)
    uid = sandbox.must_get("Pod", "web-0")["metadata"]["uid"]

    kubelet.manual = True
    kubelet.restart_container("web-0")
    unready = sandbox.must_get("Pod", "web-0")
    kubelet.release()
    wait_ready(sandbox, "web", 1)

    assert not is_ready(unready)
    assert unready["metadata"]["uid"] == uid
    assert unready["status"]["containerStatuses"][0]["restartCount"] == 1
    assert sandbox.must_get("Pod", "web-0")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_evicted_pod_is_replaced(sandbox: Sandbox, kubelet: Kubelet) -> None:
    sandbox.create(stateful_set(replicas=1))
    wait_ready(sandbox, "web", 1)
    uid = sandbox.must_get("Pod", "web-0")["metadata"]["uid"]

    kubelet.evict("web-0")
    sandbox.wait(
        "another is there",
        lambda: (sandbox.pods().get("web-0") or {"metadata": {}})["metadata"].get("uid") not in (None, uid),
    )

    wait_ready(sandbox, "web", 1)


def test_pod_on_a_lost_node_never_ends_until_the_node_is_back(
    sandbox: Sandbox, start_kubelet: StartKubelet
) -> None:
    kubelet = start_kubelet(sandbox, [Node("lost-and-found")])
    sandbox.create(stateful_set(replicas=1))
    wait_ready(sandbox, "web", 1)

    kubelet.lose_node("lost-and-found")
    sandbox.scale("StatefulSet", "web", 0)
    sandbox.wait("it is to end", lambda: is_terminating(sandbox.must_get("Pod", "web-0")))
    time.sleep(0.5)
    node = sandbox.client.get("v1", "Node", None, "lost-and-found")

    assert conditions(sandbox.must_get("Pod", "web-0"))["Ready"]["status"] == "False"
    assert node is not None
    assert conditions(node)["Ready"]["status"] == "Unknown"
    kubelet.restore_node("lost-and-found")
    sandbox.wait("it is gone", lambda: not sandbox.pods())


@pytest.mark.usefixtures("scheduler")
def test_scheduler_must_bind_pods_by_their_anti_affinity(
    sandbox: Sandbox, start_kubelet: StartKubelet
) -> None:
    nodes = [Node(f"{sandbox.name}-{zone}", {"zone": zone}) for zone in "ab"]
    start_kubelet(sandbox, nodes)
    apart = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    sandbox.create(stateful_set(replicas=3, affinity=affinity))

    sandbox.wait("two are ready", lambda: (len(images(sandbox)), len(sandbox.pods())) == (2, 3), 60)
    on = [pod["spec"].get("nodeName") for pod in sandbox.pods().values()]

    assert sorted(node for node in on if node) == [f"{sandbox.name}-a", f"{sandbox.name}-b"]
    assert sorted(_phases(sandbox)) == ["Pending", "Running", "Running"]


# -- processes


def test_process_always_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from processes import Process\n"
        "print(Process(['sleep', '60'], pathlib.Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, env=here, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)  # it becomes the program
        parent.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 30
    while _is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _phases(sandbox: Sandbox) -> list[str]:
    return [pod["status"]["phase"] for pod in sandbox.pods().values()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
