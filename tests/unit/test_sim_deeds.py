from __future__ import annotations

from typing import Any

import attrs
import pytest
from clusters import is_ready
from worlds import Shape

from lws_core import names
from lws_core.values import as_map, as_maps, dig, freeze, freeze_map
from lws_sim import scenario as script
from lws_sim import world as cluster
from lws_sim.cluster.store import Object, meta, terminating
from lws_sim.deeds import ImpossibleStep, Player, is_shown, make_nodes, set_field, take, tell


def settled(world: cluster.World) -> cluster.World:
    while True:
        task = next(iter(cluster.tasks(world)), None)
        if task is not None:
            world = cluster.perform(world, task)
            continue
        next_s = cluster.next_timer_s(world)
        if next_s is None:
            return world
        world = cluster.advance(world, next_s)


def a_player(**shape: Any) -> Player:
    """A set of two groups of two at rest."""
    manifest = Shape(**{"replicas": 2, **shape}).manifest
    world = cluster.put_set(cluster.new_world(timing=cluster.Timing(load_s=10.0)), manifest)
    return Player(settled(world), manifest)


def do(player: Player, *deeds: script.Deed) -> Player:
    return take(player, script.Step(deeds))


def settle(player: Player) -> Player:
    return attrs.evolve(player, world=settled(player.world))


def pod(player: Player, name: str) -> Object:
    found = player.world.store.get("Pod", "default", name)
    assert found is not None
    return found


def stored_spec(player: Player) -> Any:
    found = player.world.store.get(names.KIND, "default", "serve")
    assert found is not None
    return as_map(found["spec"])


# -- edits


def test_fields_are_always_set_in_the_cluster_too() -> None:
    player = do(
        a_player(), script.SetField("spec.replicas", 3), script.SetField("metadata.annotations.a.b/c", "x")
    )
    assert stored_spec(player)["replicas"] == 3
    stored = player.world.store.get(names.KIND, "default", "serve")
    assert dig(stored, "metadata", "annotations", "a.b/c") == "x"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("a.b", 1, {"a": {"b": 1, "list": [{"x": 1}]}}),
        ("c.d", 1, {"a": {"list": [{"x": 1}]}, "c": {"d": 1}}),
        ("a.list[0].x", 2, {"a": {"list": [{"x": 2}]}}),
        ("a[b.c/d]", 3, {"a": {"list": [{"x": 1}], "b.c/d": 3}}),
        ("a.list", None, {"a": {}}),
        ("a.none", None, {"a": {"list": [{"x": 1}]}}),
    ],
)
def test_paths_always_lead_where_they_say(path: str, value: Any, expected: Any) -> None:
    assert set_field(freeze_map({"a": {"list": [{"x": 1}]}}), path, value) == freeze(expected)


@pytest.mark.parametrize("path", ["a[", "a..b", "list[1].x", "list[x]", "number.x", "list.y"])
def test_a_path_that_leads_nowhere_is_always_an_impossible_step(path: str) -> None:
    with pytest.raises(ImpossibleStep):
        set_field(freeze_map({"list": [{"x": 1}], "number": 1}), path, 1)


def test_edits_that_the_api_refuses_are_always_impossible() -> None:
    player = a_player()
    with pytest.raises(ImpossibleStep, match=r"spec.replicas"):
        do(player, script.SetField("spec.replicas", -1))
    assert stored_spec(do(player, script.Scale(1)))["replicas"] == 1


def test_templates_always_change_and_come_back() -> None:
    player = a_player()
    first = dig(player.manifest, "spec", "leaderWorkerTemplate")
    changed = do(player, script.ChangeTemplate(load_s=script.NEVER, image="img:9"))
    template = dig(changed.manifest, "spec", "leaderWorkerTemplate", "workerTemplate")
    assert dig(template, "metadata", "annotations", cluster.LOAD) == "never"
    (container,) = as_maps(dig(template, "spec", "containers"))
    assert container["image"] == "img:9"
    again = do(changed, script.ChangeTemplate())
    assert dig(again.manifest, "spec", "leaderWorkerTemplate") != dig(
        changed.manifest, "spec", "leaderWorkerTemplate"
    )
    annotations = dig(
        again.manifest, "spec", "leaderWorkerTemplate", "workerTemplate", "metadata", "annotations"
    )
    assert cluster.LOAD not in as_map(annotations)
    back = do(changed, script.Revert())
    assert dig(back.manifest, "spec", "leaderWorkerTemplate") == first
    forth = do(back, script.Revert())
    assert dig(forth.manifest, "spec", "leaderWorkerTemplate") == dig(
        changed.manifest, "spec", "leaderWorkerTemplate"
    )
    with pytest.raises(ImpossibleStep, match="no earlier template"):
        do(player, script.Revert())


def test_a_set_always_becomes_the_manifest_that_is_given() -> None:
    player = a_player()
    other = Shape(replicas=1, template=2).manifest
    assert stored_spec(do(player, script.Become(other))) == other["spec"]


