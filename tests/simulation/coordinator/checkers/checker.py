"""What a checker is: it watches one run through methods that the simulation calls by name, and says what it broke.

struck(fault)                     a fault has been struck
harmed(generation, node, rank)    ... that breaks this generation; rank None: the whole node
barred(node, out)                 the operator takes a node out, or lets it in
sick(node, code)                  a device of the node has broken; code: of the Xid, 0 for a condition
decided(effects)                  a call of the core
taken(node, world)                a torchrun takes a world
resumed(world)                    all ranks of a world have loaded a checkpoint and begin their first step
stepped(world)                    every rank of a world has done a step
kills(node, rank, why)            an agent kills a living rank
stops_healthy(node)               a torchrun stops its living ranks because it was told to
ended()                           the run is over
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ..simulator import Simulation


class Checker:
    """One promise."""

    name: ClassVar[str]
    promise: ClassVar[str]

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def broke(self, words: str) -> None:
        line = f"{self.name}: {words}"
        if line not in self.sim.broken:
            self.sim.broken.append(line)
            self.sim.note(f"BROKEN {line}")
