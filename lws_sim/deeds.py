"""What a scenario's step does to a world, and how it is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from lws_core import names
from lws_core.codec import decode_lenient
from lws_core.defaulting import apply_defaults
from lws_core.errors import FieldError
from lws_core.quantity import parse
from lws_core.validation import validate_update
from lws_core.values import FrozenMap, Json, as_list, as_map, canonical, dig, evolve

from . import scenario as script
from . import world as cluster
from .cluster import api, kubelet, scheduler
from .cluster.store import Object, key_of, name_of, namespace_of, terminating, uid_of
from .faults import NO_FAULTS, Faults
from .world import World

CHANGE: Final = "simulation.lws.x-k8s.io/change"  # pod annotation: makes one template differ from another
_EDITABLE: Final = {str: "a string", int: "a whole number", bool: "true or false"}
_PART: Final = re.compile(r"\.?([^.\[\]]+)|\[([^\[\]]+)\]")

Admit: TypeAlias = Callable[[Object, Object], tuple[Object, tuple[FieldError, ...]]]
"""What the API server makes of an update: (new, stored) -> the manifest with defaults, and its faults."""


class ImpossibleStep(ValueError):
    """A step that cannot be taken: what it names is not there, or the set it leads to is not valid.

    `step_index` is the step's place in the script, where it was taken from one.
    """

    def __init__(self, problem: str, step_index: int | None = None) -> None:
        super().__init__(problem)
        self.step_index = step_index


@attrs.frozen
class Player:
    """A world with the set that is played with: its manifest, its leaderWorkerTemplate before the last change
    of it, how often that was changed for the sake of change, and what goes wrong with the operator's requests
    and watches."""

    world: World
    manifest: Object
    earlier: FrozenMap[Json] | None = None
    changes: int = 0
    faults: Faults = NO_FAULTS

    @property
    def owner(self) -> str:
        """Namespace and name of the set."""
        return f"{namespace_of(self.manifest)}/{name_of(self.manifest)}"


def admit_update(manifest: Object, stored: Object) -> tuple[Object, tuple[FieldError, ...]]:
    """Defaults and rules of an update, the insides of pod templates apart."""
    completed = apply_defaults(manifest)
    return completed, validate_update(completed, stored).errors


def take(player: Player, step: script.Step, admit: Admit = admit_update) -> Player:
    """The world after a step. Raises ImpossibleStep."""
    before = player.manifest
    for deed in step.deeds:
        player = _do(player, deed)
    if player.manifest == before:
        return player
    template = as_map(dig(before, "spec", "leaderWorkerTemplate"))
    if dig(player.manifest, "spec", "leaderWorkerTemplate") != template:
        player = attrs.evolve(player, earlier=template)
    if all(isinstance(deed, script.Scale) for deed in step.deeds):  # /scale passes by the webhook
        _, errors = decode_lenient(player.manifest)
    else:
        manifest, errors = admit(player.manifest, before)
        player = attrs.evolve(player, manifest=manifest)
    if errors:
        raise ImpossibleStep("; ".join(str(error) for error in errors))
    return attrs.evolve(player, world=cluster.put_set(player.world, player.manifest))


def tell(deed: script.Deed) -> str:
    """What a deed is called in a trace."""
    match deed:
        case script.SetField(path, value):
            shown = value if isinstance(value, str) else canonical(value)
            return f"{path} becomes {shown}"
        case script.Become():
            return "the manifest changes"
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
        case script.Kill(pods):
            return f"{_pods(pods)} killed"
        case script.LoseNode(pods, back):
            return f"node of {_pods(pods)} {'is back' if back else 'is lost'}"
        case script.SlowLoad(group, load_s):
            never = load_s == script.NEVER
            return f"R-{group} will {'never load' if never else f'take {script.duration(load_s)} to load'}"
        case script.AddNodes(nodes):
            return f"{nodes.count} nodes join"
        case script.DeleteSet():
            return "the set is deleted"
        case script.CreateSet():
            return "the set is created again"
        case script.RestartOperator():
            return "operator restarts"
        case script.FailRequests(answer, count):
            how = f"fail with {answer}" if isinstance(answer, int) else f"are {answer}"
            return f"the next {count} requests {how}" if count != 1 else f"the next request {_one(how)}"
        case script.HoldWatch(kinds, held):
            return f"the watch of {', '.join(kinds)} {'stands still' if held else 'goes on'}"
        case script.EditObject(target, fields):
            told = ", ".join(tell(script.SetField(path, value)) for path, value in fields.items())
            return f"{target.kind} {target.name}: {told}"
        case script.DeleteObject(targets):
            return f"{', '.join(f'{target.kind} {target.name}' for target in targets)} deleted"


def is_shown(deed: script.Deed) -> bool:
    """Whether a table shows a deed without words: by the groups' marks, or as the start of a rollout."""
    return isinstance(deed, script.TurnReady | script.ChangeTemplate)


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
        case script.Become(manifest):
            return attrs.evolve(player, manifest=manifest)
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
        case script.DeleteSet():
            key = key_of(player.manifest)
            world = cluster.write(world, api.delete(world.store, key, world.now_s)[0])
        case script.CreateSet():
            if world.store.objects.get(key_of(player.manifest)) is not None:
                raise ImpossibleStep("the set is there: it can be created once it was deleted")
            world = cluster.put_set(world, player.manifest)
        case script.RestartOperator():
            world = cluster.restart_controller(world, player.owner)
        case script.FailRequests(answer, count):
            answers = (*player.faults.answers, *(answer for _ in range(count)))
            return attrs.evolve(player, faults=attrs.evolve(player.faults, answers=answers))
        case script.HoldWatch(kinds, held):
            others = player.faults.held - frozenset(kinds)
            return attrs.evolve(
                player,
                faults=attrs.evolve(player.faults, held=others | frozenset(kinds) if held else others),
            )
        case script.EditObject(target, fields):
            world = _edit(world, _object(player, world, target), fields)
        case script.DeleteObject(targets):
            for target in targets:
                key = key_of(_object(player, world, target))
                world = cluster.write(world, api.delete(world.store, key, world.now_s)[0])
        case script.Crash() | script.Evict() | script.DeletePods() | script.Kill() | script.LoseNode():
            for place in deed.pods:
                world = _do_to_pod(player, world, deed, place)
    return attrs.evolve(player, world=world)


