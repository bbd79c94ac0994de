"""Lists and watches against a server that pages, breaks, lies and falls silent."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from aiohttp import web
from loopback import answer, client_of, refusal, serving, until

from lws_runtime.kube import reflector as reflector_module
from lws_runtime.kube.lines import Lines, TooLong
from lws_runtime.kube.reflector import Identity, Reflector, back_off_s, pause_s
from lws_runtime.kube.resources import RESOURCES

LABEL = "leaderworkerset.sigs.k8s.io/name"
POD = RESOURCES["Pod"]


def pod(name: str, version: int, uid: str = "", owner: str = "serve") -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": name,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {LABEL: owner, "app": "x"},
        }
    }


def event(kind: str, item: object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def again(response: web.Response) -> web.Response:
    """The same answer: one object answers once."""
    asked = {name: value for name, value in response.headers.items() if name == "Retry-After"}
    return web.Response(status=response.status, text=response.text, headers=asked)


Item = dict[str, Any]


@attrs.define
class Server:
    """Answers lists and watches with what is put into these two, the last of them again and again; a watch
    is a list of pieces, a number in it is a pause, and None keeps the stream open and silent."""

    lists: list[Any] = attrs.Factory(list)
    watches: list[Any] = attrs.Factory(lambda: [[None]])
    asked: list[dict[str, str]] = attrs.Factory(list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if "watch" in request.query:
            return await self._watch(request)
        return self._list(request)

    def _list(self, request: web.Request) -> web.StreamResponse:
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if callable(found):
            found = found(request)
        return again(found) if isinstance(found, web.Response) else answer(found)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        pieces = self.watches.pop(0) if len(self.watches) > 1 else self.watches[0]
        if isinstance(pieces, web.Response):
            return again(pieces)
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            if piece is None:
                await asyncio.sleep(30)
            elif isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece == b"RESET":
                assert request.transport is not None
                request.transport.abort()
            else:
                await response.write(piece)
                await asyncio.sleep(0.005)
        return response

    @property
    def listed(self) -> list[dict[str, str]]:
        return [query for query in self.asked if "watch" not in query]

    @property
    def watched(self) -> list[str]:
        return [query["resourceVersion"] for query in self.asked if "watch" in query]


def page(*items: Item, version: int = 10, more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


Told = list[tuple[str, str, str]]


def follow(
    server: Server, done: Callable[[Told], Any], label: str = LABEL, expected: tuple[Item, ...] = ()
) -> Told:
    """What is told until `done` says that it is enough: what happened, the name, and the UID or version.
    `expected`: objects that answers have shown before."""
    told: Told = []

    def handler(happened: str, item: Item) -> None:
        assert item["kind"] == "Pod"
        metadata = item["metadata"]
        told.append((happened, metadata["name"], f"{metadata['uid']} {metadata['resourceVersion']}".strip()))

    async def run() -> None:
        async with serving(server.handle) as url, client_of(url, qps=None) as client:
            reflector = Reflector(client, POD, handler, namespace="default", label=label)
            for item in expected:
                reflector.expect(item)
            task = asyncio.create_task(reflector.run())
            try:
                await until(lambda: task.done() or done(told))
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    asyncio.run(run())
    return told


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No back-off longer than a moment; the failures in a row that each was for."""
    waits: list[int] = []

    def moment(failures: int) -> float:
        waits.append(failures)
        return 0.01

    monkeypatch.setattr(reflector_module, "back_off_s", moment)
    return waits


def seen(name: str, version: int) -> tuple[str, str, str]:
    return "SEEN", name, f"uid-{name} {version}"


def gone(name: str, version: int | None = None) -> tuple[str, str, str]:
    return "GONE", name, f"uid-{name}" if version is None else f"uid-{name} {version}"


def test_lists_must_be_paged_consistent_and_selected() -> None:
    server = Server([page(pod("a", 1), more="next"), page(pod("b", 2), version=20)])
    told = follow(server, lambda told: server.watched)
    assert told == [seen("a", 1), seen("b", 2)]
    first, second = server.listed
    assert first == {"limit": "500", "labelSelector": LABEL}  # no resourceVersion: the newest
    assert second == {**first, "continue": "next"}
    watch = server.asked[2]
    assert watch["resourceVersion"] == "20"
    assert watch["allowWatchBookmarks"] == "true"
    assert 300 <= int(watch["timeoutSeconds"]) <= 600


