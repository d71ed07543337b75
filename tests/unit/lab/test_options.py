"""Wrong options of the lab: one line, exit 2, and nothing is started."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ryzen_lab import faults
from ryzen_lab.cli import app
from ryzen_lab.cluster import clean_environment, listening_address
from ryzen_lab.comparison import ScriptPaths
from ryzen_lab.settings import TrialSettings, script_command
from ryzen_lab.trial import Trial

WRONG = {
    "unknown kind": (["--fault", "explode"], "'explode' is not a kind of fault"),
    "nothing and something": (["--fault", "none,kill"], "'none' stands alone"),
    "unknown moment": (["--fault", "kill,kill@noon"], "'noon' is not a moment"),
    "a moment of nothing": (["--fault", "kill@rendezvous"], "put one before it"),
    "no stall floor": (["--fault", "kill", "--stall-floor-s", "0"], "option --stall-floor-s"),
    "rank outside the world": (["--fault", "kill", "--fault-rank", "4"], "ranks are 0 to 3"),
    "unknown node": (["--fault", "node-kill", "--fault-node", "node-7"], "node-0, node-1"),
    "more than all nodes": (["--min-nodes", "3"], "more than --nodes 2"),
    "strike after the end": (["--at-step", "100", "--steps", "100"], "not before the end"),
    "unknown rendezvous": (["--rdzv", "etcd"], "option --rdzv"),
    "no nodes": (["--nodes", "0"], "option --nodes"),
    "no such Xid": (["--fault", "xid", "--xid", "seven"], "option --xid: 'seven'"),
    "no such place for a flip": (["--fault", "bitflip", "--flip", "thought"], "option --flip: 'thought'"),
    "a flip of what does not flip": (["--fault", "kill", "--flip", "weight"], "are for the kind 'bitflip'"),
    "never": (["--fault", "bitflip", "--flip-probability", "0"], "option --flip-probability"),
    "an Xid without an agent": (["--fault", "xid", "--bare", "--rdzv", "c10d"], "has no agent"),
    "bare ryzen": (["--bare"], "--rdzv c10d"),
    "no such script": (["--script", "/nowhere/train.py"], "/nowhere/train.py"),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_option_is_one_line_and_exit_2(arguments: list[str], expected: str) -> None:
    result = CliRunner().invoke(app, ["trial", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert expected in result.stderr


@pytest.mark.parametrize("option", ["--minutes", "--evaluation-every-s"])
def test_a_soak_of_no_length_is_one_line_and_exit_2(option: str) -> None:
    result = CliRunner().invoke(app, ["soak", option, "0"])
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    assert f"option {option}" in result.stderr


def test_every_kind_of_fault_is_listed_under_its_own_name() -> None:
    assert {name: kind.kind for name, kind in faults.KINDS.items()} == {name: name for name in faults.KINDS}


def test_two_kinds_are_given_with_a_comma() -> None:
    assert [each.kind for each in faults.parse("coordinator-kill, kill")] == ["coordinator-kill", "kill"]


def test_one_seed_is_one_moment() -> None:
    steps = {Trial(TrialSettings(fault="kill", seed=7)).at_step for _ in range(3)}
    others = {Trial(TrialSettings(fault="kill", seed=seed)).at_step for seed in range(20)}
    assert len(steps) == 1
    assert len(others) > 5


def test_the_number_of_steps_reaches_a_foreign_script_where_its_arguments_ask_for_it() -> None:
    settings = TrialSettings(script="train.py", steps=30, arguments=("--n", "{steps}"))
    assert script_command(settings)[1:] == ["--n", "30"]


def test_the_reference_trainer_is_told_steps_and_ranks() -> None:
    command = script_command(TrialSettings(steps=30, nodes=3, ranks_per_node=2))
    assert "training.steps=30" in command
    assert "distributed.processes=6" in command


def test_an_address_is_believed_only_when_its_line_is_whole() -> None:
    assert listening_address("starting\nlistening on 127.0.0.1:70") == ""
    assert listening_address("starting\nlistening on 127.0.0.1:7000\n") == "127.0.0.1:7000"


def test_settings_of_the_caller_do_not_reach_into_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYZEN_COORDINATOR", "elsewhere:7700")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("MY_DATA", "/data")
    environment = clean_environment()
    assert "RYZEN_COORDINATOR" not in environment
    assert "RANK" not in environment
    assert environment["MY_DATA"] == "/data"
    assert environment["PATH"] == os.environ["PATH"]


def test_what_a_script_made_at_a_path_in_its_arguments_is_removed_and_nothing_else(tmp_path: Path) -> None:
    mine, empty, free = tmp_path / "mine", tmp_path / "empty", tmp_path / "free.pt"
    mine.mkdir()
    (mine / "kept").write_text("data")
    empty.mkdir()
    paths = ScriptPaths((str(mine), f"--out={empty}", "--file", str(free), "relative"))
    (mine / "new").write_text("from the script")
    (empty / "checkpoint").mkdir()
    free.write_text("from the script")
    paths.free()
    assert sorted(each.name for each in mine.iterdir()) == ["kept", "new"]
    assert not list(empty.iterdir())
    assert not free.exists()
