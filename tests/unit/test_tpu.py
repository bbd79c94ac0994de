from __future__ import annotations

from typing import Any

import pytest

from lws_core import names
from lws_core.admission import Denied, admit
from lws_core.options import Options
from lws_core.tpu import requests_tpus
from lws_core.values import FrozenMap, Json, as_maps, dig, freeze_map

Pod = FrozenMap[Json]

TPU = {"limits": {names.TPU_RESOURCE: "4"}}


def a_pod(
    worker_index: int, *, containers: Any = None, leader_has_tpus: bool = True, **annotations: str
) -> Pod:
    labels = {names.SET_NAME: "s", names.REVISION_KEY: "k", names.GROUP_INDEX: "0"}
    told = {names.SIZE: annotations.pop("size", "4")}
    if "subgroup" in annotations:
        told[names.SUBGROUP_SIZE] = annotations["subgroup"]
        told[names.SUBGROUP_POLICY_TYPE] = annotations.get("policy", "LeaderWorker")
    if worker_index == 0:
        name, labels[names.WORKER_INDEX] = "s-0", "0"
    else:
        name, told[names.LEADER_NAME] = f"s-0-{worker_index}", "s-0"
        told |= {names.LEADER_REQUESTS_TPUS: "true"} if leader_has_tpus else {}
    containers = containers or [{"name": "main", "resources": TPU}]
    return freeze_map(
        {
            "metadata": {"name": name, "namespace": "ns", "labels": labels, "annotations": told},
            "spec": {"subdomain": "sub", "containers": containers},
        }
    )


def environment(pod: Pod, container: int = 0, field: str = "containers") -> dict[Json, Json]:
    found = list(as_maps(dig(admit(pod, Options()), "spec", field)))[container]
    return {entry["name"]: entry.get("value") for entry in as_maps(found.get("env"))}


def tpus(pod: Pod) -> tuple[Json, Json]:
    found = environment(pod)
    return found["TPU_WORKER_ID"], found["TPU_WORKER_HOSTNAMES"]


def hosts(*worker_indexes: int) -> str:
    return ",".join("s-0.sub" if w == 0 else f"s-0-{w}.sub" for w in worker_indexes)


def test_tpu_environment_always_names_the_group_in_order() -> None:
    assert tpus(a_pod(0)) == ("0", hosts(0, 1, 2, 3))
    assert tpus(a_pod(2)) == ("2", hosts(0, 1, 2, 3))
    found = environment(a_pod(2))
    assert found["TPU_NAME"] == "s-0"
    assert found["TPU_PROCESS_ADDRESSES"] == ",".join(f"{host}:8476" for host in hosts(0, 1, 2, 3).split(","))
    assert found["TPU_PROCESS_PORT"] == "8476"


def test_tpu_environment_without_a_leader_s_tpus_always_starts_at_the_first_worker() -> None:
    assert tpus(a_pod(1, leader_has_tpus=False)) == ("0", hosts(1, 2, 3))
    assert tpus(a_pod(3, leader_has_tpus=False)) == ("2", hosts(1, 2, 3))


def test_tpu_environment_always_comes_after_the_user_s() -> None:
    env = [{"name": "A", "value": "1"}]
    names_ = list(environment(a_pod(0, containers=[{"name": "m", "resources": TPU, "env": env}])))
    assert names_ == [
        "LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "A",
        "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID", "TPU_NAME", "TPU_PROCESS_ADDRESSES", "TPU_PROCESS_PORT",
    ]  # fmt: skip


def test_tpu_containers_of_one_pod_always_are_hosts_of_their_own() -> None:
    containers = [
        {"name": "a", "resources": TPU},
        {"name": "plain"},
        {"name": "b", "resources": TPU, "env": [{"name": "TPU_PROCESS_PORT", "value": "9000"}]},
    ]
    first = environment(a_pod(1, containers=containers, size="2"))
    second = environment(a_pod(1, containers=containers, size="2"), 2)
    assert first["TPU_WORKER_HOSTNAMES"] == "s-0.sub,s-0.sub,s-0-1.sub,s-0-1.sub"
    assert (first["TPU_WORKER_ID"], second["TPU_WORKER_ID"]) == ("2", "3")
    expected = "s-0.sub:8476,s-0.sub:9000,s-0-1.sub:8476,s-0-1.sub:9000"
    assert first["TPU_PROCESS_ADDRESSES"] == second["TPU_PROCESS_ADDRESSES"] == expected
    assert (first["TPU_PROCESS_PORT"], second["TPU_PROCESS_PORT"]) == ("8476", "9000")
    assert "TPU_NAME" not in environment(a_pod(1, containers=containers, size="2"), 1)


def test_tpu_containers_in_a_subgroup_always_all_get_their_environment() -> None:
    """The original controller gave it to the first only."""
    containers = [{"name": "a", "resources": TPU}, {"name": "b", "resources": TPU}]
    found = environment(a_pod(3, containers=containers, subgroup="2"), 1)
    assert found["TPU_WORKER_ID"] == "3"
    assert found["TPU_PROCESS_PORT"] == "8477"
    assert found["TPU_WORKER_HOSTNAMES"] == "s-0-2.sub,s-0-2.sub,s-0-3.sub,s-0-3.sub"


