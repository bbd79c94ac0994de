"""Each rule fires on a bad write made by hand, and is silent on a good one."""

from __future__ import annotations

import attrs
import pytest
from worlds import OWNER, Run, Shape

from lws_core import names
from lws_core.actions import Action, Apply, Create, Delete, Propagation, Ref
from lws_core.codec import decode
from lws_core.memory import Memory, Record
from lws_core.observed import Group
from lws_core.values import Json, freeze_map
from lws_sim.checking.rules import judge_more
from lws_sim.judging import Limits, is_ready, judge, judge_pause, limits_of
from lws_sim.world import START_S

NOW_S = START_S + 1000


def at_rest(shape: Shape | None = None) -> Memory:
    run = Run(shape or Shape(replicas=4, max_unavailable=1), style="cluster first")
    run.rest()
    return run.world.controllers[OWNER].memory


def leaders(
    memory: Memory,
    replicas: int,
    partition: int,
    *,
    key: str = "new",
    template: dict[str, object] | None = None,
) -> Apply:
    """A write of the leader StatefulSet. By default the template changes with the key."""
    assert memory.statefulset is not None
    stored = memory.statefulset.template
    manifest = freeze_map(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "serve", "namespace": "default", "labels": {names.REVISION_KEY: key}},
            "spec": {
                "replicas": replicas,
                "template": stored if template is None else template,
                "updateStrategy": {"rollingUpdate": {"partition": partition}},
            },
        }
    )
    return Apply(manifest, "by hand")


def key_of(memory: Memory) -> str:
    assert memory.statefulset is not None
    return memory.statefulset.labels[names.REVISION_KEY]


def delete(memory: Memory, index: int, propagation: Propagation = "Background", uid: str = "") -> Delete:
    leader = memory.groups.get(index).group.leader
    assert leader is not None
    ref = Ref("Pod", "default", leader.name)
    return Delete(ref, uid or leader.uid, leader.resource_version, propagation, "by hand")


def change(memory: Memory, index: int, **fields: object) -> Memory:
    """The memory with something else in a group."""
    record = memory.groups.get(index)
    group = attrs.evolve(record.group, **fields)  # type: ignore[arg-type]
    return _with(memory, groups=memory.groups.put(Record(group, record.state, record.history)))


def unready(memory: Memory, *indexes: int) -> Memory:
    for index in indexes:
        leader = memory.groups.get(index).group.leader
        assert leader is not None
        memory = change(memory, index, leader=attrs.evolve(leader, ready=False))
    return memory


def broken_old(memory: Memory, *indexes: int) -> Memory:
    """The memory in which some groups are unready, and of an older revision."""
    for index in indexes:
        leader = memory.groups.get(index).group.leader
        assert leader is not None
        memory = change(memory, index, leader=attrs.evolve(leader, ready=False, revision_key="old"))
        memory = since(memory, index, unready_since_s=NOW_S - 300)
    return memory


def since(memory: Memory, index: int, **times: float | None) -> Memory:
    """The memory in which something has been so for a group since then."""
    record = memory.groups.get(index)
    history = attrs.evolve(record.history, **times)  # type: ignore[arg-type]
    return _with(memory, groups=memory.groups.put(attrs.evolve(record, history=history)))


def _with(memory: Memory, **fields: object) -> Memory:
    return attrs.evolve(memory, **fields)  # type: ignore[arg-type]


def rules(memory: Memory, *actions: Action, now_s: float = NOW_S) -> list[str]:
    return [violation.rule for violation in judge(memory, actions, now_s)]


# -- budget


@pytest.mark.parametrize(
    ("partition", "found"), [(4, []), (3, []), (2, ["budget"]), (0, ["budget"]), (9, [])]
)
def test_a_partition_never_exposes_more_than_the_budget_spares(partition: int, found: list[str]) -> None:
    memory = at_rest()
    assert rules(memory, leaders(memory, 4, partition)) == found


def test_unready_groups_always_spend_the_budget() -> None:
    memory = unready(at_rest(), 0)
    assert rules(memory, leaders(memory, 4, 3, key=key_of(memory))) == []
    assert rules(memory, leaders(memory, 4, 4)) == []
    assert rules(unready(memory, 1), leaders(memory, 4, 2)) == ["budget"]


