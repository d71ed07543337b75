"""What can go wrong in the simulated cluster."""

from __future__ import annotations

from .simulated import SimNode
from .simulator import Simulation


class Faults:
    """Strikes a simulation. `back_after_s`: when what was killed is started again."""

    def __init__(self, simulation: Simulation) -> None:
        self.sim = simulation

    def kill_rank(self, name: str, local: int, code: int = -9, error: tuple[str, str] = ("", "")) -> None:
        live = [rank for rank in self.sim.nodes[name].ranks if rank.alive and rank.local == local]
        for rank in live:
            self.sim.struck.add(rank.generation)
            self.sim.end(self.sim.nodes[name], rank, code, error)

    def freeze_rank(self, name: str, local: int) -> None:
        for rank in self.sim.nodes[name].ranks:
            if rank.alive and rank.local == local:
                self.sim.struck.add(rank.generation)
                rank.frozen_s = self.sim.now_s
                self.sim.nodes[name].changed = True

    def kill_torchrun(self, name: str) -> None:
        node = self.sim.nodes[name]
        if node.torchrun:
            self._strike_all_of(node)
            node.torchrun, node.exit_code, node.changed, node.handler = False, -9, True, "closed"
            for rank in node.ranks:
                if rank.alive:
                    self.sim.end(node, rank, -9, by_agent=True)

    def kill_agent(self, name: str, back_after_s: float) -> None:
        node = self.sim.nodes[name]
        if node.agent:
            node.agent, node.agent_back_s = False, self.sim.now_s + back_after_s
            self.sim.hang_up(node)

    def kill_node(self, name: str, back_after_s: float | None) -> None:
        node = self.sim.nodes[name]
        if not node.torchrun and node.node_back_s is None:
            return  # done: a new torchrun there would begin a new run
        self._strike_all_of(node)
        for rank in node.ranks:
            rank.alive = False
        node.ranks = []
        node.torchrun = node.agent = False
        node.handler = "absent"
        node.agent_back_s = None
        node.node_back_s = self.sim.now_s + back_after_s if back_after_s is not None else None
        self.sim.hang_up(node)

    def cut(self, name: str, seconds: float) -> None:
        """The agent lives, its stream breaks and cannot be made anew for a while."""
        self.sim.hang_up(self.sim.nodes[name])
        self.sim.nodes[name].connect_s = self.sim.now_s + seconds

    def kill_coordinator(self, back_after_s: float) -> None:
        if self.sim.core is not None:
            self.sim.core = None
            self.sim.core_back_s = self.sim.now_s + back_after_s
            self.sim.mail = []
            for node in self.sim.nodes.values():
                self.sim.hang_up(node, told=False)

    def _strike_all_of(self, node: SimNode) -> None:
        self.sim.struck.update(rank.generation for rank in node.ranks)
        self.sim.struck.add(node.generation)
        self.sim.struck.add(node.generation + 1)
        self.sim.struck.add(node.seen_generation)
