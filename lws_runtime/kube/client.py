"""Requests to an API server, and streams from it.

A request never raises for what the network or the server does: its answer says so, with code 0 where none
came back. Whoever sent it then knows nothing of its outcome.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import attrs
import msgspec

from .connection import Connection

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"  # JSON is YAML
_MOST_CONNECTIONS: Final = 64
_NO_PARAMS: Final[Mapping[str, str]] = {}

Observer = Callable[[str, str, int], None]
"""Told of each request: verb, resource, status code."""


@attrs.frozen
class Answer:
    """What came back: the HTTP status (0: nothing), the body, and how long the server asked to wait."""

    code: int
    body: bytes = b""
    retry_after_s: float = 0.0

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

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(
            limit=_MOST_CONNECTIONS, ssl=self._connection.ssl_context or True, keepalive_timeout=60.0
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent, "Accept": JSON},
            auto_decompress=True,
            proxy=self._connection.proxy or None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets transports close

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = JSON,
        params: Mapping[str, str] = _NO_PARAMS,
        timeout_s: float = 10.0,
    ) -> Answer:
        """Send one request. `path` begins with a slash. Never raises but for cancellation."""
        if self._bucket is not None:
            await self._bucket.take()
        answer = await self._send(method, path, body, content_type, params, timeout_s)
        if answer.code == 401 and await self._connection.refresh():
            answer = await self._send(method, path, body, content_type, params, timeout_s)
        if self._observer is not None:
            self._observer(method, path, answer.code)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str,
        params: Mapping[str, str],
        timeout_s: float,
    ) -> Answer:
        assert self._session is not None
        try:
            headers = await self._connection.headers()
            if body is not None:
                headers["Content-Type"] = content_type
            async with self._session.request(
                method,
                self._connection.url + path,
                data=body,
                params=params,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                server_hostname=self._connection.server_name or None,
            ) as response:
                return Answer(response.status, await response.read(), _retry_after_s(response))
        except (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError, ValueError) as problem:
            return Answer(0, _in_words(problem, timeout_s).encode())

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, silence_s: float
    ) -> AsyncIterator[tuple[int, aiohttp.StreamReader]]:
        """A GET whose body is read as it comes; it ends with an error after `silence_s` without a byte.

        Raises OSError (aiohttp.ClientError, TimeoutError) for what the network does.
        """
        assert self._session is not None
        if self._bucket is not None:
            await self._bucket.take()
        async with self._session.get(
            self._connection.url + path,
            params=params,
            headers=await self._connection.headers(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence_s),
            server_hostname=self._connection.server_name or None,
            read_bufsize=2**20,
        ) as response:
            if self._observer is not None:
                self._observer("WATCH", path, response.status)
            yield response.status, response.content


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 6 else 0.0


def _in_words(problem: Exception, timeout_s: float) -> str:
    if isinstance(problem, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return str(problem) or type(problem).__name__
