"""The operator's process: from settings to a cluster that is taken care of, and back to silence on SIGTERM.

Probes and webhooks serve in every replica; machines run in the one that holds the lease. Whoever loses the
lease ends, with exit code 1, and comes back as a new process that knows nothing: nothing half done survives.

A signal to stop is heard from the first moment on. Then nothing more is sent, answers that are under way have
1.5 s, the lease is given back within 1 s, and the webhooks' process ends within 2 s.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
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

import click
import orjson

from lws_core import names
from lws_core.actions import Action, Create, Emit, Read
from lws_core.options import Options
from lws_core.sights import Outcome
from lws_runtime.config import Settings, operator_namespace
from lws_runtime.kube.client import Client
from lws_runtime.kube.connection import connect
from lws_runtime.kube.lease import Lease, LeaseSettings
from lws_runtime.kube.plugin import NoCluster
from lws_runtime.kube.reflector import REMIND_S, Reflector, back_off_s
from lws_runtime.kube.resources import RESOURCES
from lws_runtime.webhook.keeper import CertificateKeeper
from lws_runtime.webhook.process import Webhooks, server_settings

from .health import serve_metrics, serve_probes
from .manager import KINDS, Machine, Manager
from .metrics import Metrics
from .requests import outcome_of, request_of
from .self_signed import MOUNTED, metrics_context

_log = logging.getLogger(__name__)

OLDEST_MINOR: Final = 27  # of Kubernetes 1: older ones ignore the start ordinal of StatefulSets
_PATIENCE_S: Final = 30.0  # how long lists may take before it is said that they are waited for
_ANSWERS_S: Final = 1.5
_QUICK_S: Final = 10.0  # what a read or an event may take
_WRITE_S: Final = 60.0  # as the API server has it: a write waits for webhooks of others, 30 s for each
_STOP_S: Final = 3.0  # answers and the lease, with some air
_MOST_REVIEWS: Final = 8
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
        self._client = client
        self._instance = f"lws-{socket.gethostname()}"
        self._events, self._run_id = 0, uuid.uuid4().hex[:10]
        self.manager = Manager(
            self._send,
            options=options,
            may_write=may_write,
            want_nodes=self._want_nodes,
            is_followed=self._is_followed,
            watcher=metrics,
            dry_run=_print_line if dry_run else None,
        )
        self._may_write = may_write
        kinds = (*KINDS, *(("PodGroup",) if options.gang_scheduling else ()))
        self._reflectors = [
            Reflector(
                client,
                RESOURCES[kind],
                self.manager.see,
                namespace=namespace,
                label="" if kind == names.KIND else names.SET_NAME,
                optional=kind == "PodGroup",
            )
            for namespace in namespaces or ("",)
            for kind in kinds
        ]
        self._namespaces = namespaces or ("",)
        self._nodes = Reflector(client, RESOURCES["Node"], self.manager.see)
        self._tasks: asyncio.TaskGroup | None = None
        self._follows_nodes = False
        followers = (*self._reflectors, self._nodes)
        self._followers = {(follower.kind, follower.namespace): follower for follower in followers}
        metrics.manager, metrics.reflectors = self.manager, followers

    async def run(self) -> None:
        """Follow and act until cancelled. Raises OSError where a dry run cannot print."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for reflector in self._reflectors:
                    tasks.create_task(self._follow(reflector))
                tasks.create_task(self.manager.run())
                for namespace in self._namespaces:
                    tasks.create_task(self._begin(namespace))
        except ExceptionGroup as problems:
            if isinstance(problems.exceptions[0], OSError):
                raise problems.exceptions[0] from None
            raise

    async def _follow(self, reflector: Reflector) -> None:
        """Pods are listed after StatefulSets, so that they show what a StatefulSet says has been observed."""
        if reflector.kind == "Pod":
            await self._followers["StatefulSet", reflector.namespace].synced.wait()
        await reflector.run()

    async def _begin(self, namespace: str) -> None:
        """Let the sets of a namespace, or of all for "", have their turns once all is listed there."""
        of_it = [reflector for reflector in self._reflectors if reflector.namespace == namespace]
        where = f" in namespace {namespace}" if namespace else ""
        listed = asyncio.gather(*(reflector.synced.wait() for reflector in of_it))
        try:
            await asyncio.wait([listed], timeout=_PATIENCE_S)
            while not listed.done():
                missing = [reflector.name for reflector in of_it if not reflector.synced.is_set()]
                _log.warning("nothing is done yet%s: not listed are %s", where, ", ".join(missing))
                await asyncio.wait([listed], timeout=REMIND_S)
        finally:
            listed.cancel()
        self.manager.all_listed(namespace)
        count = sum(namespace in ("", of) for of, _ in self.manager.machines)
        _log.info(
            "all objects listed", extra={"sets": count} | ({"namespace": namespace} if namespace else {})
        )
        gc.collect()
        gc.freeze()  # what has been listed is here to stay: a full collection of it costs long pauses
        gc.set_threshold(_GC_THRESHOLD, 50, 100)

    def _want_nodes(self) -> None:
        """Nodes are followed once a set has asked for one."""
        if not self._follows_nodes and self._tasks is not None:
            self._follows_nodes = True
            self._tasks.create_task(self._nodes.run())

    def _is_followed(self, kind: str, namespace: str, name: str) -> bool:
        follower = self._follower(kind, namespace)
        return follower is not None and follower.knows(namespace, name)

    def _follower(self, kind: str, namespace: str) -> Reflector | None:
        return self._followers.get((kind, namespace)) or self._followers.get((kind, ""))

    async def stop(self) -> None:
        """Let what has been sent be answered."""
        await self.manager.stop(_ANSWERS_S)

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
            timeout_s=_QUICK_S if isinstance(action, Read | Emit) else _WRITE_S,
            may_send=self._may_write,
        )
        outcome = outcome_of(action, answer, machine.name, machine.memory.lws)
        if outcome.ok and isinstance(action, Create | Read):
            self._expect(action, answer.json())
        return outcome

    def _expect(self, action: Create | Read, shown: dict[str, Any]) -> None:
        """Let whoever follows the kind know of an object that it may have missed from its beginning to its
        end: nothing else would ever tell that it is gone."""
        follower = self._follower(action.ref.kind, action.ref.namespace)
        if follower is not None:
            follower.expect(shown)


