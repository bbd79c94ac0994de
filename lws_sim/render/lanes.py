"""What a picture of a rollout shows, before it is drawn: for each group, from when to when it was what."""

from __future__ import annotations

from itertools import groupby
from typing import Final, Literal

import attrs

from lws_sim.trace import Sample, Trace

State = Literal["old", "broken", "loading", "new", "terminating"]
STATES: Final[dict[State, str]] = {
    "old": "older, ready",
    "loading": "loading",
    "new": "up to date, ready",
    "broken": "fell unready",
    "terminating": "terminating",
}
"""Each state, and what a legend says of it."""

_OF_LETTER: Final[dict[str, State]] = {
    "n": "new",
    "l": "loading",
    "o": "old",
    "x": "broken",
    "t": "terminating",
}


@attrs.frozen
class Segment:
    """A state that a group was in, from one second to another."""

    state: State
    from_s: float
    to_s: float


@attrs.frozen
class Lane:
    """Groups `first` to `last`, which were in the same states at the same times."""

    first: int
    last: int
    segments: tuple[Segment, ...]

    @property
    def count(self) -> int:
        """How many groups."""
        return self.last - self.first + 1


def lanes(trace: Trace) -> tuple[Lane, ...]:
    """The groups of a trace by index, neighbours with the same course as one."""
    end_s = end_of(trace)
    width = max((len(sample.groups) for sample in trace.samples), default=0)
    courses = [_course(trace.samples, index, end_s) for index in range(width)]
    found, first = [], 0
    for course, run in groupby(courses):
        count = len(list(run))
        found.append(Lane(first, first + count - 1, course))
        first += count
    return tuple(found)


def end_of(trace: Trace) -> float:
    """Where the picture ends, in seconds: a little after the last change, so that the end can be seen."""
    last_s = max((sample.at_s for sample in trace.samples), default=0.0)
    return last_s * 1.04 if last_s > 0 else 1.0


def _course(samples: tuple[Sample, ...], index: int, end_s: float) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for sample, following in zip(samples, (*samples[1:], None), strict=True):
        letter = sample.groups[index : index + 1]
        until_s = end_s if following is None else following.at_s
        if letter not in _OF_LETTER or until_s <= sample.at_s:
            continue
        state = _OF_LETTER[letter]
        last = segments[-1] if segments and segments[-1].to_s == sample.at_s else None
        if state == "loading" and last is not None and last.state in ("new", "broken"):
            state = "broken"  # the same leader was ready before
        if last is not None and last.state == state:
            segments[-1] = attrs.evolve(last, to_s=until_s)
        else:
            segments.append(Segment(state, sample.at_s, until_s))
    return tuple(segments)