def test_groups_that_are_exposed_already_never_count_again() -> None:
    memory = at_rest()
    assert memory.statefulset is not None
    exposing = attrs.evolve(
        memory.statefulset, partition=2, labels=memory.statefulset.labels | {names.REVISION_KEY: "new"}
    )
    memory = _with(memory, statefulset=exposing)
    assert rules(memory, leaders(memory, 4, 2)) == []
    assert rules(memory, leaders(memory, 4, 1)) == ["budget"]


def test_surge_never_is_returned_on_account_of_what_the_same_write_holds_back() -> None:
    """Two groups, and a third as surge: group 0 is outdated, and may be gone by the partition before."""
    memory = at_rest(Shape(replicas=3, size=1, max_unavailable=0, max_surge=1))
    assert memory.statefulset is not None
    assert memory.lws is not None
    canary = attrs.evolve(memory.lws.spec.rollout_strategy, partition=1)
    spec = attrs.evolve(memory.lws.spec, replicas=2, rollout_strategy=canary)
    applied = memory.statefulset.annotations | {names.REPLICAS: "2"}
    leader = memory.groups.get(0).group.leader
    assert leader is not None
    memory = change(memory, 0, leader=attrs.evolve(leader, revision_key="old"))
    before = attrs.evolve(next(iter(memory.revisions.values())), name="old", key="old")
    revisions = memory.revisions.with_("old", before)
    memory = _with(memory, lws=attrs.evolve(memory.lws, spec=spec), revisions=revisions)
    for partition, replicas, found in [(1, 2, []), (0, 2, ["budget"]), (0, 3, [])]:
        stored = attrs.evolve(memory.statefulset, partition=partition, annotations=applied)
        write = leaders(memory, replicas, 1, key=key_of(memory))
        assert rules(_with(memory, statefulset=stored), write) == found


@pytest.mark.parametrize(
    ("partition", "fallen", "found"),
    [(2, (), []), (2, (0,), ["hold"]), (3, (0,), []), (2, (3,), []), (0, (0, 1), [])],
)
def test_a_partition_must_rise_again_over_groups_that_cannot_be_spared(
    partition: int, fallen: tuple[int, ...], found: list[str]
) -> None:
    """Of four groups two may be missing; the last two are outdated unless they fall."""
    memory = at_rest(Shape(replicas=4, size=1, max_unavailable=2))
    assert memory.statefulset is not None
    before = attrs.evolve(next(iter(memory.revisions.values())), name="old", key="old")
    memory = _with(memory, revisions=memory.revisions.with_("old", before))
    for index in {2, 3} - {*fallen}:
        leader = memory.groups.get(index).group.leader
        assert leader is not None
        memory = change(memory, index, leader=attrs.evolve(leader, revision_key="old"))
    memory = _with(
        unready(memory, *fallen), statefulset=attrs.evolve(memory.statefulset, partition=partition)
    )
    assert [violation.rule for violation in judge_pause(memory, (), NOW_S)] == found
    under_way = _with(memory, pending=memory.pending.with_("any", delete(memory, 1)))
    assert judge_pause(under_way, (), NOW_S) == ()
    assert judge_pause(memory, (leaders(memory, 4, 4),), NOW_S) == ()


def test_an_outdated_native_revision_always_exposes_as_well() -> None:
    memory = at_rest()
    assert memory.statefulset is not None
    restarted = attrs.evolve(memory.statefulset, update_revision="other", partition=4)
    memory = _with(memory, statefulset=restarted)
    key = key_of(memory)
    assert rules(memory, leaders(memory, 4, 3, key=key)) == []
    assert rules(memory, leaders(memory, 4, 2, key=key)) == ["budget"]


def test_scaling_down_is_excepted_and_taking_needed_surge_is_not() -> None:
    memory = at_rest(Shape(replicas=2, max_unavailable=0, max_surge=2))
    assert memory.statefulset is not None
    key = key_of(memory)
    grown = attrs.evolve(memory.statefulset, replicas=4)
    memory = _with(memory, statefulset=grown)
    for index in (2, 3):
        like = memory.groups.get(0).group
        copied = Group(index, like.leader, like.workers, like.statefulset)
        memory = _with(memory, groups=memory.groups.put(Record(copied)))
    serving = unready(memory, 0, 1)
    assert rules(memory, leaders(memory, 2, 0, key=key)) == []
    assert rules(serving, leaders(serving, 2, 0, key=key)) == ["budget"]
    smaller = attrs.evolve(grown, annotations=grown.annotations | {names.REPLICAS: "4"})
    serving = _with(serving, statefulset=smaller)
    assert rules(serving, leaders(serving, 2, 0, key=key)) == []


