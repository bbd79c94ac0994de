"""Credentials from an exec plugin of a kubeconfig, as client-go gets them (client.authentication.k8s.io).

The plugin is a program: it is told in KUBERNETES_EXEC_INFO what is wanted, and prints an ExecCredential with
a token, or a client certificate and its key. It runs without a terminal, so it cannot ask anybody anything;
it runs again once what it gave expires or is refused, and one run serves all who wait for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lws_core.values import as_list, as_map, freeze, thaw

_LONGEST_RUN_S: Final = 60.0
_EARLY_S: Final = 10.0  # what expires so soon is replaced already
_DYING_S: Final = 1.0  # what is killed may hang in a system call
_MOST_OFTEN_S: Final = 5.0  # a refusal of what is younger is no reason to run again
_EXTENSION: Final = "client.authentication.k8s.io/exec"
_TOLD: Final = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)
_NEVER: Final = float("inf")


class NoCluster(Exception):
    """Why there is no connection to be had, in words for a user."""


class ExecPlugin:
    """One plugin, and what it gave last. `cluster`: the fields of the kubeconfig's cluster, its authority
    inline. `tls` is given the client certificate, where the plugin gives one."""

    def __init__(
        self,
        config: Mapping[str, Any],
        path: str,
        cluster: Mapping[str, Any],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._config, self._path, self._cluster, self._tls = config, path, cluster, tls
        self._version = str(config.get("apiVersion") or "")
        self._lock = asyncio.Lock()
        self._given: dict[str, Any] = {}
        self._ran_at_s = -_NEVER
        self._expires_s = -_NEVER

    async def authorization(self) -> str:
        """The header's value, "" where a certificate does. Raises NoCluster where the plugin fails."""
        if time.time() >= self._expires_s:
            async with self._lock:
                if time.time() >= self._expires_s:  # nobody has run it while we waited
                    await self._run()
        return self._header()

    def _header(self) -> str:
        token = self._given.get("token")
        return f"Bearer {token}" if token else ""

    async def refresh(self, refused: str) -> bool:
        """Run it anew, unless it has just run or has given something else than what was refused; whether it
        has. Raises NoCluster."""
        before = dict(self._given)
        async with self._lock:
            is_old = self._header() == refused and self._given == before
            if is_old and time.monotonic() - self._ran_at_s >= _MOST_OFTEN_S:
                await self._run()
        return self._header() != refused or self._given != before

    async def _run(self) -> None:
        said = await self._output()
        try:
            answer = as_map(freeze(json.loads(said)))
        except (ValueError, TypeError, RecursionError):
            raise self._failed("printed what is no JSON") from None
        status = as_map(answer.get("status"))
        if answer.get("apiVersion") != self._version:
            raise self._failed(f"did not answer in {self._version or 'any version of the API'}")
        if not str(status.get("token") or "").isprintable():
            raise self._failed("gave a token with a control character, which no header may hold")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if certificate and key and self._tls is not None:
            try:
                load_certificate(self._tls, str(certificate).encode(), str(key).encode())
            except (OSError, ValueError) as problem:
                raise self._failed(f"gave a certificate that cannot be used: {problem}") from None
        elif not status.get("token"):
            raise self._failed("gave neither a token nor a certificate with its key")
        self._given, self._ran_at_s = dict(status), time.monotonic()
        self._expires_s = self._expiry_s(status.get("expirationTimestamp"))

    def _expiry_s(self, text: object) -> float:
        """When to run again, in epoch seconds. Raises NoCluster."""
        if text is None:
            return _NEVER
        try:
            at_s = datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
        except ValueError:
            raise self._failed(f"gave no time as expirationTimestamp: {str(text)[:60]!r}") from None
        return max(at_s - _EARLY_S, time.time() + _MOST_OFTEN_S)

    async def _output(self) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                self._program(),
                *(str(argument) for argument in as_list(self._config.get("args"))),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,
            )
        except (OSError, ValueError) as problem:
            raise self._failed(f"cannot be run: {problem}") from None
        try:
            out, complaints = await asyncio.wait_for(process.communicate(), _LONGEST_RUN_S)
        except TimeoutError:
            raise self._failed(f"did not end within {_LONGEST_RUN_S:g} s") from None
        finally:
            await _end(process)
        if process.returncode != 0:
            words = " ".join(complaints.decode(errors="replace").split())[-300:]
            raise self._failed(f"ended with code {process.returncode}" + (f": {words}" if words else ""))
        return out

    def _program(self) -> str:
        """The command; one with a slash is looked for beside the kubeconfig, any other in PATH."""
        command = str(self._config.get("command") or "")
        return str((Path(self._path).parent / command).absolute()) if "/" in command else command

    def _environment(self) -> dict[str, str]:
        wanted: dict[str, Any] = {"interactive": False}
        if self._config.get("provideClusterInfo") is True:
            wanted["cluster"] = self._told_of_cluster()
        info = {"apiVersion": self._version, "kind": "ExecCredential", "spec": wanted}
        given = {
            str(as_map(one).get("name")): str(as_map(one).get("value"))
            for one in as_list(self._config.get("env"))
        }
        return {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}

    def _told_of_cluster(self) -> dict[str, Any]:
        """What kubectl tells: some fields, and what an extension holds for the plugin."""
        told = {name: self._cluster[name] for name in _TOLD if name in self._cluster}
        for one in as_list(self._cluster.get("extensions")):
            if as_map(one).get("name") == _EXTENSION:
                told["config"] = thaw(as_map(one).get("extension"))
        return told

    def _failed(self, how: str) -> NoCluster:
        return NoCluster(f"kubeconfig {self._path}: the plugin {self._config.get('command')!r} {how}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it, with what it has started, unless it has ended; and stop to listen.

    The end of its output is not waited for: what it has started in a session of its own, as agents are, may
    hold that open for ever.
    """
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _DYING_S)
    finally:
        process._transport.close()  # type: ignore[attr-defined]  # nothing public closes its pipes


def load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Show this certificate (PEM) on new connections. Raises OSError where the two do not fit."""
    with tempfile.NamedTemporaryFile(prefix="lws-") as file:  # OpenSSL reads chains from files only
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name, password=_no_password)


def _no_password() -> str:
    raise OSError("the private key is encrypted")
