"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler if wanted.

Everything lies in one folder: certificates, data, logs, the audit log. Users are static tokens, so the audit
log tells who wrote what. Its processes end with the process that started them.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import attrs
import yaml
from audit import POLICY, AuditLog
from certificates import Authority, write_key_pair
from client import Client, Manifest, Refused, eventually
from processes import Process, free_ports

USERS: Final = {
    "admin": "system:masters",
    "controllers": "system:masters",
    "scheduler": "system:masters",
    "kubelet": "system:masters",
    "operator": "",
    "nobody": "",
}
"""Each user and its group. `operator` has the rights that deploy/ gives, `nobody` has none."""

CONTROLLERS: Final = (
    "statefulset-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "endpointslice-controller",
    "horizontal-pod-autoscaler-controller",
    "persistentvolumeclaim-protection-controller",
)
"""What the controller manager runs unless told otherwise; its other controllers would only cost time here."""

_AUTOSCALER: Final = (
    "--horizontal-pod-autoscaler-sync-period=1s",
    "--horizontal-pod-autoscaler-initial-readiness-delay=0s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=0s",
    "--horizontal-pod-autoscaler-downscale-stabilization=1s",
)


@attrs.frozen
class Setup:
    """What a control plane consists of. `crds` are there before the controllers start, so that the garbage
    collector knows their kinds at once; `gates` are feature gates of API server and controllers."""

    gates: Mapping[str, bool] = attrs.field(factory=dict)
    controllers: Sequence[str] = CONTROLLERS
    scheduler: bool = False
    crds: Sequence[Manifest] = ()
    server_flags: Sequence[str] = ()
    audit_policy: Mapping[str, Any] = attrs.field(factory=lambda: POLICY)

    @property
    def gate_flags(self) -> list[str]:
        """The gates as a flag of the programs."""
        named = ",".join(f"{name}={str(on).lower()}" for name, on in sorted(self.gates.items()))
        return [f"--feature-gates={named}"] if named else []