@pytest.mark.parametrize("name", ["TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID"])
def test_tpu_environment_never_is_added_to_a_user_s_own(name: str) -> None:
    reference = {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    for entry in ({"name": name, "value": "mine"}, reference):
        containers = [{"name": "a", "resources": TPU, "env": [entry]}, {"name": "b", "resources": TPU}]
        pod = a_pod(0, containers=containers)
        assert [key for key in environment(pod) if str(key).startswith("TPU")] == [name]
        assert [key for key in environment(pod, 1) if str(key).startswith("TPU")] == []


def test_tpu_variable_that_a_user_sets_never_is_overridden() -> None:
    env = [{"name": "TPU_NAME", "value": "mine"}]
    found = environment(a_pod(0, containers=[{"name": "a", "resources": TPU, "env": env}]))
    assert found["TPU_NAME"] == "mine"
    assert found["TPU_WORKER_ID"] == "0"


def test_tpu_subgroup_with_the_leader_on_top_always_holds_one_pod_more() -> None:
    """The original controller left one of them out, gave two pods the id 0 and shifted all that follow."""
    assert tpus(a_pod(0, size="5", subgroup="2")) == ("0", hosts(0, 1, 2))
    assert tpus(a_pod(2, size="5", subgroup="2")) == ("2", hosts(0, 1, 2))
    assert tpus(a_pod(3, size="5", subgroup="2")) == ("0", hosts(3, 4))


def test_tpu_subgroup_never_names_a_pod_that_does_not_exist() -> None:
    """The original controller counted subgroups from the first worker here, against their labels."""
    assert tpus(a_pod(1, subgroup="2", leader_has_tpus=False)) == ("0", hosts(1))
    assert tpus(a_pod(3, subgroup="2", leader_has_tpus=False)) == ("1", hosts(2, 3))


def test_tpu_leader_outside_all_subgroups_always_is_alone() -> None:
    """The original controller denied it."""
    assert tpus(a_pod(0, size="5", subgroup="2", policy="LeaderExcluded")) == ("0", hosts(0))
    assert tpus(a_pod(3, size="5", subgroup="2", policy="LeaderExcluded")) == ("0", hosts(3, 4))


def test_tpu_pod_outside_its_group_is_always_denied() -> None:
    with pytest.raises(Denied, match="pod s-0-7 has worker index 7, which is not in a group of 4"):
        admit(a_pod(7), Options())


def test_tpu_list_that_no_pod_could_hold_is_always_denied() -> None:
    with pytest.raises(Denied, match="would have to name 2147483647 TPU hosts"):
        admit(a_pod(0, size="2147483647"), Options())


def test_tpu_lists_that_no_pod_could_hold_are_always_denied_before_they_are_made() -> None:
    """Each container has a copy of a list of all containers: 200 KiB of a pod became gigabytes."""
    many = [{"name": f"c{index}", "resources": TPU} for index in range(2_500)]
    with pytest.raises(Denied, match=r"pod s-0 would get \d{9} characters of environment: at most 1572864"):
        admit(a_pod(0, containers=many), Options())
    port = {"name": "TPU_PROCESS_PORT", "value": "1" * 2**20}
    long = [{"name": "main", "resources": TPU, "env": [port]}]
    with pytest.raises(Denied, match=r"would get \d{10} characters of environment"):
        admit(a_pod(0, containers=long, size="4000"), Options())


def test_tpu_lists_that_a_pod_can_hold_are_always_given() -> None:
    """64 hosts of 8 containers, as large as a group with TPUs may be in earnest."""
    many = [{"name": f"c{index}", "resources": TPU} for index in range(8)]
    found = environment(a_pod(63, containers=many, size="64"), 7)
    assert found["TPU_WORKER_ID"] == "511"
    assert str(found["TPU_WORKER_HOSTNAMES"]).count(",") == 511


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"limits": {names.TPU_RESOURCE: "4"}}, True),
        ({"limits": {names.TPU_RESOURCE: 4}}, True),
        ({"requests": {names.TPU_RESOURCE: "4"}}, True),
        ({"limits": {names.TPU_RESOURCE: "0"}, "requests": {names.TPU_RESOURCE: "1"}}, True),
        ({"limits": {names.TPU_RESOURCE: "0"}}, False),
        ({"limits": {names.TPU_RESOURCE: "0m"}}, False),
        ({"limits": {names.TPU_RESOURCE: None}}, False),
        ({"limits": {"nvidia.com/gpu": "4"}}, False),
    ],
)
def test_tpu_request_always_is_a_limit_or_request_that_is_not_zero(resources: Any, expected: bool) -> None:
    for field in ("containers", "initContainers"):
        assert requests_tpus(freeze_map({field: [{"name": "m", "resources": resources}]})) is expected
