"""What a simulated rollout costs: seconds and memory of a process of its own.

    python benchmarks/simulating.py

By default a set of 500 groups of 8 pods replaces all its groups, 50 missing and 25 extra at most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path

import attrs
import yaml

from lws_core.defaulting import apply_defaults
from lws_core.values import freeze_map
from lws_sim.scenario import ChangeTemplate, Cluster, Step
from lws_sim.simulation import simulate

EXAMPLE = Path(__file__).parents[1] / "examples" / "lws-rollout-strategy.yaml"


@attrs.frozen
class Cost:
    """Of one run: elapsed and processor seconds, and the peak of resident memory in MiB."""

    elapsed_s: float
    processor_s: float
    memory_mib: float
    pods_created: int


def run(replicas: int, size: int, gate: bool, results: Connection) -> None:
    """Simulate, and send what it cost."""
    manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    manifest["metadata"]["namespace"] = "default"
    manifest["spec"]["replicas"] = replicas
    manifest["spec"]["leaderWorkerTemplate"]["size"] = size
    budget = {"maxUnavailable": max(1, replicas // 10), "maxSurge": replicas // 20}
    manifest["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"] = budget
    began_s, used_s = time.perf_counter(), time.process_time()
    complete = apply_defaults(freeze_map(manifest))
    trace = simulate(complete, (Step((ChangeTemplate(),)),), Cluster(gate=gate))
    elapsed_s, processor_s = time.perf_counter() - began_s, time.process_time() - used_s
    assert trace.summary.finished
    assert not trace.summary.violations
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.send(Cost(elapsed_s, processor_s, memory_mib, trace.summary.pods_created))


def measure(replicas: int, size: int, gate: bool) -> Cost:
    """The cost of a simulation in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run, args=(replicas, size, gate, theirs))
    process.start()
    cost: Cost = ours.recv()
    process.join()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--gate", action="store_true", help="with MaxUnavailableStatefulSet on")
    arguments = parser.parse_args()
    print(
        f"{'groups':>8} {'pods created':>13} {'elapsed s':>10} {'processor s':>12} {'MiB':>6} {'ms a pod':>9}"
    )
    for replicas in arguments.groups:
        cost = measure(replicas, arguments.size, arguments.gate)
        each_ms = cost.processor_s * 1000 / cost.pods_created
        print(
            f"{replicas:8,} {cost.pods_created:13,} {cost.elapsed_s:10.1f} {cost.processor_s:12.1f} "
            f"{cost.memory_mib:6.0f} {each_ms:9.1f}"
        )


if __name__ == "__main__":
    main()
