"""A map that keeps its older versions, for states that are explored or looked back at."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_BUCKETS: Final = 64
_EMPTY: Final[dict[str, object]] = {}


class PersistentMap(Generic[V]):
    """A map from text to values. Changing one entry copies a sixty-fourth of the map and shares the rest.

    Iteration is in order of keys.
    """

    __slots__ = ("_buckets", "_count")

    def __init__(self) -> None:
        self._buckets: tuple[dict[str, V], ...] = (_EMPTY,) * _BUCKETS  # type: ignore[assignment]
        self._count = 0

    def get(self, key: str) -> V | None:
        """The value of a key, None where it has none."""
        return self._buckets[_place(key)].get(key)

    def put(self, key: str, value: V) -> PersistentMap[V]:
        """The map with one entry set."""
        place = _place(key)
        bucket = self._buckets[place]
        return self._with(place, {**bucket, key: value}, key not in bucket)

    def drop(self, key: str) -> PersistentMap[V]:
        """The map without an entry; itself where it has none such."""
        place = _place(key)
        bucket = self._buckets[place]
        if key not in bucket:
            return self
        return self._with(place, {k: v for k, v in bucket.items() if k != key}, -1)

    def __contains__(self, key: str) -> bool:
        return key in self._buckets[_place(key)]

    def __len__(self) -> int:
        return self._count

    def items(self) -> Iterator[tuple[str, V]]:
        """The entries in order of keys. Cost: sorting them."""
        return iter(sorted((item for bucket in self._buckets for item in bucket.items()), key=_key))

    def _with(self, place: int, bucket: dict[str, V], added: int) -> PersistentMap[V]:
        changed: PersistentMap[V] = PersistentMap.__new__(PersistentMap)
        changed._buckets = (*self._buckets[:place], bucket, *self._buckets[place + 1 :])
        changed._count = self._count + added
        return changed


def _place(key: str) -> int:
    return zlib.crc32(key.encode()) % _BUCKETS


def _key(item: tuple[str, object]) -> str:
    return item[0]
