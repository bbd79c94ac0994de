"""Follows one kind of object: a list, then a watch, forever.

Flow: a paged, consistent list, whose objects are told as seen page by page, and what was known and is not in
it as gone; then a watch from its resourceVersion, with bookmarks. A watch that ends, or that the network
breaks, is taken up where it was, as long as that succeeds soon; one whose resourceVersion is too old (410),
that says what makes no sense or that fails for longer is begun anew with a list. Failures in a row are
followed by a back-off with jitter; a watch that was well for a few seconds ends the row, unless no watch has
brought a byte for longer than the server is ever silent.

Guarantees: every object that exists is told at least once; each object's states are told in order; an object
that is gone is told as gone, with the UID and the owner that it had; one that goes from one owner to another
is gone for the first. Unchanged objects of a list are told once. `synced` is set when the first list has been
told, or when the server does not know an optional kind: there is nothing of it then. Of an object that was
told, its name, UID, version and owner are kept, and nothing else. Where watches bring nothing at all, no
bookmarks either, lists stand in for them.

Whoever hears of objects by answers to its own requests too says so by `expect`. One that came and went while
no watch ran is in no list and in no event: it is told as gone by the first list that should have it.

Assumes that the handler is quick, as it runs between two reads of the stream, and that it raises nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import attrs
import msgspec

from .client import Answer, Client
from .lines import Lines, TooLong
from .resources import Resource

_log = logging.getLogger(__name__)

PAGE: Final = 500
SILENCE_S: Final = 75.0  # the server sends a bookmark every minute
REMIND_S: Final = 600.0
"""How often a trouble that lasts is told again."""
_WATCH_S: Final = (300, 600)
_FIRST_BACK_OFF_S: Final = 0.8
_LONGEST_BACK_OFF_S: Final = 30.0
_LONGEST_ASKED_S: Final = 300.0
_LONGEST_LINE: Final = 32 * 2**20  # etcd takes objects of 1.5 MiB, unless it is told otherwise
_WELL_S: Final = 5.0  # a watch that lived for so long is no failure: what follows it is a short wait
_RESUMES: Final = 3  # failures in a row after which a watch is not taken up again, but begun with a list
_PASSING: Final = frozenset({429, 500, 502, 503, 504})

Object = dict[str, Any]
Handler = Callable[[Literal["SEEN", "GONE"], Object], None]


class Expired(Exception):
    """The resourceVersion is too old, or what came makes no sense: list again."""


class Refused(Exception):
    """The server does not let us: `code`, its words, and how long it asked to wait. is_unknown: it does not
    know the kind."""

    def __init__(
        self, code: int, message: str, *, retry_after_s: float = 0.0, is_unknown: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after_s, self.is_unknown = code, retry_after_s, is_unknown

    @classmethod
    def by(cls, answer: Answer) -> Refused:
        """As an answer says."""
        return cls(answer.code, answer.message, retry_after_s=answer.retry_after_s)


@attrs.frozen
class Identity:
    """What is kept of an object: `owner` is the value of the label that is selected by, "" without one."""

    uid: str
    version: str
    owner: str


class Reflector:
    """Follows one kind in one namespace, or in all for "". `label`: only objects that have this label.

    optional: a cluster may be without this kind.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        handler: Handler,
        *,
        namespace: str = "",
        label: str = "",
        optional: bool = False,
    ) -> None:
        self._client, self._resource, self._handler = client, resource, handler
        self.namespace, self._optional = namespace, optional
        self._path, self._label = resource.path(namespace), label
        self._selector = {"labelSelector": label} if label else {}
        self._known: dict[str, Identity] = {}
        self._expected: dict[str, Identity] = {}
        self._version = ""
        self._trouble, self._told_at_s = "", 0.0
        self._watches_since_s = math.inf
        self._is_mute = False  # whether the last watch that began has brought nothing yet
        self.synced = asyncio.Event()
        self.heard_at_s: float | None = None
        """Monotonic, of the last sign of life; of the beginning before the first. None: not begun."""

    @property
    def name(self) -> str:
        """The plural of what is followed."""
        return self._resource.plural

    @property
    def kind(self) -> str:
        """The kind of what is followed."""
        return self._resource.kind

    def knows(self, namespace: str, name: str) -> bool:
        """Whether it will be told when the object of this name is gone."""
        key = f"{namespace}/{name}"
        return key in self._known or key in self._expected

    async def run(self) -> None:
        """Follow until cancelled."""
        self.heard_at_s = time.monotonic()
        failures, is_listed = 0, False
        while True:
            asked_s, self._watches_since_s = 0.0, math.inf
            try:
                if not is_listed:
                    await self._list()
                    if not self._is_mute:  # what ails watches is not healed by a list
                        self._recovered()
                    self.synced.set()
                    is_listed = True
                await self._watch()
                if self._was_well():
                    failures = 0
                    continue
                failures += 1  # a server may end every watch at once
                is_listed = failures < _RESUMES or not self._is_mute
                if not is_listed:
                    self._say("its watches end and have brought nothing")
            except Expired as problem:
                _log.info("listing %s again: %s", self.name, problem)
                failures, is_listed = 1 + (0 if self._has_watched(_LONGEST_BACK_OFF_S) else failures), False
                if failures == 1:
                    continue
            except Refused as problem:
                failures = 1 + (0 if self._was_well() else failures)
                is_listed = is_listed and problem.code in _PASSING and failures < _RESUMES
                asked_s = problem.retry_after_s
                if problem.is_unknown and self._optional:
                    self.synced.set()
                self._say(f"{problem.code}: {problem}")
            except OSError as problem:
                was_well = self._was_well()
                failures = 1 + (0 if was_well else failures)
                is_listed = is_listed and failures < _RESUMES
                if not was_well:  # proxies cut watches in which little happens
                    self._say(str(problem) or type(problem).__name__)
            await asyncio.sleep(pause_s(failures, asked_s))

    def expect(self, item: Object) -> None:
        """An answer to a request has shown an object, which no list and no watch need have shown yet."""
        labels = item["metadata"].get("labels") or {}
        if _key(item) not in self._known and (not self._label or self._label in labels):
            self._expected[_key(item)] = _identity(item, self._label)

    def _has_watched(self, seconds: float) -> bool:
        """Whether the last watch lived for longer, so that earlier failures count no more."""
        return time.monotonic() - self._watches_since_s > seconds

    def _was_well(self) -> bool:
        """Whether the last watch is no failure. Headers with nothing after them do not make it well."""
        return self._has_watched(_WELL_S) and not self._is_silent()

    def _is_silent(self) -> bool:
        return self.heard_at_s is not None and time.monotonic() - self.heard_at_s >= SILENCE_S

    def _say(self, trouble: str) -> None:
        """Tell a trouble once, and again from time to time while it lasts."""
        now_s = time.monotonic()
        if trouble != self._trouble or now_s - self._told_at_s >= REMIND_S:
            _log.warning("cannot follow %s: %s", self._title(), trouble)
            self._told_at_s = now_s
        self._trouble = trouble

    def _recovered(self) -> None:
        if self._trouble:
            _log.info("following %s again", self._title())
        self._trouble = ""

    def _title(self) -> str:
        return f"{self.name} in namespace {self.namespace}" if self.namespace else self.name

    # -- lists

    async def _list(self) -> None:
        params = {"limit": str(PAGE), **self._selector}
        found: set[str] = set()
        while True:
            answer = await self._client.request("GET", self._path, params=params, timeout_s=60.0)
            self._check(answer)
            items, version, more = _page(answer)
            for item in items:
                found.add(_key(item))
                self._meet(item)
            if not more:
                break
            params["continue"] = more
        self.heard_at_s = time.monotonic()
        for key in [key for key in self._known if key not in found]:
            self._lose(key)
        for key in [key for key, last in self._expected.items() if _is_covered(last.version, version)]:
            self._tell_gone(key, attrs.evolve(self._expected.pop(key), version=""))
        self._version = version

    def _check(self, answer: Answer) -> None:
        if answer.code == 0:
            raise OSError(answer.message)
        if answer.code == 410:
            raise Expired("the list took too long to be read page by page")
        if answer.code == 404:
            root = self._resource.root.removeprefix("/apis/")
            problem = f"the server has no {self.name} of {root}: is their CustomResourceDefinition missing?"
            raise Refused(404, problem, is_unknown=True)
        if not answer.ok:
            raise Refused.by(answer)

    # -- watches

    async def _watch(self) -> None:
        params = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(*_WATCH_S)),
            **self._selector,
        }
        async with self._client.stream(self._path, params, silence_s=SILENCE_S) as stream:
            if stream.code != 200:
                answer = Answer(stream.code, await stream.content.read(4096), stream.retry_after_s)
                raise Expired(answer.message) if answer.code == 410 else Refused.by(answer)
            self._watches_since_s = time.monotonic()
            if not self._is_mute:  # where nothing happens, the next sign comes in a minute
                self.heard_at_s = self._watches_since_s
            self._is_mute = True
            lines = Lines(_LONGEST_LINE)
            async for piece in stream.content.iter_any():
                self.heard_at_s, self._is_mute = time.monotonic(), False
                self._recovered()
                try:
                    complete = lines.feed(piece)
                except TooLong as problem:
                    raise Expired(str(problem)) from None
                for line in complete:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        kind, item = _event(line)
        if kind != "BOOKMARK":
            if kind == "DELETED":
                self._lose(_key(item), item)
            else:
                self._meet(item)
        self._version = str(item["metadata"]["resourceVersion"])

    # -- what is told

    def _meet(self, item: Object) -> None:
        """An object is there in this state."""
        key, now = _key(item), _identity(item, self._label)
        before = self._known.get(key)
        self._expected.pop(key, None)
        if before is not None and (before.uid, before.owner) != (now.uid, now.owner):
            self._lose(key)
            before = None
        if before is None or before.version != now.version:
            self._known[key] = now
            item["kind"] = self._resource.kind
            self._handler("SEEN", item)

    def _lose(self, key: str, item: Object | None = None) -> None:
        """An object is gone; `item`: its last state, where it was told."""
        known = self._known.pop(key, None)
        self._expected.pop(key, None)
        last = None if item is None else _identity(item, self._label)
        if known is not None:
            version = last.version if last is not None and last.uid == known.uid else ""
            self._tell_gone(key, attrs.evolve(known, version=version))
        if last is not None and (known is None or known.uid != last.uid):
            self._tell_gone(key, last)

    def _tell_gone(self, key: str, last: Identity) -> None:
        namespace, _, name = key.partition("/")
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": last.uid,
            "resourceVersion": last.version,
            "labels": {self._label: last.owner} if self._label else {},
        }
        self._handler("GONE", {"kind": self._resource.kind, "metadata": metadata})


