"""What is told of a set, and how often."""

from __future__ import annotations

from typing import Any

from building import a_set
from machine import NAME, Bench, at_rest, notes, of_type, writes

from lws_core import controller, names
from lws_core.actions import PatchStatus
from lws_core.explain import explain
from lws_core.options import Options
from lws_core.status import Stall
from lws_core.values import dig

PAIRS = a_set(template={"size": 2})
NEXT: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}


def changed(**options: Any) -> Bench:
    bench = at_rest(PAIRS, Options(**options))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    return bench


def test_counts_alone_never_are_written_more_often_than_the_interval() -> None:
    bench = at_rest(PAIRS, Options(status_interval_s=10.0))
    bench.edit(spec__replicas=4)
    bench.settle()
    written = bench.memory.status_at_s
    assert written is not None
    bench.cluster.run_leaders()
    assert of_type(bench.look(), PatchStatus) == []
    found = controller.look(bench.memory, bench.now_s)
    assert found.wake_at_s == written + 10.0
    bench.now_s = written + 10.0
    assert len(of_type(bench.look(), PatchStatus)) == 1


def test_workers_created_together_always_are_told_of_in_one_event() -> None:
    bench = at_rest(a_set({"replicas": 8}, {"size": 2}))
    told = [note for note in notes(bench) if "worker statefulset" in note]
    assert told == [
        "Created 8 worker statefulsets for leader pods serve-0, serve-1, serve-2, serve-3, serve-4 and 3 more"
    ]


def test_worker_created_alone_always_is_told_of_with_its_leader() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.drop("StatefulSet", "serve-1")
    bench.run()
    note = "Created worker statefulset for leader pod serve-1"
    (event,) = (event for event in bench.cluster.events if event.note == note)
    assert (event.related.name, event.related_uid) == (  # type: ignore[union-attr]
        "serve-1",
        dig(bench.cluster.objects["Pod", "serve-1"], "metadata", "uid"),
    )


def test_unreadable_set_always_says_so_and_its_groups_go_on() -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__replicas=-1)
    actions = bench.settle()
    assert writes(actions) == [f"PatchStatus LeaderWorkerSet {NAME}"]
    stored = bench.cluster.objects["LeaderWorkerSet", NAME]
    conditions = dig(stored, "status", "conditions")
    assert isinstance(conditions, tuple)
    stalled = next(c for c in conditions if dig(c, "type") == names.STALLED)
    assert dig(stalled, "reason") == "InvalidSpec"
    assert "spec.replicas" in str(dig(stalled, "message"))
    bench.edit(spec__replicas=3)
    bench.settle()
    assert explain(bench.memory, bench.now_s).state == "AtRest"


def test_rollout_that_does_not_get_on_always_wakes_at_its_deadline_and_says_so() -> None:
    bench = changed(progress_deadline_s=60.0)
    for _ in range(5):
        bench.settle()
        bench.cluster.run_leaders()
    wake = controller.look(bench.memory, bench.now_s).wake_at_s
    assert wake is not None
    assert bench.now_s < wake <= bench.now_s + 60
    bench.now_s += 60
    bench.settle()
    stalled = bench.cluster.lws.status.condition(names.STALLED)
    assert stalled is not None
    assert Stall(stalled.reason, "").reason == "ProgressDeadlineExceeded"  # type: ignore[arg-type]
