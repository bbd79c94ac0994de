"""Builds values from YAML events, without recursion and with bounds.

PyYAML's own construction recurses in C (a file of brackets ends the process), follows aliases however much
they come to, and lets the last of two equal keys win. Here depth and size are bounded, and a second key is
an error. Aliases share one immutable value, but count as often as they are used: whoever walks the value
later meets them as often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs
import yaml

from lws_core.values import FrozenMap, Json

from .yaml_values import plain_value

MAX_VALUES: Final = 2_000_000

_TAG: Final = "tag:yaml.org,2002:"
_SCALAR_TYPES: Final[dict[str, tuple[type, ...]]] = {
    _TAG + "int": (int,),
    _TAG + "float": (float, int),
    _TAG + "bool": (bool,),
    _TAG + "null": (type(None),),
}
_MERGE: Final = "<<"


class BadYaml(ValueError):
    """Why a stream of events makes no JSON value, with its line."""


@attrs.define
class _Open:
    """A map or list that has begun and not ended; `key` is the map's key whose value comes next."""

    event: yaml.CollectionStartEvent
    items: list[Json] = attrs.Factory(list)
    fields: dict[str, Json] = attrs.Factory(dict)
    merged: dict[str, Json] = attrs.Factory(dict)
    key: str | None = None
    merging: bool = False
    size: int = 1

    @property
    def is_map(self) -> bool:
        return isinstance(self.event, yaml.MappingStartEvent)


@attrs.define
class _Builder:
    max_depth: int
    open: list[_Open] = attrs.Factory(list)
    anchors: dict[str, tuple[Json, int] | None] = attrs.Factory(dict)  # None: has begun and not ended
    total: int = 0
    result: Json = None

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                value, is_merge = _scalar(event)
                self._anchor(event.anchor, value, 1)
                self._add(value, 1, event, is_merge=is_merge)
            case yaml.AliasEvent():
                self._add(*self._aliased(event), event)
            case yaml.CollectionStartEvent():
                self._begin(event)
            case yaml.CollectionEndEvent():
                self._end(event)
            case _:
                pass

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        if len(self.open) == self.max_depth:
            raise _bad(event, f"is nested more than {self.max_depth} levels deep")
        if event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
            raise _bad(event, f"the tag {event.tag} is not known")
        if event.anchor:
            self.anchors[event.anchor] = None
        self.open.append(_Open(event))

    def _end(self, event: yaml.Event) -> None:
        ended = self.open.pop()
        value: Json = FrozenMap({**ended.merged, **ended.fields}) if ended.is_map else tuple(ended.items)
        self._anchor(ended.event.anchor, value, ended.size)
        self._add(value, ended.size, event)

    def _anchor(self, name: str | None, value: Json, size: int) -> None:
        if name:
            self.anchors[name] = value, size

    def _aliased(self, event: yaml.AliasEvent) -> tuple[Json, int]:
        if event.anchor not in self.anchors:
            raise _bad(event, f"the alias *{event.anchor} has no anchor")
        found = self.anchors[event.anchor]
        if found is None:
            raise _bad(event, f"the alias *{event.anchor} is inside what it stands for")
        return found

    def _add(self, value: Json, size: int, event: yaml.Event, *, is_merge: bool = False) -> None:
        """Puts a finished value where it belongs: into the innermost map or list that is open."""
        self.total += 1
        if self.total > MAX_VALUES or size > MAX_VALUES:
            raise _bad(event, f"comes to more than {MAX_VALUES} values")
        if not self.open:
            self.result = value
            return
        parent = self.open[-1]
        parent.size += size
        if not parent.is_map:
            parent.items.append(value)
        elif parent.merging:
            _merge(parent, value, event)
        elif parent.key is not None:
            parent.fields[parent.key] = value
            parent.key = None
        elif is_merge:
            parent.merging = True
        else:
            parent.key = _key(value, event)
            if parent.key in parent.fields:
                raise _bad(event, f'the field "{parent.key}" is there twice')


def documents_of_events(events: Iterable[yaml.Event], max_depth: int) -> Iterator[Json]:
    """The value of each document in a stream of events; None for an empty one.

    Raises BadYaml for what is no JSON value or exceeds a bound, and what `events` raises.
    """
    builder = _Builder(max_depth)
    for event in events:
        builder.take(event)
        if isinstance(event, yaml.DocumentEndEvent):
            yield builder.result
            builder = _Builder(max_depth)


def _scalar(event: yaml.ScalarEvent) -> tuple[Json, bool]:
    """A scalar's value, and whether it is the key that merges another map into this one."""
    plain, _ = event.implicit
    if event.tag in (None, "!"):
        if not plain or event.tag == "!":
            return event.value, False
        if event.value == _MERGE:
            return _MERGE, True
        return _plain(event), False
    if event.tag == _TAG + "str":
        return event.value, False
    value = _plain(event)
    wanted = _SCALAR_TYPES.get(event.tag)
    if wanted is None:
        raise _bad(event, f"the tag {event.tag} is not known")
    if type(value) not in wanted:
        raise _bad(event, f"{event.value!r} is not of the type that its tag says")
    return value, False


def _plain(event: yaml.ScalarEvent) -> Json:
    try:
        return plain_value(event.value)
    except ValueError as error:
        raise _bad(event, str(error)) from None


def _key(value: Json, event: yaml.Event) -> str:
    """A map's key as the text that Kubernetes makes of it."""
    match value:
        case str():
            return value
        case True:
            return "true"
        case False:
            return "false"
        case int():
            return str(value)
        case float():
            return f"{value:g}"
        case _:
            raise _bad(event, "a key must be text")


def _merge(parent: _Open, value: Json, event: yaml.Event) -> None:
    parent.merging = False
    maps = value if isinstance(value, tuple) else (value,)
    for one in maps:
        if not isinstance(one, FrozenMap):
            raise _bad(event, "<< merges maps only")
        parent.merged = {**one, **parent.merged}


def _bad(event: yaml.Event, problem: str) -> BadYaml:
    mark = event.start_mark
    return BadYaml(f"line {mark.line + 1}: {problem}" if mark else problem)
