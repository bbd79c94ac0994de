"""What an apply of a new leader template would leave behind of the stored one.

A server-side apply takes back what its manager applied before and leaves out now, with all that lies within
(structured-merge-diff, merge/update.go). What the API server has filled in beside that is nobody's, and
stays: the old service account, which is then mirrored back, or an emptyDir beside the new kind of a volume,
which is refused. Most of it would be filled in again just as it is; the rest has to become ours first, by an
apply of the stored template as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from .values import EMPTY, FrozenMap, Json, as_map, as_maps, freeze, freeze_map

# What the API server fills in whatever else the template says: pkg/apis/core/v1/defaults.go.
_FILLED_IN: Final = freeze_map(
    {
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
        "securityContext": {}, "terminationGracePeriodSeconds": 30, "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "protocol": "TCP", "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
        "failureThreshold": 3, "path": "/", "scheme": "HTTP", "service": "", "defaultMode": 420, "type": "",
        "apiVersion": "v1", "expirationSeconds": 3600, "volumeMode": "Filesystem",
    }
)  # fmt: skip
_KEY_DEFAULTS: Final = freeze_map({"protocol": "TCP"})


def leftovers(stored: FrozenMap[Json], applied: FrozenMap[Json], new: FrozenMap[Json]) -> tuple[str, ...]:
    """The paths of fields of the `stored` template that an apply of `new` would leave, and that the API
    server would not fill in so by itself. `applied`: what we have applied of it, as managedFields tell it."""
    return tuple(_of_map(stored, applied, new, ""))


def _left(stored: Json, applied: FrozenMap[Json] | None, new: Json, path: str) -> Iterator[str]:
    """What is left of a value that stays. `applied` is None where we have applied nothing of it, and empty
    where it is one field as a whole."""
    if stored == new or applied == EMPTY:
        return
    if isinstance(stored, FrozenMap) and isinstance(new, FrozenMap):
        yield from _of_map(stored, applied or EMPTY, new, path)
    elif isinstance(stored, tuple) and isinstance(new, tuple):
        yield from _of_list(stored, applied or EMPTY, new, path)


def _of_map(
    stored: FrozenMap[Json], applied: FrozenMap[Json], new: FrozenMap[Json], path: str
) -> Iterator[str]:
    for name, value in stored.items():
        ours = applied.get(f"f:{name}")
        inner = f"{path}.{name}" if path else name
        if name in new:
            yield from _left(value, None if ours is None else as_map(ours), new[name], inner)
        elif ours is None and value is not None and not _is_filled_in(name, value, new):
            yield inner


def _of_list(
    stored: tuple[Json, ...], applied: FrozenMap[Json], new: tuple[Json, ...], path: str
) -> Iterator[str]:
    """Items are told apart by their keys, which managedFields name; without ours any list may be meant."""
    keyed = [(_key(name), as_map(of)) for name, of in applied.items() if name.startswith("k:")]
    names = [*keyed[0][0]] if keyed else []
    for item in as_maps(stored):
        ours = next((of for key, of in keyed if _has_key(item, key)), None)
        key: FrozenMap[Json] = FrozenMap({name: item[name] for name in names if name in item})
        twin = next((other for other in as_maps(new) if _has_key(other, key)), None)
        if twin is not None:
            yield from _left(item, ours, twin, path)
        elif ours is None:
            yield path
    words = (item for item in stored if isinstance(item, str) and item not in new)
    yield from (path for item in words if f"v:{json.dumps(item)}" not in applied)


def _key(name: str) -> FrozenMap[Json]:
    """The key of an item, as managedFields have it; none where it makes no sense."""
    try:
        return as_map(freeze(json.loads(name.removeprefix("k:"))))
    except (ValueError, RecursionError):
        return EMPTY


def _has_key(item: FrozenMap[Json], key: FrozenMap[Json]) -> bool:
    return bool(key) and all(item.get(name, _KEY_DEFAULTS.get(name)) == value for name, value in key.items())


def _is_filled_in(name: str, value: Json, new: FrozenMap[Json]) -> bool:
    """Whether the API server would give a field this value in a map such as `new`, which lacks it."""
    match name:
        case "imagePullPolicy":
            return value == ("Always" if _is_latest(str(new.get("image", ""))) else "IfNotPresent")
        case "serviceAccount":
            return bool(new.get("serviceAccountName"))
        case "serviceAccountName":
            return value == new.get("serviceAccount")
        case "emptyDir":
            return value == EMPTY and [*new] == ["name"]
        case _:
            return name in _FILLED_IN and value == _FILLED_IN[name]


def _is_latest(image: str) -> bool:
    """Whether an image is pulled at every start: its tag is `latest`, or it has neither tag nor digest."""
    name, _, hashed = image.rpartition("/")[2].partition("@")
    _, colon, tag = name.partition(":")
    return tag == "latest" if colon else not hashed
