"""What simulating a rollout costs: seconds and memory of the command, from its start to its last line.

    python benchmarks/simulating.py

By default a set of 500 groups of 8 pods replaces all its groups, 50 missing and 25 extra at most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs
import yaml

EXAMPLE = Path(__file__).parents[1] / "examples" / "lws-rollout-strategy.yaml"


@attrs.frozen
class Cost:
    """Of one run: elapsed and processor seconds, and the peak of resident memory in MiB."""

    elapsed_s: float
    processor_s: float
    memory_mib: float
    pods_created: int


def measure(replicas: int, size: int, options: list[str]) -> Cost:
    """The cost of a simulation."""
    manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    manifest["spec"]["replicas"] = replicas
    manifest["spec"]["leaderWorkerTemplate"]["size"] = size
    budget = {"maxUnavailable": max(1, replicas // 10), "maxSurge": replicas // 20}
    manifest["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"] = budget
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder, "set.yaml"), Path(folder, "trace.json")
        file.write_text(yaml.safe_dump(manifest), encoding="utf-8")
        command = [sys.executable, "-m", "lws_runtime.cli", "simulate", str(file), "-o", "json", *options]
        began_s = time.perf_counter()
        with output.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream)
            _, status, usage = os.wait4(process.pid, 0)
        elapsed_s = time.perf_counter() - began_s
        assert status == 0
        (trace,) = json.loads(output.read_text(encoding="utf-8"))["items"]
    used_s = usage.ru_utime + usage.ru_stime
    return Cost(elapsed_s, used_s, usage.ru_maxrss / 1024, trace["summary"]["podsCreated"])


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
        cost = measure(replicas, arguments.size, ["--gate"] if arguments.gate else [])
        each_ms = cost.processor_s * 1000 / cost.pods_created
        print(
            f"{replicas:8,} {cost.pods_created:13,} {cost.elapsed_s:10.1f} {cost.processor_s:12.1f} "
            f"{cost.memory_mib:6.0f} {each_ms:9.1f}"
        )


if __name__ == "__main__":
    main()
