"""Numbers and summaries in words, the same in every form of output."""

from __future__ import annotations

from lws_sim.scenario import duration
from lws_sim.trace import Trace


def summary_lines(trace: Trace) -> tuple[str, ...]:
    """What the run comes to, a sentence a line."""
    summary = trace.summary
    took = duration(summary.duration_s)
    if summary.duration_loads is not None:
        loads = f"{summary.duration_loads:.3g}"
        took += f" ({loads} load time{'' if loads == '1' else 's'})"
    lines = [f"Finished after {took}." if summary.finished else f"Did not finish; last change after {took}."]
    if summary.blocked_by:
        lines.append(f"Blocked: {summary.blocked_by}.")
    lines += [f"Breaks the rule {broken.rule}: {broken.text}." for broken in summary.violations]
    failed = "; failures, or going on without broken groups, brought it lower"
    if summary.lowest_ready >= summary.floor:
        failed = ""
    lines.append(f"Ready groups: {summary.lowest_ready} at least; the budget allows {summary.floor}{failed}.")
    lines.append(f"Pods: {summary.highest_pods} at most, {summary.pods_created} created.")
    if summary.accelerators:
        most = ", ".join(f"{count} {name}" for name, count in summary.accelerators.items())
        lines.append(f"Accelerators: {most} at most.")
    return tuple(lines)


def title(trace: Trace) -> str:
    """The set that a trace is of, and its strategy."""
    return f"{trace.namespace}/{trace.name}: {trace.strategy}"
