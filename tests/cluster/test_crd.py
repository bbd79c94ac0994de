"""The shipped CRD, and that the API server accepts by it exactly what lws_core's schema check accepts."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from client import Client, Manifest, Refused
from conftest import ROOT
from control_plane import ControlPlane
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import any_json, manifests

from lws_core.structural import check, fill_defaults
from lws_core.values import FrozenMap, Json, freeze_map, thaw
from lws_runtime.schema_data import manifest_schema

pytestmark = pytest.mark.usefixtures("no_operator")

TIMES = 5 if os.environ.get("LWS_PROFILE") == "long" else 1
EXAMPLES = sorted((ROOT / "examples").glob("lws*.yaml"))
POD: Manifest = {"spec": {"containers": [{"name": "main", "image": "img:1"}]}}


def a_set(**spec: Any) -> Manifest:
    template = {"workerTemplate": POD, **spec.pop("template", {})}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "serve"},
        "spec": {"leaderWorkerTemplate": template, **spec},
    }


def container(**fields: Any) -> Manifest:
    return a_set(template={"workerTemplate": {"spec": {"containers": [{"name": "main", **fields}]}}})


def pod(**fields: Any) -> Manifest:
    return a_set(template={"workerTemplate": {"spec": {**POD["spec"], **fields}}})


def rolling(**fields: Any) -> Manifest:
    return a_set(rolloutStrategy={"type": "RollingUpdate", "rollingUpdateConfiguration": fields})


GOOD: dict[str, Manifest] = {
    "a minimal set": a_set(),
    "no replicas": a_set(replicas=0),
    "the most replicas": a_set(replicas=1_000_000),
    "a whole number written as 3.0": a_set(template={"size": 3.0}),
    "nulls that stand for nothing": a_set(replicas=None, startupPolicy=None, networkConfig=None),
    "a size that only validation refuses": a_set(template={"size": 0}),
    "a percentage": rolling(maxSurge="25%", maxUnavailable=1),
    "a budget that only validation refuses": rolling(maxSurge="many", maxUnavailable=-1),
    "a partition that only validation refuses": rolling(partition=-1),
    "a subgroup policy without a size": a_set(template={"subGroupPolicy": {}}),
    "a quantity as a number": container(resources={"limits": {"cpu": 1, "memory": "1Gi"}}),
    "a quantity with an exponent": container(resources={"limits": {"cpu": "1e3"}}),
    "the same port by two protocols": container(
        ports=[{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]
    ),
    "a port by name": container(readinessProbe={"httpGet": {"port": "http"}}),
    "an empty env value": container(env=[{"name": "A", "value": ""}, {"name": "A", "value": "twice"}][:1]),
    "an unknown restart policy of pods": pod(restartPolicy="Sometimes"),
    "a template with metadata": a_set(
        template={"workerTemplate": {"metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]}, **POD}}
    ),
    "a leader template of its own": a_set(template={"leaderTemplate": POD}),
    "a leader template without a spec": a_set(template={"leaderTemplate": {}}),
    "claims": a_set(template={"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}),
}
BAD: dict[str, Manifest] = {
    "no template": {**a_set(), "spec": {}},
    "no worker template": {**a_set(), "spec": {"leaderWorkerTemplate": {"size": 1}}},
    "too few replicas": a_set(replicas=-1),
    "too many replicas": a_set(replicas=1_000_001),
    "replicas as text": a_set(replicas="3"),
    "half a replica": a_set(replicas=1.5),
    "a replica that is true": a_set(replicas=True),
    "a size beyond 32 bits": a_set(template={"size": 2**31}),
    "a restart policy that is unknown": a_set(template={"restartPolicy": "Always"}),
    "a restart policy that is empty": a_set(template={"restartPolicy": ""}),
    "a startup policy that is unknown": a_set(startupPolicy="leaderready"),
    "a rollout that is unknown": a_set(rolloutStrategy={"type": "Recreate"}),
    "a network without a policy": a_set(networkConfig={}),
    "a network of an unknown policy": a_set(networkConfig={"subdomainPolicy": "PerPod"}),
    "a subgroup type that is unknown": a_set(template={"subGroupPolicy": {"subGroupPolicyType": "X"}}),
    "a budget that is a fraction": rolling(maxSurge=0.5),
    "a budget that is true": rolling(maxUnavailable=True),
    "a partition as text": rolling(partition="1"),
    "a field that is unknown": a_set(replica=3),
    "a field of another letter": rolling(maxsurge=1),
    "a field that is unknown, deep down": container(imagePullPolice="Always"),
    "a field that is unknown, of a template's metadata": a_set(
        template={"workerTemplate": {"metadata": {"uid": "x"}, **POD}}
    ),
    "no containers": a_set(template={"workerTemplate": {"spec": {}}}),
    "a container without a name": a_set(
        template={"workerTemplate": {"spec": {"containers": [{"image": "x"}]}}}
    ),
    "two containers of one name": pod(containers=[{"name": "main"}, {"name": "main"}]),
    "the same port twice": container(ports=[{"containerPort": 53}, {"containerPort": 53, "protocol": "TCP"}]),
    "a port beyond 32 bits": container(ports=[{"containerPort": 2**31}]),
    "an env value that is a number": container(env=[{"name": "A", "value": 1}]),
    "an env variable twice": container(env=[{"name": "A"}, {"name": "A"}]),
    "a quantity that is none": container(resources={"limits": {"memory": "16GB"}}),
    "a quantity that is a fraction": container(resources={"limits": {"cpu": 0.5}}),
    "a label that is a number": a_set(template={"workerTemplate": {"metadata": {"labels": {"a": 1}}, **POD}}),
    "a command with a null": container(command=["run", None]),
    "a list that is none": container(command="run"),
    "a spec that is a list": {**a_set(), "spec": []},
    "a time that is none": a_set(
        template={"volumeClaimTemplates": [{"status": {"conditions": [{"lastProbeTime": "noon"}]}}]}
    ),
}
LAXER: dict[str, Manifest] = {
    "replicas written as 3.0": a_set(replicas=3.0),  # the scale subresource wants it without the point
    "an unknown field that is null": a_set(replica=None),
    "an amount with a point beyond 53 bits": container(resources={"limits": {"memory": 2.0**53}}),
}
"""What lws_core takes and the API server does not."""

STRICTER: dict[str, Manifest] = {
    "a budget beyond 32 bits": rolling(maxUnavailable=2**31),  # the schema cannot say that of int-or-string
}
"""What the API server takes and lws_core does not."""


def refusal(client: Client, manifest: Manifest) -> str:
    """What the API server says against a set; empty where it takes it. Nothing is stored."""
    placed = {**manifest, "metadata": {**manifest["metadata"], "namespace": "default"}}
    try:
        client.create(placed, dryRun="All")
    except Refused as refused:
        if refused.code not in (400, 422):
            raise
        return refused.message
    return ""


def faults(manifest: Manifest) -> list[str]:
    """What lws_core's schema has against it."""
    schema = manifest_schema()
    return [str(fault) for fault in check(fill_defaults(freeze_map(manifest), schema), schema)]


