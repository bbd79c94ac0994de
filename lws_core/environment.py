"""The environment of containers in a pod: read it, put entries first, add what is missing.

A container or an environment that is not what the API says it is, is left as it stands: it is the API
server's to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .values import FrozenMap, Json, as_maps

CONTAINER_FIELDS: Final = ("containers", "initContainers")

Container = FrozenMap[Json]


def map_containers(spec: FrozenMap[Json], change: Callable[[Container], Container]) -> FrozenMap[Json]:
    """A pod spec with `change` made to every container, then to every init container."""
    for field in CONTAINER_FIELDS:
        containers = spec.get(field)
        if isinstance(containers, tuple):
            changed = tuple([change(item) if isinstance(item, FrozenMap) else item for item in containers])
            spec = spec.with_(field, changed)
    return spec


def container_count(spec: FrozenMap[Json]) -> int:
    """How many containers and init containers `map_containers` changes."""
    return sum(1 for field in CONTAINER_FIELDS for _ in as_maps(spec.get(field)))


def value_of(container: Container, name: str) -> str | None:
    """The value of a variable, by its last entry, which is the one that counts in Kubernetes; "" where it
    comes from elsewhere (`valueFrom`), None where the container does not set it."""
    found = None
    for entry in as_maps(container.get("env")):
        if entry.get("name") == name:
            value = entry.get("value")
            found = value if isinstance(value, str) else ""
    return found


def with_first(container: Container, variables: Mapping[str, str]) -> Container:
    """The container with `variables` before all others, so that those can refer to them, and instead of any
    of the same name. Every other entry stays, two of one name included, of which the last counts."""
    env = container.get("env")
    if not isinstance(env, tuple | None):
        return container
    others = [
        entry for entry in env or () if not (isinstance(entry, FrozenMap) and entry.get("name") in variables)
    ]
    return container.with_("env", (*_entries(variables), *others))


def with_missing(container: Container, variables: Mapping[str, str]) -> Container:
    """The container with those of `variables` that it does not set itself, after all others."""
    env = container.get("env")
    if not isinstance(env, tuple | None):
        return container
    missing = _missing(container, variables)
    return container.with_("env", (*(env or ()), *_entries(missing))) if missing else container


def missing_length(container: Container, variables: Mapping[str, str]) -> int:
    """How many characters `with_missing` adds, names and values together."""
    return length(_missing(container, variables))


def length(variables: Mapping[str, str]) -> int:
    """Characters of names and values together."""
    return sum(len(name) + len(value) for name, value in variables.items())


def _missing(container: Container, variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value_of(container, name) is None}


def _entries(variables: Mapping[str, str]) -> tuple[FrozenMap[Json], ...]:
    return tuple([FrozenMap({"name": name, "value": value}) for name, value in variables.items()])
