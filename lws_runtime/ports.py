"""Ports over which anybody in the cluster can ask, with bounds on what a client can cost.

Flow: a connection is accepted, shakes hands where the port has TLS, sends a request and gets its answer. Then
it is closed, or kept for another request.

Guarantees: a port has at most `connections` open, those that have not shaken hands included. Each has a time
for the handshake, until its first request has come, and for each answer. Beyond that number the one that has
waited longest for a request is closed, not the new one, unless all are being answered: idle ones cost whoever
holds them nothing, and must keep nobody out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import attrs
from aiohttp import web

_EVERYWHERE: Final = ("", "::", "0.0.0.0")
_LINGER_S: Final = 2.0
_ACCEPT_AGAIN_S: Final = 0.5

_log = logging.getLogger(__name__)
_NOBODY: Final = logging.Logger("nobody", logging.CRITICAL)  # aiohttp has a traceback for whatever is no HTTP

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@attrs.frozen
class Bounds:
    """What clients of a port can cost; times in seconds.

    connections: open at once; handshake_s, request_s: until TLS is agreed on, until the first request has
    come; answer_s: from a request until its answer has been read; idle_s: how long a connection is kept for
    another request, None where each is for one; last_s: how long a port that ends waits for what it answers.
    """

    connections: int
    handshake_s: float
    request_s: float
    answer_s: float
    idle_s: float | None
    last_s: float


@attrs.define(eq=False)
class _Guest:
    """A connection: its way up to the handshake, when it is closed, and whether it waits for an answer."""

    greeting: asyncio.Task[Any]
    timer: asyncio.TimerHandle
    is_served: bool = False


class Port(web.Server):
    """A listening socket, and the connections that came by it. Close it with `cleanup`."""

    def __init__(
        self, listener: socket.socket, handler: Handler, tls: ssl.SSLContext | None, bounds: Bounds
    ) -> None:
        idle_s = bounds.answer_s if bounds.idle_s is None else bounds.idle_s
        super().__init__(
            self._answer,
            request_factory=self._note_request,
            keepalive_timeout=idle_s,
            lingering_time=_LINGER_S,
            auto_decompress=False,
            access_log=None,
            logger=_NOBODY,
        )
        self._listener, self._handler, self._tls, self._bounds = listener, handler, tls, bounds
        self._guests: dict[Any, _Guest] = {}  # by aiohttp's handler; who has waited longest is the first
        self._accepting = asyncio.create_task(self._accept())

    @property
    def number(self) -> int:
        """The TCP port that it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def guests(self) -> int:
        """How many connections are open, those that have not shaken hands included."""
        return len(self._guests)

    @property
    def served(self) -> int:
        """How many of them wait for an answer."""
        return sum(guest.is_served for guest in self._guests.values())

    async def cleanup(self) -> None:
        """Listen no more, and close all connections; what is being answered has a moment."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self.pre_shutdown()
        await self.shutdown(self._bounds.last_s)
        for handler in list(self._guests):
            self._drop(handler)

    async def _accept(self) -> None:
        loop, told = asyncio.get_running_loop(), False
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except OSError as problem:  # as of too many open files
                if not told:
                    _log.warning("port %d takes no connection: %s", self.number, problem.strerror or problem)
                told = True
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            told = False
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        handler, bounds = self(), self._bounds
        greeting = asyncio.create_task(
            self._loop.connect_accepted_socket(
                lambda: handler,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else bounds.handshake_s,
                ssl_shutdown_timeout=None if self._tls is None else bounds.last_s,
            )
        )
        greeting.add_done_callback(partial(self._note_greeting, handler, accepted))
        timer = self._loop.call_later(bounds.request_s, self._drop, handler)
        self._guests[handler] = _Guest(greeting, timer)
        if len(self._guests) > bounds.connections:
            self._drop(next(one for one, guest in self._guests.items() if not guest.is_served))

    def _note_greeting(self, handler: Any, accepted: socket.socket, greeting: asyncio.Task[Any]) -> None:
        if greeting.cancelled() or greeting.exception() is not None:  # the handshake failed, or is given up
            accepted.close()
            self._forget(handler)

    def _note_request(self, message: Any, payload: Any, protocol: Any, *rest: Any) -> web.BaseRequest:
        if guest := self._guests.get(protocol):
            guest.is_served = True
            guest.timer.cancel()
            guest.timer = self._loop.call_later(self._bounds.answer_s, self._drop, protocol)
        return self._make_request(message, payload, protocol, *rest)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._handler(request)
        except Exception as problem:
            _log.exception("a bug: a request failed with %s", type(problem).__name__)
            response = web.Response(text="Internal Server Error", status=500)
            response.force_close()
        if self._bounds.idle_s is None:
            response.force_close()
            return response
        # Sent here, though aiohttp would do it: only then does the connection wait for a request again.
        with suppress(ConnectionError):  # aiohttp meets it again, and knows what to do
            await response.prepare(request)
            await response.write_eof()
        if guest := self._guests.pop(request.protocol, None):
            guest.is_served = False
            guest.timer.cancel()  # aiohttp has one of its own from now on
            self._guests[request.protocol] = guest
        return response

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """Called by aiohttp once a connection is gone."""
        self._forget(handler)
        super().connection_lost(handler, exc)

    def _drop(self, handler: Any) -> None:
        if guest := self._forget(handler):
            guest.greeting.cancel()
            if handler.transport is not None:
                handler.transport.abort()

    def _forget(self, handler: Any) -> _Guest | None:
        guest = self._guests.pop(handler, None)
        if guest is not None:
            guest.timer.cancel()
        return guest


def open_port(host: str, number: int, handler: Handler, tls: ssl.SSLContext | None, bounds: Bounds) -> Port:
    """Listen, and answer every request by `handler`. host "", "::" and "0.0.0.0": every interface, IPv4 and
    IPv6, as in Go; number 0: any that is free. Raises OSError where the address is taken."""
    listener = _listen(host, number, min(bounds.connections, socket.SOMAXCONN))
    listener.setblocking(False)
    return Port(listener, handler, tls, bounds)


def _listen(host: str, number: int, backlog: int) -> socket.socket:
    """A listening socket; on every interface it takes IPv4 and IPv6 where the machine has both."""
    if host not in _EVERYWHERE:
        family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, number), family=family, backlog=backlog)
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", number), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True
        )
    return socket.create_server(("", number), backlog=backlog)
