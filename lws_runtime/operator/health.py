"""Probes and metrics over HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from lws_runtime.config import Address

from .metrics import CONTENT_TYPE

_LAST_ANSWERS_S: Final = 0.3  # how long a server that ends waits for what it is answering

Check = Callable[[], str]
"""Why something is not as it should be, "" where it is."""


async def serve_probes(address: Address, *, ready_path: str, live_path: str, ready: Check) -> web.AppRunner:
    """Serve the probes until the runner is cleaned up. Raises OSError where the address is taken."""

    async def is_live(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def is_ready(_: web.Request) -> web.Response:
        problem = ready()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    return await _serve(address, {live_path: is_live, ready_path: is_ready}, None)


async def serve_metrics(
    address: Address,
    render: Callable[[], bytes],
    *,
    tls: ssl.SSLContext | None,
    allowed: Callable[[str], Awaitable[int]],
) -> web.AppRunner:
    """Serve /metrics to whoever `allowed` answers 200 about, given the bearer token of the request; others
    get the status that it answers. Raises OSError where the address is taken."""

    async def metrics(request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return web.Response(text="Unauthorized", status=401)
        status = await allowed(token)
        if status != 200:
            return web.Response(text=HTTPStatus(status).phrase, status=status)
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE})

    return await _serve(address, {"/metrics": metrics}, tls)


async def _serve(
    address: Address,
    routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]],
    tls: ssl.SSLContext | None,
) -> web.AppRunner:
    application = web.Application()
    for path, handler in routes.items():
        application.router.add_get(path, handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LAST_ANSWERS_S)
    await runner.setup()
    await web.TCPSite(runner, address.host or None, address.port, ssl_context=tls).start()
    return runner
