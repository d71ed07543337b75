"""A job's own life: its first step, its stalls, its growth and its end."""

from __future__ import annotations

from ryzen_coordinator.core import incidents, membership
from ryzen_coordinator.core.blame import Verdict
from ryzen_coordinator.core.detectors.stall import silent_nodes
from ryzen_coordinator.core.phases import NODE_PHASES, OVER, WORLD_UP, can
from ryzen_coordinator.core.settings import Grow
from ryzen_coordinator.core.state import Cluster, Job, Member

DO_NOT_REQUEUE = 93
"""The same figure as ryzen_protos.DO_NOT_REQUEUE_EXIT_CODE, which the core may not import; a test compares."""


def advance(cluster: Cluster, job: Job) -> None:
    """One look at a job whose world is up: has it begun to step, has it stopped to, is it over, may it grow."""
    if job.phase == "restoring":
        _watch_start(cluster, job)
    if job.phase in {"running", "stalled"}:
        _watch_silence(cluster, job)
    if job.phase == "running":
        _grow(cluster, job)
    if job.phase in WORLD_UP or job.phase == "ending":
        _watch_end(cluster, job)
    if job.phase not in OVER:
        _watch_leaving(cluster, job)


def finish(cluster: Cluster, job: Job, trigger: str, exit_code: int, note: str) -> None:
    """The job is over; whoever still waits for it is dismissed."""
    job.move(trigger)
    _end(cluster, job, exit_code, note)
    cluster.say("info", f"{job.run_id}: finished, exit code {exit_code}: {note}", job=job.run_id)


def give_up(cluster: Cluster, job: Job, reason: str) -> None:
    """A restart cannot help: everybody leaves with the do-not-requeue code.

    Announced like a generation, because a torchrun whose ranks live can only be dismissed in the rendezvous.
    """
    membership.next_number(cluster, job)
    job.announced_s = cluster.now_s
    job.go = False
    job.move("stopped by us")
    _end(cluster, job, DO_NOT_REQUEUE, reason)
    cluster.say("error", f"{job.run_id}: given up: {reason}", job=job.run_id)


def refuse(cluster: Cluster, job: Job, exit_code: int, reason: str) -> None:
    """The job can never run as it was asked for."""
    job.move("stopped by us")
    job.go = True
    _end(cluster, job, exit_code, reason)
    cluster.say("error", f"{job.run_id}: refused: {reason}", job=job.run_id)


def close_network_incident(cluster: Cluster, member: Member, line: str) -> None:
    """The silent node has spoken, or is lost after all."""
    if member.network_incident is not None:
        incidents.close(cluster, cluster.incidents[member.network_incident], line)
        member.network_incident = None


def _end(cluster: Cluster, job: Job, exit_code: int, note: str) -> None:
    job.exit_code = exit_code
    job.note = note
    job.over_s = cluster.now_s
    job.question = None
    job.stop_pids.clear()
    job.ended_pids = {name: member.seen.torchrun_pid for name, member in job.members.items()}
    incidents.close_all(cluster, job, f"the job is over: {note}")
    for member in job.members.values():
        close_network_incident(cluster, member, "the job is over")
    cluster.job_changed(job)


def _watch_start(cluster: Cluster, job: Job) -> None:
    if job.world is None:
        return
    alive_since = job.table.all_alive_since_s(job.world.ranks)
    if alive_since is None and job.table.top_steps_done() >= 1:
        alive_since = cluster.now_s  # a step needs every rank, seen or not
    if alive_since is not None:
        _mark_once(cluster, job, "started", "all ranks live", alive_since)
    began_s = job.table.first_step_began_s()
    if began_s is not None:
        step = int(job.table.step[job.table.step >= 0].min())
        _mark_once(cluster, job, "stepping", f"step {step} has begun", began_s)
        for incident in incidents.open_of(cluster, job):
            incident.resumed_step = step if incident.resumed_step is None else incident.resumed_step
    if job.table.top_steps_done() >= 1:
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
        incidents.mark(cluster, job, "stepped", line)
    incidents.close_all(cluster, job, line)
    for name in job.world.nodes if job.world else ():
        node = cluster.nodes.get(name)
        if node is not None and node.phase == "probation":
            cluster.node_moves(node, "proved")
    cluster.job_changed(job)


