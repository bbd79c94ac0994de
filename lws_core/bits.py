"""Sets of group indexes as integers: bit i speaks of group i.

A set of 10,000 groups is one integer of 1,250 bytes, so that "how many", "the highest" and "the n-th" cost
about a microsecond, and a new version after one group has changed costs no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

GroupSet = int
_WORD_BYTES: Final = 8


def span(low: int, high: int) -> GroupSet:
    """The groups low..high-1; none where low >= high."""
    return ((1 << high) - 1) >> low << low if high > low else 0


def below(count: int) -> GroupSet:
    """The groups 0..count-1."""
    return (1 << count) - 1 if count > 0 else 0


def highest(groups: GroupSet) -> int:
    """The highest index in the set, -1 for none."""
    return groups.bit_length() - 1


def lowest(groups: GroupSet) -> int:
    """The lowest index in the set, -1 for none."""
    return (groups & -groups).bit_length() - 1


def nth_highest(groups: GroupSet, n: int) -> int:
    """The n-th highest index (n from 1), -1 where the set has fewer. Cost: log2 of the highest index."""
    if n < 1 or groups.bit_count() < n:
        return -1
    low, high = 0, groups.bit_length()  # the answer is the largest index with n members at or above it
    while high - low > 1:
        middle = (low + high) // 2
        if (groups >> middle).bit_count() >= n:
            low = middle
        else:
            high = middle
    return low


def nth_lowest(groups: GroupSet, n: int) -> int:
    """The n-th lowest index (n from 1), -1 where the set has fewer than n."""
    return nth_highest(groups, groups.bit_count() - n + 1)


def top(groups: GroupSet, n: int) -> GroupSet:
    """The n highest members; all of them where the set has fewer."""
    if n < 1:
        return 0
    lowest_kept = nth_highest(groups, n)
    return groups if lowest_kept < 0 else groups >> lowest_kept << lowest_kept


def indexes(groups: GroupSet) -> Iterator[int]:
    """The members in ascending order. Cost: grows with their number, and with the highest index by 64."""
    data = groups.to_bytes((groups.bit_length() + 7) // 8, "little")
    for start in range(0, len(data), _WORD_BYTES):
        word = int.from_bytes(data[start : start + _WORD_BYTES], "little")
        while word:
            low = word & -word
            yield 8 * start + low.bit_length() - 1
            word ^= low


def members(*indexes: int) -> GroupSet:
    """The set with these members."""
    groups = 0
    for index in indexes:
        groups |= 1 << index
    return groups


def with_bit(groups: GroupSet, index: int, present: bool) -> GroupSet:
    """The set with one member put in or taken out."""
    return groups | (1 << index) if present else groups & ~(1 << index)
