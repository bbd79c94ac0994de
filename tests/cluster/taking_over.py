"""Puts a recorded state (tests/fixtures/takeover) into a cluster as the controller that made it left it.

The StatefulSet controller must not run meanwhile: it would make pods and status of its own. What a controller
remembers by is kept: names, owners, revisions, who owns which field. UIDs and the namespace are new, so every
owner reference is mapped, and so is what is derived from the namespace: addresses and the groups' keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

from client import APPLY, MERGE, Client, Manifest
from recorded import FOLDER

from lws_core import names

RECORDED_IN: Final = "default"
_WRITTEN_BY_THE_SERVER: Final = (
    "uid",
    "resourceVersion",
    "managedFields",
    "creationTimestamp",
    "generation",
)


def recorded(state: str) -> list[Manifest]:
    """The objects of a state, as they were recorded."""
    items: list[Manifest] = json.loads((FOLDER / f"{state}.json").read_text())["items"]
    return items


def load(client: Client, state: str, namespace: str) -> None:
    """Create a recorded state in a namespace: owners first, statuses last."""
    items = _moved(recorded(state), namespace)
    (lws,) = (one for one in items if one["kind"] == names.KIND)
    uids: dict[str, str] = {}
    made: list[tuple[Manifest, Manifest]] = []
    for one in _owners_first(items):
        for owner in _owners(one):
            owner["uid"] = uids[owner["uid"]]
        created = _create(client, one, _max_unavailable(lws))
        uids[one["metadata"]["uid"]] = created["metadata"]["uid"]
        made.append((one, created))
    for one, created in made:
        if one.get("status") and one["kind"] in (names.KIND, "StatefulSet", "Pod"):
            _write_status(client, one, created)


def _moved(items: list[Manifest], namespace: str) -> list[Manifest]:
    """The same in another namespace."""
    text = json.dumps(items)
    pods = [one["metadata"]["name"] for one in items if one["kind"] == "Pod"]
    for pod in pods:
        text = text.replace(_group_key(RECORDED_IN, pod), _group_key(namespace, pod))
    text = text.replace(f'"namespace": "{RECORDED_IN}"', f'"namespace": "{namespace}"')
    text = text.replace(f'.{RECORDED_IN}"', f'.{namespace}"')
    moved: list[Manifest] = json.loads(text)
    return moved


def _group_key(namespace: str, leader: str) -> str:
    return hashlib.sha1(f"{namespace}/{leader}".encode(), usedforsecurity=False).hexdigest()


def _owners_first(items: list[Manifest]) -> Iterator[Manifest]:
    left, told = list(items), set[str]()
    while left:
        ready = [one for one in left if {owner["uid"] for owner in _owners(one)} <= told]
        assert ready, f"nobody owns {[one['metadata']['name'] for one in left]}"
        yield from ready
        told |= {one["metadata"]["uid"] for one in ready}
        left = [one for one in left if one not in ready]


def _owners(one: Manifest) -> list[Manifest]:
    owners: list[Manifest] = one["metadata"].get("ownerReferences", [])
    return owners


def _create(client: Client, one: Manifest, max_unavailable: int) -> Manifest:
    """Create it as whoever made it did. The leaders' StatefulSet was applied, with a maxUnavailable that a
    server drops while its gate is off; a POST would give its fields to another owner than the applier."""
    (entry,) = (entry for entry in one["metadata"]["managedFields"] if "subresource" not in entry)
    manager = {"fieldManager": entry["manager"]}
    if entry["operation"] == "Apply":
        body = _owned(entry["fieldsV1"], one)
        body |= {"apiVersion": one["apiVersion"], "kind": one["kind"]}
        body["metadata"] |= {name: one["metadata"][name] for name in ("name", "namespace", "ownerReferences")}
        body["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = max_unavailable
        return client.patch(client.path_of(one), _as_go_writes(body), APPLY, force="true", **manager)
    kept = {name: value for name, value in one["metadata"].items() if name not in _WRITTEN_BY_THE_SERVER}
    body = {name: value for name, value in one.items() if name != "status"} | {"metadata": kept}
    path = client.path(one["apiVersion"], one["kind"], kept["namespace"])
    created: Manifest = client.request("POST", path, _as_go_writes(body), **manager)
    return created


def _max_unavailable(lws: Manifest) -> int:
    rolling = lws["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    return max(1, rolling["maxUnavailable"] + min(rolling["maxSurge"], lws["spec"]["replicas"]))


def _owned(fields: Manifest, value: Any) -> Any:
    """The part of a value that managedFields list."""
    inner = {name: below for name, below in fields.items() if name != "."}
    if not inner:
        return value
    if isinstance(value, list):
        keyed = [(json.loads(name.removeprefix("k:")), below) for name, below in inner.items()]
        chosen = [
            (item, below) for item in value for key, below in keyed if key.items() <= dict(item).items()
        ]
        return [_owned(below, item) for item, below in chosen]
    there = {name.removeprefix("f:"): below for name, below in inner.items()}
    return {name: _owned(below, value[name]) for name, below in there.items() if name in value}


def _as_go_writes(value: object) -> bytes:
    """The bytes of a ControllerRevision's data are compared, so they must be those of Go's encoder."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _write_status(client: Client, one: Manifest, created: Manifest) -> None:
    generation = created["metadata"]["generation"]
    status = dict(one["status"])
    if "observedGeneration" in status:
        status["observedGeneration"] = generation
    status["conditions"] = [
        {**condition, "observedGeneration": generation} if "observedGeneration" in condition else condition
        for condition in status.get("conditions", ())
    ]
    if not status["conditions"]:
        del status["conditions"]
    managers = [
        entry["manager"] for entry in one["metadata"]["managedFields"] if entry.get("subresource") == "status"
    ]
    path = client.path_of(one, "status")
    client.patch(path, {"status": status}, MERGE, fieldManager=managers[0] if managers else "kubelet")
