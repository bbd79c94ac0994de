"""What is told to Prometheus, what docs/operator.md says of it, and who may read it."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from loopback import answer, client_of, refusal, serving, until
from machine import at_rest, live
from prometheus_client.parser import text_string_to_metric_families

from lws_core import controller, names
from lws_core.actions import Delete, Ref
from lws_core.codec import encode
from lws_core.evidence import Evidence
from lws_core.memory import Memory
from lws_core.sights import Outcome
from lws_core.spec import Condition
from lws_core.summary import Summary
from lws_core.values import evolve
from lws_runtime.config import Address
from lws_runtime.kube.client import Client
from lws_runtime.operator.health import serve_metrics, serve_probes
from lws_runtime.operator.manager import Machine, Manager
from lws_runtime.operator.metrics import Metrics, Snapshot
from lws_runtime.operator.process import TokenReviews
from lws_runtime.operator.self_signed import metrics_context
from lws_runtime.tls import TlsSettings
from lws_runtime.webhook.certificates import self_signed

PAGE = Path(__file__).parents[2] / "docs" / "operator.md"


def machine_of(memory: Memory, name: str = "serve") -> Machine:
    return Machine("default", name, memory)


async def unsent(*_: object) -> Outcome:
    raise AssertionError


def filled() -> Metrics:
    """Metrics in which every series there can be has a value."""
    metrics = Metrics()
    bench = at_rest(encode(live()))
    machine = machine_of(bench.memory)
    metrics.manager = Manager(unsent)
    metrics.manager.machines["default", "serve"] = machine

    @attrs.define
    class Followed:
        name: str = "pods"
        namespace: str = "default"
        synced: asyncio.Event = attrs.Factory(asyncio.Event)
        heard_at_s: float = attrs.Factory(time.monotonic)

    metrics.reflectors = [Followed()]  # type: ignore[list-item]
    metrics.requested("GET", "/version", 200)
    metrics.turned(machine, controller.start(), 0.001)
    for words in ({names.UPDATE_IN_PROGRESS: "Rolling"}, {names.AVAILABLE: "All", names.STALLED: "NodeLost"}):
        before, machine.memory = machine.memory, told(machine.memory, **words)
        metrics.turned(machine, attrs.evolve(before, summary=Summary()), 0.001)
    metrics.answered(machine, recreation(), Outcome(200))
    metrics.failed(machine)
    metrics.dropped()
    return metrics


def told(memory: Memory, **reasons: str) -> Memory:
    """The memory of a set whose status has these conditions."""
    assert memory.lws is not None
    conditions = tuple(Condition(name, "True", reason, "", "") for name, reason in reasons.items())
    status = attrs.evolve(memory.lws.status, conditions=conditions)
    return evolve(memory, lws=attrs.evolve(memory.lws, status=status))


def recreation() -> Delete:
    evidence = Evidence("serve-0", "Restarted")
    return Delete(Ref("Pod", "default", "serve-0"), "u", "1", "Foreground", "why", evidence)


def families(metrics: Metrics) -> dict[str, Any]:
    found = list(text_string_to_metric_families(metrics.snapshot().text().decode()))
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in found}


def section(heading: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    assert found is not None, f"docs/operator.md has no section {heading!r}"
    return found[1]


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in the section's table."""
    rows = [
        line.strip("| ").split(" | ") for line in section("Metrics").splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}


# -- what is told


def test_metrics_must_be_those_in_the_documentation() -> None:
    found = families(filled())
    assert {name: family.type for name, family in found.items()} == {
        name: kind for name, (kind, _) in documented().items()
    }


def test_labels_must_be_those_in_the_documentation() -> None:
    metrics = filled()
    wrong = []
    for name, family in families(metrics).items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        expected = documented()[name][1]
        if not (labels <= expected) or (family.samples and labels != expected):
            wrong.append(f"{name}: {sorted(labels)} where {sorted(expected)} are documented")
    assert wrong == []


def value(metrics: Metrics, series: str, /, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.snapshot().text().decode()):
        for sample in family.samples:
            if sample.name == series and sample.labels == labels:
                return sample.value
    return None


def test_nodes_never_count_as_what_holds_up_a_namespace() -> None:
    """Nothing waits until they are listed."""

    @attrs.define
    class Followed:
        name: str
        namespace: str = ""
        synced: asyncio.Event = attrs.Factory(asyncio.Event)
        heard_at_s: float = attrs.Factory(time.monotonic)

    metrics = Metrics()
    metrics.reflectors = [Followed("nodes"), Followed("pods")]  # type: ignore[list-item]
    assert value(metrics, "lws_not_listed", namespace="", resource="pods") == 1
    assert value(metrics, "lws_not_listed", namespace="", resource="nodes") is None
    assert value(metrics, "lws_watch_age_seconds", resource="nodes") is not None


