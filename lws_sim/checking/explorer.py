"""Goes through all that can happen to a small set, breadth first, and checks every state and every move.

Safety holds in each state and for each move; the way to a state that breaks it is the shortest there is.
Liveness is judged once nothing new is found: from every state the goal can still be reached by what goes on
by itself; a state in which nothing goes on is the goal, is silent, and is the same whatever went before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import attrs

from lws_core import controller
from lws_core.memory import Memory
from lws_sim.cluster.store import Object
from lws_sim.ends import differences, end_of
from lws_sim.strictness import LATER_S

from . import truth
from .model import Label, Model, Move, State, kind_of

MOST_STATES: Final = 10**9  # more than any memory holds
MOST_STEPS: Final = 10_000
_REPORT_EVERY: Final = 500


@attrs.frozen
class Finding:
    """Something that must not be. check: the rule's name; trace: the moves that lead there from the start."""

    check: str
    text: str
    trace: tuple[Label, ...]


@attrs.frozen
class Report:
    """What an exploration found. complete: everything that can happen was looked at. moves: how many of each
    kind; most_writes: of the controller on one way from the start to an end, None where there are endless
    ways; ends: states in which nothing goes on."""

    states: int
    clusters: int
    memories: int
    moves: dict[str, int]
    ends: int
    complete: bool
    most_writes: int | None
    finding: Finding | None


class _Edge(NamedTuple):
    source: int
    target: int
    writes: int


