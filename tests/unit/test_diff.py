from __future__ import annotations

from typing import Any

import attrs
import pytest
from machine import group, leader, live, own_revision, statefulset, view_of, worker, workers, writes

from lws_core import names
from lws_core.actions import Apply, Create, Delete, TakeFields
from lws_core.desired.leader_statefulset import leader_template
from lws_core.diff import Change, diff_group, diff_leaders, diff_set, standing
from lws_core.evidence import Evidence
from lws_core.observed import Child, Group, LeaderStatefulSet, Owner
from lws_core.plan import GroupPlan, Leaders, SetPlan
from lws_core.rendered import Rendered, encode
from lws_core.restart import Recreate, Recreation
from lws_core.revision import record
from lws_core.values import EMPTY, FrozenMap, as_map, dig, freeze_map

LIVE = live()
STORED = leader_template(LIVE, "new")
LEADERS = Leaders(3, 0, STORED, Rendered("new"))
MINE = Owner(names.KIND, "serve", "uid-set")


@pytest.mark.parametrize(
    ("owner", "terminating", "whose"),
    [
        (MINE, False, "Own"),
        (MINE, True, "Leaving"),
        (Owner(names.KIND, "serve", "earlier"), False, "Leaving"),
        (Owner(names.KIND, "other", "uid-set"), False, "Foreign"),
        (None, False, "Foreign"),
        (None, True, "Leaving"),
    ],
)
def test_object_never_is_ours_by_its_name(owner: Owner | None, terminating: bool, whose: str) -> None:
    assert standing(owner, terminating, kind=names.KIND, name="serve", uid="uid-set") == whose


def to_leaders(
    found: LeaderStatefulSet | None, leaders: Leaders = LEADERS, lws: Any = LIVE, **view: Any
) -> Change:
    revisions = (own_revision(LIVE, "new", 1, record(LIVE)),)
    return diff_leaders(lws, leaders, view_of(lws, (), statefulset=found, revisions=revisions, **view))


def stored(**fields: Any) -> LeaderStatefulSet:
    return statefulset(template=STORED, **fields)


def why(change: Change) -> str:
    (action,) = change.actions
    assert isinstance(action, Apply | TakeFields)
    return action.why


def test_missing_leaders_always_are_created_with_their_record() -> None:
    (create,) = to_leaders(None).actions
    assert isinstance(create, Create)
    assert dig(create.manifest, "metadata", "annotations", names.RENDERED) == '{"key":"new"}'


def test_leaders_as_they_should_be_never_are_written() -> None:
    assert to_leaders(stored()) == Change()


def test_record_alone_never_is_worth_a_write() -> None:
    """It travels with the next write that is due anyway."""
    recorded = attrs.evolve(LEADERS, record=Rendered("new", "digest"))
    assert to_leaders(stored(), recorded) == Change()
    (apply,) = to_leaders(stored(replicas=5), recorded).actions
    assert isinstance(apply, Apply)
    assert dig(apply.manifest, "metadata", "annotations", names.RENDERED) == encode(recorded.record)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"replicas": 5}, "replicas 5 to 3"),
        ({"partition": 2}, "partition 2 to 0"),
        ({"max_unavailable": 4}, "maxUnavailable 4 to 1"),
        ({"annotations": FrozenMap({names.REPLICAS: "9"})}, f"annotation {names.REPLICAS}"),
        ({"labels": FrozenMap({names.REVISION_KEY: "new"})}, f"label {names.SET_NAME}"),
    ],
)
def test_difference_always_is_applied_and_named(found: dict[str, Any], reason: str) -> None:
    assert why(to_leaders(stored(**found))) == reason


def test_dropped_max_unavailable_never_is_a_difference() -> None:
    """With its feature gate off the API server does not keep it."""
    assert to_leaders(stored(max_unavailable=None)).actions == ()
    assert to_leaders(stored(max_unavailable=1)).actions == ()


def test_label_of_somebody_else_never_is_a_difference() -> None:
    more = FrozenMap({names.SET_NAME: "serve", names.REVISION_KEY: "new", "theirs": "x"})
    assert to_leaders(stored(labels=more)).actions == ()


