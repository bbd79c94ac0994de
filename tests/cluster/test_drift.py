"""What others do to a set's objects, and what stands in its way: healed, or told in the server's words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import pytest
from audit import Entry
from client import JSON_PATCH, Manifest, Refused, eventually
from conftest import NewOperator, StartKubelet
from kubelet import Kubelet, Node
from operator_process import CONFIGURATIONS, Operator
from sandbox import Sandbox, conditions, is_terminating
from sets import (
    created,
    deletes,
    key_of,
    label,
    lws,
    owner_uid,
    set_image,
    stays,
    strategy,
    tries,
    uid,
    wait_event,
)

from lws_core import names

REGISTRATION: Final = "admissionregistration.k8s.io/v1"
WRONG_VOLUME: Final = {
    "containers": [
        {"name": "main", "image": "img:1", "volumeMounts": [{"name": "none", "mountPath": "/data"}]}
    ]
}


def healed(sandbox: Sandbox, text: str) -> None:
    wait_event(sandbox, "DriftHealed", text)


def uids(sandbox: Sandbox) -> dict[str, str]:
    return {name: uid(pod) for name, pod in sandbox.pods().items()}


def stalled(sandbox: Sandbox, name: str, reason: str, timeout_s: float = 90.0) -> str:
    """The words of the condition Stalled once it is true for a reason; the event says the same."""
    found: Manifest | None = sandbox.wait(
        f"{name} is Stalled for {reason}", lambda: _stalled(sandbox, name, reason), timeout_s
    )
    assert found is not None
    message = str(found["message"])
    wait_event(sandbox, reason, message[:60])  # the event tells how it began
    return message


def _stalled(sandbox: Sandbox, name: str, reason: str) -> Manifest | None:
    condition = conditions(sandbox.must_get(names.KIND, name)).get("Stalled", {})
    return condition if (condition.get("status"), condition.get("reason")) == ("True", reason) else None


def released(sandbox: Sandbox, name: str, timeout_s: float = 90.0) -> None:
    """Return once the set is Stalled no more."""
    sandbox.wait_condition(name, "Stalled", "False", "NotStalled", timeout_s=timeout_s)


# -- drift


def test_scaled_worker_stateful_set_is_set_back(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=2, size=3))
    sandbox.wait_ready("serve", 2)
    before = uids(sandbox)

    sandbox.scale("StatefulSet", "serve-1", 4)

    healed(sandbox, "StatefulSet serve-1 was scaled from outside: set back to 2 workers")
    sandbox.wait("the members are as before", lambda: uids(sandbox) == before)
    stays(lambda: not deletes(sandbox))
    sandbox.wait_ready("serve", 2)


def test_group_that_lost_a_member_to_scaling_must_come_back_whole(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=2, size=3))
    sandbox.wait_ready("serve", 2)
    before = uids(sandbox)

    sandbox.scale("StatefulSet", "serve-1", 1)

    sandbox.wait(
        "group 1 is recreated", lambda: uids(sandbox).get("serve-1") not in (None, before["serve-1"])
    )
    sandbox.wait_ready("serve", 2)
    assert sandbox.must_get("StatefulSet", "serve-1")["spec"]["replicas"] == 2
    assert [one.name for one in deletes(sandbox)] == ["serve-1"]


@pytest.mark.parametrize("name", ["serve", "serve-1"])
def test_stateful_set_that_was_stripped_of_its_label_must_get_it_back(
    sandbox: Sandbox, kubelet: Kubelet, impatient: Operator, name: str
) -> None:
    """To every watch of the objects of sets it seems to be gone."""
    sandbox.apply(lws(replicas=2, size=2))
    sandbox.wait_ready("serve", 2)
    before = uids(sandbox)
    owner = uid(sandbox.must_get("StatefulSet", name))

    sandbox.patch("StatefulSet", name, {"metadata": {"labels": {names.SET_NAME: None}}})

    sandbox.wait(
        "the label is back", lambda: label(sandbox.must_get("StatefulSet", name), names.SET_NAME) == "serve"
    )
    assert uid(sandbox.must_get("StatefulSet", name)) == owner
    sandbox.patch(names.KIND, "serve", {"spec": {"replicas": 3}})
    sandbox.wait_ready("serve", 3)
    assert uids(sandbox).items() >= before.items()


def test_deleted_service_must_come_back(sandbox: Sandbox, kubelet: Kubelet, operator: Operator) -> None:
    sandbox.apply(lws(replicas=1))
    sandbox.wait_ready("serve", 1)

    sandbox.delete("Service", "serve")

    healed(sandbox, "Service serve was deleted from outside: created again")
    assert owner_uid(sandbox.must_get("Service", "serve")) == uid(sandbox.must_get(names.KIND, "serve"))


def test_deleted_service_of_a_group_must_come_back(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=2, networkConfig={"subdomainPolicy": "UniquePerReplica"}))
    sandbox.wait_ready("serve", 2)

    sandbox.delete("Service", "serve-1")

    healed(sandbox, "Service serve-1 was deleted from outside: created again")
    assert owner_uid(sandbox.must_get("Service", "serve-1")) == uid(sandbox.must_get("Pod", "serve-1"))
    assert len(sandbox.events("DriftHealed")) == 1


def test_deleted_revision_must_come_back_and_moves_nothing(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=2))
    found = sandbox.wait_ready("serve", 2)
    key, before = key_of(sandbox, "serve"), uids(sandbox)
    (revision,) = [one for one in sandbox.all("ControllerRevision") if owner_uid(one) == uid(found)]

    sandbox.delete("ControllerRevision", revision["metadata"]["name"])

    wait_event(sandbox, "CreatingRevision", f"Creating missing revision with key {key} for existing")
    own = [one for one in sandbox.all("ControllerRevision") if owner_uid(one) == uid(found)]
    assert [(label(one, names.REVISION_KEY), one["data"]) for one in own] == [(key, revision["data"])]
    stays(lambda: uids(sandbox) == before)
    assert key_of(sandbox, "serve") == key


def leader_writes(sandbox: Sandbox, since: int) -> list[Entry]:
    """The operator's writes to the leader StatefulSet that took effect: one on an older version fails."""
    written = sandbox.writes("operator", since, resources=("statefulsets",))
    return [one for one in written if one.name == "serve" and one.code < 300]


