"""What containers with TPUs are told: the hosts that work as one, in the order of their ids.

The pods of a group, or of a subgroup, that ask for `google.com/tpu` form a ring. With several TPU containers
in a pod, every one of them is a host of its own, with its own port: ids run through the first pod's
containers, then the second's. The variables are those that libtpu reads (docs/api.md, "TPU environment").
"""

from __future__ import annotations

from typing import Final

import attrs

from .environment import CONTAINER_FIELDS, Container, map_containers, missing_length, value_of, with_missing
from .names import TPU_RESOURCE, leader_name
from .quantity import parse
from .subgroup import Division
from .values import FrozenMap, Json, as_maps, dig

HOSTNAMES: Final = "TPU_WORKER_HOSTNAMES"
WORKER_ID: Final = "TPU_WORKER_ID"
NAME: Final = "TPU_NAME"
PROCESS_ADDRESSES: Final = "TPU_PROCESS_ADDRESSES"
PROCESS_PORT: Final = "TPU_PROCESS_PORT"

_FIRST_PORT: Final = 8476


class TooLong(ValueError):
    """More than a pod may be given. characters: how many it would be, or a part of them that is too many."""

    def __init__(self, characters: int) -> None:
        super().__init__(f"an environment of {characters} characters")
        self.characters = characters


@attrs.frozen
class Ring:
    """The worker indexes of the TPU pods that work as one, in order (0 is the leader), by their place."""

    has_leader: bool
    workers: range

    def __len__(self) -> int:
        return self.has_leader + len(self.workers)

    def place_of(self, worker_index: int) -> int | None:
        """The place of a pod in the ring, from 0; None for a pod outside it."""
        if worker_index == 0:
            return 0 if self.has_leader else None
        if worker_index not in self.workers:
            return None
        return self.has_leader + self.workers.index(worker_index)

    def hosts(self, leader: str, subdomain: str) -> list[str]:
        """The names that the pods resolve each other by. Cost: one string per pod."""
        pods = [leader] if self.has_leader else []
        pods += [leader_name(leader, worker_index) for worker_index in self.workers]
        return [f"{pod}.{subdomain}" for pod in pods]


def ring_of(worker_index: int, *, size: int, division: Division | None, leader_has_tpus: bool) -> Ring:
    """The ring of one TPU pod: its group's, or its subgroup's. A leader that belongs to no subgroup is a
    ring of its own."""
    if division is None:
        return Ring(leader_has_tpus, range(1, size))
    subgroup = division.index_of(worker_index)
    if subgroup is None:
        return Ring(True, range(0))
    return Ring(leader_has_tpus and division.leads(subgroup), division.workers(subgroup))


def tpu_containers(spec: FrozenMap[Json]) -> list[Container]:
    """The containers, then the init containers, that ask for TPUs."""
    return [item for field in CONTAINER_FIELDS for item in as_maps(spec.get(field)) if _asks(item)]


def requests_tpus(spec: FrozenMap[Json]) -> bool:
    """Whether a pod with this spec asks for TPUs, which its limits say or else its requests."""
    return bool(tpu_containers(spec))


def lacks_tpu_environment(spec: FrozenMap[Json]) -> bool:
    """Whether a pod with this spec asks for TPUs and its first TPU container names neither hosts nor an id.

    A user who has named either there has taken over, and the pod is left alone.
    """
    containers = tpu_containers(spec)
    return bool(containers) and all(value_of(containers[0], name) is None for name in (HOSTNAMES, WORKER_ID))


def with_tpu_environment(
    spec: FrozenMap[Json], *, leader: str, hosts: list[str], place: int, most_characters: int
) -> FrozenMap[Json]:
    """A pod spec whose TPU containers know the ring's `hosts` and their pod's `place` among them.

    A variable that a container sets itself is left to it. Raises TooLong, before anything large is made,
    where more than `most_characters` would be added. Cost: grows with hosts times containers.
    """
    containers = tpu_containers(spec)
    count = len(containers)
    ports = [value_of(item, PROCESS_PORT) or str(_FIRST_PORT + i) for i, item in enumerate(containers)]
    _refuse_beyond(most_characters, _length_of_addresses(hosts, ports))
    names_ = ",".join([host for host in hosts for _ in range(count)])
    addresses = ",".join([f"{host}:{port}" for host in hosts for port in ports])

    def variables(i: int) -> dict[str, str]:
        return {
            HOSTNAMES: names_,
            WORKER_ID: str(place * count + i),
            NAME: leader,
            PROCESS_ADDRESSES: addresses,
            PROCESS_PORT: ports[i],
        }

    # Here all containers share one text; in the answer each has a copy of its own.
    _refuse_beyond(
        most_characters,
        sum(missing_length(container, variables(i)) for i, container in enumerate(containers)),
    )
    index = iter(range(count))

    def told(container: Container) -> Container:
        return with_missing(container, variables(next(index))) if _asks(container) else container

    return map_containers(spec, told)


def _length_of_addresses(hosts: list[str], ports: list[str]) -> int:
    """Length of the longest text that is added; the ports are a user's and can have any length."""
    return len(ports) * sum(map(len, hosts)) + len(hosts) * sum(len(port) + 2 for port in ports)


def _refuse_beyond(most_characters: int, characters: int) -> None:
    if characters > most_characters:
        raise TooLong(characters)


def _asks(container: Container) -> bool:
    return any(_nonzero(dig(container, "resources", kind, TPU_RESOURCE)) for kind in ("limits", "requests"))


def _nonzero(amount: Json) -> bool:
    try:
        return amount is not None and parse(amount) != 0
    except ValueError:
        return False  # the API server refuses it