# -- what befalls pods


def test_groups_always_turn_ready_as_a_whole_and_fall_by_their_leader() -> None:
    player = do(a_player(), script.TurnReady((1,), False))
    assert not is_ready(pod(player, "serve-1"))
    assert is_ready(pod(player, "serve-1-1"))
    player = do(player, script.TurnReady((1,), True))
    assert is_ready(pod(player, "serve-1"))


def test_what_befalls_a_pod_always_shows() -> None:
    player = a_player(restart_policy="None")
    crashed = pod(do(player, script.Crash((script.Place(0, 1),))), "serve-0-1")
    (status,) = as_maps(dig(crashed, "status", "containerStatuses"))
    assert (status["restartCount"], is_ready(crashed)) == (1, False)
    evicted = pod(do(player, script.Evict((script.Place(1),))), "serve-1")
    assert dig(evicted, "status", "phase") == "Failed"
    assert terminating(pod(do(player, script.DeletePods((script.Place(1),))), "serve-1"))
    assert is_ready(pod(settle(do(player, script.Crash((script.Place(0, 1),)))), "serve-0-1"))


def test_pods_that_are_not_there_are_always_an_impossible_step() -> None:
    for place in (script.Place(7), script.Place(0, 5)):
        with pytest.raises(ImpossibleStep, match="there is no pod"):
            do(a_player(), script.Crash((place,)))


def test_a_lost_node_always_holds_what_terminates_until_it_is_back() -> None:
    player = do(a_player(restart_policy="None"), script.LoseNode((script.Place(1),)))
    assert not is_ready(pod(player, "serve-1"))
    uid = meta(pod(player, "serve-1"))["uid"]
    player = settle(do(player, script.DeletePods((script.Place(1),))))
    assert meta(pod(player, "serve-1"))["uid"] == uid
    player = settle(do(player, script.LoseNode((script.Place(1),), back=True)))
    assert meta(pod(player, "serve-1"))["uid"] != uid
    assert is_ready(pod(player, "serve-1"))


def test_a_slow_group_is_never_ready_before_its_time() -> None:
    player = do(a_player(), script.SlowLoad(1, script.NEVER), script.DeletePods((script.Place(1),)))
    player = settle(player)
    assert not is_ready(pod(player, "serve-1"))
    assert is_ready(pod(player, "serve-0"))


def test_the_operator_and_the_set_can_always_go() -> None:
    player = settle(do(a_player(), script.RestartOperator()))
    assert is_ready(pod(player, "serve-1"))
    player = settle(do(player, script.DeleteSet()))
    assert player.world.store.all("Pod") == ()


def test_a_killed_pod_is_always_gone_at_once() -> None:
    player = a_player(restart_policy="None", grace_s=30)
    uid = meta(pod(player, "serve-1"))["uid"]
    assert terminating(pod(do(player, script.DeletePods((script.Place(1),))), "serve-1"))
    player = do(player, script.Kill((script.Place(1),)))
    assert player.world.store.get("Pod", "default", "serve-1") is None
    assert meta(pod(settle(player), "serve-1"))["uid"] != uid


def test_a_set_always_comes_back_as_it_was_once_it_is_gone() -> None:
    player = a_player()
    with pytest.raises(ImpossibleStep, match="the set is there"):
        do(player, script.CreateSet())
    player = settle(do(player, script.DeleteSet()))
    assert is_ready(pod(settle(do(player, script.CreateSet())), "serve-1-1"))


SERVE = script.Target("StatefulSet", "serve")


def edit(path: str, value: Any, target: script.Target = SERVE) -> script.EditObject:
    return script.EditObject(target, freeze_map({path: value}))


def test_hand_edits_always_reach_the_object_and_are_healed() -> None:
    player = do(
        a_player(),
        edit("spec.replicas", 5),
        edit("spec.template.spec.containers[0].image", "by-hand"),
        edit("metadata.labels.note", "x"),
    )
    edited = player.world.store.get("StatefulSet", "default", "serve")
    assert dig(edited, "spec", "replicas") == 5
    assert dig(edited, "spec", "template", "spec", "containers")[0]["image"] == "by-hand"  # type: ignore
    healed = settle(player).world.store.get("StatefulSet", "default", "serve")
    assert dig(healed, "spec", "replicas") == 2
    assert dig(healed, "spec", "template", "spec", "containers")[0]["image"] == "img:1"  # type: ignore
    assert dig(healed, "metadata", "labels", "note") == "x"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", "5"),
        ("spec.replicas", -1),
        ("spec.replicas", True),
        ("spec.replicas", None),
        ("spec.template", {}),
        ("spec.nothing", 1),
        ("spec.serviceName", "other"),
        ("metadata.labels.note", 1),
    ],
)
def test_hand_edits_that_no_server_takes_are_always_impossible(path: str, value: Any) -> None:
    with pytest.raises(ImpossibleStep):
        do(a_player(), edit(path, value))


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("spec.replicas", "5", "spec.replicas: must be a whole number: an edit by hand keeps the type"),
        ("spec.serviceName", 5, "spec.serviceName: must be a string: an edit by hand keeps the type"),
        ("spec.replicas", -1, "spec.replicas: must not begin with a minus sign"),
        ("spec.nothing", 1, "spec.nothing: is null: only a string, a whole number, true and false can be"),
    ],
)
def test_hand_edits_that_are_impossible_must_say_why(path: str, value: Any, problem: str) -> None:
    with pytest.raises(ImpossibleStep, match=problem):
        do(a_player(), edit(path, value))


