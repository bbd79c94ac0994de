"""The examples of library use, each through a whole rollout on a simulated cluster."""

from __future__ import annotations

import inspect
import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from building import a_set

import lws_core
from lws_core import names
from lws_core.defaulting import apply_defaults
from lws_core.values import FrozenMap, Json, as_map, dig, freeze_map, thaw
from lws_sim import world as cluster
from lws_sim.cluster import api
from lws_sim.cluster.store import Object, label, name_of, owners, uid_of, with_meta
from lws_sim.deeds import set_field
from lws_sim.world import World

sys.path.append(str(Path(__file__).parents[2] / "examples" / "library"))

import metacontroller_hooks as hooks
import plain_loop

OWNER = "default/serve"
IMAGE = "spec.leaderWorkerTemplate.workerTemplate.spec.containers[0].image"


def manifest(**template: Any) -> Object:
    return apply_defaults(
        a_set(
            {"replicas": 4},
            {"size": 2, **template},
            {"namespace": "default"},
            rolling={"maxUnavailable": 2, "maxSurge": 2},
        )
    )


def new_world() -> World:
    return cluster.new_world(timing=cluster.Timing(load_s=60.0, stop_s=5.0))


def run_cluster(world: World) -> World:
    """All that the cluster does at this moment by itself, the controller of the world left out."""
    while True:
        task = next(
            (
                task
                for task in cluster.tasks(world)
                if not isinstance(task, cluster.Send | cluster.Deliver | cluster.Look)
            ),
            None,
        )
        if task is None:
            return world
        world = cluster.perform(world, task)


def objects_of(world: World) -> list[Object]:
    return [
        obj
        for _, obj in world.store.objects.items()
        if obj["kind"] == names.KIND or label(obj, names.SET_NAME) == "serve"
    ]


def condition(world: World, type_: str) -> Json:
    stored = world.store.get(names.KIND, "default", "serve")
    conditions = dig(stored, "status", "conditions")
    assert isinstance(conditions, tuple)
    return next((dig(c, "status") for c in conditions if dig(c, "type") == type_), None)


def images(world: World) -> set[Json]:
    return {
        dig(pod, "spec", "containers")[0]["image"]  # type: ignore[index,call-overload]
        for pod in world.store.all("Pod")
    }


def gone(obj: Object) -> lws_core.Gone:
    kind: Any = obj["kind"]
    return lws_core.Gone(kind, name_of(obj), uid_of(obj))


class InMemory:
    """A cluster of objects in memory: `edits` happen one after another, each when all is at rest."""

    def __init__(self, edits: Iterable[Callable[[World], World]]) -> None:
        self.world, self.edits = new_world(), list(edits)
        self.sent: list[lws_core.Action] = []

    def list(self) -> Iterable[FrozenMap[Json]]:
        self.world = run_cluster(self.edits.pop(0)(self.world))
        return objects_of(self.world)

    def watch(self) -> Iterator[lws_core.Sight]:
        while True:
            self.world = run_cluster(self.world)
            inbox = self.world.controllers[OWNER].inbox
            if inbox:
                self.world = cluster.deliver(self.world, OWNER)
                for change in inbox:
                    seen = lws_core.read(change.object, "serve")
                    if change.type == "DELETED":
                        yield gone(change.object)
                    elif seen is not None:
                        yield lws_core.Seen(seen)
            elif self.world.timers:
                self.world = cluster.advance(self.world, self.world.timers[0][0])
            elif self.edits:
                self.world = self.edits.pop(0)(self.world)
            else:
                return

    def send(self, action: lws_core.Action) -> lws_core.Outcome:
        self.sent.append(action)
        self.world, outcome = cluster.carry_out(self.world, OWNER, action)
        return outcome

    def now_s(self) -> float:
        return self.world.now_s


def test_plain_loop_always_rolls_out_to_available() -> None:
    before = manifest()
    after = set_field(before, IMAGE, "img:2")
    clusters = InMemory([partial(cluster.put_set, manifest=one) for one in (before, after)])
    memory = plain_loop.run(clusters, "serve")
    assert condition(clusters.world, names.AVAILABLE) == "True"
    assert images(clusters.world) == {"img:2"}
    assert clusters.world.tally.created == 4 * 2 + 6 * 2, "each group once, and the surge"
    assert lws_core.explain(memory, clusters.now_s()).state == "AtRest"
    assert any(isinstance(action, lws_core.Delete) for action in clusters.sent)


def types_of(hint: Any) -> Iterator[str]:
    """The names of the library's classes in a type."""
    if inspect.isclass(hint) and hint.__module__.startswith("lws_core"):
        yield hint.__name__
    for argument in get_args(hint):
        yield from types_of(argument)


@pytest.mark.parametrize(
    "name", [name for name in lws_core.__all__ if inspect.isfunction(getattr(lws_core, name))]
)
def test_classes_in_a_signature_of_the_library_must_be_exported(name: str) -> None:
    hints = get_type_hints(getattr(lws_core, name), localns={"FrozenMap": FrozenMap})
    assert {one for hint in hints.values() for one in types_of(hint)} <= {*lws_core.__all__}


