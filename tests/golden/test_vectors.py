"""Single looks at a rollout, one row each, with the numbers that must come of them (vectors.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from building import groups_in

from lws_core.bits import members
from lws_core.rollout import Budget, Position, decide

ROWS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "vectors.yaml").read_text())


def identity(row: dict[str, Any]) -> str:
    budget, position = ("-".join(map(str, row[field])) for field in ("budget", "position"))
    return f"{budget}:{position}:{row['states']}" + (":broken" if "broken" in row else "")


def answer(row: dict[str, Any]) -> list[int]:
    replicas, partition, max_unavailable, max_surge = row["budget"]
    starts = row["states"] == "update"
    states = "o" * row["position"][0] if starts else row["states"]
    decision = decide(
        Budget(replicas, max_unavailable, max_surge, partition),
        Position(*row["position"]),
        groups_in(states, broken=members(*row.get("broken", ()))),
        writes_template=starts,
    )
    return [decision.partition, decision.replicas]


@pytest.mark.parametrize("row", ROWS, ids=identity)
def test_look_always_comes_to_the_numbers_of_its_row(row: dict[str, Any]) -> None:
    assert answer(row) == row["expected"]


def test_row_never_departs_from_the_original_controller_without_a_reason() -> None:
    assert all(row.get("why") and row["original"] != row["expected"] for row in ROWS if "original" in row)


def test_row_always_has_a_state_for_every_leader() -> None:
    assert all(row["states"] == "update" or len(row["states"]) == row["position"][0] for row in ROWS)
