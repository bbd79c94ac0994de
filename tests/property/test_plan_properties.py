"""Plans and their differences over the lives of random sets: one look after all has been sent wants nothing,
and what is kept up to date event by event is what one would make of everything at once."""

from __future__ import annotations

from typing import Any

import attrs
from building import a_set
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import NAME, Bench, folded, writes

from lws_core import controller, names
from lws_core.actions import Delete
from lws_core.bits import indexes
from lws_core.diff import diff_group, diff_set
from lws_core.leading import own_statefulset, set_view
from lws_core.memory import Memory
from lws_core.observed import Pod
from lws_core.options import Options
from lws_core.plan import plan, plan_group, plan_set
from lws_core.rollout import Done
from lws_core.sights import Seen, Synced
from lws_core.summary import group_state
from lws_core.values import FrozenMap, Json

DEEDS = (
    "settle", "leaders", "workers", "ready", "scale", "template", "budget", "partition", "labels", "drop pod",
    "drop workers", "drop service", "scale from outside", "edit template", "restart", "unready", "wait",
)  # fmt: skip


@st.composite
def sets(draw: st.DrawFn) -> FrozenMap[Json]:
    strategy = draw(
        st.sampled_from(({}, {"maxUnavailable": 2}, {"maxSurge": 1}, {"maxUnavailable": 0, "maxSurge": 2}))
    )
    return a_set(
        {
            "replicas": draw(st.integers(0, 3)),
            "startupPolicy": draw(st.sampled_from(("LeaderCreated", "LeaderReady"))),
            "networkConfig": {"subdomainPolicy": draw(st.sampled_from(("Shared", "UniquePerReplica")))},
        },
        {
            "size": draw(st.integers(1, 3)),
            "restartPolicy": draw(st.sampled_from(("None", "RecreateGroupOnPodRestart"))),
        },
        rolling=strategy,
    )


Life = list[tuple[str, int]]
GROWN: Life = [("grow", 0)]
LIVES = st.builds(
    lambda beginning, rest: beginning + rest,
    st.sampled_from((GROWN, GROWN, [])),
    st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 3)), max_size=8),
)
OPTIONS = st.builds(Options, gang_scheduling=st.booleans())


def live_through(bench: Bench, deeds: Life) -> None:
    for deed, number in deeds:
        do(bench, deed, number)


def do(bench: Bench, deed: str, number: int) -> None:
    """One thing that happens to a set; nothing where it cannot."""
    cluster, index = bench.cluster, number % 3
    there = ("StatefulSet", NAME) in cluster.objects
    match deed:
        case "grow":
            bench.run()
        case "settle":
            bench.settle()
        case "wait":
            bench.now_s += 10.0 * number
        case "leaders" if there:
            cluster.run_leaders()
        case "workers":
            cluster.run_workers()
        case "ready":
            cluster.ready(at_s=bench.now_s)
        case "scale":
            bench.edit(spec__replicas=number)
        case "template":
            image = {"spec": {"containers": [{"name": "main", "image": f"img:{number}"}]}}
            bench.edit(spec__leaderWorkerTemplate__workerTemplate=image)
        case "budget":
            bench.edit(spec__rolloutStrategy={"rollingUpdateConfiguration": {"maxSurge": number}})
        case "partition":
            bench.edit(spec__rolloutStrategy={"rollingUpdateConfiguration": {"partition": number}})
        case "labels":
            bench.edit(metadata__labels={"team": str(number)} if number else {})
        case "scale from outside" if there:
            cluster.change("StatefulSet", NAME, spec__replicas=number)
        case "edit template" if there:
            cluster.change("StatefulSet", NAME, spec__template__spec__priority=number)
        case "drop service":
            drop(bench, "Service", NAME)
        case "drop pod":
            drop(bench, "Pod", f"{NAME}-{index}-1" if number > 1 else f"{NAME}-{index}")
        case "drop workers":
            drop(bench, "StatefulSet", f"{NAME}-{index}")
        case "restart" | "unready":
            name = f"{NAME}-{index}"
            if ("Pod", name) in cluster.objects:
                fields: dict[str, Any] = (
                    {"status__containerStatuses": [{"restartCount": 1}]}
                    if deed == "restart"
                    else {"status__conditions": []}
                )
                cluster.change("Pod", name, **fields)


def drop(bench: Bench, kind: Any, name: str) -> None:
    if (kind, name) in bench.cluster.objects:
        bench.cluster.drop(kind, name)


@settings(max_examples=60, deadline=None)
@given(sets(), OPTIONS, LIVES)
def test_look_after_all_was_sent_never_wants_anything(
    manifest: FrozenMap[Json], options: Options, deeds: Life
) -> None:
    bench = Bench(manifest, options)
    live_through(bench, deeds)
    bench.settle()
    assert bench.look() == ()
    # Nor does one that goes over every group again, or that comes later.
    bench.memory = attrs.evolve(bench.memory, dirty=bench.memory.known)
    assert writes(bench.look()) == []


