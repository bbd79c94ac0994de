from __future__ import annotations

import pytest

from lws_core.subgroup import Division

CASES = [
    Division(size, subgroup_size, excluded)
    for size in range(1, 26)
    for subgroup_size in range(1, size + 1)
    for excluded in (False, True)
    if (size - 1) % subgroup_size == 0 or (size % subgroup_size == 0 and not excluded)
]


@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize(("size", "subgroup_size"), [(4, 2), (5, 2), (5, 4), (1, 1), (6, 1), (9, 8)])
def test_subgroup_index_always_is_the_original_formula(size: int, subgroup_size: int, excluded: bool) -> None:
    division = Division(size, subgroup_size, excluded)
    for worker in range(1, size):
        on_top = (size - 1) % subgroup_size == 0 and size % subgroup_size != 0
        expected = (worker - 1) // subgroup_size if on_top else worker // subgroup_size
        if excluded and not on_top:
            expected = (worker - 1) // subgroup_size  # the original gets subgroups of one wrong
        assert division.index_of(worker) == expected


@pytest.mark.parametrize("division", CASES, ids=str)
def test_subgroups_always_share_out_every_pod_once(division: Division) -> None:
    count = 1 + max((division.index_of(worker) or 0 for worker in range(division.size)), default=0)
    members = [
        ([0] if division.leads(index) else []) + list(division.workers(index)) for index in range(count)
    ]
    everyone = list(range(1 if division.leader_excluded else 0, division.size))
    assert sorted(worker for subgroup in members for worker in subgroup) == everyone
    for index, subgroup in enumerate(members):
        assert all(division.index_of(worker) == index for worker in subgroup)


@pytest.mark.parametrize("division", CASES, ids=str)
def test_subgroups_always_have_their_size_and_the_first_one_more_at_most(division: Division) -> None:
    last = division.index_of(division.size - 1) or 0
    on_top = not division.leader_excluded and division.size % division.subgroup_size != 0
    for index in range(last + 1):
        if division.size == 1 and division.leader_excluded:
            break
        count = division.leads(index) + len(division.workers(index))
        assert count == division.subgroup_size + (index == 0 and on_top)
