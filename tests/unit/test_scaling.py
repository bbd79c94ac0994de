from __future__ import annotations

import pytest

from lws_core.scaling import scaled_max_surge, scaled_max_unavailable, surge_count, unavailable_count
from lws_core.spec import LeaderWorkerTemplate, RolloutStrategy, Spec
from lws_core.values import EMPTY


def a_spec(replicas: int, max_unavailable: int | str, max_surge: int | str) -> Spec:
    strategy = RolloutStrategy(max_unavailable=max_unavailable, max_surge=max_surge)
    return Spec(LeaderWorkerTemplate(EMPTY), replicas, strategy)


@pytest.mark.parametrize(
    ("replicas", "value", "floor", "ceiling"),
    [
        (4, 2, 2, 2), (4, 9, 9, 9), (4, "25%", 1, 1), (3, "25%", 0, 1), (10, "33%", 3, 4), (10, "0%", 0, 0),
        (0, "100%", 0, 0), (7, "100%", 7, 7), (1_000_000, "1%", 10_000, 10_000), (3, "007%", 0, 1),
    ],
)  # fmt: skip
def test_percentage_always_rounds_down_what_may_miss_and_up_what_may_be_extra(
    replicas: int, value: int | str, floor: int, ceiling: int
) -> None:
    assert scaled_max_unavailable(a_spec(replicas, value, 0)) == floor
    assert scaled_max_surge(a_spec(replicas, 0, value)) == ceiling


def test_surge_never_exceeds_the_replicas() -> None:
    assert surge_count(a_spec(4, 1, 9)) == 4
    assert surge_count(a_spec(4, 1, "25%")) == 1


def test_rollout_can_always_take_one_group_at_least() -> None:
    assert unavailable_count(a_spec(3, "25%", 0)) == 1
    assert unavailable_count(a_spec(3, "25%", 1)) == 0
    assert unavailable_count(a_spec(3, 5, 0)) == 5


def test_text_that_is_no_percentage_is_always_refused() -> None:
    with pytest.raises(ValueError, match='neither a count nor a percentage such as "25%"'):
        scaled_max_surge(a_spec(3, 1, "3"))
