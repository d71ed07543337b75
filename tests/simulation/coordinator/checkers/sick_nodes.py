"""Nodes with a broken device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import Desire, Effect

from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation


class SickNodes(Checker):
    """From the moment when the core has heard of it until the operator lets the node in again."""

    name = "sick nodes"
    promise = "no world is formed with a node whose device needs a reset or a reboot, until it is readmitted"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.formed = 0
        self.forgiven: dict[str, int] = {}
        self.pardoned: set[str] = set()

    def barred(self, node: str, out: bool) -> None:
        if not out:
            self.forgiven[node] = self.sim.numbers
            self.pardoned.add(node)

    def decided(self, effects: list[Effect]) -> None:
        for effect in effects:
            for job in effect.desired.jobs if isinstance(effect, Desire) else ():
                if job.world is not None and job.world.generation > self.formed:
                    self.formed = job.world.generation
                    if both := sorted(filter(self._is_sick, job.world.nodes)):
                        self.broke(f"{self.sim.now_s:.2f} s: generation {self.formed} has {', '.join(both)}")

    def _is_sick(self, name: str) -> bool:
        life = self.sim.control.life
        node = life.core.cluster.nodes.get(name) if life is not None else None
        if node is None:
            return False
        heard = [seen.id for seen in self.sim.said.get(name, ()) if seen.code == 79 and seen.id <= node.health.event_id]
        if any(number > self.forgiven.get(name, 0) for number in heard):
            return True
        return bool(node.health.conditions) and name not in self.pardoned
