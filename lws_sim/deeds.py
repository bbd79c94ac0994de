"""What a scenario's step does to a world, and how it is told."""

from __future__ import annotations

import attrs

from lws_core import names
from lws_core.quantity import parse
from lws_core.validation import validate_update
from lws_core.values import FrozenMap, Json, as_list, as_map, dig, evolve

from . import scenario as script
from . import world as cluster
from .cluster import api, kubelet, scheduler
from .cluster.store import Object, key_of, name_of, namespace_of, terminating, uid_of
from .world import World

CHANGE = "simulation.lws.x-k8s.io/change"  # pod annotation that makes one template differ from another


class ImpossibleStep(ValueError):
    """A step that cannot be taken: what it names is not there, or the set it leads to is not valid."""


@attrs.frozen
class Player:
    """A world with the set that is played with: its manifest, and its leaderWorkerTemplates so far."""

    world: World
    manifest: Object
    templates: tuple[FrozenMap[Json], ...] = ()
    changes: int = 0

    @property
    def owner(self) -> str:
        """Namespace and name of the set."""
        return f"{namespace_of(self.manifest)}/{name_of(self.manifest)}"


def take(player: Player, step: script.Step) -> Player:
    """The world after a step. Raises ImpossibleStep."""
    before = player.manifest
    for deed in step.deeds:
        player = _do(player, deed)
    if player.manifest == before:
        return player
    scales_only = all(isinstance(deed, script.Scale) for deed in step.deeds)
    errors = () if scales_only else validate_update(player.manifest, before).errors
    if errors:
        raise ImpossibleStep("; ".join(str(error) for error in errors))
    return attrs.evolve(player, world=cluster.put_set(player.world, player.manifest))


def tell(deed: script.Deed) -> str:
    """What a deed is called in a trace."""
    match deed:
        case script.SetField(path, value):
            return f"{path} becomes {value}"
        case script.ChangeTemplate():
            return "template changes"
        case script.Revert():
            return "template is reverted"
        case script.Scale(replicas):
            return f"scaled to {replicas}"
        case script.TurnReady(groups, ready):
            fall = "falls" if len(groups) == 1 else "fall"
            return f"{_groups(groups)} {'ready' if ready else f'{fall} unready'}"
        case script.Crash(pods):
            return f"{_pods(pods)} crashes"
        case script.Evict(pods):
            return f"{_pods(pods)} evicted"
        case script.DeletePods(pods):
            return f"{_pods(pods)} deleted"
        case script.LoseNode(pods, back):
            return f"node of {_pods(pods)} {'is back' if back else 'is lost'}"
        case script.SlowLoad(group, load_s):
            never = load_s == script.NEVER
            return f"R-{group} will {'never load' if never else f'take {load_s:g} s to load'}"
        case script.AddNodes(nodes):
            return f"{nodes.count} nodes join"
        case script.RestartOperator():
            return "operator restarts"


def is_readiness(deed: script.Deed) -> bool:
    """Whether a deed only lets groups load, which a table shows without words."""
    return isinstance(deed, script.TurnReady)


def make_nodes(nodes: script.Nodes, first: int) -> tuple[Object, ...]:
    """The node objects, numbered from `first`."""
    return tuple(
        scheduler.make_node(
            f"node-{first + index}",
            FrozenMap({key: value.replace("{i}", str(index)) for key, value in nodes.labels.items()}),
            _allocatable(nodes.allocatable),
        )
        for index in range(nodes.count)
    )


def _do(player: Player, deed: script.Deed) -> Player:
    world = player.world
    match deed:
        case script.SetField(path, value):
            return attrs.evolve(player, manifest=set_field(player.manifest, path, value))
        case script.Scale(replicas):
            return attrs.evolve(player, manifest=set_field(player.manifest, "spec.replicas", replicas))
        case script.ChangeTemplate():
            return change_template(player, deed)
        case script.Revert():
            return _revert(player)
        case script.TurnReady(groups, ready):
            for group in groups:
                world = _turn(player, world, group, ready)
        case script.SlowLoad(group, load_s):
            key = f"{player.owner}/{group}"
            timing = attrs.evolve(world.timing, loads=world.timing.loads.with_(key, load_s))
            world = evolve(world, timing=timing)
        case script.AddNodes(nodes):
            count = len(world.store.all("Node"))
            for node in make_nodes(nodes, count):
                world = cluster.write(world, world.store.insert(node, world.now_s)[0])
        case script.RestartOperator():
            world = cluster.restart_controller(world, player.owner)
        case script.Crash() | script.Evict() | script.DeletePods() | script.LoseNode():
            for place in deed.pods:
                world = _do_to_pod(player, world, deed, place)
    return attrs.evolve(player, world=world)


def set_field(manifest: Object, path: str, value: Json) -> Object:
    """The manifest with the field at a dotted path set; metadata.annotations.KEY may have dots in KEY."""
    for prefix in ("metadata.annotations.", "metadata.labels."):
        if path.startswith(prefix):
            return _assoc(manifest, [*prefix.split(".")[:2], path.removeprefix(prefix)], value)
    return _assoc(manifest, path.split("."), value)