def test_label_that_we_wrote_and_want_no_more_always_is_taken_back() -> None:
    ours = {"labels": FrozenMap({**stored().labels, "team": "a"}), "owned_labels": ("team", names.SET_NAME)}
    assert why(to_leaders(stored(**ours))) == "team removed"
    # What was written by POST has to be turned into applied fields first: no apply takes them back.
    (take,) = to_leaders(stored(**ours, posted_fields=1)).actions
    assert isinstance(take, TakeFields)
    assert take.index == 1
    # The set wants it still: nothing to do.
    wanted = live(metadata={"labels": {"team": "a"}})
    assert to_leaders(stored(**ours), lws=wanted).actions == ()


def test_annotation_of_recreations_never_is_lost() -> None:
    kept = FrozenMap({names.REPLICAS: "3", names.RECREATIONS: '{"0":[1,2,"u"]}'})
    (apply,) = to_leaders(stored(annotations=kept, replicas=5)).actions
    assert isinstance(apply, Apply)
    assert dig(apply.manifest, "metadata", "annotations", names.RECREATIONS) == '{"0":[1,2,"u"]}'
    (apply,) = to_leaders(stored(annotations=kept), recreations='{"0":[2,3,"v"]}').actions
    assert isinstance(apply, Apply)
    assert apply.why == f"annotation {names.RECREATIONS}"


def test_what_cannot_change_always_goes_back_as_it_was_observed() -> None:
    claims = (freeze_map({"metadata": {"name": "old"}}),)
    retention = freeze_map({"whenDeleted": "Delete"})
    found = stored(
        replicas=5,
        claims=claims,
        retention=retention,
        service_name="theirs",
        selector=FrozenMap({"a": "b"}),
    )
    (apply,) = to_leaders(found).actions
    assert isinstance(apply, Apply)
    spec = as_map(apply.manifest["spec"])
    assert spec["volumeClaimTemplates"] == claims
    assert spec["persistentVolumeClaimRetentionPolicy"] == retention
    assert spec["serviceName"] == "theirs"
    assert dig(spec, "selector", "matchLabels") == {"a": "b"}
    identity = dig(apply.manifest, "metadata", "uid"), dig(apply.manifest, "metadata", "resourceVersion")
    assert identity == ("uid-leaders", "5")


def test_template_write_always_is_named_by_its_revision_or_as_healed() -> None:
    writing = attrs.evolve(LEADERS, writes_template=True)
    assert why(to_leaders(stored(), writing)) == "revision new"
    assert why(to_leaders(stored(), attrs.evolve(writing, heals=True))) == "template healed"
    (take,) = to_leaders(stored(posted_fields=0), writing).actions
    assert isinstance(take, TakeFields)


ACCOUNT = {"serviceAccountName": "a", "containers": [{"name": "main", "image": "img:0"}]}
OLD = leader_template(live(template={"workerTemplate": {"spec": ACCOUNT}}), "old")
BARE = freeze_map({"f:metadata": {}, "f:spec": {"f:serviceAccountName": {}, "f:containers": {}}})


def of_old(**fields: Any) -> LeaderStatefulSet:
    """Leaders with an older template, with an account that the API server has mirrored."""
    template = OLD.with_("spec", as_map(OLD["spec"]).with_("serviceAccount", "a"))
    labels = FrozenMap({names.SET_NAME: "serve", names.REVISION_KEY: "old"})
    return statefulset(**{"template": template, "applied_template": BARE, "labels": labels, **fields})


