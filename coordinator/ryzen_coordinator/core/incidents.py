"""Incidents: opened by a suspicion, closed by the first new step; the stages in between are differences of marks.

    fault      last sign of life, or the time of the exit            ┐ detect
    suspected  a detector spoke                                      ┘ ┐ blame
    verdict    decided (exits are torn down while it is made up)       ┘
    announced  a new generation                                      ┐ stop
    stopped    no rank of an older generation lives on any member    ┘ ┐ rendezvous
    formed     the new world                                         ┐ ┘
    started    all of its ranks live                                 ┘ start ┐ restore: imports, groups, checkpoint
    stepping   the first step has begun                              ┐       ┘
    stepped    the first step is done                                ┘ first_step

Incidents of one job that are open together ride on one recovery: they share its marks and close together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ryzen_coordinator.core.blame import Failure, Verdict, Weight, weigh
from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Incident, Job
from ryzen_coordinator.core.words import few

STAGES = (
    ("detect", "fault", "suspected"),
    ("blame", "suspected", "verdict"),
    ("stop", "announced", "stopped"),
    ("rendezvous", "stopped", "formed"),
    ("start", "formed", "started"),
    ("restore", "started", "stepping"),
    ("first_step", "stepping", "stepped"),
)
"""Name of each stage, the mark that begins it, the mark that ends it."""
_KEPT = 1000
_FAILURES_KEPT = 64
_RECOVERY_MARKS = ("announced", "stopped", "formed", "started", "stepping", "stepped")


def stages_s(incident: Incident) -> dict[str, float]:
    """Seconds of each stage that is over. Marks that arrive out of order count as no time at all."""
    marks = incident.marks
    return {name: max(0.0, marks[end] - marks[begin]) for name, begin, end in STAGES if begin in marks and end in marks}


def open_incident(cluster: Cluster, job: Job, kind: str, fault_s: float, evidence: Iterable[str] = ()) -> Incident:
    """Begin an incident of the job's present generation; `fault_s` is when the fault struck, as far as known."""
    incident = Incident(
        id=0,
        user=job.user,
        run_id=job.run_id,
        kind=kind,
        generation=job.world.generation if job.world else job.generation,
        opened_unix_s=0.0,
        nodes=job.world.nodes if job.world else tuple(job.members),
        torchruns={node: pid for node, (pid, _) in zip(job.world.nodes, job.world.joins, strict=True)}
        if job.world
        else {},
        step=job.table.top_step(),
    )
    return _opened(cluster, incident, fault_s, evidence)


def _opened(cluster: Cluster, incident: Incident, fault_s: float, evidence: Iterable[str]) -> Incident:
    incident.id = cluster.next_incident
    incident.opened_unix_s = cluster.now_s + cluster.unix_offset_s
    cluster.next_incident += 1
    cluster.incidents[incident.id] = incident
    incident.marks["fault"] = min(fault_s, cluster.now_s)
    incident.marks["suspected"] = cluster.now_s
    incident.evidence.extend(evidence)
    cluster.incident_changed(incident)
    return incident


def open_apart(
    cluster: Cluster, job: Job | None, kind: str, nodes: tuple[str, ...], fault_s: float, evidence: Iterable[str] = ()
) -> Incident:
    """Begin an incident of these nodes that no recovery goes with. `job`: whom it concerns, if anybody."""
    if job is not None:
        return open_incident(cluster, job, kind, fault_s, evidence)
    return _opened(cluster, Incident(0, "", "", kind, 0, 0.0, nodes), fault_s, evidence)


def open_on(cluster: Cluster, job: Job, suspicion: Suspicion, rides: bool = True) -> Incident:
    """An incident from a suspicion; `rides`: it is part of the job's recovery and closes with it."""
    incident = open_incident(cluster, job, suspicion.kind, suspicion.fault_s, suspicion.evidence)
    if rides:
        job.open.append(incident.id)
    return incident


def share_marks(cluster: Cluster, job: Job, incident: Incident) -> None:
    """A second fault in mid-recovery: the new incident takes over the marks of the recovery it rides on."""
    for other in open_of(cluster, job):
        if other is not incident:
            for name in _RECOVERY_MARKS:
                if name in other.marks:
                    incident.marks.setdefault(name, other.marks[name])
    incident.new_generation = job.generation


