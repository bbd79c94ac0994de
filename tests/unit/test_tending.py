"""A group that fails is recreated, and one on a lost node lets its workers go."""

from __future__ import annotations

from typing import Any

import pytest
from building import a_set
from machine import NAME, START_S, Bench, at_rest, of_type, writes

from lws_core import controller, names, restart
from lws_core.actions import Action, Apply, Create, Delete, Read, TakeFields
from lws_core.explain import explain
from lws_core.options import Options
from lws_core.restart import decode_recreations
from lws_core.sights import Outcome, Seen, Synced
from lws_core.times import rfc3339
from lws_core.values import as_map, freeze_map

PAIRS = a_set(template={"size": 2})
NEXT: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}


def break_worker(bench: Bench, name: str) -> None:
    bench.cluster.change("Pod", name, status__containerStatuses=[{"restartCount": 1}])


def test_failed_worker_always_ends_its_group_once_after_the_record_of_it() -> None:
    bench = at_rest(PAIRS)
    break_worker(bench, "serve-1-1")
    actions = bench.settle()
    assert writes(actions)[:2] == [f"Apply StatefulSet {NAME}", "Delete Pod serve-1"]
    (delete,) = of_type(actions, Delete)
    assert delete.propagation == "Foreground"
    assert delete.why == "group 1 is recreated: pod serve-1-1 restarted"
    assert of_type(bench.run(), Delete) == []
    assert explain(bench.memory, bench.now_s).state == "AtRest"


def test_recreation_always_survives_a_restart_of_the_controller_between_record_and_deletion() -> None:
    bench = at_rest(PAIRS)
    break_worker(bench, "serve-1-1")
    for _ in range(2):
        for action in bench.look():
            if not isinstance(action, Delete):
                bench.hear(action)
    assert names.RECREATIONS in bench.cluster.leaders.annotations
    bench.cluster.drop("Pod", "serve-1-1")  # the evidence is gone
    memory = controller.start()
    for thing in bench.cluster.things():
        memory = controller.observe(memory, Seen(thing), bench.now_s)
    deletes = of_type(controller.step(memory, Synced(), bench.now_s).actions, Delete)
    assert [delete.ref.name for delete in deletes] == ["serve-1"]


def test_group_that_keeps_failing_always_waits_longer_and_says_so() -> None:
    bench = at_rest(PAIRS)
    for _ in range(2):
        break_worker(bench, "serve-1-1")
        bench.run()
    break_worker(bench, "serve-1-1")
    bench.settle()
    assert explain(bench.memory, bench.now_s).text.startswith("RecreationBackOff: pod serve-1-1 restarted")
    found = controller.look(bench.memory, bench.now_s)
    assert found.wake_at_s is not None
    assert found.wake_at_s > bench.now_s


def test_policy_none_never_ends_a_group() -> None:
    bench = at_rest(a_set(template={"size": 2, "restartPolicy": "None"}))
    break_worker(bench, "serve-1-1")
    assert of_type(bench.settle(), Delete) == []


@pytest.mark.parametrize("code", [403, 500])
@pytest.mark.parametrize("kind", ["StatefulSet", "ControllerRevision"])
def test_group_whose_recreation_cannot_be_recorded_always_is_recreated_without(kind: str, code: int) -> None:
    """The record is a part of the leader StatefulSet, which waits for a new revision. What is refused is not
    waited for; what fails, as a webhook on the way cannot be reached, for some minutes."""
    bench = at_rest(PAIRS)
    answer = bench.cluster.answer

    def refuse(action: Action) -> Outcome:
        refused = isinstance(action, Create | Apply | TakeFields) and action.ref.kind == kind
        return Outcome(code, message="exceeded quota") if refused else answer(action)

    bench.cluster.answer = refuse  # type: ignore[method-assign]
    if kind == "ControllerRevision":
        bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
        bench.settle()
    break_worker(bench, "serve-1-1")
    deletes = of_type(bench.settle(), Delete)
    assert bool(deletes) == (code == 403)
    for _ in range(30):
        bench.now_s += 10.0
        deletes += of_type(bench.settle(), Delete)
    assert [delete.ref.name for delete in deletes] == ["serve-1"]


