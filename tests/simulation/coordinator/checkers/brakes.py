"""Jobs that cannot be helped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.phases import OVER

from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation

NOT_REQUEUED = 93


class Brakes(Checker):
    """Of runs in which the job fails at the same place again and again."""

    name = "brakes"
    promise = "a job is restarted as often as its budget, or its want of progress, allows, and then ends with code 93"

    def ended(self) -> None:
        sim: Simulation = self.sim
        if sim.case.family != "braked":
            return
        settings = sim.case.settings
        most = min(settings.restart_budget + 1, settings.fruitless_generations)
        worlds, struck = len(sim.worlds.by_generation), len(sim.struck)
        if worlds > most:
            self.broke(f"{worlds} worlds, allowed {most}")
        codes = {node.torchrun.exit_code for node in sim.nodes.values()}
        if struck >= most and (sim.control.over() not in OVER or codes != {NOT_REQUEUED}):
            self.broke(f"struck {struck} times, allowed {most}; exit codes {codes}")
