"""A trace as a picture: a lane for each group, time to the right, the counts beneath.

Colours differ in hue and in lightness, and what is not as it should be is hatched besides, so that nothing is
told by hue alone. The picture follows the reader's preference for light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from lws_sim.scenario import duration
from lws_sim.trace import Sample, Trace

from .lanes import STATES, Lane, State, end_of, lanes
from .words import title

WIDTH: Final = 960
_LEFT, _RIGHT, _TOP = 64, 84, 74
_PLOT: Final = WIDTH - _LEFT - _RIGHT
_LANES_HEIGHT: Final = 640.0  # of all lanes together, at most
_LANE_MOST, _LANE_LEAST = 22.0, 1.2
_CHART_HEIGHT: Final = 110
_MARK_ROW: Final = 15
_LINE_LENGTH: Final = 110  # so many characters find room beside each other, in a wide font too
_TITLE_LENGTH: Final = 85
_TITLE_ROW: Final = 24
_TITLE_LINE: Final = 18
_LABEL_GAP: Final = 13.0

STYLE: Final = """\
.lws{--ink:#1b2733;--faint:#5c6b7a;--line:#d5dce3;--paper:#fff;--old:#9fb6cd;--loading:#f2c14e;--new:#1b7f5c;\
--broken:#c8442b;--terminating:#6b4f8a;--stripe:#fff;font:12px system-ui,-apple-system,"Segoe UI",sans-serif}
@media (prefers-color-scheme:dark){.lws{--ink:#e6edf3;--faint:#9aa7b4;--line:#39434d;--paper:#0f1419;\
--old:#5d7891;--loading:#e0ac35;--new:#3fbf8f;--broken:#ff7a5c;--terminating:#b39ad6;--stripe:#0f1419}}
.lws text{fill:var(--ink)}.lws .faint{fill:var(--faint)}.lws .grid{stroke:var(--line);stroke-width:1}
.lws .paper{fill:var(--paper)}.lws .old{fill:var(--old)}.lws .new{fill:var(--new)}
.lws .loading{fill:var(--loading)}.lws .broken{fill:var(--broken)}.lws .terminating{fill:var(--terminating)}
.lws .stripe{stroke:var(--stripe);stroke-width:1.6;opacity:.75}.lws .line{fill:none;stroke-width:1.8}
.lws .ready{stroke:var(--new)}.lws .replicas{stroke:var(--ink);stroke-dasharray:5 3}
.lws .partition{stroke:var(--broken);stroke-dasharray:1.5 2.5}
.lws .event{stroke:var(--faint);stroke-width:1;stroke-dasharray:2 3}"""

_HATCHES: Final[dict[State, str]] = {"loading": "M0,6 l6,-6", "broken": "M0,0 l6,6 M0,6 l6,-6"}


def to_svg(trace: Trace, *, embedded: bool = False) -> str:
    """The picture as an SVG document. `embedded`: for a page that has STYLE already."""
    return "\n".join(_Picture(trace, embedded).lines()) + "\n"


class _Picture:
    """Where things are in one picture, in pixels."""

    def __init__(self, trace: Trace, embedded: bool) -> None:
        self._trace, self._embedded = trace, embedded
        self._lanes = lanes(trace)
        self._end_s = end_of(trace)
        self._groups = sum(lane.count for lane in self._lanes)
        room = _LANES_HEIGHT / max(self._groups, 1)
        self._lane = min(_LANE_MOST, max(_LANE_LEAST, room))
        self._gap = 3.0 if self._lane > 10 else 1.0 if self._lane > 5 else 0.0
        self._head = tuple(_in_lines([title(trace)], _TITLE_LENGTH))
        more = _TITLE_LINE * (len(self._head) - 1)
        self._raised = _TITLE_ROW if embedded else -more  # the page has the title
        texts = [f"{_numeral(index)} {mark.text}" for index, mark in enumerate(trace.marks)]
        self._words = tuple(_in_lines(texts, _LINE_LENGTH))
        self._top = _TOP - self._raised + _MARK_ROW * len(self._words)
        self._bottom = self._top + self._lane * self._groups
        self._chart_top = self._bottom + 30
        self._chart_bottom = self._chart_top + _CHART_HEIGHT

    def lines(self) -> Iterator[str]:
        height = self._chart_bottom + 34
        what = escape(f"Rollout of {title(self._trace)}")
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lws" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" height="{height:g}" role="img" aria-label="{what}">'
        )
        yield f"<title>{what}</title>"
        if not self._embedded:
            yield f"<style>{STYLE}</style>"
        yield "<defs>"
        for state, path in _HATCHES.items():
            yield (
                f'<pattern id="hatch-{state}" width="6" height="6" patternUnits="userSpaceOnUse">'
                f'<path class="stripe" d="{path}"/></pattern>'
            )
        yield "</defs>"
        yield f'<rect class="paper" width="{WIDTH}" height="{height:g}"/>'
        if not self._embedded:
            for number, line in enumerate(self._head):
                y = 20 + _TITLE_LINE * number
                yield f'<text x="{_LEFT}" y="{y}" font-weight="600" font-size="14">{escape(line)}</text>'
        yield from self._legend()
        yield from self._time_axis()
        for lane in self._lanes:
            yield from self._draw(lane)
        yield from self._lane_labels()
        yield from self._marks()
        yield from self._chart()
        yield "</svg>"

    def _x(self, at_s: float) -> float:
        return _LEFT + _PLOT * at_s / self._end_s

    def _legend(self) -> Iterator[str]:
        x = float(_LEFT)
        for state, words in STATES.items():
            yield from _box(state, x, 32 - self._raised, 16, 12)
            yield f'<text x="{x + 22:g}" y="{42 - self._raised}">{words}</text>'
            x += 34 + 6.6 * len(words)

    def _time_axis(self) -> Iterator[str]:
        step = _step(self._end_s)
        for index in range(math.floor(self._end_s / step) + 1):
            x = self._x(index * step)
            yield f'<path class="grid" d="M{x:.1f},{self._top:g} V{self._chart_bottom:g}"/>'
            text = duration(index * step)
            yield _faint(x, self._chart_bottom + 16, "middle", text)

    def _draw(self, lane: Lane) -> Iterator[str]:
        y, height = self._top + lane.first * self._lane, lane.count * self._lane - self._gap
        if lane.count > 1 and self._gap:  # keep the lanes of equal groups apart
            for index in range(lane.first, lane.last + 1):
                yield from self._draw(Lane(index, index, lane.segments))
            return
        for segment in lane.segments:
            left, right = self._x(segment.from_s), self._x(segment.to_s)
            which = f"R-{lane.first}" if lane.count == 1 else f"R-{lane.first}..{lane.last}"
            span = f"{duration(segment.from_s)} to {duration(segment.to_s)}"
            yield f"<g><title>{which}: {STATES[segment.state]}, {span}</title>"
            yield from _box(segment.state, left, y, max(right - left, 0.5), height)
            yield "</g>"

    def _lane_labels(self) -> Iterator[str]:
        every = max(1, math.ceil(_LABEL_GAP / self._lane))
        every = next(n for n in _round_numbers() if n >= every)
        for index in range(0, self._groups, every):
            y = self._top + index * self._lane + min(self._lane, _LANE_MOST) / 2 + 4 - self._gap / 2
            yield _faint(_LEFT - 8, y, "end", f"R-{index}")

    def _marks(self) -> Iterator[str]:
        """Numbered flags over the lanes; what they stand for is told over them, and on hovering."""
        last_x = -math.inf
        for index, mark in enumerate(self._trace.marks):
            x = self._x(mark.at_s)
            words = escape(mark.text)
            yield f'<path class="event" d="M{x:.1f},{self._top - 4:g} V{self._bottom:g}"/>'
            if x - last_x >= (15 if len(_numeral(index)) == 1 else 30):
                yield (
                    f'<text x="{x:.1f}" y="{self._top - 8:g}" text-anchor="middle">'
                    f"<title>{words}</title>{_numeral(index)}</text>"
                )
                last_x = x
        for number, line in enumerate(self._words):
            yield _faint(_LEFT, 62 - self._raised + number * _MARK_ROW, "start", escape(line))

    def _chart(self) -> Iterator[str]:
        """Leaders, ready groups and partition as steps over the same time."""
        samples = self._trace.samples
        most = max((max(s.replicas, s.ready, s.partition) for s in samples), default=1) or 1
        top, bottom = self._chart_top, self._chart_bottom

        def y(count: float) -> float:
            return bottom - (bottom - top) * count / most

        for count in (0, most):
            yield f'<path class="grid" d="M{_LEFT},{y(count):.1f} H{_LEFT + _PLOT}"/>'
            yield _faint(_LEFT - 8, y(count) + 4, "end", str(count))
        series: dict[str, Callable[[Sample], int]] = {
            "replicas": lambda sample: sample.replicas,
            "ready": lambda sample: sample.ready,
            "partition": lambda sample: sample.partition,
        }
        ends: list[float] = []
        for name, value in series.items():
            steps = [f"H{self._x(s.at_s):.1f} V{y(value(s)):.1f}" for s in samples]
            start = f"M{_LEFT},{y(value(samples[0])):.1f}" if samples else "M0,0"
            yield f'<path class="line {name}" d="{start} {" ".join(steps)} H{_LEFT + _PLOT}"/>'
            label = y(value(samples[-1])) + 4 if samples else bottom
            while any(abs(label - other) < _LABEL_GAP for other in ends):
                label -= _LABEL_GAP
            ends.append(label)
            right = _LEFT + _PLOT
            yield f'<path class="line {name}" d="M{right + 6},{label - 4:.1f} h14"/>'
            yield f'<text x="{right + 24}" y="{label:.1f}">{name}</text>'


def escape(text: str) -> str:
    """`text` as XML or HTML holds it, control characters left out."""
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, entity)
    return "".join(character for character in text if character.isprintable())


def _box(state: State, x: float, y: float, width: float, height: float) -> Iterator[str]:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    yield f'<rect class="{state}" {place}/>'
    if state in _HATCHES and height > 5:
        yield f'<rect fill="url(#hatch-{state})" {place}/>'


def _faint(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="faint" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _step(end_s: float) -> float:
    """Seconds between two ticks: a round number of seconds, minutes or hours, and at most eight ticks."""
    rounds = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    return next((step for step in rounds if end_s / step <= 8), 86400 * math.ceil(end_s / 86400 / 8))


def _round_numbers() -> Iterator[int]:
    factor = 1
    while True:
        yield from (factor, 2 * factor, 5 * factor)
        factor *= 10


def _numeral(index: int) -> str:
    return chr(0x2460 + index) if index < 20 else f"({index + 1})"


def _in_lines(texts: Iterable[str], most: int) -> Iterator[str]:
    """The texts in lines of `most` characters at most, each in one line if it can be."""
    line = ""
    for text in texts:
        if line and len(line) + 3 + len(text) > most:
            yield line
            line = ""
        line = f"{line}   {text}" if line else text
        while len(line) > most:
            end = line.rfind(" ", 1, most + 1)
            end = end if end > 0 else most
            yield line[:end]
            line = line[end:].strip()
    if line:
        yield line
