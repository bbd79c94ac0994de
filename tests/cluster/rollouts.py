"""Random rollouts of a set in a real cluster, each followed step by step by the model.

A seed gives a set, and what happens to it: edits in mid-flight, pods that become ready one by one in a random
order, that fall unready, restart, are evicted or deleted. What happened is recorded (recorder.py) and must be
permitted by the model (replay.py); where the cluster comes to rest the model must too, at the same place.
Where no way through the record is found, each write is only looked at by itself from there on (stepwise.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

import attrs
from client import Manifest, Refused
from control_plane import ControlPlane
from facets import apart, standing
from kubelet import Kubelet, Node
from recorder import Recorder
from replay import Moment, Permitted, Reader, Restless, State, begin, describe, replay, rest_of, settle
from sandbox import Sandbox, is_ready, is_terminating
from sets import lws, set_image, strategy
from stepwise import Follower, Unexplained, deletions

from lws_core import names
from lws_core.values import thaw
from lws_sim import scenario as script
from lws_sim.cluster.store import Object, name_of, with_meta
from lws_sim.deeds import Player, take
from lws_sim.world import World

NAME: Final = "serve"
_LOOKS: Final = 225  # until it must rest: for 90 s, and longer where each look takes its time
_QUIET_S: Final = 0.4
_STILL_S: Final = 4.0

Verdict = Literal["permitted", "stepwise", "refused", "disturbed"]


@attrs.frozen
class Record:
    """What happened between two rests, with the state before it, what there was then and at the end, and the
    deletions that the operator asked for (stepwise.py)."""

    state: State
    before: tuple[Object, ...]
    moments: tuple[Moment, ...]
    after: tuple[Object, ...]
    deleted: dict[str, str]

    def difference(self, moments: Iterable[Moment]) -> str:
        """What is not the model's if these had happened, each write looked at by itself; "" for nothing."""
        follower = Follower.since(self.state, self.before, self.deleted)
        try:
            follower.follow(moments)
        except Unexplained as problem:
            return str(problem)
        return follower.rest(iter(self.after))


@attrs.frozen
class Outcome:
    """What came of a rollout: `told` is what was done to it and what is wrong, `moments` the items of its
    record, `rests` how often it came to rest and was compared there. `permitted`: there is a way through all
    of it, and each write is the model's; `stepwise`: a way is known of its beginning only. `disturbed`: the
    record has a gap, or the cluster did not answer. `records`: up to the rests that a way leads to."""

    verdict: Verdict
    moments: int
    rests: int
    told: str
    records: tuple[Record, ...] = ()


class Different(Exception):
    """Model and cluster are not alike."""

    def __init__(self, verdict: Verdict, told: str) -> None:
        super().__init__(told)
        self.verdict = verdict


