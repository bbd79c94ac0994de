from __future__ import annotations

from typing import Any

import pytest
from machine import live, own_revision, statefulset

from lws_core import names
from lws_core.desired.leader_statefulset import leader_template
from lws_core.lineage import Lineage, trace, unneeded
from lws_core.observed import Owner, Revision
from lws_core.revision import meaning, new_key, record
from lws_core.spec import LeaderWorkerSet
from lws_core.values import EMPTY, FrozenMap, as_map, dig, freeze_map

NOW = live()
BEFORE = live(template={"size": 5})
OLDEST = live(template={"size": 7})
KEY = new_key(meaning(NOW))


def of(lws: LeaderWorkerSet, key: str, number: int, **more: Any) -> Revision:
    return own_revision(lws, key, number, record(lws), **more)


def traced(*revisions: Revision, key: str = "new", **options: Any) -> Lineage:
    leaders = statefulset(labels=FrozenMap({names.REVISION_KEY: key}))
    return trace(NOW, leaders, revisions, **options)


def test_new_set_always_gets_a_first_revision() -> None:
    found = trace(NOW, None, ())
    assert (found.key, found.changes, found.occasion) == (KEY, True, "New")
    assert dig(found.create, "revision") == 1
    assert found.size_of(KEY) == 2


def test_key_on_the_leaders_always_is_adopted_while_it_means_the_same() -> None:
    """Whatever it was made from: keys are opaque."""
    found = traced(of(NOW, "new", 3))
    assert (found.key, found.changes, found.create) == ("new", False, None)


def test_changed_set_always_becomes_a_revision_of_its_own() -> None:
    found = traced(of(BEFORE, "new", 3))
    assert (found.key, found.changes, found.occasion) == (KEY, True, "Updated")
    assert dig(found.create, "revision") == 4
    assert (found.size_of("new"), found.size_of(KEY), found.size_of("other")) == (5, 2, None)


def test_failed_write_never_leads_to_another_revision() -> None:
    """The revision was created, the template not yet written: it is used, not created once more."""
    found = traced(of(BEFORE, "new", 3), of(NOW, KEY, 4))
    assert (found.key, found.changes, found.create, found.reused) == (KEY, True, None, None)


def test_template_that_comes_back_always_takes_its_old_revision_to_the_front() -> None:
    back = of(NOW, "first", 1)
    found = traced(back, of(BEFORE, "new", 2))
    assert (found.key, found.changes, found.create) == ("first", True, None)
    assert (found.reused, found.raise_to) == (back, 3)


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(of(NOW, "new", 9, owner=None), id="nobody's"),
        pytest.param(of(NOW, "new", 9, owner=Owner(names.KIND, "serve", "earlier")), id="an earlier set's"),
        pytest.param(of(NOW, "new", 9, owner=Owner("StatefulSet", "serve", "sts")), id="a StatefulSet's"),
        pytest.param(of(NOW, "new", 9, terminating=True), id="terminating"),
    ],
)
def test_revision_that_is_not_the_set_s_never_counts(foreign: Revision) -> None:
    found = traced(foreign, of(BEFORE, "other", 2))
    assert "new" not in found.sets
    assert found.create is not None
    assert dig(found.create, "revision") == 10  # but its number is taken


def test_record_of_the_current_revision_that_is_lost_always_is_written_again() -> None:
    remembered = FrozenMap({"new": record(BEFORE)})
    found = traced(of(OLDEST, "old", 1), remembered=remembered)
    assert (found.key, found.changes, found.occasion) == ("new", False, "Missing")
    assert dig(found.create, "data") == record(BEFORE)
    assert found.size_of("new") == 5


def test_lost_record_always_follows_from_the_live_spec_where_the_template_shows_it() -> None:
    """As a set that an older release left has it: leaders with a key, and no revision."""
    found = traced(template_is_live=True)
    assert (found.key, found.changes, found.occasion) == ("new", False, "Missing")
    assert dig(found.create, "metadata", "labels") == {names.SET_NAME: "serve", names.REVISION_KEY: "new"}


def test_lost_record_never_is_made_up_from_another_spec() -> None:
    found = traced()
    assert (found.changes, found.occasion) == (True, "Updated")
    assert found.size_of("new") is None


def test_unreadable_record_never_counts_as_known() -> None:
    found = traced(own_revision(NOW, "new", 3, EMPTY))
    assert found.changes
    assert "new" not in found.sets


UNIQUE = live({"networkConfig": {"subdomainPolicy": "UniquePerReplica"}})


@pytest.mark.parametrize(("before", "after"), [(UNIQUE, NOW), (NOW, UNIQUE)])
def test_record_without_a_network_always_has_the_one_that_its_template_shows(
    before: LeaderWorkerSet, after: LeaderWorkerSet
) -> None:
    """So that the network can still be changed, and the groups until then keep theirs."""
    whole = record(before)
    short = freeze_map({"spec": as_map(whole["spec"]).without("networkConfig")})
    leaders = statefulset(template=leader_template(before, "new"))
    revisions = (own_revision(before, "new", 3, short),)
    found = trace(before, leaders, revisions)
    assert (found.key, found.changes) == ("new", False)
    found = trace(after, leaders, revisions)
    assert found.changes
    assert found.sets["new"].spec.subdomain_policy == before.spec.subdomain_policy
    # The same where it is lost, and is written again from memory.
    found = trace(after, leaders, (), FrozenMap({"new": short}))
    assert dig(found.create, "data") == whole


def test_key_never_is_given_twice() -> None:
    """Another meaning under the very key that this one's hash would be."""
    found = traced(of(BEFORE, KEY, 1), key=KEY)
    assert found.key != KEY
    assert found.changes


def test_revision_that_is_needed_or_foreign_never_is_unneeded() -> None:
    kept, gone, leaving = of(NOW, "a", 1), of(NOW, "b", 2), of(NOW, "c", 3, terminating=True)
    foreign = of(NOW, "d", 4, owner=Owner("StatefulSet", "serve", "sts"))
    duplicate = of(NOW, "a", 5)
    assert unneeded(NOW, (kept, gone, leaving, foreign, duplicate), ["a"]) == (gone,)
