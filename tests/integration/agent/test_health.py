"""A real agent with the real bindings on the mock GPU driver, and a kernel log that is a file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ryzen_lab import mock_nvml
from ryzen_protos.v1 import node_pb2

from .cluster import Coordinator, Node, running


@pytest.fixture
def driver(tmp_path: Path) -> mock_nvml.Faults:
    """Two GPUs, for agents that look for a driver here."""
    folder = tmp_path / "driver"
    mock_nvml.build(folder)
    faults = mock_nvml.Faults(folder)
    faults.driver(count=2)
    return faults


def agent(node: Node, *options: str) -> subprocess.Popen[str]:
    """With a kernel log of its own, and the driver where there is one."""
    log = node.folder / "kernel.log"
    log.touch()
    node.environ["LD_LIBRARY_PATH"] = str(node.folder / "driver")
    return node.agent("--kmsg-path", str(log), "--gpu-interval-s", "0.2", *options)


def conditions(update: node_pb2.NodeUpdate, name: str) -> list[node_pb2.HealthCondition]:
    return [each for each in update.conditions.all if each.name == name]


def status(node: Node, *options: str) -> str:
    command = [sys.executable, "-m", "ryzen_agent.cli", "status", *options]
    return subprocess.run(command, env=node.environ, capture_output=True, text=True, check=True).stdout


def test_a_gpu_that_is_lost_is_a_condition_with_its_rank_and_passes_when_it_is_back(
    node: Node, coordinator: Coordinator, driver: mock_nvml.Faults
) -> None:
    agent(node)
    node.torchrun()
    job = running(coordinator)
    for rank in job.ranks:
        driver.gpu(rank.local_rank, pid=rank.pid)
    time.sleep(0.5)  # a look or two, so that it is known who computes where
    driver.gpu(1, error=15)
    lost = conditions(coordinator.wait(lambda update: bool(conditions(update, "gpu.lost"))), "gpu.lost")[0]
    assert (lost.device, lost.severity, list(lost.ranks), lost.run_id) == (driver.uuid(1), "critical", [1], "job")
    assert "gpu.lost" in status(node)
    at = len(coordinator.updates)
    driver.healthy()
    coordinator.wait(lambda update: update.HasField("conditions") and not conditions(update, "gpu.lost"), after=at)


def test_conditions_go_with_each_hello_and_else_only_when_they_are_news(
    node: Node, coordinator: Coordinator, driver: mock_nvml.Faults
) -> None:
    driver.gpu(0, error=15)
    agent(node)
    coordinator.wait(lambda update: bool(conditions(update, "gpu.lost")))
    at = len(coordinator.updates)
    coordinator.wait(lambda update: update.seq > coordinator.updates[at - 1].seq + 2, after=at)
    assert not [each for each in coordinator.updates[at:] if conditions(each, "gpu.lost")]
    coordinator.stop()
    coordinator.start()
    again = coordinator.wait(lambda update: update.HasField("hello"), after=at)
    assert conditions(again, "gpu.lost")


def test_a_driver_that_hangs_leaves_the_agent_alive_and_degraded_with_its_other_collectors(
    node: Node, coordinator: Coordinator, driver: mock_nvml.Faults
) -> None:
    started = agent(node)
    node.torchrun()
    running(coordinator)
    driver.gpu(0, hang=1)
    stalled = coordinator.wait(lambda update: bool(conditions(update, "collector.stalled")))
    assert "gpu" in [each.device for each in conditions(stalled, "collector.stalled")]
    assert "degraded: collector gpu has not answered for" in status(node)
    at = len(coordinator.updates)
    node.tell(0, "3")  # an exit code: the agent sees a rank end as ever
    coordinator.wait_job(lambda job: any(rank.exit_code == 3 for rank in job.ranks), after=at)
    began_s = time.monotonic()
    started.send_signal(signal.SIGTERM)
    assert started.wait(10) == 0
    assert time.monotonic() - began_s < 5


def test_health_that_is_switched_off_looks_at_nothing(
    node: Node, coordinator: Coordinator, driver: mock_nvml.Faults
) -> None:
    driver.gpu(0, error=15)
    started = agent(node, "--no-health")
    coordinator.wait(lambda update: update.seq > 3)
    assert not [each for each in coordinator.updates if each.conditions.all]
    names = [path.read_text().strip() for path in Path(f"/proc/{started.pid}/task").glob("*/comm")]
    assert not [each for each in names if each.startswith("health")]


def test_a_collector_that_nobody_knows_is_one_line(node: Node) -> None:
    started = agent(node, "--health-without", "gqu")
    assert started.wait(20) == 2
    (line,) = node.errors(started).splitlines()
    assert line.startswith("ryzen-agent: option --health-without: 'gqu' is not allowed: checkpoint, clock, gpu")
