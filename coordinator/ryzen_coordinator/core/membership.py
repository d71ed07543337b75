"""From one world to the next: announce a generation, say go, plan, form.

    announced   every node is told the new number; its agent ends older ranks, its torchrun comes back
    go          the handlers may answer torchrun, because every one of them has heard (or 0.2 s have passed):
                else one node's teardown crashes another's healthy ranks before its torchrun looked
    formed      every wanted node waits with a store on offer: the world is journalled and handed out

A handler that waited for a world that never reached it is still in the same call of next_rendezvous. Its join may
be used again as soon as it has confirmed the newer announcement, because levels replace each other: it cannot
take the older world any more. Its store has been offered before, so another node's fresh one is preferred.
"""

from __future__ import annotations

from ryzen_coordinator.core import incidents, rendezvous, rollback
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import RECOVERING
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.rendezvous import Candidate, Plan, Standing
from ryzen_coordinator.core.state import Cluster, Job, World
from ryzen_coordinator.core.words import few

_PLAN_EVERY_S = 0.2
"""For large jobs; when the last missing node has come, at once."""


def announce(cluster: Cluster, job: Job, why: str) -> None:
    """A new generation: the ranks of the present one must end."""
    next_number(cluster, job)
    job.move("announced")
    job.go = False
    job.announced_s = cluster.now_s
    job.stopped_s = None
    job.question = job.hang = None
    job.standing = ""
    incidents.close_advice(cluster, job, "another fault has struck meanwhile")
    cluster.ask(job)
    incidents.mark(cluster, job, "announced", f"generation {job.generation} announced: {why}")
    cluster.say("info", f"{job.run_id}: generation {job.generation} announced: {why}", job=job.run_id)
    cluster.job_changed(job)
    replan(cluster, job)


def next_number(cluster: Cluster, job: Job) -> None:
    """Numbers grow for ever for one (user, run id), so that nothing stale ever matches."""
    job.generation = max(job.generation, cluster.last_generation.get(job.key, 0)) + 1
    cluster.last_generation[job.key] = job.generation


def plan_is_due(cluster: Cluster, job: Job, member: Member | None) -> bool:
    """Whether it is time to look at the plan; `member` has just reported, None: time has passed.

    A look costs a pass over all nodes. For a large job it comes five times a second, and with the last that joins.
    """
    if not job.large:
        return True
    if member is not None:
        return _was_last_missing(cluster, job, member)
    return cluster.now_s - job.planned_s >= _PLAN_EVERY_S


def plan_anew(cluster: Cluster, job: Job) -> None:
    """Who belongs to the next world, as the nodes are now."""
    job.planned_s = cluster.now_s
    if job.phase == "forming":
        _form_first(cluster, job)
    elif job.phase in RECOVERING and cluster.last_generation.get(job.key, 0) > job.generation:
        announce(cluster, job, "the nodes know of a newer generation than the journal")
    elif job.phase in RECOVERING:
        _note_stopped(cluster, job)
        replan(cluster, job)


def form_if_complete(cluster: Cluster, job: Job) -> None:
    """The next world, if all who belong to it wait and nothing about them is being decided."""
    if job.phase in RECOVERING and job.plan is not None and job.plan.complete and not _is_held(cluster, job):
        form(cluster, job, job.plan)


def _was_last_missing(cluster: Cluster, job: Job, member: Member) -> bool:
    if job.plan is None or member.node not in job.plan.missing:
        return False
    return all(is_ready(cluster, job, job.members[name]) for name in job.plan.missing)


def _is_held(cluster: Cluster, job: Job) -> bool:
    """Who is out of the world is being decided at this moment."""
    return cluster.now_s < job.held_until_s


def give_go(cluster: Cluster, job: Job) -> None:
    """The second phase of an announcement."""
    if job.go or job.generation == 0:
        return
    told_since_s = cluster.now_s - cluster.settings.go_wait_s
    unaware = [
        member
        for member in job.members.values()
        if member.seen.handler == "running"
        and member.seen.seen_generation < job.generation
        and cluster.reachable(member)
        and max(job.announced_s, cluster.nodes[member.node].met_s) > told_since_s  # one that was away is told late
    ]
    if not unaware:
        job.go = True
        cluster.job_changed(job, keep=False)


def replan(cluster: Cluster, job: Job) -> None:
    """Decide anew who belongs to the world that is announced."""
    candidates = [candidate(cluster, job, member) for member in job.members.values()]
    plan = rendezvous.plan_next(job.slots, candidates, job.shape.min_nodes, job.shape.max_nodes)
    if plan != job.plan:
        if job.plan is None or plan.wanted != job.plan.wanted:
            as_before = set(plan.wanted).intersection(job.plan.wanted) if job.plan is not None and job.large else set()
            cluster.stale.update(job.members.keys() - as_before)
        job.plan = plan
        job.note = plan.reason


