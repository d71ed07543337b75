"""`ryzen-agent run -- torchrun ...` with a stand-in for torchrun on PATH."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from .cluster import HERE, Coordinator, Node, Phase, records, running, wait_until, with_world


@pytest.fixture
def torchrun(tmp_path: Path) -> Path:
    """A command of that name that notes its arguments and then does what the fake torchrun does."""
    path = tmp_path / "bin" / "torchrun"
    path.parent.mkdir()
    fake = HERE / "fake_torchrun.py"
    notes = f'echo "$@" > {tmp_path}/arguments\necho $RYZEN_PRELOAD $RYZEN_WARM > {tmp_path}/worker\n'
    path.write_text(f"#!/bin/sh\n{notes}exec {sys.executable} {fake} job 1 {tmp_path}\n")
    path.chmod(0o755)
    return path


def supervise(node: Node, torchrun: Path, *flags: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    options = [*options, "--node", "node-t", "--coordinator", f"127.0.0.1:{node.coordinator.port}"]
    command = [sys.executable, "-m", "ryzen_agent.cli", "run", *options, "--", str(torchrun), *flags, "train.py"]
    return node.start(command)


def agent_pid(node: Node) -> int:
    return int((node.run_dir / "agent.lock").read_text())


def test_one_command_runs_both_and_ends_with_torchruns_exit_code(
    node: Node, coordinator: Coordinator, torchrun: Path
) -> None:
    supervisor = supervise(node, torchrun, "--nnodes=1:2")
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    assert (node.folder / "arguments").read_text().split() == [
        "--rdzv-backend=ryzen", "--max-restarts=1000", "--monitor-interval=0.05", "--nnodes=1:2", "train.py",
    ]  # fmt: skip
    coordinator.desire(with_world(job, 1))
    coordinator.wait_job(lambda job: any(each.attached for each in job.ranks))
    agent = agent_pid(node)
    node.tell("all", "0")
    assert supervisor.wait(20) == 0
    ended = coordinator.wait_job(lambda job: job.HasField("torchrun_exit_code"))
    assert ended.torchrun_exit_code == 0
    assert coordinator.wait(lambda update: update.HasField("goodbye"))
    with pytest.raises(ProcessLookupError):
        os.kill(agent, 0)


def test_an_agent_that_dies_is_started_again_and_torchrun_never_notices(
    node: Node, coordinator: Coordinator, torchrun: Path
) -> None:
    supervisor = supervise(node, torchrun)
    before = running(coordinator, ranks=1)
    first = agent_pid(node)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(coordinator.hellos) == 2)
    assert agent_pid(node) != first
    seen = len(coordinator.updates)
    again = coordinator.wait_job(lambda job: bool(job.ranks), after=seen)
    assert [each.pid for each in again.ranks] == [each.pid for each in before.ranks]
    assert supervisor.poll() is None


def test_signals_reach_torchrun_and_its_exit_code_comes_back(
    node: Node, coordinator: Coordinator, torchrun: Path
) -> None:
    supervisor = supervise(node, torchrun)
    coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    supervisor.terminate()
    assert supervisor.wait(20) == 15  # what the stand-in makes of SIGTERM


def test_a_killed_supervisor_leaves_torchrun_and_an_agent_that_goes_with_the_job(
    node: Node, coordinator: Coordinator, torchrun: Path
) -> None:
    supervisor = supervise(node, torchrun)
    running(coordinator, ranks=1)
    agent = agent_pid(node)
    supervisor.kill()
    supervisor.wait()
    seen = len(coordinator.updates)
    coordinator.wait_job(lambda job: any(each.step > 0 for each in records(job)), after=seen + 2)
    coordinator.stop()  # nobody is left to tell: no reason to stay for ever
    node.tell("all", "0")
    wait_until(lambda: not Path(f"/proc/{agent}").exists() or is_zombie(agent))


def is_zombie(pid: int) -> bool:
    return " Z " in Path(f"/proc/{pid}/stat").read_text()


def test_wrong_options_of_the_agent_end_the_command_with_its_line(
    node: Node, coordinator: Coordinator, torchrun: Path
) -> None:
    coordinator.refuse = (grpc.StatusCode.UNAUTHENTICATED, "the join token is wrong")
    supervisor = supervise(node, torchrun)
    assert supervisor.wait(20) == 2
    assert "the join token is wrong" in node.errors(supervisor)


def test_options_for_the_worker_reach_torchruns_environment(
    node: Node, coordinator: Coordinator, torchrun: Path
) -> None:
    file = node.folder / "agent.yaml"
    file.write_text("preload: [from.file]\nwarm: context\n")
    supervise(node, torchrun, options=["--config", str(file), "--preload", "mypkg.model, transformers"])
    coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    assert (node.folder / "worker").read_text().split() == ["mypkg.model,transformers", "context"]


def test_a_wrong_option_for_the_worker_starts_no_torchrun(node: Node, coordinator: Coordinator, torchrun: Path) -> None:
    supervisor = supervise(node, torchrun, options=["--preload", "a b"])
    assert supervisor.wait(20) == 2
    assert "option --preload: 'a b' is not allowed" in node.errors(supervisor)
    assert not (node.folder / "arguments").exists()