def test_groups_must_each_count_in_one_state() -> None:
    metrics = filled()
    states = {sample.labels["state"]: sample.value for sample in families(metrics)["lws_groups"].samples}
    assert sum(states.values()) == 3
    told = section("Metrics").partition("States of a group")[2].partition("\n\n")[0]
    assert set(states) == set(re.findall(r"`(\w+)`", told))


def created(memory: Memory) -> Memory:
    """The memory with leaders that tell when they were created."""
    for index in range(3):
        record = memory.groups.get(index)
        assert record.group.leader is not None
        group = attrs.evolve(record.group, leader=attrs.evolve(record.group.leader, created_s=1.0))
        memory = evolve(memory, groups=memory.groups.put(attrs.evolve(record, group=group)))
    return memory


def test_groups_found_ready_at_the_start_never_count_as_just_loaded() -> None:
    memory, metrics = created(at_rest(encode(live())).memory), Metrics()
    metrics.turned(machine_of(memory), controller.start(), 0.001)
    assert value(metrics, "lws_group_ready_seconds_count", namespace="default", name="serve") is None
    other = machine_of(memory, "other")
    for _ in range(2):
        metrics.turned(other, attrs.evolve(controller.start(), synced=True), 0.001)
        assert value(metrics, "lws_group_ready_seconds_count", namespace="default", name="other") == 3.0


def test_recreations_must_be_counted_once_they_are_carried_out() -> None:
    metrics, machine = Metrics(), machine_of(controller.start())
    metrics.answered(machine, recreation(), Outcome(409))
    metrics.answered(machine, attrs.evolve(recreation(), evidence=None), Outcome(200))
    labels = {"namespace": "default", "name": "serve", "cause": "Restarted"}
    assert value(metrics, "lws_group_recreations_total", **labels) is None
    metrics.answered(machine, recreation(), Outcome(200))
    assert value(metrics, "lws_group_recreations_total", **labels) == 1.0


def test_series_of_a_set_never_outlive_it() -> None:
    metrics = filled()
    assert metrics.manager is not None
    assert b'name="serve"' in metrics.snapshot().text()
    metrics.forgotten(metrics.manager.machines.pop(("default", "serve")))
    assert b'name="serve"' not in metrics.snapshot().text()
    metrics.forgotten(machine_of(controller.start(), "never-seen"))


# -- who may read them


@attrs.define
class Judge:
    """Answers reviews as an API server does: `good` may, `bad` may not, others are not known."""

    fails: bool = False
    asked: list[str] = attrs.Factory(list)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(request.path.rpartition("/")[2])
        if self.fails:
            return refusal(403, "tokenreviews is forbidden")
        if request.path.endswith("tokenreviews"):
            token = body["spec"]["token"]
            known = token in ("good", "bad")
            user = {"username": token, "groups": ["g"]} if known else {}
            return answer({"status": {"authenticated": known, "user": user}}, 201)
        assert body["spec"]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        return answer({"status": {"allowed": body["spec"]["user"] == "good"}}, 201)


async def scrape(port: int, **headers: str) -> int:
    untrusting = ssl._create_unverified_context()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://127.0.0.1:{port}/metrics", headers=headers, ssl=untrusting) as response,
    ):
        return response.status


async def with_reviews(client: Client, *tokens: str | None, tls: TlsSettings = TlsSettings()) -> list[int]:  # noqa: B008
    port = await serve_metrics(
        Address("127.0.0.1", 0), Metrics().snapshot, tls=metrics_context(tls), allowed=TokenReviews(client)
    )
    try:
        headers = [{} if token is None else {"Authorization": token} for token in tokens]
        return [await scrape(port.number, **given) for given in headers]
    finally:
        await port.cleanup()


def scraped(judge: Judge, *tokens: str | None) -> list[int]:
    async def run() -> list[int]:
        async with serving(judge.handle) as url, client_of(url) as client:
            return await with_reviews(client, *tokens)

    return asyncio.run(run())


