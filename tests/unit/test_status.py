from __future__ import annotations

import attrs
import pytest
from machine import START_S, folded, live, statefulset

from lws_core import names
from lws_core.actions import Event
from lws_core.spec import Condition, LeaderWorkerSet, Status
from lws_core.status import Stall, condition_event, is_urgent, next_status, unreadable_status
from lws_core.summary import ABSENT, GroupState
from lws_core.times import rfc3339

NOW = rfc3339(START_S)
STATES = {
    "n": GroupState(present=True, whole=True, ready=True, revision_key="new"),
    "u": GroupState(present=True, whole=True, revision_key="new"),
    "w": GroupState(present=True, revision_key="new"),  # its workers are not made yet
    "o": GroupState(present=True, whole=True, ready=True, revision_key="old"),
    "x": GroupState(present=True, whole=True, revision_key="old"),
    ".": ABSENT,
}


def status(
    states: str,
    lws: LeaderWorkerSet | None = None,
    stall: Stall | None = None,
    now_s: float = START_S,
    replicas: int = 3,
) -> Status:
    lws = lws or live()
    summary = folded([STATES[letter] for letter in states])
    return next_status(lws, summary, "new", statefulset(status_replicas=replicas), stall, now_s)


def truths(found: Status) -> dict[str, str]:
    return {condition.type: condition.status for condition in found.conditions}


def after(lws: LeaderWorkerSet, found: Status, generation: int = 1) -> LeaderWorkerSet:
    metadata = attrs.evolve(lws.metadata, generation=generation)
    return attrs.evolve(lws, status=found, metadata=metadata)


def test_set_whose_groups_all_serve_always_is_available() -> None:
    found = status("nnn")
    assert truths(found) == {names.AVAILABLE: "True"}
    assert (found.replicas, found.ready_replicas, found.updated_replicas) == (3, 3, 3)
    assert found.conditions[0] == Condition(
        "Available", "True", "AllGroupsReady", "All replicas are ready", 1, NOW
    )


def test_set_without_groups_always_is_available() -> None:
    assert truths(status("", live({"replicas": 0}), replicas=0)) == {names.AVAILABLE: "True"}


@pytest.mark.parametrize("states", ["...", "www", "n..", "nnu", "nw."])
def test_set_that_starts_or_scales_never_is_said_to_roll_out(states: str) -> None:
    """Only a group of another revision is updated, not one that is not there yet."""
    assert truths(status(states)) == {names.PROGRESSING: "True"}


@pytest.mark.parametrize("states", ["ooo", "oon", "xnn", "o.n"])
def test_set_with_an_outdated_group_always_is_said_to_roll_out(states: str) -> None:
    assert truths(status(states)) == {names.UPDATE_IN_PROGRESS: "True", names.PROGRESSING: "True"}


def test_update_always_ends_once_all_groups_are_updated_though_some_load() -> None:
    lws = live()
    rolling = after(lws, status("oon"))
    assert truths(status("nuu", rolling)) == {names.UPDATE_IN_PROGRESS: "False", names.PROGRESSING: "True"}
    assert truths(status("nnn", rolling)) == {
        names.UPDATE_IN_PROGRESS: "False",
        names.PROGRESSING: "False",
        names.AVAILABLE: "True",
    }


def test_held_canary_always_is_available() -> None:
    canary = live(rolling={"partition": 2})
    found = status("oon", canary)
    assert truths(found) == {names.AVAILABLE: "True"}
    assert found.updated_replicas == 1


def test_surge_always_counts_as_ready_but_never_as_one_that_is_owed() -> None:
    found = status("nnonn", replicas=5)
    assert (found.replicas, found.ready_replicas, found.updated_replicas) == (5, 5, 4)
    assert truths(status("nnnuu")) == {names.AVAILABLE: "True"}


def test_group_without_its_own_workers_never_counts_as_updated() -> None:
    assert status("wnn").updated_replicas == 2


