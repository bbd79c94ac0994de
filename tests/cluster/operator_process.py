"""The operator as a process of its own, with its webhooks registered by URL."""

from __future__ import annotations

import shutil
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from client import Client, Manifest, Refused, eventually
from control_plane import ControlPlane, token
from processes import Process, free_ports

from lws_core import names

MUTATE_SET: Final = "/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
VALIDATE_SET: Final = "/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset"
MUTATE_POD: Final = "/mutate--v1-pod"
CONFIGURATIONS: Final = {
    "MutatingWebhookConfiguration": "lws-mutating-webhook-configuration",
    "ValidatingWebhookConfiguration": "lws-validating-webhook-configuration",
}
_REGISTRATION: Final = "admissionregistration.k8s.io/v1"
_START_S: Final = 90.0


class Operator:
    """One replica of `lws operator` with ports and a folder of its own."""

    def __init__(
        self,
        plane: ControlPlane,
        name: str = "operator",
        *,
        user: str = "operator",
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        server: str | None = None,
        flags: Sequence[str] = (),
        token: str = "",
    ) -> None:
        """`config` is laid over the configuration that the tests use, table by table. `server`: where it
        finds the API server, for a test that stands between them. `flags`: of the command.
        `token`: who it is, if not that user."""
        self.plane = plane
        self.name = name
        self.folder = plane.folder / name
        self.folder.mkdir(exist_ok=True)
        self.webhook_port, self.probe_port, self.metrics_port = free_ports(3)
        self.process: Process | None = None
        self._flags = flags
        self._environment = {
            "KUBECONFIG": str(self._kubeconfig(user, server, token)),
            "POD_NAME": name,
            **(environment or {}),
        }
        self.config_file = self.folder / "config.yaml"
        self.config_file.write_text(yaml.safe_dump(_merged(self._config(), config or {})))
        self.log = self.folder / "operator.log"

    def _kubeconfig(self, user: str, server: str | None, token: str) -> Path:
        path = self.folder / "kubeconfig"
        config = yaml.safe_load(self.plane.kubeconfig(user).read_text())
        if server is not None:
            config["clusters"][0]["cluster"]["server"] = server
        if token:
            config["users"][0]["user"]["token"] = token
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def _config(self) -> Manifest:
        certificates = self.folder / "certificates"
        certificates.mkdir(exist_ok=True)
        authority = self.plane.authority
        authority.issue(certificates, "tls")
        shutil.copy(authority.certificate_file, certificates / "ca.crt")
        return {
            "apiVersion": "config.lws.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
            "webhook": {"port": self.webhook_port, "certDir": str(certificates)},
            "metrics": {"bindAddress": f"127.0.0.1:{self.metrics_port}"},
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self.probe_port}"},
        }

    # -- life

    def start(self, timeout_s: float = _START_S) -> Operator:
        """Start it, and return once it is ready."""
        self.launch()
        self.wait_ready(timeout_s)
        return self

    def launch(self) -> Process:
        """Start it, and do not wait."""
        lws = shutil.which("lws")
        assert lws is not None, "the command lws is not installed: pip install -e '.[operator]'"
        command = [lws, "operator", "--config", str(self.config_file), *self._flags]
        self.process = Process(command, self.log, environment=self._environment, last_signal=signal.SIGTERM)
        return self.process

    def wait_ready(self, timeout_s: float = _START_S) -> None:
        """Return once its /readyz answers 200; raises RuntimeError with its log if it ends or does not."""
        try:
            eventually(f"{self.name} is ready", self.is_ready, timeout_s, 0.05)
        except TimeoutError as late:
            raise RuntimeError(f"{late}\n{self.tail()}") from None

    def is_ready(self) -> bool:
        """Its /readyz answers 200. Raises RuntimeError if it has ended."""
        if self.process is None or self.process.exit_code is not None:
            code = None if self.process is None else self.process.exit_code
            raise RuntimeError(f"{self.name} ended with {code}\n{self.tail()}")
        return self.get("/readyz")[0] == 200

    def get(self, path: str, *, metrics: bool = False) -> tuple[int, str]:
        """Status and text of a page of its probes, or of its metrics; status 0 where nobody answers."""
        address = f"http://127.0.0.1:{self.probe_port}{path}"
        headers, tls = {}, None
        if metrics:
            address = f"https://127.0.0.1:{self.metrics_port}{path}"
            headers = {"Authorization": f"Bearer {token('admin')}"}
            tls = ssl._create_unverified_context()  # its certificate is made by itself
        try:
            asked = urllib.request.Request(address, headers=headers)
            with urllib.request.urlopen(asked, timeout=20, context=tls) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")
        except OSError:
            return 0, ""

    @property
    def runs(self) -> bool:
        """It was started and has not ended."""
        return self.process is not None and self.process.exit_code is None

    def stop(self) -> int | None:
        """Its exit code after SIGTERM; None if it did not run."""
        process, self.process = self.process, None
        return None if process is None else process.stop()

    def kill(self) -> None:
        """End it and its children with SIGKILL: nothing is released, nothing is said."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()

    def restart(self, timeout_s: float = _START_S) -> None:
        """Stop it and start it again, with the same ports."""
        self.stop()
        self.start(timeout_s)

    def freeze(self) -> None:
        """SIGSTOP to it and its children."""
        assert self.process is not None
        self.process.send_to_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        assert self.process is not None
        self.process.send_to_group(signal.SIGCONT)

    def tail(self, characters: int = 6000, since: int = 0) -> str:
        """The end of its log, of what was written after `since` bytes."""
        if not self.log.exists():
            return "(it wrote nothing)"
        return self.log.read_bytes()[since:].decode(errors="replace")[-characters:]

    def log_size(self) -> int:
        """How much it has written, in bytes: a `since` for `tail`."""
        return self.log.stat().st_size if self.log.exists() else 0

    # -- its webhooks

    def register_webhooks(self, timeout_s: float = 60.0) -> None:
        """Let the API server ask this replica, and return once it does, and no other any more."""
        client = self.plane.client()
        for configuration in self.webhooks():
            client.apply(configuration)
        words = f'"{self._webhook_name("vleaderworkerset")}" denied the request'
        eventually("the webhooks are asked", lambda: words in _refusal(client), timeout_s)

    def webhooks(self) -> list[Manifest]:
        """The two configurations, as an installation has them but for the address, and the names, which tell
        the replicas apart."""
        sets = _rule(names.GROUP, names.VERSION, names.PLURAL, "CREATE", "UPDATE")
        pods = _rule("", "v1", "pods", "CREATE")
        ours = {"matchExpressions": [{"key": names.SET_NAME, "operator": "Exists"}]}
        mutating = [
            self._webhook("mleaderworkerset", MUTATE_SET, sets),
            {**self._webhook("mpod", MUTATE_POD, pods), "objectSelector": ours},
        ]
        validating = [self._webhook("vleaderworkerset", VALIDATE_SET, sets)]
        return [
            {"apiVersion": _REGISTRATION, "kind": kind, "metadata": {"name": name}, "webhooks": hooks}
            for (kind, name), hooks in zip(CONFIGURATIONS.items(), (mutating, validating), strict=True)
        ]

    def _webhook_name(self, kind: str) -> str:
        return f"{kind}-{self.webhook_port}.kb.io"

    def _webhook(self, name: str, path: str, rule: Manifest) -> Manifest:
        address = f"https://127.0.0.1:{self.webhook_port}{path}"
        return {
            "name": self._webhook_name(name),
            "clientConfig": {"url": address, "caBundle": self.plane.authority.bundle},
            "rules": [rule],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }


def remove_webhooks(client: Client, timeout_s: float = 60.0) -> None:
    """Let the API server ask nobody, and return once it does not."""
    for kind, name in CONFIGURATIONS.items():
        client.delete(_REGISTRATION, kind, None, name)
    eventually("no webhook is asked", lambda: not _refusal(client), timeout_s)


def _refusal(client: Client) -> str:
    """What is said to a set that the schema allows and validation does not; empty where nothing is."""
    template = {"spec": {"containers": [{"name": "main", "image": "none"}]}}
    spec = {"leaderWorkerTemplate": {"size": 0, "workerTemplate": template}}
    metadata = {"name": "probe", "namespace": "default"}
    probe = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata, "spec": spec}
    try:
        client.create(probe, dryRun="All")
    except Refused as refused:
        return refused.message
    return ""


def _rule(group: str, version: str, resource: str, *operations: str) -> Manifest:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": [resource],
        "operations": list(operations),
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Manifest:
    both = {
        name: _merged(below[name], value)
        for name, value in above.items()
        if isinstance(value, Mapping) and isinstance(below.get(name), Mapping)
    }
    return {**below, **above, **both}