def test_edited_partition_is_set_back(sandbox: Sandbox, kubelet: Kubelet, operator: Operator) -> None:
    sandbox.apply(lws(replicas=3))
    sandbox.wait_ready("serve", 3)
    before = uids(sandbox)

    edit = {"spec": {"replicas": 4, "updateStrategy": {"rollingUpdate": {"partition": 2}}}}
    sandbox.patch("StatefulSet", "serve", edit)

    healed(sandbox, "replicas and partition of StatefulSet serve were changed from outside to 4 and 2")

    def numbers() -> tuple[int, int]:
        spec = sandbox.must_get("StatefulSet", "serve")["spec"]
        return spec["replicas"], spec["updateStrategy"]["rollingUpdate"]["partition"]

    sandbox.wait("both are set back", lambda: numbers() == (3, 0))  # the event may come first
    sandbox.wait("the fourth group is gone", lambda: uids(sandbox) == before)
    assert numbers() == (3, 0)


def edited_template(partition: int) -> list[dict[str, Any]]:
    return [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "foreign:1"},
        {"op": "replace", "path": "/spec/updateStrategy/rollingUpdate/partition", "value": partition},
    ]


def test_edited_leader_template_must_be_healed_in_one_write_that_ends_no_leader(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    """The edit itself is held back by its own partition: what ends a leader here would be the healing."""
    sandbox.apply(lws(replicas=3))
    sandbox.wait_ready("serve", 3)
    before, template = uids(sandbox), sandbox.must_get("StatefulSet", "serve")["spec"]["template"]
    mark = sandbox.plane.audit.mark()

    sandbox.patch("StatefulSet", "serve", edited_template(partition=3), JSON_PATCH)

    healed(sandbox, "the pod template of StatefulSet serve was changed from outside: set back")

    def at_rest() -> bool:
        spec = sandbox.must_get("StatefulSet", "serve")["spec"]
        return bool(
            spec["template"] == template and spec["updateStrategy"]["rollingUpdate"]["partition"] == 0
        )

    sandbox.wait("the template is ours and the partition down", at_rest)
    stays(lambda: at_rest() and uids(sandbox) == before)
    applied = [one for one in leader_writes(sandbox, mark) if one.parameters.get("force") == "true"]
    healing, *after = [one.body["spec"] for one in applied]
    assert healing["template"]["spec"]["containers"][0]["image"] == "img:1"
    assert healing["updateStrategy"]["rollingUpdate"]["partition"] == 3
    assert [one["updateStrategy"]["rollingUpdate"]["partition"] for one in after] == [0]
    assert created(sandbox, mark) == []


def test_edited_leader_template_never_takes_more_than_the_stateful_set_controller_has_begun(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws(replicas=3))
    sandbox.wait_ready("serve", 3)
    before = uids(sandbox)

    sandbox.patch("StatefulSet", "serve", edited_template(partition=0), JSON_PATCH)

    healed(sandbox, "the pod template of StatefulSet serve was changed from outside: set back")

    def images() -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in sandbox.pods().values()}

    def at_rest() -> bool:
        spec = sandbox.must_get("StatefulSet", "serve")["spec"]
        return images() == {"img:1"} and spec["updateStrategy"]["rollingUpdate"]["partition"] == 0

    sandbox.wait("all is as it was", at_rest)
    sandbox.wait_quiet()  # the StatefulSet controller may have begun with the edit only now
    sandbox.wait("all is as it was", at_rest)
    sandbox.wait_ready("serve", 3)
    after = uids(sandbox)
    assert {name for name in before if before[name] != after[name]} <= {"serve-2", "serve-2-1"}


