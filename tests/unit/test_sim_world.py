"""What happens by itself in a world: chores, timers, watches, requests."""

from __future__ import annotations

import pytest
from clusters import a_pod, a_statefulset, an_object, owned_by
from worlds import OWNER, Run, Shape, ready_groups

from lws_core.actions import Read, Ref
from lws_core.observed import Node
from lws_core.sights import Outcome
from lws_core.values import FrozenMap, evolve
from lws_sim import world as cluster
from lws_sim.cluster import api, scheduler
from lws_sim.cluster.store import key_of, meta, name_of, terminating, uid_of, with_meta


def settled(world: cluster.World, until_s: float = float("inf")) -> cluster.World:
    while True:
        task = next(iter(cluster.tasks(world)), None)
        if task is not None:
            world = cluster.perform(world, task)
            continue
        next_s = cluster.next_timer_s(world)
        if next_s is None or next_s > until_s:
            return world
        world = cluster.advance(world, next_s)


def with_objects(world: cluster.World, *objects: FrozenMap) -> cluster.World:  # type: ignore[type-arg]
    for obj in objects:
        store, answer = api.create(world.store, obj, "user", world.rules, world.now_s)
        assert answer.ok
        world = cluster.write(world, store)
    return world


def pod_of(world: cluster.World, name: str) -> FrozenMap:  # type: ignore[type-arg]
    pod = world.store.get("Pod", "ns", name)
    assert pod is not None
    return pod


def test_a_pod_always_starts_at_once_and_is_ready_after_its_load() -> None:
    world = with_objects(cluster.new_world(timing=cluster.Timing(load_s=10.0)), a_statefulset(replicas=1))
    world = settled(world, world.now_s)
    assert meta(pod_of(world, "web-0"))["uid"]
    assert cluster.next_timer_s(world) == cluster.START_S + 10
    assert settled(world).now_s == cluster.START_S + 10


@pytest.mark.parametrize(("load", "ready_s"), [("never", None), ("3", 3.0)])
def test_a_pod_may_always_say_how_long_it_loads(load: str, ready_s: float | None) -> None:
    pod = a_pod("p", phase="Pending", metadata={"annotations": {cluster.LOAD: load}})
    world = with_objects(cluster.new_world(), pod)
    assert cluster.load_of_s(world, pod_of(world, "p")) == ready_s


def test_a_pod_always_ends_after_its_grace_or_when_it_stops() -> None:
    for grace_s, ends_s in ((30, 5.0), (3, 3.0)):
        pod = a_pod("p", phase="Pending", terminationGracePeriodSeconds=grace_s)
        world = settled(with_objects(cluster.new_world(), pod), cluster.START_S)
        store, _ = api.delete(world.store, key_of(pod), world.now_s)
        world = cluster.write(world, store)
        world = settled(world, cluster.START_S + ends_s - 0.1)
        assert terminating(pod_of(world, "p"))
        assert settled(world, cluster.START_S + ends_s).store.get("Pod", "ns", "p") is None


def test_a_sync_that_fails_is_always_repeated_later_and_later() -> None:
    """5 ms, doubling with each failure in a row, to 41 s after the 14th; 1000 s at most."""
    world = with_objects(cluster.new_world(), a_pod("web-0", phase="Pending"), a_statefulset(replicas=1))
    assert "ns/web" not in world.back_offs
    waits = []
    while len(waits) < 12:
        task = next(iter(cluster.tasks(world)), None)
        if task is not None:
            world = cluster.perform(world, task)
            continue
        (at_s,) = (at_s for at_s, _, timed in world.timers if isinstance(timed, cluster.Sync))
        waits.append((world.back_offs["ns/web"], round(at_s - world.now_s, 3)))
        world = cluster.advance(world, at_s)
    assert waits[:3] == [(2, 0.005), (3, 0.02), (4, 0.04)], (
        "the first wait is not put off by the second failure"
    )
    assert waits[-1] == (13, 20.48)
    world = settled(world, world.now_s)
    (at_s,) = (at_s for at_s, _, timed in world.timers if isinstance(timed, cluster.Sync))
    assert (world.back_offs["ns/web"], round(at_s - world.now_s, 3)) == (14, 40.96)
    for_ages = evolve(world, back_offs=world.back_offs.with_("ns/web", 5000))
    for_ages = cluster.perform(cluster.advance(for_ages, at_s), cluster.Sync("ns", "web"))
    (then_s,) = (then_s for then_s, _, timed in for_ages.timers if isinstance(timed, cluster.Sync))
    assert round(then_s - for_ages.now_s) == 1000
    world = cluster.write(world, world.store.remove(pod_of(world, "web-0")))
    assert settled(world, world.now_s + 40).store.get("Pod", "ns", "web-0") is None, "it waits all the same"
    assert settled(world).back_offs == {}
    assert settled(world).store.get("Pod", "ns", "web-0") is not None


