from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine import group, worker

from lws_core.evidence import Evidence
from lws_core.history import History
from lws_core.observed import Group
from lws_core.restart import (
    Hold,
    Recreate,
    Recreation,
    decide_restart,
    decode_recreations,
    delay_s,
    encode_recreations,
)
from lws_core.values import EMPTY, FrozenMap

NOW_S = 1000.0
STRUCK = attrs.evolve(group(0), workers=(worker(0, 1, restarts=1),))
LEADER = "uid-0"


def decided(
    one: Group = STRUCK,
    history: History = History(leader_uid=LEADER, started=True, failing_since_s=NOW_S),
    recreation: Recreation | None = None,
    policy: Any = "RecreateGroupOnPodRestart",
    now_s: float = NOW_S,
    **options: Any,
) -> Recreate | Hold | None:
    return decide_restart(policy, one, history, 2, recreation, now_s, **options)


def test_first_failure_always_recreates_the_group_at_once() -> None:
    expected = Recreation(1, int(NOW_S), LEADER)
    assert decided() == Recreate(Evidence("serve-0-1", "Restarted"), expected, recorded=False)


@pytest.mark.parametrize(
    "calm",
    [
        pytest.param({"policy": "None"}, id="policy None"),
        pytest.param({"one": group(0)}, id="nothing ended"),
        pytest.param({"one": Group(0)}, id="no leader"),
        pytest.param(
            {"one": attrs.evolve(STRUCK, leader=group(0, deletion_s=1.0).leader)}, id="leader going"
        ),
    ],
)
def test_group_never_is_recreated_without_cause(calm: dict[str, Any]) -> None:
    assert decided(**calm) is None


def test_recorded_recreation_always_is_carried_out_though_its_evidence_is_gone() -> None:
    record = Recreation(3, 5, LEADER)
    assert decided(group(0), recreation=record) == Recreate(
        Evidence("serve-0", "Vanished"), record, recorded=True
    )


def test_recreation_of_an_earlier_leader_never_ends_the_next() -> None:
    assert decided(group(0), recreation=Recreation(3, 5, "other")) is None


@pytest.mark.parametrize("asks", [{"policy": "RecreateGroupAfterStart"}, {"after_start": True}])
def test_group_that_has_not_started_never_is_recreated_where_that_is_asked(asks: dict[str, Any]) -> None:
    starting = attrs.evolve(STRUCK, workers=(worker(0, 1, restarts=1, phase="Pending"),))
    fresh = History(leader_uid=LEADER, failing_since_s=NOW_S)
    assert decided(starting, fresh, **asks) == Hold("Starting", Evidence("serve-0-1", "Restarted"))
    assert isinstance(decided(starting, fresh), Recreate)
    # All its pods are out of Pending now, or have been: it has started.
    assert isinstance(decided(STRUCK, fresh, **asks), Recreate)
    assert isinstance(decided(starting, attrs.evolve(fresh, started=True), **asks), Recreate)


@pytest.mark.parametrize(
    ("count", "delay"), [(0, 0), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (7, 300), (5000, 300)]
)
def test_repeated_recreation_always_backs_off_like_a_crashing_container(count: int, delay: float) -> None:
    assert delay_s(count) == delay
    before = Recreation(count, 5, "earlier")
    if delay:
        held = decided(recreation=before, now_s=NOW_S + delay - 1)
        assert held == Hold("BackOff", Evidence("serve-0-1", "Restarted"), count, NOW_S + delay)
    due = decided(recreation=before, now_s=NOW_S + delay)
    assert isinstance(due, Recreate)
    assert due.record == Recreation(count + 1, int(NOW_S + delay), LEADER)


def test_ten_healthy_minutes_always_start_the_count_afresh() -> None:
    def after(healthy_since_s: float | None, at_s: int = 5) -> Recreate | Hold | None:
        history = History(
            leader_uid=LEADER, started=True, healthy_since_s=healthy_since_s, failing_since_s=NOW_S
        )
        return decided(STRUCK, history, Recreation(4, at_s, "earlier"))

    for fresh in (after(5.0), after(None, int(NOW_S) - 90_000)):
        assert isinstance(fresh, Recreate)
        assert fresh.record.count == 1
    assert isinstance(after(None), Hold)
    assert isinstance(after(4.0), Hold)  # those were before the last recreation


def test_group_at_the_limit_always_stays_failed() -> None:
    before = Recreation(3, 5, "earlier")
    late = NOW_S + 10_000
    assert decided(recreation=before, now_s=late, limit=3) == Hold(
        "Limit", Evidence("serve-0-1", "Restarted"), 3
    )
    assert isinstance(decided(recreation=before, now_s=late, limit=4), Recreate)


RECREATIONS = st.dictionaries(
    st.integers(0, 10_000).map(str),
    st.builds(Recreation, st.integers(1, 99), st.integers(0, 50_000), st.text("abc123-", max_size=8)),
).map(FrozenMap)


@given(RECREATIONS)
def test_record_always_reads_back_as_it_was_written(recreations: FrozenMap[Recreation]) -> None:
    assert decode_recreations(encode_recreations(recreations, 50_000.0)) == recreations


def test_record_never_keeps_what_is_too_old_to_matter() -> None:
    old, fresh = Recreation(1, 0, "a"), Recreation(2, 86_400, "b")
    text = encode_recreations(FrozenMap({"1": old, "0": fresh}), 86_400.0)
    assert text == '{"0":[2,86400,"b"]}'
    assert encode_recreations(EMPTY, 0.0) == ""


def test_record_of_a_group_that_is_held_or_waits_for_it_never_is_left_out() -> None:
    old = FrozenMap({"1": Recreation(2, 0, "u"), "2": Recreation(2, 0, "u"), "3": Recreation(2, 0, "u")})
    text = encode_recreations(old, 100_000.0, waiting=("1",), held=("3",))
    assert set(decode_recreations(text)) == {"1", "3"}
    many = FrozenMap({str(index): Recreation(1, index, "u") for index in range(1500)})
    kept = decode_recreations(encode_recreations(many, 1500.0, waiting=("3", "7"), held=("5",)))
    assert len(kept) == 1000
    assert {"3", "5", "7", "1499"} <= set(kept)


def test_record_never_outgrows_an_annotation() -> None:
    """The latest are kept, so that the groups that fail now are known."""
    many = FrozenMap({str(index): Recreation(9, index, "12345678") for index in range(5000)})
    text = encode_recreations(many, 5000.0)
    assert len(text) < 64 * 1024
    assert "4999" in json.loads(text)
    assert "1" not in json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "null", '"x"', '{"a":[1,2,"u"]}', '{"0":[1,2]}', '{"0":["1",2,"u"]}',
        '{"-1":[1,2,"u"]}', '{"0":{"count":1}}', '{"0":[1,-2,"u"]}', "[" * 100_000,
        '{"%s":[1,2,"u"]}' % ("9" * 5000), '{"0":[1,%s,"u"]}' % ("9" * 400),
    ],
)  # fmt: skip
def test_record_that_makes_no_sense_never_raises(text: str) -> None:
    assert decode_recreations(text) == EMPTY


def test_record_always_keeps_the_rows_that_make_sense() -> None:
    text = '{"0":[1,2,"u"],"1":"x","\u0663":[1,2,"u"]}'
    assert decode_recreations(text).keys() == {"0"}
