"""Real clusters on loopback: a coordinator, agents, torchruns, a fault. Each trial takes 15 to 40 seconds.

Every trial here is the command that a user types, in a process of its own with a temporary folder of its own, by
which all that it leaves behind would be found.
"""

import time
from pathlib import Path
from typing import Any

import pytest

from ryzen_lab.scripts import plain_ddp

from .trials import STEPS, Trial, assert_blamed, assert_recovered, finish, left_behind, left_for_good, start


def test_a_run_that_is_left_alone_is_left_alone(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["verdict"] is None
    assert undisturbed["generations"] == 1
    assert undisturbed["false_deaths"] == []
    assert undisturbed["exit_code"] == 0


def test_a_frozen_rank_is_named_and_training_ends_with_the_same_bits(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "stop")
    assert_blamed(result, "hang")
    assert_recovered(result, undisturbed)
    assert result["generations"] == 2


def test_a_rank_killed_while_the_coordinator_is_down_is_recovered_once_it_is_back(
    trial: Trial, undisturbed: dict[str, Any]
) -> None:
    result = trial("--fault", "coordinator-kill,kill")
    assert result["fault"]["kind"] == "coordinator-kill,kill"
    assert_blamed(result, "exit")
    assert_recovered(result, undisturbed)


def test_the_death_of_an_agent_costs_no_step_and_no_generation(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "agent-kill", "--at-step", "20")
    assert_recovered(result, undisturbed)
    assert (result["steps_lost"], result["generations"]) == (0, 1)


def test_a_spare_takes_the_group_rank_of_a_lost_node(trial: Trial, undisturbed: dict[str, Any]) -> None:
    result = trial("--fault", "node-kill", "--fault-node", "node-0", "--spares", "1")
    assert result["verdict"]["class"] == "node_lost"
    assert result["world"] == ["node-2", "node-1"]
    assert result["evicted"] == ["node-0"]
    assert_recovered(result, undisturbed)
    assert {result["torchrun_exit_codes"][node] for node in ("node-1", "node-2")} == {0}


def test_a_script_that_knows_nothing_of_ryzen_survives_a_crash(trial: Trial) -> None:
    script = ("--script", plain_ddp.__file__, "--no-compare")
    result = trial("--fault", "kill", *script, after=("--", "--steps", "{steps}"))
    assert_blamed(result, "exit")
    assert (result["final_step"], result["exit_code"], result["generations"]) == (STEPS, 0, 2)
    assert result["false_deaths"] == []
    assert result["digest_comparable"] is None


def test_a_lab_killed_in_the_middle_leaves_nothing_behind(short_path: Path) -> None:
    lab = start(short_path, "trial", "--steps", "5000")
    deadline = time.monotonic() + 120
    while not list(short_path.glob("ryzen-lab-*/n1/run/jobs/*/*.beat")):
        assert time.monotonic() < deadline, "no rank has started"
        time.sleep(0.05)
    assert len(left_behind(short_path)) > 8
    lab.kill()
    lab.communicate()
    while left_behind(short_path):
        assert time.monotonic() < deadline, left_behind(short_path)
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "fault_class"), [("kill", "exit"), ("exit", "exit"), ("stop", "hang")])
def test_a_rank_that_is_struck_at_any_moment_is_named(
    trial: Trial, undisturbed: dict[str, Any], kind: str, fault_class: str, seed: int
) -> None:
    result = trial("--fault", kind, "--seed", str(seed))
    assert_blamed(result, fault_class)
    assert_recovered(result, undisturbed)


@pytest.mark.long
def test_the_death_of_the_coordinator_costs_no_step_and_no_generation(
    trial: Trial, undisturbed: dict[str, Any]
) -> None:
    result = trial("--fault", "coordinator-kill")
    assert_recovered(result, undisturbed)
    assert (result["steps_lost"], result["generations"]) == (0, 1)


@pytest.mark.long
def test_a_job_shrinks_to_one_node_and_takes_the_other_back(trial: Trial) -> None:
    result = trial("--fault", "node-kill", "--min-nodes", "1", "--return-after", "3", steps=500)
    assert result["verdict"]["class"] == "node_lost"
    assert (result["generations"], sorted(result["world"])) == (3, ["node-0", "node-1"])
    assert (result["final_step"], result["exit_code"], result["false_deaths"]) == (500, 0, [])
    assert not result["digest_comparable"]


@pytest.mark.long
def test_two_labs_side_by_side_do_not_see_each_other(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    labs = []
    for folder in folders:
        folder.mkdir()
        options = ("--fault", "kill", "--steps", str(STEPS), "--json", str(folder / "out.json"))
        labs.append(start(folder, "trial", *options))
    for lab, folder in zip(labs, folders, strict=True):
        assert_recovered(finish(lab, folder, folder / "out.json"), undisturbed)


@pytest.mark.long
def test_stock_torchrun_is_measured_by_the_same_means(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # else it may never come back at all
    result = trial("--fault", "kill", "--rdzv", "c10d")
    assert result["generations"] >= 2
    assert result["recovered_s"] > 0
    assert result["exit_code"] == 0


@pytest.mark.long
def test_a_job_that_has_not_recovered_in_time_is_a_result_that_says_so(trial: Trial) -> None:
    result = trial("--fault", "stop", "--rdzv", "c10d", "--bare", "--patience-s", "3")
    assert result["recovered_s"] is None
    assert not result["finished"]
    assert set(result["torchrun_exit_codes"].values()) == {None}


@pytest.mark.long
def test_the_demonstration_ends_with_equal_bits(tmp_path: Path) -> None:
    demo = start(tmp_path, "demo")
    output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output
    assert "equal bit for bit" in output
    assert left_for_good(tmp_path) == []