def _watch_silence(cluster: Cluster, job: Job) -> None:
    """A stall without evidence is a word in the status, no more."""
    if not job.sends_progress:
        return
    sweep = job.table.sweep(job.gaps, silent_nodes(cluster, job), cluster.settings, cluster.now_s)
    if job.phase == "running" and sweep.all_silent:
        job.move("silent")
        job.note = f"no rank has advanced for {sweep.quiet_s:.1f} s (limit {sweep.limit_s:.1f} s); nothing shows why"
        cluster.say("warning", f"{job.run_id}: {job.note}", job=job.run_id)
    elif job.phase == "stalled" and not sweep.all_silent:
        job.move("stepped")
        job.note = ""
        cluster.say("info", f"{job.run_id}: ranks advance again", job=job.run_id)


def _watch_end(cluster: Cluster, job: Job) -> None:
    members = job.world_members()
    done = [member for member in members if member.all_done(job.generation)]
    if not done:
        return
    if job.phase != "ending":
        job.move("a node is done")
        job.ending_s = cluster.now_s
        job.note = "a node's ranks have all exited 0"
        cluster.job_changed(job)
    rest = [member for member in members if not member.all_done(job.generation)]
    if not rest:
        finish(cluster, job, "all done", 0, "all ranks exited 0")
    elif cluster.now_s - job.ending_s > cluster.settings.rejoin_wait_s and all(map(cluster.silent, rest)):
        nodes = tuple(sorted(member.node for member in rest))
        words = f"{', '.join(nodes)} fell silent while the job was ending"
        incident = incidents.open_incident(cluster, job, "node_loss", min(m.heard_s for m in rest), (words,))
        incidents.decide(cluster, incident, Verdict("node_lost", nodes=nodes, action="stop", reason=words))
        incidents.close(cluster, incident, "the job ends")
        finish(cluster, job, "failed", 1, words)


def _watch_leaving(cluster: Cluster, job: Job) -> None:
    """Every torchrun is gone: the job is over whatever we think of it."""
    if not job.members or job.watched:
        return
    codes = []
    for member in job.members.values():
        forgotten = cluster.silent(member) and not cluster.silent_node(member.node)
        if not (member.torchrun_gone or forgotten):
            return
        codes.append(member.seen.torchrun_exit_code)
    failed = [code for code in codes if code not in {0, None}]
    code = (failed[0] or 1) if failed else 0 if 0 in codes else 1
    finish(cluster, job, "left", code, "every torchrun has left")


def _grow(cluster: Cluster, job: Job) -> None:
    """Take a waiting node in, when the job's policy says so."""
    if job.world is None or len(job.world.nodes) >= job.shape.max_nodes or not job.formed:
        return
    when = grow_policy(cluster, job)
    for member in job.members.values():
        if when == "never" or member.node in job.world.nodes or not membership.is_ready(cluster, job, member):
            continue
        since = member.ready_checkpoint if member.ready_checkpoint is not None else -1
        saved = job.checkpoint_step if job.checkpoint_step is not None else -1
        if when == "now" or not job.sends_progress or saved > since:
            membership.announce(cluster, job, f"{member.node} is back or new: the world grows")
            return


def grow_policy(cluster: Cluster, job: Job) -> Grow:
    """The job's own option, else the setting."""
    known: dict[str | None, Grow] = {"checkpoint": "checkpoint", "now": "now", "never": "never"}
    return known.get(job.shape.option("grow"), cluster.settings.grow)


def watch_nodes(cluster: Cluster) -> None:
    """Node phases that time alone changes."""
    for node in cluster.nodes.values():
        silent = cluster.silent_node(node.name)
        if silent and can(NODE_PHASES, node.phase, "silent"):
            cluster.node_moves(node, "silent", "silent" if not node.said_goodbye else "its agent has left")
        elif node.phase == "suspect" and not silent:
            cluster.node_moves(node, "returned")
        elif node.phase == "draining" and _drained(cluster, node.name):
            cluster.node_moves(node, "drained", node.reason)


def _drained(cluster: Cluster, node: str) -> bool:
    """No rank of any job lives on the node, as far as it can tell us."""
    members = [job.members[node] for job in cluster.jobs.values() if node in job.members]
    return all(cluster.silent(m) or all(rank.life == "exited" for rank in m.seen.ranks) for m in members)
