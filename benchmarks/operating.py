"""What the operator does and costs on a real control plane: a set is made, touched, rolled out and scaled.

    python benchmarks/operating.py

The control plane and the stand-in kubelets are those of the cluster tests (docs/cluster.md). Writes are
counted in the API server's audit log; processor seconds and memory are the operator's, its webhooks included.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

import attrs
import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

import binaries  # noqa: E402  # they lie beside the tests, which use them too
import rights  # noqa: E402
import sets  # noqa: E402
from audit import Entry  # noqa: E402
from control_plane import ControlPlane, Setup  # noqa: E402
from kubelet import Kubelet  # noqa: E402
from operator_process import Operator  # noqa: E402
from sandbox import Sandbox  # noqa: E402

from lws_core import names  # noqa: E402

CRD: Final = ROOT / "deploy" / "crd" / "leaderworkerset.x-k8s.io_leaderworkersets.yaml"
NAME: Final = "serve"
GATE: Final = "MaxUnavailableStatefulSet"


@attrs.frozen
class Usage:
    """What the processes of an operator have taken so far: seconds, and the peak of resident memory."""

    processor_s: float
    peak_mib: float


@attrs.frozen
class Phase:
    """What came of one change: seconds until all was ready again, and what it took until all was quiet."""

    elapsed_s: float
    processor_s: float
    pods_created: int
    writes: tuple[Entry, ...]
    events_count: int

    def row(self, name: str, groups: int) -> str:
        """The phase as a line of the table."""
        count = len(self.writes)
        return (
            f"{name:20} {self.elapsed_s:10.2f} {self.processor_s:12.2f} {self.pods_created:13} "
            f"{count:7} {count / groups:8.2f} {self.events_count:7}"
        )


class Bench:
    """One control plane with one operator, and the set on it."""

    def __init__(self, plane: ControlPlane, operator: Operator, arguments: argparse.Namespace) -> None:
        self.plane, self.operator, self.arguments = plane, operator, arguments
        self.sandbox = Sandbox(plane, "default")

    def phase(self, act: Callable[[], object], groups: int, *, fresh: bool = False) -> Phase:
        """Act, and wait until the set's groups are ready and updated, then for quiet. `fresh`: the operator
        is started anew, so that its seconds begin at zero."""
        mark, before_s = self.plane.audit.mark(), 0.0 if fresh else self.usage().processor_s
        began_s = time.monotonic()
        act()
        self.sandbox.wait_ready(NAME, groups, timeout_s=self.arguments.timeout)
        elapsed_s = time.monotonic() - began_s
        time.sleep(self.arguments.settle)
        log = self.plane.audit
        written = log.writes(mark, user="operator", namespace="default", events=True)
        return Phase(
            elapsed_s=elapsed_s,
            processor_s=self.usage().processor_s - before_s,
            pods_created=len(sets.created(self.sandbox, mark)),
            writes=tuple(one for one in written if one.resource != "events"),
            events_count=sum(one.resource == "events" for one in written),
        )

    def usage(self) -> Usage:
        """What the operator has taken since it was started."""
        assert self.operator.process is not None
        return usage(self.operator.process.pid)

    def first_write_s(self) -> float:
        """From the start of an operator to its first write, a Service having been deleted meanwhile."""
        self.operator.stop()
        self.sandbox.delete("Service", NAME)
        mark, began_s = self.plane.audit.mark(), time.time()
        self.operator.start()
        first = self.sandbox.wait("a write", lambda: self.sandbox.writes("operator", mark))[0]
        return datetime.fromisoformat(first.at).timestamp() - began_s


def usage(pid: int) -> Usage:
    """What a process and its children have taken."""
    ticks, peak_kib, left = 0, 0, [pid]
    while left:
        folder = Path("/proc", str(left.pop()))
        ticks += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        peak_kib += int(status["VmHWM"].split()[0])
        for task in (folder / "task").iterdir():
            left += map(int, (task / "children").read_text().split())
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), peak_kib / 1024)


def run(bench: Bench) -> None:
    """All phases, each told as it ends."""
    arguments, sandbox, operator = bench.arguments, bench.sandbox, bench.operator
    groups: int = arguments.groups
    budget = {"maxUnavailable": arguments.unavailable, "maxSurge": arguments.surge}
    manifest = sets.lws(NAME, groups, arguments.size, budget=budget)
    touched = {"metadata": {"annotations": {"touched": "yes"}}}
    half = {"spec": {"replicas": max(1, groups // 2)}}
    print(
        f"{'':20} {'elapsed s':>10} {'processor s':>12} {'pods created':>13} {'writes':>7} {'a group':>8} "
        f"{'events':>7}"
    )

    def tell(name: str, act: Callable[[], object], count: int = groups, *, fresh: bool = False) -> Phase:
        phase = bench.phase(act, count, fresh=fresh)
        print(phase.row(name, groups), flush=True)
        return phase

    tell("created", lambda: sandbox.create(manifest))
    tell("annotation touched", lambda: sandbox.patch(names.KIND, NAME, touched))
    tell("operator restarted", operator.restart, fresh=True)
    rollout = tell("rolled out", lambda: sets.set_image(sandbox, NAME, "img:2"))
    tell("scaled to half", lambda: sandbox.patch(names.KIND, NAME, half), half["spec"]["replicas"])
    tell("scaled back", lambda: sandbox.patch(names.KIND, NAME, {"spec": {"replicas": groups}}))
    peak_mib = bench.usage().peak_mib
    print("\nwrites of the rollout, per group:")
    for (verb, resource, code), count in collections.Counter(map(_kind, rollout.writes)).most_common():
        print(f"  {verb} {resource}{code}: {count / groups:.2f}")
    print(f"\npeak of memory: {peak_mib:.0f} MiB")
    print(f"from the start to the first write: {bench.first_write_s():.2f} s")


def _kind(entry: Entry) -> tuple[str, str, str]:
    """A write's verb and resource, and why it was refused if it was."""
    part = f"/{entry.subresource}" if entry.subresource else ""
    return entry.verb, entry.resource + part, f", refused with {entry.code}" if entry.code >= 400 else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--groups", type=int, default=24)
    parser.add_argument("--size", type=int, default=2, help="pods in a group (default: 2)")
    parser.add_argument("--load", type=float, default=3.0, help="seconds a pod loads (default: 3)")
    parser.add_argument("--unavailable", type=int, default=2, help="maxUnavailable (default: 2)")
    parser.add_argument("--surge", type=int, default=2, help="maxSurge (default: 2)")
    parser.add_argument("--gate", action="store_true", help=f"with {GATE} on")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each phase (default: 600)")
    parser.add_argument("--settle", type=float, default=3.0, help="quiet seconds after a phase (default: 3)")
    arguments = parser.parse_args()
    try:
        programs = binaries.find()
    except binaries.Unavailable as problem:
        print(problem, file=sys.stderr)
        return 1
    crd = yaml.load(CRD.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    setup = Setup(crds=(crd,), gates={GATE: True} if arguments.gate else {})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lws-operating-")))
        plane = stack.enter_context(ControlPlane(folder, programs, setup))
        rights.grant(plane)
        stack.enter_context(Kubelet(plane.client("kubelet"), load_s=arguments.load, stop_s=0.0))
        operator = Operator(plane)
        stack.callback(operator.stop)
        operator.start()
        operator.register_webhooks()
        run(Bench(plane, operator, arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
