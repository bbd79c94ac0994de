"""What a client of the probes and the metrics can cost, who says nothing or asks and does not end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from aiohttp import web

from lws_runtime import ports
from lws_runtime.config import Address
from lws_runtime.operator import health
from lws_runtime.operator.health import serve_metrics, serve_probes
from lws_runtime.operator.metrics import Metrics
from lws_runtime.operator.self_signed import metrics_context
from lws_runtime.ports import Bounds, Handler, Port, open_port
from lws_runtime.tls import TlsSettings

HERE = Address("127.0.0.1", 0)
MOST = 5
FEW = Bounds(connections=MOST, handshake_s=5.0, request_s=10.0, answer_s=60.0, idle_s=None, last_s=0.3)
WRITERS: list[asyncio.StreamWriter] = []


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BOUNDS", FEW)


def run(port: Callable[[], Awaitable[Port]], body: Callable[[Port], Awaitable[Any]]) -> Any:
    async def inner() -> Any:
        opened = await port()
        try:
            return await asyncio.wait_for(body(opened), 60)
        finally:
            await opened.cleanup()
            for writer in WRITERS:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in WRITERS), return_exceptions=True)
            WRITERS.clear()

    return asyncio.run(inner())


def a_port(handler: Handler, bounds: Bounds = FEW) -> Port:
    return open_port(HERE.host, HERE.port, handler, None, bounds)


async def probes() -> Port:
    return await serve_probes(HERE, ready_path="/readyz", live_path="/healthz", ready=lambda: "")


async def metrics() -> Port:
    async def anybody(_: str) -> int:
        return 200

    return await serve_metrics(HERE, Metrics().snapshot, tls=metrics_context(TlsSettings()), allowed=anybody)


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def connect(port: Port, tls: ssl.SSLContext | None = None) -> asyncio.StreamReader:
    """A connection that says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number, ssl=tls)
    WRITERS.append(writer)
    return reader


async def ask(port: Port, path: str, tls: ssl.SSLContext | None = None, method: str = "GET") -> str:
    """The answer to a request; "" where the connection is closed without one."""
    reader = await connect(port, tls)
    WRITERS[-1].write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n".encode())
    try:
        return (await reader.read()).decode()
    except ConnectionError:
        return ""


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 30) == b""
    except ConnectionError:
        return True


async def settled(port: Port, count: int) -> None:
    while port.guests != count:
        await asyncio.sleep(0.005)


def test_probes_must_be_answered_however_many_connections_are_held_open() -> None:
    async def body(port: Port) -> None:
        held = [await connect(port) for _ in range(4 * MOST)]
        await settled(port, MOST)
        for path in ("/healthz", "/readyz"):
            assert (await ask(port, path)).startswith("HTTP/1.1 200 OK")
        assert port.guests <= MOST
        for reader in held[: 3 * MOST]:
            assert await is_closed(reader)

    run(probes, body)


@pytest.mark.parametrize("shakes_hands", [False, True])
def test_metrics_must_be_answered_however_many_connections_are_held_open(shakes_hands: bool) -> None:
    async def body(port: Port) -> None:
        held = [await connect(port, trusting() if shakes_hands else None) for _ in range(4 * MOST)]
        await settled(port, MOST)
        assert (await ask(port, "/metrics", trusting())).endswith("lws_stalled gauge\n")
        assert port.guests <= MOST
        assert await is_closed(held[0])

    run(metrics, body)


@pytest.mark.parametrize("bound", ["handshake_s", "request_s"])
def test_connection_that_says_nothing_must_be_closed(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(health, "BOUNDS", attrs.evolve(FEW, **{bound: 0.05}))

    async def body(port: Port) -> None:
        assert await is_closed(await connect(port))
        await settled(port, 0)

    run(metrics, body)


def test_answer_that_does_not_come_to_its_end_must_be_given_up() -> None:
    async def hang(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def port() -> Port:
        return a_port(hang, attrs.evolve(FEW, answer_s=0.05))

    async def body(port: Port) -> None:
        assert await ask(port, "/") == ""

    run(port, body)


def test_those_being_answered_never_are_closed_for_new_ones() -> None:
    go_on = asyncio.Event()

    async def wait(_: web.BaseRequest) -> web.Response:
        await go_on.wait()
        return web.Response(text="waited")

    async def port() -> Port:
        return a_port(wait)

    async def body(port: Port) -> None:
        asking = [asyncio.create_task(ask(port, "/")) for _ in range(MOST)]
        while port.served < MOST:
            await asyncio.sleep(0.005)
        assert await is_closed(await connect(port))
        go_on.set()
        assert all(answer.endswith("waited") for answer in await asyncio.gather(*asking))

    run(port, body)


def test_each_request_must_have_a_connection_of_its_own() -> None:
    async def body(port: Port) -> None:
        for answer in [await ask(port, "/healthz"), await ask(port, "/nothing")]:
            assert "\r\nConnection: close\r\n" in answer

    run(probes, body)


def test_requests_that_are_none_of_the_ports_must_be_refused() -> None:
    async def body(port: Port) -> None:
        assert (await ask(port, "/nothing")).startswith("HTTP/1.1 404 ")
        assert (await ask(port, "/healthz", method="POST")).startswith("HTTP/1.1 405 ")
        assert (await ask(port, "/healthz", method="HEAD")).startswith("HTTP/1.1 200 ")

    run(probes, body)


@pytest.mark.parametrize("said", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"])
def test_what_is_no_request_must_be_refused_and_never_is_logged(
    caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    async def body(port: Port) -> None:
        reader = await connect(port)
        WRITERS[-1].write(said)
        assert b" 400 Bad Request" in await reader.read()
        await settled(port, 0)

    run(probes, body)
    assert caplog.records == []


def test_bug_in_an_answer_must_be_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: web.BaseRequest) -> web.Response:
        raise ZeroDivisionError

    async def port() -> Port:
        return a_port(fail)

    async def body(port: Port) -> None:
        assert (await ask(port, "/")).startswith("HTTP/1.1 500 ")

    run(port, body)
    assert [record.message for record in caplog.records] == ["a bug: a request failed with ZeroDivisionError"]
    assert caplog.records[0].exc_info


def test_port_that_takes_no_connection_for_a_while_must_say_so_once_and_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ports, "_ACCEPT_AGAIN_S", 0.01)

    async def body(port: Port) -> None:
        loop = asyncio.get_running_loop()
        accept, failures = loop.sock_accept, [OSError(24, "Too many open files")] * 3

        async def fail(listener: Any) -> Any:
            if failures:
                raise failures.pop()
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", fail)
        for _ in range(2):  # the first is taken by the accept that is under way
            assert "200 OK" in await ask(port, "/healthz")
        monkeypatch.undo()

    run(probes, body)
    assert [record.message.partition(" takes ")[2] for record in caplog.records] == [
        "no connection: Too many open files"
    ]


@pytest.mark.parametrize("host", ["", "::", "0.0.0.0"])
def test_every_interface_must_mean_both_families_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    asked: list[tuple[Any, Any]] = []

    def create_server(address: tuple[str, int], **how: Any) -> None:
        asked.append((address, how.get("dualstack_ipv6")))

    monkeypatch.setattr(socket, "create_server", create_server)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    ports._listen(host, 8443, 1)
    assert asked == [(("", 8443), True)]
