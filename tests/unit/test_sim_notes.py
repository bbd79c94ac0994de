from __future__ import annotations

import pytest

from lws_sim.census import Standing
from lws_sim.notes import Change, note

FOUR = Change(own_replicas=4)


def said(before: tuple[int, int, str], now: tuple[int, int, str], change: Change = FOUR) -> str:
    return note(change, Standing(*before), Standing(*now))


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ((4, 6, "oooonn"), (2, 6, "oooonn"), "Partition changes from 4 to 2"),
        ((2, 6, "oooonn"), (4, 6, "oooonn"), "Partition rises from 2 to 4"),
        ((0, 6, "nlnlnn"), (0, 5, "nlnln"), "Reclaim a Replica for the accommodation of unready ones"),
        ((0, 6, "nnnnnn"), (0, 4, "nnnn"), "Reclaim 2 Replicas for the accommodation of unready ones"),
        ((0, 4, "nnnn"), (0, 6, "nnnn"), "Replicas change from 4 to 6"),
        ((0, 4, "nnnn"), (0, 2, "nn"), "Replicas change from 4 to 2"),
        (
            (2, 6, "nlnlnn"),
            (0, 5, "nlnln"),
            "Reclaim a Replica for the accommodation of unready ones; Partition changes from 2 to 0",
        ),
        ((0, 4, "nnnn"), (0, 4, "nnnl"), ""),
        (
            (2, 6, "oolonn"),
            (2, 6, "oonlnl"),
            "Since the last Replica is not ready, Partition will not change",
        ),
        ((2, 6, "oolonn"), (2, 6, "oonlnn"), ""),
        ((0, 6, "nnnlnl"), (0, 6, "nnnnnl"), ""),
        ((2, 6, "nnnlnl"), (2, 6, "nnnnnl"), ""),
        ((0, 0, ""), (0, 0, ""), ""),
    ],
)
def test_a_row_always_says_what_changed(
    before: tuple[int, int, str], now: tuple[int, int, str], words: str
) -> None:
    assert said(before, now) == words


def test_a_row_always_begins_with_what_was_done() -> None:
    change = Change(told=("scaled to 6", "spec.replicas becomes 6"), own_replicas=6)
    words = "Scaled to 6; spec.replicas becomes 6; Replicas change from 4 to 6"
    assert said((0, 4, "nnnn"), (0, 6, "nnnn.."), change) == words


def test_the_start_and_the_end_of_a_rollout_never_need_numbers() -> None:
    assert said((0, 4, "oooo"), (4, 6, "oooo.."), Change(started=True)) == "Rolling update started"
    assert said((0, 5, "nnnnn"), (0, 4, "nnnn"), Change(finished=True)) == "Rolling update completed"
    held = Change(finished=True, partition=2)
    assert said((2, 5, "oonnn"), (2, 4, "oonn"), held) == "Rolling update completed for R-2 and above"


def test_surge_is_reclaimed_first_and_released_after() -> None:
    again = Change(reclaimed=True, own_replicas=4)
    assert said((0, 5, "nnnnn"), (0, 4, "nnnn"), again) == "Release another Replica"
    assert said((0, 6, "nnnnnn"), (0, 4, "nnnn"), again) == "Release 2 more Replicas"