def test_one_ready_group_may_go_when_only_broken_old_ones_are_unready() -> None:
    memory = broken_old(at_rest(), 0)
    assert rules(memory, leaders(memory, 4, 3)) == []
    assert rules(memory, leaders(memory, 4, 2)) == ["budget"], "two at once"
    assert memory.statefulset is not None
    labels = memory.statefulset.labels | {names.REVISION_KEY: "new"}
    given_up = _with(memory, statefulset=attrs.evolve(memory.statefulset, partition=3, labels=labels))
    assert rules(given_up, leaders(given_up, 4, 2)) == ["budget"], "one after another"
    loading = unready(memory, 1)
    assert rules(loading, leaders(loading, 4, 3, key=key_of(memory))) == []
    assert rules(loading, delete(loading, 3)) == ["budget"], "one of the newest revision is on its way"


def test_ready_group_never_goes_before_the_broken_ones_were_waited_for() -> None:
    memory = broken_old(at_rest(), 0)
    write = leaders(memory, 4, 3)
    assert rules(memory, write, now_s=NOW_S - 1) == ["budget"]
    fallen = since(memory, 0, unready_since_s=None)
    assert rules(fallen, write) == ["budget"]
    failing = since(fallen, 0, failing_since_s=NOW_S - 300)
    assert (rules(failing, write), rules(failing, write, now_s=NOW_S - 1)) == ([], ["budget"])
    ailing = since(memory, 0, unready_since_s=NOW_S - 60, ailing_since_s=NOW_S - 900)
    assert (rules(ailing, write), rules(ailing, write, now_s=NOW_S - 1)) == ([], ["budget"])
    earlier = since(memory, 0, unready_since_s=0.0, ailing_since_s=0.0)
    assert rules(earlier, write, now_s=START_S + 299) == ["budget"], "nothing was before the beginning"
    absent = change(since(memory, 0, unready_since_s=None), 0, leader=None)
    assert rules(_with(absent, unseen=((1, NOW_S - 300),)), write) == []
    assert rules(_with(absent, unseen=((2, NOW_S - 300),)), write) == ["budget"]


def test_nothing_ever_goes_over_the_budget_while_nothing_is_broken() -> None:
    memory = at_rest(Shape(replicas=3, size=1, max_unavailable=0, max_surge=1))
    assert rules(memory, leaders(memory, 4, 3)) == []
    assert rules(memory, leaders(memory, 4, 2)) == ["budget"]


# -- the other numbers


def test_leaders_are_never_more_than_the_ceiling() -> None:
    memory = at_rest(Shape(replicas=3, max_surge=2))
    assert rules(memory, leaders(memory, 5, 3)) == []
    assert rules(memory, leaders(memory, 6, 3)) == ["ceiling"]


def test_the_partition_is_never_below_the_users() -> None:
    memory = at_rest(Shape(replicas=3, partition=2))
    assert rules(memory, leaders(memory, 3, 2)) == []
    assert rules(memory, leaders(memory, 3, 1)) == ["canary", "budget"]


def test_a_restored_template_never_ends_a_ready_group() -> None:
    memory = at_rest()
    key = key_of(memory)
    assert memory.statefulset is not None
    memory = _with(
        memory, statefulset=attrs.evolve(memory.statefulset, update_revision="foreign", partition=4)
    )
    other: dict[str, object] = {"spec": {}}
    assert rules(memory, leaders(memory, 4, 4, key=key, template=other)) == []
    assert rules(memory, leaders(memory, 4, 3, key=key, template=other)) == ["template"]
    assert rules(memory, leaders(memory, 4, 3, key=key)) == [], "the stored one goes back unchanged"
    assert rules(memory, leaders(memory, 3, 4, key=key, template=other)) == [], "surge that is returned"


