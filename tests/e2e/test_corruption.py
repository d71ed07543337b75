"""A bit flips in one rank of a real cluster: nothing fails, and the right rank is named by the next check."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .trials import Trial

EVERY = 20
"""Steps between two checks of the reference trainer."""
STEPS = 400
SEED_OF_A_HIGH_BIT = "5"


def flipped(trial: Trial, at_step: int, seed: str) -> dict[str, Any]:
    options = ("--spares", "1", "--no-compare", "--at-step", str(at_step), "--seed", seed)
    return trial("--fault", "bitflip", *options, steps=STEPS)


def assert_named(result: dict[str, Any]) -> None:
    verdict, fault = result["verdict"], result["fault"]
    assert (verdict["class"], verdict["ranks"], verdict["nodes"]) == ("corruption", [fault["rank"]], [fault["node"]])
    assert result["evicted"] == [fault["node"]]
    steps = re.search(r"after step (\d+); all agreed after step (\d+)", result["incidents"][0]["reason"])
    assert steps is not None
    found, clean = int(steps[1]), int(steps[2])
    assert clean <= fault["at_step"] + 1
    assert found <= fault["at_step"] + 1 + EVERY
    assert (result["final_step"], result["exit_code"], result["ranks_agree"]) == (STEPS, 0, True)
    assert result["false_deaths"] == []


def test_a_flipped_bit_is_found_its_node_quarantined_and_training_goes_on_from_before(trial: Trial) -> None:
    assert_named(flipped(trial, 45, SEED_OF_A_HIGH_BIT))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_whichever_bit_flips_on_whichever_rank(trial: Trial, seed: int) -> None:
    result = flipped(trial, 30 + 7 * seed, str(seed))
    if result["verdict"] is not None:
        assert_named(result)
    else:  # a low bit may be rounded away by the next update: then nothing has happened
        assert result["ranks_agree"]


@pytest.mark.long
def test_a_thousand_clean_steps_bring_no_word(trial: Trial) -> None:
    result = trial("--fault", "none", "--no-compare", steps=1000)
    assert (result["verdict"], result["incidents"], result["generations"], result["exit_code"]) == (None, [], 1, 0)
