"""Two operators split from each other: the leader is stopped in the middle of a rollout until its lease is
over and another has done the work, and then goes on.

Each has a proxy of its own, which marks its requests in the audit log. What the one that was stopped sends
after it goes on can only be what had passed its last look at the lease before it was stopped. Preconditions
must refuse it; an object that it makes must go again, as it belongs to a pod that has ended.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from audit import Entry
from lives import Life, NoFaults
from operator_process import Operator
from proxy import Proxy
from stage import Stage, wait_until

_TIMES: Final = {"leaseDuration": "6s", "renewDeadline": "5s", "retryPeriod": "500ms"}
_MOST_TURNS: Final = 3
_LONGEST_PAUSE_S: Final = 2.0
_PATIENCE_S: Final = 120.0
_QUIET_S: Final = 1.0


class Stops(Life):
    """A set that is rolled out again and again, its leading operator stopped each time."""

    def __init__(self, stage: Stage, name: str, seed: int, stops: int) -> None:
        # on a slow machine a renewal comes late, and the operator ends
        super().__init__(stage, name, "Shared", NoFaults(), (), may_end=True)
        self._chance = random.Random(seed)
        self._wanted = stops
        self.stops = 0
        self.late: list[Entry] = []
        """What was sent after going on."""

    def live(self) -> None:
        with ExitStack() as stack:
            leader = self._replica(stack, 0)
            self._operator = leader[0]
            self._operator.launch()
            self._change({})
            self._reach("create", self._rests)
            heir = self._replica(stack, 1)
            heir[0].launch()
            for turn in range(_MOST_TURNS * self._wanted):
                self._stop(turn, *leader, *heir)
                if self.stops == self._wanted:  # one whose leader had ended by then shows nothing
                    break
                leader, heir = heir, self._replica(stack, turn + 2)
                heir[0].launch()

    def _replica(self, stack: ExitStack, number: int) -> tuple[Operator, Proxy]:
        proxy = stack.enter_context(Proxy(self.stage.plane, f"{self.name}-{number}"))
        election: dict[str, Any] = {"leaderElect": True, "resourceName": f"lease-of-{self.name}", **_TIMES}
        operator = self._new_operator(proxy, {"leaderElection": election})
        stack.callback(operator.kill)
        return operator, proxy

    def _stop(self, turn: int, leader: Operator, of_leader: Proxy, heir: Operator, _: Proxy) -> None:
        self._change({"image": f"img:{turn + 2}"})
        time.sleep(self._chance.uniform(0.0, _LONGEST_PAUSE_S))
        assert leader.process is not None
        leads = leader.process.exit_code is None and _leads(leader)
        leader.freeze()
        self._operator = heir
        if leads:
            self._reach(f"turn {turn}: the other leads", lambda: _leads(heir))
        self._reach(f"turn {turn}", self._rests)
        self._reach(f"turn {turn}: nothing is written any more", self._is_quiet)
        sent = len(of_leader.asked)
        mark = self.stage.plane.audit.mark()
        leader.thaw()
        process = leader.process
        if leads and not wait_until(lambda: process.exit_code is not None, _PATIENCE_S):
            self.wrong.append(f"turn {turn}: it leads on after its lease\n{leader.tail()}")
        ids = {one.id for one in of_leader.asked[sent:] if one.writes}
        late = [one for one in self._entries(mark) if one.id in ids]
        self.late += late
        for one in late:
            if one.code < 300 and one.verb != "create":
                self.wrong.append(f"turn {turn}: carried out after the lease: {one}")
        self._reach(f"after turn {turn}", self._rests)  # what was made too late had a dead owner
        self.stops += leads

    def _is_quiet(self) -> bool:
        mark = self.stage.plane.audit.mark()
        time.sleep(_QUIET_S)
        return not self._sandbox.writes("operator", mark)

    def _entries(self, since: int) -> Iterator[Entry]:
        return self.stage.plane.audit.entries(since, self.name)


def _leads(operator: Operator) -> bool:
    """Whether it has the lease since it was last started, by its log."""
    log = operator.tail(100_000)
    return log.rfind('"leading as ') > log.rfind('"connected"')
