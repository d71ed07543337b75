"""An announcement, and only then a go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import Desire, DesiredJob, Effect

from ..simulated import Rank, SimNode
from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation

SLACK_S = 1e-6


class TwoPhases(Checker):
    """The core says go when every reachable running handler has confirmed, or after `go_wait_s`; agents wait for it."""

    name = "two phases"
    promise = "no torchrun is told to restart, and no healthy node's rank killed, before all have heard or 0.2 s passed"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.announced: dict[int, float] = {}
        self.gone: set[int] = set()

    def decided(self, effects: list[Effect]) -> None:
        now_s = self.sim.now_s
        for effect in effects:
            for job in effect.desired.jobs if isinstance(effect, Desire) else ():
                first = self.announced.setdefault(job.generation, now_s)
                if job.go and job.generation not in self.gone:
                    self.gone.add(job.generation)
                    if now_s - first < self.sim.case.settings.go_wait_s - SLACK_S and job.generation > 1:
                        self._check(job)

    def _check(self, job: DesiredJob) -> None:
        control, now_s = self.sim.control, self.sim.now_s
        for name, (heard_s, report) in control.heard.items():
            fresh = (
                control.streams.get(name) == report.stream and now_s - heard_s < self.sim.case.settings.lease_s - 0.1
            )
            for seen in report.jobs if fresh else ():
                if seen.handler == "running" and seen.seen_generation < job.generation:
                    self.broke(
                        f"{now_s:.3f} s: go for {job.generation}, but {name} has only seen {seen.seen_generation}"
                    )

    def kills(self, node: SimNode, rank: Rank, why: str) -> None:
        agent = node.agent
        job = agent.job() if agent is not None else None
        if agent is None or job is None or not node.torchrun.alive or agent.torchrun_ended_s is not None:
            return
        failed = any(not each.alive or each.failing_s is not None for each in node.ranks)
        if (
            not failed
            and not job.go
            and job.place != "dismissed"
            and agent.handler
            and agent.handler.phase == "running"
        ):
            self.broke(f"{self.sim.now_s:.3f} s: {node.name} kills rank {rank.rank} before go: {why}")
