"""Everything that a controller decides over the lives of several sets, as text: run as a script, to compare
the text of one process with that of another."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs
from building import POD, a_set
from machine import NAME, Bench, taken_over
from recorded import STATES, state

from lws_core import names
from lws_core.explain import explain
from lws_core.options import Options
from lws_core.preview import preview
from lws_core.values import FrozenMap, Json

NEXT = {"spec": {"containers": [{"name": "main", "image": "img:2", "env": [{"name": "A", "value": "b"}]}]}}
SETS = (
    a_set(template={"size": 2}, rolling={"maxUnavailable": 2, "maxSurge": "50%"}),
    a_set(
        {"networkConfig": {"subdomainPolicy": "UniquePerReplica"}},
        {"size": 3, "subGroupPolicy": {"subGroupSize": 1}},
        {
            "labels": {"app": "a", "team": "b"},
            "annotations": {"x": "1", "volcano.sh/y": "2", names.SUBGROUP_EXCLUSIVE_TOPOLOGY: "zone"},
        },
        {"partition": 1, "maxUnavailable": 1},
    ),
    a_set({"startupPolicy": "LeaderReady"}, {"size": 1, "leaderTemplate": POD}),
)
OPTIONS = (Options(), Options(gang_scheduling=True), Options(status_interval_s=0.0))


def recite() -> Iterator[str]:
    """One line of JSON for each object rendered and each action decided."""
    for manifest, options in zip(SETS, OPTIONS, strict=True):
        yield from life(manifest, options)
    yield from takeovers()


def life(manifest: FrozenMap[Json], options: Options) -> Iterator[str]:
    """A set that comes to be, gets another template, loses a worker, is scaled, and gets its old one back."""
    bench = Bench(manifest, options)
    yield from map(json.dumps, preview(bench.cluster.lws, options, with_pods=True))
    actions = bench.run()
    bench.edit(spec__leaderWorkerTemplate__workerTemplate=NEXT)
    actions += bench.run()
    for kind, name in list(bench.cluster.objects):
        if kind == "Pod" and name.startswith(f"{NAME}-1-"):
            bench.cluster.drop(kind, name)
    actions += bench.run()
    bench.edit(spec__replicas=5, spec__leaderWorkerTemplate__workerTemplate=POD)
    actions += bench.run()
    yield from (json.dumps(attrs.asdict(action)) for action in actions)
    yield explain(bench.memory, bench.now_s).text
    yield repr(bench.memory)


def takeovers() -> Iterator[str]:
    """What comes of the first look at each recorded state."""
    for name in STATES:
        recording = state(name)
        look = taken_over(recording.lws.name, recording.objects, 2e9)
        yield from (json.dumps(attrs.asdict(action)) for action in look.actions)
        yield repr(look.memory.summary)


if __name__ == "__main__":
    print("\n".join(recite()))
