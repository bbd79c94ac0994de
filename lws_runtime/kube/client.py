"""Requests to an API server, and streams from it.

A request never raises for what the network or the server does: its answer says so, with code 0 where none
came back. Whoever sent it then knows nothing of its outcome. A write is sent once, whatever becomes of it,
unless it is refused for its credentials.

A peer that is dead without a word is noticed by its host's TCP: what is sent and not acknowledged for 20 s,
or a connection that is silent and answers no probe for as long, is closed. Redirects are not followed and
cookies not kept: an API server needs neither, and credentials must not travel.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import attrs
import msgspec

from .connection import Connection
from .plugin import NoCluster

_log = logging.getLogger(__name__)

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"  # JSON is YAML
_DEAD_PEER_S: Final = 20
_PROBE_S: Final = 5
_HEADERS_S: Final = 30.0  # an API server begins to answer a watch at once
_CLOSING_S: Final = 1.0  # how long connections may take to say goodbye
_NO_PARAMS: Final[Mapping[str, str]] = {}

Observer = Callable[[str, str, int], None]
"""Told of each request: verb, resource, status code."""


@attrs.frozen
class Answer:
    """What came back: the HTTP status (0: nothing), the body, and how long the server asked to wait.

    distrusted: nothing came back as the server's certificate is not one that we trust.
    """

    code: int
    body: bytes = b""
    retry_after_s: float = 0.0
    distrusted: bool = False

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.code < 300

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return None

    @property
    def message(self) -> str:
        """The server's own words, of a Status; the start of the body where it is something else."""
        status = self.json()
        if isinstance(status, dict) and isinstance(status.get("message"), str):
            return str(status["message"])
        return self.body[:300].decode(errors="replace")

    @property
    def causes(self) -> tuple[str, ...]:
        """Why the server refused, each in a word, as the details of its Status say."""
        status = self.json()
        details = status.get("details") if isinstance(status, dict) else None
        causes = details.get("causes") if isinstance(details, dict) else None
        listed = causes if isinstance(causes, list) else []
        return tuple(str(cause.get("reason", "")) for cause in listed if isinstance(cause, dict))


@attrs.frozen
class Stream:
    """An answer whose body is read as it comes: the HTTP status, and how long the server asked to wait."""

    code: int
    content: aiohttp.StreamReader
    retry_after_s: float = 0.0


class _Bucket:
    """Lets `qps` requests a second pass, and `burst` at once."""

    def __init__(self, qps: float, burst: int) -> None:
        self._qps, self._burst = qps, float(max(burst, 1))
        self._tokens, self._at_s = self._burst, time.monotonic()

    async def take(self) -> None:
        now_s = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._qps)
        self._at_s = now_s
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._qps)


