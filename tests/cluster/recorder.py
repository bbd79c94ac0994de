"""Records all that happens to the objects of sets in a real cluster, in the order in which it was stored."""

from __future__ import annotations

import http.client
import threading
import time
from typing import Any, Final

import attrs
from client import Client
from facets import WATCHED

from lws_core import names
from lws_core.values import freeze_map
from lws_sim.cluster.store import Object

_VERSIONS: Final = {names.KIND: names.API_VERSION, "StatefulSet": "apps/v1", "ControllerRevision": "apps/v1"}
_PAUSE_S: Final = 0.1
_IDLE_S: Final = 3.0


@attrs.frozen
class Event:
    """One change of one object; `at_s` is when it was heard of (monotonic)."""

    version: int
    type: str
    object: Object
    at_s: float


class Recorder:
    """Watches the kinds of `facets.WATCHED` in all namespaces, until it is left."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._events: dict[str, list[Event]] = {}
        self._heard: dict[str, int] = {}
        self._ended = threading.Event()
        self._problems: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Recorder:
        for kind in WATCHED:
            path = self._client.path(_VERSIONS.get(kind, "v1"), kind)
            listed = self._client.request("GET", path, limit="1")
            self._heard[kind] = int(listed["metadata"]["resourceVersion"])
            thread = threading.Thread(
                target=self._watch, args=(kind, path), name=f"record {kind}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * _IDLE_S)

    def events(self, namespace: str) -> list[Event]:
        """What has happened in a namespace until now, in order. Raises what has broken a watch."""
        if self._problems:
            raise RuntimeError("the record has a gap") from self._problems[0]
        with self._lock:
            return sorted(self._events.get(namespace, ()), key=lambda event: event.version)

    def forget(self, namespace: str) -> None:
        """Keep nothing of a namespace any more."""
        with self._lock:
            self._events.pop(namespace, None)

    def is_up_to(self, namespace: str) -> bool:
        """Whether it has heard of everything that a list shows now."""
        known = {(e.object["kind"], _name(e)): e for e in self.events(namespace)}
        there = {key: e.version for key, e in known.items() if e.type != "DELETED"}
        for kind in WATCHED:
            for one in self._client.all(_VERSIONS.get(kind, "v1"), kind, namespace):
                if there.pop((kind, one["metadata"]["name"]), 0) != int(one["metadata"]["resourceVersion"]):
                    return False
        return not there

    def _watch(self, kind: str, path: str) -> None:
        try:
            while not self._ended.is_set():
                try:
                    self._hear(kind, path)
                except (OSError, http.client.HTTPException):
                    time.sleep(_PAUSE_S)
        except BaseException as problem:  # told to whoever asks for the events
            self._problems.append(problem)

    def _hear(self, kind: str, path: str) -> None:
        since = str(self._heard[kind])
        options = {"resourceVersion": since, "allowWatchBookmarks": "true"}
        for what, raw in self._client.watch(path, read_timeout_s=_IDLE_S, **options):
            if self._ended.is_set():
                return
            if what == "ERROR":
                raise AssertionError(f"{kind}: {raw}")
            self._heard[kind] = int(raw["metadata"]["resourceVersion"])
            if what != "BOOKMARK":
                self._note(kind, what, raw)

    def _note(self, kind: str, what: str, raw: dict[str, Any]) -> None:
        metadata = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
        obj = freeze_map({**raw, "kind": kind, "metadata": metadata})
        event = Event(self._heard[kind], what, obj, time.monotonic())
        with self._lock:
            self._events.setdefault(str(metadata.get("namespace", "")), []).append(event)


def _name(event: Event) -> str:
    metadata = event.object["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["name"])
