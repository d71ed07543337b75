"""Who is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ryzen_coordinator.core.effects import Desire, Effect

from ..simulated import Fault, Rank, SimNode
from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation

CLASSES: dict[str, set[str]] = {
    "kill": {"exit"},
    "oom": {"oom"},
    "error": {"exit"},
    "stop": {"hang"},
    "blocked": {"hang"},
    "busy": {"hang"},
    "deadlock": {"hang"},
    "skip": {"desync"},
    "torchrun": {"exit", "node_lost"},
    "node": {"node_lost", "exit"},  # exit: it is back already, with a new torchrun
    "freeze": {"node_lost"},
}
"""Fault -> what the verdict may be. "unknown", which names nobody, and "network" may be said of all."""

MAY_NAME_NOBODY = {"deadlock", "skip"}


class Blame(Checker):
    """Of runs with one fault alone: the verdict is right, or names nobody, and comes within its bound."""

    name = "blame"
    promise = "of a single fault the culprit is named, or nobody; never an innocent; and it is decided within its bound"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.fault: Fault | None = None
        self.culprit: tuple[SimNode, Rank | None] | None = None
        self.generation = 0
        self.answered_s: float | None = None
        self.limit_s = 0.0
        self.up = False

    def harmed(self, generation: int, node: SimNode, rank: Rank | None) -> None:
        if self.sim.case.single:
            self.culprit, self.generation = (node, rank), self.sim.control.generation()
            world = self.sim.worlds.by_generation.get(generation)
            self.up = world is not None and world.done > 0 and not world.finished

    def struck(self, fault: Fault) -> None:
        if self.sim.case.single and self.culprit is not None:
            self.fault = fault
            self.limit_s = 1.2 * max(self.sim.worlds.gaps.get(name, 0.0) for name in ("", "(first step)")) + 0.75

    def decided(self, effects: list[Effect]) -> None:
        if self.fault is None or self.answered_s is not None:
            return
        for effect in effects:
            for job in effect.desired.jobs if isinstance(effect, Desire) else ():
                if job.generation > self.generation:
                    self.answered_s = self.sim.now_s

    def ended(self) -> None:
        fault, sim = self.fault, self.sim
        if fault is None or fault.struck_s is None or not self.up:
            return
        bound_s = self._bound_s(fault)
        end_s = sim.finished_s if sim.finished_s is not None else sim.now_s
        if self.answered_s is None and end_s - fault.struck_s > bound_s:
            self.broke(f"{fault.words()}: nothing was decided in {end_s - fault.struck_s:.1f} s, bound {bound_s:.1f} s")
        elif self.answered_s is not None and self.answered_s - fault.struck_s > bound_s:
            took_s = self.answered_s - fault.struck_s
            self.broke(f"{fault.words()}: decided after {took_s:.2f} s, bound {bound_s:.2f} s")
        verdicts = [b["verdict"] for (kind, _), b in sim.control.records.items() if kind == "incident" and b["verdict"]]
        for verdict in verdicts:
            self._check_names(fault, verdict)
        if self.answered_s is not None:
            self._check_class(fault, verdicts)

    def _check_names(self, fault: Fault, verdict: dict[str, Any]) -> None:
        node, rank = self.culprit or (None, None)
        assert node is not None
        ranks = {rank.rank} if rank is not None else {each.rank for each in node.ranks} or set(verdict["ranks"])
        if set(verdict["ranks"]) - ranks or set(verdict["nodes"]) - {node.name}:
            told = f"{verdict['fault_class']} names {verdict['ranks']} {verdict['nodes']}: {verdict['reason']}"
            self.broke(f"{fault.words()}: {told}")

    def _check_class(self, fault: Fault, verdicts: list[dict[str, Any]]) -> None:
        right = [v for v in verdicts if v["fault_class"] in CLASSES[fault.kind]]
        named = [v for v in right if v["ranks"] or v["nodes"]]
        if not right or not (named or fault.kind in MAY_NAME_NOBODY):
            told = [(v["fault_class"], v["ranks"], v["nodes"], v["reason"]) for v in verdicts]
            self.broke(f"{fault.words()}: no verdict is right: {told}")

    def _bound_s(self, fault: Fault) -> float:
        """From the fault to the announcement; messages take up to 0.4 s here, reports up to a second."""
        settings, limit_s, step_s = self.sim.case.settings, self.limit_s, self.sim.case.step_s
        quick_s, told_s = 1.2, 2.2
        # A stream that was closed is an agent that died, far oftener than a node; only a peer's error says more.
        closed_s = settings.gap_unknown_s if self.sim.case.peers_hang else 0.0
        return {
            "stop": limit_s + told_s,
            "blocked": limit_s + settings.frozen_stack_s + told_s + 2.0,
            "busy": settings.stall_floor_s + told_s,
            "deadlock": limit_s + told_s + 3.0,
            "skip": 40 * step_s,
            "node": max(settings.lease_s, limit_s) + told_s + closed_s,
            "freeze": settings.lease_s + limit_s + told_s + fault.seconds,
        }.get(fault.kind, quick_s)
