from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_json

from lws_core.errors import InvalidManifest
from lws_core.values import Json, freeze, freeze_map
from lws_sim import scenario as script
from lws_sim.scenario import parse_duration_s, read_scenario

HEAD = {"apiVersion": "simulation.lws.x-k8s.io/v1", "kind": "Scenario"}


def read(*steps: dict[str, Any], **fields: Any) -> script.Scenario:
    return read_scenario(freeze({**HEAD, "steps": list(steps), **fields}))


def faults(document: object) -> list[str]:
    with pytest.raises(InvalidManifest) as caught:
        read_scenario(freeze(document))
    return [str(error) for error in caught.value.errors]


def faults_of(*steps: Any, **fields: Any) -> list[str]:
    return faults({**HEAD, "steps": list(steps), **fields})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m", 120), ("1h30m", 5400), ("1.5h", 5400), ("1h1m1s", 3661), (5, 5), (0.5, 0.5), (0, 0)],
)
def test_durations_are_always_seconds(text: Json, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "90", "1d", "s", "-5s", "1s1m", "1..5s", "٣s", -1, True, None, ()],
)
def test_anything_else_is_never_a_duration(text: Json) -> None:
    with pytest.raises(ValueError, match="90s"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", [10**400, 10**9 + 1, float("inf"), "300000h", "9" * 400 + "h"])
def test_duration_that_is_too_long_always_is_told_how_long_it_may_be(text: Json) -> None:
    with pytest.raises(ValueError, match="must be 1000000000 seconds at most"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "90s"), (1.5, "1.5s"), (120, "2m"), (250, "4m10s"), (7200, "2h"), (7500, "2h05m")],
)
def test_durations_are_always_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert script.duration(seconds) == text


@pytest.mark.parametrize(
    ("step", "deeds"),
    [
        ({"set": {"spec.replicas": 3}}, (script.SetField("spec.replicas", 3),)),
        ({"template": {}}, (script.ChangeTemplate(),)),
        ({"template": {"load": "never", "image": "x"}}, (script.ChangeTemplate(script.NEVER, "x"),)),
        ({"revert": True}, (script.Revert(),)),
        ({"scale": 4}, (script.Scale(4),)),
        ({"ready": [1, 2]}, (script.TurnReady((1, 2), True),)),
        ({"unready": 1}, (script.TurnReady((1,), False),)),
        ({"crash": [3]}, (script.Crash((script.Place(3),)),)),
        ({"evict": {"group": 1, "worker": 2}}, (script.Evict((script.Place(1, 2),)),)),
        ({"delete": [{"group": 1}]}, (script.DeletePods((script.Place(1),)),)),
        ({"loseNode": [0]}, (script.LoseNode((script.Place(0),)),)),
        ({"restoreNode": [0]}, (script.LoseNode((script.Place(0),), back=True),)),
        ({"load": {"2": "5m", "3": "never"}}, (script.SlowLoad(2, 300), script.SlowLoad(3, script.NEVER))),
        ({"addNodes": [{"count": 2}]}, (script.AddNodes(script.Nodes(2)),)),
        ({"deleteSet": True}, (script.DeleteSet(),)),
        ({"createSet": True}, (script.CreateSet(),)),
        ({"restartOperator": True}, (script.RestartOperator(),)),
        ({"kill": [0]}, (script.Kill((script.Place(0),)),)),
        ({"failRequests": {"with": 409, "count": 3}}, (script.FailRequests(409, 3),)),
        ({"failRequests": {"with": "lost"}}, (script.FailRequests(script.LOST),)),
        ({"holdWatch": ["Pod", "Node"]}, (script.HoldWatch(("Pod", "Node")),)),
        ({"releaseWatch": "Pod"}, (script.HoldWatch(("Pod",), held=False),)),
        (
            {"edit": {"StatefulSet/serve": {"spec.replicas": 7}}},
            (
                script.EditObject(
                    script.Target("StatefulSet", "serve"),
                    freeze_map({"spec.replicas": 7}),
                ),
            ),
        ),
        ({"deleteObject": "Service/serve"}, (script.DeleteObject((script.Target("Service", "serve"),)),)),
        ({"scale": 4, "crash": 1}, (script.Scale(4), script.Crash((script.Place(1),)))),
    ],
)
def test_each_deed_is_always_read(step: dict[str, Any], deeds: tuple[script.Deed, ...]) -> None:
    assert read(step).steps == (script.Step(deeds),)


