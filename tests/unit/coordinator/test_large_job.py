"""A recovery of many nodes costs each of them three messages, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Desire, Effect, Say
from ryzen_coordinator.core.events import Hello, JobSeen, NodeReport, RankSeen, Shape
from ryzen_coordinator.core.settings import CoreSettings

NODES = 100
ROUND_S = 0.5


class Cluster:
    """Nodes of one rank each that obey at once, and say so when they are asked to speak."""

    def __init__(self, minimum: int = NODES) -> None:
        self.core = Core(CoreSettings(), now_s=0.0, unix_offset_s=0.0)
        self.now_s = 0.0
        self.told: Counter[str] = Counter()
        self.said: list[str] = []
        shape = Shape(minimum, NODES, 1)
        self.seq = 0
        self.jobs = {
            f"node-{number}": JobSeen(
                "run", "me", "joining", join_id=1, store=("h", number + 1), shape=shape, torchrun_pid=number + 1
            )
            for number in range(NODES)
        }
        self.speak(*self.jobs, hello=True)
        self.wait(0.5)

    def speak(self, *names: str, hello: bool = False) -> None:
        """Each of them once, all nodes where none is named; many take half a second."""
        names = names or tuple(self.jobs)
        for number, name in enumerate(names):
            self.seq += 1
            stream = int(name.removeprefix("node-")) + 1
            self.now_s += ROUND_S / max(10, len(names))
            report = NodeReport(name, stream, self.seq, Hello(name) if hello else None, (self.jobs[name],))
            self.carry(self.core.step(report, self.now_s))
            if number % 10 == 0:
                self.carry(self.core.tick(self.now_s))

    def wait(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 0.05
            self.carry(self.core.tick(self.now_s))

    def carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Say):
                self.said.append(effect.text)
            if isinstance(effect, Desire) and effect.desired.jobs:
                self.told[effect.node] += 1
                self.obey(effect)

    def obey(self, effect: Desire) -> None:
        (wanted,), job = effect.desired.jobs, self.jobs[effect.node]
        rank = int(effect.node.removeprefix("node-"))
        if wanted.world is not None and wanted.world.generation > job.generation and job.handler == "joining":
            ranks = (RankSeen(rank, 0, 500 + rank, wanted.world.generation, attached=True),)
            job = replace(job, handler="running", generation=wanted.world.generation, store=None, ranks=ranks)
        if wanted.generation > job.generation:
            ended = tuple(each._replace(life="exited", exit_code=-9, killed_by_agent=True) for each in job.ranks)
            job = replace(job, ranks=ended)
            if wanted.go and job.handler == "running":
                job = replace(job, handler="joining", join_id=job.join_id + 1, store=("h", rank + 1))
        self.jobs[effect.node] = replace(job, seen_generation=wanted.generation)

    def kill(self, name: str) -> None:
        job = self.jobs[name]
        self.jobs[name] = replace(job, ranks=tuple(each._replace(life="exited", exit_code=-9) for each in job.ranks))
        self.speak(name)

    @property
    def world(self) -> int:
        world = self.core.cluster.jobs[("me", "run")].world
        return world.generation if world is not None else 0


@pytest.fixture
def cluster() -> Cluster:
    """A job that runs."""
    made = Cluster()
    made.speak()
    assert made.world == 1
    made.told.clear()
    return made


def test_each_node_is_told_thrice_of_a_new_generation(cluster: Cluster) -> None:
    cluster.kill("node-3")
    for _ in range(3):
        cluster.speak()
    assert cluster.world == 2
    assert set(cluster.told.values()) == {3}, "announced, go, world"


def test_the_last_that_joins_is_not_kept_waiting(cluster: Cluster) -> None:
    cluster.kill("node-3")
    for _ in range(2):
        cluster.speak(*[name for name in cluster.jobs if name != "node-50"])
    assert cluster.world == 1
    cluster.wait(0.15)
    cluster.speak("node-50")
    assert cluster.world == 2, "at its report, not at the next tick that plans"


def test_nodes_that_fall_silent_in_a_recovery_and_return_make_no_news_for_the_others(cluster: Cluster) -> None:
    """Else each is told anew with every one of them, and answers: a storm that feeds itself."""
    away = [f"node-{number}" for number in range(40, 80)]
    cluster.kill("node-3")
    there = [name for name in cluster.jobs if name not in away]
    for _ in range(8):
        cluster.speak(*there)
    assert cluster.world == 1
    assert max(cluster.told[name] for name in there) <= 3
    cluster.speak(*away)
    for _ in range(3):
        cluster.speak()
    assert cluster.world == 2
    assert max(cluster.told[name] for name in there) <= 4


def test_what_is_said_of_many_nodes_is_short(cluster: Cluster) -> None:
    cluster.kill("node-3")
    for _ in range(8):
        cluster.speak(*list(cluster.jobs)[:30])
    assert any("silent" in text and "more" in text for text in cluster.said), cluster.said
    assert max(map(len, cluster.said)) < 300
