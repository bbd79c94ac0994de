"""Immutable JSON: what manifests and pod templates are made of inside the library.

A value is None, a bool, an int, a float, a str, a tuple of values or a `FrozenMap` of them. Values compare
by content, can be keys of a mapping, and can be shared freely: nothing can change one behind another's back.
A `FrozenMap` is a dict, to encoders of JSON too; PyYAML goes by the exact type, so `thaw` a value for it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar

if TYPE_CHECKING:
    from attrs import evolve as evolve  # noqa: PLC0414 -- exported
else:

    def evolve(instance, **changes):
        """`attrs.evolve` for values without slots, at a tenth of its cost: it copies the dictionary rather
        than the fields. What is replaced once for every event (a memory, a world) is such a value."""
        copy = object.__new__(type(instance))
        copy.__dict__.update(instance.__dict__, **changes)
        return copy


V = TypeVar("V")

Json: TypeAlias = "bool | int | float | str | tuple[Json, ...] | FrozenMap[Json] | None"
Labels: TypeAlias = "FrozenMap[str]"

_ESCAPED_BY_GO: Final = "<>&\u2028\u2029"


class FrozenMap(dict[str, V]):
    """A dict that cannot be changed once made, and so can be hashed. `|` returns another FrozenMap."""

    __slots__ = ("_hash",)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a FrozenMap cannot be changed; build another with |, with_() or without()")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        try:
            return self._hash  # type: ignore[has-type, no-any-return]
        except AttributeError:
            self._hash = frozenset(self.items()).__hash__()
            return self._hash

    def __or__(self, other: Mapping[str, Any]) -> FrozenMap[Any]:  # type: ignore[override]
        return FrozenMap({**self, **other}) if other else self

    __ior__ = __or__  # type: ignore[assignment]  # rebinds the name, and changes nothing

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (dict(self),)

    def __repr__(self) -> str:
        return f"FrozenMap({dict(self)!r})"

    def with_(self, key: str, value: V) -> FrozenMap[V]:
        """This map with `key` set to `value`. Cost: a copy of the map."""
        return FrozenMap({**self, key: value})

    def without(self, *keys: str) -> FrozenMap[V]:
        """This map without `keys`; itself when it has none of them."""
        if not any(key in self for key in keys):
            return self
        return FrozenMap({k: v for k, v in self.items() if k not in keys})


EMPTY: FrozenMap[Any] = FrozenMap()


def freeze(value: object) -> Json:
    """`value`, made of dicts, lists and scalars, as an immutable value.

    Raises TypeError for what JSON cannot say: another type, a key that is no string, NaN or infinity, a value
    that holds itself, or one nested deeper than Python's stack.
    """
    try:
        return _freeze(value)
    except RecursionError:
        raise TypeError("the value holds itself, or is nested too deep") from None


def _freeze(value: object) -> Json:
    match value:
        case FrozenMap() | str() | None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise TypeError(f"{value} is not a JSON number")
            return value
        case Mapping():
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(f"key {key!r} is not a string")
            return FrozenMap({key: _freeze(item) for key, item in value.items()})
        case list() | tuple():
            return tuple([_freeze(item) for item in value])
        case _:
            raise TypeError(f"{value!r} ({type(value).__name__}) is not a JSON value")


def freeze_decoded(value: object, depth: int) -> Json:
    """`freeze` for what a decoder of JSON has made, which need not be checked. Raises RecursionError below
    `depth` levels of nesting."""
    match value:
        case dict():
            if depth == 0:
                raise RecursionError
            return FrozenMap({key: freeze_decoded(item, depth - 1) for key, item in value.items()})
        case list():
            if depth == 0:
                raise RecursionError
            return tuple([freeze_decoded(item, depth - 1) for item in value])
        case _:
            scalar: Json = value  # type: ignore[assignment]  # there is nothing else in JSON
            return scalar


def freeze_map(value: Mapping[str, object]) -> FrozenMap[Json]:
    """`freeze` for what is known to be a mapping; TypeError for anything else."""
    frozen = value if isinstance(value, FrozenMap) else freeze(value)
    if not isinstance(frozen, FrozenMap):
        raise TypeError(f"{value!r} ({type(value).__name__}) is not a mapping")
    return frozen


def thaw(value: Json) -> Any:
    """`value` as plain dicts, lists and scalars, which the caller may change."""
    match value:
        case dict():
            return {key: thaw(item) for key, item in value.items()}
        case tuple():
            return [thaw(item) for item in value]
        case _:
            return value


def canonical(value: Json) -> str:
    """One text for equal values: keys sorted, no white space, non-ASCII kept; 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def as_go_writes(value: Json) -> str:
    """`canonical`, with the characters escaped that Go's encoder escapes.

    The API server compares the bytes of a ControllerRevision's data, which are immutable, with what Go's
    encoder makes of them whenever anybody patches the object. So they must be written like this at first; or
    the garbage collector, for one, cannot take an owner reference off.
    """
    text = canonical(value)
    for character in _ESCAPED_BY_GO:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def digest(value: Json) -> str:
    """16 hexadecimal digits that tell one value from another."""
    return hashlib.sha1(canonical(value).encode(), usedforsecurity=False).hexdigest()[:16]


def as_map(value: Json) -> FrozenMap[Json]:
    """`value` if it is a map, else the empty map: for walking optional fields."""
    return value if isinstance(value, FrozenMap) else EMPTY


def as_list(value: Json) -> tuple[Json, ...]:
    """`value` if it is a list, else the empty list."""
    return value if isinstance(value, tuple) else ()


def as_maps(value: Json) -> tuple[FrozenMap[Json], ...]:
    """The maps among the items of a list; none for any other value."""
    return tuple([item for item in as_list(value) if isinstance(item, FrozenMap)])


def dig(value: Json, *path: str) -> Json:
    """The value at a path of map keys, or None where the path ends early."""
    for key in path:
        if not isinstance(value, FrozenMap):
            return None
        value = value.get(key)
    return value


def strings(value: Json) -> Labels:
    """The string entries of a map (labels, annotations); empty for any other value."""
    if not isinstance(value, FrozenMap):
        return EMPTY
    if all(isinstance(item, str) for item in value.values()):
        return value  # type: ignore[return-value]
    return FrozenMap({key: item for key, item in value.items() if isinstance(item, str)})
