"""What the core is told. Levels: an observation replaces the one before, so a repeated or a late one does no harm.

The hot ones (one a rank and second) are named tuples: they are built 16,384 times a second in a large cluster.
All durations are seconds as measured on the node; the core turns them into its own time when they arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Handler: TypeAlias = Literal["absent", "joining", "running", "closed"]
Life: TypeAlias = Literal["alive", "failing", "exited"]
Endpoint: TypeAlias = tuple[str, int]


class ProgressSeen(NamedTuple):
    """The newest record of a rank's beat page. `quiet_s`: since the page last changed."""

    step: int
    section: str
    quiet_s: float
    step_age_s: float
    steps_done: int


class Beats(NamedTuple):
    """What the pages of a node's ranks say: a column a field, in the order of `JobSeen.ranks`.

    `section`: 1 + the place in `sections`; 0: the page has no record yet, and its other columns mean nothing.
    `marks`: for places whose counts are the same: the steps, a few of the newest, and how many collectives had been
    begun on the default group when each began.
    """

    sections: tuple[str, ...] = ()
    section: tuple[int, ...] = ()
    step: tuple[int, ...] = ()
    quiet_s: tuple[float, ...] = ()
    step_age_s: tuple[float, ...] = ()
    steps_done: tuple[int, ...] = ()
    marks: tuple[tuple[tuple[int, ...], tuple[tuple[int, int], ...]], ...] = ()

    def row(self, place: int) -> ProgressSeen | None:
        number = self.section[place] if place < len(self.section) else 0
        if not number:
            return None
        section = self.sections[number - 1]
        return ProgressSeen(
            self.step[place], section, self.quiet_s[place], self.step_age_s[place], self.steps_done[place]
        )


NO_BEATS = Beats()


class PaceSeen(NamedTuple):
    """How fast the ranks of a node train, over the newest finished steps of each. Rates are of all of them together.

    `ranks`: global ranks that it is of; `sections`: names and mean seconds of a step; `loss`: the newest, in the
    order of `ranks`, NaN where not given and infinite where it is no finite number. `peak_flops` 0: not known.
    `communication_s`: of a step, with a gradient sum under way. `step_work`: tokens or samples of a step, in the order
    of `ranks`, or empty.
    """

    generation: int
    ranks: tuple[int, ...]
    step_s: float
    tokens_per_s: float = 0.0
    samples_per_s: float = 0.0
    flops_per_s: float = 0.0
    hardware_flops_per_s: float = 0.0
    peak_flops: float = 0.0
    sections: tuple[tuple[str, float], ...] = ()
    communication_s: float = 0.0
    all_reduce_p50_s: float = 0.0
    all_reduce_p99_s: float = 0.0
    loss: tuple[float, ...] = ()
    learning_rate: float | None = None
    step_work: tuple[float, ...] = ()


class BatchesSeen(NamedTuple):
    """What the ranks of a node read first, all that are known: global ranks and, in their order, a digest each and one
    more than the number among the data-parallel ranks, 0 where that is not said."""

    generation: int
    ranks: tuple[int, ...]
    digests: tuple[int, ...]
    places: tuple[int, ...]


class Collective(NamedTuple):
    """One entry of a rank's flight recorder: not done, or the newest of its group. `shape`: "Float[33088]"."""

    group: str
    sequence: int
    operation: str
    shape: str = ""
    done: bool = False


class Probe(NamedTuple):
    """What its agent finds out about a rank of a job that stands still.

    `frozen_s`: for how long stack and vital signs (I/O, page faults, context switches) have been the same. `stack`: id
    of a text in `JobSeen.stacks`, 0 where it could not be taken. `recorder`: the flight recorder has answered.
    """

    samples: int = 0
    age_s: float = 0.0
    stack: int = 0
    frozen_s: float = 0.0
    busy: bool = False
    in_collective: bool = False
    wait_channel: str = ""
    recorder: bool = False
    collectives: tuple[Collective, ...] = ()


