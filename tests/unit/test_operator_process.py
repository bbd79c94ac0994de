"""The operator's process without a cluster: what it refuses, what it waits for, how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import yaml
from aiohttp import web
from building import a_set
from loopback import Leases, answer, client_of, refusal, serving, until
from patience import Stopwatch

from lws_core import controller, names
from lws_core.actions import Action, Create, Delete, Emit, Event, PatchStatus, Read, Ref
from lws_core.options import Options
from lws_core.values import freeze_map, thaw
from lws_runtime.config import Settings, read_settings
from lws_runtime.kube import reflector
from lws_runtime.kube.client import Answer, Client
from lws_runtime.kube.connection import Connection
from lws_runtime.kube.lease import LeaseSettings
from lws_runtime.kube.plugin import NoCluster
from lws_runtime.operator import process
from lws_runtime.operator.manager import Machine, Manager
from lws_runtime.operator.metrics import Metrics
from lws_runtime.operator.process import Leading, Unusable, check_server, lead, until_signal, wait_for_crd
from lws_runtime.webhook.keeper import CertificateKeeper
from lws_runtime.webhook.process import Webhooks
from lws_runtime.webhook.server import ServerSettings

SETS = "/apis/leaderworkerset.x-k8s.io/v1"
CRD = {"kind": "APIResourceList", "resources": [{"name": "leaderworkersets"}]}
SOON_S = 60.0  # for what takes a second, and much longer where the machine does other things
STARTED: list[subprocess.Popen[str]] = []


@attrs.define
class Api:
    """As much of an API server as an operator without sets needs. `answers` goes first."""

    version: dict[str, str] = attrs.Factory(lambda: {"major": "1", "minor": "36+", "gitVersion": "v1.36.2"})
    answers: dict[str, Callable[[], web.StreamResponse]] = attrs.Factory(dict)
    leases: Leases = attrs.Factory(Leases)
    asked: list[str] = attrs.Factory(list)
    writes: list[str] = attrs.Factory(list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path in self.answers:
            return self.answers[request.path]()
        if "/leases" in request.path:
            return await self.leases.handle(request)
        if request.method != "GET":
            self.writes.append(f"{request.method} {request.path}")
        if request.path == "/version":
            return answer(self.version)
        if request.path == SETS:
            return answer(CRD)
        if "watch" in request.query:
            return await self._hang(request)
        return answer({"metadata": {"resourceVersion": "5"}, "items": []})

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(60)
        return response


def run(api: Api, body: Callable[[Client], Awaitable[Any]]) -> Any:
    async def inner() -> Any:
        async with serving(api.handle) as url, client_of(url) as client:
            return await asyncio.wait_for(body(client), SOON_S)

    return asyncio.run(inner())


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "back_off_s", lambda failures: 0.01)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """What a test that fails leaves running, with its pipes, would be a warning in some later test."""
    yield
    for started in STARTED:
        with started:
            started.kill()
    STARTED.clear()


# -- what a cluster must be


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ({"major": "1", "minor": "27", "gitVersion": "v1.27.0"}, "v1.27.0"),
        ({"major": "1", "minor": "31+", "gitVersion": "v1.31.4-gke.1"}, "v1.31.4-gke.1"),
        ({"major": "2", "minor": "0"}, "2.0"),
    ],
)
def test_clusters_new_enough_must_be_taken(version: dict[str, str], told: str) -> None:
    assert run(Api(version), lambda client: check_server(client, "x")) == told


@pytest.mark.parametrize(
    "version", [{"major": "1", "minor": "26+", "gitVersion": "v1.26.9"}, {"major": "0", "minor": "99"}, {}]
)
def test_clusters_too_old_must_be_refused_with_the_reason(version: dict[str, str]) -> None:
    with pytest.raises(
        Unusable, match=r"is too old: 1\.27 or newer is needed, as older ones ignore spec\.ord"
    ):
        run(Api(version), lambda client: check_server(client, "x"))


@pytest.mark.parametrize("code", [401, 403])
def test_clusters_that_refuse_us_must_be_given_up_in_their_words(code: int) -> None:
    api = Api(answers={"/version": lambda: refusal(code, "who are you")})
    with pytest.raises(Unusable, match=f"^kubeconfig x: not authorised: {code} who are you$"):
        run(api, lambda client: check_server(client, "kubeconfig x"))
    api = Api(answers={SETS: lambda: refusal(code, "who are you")})
    with pytest.raises(Unusable, match=f"not authorised: {code} who are you"):
        run(api, lambda client: wait_for_crd(client, lambda _: None))


@pytest.mark.parametrize(
    "late", [lambda: refusal(503, "starting"), lambda: web.Response(text="<html>"), lambda: answer([])]
)
def test_clusters_that_do_not_answer_yet_must_be_waited_for(
    late: Callable[[], web.StreamResponse],
) -> None:
    api = Api(answers={"/version": late})

    async def body(client: Client) -> str:
        checking = asyncio.create_task(check_server(client, "x"))
        await until(lambda: len(api.asked) > 3)
        assert not checking.done()
        api.answers.clear()
        return await checking

    assert run(api, body) == "v1.36.2"


@pytest.mark.parametrize("without", [lambda: refusal(404, "not found"), lambda: answer({"resources": []})])
def test_clusters_without_the_crd_must_be_told_so_once_and_waited_for(
    without: Callable[[], web.StreamResponse], caplog: pytest.LogCaptureFixture
) -> None:
    api, told = Api(answers={SETS: without}), []

    async def body(client: Client) -> None:
        waiting = asyncio.create_task(wait_for_crd(client, told.append))
        await until(lambda: len(api.asked) > 3)
        api.answers.clear()
        await waiting

    run(api, body)
    assert len(told) == 2
    assert told[0].startswith("the cluster has no CustomResourceDefinition leaderworkersets.leaderworkerset")
    assert "lws crd | kubectl apply -f -" in told[0]
    assert told[1] == ""
    assert len(caplog.records) == 1


class Distrusting(Client):
    """Trusts the server no more once its authority has changed."""

    has_changed = False

    async def request(self, *what: Any, **how: Any) -> Answer:
        if self.has_changed:
            return Answer(0, b"certificate verify failed", distrusted=True)
        return await super().request(*what, **how)


@pytest.mark.parametrize("waits", ["for the crd", "as a standby"])
def test_server_that_is_not_trusted_any_more_must_end_who_waits(waits: str) -> None:
    api = Api(answers={SETS: lambda: refusal(404, "not found")})
    api.leases.renew("other")

    async def body() -> None:
        async with serving(api.handle) as url, client_of(url, kind=Distrusting) as client:
            work = (
                wait_for_crd(client, lambda _: None) if waits == "for the crd" else leading(client, Metrics())
            )
            waiting = asyncio.create_task(_as_coroutine(work))
            await until(lambda: len(api.asked) > 3)
            client.has_changed = True  # type: ignore[attr-defined]
            with pytest.raises(
                (Unusable, NoCluster),
                match="certificate is not trusted any more: certificate verify failed",
            ):
                await asyncio.wait_for(waiting, SOON_S)

    asyncio.run(body())


def test_leader_never_ends_while_it_distrusts_the_server_for_a_moment() -> None:
    api = Api()

    async def body() -> None:
        async with serving(api.handle) as url, client_of(url, kind=Distrusting) as client:
            metrics = Metrics()
            work = asyncio.create_task(_as_coroutine(leading(client, metrics)))
            await until(lambda: metrics.manager is not None and metrics.manager.has_listed(""))
            client.has_changed = True  # type: ignore[attr-defined]
            await asyncio.sleep(0.3)
            client.has_changed = False  # type: ignore[attr-defined]
            asked = len(api.leases.asked)
            await until(lambda: len(api.leases.asked) > asked)
            assert not work.done()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    asyncio.run(body())


# -- leading


def a_lease(identity: str = "me") -> LeaseSettings:
    return LeaseSettings("lws-system", "lease", identity, 60.0, 40.0, 0.05)


def leading(client: Client, metrics: Metrics, **how: Any) -> Awaitable[None]:
    return lead(client, metrics, options=Options(), lease_settings=a_lease(), **how)


def test_leader_must_give_the_lease_back_when_it_is_stopped() -> None:
    api = Api()

    async def body(client: Client) -> None:
        metrics = Metrics()
        work = asyncio.create_task(_as_coroutine(leading(client, metrics)))
        await until(lambda: metrics.manager is not None and metrics.manager.has_listed(""))
        assert api.leases.holder == "me"
        assert metrics.leads()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert api.leases.holder == ""
        assert not metrics.leads()

    run(api, body)


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def test_leader_that_loses_its_lease_must_end() -> None:
    api = Api()

    async def body(client: Client) -> None:
        metrics = Metrics()
        work = asyncio.create_task(_as_coroutine(leading(client, metrics)))
        await until(lambda: metrics.manager is not None and metrics.manager.has_listed(""))
        api.leases.renew("other")
        await asyncio.wait_for(work, 20)  # rather than at the deadline

    run(api, body)
    assert api.leases.holder == "other"


def test_standby_never_watches_anything() -> None:
    api = Api()
    api.leases.renew("other")

    async def body(client: Client) -> None:
        work = asyncio.create_task(_as_coroutine(leading(client, Metrics())))
        await until(lambda: len(api.asked) > 3)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    assert all("/leases" in path for path in api.asked)


def test_dry_run_never_takes_the_lease() -> None:
    api = Api()

    async def body(client: Client) -> None:
        metrics = Metrics()
        work = asyncio.create_task(_as_coroutine(leading(client, metrics, dry_run=True)))
        await until(lambda: metrics.manager is not None and metrics.manager.has_listed(""))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    assert not any("/leases" in path for path in api.asked)
    assert api.writes == []


def test_namespaces_must_be_all_that_is_listed() -> None:
    api = Api()

    async def body(client: Client) -> None:
        metrics = Metrics()
        work = asyncio.create_task(_as_coroutine(leading(client, metrics, namespaces=("a", "b"))))
        await until(lambda: metrics.manager is not None and metrics.manager._listed == {"a", "b"})
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    listed = {path for path in api.asked if "/leases" not in path}
    assert all("/namespaces/a/" in path or "/namespaces/b/" in path for path in listed)
    assert len(listed) == 2 * 5


def test_namespace_that_cannot_be_listed_never_holds_up_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "_PATIENCE_S", 2.0)  # all else is listed by then
    monkeypatch.setattr(reflector, "back_off_s", lambda failures: 0.02)
    caplog.set_level(logging.INFO)
    api = Api()
    for kind in ("pods", "services"):
        api.answers[f"/api/v1/namespaces/b/{kind}"] = lambda: refusal(403, "forbidden")

    def missing(metrics: Metrics) -> int:
        return metrics.snapshot().text().count(b'lws_not_listed{namespace="b",resource=')

    async def body(client: Client) -> None:
        metrics = Metrics()
        work = asyncio.create_task(_as_coroutine(leading(client, metrics, namespaces=("a", "b"))))
        await until(lambda: metrics.manager is not None and metrics.manager._listed == {"a"})
        await until(lambda: "nothing is done yet" in caplog.text and missing(metrics) == 2)
        api.answers.clear()
        await until(lambda: metrics.manager is not None and metrics.manager._listed == {"a", "b"})
        assert missing(metrics) == 0
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    told = [record.getMessage() for record in caplog.records]
    assert told.count("nothing is done yet in namespace b: not listed are pods, services") == 1
    assert told.count("cannot follow pods in namespace b: 403: forbidden") == 1
    assert told.count("all objects listed") == 2


def test_missing_kind_of_pod_groups_must_be_told_and_never_hold_up_anything(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reflector, "back_off_s", lambda failures: 0.02)
    path, api = "/apis/scheduling.volcano.sh/v1beta1/podgroups", Api()
    api.answers[path] = lambda: web.Response(status=404, text="404 page not found")

    async def body(client: Client) -> None:
        metrics, options = Metrics(), Options(gang_scheduling=True)
        work = asyncio.create_task(_as_coroutine(lead(client, metrics, options=options)))
        await until(lambda: metrics.manager is not None and metrics.manager.has_listed(""))
        await until(lambda: api.asked.count(path) > 3)  # it is looked for again
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "cannot follow podgroups: 404: the server has no podgroups of scheduling.volcano.sh/v1beta1: is "
        "their CustomResourceDefinition missing?"
    ]


def test_bug_of_the_operators_own_must_end_it_and_give_the_lease_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = Api()

    async def explode(_: object) -> None:
        await asyncio.sleep(0.05)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Leading, "run", explode)
    with pytest.raises(ZeroDivisionError):
        run(api, lambda client: leading(client, Metrics()))
    assert api.leases.holder == ""


@pytest.mark.parametrize("namespace", ["", "a"])
def test_pods_must_be_listed_after_the_statefulsets_that_tell_what_was_observed(namespace: str) -> None:
    """A leader may have ended before the StatefulSets were listed, and still be in a list of pods before."""
    api, within = Api(), f"/namespaces/{namespace}" if namespace else ""
    pods, path = f"/api/v1{within}/pods", f"/apis/apps/v1{within}/statefulsets"

    def busy() -> web.StreamResponse:
        del api.answers[path]
        return refusal(503, "busy")

    api.answers[path] = busy

    async def body(client: Client) -> None:
        leads = Leading(
            client,
            Metrics(),
            options=Options(),
            namespaces=(namespace,) if namespace else (),
            may_write=lambda: True,
            dry_run=False,
        )
        work = asyncio.create_task(leads.run())
        await until(lambda: leads.manager.has_listed(namespace))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    assert api.asked.count(path) >= 2
    assert api.asked.index(pods) > [i for i, asked in enumerate(api.asked) if asked == path][1]


def test_bug_in_the_watch_of_nodes_must_end_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api()

    async def body(client: Client) -> None:
        leads = Leading(
            client, Metrics(), options=Options(), namespaces=(), may_write=lambda: True, dry_run=False
        )

        async def explode() -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(leads._nodes, "run", explode)
        work = asyncio.create_task(leads.run())
        await until(lambda: leads.manager.has_listed(""))
        leads._want_nodes()
        leads._want_nodes()
        await work

    with pytest.raises(ExceptionGroup):
        run(api, body)


def test_object_that_only_an_answer_has_shown_must_be_gone_with_the_next_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api, told = Api(), []
    path = "/api/v1/namespaces/default/services/serve"
    metadata = {
        "namespace": "default",
        "name": "serve",
        "uid": "1",
        "resourceVersion": "3",
        "labels": {names.SET_NAME: "serve"},
    }
    api.answers[path] = lambda: answer({"apiVersion": "v1", "kind": "Service", "metadata": metadata})
    monkeypatch.setattr(Manager, "see", lambda _, happened, item: told.append((happened, item["kind"])))

    async def body(client: Client) -> None:
        leads = Leading(
            client, Metrics(), options=Options(), namespaces=(), may_write=lambda: True, dry_run=False
        )
        machine = Machine("default", "serve", controller.start(Options()))
        await leads._send(machine, Read(Ref("Service", "default", "serve"), "in doubt"))
        work = asyncio.create_task(leads.run())
        await until(lambda: leads.manager.has_listed(""))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    assert told == [("GONE", "Service")]


class Impatient(Client):
    """Notes how long each request may take."""

    patience_s: ClassVar[dict[str, float]] = {}

    async def request(self, method: str, path: str, *, timeout_s: float = 10.0, **how: Any) -> Answer:
        self.patience_s[f"{method} {path.rpartition('/')[2]}"] = timeout_s
        return Answer(0)


def test_writes_must_have_the_time_that_webhooks_of_others_may_take() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": "serve"}}
    ref = Ref("LeaderWorkerSet", "default", "serve")
    actions: list[Action] = [
        Create(freeze_map(service), "why"),
        Delete(Ref("Pod", "default", "serve-0"), "u", "7", "Foreground", "why"),
        PatchStatus(ref, "u", "7", freeze_map({}), "why"),
        Read(Ref("Node", "", "n"), "why"),
        Emit(ref, "u", Event("Normal", "Reason", "Action", "note")),
    ]
    client = Impatient(Connection("http://localhost"), user_agent="x")
    leads = Leading(
        client, Metrics(), options=Options(), namespaces=(), may_write=lambda: True, dry_run=False
    )

    async def send_all() -> None:
        for action in actions:
            await leads._send(Machine("default", "serve", controller.start(Options())), action)

    asyncio.run(send_all())
    writes = dict.fromkeys(("POST services", "DELETE serve-0", "PATCH status"), 60.0)
    assert client.patience_s == {**writes, "GET n": 10.0, "POST events": 10.0}


def test_node_that_only_a_read_has_shown_must_be_gone_with_the_next_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[str, str]] = []
    metadata = {"name": "n", "uid": "1", "resourceVersion": "3"}
    api = Api(answers={"/api/v1/nodes/n": lambda: answer({"kind": "Node", "metadata": metadata})})
    monkeypatch.setattr(Manager, "see", lambda _, happened, item: told.append((happened, item["kind"])))

    async def body(client: Client) -> None:
        leads = Leading(
            client, Metrics(), options=Options(), namespaces=("a",), may_write=lambda: True, dry_run=False
        )
        machine = Machine("default", "serve", controller.start(Options()))
        await leads._send(machine, Read(Ref("Node", "", "n"), "is it there"))
        work = asyncio.create_task(leads.run())
        await until(lambda: leads.manager.has_listed("a"))
        leads._want_nodes()
        await until(lambda: told)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    run(api, body)
    assert told == [("GONE", "Node")]


# -- signals


def test_signal_must_stop_the_work_and_tell_a_failure_of_stopping(caplog: pytest.LogCaptureFixture) -> None:
    stopping: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)  # here it is waited for: earlier it would end the tests
            await asyncio.sleep(30)
        finally:
            raise ZeroDivisionError("a bug")

    async def inner() -> bool:
        return await until_signal(work(), lambda: stopping.append("now"))

    assert asyncio.run(inner()) is True
    assert stopping == ["now"]
    record = next(record for record in caplog.records if record.message == "failed while it stopped")
    assert record.exc_info is not None


def test_work_that_ends_or_fails_must_be_told_apart_from_a_signal() -> None:
    async def ends() -> None:
        return

    async def fails() -> None:
        raise Unusable("no")

    assert asyncio.run(until_signal(ends())) is False
    with pytest.raises(Unusable):
        asyncio.run(until_signal(fails()))


# -- the process


@pytest.fixture
def server() -> Iterator[tuple[Api, str]]:
    """An API server in a thread of its own, and its URL."""
    api, started = Api(), threading.Event()
    running: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with serving(api.handle) as url:
            end = asyncio.Event()
            running.append((url, asyncio.get_running_loop(), end))
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(SOON_S)
    url, loop, end = running[0]
    yield api, url
    loop.call_soon_threadsafe(end.set)
    thread.join()


def kubeconfig(folder: Path, url: str, user: dict[str, Any] | None = None) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                "clusters": [{"name": "x", "cluster": {"server": url}}],
                "users": [{"name": "x", "user": user or {}}],
            }
        )
    )
    return path


def document(**fields: Any) -> dict[str, Any]:
    """A configuration that opens no ports."""
    return {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": "0"},
        **fields,
    }


@pytest.mark.parametrize(
    ("namespace", "told"), [("kube-system", True), ("lws-system", False), ("", False), (None, False)]
)
def test_namespace_of_the_lease_that_is_ignored_must_be_told(
    namespace: str | None, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def led(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr(process, "lead", led)
    monkeypatch.setattr(process, "operator_namespace", lambda: "lws-system")
    election = {} if namespace is None else {"resourceNamespace": namespace}
    found = read_settings(freeze_map(document(leaderElection=election)))
    settings = attrs.evolve(found, webhook=attrs.evolve(found.webhook, enabled=False))

    async def body(client: Client) -> None:
        async with AsyncExitStack() as stack:
            waiting = process._Waiting()
            await process._operate(settings, client, Metrics(), waiting, "x", stack, lambda: None)

    run(Api(), body)
    assert ("leaderElection.resourceNamespace: kube-system is ignored" in caplog.text) is told
    assert bool(caplog.records) is told


def launch(
    folder: Path, config: Path, *flags: str, out: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    settings = folder / "config.yaml"
    settings.write_text(yaml.safe_dump(document()))
    command = [sys.executable, "-m", "lws_runtime.cli", "operator", "--config", str(settings)]
    command += ["--kubeconfig", str(config), *flags]
    STARTED.append(
        subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ENABLE_WEBHOOKS": "false", **environment},
        )
    )
    return STARTED[-1]


def before(folder: Path) -> str:
    """A PYTHONPATH with a folder before what is on it."""
    return os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])


def end_of(started: subprocess.Popen[str], timeout_s: float = SOON_S) -> tuple[int, str, str]:
    try:
        out, err = started.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        started.kill()
        raise AssertionError(f"it does not end:\n{started.communicate()[1]}") from None
    return started.returncode, out, err


def terminated(
    started: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM
) -> tuple[int, float, str]:
    """Exit code after a signal, how long that took apart from waiting for a processor, and what it wrote to
    standard error."""
    with Stopwatch(started.pid) as watch:
        started.send_signal(number)
        code, _, err = end_of(started)
    return code, watch.took_s, err


def wait_for(check: Callable[[], Any], timeout_s: float = SOON_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def test_process_must_end_with_0_and_without_its_lease_on_sigterm(
    tmp_path: Path, server: tuple[Api, str]
) -> None:
    api, url = server
    started = launch(tmp_path, kubeconfig(tmp_path, url))
    wait_for(lambda: any("pods" in path for path in api.asked))
    assert api.leases.holder != ""
    code, took_s, err = terminated(started)
    assert (code, api.leases.holder) == (0, "")
    assert took_s < 3
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[-1]["msg"] == "stopping"
    assert all({"ts", "level", "msg"} <= set(line) for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.6])
def test_process_must_end_with_0_whenever_a_signal_comes(
    tmp_path: Path, server: tuple[Api, str], after_s: float, number: signal.Signals
) -> None:
    started = launch(tmp_path, kubeconfig(tmp_path, server[1]))
    wait_for(lambda: _catches_sigterm(started.pid))
    time.sleep(after_s)
    code, took_s, err = terminated(started, number)
    assert code == 0, err
    assert took_s < 5


def _catches_sigterm(pid: int) -> bool:
    """Whether the process has got so far that it handles the signal: Python's own start does not."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("hung", ["plugin", "server"])
