from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lws_sim.persistent import PersistentMap

_KEYS = st.text("abé/", max_size=3)
_WRITES = st.lists(st.tuples(_KEYS, st.none() | st.integers()))


@given(_WRITES)
def test_persistent_map_always_equals_a_dict(writes: list[tuple[str, int | None]]) -> None:
    """None drops a key. Every version stays what it was."""
    plain: dict[str, int] = {}
    versions: list[tuple[PersistentMap[int], dict[str, int]]] = [(PersistentMap(), {})]
    for key, value in writes:
        latest = versions[-1][0]
        plain = {k: v for k, v in plain.items() if k != key} | ({} if value is None else {key: value})
        versions.append((latest.drop(key) if value is None else latest.put(key, value), plain))
    for version, expected in versions:
        assert list(version.items()) == sorted(expected.items())
        assert len(version) == len(expected)
        for key, _ in writes:
            assert version.get(key) == expected.get(key)
            assert (key in version) == (key in expected)


def test_persistent_map_is_itself_after_dropping_nothing() -> None:
    some = PersistentMap[int]().put("a", 1)
    assert some.drop("b") is some


def test_persistent_map_always_tells_a_stored_none_from_nothing() -> None:
    some = PersistentMap[None]().put("a", None)
    assert "a" in some
    assert len(some.put("a", None)) == 1
    assert len(some.drop("a")) == 0