@pytest.fixture
def impatient(new_operator: NewOperator) -> Operator:
    """An operator that waits for 2 s where it waits for half a minute by default."""
    patience = {"stuckAfter": "2s", "foreignObjectInterval": "2s"}
    operator = new_operator("impatient", config={"lws": patience}).start()
    operator.register_webhooks()
    return operator


# -- what is not ours


def test_foreign_objects_are_never_touched_and_are_healed_once_they_are_gone(
    sandbox: Sandbox, kubelet: Kubelet, impatient: Operator
) -> None:
    plain = {"spec": {"clusterIP": "None", "selector": {"app": "foreign"}}}
    for name in ("by-service", "by-group-service-1"):
        sandbox.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, **plain})
    for name in ("by-leaders", "by-workers-0"):
        pod = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "foreign:1"}]},
        }
        spec = {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": pod,
        }
        metadata = {"name": name}
        sandbox.create({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})
    foreign = [
        ("Service", "by-service", "by-service"),
        ("Service", "by-group-service-1", "by-group-service"),
        ("StatefulSet", "by-leaders", "by-leaders"),
        ("StatefulSet", "by-workers-0", "by-workers"),
    ]
    before = {name: sandbox.must_get(kind, name) for kind, name, _ in foreign}

    for _, _, name in foreign:
        unique: dict[str, Any] = (
            {"networkConfig": {"subdomainPolicy": "UniquePerReplica"}} if "group" in name else {}
        )
        sandbox.apply(lws(name, replicas=2, **unique))
    for kind, needed, name in foreign:
        words = f"{kind} {needed} does not belong to this set and is left alone, but its name is needed"
        assert stalled(sandbox, name, "ForeignObject") == words
        found = sandbox.must_get(kind, needed)
        assert (uid(found), found["spec"]) == (uid(before[needed]), before[needed]["spec"])
        assert found["metadata"].get("labels") == before[needed]["metadata"].get("labels")
    theirs = {(f"{kind.lower()}s", needed) for kind, needed, _ in foreign}
    written = sandbox.writes("operator", resources=("statefulsets", "services"))
    assert [one for one in written if (one.resource, one.name) in theirs and one.code < 400] == []
    sandbox.wait("the group beside is ready", lambda: "by-workers-1-1" in sandbox.pods("by-workers"))

    for kind, needed, _ in foreign:
        sandbox.delete(kind, needed)
    for _, _, name in foreign:
        sandbox.wait_ready(name, 2)  # it looks once in a while whether they are gone
        released(sandbox, name)


# -- what cannot be


@pytest.fixture
def past_the_webhook(sandbox: Sandbox, operator: Operator) -> Iterator[None]:
    """Validation is not asked for a while."""
    kind = "ValidatingWebhookConfiguration"
    sandbox.client.delete(REGISTRATION, kind, None, CONFIGURATIONS[kind])
    yield
    operator.register_webhooks()