@settings(max_examples=60, deadline=None)
@given(sets(), OPTIONS, LIVES)
def test_difference_after_its_actions_never_is_anything(
    manifest: FrozenMap[Json], options: Options, deeds: Life
) -> None:
    """Plan and compare from what stands in the cluster, with no memory of what was sent."""
    bench = Bench(manifest, options)
    live_through(bench, deeds)
    bench.settle()
    if bench.memory.exposed:  # what comes next waits until the StatefulSet controller has seen the template
        bench.cluster.run_leaders()
        bench.settle()
    memory, lws = bench.memory, bench.cluster.lws
    assert memory.lineage is not None
    view = set_view(memory, lws, bench.now_s)
    planned = plan_set(lws, view)
    assert diff_set(lws, planned, view, leaders_of(memory, planned.replace)).actions == ()
    for index in indexes(memory.known):
        record = memory.groups.get(index)
        leader = record.group.leader
        own = plan_group(
            lws,
            None if leader is None else memory.lineage.sets.get(leader.revision_key),
            record.group,
            record.history,
            statefulset=own_statefulset(memory, lws),
            recreation=memory.recorded.get(str(index)),
            options=options,
            now_s=bench.now_s,
        )
        assert diff_group(lws, own, record.group).actions == ()


def leaders_of(memory: Memory, replace: tuple[int, ...]) -> FrozenMap[Pod]:
    found = {index: memory.groups.get(index).group.leader for index in replace}
    return FrozenMap({str(index): leader for index, leader in found.items() if leader is not None})


@settings(max_examples=60, deadline=None)
@given(sets(), OPTIONS, LIVES)
def test_plan_of_all_always_is_that_of_the_set_and_that_of_each_group(
    manifest: FrozenMap[Json], options: Options, deeds: Life
) -> None:
    """And the summary, folded event by event, is that of the groups as they stand."""
    bench = Bench(manifest, options)
    live_through(bench, deeds)
    bench.look()
    memory, lws = bench.memory, bench.cluster.lws
    assert memory.lineage is not None
    records = [memory.groups.get(index) for index in indexes(memory.known)]
    statefulset = own_statefulset(memory, lws)
    uid = "" if statefulset is None else statefulset.uid
    states = {
        record.group.index: group_state(
            record.group,
            uid,
            None if record.group.leader is None else memory.lineage.size_of(record.group.leader.revision_key),
        )
        for record in records
    }
    assert {record.group.index: record.state for record in records} == states
    most = max(states, default=-1) + 1
    assert memory.summary == folded([memory.groups.get(index).state for index in range(most)])

    view = set_view(memory, lws, bench.now_s)
    together = plan(
        lws,
        view,
        ((record.group, record.history) for record in records),
        recreations=memory.recorded,
        nodes=memory.nodes,
        options=options,
        now_s=bench.now_s,
    )
    apart = tuple(
        plan_group(
            lws,
            None if leader is None else memory.lineage.sets.get(leader.revision_key),
            record.group,
            record.history,
            statefulset=view.statefulset,
            recreation=memory.recorded.get(str(record.group.index)),
            node=None if leader is None else memory.nodes.get(leader.node_name),
            options=options,
            now_s=bench.now_s,
        )
        for record in records
        for leader in [record.group.leader]
    )
    assert together == (plan_set(lws, view), apart)


@settings(max_examples=60, deadline=None)
@given(sets(), LIVES, st.randoms(use_true_random=False))
def test_first_look_never_depends_on_the_order_of_what_was_seen(
    manifest: FrozenMap[Json], deeds: Life, order: Any
) -> None:
    bench = Bench(manifest)
    live_through(bench, deeds)
    things = bench.cluster.things()
    looks = []
    for _ in range(2):
        memory = controller.start()
        for thing in things:
            memory = controller.observe(memory, Seen(thing), bench.now_s)
        looks.append(controller.step(memory, Synced(), bench.now_s))
        order.shuffle(things)
    assert looks[0].actions == looks[1].actions
    assert looks[0].memory.summary == looks[1].memory.summary


@settings(max_examples=60, deadline=None)
@given(sets(), LIVES)
def test_set_always_comes_to_rest_on_its_newest_spec(manifest: FrozenMap[Json], deeds: Life) -> None:
    """Once nothing fails any more: every group that is to be updated serves what the set says now."""
    bench = Bench(manifest)
    live_through(bench, deeds)
    for _ in range(4):  # back-off and patience pass
        bench.run()
        bench.now_s += 1000.0
    lws = bench.cluster.lws
    leaders = bench.cluster.leaders
    assert isinstance(bench.memory.decision, Done), bench.memory.decision
    assert leaders.replicas == lws.spec.replicas
    assert leaders.partition == lws.spec.rollout_strategy.partition
    assert bench.memory.summary.ready.bit_count() == lws.spec.replicas
    assert leaders.annotations[names.REPLICAS] == str(lws.spec.replicas)


def test_life_never_is_without_deletions() -> None:
    """The lives above reach what they are meant to reach."""
    bench = Bench(a_set(template={"size": 2}))
    bench.run()
    live_through(bench, [("template", 2), ("settle", 0), ("leaders", 0)])
    assert any(isinstance(action, Delete) for action in bench.settle())
