"""A world that is smaller than it may be takes waiting nodes in, when the job's policy says so."""

from __future__ import annotations

from ryzen_coordinator.core import membership
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.settings import Grow
from ryzen_coordinator.core.state import Cluster, Job

ASK_EVERY_S = 0.25
"""Lower: more answers while a step lasts. Higher: a job with quick steps does more of them again."""


def grow(cluster: Cluster, job: Job) -> None:
    """`checkpoint`: once one has been committed since the node began to wait, so that hardly a step is lost."""
    if job.world is None or not job.formed or job.watched or len(job.world.nodes) >= job.shape.max_nodes:
        return
    adopted = job.world.store is None
    if adopted and cluster.now_s - job.formed_s <= cluster.settings.rejoin_wait_s:
        return  # the rest of an adopted world may only not have spoken yet
    when = policy(cluster, job)
    if not all(cluster.reachable(member) for member in job.world_members()):
        return  # one that cannot hear of the new world would be left out of it
    for member in job.members.values():
        if member.node in job.world or when == "never" or not membership.is_ready(cluster, job, member):
            continue
        if when == "now" or not job.sends_progress or _steps_on(cluster, job, member):
            membership.announce(cluster, job, f"{member.node} is back or new: the world grows")
            return


def policy(cluster: Cluster, job: Job) -> Grow:
    """The job's own option (--rdzv-conf grow=...), else the setting."""
    known: dict[str | None, Grow] = {"checkpoint": "checkpoint", "now": "now", "never": "never"}
    return known.get(job.shape.option("grow"), cluster.settings.grow)


def _steps_on(cluster: Cluster, job: Job, member: Member) -> bool:
    """A checkpoint was committed since the node began to wait, and a step has begun after it.

    The second, because the last thing many a job does is to save: it must not be torn down while it exits. Agents
    report a commit at once but steps once a second, which a job that saves more often would outrun: so we ask.
    """
    since = member.ready_checkpoint if member.ready_checkpoint is not None else -1
    saved, step = job.checkpoint_step, job.table.top_step()
    if saved is None or step is None or saved <= since:
        return False
    if step > saved:
        return True
    if cluster.now_s - job.asked_to_grow_s >= ASK_EVERY_S:
        job.asked_to_grow_s = cluster.now_s
        cluster.ask(job)
    return False
