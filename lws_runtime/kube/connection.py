"""Where the API server is, and how to prove who is asking.

Sources in this order: a kubeconfig named by a flag, those named by KUBECONFIG, the service account of the
pod, the user's own kubeconfig. Of several files the first that has an entry gives it, as with kubectl.

Client certificates, tokens and exec plugins are dealt with here; only an auth-provider needs the `kubernetes`
package, whose import costs 0.4 s and 44 MiB. A plugin runs when `prepare` is awaited, not before.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

import attrs

from lws_core.values import as_list, as_map
from lws_runtime.manifests import read_manifests

from .plugin import ExecPlugin, NoCluster, load_certificate

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_AGE_S: Final = 60.0  # how long a token file is believed before it is read again
_IMPERSONATION: Final = ("as", "as-uid", "as-groups", "as-user-extra")
_PROOFS: Final = ("token", "tokenFile", "username", "exec", "auth-provider")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[\w+/=\s]+-----END CERTIFICATE-----")


class Credentials(Protocol):
    """What proves who is asking, and can be had anew."""

    async def authorization(self) -> str:
        """The value of the Authorization header; "" for none. Raises NoCluster where it cannot be had."""

    async def refresh(self, refused: str) -> bool:
        """Get new ones, as the server has refused those of this header, unless there are others already;
        whether there are others now."""


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
        plugin: Credentials | None = None,
        basic: str = "",
        source: str = "",
    ) -> None:
        self.url, self.ssl_context, self.server_name = url, ssl_context, server_name
        # What goes wrong with a proxy is told with its URL.
        self.proxy, self.to_proxy = _without_login(proxy)
        """`to_proxy`: the headers for the proxy alone."""
        self.source = source
        self._token, self._token_file, self._plugin, self._basic = token, token_file, plugin, basic
        self._read_at_s = -_TOKEN_AGE_S

    async def prepare(self) -> None:
        """Get the first credentials. Raises NoCluster where there are none to be had."""
        try:
            await self.headers()
        except (OSError, ValueError) as problem:
            raise NoCluster(f"{self.source}: the token cannot be read: {problem}") from None

    async def headers(self) -> dict[str, str]:
        """The headers of a request. Raises NoCluster, and OSError or ValueError where a token cannot be
        read."""
        if self._plugin is not None:
            authorization = await self._plugin.authorization()
            return {"Authorization": authorization} if authorization else {}
        if self._token_file is not None and time.monotonic() - self._read_at_s >= _TOKEN_AGE_S:
            self._token = _sendable(self._token_file.read_text(encoding="utf-8").strip())
            self._read_at_s = time.monotonic()
        if self._token:
            return {"Authorization": f"Bearer {_sendable(self._token)}"}
        return {"Authorization": f"Basic {self._basic}"} if self._basic else {}

    async def refresh(self, refused: str) -> bool:
        """Get new credentials after the server refused those with this Authorization header; False where
        there are no others.

        Of several requests that are refused at once the first has them read again, and all learn that there
        are others. Raises as `headers` does.
        """
        if self._plugin is not None:
            return await self._plugin.refresh(refused)
        if await self._authorization() == refused:
            self._read_at_s = -_TOKEN_AGE_S
        return await self._authorization() != refused

    async def _authorization(self) -> str:
        return (await self.headers()).get("Authorization", "")


class AuthProvider:
    """Credentials from an auth-provider (oidc, gcp), by the `kubernetes` package."""

    def __init__(self, path: str, context: str) -> None:
        self._path, self._context = path, context
        self._configuration: Any = None

    async def authorization(self) -> str:
        """The header's value; a new one when the old one has expired. Raises NoCluster."""
        return await asyncio.to_thread(self._authorization)

    async def refresh(self, refused: str) -> bool:
        """Load it anew."""
        if await self.authorization() == refused:
            self._configuration = None
        return await self.authorization() != refused

    def _authorization(self) -> str:
        from kubernetes import client, config  # noqa: PLC0415  # slow to import, and hardly ever needed

        try:
            if self._configuration is None:
                loaded: Any = client.Configuration()
                load_kube_config: Any = config.load_kube_config
                load_kube_config(self._path, self._context, loaded)
                self._configuration = loaded
            # The package has called it both; its newer releases the former.
            return str(self._configuration.get_api_key_with_prefix("BearerToken", "authorization") or "")
        except (
            Exception
        ) as problem:  # whatever it and what it asks with raise where an issuer does not answer
            words = " ".join(str(problem).split())[:300]
            raise NoCluster(f"kubeconfig {self._path}: {words or type(problem).__name__}") from None