def test_process_must_end_in_time_whatever_hangs(tmp_path: Path, server: tuple[Api, str], hung: str) -> None:
    api, url = server
    user = None
    reached = tmp_path / "reached"
    if hung == "plugin":
        script = f"touch {reached}; sleep 60"
        exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}
        user = {"exec": exec_}
    else:
        api.leases.delay_s = 60.0
    started = launch(tmp_path, kubeconfig(tmp_path, url, user))
    wait_for(lambda: reached.exists() if hung == "plugin" else api.leases.asked)
    code, took_s, err = terminated(started)
    assert code == 0, err
    assert took_s < 4  # without being made to end


def test_process_must_be_made_to_end_when_it_does_not(tmp_path: Path, server: tuple[Api, str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import asyncio, time\n"
        "from lws_runtime.operator import process\n"
        "async def stuck(*_, **__):\n"
        "    try: await asyncio.to_thread(time.sleep, 60)\n"  # such as a name that is looked up
        "    finally: print('stuck', flush=True)\n"
        "process.lead = stuck\n"
        "from lws_runtime.cli import operator\n"
        "operator._END_S = 1.0\n"
    )
    started = launch(tmp_path, kubeconfig(tmp_path, server[1]), PYTHONPATH=before(tmp_path))
    wait_for(lambda: SETS in server[0].asked)
    code, took_s, err = terminated(started)
    assert code == 0, err
    assert took_s < 3


def test_process_that_has_lost_its_lease_must_be_made_to_end_when_it_does_not(
    tmp_path: Path, server: tuple[Api, str]
) -> None:
    api, url = server
    (tmp_path / "sitecustomize.py").write_text(
        "import asyncio, time\n"
        "from lws_runtime.operator import process\n"
        "class Stuck(process.Leading):\n"
        "    async def run(self):\n"
        "        try: await asyncio.to_thread(time.sleep, 60)\n"  # such as a name that is looked up
        "        finally:\n"
        "            while True:\n"
        "                try: await asyncio.sleep(60)\n"
        "                except asyncio.CancelledError: pass\n"
        "process.Leading = Stuck\n"
        "from lws_runtime.cli import operator\n"
        "operator._END_S = 1.0\n"
    )
    started = launch(tmp_path, kubeconfig(tmp_path, url), PYTHONPATH=before(tmp_path))
    wait_for(lambda: api.leases.holder)
    api.leases.renew("other")
    code, _, err = end_of(started, 40.0)  # rather than the minute that it sleeps
    assert code == 1
    assert "is lost: other leads: standing by" in err


def test_process_whose_threads_hang_must_end_with_the_reason(tmp_path: Path, server: tuple[Api, str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import asyncio, time\n"
        "from lws_runtime.operator import process\n"
        "async def stuck(*_, **__):\n"
        "    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)\n"
        "    raise process.Unusable('no')\n"
        "process.lead = stuck\n"
        "from lws_runtime.cli import operator\n"
        "operator._END_S = 1.0\n"
    )
    started = launch(tmp_path, kubeconfig(tmp_path, server[1]), PYTHONPATH=before(tmp_path))
    code, _, err = end_of(started, 40.0)
    assert (code, err.splitlines()[-1]) == (1, "error: no")


@pytest.mark.parametrize("what", ["missing", "no-yaml", "plugin", "unauthorised", "old"])
def test_process_must_say_in_one_line_why_a_cluster_cannot_be_used(
    tmp_path: Path, server: tuple[Api, str], what: str
) -> None:
    api, url = server
    config = kubeconfig(tmp_path, url, {"token": "secret"})
    words = {
        "missing": "cannot be read: No such file",
        "no-yaml": str(config),
        "plugin": "the plugin 'false' ended with code 1",
        "unauthorised": "not authorised: 401 Unauthorized",
        "old": "Kubernetes v1.26.1 is too old",
    }[what]
    if what == "missing":
        config.unlink()
    elif what == "no-yaml":
        config.write_text("users: [{token: secret")
    elif what == "plugin":
        exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}
        kubeconfig(tmp_path, url, {"exec": exec_})
    elif what == "unauthorised":
        api.answers["/version"] = lambda: refusal(401, "Unauthorized")
    else:
        api.version = {"major": "1", "minor": "26", "gitVersion": "v1.26.1"}
    code, out, err = end_of(launch(tmp_path, config))
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert words in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("output", "end"),
    [
        ("pipe", (141, "")),
        ("/dev/full", (74, "error: the output cannot be written: No space left on device\n")),
    ],
)
def test_dry_run_must_end_as_other_commands_where_it_cannot_print(
    tmp_path: Path, server: tuple[Api, str], output: str, end: tuple[int, str]
) -> None:
    api, url = server
    metadata = {"namespace": "default", "name": "serve", "uid": "u", "generation": 1, "resourceVersion": "4"}
    item = thaw(a_set(metadata=metadata))
    api.answers[f"{SETS}/leaderworkersets"] = lambda: answer(
        {"metadata": {"resourceVersion": "5"}, "items": [item]}
    )
    if output == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(output, os.O_WRONLY)
    started = launch(tmp_path, kubeconfig(tmp_path, url), "--dry-run", "--zap-log-level=panic", out=writing)
    os.close(writing)
    code, _, err = end_of(started)
    assert (code, err) == end


