from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recital import recite

TESTS = Path(__file__).parents[1]


def recited_by_another_process(seed: str) -> list[str]:
    """What a process that hashes strings with this seed decides."""
    found = subprocess.run(
        [sys.executable, str(TESTS / "recital.py")],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


@pytest.fixture(scope="module")
def recited() -> list[str]:
    return list(recite())


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_results_never_depend_on_the_seed_of_hashes(recited: list[str], seed: str) -> None:
    assert recited_by_another_process(seed) == recited


def test_results_always_are_the_same_for_the_same_sights(recited: list[str]) -> None:
    assert list(recite()) == recited


def test_recital_never_is_of_nothing(recited: list[str]) -> None:
    text = "\n".join(recited)
    for part in ('"minMember"', '"status"', '"propagation"', '"PodGroup"', '"kind": "ControllerRevision"'):
        assert part in text