def change_template(player: Player, change: script.ChangeTemplate) -> Player:
    """The set with other pod templates."""
    count = player.changes + 1
    before = as_map(dig(player.manifest, "spec", "leaderWorkerTemplate"))
    after = before
    for field in ("leaderTemplate", "workerTemplate"):
        if field in before:
            after = after.with_(field, _changed(as_map(before[field]), change, count))
    return attrs.evolve(
        player,
        manifest=set_field(player.manifest, "spec.leaderWorkerTemplate", after),
        templates=(*player.templates, before),
        changes=count,
    )


def _changed(template: FrozenMap[Json], change: script.ChangeTemplate, count: int) -> FrozenMap[Json]:
    metadata = as_map(template.get("metadata"))
    notes = as_map(metadata.get("annotations")).without(cluster.LOAD) | {CHANGE: str(count)}
    if change.load_s is not None:
        notes |= {cluster.LOAD: "never" if change.load_s == script.NEVER else f"{change.load_s:g}"}
    template = template.with_("metadata", metadata.with_("annotations", notes))
    containers = as_list(dig(template, "spec", "containers"))
    if change.image and containers:
        first = as_map(containers[0]).with_("image", change.image)
        spec = as_map(template.get("spec")).with_("containers", (first, *containers[1:]))
        template = template.with_("spec", spec)
    return template


def _revert(player: Player) -> Player:
    if not player.templates:
        raise ImpossibleStep("there is no earlier template to go back to: no step before has changed it")
    before = as_map(dig(player.manifest, "spec", "leaderWorkerTemplate"))
    manifest = set_field(player.manifest, "spec.leaderWorkerTemplate", player.templates[-1])
    return attrs.evolve(player, manifest=manifest, templates=(*player.templates[:-1], before))


def _turn(player: Player, world: World, group: int, ready: bool) -> World:
    """All pods of a group become ready, or its leader falls unready."""
    leader = _pod(player, world, script.Place(group))
    pods = [leader]
    workers = world.store.get("StatefulSet", namespace_of(leader), name_of(leader)) if ready else None
    if workers is not None:
        pods += [obj for obj in world.store.owned_by(uid_of(workers)) if obj["kind"] == "Pod"]
    for pod in pods:
        if dig(pod, "status", "phase") == "Running" and not terminating(pod):
            world = cluster.write(world, kubelet.set_ready(world.store, pod, ready, world.now_s))
    return world


def _do_to_pod(
    player: Player,
    world: World,
    deed: script.Crash | script.Evict | script.DeletePods | script.LoseNode,
    place: script.Place,
) -> World:
    pod = _pod(player, world, place)
    store, now_s = world.store, world.now_s
    node = str(dig(pod, "spec", "nodeName") or "")
    match deed:
        case script.Crash():
            world = cluster.write(world, kubelet.restart_container(store, pod, now_s))
            wait_s = cluster.load_of_s(world, pod)
            if wait_s is None:
                return world
            return cluster.set_timer(world, now_s + wait_s, cluster.Ready(key_of(pod), uid_of(pod)))
        case script.Evict():
            return cluster.write(world, kubelet.fail(store, pod, "Evicted", now_s))
        case script.DeletePods():
            return cluster.write(world, api.delete(store, key_of(pod), now_s)[0])
        case script.LoseNode() if not node:
            raise ImpossibleStep(f"pod {name_of(pod)} is on no node")
        case script.LoseNode(back=True):
            return cluster.restore_node(world, node)
        case script.LoseNode():
            return cluster.lose_node(world, node)


def _pod(player: Player, world: World, place: script.Place) -> Object:
    name = names.leader_name(name_of(player.manifest), place.group)
    if place.worker:
        name = names.worker_name(name_of(player.manifest), place.group, place.worker)
    pod = world.store.get("Pod", namespace_of(player.manifest), name)
    if pod is None:
        raise ImpossibleStep(f"there is no pod {name} at that moment")
    return pod


def _assoc(value: Json, path: list[str], item: Json) -> FrozenMap[Json]:
    fields = as_map(value)
    return fields.with_(path[0], item if len(path) == 1 else _assoc(fields.get(path[0]), path[1:], item))


def _allocatable(given: FrozenMap[Json]) -> FrozenMap[Json]:
    """What a node offers; a number of pods as large clusters allow, where none is given."""
    known: dict[str, Json] = {"pods": "110", **given}
    for name, amount in known.items():
        try:
            parse(amount)
        except ValueError as error:
            raise ImpossibleStep(f"nodes: allocatable {name}: {error}") from None
    return FrozenMap(known)


def _groups(groups: tuple[int, ...]) -> str:
    return ", ".join(f"R-{group}" for group in groups)


def _pods(pods: tuple[script.Place, ...]) -> str:
    return ", ".join(
        f"R-{place.group}" + (f" worker {place.worker}" if place.worker else "") for place in pods
    )
