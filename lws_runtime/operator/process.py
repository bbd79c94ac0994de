"""The operator's process: from settings to a cluster that is taken care of, and back to silence on SIGTERM.

Probes and webhooks serve in every replica; machines run in the one that holds the lease. Whoever loses the
lease ends, with exit code 1, and comes back as a new process that knows nothing: nothing half done survives.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import signal
import socket
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import orjson

from lws_core.actions import Action, Emit
from lws_core.options import Options
from lws_core.sights import Outcome
from lws_runtime.config import Settings, operator_namespace, operator_options
from lws_runtime.kube.client import Answer, Client
from lws_runtime.kube.connection import connect
from lws_runtime.kube.lease import Lease, LeaseSettings
from lws_runtime.kube.reflector import Reflector, back_off_s
from lws_runtime.kube.resources import RESOURCES
from lws_runtime.webhook.keeper import CertificateKeeper
from lws_runtime.webhook.process import Webhooks, server_settings

from .health import serve_metrics, serve_probes
from .manager import KINDS, Machine, Manager
from .metrics import Metrics
from .requests import outcome_of, request_of
from .self_signed import metrics_context

_log = logging.getLogger(__name__)

OLDEST_MINOR: Final = 27  # of Kubernetes 1: older ones ignore the start ordinal of StatefulSets
SELECTOR: Final = "leaderworkerset.sigs.k8s.io/name"
_STOP_S: Final = 4.0
_GC_THRESHOLD: Final = 100_000


class Unusable(Exception):
    """Why a cluster cannot be used, in words for a user."""


class Leading:
    """What runs while the lease is held: reflectors, and machines."""

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        *,
        options: Options,
        namespaces: tuple[str, ...],
        may_write: Callable[[], bool],
        dry_run: bool,
    ) -> None:
        self._client, self._metrics = client, metrics
        self._instance = f"lws-{socket.gethostname()}"
        self._events, self._run_id = 0, uuid.uuid4().hex[:10]
        self.manager = Manager(
            self._send,
            options=options,
            may_write=may_write,
            want_nodes=self._want_nodes,
            watcher=metrics,
            dry_run=_print_action if dry_run else None,
        )
        kinds = (*KINDS, *(("PodGroup",) if options.gang_scheduling else ()))
        self._reflectors = [
            Reflector(
                client,
                RESOURCES[kind],
                self.manager.see,
                namespace=namespace,
                selector="" if kind == "LeaderWorkerSet" else SELECTOR,
            )
            for namespace in namespaces or ("",)
            for kind in kinds
        ]
        self._nodes = Reflector(client, RESOURCES["Node"], self.manager.see)
        self._node_task: asyncio.Task[None] | None = None
        metrics.manager, metrics.reflectors = self.manager, [*self._reflectors, self._nodes]

    async def run(self) -> None:
        """Follow and act until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            tasks.create_task(self.manager.run())
            await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))
            self.manager.all_listed()
            _log.info("all objects listed", extra={"sets": len(self.manager.machines)})
            gc.collect()
            gc.freeze()  # what has been listed is here to stay: a full collection of it costs long pauses
            gc.set_threshold(_GC_THRESHOLD, 50, 100)

    def _want_nodes(self) -> None:
        """Nodes are followed once a set has asked for one."""
        if self._node_task is None:
            self._node_task = asyncio.create_task(self._nodes.run())

    async def stop(self) -> None:
        """Let what has been sent be answered, and stop following nodes."""
        if self._node_task is not None:
            self._node_task.cancel()
        await self.manager.drain(_STOP_S / 2)

    async def _send(self, machine: Machine, action: Action) -> Outcome:
        name = ""
        if isinstance(action, Emit):
            self._events += 1
            name = f"{machine.name[:200]}.{self._run_id}.{self._events}"
        request = request_of(action, event_name=name, instance=self._instance, now_s=time.time())
        answer = await self._client.request(
            request.method,
            request.path,
            body=request.body,
            content_type=request.content_type,
            params=request.params,
        )
        return outcome_of(action, answer, machine.name, machine.memory.lws)


