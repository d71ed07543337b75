"""Group ranks."""

from __future__ import annotations

from ryzen_coordinator.core.effects import WorldFor

from ..simulated import Rank, SimNode
from .checker import Checker


class Slots(Checker):
    """In a world as large as the one before a survivor has the same group rank; in any world the order stays.

    A node that was away meanwhile is no survivor: its torchrun is another, and takes what place there is.
    """

    name = "slots"
    promise = "a survivor keeps its group rank when another node is replaced"
    before: WorldFor | None = None
    returned: frozenset[str] = frozenset()

    def harmed(self, _generation: int, node: SimNode, rank: Rank | None) -> None:
        if rank is None:
            self.returned |= {node.name}

    def taken(self, _node: SimNode, world: WorldFor) -> None:
        before = self.before
        if before is None or world.generation > before.generation:
            self.before = world
        if before is None or world.generation <= before.generation:
            return
        both = [name for name in before.nodes if name in world.nodes and name not in self.returned]
        if both != [name for name in world.nodes if name in both]:
            self.broke(f"{self.sim.now_s:.2f} s: {before.nodes} became {world.nodes}")
        full = len(before.nodes) == len(world.nodes) == self.sim.case.maximum
        if full and any(before.nodes.index(name) != world.nodes.index(name) for name in both):
            self.broke(f"{self.sim.now_s:.2f} s: {before.nodes} became {world.nodes}")
