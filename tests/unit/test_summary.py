from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine import LEADERS_UID, folded, group, leader, worker, workers

from lws_core.observed import Group, Owner
from lws_core.summary import ABSENT, GroupState, Summary, group_state, is_member


def state(of: Group, size: int | None = 2) -> GroupState:
    return group_state(of, LEADERS_UID, size)


def changed(**parts: Any) -> Group:
    return attrs.evolve(group(0), **parts)


def test_whole_group_always_is_ready() -> None:
    assert state(group(0)) == GroupState(
        present=True,
        whole=True,
        ready=True,
        revision_key="new",
        native_revision="serve-new",
        keys=("new",),
    )


def test_workers_beyond_the_size_never_make_a_group_unready() -> None:
    """Somebody has scaled its StatefulSet up: its own members serve all the while."""
    assert state(changed(statefulset=workers(0, replicas=5))).ready


def test_group_of_one_never_needs_a_worker_statefulset() -> None:
    assert state(Group(0, leader(0)), 1).ready


STRANGER = Owner("Pod", "serve-0", "uid-of-an-earlier-leader")


@pytest.mark.parametrize(
    "unready",
    [
        pytest.param(group(0, ready=False), id="leader not ready"),
        pytest.param(group(0, deletion_s=5.0), id="leader terminating, and Ready through its grace period"),
        pytest.param(group(0, owner=None), id="leader nobody's"),
        pytest.param(group(0, owner=Owner("StatefulSet", "serve", "other")), id="leader another's"),
        pytest.param(changed(workers=()), id="no worker"),
        pytest.param(changed(workers=(worker(0, 2),)), id="another worker than the one that should be"),
        pytest.param(changed(workers=(worker(0, 1, ready=False),)), id="worker not ready"),
        pytest.param(changed(workers=(worker(0, 1, deletion_s=5.0),)), id="worker terminating"),
        pytest.param(changed(workers=(worker(0, 1, "old"),)), id="worker of another revision"),
        pytest.param(changed(workers=(worker(0, 1, owner=STRANGER),)), id="worker of another StatefulSet"),
        pytest.param(changed(statefulset=None), id="no worker StatefulSet"),
        pytest.param(changed(statefulset=workers(0, owner=STRANGER)), id="an earlier leader's workers"),
        pytest.param(changed(statefulset=workers(0, "old")), id="workers of another revision"),
        pytest.param(changed(statefulset=workers(0, terminating=True)), id="worker StatefulSet terminating"),
        pytest.param(changed(statefulset=workers(0, generation=2)), id="worker StatefulSet not observed"),
        pytest.param(changed(statefulset=workers(0, replicas=0)), id="worker StatefulSet that is too small"),
    ],
)
def test_group_never_is_ready_unless_it_chains_from_its_workers_to_its_leader(unready: Group) -> None:
    assert not state(unready).ready


def test_group_of_an_unknown_revision_never_is_ready() -> None:
    assert not state(group(0), None).ready


def test_workers_beyond_the_size_never_matter() -> None:
    assert state(changed(workers=(worker(0, 1), worker(0, 2, ready=False)))).ready


def test_group_whose_workers_only_load_always_is_whole() -> None:
    loading = state(changed(workers=(worker(0, 1, ready=False),)))
    assert loading.whole
    assert not loading.ready
    assert not state(changed(statefulset=workers(0, owner=STRANGER))).whole


def test_group_without_a_leader_always_keeps_the_revisions_in_use() -> None:
    left = state(Group(0, None, (worker(0, 1, "b"),), workers(0, "a")))
    assert left == GroupState(keys=("a", "b"))


def test_worker_never_is_a_member_by_its_name() -> None:
    assert is_member(worker(0, 1), workers(0), leader(0))
    assert not is_member(worker(0, 1), workers(0), leader(0, uid="uid-of-the-next-leader"))
    assert not is_member(worker(0, 1, owner=None), workers(0), leader(0))


GROUPS = st.builds(
    GroupState,
    present=st.booleans(),
    terminating=st.booleans(),
    whole=st.booleans(),
    ready=st.booleans(),
    revision_key=st.sampled_from(("", "a", "b")),
    native_revision=st.sampled_from(("", "n")),
    keys=st.lists(st.sampled_from("abc"), unique=True, max_size=2).map(tuple),
)


@given(st.lists(st.tuples(st.integers(0, 3), GROUPS), max_size=12))
def test_summary_never_depends_on_how_its_groups_came_about(changes: list[tuple[int, GroupState]]) -> None:
    """Folded in one change at a time, it is that of the groups as they are."""
    summary, now = Summary(), [ABSENT] * 4
    for index, after in changes:
        summary = summary.fold(index, now[index], after)
        now[index] = after
    assert summary == folded(now)


@given(st.lists(GROUPS, max_size=6))
def test_summary_always_holds_each_group_s_answers(states: list[GroupState]) -> None:
    summary = folded(states)
    for index, one in enumerate(states):
        for field in ("present", "terminating", "whole", "ready"):
            assert getattr(summary, field) >> index & 1 == getattr(one, field)
        assert summary.of_key("a") >> index & 1 == (one.revision_key == "a")
        assert {key for key, groups in summary.using.items() if groups >> index & 1} == set(one.keys)
    assert all(summary.using.values())
    assert summary.of_key("nobody's") == 0
