from __future__ import annotations

from typing import Any

import attrs
import pytest
from machine import LEADERS_UID, leader, live, own_revision, statefulset, worker, workers

from lws_core import names
from lws_core.actions import Kind, Ref
from lws_core.errors import FieldError
from lws_core.memory import Memory, Unreadable
from lws_core.observed import Child, LeaderStatefulSet, Node, Owner
from lws_core.restart import Recreation
from lws_core.revision import record
from lws_core.sights import Gone, Thing
from lws_core.values import EMPTY, FrozenMap, evolve
from lws_core.view import find, group_of, identity, lose, see

LIVE = live()
SERVICE = Child("Service", "serve", "uid-service", "1", Owner(names.KIND, "serve", "uid-set"), False)
GANG = Child("PodGroup", "serve-1-new", "uid-gang", "1", None, False, 1)
REVISION = own_revision(LIVE, "new", 1, record(LIVE))
NATIVE = own_revision(
    LIVE, "new", 9, EMPTY, name="serve-abc", owner=Owner("StatefulSet", "serve", LEADERS_UID)
)
THINGS: tuple[Thing, ...] = (
    LIVE, statefulset(), leader(1), worker(1, 1), workers(1), SERVICE, GANG, REVISION, NATIVE,
    Node("node", EMPTY),
)  # fmt: skip


def seen(*things: Thing) -> Memory:
    memory = Memory()
    for thing in things:
        memory = see(memory, thing)
    return memory


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_thing_that_was_seen_always_is_found_until_it_is_gone(thing: Thing) -> None:
    memory = seen(*THINGS)
    kind, name, uid, _ = identity(thing)
    assert find(memory, kind, name) == thing
    after = lose(memory, Gone(kind, name, uid))
    # A node that is gone is one that cannot be reached.
    expected = Node("node", EMPTY, ready=False) if isinstance(thing, Node) else None
    assert find(after, kind, name) == expected


@pytest.mark.parametrize("thing", THINGS[:-1], ids=lambda thing: type(thing).__name__)
def test_loss_of_an_earlier_object_never_takes_the_one_of_its_name(thing: Thing) -> None:
    memory = seen(*THINGS)
    kind, name, _, _ = identity(thing)
    assert find(lose(memory, Gone(kind, name, "another")), kind, name) == thing


def at(version: str, **fields: Any) -> Any:
    return leader(1, resource_version=version, **fields)


def test_older_sight_never_undoes_a_newer_one() -> None:
    newer = at("10", phase="Running")
    assert find(seen(LIVE, newer, at("9", phase="Pending")), "Pod", "serve-1") == newer
    assert find(seen(LIVE, newer, at("11", phase="Failed")), "Pod", "serve-1") != newer
    # Nor one of the pod that had the name before.
    assert find(seen(LIVE, newer, at("9", uid="earlier")), "Pod", "serve-1") == newer


def test_version_that_is_no_number_always_counts_as_new() -> None:
    assert find(seen(LIVE, at("b"), at("a", phase="Failed")), "Pod", "serve-1") == at("a", phase="Failed")
    assert seen(LIVE, at("a"), at("a", phase="Failed")).groups.get(1).group.leader == at("a")


def test_answer_never_brings_back_what_the_watch_has_shown_to_be_gone() -> None:
    """The answer to a write may come after the watch has told of the object's end."""
    memory = lose(seen(LIVE, at("10")), Gone("Pod", "serve-1", "uid-1", "12"))
    assert find(see(memory, at("11"), answer=True), "Pod", "serve-1") is None
    assert find(see(memory, at("13", uid="next"), answer=True), "Pod", "serve-1") is not None


def test_changed_pod_always_has_its_group_looked_at() -> None:
    memory = evolve(seen(*THINGS), dirty=0)
    assert see(memory, at("5")).dirty == 0b10
    assert see(memory, worker(2, 1)).dirty == 0b100
    assert lose(memory, Gone("Pod", "serve-1-1", "uid-1-1")).dirty == 0b10


