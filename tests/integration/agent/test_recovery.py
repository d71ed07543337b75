"""Announce, go, kill, new world: with a real agent, a torchrun that polls and ranks that ignore SIGTERM."""

from __future__ import annotations

import os
import signal
import sys

from .cluster import HERE, Coordinator, Node, Phase, Place, Rank, desired, records, running, wait_until, with_world


def test_ranks_are_known_with_their_progress(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=2)
    job = running(coordinator)
    assert [(each.rank, each.local_rank, each.generation) for each in job.ranks] == [(0, 0, 1), (1, 1, 1)]
    assert job.shape.ranks_per_node == 2
    advanced, told = coordinator.wait_records(lambda ranks: all(each.step > 20 for each in ranks))
    assert all(each.life == Rank.ALIVE for each in advanced.ranks)
    assert all(each.loss == 0.5 for each in told)
    assert advanced.checkpoint_step == 10


def test_while_ranks_step_only_what_is_new_is_told_and_a_death_brings_the_whole(
    node: Node, coordinator: Coordinator
) -> None:
    node.agent()
    node.torchrun(ranks=2)
    before = running(coordinator)
    told, _ = coordinator.wait_records(lambda ranks: min(each.step for each in ranks) > 60)
    short = coordinator.wait_job(lambda job: job.as_of > 0)
    assert [each.pid for each in told.ranks] == [each.pid for each in before.ranks]
    assert len(short.beats.step) == 2
    os.kill(before.ranks[1].pid, signal.SIGKILL)
    dead = coordinator.wait_job(lambda job: any(each.life == Rank.EXITED for each in job.ranks))
    assert dead.as_of == 0
    assert dead.shape == before.shape


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


def test_an_exception_is_known_before_the_process_ends(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=2)
    running(coordinator)
    node.tell(1, "g1 raise")
    job = coordinator.wait_job(lambda job: any(each.life == Rank.FAILING for each in job.ranks))
    failing = next(each for each in job.ranks if each.life == Rank.FAILING)
    assert (failing.rank, failing.error_type, failing.error_message) == (1, "ValueError", "it broke")
    os.kill(failing.pid, 0)  # it still finalises
    coordinator.desire(desired(job, 2))
    ended = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    assert next(each for each in ended.ranks if each.rank == 1).error_message == "it broke"


def test_a_stopped_rank_is_told_at_once_and_goes_with_its_generation(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=2)
    job = running(coordinator)
    os.kill(job.ranks[0].pid, signal.SIGSTOP)
    stopped = coordinator.wait_job(lambda job: any(each.process_state == "T" for each in job.ranks))
    assert stopped.ranks[0].life == Rank.ALIVE
    later = coordinator.wait_job(lambda job: any(each.process_state_s > 1 for each in job.ranks))
    assert records(later)[0].quiet_s > 1
    assert later.ranks[1].process_state != "T"
    coordinator.desire(desired(job, 2, go=True))
    ended = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    assert all(each.killed_by_agent for each in ended.ranks)


def test_a_rank_behind_a_wrapper_script_is_seen_to_be_stopped(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=1, WRAPPED="1")
    job = running(coordinator, ranks=1)
    inside = int((node.folder / "pid-1-0").read_text())
    assert inside != job.ranks[0].pid
    os.kill(inside, signal.SIGSTOP)
    coordinator.wait_job(lambda job: any(each.process_state == "T" for each in job.ranks))
    coordinator.desire(desired(job, 2, go=True))
    coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    wait_until(lambda: not node.ranks())


def test_what_a_dead_wrapper_leaves_behind_goes_with_its_generation(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=1, WRAPPED="1")
    job = running(coordinator, ranks=1)
    inside = int((node.folder / "pid-1-0").read_text())
    os.kill(job.ranks[0].pid, signal.SIGKILL)
    dead = coordinator.wait_job(lambda job: any(each.life == Rank.EXITED for each in job.ranks))
    assert node.ranks() == [inside]
    coordinator.desire(desired(dead, 2))
    wait_until(lambda: not node.ranks())
    coordinator.wait_job(lambda job: job.join_id == 2 and job.old_ranks_alive == 0)


