"""Agent, coordinator and the network between them may die: training goes on, and nothing is forgotten."""

from __future__ import annotations

import os
import signal

import grpc

from .cluster import Coordinator, Node, Phase, Rank, desired, running, wait_until, with_world


def test_a_killed_agent_comes_back_to_the_same_ranks_and_harms_none(node: Node, coordinator: Coordinator) -> None:
    agent = node.agent()
    node.torchrun(ranks=2)
    before = running(coordinator)
    agent.kill()
    agent.wait()
    node.agent()
    wait_until(lambda: len(coordinator.hellos) == 2)
    hello = coordinator.wait(lambda update: update.hello.session == coordinator.hellos[1].session)
    job = hello.jobs[0]
    assert (job.handler, job.generation) == (Phase.RUNNING, 1), "the first hello is whole"
    assert [each.pid for each in job.ranks] == [each.pid for each in before.ranks]
    assert all(each.life == Rank.ALIVE and each.attached for each in job.ranks)
    assert coordinator.hellos[0].session != coordinator.hellos[1].session


def test_a_rank_that_died_while_no_agent_ran_is_told_as_dead(node: Node, coordinator: Coordinator) -> None:
    agent = node.agent()
    node.torchrun(ranks=2)
    before = running(coordinator)
    agent.kill()
    agent.wait()
    os.kill(before.ranks[1].pid, signal.SIGKILL)
    seen = len(coordinator.updates)
    node.agent()
    job = coordinator.wait_job(lambda job: len(job.ranks) == 2, after=seen)
    dead = next(each for each in job.ranks if each.rank == 1)
    assert dead.life == Rank.EXITED
    assert not dead.HasField("exit_code")
    coordinator.desire(desired(job, 2, go=True))
    joining = coordinator.wait_job(lambda job: job.handler == Phase.JOINING and job.join_id == 2)
    coordinator.desire(with_world(joining, 2))
    coordinator.wait_job(lambda job: len([each for each in job.ranks if each.generation == 2]) == 2)


def test_an_agent_that_comes_back_reaps_the_orphans_of_a_torchrun_that_died_meanwhile(
    node: Node, coordinator: Coordinator
) -> None:
    agent = node.agent()
    torchrun = node.torchrun(ranks=2)
    running(coordinator)
    agent.kill()
    agent.wait()
    torchrun.kill()
    torchrun.wait()
    assert len(node.ranks()) == 2
    node.agent()
    wait_until(lambda: not node.ranks())


def test_a_coordinator_that_is_gone_costs_nothing_and_learns_all_when_it_is_back(
    node: Node, coordinator: Coordinator
) -> None:
    agent = node.agent()
    node.torchrun(ranks=2)
    job = running(coordinator)
    told = [event for update in coordinator.updates for event in update.events]
    assert [event.kind for event in told] == ["agent_start"], "each event goes once over a stream"
    coordinator.desire(with_world(job, 1), acked=told[-1].id)
    coordinator.stop()
    wait_until(lambda: "cannot be reached" in node.errors(agent))
    assert len(node.ranks()) == 2, "being cut off is no reason to touch a rank"
    seen = len(coordinator.updates)
    os.kill(job.ranks[0].pid, signal.SIGKILL)
    # torchrun would now wait 30 s for the other one, which ignores SIGTERM.
    wait_until(lambda: not node.ranks())
    coordinator.state.version, coordinator.state.coordinator_session = 0, "second"
    coordinator.start()
    back = coordinator.wait(lambda update: update.HasField("hello"), after=seen)
    codes = {each.rank: (each.exit_code, each.killed_by_agent) for each in back.jobs[0].ranks}
    assert codes == {0: (-9, False), 1: (-9, True)}
    kinds = [event.kind for event in back.events]
    assert {"rank_exit", "kill"} <= set(kinds)
    assert "agent_start" not in kinds, "it was acknowledged"
    ids = [event.id for event in back.events]
    assert ids == sorted(ids)


def test_a_lower_version_of_a_new_coordinator_session_counts(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    torchrun = node.torchrun(ranks=1)
    job = running(coordinator, ranks=1)
    coordinator.stop()
    coordinator.state.version, coordinator.state.coordinator_session = 0, "second"
    coordinator.start()
    coordinator.desire(desired(job, 2, go=True))
    coordinator.wait_job(lambda job: job.seen_generation == 2)
    assert torchrun.poll() is None


def test_sigterm_says_goodbye_and_leaves_training_alone(node: Node, coordinator: Coordinator) -> None:
    agent = node.agent()
    node.torchrun(ranks=2)
    running(coordinator)
    agent.terminate()
    assert agent.wait(10) == 0
    assert coordinator.wait(lambda update: update.HasField("goodbye"))
    assert len(node.ranks()) == 2


def test_a_refusal_while_ranks_live_is_a_line_and_a_slow_retry(node: Node, coordinator: Coordinator) -> None:
    agent = node.agent()
    node.torchrun(ranks=1)
    running(coordinator, ranks=1)
    coordinator.stop()
    coordinator.refuse = (grpc.StatusCode.UNAUTHENTICATED, "the join token is wrong")
    coordinator.start()
    wait_until(lambda: "the join token is wrong" in node.errors(agent))
    assert agent.poll() is None
    assert len(node.ranks()) == 1


def test_a_node_without_news_is_heard_of_every_second(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    first = coordinator.wait(lambda update: update.HasField("hello"))
    coordinator.wait(lambda update: update.seq >= first.seq + 4)
