"""From a suspicion to an incident to what is done at once. What is decided later is in verdicts.py.

An exit is acted on before it is understood: the world is broken whoever broke it, so the next generation is
announced at once and blame is made up while the old ranks are torn down. A hang and a lost node are understood
first, because acting on them is what breaks the world.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import (
    brakes,
    ending,
    incidents,
    membership,
    moments,
    nodes,
    policy,
    rollback,
    verdicts,
    watched,
)
from ryzen_coordinator.core.blame import Confidence, Verdict
from ryzen_coordinator.core.detectors import DETECTORS, Suspicion, corruption, node_loss, stall
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import NODE_PHASES, WORLD_UP, can
from ryzen_coordinator.core.self_checks import Contradiction
from ryzen_coordinator.core.state import Cluster, Incident, Job, Question

_STRUCK = WORLD_UP | {"ending"}


def detect(cluster: Cluster, job: Job, member: Member | None) -> None:
    """Ask every detector; each suspicion goes its way. The first that breaks the world ends the round."""
    for _, find in DETECTORS:
        for suspicion in find(cluster, job, member) if job.phase in _STRUCK else ():
            _suspect(cluster, job, suspicion)
    if member is not None and job.phase in WORLD_UP and (why := membership.world_broken(cluster, job, member)):
        membership.announce(cluster, job, why)


def judge(cluster: Cluster, job: Job) -> None:
    """Decide what has been collected for long enough, and what a question has been answered on."""
    verdicts.judge_exits(cluster, job)
    if job.question is not None:
        _judge_question(cluster, job, job.question)


def _suspect(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    if suspicion.kind == "network":
        _report_network(cluster, job, suspicion)
    elif suspicion.kind == "desync":
        _on_desync(cluster, job, suspicion)
    elif suspicion.kind == "corruption":
        _on_corruption(cluster, job, suspicion)
    elif suspicion.kind == "divergence":
        _on_divergence(cluster, job, suspicion)
    elif suspicion.kind == "hang":
        if job.question is None:
            job.question = Question("hang", cluster.ask(job), cluster.now_s, frozenset(suspicion.nodes))
    elif suspicion.kind == "node_loss":
        if job.question is None and _may_act_on(cluster, job, suspicion):
            others = {member.node for member in job.world_members() if cluster.reachable(member)}
            job.question = Question("node_loss", cluster.ask(job), cluster.now_s, frozenset(others))
    elif job.watched:
        watched.on_exit(cluster, job, suspicion)
    elif job.phase == "ending":
        _on_exit_at_the_end(cluster, job, suspicion)
    elif job.phase in WORLD_UP:
        _on_exit(cluster, job, suspicion)


def _may_act_on(cluster: Cluster, job: Job, suspicion: Suspicion) -> bool:
    mode = cluster.settings.node_loss_mode
    advised = all(job.members[node].network_incident is not None for node in suspicion.nodes)
    return not job.watched and (mode == "act" or (mode == "advise" and not advised))


def _on_exit(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    incident = incidents.open_on(cluster, job, suspicion)
    for node in suspicion.nodes:
        verdicts.take_failures(cluster, incident, job.members[node])
    start_anew(cluster, job, suspicion.evidence[0])


def _on_exit_at_the_end(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    """Some nodes are done: no rendezvous any more. The job ends with the failure once it has its verdict."""
    if any(incident.verdict is None for incident in incidents.open_of(cluster, job)):
        return
    incident = incidents.open_on(cluster, job, suspicion)
    for node in suspicion.nodes:
        verdicts.take_failures(cluster, incident, job.members[node])


def _on_node_loss(cluster: Cluster, job: Job, suspicion: Suspicion, question: Question) -> None:
    verdict = Verdict("node_lost", nodes=suspicion.nodes, reason=suspicion.evidence[0])
    advise = cluster.settings.node_loss_mode == "advise"
    incident = incidents.open_on(cluster, job, suspicion, rides=not advise)
    incident.marks["suspected"] = question.asked_s
    if advise:
        for node in suspicion.nodes:
            job.members[node].network_incident = incident.id
        incidents.decide(cluster, incident, policy.advise(verdict))
    else:
        start_anew(cluster, job, suspicion.evidence[0])
        verdicts.decide_node_loss(cluster, job, incident, verdict)


def start_anew(cluster: Cluster, job: Job, why: str) -> None:
    """A fault has struck the world: the next one is announced, unless a brake says no."""
    brakes.account(job, cluster.settings, cluster.now_s)
    stop = brakes.reason_to_stop(job, cluster.settings)
    if stop is not None:
        ending.give_up(cluster, job, stop)
    else:
        membership.announce(cluster, job, why)


def _judge_question(cluster: Cluster, job: Job, question: Question) -> None:
    members = [job.members[node] for node in question.nodes if node in job.members]
    unanswered = [member for member in members if member.answered < question.inquiry]
    # A stopped rank may have taken its agent with it. But a node is lost only on the fresh word of every other one.
    if question.kind == "hang" and cluster.now_s - question.asked_s >= cluster.settings.inquiry_s:
        unanswered = []
    if any(cluster.reachable(member) for member in unanswered):
        return
    job.question = None
    if job.phase not in _STRUCK:
        return
    if question.kind == "hang":
        for suspicion in stall.find(cluster, job, None):
            _on_hang(cluster, job, suspicion, question)
    else:
        for suspicion in node_loss.confirm(cluster, job):
            _on_node_loss(cluster, job, suspicion, question)


def _on_hang(cluster: Cluster, job: Job, suspicion: Suspicion, question: Question) -> None:
    verdict = Verdict("hang", suspicion.ranks, suspicion.nodes, reason="; ".join(suspicion.evidence))
    if cluster.settings.hang_mode == "advise":
        _advise_hang(cluster, job, suspicion, verdict)
        return
    incident = incidents.open_on(cluster, job, suspicion)
    incident.marks["suspected"] = question.asked_s
    moments.keep(cluster, incident, moments.views(cluster, job))
    act_on_hang(cluster, job, incident, verdict)


def act_on_hang(
    cluster: Cluster, job: Job, incident: Incident, verdict: Verdict, clean_step: int | None = None
) -> None:
    """Bring about what follows from a verdict on ranks that hang or have fallen out of step.

    `clean_step`: of a desynchronised world, the newest step at whose begin all ranks agreed, where it is known.
    """
    if job.watched:
        watched.on_hang(cluster, job, incident, verdict)
    elif job.phase == "ending":
        incidents.decide(cluster, incident, policy.for_hang(verdict, "other nodes had ended already: the job ends"))
        ending.finish(cluster, job, "failed", 1, f"failed at its end: {verdict.reason}")
    else:
        if verdict.fault_class == "desync" and clean_step is not None:
            rollback.taint(job, clean_step)
            incident.resume_at_most = rollback.resume_at_most(job)
        start_anew(cluster, job, verdict.reason)
        stop = job.note if job.phase == "given_up" else None
        decided = (
            policy.for_desync(verdict, clean_step, stop)
            if verdict.fault_class == "desync"
            else policy.for_hang(verdict, stop)
        )
        incidents.decide(cluster, incident, decided)
        verdicts.close_if_over(cluster, job)


def _on_desync(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    sure: Confidence = "certain" if suspicion.ranks else "unknown"
    verdict = Verdict("desync", suspicion.ranks, suspicion.nodes, reason=suspicion.evidence[0], confidence=sure)
    if cluster.settings.desync_mode == "advise" or job.watched or rollback.clean_step(job) is None:
        _advise_hang(cluster, job, suspicion, verdict)
        return
    incident = incidents.open_on(cluster, job, suspicion)
    moments.keep(cluster, incident, moments.views(cluster, job))
    act_on_hang(cluster, job, incident, verdict, rollback.clean_step(job))


def _on_divergence(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    """The training itself goes wrong: nobody is named. Once for a step it begins again from before."""
    wanted = job.rollback_answered = job.rollback_wanted
    if wanted is None:
        return
    step = wanted[1]
    verdict = Verdict("divergence", reason=suspicion.evidence[0])
    keep = brakes.reason_not_to_roll_back(job, step)
    if keep is not None or cluster.settings.divergence_mode == "advise" or job.watched or job.phase not in WORLD_UP:
        advice = incidents.open_on(cluster, job, suspicion, rides=False)
        reason = f"{verdict.reason}; {keep}" if keep is not None else verdict.reason
        incidents.decide(cluster, advice, policy.advise(replace(verdict, reason=reason)))
        incidents.close(cluster, advice, "advice only")
        return
    incident = incidents.open_on(cluster, job, suspicion)
    job.diverged_step = step
    rollback.taint(job, step)
    incident.resume_at_most = rollback.resume_at_most(job)
    start_anew(cluster, job, verdict.reason)
    stop = job.note if job.phase == "given_up" else None
    incidents.decide(cluster, incident, policy.for_divergence(verdict, step, stop))
    verdicts.close_if_over(cluster, job)


def _on_corruption(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    """A device computes wrong: its node is taken out if one can be named, and nothing saved since is resumed from."""
    wrong = corruption.found(job)
    job.corruption_answered = job.generation
    if wrong is None:
        return
    sure: Confidence = "certain" if suspicion.nodes else "unknown"
    verdict = Verdict("corruption", suspicion.ranks, suspicion.nodes, reason=suspicion.evidence[0], confidence=sure)
    keep = _reason_to_keep(cluster, suspicion)
    now_unix_s = cluster.now_s + cluster.unix_offset_s
    brake = brakes.reason_not_to_roll_back_unnamed(job, now_unix_s) if keep is not None else None
    if isinstance(wrong, Contradiction):
        brake = brake or brakes.reason_not_to_believe(job, suspicion.nodes, wrong.with_peers, now_unix_s)
        if not wrong.with_peers:
            job.contradicted = (suspicion.nodes[0], now_unix_s)
    if keep:
        verdict = replace(verdict, reason=f"{verdict.reason}; {keep}")
    if brake or cluster.settings.corruption_mode == "advise" or job.watched or job.phase not in WORLD_UP:
        advice = incidents.open_on(cluster, job, suspicion, rides=False)
        reason = f"{verdict.reason}; {brake}" if brake else verdict.reason
        incidents.decide(cluster, advice, policy.advise(replace(verdict, reason=reason)))
        incidents.close(cluster, advice, "advice only")
        return
    incident = incidents.open_on(cluster, job, suspicion)
    moments.keep(cluster, incident, moments.views(cluster, job))
    rollback.taint(job, wrong.clean_step)
    incident.resume_at_most = rollback.resume_at_most(job)
    if keep is None:
        nodes.take_out(cluster, cluster.nodes[suspicion.nodes[0]], verdict.reason)
    else:
        job.unnamed_rollback_unix_s = now_unix_s
    start_anew(cluster, job, verdict.reason)
    stop = job.note if job.phase == "given_up" else None
    if keep is None and stop is None:
        words = f"{verdict.reason}; back to a checkpoint of step {wrong.clean_step} or before"
        verdicts.decide_node_loss(cluster, job, incident, replace(verdict, reason=words))
    else:
        incidents.decide(cluster, incident, policy.for_corruption(verdict, wrong.clean_step, stop))
        verdicts.close_if_over(cluster, job)


def _reason_to_keep(cluster: Cluster, suspicion: Suspicion) -> str | None:
    """Why no node is taken out: nobody is named ("": the words have said so), a brake, or it is out already."""
    if not suspicion.nodes:
        return ""
    if len(suspicion.nodes) > 1:
        return "several nodes at once: no single device explains that"
    node = cluster.nodes[suspicion.nodes[0]]
    if not can(NODE_PHASES, node.phase, "evicted"):
        return f"{node.name} is on its way out already"
    return brakes.reason_to_keep(cluster)


def _advise_hang(cluster: Cluster, job: Job, suspicion: Suspicion, verdict: Verdict) -> None:
    if job.advised == suspicion.ranks:
        return
    job.advised = suspicion.ranks
    advice = incidents.open_on(cluster, job, suspicion, rides=False)
    incidents.decide(cluster, advice, policy.advise(verdict))
    incidents.close(cluster, advice, "advice only")


def _report_network(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    incident = incidents.open_on(cluster, job, suspicion, rides=False)
    job.members[suspicion.nodes[0]].network_incident = incident.id
    verdict = Verdict("network", nodes=suspicion.nodes, reason=suspicion.evidence[0], confidence="likely")
    incidents.decide(cluster, incident, verdict)
