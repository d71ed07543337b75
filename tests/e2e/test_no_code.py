"""Scripts that know nothing of Ryzen, below `ryzen_trainer.auto` in real clusters: who was struck is named, and the
script resumes by the means of its own library."""

from __future__ import annotations

from pathlib import Path

import pytest

from ryzen_lab import scripts

from .trials import Trial, assert_blamed

FOLDER = Path(scripts.__file__).parent
STEPS = 60


@pytest.mark.parametrize(
    ("library", "fault"),
    [
        ("lightning", "stop"),
        pytest.param("lightning", "kill", marks=pytest.mark.long),
        pytest.param("huggingface", "stop", marks=pytest.mark.long),
        pytest.param("huggingface", "kill", marks=pytest.mark.long),
    ],
)
def test_an_uninstrumented_trainer_recovers_and_the_right_rank_is_named(trial: Trial, library: str, fault: str) -> None:
    options = ("--auto", "--script", str(FOLDER / f"{library}_trainer.py"), "--no-compare", "--ranks-per-node", "1")
    result = trial("--fault", fault, *options, steps=STEPS, after=("--", "--steps", "{steps}"))
    assert_blamed(result, {"stop": "hang", "kill": "exit"}[fault])
    assert (result["final_step"], result["exit_code"], result["generations"]) == (STEPS, 0, 2)
    assert result["ranks_agree"]
    assert result["false_deaths"] == []
    if fault == "stop":
        assert result["detected_s"] < 5, "by its steps, not by the patience with a rank that says nothing"
