"""The ranks: how a world starts, steps, stands still, breaks and ends. What is here was measured of real ones:

a rank that dies takes its peers down after 3-25 ms (or leaves them hanging, as NCCL can), each with an exception that
is stamped at once and a process that takes up to a second to end; a step needs every rank; SIGTERM does not reach a
stopped one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import WorldFor

from .simulated import Rank, SimNode, SimWorld, Trouble

if TYPE_CHECKING:
    from .simulator import Simulation

PEER_CLOSED = ("RuntimeError", "Connection closed by peer [10.0.0.1]:12345")
TERM_WAIT_S = 30.0
IN_A_COLLECTIVE = frozenset({"", "deadlock"})


class Worlds:
    """All generations that any torchrun has taken."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.by_generation: dict[int, SimWorld] = {}
        self.checkpoints: dict[int, bool] = {}
        """Step -> tainted: saved by a world in which a rank had left out a collective, or that came from such a one."""
        self.gaps: dict[str, float] = {}

    # ------------------------------------------------------------ coming to life

    def saved_in(self, generation: int) -> int | None:
        """The newest checkpoint that ranks of this generation have committed or restored."""
        world = self.by_generation.get(generation)
        return (world.saved or world.resumed or None) if world is not None else None

    def start(self, node: SimNode, given: WorldFor) -> None:
        """A torchrun has taken the world and starts its ranks."""
        sim, count, generation = self.sim, self.sim.case.ranks_per_node, given.generation
        group_rank, nodes = given.group_rank, given.nodes
        world = self.by_generation.get(generation)
        if world is None:
            world = self.by_generation[generation] = SimWorld(generation, nodes, len(nodes) * count, formed_s=sim.now_s)
            world.resume_at_most = given.resume_at_most
        node.ranks = [
            Rank(group_rank * count + local, local, sim.next_number(), generation, sim.now_s) for local in range(count)
        ]
        for rank in node.ranks:
            world.ranks.append((node, rank))
            sim.on(node, sim.dice.uniform(0.01, 0.13), partial(sim.agents.find, node, rank))
            sim.on(node, sim.case.start_s * sim.dice.uniform(0.8, 1.2), partial(self._started, node, rank))

    def world_of(self, rank: Rank) -> SimWorld:
        return self.by_generation[rank.generation]

    def _started(self, node: SimNode, rank: Rank) -> None:
        if not rank.alive or rank.trouble:
            return
        rank.started = True
        world = self.world_of(rank)
        if world.broken and len(world.ranks) == world.size:
            self.doom(node, rank)
        self.nudge(world)

    def nudge(self, world: SimWorld) -> None:
        """Something that may have held the world up is gone."""
        if world.finished or not self._all_can(world):
            return
        if world.step is None:
            self._begin(world)
        elif world.stuck_s is not None:
            world.stuck_s = None
            self.sim.after(self.sim.case.step_s * 0.5, lambda: self._step(world))

    def _all_can(self, world: SimWorld) -> bool:
        now_s = self.sim.now_s
        return len(world.ranks) == world.size and all(
            rank.alive and rank.started and not rank.trouble and not node.gone and node.frozen_until_s <= now_s
            for node, rank in world.ranks
        )

    def _begin(self, world: SimWorld) -> None:
        limit = world.resume_at_most
        good = [step for step in self.checkpoints if limit is None or step <= limit]
        world.resumed = max(good, default=0)
        world.tainted = self.checkpoints.get(world.resumed, False)
        world.step = world.resumed + 1
        self.sim.watch("resumed", world)
        now_s = self.sim.now_s
        self._learn("(start)", now_s - min(rank.born_s for _, rank in world.ranks))
        for node, rank in world.ranks:
            rank.changed_s = now_s
            self.sim.agents.look(node)
        self.sim.emit("stepping")
        if world.step > self.sim.case.target:  # resumed from the last checkpoint: nothing is left to do
            self._finish(world)
        else:
            self.sim.after(self.sim.case.step_s * 1.5, lambda: self._step(world))

    # ------------------------------------------------------------ stepping

    def _step(self, world: SimWorld) -> None:
        sim, now_s = self.sim, self.sim.now_s
        if world.finished or world.step is None:
            return
        if not self._all_can(world):
            world.stuck_s = now_s if world.stuck_s is None else world.stuck_s
            return
        world.done += 1
        self._learn_of_step(world)
        for _, rank in world.ranks:
            rank.changed_s, rank.section, rank.tainted = now_s, "", False
        world.last_step_s = now_s
        if world.done == 1:
            world.first_step_s = now_s
            self._tell(world)
            sim.emit("first step")
        sim.watch("stepped", world)
        sim.emit("step")
        if world.step % sim.case.checkpoint_every == 0:
            self.checkpoints[world.step] = world.tainted or any(rank.skipped for _, rank in world.ranks)
            world.saved = world.step
            self._tell(world)
        if world.step >= sim.case.target:
            self._finish(world)
            return
        world.step += 1
        sim.after(sim.case.step_s, lambda: self._step(world))

    def _learn_of_step(self, world: SimWorld) -> None:
        tainted = any(rank.tainted for _, rank in world.ranks)
        for _, rank in world.ranks:
            if not tainted:
                section = rank.section if world.done > 1 or rank.section else "(first step)"
                self._learn(section, self.sim.now_s - rank.changed_s)

    def _learn(self, section: str, gap_s: float) -> None:
        self.gaps[section] = max(self.gaps.get(section, 0.0), gap_s)

    def _tell(self, world: SimWorld) -> None:
        for node, rank in world.ranks:
            if rank.local == 0:
                self.sim.agents.look(node)

    def _finish(self, world: SimWorld) -> None:
        world.finished = True
        self.sim.emit("finished")
        for node, rank in world.ranks:
            self.sim.on(node, self.sim.dice.uniform(0.0, 0.04), partial(self.end, node, rank, 0))

    # ------------------------------------------------------------ trouble

    def trouble(self, node: SimNode, rank: Rank, kind: Trouble, section: str = "") -> None:
        """From now on this rank does not go on. `section`: it has written one record more, then nothing."""
        rank.trouble, rank.trouble_s = kind, self.sim.now_s
        if kind == "stopped":
            rank.tainted = True  # a gap with a stopped process in it is not learned
            self.sim.agents.look(node)
        if section and rank.alive and self.world_of(rank).step is not None:
            rank.section, rank.changed_s = section, self.sim.now_s

    def calm(self, node: SimNode, rank: Rank) -> None:
        """The trouble is over and the rank goes on."""
        if not rank.trouble or not rank.alive:
            return
        was, rank.trouble = rank.trouble, ""
        if was == "stopped":
            self.sim.agents.look(node)
            if rank.terminated:
                self.end(node, rank, -15)
                return
        world = self.world_of(rank)
        if not rank.started:
            self._started(node, rank)
        elif world.broken:
            self.doom(node, rank)
        else:
            self.nudge(world)

    # ------------------------------------------------------------ ends

    def end(
        self, node: SimNode, rank: Rank, code: int, error: tuple[str, str] = ("", ""), by_agent: bool = False
    ) -> None:
        if not rank.alive:
            return
        rank.alive, rank.exit_code, rank.by_agent = False, code, by_agent
        if error[0]:
            rank.error = error
        if not node.gone:
            self.sim.agents.rank_ended(node, rank)
        self._break(self.world_of(rank), code)

    def lose(self, node: SimNode) -> None:
        """The whole machine is gone; nobody there sees how its ranks ended."""
        for rank in node.ranks:
            if rank.alive:
                rank.alive = False
                self._break(self.world_of(rank), -9)

    def fail(self, node: SimNode, rank: Rank, error: tuple[str, str]) -> None:
        """The rank raises: stamped at once, ended after Python's last words."""
        if not rank.alive or rank.failing_s is not None:
            return
        if self.sim.case.progress:
            rank.failing_s, rank.error = self.sim.now_s, error
            self.sim.agents.look(node)
        self.sim.on(node, self.sim.dice.uniform(0.2, 1.0), lambda: self.end(node, rank, 1))

    def terminate(self, node: SimNode, rank: Rank) -> None:
        """SIGTERM from torchrun, and SIGKILL half a minute later."""
        rank.terminated = True
        if rank.trouble != "stopped":
            self.sim.on(node, self.sim.dice.uniform(0.01, 0.05), lambda: self.end(node, rank, -15))
        self.sim.on(node, TERM_WAIT_S, lambda: self.end(node, rank, -9))

    def _break(self, world: SimWorld, code: int) -> None:
        if world.finished or (code == 0 and not world.broken):
            return
        world.broken = True
        if len(world.ranks) == world.size or world.step is not None:
            for node, rank in world.ranks:
                if rank.alive and rank.started:
                    self.doom(node, rank)

    def doom(self, node: SimNode, rank: Rank) -> None:
        """A peer is dead. Who waits for it in a collective is told so by its socket, or hangs for ever."""
        if self.sim.case.peers_hang or rank.doomed or rank.trouble not in IN_A_COLLECTIVE:
            return
        rank.doomed = True
        self.sim.on(node, self.sim.dice.uniform(0.003, 0.025), lambda: self._die_of_it(node, rank))

    def _die_of_it(self, node: SimNode, rank: Rank) -> None:
        rank.doomed = False
        if rank.trouble in IN_A_COLLECTIVE:
            self.fail(node, rank, PEER_CLOSED)
