from __future__ import annotations

from typing import Any

import attrs
from machine import LEADERS_UID, group, leader, worker, workers

from lws_core.history import History, remember
from lws_core.observed import Group, Owner
from lws_core.summary import group_state
from lws_core.values import FrozenMap


def seen(history: History, one: Group, now_s: float = 10.0, size: int | None = 2, **options: bool) -> History:
    return remember(history, one, group_state(one, LEADERS_UID, size), size, now_s, **options)


def pods_since(leader_s: float | None, worker_s: float | None) -> Group:
    pods = (worker(0, 1, ready_since_s=worker_s),)
    return attrs.evolve(group(0, ready_since_s=leader_s), workers=pods)


def with_worker(**fields: Any) -> Group:
    return attrs.evolve(group(0), workers=(worker(0, 1, **fields),))


def test_history_never_outlives_its_leader() -> None:
    before = seen(seen(History(), group(0)), with_worker(uid="another"))
    assert before.lost == "serve-0-1"
    after = seen(before, group(0, uid="next"))
    assert (after.leader_uid, after.lost) == ("next", "")


def test_member_that_is_replaced_within_one_leader_always_is_lost() -> None:
    """Also where the pod of the same name was there again before anybody looked."""
    before = seen(History(), group(0))
    assert before.members == {"1": "uid-0-1"}
    assert seen(before, with_worker(uid="another")).lost == "serve-0-1"
    assert seen(before, attrs.evolve(group(0), workers=())).lost == "serve-0-1"
    assert seen(before, group(0)).lost == ""


def test_pod_beyond_the_size_never_is_a_member_that_can_be_lost() -> None:
    """A worker StatefulSet that was scaled from outside is set back, and the group has lost nothing."""
    scaled = group(0, size=4)
    before = seen(History(), scaled, size=2)
    assert before.members == {"1": "uid-0-1"}
    assert seen(before, group(0), size=2).lost == ""
    # Nor where the size was not known at first.
    assert seen(seen(History(), scaled, size=None), group(0), size=2).lost == ""


def test_loss_never_is_forgotten_while_the_leader_lives() -> None:
    lost = seen(seen(History(), group(0)), attrs.evolve(group(0), workers=()))
    assert seen(lost, with_worker(uid="another")).lost == "serve-0-1"
    # The first to be lost is the one that is told of.
    three = group(0, size=3)
    second = attrs.evolve(three, workers=(three.workers[0],))
    both = attrs.evolve(three, workers=())
    assert seen(seen(seen(History(), three, size=3), second, size=3), both, size=3).lost == "serve-0-2"


def test_members_that_go_with_a_terminating_leader_never_are_lost() -> None:
    going = attrs.evolve(group(0, deletion_s=20.0), workers=())
    assert seen(seen(History(), group(0)), going).lost == ""


def test_pod_of_an_earlier_leader_never_becomes_a_member() -> None:
    stale = attrs.evolve(group(0), statefulset=workers(0, owner=None))
    assert seen(History(), stale).members == {}


def test_group_always_counts_as_started_once_all_have_been_out_of_pending() -> None:
    assert not seen(History(), with_worker(phase="Pending")).started
    assert not seen(History(), attrs.evolve(group(0), workers=())).started
    started = seen(History(), group(0))
    assert started.started
    assert seen(started, with_worker(phase="Pending")).started


def test_ready_time_always_is_that_of_the_last_pod_to_be_ready() -> None:
    assert seen(History(), pods_since(3.0, 7.0)).ready_since_s == 7.0
    assert seen(History(), pods_since(None, None), now_s=10.0).ready_since_s == 10.0


def test_ready_time_always_stays_until_the_group_is_ready_again() -> None:
    ready = seen(History(), pods_since(3.0, 7.0))
    fallen = seen(ready, with_worker(ready=False), now_s=50.0)
    assert (fallen.ready_since_s, fallen.unready_since_s) == (7.0, 50.0)
    again = seen(fallen, pods_since(3.0, 60.0), now_s=61.0)
    assert (again.ready_since_s, again.unready_since_s) == (60.0, None)


