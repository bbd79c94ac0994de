"""Stored objects as the controller of one set sees them."""

from __future__ import annotations

from typing import Any

import pytest
from building import a_set

from lws_core.reading import read
from lws_core.spec import LeaderWorkerSet
from lws_core.values import thaw


def test_set_of_another_name_never_is_a_concern() -> None:
    manifest = a_set(metadata={"name": "serve"})
    for obj in (manifest, thaw(manifest)):
        found = read(obj, "serve")
        assert isinstance(found, LeaderWorkerSet)
        assert found.name == "serve"
        assert read(obj, "chat") is None
        assert read(obj, "chat", found) is None


@pytest.mark.parametrize("metadata", [None, [], "serve", {}, {"name": 7}])
def test_set_without_a_name_never_is_a_concern(metadata: Any) -> None:
    assert read({**thaw(a_set()), "metadata": metadata}, "serve") is None