def test_watches_must_tell_each_state_in_order() -> None:
    pieces = event("ADDED", pod("b", 11)) + event("MODIFIED", pod("a", 12)) + event("DELETED", pod("b", 13))
    halves = [pieces[i : i + 7] for i in range(0, len(pieces), 7)]
    server = Server([page(pod("a", 1))], [[*halves, None]])
    told = follow(server, lambda told: len(told) == 4)
    assert told == [seen("a", 1), seen("b", 11), seen("a", 12), gone("b", 13)]


def test_watches_that_end_must_be_taken_up_from_the_last_bookmark() -> None:
    server = Server([page()], [[event("ADDED", pod("a", 11)), bookmark(99)], [None]])
    assert follow(server, lambda told: len(server.watched) == 2) == [seen("a", 11)]
    assert server.watched == ["10", "99"]
    assert len(server.listed) == 1


def test_watches_that_break_must_be_taken_up_without_a_list() -> None:
    half = event("ADDED", pod("b", 12))[:20]
    server = Server([page()], [[event("ADDED", pod("a", 11)), half, b"RESET"], refusal(503, "busy"), [None]])
    assert follow(server, lambda told: len(server.watched) == 3) == [seen("a", 11)]
    assert server.watched == ["10", "11", "11"]
    assert len(server.listed) == 1


def test_watches_that_keep_breaking_must_begin_with_a_list() -> None:
    server = Server([page(), page(pod("a", 30), version=30)], [[b"RESET"]] * 3 + [[None]])
    assert follow(server, lambda told: len(server.watched) == 4) == [seen("a", 30)]
    assert server.watched == ["10", "10", "10", "30"]


@pytest.mark.parametrize("inside", [True, False], ids=["event", "status"])
def test_versions_too_old_must_list_again_at_once_and_tell_what_is_gone(
    inside: bool, hasty: list[int]
) -> None:
    expired = {"kind": "Status", "code": 410, "message": "too old resource version"}
    broken = [event("ERROR", expired)] if inside else refusal(410, "too old resource version")
    server = Server(
        [
            page(pod("a", 1), pod("b", 2), pod("c", 3)),
            page(pod("a", 1), pod("b", 9, uid="other"), version=20),
        ],
        [broken, [None]],
    )
    told = follow(server, lambda told: len(server.watched) == 2)
    assert told[3:] == [gone("b"), ("SEEN", "b", "other 9"), gone("c")]
    assert server.watched == ["10", "20"]
    assert hasty == []


def test_object_that_only_an_answer_has_shown_must_be_gone_once_a_list_lacks_it() -> None:
    server = Server([page(pod("a", 1), version=10)])
    told = follow(server, lambda told: server.watched, expected=(pod("b", 7), pod("a", 1)))
    assert told == [seen("a", 1), gone("b")]


def test_what_will_be_told_when_it_is_gone_must_be_known_and_nothing_else() -> None:
    server, found = Server([page(pod("a", 1))]), []

    async def run() -> None:
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(client, POD, lambda *_: None, namespace="default", label=LABEL)
            task = asyncio.create_task(reflector.run())
            await until(lambda: server.watched)
            task.cancel()
            reflector.expect(pod("b", 99))
            found.extend(reflector.knows("default", name) for name in "abc")

    asyncio.run(run())
    assert found == [True, True, False]


def test_object_newer_than_a_list_never_is_gone_as_the_list_lacks_it() -> None:
    lists = [page(version=10), page(version=20)]
    server = Server(lists, [[event("ERROR", {"code": 410})], [None]])
    told = follow(server, lambda told: len(server.watched) == 2, expected=(pod("b", 11),))
    assert told == [gone("b")]
    server = Server([page(version=10)])
    assert follow(server, lambda told: server.watched, expected=(pod("b", 11),)) == []


@pytest.mark.parametrize(
    ("version", "listed", "is_covered"),
    [
        ("9", "10", True),
        ("10", "10", True),
        ("10", "9", False),
        ("11", "10", False),
        ("1" * 5000, "10", False),
        ("10", "1" * 5000, True),
        ("a", "10", False),
    ],
    ids=["shorter", "equal", "longer", "greater", "huge", "huge-list", "word"],
)
def test_versions_must_be_compared_as_numbers_however_long_they_are(
    version: str, listed: str, is_covered: bool
) -> None:
    assert reflector_module._is_covered(version, listed) is is_covered


def test_object_without_the_label_never_is_expected() -> None:
    stranger = pod("b", 7)
    del stranger["metadata"]["labels"][LABEL]
    server = Server([page(version=10)])
    assert follow(server, lambda told: server.watched, expected=(stranger,)) == []


