"""Servers on the loopback interface that do what no API server can be asked to do, and a store of leases."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
from aiohttp import web

from lws_runtime.kube.client import Client
from lws_runtime.kube.connection import Connection

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """An HTTP server that answers everything with `handle`; its URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(*pieces: bytes, silent: bool = False) -> AsyncIterator[str]:
    """A TCP server that hears one request on each connection and says these bytes, whatever they mean; its
    URL. `silent`: it keeps the connection open then."""

    heard: set[asyncio.Task[Any] | None] = set()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if silent:
                await reader.read()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        tasks = [task for task in heard if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)


@asynccontextmanager
async def client_of(url: str, **how: Any) -> AsyncIterator[Client]:
    connection = how.pop("connection", None) or Connection(url)
    async with how.pop("kind", Client)(connection, user_agent="test", **how) as client:
        yield client


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers=dict(headers or {}))


def refusal(code: int, message: str) -> web.Response:
    return answer({"kind": "Status", "status": "Failure", "code": code, "message": message}, code)


async def until(check: Callable[[], Any], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not check():
            await asyncio.sleep(0.005)


@attrs.define
class Leases:
    """One lease, kept as an API server keeps it. `fails`: whether a request (method, number) fails."""

    record: dict[str, Any] | None = None
    version: int = 0
    asked: list[str] = attrs.Factory(list)
    fails: Callable[[str], bool] = lambda _: False
    delay_s: float = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.method)
        body = json.loads(await request.read() or b"null")
        if self.fails(request.method):
            return refusal(500, "no")
        response = self._answer(request.method, body)
        await asyncio.sleep(self.delay_s)
        return response

    def _answer(self, method: str, body: Any) -> web.Response:
        if method == "GET":
            return answer(self.record) if self.record else refusal(404, "there is none")
        if method == "POST":
            return refusal(409, "it is there") if self.record else self.put(body, 201)
        if self.record is None:
            return refusal(404, "there is none")
        if body["metadata"].get("resourceVersion") != str(self.version):
            return refusal(409, "the object has been modified")
        return self.put(body)

    def put(self, record: dict[str, Any], status: int = 200) -> web.Response:
        self.version += 1
        metadata = {**record["metadata"], "resourceVersion": str(self.version)}
        self.record = {**record, "metadata": metadata}
        return answer(self.record, status)

    @property
    def holder(self) -> str:
        return str(self.record["spec"].get("holderIdentity", "")) if self.record else ""

    def renew(self, holder: str, duration_s: int = 15) -> None:
        """Somebody else writes it, whatever it was."""
        spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "renewTime": str(time.time())}
        name = self.record["metadata"]["name"] if self.record else "lease"
        self.put({"kind": "Lease", "metadata": {"name": name}, "spec": spec})
