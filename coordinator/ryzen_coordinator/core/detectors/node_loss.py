"""A node has fallen silent. Silence alone is no proof: an agent that died, or its network, looks the same.

A synchronous job cannot step unless every rank lives. So further steps of the *other* nodes acquit the silent one
(a fault of the management network: reported, nothing is done), and only when the others have stood still for
longer than they ever legitimately did is the node lost. A peer's failed collective corroborates at once; that
case is decided by the incident which the peer's failure has opened (recovery.py).

With no other node to look at, or with all of them silent, the fault is as likely ours: nothing is done.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.state import Cluster, Job, Member

STEPS_THAT_ACQUIT = 2
"""One step may have been in flight when the node fell silent; the second needed it."""


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    if member is not None or not job.formed:
        return []
    members = job.world_members()
    silent = [each for each in members if cluster.silent(each)]
    if not silent or not any(cluster.reachable(each) for each in members):
        return []
    return [found for each in silent if (found := _judge(cluster, job, each)) is not None]


def _judge(cluster: Cluster, job: Job, member: Member) -> Suspicion | None:
    table, silence_s = job.table, cluster.now_s - member.heard_s
    stepped = member.silence_step is not None and (
        table.others_step(member.node) >= member.silence_step + STEPS_THAT_ACQUIT
    )
    if job.sends_progress and table.others_silent(member.node, job.gaps, cluster.settings, cluster.now_s):
        words = f"{member.node} is silent for {silence_s:.1f} s and no other node has advanced since"
        return Suspicion("node_loss", (member.node,), member.heard_s, table.ranks_of(member.node), (words,))
    if stepped and member.network_incident is None:
        words = f"{member.node} is silent for {silence_s:.1f} s, but the job has stepped on without a pause: it lives"
        return Suspicion("network", (member.node,), member.heard_s, (), (words,))
    return None
