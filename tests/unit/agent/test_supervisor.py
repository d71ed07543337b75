"""torchrun's command line, with what the user left out."""

from __future__ import annotations

import pytest

from ryzen_agent.supervisor import UsageError, split, with_missing_flags


def test_what_the_user_left_out_is_added_after_torchrun() -> None:
    assert with_missing_flags(["torchrun", "--nnodes=2", "train.py", "--max-restarts=1"])[:4] == [
        "torchrun", "--rdzv-backend=ryzen", "--monitor-interval=0.05", "--nnodes=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flag", [["--rdzv-backend=c10d"], ["--rdzv_backend=c10d"], ["--rdzv-backend", "c10d"], ["--rdzv_backend", "c10d"]]
)
def test_what_the_user_gave_stands(flag: list[str]) -> None:
    command = with_missing_flags(["torchrun", *flag, "train.py"])
    assert "--rdzv-backend=ryzen" not in command
    assert "--max-restarts=1000" in command


@pytest.mark.parametrize(
    "command",
    [
        ["/opt/venv/bin/torchrun", "train.py"],
        ["python", "-m", "torch.distributed.run", "train.py"],
        ["env", "A=1", "numactl", "-N", "0", "torchrun", "train.py"],
    ],
)
def test_torchrun_is_found_however_it_is_called(command: list[str]) -> None:
    assert with_missing_flags(command) == [
        *command[:-1], "--rdzv-backend=ryzen", "--max-restarts=1000", "--monitor-interval=0.05", "train.py",
    ]  # fmt: skip


def test_standalone_is_left_alone() -> None:
    command = ["torchrun", "--standalone", "train.py"]
    assert with_missing_flags(command) == command


@pytest.mark.parametrize("command", [[], ["python", "train.py"]])
def test_a_command_without_torchrun_is_one_line(command: list[str]) -> None:
    with pytest.raises(UsageError, match="there is no torchrun in"):
        with_missing_flags(command)


def test_options_of_the_agent_stand_before_the_dashes() -> None:
    assert split(["--node", "a", "--", "torchrun", "--", "x"]) == (["--node", "a"], ["torchrun", "--", "x"])
    with pytest.raises(UsageError, match="'--' is missing"):
        split(["torchrun", "train.py"])
