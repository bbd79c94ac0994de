"""A control plane on which many sets live at once, each with an operator of its own.

The kubelets and one more operator, which serves the webhooks of all sets and is never touched, are shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import attrs
import rights
from audit import WHOLE_POLICY
from client import Client, Manifest
from control_plane import ControlPlane, Setup, token
from kubelet import Kubelet, Node
from operator_process import Operator

T = TypeVar("T")
_LOAD_S: Final = 0.2
_RBAC: Final = "rbac.authorization.k8s.io"


@attrs.frozen
class Stage:
    """A control plane and its kubelets."""

    plane: ControlPlane
    kubelet: Kubelet

    def client(self, user: str = "admin") -> Client:
        """A client of one's own, so that sets do not wait for each other."""
        return Client(self.plane.url, self.plane.authority.certificate_file, token(user))

    @classmethod
    @contextmanager
    def start(cls, folder: Path, programs: dict[str, Path], crds: Sequence[Manifest]) -> Iterator[Stage]:
        """Start everything, and end it afterwards."""
        setup = Setup(crds=crds, audit_policy=WHOLE_POLICY, server_flags=("--audit-log-maxsize=100000",))
        with ControlPlane(folder, programs, setup) as plane:
            rights.grant(plane)
            _grant_leases(plane)
            amounts = {"cpu": "9k", "memory": "9Ti", "pods": "9k"}
            nodes = [Node(f"stage-{number}", allocatable=amounts) for number in range(2)]
            user = closing(Client(plane.url, plane.authority.certificate_file, token("kubelet")))
            webhooks = Operator(plane, "webhooks", config={"lws": {"namespaces": ["default"]}})
            with user as client, Kubelet(client, nodes, load_s=_LOAD_S) as kubelet:
                try:
                    webhooks.start(60.0)
                    webhooks.register_webhooks()
                    yield cls(plane, kubelet)
                finally:
                    webhooks.stop()


def _grant_leases(plane: ControlPlane) -> None:
    """Let operators hold leases of any name: each set has a lease of its own."""
    about = {"name": "any-lease", "namespace": rights.NAMESPACE}
    rules = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"]}]
    plane.client().apply({"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": about, "rules": rules})
    plane.client().apply(
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": about["name"]},
            "subjects": [{"kind": "User", "apiGroup": _RBAC, "name": "operator"}],
        }
    )


def side_by_side(
    work: Iterable[Callable[[], T]],
    at_once: int,
    meanwhile: Callable[[], object] = lambda: None,
    every_s: float = 0.2,
) -> Iterator[T]:
    """The results as they come. `meanwhile` is called again and again in the thread that asks for them.

    Each piece of work has a thread to itself from its beginning to its end: what it starts ends with it.
    """
    waiting = iter(work)
    running: set[Future[T]] = set()
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            while len(running) < at_once and (one := next(waiting, None)) is not None:
                running.add(pool.submit(one))
            if not running:
                return
            done, running = wait(running, every_s, FIRST_COMPLETED)
            for future in done:
                yield future.result()
            meanwhile()


def wait_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Whether something came true in time."""
    end_s = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True
