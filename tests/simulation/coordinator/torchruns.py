"""torchrun and its rendezvous handler: polls every 0.1 s, needs its ranks dead before it comes back, and waits 30 s for
one that does not listen to SIGTERM. The handler's rules are those of ryzen_trainer.rendezvous.handler.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ryzen_coordinator.core.effects import DesiredJob, WorldFor
from ryzen_coordinator.core.events import Endpoint

from .simulated import HandlerWord, SimNode, Torchrun

if TYPE_CHECKING:
    from .simulator import Simulation

POLL_S = 0.1
BARRIER_GRACE_S = 1.0
BARRIER_WAIT_S = 300.0
CONNECT_WAIT_S = 5.0


class Torchruns:
    """Every torchrun of the cluster."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.ports = 20000
        self.arrived: dict[int, set[str]] = {}

    def begin(self, node: SimNode) -> None:
        """A new torchrun has been started; it has met its agent."""
        node.torchrun = Torchrun(self.sim.next_number())
        self._on(node, 0.0, lambda: self.meet(node))
        self._on(node, 0.01, lambda: self._join(node))

    def meet(self, node: SimNode) -> None:
        """The handler looks for its agent until it has found it."""
        torchrun, agent = node.torchrun, node.agent
        if not torchrun.alive or (agent is not None and agent.linked):
            return
        if agent is not None and agent.alive and self.sim.agents.meets(node):
            torchrun.link += 1
            self.say(node)
            return
        self._on(node, self.sim.dice.uniform(0.05, 0.5), lambda: self.meet(node))

    def say(self, node: SimNode) -> None:
        """The handler's level has changed: its agent is told, in order."""
        self.sim.agents.hear(node, self._word(node))

    def order(self, node: SimNode, order: DesiredJob | None) -> None:
        """What the agent passes on of the coordinator's wishes."""
        torchrun = node.torchrun
        if not torchrun.alive or order is None:
            return
        if torchrun.order is not None and order.generation < torchrun.order.generation:
            return  # an agent that has just come back knows less than we do
        torchrun.order = order
        news = order.generation > max(torchrun.seen, torchrun.generation)
        torchrun.seen = max(torchrun.seen, order.generation)
        if news:
            self.say(node)
        self._consider(node)

    def kill(self, node: SimNode) -> None:
        """Ranks that the agent had not found yet are lost to it; they end because nobody starts the others."""
        self._exit(node, -9)
        for rank in node.ranks:
            if not rank.seen:
                self.sim.on(node, self.sim.dice.uniform(0.5, 2.0), partial(self.sim.worlds.end, node, rank, 1))

    # ------------------------------------------------------------ the rendezvous

    def _join(self, node: SimNode) -> None:
        torchrun = node.torchrun
        torchrun.phase, torchrun.entering = "joining", False
        torchrun.join_id += 1
        self.ports += 1
        torchrun.offered = (node.name, self.ports)
        self.say(node)
        self._consider(node)

    def _consider(self, node: SimNode) -> None:
        torchrun, order = node.torchrun, node.torchrun.order
        if torchrun.phase != "joining" or torchrun.entering or order is None:
            return
        if order.place == "dismissed":
            if order.generation >= torchrun.generation:
                self._exit(node, order.exit_code)
            return
        world = order.world
        if world is not None and world.generation > torchrun.generation and world.join_id == torchrun.join_id:
            torchrun.entering = True
            delay_s = self.sim.dice.uniform(0.001, 0.02)
            if not self._listens(world.store):
                owner = self.sim.nodes[world.store[0]]
                delay_s = CONNECT_WAIT_S if owner.gone or owner.frozen_until_s > self.sim.now_s else 0.05
            self._on(node, delay_s, lambda: self._enter(node, world))

    def _listens(self, store: Endpoint) -> bool:
        owner = self.sim.nodes[store[0]]
        torchrun = owner.torchrun
        awake = not owner.gone and owner.frozen_until_s <= self.sim.now_s
        return awake and torchrun.alive and store in (torchrun.offered, torchrun.current)

    def _enter(self, node: SimNode, world: WorldFor) -> None:
        torchrun = node.torchrun
        if not self._listens(world.store):
            self.sim.note(f"{node.name}: the store of generation {world.generation} is gone; joins again")
            self._join(node)
            return
        torchrun.current = world.store if world.store[0] == node.name else None
        torchrun.offered, torchrun.entering = None, False
        torchrun.generation, torchrun.world, torchrun.phase = world.generation, world.nodes, "running"
        torchrun.seen = max(torchrun.seen, world.generation)
        torchrun.stopping = False
        self.sim.watch("taken", node, world)
        self.sim.emit("taken")
        self.say(node)
        self.sim.worlds.start(node, world)
        self._on(node, self.sim.dice.uniform(0.0, POLL_S), lambda: self._poll(node))

    # ------------------------------------------------------------ the monitor loop

    def _poll(self, node: SimNode) -> None:
        torchrun = node.torchrun
        if torchrun.phase != "running":
            return
        self._on(node, POLL_S, lambda: self._poll(node))
        mine = [rank for rank in node.ranks if rank.generation == torchrun.generation]
        if torchrun.stopping:
            if all(not rank.alive for rank in mine):
                self._join(node)
        elif all(rank.exit_code == 0 for rank in mine):
            self._wait_for_others(node)
        elif any(not rank.alive and rank.exit_code != 0 for rank in mine):
            self._stop(node)
        elif self._num_nodes_waiting(node):
            self.sim.watch("stops_healthy", node)
            self._stop(node)

    def _num_nodes_waiting(self, node: SimNode) -> bool:
        torchrun, order = node.torchrun, node.torchrun.order
        if order is None or not (order.go or order.place == "dismissed") or order.generation <= torchrun.generation:
            return False
        if torchrun.taken < order.generation:
            torchrun.taken = order.generation
            self.say(node)
        return True

    def _stop(self, node: SimNode) -> None:
        node.torchrun.stopping = True
        for rank in node.ranks:
            if rank.alive:
                self.sim.worlds.terminate(node, rank)

    def _wait_for_others(self, node: SimNode) -> None:
        """The exit barrier of torchrun: until all are there, or the handler of some node releases it."""
        torchrun, now_s = node.torchrun, self.sim.now_s
        if torchrun.waits_at_barrier_s is None:
            torchrun.waits_at_barrier_s = now_s
        arrived = self.arrived.setdefault(torchrun.generation, set())
        arrived.add(node.name)
        order = torchrun.order
        released = order is not None and order.place == "dismissed" and order.generation >= torchrun.generation
        grace_s = BARRIER_GRACE_S if released and order is not None and order.exit_code == 0 else 0.0
        waited_s = now_s - torchrun.waits_at_barrier_s
        if arrived >= set(torchrun.world) or (released and waited_s >= grace_s) or waited_s > BARRIER_WAIT_S:
            self._exit(node, 0)

    def _exit(self, node: SimNode, code: int) -> None:
        torchrun = node.torchrun
        if torchrun.alive:
            torchrun.alive, torchrun.exit_code, torchrun.phase = False, code, "closed"
            self.sim.note(f"{node.name}: torchrun exits {code}")
            self.sim.agents.torchrun_ended(node)

    def _word(self, node: SimNode) -> HandlerWord:
        torchrun = node.torchrun
        return HandlerWord(
            torchrun.pid,
            torchrun.phase,
            torchrun.generation,
            torchrun.seen,
            torchrun.taken,
            torchrun.join_id,
            torchrun.offered if torchrun.phase == "joining" else None,
            self.sim.case.shape(),
        )

    def _on(self, node: SimNode, delay_s: float, act: object) -> None:
        """As the node's `on`, for as long as this torchrun lives."""
        torchrun = node.torchrun

        def do() -> None:
            if torchrun.alive and node.torchrun is torchrun:
                act()  # type: ignore[operator]

        self.sim.on(node, delay_s, do)
