"""The machine at work on a cluster: what it wants, in which order, and that it then rests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from building import POD, a_set
from machine import NAME, START_S, Bench, Cluster, at_rest, live, notes, of_type, writes

from lws_core import controller, names
from lws_core.actions import Action, Apply, Create, Delete, Emit, Kind, PatchStatus, Read, TakeFields
from lws_core.explain import explain
from lws_core.leading import set_view
from lws_core.options import Options
from lws_core.rollout import Done
from lws_core.sights import Gone, Outcome, Seen, Synced
from lws_core.values import FrozenMap, Json, as_map, as_maps, canonical, dig, freeze_map

PAIRS = a_set(template={"size": 2})
NEXT: dict[str, Any] = {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}


# From nothing to rest.


def test_controller_never_acts_before_it_has_seen_all_there_is() -> None:
    memory = controller.observe(controller.start(), Seen(live()), START_S)
    assert controller.look(memory, START_S).actions == ()
    assert controller.step(memory, Synced(), START_S).actions != ()


def test_new_set_always_comes_about_in_order() -> None:
    bench = Bench(PAIRS)
    key = bench.look()[0].ref.name.split("-")[1]  # type: ignore[union-attr]
    bench = Bench(PAIRS)
    created = [line for line in writes(bench.run()) if line.startswith("Create")]
    assert created[0] == f"Create ControllerRevision serve-{key}-1"
    assert created[1:3] == ["Create Service serve", "Create StatefulSet serve"]
    assert created[3:] == [f"Create StatefulSet serve-{index}" for index in range(3)]
    assert isinstance(bench.memory.decision, Done)


def test_controller_at_rest_never_wants_anything() -> None:
    bench = at_rest(PAIRS)
    assert bench.look() == ()
    bench.now_s += 100_000
    found = controller.look(bench.memory, bench.now_s)
    assert (found.actions, found.wake_at_s) == ((), None)


def test_restarted_controller_never_writes_to_a_set_at_rest() -> None:
    bench = at_rest(PAIRS)
    again = Bench(PAIRS)
    again.cluster = bench.cluster
    again.memory = controller.start()
    again._shown = {}
    again.watch()
    again.memory = controller.observe(again.memory, Synced(), again.now_s)
    assert again.look() == ()


def test_step_without_a_sight_always_is_a_look() -> None:
    bench = Bench(PAIRS)
    assert controller.step(bench.memory, None, START_S) == controller.look(bench.memory, START_S)


@pytest.mark.parametrize("ending", [{"metadata__deletionTimestamp": "2026-01-01T00:00:00Z"}])
def test_terminating_set_never_gets_anything(ending: dict[str, Any]) -> None:
    """Children made now would keep a foreground deletion from ending."""
    bench = at_rest(PAIRS)
    bench.edit(**ending)
    bench.cluster.drop("StatefulSet", "serve-1")
    assert bench.look() == ()


def test_set_that_is_gone_never_is_written_to() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.drop("LeaderWorkerSet", NAME)
    assert bench.look() == ()


# One rollout.


def changed(**options: Any) -> Bench:
    bench = at_rest(PAIRS, Options(**options))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    return bench


def test_new_template_always_goes_revision_fields_template_one_after_the_other() -> None:
    bench = changed()
    wanted = []
    for _ in range(3):
        actions = bench.look()
        wanted += of_type(actions, Create, TakeFields, Apply, Delete)
        for action in actions:
            bench.hear(action)
    assert [type(action).__name__ for action in wanted] == ["Create", "TakeFields", "Apply"]
    apply = wanted[2]
    assert dig(apply.manifest, "spec", "updateStrategy", "rollingUpdate", "partition") == 3
    assert dig(apply.manifest, "spec", "template", "spec") == freeze_map(NEXT["spec"])


def taking_over() -> tuple[Bench, Apply]:
    """A set whose template another writer has applied, and the first write for a new one."""
    bench = changed()
    for _ in range(2):
        for action in bench.look():
            bench.hear(action)
    fields = {"f:spec": {"f:template": {"f:metadata": {}, "f:spec": {"f:serviceAccountName": {}}}}}
    entry = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
    bench.cluster.change("StatefulSet", NAME, metadata__managedFields=(freeze_map(entry),))
    (apply,) = of_type(bench.look(), Apply)
    assert apply.why.startswith("spec.containers of the template taken over")
    return bench, apply


def image_of(action: Apply) -> Any:
    (container,) = as_maps(dig(action.manifest, "spec", "template", "spec", "containers"))
    return container["image"]


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        pytest.param(Outcome(500, message="busy"), True, id="failed"),
        pytest.param(Outcome(422, message="no"), False, id="refused"),
    ],
)
def test_template_that_cannot_be_taken_over_never_keeps_a_new_one_waiting(
    outcome: Outcome, again: bool
) -> None:
    bench, apply = taking_over()
    bench.hear(apply, outcome)
    bench.now_s += 60.0
    for _ in range(2):  # where the outcome is not known it is read first
        actions = bench.look()
        if applies := of_type(actions, Apply):
            break
        for action in actions:
            bench.hear(action)
    (next_one,) = applies
    assert (image_of(next_one) == image_of(apply)) is again


def test_template_is_never_taken_over_twice() -> None:
    """As where a server does not tell whose its fields are: nothing was changed."""
    bench, apply = taking_over()
    bench.hear(apply, Outcome(200, bench.cluster.leaders))
    (new,) = of_type(bench.look(), Apply)
    assert image_of(new) != image_of(apply)


def test_rollout_always_ends_with_every_group_new_and_the_old_revision_gone() -> None:
    bench = changed()
    bench.run()
    assert bench.memory.summary.ready == bench.memory.summary.of_key(bench.memory.lineage.key) == 0b111  # type: ignore[union-attr]
    assert bench.cluster.leaders.partition == 0
    rested = [name for kind, name in bench.cluster.objects if kind == "ControllerRevision"]
    assert len([name for name in rested if name.endswith("-2")]) == 1
    assert bench.look() == ()


def test_leader_never_is_deleted_twice_or_two_at_a_time_over_the_budget() -> None:
    bench = changed()
    deleted = [action.ref.name for action in of_type(bench.run(), Delete) if action.ref.kind == "Pod"]
    assert deleted == ["serve-2", "serve-1", "serve-0"]


def deletes_sent(bench: Bench) -> list[Delete]:
    """The first deletions of leaders, sent and not answered."""
    for _ in range(20):
        actions = bench.look()
        for action in actions:
            if not isinstance(action, Delete):
                bench.hear(action)
        if of_type(actions, Delete):
            return of_type(actions, Delete)
        bench.cluster.run_leaders()
    raise AssertionError("no leader is ever deleted")


def test_leader_whose_deletion_is_sent_always_counts_as_gone() -> None:
    bench = changed()
    assert [action.ref.name for action in deletes_sent(bench)] == ["serve-2"]
    # Not answered yet: neither sent again, nor is the next leader taken.
    assert of_type(bench.look(), Delete) == []
    summary = set_view(bench.memory, bench.cluster.lws, bench.now_s).summary
    assert (summary.ready, summary.terminating) == (0b011, 0b100)


def test_edit_back_in_mid_flight_always_ends_at_the_old_template() -> None:
    bench = changed()
    for _ in range(4):
        for action in bench.look():
            bench.hear(action)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=POD)
    actions = bench.run()
    assert [action for action in of_type(actions, Create) if action.ref.kind == "ControllerRevision"] == []
    leaders = bench.cluster.leaders
    assert dig(leaders.template, "spec") == freeze_map(POD["spec"])
    assert bench.memory.summary.ready == 0b111
    # Its revision came back to the front.
    raised = [a for a in of_type(actions, Apply) if a.ref.kind == "ControllerRevision"]
    assert [action.manifest["revision"] for action in raised] == [3]


# Answers.


def refuse(bench: Bench, action: type, kind: Any, name: str, code: int, message: str = "no") -> None:
    bench.cluster.refusals[action, kind, name] = Outcome(code, message=message)


def test_request_that_is_not_answered_never_is_sent_again() -> None:
    bench = Bench(PAIRS)
    first = bench.look()
    assert first != ()
    assert bench.look() == ()


def test_refused_write_always_is_told_and_tried_again_ever_more_rarely() -> None:
    bench = Bench(PAIRS)
    refuse(bench, Create, "Service", NAME, 403, "exceeded quota")
    tries = []
    for _ in range(100):
        actions = bench.look()
        tries += [bench.now_s for action in of_type(actions, Create) if action.ref.kind == "Service"]
        for action in actions:
            bench.hear(action)
        bench.now_s += 0.5
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert explain(bench.memory, bench.now_s).text == "APIRefused: Service serve: exceeded quota"
    assert "Failed to create headless service for error: exceeded quota" in notes(bench)
    bench.cluster.refusals.clear()
    bench.now_s += 300
    bench.run()
    assert explain(bench.memory, bench.now_s).state == "AtRest"
    assert bench.cluster.lws.status.condition(names.STALLED).status == "False"  # type: ignore[union-attr]


def test_failure_for_a_group_always_is_told_a_second_later_however_late_it_is_tried_again() -> None:
    bench = Bench(PAIRS, Options(status_interval_s=100.0))  # nothing else is due meanwhile
    busy = Outcome(429, message="slow down", retry_after_s=60.0)
    for index in range(3):
        bench.cluster.refusals[Create, "StatefulSet", f"{NAME}-{index}"] = busy
    bench.settle()
    bench.cluster.run_leaders()
    bench.settle()
    assert not any("slow down" in note for note in notes(bench))
    told_s = controller.look(bench.memory, bench.now_s).wake_at_s
    assert told_s == bench.now_s + 1.0
    bench.now_s = told_s
    events = [action.event.note for action in of_type(bench.settle(), Emit)]
    assert (
        "Failed to create 3 worker statefulsets for leader pods serve-0, serve-1, serve-2: slow down"
        in events
    )


class Capping(Cluster):
    """A mutating webhook lets no StatefulSet have more than 4 replicas, and an old CustomResourceDefinition
    drops status.observedGeneration."""

    def put(self, obj: FrozenMap[Json]) -> FrozenMap[Json]:
        replicas = dig(obj, "spec", "replicas")
        if obj["kind"] == "StatefulSet" and isinstance(replicas, int):
            obj = obj.with_("spec", as_map(obj["spec"]).with_("replicas", min(replicas, 4)))
        if obj["kind"] == names.KIND and "status" in obj:
            obj = obj.with_("status", as_map(obj["status"]).without("observedGeneration"))
        return super().put(obj)


class Stamping(Capping):
    """The webhook also counts what it has admitted, so that every write changes something."""

    writes = 0

    def put(self, obj: FrozenMap[Json]) -> FrozenMap[Json]:
        if obj["kind"] == "StatefulSet":
            self.writes += 1
            annotations = as_map(dig(obj, "metadata", "annotations")) | {"stamp": str(self.writes)}
            obj = obj.with_("metadata", as_map(obj["metadata"]).with_("annotations", annotations))
        return super().put(obj)


@pytest.mark.parametrize("cluster", [Capping, Stamping])
def test_write_that_is_undone_never_is_repeated_without_a_pause(cluster: type[Cluster]) -> None:
    bench = at_rest(PAIRS)
    bench.cluster.__class__ = cluster
    bench.edit(spec__replicas=6)
    tries = []
    for _ in range(200):
        actions = bench.look()
        tries += [bench.now_s for action in of_type(actions, Apply, PatchStatus)]
        for action in actions:
            bench.hear(action)
        bench.now_s += 0.5
    assert len(tries) < 40
    undone = (
        "StatefulSet serve: what is written is not stored: something, such as a mutating webhook, undoes it"
    )
    assert explain(bench.memory, bench.now_s).text == f"APIRefused: {undone}"
    stalled = bench.cluster.lws.status.condition(names.STALLED)
    assert stalled is not None
    assert (stalled.status, stalled.message) == ("True", undone)
    told = [note for note in notes(bench) if "undoes it" in note]
    assert 0 < len(told) < 10


def test_write_of_which_a_part_is_undone_never_waits() -> None:
    """No surge is admitted, and the partition is: the rollout goes on at its pace."""
    bench = at_rest(a_set({"replicas": 4}, {"size": 1}, rolling={"maxSurge": 1}))
    bench.cluster.__class__ = Capping
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    began_s = bench.now_s
    bench.run()
    assert bench.cluster.leaders.partition == 0
    assert bench.now_s - began_s < 60.0


class Stripping(Cluster):
    """An old CustomResourceDefinition drops status.updatedReplicas; a mutating webhook takes the record of
    recreations away."""

    def put(self, obj: FrozenMap[Json]) -> FrozenMap[Json]:
        if obj["kind"] == names.KIND and "status" in obj:
            obj = obj.with_("status", as_map(obj["status"]).without("updatedReplicas"))
        if obj["kind"] == "StatefulSet":
            annotations = as_map(dig(obj, "metadata", "annotations")).without(names.RECREATIONS)
            obj = obj.with_("metadata", as_map(obj["metadata"]).with_("annotations", annotations))
        return super().put(obj)


def test_count_that_is_not_stored_never_is_written_again_without_end() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.__class__ = Stripping
    bench.edit(spec__replicas=4)
    bench.run()
    end_s, written = bench.now_s + 600.0, 0
    while bench.now_s < end_s:
        written += len(of_type(bench.settle(), PatchStatus))
        bench.now_s = controller.look(bench.memory, bench.now_s).wake_at_s or end_s
    assert written < 20


def test_group_whose_record_is_taken_away_always_is_recreated() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.__class__ = Stripping
    bench.cluster.change("Pod", f"{NAME}-0-1", status=restarted(bench, f"{NAME}-0-1"))
    written = writes(bench.settle())
    bench.now_s += 2.0
    assert f"Delete Pod {NAME}-0" in [*written, *writes(bench.settle())]


def restarted(bench: Bench, pod: str) -> FrozenMap[Json]:
    status = as_map(bench.cluster.objects["Pod", pod]["status"])
    return status | freeze_map({"containerStatuses": [{"name": "main", "restartCount": 1}]})


@pytest.mark.parametrize(("code", "retry_after_s"), [(403, 0.0), (429, 5.0)])
def test_deletion_that_waits_for_a_read_never_loses_its_back_off(code: int, retry_after_s: float) -> None:
    """A pod is of a revision that is not known: the leader StatefulSet is read before a leader is deleted."""
    bench = at_rest(PAIRS)
    worker_labels = as_map(dig(bench.cluster.objects["Pod", f"{NAME}-0-1"], "metadata", "labels"))
    lost = worker_labels.with_(names.REVISION_KEY, "lost")
    bench.cluster.change("Pod", f"{NAME}-0-1", metadata__labels=lost)
    bench.edit(spec__rolloutStrategy__rollingUpdateConfiguration={"maxUnavailable": 2})
    bench.settle()
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    tries: list[float] = []
    for _ in range(100):
        for action in bench.look():
            refused = isinstance(action, Delete) and action.ref.kind == "Pod"
            tries += [bench.now_s] if refused else []
            outcome = Outcome(code, message="no", retry_after_s=retry_after_s) if refused else None
            bench.hear(action, outcome)
        bench.cluster.run_leaders()
        bench.now_s += 0.1
    assert 0 < len(tries) <= 5
    assert all(later - earlier >= max(retry_after_s, 0.5) for earlier, later in pairwise(tries))


def test_label_of_a_group_s_workers_that_was_changed_always_is_set_back() -> None:
    bench = at_rest(PAIRS)
    labels = as_map(dig(bench.cluster.objects["StatefulSet", f"{NAME}-1"], "metadata", "labels"))
    bench.cluster.change("StatefulSet", f"{NAME}-1", metadata__labels=labels.with_(names.REVISION_KEY, "x"))
    bench.settle()
    assert dig(bench.cluster.objects["StatefulSet", f"{NAME}-1"], "metadata", "labels") == labels
    assert bench.memory.summary.ready == 0b111
    assert bench.look() == ()


def test_revision_that_a_leader_comes_back_on_always_is_restored() -> None:
    """Its record was deleted by hand while the only leader of it was between two lives."""
    bench = at_rest(a_set({"replicas": 3}, {"size": 1}))
    assert bench.memory.lineage is not None
    key = bench.memory.lineage.key
    bench.edit(spec__rolloutStrategy__rollingUpdateConfiguration={"maxUnavailable": 1, "partition": 1})
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    bench.run()
    old = bench.cluster.objects["Pod", NAME + "-0"]
    assert dig(old, "metadata", "labels", names.REVISION_KEY) == key
    bench.cluster.drop("Pod", f"{NAME}-0")
    bench.settle()
    records = [one for kind, one in bench.cluster.objects if kind == "ControllerRevision"]
    (lost,) = (one for one in records if one.startswith(f"{NAME}-{key}-"))
    bench.cluster.drop("ControllerRevision", lost)
    bench.settle()
    bench.cluster.put(old.with_("metadata", as_map(old["metadata"]).with_("uid", "uid-again")))
    assert any(line.startswith(f"Create ControllerRevision {NAME}-{key}-") for line in writes(bench.settle()))
    bench.run()
    assert bench.memory.summary.ready == 0b111


def test_restarted_controller_never_counts_on_leaders_that_may_be_replaced_unseen() -> None:
    """The template was written over before the StatefulSet controller had ended a leader for the last."""
    bench = at_rest(a_set({"replicas": 4}, {"size": 1}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    while bench.cluster.leaders.partition != 2:
        for action in bench.look():
            bench.hear(action)
        if bench.cluster.leaders.partition != 2:
            bench.cluster.run_leaders()
            bench.cluster.ready(at_s=bench.now_s)
            bench.now_s += 1.0
    another = {"spec": {"containers": [{"name": "main", "image": "img:3"}]}}
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=another)
    bench.settle()
    assert bench.cluster.leaders.observed_generation < bench.cluster.leaders.generation
    fresh = controller.begin(bench.cluster.things(), bench.now_s)
    assert of_type(list(controller.look(fresh, bench.now_s).actions), Apply) == []


def test_leaders_always_are_held_back_and_added_at_once_whatever_may_have_gone_unseen() -> None:
    """One group is released, and the user asks for another beside it, so it is needed; that ends nothing."""
    bench = at_rest(a_set({"replicas": 1}, {"size": 1}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    for partition in (1, 0):
        bench.look_until(partition)
    bench.edit(spec__replicas=2)
    assert bench.cluster.leaders.observed_generation < bench.cluster.leaders.generation
    fresh = controller.begin(bench.cluster.things(), bench.now_s)
    assert fresh.exposed == 0b1
    (apply,) = of_type(controller.look(fresh, bench.now_s).actions, Apply)
    spec = as_map(apply.manifest["spec"])
    assert (spec["replicas"], dig(spec, "updateStrategy", "rollingUpdate", "partition")) == (2, 1)


class Admitting(Cluster):
    """A policy admits no image but two, in the leader StatefulSet or in the record of a revision."""

    wrong = "img:3"
    refuses = "StatefulSet"
    code = 403

    def answer(self, action: Action) -> Outcome:
        writes = isinstance(action, Apply | Create) and action.ref.kind == self.refuses
        if writes and self.wrong in canonical(action.manifest):
            return Outcome(self.code, message="no such image")
        return super().answer(action)


@pytest.mark.parametrize(("code", "most_tries"), [(403, 10), (500, 40)])
@pytest.mark.parametrize("refuses", ["StatefulSet", "ControllerRevision"])
def test_set_whose_new_template_is_refused_always_is_scaled_and_kept_within_its_budget(
    refuses: Kind, code: int, most_tries: int
) -> None:
    """So is one whose template fails, once that has lasted for minutes."""
    bench = at_rest(a_set({"replicas": 6}, {"size": 1}, rolling={"maxUnavailable": 2, "maxSurge": 0}))
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    while bench.cluster.leaders.partition != 4:
        for action in bench.look():
            bench.hear(action)
        if bench.cluster.leaders.partition == 6:
            bench.cluster.change("StatefulSet", NAME, status=all_seen(bench))
    bench.cluster.__class__ = Admitting
    bench.cluster.refuses, bench.cluster.code = refuses, code
    third = {"spec": {"containers": [{"name": "main", "image": Admitting.wrong}]}}
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=third)
    bench.cluster.change("StatefulSet", NAME, status=all_seen(bench))
    tries = 0
    for _ in range(60):
        bench.settle()
        bench.now_s += 1.0 if code == 403 else 5.0
    for index in (0, 1):  # with these the budget is spent, and 4 and 5 may be replaced
        unready = freeze_map({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]})
        bench.cluster.change("Pod", f"{NAME}-{index}", status=unready)
    bench.settle()
    assert bench.cluster.leaders.partition == 6
    bench.edit(spec__replicas=9)
    bench.settle()
    assert bench.cluster.leaders.replicas == 9
    assert bench.cluster.leaders.partition >= 6
    stalled = bench.cluster.lws.status.condition(names.STALLED)
    assert stalled is not None
    assert stalled.message.endswith("no such image")
    for _ in range(1000):
        tries += len([a for a in bench.settle() if isinstance(a, Apply | Create) and a.ref.kind == refuses])
        bench.now_s += 1.0
    assert 0 < tries <= most_tries
    bench.cluster.__class__ = Cluster
    bench.now_s += 300.0
    bench.run()
    assert bench.memory.summary.of_key(bench.cluster.leaders.labels[names.REVISION_KEY]) == 0b111111111
    assert Admitting.wrong in canonical(bench.cluster.leaders.template)


def all_seen(bench: Bench) -> FrozenMap[Json]:
    stored = bench.cluster.objects["StatefulSet", NAME]
    return as_map(stored["status"]).with_("observedGeneration", dig(stored, "metadata", "generation"))


def test_what_was_refused_always_is_tried_again_after_an_edit() -> None:
    bench = at_rest(PAIRS)
    refuse(bench, Apply, "StatefulSet", NAME, 403, "too many")
    bench.edit(spec__replicas=9)
    for _ in range(100):
        bench.settle()
        bench.now_s += 5.0
    bench.cluster.refusals.clear()
    bench.edit(spec__replicas=5)
    bench.settle()
    assert bench.cluster.leaders.replicas == 5


def test_write_on_a_stale_view_always_is_read_afresh_and_tried_at_once() -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__replicas=4)
    (apply,) = of_type(bench.look(), Apply)
    bench.hear(apply, Outcome(409, message="the object has been modified"))
    (read,) = bench.look()
    assert isinstance(read, Read)
    assert read.ref.name == NAME
    bench.hear(read)
    assert writes(bench.look()) == [f"Apply StatefulSet {NAME}"]
    assert [event for event in bench.cluster.events if event.type == "Warning"] == []


@pytest.mark.parametrize("code", [0, 500, 503])
def test_write_of_unknown_outcome_never_is_repeated_before_its_object_is_read(code: int) -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__replicas=4)
    (apply,) = of_type(bench.look(), Apply)
    bench.cluster.answer(apply)  # it took effect, and its answer is lost
    bench.hear(apply, Outcome(code))
    bench.now_s += 1000
    wanted = bench.look()
    assert [type(action) for action in wanted if not isinstance(action, Emit)] in (
        [Read],
        [Read, PatchStatus],
    )
    for action in wanted:
        bench.hear(action)
    assert of_type(bench.look(), Apply) == []


def test_set_that_cannot_be_read_never_keeps_its_controller_awake() -> None:
    bench = at_rest(PAIRS)
    for _ in range(2):  # the second time it waits
        bench.cluster.change("Pod", "serve-1-1", status__containerStatuses=[{"restartCount": 1}])
        bench.settle()
        if not bench.memory.wakes:
            bench.run()
    assert bench.memory.wakes
    too_many = {"replicas": 1_000_000, "leaderWorkerTemplate": {"size": 3000}}
    bench.edit(**{f"spec__{field}": value for field, value in too_many.items()})
    bench.settle()
    assert bench.memory.unreadable is not None
    bench.now_s += 600.0
    assert controller.look(bench.memory, bench.now_s).wake_at_s is None


@pytest.mark.parametrize("code", [403, 503])
def test_node_that_could_not_be_read_always_is_read_again(code: int) -> None:
    exclusive = a_set({"replicas": 1}, {"size": 2}, {"annotations": {names.EXCLUSIVE_TOPOLOGY: "rack"}})
    bench = Bench(exclusive)
    bench.settle()
    bench.cluster.run_leaders()
    (read,) = [action for action in bench.look() if isinstance(action, Read)]
    assert read.ref.kind == "Node"
    bench.hear(read, Outcome(code, message="not now"))
    bench.settle()
    found = controller.look(bench.memory, bench.now_s)
    assert found.wake_at_s is not None
    assert found.wake_at_s <= bench.now_s + 1.0
    bench.now_s = found.wake_at_s
    labels = {"labels": {"rack": "r1"}}
    bench.cluster.put(freeze_map({"kind": "Node", "metadata": {"name": "node", **labels}}))
    assert f"Create StatefulSet {NAME}-0" in writes(bench.settle())


def test_server_s_own_wish_to_wait_always_is_kept() -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__replicas=4)
    (apply,) = of_type(bench.look(), Apply)
    bench.hear(apply, Outcome(429, retry_after_s=40.0))
    bench.now_s += 39.0
    assert of_type(bench.look(), Apply) == []
    bench.now_s += 1.0
    assert len(of_type(bench.look(), Apply)) == 1


def test_failure_that_is_overtaken_never_stays_a_trouble() -> None:
    bench = at_rest(PAIRS)
    bench.edit(spec__replicas=4)
    refuse(bench, Apply, "StatefulSet", NAME, 422, "spec: Invalid value")
    bench.settle()
    assert explain(bench.memory, bench.now_s).state == "Stalled"
    bench.edit(spec__replicas=3)
    bench.settle()
    assert bench.memory.retries == {}
    assert explain(bench.memory, bench.now_s).state == "AtRest"


def test_deletion_of_what_is_gone_already_always_counts_as_done() -> None:
    bench = changed()
    (delete,) = deletes_sent(bench)
    bench.hear(delete, Outcome(404))
    assert bench.memory.retries == {}
    assert bench.memory.groups.get(2).group.leader is None


# What others do.


def test_leaders_scaled_from_outside_always_are_set_back_and_told_of() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.change("StatefulSet", NAME, spec__replicas=5)
    assert f"Apply StatefulSet {NAME}" in writes(bench.settle())
    assert bench.cluster.leaders.replicas == 3
    told = "replicas and partition of StatefulSet serve were changed from outside to 5 and 0: set to 3 and 0"
    assert told in notes(bench)


def test_template_edited_from_outside_always_is_healed_with_the_partition_up() -> None:
    bench = at_rest(PAIRS)
    stored = bench.cluster.objects["StatefulSet", NAME]
    bench.cluster.change("StatefulSet", NAME, spec__template__spec=NEXT["spec"])
    actions = bench.settle()
    healed = of_type(actions, Apply)[0]
    assert dig(healed.manifest, "spec", "template") == dig(stored, "spec", "template")
    assert dig(healed.manifest, "spec", "updateStrategy", "rollingUpdate", "partition") == 3
    assert "the pod template of StatefulSet serve was changed from outside: set back" in notes(bench)
    assert of_type(actions, Delete) == []


def test_deleted_child_always_comes_back() -> None:
    bench = at_rest(PAIRS)
    bench.cluster.drop("Service", NAME)
    assert writes(bench.settle()) == [f"Read LeaderWorkerSet {NAME}", f"Create Service {NAME}"]
    assert "Service serve was deleted from outside: created again" in notes(bench)
    bench.cluster.drop("StatefulSet", "serve-1")
    assert "Create StatefulSet serve-1" in writes(bench.run())
    bench.cluster.drop("StatefulSet", NAME)
    assert f"Create StatefulSet {NAME}" in writes(bench.run())
    assert explain(bench.memory, bench.now_s).state == "AtRest"


def test_child_that_vanishes_never_is_made_again_for_an_owner_that_is_gone_unseen() -> None:
    """As when the watch of owners is late, and the garbage collector takes whatever is made for one."""
    bench = at_rest(PAIRS)
    bench.drop_unseen("Pod", "serve-1")
    bench.cluster.drop("StatefulSet", "serve-1")
    (read,) = of_type(bench.look(), Read)
    assert writes([read]) == ["Read Pod serve-1"]
    assert of_type(bench.look(), Create) == []
    bench.hear(read)
    assert bench.memory.groups.get(1).group.leader is None
    assert of_type(bench.settle(), Create) == []
    bench.drop_unseen("LeaderWorkerSet", NAME)
    bench.cluster.drop("Service", NAME)
    assert of_type(bench.settle(), Create) == []
    assert bench.memory.lws is None


@pytest.mark.parametrize(
    ("kind", "name", "wait_s"),
    [("StatefulSet", NAME, 0.0), ("StatefulSet", f"{NAME}-1", 30.0), ("ControllerRevision", "", 0.0)],
)
def test_child_without_its_label_always_gets_it_back(kind: Kind, name: str, wait_s: float) -> None:
    """No watch of the objects of sets tells of it any more, but that it is gone."""
    bench = at_rest(PAIRS)
    name = name or next(one for of_kind, one in bench.cluster.objects if of_kind == kind)
    labels = as_map(dig(bench.cluster.objects[kind, name], "metadata", "labels"))
    bench.cluster.change(kind, name, metadata__labels=labels.without(names.SET_NAME))
    stripped = bench.cluster.objects[kind, name]
    uid, version = (str(dig(stripped, "metadata", field)) for field in ("uid", "resourceVersion"))
    bench._shown[kind, name] = (uid, version)
    bench.memory = controller.observe(bench.memory, Gone(kind, name, uid, version), bench.now_s)
    bench.settle()
    bench.now_s += wait_s
    bench.settle()
    assert dig(bench.cluster.objects[kind, name], "metadata", "labels") == labels
    assert explain(bench.memory, bench.now_s).state == "AtRest"
    bench.edit(spec__replicas=4)
    bench.run()
    assert bench.memory.summary.ready == 0b1111
    assert dig(bench.cluster.objects[kind, name], "metadata", "labels") == labels


def test_child_without_its_label_that_goes_always_is_noticed() -> None:
    """The Service of a set works without it, and is not written to."""
    bench = at_rest(PAIRS)
    labels = as_map(dig(bench.cluster.objects["Service", NAME], "metadata", "labels"))
    bench.cluster.change("Service", NAME, metadata__labels=labels.without(names.SET_NAME))
    stripped = bench.cluster.objects["Service", NAME]
    uid, version = (str(dig(stripped, "metadata", field)) for field in ("uid", "resourceVersion"))
    bench._shown["Service", NAME] = (uid, version)
    bench.memory = controller.observe(bench.memory, Gone("Service", NAME, uid, version), bench.now_s)
    bench.settle()
    assert bench.memory.service is not None
    bench.drop_unseen("Service", NAME)
    bench.now_s += 30.0
    bench.settle()
    assert dig(bench.cluster.objects["Service", NAME], "metadata", "labels") == labels


def test_kind_that_the_api_server_does_not_know_always_is_told() -> None:
    bench = Bench(PAIRS)
    refuse(bench, Create, "Service", NAME, 404, "the server could not find the requested resource")
    bench.settle()
    bench.now_s += 2.0
    bench.settle()
    assert explain(bench.memory, bench.now_s).text.startswith("APIRefused: Service serve: the server could")


def test_write_that_fails_for_minutes_always_is_told() -> None:
    """As where a webhook on the way cannot be reached."""
    bench = Bench(PAIRS)
    refuse(bench, Create, "StatefulSet", NAME, 500, "failed calling webhook")
    for _ in range(300):
        bench.settle()
        bench.now_s += 1.0
        if bench.now_s < START_S + 30.0:
            assert explain(bench.memory, bench.now_s).state != "Stalled"
    assert explain(bench.memory, bench.now_s).text == "APIRefused: StatefulSet serve: failed calling webhook"


def test_owner_in_doubt_always_is_read_until_it_is_answered() -> None:
    bench = at_rest(a_set(template={"size": 2, "restartPolicy": "None"}))
    bench.cluster.drop("Service", NAME)
    (read,) = bench.look()
    bench.hear(read, Outcome(503))
    assert bench.look() == ()
    bench.now_s += 1.0
    assert bench.look() == (read,)
    bench.hear(read)
    assert writes(bench.look()) == [f"Create Service {NAME}"]
    bench.cluster.drop("StatefulSet", "serve-1")
    assert "Create StatefulSet serve-1" in writes(bench.settle())


def revisions(bench: Bench) -> dict[str, Json]:
    """What the revisions of the set record, by name; the StatefulSet controller's have no data here."""
    return {
        name: obj["data"]
        for (kind, name), obj in bench.cluster.objects.items()
        if kind == "ControllerRevision" and "data" in obj
    }


