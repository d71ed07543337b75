"""The rendezvous handler inside a real torchrun, against an agent that the test plays itself."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from ryzen_protos import PROTOCOL
from ryzen_protos.v1 import local_pb2, local_pb2_grpc, node_pb2

PATIENCE_S = 60.0
Update = local_pb2.HandlerUpdate
Phase = node_pb2.ObservedJob
Place = node_pb2.DesiredJob

RANK = """
import os, signal, sys, time
with open(os.environ["OUT"] + "/" + os.environ["RYZEN_GENERATION"] + "-" + os.environ["RANK"], "w") as out:
    out.write(" ".join([str(os.getpid())] + [os.environ[key] for key in ("GROUP_RANK", "WORLD_SIZE", "RYZEN_NODE")]))
while not os.path.exists(os.environ["OUT"] + "/finish"):
    time.sleep(0.02)
"""


USES_STORE = (
    """
import os, torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
dist.destroy_process_group()  # torch aborts a rank now and then that ends without
"""
    + RANK
)


class PlayedAgent(local_pb2_grpc.LocalAgentServicer):
    """One node's agent: keeps the newest update and says what the test wants said."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(mode=0o700)
        self.socket = run_dir / "agent.sock"
        self.updates: queue.Queue[Update] = queue.Queue()
        self.orders: queue.Queue[local_pb2.HandlerOrder | None] = queue.Queue()
        self.last = Update()
        self.server: grpc.Server | None = None
        self.refusal = ""

    def start(self) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        local_pb2_grpc.add_LocalAgentServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{self.socket}")
        self.server.start()

    def die(self) -> None:
        assert self.server is not None
        self.orders.put(None)
        self.server.stop(grace=None).wait()

    def Rendezvous(self, requests: Iterator[Update], context: grpc.ServicerContext) -> Iterator[local_pb2.HandlerOrder]:  # noqa: N802
        if self.refusal:
            assert next(requests).protocol == PROTOCOL
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        thread_pool = futures.ThreadPoolExecutor(1)
        thread_pool.submit(self._receive, requests)
        yield local_pb2.HandlerOrder(address="127.0.0.1", node="node-x")
        while context.is_active() and (order := self.orders.get()) is not None:
            yield order

    def _receive(self, requests: Iterator[Update]) -> None:
        try:
            for update in requests:
                self.updates.put(update)
        except grpc.RpcError:
            return

    def wait(self, what: Callable[[Update], bool]) -> Update:
        deadline = time.monotonic() + PATIENCE_S
        while not what(self.last):
            self.last = self.updates.get(timeout=max(0.01, deadline - time.monotonic()))
        return self.last


class Node:
    """A torchrun with its played agent."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.run_dir = folder / name
        self.agent = PlayedAgent(self.run_dir)
        self.torchrun: subprocess.Popen[str] | None = None

    def start(self, *extra: str, run_id: str = "job", nodes: str = "2", script: str = RANK) -> None:
        path = self.folder / "rank.py"
        path.write_text(script)
        command = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=ryzen", f"--rdzv-id={run_id}"]
        command += [f"--nnodes={nodes}", "--nproc-per-node=1", "--monitor-interval=0.05", *extra, str(path)]
        environment = {**os.environ, "RYZEN_RUN_DIR": str(self.run_dir), "OUT": str(self.folder)}
        self.torchrun = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def end(self) -> tuple[int, str]:
        assert self.torchrun is not None
        _, errors = self.torchrun.communicate(timeout=PATIENCE_S)
        return self.torchrun.returncode, errors


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    made = [Node(tmp_path, "a"), Node(tmp_path, "b")]
    for each in made:
        each.agent.start()
    yield made
    (tmp_path / "finish").touch()
    for each in made:
        each.agent.die()
        if each.torchrun is not None and each.torchrun.poll() is None:
            os.killpg(each.torchrun.pid, signal.SIGTERM)
            each.torchrun.communicate()


def world(generation: int, order: list[Node], host: int = 0) -> None:
    """Wait for the join of each node, then give all of them this world; `host`: whose store it uses."""
    joins = [each.agent.wait(lambda update: update.phase == Phase.JOINING and update.store.port > 0) for each in order]
    for rank, each in enumerate(order):
        each.agent.orders.put(
            local_pb2.HandlerOrder(
                generation=generation,
                place=Place.MEMBER,
                node=each.name,
                world=node_pb2.World(
                    generation=generation,
                    size=len(order),
                    group_rank=rank,
                    store=joins[host].store,
                    uniform=True,
                    join_id=joins[rank].join_id,
                ),
            )
        )


def rank_report(folder: Path, generation: int, rank: int) -> list[str]:
    """pid, group rank, world size and node of a rank, once it has written them."""
    path = folder / f"{generation}-{rank}"
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"no rank {rank} of generation {generation}"
        time.sleep(0.02)
    return path.read_text().split()


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