def test_set_that_makes_no_sense_is_reported_and_holds_up_no_other(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator, past_the_webhook: None
) -> None:
    bad = lws("bad", budget={"maxUnavailable": "many"})
    eventually("it is stored", lambda: _is_stored(sandbox, bad), 60)
    sandbox.apply(lws("good"))
    sandbox.wait_ready("good", 2)

    told = stalled(sandbox, "bad", "InvalidSpec")

    assert "spec.rolloutStrategy.rollingUpdateConfiguration.maxUnavailable" in told
    assert "many" in told
    stays(lambda: not sandbox.pods("bad"))
    assert [one["metadata"]["name"] for one in sandbox.all("StatefulSet")] == ["good", "good-0", "good-1"]
    sandbox.patch(names.KIND, "bad", strategy(maxUnavailable=1))
    sandbox.wait_ready("bad", 2)
    released(sandbox, "bad")


def test_running_set_that_comes_to_make_no_sense_is_left_as_it_is(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator, past_the_webhook: None
) -> None:
    sandbox.apply(lws())
    sandbox.wait_ready("serve", 2)
    before = uids(sandbox)

    nonsense = {"spec": {"leaderWorkerTemplate": {"size": 0}}}
    eventually("it is stored", lambda: sandbox.patch(names.KIND, "serve", nonsense), 60)

    assert "size must be equal or greater than 1" in stalled(sandbox, "serve", "InvalidSpec")
    stays(lambda: uids(sandbox) == before)
    sandbox.patch(names.KIND, "serve", {"spec": {"leaderWorkerTemplate": {"size": 2}}})
    released(sandbox, "serve")
    stays(lambda: uids(sandbox) == before)


def _is_stored(sandbox: Sandbox, manifest: Manifest) -> bool:
    try:
        sandbox.apply(manifest)
    except Refused:
        return False
    return True


def backs_off(attempts: list[Entry]) -> bool:
    """Whether something was tried at least three times, after pauses of at least 1 s, 2 s and so on: a busy
    machine makes any of them longer."""
    pauses = [later.at_s - earlier.at_s for earlier, later in pairwise(attempts)]
    assert all(pause > 0.95 * 2**count for count, pause in enumerate(pauses)), pauses
    return len(pauses) >= 2


