"""Keeps the webhooks' certificates: in their Secret, in the folder they are served from, in the caBundles.

Flow of a look: read the Secret and the two webhook configurations, decide (certificates.py), write what the
decision says, then put the certificate into the folder and the bundle into the configurations. What is as it
should be is not written.

Guarantees: replicas agree, as each write carries the resourceVersion that was read and who loses reads again;
what is no such object, as a gateway's page with status 200, is believed neither when read nor when written;
a certificate gets into the folder only if the Secret holds it; files change in one step each, and the server
takes no pair that does not fit. A folder that cannot be written, such as a mounted Secret, is waited for.
Whatever a look meets, another one follows, and `problem` says what stands in the way.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
import orjson

from lws_runtime.kube.client import Answer
from lws_runtime.kube.resources import shown_in

from .certificates import Material, carry_out, decide, dns_names
from .server import fingerprint

CONFIGURATIONS: Final = (
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/lws-mutating-webhook-configuration",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/lws-validating-webhook-configuration",
)
_PLURALS: Final = {
    "secrets": "Secret",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
}
_STEADY_S: Final = 60.0  # between looks while all is well: how late a replica learns of another's renewal
_SOON_S: Final = 2.0
_AGAIN_S: Final = 0.2
_LONGEST_DELAY_S: Final = 30.0
_KEYS: Final = ("ca.crt", "ca.key", "tls.crt", "tls.key")
_NO_PARAMS: Final[Mapping[str, str]] = {}

_log = logging.getLogger("lws.certificates")


class Api(Protocol):
    """The requests that are needed of a connection to the API server."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] = _NO_PARAMS,
        timeout_s: float = 10.0,
    ) -> Answer:
        """Send one request; raises nothing but for cancellation."""


class NotYet(Exception):
    """Why a look could not be finished, in words; `again`: because somebody else has just written."""

    def __init__(self, problem: str, *, again: bool = False) -> None:
        super().__init__(problem)
        self.again = again


@attrs.define
class CertificateKeeper:
    """Keeps the certificates of one operator's webhooks.

    certificate: the fingerprint of the one that should be served; "" while none is known. in_place: whether
    it is in the folder and its authority in the configurations. problem: why not, in words.
    """

    api: Api
    service_name: str
    secret_name: str
    namespace: str
    folder: Path
    clock: Callable[[], float] = time.time
    certificate: str = attrs.field(default="", init=False)
    in_place: bool = attrs.field(default=False, init=False)
    problem: str = attrs.field(default="has not looked yet", init=False)
    _was_ready: bool = attrs.field(default=False, init=False)
    _missing: set[str] = attrs.field(factory=set, init=False)

    def is_ready(self, served: str) -> bool:
        """Whether the webhooks can be called, given the fingerprint of the certificate that is served.

        The first time it must be the right one, known to the API server. From then on any will do: a
        renewed one reaches the servers one by one, and the old one is trusted until long after.
        """
        if self.in_place and served == self.certificate:
            self._was_ready = True
        return self._was_ready and served != ""

    async def run(self) -> None:
        """Look for ever, until cancelled."""
        delay_s = _SOON_S
        while True:
            try:
                wait_s = await self.look()
                delay_s = _SOON_S
            except NotYet as problem:
                self._tell(str(problem))
                wait_s = _AGAIN_S if problem.again else delay_s
                delay_s = min(2 * wait_s, _LONGEST_DELAY_S)
            except Exception as bug:  # nobody awaits this task: it would end without a word
                self._tell(f"a bug: {type(bug).__name__}; the log has the traceback", bug)
                wait_s, delay_s = delay_s, min(2 * delay_s, _LONGEST_DELAY_S)
            await asyncio.sleep(wait_s)

    async def look(self) -> float:
        """Look once, and do what is needed. Returns after how many seconds to look again; raises NotYet."""
        secret = await self._read(self._secret_path)
        configurations = {path: found for path in CONFIGURATIONS if (found := await self._read(path))}
        self._tell_of_missing(set(CONFIGURATIONS) - set(configurations))
        material = material_in(secret or {})
        bundle = material.authorities if material else b""
        injected = all(with_bundle(found, bundle) is None for found in configurations.values())
        names, now_s = dns_names(self.service_name, self.namespace), self.clock()
        decision = decide(material, names, injected=injected, now_s=now_s)
        if material is None or decision.action != "none":
            trusted = b"\n".join(one for found in configurations.values() for one in bundles_in(found))
            material = await asyncio.to_thread(
                carry_out, decision, material, names, trusted=trusted, now_s=now_s
            )
            await self._write_secret(secret, material)
            _log.info("renewed certificates", extra={"what": decision.action, "why": decision.reason})
        # The bundle first: what is served must be trusted.
        await self._inject(configurations, material.authorities)
        is_in_folder = await asyncio.to_thread(put_into, self.folder, material)
        self.certificate = fingerprint(material.certificate)
        if not is_in_folder:
            raise NotYet(f"{self.folder} is read-only and does not hold the Secret's certificate yet")
        self.in_place, self.problem = True, ""
        return _SOON_S if decision.reason else _STEADY_S

    @property
    def _secrets_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    @property
    def _secret_path(self) -> str:
        return f"{self._secrets_path}/{self.secret_name}"

    async def _read(self, path: str) -> dict[str, Any] | None:
        """An object; None where there is none. Raises NotYet."""
        answer = await self.api.request("GET", path)
        if answer.code == 404:
            return None
        if answer.code != 200:
            raise NotYet(f"cannot read {path}: {_words(answer)}")
        *_, plural, name = path.split("/")
        found = shown_in(answer.json(), _PLURALS[plural], name)
        if found is None:
            raise NotYet(f"cannot read {path}: the answer is no such object")
        return found

    async def _write_secret(self, secret: dict[str, Any] | None, material: Material) -> None:
        wanted = with_material(secret or self._bare_secret(), material)
        if secret is None:
            await self._write("POST", self._secrets_path, wanted)
        else:
            await self._write("PUT", self._secret_path, wanted)

    def _bare_secret(self) -> dict[str, Any]:
        metadata = {"name": self.secret_name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}

    async def _inject(self, configurations: Mapping[str, dict[str, Any]], bundle: bytes) -> None:
        for path, found in configurations.items():
            wanted = with_bundle(found, bundle)
            if wanted is not None:
                await self._write("PUT", path, wanted)
                _log.info("injected the authority", extra={"configuration": path.rpartition("/")[2]})

    async def _write(self, method: str, path: str, value: dict[str, Any]) -> None:
        """Write an object as it was read but for what is new. Raises NotYet."""
        answer = await self.api.request(method, path, body=orjson.dumps(value))
        if answer.code == 409:
            raise NotYet(f"{path} has been written by another", again=True)
        if not answer.ok:
            raise NotYet(f"cannot write {path}: {_words(answer)}")
        if shown_in(answer.json(), value["kind"], value["metadata"]["name"]) is None:
            raise NotYet(f"cannot write {path}: the answer is no such object")

    def _tell_of_missing(self, missing: set[str]) -> None:
        # No reason to wait: there may be none on purpose, or some that another keeps under other names.
        for path in sorted(missing - self._missing):
            _log.warning("there is no such webhook configuration, and no authority is injected: %s", path)
        self._missing = missing

    def _tell(self, problem: str, bug: Exception | None = None) -> None:
        if problem != self.problem:
            level = logging.WARNING if bug is None else logging.ERROR
            _log.log(level, "certificates are not in place: %s", problem, exc_info=bug)
        self.problem = problem


