"""What a real API server refuses: credentials, writes for several groups, writes into a dying namespace."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import rights
import yaml
from audit import Entry
from client import Client, Manifest, Refused, eventually
from conftest import NewOperator, StartKubelet
from control_plane import ControlPlane, Setup
from kubelet import Kubelet
from operator_process import Operator
from sandbox import Sandbox, conditions
from sets import lws, set_image, tries, wait_event
from test_runtime import account, grant_in

from lws_core import names

GATHERED_S: Final = 0.9  # a second, but that an answer is heard later than it is logged
LASTS_S: Final = 8.0  # and a few times as long as the operator takes to start
PATIENT: Final = {"leaderElect": True, "leaseDuration": "9s", "renewDeadline": "6s", "retryPeriod": "500ms"}
OFF: Final = {"ENABLE_WEBHOOKS": "false"}


@pytest.fixture(scope="module")
def trusting(
    programs: dict[str, Path], crd: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A control plane that knows users by client certificates too."""
    folder = tmp_path_factory.mktemp("trusting")
    flags = (f"--client-ca-file={folder / 'ca.crt'}",)
    with ControlPlane(folder, programs, Setup(crds=(crd,), server_flags=flags)) as plane:
        rights.grant(plane)
        yield plane


def with_user(operator: Operator, user: Manifest) -> None:
    """Let it prove who it is by something else."""
    path = operator.folder / "kubeconfig"
    config = yaml.safe_load(path.read_text())
    config["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(config))


def with_certificate(operator: Operator, lasts_s: float) -> None:
    """Let it prove who it is by a client certificate that lasts so long from now on."""
    operator.plane.authority.issue_client(operator.folder, "operator", lasts_s)
    with_user(operator, {"client-certificate": "operator.crt", "client-key": "operator.key"})


def test_client_certificate_that_has_expired_must_end_it_with_1_and_one_line(trusting: ControlPlane) -> None:
    operator = Operator(trusting, "expired", environment=OFF)
    with_certificate(operator, -60.0)
    process = operator.launch()
    assert process.wait(90) == 1
    (line,) = operator.tail().splitlines()
    assert re.match(r"error: kubeconfig .*: not authorised: 401 Unauthorized", line)


def test_client_certificate_that_expires_meanwhile_must_cost_the_lease_until_there_is_a_new_one(
    trusting: ControlPlane,
) -> None:
    operator = Operator(trusting, "expiring", config={"leaderElection": PATIENT}, environment=OFF)
    with_certificate(operator, 600.0)
    began_s = time.monotonic()
    operator.start()
    lasts_s = LASTS_S + 4 * (time.monotonic() - began_s)
    operator.stop()
    with_certificate(operator, lasts_s)
    began_s = time.monotonic()
    try:
        process = operator.start().process
        assert process is not None
        assert process.wait(lasts_s + 60) == 1
        assert time.monotonic() - began_s > lasts_s - 1  # as long as it lasted, all was well
        log = operator.tail(10**6)
        reason = "cannot read the lease b8b2488c.x-k8s.io: Unauthorized"
        assert log.count(reason) == 2  # once as it began, and once as what came of it
        assert f"the lease b8b2488c.x-k8s.io is lost: {reason}" in log
        with_certificate(operator, 600.0)
        operator.start()
    finally:
        assert operator.stop() == 0


def test_token_that_is_taken_back_must_be_read_anew_without_an_end(
    sandbox: Sandbox, start_kubelet: StartKubelet, new_operator: NewOperator, cluster: ControlPlane
) -> None:
    start_kubelet(sandbox, load_s=0.1)
    tokens = {name: account(cluster, sandbox.name, name) for name in ("first", "second")}
    for name, token in tokens.items():
        grant_in(cluster.client(), cluster, sandbox.name, name)
        client = Client(cluster.url, cluster.authority.certificate_file, token)
        sandbox.wait("the Role counts", partial(_may_list_pods, client, sandbox.name))
        client.close()
    operator = new_operator("rotating", config={"lws": {"namespaces": [sandbox.name]}})
    file = operator.folder / "token"
    file.write_text(tokens["first"])
    with_user(operator, {"tokenFile": "token"})
    operator.start()
    operator.register_webhooks()
    sandbox.create(lws("rotating", 3, pod={"terminationGracePeriodSeconds": 1}))
    sandbox.wait_ready("rotating", 3)
    process = operator.process
    sandbox.delete("ServiceAccount", "first")
    refused = Client(cluster.url, cluster.authority.certificate_file, tokens["first"])
    sandbox.wait("the token is refused", lambda: _is_refused(refused))
    refused.close()
    set_image(sandbox, "rotating", "img:2")
    sandbox.wait("it says so", lambda: len(_refusals(operator)) >= 2, 60)
    time.sleep(4.0)  # it has tried three times
    refusals = _refusals(operator)
    assert len(refusals) == len(set(refusals)) == 2  # the revision and the status, each told once
    file.write_text(tokens["second"])
    sandbox.wait_ready("rotating", 3)
    assert operator.process is process
    for token in tokens.values():
        assert token not in operator.tail(10**7)


def _refusals(operator: Operator) -> list[str]:
    return [line["msg"] for line in _lines(operator) if line.get("code") == 401]


def _lines(operator: Operator, since: int = 0) -> list[Manifest]:
    """The lines of its log that it has written to their end."""
    whole, _, _ = operator.tail(10**7, since=since).rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _may_list_pods(client: Client, namespace: str) -> bool:
    return client.all("v1", "Pod", namespace) == []


def _is_refused(client: Client) -> bool:
    code, _ = client._send("GET", "/version", None, "application/json")
    return code == 401


# -- writes


def test_groups_that_are_refused_together_must_be_told_of_in_one_event(
    sandbox: Sandbox, start_kubelet: StartKubelet, new_operator: NewOperator
) -> None:
    start_kubelet(sandbox)
    operator = new_operator("refused").start()
    operator.register_webhooks()
    sandbox.create(lws("serve", 7))
    sandbox.wait_ready("serve", 7)
    operator.stop()
    for index in range(7):
        sandbox.delete("StatefulSet", f"serve-{index}")
    sandbox.wait("the workers are gone", lambda: len(sandbox.pods("serve")) == 7)
    kind = "count/statefulsets.apps"
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {kind: "1"}}}
    sandbox.create({"apiVersion": "v1", "kind": "ResourceQuota", **quota})  # no controller keeps its status
    sandbox.patch(
        "ResourceQuota", "none", {"status": {"hard": {kind: "1"}, "used": {kind: "1"}}}, part="status"
    )
    sandbox.wait("the quota counts", lambda: _over_quota(sandbox))
    mark = sandbox.plane.audit.mark()
    operator.start()
    text = (
        "Failed to create 7 worker statefulsets for leader pods serve-0, serve-1, serve-2, serve-3, serve-4 "
    )
    aggregated = wait_event(sandbox, "FailedCreate", f"{text}and 2 more: ", 120)
    assert "exceeded quota: none" in aggregated["message"]

    def speaks_of_all(message: str) -> bool:
        return all(f"StatefulSet serve-{index}: " in message for index in range(3))

    def stalled() -> bool:
        message = conditions(sandbox.must_get(names.KIND, "serve"))["Stalled"]["message"]
        return speaks_of_all(message) and message.endswith("; and 2 more")

    sandbox.wait_condition("serve", "Stalled", reason="APIRefused")
    sandbox.wait("the condition speaks of all", stalled)
    told = wait_event(sandbox, "APIRefused", "exceeded quota")["message"]
    first_s = [tries(sandbox, f"serve-{index}", mark)[0].at_s for index in range(7)]
    assert speaks_of_all(told) or max(first_s) - min(first_s) > GATHERED_S
    assert len(sandbox.events("APIRefused")) == 1
    told_count = len(sandbox.events("FailedCreate"))
    refused = [one for index in range(7) for one in tries(sandbox, f"serve-{index}", mark)]
    assert told_count <= gatherings(refused)


