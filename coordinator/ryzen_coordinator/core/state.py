"""What the core knows. Plain mutable records, changed only by the modules of the core, saved by durable.py.

Three lifetimes: a `Node` lives as long as anybody speaks of it, a `Job` from its first torchrun to its end, an
`Incident` from the first suspicion to the first new step. A `Member` is a node in the eyes of one job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ryzen_coordinator.core.backlog import Backlog
from ryzen_coordinator.core.blame import Failure, Verdict
from ryzen_coordinator.core.book import Book
from ryzen_coordinator.core.effects import Effect, IncidentChanged, Kind, Level, Say
from ryzen_coordinator.core.events import Endpoint, JobKey, Join, Shape
from ryzen_coordinator.core.evidence import Finding, RankMoment, StackGroup
from ryzen_coordinator.core.gaps import Gaps
from ryzen_coordinator.core.health_record import Burst
from ryzen_coordinator.core.marks import Marks
from ryzen_coordinator.core.members import Member, Node
from ryzen_coordinator.core.phases import JOB_PHASES, NODE_PHASES, follow
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.rendezvous import Plan
from ryzen_coordinator.core.replicas import Replicas
from ryzen_coordinator.core.self_checks import SelfChecks
from ryzen_coordinator.core.settings import CoreSettings

_ROUNDING_S = 1e-6
_LARGE_NODES = 64


@dataclass(frozen=True, slots=True)
class World:
    """A formed world: its nodes by group rank and the join of each that it answers. `store` None: adopted."""

    generation: int
    nodes: tuple[str, ...]
    joins: tuple[Join, ...]
    store: Endpoint | None
    uniform: bool
    ranks: int
    resume_at_most: int | None = None
    place: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", {node: rank for rank, node in enumerate(self.nodes)})

    def __contains__(self, node: str) -> bool:
        return node in self.place

    def join_of(self, node: str) -> Join:
        return self.joins[self.place[node]]


@dataclass(slots=True)
class Question:
    """A suspicion that fresh answers may settle: of the frozen ranks' nodes, or of those beside a silent one."""

    kind: Literal["hang", "node_loss"]
    inquiry: int
    asked_s: float
    nodes: frozenset[str]


@dataclass(slots=True)
class Hang:
    """A job that stands still, while it is being looked into. `since_s`: the last advance of any rank."""

    step: int
    since_s: float
    inquiry: int
    asked_s: float
    looked_s: float = 0.0
    told_s: float = 0.0
    acted: bool = False
    finding: Finding | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    """Checkpoints of the steps above `clean` up to `high` were written by ranks that did not agree any more."""

    generation: int
    clean: int
    high: int


@dataclass(frozen=True, slots=True)
class Leaver:
    """A node whose torchrun was there when the job ended, and over which stream it was heard then."""

    torchrun_pid: int
    stream: int


