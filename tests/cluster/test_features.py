"""What a set may ask for beyond the guide's examples, in a real cluster."""

from __future__ import annotations

from collections import Counter as Multiset
from typing import Any, Final

import pytest
import rights
from client import JSON_PATCH, Manifest
from conftest import NewOperator, StartKubelet
from kubelet import Kubelet
from operator_process import Operator
from sandbox import Sandbox, is_ready, is_terminating
from sets import (
    Counter,
    created,
    deletes,
    environment,
    key_of,
    label,
    lws,
    owner_uid,
    set_image,
    stays,
    strategy,
    uid,
    wait_event,
)

from lws_core import names

CLAIM: Final = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def hostnames(sandbox: Sandbox, service: str) -> set[str]:
    """The hostnames that a Service's slices give to the cluster's DNS."""
    slices = sandbox.all("EndpointSlice", f"kubernetes.io/service-name={service}")
    endpoints = [one for part in slices for one in part.get("endpoints") or ()]
    return {one.get("hostname", "") for one in endpoints if one["conditions"]["ready"]}


def set_names(sandbox: Sandbox, kind: str) -> list[str]:
    return [one["metadata"]["name"] for one in sandbox.all(kind)]


# -- network names


def test_every_pod_always_stands_in_the_sets_service_though_it_is_not_ready(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator
) -> None:
    kubelet = start_kubelet(sandbox, manual=True)
    sandbox.apply(lws(replicas=2, size=3))
    expected = {"serve-0", "serve-0-1", "serve-0-2", "serve-1", "serve-1-1", "serve-1-2"}

    sandbox.wait("all stand in the slice", lambda: hostnames(sandbox, "serve") == expected)
    pods = sandbox.pods()
    assert set(pods) == expected
    assert not any(is_ready(pod) for pod in pods.values())
    for name, pod in pods.items():
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (name, "serve")
        leader = name if label(pod, names.WORKER_INDEX) == "0" else name.rsplit("-", 1)[0]
        assert dict(environment(pod))["LWS_LEADER_ADDRESS"] == f"{leader}.serve.{sandbox.name}"
    kubelet.release()
    sandbox.wait_ready("serve", 2)


def test_every_group_must_have_a_service_of_its_own_under_unique_per_replica(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator
) -> None:
    kubelet = start_kubelet(sandbox, manual=True)
    sandbox.apply(lws(replicas=2, size=2, networkConfig={"subdomainPolicy": "UniquePerReplica"}))
    sandbox.wait("group 0 has its names", lambda: hostnames(sandbox, "serve-0") == {"serve-0", "serve-0-1"})
    sandbox.wait("group 1 has its names", lambda: hostnames(sandbox, "serve-1") == {"serve-1", "serve-1-1"})

    assert set_names(sandbox, "Service") == ["serve-0", "serve-1"]
    for name, pod in sandbox.pods().items():
        group = f"serve-{label(pod, names.GROUP_INDEX)}"
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (name, group)
        assert environment(pod)[0] == ("LWS_LEADER_ADDRESS", f"{group}.{group}.{sandbox.name}")
    kubelet.release()
    sandbox.wait_ready("serve", 2)
    before = sandbox.must_get("Service", "serve-1")
    assert before["spec"]["selector"] == {names.SET_NAME: "serve", names.GROUP_INDEX: "1"}

    sandbox.delete("Pod", "serve-1")

    def goes_with_a_new_leader() -> bool:
        service, leader = sandbox.get("Service", "serve-1"), sandbox.get("Pod", "serve-1")
        found = service is not None and leader is not None and uid(service) != uid(before)
        return found and owner_uid(service or {}) == uid(leader or {})

    sandbox.wait("the Service is a new one, and the new leader's", goes_with_a_new_leader)
    sandbox.wait_ready("serve", 2)
    sandbox.wait("it has its names again", lambda: hostnames(sandbox, "serve-1") == {"serve-1", "serve-1-1"})


# -- templates