def test_recreation_without_a_record_always_counts_for_the_next_one() -> None:
    bench = at_rest(PAIRS, Options(recreation_limit=2))
    refused = Outcome(403, message="exceeded quota")
    bench.cluster.refusals[Apply, "StatefulSet", NAME] = refused
    times = []
    for _ in range(3):
        break_worker(bench, "serve-1-1")
        for _ in range(100):
            if of_type(bench.settle(), Delete):
                times.append(bench.now_s)
                break
            bench.now_s += 1.0
        bench.run()
    assert len(times) == 2
    assert times[1] - times[0] >= 10.0
    assert explain(bench.memory, bench.now_s).text.startswith("RecreationLimit")
    bench.cluster.refusals.clear()
    bench.edit(spec__replicas=4)
    break_worker(bench, "serve-0-1")
    bench.run()
    assert set(decode_recreations(bench.cluster.leaders.annotations[names.RECREATIONS])) == {"0", "1"}


def test_recreations_that_are_too_many_for_one_record_always_are_carried_out_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restart, "_MOST_RECORDED", 2)
    bench = at_rest(a_set(spec={"replicas": 5}, template={"size": 2}))
    for index in range(5):
        break_worker(bench, f"serve-{index}-1")
    assert len(of_type(bench.settle(), Delete)) == 5


def crash_for_the_limit(bench: Bench) -> None:
    for _ in range(2):
        break_worker(bench, "serve-1-1")
        bench.settle()
        bench.now_s += 60
        bench.run()
    break_worker(bench, "serve-1-1")


def test_group_that_was_healthy_since_never_is_at_the_limit_after_a_rollout() -> None:
    bench = at_rest(PAIRS, Options(recreation_limit=2))
    crash_for_the_limit(bench)
    bench.settle()
    assert explain(bench.memory, bench.now_s).text.startswith("RecreationLimit")
    bench.cluster.drop("Pod", "serve-1")  # somebody helps
    bench.run()
    bench.now_s += 700
    bench.run()
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.run()
    bench.now_s += 60
    bench.run()
    break_worker(bench, "serve-1-1")
    assert [delete.ref.name for delete in of_type(bench.settle(), Delete)] == ["serve-1"]


def test_group_at_the_limit_always_stays_there_though_others_are_recreated_days_later() -> None:
    bench = at_rest(PAIRS, Options(recreation_limit=2))
    crash_for_the_limit(bench)
    bench.settle()
    bench.now_s += 100_000
    break_worker(bench, "serve-0-1")
    assert [delete.ref.name for delete in of_type(bench.settle(), Delete)] == ["serve-0"]
    bench.run()
    bench.cluster.change("Pod", "serve-1", metadata__labels__x="y")
    assert of_type(bench.settle(), Delete) == []


@pytest.mark.parametrize(("worker_index", "created"), [(1, False), (3, True)])
def test_worker_that_stays_only_keeps_a_group_waiting_whose_names_it_has(
    worker_index: int, created: bool
) -> None:
    """The size shrinks, and a worker of the group before hangs on a lost node."""
    bench = at_rest(a_set({"replicas": 1}, {"size": 4, "restartPolicy": "None"}))
    stuck = bench.cluster.objects["Pod", f"serve-0-{worker_index}"]
    bench.edit(spec__leaderWorkerTemplate__size=2)
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    metadata = as_map(stuck["metadata"]).with_("deletionTimestamp", rfc3339(bench.now_s))
    bench.cluster.put(stuck.with_("metadata", metadata))
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    assert (("StatefulSet", "serve-0") in bench.cluster.objects) is created


