from __future__ import annotations

from typing import Any

import attrs
import pytest
from machine import group, leader, worker, workers

from lws_core.evidence import Evidence, find_evidence
from lws_core.observed import Group, Owner


def with_worker(**fields: Any) -> Group:
    return attrs.evolve(group(0), workers=(worker(0, 1, **fields),))


def test_healthy_group_never_gives_evidence() -> None:
    assert find_evidence(group(0), 2) is None


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"restarts": 1}, "Restarted"),
        ({"restarts": 1, "phase": "Pending"}, "Restarted"),
        ({"phase": "Failed"}, "Finished"),
        ({"phase": "Succeeded"}, "Finished"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Failed", "restarts": 1}, "Finished"),
    ],
)
def test_pod_that_ended_always_is_evidence(fields: dict[str, Any], cause: Any) -> None:
    assert find_evidence(with_worker(**fields), 2) == Evidence("serve-0-1", cause)
    assert find_evidence(group(0, **fields), 2) == Evidence("serve-0", cause)


def test_terminating_worker_always_is_evidence() -> None:
    assert find_evidence(with_worker(deletion_s=3.0), 2) == Evidence("serve-0-1", "Deleted")


def test_group_that_is_ending_never_gives_evidence() -> None:
    """One cause, one recreation: what ends with a terminating leader says nothing."""
    assert find_evidence(group(0, deletion_s=3.0, restarts=1), 2) is None
    assert find_evidence(Group(0, None, (worker(0, 1, restarts=1),), workers(0)), 2) is None


@pytest.mark.parametrize(
    "leftover",
    [
        pytest.param(with_worker(restarts=1, owner=Owner("StatefulSet", "serve-0", "old")), id="worker"),
        pytest.param(attrs.evolve(with_worker(restarts=1), leader=leader(0, uid="next")), id="StatefulSet"),
        pytest.param(attrs.evolve(with_worker(restarts=1), statefulset=None), id="no StatefulSet"),
        pytest.param(with_worker(restarts=1, key="old"), id="revision"),
        pytest.param(with_worker(restarts=1, owner=None), id="nobody's"),
    ],
)
def test_what_an_earlier_leader_left_never_is_evidence_against_the_next(leftover: Group) -> None:
    assert find_evidence(leftover, 2) is None


def test_worker_beyond_the_size_never_is_evidence() -> None:
    extra = attrs.evolve(group(0), workers=(worker(0, 1), worker(0, 2, deletion_s=1.0)))
    assert find_evidence(extra, 2) is None
    assert find_evidence(extra, None) == Evidence("serve-0-2", "Deleted")


def test_vanished_member_always_is_evidence_after_what_can_be_seen() -> None:
    assert find_evidence(group(0), 2, "serve-0-1") == Evidence("serve-0-1", "Vanished")
    assert find_evidence(group(0, restarts=1), 2, "serve-0-1") == Evidence("serve-0", "Restarted")
