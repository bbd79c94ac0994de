"""The requests that actions come to."""

from __future__ import annotations

import orjson

from lws_core.actions import Create
from lws_core.values import freeze_map
from lws_runtime.operator.requests import Request, request_of


def request(action: Create) -> Request:
    return request_of(action, event_name="", instance="", now_s=0.0)


def test_created_revision_always_has_the_bytes_that_go_would_write() -> None:
    """Or nobody could patch it later: its data must stay as they are, to the byte."""
    manifest = {
        "kind": "ControllerRevision",
        "apiVersion": "apps/v1",
        "metadata": {"name": "serve-1", "namespace": "default"},
        "data": {"b": "<", "a": {"d": 1, "c": "&"}},
    }
    found = request(Create(freeze_map(manifest), "new"))
    assert found.body is not None
    assert b'"data":{"a":{"c":"\\u0026","d":1},"b":"\\u003c"}' in found.body
    assert orjson.loads(found.body) == manifest
