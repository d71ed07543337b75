"""The gradient guards of a job have skipped so many steps in a row that they ask for a rollback.

They decide by the global norm, so what one of them asks for all do. Which rollback follows is recovery.py's; here a
wish counts once, in the generation whose ranks have it.
"""

from __future__ import annotations

from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Job


def find(cluster: Cluster, job: Job, member: Member | None) -> list[Suspicion]:
    wanted = job.rollback_wanted
    if wanted is None or not job.formed or wanted[0] != job.generation or cluster.settings.divergence_mode == "off":
        return []
    if wanted == job.rollback_answered or (member is not None and member.seen.rollback_wanted is None):
        return []
    words = f"the gradient guard skips every step since step {wanted[1]}"
    return [Suspicion("divergence", (), cluster.now_s, evidence=(words,))]
