"""A real agent with the real bindings on the mock GPU driver, and a kernel log that is a file."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ryzen_lab import mock_nvml
from ryzen_protos.v1 import node_pb2

from .cluster import Coordinator, Node, desired, running, wait_until


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


def says(node: Node, message: str) -> None:
    """One record of the kernel log, as the device gives it."""
    with (node.folder / "kernel.log").open("a") as log:
        log.write(f"4,{log.tell()},{time.monotonic_ns() // 1000},-;{message}\n")


def xid(code: int, words: str = "GPU has fallen off the bus.", gpu: int = 0) -> str:
    return f"NVRM: Xid (PCI:{mock_nvml.Faults.pci(gpu)}): {code}, {words}"


def health(update: node_pb2.NodeUpdate, code: int) -> list[node_pb2.NodeEvent]:
    return [each for each in update.events if each.kind == "health" and each.health.code == code]


def told(coordinator: Coordinator, code: int, after: int = 0) -> node_pb2.NodeEvent:
    """The first event of that Xid."""
    return health(coordinator.wait(lambda update: bool(health(update, code)), after), code)[0]


def ids(coordinator: Coordinator, code: int) -> list[int]:
    return [each.id for update in coordinator.updates for each in health(update, code)]


def conditions(update: node_pb2.NodeUpdate, name: str) -> list[node_pb2.HealthCondition]:
    return [each for each in update.conditions.all if each.name == name]


def read_to(node: Node) -> int:
    """How far into its kernel log the agent will not look again."""
    place = node.run_dir / "kernel_log.json"
    return int(json.loads(place.read_text())["offset"]) if place.exists() else 0


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


def test_a_line_of_the_kernel_log_is_an_event_that_names_the_rank_of_its_process(
    node: Node, coordinator: Coordinator
) -> None:
    agent(node)
    node.torchrun()
    job = running(coordinator)
    says(node, xid(31, f"pid={job.ranks[1].pid}, name=python3, Ch 00000008, intr 00000000. MMU Fault"))
    event = told(coordinator, 31)
    assert (event.run_id, list(event.health.ranks)) == ("job", [job.ranks[1].rank])
    assert (event.health.action, event.health.pci) == ("restart_app_then_repeat", mock_nvml.Faults.pci(0))
    assert abs(event.unix_ns / 1e9 - time.time()) < 20
    says(node, xid(32, f"pid={os.getpid()}, name=python3, Ch 00000008"))
    assert told(coordinator, 32).health.foreign


def test_one_xid_that_the_kernel_log_and_the_driver_tell_is_one_event_with_the_gpus_name(
    node: Node, coordinator: Coordinator, driver: mock_nvml.Faults
) -> None:
    agent(node)
    coordinator.wait(lambda update: update.seq > 2)
    driver.xid(1, 48)  # the driver alone: once this one is here both sources are read
    told(coordinator, 48)
    driver.xid(1, 79)
    says(node, xid(79, gpu=1))
    event = told(coordinator, 79)
    assert (event.health.device, event.health.action) == (driver.uuid(1), "reboot")
    driver.xid(0, 62)
    told(coordinator, 62)
    assert len(set(ids(coordinator, 79))) == 1


def test_what_the_driver_cleans_up_after_our_kill_is_ours(node: Node, coordinator: Coordinator) -> None:
    agent(node)
    node.torchrun()
    job = running(coordinator)
    coordinator.desire(desired(job, 2, go=True))
    ended = coordinator.wait_job(lambda job: any(rank.killed_by_agent for rank in job.ranks))
    victim = next(rank for rank in ended.ranks if rank.killed_by_agent)
    says(node, xid(45, f"pid={victim.pid}, name=python3, Ch 00000010"))
    assert told(coordinator, 45).health.ours
    says(node, xid(79))
    assert not told(coordinator, 79).health.ours


def test_what_happens_while_the_coordinator_is_away_and_the_agent_restarts_is_told_once(
    node: Node, coordinator: Coordinator
) -> None:
    first = agent(node)
    coordinator.wait(lambda update: update.HasField("hello"))
    says(node, xid(94))
    seen = told(coordinator, 94)
    coordinator.desire(acked=seen.id)
    coordinator.stop()
    says(node, xid(79))
    wait_until(lambda: "1 events wait" in status(node) and read_to(node) == (node.folder / "kernel.log").stat().st_size)
    first.kill()
    first.wait()
    says(node, xid(95))
    at = len(coordinator.updates)
    coordinator.start()
    agent(node)
    kept, missed = told(coordinator, 79, after=at), told(coordinator, 95, after=at)
    assert kept.id < missed.id
    coordinator.desire(acked=missed.id)
    coordinator.wait(lambda update: update.applied_version == coordinator.state.version and not update.events, at)
    assert len(set(ids(coordinator, 79))) == len(set(ids(coordinator, 95))) == 1
    assert set(ids(coordinator, 94)) == {seen.id}, "it may be sent again, under its id"


def test_conditions_go_with_each_hello_and_else_only_when_they_are_news(
    node: Node, coordinator: Coordinator, driver: mock_nvml.Faults
) -> None:
    driver.gpu(0, error=15)
    agent(node)
    coordinator.wait(lambda update: bool(conditions(update, "gpu.lost")))
    at = len(coordinator.updates)
    coordinator.wait(lambda update: update.seq > coordinator.updates[at - 1].seq + 2, after=at)
    told = [
        sorted((each.name, each.device, each.message) for each in update.conditions.all)
        for update in coordinator.updates
        if update.HasField("conditions")
    ]
    assert all(one != next_one for one, next_one in itertools.pairwise(told)), "the same again is no news"
    assert len(told) < len(coordinator.updates)
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
    assert line.startswith("ryzen-agent: option --health-without: 'gqu' is not allowed: amd_gpu, checkpoint, ")