def add_failure(incident: Incident, failure: Failure) -> bool:
    """Take in a rank's end, or what is newly known of it. True if that changed anything."""
    known = incident.failures.get(failure.rank)
    if known is None and len(incident.failures) >= _FAILURES_KEPT and weigh(failure) >= Weight.CONSEQUENCE:
        return False  # of thousands that die of the first one, one more tells nothing
    if known is not None:
        # The stamp of an exception comes first, the exit code a second later: keep the earlier time and all words.
        failure = replace(
            failure,
            ended_s=known.ended_s,
            error_type=known.error_type or failure.error_type,
            error_message=known.error_message or failure.error_message,
            killed_by_agent=failure.killed_by_agent if known.exit_code is None else known.killed_by_agent,
        )
        if failure == known:
            return False
    incident.failures[failure.rank] = failure
    if known is None:
        incident.marks["fault"] = min(incident.marks["fault"], failure.ended_s)
        incident.tell(failure.ended_s, failure.words())
    return True


def decide(cluster: Cluster, incident: Incident, verdict: Verdict) -> None:
    incident.verdict = verdict
    incident.marks["verdict"] = cluster.now_s
    incident.state = "recovering" if verdict.action in {"restart", "rollback", "evict"} else incident.state
    ranks = few([f"rank {rank}" for rank in verdict.ranks])
    who = ", ".join(filter(None, (ranks, few(verdict.nodes)))) or "nobody"
    incident.tell(cluster.now_s, f"verdict: {verdict.fault_class}, {who}: {verdict.reason} -> {verdict.action}")
    cluster.incident_changed(incident)
    cluster.say(
        "warning",
        f"{incident.run_id or 'no job'}: {verdict.fault_class}, {who} -> {verdict.action}: {verdict.reason}",
        job=incident.run_id,
        incident=str(incident.id),
    )


def mark(cluster: Cluster, job: Job, name: str, line: str, at_s: float | None = None) -> None:
    """Note a stage of the recovery on every open incident of the job. A new announcement begins the marks anew."""
    for incident in open_of(cluster, job):
        if name == "announced":
            if "announced" in incident.marks:
                for later in _RECOVERY_MARKS[1:]:
                    incident.marks.pop(later, None)
            else:
                incident.marks["announced"] = cluster.now_s
            incident.new_generation = job.generation
        else:
            incident.marks.setdefault(name, cluster.now_s if at_s is None else at_s)
        if line:
            incident.tell(cluster.now_s if at_s is None else at_s, line)
        cluster.incident_changed(incident)


def close(cluster: Cluster, incident: Incident, line: str) -> None:
    incident.state = "closed"
    incident.tell(cluster.now_s, line)
    cluster.incident_changed(incident)


def close_all(cluster: Cluster, job: Job, line: str) -> None:
    """Close those that have their verdict; the others close as soon as they have."""
    for incident in open_of(cluster, job):
        if incident.verdict is not None:
            close(cluster, incident, line)
            job.open.remove(incident.id)


def awaits_weighing(incident: Incident) -> bool:
    """An Xid has come in, and whose fault it is has not been settled since (health.py)."""
    return "noted" in incident.marks and "weighed" not in incident.marks


def open_of(cluster: Cluster, job: Job) -> list[Incident]:
    return [cluster.incidents[number] for number in job.open]


def close_advice(cluster: Cluster, job: Job, line: str) -> None:
    """The stall that was only advised on is over, one way or the other."""
    number, job.advice = job.advice, None
    if number is not None and (incident := cluster.incidents.get(number)) is not None and incident.state != "closed":
        close(cluster, incident, line)
        cluster.durable[("job", job.record)] = None


def close_network(cluster: Cluster, member: Member, line: str) -> None:
    """The silent node has spoken, or is lost after all."""
    if member.network_incident is not None:
        incident = cluster.incidents.get(member.network_incident)
        member.network_incident = None
        if incident is not None:
            close(cluster, incident, line)


def prune(cluster: Cluster) -> None:
    """Forget the oldest closed incidents beyond what is kept."""
    if len(cluster.incidents) <= _KEPT:
        return
    closed = sorted(number for number, incident in cluster.incidents.items() if incident.state == "closed")
    for number in closed[: len(cluster.incidents) - _KEPT]:
        del cluster.incidents[number]
        cluster.durable[("incident", str(number))] = None
