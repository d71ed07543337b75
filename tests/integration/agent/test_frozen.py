"""Which ranks count as frozen: real torch processes that hang for good, and others that only seem to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ryzen_agent.probe import Probe, Target
from ryzen_protos import run_dir
from ryzen_protos.beat_records import process_start_ticks
from ryzen_protos.v1 import node_pb2

from .cluster import PATIENCE_S, Coordinator, Node, running, wait_until
from .test_evidence import ask, hanging, probed, stack_of

SPIN = "void spin(void) { volatile long x = 0; for (;;) x++; }"


@pytest.fixture(scope="session")
def spin_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spin")
    (folder / "spin.c").write_text(SPIN)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / "spin.so"), str(folder / "spin.c")], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler here")
    return folder / "spin.so"


def never_frozen(coordinator: Coordinator, after: int, rank: int, looks: int) -> node_pb2.ObservedJob:
    """After so many looks: no two in a row have shown the same for long."""
    seen = probed(coordinator, after, lambda job: job.ranks[rank].probe.samples >= looks)
    frozen = [
        job.ranks[rank].probe.frozen_s
        for update in coordinator.updates[after:]
        for job in update.jobs
        if len(job.ranks) > rank
    ]
    assert max(frozen) < looks / 2, f"frozen for {frozen}"
    return seen


@pytest.mark.parametrize("hang", ["lock", "gil", "hook"])
def test_a_rank_that_hangs_for_good_is_frozen_and_its_peer_waits(
    node: Node, coordinator: Coordinator, hang: str
) -> None:
    job = hanging(node, coordinator, hang)
    after = ask(coordinator, job)
    seen = probed(coordinator, after, lambda job: all(each.probe.frozen_s > 3 for each in job.ranks))
    culprit, peer = (each.probe for each in seen.ranks)
    assert (culprit.in_collective, peer.in_collective) == (False, True)
    assert culprit.stack != peer.stack
    assert culprit.recorder, "the recorder answers though the interpreter's lock is held"
    assert not culprit.busy
    assert "hanging_rank.py" in stack_of(coordinator, seen, 0).splitlines()[0]


def test_c_code_that_spins_with_the_lock_is_frozen_and_busy(
    node: Node, coordinator: Coordinator, spin_library: Path
) -> None:
    job = hanging(node, coordinator, "spin", SPIN_LIBRARY=str(spin_library))
    after = ask(coordinator, job)
    seen = probed(coordinator, after, lambda job: job.ranks[0].probe.frozen_s > 3)
    assert seen.ranks[0].probe.busy
    assert not seen.ranks[1].probe.busy


@pytest.mark.long
def test_a_stuck_data_loader_worker_freezes_its_rank_though_both_poll(node: Node, coordinator: Coordinator) -> None:
    job = hanging(node, coordinator, "loader")
    after = ask(coordinator, job)
    probed(coordinator, after, lambda job: job.ranks[0].probe.frozen_s > 12)


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "work", ["evaluation", "poll", "save", pytest.param("json", marks=LONG), pytest.param("child", marks=LONG)]
)
def test_a_rank_that_only_seems_to_hang_is_not_frozen(node: Node, coordinator: Coordinator, work: str) -> None:
    job = hanging(node, coordinator, work)
    seen = never_frozen(coordinator, ask(coordinator, job), rank=0, looks=8)
    assert not seen.ranks[0].probe.in_collective


def test_without_the_right_to_read_memory_the_rank_writes_its_stack_itself(
    node: Node, coordinator: Coordinator
) -> None:
    job = hanging(node, coordinator, "hook")
    probes = [Probe(target(node, job, rank), py_spy=None) for rank in (0, 1)]

    async def look(times: int) -> None:
        for _ in range(times):
            await asyncio.gather(*(each.look() for each in probes))
            await asyncio.sleep(0.3)

    asyncio.run(look(4))
    culprit, peer = probes
    assert culprit.stack is not None
    assert peer.stack is not None
    assert "hanging_rank.py" in culprit.stack.text.splitlines()[0]
    assert "_engine_run_backward" in peer.stack.text.splitlines()[0]
    assert (culprit.in_collective, peer.in_collective) == (False, True)
    assert min(each.frozen_s for each in probes) > 0.5, "asking by signal is no sign of life"


def target(node: Node, job: node_pb2.ObservedJob, rank: int) -> Target:
    pid = job.ranks[rank].pid
    place = (node.run_dir, job.run_id, rank)
    start_ticks = process_start_ticks(pid)
    files = run_dir.worker_socket(*place), run_dir.stack_file(*place), run_dir.groups_file(*place)
    return Target(pid, start_ticks, os.getuid(), *files)


def test_a_rank_without_a_handler_is_sent_no_signal(node: Node, coordinator: Coordinator) -> None:
    """The fake rank has no torch and no `attach()`; py-spy still shows where it is."""
    node.agent()
    node.torchrun()
    job = running(coordinator)
    node.tell("all", "freeze")
    seen = probed(coordinator, ask(coordinator, job), lambda job: all(each.probe.samples > 3 for each in job.ranks))
    assert not any(each.probe.recorder for each in seen.ranks)
    assert all(each.life == node_pb2.ObservedRank.ALIVE for each in seen.ranks)


def test_a_stopped_rank_is_probed_and_pages_are_read_meanwhile(node: Node, coordinator: Coordinator) -> None:
    job = hanging(node, coordinator, "sleep")
    after = ask(coordinator, job)
    os.kill(job.ranks[0].pid, signal.SIGSTOP)
    seen = probed(coordinator, after, lambda job: job.ranks[0].process_state == "T" and job.ranks[0].probe.samples > 2)
    assert seen.ranks[0].process_state_s < PATIENCE_S


def test_an_agent_that_leaves_in_the_middle_of_a_look_leaves_nothing_behind(
    node: Node, coordinator: Coordinator
) -> None:
    job = hanging(node, coordinator, "sleep")
    probed(coordinator, ask(coordinator, job))
    agent = node.processes[0]
    agent.terminate()
    assert agent.wait(PATIENCE_S) in (0, 143)
    time.sleep(0.1)
    wait_until(lambda: not [each for each in Path("/proc").glob("[0-9]*/cmdline") if _probes(each, job)])


def _probes(path: Path, job: node_pb2.ObservedJob) -> bool:
    try:
        words = path.read_bytes().split(b"\0")
    except OSError:
        return False
    return b"dump" in words and any(str(rank.pid).encode() in words for rank in job.ranks)
