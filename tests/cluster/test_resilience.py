"""What happens when operators end, stop, or are two, and when the API server fails them."""

from __future__ import annotations

import random
import time
from functools import partial

import pytest
from client import Manifest
from conftest import NewOperator, StartKubelet
from control_plane import ControlPlane
from operator_process import Operator
from patience import Stopwatch
from proxy import Asked, Fault, Proxy
from sandbox import Sandbox
from sets import created, lws

LEASE = "b8b2488c.x-k8s.io"
SHORT = {"leaseDuration": "6s", "renewDeadline": "4s", "retryPeriod": "500ms"}
ELECTING = {"leaderElection": {"leaderElect": True, **SHORT}}
FOLLOWED_S = 6 + 2 * 0.5 + 5  # a lease, twice the time until it is looked at again, and the operator's start


def set_of(name: str, *, replicas: int = 3, image: str = "img:1") -> Manifest:
    return lws(name, replicas, image=image, pod={"terminationGracePeriodSeconds": 1})


def images(sandbox: Sandbox, name: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in sandbox.pods(name).values()}


def wait_rolled_out(sandbox: Sandbox, name: str, image: str, groups: int = 3) -> None:
    sandbox.wait(f"{name} runs {image}", lambda: images(sandbox, name) == {image}, 90)
    sandbox.wait_ready(name, groups, timeout_s=90)


def uids(sandbox: Sandbox, name: str) -> dict[str, str]:
    return {pod: found["metadata"]["uid"] for pod, found in sandbox.pods(name).items()}


@pytest.fixture
def kubelets(sandbox: Sandbox, start_kubelet: StartKubelet) -> None:
    start_kubelet(sandbox, load_s=0.3)


def test_restart_never_writes_or_deletes_anything_at_rest(
    sandbox: Sandbox, kubelets: None, operator: Operator, cluster: ControlPlane
) -> None:
    sandbox.apply(set_of("rest"))
    sandbox.wait_ready("rest", 3)
    sandbox.wait_quiet()
    before, mark = uids(sandbox, "rest"), cluster.audit.mark()
    for _ in range(3):
        begun = operator.log_size()
        operator.restart()
        sandbox.wait("it has listed all", partial(_has_listed, operator, begun))
        time.sleep(1.0)
    assert sandbox.writes("operator", mark) == []
    assert uids(sandbox, "rest") == before


def _has_listed(operator: Operator, since: int) -> bool:
    return "all objects listed" in operator.tail(10**6, since=since)


def _silent(sandbox: Sandbox) -> bool:
    mark = sandbox.plane.audit.mark()
    time.sleep(1.5)
    return sandbox.writes("operator", mark) == []


def test_restarts_in_mid_rollout_never_cost_a_pod(
    sandbox: Sandbox, kubelets: None, operator: Operator, cluster: ControlPlane
) -> None:
    sandbox.apply(set_of("mid", replicas=4))
    sandbox.wait_ready("mid", 4)
    mark = cluster.audit.mark()
    sandbox.apply(set_of("mid", replicas=4, image="img:2"))
    chance = random.Random(1)
    for _ in range(4):
        time.sleep(chance.uniform(0.05, 0.8))
        operator.kill()
        operator.start()
    wait_rolled_out(sandbox, "mid", "img:2", 4)
    assert len(created(sandbox, mark)) == 4 * 2


def test_killed_leader_always_is_followed_within_its_lease(
    sandbox: Sandbox, kubelets: None, new_operator: NewOperator
) -> None:
    first = new_operator("first", config=ELECTING).start()
    first.register_webhooks()
    sandbox.apply(set_of("led"))
    sandbox.wait_ready("led", 3)
    second = new_operator("second", config=ELECTING).start()
    second.register_webhooks()  # its webhooks serve although it does not lead
    mark = sandbox.plane.audit.mark()
    first.kill()
    killed_s = time.monotonic()
    sandbox.wait("it is taken", lambda: sandbox.apply(set_of("led", image="img:2")))
    sandbox.wait("the second acts", lambda: sandbox.writes("operator", mark), 60)
    assert time.monotonic() - killed_s < FOLLOWED_S  # no lease of the default 15 s would be over by then
    wait_rolled_out(sandbox, "led", "img:2")


def test_stopped_leader_never_writes_once_its_lease_is_over(
    sandbox: Sandbox, kubelets: None, new_operator: NewOperator
) -> None:
    first = new_operator("frozen", config=ELECTING).start()
    first.register_webhooks()
    sandbox.apply(set_of("held"))
    sandbox.wait_ready("held", 3)
    second = new_operator("heir", config=ELECTING).start()
    second.register_webhooks()
    chance = random.Random(2)
    for turn in range(3):
        sandbox.apply(set_of("held", image=f"img:{turn + 2}"))
        time.sleep(chance.uniform(0.0, 0.5))
        first.freeze()
        wait_rolled_out(sandbox, "held", f"img:{turn + 2}")
        sandbox.wait("the second is silent", partial(_silent, sandbox), 60)
        mark = sandbox.plane.audit.mark()
        first.thaw()
        sandbox.wait("the first has ended", partial(_has_ended, first), 60)
        late = [one for one in sandbox.writes("operator", mark) if one.code < 300]
        assert late == [], "a stale request must fail by its preconditions"
        first, second = second, new_operator(f"heir-{turn}", config=ELECTING).start()
        second.register_webhooks()


