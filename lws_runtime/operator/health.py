"""Probes and metrics over HTTP.

Each connection is for one request: a kubelet asks so anyway, and a scrape every half minute gains little from
one that stays.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from lws_runtime.config import Address
from lws_runtime.ports import Bounds, Handler, Port, open_port

from .metrics import CONTENT_TYPE, Snapshot

BOUNDS: Final = Bounds(
    connections=100, handshake_s=5.0, request_s=10.0, answer_s=60.0, idle_s=None, last_s=0.3
)
Check = Callable[[], str]
"""Why something is not as it should be, "" where it is."""


async def serve_probes(address: Address, *, ready_path: str, live_path: str, ready: Check) -> Port:
    """Serve the probes until the port is cleaned up. Raises OSError where the address is taken."""

    async def is_live(_: web.BaseRequest) -> web.Response:
        return web.Response(text="ok")

    async def is_ready(_: web.BaseRequest) -> web.Response:
        problem = ready()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    return _serve(address, {live_path: is_live, ready_path: is_ready}, None)


async def serve_metrics(
    address: Address,
    snapshot: Callable[[], Snapshot],
    *,
    tls: ssl.SSLContext | None,
    allowed: Callable[[str], Awaitable[int]],
) -> Port:
    """Serve /metrics to whoever `allowed` answers 200 about, given the bearer token of the request; others
    get the status that it answers. They are written down by a thread, so that a scrape holds up nothing
    else. Raises OSError where the address is taken."""

    async def metrics(request: web.BaseRequest) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # No token has other characters, and some, which are no UTF-8, could not be asked about.
        if scheme.lower() != "bearer" or not token or not token.isascii():
            return web.Response(text="Unauthorized", status=401)
        status = await allowed(token)
        if status != 200:
            return web.Response(text=HTTPStatus(status).phrase, status=status)
        text = await asyncio.to_thread(snapshot().text)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    return _serve(address, {"/metrics": metrics}, tls)


def _serve(
    address: Address,
    routes: dict[str, Handler],
    tls: ssl.SSLContext | None,
) -> Port:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        handler = routes.get(request.path)
        if handler is None:
            return web.Response(text="Not Found", status=404)
        if request.method not in ("GET", "HEAD"):
            return web.Response(text="Method Not Allowed", status=405, headers={"Allow": "GET, HEAD"})
        return await handler(request)

    return open_port(address.host, address.port, answer, tls, BOUNDS)
