"""The operator's hold on its webhook server, which is a process of its own.

A busy operator would make admission wait (p50 5.9 ms against 0.3 ms beside a busy loop), and a review that
brings the server down must not bring the operator down. The process is `python -m lws_runtime.webhook` rather
than a multiprocessing child: it imports only what it serves with, not the operator; nothing is pickled and no
third process is needed; a pipe that closes is all it takes to end with its parent; and `ps` says what it is.

Guarantees: it is started again with back-off when it dies or hangs, and it never outlives the operator.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import suppress
from typing import Any, Final

import orjson

from lws_runtime.config import Settings

from .server import ServerSettings

_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0
_STEADY_S: Final = 60.0  # a server that ran for so long starts the back-off anew when it dies
_SILENCE_S: Final = 10.0  # a server that gave no sign of life for so long is not serving
_MOST_SILENCES: Final = 3  # in a row; then it hangs, and is ended
_KILL_AFTER_S: Final = 2.0
_LONGEST_LINE: Final = 2**20

_log = logging.getLogger("lws.webhook")


def server_settings(settings: Settings) -> ServerSettings:
    """The part of an operator's settings that its webhook server needs."""
    return ServerSettings(
        host=settings.webhook.address.host,
        port=settings.webhook.address.port,
        cert_dir=settings.webhook.cert_dir,
        min_version=settings.tls.min_version,
        cipher_suites=settings.tls.cipher_suites,
        gang_scheduling=settings.options.gang_scheduling,
        exclusive_across_namespaces=settings.options.exclusive_across_namespaces,
    )


class Webhooks:
    """A webhook server that is kept running."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._told_at_s = float("-inf")
        self.serving = ""
        """Fingerprint of the certificate that is served; "" while none is."""
        self.port = 0
        """The port that is listened on; 0 while none is."""

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the server and keep it running. Returns at once; `is_serving` says when it serves."""
        assert self._supervisor is None
        self._supervisor = asyncio.create_task(self._supervise())

    def is_serving(self, certificate: str = "") -> bool:
        """Whether the server answers, and with this certificate if a fingerprint is given."""
        alive = time.monotonic() - self._told_at_s < _SILENCE_S
        return alive and self.serving != "" and certificate in ("", self.serving)

    async def stop(self) -> None:
        """End the server, within a second if it is well. What it is answering is answered first."""
        if self._supervisor is None:
            return
        self._supervisor.cancel()
        with suppress(asyncio.CancelledError):
            await self._supervisor
        self._supervisor = None

    async def _supervise(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            started_at_s = time.monotonic()
            bug: Exception | None = None
            try:
                how = f"ended with code {await self._run()}"
            except (OSError, ValueError) as problem:  # a line that is none of ours is a ValueError
                how = f"failed: {problem}"
            except Exception as problem:  # nobody awaits this task: it would end without a word
                how, bug = f"failed: {type(problem).__name__}", problem
            if time.monotonic() - started_at_s > _STEADY_S:
                delay_s = _FIRST_DELAY_S
            _log.error("the webhook server %s; it is started again in %g s", how, delay_s, exc_info=bug)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _run(self) -> int:
        """Run the process to its end; its exit code. Raises OSError where it cannot be started or hangs,
        and ValueError where it says what cannot be understood."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # or `-m` would look for modules in the working directory first
            "-m",
            "lws_runtime.webhook",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(self._settings.encode())
            await self._listen(process.stdout)
            return await process.wait()
        finally:
            self._process, self.serving, self.port = None, "", 0
            await _end(process)

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        while line := await self._next(lines):
            told = orjson.loads(line)
            self._told_at_s = time.monotonic()
            if "serving" in told:
                if told["serving"] != self.serving:
                    _log.info(
                        "webhooks are served",
                        extra={"port": told["port"], "certificate": told["serving"][:16]},
                    )
                self.serving, self.port = told["serving"], told["port"]
            else:
                _log_again(told["log"])

    async def _next(self, lines: asyncio.StreamReader) -> bytes:
        """The next line. Raises TimeoutError where a server that has served gives no sign of life.

        Silence is counted in parts: of an operator that was frozen itself only one of them is over, and
        then it reads what the server has said meanwhile.
        """
        for _ in range(_MOST_SILENCES):
            try:
                async with asyncio.timeout(_SILENCE_S if self.serving else None):
                    return await lines.readline()
            except TimeoutError:
                continue
        raise TimeoutError(f"no sign of life for {_MOST_SILENCES * _SILENCE_S:g} s")


def _log_again(record: dict[str, Any]) -> None:
    _log.log(record["level"], "%s", record["message"])


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _KILL_AFTER_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
