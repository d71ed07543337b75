"""A job that stands still: look into it, say what is seen, act on proof, or in the end on the floor.

    no rank has advanced for T      the agents are asked for evidence; it is judged anew as it comes in
    proof                           the culprit's world is restarted (rolled back where it is desynchronised)
    5 s without                     an incident with advice: whom to look at, and why nothing is done
    the floor without               restarted; if the same step stalls again there is only advice
    a rank advances                 nothing was wrong; its silence is learned and will be waited for the next time

T is 1.2 x the longest legitimate silence of the section + a margin (gaps.py). The floor is `stall_floor_s`, or three
times the longest silence that this job has ever come back from. A job of which every rank is stopped is suspended:
that is somebody's will, and no hang. A stopped process needs none of this: see
detectors/stall.py.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import hang_blame, incidents, moments, policy, recovery, rollback
from ryzen_coordinator.core.blame import Confidence, Verdict
from ryzen_coordinator.core.detectors.stall import silent_nodes
from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.evidence import Finding, RankView
from ryzen_coordinator.core.gaps import END
from ryzen_coordinator.core.progress import Sweep
from ryzen_coordinator.core.state import Cluster, Hang, Incident, Job
from ryzen_coordinator.core.words import few

EVER_FACTOR = 3.0
_OF_DESYNC = frozenset({"finished first", "mismatch", "cycle"})
_OF_STILLNESS = frozenset({"never entered", "stacks", "least progress"})
_NOT_AGAIN = "a restart has not helped at this step, so it is not repeated: a person must look"
_LOOK_EVERY_S = 0.25
_LOOK_EVERY_LARGE_S = 2.0
_LARGE = 4096
"""Ranks; blame builds a record for each of them."""


def look(cluster: Cluster, job: Job) -> None:
    """One look at a world that is up."""
    if not job.sends_progress or not job.formed:
        return
    sweep = job.table.sweep(job.gaps, silent_nodes(cluster, job), cluster.settings, cluster.now_s)
    if not sweep.looked:
        return  # nobody can be heard
    if not sweep.all_silent:
        _over(cluster, job)
        return
    if job.phase == "running":
        job.move("silent")
        job.standing = f"no rank has advanced for {sweep.quiet_s:.1f} s (limit {sweep.limit_s:.1f} s)"
        cluster.say("warning", f"{job.run_id}: {job.standing}", job=job.run_id)
    if job.table.all_stopped():
        job.standing = "every rank is stopped: somebody has suspended the job"
        job.hang = None
        return
    if unheard := _unheard(cluster, job):
        job.standing = f"no rank of the other nodes advances while {few(unheard)} is silent"
        return  # node_loss.py waits for that one, or loses it
    if job.hang is None:
        _begin(cluster, job, sweep)
    if job.hang is not None and cluster.settings.hang_mode != "off":
        _look_into(cluster, job, job.hang)


def floor_s(cluster: Cluster, job: Job) -> float:
    """Seconds of standing still after which a stall without proof is acted on."""
    return max(cluster.settings.stall_floor_s, EVER_FACTOR * job.gaps.ever_s)


def _begin(cluster: Cluster, job: Job, sweep: Sweep) -> None:
    top = job.table.top_step()
    since_s = cluster.now_s - sweep.quiet_s
    job.hang = Hang(-1 if top is None else top, since_s, cluster.ask(job), cluster.now_s)
    cluster.stale.update(job.members)


def _over(cluster: Cluster, job: Job) -> None:
    if job.phase == "stalled":
        job.move("stepped")
    hang, job.hang, job.standing = job.hang, None, ""
    if hang is None:
        incidents.close_advice(cluster, job, "the ranks advance again")
        return
    stood_s = cluster.now_s - hang.since_s
    cluster.say("info", f"{job.run_id}: ranks advance again after {stood_s:.1f} s", job=job.run_id)
    cluster.stale.update(job.members)
    incidents.close_advice(cluster, job, f"the ranks advance again after {stood_s:.1f} s: no fault, and now known")


def _look_into(cluster: Cluster, job: Job, hang: Hang) -> None:
    now_s = cluster.now_s
    every_s = _LOOK_EVERY_S if len(job.table.alive) <= _LARGE else _LOOK_EVERY_LARGE_S
    if hang.acted or now_s - hang.looked_s < every_s or not _may_judge(cluster, job, hang):
        return
    hang.looked_s = now_s
    views = moments.views(cluster, job)
    finding = _found(cluster, job, views)
    news = hang.finding is None or (hang.finding.rule, hang.finding.ranks) != (finding.rule, finding.ranks)
    hang.finding = finding
    stood_s = now_s - hang.since_s
    job.standing = f"no rank has advanced for {stood_s:.0f} s: {finding.words}"
    limit_s = floor_s(cluster, job)
    again = hang.step == job.floor_step
    if finding.proof and not (again and finding.rule in _OF_STILLNESS):
        job.floor_step = hang.step if finding.rule in _OF_STILLNESS else job.floor_step
        _act(cluster, job, hang, finding, views)
        return
    spared = _NOT_AGAIN if again else _spared(job, views, cluster.settings.frozen_stack_s)
    if stood_s >= limit_s and not spared:
        job.floor_step = hang.step
        words = f"{finding.words}; nothing has moved the job for {stood_s:.0f} s, its floor is {limit_s:.0f} s"
        _act(cluster, job, hang, Finding(finding.rule, finding.ranks, words, considered=finding.considered), views)
    elif stood_s >= cluster.settings.advise_s:
        why = spared or f"not enough to act on; without a sign of life the job is restarted at {limit_s:.0f} s"
        _advise(cluster, job, hang, f"{finding.words}; {why}", views, news)


def _spared(job: Job, views: list[RankView], still_s: float) -> str:
    """Why the floor does not hold for this stall; "" where it does.

    A checkpoint's load, an index, a compilation, a last evaluation have no measure yet, or never again.
    """
    if any(view.section == END for view in views):
        return "the loop is over: how long the end takes is left to the ranks"
    if any(view.state == "exited 0" for view in views):
        return "some ranks are done: the others may take their time"
    moving = any(view.probe is not None and view.probe.frozen_s < still_s for view in views)
    return "the job is starting, and something in it moves" if moving and not job.table.top_steps_done() else ""


def _found(cluster: Cluster, job: Job, views: list[RankView]) -> Finding:
    """What the stacks and recorders show, and whether a rank that had skipped a collective explains it."""
    finding = hang_blame.blame(views, moments.groups(job), cluster.settings)
    apart = job.marks.confirmed or job.marks.suspected
    if apart is None or cluster.settings.desync_mode == "off":
        return finding
    words = f"{apart.words()}; {finding.words}"
    if finding.proof and finding.rule in _OF_DESYNC and (not finding.ranks or finding.ranks == apart.ranks):
        return replace(finding, ranks=apart.ranks, words=words, desync=True)
    return replace(finding, words=words)


def _act(cluster: Cluster, job: Job, hang: Hang, finding: Finding, views: list[RankView]) -> None:
    verdict = verdict_of(job, finding)
    mode = cluster.settings.desync_mode if finding.desync else cluster.settings.hang_mode
    if mode != "act":
        _advise(cluster, job, hang, verdict.reason, views, news=job.advice is None)
        return
    hang.acted = True
    incident = _incident(cluster, job, hang, verdict)
    moments.keep(cluster, incident, views, finding)
    job.advice = None
    job.open.append(incident.id)
    recovery.act_on_hang(
        cluster, job, incident, verdict, clean_step=rollback.clean_step(job) if finding.desync else None
    )


def _advise(cluster: Cluster, job: Job, hang: Hang, words: str, views: list[RankView], news: bool) -> None:
    finding = hang.finding
    told_lately = cluster.now_s - hang.told_s < cluster.settings.advise_s
    if finding is None or (job.advice is not None and (told_lately or not news)):
        return
    hang.told_s = cluster.now_s
    verdict = policy.advise(verdict_of(job, finding, words))
    incident = _incident(cluster, job, hang, verdict)
    moments.keep(cluster, incident, views, finding)
    incidents.decide(cluster, incident, verdict)


def verdict_of(job: Job, finding: Finding, words: str = "") -> Verdict:
    """The finding as a verdict; without proof it is likely at best."""
    sure: Confidence = ("certain" if finding.proof else "likely") if finding.ranks else "unknown"
    nodes = tuple(sorted({job.table.node_of(rank) for rank in finding.ranks}))
    return Verdict(
        "desync" if finding.desync else "hang",
        ranks=finding.ranks,
        nodes=nodes,
        reason=words or finding.words,
        confidence=sure,
    )


def _incident(cluster: Cluster, job: Job, hang: Hang, verdict: Verdict) -> Incident:
    """The incident of this stall, opened at the first word of it."""
    if job.advice is not None and (known := cluster.incidents.get(job.advice)) is not None:
        return known
    suspicion = Suspicion("hang", verdict.nodes, hang.since_s, verdict.ranks, (verdict.reason,))
    incident = incidents.open_on(cluster, job, suspicion, rides=False)
    incident.marks["suspected"] = hang.asked_s
    job.advice = incident.id
    cluster.durable[("job", job.record)] = None
    return incident


def _unheard(cluster: Cluster, job: Job) -> list[str]:
    """Silent nodes of the world that have not taken their leave."""
    return sorted(name for name in silent_nodes(cluster, job) if not cluster.nodes[name].said_goodbye)


def _may_judge(cluster: Cluster, job: Job, hang: Hang) -> bool:
    """Every node that can be heard has sent its first look at its ranks, or was given the time for it."""
    if cluster.now_s - hang.asked_s >= cluster.settings.evidence_s:
        return True
    return all(
        member.answered >= hang.inquiry
        and all(rank.probe is not None and rank.probe.samples for rank in member.seen.ranks if rank.life == "alive")
        for member in job.world_members()
        if cluster.reachable(member)
    )