def test_changed_spec_always_has_every_group_looked_at_and_its_lineage_traced() -> None:
    memory = evolve(seen(*THINGS, leader(2)), dirty=0, lineage=object())  # type: ignore[arg-type]
    newer = attrs.evolve(LIVE.metadata, resource_version="2")
    same = see(memory, attrs.evolve(LIVE, metadata=newer))
    assert (same.dirty, same.lineage) == (0, memory.lineage)
    changed = live({"replicas": 9})
    changed = attrs.evolve(changed, metadata=attrs.evolve(changed.metadata, resource_version="2"))
    assert see(memory, changed).dirty == 0b110
    assert see(memory, changed).lineage is None


def test_another_set_of_the_name_never_inherits_what_was_remembered() -> None:
    memory = seen(*THINGS)
    assert memory.remembered == {"new": REVISION.data}
    other = live(metadata={"uid": "next", "resourceVersion": "20"})
    after = see(memory, other)
    assert after.remembered == {}
    assert (after.recorded, after.pending, after.written) == ({}, {}, None)
    assert find(after, "Pod", "serve-1") == leader(1)


@pytest.mark.parametrize("thing", THINGS[1:-1], ids=lambda thing: type(thing).__name__)
def test_what_a_set_left_behind_always_is_found_and_lost_without_it(thing: Thing) -> None:
    kind, name, uid, _ = identity(thing)
    memory = lose(seen(*THINGS), Gone(names.KIND, "serve", "uid-set"))
    assert memory.lws is None
    assert find(memory, kind, name) == thing
    assert find(lose(memory, Gone(kind, name, uid)), kind, name) is None


def test_set_that_is_gone_never_leaves_what_was_remembered_to_the_next_of_its_name() -> None:
    before = evolve(seen(*THINGS), recorded=FrozenMap({"1": Recreation(1, 1, "uid")}), written=(4, 2))
    assert before.remembered
    memory = lose(before, Gone(names.KIND, "serve", "uid-set"))
    assert not memory.remembered
    assert not memory.recorded
    assert memory.written is None
    again = see(memory, attrs.evolve(LIVE, metadata=attrs.evolve(LIVE.metadata, uid="uid-next")))
    assert again.dirty == again.known == 1 << 1
    assert not again.remembered


def test_revision_that_is_gone_always_is_remembered() -> None:
    memory = lose(seen(*THINGS), Gone("ControllerRevision", REVISION.name, REVISION.uid))
    assert memory.revisions == {}
    assert memory.remembered == {"new": REVISION.data}


def test_native_revision_never_is_taken_for_one_of_the_set_s() -> None:
    assert seen(*THINGS).natives == {"serve-abc": NATIVE}
    strange = attrs.evolve(NATIVE, name="other-abc", owner=Owner("StatefulSet", "other", "x"))
    assert seen(*THINGS, strange).natives == {"serve-abc": NATIVE}
    assert set(seen(*THINGS).revisions) == {REVISION.name}


def test_recreations_always_are_read_from_the_leaders_and_wake_those_that_wait() -> None:
    recorded = FrozenMap({names.RECREATIONS: '{"1":[2,3,"u"]}'})
    waiting = evolve(seen(*THINGS), dirty=0, recreating=FrozenMap({"1": Recreation(2, 3, "u")}))
    memory = see(waiting, statefulset(annotations=recorded, resource_version="6"))
    assert memory.recorded == {"1": Recreation(2, 3, "u")}
    assert memory.dirty == 0b10


def test_leaders_that_are_scaled_always_have_the_groups_between_looked_at() -> None:
    memory = evolve(seen(*THINGS, leader(2)), dirty=0)
    assert see(memory, statefulset(replicas=2, resource_version="6")).dirty == 0b100
    assert see(memory, statefulset(replicas=3, resource_version="6")).dirty == 0


def test_another_leader_statefulset_never_is_known_by_the_last_write_to_the_first() -> None:
    memory = evolve(seen(*THINGS), digest="d", written=(3, 0))
    same = see(memory, statefulset(resource_version="6"))
    assert (same.digest, same.written) == ("d", (3, 0))
    other = see(memory, statefulset(resource_version="6", uid="next"))
    assert (other.digest, other.written) == ("", None)
    # A change of the revision is the write of another template.
    relabelled = FrozenMap({names.REVISION_KEY: "x"})
    assert see(memory, statefulset(resource_version="6", labels=relabelled)).digest == ""


