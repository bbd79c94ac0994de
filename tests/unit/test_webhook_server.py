"""The webhook server as a process of its own, over real sockets and TLS on the loopback interface."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import random
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from patience import Stopwatch
from reviewing import MUTATE_POD, PATHS, VALIDATE_SET, review

from lws_core import names
from lws_core.options import Options
from lws_runtime.config import Settings, WebhookSettings
from lws_runtime.tls import TlsSettings
from lws_runtime.webhook import process, server
from lws_runtime.webhook.certificates import self_signed
from lws_runtime.webhook.process import Webhooks, server_settings
from lws_runtime.webhook.server import MAX_BODY, Certificate, Handler, ServerSettings, fingerprint

SET = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "serve", "namespace": "default"},
    "spec": {"leaderWorkerTemplate": {"workerTemplate": {"spec": {"containers": [{"name": "a"}]}}}},
}
HEADERS = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def pairs() -> list[tuple[bytes, bytes]]:
    return [self_signed("localhost", now_s=time.time()) for _ in range(3)]


def put(folder: Path, pair: tuple[bytes, bytes]) -> str:
    """A pair in a folder, where its server finds it; the fingerprint."""
    for name, content in zip(("tls.crt", "tls.key"), pair, strict=True):
        (folder / name).write_bytes(content)
    return fingerprint(pair[0])


def settings_for(folder: Path, **more: Any) -> ServerSettings:
    return ServerSettings(host="127.0.0.1", port=0, cert_dir=str(folder), poll_s=0.02, **more)


async def until(check: Callable[[], Any], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: ServerSettings) -> AsyncIterator[Webhooks]:
    webhooks = Webhooks(settings)
    await webhooks.start()
    try:
        yield webhooks
    finally:
        await webhooks.stop()


@attrs.define
class Client:
    """Asks a server; one connection unless told otherwise."""

    port: int
    session: aiohttp.ClientSession

    async def post(self, path: str, body: Any, **more: Any) -> tuple[int, bytes]:
        url = f"https://127.0.0.1:{self.port}{path}"
        async with self.session.post(url, data=body, **{"headers": HEADERS, **more}) as answer:
            return answer.status, await answer.read()

    async def allowed(self) -> bool:
        status, body = await self.post(f"{VALIDATE_SET}?timeout=10s", valid())
        assert status == 200
        return bool(json.loads(body)["response"]["allowed"])


def valid() -> bytes:
    return json.dumps(review(VALIDATE_SET, object=SET)).encode()


def trusting(*pairs: tuple[bytes, bytes]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata="".join(pair[0].decode() for pair in pairs))
    context.check_hostname = False
    return context


@asynccontextmanager
async def client(webhooks: Webhooks, *pairs: tuple[bytes, bytes], limit: int = 1) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=limit, ssl=trusting(*pairs))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(webhooks.port, session)
    await asyncio.sleep(0)


# -- serving


def test_server_must_answer_over_tls_once_there_is_a_certificate(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]]
) -> None:
    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(lambda: webhooks.pid)
            await asyncio.sleep(0.5)
            assert not webhooks.is_serving()
            mark = put(tmp_path, pairs[0])
            await until(webhooks.is_serving)
            assert webhooks.is_serving(mark)
            assert not webhooks.is_serving("another")
            async with client(webhooks, pairs[0]) as asking:
                assert await asking.allowed()
        assert not webhooks.is_serving()
        assert webhooks.pid is None

    asyncio.run(test())


def test_rotation_must_reach_new_connections_and_drop_none(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]]
) -> None:
    put(tmp_path, pairs[0])

    counts = [0, 0]

    async def ask(index: int, asking: Client, done: asyncio.Event) -> None:
        while not done.is_set():
            assert await asking.allowed()
            counts[index] += 1

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            done = asyncio.Event()
            # The first keeps one connection and knows the first certificate only; the other makes a
            # connection for each request.
            async with client(webhooks, pairs[0]) as keeping, client(webhooks, *pairs) as renewing:
                renewing.session.connector._force_close = True  # type: ignore[union-attr]
                tasks = [asyncio.create_task(ask(*one, done)) for one in enumerate((keeping, renewing))]
                for pair in (pairs[1], pairs[2], pairs[1]):
                    enough = min(counts) + 5
                    await until(lambda enough=enough: min(counts) >= enough or any(t.done() for t in tasks))
                    mark = put(tmp_path, pair)
                    await until(lambda mark=mark: webhooks.is_serving(mark))
                    shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", webhooks.port))
                    assert shown.strip() == pair[0].decode().strip()
                done.set()
                await asyncio.gather(*tasks)
                assert min(counts) > 10

    asyncio.run(test())


def test_pair_that_does_not_fit_must_not_be_served(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    mark = put(tmp_path, pairs[0])

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            for broken in ((pairs[1][0], pairs[2][1]), (b"", b""), (b"junk", pairs[1][1])):
                put(tmp_path, broken)
                await asyncio.sleep(0.2)
                await until(lambda: "cannot serve with" in caplog.text)
                assert webhooks.serving == mark
                async with client(webhooks, pairs[0]) as asking:
                    assert await asking.allowed()
            other = put(tmp_path, pairs[1])
            await until(lambda: webhooks.is_serving(other))

    asyncio.run(test())
    assert "cannot serve with" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_encrypted_key_must_be_refused_without_a_question(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lws.webhook")
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    certificate, key = self_signed("localhost", now_s=time.time())
    found = serialization.load_pem_private_key(key, None)
    locked = found.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"word"),
    )
    put(tmp_path, (certificate, locked))
    assert not Certificate(tmp_path, TlsSettings()).look()
    assert "the private key is encrypted" in caplog.text


@pytest.mark.parametrize(
    ("settings", "version", "refused"),
    [
        ({}, "TLSv1_2", False),
        ({"min_version": "VersionTLS13"}, "TLSv1_2", True),
        ({"min_version": "VersionTLS13"}, "TLSv1_3", False),
        ({"cipher_suites": ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",)}, "TLSv1_2", False),
        ({"cipher_suites": ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",)}, "TLSv1_2", True),
        ({"cipher_suites": ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",)}, "TLSv1_3", False),
    ],
)
def test_tls_must_be_as_configured_before_and_after_a_rotation(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], settings: dict[str, Any], version: str, refused: bool
) -> None:
    async def handshake(port: int) -> str:
        context = trusting(*pairs)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        return str(chosen)

    async def test() -> None:
        found = settings_for(tmp_path, **settings)
        stop, told = asyncio.Event(), {}
        serving = asyncio.create_task(server.serve(found, told.update, stop))
        for pair in pairs[:2]:
            mark = put(tmp_path, pair)
            await until(lambda mark=mark: told.get("serving") == mark)
            if refused:
                with pytest.raises(OSError):  # noqa: PT011
                    await handshake(told["port"])
            else:
                assert await handshake(told["port"]) == "http/1.1"
        stop.set()
        await serving

    asyncio.run(test())


# -- what must not bring it down


def test_malformed_requests_must_be_refused_and_leave_it_well(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lws.webhook")
    put(tmp_path, pairs[0])

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            async with client(webhooks, pairs[0]) as asking:
                for path in PATHS:
                    assert (await asking.post(path, b"junk"))[0] == 400
                    assert (await asking.post(path, b'{"a":' * 500 + b"1" + b"}" * 500))[0] == 400
                assert (await asking.post("/elsewhere", valid()))[0] == 404
                assert (await asking.post(VALIDATE_SET, valid(), headers={"Content-Type": "text/plain"}))[
                    0
                ] == 415
                zipped = {**HEADERS, "Content-Encoding": "gzip"}
                assert (await asking.post(VALIDATE_SET, valid(), headers=zipped))[0] == 415
                url = f"https://127.0.0.1:{webhooks.port}{VALIDATE_SET}"
                async with asking.session.get(url) as answer:
                    assert answer.status == 405
                empty = json.dumps(review(MUTATE_POD, object=None)).encode()
                status, body = await asking.post(MUTATE_POD, empty)
                assert (status, json.loads(body)["response"]["allowed"]) == (200, False)
                assert await asking.allowed()

    asyncio.run(test())
    assert "denied CREATE of Pod default/serve" in caplog.text


@pytest.mark.parametrize("chunked", [False, True])
def test_body_beyond_the_limit_must_be_refused_without_being_kept(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], chunked: bool
) -> None:
    put(tmp_path, pairs[0])

    async def flood() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b"x" * 2**16

    def peak_kib(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            assert webhooks.pid is not None
            async with client(webhooks, pairs[0]) as asking:
                assert await asking.allowed()
                before = peak_kib(webhooks.pid)
                for _ in range(5):
                    with_body: Any = flood() if chunked else io.BytesIO(b"x" * 10 * 2**20)
                    try:
                        status, told = await asking.post(VALIDATE_SET, with_body)
                    except aiohttp.ClientConnectionError:
                        continue  # closed while it was still sending
                    assert (status, told) == (413, b"a review has at most %d bytes\n" % MAX_BODY)
                assert await asking.allowed()
                growth = peak_kib(webhooks.pid) - before
                assert growth < (3 * MAX_BODY if chunked else MAX_BODY / 2) / 1024

    asyncio.run(test())


def test_large_review_within_the_limit_must_be_answered(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]]
) -> None:
    put(tmp_path, pairs[0])
    labels = {f"key-{index}": "x" * 300 for index in range(20_000)}
    large = json.dumps(review(VALIDATE_SET, object={**SET, "metadata": {"annotations": labels}})).encode()
    assert MAX_BODY > len(large) > MAX_BODY * 0.8

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            async with client(webhooks, pairs[0]) as asking:
                status, body = await asking.post(VALIDATE_SET, io.BytesIO(large))
                assert (status, json.loads(body)["response"]["allowed"]) == (200, False)

    asyncio.run(test())


def test_many_at_once_must_all_be_answered(tmp_path: Path, pairs: list[tuple[bytes, bytes]]) -> None:
    put(tmp_path, pairs[0])

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            async with client(webhooks, pairs[0], limit=40) as asking:
                assert all(await asyncio.gather(*(asking.allowed() for _ in range(400))))

    asyncio.run(test())


async def in_this_process(
    folder: Path, pairs: list[tuple[bytes, bytes]], test: Callable[[Webhooks], Awaitable[None]]
) -> None:
    """Runs a test against a server in this process, whose bounds a test can lower."""
    mark = put(folder, pairs[0])
    stop, told = asyncio.Event(), {}
    serving = asyncio.create_task(server.serve(settings_for(folder), told.update, stop))
    await until(lambda: told.get("serving") == mark)
    webhooks = Webhooks(settings_for(folder))
    webhooks.port = told["port"]
    try:
        await test(webhooks)
    finally:
        stop.set()
        await serving


def test_slow_clients_must_be_let_go_and_hold_up_nobody(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("_HANDSHAKE_S", "_FIRST_REQUEST_S", "_BODY_S"):
        monkeypatch.setattr(server, bound, 2.0)  # a handshake with a busy machine comes to its end

    async def test(webhooks: Webhooks) -> None:
        context = trusting(pairs[0])
        silent, hello = await asyncio.open_connection("127.0.0.1", webhooks.port)
        idle, nothing = await asyncio.open_connection("127.0.0.1", webhooks.port, ssl=context)
        halting, headers = await asyncio.open_connection("127.0.0.1", webhooks.port, ssl=context)
        headers.write(b"POST / HTTP/1.1\r\nHost: a\r\n")
        slow, body = await asyncio.open_connection("127.0.0.1", webhooks.port, ssl=context)
        body.write(
            f"POST {VALIDATE_SET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        async with client(webhooks, pairs[0]) as asking:
            assert await asking.allowed()
            async with asyncio.timeout(60):
                assert (await slow.readline()).startswith(b"HTTP/1.1 408 ")
                for ended in (silent, idle, halting):
                    with suppress(ConnectionResetError):
                        assert await ended.read() == b""
            assert await asking.allowed()
        for writer in (hello, nothing, headers, body):
            writer.close()

    asyncio.run(in_this_process(tmp_path, pairs, test))


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected(webhooks: Webhooks, pair: tuple[bytes, bytes], sent: bytes = b"") -> Stream:
    """A connection by hand, on which something has been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", webhooks.port, ssl=trusting(pair))
    writer.write(sent)
    return reader, writer