class RankSeen(NamedTuple):
    """One rank process. `exit_code` is negative for a signal and None where it could not be read.

    What its page says is in the job's `Beats`: this hardly ever changes, and that always.
    """

    rank: int
    local_rank: int
    pid: int
    generation: int
    life: Life = "alive"
    process_state: str = "S"
    process_state_s: float = 0.0
    exit_code: int | None = None
    killed_by_agent: bool = False
    ended_ago_s: float = 0.0
    error_type: str = ""
    error_message: str = ""
    attached: bool = False
    oom_killed: bool = False
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What torchrun was asked for on a node. `options` are those of --rdzv-conf."""

    min_nodes: int = 1
    max_nodes: int = 1
    ranks_per_node: int = 1
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str) -> str | None:
        return dict(self.options).get(name)


@dataclass(frozen=True, slots=True)
class JobSeen:
    """One job as one node sees it now. `ranks` are those of the newest generation seen there, with their exits.

    `checks`: newest digests of the ranks' parameters. `self_checks`: how those of their own arithmetic stand; none: as
    told before. `skipped`: newest steps that their gradient guards have not done, ascending, with whether a gradient
    was not finite; `rollback_wanted`: a guard asks to resume from a checkpoint of this step or before.
    """

    run_id: str
    user: str
    handler: Handler = "absent"
    generation: int = 0
    seen_generation: int = 0
    join_id: int = 0
    store: Endpoint | None = None
    shape: Shape = Shape()
    ranks: tuple[RankSeen, ...] = ()
    beats: Beats = NO_BEATS
    old_ranks_alive: int = 0
    gaps: tuple[tuple[str, float], ...] = ()
    checkpoint_step: int | None = None
    torchrun_pid: int = 0
    torchrun_exit_code: int | None = None
    stacks: tuple[tuple[int, str], ...] = ()
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    checks: tuple[ChecksSeen, ...] = ()
    self_checks: tuple[SelfCheckSeen, ...] = ()
    skipped: tuple[tuple[int, bool], ...] = ()
    rollback_wanted: int | None = None
    pace: PaceSeen | None = None
    batches: BatchesSeen | None = None

    @property
    def key(self) -> JobKey:
        return (self.user, self.run_id)

    @property
    def join(self) -> Join:
        return (self.torchrun_pid, self.join_id)


class JobNews(NamedTuple):
    """What a node says of a job of which nothing else has changed since its report number `as_of` on that stream.

    The fields are those of `JobSeen`.
    """

    run_id: str
    user: str
    as_of: int
    beats: Beats = NO_BEATS
    gaps: tuple[tuple[str, float], ...] = ()
    checkpoint_step: int | None = None
    checks: tuple[ChecksSeen, ...] = ()
    self_checks: tuple[SelfCheckSeen, ...] = ()
    skipped: tuple[tuple[int, bool], ...] = ()
    pace: PaceSeen | None = None
    batches: BatchesSeen | None = None

    @property
    def key(self) -> JobKey:
        return (self.user, self.run_id)


ChecksSeen: TypeAlias = tuple[tuple[int, ...], int, tuple[tuple[int, int], ...]]
"""Places in `JobSeen.ranks`, their group of replicas, and what they tell alike: (steps done, digest)."""

CheckKind: TypeAlias = Literal["known answer", "recomputation", "replay", "neighbours"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a check in which a rank compares its arithmetic with its own stands.

    `agreed`: comparisons that were equal before the first that was not. `clean_step`: steps done that stand good.
    `step`: steps done at the first that differed. `digest` of the newest known answer; `key` of device and software.
    """

    kind: CheckKind
    agreed: int
    differed: int = 0
    clean_step: int = 0
    step: int = 0
    digest: int = 0
    key: int = 0


SelfCheckSeen: TypeAlias = tuple[tuple[int, ...], Standing]
"""Places in `JobSeen.ranks`, and what they tell alike."""

JobKey: TypeAlias = tuple[str, str]
"""(user, rendezvous id)."""

Join: TypeAlias = tuple[int, int]
"""(torchrun's pid, which call of next_rendezvous): one wait for a world."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a node is."""

    node: str
    session: str = ""
    boot_id: str = ""
    host: str = ""
    address: str = ""
    node_rank: int | None = None
    version: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    device_model: str = ""


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """Something that a node's kernel log or driver said, once. `id` grows for ever on one node; a repeated one is old.

    `at_unix_s`: the node's wall clock. `ranks`: of job `run_id`, to which the process or the device belongs;
    `foreign`: it is known to belong to nobody whom the agent watches; `ours`: it follows from a kill by the agent.
    """

    id: int
    at_unix_s: float
    kind: str
    message: str = ""
    code: int = 0
    device: str = ""
    pci: str = ""
    unit: str = ""
    fault_class: str = ""
    action: str = ""
    pid: int | None = None
    process: str = ""
    count: int = 1
    run_id: str = ""
    ranks: tuple[int, ...] = ()
    foreign: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True)
class ConditionSeen:
    """Something that is wrong with a node for as long as it is said. `name` and `device` tell one from another."""

    name: str
    device: str = ""
    severity: str = "warning"
    action: str = ""
    message: str = ""
    age_s: float = 0.0
    value: float | None = None
    limit: float | None = None
    run_id: str = ""
    ranks: tuple[int, ...] = ()
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class NodeReport:
    """All that a node observes now. `stream` tells one connection from another; `hello` opens one.

    `health`: what has happened there, perhaps told before; `conditions`: what is wrong there, None: as told before.
    """

    node: str
    stream: int
    seq: int = 0
    hello: Hello | None = None
    jobs: tuple[JobSeen | JobNews, ...] = ()
    answered_inquiry: int = 0
    clock_offset_s: float = 0.0
    health: tuple[HealthSeen, ...] = ()
    conditions: tuple[ConditionSeen, ...] | None = None


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A connection ended. `goodbye`: the agent said that it leaves."""

    node: str
    stream: int
    goodbye: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OperatorEvict:
    """A person wants the node out of every world."""

    node: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OperatorReadmit:
    """A person lets an evicted node in again."""

    node: str


Event: TypeAlias = NodeReport | NodeGone | OperatorEvict | OperatorReadmit