# -- deletes


def test_deleted_leaders_are_always_counted_together() -> None:
    memory = at_rest()
    assert rules(memory, delete(memory, 3)) == []
    assert rules(memory, delete(memory, 3), delete(memory, 2)) == ["budget"]
    lost = unready(memory, 3, 2)
    assert rules(lost, delete(lost, 3), delete(lost, 2)) == [], "unready ones are free"


def test_a_leader_whose_deletion_is_under_way_never_counts_as_ready() -> None:
    memory = _with(at_rest(), deleting=1 << 1)
    assert rules(memory, delete(memory, 3)) == ["budget"]


def test_a_leader_below_the_partition_is_never_deleted_for_a_rollout() -> None:
    memory = at_rest(Shape(replicas=3, partition=1))
    assert rules(memory, delete(memory, 0)) == ["canary"]
    assert rules(memory, delete(memory, 1)) == []
    assert memory.statefulset is not None
    held = _with(memory, statefulset=attrs.evolve(memory.statefulset, partition=3))
    assert rules(held, delete(held, 1)) == ["canary"]


def test_a_recreation_never_counts_against_the_budget() -> None:
    memory = unready(at_rest(), 0)
    assert rules(memory, delete(memory, 3, "Foreground"), delete(memory, 2, "Foreground")) == []


def test_only_the_leader_that_was_seen_may_be_deleted() -> None:
    memory = at_rest()
    assert rules(memory, delete(memory, 3, uid="another")) == ["ownership"]
    assert rules(change(memory, 3, leader=None), delete(memory, 3)) == ["ownership"]
    leader = memory.groups.get(3).group.leader
    assert leader is not None
    ending = change(memory, 3, leader=attrs.evolve(leader, deletion_s=1.0))
    assert rules(ending, delete(memory, 3)) == ["ownership"]


# -- ownership


def worker_write(memory: Memory) -> Apply:
    manifest = {"kind": "StatefulSet", "metadata": {"name": "serve-0", "namespace": "default"}, "spec": {}}
    assert memory.groups.get(0).group.statefulset is not None
    return Apply(freeze_map(manifest), "by hand")


def test_only_what_is_ours_and_alive_is_ever_written() -> None:
    memory = at_rest()
    assert memory.statefulset is not None
    mine = leaders(memory, 4, 4)
    for statefulset in (
        None,
        attrs.evolve(memory.statefulset, terminating=True),
        attrs.evolve(memory.statefulset, owner=None),
        attrs.evolve(memory.statefulset, owner=attrs.evolve(memory.statefulset.owner, uid="another")),  # type: ignore[type-var]
    ):
        assert "ownership" in rules(_with(memory, statefulset=statefulset), mine)
    workers = memory.groups.get(0).group.statefulset
    assert workers is not None
    assert rules(memory, worker_write(memory)) == []
    stale = change(memory, 0, statefulset=attrs.evolve(workers, terminating=True))
    assert rules(stale, worker_write(memory)) == ["ownership"]
    assert rules(change(memory, 0, statefulset=None, leader=None), delete_workers(workers.uid)) == [
        "ownership"
    ]


def delete_workers(uid: str) -> Delete:
    return Delete(Ref("StatefulSet", "default", "serve-0"), uid, "1", "Background", "by hand")


def test_other_actions_are_never_judged() -> None:
    memory = at_rest()
    assert rules(memory) == []
    assert rules(memory, Create(freeze_map({"kind": "Service", "metadata": {"name": "s"}}), "by hand")) == []
    assert rules(Memory(), delete_workers("1")) == []


# -- children


def test_groups_never_end_by_what_their_leaders_own() -> None:
    memory = at_rest(Shape(replicas=2, size=3))
    group = memory.groups.get(0).group
    assert group.leader is not None
    assert group.statefulset is not None
    deletion = delete_workers(group.statefulset.uid)
    assert rules(memory, deletion) == ["children"]
    ending = change(memory, 0, leader=attrs.evolve(group.leader, deletion_s=1.0))
    assert rules(ending, deletion) == []
    write = worker_write(memory).manifest
    for workers, found in ((2, []), (1, ["children"])):
        assert rules(memory, Apply(write.with_("spec", freeze_map({"replicas": workers})), "")) == found


