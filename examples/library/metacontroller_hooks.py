"""Sync hooks for Metacontroller: LeaderWorkerSets without an operator of one's own.

Two hooks, as worker StatefulSets belong to their leader pod and not to the set:

- /set, of a CompositeController whose parent is the LeaderWorkerSet: its leader StatefulSet, its Service and
  its ControllerRevisions.
- /leader, of a DecoratorController for leader pods: their worker StatefulSet, and their Service.

Both ask (with a customize hook) for all other objects that carry the set's label as related objects, and
return what should exist. docs/library.md lists what hooks cannot say, deletions of pods above all: use the
restart policy None, and expect leaders to be replaced one at a time.

    python examples/library/metacontroller_hooks.py 8080
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import lws_core

Manifest = dict[str, Any]

OF_SET = ("StatefulSet.apps/v1", "Service.v1", "ControllerRevision.apps/v1")
OF_LEADER = ("StatefulSet.apps/v1", "Service.v1")
# What only the server writes, or Metacontroller itself.
NOT_OURS = (
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "uid",
)


def sync_set(request: Manifest, now_s: float) -> Manifest:
    """The hook of the set: its status and children, from the parent, its children and related objects."""
    parent, related = request["parent"], flat(request["related"])
    children = flat(request["children"])
    actions = decide(parent, [*children, *related], now_s)
    status = parent.get("status", {})
    for action in actions:
        if isinstance(action, lws_core.PatchStatus):
            status = status | lws_core.thaw(action.status)
    status.pop("observedGeneration", None)  # Metacontroller writes it
    mine = [action for action in actions if is_of_set(action, parent["metadata"]["name"])]
    return {"status": status, "children": desired(children, mine, OF_SET)}


def sync_leader(request: Manifest, now_s: float) -> Manifest:
    """The hook of a leader pod: its attachments, from the pod, its attachments and related objects."""
    leader, related = request["object"], flat(request["related"])
    attachments = flat(request["attachments"])
    parent = next(obj for obj in related if obj["kind"] == "LeaderWorkerSet")
    others = [obj for obj in related if obj is not parent]
    actions = decide(parent, [leader, *attachments, *others], now_s)
    name = leader["metadata"]["name"]
    mine = [action for action in actions if is_of_leader(action, name)]
    return {"attachments": desired(attachments, mine, OF_LEADER)}


def decide(parent: Manifest, objects: Iterable[Manifest], now_s: float) -> list[lws_core.Action]:
    """One look without a memory: all that is known is in the objects."""
    name = parent["metadata"]["name"]
    things = (lws_core.read(lws_core.freeze_map(obj), name) for obj in (parent, *objects))
    memory = lws_core.begin((thing for thing in things if thing is not None), now_s)
    return list(lws_core.look(memory, now_s).actions)


def desired(
    existing: list[Manifest], actions: Iterable[lws_core.Action], kinds: tuple[str, ...]
) -> list[Manifest]:
    """What should exist: what does, with the changes that the actions make. What is left out is deleted."""
    found = {key(obj): echo(obj) for obj in existing if kind_of(obj) in kinds}
    for action in actions:
        match action:
            case lws_core.Create(manifest) | lws_core.Apply(manifest) if kind_of(manifest) in kinds:
                new = echo(lws_core.thaw(manifest))
                is_whole = "template" in new.get("spec", {}) or key(new) not in found
                found[key(new)] = new if is_whole else merged(found[key(new)], new)
            case lws_core.Delete(ref):
                found.pop((ref.kind, ref.name), None)
            case _:
                pass
    return list(found.values())


def merged(old: Manifest, new: Manifest) -> Manifest:
    """`old` with what `new` says, for an apply that names a few fields only."""
    both = [field for field in new if isinstance(old.get(field), dict) and isinstance(new[field], dict)]
    return old | new | {field: merged(old[field], new[field]) for field in both}


def is_of_set(action: lws_core.Action, name: str) -> bool:
    """Whether an action is about an object of the set itself, and not of a group's."""
    if not isinstance(action, lws_core.Create | lws_core.Apply | lws_core.Delete):
        return False
    return action.ref.kind == "ControllerRevision" or action.ref.name == name


def is_of_leader(action: lws_core.Action, name: str) -> bool:
    """Whether an action is about an object that belongs to a leader pod, and so has its name."""
    return isinstance(action, lws_core.Create | lws_core.Apply) and action.ref.name == name


def echo(obj: Manifest) -> Manifest:
    """An object as a hook returns it, without what only the server writes."""
    metadata = {field: value for field, value in obj["metadata"].items() if field not in NOT_OURS}
    return {field: value for field, value in obj.items() if field != "status"} | {"metadata": metadata}


def flat(groups: dict[str, dict[str, Manifest]]) -> list[Manifest]:
    """The objects in a request, which has them by kind and name."""
    return [obj for objects in groups.values() for obj in objects.values()]


def kind_of(obj: Any) -> str:
    """A kind as Metacontroller writes it: "StatefulSet.apps/v1"."""
    return f"{obj['kind']}.{obj['apiVersion']}"


def key(obj: Manifest) -> tuple[str, str]:
    """What tells objects of one request apart."""
    return obj["kind"], obj["metadata"]["name"]


class Hooks(BaseHTTPRequestHandler):
    """The hooks as a web server."""

    def do_POST(self) -> None:  # the base class's name
        """Answer one request."""
        hook = {"/set": sync_set, "/leader": sync_leader}.get(self.path)
        if hook is None:
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = json.dumps(hook(json.loads(body), time.time())).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hooks).serve_forever()
