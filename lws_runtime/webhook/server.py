"""The webhook server: HTTP/1.1 over TLS, in a process that does nothing else.

Flow: the process reads its settings from the first line of standard input, waits for a certificate, listens,
and tells its parent by lines on standard output what it serves with and what it has to log. Each line is a
JSON object: `{"serving": <fingerprint>, "port": <port>}`, once a second as a sign of life and at once when it
changes, or `{"log": {"level": ..., "message": ...}}`.

Guarantees:
- A new certificate in the folder is served within `poll_s`. New connections get it; the others go on with
  the old one, and none is dropped. A pair that does not fit together is not taken.
- What one connection can cost is bounded: time for the handshake, for the first request and for a body, the
  size of a body, and the bytes of all bodies together but for the first 64 KiB of each. So whoever holds
  large bodies back keeps out no review of usual size.
- SIGTERM, or the end of the parent (standard input ends), ends the process within a second; what is being
  answered is answered first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import ssl
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
import orjson
from aiohttp import web

from lws_core.options import Options
from lws_runtime.ports import Bounds, open_port
from lws_runtime.tls import TlsSettings, server_context

from .reviews import Reply, respond

MAX_BODY: Final = 7 * 2**20
"""The largest review in bytes: an object and its old form, each as large as an API server takes it."""

_MAX_IN_FLIGHT: Final = 64 * 2**20  # bytes of bodies that are being read, all connections together
_SMALL: Final = 64 * 2**10  # bytes of a body that is read however many others are: most reviews are smaller
_MAX_CONNECTIONS: Final = 1000
_HANDSHAKE_S: Final = 5.0
_FIRST_REQUEST_S: Final = 10.0
_BODY_S: Final = 10.0
_ANSWER_S: Final = 60.0  # for whoever asks and does not read
_IDLE_S: Final = 120.0  # longer than API servers keep an idle connection, so that it is they who close it
_GRACE_S: Final = 0.3
_SIGN_OF_LIFE_S: Final = 1.0
_MAX_UNREAD: Final = (
    2**18
)  # bytes of lines to the parent; beyond that they are dropped rather than waited for

_log = logging.getLogger("lws.webhook")


@attrs.frozen
class ServerSettings:
    """What the server needs to know. host "": every interface; port 0: any that is free.

    cert_dir holds tls.crt and tls.key and is looked at every `poll_s` seconds.
    """

    host: str
    port: int
    cert_dir: str
    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    gang_scheduling: bool = False
    exclusive_across_namespaces: bool = False
    poll_s: float = 1.0

    def encode(self) -> bytes:
        """The settings as one line."""
        return orjson.dumps(attrs.asdict(self)) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> ServerSettings:
        """The settings in a line that `encode` made."""
        fields = orjson.loads(line)
        return cls(**{**fields, "cipher_suites": tuple(fields["cipher_suites"])})


def fingerprint(certificate: bytes) -> str:
    """What tells one tls.crt from another: the hexadecimal SHA-256 of the file."""
    return hashlib.sha256(certificate).hexdigest()


class Certificate:
    """The certificate that is served: the newest pair in a folder that could be loaded.

    One context listens for good, and hands each new connection to the context of the newest pair.
    at_each_connection: it looks whether there is another one before.
    """

    def __init__(self, folder: Path, tls: TlsSettings, *, at_each_connection: bool = False) -> None:
        self._at_each_connection = at_each_connection
        self._certificate, self._key, self._tls = folder / "tls.crt", folder / "tls.key", tls
        self._seen = b""
        self._current: ssl.SSLContext | None = None
        self._problem = ""
        self.fingerprint = ""
        """Of the certificate that is served; "" while there is none."""

    @property
    def context(self) -> ssl.SSLContext | None:
        """What to serve with; None while there is no certificate. It serves what is loaded later too."""
        return self._current

    def look(self) -> bool:
        """Load the pair if it is another one; whether that changed what is served."""
        try:
            certificate = self._certificate.read_bytes()
            seen = certificate + self._key.read_bytes()
            if seen == self._seen:
                return False
            context = server_context(self._tls, self._certificate, self._key)
        except OSError as problem:
            self._tell(f"cannot serve with {self._certificate}: {problem.strerror or problem}")
            return False
        context.sni_callback = self._hand_over
        self._seen, self._current, self._problem = seen, context, ""
        self.fingerprint = fingerprint(certificate)
        return True

    def _hand_over(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        # Called for each handshake, with a server name or without.
        if self._at_each_connection:
            self.look()
        if self._current is not None:
            connection.context = self._current

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            _log.log(logging.WARNING if self._current is not None else logging.INFO, "%s", problem)
        self._problem = problem


@attrs.define
class Handler:
    """Answers requests: reads a body within its bounds and has reviews.py answer it."""

    options: Options
    in_flight: int = 0
    """Bytes of bodies read and not yet answered."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request; one with an error closes the connection."""
        if request.method != "POST":
            return _error(405, "only POST is answered here")
        if request.content_type != "application/json" or request.headers.get("Content-Encoding"):
            return _error(415, "the content type must be application/json, without an encoding")
        if (request.content_length or 0) > MAX_BODY:
            return _error(413, f"a review has at most {MAX_BODY} bytes")
        held = 0
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_S):
                async for chunk in request.content.iter_any():
                    held += len(chunk)
                    self.in_flight += len(chunk)
                    if held > MAX_BODY:
                        return _error(413, f"a review has at most {MAX_BODY} bytes")
                    if self.in_flight > _MAX_IN_FLIGHT and held > _SMALL:
                        return _error(503, "too many large reviews at once")
                    body += chunk
            return self._answer(request.path, bytes(body))
        except TimeoutError:
            return _error(408, f"the body did not come within {_BODY_S:g} s")
        finally:
            self.in_flight -= held

    def _answer(self, path: str, body: bytes) -> web.Response:
        reply = respond(path, body, self.options)
        _tell_of(reply)
        response = web.Response(
            body=reply.body, status=reply.code, headers={"Content-Type": reply.content_type}
        )
        if reply.code >= 400:
            response.force_close()
        return response