class Rollout:
    """One set in a namespace of its own."""

    def __init__(self, sandbox: Sandbox, kubelet: Kubelet, recorder: Recorder, *, gate: bool) -> None:
        self.sandbox, self.kubelet, self.recorder = sandbox, kubelet, recorder
        self.killed: set[str] = set()
        self.reader = Reader(self.killed)
        self.state: State = begin(gate)
        self.read = self.count = self.rests = 0
        self.moments: list[Moment] = []
        self.told: list[str] = []
        self.records: list[Record] = []
        self.rested: dict[str, Object] = {}  # what there was at the last rest
        self.follower: Follower | None = None

    def rest(self) -> None:
        """Return once both are at rest at the same place. Raises Different."""
        for _ in range(_LOOKS):
            problem = self._compare()
            if not problem:
                self.rests += 1
                return
            time.sleep(_QUIET_S)
        raise Different("refused", problem)

    def _compare(self) -> str:
        """What keeps model and cluster from resting alike, "" for nothing."""
        events = self.recorder.events(self.sandbox.name)
        if not self.recorder.is_up_to(self.sandbox.name):
            return "the cluster does not rest"
        if len(self.recorder.events(self.sandbox.name)) != len(events):
            return "the cluster does not rest"
        new = self.reader.read(events[self.read :])
        self.read, self.count = len(events), self.count + len(new)
        self.moments += new
        if self.follower is not None:
            return self._follow(self.follower, new)
        result = replay(self.state, self.moments)
        problem = self._settle(result.state) if isinstance(result, Permitted) else str(result)
        is_still = not new and time.monotonic() - events[-1].at_s > _STILL_S
        if isinstance(result, Permitted) and problem and is_still:
            # another way through the record may end where the cluster rests
            result = replay(self.state, self.moments, lambda end: not self._settle(end))
            problem = "" if isinstance(result, Permitted) else problem
        if not isinstance(result, Permitted) or (problem and is_still):
            self.told.append(f"stepwise, as {problem.partition(chr(10))[0]}")
            self.follower = Follower.since(self.state, self.rested.values(), {})
            return self._follow(self.follower, self.moments)
        return problem

    def _follow(self, follower: Follower, new: list[Moment]) -> str:
        follower.deleted = self._deletions()
        try:
            follower.follow(new)
        except Unexplained as problem:
            raise Different("refused", f"{problem}\n{describe(follower.state)}\n{self._recent()}") from None
        return follower.rest(iter(self.reader.objects.values()))

    def _deletions(self) -> dict[str, str]:
        return deletions(self.sandbox.writes())

    def _settle(self, end: State) -> str:
        """What keeps the model from resting where the cluster does. With "" for nothing it goes on there."""
        settled = settle(end)
        if isinstance(settled, Restless):
            return str(settled)
        if different := apart(rest_of(settled.world), standing(iter(self.reader.objects.values()))):
            return different
        before, after = tuple(self.rested.values()), tuple(self.reader.objects.values())
        record = Record(self.state, before, tuple(self.moments), after, self._deletions())
        if different := record.difference(record.moments):
            raise Different("refused", f"there is a way, but {different}")
        self.records.append(record)
        self.state, self.moments, self.rested = settled, [], dict(self.reader.objects)
        return ""

    def _recent(self) -> str:
        recent = self.moments[-40:]
        return "\n".join(["record:", *(f"  {moment.at_s:.3f} {moment.item}"[:200] for moment in recent)])

    # -- what happens to it

    def pods(self, which: Callable[[Manifest], bool]) -> list[str]:
        return [name for name, pod in self.sandbox.pods(NAME).items() if which(pod)]

    def kill(self, name: str) -> None:
        """Delete a pod, as somebody does."""
        pod = self.sandbox.get("Pod", name)
        if pod is not None and not is_terminating(pod):
            uid = pod["metadata"]["uid"]
            self.killed.add(uid)
            options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
            try:
                self.sandbox.client.request("DELETE", self.sandbox.path("Pod", name), options)
            except Refused:
                self.killed.discard(uid)


def _runs(pod: Manifest) -> bool:
    return bool(pod["status"].get("phase") == "Running" and not is_terminating(pod))


def _loads(pod: Manifest) -> bool:
    return _runs(pod) and not is_ready(pod)


def _shape(pick: random.Random) -> Manifest:
    unavailable = pick.choice((1, 1, 2, 3, "50%"))
    surge = pick.choice((0, 0, 1, 2, "34%"))
    replicas = pick.randint(2 if (unavailable, surge) == ("50%", 0) else 1, 5)  # one of both must be allowed
    more: dict[str, Any] = {}
    if pick.random() < 0.25:
        more["startupPolicy"] = "LeaderReady"
    template = {"restartPolicy": pick.choice(("RecreateGroupOnPodRestart",) * 3 + ("None",))}
    return lws(
        NAME,
        replicas,
        pick.randint(1, 3),
        pod={"terminationGracePeriodSeconds": pick.choice((1, 5, 30))},
        budget={"maxUnavailable": unavailable, "maxSurge": surge, "partition": pick.choice((0, 0, 0, 1, 2))},
        template=template,
        **more,
    )


def play(rollout: Rollout, pick: random.Random, deeds: int) -> None:
    """Bring a set up, do so many random things to it, let it come to rest, and delete it."""
    sandbox = rollout.sandbox
    made = _shape(pick)
    rollout.told.append(f"create {made['spec']}")
    sandbox.create(made)
    if pick.random() < 0.8:
        rollout.kubelet.release()
        rollout.rest()
    rollout.kubelet.manual = True
    images = iter(range(2, 1000))
    for _ in range(deeds):
        for told in _deed(rollout, pick, images):
            rollout.told.append(told)
        if pick.random() < 0.15:
            rollout.told.append("rest")
            rollout.rest()
        elif pick.random() < 0.5:
            time.sleep(pick.random() * 0.4)
    rollout.told.append("all load")
    rollout.kubelet.release()
    rollout.rest()
    rollout.told.append("delete")
    sandbox.delete(names.KIND, NAME, propagation=pick.choice(("Background", "Background", "Foreground")))
    rollout.rest()


_DEEDS: Final = (
    *("ready",) * 8, *("template",) * 3, *("scale",) * 2, "budget", "partition", *("fault",) * 2,
)  # fmt: skip