def lose_revisions(bench: Bench) -> list[Json]:
    """Delete the revisions of the set by hand; what they recorded."""
    lost = revisions(bench)
    for name in lost:
        del bench.cluster.objects["ControllerRevision", name]
    return list(lost.values())


def test_revisions_that_are_long_gone_never_are_remembered() -> None:
    bench = at_rest(a_set(template={"size": 1}))
    for number in range(30):
        image = {"spec": {"containers": [{"name": "main", "image": f"img:{number}"}]}}
        bench.edit(spec__leaderWorkerTemplate__workerTemplate=image)
        bench.run()
    assert len(bench.memory.remembered) < 15
    assert bench.memory.lineage is not None
    assert bench.memory.lineage.key in bench.memory.remembered


def test_lost_revision_always_is_written_again_and_nothing_else() -> None:
    bench = at_rest(PAIRS)
    lost = lose_revisions(bench)
    assert len(lost) == 1
    done = bench.run()
    (create,) = of_type(done, Create)
    assert [line for line in writes(done) if not line.startswith("PatchStatus")] == [
        f"Read LeaderWorkerSet {NAME}",
        f"Create ControllerRevision {create.ref.name}",
    ]
    assert list(revisions(bench).values()) == lost
    assert any(note.startswith("Creating missing revision with key ") for note in notes(bench))


