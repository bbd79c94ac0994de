"""A stored LeaderWorkerSet as its controller sees it: the set, or what is wrong with it."""

from __future__ import annotations

import attrs

from .codec import decode_lenient, decode_metadata, decode_status
from .memory import Unreadable
from .spec import LeaderWorkerSet
from .validation import validate_update
from .values import FrozenMap, Json


def read_set(manifest: FrozenMap[Json], known: LeaderWorkerSet | None = None) -> LeaderWorkerSet | Unreadable:
    """The set in a stored manifest. What is stored may break rules that only new sets have to keep.

    `known` is the set as it was last read: if its spec has not changed since, it is not read again.
    """
    metadata = decode_metadata(manifest.get("metadata"))
    if known is not None and (known.metadata.uid, known.metadata.generation) == (
        metadata.uid,
        metadata.generation,
    ):
        return attrs.evolve(known, metadata=metadata, status=decode_status(manifest.get("status")))
    lws, _ = decode_lenient(manifest)
    assert lws is not None  # only for what is no map
    errors = validate_update(manifest, manifest).errors
    return Unreadable(lws, errors) if errors else lws
