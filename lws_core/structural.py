"""Structural OpenAPI schemas: completing a value with their defaults, and finding what is wrong with it.

Both do what the API server does with a custom resource (apiextensions-apiserver: pkg/apiserver/schema and
kube-openapi's validation), so that a manifest that passes here passes there. The texts are our own where the
server's speak of its inner workings.

Only the keywords that schema.py and Kubernetes' own pod template use are known: types, formats, bounds,
enums, patterns, required fields, int-or-string, and lists that are sets or maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Final, TypeGuard

from .errors import FieldError, first_faults
from .values import FrozenMap, Json, as_list, as_map, canonical

Schema = FrozenMap[Json]

INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)

_COUNT: Final = FrozenMap[Json]({"format": "int32"})
_AMOUNT: Final = FrozenMap[Json]({"format": "int64"})
_RFC_3339: Final = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
_WORDS: Final = {
    "object": "a map of fields",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}


def fill_defaults(value: Json, schema: Schema) -> Json:
    """`value` with every default of the schema, and without the nulls that stand for a field left out.

    What is of a wrong type is left as it is. Returns `value` itself where nothing changes. Idempotent.
    """
    match value:
        case FrozenMap():
            return _fill_map(value, schema)
        case tuple():
            items = as_map(schema.get("items"))
            filled = tuple([fill_defaults(item, items) for item in value])
            return filled if _changed(value, filled) else value
        case _:
            return value


def _fill_map(value: FrozenMap[Json], schema: Schema) -> FrozenMap[Json]:
    properties = as_map(schema.get("properties"))
    others = as_map(schema.get("additionalProperties"))
    filled: dict[str, Json] = {}
    for key, item in value.items():
        of_key = as_map(properties.get(key)) or others
        if item is not None:
            filled[key] = fill_defaults(item, of_key)
        elif not of_key or "default" in of_key:
            filled[key] = of_key.get("default")
    for key, declared in properties.items():
        if key not in filled and "default" in as_map(declared):
            filled[key] = as_map(declared)["default"]
    return (
        FrozenMap(filled) if len(filled) != len(value) or _changed(value.values(), filled.values()) else value
    )


def _changed(before: object, after: object) -> bool:
    return any(old is not new for old, new in zip(before, after, strict=True))  # type: ignore[call-overload]


def check(value: Json, schema: Schema, path: str = "", *, strict: bool = True) -> tuple[FieldError, ...]:
    """What the schema does not allow in `value`, in its fields' order, as `first_faults` has it.

    `strict` reports fields that the schema does not have, as `kubectl --validate=strict` does; without it
    they are passed over, as the API server drops them. Cost: linear in the value; what an unknown field
    holds is not looked at.
    """
    return first_faults(_faults(value, schema, path, strict))


def _faults(value: Json, schema: Schema, path: str, strict: bool) -> Iterator[FieldError]:
    if schema.get("x-kubernetes-int-or-string") is True:
        yield from _int_or_string_faults(value, schema, path)
        return
    kind = schema.get("type")
    if not isinstance(kind, str):
        return
    if not _is(kind, value):
        yield _type_error(path, value, _WORDS[kind])
        return
    match value:
        case FrozenMap():
            yield from _map_faults(value, schema, path, strict)
        case tuple():
            yield from _list_faults(value, schema, path, strict)
        case str():
            yield from _string_faults(value, schema, path)
        case int() | float():
            yield from _number_faults(value, schema, path)
        case _:
            pass


def _is(kind: str, value: Json) -> bool:
    match kind:
        case "object":
            return isinstance(value, FrozenMap)
        case "array":
            return isinstance(value, tuple)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return is_integer(value)
        case _:
            return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: Json) -> TypeGuard[int | float]:
    """Whether a value is an integer to the API server, which takes 3.0 for 3, but not true for 1."""
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    )


def _type_error(path: str, value: Json, wanted: str) -> FieldError:
    # Of a map or a list only the kind is shown: it may be the whole manifest, one level too high.
    shown = "object" if isinstance(value, FrozenMap) else "array" if isinstance(value, tuple) else value
    return FieldError(path, "TypeInvalid", f"must be {wanted}", shown)


def _map_faults(value: FrozenMap[Json], schema: Schema, path: str, strict: bool) -> Iterator[FieldError]:
    properties = as_map(schema.get("properties"))
    required = as_list(schema.get("required"))
    for key, of_key in properties.items():
        item = value.get(key)
        if item is not None:
            yield from _faults(item, as_map(of_key), _join(path, key), strict)
        elif key in required:
            yield FieldError(_join(path, key), "Required", "")
    others = schema.get("additionalProperties")
    if schema.get("x-kubernetes-preserve-unknown-fields") is True:
        return
    for key, item in value.items():
        if key in properties:
            continue
        if isinstance(others, FrozenMap):
            if item is not None:
                yield from _faults(item, others, f"{path}[{key}]", strict)
        elif strict and item is not None:  # a null is a field left out, and kubectl does leave it out
            near = get_close_matches(key, properties, n=1)
            yield FieldError(_join(path, key), "Unknown", f'did you mean "{near[0]}"?' if near else "")


def _list_faults(value: tuple[Json, ...], schema: Schema, path: str, strict: bool) -> Iterator[FieldError]:
    items = as_map(schema.get("items"))
    for index, item in enumerate(value):
        yield from _faults(item, items, f"{path}[{index}]", strict)
    list_type = schema.get("x-kubernetes-list-type")
    if list_type not in ("set", "map"):
        return
    keys = as_list(schema.get("x-kubernetes-list-map-keys"))
    seen: set[str] = set()
    for index, item in enumerate(value):
        identity = FrozenMap({str(k): as_map(item).get(str(k)) for k in keys}) if list_type == "map" else item
        text = canonical(identity)
        if text in seen:
            yield FieldError(f"{path}[{index}]", "Invalid", "duplicates an earlier entry", identity)
        seen.add(text)


def _string_faults(value: str, schema: Schema, path: str) -> Iterator[FieldError]:
    allowed = as_list(schema.get("enum"))
    if allowed and value not in allowed:
        yield not_supported(path, value, allowed)
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if isinstance(longest, int) and len(value) > longest:
        yield FieldError(path, "Invalid", f"must be no more than {longest} characters", f"{value[:60]}...")
    if isinstance(shortest, int) and len(value) < shortest:
        yield FieldError(path, "Invalid", f"must be at least {shortest} characters", value)
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not matches(pattern, value):
        yield FieldError(path, "Invalid", f"must match the pattern {pattern}", value)
    if schema.get("format") == "date-time" and not matches(_RFC_3339, value):
        yield FieldError(path, "Invalid", "must be a time such as 2006-01-02T15:04:05Z", value)


def not_supported(path: str, value: Json, allowed: tuple[Json, ...]) -> FieldError:
    """The error for a value that is not one of `allowed`, in Kubernetes' words."""
    words = ", ".join(canonical(word) for word in allowed)
    return FieldError(path, "NotSupported", f"supported values: {words}", value)


