"""The rules of a whole run: each fires on a run that breaks it, and is silent on one that does not."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from worlds import OWNER, Run, Shape

from lws_core import names
from lws_core.codec import decode
from lws_core.values import canonical, evolve, freeze_map
from lws_sim import scenario as script
from lws_sim import simulation as simulating
from lws_sim import world as cluster
from lws_sim.census import Standing
from lws_sim.cluster import kubelet
from lws_sim.cluster.store import Object, Store, label, name_of, owners, uid_of
from lws_sim.deeds import Player
from lws_sim.ends import differences, end_of
from lws_sim.persistent import PersistentMap
from lws_sim.simulation import Simulation
from lws_sim.strictness import Strictness, judge_end, judge_requests, judge_silence

SPEC = decode(Shape(replicas=4, max_unavailable=1).manifest).spec
STANDING = Standing(partition=2, replicas=4, groups="oonn")
HARMS: tuple[script.Deed, ...] = (
    script.Crash((script.Place(0),)),
    script.Kill((script.Place(0),)),
    script.TurnReady((0,), False),
    script.DeleteObject((script.Target("Service", "serve"),)),
)


def rested() -> Strictness:
    found = Strictness()
    found.note_rest(SPEC)
    return found


def at_rest(**shape: Any) -> cluster.World:
    run = Run(Shape(**shape), style="cluster first")
    run.rest()
    return run.world


@pytest.mark.parametrize(
    ("groups", "judged"),
    [("oonnn", False), ("nonnn", True), ("oo", True), ("tt", True), ("ln", False), ("nl", True)],
)
def test_the_floor_must_not_be_judged_where_scaling_down_leaves_groups_in_replacement(
    groups: str, judged: bool
) -> None:
    spec = decode(Shape(replicas=1, max_unavailable=0, max_surge=1).manifest).spec
    for deeds, wanted in (((script.Scale(1),), True), ((script.ChangeTemplate(), script.Scale(1)), judged)):
        found = rested()
        for deed in deeds:
            found.note_deeds((deed,), spec, Standing(0, len(groups), groups))
        assert bool(found.judge_ready(0)) == wanted


def test_fewer_ready_groups_than_the_floor_must_break_a_rule_while_nothing_failed() -> None:
    found = rested()
    found.note_deeds(
        (script.ChangeTemplate(), script.RestartOperator(), script.FailRequests(500)), SPEC, STANDING
    )
    assert found.judge_ready(3) == []
    assert [violation.rule for violation in found.judge_ready(2)] == ["floor"]


@pytest.mark.parametrize("harm", HARMS)
def test_the_floor_must_not_be_judged_from_a_failure_until_the_next_rest(harm: script.Deed) -> None:
    found = rested()
    found.note_deeds((harm,), SPEC, STANDING)
    assert found.judge_ready(0) == []
    found.note_rest(SPEC)
    assert len(found.judge_ready(0)) == 1


def test_the_floor_must_be_the_lowest_that_was_asked_for_since_the_last_rest() -> None:
    found = rested()
    lower = decode(Shape(replicas=4, max_unavailable=3).manifest).spec
    found.note_deeds((script.SetField("spec.x", 1),), lower, STANDING)
    found.note_deeds((script.SetField("spec.x", 1),), SPEC, STANDING)
    assert found.judge_ready(1) == []
    assert len(found.judge_ready(0)) == 1
    found.note_rest(SPEC)
    assert len(found.judge_ready(2)) == 1


def test_slow_pods_must_end_the_judging_of_the_floor_for_good() -> None:
    for deed in (script.SlowLoad(0, 900.0), script.ChangeTemplate(load_s=script.NEVER)):
        found = rested()
        found.note_deeds((deed,), SPEC, STANDING)
        found.note_rest(SPEC)
        assert found.judge_ready(0) == []


def test_a_request_that_is_sent_twice_must_break_a_rule() -> None:
    world = Run(Shape(), style="cluster first").world
    while not world.sends:
        world = cluster.perform(world, next(cluster.tasks(world)))
    assert judge_requests(world) == []
    again = evolve(world, sends=(*world.sends, world.sends[0]))
    assert [violation.rule for violation in judge_requests(again)] == ["twice"]


def test_a_write_at_rest_must_break_a_rule() -> None:
    world = at_rest(replicas=2)
    assert judge_silence(world, OWNER) == []
    known = world.controllers[OWNER]
    moved = evolve(known, memory=evolve(known.memory, statefulset=None, lineage=None))
    found = judge_silence(evolve(world, controllers=world.controllers.with_(OWNER, moved)), OWNER)
    assert [violation.rule for violation in found] == ["silence"]
    assert "Create StatefulSet serve" in found[0].text


def test_what_is_left_over_or_missing_or_different_must_break_a_rule() -> None:
    fresh = at_rest(replicas=2)
    assert judge_end(at_rest(replicas=2), fresh) == []
    (more,) = judge_end(at_rest(replicas=3), fresh)
    assert "LeaderWorkerSet/default/serve.spec.replicas is 3, not 2" in more.text
    assert " more" in more.text
    run = Run(Shape(replicas=2), style="cluster first")
    run.rest()
    fallen = cluster.write(run.world, kubelet.set_ready(run.world.store, run.pods()[0], False, 0.0))
    (other,) = judge_end(fallen, fresh)
    assert other.text.startswith("Pod/default/serve-0.status.containerStatuses is ")


def test_other_names_of_the_same_revision_must_break_no_rule_where_one_was_deleted_by_hand() -> None:
    fresh = at_rest(replicas=2)
    key = str(label(fresh.store.all("StatefulSet")[0], names.REVISION_KEY))
    renamed = evolve(fresh, store=renamed_in(fresh.store, key))
    assert [violation.rule for violation in judge_end(renamed, fresh)] == ["end"]
    assert judge_end(renamed, fresh, renamed=True) == []
    (more,) = judge_end(at_rest(replicas=3), fresh, renamed=True)
    assert "replicas is 3, not 2" in more.text
    found = Strictness()
    found.note_deeds((script.DeleteObject((script.Target("Service", "serve"),)),), SPEC, STANDING)
    assert not found.renamed
    revision = script.Target("ControllerRevision", f"serve-{key}-1")
    found.note_deeds((script.DeleteObject((revision,)),), SPEC, STANDING)
    assert found.renamed


def renamed_in(store: Store, key: str) -> Store:
    """The store with another key for the revision, wherever it is named."""
    objects: PersistentMap[Object] = PersistentMap()
    for place, obj in store.objects.items():
        renamed = json.loads(canonical(obj).replace(key, "other"))
        objects = objects.put(place.replace(key, "other"), freeze_map(renamed))
    return evolve(store, objects=objects)


def test_differences_must_name_what_is_missing_and_what_is_left_over() -> None:
    assert differences({"a": 1, "b": {"c": 1}}, {"b": {"c": 2}, "d": 3}) == [
        "b.c is 1, not 2",
        "d is missing",
        "a is left over",
    ]


def test_ends_must_not_tell_how_a_set_came_there() -> None:
    run = Run(Shape(replicas=2), seed=3)
    run.rest()
    run.edit(template=2)
    run.rest()
    run.hurt("crash", run.pods()[0])
    run.restart_controller()
    run.rest()
    assert end_of(run.world) == end_of(at_rest(replicas=2, template=2))


def a_simulation(**shape: Any) -> Simulation:
    simulation = Simulation(strict=True)
    simulation.bring_up(Shape(**shape).manifest)
    return simulation


def test_a_set_that_heals_must_break_no_rule() -> None:
    simulation = a_simulation(replicas=2)
    for deed in (
        script.FailRequests(script.LOST, 2),
        script.ChangeTemplate(),
        script.Crash((script.Place(1),)),
    ):
        simulation.take(script.Step((deed,), event_count=3))
    assert simulation.finish().summary.violations == ()


def test_a_set_that_was_deleted_must_leave_nothing() -> None:
    simulation = a_simulation(replicas=2)
    simulation.take(script.Step((script.DeleteSet(),)))
    trace = simulation.finish()
    assert (trace.summary.finished, trace.summary.violations) == (True, ())


def test_an_end_unlike_that_of_a_fresh_set_must_be_told_in_the_summary() -> None:
    simulation = a_simulation(replicas=2)
    label = freeze_map({"metadata.labels.note": "by-hand"})
    simulation.take(script.Step((script.EditObject(script.Target("StatefulSet", "serve"), label),)))
    (violation,) = simulation.finish().summary.violations
    assert violation.rule == "end"
    assert "metadata.labels.note is left over" in violation.text


def a_rollout() -> Simulation:
    simulation = a_simulation(replicas=2)
    simulation.take(script.Step((script.ChangeTemplate(),)))
    return simulation


def test_an_operator_that_never_pauses_must_break_a_rule_and_not_hold_up_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert a_rollout().finish().summary.violations == ()
    monkeypatch.setattr(simulating, "_TASKS_AT_ONCE_PER_POD", 0)
    assert "storm" in {violation.rule for violation in a_rollout().finish().summary.violations}


def test_an_owner_that_is_gone_unseen_must_not_keep_the_operator_and_the_collector_busy() -> None:
    simulation = Simulation(script.Cluster(seed=176), strict=True)
    simulation.bring_up(Shape(replicas=2, size=1).manifest)
    by_hand = freeze_map({"spec.template.spec.containers[0].image": "by-hand"})
    for deed in (
        script.EditObject(script.Target("StatefulSet", "serve"), by_hand),
        script.Crash((script.Place(0),)),
        script.LoseNode((script.Place(0),)),
        script.HoldWatch(("StatefulSet",)),
        script.ChangeTemplate(load_s=script.NEVER),
        script.DeleteObject((script.Target("Service", "serve"),)),
    ):
        simulation.take(script.Step((deed,), event_count=0))
    simulation.take(script.Step((), after_s=0.0))
    simulation.take(script.Step((script.DeleteSet(),), event_count=0))
    simulation.take(script.Step((script.HoldWatch(("LeaderWorkerSet",)),), event_count=0))
    assert simulation.finish().summary.violations == ()


def test_a_late_watch_of_pods_must_not_bring_the_ready_groups_below_the_floor() -> None:
    """An outdated leader that ended long ago looks as if it ended for ever, and broken."""
    simulation = a_simulation(replicas=2, size=2)
    simulation.take(script.Step((script.HoldWatch(("Pod",)), script.ChangeTemplate())))
    simulation.take(script.Step((), after_s=120.0))
    simulation.take(script.Step((script.HoldWatch(("Pod",), held=False),)))
    trace = simulation.finish()
    assert (trace.summary.finished, trace.summary.violations) == (True, ())


@pytest.mark.parametrize("event_count", [10, 20, 30, 40])
def test_what_is_back_or_gone_unseen_must_have_its_time_until_its_group_counts_as_broken(
    event_count: int,
) -> None:
    """A leader that was not seen, so that its workers are not made; or workers in its way that have gone."""
    simulation = a_simulation(replicas=2, size=3)
    simulation.take(script.Step((script.ChangeTemplate(),)))
    simulation.take(script.Step((), after_s=10.0))
    simulation.take(script.Step((), event_count=event_count))
    simulation.take(script.Step((script.HoldWatch(("Pod",)),), event_count=0))
    simulation.take(script.Step((script.ChangeTemplate(),)))
    assert simulation.finish().summary.violations == ()


def test_a_rollout_must_not_count_on_a_group_whose_recreation_is_due() -> None:
    """It serves, and waits for its back-off to end."""
    simulation = a_simulation(replicas=4)
    crash = script.Crash((script.Place(0, 1),))
    for after_s in (0.0, 70.0, 70.0, 70.0, 110.0):
        simulation.take(script.Step((crash,), after_s=after_s))
    simulation.take(script.Step((script.ChangeTemplate(),), after_s=62.0))
    trace = simulation.finish()
    assert (trace.summary.finished, trace.summary.violations) == (True, ())
    assert trace.summary.lowest_ready == 3


_POLICY = "spec.leaderWorkerTemplate.restartPolicy"
_HURT = (
    script.Crash((script.Place(0, 1), script.Place(1, 1))),
    script.DeleteObject((script.Target("StatefulSet", "serve-0"), script.Target("StatefulSet", "serve-1"))),
)


@pytest.mark.parametrize("deed", _HURT, ids=["restarted", "vanished"])
def test_policy_that_is_switched_on_must_not_end_ready_groups_over_the_budget(deed: script.Deed) -> None:
    """What ended under None has healed long ago; the rollout renews every group, within the budget."""
    simulation = a_simulation(replicas=2, restart_policy="None")
    simulation.take(script.Step((deed,)))
    simulation.take(script.Step((), after_s=600.0))
    simulation.take(script.Step((script.SetField(_POLICY, "RecreateGroupOnPodRestart"),)))
    trace = simulation.finish()
    assert (trace.summary.finished, trace.summary.violations) == (True, ())


def test_policy_that_is_back_may_end_the_groups_that_have_had_it_all_along() -> None:
    """Their containers did restart, and the view cannot tell when."""
    simulation = a_simulation(replicas=2, partition=2)
    before = {name_of(pod): uid_of(pod) for pod in simulation.player.world.store.all("Pod")}
    for deed in (
        script.SetField(_POLICY, "None"),
        _HURT[0],
        script.SetField(_POLICY, "RecreateGroupOnPodRestart"),
    ):
        simulation.take(script.Step((deed,)))
        simulation.take(script.Step((), after_s=600.0))
    trace = simulation.finish()
    assert (trace.summary.finished, trace.summary.violations) == (True, ())
    after = {name_of(pod): uid_of(pod) for pod in simulation.player.world.store.all("Pod")}
    assert all(after[name] != before[name] for name in after)


@pytest.mark.parametrize("restarted", [False, True], ids=["", "operator-restarted"])
def test_a_revision_that_was_deleted_by_hand_must_not_wedge_a_rollout(restarted: bool) -> None:
    """With the gate on the StatefulSet controller replaces none while so many are unready."""
    simulation = Simulation(script.Cluster(gate=True), strict=True)
    simulation.bring_up(Shape(replicas=2, size=1).manifest)
    broken = script.ChangeTemplate(load_s=script.NEVER)
    for deed in (script.DeleteSet(), broken, broken):  # the second makes the set anew
        simulation.take(script.Step((deed,)))
        simulation.take(script.Step((), after_s=600.0))
    (pod, _) = simulation.player.world.store.all("Pod")
    lost = script.Target("ControllerRevision", revisions(simulation)[label(pod, names.REVISION_KEY)])
    restart = (script.RestartOperator(),) if restarted else ()
    simulation.take(script.Step((script.DeleteObject((lost,)), *restart)))
    simulation.take(script.Step((script.ChangeTemplate(),), after_s=1.0))
    summary = simulation.finish().summary
    assert (summary.finished, summary.violations) == (True, ())


def revisions(simulation: Simulation) -> dict[str, str]:
    """The names of the set's own revisions, by key."""
    found = simulation.player.world.store.all("ControllerRevision")
    return {
        label(revision, names.REVISION_KEY): name_of(revision)
        for revision in found
        if owners(revision)[0]["kind"] == names.KIND
    }


def test_steps_that_are_impossible_must_change_nothing() -> None:
    simulation = a_simulation(replicas=2)
    before: Player = simulation.player
    deeds = (script.Scale(1), script.Crash((script.Place(7),)))
    with pytest.raises(ValueError, match="there is no pod"):
        simulation.take(script.Step(deeds, event_count=0))
    assert attrs.evolve(simulation.player) == before