def test_times_and_conditions_are_always_read() -> None:
    steps = read(
        {"scale": 1, "at": "1m"},
        {"scale": 2, "after": 5},
        {"scale": 3, "when": {"ready": 1, "updated": 2, "partition": 3, "replicas": 4}},
        {"scale": 4, "events": 7},
        {"after": 9},
    ).steps
    assert (steps[0].at_s, steps[1].after_s) == (60, 5)
    assert steps[2].when == script.Condition(1, 2, 3, 4)
    assert steps[3].event_count == 7
    assert steps[4] == script.Step((), after_s=9)


def test_the_cluster_is_always_read() -> None:
    nodes = [{"count": 3, "labels": {"zone": "{i}"}, "allocatable": {"cpu": 4}}]
    setting = {"maxUnavailableStatefulSet": True, "load": "manual", "stop": "2m", "nodes": nodes}
    cluster = read({"scale": 1}, cluster=setting).cluster
    assert (cluster.gate, cluster.load_s, cluster.stop_s) == (True, None, 120)
    assert cluster.nodes[0].count == 3
    assert cluster.nodes[0].labels == {"zone": "{i}"}
    assert cluster.nodes[0].allocatable == {"cpu": 4}
    assert read({"scale": 1}).cluster == script.Cluster()
    assert read({"scale": 1}, cluster={"seed": 3}).cluster.seed == 3
    assert [read({"scale": 1}, strict=strict).strict for strict in (True, False)] == [True, False]


def test_every_fault_is_always_told_at_once_with_its_path() -> None:
    assert [line.split(":")[0] for line in faults(
        {
            "kind": "Scenari",
            "cluster": {"maxUnavailableStatefulSet": 1, "load": "x", "nodes": [{"count": -1}]},
            "steps": [
                {"sacle": 3},
                {},
                {"at": 1, "after": 2, "crash": ["a", {"group": 1, "wroker": 2}]},
                {"scale": True, "load": {"x": "1m", "1": "y"}},
                {"set": {"status.replicas": 1}},
                {"when": {"ready": -1, "sides": 2}, "revert": False, "template": {"image": 3}},
                7,
            ],
        }
    )] == [
        "apiVersion",
        "kind",
        "steps[0].sacle",
        "steps[1]",
        "steps[2].crash[0]",
        "steps[2].crash[1].wroker",
        "steps[2].after",
        "steps[3].scale",
        "steps[3].load",
        "steps[3].load[1]",
        "steps[4].set",
        "steps[5].template.image",
        "steps[5].revert",
        "steps[5].when.sides",
        "steps[5].when.ready",
        "steps[6]",
        "cluster.maxUnavailableStatefulSet",
        "cluster.load",
        "cluster.nodes[0].count",
    ]  # fmt: skip


def test_unknown_fields_always_come_with_a_hint() -> None:
    (near,) = faults_of({"scale": 1}, clutser={})
    assert near.startswith("clutser: ")
    assert 'did you mean "cluster"?' in near
    (far,) = faults_of({"scale": 1}, zzz=1)
    assert "known are apiVersion, kind, metadata, cluster, strict, steps" in far


def test_a_script_always_has_steps() -> None:
    assert "steps" in faults(HEAD)[0]
    assert "must have at least one step" in faults({**HEAD, "steps": []})[0]
    assert "must be a list" in faults({**HEAD, "steps": {}})[0]
    assert "must wait or do something" in faults_of({})[0]


@pytest.mark.parametrize("count", [10_001, 2**31, 10**30])
def test_a_cluster_never_has_more_nodes_than_can_be_simulated(count: int) -> None:
    assert len(faults_of({"scale": 1}, cluster={"nodes": [{"count": count}]})) == 1


