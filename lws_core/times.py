"""Times on the wire and in decisions: RFC 3339 text, and seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def epoch_s(text: object) -> float | None:
    """An RFC 3339 time as seconds since the epoch (UTC where it names no zone); None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as Kubernetes writes a time: UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """The same with microseconds, as events and leases have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
