"""A whole cluster in virtual time around the real core: torchruns, handlers, agents, ranks, delays, faults.

One seed is one exact run. What happens here follows what was measured of the real ones: a rank that dies takes its
peers down after 3-25 ms (or leaves them hanging, as NCCL can), torchrun polls every 0.1 s, needs its ranks dead
before it comes back, and waits 30 s for one that does not listen to SIGTERM. The checkers are in test_seeds.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Desire, DesiredJob, Effect, Journal, Say
from ryzen_coordinator.core.events import Hello, NodeGone, NodeReport, Shape
from ryzen_coordinator.core.settings import CoreSettings

from .simulated import START_S, Progress, Rank, SimNode, seen_job

DT_S = 0.01
TICK_S = 0.05
STEP_S = 0.1
CHECKPOINT_EVERY = 10
POLL_S = 0.1
TERM_WAIT_S = 30.0
PEER_CLOSED = ("RuntimeError", "Connection closed by peer [10.0.0.1]:12345")


class Simulation:
    """`faults`: (time, what to do to this simulation). Run it with `run`."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int,
        minimum: int,
        maximum: int,
        ranks: int = 2,
        target: int = 150,
        peers_hang: bool = False,
        settings: CoreSettings | None = None,
        grow: str = "checkpoint",
    ) -> None:
        self.random = random.Random(seed)
        self.settings = settings or CoreSettings(form_wait_s=3.0, restart_budget=1000, fruitless_generations=1000)
        self.shape = Shape(minimum, maximum, ranks, (("grow", grow),))
        self.target, self.peers_hang = target, peers_hang
        self.now_s = 0.0
        self.nodes = {f"node-{i}": SimNode(f"node-{i}", i) for i in range(nodes)}
        self.pid = 1000
        for node in self.nodes.values():
            node.torchrun_pid = self._next_pid()
        self.records: dict[tuple[str, str], dict[str, object]] = {}
        self.core: Core | None = Core(self.settings, now_s=0.0, unix_offset_s=1e9)
        self.core_back_s = 0.0
        self.next_tick_s = 0.0
        self.streams = 0
        self.mail: list[tuple[float, int, Callable[[], None]]] = []
        self.mailed = 0
        self.line_free_s: dict[str, float] = {}
        self.progress = Progress()
        self.log: list[str] = []
        self.faults: list[tuple[float, str, Callable[[], None]]] = []
        self.struck: set[int] = set()
        self.false_kills: list[str] = []
        self.worlds: list[tuple[int, tuple[str, ...]]] = []

    # ------------------------------------------------------------------ running

    def run(self, until_s: float) -> None:
        while self.now_s < until_s and not self.over():
            self.now_s = round(self.now_s + DT_S, 6)
            for fault in [each for each in self.faults if each[0] <= self.now_s]:
                self.faults.remove(fault)
                self.note(f"FAULT {fault[1]}")
                fault[2]()
            self._deliver()
            self._comebacks()
            self._physics()
            for node in self.nodes.values():
                self._torchrun(node)
                self._agent(node)
            self._coordinator()

    def over(self) -> bool:
        """No torchrun lives and none will come back."""
        return all(not n.torchrun and n.node_back_s is None for n in self.nodes.values())

    def note(self, line: str) -> None:
        self.log.append(f"{self.now_s:8.2f}  {line}")

    # ------------------------------------------------------------------ ranks

    def _physics(self) -> None:
        groups: dict[int, list[tuple[SimNode, Rank]]] = {}
        for node in self.nodes.values():
            for rank in node.ranks:
                groups.setdefault(rank.generation, []).append((node, rank))
                if rank.alive and rank.doomed_s is not None and rank.doomed_s <= self.now_s and rank.frozen_s is None:
                    self.end(node, rank, 1, PEER_CLOSED)
                if rank.alive and rank.terminated_s is not None:
                    waited_s = self.now_s - rank.terminated_s
                    if waited_s > 0.05 and rank.frozen_s is None:
                        self.end(node, rank, -15)
                    elif waited_s > TERM_WAIT_S:
                        self.end(node, rank, -9)
        for generation, group in groups.items():
            self._group(generation, group)

    def _group(self, generation: int, group: list[tuple[SimNode, Rank]]) -> None:
        size = max(len(node.world) for node, _ in group) * self.shape.ranks_per_node
        alive = [(node, rank) for node, rank in group if rank.alive]
        broken = len(alive) < size and len(group) == size
        lost = any(not self.nodes[name].ranks for name in group[0][0].world)
        started = [rank for _, rank in alive if self.now_s - rank.born_s > START_S]
        if (broken or (lost and generation in self.progress.done_of)) and not self.peers_hang:
            ended_well = all(rank.exit_code == 0 for _, rank in group if not rank.alive)
            for rank in started:
                if rank.doomed_s is None and not (ended_well and not lost):
                    rank.doomed_s = self.now_s + self.random.uniform(0.003, 0.025)
            return
        if len(started) < size or any(rank.frozen_s is not None for rank in started):
            return
        if generation not in self.progress.step_of:
            self.progress.step_of[generation] = (self.progress.checkpoint or 0) + 1
            self.progress.done_of[generation] = 0
            self.progress.next_step_s[generation] = self.now_s + STEP_S
            for rank in started:
                rank.changed_s = self.now_s
        if self.now_s >= self.progress.next_step_s[generation]:
            self._do_step(generation, started)

    def _do_step(self, generation: int, ranks: list[Rank]) -> None:
        step = self.progress.step_of[generation]
        if step > self.target:  # resumed from the last checkpoint: nothing is left to do
            self._finish(generation)
            return
        self.progress.done_of[generation] += 1
        for rank in ranks:
            rank.changed_s = self.now_s
        if step % CHECKPOINT_EVERY == 0:
            self.progress.checkpoint = step
        if step >= self.target:
            self._finish(generation)
            return
        self.progress.step_of[generation] = step + 1
        self.progress.next_step_s[generation] = self.now_s + STEP_S

    def _finish(self, generation: int) -> None:
        for node in self.nodes.values():
            for rank in node.ranks:
                if rank.generation == generation:
                    self.end(node, rank, 0)

    def end(
        self, node: SimNode, rank: Rank, code: int, error: tuple[str, str] = ("", ""), by_agent: bool = False
    ) -> None:
        if not rank.alive:
            return
        rank.alive, rank.exit_code, rank.ended_s = False, code, self.now_s
        rank.error, rank.by_agent = error, by_agent
        node.changed = True

    # ------------------------------------------------------------------ torchrun and its handler

    def _torchrun(self, node: SimNode) -> None:
        if not node.torchrun:
            return
        job = node.job() if node.agent else None
        if job is not None and node.seen_generation < job.generation:
            node.seen_generation = job.generation
            node.changed = True
        if node.handler == "joining":
            self._rendezvous(node, job)
        elif self.now_s >= node.next_poll_s:
            node.next_poll_s = self.now_s + POLL_S
            self._monitor(node, job)

    def _rendezvous(self, node: SimNode, job: DesiredJob | None) -> None:
        if job is None:
            return
        if job.place == "dismissed":
            self._exit_torchrun(node, job.exit_code)
        elif (world := job.world) is not None and world.join_id == node.join_id and world.generation > node.generation:
            node.handler, node.generation, node.world = "running", world.generation, world.nodes
            if (world.generation, world.nodes) not in self.worlds:
                self.worlds.append((world.generation, world.nodes))
                self.note(f"world {world.generation}: {' '.join(world.nodes)}")
            count = self.shape.ranks_per_node
            node.ranks = [
                Rank(world.group_rank * count + i, i, self._next_pid(), world.generation, self.now_s)
                for i in range(count)
            ]
            node.changed, node.stopping = True, False

    def _monitor(self, node: SimNode, job: DesiredJob | None) -> None:
        mine = [rank for rank in node.ranks if rank.generation == node.generation]
        if not node.stopping:
            asked = job is not None and job.go and job.generation > node.generation
            if mine and all(rank.exit_code == 0 for rank in mine):
                barrier = [self.nodes[name] for name in node.world]
                done = all(not n.torchrun or all(r.exit_code == 0 for r in n.ranks) for n in barrier)
                if done or (job is not None and job.place == "dismissed"):
                    self._exit_torchrun(node, 0 if done or job is None else job.exit_code)
                return
            failed = any(rank.exit_code not in (None, 0) for rank in mine)
            if not (failed or asked):
                return
            node.stopping = True
            for rank in mine:
                rank.terminated_s = self.now_s
        if all(not rank.alive for rank in mine):
            node.handler, node.stopping, node.changed = "joining", False, True
            node.join_id += 1

    def _exit_torchrun(self, node: SimNode, code: int) -> None:
        node.torchrun, node.exit_code, node.handler, node.changed = False, code, "closed", True
        node.dismissed = code
        self.note(f"{node.name}: torchrun exits {code}")

    # ------------------------------------------------------------------ agent

    def _agent(self, node: SimNode) -> None:
        if not node.agent:
            return
        self._kill_old(node)
        if node.stream == 0:
            if node.connect_s is not None and self.now_s >= node.connect_s and self.core is not None:
                self.streams += 1
                node.stream, node.changed, node.seq = self.streams, True, 0
                self._report(node, hello=True)
            return
        if node.changed or self.now_s - node.said_s >= 1.0:
            self._report(node)

    def _kill_old(self, node: SimNode) -> None:
        job = node.job()
        if job is None:
            return
        old = [rank for rank in node.ranks if rank.generation < job.generation and rank.alive]
        if not old:
            node.kill_at_s = None
            return
        if node.kill_at_s is None:
            local_dead = any(not rank.alive for rank in node.ranks)
            node.kill_at_s = self.now_s + (0.0 if local_dead else self.random.uniform(0.05, 0.3))
        if self.now_s >= node.kill_at_s:
            for rank in old:
                self._check_kill(node, rank, job)
                self.end(node, rank, -9, by_agent=True)

    def _check_kill(self, node: SimNode, rank: Rank, job: DesiredJob) -> None:
        # A world that has not made a step yet may wait for a node that never got it: giving it up costs nothing.
        broken = rank.generation in self.struck or rank.generation not in self.progress.done_of
        if not broken and not self._world_grows(rank.generation, node.name):
            self.false_kills.append(f"{self.now_s:.2f} {node.name} rank {rank.rank} generation {rank.generation} {job}")

    def _world_grows(self, generation: int, name: str) -> bool:
        sizes = [len(nodes) for number, nodes in self.worlds if number == generation and name in nodes]
        return bool(sizes) and max(sizes) < self.shape.max_nodes

    def _report(self, node: SimNode, hello: bool = False) -> None:
        node.seq += 1
        node.said_s, node.changed = self.now_s, False
        report = NodeReport(
            node.name,
            node.stream,
            node.seq,
            Hello(node.name, host=node.name, node_rank=node.hint) if hello else None,
            (seen_job(node, self.shape, self.progress, self.now_s),) if node.torchrun_pid else (),
            node.answered,
        )
        self._post(node.name, lambda: self._give(report))

    def _comebacks(self) -> None:
        for node in self.nodes.values():
            if node.agent_back_s is not None and self.now_s >= node.agent_back_s:
                node.agent_back_s, node.agent, node.desired = None, True, None
                node.connect_s = self.now_s + self.random.uniform(0.05, 0.5)
                self.note(f"{node.name}: agent is back")
            if node.node_back_s is not None and self.now_s >= node.node_back_s:
                self._node_back(node)

    def _node_back(self, node: SimNode) -> None:
        fresh = SimNode(node.name, node.hint)
        fresh.torchrun_pid = self._next_pid()
        fresh.connect_s = self.now_s + self.random.uniform(0.05, 0.5)
        self.nodes[node.name] = fresh
        self.note(f"{node.name}: node is back")

    # ------------------------------------------------------------------ coordinator and the lines to it

    def _coordinator(self) -> None:
        if self.core is None:
            if self.now_s >= self.core_back_s:
                records = [(kind, key, body) for (kind, key), body in sorted(self.records.items())]
                self.core = Core(self.settings, records, self.now_s, 1e9)
                self.note("coordinator is back")
            return
        if self.now_s >= self.next_tick_s:
            self.next_tick_s = self.now_s + TICK_S
            self._carry(self.core.tick(self.now_s))

    def _give(self, report: NodeReport) -> None:
        if self.core is not None:
            self._carry(self.core.step(report, self.now_s))

    def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Journal):
                if effect.body is None:
                    self.records.pop((effect.kind, effect.key), None)
                else:
                    self.records[(effect.kind, effect.key)] = effect.body
            elif isinstance(effect, Say):
                self.note(f"{effect.level}: {effect.text}")
            elif isinstance(effect, Desire):
                self._send(effect)

    def _send(self, effect: Desire) -> None:
        node = self.nodes[effect.node]
        stream = node.stream

        def arrive() -> None:
            current = self.nodes[effect.node]
            if current.stream == stream and current.agent:
                current.desired = effect.desired
                for job in effect.desired.jobs:
                    if job.inquiry > current.answered:
                        current.answered, current.changed = job.inquiry, True

        self._post(f"to {effect.node}", arrive)

    def hang_up(self, node: SimNode, told: bool = True) -> None:
        """The stream ends. The coordinator hears of it (the host closes the connection) or only by silence."""
        stream, node.stream = node.stream, 0
        node.connect_s = self.now_s + self.random.uniform(0.1, 1.0)
        if stream and told and self.random.random() < 0.7:
            self._post(node.name, lambda: self._gone(node.name, stream))

    def _gone(self, name: str, stream: int) -> None:
        if self.core is not None:
            self._carry(self.core.step(NodeGone(name, stream), self.now_s))

    def _post(self, line: str, deliver: Callable[[], None]) -> None:
        """Lines keep their order and have a delay, now and then a long one."""
        delay_s = self.random.uniform(0.0, 0.03) if self.random.random() < 0.98 else self.random.uniform(0.1, 0.4)
        due_s = max(self.now_s + delay_s, self.line_free_s.get(line, 0.0))
        self.line_free_s[line] = due_s
        self.mailed += 1
        self.mail.append((due_s, self.mailed, deliver))

    def _deliver(self) -> None:
        due = sorted(item for item in self.mail if item[0] <= self.now_s)
        self.mail = [item for item in self.mail if item[0] > self.now_s]
        for _, _, deliver in due:
            deliver()

    def _next_pid(self) -> int:
        self.pid += 1
        return self.pid
