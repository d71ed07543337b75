"""Checkpoints of a world that had fallen apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import Effect, Journal

from ..simulated import Rank, SimNode, SimWorld
from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation

LATE_STEPS = 40
"""Steps within which ranks that have fallen apart are found out: two marks of eight, and what may be missed of them."""


class Rollbacks(Checker):
    """A rank leaves out a collective; the simulation knows which checkpoints are tainted by that.

    The coordinator must have put on record that the world agreed, and be up for long enough afterwards.
    """

    name = "rollback"
    promise = "ranks that have fallen apart are found out, and no world resumes from what they have saved since"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.apart: dict[int, tuple[int, bool]] = {}
        self.known = False

    def harmed(self, generation: int, _node: SimNode, rank: Rank | None) -> None:
        world = self.sim.worlds.by_generation.get(generation)
        if rank is not None and rank.skipped and world is not None:
            bodies = [body for (kind, _), body in self.sim.control.records.items() if kind == "job"]
            knew = any(body["generation"] == generation and body["even_step"] is not None for body in bodies)
            self.apart[generation] = (world.done, knew)

    def decided(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Journal) and effect.kind == "incident" and effect.body is not None:
                verdict = effect.body["verdict"]
                self.known = self.known or (verdict is not None and verdict["action"] == "rollback")

    def resumed(self, world: SimWorld) -> None:
        if world.tainted and self.known:
            self.broke(
                f"{self.sim.now_s:.2f} s: generation {world.generation} resumes from the tainted step {world.resumed} "
                f"(at most {world.resume_at_most})"
            )

    def stepped(self, world: SimWorld) -> None:
        since, knew = self.apart.get(world.generation, (world.done, False))
        if knew and world.done >= since + LATE_STEPS and self.sim.control.up_s() > LATE_STEPS * self.sim.case.step_s:
            del self.apart[world.generation]
            self.broke(f"{self.sim.now_s:.2f} s: a rank has skipped a collective {LATE_STEPS} steps ago, or more")
