"""Nothing stands still for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.phases import OVER

from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation

LOOK_EVERY_S = 10.0
REST_S = 100.0
"""Beyond the floor: half a minute of torchrun's teardown and a minute for a survivor that does not come back."""


class Stalls(Checker):
    """With enough nodes there, everything connected and nothing new going wrong for long, the job steps or is over."""

    name = "stalls"
    promise = "every stall ends in a step, a new world or the job's end within the floor and 100 s"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        sim.after(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        sim = self.sim
        sim.after(LOOK_EVERY_S, self._look)
        last_s = max((fault.struck_s or 0.0) + fault.seconds for fault in sim.struck) if sim.struck else 0.0
        worlds = sim.worlds.by_generation.values()
        moved_s = max([0.0, last_s, *(max(world.last_step_s, world.formed_s) for world in worlds)])
        bound_s = sim.case.settings.stall_floor_s + REST_S
        if sim.now_s - moved_s > bound_s and sim.control.up_s() > bound_s and self._could_go_on():
            self.broke(f"nothing has moved since {moved_s:.1f} s")

    def _could_go_on(self) -> bool:
        sim = self.sim
        if sim.control.over() in OVER or sim.finished_s is not None:
            return False
        awake = [
            node
            for node in sim.nodes.values()
            if not node.gone and node.torchrun.alive and node.agent is not None and node.agent.connected
        ]
        return len(awake) >= sim.case.minimum
