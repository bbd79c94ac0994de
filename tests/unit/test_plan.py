from __future__ import annotations

from typing import Any

import attrs
import pytest
from machine import START_S, group, leader, live, own_revision, statefulset, view_of

from lws_core import names
from lws_core.desired.leader_statefulset import leader_template
from lws_core.history import History
from lws_core.observed import Child, Group, Node, Owner
from lws_core.options import Options
from lws_core.plan import (
    GroupPlan,
    SetView,
    outdated,
    plan_group,
    plan_set,
    position_of,
    renders_live,
)
from lws_core.rendered import Rendered, encode
from lws_core.restart import Hold, Recreate
from lws_core.revision import record
from lws_core.rollout import Done, Position, Step
from lws_core.summary import GroupState
from lws_core.values import EMPTY, FrozenMap, as_list, as_map, dig, digest, freeze_map

LIVE = live()
BEFORE = live(template={"size": 5})
NEW = GroupState(True, False, True, True, "new", "serve-new", ("new",))
OLD = GroupState(True, False, True, True, "old", "serve-old", ("old",))
REVISIONS = (own_revision(BEFORE, "old", 1, record(BEFORE)), own_revision(LIVE, "new", 2, record(LIVE)))
STORED = leader_template(LIVE, "new")
NATIVES: FrozenMap[str] = FrozenMap({"serve-new": "new", "serve-old": "old"})


def view(*states: GroupState, leaders: dict[str, Any] | None = None, **fields: Any) -> SetView:
    """The view of a set whose leaders are on revision `new`, with the template that it renders."""
    found = statefulset(template=STORED, template_digest=digest(STORED), **(leaders or {}))
    known = {"statefulset": found, "revisions": REVISIONS, "native_keys": NATIVES, **fields}
    return view_of(LIVE, states, **known)


# Sets.


def test_new_set_always_waits_for_its_revision_before_its_leaders() -> None:
    plan = plan_set(LIVE, view_of(LIVE, ()))
    assert plan.lineage.create is not None
    assert plan.leaders is None
    assert dig(plan.service, "metadata", "name") == "serve"


def test_new_set_always_starts_at_its_own_numbers() -> None:
    canary = live({"replicas": 5}, rolling={"partition": 2, "maxSurge": 3})
    revisions = (own_revision(canary, "new", 1, record(canary)),)
    leaders = plan_set(canary, view_of(canary, (), revisions=revisions)).leaders
    assert leaders is not None
    assert (leaders.replicas, leaders.partition, leaders.writes_template) == (5, 2, True)


def test_service_of_the_set_never_is_made_where_each_group_has_its_own() -> None:
    unique = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})
    assert plan_set(unique, view_of(unique, ())).service is None


def test_service_of_the_set_always_stays_wanted_while_older_groups_are_named_in_it() -> None:
    unique = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})
    revisions = (own_revision(LIVE, "old", 1, record(LIVE)), own_revision(unique, "new", 2, record(unique)))
    known = {"revisions": revisions, "statefulset": statefulset()}
    assert plan_set(unique, view_of(unique, (OLD, NEW), **known)).service is not None
    assert plan_set(unique, view_of(unique, (NEW, NEW), **known)).service is None


@pytest.mark.parametrize(
    ("states", "surge", "found"),
    [
        pytest.param((OLD, OLD, OLD), 0, (3, 3), id="old leaders are held"),
        pytest.param((OLD, OLD, OLD, NEW), 1, (4, 4), id="with surge, which may serve"),
        pytest.param((OLD, OLD, OLD, NEW, NEW), 1, (4, 4), id="as much surge as there may be"),
        pytest.param((NEW, NEW, NEW), 1, (3, 0), id="there is nothing to replace"),
        pytest.param((attrs.evolve(OLD, terminating=True),) * 3, 0, (3, 0), id="they end"),
    ],
)
def test_leaders_that_were_orphaned_never_are_replaced_over_the_budget(
    states: tuple[GroupState, ...], surge: int, found: tuple[int, int]
) -> None:
    """Their StatefulSet was deleted with `--cascade=orphan` in mid-rollout, and is made anew."""
    lws = live(rolling={"maxSurge": surge})
    leaders = plan_set(lws, view_of(lws, states, revisions=REVISIONS)).leaders
    assert leaders is not None
    assert (leaders.replicas, leaders.partition) == found


def test_set_at_rest_always_keeps_its_numbers_and_template() -> None:
    plan = plan_set(LIVE, view(NEW, NEW, NEW))
    assert isinstance(plan.decision, Done)
    assert plan.leaders is not None
    assert plan.leaders.template == STORED
    assert not plan.leaders.writes_template
    assert plan.replace == ()


