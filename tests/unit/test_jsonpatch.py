from __future__ import annotations

from lws_core.jsonpatch import json_patch
from lws_core.values import freeze, thaw


def patch(before: object, after: object) -> object:
    return thaw(json_patch(freeze(before), freeze(after)))


def test_patch_of_equal_values_is_always_empty() -> None:
    assert patch({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


def test_patch_always_tells_true_from_one() -> None:
    assert patch({"a": 1}, {"a": True}) == [{"op": "replace", "path": "/a", "value": True}]


def test_patch_always_escapes_keys() -> None:
    assert patch({}, {"a/b~c": 1}) == [{"op": "add", "path": "/a~1b~0c", "value": 1}]


def test_patch_never_sends_what_stays_at_either_end_of_a_list() -> None:
    assert patch([1, 2, 3], [1, 9, 2, 3]) == [{"op": "add", "path": "/1", "value": 9}]
    assert patch([1, 9, 2, 3], [1, 2, 3]) == [{"op": "remove", "path": "/1"}]
    assert patch([{"a": 1}, 2], [{"a": 1, "b": 2}, 2]) == [{"op": "add", "path": "/0/b", "value": 2}]
    assert patch([1, 2, 3, 4], [4]) == [
        {"op": "remove", "path": "/2"},
        {"op": "remove", "path": "/1"},
        {"op": "remove", "path": "/0"},
    ]


def test_patch_always_replaces_a_value_of_another_type() -> None:
    assert patch({"a": {}}, {"a": []}) == [{"op": "replace", "path": "/a", "value": []}]
    assert patch(1, {"a": 1}) == [{"op": "replace", "path": "", "value": {"a": 1}}]
