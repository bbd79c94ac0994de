"""Rules of a whole run, for scenarios that are `strict`; judging.py has those of single writes.

- floor: while nothing has failed, as many groups are really ready as every spec since the last rest demanded.
- twice: no request is sent while an equal one is not answered.
- storm: the operator never sends requests without a pause for more than some seconds.
- silence: at the goal, three more looks at later times send nothing.
- end: what is left at the goal is what a set has that was just brought up, nothing more and nothing less.

Harm is what may bring groups down without the operator: failures of pods and nodes, objects changed or
deleted by hand, pods that load slowly. It is over once the set is at its goal and at rest; slow pods may come
back, so after them the floor is not judged any more. Harm are also
- scaling down before the set rests: its upper groups go at once, and where too few updated ones stay, the
  others may all be in replacement. While a group is outdated surge is among those that stay.
- the restart policy None that ends: what has happened meanwhile to groups of another policy counts then.
"""

from __future__ import annotations

from typing import Final

import attrs

from lws_core.actions import Emit
from lws_core.answers import action_key
from lws_core.spec import Spec
from lws_core.values import evolve

from . import scenario as script
from . import world as cluster
from .census import Standing
from .ends import differences, end_of, without_keys
from .faults import NO_FAULTS, perform, possible
from .judging import Violation, limits_of
from .world import World

LATER_S: Final = (1.0, 100.0, 10_000.0)
"""When a set at rest is looked at again, in seconds: nothing may be sent then."""

_MOST_TOLD: Final = 3
_HARMLESS: Final = (
    script.SetField | script.Become | script.Revert | script.Scale | script.RestartOperator
    | script.FailRequests | script.HoldWatch | script.AddNodes
)  # fmt: skip


@attrs.define
class Strictness:
    """What a strict run has seen so far: whether the set is at rest, or harm was done since it was, and what
    the specs since then demanded. `pending`: harm was done that the restart policy None has left alone."""

    floor: int = 0
    resting: bool = True
    harmed: bool = False
    slow: bool = False
    pending: bool = False
    alone: bool = False
    renamed: bool = False

    def note_deeds(self, deeds: tuple[script.Deed, ...], spec: Spec, standing: Standing) -> None:
        """Something was done to the set, which stands so, and has this spec from now on."""
        limits = limits_of(spec)
        is_rolling = bool({"o", "x", "t"} & {*standing.groups[: spec.replicas]})
        staying = limits.ceiling if is_rolling else spec.replicas
        cut = standing.replicas > staying and standing.groups[:staying].count("n") < limits.floor
        harm = not all(map(_is_harmless, deeds))
        was_alone, self.alone = self.alone, _is_alone(spec)
        back = self.pending and was_alone and not self.alone and bool({"o", "x"} & {*standing.groups})
        self.slow |= any(map(_is_slow, deeds))
        self.pending |= harm
        self.renamed |= any(map(_deletes_revision, deeds))
        self.harmed |= harm or back or (cut and not self.resting)
        self.floor = min(self.floor, limits.floor)
        self.resting = False

    def note_rest(self, spec: Spec) -> None:
        """The set is at its goal and at rest: what was harmed has healed."""
        self.resting, self.harmed, self.floor = True, False, limits_of(spec).floor
        self.alone = _is_alone(spec)
        self.pending &= self.alone

    def judge_ready(self, ready_count: int) -> list[Violation]:
        """What is wrong with that many groups being ready."""
        if self.harmed or self.slow or ready_count >= self.floor:
            return []
        text = f"{ready_count} groups are ready of {self.floor} needed, and nothing has failed"
        return [Violation("floor", text)]


def judge_requests(world: World) -> list[Violation]:
    """What is wrong with the requests that are under way."""
    keys = [action_key(send.action) for send in world.sends if not isinstance(send.action, Emit)]
    twice = dict.fromkeys(key for key in keys if keys.count(key) > 1)
    return [Violation("twice", f"{key} is sent again before it is answered") for key in twice]


def judge_silence(world: World, owner: str) -> list[Violation]:
    """What is wrong with a set at its goal that is looked at again."""
    for later_s in LATER_S:
        world = cluster.advance(world, world.now_s + later_s)
        known = world.controllers[owner]
        world = evolve(
            world, controllers=world.controllers.with_(owner, evolve(known, unlooked=True, wake_at_s=None))
        )
        while (task := next(possible(world, NO_FAULTS), None)) is not None:
            world, _ = perform(world, task, NO_FAULTS)
            if world.sends:
                text = f"at rest since {later_s:g} s it sends {_first_request(world)}"
                return [Violation("silence", text)]
    return []


def _first_request(world: World) -> str:
    action = world.sends[0].action
    return f"an event: {action.event.note}" if isinstance(action, Emit) else action_key(action)


def judge_end(world: World, fresh: World, *, renamed: bool = False) -> list[Violation]:
    """What is wrong with what a run left, against a cluster in which the same set was just brought up.
    `renamed`: a revision was deleted by hand, so that the same content may come under another key."""
    left, wanted = end_of(world), end_of(fresh)
    found = differences(without_keys(left), without_keys(wanted)) if renamed else differences(left, wanted)
    if not found:
        return []
    more = f" and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
    return [Violation("end", f"{'; '.join(found[:_MOST_TOLD])}{more}")]


def _is_alone(spec: Spec) -> bool:
    return spec.leader_worker_template.restart_policy == "None"


def _is_harmless(deed: script.Deed) -> bool:
    return isinstance(deed, _HARMLESS | script.ChangeTemplate) or (
        isinstance(deed, script.TurnReady) and deed.ready
    )


def _deletes_revision(deed: script.Deed) -> bool:
    return isinstance(deed, script.DeleteObject) and any(
        target.kind == "ControllerRevision" for target in deed.targets
    )


def _is_slow(deed: script.Deed) -> bool:
    return isinstance(deed, script.SlowLoad) or (
        isinstance(deed, script.ChangeTemplate) and deed.load_s is not None
    )