class ControlPlane:
    """A control plane in a folder. `start` it, or use it as a context."""

    def __init__(self, folder: Path, programs: Mapping[str, Path], setup: Setup = Setup()) -> None:
        self.folder = folder
        self.programs = programs
        self.setup = setup
        self.processes: dict[str, Process] = {}
        self.started_in_s = 0.0
        self._clients: dict[str, Client] = {}
        ports = free_ports(5)
        self.etcd_port, self._peer_port, self.port, self._manager_port, self._scheduler_port = ports
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(folder)
        self.audit = AuditLog(folder / "audit.log")

    # -- life

    def start(self, timeout_s: float = 120.0) -> ControlPlane:
        """Start everything, and return once the API server serves, the CRDs included."""
        begun = time.monotonic()
        self._write_files()
        try:
            self._start_etcd()
            self.start_api_server(timeout_s)
            for crd in self.setup.crds:
                self.install_crd(crd)
            self.start_controllers()
            if self.setup.scheduler:
                self.start_scheduler()
        except BaseException:
            self.stop()
            raise
        self.started_in_s = time.monotonic() - begun
        return self

    def stop(self) -> None:
        """End what it started. The data goes nowhere, so nothing is given time to save it."""
        for client in self._clients.values():
            client.close()
        while self.processes:
            _, process = self.processes.popitem()
            process.kill()

    def __enter__(self) -> ControlPlane:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- users

    @property
    def url(self) -> str:
        """Where the API server serves."""
        return f"https://127.0.0.1:{self.port}"

    def client(self, user: str = "admin") -> Client:
        """That user's client, the same each time; closed when the control plane stops."""
        if user not in self._clients:  # threads that ask at once must get the same one
            self._clients.setdefault(user, Client(self.url, self.authority.certificate_file, token(user)))
        return self._clients[user]

    def kubeconfig(self, user: str = "admin", namespace: str = "default") -> Path:
        """A kubeconfig file of that user."""
        path = self.folder / f"{user}.kubeconfig"
        here = {"server": self.url, "certificate-authority": str(self.authority.certificate_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": here}],
            "users": [{"name": user, "user": {"token": token(user)}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": user, "namespace": namespace}}
            ],
        }
        new = path.with_suffix(f".{threading.get_ident()}")  # others may be reading it
        new.write_text(yaml.safe_dump(config))
        new.chmod(0o600)
        new.replace(path)
        return path

    # -- what can happen to it

    def restart_api_server(self, *, down_s: float = 0.0, timeout_s: float = 120.0) -> None:
        """Stop the API server, which breaks every connection and forgets every old version, and start it."""
        self.stop_api_server()
        time.sleep(down_s)
        self.start_api_server(timeout_s)

    def stop_api_server(self) -> None:
        """Stop the API server; etcd and the controllers go on."""
        for client in self._clients.values():
            client.close()
        self.processes.pop("kube-apiserver").kill()

    def restart_etcd(self, *, down_s: float = 0.0) -> None:
        """Kill etcd and start it again on its data; the API server waits for it."""
        self.processes.pop("etcd").kill()
        time.sleep(down_s)
        self._start_etcd()

    def compact(self) -> int:
        """Make etcd forget all revisions but the newest, which is returned. The API server keeps snapshots
        and a window of events in memory: once it has been restarted, a list's continue token from before is
        answered with 410, and a watch is too."""
        header = self._etcd("/v3/kv/range", {"key": "Lw=="})["header"]
        self._etcd("/v3/kv/compaction", {"revision": header["revision"], "physical": True})
        return int(header["revision"])

    def install_crd(self, manifest: Manifest, timeout_s: float = 90.0) -> None:
        """Create a CRD unless it is there, and return once its objects can be listed and created."""
        client = self.client()
        if client.get(manifest["apiVersion"], manifest["kind"], None, manifest["metadata"]["name"]) is None:
            client.create(manifest)
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        served = next(version["name"] for version in spec["versions"] if version["served"])
        path = f"/apis/{spec['group']}/{served}/{spec['names']['plural']}"
        eventually(f"{name} is established", lambda: self._established(name), timeout_s)
        eventually(f"{path} is served", lambda: client.request("GET", path), timeout_s)

    def _established(self, name: str) -> bool:
        crd = self.client().get("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, name)
        conditions = (crd or {}).get("status", {}).get("conditions") or []  # null at first
        return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

    def _etcd(self, path: str, body: Manifest) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.etcd_port, timeout=10)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    # -- files and processes

    def _write_files(self) -> None:
        self.authority.issue(
            self.folder, "apiserver", ("localhost", "kubernetes.default.svc", "127.0.0.1", "10.0.0.1")
        )
        write_key_pair(self.folder, "accounts")
        rows = [f'{token(user)},{user},{user},"{group}"' for user, group in USERS.items()]
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("\n".join(rows) + "\n")
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(dict(self.setup.audit_policy)))

    def _run(self, name: str, *flags: str) -> Process:
        process = Process([self.programs[name], *flags], self.folder / f"{name}.log")
        self.processes[name] = process
        return process

    def _start_etcd(self) -> None:
        serve, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._run(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={serve}",
            f"--advertise-client-urls={serve}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )

    def start_api_server(self, timeout_s: float = 120.0) -> None:
        """Start the API server, and return once it is ready."""
        folder = self.folder
        process = self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={folder}/apiserver.crt",
            f"--tls-private-key-file={folder}/apiserver.key",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            f"--service-account-key-file={folder}/accounts.pub",
            f"--service-account-signing-key-file={folder}/accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--disable-admission-plugins=ServiceAccount,DefaultStorageClass",
            "--allow-privileged=true",
            "--enable-priority-and-fairness=false",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
            f"--audit-policy-file={folder}/audit.yaml",
            f"--audit-log-path={self.audit.path}",
            "--audit-log-mode=blocking",
            *self.setup.gate_flags,
            *self.setup.server_flags,
        )
        try:
            eventually("the API server is ready", lambda: self._ready(process), timeout_s)
        except TimeoutError as late:
            raise RuntimeError(f"{late}\n{process.tail()}") from None

    def _ready(self, process: Process) -> bool:
        if process.exit_code is not None:
            raise RuntimeError(f"the API server ended with {process.exit_code}\n{process.tail()}")
        try:
            return bool(self.client().request("GET", "/readyz") == "ok")
        except Refused:
            return False

    def stop_controllers(self) -> None:
        """Stop the controllers: StatefulSets make no pods, and nothing is collected."""
        self.processes.pop("kube-controller-manager").kill()

    def start_controllers(self) -> None:
        """Start the controllers, and do not wait."""
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig('controllers')}",
            "--leader-elect=false",
            f"--secure-port={self._manager_port}",
            "--bind-address=127.0.0.1",
            f"--controllers={','.join(self.setup.controllers)}",
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
            "--concurrent-statefulset-syncs=10",
            *_AUTOSCALER,
            *self.setup.gate_flags,
        )

    def stop_scheduler(self) -> None:
        """Stop the scheduler: pods stay where they are, new ones are bound no more."""
        self.processes.pop("kube-scheduler").kill()

    def start_scheduler(self) -> None:
        """Start the scheduler, and do not wait."""
        connection = {"kubeconfig": str(self.kubeconfig("scheduler")), "qps": 1000, "burst": 1000}
        config = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": connection,
            "leaderElection": {"leaderElect": False},
        }
        path = self.folder / "scheduler.yaml"
        path.write_text(yaml.safe_dump(config))
        self._run(
            "kube-scheduler",
            f"--config={path}",
            f"--secure-port={self._scheduler_port}",
            "--bind-address=127.0.0.1",
        )


def token(user: str) -> str:
    """A user's password. Nothing secret: the server is on loopback, and lives as long as a test."""
    return f"{user}-token"