@dataclass(slots=True)
class Job:
    """(user, rendezvous id). `slots`: who holds or last held each group rank; a lost node's stays vacant.

    `unended`: once the job is over, the nodes whose torchrun has not been seen to leave. `standing`: why it stands
    still, for the status. `advice`: the incident of the present stall while nothing has been done about it.
    `floor_step`: the step at which a stall without proof was acted on last. `heard_until_s`: until when
    no node of the world `heard_world` (its generation and size) can be silent. `held_until_s`: until when no world is
    formed, because it is not decided yet who is out. `skip_told`: generation and step of the newest skipped step that
    there was word of; `rollback_wanted`, `rollback_answered`: generation, and step from before which a guard wants to
    resume; `diverged_step`: of the last such rollback. `corruption_answered`: the generation whose replicas differed
    last; `unnamed_rollback_unix_s`: when that was last rolled back for without anybody named. `contradicted`: the node
    of the rank that contradicted itself last, and when (seconds since 1970). `batches`: who read which first batch, of
    the generation `batches_of`; `same_batches`: pairs of ranks that read the same.
    """

    user: str
    run_id: str
    shape: Shape
    born_s: float
    phase: str = "forming"
    generation: int = 0
    announced_s: float = 0.0
    held_until_s: float = 0.0
    go: bool = False
    stopped_s: float | None = None
    formed_s: float = 0.0
    world: World | None = None
    slots: tuple[str, ...] = ()
    plan: Plan | None = None
    planned_s: float = 0.0
    members: dict[str, Member] = field(default_factory=dict)
    table: ProgressTable = field(default_factory=lambda: ProgressTable(0, []))
    gaps: Gaps = field(default_factory=Gaps)
    gaps_kept_s: float = 0.0
    heard_world: tuple[int, int] = (0, 0)
    heard_until_s: float = 0.0
    inquiry: int = 0
    asked_to_grow_s: float = 0.0
    question: Question | None = None
    reported_pids: set[int] = field(default_factory=set)
    advised: tuple[int, ...] | None = None
    hang: Hang | None = None
    advice: int | None = None
    floor_step: int | None = None
    batches_of: int = -1
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)
    same_batches: list[tuple[int, int]] = field(default_factory=list)
    marks: Marks = field(default_factory=Marks)
    taint: Taint | None = None
    skip_told: tuple[int, int] = (0, -1)
    rollback_wanted: tuple[int, int] | None = None
    rollback_answered: tuple[int, int] | None = None
    diverged_step: int | None = None
    replicas: Replicas = field(default_factory=Replicas)
    corruption_answered: int = 0
    unnamed_rollback_unix_s: float = 0.0
    self_checks: SelfChecks = field(default_factory=SelfChecks)
    contradicted: tuple[str, float] = ("", 0.0)
    open: list[int] = field(default_factory=list)
    checkpoint_step: int | None = None
    restarts: int = 0
    fruitless: int = 0
    best_step: int = -1
    best_checkpoint: int = -1
    sends_progress: bool = False
    watched: bool = False
    stop_pids: dict[str, tuple[int, ...]] = field(default_factory=dict)
    exit_code: int | None = None
    note: str = ""
    standing: str = ""
    ending_s: float = 0.0
    over_s: float = 0.0
    unended: dict[str, Leaver] = field(default_factory=dict)
    book: Book = field(default_factory=Book)

    @property
    def key(self) -> JobKey:
        return (self.user, self.run_id)

    @property
    def record(self) -> str:
        """Its key in the journal."""
        return f"{self.user}/{self.run_id}"

    @property
    def formed(self) -> bool:
        """The world of the newest generation is formed."""
        return self.world is not None and self.world.generation == self.generation

    @property
    def large(self) -> bool:
        """More nodes than can all be looked at with each report of one, or told at each change whom they wait for."""
        return len(self.members if self.world is None else self.world.nodes) > _LARGE_NODES

    def world_members(self) -> list[Member]:
        if self.world is None:
            return []
        return [self.members[name] for name in self.world.nodes if name in self.members]

    def move(self, trigger: str) -> None:
        self.phase = follow(JOB_PHASES, self.phase, trigger)


@dataclass(slots=True)
class Incident:
    """One fault, from the first suspicion to the first new step.

    `marks`: core times by name. `nodes`, `torchruns`: the world that was struck and the pids of its torchruns.
    `bursts`: the health events that are part of it. `gpu_s`: GPU-seconds that it has cost, by state (ledger.py).
    """

    id: int
    user: str
    run_id: str
    kind: str
    generation: int
    opened_unix_s: float
    nodes: tuple[str, ...] = ()
    torchruns: dict[str, int] = field(default_factory=dict)
    state: str = "open"
    new_generation: int = 0
    verdict: Verdict | None = None
    marks: dict[str, float] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    step: int | None = None
    resumed_step: int | None = None
    considered: list[str] = field(default_factory=list)
    stacks: list[StackGroup] = field(default_factory=list)
    ranks: list[RankMoment] = field(default_factory=list)
    resume_at_most: int | None = None
    bursts: list[Burst] = field(default_factory=list)
    gpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> JobKey:
        return (self.user, self.run_id)

    def tell(self, now_s: float, line: str) -> None:
        """Add a line to the timeline: seconds since the fault first."""
        self.timeline.append(f"{now_s - self.marks['fault']:8.3f} s  {line}")


