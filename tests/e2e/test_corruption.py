"""A bit flips in one rank of a real cluster: nothing fails, and the right rank is named by the next check."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .trials import Trial, finish, start

EVERY = 20
"""Steps between two checks of the reference trainer."""
STEPS = 400
SEED_OF_A_HIGH_BIT = "5"


SHORT = 150
EVERY_REPLAY = 5
TWICE = ("--", "--set", "hardware.activation_checkpointing=true", "--set", "training.recompute_check_every=1",
         "--set", f"training.replay_every={EVERY_REPLAY}", "--set", "training.known_answer_every=10")  # fmt: skip
"""Everything is computed twice, much more often than it is by default."""


def flipped(trial: Trial, at_step: int, seed: str) -> dict[str, Any]:
    options = ("--spares", "1", "--no-compare", "--at-step", str(at_step), "--seed", seed)
    return trial("--fault", "bitflip", *options, steps=STEPS)


def computed_twice(trial: Trial, seed: int, *flip: str) -> dict[str, Any]:
    """A flip of what no replica can see, for all have it through the sum."""
    options = ("--spares", "1", "--no-compare", "--at-step", "60", "--seed", str(seed))
    return trial("--fault", "bitflip", *flip, *options, steps=SHORT, after=TWICE)


def assert_blamed(result: dict[str, Any]) -> None:
    verdict, fault = result["verdict"], result["fault"]
    assert (verdict["class"], verdict["ranks"], verdict["nodes"]) == ("corruption", [fault["rank"]], [fault["node"]])
    assert result["evicted"] == [fault["node"]]
    assert (result["exit_code"], result["ranks_agree"], result["false_deaths"]) == (0, True, [])


def assert_named(result: dict[str, Any]) -> None:
    fault = result["fault"]
    assert_blamed(result)
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
    assert_named(flipped(trial, 30 + 7 * seed, str(seed)))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The final parameters of a run that nothing disturbs, with no check and nothing computed twice."""
    folder = tmp_path_factory.mktemp("expected")
    off = [f"training.{each}_every=0" for each in ("replica_check", "known_answer", "recompute_check", "replay")]
    out = folder / "out.json"
    sets = [part for each in off for part in ("--set", each)]
    result = finish(start(folder, "trial", "--steps", str(SHORT), "--json", str(out), "--", *sets), folder, out)
    digest: str = result["state_digest"]
    return digest


@pytest.mark.long
def test_a_flipped_activation_is_found_where_it_is_computed_again_and_leaves_no_trace(
    trial: Trial, expected: str
) -> None:
    result = computed_twice(trial, 1, "--flip", "activation")
    assert_blamed(result)
    assert result["state_digest"] == expected


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_whichever_activation_flips(trial: Trial, expected: str, seed: int) -> None:
    result = computed_twice(trial, seed, "--flip", "activation")
    if result["verdict"] is not None:
        assert_blamed(result)
    assert result["state_digest"] == expected, "what no comparison has seen was rounded away"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_a_device_that_spoils_gradients_now_and_then_is_found_by_replaying_them(trial: Trial, seed: int) -> None:
    assert_blamed(computed_twice(trial, seed, "--flip", "gradient", "--flip-probability", "0.3"))


@pytest.mark.long
def test_killed_with_every_check_on_it_ends_with_the_bits_of_a_run_without_any(trial: Trial, expected: str) -> None:
    result = trial("--fault", "kill", "--at-step", "60", steps=SHORT, after=TWICE)
    assert (result["verdict"]["class"], result["generations"]) == ("exit", 2)
    assert result["state_digest"] == expected


@pytest.mark.long
def test_a_thousand_clean_steps_bring_no_word(trial: Trial) -> None:
    result = trial("--fault", "none", "--no-compare", steps=1000)
    assert (result["verdict"], result["incidents"], result["generations"], result["exit_code"]) == (None, [], 1, 0)


@pytest.mark.long
def test_a_device_that_is_always_wrong_in_the_same_way_is_outvoted_and_its_node_leaves(
    trial: Trial, tmp_path: Path
) -> None:
    script = str(Path(__file__).with_name("stuck_device.py"))
    result = trial("--fault", "none", "--spares", "1", "--no-compare", "--script", script, "--logs", str(tmp_path))
    assert (result["exit_code"], result["ranks_agree"]) == (0, True)
    told = [json.loads(line) for line in (tmp_path / "coordinator.log").read_text().splitlines() if line[:1] == "{"]
    (verdict,) = [each["message"] for each in told if "-> " in each["message"]]
    assert "corruption, rank 3, node-1 -> evict: rank 3 has other gradients" in verdict
    assert "spare node-2 promoted" in verdict