def test_second_template_never_keeps_what_the_server_had_filled_in_for_the_first(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator
) -> None:
    """Such fields are nobody's, and an apply leaves them: the old account would come back, and two sources of
    one volume be refused. The groups are held, so that nothing else is written in between."""
    start_kubelet(sandbox)
    sandbox.apply(lws(replicas=2, size=2, budget={"partition": 2}))
    sandbox.wait_ready("serve", 2)
    before = {name: uid(pod) for name, pod in sandbox.pods().items()}

    def edited(image: str, volume: Manifest, **pod: Any) -> Manifest:
        spec = {"containers": [{"name": "main", "image": image}], "volumes": [{"name": "v", **volume}], **pod}
        change = {"path": "/spec/leaderWorkerTemplate/workerTemplate/spec", "op": "replace", "value": spec}
        sandbox.client.patch(sandbox.path(names.KIND, "serve"), [change], JSON_PATCH)

        def written() -> Manifest | None:
            found: Manifest = sandbox.must_get("StatefulSet", "serve")["spec"]["template"]["spec"]
            return found if found["containers"][0]["image"] == image else None

        found = sandbox.wait(f"the template has {image}", written)
        assert found is not None
        return found

    first = edited("img:latest", {}, serviceAccountName="special")
    assert (first["serviceAccount"], first["volumes"][0]["emptyDir"]) == ("special", {})
    mark = sandbox.plane.audit.mark()
    claim = {"persistentVolumeClaim": {"claimName": "models"}}
    second = edited("img:2", claim)
    assert not {"serviceAccount", "serviceAccountName"} & set(second)
    assert second["volumes"] == [{"name": "v", **claim}]
    assert second["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    edited("img:3", claim)

    def applies() -> int:
        written = sandbox.writes("operator", mark, resources=("statefulsets",))
        return len([one for one in written if one.name == "serve" and one.code < 300])

    sandbox.wait("the third is logged", lambda: applies() >= 3)
    stays(lambda: applies() == 3)  # the third template leaves nothing, and costs no more than itself
    assert {name: uid(pod) for name, pod in sandbox.pods().items()} == before


# -- groups


@pytest.mark.parametrize(
    ("kind", "size", "subgroup", "indexes"),
    [
        ("LeaderWorker", 4, 2, ["0", "0", "1", "1"]),
        ("LeaderWorker", 5, 2, ["0", "0", "0", "1", "1"]),
        ("LeaderExcluded", 5, 2, ["", "0", "0", "1", "1"]),
    ],
)
def test_pods_must_be_labelled_by_their_subgroup(
    sandbox: Sandbox,
    kubelet: Kubelet,
    operator: Operator,
    kind: str,
    size: int,
    subgroup: int,
    indexes: list[str],
) -> None:
    policy = {"subGroupPolicyType": kind, "subGroupSize": subgroup}
    sandbox.apply(lws(replicas=2, size=size, template={"subGroupPolicy": policy}))
    sandbox.wait_ready("serve", 2)

    pods = sandbox.pods()
    for group in ("serve-0", "serve-1"):
        of_group = [pods[group], *(pods[f"{group}-{worker}"] for worker in range(1, size))]
        assert [label(pod, names.SUBGROUP_INDEX) for pod in of_group] == indexes
        assert [label(pod, names.SUBGROUP_KEY) for pod in of_group] == [
            names.topology_key(group, index) if index else "" for index in indexes
        ]


def test_workers_never_start_before_their_leader_is_ready_if_the_set_says_so(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator
) -> None:
    kubelet = start_kubelet(sandbox, manual=True)
    sandbox.apply(lws(replicas=2, size=3, startupPolicy="LeaderReady"))
    sandbox.wait("the leaders run", lambda: len(kubelet.group("serve")) == 2)
    stays(lambda: set(sandbox.pods()) == {"serve-0", "serve-1"})

    sandbox.wait(
        "they have started", lambda: all(p["status"]["phase"] == "Running" for p in sandbox.pods().values())
    )
    kubelet.make_ready("serve-1")
    sandbox.wait(
        "its workers are there",
        lambda: set(sandbox.pods()) == {"serve-0", "serve-1", "serve-1-1", "serve-1-2"},
    )
    stays(lambda: "serve-0-1" not in sandbox.pods())
    kubelet.make_unready("serve-1")
    stays(lambda: {"serve-1-1", "serve-1-2"} < set(sandbox.pods()))
    kubelet.release()

    sandbox.wait_ready("serve", 2)


def test_group_of_one_never_has_a_worker_stateful_set(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=3, size=1, budget={"maxUnavailable": 3}))
    sandbox.wait_ready("serve", 3)
    sandbox.wait_condition("serve", "Available")
    assert set_names(sandbox, "StatefulSet") == ["serve"]
    assert dict(environment(sandbox.must_get("Pod", "serve-2")))["LWS_GROUP_SIZE"] == "1"

    set_image(sandbox, "serve", "img:2")
    sandbox.wait_ready("serve", 3)
    kubelet.restart_container("serve-1")
    sandbox.wait("it is recreated", lambda: len(created(sandbox)) == 7)
    sandbox.wait_ready("serve", 3)

    assert set_names(sandbox, "StatefulSet") == ["serve"]