def _has_ended(operator: Operator) -> bool:
    return operator.process is not None and operator.process.exit_code is not None


def test_two_operators_never_lead_at_once_and_release_the_lease_on_sigterm(
    sandbox: Sandbox, kubelets: None, new_operator: NewOperator
) -> None:
    first = new_operator("one", config={"leaderElection": {"leaderElect": True}}).start()
    second = new_operator("two", config={"leaderElection": {"leaderElect": True}}).start()
    second.register_webhooks()
    sandbox.apply(set_of("pair"))
    sandbox.wait_ready("pair", 3)
    sandbox.wait_quiet()
    assert first.process is not None
    with Stopwatch(first.process.pid) as watch:
        assert first.stop() in (0, None)
    assert watch.took_s < 5
    mark, stopped_s = sandbox.plane.audit.mark(), time.monotonic()
    sandbox.apply(set_of("pair", image="img:2"))
    sandbox.wait("the second acts", lambda: sandbox.writes("operator", mark), 60)
    assert time.monotonic() - stopped_s < 12, "nobody waits for a lease of 15 s that was given back"
    wait_rolled_out(sandbox, "pair", "img:2")


def test_api_servers_restart_never_loses_anything(
    sandbox: Sandbox, kubelets: None, operator: Operator, cluster: ControlPlane
) -> None:
    sandbox.apply(set_of("back"))
    sandbox.wait_ready("back", 3)
    sandbox.apply(set_of("back", image="img:2"))
    cluster.restart_api_server(down_s=1.0)
    wait_rolled_out(sandbox, "back", "img:2")


def test_compaction_and_broken_watches_always_end_in_a_new_list(
    sandbox: Sandbox, kubelets: None, new_operator: NewOperator, cluster: ControlPlane
) -> None:
    with Proxy(cluster) as proxy:
        operator = new_operator("watched", server=proxy.url).start()
        operator.register_webhooks()
        sandbox.apply(set_of("seen"))
        sandbox.wait_ready("seen", 3)
        proxy.judge = lambda asked: Fault(503) if asked.watches else None
        proxy.break_watches()
        sandbox.apply(set_of("seen", image="img:2"))
        cluster.compact()
        time.sleep(1.0)
        proxy.judge = lambda _: None
        wait_rolled_out(sandbox, "seen", "img:2")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("conflict", Fault(409)),
        ("busy", Fault(429, {"Retry-After": "1"})),
        ("error", Fault(500)),
        ("reset", Fault(0)),
        ("lost-answer", Fault(0, after=True)),
        ("lost-answer-500", Fault(500, after=True)),
    ],
)
def test_failing_requests_never_lose_or_double_anything(
    sandbox: Sandbox,
    kubelets: None,
    new_operator: NewOperator,
    cluster: ControlPlane,
    name: str,
    fault: Fault,
) -> None:
    chance = random.Random(name)
    failed: dict[str, int] = {}

    def judge(asked: Asked) -> Fault | None:
        key = f"{asked.method} {asked.path}"
        if not asked.writes or failed.get(key, 0) >= 2 or chance.random() > 0.4:
            return None
        failed[key] = failed.get(key, 0) + 1
        return fault

    with Proxy(cluster) as proxy:
        operator = new_operator("failing", server=proxy.url).start()
        operator.register_webhooks()
        proxy.judge = judge
        mark = cluster.audit.mark()
        sandbox.apply(set_of("sure"))
        sandbox.wait_ready("sure", 3, timeout_s=90)
        sandbox.apply(set_of("sure", image="img:2"))
        wait_rolled_out(sandbox, "sure", "img:2")
        assert failed, "no request has failed: the test shows nothing"
        assert len(created(sandbox, mark)) == 2 * 3 * 2
        sandbox.wait("one revision is left", lambda: len(_own_revisions(sandbox, "sure")) == 1)


def _own_revisions(sandbox: Sandbox, name: str) -> list[str]:
    return [
        one["metadata"]["name"]
        for one in sandbox.all("ControllerRevision")
        if one["metadata"]["ownerReferences"][0]["kind"] == "LeaderWorkerSet"
    ]


def test_unreachable_webhook_only_delays(
    sandbox: Sandbox, kubelets: None, operator: Operator, cluster: ControlPlane
) -> None:
    sandbox.apply(set_of("hooked"))
    sandbox.wait_ready("hooked", 3)
    operator.kill()  # with its webhooks: leaders that are deleted now cannot come back
    sandbox.client.delete("v1", "Pod", sandbox.name, "hooked-1", grace_s=0)
    time.sleep(2.0)
    operator.start()
    sandbox.wait_ready("hooked", 3, timeout_s=90)
