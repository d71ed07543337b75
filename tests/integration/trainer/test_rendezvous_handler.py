"""The rendezvous handler inside a real torchrun, against an agent that the test plays itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzen_protos.v1 import local_pb2

from .played import RANK, Node, Phase, Place, Update, rank_report, two_nodes, world

USES_STORE = (
    """
import os, torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
dist.destroy_process_group()  # torch aborts a rank now and then that ends without
"""
    + RANK
)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    yield from two_nodes(tmp_path)


def test_world_order_is_the_coordinators_and_a_forced_restart_spends_no_torchrun_restart(
    nodes: list[Node], tmp_path: Path
) -> None:
    a, b = nodes
    for each in nodes:
        each.start("--max-restarts=0")
    world(1, [b, a])
    assert rank_report(tmp_path, 1, 0)[1:] == ["0", "2", "b"]
    assert rank_report(tmp_path, 1, 1)[1:] == ["1", "2", "a"]
    for each in nodes:
        each.agent.orders.put(local_pb2.HandlerOrder(generation=2, place=Place.MEMBER))
        each.agent.wait(lambda update: update.seen_generation == 2)
        assert each.agent.last.taken_generation == 0, "announced, but not yet told to torchrun"
    for each in nodes:
        each.agent.orders.put(local_pb2.HandlerOrder(generation=2, go=True, place=Place.MEMBER))
        each.agent.wait(lambda update: update.taken_generation == 2)
    world(2, [a, b])
    assert rank_report(tmp_path, 2, 0)[1:] == ["0", "2", "a"]
    (tmp_path / "finish").touch()
    assert [each.end()[0] for each in nodes] == [0, 0]


def test_the_store_of_any_member_serves(nodes: list[Node], tmp_path: Path) -> None:
    for each in nodes:
        each.start(script=USES_STORE)
    world(1, nodes, host=1)
    assert rank_report(tmp_path, 1, 0)[1:] == ["0", "2", "a"]
    (tmp_path / "finish").touch()
    assert [each.end()[0] for each in nodes] == [0, 0], "the ranks have met in the store"


def test_death_and_return_of_the_agent_leave_torchrun_alone(nodes: list[Node], tmp_path: Path) -> None:
    a = nodes[0]
    a.start(nodes="1")
    world(1, [a])
    before = rank_report(tmp_path, 1, 0)
    a.agent.die()
    a.agent.socket.unlink(missing_ok=True)
    a.agent.last = Update()
    a.agent.start()
    again = a.agent.wait(lambda update: update.generation == 1)
    assert again.phase == Phase.RUNNING
    assert again.torchrun_pid == a.torchrun.pid
    os.kill(int(before[0]), 0)
    (tmp_path / "finish").touch()
    assert a.end()[0] == 0


@pytest.mark.parametrize("exit_code", [0, 93])
def test_a_parked_node_leaves_with_the_exit_code_it_is_dismissed_with(nodes: list[Node], exit_code: int) -> None:
    spare = nodes[0]
    spare.start()
    spare.agent.wait(lambda update: update.phase == Phase.JOINING)
    spare.agent.orders.put(local_pb2.HandlerOrder(place=Place.PARKED, reason="spare: the world is full"))
    spare.agent.orders.put(
        local_pb2.HandlerOrder(generation=1, place=Place.DISMISSED, exit_code=exit_code, reason="the job is over")
    )
    code, errors = spare.end()
    assert code == exit_code
    assert "[ryzen] spare: the world is full" in errors
    assert "[ryzen] the job is over" in errors
    assert "Traceback" not in errors


def test_a_torchrun_in_its_exit_barrier_is_released_when_the_job_ends_without_the_other(
    nodes: list[Node], tmp_path: Path
) -> None:
    a, b = nodes
    fails_on_b = RANK + "\nsys.exit(int(os.environ['RANK']))\n"
    for each in nodes:
        each.start(script=fails_on_b)
    world(1, [a, b])
    rank_report(tmp_path, 1, 0)
    rank_report(tmp_path, 1, 1)
    (tmp_path / "finish").touch()
    assert b.end()[0] == 1
    for each in nodes:
        each.agent.orders.put(local_pb2.HandlerOrder(generation=1, place=Place.DISMISSED, exit_code=1))
    assert a.end()[0] == 0, "its own ranks were done"


def test_without_an_agent_torchrun_ends_with_one_line_that_says_what_to_start(tmp_path: Path) -> None:
    node = Node(tmp_path, "a")
    node.start("--rdzv-conf=agent_wait=0.5")
    code, errors = node.end()
    assert code == 2
    lines = [line for line in errors.splitlines() if "[ryzen]" in line]
    assert len(lines) == 1
    assert "no ryzen-agent answers at" in lines[0]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("run_id", "said"),
    [("none", 'rendezvous id "none" cannot tell two jobs'), ("a/b", "--rdzv-id 'a/b' is not allowed")],
)
def test_a_rendezvous_id_that_cannot_work_is_refused_by_name(tmp_path: Path, run_id: str, said: str) -> None:
    node = Node(tmp_path, "a")
    node.start(run_id=run_id)
    code, errors = node.end()
    assert code == 2
    assert said in errors
    assert "Traceback" not in errors


def test_too_few_torchrun_restarts_are_said_in_one_line_with_what_they_cost(nodes: list[Node]) -> None:
    node = nodes[0]
    node.start("--max-restarts=3")
    assert node.agent.wait(lambda update: update.phase == Phase.JOINING).shape.max_restarts == 3
    node.agent.orders.put(local_pb2.HandlerOrder(generation=1, place=Place.DISMISSED))
    _, errors = node.end()
    assert "after 3 crashes this node's torchrun ends the job; pass --max-restarts=1000" in errors


def test_an_agent_of_another_version_is_refused_in_its_own_words(nodes: list[Node]) -> None:
    node = nodes[0]
    node.agent.refusal = "the agent speaks protocol 9: upgrade ryzen here"
    node.start("--rdzv-conf=agent_wait=3")
    code, errors = node.end()
    assert code == 2
    assert "the agent speaks protocol 9" in errors
    assert "Traceback" not in errors
