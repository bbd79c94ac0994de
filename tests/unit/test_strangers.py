"""Objects of somebody else's that have a name which a set needs."""

from __future__ import annotations

import pytest
from building import a_set

from lws_core import names
from lws_core.defaulting import apply_defaults
from lws_core.options import Options
from lws_core.values import Json, dig, freeze_map
from lws_sim import world as cluster
from lws_sim.cluster import api
from lws_sim.world import World

OWNER = "default/serve"
MINE = freeze_map(
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "serve", "namespace": "default"}, "spec": {}}
)


def settle(world: World) -> World:
    while (task := next(cluster.tasks(world), None)) is not None:
        world = cluster.perform(world, task)
    return world


def stalled(world: World) -> Json:
    conditions = dig(world.store.get(names.KIND, "default", "serve"), "status", "conditions")
    assert isinstance(conditions, tuple)
    return next((dig(c, "reason") for c in conditions if dig(c, "type") == names.STALLED), None)


def blocked(options: Options = Options()) -> World:
    world = cluster.new_world(timing=cluster.Timing(load_s=0.0), options=options)
    world = cluster.write(world, world.store.insert(MINE, world.now_s)[0])
    return settle(cluster.put_set(world, apply_defaults(a_set(metadata={"namespace": "default"}))))


def test_strangers_service_never_is_touched_and_always_is_reported() -> None:
    world = blocked()
    assert dig(world.store.get("Service", "default", "serve"), "metadata", "ownerReferences") is None
    assert stalled(world) == "ForeignObject"


@pytest.mark.parametrize("options", [Options(), Options(foreign_object_interval_s=5.0)])
def test_name_always_is_used_once_its_stranger_has_gone(options: Options) -> None:
    world = blocked(options)
    store, _ = api.delete(world.store, "Service/default/serve", world.now_s)
    world = settle(cluster.write(world, store))
    assert world.store.get("Service", "default", "serve") is None, "no watch tells of it"
    next_s = cluster.next_timer_s(world)
    assert next_s == world.now_s + options.foreign_object_interval_s
    world = settle(cluster.advance(world, next_s))
    service = world.store.get("Service", "default", "serve")
    assert service is not None
    assert dig(service, "metadata", "ownerReferences") is not None
    assert stalled(world) == "NotStalled"
    assert cluster.next_timer_s(world) is None, "and nothing is read any more"
