"""A cluster to play with, on this machine: a real control plane, stand-in kubelets, and the operator.

There are no containers: pods are bound, load, become ready and end, and nothing runs in them. Everything ends
with Ctrl-C, and nothing stays behind.

    make cluster ARGS='--load 3 --nodes 4'
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

import binaries  # noqa: E402  # they lie beside the tests, which use them too
import rights  # noqa: E402
from control_plane import ControlPlane, Setup  # noqa: E402
from kubelet import Kubelet, Node  # noqa: E402
from operator_process import Operator  # noqa: E402

CRD: Final = ROOT / "deploy" / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM; the exit code is 1 where the cluster cannot be had."""
    options = _options(arguments)
    try:
        programs = binaries.find()
    except binaries.Unavailable as problem:
        print(problem, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lws-cluster-")))
            _run(options, programs, folder, stack)
    except KeyboardInterrupt:
        print("\neverything has ended")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=4, help="how many nodes there are (default: 4)")
    parser.add_argument("--zones", type=int, default=2, help="how many zones they are in (default: 2)")
    parser.add_argument(
        "--load", type=float, default=2.0, help="seconds a pod takes to be ready (default: 2)"
    )
    parser.add_argument("--gate", action="append", default=[], metavar="NAME", help="feature gate to turn on")
    parser.add_argument("--scheduler", action="store_true", help="let a real scheduler place the pods")
    parser.add_argument("--no-operator", action="store_true", help="leave the operator to you")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, programs: dict[str, Path], folder: Path, stack: ExitStack) -> None:
    crd = yaml.load(CRD.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    gates = dict.fromkeys(options.gate, True)
    setup = Setup(crds=(crd,), gates=gates, scheduler=options.scheduler)
    plane = stack.enter_context(ControlPlane(folder, programs, setup))
    print(f"Kubernetes {binaries.version()} is ready after {plane.started_in_s:.1f} s")
    rights.grant(plane)
    nodes = [
        Node(f"node-{index}", {"zone": f"zone-{index % options.zones}"}) for index in range(options.nodes)
    ]
    kubelet = Kubelet(
        plane.client("kubelet"), nodes, load_s=options.load, stop_s=1.0, binds=not options.scheduler
    )
    stack.enter_context(kubelet)
    print(f"{options.nodes} nodes are ready")
    if not options.no_operator:
        operator = Operator(plane)
        stack.callback(operator.stop)
        operator.start()
        operator.register_webhooks()
        print(f"the operator is ready, its log is {operator.log}")
    print(
        f"\n  export KUBECONFIG={plane.kubeconfig()} PATH={programs['kubectl'].parent}:$PATH\n"
        f"  kubectl apply -f {ROOT / 'examples' / 'lws.yaml'}\n\nCtrl-C ends it all.",
        flush=True,
    )
    while True:
        time.sleep(1)
        for name, process in plane.processes.items():
            if process.exit_code is not None:
                raise RuntimeError(f"{name} ended with {process.exit_code}\n{process.tail()}")


if __name__ == "__main__":
    sys.exit(main())