def connect(kubeconfig: str = "", environment: Mapping[str, str] = os.environ) -> Connection:
    """The connection that flags and environment ask for. Raises NoCluster."""
    if kubeconfig:
        return _from_kubeconfig((kubeconfig,))
    paths = [path for path in environment.get("KUBECONFIG", "").split(os.pathsep) if path]
    if paths:
        return _from_kubeconfig(tuple([path for path in paths if os.path.exists(path)]) or (paths[0],))
    if environment.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return _in_cluster(environment)
    own = Path(environment.get("HOME", "~")).expanduser() / ".kube" / "config"
    if own.exists():
        return _from_kubeconfig((str(own),))
    raise NoCluster(
        "no cluster: give --kubeconfig FILE, set KUBECONFIG, or run in a pod with a service account"
    )


def _in_cluster(environment: Mapping[str, str]) -> Connection:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    authority = f"[{host}]" if ":" in host else host
    try:
        context = _trusting((SERVICE_ACCOUNT / "ca.crt").read_bytes())
    except (OSError, ValueError) as problem:
        raise NoCluster(f"{SERVICE_ACCOUNT / 'ca.crt'}: {problem}") from None
    return Connection(
        f"https://{authority}:{port}",
        ssl_context=context,
        token_file=SERVICE_ACCOUNT / "token",
        source="the pod's service account",
    )


@attrs.frozen
class _Entry:
    """A cluster, a user or a context of a kubeconfig, and the file that it stands in."""

    fields: Mapping[str, Any]
    path: str

    @property
    def folder(self) -> Path:
        """What relative paths of it start from."""
        return Path(self.path).parent


