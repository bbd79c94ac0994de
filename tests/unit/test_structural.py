"""Checking and completing values by a structural schema."""

from __future__ import annotations

from typing import Any

import pytest
from building import lines

from lws_core.structural import check, fill_defaults
from lws_core.values import FrozenMap, Json, freeze, freeze_map


def schema(**fields: Any) -> FrozenMap[Json]:
    return freeze_map({"type": "object", "properties": fields})


STRING = {"type": "string"}
INT = {"type": "integer", "format": "int32"}
EITHER = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
QUANTITY = {**EITHER, "pattern": "^[0-9]+(Mi|Gi)?$"}
NAMED = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name", "protocol"],
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": STRING, "protocol": {"type": "string", "default": "TCP"}},
    },
}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (STRING, "x", []),
        (STRING, 5, ["a: Invalid value: 5: must be a string"]),
        (STRING, None, []),
        (STRING, {"b": 1}, ['a: Invalid value: "object": must be a string']),
        ({"type": "boolean"}, 1, ["a: Invalid value: 1: must be true or false"]),
        ({"type": "number"}, 1, []),
        ({"type": "number"}, 1.5, []),
        ({"type": "number"}, True, ["a: Invalid value: true: must be a number"]),
        (INT, 3.0, []),
        (INT, 3.5, ["a: Invalid value: 3.5: must be an integer"]),
        (INT, True, ["a: Invalid value: true: must be an integer"]),
        (INT, 2**31 - 1, []),
        (
            INT,
            2**31,
            ["a: Invalid value: 2147483648: must be an integer between -2147483648 and 2147483647"],
        ),
        (
            {"type": "integer", "format": "int64"},
            -(2**63) - 1,
            [
                "a: Invalid value: -9223372036854775809: "
                "must be an integer between -9223372036854775808 and 9223372036854775807"
            ],
        ),
        ({**INT, "minimum": 0}, -1, ["a: Invalid value: -1: must be greater than or equal to 0"]),
        ({**INT, "maximum": 9}, 10, ["a: Invalid value: 10: must be less than or equal to 9"]),
        (
            {**STRING, "enum": ["A", "B"]},
            "C",
            ['a: Unsupported value: "C": supported values: "A", "B"'],
        ),
        (
            {**STRING, "pattern": "^[a-z]+$"},
            "a\n",
            ['a: Invalid value: "a\\n": must match the pattern ^[a-z]+$'],
        ),
        ({**STRING, "minLength": 1}, "", ['a: Invalid value: "": must be at least 1 characters']),
        (
            {**STRING, "maxLength": 2},
            "xyz",
            ['a: Invalid value: "xyz...": must be no more than 2 characters'],
        ),
        ({**STRING, "format": "date-time"}, "2026-01-02T03:04:05.678+01:00", []),
        (
            {**STRING, "format": "date-time"},
            "2026-01-02",
            ['a: Invalid value: "2026-01-02": must be a time such as 2006-01-02T15:04:05Z'],
        ),
        (EITHER, "25%", []),
        (EITHER, 25, []),
        (
            EITHER,
            2**31,
            ["a: Invalid value: 2147483648: must be an integer between -2147483648 and 2147483647"],
        ),
        (EITHER, 0.5, ["a: Invalid value: 0.5: must be an integer or a string; write it in quotes"]),
        (EITHER, True, ["a: Invalid value: true: must be an integer or a string"]),
        (QUANTITY, 2**40, []),
        (QUANTITY, "1Gx", ['a: Invalid value: "1Gx": must be a quantity such as "500m", "2" or "16Gi"']),
        ({"type": "array", "items": STRING}, ["x", None], ["a[1]: Invalid value: null: must be a string"]),
        ({"type": "array", "items": STRING}, "x", ['a: Invalid value: "x": must be a list']),
        (
            {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
            ["x", "y", "x"],
            ['a[2]: Invalid value: "x": duplicates an earlier entry'],
        ),
        (
            NAMED,
            [{"name": "x"}, {"name": "x", "protocol": "UDP"}, {"name": "x"}],
            ['a[2]: Invalid value: {"name":"x","protocol":null}: duplicates an earlier entry'],
        ),
        (NAMED, [{}], ["a[0].name: Required value"]),
        (
            {"type": "object", "additionalProperties": STRING},
            {"b.c/d": 1},
            ["a[b.c/d]: Invalid value: 1: must be a string"],
        ),
        ({"type": "object", "additionalProperties": STRING}, {"b": None}, []),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"b": 1}, []),
        ({"type": "object"}, {"b": 1}, ["a.b: Unknown field"]),
        ({"type": "object"}, {"": 1}, ['a."": Unknown field']),
        ({"type": "object"}, {"b": None}, []),
        (
            {"type": "object", "properties": {"maxSurge": INT}},
            {"maxsurge": 1},
            ['a.maxsurge: Unknown field: did you mean "maxSurge"?'],
        ),
    ],
)
def test_check_always_says_what_a_field_must_be(field: Any, value: Any, expected: list[str]) -> None:
    assert lines(check(freeze_map({"a": value}), schema(a=field))) == expected


def test_unknown_fields_never_matter_unless_strict() -> None:
    assert check(freeze_map({"b": 1}), schema(a=STRING), strict=False) == ()


def test_check_always_finds_every_fault() -> None:
    faults = check(
        freeze_map({"a": 1, "b": [1, 2], "c": 3}), schema(a=STRING, b={"type": "array", "items": STRING})
    )
    assert [fault.path for fault in faults] == ["a", "b[0]", "b[1]", "c"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"a": 1}),
        ({"a": None}, {"a": 1}),
        ({"a": 2}, {"a": 2}),
        ({"a": "wrong"}, {"a": "wrong"}),
        ({"b": None, "c": None}, {"a": 1, "c": None}),  # c is unknown, b is left out
        ({"l": [{"name": "x"}, {"name": "y", "protocol": None}, 7]},
         {"l": [{"name": "x", "protocol": "TCP"}, {"name": "y", "protocol": "TCP"}, 7], "a": 1}),
        ({"m": {"k": None, "v": "w"}}, {"m": {"v": "w"}, "a": 1}),
        ({"o": None}, {"a": 1}),
        ({"o": {}}, {"o": {"p": "q"}, "a": 1}),
    ],
)  # fmt: skip
def test_defaults_are_always_filled_in_as_the_api_server_does(before: Any, after: Any) -> None:
    fields = schema(
        a={**INT, "default": 1},
        b=STRING,
        l=NAMED,
        m={"type": "object", "additionalProperties": STRING},
        o={"type": "object", "properties": {"p": {**STRING, "default": "q"}}},
    )
    assert fill_defaults(freeze(before), fields) == freeze(after)


def test_value_that_lacks_nothing_is_never_copied() -> None:
    value = freeze_map({"a": 1, "l": [{"name": "x", "protocol": "TCP"}]})
    assert fill_defaults(value, schema(a={**INT, "default": 2}, l=NAMED)) is value