class Explorer:
    """One exploration of a model from a state. `keeps_floor`: there all groups are ready, so that the budget
    can be told from what really stands."""

    def __init__(self, model: Model, start: State, *, keeps_floor: bool) -> None:
        self._model = model
        self._most_faults = start.faults
        self._places: dict[State, int] = {start: 0}
        self._states = [start]
        self._came: list[tuple[int, Label]] = [(-1, ())]
        self._edges: list[_Edge] = []
        self._counts: dict[str, int] = {}
        self._ends: list[int] = []
        self._judged: dict[int, str] = {}
        self._keeps_floor = keeps_floor

    def run(self, limit: int = MOST_STATES, tell: Callable[[int, int], None] | None = None) -> Report:
        """Explore until nothing is left, `limit` states are known, or something is wrong. `tell` is told now
        and then how many states are known, and how many of them have been gone through."""
        done = 0
        while done < len(self._states):
            if len(self._states) > limit:
                return self._report(None, complete=False)
            finding = self._go_through(done)
            if finding is not None:
                return self._report(finding, complete=False)
            done += 1
            if tell is not None and done % _REPORT_EVERY == 0:
                tell(len(self._states), done)
        return self._report(self._liveness(), complete=True)

    def so_far(self) -> Report:
        """What an exploration that was interrupted has found."""
        return self._report(None, complete=False)

    def follow(self, trace: tuple[Label, ...]) -> Finding | None:
        """What is wrong on one way, or after it if things go on by themselves from there."""
        place = 0
        for number, move in enumerate(replay(self._model, self._states[0], trace)):
            problem = self._wrong_in(self._states[place]) or _wrong_with(move)
            if problem:
                return Finding(*problem, trace[: number + 1])
            self._states.append(move.after)
            self._came.append((place, move.label))
            place += 1
        last = Explorer(self._model, self._states[place]._replace(faults=0), keeps_floor=False)
        problem = self._wrong_in(self._states[place])
        found = Finding(*problem, trace) if problem else last.run().finding or self._other_end(trace)
        return None if found is None else attrs.evolve(found, trace=trace)

    def _other_end(self, trace: tuple[Label, ...]) -> Finding | None:
        """Whether the way ends elsewhere than its edits alone do."""
        state, calm = rest(self._model, self._states[-1]), rest(self._model, self._states[0])
        for label in trace:
            if label[0] == "edit":
                move = next(move for move in self._model.moves(calm) if move.label == label)
                calm = rest(self._model, move.after)
        here, there = self._model.world(state), self._model.world(calm)
        if not self._model.drafts[state.draft].has_one_end or truth.stuck_pods(here.store):
            return None
        told = differences(end_of(here), end_of(there))
        text = f"{'; '.join(told)}: another end than that of the edits alone"
        return Finding("one end", text, trace) if told else None

    def _report(self, finding: Finding | None, *, complete: bool) -> Report:
        clusters, memories = self._model.sizes
        return Report(
            len(self._states),
            clusters,
            memories,
            dict(sorted(self._counts.items())),
            len(self._ends),
            complete,
            self._most_writes() if complete and finding is None else None,
            finding,
        )

    def _go_through(self, place: int) -> Finding | None:
        state = self._states[place]
        problem = self._wrong_in(state)
        if problem:
            return Finding(*problem, self._trace(place))
        goes_on = False
        for move in self._model.moves(state):
            kind = kind_of(move)
            self._counts[kind] = self._counts.get(kind, 0) + 1
            problem = _wrong_with(move)
            if problem:
                return Finding(*problem, (*self._trace(place), move.label))
            target = self._places.get(move.after)
            if target is None:
                target = self._places[move.after] = len(self._states)
                self._states.append(move.after)
                self._came.append((place, move.label))
            if move.kind == "step":
                goes_on = True
                self._edges.append(_Edge(place, target, move.writes))
        if not goes_on:
            self._ends.append(place)
        return None

    def _trace(self, place: int) -> tuple[Label, ...]:
        moves = []
        while place:
            place, move = self._came[place]
            moves.append(move)
        return tuple(reversed(moves))

    # -- safety

    def _wrong_in(self, state: State) -> tuple[str, str] | None:
        """What no state may show. Cost: once for each cluster."""
        key = state.cluster
        if key not in self._judged:
            store, name = self._model.world(state).store, self._model.name
            self._judged[key] = truth.mixed(store, name)
        if self._judged[key]:
            return "one revision in a group", self._judged[key]
        floor = self._model.drafts[state.draft].floor
        if floor is not None and self._keeps_floor and not state.harmed:
            ready = self._model.ready(state)
            if len(ready) < floor:
                return "floor", f"groups {sorted(ready)} are ready, {floor} are needed"
        return None

    # -- liveness

    def _liveness(self) -> Finding | None:
        good: list[int] = []
        signatures: dict[Object, tuple[int, dict[str, Any]]] = {}
        quiet: set[int] = set()
        for place in self._ends:
            state = self._states[place]
            store = self._model.world(state).store
            draft = self._model.drafts[state.draft]
            lacks = truth.unfinished(store, self._model.name, self._model.namespace, draft.kept)
            owed = any(debt.sure > 0 for debt in state.owed)
            if owed and self._most_faults == 1:  # two failures may be one recreation
                lacks = "a member has ended, and its group goes on"
            if lacks:
                return Finding("goal", f"nothing goes on, but {lacks}", self._trace(place))
            noise = self._noise(self._model.memory(state), state.now_s)
            if not noise and state.cluster not in quiet:
                noise = self._noise_of_a_start(state)
                quiet.add(state.cluster)
            if noise:
                return Finding("silence", noise, self._trace(place))
            if draft.has_one_end and not truth.stuck_pods(store):
                end = end_of(self._model.world(state))
                other, seen = signatures.setdefault(draft.manifest, (place, end))
                if seen != end:
                    text = (
                        f"{'; '.join(differences(end, seen))}: another end than that of {self._trace(other)}"
                    )
                    return Finding("one end", text, self._trace(place))
            good.append(place)
        stuck = self._cannot_reach(good)
        if stuck is not None:
            return Finding("goal", "the goal cannot be reached any more", self._trace(stuck))
        return None

    def _noise_of_a_start(self, state: State) -> str:
        """What a controller that starts where nothing goes on writes. Judged once for each cluster."""
        if truth.stuck_pods(self._model.world(state).store):
            return ""  # it waits for them anew, and may go on without them then
        noise = self._noise(self._model.started(state), state.now_s, (0.0, *LATER_S))
        return f"an operator that starts writes {noise}" if noise else ""

    def _noise(self, memory: Memory, now_s: float, later: tuple[float, ...] = LATER_S) -> str:
        """What a controller that has nothing to do still writes, in three more looks."""
        for later_s in later:
            looked = controller.look(memory, now_s + later_s)
            if any(self._model.is_write(action) for action in looked.actions):
                words = ", ".join(type(action).__name__ for action in looked.actions)
                return f"{words} {later_s:g} s after everything had come to rest"
            memory = looked.memory
        return ""

    def _cannot_reach(self, good: list[int]) -> int | None:
        """A state from which none of these can be reached by what goes on by itself."""
        first, following = [-1] * len(self._states), []
        for number, edge in enumerate(self._edges):
            following.append(first[edge.target])
            first[edge.target] = number
        reached = [False] * len(self._states)
        for place in good:
            reached[place] = True
        left = list(good)
        while left:
            number = first[left.pop()]
            while number != -1:
                source = self._edges[number].source
                if not reached[source]:
                    reached[source] = True
                    left.append(source)
                number = following[number]
        return next((place for place, found in enumerate(reached) if not found), None)

    def _most_writes(self) -> int | None:
        """The most writes on any way by which things go on by themselves; None where a way has no end."""
        following: list[list[tuple[int, int]]] = [[] for _ in self._states]
        waiting = [0] * len(self._states)
        for source, target, writes in self._edges:
            following[source].append((target, writes))
            waiting[target] += 1
        most = [0] * len(self._states)
        ready = [place for place, count in enumerate(waiting) if not count]
        done = 0
        while ready:
            place = ready.pop()
            done += 1
            for target, writes in following[place]:
                most[target] = max(most[target], most[place] + writes)
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
        return max(most) if done == len(most) else None


def at_rest(model: Model, faults: int) -> State:
    """The set of a model after it was created and has come to rest, the same way each time."""
    return rest(model, model.first(faults))


def rest(model: Model, state: State) -> State:
    """The state after all that goes on by itself is over, the same way each time. Raises ValueError where it
    is not within some ten thousand steps: no small set needs as many."""
    for _ in range(MOST_STEPS):
        move = next((move for move in model.moves(state) if move.kind == "step"), None)
        if move is None:
            return state
        state = move.after
    raise ValueError(f"it has not come to rest after {MOST_STEPS:,} steps")


def _wrong_with(move: Move) -> tuple[str, str] | None:
    if move.violations:
        return move.violations[0].rule, move.violations[0].text
    if any(debt.sure < 0 for debt in move.after.owed):
        return "one recreation for a failure", "a group is recreated without a failure of its own"
    return None


def replay(model: Model, start: State, trace: tuple[Label, ...]) -> Iterator[Move]:
    """The moves of a trace, one after another. Raises ValueError where one of them cannot happen."""
    state = start
    for number, wanted in enumerate(trace, 1):
        move = next((move for move in model.moves(state) if move.label == wanted), None)
        if move is None:
            raise ValueError(f"move {number}, {': '.join(wanted)}, cannot happen here")
        yield move
        state = move.after