def _deed(rollout: Rollout, pick: random.Random, images: Iterator[int]) -> Iterator[str]:
    sandbox, kubelet = rollout.sandbox, rollout.kubelet
    match pick.choice(_DEEDS):
        case "ready":
            loading = rollout.pods(_loads)
            for name in pick.sample(loading, min(len(loading), pick.randint(1, 4))):
                if _tolerantly(lambda name=name: kubelet.make_ready(name)):
                    yield f"{name} ready"
        case "template":
            image = f"img:{next(images)}"
            set_image(sandbox, NAME, image)
            yield f"template {image}"
        case "scale":
            replicas = pick.randint(0, 6)
            sandbox.scale(names.KIND, NAME, replicas)
            yield f"scale {replicas}"
        case "budget":
            change = {"maxUnavailable": pick.randint(1, 3), "maxSurge": pick.randint(0, 2)}
            sandbox.patch(names.KIND, NAME, strategy(**change))
            yield str(change)
        case "partition":
            partition = pick.randint(0, 3)
            sandbox.patch(names.KIND, NAME, strategy(partition=partition))
            yield f"partition {partition}"
        case _:
            yield from _fault(rollout, pick)


def _fault(rollout: Rollout, pick: random.Random) -> Iterator[str]:
    running = rollout.pods(_runs)
    if not running:
        return
    name, kubelet = pick.choice(running), rollout.kubelet
    what = pick.choice(("unready", "restart", "evict", "delete"))
    act = {
        "unready": lambda: kubelet.make_unready(name),
        "restart": lambda: kubelet.restart_container(name),
        "evict": lambda: kubelet.evict(name),
        "delete": lambda: rollout.kill(name),
    }[what]
    if _tolerantly(act):
        yield f"{name} {what}"


def _tolerantly(act: Callable[[], None]) -> bool:
    """Whether it could be done: the pod may be gone by now."""
    try:
        act()
    except KeyError:
        return False
    return True


def play_script(rollout: Rollout, manifest: Object, steps: tuple[script.Step, ...]) -> None:
    """Bring a set up and do what a script says, each step once both rest."""
    namespace = rollout.sandbox.name
    placed = with_meta(manifest, namespace=namespace)
    player = Player(World(), placed)
    rollout.sandbox.apply(thaw(placed))
    rollout.kubelet.release()
    rollout.rest()
    rollout.kubelet.manual = True
    for step in steps:
        turns = [deed for deed in step.deeds if isinstance(deed, script.TurnReady)]
        edits = tuple(deed for deed in step.deeds if not isinstance(deed, script.TurnReady))
        if edits:
            player = attrs.evolve(take(player, script.Step(edits)), world=World())
            rollout.sandbox.apply(thaw(player.manifest))
        for deed in turns:
            for group in deed.groups:
                pods = rollout.kubelet.group(name_of(manifest), group)
                turn = rollout.kubelet.make_ready if deed.ready else rollout.kubelet.make_unready
                turn(*(pods if deed.ready else pods[:1]))
        rollout.rest()


def follow(plane: ControlPlane, recorder: Recorder, *, gate: bool, seed: int, deeds: int) -> Outcome:
    """One random rollout."""
    pick = random.Random(seed)
    return observe(plane, recorder, f"rollout-{seed}", gate, lambda rollout: play(rollout, pick, deeds))


def observe(
    plane: ControlPlane, recorder: Recorder, name: str, gate: bool, happen: Callable[[Rollout], None]
) -> Outcome:
    """What comes of what happens to a set in a namespace of its own."""
    plane.client().create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    sandbox = Sandbox(plane, name)
    nodes = [Node(f"{name}-a"), Node(f"{name}-b")]
    kubelet = Kubelet(plane.client("kubelet"), nodes, namespace=name, stop_s=0.2, manual=True)
    rollout = Rollout(sandbox, kubelet, recorder, gate=gate)
    verdict: Verdict = "permitted"
    problem = ""
    try:
        with kubelet:
            happen(rollout)
    except Different as different:
        verdict, problem = different.verdict, str(different)
    except (OSError, RuntimeError, AssertionError, TimeoutError, Refused) as trouble:
        verdict, problem = "disturbed", repr(trouble)
    sandbox.clear()
    recorder.forget(name)
    if verdict == "permitted" and rollout.follower is not None:
        verdict = "stepwise"
    told = "\n".join([f"{name}: {'; '.join(rollout.told)}", problem])
    return Outcome(verdict, rollout.count, rollout.rests, told, tuple(rollout.records))