Durable: TypeAlias = tuple[Kind, str]
"""(kind, key) of a record that must be written."""


@dataclass(slots=True)
class Cluster:
    """The whole state, and what the present step has to hand out.

    `calm_until_s`: until when no node can fall silent, and none is on its way from one phase to another.
    """

    settings: CoreSettings
    unix_offset_s: float
    now_s: float
    nodes: dict[str, Node] = field(default_factory=dict)
    jobs: dict[JobKey, Job] = field(default_factory=dict)
    incidents: dict[int, Incident] = field(default_factory=dict)
    last_generation: dict[JobKey, int] = field(default_factory=dict)
    calm_until_s: float = 0.0
    backlog: Backlog = field(default_factory=Backlog)
    next_incident: int = 1
    next_inquiry: int = 1
    effects: list[Effect] = field(default_factory=list)
    stale: set[str] = field(default_factory=set)
    durable: dict[Durable, None] = field(default_factory=dict)

    def say(self, level: Level, text: str, **fields: str) -> None:
        self.effects.append(Say(level, text, tuple(fields.items())))

    def job_changed(self, job: Job, keep: bool = True) -> None:
        """The desired state of the job's nodes may differ now; `keep`: and a decision must be on disk first."""
        self.stale.update(job.members)
        if keep:
            self.durable[("job", job.record)] = None

    def node_changed(self, node: Node) -> None:
        self.stale.add(node.name)
        self.durable[("node", node.name)] = None

    def incident_changed(self, incident: Incident) -> None:
        self.durable[("incident", str(incident.id))] = None
        self.effects.append(IncidentChanged(incident.id))

    def node_moves(self, node: Node, trigger: str, reason: str = "") -> None:
        self.calm_until_s = self.now_s
        node.phase = follow(NODE_PHASES, node.phase, trigger)
        node.reason = reason
        self.node_changed(node)

    def ask(self, job: Job) -> int:
        """Ask every node of the job for a fresh observation; the number of the inquiry."""
        job.inquiry = self.next_inquiry
        self.next_inquiry += 1
        self.stale.update(job.members)
        return job.inquiry

    @property
    def patience_s(self) -> float:
        """The lease, and for how long a word that was said in time may have been waiting to be taken in."""
        return self.settings.lease_s + self.backlog.behind_s

    def silent(self, member: Member) -> bool:
        """The node's word on the job is older than the lease and our own delay."""
        return self.now_s - member.heard_s > self.patience_s

    def silent_members(self, job: Job) -> list[Member]:
        """Those of the world that are silent.

        Asked twenty times a second: while nobody can have fallen silent since the last answer, nobody is looked at.
        """
        world = job.world
        if world is None or (
            job.heard_world == (world.generation, len(world.nodes)) and self.now_s < job.heard_until_s
        ):
            return []
        members = job.world_members()
        silent = [member for member in members if self.silent(member)]
        if not silent and members:
            job.heard_world = (world.generation, len(world.nodes))
            job.heard_until_s = self.silent_from_s(min(member.heard_s for member in members))
        return silent

    def silent_from_s(self, heard_s: float) -> float:
        """Before then whoever was heard at `heard_s` is not silent, whatever the sums are rounded to."""
        return heard_s + self.settings.lease_s - _ROUNDING_S

    def silent_node(self, name: str) -> bool:
        """The node has said nothing at all for longer than the lease and our own delay."""
        return self.now_s - self.nodes[name].heard_s > self.patience_s

    def reachable(self, member: Member) -> bool:
        node = self.nodes[member.node]
        return node.connected and not self.silent(member)