def test_workers_always_are_kept_in_the_order_of_their_index() -> None:
    memory = seen(LIVE, worker(1, 3), worker(1, 1), worker(1, 2))
    assert [one.worker_index for one in memory.groups.get(1).group.workers] == [1, 2, 3]


def test_node_always_wakes_the_groups_that_wait_for_something() -> None:
    memory = evolve(seen(*THINGS), dirty=0, troubles=FrozenMap({"1": object()}))
    assert see(memory, Node("node", FrozenMap({"rack": "r"}))).dirty == 0b10


def test_set_that_cannot_be_read_always_is_known_by_name_until_it_can() -> None:
    broken = Unreadable(LIVE, (FieldError("spec", "Required", ""),))
    memory = seen(broken)
    assert find(memory, "LeaderWorkerSet", "serve") == broken
    fixed = attrs.evolve(LIVE, metadata=attrs.evolve(LIVE.metadata, resource_version="3"))
    assert see(memory, fixed).unreadable is None


def test_loss_of_the_sets_own_service_always_is_remembered() -> None:
    gone = Gone("Service", SERVICE.name, SERVICE.uid)
    assert not seen(LIVE, SERVICE).bereft
    assert lose(seen(LIVE, SERVICE), gone).bereft == ("serve",)
    assert not lose(seen(LIVE, attrs.evolve(SERVICE, owner=None)), gone).bereft


def test_loss_of_a_groups_service_always_is_remembered_while_its_leader_lives() -> None:
    service = Child("Service", "serve-1", "uid-s", "1", Owner("Pod", "serve-1", "uid-1"), False, 1)
    gone = Gone("Service", "serve-1", "uid-s")
    lost = lose(seen(LIVE, leader(1), service), gone)
    assert lost.bereft == ("serve-1",)
    assert lose(seen(LIVE, service), gone).bereft == ()
    assert lose(seen(LIVE, leader(1, deletion_s=1.0), service), gone).bereft == ()
    assert lose(seen(LIVE, leader(1, uid="next"), service), gone).bereft == ()
    # The watch of Services may be ahead of that of pods: another leader never had one.
    assert see(lost, leader(1, resource_version="2", ready=False)).bereft == ("serve-1",)
    assert see(lost, leader(1, resource_version="2", uid="next")).bereft == ()


@pytest.mark.parametrize(
    "foreign",
    [
        workers(1, owner=None),
        workers(1, owner=Owner("Job", "serve-1", "u")),
        Child("Service", "serve-1", "uid-s", "1", None, False, 1),
        Child("Service", "serve", "uid-s", "1", None, False),
        statefulset(owner=None),
    ],
)
def test_object_that_no_watch_shows_always_is_seen_however_old_it_is(foreign: Thing) -> None:
    """No watch shows one without the set's label, as strangers' are, or one that was stripped of it: so none
    has shown it to be gone."""
    kind, name, _, _ = identity(foreign)
    memory = evolve(seen(LIVE), newest=FrozenMap({kind: 99}))
    is_leader = isinstance(foreign, LeaderStatefulSet)
    stripped = {"labels": foreign.labels.without(names.SET_NAME)} if is_leader else {"labelled": False}
    unlabelled = attrs.evolve(foreign, **stripped)  # type: ignore[misc,arg-type]
    assert find(see(memory, unlabelled, answer=True), kind, name) == unlabelled
    assert find(see(memory, foreign, answer=True), kind, name) is None


@pytest.mark.parametrize(
    ("kind", "name", "index"),
    [
        ("Pod", "serve-4", 4),
        ("StatefulSet", "serve-4", 4),
        ("StatefulSet", "serve", -1),
        ("PodGroup", "serve-4-abc", 4),
        ("PodGroup", "other-4-abc", -1),
        ("Node", "serve-4", -1),
        ("ControllerRevision", "serve-4", -1),
    ],
)
def test_object_always_belongs_to_the_group_that_its_name_says(kind: Kind, name: str, index: int) -> None:
    assert group_of(seen(LIVE), Ref(kind, "default", name)) == index
