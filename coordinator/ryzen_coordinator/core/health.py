"""From a health event to what is done: the kernel log and the driver have said something about a node, once.

    taken in     each once (ids grow; the newest is journalled), noted in the node's history of 24 h
    evict        at once, if the maker of the device says so: eviction.py
    restart      the world is announced anew at once, and whose fault it is settled a moment later (`settle`), when the
                 other nodes have had the time to say the same: the application's, or that of a device it follows
    note         evidence, for an incident that is open or that a rank's end opens within seconds

What all of it means is judged in health_judge.py; levels (conditions) are in conditions.py.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import conditions, eviction, health_judge, incidents, membership, policy, recovery, verdicts
from ryzen_coordinator.core.blame import Verdict, culprits
from ryzen_coordinator.core.events import HealthSeen, NodeReport
from ryzen_coordinator.core.health_record import Burst, newest_like, window_s, with_burst
from ryzen_coordinator.core.members import Node
from ryzen_coordinator.core.phases import OVER, RECOVERING, WORLD_UP
from ryzen_coordinator.core.state import Cluster, Incident, Job


def take(cluster: Cluster, node: Node, report: NodeReport) -> None:
    """Take in what a report says of its node's health."""
    if report.conditions is not None:
        conditions.take(cluster, node, report.conditions)
    fresh = []
    for seen in report.health:
        if _is_new(node, seen):
            node.health = replace(node.health, event_id=seen.id)
            cluster.durable[("node", node.name)] = None
            fresh.append(seen)
    recovered = {seen.device: seen.id for seen in fresh if health_judge.recovers(seen)}
    for seen in fresh:
        _take(cluster, node, seen, passed=seen.id < recovered.get(seen.device, 0))


def settle(cluster: Cluster, job: Job) -> None:
    """Decide whose fault the Xids of open incidents are, once the other nodes have had the time to show the same."""
    for incident in incidents.open_of(cluster, job):
        if _is_due(cluster, incident):
            incident.marks["weighed"] = cluster.now_s
            _weigh(cluster, job, incident)
            verdicts.close_if_over(cluster, job)


def _is_due(cluster: Cluster, incident: Incident) -> bool:
    if not incidents.awaits_weighing(incident):
        return False
    return cluster.now_s >= incident.marks["noted"] + cluster.settings.health_collect_s


# ---------------------------------------------------------------- taking in


def _is_new(node: Node, seen: HealthSeen) -> bool:
    """Agents tell an event until it is acknowledged, to every coordinator."""
    return seen.id > node.health.event_id


def _concerns_us(seen: HealthSeen) -> bool:
    """Not what our own kill has caused, nor what has happened to somebody else's process."""
    return not (seen.ours or seen.foreign)


def _take(cluster: Cluster, node: Node, seen: HealthSeen, passed: bool) -> None:
    """`passed`: the same report says that the driver has recovered the device since."""
    job = _job_of(cluster, node, seen)
    burst = _burst(cluster, node, job, seen)
    whose = " (after a kill of ours)" if seen.ours else " (not of a job here)" if seen.foreign else ""
    cluster.say("info", f"{burst.words()} -> {seen.action or 'no action'}{whose}", node=node.name)
    if not _concerns_us(seen):
        return
    bursts, burst = with_burst(node.health.bursts, burst)
    node.health = replace(node.health, bursts=bursts)
    course = health_judge.course(seen, cluster.settings.health_evict_on)
    if health_judge.recovers(seen):
        _recovered(cluster, node, seen)
    elif cluster.settings.health_mode == "off" or passed or burst.last_unix_s < node.health.readmitted_unix_s:
        return
    elif course == "evict":
        eviction.evict(cluster, node, burst)
    elif course == "restart" and job is not None:
        _restart(cluster, node, job, burst)
    else:
        eviction.note(cluster, node, burst)


def _job_of(cluster: Cluster, node: Node, seen: HealthSeen) -> Job | None:
    """The job that the event names; of one that names none, the only one that runs there."""
    there = [job for job in cluster.jobs.values() if job.phase not in OVER and job.world and node.name in job.world]
    named = [job for job in there if seen.run_id in {"", job.run_id}]
    return named[0] if len(named) == 1 else None


def _burst(cluster: Cluster, node: Node, job: Job | None, seen: HealthSeen) -> Burst:
    """In our time: a node's clock is as far off as its report was, so the event's age is what the node measured."""
    now_unix_s = cluster.now_s + cluster.unix_offset_s
    at_unix_s = min(now_unix_s, seen.at_unix_s - node.clock_offset_s)
    generation = 0
    if job is not None and job.world is not None:
        generation = job.world.generation
        if at_unix_s - cluster.unix_offset_s < job.formed_s:  # a late word of a world before this one
            before = newest_like(node.health.bursts, seen)
            near = before is not None and at_unix_s - before.last_unix_s <= window_s(seen.code)
            generation = before.generation if near and before is not None else 0
    return Burst(
        node.name,
        seen.kind,
        seen.code,
        seen.device or seen.pci,
        seen.unit,
        seen.action,
        seen.message,
        at_unix_s,
        at_unix_s,
        seen.count,
        job.user if job is not None else "",
        job.run_id if job is not None else seen.run_id,
        generation,
        seen.ranks,
        seen.pci,
    )