def test_size_must_change_group_by_group_in_a_rollout(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=2, size=2))
    sandbox.wait_ready("serve", 2)

    with Counter(sandbox, "serve", 2) as counter:
        sandbox.patch(names.KIND, "serve", {"spec": {"leaderWorkerTemplate": {"size": 3}}})
        sandbox.wait_ready("serve", 2)
    assert min(counter.counts) >= 1
    pods = sandbox.pods()
    assert set(pods) == {"serve-0", "serve-0-1", "serve-0-2", "serve-1", "serve-1-1", "serve-1-2"}
    assert {dict(environment(pod))["LWS_GROUP_SIZE"] for pod in pods.values()} == {"3"}

    sandbox.patch(names.KIND, "serve", {"spec": {"leaderWorkerTemplate": {"size": 1}}})
    sandbox.wait_ready("serve", 2)
    sandbox.wait("only leaders are left", lambda: set(sandbox.pods()) == {"serve-0", "serve-1"})
    assert set_names(sandbox, "StatefulSet") == ["serve"]


# -- volume claims


def claims(sandbox: Sandbox) -> set[str]:
    found = sandbox.all("PersistentVolumeClaim")
    return {one["metadata"]["name"] for one in found if not is_terminating(one)}


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_volume_claims_must_go_as_the_retention_policy_says(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator, policy: str
) -> None:
    retention = {"whenDeleted": policy, "whenScaled": policy}
    template = {"volumeClaimTemplates": [CLAIM], "persistentVolumeClaimRetentionPolicy": retention}
    sandbox.apply(lws(replicas=2, size=2, template=template))
    sandbox.wait_ready("serve", 2)
    everything = {"data-serve-0", "data-serve-0-1", "data-serve-1", "data-serve-1-1"}
    first = {"data-serve-0", "data-serve-0-1"}
    assert claims(sandbox) == everything
    for name, pod in sandbox.pods().items():
        volumes = [one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["spec"]["volumes"]]
        assert volumes == [f"data-{name}"]

    sandbox.scale(names.KIND, "serve", 1)
    sandbox.wait_ready("serve", 1)
    sandbox.wait("group 1 is gone", lambda: set(sandbox.pods()) == {"serve-0", "serve-0-1"})
    left = first if policy == "Delete" else everything
    sandbox.wait("the claims of group 1 go as they should", lambda: claims(sandbox) == left)
    sandbox.delete(names.KIND, "serve")
    sandbox.wait("all pods are gone", lambda: not sandbox.pods())

    left = set() if policy == "Delete" else everything
    sandbox.wait("the claims go as they should", lambda: claims(sandbox) == left)
    stays(lambda: claims(sandbox) == left)


# -- rollouts


def test_partition_must_hold_a_canary_until_it_is_released(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=3, size=2, budget={"partition": 2, "maxSurge": 1}))
    sandbox.wait_ready("serve", 3)
    old = key_of(sandbox, "serve")

    set_image(sandbox, "serve", "img:2")
    sandbox.wait("there is a new revision", lambda: key_of(sandbox, "serve") != old)
    new = key_of(sandbox, "serve")
    wait_event(sandbox, "CreatingRevision", f"Creating revision with key {new} for updated LWS")

    def revisions() -> list[str]:
        found = sandbox.pods("serve")
        return [label(found[name], names.REVISION_KEY) for name in sorted(found) if is_ready(found[name])]

    sandbox.wait("group 2 is the canary", lambda: revisions() == [old] * 4 + [new] * 2)
    sandbox.wait_condition("serve", "Available")
    sandbox.wait_condition("serve", "UpdateInProgress", "False")
    stays(lambda: revisions() == [old] * 4 + [new] * 2)

    def counts() -> tuple[int, int, int]:
        found = sandbox.must_get(names.KIND, "serve")["status"]
        return found["replicas"], found["readyReplicas"], found["updatedReplicas"]

    sandbox.wait("one group is updated", lambda: counts() == (3, 3, 1))  # counts alone are told a bit later
    sandbox.delete("Pod", "serve-0")  # a group that is lost below the partition comes back as it was
    sandbox.wait("group 0 is back", lambda: len(created(sandbox)) == 6 + 2 + 2)
    sandbox.wait("group 0 is as it was", lambda: revisions() == [old] * 4 + [new] * 2)

    sandbox.patch(names.KIND, "serve", strategy(partition=0))
    sandbox.wait_ready("serve", 3)
    assert revisions() == [new] * 6
    assert sandbox.events("DriftHealed") == []
    sandbox.wait("the old revision is gone", lambda: _revisions_of(sandbox, "serve") == [new])


