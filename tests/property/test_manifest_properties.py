"""What holds for every manifest: nothing crashes, defaults settle, a set survives the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import any_json, broken_manifests, manifests

from lws_core.codec import decode, decode_lenient, encode
from lws_core.defaulting import apply_defaults, webhook_defaults
from lws_core.errors import InvalidManifest, join
from lws_core.structural import check, fill_defaults
from lws_core.validation import validate_create, validate_update
from lws_core.values import FrozenMap, Json
from lws_runtime.schema_data import manifest_schema


@given(any_json() | broken_manifests(), any_json() | broken_manifests())
def test_validation_never_crashes_on_any_json(manifest: Json, old: Json) -> None:
    for verdict in (validate_create(manifest), validate_update(manifest, old)):
        assert all(str(error) for error in verdict.errors)
        assert verdict.admitted == (not verdict.errors)


@given(any_json() | broken_manifests())
def test_decoding_always_gives_a_set_or_every_fault(manifest: Json) -> None:
    lws, faults = decode_lenient(manifest)
    if not faults:
        assert decode(manifest) == lws
        return
    with pytest.raises(InvalidManifest) as caught:
        decode(manifest)
    assert caught.value.errors == faults
    assert str(caught.value) == join(faults)


@given(any_json() | broken_manifests())
def test_structural_check_never_crashes_on_any_json(manifest: Json) -> None:
    for fault in check(manifest, manifest_schema()):
        assert str(fault)


@given(broken_manifests() | manifests())
def test_defaults_always_settle_at_once(manifest: FrozenMap[Json]) -> None:
    once = apply_defaults(manifest)
    assert apply_defaults(once) == once
    assert webhook_defaults(once) is once
    full = fill_defaults(manifest, manifest_schema())
    assert fill_defaults(full, manifest_schema()) == full


@given(manifests())
def test_defaults_never_change_pod_templates_and_claims(manifest: FrozenMap[Json]) -> None:
    before, after = manifest["spec"], apply_defaults(manifest)["spec"]
    assert isinstance(before, FrozenMap)
    assert isinstance(after, FrozenMap)
    old, new = before["leaderWorkerTemplate"], after["leaderWorkerTemplate"]
    assert isinstance(old, FrozenMap)
    assert isinstance(new, FrozenMap)
    for field in ("leaderTemplate", "workerTemplate", "volumeClaimTemplates"):
        assert old.get(field) is new.get(field)


@given(manifests())
def test_valid_sets_are_always_admitted_without_a_warning(manifest: FrozenMap[Json]) -> None:
    assert validate_create(manifest).errors == ()
    assert check(webhook_defaults(manifest), manifest_schema()) == ()
    assert validate_update(manifest, manifest).errors == ()
    assert validate_update(manifest, manifest).warnings == ()


@given(manifests())
def test_sets_always_survive_the_wire(manifest: FrozenMap[Json]) -> None:
    lws = decode(manifest)
    assert decode(encode(lws)) == lws
    assert encode(decode(encode(lws))) == encode(lws)
    assert validate_create(encode(lws)).admitted
    assert check(encode(lws), manifest_schema()) == ()


@given(manifests())
def test_encoded_sets_always_mean_what_defaults_say(manifest: FrozenMap[Json]) -> None:
    encoded, defaulted = encode(decode(manifest)), apply_defaults(manifest)
    assert encoded["spec"] == defaulted["spec"]
