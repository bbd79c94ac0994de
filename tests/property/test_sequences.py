"""Random sequences with faults, a bounded share: tests/sequences.py takes as many as are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test
from sequences import Sequence, settings_for

LONG = os.environ.get("LWS_PROFILE") == "long"


def test_random_sequences_with_faults_never_break_a_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sequence, "folder", tmp_path)
    settings = settings_for(2000, 200) if LONG else settings_for(40, 50)
    run_state_machine_as_test(Sequence, settings=settings)
