"""The difference between two JSON values as a patch (RFC 6902), which is how a webhook answers.

Lists are compared from both ends, so that an entry put first, last or into the middle is one operation; this
is not always the shortest patch, but what is equal at the ends is never sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from .values import FrozenMap, Json


def json_patch(before: Json, after: Json) -> tuple[FrozenMap[Json], ...]:
    """The operations (`add`, `remove`, `replace`) that make `before` into `after`, in order; none if equal.

    Cost: what is shared between the two, as frozen values usually are, is passed over at once.
    """
    return tuple(_diff("", before, after))


def _diff(path: str, before: Json, after: Json) -> Iterator[FrozenMap[Json]]:
    match before, after:
        case _ if before is after:
            return
        case FrozenMap(), FrozenMap():
            yield from _diff_maps(path, before, after)
        case tuple(), tuple():
            yield from _diff_lists(path, before, after)
        case _ if not _same(before, after):
            yield _operation("replace", path, after)


def _diff_maps(path: str, before: FrozenMap[Json], after: FrozenMap[Json]) -> Iterator[FrozenMap[Json]]:
    for key in before:
        if key not in after:
            yield FrozenMap({"op": "remove", "path": f"{path}/{_escaped(key)}"})
    for key, value in after.items():
        if key in before:
            yield from _diff(f"{path}/{_escaped(key)}", before[key], value)
        else:
            yield _operation("add", f"{path}/{_escaped(key)}", value)


def _diff_lists(path: str, before: tuple[Json, ...], after: tuple[Json, ...]) -> Iterator[FrozenMap[Json]]:
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and _same(before[start], after[start]):
        start += 1
    end = 0
    while end < shorter - start and _same(before[-1 - end], after[-1 - end]):
        end += 1
    old, new = len(before) - end, len(after) - end
    for index in range(start, min(old, new)):
        yield from _diff(f"{path}/{index}", before[index], after[index])
    for index in range(old - 1, new - 1, -1):
        yield FrozenMap({"op": "remove", "path": f"{path}/{index}"})
    for index in range(old, new):
        yield _operation("add", f"{path}/{index}", after[index])


def _same(one: Json, other: Json) -> bool:
    """Equal as JSON, where true is not 1."""
    if one is other:
        return True
    if isinstance(one, FrozenMap) and isinstance(other, FrozenMap):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


def _operation(op: str, path: str, value: Json) -> FrozenMap[Json]:
    return FrozenMap({"op": op, "path": path, "value": value})


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
