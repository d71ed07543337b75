"""How a job ends: by itself, by our brakes, or before it began."""

from __future__ import annotations

from ryzen_coordinator.core import incidents, membership
from ryzen_coordinator.core.state import Cluster, Job, Leaver

DO_NOT_REQUEUE = 93
"""The same figure as ryzen_protos.DO_NOT_REQUEUE_EXIT_CODE, which the core may not import; a test compares."""


def finish(cluster: Cluster, job: Job, trigger: str, exit_code: int, note: str) -> None:
    """The job is over by itself; whoever still waits for it is dismissed."""
    if trigger == "failed":
        _announce_end(cluster, job)
    job.move(trigger)
    _end(cluster, job, exit_code, note)
    cluster.say("info", f"{job.run_id}: finished, exit code {exit_code}: {note}", job=job.run_id)


def give_up(cluster: Cluster, job: Job, reason: str) -> None:
    """A restart cannot help: everybody leaves with the do-not-requeue code."""
    _announce_end(cluster, job)
    job.move("stopped by us")
    _end(cluster, job, DO_NOT_REQUEUE, reason)
    cluster.say("error", f"{job.run_id}: given up: {reason}", job=job.run_id)


def refuse(cluster: Cluster, job: Job, exit_code: int, reason: str) -> None:
    """The job can never run as it was asked for."""
    job.move("stopped by us")
    job.go = True
    _end(cluster, job, exit_code, reason)
    cluster.say("error", f"{job.run_id}: refused: {reason}", job=job.run_id)


def _announce_end(cluster: Cluster, job: Job) -> None:
    """Like a generation: ranks that live must end, and their torchrun can only be dismissed in the rendezvous."""
    membership.next_number(cluster, job)
    job.announced_s = cluster.now_s
    job.go = False


def _end(cluster: Cluster, job: Job, exit_code: int, note: str) -> None:
    job.exit_code = exit_code
    job.note = note
    job.over_s = cluster.now_s
    job.question = job.hang = None
    incidents.close_advice(cluster, job, "the job is over")
    job.stop_pids.clear()
    job.unended = {
        name: Leaver(member.seen.torchrun_pid, cluster.nodes[name].stream)
        for name, member in job.members.items()
        if not member.torchrun_gone
    }
    incidents.close_all(cluster, job, f"the job is over: {note}")
    for member in job.members.values():
        incidents.close_network(cluster, member, "the job is over")
    cluster.job_changed(job)
