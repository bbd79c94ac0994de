"""A revision's key depends on what a set means, never on how it is written down."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import manifests

from lws_core import codec
from lws_core.defaulting import apply_defaults
from lws_core.lineage import trace
from lws_core.quantity import canonical_quantity
from lws_core.revision import meaning, new_key, normalised, overlay, record, recorded_meaning
from lws_core.values import FrozenMap, Json, as_map, canonical, dig, freeze_map, thaw

AMOUNTS = ("limits", "requests")
EMPTIES: tuple[tuple[str, Any], ...] = (
    ("creationTimestamp", None), ("resources", {}), ("env", []), ("unknownList", []), ("unknownMap", {}),
    ("unknownText", ""), ("unknownNull", None), ("status", {}), ("stdin", False), ("hostPort", 0),
)  # fmt: skip


def key(manifest: FrozenMap[Json]) -> str:
    return new_key(meaning(codec.decode(manifest)))


@st.composite
def rewritten(draw: st.DrawFn, value: Any, inside: str = "") -> Any:
    """The same value in another writer's hand: order of keys, forms of amounts, empty fields left in."""
    if isinstance(value, list):
        return [draw(rewritten(item)) for item in value]
    if not isinstance(value, dict):
        return value
    if inside in AMOUNTS:
        return {name: draw(amounts(amount)) for name, amount in value.items()}
    fields = {name: draw(rewritten(item, name)) for name, item in value.items()}
    if inside not in ("labels", "annotations", "matchLabels", "nodeSelector", "emptyDir"):
        for name, empty in draw(st.lists(st.sampled_from(EMPTIES), max_size=2)):
            fields.setdefault(name, empty)
    return {name: fields[name] for name in draw(st.permutations(list(fields)))}


@st.composite
def amounts(draw: st.DrawFn, amount: Any) -> Any:
    same = {"1": ["1000m", 1], "1Gi": ["1024Mi"], "500m": ["0.5"], "1k": ["1e3", "1000"], "2": [2, "2000m"]}
    plain = canonical_quantity(amount)
    return draw(st.sampled_from([amount, plain, *same.get(plain, [])]))


@settings(max_examples=40)
@given(manifests(), st.data())
def test_key_never_depends_on_how_the_templates_are_written(
    manifest: FrozenMap[Json], data: st.DataObject
) -> None:
    spec = as_map(manifest["spec"])
    template = as_map(spec["leaderWorkerTemplate"])
    other = thaw(template)
    for field in ("leaderTemplate", "workerTemplate"):
        if field in other:
            other[field] = data.draw(rewritten(other[field]))
    changed = spec.with_("leaderWorkerTemplate", freeze_map(other))
    assert key(manifest.with_("spec", changed)) == key(manifest)


@settings(max_examples=40)
@given(manifests())
def test_key_never_depends_on_whether_defaults_are_spelled_out(manifest: FrozenMap[Json]) -> None:
    assert key(apply_defaults(manifest)) == key(manifest)


@settings(max_examples=40)
@given(manifests())
def test_set_always_means_the_same_after_it_was_written_out_and_read_again(manifest: FrozenMap[Json]) -> None:
    lws = codec.decode(manifest)
    assert meaning(codec.decode(codec.encode(lws))) == meaning(lws)


@settings(max_examples=40)
@given(manifests())
def test_record_always_means_the_set_that_it_was_made_from(manifest: FrozenMap[Json]) -> None:
    lws = codec.decode(manifest)
    assert recorded_meaning(lws, record(lws)) == meaning(lws)
    assert overlay(lws, record(lws)) == lws


@settings(max_examples=40)
@given(manifests(), manifests())
def test_overlay_always_means_the_record_whatever_the_set_says_now(
    one: FrozenMap[Json], other: FrozenMap[Json]
) -> None:
    now, then = codec.decode(one), codec.decode(other)
    back = overlay(now, record(then))
    assert meaning(back) == meaning(then)
    assert (back.spec.replicas, back.spec.rollout_strategy) == (now.spec.replicas, now.spec.rollout_strategy)


@settings(max_examples=40)
@given(manifests())
def test_normal_form_never_changes_when_it_is_normalised_again(manifest: FrozenMap[Json]) -> None:
    plain = normalised(record(codec.decode(manifest)))
    assert canonical(normalised(plain)) == canonical(plain)


@settings(max_examples=40)
@given(manifests(), st.sampled_from(("size", "image")))
def test_key_always_changes_with_what_pods_are_made_from(manifest: FrozenMap[Json], what: str) -> None:
    spec = thaw(manifest["spec"])
    template = spec["leaderWorkerTemplate"]
    if what == "size":
        template["size"] = template.get("size", 1) + 1
    else:
        template["workerTemplate"]["spec"]["containers"][0]["image"] = "another"
    assert key(manifest.with_("spec", freeze_map(spec))) != key(manifest)


@settings(max_examples=40)
@given(manifests())
def test_new_set_always_gets_the_key_of_its_meaning(manifest: FrozenMap[Json]) -> None:
    lws = codec.decode(manifest)
    lineage = trace(lws, None, ())
    assert lineage.key == key(manifest)
    assert dig(lineage.create, "data") == record(lws)
