"""Requests that fail and watches that stand still, in a world."""

from __future__ import annotations

import pytest
from worlds import OWNER, Run, Shape

from lws_core import names
from lws_core.actions import Create
from lws_core.values import dig, evolve
from lws_sim import world as cluster
from lws_sim.faults import NO_FAULTS, Faults, perform, possible
from lws_sim.scenario import LOST, REPEATED, UNSENT


def with_a_request() -> tuple[cluster.World, cluster.Send]:
    """A world whose operator is about to create the leader StatefulSet."""
    world = Run(Shape(), style="cluster first").world
    while True:
        for task in cluster.tasks(world):
            if isinstance(task, cluster.Send) and isinstance(task.action, Create):
                if task.action.ref.kind == "StatefulSet":
                    return world, task
                break
        world = cluster.perform(world, task)


def has_leaders(world: cluster.World) -> bool:
    return world.store.get("StatefulSet", "default", "serve") is not None


@pytest.mark.parametrize(
    ("answer", "arrives", "attempts"),
    [(409, False, 1), (500, False, 1), (UNSENT, False, 1), (LOST, True, 1), (REPEATED, True, 1)],
)
def test_a_fault_must_meet_one_request_and_be_used_up(
    answer: int | str, arrives: bool, attempts: int
) -> None:
    world, send = with_a_request()
    after, left = perform(world, send, Faults((answer, 503)))
    assert left.answers == (503,)
    assert send not in after.sends
    assert has_leaders(after) is arrives
    retries = after.controllers[OWNER].memory.retries
    assert [retry.attempts for retry in retries.values()] == [attempts]  # of a repeated one, 409: it exists


def test_a_request_must_reach_the_server_where_no_fault_is_left() -> None:
    world, send = with_a_request()
    after, left = perform(world, send, NO_FAULTS)
    assert has_leaders(after)
    assert left == NO_FAULTS
    assert not after.controllers[OWNER].memory.retries


def test_a_repeated_write_must_be_answered_as_the_second_one_is() -> None:
    world, send = with_a_request()
    once, _ = cluster.carry_out(world, OWNER, send.action)
    _, second = cluster.carry_out(once, OWNER, send.action)
    assert second.code == 409


def test_a_watch_that_stands_still_must_keep_what_it_has_and_show_the_others() -> None:
    run = Run(Shape(replicas=1), style="cluster first")
    run.rest()
    run.edit(replicas=2)
    pod = run.pods()[0]
    run.hurt("unready", pod)
    world, held = run.world, Faults(held=frozenset({"Pod"}))
    (deliver,) = [task for task in possible(world, held) if isinstance(task, cluster.Deliver)]
    world, _ = perform(world, deliver, held)
    known = world.controllers[OWNER]
    assert [change.object["kind"] for change in known.inbox] == ["Pod"]
    assert known.memory.lws is not None
    assert known.memory.lws.spec.replicas == 2
    leader = known.memory.groups.get(0).group.leader
    assert leader is not None
    assert leader.ready
    assert not [task for task in possible(world, held) if isinstance(task, cluster.Deliver)]
    world, _ = perform(world, deliver, NO_FAULTS)
    leader = world.controllers[OWNER].memory.groups.get(0).group.leader
    assert leader is not None
    assert not leader.ready


def test_events_must_never_use_up_a_fault() -> None:
    run = Run(Shape(replicas=1), style="cluster first")
    run.rest()
    run.edit(template=2)
    faults, world = Faults((500,)), run.world
    while faults.answers:
        task = next(possible(world, faults))
        before = faults
        world, faults = perform(world, task, faults)
        if faults != before:
            assert isinstance(task, cluster.Send)
            assert isinstance(task.action, Create)
            assert dig(task.action.manifest, "kind") in ("ControllerRevision", names.KIND)
    assert evolve(world, sends=()).sends == ()
