"""Where the API server is, and how to prove who is asking.

Sources in this order: a kubeconfig named by a flag, one named by KUBECONFIG, the service account of the pod,
the user's own kubeconfig. Client certificates and tokens are read here; only a kubeconfig with an exec or
auth-provider plugin needs the `kubernetes` package, whose import costs 0.4 s and 44 MiB.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lws_core.values import as_list, as_map
from lws_runtime.manifests import read_manifests

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_AGE_S: Final = 60.0  # how long a token file is believed before it is read again


class NoCluster(Exception):
    """Why there is no connection to be had, in words for a user."""


class Connection:
    """How to reach one API server: its address, TLS, and the headers that authenticate."""

    def __init__(
        self,
        url: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_name: str = "",
        proxy: str = "",
        token: str = "",
        token_file: Path | None = None,
        plugin: Plugin | None = None,
        basic: str = "",
        source: str = "",
    ) -> None:
        self.url, self.ssl_context, self.server_name, self.proxy = url, ssl_context, server_name, proxy
        self.source = source
        self._token, self._token_file, self._plugin, self._basic = token, token_file, plugin, basic
        self._read_at_s = -_TOKEN_AGE_S

    async def headers(self) -> dict[str, str]:
        """The headers of a request. Raises OSError where a token cannot be read."""
        if self._plugin is not None:
            return {"Authorization": await self._plugin.authorization()}
        if self._token_file is not None and time.monotonic() - self._read_at_s >= _TOKEN_AGE_S:
            self._token = self._token_file.read_text(encoding="utf-8").strip()
            self._read_at_s = time.monotonic()
        if self._token:
            return {"Authorization": f"Bearer {self._token}"}
        return {"Authorization": f"Basic {self._basic}"} if self._basic else {}

    async def refresh(self) -> bool:
        """Get new credentials after the server refused the old ones; False where there are no others."""
        if self._plugin is not None:
            return await self._plugin.refresh()
        before, self._read_at_s = self._token, -_TOKEN_AGE_S
        await self.headers()
        return self._token != before


class Plugin:
    """Credentials from an exec or auth-provider plugin, by the `kubernetes` package."""

    def __init__(self, path: str, context: str) -> None:
        self._path, self._context = path, context
        self._load()

    def _load(self) -> None:
        from kubernetes import client, config  # noqa: PLC0415  # slow to import, and hardly ever needed

        load_kube_config: Any = config.load_kube_config
        self.configuration: Any = client.Configuration()
        try:
            load_kube_config(self._path, self._context or None, self.configuration)
        except (config.ConfigException, OSError, ValueError) as problem:
            raise NoCluster(f"{self._path}: {problem}") from None

    async def authorization(self) -> str:
        """The header's value; runs the plugin again when its token has expired."""
        header = await asyncio.to_thread(self.configuration.get_api_key_with_prefix, "authorization")
        return str(header or "")

    async def refresh(self) -> bool:
        """Run the plugin anew."""
        before = await self.authorization()
        await asyncio.to_thread(self._load)
        return await self.authorization() != before


def connect(kubeconfig: str = "", environment: Mapping[str, str] = os.environ) -> Connection:
    """The connection that flags and environment ask for. Raises NoCluster."""
    if kubeconfig:
        return _from_kubeconfig(kubeconfig)
    paths = [path for path in environment.get("KUBECONFIG", "").split(os.pathsep) if path]
    if paths:
        return _from_kubeconfig(next((path for path in paths if os.path.exists(path)), paths[0]))
    if environment.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return _in_cluster(environment)
    own = Path(environment.get("HOME", "~")).expanduser() / ".kube" / "config"
    if own.exists():
        return _from_kubeconfig(str(own))
    raise NoCluster(
        "no cluster: give --kubeconfig FILE, set KUBECONFIG, or run in a pod with a service account"
    )


def _in_cluster(environment: Mapping[str, str]) -> Connection:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    authority = f"[{host}]" if ":" in host else host
    try:
        context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    except (OSError, ssl.SSLError) as problem:
        raise NoCluster(f"{SERVICE_ACCOUNT / 'ca.crt'}: {problem}") from None
    return Connection(
        f"https://{authority}:{port}",
        ssl_context=context,
        token_file=SERVICE_ACCOUNT / "token",
        source="the pod's service account",
    )


def _from_kubeconfig(path: str) -> Connection:
    manifests = read_manifests([path])
    if manifests.problems:
        raise NoCluster(f"kubeconfig {'; '.join(manifests.problems)}")
    document = as_map(manifests.documents[0].value)
    name = document.get("current-context")
    if not isinstance(name, str) or not name:
        raise NoCluster(f"kubeconfig {path}: current-context is not set")
    context = _named(document, "contexts", "context", name, path)
    cluster = _named(document, "clusters", "cluster", context.get("cluster"), path)
    user = _named(document, "users", "user", context["user"], path) if context.get("user") else {}
    folder = Path(path).parent
    server = cluster.get("server")
    if not isinstance(server, str) or urlsplit(server).scheme not in ("http", "https"):
        raise NoCluster(f"kubeconfig {path}: clusters[{context.get('cluster')}].cluster.server is no URL")
    plugin = Plugin(path, name) if "exec" in user or "auth-provider" in user else None
    basic = ""
    if user.get("username"):
        basic = base64.b64encode(f"{user['username']}:{user.get('password', '')}".encode()).decode()
    token_file = user.get("tokenFile")
    return Connection(
        server.rstrip("/"),
        ssl_context=_tls(cluster, user, folder, path, plugin) if server.startswith("https") else None,
        server_name=str(cluster.get("tls-server-name") or ""),
        proxy=str(cluster.get("proxy-url") or ""),
        token=str(user.get("token") or ""),
        token_file=folder / str(token_file) if token_file else None,
        plugin=plugin,
        basic=basic,
        source=f"kubeconfig {path}",
    )


def _named(document: Mapping[str, Any], field: str, inner: str, name: object, path: str) -> Mapping[str, Any]:
    for item in as_list(document.get(field)):
        if as_map(item).get("name") == name:
            return as_map(as_map(item).get(inner))
    raise NoCluster(f"kubeconfig {path}: {field} has no entry {name!r}")


def _tls(
    cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path, path: str, plugin: Plugin | None
) -> ssl.SSLContext:
    """TLS as a kubeconfig asks for it. Raises NoCluster."""
    try:
        authority = _bytes(cluster, "certificate-authority", folder)
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify") is True:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate, key = _bytes(user, "client-certificate", folder), _bytes(user, "client-key", folder)
        if plugin is not None and plugin.configuration.cert_file:
            context.load_cert_chain(plugin.configuration.cert_file, plugin.configuration.key_file)
        elif certificate and key:
            with tempfile.NamedTemporaryFile(prefix="lws-") as file:  # OpenSSL reads chains from files only
                file.write(certificate + b"\n" + key)
                file.flush()
                context.load_cert_chain(file.name)
    except (OSError, ssl.SSLError, ValueError, binascii.Error) as problem:
        raise NoCluster(f"kubeconfig {path}: certificates: {problem}") from None
    return context


def _bytes(fields: Mapping[str, Any], name: str, folder: Path) -> bytes:
    """A file's content, given inline or by its path; nothing where it is not given."""
    inline, path = fields.get(f"{name}-data"), fields.get(name)
    if inline:
        return base64.b64decode(str(inline), validate=True)
    return (folder / str(path)).read_bytes() if path else b""
