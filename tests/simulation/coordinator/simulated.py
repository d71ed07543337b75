"""The parts of the simulated cluster, as data: a rank, a torchrun with its handler, an agent, a node, a world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from ryzen_coordinator.core.effects import DesiredJob, DesiredNode
from ryzen_coordinator.core.events import Endpoint, Shape

if TYPE_CHECKING:
    from .simulator import Simulation

HANDLER_GRACE_S = 2.0

Trouble: TypeAlias = Literal["", "stopped", "blocked", "busy", "deadlock", "pause"]
"""What keeps a rank from stepping on. stopped: SIGSTOP; blocked: waits for ever, for nobody; busy: computes for ever;
deadlock: waits in a collective of a smaller group; pause: an evaluation that is silent and ends."""


@dataclass(slots=True)
class Rank:
    """One process. `end_seen_s`, `code_seen`: what the node's agent knows of its end; `failing_s`: of its exception."""

    rank: int
    local: int
    pid: int
    generation: int
    born_s: float
    started: bool = False
    alive: bool = True
    trouble: Trouble = ""
    trouble_s: float = 0.0
    tainted: bool = False
    exit_code: int | None = None
    end_seen_s: float | None = None
    code_seen: int | None = None
    failing_s: float | None = None
    error: tuple[str, str] = ("", "")
    by_agent: bool = False
    kill_sent: bool = False
    doomed: bool = False
    terminated: bool = False
    changed_s: float = 0.0
    section: str = ""
    skipped: int = 0
    skipped_from: int | None = None
    oom: bool = False
    seen: bool = False
    samples: int = 0
    probed_s: float = 0.0
    still_since_s: float = 0.0


@dataclass(slots=True)
class Torchrun:
    """One torchrun and its rendezvous handler. `order`: what its agent told it last."""

    pid: int
    alive: bool = True
    exit_code: int | None = None
    phase: Literal["joining", "running", "closed"] = "joining"
    generation: int = 0
    seen: int = 0
    taken: int = 0
    join_id: int = 0
    entering: bool = False
    offered: Endpoint | None = None
    current: Endpoint | None = None
    world: tuple[str, ...] = ()
    stopping: bool = False
    order: DesiredJob | None = None
    link: int = 0
    waits_at_barrier_s: float | None = None


@dataclass(frozen=True, slots=True)
class HandlerWord:
    """What a handler says of itself to its agent."""

    pid: int
    phase: Literal["joining", "running", "closed"]
    generation: int
    seen: int
    taken: int
    join_id: int
    store: Endpoint | None
    shape: Shape


@dataclass(slots=True)
class Agent:
    """One agent process; a restarted one is a new object. `handler`: the newest word, kept when the link is lost."""

    alive: bool = True
    stream: int = 0
    connected: bool = False
    seq: int = 0
    said_s: float = -10.0
    due: bool = False
    version: int = 0
    desired: DesiredNode | None = None
    inquiry: int = 0
    go: tuple[int, float] = (0, 0.0)
    handler: HandlerWord | None = None
    linked: bool = False
    link_lost_s: float = -10.0
    torchrun_pid: int = 0
    torchrun_ended_s: float | None = None
    torchrun_code: int | None = None
    may_connect_s: float = 0.0
    told_s: float = 0.0
    probing: bool = False

    def job(self) -> DesiredJob | None:
        """What is desired of the job; what was meant for an earlier torchrun is not meant for this one."""
        for job in self.desired.jobs if self.desired is not None else ():
            if job.torchrun_pid in (0, self.torchrun_pid):
                return job
        return None

    def phase(self, now_s: float) -> str:
        """How the job's handler is, as this agent would tell."""
        word = self.handler
        if self.torchrun_ended_s is not None or (word is not None and word.phase == "closed"):
            return "closed"
        if word is None or (not self.linked and now_s - self.link_lost_s > HANDLER_GRACE_S):
            return "absent"
        return word.phase


@dataclass(slots=True)
class SimNode:
    """One machine. A machine that came back after its death is a new object. `drift`: of its clock, in parts of one."""

    name: str
    hint: int
    torchrun: Torchrun
    agent: Agent | None = None
    drift: float = 0.0
    gone: bool = False
    frozen_until_s: float = 0.0
    ranks: list[Rank] = field(default_factory=list)

    def elapsed_s(self, seconds: float) -> float:
        """What this node's clock measures of a time."""
        return seconds * (1.0 + self.drift)


@dataclass(slots=True)
class SimWorld:
    """One generation: who runs in it and how far it is. `step` is the one all ranks are in, once it has begun.

    It counts from 1; scripts and reports count from 0, so that a checkpoint of step c has c steps done."""

    generation: int
    nodes: tuple[str, ...]
    size: int
    ranks: list[tuple[SimNode, Rank]] = field(default_factory=list)
    step: int | None = None
    done: int = 0
    resume_at_most: int | None = None
    resumed: int = 0
    tainted: bool = False
    saved: int | None = None
    stuck_s: float | None = None
    """Since when a rank is missing in the present step."""
    broken: bool = False
    finished: bool = False
    formed_s: float = 0.0
    first_step_s: float | None = None
    last_step_s: float = 0.0


@dataclass(slots=True)
class Fault:
    """What happens to whom and when: at a time, or `delay_s` after the `nth` signal of the simulation."""

    kind: str
    node: str = ""
    local: int = 0
    seconds: float = 0.0
    at_s: float | None = None
    signal: str = ""
    nth: int = 1
    delay_s: float = 0.0
    struck_s: float | None = None

    def words(self) -> str:
        when = (
            f"at {self.at_s:.2f} s" if self.at_s is not None else f"{self.delay_s:.3f} s after {self.signal} {self.nth}"
        )
        return f"{self.kind} {self.node} {self.local} for {self.seconds:.2f} s {when}"


Strike: TypeAlias = Callable[["Simulation", Fault], bool]
"""Does it. False where there was nothing to strike."""
