"""What an agent reports: the job as it sees it, and, where it is asked for evidence, what its probes would find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryzen_coordinator.core.events import (
    NO_BEATS,
    Beats,
    Collective,
    Hello,
    JobSeen,
    NodeReport,
    Probe,
    ProgressSeen,
    RankSeen,
)

from .columns import beats_of
from .simulated import Agent, Rank, SimNode, SimWorld

if TYPE_CHECKING:
    from .simulator import Simulation

PROBE_EVERY_S = 1.0
FIRST_PROBE_S = 0.2
STACKS = {
    1: "all_reduce (torch/distributed/distributed_c10d.py:3023)\nstep (train.py:88)",
    2: "read (io.py:12)\nload_batch (train.py:61)",
    3: "tokenize (data.py:40)\nload_batch (train.py:61)",
    4: "broadcast (torch/distributed/distributed_c10d.py:2710)\nsync_experts (train.py:97)",
    5: "evaluate (train.py:120)",
}
_BASE = 7
COLLECTIVES_A_STEP = 3
"""Collectives on the default group before the first step of a generation."""


def report(sim: Simulation, node: SimNode, agent: Agent, hello: bool) -> NodeReport:
    jobs = (seen_job(sim, node, agent),) if agent.torchrun_pid else ()
    hi = Hello(node.name, host=node.name, node_rank=node.hint) if hello else None
    said, standing = tuple(sim.said.get(node.name, ())), sim.conditions.get(node.name)
    return NodeReport(node.name, agent.stream, agent.seq, hi, jobs, agent.inquiry, health=said, conditions=standing)


def seen_job(sim: Simulation, node: SimNode, agent: Agent) -> JobSeen:
    """The job as the node's agent sees it."""
    word, phase = agent.handler, agent.phase(sim.now_s)
    known = [rank for rank in node.ranks if rank.seen]
    newest = max((rank.generation for rank in known), default=0)
    desired = agent.job()
    below = desired.generation if desired is not None else 0
    evidence = desired is not None and desired.evidence
    ranks = [rank for rank in known if rank.generation == newest]
    return JobSeen(
        run_id="job",
        user="me",
        handler=phase,  # type: ignore[arg-type]
        generation=word.generation if word is not None else newest,
        seen_generation=word.seen if word is not None else 0,
        join_id=word.join_id if word is not None else 0,
        store=word.store if word is not None and phase == "joining" else None,
        shape=word.shape if word is not None else sim.case.shape(known=False),
        ranks=tuple(seen_rank(sim, node, rank, evidence) for rank in ranks),
        beats=_beats(sim, node, ranks, evidence) if sim.case.progress else NO_BEATS,
        old_ranks_alive=sum(rank.end_seen_s is None and rank.generation < below for rank in known),
        gaps=tuple((name, node.elapsed_s(gap)) for name, gap in sorted(sim.worlds.gaps.items()))
        if sim.case.progress
        else (),
        checkpoint_step=sim.worlds.saved_in(newest),
        torchrun_pid=agent.torchrun_pid,
        torchrun_exit_code=agent.torchrun_code if agent.torchrun_ended_s is not None else None,
        stacks=tuple(STACKS.items()) if evidence else (),
        groups=_groups(sim, newest) if evidence else (),
    )