def test_healthy_time_always_is_of_the_last_long_time_ready_and_outlives_the_leader() -> None:
    ready = seen(History(), pods_since(3.0, 7.0))
    assert ready.healthy_since_s is None
    assert seen(ready, with_worker(ready=False), now_s=606.0).healthy_since_s is None
    fallen = seen(ready, with_worker(ready=False), now_s=607.0)
    assert fallen.healthy_since_s == 7.0
    # What comes after it fell, or began to fail, does not count.
    short = seen(seen(ready, with_worker(ready=False), now_s=20.0), with_worker(ready=False), now_s=900.0)
    assert short.healthy_since_s is None
    failing = attrs.evolve(pods_since(3.0, 7.0), workers=(worker(0, 1, restarts=1),))
    assert seen(seen(ready, failing, now_s=20.0), failing, now_s=900.0).healthy_since_s is None
    for following in (Group(0), group(0, uid="next", ready=False)):
        assert seen(fallen, following, now_s=700.0).healthy_since_s == 7.0
        assert seen(ready, following, now_s=700.0).healthy_since_s == 7.0


def test_what_ended_in_a_group_whose_pods_may_end_alone_always_is_over_once_it_is_ready() -> None:
    struck = attrs.evolve(group(0, restarts=1), workers=(worker(0, 1, uid="another"),))
    alone = seen(seen(History(), group(0)), struck, alone=True)
    assert (alone.lost, alone.failing_since_s) == ("", None)
    assert seen(alone, struck).failing_since_s is None
    unready = attrs.evolve(struck, leader=leader(0, restarts=1, ready=False))
    assert seen(alone, unready, now_s=20.0, alone=True).failing_since_s is None  # it only fell unready
    again = attrs.evolve(struck, leader=leader(0, restarts=2, ready=False))
    assert seen(alone, again, now_s=20.0, alone=True).failing_since_s == 20.0
    assert seen(History(), unready, alone=True).failing_since_s == 10.0


def test_member_that_is_replaced_before_the_start_never_is_lost_where_only_what_is_after_it_counts() -> None:
    first = seen(History(), with_worker(phase="Pending"), after_start=True)
    assert seen(first, with_worker(uid="another"), after_start=True).lost == ""
    assert seen(first, with_worker(uid="another")).lost == "serve-0-1"
    started = seen(first, with_worker(), after_start=True)
    assert seen(started, with_worker(uid="another"), after_start=True).lost == "serve-0-1"


def test_pods_that_are_no_members_never_count_for_the_start() -> None:
    draining = attrs.evolve(group(0), statefulset=None)
    assert not seen(History(), draining).started
    assert seen(History(), attrs.evolve(draining, workers=(worker(0, 1, deletion_s=5.0),)), size=1).started


def test_unready_time_never_moves_while_the_group_is_unready() -> None:
    first = seen(History(), group(0, ready=False), now_s=5.0)
    assert seen(first, group(0, ready=False), now_s=9.0).unready_since_s == 5.0


def test_first_leader_after_a_fall_always_has_the_whole_time_to_load_and_no_later_one() -> None:
    fallen = seen(seen(History(), group(0)), with_worker(ready=False), now_s=5.0)
    loading = seen(seen(fallen, Group(0), now_s=30.0), group(0, uid="next", ready=False), now_s=900.0)
    assert (loading.unready_since_s, loading.ailing_since_s) == (900.0, 900.0)
    again = seen(seen(loading, Group(0), now_s=950.0), group(0, ready=False), now_s=990.0)
    assert (again.unready_since_s, again.ailing_since_s) == (900.0, 900.0)
    ready = seen(again, pods_since(1000.0, 1000.0), now_s=1000.0)
    well = seen(ready, pods_since(1000.0, 1000.0), now_s=1400.0)
    gone = seen(well, Group(0), now_s=1500.0)
    assert seen(gone, group(0, uid="fourth", ready=False), now_s=1600.0).unready_since_s == 1600.0