def test_new_template_always_is_written_with_its_revision_and_the_partition_on_top() -> None:
    plan = plan_set(LIVE, view(OLD, OLD, OLD, leaders={"labels": FrozenMap({names.REVISION_KEY: "old"})}))
    assert plan.leaders is not None
    assert plan.decision == Step(3, 3, 1)
    assert plan.leaders.writes_template
    assert plan.leaders.record == Rendered("new")
    assert plan.leaders.template == STORED
    assert plan.replace == ()


def test_released_leaders_always_are_deleted_as_the_budget_allows() -> None:
    assert plan_set(LIVE, view(OLD, OLD, NEW)).replace == (1,)


@pytest.mark.parametrize(
    ("leaders", "fields"),
    [
        pytest.param({"observed_generation": 1}, {}, id="the template is not observed yet"),
        pytest.param({}, {"long_absent": True}, id="leaders cannot be created now"),
        pytest.param({}, {"digest": "another"}, id="the template is not ours"),
        pytest.param({"update_revision": ""}, {}, id="there is no status yet"),
        pytest.param({"partition": 3}, {}, id="the partition seen holds them"),
    ],
)
def test_leader_never_is_deleted_unless_it_is_sure_to_come_back_new(
    leaders: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert plan_set(LIVE, view(OLD, OLD, NEW, leaders=leaders, **fields)).replace == ()


def test_leader_never_is_deleted_for_a_native_revision_alone() -> None:
    """As after `kubectl rollout restart`, which must not bring all leaders down at once."""
    restarted = attrs.evolve(NEW, native_revision="serve-restarted")
    assert plan_set(LIVE, view(restarted, restarted, NEW)).replace == ()


def test_leader_of_a_group_that_is_to_be_recreated_never_is_deleted_before() -> None:
    """It serves until its back-off ends, and comes back on the new revision then."""
    unready = attrs.evolve(OLD, ready=False)
    assert plan_set(LIVE, view(OLD, unready, NEW)).replace == (1,)
    assert plan_set(LIVE, view(OLD, unready, NEW, doomed=0b010)).replace == ()


def test_leader_of_the_update_revision_never_is_deleted_for_its_label() -> None:
    relabelled = attrs.evolve(OLD, native_revision="serve-new")
    assert plan_set(LIVE, view(relabelled, NEW, NEW)).replace == ()


def test_pod_of_an_unknown_revision_always_stops_deletions() -> None:
    unknown = attrs.evolve(NEW, revision_key="other", keys=("other",))
    assert plan_set(LIVE, view(OLD, OLD, unknown)).replace == ()


def test_outdated_group_always_is_one_of_another_key_or_native_revision() -> None:
    stale = attrs.evolve(NEW, native_revision="serve-restarted")
    assert outdated(view(OLD, stale, NEW)) == 0b011
    # A status that is not of the newest spec says nothing.
    assert outdated(view(OLD, stale, NEW, leaders={"observed_generation": 1})) == 0b001


def test_foreign_edit_of_the_template_always_is_healed_in_one_write_with_the_partition() -> None:
    edited = STORED.with_("spec", freeze_map({"containers": []}))
    leaders = {"template": edited, "template_digest": digest(edited), "update_revision": "serve-x"}
    shown = attrs.evolve(
        view(NEW, NEW, NEW, digest=digest(STORED)),
        statefulset=statefulset(**leaders),
    )
    plan = plan_set(LIVE, shown)
    assert plan.leaders is not None
    assert plan.leaders.heals
    assert plan.leaders.writes_template
    assert plan.leaders.template == STORED
    assert plan.decision == Step(3, 3, 0)
    assert plan.exposed == 0b111


def test_template_that_only_gained_a_default_never_is_written_again() -> None:
    """As a newer API server fills one in, which moves no pod."""
    richer = STORED.with_("spec", freeze_map({**STORED["spec"], "schedulerName": "default"}))  # type: ignore[dict-item]
    shown = view(NEW, NEW, NEW, digest=digest(STORED))
    changed = attrs.evolve(shown, statefulset=statefulset(template=richer, template_digest=digest(richer)))
    plan = plan_set(LIVE, changed)
    assert plan.leaders is not None
    assert not plan.leaders.writes_template
    assert plan.leaders.template == richer


def test_template_of_unknown_origin_always_is_left_alone() -> None:
    """No digest tells whether it is ours, and it has not all that we render."""
    strange = freeze_map({"spec": {"containers": []}})
    shown = attrs.evolve(view(OLD, OLD, NEW), statefulset=statefulset(template=strange, template_digest="x"))
    plan = plan_set(LIVE, shown)
    assert plan.leaders is not None
    assert plan.leaders.template == strange
    assert not plan.leaders.writes_template
    assert plan.replace == ()


@pytest.mark.parametrize(
    ("shown", "obsolete"),
    [
        (view(NEW, NEW, NEW), ["serve-old-1"]),
        (view(NEW, NEW, attrs.evolve(NEW, keys=("new", "old"))), []),
        (view(NEW, NEW, NEW, leaders={"current_revision": "serve-old"}), []),
        (view(NEW, NEW, NEW, native_keys=EMPTY), []),
        (view(NEW, NEW, NEW, leaders={"observed_generation": 1}), []),
        (view(NEW, NEW, attrs.evolve(NEW, ready=False)), []),
    ],
    ids=["unused", "a worker names it", "leaders may come back on it", "unknown", "unobserved", "moving"],
)
def test_revision_never_is_deleted_while_anything_may_come_back_on_it(
    shown: SetView, obsolete: list[str]
) -> None:
    assert [one.name for one in plan_set(LIVE, shown).obsolete] == obsolete


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "\u0663", "9" * 5000])
def test_record_of_replicas_that_makes_no_sense_never_stops_a_look(text: str) -> None:
    found = statefulset(annotations=FrozenMap({names.REPLICAS: text}))
    assert position_of(LIVE, found) == Position(3, 0, 3)


