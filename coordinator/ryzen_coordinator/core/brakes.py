"""When another restart would not help: pure functions that return the reason in words, or None.

The job then ends with the do-not-requeue exit code, so that the scheduler does not loop in our place. And when another
eviction would not: a fault of all nodes (an image, a driver, a rack's power) is not cured by taking out one by one.
"""

from __future__ import annotations

from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Cluster, Job
from ryzen_coordinator.core.words import few


def account(job: Job, settings: CoreSettings, now_s: float) -> None:
    """A generation has been struck by a fault: count whether it had brought the job on.

    Progress is a step beyond the best of the generation before it, or a newer checkpoint. A job that sends no
    progress is judged by how long its ranks had lived.
    """
    top = job.table.top_step()
    step = top if top is not None and job.table.top_steps_done() > 0 else -1
    checkpoint = job.checkpoint_step if job.checkpoint_step is not None else -1
    if job.sends_progress:
        fruitful = step > job.best_step or checkpoint > job.best_checkpoint
    else:
        alive_since = job.table.all_alive_since_s(job.world.ranks if job.world else 0)
        fruitful = alive_since is not None and now_s - alive_since > settings.young_s
    job.fruitless = 0 if fruitful else job.fruitless + 1
    job.best_step = step
    job.best_checkpoint = max(job.best_checkpoint, checkpoint)
    job.restarts += 1


def reason_to_stop(job: Job, settings: CoreSettings) -> str | None:
    """Why the job should not be started once more."""
    if job.restarts > settings.restart_budget:
        return f"the restart budget is used up ({settings.restart_budget} restarts)"
    if job.fruitless >= settings.fruitless_generations:
        return f"no progress over {job.fruitless} generations"
    return None


def reason_not_to_roll_back(job: Job, step: int) -> str | None:
    """Why a gradient guard's wish to go back to `step` is not granted: the same steps have ended so before."""
    if job.diverged_step is None or step > job.diverged_step:
        return None
    return f"it was rolled back to step {job.diverged_step} for that before: a person must look at data and settings"


UNNAMED_AGAIN_S = 3600.0
"""Replicas that differ again within so long, with nobody to name, are rather a software's doing than a device's."""


def reason_not_to_roll_back_unnamed(job: Job, now_unix_s: float) -> str | None:
    """Why the job is not taken back to where its replicas agreed, though they do not any more."""
    if now_unix_s - job.unnamed_rollback_unix_s >= UNNAMED_AGAIN_S:
        return None
    return "it was rolled back for that within the hour and nobody could be named: a person must look"


def reason_not_to_believe(job: Job, nodes: tuple[str, ...], with_peers: bool, now_unix_s: float) -> str | None:
    """Why ranks of these nodes that contradict themselves are not taken at their word: others have done so too.

    `with_peers`: it is peers that contradict them, and those have shown that the arithmetic repeats.
    """
    if len(nodes) > 1:
        return "ranks of several nodes at once: rather arithmetic that does not repeat than their devices"
    node, at_unix_s = job.contradicted
    if with_peers or node in ("", *nodes) or now_unix_s - at_unix_s >= UNNAMED_AGAIN_S:
        return None
    return (
        f"{node} did so within the hour: rather arithmetic that does not repeat than both devices; a person must look"
    )


EVICTIONS_WITHIN_S = 3600.0
EVICTIONS_LEAST = 2
"""Allowed in the smallest cluster: the second bad node of an hour is no pattern yet."""


def reason_to_keep(cluster: Cluster) -> str | None:
    """Why no further node should be evicted for its health now."""
    now_s = cluster.now_s + cluster.unix_offset_s
    known = [node for node in cluster.nodes.values() if node.phase != "retired"]
    most = max(EVICTIONS_LEAST, int(cluster.settings.health_evict_share * len(known)))
    recent = sorted(n.name for n in known if now_s - n.health.evicted_unix_s < EVICTIONS_WITHIN_S)
    if len(recent) < most:
        return None
    told = few(recent)
    return f"{len(recent)} of {len(known)} nodes have been evicted within the hour ({told}): a person must decide"
