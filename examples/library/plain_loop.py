"""A controller for LeaderWorkerSets in a plain loop: everything it decides comes from lws_core.

`Cluster` is all that it needs of a cluster: to list, to watch, and to send. With a Kubernetes client behind
it this is an operator for one set; with objects in memory it is a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import lws_core


class Cluster(Protocol):
    """What the loop needs of a cluster. Objects are manifests as the API server has them, frozen."""

    def list(self) -> Iterable[lws_core.FrozenMap[lws_core.Json]]:
        """Every object of the set: itself, and what carries its label."""

    def watch(self) -> Iterator[lws_core.Sight]:
        """What has happened since the list, as it happens; ends when the controller should stop."""

    def send(self, action: lws_core.Action) -> lws_core.Outcome:
        """Carry out one action, and say what the API server answered."""

    def now_s(self) -> float:
        """Seconds since the epoch."""


def run(cluster: Cluster, set_name: str) -> lws_core.Memory:
    """Control a set until the watch ends. A look comes after each sight; a real loop also looks again at
    `wake_at_s`, and takes in all sights that are there before it looks."""
    things = (lws_core.read(obj, set_name) for obj in cluster.list())
    memory = lws_core.begin((thing for thing in things if thing is not None), cluster.now_s())
    memory = act(cluster, memory)
    for sight in cluster.watch():
        memory = lws_core.observe(memory, sight, cluster.now_s())
        memory = act(cluster, memory)
    return memory


def act(cluster: Cluster, memory: lws_core.Memory) -> lws_core.Memory:
    """Look, send, hear the answers, and look again until there is nothing left to send."""
    while True:
        seen = lws_core.look(memory, cluster.now_s())
        memory = seen.memory
        if not seen.actions:
            return memory
        for action in seen.actions:
            answer = lws_core.Answered(action, cluster.send(action))
            memory = lws_core.observe(memory, answer, cluster.now_s())
