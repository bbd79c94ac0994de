"""Plain StatefulSets, as the tests that need no operator use them."""

from __future__ import annotations

from typing import Any

from client import Manifest
from sandbox import Sandbox, is_ready


def stateful_set(
    name: str = "web",
    replicas: int = 3,
    *,
    image: str = "img:1",
    partition: int = 0,
    max_unavailable: int | None = None,
    annotations: dict[str, str] | None = None,
    **pod: Any,
) -> Manifest:
    """A StatefulSet whose pods are managed in parallel; `pod` is laid over the pod's spec."""
    labels = {"app": name}
    rolling: dict[str, Any] = {"partition": partition}
    if max_unavailable is not None:
        rolling["maxUnavailable"] = max_unavailable
    spec = {"terminationGracePeriodSeconds": 5, "containers": [{"name": "main", "image": image}], **pod}
    template = {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": template,
        },
    }


def images(sandbox: Sandbox) -> dict[str, str]:
    """Each ready pod's image."""
    pods = sandbox.pods().items()
    return {name: pod["spec"]["containers"][0]["image"] for name, pod in pods if is_ready(pod)}


def wait_ready(
    sandbox: Sandbox, name: str, replicas: int, image: str = "img:1", timeout_s: float = 90
) -> None:
    """Return once a StatefulSet has so many pods, all ready and of an image."""
    wanted = {f"{name}-{ordinal}": image for ordinal in range(replicas)}

    def seen() -> bool:
        found = {pod: got for pod, got in images(sandbox).items() if pod.rsplit("-", 1)[0] == name}
        return found == wanted and len(sandbox.all("Pod", f"app={name}")) == replicas

    sandbox.wait(f"{name} has {replicas} ready pods of {image}", seen, timeout_s)
