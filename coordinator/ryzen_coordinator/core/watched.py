"""A job whose torchrun has another rendezvous backend: membership is out of our hands, blame is not.

Its ranks are known by their beat pages alone. Exits are judged and reported; of a hang the culprit is killed, so
that its own torchrun notices and restarts. There is no generation: a rank that was restarted has another pid.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import incidents, policy
from ryzen_coordinator.core.blame import Verdict
from ryzen_coordinator.core.detectors import Suspicion
from ryzen_coordinator.core.detectors.exits import failures_of
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.state import Cluster, Incident, Job, World


def take(cluster: Cluster, job: Job, member: Member) -> None:
    """Keep the world of a watched job: the nodes on which its ranks are seen, by their ranks."""
    if not member.seen.ranks:
        return
    generation = max(rank.generation for rank in member.seen.ranks)
    if job.world is not None and (job.world.generation > generation or member.node in job.world):
        return
    others = job.world.nodes if job.world is not None and job.world.generation == generation else ()
    nodes = sorted({*others, member.node}, key=lambda node: min(r.rank for r in job.members[node].seen.ranks))
    sizes = [len(job.members[node].seen.ranks) for node in nodes]
    job.generation = generation
    job.world = World(generation, tuple(nodes), ((0, 0),) * len(nodes), None, len(set(sizes)) == 1, sum(sizes))
    if not others:
        job.table = ProgressTable(generation, list(nodes))
        job.go = True
    if job.phase == "forming":
        job.move("adopted")
    job.note = "watched only: torchrun has another rendezvous backend"
    cluster.job_changed(job)


def on_exit(cluster: Cluster, job: Job, suspicion: Suspicion) -> None:
    """Report it once a process; what is done about it is that torchrun's own affair."""
    open_now = [incident for incident in incidents.open_of(cluster, job) if incident.verdict is None]
    for node in suspicion.nodes:
        for failure in failures_of(job.generation, job.members[node], cluster.now_s):
            pid = int(job.table.pid[failure.rank])
            if pid in job.reported_pids:
                continue
            job.reported_pids.add(pid)
            if not open_now:
                open_now.append(incidents.open_on(cluster, job, suspicion))
            incidents.add_failure(open_now[0], failure)


def on_hang(cluster: Cluster, job: Job, incident: Incident, verdict: Verdict) -> None:
    """The agents kill what does not move; its torchrun does the rest."""
    pids: dict[str, list[int]] = {}
    for rank in verdict.ranks:
        pids.setdefault(job.table.node_of(rank), []).append(int(job.table.pid[rank]))
        job.reported_pids.add(int(job.table.pid[rank]))
    job.stop_pids = {node: tuple(each) for node, each in pids.items()}
    incidents.decide(cluster, incident, replace(policy.for_hang(verdict, None), reason=verdict.reason))
    incidents.close_all(cluster, job, "the culprit is killed; the rest is its torchrun's")
    cluster.job_changed(job)


def look(cluster: Cluster, job: Job) -> None:
    """Drop orders that are carried out."""
    alive = {int(pid) for pid in job.table.pid[job.table.alive]}
    left = {node: tuple(pid for pid in pids if pid in alive) for node, pids in job.stop_pids.items()}
    left = {node: pids for node, pids in left.items() if pids}
    if left != job.stop_pids:
        job.stop_pids = left
        cluster.job_changed(job)
