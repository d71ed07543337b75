"""A scenario file: commands in, effects out, as text that a person can read and a test compares.

A file is a sequence of blocks. A block has commands, a line `----`, and what the core wanted done because of them:

    node-0 <- ...      the desired state of a node
    incident 1 ...     an incident as it is after the commands
    kept ...           records that went to the journal first
    warning: ...       a line for the log

The nodes in it do nothing by themselves: each thing that a real one would do (`obey`, `take`, ...) is a command.
Run pytest with --rewrite to put what comes out into the files; then read the difference before you commit it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ryzen_coordinator.core import incidents
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Desire, DesiredJob, Effect, IncidentChanged, Journal, Say
from ryzen_coordinator.core.events import (
    ConditionSeen,
    Event,
    HealthSeen,
    Hello,
    JobSeen,
    NodeGone,
    NodeReport,
    OperatorEvict,
    OperatorReadmit,
    ProgressSeen,
    RankSeen,
    Shape,
)
from ryzen_coordinator.core.settings import CoreSettings

from .columns import Pairs, beats_of
from .health_commands import HealthCommands
from .rank_commands import RankCommands, replace_rank
from .told import Told

TICK_S = 0.05
UNIX_OFFSET_S = 1e6


@dataclass
class Node:
    """What a node would report; commands change it. `rows`, `marks`: what the pages of its ranks say, by rank."""

    name: str
    hello: Hello
    stream: int = 0
    seq: int = 0
    job: JobSeen | None = None
    desired: DesiredJob | None = None
    answered: int = 0
    began_s: float = 0.0
    rows: dict[int, ProgressSeen] = field(default_factory=dict)
    marks: dict[int, Pairs] = field(default_factory=dict)
    events: list[HealthSeen] = field(default_factory=list)
    conditions: tuple[ConditionSeen, ...] | None = None
    clock_s: float = 0.0


@dataclass
class Scenario(RankCommands, HealthCommands):
    """The state of one file while it runs."""

    core: Core = field(default_factory=lambda: Core(CoreSettings(), now_s=0.0, unix_offset_s=UNIX_OFFSET_S))
    now_s: float = 0.0
    nodes: dict[str, Node] = field(default_factory=dict)
    streams: int = 0
    pids: int = 100
    records: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    told: Told = field(default_factory=Told)

    # ------------------------------------------------------------ commands

    def run(self, line: str) -> None:
        """One command: its name, mostly a node, then key=value words."""
        name, *words = shlex.split(line)
        plain = [word for word in words if "=" not in word]
        named = dict(word.split("=", 1) for word in words if "=" in word)
        getattr(self, f"do_{name}")(*plain, **named)

    def do_settings(self, **named: str) -> None:
        known = {each.name: each.type for each in fields(CoreSettings)}
        kinds: dict[object, Any] = {"Mode": str, "Grow": str, "int": int, "tuple[int, ...]": _numbers}
        values: dict[str, Any] = {key: kinds.get(known[key], float)(value) for key, value in named.items()}
        self.core = Core(replace(CoreSettings(), **values), now_s=self.now_s, unix_offset_s=UNIX_OFFSET_S)

    def do_wait(self, seconds: str) -> None:
        end_s = self.now_s + float(seconds)
        while self.now_s < end_s - 1e-9:
            self.now_s = round(min(self.now_s + TICK_S, end_s), 6)
            self._carry(self.core.tick(self.now_s))

    def do_sleep(self, seconds: str) -> None:
        """The coordinator itself does not run for a while: a stopped process, a suspended machine."""
        self.now_s = round(self.now_s + float(seconds), 6)

    def do_wait_speaking(self, seconds: str, *names: str) -> None:
        """Time passes; the nodes report twice a second as they would."""
        for _ in range(round(float(seconds) / 0.5)):
            self.do_wait("0.5")
            for name in names:
                self.do_say(name)

    def do_up(self, name: str, hint: str | None = None, **labels: str) -> None:
        """The agent connects (again)."""
        node = self.nodes.setdefault(name, Node(name, Hello(name, host=f"host-{name}")))
        node.hello = replace(node.hello, node_rank=int(hint)) if hint is not None else node.hello
        node.hello = replace(node.hello, labels=tuple(labels.items())) if labels else node.hello
        self.streams += 1
        node.stream, node.seq = self.streams, 0
        self._report(node, hello=True)

    def do_gone(self, name: str, goodbye: str = "no") -> None:
        """The stream breaks, seen at once."""
        self._step(NodeGone(name, self.nodes[name].stream, goodbye == "yes"))

    def do_join(
        self, name: str, nodes: str = "2:2", ranks: str = "2", pid: str = "7", run_id: str = "job", **options: str
    ) -> None:
        """A torchrun comes to the rendezvous, for the first time or anew."""
        minimum, _, maximum = nodes.partition(":")
        shape = Shape(int(minimum), int(maximum or minimum), int(ranks), tuple(options.items()))
        node = self.nodes[name]
        before = node.job if node.job is not None and node.job.torchrun_pid == int(pid) else None
        job = before or JobSeen(run_id, "me", shape=shape, torchrun_pid=int(pid))
        join_id = job.join_id + 1
        node.job = replace(job, handler="joining", join_id=join_id, store=(name, 20000 + join_id))
        self._report(node)

    def do_meet(self, name: str, pid: str) -> None:
        """A new torchrun's handler has met the agent and is not in the rendezvous yet."""
        node = self.nodes[name]
        shape = node.job.shape if node.job is not None else Shape(1, 1, 1)
        node.job = JobSeen("job", "me", handler="running", shape=shape, torchrun_pid=int(pid))
        self._report(node)

    def do_see(self, name: str) -> None:
        """The handler holds the newest announcement."""
        node = self.nodes[name]
        if node.desired is not None:
            self._change(node, seen_generation=node.desired.generation)

    def do_kill_old(self, name: str) -> None:
        """The agent ends the ranks of older generations."""
        node = self.nodes[name]
        desired = node.desired
        assert desired is not None
        self._ranks(
            node,
            lambda rank: (
                replace_rank(rank, life="exited", exit_code=-9, killed_by_agent=True)
                if rank.generation < desired.generation and rank.life != "exited"
                else rank
            ),
        )

    def do_take(self, name: str) -> None:
        """Torchrun takes the world that it is given and starts its ranks."""
        node = self.nodes[name]
        assert node.job is not None
        assert node.desired is not None
        world = node.desired.world
        assert world is not None, f"{name} has been given no world"
        count = node.job.shape.ranks_per_node
        first = self.pids
        self.pids += count
        ranks = tuple(
            RankSeen(world.group_rank * count + i, i, first + i, world.generation, attached=True) for i in range(count)
        )
        node.began_s = self.now_s
        node.rows, node.marks = {}, {}
        self._change(
            node,
            handler="running",
            generation=world.generation,
            store=None,
            ranks=ranks,
            checkpoint_step=None,
            checks=(),
            skipped=(),
            rollback_wanted=None,
        )

    def do_obey(self, name: str) -> None:
        """Everything that a node does about an announcement: see it, end its ranks, come to the rendezvous."""
        node = self.nodes[name]
        self.do_see(name)
        self.do_kill_old(name)
        if node.desired is not None and node.desired.go and node.job is not None and node.job.handler == "running":
            self.do_join(name, pid=str(node.job.torchrun_pid))

    def do_gaps(self, name: str, **named: str) -> None:
        """The longest silences that were measured on the node; the section "step" is the one without a name."""
        gaps = tuple(
            ("" if key == "step" else f"({key})" if key == "start" else key, float(value))
            for key, value in named.items()
        )
        self._change(self.nodes[name], gaps=gaps)

    def do_saved(self, name: str, step: str) -> None:
        self._change(self.nodes[name], checkpoint_step=int(step))

    def do_leave(self, name: str, code: str) -> None:
        """Torchrun exits."""
        self._change(self.nodes[name], handler="closed", torchrun_exit_code=int(code))

    def do_forget(self, name: str) -> None:
        """The agent will be started anew and find nothing of the job."""
        self.nodes[name].job = None

    def do_lose_handler(self, name: str) -> None:
        """The agent was started anew and the handler has not found it yet."""
        self._change(self.nodes[name], handler="absent", store=None)

    def do_say(self, *names: str) -> None:
        for name in names:
            self._report(self.nodes[name])

    def do_answer(self, *names: str) -> None:
        """Fresh observations, asked for by an inquiry."""
        for name in names:
            node = self.nodes[name]
            node.answered = node.desired.inquiry if node.desired is not None else 0
            self._report(node)

    def do_evict(self, name: str, reason: str = "") -> None:
        self._step(OperatorEvict(name, reason))

    def do_readmit(self, name: str) -> None:
        self._step(OperatorReadmit(name))

    def do_restart(self, away: str = "1") -> None:
        """The coordinator dies and comes back with its journal."""
        self.now_s += float(away)
        records = [(kind, key, body) for (kind, key), body in sorted(self.records.items())]
        self.core = Core(self.core.cluster.settings, records, self.now_s, UNIX_OFFSET_S)

    # ------------------------------------------------------------ carrying

    def _change(self, node: Node, **changes: Any) -> None:
        assert node.job is not None, f"{node.name} has no job"
        node.job = replace(node.job, **changes)
        self._report(node)

    def _ranks(self, node: Node, change: Any) -> None:
        assert node.job is not None
        self._change(node, ranks=tuple(change(rank) for rank in node.job.ranks))

    def _report(self, node: Node, hello: bool = False) -> None:
        node.seq += 1
        job = node.job
        if job is not None:
            quiet_s = self.now_s - node.began_s
            rows = [node.rows.get(rank.rank) for rank in job.ranks]
            aged = [row and row._replace(quiet_s=quiet_s, step_age_s=quiet_s) for row in rows]
            beats = beats_of(aged, [node.marks.get(rank.rank, ()) for rank in job.ranks])
            job = replace(job, ranks=tuple(_aged(rank, quiet_s) for rank in job.ranks), beats=beats)
        report = self.told.shortened(
            NodeReport(
                node.name,
                node.stream,
                node.seq,
                node.hello if hello else None,
                (job,) if job is not None else (),
                node.answered,
                node.clock_s,
                tuple(node.events),
                node.conditions,
            )
        )
        self._step(report)
        self.told.taken(report, self.core)

    def _step(self, event: Event) -> None:
        self._carry(self.core.step(event, self.now_s))

    def _carry(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Journal):
                if effect.body is None:
                    self.records.pop((effect.kind, effect.key), None)
                else:
                    self.records[(effect.kind, effect.key)] = effect.body
            elif isinstance(effect, Desire):
                jobs = effect.desired.jobs
                self.nodes[effect.node].desired = jobs[0] if jobs else None

    # ------------------------------------------------------------ what came out

    def said(self) -> list[str]:
        """The effects since the last call, as lines; incidents as they are now."""
        effects, self.effects = self.effects, []
        kept = {f"{e.kind} {e.key}": None for e in effects if isinstance(e, Journal)}
        lines = [f"kept {', '.join(kept)}"] if kept else []
        lines += [f"{e.level}: {e.text}" for e in effects if isinstance(e, Say)]
        changed = {effect.incident_id: None for effect in effects if isinstance(effect, IncidentChanged)}
        for number in changed:
            lines.append(self._incident(number))
        newest = {effect.node: effect.desired for effect in effects if isinstance(effect, Desire)}
        for node, desired in sorted(newest.items()):
            about = f" ({desired.reason})" if desired.reason else ""
            lines.append(f"{node} <- {desired.phase}{about}" + "".join(f"; {_job(job)}" for job in desired.jobs))
        return lines

    def _incident(self, number: int) -> str:
        incident = self.core.cluster.incidents[number]
        verdict = incident.verdict
        stages = " ".join(f"{name}={seconds:.2f}" for name, seconds in incidents.stages_s(incident).items())
        if verdict is None:
            decided = "no verdict yet"
        else:
            ranks = ",".join(map(str, verdict.ranks)) or "-"
            decided = f"{verdict.fault_class} ranks={ranks} nodes={','.join(verdict.nodes) or '-'} -> {verdict.action}"
        generations = f"{incident.generation}->{incident.new_generation or '-'}"
        return f"incident {number} {incident.state} {generations}: {decided}; {stages}"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _job(job: DesiredJob) -> str:
    words = [f"generation {job.generation}", "go" if job.go else "no go", job.place]
    if job.world is not None:
        world = job.world
        words.append(
            f"world [{' '.join(world.nodes)}] rank {world.group_rank} store {world.store[0]} join {world.join_id}"
        )
        if world.resume_at_most is not None:
            words.append(f"resume at most {world.resume_at_most}")
    if job.evidence:
        words.append("evidence")
    if job.place == "dismissed":
        words.append(f"exit {job.exit_code}")
    if job.stop_pids:
        words.append(f"stop {' '.join(map(str, job.stop_pids))}")
    return ", ".join(words) + (f" ({job.reason})" if job.reason else "")


def _aged(rank: RankSeen, quiet_s: float) -> RankSeen:
    return rank._replace(process_state_s=quiet_s if rank.process_state in {"T", "t", "Z"} else 0.0)