def _revisions_of(sandbox: Sandbox, name: str) -> list[str]:
    owner = uid(sandbox.must_get(names.KIND, name))
    found = [one for one in sandbox.all("ControllerRevision") if owner_uid(one) == owner]
    return [label(one, names.REVISION_KEY) for one in found]


R, U, S, SIZE = 5, 2, 1, 2


def roll_out(sandbox: Sandbox, start_kubelet: StartKubelet, grace_s: int) -> None:
    """The pace: what the partition allows is carried out at once, within the budget, each pod made once."""
    start_kubelet(sandbox, load_s=0.5, stop_s=0.5)
    budget = {"maxUnavailable": U, "maxSurge": S}
    sandbox.apply(lws(replicas=R, size=SIZE, budget=budget, pod={"terminationGracePeriodSeconds": grace_s}))
    sandbox.wait_ready("serve", R)
    mark = sandbox.plane.audit.mark()

    with Counter(sandbox, "serve", SIZE) as counter:
        set_image(sandbox, "serve", "img:2")
        sandbox.wait_ready("serve", R)
    sandbox.wait_condition("serve", "Available")
    sandbox.wait("the surge is gone", lambda: len(sandbox.pods()) == R * SIZE)

    assert min(counter.counts) == R - U
    expected = [f"serve-{index}" for index in range(R + S)]
    expected += [f"serve-{index}-{worker}" for index in range(R + S) for worker in range(1, SIZE)]
    assert Multiset(created(sandbox, mark)) == Multiset(expected)
    stays(lambda: len(created(sandbox, mark)) == len(expected))


@pytest.mark.parametrize("grace_s", [0, 3, 30])
def test_rollout_always_keeps_its_budget_and_makes_each_pod_once(
    sandbox: Sandbox, start_kubelet: StartKubelet, operator: Operator, grace_s: int
) -> None:
    roll_out(sandbox, start_kubelet, grace_s)


@pytest.mark.parametrize("grace_s", [0, 3, 30])
def test_rollout_always_keeps_its_budget_and_makes_each_pod_once_with_the_gate_on(
    gated_sandbox: Sandbox, start_kubelet: StartKubelet, gated_operator: Operator, grace_s: int
) -> None:
    roll_out(gated_sandbox, start_kubelet, grace_s)


# -- a leader that takes its time


def drain(sandbox: Sandbox, *groups: int) -> None:
    """Wait until leaders that are being deleted are gone, the workers of each running until then."""
    before = sandbox.pods("serve")
    workers = {
        uid(before[f"serve-{group}"]): [uid(before[f"serve-{group}-{worker}"]) for worker in (1, 2)]
        for group in groups
    }

    def leaders_left() -> dict[str, Manifest]:
        by_uid = {uid(pod): pod for pod in sandbox.pods("serve").values()}
        for leader in workers.keys() & by_uid.keys():
            assert all(one in by_uid and is_ready(by_uid[one]) for one in workers[leader])
        return {leader: by_uid[leader] for leader in workers.keys() & by_uid.keys()}

    def all_terminate() -> bool:
        left = leaders_left()
        return len(left) == len(groups) and all(is_terminating(pod) for pod in left.values())

    sandbox.wait("the leaders are to end", all_terminate, every_s=0.02)
    looks = 0
    while leaders_left():
        looks += 1
    assert looks > 5
    all_workers = {worker for of_group in workers.values() for worker in of_group}
    sandbox.wait(
        "the workers are gone", lambda: not {uid(pod) for pod in sandbox.pods().values()} & all_workers
    )


def slow_leaders() -> Manifest:
    hook = {"preStop": {"sleep": {"seconds": 5}}}  # so that both end at once, and are looked at meanwhile
    leader = {"spec": {"containers": [{"name": "main", "image": "img:1", "lifecycle": hook}]}}
    return lws(replicas=3, size=3, template={"leaderTemplate": leader}, budget={"maxUnavailable": 2})


