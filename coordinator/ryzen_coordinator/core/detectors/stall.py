"""A rank does not advance and the kernel says why: it is stopped or a zombie.

The limit is learned: 1.2 x the longest legitimate silence of the section the rank is in, plus a margin. Beyond
it, process state is positive evidence. A stall without evidence only makes the job's phase "stalled". So does a
job whose ranks are *all* stopped: that is somebody's will (`scontrol suspend`), and it goes on when they go on.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Job


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    if member is not None or not job.formed or cluster.settings.hang_mode == "off":
        return []
    silent = silent_nodes(cluster, job)
    if job.sends_progress:
        frozen = job.table.sweep(job.gaps, silent, cluster.settings, cluster.now_s).frozen
    else:
        frozen = job.table.frozen_for(cluster.settings.stall_floor_s, silent, cluster.now_s)
    if not frozen:
        return []
    table = job.table
    frozen = tuple(sorted({*frozen, *table.evidence(silent, cluster.now_s)}))  # one is over its limit: name them all
    if len(frozen) == int(table.alive.sum()) > 1:
        return []
    nodes = tuple(sorted({table.node_of(rank) for rank in frozen}))
    last_sign = min(float(table.changed_s[rank]) for rank in frozen)
    return [Suspicion("hang", nodes, last_sign, frozen, tuple(_words(cluster, job, rank) for rank in frozen))]


def silent_nodes(cluster: Cluster, job: Job) -> set[str]:
    return {member.node for member in cluster.silent_members(job)}


def _words(cluster: Cluster, job: Job, rank: int) -> str:
    table, now_s = job.table, cluster.now_s
    node = table.node_of(rank)
    state = next((seen.process_state for seen in job.members[node].seen.ranks if seen.rank == rank), "?")
    section = table.sections[int(table.section[rank])]
    stopped_s, quiet_s = now_s - float(table.frozen_since_s[rank]), now_s - float(table.changed_s[rank])
    return (
        f"rank {rank} ({node}, pid {int(table.pid[rank])}) is in process state {state} for {stopped_s:.2f} s; "
        f"last advance {quiet_s:.2f} s ago in {section or 'the step'!r}, "
        f"limit {job.gaps.limit_s(section, cluster.settings):.2f} s"
    )
