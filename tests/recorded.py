"""States that a real controller of this API left in a real cluster (tests/fixtures/takeover)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import attrs

from lws_core import codec, names, projection, revision
from lws_core.observed import Pod
from lws_core.quantity import parse
from lws_core.spec import LeaderWorkerSet
from lws_core.values import FrozenMap, Json, as_map, dig, freeze

FOLDER = Path(__file__).parent / "fixtures" / "takeover"
STATES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))

Object = FrozenMap[Json]


@attrs.frozen
class State:
    """All objects of one recorded set."""

    name: str
    objects: tuple[Object, ...]

    def of(self, kind: str) -> tuple[Object, ...]:
        return tuple(obj for obj in self.objects if obj["kind"] == kind)

    @property
    def lws(self) -> LeaderWorkerSet:
        (manifest,) = self.of("LeaderWorkerSet")
        return codec.decode(manifest)

    @property
    def leader_statefulset(self) -> Object:
        (found,) = (obj for obj in self.of("StatefulSet") if owner_kind(obj) == names.KIND)
        return found

    @property
    def worker_statefulsets(self) -> tuple[Object, ...]:
        return tuple(obj for obj in self.of("StatefulSet") if owner_kind(obj) == "Pod")

    def named(self, kind: str, name: Json) -> Object:
        (found,) = (obj for obj in self.of(kind) if dig(obj, "metadata", "name") == name)
        return found

    def leader(self, name: Json) -> Pod:
        """The recorded pod of that name as a controller sees it."""
        pod = projection.pod(self.named("Pod", name), self.lws.name)
        assert pod is not None
        return pod

    def revision(self, key: Json) -> Object:
        (found,) = (
            obj
            for obj in self.of("ControllerRevision")
            if owner_kind(obj) == names.KIND and label(obj, names.REVISION_KEY) == key
        )
        return found

    def at_revision(self, key: Json) -> LeaderWorkerSet:
        """The set as it was at a revision."""
        return revision.overlay(self.lws, as_map(self.revision(key)["data"]))


@cache
def state(name: str) -> State:
    recorded = json.loads((FOLDER / f"{name}.json").read_text())
    return State(name, tuple(as_map(freeze(item)) for item in recorded["items"]))


def owner_kind(obj: Object) -> Json:
    owners = dig(obj, "metadata", "ownerReferences")
    return dig(owners[0], "kind") if isinstance(owners, tuple) and owners else None


def label(obj: Object, key: str) -> Json:
    return dig(obj, "metadata", "labels", key)


def differences(rendered: Json, found: Json, path: str = "") -> list[str]:
    """Where `rendered` says something that `found` does not have: every field of a map, every item of a list
    in its place, quantities by their amount."""
    if isinstance(rendered, FrozenMap) and isinstance(found, FrozenMap | None):
        return [
            line
            for key, value in rendered.items()
            for line in differences(value, as_map(found).get(key), f"{path}/{key}")
        ]
    if isinstance(rendered, tuple) and isinstance(found, tuple) and len(rendered) == len(found):
        return [
            line
            for index, (one, other) in enumerate(zip(rendered, found, strict=True))
            for line in differences(one, other, f"{path}/{index}")
        ]
    if rendered == found or (_is_amount(path) and _same_amount(rendered, found)):
        return []
    return [f"{path}: rendered {rendered!r}, found {found!r}"]


def _is_amount(path: str) -> bool:
    return "/resources/" in path


def _same_amount(one: Json, other: Json) -> bool:
    try:
        return parse(one) == parse(other)
    except ValueError:
        return False