def test_workers_always_run_until_their_leader_has_drained_in_a_rollout(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    """Group 2 is replaced by the StatefulSet controller, group 1 by the operator."""
    sandbox.apply(slow_leaders())
    sandbox.wait_ready("serve", 3)
    set_image(sandbox, "serve", "img:2")
    drain(sandbox, 1, 2)
    sandbox.wait_ready("serve", 3)
    assert "serve-1" in [one.name for one in deletes(sandbox)]


def test_workers_always_run_until_their_leader_has_drained_in_a_scale_down(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(slow_leaders())
    sandbox.wait_ready("serve", 3)
    sandbox.scale(names.KIND, "serve", 1)
    drain(sandbox, 1, 2)
    sandbox.wait_ready("serve", 1)
    assert deletes(sandbox) == []


# -- accelerators


def test_pods_that_ask_for_tpus_must_be_told_of_each_other(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    limits = {"resources": {"limits": {"google.com/tpu": "4"}}}
    container = {"name": "main", "image": "img:1", "env": [{"name": "MINE", "value": "1"}], **limits}
    sandbox.apply(lws(replicas=1, size=3, pod={"containers": [container]}))
    sandbox.wait_ready("serve", 1)

    pods = sandbox.pods()
    hosts = ["serve-0.serve", "serve-0-1.serve", "serve-0-2.serve"]
    for index, name in enumerate(["serve-0", "serve-0-1", "serve-0-2"]):
        assert environment(pods[name])[3:] == [
            ("MINE", "1"),
            ("TPU_WORKER_HOSTNAMES", ",".join(hosts)),
            ("TPU_WORKER_ID", str(index)),
            ("TPU_NAME", "serve-0"),
            ("TPU_PROCESS_ADDRESSES", ",".join(f"{host}:8476" for host in hosts)),
            ("TPU_PROCESS_PORT", "8476"),
        ]
        told = pods[name]["metadata"]["annotations"].get(names.LEADER_REQUESTS_TPUS)
        assert told == ("true" if index else None)


def test_each_group_must_have_a_pod_group_that_its_pods_name(
    sandbox: Sandbox, kubelet: Kubelet, new_operator: NewOperator
) -> None:
    rights.grant(sandbox.plane, "gang-scheduling")
    operator = new_operator("gang", config={"gangSchedulingManagement": {"schedulerProvider": "volcano"}})
    operator.start()
    operator.register_webhooks()
    amounts = {"resources": {"requests": {"cpu": "500m"}, "limits": {"nvidia.com/gpu": "8"}}}
    asked: dict[str, Any] = {
        "annotations": {names.VOLCANO_QUEUE: "fast", "volcano.sh/own": "kept", "other": "left"},
        "pod": {
            "schedulerName": "volcano",
            "containers": [{"name": "main", "image": "img:1", **amounts}],
        },
    }
    sandbox.apply(lws(replicas=2, size=3, **asked))
    sandbox.wait_ready("serve", 2)

    key, pods = key_of(sandbox, "serve"), sandbox.pods()
    groups = {one["metadata"]["name"]: one for one in sandbox.all("PodGroup")}
    assert set(groups) == {f"serve-0-{key}", f"serve-1-{key}"}
    for name, group in groups.items():
        index = label(group, names.GROUP_INDEX)
        assert name == f"serve-{index}-{key}"
        assert group["spec"] == {
            "minMember": 3,
            "minResources": {"cpu": "1500m", "nvidia.com/gpu": "24"},
            "queue": "fast",
        }
        assert group["metadata"]["annotations"] == {"volcano.sh/own": "kept"}
        assert owner_uid(group) == uid(pods[f"serve-{index}"])
        members = [pod for pod in pods.values() if label(pod, names.GROUP_INDEX) == index]
        assert {pod["metadata"]["annotations"][names.POD_GROUP_NAME] for pod in members} == {name}
        assert len(members) == 3

    kubelet.restart_container("serve-0-1")
    gone = uid(pods["serve-0"])
    sandbox.wait("the leader is another", lambda: uid(sandbox.pods().get("serve-0", pods["serve-0"])) != gone)
    sandbox.wait_ready("serve", 2)
    again = sandbox.must_get("PodGroup", f"serve-0-{key}")
    assert owner_uid(again) == uid(sandbox.must_get("Pod", "serve-0"))