def _number_faults(value: int | float, schema: Schema, path: str) -> Iterator[FieldError]:
    low, high = {"int32": INT32, "int64": INT64}.get(str(schema.get("format")), (None, None))
    if low is not None and high is not None and not low <= value <= high:
        yield FieldError(path, "TypeInvalid", f"must be an integer between {low} and {high}", value)
        return
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(least, int) and value < least:
        yield FieldError(path, "Invalid", f"must be greater than or equal to {least}", value)
    if isinstance(most, int) and value > most:
        yield FieldError(path, "Invalid", f"must be less than or equal to {most}", value)


def _int_or_string_faults(value: Json, schema: Schema, path: str) -> Iterator[FieldError]:
    pattern = schema.get("pattern")  # only quantities have one
    if not isinstance(value, str):
        if is_integer(value):
            yield from _number_faults(value, _COUNT if pattern is None else _AMOUNT, path)
        else:
            hint = "; write it in quotes" if isinstance(value, float) else ""
            yield _type_error(path, value, f"an integer or a string{hint}")
    elif isinstance(pattern, str) and not matches(pattern, value):
        yield FieldError(path, "Invalid", 'must be a quantity such as "500m", "2" or "16Gi"', value)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # Python's "$" also matches before a last line feed, Go's does not.
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern, re.ASCII)


def matches(pattern: str, value: str) -> bool:
    """Whether a pattern of a schema, in Go's syntax, is found in a value."""
    return _compiled(pattern).search(value) is not None


def _join(path: str, key: str) -> str:
    shown = key or '""'
    return f"{path}.{shown}" if path else shown
