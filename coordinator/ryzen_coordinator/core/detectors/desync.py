"""The ranks do not do the same collectives any more, though all of them still step.

The counts and what they prove are in marks.py. Here only what has been confirmed counts; a first difference waits
for the next mark, or for the job to stand still (hang.py).
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Job


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    apart = job.marks.confirmed
    if member is not None or apart is None or not job.formed or cluster.settings.desync_mode == "off":
        return []
    nodes = tuple(sorted({job.table.node_of(rank) for rank in apart.ranks}))
    return [Suspicion("desync", nodes, cluster.now_s, apart.ranks, (apart.words(),))]
