"""Replicas do not hold the same parameters any more: some device has computed or stored something wrong.

Which one, and since when, is in replicas.py. What is done about it is recovery.py's.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.state import Cluster, Job, Member


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    apart = job.replicas.difference
    if member is not None or apart is None or not job.formed or cluster.settings.corruption_mode == "off":
        return []
    if job.corruption_answered == job.generation or job.replicas.generation != job.generation:
        return []
    nodes = tuple(sorted({job.table.node_of(rank) for rank in apart.ranks}))
    return [Suspicion("corruption", nodes, cluster.now_s, apart.ranks, (apart.words(),))]