def test_objects_that_are_deleted_by_hand_always_come_back() -> None:
    player = a_player()
    service = script.Target("Service", "serve")
    uid = meta(player.world.store.get("Service", "default", "serve") or freeze_map({}))["uid"]
    player = do(player, script.DeleteObject((service,)))
    assert player.world.store.get("Service", "default", "serve") is None
    back = settle(player).world.store.get("Service", "default", "serve")
    assert back is not None
    assert meta(back)["uid"] != uid


@pytest.mark.parametrize(("kind", "name"), [("Service", "other"), (names.KIND, "serve")])
def test_objects_that_are_not_there_and_the_set_are_never_edited_by_hand(kind: str, name: str) -> None:
    for deed in (
        edit("spec.replicas", 1, script.Target(kind, name)),
        script.DeleteObject((script.Target(kind, name),)),
    ):
        with pytest.raises(ImpossibleStep, match=f"no {kind} {name} that belongs to the set at that moment"):
            do(a_player(), deed)


def test_nodes_that_join_always_get_numbers_of_their_own() -> None:
    nodes = script.Nodes(2, freeze_map({"zone": "z{i}"}), freeze_map({"cpu": "4"}))  # type: ignore[arg-type]
    made = make_nodes(nodes, 3)
    assert [meta(node)["name"] for node in made] == ["node-3", "node-4"]
    assert [dig(node, "metadata", "labels", "zone") for node in made] == ["z0", "z1"]
    assert dig(made[0], "status", "allocatable") == freeze_map({"pods": "110", "cpu": "4"})
    with pytest.raises(ImpossibleStep, match="allocatable cpu"):
        make_nodes(script.Nodes(1, allocatable=freeze_map({"cpu": "x"})), 0)
    player = do(a_player(), script.AddNodes(script.Nodes(2)), script.AddNodes(script.Nodes(1)))
    assert len(player.world.store.all("Node")) == 3


# -- words


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (script.SetField("spec.replicas", 3), "spec.replicas becomes 3"),
        (script.SetField("metadata.labels.a", "b"), "metadata.labels.a becomes b"),
        (script.Become(freeze_map({})), "the manifest changes"),
        (script.ChangeTemplate(), "template changes"),
        (script.Revert(), "template is reverted"),
        (script.Scale(4), "scaled to 4"),
        (script.TurnReady((1, 2), True), "R-1, R-2 ready"),
        (script.TurnReady((1,), False), "R-1 falls unready"),
        (script.TurnReady((1, 2), False), "R-1, R-2 fall unready"),
        (script.Crash((script.Place(1), script.Place(2, 1))), "R-1, R-2 worker 1 crashes"),
        (script.Evict((script.Place(1),)), "R-1 evicted"),
        (script.DeletePods((script.Place(1),)), "R-1 deleted"),
        (script.LoseNode((script.Place(1),)), "node of R-1 is lost"),
        (script.LoseNode((script.Place(1),), back=True), "node of R-1 is back"),
        (script.SlowLoad(1, 90), "R-1 will take 90s to load"),
        (script.SlowLoad(1, script.NEVER), "R-1 will never load"),
        (script.AddNodes(script.Nodes(2)), "2 nodes join"),
        (script.DeleteSet(), "the set is deleted"),
        (script.CreateSet(), "the set is created again"),
        (script.RestartOperator(), "operator restarts"),
        (script.Kill((script.Place(1),)), "R-1 killed"),
        (script.FailRequests(409), "the next request fails with 409"),
        (script.FailRequests(500, 2), "the next 2 requests fail with 500"),
        (script.FailRequests(script.LOST), "the next request is lost"),
        (script.FailRequests(script.REPEATED, 2), "the next 2 requests are repeated"),
        (script.HoldWatch(("Pod", "Node")), "the watch of Pod, Node stands still"),
        (script.HoldWatch(("Pod",), held=False), "the watch of Pod goes on"),
        (
            script.EditObject(script.Target("StatefulSet", "serve"), freeze_map({"spec.replicas": 3})),
            "StatefulSet serve: spec.replicas becomes 3",
        ),
        (script.DeleteObject((script.Target("Service", "serve"),)), "Service serve deleted"),
    ],
)
def test_each_deed_always_has_its_words(deed: script.Deed, words: str) -> None:
    assert tell(deed) == words
    assert is_shown(deed) is isinstance(deed, script.TurnReady | script.ChangeTemplate)
