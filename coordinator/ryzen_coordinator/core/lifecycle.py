"""A job's own life between two worlds: its first step, its stalls, and its end by itself."""

from __future__ import annotations

from ryzen_coordinator.core import ending, growth, hang, incidents
from ryzen_coordinator.core.blame import Verdict
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import OVER, RECOVERING, WORLD_UP
from ryzen_coordinator.core.state import Cluster, Job
from ryzen_coordinator.core.words import few


def advance(cluster: Cluster, job: Job, member: Member | None) -> None:
    """One look at a job; `member` has just reported, None: time has passed. What costs a pass over a large job's
    nodes waits for the tick."""
    thorough = member is None or not job.large
    if job.phase == "restoring" and thorough:
        _watch_start(cluster, job)
    if (job.phase in WORLD_UP or job.phase == "ending") and thorough:
        hang.look(cluster, job)
    if job.phase == "running" and thorough:
        growth.grow(cluster, job)
    done = member is not None and job.formed and member.all_done(job.generation)
    ended = done or (member is None and bool(job.table.ended.any()))
    if (job.phase in WORLD_UP and ended) or job.phase == "ending":
        _watch_end(cluster, job)
    if job.phase in RECOVERING and thorough:
        _watch_late_end(cluster, job)
    if job.phase not in OVER and thorough:
        _watch_leaving(cluster, job)


def _watch_start(cluster: Cluster, job: Job) -> None:
    if job.world is None:
        return
    table = job.table
    alive_since = table.all_alive_since_s(job.world.ranks)
    if alive_since is None and table.top_steps_done() >= 1:
        alive_since = cluster.now_s  # a step needs every rank, seen or not
    if alive_since is not None:
        _mark_once(cluster, job, "started", "all ranks live", alive_since)
    began_s = table.first_step_began_s()
    if began_s is not None:
        step = int(table.step[table.step >= 0].min())
        _mark_once(cluster, job, "stepping", f"step {step} has begun", began_s)
        for incident in incidents.open_of(cluster, job):
            incident.resumed_step = step if incident.resumed_step is None else incident.resumed_step
    if table.top_steps_done() >= 1:
        _started(cluster, job, "the first new step is done")
    elif (
        not job.sends_progress
        and alive_since is not None
        and cluster.now_s - alive_since >= cluster.settings.first_alive_s
    ):
        _started(cluster, job, "all ranks live; the job sends no progress")


def _mark_once(cluster: Cluster, job: Job, name: str, line: str, at_s: float) -> None:
    if any(name not in incident.marks for incident in incidents.open_of(cluster, job)):
        incidents.mark(cluster, job, name, line, at_s)


def _started(cluster: Cluster, job: Job, line: str) -> None:
    job.move("stepped")
    if job.sends_progress:
        incidents.mark(cluster, job, "stepped", "")  # the line closes the incident below
    incidents.close_all(cluster, job, line)
    for name in job.world.nodes if job.world else ():
        node = cluster.nodes.get(name)
        if node is not None and node.phase == "probation":
            cluster.node_moves(node, "proved")
    cluster.job_changed(job)


def _watch_end(cluster: Cluster, job: Job) -> None:
    """Once a node is done there is no rendezvous any more: the job ends, one way or the other."""
    rest = [member for member in job.world_members() if not member.all_done(job.generation)]
    if len(rest) == len(job.world_members()):
        return
    if job.phase == "ending":
        rest = [member for member in rest if not _unmentioned(cluster, member)]
    if job.phase != "ending":
        job.move("a node is done")
        job.ending_s = cluster.now_s
        job.note = "a node's ranks have all exited 0"
        cluster.job_changed(job)
    if not rest:
        ending.finish(cluster, job, "all done", 0, "all ranks exited 0")
    elif all(cluster.now_s - member.heard_s > cluster.settings.rejoin_wait_s for member in rest):
        _lost_at_the_end(cluster, job, rest)


def _watch_late_end(cluster: Cluster, job: Job) -> None:
    """The job was ending while a new generation was announced: its nodes were done before they heard of it.

    All done: it has ended well. Some: after a fault that is the job's end; after a growth the others go on from
    their checkpoint if they are enough.
    """
    members, world = job.world_members(), job.world
    rest = [member for member in members if world is not None and not member.left_well(world.generation)]
    if len(rest) == len(members) or any(incident.verdict is None for incident in incidents.open_of(cluster, job)):
        return
    enough = job.plan is not None and len(job.plan.wanted) >= job.shape.min_nodes
    if not rest:
        ending.finish(cluster, job, "all done", 0, "all ranks exited 0")
    elif job.open or not enough:
        ending.finish(cluster, job, "failed", 1, "some nodes had ended already: no rendezvous any more")


def _unmentioned(cluster: Cluster, member: Member) -> bool:
    """The node speaks, and no longer of the job: its agent was started anew when nothing of it was left there.

    While other nodes are done by themselves, how this one ended is not known, and no reason to call it lost.
    """
    silence_s = cluster.nodes[member.node].heard_s - member.heard_s
    return silence_s > 2 * cluster.settings.lease_s and not cluster.silent_node(member.node)


def _lost_at_the_end(cluster: Cluster, job: Job, rest: list[Member]) -> None:
    nodes = tuple(sorted(member.node for member in rest))
    words = f"{few(nodes)} fell silent while the job was ending"
    incident = incidents.open_incident(cluster, job, "node_loss", min(m.heard_s for m in rest), (words,))
    incidents.decide(cluster, incident, Verdict("node_lost", nodes=nodes, action="stop", reason=words))
    incidents.close(cluster, incident, "the job ends")
    ending.finish(cluster, job, "failed", 1, words)


def _watch_leaving(cluster: Cluster, job: Job) -> None:
    """Every torchrun is gone: the job is over whatever we think of it."""
    if not job.members or job.watched:
        return
    codes = []
    for member in job.members.values():
        if not (member.torchrun_gone or _forgotten(cluster, member)):
            return
        codes.append(member.seen.torchrun_exit_code)
    failed = [code for code in codes if code not in {0, None}]
    code = (failed[0] or 1) if failed else 0 if 0 in codes else 1
    ending.finish(cluster, job, "left", code, "every torchrun has left")


def _forgotten(cluster: Cluster, member: Member) -> bool:
    """The agent lives and has not mentioned the job for long. Not sooner: a handler may be on its way back to it."""
    silence_s = cluster.now_s - max(member.heard_s, member.handler_s)
    return silence_s > cluster.settings.rejoin_wait_s and not cluster.silent_node(member.node)