def test_template_that_would_leave_fields_behind_always_is_taken_over_as_it_is_first() -> None:
    """Then it is written as ever: with the partition on top of all groups."""
    writing = attrs.evolve(LEADERS, partition=3, replicas=5, writes_template=True)
    found = of_old()
    change = to_leaders(found, writing)
    (apply,) = change.actions
    assert isinstance(apply, Apply)
    assert apply.why.startswith("spec.serviceAccount of the template taken over, for revision new")
    assert change.taken == found.resource_version
    spec = as_map(apply.manifest["spec"])
    assert (spec["template"], spec["replicas"]) == (found.template, 3)
    assert dig(spec, "updateStrategy", "rollingUpdate", "partition") == 0  # nothing is being replaced
    assert dig(apply.manifest, "metadata", "labels", names.REVISION_KEY) == "old"

    whole = freeze_map({"f:metadata": {}, "f:spec": {}})
    for taken in (to_leaders(of_old(applied_template=whole), writing), to_leaders(found, writing, taken="5")):
        (apply,) = taken.actions
        assert isinstance(apply, Apply)
        assert dig(apply.manifest, "spec", "template") == STORED
        assert dig(apply.manifest, "spec", "updateStrategy", "rollingUpdate", "partition") == 3


def test_template_that_is_taken_over_in_a_rollout_always_holds_the_groups_back_already() -> None:
    """As the user's own partition does, and no more leaders than the set wants now."""
    writing = attrs.evolve(LEADERS, partition=2, replicas=2, writes_template=True)
    (apply,) = to_leaders(of_old(replicas=4, current_revision="serve-older"), writing).actions
    assert isinstance(apply, Apply)
    assert dig(apply.manifest, "spec", "updateStrategy", "rollingUpdate", "partition") == 2
    assert dig(apply.manifest, "spec", "replicas") == 2
    canary = live(rolling={"partition": 1})
    (apply,) = to_leaders(of_old(), writing, canary).actions
    assert isinstance(apply, Apply)
    assert dig(apply.manifest, "spec", "updateStrategy", "rollingUpdate", "partition") == 1


def test_foreign_edit_never_waits_for_its_fields_to_be_taken_over() -> None:
    """It may be replacing leaders."""
    healing = attrs.evolve(LEADERS, writes_template=True, heals=True)
    change = to_leaders(of_old(), healing)
    assert why(change).startswith("template healed")
    assert change.taken == ""


def test_foreign_leaders_never_are_touched_but_reported() -> None:
    change = to_leaders(stored(owner=None, replicas=9))
    assert change.actions == ()
    assert [trouble.obstacle for trouble in change.foreign] == ["Foreign"]
    # Those of an earlier set of the name are on their way out.
    assert to_leaders(stored(owner=Owner(names.KIND, "serve", "earlier"), replicas=9)) == Change()
    assert to_leaders(stored(terminating=True, replicas=9)) == Change()


def to_set(plan: SetPlan, leaders: Any = EMPTY, **view: Any) -> Change:
    revisions = (own_revision(LIVE, "new", 1, record(LIVE)),)
    return diff_set(LIVE, plan, view_of(LIVE, (), revisions=revisions, **view), leaders)


def test_revision_always_is_created_or_raised_as_its_lineage_says() -> None:
    created = plan_of(create=freeze_map({"kind": "ControllerRevision", "metadata": {"name": "r"}}))
    (create,) = to_set(created).actions
    assert isinstance(create, Create)
    reused = own_revision(LIVE, "first", 1, record(LIVE))
    (raised,) = to_set(plan_of(reused=reused, raise_to=7)).actions
    assert isinstance(raised, Apply)
    assert raised.manifest["revision"] == 7
    assert dig(raised.manifest, "metadata", "uid") == reused.uid
    assert "data" not in raised.manifest


def plan_of(**lineage: Any) -> SetPlan:
    base = view_of(LIVE, (), revisions=(own_revision(LIVE, "new", 1, record(LIVE)),)).lineage
    return SetPlan(attrs.evolve(base, **{"changes": False, "create": None, **lineage}), service=None)


def test_service_of_another_never_is_adopted() -> None:
    plan = attrs.evolve(plan_of(), service=freeze_map({"kind": "Service", "metadata": {"name": "serve"}}))
    assert len(to_set(plan).actions) == 1
    mine = Child("Service", "serve", "u", "1", MINE, False)
    assert to_set(plan, service=mine) == Change()
    assert to_set(plan, service=attrs.evolve(mine, owner=Owner(names.KIND, "serve", "x"))) == Change()
    change = to_set(plan, service=attrs.evolve(mine, owner=None))
    assert (change.actions, len(change.foreign)) == ((), 1)


