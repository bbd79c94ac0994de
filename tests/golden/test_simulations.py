"""Every example: what its rollout does, what it is made of, and the scenarios that come with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from files import EXAMPLES, compare

from lws_runtime.cli import main

FOLDER = Path(__file__).parent
SETS = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
SCENARIOS = {
    "guide-stages": "lws-rollout-strategy",
    "broken-template": "lws-rollout-strategy",
    "failures-in-mid-flight": "lws-rollout-strategy",
    "node-lost": "lws-rollout-strategy",
    "capacity-runs-out": "lws-exclusive-placement",
    "autoscaler": "horizontal-pod-autoscaler",
}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return tmp_path / "golden.yaml"


def simulate(golden: Path, *arguments: str) -> str:
    run("simulate", *arguments, "--golden", str(golden), "--update-golden")
    return golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SETS)
def test_example_always_rolls_out_as_recorded(name: str, golden: Path) -> None:
    found = simulate(golden, str(EXAMPLES / f"{name}.yaml"))
    assert "finished: true" in found
    assert "violations" not in found
    compare(FOLDER / "simulated" / f"{name}.golden.yaml", found)


def test_autoscaled_example_always_grows_from_three_to_five(golden: Path) -> None:
    found = simulate(golden, str(EXAMPLES / "horizontal-pod-autoscaler.yaml"), "--set", "spec.replicas=5")
    compare(FOLDER / "simulated" / "horizontal-pod-autoscaler-3-to-5.golden.yaml", found)


@pytest.mark.parametrize("name", SETS)
def test_example_always_renders_as_recorded(name: str) -> None:
    found = run("render", "--pods", "--group", "0", str(EXAMPLES / f"{name}.yaml"))
    compare(FOLDER / "rendered" / f"{name}.yaml", found)


def test_every_scenario_is_always_simulated() -> None:
    assert sorted(SCENARIOS) == sorted(path.stem for path in (EXAMPLES / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("gate", ["gate", "no-gate"])
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_scenario_always_plays_as_recorded(scenario: str, gate: str, golden: Path) -> None:
    found = simulate(
        golden,
        str(EXAMPLES / f"{SCENARIOS[scenario]}.yaml"),
        "--scenario",
        str(EXAMPLES / "scenarios" / f"{scenario}.yaml"),
        f"--{gate}",
    )
    assert "violations" not in found
    compare(FOLDER / "simulated" / f"{scenario}-{gate}.golden.yaml", found)


def test_no_recording_is_ever_left_over() -> None:
    known = {*SETS, "horizontal-pod-autoscaler-3-to-5"}
    known |= {f"{scenario}-{gate}" for scenario in SCENARIOS for gate in ("gate", "no-gate")}
    found = {path.name.removesuffix(".golden.yaml") for path in (FOLDER / "simulated").iterdir()}
    assert found == known
    assert {path.stem for path in (FOLDER / "rendered").iterdir()} == set(SETS)