def test_replicas_last_applied_always_come_from_the_annotation() -> None:
    found = statefulset(annotations=FrozenMap({names.REPLICAS: "7"}))
    assert position_of(LIVE, found).applied_replicas == 7


def test_stored_template_always_shows_whether_the_live_spec_rendered_it() -> None:
    assert renders_live(LIVE, statefulset(template=STORED))
    assert not renders_live(BEFORE, statefulset(template=STORED))
    # The set's topology has changed since, which no revision tells of.
    placed = live(metadata={"annotations": {names.EXCLUSIVE_TOPOLOGY: "rack"}})
    kept = FrozenMap({names.RENDERED: encode(Rendered("new"))})
    assert renders_live(placed, statefulset(template=STORED, annotations=kept))


# Groups.


def planned(one: Group, then: Any = LIVE, lws: Any = LIVE, **given: Any) -> GroupPlan:
    given = {"statefulset": statefulset(), "now_s": START_S, **given}
    return plan_group(lws, then, one, History(leader_uid="uid-0"), **given)


def kinds(plan: GroupPlan) -> list[Any]:
    return [manifest["kind"] for manifest in plan.missing]


def test_workers_always_get_the_subdomain_that_their_leader_was_made_with() -> None:
    """Not every record tells it, and without it they would not find each other."""
    plan = planned(Group(0, leader(0, own_subdomain=True)))
    assert kinds(plan) == ["Service", "StatefulSet"]
    assert dig(plan.missing[1], "spec", "serviceName") == "serve-0"


def test_workers_always_get_the_claims_that_the_leaders_have() -> None:
    """A record has others where they were edited although no StatefulSet can change them."""
    stored = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "d"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"},
        "status": {"phase": "Pending"},
    }
    found = statefulset(claims=(freeze_map(stored),))
    for asked, given in (("1024Mi", "1024Mi"), ("2Gi", "1Gi")):
        claim = {"metadata": {"name": "d"}, "spec": {"resources": {"requests": {"storage": asked}}}}
        then = live(template={"volumeClaimTemplates": [claim]})
        (workers,) = planned(Group(0, leader(0)), then, statefulset=found).missing
        (claims,) = as_list(dig(workers, "spec", "volumeClaimTemplates"))
        assert dig(claims, "spec", "resources", "requests", "storage") == given
        assert "status" not in as_map(claims)


def test_new_leader_always_gets_its_children() -> None:
    unique = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})
    plan = planned(Group(0, leader(0)), unique, unique, options=Options(gang_scheduling=True))
    assert kinds(plan) == ["Service", "PodGroup", "StatefulSet"]
    assert all(dig(m, "metadata", "ownerReferences")[0]["uid"] == "uid-0" for m in plan.missing)  # type: ignore[index,call-overload]
    assert kinds(planned(group(0))) == []


def test_children_of_an_earlier_leader_never_count() -> None:
    stale = attrs.evolve(group(0), leader=leader(0, uid="next"))
    assert kinds(planned(stale)) == ["StatefulSet"]


def test_group_s_size_and_network_always_are_its_revision_s_never_the_live_set_s() -> None:
    then = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}}, {"size": 5})
    plan = planned(Group(0, leader(0, "old")), then, live(template={"size": 1}))
    assert kinds(plan) == ["Service", "StatefulSet"]
    assert plan.workers == 4
    assert dig(plan.missing[1], "spec", "replicas") == 4
    assert kinds(planned(Group(0, leader(0, "old")), live(template={"size": 1}), LIVE)) == []


