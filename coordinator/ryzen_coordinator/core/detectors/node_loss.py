"""A node has fallen silent. Silence alone is no proof: an agent that died, or its network, looks the same.

A synchronous job cannot step unless every rank lives. So further steps of the *other* nodes acquit the silent one
(a fault of the management network: reported, nothing is done), and only when the others have stood still for
longer than they ever legitimately did is the node lost. A peer's failed collective corroborates at once; that
case is decided by the incident which the peer's failure has opened (recovery.py).

With no other node to look at, or with all of them silent, the fault is as likely ours: nothing is done. Nor is
anything while a stopped rank elsewhere explains why the others stand still.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.stall import silent_nodes
from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.phases import WORLD_UP
from ryzen_coordinator.core.state import Cluster, Job, Member

STEPS_THAT_ACQUIT = 2
"""One step may have been in flight when the node fell silent; the second needed it."""


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    if member is not None or not job.formed or job.phase not in WORLD_UP:
        return []
    members = job.world_members()
    silent = [each for each in members if cluster.silent(each) and not each.torchrun_gone]
    if not silent or not any(cluster.reachable(each) for each in members):
        return []
    explained = job.question is not None or bool(job.table.evidence(silent_nodes(cluster, job), cluster.now_s))
    return [found for each in silent if (found := _judge(cluster, job, each, explained)) is not None]


def _judge(cluster: Cluster, job: Job, member: Member, explained: bool) -> Suspicion | None:
    table, silence_s, node = job.table, cluster.now_s - member.heard_s, member.node
    still = job.sends_progress and table.others_silent(node, job.gaps, cluster.settings, cluster.now_s)
    if still and not explained:
        words = f"{node} is silent for {silence_s:.1f} s and no other node has advanced since"
        return Suspicion("node_loss", (node,), member.heard_s, table.ranks_of(node), (words,))
    before = member.silence_step
    if before is None or member.network_incident is not None:
        return None
    if table.others_step(node) >= before + STEPS_THAT_ACQUIT:
        words = f"{node} is silent for {silence_s:.1f} s, but the job steps on: its ranks live"
        return Suspicion("network", (node,), member.heard_s, (), (words,))
    return None
