"""Follows one kind of object: a list, then a watch, forever.

Flow: a paged, consistent list; its objects are told as seen, and what was known and is not in it as gone;
then a watch from its resourceVersion, with bookmarks. A watch that ends is taken up where it was; one whose
resourceVersion is too old (410), or that fails in another way, is begun anew with a list, after a back-off
with jitter.

Guarantees: every object that exists is told at least once; each object's states are told in order; an object
that is gone is told as gone, with the UID that it had. Unchanged objects of a list are told once. `synced`
is set when the first list has been told.

Assumes that the handler is quick: it runs between two reads of the stream.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import aiohttp
import attrs
import msgspec

from .client import Client
from .resources import Resource

_log = logging.getLogger(__name__)

PAGE: Final = 500
SILENCE_S: Final = 75.0  # the server sends a bookmark every minute
_WATCH_S: Final = (300, 600)
_FIRST_BACK_OFF_S: Final = 0.8
_LONGEST_BACK_OFF_S: Final = 30.0
_LONGEST_LINE: Final = 64 * 2**20

Object = dict[str, Any]
Handler = Callable[[Literal["SEEN", "GONE"], Object], None]


class Expired(Exception):
    """The resourceVersion is too old, or the stream makes no sense: list again."""


class Refused(Exception):
    """The server does not let us, or does not know the kind: `code` and its words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.frozen
class _Known:
    uid: str
    version: str
    labels: Mapping[str, str]


class Reflector:
    """Follows one kind in one namespace, or in all for ""."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        handler: Handler,
        *,
        namespace: str = "",
        selector: str = "",
    ) -> None:
        self._client, self._resource, self._handler = client, resource, handler
        self._path = resource.path(namespace)
        self._selector = {"labelSelector": selector} if selector else {}
        self._known: dict[str, _Known] = {}
        self._version = ""
        self.synced = asyncio.Event()
        self.heard_at_s = 0.0  # monotonic; of the last sign of life
        self.trouble = ""  # why nothing is being heard, in words

    @property
    def name(self) -> str:
        """The plural of what is followed."""
        return self._resource.plural

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                await self._list()
                self.synced.set()
                self.trouble = ""
                while True:
                    began_s = time.monotonic()
                    await self._watch()
                    if time.monotonic() - began_s > _LONGEST_BACK_OFF_S:
                        failures = 0
                    else:  # a server that ends every watch at once
                        failures += 1
                        await asyncio.sleep(back_off_s(failures))
            except Expired as problem:
                _log.info("listing %s again: %s", self.name, problem)
                failures += 1
                if failures == 1:
                    continue
            except Refused as problem:
                failures += 1
                self._say(f"{problem.code}: {problem}")
            except (aiohttp.ClientError, OSError, TimeoutError) as problem:
                failures += 1
                self._say(str(problem) or type(problem).__name__)
            await asyncio.sleep(back_off_s(failures))

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.warning("cannot follow %s: %s", self.name, trouble)
        self.trouble = trouble

    async def _list(self) -> None:
        params = {"limit": str(PAGE), **self._selector}
        found: dict[str, Object] = {}
        while True:
            answer = await self._client.request("GET", self._path, params=params, timeout_s=60.0)
            if answer.code == 410 and "continue" in params:
                raise Expired("the list took too long to read page by page")
            if answer.code == 0:
                raise OSError(answer.message)
            if not answer.ok:
                raise Refused(answer.code, answer.message)
            page = answer.json()
            if not isinstance(page, dict):
                raise Expired("the list is no JSON object")
            for item in page.get("items") or ():
                found[_key(item)] = item
            metadata = page.get("metadata") or {}
            self._version = str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                break
            params["continue"] = str(metadata["continue"])
        self.heard_at_s = time.monotonic()
        for key in [key for key in self._known if key not in found]:
            self._tell_gone(key, "")
        for key, item in found.items():
            before = self._known.get(key)
            if before is not None and before.uid != _uid(item):
                self._tell_gone(key, "")
            if before is None or before.version != _version(item):
                self._tell(key, item)

    async def _watch(self) -> None:
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*_WATCH_S)),
            **self._selector,
        }
        async with self._client.stream(self._path, params, silence_s=SILENCE_S) as (code, content):
            if code != 200:
                text = (await content.read(4096)).decode(errors="replace")
                raise Expired(text) if code == 410 else Refused(code, text)
            rest = b""
            async for chunk in content.iter_any():
                self.heard_at_s = time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        self._take(line)
                if len(rest) > _LONGEST_LINE:
                    raise Expired("an event of the watch is too long")

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line)
            kind, item = event["type"], event["object"]
            metadata = item.get("metadata") or {}
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as problem:
            raise Expired(f"an event of the watch makes no sense: {problem}") from None
        if kind == "ERROR":
            message = str(item.get("message", ""))
            raise (
                Expired(message) if item.get("code") == 410 else Refused(int(item.get("code", 500)), message)
            )
        self._version = str(metadata.get("resourceVersion", self._version))
        if kind == "BOOKMARK":
            return
        key = _key(item)
        if kind == "DELETED":
            self._tell_gone(key, _version(item), item)
            return
        before = self._known.get(key)
        if before is not None and before.uid != _uid(item):
            self._tell_gone(key, "")
        if before is None or before.version != _version(item):
            self._tell(key, item)

    def _tell(self, key: str, item: Object) -> None:
        item["kind"] = self._resource.kind
        labels = item["metadata"].get("labels") or {}
        self._known[key] = _Known(_uid(item), _version(item), _few(labels))
        self._handler("SEEN", item)

    def _tell_gone(self, key: str, version: str, item: Object | None = None) -> None:
        known = self._known.pop(key, None)
        if known is None and item is None:
            return
        namespace, _, name = key.partition("/")
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": _uid(item) if item is not None else known.uid if known is not None else "",
            "resourceVersion": version,
            "labels": known.labels if known is not None else ((item or {})["metadata"].get("labels") or {}),
        }
        self._handler("GONE", {"kind": self._resource.kind, "metadata": metadata})


def back_off_s(failures: int) -> float:
    """How long to wait after so many failures in a row: 0.8 s doubling to 30 s, less up to half by chance."""
    longest_s = min(_LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2.0 ** min(max(failures - 1, 0), 10))
    return longest_s * random.uniform(0.5, 1.0)


def _few(labels: Mapping[str, str]) -> Mapping[str, str]:
    """The labels that tell whose an object is, for when it is gone."""
    return {key: value for key, value in labels.items() if key.endswith("/name")}


def _key(item: Object) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _uid(item: Object) -> str:
    return str(item["metadata"].get("uid", ""))


def _version(item: Object) -> str:
    return str(item["metadata"].get("resourceVersion", ""))