def test_an_inquiry_is_answered_with_fresh_observations_of_everything(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=1)
    job = running(coordinator, ranks=1)
    coordinator.wait_job(lambda job: job.as_of > 0)
    asked = len(coordinator.updates)
    coordinator.desire(desired(job, 1, inquiry=7))
    answer = coordinator.wait(lambda update: update.answered_inquiry == 7, after=asked)
    assert records(answer.jobs[0])[0].quiet_s < 0.5
    assert answer.jobs[0].as_of == 0


def test_a_rank_without_a_page_is_watched_all_the_same(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(ranks=1, NO_PAGE="1")
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    coordinator.desire(with_world(job, 1))
    alive = coordinator.wait_job(lambda job: len(job.ranks) == 1)
    assert not alive.ranks[0].attached
    node.tell(0, "g1 7")
    ended = coordinator.wait_job(lambda job: any(each.life == Rank.EXITED for each in job.ranks))
    assert ended.ranks[0].exit_code == 7


def test_the_end_of_a_job_is_told_with_its_exit_codes(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    torchrun = node.torchrun(ranks=2)
    running(coordinator)
    node.tell("all", "0")
    ended = coordinator.wait_job(lambda job: job.HasField("torchrun_exit_code"))
    assert torchrun.wait(20) == 0
    assert (ended.handler, ended.torchrun_exit_code) == (Phase.CLOSED, 0)
    assert [each.exit_code for each in ended.ranks] == [0, 0]


def test_a_parked_torchrun_waits_and_a_dismissed_one_leaves_with_its_code(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    torchrun = node.torchrun(ranks=1)
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    coordinator.desire(desired(job, 1, place=Place.PARKED, reason="spare"))
    coordinator.wait_job(lambda job: job.seen_generation == 1)
    assert torchrun.poll() is None
    coordinator.desire(desired(job, 1, place=Place.DISMISSED, exit_code=93))
    assert torchrun.wait(20) == 93


def test_a_dismissal_of_an_earlier_torchrun_is_not_for_the_next_one(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    first = node.torchrun(ranks=1)
    job = coordinator.wait_job(lambda job: job.handler == Phase.JOINING)
    coordinator.desire(desired(job, 1, place=Place.DISMISSED, exit_code=3))
    assert first.wait(20) == 3
    second = node.torchrun(ranks=1)
    again = coordinator.wait_job(lambda job: job.torchrun_pid == second.pid and job.handler == Phase.JOINING)
    coordinator.desire(with_world(again, 2))
    coordinator.wait_job(lambda job: any(each.generation == 2 and each.attached for each in job.ranks))
    assert second.poll() is None


def test_ranks_of_a_killed_torchrun_do_not_outlive_it(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    torchrun = node.torchrun(ranks=2)
    running(coordinator)
    coordinator.stop()
    torchrun.kill()
    torchrun.wait()
    wait_until(lambda: not node.ranks())


def test_beside_another_rendezvous_ranks_are_known_by_their_pages_and_only_named_ones_are_killed(
    node: Node, coordinator: Coordinator
) -> None:
    node.agent()
    coordinator.wait(lambda update: update.HasField("hello"))
    environ = {"TORCHELASTIC_RUN_ID": "other", "FOLDER": str(node.folder)}
    ranks = [
        node.start([sys.executable, str(HERE / "fake_rank.py")], **environ, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in range(2)
    ]
    job = coordinator.wait_job(lambda job: len(job.ranks) == 2)
    assert (job.run_id, job.handler, job.generation) == ("other", Phase.ABSENT, 0)
    message = desired(job, 5, go=True)
    message.stop_pids.append(ranks[1].pid)
    coordinator.desire(message)
    assert ranks[1].wait(20) == -signal.SIGKILL
    coordinator.wait_job(lambda job: any(each.life == Rank.EXITED and each.killed_by_agent for each in job.ranks))
    assert ranks[0].poll() is None