def by_hand(body: bytes, length: int | None = None) -> bytes:
    head = f"POST {VALIDATE_SET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


async def answered(stream: Stream) -> bytes:
    """The answer to what was sent, or what there is of it if the connection ends."""
    async with asyncio.timeout(60):
        try:
            head = await stream[0].readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return await stream[0].readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return b""


async def allowed_in_the_end(webhooks: Webhooks, pair: tuple[bytes, bytes], timeout_s: float = 60.0) -> bool:
    """The answer once there is room: the server sees later than its client that a connection is gone."""
    async with asyncio.timeout(timeout_s):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with client(webhooks, pair) as asking:
                    return await asking.allowed()
            await asyncio.sleep(0.02)


def test_connections_without_a_request_must_make_room_for_new_ones(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost whoever opens them nothing, and would otherwise keep the API server out."""
    monkeypatch.setattr(server, "_MAX_CONNECTIONS", 3)

    async def test(webhooks: Webhooks) -> None:
        silent = await connected(webhooks, pairs[0])
        held = []
        for _ in range(2):
            held.append(await connected(webhooks, pairs[0], by_hand(valid())))
            assert b'"allowed":true' in await answered(held[-1])
        # The one that has never asked has waited longest, then the first that was answered.
        for longest in (silent, held[0]):
            new = await connected(webhooks, pairs[0], by_hand(valid()))
            assert b'"allowed":true' in await answered(new)
            assert await answered(longest) == b""
            held.append(new)
        held[1][1].write(by_hand(valid()))
        assert b'"allowed":true' in await answered(held[1])
        for _, writer in (silent, *held):
            writer.close()

    asyncio.run(in_this_process(tmp_path, pairs, test))


def test_connections_beyond_the_bound_must_be_refused_while_all_are_busy(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_CONNECTIONS", 3)
    body = valid()
    handlers: list[Handler] = []

    def make(options: Options) -> Handler:
        handlers.append(Handler(options))
        return handlers[-1]

    monkeypatch.setattr(server, "Handler", make)

    async def test(webhooks: Webhooks) -> None:
        begun = by_hand(body[:10], len(body))
        held = [await connected(webhooks, pairs[0], begun) for _ in range(3)]
        await until(lambda: handlers[0].in_flight == 30)
        # Reset or closed, as it falls out: data may or may not lie unread when the server lets go.
        with pytest.raises(aiohttp.ClientConnectionError):
            async with client(webhooks, pairs[0]) as asking:
                await asking.allowed()
        for one in held[1:]:
            one[1].write(body[10:])
            assert b'"allowed":true' in await answered(one)
        held[0][1].close()
        assert await allowed_in_the_end(webhooks, pairs[0])
        for _, writer in held:
            writer.close()

    asyncio.run(in_this_process(tmp_path, pairs, test))


def test_bodies_together_must_stay_within_their_bound(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_IN_FLIGHT", 10_000)
    monkeypatch.setattr(server, "_SMALL", 5_000)

    async def test(webhooks: Webhooks) -> None:
        async with client(webhooks, pairs[0]) as asking:
            status, _ = await asking.post(VALIDATE_SET, b"x" * 20_000)
            assert status == 503
            assert await asking.allowed()

    asyncio.run(in_this_process(tmp_path, pairs, test))


def test_small_review_must_be_answered_while_others_hold_large_ones_back(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_IN_FLIGHT", 10_000)
    monkeypatch.setattr(server, "_SMALL", 5_000)

    async def test(webhooks: Webhooks) -> None:
        _, writer = await connected(webhooks, pairs[0], by_hand(b"x" * 9_990, length=MAX_BODY))
        async with client(webhooks, pairs[0]) as asking, asyncio.timeout(60):
            while (await asking.post(VALIDATE_SET, b"x" * 6_000))[0] != 503:
                await asyncio.sleep(0.01)
            assert await asking.allowed()
        writer.close()

    asyncio.run(in_this_process(tmp_path, pairs, test))


def test_error_of_our_own_must_be_denied_and_logged_without_what_the_object_holds(
    tmp_path: Path,
    pairs: list[tuple[bytes, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr("lws_runtime.webhook.reviews._judged", fail)

    async def test(webhooks: Webhooks) -> None:
        async with client(webhooks, pairs[0]) as asking:
            assert not await asking.allowed()

    asyncio.run(in_this_process(tmp_path, pairs, test))
    assert "CREATE of LeaderWorkerSet default/serve failed with KeyError" in caplog.text
    assert "secret" not in caplog.text.replace("def fail", "").replace('KeyError("a secret")', "")


@attrs.define
class FakeRequest:
    """As much of a request as the handler reads."""

    body: bytes
    path: str = VALIDATE_SET
    method: str = "POST"
    content_type: str = "application/json"
    content_length: int | None = None
    headers: Any = attrs.Factory(dict)

    @property
    def content(self) -> FakeRequest:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.body


def test_ten_thousand_malformed_reviews_must_leave_no_memory_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "lws.webhook")  # pytest keeps each record
    choose = random.Random(7)
    whole = valid()

    def spoiled() -> bytes:
        match choose.randrange(5):
            case 0:
                return whole[: choose.randrange(len(whole))]
            case 1:
                at = choose.randrange(len(whole))
                return whole[:at] + bytes([choose.randrange(256)]) + whole[at + 1 :]
            case 2:
                return choose.randbytes(choose.randrange(200))
            case 3:
                return b'{"a":' * choose.randrange(2000)
            case _:
                return whole.replace(b"CREATE", b"UPDATE")

    async def run(handler: Handler, count: int) -> int:
        refused = 0
        for _ in range(count):
            found: Any = FakeRequest(spoiled(), path=choose.choice(PATHS))
            answer = await handler(found)
            await asyncio.sleep(0)  # the loop forgets timers that are not needed any more
            assert isinstance(answer, web.Response)
            if answer.status != 200 or not json.loads(answer.body or b"")["response"]["allowed"]:  # type: ignore[arg-type]
                refused += 1
        return refused

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    async def test() -> None:
        handler = Handler(Options())
        await run(handler, 500)
        before = objects()
        assert await run(handler, 10_000) > 7_000
        assert objects() - before < 300
        assert handler.in_flight == 0

    asyncio.run(test())


# -- how it ends, and begins again


def test_server_must_end_within_a_second_and_answer_what_it_has_begun(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]]
) -> None:
    put(tmp_path, pairs[0])

    async def test() -> None:
        webhooks = Webhooks(settings_for(tmp_path))
        await webhooks.start()
        await until(webhooks.is_serving)
        async with client(webhooks, pairs[0], limit=20) as asking:
            await asking.allowed()
            pid = webhooks.pid
            assert pid is not None
            with Stopwatch(pid) as watch:
                asked = [asyncio.create_task(asking.allowed()) for _ in range(20)]
                await asyncio.sleep(0.05)
                await webhooks.stop()
            assert watch.took_s < 1.5
            assert not Path(f"/proc/{pid}").exists()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert any(answer is True for answer in answers)

    asyncio.run(test())


def test_sigterm_must_end_the_server_within_a_second_whoever_is_connected(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]]
) -> None:
    put(tmp_path, pairs[0])

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            context = trusting(pairs[0])
            _, idle = await asyncio.open_connection("127.0.0.1", webhooks.port, ssl=context)
            _, slow = await asyncio.open_connection("127.0.0.1", webhooks.port, ssl=context)
            slow.write(
                f"POST {VALIDATE_SET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                "Content-Length: 100\r\n\r\n{".encode()
            )
            await asyncio.sleep(0.1)
            ended, pid = webhooks._process, webhooks.pid
            assert ended is not None
            assert pid is not None
            with Stopwatch(pid) as watch:
                os.kill(pid, signal.SIGTERM)
                assert await ended.wait() == 0
            assert watch.took_s < 8.0  # rather than the ten that a request may take
            for writer in (idle, slow):
                writer.close()

    asyncio.run(test())


def test_server_that_died_must_be_started_again_with_back_off(
    tmp_path: Path,
    pairs: list[tuple[bytes, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(tmp_path, pairs[0])
    monkeypatch.setattr(process, "_FIRST_DELAY_S", 0.05)

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            for _ in range(2):
                await until(webhooks.is_serving)
                pid = webhooks.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                await until(lambda: not webhooks.is_serving())
            await until(webhooks.is_serving)
            assert webhooks.pid != pid

    asyncio.run(test())
    assert "code -9; it is started again in 0.05 s" in caplog.text
    assert "code -9; it is started again in 0.1 s" in caplog.text


def test_server_must_run_no_code_of_the_working_directory(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, pairs[0])
    (tmp_path / "orjson.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)

    asyncio.run(test())


def test_supervision_must_go_on_after_a_bug(
    tmp_path: Path,
    pairs: list[tuple[bytes, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody awaits it, so that what ends it would not be told, and nothing would be served any more."""
    put(tmp_path, pairs[0])
    monkeypatch.setattr(process, "_FIRST_DELAY_S", 0.05)
    told = process._log_again

    def fail(record: dict[str, Any]) -> None:
        monkeypatch.setattr(process, "_log_again", told)
        raise KeyError("level")

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            monkeypatch.setattr(process, "_log_again", fail)
            async with client(webhooks, pairs[0]) as asking:
                await asking.post(VALIDATE_SET, json.dumps(review(VALIDATE_SET, object={})).encode())
            await until(lambda: not webhooks.is_serving())
            await until(webhooks.is_serving)

    asyncio.run(test())
    assert "failed: KeyError; it is started again in 0.05 s" in caplog.text
    assert any(record.exc_info for record in caplog.records)


def test_server_that_hangs_must_not_count_as_serving(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, pairs[0])
    monkeypatch.setattr(process, "_SILENCE_S", 2.0)

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            assert webhooks.pid is not None
            os.kill(webhooks.pid, signal.SIGSTOP)
            await until(lambda: not webhooks.is_serving())
            os.kill(webhooks.pid, signal.SIGCONT)
            await until(webhooks.is_serving)

    asyncio.run(test())


def test_server_that_hangs_for_long_must_be_ended_and_started_again(
    tmp_path: Path,
    pairs: list[tuple[bytes, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(tmp_path, pairs[0])
    for bound, value in (("_SILENCE_S", 0.5), ("_KILL_AFTER_S", 0.1), ("_FIRST_DELAY_S", 0.05)):
        monkeypatch.setattr(process, bound, value)

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            hanging = webhooks.pid
            assert hanging is not None
            os.kill(hanging, signal.SIGSTOP)
            await until(lambda: webhooks.pid not in (None, hanging))
            assert not _is_running(hanging)
            await until(webhooks.is_serving)

    asyncio.run(test())
    assert "failed: no sign of life for 1.5 s; it is started again in 0.05 s" in caplog.text


def test_silence_must_not_end_a_server_that_has_no_certificate_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_SILENCE_S", 0.01)

    async def test() -> None:
        webhooks, lines = Webhooks(settings_for(Path("/certs"))), asyncio.StreamReader()
        listening = asyncio.create_task(webhooks._listen(lines))
        await asyncio.sleep(0.2)
        assert not listening.done()
        lines.feed_data(b'{"serving": "abc", "port": 1}\n')
        with pytest.raises(TimeoutError, match="no sign of life"):
            await asyncio.wait_for(listening, 60)
        assert webhooks.port == 1

    asyncio.run(test())


def test_line_that_comes_in_parts_must_be_read_whatever_the_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_SILENCE_S", 0.05)
    monkeypatch.setattr(process, "_MOST_SILENCES", 1000)

    async def test() -> None:
        webhooks, lines = Webhooks(settings_for(Path("/certs"))), asyncio.StreamReader()
        listening = asyncio.create_task(webhooks._listen(lines))
        for part in (b'{"serving": "abc", "port": 1}\n{"serving": "d', b'ef", "port"', b": 2}\n"):
            lines.feed_data(part)
            await asyncio.sleep(0.15)
        lines.feed_eof()
        await asyncio.wait_for(listening, 60)
        assert (webhooks.serving, webhooks.port) == ("def", 2)

    asyncio.run(test())


def test_port_that_is_taken_must_be_told(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, pairs[0])

    async def test() -> None:
        async with running(settings_for(tmp_path)) as webhooks:
            await until(webhooks.is_serving)
            async with running(attrs.evolve(settings_for(tmp_path), port=webhooks.port)) as second:
                await until(lambda: "cannot listen: " in caplog.text)
                await until(lambda: "ended with code 1" in caplog.text)
                assert not second.is_serving()

    asyncio.run(test())


PARENT = """
import asyncio, sys
from lws_runtime.webhook.process import Webhooks
from lws_runtime.webhook.server import ServerSettings

async def main():
    webhooks = Webhooks(ServerSettings("127.0.0.1", 0, sys.argv[1], poll_s=0.02))
    await webhooks.start()
    while not webhooks.is_serving():
        await asyncio.sleep(0.01)
    print(webhooks.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_server_never_outlives_its_parent(tmp_path: Path, pairs: list[tuple[bytes, bytes]]) -> None:
    put(tmp_path, pairs[0])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and _is_running(pid):
        time.sleep(0.02)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- settings


def test_server_settings_must_survive_the_pipe() -> None:
    found = settings_for(Path("/certs"), cipher_suites=("a", "b"), gang_scheduling=True)
    assert ServerSettings.decode(found.encode()) == found
    assert found.encode().count(b"\n") == 1


def test_server_settings_must_follow_the_operator_s() -> None:
    found = server_settings(
        Settings(
            tls=TlsSettings("VersionTLS13"),
            webhook=WebhookSettings(cert_dir="/certs"),
            options=Options(gang_scheduling=True, exclusive_across_namespaces=True),
        )
    )
    assert found == ServerSettings(
        "", 9443, "/certs", "VersionTLS13", gang_scheduling=True, exclusive_across_namespaces=True
    )
