"""What an apply leaves behind, against an API server's own words and the simulation's server-side apply."""

from __future__ import annotations

from typing import Any

import pytest

from lws_core.leftovers import leftovers
from lws_core.values import EMPTY, FrozenMap, Json, as_map, dig, freeze_map
from lws_sim.cluster.defaults import complete_pod_spec
from lws_sim.cluster.ownership import apply, fields_of

VOLUME = {"name": "v"}


def template(container: dict[str, Any] | None = None, **spec: Any) -> FrozenMap[Json]:
    main = {"name": "main", "image": "img:1", **(container or {})}
    return freeze_map({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [main], **spec}})


def completed(sent: FrozenMap[Json], **filled_in: Any) -> FrozenMap[Json]:
    """What an API server stores of a template."""
    return sent.with_("spec", complete_pod_spec(as_map(sent["spec"])) | freeze_map(filled_in))


def applied(sent: FrozenMap[Json]) -> FrozenMap[Json]:
    return as_map(dig(fields_of(freeze_map({"spec": {"template": sent}})), "f:spec", "f:template"))


@pytest.mark.parametrize(
    "new",
    [
        template(),
        template({"image": "img:2"}),
        template({"image": "host:5000/img@sha256:0"}),
        template({"name": "other", "image": "img"}),
        template({"imagePullPolicy": "Always"}),
        template({"readinessProbe": {"exec": {"command": ["true"]}}, "ports": [{"containerPort": 80}]}),
        template(terminationGracePeriodSeconds=5, dnsPolicy="None"),
        template(serviceAccountName="another"),
    ],
)
def test_default_that_would_be_filled_in_again_never_is_left_over(new: FrozenMap[Json]) -> None:
    """An edit of a set that was taken over, or the second in a row, costs no write more than it must."""
    probe = {"httpGet": {"port": 80}, "timeoutSeconds": 5}
    ports = [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 90, "protocol": "UDP"}]
    old = template({"readinessProbe": probe, "ports": ports}, hostNetwork=True)
    stored = completed(old)
    if dig(new, "spec", "serviceAccountName"):
        old = template({"readinessProbe": probe}, serviceAccountName="special")
        stored = completed(old, serviceAccount="special")
    assert leftovers(stored, applied(old), new) == ()


@pytest.mark.parametrize(
    ("old", "filled_in", "new", "left"),
    [
        (
            template(serviceAccountName="special"),
            {"serviceAccount": "special"},
            template(),
            "spec.serviceAccount",
        ),
        (
            template(serviceAccount="special"),
            {"serviceAccountName": "special"},
            template(),
            "spec.serviceAccountName",
        ),
        (
            template({"image": "img:latest"}),
            {},
            template({"image": "img:1"}),
            "spec.containers.imagePullPolicy",
        ),
        (template({"image": "img"}), {}, template({"image": "img:1"}), "spec.containers.imagePullPolicy"),
        (
            template(volumes=[VOLUME]),
            {"volumes": [{**VOLUME, "emptyDir": {}}]},
            template(volumes=[{**VOLUME, "persistentVolumeClaim": {"claimName": "m"}}]),
            "spec.volumes.emptyDir",
        ),
    ],
)
def test_field_that_was_filled_in_always_is_left_over_where_it_would_be_another(
    old: FrozenMap[Json], filled_in: dict[str, Any], new: FrozenMap[Json], left: str
) -> None:
    stored = completed(old, **filled_in)
    assert leftovers(stored, applied(old), new) == (left,)
    # Once the stored template has been applied as it is, it is taken back.
    assert leftovers(stored, applied(stored), new) == ()


def test_field_of_nobody_always_is_what_a_server_side_apply_leaves() -> None:
    """By the simulation's own apply: what is named stays, unless the template was applied as it is before."""
    old, new = template(serviceAccountName="special"), template({"image": "img:2"})
    stored = completed(old, serviceAccount="special")
    identity = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}}

    def sent(one: FrozenMap[Json]) -> FrozenMap[Json]:
        return freeze_map({**identity, "spec": {"template": one}})

    def after(*writes: FrozenMap[Json]) -> Json:
        obj = apply(sent(EMPTY), sent(old), "lws")
        obj = obj.with_("spec", freeze_map({"template": stored}))
        for one in writes:
            obj = apply(obj, sent(one), "lws")
        return dig(obj, "spec", "template", "spec")

    assert "serviceAccount" in as_map(after(new))
    assert "serviceAccount" not in as_map(after(stored, new))


def test_items_of_lists_always_are_told_apart_by_their_keys() -> None:
    old = template({"env": [{"name": "A", "value": "1"}]}, finalizers=["x"])
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    stored = template({"env": env}, tolerations=[{"key": "k"}], hostAliases=[{"ip": "1"}], finalizers=["x"])
    gone = template({"env": [{"name": "C"}]}, hostAliases=[{"ip": "2"}])
    assert leftovers(stored, applied(old), gone) == (
        "spec.containers.env",
        "spec.tolerations",
        "spec.hostAliases",
    )
    kept = template({"env": env}, tolerations=[{"key": "k"}], hostAliases=[{"ip": "1"}])
    assert leftovers(stored, applied(old), kept) == ()


@pytest.mark.parametrize("key", ["k:", "k:5", "k:{", 'k:{"other":{}}', "k:" + "[" * 100_000, "?"])
def test_fields_that_make_no_sense_never_break_the_look(key: str) -> None:
    told = freeze_map({"f:spec": {"f:containers": {key: {}}}})
    named = template({"name": "other"})
    assert leftovers(template(), told, named) == ("spec.containers",)