def form(cluster: Cluster, job: Job, plan: Plan) -> None:
    """Every wanted node waits: this is the world."""
    chosen = [job.members[name] for name in plan.wanted]
    sizes = [max(1, member.seen.shape.ranks_per_node) for member in chosen]
    holder = next((member for member in chosen if member.seen.join != member.used), chosen[0])
    job.world = World(
        generation=job.generation,
        nodes=plan.wanted,
        joins=tuple(member.seen.join for member in chosen),
        store=holder.seen.store,
        uniform=len(set(sizes)) == 1,
        ranks=sum(sizes),
        resume_at_most=rollback.resume_at_most(job),
    )
    for member in chosen:
        member.used = member.seen.join
        member.ready_s = None
        member.silence_step = None
    job.formed_s = cluster.now_s
    job.slots = plan.slots
    job.table = ProgressTable(job.generation, list(plan.wanted))
    job.table.reserve(job.world.ranks)
    job.marks.begin(job.generation, job.world.ranks)
    job.replicas.begin(job.generation, job.world.ranks)
    job.self_checks.begin(job.generation, job.world.ranks)
    job.note = ""
    if job.stopped_s is None:
        job.stopped_s = cluster.now_s
        incidents.mark(cluster, job, "stopped", "the old ranks are gone")
    job.move("formed")
    words = f"world of generation {job.generation}: {few(plan.wanted)}"
    incidents.mark(cluster, job, "formed", words)
    cluster.say("info", f"{job.run_id}: {words}", job=job.run_id)
    cluster.job_changed(job)


def candidate(cluster: Cluster, job: Job, member: Member) -> Candidate:
    node = cluster.nodes[member.node]
    standing, reason = _standing(cluster, job, member)
    return Candidate(member.node, standing, node.rank_hint, member.ready_s or 0.0, reason)


def is_ready(cluster: Cluster, job: Job, member: Member) -> bool:
    return _standing(cluster, job, member)[0] == "ready"


def _standing(cluster: Cluster, job: Job, member: Member) -> tuple[Standing, str]:
    node = cluster.nodes[member.node]
    if node.barred:
        return "out", node.reason or node.phase
    if member.torchrun_gone:
        return "out", "its torchrun has ended"
    if cluster.silent(member):
        return "out", "silent"
    if node.connected and _waits_usably(job, member):
        return "ready", ""
    if job.world is None or member.node not in job.world:
        return "out", "not in the rendezvous"
    if member.left_well(job.world.generation):
        return "out", "its ranks are done"
    if cluster.now_s - max(member.handler_s, job.announced_s) > cluster.settings.handler_wait_s:
        return "out", "torchrun's rendezvous handler is gone"
    if cluster.now_s - job.announced_s > cluster.settings.rejoin_wait_s:
        return "out", f"did not come to the rendezvous in {cluster.settings.rejoin_wait_s:.0f} s"
    return "coming", ""


def _waits_usably(job: Job, member: Member) -> bool:
    seen = member.seen
    if seen.handler != "joining" or seen.store is None:
        return False
    return seen.join != member.used or (job.generation > 0 and seen.seen_generation >= job.generation)


def _form_first(cluster: Cluster, job: Job) -> None:
    shape = job.shape
    candidates = [candidate(cluster, job, member) for member in job.members.values()]
    plan = rendezvous.plan_first(candidates, shape.min_nodes, shape.max_nodes, cluster.settings, cluster.now_s)
    if plan.reason != job.note:
        job.note = plan.reason
        if not job.large:  # each that comes would be told to all that wait
            cluster.job_changed(job, keep=False)
    if plan.complete:
        next_number(cluster, job)
        job.announced_s = cluster.now_s
        job.go = True
        form(cluster, job, plan)


def _note_stopped(cluster: Cluster, job: Job) -> None:
    if job.phase != "stopping":
        return
    living = [m for m in job.members.values() if m.lives(job.generation) and cluster.reachable(m)]
    unheard = [m for m in job.members.values() if m.heard_s < job.announced_s and cluster.reachable(m)]
    if not living and not unheard:
        job.stopped_s = cluster.now_s
        job.move("old ranks gone")
        incidents.mark(cluster, job, "stopped", "no rank of an older generation lives")
        cluster.job_changed(job, keep=False)


def world_broken(cluster: Cluster, job: Job, member: Member) -> str | None:
    """Why a formed world cannot come to life because of this node, though no rank of it has failed; else None.

    A node that was given the world and waits in a *later* call of next_rendezvous never took it.
    """
    if job.world is None or not job.formed or member.node not in job.world:
        return None
    pid, join_id = job.world.join_of(member.node)
    seen = member.seen
    if seen.handler != "joining" or seen.torchrun_pid != pid or seen.generation >= job.generation:
        return None
    if seen.join_id > join_id:
        return f"{member.node} has come to the rendezvous anew without taking the world"
    if cluster.now_s - job.formed_s > cluster.settings.rejoin_wait_s:
        return f"{member.node} does not take the world"
    return None
