"""Requests of an operator by verb, kind and role, as kill points name them."""

from __future__ import annotations

from typing import Any, Final

import orjson
from proxy import Asked

from lws_core import names

_KINDS: Final = {
    "leaderworkersets": "LeaderWorkerSet",
    "statefulsets": "StatefulSet",
    "pods": "Pod",
    "services": "Service",
    "controllerrevisions": "ControllerRevision",
    "events": "Event",
    "leases": "Lease",
}
_READS: Final = "GET"
_CHANGES: Final = (
    ("template", ("metadata", "labels", names.REVISION_KEY)),
    ("recreations", ("metadata", "annotations", names.RECREATIONS)),
    ("partition", ("spec", "updateStrategy", "rollingUpdate", "partition")),
    ("replicas", ("spec", "replicas")),
)
"""What tells applies of a leader StatefulSet from each other, the most telling first."""


class Namer:
    """Names the requests about one set, in the order in which they come by."""

    def __init__(self, name: str) -> None:
        self._set = name
        self._written: Any = {}

    def name(self, asked: Asked) -> str:
        """Verb, kind and role, such as "apply leader StatefulSet: partition"; "" for a request that is about
        no object, such as discovery."""
        parts = asked.path.strip("/").split("/")
        plural = next((part for part in parts if part in _KINDS), "")
        if not plural:
            return ""
        kind, after = _KINDS[plural], parts[parts.index(plural) + 1 :]
        if asked.method == _READS:
            return f"{'watch' if asked.watches else 'get' if after else 'list'} {kind}"
        body = orjson.loads(asked.body) if asked.body else {}
        about = after[0] if after else str(_dig(body, ("metadata", "name")) or "")
        return self._named(asked.method, f"{self._role(kind, about)}{kind}", body, after[1:])

    def _role(self, kind: str, about: str) -> str:
        if kind not in ("StatefulSet", "Service"):
            return ""
        return "leader " if about == self._set else "worker "

    def _named(self, method: str, title: str, body: Any, part: list[str]) -> str:
        match method:
            case "POST":
                if title == "leader StatefulSet":
                    self._written = body
                return f"create {title}"
            case "DELETE":
                return f"delete {title}: {str(body.get('propagationPolicy', '')).lower()}"
            case "PATCH" if part:
                return f"patch {part[0]} of {title}"
            case "PATCH" if isinstance(body, list):
                return f"take fields of {title}"
            case "PATCH" if title == "leader StatefulSet":
                return f"apply {title}: {self._change(body)}"
            case "PATCH":
                return f"apply {title}"
            case _:
                return f"update {title}"

    def _change(self, body: Any) -> str:
        before, self._written = self._written, body
        changed = [word for word, path in _CHANGES if _dig(before, path) != _dig(body, path)]
        return changed[0] if changed else "again"


def _dig(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