def _tell_of(reply: Reply) -> None:
    if reply.failure is not None:
        # Where it failed, but not the exception's text: that may hold what the object holds.
        where = "".join(traceback.format_tb(reply.failure.__traceback__))
        _log.error("%s failed with %s and is denied\n%s", reply.about, type(reply.failure).__name__, where)
    elif reply.about and not reply.allowed:
        _log.info("denied %s", reply.about)


def _error(code: int, text: str) -> web.Response:
    response = web.Response(text=f"{text}\n", status=code)
    response.force_close()
    return response


async def serve(
    settings: ServerSettings, tell: Callable[[dict[str, object]], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set; `tell` gets what the parent should know. Raises OSError where the address
    cannot be listened on."""
    certificate = Certificate(
        Path(settings.cert_dir), TlsSettings(settings.min_version, settings.cipher_suites)
    )
    while not certificate.look():
        if await _is_set_within(stop, settings.poll_s):
            return
    options = Options(
        gang_scheduling=settings.gang_scheduling,
        exclusive_across_namespaces=settings.exclusive_across_namespaces,
    )
    bounds = Bounds(_MAX_CONNECTIONS, _HANDSHAKE_S, _FIRST_REQUEST_S, _ANSWER_S, _IDLE_S, _GRACE_S)
    port = open_port(settings.host, settings.port, Handler(options), certificate.context, bounds)
    told_at_s = -_SIGN_OF_LIFE_S
    try:
        while True:
            now_s = asyncio.get_running_loop().time()
            if certificate.look() or now_s - told_at_s >= _SIGN_OF_LIFE_S:
                tell({"serving": certificate.fingerprint, "port": port.number})
                told_at_s = now_s
            if await _is_set_within(stop, min(settings.poll_s, _SIGN_OF_LIFE_S)):
                return
    finally:
        await port.cleanup()


async def _is_set_within(event: asyncio.Event, timeout_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
    return event.is_set()


class _LogLines(logging.Handler):
    """Sends log records to the parent, which writes them as it writes its own."""

    def __init__(self, tell: Callable[[dict[str, object]], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            where = "".join(traceback.format_tb(record.exc_info[2]))
            message = f"{message}: {type(record.exc_info[1]).__name__}\n{where}"
        self._tell({"log": {"level": record.levelno, "message": message}})


async def run() -> int:
    """The process: settings from standard input, lines to standard output. Returns its exit code."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches both; the parent ends this one
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)

    def tell(line: dict[str, object]) -> None:
        if not out.is_closing() and out.get_write_buffer_size() < _MAX_UNREAD:
            out.write(orjson.dumps(line) + b"\n")

    logging.getLogger().addHandler(_LogLines(tell))
    logging.getLogger().setLevel(logging.INFO)

    async def end_with_parent() -> None:
        while await reader.read(2**10):
            pass
        stop.set()

    line = await reader.readline()
    if not line:
        return 0
    watch = asyncio.create_task(end_with_parent())
    try:
        await serve(ServerSettings.decode(line), tell, stop)
    except OSError as problem:
        _log.error("cannot listen: %s", problem.strerror or problem)
        return 1
    finally:
        watch.cancel()
        out.close()
    return 0
