"""When an unready group counts as broken, and how a write to the leaders holds back what depends on it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import attrs
import pytest
from building import a_set
from machine import NAME, START_S, Bench, at_rest, of_type, writes

from lws_core import controller, names
from lws_core.actions import Action, Apply, Create, Delete, Read
from lws_core.leading import own_statefulset, set_view
from lws_core.options import Options
from lws_core.rollout import Blocked, Step
from lws_core.sights import Gone, Outcome
from lws_core.times import rfc3339
from lws_core.values import as_map, evolve

FIRST: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:1"}]}}
NEXT: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}
THIRD: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:3"}]}}
PAIRS = a_set(template={"size": 2, "restartPolicy": "None"})


def fallen(*names: str) -> Bench:
    """A set some of whose pods have fallen unready for good, and whose template is mended then."""
    bench = at_rest(PAIRS, Options(broken_after_s=30.0))
    for name in names:
        bench.cluster.change("Pod", name, status__conditions=[{"type": "Ready", "status": "False"}])
    bench.settle()
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    return bench


def releasing_the_last(rolling: dict[str, Any]) -> Bench:
    """Two groups, the upper one replaced. Leader 0 may go now; as far as is known it has not."""
    bench = at_rest(a_set({"replicas": 2}, template={"size": 1}, rolling=rolling))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.cluster.ready()
    bench.settle()
    bench.cluster.replace_leader()
    bench.cluster.run_leaders()
    bench.cluster.ready()
    bench.watch()
    bench.look_until(partition=0)
    return bench


def reading_the_middle() -> tuple[Bench, Read]:
    """Three groups, the upper one replaced, and the read of leader 1, as its deletion met another version."""
    bench = at_rest(a_set(template={"size": 1, "workerTemplate": FIRST}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    bench.cluster.run_leaders()
    bench.cluster.ready()
    bench.look_until(partition=1)
    bench.cluster.run_leaders()
    (delete,) = of_type(bench.look(), Delete)
    bench.hear(delete, Outcome(409, message="the object has been modified"))
    (read,) = of_type(bench.look(), Read)
    return bench, read


def test_old_group_never_counts_as_broken_before_its_time() -> None:
    bench = fallen("serve-0-1")
    bench.settle()
    assert isinstance(bench.memory.decision, Blocked)
    assert bench.memory.decision.reason == "BudgetSpent"
    since = bench.memory.groups.get(0).history.unready_since_s
    assert since is not None
    found = controller.look(bench.memory, bench.now_s)
    assert found.wake_at_s == bench.memory.patience_s == since + 30.0


def test_broken_old_group_at_the_lowest_index_never_wedges_a_rollout() -> None:
    bench = fallen("serve-0-1")
    bench.now_s += 40.0
    (read,) = bench.look()
    assert writes([read]) == ["Read Pod serve-0-1"]
    bench.hear(read)
    for action in bench.look():
        bench.hear(action)
    assert isinstance(bench.memory.decision, Step)
    assert bench.memory.decision.over_budget
    assert bench.cluster.leaders.partition == 2
    bench.run()
    assert bench.memory.summary.ready == 0b111


def test_leaders_that_the_template_before_has_exposed_always_are_read_before_others_are() -> None:
    bench = at_rest(a_set(template={"size": 1, "workerTemplate": FIRST}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.look_until(partition=2)  # leader 2 may go now; as far as is known it has not
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=THIRD)
    bench.settle()
    assert (bench.cluster.leaders.partition, bench.memory.exposed) == (3, 0b100)
    bench.cluster.run_leaders()  # before, it may still have gone by the template before
    (read,) = bench.look()
    assert writes([read]) == ["Read Pod serve-2"]
    bench.hear(read)
    assert f"Apply StatefulSet {NAME}" in writes(bench.look())
    assert bench.memory.exposed == 0


def test_surge_never_is_returned_for_a_leader_that_the_template_before_has_exposed() -> None:
    """Back to the template of the one group that is left, which may be on its way to the other template."""
    rolling = {"maxUnavailable": 0, "maxSurge": 2}
    bench = at_rest(a_set({"replicas": 1}, template={"size": 1, "workerTemplate": FIRST}, rolling=rolling))
    bench.edit(spec__replicas=3, spec__leaderWorkerTemplate__workerTemplate=NEXT)
    for _ in range(2):  # to three groups, then to the surge
        bench.settle()
        bench.cluster.run_leaders()
    bench.cluster.ready()
    bench.watch()
    bench.look_until(partition=0)  # leader 0 may go now; as far as is known it has not
    assert (bench.cluster.leaders.replicas, bench.memory.summary.ready) == (4, 0b11111)
    bench.edit(spec__replicas=1, spec__leaderWorkerTemplate__workerTemplate=FIRST)
    for action in bench.look():
        bench.hear(action)
    assert (bench.cluster.leaders.replicas, bench.memory.exposed) == (2, 0b1)


def test_surge_never_is_returned_for_a_leader_that_the_partition_before_has_exposed() -> None:
    """The user keeps group 0 just as it was released, and the StatefulSet controller may be replacing it."""
    bench = releasing_the_last({"maxUnavailable": 0, "maxSurge": 1})
    bench.edit(spec__rolloutStrategy__rollingUpdateConfiguration__partition=1)
    for action in bench.look():
        bench.hear(action)
    leaders = bench.cluster.leaders
    assert (leaders.replicas, leaders.partition, bench.memory.exposed) == (3, 1, 0b1)
    bench.cluster.run_leaders()  # before, it may still have gone by the partition before
    (read,) = of_type(bench.look(), Read)
    assert writes([read]) == ["Read Pod serve-0"]
    bench.hear(read)
    bench.settle()
    assert (bench.cluster.leaders.replicas, bench.memory.exposed) == (2, 0)


def test_template_never_counts_on_a_leader_that_a_partition_before_it_has_held_back() -> None:
    """Group 0 is released, then kept by the user, and may be gone when the third template comes."""
    bench = releasing_the_last({"maxUnavailable": 1, "maxSurge": 0})
    bench.edit(spec__rolloutStrategy__rollingUpdateConfiguration__partition=1)
    bench.settle()
    assert (bench.cluster.leaders.partition, bench.memory.exposed) == (1, 0b1)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=THIRD)
    bench.settle()
    assert (bench.cluster.leaders.partition, bench.memory.exposed) == (2, 0b1)
    bench.cluster.run_leaders()
    (read,) = of_type(bench.look(), Read)
    assert writes([read]) == ["Read Pod serve-0"]


def test_read_from_before_never_tells_what_a_template_has_exposed() -> None:
    """Leader 1 was read as its deletion met another version; it may go before the template is taken back."""
    bench, read = reading_the_middle()
    bench.hear(read)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=FIRST)
    while bench.memory.exposed == 0:
        actions = of_type(bench.look(), Apply, Create, Read)
        if bench.memory.exposed:
            bench.drop_unseen("Pod", "serve-1")
        for action in actions:
            bench.hear(action)
    bench.cluster.change("StatefulSet", NAME, status__observedGeneration=bench.cluster.leaders.generation)
    assert "Read Pod serve-1" in writes(bench.look())  # seen with the answer, in one look


def test_read_sent_before_a_template_never_tells_what_it_has_exposed_whenever_it_is_answered() -> None:
    """Leader 1 is read as its deletion met another version; the answer takes longer than the template."""
    bench, read = reading_the_middle()
    as_it_was = bench.cluster.answer(read)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=FIRST)
    while not of_type(found := bench.look(), Apply):
        for action in of_type(found, Create, Read):
            bench.hear(action)
    for action in of_type(found, Apply):
        bench.hear(action)
    bench.drop_unseen("Pod", "serve-1")
    bench.cluster.change("StatefulSet", NAME, status__observedGeneration=bench.cluster.leaders.generation)
    bench.hear(read, as_it_was)
    assert "Read Pod serve-1" in writes(bench.look())


def test_what_a_write_exposes_never_is_read_before_that_write_is_answered() -> None:
    """Of two released groups one ends while the partition rises; the other may end before that is stored."""
    rolling = {"maxUnavailable": 0, "maxSurge": 2, "partition": 0}
    bench = at_rest(a_set({"replicas": 2}, template={"size": 1}, rolling=rolling))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    bench.cluster.ready()
    bench.watch()
    bench.look_until(partition=0)
    bench.cluster.run_leaders()
    bench.edit(spec__rolloutStrategy__rollingUpdateConfiguration__partition=2)
    (apply,) = of_type(bench.look(), Apply)
    bench.cluster.drop("Pod", "serve-1")
    assert of_type(bench.look(), Read) == []
    bench.hear(apply)
    bench.drop_unseen("Pod", "serve-0")
    bench.cluster.change("StatefulSet", NAME, status__observedGeneration=bench.cluster.leaders.generation)
    (read,) = of_type(bench.look(), Read)
    assert writes([read]) == ["Read Pod serve-0"]
    bench.hear(read)
    bench.settle()
    assert (bench.cluster.leaders.replicas, bench.cluster.leaders.partition) == (4, 2)


def test_budget_never_is_exceeded_for_a_pod_that_serves_again_unseen() -> None:
    bench = fallen("serve-0-1")
    bench.now_s += 40.0
    (read,) = bench.look()
    bench.hear(read, Outcome(503))
    assert [action for action in bench.look() if isinstance(action, Apply | Delete)] == []
    bench.now_s += 1.0
    assert bench.look() == (read,)
    bench.cluster.change("Pod", "serve-0-1", status__conditions=[{"type": "Ready", "status": "True"}])
    bench.hear(read)
    for action in bench.look():
        bench.hear(action)
    assert bench.memory.summary.ready >> 0 & 1
    assert bench.memory.decision is not None
    assert not (isinstance(bench.memory.decision, Step) and bench.memory.decision.over_budget)


def test_group_never_is_given_up_for_workers_that_are_gone_unseen() -> None:
    """Leader 0 is new and serves; as far as is known the workers of the one before it are still there."""
    bench = at_rest(PAIRS, Options(broken_after_s=30.0))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.cluster.drop("Pod", "serve-0-1")
    bench.cluster.change("Pod", "serve-0", metadata__uid="another")
    bench.drop_unseen("StatefulSet", "serve-0")
    bench.settle()
    bench.cluster.run_leaders()  # it sees that group 2 is held back
    bench.settle()
    bench.now_s += 40.0
    (read, *_) = bench.look()
    assert writes([read]) == ["Read StatefulSet serve-0"]
    bench.hear(read)
    (create, *_) = bench.look()
    assert writes([create]) == ["Create StatefulSet serve-0"]
    bench.hear(create)
    bench.cluster.run_workers()
    bench.now_s += 20.0
    assert not of_type(bench.look(), Apply, Delete)
    assert not set_view(bench.memory, bench.cluster.lws, bench.now_s).broken


def test_group_never_is_given_up_for_a_worker_that_is_back_unseen() -> None:
    bench = at_rest(PAIRS, Options(broken_after_s=30.0))
    worker = bench.cluster.objects["Pod", "serve-0-1"]
    bench.cluster.drop("Pod", "serve-0-1")
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    bench.now_s += 40.0
    (read, *_) = bench.look()
    assert writes([read]) == ["Read Pod serve-0-1"]
    bench.cluster.put(worker)
    bench.hear(read)
    bench.settle()
    assert bench.memory.summary.ready == 0b111
    assert bench.cluster.leaders.partition == 2


def test_leaders_that_an_edited_template_has_exposed_always_are_read_before_others_are() -> None:
    bench = at_rest(a_set(template={"size": 1}))
    bench.cluster.change("StatefulSet", NAME, spec__template__spec=NEXT["spec"])
    for _ in range(2):
        for action in bench.look():
            bench.hear(action)
    assert (bench.cluster.leaders.partition, bench.memory.exposed) == (3, 0b111)
    bench.cluster.run_leaders()
    reads = of_type(bench.look(), Read)
    assert writes(reads) == ["Read Pod serve-0", "Read Pod serve-1", "Read Pod serve-2"]
    for read in reads:
        bench.hear(read)
        left = bench.memory.exposed & ~(1 << int(read.ref.name[-1]))
        for action in of_type(bench.look(), Apply):
            bench.hear(action)
        assert bench.memory.exposed == left
        bench.now_s += 100.0  # as many as there are may take their time
    bench.settle()
    assert (bench.cluster.leaders.partition, bench.memory.exposed) == (0, 0)


def test_terminating_leader_never_counts_as_broken_before_its_grace_is_over() -> None:
    bench = fallen("serve-0-1")
    bench.cluster.change("Pod", "serve-0", metadata__deletionTimestamp="1970-01-12T13:56:40Z")
    bench.settle()
    assert bench.memory.patience_s == START_S + 600 + 30


def test_leader_that_has_drained_for_long_never_counts_as_broken_before_the_next_has_had_its_time() -> None:
    bench = at_rest(PAIRS, Options(broken_after_s=30.0))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    bench.cluster.run_leaders()
    bench.cluster.change(
        "Pod", "serve-0", metadata__deletionTimestamp=rfc3339(bench.now_s + 600), status__conditions=[]
    )
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    bench.now_s += 400.0
    bench.drop_unseen("Pod", "serve-0")
    bench.memory = controller.observe(bench.memory, Gone("Pod", "serve-0", "uid-7"), bench.now_s)
    bench.settle()
    assert bench.memory.groups.get(0).group.leader is None
    assert bench.memory.patience_s == bench.now_s + 30.0
    bench.now_s += 30.0
    (read, *_) = of_type(bench.look(), Read)
    assert (read.ref.name, read.uid) == ("serve-0", "")  # its old workers tell nothing


def test_group_that_loads_on_the_new_revision_never_lets_others_count_as_broken() -> None:
    bench = fallen("serve-0-1")
    bench.now_s += 40.0
    bench.settle()
    bench.cluster.run_leaders()  # group 2 comes back, and loads
    bench.now_s += 1000.0
    bench.settle()
    assert bench.cluster.leaders.partition == 2
    assert set_view(bench.memory, bench.cluster.lws, bench.now_s).broken == 0


def test_group_that_waits_for_its_recreation_never_counts_as_ready_but_may_as_broken() -> None:
    """One that crashes again and again may hold its back-off whenever somebody looks."""
    bench = fallen("serve-0-1")
    bench.now_s += 40.0
    for doomed, ready, broken in ((0, 0b110, 0b001), (0b001, 0b110, 0b001), (0b010, 0b100, 0b001)):
        view = set_view(evolve(bench.memory, doomed=doomed), bench.cluster.lws, bench.now_s)
        assert (view.summary.ready, view.broken, view.doomed) == (ready, broken, doomed & 0b110)


@pytest.mark.parametrize(
    ("code", "broken"), [(0, 0b000), (500, 0b000), (503, 0b000), (403, 0b001), (422, 0b001)]
)
def test_group_whose_workers_are_being_asked_for_never_counts_as_broken_unless_they_are_refused(
    code: int, broken: int
) -> None:
    bench = fallen("serve-0-1")
    bench.settle()
    bench.now_s += 40.0
    assert set_view(bench.memory, bench.cluster.lws, bench.now_s).broken == 0b001
    bench.cluster.refusals[Create, "StatefulSet", "serve-0"] = Outcome(code, message="not now")
    bench.cluster.drop("StatefulSet", "serve-0")
    (read,) = bench.look()  # whether the leader is still there
    bench.hear(read)
    (create,) = bench.look()
    assert isinstance(create, Create)
    assert set_view(bench.memory, bench.cluster.lws, bench.now_s).broken == 0
    bench.hear(create)
    bench.settle()
    assert set_view(bench.memory, bench.cluster.lws, bench.now_s).broken == broken
    bench.now_s += 60.0  # three times as long as others are waited for
    bench.settle()
    assert set_view(bench.memory, bench.cluster.lws, bench.now_s).broken == 0b001


@pytest.mark.parametrize(
    ("calm_s", "patience_s"),
    [
        pytest.param(20.0, 60.0, id="it was well for a moment only"),
        pytest.param(301.0, 300.0, id="it had come back"),
    ],
)
def test_group_that_comes_and_goes_always_counts_as_broken_soon(calm_s: float, patience_s: float) -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.now_s += 1000.0
    bench.settle()
    fallen_pod = {"status__conditions": [{"type": "Ready", "status": "False"}]}
    for _ in range(4):
        bench.cluster.change("Pod", "serve-0-1", **fallen_pod)
        bench.settle()
        bench.now_s += 290.0
        bench.cluster.ready("serve-0-1", at_s=bench.now_s)
        bench.settle()
        bench.now_s += calm_s
    bench.cluster.change("Pod", "serve-0-1", **fallen_pod)
    bench.settle()
    assert bench.memory.patience_s == bench.now_s + patience_s


def test_group_that_is_being_replaced_never_counts_as_broken() -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()
    memory = evolve(bench.memory, deleting=0b100)
    assert set_view(memory, bench.cluster.lws, bench.now_s + 1000.0).broken == 0
    assert controller.look(memory, bench.now_s).memory.patience_s is None


def test_group_that_falls_as_another_comes_back_always_has_its_time_until_the_set_is_stalled() -> None:
    bench = at_rest(a_set(template={"size": 1, "restartPolicy": "None"}))
    fallen_pod = {"status__conditions": [{"type": "Ready", "status": "False"}]}
    bench.cluster.change("Pod", "serve-0", **fallen_pod)
    bench.settle()
    bench.now_s += 595.0
    bench.cluster.ready("serve-0", at_s=bench.now_s)
    bench.cluster.change("Pod", "serve-1", **fallen_pod)
    bench.settle()
    bench.now_s += 6.0
    bench.settle()
    assert not bench.cluster.lws.status.is_true(names.STALLED)


def test_stranger_that_has_the_name_of_a_leader_never_is_deleted() -> None:
    bench = at_rest(a_set(template={"size": 1}))
    other = {"kind": "StatefulSet", "name": "other", "uid": "uid-other", "controller": True}
    bench.cluster.change(
        "Pod",
        "serve-2",
        metadata__ownerReferences=[other],
        metadata__labels={names.SET_NAME: NAME, names.WORKER_INDEX: "0", names.REVISION_KEY: "strange"},
    )
    assert of_type(bench.settle(), Delete) == []


def test_leaders_that_are_missing_for_long_always_stop_deletions() -> None:
    bench = at_rest(a_set({"replicas": 6}, {"size": 1}, rolling={"maxUnavailable": 3}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    for _ in range(3):
        for action in bench.look():
            bench.hear(action)
    bench.cluster.drop("Pod", "serve-0")
    bench.watch()
    bench.look()
    bench.now_s += 6.0
    assert set_view(bench.memory, bench.cluster.lws, bench.now_s).long_absent
    assert not set_view(bench.memory, bench.cluster.lws, bench.now_s - 2.0).long_absent


def waiting_for_the_leaders() -> tuple[Bench, Apply]:
    bench = at_rest(PAIRS)
    bench.edit(spec__replicas=4)
    (apply,) = (action for action in bench.look() if isinstance(action, Apply))
    return bench, apply


def test_partition_far_beyond_the_groups_never_costs_more_than_the_groups_do() -> None:
    bench = at_rest(PAIRS)
    bench.edit(
        spec__rolloutStrategy__rollingUpdateConfiguration={"maxUnavailable": 1, "partition": 2**31 - 1}
    )
    tracemalloc.start()
    bench.settle()
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bench.cluster.leaders.partition == 2**31 - 1
    assert most_bytes < 2**24


def test_groups_that_were_never_seen_never_cost_more_than_a_bit() -> None:
    bench = at_rest(PAIRS)
    since_s = bench.now_s
    bench.edit(spec__replicas=1_000_000)
    tracemalloc.start()
    bench.settle()
    bench.now_s += 60.0
    bench.settle()
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bench.memory.known == 0b111
    assert [groups.bit_count() for groups, _ in bench.memory.unseen] == [999_997]
    assert most_bytes < 2**24
    bench.edit(spec__replicas=4)
    bench.settle()
    worker = bench.cluster.objects["Pod", "serve-0-1"]
    metadata = as_map(worker["metadata"]) | {"name": "serve-3-1", "uid": "uid-stray"}
    labels = as_map(metadata["labels"]).with_(names.GROUP_INDEX, "3")
    bench.cluster.put(worker.with_("metadata", metadata.with_("labels", labels)))
    bench.now_s += 60.0
    bench.settle()
    assert bench.memory.unseen == ()
    assert bench.memory.groups.get(3).history.unready_since_s == since_s
    bench.cluster.drop("Pod", "serve-3-1")
    bench.cluster.run_leaders()
    bench.settle()
    assert bench.memory.groups.get(3).history.unready_since_s == bench.now_s  # it loads from now on


def test_leaders_never_are_decided_on_while_a_write_to_them_is_under_way() -> None:
    bench, _ = waiting_for_the_leaders()
    bench.edit(spec__replicas=5)
    assert [action for action in bench.look() if isinstance(action, Apply | Delete)] == []


def test_leader_never_is_deleted_while_a_write_to_the_statefulset_is_under_way() -> None:
    bench = at_rest(a_set(template={"size": 1, "restartPolicy": "None"}, rolling={"maxUnavailable": 3}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.settle()  # all is released, which the StatefulSet controller has not seen yet
    assert (bench.cluster.leaders.partition, bench.memory.summary.ready) == (0, 0b111)
    bench.edit(spec__replicas=4)
    bench.cluster.run_leaders()
    sent = bench.look()
    assert writes(sent)[:3] == [f"Apply StatefulSet {NAME}", "Delete Pod serve-2", "Delete Pod serve-1"]
    # An unready outdated leader is free to go, but not on a view that is about to change.
    bench.cluster.change("Pod", "serve-0", status__conditions=[])
    assert [action for action in bench.look() if isinstance(action, Delete)] == []


def test_missing_service_always_is_made_beside_a_write_to_the_leaders() -> None:
    bench, _ = waiting_for_the_leaders()
    bench.cluster.drop("Service", NAME)
    (read,) = (action for action in bench.look() if isinstance(action, Read))
    bench.hear(read)
    assert writes(action for action in bench.look() if isinstance(action, Create)) == [
        f"Create Service {NAME}"
    ]


def test_stale_write_to_the_leaders_always_is_decided_afresh() -> None:
    bench, apply = waiting_for_the_leaders()
    bench.hear(apply, Outcome(409))
    bench.edit(spec__replicas=6)
    applies: list[Action] = [action for action in bench.settle() if isinstance(action, Apply)]
    assert len(applies) == 1
    assert bench.cluster.leaders.replicas == 6


def test_leaders_of_another_set_never_are_its_own() -> None:
    bench = at_rest(PAIRS)
    lws = bench.cluster.lws
    assert own_statefulset(bench.memory, lws) is not None
    other = attrs.evolve(lws, metadata=attrs.evolve(lws.metadata, uid="next"))
    assert own_statefulset(bench.memory, other) is None
