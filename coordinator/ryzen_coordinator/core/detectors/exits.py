"""A rank ended that should not have: an exit code, an exception's stamp, or a torchrun that came back or left.

The kernel tells the agent within milliseconds, an exception is stamped in the beat page before Python takes its
second to finalise. A torchrun that is back in the rendezvous with the world's generation behind it has lost a
rank even if nobody saw which.
"""

from __future__ import annotations

from ryzen_coordinator.core.blame import Failure
from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.events import ProgressSeen, RankSeen
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Job


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    if member is None or not job.formed or job.world is None or member.node not in job.world:
        return []
    failures = failures_of(job.generation, member, cluster.now_s)
    if failures:
        first = min(failure.ended_s for failure in failures)
        words = tuple(failure.words() for failure in failures)
        return [Suspicion("exit", (member.node,), first, tuple(f.rank for f in failures), words)]
    reason = left_without_a_word(job, member)
    return [Suspicion("exit", (member.node,), cluster.now_s, (), (reason,))] if reason else []


def failures_of(generation: int, member: Member, now_s: float) -> list[Failure]:
    """The ranks of this generation on the node that have failed, or are about to."""
    back = member.seen.handler == "joining"
    return [
        as_failure(rank, member.beats.row(place), member.node, now_s)
        for place, rank in enumerate(member.seen.ranks)
        if rank.life != "alive" and rank.generation == generation and _failed(rank, back)
    ]


def as_failure(rank: RankSeen, progress: ProgressSeen | None, node: str, now_s: float) -> Failure:
    return Failure(
        rank=rank.rank,
        node=node,
        exit_code=rank.exit_code if rank.life == "exited" else None,
        ended_s=now_s - rank.ended_ago_s,
        error_type=rank.error_type,
        error_message=rank.error_message,
        killed_by_agent=rank.killed_by_agent,
        step=progress.step if progress is not None else None,
        oom_killed=rank.oom_killed,
    )


def left_without_a_word(job: Job, member: Member) -> str | None:
    """Torchrun is not in this world any more, though no rank of it is seen to have failed; how, in words."""
    seen = member.seen
    if job.world is None or member.all_done(job.generation):
        return None
    if member.torchrun_gone:
        code = f" with exit code {seen.torchrun_exit_code}" if seen.torchrun_exit_code is not None else ""
        return f"torchrun of {member.node} ended{code}"
    if seen.handler != "joining":
        return None
    if seen.torchrun_pid != job.world.join_of(member.node)[0] or seen.generation < member.took == job.generation:
        return f"torchrun of {member.node} was started anew"
    if seen.generation >= job.generation:
        return f"torchrun of {member.node} came back to the rendezvous"
    return None


def _failed(rank: RankSeen, back_in_rendezvous: bool) -> bool:
    if rank.life == "failing":
        return True
    if rank.life != "exited" or rank.exit_code == 0:
        return False
    return rank.exit_code is not None or rank.killed_by_agent or back_in_rendezvous
