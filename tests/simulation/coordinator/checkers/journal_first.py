"""Records before what depends on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ryzen_coordinator.core.effects import Desire, DesiredNode, Effect, Journal
from ryzen_coordinator.core.phases import BARRED, OVER

from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation


class JournalFirst(Checker):
    """What a node is told must be in the journal, or in a record that comes before it in the same list of effects."""

    name = "journal first"
    promise = "a Desire never precedes the Journal record that it depends on"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.life = 0
        self.kept: dict[tuple[str, str], dict[str, Any] | None] = {}

    def decided(self, effects: list[Effect]) -> None:
        if self.life != len(self.sim.control.lives):
            self.life = len(self.sim.control.lives)
            self.kept = dict(self.sim.control.records)
        for effect in effects:
            if isinstance(effect, Journal):
                self.kept[(effect.kind, effect.key)] = effect.body
            elif isinstance(effect, Desire):
                self._check(effect.node, effect.desired)

    def _check(self, name: str, desired: DesiredNode) -> None:
        node = self.kept.get(("node", name)) or {}
        if (desired.phase in BARRED) != (node.get("phase") in BARRED):
            self.broke(f"{self.sim.now_s:.3f} s: {name} is told that it is {desired.phase}, kept: {node.get('phase')}")
        for job in desired.jobs:
            body = self.kept.get(("job", f"{job.user}/{job.run_id}"))
            if body is None:
                self.broke(f"{self.sim.now_s:.3f} s: {name} is told of a job that is not kept")
                continue
            world = body["world"] or {"generation": 0, "nodes": ()}
            if job.generation != body["generation"] and job.generation > body["last_generation"]:
                self.broke(
                    f"{self.sim.now_s:.3f} s: {name} is told generation {job.generation}, kept: {body['generation']}"
                )
            if job.world is not None and (job.world.generation, job.world.nodes) != (
                world["generation"],
                tuple(world["nodes"]),
            ):
                self.broke(f"{self.sim.now_s:.3f} s: {name} is given world {job.world.generation}, kept: {world}")
            if job.place == "dismissed" and body["phase"] not in OVER:
                self.broke(f"{self.sim.now_s:.3f} s: {name} is dismissed from a job that is kept as {body['phase']}")