def _words(answer: Answer) -> str:
    """What a server said about a failure; never what the object holds."""
    return f"{answer.code} {answer.message}" if answer.code else answer.message


def material_in(secret: Mapping[str, Any]) -> Material | None:
    """The certificates in a Secret; None where one of its four keys is missing, empty or not base64."""
    data = secret.get("data")
    if not isinstance(data, dict):
        return None
    try:
        found = [base64.b64decode(data[key], validate=True) for key in _KEYS]
    except (KeyError, TypeError, ValueError):
        return None
    return Material(*found) if all(found) else None


def with_material(secret: Mapping[str, Any], material: Material) -> dict[str, Any]:
    """A Secret that holds the certificates, and whatever else it held."""
    values = (material.authorities, material.authority_key, material.certificate, material.key)
    new = {key: base64.b64encode(value).decode() for key, value in zip(_KEYS, values, strict=True)}
    data = secret.get("data")
    return {**secret, "data": {**(data if isinstance(data, dict) else {}), **new}}


def with_bundle(configuration: Mapping[str, Any], bundle: bytes) -> dict[str, Any] | None:
    """A webhook configuration that trusts the bundle, for all its webhooks; None where it does already."""
    webhooks = [dict(webhook) for webhook in configuration.get("webhooks") or ()]
    changed = False
    for webhook in webhooks:
        client = webhook.get("clientConfig") or {}
        if _decoded(client.get("caBundle")) != bundle:
            webhook["clientConfig"] = {**client, "caBundle": base64.b64encode(bundle).decode()}
            changed = True
    return {**configuration, "webhooks": webhooks} if changed else None


def bundles_in(configuration: Mapping[str, Any]) -> list[bytes]:
    """What the webhooks of a configuration trust, as PEM."""
    clients = [webhook.get("clientConfig") or {} for webhook in configuration.get("webhooks") or ()]
    return [_decoded(client.get("caBundle")) for client in clients]


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(text) if isinstance(text, str) else b""
    except binascii.Error:
        return b""


def put_into(folder: Path, material: Material) -> bool:
    """Put certificate and key into a folder where they are not there yet; whether they are there now.

    Raises NotYet where it fails for another reason than that the folder may not be written.
    """
    wanted = {folder / "tls.key": material.key, folder / "tls.crt": material.certificate}
    if all(_holds(path, content) for path, content in wanted.items()):
        return True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in wanted.items():
            _replace(path, content)
    except OSError as problem:
        if isinstance(problem, PermissionError) or problem.errno == errno.EROFS:
            return False
        raise NotYet(f"cannot write into {folder}: {problem.strerror}") from None
    return True


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one step. It can be read by its owner only."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