class Client:
    """A connection pool to one API server. Use as an async context manager."""

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str,
        qps: float | None = 500.0,
        burst: int = 500,
        observer: Observer | None = None,
    ) -> None:
        self._connection, self._user_agent = connection, user_agent
        self._bucket, self._observer = None if qps is None else _Bucket(qps, burst), observer
        self._session: aiohttp.ClientSession | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def __aenter__(self) -> Client:
        # Without a limit: each watch has a connection of its own, and no number of them may keep writes out.
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self._connection.ssl_context or True,
            keepalive_timeout=60.0,
            socket_factory=self._new_socket,
        )
        # Without TLS the proxy reads the request itself, and there is none that goes to it alone.
        to_proxy = {} if self._connection.url.startswith("https:") else self._connection.to_proxy
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent, "Accept": JSON, **to_proxy},
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self._connection.proxy or None,
            middlewares=(_send_once,),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            # Of a stream that was cut short nobody else awaits the end, for which TLS asks the peer.
            until_s = time.monotonic() + _CLOSING_S
            while any(one.fileno() != -1 for one in self._sockets) and time.monotonic() < until_s:
                await asyncio.sleep(0.005)

    def _new_socket(self, address: Any) -> socket.socket:
        made = _socket(address)
        self._sockets.add(made)
        return made

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = JSON,
        params: Mapping[str, str] = _NO_PARAMS,
        timeout_s: float = 10.0,
        at_once: bool = False,
        may_send: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Send one request. `path` begins with a slash. Never raises but for cancellation.

        at_once: do not wait behind others for the rate that is allowed. may_send is asked last, after all
        waiting; where it says no, nothing is sent, and the answer has code 0.
        """
        if self._bucket is not None and not at_once:
            await self._bucket.take()
        answer, proof = await self._send(method, path, body, content_type, params, timeout_s, may_send)
        if answer.code == 401 and await self._has_new_credentials(proof):
            answer, _ = await self._send(method, path, body, content_type, params, timeout_s, may_send)
        if self._observer is not None:
            self._observer(method, path, answer.code)
        return answer

    async def _has_new_credentials(self, refused: str) -> bool:
        try:
            return await self._connection.refresh(refused)
        except (NoCluster, OSError, ValueError) as problem:
            _log.warning("no new credentials after the API server refused the old ones: %s", problem)
            return False

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str,
        params: Mapping[str, str],
        timeout_s: float,
        may_send: Callable[[], bool],
    ) -> tuple[Answer, str]:
        """What came back, and the Authorization header that went out."""
        assert self._session is not None
        proof = ""
        try:
            headers = await self._connection.headers()
            proof = headers.get("Authorization", "")
            if body is not None:
                headers["Content-Type"] = content_type
            if not may_send():
                return Answer(0, b"not sent: this process may no longer write"), proof
            async with self._session.request(
                method,
                self._connection.url + path,
                data=body,
                params=params,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                server_hostname=self._connection.server_name or None,
                proxy_headers=self._connection.to_proxy,
                allow_redirects=False,
            ) as response:
                return Answer(response.status, await response.read(), _retry_after_s(response)), proof
        except (NoCluster, aiohttp.ClientError, OSError, ValueError) as problem:
            distrusted = isinstance(problem, ssl.CertificateError | aiohttp.ClientConnectorCertificateError)
            late = isinstance(problem, TimeoutError)
            words = f"no answer within {timeout_s:g} s" if late else _in_words(problem)
            return Answer(0, words.encode(), distrusted=distrusted), proof

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, silence_s: float
    ) -> AsyncIterator[Stream]:
        """A GET whose body is read as it comes; it ends with an error after `silence_s` without a byte, and
        after half a minute without an answer.

        Raises OSError, TimeoutError included, for what the network does, and for credentials that cannot be
        had.
        """
        if self._bucket is not None:
            await self._bucket.take()
        response = await self._begin(path, params, silence_s)
        try:
            async with response:
                if self._observer is not None:
                    self._observer("WATCH", path, response.status)
                yield Stream(response.status, response.content, _retry_after_s(response))
        except aiohttp.ClientError as problem:
            raise OSError(_in_words(problem)) from problem

    async def _begin(self, path: str, params: Mapping[str, str], silence_s: float) -> aiohttp.ClientResponse:
        """What answers a GET, once its headers are there. Raises OSError."""
        assert self._session is not None
        try:
            headers = await self._connection.headers()
            # Of aiohttp's own timeouts only the total one would cover what a proxy is asked for.
            async with asyncio.timeout(_HEADERS_S):
                return await self._session.get(
                    self._connection.url + path,
                    params=params,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence_s),
                    server_hostname=self._connection.server_name or None,
                    proxy_headers=self._connection.to_proxy,
                    read_bufsize=2**20,
                    allow_redirects=False,
                )
        except (NoCluster, aiohttp.ClientError, ValueError) as problem:  # ValueError: of a token or a URL
            raise OSError(_in_words(problem)) from problem
        except TimeoutError:
            raise TimeoutError(f"no answer within {_HEADERS_S:g} s") from None


async def _send_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keeps aiohttp from sending a DELETE or a PUT again by itself where the connection is lost: the first
    may have been carried out, and by now this process may no longer be one that writes."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:  # nothing was sent, and this is not tried again
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as problem:
        if request.method == "GET":
            raise
        raise aiohttp.ClientConnectionError(str(problem)) from problem


def _socket(address: Any) -> socket.socket:
    """A socket that finds out by itself that its peer is dead."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _PROBE_S),
        ("TCP_KEEPINTVL", _PROBE_S),
        ("TCP_KEEPCNT", _DEAD_PEER_S // _PROBE_S - 1),
        ("TCP_USER_TIMEOUT", _DEAD_PEER_S * 1000),
    ):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 6 else 0.0


def _in_words(problem: Exception) -> str:
    if isinstance(problem, aiohttp.ClientResponseError):  # its own text has a URL, which may have a password
        message = " ".join(problem.message.split())
        is_proxy = isinstance(problem, aiohttp.ClientHttpProxyError)
        return f"the proxy answered {problem.status} {message}" if is_proxy else message
    return str(problem) or type(problem).__name__
