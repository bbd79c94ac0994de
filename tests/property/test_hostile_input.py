"""Hostile and broken input, a bounded share: tests/hostile.py takes as much as is asked for.

Each run takes other numbers: failures name theirs, and `--first` takes it again.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import hostile
import pytest
from hypothesis import given, settings
from strategies import manifests

from lws_core.values import FrozenMap, Json, freeze, thaw
from lws_runtime.webhook.reviews import Reply

TIMES = 20 if os.environ.get("LWS_PROFILE") == "long" else 1


def first() -> int:
    return random.randrange(10**9)


def test_mutated_examples_and_recorded_sets_never_crash_anything_and_are_rendered_where_valid() -> None:
    found = hostile.check_manifests(400 * TIMES, first())
    assert min(found["valid"], found["refused"]) > 20


@settings(max_examples=100 * TIMES)
@given(manifest=manifests())
def test_mutated_generated_sets_never_crash_anything_and_are_rendered_where_valid(
    manifest: FrozenMap[Json],
) -> None:
    hostile.check_manifests(3, first(), [thaw(manifest)])


def test_malformed_reviews_are_never_allowed_and_never_harm_the_process() -> None:
    found = hostile.check_reviews(300 * TIMES, first())
    assert min(found["denied"], found["no review"]) > 20


def test_broken_files_always_end_in_an_exit_code_and_a_message(tmp_path: Path) -> None:
    found = hostile.check_files(150 * TIMES, tmp_path, first())
    assert {kind.partition(":")[0] for kind in found} == set(hostile.KINDS)


# -- that the checks can fail


def test_a_manifest_that_crashes_something_must_be_told_by_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hostile, "decode_lenient", lambda _: 1 / 0)
    with pytest.raises(AssertionError, match="manifest 7: ZeroDivisionError"):
        hostile.check_manifests(1, 7)


def test_a_manifest_that_takes_long_must_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "LONGEST_S", 0.0)
    with pytest.raises(AssertionError, match="manifest 7 takes"):
        hostile.check_manifests(1, 7)


def test_a_review_that_is_allowed_must_be_told() -> None:
    for response in ({"allowed": True}, {"allowed": False, "status": {"code": 500}}):
        told = hostile.dumped({"response": response})
        with pytest.raises(AssertionError, match="review 7"):
            hostile.judged(7, b"", 200, told)
    with pytest.raises(AssertionError, match="status 503"):
        hostile.judged(7, b"", 503, b"")


def test_a_command_that_crashes_must_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(*_: Any, **__: Any) -> Reply:
        raise KeyError("spec")

    monkeypatch.setattr("lws_runtime.cli.loading.read_manifests", crash)
    with pytest.raises(AssertionError, match="KeyError"):
        hostile.run_command("validate", tmp_path / "none.yaml")


def test_good_sets_are_always_valid_so_that_mutation_starts_from_there() -> None:
    for one in hostile.corpus():
        assert hostile.check_manifest(freeze(one), freeze(one)) == "valid", one["metadata"]
