"""What a run left in its cluster: two that took different ways to the same goal must leave the same."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from lws_core import names
from lws_core.values import Json, as_list, as_map, as_maps, thaw

from .cluster.store import Object, key_of, meta, name_of, uid_of, with_meta
from .world import World

_TOLD_APART: Final = (
    "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "observedGeneration",
)  # fmt: skip
_TIMES: Final = ("lastTransitionTime", "startTime", "restartCount", "nodeName", "revision", "currentReplicas")


def end_of(world: World) -> dict[str, Any]:
    """What is there, by key, but for what tells one run from another: UIDs, versions, times, numbers of
    revisions, nodes, counts of restarts, and the StatefulSet controllers' histories."""
    kept = [
        obj
        for _, obj in world.store.objects.items()
        if obj["kind"] != "Node" and (obj["kind"], _owner_kind(obj)) != ("ControllerRevision", "StatefulSet")
    ]
    uids = {uid_of(obj): f"uid of {key_of(obj)}" for obj in kept}
    return {key_of(obj): _plain(thaw(obj), uids) for obj in map(_stripped, kept)}


def without_keys(end: dict[str, Any]) -> dict[str, Any]:
    """The same with a word in place of each name of a revision that a StatefulSet rolls out: two revisions of
    the same content have two names where one came after another of unknown content."""
    text = json.dumps(end)
    for key, obj in end.items():
        if key.startswith("StatefulSet/"):
            native = obj.get("status", {}).get("updateRevision", "")
            revision = obj["metadata"]["labels"].get(names.REVISION_KEY, "")
            for name, word in ((native, f"the revision of {key}"), (revision, "the revision")):
                text = text.replace(name, word) if name else text
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Where two ends differ, in words, each with its path."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        told = []
        for key in dict.fromkeys((*wanted, *found)):
            where = f"{path}.{key}" if path else str(key)
            if key not in found:
                told.append(f"{where} is missing")
            elif key not in wanted:
                told.append(f"{where} is left over")
            else:
                told += differences(found[key], wanted[key], where)
        return told
    return [] if found == wanted else [f"{path} is {found!r}, not {wanted!r}"]


def _stripped(obj: Object) -> Object:
    # A record of the template's digest travels with the next write that is due: some runs had one more.
    notes = as_map(meta(obj).get("annotations")).without(names.RECREATIONS, names.RENDERED)
    stripped = with_meta(obj, annotations=notes or None)
    status = as_map(obj.get("status"))
    conditions = [c for c in as_list(status.get("conditions")) if as_map(c).get("status") == "True"]
    if obj["kind"] == "ControllerRevision":  # its name ends in its number
        return with_meta(stripped, name=re.sub(r"-\d+$", "", name_of(obj)))
    if obj["kind"] in (names.KIND, "Pod"):
        ordered = sorted(conditions, key=lambda c: str(as_map(c)["type"]))
        stripped = stripped.with_("status", status | {"conditions": tuple(ordered)})
    return stripped


def _plain(value: Any, uids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _plain(item, uids) if key != "uid" else uids.get(item, item)
            for key, item in value.items()
            if key not in _TIMES and (key not in _TOLD_APART or (key == "uid" and "controller" in value))
        }
    if isinstance(value, list):
        return [_plain(item, uids) for item in value]
    return value


def _owner_kind(obj: Object) -> Json:
    return next((ref["kind"] for ref in as_maps(meta(obj).get("ownerReferences"))), None)