def test_pods_that_wait_are_always_placed_once_there_is_room() -> None:
    node = scheduler.make_node("n0", allocatable=FrozenMap({"pods": "1"}))
    world = with_objects(
        cluster.new_world(nodes=(node,)), a_pod("a", phase="Pending"), a_pod("b", phase="Pending")
    )
    world = settled(world)
    assert "nodeName" not in pod_of(world, "b")["spec"]  # type: ignore[operator]
    more = cluster.write(world, world.store.insert(scheduler.make_node("n1"), world.now_s)[0])
    assert pod_of(settled(more), "b")["spec"]["nodeName"] == "n1"  # type: ignore[index, call-overload]
    freed = cluster.write(world, world.store.remove(pod_of(world, "a")))
    assert pod_of(settled(freed), "b")["spec"]["nodeName"] == "n0"  # type: ignore[index, call-overload]


def test_dependents_of_what_is_gone_always_go() -> None:
    world = with_objects(cluster.new_world(), an_object("Thing", "owner"))
    owner = world.store.get("Thing", "ns", "owner")
    assert owner is not None
    child = an_object("Thing", "child", {"ownerReferences": [owned_by(owner)]})
    world = with_objects(world, child)
    assert settled(cluster.write(world, world.store.remove(owner))).store.all("Thing") == ()
    late = with_objects(cluster.write(world, world.store.remove(owner)), an_object("Thing", "late", {
        "ownerReferences": [owned_by(owner)]}))  # fmt: skip
    assert settled(late).store.all("Thing") == ()


def test_tasks_that_nothing_calls_for_any_more_never_do_anything() -> None:
    world = settled(with_objects(cluster.new_world(), a_pod("p", phase="Pending")))
    version = world.store.version
    for task in (
        cluster.Sync("ns", "none"),
        cluster.Collect("Thing/ns/none"),
        cluster.Place("Pod/ns/p", uid_of(pod_of(world, "p"))),
        cluster.Ready("Pod/ns/p", "another"),
        cluster.End("Pod/ns/p", uid_of(pod_of(world, "p"))),
    ):
        world = cluster.perform(world, task)
    assert world.store.version == version


def test_an_answer_in_the_servers_place_never_reaches_the_store() -> None:
    run = Run(Shape(replicas=1, size=1), style="cluster first")
    world = run.world
    while not world.sends:
        world = cluster.perform(world, next(iter(cluster.tasks(world))))
    version = world.store.version
    for send in world.sends:
        world = cluster.perform(world, send, lambda _: Outcome(500))
    assert world.store.version == version
    assert world.controllers[OWNER].memory.retries


def test_a_controller_that_restarts_always_sees_everything_and_writes_nothing() -> None:
    run = Run(Shape(replicas=3), style="cluster first")
    run.rest()
    before = run.world.store.version
    run.restart_controller()
    run.rest()
    assert run.world.store.version == before
    assert ready_groups(run.world) == {0, 1, 2}
    fresh = run.world.controllers[OWNER].memory
    assert fresh.synced
    assert fresh.lws is not None


def test_a_node_is_always_there_to_be_read_unless_the_cluster_has_its_own() -> None:
    for nodes, code in (((), 200), ((scheduler.make_node("n0"),), 404)):
        world = cluster.put_set(cluster.new_world(nodes=nodes), Shape().manifest)
        _, outcome = cluster.carry_out(world, OWNER, Read(Ref("Node", "", "n9"), "by hand"))
        assert outcome.code == code
        if code == 200:
            assert outcome.thing == Node("n9", FrozenMap(), ready=True)


def test_the_tally_always_counts_pods() -> None:
    run = Run(Shape(replicas=2, size=2), style="cluster first")
    run.rest()
    assert (run.world.tally.pods, run.world.tally.created) == (4, 4)
    run.edit(replicas=1)
    run.rest()
    assert (run.world.tally.pods, run.world.tally.created) == (2, 4)
    assert [name_of(pod) for pod in run.pods()] == ["serve-0", "serve-0-1"]


def test_an_object_that_is_given_an_owner_that_is_not_there_must_go() -> None:
    world = with_objects(cluster.new_world(), an_object("Thing", "owner"), an_object("Thing", "child"))
    owner, child = (world.store.get("Thing", "ns", name) for name in ("owner", "child"))
    assert owner is not None
    assert child is not None
    world = cluster.write(world, world.store.remove(owner))
    orphaned = with_meta(child, ownerReferences=(FrozenMap(owned_by(owner)),))
    world = cluster.write(world, world.store.replace(child, orphaned)[0])
    assert settled(world).store.all("Thing") == ()
