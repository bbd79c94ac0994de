"""Requests and streams against servers that answer as no API server should."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from loopback import answer, client_of, refusal, serving, speaking, until

from lws_runtime.kube import client as client_module
from lws_runtime.kube.client import Answer, Client
from lws_runtime.kube.connection import Connection
from lws_runtime.tls import TlsSettings, server_context
from lws_runtime.webhook.certificates import self_signed


async def ok(_: web.Request) -> web.Response:
    return answer({"ok": True})


async def asks(url: str, **how: Any) -> Answer:
    async with client_of(url) as client:
        return await client.request("GET", "/version", **how)


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    "said",
    [
        (),
        (b"\x16\x03\x01 what is this",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,),
    ],
    ids=["nothing", "garbage", "half", "chunks", "gzip", "headers"],
)
def test_requests_never_raise_whatever_comes_back(said: tuple[bytes, ...]) -> None:
    async def run() -> Answer:
        async with speaking(*said) as url:
            return await asks(url)

    answered = asyncio.run(run())
    assert answered.code == 0
    assert answered.message != ""


def test_requests_never_raise_where_nobody_listens_or_the_url_is_none() -> None:
    async def run(url: str) -> Answer:
        return await asks(url)

    assert "Cannot connect" in asyncio.run(run(f"http://127.0.0.1:{closed_port()}")).message
    assert asyncio.run(run("http://:::not a url")).code == 0


def test_requests_always_end_in_time_when_a_body_is_slow() -> None:
    async def run() -> tuple[Answer, float]:
        began_s = time.monotonic()
        async with speaking(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nha", silent=True) as url:
            answered = await asks(url, timeout_s=0.2)
            return answered, time.monotonic() - began_s

    answered, took_s = asyncio.run(run())
    assert (answered.code, answered.message) == (0, "no answer within 0.2 s")
    assert took_s < 5.0  # rather than the ten that a request has unless told otherwise


def test_redirects_are_never_followed() -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async def run() -> Answer:
        async with serving(elsewhere) as url, client_of(url) as client:
            return await client.request("POST", "/here", body=b"{}")

    assert asyncio.run(run()).code == 307
    assert seen == ["/here"]


def test_refusals_must_carry_the_servers_words_and_its_wait() -> None:
    async def busy(_: web.Request) -> web.Response:
        return answer({"kind": "Status", "message": "too many"}, 429, {"Retry-After": "7"})

    async def run(handle: Callable[[web.Request], Awaitable[web.Response]]) -> Answer:
        async with serving(handle) as url:
            return await asks(url)

    answered = asyncio.run(run(busy))
    assert (answered.code, answered.message, answered.retry_after_s) == (429, "too many", 7.0)
    assert not answered.ok


@pytest.mark.parametrize("text", ["", "Wed, 21 Oct 2015 07:28:00 GMT", "-1", "1e9", "999999999999"])
def test_waits_that_make_no_sense_must_count_as_none(text: str) -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": text}, text="not JSON " * 100)

    async def run() -> Answer:
        async with serving(busy) as url:
            return await asks(url)

    answered = asyncio.run(run())
    assert answered.retry_after_s == 0.0
    assert answered.message == ("not JSON " * 100)[:300]
    assert answered.json() is None


def test_tokens_must_be_read_again_when_they_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    given: list[str] = []

    async def only_new(request: web.Request) -> web.Response:
        given.append(request.headers["Authorization"])
        return answer({}) if given[-1] == "Bearer new" else refusal(401, "Unauthorized")

    async def run() -> list[int]:
        async with serving(only_new) as url:
            connection = Connection(url, token_file=file)
            async with client_of(url, connection=connection) as client:
                first = await client.request("GET", "/")
                file.write_text("new")
                return [first.code, (await client.request("GET", "/")).code]

    assert asyncio.run(run()) == [401, 200]
    assert given == ["Bearer old", "Bearer old", "Bearer new"]


def test_requests_that_are_refused_at_once_must_all_be_sent_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    waiting: list[asyncio.Event] = []

    async def only_new(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer new":
            return answer({})
        if request.path != "/first":
            waiting.append(asyncio.Event())
            await waiting[-1].wait()
        return refusal(401, "Unauthorized")

    async def run() -> list[int]:
        async with (
            serving(only_new) as url,
            client_of(url, connection=Connection(url, token_file=file)) as client,
        ):
            await client.request("GET", "/first")
            file.write_text("new")
            asking = [asyncio.create_task(client.request("GET", "/")) for _ in range(3)]
            await until(lambda: len(waiting) == 3)
            for number, event in enumerate(waiting, 1):  # one hears of it after the other
                event.set()
                await until(lambda number=number: sum(one.done() for one in asking) == number)
            return [(await one).code for one in asking]

    assert asyncio.run(run()) == [200, 200, 200]


def test_credentials_that_cannot_be_had_never_raise_and_never_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def run(connection: Connection) -> Answer:
        async with client_of("", connection=connection) as client:
            return await client.request("GET", "/")

    async def both() -> tuple[Answer, Answer]:
        async with serving(ok) as url:
            missing = await run(Connection(url, token_file=tmp_path / "none"))
            return missing, await run(Connection(url, token="secret\r\nX-Other: secret"))

    missing, injected = asyncio.run(both())
    assert missing.code == injected.code == 0
    assert str(tmp_path / "none") in missing.message
    assert "secret" not in injected.message + caplog.text


def test_certificates_that_are_not_trusted_must_be_told_apart(tmp_path: Path) -> None:
    certificate, key = self_signed("localhost", now_s=time.time())
    other, _ = self_signed("localhost", now_s=time.time())
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)

    async def run(trusted: bytes) -> Answer:
        tls = server_context(TlsSettings(), tmp_path / "tls.crt", tmp_path / "tls.key")
        async with serving(ok, tls) as url:
            trusts = ssl.create_default_context(cadata=trusted.decode())
            async with client_of(url, connection=Connection(url, ssl_context=trusts)) as client:
                return await client.request("GET", "/")

    assert asyncio.run(run(certificate)).code == 200
    distrusted = asyncio.run(run(other))
    assert (distrusted.code, distrusted.distrusted) == (0, True)
    assert "certificate verify failed" in distrusted.message


def test_rate_must_be_kept_except_by_what_goes_at_once() -> None:
    async def run() -> tuple[float, float]:
        async with serving(ok) as url, client_of(url, qps=20.0, burst=1) as client:
            began_s = time.monotonic()
            await asyncio.gather(*(client.request("GET", "/") for _ in range(6)))
            limited_s = time.monotonic() - began_s
            waiting = [asyncio.create_task(client.request("GET", "/")) for _ in range(200)]  # for 10 s
            await asyncio.sleep(0)
            began_s = time.monotonic()
            await client.request("GET", "/", at_once=True)
            at_once_s = time.monotonic() - began_s
            for task in waiting:
                task.cancel()
            return limited_s, at_once_s

    limited_s, at_once_s = asyncio.run(run())
    assert limited_s >= 0.24
    assert at_once_s < 5.0


def test_nothing_is_ever_sent_that_may_not_be_after_all_waiting() -> None:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.path)
        return answer({})

    async def run() -> Answer:
        allowed = [True]
        async with serving(note) as url, client_of(url, qps=1.0, burst=1) as client:
            await client.request("GET", "/first")
            late = asyncio.create_task(
                client.request("GET", "/late", may_send=lambda: allowed[0])  # waits for the rate
            )
            await asyncio.sleep(0.02)
            allowed[0] = False
            return await late

    assert asyncio.run(run()).code == 0
    assert seen == ["/first"]


@pytest.mark.parametrize(
    ("method", "times"), [("DELETE", 1), ("PUT", 1), ("PATCH", 1), ("POST", 1), ("GET", 2)]
)
def test_writes_never_are_sent_again_unasked_where_a_connection_is_lost(method: str, times: int) -> None:
    """The connection has been in use, and ends without an answer. Reads may be sent again."""
    seen: list[str] = []

    async def lose(request: web.Request) -> web.Response:
        if request.path == "/write":
            seen.append(request.method)
            assert request.transport is not None
            request.transport.abort()
        return answer({})

    async def run() -> Answer:
        async with serving(lose) as url, client_of(url) as client:
            await client.request("GET", "/before")
            return await client.request(method, "/write", body=None if method == "GET" else b"{}")

    answered = asyncio.run(run())
    assert (answered.code, seen) == (0, [method] * times)
    assert answered.message != ""


def test_watches_never_keep_requests_out(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    async def hang(request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return answer({})
        response = web.StreamResponse()
        await response.prepare(request)
        opened.append(request.path)
        await asyncio.sleep(60)
        return response

    async def watch(client: Client) -> None:
        async with client.stream("/watch", {}, silence_s=60) as stream:
            await stream.content.read()

    async def run() -> Answer:
        async with serving(hang) as url, client_of(url, qps=None) as client:
            watches = [asyncio.create_task(watch(client)) for _ in range(120)]
            await until(lambda: len(opened) == 120)
            answered = await client.request("GET", "/version", timeout_s=30.0)
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            return answered

    assert asyncio.run(run()).code == 200


def test_sockets_must_notice_a_dead_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    make = client_module._socket

    def noted(address: Any) -> socket.socket:
        made.append(make(address))
        assert made[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert made[-1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 20
        return made[-1]

    monkeypatch.setattr(client_module, "_socket", noted)

    async def run() -> int:
        async with serving(ok) as url:
            return (await asks(url)).code

    assert asyncio.run(run()) == 200
    assert made, "requests go over sockets made otherwise"


@pytest.mark.parametrize(
    ("said", "silent"),
    [((), False), ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), False), ((), True)],
    ids=["closed", "half", "silent"],
)
def test_streams_must_fail_as_the_network_does(said: tuple[bytes, ...], silent: bool) -> None:
    async def run() -> None:
        async with (
            speaking(*said, silent=silent) as url,
            client_of(url) as client,
            client.stream("/", {}, silence_s=0.2) as stream,
        ):
            await stream.content.read()

    with pytest.raises(OSError, match=r".+"):
        asyncio.run(run())


@pytest.mark.parametrize("said", [(), (b"HTTP/1.1 200 OK\r\n\r\n",)], ids=["no-tunnel", "no-handshake"])
def test_streams_never_wait_without_end_for_a_proxy(
    monkeypatch: pytest.MonkeyPatch, said: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(client_module, "_HEADERS_S", 0.2)

    async def run() -> None:
        async with speaking(*said, silent=True) as proxy:
            connection = Connection("https://localhost:1", proxy=proxy)
            async with (
                asyncio.timeout(60),
                client_of("", connection=connection) as client,
                client.stream("/", {}, silence_s=0.2),
            ):
                pass

    with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", b"garbage\r\n\r\n"],
    ids=["refused", "garbage"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_password_of_a_proxy_must_go_to_the_proxy_and_never_be_told(
    caplog: pytest.LogCaptureFixture, scheme: str, said: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    heard: list[bytes] = []
    told: list[str] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(said)
        await writer.drain()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            proxy = f"http://me:s%40cret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
            connection = Connection(f"{scheme}://localhost:1", proxy=proxy)
            async with client_of("", connection=connection) as client:
                told.append((await client.request("GET", "/")).message)
                with suppress(OSError):
                    async with client.stream("/", {}, silence_s=1) as stream:
                        told.append(str(stream.code))
            unreachable = Connection(
                "https://localhost:1", proxy=f"http://me:s%40cret@localhost:{closed_port()}"
            )
            async with client_of("", connection=unreachable) as client:
                told.append((await client.request("GET", "/")).message)
                with pytest.raises(OSError, match="localhost") as raised:
                    async with client.stream("/", {}, silence_s=1):
                        pass
                told.append(str(raised.value))

    asyncio.run(run())
    login = b"Proxy-Authorization: Basic " + b64encode(b"me:s@cret")
    assert len(heard) == 2
    assert all(request.count(login) == 1 for request in heard)
    assert not any(word in " ".join([*told, caplog.text]) for word in ("s%40cret", "s@cret"))
    if scheme == "https" and b"407" in said:
        assert told[0] == "the proxy answered 407 Proxy Authentication Required"


@pytest.mark.parametrize(
    "how", [{"token": "secret\nsecret"}, {"basic": "secret\nsecret"}], ids=["token", "else"]
)
def test_streams_must_fail_as_the_network_does_where_credentials_cannot_be_sent(how: dict[str, Any]) -> None:
    async def run() -> None:
        async with (
            serving(ok) as url,
            client_of("", connection=Connection(url, **how)) as client,
            client.stream("/", {}, silence_s=1),
        ):
            pass

    with pytest.raises(OSError, match=r".+") as raised:
        asyncio.run(run())
    assert "secret" not in str(raised.value)


def test_streams_never_take_a_readers_bug_for_the_network() -> None:
    async def run() -> None:
        async with serving(ok) as url, client_of(url) as client, client.stream("/", {}, silence_s=1):
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(run())


def test_observers_must_hear_of_each_request_once() -> None:
    heard: list[Any] = []

    async def run() -> None:
        def observer(*told: Any) -> None:
            heard.append(told)

        async with serving(ok) as url, client_of(url, observer=observer) as client:
            await client.request("PUT", "/a", body=b"{}")
            async with client.stream("/b", {}, silence_s=1):
                pass

    asyncio.run(run())
    assert heard == [("PUT", "/a", 200), ("WATCH", "/b", 200)]
