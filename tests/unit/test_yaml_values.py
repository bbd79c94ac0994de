"""YAML scalars as Kubernetes reads them, and output that reads back as what it was."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from strategies import any_json, manifests

from lws_core.values import FrozenMap, Json, freeze
from lws_runtime.manifests import MAX_DEPTH
from lws_runtime.yaml_events import documents_of_events
from lws_runtime.yaml_values import plain_value, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("nULL", "nULL"), ("None", "None"),
        ("true", True), ("yes", True), ("On", True), ("y", True), ("N", False), ("off", False),
        ("0", 0), ("-7", -7), ("+7", 7), ("1_000", 1000), ("017", 15), ("0o17", 15), ("0x1F", 31),
        ("0b11", 3), ("-0b11", -3), ("08", 8), ("1.0", 1), ("1e3", 1000), ("1.5e-1", 0.15), (".5", 0.5),
        ("5.", 5),
        ("9223372036854775807", 2**63 - 1), ("18446744073709551615", 2**64 - 1), ("1e21", 1e21),
        ("18446744073709551616", 18446744073709551616), ("1e999", "1e999"),
        ("1:30", "1:30"), ("2001-01-01", "2001-01-01"), ("2001-12-14T21:59:43Z", "2001-12-14T21:59:43Z"),
        ("1.2.3", "1.2.3"), ("500m", "500m"), ("1e", "1e"), ("-", "-"), (".", "."), ("0x", "0x"),
    ],
)  # fmt: skip
def test_plain_scalar_always_means_what_kubernetes_takes_it_for(text: str, value: Any) -> None:
    found = plain_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".inf", "-.Inf", "+.INF"])
def test_number_that_json_lacks_is_never_read(text: str) -> None:
    with pytest.raises(ValueError, match="no number that a manifest can hold"):
        plain_value(text)


def read_back(text: str) -> Json:
    (value,) = documents_of_events(yaml.parse(text, Loader=yaml.SafeLoader), MAX_DEPTH)
    return value


@given(any_json())
@example(-(2**63) - 1)
@example(2**64)
def test_output_always_reads_back_as_what_it_was(value: Json) -> None:
    for compact in (False, True):
        again = read_back(to_yaml(value, compact=compact))
        assert again == value or repr(again) == repr(freeze(_whole(value)))


def _whole(value: Json) -> Any:
    """`value` with numbers as the API server gets them: what no 64 bits hold is a float to Go."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = float(value)
    match value:
        case FrozenMap():
            return {key: _whole(item) for key, item in value.items()}
        case tuple():
            return [_whole(item) for item in value]
        case float() if value.is_integer() and abs(value) < 1e21:
            return int(value)
        case int() if not -(2**63) <= value < 2**64:
            return _whole(float(value))
        case _:
            return value


@given(manifests())
def test_output_always_reads_the_same_to_every_yaml_reader(manifest: FrozenMap[Json]) -> None:
    text = to_yaml(manifest)
    assert freeze(yaml.safe_load(text)) == manifest == read_back(text)


@pytest.mark.parametrize(
    "word", ["y", "no", "~", "1:30", "017", "1e3", "2001-01-01", ".nan", "<<", "- x", ""]
)
def test_text_that_looks_like_something_else_is_always_quoted(word: str) -> None:
    assert to_yaml(FrozenMap({"a": word})) == f"a: '{word}'\n"


def test_output_always_keeps_the_order_and_writes_lines_as_lines() -> None:
    value = freeze({"z": 1, "a": ["x", {"b": "one\ntwo\n"}], "m": {}})
    assert to_yaml(value) == "z: 1\na:\n- x\n- b: |\n    one\n    two\nm: {}\n"


def test_compact_output_always_writes_short_values_in_one_line() -> None:
    value = freeze({"a": {"b": 1, "c": [1, 2]}, "d": "x" * 200})
    assert to_yaml(value, compact=True) == f"a: {{b: 1, c: [1, 2]}}\nd: {'x' * 200}\n"
