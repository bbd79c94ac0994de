"""The guide's stage table, each cell of it, as `lws simulate` prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from files import EXAMPLES

from lws_runtime.cli import main

GUIDE = Path(__file__).with_name("guide-table.md")
COMMAND = [
    "simulate",
    str(EXAMPLES / "lws-rollout-strategy.yaml"),
    "--scenario",
    str(EXAMPLES / "scenarios" / "guide-stages.yaml"),
]


def cells(table: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def simulated(*options: str) -> list[list[str]]:
    result = CliRunner().invoke(main, [*COMMAND, "--output", "markdown", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return cells(result.stdout)


@pytest.mark.parametrize("gate", ["--gate", "--no-gate"])
def test_simulation_always_shows_the_guides_table(gate: str) -> None:
    expected, found = cells(GUIDE.read_text(encoding="utf-8")), simulated(gate)
    assert found[0] == ["Stage", *expected[0][1:]]
    assert len(found) == len(expected) == 11
    for row, (here, there) in enumerate(zip(found[2:], expected[2:], strict=True), start=1):
        assert here == there, f"Stage {row}"


@pytest.mark.parametrize("gate", ["--gate", "--no-gate"])
@pytest.mark.parametrize("seed", range(10))
def test_order_of_independent_events_never_changes_the_guides_table(gate: str, seed: int) -> None:
    assert simulated(gate, "--seed", str(seed)) == simulated(gate)


def test_guides_rollout_always_keeps_its_budget() -> None:
    result = CliRunner().invoke(main, [*COMMAND, "--output", "json"], catch_exceptions=False)
    (trace,) = json.loads(result.stdout)["items"]
    summary = trace["summary"]
    assert summary["finished"]
    assert "violations" not in summary
    assert summary["lowestReady"] == summary["floor"] == 2
    assert summary["podsCreated"] == 6 * 2
    assert summary["highestPods"] == 6 * 2