def test_classes_that_plans_and_explanations_are_made_of_must_be_exported() -> None:
    assert {"GroupSet", "Kind", "State"} <= {*lws_core.__all__}
    for plan in (lws_core.GroupPlan, lws_core.Explanation, lws_core.Status, lws_core.Group):
        hints = get_type_hints(plan, localns={"FrozenMap": FrozenMap})
        assert {one for hint in hints.values() for one in types_of(hint)} <= {*lws_core.__all__}


# -- Metacontroller, as far as it matters here: it applies what hooks return, and deletes what they leave out


def by_kind(objects: Iterable[Object]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for obj in objects:
        found.setdefault(hooks.kind_of(obj), {})[name_of(obj)] = thaw(obj)
    return found


def play_metacontroller(world: World, call: Callable[[str, dict[str, Any]], dict[str, Any]]) -> World:
    """One sync of the set and of each of its leaders."""
    parent = world.store.get(names.KIND, "default", "serve")
    assert parent is not None
    children = [obj for obj in world.store.owned_by(uid_of(parent)) if hooks.kind_of(obj) in hooks.OF_SET]
    related = [obj for obj in objects_of(world) if obj is not parent and obj not in children]
    answer = call(
        "/set", {"parent": thaw(parent), "children": by_kind(children), "related": by_kind(related)}
    )
    world = reconcile(world, parent, children, answer["children"])
    stored = world.store.get(names.KIND, "default", "serve")
    assert stored is not None
    status = answer["status"] | {"observedGeneration": dig(stored, "metadata", "generation")}
    store, _ = api.patch_status(world.store, f"{names.KIND}/default/serve", "", "", freeze_map(status))
    world = run_cluster(cluster.write(world, store))
    for pod in world.store.all("Pod"):
        if label(pod, names.WORKER_INDEX) == "0":
            world = sync_leader(world, pod, call)
    return world


def sync_leader(world: World, pod: Object, call: Callable[[str, dict[str, Any]], dict[str, Any]]) -> World:
    attachments = list(world.store.owned_by(uid_of(pod)))
    related = [obj for obj in objects_of(world) if obj not in (pod, *attachments)]
    request = {"object": thaw(pod), "attachments": by_kind(attachments), "related": by_kind(related)}
    return reconcile(world, pod, attachments, call("/leader", request)["attachments"])


def reconcile(world: World, owner: Object, existing: list[Object], desired: list[dict[str, Any]]) -> World:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    store, wanted = world.store, set()
    known = {(obj["kind"], name_of(obj)) for obj in existing}
    for one in desired:
        owned = with_meta(freeze_map(one), ownerReferences=(freeze_map(reference),))
        key = (owned["kind"], name_of(owned))
        wanted.add(key)
        send = api.apply if key in known else api.create
        store, answer = send(store, owned, "metacontroller", world.rules, world.now_s)
        assert answer.ok or answer.code == 409, answer
    for obj in existing:
        if (obj["kind"], name_of(obj)) not in wanted:
            store, _ = api.delete(store, f"{obj['kind']}/default/{name_of(obj)}", world.now_s)
    return run_cluster(cluster.write(world, store))


def sync_until_rest(world: World, call: Callable[[str, dict[str, Any]], dict[str, Any]]) -> World:
    while True:
        before = world.store.version
        world = play_metacontroller(world, call)
        if world.store.version != before:
            continue
        if not world.timers:
            return world
        world = run_cluster(cluster.advance(world, world.timers[0][0]))


def directly(world: Callable[[], float]) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    def call(path: str, request: dict[str, Any]) -> dict[str, Any]:
        hook = {"/set": hooks.sync_set, "/leader": hooks.sync_leader}[path]
        answer: dict[str, Any] = json.loads(json.dumps(hook(json.loads(json.dumps(request)), world())))
        return answer

    return call


def test_hooks_always_roll_out_to_available() -> None:
    before = manifest(restartPolicy="None")
    world = run_cluster(cluster.put_set(new_world(), before))
    world = sync_until_rest(world, directly(lambda: world.now_s))
    assert condition(world, names.AVAILABLE) == "True"
    assert images(world) == {"img:1"}
    world = cluster.put_set(world, set_field(before, IMAGE, "img:2"))
    world = sync_until_rest(run_cluster(world), directly(lambda: world.now_s))
    assert condition(world, names.AVAILABLE) == "True"
    assert images(world) == {"img:2"}
    assert len(world.store.all("Pod")) == 4 * 2
    leaders = world.store.get("StatefulSet", "default", "serve")
    assert dig(leaders, "spec", "replicas") == 4
    assert all(owners(obj) for obj in world.store.all("StatefulSet"))


def test_hooks_always_answer_as_a_web_server_too() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), hooks.Hooks)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        parent = as_map(manifest(restartPolicy="None")).with_(
            "metadata",
            freeze_map(
                {"name": "serve", "namespace": "default", "uid": "u", "resourceVersion": "1", "generation": 1}
            ),
        )
        body = json.dumps({"parent": thaw(parent), "children": {}, "related": {}}).encode()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(f"{url}/set", data=body) as response:
            answer = json.loads(response.read())
        assert {child["kind"] for child in answer["children"]} >= {"ControllerRevision"}
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/other", data=body)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
