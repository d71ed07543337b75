"""When another restart would not help."""

from __future__ import annotations

import pytest
from tests.simulation.coordinator.columns import beats_of

from ryzen_coordinator.core import brakes
from ryzen_coordinator.core.events import ProgressSeen, RankSeen, Shape
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Job, World

SETTINGS = CoreSettings(restart_budget=5, fruitless_generations=3, young_s=10)


def struck_job() -> Job:
    job = Job("me", "job", Shape(), born_s=0.0, sends_progress=True)
    job.world = World(1, ("a",), ((7, 1),), ("a", 1), True, 1)
    return job


def generation(job: Job, step: int, done: int = 1, checkpoint: int | None = None, lived_s: float = 1.0) -> str | None:
    """A generation that got to `step`, then a fault."""
    job.table = ProgressTable(1, ["a"])
    record = ProgressSeen(step, "", 0.0, 0.0, done) if job.sends_progress else None
    job.table.observe("a", (RankSeen(0, 0, 1, 1),), beats_of([record]), 100.0)
    job.checkpoint_step = checkpoint
    brakes.account(job, SETTINGS, 100.0 + lived_s)
    return brakes.reason_to_stop(job, SETTINGS)


def test_three_generations_that_come_no_further_stop_the_job() -> None:
    job = struck_job()
    assert generation(job, 20) is None
    assert [generation(job, step) for step in (20, 20)] == [None, None]
    assert generation(job, 20) == "no progress over 3 generations"


def test_a_step_beyond_the_generation_before_is_progress() -> None:
    job = struck_job()
    assert [generation(job, step) for step in (20, 15, 15, 16, 15)] == [None] * 5


def test_a_newer_checkpoint_is_progress() -> None:
    job = struck_job()
    assert [generation(job, 20, checkpoint=saved) for saved in (10, 10, 10, 20)] == [None] * 4


def test_a_step_that_was_begun_but_not_done_is_none() -> None:
    job = struck_job()
    assert [generation(job, step, done=0) for step in (20, 21)] == [None, None]
    assert generation(job, 22, done=0) is not None


def test_without_progress_sent_a_long_life_counts() -> None:
    job = struck_job()
    job.sends_progress = False
    assert [generation(job, 0, lived_s=life) for life in (1, 1, 11)] == [None] * 3
    assert [generation(job, 0, lived_s=life) for life in (1, 1)] == [None] * 2
    assert generation(job, 0, lived_s=1) is not None


def test_the_restart_budget_is_for_the_whole_job() -> None:
    job = struck_job()
    for step in range(5):
        assert generation(job, 10 + step) is None
    assert generation(job, 99) == "the restart budget is used up (5 restarts)"


@pytest.mark.parametrize("budget", [0])
def test_a_budget_of_zero_allows_no_restart(budget: int) -> None:
    job = struck_job()
    job.restarts = 1
    assert brakes.reason_to_stop(job, CoreSettings(restart_budget=budget)) is not None