async def lead(
    client: Client,
    metrics: Metrics,
    *,
    options: Options,
    namespaces: tuple[str, ...] = (),
    lease_settings: LeaseSettings | None = None,
    dry_run: bool = False,
    began: Callable[[], None] = lambda: None,
) -> None:
    """Run machines while the lease is held, or without one where `lease_settings` is None.

    Returns when the lease is lost; raises CancelledError when asked to stop, the lease given back.
    """
    lease = None if lease_settings is None or dry_run else Lease(client, lease_settings)
    if lease is not None:
        await lease.acquire()
    metrics.leads = lambda: lease is None or lease.may_write()
    leading = Leading(
        client,
        metrics,
        options=options,
        namespaces=namespaces,
        may_write=metrics.leads,
        dry_run=dry_run,
    )
    began()
    work = asyncio.create_task(leading.run())
    hold = asyncio.create_task(lease.hold()) if lease is not None else None
    try:
        await asyncio.wait([work, *([hold] if hold else [])], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()  # an error of the operator's own ends the process
    finally:
        for task in (work, hold):
            if task is not None:
                task.cancel()
        await leading.stop()
        if lease is not None:
            await lease.release()


async def check_server(client: Client, source: str) -> str:
    """The version of the API server, once it answers. Raises Unusable where it will not do."""
    failures = 0
    while True:
        answer = await client.request("GET", "/version")
        if answer.ok:
            break
        if answer.code in (401, 403):
            raise Unusable(f"{source}: not authorised: {answer.code} {answer.message}")
        failures += 1
        _log.warning("no answer from the API server: %s", answer.message or answer.code)
        await asyncio.sleep(back_off_s(failures))
    version = answer.json() or {}
    major, minor = _number(version.get("major")), _number(version.get("minor"))
    told = str(version.get("gitVersion", f"{major}.{minor}"))
    if (major, minor) < (1, OLDEST_MINOR):
        raise Unusable(
            f"Kubernetes {told} is too old: 1.{OLDEST_MINOR} or newer is needed, as older ones ignore "
            "spec.ordinals.start of StatefulSets, and workers would take themselves for leaders"
        )
    return told


async def wait_for_crd(client: Client, waiting: Callable[[str], None]) -> None:
    """Return once the API server knows LeaderWorkerSets; meanwhile `waiting` is told why not.

    Raises Unusable where we may not even ask.
    """
    failures, told = 0, ""
    while True:
        answer = await client.request("GET", RESOURCES["LeaderWorkerSet"].root)
        if answer.ok and b'"leaderworkersets"' in answer.body:
            waiting("")
            return
        if answer.code in (401, 403):
            raise Unusable(f"not authorised: {answer.code} {answer.message}")
        problem = answer.message
        if answer.code in (200, 404):
            problem = (
                "the cluster has no CustomResourceDefinition leaderworkersets.leaderworkerset.x-k8s.io: "
                "install it (lws crd | kubectl apply -f -)"
            )
        if problem != told:
            _log.warning("waiting: %s", problem)
            waiting(problem)
            told = problem
        failures += 1
        await asyncio.sleep(min(5.0, back_off_s(failures)))


class TokenReviews:
    """Who may read the metrics, as the API server says; answers are believed for half a minute."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, tuple[float, bool]] = {}

    async def __call__(self, token: str) -> bool:
        """Whether the bearer of a token may GET /metrics."""
        now_s = asyncio.get_running_loop().time()
        at_s, allowed = self._known.get(token, (-1e9, False))
        if now_s - at_s < 30.0:
            return allowed
        allowed = await self._ask(token)
        if len(self._known) > 1000:
            self._known.clear()
        self._known[token] = now_s, allowed
        return allowed

    async def _ask(self, token: str) -> bool:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = _status(await self._post("/apis/authentication.k8s.io/v1/tokenreviews", review))
        user = status.get("user")
        if status.get("authenticated") is not True or not isinstance(user, dict):
            return False
        access = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.get("username", ""),
                "uid": user.get("uid", ""),
                "groups": user.get("groups", []),
                "extra": user.get("extra", {}),
                "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
            },
        }
        status = _status(await self._post("/apis/authorization.k8s.io/v1/subjectaccessreviews", access))
        return status.get("allowed") is True

    async def _post(self, path: str, body: dict[str, Any]) -> Answer:
        return await self._client.request("POST", path, body=orjson.dumps(body))


def _status(answer: Answer) -> dict[str, Any]:
    body = answer.json()
    status = body.get("status") if answer.ok and isinstance(body, dict) else None
    return status if isinstance(status, dict) else {}


def user_agent() -> str:
    """How the operator names itself to the API server."""
    try:
        version = metadata.version("leaderworkerset")
    except metadata.PackageNotFoundError:
        version = "unknown"
    return f"lws/{version} ({sys.platform}/{platform.machine()})"


def identity() -> str:
    """A name for this process that no other has."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


async def until_signal(work: Awaitable[None]) -> bool:
    """Run `work` until it ends or a signal asks to stop; whether a signal did. Stops within 5 s."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    waiter = asyncio.create_task(stopped.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    if not stopped.is_set():
        waiter.cancel()
        await task
        return False
    _log.info("stopping")
    task.cancel()
    await asyncio.wait([task], timeout=_STOP_S)
    return True


def _print_action(machine: Machine, action: Action) -> None:
    """One line for an action that is not carried out."""
    where = f"{machine.namespace}/{machine.name}"
    if isinstance(action, Emit):
        line = f"{where}: would emit {action.event.reason}: {action.event.note}"
    else:
        line = f"{where}: would {type(action).__name__} {action.ref.kind} {action.ref.name}: {action.why}"
    print(line, flush=True)


def _number(text: object) -> int:
    digits = "".join(character for character in str(text) if character.isdecimal())
    return int(digits) if digits else 0


async def serve(settings: Settings, kubeconfig: str) -> bool:
    """Run the operator; True after a signal asked it to stop, False where the lease was lost.

    Raises NoCluster, and Unusable where the cluster will not do.
    """
    connection = connect(kubeconfig)
    metrics = Metrics()
    client = Client(
        connection,
        user_agent=user_agent(),
        qps=settings.client.qps,
        burst=settings.client.burst,
        observer=metrics.requested,
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(client)
        waiting = _Waiting()
        await _serve_probes(settings, waiting, stack)
        return await until_signal(_operate(settings, client, metrics, waiting, connection.source, stack))


class _Waiting:
    """What the process waits for before it is ready, by who waits."""

    def __init__(self) -> None:
        self._reasons = {"server": "the API server has not answered yet"}
        self.webhooks: Webhooks | None = None
        self.keeper: CertificateKeeper | None = None

    def say(self, who: str, reason: str) -> None:
        """Why it is not ready; "" once it is."""
        self._reasons[who] = reason

    def __call__(self) -> str:
        reasons = [reason for reason in self._reasons.values() if reason]
        if self.webhooks is not None and not self._are_webhooks_ready(self.webhooks):
            reasons.append("the webhooks are not served yet")
        return "; ".join(reasons)

    def _are_webhooks_ready(self, webhooks: Webhooks) -> bool:
        if not webhooks.is_serving():
            return False
        return self.keeper is None or self.keeper.is_ready(webhooks.serving)


async def _operate(
    settings: Settings,
    client: Client,
    metrics: Metrics,
    waiting: _Waiting,
    source: str,
    stack: AsyncExitStack,
) -> None:
    told = await check_server(client, source)
    _log.info("connected", extra={"server": told, "by": source})
    if settings.webhook.enabled and not settings.dry_run:
        await _serve_webhooks(settings, client, waiting, stack)
    waiting.say("server", "")
    await _serve_metrics(settings, client, metrics, stack)
    await wait_for_crd(client, partial(waiting.say, "crd"))
    election = settings.leader_election
    lease = LeaseSettings(
        namespace=operator_namespace(),
        name=election.resource_name,
        identity=identity(),
        duration_s=election.lease_duration_s,
        renew_deadline_s=election.renew_deadline_s,
        retry_period_s=election.retry_period_s,
    )
    await lead(
        client,
        metrics,
        options=operator_options(settings),
        namespaces=settings.namespaces,
        lease_settings=lease if election.enabled else None,
        dry_run=settings.dry_run,
    )


async def _serve_webhooks(
    settings: Settings, client: Client, waiting: _Waiting, stack: AsyncExitStack
) -> None:
    """Webhooks in a process of their own, with certificates that we make unless somebody else does."""
    waiting.webhooks = Webhooks(server_settings(settings))
    if settings.certificates.internal:
        waiting.keeper = CertificateKeeper(
            client,
            settings.certificates.service_name,
            settings.certificates.secret_name,
            operator_namespace(),
            Path(settings.webhook.cert_dir),
        )
        keeping = asyncio.create_task(waiting.keeper.run())
        stack.callback(keeping.cancel)
    await waiting.webhooks.start()
    stack.push_async_callback(waiting.webhooks.stop)


async def _serve_probes(settings: Settings, waiting: _Waiting, stack: AsyncExitStack) -> None:
    health = settings.health
    if health.address is None:
        return
    try:
        runner = await serve_probes(
            health.address, ready_path=health.readiness_path, live_path=health.liveness_path, ready=waiting
        )
    except OSError as problem:
        raise Unusable(f"health.healthProbeBindAddress: {problem.strerror or problem}") from None
    stack.push_async_callback(runner.cleanup)


async def _serve_metrics(settings: Settings, client: Client, metrics: Metrics, stack: AsyncExitStack) -> None:
    if settings.metrics.address is None:
        return
    try:
        runner = await serve_metrics(
            settings.metrics.address,
            metrics.render,
            tls=metrics_context(settings.tls),
            allowed=TokenReviews(client),
        )
    except OSError as problem:
        raise Unusable(f"metrics.bindAddress: {problem.strerror or problem}") from None
    stack.push_async_callback(runner.cleanup)
