"""Numbers of generations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import DesiredNode, WorldFor

from ..simulated import SimNode
from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation


class Generations(Checker):
    """Over every life of the coordinator."""

    name = "generations"
    promise = "numbers of generations only grow, for every node, and none is ever used for two worlds"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.worlds: dict[int, tuple[object, ...]] = {}
        self.told: dict[int, int] = {}

    def taken(self, node: SimNode, world: WorldFor) -> None:
        what = (world.nodes, world.store)
        known = self.worlds.setdefault(world.generation, what)
        if known != what:
            self.broke(f"{self.sim.now_s:.2f} s: generation {world.generation} is {known} and {what}")
        if world.nodes[world.group_rank] != node.name:
            self.broke(f"{self.sim.now_s:.2f} s: {node.name} is given the place of {world.nodes[world.group_rank]}")

    def landed(self, node: SimNode, desired: DesiredNode) -> None:
        for job in desired.jobs:
            pid = job.torchrun_pid
            if 0 < job.generation < self.told.get(pid, 0):
                self.broke(f"{self.sim.now_s:.2f} s: {node.name} is told {job.generation} after {self.told[pid]}")
            self.told[pid] = max(self.told.get(pid, 0), job.generation)
