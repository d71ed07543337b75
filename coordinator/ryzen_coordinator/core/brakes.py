"""When another restart would not help: pure functions that return the reason in words, or None.

The job then ends with the do-not-requeue exit code, so that the scheduler does not loop in our place.
"""

from __future__ import annotations

from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Job


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