def test_scrape_never_holds_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of sets it takes seconds to write down."""
    threads: list[threading.Thread] = []
    text = Snapshot.text

    def noted(snapshot: Snapshot) -> bytes:
        threads.append(threading.current_thread())
        return text(snapshot)

    monkeypatch.setattr(Snapshot, "text", noted)
    assert scraped(Judge(), "Bearer good") == [200]
    assert threading.main_thread() not in threads
    assert len(threads) == 1


def test_metrics_must_be_read_by_those_alone_who_may() -> None:
    tokens = ("Bearer good", "bearer good", "Bearer bad", "Bearer unknown", "Basic good", "Bearer ", None)
    assert scraped(Judge(), *tokens) == [200, 200, 403, 401, 401, 401, 401]


@pytest.mark.parametrize("token", [b"\xff\xfe", "gööd".encode()])
def test_token_that_is_no_ascii_text_never_is_asked_about(token: bytes) -> None:
    async def allow(_: str) -> int:
        return 200

    async def run() -> bytes:
        port = await serve_metrics(Address("127.0.0.1", 0), lambda: b"", tls=None, allowed=allow)
        reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
            return await reader.readline()
        finally:
            writer.close()
            await port.cleanup()

    assert asyncio.run(run()) == b"HTTP/1.1 401 Unauthorized\r\n"


def test_tokens_must_be_reviewed_once_in_a_while_only() -> None:
    judge = Judge()
    assert scraped(judge, *["Bearer good"] * 5, *["Bearer unknown"] * 5) == [200] * 5 + [401] * 5
    assert judge.asked == ["tokenreviews", "subjectaccessreviews", "tokenreviews"]


def test_server_that_does_not_say_never_lets_anybody_read_nor_is_remembered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    judge = Judge(fails=True)

    async def run() -> list[int]:
        async with serving(judge.handle) as url, client_of(url) as client:
            reviews = TokenReviews(client)
            first = [await reviews("good"), await reviews("good")]
            judge.fails = False
            return [*first, await reviews("good")]

    assert asyncio.run(run()) == [503, 503, 200]
    assert [record.message for record in caplog.records] == [
        "cannot ask who may read the metrics: tokenreviews: 403 tokenreviews is forbidden"
    ]
    assert "good" not in caplog.text


def test_tokens_never_are_kept_as_they_are_nor_without_bound() -> None:
    async def run() -> TokenReviews:
        async with serving(Judge().handle) as url, client_of(url, qps=None) as client:
            reviews = TokenReviews(client)
            for number in range(1010):
                reviews._known[str(number).encode()] = (0.0, 401)
            await reviews("good")
            return reviews

    reviews = asyncio.run(run())
    assert len(reviews._known) == 1
    assert "good" not in repr(reviews._known)


def test_metrics_must_have_the_mounted_certificate_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("broken")
    with pytest.raises(OSError, match=r".+"):
        metrics_context(TlsSettings(), tmp_path)
    assert metrics_context(TlsSettings("VersionTLS13"), tmp_path / "none").minimum_version.name == "TLSv1_3"


def test_mounted_certificate_that_is_renewed_must_be_served_to_new_connections(tmp_path: Path) -> None:
    def put() -> bytes:
        certificate, key = self_signed("metrics", now_s=time.time())
        (tmp_path / "tls.crt").write_bytes(certificate)
        (tmp_path / "tls.key").write_bytes(key)
        return ssl.PEM_cert_to_DER_cert(certificate.decode())

    async def served(port: int) -> bytes | None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.close()
        await writer.wait_closed()
        return found

    async def nobody(_: str) -> int:
        return 403

    async def run() -> None:
        first = put()
        tls = metrics_context(TlsSettings(), tmp_path)
        port = await serve_metrics(Address("127.0.0.1", 0), Metrics().snapshot, tls=tls, allowed=nobody)
        try:
            assert await served(port.number) == first
            second = put()
            assert [await served(port.number) for _ in range(2)] == [second] * 2
            (tmp_path / "tls.key").write_text("of no use")
            assert await served(port.number) == second
            third = put()
            assert await served(port.number) == third
        finally:
            await port.cleanup()

    asyncio.run(run())


# -- probes


def test_probes_must_tell_why_it_is_not_ready_and_be_alive_all_the_same() -> None:
    async def run() -> list[tuple[int, str]]:
        reasons = ["the webhooks are not served yet", ""]
        port = await serve_probes(
            Address("127.0.0.1", 0), ready_path="/ready", live_path="/live", ready=lambda: reasons.pop(0)
        )
        base = f"http://127.0.0.1:{port.number}"
        found = []
        async with aiohttp.ClientSession() as session:
            for path in ("/live", "/ready", "/ready", "/metrics"):
                async with session.get(base + path) as response:
                    found.append((response.status, await response.text()))
        await port.cleanup()
        return found

    live_one, not_yet, ready, other = asyncio.run(run())
    assert live_one == ready == (200, "ok")
    assert not_yet == (503, "the webhooks are not served yet")
    assert other[0] == 404


def test_servers_never_wait_long_for_an_answer_when_they_end() -> None:
    asked: list[str] = []

    async def hang(token: str) -> int:
        asked.append(token)
        await asyncio.sleep(60)
        return 200

    async def run() -> float:
        port = await serve_metrics(
            Address("127.0.0.1", 0), Metrics().snapshot, tls=metrics_context(TlsSettings()), allowed=hang
        )
        asking = asyncio.create_task(scrape(port.number, Authorization="Bearer x"))
        await until(lambda: asked)
        began_s = time.monotonic()
        await port.cleanup()
        took_s = time.monotonic() - began_s
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return took_s

    assert asyncio.run(run()) < 20.0  # rather than the minute that it hangs
