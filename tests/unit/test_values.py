"""Immutable JSON: what is refused, and how."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lws_core.values import FrozenMap, freeze, freeze_map, thaw


@pytest.mark.parametrize("value", [[1], "text", None, 7, ()])
def test_value_that_is_no_mapping_never_becomes_a_map(value: Any) -> None:
    with pytest.raises(TypeError, match="is not a mapping"):
        freeze_map(value)


def test_map_that_is_frozen_always_is_the_very_same() -> None:
    frozen = freeze_map({"a": [1]})
    assert freeze_map(frozen) is frozen


def test_value_that_holds_itself_or_is_too_deep_is_refused_as_no_json() -> None:
    circle: list[Any] = []
    circle.append({"a": circle})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(TypeError, match="the value holds itself, or is nested too deep"):
            freeze(value)
        with pytest.raises(TypeError, match="the value holds itself"):
            freeze_map({"a": value})


def test_thawed_value_always_is_written_by_pyyaml_as_it_is() -> None:
    plain = {"a": {"b": [1, "x"]}}
    assert isinstance(freeze_map(plain), FrozenMap)
    assert yaml.safe_load(yaml.safe_dump(thaw(freeze_map(plain)))) == plain