def back_off_s(failures: int) -> float:
    """How long to wait after so many failures in a row: 0.8 s doubling to 30 s, less up to half by chance."""
    longest_s = min(_LONGEST_BACK_OFF_S, _FIRST_BACK_OFF_S * 2.0 ** min(max(failures - 1, 0), 10))
    return longest_s * random.uniform(0.5, 1.0)


def pause_s(failures: int, asked_s: float) -> float:
    """How long to wait after so many failures in a row, where the server asked for `asked_s`: no less than
    that, but for what would leave us blind for long."""
    return max(back_off_s(failures), min(asked_s, _LONGEST_ASKED_S))


def _is_covered(version: str, listed: str) -> bool:
    """Whether a list is so new that it has an object of that version, unless that is gone."""
    # Versions have no leading zeros. Python refuses to make a number of thousands of digits.
    is_comparable = version.isdecimal() and listed.isdecimal()
    return is_comparable and (len(version), version) <= (len(listed), listed)


def _page(answer: Answer) -> tuple[list[Object], str, str]:
    """Of a page of a list its objects, its resourceVersion, and where the next page begins ("": nowhere)."""
    page = answer.json()
    metadata = page.get("metadata") if isinstance(page, dict) else None
    items = page.get("items") if isinstance(page, dict) else None
    items = [] if items is None else items  # Go writes an empty list as null
    if not isinstance(metadata, dict) or not isinstance(items, list) or not all(map(_is_object, items)):
        raise Expired("the list makes no sense")
    version = metadata.get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise Expired("the list has no resourceVersion")
    return items, version, str(metadata.get("continue") or "")


