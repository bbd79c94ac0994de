"""The command that explores all sets goes on where it ended, and never passes over what it has not done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import attrs
import pytest
from exploration import explore
from exploration.cases import Case
from worlds import Shape

from lws_sim.checking.check import Scope

ONE = Case("one", Shape(replicas=1, size=1), Scope(edits=("template",)))
OTHER = Case("other", Shape(replicas=1, size=1), Scope(edits=("down",)))


@pytest.fixture(autouse=True)
def commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "bounded", lambda: [ONE, OTHER])
    monkeypatch.setattr(explore, "KINDS", ("look", "edit template"))
    monkeypatch.setattr(explore, "_commit", lambda: "this")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["explore.py", *words])
    return explore.main()


def recorded(path: Path, commit: str, finding: object) -> None:
    lines = [explore.explored(case) | {"commit": commit, "finding": finding} for case in (ONE, OTHER)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_exploration_must_fail_again_for_a_violation_that_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    recorded(state, "this", ["floor", "too few", ["look"]])
    assert run(monkeypatch, "--state", str(state)) == explore.FAILS
    assert f"VIOLATION of floor in {ONE.name}: too few\n  look" in capsys.readouterr().out
    recorded(state, "another", ["floor", "too few", ["look"]])
    assert run(monkeypatch, "--state", str(state)) == 0, "results of another commit are not used"
    lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert [line["commit"] for line in lines] == ["another", "another", "this", "this"]


def test_exploration_must_tell_what_is_left_when_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--minutes", "0") == explore.LEFT
    assert "1 of 2 cases are left" in capsys.readouterr().out


def test_exploration_must_fail_where_a_kind_of_move_never_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explore, "KINDS", ("look", "evict"))
    assert run(monkeypatch) == 1
    assert "never happened: evict" in capsys.readouterr().out


def test_exploration_must_fail_where_more_is_written_than_a_set_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ONE.explore()
    assert explore._too_much(ONE, report) is None
    endless = explore._too_much(ONE, attrs.evolve(report, most_writes=None))
    assert endless is not None
    assert endless.text.startswith("there is a way without an end")
    monkeypatch.setattr(explore, "OF_A_SET", 0)
    monkeypatch.setattr(explore, "OF_A_GROUP", 1)
    assert run(monkeypatch) == explore.FAILS
    said = capsys.readouterr().out
    assert f"VIOLATION of writes in {ONE.name}: there is a way with {report.most_writes} writes" in said
