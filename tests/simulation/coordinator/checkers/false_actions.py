"""No action on a healthy node or world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..simulated import Rank, SimNode, SimWorld
from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation


class FalseActions(Checker):
    """A world may be torn down only for a fault in it, for growth, for an eviction, or before its first step.

    A world that has not made a step yet may wait for a node that never got it: giving it up costs nothing.
    """

    name = "false actions"
    promise = "no living rank of a healthy world is killed or stopped, and no generation is spent on nothing"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.harmed_generations: set[int] = set()
        self.ever_barred: set[str] = set()

    def harmed(self, generation: int, _node: SimNode, rank: Rank | None) -> None:
        newest = generation if rank is not None else max(generation, self.sim.control.generation()) + 1
        self.harmed_generations.update(range(generation, newest + 1))

    def barred(self, node: str, out: bool) -> None:
        if out:
            self.ever_barred.add(node)

    def sick(self, node: str, _code: int) -> None:
        self.ever_barred.add(node)

    def kills(self, node: SimNode, rank: Rank, why: str) -> None:
        self._check(rank.generation, f"the agent of {node.name} kills rank {rank.rank}: {why}")

    def stops_healthy(self, node: SimNode) -> None:
        self._check(node.torchrun.generation, f"torchrun of {node.name} stops its ranks")

    def ended(self) -> None:
        worlds = self.sim.worlds.by_generation
        if self.sim.case.family in {"quiet", "patient"} and len(worlds) > 1:
            self.broke(f"nothing was wrong, but {len(worlds)} worlds were formed")

    def _check(self, generation: int, words: str) -> None:
        world = self.sim.worlds.by_generation.get(generation)
        if world is not None and not self._excused(world):
            self.broke(f"{self.sim.now_s:.2f} s: {words}, generation {generation}")

    def _excused(self, world: SimWorld) -> bool:
        return (
            world.generation in self.harmed_generations
            or world.done == 0
            or len(world.nodes) < self.sim.case.maximum
            or any(name in self.ever_barred for name in world.nodes)
        )
