"""What a pod made from a template will request of a node.

The rule is Kubernetes' own: component-helpers, resource/helpers.go (PodRequests), after the API server's
defaults for pods (pkg/apis/core/v1/defaults.go), by which a limit is a request where no request is given.
Templates are not defaulted, so both halves are done here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from .quantity import Quantity, read
from .spec import Template
from .values import FrozenMap, Json, as_map, as_maps

Requests: TypeAlias = FrozenMap[Quantity]

_NONE: Requests = FrozenMap()


def pod_requests(template: Template) -> Requests:
    """The requests of one pod by resource name. Raises ValueError for an amount that is no quantity."""
    spec = as_map(template.get("spec"))
    requests = _of_containers(spec)
    requests = requests | _of_pod(as_map(spec.get("resources")), requests)
    return add(requests, _amounts(spec.get("overhead")))


def add(one: Requests, other: Requests, times: int = 1) -> Requests:
    """The sum of `one` and `times` the `other`."""
    extra = {name: Quantity(amount.amount * times, amount.family) for name, amount in other.items()}
    return one | {name: one[name] + amount if name in one else amount for name, amount in extra.items()}


def _of_containers(spec: FrozenMap[Json]) -> Requests:
    """Containers and sidecars run together; before them each init container, beside the sidecars so far."""
    running = _sum(_of_container(container) for container in as_maps(spec.get("containers")))
    sidecars = peak = _NONE
    for container in as_maps(spec.get("initContainers")):
        needs = _of_container(container)
        if container.get("restartPolicy") == "Always":
            running = add(running, needs)
            needs = sidecars = add(sidecars, needs)
        else:
            needs = add(needs, sidecars)
        peak = _greater(peak, needs)
    return _greater(running, peak)


def _of_container(container: FrozenMap[Json]) -> Requests:
    resources = as_map(container.get("resources"))
    return _amounts(resources.get("limits")) | _amounts(resources.get("requests"))


def _of_pod(resources: FrozenMap[Json], of_containers: Requests) -> Requests:
    """Requests of the pod as a whole, which stand in for its containers'.

    A pod's limit is its request only where no container says what it requests; a huge page is never
    promised twice, so for huge pages the limit counts at once.
    """
    given = _amounts(resources.get("requests"))
    limits = _amounts(resources.get("limits"))
    defaulted = {
        name: of_containers[name] if name in of_containers and not name.startswith("hugepages-") else limit
        for name, limit in limits.items()
    }
    return FrozenMap({name: amount for name, amount in (defaulted | given).items() if _for_whole_pod(name)})


def _for_whole_pod(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def _amounts(value: Json) -> Requests:
    return FrozenMap({name: read(amount) for name, amount in as_map(value).items() if amount is not None})


def _sum(all_: Iterable[Requests]) -> Requests:
    total = _NONE
    for requests in all_:
        total = add(total, requests)
    return total


def _greater(one: Requests, other: Requests) -> Requests:
    larger = {
        name: amount for name, amount in other.items() if name not in one or amount.amount > one[name].amount
    }
    return one | larger
