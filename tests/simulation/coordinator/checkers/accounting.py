"""Where the time goes."""

from __future__ import annotations

from ryzen_coordinator.core import ledger
from ryzen_coordinator.core.book import STATES

from ..simulated import SimWorld
from .checker import Checker

SLACK_S = 1.0
"""Of each world: a step is heard of by a report, which may be lost. Over 700 seeds it was 0.47 s at most."""


BLIND = frozenset({"coordinator", "doze"})
"""With these there was a time that the coordinator has not seen."""

MUTE = frozenset({"agent", "cut", "unlink", "farewell", "freeze", "node"})
"""With these a node said nothing for as long, perhaps of the first step."""


class Accounting(Checker):
    """What the ranks really did is noted here, step by step, and compared with the book; only where one coordinator
    has seen all of it."""

    name = "accounting"
    promise = "each rank-second is in one state, and those that are productive are those of the steps that last"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.done: dict[int, float] = {}
        self.last: dict[int, float] = {}

    def resumed(self, world: SimWorld) -> None:
        self.done = {step: spent for step, spent in self.done.items() if step <= world.resumed}

    def stepped(self, world: SimWorld) -> None:
        assert world.step is not None
        before = self.last.get(world.generation)
        self.done[world.step] = self.sim.now_s - before if before is not None else 0.0
        self.last[world.generation] = self.sim.now_s

    def ended(self) -> None:
        life = self.sim.control.life
        if life is None:
            return
        now_s = self.sim.now_s + life.shift_s
        for job in life.core.cluster.jobs.values():
            times = ledger.of_job(job, now_s)
            nodes = ledger.of_nodes(job, now_s)
            for state in STATES:
                of_nodes = sum(gpu_s[state] for _, gpu_s in nodes.values())
                of_incidents = sum(
                    incident.gpu_s.get(state, 0.0)
                    for incident in life.core.cluster.incidents.values()
                    if incident.key == job.key and incident.opened_unix_s >= job.born_s + life.offset_s
                )
                if times.gpu_s[state] < -1e-6 or abs(of_nodes - times.gpu_s[state]) > 1e-3:
                    self.broke(f"{state}: {times.gpu_s[state]:.3f} GPU-s, of its nodes {of_nodes:.3f}")
                if of_incidents > times.gpu_s[state] + 1e-3:
                    self.broke(f"{state}: incidents have more of it than the job: {of_incidents:.3f}")
            finished_s = self.sim.finished_s
            only = finished_s is None or job.born_s < finished_s + life.shift_s
            if only and self.sim.case.progress and not any(fault.kind in BLIND for fault in self.sim.struck):
                self._compare(times)

    def _compare(self, times: ledger.Times) -> None:
        useful_s = sum(self.done.values())
        unseen_s = sum(fault.seconds for fault in self.sim.struck if fault.kind in MUTE)
        slack_s = SLACK_S * max(1, len(self.last)) + unseen_s
        if abs(times.productive_s - useful_s) > slack_s:
            self.broke(f"productive {times.productive_s:.2f} s, really {useful_s:.2f} s in {len(self.last)} worlds")
