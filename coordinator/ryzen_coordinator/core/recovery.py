"""From a suspicion to a verdict to what is done.

An exit is acted on before it is understood: the world is broken whoever broke it, so the next generation is
announced at once and blame is made up while the old ranks are torn down. A hang and a lost node are understood
first, because acting on them is what breaks the world.
"""

from __future__ import annotations

from ryzen_coordinator.core import blame, brakes, incidents, lifecycle, membership, policy
from ryzen_coordinator.core.blame import Failure, Verdict
from ryzen_coordinator.core.detectors import DETECTORS, Suspicion, exits, stall
from ryzen_coordinator.core.phases import RECOVERING, WORLD_UP
from ryzen_coordinator.core.state import Cluster, Incident, Job, Member, Question


def detect(cluster: Cluster, job: Job, member: Member | None) -> None:
    """Ask every detector; each suspicion goes its way."""
    for _, find in DETECTORS:
        if job.phase not in WORLD_UP and job.phase != "ending":
            return
        for suspicion in find(cluster, job, member):
            _suspect(cluster, job, suspicion)
    if member is not None and job.phase in WORLD_UP and (why := membership.world_broken(cluster, job, member)):
        membership.announce(cluster, job, why)


def collect(cluster: Cluster, job: Job, member: Member) -> None:
    """Ends of ranks that belong to an incident still without a verdict."""
    for incident in incidents.open_of(cluster, job):
        if incident.kind == "exit" and incident.verdict is None and member.node in incident.nodes:
            _add_failures(cluster, incident, member)


def judge(cluster: Cluster, job: Job) -> None:
    """Decide what has been collected for long enough, and what a question has been answered on."""
    for incident in incidents.open_of(cluster, job):
        collected = cluster.now_s - incident.marks["suspected"] >= cluster.settings.collect_s
        if incident.kind == "exit" and incident.verdict is None and collected:
            _judge_exit(cluster, job, incident)
            if job.phase not in RECOVERING and job.phase != "restoring":
                incidents.close_all(cluster, job, "decided after the recovery was over")
    if job.question is not None:
        _judge_hang(cluster, job, job.question)


