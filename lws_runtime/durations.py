"""Durations as Go writes them: `15s`, `1m30s`, `100ms`, `1.5h`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_PART: Final = re.compile(
    r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII
)  # both letters for micro
_NANOSECONDS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_LONGEST_NS: Final = 2**63 - 1
_LONGEST_TEXT: Final = 100


def parse_duration(text: str) -> float:
    """The seconds in a duration, read as Go's time.ParseDuration reads it.

    Raises ValueError for anything else, and for more than Go can count (292 years).
    """
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total = Fraction(0)
    position = 0
    while position < len(rest) <= _LONGEST_TEXT:
        part = _PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            break
        total += Fraction(f"{part[1] or 0}.{part[2] or 0}") * _NANOSECONDS[part[3]]
        position = part.end()
    if not rest or position < len(rest) or total > _LONGEST_NS:
        raise ValueError('must be a duration such as "15s", "1m30s" or "100ms"')
    return sign * float(total / 10**9)
