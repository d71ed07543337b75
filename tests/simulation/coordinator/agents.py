"""The agents: look, tell, and bring about what is desired. Whom to kill is decided by the real agent's pure decision.

Both streams of an agent are here as it lives them: the handler's one keeps its order; the coordinator's one may lose,
repeat and reorder what is on it (control.py). A restarted agent does not know how a rank ended while it was away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ryzen_agent.decision import Goal, JobFacts, Phase, RankFacts, decide
from ryzen_coordinator.core.effects import DesiredNode

from . import observed
from .simulated import Agent, HandlerWord, Rank, SimNode

if TYPE_CHECKING:
    from .simulator import Simulation

REFRESH_S = 1.0
LOOK_S = 0.125
MEET_AGAIN_S = 1.0
GONE_AFTER_S = 10.0
_PHASES = {"joining": Phase.JOINING, "running": Phase.RUNNING, "closed": Phase.CLOSED}


class Agents:
    """Every agent of the cluster."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.handler_line_s: dict[str, float] = {}

    # ------------------------------------------------------------ life

    def start(self, node: SimNode) -> None:
        """A new agent process; what its predecessor wrote down is its own now."""
        agent = node.agent = Agent(torchrun_pid=node.torchrun.pid)
        for rank in node.ranks:
            rank.samples = 0
            rank.seen = rank.seen or rank.alive
            if not rank.alive and rank.end_seen_s is None:
                rank.end_seen_s = self.sim.now_s
        agent.may_connect_s = self.sim.now_s + MEET_AGAIN_S
        if not node.torchrun.alive:
            agent.torchrun_ended_s = agent.may_connect_s = self.sim.now_s
            if not any(rank.alive for rank in node.ranks):
                agent.torchrun_pid = 0  # nothing of the job lives: the agent has forgotten it
        self._on(node, 0.0, lambda: self.act(node))
        self._on(node, self.sim.dice.uniform(0.05, 0.2), lambda: self._connect(node))
        self._on(node, REFRESH_S, lambda: self._refresh(node))
        if node.torchrun.alive:
            self.sim.on(node, self.sim.dice.uniform(0.02, 0.5), lambda: self.sim.torchruns.meet(node))

    def stop(self, node: SimNode) -> None:
        """The process is gone; its handler notices at once and looks for the next one."""
        agent = node.agent
        if agent is not None:
            agent.alive = False
            self.sim.control.hang_up(node)
            node.agent = None

    def _connect(self, node: SimNode) -> None:
        """Try until there is a stream."""
        agent = node.agent
        assert agent is not None
        if not agent.stream and self.sim.now_s >= agent.may_connect_s:
            agent.stream = self.sim.control.open_stream(node)
            if agent.stream:
                agent.seq = agent.version = 0
                self.report(node, hello=True)
        self._on(node, self.sim.dice.uniform(0.1, 0.8), lambda: self._connect(node))

    def lost_stream(self, node: SimNode) -> None:
        agent = node.agent
        if agent is not None:
            agent.stream, agent.connected = 0, False
            self._on(node, 0.0, lambda: self.act(node))

    def _refresh(self, node: SimNode) -> None:
        agent = node.agent
        assert agent is not None
        wait_s = agent.said_s + REFRESH_S - self.sim.now_s
        if wait_s <= 0.001:
            self.report(node)
            wait_s = REFRESH_S
        self._on(node, wait_s, lambda: self._refresh(node))

    # ------------------------------------------------------------ the handler's side

    def meets(self, node: SimNode) -> bool:
        """A handler has found this agent. A new torchrun on a node makes the agent forget the one before."""
        agent = node.agent
        if agent is None:
            return False
        agent.linked = True
        if agent.torchrun_pid != node.torchrun.pid:
            agent.torchrun_pid, agent.handler = node.torchrun.pid, None
            agent.torchrun_ended_s = agent.torchrun_code = None
            node.ranks = [rank for rank in node.ranks if rank.pid < 0]
        self._pass_on(node)
        return True

    def hear(self, node: SimNode, word: HandlerWord) -> None:
        """The handler's level, after the delay of the local socket; in order, because a stream keeps it."""

        def arrive() -> None:
            agent = node.agent
            if agent is None or not agent.linked or word.pid != agent.torchrun_pid:
                return
            changed = word != agent.handler
            agent.handler = word
            if changed:
                self.act(node)
                self.dirty(node)

        if node.agent is not None and node.agent.linked:
            self._on(node, self._local_delay_s(node), arrive)

    def _pass_on(self, node: SimNode) -> None:
        agent = node.agent
        if agent is not None and agent.linked:
            order = agent.job()
            self._on(node, self._local_delay_s(node), lambda: self.sim.torchruns.order(node, order))

    def _local_delay_s(self, node: SimNode) -> float:
        dice, now_s = self.sim.dice, self.sim.now_s
        delay_s = dice.uniform(0.0005, 0.004) if dice.random() < 0.98 else dice.uniform(0.02, 0.2)
        due_s = max(now_s + delay_s, self.handler_line_s.get(node.name, 0.0))
        self.handler_line_s[node.name] = due_s
        return due_s - now_s

    def torchrun_ended(self, node: SimNode) -> None:
        agent, torchrun = node.agent, node.torchrun
        if agent is None:
            return

        def see() -> None:
            assert agent is not None
            if agent.torchrun_pid != torchrun.pid:
                return  # another one has met this agent since
            agent.linked = False
            agent.torchrun_ended_s, agent.torchrun_code = self.sim.now_s, torchrun.exit_code
            self.act(node)
            self.dirty(node)

        if agent.torchrun_pid == torchrun.pid:
            self._on(node, self.sim.dice.uniform(0.001, 0.004), see)

    # ------------------------------------------------------------ the ranks

    def find(self, node: SimNode, rank: Rank) -> None:
        """A rank has been started; a look among torchrun's children finds it."""
        if node.agent is not None:
            rank.seen = True
            self.dirty(node)

    def look(self, node: SimNode) -> None:
        """Something changed in a page or in /proc that the next look will see."""
        self._on(node, self.sim.dice.uniform(0.001, LOOK_S), lambda: self._looked(node))

    def _looked(self, node: SimNode) -> None:
        self.act(node)
        self.dirty(node)

    def rank_ended(self, node: SimNode, rank: Rank) -> None:
        """A pidfd tells the agent at once."""

        def see() -> None:
            rank.end_seen_s, rank.code_seen = self.sim.now_s, rank.exit_code
            self.act(node)
            self.dirty(node)

        self._on(node, self.sim.dice.uniform(0.0005, 0.004), see)

    # ------------------------------------------------------------ the coordinator's side

    def take(self, node: SimNode, stream: int, version: int, desired: DesiredNode) -> None:
        """A desired state has arrived. Older ones than the one held are not looked at."""
        agent = node.agent
        if agent is None or agent.stream != stream or version < agent.version:
            return
        agent.told_s = agent.told_s if agent.connected else self.sim.now_s
        agent.connected, agent.version, agent.desired = True, version, desired
        for job in desired.jobs:
            if job.go and agent.go[0] != job.generation:
                agent.go = (job.generation, self.sim.now_s)
        inquiry = max((job.inquiry for job in desired.jobs), default=0)
        asked, agent.inquiry = inquiry != agent.inquiry, inquiry
        self.sim.watch("landed", node, desired)
        observed.take_evidence(self.sim, node)
        self.act(node)
        if asked:
            self.dirty(node)

    def dirty(self, node: SimNode) -> None:
        """Something that matters has changed: told within milliseconds."""
        agent = node.agent
        if agent is not None and not agent.due:
            agent.due = True
            self._on(node, self.sim.dice.uniform(0.0005, 0.008), lambda: self.report(node))

    def report(self, node: SimNode, hello: bool = False) -> None:
        agent = node.agent
        if agent is None:
            return
        agent.due = False
        if not agent.stream:
            return
        gone_s = agent.torchrun_ended_s
        if gone_s is not None and self.sim.now_s - gone_s > GONE_AFTER_S and not any(rank.alive for rank in node.ranks):
            agent.torchrun_pid = 0
        agent.seq += 1
        agent.said_s = self.sim.now_s
        self.sim.control.post(node, observed.report(self.sim, node, agent, hello))

    # ------------------------------------------------------------ acting

    def act(self, node: SimNode) -> None:
        """Kill what must be killed, pass the order on."""
        agent = node.agent
        if agent is None:
            return
        now_s = self.sim.now_s
        decision = decide(_facts(node, agent, now_s), self._goal(agent), now_s)
        for rank in node.ranks:
            if rank.alive and rank.pid in decision.kills and not rank.kill_sent:
                rank.kill_sent = True
                self.sim.watch("kills", node, rank, decision.kills[rank.pid])
                self._on(node, self.sim.dice.uniform(0.0005, 0.003), partial(self._kill, node, rank))
        if decision.wake_at is not None:
            self._on(node, decision.wake_at - now_s, lambda: self.act(node))
        self._pass_on(node)

    def _kill(self, node: SimNode, rank: Rank) -> None:
        self.sim.worlds.end(node, rank, -9, by_agent=True)

    def _goal(self, agent: Agent) -> Goal | None:
        job = agent.job()
        if job is None:
            return None
        generation, at_s = agent.go
        return Goal(
            generation=job.generation,
            go_at=at_s if job.go and generation == job.generation else None,
            dismissed_with=job.exit_code if job.place == "dismissed" else None,
            stop_pids=frozenset(job.stop_pids),
        )

    def _on(self, node: SimNode, delay_s: float, act: Callable[[], None]) -> None:
        """As the node's `on`, for as long as this agent lives."""
        agent = node.agent

        def do() -> None:
            if agent is not None and agent.alive and node.agent is agent:
                act()

        self.sim.on(node, delay_s, do)


def _facts(node: SimNode, agent: Agent, now_s: float) -> JobFacts:
    phase = agent.phase(now_s)
    return JobFacts(
        ranks=tuple(
            RankFacts(
                rank.pid,
                rank.generation,
                rank.end_seen_s is None,
                rank.end_seen_s if rank.code_seen not in {0, None} and not rank.by_agent else None,
                rank.failing_s,
            )
            for rank in node.ranks
            if rank.seen
        ),
        phase=_PHASES.get(phase, Phase.ABSENT),
        taken_generation=agent.handler.taken if agent.handler is not None else 0,
        torchrun_dead=agent.torchrun_ended_s is not None,
        coordinator_connected=agent.connected,
    )