def test_lists_that_expire_page_by_page_must_begin_anew() -> None:
    server = Server([page(pod("a", 1), more="x"), refusal(410, "expired"), page(pod("a", 1), version=20)])
    assert follow(server, lambda told: server.watched) == [seen("a", 1)]
    assert [query.get("continue") for query in server.listed] == [None, "x", None]


def test_versions_that_keep_being_too_old_never_are_listed_without_a_wait(hasty: list[int]) -> None:
    server = Server([page()], [refusal(410, "too old")])
    follow(server, lambda told: len(server.watched) == 5)
    assert hasty[:3] == [2, 3, 4]


def test_watches_that_end_at_once_never_are_asked_for_without_a_wait(hasty: list[int]) -> None:
    server = Server([page()], [[bookmark(11)]])
    follow(server, lambda told: len(server.watched) == 5)
    assert hasty[:4] == [1, 2, 3, 4]


@pytest.mark.parametrize("end", [b"RESET", bookmark(11)], ids=["cut", "ended"])
def test_watches_that_are_well_in_between_never_are_failures_in_a_row(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hasty: list[int], end: bytes
) -> None:
    """As a proxy cuts those in which nothing happens for a while."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(reflector_module, "_WELL_S", 0.02)
    server = Server([page()], [[bookmark(11), *[b"\n"] * 10, end]])
    follow(server, lambda told: len(server.watched) == 6)
    assert len(server.listed) == 1
    assert set(hasty) <= {1}
    assert not any(record.name == reflector_module.__name__ for record in caplog.records)


def test_lists_that_fail_slowly_must_be_failures_in_a_row(
    monkeypatch: pytest.MonkeyPatch, hasty: list[int]
) -> None:
    """A list may take longer to fail than a watch must live to count."""
    monkeypatch.setattr(reflector_module, "_WELL_S", 0.02)
    monkeypatch.setattr(reflector_module, "_LONGEST_BACK_OFF_S", 0.0)
    server = Server([refusal(503, "busy")])
    follow(server, lambda told: len(server.listed) == 4)
    assert hasty[:3] == [1, 2, 3]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ADDED","object":null}\n',
        b'{"type":"ADDED","object":{"metadata":null}}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":1,"resourceVersion":"5"}}}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":"x"}}}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":"x","resourceVersion":"5","labels":["x"]}}}\n',
        b'{"type":"BOOKMARK","object":{}}\n',
        b'{"type":"WHAT","object":{"metadata":{"name":"x","resourceVersion":"5"}}}\n',
        b'["ADDED"]\n',
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b'{"type":"ERROR","object":[]}\n',
        b'{"type":"ERROR","object":{"code":"?","message":7}}\n',
        b"x" * 3000 + b"\n",
        b"x" * 3000,
    ],
)
def test_nonsense_in_a_watch_never_is_believed_and_never_ends_it(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector_module, "_LONGEST_LINE", 1000)
    server = Server([page(pod("a", 1))], [[line]] * 3 + [[event("ADDED", pod("b", 50)), None]])
    assert follow(server, lambda told: len(told) == 2) == [seen("a", 1), seen("b", 50)]


@pytest.mark.parametrize(
    "nonsense",
    [
        [],
        {"items": []},
        {"metadata": {}, "items": []},
        {"metadata": {"resourceVersion": "1"}, "items": {}},
        {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {}}]},
        {"metadata": {"resourceVersion": "1"}, "items": [None]},
        web.Response(text="<html>"),
    ],
)
def test_nonsense_in_a_list_never_counts_as_an_empty_one(nonsense: object) -> None:
    server = Server(
        [page(pod("a", 1)), nonsense, page(pod("a", 1), version=20)], [refusal(410, "too old"), [None]]
    )
    told = follow(server, lambda told: len(server.watched) == 2)
    assert told == [seen("a", 1)]


def test_silent_watches_must_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector_module, "SILENCE_S", 0.1)
    server = Server([page()], [[None], [event("ADDED", pod("a", 11)), None]])
    assert follow(server, lambda told: told) == [seen("a", 11)]


def test_unchanged_objects_never_are_told_again() -> None:
    server = Server([page(pod("a", 1))], [[event("MODIFIED", pod("a", 1)), bookmark(12)], [None]])
    assert follow(server, lambda told: len(server.watched) == 2) == [seen("a", 1)]


def test_objects_that_change_their_owner_must_be_gone_for_the_first() -> None:
    owners: list[tuple[str, str]] = []
    server = Server([page(pod("a", 1))], [[event("MODIFIED", pod("a", 11, owner="other")), None]])

    async def run() -> None:
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(
                client,
                POD,
                lambda happened, item: owners.append((happened, item["metadata"]["labels"][LABEL])),
                label=LABEL,
            )
            task = asyncio.create_task(reflector.run())
            await until(lambda: len(owners) == 3)
            task.cancel()

    asyncio.run(run())
    assert owners == [("SEEN", "serve"), ("GONE", "serve"), ("SEEN", "other")]


def test_deletions_must_be_told_to_the_owner_and_with_the_uid_that_was_known() -> None:
    server = Server(
        [page(pod("a", 1))],
        [[event("DELETED", pod("a", 11, uid="other")), event("DELETED", pod("x", 12)), None]],
    )
    told = follow(server, lambda told: len(told) == 4)
    assert told[1:] == [gone("a"), ("GONE", "a", "other 11"), gone("x", 12)]


def test_refusals_must_be_said_once_and_healing_too(
    caplog: pytest.LogCaptureFixture, hasty: list[int]
) -> None:
    caplog.set_level(logging.INFO)
    server = Server([*[refusal(403, "pods is forbidden")] * 4, page()])
    follow(server, lambda told: server.watched)
    assert [record.message for record in caplog.records] == [
        "cannot follow pods in namespace default: 403: pods is forbidden",
        "following pods in namespace default again",
    ]
    assert hasty == [1, 2, 3, 4]


@pytest.mark.parametrize("what", ["list", "watch"])
def test_wait_that_the_server_asks_for_must_be_kept(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    asked: list[float] = []

    def moment(_: int, asked_s: float) -> float:
        asked.append(asked_s)
        return 0.01

    monkeypatch.setattr(reflector_module, "pause_s", moment)
    busy = refusal(429, "too many requests")
    busy.headers["Retry-After"] = "10"
    server = Server([busy, page()]) if what == "list" else Server([page()], [busy, [None]])
    follow(server, lambda told: len(server.asked) == 3)
    assert asked == [10.0]


def test_wait_must_be_the_longer_one_and_never_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector_module, "back_off_s", lambda failures: 2.0)
    assert [pause_s(1, asked_s) for asked_s in (0.0, 1.0, 10.0, 99999.0)] == [2.0, 2.0, 10.0, 300.0]


def test_watch_that_begins_must_count_as_heard() -> None:
    """One that is taken up where nothing happens is silent for up to a minute, and not in trouble."""
    server = Server([page()], [[bookmark(11)], [None]])

    async def run() -> None:
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(client, POD, lambda *_: None)
            task = asyncio.create_task(reflector.run())
            watch = reflector._watch

            async def unheard() -> None:
                reflector.heard_at_s = 0.0
                await watch()

            reflector._watch = unheard  # type: ignore[method-assign]
            await until(lambda: len(server.watched) == 2)
            await until(lambda: reflector.heard_at_s != 0.0)
            task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("end", [None, b"RESET", "over"], ids=["silent", "cut", "ended"])
@pytest.mark.parametrize("well_s", [0.02, 5.0], ids=["later", "at-once"])
def test_watches_that_bring_nothing_must_give_way_to_lists_and_be_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: bytes | str | None, well_s: float
) -> None:
    """As behind a proxy that keeps back what it is sent; each watch is answered with 200."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(reflector_module, "SILENCE_S", 0.1)
    monkeypatch.setattr(reflector_module, "_WELL_S", well_s)
    server = Server([page(), page(pod("a", 30), version=30)])
    server.watches = [[0.04, *([] if end == "over" else [end])]]
    assert follow(server, lambda told: len(server.listed) == 4) == [seen("a", 30)]
    assert len(server.watched) >= 5  # a few are taken up before the first list
    said = [record.message for record in caplog.records]
    assert all(message.startswith("cannot follow pods in namespace default: ") for message in said)
    assert 1 <= len(said) < 4  # a slow machine may see a cut as another trouble in between


