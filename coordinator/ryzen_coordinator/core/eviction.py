"""A node is taken out for its health: quarantined until somebody readmits it, and the world is formed without it.

What follows for a job is what follows from a lost node: a spare takes its group rank, else the world shrinks, else the
job waits. An incident that is open already and can have come of the same fault is taken over: one fault, one incident.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import blame, brakes, incidents, nodes, policy, recovery, verdicts
from ryzen_coordinator.core.blame import Verdict
from ryzen_coordinator.core.health_record import NEAR_S, Burst, window_s
from ryzen_coordinator.core.members import Node
from ryzen_coordinator.core.phases import NODE_PHASES, RECOVERING, WORLD_UP, can
from ryzen_coordinator.core.state import Cluster, Incident, Job

_BURSTS_KEPT, _EVIDENCE_KEPT = 16, 40


def evict(cluster: Cluster, node: Node, burst: Burst, why: str = "") -> None:
    """Take the node out, unless a mode or a brake says no; then say what would have been. `why`: beyond the burst."""
    words = f"{burst.words()}{'; ' + why if why else ''}"
    if not can(NODE_PHASES, node.phase, "evicted"):
        note(cluster, node, burst)
        return
    struck = [job for job in cluster.jobs.values() if _holds(job, node)]
    verdict = Verdict("hardware", burst.ranks, (node.name,), reason=words, advice=_advice(node))
    keep = "advised only (health_mode)" if cluster.settings.health_mode != "act" else brakes.reason_to_keep(cluster)
    if keep is not None:
        _keep_in(cluster, node, burst, struck, replace(verdict, reason=f"{words}; {keep}"))
        return
    nodes.take_out(cluster, node, words)
    for job in struck:
        _strike(cluster, job, burst, verdict)
    if not struck:
        incident = incidents.open_apart(cluster, None, "hardware", (node.name,), fault_s(cluster, burst), (words,))
        incident.bursts.append(burst)
        incidents.decide(cluster, incident, replace(verdict, action="evict"))
        incidents.close(cluster, incident, "no world has the node")


def note(cluster: Cluster, node: Node, burst: Burst) -> Incident | None:
    """Add the burst to the open incident that it can have to do with, if there is one."""
    for job in cluster.jobs.values():
        incident = joinable(cluster, job, node.name, burst)
        if incident is not None:
            attach(cluster, incident, burst)
            return incident
    return None


def joinable(cluster: Cluster, job: Job, node: str, burst: Burst) -> Incident | None:
    """The open incident of the job that this burst on the node can have caused, or come of.

    It struck at about that time, and names the node, or nobody yet.
    """
    at_s = fault_s(cluster, burst)
    for incident in reversed(incidents.open_of(cluster, job)):
        if node not in incident.nodes or abs(at_s - incident.marks["fault"]) > NEAR_S:
            continue
        verdict = incident.verdict
        if verdict is not None and (node in verdict.nodes or not verdict.nodes):
            return incident
        guilty = blame.culprits(list(incident.failures.values()))
        if verdict is None and (not guilty or any(failure.node == node for failure in guilty)):
            return incident
    return None


def attach(cluster: Cluster, incident: Incident, burst: Burst) -> None:
    """The burst is part of the incident; a longer one of the same fault replaces it."""
    known = [each for each in incident.bursts if each.first_unix_s != burst.first_unix_s or each.code != burst.code]
    incident.bursts = [*known, burst][-_BURSTS_KEPT:]
    if burst.words() not in incident.evidence and len(incident.evidence) < _EVIDENCE_KEPT:
        incident.evidence.append(burst.words())
        incident.tell(fault_s(cluster, burst), burst.words())
        cluster.incident_changed(incident)


def fault_s(cluster: Cluster, burst: Burst) -> float:
    """Core time of its last line."""
    return min(cluster.now_s, burst.last_unix_s - cluster.unix_offset_s)


def ranks_of(job: Job, incident: Incident, burst: Burst) -> tuple[int, ...]:
    """Those ranks of the burst that run on its node in the world that the incident struck: the line may be of an older
    one. Where there are none, those that the incident names already. A node whose next world lives already, half a
    second after the line, tells of those ranks alone: then the burst's own generation says which world it was."""
    member = job.members.get(burst.node)
    seen = member.seen.ranks if member is not None else ()
    here = {rank.rank for rank in seen if rank.generation == incident.generation}
    if not here and burst.generation == incident.generation:
        return burst.ranks
    if named := tuple(rank for rank in burst.ranks if rank in here):
        return named
    known = incident.verdict
    return known.ranks if known is not None and known.nodes == (burst.node,) else ()


def _holds(job: Job, node: Node) -> bool:
    return job.world is not None and node.name in job.world and job.phase in WORLD_UP | RECOVERING


def _strike(cluster: Cluster, job: Job, burst: Burst, verdict: Verdict) -> None:
    incident = joinable(cluster, job, burst.node, burst)
    if incident is None:
        incident = incidents.open_incident(cluster, job, "hardware", fault_s(cluster, burst))
        job.open.append(incident.id)
        if job.phase in RECOVERING:
            incidents.share_marks(cluster, job, incident)
    attach(cluster, incident, burst)
    if job.phase in WORLD_UP and not job.watched:
        recovery.start_anew(cluster, job, f"{burst.node} is evicted: {burst.words()}")
    verdicts.decide_node_loss(cluster, job, incident, replace(verdict, ranks=ranks_of(job, incident, burst)))


def _keep_in(cluster: Cluster, node: Node, burst: Burst, struck: list[Job], verdict: Verdict) -> None:
    """The node stays. What has struck a job all the same is for its own incident, which carries this as evidence."""
    if note(cluster, node, burst) is not None:
        cluster.say("warning", f"{node.name} would be evicted: {verdict.reason}", node=node.name)
        return
    if _said_before(cluster, burst):
        return
    about = struck[0] if struck else None
    incident = incidents.open_apart(cluster, about, "hardware", (node.name,), fault_s(cluster, burst))
    attach(cluster, incident, burst)
    incidents.decide(cluster, incident, policy.advise(verdict))
    incidents.close(cluster, incident, "advice only")


def _said_before(cluster: Cluster, burst: Burst) -> bool:
    """Of this burst, or of the condition that stands, there has been word already."""
    told = (each for incident in cluster.incidents.values() for each in incident.bursts)
    same = (burst.node, burst.kind, burst.code, burst.device, burst.unit)
    return any(
        (each.node, each.kind, each.code, each.device, each.unit) == same
        and burst.last_unix_s - each.last_unix_s <= window_s(burst.code)
        for each in told
    )


def _advice(node: Node) -> str:
    return f"have the device looked at (reset, reboot or service), then: ryzen-coordinator readmit {node.name}"
