"""The runtime against a real API server: lists and watches, rights, dry runs, metrics, ends."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import rights
import yaml
from client import Client as Admin
from client import Manifest
from conftest import NewOperator, StartKubelet
from control_plane import ControlPlane, Setup
from operator_process import Operator
from patience import Stopwatch
from proxy import Fault, Proxy
from sandbox import Sandbox
from test_resilience import set_of

from lws_core import names
from lws_runtime.kube import reflector as reflector_module
from lws_runtime.kube.client import Client
from lws_runtime.kube.connection import Connection, connect
from lws_runtime.kube.reflector import Reflector
from lws_runtime.kube.resources import RESOURCES

LEADING: Final = {"leaderElection": {"leaderElect": True}}
REVISION: Final = RESOURCES["ControllerRevision"]
Told = list[tuple[str, str]]


def revision(name: str, number: int = 1) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": name, "labels": {names.SET_NAME: "many"}},
        "revision": number,
        "data": {"spec": {}},
    }


def follow(
    connection: Connection,
    namespace: str,
    body: Callable[[Told, Reflector], Awaitable[None]],
) -> list[tuple[str, str, int]]:
    """Run `body` beside a reflector of revisions; the requests that were sent."""
    asked: list[tuple[str, str, int]] = []
    told: Told = []

    def observer(*request: Any) -> None:
        asked.append(request)

    async def run() -> None:
        async with Client(connection, user_agent="test", observer=observer) as client:
            reflector = Reflector(
                client,
                REVISION,
                lambda happened, item: told.append((happened, item["metadata"]["name"])),
                namespace=namespace,
                label=names.SET_NAME,
            )
            task = asyncio.create_task(reflector.run())
            try:
                await asyncio.wait_for(reflector.synced.wait(), 30)
                await asyncio.wait_for(body(told, reflector), 60)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    asyncio.run(run())
    return asked


async def until(check: Callable[[], Any]) -> None:
    while not check():
        await asyncio.sleep(0.02)


def test_lists_of_a_thousand_objects_must_be_paged_and_watched_on(sandbox: Sandbox) -> None:
    for number in range(1100):
        sandbox.create(revision(f"many-{number}"))

    async def body(told: Told, _: Reflector) -> None:
        assert len(told) == len(set(told)) == 1100
        sandbox.create(revision("later"))
        sandbox.delete("ControllerRevision", "many-7")
        await until(lambda: len(told) == 1102)
        assert told[1100:] == [("SEEN", "later"), ("GONE", "many-7")]

    asked = follow(connect(str(sandbox.plane.kubeconfig())), sandbox.name, body)
    assert [verb for verb, _, _ in asked[:4]] == ["GET", "GET", "GET", "WATCH"]


def test_lists_after_compaction_must_tell_what_is_gone(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reflector_module, "_RESUMES", 10**6)  # nothing but 410 makes it list again
    caplog.set_level(logging.INFO)
    for name in ("stays", "comes-back", "goes"):
        sandbox.create(revision(name))
    with Proxy(sandbox.plane) as proxy:
        config = yaml.safe_load(sandbox.plane.kubeconfig().read_text())
        token = config["users"][0]["user"]["token"]

        async def body(told: Told, _: Reflector) -> None:
            proxy.judge = lambda asked: Fault(503) if asked.watches else None
            proxy.break_watches()
            await until(lambda: "503: a fault" in caplog.text)  # nothing is heard from here on
            _change(sandbox)  # in this thread, as the API server ends with the one that starts it
            proxy.judge = lambda _: None
            await until(lambda: len(told) >= 6)
            assert told[3:] == [("GONE", "comes-back"), ("SEEN", "comes-back"), ("GONE", "goes")]

        follow(Connection(proxy.url, token=token), sandbox.name, body)
    assert any(record.message.startswith("listing controllerrevisions again: ") for record in caplog.records)


def _change(sandbox: Sandbox) -> None:
    sandbox.delete("ControllerRevision", "goes")
    sandbox.delete("ControllerRevision", "comes-back")
    sandbox.create(revision("comes-back"))
    sandbox.plane.compact()
    sandbox.plane.restart_api_server()


# -- rights


def account(plane: ControlPlane, namespace: str, name: str) -> str:
    """A token of a new ServiceAccount."""
    admin = plane.client()
    metadata = {"namespace": namespace, "name": name}
    admin.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answered: Any = admin.request(
        "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request
    )
    return str(answered["status"]["token"])


def grant_in(admin: Admin, plane: ControlPlane, namespace: str, name: str) -> None:
    """What docs/operator.md, "Namespaces" gives in each namespace, and nothing else."""
    role = next(
        one
        for one in rights.rendered(plane.programs["kubectl"])
        if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", "lws-manager-role")
    )
    wanted = {"leaderworkersets", "statefulsets", "controllerrevisions", "pods", "services", "events"}
    rules = [rule for rule in role["rules"] if {one.partition("/")[0] for one in rule["resources"]} <= wanted]
    api, metadata = "rbac.authorization.k8s.io/v1", {"namespace": namespace, "name": name}
    admin.create({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules})
    admin.create(
        {
            "apiVersion": api,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }
    )


def with_token(operator: Operator, token: str) -> None:
    path = operator.folder / "kubeconfig"
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"] = {"token": token}
    path.write_text(yaml.safe_dump(config))


def test_namespaces_must_need_roles_there_and_nothing_else(
    sandbox: Sandbox, start_kubelet: StartKubelet, new_operator: NewOperator, cluster: ControlPlane
) -> None:
    start_kubelet(sandbox, load_s=0.1)
    token = account(cluster, sandbox.name, "narrow")
    grant_in(cluster.client(), cluster, sandbox.name, "narrow")
    narrow = Admin(cluster.url, cluster.authority.certificate_file, token)
    sandbox.wait("the Role counts", lambda: narrow.all("v1", "Pod", sandbox.name) == [])
    narrow.close()
    operator = new_operator("narrow", config={"lws": {"namespaces": [sandbox.name]}})
    with_token(operator, token)
    operator.start()
    operator.register_webhooks()
    sandbox.apply(set_of("narrow"))
    sandbox.wait_ready("narrow", 3)
    sandbox.apply(set_of("narrow", image="img:2"))
    sandbox.wait(
        "it has rolled out",
        lambda: (
            {pod["spec"]["containers"][0]["image"] for pod in sandbox.pods("narrow").values()} == {"img:2"}
        ),
        60,
    )
    assert scrape(operator, token) == 503
    log = operator.tail(10**6)
    assert "cannot follow" not in log
    assert "cannot ask who may read the metrics: tokenreviews: 403" in log


def test_metrics_must_be_read_by_those_alone_who_may(
    sandbox: Sandbox, operator: Operator, cluster: ControlPlane
) -> None:
    allowed, denied = (account(cluster, sandbox.name, name) for name in ("scraper", "stranger"))
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{sandbox.name}-scraper"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "lws-metrics-reader",
        },
        "subjects": [{"kind": "ServiceAccount", "namespace": sandbox.name, "name": "scraper"}],
    }
    cluster.client().create(binding)
    sandbox.wait("the binding counts", lambda: scrape(operator, allowed) == 200, 90, 5.0)
    assert scrape(operator, denied) == 403
    assert scrape(operator, "made-up") == 401
    assert scrape(operator, "") == 401
    for token in (allowed, denied, "made-up"):
        assert token not in operator.tail(10**7)


def scrape(operator: Operator, token: str) -> int:
    untrusting = ssl._create_unverified_context()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"https://127.0.0.1:{operator.metrics_port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=15, context=untrusting) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_token_that_nobody_knows_must_end_it_with_1_and_one_line(
    sandbox: Sandbox, new_operator: NewOperator
) -> None:
    operator = new_operator("unknown")
    with_token(operator, "made-up")
    process = operator.launch()
    assert process.wait(90) == 1
    lines = operator.tail().splitlines()
    assert len(lines) == 1
    assert re.match(r"error: kubeconfig .*: not authorised: 401 Unauthorized", lines[0])


# -- what it does without a cluster of its own


def test_dry_run_beside_another_never_prints_at_rest_and_never_writes(
    sandbox: Sandbox, start_kubelet: StartKubelet, new_operator: NewOperator
) -> None:
    start_kubelet(sandbox, load_s=0.1)
    first = new_operator("acts", config=LEADING).start()
    first.register_webhooks()
    sandbox.apply(set_of("shown"))
    sandbox.wait_ready("shown", 3)
    sandbox.wait_quiet()
    second = new_operator("shows", config={"lws": {"dryRun": True, "namespaces": [sandbox.name]}}).start()
    sandbox.wait("it has listed all", lambda: "all objects listed" in second.tail(10**6))
    time.sleep(2.0)
    assert printed(second) == []
    first.stop()
    mark = sandbox.plane.audit.mark()
    sandbox.client.delete("v1", "Service", sandbox.name, "shown")
    sandbox.wait("it shows what it would do", lambda: printed(second), 60)
    time.sleep(2.0)
    assert [line for line in printed(second) if "Service shown" in line] == [
        line for line in printed(second) if "would create" in line
    ]
    assert len(printed(second)) == len(set(printed(second)))
    assert sandbox.writes("operator", mark) == []


def printed(operator: Operator) -> list[str]:
    return [line for line in operator.tail(10**6).splitlines() if ": would " in line]


def test_sigterm_must_end_it_in_time_while_it_is_busy(
    sandbox: Sandbox, start_kubelet: StartKubelet, new_operator: NewOperator
) -> None:
    start_kubelet(sandbox, load_s=0.2)
    operator = new_operator("busy", config=LEADING).start()
    operator.register_webhooks()
    for turn in range(3):
        for number in range(4):
            sandbox.apply(set_of(f"busy-{number}", replicas=4, image=f"img:{turn}"))
        time.sleep(0.4 * turn)
        assert operator.process is not None
        with Stopwatch(operator.process.pid) as watch:
            assert operator.stop() == 0
        assert watch.took_s < 5
        lease = sandbox.plane.client().get(
            "coordination.k8s.io/v1", "Lease", rights.NAMESPACE, "b8b2488c.x-k8s.io"
        )
        assert lease is not None
        assert lease["spec"].get("holderIdentity", "") == ""
        operator.start()


def test_cluster_without_the_crd_must_be_told_and_waited_for(
    tmp_path: Path, programs: dict[str, Path], crd: Manifest
) -> None:
    with ControlPlane(tmp_path / "bare", programs, Setup()) as plane:
        rights.grant(plane)
        operator = Operator(plane, "early")
        try:
            operator.launch()
            _wait(lambda: "has no CustomResourceDefinition" in operator.get("/readyz")[1])
            assert operator.get("/readyz")[0] == 503
            assert operator.get("/healthz")[0] == 200
            plane.install_crd(crd)
            operator.wait_ready()
        finally:
            assert operator.stop() == 0


def _wait(check: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