def test_watches_in_which_little_happens_never_are_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is cut after a while, and brings a bookmark only now and then."""
    monkeypatch.setattr(reflector_module, "SILENCE_S", 1.2)  # of some two seconds in all
    monkeypatch.setattr(reflector_module, "_WELL_S", 0.01)
    server = Server([page()], [[0.1, b"RESET"], [0.1, bookmark(11)]] * 10 + [[None]])
    follow(server, lambda told: len(server.watched) == 21)
    assert len(server.listed) == 1


def test_watch_that_brings_nothing_never_counts_as_heard_after_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(reflector_module, "SILENCE_S", 1.0)
    server = Server([page()], [[None], [None], [0.3, bookmark(11), None]])
    ages: list[float] = []

    async def run() -> None:
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(client, POD, lambda *_: None)
            task = asyncio.create_task(reflector.run())
            for number in (2, 3):
                await until(lambda number=number: len(server.watched) == number)
                assert reflector.heard_at_s is not None
                await asyncio.sleep(0.03)
                ages.append(time.monotonic() - reflector.heard_at_s)
                assert "again" not in caplog.text
            await until(lambda: "following pods again" in caplog.text)
            ages.append(time.monotonic() - reflector.heard_at_s)
            task.cancel()

    asyncio.run(run())
    assert ages[0] >= 1.0
    assert ages[1] >= 2.0
    assert ages[2] < ages[0]


def test_refusal_that_lasts_must_be_said_again_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hasty: list[int]
) -> None:
    monkeypatch.setattr(reflector_module, "REMIND_S", 0.0)
    server = Server([*[refusal(403, "pods is forbidden")] * 3, page()])
    follow(server, lambda told: server.watched)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "cannot follow pods in namespace default: 403: pods is forbidden"
    ] * 3


@pytest.mark.parametrize("optional", [True, False])
def test_kind_that_the_server_does_not_know_must_count_as_listed_where_it_is_optional(
    optional: bool, hasty: list[int]
) -> None:
    server = Server([refusal(404, "not found")])

    async def run() -> bool:
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(client, POD, lambda *_: None, optional=optional)
            task = asyncio.create_task(reflector.run())
            await until(lambda: len(server.listed) > 2)
            task.cancel()
            return reflector.synced.is_set()

    assert asyncio.run(run()) is optional


def test_kinds_that_are_gone_must_be_listed_again_so_that_their_objects_are_gone() -> None:
    server = Server([page(pod("a", 1)), page(version=20)], [refusal(404, "not found"), [None]])
    assert follow(server, lambda told: len(server.watched) == 2) == [seen("a", 1), gone("a")]


def test_synced_must_wait_for_the_last_page() -> None:
    was_synced: list[bool] = []

    async def run() -> None:
        def second(_: web.Request) -> web.Response:
            was_synced.append(reflector.synced.is_set())
            return answer(page(pod("b", 2)))

        server = Server([page(pod("a", 1), more="x"), second])
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(client, POD, lambda *_: None)
            task = asyncio.create_task(reflector.run())
            await asyncio.wait_for(reflector.synced.wait(), 30)
            task.cancel()

    asyncio.run(run())
    assert was_synced == [False]


def test_little_must_be_kept_of_an_object() -> None:
    kept: dict[str, Identity] = {}

    async def run() -> None:
        big = {**pod("a", 1), "spec": {"containers": ["x" * 10_000]}}
        server = Server([page(big, pod("b", 2))])
        async with serving(server.handle) as url, client_of(url) as client:
            reflector = Reflector(client, POD, lambda *_: None, label=LABEL)
            task = asyncio.create_task(reflector.run())
            await asyncio.wait_for(reflector.synced.wait(), 30)
            task.cancel()
            kept.update(reflector._known)

    asyncio.run(run())
    a, b = kept["default/a"], kept["default/b"]
    assert a == Identity("uid-a", "1", "serve")
    assert a.owner is b.owner
    size = sys.getsizeof(a) + sys.getsizeof(a.uid) + sys.getsizeof(a.version) + sys.getsizeof("default/a")
    assert size < 300


@pytest.mark.parametrize(
    ("failures", "longest_s"), [(0, 0.8), (1, 0.8), (2, 1.6), (5, 12.8), (6, 25.6), (7, 30.0), (999, 30.0)]
)
def test_back_off_must_double_up_to_half_a_minute_with_jitter(failures: int, longest_s: float) -> None:
    waits = [back_off_s(failures) for _ in range(200)]
    assert longest_s / 2 <= min(waits) < max(waits) <= longest_s
    assert max(waits) - min(waits) > longest_s / 4


# -- lines


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_must_be_the_same_whatever_pieces_come(size: int) -> None:
    text = b"one\n\ntwo two\n" + b"x" * 50 + b"\nthe rest"
    lines = Lines(60)
    found = [line for at in range(0, len(text), size) for line in lines.feed(text[at : at + size])]
    assert found == [b"one", b"two two", b"x" * 50]
    assert lines.feed(b"\n") == [b"the rest"]


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 6, b"x" * 6 + b"\n"]])
def test_lines_never_grow_without_bound(pieces: list[bytes]) -> None:
    lines = Lines(10)
    *first, last = pieces
    for piece in first:
        lines.feed(piece)
    with pytest.raises(TooLong, match="more than 10 bytes"):
        lines.feed(last)
