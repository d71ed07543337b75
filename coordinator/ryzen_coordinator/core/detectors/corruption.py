"""Replicas that do not hold the same parameters any more, a rank that contradicts itself: a device computes wrong.

Which one, and since when, is in replicas.py and self_checks.py. What is done about it is recovery.py's.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.replicas import Difference
from ryzen_coordinator.core.self_checks import Contradiction
from ryzen_coordinator.core.state import Cluster, Job


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    wrong = found(job)
    if member is not None or wrong is None or not job.formed or cluster.settings.corruption_mode == "off":
        return []
    if job.corruption_answered == job.generation:
        return []
    nodes = tuple(sorted({job.table.node_of(rank) for rank in wrong.ranks}))
    return [Suspicion("corruption", nodes, cluster.now_s, wrong.ranks, (wrong.words(),))]


def found(job: Job) -> Contradiction | Difference | None:
    """Of the running generation. A contradiction names its rank, a difference of two replicas does not."""
    contradiction, difference = job.self_checks.found, job.replicas.difference
    if contradiction is not None and job.self_checks.generation == job.generation:
        return contradiction
    return difference if job.replicas.generation == job.generation else None
