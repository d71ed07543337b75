"""A checkpoint that ranks have saved which did not agree any more is never resumed from."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.coordinator.columns import beats_of

from ryzen_coordinator.core.events import ProgressSeen, RankSeen, Shape
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.rollback import resume_at_most, taint, take_checkpoint
from ryzen_coordinator.core.state import Job


def job_at(step: int, checkpoint: int | None) -> Job:
    job = Job("me", "job", Shape(), born_s=0.0, generation=1, checkpoint_step=checkpoint)
    job.table = ProgressTable(1, ["n"])
    job.table.observe("n", (RankSeen(0, 0, 7, 1),), beats_of([ProgressSeen(step, "", 0.0, 0.0, step)]), 0.0)
    return job


def take(job: Job, step: int, generation: int) -> bool:
    return take_checkpoint(job, step, (RankSeen(0, 0, 7, generation),))


def test_what_the_desynchronised_world_has_saved_is_passed_over_however_late_it_is_reported() -> None:
    job = job_at(step=40, checkpoint=30)
    taint(job, clean_step=16)
    assert resume_at_most(job) == 16
    assert job.checkpoint_step is None
    take(job, 40, generation=1)
    assert resume_at_most(job) == 16


def test_the_limit_rises_with_clean_checkpoints_and_goes_when_they_have_passed_the_tainted_ones() -> None:
    job = job_at(step=40, checkpoint=30)
    taint(job, clean_step=16)
    assert not take(job, 20, generation=2)
    assert resume_at_most(job) == 20
    assert not take(job, 40, generation=2)  # step 40 itself may have been saved by the old world
    assert take(job, 41, generation=2)
    assert resume_at_most(job) is None


def test_a_checkpoint_from_before_the_fall_stays_known() -> None:
    job = job_at(step=40, checkpoint=10)
    taint(job, clean_step=16)
    assert job.checkpoint_step == 10
    assert resume_at_most(job) == 16


def test_a_second_fall_before_the_first_is_made_good_goes_back_to_the_older_step() -> None:
    job = job_at(step=40, checkpoint=30)
    taint(job, clean_step=16)
    job.generation = 2
    taint(job, clean_step=12)
    assert resume_at_most(job) == 12
    assert job.taint is not None
    assert job.taint.high >= 40


def test_a_job_without_a_taint_resumes_from_anything() -> None:
    job = replace(job_at(step=5, checkpoint=3))
    assert resume_at_most(job) is None
