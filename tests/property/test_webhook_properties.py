"""Whatever is asked of a webhook, there is an answer, and nothing is allowed that is refused elsewhere."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from reviewing import MUTATE_POD, MUTATE_SET, PATHS, VALIDATE_SET, patched, response_in, review
from strategies import any_json, manifests

from lws_core import names
from lws_core.admission import Denied, admit
from lws_core.defaulting import apply_defaults
from lws_core.errors import join
from lws_core.options import Options
from lws_core.validation import validate_create, validate_update
from lws_core.values import FrozenMap, Json, as_map, freeze_map, thaw
from lws_runtime.webhook.reviews import respond

OPTIONS = st.builds(Options, gang_scheduling=st.booleans(), exclusive_across_namespaces=st.booleans())
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {
                "name": st.sampled_from(["serve-0", "serve-0-1", "serve-0-3", "serve", ""]),
                "labels": st.dictionaries(
                    st.sampled_from([names.WORKER_INDEX, names.GROUP_INDEX, names.GROUP_KEY, "a/b~c"]),
                    st.sampled_from(["0", "1", "x", ""]),
                ).map(lambda labels: {names.SET_NAME: "serve", **labels}),
                "annotations": st.dictionaries(
                    st.sampled_from([names.SIZE, names.SUBGROUP_SIZE, names.EXCLUSIVE_TOPOLOGY]),
                    st.sampled_from(["4", "2", "rack", ""]),
                ),
            }
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(st.fixed_dictionaries({"name": st.text("ab", max_size=2)}), max_size=3)}
        ),
    }
)


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """A value with a part of it replaced by any JSON at all, or left out."""
    value = json.loads(json.dumps(value))
    parent = value
    while True:
        inner = [child for child in _children(parent) if child]
        if not inner or draw(st.integers(0, 3)) == 0:
            break
        parent = draw(st.sampled_from(inner))
    if not parent:
        return value
    key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
    if draw(st.booleans()):
        del parent[key]
    else:
        parent[key] = thaw(draw(any_json(5)))
    return value


def _children(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


@st.composite
def reviews(draw: st.DrawFn) -> tuple[str, Any]:
    """A path, and a review that was meant for it before something happened to it."""
    path = draw(st.sampled_from(PATHS))
    found = draw(manifests()) if path in (MUTATE_SET, VALIDATE_SET) else draw(PODS)
    operation = draw(st.sampled_from(["CREATE", "UPDATE", "DELETE"]))
    body = review(path, operation=operation, object=thaw(found), oldObject=thaw(draw(manifests())))
    for _ in range(draw(st.integers(0, 3))):
        body = draw(spoiled(body))
    return path, body


@given(asked=reviews(), options=OPTIONS)
def test_reviews_are_always_answered_and_never_allowed_unless_valid(
    asked: tuple[str, Any], options: Options
) -> None:
    path, body = asked
    reply = respond(path, json.dumps(body).encode(), options)
    assert reply.failure is None
    if reply.code != 200:
        assert reply.code == 400
        assert not reply.allowed
        return
    response = response_in(reply)
    assert response["allowed"] == reply.allowed
    asked_for = _frozen(body)["request"]
    operation = as_map(asked_for).get("operation")
    if not response["allowed"] or operation not in ("CREATE", "UPDATE"):
        assert "patch" not in response
        return
    found = as_map(as_map(asked_for).get("object"))
    if path == VALIDATE_SET and operation == "CREATE":
        assert validate_create(found).admitted
    elif path == VALIDATE_SET:
        assert validate_update(found, as_map(asked_for).get("oldObject")).admitted
    elif path == MUTATE_SET:
        assert patched(found, response) == apply_defaults(found)
    elif path == MUTATE_POD and operation == "CREATE":
        assert patched(found, response) == admit(found, options)


def _frozen(body: Any) -> FrozenMap[Json]:
    return freeze_map(json.loads(json.dumps(body)))


@given(body=any_json(30).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_anything_at_all_never_crashes_a_webhook(body: bytes) -> None:
    for path in PATHS:
        reply = respond(path, body, Options())
        assert (reply.code, reply.allowed, reply.failure) == (400, False, None)


@given(found=any_json(30))
def test_any_object_at_all_is_always_judged(found: Json) -> None:
    for path in PATHS:
        body = json.dumps(review(path, object=thaw(found))).encode()
        reply = respond(path, body, Options())
        assert (reply.code, reply.failure) == (200, None)


@settings(max_examples=50)
@given(pod=PODS, options=OPTIONS)
def test_pods_are_always_denied_where_admission_denies_them(pod: dict[str, Any], options: Options) -> None:
    reply = respond(MUTATE_POD, json.dumps(review(MUTATE_POD, object=pod)).encode(), options)
    try:
        admit(_frozen(pod), options)
        denial = None
    except Denied as denied:
        denial = str(denied)
    assert response_in(reply).get("status", {}).get("message") == denial


@given(data=st.data())
def test_sets_are_always_judged_as_validation_judges_them(data: st.DataObject) -> None:
    old = as_map(apply_defaults(data.draw(manifests())))
    found = _frozen(data.draw(spoiled(thaw(old)) | st.just(thaw(old))))
    for operation, verdict in (("CREATE", validate_create(found)), ("UPDATE", validate_update(found, old))):
        asked = review(VALIDATE_SET, operation=operation, object=thaw(found), oldObject=thaw(old))
        response = response_in(respond(VALIDATE_SET, json.dumps(asked).encode(), Options()))
        assert response["allowed"] == verdict.admitted
        assert tuple(response.get("warnings", ())) == verdict.warnings
        if verdict.errors:
            assert response["status"]["message"] == join(verdict.errors)