def test_set_with_a_template_that_the_server_refuses_is_told_its_words_and_holds_up_no_other(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    words = 'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "none"'
    good_leader = {"leaderTemplate": {"spec": {"containers": [{"name": "main", "image": "img:1"}]}}}
    sandbox.apply(lws("bad", pod=WRONG_VOLUME))
    sandbox.apply(lws("bad-workers", pod=WRONG_VOLUME, template=good_leader))
    sandbox.apply(lws("good"))
    sandbox.wait_ready("good", 2)

    assert words in stalled(sandbox, "bad", "APIRefused")
    assert words in stalled(sandbox, "bad-workers", "APIRefused")
    wait_event(sandbox, "FailedCreate", "Failed to create leader statefulset bad: ")
    wait_event(sandbox, "FailedCreate", " for leader pods bad-workers-0, bad-workers-1: ")
    sandbox.wait("it backs off", lambda: backs_off(tries(sandbox, "bad")))
    sandbox.wait("it backs off", lambda: backs_off(tries(sandbox, "bad-workers-0")))
    assert len([one for one in sandbox.all("ControllerRevision") if label(one, names.SET_NAME) == "bad"]) == 1

    for name in ("bad", "bad-workers"):
        set_image(sandbox, name, "img:2")
        template = {"containers": [{"name": "main", "image": "img:2"}]}
        sandbox.patch(
            names.KIND, name, {"spec": {"leaderWorkerTemplate": {"workerTemplate": {"spec": template}}}}
        )
        sandbox.wait_ready(name, 2)
        released(sandbox, name)


def test_update_that_the_server_refuses_never_touches_what_runs(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    sandbox.apply(lws())
    sandbox.wait_ready("serve", 2)
    before, key = uids(sandbox), key_of(sandbox, "serve")

    template = {"workerTemplate": {"spec": WRONG_VOLUME}}
    sandbox.patch(names.KIND, "serve", {"spec": {"leaderWorkerTemplate": template}})

    assert 'Not found: "none"' in stalled(sandbox, "serve", "APIRefused")
    wait_event(sandbox, "FailedUpdate", "Failed to update leader statefulset serve: ")
    stays(lambda: uids(sandbox) == before)
    assert key_of(sandbox, "serve") == key
    kubelet.restart_container("serve-1-1")  # its record cannot be written, yet the group comes back
    sandbox.wait(
        "group 1 is recreated", lambda: uids(sandbox).get("serve-1") not in (None, before["serve-1"])
    )
    fixed = {"workerTemplate": {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}}
    sandbox.patch(names.KIND, "serve", {"spec": {"leaderWorkerTemplate": fixed}})
    sandbox.wait_ready("serve", 2)
    released(sandbox, "serve")


def test_set_over_its_quota_is_told_so_and_goes_on_once_there_is_more(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    kind = "count/statefulsets.apps"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {kind: "2"}},
    }
    sandbox.create(quota)  # no controller keeps its status here
    sandbox.patch(
        "ResourceQuota", "few", {"status": {"hard": {kind: "2"}, "used": {kind: "0"}}}, part="status"
    )
    sandbox.apply(lws(replicas=2))

    told = stalled(sandbox, "serve", "APIRefused")

    assert (
        "exceeded quota: few, requested: count/statefulsets.apps=1, used: count/statefulsets.apps=2" in told
    )
    sandbox.patch("ResourceQuota", "few", {"status": {"hard": {kind: "9"}}}, part="status")
    sandbox.wait_ready("serve", 2)
    released(sandbox, "serve")


@pytest.fixture
def policy(sandbox: Sandbox) -> Iterator[str]:
    """No StatefulSet of a group may be made here whose set is called `forbidden`."""
    name, version = sandbox.name, REGISTRATION
    here = {"matchLabels": {"kubernetes.io/metadata.name": sandbox.name}}
    rules = [
        {
            "apiGroups": ["apps"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["statefulsets"],
        }
    ]
    check = {"expression": "!object.metadata.name.startsWith('forbidden-')", "message": "not on this floor"}
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [check], "failurePolicy": "Fail"}
    bound = {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}}
    kinds = {"ValidatingAdmissionPolicy": spec, "ValidatingAdmissionPolicyBinding": bound}
    for kind, content in kinds.items():
        sandbox.client.create(
            {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": content}
        )
    probe = lws("forbidden-probe")

    def is_in_force() -> bool:
        spec = {
            "serviceName": "x",
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": probe["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"],
            },
        }
        metadata = {"name": "forbidden-probe", "namespace": sandbox.name}
        try:
            sandbox.client.create(
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec},
                dryRun="All",
            )
        except Refused as refused:
            return "not on this floor" in refused.message
        return False

    eventually("the policy is in force", is_in_force, 60)
    yield name
    for kind in reversed(kinds):
        sandbox.client.delete(version, kind, None, name)


def test_set_that_a_policy_forbids_is_told_its_words_and_holds_up_no_other(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator, policy: str
) -> None:
    sandbox.apply(lws("forbidden"))
    sandbox.apply(lws("allowed"))
    sandbox.wait_ready("allowed", 2)

    told = stalled(sandbox, "forbidden", "APIRefused")

    assert "not on this floor" in told
    assert policy in told
    sandbox.wait("it backs off", lambda: backs_off(tries(sandbox, "forbidden-0")))
    sandbox.client.delete(REGISTRATION, "ValidatingAdmissionPolicyBinding", None, policy)
    sandbox.wait_ready("forbidden", 2)
    released(sandbox, "forbidden")


# -- groups that fail again and again