def _suspect(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    if suspicion.kind == "network":
        _report_network(cluster, job, suspicion)
    elif job.phase == "ending":
        _fail_ending(cluster, job, suspicion)
    elif suspicion.kind == "exit" and job.phase in WORLD_UP:
        _on_exit(cluster, job, suspicion)
    elif suspicion.kind == "node_loss" and job.phase in WORLD_UP:
        _on_node_loss(cluster, job, suspicion)
    elif suspicion.kind == "hang" and job.question is None and job.phase in WORLD_UP:
        job.question = Question(cluster.ask(job), cluster.now_s, frozenset(suspicion.nodes))


def _open(cluster: Cluster, job: Job, suspicion: Suspicion) -> Incident:
    kind = suspicion.kind
    incident = incidents.open_incident(cluster, job, kind, suspicion.fault_s, suspicion.evidence)
    if kind != "network":
        job.open.append(incident.id)
    return incident


def _on_exit(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    incident = _open(cluster, job, suspicion)
    for node in suspicion.nodes:
        _add_failures(cluster, incident, job.members[node])
    brakes.account(job, cluster.settings, cluster.now_s)
    stop = brakes.reason_to_stop(job, cluster.settings)
    if stop is not None:
        lifecycle.give_up(cluster, job, stop)
    else:
        membership.announce(cluster, job, suspicion.evidence[0] if suspicion.evidence else "a rank ended")


def _add_failures(cluster: Cluster, incident: Incident, member: Member) -> None:
    changed = False
    for failure in exits.failures_of(incident.generation, member, cluster.now_s):
        changed |= incidents.add_failure(incident, failure)
    if changed:
        cluster.incident_changed(incident)


def _judge_exit(cluster: Cluster, job: Job, incident: Incident) -> None:
    failures = list(incident.failures.values())
    unheard = [m for m in _struck(job, incident) if not _has_spoken(cluster, incident, m)]
    guilty = blame.culprits(failures)
    doubted = [m for m in unheard if not guilty or any(_may_be_the_node(f, m) for f in guilty)]
    if any(not cluster.silent(member) for member in doubted):
        return  # within the lease it may still speak; the next look decides
    lost = [member.node for member in doubted]
    if lost:
        verdict = Verdict("node_lost", nodes=tuple(sorted(lost)), reason=_lost_words(cluster, job, lost, failures))
        incident.marks["fault"] = min(incident.marks["fault"], *(job.members[node].heard_s for node in lost))
        _decide_node_loss(cluster, job, incident, verdict)
        return
    verdict = blame.judge_exit(failures)
    if verdict.fault_class == "unknown":
        verdict = _torchrun_to_blame(job, incident) or verdict
    own_fault = blame.shared_exception(failures)
    stop = job.note if job.phase == "given_up" else own_fault
    incident.evidence.extend(failure.words() for failure in failures if failure.words() not in incident.evidence)
    incidents.decide(cluster, incident, policy.for_exit(verdict, stop))
    if own_fault is not None and job.phase != "given_up":
        lifecycle.give_up(cluster, job, f"the job's own fault: {own_fault}")
    elif job.phase == "given_up":
        incidents.close_all(cluster, job, "the job has been given up")


def _struck(job: Job, incident: Incident) -> list[Member]:
    return [job.members[node] for node in incident.nodes if node in job.members]


def _has_spoken(cluster: Cluster, incident: Incident, member: Member) -> bool:
    connected = cluster.nodes[member.node].connected
    return connected and member.heard_s >= incident.marks["suspected"]


def _may_be_the_node(failure: Failure, member: Member) -> bool:
    """A rank that was killed, on a node that has gone quiet since: the node may have died with it."""
    return failure.node == member.node and not failure.error_type and failure.exit_code in {None, -9}


def _lost_words(cluster: Cluster, job: Job, lost: list[str], failures: list[Failure]) -> str:
    silence_s = max(cluster.now_s - job.members[node].heard_s for node in lost)
    peers = sorted({failure.rank for failure in failures if failure.node not in lost})
    seen = f"; ranks {', '.join(map(str, peers))} of other nodes lost their peers" if peers else ""
    return f"{', '.join(lost)} silent for {silence_s:.1f} s{seen}"


def _torchrun_to_blame(job: Job, incident: Incident) -> Verdict | None:
    """No rank can be the cause, but torchruns are gone or new: those nodes are."""
    words = {}
    for member in _struck(job, incident):
        code = member.seen.torchrun_exit_code
        if member.torchrun_gone and code != 0:
            words[member.node] = f"torchrun of {member.node} ended" + (f" with {code}" if code is not None else "")
    if not words or len(words) == len(incident.nodes):
        return None
    return Verdict("exit", nodes=tuple(sorted(words)), reason="; ".join(words.values()), confidence="likely")


def _on_node_loss(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    node = suspicion.nodes[0]
    member = job.members[node]
    mode = cluster.settings.node_loss_mode
    if mode == "off" or (mode == "advise" and member.network_incident is not None):
        return
    verdict = Verdict("node_lost", nodes=suspicion.nodes, reason=suspicion.evidence[0])
    incident = _open(cluster, job, suspicion)
    if mode == "advise":
        job.open.remove(incident.id)
        member.network_incident = incident.id
        incidents.decide(cluster, incident, policy.advise(verdict))
        return
    brakes.account(job, cluster.settings, cluster.now_s)
    stop = brakes.reason_to_stop(job, cluster.settings)
    if stop is not None:
        lifecycle.give_up(cluster, job, stop)
    else:
        membership.announce(cluster, job, suspicion.evidence[0])
    _decide_node_loss(cluster, job, incident, verdict)


def _decide_node_loss(cluster: Cluster, job: Job, incident: Incident, verdict: Verdict) -> None:
    for node in verdict.nodes:
        lifecycle.close_network_incident(cluster, job.members[node], "the node is lost")
    stop = job.note if job.phase == "given_up" else None
    if stop is None and not job.formed:
        membership.replan(cluster, job)
    plan = job.plan
    if plan is None:
        incidents.decide(cluster, incident, policy.for_exit(verdict, stop))
    else:
        minimum = job.shape.min_nodes
        incidents.decide(cluster, incident, policy.for_node_loss(verdict, incident.nodes, plan, minimum, stop))
    if stop is not None:
        incidents.close_all(cluster, job, "the job has been given up")


def _judge_hang(cluster: Cluster, job: Job, question: Question) -> None:
    members = [job.members[node] for node in question.nodes if node in job.members]
    answered = all(member.answered >= question.inquiry for member in members)
    if not answered and cluster.now_s - question.asked_s < cluster.settings.inquiry_s:
        return
    job.question = None
    if job.phase not in WORLD_UP:
        return
    for suspicion in stall.find(cluster, job, None):
        _on_hang(cluster, job, suspicion, question)


def _on_hang(cluster: Cluster, job: Job, suspicion: Suspicion, question: Question) -> None:
    verdict = Verdict("hang", suspicion.ranks, suspicion.nodes, reason="; ".join(suspicion.evidence))
    if cluster.settings.hang_mode == "advise":
        if job.advised != suspicion.ranks:
            job.advised = suspicion.ranks
            advice = incidents.open_incident(cluster, job, "hang", suspicion.fault_s, suspicion.evidence)
            incidents.decide(cluster, advice, policy.advise(verdict))
            incidents.close(cluster, advice, "advice only")
        return
    incident = _open(cluster, job, suspicion)
    incident.marks["suspected"] = question.asked_s
    brakes.account(job, cluster.settings, cluster.now_s)
    stop = brakes.reason_to_stop(job, cluster.settings)
    incidents.decide(cluster, incident, policy.for_hang(verdict, stop))
    if stop is not None:
        lifecycle.give_up(cluster, job, stop)
    else:
        membership.announce(cluster, job, suspicion.evidence[0])


def _report_network(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    member = job.members[suspicion.nodes[0]]
    incident = _open(cluster, job, suspicion)
    member.network_incident = incident.id
    verdict = Verdict("network", nodes=suspicion.nodes, reason=suspicion.evidence[0], confidence="likely")
    incidents.decide(cluster, incident, verdict)


def _fail_ending(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    """Some nodes are done: no rendezvous any more, the job ends with the failure."""
    incident = _open(cluster, job, suspicion)
    for node in suspicion.nodes:
        _add_failures(cluster, incident, job.members[node])
    failures = list(incident.failures.values())
    if suspicion.kind == "node_loss":
        verdict = Verdict("node_lost", nodes=suspicion.nodes, reason=suspicion.evidence[0])
    else:
        verdict = blame.judge_exit(failures)
    incidents.decide(cluster, incident, policy.for_exit(verdict, "other nodes had ended already: the job ends"))
    lifecycle.finish(cluster, job, "failed", 1, f"failed at its end: {verdict.reason}")
