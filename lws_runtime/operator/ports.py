"""The ports of the operator's own process, with bounds on what a client can cost.

Anybody in the cluster can reach them, without a token too, and the process behind them decides for all sets.

Flow: a connection is accepted, shakes hands where the port has TLS, sends one request, gets its answer and is
closed. A kubelet asks so anyway, and a scrape every half minute gains little from a connection that stays.

Guarantees: a port has at most MOST_CONNECTIONS open, those that have not shaken hands included; each has
_HANDSHAKE_S for the handshake, _REQUEST_S until its request has come and _ANSWER_S from then on. Beyond that
number the one that has been silent for longest is closed, not the new one: whoever holds all of them keeps no
probe out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs
from aiohttp import web

from lws_runtime.config import Address

MOST_CONNECTIONS: Final = 100
_HANDSHAKE_S: Final = 5.0
_REQUEST_S: Final = 10.0
_ANSWER_S: Final = 60.0  # for whoever asks and does not read
_LINGER_S: Final = 2.0
_LAST_ANSWERS_S: Final = 0.3  # how long a port that ends waits for what it is answering
_ACCEPT_AGAIN_S: Final = 0.5
_BACKLOG: Final = 128

_log = logging.getLogger(__name__)
_NOBODY: Final = logging.Logger("nobody", logging.CRITICAL)  # aiohttp has a traceback for whatever is no HTTP

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@attrs.define(eq=False)
class _Guest:
    """A connection: its way up to the handshake, when it is closed, and whether its request has come."""

    greeting: asyncio.Task[Any]
    timer: asyncio.TimerHandle
    has_asked: bool = False


class Port(web.Server):
    """A listening socket, and the connections that came by it. Close it with `cleanup`."""

    def __init__(self, listener: socket.socket, handler: Handler, tls: ssl.SSLContext | None) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                response = await handler(request)
            except Exception as problem:
                _log.exception("a bug: a request failed with %s", type(problem).__name__)
                response = web.Response(text="Internal Server Error", status=500)
            response.force_close()
            return response

        super().__init__(
            answer,
            request_factory=self._note_request,
            access_log=None,
            lingering_time=_LINGER_S,
            logger=_NOBODY,
        )
        self._listener, self._tls = listener, tls
        self._guests: dict[Any, _Guest] = {}  # by aiohttp's handler, the oldest first
        self._accepting = asyncio.create_task(self._accept())

    @property
    def number(self) -> int:
        """The TCP port that it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def guests(self) -> int:
        """How many connections are open, those that have not shaken hands included."""
        return len(self._guests)

    async def cleanup(self) -> None:
        """Listen no more, and close all connections; what is being answered has a moment."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self.pre_shutdown()
        await self.shutdown(_LAST_ANSWERS_S)
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
        handler = self()
        greeting = asyncio.create_task(
            self._loop.connect_accepted_socket(
                lambda: handler,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_S,
                ssl_shutdown_timeout=None if self._tls is None else _LAST_ANSWERS_S,
            )
        )
        greeting.add_done_callback(partial(self._note_greeting, handler, accepted))
        timer = self._loop.call_later(_REQUEST_S, self._drop, handler)
        self._guests[handler] = _Guest(greeting, timer)
        if len(self._guests) > MOST_CONNECTIONS:
            self._drop(next(one for one, guest in self._guests.items() if not guest.has_asked))

    def _note_greeting(self, handler: Any, accepted: socket.socket, greeting: asyncio.Task[Any]) -> None:
        if greeting.cancelled() or greeting.exception() is not None:  # the handshake failed, or is given up
            accepted.close()
            self._forget(handler)

    def _note_request(self, message: Any, payload: Any, protocol: Any, *rest: Any) -> web.BaseRequest:
        if guest := self._guests.get(protocol):
            guest.has_asked = True
            guest.timer.cancel()
            guest.timer = self._loop.call_later(_ANSWER_S, self._drop, protocol)
        return self._make_request(message, payload, protocol, *rest)

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


def open_port(address: Address, handler: Handler, tls: ssl.SSLContext | None) -> Port:
    """Listen, and answer every request by `handler`. Raises OSError where the address is taken."""
    listener = _listen(address)
    listener.setblocking(False)
    return Port(listener, handler, tls)


def _listen(address: Address) -> socket.socket:
    """A listening socket; without a host it takes IPv4 and IPv6 where the machine has both."""
    place = (address.host, address.port)
    if address.host:
        family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server(place, family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(place, family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
    return socket.create_server(place, backlog=_BACKLOG)