def agree(client: Client, manifest: Manifest) -> None:
    told, found = refusal(client, manifest), faults(manifest)
    assert bool(told) == bool(found), f"the API server: {told or 'fine'}\nlws_core: {found or 'fine'}"


def test_shipped_crd_must_be_established(cluster: ControlPlane, crd: Manifest) -> None:
    found = cluster.client().get(crd["apiVersion"], crd["kind"], None, crd["metadata"]["name"])
    assert found is not None
    states = {one["type"]: one["status"] for one in found["status"]["conditions"]}

    assert states["Established"] == states["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in states
    assert found["spec"]["versions"] == crd["spec"]["versions"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_always_accepted(cluster: ControlPlane, path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        assert refusal(cluster.client(), manifest) == ""
        assert faults(manifest) == []


@pytest.mark.parametrize("case", GOOD)
def test_good_set_is_always_accepted_by_both(cluster: ControlPlane, case: str) -> None:
    assert (refusal(cluster.client(), GOOD[case]), faults(GOOD[case])) == ("", [])


@pytest.mark.parametrize("case", BAD)
def test_bad_set_is_always_refused_by_both(cluster: ControlPlane, case: str) -> None:
    told, found = refusal(cluster.client(), BAD[case]), faults(BAD[case])

    assert told, f"the API server takes it; lws_core says {found}"
    assert found, f"lws_core takes it; the API server says {told}"


@pytest.mark.parametrize("case", LAXER)
def test_lax_case_is_taken_by_lws_core_alone(cluster: ControlPlane, case: str) -> None:
    assert refusal(cluster.client(), LAXER[case])
    assert not faults(LAXER[case])


@pytest.mark.parametrize("case", STRICTER)
def test_strict_case_is_taken_by_the_api_server_alone(cluster: ControlPlane, case: str) -> None:
    assert not refusal(cluster.client(), STRICTER[case])
    assert faults(STRICTER[case])


@settings(max_examples=60 * TIMES)
@given(manifests())
def test_any_set_is_judged_alike_by_both(cluster: ControlPlane, manifest: FrozenMap[Json]) -> None:
    agree(cluster.client(), _thawed(manifest))


@settings(max_examples=150 * TIMES)
@given(st.data())
def test_any_broken_set_is_judged_alike_by_both(cluster: ControlPlane, data: st.DataObject) -> None:
    manifest = _thawed(data.draw(manifests()))
    places = list(_places(manifest["spec"]))
    above, key = data.draw(st.sampled_from(places))
    above[key] = _told_apart(thaw(data.draw(any_json(4))))

    agree(cluster.client(), manifest)


def _thawed(manifest: FrozenMap[Json]) -> Manifest:
    plain = thaw(manifest)
    assert isinstance(plain, dict)
    return copy.deepcopy(plain)


def _told_apart(value: Any) -> Any:
    """Without what LAXER holds: nulls and whole numbers with a point."""
    if isinstance(value, dict):
        return {key: _told_apart(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_told_apart(item) for item in value]
    return 0.5 if isinstance(value, float) and value.is_integer() else value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)