def test_transition_time_never_moves_without_its_status() -> None:
    """Not with another generation either, which every condition then names."""
    lws = live()
    first = after(lws, status("nnn"), generation=2)
    later = status("nnn", first, now_s=START_S + 60)
    assert later.conditions[0].last_transition_time == NOW
    assert later.conditions[0].observed_generation == later.observed_generation == 2
    fallen = status("nnu", first, now_s=START_S + 60)
    available = fallen.condition(names.AVAILABLE)
    assert available is not None
    assert available.last_transition_time == rfc3339(START_S + 60)
    assert (available.reason, available.message) == ("AllGroupsReady", "All replicas are ready")


def test_status_that_says_all_already_never_changes() -> None:
    lws = live()
    written = after(lws, status("nnn"))
    assert status("nnn", written, now_s=START_S + 999) == written.status


def test_selector_for_the_autoscaler_never_changes_once_set() -> None:
    assert status("").hpa_pod_selector == f"{names.SET_NAME}=serve,{names.WORKER_INDEX}=0"
    kept = after(live(), Status(hpa_pod_selector="mine"))
    assert status("", kept).hpa_pod_selector == "mine"


def test_stall_always_is_told_and_taken_back_but_never_removed() -> None:
    stalled = after(live(), status("nnn", stall=Stall("NodeLost", "gone" * 2000)))
    condition = stalled.status.condition(names.STALLED)
    assert condition is not None
    assert (condition.status, condition.reason, len(condition.message)) == ("True", "NodeLost", 4096)
    condition = status("nnn", stalled).condition(names.STALLED)
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == ("False", "NotStalled", "")
    assert status("nnn").condition(names.STALLED) is None


def test_condition_that_is_not_ours_never_is_lost() -> None:
    foreign = Condition("Theirs", "True", "R", "m", 1, NOW)
    lws = after(live(), Status(conditions=(foreign,)))
    assert status("nnn", lws).condition("Theirs") == foreign


def test_unreadable_set_always_keeps_what_was_known_of_it() -> None:
    before = status("nnn")
    found = unreadable_status(before, Stall("InvalidSpec", "spec.replicas: bad"), START_S)
    assert attrs.evolve(found, conditions=before.conditions) == before
    assert truths(found) == {names.AVAILABLE: "True", names.STALLED: "True"}


def test_change_of_counts_alone_never_is_urgent() -> None:
    before = status("nno")
    assert not is_urgent(before, attrs.evolve(before, ready_replicas=1))
    assert is_urgent(before, attrs.evolve(before, observed_generation=2))
    assert is_urgent(before, status("nnn"))


def test_change_of_a_message_alone_never_is_urgent() -> None:
    one, other, worse = (
        unreadable_status(status("nnn"), stall, START_S)
        for stall in (
            Stall("APIRefused", "group 1"),
            Stall("APIRefused", "groups 1 and 2"),
            Stall("NodeLost", "group 1"),
        )
    )
    assert not is_urgent(one, other)
    assert is_urgent(one, worse)
    assert is_urgent(status("nnn"), one)


def test_event_always_tells_of_the_condition_that_became_true() -> None:
    lws = live()
    event = condition_event(lws, status("nnn"))
    assert event == Event(
        "Normal",
        "AllGroupsReady",
        "Update",
        "All replicas are ready, with 3 groups ready of total 3 groups",
    )
    rolling = condition_event(lws, status("oon"))
    assert rolling is not None
    assert rolling.reason == "GroupsUpdating"
    assert condition_event(after(lws, status("nnn")), status("nnn")) is None
    assert condition_event(after(lws, status("nno")), status("noo", after(lws, status("nno")))) is None


def test_event_of_a_stall_always_is_a_warning_before_all_others() -> None:
    lws = live()
    event = condition_event(lws, status("ooo", stall=Stall("NodeLost", "node a is lost")))
    assert event == Event("Warning", "NodeLost", "Update", "node a is lost")