def set_field(manifest: Object, path: str, value: Json) -> Object:
    """The manifest with one field set, or without it for None. Raises ImpossibleStep for a path that leads
    nowhere.

    `spec.replicas`; an item of a list by its index, and a key with dots in it, in brackets:
    `spec.leaderWorkerTemplate.workerTemplate.spec.containers[0].image`, `metadata.annotations[a.b/c]`.
    """
    changed = _set(manifest, _parts(path), value, path)
    assert isinstance(changed, FrozenMap)
    return changed


def _parts(path: str) -> list[str]:
    """The keys and indexes in a path; the rest of it is one key after metadata's labels or annotations."""
    for prefix in ("metadata.annotations.", "metadata.labels."):
        if path.startswith(prefix):
            return [*prefix.split(".")[:2], path.removeprefix(prefix)]
    parts, place = [], 0
    while place < len(path):
        match = _PART.match(path, place)
        if match is None:
            raise ImpossibleStep(f'{path!r} is no path such as "spec.replicas" or "spec.a[0].b"')
        parts.append(match[1] or match[2])
        place = match.end()
    return parts


def _set(value: Json, parts: list[str], item: Json, path: str) -> Json:
    if not parts:
        return item
    first, rest = parts[0], parts[1:]
    if isinstance(value, tuple):
        if not (first.isdecimal() and int(first) < len(value)):
            raise ImpossibleStep(f"{path}: there is no item {first} in a list of {len(value)}")
        index = int(first)
        return (*value[:index], _set(value[index], rest, item, path), *value[index + 1 :])
    if not isinstance(value, FrozenMap | None):
        raise ImpossibleStep(f"{path}: {canonical(value)} has no field {first}")
    fields = as_map(value)
    if item is None and not rest:
        return fields.without(first)
    return fields.with_(first, _set(fields.get(first), rest, item, path))


