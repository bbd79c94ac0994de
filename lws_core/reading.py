"""Stored objects as a controller sees them; of a LeaderWorkerSet the set itself, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from . import names
from .codec import decode_lenient, decode_metadata, decode_status
from .memory import Unreadable
from .projection import thing
from .sights import Thing
from .spec import LeaderWorkerSet
from .validation import validate_update
from .values import FrozenMap, Json, freeze_map


def read(obj: Mapping[str, Any], set_name: str, known: LeaderWorkerSet | None = None) -> Thing | None:
    """What an object is to the controller of a set; None for one that is no concern of it.

    `obj` is JSON, frozen or not; only what is kept of it is frozen. `known` is the set as it was last read.
    Sets are told apart by name only: the caller gives objects of one namespace, and nodes.
    """
    if obj.get("kind") != names.KIND:
        return thing(obj, set_name)
    metadata = obj.get("metadata")
    is_ours = isinstance(metadata, Mapping) and metadata.get("name") == set_name
    return read_set(freeze_map(obj), known) if is_ours else None


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
