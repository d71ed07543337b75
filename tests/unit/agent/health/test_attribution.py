"""Whose a process or a GPU is: a rank's, nobody's that is watched, or not known; and what follows from our own kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_agent import procfs
from ryzen_agent.health.attribution import CLEANUP_S, FOREIGN, KILLED_S, UNKNOWN, Attribution, Owner
from ryzen_agent.health.model import Action, Event
from ryzen_agent.job import Hooks, Job
from ryzen_agent.rank import Rank
from ryzen_agent.ranks import FoundRank, RankIdentity

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
PARENT = [sys.executable, "-c", f"import subprocess; print(subprocess.Popen({SLEEP!r}).pid, flush=True); input()"]
DETACHED = "import os, subprocess, sys; print(subprocess.Popen({!r}, start_new_session=True).pid, flush=True)"
GPU = "GPU-0000"


class Node:
    """A job whose ranks are real processes."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.job = Job("job", "me", os.getuid(), folder, self.loop, Hooks(lambda _: None, lambda *_: None))
        self.devices: dict[int, str] = {}
        self.jobs = [self.job]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.attribution = Attribution(self.jobs, folder, lambda rank: self.devices.get(rank.pid, ""))

    def start(self, command: list[str], **environ: str) -> tuple[int, int]:
        """A process in a session of its own; its pid and the first word that it says."""
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        words = process.stdout.readline().split()
        return process.pid, int(words[0]) if words else 0

    def rank(self, number: int, command: list[str] = SLEEP) -> tuple[Rank, int]:
        pid, said = self.start(command, TORCHELASTIC_RUN_ID="job", RANK=str(number))
        found = FoundRank(RankIdentity("job", 1, number, number), pid, procfs.read_stat(pid).start_ticks)
        rank = self.job.add(found, time.monotonic())
        assert rank is not None
        return rank, said

    def owner(self, pid: int | None, device: str = "", action: Action = "restart_app", ago_s: float = 0.0) -> Owner:
        return self.attribution.of_event(xid(31, pid, device, action, ago_s))

    def close(self) -> None:
        self.job.close()
        for each in self.processes:
            if each.returncode is None:  # not yet reaped: the group is still its own
                os.killpg(each.pid, signal.SIGKILL)  # what it has started holds its pipes open
            each.communicate()
        self.loop.close()


def xid(code: int, pid: int | None, device: str = "", action: Action = "restart_app", ago_s: float = 0.0) -> Event:
    return Event("xid", "", time.time() - ago_s, code, device, action=action, pid=pid)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def test_a_rank_and_what_it_has_started_are_the_ranks(node: Node) -> None:
    rank, child = node.rank(3, PARENT)
    assert node.owner(rank.pid) == Owner("job", (3,))
    assert node.owner(child) == Owner("job", (3,))


def test_a_child_that_has_left_group_and_parent_is_known_by_its_environment(node: Node) -> None:
    node.rank(3)
    started, detached = node.start([sys.executable, "-c", DETACHED.format(SLEEP)], TORCHELASTIC_RUN_ID="job", RANK="3")
    node.processes[-1].wait()
    assert started != detached
    try:
        assert node.owner(detached) == Owner("job", (3,))
    finally:
        os.kill(detached, 9)


def test_a_process_of_nobody_who_is_watched_is_foreign_and_one_that_is_gone_is_not_known(node: Node) -> None:
    node.rank(0)
    stranger, _ = node.start(SLEEP)
    assert node.owner(stranger) == FOREIGN
    node.processes[-1].kill()
    node.processes[-1].wait()
    assert node.owner(stranger) == UNKNOWN


def test_torchrun_is_the_jobs_and_no_ranks(node: Node) -> None:
    node.job.torchrun_pid, _ = node.start(SLEEP)
    assert node.owner(node.job.torchrun_pid) == Owner("job")


def test_a_process_that_began_after_it_happened_has_only_the_pid_in_common(node: Node) -> None:
    rank, _ = node.rank(0)
    stranger, _ = node.start(SLEEP)
    assert node.owner(rank.pid, ago_s=60) == UNKNOWN
    assert node.owner(stranger, ago_s=60) == UNKNOWN


def test_an_agent_that_counts_pids_differently_learns_nothing_from_them(node: Node) -> None:
    rank, _ = node.rank(0)
    elsewhere = Attribution(node.jobs, Path("/dev/null"), lambda _: "")
    elsewhere._pids_are_ours = False
    assert elsewhere.of_event(xid(31, rank.pid)) == UNKNOWN
    assert node.attribution.of_event(xid(31, rank.pid)) == Owner("job", (0,))


def test_without_a_process_it_is_the_ranks_of_the_device(node: Node) -> None:
    for number in range(2):
        rank, _ = node.rank(number)
        node.devices[rank.pid] = f"GPU-{number:04}"
    assert node.owner(None, "GPU-0001") == Owner("job", (1,))
    assert node.owner(None, "GPU-0007") == FOREIGN
    assert node.owner(None, "mlx5_0/1") == UNKNOWN


def test_a_device_is_nobodys_only_where_every_ranks_device_is_known(node: Node) -> None:
    assert node.owner(None, GPU) == UNKNOWN, "a node without ranks is a spare: its GPUs matter"
    for number in range(2):
        rank, _ = node.rank(number)
    node.devices[rank.pid] = "GPU-0001"
    assert node.owner(None, GPU) == UNKNOWN


def test_a_broken_device_is_its_ranks_trouble_whoever_used_it_last(node: Node) -> None:
    rank, _ = node.rank(0)
    stranger, _ = node.start(SLEEP)
    assert node.owner(stranger, GPU, "reboot") == UNKNOWN, "a foreign process does not make the device foreign"
    node.devices[rank.pid] = GPU
    assert node.owner(stranger, GPU, "reboot") == Owner("job", (0,))
    assert node.owner(stranger, GPU, "restart_app") == FOREIGN


def is_ours(node: Node, event: Event, after_s: float = 0.0) -> bool:
    return node.attribution.is_ours(event, node.attribution.of_event(event), time.monotonic() + after_s)


def test_what_the_driver_says_of_a_process_that_we_have_killed_is_ours_for_a_while(node: Node) -> None:
    rank, _ = node.rank(0)
    assert not is_ours(node, xid(31, rank.pid))
    node.attribution.killed(rank, time.monotonic())
    assert is_ours(node, xid(31, rank.pid))
    assert not is_ours(node, xid(31, rank.pid), after_s=KILLED_S + 1)


def test_a_cleanup_soon_after_a_kill_is_ours_whomever_it_names_but_not_a_strangers(node: Node) -> None:
    rank, _ = node.rank(0)
    stranger, _ = node.start(SLEEP)
    node.attribution.killed(rank, time.monotonic())
    assert is_ours(node, xid(45, None))
    assert not is_ours(node, xid(45, stranger))
    assert not is_ours(node, xid(31, None))
    assert not is_ours(node, xid(45, None), after_s=CLEANUP_S + 1)


def test_a_gpu_that_falls_off_the_bus_after_our_kill_is_not_our_doing(node: Node) -> None:
    rank, _ = node.rank(0)
    node.attribution.killed(rank, time.monotonic())
    assert not is_ours(node, xid(79, rank.pid, GPU, "reboot"))