def test_what_all_groups_need_is_never_deleted() -> None:
    memory = at_rest()
    assert memory.statefulset is not None
    for kind, name in (("Service", "serve"), ("Service", "serve-0"), ("StatefulSet", "serve")):
        deletion = Delete(Ref(kind, "default", name), memory.statefulset.uid, "1", "Background", "by hand")
        assert rules(memory, deletion) == ["children"]


def test_requests_must_name_what_was_seen_and_who_owns_it() -> None:
    memory = at_rest()
    assert memory.lws is not None
    owner = {"kind": names.KIND, "name": "serve", "uid": memory.lws.metadata.uid}

    def create(reference: dict[str, Json]) -> list[str]:
        metadata = freeze_map({"name": "serve", "namespace": "default", "ownerReferences": [reference]})
        made = Create(freeze_map({"kind": "Service", "metadata": metadata}), "by hand")
        return [violation.rule for violation in judge_more(memory, (made,))]

    assert create({**owner, "controller": True}) == []
    assert create(owner) == ["ownership"]
    for metadata, found in (({"uid": "u"}, ["guards"]), ({"uid": "u", "resourceVersion": "1"}, [])):
        named = {"name": "serve-0", "namespace": "default", **metadata}
        write = Apply(freeze_map({"kind": "StatefulSet", "metadata": named}), "by hand")
        assert [violation.rule for violation in judge_more(memory, (write,))] == found


# -- what a spec allows


@pytest.mark.parametrize(
    ("shape", "limits"),
    [
        (Shape(replicas=4, max_unavailable=1, max_surge=0), Limits(3, 4, 0)),
        (Shape(replicas=4, max_unavailable=2, max_surge=2, partition=1), Limits(2, 6, 1)),
        (Shape(replicas=4, max_unavailable=9, max_surge=9), Limits(0, 8, 0)),
        (Shape(replicas=4, max_unavailable="30%", max_surge="30%"), Limits(3, 6, 0)),
        (Shape(replicas=3, max_unavailable="30%", max_surge="30%"), Limits(3, 4, 0)),
        (Shape(replicas=3, max_unavailable="30%", max_surge="0%"), Limits(2, 3, 0)),
        (Shape(replicas=0, max_unavailable=1, max_surge=1), Limits(0, 0, 0)),
    ],
)
def test_limits_are_always_counts_of_groups(shape: Shape, limits: Limits) -> None:
    assert limits_of(decode(shape.manifest).spec) == limits


# -- what counts as ready


def test_a_group_is_ready_only_as_a_whole() -> None:
    memory = at_rest(Shape(replicas=1, size=3))
    group = memory.groups.get(0).group
    assert memory.statefulset is not None
    assert group.leader is not None
    assert group.statefulset is not None
    uid, key = memory.statefulset.uid, group.leader.revision_key
    assert is_ready(group, uid, {key: 3})
    first, second = group.workers
    lacking = [
        attrs.evolve(group, leader=None),
        attrs.evolve(group, leader=attrs.evolve(group.leader, ready=False)),
        attrs.evolve(group, leader=attrs.evolve(group.leader, deletion_s=1.0)),
        attrs.evolve(group, leader=attrs.evolve(group.leader, uid="another")),
        attrs.evolve(group, statefulset=None),
        attrs.evolve(group, statefulset=attrs.evolve(group.statefulset, terminating=True)),
        attrs.evolve(group, statefulset=attrs.evolve(group.statefulset, observed_generation=0)),
        attrs.evolve(group, statefulset=attrs.evolve(group.statefulset, uid="another")),
        attrs.evolve(group, workers=(first,)),
        attrs.evolve(group, workers=(first, attrs.evolve(second, ready=False))),
        attrs.evolve(group, workers=(first, attrs.evolve(second, deletion_s=1.0))),
        attrs.evolve(group, workers=(first, attrs.evolve(second, revision_key="old"))),
    ]
    assert not any(is_ready(other, uid, {key: 3}) for other in lacking)
    assert not is_ready(group, "another", {key: 3})
    assert not is_ready(group, uid, {}), "its size is not known"
    assert is_ready(attrs.evolve(group, workers=(), statefulset=None), uid, {key: 1})