def _event(line: bytes) -> tuple[str, Object]:
    """Type and object of a watch event. Raises Expired and Refused for what is none."""
    try:
        event = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise Expired(f"an event of the watch makes no sense: {problem}") from None
    kind, item = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
    if kind == "ERROR" and isinstance(item, dict):
        code, message = item.get("code"), str(item.get("message", ""))
        if code == 410:
            raise Expired(message)
        raise Refused(code if isinstance(code, int) else 500, message)
    if isinstance(item, dict) and (
        (kind == "BOOKMARK" and _is_versioned(item))
        or (kind in ("ADDED", "MODIFIED", "DELETED") and _is_object(item))
    ):
        return str(kind), item
    raise Expired(f"an event of the watch makes no sense: type {str(kind)[:40]!r}")


def _is_versioned(item: Any) -> bool:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return isinstance(version, str) and version != ""


def _is_object(item: Any) -> bool:
    """Whether it has what every stored object has."""
    if not _is_versioned(item):
        return False
    metadata = item["metadata"]
    return isinstance(metadata.get("name"), str) and isinstance(metadata.get("labels") or {}, dict)


def _key(item: Object) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _identity(item: Object, label: str) -> Identity:
    metadata = item["metadata"]
    owner = str((metadata.get("labels") or {}).get(label, "")) if label else ""
    return Identity(str(metadata.get("uid", "")), metadata["resourceVersion"], sys.intern(owner))