def metric(operator: Operator, metric_name: str, **labels: str) -> float:
    """The value of a metric, 0 where it is not told."""
    code, text = operator.get("/metrics", metrics=True)
    assert code == 200, text
    for line in text.splitlines():
        told = line.startswith(f"{metric_name}{{")
        if told and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_group_that_fails_again_must_wait_and_the_set_says_so(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator
) -> None:
    here = {"namespace": sandbox.name, "name": "serve"}
    sandbox.apply(lws())
    sandbox.wait_ready("serve", 2)
    kubelet.restart_container("serve-1-1")
    sandbox.wait("it is recreated once", lambda: len(deletes(sandbox)) == 1)
    sandbox.wait("both pods are there again", lambda: len(created(sandbox)) == 6)
    sandbox.wait_ready("serve", 2)

    mark = sandbox.plane.audit.mark()
    kubelet.restart_container("serve-1")
    told = stalled(sandbox, "serve", "RecreationBackOff")
    assert told == "pod serve-1 restarted; its group was recreated 1 times in a row and waits before the next"
    assert metric(operator, "lws_group_recreations_total", cause="Restarted", **here) == 1
    assert metric(operator, "lws_stalled", reason="RecreationBackOff", **here) == 1
    sandbox.wait("it is recreated again", lambda: len(deletes(sandbox)) == 2, 60)

    failed = sandbox.writes("kubelet", mark, resources=("pods",))[0]
    assert 9 < deletes(sandbox)[1].at_s - failed.at_s < 16
    sandbox.wait_ready("serve", 2)
    released(sandbox, "serve")
    why = {"reason": "RecreationBackOff", **here}
    sandbox.wait("no metric tells of it", lambda: metric(operator, "lws_stalled", **why) == 0)
    assert metric(operator, "lws_group_recreations_total", cause="Restarted", **here) == 2


def test_group_at_the_limit_of_recreations_never_comes_back_by_itself(
    sandbox: Sandbox, kubelet: Kubelet, new_operator: NewOperator
) -> None:
    operator = new_operator("limited", config={"lws": {"recreationLimit": 1}}).start()
    operator.register_webhooks()
    sandbox.apply(lws())
    sandbox.wait_ready("serve", 2)
    kubelet.restart_container("serve-1-1")
    sandbox.wait("both pods are there again", lambda: len(created(sandbox)) == 6)
    sandbox.wait_ready("serve", 2)

    kubelet.restart_container("serve-1")
    told = stalled(sandbox, "serve", "RecreationLimit")

    assert told == "pod serve-1 restarted; its group was recreated 1 times in a row and stays failed"
    here = {"namespace": sandbox.name, "name": "serve"}
    assert metric(operator, "lws_stalled", reason="RecreationLimit", **here) == 1
    stays(lambda: len(deletes(sandbox)) == 1, 1.0)
    operator.restart()
    assert stalled(sandbox, "serve", "RecreationLimit") == told
    stays(lambda: len(deletes(sandbox)) == 1, 1.0)
    sandbox.delete("Pod", "serve-1")  # somebody has looked at it
    sandbox.wait_ready("serve", 2)
    released(sandbox, "serve")


# -- a node is lost


def test_leader_on_a_lost_node_is_reported_and_never_deleted_by_force(
    sandbox: Sandbox, start_kubelet: StartKubelet, impatient: Operator
) -> None:
    lost = f"{sandbox.name}-lost"
    kubelet = start_kubelet(sandbox, [Node(lost), Node(f"{sandbox.name}-other")])
    sandbox.apply(lws(replicas=1, size=2, pod={"terminationGracePeriodSeconds": 1}))
    sandbox.wait_ready("serve", 1)
    before = sandbox.pods()
    on = {name: pod["spec"]["nodeName"] for name, pod in before.items()}
    assert on == {"serve-0": lost, "serve-0-1": f"{sandbox.name}-other"}

    kubelet.lose_node(lost)
    sandbox.delete("Pod", "serve-0")  # as the taint manager does
    told = stalled(sandbox, "serve", "NodeLost")

    assert told == (
        f"leader pod serve-0 is terminating on node {lost}, which is lost: its group comes back once the "
        "node does, is deleted, or is tainted node.kubernetes.io/out-of-service"
    )
    sandbox.wait("the worker is released", lambda: "serve-0-1" not in sandbox.pods())
    assert [(one.resource, one.name) for one in deletes(sandbox)] == [("statefulsets", "serve-0")]
    assert all("gracePeriodSeconds" not in one.body for one in deletes(sandbox))
    found = sandbox.must_get("Pod", "serve-0")
    assert uid(found) == uid(before["serve-0"])
    assert is_terminating(found)
    assert sandbox.must_get(names.KIND, "serve")["status"]["readyReplicas"] == 0

    kubelet.restore_node(lost)
    sandbox.wait(
        "the leader has ended", lambda: uids(sandbox).get("serve-0") not in (None, uid(before["serve-0"]))
    )
    sandbox.wait_ready("serve", 1)
    released(sandbox, "serve")