def test_deletion_always_carries_what_was_seen() -> None:
    pods = FrozenMap({"2": leader(2, resource_version="77")})
    obsolete = (own_revision(LIVE, "old", 1, record(LIVE), resource_version="9"),)
    plan = attrs.evolve(plan_of(), replace=(2,), obsolete=obsolete)
    found = [action for action in to_set(plan, pods).actions if isinstance(action, Delete)]
    seen = [(action.ref.name, action.uid, action.resource_version) for action in found]
    assert seen == [("serve-2", "uid-2", "77"), ("serve-old-1", "uid-old-1", "9")]
    assert {action.propagation for action in found} == {"Background"}


# Groups.

WORKERS = freeze_map(
    {
        "kind": "StatefulSet",
        "metadata": {"name": "serve-0", "namespace": "default"},
        "spec": {"replicas": 1},
    }
)


def to_group(plan: GroupPlan, one: Group) -> Change:
    return diff_group(LIVE, plan, one)


def test_missing_child_always_is_created_once_its_name_is_free() -> None:
    plan = GroupPlan(0, (WORKERS,), 1)
    assert writes(to_group(plan, Group(0, leader(0))).actions) == ["Create StatefulSet serve-0"]
    assert to_group(plan, Group(0)) == Change()


@pytest.mark.parametrize(
    "one",
    [
        Group(0, leader(0), (worker(0, 1),)),
        Group(0, leader(0, uid="next"), (), workers(0)),
        Group(0, leader(0), (), workers(0, terminating=True)),
    ],
    ids=["earlier pods are there", "an earlier leader's", "it is terminating"],
)
def test_workers_never_are_created_while_earlier_ones_hold_their_names(one: Group) -> None:
    """Their creation would fail and back off for long."""
    assert to_group(GroupPlan(0, (WORKERS,), 1), one) == Change()


def test_foreign_child_never_is_touched_but_reported() -> None:
    foreign = Group(0, leader(0), (), workers(0, owner=None, replicas=9))
    change = to_group(GroupPlan(0, (WORKERS,), 1), foreign)
    assert (change.actions, len(change.foreign)) == ((), 1)


def test_pod_group_always_is_told_from_another_by_its_name() -> None:
    """That of the earlier revision is on its way out; the new one has another name."""
    manifest = freeze_map({"kind": "PodGroup", "metadata": {"name": "serve-0-new", "namespace": "default"}})
    old = Child("PodGroup", "serve-0-old", "u", "1", Owner("Pod", "serve-0", "earlier"), False, 0)
    one = Group(0, leader(0), pod_groups=(old,))
    assert writes(to_group(GroupPlan(0, (manifest,)), one).actions) == ["Create PodGroup serve-0-new"]


def test_recreation_always_is_recorded_before_it_is_carried_out() -> None:
    restart = Recreate(Evidence("serve-0-1", "Restarted"), Recreation(1, 5, "uid-0"), recorded=False)
    assert to_group(GroupPlan(0, restart=restart), group(0)) == Change()
    recorded = attrs.evolve(restart, recorded=True)
    (delete,) = to_group(GroupPlan(0, restart=recorded), group(0)).actions
    assert isinstance(delete, Delete)
    assert (delete.propagation, delete.uid) == ("Foreground", "uid-0")


def test_workers_scaled_from_outside_always_are_set_back() -> None:
    scaled = attrs.evolve(group(0), statefulset=workers(0, replicas=5))
    (apply,) = to_group(GroupPlan(0, workers=1), scaled).actions
    assert isinstance(apply, Apply)
    assert apply.manifest["spec"] == {"replicas": 1}
    assert to_group(GroupPlan(0, workers=1), group(0)) == Change()
    assert to_group(GroupPlan(0, workers=None), scaled) == Change()
    others = attrs.evolve(scaled, statefulset=workers(0, replicas=5, owner=None))
    assert to_group(GroupPlan(0, workers=1), others) == Change()