async def lead(
    client: Client,
    metrics: Metrics,
    *,
    options: Options,
    namespaces: tuple[str, ...] = (),
    lease_settings: LeaseSettings | None = None,
    dry_run: bool = False,
    ending: Callable[[], None] = lambda: None,
) -> None:
    """Run machines while the lease is held, or without one where `lease_settings` is None.

    Returns when the lease is lost; raises CancelledError when asked to stop, the lease given back, and
    NoCluster where the server is not trusted any more before it is held. `ending` is called as soon as it is
    lost, or the operator fails: what is cancelled then may not end.
    """
    lease = None if lease_settings is None or dry_run else Lease(client, lease_settings)
    leading: Leading | None = None
    tasks: list[asyncio.Task[None]] = []
    done: set[asyncio.Task[None]] = set()
    try:
        if lease is not None:
            await lease.acquire()
            tasks.append(asyncio.create_task(lease.hold()))
        metrics.leads = lambda: lease is None or lease.may_write()
        leading = Leading(
            client,
            metrics,
            options=options,
            namespaces=namespaces,
            may_write=metrics.leads,
            dry_run=dry_run,
        )
        tasks.append(asyncio.create_task(leading.run()))
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ending()
        for task in done:
            task.result()  # an error of the operator's own ends the process
    finally:
        for task in tasks:
            task.cancel()
        if leading is not None:
            await leading.stop()
        if lease is not None:
            await lease.release()
        for ended in await asyncio.gather(*(set(tasks) - done), return_exceptions=True):
            if isinstance(ended, Exception):
                _log.error("failed while it stopped", exc_info=ended)


