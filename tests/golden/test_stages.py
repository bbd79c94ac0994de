"""The nine stages of the guide's dry run, cell by cell (stages.yaml)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from building import groups_in

from lws_core.rollout import Blocked, Budget, Decision, Done, Position, decide

STAGES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "stages.yaml").read_text())
BUDGET = Budget(replicas=4, max_unavailable=2, max_surge=2)


def look(stage: dict[str, Any], states: str) -> Decision:
    position = Position(stage["replicas"], stage["partition"], applied_replicas=4)
    return decide(BUDGET, position, groups_in(states), writes_template=stage.get("update", False))


def numbers(decision: Decision) -> list[int]:
    return [decision.partition, decision.replicas]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"stage-{stage['stage']}")
def test_stage_always_is_answered_as_the_guide_has_it(stage: dict[str, Any]) -> None:
    assert numbers(look(stage, stage["states"])) == stage["answers"]
    meanwhile = stage.get("meanwhile")
    if meanwhile is not None:
        assert numbers(look(stage, meanwhile["states"])) == meanwhile["answers"]


@pytest.mark.parametrize(("before", "after"), list(pairwise(STAGES)), ids=lambda stage: str(stage["stage"]))
def test_stage_always_follows_from_what_was_answered_before_it(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    last = before.get("meanwhile", before)["answers"]
    assert [after["partition"], after["replicas"]] == last


def test_last_stage_always_is_the_end() -> None:
    assert isinstance(look(STAGES[-1], "nnnn"), Done)


def test_stages_in_between_never_count_as_the_end() -> None:
    assert isinstance(look(STAGES[2], "oouuuu"), Blocked)
    assert isinstance(look(STAGES[7], "nunn"), Blocked)
