"""What planning costs: one group, the whole set, and a look of the machine after one group has changed.

    python benchmarks/planning.py

For sets of several sizes, at rest, each figure is the median of many runs in microseconds; the last column
compares the largest set with the smallest. "decode" is the cost of one pod, as it comes out of the watch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import yaml

import lws_core
from lws_core.defaulting import apply_defaults
from lws_core.leading import set_view
from lws_core.values import freeze_map, thaw
from lws_sim import world as cluster

EXAMPLE = Path(__file__).parents[1] / "examples" / "lws-rollout-strategy.yaml"
NAME = "serve-rollout"


def one_group() -> list[dict[str, Any]]:
    """The objects of a set of one group at rest, as the API server has them."""
    manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    manifest["metadata"]["namespace"] = "default"
    manifest["spec"]["replicas"] = 1
    world = cluster.new_world(timing=cluster.Timing(load_s=0.0, stop_s=0.0))
    world = cluster.put_set(world, apply_defaults(freeze_map(manifest)))
    while True:
        task = next(cluster.tasks(world), None)
        due_s = cluster.next_timer_s(world)
        if task is not None:
            world = cluster.perform(world, task)
        elif due_s is not None and due_s < world.now_s + 60:
            world = cluster.advance(world, due_s)
        else:
            return [thaw(obj) for _, obj in world.store.objects.items() if obj["kind"] != "Node"]


def at_rest(group_count: int, now_s: float) -> lws_core.Memory:
    """A controller that knows a set of so many groups, and has nothing left to do."""
    things: list[lws_core.Thing | None] = []
    for obj in one_group():
        text = json.dumps(obj)
        if not obj["metadata"]["name"].startswith(f"{NAME}-0"):
            text = text.replace('"replicas": 1', f'"replicas": {group_count}')
            text = text.replace('replicas": "1"', f'replicas": "{group_count}"')
            things.append(lws_core.read(freeze_map(json.loads(text)), NAME))
            continue
        for index in range(group_count):
            other = text.replace(f"{NAME}-0", f"{NAME}-{index}").replace(
                '/group-index": "0"', f'/group-index": "{index}"'
            )
            things.append(lws_core.read(freeze_map(json.loads(_with_uids(other, index))), NAME))
    memory = lws_core.begin((thing for thing in things if thing is not None), now_s)
    return settled(memory, now_s)


def _with_uids(text: str, index: int) -> str:
    """The objects of each group have UIDs of their own: the group's index in their last part."""
    owners_of_set = {NAME, f"{NAME}-"}
    obj = json.loads(text)
    obj["metadata"]["uid"] = f"{obj['metadata']['uid'][:-6]}{index:06d}"
    for owner in obj["metadata"].get("ownerReferences", ()):
        if owner["name"] not in owners_of_set:
            owner["uid"] = f"{owner['uid'][:-6]}{index:06d}"
    return json.dumps(obj)


def settled(memory: lws_core.Memory, now_s: float) -> lws_core.Memory:
    """The memory once all that it asks for was granted; at rest that is a status or an event at most."""
    while True:
        seen = lws_core.look(memory, now_s)
        memory = seen.memory
        if not seen.actions:
            return memory
        for action in seen.actions:
            assert isinstance(action, lws_core.PatchStatus | lws_core.Emit), action
            memory = lws_core.observe(memory, lws_core.Answered(action, lws_core.Outcome(200)), now_s)


def median_us(run: Callable[[int], object], times: int) -> float:
    """The median time of a call, in microseconds; each call gets its number."""
    found = []
    for number in range(times):
        began = time.perf_counter()
        run(number)
        found.append((time.perf_counter() - began) * 1e6)
    return statistics.median(found)


def measure(group_count: int, times: int) -> dict[str, float]:
    """Every figure for a set of so many groups."""
    now_s = cluster.START_S + 3600
    memory = at_rest(group_count, now_s)
    lws, statefulset = memory.lws, memory.statefulset
    assert lws is not None
    assert statefulset is not None
    assert memory.lineage is not None
    assert isinstance(memory.decision, lws_core.Done), memory.decision
    then = memory.lineage.sets
    last = memory.groups.get(group_count - 1)

    def of_group(_: int) -> object:
        assert last.group.leader is not None
        known = then.get(last.group.leader.revision_key)
        return lws_core.plan_group(lws, known, last.group, last.history, statefulset=statefulset, now_s=now_s)

    unready = [changed(memory, number % group_count) for number in range(times)]

    def of_set(number: int) -> object:
        return lws_core.plan_set(lws, set_view(unready[number], lws, now_s))

    def look(number: int) -> object:
        return lws_core.look(unready[number], now_s)

    return {
        "plan_group": median_us(of_group, times),
        "plan_set": median_us(of_set, times),
        "look": median_us(look, times),
        "observe": median_us(lambda number: changed(memory, number % group_count), times),
    }


def changed(memory: lws_core.Memory, index: int) -> lws_core.Memory:
    """The memory after the leader of a group was seen to fall unready."""
    leader = memory.groups.get(index).group.leader
    assert leader is not None
    fallen = attrs.evolve(leader, ready=False, resource_version="999999")
    return lws_core.observe(memory, lws_core.Seen(fallen), cluster.START_S + 3600)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--times", type=int, default=500, help="runs of which the median is told")
    arguments = parser.parse_args()
    sizes = sorted(arguments.groups)
    figures = {size: measure(size, arguments.times) for size in sizes}
    print(f"{'us':12}", *[f"{size:>9,}" for size in sizes], f"{'ratio':>8}")
    for name in figures[sizes[0]]:
        row = [figures[size][name] for size in sizes]
        print(f"{name:12}", *[f"{value:9.1f}" for value in row], f"{row[-1] / row[0]:8.1f}")


if __name__ == "__main__":
    main()
