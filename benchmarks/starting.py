"""How long commands take from a cold start: a process of its own each time, imports included.

    python benchmarks/starting.py

Medians of several runs: elapsed and processor seconds, and the latter as a multiple of what a bare
interpreter's own start takes.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LWS = [sys.executable, "-m", "lws_runtime.cli"]
COMMANDS: dict[str, list[str]] = {
    "python": [sys.executable, "-c", ""],
    "lws --help": [*LWS, "--help"],
    "lws validate": [*LWS, "validate", "examples/lws.yaml"],
    "the guide's table": [
        *LWS, "simulate", "examples/lws-rollout-strategy.yaml",
        "--scenario", "examples/scenarios/guide-stages.yaml",
    ],
}  # fmt: skip


def medians_s(command: list[str], times: int) -> tuple[float, float]:
    """The median times that a command takes, elapsed and of the processor, in seconds."""
    elapsed, used = [], []
    for _ in range(times):
        began_s, before_s = time.perf_counter(), processor_s()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        elapsed.append(time.perf_counter() - began_s)
        used.append(processor_s() - before_s)
    return statistics.median(elapsed), statistics.median(used)


def processor_s() -> float:
    """What all ended child processes have taken."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=10, help="runs of which the median is told")
    times: int = parser.parse_args().times
    bare_s = 0.0
    print(f"{'':20} {'elapsed s':>10} {'processor s':>12} {'ratio':>6}")
    for name, command in COMMANDS.items():
        elapsed_s, used_s = medians_s(command, times)
        bare_s = bare_s or used_s
        print(f"{name:20} {elapsed_s:10.2f} {used_s:12.2f} {used_s / bare_s:6.1f}")


if __name__ == "__main__":
    main()