def _recovered(cluster: Cluster, node: Node, seen: HealthSeen) -> None:
    """The driver asks for nothing any more. What is held against the device is dropped; the history stays.

    A node that has been evicted stays out: it has lost a device once, and only a person knows why it is back.
    """
    for incident in cluster.incidents.values():
        held = [each for each in incident.bursts if (each.node, each.device) == (node.name, seen.device or seen.pci)]
        if held and incident.state != "closed":
            incident.marks["recovered"] = cluster.now_s
            incident.tell(cluster.now_s, f"{node.name}: the driver has recovered {seen.device or seen.pci}")
            cluster.incident_changed(incident)
    if node.barred:
        cluster.say(
            "info", f"{node.name}: the device is back; the node stays out until it is readmitted", node=node.name
        )


# ---------------------------------------------------------------- restarting


def _restart(cluster: Cluster, node: Node, job: Job, burst: Burst) -> None:
    at_s = eviction.fault_s(cluster, burst)
    struck = job.formed and job.phase in WORLD_UP and at_s >= job.formed_s
    incident = eviction.joinable(cluster, job, node.name, burst)
    if job.watched or cluster.settings.health_mode != "act":
        eviction.note(cluster, node, burst)
        if incident is None and struck:
            _advise(cluster, node, job, burst)
        return
    if incident is None:
        if not (struck or job.phase in RECOVERING):
            return
        incident = incidents.open_incident(cluster, job, "exit", at_s)
        job.open.append(incident.id)
        if job.phase in RECOVERING:
            incidents.share_marks(cluster, job, incident)
    eviction.attach(cluster, incident, burst)
    incident.marks["noted"] = cluster.now_s
    incident.marks.pop("weighed", None)  # perhaps of this very moment: what has just come is yet to be weighed
    if _judged(cluster, burst).whose == "device":
        job.held_until_s = cluster.now_s + cluster.settings.health_collect_s
    if struck:
        recovery.start_anew(cluster, job, burst.words())


def _advise(cluster: Cluster, node: Node, job: Job, burst: Burst) -> None:
    judged = _judged(cluster, burst)
    reason = f"{burst.words()}; {judged.words}; advised only"
    verdict = Verdict("hardware" if judged.whose == "device" else "exit", burst.ranks, (node.name,), reason=reason)
    incident = incidents.open_apart(cluster, job, "exit", (node.name,), eviction.fault_s(cluster, burst))
    eviction.attach(cluster, incident, burst)
    incidents.decide(cluster, incident, policy.advise(verdict))
    incidents.close(cluster, incident, "advice only")


def _weigh(cluster: Cluster, job: Job, incident: Incident) -> None:
    """The restart is under way; who is out of the next world follows from whose fault the Xids are."""
    asks = [each for each in incident.bursts if each.action in health_judge.RESTARTING]
    known = incident.verdict
    guilty = culprits(list(incident.failures.values()))
    elsewhere = guilty and not any(failure.node == each.node for failure in guilty for each in asks)
    if not asks or (known is not None and known.fault_class == "hardware") or (known is None and elsewhere):
        return  # decided already, or by the exits: what has come to light there outweighs an Xid elsewhere
    found = [(each, _judged(cluster, each)) for each in asks]
    if "recovered" in incident.marks:
        found = [
            (each, health_judge.Judgement("unknown", "the driver has recovered the device since")) for each in asks
        ]
    blamed = [(each, judged) for each, judged in found if judged.whose == "device"]
    if blamed and not any(judged.whose == "application" for _, judged in found):
        for burst, judged in blamed:
            eviction.evict(cluster, cluster.nodes[burst.node], burst, judged.words)
    if incident.verdict is known:
        nodes = tuple(sorted({each.node for each in asks}))
        ranks = {rank for each in asks for rank in eviction.ranks_of(job, incident, each)}
        ranks = ranks or {f.rank for f in guilty if f.node in nodes}
        words = [each.words() for each in asks] + [f.words() for f in guilty if f.node in nodes] + [found[-1][1].words]
        verdict = Verdict("exit", tuple(sorted(ranks)), nodes, reason="; ".join(words), confidence="likely")
        stop = job.note if job.phase in OVER else None
        incidents.decide(cluster, incident, policy.for_exit(verdict, stop))
        if job.phase in RECOVERING:
            membership.replan(cluster, job)


def _judged(cluster: Cluster, burst: Burst) -> health_judge.Judgement:
    """What was before somebody let a node in again does not count against it any more."""
    history = [
        each
        for node in cluster.nodes.values()
        for each in node.health.bursts
        if each.last_unix_s >= node.health.readmitted_unix_s
    ]
    return health_judge.whose(burst, history)
