from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lws_core.times import epoch_s, rfc3339, rfc3339_micro


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-11-23T22:49:23Z", 1795474163.0),
        ("2026-11-23T23:49:23+01:00", 1795474163.0),
        ("2026-11-23T22:49:23.250000Z", 1795474163.25),
        ("2026-11-23T22:49:23", 1795474163.0),
    ],
)
def test_time_always_is_read_in_its_own_zone_or_utc(text: str, seconds: float) -> None:
    assert epoch_s(text) == seconds


@pytest.fixture
def _far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_east")
def test_time_never_depends_on_where_the_controller_stands() -> None:
    assert epoch_s("1970-01-01T00:00:00") == 0.0
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("value", [None, "", "soon", 5, True, "2026-13-01T00:00:00Z", ["2026"]])
def test_what_is_no_time_never_raises(value: object) -> None:
    assert epoch_s(value) is None


def test_time_always_is_written_as_kubernetes_does() -> None:
    assert rfc3339(1795474163.9) == "2026-11-23T22:49:23Z"
    assert rfc3339_micro(1795474163.25) == "2026-11-23T22:49:23.250000Z"
    assert epoch_s(rfc3339(12.0)) == 12.0
