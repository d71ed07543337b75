"""Each mistake is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from ryzen_protos import LOCAL_PROTOCOL

from .cluster import Coordinator, Node, Phase, running, wait_until, with_world


def test_an_unreachable_coordinator_is_one_line_and_the_agent_tries_on(node: Node, coordinator: Coordinator) -> None:
    port = coordinator.port
    coordinator.stop()
    agent = node.agent()
    wait_until(lambda: "cannot be reached" in node.errors(agent))
    line = next(each for each in node.errors(agent).splitlines() if "cannot be reached" in each)
    assert f"127.0.0.1:{port}" in line
    assert "training is not affected" in line
    coordinator.start()
    coordinator.wait(lambda update: update.HasField("hello"))
    assert node.errors(agent).count("cannot be reached") == 1


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "the join token is wrong"),
        (grpc.StatusCode.FAILED_PRECONDITION, "protocol 1 and protocol 2 differ: upgrade the agent"),
    ],
)
def test_a_refusal_at_the_first_contact_ends_the_agent_with_the_coordinators_words(
    node: Node, coordinator: Coordinator, code: grpc.StatusCode, details: str
) -> None:
    coordinator.refuse = (code, details)
    agent = node.agent()
    assert agent.wait(20) == 2
    assert node.errors(agent).splitlines()[-1] == f"ryzen-agent: coordinator 127.0.0.1:{coordinator.port}: {details}"


def test_the_token_goes_with_every_stream(tmp_path: Path) -> None:
    coordinator = Coordinator(token="secret")  # noqa: S106
    coordinator.start()
    node = Node(tmp_path, coordinator)
    try:
        (tmp_path / "token").write_text("secret\n")
        node.agent("--token-file", str(tmp_path / "token"))
        coordinator.wait(lambda update: update.hello.node == "node-t")
    finally:
        node.close()
        coordinator.close()


def test_a_second_agent_of_a_run_directory_is_refused_and_names_the_first(node: Node, coordinator: Coordinator) -> None:
    first = node.agent()
    coordinator.wait(lambda update: update.HasField("hello"))
    second = node.agent()
    assert second.wait(20) == 2
    assert f"an agent (pid {first.pid}) serves" in node.errors(second)
    assert first.poll() is None


def test_a_handler_of_another_version_is_told_which_side_is_older(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    torchrun = node.torchrun(FAKE_PROTOCOL=str(LOCAL_PROTOCOL + 1))
    assert torchrun.wait(20) == 2
    assert f"(protocol {LOCAL_PROTOCOL + 1})" in node.errors(torchrun)
    assert "upgrade the agent" in node.errors(torchrun)


def test_a_second_torchrun_of_the_same_job_on_one_node_is_refused(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    first = node.torchrun()
    coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    second = node.torchrun()
    assert second.wait(20) == 2
    assert f"has a torchrun on this node already (pid {first.pid})" in node.errors(second)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--coordinator", "nowhere"], "option --coordinator: 'nowhere' is not allowed"),
        (["--node", "a/b"], "option --node: "),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["preflihgt"], "unknown command 'preflihgt'"),
        (["--config", "/nonexistent.yaml"], "/nonexistent.yaml: No such file or directory"),
        (["--run-dir", "/dev/null"], "/dev/null"),
        (["run", "torchrun", "train.py"], "'--' is missing"),
        (["run", "--", "python", "train.py"], "there is no torchrun in 'python train.py'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(node: Node, arguments: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ryzen_agent.cli", *arguments],
        env=node.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_without_an_agent_says_what_to_do(node: Node) -> None:
    done = status(node)
    assert done.returncode == 1
    assert "no agent answers at" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_status_tells_people_and_tools_what_the_agent_sees(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=2, NO_PAGE="1")
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    assert "coordinator 127.0.0.1" in status(node).stdout
    coordinator.desire(with_world(job, 1))
    coordinator.wait_job(lambda job: len(job.ranks) == 2)
    text = status(node).stdout
    assert "job job" in text
    assert text.count("sends no progress") == 2
    found = json.loads(status(node, "--json").stdout)
    assert found["connected"]
    assert [each.get("local_rank", 0) for each in found["jobs"][0]["ranks"]] == [0, 1]


def test_a_file_that_is_no_beat_page_is_named_in_the_status(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    coordinator.wait(lambda update: update.HasField("hello"))
    (node.run_dir / "jobs" / "job").mkdir(parents=True)
    (node.run_dir / "jobs" / "job" / "rank-0.beat").write_bytes(b"no page")
    node.torchrun(ranks=1, NO_PAGE="1")
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    coordinator.desire(with_world(job, 1))
    coordinator.wait_job(lambda job: len(job.ranks) == 1)
    wait_until(lambda: "degraded: job job: " in status(node).stdout)
    assert "7 bytes, a beat page is a file of" in status(node).stdout


def status(node: Node, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ryzen_agent.cli", "status", *options],
        env=node.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_json_logs_are_one_object_a_line(node: Node, coordinator: Coordinator) -> None:
    agent = node.agent("--json-logs")
    node.torchrun(ranks=1)
    running(coordinator, ranks=1)
    for line in node.errors(agent).splitlines():
        assert {"time", "level", "message"} <= json.loads(line).keys()
