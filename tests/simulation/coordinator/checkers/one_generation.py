"""One generation at a time."""

from __future__ import annotations

from ..simulated import SimWorld
from .checker import Checker

TEARDOWN_S = 5.0


class OneGeneration(Checker):
    """Where an agent has been connected all the time, older ranks are gone soon after a newer world was formed."""

    name = "one generation"
    promise = "no two worlds step at once, and no rank of an older generation outlives its teardown"
    newest = 0

    def stepped(self, world: SimWorld) -> None:
        if world.generation < self.newest:
            self.broke(f"{self.sim.now_s:.2f} s: generation {world.generation} steps after {self.newest} has begun to")
        self.newest = max(self.newest, world.generation)
        if world.done % 10 == 1 and self.sim.now_s > world.formed_s + TEARDOWN_S:
            self._look_for_older(world)

    def _look_for_older(self, world: SimWorld) -> None:
        now_s = self.sim.now_s
        for older in self.sim.worlds.by_generation.values():
            for node, rank in older.ranks if older.generation < world.generation else ():
                agent = node.agent
                told = agent is not None and agent.connected and agent.told_s < now_s - TEARDOWN_S
                if rank.alive and told and not node.gone and node.frozen_until_s < now_s - TEARDOWN_S:
                    self.broke(
                        f"{now_s:.2f} s: rank {rank.rank} of generation {older.generation} lives on {node.name} "
                        f"{now_s - world.formed_s:.1f} s after generation {world.generation} was formed"
                    )
