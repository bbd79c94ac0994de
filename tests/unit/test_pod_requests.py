"""Pod requests, against what component-helpers v0.36.3 (resource.PodRequests) made of the same pods once the
API server's defaults were in place."""

from __future__ import annotations

from typing import Any

import pytest

from lws_core.pod_requests import add, pod_requests
from lws_core.quantity import read
from lws_core.values import FrozenMap, freeze_map


def uses(restart: str = "", limits: Any = None, **requests: str) -> dict[str, Any]:
    policy = {"restartPolicy": restart} if restart else {}
    return {**policy, "resources": {"requests": requests, "limits": limits or {}}}


VECTORS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "containers run together": (
        {"containers": [uses(cpu="500m", memory="1Gi"), uses(cpu="1500m", memory="512Mi")]},
        {"cpu": "2", "memory": "1536Mi"},
    ),
    "a limit is a request where none is given": (
        {"containers": [uses(limits={"cpu": "2", "nvidia.com/gpu": "8"}, cpu="1")]},
        {"cpu": "1", "nvidia.com/gpu": "8"},
    ),
    "an init container runs alone": (
        {"containers": [uses(cpu="1")], "initContainers": [uses(cpu="3"), uses(cpu="2", memory="1Gi")]},
        {"cpu": "3", "memory": "1Gi"},
    ),
    "a sidecar runs beside the containers and later init containers": (
        {
            "containers": [uses(cpu="1")],
            "initContainers": [uses(cpu="4"), uses("Always", cpu="2"), uses(cpu="3")],
        },
        {"cpu": "5"},
    ),
    "sidecars add up": (
        {"containers": [uses(cpu="1")], "initContainers": [uses("Always", cpu="2"), uses("Always", cpu="2")]},
        {"cpu": "5"},
    ),
    "the pod's own requests stand in for its containers'": (
        {"containers": [uses(cpu="4", memory="4Gi")], "resources": {"requests": {"cpu": "3", "other": "1"}}},
        {"cpu": "3", "memory": "4Gi"},
    ),
    "the pod's own limit is a request only where no container has one": (
        {"containers": [uses(cpu="1")], "resources": {"limits": {"cpu": "3", "memory": "2Gi"}}},
        {"cpu": "1", "memory": "2Gi"},
    ),
    "huge pages of the pod are requested as limited": (
        {
            "containers": [uses(limits={"hugepages-2Mi": "4Mi"})],
            "resources": {"limits": {"hugepages-2Mi": "8Mi"}},
        },
        {"hugepages-2Mi": "8Mi"},
    ),
    "overhead comes on top": (
        {
            "containers": [uses(cpu="1")],
            "resources": {"requests": {"cpu": "2"}},
            "overhead": {"cpu": "250m", "memory": "64Mi"},
        },
        {"cpu": "2250m", "memory": "64Mi"},
    ),
    "the family of the first amount is kept": (
        {"containers": [uses(memory="0"), uses(memory="100M"), uses(memory="1Ki")]},
        {"memory": "100001024"},
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_pod_requests_always_are_what_kubernetes_makes_of_the_pod(name: str) -> None:
    spec, expected = VECTORS[name]
    found = pod_requests(freeze_map({"spec": spec}))
    assert {resource: str(amount) for resource, amount in found.items()} == expected


@pytest.mark.parametrize(
    "spec", [None, {}, {"containers": None}, {"containers": [{"resources": {"limits": {"cpu": None}}}]}]
)
def test_pod_that_asks_for_nothing_always_requests_nothing(spec: Any) -> None:
    assert pod_requests(freeze_map({"spec": spec})) == {}


def test_amount_that_is_no_quantity_is_always_refused() -> None:
    with pytest.raises(ValueError, match="'lots' is not a quantity"):
        pod_requests(freeze_map({"spec": {"containers": [uses(cpu="lots")]}}))


def test_requests_of_several_pods_always_add_up() -> None:
    one, other = FrozenMap({"cpu": read("1")}), FrozenMap({"cpu": read("500m"), "memory": read("1Gi")})
    assert {k: str(v) for k, v in add(one, other, 3).items()} == {"cpu": "2500m", "memory": "3Gi"}
