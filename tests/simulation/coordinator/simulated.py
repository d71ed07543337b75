"""The parts of the simulated cluster: a rank, a node, and what its agent would report of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ryzen_coordinator.core.effects import DesiredJob, DesiredNode
from ryzen_coordinator.core.events import JobSeen, ProgressSeen, RankSeen, Shape

START_S = 1.0


@dataclass
class Rank:
    rank: int
    local: int
    pid: int
    generation: int
    born_s: float
    alive: bool = True
    frozen_s: float | None = None
    exit_code: int | None = None
    ended_s: float = 0.0
    by_agent: bool = False
    error: tuple[str, str] = ("", "")
    doomed_s: float | None = None
    terminated_s: float | None = None
    changed_s: float = 0.0


@dataclass
class SimNode:
    name: str
    hint: int
    torchrun: bool = True
    torchrun_pid: int = 0
    exit_code: int | None = None
    handler: str = "joining"
    join_id: int = 1
    generation: int = 0
    seen_generation: int = 0
    world: tuple[str, ...] = ()
    stopping: bool = False
    next_poll_s: float = 0.0
    ranks: list[Rank] = field(default_factory=list)
    agent: bool = True
    agent_back_s: float | None = None
    node_back_s: float | None = None
    stream: int = 0
    connect_s: float | None = 0.0
    seq: int = 0
    said_s: float = -10.0
    changed: bool = True
    desired: DesiredNode | None = None
    answered: int = 0
    dismissed: int | None = None
    kill_at_s: float | None = None

    def job(self) -> DesiredJob | None:
        return self.desired.jobs[0] if self.desired is not None and self.desired.jobs else None


@dataclass
class Progress:
    """Where each generation is: the step it is in, how many it has done."""

    step_of: dict[int, int] = field(default_factory=dict)
    done_of: dict[int, int] = field(default_factory=dict)
    next_step_s: dict[int, float] = field(default_factory=dict)
    checkpoint: int | None = None


def seen_job(node: SimNode, shape: Shape, progress: Progress, now_s: float) -> JobSeen:
    """The job as the node's agent sees it."""
    waits = node.handler == "joining"
    return JobSeen(
        run_id="job",
        user="me",
        handler=node.handler,  # type: ignore[arg-type]
        generation=node.generation,
        seen_generation=node.seen_generation,
        join_id=node.join_id,
        store=(node.name, 20000 + node.join_id) if waits else None,
        shape=shape,
        ranks=tuple(seen_rank(rank, progress, now_s) for rank in node.ranks),
        gaps=(("", 0.15), ("(start)", START_S + 0.4)) if progress.done_of else (),
        checkpoint_step=progress.checkpoint,
        torchrun_pid=node.torchrun_pid,
        torchrun_exit_code=node.exit_code,
    )


def seen_rank(rank: Rank, progress: Progress, now_s: float) -> RankSeen:
    done, record = progress.done_of.get(rank.generation), None
    if done is not None:
        quiet_s = now_s - rank.changed_s
        record = ProgressSeen(progress.step_of[rank.generation], "", quiet_s, quiet_s, done)
    return RankSeen(
        rank=rank.rank,
        local_rank=rank.local,
        pid=rank.pid,
        generation=rank.generation,
        life="alive" if rank.alive else "exited",
        process_state="T" if rank.frozen_s is not None and rank.alive else "R",
        process_state_s=now_s - rank.frozen_s if rank.frozen_s is not None else 0.0,
        exit_code=rank.exit_code,
        killed_by_agent=rank.by_agent,
        ended_ago_s=now_s - rank.ended_s if not rank.alive else 0.0,
        error_type=rank.error[0],
        error_message=rank.error[1],
        attached=True,
        progress=record,
    )
