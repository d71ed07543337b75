"""A world that is smaller than it may be takes waiting nodes in, when the job's policy says so."""

from __future__ import annotations

from ryzen_coordinator.core import membership
from ryzen_coordinator.core.settings import Grow
from ryzen_coordinator.core.state import Cluster, Job, Member


def grow(cluster: Cluster, job: Job) -> None:
    """`checkpoint`: once one has been committed since the node began to wait, so that hardly a step is lost."""
    if job.world is None or not job.formed or job.watched or len(job.world.nodes) >= job.shape.max_nodes:
        return
    adopted = job.world.store is None
    if adopted and cluster.now_s - job.formed_s <= cluster.settings.rejoin_wait_s:
        return  # the rest of an adopted world may only not have spoken yet
    when = policy(cluster, job)
    for member in job.members.values():
        if member.node in job.world or when == "never" or not membership.is_ready(cluster, job, member):
            continue
        if when == "now" or not job.sends_progress or _saved_since(job, member):
            membership.announce(cluster, job, f"{member.node} is back or new: the world grows")
            return


def policy(cluster: Cluster, job: Job) -> Grow:
    """The job's own option (--rdzv-conf grow=...), else the setting."""
    known: dict[str | None, Grow] = {"checkpoint": "checkpoint", "now": "now", "never": "never"}
    return known.get(job.shape.option("grow"), cluster.settings.grow)


def _saved_since(job: Job, member: Member) -> bool:
    since = member.ready_checkpoint if member.ready_checkpoint is not None else -1
    return job.checkpoint_step is not None and job.checkpoint_step > since
