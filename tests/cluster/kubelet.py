"""Plays the kubelets of some nodes, so that pods live and end as they would, without containers.

It watches the pods of one namespace, or of all. A pod is bound to a node (unless a real scheduler does that),
runs, loads, becomes ready, and when it is deleted stays until it has stopped: after its grace period, or
earlier. A test can have it do otherwise: hold pods back, restart a container, evict, let a node go silent.

It lives in a thread of its own with an event loop; the methods are for the test's thread, and return when the
API server has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import attrs
import orjson
from client import MERGE, Client, Manifest, Refused
from sockets import Sockets

from lws_core import names

LOAD: Final = "simulation.lws.x-k8s.io/load"
"""Pod annotation, as in the simulation: seconds from running to ready, or "never"."""

STOP: Final = "simulation.lws.x-k8s.io/stop"
"""Pod annotation: seconds from the deletion until the pod has stopped, at most its grace period."""

_UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_WATCH_PAUSE_S: Final = 0.2
_ANSWER_S: Final = 30.0
_ALLOCATABLE: Final = {
    "cpu": "64",
    "memory": "256Gi",
    "pods": "250",
    "google.com/tpu": "8",
    "nvidia.com/gpu": "8",
}

T = TypeVar("T")


@attrs.frozen
class Node:
    """A node that it plays."""

    name: str
    labels: Mapping[str, str] = attrs.field(factory=dict)
    allocatable: Mapping[str, str] = attrs.field(factory=lambda: dict(_ALLOCATABLE))
    taints: tuple[Mapping[str, str], ...] = ()


@attrs.define
class _Pod:
    """What a kubelet knows of a pod that runs on its node."""

    raw: Manifest
    address: str
    started_at: str = ""
    ready_at: str = ""
    restarts: dict[str, int] = attrs.field(factory=dict)
    chosen: str = ""  # the node that it is being bound to
    stopping: bool = False
    finished: bool = False
    tasks: set[asyncio.Task[None]] = attrs.field(factory=set)

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def node(self) -> str:
        return str(self.raw["spec"].get("nodeName", ""))

    @property
    def deleted(self) -> bool:
        return "deletionTimestamp" in self.raw["metadata"]

    def annotation(self, name: str) -> str | None:
        value = self.raw["metadata"].get("annotations", {}).get(name)
        return None if value is None else str(value)

    def label(self, name: str) -> str:
        return str(self.raw["metadata"].get("labels", {}).get(name, ""))


class Kubelet:
    """Kubelets of `nodes` for the pods of `namespace`, or of all namespaces where that is empty.

    `load_s`: from running to ready, for pods without the annotation. `stop_s`: from deletion to end, None for
    the whole grace period. `binds`: it plays the scheduler as well, for node selectors alone. `manual`: no
    pod becomes ready by itself.
    """

    def __init__(
        self,
        client: Client,
        nodes: Iterable[Node] = (Node("node-0"), Node("node-1")),
        *,
        namespace: str = "",
        load_s: float = 0.0,
        stop_s: float | None = 0.1,
        binds: bool = True,
        manual: bool = False,
    ) -> None:
        self.client = client
        self.nodes = {node.name: node for node in nodes}
        self.namespace = namespace
        self.load_s = load_s
        self.stop_s = stop_s
        self.binds = binds
        self.manual = manual
        self._held: Callable[[Manifest], bool] = lambda _: False
        self._silent: set[str] = set()
        self._pods: dict[str, _Pod] = {}
        self._seen = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._main: asyncio.Task[Any] | None = None
        self._session: aiohttp.ClientSession
        self._writes: asyncio.Semaphore

    # -- life

    def start(self) -> Kubelet:
        """Create the nodes and begin, all pods that are there already included."""
        for node in self.nodes.values():
            _create_node(self.client, node)
        begun = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(begun,), name="kubelet", daemon=True)
        self._thread.start()
        if not begun.wait(_ANSWER_S) or self._problem is not None:
            raise RuntimeError("the stand-in kubelet did not start") from self._problem
        return self

    def stop(self) -> None:
        """Fall silent, and remove the nodes. Raises what went wrong in its thread, if anything did."""
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(self._end_main)
            thread.join(_ANSWER_S)
        self._loop = self._thread = None
        for name in self.nodes:
            self.client.delete("v1", "Node", None, name)
        if self._problem is not None:
            raise self._problem

    def __enter__(self) -> Kubelet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what a test may ask for; pods are named without their namespace, or as namespace/name

    def hold(self, which: Callable[[Manifest], bool] | None) -> None:
        """Let no pod become ready by itself for which this is true; None holds none. Those that were held
        and are not any more begin to load."""
        self._held = which or (lambda _: False)
        self._call(self._reconsider())

    def release(self) -> None:
        """End the manual mode and every hold."""
        self.manual = False
        self.hold(None)

    def make_ready(self, *pods: str) -> None:
        """Make pods that are there ready now, without names all of them."""
        self._each(pods, lambda pod: self._report(pod, ready=True))

    def make_unready(self, *pods: str) -> None:
        """Let their readiness probes fail, until `make_ready`."""
        self._each(pods, lambda pod: self._report(pod, ready=False))

    def make_group_ready(self, lws: str, *groups: int) -> None:
        """Make the pods of groups ready that are there now, without indexes those of all the set's groups."""
        self._each(self.group(lws, *groups), lambda pod: self._report(pod, ready=True))

    def group(self, lws: str, *groups: int) -> list[str]:
        """The pods that it runs of a set's groups, the leader first; without indexes, of all its groups."""
        wanted = {str(index) for index in groups}
        found = [
            (int(pod.label(names.GROUP_INDEX) or -1), int(pod.label(names.WORKER_INDEX) or -1), key)
            for key, pod in list(self._pods.items())
            if pod.label(names.SET_NAME) == lws and (not wanted or pod.label(names.GROUP_INDEX) in wanted)
        ]
        return [key for _, _, key in sorted(found)]

    def restart_container(self, pod: str, container: str | None = None) -> None:
        """Its container, the first one unless named, ends with an error and is started again: one restart
        more, unready until it has loaded again."""
        self._each((pod,), lambda known: self._restart(known, container))

    def evict(self, pod: str, reason: str = "Evicted") -> None:
        """The node is short of something: the pod has failed, and stays as an object."""
        self._each((pod,), lambda known: self._finish(known, "Failed", reason))

    def succeed(self, pod: str) -> None:
        """Its containers end without an error, for good."""
        self._each((pod,), lambda known: self._finish(known, "Succeeded", ""))

    def lose_node(self, name: str) -> None:
        """The node goes silent: what terminates there does not end, and the node's controller marks it and
        its pods as it does after some time without a sign of life."""
        self._silent.add(name)
        self._call(self._mark_lost(name))

    def restore_node(self, name: str) -> None:
        """The node is back: it ends what was to end, and the rest is ready again."""
        self._silent.discard(name)
        self._call(self._mark_back(name))

    def running(self) -> list[str]:
        """The pods that it runs, as namespace/name."""
        return sorted(self._pods)

    # -- its thread

    def _live(self, begun: threading.Event) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                runner.run(self._run(begun))
        except asyncio.CancelledError:
            pass
        except BaseException as problem:  # told to the test's thread by stop
            self._problem = problem
        finally:
            begun.set()

    def _end_main(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the stand-in kubelet does not run") from self._problem
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S)

    def _each(self, pods: Iterable[str], act: Callable[[_Pod], Coroutine[Any, Any, None]]) -> None:
        wanted = [name if "/" in name else f"{self.namespace}/{name}" for name in pods]

        async def all_of_them() -> None:
            unknown = [name for name in wanted if name not in self._pods]
            if unknown:
                raise KeyError(f"no such pod runs here: {', '.join(unknown)}; there are {sorted(self._pods)}")
            chosen = [self._pods[name] for name in wanted] if wanted else list(self._pods.values())
            await asyncio.gather(*(act(pod) for pod in chosen))

        self._call(all_of_them())

    async def _run(self, begun: threading.Event) -> None:
        self._main = asyncio.current_task()
        self._writes = asyncio.Semaphore(32)
        headers = {"Authorization": f"Bearer {self.client.token}"}
        sockets = Sockets()
        connector = aiohttp.TCPConnector(ssl=self.client.tls, limit=40, socket_factory=sockets.new)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with aiohttp.ClientSession(
                self.client.url, headers=headers, connector=connector, timeout=timeout
            ) as self._session:
                try:
                    while True:
                        with contextlib.suppress(aiohttp.ClientError, Refused, TimeoutError):
                            await self._watch(begun)
                        await asyncio.sleep(_WATCH_PAUSE_S)
                finally:
                    await self._forget_all()
        finally:
            await sockets.closed()

    async def _forget_all(self) -> None:
        tasks = [task for pod in self._pods.values() for task in pod.tasks]
        self._pods.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, begun: threading.Event) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods" if self.namespace else "/api/v1/pods"
        listed = await self._request("GET", path)
        there = {_key(raw) for raw in listed["items"]}
        for key in [key for key in self._pods if key not in there]:
            self._forget(key)
        for raw in listed["items"]:
            self._see(raw)
        begun.set()
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with self._session.get(path, params=query) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        return
                    if event["type"] == "DELETED":
                        self._forget(_key(event["object"]), event["object"]["metadata"]["uid"])
                    else:
                        self._see(event["object"])

    async def _request(
        self, verb: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Any:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(verb, path, data=data, headers=headers) as answer:
            raw = await answer.read()
        told = orjson.loads(raw) if raw.startswith(b"{") else {"message": raw.decode(errors="replace")}
        if answer.status >= 400:
            request = f"{verb} {path}"
            raise Refused(request, answer.status, told.get("reason", ""), told.get("message", ""))
        return told

    # -- a pod's life

    def _see(self, raw: Manifest) -> None:
        key = _key(raw)
        known = self._pods.get(key)
        if known is not None and known.uid != raw["metadata"]["uid"]:
            self._forget(key)
            known = None
        if known is None:
            self._seen += 1
            known = _Pod(
                raw, f"10.{64 + self._seen // 65_000}.{self._seen // 250 % 250}.{self._seen % 250 + 1}"
            )
            self._remember(known)
            self._pods[key] = known
        known.raw = raw
        if not known.node:
            if (
                self.binds
                and not known.deleted
                and not known.tasks
                and not raw["spec"].get("schedulingGates")
            ):
                self._begin(known, self._bind(known))
        elif known.node in self.nodes and known.node not in self._silent:
            if known.deleted and not known.stopping:
                known.stopping = True
                self._begin(known, self._end(known))
            elif not known.started_at and not known.deleted and not known.finished:
                known.started_at = _now()
                self._begin(known, self._load(known, fresh=True))

    def _remember(self, pod: _Pod) -> None:
        """Take over a pod that ran before: its restarts, and that it is ready."""
        status = pod.raw.get("status", {})
        pod.started_at = status.get("startTime", "")
        pod.finished = status.get("phase") in ("Failed", "Succeeded")
        pod.restarts = {one["name"]: one["restartCount"] for one in status.get("containerStatuses", [])}
        for condition in status.get("conditions", []):
            if condition["type"] == "Ready" and condition["status"] == "True":
                pod.ready_at = condition["lastTransitionTime"]
        if pod.started_at and not pod.ready_at and not pod.finished:
            self._begin(pod, self._load(pod, fresh=False))

    def _forget(self, key: str, uid: str | None = None) -> None:
        known = self._pods.get(key)
        if known is None or uid not in (None, known.uid):
            return
        del self._pods[key]
        for task in known.tasks:
            task.cancel()

    def _begin(self, pod: _Pod, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        pod.tasks.add(task)
        task.add_done_callback(lambda done: self._note(pod, done))

    def _note(self, pod: _Pod, task: asyncio.Task[None]) -> None:
        pod.tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._problem = problem
            self._end_main()

    async def _bind(self, pod: _Pod) -> None:
        node = self._node_for(pod)
        if node is None:
            waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            await self._write_status(pod, {"phase": "Pending", "conditions": [waiting]})
        while node is None:
            await asyncio.sleep(_WATCH_PAUSE_S)
            node = self._node_for(pod)
        pod.chosen = node
        metadata = pod.raw["metadata"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        meta = {"name": metadata["name"], "uid": metadata["uid"]}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        await self._tolerantly("POST", f"{_path(pod)}/binding", body)

    def _node_for(self, pod: _Pod) -> str | None:
        """Of the nodes that its node selector allows, the one with the fewest pods."""
        wanted = pod.raw["spec"].get("nodeSelector") or {}
        taken = [other.node or other.chosen for other in self._pods.values()]
        fitting = [
            node.name
            for node in self.nodes.values()
            if node.name not in self._silent
            and not node.taints
            and all(_labels(node).get(key) == value for key, value in wanted.items())
        ]
        return min(fitting, key=taken.count, default=None)

    async def _load(self, pod: _Pod, *, fresh: bool) -> None:
        wait_s = self._load_of_s(pod)
        if fresh and wait_s != 0:
            await self._report(pod, ready=False)
        if wait_s is not None:
            await asyncio.sleep(wait_s)
            await self._report(pod, ready=True)

    def _load_of_s(self, pod: _Pod) -> float | None:
        asked = pod.annotation(LOAD)
        if self.manual or asked == "never" or self._held(pod.raw):
            return None
        return self.load_s if asked is None else float(asked)

    async def _reconsider(self) -> None:
        for pod in list(self._pods.values()):
            self._see(pod.raw)  # it may bind now
            waits = pod.started_at and not pod.ready_at and not pod.finished and not pod.tasks
            if waits and not pod.deleted and self._load_of_s(pod) is not None:
                self._begin(pod, self._load(pod, fresh=False))

    async def _report(self, pod: _Pod, *, ready: bool) -> None:
        if pod.finished:
            return
        pod.started_at = pod.started_at or _now()
        if ready != bool(pod.ready_at):
            pod.ready_at = _now() if ready else ""
        await self._write_status(pod, _status(pod, ready))

    async def _restart(self, pod: _Pod, container: str | None) -> None:
        name = container or pod.raw["spec"]["containers"][0]["name"]
        pod.restarts[name] = pod.restarts.get(name, 0) + 1
        await self._report(pod, ready=False)
        if self._load_of_s(pod) is not None:
            self._begin(pod, self._load(pod, fresh=False))

    async def _finish(self, pod: _Pod, phase: str, reason: str) -> None:
        pod.finished, pod.ready_at = True, ""
        status = _status(pod, ready=False) | {"phase": phase, "reason": reason or None}
        for one in (*status["containerStatuses"], *status.get("initContainerStatuses", ())):
            one["state"] = {"terminated": {"exitCode": 0 if phase == "Succeeded" else 137, "reason": "Error"}}
        await self._write_status(pod, status)

    async def _end(self, pod: _Pod) -> None:
        grace_s = float(pod.raw["metadata"].get("deletionGracePeriodSeconds") or 0)
        await asyncio.sleep(min(grace_s, self._stop_of_s(pod)))
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        if pod.raw["metadata"].get("finalizers") and not pod.finished:
            await self._finish(pod, "Succeeded", "")
        await self._tolerantly("DELETE", _path(pod), options)

    def _stop_of_s(self, pod: _Pod) -> float:
        asked = pod.annotation(STOP)
        hooks = [
            float(one["lifecycle"]["preStop"]["sleep"]["seconds"])
            for one in pod.raw["spec"]["containers"]
            if one.get("lifecycle", {}).get("preStop", {}).get("sleep")
        ]
        stop_s = float("inf") if self.stop_s is None else self.stop_s
        return max(hooks, default=0.0) + (stop_s if asked is None else float(asked))

    # -- nodes

    async def _mark_lost(self, name: str) -> None:
        now = _now()
        taints = [
            {"key": _UNREACHABLE, "effect": effect, "timeAdded": now}
            for effect in ("NoSchedule", "NoExecute")
        ]
        ready = {
            "type": "Ready",
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "lastTransitionTime": now,
        }
        await self._request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": taints}}, MERGE)
        await self._request(
            "PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}}, MERGE
        )
        for pod in self._on(name):
            for task in pod.tasks:
                task.cancel()
            pod.stopping = False
            await self._report(pod, ready=False)

    async def _mark_back(self, name: str) -> None:
        node = self.nodes[name]
        taints = {"spec": {"taints": [dict(taint) for taint in node.taints] or None}}
        await self._request("PATCH", f"/api/v1/nodes/{name}", taints, MERGE)
        await self._request("PATCH", f"/api/v1/nodes/{name}/status", {"status": _node_status(node)}, MERGE)
        for pod in self._on(name):
            self._see(pod.raw)
        await self._reconsider()

    def _on(self, name: str) -> list[_Pod]:
        return [pod for pod in self._pods.values() if pod.node == name]

    # -- writing

    async def _write_status(self, pod: _Pod, status: Manifest) -> None:
        body = {"metadata": {"uid": pod.uid}, "status": status}
        await self._tolerantly("PATCH", f"{_path(pod)}/status", body, MERGE)

    async def _tolerantly(
        self, verb: str, path: str, body: Manifest, content_type: str = "application/json"
    ) -> None:
        """Send it, again and again while the API server is away; the pod may be gone, or be another."""
        while True:
            try:
                async with self._writes:
                    await self._request(verb, path, body, content_type)
            except Refused as refused:
                if _is_moot(refused):
                    return
                if refused.code not in (429, 500, 503):
                    raise
            except aiohttp.ClientError:
                pass
            else:
                return
            await asyncio.sleep(_WATCH_PAUSE_S)


def _is_moot(refused: Refused) -> bool:
    """The pod is gone or is another of its name, or its namespace is being deleted."""
    other = refused.code == 422 and "uid" in refused.message
    dying = refused.code == 403 and "being terminated" in refused.message
    return refused.code in (404, 409) or other or dying


def _key(raw: Manifest) -> str:
    return f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"


def _path(pod: _Pod) -> str:
    metadata = pod.raw["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _status(pod: _Pod, ready: bool) -> Manifest:
    since = {"lastTransitionTime": pod.started_at}
    truth = {"status": str(ready), "lastTransitionTime": pod.ready_at if ready else _now()}
    conditions = [
        {"type": "PodScheduled", "status": "True", **since},
        {"type": "PodReadyToStartContainers", "status": "True", **since},
        {"type": "Initialized", "status": "True", **since},
        {"type": "ContainersReady", **truth},
        {"type": "Ready", **truth},
    ]
    spec = pod.raw["spec"]
    status: Manifest = {
        "phase": "Running",
        "startTime": pod.started_at,
        "hostIP": "127.0.0.1",
        "podIP": pod.address,
        "podIPs": [{"ip": pod.address}],
        "conditions": conditions,
        "containerStatuses": [_container(pod, one, ready) for one in spec["containers"]],
    }
    if spec.get("initContainers"):
        status["initContainerStatuses"] = [_init_container(pod, one) for one in spec["initContainers"]]
    return status


def _container(pod: _Pod, container: Manifest, ready: bool) -> Manifest:
    count = pod.restarts.get(container["name"], 0)
    ended = {"exitCode": 1, "reason": "Error", "startedAt": pod.started_at, "finishedAt": _now()}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"stand-in://{container['image']}",
        "containerID": f"stand-in://{pod.uid}/{container['name']}/{count}",
        "ready": ready,
        "started": True,
        "restartCount": count,
        "state": {"running": {"startedAt": pod.started_at}},
        "lastState": {"terminated": ended} if count else {},
    }


def _init_container(pod: _Pod, container: Manifest) -> Manifest:
    done = {"exitCode": 0, "reason": "Completed", "startedAt": pod.started_at, "finishedAt": pod.started_at}
    return _container(pod, container, True) | {"state": {"terminated": done}}


def _labels(node: Node) -> dict[str, str]:
    return {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", **node.labels}


def _node_status(node: Node) -> Manifest:
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": _now()}
    amounts = dict(node.allocatable)
    return {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}


def _create_node(client: Client, node: Node) -> None:
    """A node that is ready and takes pods: admission taints a new one until its kubelet is ready."""
    metadata = {"name": node.name, "labels": _labels(node)}
    client.create({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    path = client.path("v1", "Node", None, node.name)
    client.patch(path, {"spec": {"taints": [dict(taint) for taint in node.taints] or None}})
    client.patch(f"{path}/status", {"status": _node_status(node)})
