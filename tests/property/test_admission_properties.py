from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from lws_core import names
from lws_core.admission import Denied, admit
from lws_core.jsonpatch import json_patch
from lws_core.options import Options
from lws_core.values import FrozenMap, Json, as_maps, canonical, dig, freeze, freeze_map, thaw

Pod = FrozenMap[Json]

WORDS = st.sampled_from(
    ["", "0", "1", "2", "3", "5", "-1", "abc", "true", "rack", "s-0", "s-1", "s-0-1", "LeaderExcluded"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | WORDS
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


AMOUNTS = st.sampled_from(["0", "1", "4", 4])
VARIABLES = st.sampled_from(["A", "LWS_GROUP_SIZE", "TPU_PROCESS_PORT", "TPU_NAME", "TPU_WORKER_ID"])
ENV = st.lists(st.fixed_dictionaries({"name": VARIABLES}, optional={"value": WORDS}), max_size=3)
ROLES = st.sampled_from(["s-0", "s-1", "s-0-1", "s-0-2", "s-0-3", "s-0-0"])


@st.composite
def containers(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for _ in range(draw(st.integers(0, 3))):
        container: dict[str, Any] = {}
        if draw(st.booleans()):
            container["env"] = draw(ENV)
        if draw(st.booleans()):
            container["resources"] = {
                draw(st.sampled_from(["limits", "requests"])): {names.TPU_RESOURCE: draw(AMOUNTS)}
            }
        made.append(container)
    return made


@st.composite
def sound_pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod such as a StatefulSet of a set could make, with a user's own terms and variables."""
    name = draw(ROLES)
    size, subgroup_size = draw(st.sampled_from([(4, 2), (5, 2), (4, 1), (5, 4), (4, None)]))
    labels = {names.SET_NAME: "s", names.REVISION_KEY: "k"}
    annotations = {names.SIZE: str(size)}
    if name.count("-") == 1:
        labels[names.WORKER_INDEX] = "0"
        annotations |= draw(st.sampled_from([{}, {names.SUBDOMAIN_POLICY: "UniquePerReplica"}]))
    else:
        labels |= {names.GROUP_INDEX: "0", names.GROUP_KEY: "key"}
        annotations[names.LEADER_NAME] = "s-0"
        annotations |= draw(st.sampled_from([{}, {names.LEADER_REQUESTS_TPUS: "true"}]))
    if subgroup_size is not None:
        annotations[names.SUBGROUP_SIZE] = str(subgroup_size)
        annotations[names.SUBGROUP_POLICY_TYPE] = draw(st.sampled_from(["LeaderWorker", "LeaderExcluded"]))
    for key in (names.EXCLUSIVE_TOPOLOGY, names.SUBGROUP_EXCLUSIVE_TOPOLOGY):
        annotations |= draw(st.sampled_from([{}, {key: "rack"}, {key: ""}]))
    spec: dict[str, Any] = {
        "subdomain": "sub",
        "containers": draw(containers()),
        "initContainers": draw(containers()),
    }
    if draw(st.booleans()):
        rules = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "rack"}]}
        spec["affinity"] = {draw(st.sampled_from(["podAffinity", "podAntiAffinity"])): rules}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": labels, "annotations": annotations},
        "spec": spec,
    }


@st.composite
def damaged_pods(draw: st.DrawFn) -> Pod:
    """A sound pod with up to three of its parts, anywhere, dropped or replaced by anything."""
    pod = draw(sound_pods())
    for _ in range(draw(st.integers(0, 3))):
        part: Any = pod
        while True:
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(part[key], dict | list) and draw(st.integers(0, 3)):
                part = part[key]
                continue
            if draw(st.booleans()):
                part[key] = draw(ANYTHING)
            else:
                del part[key]
            break
    return freeze_map(pod)


PODS = damaged_pods()
OPTIONS = st.builds(Options, gang_scheduling=st.booleans(), exclusive_across_namespaces=st.booleans())


def admitted(pod: Pod, options: Options) -> Pod | None:
    try:
        return admit(pod, options)
    except Denied:
        return None


@given(PODS, OPTIONS)
def test_admission_never_fails_but_by_denial(pod: Pod, options: Options) -> None:
    found = admitted(pod, options)
    assert found is None or canonical(found)


@given(st.dictionaries(WORDS | st.sampled_from(["metadata", "spec"]), ANYTHING).map(freeze_map), OPTIONS)
def test_admission_never_fails_on_any_json(pod: Pod, options: Options) -> None:
    admitted(pod, options)


@given(PODS, OPTIONS)
def test_admission_of_an_admitted_pod_never_changes_it(pod: Pod, options: Options) -> None:
    once = admitted(pod, options)
    assume(once is not None)
    assert once is not None
    assert canonical(admit(once, options)) == canonical(once)


@given(PODS, OPTIONS)
def test_admission_patch_always_makes_the_admitted_pod(pod: Pod, options: Options) -> None:
    after = admitted(pod, options)
    if after is not None:
        assert canonical(applied(pod, json_patch(pod, after))) == canonical(after)


@given(ANYTHING.map(freeze), ANYTHING.map(freeze))
def test_patch_always_makes_one_value_of_another(before: Json, after: Json) -> None:
    assert canonical(applied(before, json_patch(before, after))) == canonical(after)


