"""Fixtures of the cluster tests: control planes shared by all of them, a namespace, kubelets and an operator.

The tests need a control plane's programs (see binaries.py) and are skipped without them, or fail if CI=true.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import binaries
import pytest
import rights
import yaml
from client import Manifest
from control_plane import ControlPlane, Setup
from kubelet import Kubelet, Node
from operator_process import Operator, remove_webhooks
from sandbox import Sandbox
from standins import POD_GROUPS

ROOT: Final = Path(__file__).resolve().parents[2]
CRD_FILE: Final = ROOT / "deploy" / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml"
GATE: Final = "MaxUnavailableStatefulSet"

StartKubelet = Callable[..., Kubelet]
NewOperator = Callable[..., Operator]

_numbers = itertools.count(1)
_reports: Final = pytest.StashKey[dict[str, pytest.TestReport]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether the test failed."""
    report = yield
    item.stash.setdefault(_reports, {})[report.when] = report
    return report


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The programs of a control plane."""
    try:
        return binaries.find()
    except binaries.Unavailable as problem:
        if os.environ.get("CI") == "true":
            pytest.fail(str(problem), pytrace=False)
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def crd() -> Manifest:
    """The shipped CRD."""
    loaded: Manifest = yaml.load(CRD_FILE.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


@pytest.fixture(scope="session")
def cluster(
    programs: dict[str, Path], crd: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A control plane with default feature gates and the CRD, for all tests."""
    yield from _plane(tmp_path_factory.mktemp("default"), programs, Setup(crds=(crd, POD_GROUPS)))


@pytest.fixture(scope="session")
def gated_cluster(
    programs: dict[str, Path], crd: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A control plane with MaxUnavailableStatefulSet on and the CRD, for all tests."""
    yield from _plane(tmp_path_factory.mktemp("gated"), programs, Setup(crds=(crd,), gates={GATE: True}))


def _plane(folder: Path, programs: dict[str, Path], setup: Setup) -> Iterator[ControlPlane]:
    with ControlPlane(folder, programs, setup) as plane:
        rights.grant(plane)
        yield plane


def _sandbox(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")
    name = f"{words[:40].strip('-')}-{next(_numbers)}"
    plane.client().create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    sandbox = Sandbox(plane, name)
    yield sandbox
    if _failed(request):
        request.node.add_report_section("teardown", "cluster", sandbox.describe())
    sandbox.clear()


@pytest.fixture
def sandbox(cluster: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A namespace of the cluster with default gates, for this test alone."""
    yield from _sandbox(cluster, request)


@pytest.fixture
def gated_sandbox(gated_cluster: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A namespace of the cluster with the gate on, for this test alone."""
    yield from _sandbox(gated_cluster, request)


@pytest.fixture
def start_kubelet() -> Iterator[StartKubelet]:
    """Starts kubelets for a sandbox: `start_kubelet(sandbox, nodes, load_s=...)`, see kubelet.Kubelet. They
    bind pods to their nodes themselves unless there is a scheduler."""
    started: list[Kubelet] = []

    def start(sandbox: Sandbox, nodes: list[Node] | None = None, **how: Any) -> Kubelet:
        wanted = nodes or [Node(f"{sandbox.name}-a"), Node(f"{sandbox.name}-b")]
        how.setdefault("binds", "kube-scheduler" not in sandbox.plane.processes)
        kubelet = Kubelet(sandbox.plane.client("kubelet"), wanted, namespace=sandbox.name, **how)
        started.append(kubelet)
        return kubelet.start()

    yield start
    for kubelet in reversed(started):
        kubelet.stop()


@pytest.fixture
def kubelet(sandbox: Sandbox, start_kubelet: StartKubelet) -> Kubelet:
    """Kubelets of two nodes for the sandbox; pods are ready at once, and end 0.1 s after their deletion."""
    return start_kubelet(sandbox)


@pytest.fixture
def gated_kubelet(gated_sandbox: Sandbox, start_kubelet: StartKubelet) -> Kubelet:
    """The same for the sandbox of the cluster with the gate on."""
    return start_kubelet(gated_sandbox)


@pytest.fixture
def scheduler(cluster: ControlPlane) -> Iterator[None]:
    """A real scheduler in the cluster with default gates, for this test alone."""
    cluster.start_scheduler()
    yield
    cluster.stop_scheduler()


@pytest.fixture(scope="session")
def _operator(cluster: ControlPlane) -> Iterator[Operator]:
    operator = Operator(cluster)
    yield operator
    operator.stop()


@pytest.fixture(scope="session")
def _gated_operator(gated_cluster: ControlPlane) -> Iterator[Operator]:
    operator = Operator(gated_cluster)
    yield operator
    operator.stop()


def _serving(operator: Operator, request: pytest.FixtureRequest) -> Iterator[Operator]:
    begun = operator.log_size()
    if not operator.runs:
        operator.start()
        operator.register_webhooks()
    yield operator
    if _failed(request):
        request.node.add_report_section("teardown", "operator's log", operator.tail(since=begun))


@pytest.fixture
def operator(_operator: Operator, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The operator of the cluster, with webhooks; shared by the tests, started again if one has ended it."""
    yield from _serving(_operator, request)


@pytest.fixture
def gated_operator(_gated_operator: Operator, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The same for the cluster with the gate on."""
    yield from _serving(_gated_operator, request)


@pytest.fixture
def new_operator(
    cluster: ControlPlane, _operator: Operator, request: pytest.FixtureRequest
) -> Iterator[NewOperator]:
    """Makes operators of this test's own, not started, for the cluster with default gates:
    `new_operator("second", config={...})`. The shared one is stopped first, its webhooks removed."""
    made: list[Operator] = []
    _operator.stop()
    remove_webhooks(cluster.client())

    def make(name: str = "own", **how: Any) -> Operator:
        made.append(Operator(cluster, f"{name}-{next(_numbers)}", **how))
        return made[-1]

    yield make
    if _failed(request):
        for operator in made:
            request.node.add_report_section("teardown", f"log of {operator.name}", operator.tail())
    for operator in made:
        operator.stop()
    remove_webhooks(cluster.client())


@pytest.fixture
def no_operator(cluster: ControlPlane, _operator: Operator) -> None:
    """No operator runs in the cluster with default gates, and no webhook is asked."""
    _operator.stop()
    remove_webhooks(cluster.client())


def _failed(request: pytest.FixtureRequest) -> bool:
    reports = request.node.stash.get(_reports, {})
    return "call" in reports and bool(reports["call"].failed)
