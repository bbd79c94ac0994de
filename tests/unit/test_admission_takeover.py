"""Pods admitted here, against the same pods as a real controller of this API admitted them.

No difference is expected in any recorded state: what is done better here shows elsewhere (test_admission).
"""

from __future__ import annotations

import pytest
from recorded import STATES, Object, State, label, state

from lws_core import names
from lws_core.admission import admit
from lws_core.desired.pod import stamped_pod
from lws_core.options import Options
from lws_core.values import Json, as_map, as_maps, dig

PODS = [
    pytest.param(name, index, id=f"{name}-{dig(pod, 'metadata', 'name')}")
    for name in STATES
    for index, pod in enumerate(state(name).of("Pod"))
]

COMPARED = ("subdomain", "hostname", "nodeSelector", "affinity")


def as_created(recording: State, pod: Object) -> Object:
    """The pod as the StatefulSet controller sent it, made from the native revision that it is of."""
    (owner,) = as_maps(dig(pod, "metadata", "ownerReferences"))
    statefulset = recording.named("StatefulSet", owner["name"])
    native = recording.named("ControllerRevision", label(pod, names.NATIVE_REVISION))
    template = as_map(dig(native, "data", "spec", "template")).without("$patch")
    then = statefulset.with_("spec", as_map(statefulset["spec"]).with_("template", template))
    ordinal = names.parent_and_ordinal(str(dig(pod, "metadata", "name")))[1]
    assert ordinal is not None
    return stamped_pod(then, ordinal, {names.NATIVE_REVISION: str(label(pod, names.NATIVE_REVISION))})


def environments(pod: Object) -> dict[Json, Json]:
    return {
        item["name"]: item.get("env")
        for field in ("containers", "initContainers")
        for item in as_maps(dig(pod, "spec", field))
    }


@pytest.mark.parametrize(("name", "index"), PODS)
def test_admitted_pod_always_is_the_pod_that_was_recorded(name: str, index: int) -> None:
    found = state(name).of("Pod")[index]
    admitted = admit(as_created(state(name), found), Options())
    assert dig(admitted, "metadata", "labels") == dig(found, "metadata", "labels")
    assert dig(admitted, "metadata", "annotations") == dig(found, "metadata", "annotations")
    assert environments(admitted) == environments(found)
    for field in COMPARED:
        assert dig(admitted, "spec", field) == dig(found, "spec", field)


@pytest.mark.parametrize(("name", "index"), PODS)
def test_recorded_pod_never_changes_when_it_is_admitted_again(name: str, index: int) -> None:
    found = state(name).of("Pod")[index]
    assert admit(found, Options()) == found


@pytest.mark.parametrize(("name", "index"), PODS)
def test_admitted_pod_always_mounts_the_claims_that_were_recorded(name: str, index: int) -> None:
    found = state(name).of("Pod")[index]

    def mounted(pod: Object) -> dict[Json, Json]:
        volumes = as_maps(dig(pod, "spec", "volumes"))
        return {item["name"]: dig(item, "persistentVolumeClaim", "claimName") for item in volumes}

    expected = {key: claim for key, claim in mounted(found).items() if claim is not None}
    assert mounted(as_created(state(name), found)) == expected


def test_comparison_never_skips_a_recorded_pod() -> None:
    assert len(PODS) == 87