def _groups(sim: Simulation, generation: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The default group, and one of two ranks, which a deadlock is made with."""
    world = sim.worlds.by_generation.get(generation)
    if world is None:
        return ()
    pair = next((rank.rank for _, rank in world.ranks if rank.trouble == "deadlock"), 0)
    return (("0", tuple(range(world.size))), ("1", tuple(sorted((pair, (pair + 1) % world.size)))))


def seen_rank(sim: Simulation, node: SimNode, rank: Rank, evidence: bool) -> RankSeen:
    now_s, attached = sim.now_s, sim.case.progress
    alive = rank.end_seen_s is None
    stopped = alive and rank.trouble == "stopped"
    life = "exited" if not alive else "failing" if rank.failing_s is not None else "alive"
    ends = [each for each in (rank.failing_s, rank.end_seen_s) if each is not None]
    return RankSeen(
        rank=rank.rank,
        local_rank=rank.local,
        pid=rank.pid,
        generation=rank.generation,
        life=life,  # type: ignore[arg-type]
        process_state="T" if stopped else "R",
        process_state_s=node.elapsed_s(now_s - rank.trouble_s) if stopped else 0.0,
        exit_code=rank.code_seen,
        killed_by_agent=rank.by_agent,
        ended_ago_s=node.elapsed_s(now_s - min(ends)) if ends else 0.0,
        error_type=rank.error[0] if rank.failing_s is not None else "",
        error_message=rank.error[1] if rank.failing_s is not None else "",
        attached=attached,
        oom_killed=rank.oom and not alive,
        probe=_probe(sim, node, rank) if evidence and alive else None,
    )


def _beats(sim: Simulation, node: SimNode, ranks: list[Rank], evidence: bool) -> Beats:
    rows = [_progress(sim, node, rank) for rank in ranks]
    return beats_of(rows, [_marks(sim.worlds.world_of(rank), rank, evidence) for rank in ranks])


def _progress(sim: Simulation, node: SimNode, rank: Rank) -> ProgressSeen | None:
    world = sim.worlds.world_of(rank)
    if world.step is None:
        return None
    quiet_s = node.elapsed_s(max(0.0, sim.now_s - rank.changed_s))
    return ProgressSeen(world.step - 1, rank.section, quiet_s, quiet_s, world.done)


def _count(world: SimWorld, rank: Rank, step: int) -> int:
    first = (world.step or 0) - 1 - world.done
    behind = rank.skipped if rank.skipped_from is not None and step >= rank.skipped_from else 0
    return _BASE + COLLECTIVES_A_STEP * (step - first) - behind


def _marks(world: SimWorld, rank: Rank, evidence: bool) -> tuple[tuple[int, int], ...]:
    if world.step is None:
        return ()
    top, first = world.step - 1, world.step - 1 - world.done
    steps = range(max(first, top - 31), top + 1) if evidence else sorted({top, top // 8 * 8, top // 64 * 64})
    return tuple((step, _count(world, rank, step)) for step in steps if step >= first)


# ------------------------------------------------------------ probes


def take_evidence(sim: Simulation, node: SimNode) -> None:
    """The level of `evidence` has perhaps changed: begin to probe, or stop."""
    agent = node.agent
    job = agent.job() if agent is not None else None
    if job is None or not job.evidence:
        for rank in node.ranks:
            rank.samples = 0
        return
    if all(not rank.samples for rank in node.ranks) and agent is not None and not agent.probing:
        agent.probing = True
        sim.on(node, FIRST_PROBE_S, lambda: _sample(sim, node, agent))


def _sample(sim: Simulation, node: SimNode, agent: Agent) -> None:
    job = agent.job()
    if node.agent is not agent or job is None or not job.evidence:
        agent.probing = False
        return
    for rank in node.ranks:
        if rank.alive:
            if not rank.samples or not _still(sim, rank):
                rank.still_since_s = sim.now_s
            rank.samples += 1
            rank.probed_s = sim.now_s
    sim.agents.dirty(node)
    sim.on(node, PROBE_EVERY_S, lambda: _sample(sim, node, agent))


def _still(sim: Simulation, rank: Rank) -> bool:
    """Stack and vital signs are those of the sample before."""
    world = sim.worlds.world_of(rank)
    waits = world.step is not None and world.stuck_s is not None and world.stuck_s <= rank.probed_s
    if rank.trouble in {"stopped", "blocked", "deadlock"}:
        return rank.trouble_s <= rank.probed_s
    return not rank.trouble and waits


def _probe(sim: Simulation, node: SimNode, rank: Rank) -> Probe | None:
    if not rank.samples:
        return None
    world = sim.worlds.world_of(rank)
    waits = not rank.trouble and world.stuck_s is not None
    stack = {"stopped": 0, "blocked": 2, "busy": 3, "deadlock": 4, "pause": 5}.get(rank.trouble, 1 if waits else 3)
    recorder = rank.trouble != "stopped" and world.step is not None
    return Probe(
        samples=rank.samples,
        age_s=node.elapsed_s(sim.now_s - rank.probed_s),
        stack=stack,
        frozen_s=node.elapsed_s(rank.probed_s - rank.still_since_s),
        busy=rank.trouble == "busy" or (rank.trouble == "pause" and rank.rank % 2 == 0),
        in_collective=rank.trouble == "deadlock" or waits,
        wait_channel="futex_wait_queue" if waits or rank.trouble in {"blocked", "deadlock"} else "",
        recorder=recorder,
        collectives=_collectives(world, rank, waits) if recorder else (),
    )


def _collectives(world: SimWorld, rank: Rank, waits: bool) -> tuple[Collective, ...]:
    begun = _count(world, rank, (world.step or 0) - 1)
    done = Collective("0", begun, "allreduce", "Float[33088]", True)
    if waits:
        return (Collective("0", begun + 1, "allreduce", "Float[33088]"), done)
    if rank.trouble == "deadlock":
        return (Collective("1", world.done + 1, "broadcast", "Float[64]"), done)
    return (done,)