@pytest.mark.parametrize(
    "one",
    [
        Group(0),
        Group(0, leader(0, deletion_s=1.0)),
        Group(7, leader(7)),
    ],
    ids=["no leader", "a leader that goes", "a leader that is scaled away"],
)
def test_group_that_ends_never_gets_children(one: Group) -> None:
    assert planned(one).missing == ()
    assert planned(one).trouble is None


def test_terminating_set_never_gets_children() -> None:
    ending = live(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert planned(Group(0, leader(0)), lws=ending) == GroupPlan(0)


def test_workers_always_wait_for_a_leader_that_is_to_be_ready_first() -> None:
    waiting = live({"startupPolicy": "LeaderReady"})
    one = Group(0, leader(0, ready=False))
    plan = planned(one, waiting, waiting)
    assert (kinds(plan), plan.waits_for_leader) == ([], True)
    assert kinds(planned(Group(0, leader(0)), waiting, waiting)) == ["StatefulSet"]
    assert kinds(planned(one)) == ["StatefulSet"]
    # Once made they stay, whatever becomes of the leader.
    fallen = attrs.evolve(group(0), leader=leader(0, ready=False))
    assert not planned(fallen, waiting, waiting).waits_for_leader


@pytest.mark.parametrize(
    ("one", "then", "obstacle"),
    [
        (Group(0, leader(0, owner=Owner("StatefulSet", "other", "x"))), LIVE, "Foreign"),
        (Group(0, leader(0, owner=None)), LIVE, "Foreign"),
        (Group(0, leader(0, group_key="")), LIVE, "NoAdmission"),
        (Group(0, leader(0, names_a_leader=True)), LIVE, "OldKubernetes"),
        (Group(0, leader(0)), None, "NoRevision"),
        (Group(0, leader(0, exclusive_topology="rack", node_name="")), LIVE, "NoNode"),
        (Group(0, leader(0, exclusive_topology="rack")), LIVE, "NoNode"),
    ],
)
def test_group_without_all_it_takes_never_gets_workers(one: Group, then: Any, obstacle: str) -> None:
    plan = planned(one, then)
    assert plan.missing == ()
    assert plan.trouble is not None
    assert plan.trouble.obstacle == obstacle
    assert "serve-0" in plan.trouble.message


def test_exclusive_group_always_is_bound_to_its_leader_s_domain() -> None:
    one = Group(0, leader(0, exclusive_topology="rack"))
    bound = planned(one, node=Node("node", FrozenMap({"rack": "r1"})))
    assert dig(bound.missing[0], "spec", "template", "spec", "nodeSelector") == {"rack": "r1"}
    lacking = planned(one, node=Node("node", EMPTY))
    assert lacking.trouble is not None
    assert lacking.trouble.obstacle == "NoTopology"


def test_gang_of_amounts_that_make_no_sense_never_keeps_its_workers_from_being_made() -> None:
    bad = live(
        template={
            "workerTemplate": {
                "spec": {"containers": [{"name": "m", "resources": {"limits": {"cpu": "much"}}}]}
            }
        }
    )
    plan = planned(Group(0, leader(0)), bad, bad, options=Options(gang_scheduling=True))
    assert kinds(plan) == ["StatefulSet"]
    assert plan.trouble is not None
    assert plan.trouble.obstacle == "BadTemplate"


def test_group_that_is_recreated_never_gets_children_meanwhile() -> None:
    plan = planned(Group(0, leader(0, restarts=1)))
    assert isinstance(plan.restart, Recreate)
    assert plan.missing == ()
    held = planned(Group(0, leader(0, restarts=1)), options=Options(recreation_limit=0))
    assert isinstance(held.restart, Hold)
    assert kinds(held) == ["StatefulSet"]


def test_existing_child_of_the_leader_never_is_made_again() -> None:
    unique = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})
    service = Child("Service", "serve-0", "u", "1", Owner("Pod", "serve-0", "uid-0"), False, 0)
    one = attrs.evolve(group(0), service=service)
    assert kinds(planned(one, unique, unique)) == []
    stale = attrs.evolve(one, service=attrs.evolve(service, owner=Owner("Pod", "serve-0", "earlier")))
    assert kinds(planned(stale, unique, unique)) == ["Service"]


def test_leader_of_an_earlier_set_always_is_waited_for_and_never_called_foreign() -> None:
    plan = planned(Group(0, leader(0, owner=Owner("StatefulSet", "serve", "earlier"))))
    assert plan.missing == ()
    assert plan.trouble is None