def test_group_always_has_the_whole_time_to_load_from_its_workers_on() -> None:
    """The leader may wait for them for long: what is in their way, or is late, is no fault of the group."""
    old = group(0, uid="next", ready=False)  # its workers are those of the leader before
    lone = attrs.evolve(old, statefulset=None, workers=())
    whole = attrs.evolve(old, statefulset=workers(0, owner=Owner("Pod", "serve-0", "next")))
    fallen = seen(seen(History(), group(0)), with_worker(ready=False), now_s=5.0)
    waiting = seen(seen(fallen, lone, now_s=30.0), lone, now_s=900.0)
    assert (waiting.unready_since_s, waiting.ailing_since_s) == (30.0, 30.0)
    assert seen(waiting, old, now_s=900.0).unready_since_s == 30.0
    loading = seen(waiting, whole, now_s=1000.0)
    assert (loading.unready_since_s, loading.ailing_since_s) == (1000.0, 1000.0)
    # Only the first time, and only with the first leader since the group fell.
    assert seen(seen(loading, lone, now_s=1010.0), whole, now_s=1020.0).unready_since_s == 1000.0
    other = attrs.evolve(group(0, ready=False), statefulset=None, workers=())
    again = seen(seen(loading, other, now_s=1030.0), group(0, ready=False), now_s=1040.0)
    assert (again.unready_since_s, again.ailing_since_s) == (1000.0, 1000.0)


def test_time_never_begins_anew_for_what_was_made_and_went_before() -> None:
    down = seen(History(), group(0, ready=False), now_s=5.0)
    for number in range(1, 5):
        gone = seen(down, Group(0), now_s=100.0 * number)
        down = seen(gone, group(0, uid=f"next-{number}", ready=False), now_s=100.0 * number + 50)
    assert down.unready_since_s == 150.0
    ready = seen(down, pods_since(1000.0, 1000.0), now_s=1000.0)
    assert ready.renewed == ()


def test_drained_workers_always_give_their_group_its_time_again_once() -> None:
    draining = with_worker(ready=False, deletion_s=600.0)
    whole, down = group(0), with_worker(ready=False)
    drained = seen(seen(seen(History(), whole), draining, now_s=20.0), down, now_s=500.0)
    assert drained.unready_since_s == 500.0
    again = seen(seen(drained, draining, now_s=510.0), down, now_s=900.0)
    assert again.unready_since_s == 500.0
    strange = attrs.evolve(draining, statefulset=workers(0, uid="next"))  # it ends, but is not made anew
    assert not seen(seen(History(), whole), strange, now_s=20.0).drains


def test_ready_group_never_has_an_unready_time() -> None:
    """Its workers come, all ready, between two looks."""
    lone = attrs.evolve(group(0), statefulset=None, workers=())
    assert seen(seen(History(), lone, now_s=5.0), group(0), now_s=50.0).unready_since_s is None


def test_failing_time_always_begins_with_the_first_evidence_and_ends_with_it() -> None:
    failing = seen(History(), with_worker(restarts=1), now_s=5.0)
    assert failing.failing_since_s == 5.0
    assert seen(failing, with_worker(restarts=1), now_s=9.0).failing_since_s == 5.0
    assert seen(failing, group(0), now_s=9.0).failing_since_s is None


def test_absent_leader_always_keeps_only_how_long_it_has_been_away() -> None:
    absent = seen(seen(History(), group(0)), Group(0), now_s=5.0)
    assert absent == History(unready_since_s=5.0, absent_since_s=5.0)
    assert seen(absent, Group(0), now_s=9.0).absent_since_s == 5.0
    assert seen(absent, Group(0, leader(0, uid="next")), now_s=9.0).absent_since_s is None


def test_group_of_unknown_size_never_counts_as_started() -> None:
    assert not seen(History(), group(0), size=None).started
    assert FrozenMap() == History().members
