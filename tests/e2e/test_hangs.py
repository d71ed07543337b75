"""Ranks that hang, ranks that only look like it, and second faults in the middle of a recovery: real clusters.

The kinds that nothing tells from a long evaluation are acted on at the stall floor; these trials lower it.
"""

from pathlib import Path
from typing import Any

import pytest

from ryzen_lab.scripts import instrumented_ddp

from .trials import STEPS, Trial, assert_blamed, assert_recovered, finish, left_for_good, start

FLOOR_S = "30"


def assert_nothing_was_done(result: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert (result["steps_lost"], result["generations"], result["false_actions"]) == (0, 1, 0), result
    assert_recovered(result, undisturbed)


def test_a_rank_in_a_collective_that_nobody_else_enters_is_named(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "deadlock")
    assert_blamed(result, "hang")
    assert result["verdict"]["action"] == "restart"
    assert_recovered(result, undisturbed)


def test_a_rank_that_skipped_a_sum_is_named_and_its_work_is_taken_back(
    trial: Trial, undisturbed: dict[str, Any]
) -> None:
    result = trial("--fault", "skip", "--at-step", "30")
    assert_blamed(result, "desync")
    assert result["verdict"]["action"] == "rollback"
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_a_rank_that_dies_when_another_node_has_ended_ends_the_job_with_a_failure(trial: Trial) -> None:
    result = trial("--fault", "kill@ending")
    assert_blamed(result, "exit")
    assert result["verdict"]["action"] == "stop"
    assert (result["exit_code"] != 0, result["generations"]) == (True, 1)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["backward", "loader", "save"])
def test_a_rank_whose_stack_does_not_move_is_named(trial: Trial, undisturbed: dict[str, Any], kind: str) -> None:
    result = trial("--fault", kind)
    assert_blamed(result, "hang")
    assert result["detected_s"] > 25, "a still stack is evidence only after a while"
    assert_recovered(result, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["spin", "gil"])
def test_a_busy_rank_is_acted_on_at_the_stall_floor(trial: Trial, undisturbed: dict[str, Any], kind: str) -> None:
    result = trial("--fault", kind, "--stall-floor-s", FLOOR_S)
    assert_blamed(result, "hang")
    assert result["stall_floor_s"] == float(FLOOR_S)
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_an_evaluation_that_nobody_named_is_left_alone(trial: Trial, undisturbed: dict[str, Any]) -> None:
    assert_nothing_was_done(trial("--fault", "pause", "--at-step", "40"), undisturbed)


@pytest.mark.long
def test_an_agent_that_is_cut_off_costs_nothing(trial: Trial, undisturbed: dict[str, Any]) -> None:
    assert_nothing_was_done(trial("--fault", "partition", "--at-step", "20"), undisturbed)


@pytest.mark.long
@pytest.mark.parametrize(
    "faults",
    [
        "kill,kill",
        "kill,stop",
        "kill,kill@rendezvous",
        "kill,kill@restoring",
        "kill,agent-kill@announced",
        "stop,coordinator-kill@announced",
    ],
)
def test_a_second_fault_in_the_middle_of_a_recovery_is_recovered_from(
    trial: Trial, undisturbed: dict[str, Any], faults: str
) -> None:
    result = trial("--fault", faults)
    assert result["fault"]["kind"] == faults
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_a_node_that_comes_back_in_the_past_is_parked(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "node-stop", "--fault-node", "node-0", "--spares", "1")
    assert result["verdict"]["class"] == "node_lost"
    assert result["world"] == ["node-2", "node-1"]
    assert_recovered(result, undisturbed)
    assert set(result["torchrun_exit_codes"].values()) == {0}


@pytest.mark.long
def test_a_script_with_checkpoints_of_its_own_takes_back_what_was_done_after_a_skipped_sum(trial: Trial) -> None:
    script = ("--script", instrumented_ddp.__file__)
    result = trial("--fault", "skip", "--at-step", "30", *script, after=("--", "--steps", "{steps}"))
    assert_blamed(result, "desync")
    assert result["digest_comparable"]
    assert result["state_digest"] == result["undisturbed_digest"]
    assert (result["final_step"], result["exit_code"], result["false_deaths"]) == (STEPS, 0, [])


@pytest.mark.long
def test_an_unpleasant_hour_in_a_minute_is_survived(short_path: Path) -> None:
    out = short_path / "out.json"
    options = ("--minutes", "1", "--evaluation-every-s", "15", "--evaluation-s", "8", "--json", str(out))
    result = finish(start(short_path, "soak", *options), short_path, out)
    assert (result["false_actions"], result["generations"]) == (0, 1), result
    assert result["evaluations"] >= 2


@pytest.mark.long
def test_a_coordinator_is_measured_with_agents_that_obey(short_path: Path) -> None:
    out = short_path / "benchmarks.md"
    bench = start(
        short_path, "bench", "coordinator", "--nodes", "16", "--seconds", "2", "--repeat", "1", "--out", str(out)
    )
    output, _ = bench.communicate(timeout=280)
    assert bench.returncode == 0, output
    assert "| 16 |" in out.read_text()
    assert left_for_good(short_path) == []