async def check_server(client: Client, source: str) -> str:
    """The version of the API server, once it answers. Raises Unusable where it will not do."""
    failures = 0
    while True:
        answer = await client.request("GET", "/version")
        version = answer.json()
        if answer.ok and isinstance(version, dict):
            break
        if answer.code in (401, 403):
            raise Unusable(f"{source}: not authorised: {answer.code} {answer.message}")
        if answer.distrusted:  # the authority was read at the start, and nothing reads it again
            raise Unusable(f"{source}: the API server's certificate is not trusted: {answer.message}")
        failures += 1
        _log.warning("no answer from the API server: %s", answer.message or answer.code)
        await asyncio.sleep(back_off_s(failures))
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

    Raises Unusable where we may not even ask, or do not trust the server any more.
    """
    failures, told = 0, ""
    while True:
        answer = await client.request("GET", RESOURCES["LeaderWorkerSet"].root)
        if answer.ok and b'"leaderworkersets"' in answer.body:
            waiting("")
            return
        if answer.code in (401, 403):
            raise Unusable(f"not authorised: {answer.code} {answer.message}")
        if answer.distrusted:
            raise Unusable(f"the API server's certificate is not trusted any more: {answer.message}")
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
    """Who may read the metrics, as the API server says; answers are believed for half a minute.

    Tokens are remembered by their digests. Few are asked about at once, so that a flood of made-up ones
    takes little of the rate at which requests may be sent.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[bytes, tuple[float, int]] = {}
        self._slots = asyncio.Semaphore(_MOST_REVIEWS)
        self._told = ""

    async def __call__(self, token: str) -> int:
        """200 if the bearer of a token may GET /metrics, 401 if nobody knows it, 403 if it may not, and 503
        if the API server does not say."""
        now_s = time.monotonic()
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        at_s, status = self._known.get(key, (-1e9, 0))
        if now_s - at_s < 30.0:
            return status
        async with self._slots:
            status = await self._ask(token)
        if status != 503:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[key] = now_s, status
        return status

    async def _ask(self, token: str) -> int:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = await self._post("/apis/authentication.k8s.io/v1/tokenreviews", review)
        if status is None:
            return 503
        user = status.get("user")
        if status.get("authenticated") is not True or not isinstance(user, dict):
            return 401
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
        status = await self._post("/apis/authorization.k8s.io/v1/subjectaccessreviews", access)
        if status is None:
            return 503
        return 200 if status.get("allowed") is True else 403

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The status of what was posted; None where there is none."""
        answer = await self._client.request("POST", path, body=orjson.dumps(body))
        found = answer.json()
        status = found.get("status") if answer.ok and isinstance(found, dict) else None
        problem = (
            "" if isinstance(status, dict) else f"{answer.code} {answer.message if not answer.ok else ''}"
        )
        if problem and problem != self._told:
            _log.warning("cannot ask who may read the metrics: %s: %s", path.rpartition("/")[2], problem)
        self._told = problem
        return status if isinstance(status, dict) else None


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


async def until_signal(work: Awaitable[None], stopping: Callable[[], None] = lambda: None) -> bool:
    """Run `work` until it ends or a signal asks to stop; whether a signal did. `stopping` is called then.

    Raises what `work` raises, unless it was asked to stop.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    task = asyncio.ensure_future(work)
    waiter = asyncio.create_task(stopped.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if not stopped.is_set():
        await task
        return False
    _log.info("stopping")
    stopping()
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not None:
        _log.error("failed while it stopped", exc_info=task.exception())
    return True


def _print_line(line: str) -> None:
    click.echo(line)


def _number(text: object) -> int:
    digits = "".join(character for character in str(text) if character.isdecimal())
    return int(digits) if digits else 0


async def serve(settings: Settings, kubeconfig: str, ending: Callable[[int], None] = lambda _: None) -> bool:
    """Run the operator; True after a signal asked it to stop, False where the lease was lost or the operator
    itself failed, which is logged. `ending` is called as soon as it is about to end, with the exit code: 0
    when a signal comes, else 1.

    Raises NoCluster, Unusable where the cluster will not do, and OSError where a dry run cannot print.
    """
    try:
        return await until_signal(_serve(settings, kubeconfig, partial(ending, 1)), partial(ending, 0))
    except (NoCluster, Unusable):
        raise
    except Exception as problem:
        if settings.dry_run and isinstance(problem, OSError):
            raise
        _log.exception("a bug: the operator failed")
        return False


async def _serve(settings: Settings, kubeconfig: str, ending: Callable[[], None]) -> None:
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
        await connection.prepare()
        await _operate(settings, client, metrics, waiting, connection.source, stack, ending)


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
            if self.keeper is not None and self.keeper.problem:
                reasons.append(f"certificates are not in place: {self.keeper.problem}")
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
    ending: Callable[[], None],
) -> None:
    told = await check_server(client, source)
    _log.info("connected", extra={"server": told, "by": source})
    if settings.webhook.enabled and not settings.dry_run:
        await _serve_webhooks(settings, client, waiting, stack)
    waiting.say("server", "")
    await _serve_metrics(settings, client, metrics, stack)
    await wait_for_crd(client, partial(waiting.say, "crd"))
    election, namespace = settings.leader_election, operator_namespace()
    if election.enabled and election.resource_namespace not in ("", namespace):
        _log.warning(
            "leaderElection.resourceNamespace: %s is ignored: the lease lies in the operator's namespace, %s",
            election.resource_namespace,
            namespace,
        )
    lease = LeaseSettings(
        namespace=namespace,
        name=election.resource_name,
        identity=identity(),
        duration_s=election.lease_duration_s,
        renew_deadline_s=election.renew_deadline_s,
        retry_period_s=election.retry_period_s,
    )
    await lead(
        client,
        metrics,
        options=settings.options,
        namespaces=settings.namespaces,
        lease_settings=lease if election.enabled else None,
        dry_run=settings.dry_run,
        ending=ending,
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
        port = await serve_probes(
            health.address, ready_path=health.readiness_path, live_path=health.liveness_path, ready=waiting
        )
    except OSError as problem:
        raise Unusable(f"health.healthProbeBindAddress: {problem.strerror or problem}") from None
    stack.push_async_callback(port.cleanup)


async def _serve_metrics(settings: Settings, client: Client, metrics: Metrics, stack: AsyncExitStack) -> None:
    if settings.metrics.address is None:
        return
    try:
        tls = metrics_context(settings.tls)
    except OSError as problem:
        raise Unusable(f"the metrics' certificate in {MOUNTED}: {problem.strerror or problem}") from None
    try:
        port = await serve_metrics(
            settings.metrics.address,
            metrics.snapshot,
            tls=tls,
            allowed=TokenReviews(client),
        )
    except OSError as problem:
        raise Unusable(f"metrics.bindAddress: {problem.strerror or problem}") from None
    stack.push_async_callback(port.cleanup)
