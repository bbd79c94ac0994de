"""A small client of the API server: JSON in, JSON out, one connection, nothing cached but discovery."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

Manifest = dict[str, Any]
T = TypeVar("T")

MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
_SCALE: Final = "autoscaling/v1"


class Refused(Exception):
    """The API server answered with an error."""

    def __init__(self, request: str, code: int, reason: str, message: str) -> None:
        super().__init__(f"{request}: {code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class Client:
    """One user's way to one API server. Safe to use from several threads, one request at a time."""

    def __init__(self, url: str, authority: Path, token: str, *, timeout_s: float = 30.0) -> None:
        self.url = url
        self.token = token
        self.timeout_s = timeout_s
        self.tls = ssl.create_default_context(cafile=str(authority))
        self._host = urlsplit(url).netloc
        self._lock = threading.RLock()
        self._connection: http.client.HTTPSConnection | None = None
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    def close(self) -> None:
        """Close its connection; the next request opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def request(
        self,
        verb: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        **parameters: str,
    ) -> Any:
        """The answer's JSON, or its text where it is none. Raises Refused, or OSError."""
        code, raw = self._send(verb, _with(path, parameters), body, content_type)
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = raw.decode(errors="replace")
        if code < 400:
            return answer
        told = answer if isinstance(answer, dict) else {"message": answer}
        raise Refused(f"{verb} {path}", code, str(told.get("reason", "")), str(told.get("message", "")))

    def _send(self, verb: str, path: str, body: object, content_type: str) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with self._lock:
            reused = self._connection is not None
            try:
                return self._once(verb, path, data, headers)
            except (ConnectionError, http.client.HTTPException, ssl.SSLError):
                self.close()
                if not reused:
                    raise
                return self._once(verb, path, data, headers)  # the server had closed it
            except OSError:
                self.close()
                raise

    def _once(
        self, verb: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._host, timeout=self.timeout_s, context=self.tls
            )
        self._connection.request(verb, path, data, dict(headers))
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    # -- objects by kind

    def path(
        self, api_version: str, kind: str, namespace: str | None = None, name: str = "", part: str = ""
    ) -> str:
        """Where an object, or without a name its kind's list, is served."""
        root = self.root(api_version)
        plural, namespaced = self._resource(api_version, kind)
        place = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{root}{place}/{plural}" + (f"/{name}" if name else "") + (f"/{part}" if part else "")

    @staticmethod
    def root(api_version: str) -> str:
        """Where a version of an API is served."""
        return f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"

    def _resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        known = self._resources.get(api_version, {})
        if kind not in known:
            listed = self.request("GET", self.root(api_version))["resources"]
            known = {
                one["kind"]: (one["name"], one["namespaced"]) for one in listed if "/" not in one["name"]
            }
            self._resources[api_version] = known
        if kind not in known:
            raise KeyError(f"{api_version} has no {kind}")
        return known[kind]

    def path_of(self, manifest: Manifest, part: str = "") -> str:
        """Where the object of a manifest is served."""
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "default")
        return self.path(manifest["apiVersion"], manifest["kind"], namespace, metadata["name"], part)

    def create(self, manifest: Manifest, **parameters: str) -> Manifest:
        """Create an object, refusing fields that the API server does not know."""
        namespace = manifest["metadata"].get("namespace", "default")
        path = self.path(manifest["apiVersion"], manifest["kind"], namespace)
        created: Manifest = self.request(
            "POST", path, manifest, **{"fieldValidation": "Strict", **parameters}
        )
        return created

    def apply(self, manifest: Manifest, manager: str = "test", **parameters: str) -> Manifest:
        """Apply an object on the server's side, taking the fields from whoever has them."""
        return self.patch(
            self.path_of(manifest),
            manifest,
            APPLY,
            **{"fieldManager": manager, "force": "true", **parameters},
        )

    def patch(self, path: str, change: object, content_type: str = MERGE, **parameters: str) -> Manifest:
        """Patch the object at a path."""
        patched: Manifest = self.request("PATCH", path, change, content_type=content_type, **parameters)
        return patched

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Manifest | None:
        """The object, None where there is none."""
        try:
            found: Manifest = self.request("GET", self.path(api_version, kind, namespace, name))
        except Refused as refused:
            if refused.code == 404:
                return None
            raise
        return found

    def all(
        self, api_version: str, kind: str, namespace: str | None = None, selector: str = ""
    ) -> list[Manifest]:
        """The objects of a kind, of one namespace or of all, as each would be read alone."""
        parameters = {"labelSelector": selector} if selector else {}
        listed = self.request("GET", self.path(api_version, kind, namespace), **parameters)
        return [{"apiVersion": api_version, "kind": kind, **one} for one in listed["items"]]

    def delete(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        propagation: str = "Background",
        grace_s: int | None = None,
    ) -> None:
        """Delete an object; it may be gone already."""
        options: Manifest = {"propagationPolicy": propagation}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            self.request("DELETE", self.path(api_version, kind, namespace, name), options)
        except Refused as refused:
            if refused.code != 404:
                raise

    def scale(self, api_version: str, kind: str, namespace: str, name: str, replicas: int) -> None:
        """Set the replicas of an object through its scale subresource."""
        body = {
            "apiVersion": _SCALE,
            "kind": "Scale",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": replicas},
        }
        self.request("PUT", self.path(api_version, kind, namespace, name, "scale"), body)

    def watch(
        self, path: str, *, read_timeout_s: float = 10.0, **parameters: str
    ) -> Iterator[tuple[str, Manifest]]:
        """Events from a path on a connection of its own, until the server ends it or nothing has come for
        `read_timeout_s`. An event of type ERROR is given like the others; a refusal is raised."""
        connection = http.client.HTTPSConnection(self._host, timeout=read_timeout_s, context=self.tls)
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            connection.request("GET", _with(path, {"watch": "1", **parameters}), headers=headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                told = json.loads(answer.read())
                raise Refused(f"WATCH {path}", answer.status, told.get("reason", ""), told.get("message", ""))
            with contextlib.suppress(TimeoutError):
                while line := answer.readline():
                    event = json.loads(line)
                    yield event["type"], event["object"]
        finally:
            connection.close()


def _with(path: str, parameters: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path


def eventually(what: str, done: Callable[[], T], timeout_s: float, every_s: float = 0.1) -> T:
    """What `done` returns once that is true. Errors of the connection count as not yet."""
    deadline = time.monotonic() + timeout_s
    problem: Exception | None = None
    while time.monotonic() < deadline:
        try:
            result = done()
            problem = None
            if result:
                return result
        except (OSError, http.client.HTTPException, Refused) as caught:
            problem = caught
        time.sleep(every_s)
    raise TimeoutError(f"{what}: not within {timeout_s:g} s" + (f", last: {problem}" if problem else ""))
