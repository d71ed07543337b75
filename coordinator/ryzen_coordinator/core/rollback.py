"""Which checkpoints may be resumed from after the ranks have fallen apart.

From the step at which they did, all that was saved is tainted. The limit goes with every world until the job has
saved a clean checkpoint beyond the last tainted one: only then does the newest one mean the best one again.
"""

from __future__ import annotations

from ryzen_coordinator.core.events import RankSeen
from ryzen_coordinator.core.state import Job, Taint

STEPS_MAX = 2000
"""A rollback over more steps is a person's to decide: marks are 64 steps apart, so an older one is from before a gap
in what the coordinator has seen."""


def clean_step(job: Job) -> int | None:
    """The newest step at whose begin all ranks agreed, where that is known and not too long ago to go back to."""
    if job.marks.agreed is None or not job.marks.agreements:
        return None
    return job.marks.agreed_step if (job.table.top_step() or 0) - job.marks.agreed_step <= STEPS_MAX else None


def taint(job: Job, clean_step: int) -> None:
    """The ranks of the present generation have not agreed since `clean_step` began (that many steps are good)."""
    high = max(job.checkpoint_step or 0, job.table.top_step() or 0, job.taint.high if job.taint else 0)
    clean = min(clean_step, job.taint.clean) if job.taint else clean_step
    job.taint = Taint(job.generation, clean, max(high, clean))
    if job.checkpoint_step is not None and job.checkpoint_step > clean:
        job.checkpoint_step = None


def resume_at_most(job: Job) -> int | None:
    """The newest checkpoint step that may be resumed from; None: any."""
    return max(job.taint.clean, job.checkpoint_step or 0) if job.taint is not None else None


def take_checkpoint(job: Job, step: int, ranks: tuple[RankSeen, ...]) -> bool:
    """Take in the newest checkpoint that a node knows of; these are its ranks. True if that lifted the limit."""
    tainted = job.taint
    if tainted is not None and step > tainted.clean:
        newest = max((rank.generation for rank in ranks), default=0)
        if newest <= tainted.generation:
            return False  # what the world that fell apart had saved
        if step > tainted.high:
            job.taint = None
    job.checkpoint_step = max(step, job.checkpoint_step or 0)
    return tainted is not None and job.taint is None
