"""Where `ryzen-agent run` puts the worker into torchrun's command line, and where it keeps away."""

from __future__ import annotations

from pathlib import Path

import pytest

from ryzen_agent.supervisor import torchrun_at
from ryzen_agent.warm import with_worker


def program(path: Path, interpreter: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{interpreter}\n# -*- coding: utf-8 -*-\n")
    path.chmod(0o755)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """The programs of one environment, all of one interpreter."""
    for name in ("python", "torchrun", "ryzen-worker"):
        program(tmp_path / "bin" / name, f"{tmp_path}/bin/python")
    return tmp_path / "bin"


def warmed(command: list[str]) -> list[str]:
    return with_worker(command, torchrun_at(command))


def test_a_script_is_started_by_the_worker(venv: Path) -> None:
    torchrun, worker = f"{venv}/torchrun", f"{venv}/ryzen-worker"
    options = ["--nnodes=2", "--nproc_per_node", "8", "-t", "3", "--virtual-local-rank"]
    assert warmed([torchrun, *options, "train.py", "-m", "--x"]) == [
        torchrun, *options, "--no-python", worker, "train.py", "-m", "--x",
    ]  # fmt: skip


@pytest.mark.parametrize("flag", ["-m", "--module"])
def test_a_module_stays_a_module(venv: Path, flag: str) -> None:
    torchrun, worker = f"{venv}/torchrun", f"{venv}/ryzen-worker"
    assert warmed([torchrun, "--nnodes=2", flag, "my.train", "--x"]) == [
        torchrun, "--nnodes=2", "--no-python", worker, "-m", "my.train", "--x",
    ]  # fmt: skip


def test_torchrun_as_a_module_of_the_same_interpreter_works_too(venv: Path) -> None:
    command = [f"{venv}/python", "-m", "torch.distributed.run", "train.py"]
    assert warmed(command)[3:] == ["--no-python", f"{venv}/ryzen-worker", "train.py"]


@pytest.mark.parametrize(
    "words",
    [
        ["--no-python", "train.py"],
        ["--no_python", "./run.sh"],
        ["--run-path", "train.py"],
        ["./train.sh"],
        ["--help"],
        [],
    ],
)
def test_what_is_no_plain_script_is_left_alone(venv: Path, words: list[str]) -> None:
    command = [f"{venv}/torchrun", "--nnodes=2", *words]
    assert warmed(command) == command


def test_the_worker_of_another_interpreter_is_not_taken(venv: Path) -> None:
    program(venv / "ryzen-worker", "/usr/bin/python3")
    command = [f"{venv}/torchrun", "train.py"]
    assert warmed(command) == command


def test_the_same_interpreter_is_known_whichever_pip_has_written_the_programs(venv: Path) -> None:
    (venv / "ryzen-worker").write_text(f"#!{venv}/python\nimport sys\n")
    command = [f"{venv}/torchrun", "train.py"]
    assert warmed(command) == [command[0], "--no-python", f"{venv}/ryzen-worker", "train.py"]


def test_a_long_path_in_a_shells_words_is_compared_too(venv: Path) -> None:
    command = [f"{venv}/torchrun", "train.py"]
    for name, path in (("torchrun", "/long/python"), ("ryzen-worker", "/other/python")):
        (venv / name).write_text(f"#!/bin/sh\n'''exec' {path} \"$0\" \"$@\"\n")
    assert warmed(command) == command


def test_without_a_worker_nothing_changes(venv: Path) -> None:
    (venv / "ryzen-worker").unlink()
    command = [f"{venv}/torchrun", "train.py"]
    assert warmed(command) == command


def test_options_that_torchrun_reads_from_the_environment_count(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PET_NO_PYTHON", "1")
    command = [f"{venv}/torchrun", "train.py"]
    assert warmed(command) == command
