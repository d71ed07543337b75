"""Whom a verdict that is acted on may name."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..simulated import Rank, SimNode
from .checker import Checker

if TYPE_CHECKING:
    from ..simulator import Simulation

ONLY_WORDS = {"advise", "none"}


class Innocents(Checker):
    """In every run, however many faults: what was named was struck. Advice may name a rank that only evaluates."""

    name = "innocents"
    promise = "a verdict that is acted on names no rank and no node that nothing has struck"

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.ranks: dict[int, set[int]] = defaultdict(set)
        self.nodes: set[str] = set()

    def harmed(self, generation: int, node: SimNode, rank: Rank | None) -> None:
        if rank is not None:
            self.ranks[generation].add(rank.rank)
        self.nodes.add(node.name)

    def ended(self) -> None:
        for (kind, _), body in self.sim.control.records.items():
            verdict = body["verdict"] if kind == "incident" else None
            if verdict is not None and verdict["action"] not in ONLY_WORDS:
                self._check(body["generation"], verdict)

    def _check(self, generation: int, verdict: dict[str, Any]) -> None:
        world = self.sim.worlds.by_generation.get(generation)
        owner = {rank.rank: node.name for node, rank in (world.ranks if world is not None else ())}
        whole = {
            fault.node
            for fault in self.sim.struck
            if fault.kind in {"node", "freeze", "torchrun", "dead gpu", "lost gpu"}
        }
        ranks = [r for r in verdict["ranks"] if r not in self.ranks[generation] and owner.get(r) not in whole]
        # A node that cannot be heard in mid-recovery is as good as lost, whatever cut it off.
        nodes = set(verdict["nodes"]) - self.nodes if verdict["fault_class"] != "node_lost" else set()
        most_struck = 2 * len(self.ranks[generation]) > len(owner)  # then the rest is the odd one out
        if (ranks or nodes) and not most_struck:
            self.broke(f"{verdict['fault_class']} names {ranks} {sorted(nodes)}: {verdict['reason']}")