@pytest.mark.parametrize("group", ["-1", "1.5", "", "²", "9" * 5000])
def test_a_group_is_only_ever_named_by_its_index(group: str) -> None:
    assert "must be the index of a group" in faults_of({"load": {group: "1m"}})[0]


_WORDS = st.sampled_from(
    (
        *(
            "apiVersion",
            "kind",
            "cluster",
            "steps",
            "at",
            "after",
            "when",
            "group",
            "worker",
            "count",
            "labels",
        ),
        *(
            "set",
            "template",
            "revert",
            "scale",
            "ready",
            "unready",
            "crash",
            "evict",
            "delete",
            "loseNode",
            "load",
        ),
        *(
            "restoreNode",
            "addNodes",
            "deleteSet",
            "restartOperator",
            "allocatable",
            "image",
            "stop",
            "nodes",
            "0",
        ),
        "x",
    )
)


def _documents() -> st.SearchStrategy[Json]:
    """JSON that uses the words of a scenario, in any place."""
    scalars = st.sampled_from(("never", "manual", "1m", "", *HEAD.values())) | any_json(1)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
        max_leaves=25,
    ).map(freeze)


@given(any_json() | _documents())
def test_reading_anything_at_all_never_fails_but_by_its_faults(document: Json) -> None:
    _read_or_faults(document)


@given(st.lists(_documents(), max_size=3), _documents())
def test_reading_hostile_steps_never_fails_but_by_their_faults(steps: list[Json], cluster: Json) -> None:
    _read_or_faults(freeze({**HEAD, "steps": steps, "cluster": cluster}))


def _read_or_faults(document: Json) -> None:
    faults: list[str] = []
    try:
        scenario = read_scenario(document)
    except InvalidManifest as refused:
        faults = [str(error) for error in refused.errors]
        scenario = script.Scenario(())
    assert all(faults)
    assert faults or all(step.deeds for step in scenario.steps)


@pytest.mark.parametrize(
    ("step", "where", "what"),
    [
        ({"failRequests": {"with": 404}}, "steps[0].failRequests.with", "must be one of 403, 409,"),
        ({"failRequests": {"with": True}}, "steps[0].failRequests.with", "must be one of"),
        ({"failRequests": {}}, "steps[0].failRequests.with", "must be one of"),
        ({"failRequests": {"with": 409, "count": 1001}}, "steps[0].failRequests.count", "at most 1000"),
        ({"holdWatch": ["Pods"]}, "steps[0].holdWatch[0]", "must be one of LeaderWorkerSet, StatefulSet,"),
        ({"edit": {"serve": {}}}, "steps[0].edit", "must be kind and name"),
        ({"edit": {"Service/a": {"kind": "Pod"}}}, "steps[0].edit[Service/a]", "must be a path such as"),
        ({"deleteObject": [7]}, "steps[0].deleteObject[0]", "must be kind and name"),
        ({"createSet": False}, "steps[0].createSet", "must be true, or left out"),
        ({"when": {}}, "steps[0].when", "must name a count to wait for: one of ready, updated, partition,"),
        ({"events": -1}, "steps[0].events", "must be a whole number"),
        ({"events": 2**31}, "steps[0].events", "must be at most 2147483647"),
        ({"at": 10**10}, "steps[0].at", "must be 1000000000 seconds at most"),
        (
            {"addNodes": [{"count": 6000}, {"count": 4001}]},
            "steps[0].addNodes[1].count",
            "all nodes of a scenario must be at most 10000, and are 10001 with it",
        ),
    ],
)
def test_faults_of_requests_watches_and_edits_are_always_told(
    step: dict[str, Any], where: str, what: str
) -> None:
    (fault,) = faults_of(step)
    assert fault.startswith(f"{where}: ")
    assert what in fault


def test_flags_of_a_scenario_are_never_anything_else() -> None:
    assert [fault.split(":")[0] for fault in faults_of({"scale": 1}, strict=1, cluster={"seed": "x"})] == [
        "cluster.seed",
        "strict",
    ]
