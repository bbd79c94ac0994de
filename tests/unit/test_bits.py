from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lws_core.bits import (
    below,
    highest,
    indexes,
    lowest,
    members,
    nth_highest,
    nth_lowest,
    span,
    top,
    with_bit,
)

INDEXES = st.sets(st.integers(0, 200), max_size=12)


@given(INDEXES)
def test_group_set_always_holds_what_was_put_in_ascending(chosen: set[int]) -> None:
    assert list(indexes(members(*chosen))) == sorted(chosen)


@given(INDEXES)
def test_extremes_always_are_those_of_the_members(chosen: set[int]) -> None:
    groups = members(*chosen)
    assert highest(groups) == max(chosen, default=-1)
    assert lowest(groups) == min(chosen, default=-1)


@given(INDEXES, st.integers(-1, 14))
def test_nth_always_counts_from_its_end_and_is_none_beyond_the_other(chosen: set[int], n: int) -> None:
    groups, ascending = members(*chosen), sorted(chosen)
    exists = 1 <= n <= len(chosen)
    assert nth_highest(groups, n) == (ascending[-n] if exists else -1)
    assert nth_lowest(groups, n) == (ascending[n - 1] if exists else -1)


@given(INDEXES, st.integers(-1, 14))
def test_top_always_is_the_highest_or_all_there_are(chosen: set[int], n: int) -> None:
    assert set(indexes(top(members(*chosen), n))) == set(sorted(chosen, reverse=True)[: max(0, n)])


@given(st.integers(-3, 12), st.integers(-3, 12))
def test_span_never_holds_its_end(low: int, high: int) -> None:
    assert list(indexes(span(max(low, 0), high))) == list(range(max(low, 0), max(high, 0)))
    assert list(indexes(below(high))) == list(range(high))


@given(INDEXES, st.integers(0, 200), st.booleans())
def test_bit_always_is_put_or_taken_alone(chosen: set[int], index: int, present: bool) -> None:
    expected = chosen | {index} if present else chosen - {index}
    assert set(indexes(with_bit(members(*chosen), index, present))) == expected
