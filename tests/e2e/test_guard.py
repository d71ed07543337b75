"""Wrong gradients in a real cluster: one step is skipped on every rank, and nothing else happens."""

from __future__ import annotations

import pytest

from .trials import STEPS, Trial


@pytest.mark.long
@pytest.mark.parametrize("kind", ["spike", "nan"])
def test_one_step_is_skipped_by_every_rank_and_training_goes_on(trial: Trial, kind: str) -> None:
    result = trial("--fault", kind, "--at-step", "80", "--no-compare")
    assert result["fault"]["where"] == "backward"
    assert (result["verdict"], result["incidents"], result["generations"]) == (None, [], 1)
    assert (result["final_step"], result["ranks_agree"]) == (STEPS - 1, True), "an optimizer step less than steps"
    assert (result["exit_code"], result["false_deaths"]) == (0, [])