def _get(value: Json, parts: list[str]) -> Json:
    """What lies at the end of a path, None where it leads nowhere."""
    for part in parts:
        if isinstance(value, tuple):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            value = as_map(value).get(part)
    return value


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
    if player.earlier is None:
        raise ImpossibleStep("there is no earlier template to go back to: no step before has changed it")
    manifest = set_field(player.manifest, "spec.leaderWorkerTemplate", player.earlier)
    return attrs.evolve(player, manifest=manifest)


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
    deed: script.Crash | script.Evict | script.DeletePods | script.Kill | script.LoseNode,
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
        case script.Kill():
            return cluster.write(world, api.delete(store, key_of(pod), now_s, grace_s=0)[0])
        case script.LoseNode() if not node:
            raise ImpossibleStep(f"pod {name_of(pod)} is on no node")
        case script.LoseNode(back=True):
            return cluster.restore_node(world, node)
        case script.LoseNode():
            return cluster.lose_node(world, node)


def _edit(world: World, before: Object, fields: FrozenMap[Json]) -> World:
    """Values become others of their type: the model has no schema that would refuse the rest."""
    after = before
    for path, value in fields.items():
        of_metadata = path.startswith(("metadata.labels.", "metadata.annotations."))
        was = "" if of_metadata else _get(after, _parts(path))
        problem = "" if of_metadata and value is None else _unlike(value, was)
        if problem:
            raise ImpossibleStep(f"{path}: {problem}")
        after = set_field(after, path, value)
    store, answer = api.update(world.store, before, after, world.rules)
    if not answer.ok:
        raise ImpossibleStep(answer.message)
    return cluster.write(world, store)


def _unlike(value: Json, was: Json) -> str:
    """Why a value cannot take the place of another, "" where it can."""
    kind = _EDITABLE.get(type(was))
    if kind is None:
        return f"is {canonical(was)}: only a string, a whole number, true and false can be edited by hand"
    if type(value) is not type(was):
        return f"must be {kind}: an edit by hand keeps the type"
    return "must not begin with a minus sign" if str(value).startswith("-") else ""


def _object(player: Player, world: World, target: script.Target) -> Object:
    found = world.store.get(target.kind, namespace_of(player.manifest), target.name)
    if found is None or found["kind"] == names.KIND:
        raise ImpossibleStep(
            f"there is no {target.kind} {target.name} that belongs to the set at that moment"
        )
    return found


def _pod(player: Player, world: World, place: script.Place) -> Object:
    name = names.leader_name(name_of(player.manifest), place.group)
    if place.worker:
        name = names.worker_name(name_of(player.manifest), place.group, place.worker)
    pod = world.store.get("Pod", namespace_of(player.manifest), name)
    if pod is None:
        raise ImpossibleStep(f"there is no pod {name} at that moment")
    return pod


def _allocatable(given: FrozenMap[Json]) -> FrozenMap[Json]:
    """What a node offers; a number of pods as large clusters allow, where none is given."""
    known: dict[str, Json] = {"pods": "110", **given}
    for name, amount in known.items():
        try:
            parse(amount)
        except ValueError as error:
            raise ImpossibleStep(f"nodes: allocatable {name}: {error}") from None
    return FrozenMap(known)


def _one(how: str) -> str:
    """What is told of several, told of one."""
    return how.replace("fail ", "fails ").replace("are ", "is ")


def _groups(groups: tuple[int, ...]) -> str:
    return ", ".join(f"R-{group}" for group in groups)


def _pods(pods: tuple[script.Place, ...]) -> str:
    return ", ".join(
        f"R-{place.group}" + (f" worker {place.worker}" if place.worker else "") for place in pods
    )
