"""Who owns which field of an object: server-side apply, as far as a controller can tell the difference.

Fields are kept as in managedFields (structured-merge-diff): maps by key, the lists below by the key of their
items, all other lists and scalars as a whole. Applying takes away what this manager applied before and leaves
out now, unless another manager has it too; a POST or PUT makes fields the manager's as well, but an apply
never takes those away.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from lws_core.values import EMPTY, FrozenMap, Json, as_list, as_map, canonical, freeze_map

Fields: TypeAlias = FrozenMap[Json]

# Lists whose items are told apart by keys (x-kubernetes-list-map-keys), by the name of the field.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
}
# Maps that are one field as a whole (x-kubernetes-map-type: atomic).
_ATOMIC: Final = (
    "selector", "labelSelector", "namespaceSelector", "nodeSelector", "fieldRef", "resourceFieldRef",
    "configMapKeyRef", "secretKeyRef",
)  # fmt: skip
_DEFAULTS: Final[dict[str, Json]] = {"protocol": "TCP"}
# What no manager owns.
_UNOWNED: Final = ("apiVersion", "kind")
_UNOWNED_META: Final = (
    "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
    "deletionGracePeriodSeconds", "managedFields",
)  # fmt: skip


def fields_of(obj: FrozenMap[Json]) -> Fields:
    """The fields that a manager sets by sending this object."""
    plain, metadata = obj.without(*_UNOWNED), as_map(obj.get("metadata")).without(*_UNOWNED_META)
    return _fields(plain.with_("metadata", metadata) if metadata else plain.without("metadata"), "")


def record_update(managed: Json, manager: str, obj: FrozenMap[Json]) -> tuple[Json, ...]:
    """managedFields after a POST of the whole object."""
    return (*as_list(managed), _entry(manager, "Update", fields_of(obj)))


def apply(stored: FrozenMap[Json], patch: FrozenMap[Json], manager: str) -> FrozenMap[Json]:
    """The object after a forced apply of `patch`; managedFields brought up to date."""
    entries = [as_map(entry) for entry in as_list(as_map(stored.get("metadata")).get("managedFields"))]
    others = [e for e in entries if (e.get("manager"), e.get("operation")) != (manager, "Apply")]
    mine = [as_map(e.get("fieldsV1")) for e in entries if e not in others]
    before: Fields = mine[0] if mine else EMPTY
    now = fields_of(patch)
    kept = now
    for entry in others:
        kept = _union(kept, as_map(entry.get("fieldsV1")))
    pruned = _prune(stored, before, kept, "")
    merged = _merge(pruned, patch.with_("metadata", as_map(patch["metadata"]).without("managedFields")), "")
    assert isinstance(merged, FrozenMap)
    left = [e.with_("fieldsV1", _left(as_map(e.get("fieldsV1")), stored, merged, "")) for e in others]
    managed = tuple(e for e in (*left, _entry(manager, "Apply", now)) if e["fieldsV1"])
    return merged.with_("metadata", as_map(merged["metadata"]).with_("managedFields", managed))


def _left(fields: Fields, stored: Json, merged: Json, name: str) -> Fields:
    """The fields that another manager still has: those that keep their values."""
    left: dict[str, Json] = {}
    for key, inner in fields.items():
        was, now, below = _at(stored, key, name), _at(merged, key, name), as_map(inner)
        if key == "." or (not below and was == now):
            left[key] = inner
        elif below and now is not None and (kept := _left(below, was, now, key.removeprefix("f:"))):
            left[key] = kept
    return FrozenMap(left)


def _at(value: Json, key: str, name: str) -> Json:
    """What a key of fields stands for in a value: a field, or an item of a list."""
    if isinstance(value, FrozenMap):
        return value.get(key.removeprefix("f:"))
    items = {_item_key(as_map(item), name): item for item in as_list(value)} if name in _KEYS else {}
    return items.get(key)


def _entry(manager: str, operation: str, fields: Fields) -> FrozenMap[Json]:
    return freeze_map(
        {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}
    )


def _fields(value: Json, name: str) -> Fields:
    if isinstance(value, FrozenMap) and name not in _ATOMIC:
        return FrozenMap({f"f:{key}": _fields(item, key) for key, item in value.items()})
    if isinstance(value, tuple) and name in _KEYS:
        items = {_item_key(as_map(item), name): _fields(item, "") for item in value}
        return FrozenMap({key: fields.with_(".", EMPTY) for key, fields in items.items()})
    return EMPTY


def _item_key(item: FrozenMap[Json], name: str) -> str:
    return "k:" + canonical(FrozenMap({key: item.get(key, _DEFAULTS.get(key)) for key in _KEYS[name]}))


def _union(one: Fields, other: Fields) -> Fields:
    merged = dict(one)
    for key, fields in other.items():
        merged[key] = _union(as_map(merged[key]), as_map(fields)) if key in merged else fields
    return FrozenMap(merged)


def _prune(value: Json, before: Fields, kept: Fields, name: str) -> Json:
    """`value` without the fields of `before` that are not in `kept`."""
    if isinstance(value, FrozenMap):
        result = {}
        for key, item in value.items():
            field = f"f:{key}"
            if field in before and field not in kept:
                left = _prune(item, as_map(before[field]), EMPTY, key)
                if not before[field] or left in (EMPTY, ()):
                    continue
                result[key] = left
            else:
                result[key] = _prune(item, as_map(before.get(field)), as_map(kept.get(field)), key)
        return FrozenMap(result)
    if isinstance(value, tuple) and name in _KEYS:
        items = []
        for item in value:
            key = _item_key(as_map(item), name)
            if key in before and key not in kept:
                continue
            items.append(_prune(item, as_map(before.get(key)), as_map(kept.get(key)), ""))
        return tuple(items)
    return value


def _merge(stored: Json, patch: Json, name: str) -> Json:
    if isinstance(stored, FrozenMap) and isinstance(patch, FrozenMap) and name not in _ATOMIC:
        merged = dict(stored)
        for key, item in patch.items():
            merged[key] = _merge(stored.get(key), item, key)
        return FrozenMap(merged)
    if isinstance(stored, tuple) and isinstance(patch, tuple) and name in _KEYS:
        by_key = {_item_key(as_map(item), name): item for item in stored}
        new = {_item_key(as_map(item), name): item for item in patch}
        ordered = [_merge(by_key.get(key), item, "") for key, item in new.items()]
        return (*ordered, *(item for key, item in by_key.items() if key not in new))
    return patch