def test_lost_revision_always_is_written_again_as_it_was_although_the_set_has_changed() -> None:
    """Groups that are still of it are judged, and made whole, by what it says."""
    bench = at_rest(PAIRS)
    lost = lose_revisions(bench)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    (read,) = of_type(bench.look(), Read)
    bench.hear(read)
    (first, *_) = of_type(bench.look(), Create)
    assert first.ref.kind == "ControllerRevision"
    assert [first.manifest["data"]] == lost
    bench.hear(first)
    created = of_type(bench.run(), Create)
    assert [create.ref.kind for create in created if create.manifest.get("data") not in (None, *lost)] == [
        "ControllerRevision"
    ]
    assert isinstance(bench.memory.decision, Done)
    assert list(revisions(bench).values()) != lost


def test_foreign_object_of_a_name_that_is_needed_never_is_touched() -> None:
    bench = Bench(PAIRS)
    theirs = freeze_map({"kind": "StatefulSet", "metadata": {"name": NAME}, "spec": {"replicas": 9}})
    bench.cluster.put(theirs)
    bench.settle()
    assert bench.cluster.leaders.replicas == 9
    text = explain(bench.memory, bench.now_s).text
    assert text.startswith("ForeignObject: StatefulSet serve does not belong to this set")
    assert bench.cluster.lws.status.condition(names.STALLED).reason == "ForeignObject"  # type: ignore[union-attr]


def test_memory_of_an_earlier_moment_never_changes() -> None:
    bench = Bench(PAIRS)
    before, copy = bench.memory, repr(bench.memory)
    bench.run()
    assert repr(before) == copy


def test_loss_of_what_was_never_seen_never_matters() -> None:
    bench = at_rest(PAIRS)
    for kind, name in (("Pod", "serve-9"), ("Pod", "serve-0-9"), ("Node", "n"), ("PodGroup", "x")):
        memory = controller.observe(bench.memory, Gone(kind, name, "u"), bench.now_s)  # type: ignore[arg-type]
        assert controller.look(memory, bench.now_s).actions == ()


MANY: FrozenMap[Json] = a_set({"replicas": 40}, {"size": 1}, rolling={"maxUnavailable": 10})


def test_released_leaders_always_go_together_as_the_budget_allows() -> None:
    bench = at_rest(MANY)
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    assert len(deletes_sent(bench)) == 10
