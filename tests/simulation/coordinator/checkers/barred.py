"""Evicted nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import Desire, Effect

from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation


class Barred(Checker):
    """From the moment of the operator's command until it is taken back."""

    name = "barred nodes"
    promise = "no world is formed with a node that is evicted"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.out: set[str] = set()
        self.formed = 0

    def barred(self, node: str, out: bool) -> None:
        if out:
            self.out.add(node)
        else:
            self.out.discard(node)

    def decided(self, effects: list[Effect]) -> None:
        for effect in effects:
            for job in effect.desired.jobs if isinstance(effect, Desire) else ():
                if job.world is not None and job.world.generation > self.formed:
                    self.formed = job.world.generation
                    if both := self.out & set(job.world.nodes):
                        self.broke(f"{self.sim.now_s:.2f} s: generation {self.formed} has {', '.join(both)}")