def applied(value: Json, patch: Iterable[FrozenMap[Json]]) -> Json:
    """A plain reading of RFC 6902, sections 4.1 to 4.3."""
    document = {"": thaw(value)}
    for operation in patch:
        path = str(operation["path"]).split("/")
        steps = [step.replace("~1", "/").replace("~0", "~") for step in path[1:]]
        parent: Any = document
        last: Any = ""
        for step in steps:
            parent = parent[last]
            last = int(step) if isinstance(parent, list) else step
        match operation["op"], parent:
            case "remove", _:
                del parent[last]
            case "add", list():
                assert last <= len(parent)
                parent.insert(last, thaw(operation["value"]))
            case "replace", _:
                assert isinstance(parent, list) or last in parent
                parent[last] = thaw(operation["value"])
            case _, _:
                parent[last] = thaw(operation["value"])
    return freeze(document[""])


@st.composite
def divisions(draw: st.DrawFn) -> tuple[int, int | None, bool]:
    """A size, and a subgroup size and type that a set may have with it."""
    size = draw(st.integers(1, 17))
    excluded = draw(st.booleans())
    fitting = [g for g in range(1, size + 1) if (size - 1) % g == 0 or (size % g == 0 and not excluded)]
    subgroup_size = draw(st.sampled_from([None, *fitting])) if fitting else None
    return size, subgroup_size, excluded and subgroup_size is not None


def a_group(division: tuple[int, int | None, bool], leader_tpus: int, worker_tpus: int) -> list[Pod]:
    """All pods of a group after admission; a count of 0 is a pod without TPUs."""
    size, subgroup_size, excluded = division
    told = {names.SIZE: str(size)}
    if subgroup_size is not None:
        told[names.SUBGROUP_SIZE] = str(subgroup_size)
        told[names.SUBGROUP_POLICY_TYPE] = "LeaderExcluded" if excluded else "LeaderWorker"
    pods = []
    for worker_index in range(size):
        leading = worker_index == 0
        own = dict(told) if leading else {**told, names.LEADER_NAME: "s-0"}
        if leader_tpus and not leading:
            own[names.LEADER_REQUESTS_TPUS] = "true"
        labels = {names.SET_NAME: "s", names.GROUP_INDEX: "0"}
        resources = {"limits": {names.TPU_RESOURCE: "4"}}
        count = leader_tpus if leading else worker_tpus
        pod = freeze_map(
            {
                "metadata": {
                    "name": "s-0" if leading else f"s-0-{worker_index}",
                    "namespace": "ns",
                    "labels": {**labels, names.WORKER_INDEX: "0"} if leading else labels,
                    "annotations": own,
                },
                "spec": {"subdomain": "sub", "containers": [{"resources": resources}] * count},
            }
        )
        pods.append(admit(pod, Options()))
    return pods


def environment(container: FrozenMap[Json]) -> dict[Json, Json]:
    return {entry["name"]: entry["value"] for entry in as_maps(container.get("env"))}


@given(divisions(), st.integers(0, 3), st.integers(1, 3), st.randoms(use_true_random=False))
def test_tpu_hosts_always_are_exactly_the_subgroup_s_in_the_order_of_their_ids(
    division: tuple[int, int | None, bool], leader_count: int, worker_count: int, shuffle: random.Random
) -> None:
    """What a ring is told by one member, all others are told too; ids run from 0 without a gap."""
    count = (
        worker_count if leader_count else 0
    )  # leader and workers have equally many TPU containers, or none
    pods = a_group(division, count, worker_count)
    shuffle.shuffle(pods)
    rings: dict[Json, dict[int, str]] = {}
    told: dict[Json, set[Json]] = {}
    for pod in pods:
        subgroup = dig(pod, "metadata", "labels", names.SUBGROUP_INDEX)
        if division[2] and subgroup is None:
            subgroup = "the leader alone"
        for container in as_maps(dig(pod, "spec", "containers")):
            found = environment(container)
            place = int(str(found["TPU_WORKER_ID"]))
            ring = rings.setdefault(subgroup, {})
            assert place not in ring
            ring[place] = f"{dig(pod, 'metadata', 'name')}.sub"
            told.setdefault(subgroup, set()).add(found["TPU_WORKER_HOSTNAMES"])
            addresses = str(found["TPU_PROCESS_ADDRESSES"]).split(",")
            assert addresses[place] == f"{ring[place]}:{found['TPU_PROCESS_PORT']}"
    for subgroup, ring in rings.items():
        assert sorted(ring) == list(range(len(ring)))
        assert told[subgroup] == {",".join(ring[place] for place in range(len(ring)))}


@given(divisions())
def test_subgroup_labels_always_make_subgroups_of_the_size_that_was_asked_for(
    division: tuple[int, int | None, bool],
) -> None:
    size, subgroup_size, excluded = division
    assume(subgroup_size is not None and not (excluded and size == 1))
    assert subgroup_size is not None
    members: dict[Json, int] = {}
    for pod in a_group(division, 0, 1):
        index = dig(pod, "metadata", "labels", names.SUBGROUP_INDEX)
        if index is not None:
            members[index] = members.get(index, 0) + 1
    on_top = not excluded and size % subgroup_size != 0
    assert members == {
        str(index): subgroup_size + (index == 0 and on_top) for index in range(size // subgroup_size)
    } or (excluded and members == {str(i): subgroup_size for i in range((size - 1) // subgroup_size)})
