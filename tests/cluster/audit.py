"""Who asked the API server for what: its audit log, parsed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import attrs

WRITES: Final = ("create", "update", "patch", "delete", "deletecollection")

_LONGEST_LINE: Final = 2**20

MANAGER: Final = "system:serviceaccount:lws-system:lws-controller-manager"
"""The operator where it runs as an installation lets it."""

POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}], "users": ["controllers"]},
        {"level": "Request", "users": ["operator", MANAGER], "verbs": list(WRITES)},
        {"level": "Metadata", "verbs": list(WRITES)},
        {"level": "Metadata", "users": ["operator", MANAGER]},
        {"level": "None"},
    ],
}
"""What is logged: every write, with its body if the operator made it, and what the operator read."""

WHOLE_POLICY: Final = {
    **POLICY,
    "omitManagedFields": True,
    "rules": [
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}], "users": ["controllers"]},
        {
            "level": "Metadata",
            "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}],
        },
        {"level": "RequestResponse", "verbs": list(WRITES)},
        {"level": "None"},
    ],
}
"""Every write with its body and its answer: what the log needs so that objects can be followed by it."""


@attrs.frozen
class Entry:
    """A request that was answered; a watch is logged once when it begins (`stage` ResponseStarted) and once
    when it ends. `body` is known of the operator's writes only, `answer` under WHOLE_POLICY; `id` is the
    request's Audit-ID, which a client may choose."""

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    stage: str
    at: str
    agent: str
    parameters: dict[str, str]
    body: Any
    answer: Any = None
    id: str = ""

    @property
    def writes(self) -> bool:
        """It asked for a change; a dry run did not."""
        return self.verb in WRITES and "dryRun" not in self.parameters

    @property
    def at_s(self) -> float:
        """When it was answered, in epoch seconds by the API server's clock."""
        return datetime.fromisoformat(self.at).timestamp()

    def __str__(self) -> str:
        part = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.at} {self.user} {self.verb} {part} {self.namespace}/{self.name} {self.code}"


class AuditLog:
    """The log file of one API server, which grows while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> int:
        """Where the log ends now. A line still being written comes after it."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as log:
            begin = max(0, log.seek(0, os.SEEK_END) - _LONGEST_LINE)
            log.seek(begin)
            return begin + log.read().rfind(b"\n") + 1

    def entries(self, since: int = 0, namespace: str = "") -> Iterator[Entry]:
        """What was logged from a mark on, the oldest first, of one namespace if it is given. A line still
        being written is left out."""
        if not self.path.exists():
            return
        mention = f'"namespace":"{namespace}"'.encode()  # most lines need not be parsed
        with self.path.open("rb") as log:
            log.seek(since)
            for line in log:
                if line.endswith(b"\n") and (not namespace or mention in line):
                    entry = _entry(json.loads(line))
                    if namespace in ("", entry.namespace):
                        yield entry

    def writes(
        self,
        since: int = 0,
        *,
        user: str | None = None,
        namespace: str | None = None,
        resources: tuple[str, ...] = (),
        events: bool = False,
        leases: bool = False,
    ) -> list[Entry]:
        """The writes from a mark on, of one user and in one namespace if these are given; refused ones too.
        Events and leases are left out unless asked for."""
        left_out = {name for name, wanted in (("events", events), ("leases", leases)) if not wanted}
        return [
            one
            for one in self.entries(since, namespace or "")
            if one.writes
            and one.stage == "ResponseComplete"
            and user in (None, one.user)
            and namespace in (None, one.namespace)
            and (not resources or one.resource in resources)
            and one.resource not in left_out
        ]


def _entry(raw: dict[str, Any]) -> Entry:
    about = raw.get("objectRef", {})
    query = parse_qs(urlsplit(raw["requestURI"]).query, keep_blank_values=True)
    return Entry(
        user=raw["user"]["username"],
        verb=raw["verb"],
        resource=about.get("resource", ""),
        subresource=about.get("subresource", ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
        stage=raw["stage"],
        at=raw["stageTimestamp"],
        agent=raw.get("userAgent", ""),
        parameters={name: values[0] for name, values in query.items()},
        body=raw.get("requestObject"),
        answer=raw.get("responseObject"),
        id=raw.get("auditID", ""),
    )
