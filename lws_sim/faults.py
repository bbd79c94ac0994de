"""What goes wrong between the operator and the API server: requests that fail, and watches that lag.

Flow: `possible` gives the tasks of a world that the faults let happen, `perform` does one of them and uses up
the fault that it met. Without faults both are the world's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from lws_core.actions import Emit
from lws_core.sights import Outcome
from lws_core.values import evolve

from . import world as cluster
from .cluster.store import Change
from .scenario import LOST, REPEATED, UNSENT
from .world import World


@attrs.frozen
class Faults:
    """What becomes of the next requests, in their order, and the kinds whose watch shows nothing."""

    answers: tuple[int | str, ...] = ()
    held: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Whether anything may still go wrong."""
        return bool(self.answers or self.held)


NO_FAULTS: Final = Faults()


def possible(world: World, faults: Faults) -> Iterator[cluster.Task]:
    """What could be done now, as `world.tasks`, but for watches that are held."""
    for task in cluster.tasks(world):
        if isinstance(task, cluster.Deliver) and not _shown(world, task, faults):
            continue
        yield task


def perform(world: World, task: cluster.Task, faults: Faults) -> tuple[World, Faults]:
    """The world after one task, and the faults that are left."""
    match task:
        case cluster.Deliver() if faults.held:
            return _deliver(world, task, faults), faults
        case cluster.Send(_, action) if faults.answers and not isinstance(action, Emit):
            answer, left = faults.answers[0], attrs.evolve(faults, answers=faults.answers[1:])
            return _fail(world, task, answer), left
        case _:
            return cluster.perform(world, task), faults


def _shown(world: World, task: cluster.Deliver, faults: Faults) -> tuple[Change, ...]:
    inbox = world.controllers[task.owner].inbox
    return tuple([change for change in inbox if change.object["kind"] not in faults.held])


def _deliver(world: World, task: cluster.Deliver, faults: Faults) -> World:
    """Each kind has a watch of its own: those that are not held show all that they have."""
    known = world.controllers[task.owner]
    kept = tuple([change for change in known.inbox if change.object["kind"] in faults.held])
    shown = evolve(known, inbox=_shown(world, task, faults))
    world = cluster.deliver(evolve(world, controllers=world.controllers.with_(task.owner, shown)), task.owner)
    known = evolve(world.controllers[task.owner], inbox=kept)
    return evolve(world, controllers=world.controllers.with_(task.owner, known))


def _fail(world: World, task: cluster.Send, answer: int | str) -> World:
    owner, action = task.owner, task.action
    if answer == REPEATED:
        once, _ = cluster.carry_out(world, owner, action)
        return cluster.perform(once, task)
    if answer == LOST:
        sends = list(world.sends)
        sends.remove(task)
        world, _ = cluster.carry_out(evolve(world, sends=tuple(sends)), owner, action)
        return cluster.answer(world, owner, action, Outcome(0))
    code = 0 if answer == UNSENT else int(answer)
    return cluster.perform(world, task, lambda _: Outcome(code, message="injected by the scenario"))
