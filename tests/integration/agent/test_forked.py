"""Ranks that a nursery has forked, behind stubs: seen, stopped and killed as any others."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ryzen_protos import run_dir

from .cluster import Coordinator, Node, Phase, Rank, desired, running, wait_until, with_world


def rank_pid(node: Node, rank: int, generation: int = 1) -> int:
    """As the rank itself says it."""
    return int((node.folder / f"pid-{generation}-{rank}").read_text())


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_stopped_rank_is_seen_though_its_stub_is_not(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(WARM="1")
    job = running(coordinator)
    assert {each.pid for each in job.ranks}.isdisjoint({rank_pid(node, 0), rank_pid(node, 1)})
    os.kill(rank_pid(node, 1), signal.SIGSTOP)
    seen = coordinator.wait_job(lambda job: any(each.process_state == "T" for each in job.ranks))
    assert [each.rank for each in seen.ranks if each.process_state == "T"] == [1]


def test_a_killed_rank_is_told_with_its_signal_and_the_agent_kills_the_others_for_the_next_world(
    node: Node, coordinator: Coordinator
) -> None:
    node.agent()
    node.torchrun(WARM="1")
    running(coordinator)
    old = [rank_pid(node, each) for each in range(2)]
    os.kill(old[1], signal.SIGKILL)
    failed = coordinator.wait_job(lambda job: any(each.life == Rank.EXITED for each in job.ranks))
    assert [each.exit_code for each in failed.ranks if each.life == Rank.EXITED] == [-9]
    coordinator.desire(desired(failed, 2))
    joining = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    assert [each.killed_by_agent for each in joining.ranks] == [True, False]
    wait_until(lambda: all(is_dead(each) for each in old))
    coordinator.desire(with_world(joining, 2))
    again = coordinator.wait_job(
        lambda job: [each.generation for each in job.ranks if each.life == Rank.ALIVE and each.attached] == [2, 2]
    )
    assert len({each.pid for each in again.ranks}) == 2


def test_a_stopped_rank_is_killed_by_the_agent_at_once(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(WARM="1")
    job = running(coordinator)
    stopped = rank_pid(node, 0)
    os.kill(stopped, signal.SIGSTOP)
    coordinator.desire(desired(job, 2, go=True))
    joining = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    assert joining.old_ranks_alive == 0
    assert is_dead(stopped)


def test_an_agent_that_comes_back_finds_the_forked_ranks_again(node: Node, coordinator: Coordinator) -> None:
    first = node.agent()
    node.torchrun(WARM="1")
    running(coordinator)
    first.kill()
    first.wait()
    after = len(coordinator.updates)
    node.agent()
    coordinator.wait_job(lambda job: len([each for each in job.ranks if each.attached]) == 2, after)
    os.kill(rank_pid(node, 1), signal.SIGSTOP)
    coordinator.wait_job(lambda job: any(each.process_state == "T" for each in job.ranks), after)


def test_a_forged_worker_file_makes_nobody_else_a_rank(node: Node, coordinator: Coordinator) -> None:
    """It names a process of the same user that is none of this job."""
    node.agent()
    node.torchrun(ranks=1)
    job = running(coordinator, ranks=1)
    stranger = node.start(["sleep", "60"])
    ticks = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19]
    stub = job.ranks[0].pid
    stub_ticks = Path(f"/proc/{stub}/stat").read_text().rpartition(")")[2].split()[19]
    run_dir.worker_file(node.run_dir, "job", 0).write_text(f"{stub} {stub_ticks} {stranger.pid} {ticks}\n")
    coordinator.desire(desired(job, 2, go=True))
    coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    assert is_dead(stub)
    assert stranger.poll() is None


def test_a_stub_that_nobody_tells_of_its_ranks_end_does_not_hold_up_the_next_world(
    node: Node, coordinator: Coordinator
) -> None:
    node.agent()
    node.torchrun(ranks=1, WARM="1")
    job = running(coordinator, ranks=1)
    nursery = int(Path(f"/proc/{rank_pid(node, 0)}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(nursery, signal.SIGSTOP)
    coordinator.desire(desired(job, 2, go=True))
    coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    os.kill(nursery, signal.SIGCONT)
