"""Announce, go, kill, new world: with a real agent, a torchrun that polls and ranks that ignore SIGTERM."""

from __future__ import annotations

import os
import signal

from .cluster import Coordinator, Node, Phase, Rank, desired, running, with_world


def test_ranks_are_known_with_their_progress(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=2)
    job = running(coordinator)
    assert [(each.rank, each.local_rank, each.generation) for each in job.ranks] == [(0, 0, 1), (1, 1, 1)]
    assert job.shape.ranks_per_node == 2
    advanced = coordinator.wait_job(lambda job: all(each.progress.step > 20 for each in job.ranks) and bool(job.ranks))
    assert all(each.life == Rank.ALIVE and each.progress.loss == 0.5 for each in advanced.ranks)
    assert advanced.checkpoint_step == 10


def test_a_killed_rank_is_told_with_its_signal_and_the_next_generation_starts(
    node: Node, coordinator: Coordinator
) -> None:
    node.agent()
    node.torchrun(ranks=2)
    first = running(coordinator)
    os.kill(first.ranks[1].pid, signal.SIGKILL)
    failed = coordinator.wait_job(lambda job: any(each.life == Rank.EXITED for each in job.ranks))
    assert [each.exit_code for each in failed.ranks if each.life == Rank.EXITED] == [-9]
    coordinator.desire(desired(failed, 2))
    # No go is needed: this node's torchrun is stopping the other rank, which ignores SIGTERM for 30 s.
    joining = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    survivor = next(each for each in joining.ranks if each.rank == 0)
    assert (survivor.exit_code, survivor.killed_by_agent) == (-9, True)
    assert not next(each for each in joining.ranks if each.rank == 1).killed_by_agent
    coordinator.desire(with_world(joining, 2))
    again = coordinator.wait_job(lambda job: len([each for each in job.ranks if each.generation == 2]) == 2)
    assert all(each.life == Rank.ALIVE for each in again.ranks)


def test_healthy_ranks_are_killed_only_after_go_and_after_torchrun_has_taken_it(
    node: Node, coordinator: Coordinator
) -> None:
    node.agent()
    node.torchrun(ranks=2)
    job = running(coordinator)
    coordinator.desire(desired(job, 2))
    seen = coordinator.wait_job(lambda job: job.seen_generation == 2)
    assert seen.old_ranks_alive == 2
    quiet = len(coordinator.updates)
    later = coordinator.wait(lambda _: True, after=quiet + 1)
    assert [each.life for each in later.jobs[0].ranks] == [Rank.ALIVE, Rank.ALIVE]
    coordinator.desire(desired(job, 2, go=True))
    joining = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    assert [each.killed_by_agent for each in joining.ranks] == [True, True]
    assert joining.old_ranks_alive == 0