def gatherings(refused: Iterable[Entry]) -> int:
    """How often refusals are told of where one event tells of what comes within a second: on a machine that
    answers at once, for each time that all are tried."""
    count, until_s = 0, 0.0
    for at_s in sorted(one.at_s for one in refused):
        if at_s >= until_s:
            count, until_s = count + 1, at_s + GATHERED_S
    return count


def _over_quota(sandbox: Sandbox) -> bool:
    """Whether a StatefulSet more is refused."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"serviceName": "a", "selector": {"matchLabels": {"a": "b"}}, "template": template}
    probe = {"metadata": {"name": "probe", "namespace": sandbox.name}, "spec": spec}
    try:
        sandbox.client.create({"apiVersion": "apps/v1", "kind": "StatefulSet", **probe}, dryRun="All")
    except Refused as refused:
        return "exceeded quota" in refused.message
    return False


def test_dying_namespace_must_be_met_with_silence(
    sandbox: Sandbox, kubelet: Kubelet, operator: Operator, cluster: ControlPlane
) -> None:
    sandbox.create(lws("serve"))
    sandbox.wait_ready("serve", 2)
    mark, begun = cluster.audit.mark(), operator.log_size()
    cluster.stop_controllers()
    try:
        sandbox.client.delete("v1", "Namespace", None, sandbox.name)
        sandbox.delete("Service", "serve")
        refused = sandbox.wait("it is refused", lambda: _creations(sandbox, mark), 60)
        assert {one.code for one in refused} == {403}
        sandbox.wait("it is refused again", lambda: len(_creations(sandbox, mark)) > 1, 60)
        assert "Stalled" not in conditions(sandbox.must_get(names.KIND, "serve"))
        lines = _lines(operator, begun)
        told = [line["msg"] for line in lines if line.get("code") == 403]  # a time may have these digits too
        assert told == []
        assert not any("403" in line["msg"] or "terminated" in str(line) for line in lines)
    finally:
        cluster.start_controllers()
        eventually(
            "the namespace is gone",
            lambda: sandbox.client.get("v1", "Namespace", None, sandbox.name) is None,
            120,
        )
    assert "Traceback" not in operator.tail(10**6, since=begun)


def _creations(sandbox: Sandbox, mark: int) -> list[Entry]:
    return [one for one in sandbox.writes("operator", mark) if one.verb == "create"]