def test_process_must_log_a_bug_with_its_traceback_and_end_with_1(
    tmp_path: Path, server: tuple[Api, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from lws_runtime.operator import process\n"
        "async def explode(*_, **__): raise ZeroDivisionError('a bug')\n"
        "process.lead = explode\n"
    )
    started = launch(tmp_path, kubeconfig(tmp_path, server[1]), PYTHONPATH=before(tmp_path))
    code, _, err = end_of(started)
    assert code == 1
    last = json.loads(err.splitlines()[-1])
    assert last["msg"] == "a bug: the operator failed"
    assert "ZeroDivisionError: a bug" in last["error"]


def test_certificate_of_the_metrics_that_cannot_be_used_must_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> Any:
        raise ssl.SSLError(9, "[SSL] PEM lib")

    monkeypatch.setattr(process, "metrics_context", broken)
    client = Client(Connection("http://localhost"), user_agent="x")

    async def body() -> None:
        await process._serve_metrics(Settings(), client, Metrics(), AsyncExitStack())

    with pytest.raises(
        Unusable, match=r"certificate in /tmp/k8s-metrics-server/serving-certs: \[SSL\] PEM lib"
    ):
        asyncio.run(body())


def test_waiting_must_name_every_reason() -> None:
    waiting = process._Waiting()
    assert waiting() == "the API server has not answered yet"
    waiting.say("server", "")
    waiting.say("crd", "there is no CRD")
    assert waiting() == "there is no CRD"
    waiting.say("crd", "")
    assert waiting() == ""


def test_waiting_must_say_what_stands_in_the_way_of_the_certificates() -> None:
    client: Any = None
    waiting = process._Waiting()
    waiting.say("server", "")
    waiting.webhooks = Webhooks(ServerSettings("127.0.0.1", 0, "/certs"))
    assert waiting() == "the webhooks are not served yet"
    waiting.keeper = CertificateKeeper(client, "service", "secret", "lws-system", Path("/certs"))
    waiting.keeper.problem = "cannot read the Secret: 403"
    assert waiting() == (
        "the webhooks are not served yet; certificates are not in place: cannot read the Secret: 403"
    )
    waiting.keeper.problem = ""
    assert waiting() == "the webhooks are not served yet"