class _Kubeconfig:
    """What some kubeconfig files say together. Raises NoCluster where one cannot be read."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        manifests = read_manifests(paths)
        if manifests.problems:
            raise NoCluster(f"kubeconfig {'; '.join(manifests.problems)}")
        self._documents = [(document.source, as_map(document.value)) for document in manifests.documents]
        self.name = os.pathsep.join(paths)

    def current_context(self) -> str:
        """The context that is on. Raises NoCluster where none is."""
        for _, document in self._documents:
            name = document.get("current-context")
            if isinstance(name, str) and name:
                return name
        raise NoCluster(f"kubeconfig {self.name}: current-context is not set")

    def entry(self, field: str, inner: str, name: object) -> _Entry:
        """The first entry of a name. Raises NoCluster where there is none."""
        for path, document in self._documents:
            for item in as_list(document.get(field)):
                if as_map(item).get("name") == name:
                    return _Entry(as_map(as_map(item).get(inner)), path)
        raise NoCluster(f"kubeconfig {self.name}: {field} has no entry {name!r}")


def _sendable(token: str) -> str:
    """The token. Raises ValueError where no header can have it."""
    if _CONTROL.search(token):
        raise ValueError("the token has a line break, or another control character, in it")
    return token


def _url(cluster: _Entry, named: object, field: str) -> str:
    """A URL of HTTP from a kubeconfig's cluster. Raises NoCluster."""
    text = cluster.fields.get(field)
    try:
        parts = urlsplit(text if isinstance(text, str) else "")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.geturl()
    except ValueError:  # as of an IPv6 address without its last bracket, or of a port that is no number
        pass
    where = f"clusters[{named}].cluster.{field}"
    raise NoCluster(f"kubeconfig {cluster.path}: {where} is no URL of HTTP")


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """A proxy's URL without user and password, and the headers that tell the proxy these."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    user, _, password = login.partition(":")
    pair = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Proxy-Authorization": f"Basic {pair}"}


def _from_kubeconfig(paths: tuple[str, ...]) -> Connection:
    config = _Kubeconfig(paths)
    name = config.current_context()
    context = config.entry("contexts", "context", name)
    of_cluster = context.fields.get("cluster")
    cluster = config.entry("clusters", "cluster", of_cluster)
    named = context.fields.get("user")
    user = config.entry("users", "user", named) if named else _Entry({}, cluster.path)
    for field in _IMPERSONATION:
        if user.fields.get(field):
            raise NoCluster(
                f"kubeconfig {user.path}: users[{named}].user.{field}: nobody can be impersonated"
            )
    server = _url(cluster, of_cluster, "server")
    if "@" in urlsplit(server).netloc and any(user.fields.get(field) for field in _PROOFS):
        where = f"clusters[{of_cluster}].cluster.server"
        raise NoCluster(f"kubeconfig {cluster.path}: {where} has a user beside what users[{named}] has")
    proxy = _url(cluster, of_cluster, "proxy-url") if cluster.fields.get("proxy-url") else ""
    tls = _tls(cluster, user) if server.startswith("https") else None
    basic = ""
    if user.fields.get("username"):
        pair = f"{user.fields['username']}:{user.fields.get('password', '')}"
        basic = base64.b64encode(pair.encode()).decode()
    token_file = user.fields.get("tokenFile")
    return Connection(
        server.rstrip("/"),
        ssl_context=tls,
        server_name=str(cluster.fields.get("tls-server-name") or ""),
        proxy=proxy,
        token=str(user.fields.get("token") or ""),
        token_file=user.folder / str(token_file) if token_file else None,
        plugin=_plugin(user, name, cluster, tls),
        basic=basic,
        source=f"kubeconfig {config.name}",
    )


def _plugin(user: _Entry, context: str, cluster: _Entry, tls: ssl.SSLContext | None) -> Credentials | None:
    if "exec" in user.fields:
        authority = b"" if tls is None else _bytes(cluster, "certificate-authority")
        inline = {"certificate-authority-data": base64.b64encode(authority).decode()} if authority else {}
        return ExecPlugin(as_map(user.fields["exec"]), user.path, {**cluster.fields, **inline}, tls)
    return AuthProvider(user.path, context) if "auth-provider" in user.fields else None


def _tls(cluster: _Entry, user: _Entry) -> ssl.SSLContext:
    """TLS as a kubeconfig asks for it. Raises NoCluster."""
    try:
        context = _trusting(_bytes(cluster, "certificate-authority") or None)
        if cluster.fields.get("insecure-skip-tls-verify") is True:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate, key = _bytes(user, "client-certificate"), _bytes(user, "client-key")
        if certificate and not key:
            raise ValueError("client-certificate needs client-key")
        if certificate:
            load_certificate(context, certificate, key)
    except (OSError, ValueError, binascii.Error) as problem:
        raise NoCluster(f"kubeconfig {user.path}: certificates: {problem}") from None
    return context


def _trusting(authorities: bytes | None) -> ssl.SSLContext:
    """TLS that trusts these authorities (PEM; None: the machine's). Raises OSError or ValueError.

    What is trusted is what Go trusts: an authority may lack a key usage and a key identifier, as older tools
    left them out, and it need not be a root.
    """
    pems = None if authorities is None else b"\n".join(_CERTIFICATE.findall(authorities)).decode()
    if pems == "":
        raise ValueError("the authority holds no certificate")
    context = ssl.create_default_context(cadata=pems)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # on from Python 3.13
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _bytes(entry: _Entry, name: str) -> bytes:
    """A file's content, given inline or by its path; nothing where it is not given."""
    inline, path = entry.fields.get(f"{name}-data"), entry.fields.get(name)
    if inline:
        return base64.b64decode(str(inline), validate=True)
    return (entry.folder / str(path)).read_bytes() if path else b""
