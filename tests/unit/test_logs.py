"""Log lines: their form, their time, and where they have stack traces."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lws_runtime.operator.logs import TIMES, Encoder, set_up

SECONDS = 1_767_225_600.0  # 2026-01-01T00:00:00Z

SetUp = Callable[..., logging.Logger]


@pytest.fixture
def set_up_logs() -> Iterator[SetUp]:
    """Sets logs up for the test alone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("aiohttp", "asyncio", "kubernetes", "urllib3")}

    def start(encoder: Encoder = "json", *how: Any) -> logging.Logger:
        set_up(logging.INFO, encoder, *how)
        return logging.getLogger("test")

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def fail(log: logging.Logger) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_logs_must_be_one_object_a_line_or_for_people(
    set_up_logs: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    log = set_up_logs()
    log.info("two\nlines", extra={"set": "default/serve", "group": 3})
    log.debug("not told")
    fail(log)
    set_up_logs("console").info("told", extra={"set": "default/serve"})
    *structured, people = capsys.readouterr().err.splitlines()
    first, second = (json.loads(line) for line in structured)
    assert first | {"ts": ""} == {
        "ts": "",
        "msg": "two\nlines",
        "set": "default/serve",
        "group": 3,
        "level": "info",
    }
    assert second["error"].startswith("Traceback (most recent call last):")
    assert second["error"].endswith("ValueError: why")
    assert people.endswith("info    told  set=default/serve")


@pytest.mark.parametrize(
    ("encoding", "whole", "part"),
    [
        ("", "2026-01-01T00:00:00.000+00:00", "2026-01-01T00:00:00.125+00:00"),
        ("epoch", SECONDS, SECONDS + 0.125),
        ("millis", SECONDS * 1000, SECONDS * 1000 + 125),
        ("nano", int(SECONDS) * 10**9, int(SECONDS) * 10**9 + 125 * 10**6),
        ("nanos", int(SECONDS) * 10**9, int(SECONDS) * 10**9 + 125 * 10**6),
        ("iso8601", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.125Z"),
        ("rfc3339", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("rfc3339nano", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.125Z"),
    ],
)
def test_time_of_a_line_must_be_as_go_writes_it(
    set_up_logs: SetUp, capsys: pytest.CaptureFixture[str], encoding: str, whole: object, part: object
) -> None:
    log = set_up_logs("json", encoding)
    for created_s in (SECONDS, SECONDS + 0.125):
        record = log.makeRecord("test", logging.INFO, "", 0, "told", (), None)
        record.created = created_s
        log.handle(record)
    assert [line["ts"] for line in lines(capsys)] == [whole, part]
    assert set(TIMES) == {"epoch", "millis", "nano", "nanos", "iso8601", "rfc3339", "rfc3339nano"}


def test_stack_traces_must_begin_at_the_level_asked_for(
    set_up_logs: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in (logging.WARNING, logging.ERROR, logging.CRITICAL):
        log = set_up_logs("json", "", level)
        log.info("well")
        log.warning("odd")
        fail(log)
    told = lines(capsys)
    assert ["stacktrace" in line for line in told] == [False, True, False] + [False] * 6
    stack = told[1]["stacktrace"].splitlines()
    assert "test_stack_traces_must_begin_at_the_level_asked_for" in stack[-2]  # not the frames of logging
    assert stack[-1].strip() == 'log.warning("odd")'
    traced, alike, bare = (line["error"] for line in told if line["msg"] == "failed")
    assert traced.startswith("Traceback (most recent call last):")
    assert alike.startswith("Traceback (most recent call last):")
    assert bare == "ValueError: why"


def test_attempts_of_an_auth_provider_never_are_told(
    set_up_logs: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logs("json")
    logging.getLogger("urllib3.connectionpool").warning("Retrying after connection broken")
    assert lines(capsys) == []