def test_orphaned_workers_never_keep_their_group_from_a_statefulset() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.objects.pop(("StatefulSet", "serve-1"))
    assert of_type(bench.settle(), Create) == []  # they have an owner still, and go
    bench.cluster.change("Pod", "serve-1-1", metadata__ownerReferences=())
    assert writes(bench.settle())[0] == "Create StatefulSet serve-1"


def show_node(bench: Bench, ready: bool) -> None:
    condition = {"type": "Ready", "status": "True" if ready else "Unknown"}
    bench.cluster.put(
        freeze_map({"kind": "Node", "metadata": {"name": "node"}, "status": {"conditions": [condition]}})
    )


def lose_node(bench: Bench, ready: bool) -> None:
    show_node(bench, ready)
    bench.cluster.change("Pod", "serve-1", metadata__deletionTimestamp="1970-01-12T13:46:40Z")


def test_leader_stuck_on_a_lost_node_never_is_forced_but_its_workers_are_released() -> None:
    bench = at_rest(PAIRS)
    lose_node(bench, ready=False)
    bench.settle()
    bench.now_s = START_S + 100
    actions = bench.settle()
    assert [(d.ref.kind, d.ref.name) for d in of_type(actions, Delete)] == [("StatefulSet", "serve-1")]
    text = explain(bench.memory, bench.now_s).text
    assert text.startswith("NodeLost: leader pod serve-1 is terminating on node node, which is lost")
    assert "node.kubernetes.io/out-of-service" in text
    assert ("Pod", "serve-1") in bench.cluster.objects


def test_leader_that_takes_its_time_on_a_living_node_never_counts_as_lost() -> None:
    bench = at_rest(PAIRS)
    lose_node(bench, ready=True)
    bench.now_s = START_S + 100
    assert of_type(bench.settle(), Delete) == []
    assert not explain(bench.memory, bench.now_s).text.startswith("NodeLost")


def test_node_that_is_lost_only_after_its_leader_should_have_ended_always_is_noticed() -> None:
    bench = at_rest(PAIRS)
    lose_node(bench, ready=True)
    bench.now_s = START_S + 31
    bench.settle()
    show_node(bench, ready=False)
    bench.now_s = START_S + 50
    bench.settle()
    wake_at_s = controller.look(bench.memory, bench.now_s).wake_at_s
    assert wake_at_s is not None
    bench.now_s = wake_at_s
    assert [(d.ref.kind, d.ref.name) for d in of_type(bench.settle(), Delete)] == [("StatefulSet", "serve-1")]


def test_lost_node_always_is_told_of_though_its_group_is_held() -> None:
    bench = at_rest(PAIRS, Options(recreation_limit=0))
    show_node(bench, ready=False)
    bench.cluster.change("Pod", "serve-1-1", metadata__deletionTimestamp="1970-01-12T13:46:40Z")
    bench.settle()
    wake_at_s = controller.look(bench.memory, bench.now_s).wake_at_s
    assert wake_at_s is not None
    bench.now_s = wake_at_s
    bench.settle()
    assert explain(bench.memory, bench.now_s).text.startswith("NodeLost: worker pod serve-1-1")


@pytest.mark.parametrize("stuck_after_s", [2.0, 30.0])
def test_leader_never_counts_as_stuck_before_an_installation_says_so(stuck_after_s: float) -> None:
    bench = at_rest(PAIRS, Options(stuck_after_s=stuck_after_s))
    lose_node(bench, ready=False)
    ends_s = 1_000_000.0  # 1970-01-12T13:46:40Z
    bench.now_s = ends_s + stuck_after_s - 0.1
    assert of_type(bench.settle(), Delete) == []
    bench.now_s = ends_s + stuck_after_s
    assert len(of_type(bench.settle(), Delete)) == 1


def test_node_that_is_not_known_always_is_read() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.change("Pod", "serve-1", metadata__deletionTimestamp="1970-01-12T13:46:40Z")
    bench.now_s = START_S + 100
    reads = of_type(bench.settle(), Read)
    assert [read.ref.kind for read in reads] == ["Node"]
    assert explain(bench.memory, bench.now_s).text.startswith("NodeLost")
