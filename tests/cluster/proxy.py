"""A proxy between an operator and the API server, which can answer in the server's place, late, or never."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias

import aiohttp
import attrs
from aiohttp import web
from control_plane import ControlPlane
from sockets import Sockets

_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@attrs.frozen
class Asked:
    """A request that comes by."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes

    id: str = ""

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


Moment = Literal["before", "committed", "answered"]
"""Of a request: before it is sent on; after the server has carried it out, before its answer is passed on;
after that. Of a watch's event: before it is passed on, or after."""


@attrs.frozen
class Strike:
    """`blow` is struck at a moment of a request or an event; what it makes senseless is not passed on."""

    blow: Callable[[], None]
    moment: Moment


@attrs.frozen
class Late:
    """The request is held back before it is sent on, and its answer before it is passed on, which by then
    tells of the past. An event of a watch is held back with all that follow it."""

    request_s: float = 0.0
    answer_s: float = 0.0


@attrs.frozen
class Torn:
    """The connection breaks in the middle of the answer, or of the event."""


@attrs.frozen
class Twice:
    """An event is passed on two times, as by a watch that was taken up at an earlier version."""


@attrs.frozen
class Expired:
    """Instead of an event the watch ends with 410: its version is too old."""


@attrs.frozen
class Mute:
    """This event and all later ones of the watch are swallowed, its connection stays open."""


OfRequest: TypeAlias = Fault | Strike | Late | Torn
OfEvent: TypeAlias = Strike | Late | Torn | Twice | Expired | Mute
Judge = Callable[[Asked], OfRequest | None]
EventJudge = Callable[[Asked, bytes], OfEvent | None]

_EXPIRED: Final = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"too old resource version","reason":"Expired","code":410}}\n'
)


class _Broken(Exception):
    """The connection to the operator is to be broken."""


class Proxy:
    """Listens on loopback, in a thread of its own. `judge` is asked about each request, `event_judge` about
    each event of a watch. Each request gets an Audit-ID, so that the audit log can be told which it was."""

    def __init__(self, plane: ControlPlane, name: str = "proxy") -> None:
        self._plane = plane
        self.name = name
        self._port = 0
        self.judge: Judge = lambda _: None
        self.event_judge: EventJudge = lambda *_: None
        self.asked: list[Asked] = []
        self._watches: dict[asyncio.Task[Any], web.Request] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the operator finds it, once it listens."""
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
            for task, request in self._watches.items():
                _abort(request)
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
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        open_watches = list(self._watches)
        for task in open_watches:
            task.cancel()
        await asyncio.gather(*open_watches, return_exceptions=True)
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()
        await self._runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for one in rest:
            one.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._session.close()
        await self._sockets.closed()
        await asyncio.sleep(0.05)  # what is aborted closes in the loop's next turns

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        number = f"{self.name}.{len(self.asked)}"
        asked = Asked(request.method, request.path, dict(request.query), await request.read(), number)
        self.asked.append(asked)
        fault = self.judge(asked)
        match fault:
            case Fault(after=False, silent=False):
                return _failed(request, fault)
            case Strike(blow, "before"):
                blow()
                return _failed(request, Fault())
            case Late(request_s):
                await asyncio.sleep(request_s)
        if asked.watches:
            task = asyncio.current_task()
            assert task is not None
            self._watches[task] = request
            task.add_done_callback(self._watches.pop)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        try:
            async with self._session.request(
                request.method,
                self._plane.url + request.path_qs,
                headers={**headers, "Audit-ID": number},
                data=asked.body or None,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as answer:
                if isinstance(fault, Fault) and fault.after:
                    if not asked.watches:
                        await answer.read()
                    return _failed(request, fault)
                if asked.watches and answer.status == 200:
                    return await self._stream(request, asked, answer, is_silent=isinstance(fault, Fault))
                return await _pass_on(request, answer, fault)
        except (aiohttp.ClientError, _Broken):  # the server is away, or the peer is to believe so
            return _failed(request, Fault())

    async def _stream(
        self, request: web.Request, asked: Asked, answer: aiohttp.ClientResponse, *, is_silent: bool
    ) -> web.StreamResponse:
        response = _head_of(answer)
        await response.prepare(request)
        rest = b""
        async for chunk in answer.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if request.transport is None:
                    return response  # whoever watched has ended: nothing can happen to it
                fault = None if is_silent else self.event_judge(asked, line)
                is_silent = is_silent or isinstance(fault, Mute)
                if not is_silent and not await _tell(response, line + b"\n", fault):
                    return response
        await response.write_eof()
        return response


async def _tell(response: web.StreamResponse, line: bytes, fault: OfEvent | None) -> bool:
    """Pass an event on; whether the watch goes on."""
    match fault:
        case Expired():
            await response.write(_EXPIRED)
            await response.write_eof()
            return False
        case Torn():
            await response.write(line[: len(line) // 2])
            raise _Broken
        case Strike(blow, "before"):
            blow()
            raise _Broken
        case Late(request_s):
            await asyncio.sleep(request_s)
        case Twice():
            await response.write(line)
    await response.write(line)
    if isinstance(fault, Strike):
        fault.blow()
    return True


async def _pass_on(
    request: web.Request, answer: aiohttp.ClientResponse, fault: OfRequest | None
) -> web.StreamResponse:
    """Give an answer back, unless a fault has it otherwise."""
    body = await answer.read()
    match fault:
        case Strike(blow, "committed"):
            blow()
            raise _Broken
        case Late():
            await asyncio.sleep(fault.answer_s)
    response = _head_of(answer)
    response.content_length = len(body)
    await response.prepare(request)
    if isinstance(fault, Torn):
        await response.write(body[: len(body) // 2])
        raise _Broken
    await response.write(body)
    await response.write_eof()
    if isinstance(fault, Strike):
        fault.blow()
    return response


def _head_of(answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers.items():
        if name.lower() not in _HOP:
            response.headers[name] = value
    return response


def _failed(request: web.Request, fault: Fault) -> web.Response:
    if fault.code == 0:
        _abort(request)
        return web.Response(status=500)
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": fault.code,
        "message": "a fault",
    }
    return web.json_response(body, status=fault.code, headers=fault.headers)


def _abort(request: web.Request) -> None:
    """Break the connection that a request came on; it may be broken already."""
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()
