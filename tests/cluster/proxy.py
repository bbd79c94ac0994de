"""A proxy between an operator and the API server, which can answer in the server's place, late, or never."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import attrs
from aiohttp import web
from control_plane import ControlPlane
from processes import free_ports
from sockets import Sockets

_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "content-encoding"}


@attrs.frozen
class Asked:
    """A request that comes by."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def watches(self) -> bool:
        """It asks for a watch."""
        return "watch" in self.query

    @property
    def writes(self) -> bool:
        """It asks for a change of something else than the lease."""
        return self.method != "GET" and "/leases" not in self.path and "/events" not in self.path


@attrs.frozen
class Fault:
    """What happens to a request: `code` answers it in the server's place (0: the connection breaks), and
    `after` lets the server carry it out first. `silent`: a watch stays open and says nothing."""

    code: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    after: bool = False
    silent: bool = False


Judge = Callable[[Asked], Fault | None]


class Proxy:
    """Listens on loopback, in a thread of its own. `judge` is asked about each request."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        (self._port,) = free_ports(1)
        self.judge: Judge = lambda _: None
        self.asked: list[Asked] = []
        self._watches: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the operator finds it."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def break_watches(self) -> None:
        """All watches that are open end now."""

        async def cancel() -> None:
            for task in self._watches:
                task.cancel()

        self._call(cancel())

    def _call(self, work: Awaitable[None]) -> None:
        async def awaited() -> None:
            await work

        asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(30)

    async def _start(self) -> None:
        context = ssl.create_default_context(cafile=str(self._plane.authority.certificate_file))
        self._sockets = Sockets()
        connector = aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=self._sockets.new)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def _stop(self) -> None:
        open_watches = list(self._watches)
        for task in open_watches:
            task.cancel()
        await asyncio.gather(*open_watches, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()
        await self._sockets.closed()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, dict(request.query), await request.read())
        self.asked.append(asked)
        fault = self.judge(asked)
        if fault is not None and not fault.after and not fault.silent:
            return _failed(request, fault)
        if asked.watches:
            task = asyncio.current_task()
            assert task is not None
            self._watches.add(task)
            task.add_done_callback(self._watches.discard)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._session.request(
            request.method,
            self._plane.url + request.path_qs,
            headers=headers,
            data=asked.body or None,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if fault is not None and fault.after:
                await answer.read()
                return _failed(request, fault)
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP:
                    response.headers[name] = value
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if fault is None:
                    await response.write(chunk)
            await response.write_eof()
            return response


def _failed(request: web.Request, fault: Fault) -> web.Response:
    if fault.code == 0:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": fault.code,
        "message": "a fault",
    }
    return web.json_response(body, status=fault.code, headers=fault.headers)
